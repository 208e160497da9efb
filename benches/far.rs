//! Questions over an object store that is 20 ms away, beside DataFusion on the same files. Prints a table.
//!
//! `cargo bench --bench far`. 2,000,000 rows of 100 machines in 20 files that don't overlap. Each request to the store waits for 20 ms first, whatever is
//! asked for (`FLIGHTLINE_BENCH_DELAY_MS`). *Cold* is the first question after a start: nothing of the files is in memory; what a start itself
//! reads is not counted, nor what DataFusion reads of the files to learn their columns, which keeps their metadata. *Again* is the
//! second time, *kept* the fourth. The rows are old and Flightline keeps data of recent rows only, and what is asked for again and again; as *recent* it is told to
//! take them for recent.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod load;
mod points;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::ListingOptions;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::prelude::{SessionConfig, SessionContext};
use flightline::engine::store::Store;
use flightline::engine::store::recent::RecentSettings;
use flightline::engine::{Engine, EngineSettings};
use flightline::model::{Access, DatabaseName};
use flightline::query::{Language, Origin, Queries, Query, QuerySettings};
use futures::{StreamExt, TryStreamExt};
use load::{BATCH_ROWS, DATABASE, write};
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectMeta, ObjectStore};
use points::Points;
use tokio::runtime::{Builder, Handle};

const THREADS: usize = 2;
const FILES: usize = 20;

const QUESTIONS: [(&str, &str); 6] = [
    ("count of all rows", "SELECT count(*) FROM cpu"),
    (
        "one host, one hour, by minute",
        "SELECT date_bin(INTERVAL '1 minute', time) AS minute, max(usage_user) FROM cpu \
      WHERE hostname = 'host_7' AND time >= '2024-01-01T00:10:00' AND time < '2024-01-01T01:10:00' GROUP BY 1",
    ),
    (
        "hourly average by host",
        "SELECT date_bin(INTERVAL '1 hour', time) AS hour, hostname, avg(usage_user) FROM cpu GROUP BY 1, 2",
    ),
    ("average of 3 fields", "SELECT avg(usage_user), avg(usage_idle), avg(usage_guest) FROM cpu"),
    ("newest 10 rows", "SELECT * FROM cpu ORDER BY time DESC LIMIT 10"),
    (
        "busy rows of an hour",
        "SELECT * FROM cpu WHERE usage_user > 90 AND time >= '2024-01-01T00:10:00' AND time < '2024-01-01T01:10:00'",
    ),
];

/// A store that is as far away as it is told to be.
struct FarStore {
    objects: Arc<ThrottledStore<InMemory>>,
    delay: Duration,
}

impl FarStore {
    fn new() -> Self {
        let milliseconds =
            std::env::var("FLIGHTLINE_BENCH_DELAY_MS").map_or(20, |text| text.parse().expect("a number"));
        let objects = Arc::new(ThrottledStore::new(InMemory::new(), ThrottleConfig::default()));
        Self { objects, delay: Duration::from_millis(milliseconds) }
    }

    fn is_far(&self, is_far: bool) {
        let delay = if is_far { self.delay } else { Duration::ZERO };
        self.objects.config_mut(|config| {
            config.wait_get_per_call = delay;
            config.wait_list_per_call = delay;
            config.wait_list_with_delimiter_per_call = delay;
            config.wait_put_per_call = delay;
        });
    }

    fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::<ThrottledStore<InMemory>>::clone(&self.objects)
    }
}

fn settings(recent: RecentSettings) -> EngineSettings {
    let mut settings = EngineSettings { recent, ..EngineSettings::default() };
    settings.compaction.is_on = false;
    settings.buffer.bytes_max = 8 << 30;
    settings
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn timed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let done = work.await;
    (start.elapsed().as_secs_f64() * 1e3, done)
}

async fn ask(queries: &Queries, text: &str) -> usize {
    let database = DatabaseName::new(DATABASE).unwrap();
    let (language, text) = (Language::Sql, text.to_owned());
    let (plan, parameters) = (bytes::Bytes::new(), Vec::new());
    let query = Query { database, language, text, plan, parameters, access: Access::full(), origin: Origin::default() };
    let batches: Vec<_> = queries.plan(query).await.unwrap().run().await.unwrap().try_collect().await.unwrap();
    batches.iter().map(|batch| black_box(batch).num_rows()).sum()
}

