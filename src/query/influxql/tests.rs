//! What statements mean, over a table in memory: names, errors, buckets, fills, transformations, limits.
//!
//! Whole answers are compared with InfluxDB's in `tests/it/influxql/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::compile;
use super::level::{From, Level, SlotSource, levels};
use super::resolve::{Catalog, Measured, resolve};
use super::series::SeriesPass;
use super::value::{Type, Value};
use crate::syntax::influxql::{Select, Statement, parse};

/// `cpu` with the tag `host`, a float, an integer and a text.
struct OneTable;

const SECOND: i64 = 1_000_000_000;

/// Host, second, `v`, `n`.
const ROWS: [(&str, i64, Option<f64>, Option<i64>); 6] = [
    ("a", 0, Some(1.0), Some(10)),
    ("a", 10, Some(3.0), None),
    ("a", 40, Some(9.0), Some(40)),
    ("b", 0, Some(5.0), Some(7)),
    ("b", 20, None, Some(8)),
    ("b", 40, Some(1.0), Some(9)),
];

impl Catalog for OneTable {
    fn database(&self, database: Option<&str>, policy: Option<&str>) -> Result<String, String> {
        match (database, policy) {
            (Some(database), _) if database != "db" => Err(format!("database not found: {database}")),
            _ => Ok("db".to_owned()),
        }
    }

    fn measurements(&self, _: &str) -> Vec<String> {
        vec!["cpu".to_owned()]
    }

    fn measured(&self, _: &str, measurement: &str) -> Option<Arc<Measured>> {
        let fields = [("n", Type::Integer), ("s", Type::String), ("v", Type::Float)];
        let fields: BTreeMap<_, _> = fields.map(|(name, kind)| (name.to_owned(), kind)).into();
        (measurement == "cpu").then(|| Arc::new(Measured { tags: vec!["host".to_owned()], fields }))
    }
}

fn select(text: &str) -> Select {
    match parse(text, &[]).unwrap().remove(0) {
        Statement::Select(select) => *select,
        other => panic!("{other}"),
    }
}

/// The columns of the answer, and a level for each measurement.
type Planned = (Vec<String>, Vec<(String, Level)>);

fn plan(text: &str) -> Result<Planned, String> {
    let compiled = compile(&select(text), 100 * SECOND)?;
    let query = resolve(&compiled, &OneTable)?;
    Ok((query.columns.clone(), levels(&query)?))
}

/// Tags, second and values of each row that comes out.
fn run(level: &Level) -> Vec<(Vec<Value>, i64, Vec<Value>)> {
    let mut rows = Vec::new();
    for input in &level.inputs {
        match &input.from {
            From::Table(_) => {
                for (host, second, v, n) in ROWS {
                    let slot = |source: &SlotSource| match source {
                        SlotSource::Tag(_) => Value::String(host.into()),
                        SlotSource::Field(field) if field == "v" => v.map_or(Value::Null, Value::Float),
                        SlotSource::Field(field) if field == "n" => n.map_or(Value::Null, Value::Integer),
                        _ => Value::Null,
                    };
                    // In conditions a tag that is absent is the empty text.
                    let blank = |(n, value): (usize, Value)| match value {
                        Value::Null if level.slots[n].blank && input.slots[n] == SlotSource::Missing => {
                            Value::String("".into())
                        }
                        value => value,
                    };
                    let values = input.slots.iter().map(slot).enumerate().map(blank);
                    rows.push((second * SECOND, values.collect::<Vec<_>>()));
                }
            }
            From::Level(below) => {
                for (tags, second, values) in run(below) {
                    let slot = |source: &SlotSource| match source {
                        SlotSource::Group(group) => tags[*group].clone(),
                        SlotSource::Output(output) => values[*output].clone(),
                        _ => Value::Null,
                    };
                    rows.push((second * SECOND, input.slots.iter().map(slot).collect()));
                }
            }
        }
    }
    let groups = level.groups.len();
    rows.sort_by_key(|(time, slots)| (format!("{:?}", &slots[..groups]), *time));
    if !level.ascending {
        rows.reverse();
    }
    let mut pass = SeriesPass::new(Arc::new(level.clone()), None);
    let mut out = Vec::new();
    let mut drain = |pass: &mut SeriesPass| {
        loop {
            match pass.next_row() {
                Some(row) => out.push((row.series.to_vec(), row.time / SECOND, row.values)),
                None if pass.is_paused() => {}
                None => break,
            }
        }
    };
    for (time, slots) in rows {
        if level.condition.as_ref().is_some_and(|condition| !condition.holds(&slots)) {
            continue;
        }
        if !pass.accepts(&slots) {
            pass.end_series();
            drain(&mut pass);
        }
        if !pass.is_full() {
            pass.push(time, slots);
        }
        drain(&mut pass);
    }
    pass.end_series();
    drain(&mut pass);
    out
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Float(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::String(value) => value.to_string(),
        Value::Boolean(value) => value.to_string(),
    }
}

