//! The functions of a session: DataFusion's own, those that can blow up behind a bound.

mod bounded;
mod concatenation;
mod series;

use std::sync::Arc;

use datafusion::error::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;

/// Puts bounds around the functions of `session` whose results may be far larger than their arguments.
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
    session.register_expr_planner(Arc::new(concatenation::ConcatenationPlanner::new(value_bytes_max)))
}
