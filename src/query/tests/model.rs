//! Random writes, persists and questions, compared with a map.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Half an hour, so that times share row groups and gaps remain.
pub(super) const TICK: i64 = 1_800_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Point {
    host: Option<u8>,
    region: Option<u8>,
    tick: i64,
    a: Option<i8>,
    b: Option<i8>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(Vec<Point>),
    Persist,
    Compact,
    Delete(Deleted),
}

/// Rows that one of these selects.
#[derive(Debug, Clone)]
pub(super) struct Deleted(Vec<Selected>);

/// Rows between two ticks, both included, and perhaps of some hosts only, or of none, or of one region.
#[derive(Debug, Clone)]
struct Selected {
    ticks: (i64, i64),
    hosts: Option<Vec<Option<u8>>>,
    region: Option<u8>,
}

impl Selected {
    fn sql(&self) -> String {
        let (first, last) = self.ticks;
        let mut sql = format!(
            "time >= to_timestamp_nanos({}) AND NOT time > arrow_cast({}, 'Timestamp(Nanosecond, None)')",
            first * TICK,
            last * TICK
        );
        if let Some(hosts) = &self.hosts {
            let host = |host: &Option<u8>| match host {
                Some(host) => format!("'h{host}' = host"),
                None => "host IS NULL".to_owned(),
            };
            sql += &format!(" AND ({})", hosts.iter().map(host).collect::<Vec<_>>().join(" OR "));
        }
        sql.extend(self.region.map(|region| format!(" AND region IN ('r{region}')")));
        sql
    }

    fn selects(&self, (host, region, time): &Key) -> bool {
        let (first, last) = self.ticks;
        let is_host = |wanted: &Option<u8>| wanted.map(|wanted| format!("h{wanted}")) == *host;
        (first * TICK..=last * TICK).contains(time)
            && self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(is_host))
            && self.region.is_none_or(|wanted| region.as_ref().is_some_and(|region| *region == format!("r{wanted}")))
    }
}

impl Deleted {
    pub(super) fn sql(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|selected| format!("({})", selected.sql())).collect();
        format!("DELETE FROM m WHERE {}", parts.join(" OR "))
    }

    fn apply(&self, model: &mut BTreeMap<Key, Fields>) {
        model.retain(|key, _| !self.0.iter().any(|selected| selected.selects(key)));
    }
}

type Key = (Option<String>, Option<String>, i64);
type Fields = (Option<f64>, Option<i64>);

fn point() -> impl Strategy<Value = Point> {
    let maybe = |most: u8| prop::option::weighted(0.8, 0..most);
    (maybe(3), maybe(2), 0_i64..24, prop::option::of(any::<i8>()), any::<i8>(), any::<bool>()).prop_map(
        |(host, region, tick, a, b, both)| {
            // A point has a field.
            let b = (both || a.is_none()).then_some(b);
            Point { host, region, tick, a, b }
        },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(point(), 1..12).prop_map(Step::Write),
        2 => Just(Step::Persist),
        1 => Just(Step::Compact),
        2 => deleted().prop_map(Step::Delete),
    ]
}

fn deleted() -> impl Strategy<Value = Deleted> {
    let hosts = prop::option::of(prop::collection::vec(prop::option::weighted(0.8, 0_u8..3), 1..3));
    let selected = (0_i64..24, 0_i64..24, hosts, prop::option::weighted(0.2, 0_u8..2))
        .prop_map(|(a, b, hosts, region)| Selected { ticks: (a.min(b), a.max(b)), hosts, region });
    prop::collection::vec(selected, 1..3).prop_map(Deleted)
}

pub(super) fn line(point: &Point) -> String {
    let mut line = "m".to_owned();
    line.extend(point.host.map(|host| format!(",host=h{host}")));
    line.extend(point.region.map(|region| format!(",region=r{region}")));
    let fields: Vec<String> =
        [point.a.map(|a| format!("a={a}")), point.b.map(|b| format!("b={b}i"))].into_iter().flatten().collect();
    format!("{line} {} {}", fields.join(","), point.tick * TICK)
}

/// The rule in ten lines.
fn apply(model: &mut BTreeMap<Key, Fields>, point: &Point) {
    let tag = |prefix: &str, tag: Option<u8>| tag.map(|tag| format!("{prefix}{tag}"));
    let key = (tag("h", point.host), tag("r", point.region), point.tick * TICK);
    let (a, b) = model.entry(key).or_default();
    *a = point.a.map(f64::from).or(*a);
    *b = point.b.map(i64::from).or(*b);
}

fn found(batches: &[RecordBatch]) -> Vec<(Key, Fields)> {
    let mut rows = Vec::new();
    for batch in batches {
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let time = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>().value(row);
            let a = batch.column_by_name("a").map(|column| column.as_primitive::<Float64Type>());
            let b = batch.column_by_name("b").map(|column| column.as_primitive::<Int64Type>());
            let a = a.filter(|a| a.is_valid(row)).map(|a| a.value(row));
            let b = b.filter(|b| b.is_valid(row)).map(|b| b.value(row));
            rows.push(((text("host", row), text("region", row), time), (a, b)));
        }
    }
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    rows
}

