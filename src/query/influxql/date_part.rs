//! `date_part('part', time)`: a part of a date in UTC, as in SQL.

use chrono::{DateTime, Datelike, Timelike};

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatePart {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    /// Of the minute, as the next two.
    Millisecond,
    Microsecond,
    Nanosecond,
    /// Sunday is 0.
    DayOfWeek,
    /// Monday is 0.
    IsoDayOfWeek,
    DayOfYear,
    /// Seconds since 1970.
    Epoch,
}

/// Their names.
const PARTS: [(&str, DatePart); 15] = [
    ("year", DatePart::Year),
    ("quarter", DatePart::Quarter),
    ("month", DatePart::Month),
    ("week", DatePart::Week),
    ("day", DatePart::Day),
    ("hour", DatePart::Hour),
    ("minute", DatePart::Minute),
    ("second", DatePart::Second),
    ("millisecond", DatePart::Millisecond),
    ("microsecond", DatePart::Microsecond),
    ("nanosecond", DatePart::Nanosecond),
    ("dow", DatePart::DayOfWeek),
    ("isodow", DatePart::IsoDayOfWeek),
    ("doy", DatePart::DayOfYear),
    ("epoch", DatePart::Epoch),
];

impl DatePart {
    /// # Errors
    /// Names the parts that there are.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let found = PARTS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, part)| *part).ok_or_else(|| {
            let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
            format!("date_part() has no part '{name}': use one of {}", names.join(", "))
        })
    }

    /// The part of an instant in nanoseconds.
    pub(super) fn of(self, nanos: i64) -> i64 {
        let time = DateTime::from_timestamp_nanos(nanos);
        let of_minute = i64::from(time.second()) * 1_000_000_000 + i64::from(time.nanosecond());
        match self {
            Self::Year => i64::from(time.year()),
            Self::Quarter => i64::from(time.month0() / 3 + 1),
            Self::Month => i64::from(time.month()),
            Self::Week => i64::from(time.iso_week().week()),
            Self::Day => i64::from(time.day()),
            Self::Hour => i64::from(time.hour()),
            Self::Minute => i64::from(time.minute()),
            Self::Second => i64::from(time.second()),
            Self::Millisecond => of_minute / 1_000_000,
            Self::Microsecond => of_minute / 1_000,
            Self::Nanosecond => of_minute,
            Self::DayOfWeek => i64::from(time.weekday().num_days_from_sunday()),
            Self::IsoDayOfWeek => i64::from(time.weekday().num_days_from_monday()),
            Self::DayOfYear => i64::from(time.ordinal()),
            Self::Epoch => nanos.div_euclid(1_000_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_the_calendar() {
        let leap_day = 1_709_251_199_123_456_789; // Thursday 2024-02-29T23:59:59.123456789Z
        let expected = [2024, 1, 2, 9, 29, 23, 59, 59, 59_123, 59_123_456, 59_123_456_789, 4, 3, 60, 1_709_251_199];
        for ((name, part), expected) in PARTS.into_iter().zip(expected) {
            assert_eq!(DatePart::named(name), Ok(part));
            assert_eq!(part.of(leap_day), expected, "{name}");
        }
        assert_eq!(DatePart::Epoch.of(-1), -1);
        assert!(DatePart::named("century").unwrap_err().contains("doy"));
    }
}
