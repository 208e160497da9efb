//! Which rows of a table a level reads, as filters of DataFusion.
//!
//! What a condition says of tags alone becomes comparisons, which rule out series and files. Anything else is decided by InfluxQL's
//! rules in a function ([`condition`](super::condition)), beside a weaker filter that leaves out files early where there is one.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion::common::{Column as ColumnName, ScalarValue};
use datafusion::functions::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, cast, col, lit, not, try_cast};

use super::super::functions::any_present;
use super::condition;
use super::level::{Input, Level, Node, Slot, SlotSource};
use super::resolve::Table;
use super::rows::arrow_type;
use super::value::{Type, Value};
use crate::model::TIME_COLUMN;
use crate::syntax::influxql::{Cast, Operator};

/// What every row that counts fulfils.
pub(super) fn filters(level: &Level, input: &Input, table: &Table) -> Vec<Expr> {
    let mut filters = within(read_bounds(level));
    if let Some(condition) = &level.condition {
        conditions(condition, level, input, table, &mut filters);
    }
    filters
}

/// The first and the last instant that any call reads.
pub(super) fn read_bounds(level: &Level) -> (i64, i64) {
    let wider = |bounds: (i64, i64), other: (i64, i64)| (bounds.0.min(other.0), bounds.1.max(other.1));
    level.calls.iter().map(|call| call.bounds).fold(level.bounds, wider)
}

/// Of the time, that it is between two instants.
pub(super) fn within(bounds: (i64, i64)) -> Vec<Expr> {
    let time = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
    let mut filters = Vec::new();
    if bounds.0 > super::time::TIME_MIN {
        filters.push(column(TIME_COLUMN).gt_eq(time(bounds.0)));
    }
    if bounds.1 < super::time::TIME_MAX {
        filters.push(column(TIME_COLUMN).lt_eq(time(bounds.1)));
    }
    filters
}

/// That a row has one of the fields that are asked for: else it is none.
pub(super) fn has_field(level: &Level, input: &Input) -> Expr {
    any_present(fields(level, input))
}

/// The fields of which a row has to have one, each once. Where no field is known there are no rows.
pub(super) fn fields<'a>(level: &Level, input: &'a Input) -> Vec<&'a String> {
    let mut fields: Vec<&String> = match level.calls.is_empty() {
        true => input
            .slots
            .iter()
            .zip(&level.slots)
            .filter(|(_, slot)| !slot.blank)
            .filter_map(|(source, _)| field(source))
            .collect(),
        false => level.calls.iter().filter_map(|call| field(&input.slots[call.slot])).collect(),
    };
    let mut known = HashSet::with_capacity(fields.len());
    fields.retain(|field| known.insert(*field));
    fields
}

/// The parts of a condition that are all to hold.
fn conditions(condition: &Node, level: &Level, input: &Input, table: &Table, filters: &mut Vec<Expr>) {
    if let Node::Binary { operator: Operator::And, left, right } = condition {
        conditions(left, level, input, table, filters);
        conditions(right, level, input, table, filters);
    } else if let Some(exactly) = exact(condition, input) {
        filters.push(exactly);
    } else {
        filters.extend(implied(condition, level, input));
        filters.push(condition::holds(condition, level, input, table));
    }
}

/// A condition on tags as comparisons; `None` if it is on something else.
///
/// There is no negation in conditions, so that what is neither true nor false may stand for false.
fn exact(condition: &Node, input: &Input) -> Option<Expr> {
    match condition {
        Node::Binary { operator: Operator::And, left, right } => Some(exact(left, input)?.and(exact(right, input)?)),
        Node::Binary { operator: Operator::Or, left, right } => Some(exact(left, input)?.or(exact(right, input)?)),
        Node::Binary { operator, left, right } => {
            let (Node::Slot(slot), Node::Literal(Value::String(text))) = (&**left, &**right) else { return None };
            let SlotSource::Tag(tag) = &input.slots[*slot] else { return None };
            // No tag is the empty text: it is absent then.
            match (operator, text.is_empty()) {
                (Operator::Equal, true) => Some(column(tag).is_null()),
                (Operator::Equal, false) => Some(column(tag).eq(lit(&**text))),
                (Operator::NotEqual, true) => Some(column(tag).is_not_null()),
                (Operator::NotEqual, false) => Some(column(tag).is_null().or(column(tag).not_eq(lit(&**text)))),
                _ => None,
            }
        }
        Node::Matches { value, regex, wanted: true } => {
            let (Node::Slot(slot), Some(texts)) = (&**value, regex.alternatives()) else { return None };
            let SlotSource::Tag(tag) = &input.slots[*slot] else { return None };
            let present = texts.iter().filter(|text| !text.is_empty()).map(|text| lit(text.as_str())).collect();
            let is_present = column(tag).in_list(present, false);
            Some(match texts.iter().any(String::is_empty) {
                true => is_present.or(column(tag).is_null()),
                false => is_present,
            })
        }
        _ => None,
    }
}

