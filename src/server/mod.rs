//! Speaks: gRPC and HTTP on one port, over the engine and the queries.
//!
//! [`Server::start`] is the composition root: it makes every object in order, listens, and
//! [`Server::stop`] closes them in reverse. Two runtimes: the caller's carries network and object-store
//! I/O, one of our own carries DataFusion's work, so that a heavy query never makes `/health` or a write wait.
//!
//! Not here: what a command line or an environment says (`config`).

mod addresses;
pub mod auth;
pub(crate) mod backup_table;
mod caches;
mod cors;
mod directory;
pub mod flight;
mod grpc_health;
pub mod http;
mod limits;
mod listen;
mod log;
mod mirror;
mod parameters;
pub mod pretty;
mod prompt;
#[rustfmt::skip]
#[allow(missing_docs, reason = "generated; the wire is specified in proto/")]
pub mod proto;
pub(crate) mod status;
mod tls;
mod writers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth::{AuthSettings, Authenticator, FirstToken, Guard};
use axum::middleware;
use directory::DataDirectory;
use limits::Limits;
use listen::Listener;
use tls::Tls;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::StorePlace;
use crate::engine::backup::{Backups, Location};
use crate::engine::mirror::promote::promote;
use crate::engine::store::single_writer::{SingleWriter, Writer};
use crate::engine::store::{ConnectionSettings, StoreSettings, Writers};
use crate::engine::{Engine, EngineSettings, store};
use crate::error::{Error, ErrorKind, Result};
use crate::query::{Processors, Queries, QuerySettings};
use crate::telemetry::Telemetry;

/// Writes that are read, parsed and stored at the same time; more wait for their turn.
const WRITES_AT_ONCE: usize = 64;

/// Stack of the threads that plan and run queries, which those of the network do with brief ones: DataFusion recurses along the depth of an expression.
pub const QUERY_STACK_BYTES: usize = 32 << 20;

pub use cors::Origins;
pub use limits::LimitSettings;
pub use listen::ConnectionLimits;
pub use log::{LogPlace, LogSettings};
pub use tls::TlsSettings;

/// Everything a server needs to know.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The node's name, for whoever finds it in its way.
    pub node_id: String,
    /// Who is let in, and how that is found out.
    pub auth: AuthSettings,
    /// The certificate; without one, connections are not encrypted.
    pub tls: Option<TlsSettings>,
    /// Where to listen. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where the log, the scratch space and, with a file store, the data are.
    pub data_directory: PathBuf,
    /// Which objects.
    pub store: StoreSettings,
    /// How the store is spoken to.
    pub connection: ConnectionSettings,
    /// Who else may write to the store.
    pub writers: Writers,
    /// Where the write-ahead log is.
    pub log: LogSettings,
    /// Where the store is mirrored to, and at how many bytes a second at the most.
    pub mirror: Option<(StorePlace, Option<u64>)>,
    /// Whether a mirror may become a store of its own.
    pub promotes_mirror: bool,
    /// Where backups go; nowhere: requests for one are refused.
    pub backups: Option<StorePlace>,
    /// Buffer, log and limits of tables.
    pub engine: EngineSettings,
    /// Memory and threads of queries.
    pub query: QuerySettings,
    /// What one token may do in a second.
    pub limits: LimitSettings,
    /// Which pages in a browser may speak to it.
    pub origins: Origins,
    /// Largest request body in bytes, compressed or not.
    pub request_bytes_max: usize,
    /// Which connections there may be.
    pub connections: ConnectionLimits,
    /// How long open requests may go on once the server is told to stop.
    pub shutdown_timeout: Duration,
}

/// What a request handler may use.
#[derive(Debug)]
pub struct Services {
    /// Writes and the catalog.
    pub engine: Arc<Engine>,
    /// Reads.
    pub queries: Arc<Queries>,
    /// Who asks.
    pub authenticator: Arc<Authenticator>,
    /// Copies elsewhere, if there is a place for them.
    pub backups: Option<Arc<Backups>>,
    /// Time and identifiers.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// The settings it runs with.
    pub settings: ServerSettings,
    /// Different for each start of the process.
    pub process_id: Uuid,
    /// Bounds the memory of writes.
    pub(crate) write_slots: Arc<Semaphore>,
    /// Bounds what one token may do in a second.
    pub(crate) limits: Arc<Limits>,
}