/// Runs a statement over `cpu`: a line for each row, `host second: values`.
#[track_caller]
fn check(statement: &str, expected: &[&str]) {
    let (_, levels) = plan(statement).unwrap();
    let mut lines = Vec::new();
    for (_, level) in levels {
        for (tags, second, values) in run(&level) {
            let words = |values: &[Value]| values.iter().map(text).collect::<Vec<_>>().join(" ");
            let tags = words(&tags);
            let space = if tags.is_empty() { "" } else { " " };
            lines.push(format!("{tags}{space}{second}: {}", words(&values)));
        }
    }
    assert_eq!(lines, expected, "{statement}");
}

#[track_caller]
fn refused(statement: &str, expected: &str) {
    assert_eq!(plan(statement).map(|(columns, _)| columns), Err(expected.to_owned()), "{statement}");
}

#[test]
fn columns_are_called_after_what_they_are() {
    let columns = |text: &str| plan(text).unwrap().0.join(" ");
    assert_eq!(columns("SELECT * FROM cpu"), "host n s v");
    assert_eq!(columns("SELECT * FROM cpu GROUP BY host"), "n s v");
    assert_eq!(columns("SELECT *, v FROM cpu GROUP BY *"), "n s v v_1");
    assert_eq!(columns("SELECT v, v, v FROM cpu"), "v v_1 v_2");
    assert_eq!(columns("SELECT v AS x, n AS x, s AS v, v FROM cpu"), "x x v v_1");
    assert_eq!(
        columns("SELECT mean(v), mean(v) * 2, -n + v FROM cpu GROUP BY host".replace(", -n + v", "").as_str()),
        "mean mean_1"
    );
    assert_eq!(columns("SELECT -n + v, (v) FROM cpu"), "n_v v");
    assert_eq!(columns("SELECT mean(*), count(/n|s/) AS c FROM cpu"), "mean_n mean_v c_n c_s");
    assert_eq!(columns("SELECT top(v, host, 1) FROM cpu"), "top host");
    assert_eq!(columns("SELECT /^(v|host)$/ FROM cpu"), "host v");
}

#[test]
fn what_does_not_go_together_is_refused_in_the_words_of_influxdb() {
    for (statement, error) in [
        ("SELECT time FROM cpu", "at least 1 non-time field must be queried"),
        ("SELECT 1 + 1 FROM cpu", "field must contain at least one variable"),
        ("SELECT mean(v + 1) FROM cpu", "expected field argument in mean()"),
        ("SELECT mean(v), n FROM cpu", "mixing aggregate and non-aggregate queries is not supported"),
        (
            "SELECT max(v), min(v), n FROM cpu",
            "mixing multiple selector functions with tags or fields is not supported",
        ),
        ("SELECT nope(v) FROM cpu", "undefined function nope()"),
        ("SELECT v FROM cpu GROUP BY time(10s)", "GROUP BY requires at least one aggregate function"),
        ("SELECT v FROM cpu fill(none)", "fill(none) must be used with a function"),
        ("SELECT mean(v) FROM cpu GROUP BY time(10)", "time dimension must have duration argument"),
        ("SELECT derivative(mean(v)) FROM cpu", "derivative aggregate requires a GROUP BY interval"),
        (
            "SELECT derivative(v) FROM cpu GROUP BY time(10s)",
            "aggregate function required inside the call to derivative",
        ),
        (
            "SELECT derivative(v, 5) FROM cpu",
            "second argument to derivative must be a duration, got *influxql.IntegerLiteral",
        ),
        ("SELECT moving_average(v, 1) FROM cpu", "moving_average window must be greater than 1, got 1"),
        (
            "SELECT top(v, 3) FROM cpu LIMIT 2",
            "limit (3) in top function can not be larger than the LIMIT (2) in the select statement",
        ),
        ("SELECT mean(s) FROM cpu", "unsupported mean iterator type: *query.stringInterruptIterator"),
        ("SELECT v + s FROM cpu", "type error: v::float + s::string: incompatible types: float and string"),
        ("SELECT -s FROM cpu", "type error: -1 * s::string: incompatible types: integer and string"),
        ("SELECT v & 2.5 FROM cpu", "type error: v::float & 2.500: incompatible types: float and float"),
        ("SELECT mean(*::tag) FROM cpu", "unable to use tag wildcard in mean()"),
        ("SELECT v FROM cpu WHERE mean(v) > 1", "invalid function call in condition: mean(v)"),
        ("SELECT v FROM x..cpu", "database not found: x"),
        (
            "SELECT v FROM (SELECT v FROM cpu ORDER BY time DESC)",
            "subqueries must be ordered in the same direction as the query itself",
        ),
        (
            "SELECT holt_winters(mean(v), 1, 501) FROM cpu GROUP BY time(1s)",
            "third arg to holt_winters can be 500 at most, got 501",
        ),
        ("SELECT holt_winters(v, 1, 1) FROM cpu GROUP BY time(1s)", "must use aggregate function with holt_winters"),
        ("SELECT count_hll(v) FROM cpu", "count_hll() counts what sum_hll() has seen: count_hll(sum_hll(field))"),
        (
            "SELECT date_part('day', v) FROM cpu",
            "date_part() takes the name of a part and the time: date_part('hour', time)",
        ),
    ] {
        refused(statement, error);
    }
}

