//! Settings of InfluxDB 3 that mean nothing here: harmless ones are taken with a notice, so that scripts carry over;
//! those that would leave a user less protected than he thinks are refused.

/// A setting of InfluxDB 3 that this server does not have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreign {
    /// The flag without its dashes.
    pub name: &'static str,
    /// Environment variables that set it there.
    pub env: &'static [&'static str],
    /// Whether the flag stands alone or takes a value.
    pub shape: Shape,
    /// Why it has no effect or cannot be used, as the end of a sentence.
    pub reason: &'static str,
}

/// How a flag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `--flag`, `--flag=VALUE`
    Alone,
    /// `--flag VALUE`, `--flag=VALUE`
    Value,
    /// `--flag`, `--flag VALUE`, `--flag=VALUE`
    OptionalValue,
}

const PERSIST: &str = "tables are persisted by rows, bytes and age: see --persist-rows, --persist-bytes, --persist-age";
const CACHE: &str = "the Parquet cache makes room when it is needed: what was not used for longest goes first";
const REPLAY: &str = "the log is replayed completely, and damage always stops the start";
const TABLE_CACHES: &str = "last value and distinct value caches do not exist yet";
const PLUGINS: &str = "there is no processing engine: triggers do not run";
const DATAFUSION: &str = "the query engine is set up by the server";
const THREADS: &str = "threads are set by --num-datafusion-threads and --num-io-threads alone";
const LOG: &str = "the log has one destination";
const TRACES: &str = "traces are not exported";

