//! One port: accepts connections within a limit, tells HTTP/1.1 from HTTP/2, drains on stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::addresses::Addresses;
use super::auth::Peer;
use super::prompt::Prompt;
use super::tls::Tls;
use crate::error::{Error, ErrorKind, Result};

/// How often an HTTP/2 client is pinged, at least: one that has gone holds its connection no longer than this and its patience.
const PING_PERIOD: Duration = Duration::from_secs(20);

/// Streams of one HTTP/2 connection. Flight clients open one for each call, and some many at a time.
const STREAMS_MAX: u32 = 1024;

/// Resets of streams that are not accepted yet, before the connection is closed (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 64;

/// Receive windows: DoPut is as fast as window per round trip.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes of request headers.
const HEADERS_BYTES_MAX: u32 = 64 << 10;

/// Pause after a failed accept, which is mostly a lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Which connections there may be, and how long their clients may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections at once; more wait in the system's queue.
    pub count_max: usize,
    /// Most connections of one address; more are closed at once. `None`: any number.
    pub per_address_max: Option<usize>,
    /// How long a client may take for the first byte of a connection, for the head of a request and to answer a ping, and be silent in
    /// the middle of a body.
    pub patience: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { count_max: 1024, per_address_max: None, patience: Duration::from_secs(30) }
    }
}

/// A port, bound and later served.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    Bound(TcpListener),
    Serving { stop: CancellationToken, accepting: JoinHandle<GracefulShutdown> },
    Stopped,
}

impl Listener {
    /// Takes the port.
    ///
    /// # Errors
    /// `Conflict` if it is in use; `Unavailable` if the address can't be had.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let (kind, hint) = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    (ErrorKind::Conflict, "; stop what uses it, or choose another with --http-bind")
                }
                _ => (ErrorKind::Unavailable, ""),
            };
            Error::with_source(kind, format!("could not listen on {address}{hint}"), error)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, state: State::Bound(listener) })
    }

    /// Starts to answer with `router`, within `limits`. If there is `tls`, in nothing but that.
    pub(super) fn serve(self, router: Router, tls: Option<Arc<Tls>>, limits: ConnectionLimits) -> Self {
        let State::Bound(listener) = self.state else { return self };
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, router, tls, limits, stop.clone()));
        Self { address: self.address, state: State::Serving { stop, accepting } }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port, lets open requests end, and says whether they did within `patience`.
    pub(super) async fn drain(&mut self, patience: Duration) -> bool {
        let State::Serving { stop, accepting } = std::mem::replace(&mut self.state, State::Stopped) else {
            return true;
        };
        stop.cancel();
        match accepting.await {
            Ok(connections) => tokio::time::timeout(patience, connections.shutdown()).await.is_ok(),
            Err(_) => true,
        }
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.count_max));
    let addresses = Addresses::new(limits.per_address_max);
    let serving = Arc::new(Serving { http: http_settings(limits.patience), tls, patience: limits.patience });
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let Some((slot, accepted)) = stop.run_until_cancelled(next).await else { return connections };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = addresses.enter(peer.ip()) else {
                    tracing::debug!(%peer, "closed a connection of an address that has too many");
                    continue;
                };
                let service = WithPeer { router: router.clone(), peer: Peer(peer) };
                let (serving, watcher) = (Arc::clone(&serving), connections.watcher());
                tokio::spawn(async move {
                    serving.serve(stream, service, watcher).await;
                    drop((slot, place));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The router, with the address of who is at the other end put to every request.
#[derive(Debug, Clone)]
struct WithPeer {
    router: Router,
    peer: Peer,
}

impl<B> Service<Request<B>> for WithPeer
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.router.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.router.call(request)
    }
}

fn http_settings(patience: Duration) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(PENDING_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_PERIOD.min(patience))
        .keep_alive_timeout(PING_PERIOD.min(patience));
    http
}

/// How connections are served.
struct Serving {
    http: Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    patience: Duration,
}

impl Serving {
    async fn serve(&self, stream: TcpStream, service: WithPeer, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not turn off the delay of small packets");
        }
        let Some(tls) = &self.tls else { return self.serve_stream(stream, service, watcher).await };
        match tls.accept(stream).await {
            Ok(stream) => self.serve_stream(stream, service, watcher).await,
            Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
        }
    }

    async fn serve_stream<S>(&self, stream: S, service: WithPeer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(Prompt::new(stream, self.patience));
        let connection = self.http.serve_connection(stream, TowerToHyperService::new(service)).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(error, "a connection ended early");
        }
    }
}