/// Milliseconds of the first, second and fourth time after a start, and the rows that came.
async fn ours(root: &Path, store: &FarStore, cpu: &Handle, recent: RecentSettings, text: &str) -> ([f64; 3], usize) {
    store.is_far(false);
    let engine = load::open_on(Store::new(store.objects(), "far"), root, settings(recent)).await;
    let query_settings = QuerySettings { threads: THREADS, ..QuerySettings::default() };
    let queries = Queries::new(Arc::clone(&engine), query_settings, cpu.clone().into(), Handle::current()).unwrap();
    store.is_far(true);
    let (cold, rows) = timed(Box::pin(ask(&queries, text))).await;
    let (again, _) = timed(Box::pin(ask(&queries, text))).await;
    ask(&queries, text).await;
    let (kept, _) = timed(Box::pin(ask(&queries, text))).await;
    store.is_far(false);
    close(engine, queries).await;
    ([cold, again, kept], rows)
}

async fn close(engine: Arc<Engine>, queries: Queries) {
    drop(queries);
    engine.close().await.unwrap();
}

/// The same of DataFusion.
async fn theirs(store: &FarStore, text: &str) -> ([f64; 3], usize) {
    store.is_far(false);
    let mut config = SessionConfig::new().with_target_partitions(THREADS);
    config.options_mut().execution.listing_table_ignore_subdirectory = false; // files lie by day
    let context = SessionContext::new_with_config(config);
    let url = ObjectStoreUrl::parse("far://store").unwrap();
    context.register_object_store(url.as_ref(), store.objects());
    let is_data = |object: &ObjectMeta| object.location.as_ref().ends_with(".parquet");
    let objects: Vec<ObjectMeta> = store.objects.list(None).try_collect().await.unwrap();
    let file = &objects.iter().find(|object| is_data(object)).unwrap().location;
    let (table, _day_and_name) = file.as_ref().split_once("/20").unwrap();
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    context.register_listing_table("cpu", format!("far://store/{table}/"), options, None, None).await.unwrap();
    let run = async || {
        let stream = context.sql(text).await.unwrap().execute_stream().await.unwrap();
        stream.map(|batch| black_box(batch.unwrap()).num_rows()).fold(0, async |sum, rows| sum + rows).await
    };
    store.is_far(true);
    let (cold, rows) = timed(run()).await;
    let (again, _) = timed(run()).await;
    run().await;
    let (kept, _) = timed(run()).await;
    store.is_far(false);
    ([cold, again, kept], rows)
}

async fn measure(root: &Path, rows: usize, cpu: &Handle) {
    let store = FarStore::new();
    let engine = load::open_on(Store::new(store.objects(), "far"), root, settings(RecentSettings::default())).await;
    let mut points = Points::new("");
    for _ in 0..FILES {
        write(&engine, &mut points, rows / FILES).await;
        engine.persist_all().await.unwrap();
    }
    assert_eq!(engine.metrics().files, FILES);
    engine.close().await.unwrap();
    drop(engine);

    store.is_far(true);
    let (opened, engine) =
        timed(load::open_on(Store::new(store.objects(), "far"), root, settings(RecentSettings::default()))).await;
    store.is_far(false);
    engine.close().await.unwrap();
    drop(engine);
    println!("{rows} rows in {FILES} files, {:?} away; a start takes {opened:.0} ms\n", store.delay);

    println!("milliseconds: cold / again / kept\n");
    println!("| | Flightline | Flightline, recent | DataFusion |\n|---|---|---|---|");
    let recent = RecentSettings { recency: Duration::from_secs(100 * 365 * 86_400), ..RecentSettings::default() };
    let cells = |[cold, again, kept]: [f64; 3]| format!("{cold:.0} / {again:.0} / {kept:.0}");
    for (name, text) in QUESTIONS {
        let (old, rows) = Box::pin(ours(root, &store, cpu, RecentSettings::default(), text)).await;
        let (recent, _) = Box::pin(ours(root, &store, cpu, recent, text)).await;
        let (other, other_rows) = theirs(&store, text).await;
        assert_eq!(rows, other_rows, "{name}");
        println!("| {name} | {} | {} | {} |", cells(old), cells(recent), cells(other));
    }
}

fn main() {
    // Without `--bench` this is a check that it still runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let rows = if is_bench { rows } else { FILES * BATCH_ROWS };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let cpu =
        Builder::new_multi_thread().worker_threads(THREADS).thread_stack_size(32 << 20).enable_all().build().unwrap();
    runtime.block_on(measure(directory.path(), rows, cpu.handle()));
    cpu.shutdown_background();
}
