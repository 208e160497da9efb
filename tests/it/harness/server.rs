//! A server in this process on a free port, with its data in a temporary directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::SystemClock;
use flightline::engine::EngineSettings;
use flightline::engine::store::{ConnectionSettings, StoreSettings, Writers};
use flightline::error::Error;
use flightline::query::QuerySettings;
use flightline::server::auth::AuthSettings;
use flightline::server::{ConnectionLimits, LimitSettings, LogSettings, Origins, Server, ServerSettings};
use tempfile::TempDir;

/// A running server; its data goes with it.
pub struct TestServer {
    // Before its directory, so that it is gone first.
    server: Server,
    pub http: reqwest::Client,
    _directory: TempDir,
}

impl TestServer {
    /// A server with an empty catalog.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with other settings than the usual ones.
    pub async fn start_with(change: impl FnOnce(&mut ServerSettings)) -> Self {
        Self::try_start(change).await.unwrap()
    }

    /// The same, if it starts.
    pub async fn try_start(change: impl FnOnce(&mut ServerSettings)) -> Result<Self, Error> {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = ServerSettings {
            node_id: "test".to_owned(),
            auth: AuthSettings::off(),
            tls: None,
            bind: "127.0.0.1:0".parse().unwrap(),
            data_directory: directory.path().to_owned(),
            store: StoreSettings::File { root: directory.path().join("data") },
            connection: ConnectionSettings::default(),
            writers: Writers::Several,
            log: LogSettings::default(),
            mirror: None,
            promotes_mirror: false,
            backups: None,
            engine: EngineSettings::default(),
            query: QuerySettings { threads: 2, ..QuerySettings::default() },
            limits: LimitSettings::default(),
            origins: Origins::Any,
            request_bytes_max: 10 << 20,
            connections: ConnectionLimits { count_max: 256, ..ConnectionLimits::default() },
            shutdown_timeout: Duration::from_secs(5),
        };
        change(&mut settings);
        let server = Server::start(settings, Arc::new(SystemClock::new())).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap();
        Ok(Self { server, http, _directory: directory })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.address())
    }

    /// Stops it as it is stopped by a signal.
    pub async fn stop(self) {
        self.server.stop().await.unwrap();
    }

    /// Writes lines that must all be good.
    pub async fn write(&self, database: &str, lines: impl Into<String>) {
        let url = self.url(&format!("/api/v3/write_lp?db={database}&precision=nanosecond"));
        let response = self.http.post(url).body(lines.into()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 204, "{text}");
    }

    /// A query's status and body.
    pub async fn query(&self, database: &str, sql: &str, format: &str) -> (u16, String) {
        let body = serde_json::json!({ "db": database, "q": sql, "format": format });
        let response = self.http.post(self.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}
