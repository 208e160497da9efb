//! What is kept decoded changes no answer.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::store::recent::RecentSettings;

/// An engine that decodes what it is asked for, at once, or never.
async fn fixture(decoded_bytes_max: usize) -> Fixture {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let recent = RecentSettings { bytes_max: 1 << 20, recency: century };
    let change = |settings: &mut EngineSettings| {
        settings.recent = recent;
        settings.decoded_bytes_max = decoded_bytes_max;
    };
    Fixture::with_engine(QuerySettings { threads: 2, ..QuerySettings::default() }, change).await
}

/// Hours of two machines in two regions, with gaps; one of them has no region.
async fn fill(fixture: &Fixture) {
    for hour in 0..3 {
        fixture.write(&points(hour, true, true)).await;
        fixture.persist().await;
    }
}

/// The points of an hour with some of their fields.
fn points(hour: i64, with_user: bool, with_others: bool) -> String {
    let second = 1_000_000_000_i64;
    let mut lines = String::new();
    for step in 0..60_i64 {
        for (host, tags) in ["host=a,region=eu", "host=b,region=us", "host=c"].iter().enumerate() {
            let value = (step * 7 + host as i64 * 31 + hour * 13) % 100;
            let time = NOW - (4 - hour) * 3600 * second + step * 60 * second;
            let mut fields = Vec::new();
            if with_user {
                fields.push(format!("user={value}.5"));
            }
            if with_others {
                fields.push(format!("busy={}", if value > 50 { "t" } else { "f" }));
                if value % 3 == 0 {
                    fields.push(format!("note=n{value},count={value}i"));
                }
            }
            lines.push_str(&format!("cpu,{tags} {} {time}\n", fields.join(",")));
        }
    }
    lines
}

#[tokio::test]
async fn a_repeated_query_decodes_nothing() {
    let fixture = fixture(64 << 20).await;
    fill(&fixture).await;
    let text = "SELECT host, time, user FROM cpu WHERE host = 'b' AND user > 40 ORDER BY time";
    let first = fixture.answer(text).await;
    let loads = fixture.engine.metrics().decoded.loads;
    assert!(loads > 0);
    assert_eq!(fixture.answer(text).await, first);
    let metrics = fixture.engine.metrics().decoded;
    assert_eq!(metrics.loads, loads, "nothing was decoded again");
    assert!(metrics.hits >= loads && metrics.bytes > 0);
    let plan = fixture.ask(&format!("EXPLAIN ANALYZE {text}")).await.unwrap();
    let plan = plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned();
    assert!(plan.contains("row_groups_decoded=") && !plan.contains("row_groups_decoded=0"), "{plan}");

    // Another field of the same rows: only that one is decoded.
    fixture.answer("SELECT host, time, count FROM cpu WHERE host = 'b'").await;
    assert!(fixture.engine.metrics().decoded.loads > loads);
}

