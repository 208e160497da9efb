//! Buckets of time, in wall-clock time where a zone is given.

use std::ops::Range;

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use super::time::{TIME_MAX, TIME_MIN};

/// Clocks are put forward and back at full quarters of an hour; where not, as long ago, nothing is remembered.
const BLOCK: i64 = 900 * 1_000_000_000;

/// How time is cut: `GROUP BY time(interval, offset)`, `tz()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Window {
    /// In nanoseconds, above 0.
    pub(super) interval: i64,
    /// In nanoseconds, below the interval.
    pub(super) offset: i64,
    pub(super) zone: Option<Tz>,
}

impl Window {
    /// The bucket that an instant falls in: where it begins, and where the next one does.
    ///
    /// A day in a zone begins at its midnight and is as long as the clocks make it. Buckets that are no longer than a shift
    /// of the clocks stay as long as they are: an hour that comes twice is two buckets.
    pub(super) fn around(&self, time: i64) -> (i64, i64) {
        let shifted = time.saturating_sub(self.offset);
        let zone = self.shift(shifted);
        let behind = shifted.saturating_add(zone).rem_euclid(self.interval);
        let ahead = self.interval - behind;
        let start = match shifted.checked_sub(behind) {
            Some(start) if start > TIME_MIN => self.adjusted(start.saturating_add(self.offset), zone),
            _ => TIME_MIN,
        };
        let end = match shifted.checked_add(ahead) {
            Some(end) if end < TIME_MAX => self.adjusted(end.saturating_add(self.offset), zone),
            _ => TIME_MAX,
        };
        (start, end)
    }

    /// Where the bucket of an instant begins.
    pub(super) fn start(&self, time: i64) -> i64 {
        self.around(time).0
    }

    /// [`Window::start`] of many instants, which are best sorted.
    pub(super) fn starts(&self) -> impl FnMut(i64) -> i64 + '_ {
        let (mut known, mut start) = (0..0, 0);
        move |time| {
            if !known.contains(&time) {
                (known, start) = (self.alike(time), self.start(time));
            }
            start
        }
    }

    /// Instants around this one that are in its bucket for sure.
    fn alike(&self, time: i64) -> Range<i64> {
        let shifted = time.saturating_sub(self.offset);
        let behind = shifted.saturating_add(self.shift(shifted)).rem_euclid(self.interval);
        let bucket = time.saturating_sub(behind)..time.saturating_add(self.interval - behind);
        if self.zone.is_none() {
            return bucket;
        }
        let begin = shifted.div_euclid(BLOCK).saturating_mul(BLOCK);
        let end = begin.saturating_add(BLOCK);
        if self.shift(begin) != self.shift(end - 1) {
            return time..time.saturating_add(1);
        }
        // As long as the clock is as far ahead.
        let (first, last) = (begin.saturating_add(self.offset), end.saturating_add(self.offset));
        bucket.start.max(first)..bucket.end.min(last)
    }

    /// The bucket after or, going back, before the one that begins at `start`.
    pub(super) fn next(&self, start: i64, ascending: bool) -> i64 {
        if ascending { self.around(start).1 } else { self.start(start.saturating_sub(1)) }
    }

    fn adjusted(&self, edge: i64, zone: i64) -> i64 {
        let difference = zone - self.shift(edge);
        if difference.abs() < self.interval { edge.saturating_add(difference) } else { edge }
    }

    /// How far clocks are ahead of UTC, in nanoseconds.
    fn shift(&self, time: i64) -> i64 {
        let Some(zone) = self.zone else { return 0 };
        let utc = chrono::DateTime::from_timestamp_nanos(time).naive_utc();
        i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    fn utc(interval: i64, offset: i64) -> Window {
        Window { interval, offset, zone: None }
    }

    #[test]
    fn buckets_are_counted_from_1970() {
        assert_eq!(utc(10, 0).around(25), (20, 30));
        assert_eq!(utc(10, 0).around(-1), (-10, 0));
        assert_eq!(utc(10, 3).around(22), (13, 23));
        assert_eq!(utc(10, -3).around(27), (27, 37));
        assert_eq!(utc(10, 0).next(20, false), 10);
        let week = utc(7 * 24 * HOUR, 0).start(1_704_067_200 * SECOND);
        assert_eq!(week, 1_703_721_600 * SECOND, "the Thursday before 2024-01-01");
        assert_eq!(utc(HOUR, 0).start(i64::MIN), TIME_MIN);
        assert_eq!(utc(HOUR, 0).around(i64::MAX).1, TIME_MAX);
    }

    #[test]
    fn a_day_is_as_long_as_the_clocks_make_it() {
        let days = Window { interval: 24 * HOUR, offset: 0, zone: Some(Tz::Europe__Berlin) };
        let (start, end) = days.around(1_711_843_200 * SECOND); // 2024-03-31T00:00Z
        assert_eq!((start, end - start), (1_711_839_600 * SECOND, 23 * HOUR));
        let (start, end) = days.around(1_730_000_000 * SECOND); // 2024-10-27
        assert_eq!((start, end - start), (1_729_980_000 * SECOND, 25 * HOUR));
        // Each bucket's neighbours are its neighbours.
        let mut at = 1_711_000_000 * SECOND;
        for _ in 0..20 {
            let start = days.start(at);
            assert_eq!(days.next(days.next(start, true), false), start);
            at = days.next(start, true);
        }
    }

    #[test]
    fn many_instants_are_put_where_each_of_them_is_put() {
        let zones = [None, Some(Tz::America__New_York), Some(Tz::Asia__Kathmandu), Some(Tz::Australia__Lord_Howe)];
        for zone in zones {
            for interval in [60 * SECOND, 5 * HOUR / 3, HOUR, 5 * HOUR, 24 * HOUR, 7 * 24 * HOUR] {
                for offset in [0, 7 * SECOND, HOUR / 2, -HOUR] {
                    let window = Window { interval, offset: offset % interval, zone };
                    let mut starts = window.starts();
                    // Around both changes of 2024, every 5 minutes and 1 second.
                    for first in [1_709_900_000, 1_712_300_000, 1_728_000_000, 1_730_500_000] {
                        for step in 0..1500 {
                            let time = (first + step * 301) * SECOND;
                            assert_eq!(starts(time), window.start(time), "{window:?} {time}");
                        }
                    }
                    for time in [i64::MIN, TIME_MIN, -1, 0, 1, TIME_MAX, i64::MAX] {
                        assert_eq!(starts(time), window.start(time), "{window:?} {time}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_buckets() {
        let hours = Window { interval: HOUR, offset: 0, zone: Some(Tz::America__New_York) };
        let first = hours.start(1_730_611_800 * SECOND); // 01:30 the first time
        assert_eq!(hours.next(first, true), first + HOUR);
        assert_eq!(hours.next(first + HOUR, true), first + 2 * HOUR);
    }
}
