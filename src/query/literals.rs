//! The literals with which a text of SQL compares columns: instants that bound the time, and texts.
//!
//! Found are comparisons of a column `time` with an instant or with `now()` less a fixed span, of any other column with a text, and lists of texts after
//! `IN`, as they stand between `AND`s and `OR`s. Whether each of them is compared in the plan too is seen there ([`StandIns`]); here it is no
//! matter when something is taken for one that is none, or not found.

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use chrono::DateTime;

use super::stand_ins::StandIns;

/// More are not looked for.
const LITERALS_MAX: usize = 32;

/// What may follow a comparison.
const FOLLOWERS: [&str; 5] = ["AND", "OR", "GROUP", "ORDER", "LIMIT"];

/// The literals of a text, where they stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literals(Vec<Found>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
    meant: Meant,
}

/// Instants are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meant {
    Instant(i64),
    /// So long ago.
    Ago(i64),
    Text(String),
}

impl Literals {
    /// Those of a query. `None` if there are none, if it is no query, or if it is written in a way that is not gone into here.
    pub(super) fn of(text: &str) -> Option<Self> {
        let begin = text.trim_start();
        let is_query = starts_with_word(begin, "SELECT") || starts_with_word(begin, "WITH");
        let found = if is_query { find(text)? } else { Vec::new() };
        (1..=LITERALS_MAX).contains(&found.len()).then_some(Self(found))
    }

    /// The instants alone, if there are both instants and texts.
    pub(super) fn instants(&self) -> Option<Self> {
        let is_text = |found: &Found| matches!(found.meant, Meant::Text(_));
        let instants: Vec<Found> = self.0.iter().filter(|found| !is_text(found)).cloned().collect();
        (!instants.is_empty() && instants.len() < self.0.len()).then_some(Self(instants))
    }

    /// The text with stand-ins. `now` is what `now()` says, in nanoseconds.
    pub(super) fn with_stand_ins(&self, text: &str, now: i64) -> (String, StandIns) {
        let Self(found) = self;
        let (mut instants, mut texts) = (Vec::new(), Vec::new());
        let (mut instead, mut copied) = (String::with_capacity(text.len() + 32 * found.len()), 0);
        for Found { start, end, meant } in found {
            instead.push_str(&text[copied..*start]);
            if let Meant::Text(meant) = meant {
                instead.push_str(&format!("'{}'", StandIns::text(texts.len())));
                texts.push(meant.clone());
            } else {
                let stand_in = DateTime::from_timestamp_nanos(StandIns::instant(instants.len()));
                let keyword = if matches!(meant, Meant::Ago(_)) { "TIMESTAMP " } else { "" };
                instead.push_str(&format!("{keyword}'{}'", stand_in.format("%Y-%m-%dT%H:%M:%S%.9f")));
                instants.push(match meant {
                    Meant::Instant(nanos) => *nanos,
                    Meant::Ago(nanos) => now.saturating_sub(*nanos),
                    Meant::Text(_) => continue,
                });
            }
            copied = *end;
        }
        instead.push_str(&text[copied..]);
        (instead, StandIns::of(instants, texts))
    }
}

fn find(text: &str) -> Option<Vec<Found>> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'\'' => {
                let end = end_of_quoted(bytes, at)?;
                if at > 0 && is_of_word(bytes[at - 1]) {
                    return None; // a prefix gives it other rules
                }
                found.extend(compared(text, at, end).map(|meant| Found { start: at, end, meant }));
                end
            }
            b'"' => end_of_quoted(bytes, at)?,
            b'-' if bytes.get(at + 1) == Some(&b'-') => at + text[at..].find('\n').unwrap_or(text.len() - at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            b'$' | b'`' => return None,
            b'n' | b'N' if at == 0 || !is_of_word(bytes[at - 1]) => match before_now(&text[at..]) {
                Some((length, nanos)) => {
                    let (start, end) = (at, at + length);
                    if is_bound(&text[..start], &text[end..]) {
                        found.push(Found { start, end, meant: Meant::Ago(nanos) });
                    }
                    end
                }
                None => at + 1,
            },
            b'i' | b'I' if at > 0 && !is_of_word(bytes[at - 1]) => match list(text, at) {
                Some((end, texts)) => {
                    found.extend(texts);
                    end
                }
                None => at + 1,
            },
            _ => at + 1,
        };
    }
    Some(found)
}