#[tokio::test]
async fn combinations_of_tags_take_one_row_of_each_series() {
    let (fixture, plain) = (fixture(64 << 20).await, fixture(0).await);
    fill(&fixture).await;
    fill(&plain).await;
    let rows_read = async |text: &str| {
        let plan = fixture.ask(&format!("EXPLAIN ANALYZE {text}")).await.unwrap();
        let plan = plan[0].column_by_name("plan").unwrap().as_string::<i32>().value(0).to_owned();
        let is_scan = |line: &&str| line.contains("DataSourceExec") || line.contains("SeriesEndsExec");
        let scan = plan.lines().find(is_scan).unwrap().to_owned();
        let rows = scan.split("output_rows=").nth(1).unwrap().split(',').next().unwrap().trim();
        rows.parse::<usize>().unwrap_or_else(|_| panic!("{rows}: {plan}"))
    };
    let hour = "time >= '2000-01-01T00:00:00Z'";
    for (text, is_by_series) in [
        ("SELECT DISTINCT host FROM cpu ORDER BY host".to_owned(), true),
        ("SELECT DISTINCT region, host FROM cpu WHERE host <> 'b' ORDER BY host".to_owned(), true),
        (format!("SELECT DISTINCT upper(host) AS h FROM cpu WHERE {hour} ORDER BY h"), true),
        ("SELECT host FROM cpu GROUP BY host, region ORDER BY host".to_owned(), true),
        // Other columns, other numbers of rows.
        ("SELECT DISTINCT host, busy FROM cpu ORDER BY host, busy".to_owned(), false),
        ("SELECT DISTINCT host FROM cpu WHERE user > 40 ORDER BY host".to_owned(), false),
        ("SELECT count(DISTINCT host) AS n, count(*) AS m FROM cpu".to_owned(), false),
        ("SELECT DISTINCT count(*) OVER (PARTITION BY host) AS n FROM cpu".to_owned(), false),
        ("SELECT host, count(*) FROM cpu GROUP BY host ORDER BY host".to_owned(), false),
    ] {
        for _ in 0..3 {
            assert_eq!(fixture.answer(&text).await, plain.answer(&text).await, "{text}");
        }
        let rows = rows_read(&text).await;
        // Three series in each hour, and 180 rows.
        assert_eq!(rows <= 9, is_by_series, "{text}: {rows} rows");
    }
}

#[tokio::test]
async fn what_is_old_comes_in_when_it_is_asked_for_again() {
    let change = |settings: &mut EngineSettings| settings.recent.recency = Duration::ZERO;
    let fixture = Fixture::with_engine(QuerySettings { threads: 2, ..QuerySettings::default() }, change).await;
    fill(&fixture).await;
    let text = "SELECT sum(user) FROM cpu WHERE region = 'eu'";
    let first = fixture.answer(text).await;
    assert_eq!(fixture.engine.metrics().decoded.loads, 0);
    assert_eq!(fixture.answer(text).await, first);
    assert!(fixture.engine.metrics().decoded.loads > 0);
    assert_eq!(fixture.answer(text).await, first);
}

const CONDITIONS: [&str; 16] = [
    "host = 'a'",
    "host IN ('a', 'c')",
    "host <> 'b'",
    "region IS NULL",
    "region = 'eu' OR host = 'c'",
    "host = region",
    "time >= '2023-11-14T19:00:00' AND time < '2023-11-14T20:30:00'",
    "time > '2023-11-14T19:00:00'",
    "'2023-11-14T19:30:00' >= time",
    "time = '2023-11-14T19:13:20'",
    "time < '1700-01-01T00:00:00'",
    "user > 50.5",
    "note LIKE 'n3%'",
    "busy AND count IS NOT NULL",
    "user > 20 OR host = 'a'",
    "extract(minute FROM time) = 20",
];

const OUTPUTS: [&str; 10] = [
    "SELECT * FROM cpu WHERE {} ORDER BY host, time",
    "SELECT time, user FROM cpu WHERE {} ORDER BY time, user",
    "SELECT count(*) FROM cpu WHERE {}",
    "SELECT host, max(user), min(time), count(note) FROM cpu WHERE {} GROUP BY host ORDER BY host",
    "SELECT * FROM cpu WHERE {} ORDER BY time DESC, host LIMIT 5",
    "SELECT time, host, user FROM cpu WHERE {} ORDER BY user, time, host LIMIT 3",
    "SELECT DISTINCT region FROM cpu WHERE {} ORDER BY region",
    "SELECT date_bin(INTERVAL '10 minutes', time) AS t, region, avg(user) FROM cpu WHERE {} GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT upper(note) AS note, user * 2 AS twice FROM cpu WHERE {} ORDER BY twice, note",
    "SELECT a.host, count(*) FROM cpu a JOIN cpu b ON a.time = b.time AND a.host < b.host WHERE a.{} GROUP BY 1 ORDER BY 1",
];

