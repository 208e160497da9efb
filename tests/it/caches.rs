//! Caches of last and distinct values: always what the table says, however it came to it.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Action;
use flightline::clock::ManualClock;
use flightline::engine::store::Store;
use flightline::engine::{EngineSettings, HardDelete};
use flightline::model::{ColumnName, DatabaseName, RowSelection, TableName, TimeRange, Timestamp};
use proptest::prelude::*;
use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::Guarded;
use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::process::PROGRAM;
use crate::harness::server::TestServer;

const NOW: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

/// Half past, so that no limit of a whole number of hours hits it.
fn hours_ago(hours: i64) -> i64 {
    NOW - hours * HOUR - HOUR / 2
}

#[derive(Debug, Clone)]
struct Point {
    host: Option<&'static str>,
    region: Option<&'static str>,
    usage: Option<u8>,
    count: Option<u8>,
    state: Option<&'static str>,
    hours: i64,
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Point>),
    Persist,
    Compact,
    Delete { hours: (i64, i64), host: Option<&'static str> },
    Retention(Option<u64>),
    DropAndBringBack,
    Restart,
    Crash,
    Wait,
}

impl Point {
    fn line(&self) -> String {
        let tag = |name: &str, value: Option<&str>| value.map_or(String::new(), |value| format!(",{name}={value}"));
        let mut fields = Vec::new();
        fields.extend(self.usage.map(|usage| format!("usage={usage}")));
        fields.extend(self.count.map(|count| format!("count={count}i")));
        fields.extend(self.state.map(|state| format!("state=\"{state}\"")));
        let tags = tag("host", self.host) + &tag("region", self.region);
        format!("cpu{tags} {} {}\n", fields.join(","), hours_ago(self.hours))
    }
}

