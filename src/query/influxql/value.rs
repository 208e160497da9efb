//! Values and what operators make of them.
//!
//! Numbers of different types meet as in InfluxDB 1: a float makes the other a float, whole numbers wrap around, division of
//! whole numbers is exact, and whatever is divided by zero is 0. What doesn't fit together is false where it is compared and
//! nothing where it is computed, never an error: types are checked when the statement is resolved.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::syntax::influxql::{Operator, Regex};

/// One value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    String(Arc<str>),
    Boolean(bool),
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Type {
    /// A name that nothing has.
    Unknown,
    Float,
    Integer,
    Unsigned,
    String,
    Boolean,
    Tag,
}

impl Type {
    /// How errors name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Tag => "tag",
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Float | Self::Integer | Self::Unsigned)
    }

    fn rank(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Tag => 1,
            Self::Boolean => 2,
            Self::String => 3,
            Self::Unsigned => 4,
            Self::Integer => 5,
            Self::Float => 6,
        }
    }

    /// The type of a name that has this type in one place and `other` in another.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Some value of the type.
    fn sample(self) -> Value {
        match self {
            Self::Unknown => Value::Null,
            Self::Float => Value::Float(0.0),
            Self::Integer => Value::Integer(0),
            Self::Unsigned => Value::Unsigned(0),
            Self::String | Self::Tag => Value::String("".into()),
            Self::Boolean => Value::Boolean(false),
        }
    }
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            Self::Unsigned(value) => Some(*value as f64),
            _ => None,
        }
    }

    pub(super) fn data_type(&self) -> Type {
        match self {
            Self::Null => Type::Unknown,
            Self::Float(_) => Type::Float,
            Self::Integer(_) => Type::Integer,
            Self::Unsigned(_) => Type::Unsigned,
            Self::String(_) => Type::String,
            Self::Boolean(_) => Type::Boolean,
        }
    }

    /// The order in which values are found to be less or greater; only of values of one type.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            _ => self.as_f64().unwrap_or(f64::NAN).total_cmp(&other.as_f64().unwrap_or(f64::NAN)),
        }
    }

    /// The value as one of another type: numbers among each other; else nothing.
    #[must_use]
    pub(super) fn cast(&self, to: Type) -> Self {
        match (self, to) {
            (Self::Float(_), Type::Float)
            | (Self::Integer(_), Type::Integer)
            | (Self::Unsigned(_), Type::Unsigned)
            | (Self::String(_), Type::String | Type::Tag)
            | (Self::Boolean(_), Type::Boolean) => self.clone(),
            (Self::Integer(value), Type::Float) => Self::Float(*value as f64),
            (Self::Unsigned(value), Type::Float) => Self::Float(*value as f64),
            (Self::Float(value), Type::Integer) => Self::Integer(*value as i64),
            (Self::Unsigned(value), Type::Integer) => Self::Integer(*value as i64),
            (Self::Float(value), Type::Unsigned) => Self::Unsigned(*value as u64),
            (Self::Integer(value), Type::Unsigned) => Self::Unsigned(*value as u64),
            _ => Self::Null,
        }
    }

    /// A number of `fill()` as a value of the column: nothing of text or truth can be a number, so these get what is empty.
    #[must_use]
    pub(super) fn fill_cast(&self, to: Type) -> Self {
        match to {
            Type::Boolean => Self::Boolean(false),
            Type::String | Type::Tag => Self::String("".into()),
            Type::Unknown => Self::Null,
            to => self.cast(to),
        }
    }
}

