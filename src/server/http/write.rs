//! Line protocol over HTTP, in the forms of InfluxDB 3 and 2; that of 1 is in `write_v1`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::body;
use super::parameters::{Parameters, database_name};
use crate::engine::{DatabaseSchemas, Durability, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, DatabaseName, Precision, TableSchema};
use crate::server::auth::Principal;
use crate::server::{Services, status};
use crate::syntax::line_protocol::{KindConflict, Options, Parsed, RefusedLine, Schemas, parse};

/// Bodies up to this size are parsed where they are: it takes less than handing them to another thread.
const PARSE_INLINE_BYTES: usize = 16 * 1024;

/// How often a write whose schema moves under it is parsed again before the client is told to try later.
const ATTEMPTS_MAX: usize = 5;

/// What a write asks for, whichever way it was asked.
pub(super) struct WriteRequest {
    pub(super) database: DatabaseName,
    pub(super) precision: Precision,
    pub(super) accept_partial: bool,
    pub(super) durability: Durability,
}

/// What became of a write.
pub(super) struct Written {
    pub(super) stored: usize,
    /// How many there were. Without any, the client has made a mistake, except in InfluxDB 1.
    pub(super) lines: usize,
    pub(super) refused: Vec<RefusedLine>,
    refused_count: usize,
    /// The first column that was given another kind than it has, and how many lines were refused for that.
    pub(super) conflict: Option<(KindConflict, usize)>,
}

/// `POST /api/v3/write_lp?db=&precision=&accept_partial=&no_sync=`.
pub(super) async fn v3(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let database = parameters.get("db").ok_or_else(|| Error::invalid("missing query parameter 'db'"))?;
    let request = WriteRequest {
        database: database_name(database)?,
        precision: parameters.precision(Precision::Auto)?,
        accept_partial: parameters.flag("accept_partial", true)?,
        durability: if parameters.flag("no_sync", false)? { Durability::Unsynced } else { Durability::Synced },
    };
    let accept_partial = request.accept_partial;
    let written = some(receive(&services, &principal, request, &headers, body).await?)?;
    Ok(answer_v3(&written, accept_partial))
}

/// `POST /api/v2/write?bucket=&precision=`; all lines or none, as that version's clients expect.
pub(super) async fn v2(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let parameters = Parameters::parse(query.as_deref());
    let request = async {
        let bucket = match parameters.get("bucket") {
            None | Some("") => return Err(Error::invalid("missing bucket value")),
            Some(bucket) => bucket,
        };
        let request = WriteRequest {
            database: database_name(bucket)?,
            precision: parameters.precision(Precision::Nanosecond)?,
            accept_partial: false,
            durability: Durability::Synced,
        };
        some(receive(&services, &principal, request, &headers, body).await?)
    };
    match request.await {
        Ok(written) => match refusal(&written) {
            None => no_content(),
            Some(text) => v2_error(StatusCode::BAD_REQUEST, &text),
        },
        Err(error) => status::with_retry_after(v2_error(status::http(error.kind()), &error.report()), &error),
    }
}

