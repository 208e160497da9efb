//! A condition on rows as a function of DataFusion, by InfluxQL's rules.
//!
//! Comparisons of a column with a constant, and what AND and OR make of them, are decided column by column; anything else row by
//! row, as the pass over series computes values.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::filters::{slot_type, table_column};
use super::level::{Input, Level, Node};
use super::reduction::slots_of;
use super::resolve::Table;
use super::rows::ColumnValues;
use super::value::Value;
use crate::syntax::influxql::Operator;

/// Whether a condition holds for a row of a table: true or false.
pub(super) fn holds(condition: &Node, level: &Level, input: &Input, table: &Table) -> Expr {
    let slots = slots_of([condition]);
    let types = slots.iter().map(|slot| slot_type(&level.slots[*slot])).collect::<Vec<_>>();
    let arguments = slots.iter().map(|slot| table_column(&level.slots[*slot], &input.slots[*slot], table)).collect();
    let form = match types.is_empty() {
        true => TypeSignature::Nullary,
        false => TypeSignature::Exact(types),
    };
    let signature = Signature::new(form, Volatility::Immutable);
    let text = format!("{condition:?}");
    ScalarUDF::new_from_impl(Holds { text, condition: condition.clone(), slots, signature }).call(arguments)
}

#[derive(Debug)]
struct Holds {
    /// What tells it from others.
    text: String,
    condition: Node,
    /// Which slots the arguments are.
    slots: Vec<usize>,
    signature: Signature,
}

impl PartialEq for Holds {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.signature == other.signature
    }
}

impl Eq for Holds {}

impl Hash for Holds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for Holds {
    fn name(&self) -> &str {
        "influxql_condition"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = args.args.iter().map(|column| column.to_array(args.number_rows));
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        let mut rows = Rows { slots: &self.slots, columns: &columns, count: args.number_rows };
        let truths = rows.truths(&self.condition)?;
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(truths, None))))
    }
}

/// The rows that are decided on.
struct Rows<'a> {
    slots: &'a [usize],
    columns: &'a [ArrayRef],
    count: usize,
}

impl Rows<'_> {
    /// For which rows it is true.
    fn truths(&mut self, node: &Node) -> DataFusionResult<BooleanBuffer> {
        match node {
            Node::Literal(Value::Boolean(truth)) => return Ok(BooleanBuffer::collect_bool(self.count, |_| *truth)),
            Node::Binary { operator: operator @ (Operator::And | Operator::Or), left, right }
                if is_truth(left) && is_truth(right) =>
            {
                let (left, right) = (self.truths(left)?, self.truths(right)?);
                return Ok(if *operator == Operator::And { &left & &right } else { &left | &right });
            }
            Node::Binary { operator, left, right } => {
                if let (Node::Slot(slot), Node::Literal(value)) = (&**left, &**right)
                    && let Some(truths) = self.compared(*operator, *slot, value)?
                {
                    return Ok(truths);
                }
            }
            Node::Matches { value, regex, wanted } => {
                if let Node::Slot(slot) = &**value
                    && let Some(ColumnValues::String(texts, _)) = self.column(*slot)?
                {
                    // Neighbours are often alike.
                    let mut last: Option<(&str, bool)> = None;
                    let fits = |row: usize| {
                        let text = texts.value(row);
                        let known = last.filter(|(known, _)| *known == text);
                        let (_, fits) = *last.insert(known.unwrap_or_else(|| (text, regex.is_match(text) == *wanted)));
                        texts.is_valid(row) && fits
                    };
                    return Ok(BooleanBuffer::collect_bool(self.count, fits));
                }
            }
            _ => {}
        }
        self.one_by_one(node)
    }

    fn column(&self, slot: usize) -> DataFusionResult<Option<ColumnValues>> {
        let place = self.slots.iter().position(|known| *known == slot);
        place.map(|place| ColumnValues::of(&self.columns[place])).transpose()
    }

    /// A column compared with a constant; `None` if that is not of one kind.
    fn compared(&self, operator: Operator, slot: usize, value: &Value) -> DataFusionResult<Option<BooleanBuffer>> {
        Ok(match (self.column(slot)?, value) {
            (Some(ColumnValues::Float(values)), Value::Float(_) | Value::Integer(_)) => {
                let Some(number) = value.as_f64() else { return Ok(None) };
                let values = (values.nulls(), &values.values()[..]);
                comparison::<f64>(operator).map(|is| chosen(values.0, values.1, |value| is(&value, &number)))
            }
            (Some(ColumnValues::Integer(values)), Value::Integer(number)) => {
                let values = (values.nulls(), &values.values()[..]);
                comparison::<i64>(operator).map(|is| chosen(values.0, values.1, |value| is(&value, number)))
            }
            (Some(ColumnValues::String(texts, _)), Value::String(text)) => {
                let wanted = match operator {
                    Operator::Equal => true,
                    Operator::NotEqual => false,
                    _ => return Ok(None),
                };
                let is = |row: usize| texts.is_valid(row) && (texts.value(row) == &**text) == wanted;
                Some(BooleanBuffer::collect_bool(self.count, is))
            }
            _ => None,
        })
    }

    fn one_by_one(&self, node: &Node) -> DataFusionResult<BooleanBuffer> {
        let columns = self.columns.iter().map(ColumnValues::of).collect::<DataFusionResult<Vec<_>>>()?;
        let mut columns: Vec<(usize, ColumnValues)> = self.slots.iter().copied().zip(columns).collect();
        let mut slots = vec![Value::Null; self.slots.iter().max().map_or(0, |last| last + 1)];
        Ok(BooleanBuffer::collect_bool(self.count, |row| {
            for (slot, column) in &mut columns {
                slots[*slot] = column.value(row);
            }
            node.holds(&slots)
        }))
    }
}

/// Whether its value is true or false whatever is in the row.
fn is_truth(node: &Node) -> bool {
    match node {
        Node::Binary { operator, .. } => operator.is_condition(),
        Node::Matches { .. } | Node::Literal(Value::Boolean(_)) => true,
        _ => false,
    }
}

fn comparison<T: PartialOrd>(operator: Operator) -> Option<fn(&T, &T) -> bool> {
    Some(match operator {
        Operator::Equal => T::eq,
        Operator::NotEqual => T::ne,
        Operator::Less => T::lt,
        Operator::LessOrEqual => T::le,
        Operator::Greater => T::gt,
        Operator::GreaterOrEqual => T::ge,
        _ => return None,
    })
}

/// Nothing is neither equal nor unequal.
fn chosen<T: Copy>(nulls: Option<&arrow::buffer::NullBuffer>, values: &[T], is: impl Fn(T) -> bool) -> BooleanBuffer {
    let truths = BooleanBuffer::collect_bool(values.len(), |row| is(values[row]));
    match nulls {
        Some(nulls) => &truths & nulls.inner(),
        None => truths,
    }
}
