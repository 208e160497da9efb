//! What applications send, letter by letter, and what they look at in the answer.

use std::io::Read;

use serde_json::{Value, json};

use super::{ask, with_points};
use crate::harness::server::TestServer;

async fn results(server: &TestServer, parameters: &[(&str, &str)]) -> Value {
    let (status, text) = ask(server, parameters).await;
    assert_eq!(status, 200, "{text}");
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    let results = answer["results"].take();
    for result in results.as_array().unwrap() {
        assert!(result["error"].is_null(), "{parameters:?}: {result}");
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafana_finds_its_way_and_draws() {
    let server = with_points().await;
    let ask = async |q: &str| results(&server, &[("db", "ora"), ("epoch", "ms"), ("q", q)]).await;
    // Health, and what its editor offers.
    assert!(ask("SHOW measurements").await[0]["series"][0]["values"].as_array().unwrap().len() > 5);
    assert_eq!(ask("SHOW RETENTION POLICIES on \"ora\"").await[0]["series"][0]["values"][0][0], "autogen");
    let found = ask("SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)CP/ LIMIT 100").await;
    assert_eq!(found[0]["series"][0]["values"], json!([["cpu"]]));
    let found = ask("SHOW MEASUREMENTS WHERE \"host\" = 'c' LIMIT 100").await;
    assert_eq!(found[0]["series"][0]["values"], json!([["cpu"]]));
    let fields = ask("SHOW FIELD KEYS FROM \"autogen\".\"cpu\"").await;
    assert_eq!(fields[0]["series"][0]["values"][3], json!(["usage", "float"]));
    assert_eq!(ask("SHOW TAG KEYS FROM \"cpu\"").await[0]["series"][0]["values"], json!([["host"], ["region"]]));
    let values = ask("SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"host\" WHERE \"region\" = 'east'").await;
    assert_eq!(values[0]["series"][0]["values"], json!([["host", "b"]]));
    // A panel as the builder writes it, for each of its functions.
    for function in [
        "count", "distinct", "integral", "mean", "median", "mode", "sum", "stddev", "first", "last", "max", "min",
        "spread",
    ] {
        let panel = format!(
            "SELECT {function}(\"usage\") FROM \"cpu\" WHERE (\"host\"::tag = 'a') AND time >= 1704067200000ms and \
             time <= 1704067310000ms GROUP BY time(30s), \"host\"::tag fill(null) ORDER BY time ASC"
        );
        let series = ask(&panel).await[0]["series"][0].take();
        assert_eq!((&series["name"], &series["tags"]), (&json!("cpu"), &json!({ "host": "a" })), "{panel}");
        assert!(series["values"].as_array().unwrap().iter().all(|row| row[0].is_i64()), "{panel}");
    }
    for transformed in [
        "derivative(mean(\"usage\"), 10s)",
        "non_negative_derivative(max(\"usage\"), 10s)",
        "difference(last(\"usage\"))",
        "non_negative_difference(mean(\"usage\"))",
        "moving_average(mean(\"usage\"), 2)",
        "cumulative_sum(mean(\"usage\"))",
        "elapsed(mean(\"usage\"), 10s)",
        "percentile(\"usage\", 95)",
        "top(\"usage\", 3)",
        "bottom(\"usage\", 3)",
        "mean(\"usage\") / 100",
        "holt_winters(mean(\"usage\"), 2, 0)",
        "holt_winters_with_fit(mean(\"usage\"), 2, 0)",
        "count(distinct(\"usage\"))",
    ] {
        let panel = format!(
            "SELECT {transformed} AS \"a\" FROM \"cpu\" WHERE time >= 1704067200000ms and time <= 1704067310000ms GROUP BY time(10s) \
             fill(none) LIMIT 100 SLIMIT 10 tz('Europe/Berlin')"
        );
        assert_eq!(ask(&panel).await[0]["series"][0]["columns"], json!(["time", "a"]), "{panel}");
    }
    // A variable of tag values in a range of time.
    let values = ask(
        "SELECT DISTINCT(\"host\") FROM (SELECT * FROM \"cpu\" WHERE time >= 1704067200000ms and time <= 1704067201000ms)",
    );
    let mut hosts: Vec<String> = values.await[0]["series"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row[1].as_str().unwrap().to_owned())
        .collect();
    hosts.sort();
    assert_eq!(hosts, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chronograf_asks_several_things_at_once() {
    let server = with_points().await;
    let url = |q: &str| {
        let pairs = [("db", "ora"), ("rp", ""), ("epoch", "ms"), ("q", q)];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        server.url(&format!("/query?{query}"))
    };
    let ask = async |q: &str| -> Value {
        let response = server.http.post(url(q)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key("x-influxdb-version"));
        response.json().await.unwrap()
    };
    let several = "SHOW DATABASES; SHOW RETENTION POLICIES ON \"ora\";SHOW MEASUREMENTS; SHOW TAG KEYS FROM \"autogen\".\"cpu\"; \
                   SHOW FIELD KEYS FROM \"autogen\".\"cpu\"; SHOW TAG VALUES FROM \"autogen\".\"cpu\" WITH KEY IN (\"host\", \"region\"); \
                   show series from /^cpu$|^mem$/ where time > now() - 10s * 100000000";
    let answer = ask(several).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 7);
    for (n, result) in results.iter().enumerate() {
        assert_eq!((&result["statement_id"], &result["error"]), (&json!(n), &Value::Null), "{result}");
    }
    assert_eq!(results[5]["series"][0]["values"].as_array().unwrap().len(), 5);
    assert!(results[6]["series"][0]["values"].to_string().contains("cpu,host=a,region=west"));
    assert_eq!(
        ask("SHOW TAG VALUES WITH KEY = \"host\" WHERE TIME > now() - 10m").await,
        json!({ "results": [{ "statement_id": 0 }] })
    );
    let ping = server.http.get(server.url("/ping")).send().await.unwrap();
    assert!(ping.headers().contains_key("x-influxdb-build") && ping.headers().contains_key("x-influxdb-version"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telegraf_and_home_assistant_make_their_database_and_write() {
    let server = TestServer::start().await;
    let create = results(&server, &[("q", "CREATE DATABASE \"telegraf\"")]).await;
    assert_eq!(create, json!([{ "statement_id": 0 }]));
    let written =
        server.http.post(server.url("/write?db=telegraf")).body("cpu,host=a usage_idle=99 1700000000000000000").send();
    assert_eq!(written.await.unwrap().status(), 204);

    let shown = results(&server, &[("q", "SHOW DATABASES;")]).await;
    assert_eq!(shown[0]["series"][0]["values"], json!([["telegraf"]]));
    server.write("telegraf", "°C,domain=sensor,entity_id=living\\ room value=21.5 1700000000000000000").await;
    let q = "select mean(value) as value from \"°C\" where entity_id = 'living room'";
    let value = results(&server, &[("db", "telegraf"), ("q", q)]).await;
    assert_eq!(value[0]["series"][0]["values"][0][1], 21.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_compressed_and_packed_for_who_asks() {
    let server = with_points().await;
    let url = server.url("/query?db=ora&q=SELECT%20usage,load,ok,note%20FROM%20cpu%20GROUP%20BY%20host");
    let plain = server.http.get(&url).send().await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.text().await.unwrap();
    let gzip = server.http.get(&url).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*gzip.bytes().await.unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain);

    let ping = server.http.get(server.url("/ping")).header("accept", "application/x-msgpack").send().await.unwrap();
    assert_eq!(ping.status(), 204);
    let packed = server.http.get(&url).header("accept", "application/x-msgpack").send().await.unwrap();
    assert_eq!(packed.headers()["content-type"], "application/x-msgpack");
    let packed = packed.bytes().await.unwrap();
    // A map of one entry, `results`, a list of one map of two.
    assert_eq!(&packed[..10], b"\x81\xa7results\x91");
    assert!(packed.len() < plain.len());
}
