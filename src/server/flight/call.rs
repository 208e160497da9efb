//! What the headers of a call say: which database, which language, how long it may take, who claims to ask.

use std::time::Duration;

use arrow::ipc::CompressionType;
use arrow_flight::{HandshakeRequest, HandshakeResponse};
use bytes::Bytes;
use http::Uri;
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Response, Status};

use super::error::FlightError;
use super::sessions::Session;
use super::stream::Delivery;
use super::tickets::Statement;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::DatabaseName;
use crate::query::{Language, Origin, Way};
use crate::server::auth::{Authenticator, Credentials, Principal};
use crate::server::status;

/// The headers that name a database, in the words of every client there is.
pub(super) const DATABASE_HEADERS: [&str; 4] = ["database", "bucket", "bucket-name", "iox-namespace-name"];

/// The header that names the language of statements.
pub(super) const LANGUAGE_HEADER: &str = "x-influxdata-query-language";
/// The header that asks for compressed buffers.
pub(super) const COMPRESSION_HEADER: &str = "x-flightline-ipc-compression";

/// The header that asks for tags as dictionaries.
pub(super) const DICTIONARIES_HEADER: &str = "x-flightline-dictionaries";

/// The header that says in how many endpoints an answer may come.
pub(super) const ENDPOINTS_HEADER: &str = "x-flightline-endpoints";

/// Most endpoints of one answer.
const ENDPOINTS_MAX: usize = 64;

/// The header with the names of the columns that are tags in what is written.
const TAGS_HEADER: &str = "x-flightline-tags";

/// The header with the word for tables in metadata.
pub(super) const TABLE_TYPE_HEADER: &str = "x-influxdata-base-table-type";

/// The word for tables in metadata unless the call wants the other one.
pub(super) const BASE_TABLE: &str = "BASE TABLE";

/// What Power BI and Excel filter by; they ask for it with a header.
pub(super) const TABLE: &str = "TABLE";

/// The headers of one call, understood.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Who asks.
    pub(super) principal: Principal,
    database: Option<DatabaseName>,
    /// The language of statements.
    pub(super) language: Language,
    /// The word for tables.
    pub(super) table_type: &'static str,
    /// The columns of what is written that are tags, if the call says so.
    pub(super) tags: Option<Vec<String>>,
    /// What a prepared change says that nobody counted. Nothing, but to Java: JDBC takes "unknown" for "here come rows" and fails.
    pub(super) uncounted: Option<u64>,
    /// In how many endpoints it takes an answer.
    pub(super) endpoints: usize,
    /// What the client's calls have in common.
    pub(super) session: Session,
    /// Whether the client is an ADBC driver, which keeps cookies only if it is told to.
    pub(super) is_adbc: bool,
    /// When the client stops waiting.
    deadline: Option<Instant>,
    /// How the client wants buffers compressed.
    compression: Option<CompressionType>,
    /// Whether it wants tags as dictionaries.
    pub(super) dictionaries: bool,
}

impl Call {
    /// Reads the headers.
    ///
    /// # Errors
    /// `Invalid` if they contradict each other or a value is not understood.
    pub(super) fn new(headers: &MetadataMap, principal: Principal) -> Result<Self> {
        let session = Session::of(headers)?;
        let headers = session.below(headers)?;
        let headers = headers.as_ref();
        Ok(Self {
            principal,
            database: database(headers)?,
            language: language(headers)?,
            table_type: table_type(headers)?,
            tags: tags(headers)?,
            compression: compression(headers)?,
            dictionaries: dictionaries(headers)?,
            endpoints: endpoints(headers)?,
            uncounted: agent_begins(headers, b"grpc-java").then_some(0), // as all JDBC drivers are made
            is_adbc: agent_begins(headers, b"ADBC "),
            deadline: timeout(headers).map(|timeout| Instant::now() + timeout),
            session,
        })
    }

