//! Questions that need few rows: the same answers as from all rows, and only those rows read.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::model::{Step, TICK, line, step};
use super::*;
use crate::engine::store::recent::RecentSettings;
use crate::model::{CacheDefinition, CacheKind, CacheShape, Newest};

/// One point before all others, so that there is a table with all columns.
const FIRST: &str = "m,host=h0,region=r0 a=0,b=0i 0";

/// What each question is asked of besides; each looks at tags and the time only.
pub(super) const CONDITIONS: [&str; 9] = [
    "true",
    "region = 'r1'",
    "host <> 'h1'",
    "host IS NULL OR region = 'r0'",
    "time >= '1970-01-01T03:00:00'",
    "time < '1970-01-01T07:30:00' AND host = 'h0'",
    "time BETWEEN '1970-01-01T02:00:00' AND '1970-01-01T09:00:00' AND region IS NOT NULL",
    "time > '1970-01-01T06:00:00' OR host = 'h2'",
    "upper(host) = 'H2' AND time <= '1970-01-01T10:00:00'",
];

/// Where two series of a host have a point at one time, each says which of them counts.
pub(super) const QUESTIONS: [&str; 39] = [
    "SELECT host, region, max(time) AS t FROM m WHERE {} GROUP BY host, region",
    "SELECT host, max(time) AS t FROM m WHERE {} GROUP BY host",
    "SELECT max(time) AS t FROM m WHERE {}",
    "SELECT DISTINCT ON (host, region) * FROM m WHERE {} ORDER BY host, region, time DESC",
    "SELECT DISTINCT ON (host) time, region, b FROM m WHERE {} ORDER BY host, time DESC, region NULLS LAST",
    "SELECT host, region, last_value(a ORDER BY time) AS a, last_value(b + 1 ORDER BY time) AS b FROM m WHERE {} GROUP BY host, region",
    "SELECT host, first_value(a ORDER BY time DESC, region) AS a, max(time) AS t FROM m WHERE {} GROUP BY host",
    "SELECT last_value(a ORDER BY time, host, region) AS a FROM m WHERE {}",
    "SELECT upper(host) AS h, last_value(b ORDER BY time, host, region) AS b FROM m WHERE {} GROUP BY 1",
    "SELECT host, region, last_value(a ORDER BY time) IGNORE NULLS AS a FROM m WHERE {} GROUP BY host, region",
    "SELECT host, region, last_value(a ORDER BY time) FILTER (WHERE b > 0) AS a FROM m WHERE {} GROUP BY host, region",
    "SELECT host, region, selector_last(a, time) AS a, selector_last(b, time, a) AS b FROM m WHERE {} GROUP BY host, region",
    "SELECT region, selector_last(b, time)['value'] AS b FROM m WHERE {} GROUP BY region HAVING max(time) > '1970-01-01T04:00:00'",
    "SELECT host, region, time, a, b FROM (SELECT *, row_number() OVER (PARTITION BY host, region ORDER BY time DESC) AS n FROM m WHERE {}) AS x WHERE n = 1",
    "SELECT host, time, b, n FROM (SELECT *, row_number() OVER (PARTITION BY host ORDER BY time DESC, region) AS n FROM m WHERE {}) AS x WHERE n <= 3",
    "SELECT host, region, time, a FROM (SELECT *, rank() OVER (PARTITION BY host ORDER BY time DESC) AS n FROM m WHERE {}) AS x WHERE n < 3 AND a > 0",
    "SELECT *, row_number() OVER (PARTITION BY host, region ORDER BY time DESC) AS n, count(*) OVER (PARTITION BY host) AS c FROM m WHERE {} QUALIFY n = 1",
    "SELECT * FROM m WHERE {} ORDER BY time DESC, host, region LIMIT 4",
    "SELECT b, time AS t FROM (SELECT * FROM m WHERE {}) AS x ORDER BY t DESC, host, region LIMIT 2 OFFSET 1",
    "SELECT DISTINCT host FROM m WHERE {}",
    "SELECT region FROM m WHERE {} GROUP BY region",
    "SELECT DISTINCT host, region FROM m WHERE {}",
    "SELECT count(DISTINCT host) AS n FROM m WHERE {}",
    "SELECT h, max(t) AS t FROM (SELECT host AS h, time AS t, region AS time FROM m WHERE {}) AS x WHERE h <> 'h2' GROUP BY h",
    "SELECT a.host, a.t, b.t AS u FROM (SELECT host, max(time) AS t FROM m WHERE {} GROUP BY host) a JOIN (SELECT host, min(time) AS t FROM m GROUP BY host) b ON a.host = b.host",
    "SELECT host, region, max(time) AS t, grouping(host) AS g FROM m WHERE {} GROUP BY ROLLUP (host, region)",
    "SELECT host, min(time) AS t FROM m WHERE {} GROUP BY host",
    "SELECT host, region, first_value(a ORDER BY time) AS a, first_value(b + 1 ORDER BY time) AS b FROM m WHERE {} GROUP BY host, region",
    "SELECT host, last_value(a ORDER BY time DESC, region) AS a, min(time) AS t FROM m WHERE {} GROUP BY host",
    "SELECT host, region, selector_first(a, time) AS a, selector_first(b, time, a) AS b FROM m WHERE {} GROUP BY host, region",
    "SELECT DISTINCT ON (host, region) * FROM m WHERE {} ORDER BY host, region, time",
    "SELECT host, region, time, a, b FROM (SELECT *, row_number() OVER (PARTITION BY host, region ORDER BY time) AS n FROM m WHERE {}) AS x WHERE n <= 2",
    "SELECT host, region, time, a FROM (SELECT *, rank() OVER (PARTITION BY host ORDER BY time) AS n FROM m WHERE {}) AS x WHERE n < 3 AND a > 0",
    "SELECT host, region, min(time) AS t, max(time) AS u FROM m WHERE {} GROUP BY host, region",
    "SELECT time, a, host FROM m WHERE {} ORDER BY time, host, region LIMIT 4",
    "SELECT host, region, first_value(time ORDER BY time) AS t, first_value(a ORDER BY time) AS a, last_value(b ORDER BY time DESC) AS b FROM m WHERE {} GROUP BY host, region",
    "SELECT host, last_value(time ORDER BY time, region) AS t, last_value(region ORDER BY time, region) AS r, last_value(a ORDER BY time, region) + 1 AS a FROM m WHERE {} GROUP BY host HAVING last_value(b ORDER BY time, region) > 1",
    "SELECT last_value(time ORDER BY time, host, region) AS t, last_value(a ORDER BY time, host, region) AS a, last_value(b ORDER BY time, host, region) AS b FROM m WHERE {}",
    "SELECT upper(host) AS h, t, r, a FROM (SELECT host, first_value(time ORDER BY time DESC, region) AS t, first_value(region ORDER BY time DESC, region) AS r, first_value(a ORDER BY time DESC, region) AS a FROM m WHERE {} GROUP BY host) AS x ORDER BY h",
];

