//! Settings of the server: each one a value in [`settings::all`], from which help, README and names of the
//! environment come; [`Config`] is what they say together, checked.
//!
//! Always true:
//! - a flag beats the environment, our name for a variable beats the others', and all of them beat the preset;
//! - every text that is refused is refused with the setting's name, the text, and what would be accepted;
//! - a setting of InfluxDB 3 is either honoured, or reported in [`Config::notices`], or refused; never skipped silently.
//!
//! Not here: what the settings do. Nobody else reads the environment.

mod auth;
mod backup;
pub mod client;
mod command;
mod ignored;
mod location;
mod machine;
pub mod settings;
mod sources;
mod store;
#[cfg(test)]
mod tests;
pub mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

pub use self::auth::{AuthConfig, JwtConfig, TlsConfig};
pub use self::backup::{RestoreTarget, from_argument};
pub use self::command::{argument, settings_table, with_remote_store_settings, with_settings, with_store_settings};
pub use self::location::{Location, StorePlace};
pub use self::machine::Machine;
pub use self::sources::{ConfigError, Environment, Origin, process_environment};
pub use self::store::StoreConfig;

use self::ignored::{IGNORED, REFUSED};
use self::sources::Sources;

const PERSIST_BYTES_MAX: usize = 256 << 20;

const QUERIES_PER_PROCESSOR: usize = 16;

/// A dashboard asks some dozens of queries at once.
const QUERIES_LEAST: usize = 64;

/// The name of a node is part of log lines and of metric labels.
const NODE_ID_BYTES_MAX: usize = 255;

/// The settings of one server, checked. Each field is named as its flag; sizes are bytes.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the settings of the list, which says what they do")]
pub struct Config {
    pub node_id: String,
    pub http_bind: SocketAddr,
    pub max_connections: usize,
    pub max_connections_per_address: Option<usize>,
    pub slow_client_timeout: Duration,
    pub max_http_request_size: usize,
    pub shutdown_timeout: Duration,
    pub cors_origins: CorsOrigins,
    pub auth: AuthConfig,
    pub tls: Option<TlsConfig>,
    pub demo: bool,
    pub store: StoreConfig,
    pub data_dir: PathBuf,
    pub buffer_bytes: usize,
    pub exec_mem_pool_bytes: usize,
    pub parquet_mem_cache_size: usize,
    pub parquet_mem_cache_query_path_duration: Duration,
    pub disable_parquet_mem_cache: bool,
    /// Memory for decoded columns in bytes; 0 for none.
    pub decoded_mem_cache_size: usize,
    /// Memory for caches of last and distinct values in bytes.
    pub value_cache_size: usize,
    pub disk_cache_size: usize,
    pub disk_cache_dir: PathBuf,
    pub num_datafusion_threads: usize,
    pub num_io_threads: usize,
    pub query_text_bytes: usize,
    /// Answer every question from whole tables.
    pub disable_query_shortcuts: bool,
    pub persist_rows: usize,
    pub persist_bytes: usize,
    pub persist_age: Duration,
    pub wal: LogPlace,
    pub wal_flush_interval: Duration,
    pub wal_replicate_to: Option<LogReplica>,
    pub wal_abandon: bool,
    pub wal_segment_bytes: usize,
    pub wal_backlog_bytes: u64,
    pub disable_compaction: bool,
    pub compaction_settle: Duration,
    pub compaction_cpu_percent: usize,
    pub delete_grace_period: Duration,
    pub hard_delete_default_duration: Duration,
    pub max_columns_per_table: usize,
    pub max_tables: usize,
    pub backup_to: Option<StorePlace>,
    pub mirror_to: Option<StorePlace>,
    pub mirror_bytes_per_second: Option<usize>,
    pub promote_mirror: bool,
    /// How long a query may take; `None`: for ever.
    pub query_timeout: Option<Duration>,
    /// Queries that run at one time; `None`: any number.
    pub max_concurrent_queries: Option<usize>,
    pub max_queued_queries: usize,
    pub query_queue_timeout: Duration,
    pub max_concurrent_queries_per_token: Option<usize>,
    pub query_log_size: usize,
    pub max_requests_per_second_per_token: Option<usize>,
    pub max_write_bytes_per_second_per_token: Option<usize>,
    pub max_write_rows_per_second_per_token: Option<usize>,
    pub log_filter: String,
    pub log_format: LogFormat,
    /// What the user should know about the settings: one sentence each, for the log at start.
    pub notices: Vec<String>,
}

