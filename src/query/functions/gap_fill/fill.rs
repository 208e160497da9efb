//! Puts rows between rows: over whole series that are sorted, column by column.
//!
//! First is settled for a stretch of the answer which row of the input each of its rows is, if any, and which ones are before and
//! after it; then each column is made at once from that. Knows nothing of plans.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions, StructArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, UInt64Type};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result as DataFusionResult;

use super::node::Fill;

/// No row.
const NONE: u32 = u32::MAX;

/// A column of the answer.
#[derive(Debug, Clone)]
pub(in crate::query) enum Output {
    /// The time.
    Time,
    /// A column of the input that all rows of a series have in common.
    Series(usize),
    /// A column of the input, filled.
    Filled(usize, Fill),
}

/// How many nanoseconds the unit of a type of times has.
///
/// # Errors
/// If it is no type of times.
pub(super) fn unit_nanos(data_type: &DataType) -> DataFusionResult<i64> {
    Ok(match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        other => return internal_err!("gaps are filled in columns of times, not of {other}"),
    })
}

/// Some series, at work.
#[derive(Debug)]
pub(in crate::query) struct Filling {
    schema: SchemaRef,
    times: Int64Array,
    /// The rows of each series.
    series: Vec<Range<usize>>,
    /// When there should be rows, sorted, in the unit of the time.
    bins: Arc<[i64]>,
    columns: Vec<Column>,
    /// The series that is next told, and where it is in its rows and the bins.
    current: usize,
    row: usize,
    bin: usize,
}

#[derive(Debug)]
enum Column {
    Time,
    Series(ArrayRef),
    /// With what stands where there is no row: one value, or a null.
    Value {
        values: ArrayRef,
        absent: Option<ArrayRef>,
    },
    Previous {
        values: ArrayRef,
        neighbours: Neighbours,
    },
    Linear {
        values: ArrayRef,
        neighbours: Neighbours,
    },
}

/// For each row of a column the nearest one of its series that has a value, itself included.
#[derive(Debug)]
struct Neighbours {
    before: Vec<u32>,
    after: Vec<u32>,
}

/// Where the rows of a stretch of the answer come from.
#[derive(Debug, Default)]
struct Places {
    times: Vec<i64>,
    /// Rows without a time, which come last in their series.
    timeless: Vec<usize>,
    /// The row of the input that it is.
    row: Vec<u32>,
    /// The last row of the input up to here, and the first from here on.
    before: Vec<u32>,
    after: Vec<u32>,
    /// A row of the series.
    member: Vec<u32>,
}

impl Places {
    fn push(&mut self, time: i64, row: Option<usize>, before: Option<usize>, after: Option<usize>, member: usize) {
        self.times.push(time);
        self.row.push(number(row));
        self.before.push(number(before));
        self.after.push(number(after));
        self.member.push(number(Some(member)));
    }
}

/// A batch has no more rows than this can count.
fn number(row: Option<usize>) -> u32 {
    row.map_or(NONE, |row| u32::try_from(row).unwrap_or(NONE))
}

impl Filling {
    /// `rows` are those of whole `series`, in each sorted by `time`; `schema` is that of the answer, a field for each of `outputs`.
    ///
    /// # Errors
    /// If a column can't be filled as is asked; a defect.
    pub(in crate::query) fn new(
        rows: &RecordBatch,
        time: usize,
        series: Vec<Range<usize>>,
        bins: Arc<[i64]>,
        outputs: &[Output],
        schema: SchemaRef,
    ) -> DataFusionResult<Self> {
        if rows.num_rows() >= NONE as usize {
            return exec_err!("a series of {} rows is too long to be filled", rows.num_rows());
        }
        let times: Int64Array = cast(rows.column(time), &DataType::Int64)?.as_primitive().clone();
        let column = |output: &Output| {
            let of = |place: &usize| Arc::clone(rows.column(*place));
            Ok(match output {
                Output::Time => Column::Time,
                Output::Series(place) => Column::Series(of(place)),
                Output::Filled(place, Fill::Value(value)) => {
                    let absent = if value.is_null() { None } else { Some(value.to_array()?) };
                    Column::Value { values: of(place), absent }
                }
                Output::Filled(place, Fill::Previous) => {
                    let values = of(place);
                    Column::Previous { neighbours: Neighbours::new(&values, &times, &series), values }
                }
                Output::Filled(place, Fill::Linear) => {
                    let values = of(place);
                    let known = match values.data_type() {
                        DataType::Struct(_) => value_of_selector(&values)?,
                        _ => Arc::clone(&values),
                    };
                    Column::Linear { neighbours: Neighbours::new(&known, &times, &series), values }
                }
            })
        };
        let columns = outputs.iter().map(column).collect::<DataFusionResult<Vec<_>>>()?;
        let row = series.first().map_or(0, |series| series.start);
        Ok(Self { schema, times, series, bins, columns, current: 0, row, bin: 0 })
    }

