//! Rows at the ends of series: the answers that all rows give, of which most are not read.

use serde_json::Value;

use super::ask;
use crate::harness::server::TestServer;

async fn answer(server: &TestServer, q: &str) -> String {
    let (status, text) = ask(server, &[("db", "db"), ("epoch", "ns"), ("q", q)]).await;
    assert_eq!(status, 200, "{q}: {text}");
    text
}

async fn plan(server: &TestServer, q: &str) -> String {
    let text = answer(server, &format!("EXPLAIN ANALYZE {q}")).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let rows = answer["results"][0]["series"][0]["values"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("{q}: {text}"));
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned() + "\n").collect()
}

/// Series that begin and end at other times, with fields that are missing here and there; in several files, rewritten and late rows
/// too.
async fn write(server: &TestServer) {
    let engine = &server.server().services().engine;
    for round in 0..6_i64 {
        let mut lines = String::new();
        for series in 0..7_i64 {
            if (series + round) % 5 == 4 {
                continue;
            }
            for step in 0..20_i64 {
                let time = (round * 20 + step) * 10 - (series % 3) * 37;
                let tags = if series == 6 { "m".to_owned() } else { format!("m,host=h{},zone=z{series}", series % 3) };
                let fields = match (series + step) % 4 {
                    _ if series == 5 => format!("b=\"{step}\""),
                    0 => format!("a={step},b=\"x{step}\""),
                    1 if series > 2 => format!("b=\"y{step}\""),
                    _ => format!("a={}.5,full={round}i", step * series),
                };
                lines.push_str(&format!("{tags} {fields},sure={step}i {time}\n"));
            }
        }
        // Points that are there already, and one far before all others.
        lines.push_str("m,host=h1,zone=z1 a=77 100\nm,host=h2,zone=z2 sure=5i 40\n");
        if round == 3 {
            lines.push_str("m,host=h0,zone=z0 sure=1i -5000\n");
        }
        server.write("db", lines).await;
        if round % 2 == 0 {
            engine.persist_all().await.unwrap();
        }
    }
    let (_, text) = ask(server, &[("db", "db"), ("q", "DELETE FROM m WHERE zone = 'z3' AND time > 1000")]).await;
    assert!(!text.contains("error"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_at_the_ends_are_those_that_all_rows_give() {
    let quick = TestServer::start().await;
    let plain = TestServer::start_with(|settings| settings.query.takes_shortcuts = false).await;
    write(&quick).await;
    write(&plain).await;
    let fields = ["sure", "a", "b", "a, b", "*", "a, host", "sure + a", "full, zone"];
    let mut selects: Vec<String> = fields.map(|fields| format!("SELECT {fields} FROM m")).to_vec();
    let points = [
        "last(sure)",
        "first(sure)",
        "last(a)",
        "first(b)",
        "last(full)",
        "last(sure), a, b",
        "first(sure), zone",
        "last(sure), last(a)",
        "first(a), first(b)",
        "last(*)",
        "first(sure) * 2",
        "last(sure), first(sure)",
        "last(sure), count(a)",
    ];
    selects.extend(points.map(|points| format!("SELECT {points} FROM m")));
    let conditions = [
        "",
        "WHERE host = 'h1'",
        "WHERE host =~ /h[01]/ AND zone != 'z0'",
        "WHERE host = ''",
        "WHERE time >= 300 AND time < 700",
        "WHERE time < 45",
        "WHERE time > 1120 AND host != 'h2'",
        "WHERE sure > 15",
        "WHERE host = 'h1' OR time < 30",
        "WHERE host = 'nothing'",
        "WHERE host = 'h2' AND time >= 310 AND time < 900",
        "WHERE host = 'h0' AND time >= 50 AND time < 320",
        "WHERE (zone = 'z1' OR zone = 'z5') AND host != 'h1'",
        "WHERE (zone = 'z2' OR zone = 'z2') AND host != 'h1'",
    ];
    let tails = [
        "LIMIT 1",
        "LIMIT 3",
        "ORDER BY time DESC LIMIT 1",
        "ORDER BY time DESC LIMIT 4 OFFSET 2",
        "LIMIT 5 OFFSET 60",
        "GROUP BY host LIMIT 2",
        "GROUP BY * LIMIT 1",
        "GROUP BY host ORDER BY time DESC LIMIT 3 OFFSET 1",
        "GROUP BY * ORDER BY time DESC LIMIT 2 SLIMIT 3",
        "GROUP BY zone",
        "",
    ];
    let mut questions = Vec::new();
    for select in &selects {
        for condition in conditions {
            for tail in tails {
                questions.push(format!("{select} {condition} {tail}"));
            }
        }
    }
    let (mut asked, mut few) = (0, 0);
    // Some of all combinations; the numbers have no divisor in common, so that each part comes with others.
    for q in questions.iter().step_by(13) {
        let (ours, expected) = (answer(&quick, q).await, answer(&plain, q).await);
        assert_eq!(ours, expected, "{q}\n{}", plan(&quick, q).await);
        asked += 1;
        if asked % 5 == 0 {
            few += usize::from(plan(&quick, q).await.contains("SeriesEndsExec"));
            assert!(!plan(&plain, q).await.contains("SeriesEndsExec"), "{q}");
        }
    }
    assert!(asked > 150 && few * 5 * 4 > asked, "{few} of {asked}");
}

/// The number behind a name in a plan.
fn number(plan: &str, operator: &str, name: &str) -> usize {
    let line = plan.lines().find(|line| line.contains(operator)).unwrap_or_else(|| panic!("no {operator} in {plan}"));
    let after = line.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// What is read does not grow with the rows of a series.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_ends_the_reading() {
    let server = TestServer::start().await;
    for part in 0..6_i64 {
        let lines = (0..20).flat_map(|host| {
            (0..1000).map(move |step| format!("m,host=h{host} v={step},w=1 {}\n", (part * 1000 + step) * 1_000_000_000))
        });
        server.write("db", lines.collect::<String>()).await;
        server.server().services().engine.persist_all().await.unwrap();
    }
    for (q, what, rows) in [
        ("SELECT v FROM m LIMIT 3", "what=oldest 3", 60),
        ("SELECT v, w FROM m ORDER BY time DESC LIMIT 3", "what=newest 3", 60),
        ("SELECT v FROM m GROUP BY host LIMIT 3", "what=oldest 3 of each series", 60),
        ("SELECT v FROM m GROUP BY * ORDER BY time DESC LIMIT 2 OFFSET 1", "what=newest 3 of each series", 60),
        ("SELECT v FROM m WHERE host =~ /^h(1|2)$/ GROUP BY host LIMIT 5", "what=oldest 5 of each series", 10),
        ("SELECT last(v) FROM m GROUP BY host", "what=newest 1 of each series", 20),
        ("SELECT last(v), w FROM m WHERE host = 'h7'", "what=newest 1", 1),
        ("SELECT first(v) FROM m GROUP BY *", "what=oldest 1 of each series", 20),
        // Of points that share the first time all come.
        ("SELECT first(v), first(w) FROM m", "what=oldest 1", 20),
    ] {
        let plan = plan(&server, q).await;
        assert!(plan.contains(what) && number(&plan, "SeriesEndsExec", "units") >= 6, "{q}\n{plan}");
        assert_eq!(number(&plan, "SeriesEndsExec", "units_read"), 1, "{q}\n{plan}");
        let read = number(&plan, "SeriesEndsExec", "output_rows");
        assert!((1..=rows).contains(&read), "{q}: {read} rows\n{plan}");
        // The plan beside is there for the case that a field is missing, and has not run.
        let beside = plan.lines().filter(|line| line.contains("DataSourceExec") && line.contains("output_rows="));
        assert!(beside.clone().all(|line| line.contains("output_rows=0")), "{q}\n{plan}");
    }
    for q in [
        "SELECT v FROM m",
        "SELECT v FROM m LIMIT 20000",
        "SELECT v FROM m GROUP BY host LIMIT 1000",
        "SELECT v FROM m WHERE v > 3 LIMIT 1",
        "SELECT v FROM m fill(0) LIMIT 3",
        "SELECT last(v), first(v) FROM m",
        "SELECT first(v), first(w) FROM m GROUP BY host",
        "SELECT last(v) FROM m WHERE time >= 0 AND time < 60s GROUP BY time(10s)",
    ] {
        let plan = plan(&server, q).await;
        assert!(!plan.contains("units_read") || number(&plan, "SeriesEndsExec", "units_read") == 0, "{q}\n{plan}");
    }
}

/// `FLIGHTLINE_SERIES=1000000 cargo test --test it influxql::ends -- --ignored --nocapture` says how long names and last points of so many
/// series take, beside a question that reads all points.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which takes minutes"]
async fn names_and_last_points_of_many_series_are_timed() {
    let count = std::env::var("FLIGHTLINE_SERIES").map_or(100_000, |text| text.parse().unwrap());
    let server = TestServer::start().await;
    for round in 0..5_i64 {
        let lines = |first: i64| {
            let line = |n: i64| format!("m,host=h{n},region=r{} v={n} {}\n", n % 10, round * 10_000_000_000 + n);
            (first..count.min(first + 50_000)).map(line).collect::<String>()
        };
        for first in (0..count).step_by(50_000) {
            server.write("db", lines(first)).await;
        }
        server.server().services().engine.persist_all().await.unwrap();
    }
    for q in [
        "SHOW TAG VALUES WITH KEY = region",
        "SHOW TAG VALUES WITH KEY = host LIMIT 10",
        "SHOW TAG VALUES CARDINALITY WITH KEY = host",
        "SHOW TAG KEYS WHERE region = 'r1'",
        "SHOW SERIES LIMIT 10",
        "SHOW SERIES EXACT CARDINALITY",
        "SHOW MEASUREMENTS WHERE region = 'r1'",
        "SELECT last(v) FROM m",
        "SELECT last(v) FROM m GROUP BY region",
        "SELECT v FROM m LIMIT 10",
        "SELECT v FROM m ORDER BY time DESC LIMIT 10",
        "SELECT last(v) FROM m GROUP BY host LIMIT 1 SLIMIT 10",
        "SELECT last(v), count(v) FROM m GROUP BY host SLIMIT 10",
    ] {
        let started = tokio::time::Instant::now();
        let bytes = answer(&server, q).await.len();
        println!("{count} series: {:>8.1?} {bytes:>10} bytes  {q}", started.elapsed());
    }
}
