//! `generate_series` and `range` as tables: bounded in rows.
//!
//! They stream, so their rows cost no memory; but what is joined or grouped over a billion rows does, and their
//! scalar twins are bounded too. One number for both is easier to remember.

use std::sync::Arc;

use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Expr;

use super::bounded::{ELEMENTS_MAX, series_elements, too_large};

/// The table functions that are bounded.
pub(super) const TABLE_FUNCTIONS: &[&str] = &["generate_series", "range"];

/// A series as a table, refused when it is too long.
#[derive(Debug)]
pub(super) struct BoundedSeries {
    name: String,
    inner: Arc<dyn TableFunctionImpl>,
}

impl BoundedSeries {
    pub(super) fn new(inner: &TableFunction) -> Self {
        Self { name: inner.name().to_owned(), inner: Arc::clone(inner.function()) }
    }
}

impl TableFunctionImpl for BoundedSeries {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let values: Option<Vec<i128>> = args.exprs().iter().map(value).collect();
        let rows = match values.as_deref() {
            Some([stop]) => series_elements(0, *stop, 1),
            Some([start, stop]) => series_elements(*start, *stop, 1),
            Some([start, stop, step]) => series_elements(*start, *stop, *step),
            // What is no constant, or too much of it, the function refuses itself; a null makes no rows.
            _ => 0,
        };
        if rows > ELEMENTS_MAX {
            return Err(too_large(&self.name, rows, "rows", ELEMENTS_MAX));
        }
        self.inner.call_with_args(args)
    }
}

/// A number, or a date, an instant or an interval in nanoseconds.
fn value(expr: &Expr) -> Option<i128> {
    const DAY: i128 = 86_400_000_000_000;
    let Expr::Literal(value, _) = expr else { return None };
    Some(match value {
        ScalarValue::Int64(Some(number)) => i128::from(*number),
        ScalarValue::Date32(Some(days)) => i128::from(*days) * DAY,
        ScalarValue::TimestampNanosecond(Some(nanos), _) => i128::from(*nanos),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            (i128::from(interval.months) * 28 + i128::from(interval.days)) * DAY + i128::from(interval.nanoseconds)
        }
        _ => return None,
    })
}