    /// The database that the call names, or the only one that its principal can see.
    pub(super) fn database_if_any(&self, engine: &Engine) -> Option<DatabaseName> {
        if self.database.is_some() {
            return self.database.clone();
        }
        let [only] = <[DatabaseName; 1]>::try_from(self.databases(engine)).ok()?;
        Some(only)
    }

    /// The database that the call names, or the only one that its principal can see.
    ///
    /// # Errors
    /// `Invalid`, saying how to name one, if it names none and there is not exactly one; `Forbidden` if its principal may do nothing there.
    pub(super) fn database(&self, engine: &Engine) -> Result<DatabaseName> {
        let none = || FlightError::NoDatabase { databases: self.databases(engine).len() };
        let database = self.database_if_any(engine).ok_or_else(none)?;
        self.principal.require_sight(&database)?;
        Ok(database)
    }

    fn databases(&self, engine: &Engine) -> Vec<DatabaseName> {
        let mut databases = engine.databases();
        databases.retain(|name| self.principal.rights().see(name));
        databases
    }

    /// From whom the call's statements come, and until when their answers are waited for.
    pub(super) fn origin(&self, way: Way) -> Origin {
        Origin { asker: self.principal.asker(), way, deadline: self.deadline }
    }

    /// A statement in the call's language, answered in the form that it asks for.
    pub(super) fn statement(&self, database: DatabaseName, text: String) -> Statement {
        Statement { dictionaries: self.dictionaries, ..Statement::new(database, self.language, text) }
    }

    /// A plan of Substrait, answered in the form that the call asks for.
    pub(super) fn substrait(&self, database: DatabaseName, plan: Bytes) -> Statement {
        Statement { dictionaries: self.dictionaries, ..Statement::of_plan(database, plan) }
    }

    /// How rows are to be sent.
    pub(super) fn delivery(&self) -> Delivery {
        Delivery { deadline: self.deadline, compression: self.compression }
    }

    /// Waits for `answer`, but not past the client's deadline; the work is dropped then.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<Response<T>, Status> {
        // Plans make large futures; one allocation a call is nothing beside one.
        let answer = Box::pin(answer);
        let answered = match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answer).await.map_err(|_| deadline_exceeded())?,
            None => answer.await,
        };
        answered.map(Response::new).map_err(|error| status::grpc(&error))
    }
}

/// The one status without an [`crate::error::ErrorKind`]: the client set the limit, and has left already.
pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the time that the client gave this call is over")
}

/// Answers a handshake: whoever shows a token that counts gets it back as a bearer token, to show with every call.
///
/// Answers once whatever the client sends: Go's driver sends no message at all, C++'s an empty one. Where nobody is asked, everyone
/// is welcome.
///
/// # Errors
/// `Unauthenticated`.
pub(super) async fn welcome<S>(
    authenticator: &Authenticator,
    headers: &MetadataMap,
    first: Option<HandshakeRequest>,
    answers: impl FnOnce(HandshakeResponse) -> S,
) -> Result<Response<S>> {
    // A handshake is to no path of HTTP on which a password could be.
    authenticator.authenticate(&headers.clone().into_headers(), &Uri::default()).await?;
    let HandshakeRequest { protocol_version, payload } = first.unwrap_or_default();
    let mut response = Response::new(answers(HandshakeResponse { protocol_version, payload }));
    let shown = headers.get("authorization").and_then(|value| Credentials::of_header(value.as_bytes()).ok().flatten());
    let bearer = shown.and_then(|shown| MetadataValue::try_from(format!("Bearer {}", shown.reveal())).ok());
    let bearer = bearer.unwrap_or_else(|| MetadataValue::from_static("Bearer anonymous"));
    // In the headers, not the trailers: Java looks nowhere else.
    response.metadata_mut().insert("authorization", bearer);
    Ok(response)
}

