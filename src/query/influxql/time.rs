//! Conditions on time: cut out of a `WHERE` wherever they stand, they make one range.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::syntax::influxql::{Expression, Operator, format_duration};

/// The first instant of InfluxDB, in nanoseconds.
pub(super) const TIME_MIN: i64 = i64::MIN + 2;

/// The last instant of InfluxDB, in nanoseconds.
pub(super) const TIME_MAX: i64 = i64::MAX - 1;

/// The instants from `min` to `max`, both included; a bound that is not said is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bounds {
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
}

impl Bounds {
    /// The instants that are in both.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        let later = |a: Option<i64>, b: Option<i64>| a.max(b);
        let earlier = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { min: later(self.min, other.min), max: earlier(self.max, other.max) }
    }
}

/// What a statement's times are relative to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// The instant of the statement, in nanoseconds.
    pub(super) nanos: i64,
    /// Where times without a zone are local.
    pub(super) zone: Option<Tz>,
}

/// Parts a condition into that on rows and that on time.
///
/// # Errors
/// In the words of InfluxDB, what is no condition.
pub(super) fn split(condition: &Expression, now: Now) -> Result<(Option<Expression>, Bounds), String> {
    match condition {
        Expression::Binary { operator: operator @ (Operator::And | Operator::Or), left, right } => {
            let (left, left_bounds) = split(left, now)?;
            let (right, right_bounds) = split(right, now)?;
            // Bounds hold together, even under OR: there is one range.
            let bounds = left_bounds.and(right_bounds);
            let rest = match (left, right) {
                (Some(left), Some(right)) => {
                    let (left, right) = (Box::new(left), Box::new(right));
                    Some(Expression::Binary { operator: *operator, left, right })
                }
                (left, right) => left.or(right),
            };
            Ok((rest, bounds))
        }
        Expression::Binary { operator, left, right } => {
            if is_time(left) {
                return Ok((None, bounds(*operator, right, now)?));
            }
            if is_time(right) {
                return Ok((None, bounds(mirrored(*operator), left, now)?));
            }
            Ok((Some(condition.clone()), Bounds::default()))
        }
        Expression::Parenthesis(inner) => {
            let (rest, bounds) = split(inner, now)?;
            Ok((rest.map(|rest| Expression::Parenthesis(Box::new(rest))), bounds))
        }
        Expression::Boolean(_) => Ok((Some(condition.clone()), Bounds::default())),
        other => Err(format!("invalid condition expression: {other}")),
    }
}

fn is_time(expression: &Expression) -> bool {
    matches!(expression, Expression::Column { name, .. } if is_time_name(name))
}

/// Whether a name is that of the time, in whatever case.
pub(super) fn is_time_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("time")
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        other => other,
    }
}

/// `time operator value`.
fn bounds(operator: Operator, value: &Expression, now: Now) -> Result<Bounds, String> {
    let value = match (instant(value, now)?, value) {
        // A text that looks like a time is one where nothing else can be meant.
        (Literal::Text(text), _) => match parse_time(&text, now.zone) {
            Some(time) => Literal::Time(time?),
            None => Literal::Text(text),
        },
        (literal, _) => literal,
    };
    let time = match value {
        Literal::Time(time) => within(time)?,
        Literal::Duration(nanos) | Literal::Integer(nanos) => nanos,
        Literal::Number(number) => number as i64,
        Literal::Text(_) => return Err(incompatible("StringLiteral")),
        Literal::Other(kind) => return Err(incompatible(kind)),
    };
    Ok(match operator {
        Operator::Greater => Bounds { min: Some(time.saturating_add(1)), max: None },
        Operator::GreaterOrEqual => Bounds { min: Some(time), max: None },
        Operator::Less => Bounds { min: None, max: Some(time.saturating_sub(1)) },
        Operator::LessOrEqual => Bounds { min: None, max: Some(time) },
        Operator::Equal => Bounds { min: Some(time), max: Some(time) },
        other => return Err(format!("invalid time comparison operator: {other}")),
    })
}

fn incompatible(kind: &str) -> String {
    format!("invalid operation: time and *influxql.{kind} are not compatible")
}

fn within(time: i128) -> Result<i64, String> {
    let side = if time > i128::from(TIME_MAX) {
        "overflows"
    } else if time <= i128::from(TIME_MIN) {
        "underflows"
    } else {
        return Ok(time as i64);
    };
    let seconds = i64::try_from(time.div_euclid(1_000_000_000)).unwrap_or_default();
    let shown = DateTime::from_timestamp(seconds, 0)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    Err(format!("time {shown} {side} time literal"))
}

