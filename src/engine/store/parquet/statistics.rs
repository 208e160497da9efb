//! What one column of a file holds, over all its rows: exact, because queries are answered from it.
//!
//! Floats are ordered as Arrow orders them: `-0.0` before `0.0`. A NaN has no place between bounds, so
//! a column with one has none. Long texts have none either: the catalog keeps bounds in memory.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, StringArray};
use arrow::compute::{max, max_boolean, max_string, min, min_boolean, min_string};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use crate::model::{Column, ColumnKind, ColumnStatistics, FieldType, Scalar};

/// Longest text that is kept as a bound, in bytes.
const BOUND_BYTES_MAX: usize = 64;

/// What a pass over a column found.
#[derive(Debug)]
pub(super) struct Survey {
    /// For the catalog.
    pub(super) statistics: ColumnStatistics,
    /// Rows with a value.
    pub(super) values: u64,
    /// Whether a value is NaN.
    pub(super) nan: bool,
}

/// Surveys a column that lies in several arrays.
///
/// # Errors
/// If an array is not of the column's type.
pub(super) fn survey<'a>(column: Column, arrays: impl Iterator<Item = &'a ArrayRef>) -> Result<Survey, ArrowError> {
    let (mut nulls, mut rows) = (0, 0);
    let mut bounds = None;
    for array in arrays {
        rows += array.len() as u64;
        nulls += array.logical_null_count() as u64;
        bounds = union(bounds, array_bounds(column.kind, array)?);
    }
    let nan = bounds.as_ref().is_some_and(|(min, max)| is_nan(min) || is_nan(max));
    let keep = bounds.as_ref().is_some_and(|(min, max)| is_short(min) && is_short(max));
    let bounds = bounds.filter(|_| keep && !nan).map(|(min, max)| (min.into_scalar(), max.into_scalar()));
    Ok(Survey { statistics: ColumnStatistics { name: column.name, nulls, bounds }, values: rows - nulls, nan })
}

/// A bound that has not left the array: texts are copied once at the end.
#[derive(Debug, Clone, Copy)]
enum Bound<'a> {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(&'a str),
}

impl Bound<'_> {
    fn into_scalar(self) -> Scalar {
        match self {
            Self::Float(value) => Scalar::Float(value),
            Self::Integer(value) => Scalar::Integer(value),
            Self::Unsigned(value) => Scalar::Unsigned(value),
            Self::Boolean(value) => Scalar::Boolean(value),
            Self::Text(value) => Scalar::String(value.to_owned()),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            // One column has values of one type.
            _ => Ordering::Equal,
        }
    }
}

type Bounds<'a> = Option<(Bound<'a>, Bound<'a>)>;

fn union<'a>(a: Bounds<'a>, b: Bounds<'a>) -> Bounds<'a> {
    let (Some((a_min, a_max)), Some((b_min, b_max))) = (a, b) else { return a.or(b) };
    let min = if b_min.order(&a_min).is_lt() { b_min } else { a_min };
    let max = if b_max.order(&a_max).is_gt() { b_max } else { a_max };
    Some((min, max))
}

fn is_nan(bound: &Bound<'_>) -> bool {
    // In the total order NaNs are the outermost values, so that one shows as a bound.
    matches!(bound, Bound::Float(value) if value.is_nan())
}

fn is_short(bound: &Bound<'_>) -> bool {
    !matches!(bound, Bound::Text(text) if text.len() > BOUND_BYTES_MAX)
}

fn array_bounds(kind: ColumnKind, array: &ArrayRef) -> Result<Bounds<'_>, ArrowError> {
    let bounds = match kind {
        ColumnKind::Tag => typed(array, array.as_dictionary_opt::<Int32Type>())?.map_bounds()?,
        ColumnKind::Field(FieldType::Float) => {
            let array = typed(array, array.as_primitive_opt::<Float64Type>())?;
            pair(min(array), max(array), Bound::Float)
        }
        ColumnKind::Field(FieldType::Integer) => {
            let array = typed(array, array.as_primitive_opt::<Int64Type>())?;
            pair(min(array), max(array), Bound::Integer)
        }
        ColumnKind::Field(FieldType::Unsigned) => {
            let array = typed(array, array.as_primitive_opt::<UInt64Type>())?;
            pair(min(array), max(array), Bound::Unsigned)
        }
        ColumnKind::Field(FieldType::Boolean) => {
            let array: &BooleanArray = typed(array, array.as_boolean_opt())?;
            pair(min_boolean(array), max_boolean(array), Bound::Boolean)
        }
        ColumnKind::Field(FieldType::String) => {
            let array: &StringArray = typed(array, array.as_string_opt::<i32>())?;
            pair(min_string(array), max_string(array), Bound::Text)
        }
    };
    Ok(bounds)
}