/// The points with other fixtures: all buffered, and some fields of all in one buffered run over files that have the others.
async fn buffered() -> [Fixture; 2] {
    let (buffered, late) = (fixture(0).await, fixture(0).await);
    for hour in 0..3 {
        buffered.write(&points(hour, true, true)).await;
        late.write(&points(hour, true, false)).await;
        late.persist().await;
    }
    late.write(&(0..3).map(|hour| points(hour, false, true)).collect::<String>()).await;
    [buffered, late]
}

#[test]
fn an_answer_is_the_same_whether_decoded_or_not() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (decoding, plain, buffered) = runtime.block_on(async {
        let fixtures = (fixture(64 << 20).await, fixture(0).await, buffered().await);
        for fixture in [&fixtures.0, &fixtures.1] {
            fill(fixture).await;
        }
        fixtures
    });
    let conditions = proptest::sample::subsequence((0..CONDITIONS.len()).collect::<Vec<_>>(), 1..4);
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(chosen in conditions, output in 0..OUTPUTS.len())| {
        let condition: Vec<String> = chosen.iter().map(|number| format!("({})", CONDITIONS[*number])).collect();
        // A join needs the names of one side: its condition is one on the machine.
        let condition = if OUTPUTS[output].contains("a.{}") { "host <> 'b'".to_owned() } else { condition.join(" AND ") };
        let text = OUTPUTS[output].replace("{}", &condition);
        let (mine, theirs) = runtime.block_on(async { (decoding.answer(&text).await, plain.answer(&text).await) });
        prop_assert_eq!(&mine, &theirs, "{}", text);
        for fixture in &buffered {
            prop_assert_eq!(&runtime.block_on(fixture.answer(&text)), &theirs, "buffered: {}", text);
        }
    });
    let metrics = decoding.engine.metrics().decoded;
    assert!(metrics.hits > 50 && plain.engine.metrics().decoded.loads == 0, "{metrics:?}");
}

/// Rows of three series in many batches, of which a condition lets pass almost none, some, most or all.
#[tokio::test]
async fn rows_that_pass_are_the_same_however_rare_they_are() {
    const POINTS: i64 = 20_000;
    let (decoding, plain) = (fixture(64 << 20).await, fixture(0).await);
    let mut lines = String::new();
    for (host, tags) in ["host=a,region=eu", "host=b", "host=c,region=us"].iter().enumerate() {
        for step in 0..POINTS {
            let place = host as i64 * POINTS + step;
            let note = if place % 3 == 0 { format!(",note=\"n{}\"", place % 11) } else { String::new() };
            lines.push_str(&format!(
                "cpu,{tags} place={place}i,mixed={}i{note} {}\n",
                place * 7919 % 10_000,
                NOW - (POINTS - step) * 1_000_000_000
            ));
        }
    }
    for fixture in [&decoding, &plain] {
        fixture.write(&lines).await;
        fixture.persist().await;
    }
    for condition in [
        "mixed = 77",
        "mixed < 100",
        "mixed < 1000",
        "mixed >= 5000",
        "mixed < 9990",
        "mixed >= 0",
        "mixed < 0",
        "note = 'n4'",
        "note IS NULL OR mixed = 0",
        "place BETWEEN 19990 AND 20010",
        "place >= 59999",
        "place < 12345 AND host = 'b' OR mixed % 5000 = 0",
    ] {
        for output in ["*", "host, place", "region, note", "count(*), count(region), sum(place)"] {
            let sorted = if output.contains("count") { "" } else { "ORDER BY place" };
            let text = format!("SELECT {output} FROM cpu WHERE {condition} {sorted}");
            assert_eq!(decoding.answer(&text).await, plain.answer(&text).await, "{text}");
        }
    }
    assert!(decoding.engine.metrics().decoded.hits > 0 && plain.engine.metrics().decoded.loads == 0);
}
