//! Every setting of `serve`, as data: `--help`, the README's table and the names of the environment come from here.

use super::values::Kind;

/// One setting of the server.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Under which heading help and README show it.
    pub section: &'static str,
    /// The flag without its dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where nobody says anything.
    pub preset: Preset,
    /// Environment variables that set it; the first one that is set and not empty counts.
    ///
    /// The first is ours; the others are what users of InfluxDB 3 (the names up to 3.10 before those of 3.11) and of
    /// the clouds have in their scripts.
    pub env: &'static [&'static str],
    /// Other flags that mean the same.
    pub aliases: &'static [&'static str],
    /// What it does, as a sentence.
    pub sentence: &'static str,
}

/// What a setting is where nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Not set.
    Nothing,
    /// As if this text had been given.
    Text(&'static str),
    /// Worked out from other facts; the text says how.
    Computed(&'static str),
}

impl Setting {
    /// Whether it says which object store there is or how it is spoken to.
    pub(crate) fn is_of_store(&self) -> bool {
        [STORAGE, AWS, CLOUD].contains(&self.section)
    }
}

impl Preset {
    /// For help texts; empty if there is nothing to show.
    pub fn text(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Text(text) | Self::Computed(text) => text,
        }
    }
}

const NODE: &str = "Server";
const STORAGE: &str = "Storage";
const AWS: &str = "Amazon S3 and compatible stores";
const CLOUD: &str = "Google and Azure";
const MEMORY: &str = "Memory and threads";
const WRITES: &str = "Writes";
const BACKUPS: &str = "Backups";
const LOGS: &str = "Logs";

const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;

/// Time stamps are nanoseconds in 64 bits and reach no further from 1970 than 292 years.
const CENTURY_MS: u64 = 100 * 365 * 24 * HOUR_MS;

/// More threads than any machine of today has processors.
const THREADS_MAX: u64 = 1_024;

