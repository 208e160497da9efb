//! How a setting's text becomes a value: sizes, shares of memory, durations, counts, addresses.
//!
//! The defaults in [`super::settings`] go through the same functions as what a user types, so that the
//! documented default is a text that one may also type.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A file or directory; a leading `~/` stands for the home directory.
    Path,
    /// Where to listen: an IP address or `localhost`, and a port (0 = any free one).
    Address,
    /// Yes or no; the flag alone means yes.
    Switch,
    /// A number of bytes within these bounds, both included.
    Bytes(u64, u64),
    /// A number of bytes or a percentage of the machine's memory.
    MemoryShare,
    /// As `MemoryShare`, but a plain number of at most [`PLAIN_MEGABYTES_MAX`] counts megabytes.
    MemoryPool,
    /// As `MemoryPool`; 0 is accepted and means none.
    MemoryCache,
    /// A whole number within these bounds, both included.
    Count(u64, u64),
    /// A length of time within these bounds in milliseconds, both included.
    Duration(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// Up to here a plain number for a memory pool counts megabytes, as scripts for InfluxDB 3 write it; above, bytes.
///
/// Nobody means a pool of less than one megabyte, and a pool of more than a terabyte can be written with a unit.
pub const PLAIN_MEGABYTES_MAX: u64 = 1_000_000;

const MEGABYTE: u64 = 1_000_000;

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Address(SocketAddr),
    Switch(bool),
    /// Bytes or a count.
    Number(u64),
    Duration(Duration),
}

impl Kind {
    /// `text` as a value, or `None` if this kind does not accept it. `memory_bytes` is what percentages are of.
    pub(crate) fn parse(self, text: &str, memory_bytes: u64) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::Text | Self::Path => (!text.is_empty()).then(|| Value::Text(text.to_owned())),
            Self::Address => address(text).map(Value::Address),
            Self::Switch => switch(text).map(Value::Switch),
            Self::Bytes(min, max) => bytes(text).filter(|n| (min..=max).contains(n)).map(Value::Number),
            Self::MemoryShare => memory_share(text, memory_bytes).filter(|n| *n > 0).map(Value::Number),
            Self::MemoryPool => memory_pool(text, memory_bytes).filter(|n| *n > 0).map(Value::Number),
            Self::MemoryCache => memory_pool(text, memory_bytes).map(Value::Number),
            Self::Count(min, max) => text.parse().ok().filter(|n| (min..=max).contains(n)).map(Value::Number),
            Self::Duration(min, max) => {
                let range = Duration::from_millis(min)..=Duration::from_millis(max);
                duration(text).filter(|time| range.contains(time)).map(Value::Duration)
            }
            Self::OneOf(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
        }
    }

    /// What to write, as the end of the sentence "expected …".
    pub fn accepts(self) -> String {
        match self {
            Self::Text => "a text that is not empty".into(),
            Self::Path => "a path".into(),
            Self::Address => "an address such as 127.0.0.1:8181".into(),
            Self::Switch => "true or false".into(),
            Self::Bytes(min, max) => {
                format!("a size from {} to {} such as 10485760 or 64MiB", show_bytes(min), show_bytes(max))
            }
            Self::MemoryShare => "a size such as 4GiB, or a share of memory such as 25%".into(),
            Self::MemoryPool | Self::MemoryCache => format!(
                "a size such as 4GiB, a share of memory such as 25%, or a plain number: up to {PLAIN_MEGABYTES_MAX} \
                 it counts megabytes, above it bytes"
            ),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Duration(min, max) => format!(
                "a duration from {} to {} such as 30s, 500ms or 1h 30m (a plain number counts seconds)",
                show_duration(min),
                show_duration(max)
            ),
            Self::OneOf(words) => one_of(words),
        }
    }

    /// The word for the value in usage texts.
    pub(crate) fn value_name(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Path => "PATH",
            Self::Address => "ADDRESS",
            Self::Switch => "BOOL",
            Self::Bytes(..) => "SIZE",
            Self::MemoryShare | Self::MemoryPool | Self::MemoryCache => "SIZE|%",
            Self::Count(..) => "COUNT",
            Self::Duration(..) => "DURATION",
            Self::OneOf(_) => "NAME",
        }
    }
}

/// A number of bytes: a plain number, or one with a unit. `K`, `KiB` … are powers of 1024, `KB` … powers of 1000.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    // "1.5GiB": a fraction of a byte means nothing, so a fraction needs a unit.
    let scaled = number.parse::<f64>().ok().filter(|_| unit > 1)? * unit as f64;
    (scaled.is_finite() && scaled < u64::MAX as f64).then_some(scaled as u64)
}

