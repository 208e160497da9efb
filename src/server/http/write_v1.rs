//! `/write` as InfluxDB 1 has it: good lines are stored whatever stands beside them, and errors have the words that clients look for.
//!
//! Telegraf and client libraries drop what can never be written and repeat the rest by `unable to parse`, `partial write`,
//! `field type conflict` and `retention policy not found`. Behind `unable to parse '…':` stands our own reason.
//!
//! A database that is new is made, as for all other writes; InfluxDB 1 wants it to be made first.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::compatible;
use super::parameters::{Parameters, database_name};
use super::write::{WriteRequest, Written, no_content, receive};
use crate::engine::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ColumnKind, DatabaseName, FieldType, Precision};
use crate::server::auth::Principal;
use crate::server::{Services, status};
use crate::syntax::line_protocol::{KindConflict, RefusedLine};

/// `POST /write?db=&rp=&precision=&consistency=`.
pub(super) async fn write(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let written = async {
        let request = request(&services, &principal, &Parameters::parse(query.as_deref()))?;
        receive(&services, &principal, request, &headers, body).await
    };
    let (mut response, text) = match written.await {
        Ok(written) => match refusal(&written) {
            None => (no_content(), None),
            Some(text) => (status::response(StatusCode::BAD_REQUEST, &json!({ "error": text })), Some(text)),
        },
        Err(error) => {
            let text = error.report();
            (error.into_response(), Some(text))
        }
    };
    if let Some(text) = text {
        compatible::add_error(&mut response, &text);
    }
    compatible::add_version(response.headers_mut());
    response
}

fn request(services: &Services, principal: &Principal, parameters: &Parameters) -> Result<WriteRequest> {
    let database = match parameters.get("db") {
        None | Some("") => return Err(Error::invalid("database is required")),
        Some(database) => database_name(database)?,
    };
    // There is one copy of the log, or the store's: each level is the highest one.
    let consistency = parameters.get("consistency").unwrap_or_default().to_lowercase();
    if !matches!(consistency.as_str(), "" | "any" | "one" | "quorum" | "all") {
        return Err(Error::invalid("invalid consistency level"));
    }
    Ok(WriteRequest {
        precision: precision(parameters)?,
        database: policy(services, principal, database, parameters.get("rp"))?,
        accept_partial: true,
        durability: Durability::Synced,
    })
}

fn precision(parameters: &Parameters) -> Result<Precision> {
    match parameters.get("precision") {
        Some("m") => Ok(Precision::Minute),
        Some("h") => Ok(Precision::Hour),
        Some(text) => parameters
            .precision(Precision::Nanosecond)
            .map_err(|_| Error::invalid(format!("invalid precision \"{text}\" (use n, u, ms, s, m or h)"))),
        None => Ok(Precision::Nanosecond),
    }
}

/// The database that the retention policy is: the one of this name, or that which the database has as its default.
fn policy(
    services: &Services,
    principal: &Principal,
    database: DatabaseName,
    named: Option<&str>,
) -> Result<DatabaseName> {
    let own = |policy: &str| database.of_policy(policy).map_err(|error| Error::invalid(error.to_string()));
    if let Some(policy) = named.filter(|policy| !matches!(*policy, "" | "''" | "\"\"" | "default")) {
        return own(policy);
    }
    // What its default is may be known to who may know the database.
    let is_seen = principal.rights().see(&database);
    let Some(policy) = services.engine.default_policy(&database).filter(|_| is_seen) else { return Ok(database) };
    let own = own(&policy)?;
    if !principal.rights().see(&own) {
        let message = format!(
            "requestor is forbidden from requested resource: may not write to the default retention policy of database \"{database}\""
        );
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    match services.engine.database_exists(&own) {
        true => Ok(own),
        false => Err(Error::not_found(format!("retention policy not found: {policy}"))),
    }
}

/// Why not all lines were stored.
fn refusal(written: &Written) -> Option<String> {
    if let Some((KindConflict { table, column, expected, got }, dropped)) = &written.conflict {
        let (expected, got) = (kind(*expected), kind(*got));
        return Some(format!(
            "partial write: field type conflict: input field \"{column}\" on measurement \"{table}\" is type {got}, already exists \
             as type {expected} dropped={dropped}"
        ));
    }
    let unreadable = |line: &RefusedLine| format!("unable to parse '{}': {}", line.original_line, line.message);
    let lines: Vec<String> = written.refused.iter().map(unreadable).collect();
    let text = lines.join("\n");
    match (lines.is_empty(), written.stored) {
        (true, _) => None,
        (false, 0) => Some(text),
        // InfluxDB counts only points that it could read.
        (false, _) => Some(format!("partial write: {text} dropped=0")),
    }
}

fn kind(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Tag => "tag",
        ColumnKind::Field(FieldType::Float) => "float",
        ColumnKind::Field(FieldType::Integer) => "integer",
        ColumnKind::Field(FieldType::Unsigned) => "unsigned",
        ColumnKind::Field(FieldType::String) => "string",
        ColumnKind::Field(FieldType::Boolean) => "boolean",
    }
}
