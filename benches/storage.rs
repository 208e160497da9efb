//! What becomes of rows after they were acknowledged: replay of the log, persist, compaction, size. Prints a table.
//!
//! `cargo bench --bench storage`. The engine alone, without network, on the local disk; compaction may take a whole
//! processor, and so may DataFusion, which merges the same files into one beside it. `FLIGHTLINE_BENCH_ROWS` sets the rows.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod load;
mod points;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::logical_expr::SortExpr;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext, ident};
use flightline::engine::compaction::CompactionSettings;
use flightline::engine::{Engine, EngineSettings};
use flightline::model::DatabaseName;
use load::{BATCH_ROWS, DATABASE, parquet_files, write};
use points::Points;

/// Files that one compaction makes one of.
const FILES: usize = 20;

/// Fields of a point.
const VALUES_PER_ROW: usize = 10;

/// An engine that persists and compacts when it is told to.
async fn open(root: &Path) -> Arc<Engine> {
    let mut settings = EngineSettings {
        compaction: CompactionSettings { is_on: false, settle: Duration::ZERO, cpu_percent: 100 },
        ..EngineSettings::default()
    };
    settings.buffer.bytes_max = 8 << 30;
    settings.buffer.persist_rows = usize::MAX;
    settings.buffer.persist_bytes = usize::MAX;
    load::open(root, settings).await
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn timed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let done = work.await;
    (start.elapsed().as_secs_f64(), done)
}

/// DataFusion as it merges files that it knows to be sorted, and writes one with the compression that ours have; a point that were in two of
/// them would be in it twice. All of it on one thread, as compaction; but into one order of all rows, where compaction keeps blocks of time.
/// Returns how many rows it wrote.
fn merged_by_datafusion(files: &Path, order: &[String], one: &Path) -> u64 {
    let merge = async {
        let config = SessionConfig::new().with_target_partitions(FILES).with_repartition_file_scans(false);
        let context = SessionContext::new_with_config(config);
        let order: Vec<SortExpr> = order.iter().map(|name| ident(name).sort(true, false)).collect();
        let options = ParquetReadOptions::default().file_sort_order(vec![order.clone()]);
        let paths: Vec<String> = parquet_files(files).iter().map(|file| file.display().to_string()).collect();
        let sorted = context.read_parquet(paths, options).await.unwrap().sort(order).unwrap();
        let plan = sorted.clone().create_physical_plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        assert!(plan.contains("SortPreservingMergeExec") && !plan.contains("SortExec"), "{plan}");
        let mut parquet = TableParquetOptions::default();
        parquet.global.compression = Some("zstd(1)".to_owned());
        let options = DataFrameWriteOptions::new().with_single_file_output(true);
        let written = sorted.write_parquet(&one.display().to_string(), options, Some(parquet)).await.unwrap();
        written.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec()).sum()
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(merge)
}

async fn measure(root: &Path, rows: usize) {
    println!("| case | ms | rows/s | MB/s | bytes a value |\n|---|---|---|---|---|");
    let values = (rows * VALUES_PER_ROW) as f64;
    let line = |case: &str, seconds: f64, bytes: u64, left: u64| {
        let (rate, megabytes, size) = (rows as f64 / seconds, bytes as f64 / seconds / 1e6, left as f64 / values);
        println!("| {case} | {:.0} | {rate:.0} | {megabytes:.0} | {size:.2} |", seconds * 1e3);
    };

    let whole = root.join("whole");
    let engine = open(&whole).await;
    write(&engine, &mut Points::new(""), rows).await;
    let log = engine.metrics().wal.bytes_on_disk;
    drop(engine);
    let (seconds, engine) = timed(open(&whole)).await;
    line("start: the log is replayed", seconds, log, log);
    let (seconds, persisted) = timed(engine.persist_all()).await;
    persisted.unwrap();
    let bytes = engine.metrics().file_bytes;
    line("persist of all rows", seconds, bytes, bytes);
    engine.close().await.unwrap();
    drop(engine);
    let (seconds, engine) = timed(open(&whole)).await;
    println!("| start: all rows are in Parquet | {:.1} | | | |", seconds * 1e3);
    drop(engine);

    let engine = open(&root.join("parts")).await;
    let mut points = Points::new("");
    for _ in 0..FILES {
        write(&engine, &mut points, rows / FILES).await;
        engine.persist_all().await.unwrap();
    }
    assert_eq!(engine.metrics().files, FILES);
    let table = engine.schemas(&DatabaseName::new(DATABASE).unwrap()).table("cpu").unwrap();
    let order: Vec<String> = table.sort_key().map(str::to_owned).collect();
    let (files, one, before) = (root.join("parts/data"), root.join("one.parquet"), engine.metrics().file_bytes);
    let to = one.clone();
    let merge = tokio::task::spawn_blocking(move || merged_by_datafusion(&files, &order, &to));
    let (seconds, merged) = timed(merge).await;
    assert_eq!(merged.unwrap(), rows as u64);
    line("DataFusion merges 20 files", seconds, before, one.metadata().unwrap().len());
    let (seconds, compacted) = timed(engine.compact_all()).await;
    compacted.unwrap();
    let metrics = engine.metrics();
    let (after, moved) = (metrics.file_bytes, metrics.compaction.rows_written as usize);
    assert!(metrics.files < FILES && moved == rows, "{metrics:?}");
    line("compaction of 20 files", seconds, metrics.compaction.bytes_read, after);
}

fn main() {
    // Without `--bench` this is a check that it still runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let rows = if is_bench { rows } else { FILES * BATCH_ROWS };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(directory.path(), rows));
}