/// Whose pages in a browser may speak to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Everybody's.
    Any,
    /// Those of these origins; may be none.
    Listed(Vec<String>),
}

impl CorsOrigins {
    /// Where nobody is asked for a token, every page that somebody at the machine looks at could ask for everything.
    fn from_sources(sources: &Sources<'_>, asks_for_tokens: bool) -> Result<Self, ConfigError> {
        let Some((value, setting)) = sources.said("cors-origins") else {
            return Ok(if asks_for_tokens { Self::Any } else { Self::Listed(Vec::new()) });
        };
        match value.trim() {
            "*" => return Ok(Self::Any),
            "none" => return Ok(Self::Listed(Vec::new())),
            _ => {}
        }
        let origins: Vec<String> = value.split(',').map(|origin| origin.trim().to_owned()).collect();
        let is_origin = |origin: &String| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            })
        };
        match origins.iter().all(is_origin) {
            true => Ok(Self::Listed(origins)),
            false => {
                let accepts = "*, none, or origins without a path such as https://app.example.org, separated by commas";
                Err(ConfigError::Value { setting, value, accepts: accepts.to_owned() })
            }
        }
    }
}

/// Where the write-ahead log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPlace {
    /// On the local disk, in the data directory.
    Local,
    /// In the object store.
    Object,
}

/// The second place of a log on the local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogReplica {
    /// A directory, which should be on another disk.
    Directory(PathBuf),
    /// An object store.
    Store(Box<StorePlace>),
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Full,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Puts together what the flags, the environment and the machine say.
    ///
    /// `flags` are the matches of the commands, the innermost first.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn from_flags(
        flags: &[&ArgMatches],
        environment: Environment<'_>,
        machine: &Machine,
    ) -> Result<Self, ConfigError> {
        let sources = Sources { flags, environment, memory_bytes: machine.memory_bytes };
        refuse_unprotected(&sources)?;
        let data_dir = path(&sources.required_text("data-dir")?, environment)?;
        let buffer_bytes = sources.number("buffer-bytes")?;
        let auth = AuthConfig::from_sources(&sources)?;
        let http_bind = auth.address(&sources)?;
        let tls = TlsConfig::from_sources(&sources)?;
        let disk_cache_dir = match sources.said("disk-cache-dir") {
            Some((text, _)) => path(&text, environment)?,
            None => data_dir.join("cache"),
        };
        let config = Self {
            node_id: node_id(&sources, machine)?,
            http_bind,
            max_connections: sources.number("max-connections")?,
            max_connections_per_address: sources.number_or_nothing("max-connections-per-address")?,
            slow_client_timeout: sources.duration("slow-client-timeout")?,
            max_http_request_size: sources.number("max-http-request-size")?,
            shutdown_timeout: sources.duration("shutdown-timeout")?,
            cors_origins: CorsOrigins::from_sources(&sources, auth.is_on)?,
            demo: sources.switch("demo")?,
            store: StoreConfig::from_sources(&sources)?,
            data_dir,
            buffer_bytes,
            exec_mem_pool_bytes: sources.number("exec-mem-pool-bytes")?,
            parquet_mem_cache_size: sources.number("parquet-mem-cache-size")?,
            parquet_mem_cache_query_path_duration: sources.duration("parquet-mem-cache-query-path-duration")?,
            disable_parquet_mem_cache: sources.switch("disable-parquet-mem-cache")?,
            decoded_mem_cache_size: sources.number("decoded-mem-cache-size")?,
            value_cache_size: sources.number("value-cache-size")?,
            disk_cache_size: sources.number("disk-cache-size")?,
            disk_cache_dir,
            num_datafusion_threads: sources.number_or_nothing("num-datafusion-threads")?.unwrap_or(machine.processors),
            num_io_threads: sources.number_or_nothing("num-io-threads")?.unwrap_or(machine.processors),
            query_text_bytes: sources.number("query-text-bytes")?,
            disable_query_shortcuts: sources.switch("disable-query-shortcuts")?,
            persist_rows: sources.number("persist-rows")?,
            persist_bytes: persist_bytes(&sources, buffer_bytes)?,
            persist_age: sources.duration("persist-age")?,
            wal: log_place(&sources)?,
            wal_flush_interval: sources.duration("wal-flush-interval")?,
            wal_replicate_to: replica(&sources, environment)?,
            wal_abandon: sources.switch("wal-abandon")?,
            wal_segment_bytes: sources.number("wal-segment-bytes")?,
            wal_backlog_bytes: wal_backlog_bytes(&sources)?,
            disable_compaction: sources.switch("disable-compaction")?,
            compaction_settle: sources.duration("compaction-settle")?,
            compaction_cpu_percent: sources.number("compaction-cpu-percent")?,
            delete_grace_period: sources.duration("delete-grace-period")?,
            hard_delete_default_duration: sources.duration("hard-delete-default-duration")?,
            max_columns_per_table: sources.number("max-columns-per-table")?,
            max_tables: sources.number("max-tables")?,
            backup_to: backup::backup_place(&sources)?,
            mirror_to: backup::mirror_place(&sources)?,
            mirror_bytes_per_second: sources.number_or_nothing("mirror-bytes-per-second")?,
            promote_mirror: sources.switch("promote-mirror")?,
            query_timeout: Some(sources.duration("query-timeout")?).filter(|limit| !limit.is_zero()),
            max_concurrent_queries: concurrent_queries(&sources, machine)?,
            max_queued_queries: sources.number("max-queued-queries")?,
            query_queue_timeout: sources.duration("query-queue-timeout")?,
            max_concurrent_queries_per_token: sources.number_or_nothing("max-concurrent-queries-per-token")?,
            query_log_size: sources.number("query-log-size")?,
            max_requests_per_second_per_token: sources.number_or_nothing("max-requests-per-second-per-token")?,
            max_write_bytes_per_second_per_token: sources.number_or_nothing("max-write-bytes-per-second-per-token")?,
            max_write_rows_per_second_per_token: sources.number_or_nothing("max-write-rows-per-second-per-token")?,
            log_filter: log_filter(&sources)?,
            log_format: log_format(&sources)?,
            notices: notices(&sources, auth.notices(http_bind, tls.as_ref())),
            auth,
            tls,
        };
        Ok(config)
    }
}