/// What the quoted from `start` to `end` means, if it is compared with a column.
fn compared(text: &str, start: usize, end: usize) -> Option<Meant> {
    let (before, after) = (&text[..start], &text[end..]);
    match instant(&text[start + 1..end - 1]).filter(|_| is_bound(before, after)) {
        Some(nanos) => Some(Meant::Instant(nanos)),
        None => is_compared(before, after).then(|| Meant::Text(unquoted(&text[start..end]))),
    }
}

/// What a quoted text says.
fn unquoted(quoted: &str) -> String {
    quoted[1..quoted.len() - 1].replace("''", "'")
}

/// `IN ('a', 'b')` at `start`: where it is over, and its texts.
fn list(text: &str, start: usize) -> Option<(usize, Vec<Found>)> {
    let bytes = text.as_bytes();
    let blanks = |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let rest = strip_word(&text[start..], "IN")?;
    let mut at = blanks(text.len() - rest.len());
    (bytes.get(at) == Some(&b'(')).then_some(())?;
    let mut found = Vec::new();
    loop {
        let begin = blanks(at + 1);
        (bytes.get(begin) == Some(&b'\'')).then_some(())?;
        let end = end_of_quoted(bytes, begin)?;
        found.push(Found { start: begin, end, meant: Meant::Text(unquoted(&text[begin..end])) });
        at = blanks(end);
        match bytes.get(at)? {
            b',' => {}
            b')' => return is_followed(&text[at + 1..]).then_some((at + 1, found)),
            _ => return None,
        }
    }
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
    let Some(operand) = [">=", "<=", ">", "<", "="].iter().find_map(|operator| before.strip_suffix(operator)) else {
        return false;
    };
    is_time(operand) && is_followed(after)
}

/// Whether what stands between these is compared with a column that is not the time.
fn is_compared(before: &str, after: &str) -> bool {
    let before = before.trim_end();
    let Some(operand) = ["!=", "<>", "="].iter().find_map(|operator| before.strip_suffix(operator)) else {
        return false;
    };
    let ends_name = |byte: u8| is_of_word(byte) || byte == b'"';
    operand.trim_end().bytes().last().is_some_and(ends_name) && !is_time(operand) && is_followed(after)
}

/// Whether a text ends with the column of that name.
fn is_time(text: &str) -> bool {
    let text = text.trim_end();
    let Some(head) = text.strip_suffix("\"time\"").or_else(|| text.strip_suffix("time")) else { return false };
    head.bytes().last().is_none_or(|byte| !is_of_word(byte) && byte != b'"')
}

