//! Questions to the server, asked again while it is away.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::cli::client::{ClientError, Connection};
use crate::cli::query::ask;
use crate::cli::send::{FIRST_CONTACT_RETRIES_MAX, pause};

/// Longest answer that is kept in memory: names, columns and counts.
const ROWS_BYTES_MAX: usize = 256 << 20;

/// One database of a server.
pub(super) struct Server {
    connection: Connection,
    database: String,
    patience: Duration,
    has_answered: AtomicBool,
}

impl Server {
    pub(super) fn new(connection: Connection, database: String, patience: Duration) -> Self {
        Self { connection, database, patience, has_answered: AtomicBool::new(false) }
    }

    /// A short answer.
    ///
    /// # Errors
    /// If the server refuses the question, or is away for longer than the patience.
    pub(super) async fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, ClientError> {
        let text = self.patiently(async || Self::text(self.ask(sql, "jsonl").await?).await).await?;
        let rows: Result<Vec<T>, serde_json::Error> = text.lines().map(serde_json::from_str).collect();
        rows.map_err(|error| ClientError::Read { name: "an answer of the server".into(), source: error.into() })
    }

    /// Puts an answer in Parquet into `file`, which is emptied first.
    ///
    /// # Errors
    /// The same, and if the file cannot be written.
    pub(super) async fn fetch(&self, sql: &str, path: &std::path::Path) -> Result<u64, ClientError> {
        self.patiently(async || {
            let response = self.ask(sql, "parquet").await?;
            let failed = |source| ClientError::Write { name: format!("\"{}\"", path.display()), source };
            let mut file = File::create(path).await.map_err(failed)?;
            let bytes = parts(response, async |part| file.write_all(part).await.map_err(failed)).await?;
            file.flush().await.map_err(failed)?;
            Ok(bytes)
        })
        .await
    }

    async fn ask(&self, sql: &str, format: &str) -> Result<Response, ClientError> {
        let response = ask(&self.connection, &self.database, "sql", sql, format).await?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    async fn text(response: Response) -> Result<String, ClientError> {
        let mut body = Vec::new();
        parts(response, async |part: &[u8]| {
            if body.len() + part.len() > ROWS_BYTES_MAX {
                return Err(ClientError::Usage(format!("an answer is longer than {ROWS_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(part);
            Ok(())
        })
        .await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Tries again while the server is away, until the pauses add up to the patience.
    async fn patiently<T>(&self, work: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
        let (mut waited, mut retries) = (Duration::ZERO, 0);
        loop {
            let error = match work().await {
                Err(error) if may_pass(&error) => error,
                result => return result,
            };
            let has_answered = self.has_answered.load(Ordering::Relaxed);
            if waited >= self.patience || (!has_answered && retries >= FIRST_CONTACT_RETRIES_MAX) {
                return Err(error);
            }
            let next = pause(retries, 0);
            tokio::time::sleep(next).await;
            waited += next;
            retries += 1;
        }
    }
}

fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Truncated { .. } => true,
        ClientError::Refused { status, .. } => matches!(
            *status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        _ => false,
    }
}

/// The body as it comes; how long it was.
async fn parts(
    mut response: Response,
    mut take: impl AsyncFnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<u64, ClientError> {
    let mut bytes = 0;
    loop {
        let part = response.chunk().await;
        let part = part.map_err(|error| ClientError::Truncated { bytes, source: error.without_url() })?;
        let Some(part) = part else { return Ok(bytes) };
        take(&part).await?;
        bytes += part.len() as u64;
    }
}
