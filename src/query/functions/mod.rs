//! The functions of a session: DataFusion's own, those that can blow up behind a bound, and those of InfluxDB.

mod bins;
mod bounded;
mod concatenation;
mod gap_fill;
mod present;
mod selectors;
mod series;
mod to_timestamp;
mod wall_clock;

use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;

pub(super) use gap_fill::{Planner, with_gap_filling};
pub(super) use present::{any_present, present_columns};

/// Puts bounds around the functions of `session` whose results may be far larger than their arguments, and adds those of InfluxDB.
///
/// # Errors
/// If DataFusion has no function of a name that is listed here; a defect.
pub(super) fn register(session: &mut SessionState, value_bytes_max: usize) -> DataFusionResult<()> {
    for (name, growth) in bounded::GROWING {
        let inner = session.udf(name)?;
        session.register_udf(Arc::new(bounded::bounded(inner, *growth, value_bytes_max)))?;
    }
    for name in series::TABLE_FUNCTIONS {
        if let Some(inner) = session.table_functions().get(*name).cloned() {
            session.register_udtf(name, Arc::new(series::BoundedSeries::new(&inner)));
        }
    }
    let to_timestamp = session.udf(to_timestamp::NAME)?;
    session.register_udf(Arc::new(to_timestamp::of_nanoseconds(to_timestamp)))?;
    for function in [wall_clock::tz(), wall_clock::date_bin_wallclock()].into_iter().chain(gap_fill::functions()) {
        session.register_udf(Arc::new(function))?;
    }
    for selector in selectors::all() {
        session.register_udaf(Arc::new(selector))?;
    }
    session.register_expr_planner(Arc::new(concatenation::ConcatenationPlanner::new(value_bytes_max)))
}