    /// The next rows of the answer, at most so many; `None` after the last.
    ///
    /// # Errors
    /// If a column can't be made, as of texts of more than 2 GiB.
    pub(in crate::query) fn next(&mut self, rows_max: usize) -> DataFusionResult<Option<RecordBatch>> {
        let places = self.places(rows_max);
        if places.times.is_empty() {
            return Ok(None);
        }
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(column, field)| {
            let filled = column.filled(&places, &self.times, field.data_type())?;
            // Dictionaries and the like stay what they are; a time is made of numbers.
            if filled.data_type() == field.data_type() { Ok(filled) } else { Ok(cast(&filled, field.data_type())?) }
        });
        let columns = columns.collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.times.len()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    /// Rows and bins in one order: a row stands in its bin; should one have none, it stands between them.
    fn places(&mut self, rows_max: usize) -> Places {
        let mut places = Places::default();
        while let Some(Range { start, end }) = self.series.get(self.current).cloned() {
            if places.times.len() >= rows_max {
                break;
            }
            let has_time = self.row < end && self.times.is_valid(self.row);
            let row = has_time.then(|| self.times.value(self.row));
            let bin = self.bins.get(self.bin).copied();
            match (row, bin) {
                (None, None) if self.row < end => {
                    places.timeless.push(places.times.len());
                    places.push(0, Some(self.row), Some(self.row), Some(self.row), start);
                    self.row += 1;
                }
                (None, None) => {
                    self.current += 1;
                    self.row = end;
                    self.bin = 0;
                }
                (Some(time), bin) if bin.is_none_or(|bin| time <= bin) => {
                    places.push(time, Some(self.row), Some(self.row), Some(self.row), start);
                    self.row += 1;
                    self.bin += usize::from(bin == Some(time));
                }
                (_, bin) => {
                    let before = (self.row > start).then(|| self.row - 1);
                    let after = has_time.then_some(self.row);
                    places.push(bin.unwrap_or_default(), None, before, after, start);
                    self.bin += 1;
                }
            }
        }
        places
    }
}

impl Neighbours {
    fn new(values: &ArrayRef, times: &Int64Array, series: &[Range<usize>]) -> Self {
        let nulls = values.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let has_value = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let (mut before, mut after) = (vec![NONE; values.len()], vec![NONE; values.len()]);
        for rows in series {
            let mut last = NONE;
            for row in rows.clone() {
                if times.is_null(row) {
                    // Its own value, but that of no other.
                    before[row] = number(has_value(row).then_some(row));
                    after[row] = before[row];
                    continue;
                }
                if has_value(row) {
                    last = number(Some(row));
                }
                before[row] = last;
            }
            let mut next = NONE;
            for row in rows.clone().rev().filter(|row| times.is_valid(*row)) {
                if has_value(row) {
                    next = number(Some(row));
                }
                after[row] = next;
            }
        }
        Self { before, after }
    }

    /// The rows with values around each place.
    fn around(&self, places: &Places) -> (Vec<u32>, Vec<u32>) {
        let of = |rows: &[u32], nearest: &[u32]| {
            rows.iter().map(|row| if *row == NONE { NONE } else { nearest[*row as usize] }).collect()
        };
        (of(&places.before, &self.before), of(&places.after, &self.after))
    }
}

impl Column {
    fn filled(&self, places: &Places, times: &Int64Array, data_type: &DataType) -> DataFusionResult<ArrayRef> {
        Ok(match self {
            Self::Time => {
                let is_there = places.timeless.iter().fold(vec![true; places.times.len()], |mut there, place| {
                    there[*place] = false;
                    there
                });
                let nulls = (!places.timeless.is_empty()).then(|| NullBuffer::from(is_there));
                Arc::new(Int64Array::new(places.times.clone().into(), nulls))
            }
            Self::Series(values) => take(values, &indices(&places.member), None)?,
            Self::Value { values, absent: None } => take(values, &indices(&places.row), None)?,
            Self::Value { values, absent: Some(absent) } => {
                let place = |row: &u32| if *row == NONE { (1, 0) } else { (0, *row as usize) };
                let places: Vec<(usize, usize)> = places.row.iter().map(place).collect();
                interleave(&[values.as_ref(), absent.as_ref()], &places)?
            }
            Self::Previous { values, neighbours } => take(values, &indices(&neighbours.around(places).0), None)?,
            Self::Linear { values, neighbours } => {
                let (before, after) = neighbours.around(places);
                let lines = Lines { times, places, before: &before, after: &after };
                match values.data_type() {
                    DataType::Struct(_) => lines.selectors(values.as_struct(), data_type)?,
                    _ => lines.numbers(values)?,
                }
            }
        })
    }
}

/// Rows to take; nulls where there is none.
fn indices(rows: &[u32]) -> UInt32Array {
    if !rows.contains(&NONE) {
        return UInt32Array::from(rows.to_vec());
    }
    rows.iter().map(|row| (*row != NONE).then_some(*row)).collect()
}

