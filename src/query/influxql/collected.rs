//! Functions that need all values of a bucket at once, whatever their order: `median`, `percentile`, `stddev`.
//!
//! DataFusion groups the values as it does for its own `median`; what is made of them is what the pass over series makes of them
//! (`reduce`, which takes what is computed from here). Values are held as they are, eight bytes each, and spilled by the aggregation as lists.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// What is made of the values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Collected {
    Median,
    Stddev,
    /// The value at a rank in percent, or nothing where there is no such rank.
    Percentile(f64),
}

impl Collected {
    /// As numbers that are the same for what is the same.
    fn identity(self) -> (u8, u64) {
        match self {
            Self::Median => (0, 0),
            Self::Stddev => (1, 0),
            Self::Percentile(rank) => (2, rank.to_bits()),
        }
    }

    fn of<T: Number>(self, values: &mut [T::Native]) -> Made<T::Native> {
        match self {
            Self::Median => Made::Float(median::<T>(values)),
            Self::Stddev => Made::Float(stddev::<T>(values)),
            Self::Percentile(rank) => Made::Value(percentile::<T>(values, rank)),
        }
    }

    fn array<T: Number>(self, groups: Vec<Vec<T::Native>>) -> ArrayRef {
        let made = groups.into_iter().map(|mut values| self.of::<T>(&mut values));
        match self {
            Self::Median | Self::Stddev => {
                let floats = made.map(|made| if let Made::Float(float) = made { float } else { None });
                Arc::new(PrimitiveArray::<Float64Type>::from_iter(floats))
            }
            Self::Percentile(_) => {
                let values = made.map(|made| if let Made::Value(value) = made { value } else { None });
                Arc::new(PrimitiveArray::<T>::from_iter(values))
            }
        }
    }
}

impl PartialEq for Collected {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Collected {}

impl Hash for Collected {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// What came out: a float, or one of the values.
enum Made<V> {
    Float(Option<f64>),
    Value(Option<V>),
}

/// A number of InfluxQL.
pub(super) trait Number: ArrowPrimitiveType + std::fmt::Debug {
    fn order(a: &Self::Native, b: &Self::Native) -> Ordering;
    fn float(value: Self::Native) -> f64;
}

impl Number for Float64Type {
    fn order(a: &f64, b: &f64) -> Ordering {
        a.total_cmp(b)
    }

    fn float(value: f64) -> f64 {
        value
    }
}

impl Number for Int64Type {
    fn order(a: &i64, b: &i64) -> Ordering {
        a.cmp(b)
    }

    fn float(value: i64) -> f64 {
        value as f64
    }
}

impl Number for UInt64Type {
    fn order(a: &u64, b: &u64) -> Ordering {
        a.cmp(b)
    }