/// Questions about bins at one end of the time.
pub(super) const BINS: [&str; 5] = [
    "SELECT date_bin(INTERVAL '10 minutes', time) AS t, count(*) AS n, max(a) AS a FROM m WHERE {} GROUP BY t ORDER BY t DESC LIMIT 2",
    "SELECT date_trunc('minute', time) AS t, host, region, sum(b) AS s FROM m WHERE {} GROUP BY 1, 2, 3 ORDER BY t, host, region LIMIT 3",
    "SELECT s, t FROM (SELECT date_bin(INTERVAL '7 minutes', x.time, TIMESTAMP '1970-01-01T00:01:00') AS t, sum(b) AS s FROM m AS x WHERE {} GROUP BY 1) AS y WHERE s > 2 ORDER BY t DESC LIMIT 2 OFFSET 1",
    "SELECT date_trunc('second', time) AS t, count(a) AS n FROM m WHERE {} AND a > 1 GROUP BY 1 HAVING count(b) < 2 ORDER BY 1 LIMIT 4",
    "SELECT date_bin(INTERVAL '1 minute', time) AS t, grouping(host) AS g, count(*) AS n FROM m WHERE {} GROUP BY ROLLUP (date_bin(INTERVAL '1 minute', time), host) ORDER BY t DESC, g, n LIMIT 3",
];

struct Asked {
    plain: Fixture,
    quick: Vec<Fixture>,
}

