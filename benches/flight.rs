//! Flight from outside: the real program over loopback, beside servers and ways in that do less. Prints tables.
//!
//! | command | table |
//! |---|---|
//! | `cargo bench --bench flight get` | MB/s of one result, beside a bare arrow-flight server that sends the same batches from memory |
//! | `cargo bench --bench flight put` | rows/s of the same rows as line protocol and as Arrow in its forms, durable, by one writer |
//! | `cargo bench --bench flight small` | prepared queries for one row: requests/s and their times, by connections |
//! | `cargo bench --bench flight memory` | resident memory with idle connections and with results that are being sent |
//!
//! Without a name all of them. Client and server share the machine; the bare server is a thread of this process, so what counts is how
//! the two relate. `FLIGHTLINE_BENCH_ROWS` sets the rows. Clients take messages and don't decode them.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod points;
mod process;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandStatementIngest, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use points::Points;
use process::{ServerProcess, percentile};
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

const BATCH_ROWS: usize = 10_000;

/// What a run measures: small where it is only a check that it still runs.
struct Size {
    rows: usize,
    seconds: Duration,
    repetitions: usize,
    /// How many ask at once.
    connections: &'static [usize],
    idle: usize,
    active: usize,
}

/// Sends the same batches to whoever asks, as arrow-flight encodes them.
struct Bare(Arc<Vec<RecordBatch>>);

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let batches: Vec<_> = self.0.iter().cloned().map(Ok).collect();
        let messages = FlightDataEncoderBuilder::new().build(stream::iter(batches));
        Ok(Response::new(messages.map_err(Into::into).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A bare server on threads of its own, for as long as the process lives.
fn serve_bare(batches: Vec<RecordBatch>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let incoming = stream::unfold(TcpListener::from_std(listener).unwrap(), async |listener| {
                let accepted = listener.accept().await.map(|(connection, _)| connection);
                Some((accepted, listener))
            });
            let service = FlightServiceServer::new(Bare(Arc::new(batches)));
            tonic::transport::Server::builder()
                .tcp_nodelay(true)
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
    address
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
    // What a client takes at once decides how fast one stream is.
    let endpoint = endpoint.initial_stream_window_size(8 << 20).initial_connection_window_size(16 << 20);
    endpoint.connect().await.unwrap()
}

fn raw(channel: Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(channel).max_decoding_message_size(64 << 20)
}

async fn client(address: SocketAddr) -> FlightSqlServiceClient<Channel> {
    let mut client = FlightSqlServiceClient::new(channel(address).await);
    client.set_header("database", "bench");
    client
}

async fn ticket(address: SocketAddr, sql: &str) -> Ticket {
    let info = client(address).await.execute(sql.to_owned(), None).await.unwrap();
    info.endpoint[0].ticket.clone().unwrap()
}

async fn write_lines(address: SocketAddr, lines: String) {
    let url = format!("http://{address}/api/v3/write_lp?db=bench&precision=ns");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.post(url).body(lines).send().await.unwrap().status(), 204);
}

/// A server with so many rows of the load.
async fn loaded(directory: &Path, rows: usize, arguments: &[&str]) -> ServerProcess {
    let server = ServerProcess::start(directory, arguments);
    let mut points = Points::new("");
    for _ in 0..rows.div_ceil(BATCH_ROWS) {
        write_lines(server.address, points.lines(BATCH_ROWS)).await;
    }
    server
}

async fn batches(address: SocketAddr, sql: &str) -> Vec<RecordBatch> {
    let ticket = ticket(address, sql).await;
    let messages = raw(channel(address).await).do_get(ticket).await.unwrap().into_inner();
    FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into)).try_collect().await.unwrap()
}

/// Bytes and seconds of one result.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn fetch(address: SocketAddr, ticket: Ticket) -> (usize, f64) {
    let mut client = raw(channel(address).await);
    let (start, mut bytes) = (Instant::now(), 0);
    let mut messages = client.do_get(ticket).await.unwrap().into_inner();
    while let Some(message) = messages.message().await.unwrap() {
        bytes += message.data_header.len() + message.data_body.len();
    }
    (bytes, start.elapsed().as_secs_f64())
}

