//! Gap filling against a model that goes through every minute, around the days on which clocks are put forward and back.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const MINUTE: i64 = 60_000_000_000;

/// A point `minute` minutes after the begin, with a value or without.
#[derive(Debug, Clone)]
struct Point {
    host: u8,
    minute: i64,
    a: Option<i32>,
}

#[derive(Debug, Clone)]
struct Case {
    points: Vec<Point>,
    zone: Tz,
    /// Minutes since 1970 at which the range begins, and how long it is.
    begin: i64,
    minutes: i64,
    /// Minutes.
    step: i64,
    is_persisted: bool,
}

fn case() -> impl Strategy<Value = Case> {
    // Half an hour before or after which something happens to some of the clocks.
    let begins = [
        "2024-03-30T22:30:00Z",
        "2024-10-26T21:00:00Z",
        "2024-03-10T05:00:00Z",
        "2024-11-03T04:30:00Z",
        "2024-04-06T13:00:00Z",
        "2024-10-05T14:45:00Z",
    ];
    let begins = begins.map(|text| DateTime::parse_from_rfc3339(text).unwrap().timestamp() / 60);
    let zones = [Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe];
    let point = (0..3u8, 0..600i64, prop::option::weighted(0.7, -50..50i32));
    let points = prop::collection::vec(point.prop_map(|(host, minute, a)| Point { host, minute, a }), 0..25);
    (
        points,
        prop::sample::select(zones.to_vec()),
        prop::sample::select(begins.to_vec()),
        1..600i64,
        prop::sample::select(vec![15, 30, 60, 120, 360, 1440]),
        any::<bool>(),
    )
        .prop_map(|(points, zone, begin, minutes, step, is_persisted)| Case {
            points,
            zone,
            begin,
            minutes,
            step,
            is_persisted,
        })
}

/// Minutes since 1970 that a clock shows.
fn shown(zone: Tz, minute: i64) -> i64 {
    let utc = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
    minute + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) / 60
}

/// The bin of a minute: the minute at which the clock shows its begin, in ten lines.
fn bin(case: &Case, minute: i64) -> i64 {
    let face = shown(case.zone, minute).div_euclid(case.step) * case.step;
    let around = minute - case.step - 180..=minute;
    let begins: Vec<i64> = around.clone().filter(|minute| shown(case.zone, *minute) == face).collect();
    match begins.as_slice() {
        [] => around.into_iter().find(|minute| shown(case.zone, *minute) > face).unwrap(),
        [first, .., last] if case.step <= last - first => {
            if shown(case.zone, minute) - minute == face - last {
                *last
            } else {
                *first
            }
        }
        [first, ..] => *first,
    }
}

type Row = (String, i64, i64, Option<i64>, Option<i64>, Option<i64>);

/// What should come out: host, bin, count, sum, the sum carried forward, and the sum on a line.
fn expected(case: &Case) -> Vec<Row> {
    let range = case.begin..case.begin + case.minutes;
    // The last write of a point counts.
    let points: BTreeMap<(u8, i64), Option<i32>> = case.points.iter().fold(BTreeMap::new(), |mut points, point| {
        let a = points.entry((point.host, case.begin + point.minute)).or_insert(None);
        *a = point.a.or(*a);
        points
    });
    let bins: BTreeSet<i64> = range.clone().map(|minute| bin(case, minute)).collect();
    let mut rows = Vec::new();
    for host in 0..3 {
        let of_host: Vec<(i64, Option<i32>)> = points
            .iter()
            .filter(|((of, minute), _)| *of == host && range.contains(minute))
            .map(|((_, minute), a)| (*minute, *a))
            .collect();
        if of_host.is_empty() {
            continue;
        }
        let mut known: BTreeMap<i64, i64> = BTreeMap::new();
        for (minute, a) in &of_host {
            if let Some(a) = a {
                *known.entry(bin(case, *minute)).or_insert(0) += i64::from(*a);
            }
        }
        for at in &bins {
            let count = of_host.iter().filter(|(minute, _)| bin(case, *minute) == *at).count() as i64;
            let before = known.range(..=at).next_back();
            let line = before.zip(known.range(at..).next()).map(|((t0, v0), (t1, v1))| match t1 - t0 {
                0 => *v0,
                run => (v0 * run + (v1 - v0) * (at - t0)) / run,
            });
            let sum = known.get(at).copied();
            rows.push((format!("h{host}"), *at, count, sum, before.map(|(_, v)| *v), line));
        }
    }
    rows
}

fn found(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let number = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
            (!arrow::array::Array::is_null(column, row)).then(|| column.value(row))
        };
        for row in 0..batch.num_rows() {
            let host = batch.column_by_name("host").unwrap().as_string::<i32>().value(row).to_owned();
            let at = batch.column_by_name("t").unwrap().as_primitive::<TimestampNanosecondType>().value(row);
            assert_eq!(at % MINUTE, 0);
            rows.push((
                host,
                at / MINUTE,
                number("n", row).unwrap(),
                number("s", row),
                number("l", row),
                number("i", row),
            ));
        }
    }
    rows
}