/// `left operator right`.
pub(super) fn binary(operator: Operator, left: &Value, right: &Value) -> Value {
    // Nothing is false beside a truth value.
    let nothing = Value::Boolean(false);
    let (left, right) = match (left, right) {
        (Value::Null, Value::Boolean(_)) => (&nothing, right),
        (Value::Boolean(_), Value::Null) => (left, &nothing),
        both => both,
    };
    let result =
        match (left, right) {
            (Value::Boolean(left), Value::Boolean(right)) => boolean(operator, *left, *right),
            (Value::Integer(left), Value::Integer(right)) => integer(operator, *left, *right),
            (Value::Unsigned(left), Value::Unsigned(right)) => unsigned(operator, *left, *right),
            (Value::Integer(left), Value::Unsigned(right)) => mixed(operator, i128::from(*left), i128::from(*right))
                .or_else(|| unsigned(operator, *left as u64, *right)),
            (Value::Unsigned(left), Value::Integer(right)) => mixed(operator, i128::from(*left), i128::from(*right))
                .or_else(|| unsigned(operator, *left, *right as u64)),
            (Value::String(left), Value::String(right)) => match operator {
                Operator::Equal => Some(Value::Boolean(left == right)),
                Operator::NotEqual => Some(Value::Boolean(left != right)),
                _ => None,
            },
            _ => match (left.as_f64(), right.as_f64()) {
                (Some(left), Some(right)) => float(operator, left, right),
                _ => None,
            },
        };
    result.unwrap_or(if operator.is_condition() { Value::Boolean(false) } else { Value::Null })
}

fn boolean(operator: Operator, left: bool, right: bool) -> Option<Value> {
    Some(Value::Boolean(match operator {
        Operator::And | Operator::BitAnd => left && right,
        Operator::Or | Operator::BitOr => left || right,
        Operator::BitXor | Operator::NotEqual => left != right,
        Operator::Equal => left == right,
        _ => return None,
    }))
}

fn compare<T: PartialOrd + Copy>(operator: Operator, left: T, right: T) -> Option<Value> {
    Some(Value::Boolean(match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        Operator::GreaterOrEqual => left >= right,
        _ => return None,
    }))
}

fn float(operator: Operator, left: f64, right: f64) -> Option<Value> {
    compare(operator, left, right).or_else(|| {
        Some(Value::Float(match operator {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide if right == 0.0 => 0.0,
            Operator::Divide => left / right,
            Operator::Modulo => left % right,
            _ => return None,
        }))
    })
}

fn integer(operator: Operator, left: i64, right: i64) -> Option<Value> {
    compare(operator, left, right).or_else(|| {
        Some(Value::Integer(match operator {
            Operator::Add => left.wrapping_add(right),
            Operator::Subtract => left.wrapping_sub(right),
            Operator::Multiply => left.wrapping_mul(right),
            Operator::Divide if right == 0 => return Some(Value::Float(0.0)),
            Operator::Divide => return Some(Value::Float(left as f64 / right as f64)),
            Operator::Modulo => left.checked_rem(right).unwrap_or(0),
            Operator::BitAnd => left & right,
            Operator::BitOr => left | right,
            Operator::BitXor => left ^ right,
            _ => return None,
        }))
    })
}

fn unsigned(operator: Operator, left: u64, right: u64) -> Option<Value> {
    compare(operator, left, right).or_else(|| {
        Some(Value::Unsigned(match operator {
            Operator::Add => left.wrapping_add(right),
            Operator::Subtract => left.wrapping_sub(right),
            Operator::Multiply => left.wrapping_mul(right),
            Operator::Divide => left.checked_div(right).unwrap_or(0),
            Operator::Modulo => left.checked_rem(right).unwrap_or(0),
            Operator::BitAnd => left & right,
            Operator::BitOr => left | right,
            Operator::BitXor => left ^ right,
            _ => return None,
        }))
    })
}

/// Numbers with and without sign compare by what they are.
fn mixed(operator: Operator, left: i128, right: i128) -> Option<Value> {
    compare(operator, left, right)
}

/// `text =~ regex`, `text !~ regex`: what is no text neither matches nor doesn't.
pub(super) fn matches(value: &Value, regex: &Regex, wanted: bool) -> Value {
    Value::Boolean(matches!(value, Value::String(text) if regex.is_match(text) == wanted))
}

/// The type of `left operator right`; `None` if they don't fit together.
pub(super) fn binary_type(operator: Operator, left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (Type::Unknown, other) | (other, Type::Unknown) => Some(other),
        // A tag is text that is never computed with.
        (Type::Tag, _) | (_, Type::Tag) if !operator.is_condition() => None,
        _ => match binary(operator, &left.sample(), &right.sample()).data_type() {
            Type::Unknown => None,
            result => Some(result),
        },
    }
}