/// The same engine without shortcuts and on two threads, and with them: on one thread, decoding at once, never, and with caches; and on two.
async fn asked() -> Asked {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let few_rows_max = QuerySettings::default().few_rows_max;
    let fixture = async |takes_shortcuts: bool, decoded_bytes_max: usize, few_rows_max: u64| {
        let settings = QuerySettings { threads: 2, takes_shortcuts, few_rows_max, ..QuerySettings::default() };
        let change = |settings: &mut EngineSettings| {
            settings.recent = RecentSettings { bytes_max: 1 << 20, recency: century };
            settings.decoded_bytes_max = decoded_bytes_max;
        };
        let fixture = Fixture::with_engine(settings, change).await;
        fixture.write(FIRST).await;
        fixture
    };
    let cached = fixture(true, 0, few_rows_max).await;
    let columns = |names: &[&str]| names.iter().map(|name| ColumnName::new(name).unwrap()).collect();
    let distinct =
        |names: &[&str]| CacheShape::Distinct { columns: columns(names), cardinality_max: 100, age_max: None };
    for (name, shape) in [
        ("hosts", distinct(&["host"])),
        ("all", distinct(&["host", "region"])),
        ("newest", CacheShape::Last { keys: None, values: None, newest: Newest::Points(2), ttl: None }),
    ] {
        let cache = CacheDefinition { name: name.to_owned(), shape };
        cached.engine.create_cache(&nyc(), &TableName::new("m").unwrap(), cache).await.unwrap();
    }
    Asked {
        plain: fixture(false, 64 << 20, 0).await,
        quick: vec![
            fixture(true, 64 << 20, few_rows_max).await,
            fixture(true, 0, few_rows_max).await,
            fixture(true, 64 << 20, 0).await,
            cached,
        ],
    }
}

/// The rows of an answer in no order.
async fn rows_of(fixture: &Fixture, text: &str) -> Vec<String> {
    let answer = fixture.answer(text).await;
    let mut rows: Vec<String> = answer.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect();
    rows.sort();
    rows
}

impl Asked {
    async fn apply(&self, step: &Step) {
        for fixture in self.quick.iter().chain([&self.plain]) {
            match step {
                Step::Persist => fixture.persist().await,
                Step::Compact => fixture.engine.compact_all().await.unwrap(),
                Step::Delete(deleted) => fixture.delete(&deleted.sql()).await.unwrap(),
                Step::Write(points) => fixture.write(&points.iter().map(line).collect::<Vec<_>>().join("\n")).await,
            }
        }
    }

    async fn check(&self, text: &str) {
        let expected = rows_of(&self.plain, text).await;
        for (number, fixture) in self.quick.iter().enumerate() {
            assert_eq!(rows_of(fixture, text).await, expected, "{number}: {text}\n{}", fixture.explain(text).await);
        }
    }
}

#[test]
fn answers_from_few_rows_are_those_from_all() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 16, max_shrink_iters: 100, ..Config::default() });
    let retention = prop::option::weighted(0.3, 0_i64..20);
    let questions: Vec<&str> = QUESTIONS.iter().chain(&BINS).copied().collect();
    let questions = prop::collection::vec((prop::sample::select(questions), prop::sample::select(&CONDITIONS[..])), 12);
    runner
        .run(&(prop::collection::vec(step(), 1..9), retention, questions), |(steps, retention, questions)| {
            runtime.block_on(async {
                let asked = asked().await;
                for step in &steps {
                    asked.apply(step).await;
                }
                if let Some(ticks) = retention {
                    let period = Duration::from_nanos((NOW - ticks * TICK - 1).cast_unsigned());
                    for fixture in asked.quick.iter().chain([&asked.plain]) {
                        fixture.engine.set_retention(&nyc(), None, Some(period)).await.unwrap();
                    }
                }
                for (question, condition) in questions {
                    asked.check(&question.replace("{}", &format!("({condition})"))).await;
                }
            });
            Ok(())
        })
        .unwrap();
}

