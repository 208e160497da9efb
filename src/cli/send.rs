//! One request of a write: sent, sent again while the server or the way to it is in trouble, and its answer read.
//!
//! Sending again is safe: a point that is written twice is the same point.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use reqwest::header::{CONTENT_ENCODING, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use super::client::{ClientError, Connection, describe, refusal};
use super::split::Chunk;

/// How long one try may take, the server's own waiting included.
const TRY_TIMEOUT: Duration = Duration::from_secs(300);

/// About a minute of patience with the pauses below: enough for a server to be restarted.
const RETRIES_MAX: u32 = 8;

/// While no server has ever answered there probably is none: about two seconds.
pub(crate) const FIRST_CONTACT_RETRIES_MAX: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A server that asks for more patience than this does not get it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What became of the lines of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All are stored.
    Stored,
    /// All but these are stored; `count` may be larger than the number of lines that are described.
    StoredExcept { count: u64, lines: Vec<RefusedLine> },
    /// None is stored, because of this line.
    RefusedFor(RefusedLine),
}

/// A line that the server did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedLine {
    /// Physical number, from 1; within the request first, within the input once [`Sender::send`] returns.
    pub number: u64,
    pub message: String,
    pub original: String,
}

/// Sends chunks, all with the same parameters.
#[derive(Debug)]
pub(crate) struct Sender {
    connection: Connection,
    parameters: Vec<(&'static str, String)>,
    gzip: bool,
    /// For a server that has answered before.
    retries_max: u32,
    has_answered: AtomicBool,
}

impl Sender {
    pub(crate) fn new(connection: Connection, parameters: Vec<(&'static str, String)>, gzip: bool) -> Self {
        Self { connection, parameters, gzip, retries_max: RETRIES_MAX, has_answered: AtomicBool::new(false) }
    }

    /// The same with pauses that add up to about `patience` before a request is given up.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        let mut waited = Duration::ZERO;
        let mut retries_max = 0;
        while waited < patience {
            waited += pause(retries_max, 0);
            retries_max += 1;
        }
        Self { retries_max, ..self }
    }