async fn get(directory: &Path, size: &Size) {
    println!("\n| one result, one stream | MB | MB/s, best of {} |\n|---|---|---|", size.repetitions);
    let server = loaded(&directory.join("get"), size.rows, &[]).await;
    let numbers = "SELECT time, usage_user, usage_system, usage_idle, usage_nice, usage_iowait, usage_irq FROM cpu";
    for (name, sql) in [("times and numbers", numbers), ("all columns, tags as text", "SELECT * FROM cpu")] {
        let bare = serve_bare(batches(server.address, sql).await);
        let rows = ticket(server.address, sql).await;
        for (who, address, ticket) in
            [("Flightline", server.address, rows), ("arrow-flight, from memory", bare, Ticket::new("x"))]
        {
            let mut best = (0, f64::MAX);
            for _ in 0..size.repetitions {
                let fetched = fetch(address, ticket.clone()).await;
                best = if fetched.1 < best.1 { fetched } else { best };
            }
            let megabytes = best.0 as f64 / 1e6;
            println!("| {name}: {who} | {megabytes:.0} | {:.0} |", megabytes / best.1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn put(directory: &Path, size: &Size) {
    println!("\n| one writer, durable | rows/s |\n|---|---|");
    let mut points = Points::new("");
    let bodies: Vec<String> = (0..size.rows.div_ceil(BATCH_ROWS)).map(|_| points.lines(BATCH_ROWS)).collect();
    let rows = (bodies.len() * BATCH_ROWS) as f64;
    let lines = ServerProcess::start(&directory.join("lines"), &[]);
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let url = format!("http://{}/api/v3/write_lp?db=bench&precision=ns", lines.address);
    let start = Instant::now();
    for body in bodies {
        assert_eq!(http.post(&url).body(body).send().await.unwrap().status(), 204);
    }
    println!("| line protocol, {BATCH_ROWS} rows a request | {:.0} |", rows / start.elapsed().as_secs_f64());

    // The same rows, in the order in which they were written.
    let written = batches(lines.address, "SELECT * FROM cpu ORDER BY time, hostname").await;
    let text = arrow::compute::concat_batches(&written[0].schema(), &written).unwrap();
    drop(lines);
    let path = FlightDescriptor::new_path(vec!["bench".to_owned(), "cpu".to_owned()]);
    let ingest = FlightDescriptor::new_cmd(ingest_command().as_any().encode_to_vec());
    let dictionaries = with_dictionaries(&text);
    for (number, (name, to, rows, batch_rows)) in [
        ("DoPut to a path, tags as dictionaries", &path, &dictionaries, BATCH_ROWS),
        ("the same", &path, &dictionaries, BATCH_ROWS / 10),
        ("DoPut to a path, tags as text", &path, &text, BATCH_ROWS),
        ("the same", &path, &text, BATCH_ROWS / 10),
        ("CommandStatementIngest, tags as dictionaries", &ingest, &dictionaries, BATCH_ROWS),
        ("CommandStatementIngest, tags as text", &ingest, &text, BATCH_ROWS),
    ]
    .into_iter()
    .enumerate()
    {
        let server = ServerProcess::start(&directory.join(format!("arrow-{number}")), &[]);
        let messages = encoded(rows, batch_rows, to.clone()).await;
        let mut request = Request::new(stream::iter(messages));
        request.metadata_mut().insert("database", "bench".parse().unwrap());
        let start = Instant::now();
        let answers = raw(channel(server.address).await).do_put(request).await.unwrap().into_inner();
        assert!(!answers.try_collect::<Vec<_>>().await.unwrap().is_empty());
        let rate = rows.num_rows() as f64 / start.elapsed().as_secs_f64();
        println!("| {name}, {batch_rows} rows a batch | {rate:.0} |");
    }
}

fn ingest_command() -> CommandStatementIngest {
    let options = TableDefinitionOptions {
        if_not_exist: TableNotExistOption::Create.into(),
        if_exists: TableExistsOption::Append.into(),
    };
    CommandStatementIngest {
        table_definition_options: Some(options),
        table: "cpu".to_owned(),
        ..CommandStatementIngest::default()
    }
}

/// The same rows with each column of text as a dictionary.
fn with_dictionaries(rows: &RecordBatch) -> RecordBatch {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let column = match column.data_type() {
            DataType::Utf8 => {
                cast(column, &DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into())).unwrap()
            }
            _ => Arc::clone(column),
        };
        let field = Field::new(field.name(), column.data_type().clone(), true).with_metadata(field.metadata().clone());
        (field, column)
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The rows as a client sends them, a message a batch.
async fn encoded(rows: &RecordBatch, batch_rows: usize, to: FlightDescriptor) -> Vec<FlightData> {
    let pieces: Vec<_> = (0..rows.num_rows())
        .step_by(batch_rows)
        .map(|row| Ok(rows.slice(row, batch_rows.min(rows.num_rows() - row))))
        .collect();
    let encoder = FlightDataEncoderBuilder::new()
        .with_max_flight_data_size(32 << 20) // a batch is a message, as clients send it
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_flight_descriptor(Some(to));
    encoder.build(stream::iter(pieces)).try_collect().await.unwrap()
}

/// One connection that asks until the time is over: the time of each request.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn ask(address: SocketAddr, duration: Duration) -> Vec<Duration> {
    let mut client = client(address).await;
    let mut statement = client
        .prepare("SELECT usage_user FROM cpu WHERE hostname = $1 ORDER BY time DESC LIMIT 1".to_owned(), None)
        .await
        .unwrap();
    let host: ArrayRef = Arc::new(StringArray::from(vec!["host_7"]));
    statement.set_parameters(RecordBatch::try_from_iter([("$1", host)]).unwrap()).unwrap();
    let (begin, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || begin.elapsed() < duration {
        let start = Instant::now();
        let info = statement.execute().await.unwrap(); // binds, and describes
        let rows: Vec<RecordBatch> =
            client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        times.push(start.elapsed());
    }
    times
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn small(directory: &Path, size: &Size) {
    println!(
        "\n| connections that bind, execute and fetch one row | requests/s | p50 ms | p99 ms |\n|---|---|---|---|"
    );
    let server = loaded(&directory.join("small"), BATCH_ROWS, &[]).await;
    for &connections in size.connections {
        let start = Instant::now();
        let asking: Vec<_> = (0..connections).map(|_| tokio::spawn(ask(server.address, size.seconds))).collect();
        let mut times = Vec::new();
        for asked in asking {
            times.extend(asked.await.unwrap());
        }
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        times.sort();
        let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
        println!("| {connections} | {rate:.0} | {:.2} | {:.2} |", ms(50), ms(99));
    }
}

async fn memory(directory: &Path, size: &Size) {
    println!("\n| what there is | resident MB of the server |\n|---|---|");
    let server = loaded(&directory.join("memory"), size.rows, &["--max-connections=4096"]).await;
    println!("| {} rows written | {:.0} |", size.rows, server.resident_megabytes());
    let mut idle = Vec::new();
    for _ in 0..size.idle {
        let mut client = client(server.address).await;
        client.execute("SELECT 1".to_owned(), None).await.unwrap();
        idle.push(client);
    }
    println!("| and {} idle connections | {:.0} |", size.idle, server.resident_megabytes());
    let ticket = ticket(server.address, "SELECT * FROM cpu").await;
    let mut active = Vec::new();
    for _ in 0..size.active {
        let mut messages = raw(channel(server.address).await).do_get(ticket.clone()).await.unwrap().into_inner();
        for _ in 0..2 {
            assert!(messages.message().await.unwrap().is_some(), "the schema, then rows");
        }
        active.push(messages); // and reads no further
    }
    tokio::time::sleep(size.seconds).await;
    println!("| and {} results that nobody reads on | {:.0} |", size.active, server.resident_megabytes());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without `--bench` this is a check that it still runs.
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let (seconds, connections): (_, &[usize]) = (Duration::from_secs(5), &[1, 16, 256]);
    let size = match is_bench {
        true => Size { rows, seconds, repetitions: 5, connections, idle: 1000, active: 200 },
        false => {
            let (rows, seconds, connections) = (BATCH_ROWS, Duration::ZERO, &[1, 4]);
            Size { rows, seconds, repetitions: 1, connections, idle: 3, active: 3 }
        }
    };
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("get") {
            get(directory.path(), &size).await;
        }
        if wanted("put") {
            put(directory.path(), &size).await;
        }
        if wanted("small") {
            small(directory.path(), &size).await;
        }
        if wanted("memory") {
            memory(directory.path(), &size).await;
        }
    });
}