/// Many values of one row are not kept value by value.
#[tokio::test]
async fn rows_are_taken_whole() {
    let fixture = Fixture::new().await;
    fixture.write("m,host=h0 a=1,b=1i,c=t 10\nm,host=h1 a=2,c=t 20\nm,host=h0 a=3,b=4i 30").await;
    fixture
        .check(
            "SELECT DISTINCT ON (host) host, a, b, c FROM m ORDER BY host, time DESC",
            "| host | a | b | c |\n| h0 | 3.0 | 4 |  |\n| h1 | 2.0 |  | true |",
        )
        .await;
    for (text, is_numbered) in [
        ("SELECT DISTINCT ON (host) * FROM m ORDER BY host, time DESC", true),
        ("SELECT DISTINCT ON (host) * FROM m ORDER BY host, time", true),
        ("SELECT DISTINCT ON (host) a FROM m ORDER BY host, time DESC", false),
        (
            "SELECT host, last_value(a ORDER BY time), first_value(b ORDER BY time DESC), last_value(c ORDER BY time) FROM m GROUP BY 1",
            true,
        ),
        (
            "SELECT host, last_value(a ORDER BY time, b), last_value(b ORDER BY time, a), last_value(c ORDER BY time) FROM m GROUP BY 1",
            false,
        ),
        (
            "SELECT last_value(a ORDER BY time), last_value(b ORDER BY time), last_value(c ORDER BY time) FROM m WHERE host = 'h0'",
            false,
        ),
        (
            "SELECT host, last_value(a ORDER BY time), last_value(b ORDER BY time), last_value(c ORDER BY time) FROM m GROUP BY ROLLUP(host)",
            false,
        ),
    ] {
        let plan = fixture.explain(text).await;
        assert!(plan.contains("SeriesEndsExec"), "{text}\n{plan}");
        assert_eq!(
            (plan.contains("WindowAggExec"), plan.contains("AggregateExec")),
            (is_numbered, !is_numbered),
            "{text}\n{plan}"
        );
    }
}

/// Which questions are answered from few rows.
#[tokio::test]
async fn questions_for_the_newest_rows_read_the_ends_of_series() {
    let fixture = Fixture::new().await;
    fixture.write("m,host=h0,region=r0 a=1,b=1i 10\nm,host=h1,region=r0 a=1,b=1i 20").await;
    fixture.persist().await;
    fixture.write("m,host=h1,region=r0 a=1,b=1i 30").await;
    let not_answered = [9, 10, 16, 33];
    for (number, question) in QUESTIONS.iter().enumerate() {
        let text = question.replace("{}", "region = 'r0'");
        let plan = fixture.explain(&text).await;
        assert_eq!(plan.contains("SeriesEndsExec"), !not_answered.contains(&number), "{number}: {text}\n{plan}");
    }
    for (text, what) in [
        ("SELECT DISTINCT ON (host) * FROM m ORDER BY host, time DESC", Some("what=newest 1 of each series, units=2")),
        ("SELECT DISTINCT ON (host) * FROM m ORDER BY host, time", Some("what=oldest 1 of each series, units=2")),
        ("SELECT * FROM m ORDER BY time DESC LIMIT 100", Some("what=newest 100, units=2")),
        ("SELECT DISTINCT host FROM m WHERE region = 'r0'", Some("what=tags, units=2")),
        ("SELECT host, max(time) FROM m WHERE host = 'h0' GROUP BY host", Some("predicate=host")),
        ("SELECT max(time) FROM m", None),
        ("SELECT min(time) FROM m", None),
        ("SELECT host, max(time) FROM m WHERE a > 0 GROUP BY host", None),
        ("SELECT host, max(time), min(time) FROM m GROUP BY host", None),
        ("SELECT host, max(a) FROM m GROUP BY host", None),
        ("SELECT a, max(time) FROM m GROUP BY a", None),
        ("SELECT DISTINCT host, a FROM m", None),
        ("SELECT * FROM m ORDER BY time LIMIT 1", Some("what=oldest 1, units=2")),
        ("SELECT * FROM m ORDER BY time DESC", None),
    ] {
        let plan = fixture.explain(text).await;
        match what {
            Some(what) => assert!(plan.contains("SeriesEndsExec") && plan.contains(what), "{text}\n{plan}"),
            None => assert!(!plan.contains("SeriesEndsExec"), "{text}\n{plan}"),
        }
    }
}

