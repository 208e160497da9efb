//! A proxy in front of a real object store, which loses acknowledgements: it passes a request on, the store carries it
//! out, and the client hears something else.
//!
//! It also makes of an S3 server what no server at hand is: one that ignores conditions, and one that speaks as much of
//! Google's protocol as Flightline uses.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, IF_NONE_MATCH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A signature as S3 servers expect one; those of the tests don't check it.
pub const S3_AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                                    SignedHeaders=host, Signature=0000000000000000";

/// What becomes of the answer to a request that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// "500 Internal Server Error" in its place.
    ServerError,
    /// The connection is closed.
    Dropped,
    /// Nothing, until the client gives up.
    Stalled,
}

/// What the proxy makes of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The same.
    Faithful,
    /// A put without its conditions, so that it always overwrites.
    IgnoresConditions,
    /// From Google's headers to those of S3.
    Google,
}

/// A running proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    store: SocketAddr,
    client: reqwest::Client,
    manner: Manner,
    losses: Mutex<Vec<Losing>>,
    /// While true, requests wait.
    silent: watch::Sender<bool>,
}

/// Puts whose answers are lost.
struct Losing {
    part_of_path: String,
    loss: Loss,
    left: usize,
    done: usize,
}

/// The connection ends here.
#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closed on purpose")
    }
}

impl std::error::Error for Gone {}

impl Proxy {
    /// A proxy in front of `store` on a free port.
    pub fn start(store: SocketAddr, manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap();
        let shared =
            Arc::new(Shared { store, client, manner, losses: Mutex::default(), silent: watch::Sender::new(false) });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answers to the next `times` puts of an object with this in its path are lost.
    pub fn lose(&self, part_of_path: &str, loss: Loss, times: usize) {
        let part_of_path = part_of_path.to_owned();
        self.shared.losses.lock().push(Losing { part_of_path, loss, left: times, done: 0 });
    }

    /// From now on requests get no answer; those whose client is still there are carried out when the silence ends.
    pub fn be_silent(&self, is_silent: bool) {
        self.shared.silent.send_replace(is_silent);
    }

    /// How many answers were lost.
    pub fn lost(&self) -> usize {
        self.shared.losses.lock().iter().map(|losing| losing.done).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let answer = service_fn(|request| Arc::clone(&shared).answer(request));
            // Ends with an error wherever the connection is closed on purpose.
            let _closed =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Gone> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
        let mut silent = self.silent.subscribe();
        silent.wait_for(|is_silent| !is_silent).await.map_err(|_| Gone)?;
        let loss = self.loss(&parts);
        self.translate(&mut parts);
        let answer = self.pass_on(parts, body).await?;
        match loss {
            None => Ok(answer),
            Some(Loss::ServerError) => {
                let mut lost = Response::new(Full::from("<Error><Code>Lost</Code></Error>"));
                *lost.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                Ok(lost)
            }
            Some(Loss::Dropped) => Err(Gone),
            Some(Loss::Stalled) => std::future::pending().await,
        }
    }

    fn loss(&self, parts: &Parts) -> Option<Loss> {
        let path = parts.uri.path();
        let mut losses = self.losses.lock();
        let losing = losses.iter_mut().find(|losing| losing.left > 0 && path.contains(&losing.part_of_path));
        let losing = losing.filter(|_| parts.method == Method::PUT)?;
        losing.left -= 1;
        losing.done += 1;
        Some(losing.loss)
    }

    fn translate(&self, parts: &mut Parts) {
        match self.manner {
            Manner::Faithful => {}
            Manner::IgnoresConditions => {
                parts.headers.remove(IF_NONE_MATCH);
            }
            Manner::Google => {
                if parts.headers.remove("x-goog-if-generation-match").is_some_and(|generation| generation == "0") {
                    parts.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
                }
                parts.headers.insert(AUTHORIZATION, HeaderValue::from_static(S3_AUTHORIZATION));
            }
        }
    }

    async fn pass_on(&self, mut parts: Parts, body: Bytes) -> Result<Response<Full<Bytes>>, Gone> {
        for header in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(header);
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("http://{}{path}", self.store);
        let is_head = parts.method == Method::HEAD;
        let request = self.client.request(parts.method, url).headers(parts.headers).body(body);
        let answer = request.send().await.map_err(|_| Gone)?;
        let mut passed = Response::new(Full::default());
        *passed.status_mut() = answer.status();
        for (name, value) in answer.headers() {
            // The length of an object is in the answer to HEAD alone; elsewhere it follows from the body.
            let is_ours = *name == CONNECTION || *name == TRANSFER_ENCODING || (*name == CONTENT_LENGTH && !is_head);
            if !is_ours {
                passed.headers_mut().append(name, value.clone());
            }
        }
        *passed.body_mut() = Full::new(answer.bytes().await.map_err(|_| Gone)?);
        Ok(passed)
    }
}
