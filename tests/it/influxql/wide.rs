//! Measurements of many fields: they are answered as by InfluxDB, and planned in proportion to their columns.

use std::fmt::Write;

use serde_json::{Value, json};

use super::oracle::agree;
use crate::harness::influxdb::InfluxDb;
use crate::harness::server::TestServer;

/// Points of two hosts, each with the fields from its number on that have a value at its time: never all of them.
fn points(fields: usize, times: usize) -> String {
    let mut lines = String::new();
    for time in 0..times {
        for host in 0..2 {
            let _ = write!(lines, "m,host=h{host} ");
            let mut separator = "";
            for field in (0..fields).filter(|field| (field + time + host) % 4 != 0) {
                let number = (field * 7 + time * 3 + host) % 50;
                let _ = match field % 5 {
                    0 => write!(lines, "{separator}f{field}={number}i"),
                    1 => write!(lines, "{separator}f{field}=\"t{number}\""),
                    _ => write!(lines, "{separator}f{field}={}", number as f64 / 4.0),
                };
                separator = ",";
            }
            let _ = writeln!(lines, " {}", time * 10_000_000_000 + host * 1_000_000);
        }
    }
    lines
}

async fn ask(http: &reqwest::Client, url: String, q: &str) -> Value {
    let response = http.post(url).form(&[("db", "db"), ("q", q)]).send().await.unwrap();
    let status = response.status().as_u16();
    json!({ "status": status, "body": response.json::<Value>().await.unwrap() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_fields_are_answered_as_by_influxdb() {
    let (ours, theirs) = (TestServer::start().await, InfluxDb::start());
    // And a point without a field that is asked for below.
    let lines = points(150, 6) + "m,host=h2 other=1 5000000000\nm,host=h3 f149=2.5,other=2 6000000000\n";
    ours.write("db", lines.clone()).await;
    theirs.write("db", &lines).await;
    let many: Vec<_> = (0..80).map(|n| format!("f{n}")).collect();
    let twice: Vec<_> = (0..40).flat_map(|n| [format!("f{n}"), format!("f{n}::field"), format!("max(f{n})")]).collect();
    let calls: Vec<_> = (0..50)
        .flat_map(|n| [format!("mean(f{})", n * 5 + 2), format!("max(f{}) - mean(f{})", n * 5 + 3, n * 5 + 2)])
        .collect();
    for q in [
        "SELECT * FROM m".to_owned(),
        "SELECT *::field FROM m GROUP BY host ORDER BY time DESC LIMIT 2".to_owned(),
        format!("SELECT {} FROM m", many.join(", ")),
        format!("SELECT {} FROM m WHERE f3 > 2 AND host != 'h0'", many.join(", ")),
        format!("SELECT {} FROM m", twice.join(", ")),
        format!("SELECT {} FROM m WHERE time >= 0 AND time < 1m GROUP BY time(20s), host", calls.join(", ")),
        "SELECT mean(*) FROM m".to_owned(),
        "SELECT max(*), min(*), spread(/f1/) FROM m WHERE time >= 0 AND time < 1m GROUP BY time(20s) fill(0)"
            .to_owned(),
        "SELECT difference(max(*)) FROM m WHERE time >= 10s AND time < 1m GROUP BY time(10s)".to_owned(),
        "SELECT count(*) FROM m GROUP BY host".to_owned(),
        "SELECT max(f2), * FROM m".to_owned(),
        "SELECT last(f2), * FROM m GROUP BY host".to_owned(),
        "SELECT * FROM (SELECT * FROM m) WHERE f7 > 1".to_owned(),
        "SELECT mean(*) FROM (SELECT * FROM m) GROUP BY host".to_owned(),
        "SELECT max(*) FROM (SELECT mean(*) FROM m WHERE time >= 0 AND time < 1m GROUP BY time(20s), host)".to_owned(),
    ] {
        let answers =
            [ask(&ours.http, ours.url("/query"), &q).await, ask(&theirs.http, theirs.url("/query"), &q).await];
        let is_refused = |answer: &Value| !answer["body"]["results"][0]["error"].is_null();
        assert!(agree(&answers[0], &answers[1]), "{q}\n  InfluxDB: {}\n  ours:     {}", answers[1], answers[0]);
        assert_eq!(is_refused(&answers[0]), q.contains("f0, f0::field, max"), "{q}");
    }
}

/// `cargo test --test it influxql::wide -- --ignored --nocapture` says how long it takes to answer from few rows of more and more fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn questions_about_more_and_more_fields_are_timed() {
    let server = TestServer::start().await;
    let counts = std::env::var("FLIGHTLINE_FIELDS").unwrap_or_else(|_| "500 1000 2000 4000".to_owned());
    for fields in counts.split_whitespace().map(|count| count.parse::<usize>().unwrap()) {
        let database = format!("db{fields}");
        server.write(&database, points(fields, 10)).await;
        let timed = async |what: &str, response: reqwest::RequestBuilder, begun: tokio::time::Instant| {
            let response = response.send().await.unwrap();
            let (status, bytes) = (response.status(), response.bytes().await.unwrap().len());
            println!("{fields:>5} fields: {:>9.1?} {status} {bytes:>8} bytes  {what}", begun.elapsed());
        };
        for q in [
            "SELECT * FROM m",
            "SELECT *::field FROM m GROUP BY host LIMIT 2",
            "SELECT mean(*) FROM m",
            "SELECT mean(*) FROM m WHERE time >= 0 AND time < 100s GROUP BY time(20s), host",
            "SELECT median(*) FROM m GROUP BY host",
            "SELECT mode(*) FROM m GROUP BY host",
            "SELECT difference(max(*)) FROM m WHERE time >= 10s AND time < 1m GROUP BY time(10s)",
            "SELECT max(f2), * FROM m",
            "SELECT * FROM m WHERE f2 > 1",
            "SELECT * FROM (SELECT * FROM m)",
            "SELECT mean(*) FROM (SELECT * FROM m) GROUP BY host",
        ] {
            let form = [("db", database.as_str()), ("q", q)];
            let request = server.http.post(server.url("/query")).form(&form);
            timed(q, request, tokio::time::Instant::now()).await;
        }
        let body = json!({ "db": database, "q": "SELECT * FROM m", "format": "json" });
        let request = server.http.post(server.url("/api/v3/query_sql")).json(&body);
        timed("SQL: SELECT * FROM m", request, tokio::time::Instant::now()).await;
    }
}
