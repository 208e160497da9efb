//! Small questions from outside, one after the other on one connection: the real program, real sockets, a client that waits for each answer.
//!
//! `cargo bench --bench small`, or with the beginning of a question's name. Each question is asked for another range of time each time, as a
//! dashboard does, and answered from Parquet that was read before. Client and server share the machine. `/ping`, which asks nothing, is
//! what the way there and back takes; over Flight a query is described and fetched, which is two calls. `FLIGHTLINE_BENCH_ROWS` sets the rows.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod points;
mod process;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use chrono::DateTime;
use futures::TryStreamExt;
use points::{Points, START_NS};
use process::{ServerProcess, percentile};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

const DATABASE: &str = "bench";

const BATCH_ROWS: usize = 10_000;

/// Asked before those that are timed: plans are kept, columns decoded.
const WARM: usize = 50;

/// A question: its name, in SQL, in InfluxQL if it can be said there. `{from}` and `{to}` are instants an hour apart, `{host}` is a host.
struct Question {
    name: &'static str,
    sql: &'static str,
    influxql: Option<&'static str>,
}

const QUESTIONS: [Question; 7] = [
    Question { name: "select-1", sql: "SELECT 1", influxql: None },
    Question {
        name: "single-groupby-1-1-1",
        sql: "SELECT date_trunc('minute', time) AS t, max(usage_user) AS m FROM cpu WHERE hostname = '{host}' AND time >= '{from}' AND time < '{to}' GROUP BY 1 ORDER BY 1",
        influxql: Some(
            "SELECT max(usage_user) FROM cpu WHERE hostname = '{host}' AND time >= '{from}' AND time < '{to}' GROUP BY time(1m)",
        ),
    },
    Question {
        name: "last-point-of-one",
        sql: "SELECT * FROM cpu WHERE hostname = '{host}' AND time < '{to}' ORDER BY time DESC LIMIT 1",
        influxql: Some("SELECT * FROM cpu WHERE hostname = '{host}' AND time < '{to}' ORDER BY time DESC LIMIT 1"),
    },
    Question {
        name: "last-value-of-one",
        sql: "SELECT selector_last(usage_user, time)['value'] AS v FROM cpu WHERE hostname = '{host}' AND time < '{to}'",
        influxql: Some("SELECT last(usage_user) FROM cpu WHERE hostname = '{host}' AND time < '{to}'"),
    },
    Question { name: "last-cache-1", sql: "SELECT * FROM last_cache('cpu') WHERE hostname = '{host}'", influxql: None },
    Question { name: "last-cache-all", sql: "SELECT * FROM last_cache('cpu')", influxql: None },
    Question {
        name: "distinct-cache-all",
        sql: "SELECT hostname FROM distinct_cache('cpu')",
        influxql: Some("SHOW TAG VALUES FROM cpu WITH KEY = hostname"),
    },
];

/// The text for the `number`th time.
fn text(template: &str, number: usize) -> String {
    let from = START_NS + number as i64 % 1000 * 100_000_000;
    let instant = |nanos: i64| DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    template
        .replace("{from}", &instant(from))
        .replace("{to}", &instant(from + 3_600_000_000_000))
        .replace("{host}", &format!("host_{}", number % points::HOSTS))
}

struct Client {
    http: reqwest::Client,
    flight: FlightSqlServiceClient<Channel>,
    address: SocketAddr,
}

impl Client {
    async fn new(address: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut flight = FlightSqlServiceClient::new(channel);
        flight.set_header("database", DATABASE);
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        Self { http, flight, address }
    }

    async fn post(&self, path: &str, body: Value) {
        let request = self.http.post(format!("http://{}{path}", self.address)).json(&body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    }

    async fn load(&self, rows: usize) {
        let mut points = Points::new("");
        for _ in 0..rows.div_ceil(BATCH_ROWS) {
            let lines = points.lines(BATCH_ROWS);
            let url = format!("http://{}/api/v3/write_lp?db={DATABASE}&precision=ns", self.address);
            assert_eq!(self.http.post(url).body(lines).send().await.unwrap().status(), 204);
        }
        for (path, columns) in [("last_cache", "key_columns"), ("distinct_cache", "columns")] {
            let body = json!({ "db": DATABASE, "table": "cpu", columns: ["hostname"] });
            self.post(&format!("/api/v3/configure/{path}"), body).await;
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> usize {
        let request = self.http.get(format!("http://{}{path}", self.address)).query(query);
        let response = request.send().await.unwrap();
        let (status, body) = (response.status(), response.bytes().await.unwrap());
        assert!(status.is_success(), "{path}: {}", String::from_utf8_lossy(&body));
        body.len()
    }

    async fn json(&self, text: &str) {
        let bytes = self.get("/api/v3/query_sql", &[("db", DATABASE), ("format", "json"), ("q", text)]).await;
        assert!(bytes > 2, "rows of {text}");
    }

    async fn influxql(&self, text: &str) {
        let bytes = self.get("/query", &[("db", DATABASE), ("epoch", "ms"), ("q", text)]).await;
        assert!(bytes > 60, "rows of {text}");
    }

    async fn flight(&mut self, text: &str) {
        let info = self.flight.execute(text.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let rows: Vec<RecordBatch> = self.flight.do_get(ticket).await.unwrap().try_collect().await.unwrap();
        assert!(rows.iter().any(|batch| batch.num_rows() > 0), "rows of {text}");
    }
}

/// How an answer comes.
#[derive(Clone, Copy)]
enum Way {
    Ping,
    Json,
    InfluxQl,
    Flight,
}

/// The times of `count` answers, sorted.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn times(client: &mut Client, way: Way, template: &str, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for number in 0..WARM + count {
        let text = text(template, number);
        let start = Instant::now();
        match way {
            Way::Ping => drop(client.get("/ping", &[]).await),
            Way::Json => client.json(&text).await,
            Way::InfluxQl => client.influxql(&text).await,
            Way::Flight => client.flight(&text).await,
        }
        if number >= WARM {
            times.push(start.elapsed());
        }
    }
    times.sort();
    times
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without `--bench` this is a check that it still runs.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(1_000_000, |text| text.parse().expect("a number"));
    let (rows, count) = if is_bench { (rows, 2000) } else { (BATCH_ROWS, 3) };
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let data = directory.path().join("data");
    let server = ServerProcess::start(&data, &[]);
    // Its connections go with the runtime.
    runtime().block_on(async { Client::new(server.address).await.load(rows).await });
    server.stop();
    let server = ServerProcess::start(&data, &[]); // all rows are in Parquet
    println!("| question | way | p50 ms | p99 ms |\n|---|---|---|---|");
    runtime().block_on(async {
        let mut client = Client::new(server.address).await;
        let floor = [("ping", Way::Ping, "HTTP", "")];
        let questions = QUESTIONS.iter().flat_map(|question| {
            let ways = [
                Some(("Flight", Way::Flight, question.sql)),
                Some(("JSON", Way::Json, question.sql)),
                question.influxql.map(|influxql| ("InfluxQL", Way::InfluxQl, influxql)),
            ];
            ways.into_iter().flatten().map(|(way, by, text)| (question.name, by, way, text))
        });
        for (name, way, called, text) in floor.into_iter().chain(questions).filter(|case| case.0.starts_with(wanted)) {
            let times = times(&mut client, way, text, count).await;
            let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
            println!("| {name} | {called} | {:.2} | {:.2} |", ms(50), ms(99));
        }
    });
}
