//! Questions about few rows are planned for one thread, and answered as on two.

use super::kept::{sorted, texts};
use super::*;

/// Ten hosts of a hundred points each, a minute apart; half of it in files.
async fn filled(few_rows_max: u64) -> Fixture {
    let fixture = Fixture::with(QuerySettings { threads: 2, few_rows_max, ..QuerySettings::default() }).await;
    for half in 0..2 {
        let points = (half * 50..half * 50 + 50).flat_map(|minute| (0..10).map(move |host| (minute, host)));
        let line = |(minute, host)| {
            let time = minute * 60_000_000_000_i64;
            format!("m,host=h{host},region=r{} a={minute},b={host}i {time}", host % 2)
        };
        fixture.write(&points.map(line).collect::<Vec<_>>().join("\n")).await;
        if half == 0 {
            fixture.persist().await;
        }
    }
    fixture
}

#[tokio::test]
async fn one_thread_answers_as_two_do() {
    let (one, two) = (filled(1 << 20).await, filled(0).await);
    let buckets = "SELECT date_bin(INTERVAL '7 minutes', time) AS t, region, count(*) AS n, avg(a) AS a FROM m \
                   WHERE host IN ('h1', 'h2', 'h7') AND time > '1970-01-01T00:11:00' GROUP BY 1, 2 ORDER BY 1, 2";
    for text in texts().iter().map(String::as_str).chain([buckets]) {
        let (one, two) = (one.answer(text).await, two.answer(text).await);
        // Which rows come before a limit is not always said.
        match text.contains("LIMIT") {
            true => assert_eq!(one.lines().count(), two.lines().count(), "{text}"),
            false => assert_eq!(sorted(&one), sorted(&two), "{text}"),
        }
    }
    assert_eq!(one.answer(buckets).await, two.answer(buckets).await, "in order");
}

#[tokio::test]
async fn where_series_are_known_their_rows_are_counted() {
    let fixture = filled(120).await;
    fixture.persist().await;
    fixture.check("SELECT count(DISTINCT host) AS hosts FROM m", "| hosts |\n| 10 |").await;
    for (condition, expected) in [("host = 'h1'", 1), ("host IN ('h1', 'h2')", 2), ("host IN ('h1', 'h77')", 1)] {
        let plan = fixture.explain(&format!("SELECT max(a) AS a FROM m WHERE {condition}")).await;
        let threads = if plan.contains("RepartitionExec") || plan.contains("mode=Partial") { 2 } else { 1 };
        assert_eq!(threads, expected, "each has a hundred rows: {condition}\n{plan}");
    }
}

#[tokio::test]
async fn where_few_rows_are_expected_the_scan_says_so() {
    let fixture = filled(120).await;
    fixture.persist().await;
    fixture.check("SELECT count(DISTINCT host) AS hosts FROM m", "| hosts |\n| 10 |").await;
    for (condition, rows) in [("host = 'h1'", 120), ("host <> 'h1'", 1000)] {
        let plans = fixture.ask(&format!("EXPLAIN VERBOSE SELECT max(a) AS a FROM m WHERE {condition}")).await.unwrap();
        let (kinds, texts) = (plans[0].column(0).as_string::<i32>(), plans[0].column(1).as_string::<i32>());
        let place = kinds.iter().position(|kind| kind == Some("physical_plan_with_stats")).unwrap();
        let plan = texts.value(place);
        let scan = plan.lines().find(|line| line.contains("DataSourceExec")).unwrap();
        assert!(scan.contains(&format!("Rows=Inexact({rows})")), "{condition}\n{plan}");
    }
}

#[tokio::test]
async fn by_time_and_tags_few_rows_are_expected() {
    let fixture = filled(60).await;
    let threads = async |condition: &str| {
        let text = format!("SELECT region, max(a) AS a FROM m WHERE {condition} GROUP BY region ORDER BY region");
        let plan = fixture.explain(&text).await;
        assert_eq!(plan.contains("RepartitionExec"), plan.contains("FinalPartitioned"), "{plan}");
        if plan.contains("RepartitionExec") { 2 } else { 1 }
    };
    for (condition, expected) in [
        ("true", 2),
        ("a > 98", 2),
        ("time < '1970-01-01T00:05:00'", 1),
        ("time >= '1970-01-01T01:36:00'", 1),
        ("time >= '1970-01-01T00:05:00'", 2),
        ("time > '1970-01-01T02:00:00'", 1),
        ("host = 'h1'", 2),
        ("host = 'h1' AND time < '1970-01-01T00:30:00'", 1),
        ("host = 'h1' AND region = 'r1'", 1),
        ("host <> 'h1' AND region <> 'r1'", 2),
        ("host = 'h1' OR time < '1970-01-01T00:05:00'", 2),
    ] {
        assert_eq!(threads(condition).await, expected, "{condition}");
    }
}

#[tokio::test]
async fn of_the_ends_of_few_series_few_rows_are_expected() {
    let fixture = filled(60).await;
    let is_on_one = async |text: &str| !fixture.explain(text).await.contains("RepartitionExec");
    let newest = "SELECT host, region, max(time) AS t FROM m GROUP BY host, region";
    assert!(!is_on_one(newest).await, "how many series there are is not known");
    fixture.ask(newest).await.unwrap();
    for (text, expected) in [
        (newest, true),
        ("SELECT DISTINCT host FROM m", true),
        ("SELECT DISTINCT ON (host) * FROM m ORDER BY host, time DESC", true),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY host ORDER BY time) AS n FROM m) AS x WHERE n <= 3",
            true,
        ),
        (
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY host ORDER BY time) AS n FROM m) AS x WHERE n <= 4",
            false,
        ),
        ("SELECT region, count(*) FROM (SELECT * FROM m ORDER BY time DESC LIMIT 60) AS x GROUP BY region", true),
        ("SELECT region, count(*) FROM (SELECT * FROM m ORDER BY time DESC LIMIT 61) AS x GROUP BY region", false),
        ("SELECT host, max(time) AS t FROM m WHERE region <> 'r1' GROUP BY host", false),
    ] {
        assert_eq!(is_on_one(text).await, expected, "{text}");
    }
}

/// For `perf stat`: its instructions, with `FEW_ROWS_MAX=0` in the environment and without.
#[tokio::test]
#[ignore = "measures"]
async fn small_questions_again_and_again() {
    let few_rows_max = std::env::var("FEW_ROWS_MAX").map_or(32 << 10, |text| text.parse().expect("a number"));
    let fixture = filled(few_rows_max).await;
    fixture.persist().await;
    let text = "SELECT date_trunc('minute', time) AS bucket, max(a) AS a FROM m WHERE host = 'h3' \
                AND time >= TIMESTAMP '1970-01-01T00:10:00' AND time < TIMESTAMP '1970-01-01T01:10:00' GROUP BY 1 ORDER BY 1";
    for _ in 0..300 {
        assert_eq!(fixture.ask(text).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 60);
    }
}