/// Whether a comparison is over where this follows.
fn is_followed(after: &str) -> bool {
    let after = after.trim_start();
    let is_over = after.is_empty() || after.starts_with([')', ';']);
    is_over || FOLLOWERS.iter().any(|word| starts_with_word(after, word))
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

    fn literals(text: &str) -> Vec<Meant> {
        find(text).unwrap_or_default().into_iter().map(|found| found.meant).collect()
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Vec<Meant> {
        texts.map(|text| Meant::Text(text.to_owned())).to_vec()
    }

    #[test]
    fn what_columns_are_compared_with_is_found() {
        for (condition, expected) in [
            (
                "time >= '2024-01-01T00:00:00Z' AND time < '2024-01-01 00:00:01'",
                vec![Meant::Instant(NOW), Meant::Instant(NOW + 1_000_000_000)],
            ),
            ("x.time > TIMESTAMP '2024-01-01T00:00:00.000000001' and a = 1", vec![Meant::Instant(NOW + 1)]),
            ("time = '2024-01-01T00:00:00Z'", vec![Meant::Instant(NOW)]),
            ("time >= '2024-01-01T00:00:00' OR a = 1", vec![Meant::Instant(NOW)]),
            ("(\"time\" <= '2024-01-01T00:00:00') GROUP BY 1", vec![Meant::Instant(NOW)]),
            ("time > now() - INTERVAL '5 minutes'", vec![Meant::Ago(300_000_000_000)]),
            ("time>=NOW()-interval '1 day' order by time", vec![Meant::Ago(86_400_000_000_000)]),
            ("host = 'a'", texts(["a"])),
            ("x.\"the host\"='it''s' AND (up = '' OR b <> 'ß')", texts(["it's", "", "ß"])),
            ("host IN ('a' ,'b') AND rack not in('c')", texts(["a", "b", "c"])),
            ("host IN ('a', 1) AND rack IN ('c', 'd'::text) AND state in ('e') = true", vec![]),
            ("begin IN ('a') GROUP BY 1", texts(["a"])),
            ("host = 'a' AND time > now() - INTERVAL '1 s'", texts(["a"])),
        ] {
            assert_eq!(literals(&format!("SELECT * FROM m WHERE {condition}")), expected, "{condition}");
        }
        let text = "SELECT * FROM m WHERE host = 'a' AND time > '2024-01-01T00:00:00'";
        let instants = Literals::of(text).unwrap().instants().unwrap();
        assert!(matches!(instants.0.as_slice(), [Found { meant: Meant::Instant(NOW), .. }]), "{instants:?}");
        assert_eq!(instants.instants(), None);
    }

    #[test]
    fn what_may_mean_something_else_is_not() {
        for condition in [
            "a >= '2024-01-01T00:00:00Z'",
            "uptime >= '2024-01-01T00:00:00Z'",
            "time >= '2024-01-01T00:00:00+01:00'",
            "time >= '2024-01-01'",
            "time = '2024-01-01'",
            "time >= '2024-13-01T00:00:00Z'",
            "time >= '2024-01-01T00:00:00Z'::timestamp(0)",
            "time >= '2024-01-01T00:00:00' + INTERVAL '1 hour'",
            "time >= '2024-01-01T00:00:00' AT TIME ZONE 'CET'",
            "time >= now()",
            "time >= now() - INTERVAL '1 month'",
            "time >= now() - INTERVAL '1 hour' + INTERVAL '1 minute'",
            "a > 'time >= ''2024-01-01T00:00:00'' '",
            "a = 1 -- time >= '2024-01-01T00:00:00'",
            "\"time >= '2024-01-01T00:00:00'\" = 1",
            "a = 'x' || 'y'",
            "a = 'x' COLLATE c",
            "a = E'x'",
            "a ~= 'x' + 'y'",
            "f('x') AND 'x' = 'y'",
            "a LIKE 'x'",
            "host = $host",
        ] {
            assert_eq!(literals(&format!("SELECT * FROM m WHERE {condition}")), Vec::<Meant>::new(), "{condition}");
        }
        for text in ["/* */ SELECT 1", "EXPLAIN SELECT 1", "DELETE FROM m WHERE time < '2024-01-01T00:00:00'"] {
            assert!(Literals::of(text).is_none(), "{text}");
        }
    }

    #[test]
    fn stand_ins_come_where_literals_were() {
        let text = "SELECT a FROM m WHERE time < '2024-01-02T00:00:00' AND h IN ('x', 'y') AND time > now() - INTERVAL '1 hour' LIMIT 1";
        let (instead, _) = Literals::of(text).unwrap().with_stand_ins(text, NOW);
        assert_eq!(
            instead,
            "SELECT a FROM m WHERE time < '1972-08-06T21:45:29.216486895' AND h IN ('\u{F8FF}0\u{F8FF}', '\u{F8FF}1\u{F8FF}') AND \
             time > TIMESTAMP '1972-08-06T21:45:29.216486896' LIMIT 1"
        );
    }
}
