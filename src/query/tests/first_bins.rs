//! Bins at one end of the time are made of the rows there, and of more if these are not enough.

use arrow::util::pretty::pretty_format_batches;

use super::*;

const MINUTE: i64 = 60_000_000_000;

/// Two hosts for a day, a point a minute; not where few rows are planned otherwise.
async fn day() -> Fixture {
    let fixture = Fixture::new().await;
    let line = |minute: i64| {
        let (a, time) = (minute % 10, minute * MINUTE + 5);
        format!("m,host=h0 a={a},b={minute}i {time}\nm,host=h1 a={a} {}", time + MINUTE / 2)
    };
    let lines: Vec<String> = (0..1440).map(line).collect();
    fixture.write(&lines[..1400].join("\n")).await;
    fixture.persist().await;
    fixture.write(&lines[1400..].join("\n")).await;
    fixture
}

impl Fixture {
    async fn analyzed(&self, text: &str) -> String {
        let plan = self.ask(&format!("EXPLAIN ANALYZE {text}")).await.unwrap();
        plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned()
    }
}

#[tokio::test]
async fn a_stretch_at_the_end_is_enough() {
    let fixture = day().await;
    for (text, expected) in [
        (
            "SELECT date_bin(INTERVAL '1 minute', time) AS t, count(*) AS n FROM m GROUP BY t ORDER BY t DESC LIMIT 2",
            "| t | n |\n| 1970-01-01T23:59:00 | 2 |\n| 1970-01-01T23:58:00 | 2 |",
        ),
        (
            "SELECT date_trunc('minute', time) AS t, max(b) AS b FROM m WHERE time < '1970-01-01T12:00:20' GROUP BY 1 ORDER BY 1 DESC LIMIT 2",
            "| t | b |\n| 1970-01-01T12:00:00 | 720 |\n| 1970-01-01T11:59:00 | 719 |",
        ),
        (
            "SELECT host, date_trunc('hour', time) AS t, sum(b) AS b FROM m GROUP BY host, t ORDER BY t, host LIMIT 3",
            "| host | t | b |\n| h0 | 1970-01-01T00:00:00 | 1770 |\n| h1 | 1970-01-01T00:00:00 |  |\n| h0 | 1970-01-01T01:00:00 | 5370 |",
        ),
        (
            "SELECT b FROM (SELECT date_bin(INTERVAL '10 minutes', time) AS t, min(b) AS b FROM m GROUP BY t) AS x ORDER BY x.t LIMIT 1 OFFSET 2",
            "| b |\n| 20 |",
        ),
    ] {
        for _ in 0..2 {
            fixture.check(text, expected).await;
        }
        let plan = fixture.analyzed(text).await;
        assert!(plan.contains("FirstBinsExec: rows="), "{text}\n{plan}");
        let bound = if text.contains("DESC") { " >= " } else { " < " };
        let shown = fixture.explain(text).await;
        assert!(shown.contains("time@") && shown.contains(bound), "{text}\n{shown}");
    }
}

#[tokio::test]
async fn more_is_looked_at_if_there_are_too_few() {
    let fixture = day().await;
    for (text, expected) in [
        (
            "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(b) AS b FROM m GROUP BY t HAVING max(b) < 700 ORDER BY t DESC LIMIT 1",
            "| t | b |\n| 1970-01-01T11:39:00 | 699 |",
        ),
        (
            "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(b) AS b FROM m WHERE b IN (3, 100, 1000) GROUP BY t ORDER BY t LIMIT 5",
            "| t | b |\n| 1970-01-01T00:03:00 | 3 |\n| 1970-01-01T01:40:00 | 100 |\n| 1970-01-01T16:40:00 | 1000 |",
        ),
    ] {
        for _ in 0..2 {
            fixture.check(text, expected).await;
        }
        let plan = fixture.analyzed(text).await;
        assert!(plan.contains("FirstBinsExec: rows="), "{text}\n{plan}");
    }
}

#[tokio::test]
async fn what_is_not_at_an_end_is_read_whole() {
    let fixture = day().await;
    for text in [
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(a) AS a FROM m GROUP BY t ORDER BY a DESC, t LIMIT 2",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, max(a) AS a FROM m GROUP BY t ORDER BY t",
        "SELECT date_bin(INTERVAL '6 hours', time) AS t, max(a) AS a FROM m GROUP BY t ORDER BY t LIMIT 1",
        "SELECT date_part('minute', time) AS t, max(a) AS a FROM m GROUP BY t ORDER BY t LIMIT 1",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, host, count(*) AS n FROM m GROUP BY ROLLUP (date_bin(INTERVAL '1 minute', time), host) ORDER BY t LIMIT 1",
        "SELECT t, a FROM (SELECT date_bin(INTERVAL '1 minute', time) AS t, max(a) AS a FROM m GROUP BY t LIMIT 100) AS x ORDER BY t LIMIT 2",
    ] {
        let plan = fixture.analyzed(text).await;
        assert!(!plan.contains("FirstBinsExec"), "{text}\n{plan}");
    }
}

impl Fixture {
    /// The rows of an answer of InfluxQL, a text each.
    async fn influxql_rows(&self, text: &str) -> Vec<String> {
        let query = Query { language: Language::InfluxQl, ..query(text) };
        let batches = self.ask_for(query).await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let cells = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
        shown.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect()
    }
}

#[tokio::test]
async fn influxql_finds_its_first_buckets_in_the_same_way() {
    let fixture = day().await;
    for (select, is_at_an_end) in [
        ("max(b)", true),
        ("max(b), mean(b)", true),
        ("last(b)", true),
        ("max(b) * 2 + min(b)", true),
        ("max(b), count(a)", false),
        ("stddev(b)", false),
        ("percentile(b, 50)", false),
        ("difference(max(b))", false),
    ] {
        for condition in [
            "time >= '1969-12-31T23:00:00Z' AND time < '1970-01-02T00:30:00Z'",
            "time < '1970-01-01T20:00:00Z'",
            "time <= '1970-01-02T00:00:00Z' AND b < 100",
            "time >= '1970-01-01T00:00:00Z' AND time < '1970-01-02T00:30:00Z' AND host = 'h0' AND (b < 50 OR b > 1300)",
        ] {
            for fill in ["fill(none)", "", "fill(7)", "fill(previous)", "fill(linear)"] {
                for order in ["", "ORDER BY time DESC"] {
                    let text =
                        format!("SELECT {select} FROM m WHERE {condition} GROUP BY time(2m, 30s) {fill} {order}");
                    let all = fixture.influxql_rows(&text).await;
                    for (limit, offset) in [(1, 0), (4, 3), (100, 0)] {
                        let text = format!("{text} LIMIT {limit} OFFSET {offset}");
                        let expected: Vec<String> = all.iter().skip(offset).take(limit).cloned().collect();
                        assert_eq!(fixture.influxql_rows(&text).await, expected, "{text}");
                    }
                }
            }
        }
        for (fill, is_alike) in [("fill(none)", true), ("", !select.contains("count(a)"))] {
            let text = format!(
                "EXPLAIN ANALYZE SELECT {select} FROM m WHERE time < '1970-01-02T00:00:00Z' GROUP BY time(1m) {fill} \
                 ORDER BY time DESC LIMIT 3"
            );
            let plan = fixture.influxql_rows(&text).await.join("\n");
            let is_at_an_end = is_alike && (is_at_an_end || select.contains("count(a)"));
            assert_eq!(plan.contains("FirstBinsExec: rows="), is_at_an_end, "{text}\n{plan}");
        }
    }
}
