//! Scans and aggregates beside DataFusion's own scan of the same sorted file, in one process and one run.
//!
//! `cargo bench --bench query`. 2,000,000 rows of 100 machines; `FLIGHTLINE_BENCH_ROWS` sets another number.
//! "flightline" plans and runs from the text, as a client's query does; so does "datafusion".
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod load;
mod points;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use flightline::engine::caches::CacheState;
use flightline::engine::{Engine, EngineSettings};
use flightline::model::{Access, CacheDefinition, CacheKind, CacheShape, DatabaseName, Newest, TableName};
use flightline::query::{Language, Origin, Queries, Query, QuerySettings};
use futures::TryStreamExt;
use load::{DATABASE, parquet_files};
use points::Points;
use tokio::runtime::{Builder, Handle, Runtime};

const THREADS: usize = 2;

const QUERIES: [(&str, &str); 6] = [
    ("count all", "SELECT count(*) FROM cpu"),
    (
        "one host, one hour",
        "SELECT date_bin(INTERVAL '1 minute', time) AS minute, max(usage_user) FROM cpu \
      WHERE hostname = 'host_7' AND time >= '2024-01-01T10:00:00' AND time < '2024-01-01T11:00:00' GROUP BY 1",
    ),
    (
        "average and maximum of 10 fields",
        "SELECT avg(usage_user), max(usage_system), avg(usage_idle), max(usage_nice), \
      avg(usage_iowait), max(usage_irq), avg(usage_softirq), max(usage_steal), avg(usage_guest), max(usage_guest_nice) FROM cpu",
    ),
    (
        "hourly average by host",
        "SELECT date_bin(INTERVAL '1 hour', time) AS hour, hostname, avg(usage_user) FROM cpu GROUP BY 1, 2",
    ),
    ("newest 10", "SELECT * FROM cpu ORDER BY time DESC LIMIT 10"),
    (
        "busy rows of an hour",
        "SELECT * FROM cpu WHERE usage_user > 90 AND time >= '2024-01-01T10:00:00' AND time < '2024-01-01T11:00:00'",
    ),
];

/// The same rows with what is made between them and without.
const GAP_FILL: [(&str, &str); 2] = [
    (
        "as they are",
        "SELECT date_bin(INTERVAL '1 second', time) AS second, hostname, avg(usage_user), max(usage_system) FROM cpu \
      WHERE time >= '2024-01-01T10:00:00' AND time < '2024-01-01T11:00:00' GROUP BY 1, 2",
    ),
    (
        "filled",
        "SELECT date_bin_gapfill(INTERVAL '1 second', time) AS second, hostname, interpolate(avg(usage_user)), \
      locf(max(usage_system)) FROM cpu WHERE time >= '2024-01-01T10:00:00' AND time < '2024-01-01T11:00:00' GROUP BY 1, 2",
    ),
];

/// The same questions in InfluxQL, under the names that they have in SQL.
const INFLUXQL: [(&str, &str); 5] = [
    ("count all", "SELECT count(usage_user) FROM cpu"),
    (
        "busy rows of an hour",
        "SELECT * FROM cpu WHERE usage_user > 90 AND time >= '2024-01-01T10:00:00Z' AND time < '2024-01-01T11:00:00Z'",
    ),
    (
        "one host, one hour",
        "SELECT max(usage_user) FROM cpu WHERE hostname = 'host_7' AND time >= '2024-01-01T10:00:00Z' \
      AND time < '2024-01-01T11:00:00Z' GROUP BY time(1m) fill(none)",
    ),
    (
        "average and maximum of 10 fields",
        "SELECT mean(usage_user), max(usage_system), mean(usage_idle), max(usage_nice), mean(usage_iowait), \
      max(usage_irq), mean(usage_softirq), max(usage_steal), mean(usage_guest), max(usage_guest_nice) FROM cpu",
    ),
    (
        "hourly average by host",
        "SELECT mean(usage_user) FROM cpu WHERE time >= 0 GROUP BY time(1h), hostname fill(none)",
    ),
];

/// What there is, in InfluxQL and in SQL: as many rows.
const SHOWN: [(&str, &str, &str); 3] = [
    ("values of a tag", "SHOW TAG VALUES FROM cpu WITH KEY = hostname", "SELECT DISTINCT hostname FROM cpu"),
    (
        "number of series",
        "SHOW SERIES EXACT CARDINALITY FROM cpu",
        "SELECT count(*) FROM (SELECT DISTINCT hostname, region, datacenter, rack, os, arch, team, service, service_version, \
      service_environment FROM cpu)",
    ),
    (
        "series of a machine",
        "SHOW SERIES FROM cpu WHERE hostname = 'host_7'",
        "SELECT DISTINCT hostname, region, datacenter, rack, os, arch, team, service, service_version, service_environment \
      FROM cpu WHERE hostname = 'host_7'",
    ),
];

async fn run(queries: &Queries, language: Language, text: &str) -> usize {
    let database = DatabaseName::new(DATABASE).unwrap();
    let query = Query {
        database,
        language,
        text: text.to_owned(),
        plan: bytes::Bytes::new(),
        parameters: Vec::new(),
        access: Access::full(),
        origin: Origin::default(),
    };
    let batches: Vec<_> = queries.plan(query).await.unwrap().run().await.unwrap().try_collect().await.unwrap();
    batches.iter().map(|batch| black_box(batch).num_rows()).sum()
}

