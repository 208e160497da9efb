//! Databases and tables: which there are, delete, bring back.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::encode::{self, Format};
use super::json::Json;
use super::parameters::{Parameters, database_name, table_name};
use crate::engine::HardDelete;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, Timestamp};
use crate::server::Services;
use crate::server::auth::Principal;

#[derive(Deserialize)]
pub(super) struct UndeleteDatabase {
    db: String,
    name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct UndeleteTable {
    db: String,
    table: String,
    name: Option<String>,
}

/// `GET /api/v3/configure/database?format=&show_deleted=`: one row per database in the column `iox::database`. With the
/// deleted ones also `deleted` and `hard_deletion_time`.
pub(super) async fn show_databases(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let format = Format::choose(parameters.get("format"), &headers)?;
    let mut names = services.engine.databases();
    names.retain(|name| principal.rights().see(name));
    let live = names.len();
    let deleted = match parameters.flag("show_deleted", false)? {
        // They have names that nobody was given a right to.
        true if principal.rights().allow_everything() => Some(services.engine.deleted_databases()),
        true => Some(Vec::new()),
        false => None,
    };
    let aside = || deleted.as_deref().unwrap_or_default().iter();
    let all = names.iter().map(|name| name.as_str()).chain(aside().map(|deletion| deletion.name.as_str()));
    let mut columns: Vec<(&str, ArrayRef)> = vec![("iox::database", Arc::new(StringArray::from_iter_values(all)))];
    if deleted.is_some() {
        let is_deleted = std::iter::repeat_n(false, live).chain(aside().map(|_| true));
        let times = aside().map(|deletion| deletion.hard_delete_at.map(Timestamp::as_nanos));
        let times: TimestampNanosecondArray = std::iter::repeat_n(None, live).chain(times).collect();
        columns.push(("deleted", Arc::new(BooleanArray::from_iter(is_deleted.map(Some)))));
        columns.push(("hard_deletion_time", Arc::new(times)));
    }
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), column.is_nullable());
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not list databases", error))?;
    encode::respond_with(format, &schema, &[batch])
}

/// `DELETE /api/v3/configure/database?db=&hard_delete_at=`.
pub(super) async fn delete_database(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let name = database_name(parameters.required("db")?)?;
    principal.require(Action::Delete, &name)?;
    services.engine.delete_database(&name, hard_delete(&parameters)?).await?;
    Ok(StatusCode::OK.into_response())
}

/// `DELETE /api/v3/configure/table?db=&table=&hard_delete_at=`.
pub(super) async fn delete_table(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let database = database_name(parameters.required("db")?)?;
    let table = table_name(parameters.required("table")?)?;
    principal.require_on_table(Action::Delete, &database, table.as_str())?;
    services.engine.delete_table(&database, &table, hard_delete(&parameters)?).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v3/configure/database/undelete` with `{"db","name"}`: `db` is the name since the deletion, or the one before if
/// only one deleted database had it; `name` a new one. Answers `{"db"}`, the name that it has now.
pub(super) async fn undelete_database(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<UndeleteDatabase>,
) -> Result<Response> {
    // Which database it was, and so whose, is known only afterwards.
    principal.require_everything("bring back a database")?;
    let new_name = request.name.as_deref().map(database_name).transpose()?;
    let name = services.engine.undelete_database(&request.db, new_name.as_ref()).await?;
    Ok(axum::Json(json!({ "db": name.as_str() })).into_response())
}

/// `POST /api/v3/configure/table/undelete` with `{"db","table","name"}`, as with databases. Answers `{"db","table"}`.
pub(super) async fn undelete_table(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<UndeleteTable>,
) -> Result<Response> {
    let database = database_name(&request.db)?;
    principal.require(Action::Delete, &database)?;
    let new_name = request.name.as_deref().map(table_name).transpose()?;
    let name = services.engine.undelete_table(&database, &request.table, new_name.as_ref()).await?;
    Ok(axum::Json(json!({ "db": database.as_str(), "table": name.as_str() })).into_response())
}

/// When what is deleted goes for good, in the words of InfluxDB 3.
fn hard_delete(parameters: &Parameters) -> Result<HardDelete> {
    match parameters.get("hard_delete_at") {
        None | Some("" | "default") => Ok(HardDelete::Default),
        Some("now") => Ok(HardDelete::Now),
        Some("never") => Ok(HardDelete::Never),
        Some(text) => {
            let moment = DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
            let message = || {
                format!("hard_delete_at '{text}' is none of never, now, default or a time such as 2024-01-31T00:00:00Z")
            };
            moment.map(|nanos| HardDelete::At(Timestamp::from_nanos(nanos))).ok_or_else(|| Error::invalid(message()))
        }
    }
}
