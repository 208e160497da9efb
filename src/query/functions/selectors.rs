//! `selector_first`, `selector_last`, `selector_min`, `selector_max`: aggregates whose answer is a row.
//!
//! `selector_max(usage, time, host)` is `{value, time, other_1}` of the row with the greatest usage. Rows without a value or a time
//! are not chosen. The choice is settled even where rows are equal, so that an answer does not depend on the plan: of equal values
//! the earliest counts, of equal times the greater value, as in InfluxQL.
//!
//! The columns of the chosen rows are not copied row by row: for each group is noted where its row is, batches are kept while a
//! group points into them, and when they hold many more rows than there are groups the chosen ones are gathered into one.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::boolean::not;
use arrow::compute::{cast, interleave, nullif, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// Rows of batches that are kept, beside twice as many as there are groups.
const KEPT_ROWS: usize = 64 * 1024;

/// All selectors.
pub(super) fn all() -> [AggregateUDF; 4] {
    [Choice::First, Choice::Last, Choice::Min, Choice::Max].map(|choice| {
        AggregateUDF::new_from_impl(Selector { choice, signature: Signature::user_defined(Volatility::Immutable) })
    })
}

/// Which row is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Choice {
    First,
    Last,
    Min,
    Max,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Selector {
    choice: Choice,
    signature: Signature,
}

impl AggregateUDFImpl for Selector {
    fn name(&self) -> &str {
        match self.choice {
            Choice::First => "selector_first",
            Choice::Last => "selector_last",
            Choice::Min => "selector_min",
            Choice::Max => "selector_max",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let [value, time, ..] = arguments else {
            return plan_err!("{0} takes a value and its time, as in {0}(usage, time)", self.name());
        };
        if !is_comparable(value) {
            return plan_err!("{} chooses among numbers, texts, booleans and times, not {value}", self.name());
        }
        if !matches!(time, DataType::Timestamp(_, _)) {
            return plan_err!("the second argument of {} is the time of a row, not {time}", self.name());
        }
        Ok(arguments.to_vec())
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(fields(arguments)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let arguments: Vec<DataType> = args.input_fields.iter().map(|field| field.data_type().clone()).collect();
        let state = |field: &FieldRef| {
            let name = format!("{}[{}]", args.name, field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        };
        Ok(fields(&arguments).iter().map(state).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(OneSelection(Selection::new(self.choice, args.return_field.data_type())?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Selection::new(self.choice, args.return_field.data_type())?))
    }
}

/// What a selector answers: the names are those of InfluxDB.
fn fields(arguments: &[DataType]) -> Fields {
    let name = |n: usize| match n {
        0 => "value".to_owned(),
        1 => "time".to_owned(),
        n => format!("other_{}", n - 1),
    };
    arguments.iter().enumerate().map(|(n, data_type)| Field::new(name(n), data_type.clone(), true)).collect()
}

fn is_comparable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_comparable(value),
        DataType::Boolean
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Date32
        | DataType::Date64
        | DataType::Timestamp(_, _) => true,
        other => other.is_integer(),
    }
}

/// The chosen rows of all groups so far.
#[derive(Debug)]
struct Selection {
    choice: Choice,
    fields: Fields,
    /// For each group its row, if it has one.
    chosen: Vec<Option<Row>>,
    kept: Vec<Kept>,
    kept_rows: usize,
}

/// Where a row is, and what it is compared by.
#[derive(Debug, Clone, Copy)]
struct Row {
    time: i64,
    /// The order of the value, if it is no text.
    rank: u64,
    kept: usize,
    row: usize,
}

/// A batch that some row is in.
#[derive(Debug)]
struct Kept {
    columns: Vec<ArrayRef>,
    ranks: Ranks,
}

/// The values of a column in a form that is quickly compared.
#[derive(Debug)]
enum Ranks {
    /// Numbers in the order of the values.
    Numbers(Vec<u64>),
    Texts(StringArray),
}

impl Ranks {
    fn new(column: &ArrayRef) -> DataFusionResult<Self> {
        let plain = match column.data_type() {
            DataType::Dictionary(_, value) => cast(column, value)?,
            _ => Arc::clone(column),
        };
        const SIGN: u64 = 1 << 63;
        let signed = |value: i64| value.cast_unsigned() ^ SIGN;
        Ok(match plain.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Texts(cast(&plain, &DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Boolean => Self::Numbers(plain.as_boolean().values().iter().map(u64::from).collect()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let floats = cast(&plain, &DataType::Float64)?;
                // The bits of a float in its total order.
                let rank = |value: &f64| match value.to_bits() {
                    bits if bits & SIGN == 0 => bits | SIGN,
                    bits => !bits,
                };
                Self::Numbers(floats.as_primitive::<Float64Type>().values().iter().map(rank).collect())
            }
            DataType::UInt64 => Self::Numbers(plain.as_primitive::<UInt64Type>().values().to_vec()),
            DataType::Date32 => {
                let days = cast(&cast(&plain, &DataType::Int32)?, &DataType::Int64)?;
                Self::Numbers(days.as_primitive::<Int64Type>().values().iter().map(|value| signed(*value)).collect())
            }
            _ => {
                let numbers = cast(&plain, &DataType::Int64)?;
                Self::Numbers(numbers.as_primitive::<Int64Type>().values().iter().map(|value| signed(*value)).collect())
            }
        })
    }

    fn number(&self, row: usize) -> u64 {
        match self {
            Self::Numbers(numbers) => numbers[row],
            Self::Texts(_) => 0,
        }
    }

    fn text(&self, row: usize) -> &str {
        match self {
            Self::Numbers(_) => "",
            Self::Texts(texts) => texts.value(row),
        }
    }
}

impl Selection {
    fn new(choice: Choice, answer: &DataType) -> DataFusionResult<Self> {
        let DataType::Struct(fields) = answer else { return internal_err!("a selector answers {answer}") };
        Ok(Self { choice, fields: fields.clone(), chosen: Vec::new(), kept: Vec::new(), kept_rows: 0 })
    }

    /// Looks at rows; row `n` is of group `group(n)`.
    fn look_at(
        &mut self,
        columns: &[ArrayRef],
        filter: Option<&BooleanArray>,
        group: impl Fn(usize) -> usize,
    ) -> DataFusionResult<()> {
        let [value, time, ..] = columns else { return internal_err!("a selector without a time") };
        let ranks = Ranks::new(value)?;
        let times = cast(time, &DataType::Int64)?;
        let times: &Int64Array = times.as_primitive();
        let nulls = NullBuffer::union(value.logical_nulls().as_ref(), times.nulls());
        let kept = self.kept.len();
        self.kept.push(Kept { columns: columns.to_vec(), ranks });
        let mut is_used = false;
        for row in 0..times.len() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if !counts || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let candidate = Row { time: times.value(row), rank: self.kept[kept].ranks.number(row), kept, row };
            let group = group(row);
            if self.chosen[group].is_none_or(|chosen| self.is_better(candidate, chosen)) {
                self.chosen[group] = Some(candidate);
                is_used = true;
            }
        }
        if !is_used {
            self.kept.pop();
            return Ok(());
        }
        self.kept_rows += times.len();
        if self.kept_rows > KEPT_ROWS + 2 * self.chosen.len() {
            self.gather()?;
        }
        Ok(())
    }

    fn is_better(&self, candidate: Row, chosen: Row) -> bool {
        let by_time = candidate.time.cmp(&chosen.time);
        let by_value = || {
            candidate.rank.cmp(&chosen.rank).then_with(|| {
                let text = |row: Row| self.kept[row.kept].ranks.text(row.row);
                text(candidate).cmp(text(chosen))
            })
        };
        match self.choice {
            Choice::First => by_time.reverse().then_with(by_value),
            Choice::Last => by_time.then_with(by_value),
            Choice::Min => by_value().reverse().then(by_time.reverse()),
            Choice::Max => by_value().then(by_time.reverse()),
        }
        .is_gt()
    }

    /// Brings the chosen rows into one batch and lets go of the others.
    fn gather(&mut self) -> DataFusionResult<()> {
        let columns = self.columns(self.chosen.len())?;
        for (row, chosen) in self.chosen.iter_mut().enumerate() {
            if let Some(chosen) = chosen {
                (chosen.kept, chosen.row) = (0, row);
            }
        }
        self.kept_rows = self.chosen.len();
        self.kept = vec![Kept { ranks: Ranks::new(&columns[0])?, columns }];
        Ok(())
    }

    /// The columns of the first groups; nulls for a group without a row.
    fn columns(&self, groups: usize) -> DataFusionResult<Vec<ArrayRef>> {
        let nothing = (self.kept.len(), 0);
        let places: Vec<(usize, usize)> =
            self.chosen[..groups].iter().map(|row| row.map_or(nothing, |row| (row.kept, row.row))).collect();
        let column = |(n, field): (usize, &FieldRef)| {
            let null = new_null_array(field.data_type(), 1);
            let mut parts: Vec<&dyn Array> = self.kept.iter().map(|kept| kept.columns[n].as_ref()).collect();
            parts.push(null.as_ref());
            Ok(interleave(&parts, &places)?)
        };
        self.fields.iter().enumerate().map(column).collect()
    }

    /// The columns of groups that are told now and not needed any more.
    fn take(&mut self, emit_to: EmitTo) -> DataFusionResult<(Vec<ArrayRef>, NullBuffer)> {
        let groups = match emit_to {
            EmitTo::All => self.chosen.len(),
            EmitTo::First(groups) => groups,
        };
        let columns = self.columns(groups)?;
        let told: NullBuffer = emit_to.take_needed(&mut self.chosen).iter().map(Option::is_some).collect();
        if self.chosen.is_empty() {
            self.kept.clear();
            self.kept_rows = 0;
        }
        Ok((columns, told))
    }

    fn bytes(&self) -> usize {
        let column = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        let kept = |kept: &Kept| -> usize {
            let ranks = match &kept.ranks {
                Ranks::Numbers(numbers) => numbers.capacity() * size_of::<u64>(),
                Ranks::Texts(texts) => texts.get_buffer_memory_size(),
            };
            ranks + kept.columns.iter().map(column).sum::<usize>()
        };
        self.chosen.capacity() * size_of::<Option<Row>>() + self.kept.iter().map(kept).sum::<usize>()
    }
}

impl GroupsAccumulator for Selection {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        self.chosen.resize(total_num_groups, None);
        self.look_at(values, opt_filter, |row| group_indices[row])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    /// A row as a group of its own; one that does not count has no value.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> DataFusionResult<Vec<ArrayRef>> {
        let mut columns = values.to_vec();
        if let (Some(filter), Some(value)) = (opt_filter, columns.first_mut()) {
            let left_out = match filter.null_count() {
                0 => not(filter)?,
                _ => not(&prep_null_mask_filter(filter))?,
            };
            *value = nullif(value.as_ref(), &left_out)?;
        }
        Ok(columns)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DataFusionResult<ArrayRef> {
        let (columns, told) = self.take(emit_to)?;
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, Some(told))?))
    }

    fn state(&mut self, emit_to: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        Ok(self.take(emit_to)?.0)
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// The chosen row where there are no groups.
#[derive(Debug)]
struct OneSelection(Selection);

impl OneSelection {
    fn columns(&mut self) -> DataFusionResult<Vec<ArrayRef>> {
        self.0.chosen.resize(1, None);
        self.0.columns(1)
    }
}

impl Accumulator for OneSelection {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.0.chosen.resize(1, None);
        self.0.look_at(values, None, |_| 0)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let columns = self.columns()?;
        let told = NullBuffer::from(vec![self.0.chosen[0].is_some()]);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(self.0.fields.clone(), columns, Some(told))?)))
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        self.columns()?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn size(&self) -> usize {
        self.0.bytes()
    }
}