fn point() -> impl Strategy<Value = Point> {
    let host = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "c"]));
    let region = prop::option::of(prop::sample::select(vec!["eu", "us"]));
    let state = prop::option::of(prop::sample::select(vec!["up", "down"]));
    let usage = prop::option::of(0..9_u8);
    (host, region, usage, prop::option::of(0..9_u8), state, 0..12_i64).prop_map(
        |(host, region, usage, count, state, hours)| {
            let usage = if count.is_none() && state.is_none() { usage.or(Some(0)) } else { usage };
            Point { host, region, usage, count, state, hours }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let host = prop::option::of(prop::sample::select(vec!["a", "b"]));
    let step = prop_oneof![
        6 => prop::collection::vec(point(), 1..10).prop_map(Step::Write),
        2 => Just(Step::Persist),
        1 => Just(Step::Compact),
        1 => (0..8_i64, 0..4_i64, host).prop_map(|(last, length, host)| Step::Delete { hours: (last, last + length), host }),
        1 => prop::option::of(3..10_u64).prop_map(Step::Retention),
        1 => Just(Step::DropAndBringBack),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        3 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..10)
}

/// A cache, and the question to the table that it answers.
struct Case {
    cache: Value,
    columns: &'static str,
    table: String,
}

fn last(cache: Value, columns: &'static str, keys: &str, since: Option<i64>) -> Case {
    let count = cache["count"].as_u64().unwrap_or(1);
    let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {keys}") };
    let since =
        since.map_or(String::new(), |hours| format!("WHERE time >= to_timestamp_nanos({})", NOW - hours * HOUR));
    let table = format!(
        "SELECT {columns} FROM (SELECT *, row_number() OVER ({partition} ORDER BY time DESC, host ASC NULLS LAST, \
         region ASC NULLS LAST) AS n FROM cpu {since}) AS ranked WHERE n <= {count}"
    );
    Case { cache, columns, table }
}

/// One row of each key, with the newest value of each of the other columns.
fn per_field(cache: Value, columns: &'static str, keys: &[&str], since: Option<i64>) -> Case {
    let since =
        since.map_or(String::new(), |hours| format!("WHERE time >= to_timestamp_nanos({})", NOW - hours * HOUR));
    let column = |name: &str| match name {
        "time" => "max(time) AS time".to_owned(),
        key if keys.contains(&key) => key.to_owned(),
        value => format!(
            "first_value({value} ORDER BY time DESC, host ASC NULLS LAST, region ASC NULLS LAST) \
             FILTER (WHERE {value} IS NOT NULL) AS {value}"
        ),
    };
    let chosen = columns.split(", ").map(column).collect::<Vec<_>>().join(", ");
    let table = format!("SELECT {chosen} FROM cpu {since} GROUP BY {}", keys.join(", "));
    Case { cache, columns, table }
}

fn distinct(cache: Value, columns: &'static str, since: Option<i64>) -> Case {
    let most = cache["max_cardinality"].as_u64().unwrap_or(100_000);
    let since =
        since.map_or(String::new(), |hours| format!("WHERE time >= to_timestamp_nanos({})", NOW - hours * HOUR));
    let order = columns.split(", ").map(|column| format!("{column} ASC NULLS LAST")).collect::<Vec<_>>().join(", ");
    let table = format!(
        "SELECT {columns} FROM (SELECT {columns}, max(time) AS newest FROM cpu {since} GROUP BY {columns} \
         ORDER BY newest DESC, {order} LIMIT {most}) AS newest"
    );
    Case { cache, columns, table }
}

fn cases() -> Vec<Case> {
    const ALL: &str = "host, region, usage, count, state, time";
    vec![
        last(json!({ "name": "series" }), ALL, "host, region", None),
        last(json!({ "name": "hosts", "key_columns": ["host"], "count": 2 }), ALL, "host", None),
        last(json!({ "name": "turned", "key_columns": ["region", "host"], "count": 3 }), ALL, "region, host", None),
        last(
            json!({ "name": "newest", "key_columns": [], "value_columns": ["usage"], "count": 3 }),
            "usage, time",
            "",
            None,
        ),
        last(json!({ "name": "young", "ttl": 5 * 3600 }), ALL, "host, region", Some(5)),
        // A field of the key.
        last(
            json!({ "name": "states", "key_columns": ["state"], "value_columns": ["usage"] }),
            "state, usage, time",
            "state",
            None,
        ),
        per_field(json!({ "name": "values", "per_field": true }), ALL, &["host", "region"], None),
        per_field(
            json!({ "name": "values of hosts", "key_columns": ["host"], "per_field": true, "ttl": 5 * 3600 }),
            ALL,
            &["host"],
            Some(5),
        ),
        per_field(
            json!({ "name": "values of states", "key_columns": ["state"], "value_columns": ["usage"], "per_field": true }),
            "state, usage, time",
            &["state"],
            None,
        ),
        distinct(json!({ "name": "places", "columns": ["region", "host"] }), "region, host", None),
        distinct(json!({ "name": "few", "columns": ["host"], "max_cardinality": 2 }), "host", None),
        distinct(json!({ "name": "recent", "columns": ["host"], "max_age": 5 * 3600 }), "host", Some(5)),
        distinct(json!({ "name": "conditions", "columns": ["state", "region"] }), "state, region", None),
        distinct(json!({ "name": "numbers", "columns": ["usage", "count"] }), "usage, count", None),
        last(
            json!({ "name": "usages", "key_columns": ["usage"], "value_columns": ["count"] }),
            "usage, count, time",
            "usage",
            None,
        ),
    ]
}

impl Case {
    fn function(&self) -> String {
        let name = self.cache["name"].as_str().unwrap();
        let function = if self.cache["columns"].is_array() { "distinct_cache" } else { "last_cache" };
        format!("{function}('cpu', '{name}')")
    }

    /// Asks for all, and for some in one of three ways.
    async fn check(&self, database: &TestDatabase, number: usize) {
        let some = ["WHERE host = 'a'", "WHERE host IN ('b', 'c') AND region = 'eu'", "WHERE region IS NULL"];
        for filter in ["", some[number % some.len()]] {
            let names_unknown = filter.contains("host") && !self.columns.contains("host")
                || filter.contains("region") && !self.columns.contains("region");
            if names_unknown {
                continue;
            }
            let of_cache = format!("SELECT {} FROM {} {filter}", self.columns, self.function());
            let of_table = format!("SELECT * FROM ({}) AS asked {filter}", self.table);
            let mut found = database.rows(&of_cache).await.unwrap();
            let mut expected = database.rows(&of_table).await.unwrap();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{of_cache} is {of_table}");
        }
    }

    async fn is_answered_by_the_cache(&self, database: &TestDatabase) -> bool {
        let plan = database.rows(&format!("EXPLAIN SELECT * FROM {}", self.function())).await.unwrap();
        plan.iter().flatten().flatten().any(|text| text.contains("from=cache"))
    }
}

async fn run(steps: &[Step]) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW)));
    // A question to the table may be answered by a cache, too: not here.
    let mut database = TestDatabase::without_shortcuts(Store::in_memory(), TestDatabase::settings(), clock).await;
    let (name, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("cpu").unwrap());
    database.write(&format!("cpu,host=z,region=eu usage=1,count=1i,state=\"up\" {}", hours_ago(11))).await;
    let cases = cases();
    for case in &cases {
        database.create_cache("cpu", &case.cache).await.unwrap();
    }
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Write(points) => database.write(&points.iter().map(Point::line).collect::<String>()).await,
            Step::Persist => database.engine().persist_all().await.unwrap(),
            Step::Compact => database.engine().compact_all().await.unwrap(),
            Step::Delete { hours: (last, first), host } => {
                let tags = host.map(|host| (ColumnName::new("host").unwrap(), Some(host.to_owned())));
                let time = TimeRange::from_nanos(hours_ago(*first), hours_ago(*last));
                let rows = RowSelection { time, tags: tags.into_iter().collect() };
                database.engine().delete_rows(&name, &table, [rows]).await.unwrap();
            }
            Step::Retention(hours) => {
                let period = hours.map(|hours| Duration::from_secs(hours * 3600));
                database.engine().set_retention(&name, Some(&table), period).await.unwrap();
            }
            Step::DropAndBringBack => {
                database.engine().delete_table(&name, &table, HardDelete::Never).await.unwrap();
                database.engine().undelete_table(&name, "cpu", None).await.unwrap();
            }
            Step::Restart => database.restart().await,
            Step::Crash => database.crash().await,
            Step::Wait => {
                database.wait_for_caches().await;
                for case in &cases {
                    assert!(case.is_answered_by_the_cache(&database).await, "{} is filled", case.function());
                }
            }
        }
        for case in &cases {
            case.check(&database, number).await;
        }
    }
    database.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_says_what_the_table_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(&steps));
        runtime.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_persists_and_fillings_at_once_lose_nothing() {
    let settings = TestDatabase::settings();
    let clock = Arc::new(flightline::clock::SystemClock::new());
    let database = TestDatabase::with(Store::in_memory(), settings, clock).await;
    database.write("cpu,host=a n=0i 0\ncpu,host=b n=0i 0").await;
    database.create_cache("cpu", &json!({ "name": "c", "count": 3 })).await.unwrap();
    let asked = "SELECT host, n FROM last_cache('cpu', 'c') ORDER BY host, n";
    for round in 1..60_i64 {
        database.write(&format!("cpu,host=a n={round}i {round}\ncpu,host=b n={round}i {round}")).await;
        if round % 7 == 0 {
            let (persisted, rows) = tokio::join!(database.engine().persist_all(), database.rows(asked));
            persisted.unwrap();
            assert_eq!(rows.unwrap().len(), 6);
        }
        if round % 20 == 0 {
            let zero = RowSelection { time: TimeRange::from_nanos(round - 1, round - 1), tags: Vec::new() };
            let (name, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("cpu").unwrap());
            database.engine().delete_rows(&name, &table, [zero]).await.unwrap();
        }
        let newest = (0..=round).rev().filter(|time| (time + 1) % 20 != 0 || *time == round).take(3);
        let mut newest: Vec<i64> = newest.collect();
        newest.sort_unstable();
        let expected: Vec<Vec<Option<String>>> = ["a", "b"]
            .into_iter()
            .flat_map(|host| newest.iter().map(move |n| vec![Some(host.to_owned()), Some(n.to_string())]))
            .collect();
        let mut found = database.rows(asked).await.unwrap();
        found.sort_by_key(|row| (row[0].clone(), row[1].as_ref().unwrap().parse::<i64>().unwrap()));
        assert_eq!(found, expected, "after round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_sees_cache_and_table_at_one_instant() {
    let database = Arc::new(TestDatabase::new().await);
    database.write("cpu,host=a n=0i 0").await;
    database.create_cache("cpu", &json!({ "name": "c" })).await.unwrap();
    database.wait_for_caches().await;
    let writer = Arc::clone(&database);
    let writing = tokio::task::spawn(async move {
        for n in 1..200 {
            writer.write(&format!("cpu,host=a n={n}i {n}")).await;
        }
    });
    while !writing.is_finished() {
        let sql = "SELECT (SELECT max(n) FROM cpu) - (SELECT n FROM last_cache('cpu'))";
        assert_eq!(database.rows(sql).await.unwrap(), [[Some("0".to_owned())]]);
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_does_not_fit_is_let_go_and_the_table_answers() {
    let settings = EngineSettings { cache_bytes_max: 4 << 10, ..TestDatabase::settings() };
    let clock = Arc::new(flightline::clock::SystemClock::new());
    let database = TestDatabase::with(Store::in_memory(), settings, clock).await;
    database.write("cpu,host=a usage=1 1\ncpu,host=b usage=2 2").await;
    database.create_cache("cpu", &json!({ "name": "c" })).await.unwrap();
    database.wait_for_caches().await;
    let lines: String = (0..1000).map(|host| format!("cpu,host=h{host} usage={host} 5\n")).collect();
    database.write(&lines).await;
    database.engine().persist_all().await.unwrap();
    let sql = "SELECT state, rows FROM system.last_caches";
    assert_eq!(database.rows(sql).await.unwrap(), [[Some("too large".to_owned()), Some("0".to_owned())]]);
    let answer = database.rows("SELECT count(*), sum(usage) FROM last_cache('cpu')").await.unwrap();
    assert_eq!(answer, [[Some("1002".to_owned()), Some("499503.0".to_owned())]]);
    let one = database.rows("SELECT usage FROM last_cache('cpu') WHERE host = 'h7'").await.unwrap();
    assert_eq!(one, [[Some("7.0".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_whether_the_cache_answers() {
    let database = TestDatabase::new().await;
    let lines = "cpu,region=eu,host=a usage=1 10\ncpu,region=us,host=b usage=2 20\ncpu,region=us,host=a usage=3 30";
    database.write(lines).await;
    database.create_cache("cpu", &json!({ "name": "newest" })).await.unwrap();
    database.create_cache("cpu", &json!({ "name": "hosts", "columns": ["region", "host"] })).await.unwrap();
    database.create_cache("cpu", &json!({ "name": "full", "columns": ["host"], "max_cardinality": 2 })).await.unwrap();
    database.wait_for_caches().await;
    let plan = async |sql: &str| {
        let rows = database.rows(&format!("EXPLAIN {sql}")).await.unwrap();
        rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
    };
    for (sql, expected) in [
        ("SELECT * FROM last_cache('cpu')", "LastCacheExec: table=cpu, cache=newest, from=cache"),
        (
            "SELECT usage FROM last_cache('cpu') WHERE host = 'a' AND region IN ('eu', 'us')",
            "LastCacheExec: table=cpu, cache=newest, lookups=[host IN (a), region IN (eu, us)], from=cache",
        ),
        ("SELECT region FROM distinct_cache('cpu', 'hosts')", "DistinctCacheExec: table=cpu, cache=hosts, from=cache"),
    ] {
        let plan = plan(sql).await;
        assert!(plan.contains(expected), "{sql}: {plan}");
    }
}

async fn send(server: &TestServer, method: Method, path: &str, body: Value) -> (u16, String) {
    let response = server.http.request(method, server.url(path)).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_made_asked_and_deleted_over_http() {
    const LAST: &str = "/api/v3/configure/last_cache";
    const DISTINCT: &str = "/api/v3/configure/distinct_cache";
    let server = TestServer::start().await;
    server.write("db", "cpu,region=eu,host=a usage=1 10\ncpu,region=eu,host=b usage=2 20").await;

    let (status, text) = send(&server, Method::POST, LAST, json!({ "db": "db", "table": "cpu" })).await;
    assert_eq!(status, 201, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(made["name"], "cpu_region_host_last_cache");
    assert_eq!(made["key_columns"], json!(["region", "host"]));
    let of_hosts = json!({ "db": "db", "table": "cpu", "columns": ["region", "host"], "max_age": 86400 });
    let (status, text) = send(&server, Method::POST, DISTINCT, of_hosts).await;
    assert_eq!(status, 201, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], "cpu_region_host_distinct_cache");

    let asked = "SELECT host, usage FROM last_cache('cpu') WHERE host = 'b'";
    assert_eq!(server.query("db", asked, "csv").await, (200, "host,usage\nb,2.0\n".to_owned()));
    // The plan of the same text is kept, its rows are not.
    server.write("db", "cpu,region=eu,host=b usage=3 30").await;
    assert_eq!(server.query("db", asked, "csv").await, (200, "host,usage\nb,3.0\n".to_owned()));
    // Rows of 1970 are older than a day.
    let asked_distinct = "SELECT host FROM distinct_cache('cpu')";
    assert_eq!(server.query("db", asked_distinct, "csv").await, (200, "host\n".to_owned()));

    for (path, body, expected) in [
        (LAST, json!({ "db": "db", "table": "cpu" }), 409),
        (LAST, json!({ "db": "db", "table": "cpu", "name": "x", "key_columns": ["rack"] }), 400),
        (LAST, json!({ "db": "db", "table": "cpu", "name": "x", "count": 0 }), 400),
        (LAST, json!({ "db": "db", "table": "disk" }), 404),
        (LAST, json!({ "db": "other", "table": "cpu" }), 404),
        (LAST, json!({ "db": "db" }), 400),
        (DISTINCT, json!({ "db": "db", "table": "cpu", "columns": [] }), 400),
        (DISTINCT, json!({ "db": "db", "table": "cpu", "columns": ["rack"], "name": "x" }), 400),
    ] {
        let (status, text) = send(&server, Method::POST, path, body.clone()).await;
        assert_eq!(status, expected, "{path} {body}: {text}");
    }
    let response = server.http.post(server.url(LAST)).body("{}").send().await.unwrap();
    assert_eq!(response.status(), 415);

    let second =
        json!({ "db": "db", "table": "cpu", "name": "second", "value_columns": ["usage", "time"], "count": 2 });
    assert_eq!(send(&server, Method::POST, LAST, second).await.0, 201);
    // Now a name is needed, also by a text whose plan was kept.
    let (status, text) = server.query("db", asked, "csv").await;
    assert!(status == 404 && text.contains("name one of the caches of table 'cpu'"), "{status} {text}");
    let named = "SELECT * FROM last_cache('cpu', 'second') WHERE host = 'b'";
    let rows =
        "region,host,usage,time\neu,b,3.0,1970-01-01T00:00:00.000000030\neu,b,2.0,1970-01-01T00:00:00.000000020\n";
    assert_eq!(server.query("db", named, "csv").await, (200, rows.to_owned()));
    let path = format!("{LAST}?db=db&table=cpu&name=second");
    assert_eq!(server.http.delete(server.url(&path)).send().await.unwrap().status(), 200);
    assert_eq!(server.http.delete(server.url(&path)).send().await.unwrap().status(), 404);
    let first = json!({ "db": "db", "table": "cpu", "name": "cpu_region_host_last_cache" });
    assert_eq!(send(&server, Method::DELETE, LAST, first).await.0, 200);
    let (status, text) = server.query("db", asked, "csv").await;
    assert!(status == 404 && text.contains("table 'cpu' has no last cache"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_asked_over_flight() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1 10\ncpu,host=b usage=2 20").await;
    let body = json!({ "db": "db", "table": "cpu", "name": "c" });
    assert_eq!(send(&server, Method::POST, "/api/v3/configure/last_cache", body).await.0, 201);
    let mut client = crate::flight_sql::client(&server, "db").await;
    let rows = crate::flight_sql::rows(&mut client, "SELECT host, usage FROM last_cache('cpu') ORDER BY host").await;
    let text = |cells: [&str; 2]| cells.map(|cell| Some(cell.to_owned())).to_vec();
    assert_eq!(rows, [text(["a", "1.0"]), text(["b", "2.0"])]);
    server.write("db", "cpu,host=b usage=5 30").await;
    let rows = crate::flight_sql::rows(&mut client, "SELECT host, usage FROM last_cache('cpu') WHERE host = 'b'").await;
    assert_eq!(rows, [text(["b", "5.0"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_made_and_deleted_over_flight() {
    let server = TestServer::start().await;
    server.write("db", "cpu,region=eu,host=a usage=1 10\ncpu,region=eu,host=b usage=2 20").await;
    server.write("other", "disk,host=a used=1 10").await;
    let mut client = crate::flight_sql::client(&server, "db").await;
    let mut act = async |name: &str, body: Value| -> Result<Value, String> {
        let mut request = tonic::Request::new(Action::new(name, body.to_string()));
        request.metadata_mut().insert("database", "db".parse().unwrap());
        let mut results = client.inner_mut().do_action(request).await.map_err(|status| status.message().to_owned())?;
        let result = results.get_mut().message().await.map_err(|status| status.message().to_owned())?;
        Ok(result.map_or(Value::Null, |result| serde_json::from_slice(&result.body).unwrap()))
    };
    let made = act("CreateLastCache", json!({ "table": "cpu", "key_columns": ["host"], "count": 2 })).await.unwrap();
    assert_eq!(made["name"], "cpu_host_last_cache");
    assert_eq!((&made["db"], &made["value_columns"], &made["count"]), (&json!("db"), &Value::Null, &json!(2)));
    let made = act("CreateDistinctCache", json!({ "table": "cpu", "columns": ["region"], "name": "regions" })).await;
    assert_eq!(made.unwrap()["max_cardinality"], 100_000);
    // A body may name another database than the call.
    let made = act("CreateLastCache", json!({ "db": "other", "table": "disk" })).await.unwrap();
    assert_eq!(made["db"], "other");

    let asked = "SELECT host, usage FROM last_cache('cpu') WHERE host = 'b'";
    assert_eq!(server.query("db", asked, "csv").await, (200, "host,usage\nb,2.0\n".to_owned()));
    for (name, body, words) in [
        ("CreateLastCache", json!({ "table": "cpu", "key_columns": ["host"] }), "already exists"),
        ("CreateLastCache", json!({ "table": "disk" }), "table not found: disk"),
        ("CreateLastCache", json!({}), "missing field `table`"),
        ("CreateLastCache", json!(["cpu"]), "JSON object"),
        ("CreateDistinctCache", json!({ "table": "cpu", "columns": ["rack"], "name": "x" }), "rack"),
        ("DeleteDistinctCache", json!({ "table": "cpu", "name": "cpu_host_last_cache" }), "not found"),
        ("DeleteLastCache", json!({ "table": "cpu" }), "missing field `name`"),
    ] {
        let error = act(name, body.clone()).await.unwrap_err();
        assert!(error.contains(words), "{name} {body}: {error}");
    }

    let named = json!({ "table": "cpu", "name": "cpu_host_last_cache" });
    assert_eq!(act("DeleteLastCache", named).await, Ok(Value::Null));
    assert_eq!(act("DeleteDistinctCache", json!({ "table": "cpu", "name": "regions" })).await, Ok(Value::Null));
    let (status, text) = server.query("db", asked, "csv").await;
    assert!(status == 404 && text.contains("table 'cpu' has no last cache"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_read_a_table_may_ask_its_caches_and_nobody_else() {
    let guarded = Guarded::start().await;
    assert_eq!(guarded.write(&guarded.operator, "a", "t,tag=x f=1 1\nu,tag=y f=2 1").await, 204);
    for table in ["t", "u"] {
        let body = json!({ "db": "a", "table": table, "name": "c" });
        let path = "/api/v3/configure/last_cache";
        assert_eq!(guarded.ask(Method::POST, path, Some(&guarded.operator), Some(&body)).await.0, 201);
        let body = json!({ "db": "a", "table": table, "name": "c", "columns": ["tag"] });
        let path = "/api/v3/configure/distinct_cache";
        assert_eq!(guarded.ask(Method::POST, path, Some(&guarded.operator), Some(&body)).await.0, 201);
    }
    let reader = guarded.token("reader of t", &["table:a:t:read"]).await;
    let writer = guarded.token("writer of u", &["table:a:t:read,write", "table:a:u:write"]).await;
    for function in ["last_cache", "distinct_cache"] {
        let (status, text) = guarded.query(&reader, "a", &format!("SELECT tag FROM {function}('t')")).await;
        assert_eq!((status.as_u16(), text.as_str()), (200, "tag\nx\n"));
        for token in [&reader, &writer] {
            let (status, text) = guarded.query(token, "a", &format!("SELECT tag FROM {function}('u', 'c')")).await;
            assert!(status == 404 && text.contains("table not found: u"), "{status} {text}");
        }
        // Who may write to a table does not read it that way.
        let copy = format!("INSERT INTO t (time, tag, f) SELECT 5, tag, 1.0 FROM {function}('u', 'c')");
        let (status, text) = guarded.query(&writer, "a", &copy).await;
        assert!(status == 404 && text.contains("not found"), "{status} {text}");
        let (status, text) =
            guarded.query(&reader, "a", &format!("SELECT \"table\", name FROM system.{function}s")).await;
        assert_eq!((status.as_u16(), text.as_str()), (200, "table,name\nt,c\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_made_and_deleted_by_commands() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1 10\ncpu,host=a usage=2 20").await;
    let url = server.url("");
    let run = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(PROGRAM);
        let output = command.args(arguments).args(["-H", &url, "-d", "db"]).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said =
        run(&["create", "last_cache", "-t", "cpu", "--key-columns", "host", "--count", "2", "--ttl", "4h", "mine"])
            .await;
    assert_eq!(said, "Cache \"mine\" created successfully\n");
    run(&["create", "distinct_cache", "-t", "cpu", "--columns", "host", "--max-age", "1d", "--max-cardinality", "5"])
        .await;
    let listed = run(&["query", "--format", "csv", "SELECT name, count, ttl FROM system.last_caches"]).await;
    assert_eq!(listed, "name,count,ttl\nmine,2,14400\n");
    let listed =
        run(&["query", "--format", "csv", "SELECT name, max_cardinality, max_age_seconds FROM system.distinct_caches"])
            .await;
    assert_eq!(listed, "name,max_cardinality,max_age_seconds\ncpu_host_distinct_cache,5,86400\n");
    run(&["delete", "last_cache", "-t", "cpu", "mine"]).await;
    run(&["delete", "distinct_cache", "-t", "cpu", "--cache-name", "cpu_host_distinct_cache"]).await;
    assert_eq!(run(&["query", "--format", "csv", "SELECT name FROM system.last_caches"]).await, "name\n");
}
