//! Caches of last and distinct values: made and deleted.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::json::{self, Json};
use super::parameters::{Parameters, database_name, table_name};
use crate::error::{Error, Result};
use crate::model::{
    Action, CacheDefinition, CacheKind, CacheShape, ColumnName, DatabaseName, Newest, TableName, TableSchema,
};
use crate::server::Services;
use crate::server::auth::Principal;
use crate::server::status;

/// As many combinations as InfluxDB 3 keeps.
const CARDINALITY_MAX_DEFAULT: u32 = 100_000;

#[derive(Deserialize)]
pub(super) struct CreateLastCache {
    db: String,
    table: String,
    name: Option<String>,
    key_columns: Option<Vec<String>>,
    value_columns: Option<Vec<String>>,
    count: Option<u32>,
    /// In seconds.
    ttl: Option<u64>,
    per_field: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct CreateDistinctCache {
    db: String,
    table: String,
    name: Option<String>,
    columns: Vec<String>,
    max_cardinality: Option<u32>,
    /// In seconds.
    max_age: Option<u64>,
}

#[derive(Deserialize)]
struct DeleteCache {
    db: String,
    table: String,
    name: String,
}

/// `POST /api/v3/configure/last_cache` with `{"db","table","name","key_columns","value_columns","count","ttl","per_field"}`, the last six
/// not needed. Without a `ttl` nothing grows too old; `per_field` is no `count` of points but one row with each column's newest value.
pub(super) async fn create_last_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateLastCache>,
) -> Result<Response> {
    let CreateLastCache { db, table, name, key_columns, value_columns, count, ttl, per_field } = request;
    let newest = match (per_field.unwrap_or(false), count) {
        (false, count) => Newest::Points(count.unwrap_or(1)),
        (true, None | Some(1)) => Newest::Values,
        (true, Some(_)) => {
            return Err(Error::invalid("a last cache per field has one row of each key: leave \"count\" out"));
        }
    };
    let shape = CacheShape::Last {
        keys: key_columns.as_deref().map(columns).transpose()?,
        values: value_columns.as_deref().map(value_columns_of).transpose()?,
        newest,
        ttl: ttl.map(Duration::from_secs),
    };
    create(&services, &principal, &db, &table, name, shape).await
}

/// `POST /api/v3/configure/distinct_cache` with `{"db","table","name","columns","max_cardinality","max_age"}`; name and limits are
/// not needed. Without a `max_age` nothing grows too old.
pub(super) async fn create_distinct_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateDistinctCache>,
) -> Result<Response> {
    let CreateDistinctCache { db, table, name, columns: wanted, max_cardinality, max_age } = request;
    let shape = CacheShape::Distinct {
        columns: columns(&wanted)?,
        cardinality_max: max_cardinality.unwrap_or(CARDINALITY_MAX_DEFAULT),
        age_max: max_age.map(Duration::from_secs),
    };
    create(&services, &principal, &db, &table, name, shape).await
}

/// `DELETE /api/v3/configure/last_cache?db=&table=&name=`, or the same as JSON.
pub(super) async fn delete_last_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response> {
    delete(&services, &principal, CacheKind::Last, query.as_deref(), &body).await
}

/// `DELETE /api/v3/configure/distinct_cache?db=&table=&name=`, or the same as JSON.
pub(super) async fn delete_distinct_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response> {
    delete(&services, &principal, CacheKind::Distinct, query.as_deref(), &body).await
}

async fn create(
    services: &Services,
    principal: &Principal,
    database: &str,
    table: &str,
    name: Option<String>,
    shape: CacheShape,
) -> Result<Response> {
    let (database, table) = (database_name(database)?, table_name(table)?);
    principal.require(Action::Admin, &database)?;
    let schema = services.engine.table_schema(&database, table.as_str());
    let schema = schema.ok_or_else(|| Error::not_found(format!("table not found: {table}")))?;
    let mut cache = CacheDefinition { name: String::new(), shape };
    cache.name = name.unwrap_or_else(|| usual_name(&table, &cache, &schema));
    let made = description(&database, &table, &cache, &schema);
    services.engine.create_cache(&database, &table, cache).await?;
    Ok(status::response(StatusCode::CREATED, &made))
}

async fn delete(
    services: &Services,
    principal: &Principal,
    kind: CacheKind,
    query: Option<&str>,
    body: &[u8],
) -> Result<Response> {
    let DeleteCache { db, table, name } = match query {
        None if !body.is_empty() => json::parse(body)?,
        query => {
            let parameters = Parameters::parse(query);
            let required = |name: &str| parameters.required(name).map(str::to_owned);
            DeleteCache { db: required("db")?, table: required("table")?, name: required("name")? }
        }
    };
    let (database, table) = (database_name(&db)?, table_name(&table)?);
    principal.require(Action::Admin, &database)?;
    services.engine.delete_cache(&database, &table, kind, &name).await?;
    Ok(StatusCode::OK.into_response())
}

fn columns(names: &[String]) -> Result<Vec<ColumnName>> {
    names.iter().map(|name| ColumnName::new(name).map_err(|error| Error::invalid(error.to_string()))).collect()
}

/// The time is always there, so that naming it is no mistake.
fn value_columns_of(names: &[String]) -> Result<Vec<ColumnName>> {
    let others: Vec<String> = names.iter().filter(|name| *name != crate::model::TIME_COLUMN).cloned().collect();
    columns(&others)
}

/// `cpu_host_last_cache`
fn usual_name(table: &TableName, cache: &CacheDefinition, schema: &TableSchema) -> String {
    let mut parts = vec![table.to_string()];
    match &cache.shape {
        CacheShape::Last { .. } => parts.extend(cache.keys(schema).iter().map(ToString::to_string)),
        CacheShape::Distinct { columns, .. } => parts.extend(columns.iter().map(ToString::to_string)),
    }
    let kind = match cache.kind() {
        CacheKind::Last => "last_cache",
        CacheKind::Distinct => "distinct_cache",
    };
    parts.push(kind.to_owned());
    parts.join("_")
}

fn description(
    database: &DatabaseName,
    table: &TableName,
    cache: &CacheDefinition,
    schema: &TableSchema,
) -> serde_json::Value {
    let names = |names: &[ColumnName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let seconds = cache.age_max().map(|age| age.as_secs());
    match &cache.shape {
        CacheShape::Last { values, .. } => json!({
            "db": database.as_str(), "table": table.as_str(), "name": cache.name, "key_columns": names(&cache.keys(schema)),
            "value_columns": values.as_deref().map(names), "count": cache.rows_per_key(), "ttl": seconds,
            "per_field": cache.is_of_values(),
        }),
        CacheShape::Distinct { columns, cardinality_max, .. } => json!({
            "db": database.as_str(), "table": table.as_str(), "name": cache.name, "columns": names(columns),
            "max_cardinality": cardinality_max, "max_age": seconds,
        }),
    }
}
