//! `serve`: settings become a running server; a signal becomes an orderly stop.

use std::sync::Arc;

use super::demo;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, AuthConfig, Config, CorsOrigins, JwtConfig, LogFormat, StoreConfig, process_environment};
use crate::engine::EngineSettings;
use crate::engine::buffer::BufferSettings;
use crate::engine::compaction::CompactionSettings;
use crate::engine::store::Writers;
use crate::engine::store::disk_cache::DiskCacheSettings;
use crate::engine::store::recent::RecentSettings;
use crate::engine::wal::WalSettings;
use crate::engine::wal::objects::ObjectLogSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::query::{QuerySettings, RunningSettings};
use crate::server::auth::{AuditSettings, AuthSettings, JwtSettings, KeySource};
use crate::server::{
    ConnectionLimits, LimitSettings, LogPlace, LogSettings, Origins, QUERY_STACK_BYTES, Server, ServerSettings,
    TlsSettings,
};
use crate::{steps, telemetry};

/// Runs a server until SIGTERM or SIGINT, then stops it in order.
///
/// # Errors
/// What kept it from starting, or what could not be persisted at the end.
pub(super) fn serve(config: &Config) -> Result<()> {
    let format = match config.log_format {
        LogFormat::Full => telemetry::LogFormat::Full,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::start_logging(&config.log_filter, format)?;
    if let Some(step) = process_environment(steps::VARIABLE).filter(|step| !steps::choose(step)) {
        tracing::warn!(step, "{} has no effect", steps::VARIABLE);
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.num_io_threads)
        .thread_name("io")
        .thread_stack_size(QUERY_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not start the network threads", error))?
        .block_on(serve_until_told(config))
}

async fn serve_until_told(config: &Config) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // Before the start, so that a signal during a long recovery is not lost.
    let mut stop = Box::pin(Signals::listen()?.next());
    let starting = Server::start(server_settings(config)?, clock);
    let server = tokio::select! {
        started = starting => started?,
        signal = &mut stop => {
            tracing::info!(signal, "stopped before the recovery was done; nothing was changed");
            return Ok(());
        }
    };
    if config.demo {
        demo::run(&server).await?;
    }
    let signal = stop.await;
    tracing::info!(signal, "stopping: open requests end, then rows go to Parquet");
    server.stop().await
}

/// The settings of each part from the settings of the whole.
fn server_settings(config: &Config) -> Result<ServerSettings> {
    let auth = auth_settings(&config.auth)?;
    let StoreConfig { store, connections, single_writer } = config.store.clone();
    Ok(ServerSettings {
        node_id: config.node_id.clone(),
        bind: config.http_bind,
        auth,
        tls: config.tls.as_ref().map(|tls| TlsSettings {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            only_tls13: tls.only_tls13,
            client_authorities: tls.client_authorities.clone(),
        }),
        data_directory: config.data_dir.clone(),
        store,
        connection: connections,
        mirror: config.mirror_to.clone().map(|place| (place, config.mirror_bytes_per_second.map(|bytes| bytes as u64))),
        promotes_mirror: config.promote_mirror,
        backups: config.backup_to.clone(),
        writers: if single_writer { Writers::Single } else { Writers::Several },
        log: log_settings(config),
        engine: EngineSettings {
            buffer: BufferSettings {
                bytes_max: config.buffer_bytes,
                persist_rows: config.persist_rows,
                persist_bytes: config.persist_bytes,
                persist_age: config.persist_age,
                log_bytes_max: config.wal_backlog_bytes,
            },
            wal: WalSettings { segment_bytes: config.wal_segment_bytes as u64, ..WalSettings::default() },
            compaction: CompactionSettings {
                is_on: !config.disable_compaction,
                settle: config.compaction_settle,
                cpu_percent: u32::try_from(config.compaction_cpu_percent).unwrap_or(100),
            },
            delete_grace: config.delete_grace_period,
            hard_delete_default: config.hard_delete_default_duration,
            recent: RecentSettings {
                bytes_max: if config.disable_parquet_mem_cache { 0 } else { config.parquet_mem_cache_size },
                recency: config.parquet_mem_cache_query_path_duration,
            },
            decoded_bytes_max: config.decoded_mem_cache_size,
            disk_cache: (config.disk_cache_size > 0).then(|| DiskCacheSettings {
                directory: config.disk_cache_dir.clone(),
                bytes_max: config.disk_cache_size as u64,
            }),
            cache_bytes_max: config.value_cache_size,
            columns_per_table_max: config.max_columns_per_table,
            tables_max: config.max_tables,
            ..EngineSettings::default()
        },
        query: QuerySettings {
            memory_bytes: config.exec_mem_pool_bytes,
            threads: config.num_datafusion_threads,
            text_bytes_max: config.query_text_bytes,
            running: RunningSettings {
                log_entries: config.query_log_size,
                timeout: config.query_timeout,
                slots: config.max_concurrent_queries,
                waiting_max: config.max_queued_queries,
                patience: config.query_queue_timeout,
                per_asker: config.max_concurrent_queries_per_token,
            },
            takes_shortcuts: !config.disable_query_shortcuts,
            ..QuerySettings::default()
        },
        limits: LimitSettings {
            requests_per_second: config.max_requests_per_second_per_token,
            write_bytes_per_second: config.max_write_bytes_per_second_per_token,
            write_rows_per_second: config.max_write_rows_per_second_per_token,
        },
        origins: origins(&config.cors_origins)?,
        request_bytes_max: config.max_http_request_size,
        connections: ConnectionLimits {
            count_max: config.max_connections,
            per_address_max: config.max_connections_per_address,
            patience: config.slow_client_timeout,
        },
        shutdown_timeout: config.shutdown_timeout,
    })
}

fn origins(config: &CorsOrigins) -> Result<Origins> {
    let CorsOrigins::Listed(origins) = config else { return Ok(Origins::Any) };
    Origins::listed(origins)
}

fn auth_settings(config: &AuthConfig) -> Result<AuthSettings> {
    Ok(AuthSettings {
        is_on: config.is_on,
        open: config.open.clone(),
        admin_token_file: config.admin_token_file.clone(),
        jwt: config.jwt.as_ref().map(jwt_settings).transpose()?,
        audit: config.audit_log.clone().map(|path| AuditSettings { path }),
    })
}

fn jwt_settings(config: &JwtConfig) -> Result<JwtSettings> {
    let mut sources: Vec<KeySource> = config.key_files.iter().cloned().map(KeySource::PublicKeyFile).collect();
    sources.extend(config.secret_file.clone().map(KeySource::SecretFile));
    sources.extend(config.jwks_file.clone().map(KeySource::JwksFile));
    if let Some(text) = &config.jwks_url {
        let url = text.parse();
        sources.push(KeySource::JwksUrl(
            url.map_err(|error| Error::with_source(ErrorKind::Invalid, format!("\"{text}\" is no URL"), error))?,
        ));
    }
    Ok(JwtSettings {
        sources,
        issuers: config.issuers.clone(),
        audiences: config.audiences.clone(),
        leeway: config.leeway,
        rights_claim: config.rights_claim.clone(),
    })
}

fn log_settings(config: &Config) -> LogSettings {
    let place = match config.wal {
        config::LogPlace::Local => LogPlace::Local { replica: config.wal_replicate_to.clone() },
        config::LogPlace::Object => LogPlace::Store(ObjectLogSettings {
            flush_interval: config.wal_flush_interval,
            ..ObjectLogSettings::default()
        }),
    };
    LogSettings { place, gives_up_others: config.wal_abandon }
}

/// The signals that ask a server to stop.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error| Error::with_source(ErrorKind::Internal, "could not listen for signals", error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn next(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