fn memory_share(text: &str, memory_bytes: u64) -> Option<u64> {
    let Some(percent) = text.strip_suffix('%') else { return bytes(text) };
    let percent: f64 = percent.trim().parse().ok()?;
    (percent > 0.0 && percent <= 100.0).then(|| (memory_bytes as f64 * percent / 100.0) as u64)
}

fn memory_pool(text: &str, memory_bytes: u64) -> Option<u64> {
    match text.parse::<u64>() {
        Ok(megabytes) if megabytes <= PLAIN_MEGABYTES_MAX => megabytes.checked_mul(MEGABYTE),
        Ok(bytes) => Some(bytes),
        Err(_) => memory_share(text, memory_bytes),
    }
}

/// A length of time: numbers with units (`ns`, `us`, `ms`, `s`, `m`, `h`, `d`, `w` and the longer words), added up;
/// a plain number counts seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        let nanos = u128::from(number.parse::<u64>().ok()?).checked_mul(unit_nanos(unit)?)?;
        total = total.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))?;
        rest = after.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    const SECOND: u128 = 1_000_000_000;
    Some(match unit {
        "ns" | "nsec" => 1,
        "us" | "µs" | "usec" => 1_000,
        "ms" | "msec" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * SECOND,
        _ => return None,
    })
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// `bytes` with the largest unit that leaves a whole number.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (unit, name) in [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

fn show_duration(millis: u64) -> String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    format!("{millis}ms")
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".into(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_size_is_a_number_with_or_without_a_unit() {
        for (text, expected) in [
            ("10485760", Some(10_485_760)),
            ("64MiB", Some(64 << 20)),
            (" 64 MiB ", Some(64 << 20)),
            ("64m", Some(64 << 20)),
            ("10MB", Some(10_000_000)),
            ("1.5GiB", Some(3 * GIB / 2)),
            ("0", Some(0)),
            ("", None),
            ("MiB", None),
            ("1.5", None),
            ("-1", None),
            ("64 parsecs", None),
            ("99999999999999999999", None),
            ("99999999999TiB", None),
            ("1.2.3GiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_share_of_memory_is_a_percentage_of_what_the_machine_has() {
        let share = |text| Kind::MemoryShare.parse(text, 8 * GIB);
        assert_eq!(share("25%"), Some(Value::Number(2 * GIB)));
        assert_eq!(share("12.5%"), Some(Value::Number(GIB)));
        assert_eq!(share("4GiB"), Some(Value::Number(4 * GIB)));
        for bad in ["0%", "101%", "-5%", "%", "NaN%", "0"] {
            assert_eq!(share(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plain_number_for_a_memory_pool_counts_megabytes_while_it_is_small() {
        let pool = |text| Kind::MemoryPool.parse(text, 8 * GIB);
        assert_eq!(pool("8192"), Some(Value::Number(8_192_000_000)));
        assert_eq!(pool("8589934592"), Some(Value::Number(8 * GIB)));
        assert_eq!(pool("512MiB"), Some(Value::Number(GIB / 2)));
        assert_eq!(pool("20%"), Some(Value::Number(1_717_986_918)));
        assert_eq!(pool("0"), None);
        assert_eq!(Kind::MemoryCache.parse("0", 8 * GIB), Some(Value::Number(0)));
        assert_eq!(Kind::MemoryCache.parse("1000", 8 * GIB), Some(Value::Number(1_000_000_000)));
    }

    #[test]
    fn a_duration_adds_up_its_parts() {
        for (text, millis) in [
            ("30", Some(30_000)),
            ("10m", Some(600_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("2 days", Some(172_800_000)),
            ("", None),
            ("m", None),
            ("10", Some(10_000)),
            ("1h 30", None),
            ("-1s", None),
            ("1.5h", None),
            ("10 fortnights", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        assert_eq!(address("localhost:8086"), Some(SocketAddr::from(([127, 0, 0, 1], 8086))));
        assert_eq!(address("[::1]:0"), "[::1]:0".parse().ok());
        assert_eq!(address("127.0.0.1"), None);
        assert_eq!(address("example.com:80"), None);
    }

    #[test]
    fn bounds_belong_to_what_is_accepted() {
        let kind = Kind::Bytes(1 << 10, 10 << 20);
        assert_eq!(kind.parse("1023", 0), None);
        assert_eq!(kind.parse("10MiB", 0), Some(Value::Number(10 << 20)));
        assert_eq!(kind.accepts(), "a size from 1KiB to 10MiB such as 10485760 or 64MiB");
        assert_eq!(Kind::OneOf(&["file", "memory", "s3"]).accepts(), "file, memory or s3");
        assert_eq!(Kind::Duration(500, 3_600_000).parse("499ms", 0), None);
    }
}