/// Every setting, in the order of help and README.
pub static SETTINGS: &[Setting] = &[
    Setting {
        section: NODE,
        name: "node-id",
        kind: Kind::Text,
        preset: Preset::Computed("<host name>-node"),
        env: &["FLIGHTLINE_NODE_ID", "INFLUXDB3_NODE_IDENTIFIER_PREFIX", "INFLUXDB3_NODE_ID"],
        aliases: &["host-id"],
        sentence: "Name of this server in logs and metrics: letters, digits, '.', '_' and '-'.",
    },
    Setting {
        section: NODE,
        name: "node-id-from-env",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_NODE_ID_FROM_ENV", "INFLUXDB3_NODE_IDENTIFIER_FROM_ENV"],
        aliases: &[],
        sentence: "Name of an environment variable that holds the node's name.",
    },
    Setting {
        section: NODE,
        name: "http-bind",
        kind: Kind::Address,
        preset: Preset::Text("127.0.0.1:8181"),
        env: &["FLIGHTLINE_HTTP_BIND", "INFLUXDB3_HTTP_BIND_ADDR"],
        aliases: &[],
        sentence: "Where HTTP and gRPC are served, on one port. Only loopback addresses until there is authentication.",
    },
    Setting {
        section: NODE,
        name: "max-connections",
        kind: Kind::Count(1, 1_000_000),
        preset: Preset::Text("1024"),
        env: &["FLIGHTLINE_MAX_CONNECTIONS"],
        aliases: &[],
        sentence: "Connections that are open at one time; more wait to be accepted.",
    },
    Setting {
        section: NODE,
        name: "max-http-request-size",
        kind: Kind::Bytes(1 << 10, 1 << 30),
        preset: Preset::Text("10MiB"),
        env: &["FLIGHTLINE_MAX_HTTP_REQUEST_SIZE", "INFLUXDB3_MAX_HTTP_REQUEST_SIZE"],
        aliases: &[],
        sentence: "Largest body of a request, before and after decompression.",
    },
    Setting {
        section: NODE,
        name: "shutdown-timeout",
        kind: Kind::Duration(0, HOUR_MS),
        preset: Preset::Text("30s"),
        env: &["FLIGHTLINE_SHUTDOWN_TIMEOUT", "INFLUXDB3_SHUTDOWN_TIMEOUT"],
        aliases: &[],
        sentence: "How long a stop waits for requests that are still running.",
    },
    Setting {
        section: NODE,
        name: "without-auth",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_WITHOUT_AUTH", "INFLUXDB3_START_WITHOUT_AUTH"],
        aliases: &[],
        sentence: "Serve without authentication. There is none yet, so this is always in effect.",
    },
    Setting {
        section: NODE,
        name: "demo",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_DEMO"],
        aliases: &[],
        sentence: "Load an example on the first start and show some queries of it.",
    },
    Setting {
        section: STORAGE,
        name: "object-store",
        kind: Kind::OneOf(&["memory", "file", "s3", "google", "azure"]),
        preset: Preset::Text("file"),
        env: &["FLIGHTLINE_OBJECT_STORE", "INFLUXDB3_OBJECT_STORE"],
        aliases: &[],
        sentence: "Where tables are kept. memory forgets everything at the end.",
    },
    Setting {
        section: STORAGE,
        name: "data-dir",
        kind: Kind::Path,
        preset: Preset::Text("~/.flightline"),
        env: &["FLIGHTLINE_DATA_DIR", "INFLUXDB3_DB_DIR", "INFLUXDB3_DATA_DIR"],
        aliases: &[],
        sentence: "Directory of the write-ahead log and, with the file store, of the tables.",
    },
    Setting {
        section: STORAGE,
        name: "bucket",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_BUCKET", "INFLUXDB3_BUCKET"],
        aliases: &[],
        sentence: "Bucket or container of the s3, google or azure store.",
    },
    Setting {
        section: STORAGE,
        name: "object-store-connection-limit",
        kind: Kind::Count(1, 10_000),
        preset: Preset::Text("64"),
        env: &[
            "FLIGHTLINE_OBJECT_STORE_CONNECTION_LIMIT",
            "INFLUXDB3_OBJECT_STORE_CONNECTION_LIMIT",
            "OBJECT_STORE_CONNECTION_LIMIT",
        ],
        aliases: &[],
        sentence: "Requests to the object store at one time.",
    },
    Setting {
        section: STORAGE,
        name: "object-store-request-timeout",
        kind: Kind::Duration(100, HOUR_MS),
        preset: Preset::Text("30s"),
        env: &["FLIGHTLINE_OBJECT_STORE_REQUEST_TIMEOUT", "INFLUXDB3_OBJECT_STORE_REQUEST_TIMEOUT"],
        aliases: &[],
        sentence: "How long one request to the object store may take.",
    },
    Setting {
        section: STORAGE,
        name: "object-store-max-retries",
        kind: Kind::Count(0, 100),
        preset: Preset::Text("10"),
        env: &["FLIGHTLINE_OBJECT_STORE_MAX_RETRIES", "INFLUXDB3_OBJECT_STORE_MAX_RETRIES"],
        aliases: &[],
        sentence: "How often a failed request to the object store is tried again.",
    },
    Setting {
        section: STORAGE,
        name: "object-store-retry-timeout",
        kind: Kind::Duration(100, HOUR_MS),
        preset: Preset::Text("3m"),
        env: &["FLIGHTLINE_OBJECT_STORE_RETRY_TIMEOUT", "INFLUXDB3_OBJECT_STORE_RETRY_TIMEOUT"],
        aliases: &[],
        sentence: "After how long a failed request to the object store is not tried again.",
    },
    Setting {
        section: STORAGE,
        name: "object-store-single-writer",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_OBJECT_STORE_SINGLE_WRITER"],
        aliases: &[],
        sentence: "For a store that cannot put \"only if new\": one server, which holds a lock in the store.",
    },
    Setting {
        section: AWS,
        name: "aws-access-key-id",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"],
        aliases: &[],
        sentence: "Access key; without one the instance's or container's own credentials are used.",
    },
    Setting {
        section: AWS,
        name: "aws-secret-access-key",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"],
        aliases: &[],
        sentence: "Secret of the access key. Prefer the environment: command lines can be seen by other users.",
    },
    Setting {
        section: AWS,
        name: "aws-session-token",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN"],
        aliases: &[],
        sentence: "Token of temporary credentials.",
    },
    Setting {
        section: AWS,
        name: "aws-credentials-file",
        kind: Kind::Path,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AWS_CREDENTIALS_FILE", "AWS_CREDENTIALS_FILE"],
        aliases: &[],
        sentence: "JSON file with aws_access_key_id, aws_secret_access_key and perhaps aws_session_token; goes before the flags above and is read again when it changes.",
    },
    Setting {
        section: AWS,
        name: "aws-default-region",
        kind: Kind::Text,
        preset: Preset::Text("us-east-1"),
        env: &["FLIGHTLINE_AWS_DEFAULT_REGION", "AWS_DEFAULT_REGION", "AWS_REGION"],
        aliases: &[],
        sentence: "Region of the bucket.",
    },
    Setting {
        section: AWS,
        name: "aws-endpoint",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AWS_ENDPOINT", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        aliases: &[],
        sentence: "URL of an S3-compatible store that is not Amazon's.",
    },
    Setting {
        section: AWS,
        name: "aws-allow-http",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_AWS_ALLOW_HTTP", "AWS_ALLOW_HTTP"],
        aliases: &[],
        sentence: "Talk to the endpoint without TLS.",
    },
    Setting {
        section: AWS,
        name: "aws-skip-signature",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_AWS_SKIP_SIGNATURE", "AWS_SKIP_SIGNATURE"],
        aliases: &[],
        sentence: "Send requests unsigned.",
    },
    Setting {
        section: CLOUD,
        name: "google-service-account",
        kind: Kind::Path,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT"],
        aliases: &[],
        sentence: "JSON file of the Google service account; without one GOOGLE_APPLICATION_CREDENTIALS or the instance's own credentials are used.",
    },
    Setting {
        section: CLOUD,
        name: "google-endpoint",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_GOOGLE_ENDPOINT", "GOOGLE_BASE_URL"],
        aliases: &[],
        sentence: "URL of a store that speaks Google's XML protocol.",
    },
    Setting {
        section: CLOUD,
        name: "google-allow-http",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_GOOGLE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP"],
        aliases: &[],
        sentence: "Talk to the Google endpoint without TLS.",
    },
    Setting {
        section: CLOUD,
        name: "google-skip-signature",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_GOOGLE_SKIP_SIGNATURE", "GOOGLE_SKIP_SIGNATURE"],
        aliases: &[],
        sentence: "Send requests to Google without a token.",
    },
    Setting {
        section: CLOUD,
        name: "azure-storage-account",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"],
        aliases: &[],
        sentence: "Name of the Azure storage account.",
    },
    Setting {
        section: CLOUD,
        name: "azure-storage-access-key",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &[
            "FLIGHTLINE_AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_KEY",
        ],
        aliases: &["azure-access-key"],
        sentence: "Key of the Azure storage account; without one AZURE_STORAGE_SAS_TOKEN or the workload's or instance's identity is used.",
    },
    Setting {
        section: CLOUD,
        name: "azure-endpoint",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AZURE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"],
        aliases: &[],
        sentence: "URL of an Azure-compatible store, which for an emulator ends with the account: http://127.0.0.1:10000/devstoreaccount1.",
    },
    Setting {
        section: CLOUD,
        name: "azure-allow-http",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_AZURE_ALLOW_HTTP", "AZURE_ALLOW_HTTP"],
        aliases: &[],
        sentence: "Talk to the Azure endpoint without TLS.",
    },
    Setting {
        section: MEMORY,
        name: "buffer-bytes",
        kind: Kind::MemoryShare,
        preset: Preset::Text("25%"),
        env: &["FLIGHTLINE_BUFFER_BYTES"],
        aliases: &[],
        sentence: "Memory for rows that are not yet in Parquet files. At the limit writes wait, then are refused with \"try later\".",
    },
    Setting {
        section: MEMORY,
        name: "exec-mem-pool-bytes",
        kind: Kind::MemoryPool,
        preset: Preset::Text("25%"),
        env: &["FLIGHTLINE_EXEC_MEM_POOL_BYTES", "INFLUXDB3_EXEC_MEM_POOL_BYTES", "INFLUXDB3_EXEC_MEM_POOL_SIZE"],
        aliases: &["exec-mem-pool-size"],
        sentence: "Memory for running queries. At the limit a query spills to disk or fails.",
    },
    Setting {
        section: MEMORY,
        name: "parquet-mem-cache-size",
        kind: Kind::MemoryCache,
        preset: Preset::Text("20%"),
        env: &["FLIGHTLINE_PARQUET_MEM_CACHE_SIZE", "INFLUXDB3_PARQUET_MEM_CACHE_SIZE", "INFLUXDB3_FILE_CACHE_SIZE"],
        aliases: &["file-cache-size"],
        sentence: "Memory for data of recent Parquet files, so that queries need not ask the object store; 0 for none.",
    },
    Setting {
        section: MEMORY,
        name: "parquet-mem-cache-query-path-duration",
        kind: Kind::Duration(0, CENTURY_MS),
        preset: Preset::Text("5h"),
        env: &[
            "FLIGHTLINE_PARQUET_MEM_CACHE_QUERY_PATH_DURATION",
            "INFLUXDB3_PARQUET_MEM_CACHE_QUERY_PATH_DURATION",
            "INFLUXDB3_FILE_CACHE_RECENCY",
        ],
        aliases: &["file-cache-recency"],
        sentence: "A Parquet file is recent while its newest row is at most this old.",
    },
    Setting {
        section: MEMORY,
        name: "disable-parquet-mem-cache",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_DISABLE_PARQUET_MEM_CACHE", "INFLUXDB3_DISABLE_PARQUET_MEM_CACHE"],
        aliases: &[],
        sentence: "Keep no data of Parquet files in memory, as with --parquet-mem-cache-size 0.",
    },
    Setting {
        section: MEMORY,
        name: "num-datafusion-threads",
        kind: Kind::Count(1, THREADS_MAX),
        preset: Preset::Computed("processors"),
        env: &[
            "FLIGHTLINE_NUM_DATAFUSION_THREADS",
            "INFLUXDB3_NUM_DATAFUSION_THREADS",
            "INFLUXDB3_DATAFUSION_NUM_THREADS",
        ],
        aliases: &["datafusion-num-threads"],
        sentence: "Threads that run queries.",
    },
    Setting {
        section: MEMORY,
        name: "num-io-threads",
        kind: Kind::Count(1, THREADS_MAX),
        preset: Preset::Computed("processors"),
        env: &["FLIGHTLINE_NUM_IO_THREADS", "INFLUXDB3_NUM_IO_THREADS"],
        aliases: &["num-threads"],
        sentence: "Threads that serve connections and storage.",
    },
    Setting {
        section: MEMORY,
        name: "query-text-bytes",
        kind: Kind::Bytes(1 << 10, 16 << 20),
        preset: Preset::Text("256KiB"),
        env: &["FLIGHTLINE_QUERY_TEXT_BYTES"],
        aliases: &[],
        sentence: "Longest text of a query.",
    },
    Setting {
        section: WRITES,
        name: "persist-rows",
        kind: Kind::Count(1, 1 << 32),
        preset: Preset::Text("4000000"),
        env: &["FLIGHTLINE_PERSIST_ROWS"],
        aliases: &[],
        sentence: "A table goes to a Parquet file when this many of its rows are buffered,",
    },
    Setting {
        section: WRITES,
        name: "persist-bytes",
        kind: Kind::Bytes(1 << 10, 1 << 40),
        preset: Preset::Computed("256MiB, at most a quarter of buffer-bytes"),
        env: &["FLIGHTLINE_PERSIST_BYTES"],
        aliases: &[],
        sentence: "or when its buffered rows take this much memory,",
    },
    Setting {
        section: WRITES,
        name: "persist-age",
        kind: Kind::Duration(1_000, WEEK_MS),
        preset: Preset::Text("10m"),
        env: &["FLIGHTLINE_PERSIST_AGE"],
        aliases: &[],
        sentence: "or when its oldest buffered row is this old.",
    },
    Setting {
        section: WRITES,
        name: "wal",
        kind: Kind::OneOf(&["local", "object"]),
        preset: Preset::Text("local"),
        env: &["FLIGHTLINE_WAL"],
        aliases: &[],
        sentence: "Where the write-ahead log is: on the local disk, in --data-dir, or in the object store with the tables.",
    },
    Setting {
        section: WRITES,
        name: "wal-flush-interval",
        kind: Kind::Duration(1, HOUR_MS),
        preset: Preset::Text("100ms"),
        env: &["FLIGHTLINE_WAL_FLUSH_INTERVAL", "INFLUXDB3_WAL_FLUSH_INTERVAL"],
        aliases: &[],
        sentence: "With the log in the object store: the least time between two of its objects. The log on the local disk doesn't wait.",
    },
    Setting {
        section: WRITES,
        name: "wal-replicate-to",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_WAL_REPLICATE_TO"],
        aliases: &[],
        sentence: "Second place of the local log, which has every write before it is acknowledged: a directory on another disk, or s3://bucket/path, gs:// or azure://.",
    },
    Setting {
        section: WRITES,
        name: "wal-abandon",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_WAL_ABANDON"],
        aliases: &[],
        sentence: "Start although another log may hold rows of this store that are in no file, and give them up.",
    },
    Setting {
        section: WRITES,
        name: "wal-segment-bytes",
        kind: Kind::Bytes(64 << 10, 4 << 30),
        preset: Preset::Text("64MiB"),
        env: &["FLIGHTLINE_WAL_SEGMENT_BYTES"],
        aliases: &[],
        sentence: "Size at which the write-ahead log begins a new file.",
    },
    Setting {
        section: WRITES,
        name: "compaction-cpu-percent",
        kind: Kind::Count(1, 100),
        preset: Preset::Text("50"),
        env: &["FLIGHTLINE_COMPACTION_CPU_PERCENT"],
        aliases: &[],
        sentence: "Share of one processor that compaction may take.",
    },
    Setting {
        section: WRITES,
        name: "compaction-settle",
        kind: Kind::Duration(0, WEEK_MS),
        preset: Preset::Text("30m"),
        env: &["FLIGHTLINE_COMPACTION_SETTLE"],
        aliases: &[],
        sentence: "A large file is rewritten for a few late rows when no more of them have come for this long.",
    },
    Setting {
        section: WRITES,
        name: "disable-compaction",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_DISABLE_COMPACTION"],
        aliases: &[],
        sentence: "Leave Parquet files as they were first written.",
    },
    Setting {
        section: WRITES,
        name: "delete-grace-period",
        kind: Kind::Duration(0, 52 * WEEK_MS),
        preset: Preset::Text("24h"),
        env: &["FLIGHTLINE_DELETE_GRACE_PERIOD", "INFLUXDB3_DELETE_GRACE_PERIOD"],
        aliases: &[],
        sentence: "How long files of dropped tables and files that compaction replaced are kept.",
    },
    Setting {
        section: WRITES,
        name: "hard-delete-default-duration",
        kind: Kind::Duration(0, 52 * WEEK_MS),
        preset: Preset::Text("72h"),
        env: &["FLIGHTLINE_HARD_DELETE_DEFAULT_DURATION", "INFLUXDB3_HARD_DELETE_DEFAULT_DURATION"],
        aliases: &[],
        sentence: "How long a deleted database or table can be brought back, unless its deletion says otherwise.",
    },
    Setting {
        section: WRITES,
        name: "max-columns-per-table",
        kind: Kind::Count(2, 100_000),
        preset: Preset::Text("1000"),
        env: &["FLIGHTLINE_MAX_COLUMNS_PER_TABLE"],
        aliases: &[],
        sentence: "Columns of one table; a line that would add more is refused.",
    },
    Setting {
        section: WRITES,
        name: "max-tables",
        kind: Kind::Count(1, 10_000_000),
        preset: Preset::Text("10000"),
        env: &["FLIGHTLINE_MAX_TABLES"],
        aliases: &[],
        sentence: "Tables of all databases together; a line that would add more is refused.",
    },
    Setting {
        section: BACKUPS,
        name: "backup-to",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_BACKUP_TO"],
        aliases: &[],
        sentence: "Where backups go: a directory, s3://bucket/path, gs://bucket/path or azure://container/path, with the store flags above.",
    },
    Setting {
        section: LOGS,
        name: "log-filter",
        kind: Kind::Text,
        preset: Preset::Text("info"),
        env: &["FLIGHTLINE_LOG_FILTER", "INFLUXDB3_LOG_FILTER", "LOG_FILTER"],
        aliases: &[],
        sentence: "What is logged: a level, or levels by module such as info,flightline::engine=debug.",
    },
    Setting {
        section: LOGS,
        name: "log-format",
        kind: Kind::OneOf(&["full", "json"]),
        preset: Preset::Text("full"),
        env: &["FLIGHTLINE_LOG_FORMAT", "INFLUXDB3_LOG_FORMAT", "LOG_FORMAT"],
        aliases: &[],
        sentence: "Lines to read, or one JSON object a line.",
    },
];