#[test]
fn rows_are_those_that_have_a_field_that_is_asked_for() {
    check("SELECT v, host FROM cpu WHERE host = 'a' AND v > 1", &["10: 3 a", "40: 9 a"]);
    check("SELECT v FROM cpu WHERE nosuch = '' AND host =~ /^(b)$/ AND n != 8", &["0: 5", "40: 1"]);
    check("SELECT v FROM cpu WHERE n != 'x'", &[]);
    check("SELECT nosuch FROM cpu", &[]);
    check("SELECT host FROM cpu", &[]);
    check("SELECT v FROM nosuch", &[]);
    check("SELECT mean(host) FROM cpu", &[]);
}

#[test]
fn limits_are_of_each_series_and_of_series() {
    check("SELECT v FROM cpu GROUP BY host LIMIT 1 OFFSET 1", &["a 10: 3", "b 20: -"]);
    check("SELECT n FROM cpu GROUP BY host ORDER BY time DESC LIMIT 1", &["b 40: 9", "a 40: 40"]);
    check("SELECT v FROM cpu GROUP BY host LIMIT 1 SLIMIT 1 SOFFSET 1", &["b 0: 5"]);
    check("SELECT v FROM cpu GROUP BY host LIMIT 1 SOFFSET 2", &[]);
}

#[test]
fn empty_buckets_are_filled_as_asked() {
    let mean = |fill: &str| {
        format!("SELECT mean(v) FROM cpu WHERE time >= 0s AND time < 50s AND host = 'a' GROUP BY time(10s) {fill}")
    };
    check(&mean(""), &["0: 1", "10: 3", "20: -", "30: -", "40: 9"]);
    check(&mean("fill(none)"), &["0: 1", "10: 3", "40: 9"]);
    check(&mean("fill(previous)"), &["0: 1", "10: 3", "20: 3", "30: 3", "40: 9"]);
    check(&mean("fill(linear)"), &["0: 1", "10: 3", "20: 5", "30: 7", "40: 9"]);
    check(&mean("fill(7)"), &["0: 1", "10: 3", "20: 7", "30: 7", "40: 9"]);
    check(&mean("fill(previous) ORDER BY time DESC LIMIT 3"), &["40: 9", "30: 9", "20: 9"]);
    let counts = "SELECT count(v), sum(n) FROM cpu WHERE time >= 0s AND time < 30s AND host = 'b' GROUP BY time(10s)";
    check(counts, &["0: 1 7", "10: 0 -", "20: 0 8"]);
    // A value that is missing waits for nothing and is waited for by nothing.
    let none =
        "SELECT mean(v), sum(n), mode(v) FROM cpu WHERE time >= 0s AND time < 50s GROUP BY time(10s), host fill(none)";
    check(none, &["a 0: 1 10 1", "a 10: 3 - 3", "a 40: 9 40 9", "b 0: 5 7 5", "b 20: - 8 -", "b 40: 1 9 1"]);
    // Without a lower bound from the first point; up to now.
    check(
        "SELECT count(n) FROM cpu WHERE time < 15s GROUP BY time(10s), host",
        &["a 0: 1", "a 10: 0", "b 0: 1", "b 10: 0"],
    );
    let short = "SELECT difference(mean(v)) FROM cpu WHERE time >= 0s AND time < 50s AND host = 'a' GROUP BY time(1u)";
    check(short, &["10: 2", "40: 6"]);
}

