//! Databases and tables: create.
//!
//! Not here: what exists and goes (`deletions`), how long rows are seen (`retention`).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;

use super::json::Json;
use super::parameters::{database_name, retention_period, table_name};
use crate::error::{Error, Result};
use crate::model::{Action, Column, ColumnKind, ColumnName, FieldType, TableSchema};
use crate::server::Services;
use crate::server::auth::Principal;

#[derive(Deserialize)]
pub(super) struct CreateDatabase {
    db: String,
    retention_period: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CreateTable {
    db: String,
    table: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    fields: Vec<CreateField>,
    retention_period: Option<String>,
}

#[derive(Deserialize)]
struct CreateField {
    name: String,
    r#type: String,
}

/// `POST /api/v3/configure/database` with `{"db","retention_period"}`.
pub(super) async fn create_database(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateDatabase>,
) -> Result<Response> {
    let database = database_name(&request.db)?;
    principal.require(Action::Create, &database)?;
    let period = request.retention_period.as_deref().map(retention_period).transpose()?;
    services.engine.create_database(&database, period).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v3/configure/table` with `{"db","table","tags","fields":[{"name","type"}],"retention_period"}`.
pub(super) async fn create_table(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateTable>,
) -> Result<Response> {
    let database = database_name(&request.db)?;
    principal.require(Action::Create, &database)?;
    let table = table_name(&request.table)?;
    let period = request.retention_period.as_deref().map(retention_period).transpose()?;
    services.engine.create_table(&database, &table, schema_of(&request)?, period).await?;
    Ok(StatusCode::OK.into_response())
}

/// The columns as asked for, each name once.
fn schema_of(request: &CreateTable) -> Result<TableSchema> {
    let name = |text: &str| ColumnName::new(text).map_err(|error| Error::invalid(error.to_string()));
    let mut columns = Vec::with_capacity(request.tags.len() + request.fields.len());
    for tag in &request.tags {
        columns.push(Column { name: name(tag)?, kind: ColumnKind::Tag });
    }
    for field in &request.fields {
        columns.push(Column { name: name(&field.name)?, kind: ColumnKind::Field(field_type(&field.r#type)?) });
    }
    let count = columns.len();
    let schema = TableSchema::new(columns);
    if schema.column_count() != count {
        return Err(Error::invalid("a column name occurs more than once"));
    }
    Ok(schema)
}

fn field_type(text: &str) -> Result<FieldType> {
    match text {
        "utf8" => Ok(FieldType::String),
        "int64" => Ok(FieldType::Integer),
        "uint64" => Ok(FieldType::Unsigned),
        "float64" => Ok(FieldType::Float),
        "bool" => Ok(FieldType::Boolean),
        other => {
            Err(Error::invalid(format!("field type '{other}' is unknown; use utf8, int64, uint64, float64 or bool")))
        }
    }
}