    /// Sends the chunk until the server has taken or refused it, or patience ends.
    pub(crate) async fn send(&self, chunk: &Chunk) -> Result<Answer, ClientError> {
        let body = self.body(chunk).await?;
        let mut retries = 0;
        loop {
            let pause = match self.try_once(body.clone()).await {
                Ok(response) if is_passing(response.status()) && retries < self.retries_max => {
                    asked_patience(&response).unwrap_or_else(|| pause(retries, chunk.first_line))
                }
                Ok(response) => return read_answer(response, chunk.first_line).await,
                Err(_) if retries < self.retries_max() => pause(retries, chunk.first_line),
                Err(error) => return Err(error),
            };
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }

    async fn try_once(&self, body: Bytes) -> Result<Response, ClientError> {
        let mut request = self.connection.request(Method::POST, "/api/v3/write_lp");
        if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let request = request.query(&self.parameters).timeout(TRY_TIMEOUT).body(body);
        let response = self.connection.answer(request).await?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    fn retries_max(&self) -> u32 {
        if self.has_answered.load(Ordering::Relaxed) { self.retries_max } else { FIRST_CONTACT_RETRIES_MAX }
    }

    async fn body(&self, chunk: &Chunk) -> Result<Bytes, ClientError> {
        let text = chunk.bytes.clone();
        if !self.gzip {
            return Ok(text);
        }
        let compressed = tokio::task::spawn_blocking(move || compress(&text)).await.map_err(io::Error::from);
        compressed.flatten().map_err(|source| ClientError::Write { name: "a compressed request".into(), source })
    }
}

/// Fast rather than small: line protocol shrinks tenfold at any level.
fn compress(text: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish().map(Bytes::from)
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// `Retry-After` in seconds; the form with a date is rare and read as if the header were missing.
fn asked_patience(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Twice as long each time. Requests that failed together come back spread over a quarter of the pause.
pub(crate) fn pause(retries: u32, first_line: u64) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << retries.min(16)).min(PAUSE_MAX);
    let spread = (first_line.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u32; // 0 to 255, by the line's number
    pause + pause / 4 * spread / 256
}

async fn read_answer(response: Response, first_line: u64) -> Result<Answer, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(Answer::Stored);
    }
    let body = refusal(response).await?;
    refused_lines(&body, first_line).ok_or_else(|| ClientError::Refused { status, message: describe(&body) })
}

/// A refusal that speaks of lines: a list of them means that all others are stored, a single one that nothing is.
fn refused_lines(body: &str, first_line: u64) -> Option<Answer> {
    let body: Value = serde_json::from_str(body).ok()?;
    match body.get("data")? {
        Value::Array(lines) => {
            let lines: Vec<_> = lines.iter().map(|line| refused_line(line, first_line)).collect::<Option<_>>()?;
            // Servers bound how many lines they describe; ours says how many there were.
            let count = body.get("refused_lines").and_then(Value::as_u64).unwrap_or(0).max(lines.len() as u64);
            Some(Answer::StoredExcept { count, lines })
        }
        line @ Value::Object(_) => refused_line(line, first_line).map(Answer::RefusedFor),
        _ => None,
    }
}

fn refused_line(line: &Value, first_line: u64) -> Option<RefusedLine> {
    let number = line.get("line_number")?.as_u64()?;
    Some(RefusedLine {
        number: (first_line + number).saturating_sub(1),
        message: line.get("error_message")?.as_str()?.to_owned(),
        original: line.get("original_line").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_lines_are_numbered_as_in_the_input() {
        let partial = r#"{"error":"partial write of line protocol occurred","data":[
            {"error_message":"bad","line_number":1,"original_line":"x"},
            {"error_message":"worse","line_number":7,"original_line":"y"}]}"#;
        let line = |number, message: &str, original: &str| RefusedLine {
            number,
            message: message.into(),
            original: original.into(),
        };
        assert_eq!(
            refused_lines(partial, 1001),
            Some(Answer::StoredExcept { count: 2, lines: vec![line(1001, "bad", "x"), line(1007, "worse", "y")] })
        );
        let whole = r#"{"error":"line protocol parsing error","data":{"error_message":"bad","line_number":3}}"#;
        assert_eq!(refused_lines(whole, 1), Some(Answer::RefusedFor(line(3, "bad", ""))));
    }

    #[test]
    fn a_count_of_refused_lines_may_exceed_those_described() {
        let body = r#"{"error":"e","refused_lines":500,"data":[{"error_message":"bad","line_number":1}]}"#;
        assert!(matches!(refused_lines(body, 1), Some(Answer::StoredExcept { count: 500, .. })));
    }

    #[test]
    fn other_refusals_speak_of_no_lines() {
        for body in ["incoming write was empty", r#"{"error":"x"}"#, r#"{"error":"x","data":[{}]}"#, "[]"] {
            assert_eq!(refused_lines(body, 1), None, "{body}");
        }
    }

    #[test]
    fn patience_is_counted_in_pauses() {
        let settings = crate::config::client::ClientSettings {
            host: "http://127.0.0.1:1".into(),
            database: None,
            token: None,
            tls_ca: None,
            tls_no_verify: false,
        };
        let retries = |patience| {
            let sender = Sender::new(Connection::new(&settings).unwrap(), Vec::new(), false);
            sender.with_patience(Duration::from_secs(patience)).retries_max
        };
        assert_eq!((retries(0), retries(1), retries(60), retries(600)), (0, 3, 8, 26));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let all: Vec<Duration> = (0..RETRIES_MAX).map(|retries| pause(retries, 1)).collect();
        assert!(all.is_sorted());
        assert!(all[0] >= FIRST_PAUSE && all[0] <= FIRST_PAUSE * 5 / 4);
        assert!(pause(u32::MAX, u64::MAX) <= PAUSE_MAX * 5 / 4);
        let patience: Duration = all.iter().sum();
        assert!(patience > Duration::from_secs(45) && patience < Duration::from_secs(120), "{patience:?}");
    }
}