fn refuse_unprotected(sources: &Sources<'_>) -> Result<(), ConfigError> {
    let refused = REFUSED.iter().find_map(|foreign| Some((sources.said_foreign(foreign)?, foreign.reason)));
    match refused {
        Some((setting, reason)) => Err(ConfigError::Refused { setting, reason }),
        None => Ok(()),
    }
}

fn node_id(sources: &Sources<'_>, machine: &Machine) -> Result<String, ConfigError> {
    let (text, setting) = match sources.said("node-id") {
        Some(said) => said,
        None => match sources.said("node-id-from-env") {
            Some((variable, setting)) => match (sources.environment)(&variable) {
                Some(text) => (text, setting),
                None => return Err(ConfigError::NoSuchVariable { setting, variable }),
            },
            None => return Ok(default_node_id(machine)),
        },
    };
    let good = !text.is_empty() && text.len() <= NODE_ID_BYTES_MAX && text.chars().all(is_node_id_character);
    if good {
        return Ok(text);
    }
    let accepts = format!("at most {NODE_ID_BYTES_MAX} letters, digits, '.', '_' and '-'");
    Err(ConfigError::Value { setting, value: text, accepts })
}

fn default_node_id(machine: &Machine) -> String {
    let host = machine.host.as_deref().unwrap_or("primary");
    let host: String = host.chars().map(|c| if is_node_id_character(c) { c } else { '-' }).take(200).collect();
    format!("{host}-node")
}

fn is_node_id_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// `~/` is expanded here because shells leave it alone after `--data-dir=` and in files of variables.
fn path(text: &str, environment: Environment<'_>) -> Result<PathBuf, ConfigError> {
    let Some(below_home) = text.strip_prefix("~/") else { return Ok(PathBuf::from(text)) };
    match environment("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(below_home)),
        None => Err(ConfigError::Missing { setting: "data-dir", reason: "HOME is not set either" }),
    }
}

