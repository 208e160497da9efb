//! The instants that bound time in a text of SQL.
//!
//! Found are comparisons of a column `time` with an instant or with `now()` less a fixed span, as they stand alone between `AND`s. Whether each of
//! them is a bound of time in the plan too is seen there ([`StandIns`]); here it is no matter when something is taken for one that is none,
//! or not found.

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use chrono::DateTime;

use super::stand_ins::StandIns;

/// More are not looked for.
const INSTANTS_MAX: usize = 8;

/// What may follow a comparison.
const FOLLOWERS: [&str; 4] = ["AND", "GROUP", "ORDER", "LIMIT"];

/// The instants of a text, where they stand.
#[derive(Debug)]
pub(super) struct Instants(Vec<Found>);

#[derive(Debug)]
struct Found {
    start: usize,
    end: usize,
    instant: Instant,
}

/// In nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instant {
    At(i64),
    /// So long ago.
    Ago(i64),
}

impl Instants {
    /// Those that bound the time of a query. `None` if there are none, if it is no query, or if it is written in a way that is not gone into here.
    pub(super) fn of(text: &str) -> Option<Self> {
        let begin = text.trim_start();
        let is_query = starts_with_word(begin, "SELECT") || starts_with_word(begin, "WITH");
        let found = if is_query { find(text)? } else { Vec::new() };
        (1..=INSTANTS_MAX).contains(&found.len()).then_some(Self(found))
    }

    /// The text with stand-ins. `now` is what `now()` says, in nanoseconds.
    pub(super) fn with_stand_ins(&self, text: &str, now: i64) -> (String, StandIns) {
        let Self(found) = self;
        let meant = found.iter().map(|found| match found.instant {
            Instant::At(nanos) => nanos,
            Instant::Ago(nanos) => now.saturating_sub(nanos),
        });
        let mut meant: Vec<(i64, usize)> = meant.zip(0..).collect();
        meant.sort_unstable();
        let (mut instead, mut copied) = (String::with_capacity(text.len() + 32 * found.len()), 0);
        for (place, found) in found.iter().enumerate() {
            let rank = meant.iter().position(|(_, other)| *other == place).unwrap_or_default();
            let stand_in = DateTime::from_timestamp_nanos(StandIns::at(rank)).format("%Y-%m-%dT%H:%M:%S%.9f");
            let keyword = if matches!(found.instant, Instant::Ago(_)) { "TIMESTAMP " } else { "" };
            instead.push_str(&text[copied..found.start]);
            instead.push_str(&format!("{keyword}'{stand_in}'"));
            copied = found.end;
        }
        instead.push_str(&text[copied..]);
        (instead, StandIns::of(meant.into_iter().map(|(nanos, _)| nanos).collect()))
    }
}

fn find(text: &str) -> Option<Vec<Found>> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let candidate = match byte {
            b'\'' => {
                let end = end_of_quoted(bytes, at)?;
                if at > 0 && is_of_word(bytes[at - 1]) {
                    return None; // a prefix gives it other rules
                }
                Some((end, instant(&text[at + 1..end - 1]).map(Instant::At)))
            }
            b'"' => Some((end_of_quoted(bytes, at)?, None)),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                Some((at + text[at..].find('\n').unwrap_or(text.len() - at), None))
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            b'$' | b'`' => return None,
            b'n' | b'N' if at == 0 || !is_of_word(bytes[at - 1]) => {
                before_now(&text[at..]).map(|(length, nanos)| (at + length, Some(Instant::Ago(nanos))))
            }
            _ => None,
        };
        let (end, instant) = candidate.unwrap_or((at + 1, None));
        if let Some(instant) = instant.filter(|_| is_bound(&text[..at], &text[end..])) {
            found.push(Found { start: at, end, instant });
        }
        at = end;
    }
    Some(found)
}

/// Where what is quoted at `start` is over; a quote in it is written twice.
fn end_of_quoted(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let mut at = start + 1;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        match bytes.get(at) == Some(&quote) {
            true => at += 1,
            false => return Some(at),
        }
    }
}

/// `2024-01-01T00:00:00`, with a space or a fraction or a `Z`.
fn instant(text: &str) -> Option<i64> {
    const FORM: &[u8] = b"0000-00-00 00:00:00";
    let bytes = text.as_bytes();
    let (whole, rest) = bytes.split_at_checked(FORM.len())?;
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'T'),
        form => byte == form,
    };
    let rest = rest.strip_suffix(b"Z").unwrap_or(rest);
    let is_fraction = |rest: &[u8]| matches!(rest, [b'.', digits @ ..] if (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit));
    let is_instant = whole.iter().zip(FORM).all(fits) && (rest.is_empty() || is_fraction(rest));
    string_to_timestamp_nanos(text).ok().filter(|_| is_instant)
}

