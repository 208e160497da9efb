//! Instructions of the hot paths, which are the same from run to run where times are not.
//!
//! `benches/counts/check` counts them under valgrind and compares them with `benches/counts/kept.txt`; alone, this only runs them. One
//! thread does all the work of a case, so that nothing is counted twice or depends on who was sooner; what it leaves to other threads (the
//! commit thread of the log, compression of a file) is not counted. Points are the same each time, and the clock stands still.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod load;
mod points;

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow_flight::sql::{CommandGetTableTypes, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo};
use axum::body::Body;
use flightline::clock::{Clock, ManualClock};
use flightline::engine::buffer::{Buffer, TableContents};
use flightline::engine::caches::CacheState;
use flightline::engine::catalog::TableEntry;
use flightline::engine::compaction::CompactionSettings;
use flightline::engine::store::{ConnectionSettings, StoreSettings, Writers};
use flightline::engine::wal::MemoryDisk;
use flightline::engine::{Engine, EngineSettings, store};
use flightline::model::last_write_wins::{Merge, Step, sort_run};
use flightline::model::{
    Access, CacheDefinition, CacheKind, CacheShape, DatabaseId, DatabaseName, FileList, Newest, Sequence, TableId,
    TableName, TableSchema, Timestamp,
};
use flightline::query::{Language, Origin, PlannedQuery, Queries, Query, QuerySettings};
use flightline::server::auth::AuthSettings;
use flightline::server::{ConnectionLimits, LimitSettings, LogSettings, Origins, ServerSettings, Services};
use flightline::syntax::influxql;
use flightline::syntax::line_protocol::{Schemas, parse};
use futures::TryStreamExt;
use http::Request;
use http_body_util::BodyExt;
use load::{BATCH_ROWS, DATABASE};
use points::{HOSTS, Points, START_NS};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// Rows of one write, and of one answer with many rows.
const ROWS: usize = 1000;

/// Runs that are merged.
const RUNS: usize = 16;

/// Calls before those that are counted: plans are kept, columns decoded, memory is there.
const WARM: usize = 4;

/// Calls of one case that are counted, each for itself.
const COUNTED: usize = 5;

/// DataFusion recurses along the depth of an expression; a stack as the threads of queries have it.
const STACK_BYTES: usize = 32 << 20;

/// TSBS's single-groupby-1-1-1.
const ONE_HOST_ONE_HOUR: &str = "SELECT date_trunc('minute', time) AS bucket, max(usage_user) AS usage_user FROM cpu \
    WHERE hostname = 'host_7' AND time >= TIMESTAMP '2024-01-01T00:00:00' AND time < TIMESTAMP '2024-01-01T01:00:00' GROUP BY 1 ORDER BY 1";

/// The same as a panel asks for it.
const PANEL: &str = "SELECT max(usage_user) AS usage_user FROM cpu WHERE (hostname = 'host_7') AND time >= '2024-01-01T00:00:00Z' \
    AND time < '2024-01-01T01:00:00Z' GROUP BY time(60s) fill(none)";

const LAST_POINTS: &str = "SELECT DISTINCT ON (hostname) * FROM cpu ORDER BY hostname, time DESC";
const LAST_VALUES: &str = "SELECT last(usage_user) AS usage_user FROM cpu GROUP BY hostname";
const NEWEST_OF_ONE: &str = "SELECT * FROM cpu WHERE hostname = 'host_7' ORDER BY time DESC LIMIT 1";
const ONE_CACHED: &str = "SELECT * FROM last_cache('cpu') WHERE hostname = 'host_7'";
const ALL_CACHED: &str = "SELECT * FROM last_cache('cpu')";
const THOUSAND_ROWS: &str = "SELECT * FROM cpu LIMIT 1000";

/// Something that is counted.
struct Case {
    name: String,
    /// How many rows it goes through, or 1 if it is about a request.
    rows: usize,
    /// Says something that follows from its work, so that none is left out.
    work: Box<dyn FnMut() -> usize>,
}