async fn check_case(case: &Case) {
    let fixture = Fixture::new().await;
    // The columns are there whatever the points are, and the row is out of the range.
    fixture.write("m,host=h0 a=0i,b=0 0").await;
    for point in &case.points {
        let time = (case.begin + point.minute) * MINUTE;
        let a = point.a.map_or(String::new(), |a| format!("a={a}i,"));
        fixture.write(&format!("m,host=h{} {a}b=1 {time}", point.host)).await;
    }
    if case.is_persisted {
        fixture.persist().await;
    }
    let (begin, end) = (case.begin * MINUTE, (case.begin + case.minutes) * MINUTE);
    let ask = format!(
        "SELECT host, date_bin_wallclock_gapfill(INTERVAL '{} minutes', tz(time, '{}')) AS t, count(*) AS n, sum(a) AS s, \
         locf(sum(a)) AS l, interpolate(sum(a)) AS i FROM m \
         WHERE time >= to_timestamp({begin}) AND time < to_timestamp({end}) GROUP BY t, host",
        case.step,
        case.zone.name(),
    );
    let rows = found(&fixture.ask(&ask).await.unwrap());
    assert_eq!(rows, expected(case), "{ask}");
    if case.zone == Tz::UTC {
        let plain = ask.replace("date_bin_wallclock_gapfill", "date_bin_gapfill");
        assert_eq!(found(&fixture.ask(&plain).await.unwrap()), rows);
    }
}

#[test]
fn gaps_are_filled_as_a_walk_through_every_minute_says() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, max_shrink_iters: 200, ..Config::default() });
    runner
        .run(&case(), |case| {
            runtime.block_on(check_case(&case));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_long_series_comes_in_batches_and_many_series_go_through_one() {
    let fixture = Fixture::new().await;
    let lines: Vec<String> = (0..300).map(|host| format!("m,host=h{host:03} a={host}i {}", 7 * MINUTE)).collect();
    fixture.write(&lines.join("\n")).await;
    let ask = "SELECT count(*) AS n, sum(l) AS l, count(DISTINCT t) AS bins FROM ( \
               SELECT date_bin_gapfill(INTERVAL '1 minute', time) AS t, host, locf(max(a)) AS l FROM m \
               WHERE time >= '1970-01-01' AND time < '1970-01-02' GROUP BY t, host)";
    let rows = 300 * 1440;
    let carried: i64 = (0..300).sum::<i64>() * (1440 - 7);
    fixture.check(ask, &format!("| n | l | bins |\n| {rows} | {carried} | 1440 |")).await;
    let batches = fixture.ask("SELECT date_bin_gapfill(INTERVAL '1 second', time) AS t FROM m WHERE time >= '1970-01-01' AND time < '1970-01-02' GROUP BY t").await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 86_400);
    assert!(batches.iter().all(|batch| batch.num_rows() <= 8192));
}

#[tokio::test]
async fn the_list_of_bins_is_charged_to_the_memory_of_queries() {
    let fixture = Fixture::with(QuerySettings { threads: 2, memory_bytes: 16 << 20, ..QuerySettings::default() }).await;
    fixture.write("m a=1i 0").await;
    let ask = |days: u32| {
        format!(
            "SELECT count(*) FROM (SELECT date_bin_gapfill(INTERVAL '1 second', time) AS t FROM m WHERE time >= '1970-01-01' AND time < '1970-01-{:02}' GROUP BY t)",
            1 + days
        )
    };
    fixture.ask(&ask(3)).await.unwrap();
    let refused = fixture.ask(&ask(30)).await.unwrap_err();
    assert_eq!(refused.kind(), crate::error::ErrorKind::Exhausted, "{refused}");
}

#[tokio::test]
async fn bounds_may_be_parameters_and_plans_are_kept() {
    let fixture = Fixture::new().await;
    fixture.write("m a=1i 60000000000\nm a=5i 180000000000").await;
    let text = "SELECT date_bin_gapfill(INTERVAL '1 minute', time) AS t, interpolate(max(a)) AS a FROM m \
                WHERE time >= $from AND time < $1 GROUP BY t";
    let time = |text: &str| Parameter::String(text.to_owned());
    for (from, to, rows) in
        [("1970-01-01", "1970-01-01T00:05:00", 5), ("1970-01-01T00:01:00", "1970-01-01T00:03:00", 2)]
    {
        let query = query_with(text, &[("from", time(from)), ("1", time(to))]);
        let batches = fixture.ask_for(query).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows, "{from} {to}");
    }
    // What is announced without values is what comes with them.
    let announced = fixture.plan(text).await.unwrap();
    let with_values = query_with(text, &[("from", time("1970-01-01")), ("1", time("1970-01-01T00:05:00"))]);
    assert_eq!(announced.schema(), fixture.queries.plan(with_values).await.unwrap().schema());
    // A kept plan looks at the clock each time it runs.
    let until_now = "SELECT max(t) <= now() AS past FROM (SELECT date_bin_gapfill(INTERVAL '1 hour', time) AS t FROM m \
                     WHERE time >= now() - INTERVAL '100 years' AND time < now() GROUP BY t)";
    for _ in 0..2 {
        fixture.check(until_now, "| past |\n| true |").await;
    }
}

#[tokio::test]
async fn a_plan_shows_what_is_filled() {
    let fixture = Fixture::new().await;
    fixture.write("m,host=a a=1i 60000000000").await;
    let text = "SELECT host, date_bin_gapfill(INTERVAL '1 minute', time) AS t, locf(max(a)) FROM m \
                WHERE time >= '1970-01-01' AND time < '1970-01-02' GROUP BY host, t ORDER BY host, t";
    let plan = fixture.explain(text).await;
    assert!(plan.contains("GapFillExec: series=[host]"), "{plan}");
    let above = plan.lines().take_while(|line| !line.contains("GapFillExec"));
    assert!(!above.collect::<String>().contains("SortExec"), "what is filled is sorted: {plan}");
}
