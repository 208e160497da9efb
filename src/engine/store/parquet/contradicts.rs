//! Where rows contradict what is known of their file.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::encode::time_range;
use super::statistics::survey;
use crate::model::{Column, ColumnStatistics, Scalar, TimeRange};

/// What is wrong if the rows don't have exactly this range of time.
///
/// # Errors
/// If there is no time.
pub fn times(batch: &RecordBatch, expected: TimeRange) -> Result<Option<String>, ArrowError> {
    let found = time_range(batch).ok_or_else(|| ArrowError::SchemaError("rows without a time".to_owned()))?;
    let wrong =
        || format!("its times are {} to {} and should be {} to {}", found.min, found.max, expected.min, expected.max);
    Ok((found != expected).then(wrong))
}

/// What is wrong if a value lies outside the file's bounds of its column; and the number of rows without a value.
///
/// # Errors
/// If the column is missing or not of its type.
pub fn column(
    batch: &RecordBatch,
    column: Column,
    statistics: &ColumnStatistics,
) -> Result<(Option<String>, u64), ArrowError> {
    let name = column.name.clone();
    let missing = || ArrowError::SchemaError(format!("rows have no column \"{name}\""));
    let array = batch.column_by_name(name.as_str()).ok_or_else(missing)?;
    let survey = survey(column, std::iter::once(array))?;
    let found = survey.statistics;
    let is_outside = match (&statistics.bounds, &found.bounds) {
        (Some((min, max)), Some((found_min, found_max))) => is_less(found_min, min) || is_less(max, found_max),
        // NaN and long texts have no place between bounds: with one of them the file would have none.
        (Some(_), None) => survey.values > 0,
        (None, _) => false,
    };
    let wrong = is_outside.then(|| format!("column \"{name}\" has a value outside the file's bounds"));
    Ok((wrong, found.nulls))
}

fn is_less(a: &Scalar, b: &Scalar) -> bool {
    match (a, b) {
        (Scalar::Float(a), Scalar::Float(b)) => a.total_cmp(b).is_lt(),
        (Scalar::Integer(a), Scalar::Integer(b)) => a < b,
        (Scalar::Unsigned(a), Scalar::Unsigned(b)) => a < b,
        (Scalar::String(a), Scalar::String(b)) => a < b,
        (Scalar::Boolean(a), Scalar::Boolean(b)) => !a & b,
        // One column has values of one type.
        _ => true,
    }
}
