//! InfluxQL against what a real InfluxDB 1.6.7 answered: `tests/data/influxql`.
//!
//! Numbers are compared to 1e-9, and the order of points that share a time is free, since nothing promises it. What we answer
//! otherwise stands in a list: where InfluxDB is wrong or odd, each with its reason. A command that stands there and is answered alike
//! fails the test like one that is answered otherwise and does not.

use serde_json::{Value, json};

mod applications;
mod clients;
mod comparison;
mod ends;
mod generator;
mod oracle;
mod otherwise;
mod parts;
mod points;
mod policies;
mod requests;
mod statements;
mod wide;

use comparison::{is_near, only_times, sort_equal_times, sort_series};

use crate::harness::influxdb::InfluxDb;
use crate::harness::server::TestServer;

/// Where we answer otherwise on purpose: the case and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("SELECT first(*) FROM cpu", "of values at one time the greatest is the first, for each column"),
    ("SELECT last(*) FROM cpu", "of values at one time the greatest is the last, for each column"),
    ("SELECT integral(usage) FROM cpu", "its value depends on the order of points at one time"),
    (
        "SELECT integral(usage) FROM cpu WHERE time >= '2024-01-01T00:00:15Z'",
        "the same, and its time is the lower bound as for other aggregates",
    ),
    ("SELECT integral(usage) FROM cpu WHERE time <= '2024-01-01T00:01:15Z'", "the same"),
    (
        "SELECT integral(n) FROM counter ORDER BY time DESC",
        "its time is 1970 as for other aggregates, not the year 2262",
    ),
    ("SELECT top(usage, 2) FROM cpu LIMIT 3", "InfluxDB stops reading at the limit; we find the greatest"),
    ("SELECT top(usage, 3) FROM cpu ORDER BY time DESC", "we order as asked"),
    ("SELECT abs(*) FROM cpu", "abs() of a negative integer is positive"),
    (
        "SELECT usage FROM cpu WHERE host = $h",
        "the words about parameters that are no JSON are those of another JSON library",
    ),
    ("SELECT n FROM counter LIMIT 12", "epoch=µ means microseconds, as InfluxDB's documentation says"),
];