#[test]
fn a_search_among_many_short_buckets_pauses() {
    let text = "SELECT count(v) FROM cpu WHERE time >= 0s AND time < 1s AND host = 'a' GROUP BY time(1u) LIMIT 1 OFFSET 500000";
    check(text, &["0: 0"]);
}

#[test]
fn selectors_say_when_and_aggregates_say_since_when() {
    check("SELECT max(v) FROM cpu", &["40: 9"]);
    check("SELECT max(v), host, n FROM cpu WHERE time < 20s", &["0: 5 b 7"]);
    check("SELECT max(v), min(v) FROM cpu WHERE time >= 5s", &["5: 9 1"]);
    check("SELECT mean(v) FROM cpu", &["0: 3.8"]);
    check("SELECT top(v, 2), host FROM cpu", &["0: 5 b", "40: 9 a"]);
    check("SELECT bottom(v, host, 1) FROM cpu", &["0: 1 a"]);
    check("SELECT percentile(n, 50), host FROM cpu", &["40: 9 b"]);
    check("SELECT distinct(v) FROM cpu WHERE host = 'b'", &["0: 5", "0: 1"]);
    check("SELECT count(distinct(v)) FROM cpu", &["0: 4"]);
}

#[test]
fn transformations_look_one_bucket_back() {
    let difference =
        "SELECT difference(max(v)), max(v) FROM cpu WHERE time >= 10s AND time < 50s AND host = 'a' GROUP BY time(10s)";
    check(difference, &["10: 2 3", "20: - -", "30: - -", "40: 6 9"]);
    check("SELECT derivative(v) FROM cpu WHERE host = 'a'", &["10: 0.2", "40: 0.2"]);
    check(
        "SELECT cumulative_sum(n) FROM cpu GROUP BY host",
        &["a 0: 10", "a 40: 50", "b 0: 7", "b 20: 15", "b 40: 24"],
    );
}

/// InfluxDB reads one bucket further back here, two if a function stands beside that needs two, and computes with buckets that
/// it has not read where they are filled.
#[test]
fn a_transformation_of_a_transformation_looks_two_buckets_back() {
    let twice = |range: &str, rest: &str| {
        format!("SELECT difference(difference(max(n))) FROM cpu WHERE {range} GROUP BY time(20s){rest}")
    };
    check(&twice("time >= 40s AND time < 60s", ""), &["40: 34"]);
    check(&twice("time >= 40s AND time < 60s", " fill(0)"), &["40: 34"]);
    check(&twice("time < 20s", " ORDER BY time DESC"), &["0: 34"]);
}

#[test]
fn a_subquery_is_told_apart_as_the_query_around_it() {
    check("SELECT max(mean) FROM (SELECT mean(v) FROM cpu GROUP BY host)", &["0: 4.333333333333333"]);
    check("SELECT mean FROM (SELECT mean(v) FROM cpu) GROUP BY host", &["a 0: 4.333333333333333", "b 0: 3"]);
    check(
        "SELECT sum(m) FROM (SELECT max(n) AS m FROM cpu GROUP BY time(20s), host) WHERE time >= 0s AND time < 60s",
        &["0: 74"],
    );
    check("SELECT distinct(host) FROM (SELECT v, host FROM cpu)", &["0: a", "0: b"]);
}

#[test]
fn a_forecast_comes_after_the_last_bucket() {
    let (_, levels) =
        plan("SELECT holt_winters(max(v), 2, 0), max(v) FROM cpu WHERE time < 50s GROUP BY time(20s) fill(none)")
            .unwrap();
    let rows: Vec<_> = run(&levels[0].1).into_iter().map(|(_, second, values)| (second, values[0].is_null())).collect();
    assert_eq!(rows, [(0, true), (40, true), (60, false), (80, false)]);
}

#[test]
fn what_is_kept_and_what_is_made_is_known() {
    let (_, levels) = plan("SELECT median(v) FROM cpu WHERE time >= 0 AND time < 1h GROUP BY time(1s)").unwrap();
    let mut pass = SeriesPass::new(Arc::new(levels[0].1.clone()), None);
    assert_eq!(pass.bytes(), 0);
    let slots = vec![Value::Float(1.0); levels[0].1.slots.len()];
    (0..1000).for_each(|_| pass.push(3000 * SECOND, slots.clone()));
    assert!(pass.bytes() > 1000 * size_of::<f64>(), "{}", pass.bytes());
    while pass.next_row().is_some() {}
    pass.end_series();
    let mut most = 0;
    while pass.next_row().is_some() {
        most = pass.empty_buckets().max(most);
    }
    assert!(most > 3000 && pass.bytes() == 0, "{most}");
}