fn database(headers: &MetadataMap) -> Result<Option<DatabaseName>> {
    let mut named: Option<DatabaseName> = None;
    for header in DATABASE_HEADERS {
        for value in headers.get_all(header) {
            let text =
                value.to_str().map_err(|_| Error::invalid(format!("header '{header}' is not readable as text")))?;
            let name =
                DatabaseName::new(text).map_err(|error| Error::invalid(format!("header '{header}': {error}")))?;
            match &named {
                Some(first) if *first != name => {
                    return Err(FlightError::Databases { first: first.to_string(), second: name.to_string() }.into());
                }
                _ => named = Some(name),
            }
        }
    }
    Ok(named)
}

fn language(headers: &MetadataMap) -> Result<Language> {
    let Some(value) = headers.get(LANGUAGE_HEADER) else { return Ok(Language::Sql) };
    match value.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "sql" => Ok(Language::Sql),
        "influxql" => Ok(Language::InfluxQl),
        _ => Err(unknown_value(LANGUAGE_HEADER, value.as_bytes(), "'sql' or 'influxql'")),
    }
}

fn table_type(headers: &MetadataMap) -> Result<&'static str> {
    let Some(value) = headers.get(TABLE_TYPE_HEADER) else { return Ok(BASE_TABLE) };
    match value.to_str().unwrap_or_default().to_ascii_uppercase().as_str() {
        BASE_TABLE => Ok(BASE_TABLE),
        TABLE => Ok(TABLE),
        _ => Err(unknown_value(TABLE_TYPE_HEADER, value.as_bytes(), "'BASE TABLE' or 'TABLE'")),
    }
}

fn compression(headers: &MetadataMap) -> Result<Option<CompressionType>> {
    let Some(value) = headers.get(COMPRESSION_HEADER) else { return Ok(None) };
    match value.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "none" => Ok(None),
        "lz4" => Ok(Some(CompressionType::LZ4_FRAME)),
        "zstd" => Ok(Some(CompressionType::ZSTD)),
        _ => Err(unknown_value(COMPRESSION_HEADER, value.as_bytes(), "'lz4', 'zstd' or 'none'")),
    }
}

fn dictionaries(headers: &MetadataMap) -> Result<bool> {
    let Some(value) = headers.get(DICTIONARIES_HEADER) else { return Ok(false) };
    match value.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(unknown_value(DICTIONARIES_HEADER, value.as_bytes(), "'true' or 'false'")),
    }
}

fn endpoints(headers: &MetadataMap) -> Result<usize> {
    let Some(value) = headers.get(ENDPOINTS_HEADER) else { return Ok(1) };
    let count =
        value.to_str().ok().and_then(|text| text.parse().ok()).filter(|count| (1..=ENDPOINTS_MAX).contains(count));
    count.ok_or_else(|| unknown_value(ENDPOINTS_HEADER, value.as_bytes(), "a number from 1 to 64"))
}

fn tags(headers: &MetadataMap) -> Result<Option<Vec<String>>> {
    let Some(value) = headers.get(TAGS_HEADER) else { return Ok(None) };
    let unreadable = |_| Error::invalid(format!("header '{TAGS_HEADER}' is not readable as text"));
    Ok(Some(names(value.to_str().map_err(unreadable)?)))
}

/// Whether the client says of itself that it is made with this.
fn agent_begins(headers: &MetadataMap, with: &[u8]) -> bool {
    headers.get("user-agent").is_some_and(|agent| agent.as_bytes().starts_with(with))
}

/// The names in a text, between commas; none if it is empty.
pub(super) fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn unknown_value(name: &'static str, value: &[u8], expected: &'static str) -> Error {
    FlightError::HeaderValue { name, value: String::from_utf8_lossy(value).into_owned(), expected }.into()
}

/// `grpc-timeout`: at most eight digits and a unit. What can't be read counts as absent, as everywhere in gRPC.
fn timeout(headers: &MetadataMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 60 * 60)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}
