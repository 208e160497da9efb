//! Conditions on tags alone: those of `SHOW` and of what removes rows.

use std::collections::{BTreeMap, BTreeSet};

use super::level::Node;
use super::value::Value;
use crate::syntax::influxql::{Expression, Operator};

/// A condition on tags compares them with texts and patterns, and does nothing else.
pub(super) fn check(condition: &Expression) -> Result<(), String> {
    match condition {
        Expression::Binary { operator: Operator::And | Operator::Or, left, right } => {
            check(left)?;
            check(right)
        }
        Expression::Parenthesis(inner) => check(inner),
        Expression::Boolean(_) => Ok(()),
        Expression::Binary { operator: Operator::Equal | Operator::NotEqual, left, right } => {
            match (&**left, &**right) {
                (Expression::Column { .. }, Expression::String(_) | Expression::Column { .. }) => Ok(()),
                (Expression::String(_), Expression::Column { .. }) => Ok(()),
                _ => Err("invalid tag comparison operator".to_owned()),
            }
        }
        Expression::Binary { operator: Operator::Matches | Operator::MatchesNot, left, .. } => match &**left {
            Expression::Column { .. } => Ok(()),
            _ => Err("invalid tag comparison operator".to_owned()),
        },
        _ => Err("invalid tag comparison operator".to_owned()),
    }
}

/// A condition over all values that tags have in a measurement.
pub(super) fn holds_together(condition: &Expression, values: &BTreeMap<&str, Vec<String>>) -> bool {
    let has = |tag: &Expression, is: &dyn Fn(&str) -> bool, wanted: bool| {
        let Expression::Column { name, .. } = tag else { return false };
        values.get(name.as_str()).is_some_and(|values| values.iter().any(|value| is(value)) == wanted)
    };
    match condition {
        Expression::Parenthesis(inner) => holds_together(inner, values),
        Expression::Boolean(truth) => *truth,
        Expression::Binary { operator, left, right } => match (operator, &**left, &**right) {
            (Operator::And, ..) => holds_together(left, values) && holds_together(right, values),
            (Operator::Or, ..) => holds_together(left, values) || holds_together(right, values),
            (Operator::Equal | Operator::NotEqual, Expression::String(text), tag)
            | (Operator::Equal | Operator::NotEqual, tag, Expression::String(text)) => {
                has(tag, &|value| value == text, *operator == Operator::Equal)
            }
            (Operator::Matches | Operator::MatchesNot, tag, Expression::Regex(regex)) => {
                has(tag, &|value| regex.is_match(value), *operator == Operator::Matches)
            }
            _ => false,
        },
        _ => false,
    }
}

/// The names in a condition.
pub(super) fn columns<'a>(condition: &'a Expression, names: &mut BTreeSet<&'a str>) {
    match condition {
        Expression::Column { name, .. } => {
            names.insert(name);
        }
        Expression::Binary { left, right, .. } => {
            columns(left, names);
            columns(right, names);
        }
        Expression::Parenthesis(inner) => columns(inner, names),
        _ => {}
    }
}

/// Tags and texts that they have to have in whatever holds the condition, as far as it says that plainly.
pub(super) fn plain<'a>(condition: &'a Expression, tags: &[String]) -> Vec<(&'a str, &'a str)> {
    match condition {
        Expression::Parenthesis(inner) => plain(inner, tags),
        Expression::Binary { operator: Operator::And, left, right } => [plain(left, tags), plain(right, tags)].concat(),
        Expression::Binary { operator: Operator::Equal, left, right } => match (&**left, &**right) {
            (Expression::Column { name, .. }, Expression::String(text))
            | (Expression::String(text), Expression::Column { name, .. })
                if !text.is_empty() && tags.contains(name) =>
            {
                vec![(name, text)]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The condition over the values of these tags; any other name is an absent tag.
pub(super) fn of_values(condition: &Expression, tags: &[String]) -> Node {
    match condition {
        Expression::Column { name, .. } => match tags.iter().position(|tag| tag == name) {
            Some(slot) => Node::Slot(slot),
            None => Node::Literal(Value::String("".into())),
        },
        Expression::String(text) => Node::Literal(Value::String(text.as_str().into())),
        Expression::Boolean(value) => Node::Literal(Value::Boolean(*value)),
        Expression::Parenthesis(inner) => of_values(inner, tags),
        Expression::Binary { operator: operator @ (Operator::Matches | Operator::MatchesNot), left, right } => {
            match &**right {
                Expression::Regex(regex) => Node::Matches {
                    value: Box::new(of_values(left, tags)),
                    regex: regex.clone(),
                    wanted: *operator == Operator::Matches,
                },
                _ => Node::Literal(Value::Boolean(false)),
            }
        }
        Expression::Binary { operator, left, right } => Node::Binary {
            operator: *operator,
            left: Box::new(of_values(left, tags)),
            right: Box::new(of_values(right, tags)),
        },
        _ => Node::Literal(Value::Null),
    }
}
