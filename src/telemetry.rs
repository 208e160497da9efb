//! Structured logs and metrics.
//!
//! Every metric is named here, with its unit and a sentence. Figures that the engine keeps anyway are read when
//! they are asked for; only what nobody else counts is counted here.

use std::io::IsTerminal;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::engine::EngineMetrics;
use crate::engine::mirror::MirrorState;
use crate::error::{Error, ErrorKind, Result};
use crate::query::QueryMetrics;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Full,
    /// One JSON object a line.
    Json,
}

/// Sends logs to standard error from now on. `filter` is in the syntax of `tracing-subscriber`, such as `info,flightline::engine=debug`.
///
/// # Errors
/// `Invalid` if the filter can't be read; `Internal` if logs go somewhere already.
pub fn start_logging(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::with_source(ErrorKind::Invalid, format!("log filter \"{filter}\" can't be read"), error)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Full => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Error::with_source(ErrorKind::Internal, "logging was started twice", error))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The route, never the path that was asked for, so that nobody can make up series.
    path: String,
    method: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    path: String,
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatabaseLabels {
    db: String,
}

/// What is counted as requests come and go.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram>,
    write_lines: Family<DatabaseLabels, Counter>,
    write_lines_rejected: Family<DatabaseLabels, Counter>,
    write_bytes: Family<DatabaseLabels, Counter>,
    started_seconds: f64,
}

impl Telemetry {
    /// Counters at zero. `started` is the start of the process since 1970.
    pub fn new(started: Duration) -> Self {
        // From 100 µs, about one sync, to 100 s, past every timeout.
        let duration = || Histogram::new(exponential_buckets(0.0001, 4.0, 11));
        let mut telemetry = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(duration),
            write_lines: Family::default(),
            write_lines_rejected: Family::default(),
            write_bytes: Family::default(),
            started_seconds: started.as_secs_f64(),
        };
        let registry = &mut telemetry.registry;
        registry.register("http_requests", "HTTP requests by route and status", telemetry.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "time from the request's head to the response's head",
            Unit::Seconds,
            telemetry.request_duration.clone(),
        );
        registry.register("influxdb3_write_lines", "lines of line protocol stored", telemetry.write_lines.clone());
        registry.register(
            "influxdb3_write_lines_rejected",
            "lines of line protocol refused",
            telemetry.write_lines_rejected.clone(),
        );
        registry.register_with_unit(
            "influxdb3_write",
            "line protocol received, after decompression",
            Unit::Bytes,
            telemetry.write_bytes.clone(),
        );
        telemetry
    }

    /// An HTTP request was answered.
    pub fn request(&self, path: &str, method: &str, status: u16, took: Duration) {
        let (path, method) = (path.to_owned(), method.to_owned());
        self.request_duration
            .get_or_create(&RouteLabels { path: path.clone(), method: method.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { path, method, status }).inc();
    }

    /// Lines were written to a database that exists.
    pub fn write(&self, database: &str, stored: u64, rejected: u64, bytes: u64) {
        let labels = DatabaseLabels { db: database.to_owned() };
        self.write_lines.get_or_create(&labels).inc_by(stored);
        self.write_lines_rejected.get_or_create(&labels).inc_by(rejected);
        self.write_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// All metrics in Prometheus' text format. `limited` is how many requests one token sent too many.
    ///
    /// # Errors
    /// `Internal` if a value can't be formatted.
    pub fn render(&self, engine: &EngineMetrics, queries: &QueryMetrics, limited: u64) -> Result<String> {
        let failed = |error| Error::with_source(ErrorKind::Internal, "could not write metrics", error);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(failed)?;
        for registry in [query_registry(queries, limited), engine_registry(engine, self.started_seconds)] {
            // Further figures go before the end mark that `encode` writes.
            let end = text.rfind("# EOF").unwrap_or(text.len());
            text.truncate(end);
            encode(&mut text, &registry).map_err(failed)?;
        }
        Ok(text)
    }
}

fn query_registry(queries: &QueryMetrics, limited: u64) -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstGauge::<u64>::new(value));
    };
    gauge("flightline_queries_running", "queries that run or wait, on any interface", queries.running);
    gauge("flightline_queries_queued", "queries that wait for one of --max-concurrent-queries", queries.queued);
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("flightline_queries", "queries started on any interface", queries.started);
    counter("flightline_query_failures", "queries that ended in an error", queries.failed);
    counter("flightline_queries_refused", "queries for which there was no room", queries.refused);
    counter("flightline_queries_timed_out", "queries that took longer than they may", queries.timed_out);
    counter("flightline_queries_killed", "queries that somebody ended by their number", queries.killed);
    counter("flightline_requests_limited", "requests and writes that were too many for one token", limited);
    counter("flightline_queries_abandoned", "queries whose client left before their end", queries.abandoned);
    registry
}

