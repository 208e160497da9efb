//! Queries that run: seen, ended by their number, ended by their time, and made to wait, whichever way they came.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use flightline::query::RunningSettings;
use futures::TryStreamExt;
use prost::Message;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::auth::Guarded;
use crate::harness::server::TestServer;

/// It would take years.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b \
                       CROSS JOIN generate_series(1, 1000000) c WHERE a.value + b.value + c.value < 0";

/// Longer than anything here takes on a slow machine, shorter than the patience of who runs the tests.
const PATIENCE: Duration = Duration::from_secs(120);

async fn start_with(change: impl FnOnce(&mut RunningSettings)) -> TestServer {
    let server = TestServer::start_with(|settings| change(&mut settings.query.running)).await;
    server.write("db", "t v=1 1").await;
    server
}

/// The rows that a condition chooses from `system.queries`, which is always there.
async fn queries(server: &TestServer, condition: &str) -> Vec<Value> {
    let sql = format!("SELECT * FROM system.queries WHERE {condition} ORDER BY id");
    let (status, text) = server.query("db", &sql, "json").await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The number of the one query that runs and counts without end, as soon as there is one.
async fn endless(server: &TestServer) -> u64 {
    let waiting = async {
        loop {
            let condition = "running AND query_text LIKE 'SELECT count(*) FROM generate_series%' AND phase = 'permit'";
            if let [query] = queries(server, condition).await.as_slice() {
                return query["id"].as_u64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the query begins")
}

/// The row of a query that is to end.
async fn ended(server: &TestServer, id: u64) -> Value {
    let waiting = async {
        loop {
            let mut found = queries(server, &format!("id = {id} AND NOT running")).await;
            if let Some(query) = found.pop() {
                return query;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the query ends")
}

async fn flight(server: &TestServer) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap())
}

fn with_database<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("database", "db".parse().unwrap());
    request
}

/// The messages of a Flight SQL query, as they are taken.
async fn stream(mut client: FlightServiceClient<Channel>, sql: &str) -> Result<Streaming<FlightData>, Status> {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = client.get_flight_info(with_database(descriptor)).await?.into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap_or(Ticket::default());
    Ok(client.do_get(with_database(ticket)).await?.into_inner())
}

/// All messages of a Flight SQL query.
async fn fetch(client: FlightServiceClient<Channel>, sql: &str) -> Result<usize, Status> {
    let messages = stream(client, sql).await?;
    messages.try_collect::<Vec<_>>().await.map(|messages| messages.len())
}

async fn influxql(server: &TestServer, q: &str) -> Value {
    let response = server.http.post(server.url("/query")).query(&[("db", "db"), ("q", q)]).send().await.unwrap();
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn kill(server: &TestServer, id: u64) -> StatusCode {
    server.http.delete(server.url(&format!("/api/v3/queries?id={id}"))).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_leaves_a_row_that_says_what_became_of_it() {
    let server = start_with(|_| {}).await;
    assert_eq!(server.query("db", "SELECT v FROM t", "json").await.0, 200);
    assert_eq!(server.query("db", "SELECT w FROM t", "json").await.0, 400);
    assert_eq!(server.query("db", "INSERT INTO t (time, v) VALUES (2, 2), (3, 3)", "json").await.0, 200);
    assert!(fetch(flight(&server).await, "SELECT v AS flown FROM t").await.unwrap() >= 2);
    assert_eq!(influxql(&server, "SELECT v FROM t").await["results"][0]["series"][0]["name"], "t");
    influxql(&server, "CREATE USER a WITH PASSWORD 'secret'").await;

    let told = |query: &Value| {
        let of = |name: &str| query[name].as_str().unwrap_or_default().to_owned();
        (of("query_type"), of("query_text"), of("phase"), query["rows"].as_u64().unwrap())
    };
    let all: Vec<_> = queries(&server, "NOT running").await.iter().map(told).collect();
    let row = |kind: &str, text: &str, phase: &str, rows| (kind.to_owned(), text.to_owned(), phase.to_owned(), rows);
    assert_eq!(
        all,
        [
            row("sql", "SELECT v FROM t", "success", 1),
            row("sql", "SELECT w FROM t", "fail", 0),
            row("sql", "INSERT INTO t (time, v) VALUES (2, 2), (3, 3)", "success", 2),
            // Once, although it was described before it was fetched.
            row("flightsql", "SELECT v AS flown FROM t", "success", 3),
            row("influxql", "SELECT v FROM t", "success", 3),
            row("influxql", "CREATE USER a WITH PASSWORD [REDACTED]", "fail", 0),
        ]
    );
    let failed = &queries(&server, "phase = 'fail' AND query_type = 'sql'").await[0];
    assert!(failed["error"].as_str().unwrap().contains('w'), "{failed}");
    assert_eq!((&failed["database"], &failed["success"]), (&json!("db"), &json!(false)));

    let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("flightline_query_failures_total 2\n"), "{metrics}");
    assert!(metrics.contains("flightline_queries_running 0\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_ended_by_its_number_on_every_way_in() {
    let server = start_with(|_| {}).await;
    // HTTP, ended over HTTP.
    let (ask, id) = tokio::join!(server.query("db", ENDLESS, "json"), async {
        let id = endless(&server).await;
        assert_eq!(kill(&server, id).await, 200);
        id
    });
    assert_eq!((ask.0, ask.1.contains(&format!("query {id} was cancelled"))), (499, true), "{ask:?}");
    let query = ended(&server, id).await;
    assert_eq!(
        (&query["phase"], &query["cancelled"], &query["killed"]),
        (&json!("cancel"), &json!(true), &json!(true))
    );

    // Flight SQL, ended in InfluxQL.
    let client = flight(&server).await;
    let (ask, ()) = tokio::join!(fetch(client, ENDLESS), async {
        let id = endless(&server).await;
        let shown = influxql(&server, "SHOW QUERIES").await["results"][0]["series"][0].clone();
        assert_eq!(shown["columns"], json!(["qid", "query", "database", "duration", "status"]));
        let values = shown["values"].as_array().unwrap();
        assert_eq!(values.len(), 2, "it and itself: {values:?}");
        assert_eq!((&values[0][0], &values[0][2], &values[0][4]), (&json!(id), &json!("db"), &json!("running")));
        assert_eq!(influxql(&server, &format!("KILL QUERY {id}")).await["results"][0], json!({ "statement_id": 0 }));
    });
    let status = ask.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled, "{status}");

    let gone = influxql(&server, "KILL QUERY 1000000").await;
    assert_eq!(gone["results"][0]["error"], "no such query id: 1000000");
    assert_eq!(kill(&server, 1_000_000).await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_ends_when_its_time_is_over() {
    let server = start_with(|running| running.timeout = Some(Duration::from_millis(200))).await;
    let (status, text) = server.query("db", ENDLESS, "json").await;
    assert_eq!((status, text.contains("--query-timeout")), (504, true), "{text}");
    let status = fetch(flight(&server).await, ENDLESS).await.unwrap_err();
    assert_eq!((status.code(), status.message().contains("--query-timeout")), (Code::DeadlineExceeded, true));
    // Clients hear of it at once; it is counted when its threads have ended too.
    let counted = async {
        loop {
            let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
            if metrics.contains("flightline_queries_timed_out_total 2\n") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("two queries were ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_say_how_long_it_waits() {
    let server = start_with(|_| {}).await;
    let body = json!({ "db": "db", "q": ENDLESS, "timeout": "100ms" });
    let response = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 504);
    assert!(response.text().await.unwrap().contains("the time that its client gave it is over"));
    let response = server.http.get(server.url("/api/v3/query_sql?db=db&q=SELECT+1&timeout=soon")).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("timeout 'soon' is none"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_slot_is_told_to_come_back_and_the_system_stays_in_sight() {
    let server = start_with(|running| {
        (running.slots, running.waiting_max) = (Some(1), 0);
    })
    .await;
    let running = server.query("db", ENDLESS, "json");
    let others = async {
        let id = endless(&server).await;
        let body = json!({ "db": "db", "q": "SELECT v FROM t" });
        let refused = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert!(refused.text().await.unwrap().contains("--max-concurrent-queries"));
        let refused = server.http.get(server.url("/query?db=db&q=SELECT+v+FROM+t")).send().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
        assert_eq!(fetch(flight(&server).await, "SELECT v FROM t").await.unwrap_err().code(), Code::Unavailable);
        // What connection pools send, and what shows what there is.
        assert_eq!(server.query("db", "SELECT 1", "json").await.0, 200);
        assert_eq!(server.query("db", "SELECT * FROM information_schema.tables", "json").await.0, 200);
        assert!(influxql(&server, "SHOW DATABASES").await["results"][0]["series"].is_array());
        let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains("flightline_queries_refused_total 3\n"), "{metrics}");
        kill(&server, id).await;
        ended(&server, id).await;
    };
    assert_eq!(tokio::join!(running, others).0.0, 499);
    assert_eq!(server.query("db", "SELECT v FROM t", "json").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_waits_gets_the_slot_of_one_that_ends() {
    let server = start_with(|running| running.slots = Some(1)).await;
    let running = server.query("db", ENDLESS, "json");
    let waiting = async {
        let id = endless(&server).await;
        let waiting = server.query("db", "SELECT v FROM t", "json");
        let ending = async {
            while queries(&server, "phase = 'queued'").await.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            kill(&server, id).await
        };
        tokio::join!(waiting, ending).0
    };
    let (killed, (status, text)) = tokio::join!(running, waiting);
    assert_eq!((killed.0, status), (499, 200), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_shuts_nobody_out() {
    const ROWS: usize = 3_000_000;
    let server = start_with(|running| running.slots = Some(1)).await;
    let sql = format!("SELECT value FROM generate_series(1, {ROWS})");
    let body = json!({ "db": "db", "q": &sql, "format": "csv" });
    let mut over_http = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
    let mut over_flight = stream(flight(&server).await, &sql).await.unwrap();
    let mut lines = 0;
    let mut count = |chunk: &[u8]| lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    count(&over_http.chunk().await.unwrap().unwrap());
    let mut rows = over_flight.try_next().await.unwrap().map(|_| 0).unwrap();

    // The one slot is for who can use it.
    let others = async {
        for _ in 0..3 {
            let (status, text) = server.query("db", "SELECT v FROM t", "json").await;
            assert_eq!(status, 200, "{text}");
        }
    };
    tokio::time::timeout(PATIENCE, others).await.expect("those who take their rows are answered");
    let waiting = queries(&server, "running AND phase = 'permit' AND query_text LIKE '%generate_series(1, %'").await;
    assert_eq!(waiting.len(), 2, "{waiting:?}");

    // Who waited misses nothing.
    while let Some(chunk) = over_http.chunk().await.unwrap() {
        count(&chunk);
    }
    assert_eq!(lines, ROWS + 1);
    while let Some(data) = over_flight.try_next().await.unwrap() {
        let message = arrow::ipc::root_as_message(&data.data_header).unwrap();
        rows += message.header_as_record_batch().map_or(0, |batch| batch.length() as usize);
    }
    assert_eq!(rows, ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_its_query_and_frees_its_slot() {
    let server = start_with(|running| running.slots = Some(1)).await;
    let body = json!({ "db": "db", "q": ENDLESS });
    let asking = tokio::spawn(server.http.post(server.url("/api/v3/query_sql")).json(&body).send());
    let id = endless(&server).await;
    asking.abort();
    let query = ended(&server, id).await;
    assert_eq!((&query["cancelled"], &query["error"]), (&json!(true), &json!("its client left")));
    assert_eq!(server.query("db", "SELECT v FROM t", "json").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_seen_and_ended_by_who_may() {
    let guarded = Guarded::start().await;
    let operator = guarded.operator.clone();
    for database in ["a", "b"] {
        assert_eq!(guarded.write(&operator, database, "t v=1 1").await, 204);
    }
    let reader = guarded.token("reader", &["db:a:read"]).await;
    let other = guarded.token("other", &["db:b:read", "db:a:write"]).await;
    let owner = guarded.token("owner", &["db:a:admin"]).await;
    let seen = async |token: &str| {
        let (status, text) = guarded.ask(Method::GET, "/api/v3/queries?format=json", Some(token), None).await;
        assert_eq!(status, 200, "{text}");
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        let endless = rows.into_iter().filter(|row| row["running"] == json!(true) && row["query_text"] == ENDLESS);
        endless.map(|row| (row["id"].as_u64().unwrap(), row["principal"].clone())).collect::<Vec<_>>()
    };
    let running = guarded.query(&reader, "a", ENDLESS);
    let others = async {
        let waiting = async {
            loop {
                if let [(id, principal)] = seen(&operator).await.as_slice() {
                    assert_eq!(principal, "reader");
                    return *id;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let id = tokio::time::timeout(PATIENCE, waiting).await.expect("the query begins");
        assert_eq!((seen(&reader).await.len(), seen(&owner).await.len(), seen(&other).await.len()), (1, 1, 0));
        let in_sql = guarded.query(&other, "a", "SELECT query_text FROM system.queries WHERE running").await.1;
        assert!(!in_sql.contains("generate_series"), "{in_sql}");
        let second = guarded.token("second", &["db:a:read"]).await;
        assert_eq!(seen(&second).await.len(), 1, "who may read the database sees what is asked there");

        let kill = async |token: &str| {
            let path = format!("/api/v3/queries?id={id}");
            guarded.ask(Method::DELETE, &path, Some(token), None).await
        };
        assert_eq!(kill(&other).await.0, 404, "what may not be seen is not there");
        let (status, text) = kill(&second).await;
        assert_eq!((status.as_u16(), text.contains("somebody else's")), (403, true), "{text}");
        assert_eq!(kill(&owner).await.0, 200);
    };
    assert_eq!(tokio::join!(running, others).0.0.as_u16(), 499);
}
