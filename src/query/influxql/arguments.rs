//! Arguments of functions: how many, and of which kind.

use super::compile::DATE_PART;
use super::date_part::DatePart;
use super::holt_winters::{FORECAST_MAX, SEASON_MAX};
use super::time;
use crate::syntax::influxql::Expression;

type Result<T> = std::result::Result<T, String>;

/// `date_part('part', time)`.
pub(super) fn date_part(arguments: &[Expression]) -> Result<()> {
    match arguments {
        [Expression::String(part), Expression::Column { name, .. }] if time::is_time_name(name) => {
            DatePart::named(part).map(|_| ())
        }
        [_, _] => Err(format!("{DATE_PART}() takes the name of a part and the time: {DATE_PART}('hour', time)")),
        _ => Err(format!("invalid number of arguments for {DATE_PART}, expected 2, got {}", arguments.len())),
    }
}

/// `holt_winters(call, count, season)`, but for the call.
pub(super) fn holt_winters(name: &str, arguments: &[Expression]) -> Result<()> {
    count(name, arguments, 3, 3)?;
    match arguments[1] {
        Expression::Integer(rows) if rows <= 0 => {
            return Err(format!("second arg to {name} must be greater than 0, got {rows}"));
        }
        Expression::Integer(rows) if rows > FORECAST_MAX => {
            return Err(format!("second arg to {name} can be {FORECAST_MAX} at most, got {rows}"));
        }
        Expression::Integer(_) => {}
        _ => return Err(format!("expected integer argument as second arg in {name}")),
    }
    match arguments[2] {
        Expression::Integer(season) if season < 0 => {
            Err(format!("third arg to {name} cannot be negative, got {season}"))
        }
        Expression::Integer(season) if season > SEASON_MAX => {
            Err(format!("third arg to {name} can be {SEASON_MAX} at most, got {season}"))
        }
        Expression::Integer(_) => Ok(()),
        _ => Err(format!("expected integer argument as third arg in {name}")),
    }
}

/// The unit of `derivative` and its like, if there is one.
pub(super) fn unit(name: &str, unit: Option<&Expression>) -> Result<()> {
    match unit {
        None => Ok(()),
        Some(Expression::Duration(unit)) if *unit > 0 => Ok(()),
        Some(Expression::Duration(unit)) => Err(time::not_positive(*unit)),
        Some(_) if name == "integral" => Err("second argument must be a duration".to_owned()),
        Some(other) => {
            let kind = go_type(other);
            Err(format!("second argument to {name} must be a duration, got *influxql.{kind}"))
        }
    }
}

pub(super) fn count(name: &str, arguments: &[Expression], least: usize, most: usize) -> Result<()> {
    let got = arguments.len();
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(if least == most {
        format!("invalid number of arguments for {name}, expected {least}, got {got}")
    } else {
        format!("invalid number of arguments for {name}, expected at least {least} but no more than {most}, got {got}")
    })
}

pub(super) fn count_exactly(name: &str, arguments: &[Expression], expected: usize) -> Result<()> {
    count(name, arguments, expected, expected)
}

pub(super) fn period(name: &str, arguments: &[Expression]) -> Result<()> {
    match arguments[1] {
        Expression::Integer(period) if period >= 1 => {}
        Expression::Integer(_) => return Err(format!("{name} period must be greater than or equal to 1")),
        _ => return Err(format!("{name} period must be an integer")),
    }
    let least = i64::from(name == "triple_exponential_derivative");
    match arguments.get(2) {
        None | Some(Expression::Integer(-1)) => Ok(()),
        Some(Expression::Integer(hold)) if *hold >= least => Ok(()),
        Some(Expression::Integer(_)) => Err(format!("{name} hold period must be greater than or equal to {least}")),
        Some(_) => Err(format!("{name} hold period must be an integer")),
    }
}

pub(super) fn warm_up(name: &str, arguments: &[Expression], kinds: &[&str]) -> Result<()> {
    match arguments.get(3) {
        None => Ok(()),
        Some(Expression::String(kind)) if kinds.contains(&kind.as_str()) => Ok(()),
        Some(Expression::String(_)) => {
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
            Err(format!("{name} warmup type must be one of: {}", kinds.join(" ")))
        }
        Some(_) => Err(format!("{name} warmup type must be a string")),
    }
}

/// What InfluxDB's errors call the kind of an expression.
pub(super) fn go_type(expression: &Expression) -> &'static str {
    match expression {
        Expression::Column { .. } => "VarRef",
        Expression::Call { .. } => "Call",
        Expression::Distinct(_) => "Distinct",
        Expression::Wildcard(_) => "Wildcard",
        Expression::Regex(_) => "RegexLiteral",
        Expression::String(_) => "StringLiteral",
        Expression::Number(_) => "NumberLiteral",
        Expression::Integer(_) => "IntegerLiteral",
        Expression::Unsigned(_) => "UnsignedLiteral",
        Expression::Boolean(_) => "BooleanLiteral",
        Expression::Duration(_) => "DurationLiteral",
        Expression::Parenthesis(_) => "ParenExpr",
        Expression::Signed { .. } | Expression::Binary { .. } => "BinaryExpr",
    }
}