async fn check(steps: &[Step], few_rows_max: u64) {
    let fixture = Fixture::with(QuerySettings { threads: 2, few_rows_max, ..QuerySettings::default() }).await;
    // Both columns exist from the start, so that every question can be asked at every time.
    fixture.write("m,host=h0,region=r0 a=0,b=0i 0").await;
    let mut model = BTreeMap::new();
    apply(&mut model, &Point { host: Some(0), region: Some(0), tick: 0, a: Some(0), b: Some(0) });
    for (number, step) in steps.iter().enumerate() {
        // What was asked before is asked again at the end, when plans are kept.
        if number == steps.len() / 2 {
            ask_all(&fixture, &model).await;
        }
        match step {
            Step::Persist => fixture.persist().await,
            Step::Compact => fixture.engine.compact_all().await.unwrap(),
            Step::Delete(deleted) => {
                fixture.delete(&deleted.sql()).await.unwrap();
                deleted.apply(&mut model);
            }
            Step::Write(points) => {
                fixture.write(&points.iter().map(line).collect::<Vec<_>>().join("\n")).await;
                points.iter().for_each(|point| apply(&mut model, point));
            }
        }
    }
    ask_all(&fixture, &model).await;
}

async fn ask_all(fixture: &Fixture, model: &BTreeMap<Key, Fields>) {
    type Choice = fn(&Key, &Fields) -> bool;
    let questions: [(&str, Choice); 8] = [
        ("true", |_, _| true),
        ("a > 0", |_, (a, _)| a.is_some_and(|a| a > 0.0)),
        ("b < 0 AND host = 'h1'", |(host, ..), (_, b)| b.is_some_and(|b| b < 0) && host.as_deref() == Some("h1")),
        ("a IS NULL", |_, (a, _)| a.is_none()),
        ("host IS NULL OR region = 'r1'", |(host, region, _), _| host.is_none() || region.as_deref() == Some("r1")),
        ("time >= '1970-01-01T03:00:00' AND time < '1970-01-01T07:30:00'", |(.., time), _| {
            (6 * TICK..15 * TICK).contains(time)
        }),
        ("time = '1970-01-01T03:00:00' AND a <> 5", |(.., time), (a, _)| {
            *time == 6 * TICK && a.is_some_and(|a| a != 5.0)
        }),
        ("b > 100 AND time > '1970-01-01T06:00:00'", |(.., time), (_, b)| {
            b.is_some_and(|b| b > 100) && *time > 12 * TICK
        }),
    ];
    for (condition, fits) in questions {
        let expected: Vec<(Key, Fields)> = model
            .iter()
            .filter(|(key, fields)| fits(key, fields))
            .map(|(key, fields)| (key.clone(), *fields))
            .collect();
        let rows = found(&fixture.ask(&format!("SELECT * FROM m WHERE {condition}")).await.unwrap());
        assert_eq!(rows, expected, "{condition}");
        // Fewer columns, other plans: nothing but the count, only a field, the newest by time.
        let count = format!("SELECT count(*) AS n, count(a) AS a, sum(b) AS b FROM m WHERE {condition}");
        let batches = fixture.ask(&count).await.unwrap();
        let number = |name: &str| {
            let column = batches[0].column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
            column.is_valid(0).then(|| column.value(0))
        };
        let bs: Vec<i64> = expected.iter().filter_map(|(_, (_, b))| *b).collect();
        let sum = (!bs.is_empty()).then(|| bs.iter().sum::<i64>());
        let with_a = expected.iter().filter(|(_, (a, _))| a.is_some()).count() as i64;
        assert_eq!(
            (number("n"), number("a"), number("b")),
            (Some(expected.len() as i64), Some(with_a), sum),
            "{condition}"
        );

        let newest = format!("SELECT * FROM m WHERE {condition} ORDER BY time DESC, host, region LIMIT 3");
        let mut by_time = expected.clone();
        let last = |tag: &Option<String>| (tag.is_none(), tag.clone());
        by_time.sort_by_key(|((host, region, time), _)| (-time, last(host), last(region)));
        by_time.truncate(3);
        by_time.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(found(&fixture.ask(&newest).await.unwrap()), by_time, "{newest}");
    }
}

#[test]
fn answers_are_those_of_a_map_whatever_is_persisted_when() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 200, ..Config::default() });
    runner
        .run(&(prop::collection::vec(step(), 1..10), prop::bool::ANY), |(steps, is_for_one_thread)| {
            runtime.block_on(check(&steps, if is_for_one_thread { 1 << 20 } else { 0 }));
            Ok(())
        })
        .unwrap();
}