/// The values of a selector; null where there is no row.
fn value_of_selector(selectors: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let selectors = selectors.as_struct();
    let Some(values) = selectors.column_by_name("value") else {
        return internal_err!("a selector without a value");
    };
    let nulls = NullBuffer::union(selectors.nulls(), values.logical_nulls().as_ref());
    Ok(arrow::array::make_array(values.to_data().into_builder().nulls(nulls).build()?))
}

/// Places between points.
struct Lines<'a> {
    times: &'a Int64Array,
    places: &'a Places,
    /// For each place the rows with values around it.
    before: &'a [u32],
    after: &'a [u32],
}

impl Lines<'_> {
    fn numbers(&self, values: &ArrayRef) -> DataFusionResult<ArrayRef> {
        let data_type = values.data_type();
        let filled: ArrayRef = match data_type {
            DataType::Float64 => Arc::new(self.between::<Float64Type>(values.as_primitive(), float_between)),
            DataType::Int64 => Arc::new(self.between::<Int64Type>(values.as_primitive(), |a, b, x, run| {
                whole_between(i128::from(a), i128::from(b), x, run).and_then(|value| value.try_into().ok()).unwrap_or(b)
            })),
            DataType::UInt64 => Arc::new(self.between::<UInt64Type>(values.as_primitive(), |a, b, x, run| {
                whole_between(i128::from(a), i128::from(b), x, run).and_then(|value| value.try_into().ok()).unwrap_or(b)
            })),
            // Narrower ones by way of the widest of their kind.
            narrow => {
                let wide = match narrow {
                    narrow if narrow.is_unsigned_integer() => DataType::UInt64,
                    narrow if narrow.is_integer() => DataType::Int64,
                    _ => DataType::Float64,
                };
                cast(&self.numbers(&cast(values, &wide)?)?, narrow)?
            }
        };
        Ok(filled)
    }

    /// `between(a, b, x, run)` is `x` of `run` of the way from `a` to `b`.
    fn between<T: ArrowPrimitiveType>(
        &self,
        values: &PrimitiveArray<T>,
        between: impl Fn(T::Native, T::Native, i128, i128) -> T::Native,
    ) -> PrimitiveArray<T> {
        let value = |(place, (before, after)): (usize, (&u32, &u32))| {
            if *before == NONE || *after == NONE {
                return None;
            }
            let (before, after) = (*before as usize, *after as usize);
            if before == after {
                return Some(values.value(before));
            }
            let (begin, end) = (i128::from(self.times.value(before)), i128::from(self.times.value(after)));
            let x = i128::from(self.places.times[place]) - begin;
            Some(between(values.value(before), values.value(after), x, end - begin))
        };
        self.before.iter().zip(self.after).enumerate().map(value).collect()
    }

    /// Only the value of a selector lies on a line; what stood beside it belongs to a row.
    fn selectors(&self, selectors: &StructArray, data_type: &DataType) -> DataFusionResult<ArrayRef> {
        let DataType::Struct(fields) = data_type else { return internal_err!("a selector of type {data_type}") };
        let whole: ArrayRef = Arc::new(selectors.clone());
        let values = self.numbers(&value_of_selector(&whole)?)?;
        let nulls = values.nulls().cloned();
        let rows = indices(&self.places.row);
        let columns = fields.iter().zip(selectors.columns()).map(|(field, column)| match field.name().as_str() {
            "value" => Ok(Arc::clone(&values)),
            _ if column.is_empty() => Ok(new_null_array(field.data_type(), rows.len())),
            _ => Ok(take(column, &rows, None)?),
        });
        let columns = columns.collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
    }
}

fn float_between(a: f64, b: f64, x: i128, run: i128) -> f64 {
    (b - a) / run as f64 * x as f64 + a
}

/// Towards zero, as InfluxDB does; `None` where even 128 bits are too few.
fn whole_between(a: i128, b: i128, x: i128, run: i128) -> Option<i128> {
    let rise = (b - a).checked_mul(x)?;
    Some(a.checked_mul(run)?.checked_add(rise)? / run)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, UInt64Array};

    use super::*;

    #[test]
    fn whole_numbers_are_exact_and_cut_towards_zero() {
        assert_eq!(whole_between(0, 10, 1, 3), Some(3));
        assert_eq!(whole_between(0, -10, 1, 3), Some(-3));
        let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
        assert_eq!(whole_between(least, most, 1, 2), Some(0), "the difference does not fit 64 bits");
        assert_eq!(whole_between(most - 2, most, 1, 2), Some(most - 1), "floats have only 53 bits");
        assert_eq!(float_between(23.0, 22.7, 1, 2), 22.85);
    }

    #[test]
    fn what_was_unsigned_stays_so() {
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 0]));
        let times = Int64Array::from(vec![0, 2]);
        let mut places = Places::default();
        places.push(1, None, Some(0), Some(1), 0);
        let lines = Lines { times: &times, places: &places, before: &[0], after: &[1] };
        assert_eq!(lines.numbers(&values).unwrap().as_primitive::<UInt64Type>().value(0), u64::MAX / 2);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        assert_eq!(lines.numbers(&floats).unwrap().as_primitive::<Float64Type>().value(0), 1.5);
    }
}
