//! A text that comes again is answered as if it came for the first time, and the short way through the optimizer leads to the same plan.

use std::collections::BTreeSet;

use datafusion::logical_expr::LogicalPlan;
use rstest::rstest;

use super::super::literals::Literals;
use super::super::optimize::optimize;
use super::super::plans::Unbound;
use super::super::statement::{self, Parsed, Permitted};
use super::shortcuts::{BINS, CONDITIONS, QUESTIONS};
use super::*;
use crate::model::{CacheDefinition, CacheShape, ColumnName, Newest};

/// What dashboards and notebooks ask, of a table with the tags `host` and `region` and the fields `a` and `b`.
const TEXTS: [&str; 33] = [
    "SELECT 1 AS one",
    "SELECT 1 + 2 AS three, 'x' || 'y' AS xy",
    "SELECT 1 AS one WHERE 1 = 2",
    "SELECT count(*) AS n, max(3) AS x",
    "SELECT x + 1 AS y, count(*) FROM (SELECT 1 AS x) AS one GROUP BY x ORDER BY y LIMIT 3",
    "SELECT * FROM m",
    "SELECT count(*) FROM m",
    "SELECT date_trunc('minute', time) AS bucket, max(a) AS a FROM m WHERE host = 'h1' AND time >= TIMESTAMP '1970-01-01T01:00:00' AND time < TIMESTAMP '1970-01-01T09:00:00' GROUP BY 1 ORDER BY 1",
    "SELECT date_trunc('hour', time) AS bucket, host, avg(a) AS a, avg(b) AS b FROM m WHERE time >= '1970-01-01T01:00:00' AND time < '1970-01-01T09:00:00' GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT date_bin(INTERVAL '10 minutes', time) AS t, host, max(a) FROM m WHERE host IN ('h0', 'h1', 'h2') GROUP BY 1, 2 ORDER BY t DESC LIMIT 5",
    "SELECT * FROM m WHERE a > 90.0 AND host = 'h1' AND time >= '1970-01-01T01:00:00'",
    "SELECT a, b FROM m WHERE b BETWEEN 1 AND 5 OR host LIKE 'h%'",
    "SELECT host, sum(b) AS s FROM m GROUP BY host HAVING sum(b) > 3 ORDER BY s DESC, host",
    "SELECT host, sum(b) AS s FROM (SELECT host, b FROM m WHERE a IS NOT NULL) AS x WHERE host <> 'h0' GROUP BY host LIMIT 3",
    "SELECT * FROM (SELECT host, time, lag(a) OVER (PARTITION BY host ORDER BY time) AS before FROM m) AS x WHERE host = 'h1'",
    "SELECT DISTINCT host, region FROM m ORDER BY host LIMIT 200",
    "SELECT count(DISTINCT host) AS n, sum(b) AS s FROM m",
    "SELECT CASE WHEN a > 1 THEN 'high' WHEN a > 1 AND b > 1 THEN 'never' ELSE 'low' END AS kind, count(*) FROM m GROUP BY 1",
    "SELECT a * 2 + a * 2 AS x, a * 2 AS y FROM m WHERE a * 2 > 1",
    "SELECT * FROM m WHERE false",
    "SELECT * FROM m WHERE true ORDER BY time LIMIT 0",
    "SELECT max(time), min(a) FROM m",
    "SELECT host FROM m WHERE host = 'h0' AND host = 'h1'",
    "SELECT x.h FROM (SELECT upper(host) AS h, a FROM m) AS x WHERE x.h = 'H0' AND x.a > 0 ORDER BY x.a LIMIT 1 OFFSET 1",
    "SELECT avg(s) FROM (SELECT host, sum(a) AS s FROM m WHERE region = 'r0' GROUP BY host) AS x WHERE s > 1",
    "SELECT selector_max(a, time)['time'] AS t, host FROM m GROUP BY host ORDER BY host",
    "SELECT a.host FROM m a JOIN m b ON a.time = b.time WHERE a.host < b.host",
    "SELECT host FROM m WHERE a = (SELECT max(a) FROM m)",
    "SELECT host FROM m UNION SELECT region FROM m",
    "WITH x AS (SELECT host, max(a) AS a FROM m GROUP BY host) SELECT host FROM x WHERE a > 0",
    "SELECT approx_percentile_cont(a, 0.5) FROM m WHERE time > '1970-01-01T01:00:00' GROUP BY region",
    "SELECT time, a FROM m WHERE time > TIMESTAMP '1970-01-01T00:00:00' + INTERVAL '1 hour' ORDER BY time DESC LIMIT 7",
    "SELECT host, time FROM m ORDER BY host, time LIMIT 4",
];