/// `now() - INTERVAL '5 minutes'` at the begin of a text: how long the text is, and how long ago that is.
fn before_now(text: &str) -> Option<(usize, i64)> {
    let rest = strip_word(text, "now")?.trim_start().strip_prefix('(')?.trim_start().strip_prefix(')')?;
    let rest = strip_word(rest.trim_start().strip_prefix('-')?.trim_start(), "INTERVAL")?.trim_start();
    let (span, rest) = rest.strip_prefix('\'')?.split_once('\'')?;
    let (count, unit) = span.split_once(' ')?;
    let count: i64 = count.parse().ok().filter(|count| *count >= 0)?;
    let unit = unit.to_ascii_lowercase();
    let seconds = match unit.strip_suffix('s').unwrap_or(&unit) {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 604_800,
        _ => return None,
    };
    let nanos = count.checked_mul(seconds)?.checked_mul(1_000_000_000)?;
    Some((text.len() - rest.len(), nanos))
}

/// Whether what stands between these is compared with the time, and with nothing done to it.
fn is_bound(before: &str, after: &str) -> bool {
    let before = before.trim_end();
    let before = match before.len().checked_sub("TIMESTAMP".len()).and_then(|at| before.split_at_checked(at)) {
        Some((head, word)) if word.eq_ignore_ascii_case("TIMESTAMP") => head.trim_end(),
        _ => before,
    };
    let Some(operand) = [">=", "<=", ">", "<"].iter().find_map(|operator| before.strip_suffix(operator)) else {
        return false;
    };
    let operand = operand.trim_end();
    let Some(head) = operand.strip_suffix("\"time\"").or_else(|| operand.strip_suffix("time")) else { return false };
    let is_alone = head.bytes().last().is_none_or(|byte| !is_of_word(byte) && byte != b'"');
    let after = after.trim_start();
    let is_over = after.is_empty() || after.starts_with([')', ';']);
    is_alone && (is_over || FOLLOWERS.iter().any(|word| starts_with_word(after, word)))
}

fn starts_with_word(text: &str, word: &str) -> bool {
    strip_word(text, word).is_some()
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let is_whole = rest.bytes().next().is_none_or(|byte| !is_of_word(byte));
    (is_whole && head.eq_ignore_ascii_case(word)).then_some(rest)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_704_067_200_000_000_000;

    fn instants(text: &str) -> Vec<Instant> {
        find(text).unwrap_or_default().into_iter().map(|found| found.instant).collect()
    }

    #[test]
    fn bounds_of_time_are_found() {
        for (condition, expected) in [
            (
                "time >= '2024-01-01T00:00:00Z' AND time < '2024-01-01 00:00:01'",
                vec![Instant::At(NOW), Instant::At(NOW + 1_000_000_000)],
            ),
            ("x.time > TIMESTAMP '2024-01-01T00:00:00.000000001' and a = 1", vec![Instant::At(NOW + 1)]),
            ("(\"time\" <= '2024-01-01T00:00:00') GROUP BY 1", vec![Instant::At(NOW)]),
            ("time > now() - INTERVAL '5 minutes'", vec![Instant::Ago(300_000_000_000)]),
            ("time>=NOW()-interval '1 day' order by time", vec![Instant::Ago(86_400_000_000_000)]),
        ] {
            assert_eq!(instants(&format!("SELECT * FROM m WHERE {condition}")), expected, "{condition}");
        }
    }

    #[test]
    fn what_may_mean_something_else_is_not() {
        for condition in [
            "a >= '2024-01-01T00:00:00Z'",
            "time = '2024-01-01T00:00:00Z'",
            "uptime >= '2024-01-01T00:00:00Z'",
            "time >= '2024-01-01T00:00:00+01:00'",
            "time >= '2024-01-01'",
            "time >= '2024-13-01T00:00:00Z'",
            "time >= '2024-01-01T00:00:00Z'::timestamp(0)",
            "time >= '2024-01-01T00:00:00' + INTERVAL '1 hour'",
            "time >= '2024-01-01T00:00:00' AT TIME ZONE 'CET'",
            "time >= '2024-01-01T00:00:00' OR a = 1",
            "time >= now()",
            "time >= now() - INTERVAL '1 month'",
            "time >= now() - INTERVAL '1 hour' + INTERVAL '1 minute'",
            "a = 'time >= ''2024-01-01T00:00:00'' '",
            "a = 1 -- time >= '2024-01-01T00:00:00'",
            "\"time >= '2024-01-01T00:00:00'\" = 1",
        ] {
            assert_eq!(instants(&format!("SELECT * FROM m WHERE {condition}")), Vec::<Instant>::new(), "{condition}");
        }
        for text in ["/* */ SELECT 1", "EXPLAIN SELECT 1", "DELETE FROM m WHERE time < '2024-01-01T00:00:00'"] {
            assert!(Instants::of(text).is_none(), "{text}");
        }
    }

    #[test]
    fn stand_ins_are_in_the_order_of_what_is_meant() {
        let text = "SELECT a FROM m WHERE time < '2024-01-02T00:00:00' AND time > now() - INTERVAL '1 hour' LIMIT 1";
        let (instead, _) = Instants::of(text).unwrap().with_stand_ins(text, NOW);
        assert_eq!(
            instead,
            "SELECT a FROM m WHERE time < '1972-08-06T21:45:29.216486896' AND \
             time > TIMESTAMP '1972-08-06T21:45:29.216486895' LIMIT 1"
        );
    }
}