impl Services {
    /// What answers requests to this engine and its queries, whoever brings them. Without a place for backups, requests for one are
    /// refused.
    ///
    /// # Errors
    /// `Invalid` if a key that tokens are checked with can't be used; `Unavailable` if one can't be read, or the first token not be
    /// stored.
    pub async fn new(
        settings: ServerSettings,
        engine: Arc<Engine>,
        queries: Arc<Queries>,
        backups: Option<Arc<Backups>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let authenticator = open_authenticator(&settings, &engine, &clock).await?;
        let now = u64::try_from(clock.now().as_nanos()).unwrap_or_default();
        Ok(Self {
            engine,
            queries,
            authenticator,
            backups,
            process_id: clock.unique_id(),
            telemetry: Arc::new(Telemetry::new(Duration::from_nanos(now))),
            limits: Arc::new(Limits::new(settings.limits, Arc::clone(&clock))),
            clock,
            settings,
            write_slots: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
        })
    }

    /// All routes, with the layer that knows tokens around them: for connections, or for requests of this process. Flight and HTTP share
    /// one router: their paths don't meet. Once `draining` is cancelled, gRPC's health service says that it goes.
    ///
    /// # Errors
    /// `Unavailable` if the audit log can't be opened.
    pub fn routes(self: &Arc<Self>, draining: CancellationToken) -> Result<axum::Router> {
        let (authenticator, limits) = (Arc::clone(&self.authenticator), Arc::clone(&self.limits));
        let (telemetry, clock) = (Arc::clone(&self.telemetry), Arc::clone(&self.clock));
        let guard = Guard::new(authenticator, &self.settings, limits, telemetry, clock)?;
        let flight = flight::FlightService::new(
            Arc::clone(&self.engine),
            Arc::clone(&self.queries),
            Arc::clone(&self.authenticator),
            Arc::clone(&self.clock),
            Arc::clone(&self.telemetry),
            Arc::clone(&self.write_slots),
            Arc::clone(&self.limits),
        );
        let health = grpc_health::GrpcHealth::new(Arc::clone(&self.engine), draining).into_server();
        let grpc = tonic::service::Routes::new(flight.into_server()).add_service(health).prepare().into_axum_router();
        // tonic's router answers unknown paths in gRPC; ours answers them in HTTP.
        let routes = http::router(Arc::clone(self)).merge(grpc.reset_fallback());
        Ok(routes.layer(middleware::from_fn_with_state(Arc::new(guard), auth::guard)))
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    services: Arc<Services>,
    listener: Listener,
    /// Cancelled when it is told to stop.
    draining: CancellationToken,
    tls: Option<Arc<Tls>>,
    query_threads: Option<QueryThreads>,
    writer: Option<SingleWriter>,
    _directory: DataDirectory,
}

impl Server {
    /// Recovers what is stored, then listens. When this returns, requests are answered.
    ///
    /// # Errors
    /// `Conflict` if another process has the data directory, the port or a lock in the store; `Unsupported` if several
    /// writers would destroy each other's objects in the store; `Corrupt` if stored bytes are damaged;
    /// `Unavailable` if store or disk don't answer.
    pub async fn start(settings: ServerSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let directory = DataDirectory::take(&settings.data_directory, clock.as_ref())?;
        let listener = Listener::bind(settings.bind).await?; // before the recovery: a port in use is told at once
        let tls = settings.tls.clone().map(Tls::open).transpose()?;
        let store = store::open(&settings.store, &settings.connection)?;
        tracing::info!(store = store.description(), data = %settings.data_directory.display(), "opening");
        let (store, writer) = writers::secure(store, &settings, &directory, &clock).await?;
        let mirror = mirror::open(&settings, &clock).await?;
        promote(&store, &clock, settings.promotes_mirror, settings.log.gives_up_others).await?;
        let engine = log::open_engine(&settings, store, mirror, &directory, &clock).await?;

        let query_threads = QueryThreads::start(settings.query.threads)?;
        let query = QuerySettings { scratch: Some(directory.subdirectory("scratch")?), ..settings.query.clone() };
        let queries = Queries::new(Arc::clone(&engine), query, query_threads.processors(), Handle::current())?;
        let backups = open_backups(&settings, &engine, &directory, &clock)?;
        let services = Arc::new(Services::new(settings, engine, Arc::new(queries), backups, clock).await?);
        let draining = CancellationToken::new();
        let routes = services.routes(draining.clone())?;
        let listener = listener.serve(routes, tls.clone(), services.settings.connections);
        tracing::info!(address = %listener.address(), "ready");
        let query_threads = Some(query_threads);
        Ok(Self { services, listener, draining, tls, query_threads, writer, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What its handlers use.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Stops in order: no new connections, open requests end, everything is persisted to Parquet.
    ///
    /// # Errors
    /// If something could not be persisted; it is in the log and comes back with the next start.
    pub async fn stop(mut self) -> Result<()> {
        self.draining.cancel();
        let patience = self.services.settings.shutdown_timeout;
        if !self.listener.drain(patience).await {
            tracing::warn!(?patience, "requests were still open after the shutdown timeout and are cut off");
        }
        if let Some(backups) = &self.services.backups {
            backups.stop().await;
        }
        self.services.authenticator.stop().await;
        if let Some(tls) = &self.tls {
            tls.stop().await;
        }
        let closed = self.services.engine.close().await;
        let released = match &self.writer {
            Some(writer) => writer.release().await.map_err(Error::from),
            None => Ok(()),
        };
        if let Some(threads) = self.query_threads.take() {
            threads.stop();
        }
        tracing::info!("stopped");
        closed.and(released)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A runtime must not be dropped where async code runs; this leaves its threads to end by themselves.
        if let Some(threads) = self.query_threads.take() {
            threads.stop();
        }
    }
}

/// The threads that queries run on: as many for each kind as there are processors for them.
#[derive(Debug)]
struct QueryThreads {
    quick: Runtime,
    heavy: Runtime,
}

impl QueryThreads {
    fn start(threads: usize) -> Result<Self> {
        Ok(Self { quick: query_runtime("query", threads)?, heavy: query_runtime("heavy-query", threads)? })
    }

    fn processors(&self) -> Processors {
        Processors { quick: self.quick.handle().clone(), heavy: self.heavy.handle().clone() }
    }

    /// Leaves the threads to end by themselves.
    fn stop(self) {
        self.quick.shutdown_background();
        self.heavy.shutdown_background();
    }
}

/// Sees to it that somebody can get in, and then asks everybody for a token.
async fn open_authenticator(
    settings: &ServerSettings,
    engine: &Arc<Engine>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Authenticator>> {
    if settings.auth.is_on {
        let given = settings.auth.admin_token_file.as_deref();
        match auth::ensure_operator(engine, given, &settings.data_directory).await? {
            FirstToken::Known => {}
            FirstToken::Given(path) => tracing::info!(path = %path.display(), "took the operator's token from a file"),
            FirstToken::Made(path) => {
                tracing::warn!(path = %path.display(), "made the first token, which may do everything: it is in a file");
            }
        }
    }
    Ok(Arc::new(Authenticator::new(Arc::clone(engine), Arc::clone(clock), &settings.auth).await?))
}

/// The backups of this server, if there is a place for them.
fn open_backups(
    settings: &ServerSettings,
    engine: &Arc<Engine>,
    directory: &DataDirectory,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Backups>>> {
    let Some(StorePlace { store, prefix, connections }) = &settings.backups else { return Ok(None) };
    if is_inside(store, prefix, &settings.store) {
        return Err(Error::invalid("--backup-to lies in the store itself: a copy has to be elsewhere"));
    }
    let place = store::open_below(store, prefix, connections)?;
    tracing::info!(place = place.description(), "backups go to");
    let writer = Writer { node: settings.node_id.clone(), directory: directory.id(clock.as_ref())? };
    let location = Location::new(place, Arc::clone(clock));
    Ok(Some(Arc::new(Backups::new(Arc::clone(engine), location, writer))))
}

/// Whether a copy there would go with the store. Another part of one bucket is the user's choice.
pub(crate) fn is_inside(place: &StoreSettings, prefix: &str, store: &StoreSettings) -> bool {
    match (place, store) {
        (StoreSettings::File { root: place }, StoreSettings::File { root: store }) => place.starts_with(store),
        _ => place == store && prefix.is_empty(),
    }
}

fn query_runtime(name: &str, threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name(name)
        .thread_stack_size(QUERY_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not start the query threads", error))
}
