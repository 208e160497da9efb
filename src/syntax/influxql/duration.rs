//! Spans of time as they are written: `90s`, `1h30m`, `2w`.

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// The nanoseconds that `text` means.
///
/// # Errors
/// The message for the user, if it is no duration or more than 292 years.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    const INVALID: &str = "invalid duration";
    let (mut rest, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if rest.is_empty() {
        return Err(INVALID.to_owned());
    }
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or(INVALID)?;
        let count: i64 = rest[..digits].parse().map_err(|_| INVALID)?;
        let (nanos, unit) = unit(&rest[digits..]).ok_or(INVALID)?;
        let span = count.checked_mul(nanos);
        sum = span
            .and_then(|span| sum.checked_add(span))
            .ok_or_else(|| format!("overflowed duration {count}{unit}: choose a smaller duration or INF"))?;
        rest = &rest[digits + unit.len()..];
    }
    Ok(if negative { -sum } else { sum })
}

/// The unit that `text` begins with: its nanoseconds and how it is written.
fn unit(text: &str) -> Option<(i64, &'static str)> {
    const UNITS: [(&str, i64); 10] = [
        ("ns", 1),
        ("u", MICROSECOND),
        ("µ", MICROSECOND),
        ("ms", MILLISECOND),
        ("m", MINUTE),
        ("s", SECOND),
        ("h", HOUR),
        ("d", DAY),
        ("w", WEEK),
        ("μ", MICROSECOND),
    ];
    UNITS.iter().find(|(name, _)| text.starts_with(name)).map(|(name, nanos)| (*nanos, *name))
}

/// The shortest way to write a span with one unit.
pub fn format(nanos: i64) -> String {
    const UNITS: [(i64, &str); 8] = [
        (WEEK, "w"),
        (DAY, "d"),
        (HOUR, "h"),
        (MINUTE, "m"),
        (SECOND, "s"),
        (MILLISECOND, "ms"),
        (MICROSECOND, "u"),
        (1, "ns"),
    ];
    match UNITS.iter().find(|(unit, _)| nanos % unit == 0) {
        Some((unit, name)) if nanos != 0 => format!("{}{name}", nanos / unit),
        _ => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_sum_of_counted_units() {
        for (text, nanos) in [
            ("0s", 0),
            ("10ns", 10),
            ("1u", 1_000),
            ("1µ", 1_000),
            ("1ms", MILLISECOND),
            ("1h30m", 90 * MINUTE),
            ("2w", 2 * WEEK),
            ("1d1d", 2 * DAY),
            ("-5s", -5 * SECOND),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
        for text in ["", "-", "s", "1", "1y", "1n", "1mo", "1h2", "99999999999999999999s"] {
            assert_eq!(parse(text), Err("invalid duration".to_owned()), "{text}");
        }
        let overflow = "overflowed duration 20000w: choose a smaller duration or INF";
        assert_eq!(parse("20000w"), Err(overflow.to_owned()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for nanos in [0, 1, -1, 1_500, 60 * SECOND, 90 * MINUTE, DAY, 14 * DAY, i64::MAX, -SECOND] {
            assert_eq!(parse(&format(nanos)), Ok(nanos), "{}", format(nanos));
        }
    }
}