/// What mathematical functions there are, and how many arguments they take.
pub(super) fn math_arguments(name: &str) -> Option<usize> {
    match name {
        "abs" | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "exp" | "ln" | "log2" | "log10" | "sqrt"
        | "floor" | "ceil" | "round" => Some(1),
        "atan2" | "pow" | "log" => Some(2),
        _ => None,
    }
}

/// Which function of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Math {
    Abs,
    Ceil,
    Floor,
    Round,
    /// Any other, by name: its result is a float.
    Float(&'static str),
}

impl Math {
    pub(super) fn named(name: &str) -> Option<Self> {
        const FLOAT: [&str; 14] =
            ["sin", "cos", "tan", "asin", "acos", "atan", "exp", "ln", "log2", "log10", "sqrt", "atan2", "pow", "log"];
        match name {
            "abs" => Some(Self::Abs),
            "ceil" => Some(Self::Ceil),
            "floor" => Some(Self::Floor),
            "round" => Some(Self::Round),
            _ => FLOAT.iter().find(|known| **known == name).map(|known| Self::Float(known)),
        }
    }

    pub(super) fn result(self, argument: Type) -> Type {
        match self {
            Self::Float(_) => Type::Float,
            // What is no number stays what it is, and is nothing.
            _ => argument,
        }
    }

    pub(super) fn call(self, arguments: &[Value]) -> Value {
        match (self, arguments) {
            (Self::Abs, [Value::Integer(value)]) => Value::Integer(value.wrapping_abs()),
            (
                Self::Abs | Self::Ceil | Self::Floor | Self::Round,
                [whole @ (Value::Integer(_) | Value::Unsigned(_))],
            ) => whole.clone(),
            (Self::Abs, [Value::Float(value)]) => Value::Float(value.abs()),
            (Self::Ceil, [Value::Float(value)]) => Value::Float(value.ceil()),
            (Self::Floor, [Value::Float(value)]) => Value::Float(value.floor()),
            (Self::Round, [Value::Float(value)]) => Value::Float(value.round()),
            (Self::Float(name), [value]) => {
                value.as_f64().and_then(|value| one(name, value)).map_or(Value::Null, Value::Float)
            }
            (Self::Float(name), [first, second]) => match (first.as_f64(), second.as_f64()) {
                (Some(first), Some(second)) => two(name, first, second).map_or(Value::Null, Value::Float),
                _ => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

fn one(name: &str, value: f64) -> Option<f64> {
    Some(match name {
        "sin" => value.sin(),
        "cos" => value.cos(),
        "tan" => value.tan(),
        "asin" => value.asin(),
        "acos" => value.acos(),
        "atan" => value.atan(),
        "exp" => value.exp(),
        "ln" => value.ln(),
        "log2" => value.log2(),
        "log10" => value.log10(),
        "sqrt" => value.sqrt(),
        _ => return None,
    })
}

fn two(name: &str, first: f64, second: f64) -> Option<f64> {
    Some(match name {
        "atan2" => first.atan2(second),
        "pow" => first.powf(second),
        "log" => first.ln() / second.ln(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_meet_as_in_influxdb() {
        use Operator::*;
        let (i, f, u) = (Value::Integer, Value::Float, Value::Unsigned);
        for (left, operator, right, result) in [
            (i(7), Divide, i(2), f(3.5)),
            (i(7), Divide, i(0), f(0.0)),
            (f(7.0), Divide, i(0), f(0.0)),
            (i(7), Modulo, i(0), i(0)),
            (i(i64::MAX), Add, i(1), i(i64::MIN)),
            (i(7), Add, f(0.5), f(7.5)),
            (u(7), Subtract, i(8), u(u64::MAX)),
            (i(-1), Less, u(0), Value::Boolean(true)),
            (f(1.0), BitAnd, i(1), Value::Null),
            (Value::Null, Add, i(1), Value::Null),
            (Value::Null, NotEqual, i(1), Value::Boolean(false)),
            (Value::Null, Equal, Value::Boolean(false), Value::Boolean(true)),
            (Value::String("1".into()), NotEqual, i(1), Value::Boolean(false)),
            (Value::String("b".into()), Greater, Value::String("a".into()), Value::Boolean(false)),
        ] {
            assert_eq!(binary(operator, &left, &right), result, "{left:?} {operator} {right:?}");
        }
    }
}
