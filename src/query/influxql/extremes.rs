//! The least and the greatest value of a group in the order in which InfluxQL compares: floats in their total order.
//!
//! DataFusion's own `min` and `max` of groups forget what they have found when a number that is none comes by, so that the
//! answer hangs on the order of rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::internal_err;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// The least value.
pub(super) fn least() -> AggregateUDF {
    AggregateUDF::new_from_impl(Extreme { greatest: false, signature: Signature::any(1, Volatility::Immutable) })
}

/// The greatest value.
pub(super) fn greatest() -> AggregateUDF {
    AggregateUDF::new_from_impl(Extreme { greatest: true, signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    greatest: bool,
    signature: Signature,
}

impl Extreme {
    /// DataFusion's own, for whatever has but one order.
    fn own(&self) -> Arc<AggregateUDF> {
        if self.greatest { max_udaf() } else { min_udaf() }
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.greatest { "influxql_greatest" } else { "influxql_least" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        match arguments {
            [argument] => Ok(argument.clone()),
            _ => internal_err!("{} has one argument", self.name()),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        self.own().accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        *args.return_field.data_type() == DataType::Float64 || self.own().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            DataType::Float64 => Ok(Box::new(Floats { greatest: self.greatest, values: Vec::new(), seen: Vec::new() })),
            _ => self.own().create_groups_accumulator(args),
        }
    }
}

/// The extreme of each group so far.
#[derive(Debug)]
struct Floats {
    greatest: bool,
    values: Vec<f64>,
    seen: Vec<bool>,
}

impl Floats {
    fn add(&mut self, group: usize, value: f64) {
        let order = value.total_cmp(&self.values[group]);
        let is_better = if self.greatest { order.is_gt() } else { order.is_lt() };
        if is_better || !self.seen[group] {
            self.values[group] = value;
            self.seen[group] = true;
        }
    }
}

impl GroupsAccumulator for Floats {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> DataFusionResult<()> {
        self.values.resize(group_count, 0.0);
        self.seen.resize(group_count, false);
        let values = values[0].as_primitive::<Float64Type>();
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            if values.is_valid(row) && counts(row) {
                self.add(*group, *value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DataFusionResult<ArrayRef> {
        let values = emit_to.take_needed(&mut self.values);
        let seen = emit_to.take_needed(&mut self.seen);
        Ok(Arc::new(Float64Array::new(values.into(), Some(NullBuffer::from(seen)))))
    }

    fn state(&mut self, emit_to: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], group_count: usize) -> DataFusionResult<()> {
        self.update_batch(values, groups, None, group_count)
    }

    /// A row as a group of its own; one that does not count has no value.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DataFusionResult<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(vec![Arc::clone(&values[0])]) };
        let left_out = (0..filter.len()).map(|row| !(filter.is_valid(row) && filter.value(row)));
        Ok(vec![nullif(&values[0], &BooleanArray::from_iter(left_out.map(Some)))?])
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<f64>() + self.seen.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_does_not_hide_others() {
        let rows: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), Some(0.5), None, Some(-0.0), Some(0.0), None]));
        let groups = [0, 0, 0, 0, 1, 1, 2];
        let answer = |greatest| {
            let mut floats = Floats { greatest, values: Vec::new(), seen: Vec::new() };
            floats.update_batch(&[Arc::clone(&rows)], &groups, None, 3).unwrap();
            let answer = floats.evaluate(EmitTo::All).unwrap();
            answer.as_primitive::<Float64Type>().iter().map(|value| format!("{value:?}")).collect::<Vec<_>>()
        };
        assert_eq!(answer(false), ["Some(0.5)", "Some(-0.0)", "None"]);
        assert_eq!(answer(true), ["Some(NaN)", "Some(0.0)", "None"]);
    }
}