async fn run_datafusion(context: &SessionContext, text: &str) -> usize {
    let batches = context.sql(text).await.unwrap().collect().await.unwrap();
    batches.iter().map(|batch| black_box(batch).num_rows()).sum()
}

/// Last values of 100 machines: of one and of all, from the cache and from the table.
fn caches(criterion: &mut Criterion, runtime: &Runtime, engine: &Engine, queries: &Queries) {
    let (database, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("cpu").unwrap());
    let shape = CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None };
    let cache = CacheDefinition { name: "newest".to_owned(), shape };
    runtime.block_on(engine.create_cache(&database, &table, cache)).unwrap();
    while engine.cache_facts(&database, CacheKind::Last).iter().any(|cache| cache.state != CacheState::Ready) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut group = criterion.benchmark_group("last values");
    group.sample_size(20);
    for (name, text) in [
        ("cache, one machine", "SELECT * FROM last_cache('cpu') WHERE hostname = 'host_7'"),
        ("cache, all machines", "SELECT * FROM last_cache('cpu')"),
        ("table, one machine", "SELECT * FROM cpu WHERE hostname = 'host_7' ORDER BY time DESC LIMIT 1"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(run(queries, Language::Sql, text))));
    }
    group.finish();
}

fn queries(criterion: &mut Criterion) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let rows = if is_bench { rows } else { 10_000 };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime: Runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let cpu =
        Builder::new_multi_thread().worker_threads(THREADS).thread_stack_size(32 << 20).enable_all().build().unwrap();
    let (engine, ours) = runtime.block_on(async {
        let engine = load::open(directory.path(), EngineSettings::default()).await;
        load::write(&engine, &mut Points::new(""), rows).await;
        let settings = QuerySettings { threads: THREADS, ..QuerySettings::default() };
        let queries =
            Queries::new(Arc::clone(&engine), settings, cpu.handle().clone().into(), Handle::current()).unwrap();
        (engine, queries)
    });
    caches(criterion, &runtime, &engine, &ours);
    let mut group = criterion.benchmark_group("buffered");
    group.sample_size(10);
    for (name, text) in QUERIES {
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(run(&ours, Language::Sql, text))));
    }
    group.finish();

    runtime.block_on(engine.persist_all()).unwrap();
    let files = parquet_files(&directory.path().join("data"));
    let config = SessionConfig::new().with_target_partitions(THREADS);
    let theirs = SessionContext::new_with_config(config);
    runtime.block_on(async {
        let paths: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let folder = paths[0].rsplit_once('/').unwrap().0.to_owned();
        theirs.register_parquet("cpu", &folder, ParquetReadOptions::default()).await.unwrap();
    });
    for (name, text) in QUERIES {
        let (mine, other) =
            (runtime.block_on(run(&ours, Language::Sql, text)), runtime.block_on(run_datafusion(&theirs, text)));
        assert_eq!(mine, other, "{name}");
        let mut group = criterion.benchmark_group(format!("Parquet, {name}"));
        group.sample_size(10);
        group.bench_function("flightline", |bencher| {
            bencher.iter_batched(
                || (),
                |()| runtime.block_on(run(&ours, Language::Sql, text)),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("datafusion on the same file", |bencher| {
            bencher.iter_batched(|| (), |()| runtime.block_on(run_datafusion(&theirs, text)), BatchSize::PerIteration);
        });
        group.finish();
    }
    let mut group = criterion.benchmark_group("Parquet, gap fill: seconds of an hour by host");
    group.sample_size(10);
    for (name, text) in GAP_FILL {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (),
                |()| runtime.block_on(run(&ours, Language::Sql, text)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    for (name, text) in INFLUXQL {
        let sql = QUERIES.iter().find(|(known, _)| *known == name).expect("a question in SQL too").1;
        let ask = |language, text| runtime.block_on(run(&ours, language, text));
        assert_eq!(ask(Language::InfluxQl, text), ask(Language::Sql, sql), "{name}");
        let mut group = criterion.benchmark_group(format!("InfluxQL, {name}"));
        group.sample_size(10);
        group.bench_function("InfluxQL", |bencher| bencher.iter(|| ask(Language::InfluxQl, text)));
        group.bench_function("SQL", |bencher| bencher.iter(|| ask(Language::Sql, sql)));
        group.finish();
    }
    for (name, influxql, sql) in SHOWN {
        let ask = |language, text| runtime.block_on(run(&ours, language, text));
        assert_eq!(ask(Language::InfluxQl, influxql), ask(Language::Sql, sql), "{name}");
        let mut group = criterion.benchmark_group(format!("InfluxQL, {name}"));
        group.sample_size(10);
        group.bench_function("InfluxQL", |bencher| bencher.iter(|| ask(Language::InfluxQl, influxql)));
        group.bench_function("SQL", |bencher| bencher.iter(|| ask(Language::Sql, sql)));
        group.finish();
    }
    cpu.shutdown_background();
}

criterion_group!(benches, queries);
criterion_main!(benches);
