//! Which files a table becomes: time is counted by days, days with too many rows by hours and so on, and neighbours
//! are put together while a file takes them.
//!
//! Always true: the ranges don't overlap, are in order, and hold every row that there was when they were planned; rows
//! that come later into a range are in its file if it was not yet written.

use serde::Deserialize;

use super::ask::Server;
use crate::cli::client::ClientError;
use crate::model::TimeRange;

const SECOND: i64 = 1_000_000_000;

/// Lengths by which time is counted, each where the one before holds too much.
const STEPS: [i64; 7] = [86_400 * SECOND, 3_600 * SECOND, 60 * SECOND, SECOND, SECOND / 1_000, 1_000, 1];

/// A span of time and how many rows are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub times: TimeRange,
    pub rows: u64,
}

#[derive(Deserialize)]
struct Count {
    bucket: i64,
    rows: u64,
}

/// The ranges of time that become files of at most `rows_max` rows, as long as no single nanosecond has more.
///
/// # Errors
/// If the server cannot count.
pub(super) async fn plan(
    server: &Server,
    table: &str,
    times: TimeRange,
    rows_max: u64,
) -> Result<Vec<TimeRange>, ClientError> {
    // Spans that are still to be looked at, the first one last.
    let mut open = vec![(times, 0)];
    let mut spans = Vec::new();
    while let Some((times, depth)) = open.pop() {
        let counted = count(server, table, times, STEPS[depth]).await?;
        let is_finest = depth + 1 == STEPS.len();
        let fitting = counted.iter().take_while(|span| span.rows <= rows_max || is_finest).count();
        spans.extend(&counted[..fitting]);
        // What follows the span that is too long is counted again after its parts: its order must be kept.
        let Some(too_long) = counted.get(fitting) else { continue };
        if let Some(next) = counted.get(fitting + 1) {
            open.push((TimeRange { min: next.times.min, max: times.max }, depth));
        }
        open.push((too_long.times, depth + 1));
    }
    Ok(together(&spans, rows_max))
}

async fn count(server: &Server, table: &str, times: TimeRange, step: i64) -> Result<Vec<Span>, ClientError> {
    // Division cuts towards zero, which works up to the ends of time where rounding down would overflow.
    let sql = format!(
        "SELECT CAST(time AS BIGINT) / {step} AS bucket, count(*) AS rows FROM {}{} GROUP BY 1 ORDER BY 1",
        quoted(table),
        condition(times)
    );
    let counts: Vec<Count> = server.rows(&sql).await?;
    Ok(counts.iter().map(|count| Span { times: span(count.bucket, step, times), rows: count.rows }).collect())
}

/// The times that give `bucket` when they are divided by `step` and cut towards zero, within `times`.
fn span(bucket: i64, step: i64, times: TimeRange) -> TimeRange {
    let below = || bucket.checked_sub(1)?.checked_mul(step)?.checked_add(1);
    let above = || bucket.checked_add(1)?.checked_mul(step)?.checked_sub(1);
    let min = if bucket <= 0 { below().unwrap_or(i64::MIN) } else { bucket * step };
    let max = if bucket >= 0 { above().unwrap_or(i64::MAX) } else { bucket * step };
    TimeRange::from_nanos(min.max(times.min.as_nanos()), max.min(times.max.as_nanos()))
}

/// Neighbours as one, while they have no more rows together than `rows_max`.
fn together(spans: &[Span], rows_max: u64) -> Vec<TimeRange> {
    let mut files: Vec<Span> = Vec::new();
    for span in spans {
        match files.last_mut() {
            Some(file) if file.rows.saturating_add(span.rows) <= rows_max => {
                file.times.max = span.times.max;
                file.rows += span.rows;
            }
            _ => files.push(*span),
        }
    }
    files.iter().map(|file| file.times).collect()
}

/// ` WHERE …` for the rows in `times`; nothing where there is no bound.
pub(super) fn condition(times: TimeRange) -> String {
    let bound = |sign: &str, nanos: i64| {
        let time = chrono::DateTime::from_timestamp_nanos(nanos);
        format!("time {sign} '{}'", time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true))
    };
    let (min, max) = (times.min.as_nanos(), times.max.as_nanos());
    let bounds: Vec<String> = [(min > i64::MIN).then(|| bound(">=", min)), (max < i64::MAX).then(|| bound("<=", max))]
        .into_iter()
        .flatten()
        .collect();
    if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_are_put_together_while_they_fit() {
        let span = |day: i64, rows| Span { times: TimeRange::from_nanos(day, day), rows };
        let files = together(&[span(1, 3), span(2, 4), span(9, 4), span(10, 20), span(11, 1)], 8);
        let ranges: Vec<_> = files.iter().map(|range| (range.min.as_nanos(), range.max.as_nanos())).collect();
        assert_eq!(ranges, [(1, 2), (9, 9), (10, 10), (11, 11)]);
    }

    #[test]
    fn the_ends_of_time_need_no_condition() {
        assert_eq!(condition(TimeRange::ALL), "");
        assert_eq!(condition(TimeRange::from_nanos(i64::MIN, 1)), " WHERE time <= '1970-01-01T00:00:00.000000001Z'");
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_span_of_its_bucket_and_in_no_other(
            time in prop_oneof![any::<i64>(), -10..10_i64, Just(i64::MIN), Just(i64::MAX)],
            step in prop::sample::select(STEPS.to_vec()),
        ) {
            let bucket = time / step;
            let contains = |bucket| {
                let span = span(bucket, step, TimeRange::ALL);
                (span.min.as_nanos()..=span.max.as_nanos()).contains(&time)
            };
            prop_assert!(contains(bucket));
            for other in [bucket.saturating_sub(1), bucket.saturating_add(1)] {
                let is_bucket = other.checked_mul(step).is_some();
                prop_assert!(other == bucket || !is_bucket || !contains(other));
            }
        }
    }
}