/// Reads, parses and stores; the lines that were refused come back with their reasons.
pub(super) async fn receive(
    services: &Services,
    principal: &Principal,
    request: WriteRequest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Written> {
    let tables = principal.require_tables(Action::Write, &request.database)?;
    if !services.engine.database_exists(&request.database) {
        principal.require(Action::Create, &request.database)?;
    }
    // Held until the rows are stored: bounds the memory of bodies and of the columns made from them.
    let _slot = services.write_slots.acquire().await.map_err(|_| Error::internal("write slots were closed"))?;
    let body = Bytes::from(body::read(headers, body, services.settings.request_bytes_max).await?);
    services.limits.write(&principal.asker(), body.len())?;
    let may_write = |table: &str| match tables.contains(table) {
        true => Ok(()),
        false => principal.require_on_table(Action::Write, &request.database, table),
    };
    let written = store(&services.engine, services, &request, &body, may_write).await?;
    services.limits.wrote(&principal.asker(), written.lines);
    services.telemetry.write(
        request.database.as_str(),
        written.stored as u64,
        written.refused_count as u64,
        body.len() as u64,
    );
    Ok(written)
}

/// # Errors
/// `Invalid` if there was no line.
fn some(written: Written) -> Result<Written> {
    match written.lines {
        0 => Err(Error::invalid("incoming write was empty")),
        _ => Ok(written),
    }
}

/// Parses against the schema and stores; again if another write changed the schema in between.
async fn store(
    engine: &Engine,
    services: &Services,
    request: &WriteRequest,
    body: &Bytes,
    may_write: impl Fn(&str) -> Result<()>,
) -> Result<Written> {
    let mut attempt = 0;
    loop {
        let parsed = parse_body(engine, services, request, body).await?;
        let Parsed { rows, accepted, refused, refused_count, conflict, conflict_count, lines } = parsed;
        rows.tables.iter().try_for_each(|rows| may_write(rows.table.as_str()))?;
        let conflict = conflict.map(|conflict| (conflict, conflict_count));
        let written = Written { stored: accepted, lines, refused, refused_count, conflict };
        if rows.is_empty() {
            return Ok(written);
        }
        match engine.write(&request.database, rows, request.durability).await {
            Ok(_) => return Ok(written),
            Err(error) if error.kind() == ErrorKind::Conflict && attempt + 1 < ATTEMPTS_MAX => attempt += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let message = "the schema kept changing during the write; try again";
                return Err(Error::with_source(ErrorKind::Unavailable, message, error));
            }
            Err(error) => return Err(error),
        }
    }
}

async fn parse_body(engine: &Engine, services: &Services, request: &WriteRequest, body: &Bytes) -> Result<Parsed> {
    let options = Options {
        precision: request.precision,
        default_time: request.precision.truncate(services.clock.now()),
        accept_partial: request.accept_partial,
        columns_per_table_max: engine.columns_per_table_max(),
        new_tables_max: engine.new_tables_max(),
    };
    let schemas = Known(engine.schemas(&request.database));
    if body.len() <= PARSE_INLINE_BYTES {
        return Ok(parse(body, &schemas, &options));
    }
    let body = body.clone();
    tokio::task::spawn_blocking(move || parse(&body, &schemas, &options))
        .await
        .map_err(|error| Error::with_source(ErrorKind::Internal, "parsing was cut off", error))
}

/// The engine's tables as the parser asks for them.
struct Known(DatabaseSchemas);

impl Schemas for Known {
    fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.0.table(name)
    }
}

fn answer_v3(written: &Written, accept_partial: bool) -> Response {
    if written.refused_count == 0 {
        return no_content();
    }
    let lines: Vec<_> = written.refused.iter().map(refused_line).collect();
    let past_limit = |line: &RefusedLine| line.message.starts_with("Update to schema would exceed number of");
    let code = match written.refused.iter().any(past_limit) {
        true => StatusCode::UNPROCESSABLE_ENTITY,
        false => StatusCode::BAD_REQUEST,
    };
    let mut body = match accept_partial {
        true => json!({ "error": "partial write of line protocol occurred", "data": lines }),
        // The text and shape that influxdb3-python knows for a write of which nothing was stored.
        false => json!({ "error": "parsing failed for write_lp endpoint", "data": lines.first() }),
    };
    if written.refused_count > written.refused.len() {
        body["refused_lines"] = written.refused_count.into();
    }
    status::response(code, &body)
}

fn refused_line(line: &RefusedLine) -> serde_json::Value {
    json!({ "error_message": line.message, "line_number": line.line_number, "original_line": line.original_line })
}

/// The first refused line as one sentence.
fn refusal(written: &Written) -> Option<String> {
    let line = written.refused.first()?;
    Some(format!("line {}: {}: {}", line.line_number, line.message, line.original_line))
}

fn v2_error(status: StatusCode, message: &str) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not found",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        status if status.is_server_error() => "internal error",
        _ => "invalid",
    };
    status::response(status, &json!({ "code": code, "message": message }))
}

pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
