//! How long rows are seen after their time: set and cleared, for a database or a table.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;

use super::json::Json;
use super::parameters::{Parameters, database_name, retention_period, table_name};
use crate::error::Result;
use crate::model::Action;
use crate::server::Services;
use crate::server::auth::Principal;

#[derive(Deserialize)]
pub(super) struct UpdateDatabase {
    db: String,
    retention_period: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct UpdateTable {
    db: String,
    table: String,
    retention_period: Option<String>,
}

/// `PUT /api/v3/configure/database` with `{"db","retention_period"}`; null: for ever.
pub(super) async fn update_database(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<UpdateDatabase>,
) -> Result<Response> {
    let period = request.retention_period.as_deref().map(retention_period).transpose()?;
    let database = database_name(&request.db)?;
    principal.require(Action::Admin, &database)?;
    services.engine.set_retention(&database, None, period).await?;
    Ok(StatusCode::OK.into_response())
}

/// `PUT /api/v3/configure/table` with `{"db","table","retention_period"}`; null: as long as the database says.
pub(super) async fn update_table(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<UpdateTable>,
) -> Result<Response> {
    let period = request.retention_period.as_deref().map(retention_period).transpose()?;
    let (database, table) = (database_name(&request.db)?, table_name(&request.table)?);
    principal.require(Action::Admin, &database)?;
    services.engine.set_retention(&database, Some(&table), period).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v3/configure/database/retention_period?db=&duration=`.
pub(super) async fn set(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let period = retention_period(parameters.required("duration")?)?;
    let database = database_name(parameters.required("db")?)?;
    principal.require(Action::Admin, &database)?;
    services.engine.set_retention(&database, None, Some(period)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `DELETE /api/v3/configure/database/retention_period?db=`.
pub(super) async fn clear(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let database = database_name(parameters.required("db")?)?;
    principal.require(Action::Admin, &database)?;
    services.engine.set_retention(&database, None, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