impl Case {
    fn new(name: impl Into<String>, rows: usize, work: impl FnMut() -> usize + 'static) -> Self {
        Self { name: name.into(), rows, work: Box::new(work) }
    }

    fn run(mut self, is_counted: bool) {
        if !is_counted {
            black_box((self.work)());
            return;
        }
        for _ in 0..WARM {
            black_box((self.work)());
        }
        for _ in 0..COUNTED {
            counted(self.work.as_mut());
            hand_over();
            println!("{}\t{}", self.name, self.rows);
        }
    }
}

/// Valgrind counts while a thread is in here, which it knows by the name.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> usize) -> usize {
    let answer = work();
    black_box(answer) // after the call, so that it is no jump
}

/// Valgrind writes down what it counted since the last time.
#[inline(never)]
fn hand_over() {
    black_box(());
}

struct NoTables;

impl Schemas for NoTables {
    fn table(&self, _: &str) -> Option<Arc<TableSchema>> {
        None
    }
}

/// These lines as columns.
fn batch(lines: &str) -> (TableSchema, RecordBatch) {
    let mut parsed = parse(lines.as_bytes(), &NoTables, &load::options());
    let table = parsed.rows.tables.remove(0);
    (table.schema, table.batch)
}

/// What happens to rows on their way in, without an engine.
fn rows() -> Vec<Case> {
    let mut cases = Vec::new();
    for rows in [1, ROWS] {
        let lines = Points::new("").lines(rows);
        cases.push(Case::new(format!("parse lines, {rows}"), rows, move || {
            black_box(parse(lines.as_bytes(), &NoTables, &load::options())).accepted
        }));
        let (schema, rows_written) = batch(&Points::new("").lines(rows));
        cases.push(Case::new(format!("insert and sort, {rows}"), rows, move || insert(&schema, &rows_written)));
    }
    let mut points = Points::new("");
    let runs: Vec<_> = (0..RUNS).map(|_| batch(&points.lines(ROWS))).collect();
    let schema = runs[0].0.clone();
    let apart: Vec<_> = runs.iter().map(|(_, rows)| sort_run(&schema, rows).unwrap()).collect();
    // Each point is in two neighbouring runs, and neighbours in time are in different ones.
    let all = sort_run(&schema, &batch(&Points::new("").lines(RUNS * ROWS / 2)).1).unwrap();
    let is_in = |row: usize, run: usize| row % RUNS == run || (row + 1) % RUNS == run;
    let of_run = |run| (0..all.num_rows()).map(|row| Some(is_in(row, run))).collect::<BooleanArray>();
    let interleaved: Vec<_> = (0..RUNS).map(|run| filter_record_batch(&all, &of_run(run)).unwrap()).collect();
    for (name, runs) in [("times apart", apart), ("interleaved, each point twice", interleaved)] {
        let schema = schema.clone();
        cases.push(Case::new(format!("merge {RUNS} runs, {name}"), RUNS * ROWS, move || merged_rows(&schema, &runs)));
    }
    cases.push(Case::new("InfluxQL, parse a panel", 1, || influxql::parse(black_box(PANEL), &[]).unwrap().len()));
    cases
}

/// What the commit thread does with rows that are in the log, and the first query with what that leaves.
fn insert(schema: &TableSchema, rows: &RecordBatch) -> usize {
    let entry = TableEntry {
        id: TableId::new(1),
        database: DatabaseId::new(1),
        name: TableName::new("cpu").unwrap(),
        schema: Arc::new(schema.clone()),
        files: FileList::default(),
        persisted_through: Sequence::ZERO,
        retention: None,
        deletions: Arc::default(),
        last_deletion: 0,
        caches: Vec::new(),
    };
    let buffer = Buffer::new(1 << 30, Arc::new(ManualClock::new(Timestamp::from_nanos(START_NS))));
    let table = buffer.table_or_insert(entry.id, || TableContents::stored(&entry));
    table.insert(Sequence::new(1), rows.clone()).unwrap();
    table.contents().runs[0].sorted().unwrap().num_rows()
}

