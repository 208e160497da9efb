//! Statements that the recorded cases don't have: those that change something, and functions of our own.

use serde_json::{Value, json};

use super::ask;
use crate::harness::server::TestServer;

/// The first result of a statement.
async fn result(server: &TestServer, q: &str) -> Value {
    let (status, text) = ask(server, &[("db", "db"), ("epoch", "ns"), ("q", q)]).await;
    assert_eq!(status, 200, "{q}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["results"][0].take()
}

/// The values of its first series.
async fn values(server: &TestServer, q: &str) -> Value {
    let mut result = result(server, q).await;
    assert!(result["error"].is_null(), "{q}: {result}");
    result["series"][0]["values"].take()
}

async fn error(server: &TestServer, q: &str) -> String {
    result(server, q).await["error"].as_str().unwrap_or_default().to_owned()
}

const DONE: &str = r#"{"statement_id":0}"#;

async fn with_points() -> TestServer {
    let server = TestServer::start().await;
    let lines = "cpu,host=a,zone=x usage=1,load=1i,note=\"n\" 10\ncpu,host=a,zone=x usage=2,load=2i 20\n\
                 cpu,host=b usage=4,load=4i 10\ncpu,host=b usage=8 30\nmem,host=a free=1 10";
    server.write("db", lines).await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_writes_the_answer_and_says_how_many_points() {
    let server = with_points().await;
    let written = result(&server, "SELECT usage, load INTO copy FROM cpu GROUP BY *").await;
    let expected = json!([{ "name": "result", "columns": ["time", "written"], "values": [[0, 4]] }]);
    assert_eq!(written["series"], expected, "{written}");
    assert_eq!(
        values(&server, "SELECT * FROM copy").await,
        values(&server, "SELECT host, load, usage, zone FROM cpu").await
    );
    let keys = json!([["host"], ["zone"]]);
    assert_eq!(values(&server, "SHOW TAG KEYS FROM copy").await, keys);

    // Empty buckets are no points, tags that are not grouped by become fields.
    let counted = values(
        &server,
        "SELECT mean(usage) AS u INTO means FROM cpu WHERE time >= 0 AND time < 60 GROUP BY time(10ns), host fill(null)",
    );
    assert_eq!(counted.await, json!([[0, 4]]));
    assert_eq!(
        values(&server, "SELECT u, host FROM means").await,
        json!([[10, 1, "a"], [10, 4, "b"], [20, 2, "a"], [30, 8, "b"]])
    );
    assert_eq!(values(&server, "SELECT * INTO flat FROM cpu WHERE host = 'a'").await, json!([[0, 2]]));
    assert_eq!(values(&server, "SHOW FIELD KEYS FROM flat").await[0], json!(["host", "string"]));

    // Each measurement into its own, in another policy.
    assert_eq!(
        result(&server, "CREATE RETENTION POLICY week ON db DURATION 1000w REPLICATION 1").await.to_string(),
        DONE
    );
    assert_eq!(values(&server, "SELECT * INTO db.week.:MEASUREMENT FROM /cpu|mem/ GROUP BY *").await, json!([[0, 5]]));
    assert_eq!(error(&server, "SELECT usage INTO nowhere..x FROM cpu").await, "database not found: nowhere");
    assert_eq!(error(&server, "SELECT usage INTO db.nosuch.x FROM cpu").await, "retention policy not found: nosuch");
    let conflict = error(&server, "SELECT note AS usage INTO cpu FROM cpu").await;
    assert!(conflict.contains("usage") && conflict.contains("0 points were written before"), "{conflict}");
    assert_eq!(values(&server, "SELECT nosuch INTO copy FROM cpu").await, json!([[0, 0]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_series_are_deleted_by_tags_and_time() {
    let server = with_points().await;
    let left = async || values(&server, "SELECT host, usage FROM cpu").await;
    assert_eq!(
        error(&server, "DELETE FROM cpu WHERE usage = 1").await,
        "fields not supported in WHERE clause during deletion"
    );
    assert_eq!(result(&server, "DELETE FROM cpu WHERE host =~ /a/ AND time <= 10").await.to_string(), DONE);
    assert_eq!(left().await, json!([[10, "b", 4], [20, "a", 2], [30, "b", 8]]));
    // Absent tags are empty.
    assert_eq!(result(&server, "DELETE FROM cpu WHERE zone = '' AND time > 20").await.to_string(), DONE);
    assert_eq!(left().await, json!([[10, "b", 4], [20, "a", 2]]));
    assert_eq!(
        error(&server, "DROP SERIES FROM cpu WHERE time > 0").await,
        "DROP SERIES doesn't support time in WHERE clause"
    );
    assert_eq!(result(&server, "DROP SERIES FROM cpu WHERE host != 'b'").await.to_string(), DONE);
    assert_eq!(left().await, json!([[10, "b", 4]]));
    assert_eq!(values(&server, "SHOW SERIES").await, json!([["cpu,host=b"], ["mem,host=a"]]));
    assert_eq!(result(&server, "DELETE WHERE time < 100").await.to_string(), DONE);
    assert_eq!(result(&server, "SHOW SERIES").await.to_string(), DONE);
    assert_eq!(result(&server, "DELETE FROM nosuch").await.to_string(), DONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_policies_come_and_go() {
    let server = with_points().await;
    for (q, answer) in [
        ("CREATE RETENTION POLICY week ON db DURATION 7d REPLICATION 1", ""),
        ("CREATE RETENTION POLICY week ON db DURATION 7d REPLICATION 1", ""),
        ("CREATE RETENTION POLICY week ON db DURATION 8d REPLICATION 1", "retention policy already exists"),
        (
            "CREATE RETENTION POLICY x ON db DURATION 1m REPLICATION 1",
            "retention policy duration must be at least 1h0m0s",
        ),
        ("CREATE RETENTION POLICY x ON nodb DURATION 7d REPLICATION 1", "database not found: nodb"),
        ("ALTER RETENTION POLICY week ON db DURATION 30d", ""),
        ("ALTER RETENTION POLICY autogen ON db DURATION 100000d", ""),
        ("ALTER RETENTION POLICY nosuch ON db DURATION 30d", "retention policy not found: nosuch"),
    ] {
        assert_eq!(error(&server, q).await, answer, "{q}");
    }
    assert_eq!(error(&server, "ALTER RETENTION POLICY week ON db DEFAULT").await, "");
    assert_eq!(error(&server, "ALTER RETENTION POLICY autogen ON db DEFAULT").await, "");
    let policies = values(&server, "SHOW RETENTION POLICIES ON db").await;
    assert_eq!(policies[0], json!(["autogen", "2400000h0m0s", "168h0m0s", 1, true]));
    assert_eq!(policies[1], json!(["week", "720h0m0s", "24h0m0s", 1, false]));
    assert_eq!(error(&server, "DROP RETENTION POLICY week ON db").await, "");
    assert_eq!(error(&server, "DROP RETENTION POLICY week ON db").await, "");
    assert!(error(&server, "DROP RETENTION POLICY autogen ON db").await.contains("DROP DATABASE"));
    assert_eq!(values(&server, "SHOW RETENTION POLICIES ON db").await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_some_of_the_points_in_order() {
    let server = TestServer::start().await;
    server
        .write("db", (0..100).map(|n| format!("m,host=h{} v={n}i,w=\"w{n}\" {n}\n", n % 3)).collect::<String>())
        .await;
    let sample = values(&server, "SELECT sample(v, 10), w FROM m").await;
    let rows = sample.as_array().unwrap();
    assert_eq!(rows.len(), 10);
    assert!(rows.windows(2).all(|pair| pair[0][0].as_i64() < pair[1][0].as_i64()), "{sample}");
    assert!(rows.iter().all(|row| row[1] == row[0] && row[2] == format!("w{}", row[0])), "{sample}");
    assert_eq!(values(&server, "SELECT sample(v, 10), w FROM m").await, sample);
    assert_eq!(values(&server, "SELECT sample(v, 200) FROM m").await.as_array().unwrap().len(), 100);
    let in_buckets = values(&server, "SELECT sample(v, 2) FROM m WHERE time < 100 GROUP BY time(10ns)").await;
    assert_eq!(in_buckets.as_array().unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_values_are_estimated() {
    let server = TestServer::start().await;
    server.write("db", (0..2000).map(|n| format!("m v={}i {n}\n", n % 500)).collect::<String>()).await;
    let estimate = values(&server, "SELECT count_hll(sum_hll(v)) FROM m").await[0][1].as_i64().unwrap();
    assert!((485..=515).contains(&estimate), "{estimate}");
    assert!(error(&server, "SELECT sum_hll(v) FROM m").await.contains("count_hll(sum_hll(field))"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_the_time_are_values_and_conditions() {
    let server = TestServer::start().await;
    let hours = (0..48).map(|n| format!("m v={n}i {}\n", 1_704_067_200_000_000_000_i64 + n * 3_600_000_000_000));
    server.write("db", hours.collect::<String>()).await;
    let at_noon =
        values(&server, "SELECT v, date_part('day', time) AS d FROM m WHERE date_part('hour', time) = 12").await;
    assert_eq!(at_noon, json!([[1_704_110_400_000_000_000_i64, 12, 1], [1_704_196_800_000_000_000_i64, 36, 2]]));
    let above = values(&server, "SELECT count(v) FROM (SELECT v FROM m) WHERE date_part('dow', time) = 2").await;
    assert_eq!(above[0][1], 24);
    assert!(error(&server, "SELECT v FROM m WHERE date_part('moon', time) = 1").await.contains("no part 'moon'"));
    assert!(error(&server, "SELECT date_part('day', v) FROM m").await.contains("date_part('hour', time)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_shown_and_measured() {
    let server = with_points().await;
    let plan = values(&server, "EXPLAIN SELECT mean(usage) FROM cpu GROUP BY host").await.to_string();
    assert!(plan.contains("SeriesExec: groups=[host], calls=1") && !plan.contains("output_rows"), "{plan}");
    let measured = values(&server, "EXPLAIN ANALYZE SELECT mean(usage) FROM cpu GROUP BY host").await.to_string();
    assert!(measured.contains("cpu: 2 rows") && measured.contains("output_rows=2"), "{measured}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_are_reduced_before_series_are_walked() {
    let server = with_points().await;
    let plan = async |q: &str| values(&server, &format!("EXPLAIN {q}")).await.to_string();
    for q in [
        "SELECT mean(usage), spread(load), count(note), sum(load) FROM cpu WHERE time >= 0 AND time < 60 GROUP BY time(10ns), host",
        "SELECT last(usage), host, note FROM cpu WHERE usage > 1 AND host != 'c'",
        "SELECT max(usage) - min(usage), first(note) FROM cpu GROUP BY * tz('Europe/Berlin')",
        "SELECT derivative(mean(usage), 1s) FROM cpu WHERE time >= 0 AND time < 60 GROUP BY time(10ns)",
        "SELECT median(usage), stddev(load), percentile(usage, 90), count(distinct(note)) FROM cpu GROUP BY host",
        "SELECT percentile(usage, 90) FROM cpu WHERE time >= 0 AND time < 60 GROUP BY time(10ns)",
        "SELECT median(m) FROM (SELECT mean(usage) AS m FROM cpu GROUP BY host)",
    ] {
        let plan = plan(q).await;
        assert!(plan.contains("AggregateExec"), "{q}: {plan}");
    }
    for q in [
        "SELECT mode(usage), mean(usage) FROM cpu",
        "SELECT percentile(usage, 50) FROM cpu",
        "SELECT distinct(usage) FROM cpu",
        "SELECT integral(usage) FROM cpu",
        "SELECT top(usage, 2) FROM cpu",
        "SELECT mean(usage) FROM (SELECT usage FROM cpu)",
    ] {
        let plan = plan(q).await;
        assert!(!plan.contains("AggregateExec"), "{q}: {plan}");
    }
    // What files and buffers say of themselves needs no row.
    let counts = plan("SELECT count(*) FROM cpu").await;
    assert!(counts.contains("PlaceholderRowExec") && !counts.contains("DataSourceExec"), "{counts}");
    assert_eq!(values(&server, "SELECT count(*) FROM cpu").await, json!([[0, 3, 1, 4]]));
}

/// A series of each type, with what is rare: numbers at the ends, nothing, times that several series share.
async fn with_odd_points(server: &TestServer) {
    let floats = ["1.5", "-0.0", "0.0", "1e300", "-1e300", "2.25", "-7"];
    let integers = ["9223372036854775807i", "-9223372036854775808i", "0i", "3i", "-4i"];
    let mut lines = String::new();
    let mut chance = 7_u64;
    let mut below = |limit: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as usize % limit
    };
    for step in 0..120 {
        for series in ["odd,host=a,zone=x", "odd,host=b", "odd,host=c,zone=x", "odd"] {
            let mut fields = vec![format!("n={}i", below(20))];
            if below(3) > 0 {
                fields.push(format!("f={}", floats[below(floats.len())]));
            }
            if below(3) > 0 {
                fields.push(format!("i={}", integers[below(integers.len())]));
            }
            if below(3) > 0 {
                fields.push(format!("u={}u", [0, u64::MAX, 7][below(3)]));
            }
            if below(3) > 0 {
                fields.push(format!("s=\"{}\"", ["", "x", "é\u{1F600}", "y"][below(4)]));
            }
            if below(3) > 0 {
                fields.push(format!("b={}", below(2) == 0));
            }
            if below(5) > 0 {
                lines.push_str(&format!("{series} {} {}\n", fields.join(","), step * 10 - 300));
            }
        }
        if step == 60 {
            server.write("db", std::mem::take(&mut lines)).await;
            server.server().services().engine.persist_all().await.unwrap();
        }
    }
    server.write("db", lines).await;
}

/// `mode` needs all rows: beside it every function sees them one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_says_the_same_of_a_reduced_bucket_and_of_its_rows() {
    let server = TestServer::start().await;
    with_odd_points(&server).await;
    let functions = [
        "count(f), count(s), count(b), count(u)",
        "sum(i), sum(u)",
        "mean(i), mean(u)",
        "spread(i), spread(u), spread(n), spread(f)",
        "min(f), max(f), min(i), max(i), min(u), max(u), min(b), max(b)",
        "first(f), last(f), first(s), last(s), first(b), last(b), first(u), last(i)",
        "mean(n), sum(n), difference(max(n))",
        "median(f), median(i), median(u), median(n)",
        "stddev(n), stddev(u), count(distinct(s)), count(distinct(f)), count(distinct(b))",
        "percentile(f, 90), percentile(i, 50), percentile(u, 10), percentile(n, 3), percentile(n, 100)",
        "moving_average(median(n), 2), cumulative_sum(count(distinct(i)))",
        "difference(count(n)), count(distinct(n)), median(n)",
        "max(n::float) - min(n), count(f::integer)",
    ];
    let conditions = [
        "time >= -250 AND time < 640",
        "time >= -250 AND time < 640 AND zone = ''",
        "time >= -250 AND time < 640 AND (host = 'a' OR host = '') AND f > -1",
        "time >= -250 AND time < 640 AND s != 'x' AND i < 4",
        "time >= -250 AND time < 640 AND f * 2 > 1 AND host !~ /c/",
        "time >= -250 AND time < 640 AND b = true AND (s =~ /x|y/ OR u > 6)",
    ];
    let tails = [
        "GROUP BY time(70ns)",
        "GROUP BY time(70ns), host",
        "GROUP BY time(70ns, 11ns), zone fill(none)",
        "GROUP BY time(70ns), host fill(previous)",
        "GROUP BY time(70ns), * fill(linear) ORDER BY time DESC LIMIT 9",
        "GROUP BY time(1000ns), host, nosuch fill(7) LIMIT 2 OFFSET 1",
        "GROUP BY host",
        "GROUP BY * SLIMIT 2 SOFFSET 1",
        "",
    ];
    let mut compared = 0;
    for functions in functions {
        for condition in conditions {
            for tail in tails {
                let transforms = ["difference", "moving_average"].iter().any(|name| functions.contains(name));
                if transforms && !tail.contains("time(") {
                    continue;
                }
                let rest = format!("FROM odd WHERE {condition} {tail}");
                let reduced = values(&server, &format!("SELECT {functions}, count(n) {rest}")).await;
                let mut one_by_one = values(&server, &format!("SELECT {functions}, count(n), mode(n) {rest}")).await;
                for row in one_by_one.as_array_mut().into_iter().flatten() {
                    row.as_array_mut().unwrap().pop();
                }
                assert!(
                    super::comparison::is_near(&reduced, &one_by_one),
                    "{functions} {rest}:\n{reduced}\n{one_by_one}"
                );
                compared += usize::from(!reduced.is_null());
            }
        }
    }
    assert!(compared > 250, "{compared}");

    // Which row a selector chose is seen by its columns.
    for (selector, sorted) in [("first(n)", false), ("last(n)", true)] {
        let chosen = values(&server, &format!("SELECT {selector}, n, f, s, host FROM odd WHERE zone = 'x'")).await;
        let order = if sorted { "DESC" } else { "ASC" };
        let nearest = format!("SELECT n, n, f, s, host FROM odd WHERE zone = 'x' ORDER BY time {order} LIMIT 4");
        let rows = values(&server, &nearest).await;
        assert!(rows.as_array().unwrap().iter().any(|row| row == &chosen[0]), "{chosen} {rows}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_says_what_to_do_instead() {
    let server = with_points().await;
    for (q, hint) in [
        ("CREATE USER a WITH PASSWORD 'b'", "flightline create token"),
        ("GRANT READ ON db TO a", "flightline create token"),
        (
            "CREATE CONTINUOUS QUERY c ON db BEGIN SELECT mean(usage) INTO x FROM cpu GROUP BY time(1h) END",
            "SELECT … INTO",
        ),
        ("CREATE SUBSCRIPTION s ON db.autogen DESTINATIONS ALL 'http://x'", "mirror"),
        ("DROP SHARD 1", "DELETE"),
    ] {
        let error = error(&server, q).await;
        assert!(error.contains(hint) && !error.contains("PASSWORD 'b'"), "{q}: {error}");
    }
    assert_eq!(result(&server, "SHOW USERS").await["series"], json!([{ "columns": ["user", "admin"] }]));
    assert_eq!(result(&server, "SHOW CONTINUOUS QUERIES").await["series"][0]["name"], "db");
    assert!(values(&server, "SHOW DIAGNOSTICS").await.is_array());
    assert_eq!(result(&server, "SHOW STATS").await["series"][1]["values"], json!([["db", 2]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_function_keeps_is_charged_to_the_memory_of_queries() {
    let server = TestServer::start_with(|settings| settings.query.memory_bytes = 24 << 20).await;
    let lines = |part: i64| -> String {
        (0..50_000).map(|n| format!("big v={}i {}\n", part * 50_000 + n, part * 50_000 + n)).collect()
    };
    for part in 0..8 {
        server.write("db", lines(part)).await;
    }
    let distinct = error(&server, "SELECT distinct(v) FROM big").await;
    assert!(distinct.contains("SeriesExec"), "{distinct}");
    assert_eq!(values(&server, "SELECT count(v), max(v) FROM big").await, json!([[0, 400_000, 399_999]]));
}

/// So many buckets that DataFusion no longer tries to bring rows together before it deals them out; and a transformation that reads
/// one bucket more than what stands beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_may_be_as_many_as_rows() {
    let server = TestServer::start().await;
    for part in 0..6 {
        let lines = (part * 50_000..(part + 1) * 50_000).map(|n| format!("big v={}i {n}\n", n * 3));
        server.write("db", lines.collect::<String>()).await;
    }
    server.server().services().engine.persist_all().await.unwrap();
    let q = "SELECT last(v), difference(last(v)), first(v) FROM big WHERE time >= 10 AND time < 300000 GROUP BY time(1ns) fill(none)";
    let rows = values(&server, &format!("{q} LIMIT 2")).await;
    assert_eq!(rows, json!([[10, 30, 3, 30], [11, 33, 3, 33]]));
    let count = values(&server, &format!("SELECT count(last), sum(difference) FROM ({q})")).await;
    assert_eq!(count[0][1], 299_990, "{count}");
    assert_eq!(count[0][2], 3 * 299_990, "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_one_table_for_who_knows_no_series() {
    let server = with_points().await;
    let get = async |q: &str, format: &str| {
        let parameters = [("db", "db"), ("q", q), ("format", format)];
        let url = server.url("/api/v3/query_influxql");
        let response = server.http.get(url).query(&parameters).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let csv = "iox::measurement,time,host,usage\ncpu,1970-01-01T00:00:00.000000020,a,2.0\ncpu,1970-01-01T00:00:00.000000030,b,8.0\n";
    assert_eq!(get("SELECT last(usage) AS usage FROM cpu GROUP BY host", "csv").await, (200, csv.to_owned()));
    // Types of several measurements meet, names come once.
    server.write("db", "disk usage=7i 5").await;
    let (_, rows) = get("SELECT usage, usage AS usage FROM cpu, disk WHERE time < 11", "jsonl").await;
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        rows[2],
        json!({ "iox::measurement": "disk", "time": "1970-01-01T00:00:00.000000005", "usage": 7.0, "usage_1": 7.0 })
    );
    let (_, shown) = get("SHOW TAG VALUES FROM cpu WITH KEY = host", "json").await;
    let expected = json!([
        { "iox::measurement": "cpu", "key": "host", "value": "a" },
        { "iox::measurement": "cpu", "key": "host", "value": "b" },
    ]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), expected);
    assert_eq!(get("SELECT nosuch FROM cpu", "json").await, (200, "[]".to_owned()));
    assert_eq!(
        get("SHOW MEASUREMENTS WITH MEASUREMENT = nosuch", "csv").await,
        (200, "iox::measurement,name\n".to_owned())
    );

    let body =
        json!({ "db": "db", "q": "SELECT usage FROM cpu WHERE host = $h", "params": { "h": "b" }, "format": "csv" });
    let posted = server.http.post(server.url("/api/v3/query_influxql")).json(&body).send().await.unwrap();
    assert_eq!(posted.text().await.unwrap().lines().count(), 3);
}