/// A table that could fill the whole buffer before it is persisted would stop all writes, so the share is bounded.
fn persist_bytes(sources: &Sources<'_>, buffer_bytes: usize) -> Result<usize, ConfigError> {
    let computed = PERSIST_BYTES_MAX.min(buffer_bytes / 4).max(1);
    let chosen = sources.number_or_nothing("persist-bytes")?.unwrap_or(computed);
    match sources.said("persist-bytes") {
        Some((value, setting)) if chosen > buffer_bytes => Err(ConfigError::Value {
            setting,
            value,
            accepts: format!("at most the {buffer_bytes} bytes of --buffer-bytes"),
        }),
        _ => Ok(chosen),
    }
}

/// More than the processors can do, since a query also waits for the store. One that waits for its reader holds no slot.
fn concurrent_queries(sources: &Sources<'_>, machine: &Machine) -> Result<Option<usize>, ConfigError> {
    let computed = machine.processors.saturating_mul(QUERIES_PER_PROCESSOR).max(QUERIES_LEAST);
    let chosen = sources.number_or_nothing("max-concurrent-queries")?.unwrap_or(computed);
    Ok(Some(chosen).filter(|count| *count > 0))
}

fn log_place(sources: &Sources<'_>) -> Result<LogPlace, ConfigError> {
    match sources.required_text("wal")?.as_str() {
        "object" => Ok(LogPlace::Object),
        // The list of settings knows no other word than "local" here.
        _ => Ok(LogPlace::Local),
    }
}

fn replica(sources: &Sources<'_>, environment: Environment<'_>) -> Result<Option<LogReplica>, ConfigError> {
    let Some((value, setting)) = sources.said("wal-replicate-to") else { return Ok(None) };
    if log_place(sources)? == LogPlace::Object {
        let accepts =
            "nothing with --wal object: the object store keeps its objects in several places itself".to_owned();
        return Err(ConfigError::Value { setting, value, accepts });
    }
    Ok(Some(match Location::parse(&value) {
        Some(Location::Local(directory)) => LogReplica::Directory(path(directory, environment)?),
        Some(location) => LogReplica::Store(Box::new(StorePlace::at(sources, location)?)),
        None => return Err(ConfigError::Value { setting, value, accepts: Location::ACCEPTS.to_owned() }),
    }))
}

/// The segment that is being written can't go, so that a shorter log would refuse writes for ever.
fn wal_backlog_bytes(sources: &Sources<'_>) -> Result<u64, ConfigError> {
    let (bytes, segment): (usize, usize) = (sources.number("wal-backlog-bytes")?, sources.number("wal-segment-bytes")?);
    match sources.said("wal-backlog-bytes") {
        Some((value, setting)) if bytes / 2 < segment => {
            let accepts = format!("a size of at least twice --wal-segment-bytes, which is {segment}");
            Err(ConfigError::Value { setting, value, accepts })
        }
        _ => Ok(bytes.max(segment.saturating_mul(2)) as u64),
    }
}

fn log_filter(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let verbosity = sources.flags.iter().find_map(|flags| flags.try_get_one::<u8>("verbose").ok().flatten());
    match (sources.said("log-filter"), verbosity) {
        (None, Some(1)) => Ok("info,flightline=debug".into()),
        (None, Some(2..)) => Ok("debug".into()),
        _ => sources.required_text("log-filter"),
    }
}

fn log_format(sources: &Sources<'_>) -> Result<LogFormat, ConfigError> {
    match sources.required_text("log-format")?.as_str() {
        "json" => Ok(LogFormat::Json),
        // The list of settings knows no other word than "full" here.
        _ => Ok(LogFormat::Full),
    }
}

fn notices(sources: &Sources<'_>, of_auth: Option<String>) -> Vec<String> {
    let mut notices = Vec::new();
    for foreign in IGNORED {
        if let Some(origin) = sources.said_foreign(foreign) {
            notices.push(format!("{origin} has no effect: {}", foreign.reason));
        }
    }
    notices.extend(of_auth);
    for name in ["exec-mem-pool-bytes", "parquet-mem-cache-size", "value-cache-size"] {
        if let Some((text, origin)) = sources.said(name)
            && text.trim().parse().is_ok_and(|number: u64| (1..=values::PLAIN_MEGABYTES_MAX).contains(&number))
        {
            notices.push(format!("{origin} {} is read as megabytes; write {0}MB to say so", text.trim()));
        }
    }
    notices
}