/// What an expression beside `time` comes to.
enum Literal {
    /// An instant in nanoseconds; more than 64 bits, so that one out of range is known as such.
    Time(i128),
    Duration(i64),
    Integer(i64),
    Number(f64),
    Text(String),
    /// Something else, by the name that InfluxDB gives it.
    Other(&'static str),
}

fn instant(expression: &Expression, now: Now) -> Result<Literal, String> {
    Ok(match expression {
        Expression::Integer(value) => Literal::Integer(*value),
        Expression::Unsigned(_) => Literal::Other("UnsignedLiteral"),
        Expression::Number(value) => Literal::Number(*value),
        Expression::Duration(value) => Literal::Duration(*value),
        Expression::String(text) => Literal::Text(text.clone()),
        Expression::Parenthesis(inner) => instant(inner, now)?,
        Expression::Call { name, arguments } if name == "now" && arguments.is_empty() => {
            Literal::Time(i128::from(now.nanos))
        }
        Expression::Binary { operator, left, right } => {
            let (left, right) = (instant(left, now)?, instant(right, now)?);
            arithmetic(*operator, left, right, now)?
        }
        Expression::Signed { negative, operand } => {
            let sign = Literal::Integer(if *negative { -1 } else { 1 });
            arithmetic(Operator::Multiply, sign, instant(operand, now)?, now)?
        }
        Expression::Boolean(_) => Literal::Other("BooleanLiteral"),
        Expression::Column { .. } => Literal::Other("VarRef"),
        Expression::Call { .. } => Literal::Other("Call"),
        Expression::Regex(_) => Literal::Other("RegexLiteral"),
        Expression::Wildcard(_) => Literal::Other("Wildcard"),
        Expression::Distinct(_) => Literal::Other("Distinct"),
    })
}

fn arithmetic(operator: Operator, left: Literal, right: Literal, now: Now) -> Result<Literal, String> {
    use Literal::{Duration, Integer, Number, Text, Time};
    let timed = |literal: Literal| -> Result<Literal, String> {
        match literal {
            Text(text) => match parse_time(&text, now.zone) {
                Some(time) => time.map(Time),
                None => Ok(Text(text)),
            },
            other => Ok(other),
        }
    };
    let (left, right) = (timed(left)?, timed(right)?);
    Ok(match (operator, left, right) {
        (Operator::Add, Time(time), Duration(span) | Integer(span)) => Time(time + i128::from(span)),
        (Operator::Add, Duration(span) | Integer(span), Time(time)) => Time(time + i128::from(span)),
        (Operator::Subtract, Time(time), Duration(span) | Integer(span)) => Time(time - i128::from(span)),
        (Operator::Subtract, Time(a), Time(b)) => Duration(i64::try_from(a - b).unwrap_or(i64::MAX)),
        (Operator::Add, Duration(a), Duration(b)) => Duration(a.wrapping_add(b)),
        (Operator::Subtract, Duration(a), Duration(b)) => Duration(a.wrapping_sub(b)),
        (Operator::Add, Integer(a), Duration(b)) => Time(i128::from(a) + i128::from(b)),
        (Operator::Subtract, Integer(a), Duration(b)) => Time(i128::from(a) - i128::from(b)),
        (Operator::Multiply, Duration(a), Integer(b)) | (Operator::Multiply, Integer(b), Duration(a)) => {
            Duration(a.wrapping_mul(b))
        }
        (Operator::Multiply, Duration(a), Number(b)) => Duration(a.wrapping_mul(b as i64)),
        (Operator::Divide, Duration(a), Integer(b)) => Duration(a.checked_div(b).unwrap_or(0)),
        (Operator::Divide, Duration(a), Number(b)) => Duration(a.checked_div(b as i64).unwrap_or(0)),
        (Operator::Add, Integer(a), Integer(b)) => Integer(a.wrapping_add(b)),
        (Operator::Subtract, Integer(a), Integer(b)) => Integer(a.wrapping_sub(b)),
        (Operator::Multiply, Integer(a), Integer(b)) => Integer(a.wrapping_mul(b)),
        (Operator::Modulo, Integer(a), Integer(b)) => Integer(a.checked_rem(b).unwrap_or(0)),
        (operator, a, b) => match (number(&a), number(&b)) {
            (Some(a), Some(b)) => match operator {
                Operator::Add => Number(a + b),
                Operator::Subtract => Number(a - b),
                Operator::Multiply => Number(a * b),
                Operator::Divide => Number(if b == 0.0 { 0.0 } else { a / b }),
                _ => Literal::Other("BinaryExpr"),
            },
            _ => Literal::Other("BinaryExpr"),
        },
    })
}

fn number(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Integer(value) => Some(*value as f64),
        Literal::Number(value) => Some(*value),
        _ => None,
    }
}