    fn float(value: u64) -> f64 {
        value as f64
    }
}

pub(super) fn median<T: Number>(values: &mut [T::Native]) -> Option<f64> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let (below, high, _) = values.select_nth_unstable_by(count / 2, T::order);
    let high = T::float(*high);
    if count % 2 == 1 {
        return Some(high);
    }
    let low = below.iter().max_by(|a, b| T::order(a, b)).map_or(high, |low| T::float(*low));
    Some(low + (high - low) / 2.0)
}

/// Of a sample; of one value there is none, which is a point all the same.
pub(super) fn stddev<T: Number>(values: &[T::Native]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let numbers = || values.iter().map(|value| T::float(*value)).filter(|value| !value.is_nan());
    let (mut mean, mut seen) = (0.0, 0.0);
    for value in numbers() {
        seen += 1.0;
        mean += (value - mean) / seen;
    }
    let variance: f64 = numbers().map(|value| (value - mean).powi(2)).sum();
    Some(if values.len() < 2 { f64::NAN } else { (variance / (seen - 1.0)).sqrt() })
}

fn percentile<T: Number>(values: &mut [T::Native], rank: f64) -> Option<T::Native> {
    let place = place(values.len(), rank)?;
    let (_, value, _) = values.select_nth_unstable_by(place, T::order);
    Some(*value)
}

/// Which of so many values, from the least on, is nearest to a rank in percent; or none.
pub(super) fn place(count: usize, rank: f64) -> Option<usize> {
    let place = (count as f64 * rank / 100.0 + 0.5).floor() - 1.0;
    (place >= 0.0 && place < count as f64).then_some(place as usize)
}

/// The function as an aggregate of DataFusion, of a column of numbers.
pub(super) fn aggregate(what: Collected) -> AggregateUDF {
    AggregateUDF::new_from_impl(Collecting { what, signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Collecting {
    what: Collected,
    signature: Signature,
}

impl AggregateUDFImpl for Collecting {
    fn name(&self) -> &str {
        match self.what {
            Collected::Median => "influxql_median",
            Collected::Stddev => "influxql_stddev",
            Collected::Percentile(_) => "influxql_percentile",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        match (self.what, arguments) {
            (Collected::Percentile(_), [argument]) => Ok(argument.clone()),
            (_, [_]) => Ok(DataType::Float64),
            _ => internal_err!("{} has one argument", self.name()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let values = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
        Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "values"), values, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(match args.expr_fields[0].data_type() {
            DataType::Float64 => Box::new(One::<Float64Type>::new(self.what)),
            DataType::Int64 => Box::new(One::<Int64Type>::new(self.what)),
            DataType::UInt64 => Box::new(One::<UInt64Type>::new(self.what)),
            other => return internal_err!("{} of {other}", self.name()),
        })
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        Ok(match args.expr_fields[0].data_type() {
            DataType::Float64 => Box::new(Groups::<Float64Type>::new(self.what)),
            DataType::Int64 => Box::new(Groups::<Int64Type>::new(self.what)),
            DataType::UInt64 => Box::new(Groups::<UInt64Type>::new(self.what)),
            other => return internal_err!("{} of {other}", self.name()),
        })
    }
}

/// The values of each group.
#[derive(Debug)]
struct Groups<T: Number> {
    what: Collected,
    values: Vec<Vec<T::Native>>,
    /// How many values all groups have.
    held: usize,
}

impl<T: Number> Groups<T> {
    fn new(what: Collected) -> Self {
        Self { what, values: Vec::new(), held: 0 }
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<T::Native>> {
        let taken = emit_to.take_needed(&mut self.values);
        self.held -= taken.iter().map(Vec::len).sum::<usize>();
        taken
    }
}

/// Lists of values; an empty one for a group without any.
fn lists<T: Number>(groups: &[Vec<T::Native>]) -> DataFusionResult<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
    let values = PrimitiveArray::<T>::from_iter_values(groups.iter().flatten().copied());
    let field = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(values), None)?))
}

impl<T: Number> GroupsAccumulator for Groups<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> DataFusionResult<()> {
        self.values.resize_with(group_count, Vec::new);
        let values = values[0].as_primitive::<T>();
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            if values.is_valid(row) && counts(row) {
                self.values[*group].push(*value);
                self.held += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DataFusionResult<ArrayRef> {
        let groups = self.take(emit_to);
        Ok(self.what.array::<T>(groups))
    }

    fn state(&mut self, emit_to: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        let groups = self.take(emit_to);
        Ok(vec![lists::<T>(&groups)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], group_count: usize) -> DataFusionResult<()> {
        self.values.resize_with(group_count, Vec::new);
        let lists = values[0].as_list::<i32>();
        for (row, group) in groups.iter().enumerate() {
            if lists.is_valid(row) {
                let list = lists.value(row);
                self.values[*group].extend(list.as_primitive::<T>().iter().flatten());
                self.held += list.len();
            }
        }
        Ok(())
    }

    /// A row as a group of its own; one that does not count has no value.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DataFusionResult<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let group = |row: usize| match values.is_valid(row) && counts(row) {
            true => vec![values.value(row)],
            false => Vec::new(),
        };
        let groups: Vec<Vec<T::Native>> = (0..values.len()).map(group).collect();
        Ok(vec![lists::<T>(&groups)?])
    }

    /// Vectors grow by doubling: on average half as much again as they hold.
    fn size(&self) -> usize {
        self.held * size_of::<T::Native>() * 3 / 2 + self.values.capacity() * size_of::<Vec<T::Native>>()
    }
}

/// The values of all rows.
#[derive(Debug)]
struct One<T: Number> {
    what: Collected,
    values: Vec<T::Native>,
}

impl<T: Number> One<T> {
    fn new(what: Collected) -> Self {
        Self { what, values: Vec::new() }
    }
}

impl<T: Number> Accumulator for One<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.values.extend(values[0].as_primitive::<T>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let values = std::mem::take(&mut self.values);
        ScalarValue::try_from_array(&self.what.array::<T>(vec![values]), 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<T::Native>()
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let values = std::mem::take(&mut self.values);
        Ok(vec![ScalarValue::try_from_array(&lists::<T>(&[values])?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let lists = states[0].as_list::<i32>();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            self.values.extend(lists.value(row).as_primitive::<T>().iter().flatten());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    fn text(array: &ArrayRef) -> Vec<String> {
        (0..array.len()).map(|row| ScalarValue::try_from_array(array, row).unwrap().to_string()).collect()
    }

    fn answer(what: Collected, spilled: bool) -> Vec<String> {
        let rows: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(9), Some(-4), Some(2), None, Some(3), Some(7), None, Some(1)]));
        let groups = [0, 0, 0, 0, 1, 1, 2, 3];
        let mut collected = Groups::<Int64Type>::new(what);
        collected.update_batch(&[Arc::clone(&rows)], &groups, None, 4).unwrap();
        if spilled {
            let state = collected.state(EmitTo::All).unwrap();
            assert_eq!(collected.held, 0);
            // And what was never grouped.
            let rows: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
            let ungrouped = collected.convert_to_state(&[rows], None).unwrap();
            collected.merge_batch(&state, &[0, 1, 2, 3], 5).unwrap();
            collected.merge_batch(&ungrouped, &[4, 4], 5).unwrap();
            assert_eq!(collected.values.pop(), Some(vec![1]));
        }
        text(&collected.evaluate(EmitTo::All).unwrap())
    }

    #[test]
    fn values_of_a_group_come_together_again() {
        for spilled in [false, true] {
            assert_eq!(answer(Collected::Median, spilled), ["2", "5", "NULL", "1"]);
            assert_eq!(answer(Collected::Percentile(50.0), spilled), ["2", "3", "NULL", "1"]);
            assert_eq!(answer(Collected::Percentile(20.0), spilled), ["-4", "NULL", "NULL", "NULL"]);
            assert_eq!(answer(Collected::Stddev, spilled)[2..], ["NULL", "NaN"]);
        }
    }

    #[test]
    fn one_group_of_all_is_like_one_of_several() {
        let rows: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.0), Some(f64::NAN)]));
        let mut one = One::<Float64Type>::new(Collected::Median);
        one.update_batch(&[Arc::clone(&rows)]).unwrap();
        let state = one.state().unwrap()[0].to_array().unwrap();
        one.merge_batch(&[state]).unwrap();
        assert_eq!(one.evaluate().unwrap(), ScalarValue::Float64(Some(1.5)));
        assert_eq!(one.evaluate().unwrap(), ScalarValue::Float64(None));
    }
}