/// Taken with a notice.
pub(crate) static IGNORED: &[Foreign] = &[
    value("wal-snapshot-size", &["INFLUXDB3_WAL_SNAPSHOT_SIZE"], PERSIST),
    value("wal-files-per-snapshot", &["INFLUXDB3_WAL_FILES_PER_SNAPSHOT"], PERSIST),
    value("wal-max-write-buffer-size", &["INFLUXDB3_WAL_MAX_WRITE_BUFFER_SIZE"], "memory is bounded by --buffer-bytes"),
    alone("wal-replay-fail-on-error", &["INFLUXDB3_WAL_REPLAY_FAIL_ON_ERROR"], REPLAY),
    value("wal-replay-concurrency-limit", &["INFLUXDB3_WAL_REPLAY_CONCURRENCY_LIMIT"], REPLAY),
    value("snapshotted-wal-files-to-keep", &["INFLUXDB3_NUM_WAL_FILES_TO_KEEP"], PERSIST),
    value("snapshot-concurrency-limit", &["INFLUXDB3_SNAPSHOT_CONCURRENCY_LIMIT"], PERSIST),
    value("force-snapshot-mem-threshold", &["INFLUXDB3_FORCE_SNAPSHOT_MEM_THRESHOLD"], PERSIST),
    value("force-snapshot-mem-size", &["INFLUXDB3_FORCE_SNAPSHOT_MEM_SIZE"], PERSIST),
    value("checkpoint-interval", &["INFLUXDB3_CHECKPOINT_INTERVAL"], "the catalog makes its checkpoints by itself"),
    value("gen1-duration", &["INFLUXDB3_GEN1_DURATION"], PERSIST),
    value("gen1-lookback-duration", &["INFLUXDB3_GEN1_LOOKBACK_DURATION"], "the catalog always knows every file"),
    value("query-file-limit", &["INFLUXDB3_QUERY_FILE_LIMIT"], "a query may read any number of files"),
    value("parquet-mem-cache-prune-percentage", &["INFLUXDB3_PARQUET_MEM_CACHE_PRUNE_PERCENTAGE"], CACHE),
    value("parquet-mem-cache-prune-interval", &["INFLUXDB3_PARQUET_MEM_CACHE_PRUNE_INTERVAL"], CACHE),
    value("table-index-cache-max-entries", &["INFLUXDB3_TABLE_INDEX_CACHE_MAX_ENTRIES"], CACHE),
    value("table-index-cache-concurrency-limit", &["INFLUXDB3_TABLE_INDEX_CACHE_CONCURRENCY_LIMIT"], CACHE),
    value("last-cache-eviction-interval", &["INFLUXDB3_LAST_CACHE_EVICTION_INTERVAL"], TABLE_CACHES),
    value("distinct-cache-eviction-interval", &["INFLUXDB3_DISTINCT_CACHE_EVICTION_INTERVAL"], TABLE_CACHES),
    value(
        "retention-check-interval",
        &["INFLUXDB3_RETENTION_CHECK_INTERVAL"],
        "a retention period holds in every query from the moment it is set",
    ),
    value("plugin-dir", &["INFLUXDB3_PLUGIN_DIR"], PLUGINS),
    value("plugin-repo", &["INFLUXDB3_PLUGIN_REPO"], PLUGINS),
    // Not VIRTUAL_ENV: every shell with an active Python environment sets it.
    value("virtual-env-location", &[], PLUGINS),
    value("package-manager", &["INFLUXDB3_PACKAGE_MANAGER"], PLUGINS),
    value("restrict-plugin-triggers-to", &["INFLUXDB3_RESTRICT_PLUGIN_TRIGGERS_TO"], PLUGINS),
    value("datafusion-max-parquet-fanout", &["INFLUXDB3_DATAFUSION_MAX_PARQUET_FANOUT"], DATAFUSION),
    alone("datafusion-use-cached-parquet-loader", &["INFLUXDB3_DATAFUSION_USE_CACHED_PARQUET_LOADER"], DATAFUSION),
    value("datafusion-config", &["INFLUXDB3_DATAFUSION_CONFIG"], DATAFUSION),
    value("datafusion-runtime-type", &["INFLUXDB3_DATAFUSION_RUNTIME_TYPE"], THREADS),
    value("datafusion-runtime-thread-priority", &["INFLUXDB3_DATAFUSION_RUNTIME_THREAD_PRIORITY"], THREADS),
    alone("object-store-http2-only", &["INFLUXDB3_OBJECT_STORE_HTTP2_ONLY"], "the store's client picks the version"),
    value("log-destination", &["INFLUXDB3_LOG_DESTINATION", "LOG_DESTINATION"], LOG),
    value("traces-exporter", &["TRACES_EXPORTER"], TRACES),
    alone("disable-telemetry-upload", &["INFLUXDB3_TELEMETRY_DISABLE_UPLOAD"], "this server never uploads telemetry"),
    Foreign {
        name: "admin-token-recovery-http-bind",
        env: &["INFLUXDB3_ADMIN_TOKEN_RECOVERY_HTTP_BIND_ADDR"],
        shape: Shape::OptionalValue,
        reason: "who has lost the operator's token makes another with `flightline create token --admin --offline` and starts with --admin-token-file",
    },
];

/// Refused: whoever sets them counts on a protection that this server does not give, or on data that it would not find.
pub(crate) static REFUSED: &[Foreign] = &[
    value(
        "object-store-tls-ca",
        &["INFLUXDB3_OBJECT_STORE_TLS_CA"],
        "the certificates that the system trusts are used: add the store's authority there",
    ),
    alone(
        "object-store-tls-allow-insecure",
        &["INFLUXDB3_OBJECT_STORE_TLS_ALLOW_INSECURE"],
        "certificates of the object store are always checked",
    ),
    value("object-store-cache-endpoint", &["INFLUXDB3_OBJECT_STORE_CACHE_ENDPOINT"], "there is no cache service"),
];

const fn value(name: &'static str, env: &'static [&'static str], reason: &'static str) -> Foreign {
    Foreign { name, env, shape: Shape::Value, reason }
}

const fn alone(name: &'static str, env: &'static [&'static str], reason: &'static str) -> Foreign {
    Foreign { name, env, shape: Shape::Alone, reason }
}
