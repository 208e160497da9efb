//! Selectors against a model that looks at one row after the other.

use arrow::array::{Array, StructArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Points of one host may share an instant: they differ in a tag.
#[derive(Debug, Clone)]
struct Point {
    host: u8,
    time: i64,
    float: Option<i8>,
    text: Option<u8>,
}

fn point() -> impl Strategy<Value = Point> {
    (0..4u8, 0..6i64, prop::option::weighted(0.8, -4..4i8), prop::option::of(0..3u8))
        .prop_map(|(host, time, float, text)| Point { host, time, float, text })
}

/// A chosen row: its value, its time.
type Chosen<T> = Option<(T, i64)>;

/// The rule in a few lines: of equal times the greater value, of equal values the earlier time.
fn model<T: Ord + Clone>(function: &str, rows: &[(T, i64)]) -> Chosen<T> {
    let by_time = |(value, time): &&(T, i64)| (*time, value.clone());
    let chosen = match function {
        "selector_last" => rows.iter().max_by_key(by_time),
        "selector_first" => rows.iter().max_by_key(|(value, time)| (-time, value.clone())),
        "selector_max" => rows.iter().max_by_key(|(value, time)| (value.clone(), -time)),
        _ => rows.iter().min_by_key(|(value, time)| (value.clone(), *time)),
    };
    chosen.cloned()
}

fn selected<T>(column: &StructArray, row: usize, value: impl Fn(&ArrayRef) -> T) -> Chosen<T> {
    let time = column.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>();
    column.is_valid(row).then(|| (value(column.column_by_name("value").unwrap()), time.value(row)))
}

async fn check(points: &[Point], persist_at: usize) {
    let fixture = Fixture::new().await;
    fixture.write("m,host=none float=1i,text=x 99").await;
    for (n, point) in points.iter().enumerate() {
        let mut fields = vec!["other=1".to_owned()];
        fields.extend(point.float.map(|float| format!("float={float}i")));
        fields.extend(point.text.map(|text| format!("text=text{text}")));
        fixture.write(&format!("m,host=h{},id={n} {} {}", point.host, fields.join(","), point.time)).await;
        if n == persist_at {
            fixture.persist().await;
        }
    }
    for function in ["selector_first", "selector_last", "selector_min", "selector_max"] {
        let grouped = format!(
            "SELECT host, {function}(float, time) AS f, {function}(text, time) AS x FROM m WHERE time < '1970-01-01T00:00:00.00000005' GROUP BY host"
        );
        let mut hosts = 0;
        for batch in &fixture.ask(&grouped).await.unwrap() {
            for row in 0..batch.num_rows() {
                hosts += 1;
                let host = batch.column(0).as_string::<i32>().value(row);
                let of_host = || points.iter().filter(|point| format!("h{}", point.host) == host);
                let floats: Vec<(i64, i64)> =
                    of_host().filter_map(|point| Some((i64::from(point.float?), point.time))).collect();
                let texts: Vec<(String, i64)> =
                    of_host().filter_map(|point| Some((format!("text{}", point.text?), point.time))).collect();
                let float = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(row);
                let text = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
                assert_eq!(selected(batch.column(1).as_struct(), row, float), model(function, &floats), "{grouped}");
                assert_eq!(selected(batch.column(2).as_struct(), row, text), model(function, &texts), "{grouped}");
            }
        }
        let with_points: std::collections::BTreeSet<u8> = points.iter().map(|point| point.host).collect();
        assert_eq!(hosts, with_points.len());
        // Without groups, and with a filter.
        let whole = format!(
            "SELECT {function}(float, time) FILTER (WHERE float <> 0) AS f FROM m WHERE time < '1970-01-01T00:00:00.00000005'"
        );
        let floats: Vec<(i64, i64)> = points
            .iter()
            .filter(|point| point.float != Some(0))
            .filter_map(|point| Some((i64::from(point.float?), point.time)))
            .collect();
        let batches = fixture.ask(&whole).await.unwrap();
        let float = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(0);
        assert_eq!(selected(batches[0].column(0).as_struct(), 0, float), model(function, &floats), "{whole}");
    }
}

#[test]
fn a_selector_chooses_the_row_that_a_walk_over_all_rows_chooses() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 200, ..Config::default() });
    runner
        .run(&(prop::collection::vec(point(), 0..30), 0..30usize), |(points, persist_at)| {
            runtime.block_on(check(&points, persist_at));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn many_groups_and_many_batches_are_gathered() {
    let fixture = Fixture::new().await;
    // More rows than are kept before they are gathered, several times over.
    for part in 0..4_i64 {
        let lines: Vec<String> =
            (0..50_000_i64).map(|n| format!("m,host=h{} v={}i {}", n % 500, n + part, part * 50_000 + n)).collect();
        fixture.write(&lines.join("\n")).await;
    }
    let ask = "SELECT count(*) AS n, sum(l['value']) AS last, sum(f['value']) AS first, min(l['time']) >= '1970-01-01T00:00:00.0001995' AS late FROM ( \
               SELECT host, selector_last(v, time, host) AS l, selector_first(v, time, host) AS f FROM m GROUP BY host) WHERE l['other_1'] = host";
    let last: i64 = (49_500..50_000).map(|n| n + 3).sum();
    let first: i64 = (0..500).sum();
    fixture.check(ask, &format!("| n | last | first | late |\n| 500 | {last} | {first} | true |")).await;
}