fn cases() -> Vec<Value> {
    let text = include_str!("../../data/influxql/cases.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn with_points() -> TestServer {
    let server = TestServer::start().await;
    server.write("ora", include_str!("../../data/influxql/points.lp")).await;
    server
}

async fn ask(server: &TestServer, parameters: &[(&str, &str)]) -> (u16, String) {
    let response = server.http.post(server.url("/query")).form(parameters).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn agrees(case: &Value, status: u16, text: &str) -> bool {
    let Ok(mut ours) = serde_json::from_str::<Value>(text) else { return false };
    let mut theirs = case["answer"].clone();
    if case.get("any_series_order").is_some() {
        sort_series(&mut ours);
        sort_series(&mut theirs);
    }
    sort_equal_times(&mut ours);
    sort_equal_times(&mut theirs);
    if case.get("ties").is_some() && !is_near(&ours, &theirs) {
        only_times(&mut ours);
        only_times(&mut theirs);
    }
    case["status"] == status && is_near(&ours, &theirs)
}

/// The cases but for those where what InfluxDB says is wrong, or not certain.
fn certain_cases() -> impl Iterator<Item = Value> {
    let is_certain = |case: &Value| case.get("oracle_wrong").is_none() && case.get("ambiguous").is_none();
    cases().into_iter().filter(is_certain)
}

/// What a case asks.
fn parameters(case: &Value) -> Vec<(&str, &str)> {
    let others =
        case["params"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    std::iter::once(("q", case["command"].as_str().unwrap())).chain(others).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_influxdb_answers_as_it_was_recorded() {
    let influxdb = InfluxDb::start();
    influxdb.write("ora", include_str!("../../data/influxql/points.lp")).await;
    let mut wrong = Vec::new();
    for case in certain_cases() {
        let response = influxdb.http.post(influxdb.url("/query")).form(&parameters(&case)).send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        if !agrees(&case, status, &text) {
            wrong.push(format!("{}\n  recorded: {}\n  now:      {status} {text}", case["command"], case["answer"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_statements_are_answered_as_by_influxdb() {
    let server = with_points().await;
    let (mut passed, mut judged, mut wrong) = (0, 0, Vec::new());
    // One command may be recorded with several parameters, of which some agree.
    let mut otherwise: Vec<&str> = OTHERWISE.iter().map(|(command, _)| *command).collect();
    for case in certain_cases() {
        judged += 1;
        let command = case["command"].as_str().unwrap();
        let (status, text) = ask(&server, &parameters(&case)).await;
        if agrees(&case, status, &text) {
            passed += 1;
            continue;
        }
        otherwise.retain(|known| *known != command);
        if !OTHERWISE.iter().any(|(known, _)| *known == command) {
            wrong.push(format!(
                "{command}\n  {}\n  InfluxDB: {}\n  ours:     {status} {text}",
                case["params"], case["answer"]
            ));
        }
    }
    assert!(otherwise.is_empty(), "answered as by InfluxDB, so take them from the list: {otherwise:?}");
    println!("{passed} of {judged} recorded cases are answered as by InfluxDB 1.6.7");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(judged > 480, "{judged} cases");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panel_of_grafana_gets_its_rows() {
    let server = with_points().await;
    let text = "SELECT mean(\"usage\") FROM \"autogen\".\"cpu\" WHERE (\"host\"::tag =~ /^(a|b)$/) AND time >= 1704067200000ms \
                and time <= 1704067210000ms GROUP BY time(10s), \"host\"::tag fill(null) ORDER BY time ASC";
    let (status, answer) = ask(&server, &[("db", "ora"), ("epoch", "ms"), ("q", text)]).await;
    let series = |host: &str, first: f64, second: f64| {
        json!({ "name": "cpu", "tags": { "host": host }, "columns": ["time", "mean"],
                "values": [[1_704_067_200_000_i64, first], [1_704_067_210_000_i64, second]] })
    };
    let expected =
        json!({ "results": [{ "statement_id": 0, "series": [series("a", 10.5, 20.0), series("b", 1.0, 2.0)] }] });
    assert_eq!(status, 200, "{answer}");
    assert!(is_near(&serde_json::from_str(&answer).unwrap(), &expected), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_pieces_and_as_csv() {
    let server = with_points().await;
    let q = "SELECT usage FROM cpu WHERE time < '2024-01-01T00:00:20Z' GROUP BY host LIMIT 2; SHOW DATABASES";
    let (_, text) =
        ask(&server, &[("db", "ora"), ("chunked", "true"), ("chunk_size", "1"), ("epoch", "s"), ("q", q)]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"a"},"columns":["time","usage"],"values":[[1704067200,10.5]],"partial":true}],"partial":true}]}"#
    );
    assert_eq!(
        lines[1],
        r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"a"},"columns":["time","usage"],"values":[[1704067210,20]]}],"partial":true}]}"#
    );
    let last_of_first = lines.iter().rposition(|line| line.contains("\"statement_id\":0")).unwrap();
    assert!(!lines[last_of_first].contains("partial"), "{}", lines[last_of_first]);
    assert_eq!(
        *lines.last().unwrap(),
        r#"{"results":[{"statement_id":1,"series":[{"name":"databases","columns":["name"],"values":[["ora"]]}]}]}"#
    );

    let url = server
        .url("/query?db=ora&q=SELECT%20usage,note%20FROM%20cpu%20GROUP%20BY%20host%20LIMIT%201%3BSHOW%20DATABASES");
    let csv = server.http.get(url).header("accept", "application/csv").send().await.unwrap();
    assert_eq!(csv.headers()["content-type"], "text/csv");
    assert!(csv.content_length().is_some(), "a small answer says how long it is");
    assert_eq!(
        csv.text().await.unwrap(),
        "name,tags,time,usage,note\ncpu,host=a,1704067200000000000,10.5,n0 a\ncpu,host=b,1704067200000000000,1,n0 b\n\
         cpu,host=c,1704067200000000000,100,n0 c\n\nname,tags,name\ndatabases,,ora\n"
    );

    let (_, pretty) = ask(&server, &[("db", "ora"), ("pretty", "true"), ("q", "SELECT usage FROM cpu LIMIT 1")]).await;
    assert!(pretty.starts_with("{\n    \"results\": [\n        {\n            \"statement_id\": 0,\n"), "{pretty}");
    serde_json::from_str::<Value>(&pretty).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_and_measurements_come_and_go() {
    let server = TestServer::start().await;
    let run = async |q: &str| ask(&server, &[("db", "telegraf"), ("q", q)]).await.1;
    let done = "{\"results\":[{\"statement_id\":0}]}\n";
    assert_eq!(run("CREATE DATABASE \"telegraf\" WITH DURATION 30d NAME autogen").await, done);
    assert_eq!(run("CREATE DATABASE telegraf").await, done);
    server.write("telegraf", "cpu,host=a usage=1 1\nmem free=1i 1").await;
    assert!(run("SHOW MEASUREMENTS").await.contains("[[\"cpu\"],[\"mem\"]]"));
    assert!(run("SHOW RETENTION POLICIES").await.contains("[[\"autogen\",\"720h0m0s\",\"24h0m0s\",1,true]]"));
    assert_eq!(run("DROP MEASUREMENT cpu").await, done);
    assert_eq!(run("DROP MEASUREMENT cpu").await, done);
    assert!(run("SHOW MEASUREMENTS").await.contains("[[\"mem\"]]"));
    assert_eq!(run("DROP DATABASE telegraf").await, done);
    assert_eq!(
        run("SHOW MEASUREMENTS").await,
        "{\"results\":[{\"statement_id\":0,\"error\":\"database not found: telegraf\"}]}\n"
    );
    let refused = run("CREATE USER a WITH PASSWORD 'b'").await;
    assert!(refused.contains("not supported"), "{refused}");

    let url = server.url("/query?q=CREATE%20DATABASE%20x");
    let warned = server.http.get(url).send().await.unwrap().text().await.unwrap();
    assert!(warned.contains("deprecated use of 'CREATE DATABASE x' in a read only context"), "{warned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_not_understood_says_where() {
    let server = TestServer::start().await;
    let response = server.http.get(server.url("/query?db=x&q=SHOW%20TAG%20VALUES")).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let error = "error parsing query: found EOF, expected WITH at line 1, char 17";
    assert_eq!(response.headers()["x-influxdb-error"], error);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "error": error }));
    let (status, text) = ask(&server, &[("db", "x")]).await;
    assert_eq!((status, text.as_str()), (400, r#"{"error":"missing required parameter \"q\""}"#));
    for method in [reqwest::Method::PUT, reqwest::Method::HEAD, reqwest::Method::DELETE] {
        let response = server.http.request(method, server.url("/query?q=SHOW%20DATABASES")).send().await.unwrap();
        assert_eq!(response.status(), 405);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_fails_leaves_the_others_alone() {
    let server = with_points().await;
    let q = "SELECT mean(note) FROM cpu; SELECT usage FROM cpu WHERE host = 'a' LIMIT 1; SELECT v FROM nodb..x; SELECT f FROM nosuch";
    let (status, text) = ask(&server, &[("db", "ora"), ("epoch", "s"), ("q", q)]).await;
    let expected = json!({ "results": [
        { "statement_id": 0, "error": "unsupported mean iterator type: *query.stringInterruptIterator" },
        { "statement_id": 1, "series": [{ "name": "cpu", "columns": ["time", "usage"], "values": [[1_704_067_200, 10.5]] }] },
        { "statement_id": 2, "error": "database not found: nodb" },
        { "statement_id": 3 },
    ] });
    assert_eq!((status, serde_json::from_str::<Value>(&text).unwrap()), (200, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffered_and_stored_rows_answer_alike_and_many_rows_stream() {
    let server = TestServer::start().await;
    let lines = |from: i64, to: i64| -> String {
        (from..to).map(|n| format!("m,host=h{} v={},i={n}i {}\n", n % 7, n as f64 / 4.0, n * 1_000_000_000)).collect()
    };
    server.write("db", lines(0, 30_000)).await;
    server.server().services().engine.persist_all().await.unwrap();
    server.write("db", lines(20_000, 60_000)).await;
    let run = async |q: &str| -> Value {
        let (status, text) = ask(&server, &[("db", "db"), ("epoch", "s"), ("q", q)]).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let counted = run("SELECT count(v), sum(i), first(i), last(i) FROM m").await;
    assert_eq!(counted["results"][0]["series"][0]["values"], json!([[0, 60_000, 1_799_970_000, 0, 59_999]]));
    let many = server.http.get(server.url("/query?db=db&q=SELECT%20i%20FROM%20m")).send().await.unwrap();
    assert_eq!(many.content_length(), None, "a large one is not held back for that");
    let rows = run("SELECT i FROM m").await;
    let values = rows["results"][0]["series"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 60_000);
    assert!(values.iter().enumerate().all(|(n, row)| *row == json!([n, n])));
    let grouped = run("SELECT count(i) FROM m WHERE time >= 0 AND time < 60000s GROUP BY time(1h), host").await;
    let series = grouped["results"][0]["series"].as_array().unwrap();
    assert_eq!(series.len(), 7);
    assert!(series.iter().all(|series| series["values"].as_array().unwrap().len() == 17));
    let sum: i64 =
        series.iter().flat_map(|series| series["values"].as_array().unwrap()).map(|row| row[1].as_i64().unwrap()).sum();
    assert_eq!(sum, 60_000);
    // An interval of a nanosecond has more buckets than there is memory; a limit takes the first of them.
    let limited = run("SELECT count(i) FROM m WHERE time >= 0 AND time < 60000s GROUP BY time(1ns) LIMIT 3").await;
    assert_eq!(limited["results"][0]["series"][0]["values"].as_array().unwrap().len(), 3);
}
