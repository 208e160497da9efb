//! One port: accepts connections within a limit, tells HTTP/1.1 from HTTP/2, drains on stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};

/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

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

    /// Starts to answer with `router`, at most `connections_max` connections at once; more wait in the system's queue.
    pub(super) fn serve(self, router: Router, connections_max: usize) -> Self {
        let State::Bound(listener) = self.state else { return self };
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, router, connections_max, stop.clone()));
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
    connections_max: usize,
    stop: CancellationToken,
) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(connections_max));
    let http = http_settings();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let Some((slot, accepted)) = stop.run_until_cancelled(next).await else { return connections };
        match accepted {
            Ok((stream, _peer)) => {
                let connection = serve_connection(&http, stream, router.clone(), &connections);
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn http_settings() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(PENDING_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    http
}

fn serve_connection(
    http: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not turn off the delay of small packets");
    }
    let service = TowerToHyperService::new(router);
    let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = connections.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "a connection ended early");
        }
    }
}
