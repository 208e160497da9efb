//! The connection to a server, and how its refusals read.

use std::io;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use super::split::SplitError;
use crate::config::client::{ClientSettings, Token};
use crate::error::{Error, ErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest refusal that is read. A server may quote every line of a request back, with a message for each.
const REFUSAL_BYTES_MAX: usize = 64 << 20;

/// Why a client command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("\"{url}\" is no URL of a server: {reason}")]
    Url { url: String, reason: String },
    #[error("could not read {name}")]
    Read { name: String, source: io::Error },
    #[error("could not write {name}")]
    Write { name: String, source: io::Error },
    #[error("\"{path}\" holds no certificates that can be used")]
    Certificates { path: String, source: reqwest::Error },
    #[error("could not set up the connection")]
    Setup { source: reqwest::Error },
    #[error("could not reach {host}")]
    Unreachable { host: String, source: reqwest::Error },
    #[error("the answer broke off after {bytes} bytes")]
    Truncated { bytes: u64, source: reqwest::Error },
    #[error("server responded with error [{status}]: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("{what} is missing: give it as an argument, with --file, or through a pipe")]
    NoInput { what: &'static str },
    #[error("there is no line to write in {name}")]
    NothingToWrite { name: String },
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Store(Error),
    #[error("{0}")]
    Unconfirmed(&'static str),
    #[error("{0}")]
    Usage(String),
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        if let ClientError::Store(error) = error {
            return error;
        }
        let kind = match &error {
            ClientError::Unreachable { .. } | ClientError::Truncated { .. } => ErrorKind::Unavailable,
            ClientError::Setup { .. } => ErrorKind::Internal,
            ClientError::Refused { status: StatusCode::NOT_FOUND, .. } => ErrorKind::NotFound,
            ClientError::Refused { status, .. } if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        };
        let message = error.to_string();
        match error {
            ClientError::Read { source, .. } | ClientError::Write { source, .. } => {
                Self::with_source(kind, message, source)
            }
            ClientError::Certificates { source, .. }
            | ClientError::Setup { source }
            | ClientError::Unreachable { source, .. }
            | ClientError::Truncated { source, .. } => Self::with_source(kind, message, source),
            ClientError::Split(SplitError::Read(source)) => Self::with_source(kind, message, source),
            _ => Self::new(kind, message),
        }
    }
}

/// Speaks to one server.
#[derive(Debug)]
pub(crate) struct Connection {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
}

impl Connection {
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        let base = base_url(&settings.host)?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("flightline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Reading the system's authorities takes longer than a small query, so only where they are needed.
            .tls_built_in_root_certs(base.scheme() == "https")
            .danger_accept_invalid_certs(settings.tls_no_verify);
        if let Some(path) = &settings.tls_ca {
            let name = path.display().to_string();
            let pem =
                std::fs::read(path).map_err(|source| ClientError::Read { name: format!("\"{name}\""), source })?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .map_err(|source| ClientError::Certificates { path: name, source })?;
            for authority in authorities {
                http = http.add_root_certificate(authority);
            }
        }
        let http = http.build().map_err(|source| ClientError::Setup { source })?;
        Ok(Self { http, base, token: settings.token.clone() })
    }

    /// A request for `path`, which begins with a slash.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.reveal())),
            None => request,
        }
    }

    /// The answer, of whatever status.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let host = self.base.origin().ascii_serialization();
        request.send().await.map_err(|error| ClientError::Unreachable { host, source: error.without_url() })
    }

    /// The answer, if it is a success.
    pub(crate) async fn success(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = self.answer(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = describe(&refusal(response).await?);
        Err(ClientError::Refused { status, message })
    }

    /// The JSON of an answer that is a success.
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let response = self.success(request).await?;
        response.json().await.map_err(|error| ClientError::Truncated { bytes: 0, source: error.without_url() })
    }
}

/// The body of an answer that is no success; cut off where it is longer than any sensible one.
pub(crate) async fn refusal(mut response: Response) -> Result<String, ClientError> {
    let mut body = Vec::new();
    while body.len() < REFUSAL_BYTES_MAX {
        let bytes = body.len() as u64;
        let broke_off = |error: reqwest::Error| ClientError::Truncated { bytes, source: error.without_url() };
        let Some(part) = response.chunk().await.map_err(broke_off)? else { break };
        body.extend_from_slice(&part);
    }
    body.truncate(REFUSAL_BYTES_MAX);
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A refusal as text: the message of a JSON body with its `data` lines under it, anything else as it is.
pub(crate) fn describe(body: &str) -> String {
    let Ok(json) = serde_json::from_str::<Value>(body) else { return body.trim().to_owned() };
    let message = ["error", "message"].iter().find_map(|name| json.get(name)?.as_str());
    let Some(message) = message else { return body.trim().to_owned() };
    let lines: &[Value] = match json.get("data") {
        Some(Value::Array(lines)) => lines,
        Some(line @ Value::Object(_)) => std::slice::from_ref(line),
        _ => &[],
    };
    std::iter::once(message.to_owned()).chain(lines.iter().map(describe_line)).collect::<Vec<_>>().join("\n")
}

fn describe_line(line: &Value) -> String {
    let Some(message) = line.get("error_message").and_then(Value::as_str) else { return format!("  {line}") };
    let number = line.get("line_number").map(|number| format!("line {number}: ")).unwrap_or_default();
    let original = line.get("original_line").and_then(Value::as_str);
    let original = original.map(|text| format!("\n    {text}")).unwrap_or_default();
    format!("  {number}{message}{original}")
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    let failed = |reason: String| ClientError::Url { url: text.to_owned(), reason };
    let url = Url::parse(text).map_err(|error| failed(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed("it must begin with http:// or https://".into()));
    }
    if !url.has_host() {
        return Err(failed("it names no host".into()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_json_reads_as_text_with_its_lines() {
        let partial = r#"{"error":"partial write of line protocol occurred","data":[
            {"error_message":"No fields were provided","line_number":2,"original_line":"cpu"}]}"#;
        assert_eq!(
            describe(partial),
            "partial write of line protocol occurred\n  line 2: No fields were provided\n    cpu"
        );
        let one = r#"{"error":"line protocol parsing error","data":{"error_message":"bad","line_number":1}}"#;
        assert_eq!(describe(one), "line protocol parsing error\n  line 1: bad");
        assert_eq!(describe(r#"{"code":"invalid","message":"missing bucket value"}"#), "missing bucket value");
        assert_eq!(describe(r#"{"error":"no","data":null}"#), "no");
    }

    #[test]
    fn a_refusal_in_plain_text_stays_as_it_is() {
        assert_eq!(
            describe("the requested resource was not found: nyc\n"),
            "the requested resource was not found: nyc"
        );
        assert_eq!(describe("[1,2]"), "[1,2]");
        assert_eq!(describe(""), "");
    }

    #[test]
    fn a_host_is_a_url_and_may_have_a_path() {
        let settings = |host: &str| ClientSettings {
            host: host.into(),
            database: None,
            token: None,
            tls_ca: None,
            tls_no_verify: false,
        };
        let url = |host| {
            let connection = Connection::new(&settings(host)).unwrap();
            connection.request(Method::GET, "/health").build().unwrap().url().to_string()
        };
        assert_eq!(url("http://127.0.0.1:8181"), "http://127.0.0.1:8181/health");
        assert_eq!(url("http://proxy/db/"), "http://proxy/db/health");
        for bad in ["localhost:8181", "127.0.0.1:8181", "ftp://host", ""] {
            assert!(matches!(Connection::new(&settings(bad)), Err(ClientError::Url { .. })), "{bad}");
        }
    }
}