/// Tags of series come once each, so nothing has to make them so.
#[tokio::test]
async fn distinct_tags_are_not_made_distinct_again() {
    let fixture = Fixture::with(QuerySettings { few_rows_max: 1 << 20, ..QuerySettings::default() }).await;
    fixture.write("m,host=h0,region=r0 a=1 10\nm,host=h1,region=r0 a=1 20").await;
    for (text, aggregations) in [
        ("SELECT DISTINCT host FROM m", 0),
        ("SELECT count(DISTINCT host) FROM m", 1),
        ("SELECT region, count(DISTINCT host) FROM m GROUP BY region", 1),
    ] {
        let plan = fixture.explain(text).await;
        assert_eq!(plan.matches("AggregateExec").count(), aggregations, "{text}\n{plan}");
    }
}

#[tokio::test]
async fn a_series_that_ended_long_ago_is_found_and_new_files_are_enough_for_the_others() {
    let fixture = Fixture::new().await;
    for round in 0..4_i64 {
        let hosts = if round == 0 { 0..5 } else { 0..4 };
        let line = |(host, step): (i64, i64)| format!("m,host=h{host} a={step} {}\n", round * TICK + step);
        let points = hosts.flat_map(|host| (0..50).map(move |step| (host, step)));
        fixture.write(&points.map(line).collect::<String>()).await;
        fixture.persist().await;
    }
    let text = "SELECT host, last_value(a ORDER BY time) AS a FROM m GROUP BY host ORDER BY host";
    fixture
        .check(text, "| host | a |\n| h0 | 49.0 |\n| h1 | 49.0 |\n| h2 | 49.0 |\n| h3 | 49.0 |\n| h4 | 49.0 |")
        .await;
    let plan = fixture.ask(&format!("EXPLAIN ANALYZE {text}")).await.unwrap();
    let plan = plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned();
    assert!(plan.contains("units=4") && plan.contains("output_rows=5, ") && plan.contains("units_read=2"), "{plan}");
    let oldest = "SELECT host, first_value(a ORDER BY time) AS a FROM m GROUP BY host";
    let plan = fixture.ask(&format!("EXPLAIN ANALYZE {oldest}")).await.unwrap();
    let plan = plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned();
    assert!(plan.contains("units=4") && plan.contains("output_rows=5, ") && plan.contains("units_read=1"), "{plan}");
    let newest = "SELECT * FROM m ORDER BY time DESC LIMIT 10";
    let plan = fixture.ask(&format!("EXPLAIN ANALYZE {newest}")).await.unwrap();
    let plan = plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned();
    assert!(plan.contains("units_read=1"), "{plan}");
}

#[tokio::test]
async fn a_cache_that_has_the_answer_gives_it() {
    let fixture = Fixture::new().await;
    fixture.write("m,host=h0,region=r0 a=1 10\nm,host=h1,region=r1 a=2 20\nm,host=h0,region=r0 a=3 30").await;
    let table = TableName::new("m").unwrap();
    let columns = vec![ColumnName::new("host").unwrap()];
    for (name, shape) in [
        ("hosts", CacheShape::Distinct { columns, cardinality_max: 100, age_max: None }),
        ("newest", CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None }),
    ] {
        fixture.engine.create_cache(&nyc(), &table, CacheDefinition { name: name.to_owned(), shape }).await.unwrap();
    }
    for (text, exec) in [
        ("SELECT DISTINCT host FROM m ORDER BY host", "DistinctCacheExec: table=m, cache=hosts, from=cache"),
        (
            "SELECT host, last_value(a ORDER BY time) FROM m GROUP BY host",
            "LastCacheExec: table=m, cache=newest, from=cache",
        ),
    ] {
        let before = fixture.answer(text).await; // and asks for the cache to be filled
        let kind = |kind| fixture.engine.cache_facts(&nyc(), kind);
        for _ in 0..1_000 {
            let is_ready =
                |kind_of| kind(kind_of).iter().all(|cache| cache.state == crate::engine::caches::CacheState::Ready);
            if is_ready(CacheKind::Last) && is_ready(CacheKind::Distinct) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(fixture.explain(text).await.contains(exec), "{}", fixture.explain(text).await);
        assert_eq!(fixture.answer(text).await, before);
    }
    // The cache of one point can't say two, and has no other columns than its own.
    let two = "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY host, region ORDER BY time DESC) AS n FROM m) AS x WHERE n <= 2";
    assert!(fixture.explain(two).await.contains("SeriesEndsExec"));
    assert!(fixture.explain("SELECT DISTINCT region FROM m").await.contains("SeriesEndsExec"));
}