fn engine_registry(metrics: &EngineMetrics, started_seconds: f64) -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: u64| {
        registry.register(name, help, ConstGauge::<u64>::new(value));
    };
    gauge("flightline_databases", "databases in the catalog", metrics.databases as u64);
    gauge("flightline_tables", "tables in the catalog", metrics.tables as u64);
    gauge("flightline_parquet_files", "Parquet files in the catalog", metrics.files as u64);
    gauge("flightline_parquet_files_bytes", "size of the Parquet files", metrics.file_bytes);
    gauge("flightline_buffer_bytes", "memory of rows that are not in Parquet yet", metrics.buffer_bytes as u64);
    gauge("flightline_buffer_bytes_max", "limit of that memory", metrics.buffer_bytes_max as u64);
    gauge("flightline_garbage_files", "files that wait for their removal", metrics.garbage_files as u64);
    gauge("flightline_compactions_running", "compactions that are running", metrics.compactions_running as u64);
    gauge("flightline_wal_bytes", "size of the write-ahead log", metrics.wal.bytes_on_disk);
    gauge("flightline_parquet_cache_bytes", "memory of data of recent Parquet files", metrics.recent.bytes);
    gauge("flightline_parquet_cache_bytes_max", "limit of that memory", metrics.recent.bytes_max);
    gauge("flightline_decoded_cache_bytes", "memory of decoded columns", metrics.decoded.bytes);
    gauge("flightline_decoded_cache_bytes_max", "limit of that memory", metrics.decoded.bytes_max);
    gauge("flightline_disk_cache_bytes", "local disk taken by the disk cache", metrics.disk_cache.bytes);
    gauge("flightline_disk_cache_bytes_max", "limit of that", metrics.disk_cache.bytes_max);
    gauge("flightline_parquet_metadata_bytes", "memory of footers and page indexes", metrics.metadata_bytes);
    if let Some(mirror) = &metrics.mirror {
        gauge(
            "flightline_mirror_records_behind",
            "records of the catalog that the mirror lacks",
            mirror.records_behind,
        );
        let is_stopped = u64::from(mirror.state == MirrorState::Stopped);
        gauge("flightline_mirror_stopped", "1 if the mirror is none of this store any more", is_stopped);
    }
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("flightline_persists", "persists that wrote Parquet", metrics.persists);
    counter("flightline_persist_failures", "persists that failed and are tried again", metrics.persist_failures);
    counter("flightline_persisted_rows", "rows written to Parquet", metrics.persisted_rows);
    counter("flightline_persisted_bytes", "bytes of Parquet written from the buffer", metrics.persisted_bytes);
    let compaction = &metrics.compaction;
    counter("flightline_compactions", "compactions that replaced files", compaction.compactions);
    counter("flightline_compaction_failures", "compactions that failed and are tried again", compaction.failures);
    counter("flightline_compaction_files_removed", "files that compaction replaced", compaction.files_removed);
    counter("flightline_compaction_files_added", "files that compaction wrote", compaction.files_added);
    counter("flightline_compaction_rows_written", "rows that compaction wrote", compaction.rows_written);
    counter("flightline_compaction_bytes_read", "bytes of files that compaction read", compaction.bytes_read);
    counter("flightline_compaction_bytes_written", "bytes of files that compaction wrote", compaction.bytes_written);
    counter(
        "flightline_garbage_files_removed",
        "files removed because nothing referred to them",
        metrics.garbage_removed,
    );
    counter("flightline_wal_syncs", "syncs of the write-ahead log", metrics.wal.syncs);
    counter("flightline_wal_records", "writes in the write-ahead log", metrics.wal.records);
    counter("flightline_wal_failures", "groups that could not be logged", metrics.wal.failures);
    counter("flightline_parquet_cache_hits", "pieces of Parquet files found in memory", metrics.recent.hits);
    counter("flightline_parquet_cache_misses", "pieces of recent Parquet files waited for", metrics.recent.misses);
    counter("flightline_parquet_cache_evictions", "pieces that made room for others", metrics.recent.evictions);
    counter("flightline_decoded_cache_hits", "row groups found decoded", metrics.decoded.hits);
    counter("flightline_decoded_cache_loads", "row groups decoded to be kept", metrics.decoded.loads);
    counter("flightline_decoded_cache_evictions", "columns that made room for others", metrics.decoded.evictions);
    if let Some(mirror) = &metrics.mirror {
        counter("flightline_mirror_files", "data files copied to the mirror", mirror.files);
        counter("flightline_mirror_bytes", "bytes of data files copied to the mirror", mirror.bytes);
        counter("flightline_mirror_files_removed", "data files removed from the mirror", mirror.removed);
        counter("flightline_mirror_failures", "rounds of mirroring that failed and are tried again", mirror.failures);
    }
    let disk = &metrics.disk_cache;
    counter("flightline_disk_cache_hits", "blocks of Parquet files read from the local disk", disk.hits);
    counter("flightline_disk_cache_misses", "blocks that the object store was asked for", disk.misses);
    counter("flightline_disk_cache_evictions", "files of the disk cache that made room for others", disk.evictions);
    counter("flightline_disk_cache_damaged", "files of the disk cache that failed a checksum", disk.damaged);
    counter("flightline_disk_cache_failures", "failures of the disk below the cache", disk.failures);
    counter("flightline_disk_cache_refused", "stretches that the disk cache did not keep", disk.refused);
    if let Some(mirror) = &metrics.mirror {
        registry.register(
            "flightline_mirror_lag_seconds",
            "time since the mirror had everything that was in files; since the start if it never had",
            ConstGauge::new(mirror.lag.as_secs_f64()),
        );
    }
    registry.register(
        "flightline_removals_held_seconds",
        "time for which nothing is removed, because the clock has jumped; 0 if it hasn't",
        ConstGauge::new(metrics.removals_held_for.as_secs_f64()),
    );
    registry.register(
        "flightline_write_amplification",
        "bytes of Parquet written since the start, by persists and compactions, for each byte written from the buffer",
        ConstGauge::new(metrics.write_amplification()),
    );
    registry.register(
        "process_start_time_seconds",
        "start of the process since 1970",
        ConstGauge::new(started_seconds),
    );
    registry
}
