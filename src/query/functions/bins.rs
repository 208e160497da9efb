//! Bins of time: where the one that an instant falls in begins, and which there are between two instants.
//!
//! Bins are counted from an origin in steps of a length or of months. In UTC that is arithmetic. By the wall clock of a zone, bins
//! are counted on the face of the clock and then brought to instants:
//!
//! | the clock shows the begin of a bin | the bin begins |
//! |---|---|
//! | once | then |
//! | never, because it is put forward | when it is put forward |
//! | twice, and bins are longer than what is put back | the first time |
//! | twice, and bins are not longer | each time: an hour that comes twice is two bins |
//!
//! Always true: no bin begins after an instant that falls into it; `all` has every bin of the instants between its bounds, but for
//! those of an origin for which a bin begins before the clock is put back and goes on after it.

use std::str::FromStr;

use arrow::array::timezone::Tz;
use arrow::array::types::IntervalMonthDayNano;
use chrono::{DateTime, Datelike, LocalResult, Months, NaiveDateTime, Offset, TimeZone, Utc};
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result as DataFusionResult};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Clocks are put forward and back at full quarters of an hour; where not, as long ago, nothing is remembered.
const BLOCK: i64 = 900 * SECOND;

/// How time is cut.
#[derive(Debug, Clone)]
pub(super) struct Bins {
    step: Step,
    /// In nanoseconds since 1970; by the clock of the zone, if there is one.
    origin: i64,
    zone: Option<Tz>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Above 0.
    Nanos(i64),
    /// Above 0.
    Months(i64),
}

/// A zone by its name or as `+01:00`.
///
/// # Errors
/// If there is no such zone.
pub(super) fn zone(name: &str) -> DataFusionResult<Tz> {
    let unknown =
        |_| plan_datafusion_err!("unknown time zone '{name}': write a name like 'Europe/Berlin', or '+01:00'");
    Tz::from_str(name).map_err(unknown)
}

impl Bins {
    /// Bins of this length from `origin` on; by the wall clock of a zone if there is one.
    ///
    /// # Errors
    /// If the interval is not above 0 or mixes months with what is shorter.
    pub(super) fn new(interval: IntervalMonthDayNano, origin: i64, zone: Option<Tz>) -> DataFusionResult<Self> {
        let nanos = i64::from(interval.days).checked_mul(DAY).and_then(|days| days.checked_add(interval.nanoseconds));
        let step = match (interval.months, nanos) {
            (0, Some(nanos)) => Step::Nanos(nanos),
            (months, Some(0)) => Step::Months(i64::from(months)),
            (_, None) => return plan_err!("the interval of a bin is longer than time"),
            _ => return plan_err!("the interval of a bin is of months or of what is shorter, not of both"),
        };
        if matches!(step, Step::Nanos(length) | Step::Months(length) if length <= 0) {
            return plan_err!("the interval of a bin has to be longer than 0");
        }
        Ok(Self { step, origin, zone })
    }

    /// Where the bin of an instant begins; `None` outside of what nanoseconds can tell.
    pub(super) fn start(&self, time: i64) -> Option<i64> {
        match &self.zone {
            None => self.floor(time),
            Some(zone) => self.start_with(time, *zone, shift(*zone, time)),
        }
    }

    /// [`Bins::start`] of many instants, which are best sorted.
    pub(super) fn starts(&self) -> impl FnMut(i64) -> Option<i64> {
        let mut known: Option<(i64, i64)> = None;
        move |time| {
            let Some(zone) = self.zone else { return self.floor(time) };
            let block = time.div_euclid(BLOCK);
            let ahead = match known {
                Some((known, ahead)) if known == block => ahead,
                _ => {
                    let begin = block.saturating_mul(BLOCK);
                    let (first, last) = (shift(zone, begin), shift(zone, begin.saturating_add(BLOCK - 1)));
                    known = (first == last).then_some((block, first));
                    if first == last { first } else { shift(zone, time) }
                }
            };
            self.start_with(time, zone, ahead)
        }
    }

    fn start_with(&self, time: i64, zone: Tz, ahead: i64) -> Option<i64> {
        let shown = self.floor(time.checked_add(ahead)?)?;
        Some(match instants(zone, shown) {
            Instants::One(instant) => instant,
            Instants::Two(first, last) if self.counts_both(first, last) && shown.checked_sub(ahead) == Some(last) => {
                last
            }
            Instants::Two(first, _) => first,
        })
    }