fn merged_rows(schema: &TableSchema, runs: &[RecordBatch]) -> usize {
    let mut merge = Merge::new(schema, Arc::clone(schema.arrow()), runs.len(), 8192).unwrap();
    let mut given = vec![false; runs.len()];
    let mut rows = 0;
    loop {
        match merge.step().unwrap() {
            Step::Done => return rows,
            Step::Ready(batch) => rows += black_box(batch).num_rows(),
            Step::Needs(input) if given[input] => merge.finish(input),
            Step::Needs(input) => {
                given[input] = true;
                merge.push(input, runs[input].clone()).unwrap();
            }
        }
    }
}

/// A server without a port, all of it on the thread that asks.
struct Served {
    runtime: Runtime,
    engine: Arc<Engine>,
    queries: Arc<Queries>,
    routes: axum::Router,
}

impl Served {
    fn new(rows: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (engine, queries, routes) = runtime.block_on(async {
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_nanos(START_NS)));
            let store = store::open(&StoreSettings::Memory, &ConnectionSettings::default()).unwrap();
            let settings = EngineSettings {
                compaction: CompactionSettings { is_on: false, settle: Duration::ZERO, cpu_percent: 100 },
                ..EngineSettings::default()
            };
            let disk = Arc::new(MemoryDisk::default());
            let engine = Engine::open(settings, store, disk, Arc::clone(&clock)).await.unwrap();
            load::write(&engine, &mut Points::new(""), rows).await;
            let here = tokio::runtime::Handle::current();
            let settings = QuerySettings { threads: 2, ..QuerySettings::default() };
            let queries = Queries::new(Arc::clone(&engine), settings, here.clone().into(), here).unwrap();
            let queries = Arc::new(queries);
            let (of_services, settings) = (Arc::clone(&queries), server_settings());
            let services = Services::new(settings, Arc::clone(&engine), of_services, None, clock).await.unwrap();
            let routes = Arc::new(services).routes(CancellationToken::new()).unwrap();
            (engine, queries, routes)
        });
        Self { runtime, engine, queries, routes }
    }

    async fn plan(&self, language: Language, text: &str) -> PlannedQuery {
        let query = Query {
            database: DatabaseName::new(DATABASE).unwrap(),
            language,
            text: text.to_owned(),
            plan: bytes::Bytes::new(),
            parameters: Vec::new(),
            access: Access::full(),
            origin: Origin::default(),
        };
        self.queries.plan(query).await.unwrap()
    }

    fn planned_columns(&self, language: Language, text: &str) -> usize {
        self.runtime.block_on(async { self.plan(language, text).await.schema().fields().len() })
    }

    /// The rows that a text answers.
    fn answered_rows(&self, language: Language, text: &str) -> usize {
        self.runtime.block_on(async {
            let mut batches = self.plan(language, text).await.run().await.unwrap();
            let mut rows = 0;
            while let Some(batch) = batches.try_next().await.unwrap() {
                rows += black_box(batch).num_rows();
            }
            rows
        })
    }

    /// Sends a request and takes the parts of the answer's body as they come.
    fn answer(&self, request: Request<Body>, mut part: impl FnMut(&[u8])) {
        self.runtime.block_on(async {
            let response = self.routes.clone().call(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.unwrap();
                match frame.trailers_ref() {
                    Some(trailers) => assert_eq!(trailers["grpc-status"], "0", "{trailers:?}"),
                    None => part(frame.data_ref().unwrap()),
                }
            }
        });
    }

    /// Bytes of the answer to a GET.
    fn get(&self, path: &str) -> usize {
        let mut bytes = 0;
        self.answer(Request::get(path).body(Body::empty()).unwrap(), |part| bytes += part.len());
        bytes
    }

    /// A call of Flight with its message; the answer's bytes as they come.
    fn call(&self, method: &str, message: &[u8], part: impl FnMut(&[u8])) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], length.as_slice(), message].concat();
        let request = Request::post(format!("/arrow.flight.protocol.FlightService/{method}"))
            .header("content-type", "application/grpc")
            .header("database", DATABASE)
            .body(Body::from(body))
            .unwrap();
        self.answer(request, part);
    }

    /// Bytes of an answer of Flight.
    fn called_bytes(&self, method: &str, message: &[u8]) -> usize {
        let mut bytes = 0;
        self.call(method, message, |part| bytes += part.len());
        bytes
    }

    /// The encoded ticket of a command's answer.
    fn ticket(&self, descriptor: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        self.call("GetFlightInfo", descriptor, |part| answer.extend_from_slice(part));
        let info = FlightInfo::decode(&answer[5..]).unwrap();
        info.endpoint[0].ticket.as_ref().unwrap().encode_to_vec()
    }

    fn fill_cache(&self) {
        let (database, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("cpu").unwrap());
        let shape = CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None };
        let cache = CacheDefinition { name: "newest".to_owned(), shape };
        self.runtime.block_on(async {
            self.engine.create_cache(&database, &table, cache).await.unwrap();
            while self
                .engine
                .cache_facts(&database, CacheKind::Last)
                .iter()
                .any(|cache| cache.state != CacheState::Ready)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}

fn server_settings() -> ServerSettings {
    ServerSettings {
        node_id: "counts".to_owned(),
        auth: AuthSettings::off(),
        tls: None,
        bind: ([127, 0, 0, 1], 0).into(), // nobody listens
        data_directory: std::path::PathBuf::new(),
        store: StoreSettings::Memory,
        connection: ConnectionSettings::default(),
        writers: Writers::Several,
        log: LogSettings::default(),
        mirror: None,
        promotes_mirror: false,
        backups: None,
        engine: EngineSettings::default(),
        query: QuerySettings::default(),
        limits: LimitSettings::default(),
        origins: Origins::Any,
        request_bytes_max: 10 << 20,
        connections: ConnectionLimits::default(),
        shutdown_timeout: Duration::from_secs(5),
    }
}

fn descriptor(command: &impl ProstMessageExt) -> Vec<u8> {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec()).encode_to_vec()
}