/// As texts, and as questions, each under two conditions.
pub(super) fn texts() -> Vec<String> {
    let questions = QUESTIONS.iter().chain(&BINS).enumerate().flat_map(|(number, question)| {
        let conditions = [number, number * 5 + 3].map(|number| CONDITIONS[number % CONDITIONS.len()]);
        conditions.map(|condition| question.replace("{}", &format!("({condition})")))
    });
    TEXTS.iter().map(|text| (*text).to_owned()).chain(questions).collect()
}

async fn filled() -> Fixture {
    filled_for(1 << 20).await
}

async fn filled_for(few_rows_max: u64) -> Fixture {
    let fixture = Fixture::with(QuerySettings { threads: 2, few_rows_max, ..QuerySettings::default() }).await;
    fixture.write("m,host=h0,region=r0 a=1,b=1i 10\nm,host=h1,region=r1 a=2 20\nm,host=h1 b=3i 3600000000010").await;
    fixture.persist().await;
    fixture.write("m,host=h2,region=r0 a=5,b=6i 7200000000000").await;
    fixture
}

#[tokio::test]
async fn the_short_way_through_the_optimizer_leads_to_the_same_plan() {
    let fixture = filled().await;
    let mut different = Vec::new();
    for text in texts() {
        let session = fixture.queries.sessions.open(&nyc(), &Tables::All);
        let Parsed::Reading(parsed) = statement::parse(&text, 1 << 20, Permitted::Reading).unwrap() else { panic!() };
        let made = Unbound::new(&session, (parsed, true), &fixture.engine, &nyc(), CPU.handle()).await.unwrap();
        let plan = Arc::unwrap_or_clone(made.plan().unwrap());
        let whole = session.optimizer().optimize(plan.clone(), &session, |_, _| {}).unwrap();
        let short = optimize(&session, plan).unwrap();
        // Names that the optimizer makes up are numbered on.
        let shown = |plan: &LogicalPlan| plan.display_indent().to_string().replace(|c: char| c.is_ascii_digit(), "");
        if shown(&whole) != shown(&short) {
            different.push(format!("{text}\n{}\n{}", whole.display_indent(), short.display_indent()));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n\n"));
}

#[rstest]
#[case::for_two_threads(0)]
#[case::for_one_thread(1 << 20)]
#[tokio::test]
async fn a_text_that_comes_again_sees_what_was_written_meanwhile(#[case] few_rows_max: u64) {
    let fixture = filled_for(few_rows_max).await;
    let fresh = filled_for(0).await;
    let now = "SELECT now() < to_timestamp_nanos(0) AS long_ago, count(*) AS n FROM m WHERE time < now()";
    for round in 0..3_i64 {
        for text in texts().iter().map(String::as_str).chain([now]) {
            // The other texts differ by a comment, and so are planned anew.
            let anew = format!("{text} -- {round}");
            assert_eq!(sorted(&fixture.answer(text).await), sorted(&fresh.answer(&anew).await), "{round}: {text}");
        }
        let more = format!("m,host=h{round},region=r1 a={round},b={round}i {}", 3_600_000_000_000 * (round + 3));
        for fixture in [&fixture, &fresh] {
            fixture.write(&more).await;
            match round {
                0 => fixture.persist().await,
                _ => fixture.delete("DELETE FROM m WHERE host = 'h0'").await.unwrap(),
            }
        }
    }
}

#[tokio::test]
async fn a_kept_plan_does_not_keep_the_time() {
    let fixture = filled().await;
    let text = "SELECT CAST(now() AS BIGINT) AS t";
    let first = fixture.answer(text).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_ne!(fixture.answer(text).await, first);
    let text = "SELECT random() AS x FROM m";
    assert_ne!(fixture.answer(text).await, fixture.answer(text).await);
}

#[tokio::test]
async fn operators_that_come_again_hold_no_rows_and_nothing_of_those_before() {
    let fixture = filled().await;
    let kept = async |text: &str| {
        let instead = Literals::of(text).map(|literals| literals.with_stand_ins(text, 0).0);
        let instead = instead.as_deref().unwrap_or(text);
        let kept = fixture.queries.plans.get(&fixture.engine, &nyc(), instead).await.unwrap();
        kept.kept_operators().unwrap().shown()
    };
    let greatest = "SELECT host, max(a) AS a FROM m WHERE region <> 'r9' GROUP BY host ORDER BY a DESC LIMIT 2";
    for expected in ["| h2 | 5.0 |\n| h1 | 2.0 |", "| h3 | 9.0 |\n| h2 | 5.0 |", "| h2 | 8.0 |\n| h0 | 1.0 |"] {
        // At once, because the greatest so far are known to an operator while it runs.
        let expected = format!("| host | a |\n{expected}");
        futures::future::join_all((0..8).map(|_| fixture.check(greatest, &expected))).await;
        match expected.contains("h1") {
            true => fixture.write("m,host=h3,region=r0 a=9 7200000000001").await,
            false => {
                for host in ["h1", "h3"] {
                    fixture.delete(&format!("DELETE FROM m WHERE host = '{host}'")).await.unwrap();
                }
                fixture.write("m,host=h2,region=r0 a=8 7200000000002").await;
            }
        }
    }
    let parts = kept(greatest).await;
    assert!((1..=3).contains(&parts.len()), "in files alone, in files and in the buffer: {parts:?}");
    for part in &parts {
        assert!(part.contains("SortExec: TopK") && part.trim_end().ends_with("SeamExec"), "{part}");
    }
    for without_table in ["SELECT 1 AS one", "SELECT n + 1 AS m FROM (SELECT 1 AS n) AS x ORDER BY m"] {
        let first = fixture.answer(without_table).await;
        assert_eq!(fixture.answer(without_table).await, first, "{without_table}");
        let parts = kept(without_table).await;
        assert!(matches!(parts.as_slice(), [part] if part.trim_end().ends_with("SeamExec")), "{parts:?}");
    }
    for answered_otherwise in ["SELECT count(*) AS n FROM m", "SELECT host FROM m", "SELECT 1 AS one WHERE false"] {
        fixture.answer(answered_otherwise).await;
        assert!(kept(answered_otherwise).await.is_empty(), "{answered_otherwise}");
    }
}

/// Questions about a range of time, and whether their plan is one for all ranges.
const RANGES: [(&str, bool); 26] = [
    (
        "SELECT date_bin(INTERVAL '1 hour', time) AS t, host, max(a) AS a FROM m WHERE time >= '{from}' AND time < '{to}' GROUP BY 1, 2 ORDER BY 1, 2",
        true,
    ),
    (
        "SELECT * FROM m WHERE time >= TIMESTAMP '{from}' AND time <= TIMESTAMP '{to}' AND host <> 'h1' ORDER BY time DESC LIMIT 2",
        true,
    ),
    ("SELECT count(*) AS n FROM m WHERE time > '{from}Z'", true),
    ("SELECT host, sum(b) AS s FROM m AS x WHERE x.time < '{to}' GROUP BY host HAVING sum(b) > 1 ORDER BY host", true),
    (
        "SELECT DISTINCT ON (host) host, time, a FROM m WHERE time >= '{from}' AND time < '{to}' ORDER BY host, time DESC",
        true,
    ),
    ("SELECT DISTINCT host FROM m WHERE time >= '{from}' ORDER BY host", true),
    ("SELECT selector_last(a, time)['value'] AS a FROM m WHERE time < '{to}'", true),
    (
        "SELECT n FROM (SELECT host, count(*) AS n FROM m WHERE time >= '{from}' AND time < '{to}' GROUP BY host) AS x ORDER BY n, host",
        true,
    ),
    (
        "WITH x AS (SELECT time, a FROM m WHERE host = 'h1') SELECT * FROM x WHERE time > '{from}' AND time < '{to}' ORDER BY time",
        true,
    ),
    (
        "SELECT host, lag(a) OVER (PARTITION BY host ORDER BY time) AS l FROM m WHERE time >= '{from}' AND time < '{to}' ORDER BY host, time",
        true,
    ),
    ("SELECT time, host FROM m WHERE (time >= '{from}' AND time < '{to}') ORDER BY time, host LIMIT 3", true),
    ("SELECT time > '{from}' AND a > 1 AS late, count(*) AS n FROM m WHERE time < '{to}' GROUP BY 1 ORDER BY 1", false),
    ("SELECT host, time FROM m WHERE time > '{from}' AND time > '{to}' ORDER BY host, time", true),
    // Nothing may be concluded from what stands in for an instant, be it compared with another one.
    ("SELECT host, time FROM m WHERE time >= '1970-01-02' AND time >= '{from}' ORDER BY host, time", true),
    ("SELECT host, time FROM m WHERE time < '{to}' AND time < to_timestamp(3000) ORDER BY host, time", true),
    ("SELECT host, time FROM m WHERE time < '{to}' AND time <> '{from}' ORDER BY host, time", true),
    ("SELECT host, time FROM m WHERE (time = '{from}' OR time = '{to}' OR host = 'h0') ORDER BY host, time", true),
    ("SELECT max(time) AS t FROM m GROUP BY host HAVING max(time) > '{from}' ORDER BY t", false),
    ("SELECT t FROM (SELECT host AS time, a AS t FROM m) AS x WHERE time > '{from}' ORDER BY t", false),
    (
        "SELECT t FROM (SELECT CAST(time AS TIMESTAMP(0)) AS time, a AS t FROM m) AS x WHERE time > '{from}' ORDER BY t",
        true,
    ),
    (
        "SELECT a.host FROM m a JOIN m b ON a.time = b.time WHERE a.time > '{from}' AND b.time < '{to}' ORDER BY 1",
        false,
    ),
    ("SELECT host FROM m WHERE a = (SELECT max(a) FROM m WHERE time < '{to}') AND time > '{from}'", false),
    ("SELECT host FROM m WHERE time > '{from}' UNION SELECT region FROM m WHERE time < '{to}' ORDER BY 1", false),
    ("SELECT host, '{from}' AS said FROM m WHERE time > '{from}' ORDER BY host, time", true),
    ("SELECT host, a FROM m WHERE time > '{from}' AND now() > '{to}' ORDER BY host, time", false),
    (
        "SELECT date_bin_gapfill(INTERVAL '1 hour', time) AS t, max(a) AS a FROM m WHERE time >= '{from}' AND time < '{to}' GROUP BY 1 ORDER BY 1",
        false,
    ),
];

#[tokio::test]
async fn a_question_about_another_time_is_answered_as_if_it_were_the_first() {
    let fixture = filled().await;
    let instants =
        ["1970-01-01T00:00:00", "1970-01-01T00:00:00.000000015", "1970-01-01 01:00:00", "1970-01-01T02:00:01"];
    let ranges = [(0, 3), (1, 2), (0, 1), (2, 3), (3, 0), (2, 2), (0, 3)];
    for (from, to) in ranges.map(|(from, to)| (instants[from], instants[to])) {
        for (question, is_one_for_all) in RANGES {
            let text = question.replace("{from}", from).replace("{to}", to);
            // With a comment in front nothing is exchanged.
            let expected = fixture.answer(&format!("/* {from} {to} */ {text}")).await;
            assert_eq!(fixture.answer(&text).await, expected, "{text}");
            assert_eq!(fixture.is_one_for_all(&text).await, is_one_for_all, "{text}");
        }
    }
}

/// Questions about hosts, and whether their plan is one for all of them.
const HOSTS: [(&str, bool); 23] = [
    ("SELECT time, a FROM m WHERE host = '{one}' ORDER BY time", true),
    ("SELECT count(*) AS n FROM m WHERE '{one}' = region OR host = '{one}'", true),
    ("SELECT host, max(a) AS a FROM m WHERE host IN ('{one}', '{other}') GROUP BY host ORDER BY host", true),
    (
        "SELECT host, b FROM m WHERE (host = '{one}' OR host = '{other}') AND time >= '1970-01-01T00:00:00' ORDER BY time",
        true,
    ),
    ("SELECT host, b FROM m WHERE host NOT IN ('{one}', '{other}', 'h7', 'h8', 'h9') ORDER BY host, time", true),
    ("SELECT host, b FROM m WHERE host = '{one}' AND host != '{other}' ORDER BY time", true),
    ("SELECT host, b FROM m WHERE host IN ('{one}', '{other}') AND host NOT IN ('h1') ORDER BY host, time", true),
    ("SELECT host, b FROM m WHERE host IN ('{one}', '{other}') AND host IN ('{one}', 'h2') ORDER BY time, host", true),
    (
        "SELECT host, b FROM m WHERE host IN ('{one}', '{other}') AND host NOT IN ('h1', upper('h1')) ORDER BY time",
        true,
    ),
    ("SELECT count(*) AS n FROM m WHERE host IN ('{one}', 'h0', 'h7', '{other}', 'h9') OR region = '{one}'", true),
    ("SELECT host, b FROM m WHERE host = '{one}' AND host > 'h0' ORDER BY time", true),
    ("SELECT host, b FROM m WHERE host = '{one}' AND (host = 'h1' OR region = '{other}') ORDER BY time", true),
    ("SELECT upper(host) AS h FROM m WHERE upper(host) = upper('{one}') OR region = '{other}' ORDER BY time, h", true),
    ("SELECT b FROM m WHERE state = '{one}' ORDER BY time", true),
    ("SELECT DISTINCT ON (host) host, time, a FROM m WHERE host = '{one}' ORDER BY host, time DESC", true),
    ("SELECT DISTINCT region FROM m WHERE host = '{one}' ORDER BY region", true),
    ("SELECT a, time FROM last_cache('m') WHERE host = '{one}' ORDER BY time", true),
    ("SELECT host, a FROM last_cache('m') WHERE host IN ('{one}', '{other}') AND a > 0 ORDER BY host", true),
    ("SELECT region FROM distinct_cache('m') WHERE host = '{one}' ORDER BY region", true),
    ("SELECT host = '{one}' AND a > 1 AS x, count(*) AS n FROM m WHERE host <> '{other}' GROUP BY 1 ORDER BY 1", false),
    ("SELECT count(*) AS n FROM m WHERE CASE WHEN '{one}' = 'h1' THEN host = '{other}' ELSE true END", false),
    ("SELECT host, max(a) AS a FROM m GROUP BY host HAVING host = '{one}' AND max(a) < 100 ORDER BY host", true),
    ("SELECT count(*) AS n FROM m WHERE host = (SELECT max(host) FROM m WHERE region = '{other}')", false),
];

#[tokio::test]
async fn a_question_about_another_host_is_answered_as_if_it_were_the_first() {
    let fixture = filled().await;
    fixture.write("m,host=h1,region=r0 a=7,state=\"h1\" 10800000000000\nm,host=it's a=8 1").await;
    let table = TableName::new("m").unwrap();
    let column = |name: &str| ColumnName::new(name).unwrap();
    let last = CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None };
    let columns = vec![column("host"), column("region")];
    let distinct = CacheShape::Distinct { columns, cardinality_max: 100, age_max: None };
    for shape in [last, distinct] {
        let cache = CacheDefinition { name: "c".to_owned(), shape };
        fixture.engine.create_cache(&nyc(), &table, cache).await.unwrap();
    }
    let mut different = BTreeSet::new();
    let hosts = ["h1", "h0", "h2", "nobody", "it''s", "", "r0", "H1", "1970-01-01T00:00:00"];
    for (place, one) in hosts.iter().enumerate() {
        for other in [hosts[(place + 1) % hosts.len()], one, "h1"] {
            for (question, is_one_for_all) in HOSTS {
                let text = question.replace("{one}", one).replace("{other}", other);
                let expected = fixture.answer(&format!("/* {one} {other} */ {text}")).await;
                let found = fixture.answer(&text).await;
                if found != expected {
                    different.insert(format!("{text}\n{found}\n{expected}"));
                }
                if fixture.is_one_for_all(&text).await != is_one_for_all {
                    different.insert(format!("{question}: {is_one_for_all}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{}", different.into_iter().collect::<Vec<_>>().join("\n"));
    for (text, expected) in [
        // A text that is no literal, and one that is no text.
        ("SELECT count(*) AS n FROM m WHERE b = '1'", "| n |\n| 1 |"),
        ("SELECT count(*) AS n FROM m WHERE b = '6'", "| n |\n| 1 |"),
        ("SELECT count(*) AS n FROM m WHERE time = '1970-01-01' AND host = 'h0'", "| n |\n| 0 |"),
    ] {
        for _ in 0..2 {
            fixture.check(text, expected).await;
        }
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "now() says the time of the machine")]
async fn a_span_until_now_moves_on() {
    let fixture = filled().await;
    let text = "SELECT count(*) AS n FROM m WHERE time > now() - INTERVAL '4 seconds'";
    fixture.write(&format!("m a=1 {}", chrono::Utc::now().timestamp_nanos_opt().unwrap())).await;
    fixture.check(text, "| n |\n| 1 |").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    fixture.check(text, "| n |\n| 0 |").await;
}

impl Fixture {
    /// Whether a text was planned with stand-ins for all its literals.
    async fn is_one_for_all(&self, text: &str) -> bool {
        let Some(literals) = Literals::of(text) else { return false };
        let (instead, _) = literals.with_stand_ins(text, 0);
        self.queries.plans.get(&self.engine, &nyc(), &instead).await.is_some_and(|kept| kept.is_exchangeable)
    }
}

/// The lines of an answer in no order.
pub(super) fn sorted(answer: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = answer.lines().collect();
    lines.sort_unstable();
    lines
}