    /// The bins of all instants from `first` to `last`, both included, sorted.
    ///
    /// # Errors
    /// [`TooMany`] if there are more than `count_max`.
    pub(super) fn all(&self, first: i64, last: i64, count_max: usize) -> Result<Vec<i64>, TooMany> {
        let count = self.check(first, last, count_max)?;
        let (Some(begin), Some(end)) = (self.start(first), self.start(last)) else { return Ok(Vec::new()) };
        let mut bins = Vec::with_capacity(count);
        let Some(zone) = self.zone else {
            bins.extend(std::iter::successors(Some(begin), |bin| self.next(*bin)).take_while(|bin| *bin <= end));
            return Ok(bins);
        };
        // Clocks may have been put back since: a day is more than any of them ever was.
        let shown_first = first.saturating_add(shift(zone, first)).saturating_sub(DAY);
        let shown_last = last.saturating_add(shift(zone, last)).saturating_add(DAY);
        let faces = std::iter::successors(self.floor(shown_first), |shown| self.next(*shown));
        for shown in faces.take_while(|shown| *shown <= shown_last) {
            match instants(zone, shown) {
                Instants::Two(first, last) if self.counts_both(first, last) => bins.extend([first, last]),
                Instants::One(instant) | Instants::Two(instant, _) => bins.push(instant),
            }
        }
        bins.sort_unstable();
        bins.dedup();
        bins.retain(|bin| (begin..=end).contains(bin));
        Ok(bins)
    }

    /// About how many bins there are from `first` to `last`, and no fewer.
    ///
    /// # Errors
    /// [`TooMany`] if that is more than `count_max`.
    pub(super) fn check(&self, first: i64, last: i64, count_max: usize) -> Result<usize, TooMany> {
        match self.count(first, last) {
            count if count > count_max => Err(TooMany { count }),
            count => Ok(count),
        }
    }

    /// No fewer bins than there are.
    fn count(&self, first: i64, last: i64) -> usize {
        let length = match self.step {
            Step::Nanos(nanos) => i128::from(nanos),
            Step::Months(months) => i128::from(months) * 28 * i128::from(DAY),
        };
        let around = if self.zone.is_some() { 2 * i128::from(DAY) } else { 0 };
        let count = (i128::from(last) - i128::from(first) + around) / length + 2;
        usize::try_from(count).unwrap_or(0)
    }

    /// Whether a face of the clock that comes at both instants begins two bins.
    fn counts_both(&self, first: i64, last: i64) -> bool {
        matches!(self.step, Step::Nanos(nanos) if nanos <= last - first)
    }

    /// The last bin that does not begin after `time`, as if there were no zones.
    fn floor(&self, time: i64) -> Option<i64> {
        match self.step {
            Step::Nanos(nanos) => {
                let (time, origin, nanos) = (i128::from(time), i128::from(self.origin), i128::from(nanos));
                i64::try_from(time - (time - origin).rem_euclid(nanos)).ok()
            }
            Step::Months(months) => {
                let steps = self.months_to(time)?.div_euclid(months);
                let bin = self.after_months(steps.checked_mul(months)?)?;
                if bin <= time { Some(bin) } else { self.after_months((steps - 1).checked_mul(months)?) }
            }
        }
    }

    /// The bin after one.
    fn next(&self, bin: i64) -> Option<i64> {
        match self.step {
            Step::Nanos(nanos) => bin.checked_add(nanos),
            Step::Months(months) => self.after_months(self.months_to(bin)?.checked_add(months)?),
        }
    }

    /// From the month of the origin to that of `time`.
    fn months_to(&self, time: i64) -> Option<i64> {
        let (time, origin) = (date(time), date(self.origin));
        let months = |date: DateTime<Utc>| i64::from(date.year()) * 12 + i64::from(date.month0());
        Some(months(time) - months(origin))
    }

    /// The origin so many months later; in months that are too short, their last day.
    fn after_months(&self, months: i64) -> Option<i64> {
        let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        let origin = date(self.origin);
        let later = if months < 0 { origin.checked_sub_months(count) } else { origin.checked_add_months(count) };
        later?.timestamp_nanos_opt()
    }
}

/// There are more bins than are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// How many there are, or some more.
    pub(super) count: usize,
}

impl TooMany {
    /// The error for who asked.
    pub(super) fn error(self, count_max: usize) -> DataFusionError {
        plan_datafusion_err!(
            "filling gaps would make about {} rows for each series, more than the {count_max} that are allowed; take a longer \
             interval, or a shorter range of time in WHERE",
            self.count
        )
    }
}

/// When a clock shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instants {
    One(i64),
    /// The earlier and the later.
    Two(i64, i64),
}

