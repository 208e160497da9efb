//! Instants, half-open ranges of them, and the precisions that clients write in.

use std::fmt;
use std::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant that many nanoseconds after 1970.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The instant a period earlier, or the first one there is.
    #[must_use]
    pub fn before(self, period: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(period.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The instant a period later, or the last one there is.
    #[must_use]
    pub fn after(self, period: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(period.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = chrono::DateTime::from_timestamp_nanos(self.0);
        f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    }
}

/// The instants from `min` to `max`, both included.
///
/// Closed and not half-open, because the last representable nanosecond is a valid time of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// The first instant.
    pub min: Timestamp,
    /// The last instant.
    pub max: Timestamp,
}

impl TimeRange {
    /// Every instant there is.
    pub const ALL: Self = Self { min: Timestamp(i64::MIN), max: Timestamp(i64::MAX) };

    /// The range between two instants in nanoseconds, both included.
    pub const fn from_nanos(min: i64, max: i64) -> Self {
        Self { min: Timestamp(min), max: Timestamp(max) }
    }

    /// Whether some instant is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// The instants that are in both, if there are some.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        self.overlaps(other).then(|| Self { min: self.min.max(other.min), max: self.max.min(other.max) })
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The unit of the timestamps in a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Guess from the size of each number: below 5e9 seconds, below 5e12 milliseconds, below 5e15
    /// microseconds, else nanoseconds.
    #[default]
    Auto,
    /// Whole seconds.
    Second,
    /// Thousandths.
    Millisecond,
    /// Millionths.
    Microsecond,
    /// As stored.
    Nanosecond,
    /// Whole minutes, which InfluxDB 1 knows.
    Minute,
    /// Whole hours, which InfluxDB 1 knows.
    Hour,
}

impl Precision {
    /// `number` of this unit as an instant, or `None` where it doesn't fit into 64 bits of nanoseconds.
    pub fn to_timestamp(self, number: i64) -> Option<Timestamp> {
        number.checked_mul(self.nanos_per_unit(number)).map(Timestamp)
    }

    /// `now` cut down to a whole number of this unit: the time of a point written without one.
    #[must_use]
    pub fn truncate(self, now: Timestamp) -> Timestamp {
        match self {
            // A server's own time needs no guess: it is known in full.
            Self::Auto | Self::Nanosecond => now,
            _ => {
                let unit = self.nanos_per_unit(0);
                Timestamp(now.0.div_euclid(unit) * unit)
            }
        }
    }

    fn nanos_per_unit(self, number: i64) -> i64 {
        match self {
            Self::Hour => 3_600_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
            Self::Nanosecond => 1,
            Self::Auto => match number.unsigned_abs() / 1_000_000_000 {
                0..5 => 1_000_000_000,
                5..5_000 => 1_000_000,
                5_000..5_000_000 => 1_000,
                _ => 1,
            },
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Second => "second",
            Self::Millisecond => "millisecond",
            Self::Microsecond => "microsecond",
            Self::Nanosecond => "nanosecond",
            Self::Minute => "minute",
            Self::Hour => "hour",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_precision_takes_the_unit_that_makes_the_number_recent() {
        for (number, nanos) in [
            (1_357_020_000, 1_357_020_000_000_000_000),
            (4_999_999_999, 4_999_999_999_000_000_000),
            (5_000_000_000, 5_000_000_000_000_000),
            (1_357_020_000_000, 1_357_020_000_000_000_000),
            (1_357_020_000_000_000, 1_357_020_000_000_000_000),
            (1_357_020_000_000_000_000, 1_357_020_000_000_000_000),
            (-1, -1_000_000_000),
        ] {
            assert_eq!(Precision::Auto.to_timestamp(number), Some(Timestamp(nanos)), "{number}");
        }
        assert_eq!(Precision::Minute.to_timestamp(-2), Some(Timestamp(-120_000_000_000)));
        assert_eq!(Precision::Second.to_timestamp(i64::MAX), None);
    }

    #[test]
    fn a_missing_time_is_the_servers_cut_to_the_precision() {
        let now = Timestamp(1_357_020_000_123_456_789);
        assert_eq!(Precision::Second.truncate(now), Timestamp(1_357_020_000_000_000_000));
        assert_eq!(Precision::Millisecond.truncate(now), Timestamp(1_357_020_000_123_000_000));
        assert_eq!(Precision::Hour.truncate(now), Timestamp(1_357_020_000_000_000_000));
        assert_eq!(Precision::Auto.truncate(now), now);
    }

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp(1_357_020_000_000_000_000).to_string(), "2013-01-01T06:00:00Z");
    }
}