fn query_descriptor(text: &str) -> Vec<u8> {
    descriptor(&CommandStatementQuery { query: text.to_owned(), transaction_id: None })
}

/// What is asked of rows wherever they lie.
fn asked(served: &Rc<Served>, place: &str) -> Vec<Case> {
    [
        ("one host, one hour", Language::Sql, ONE_HOST_ONE_HOUR),
        ("InfluxQL, a panel", Language::InfluxQl, PANEL),
        ("last point of each series", Language::Sql, LAST_POINTS),
        ("InfluxQL, last value of each series", Language::InfluxQl, LAST_VALUES),
        ("last point of one series", Language::Sql, NEWEST_OF_ONE),
        ("1000 rows", Language::Sql, THOUSAND_ROWS),
    ]
    .into_iter()
    .map(|(name, language, text)| {
        let (served, rows) = (Rc::clone(served), if text == THOUSAND_ROWS { ROWS } else { 1 });
        Case::new(format!("{place}: {name}"), rows, move || served.answered_rows(language, text))
    })
    .collect()
}

/// What is done for a request, whatever its rows: plans, answers, tickets.
fn requests(served: &Rc<Served>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in [("SELECT 1", "SELECT 1 AS one"), ("one host, one hour", ONE_HOST_ONE_HOUR)] {
        let asking = Rc::clone(served);
        let kept = move || asking.planned_columns(Language::Sql, text);
        cases.push(Case::new(format!("plan, kept: {name}"), 1, kept));
        let (asking, number) = (Rc::clone(served), Cell::new(0));
        cases.push(Case::new(format!("plan, new: {name}"), 1, move || {
            number.set(number.get() + 1);
            asking.planned_columns(Language::Sql, &format!("{text} -- {:04}", number.get()))
        }));
    }
    let (asking, number) = (Rc::clone(served), Cell::new(0));
    cases.push(Case::new("plan, another host: one host, one hour", 1, move || {
        number.set(number.get() + 1);
        let host = format!("host_{}", number.get());
        asking.planned_columns(Language::Sql, &ONE_HOST_ONE_HOUR.replace("host_7", &host))
    }));
    let asking = Rc::clone(served);
    cases.push(Case::new("plan: InfluxQL, a panel", 1, move || asking.planned_columns(Language::InfluxQl, PANEL)));
    let asking = Rc::clone(served);
    cases.push(Case::new("SELECT 1", 1, move || asking.answered_rows(Language::Sql, "SELECT 1 AS one")));
    served.fill_cache();
    for (name, text, rows) in [("one series", ONE_CACHED, 1), ("100 series", ALL_CACHED, HOSTS)] {
        let asking = Rc::clone(served);
        cases.push(Case::new(format!("last cache, {name}"), rows, move || asking.answered_rows(Language::Sql, text)));
    }

    let (one, many) = (query_descriptor("SELECT 1 AS one"), query_descriptor(THOUSAND_ROWS));
    let known = served.ticket(&descriptor(&CommandGetTableTypes {}));
    for (name, rows, method, message) in [
        ("a ticket and one batch that is known", 1, "DoGet", known),
        ("fetch SELECT 1", 1, "DoGet", served.ticket(&one)),
        ("describe SELECT 1", 1, "GetFlightInfo", one),
        ("fetch 1000 rows", ROWS, "DoGet", served.ticket(&many)),
    ] {
        let asking = Rc::clone(served);
        cases.push(Case::new(format!("Flight, {name}"), rows, move || asking.called_bytes(method, &message)));
    }
    for (name, rows, path) in [
        ("SELECT 1", 1, "/api/v3/query_sql?db=bench&q=SELECT+1+AS+one"),
        ("1000 rows", ROWS, "/api/v3/query_sql?db=bench&q=SELECT+*+FROM+cpu+LIMIT+1000"),
    ] {
        let asking = Rc::clone(served);
        cases.push(Case::new(format!("JSON, {name}"), rows, move || asking.get(path)));
    }
    let asking = Rc::clone(served);
    let encoded: String = form_urlencoded::byte_serialize(PANEL.as_bytes()).collect();
    let panel = format!("/query?db={DATABASE}&epoch=ms&q={encoded}");
    cases.push(Case::new("JSON, InfluxQL, a panel", 1, move || asking.get(&panel)));
    cases
}

/// The cases that one process runs, and how many rows it has.
fn cases(group: &str, rows_written: usize) -> Vec<Case> {
    let served = || Rc::new(Served::new(rows_written));
    match group {
        "rows" => rows(),
        "buffer" => asked(&served(), "buffer"),
        "files" => {
            let served = served();
            served.runtime.block_on(served.engine.persist_all()).unwrap();
            asked(&served, "files")
        }
        "requests" => requests(&served()),
        other => panic!("there is no group \"{other}\", but rows, buffer, files, requests"),
    }
}

fn main() {
    let (flags, groups): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    // Without `--bench` this is a check that it still runs.
    let is_counted = flags.iter().any(|flag| flag == "--bench");
    let groups =
        if groups.is_empty() { ["rows", "buffer", "files", "requests"].map(str::to_owned).to_vec() } else { groups };
    // An hour of all machines, which ends in the hour that is asked for.
    let rows_written = if is_counted { 4 * BATCH_ROWS } else { BATCH_ROWS };
    let run = move || {
        for group in &groups {
            cases(group, rows_written).into_iter().for_each(|case| case.run(is_counted));
        }
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}