/// The instant that a text says: `2024-01-01T00:00:00Z`, `2024-01-01 00:00:00.5`, `2024-01-01`; `None` if it does not even
/// look like one.
fn parse_time(text: &str, zone: Option<Tz>) -> Option<Result<i128, String>> {
    let looks = text.len() >= 10
        && text
            .bytes()
            .take(10)
            .enumerate()
            .all(|(n, byte)| if n == 4 || n == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    if !looks {
        return None;
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN)));
    let utc = match local {
        Some(local) => Some(from_local(local, zone.unwrap_or(Tz::UTC))),
        None => DateTime::parse_from_rfc3339(text).ok().map(|time| time.naive_utc()),
    };
    Some(utc.ok_or_else(|| "invalid timestamp string".to_owned()).map(|utc| {
        let utc = utc.and_utc();
        i128::from(utc.timestamp()) * 1_000_000_000 + i128::from(utc.timestamp_subsec_nanos())
    }))
}

/// The instant of a local time; of two the first, and where clocks skip it, as far behind the skip.
fn from_local(local: NaiveDateTime, zone: Tz) -> NaiveDateTime {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => time.naive_utc(),
        LocalResult::None => {
            let before = local - chrono::Duration::hours(3);
            let shift = zone.from_local_datetime(&before).earliest().map(|time| before - time.naive_utc());
            local - shift.unwrap_or_default()
        }
    }
}

/// The offset of `time(…)` that a text says, as an instant.
pub(super) fn offset_of_text(text: &str, zone: Option<Tz>) -> Option<Result<i128, String>> {
    parse_time(text, zone)
}

/// What a span that must be positive is called in errors.
pub(super) fn not_positive(nanos: i64) -> String {
    format!("duration argument must be positive, got {}", format_duration(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::influxql::{Statement, parse};

    fn where_(condition: &str, zone: Option<Tz>) -> Result<(String, Bounds), String> {
        let mut statements = parse(&format!("SELECT a FROM b WHERE {condition}"), &[]).unwrap();
        let Statement::Select(select) = statements.remove(0) else { panic!() };
        let now = Now { nanos: 1_000_000_000_000, zone };
        let (rest, bounds) = split(&select.condition.unwrap(), now)?;
        Ok((rest.map_or_else(String::new, |rest| rest.to_string()), bounds))
    }

    #[track_caller]
    fn check(condition: &str, rest: &str, min: Option<i64>, max: Option<i64>) {
        assert_eq!(where_(condition, None), Ok((rest.to_owned(), Bounds { min, max })), "{condition}");
    }

    #[test]
    fn time_is_cut_out_wherever_it_stands() {
        check("time > 5", "", Some(6), None);
        check("5 >= time AND host = 'a'", "host = 'a'", None, Some(5));
        check(
            "(time >= 1 OR host = 'a') AND (usage > 1 OR \"TIME\" < 9)",
            "(host = 'a') AND (usage > 1)",
            Some(1),
            Some(8),
        );
        check("time = 7 AND time = 8", "", Some(8), Some(7));
        check("time > -1h", "", Some(-3_600_000_000_000 + 1), None);
    }

    #[test]
    fn an_instant_can_be_said_in_many_ways() {
        let second = 1_000_000_000;
        check("time >= '1970-01-01T00:00:10Z'", "", Some(10 * second), None);
        check("time >= '1970-01-01T01:00:10.5+01:00'", "", Some(10 * second + second / 2), None);
        check("time >= '1970-01-01 00:00:10.25'", "", Some(10 * second + second / 4), None);
        check("time >= '1970-01-02'", "", Some(86_400 * second), None);
        check("time >= '1970-01-02' - 1d + 10s", "", Some(10 * second), None);
        check("time >= now() - 10s * 10", "", Some(900 * second), None);
        check("time >= 10s", "", Some(10 * second), None);
        check("time >= 10000000000 + 10s", "", Some(20 * second), None);
        check("time > 1.5", "", Some(2), None);
        let berlin = Some(Tz::Europe__Berlin);
        assert_eq!(where_("time >= '1970-01-02'", berlin).unwrap().1.min, Some(82_800 * second));
        // 02:30 does not exist on that day.
        assert_eq!(where_("time >= '2024-03-31 02:30:00'", berlin).unwrap().1.min, Some(1_711_848_600 * second));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (condition, error) in [
            ("time != 5", "invalid time comparison operator: !="),
            ("time = 'x'", "invalid operation: time and *influxql.StringLiteral are not compatible"),
            ("time > true", "invalid operation: time and *influxql.BooleanLiteral are not compatible"),
            ("usage", "invalid condition expression: usage"),
            ("time > '2020-99-99'", "invalid timestamp string"),
            ("time > '9999-01-01'", "time 9999-01-01T00:00:00Z overflows time literal"),
            ("time > '1066-01-01'", "time 1066-01-01T00:00:00Z underflows time literal"),
        ] {
            assert_eq!(where_(condition, None), Err(error.to_owned()), "{condition}");
        }
    }
}