fn pair<'a, T>(min: Option<T>, max: Option<T>, bound: impl Fn(T) -> Bound<'a>) -> Bounds<'a> {
    Some((bound(min?), bound(max?)))
}

fn typed<'a, T>(array: &ArrayRef, downcast: Option<&'a T>) -> Result<&'a T, ArrowError> {
    downcast.ok_or_else(|| ArrowError::SchemaError(format!("a column has the unexpected type {}", array.data_type())))
}

trait TagBounds {
    fn map_bounds(&self) -> Result<Bounds<'_>, ArrowError>;
}

impl TagBounds for DictionaryArray<Int32Type> {
    /// The bounds of the values that rows use; a dictionary may hold others.
    fn map_bounds(&self) -> Result<Bounds<'_>, ArrowError> {
        let texts: &StringArray = typed(self.values(), self.values().as_string_opt::<i32>())?;
        let mut used = vec![false; texts.len()];
        // Rows are sorted by tags: most keys are that of the row before.
        let mut before = None;
        for key in self.keys_iter().filter(|key| key.is_some()) {
            if key != before {
                before = key;
                key.into_iter().for_each(|key| used[key] = true);
            }
        }
        let texts = texts.iter().zip(used).filter_map(|(text, used)| text.filter(|_| used));
        Ok(texts.map(|text| Some((Bound::Text(text), Bound::Text(text)))).fold(None, union))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, UInt64Array};

    use super::*;
    use crate::model::ColumnName;

    fn check(kind: ColumnKind, arrays: &[ArrayRef], nulls: u64, bounds: Option<&(Scalar, Scalar)>) -> Survey {
        let column = Column { name: ColumnName::new("c").unwrap(), kind };
        let survey = survey(column, arrays.iter()).unwrap();
        assert_eq!(survey.statistics.nulls, nulls);
        assert_eq!(survey.statistics.bounds.as_ref(), bounds);
        survey
    }

    const FLOAT: ColumnKind = ColumnKind::Field(FieldType::Float);

    #[test]
    fn bounds_span_all_arrays_and_skip_nulls() {
        let arrays: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![None, Some(3), Some(i64::MIN)])),
            Arc::new(Int64Array::from(vec![None::<i64>])),
            Arc::new(Int64Array::from(vec![i64::MAX])),
        ];
        let kind = ColumnKind::Field(FieldType::Integer);
        let survey = check(kind, &arrays, 2, Some(&(Scalar::Integer(i64::MIN), Scalar::Integer(i64::MAX))));
        assert_eq!(survey.values, 3);
        check(kind, &arrays[1..2], 1, None);

        let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
        let bounds = (Scalar::Unsigned(1), Scalar::Unsigned(u64::MAX));
        check(ColumnKind::Field(FieldType::Unsigned), &[unsigned], 0, Some(&bounds));

        let boolean: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let bounds = (Scalar::Boolean(true), Scalar::Boolean(true));
        check(ColumnKind::Field(FieldType::Boolean), &[boolean], 1, Some(&bounds));
    }

    #[test]
    fn a_nan_leaves_no_bounds_and_minus_zero_comes_before_zero() {
        for nan in [f64::NAN, -f64::NAN] {
            let array: ArrayRef = Arc::new(Float64Array::from(vec![1.0, nan, 2.0]));
            assert!(check(FLOAT, &[array], 0, None).nan);
        }
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
        let survey = check(FLOAT, &[zeros], 0, Some(&(Scalar::Float(-0.0), Scalar::Float(0.0))));
        let Some((Scalar::Float(min), Scalar::Float(max))) = survey.statistics.bounds else { panic!("no bounds") };
        assert!(min.is_sign_negative() && max.is_sign_positive() && !survey.nan);
    }

    #[test]
    fn long_texts_are_no_bounds() {
        let string = ColumnKind::Field(FieldType::String);
        let short: ArrayRef = Arc::new(StringArray::from(vec!["b".repeat(64), "a".to_owned()]));
        let bounds = (Scalar::String("a".to_owned()), Scalar::String("b".repeat(64)));
        check(string, &[short], 0, Some(&bounds));
        let long: ArrayRef = Arc::new(StringArray::from(vec!["b".repeat(65), "a".to_owned()]));
        check(string, &[long], 0, None);
    }

    #[test]
    fn values_of_a_dictionary_that_no_row_uses_do_not_count() {
        let all: DictionaryArray<Int32Type> = [Some("m"), None, Some("z"), Some("a")].into_iter().collect();
        let array: ArrayRef = Arc::new(all.slice(0, 2));
        check(ColumnKind::Tag, &[array], 1, Some(&(Scalar::String("m".to_owned()), Scalar::String("m".to_owned()))));
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let column = Column { name: ColumnName::new("c").unwrap(), kind: FLOAT };
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(survey(column, [&array].into_iter()).is_err());
    }
}
