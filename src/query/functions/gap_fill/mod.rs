//! Rows for bins of time in which there are none: `date_bin_gapfill`, `locf`, `interpolate`.
//!
//! ```sql
//! SELECT date_bin_gapfill(INTERVAL '1 hour', time) AS hour, host, avg(usage), locf(max(usage)) FROM cpu
//! WHERE time >= now() - INTERVAL '1 day' AND time < now() GROUP BY hour, host
//! ```
//!
//! None of these functions is ever called. [`rule`] makes of an aggregation by `date_bin_gapfill` one by `date_bin` and a node
//! above it ([`node`]) that knows which bins there should be; [`range`] finds out from when to when, from what the rows below are
//! filtered by; `locf(x)` and `interpolate(x)` become columns of that node. [`planner`] makes the operator of it, [`exec`], which
//! takes rows sorted by series and time, one series after the other, and has [`fill`] put rows between them.
//!
//! Always true:
//! - a series, that is a combination of the other columns of GROUP BY, is filled if it has a row in the range; one without is not
//!   made up;
//! - every row of the aggregation comes out, with its own values; a row that is made has the values that the aggregates have over no
//!   rows: nulls, and 0 of `count`;
//! - rows come out sorted by series, then time.

mod exec;
mod fill;
mod node;
mod planner;
mod range;
mod rule;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions::datetime;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::wall_clock;

/// The name of the function that bins and fills.
const DATE_BIN_GAPFILL: &str = "date_bin_gapfill";

/// The same by the wall clock.
const DATE_BIN_WALLCLOCK_GAPFILL: &str = "date_bin_wallclock_gapfill";

/// The name of the function that carries the last value forward.
const LOCF: &str = "locf";

/// The name of the function that draws lines between values.
const INTERPOLATE: &str = "interpolate";

/// The most rows that one series is filled to: each takes 8 bytes here, and time there.
const BINS_MAX: usize = 10_000_000;

pub(in crate::query) use planner::Planner;

/// Adds what turns these functions into plans.
pub(in crate::query) fn with_gap_filling(session: SessionStateBuilder) -> SessionStateBuilder {
    session.with_analyzer_rule(Arc::new(rule::FillGaps)).with_query_planner(Arc::new(Planner))
}

/// The functions, by name.
pub(super) fn functions() -> [ScalarUDF; 4] {
    let any = || Signature::any(1, Volatility::Immutable);
    let time = 1;
    [
        (DATE_BIN_GAPFILL, datetime::date_bin().signature().clone(), time),
        (DATE_BIN_WALLCLOCK_GAPFILL, wall_clock::bin_signature(), time),
        (LOCF, any(), 0),
        (INTERPOLATE, any(), 0),
    ]
    .map(|(name, signature, typed_by)| ScalarUDF::new_from_impl(Replaced { name, signature, typed_by }))
}

/// Why a function stands where it means nothing.
fn misplaced<T>(name: &str) -> DataFusionResult<T> {
    match name {
        LOCF | INTERPOLATE => plan_err!("{name} may only be used in the SELECT list of a gap-filling query"),
        _ => plan_err!("{name} may only be used as a GROUP BY expression"),
    }
}

/// A function that is replaced before a plan runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Replaced {
    name: &'static str,
    signature: Signature,
    /// Which argument has the type of the answer.
    typed_by: usize,
}

impl ScalarUDFImpl for Replaced {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(arguments[self.typed_by].clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        misplaced(self.name)
    }
}
