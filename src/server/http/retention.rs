//! How long rows are seen after their time: set and cleared, for a database or a table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::admin::{json_body, refuse_other_than_json, required, table_name};
use super::parameters::{Parameters, database_name};
use crate::config::values;
use crate::error::{Error, Result};
use crate::server::Services;

#[derive(Deserialize)]
struct UpdateDatabase {
    db: String,
    retention_period: Option<String>,
}

#[derive(Deserialize)]
struct UpdateTable {
    db: String,
    table: String,
    retention_period: Option<String>,
}

/// `PUT /api/v3/configure/database` with `{"db","retention_period"}`; null: for ever.
pub(super) async fn update_database(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    if let Some(refusal) = refuse_other_than_json(&headers) {
        return Ok(refusal);
    }
    let request: UpdateDatabase = json_body(&body)?;
    let period = request.retention_period.as_deref().map(period).transpose()?;
    services.engine.set_retention(&database_name(&request.db)?, None, period).await?;
    Ok(StatusCode::OK.into_response())
}

/// `PUT /api/v3/configure/table` with `{"db","table","retention_period"}`; null: as long as the database says.
pub(super) async fn update_table(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    if let Some(refusal) = refuse_other_than_json(&headers) {
        return Ok(refusal);
    }
    let request: UpdateTable = json_body(&body)?;
    let period = request.retention_period.as_deref().map(period).transpose()?;
    let (database, table) = (database_name(&request.db)?, table_name(&request.table)?);
    services.engine.set_retention(&database, Some(&table), period).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v3/configure/database/retention_period?db=&duration=`.
pub(super) async fn set(State(services): State<Arc<Services>>, RawQuery(query): RawQuery) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let period = period(required(&parameters, "duration")?)?;
    services.engine.set_retention(&database_name(required(&parameters, "db")?)?, None, Some(period)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE /api/v3/configure/database/retention_period?db=`.
pub(super) async fn clear(State(services): State<Arc<Services>>, RawQuery(query): RawQuery) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    services.engine.set_retention(&database_name(required(&parameters, "db")?)?, None, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Such as `7d` or `1h 30m`.
pub(super) fn period(text: &str) -> Result<Duration> {
    match values::duration(text) {
        Some(period) if period > Duration::ZERO => Ok(period),
        _ => {
            let message = format!("retention period '{text}' is none; use a length of time such as 7d or 1h 30m");
            Err(Error::invalid(message))
        }
    }
}
