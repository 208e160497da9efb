//! Functions that make much out of little, refused before they do.
//!
//! `repeat('x', 2000000000)` asks for 2 GB with twenty bytes of text. The memory pool does not hold scalar
//! functions, and they run without a pause, even while a query is only planned: constant folding calls them. So
//! each function here is asked for nothing before the size of its answer has been worked out from its
//! arguments. Most sizes are exact; where they are not, they are too large rather than too small.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::resources_datafusion_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Elements of one batch of lists that are made from numbers: what `generate_series` makes. 80 MB.
pub(super) const ELEMENTS_MAX: usize = 10_000_000;

/// How a function's answer grows with its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// `repeat(text, n)`
    Repeat,
    /// `lpad(text, n, fill)`, `rpad`
    Pad,
    /// `array_repeat(element, n)`
    ArrayRepeat,
    /// `array_resize(array, n, element)`
    ArrayResize,
    /// `generate_series(start, stop, step)`, `range`
    Series,
    /// `replace(text, from, to)`
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`
    RegexpReplace,
    /// `concat(text, …)`
    Concat,
    /// `concat_ws(separator, text, …)`
    ConcatWithSeparator,
    /// `array_to_string(array, separator, null)`
    ArrayToString,
}

/// The functions that are bounded, under their main names; aliases follow.
pub(super) const GROWING: &[(&str, Growth)] = &[
    ("repeat", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("array_repeat", Growth::ArrayRepeat),
    ("array_resize", Growth::ArrayResize),
    ("generate_series", Growth::Series),
    ("range", Growth::Series),
    ("replace", Growth::Replace),
    ("regexp_replace", Growth::RegexpReplace),
    ("concat", Growth::Concat),
    ("concat_ws", Growth::ConcatWithSeparator),
    ("array_to_string", Growth::ArrayToString),
];

/// `inner` behind its bound.
pub(super) fn bounded(inner: Arc<ScalarUDF>, growth: Growth, bytes_max: usize) -> ScalarUDF {
    let mut signature = inner.signature().clone();
    if growth == Growth::Series {
        // A list that is made while planning is copied into every row later, where nothing counts it: not
        // folding it into a constant lets the check see the rows.
        signature.volatility = Volatility::Volatile;
    }
    ScalarUDF::new_from_impl(Bounded { inner, signature, growth, bytes_max })
}

/// The error of a call that would make too much.
pub(super) fn too_large(name: &str, size: usize, what: &str, size_max: usize) -> datafusion::error::DataFusionError {
    resources_datafusion_err!("{name} would make {size} {what} at once, more than the {size_max} that are allowed")
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    growth: Growth,
    bytes_max: usize,
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> DataFusionResult<()> {
        let args = Arguments::new(args)?;
        let (size, what, size_max) = match self.growth {
            Growth::Series => (self.elements(&args)?, "elements", ELEMENTS_MAX),
            _ => (self.bytes(&args), "bytes", args.bytes_max(self.bytes_max)),
        };
        if size > size_max {
            return Err(too_large(self.inner.name(), size, what, size_max));
        }
        Ok(())
    }

    /// Bytes of all rows of the answer together.
    fn bytes(&self, args: &Arguments) -> usize {
        let mut sum = args.spread_bytes();
        for row in 0..args.rows {
            let bytes = match self.growth {
                Growth::Repeat => args.text_bytes(0, row).saturating_mul(args.number(1, row)),
                Growth::Pad => args.text_bytes(0, row).saturating_add(args.number(1, row).saturating_mul(4)),
                Growth::ArrayRepeat => args.element_bytes(0).saturating_mul(args.number(1, row)),
                Growth::ArrayResize => args.element_bytes(0).max(8).saturating_mul(args.number(1, row)),
                Growth::Replace => args.replaced_bytes(row),
                Growth::RegexpReplace => args.regexp_replaced_bytes(row),
                Growth::Concat => (0..args.len()).map(|arg| args.text_bytes(arg, row)).fold(0, usize::saturating_add),
                Growth::ConcatWithSeparator => {
                    let separators = args.text_bytes(0, row).saturating_mul(args.len().saturating_sub(2));
                    (1..args.len()).map(|arg| args.text_bytes(arg, row)).fold(separators, usize::saturating_add)
                }
                Growth::ArrayToString => args.joined_bytes(row),
                Growth::Series => 0,
            };
            sum = sum.saturating_add(bytes);
        }
        sum
    }

    /// Elements of all rows of a series together.
    fn elements(&self, args: &Arguments) -> DataFusionResult<usize> {
        let mut sum = 0_usize;
        for row in 0..args.rows {
            sum = sum.saturating_add(args.series_elements(row)?);
        }
        // A constant series stands in every row.
        Ok(if args.all_constant() { sum.saturating_mul(args.rows_of_batch.max(1)) } else { sum })
    }
}

/// The most bytes that a constant may have: it stands in every row of a batch, of which there are 8192.
pub(super) fn constant_bytes_max(bytes_max: usize) -> usize {
    const CONSTANTS_IN_A_BATCH: usize = 1024;
    bytes_max / CONSTANTS_IN_A_BATCH
}

/// Arguments as arrays; a constant is an array of one row, for writing it out may be what must not happen.
struct Arguments {
    columns: Vec<ArrayRef>,
    texts: Vec<Option<StringArray>>,
    numbers: Vec<Option<Int64Array>>,
    is_constant: Vec<bool>,
    /// Rows to look at: one where all arguments are constant.
    rows: usize,
    rows_of_batch: usize,
}

impl Arguments {
    fn new(args: &ScalarFunctionArgs) -> DataFusionResult<Self> {
        let is_constant: Vec<bool> = args.args.iter().map(|arg| matches!(arg, ColumnarValue::Scalar(_))).collect();
        let rows = if is_constant.iter().all(|constant| *constant) { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(1)).collect::<DataFusionResult<Vec<_>>>()?;
        let texts = columns.iter().map(as_texts).collect::<DataFusionResult<Vec<_>>>()?;
        let numbers = columns.iter().map(as_numbers).collect::<DataFusionResult<Vec<_>>>()?;
        Ok(Self { columns, texts, numbers, is_constant, rows, rows_of_batch: args.number_rows })
    }

    fn len(&self) -> usize {
        self.columns.len()
    }

    fn all_constant(&self) -> bool {
        self.is_constant.iter().all(|constant| *constant)
    }

    fn bytes_max(&self, bytes_max: usize) -> usize {
        if self.all_constant() { constant_bytes_max(bytes_max) } else { bytes_max }
    }

    /// Bytes of constants written out for every row, as functions do when another argument is a column.
    fn spread_bytes(&self) -> usize {
        if self.all_constant() {
            return 0;
        }
        let texts = (0..self.len()).filter(|arg| self.is_constant[*arg]).map(|arg| self.text_bytes(arg, 0));
        texts.fold(0, usize::saturating_add).saturating_mul(self.rows)
    }

    /// Where the value of a row stands.
    fn place(&self, arg: usize, row: usize) -> usize {
        if self.is_constant[arg] { 0 } else { row }
    }

    fn text(&self, arg: usize, row: usize) -> &str {
        let Some(column) = self.texts.get(arg).and_then(Option::as_ref) else { return "" };
        let place = self.place(arg, row);
        if column.is_valid(place) { column.value(place) } else { "" }
    }

    /// Bytes of a text; 0 for a null and for what is no text but takes few bytes as one.
    fn text_bytes(&self, arg: usize, row: usize) -> usize {
        self.text(arg, row).len()
    }

    /// A count; 0 for a null and below zero.
    fn number(&self, arg: usize, row: usize) -> usize {
        let Some(column) = self.numbers.get(arg).and_then(Option::as_ref) else { return 0 };
        let place = self.place(arg, row);
        if column.is_valid(place) { usize::try_from(column.value(place)).unwrap_or(0) } else { 0 }
    }

    /// Bytes that one row of a column takes in the mean; at least the size of an offset or a number.
    fn element_bytes(&self, arg: usize) -> usize {
        let Some(column) = self.columns.get(arg) else { return 0 };
        let bytes = column.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
        (bytes / column.len().max(1)).max(8)
    }

    fn replaced_bytes(&self, row: usize) -> usize {
        let (text, from, to) = (self.text(0, row), self.text(1, row), self.text(2, row));
        if to.len() <= from.len() {
            return text.len();
        }
        // An empty `from` matches before every character and at the end.
        let matches = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
        text.len().saturating_add(matches.saturating_mul(to.len() - from.len()))
    }

    /// At most one match for every byte and one at the end; what all matches capture together is no more
    /// than the text, for each time that `to` refers to it.
    fn regexp_replaced_bytes(&self, row: usize) -> usize {
        let (text, to) = (self.text(0, row), self.text(2, row));
        let references = to.matches(['\\', '$']).count();
        let replaces_all = self.text(3, row).contains('g');
        let matches = if replaces_all { text.len() + 1 } else { 1 };
        text.len()
            .saturating_add(matches.saturating_mul(to.len()))
            .saturating_add(references.saturating_mul(text.len()))
    }

    fn joined_bytes(&self, row: usize) -> usize {
        /// Digits of the longest number, with sign, point and exponent.
        const NUMBER_BYTES: usize = 32;
        let Some(list) = self.columns.first() else { return 0 };
        let lists = list.len().max(1);
        let elements = elements_of(list).max(lists) / lists + 1;
        let bytes = list.to_data().get_slice_memory_size().unwrap_or(usize::MAX) / lists;
        let around = self.text_bytes(1, row).saturating_add(self.text_bytes(2, row)).saturating_add(NUMBER_BYTES);
        bytes.saturating_add(elements.saturating_mul(around))
    }

    /// How many elements a series has: numbers, or instants with an interval between them.
    fn series_elements(&self, row: usize) -> DataFusionResult<usize> {
        let [start, stop] = match self.len() {
            1 => [0, self.instant(0, row)?],
            _ => [self.instant(0, row)?, self.instant(1, row)?],
        };
        let step = if self.len() > 2 { self.step(row)? } else { 1 };
        Ok(series_elements(start, stop, step))
    }

    /// A number, or a date or an instant in nanoseconds.
    fn instant(&self, arg: usize, row: usize) -> DataFusionResult<i128> {
        const DAY: i128 = 86_400_000_000_000;
        let column = &self.columns[arg];
        let row = self.place(arg, row);
        if column.is_null(row) {
            return Ok(0);
        }
        Ok(match column.data_type() {
            DataType::Date32 => i128::from(column.as_primitive::<arrow::datatypes::Date32Type>().value(row)) * DAY,
            DataType::Date64 => {
                i128::from(column.as_primitive::<arrow::datatypes::Date64Type>().value(row)) * 1_000_000
            }
            DataType::Timestamp(unit, _) => {
                let unit_nanos = match unit {
                    TimeUnit::Second => 1_000_000_000,
                    TimeUnit::Millisecond => 1_000_000,
                    TimeUnit::Microsecond => 1_000,
                    TimeUnit::Nanosecond => 1,
                };
                let numbers = cast(column, &DataType::Int64)?;
                i128::from(numbers.as_primitive::<Int64Type>().value(row)) * unit_nanos
            }
            _ => self.numbers[arg].as_ref().map_or(0, |numbers| i128::from(numbers.value(row))),
        })
    }

    /// A number, or an interval in nanoseconds, its months taken as short as they get.
    fn step(&self, row: usize) -> DataFusionResult<i128> {
        let column = &self.columns[2];
        let row = self.place(2, row);
        if column.is_null(row) {
            return Ok(0);
        }
        if let Some(intervals) = column.as_primitive_opt::<IntervalMonthDayNanoType>() {
            let interval = intervals.value(row);
            let days = i128::from(interval.months) * 28 + i128::from(interval.days);
            return Ok(days * 86_400_000_000_000 + i128::from(interval.nanoseconds));
        }
        Ok(self.numbers[2].as_ref().map_or(1, |numbers| i128::from(numbers.value(row))))
    }
}

/// How many elements there are from `start` to `stop`, both included. A step of 0 is refused by the function itself.
pub(super) fn series_elements(start: i128, stop: i128, step: i128) -> usize {
    if step == 0 || (stop - start).signum() * step.signum() < 0 {
        return 0;
    }
    usize::try_from((stop - start) / step + 1).unwrap_or(usize::MAX)
}

fn elements_of(list: &ArrayRef) -> usize {
    match list.data_type() {
        DataType::List(_) => list.as_list::<i32>().values().len(),
        DataType::LargeList(_) => list.as_list::<i64>().values().len(),
        DataType::FixedSizeList(_, _) => list.as_fixed_size_list().values().len(),
        _ => 0,
    }
}

fn as_texts(column: &ArrayRef) -> DataFusionResult<Option<StringArray>> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_text_column = match column.data_type() {
        DataType::Dictionary(_, value) => is_text(value),
        plain => is_text(plain),
    };
    if !is_text_column {
        return Ok(None);
    }
    Ok(Some(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()))
}

fn as_numbers(column: &ArrayRef) -> DataFusionResult<Option<Int64Array>> {
    if !column.data_type().is_integer() {
        return Ok(None);
    }
    Ok(Some(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
}

/// Everything is the inner function's, but for the check before it is called. Its `simplify` is left out:
/// that of `concat` puts the unbounded function in the place of this one.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<arrow::datatypes::FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_counted_with_both_ends() {
        for (start, stop, step, elements) in [
            (1, 3, 1, 3),
            (1, 10, 4, 3),
            (3, 1, -1, 3),
            (3, 1, 1, 0),
            (1, 3, 0, 0),
            (0, i128::from(i64::MAX), 1, 9_223_372_036_854_775_808),
        ] {
            assert_eq!(series_elements(start, stop, step), elements, "{start} {stop} {step}");
        }
    }
}