/// When the clock of a zone shows `shown`; where it never does, when it is put forward over it.
fn instants(zone: Tz, shown: i64) -> Instants {
    let nanos = |offset: &<Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc()) * SECOND;
    match zone.offset_from_local_datetime(&naive(shown)) {
        LocalResult::Single(offset) => Instants::One(shown.saturating_sub(nanos(&offset))),
        LocalResult::Ambiguous(one, other) => {
            let (one, other) = (shown.saturating_sub(nanos(&one)), shown.saturating_sub(nanos(&other)));
            Instants::Two(one.min(other), one.max(other))
        }
        LocalResult::None => {
            let (mut before, mut after) = (shown.saturating_sub(2 * DAY), shown.saturating_add(2 * DAY));
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                match middle.saturating_add(shift(zone, middle)) < shown {
                    true => before = middle,
                    false => after = middle,
                }
            }
            Instants::One(after)
        }
    }
}

/// How far the clocks of a zone are ahead of UTC, in nanoseconds.
fn shift(zone: Tz, time: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&naive(time)).fix().local_minus_utc()) * SECOND
}

fn naive(nanos: i64) -> NaiveDateTime {
    date(nanos).naive_utc()
}

fn date(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampNanosecondArray;
    use arrow::array::types::IntervalMonthDayNanoType;
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600 * SECOND;

    fn bins(months: i32, nanos: i64, origin: &str, zone_name: Option<&str>) -> Bins {
        let interval = IntervalMonthDayNanoType::make_value(months, 0, nanos);
        Bins::new(interval, at(origin), zone_name.map(|name| zone(name).unwrap())).unwrap()
    }

    fn at(text: &str) -> i64 {
        let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        DateTime::parse_from_rfc3339(&text).unwrap().timestamp_nanos_opt().unwrap()
    }

    fn show(nanos: i64) -> String {
        date(nanos).format("%m-%d %H:%M").to_string()
    }

    fn all(bins: &Bins, first: &str, last: &str) -> Vec<String> {
        bins.all(at(first), at(last), 100).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn months_are_as_long_as_they_are() {
        let months = bins(1, 0, "1970-01-31", None);
        assert_eq!(
            all(&months, "2024-01-31", "2024-04-30"),
            ["01-31 00:00", "02-29 00:00", "03-31 00:00", "04-30 00:00"]
        );
        let quarters = bins(3, 0, "1970-01-01", None);
        assert_eq!(all(&quarters, "1969-12-31", "1970-04-01"), ["10-01 00:00", "01-01 00:00", "04-01 00:00"]);
    }

    #[test]
    fn a_day_of_a_zone_begins_at_its_midnight() {
        let days = bins(0, DAY, "1970-01-01", Some("Europe/Berlin"));
        let begins = all(&days, "2024-03-30T12:00:00Z", "2024-04-01T12:00:00Z");
        assert_eq!(begins, ["03-29 23:00", "03-30 23:00", "03-31 22:00"]);
        let months = bins(1, 0, "1970-01-01", Some("Europe/Berlin"));
        assert_eq!(all(&months, "2024-03-15", "2024-04-15"), ["02-29 23:00", "03-31 22:00"]);
    }

    #[test]
    fn a_bin_whose_begin_is_skipped_begins_when_the_clock_is_put_forward() {
        let forty = bins(0, 40 * 60 * SECOND, "1970-01-01", Some("Europe/Berlin"));
        // Bins of 40 minutes begin at 01:20, 02:00, 02:40 (never shown that day) and 03:20.
        assert_eq!(show(forty.start(at("2024-03-31T01:05:00Z")).unwrap()), "03-31 01:00");
        assert_eq!(show(forty.start(at("2024-03-31T01:25:00Z")).unwrap()), "03-31 01:20");
        // In Beirut midnight itself is skipped.
        let days = bins(0, DAY, "1970-01-01", Some("Asia/Beirut"));
        assert_eq!(show(days.start(at("2024-03-31T12:00:00Z")).unwrap()), "03-30 22:00");
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_bins_and_a_longer_bin_begins_the_first_time() {
        let hours = bins(0, HOUR, "1970-01-01", Some("America/New_York"));
        let begins = all(&hours, "2024-11-03T04:30:00Z", "2024-11-03T07:30:00Z");
        assert_eq!(begins, ["11-03 04:00", "11-03 05:00", "11-03 06:00", "11-03 07:00"]);
        let longer = bins(0, 90 * 60 * SECOND, "1970-01-01", Some("America/New_York"));
        // 01:30 comes at 05:30 and 06:30 UTC.
        assert_eq!(show(longer.start(at("2024-11-03T06:45:00Z")).unwrap()), "11-03 05:30");
        // The example of InfluxDB's documentation: one minute apart, two hours between the bins.
        let paris = bins(0, HOUR, "1970-01-01T00:30:00Z", Some("Europe/Paris"));
        assert_eq!(show(paris.start(at("2020-10-25T01:29:00Z")).unwrap()), "10-24 23:30");
        assert_eq!(show(paris.start(at("2020-10-25T01:30:00Z")).unwrap()), "10-25 01:30");
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for (months, days, nanos) in [(0, 0, 0), (0, -1, 0), (-1, 0, 0), (1, 1, 0), (0, i32::MAX, i64::MAX)] {
            let interval = IntervalMonthDayNanoType::make_value(months, days, nanos);
            assert!(Bins::new(interval, 0, None).is_err(), "{interval:?}");
        }
        assert!(zone("Mars/Olympus").unwrap_err().to_string().contains("unknown time zone 'Mars/Olympus'"));
        let seconds = bins(0, SECOND, "1970-01-01", None);
        assert_eq!(seconds.all(0, 100 * SECOND, 100), Err(TooMany { count: 102 }));
        assert_eq!(seconds.all(5, 10, 100), Ok(vec![0]), "both ends in one bin");
    }

    fn zones() -> impl Strategy<Value = Option<&'static str>> {
        prop::sample::select(vec![
            None,
            Some("UTC"),
            Some("Europe/Paris"),
            Some("America/St_Johns"),
            Some("Australia/Lord_Howe"), // half an hour of daylight saving
            Some("America/Sao_Paulo"),   // put forward at midnight, until 2018
            Some("+05:30"),
        ])
    }

    proptest! {
        /// Without zones bins are those of `date_bin`; with them, they begin at or before what is in them, all are listed, and
        /// remembering shifts changes nothing.
        #[test]
        fn bins_hold_their_instants(
            times in prop::collection::vec(1_500_000_000i64..1_750_000_000, 1..40),
            minutes in prop::sample::select(vec![1i64, 7, 15, 30, 40, 60, 90, 360, 1440, 10080]),
            months in prop::sample::select(vec![0, 0, 1, 5, 12]),
            zone_name in zones(),
        ) {
            let nanos = if months > 0 { 0 } else { minutes * 60 * SECOND };
            let bins = bins(months, nanos, "1970-01-01", zone_name);
            let mut times: Vec<i64> = times.into_iter().map(|time| time * SECOND).collect();
            times.sort_unstable();
            times.truncate(12);
            let mut starts = bins.starts();
            for time in &times {
                let start = bins.start(*time).unwrap();
                prop_assert_eq!(starts(*time), Some(start));
                prop_assert!(start <= *time);
                prop_assert_eq!(bins.start(start), Some(start), "a bin begins in itself");
                let near = (time - 5 * DAY, time + 5 * DAY);
                let listed = bins.all(near.0, near.1, usize::MAX).unwrap();
                prop_assert!(listed.contains(&start) && listed.windows(2).all(|pair| pair[0] < pair[1]));
            }
            if zone_name.is_none() {
                let batch = TimestampNanosecondArray::from(times.clone());
                let expected = upstream(months, nanos, &batch);
                let own: Vec<Option<i64>> = times.iter().map(|time| bins.start(*time)).collect();
                prop_assert_eq!(own, expected.iter().collect::<Vec<_>>());
            }
        }
    }

    /// What DataFusion's `date_bin` says.
    fn upstream(months: i32, nanos: i64, times: &TimestampNanosecondArray) -> TimestampNanosecondArray {
        use std::sync::Arc;

        use arrow::array::{Array, AsArray};
        use arrow::datatypes::Field;
        use datafusion::common::ScalarValue;
        use datafusion::common::config::ConfigOptions;
        use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

        let interval = IntervalMonthDayNanoType::make_value(months, 0, nanos);
        let interval = ScalarValue::IntervalMonthDayNano(Some(interval));
        let field = |data_type| Arc::new(Field::new("", data_type, true));
        let args = ScalarFunctionArgs {
            arg_fields: vec![field(interval.data_type()), field(times.data_type().clone())],
            args: vec![ColumnarValue::Scalar(interval), ColumnarValue::Array(Arc::new(times.clone()))],
            number_rows: times.len(),
            return_field: field(times.data_type().clone()),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let binned = datafusion::functions::datetime::date_bin().invoke_with_args(args).unwrap();
        binned.into_array(times.len()).unwrap().as_primitive().clone()
    }
}
