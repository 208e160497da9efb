//! Constants in expressions, computed before anything is read.

use super::value::{Value, binary};
use crate::syntax::influxql::{Expression, Operator};

/// Whether it is a value by itself.
pub(super) fn is_literal(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::String(_)
            | Expression::Number(_)
            | Expression::Integer(_)
            | Expression::Unsigned(_)
            | Expression::Boolean(_)
            | Expression::Duration(_)
            | Expression::Regex(_)
    )
}

/// The expression with everything computed that holds no column, and no parentheses around the whole.
pub(super) fn reduce(expression: &Expression) -> Expression {
    match fold(expression) {
        Expression::Parenthesis(inner) => *inner,
        other => other,
    }
}

fn fold(expression: &Expression) -> Expression {
    match expression {
        Expression::Binary { operator, left, right } => {
            let (left, right) = (fold(left), fold(right));
            folded(*operator, &left, &right).unwrap_or_else(|| Expression::Binary {
                operator: *operator,
                left: Box::new(left),
                right: Box::new(right),
            })
        }
        Expression::Parenthesis(inner) => match fold(inner) {
            // What stands alone needs no parentheses.
            inner @ Expression::Binary { .. } => Expression::Parenthesis(Box::new(inner)),
            inner => inner,
        },
        Expression::Signed { negative, operand } => match (fold(operand), negative) {
            (Expression::Integer(value), true) => Expression::Integer(value.wrapping_neg()),
            (Expression::Number(value), true) => Expression::Number(-value),
            (Expression::Duration(value), true) => Expression::Duration(value.wrapping_neg()),
            (literal, false) if is_literal(&literal) => literal,
            (operand, _) => Expression::Signed { negative: *negative, operand: Box::new(operand) },
        },
        Expression::Call { name, arguments } => {
            Expression::Call { name: name.clone(), arguments: arguments.iter().map(fold).collect() }
        }
        Expression::Distinct(name) => {
            let column = Expression::Column { name: name.clone(), cast: None };
            Expression::Call { name: "distinct".to_owned(), arguments: vec![column] }
        }
        other => other.clone(),
    }
}

fn folded(operator: Operator, left: &Expression, right: &Expression) -> Option<Expression> {
    if let (Expression::Duration(left), operator) = (left, operator) {
        let nanos = match (operator, right) {
            (Operator::Add, Expression::Duration(right)) => left.wrapping_add(*right),
            (Operator::Subtract, Expression::Duration(right)) => left.wrapping_sub(*right),
            (Operator::Multiply, Expression::Integer(right)) => left.wrapping_mul(*right),
            (Operator::Divide, Expression::Integer(right)) => left.checked_div(*right).unwrap_or(0),
            _ => return None,
        };
        return Some(Expression::Duration(nanos));
    }
    let value = |expression: &Expression| match expression {
        Expression::Integer(value) => Some(Value::Integer(*value)),
        Expression::Unsigned(value) => Some(Value::Unsigned(*value)),
        Expression::Number(value) => Some(Value::Float(*value)),
        Expression::Boolean(value) => Some(Value::Boolean(*value)),
        _ => None,
    };
    match binary(operator, &value(left)?, &value(right)?) {
        Value::Integer(value) => Some(Expression::Integer(value)),
        Value::Unsigned(value) => Some(Expression::Unsigned(value)),
        Value::Float(value) => Some(Expression::Number(value)),
        Value::Boolean(value) => Some(Expression::Boolean(value)),
        Value::Null | Value::String(_) => None,
    }
}