/// The field that a slot is.
pub(super) fn field(source: &SlotSource) -> Option<&String> {
    match source {
        SlotSource::Field(field) => Some(field),
        _ => None,
    }
}

/// What follows from a condition and can be decided by statistics: tags that are something, fields on one side of a number.
fn implied(condition: &Node, level: &Level, input: &Input) -> Option<Expr> {
    match condition {
        Node::Binary { operator: Operator::And, left, right } => {
            match (implied(left, level, input), implied(right, level, input)) {
                (Some(left), Some(right)) => Some(left.and(right)),
                (left, right) => left.or(right),
            }
        }
        Node::Binary { operator: Operator::Or, left, right } => {
            Some(implied(left, level, input)?.or(implied(right, level, input)?))
        }
        Node::Binary { operator, left, right } => match (&**left, &**right) {
            // `usage::integer <= 1` holds for 1.9: what a cast makes of a value is for the walk.
            (Node::Slot(slot), Node::Literal(value))
                if matches!(level.slots[*slot].cast, None | Some(Cast::Field | Cast::Tag)) =>
            {
                comparison(*operator, &input.slots[*slot], value)
            }
            _ => None,
        },
        Node::Matches { value, regex, wanted: true } => {
            let (Node::Slot(slot), Some(texts)) = (&**value, regex.alternatives()) else { return None };
            match (&input.slots[*slot], texts.iter().any(String::is_empty)) {
                (SlotSource::Tag(tag), false) => {
                    Some(column(tag).in_list(texts.iter().map(|text| lit(text.as_str())).collect(), false))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn comparison(operator: Operator, source: &SlotSource, value: &Value) -> Option<Expr> {
    match (source, value) {
        (SlotSource::Tag(tag), Value::String(text)) => match operator {
            Operator::Equal if !text.is_empty() => Some(column(tag).eq(lit(&**text))),
            Operator::NotEqual if text.is_empty() => Some(not(column(tag).is_null())),
            _ => None,
        },
        (SlotSource::Field(field), Value::Float(_) | Value::Integer(_)) => {
            // As floats, with room for what rounding does: the walk decides exactly.
            let number = value.as_f64()?;
            let room = number.abs() * 1e-9;
            let field = try_cast(col(ColumnName::new_unqualified(field)), DataType::Float64);
            match operator {
                Operator::Greater | Operator::GreaterOrEqual => Some(field.gt_eq(lit(number - room))),
                Operator::Less | Operator::LessOrEqual => Some(field.lt_eq(lit(number + room))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A column by its exact name.
pub(super) fn column(name: &str) -> Expr {
    Expr::Column(ColumnName::new_unqualified(name))
}

/// A slot as DataFusion computes it of the columns of a table.
pub(super) fn table_column(slot: &Slot, source: &SlotSource, table: &Table) -> Expr {
    let kind = slot_type(slot);
    let nothing = || lit(ScalarValue::try_from(&kind).unwrap_or(ScalarValue::Null));
    match source {
        SlotSource::Tag(tag) if slot.blank => text_or_blank(column(tag)),
        SlotSource::Tag(tag) => try_cast(column(tag), DataType::Utf8),
        SlotSource::Field(field) => {
            let native = table.measured.type_of(field);
            match arrow_type(native) {
                same if same == kind => column(field),
                _ if native.is_number() && slot.kind.is_number() => try_cast(column(field), kind),
                _ => nothing(),
            }
        }
        SlotSource::Time => cast(column(TIME_COLUMN), DataType::Int64),
        _ if slot.blank && kind == DataType::Utf8 => lit(""),
        _ => nothing(),
    }
}

/// How a slot is in Arrow. A name in a condition that nothing has is an absent tag.
pub(super) fn slot_type(slot: &Slot) -> DataType {
    match slot.kind {
        Type::Unknown if slot.blank => DataType::Utf8,
        kind => arrow_type(kind),
    }
}

/// A tag in a condition or of a series: what is absent is the empty text.
pub(super) fn text_or_blank(tag: Expr) -> Expr {
    coalesce(vec![try_cast(tag, DataType::Utf8), lit("")])
}
