//! Caches of last and distinct values as requests name them: made and deleted, over HTTP and Flight alike.
//!
//! Not here: how a request comes (`http::caches`, `flight::actions`), and what a cache is (`engine::caches`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Principal;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{
    Action, CacheDefinition, CacheKind, CacheShape, ColumnName, DatabaseName, Newest, TIME_COLUMN, TableName,
    TableSchema,
};

/// As many combinations as InfluxDB 3 keeps.
const CARDINALITY_MAX_DEFAULT: u32 = 100_000;

/// A last cache that is asked for. Of its parts only `db` and `table` are needed; without a `ttl` nothing grows too old, and `per_field`
/// is no `count` of points but one row with each column's newest value.
#[derive(Deserialize)]
pub(super) struct NewLastCache {
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

/// A distinct cache that is asked for. Name and limits are not needed; without a `max_age` nothing grows too old.
#[derive(Deserialize)]
pub(super) struct NewDistinctCache {
    db: String,
    table: String,
    name: Option<String>,
    columns: Vec<String>,
    max_cardinality: Option<u32>,
    /// In seconds.
    max_age: Option<u64>,
}

/// Which cache is meant.
#[derive(Deserialize)]
pub(super) struct NamedCache {
    pub(super) db: String,
    pub(super) table: String,
    pub(super) name: String,
}

impl NewLastCache {
    /// Makes it, and says what was made.
    ///
    /// # Errors
    /// `Forbidden`, and those of [`Engine::create_cache`].
    pub(super) async fn create(self, engine: &Engine, principal: &Principal) -> Result<Value> {
        let Self { db, table, name, key_columns, value_columns, count, ttl, per_field } = self;
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
        create(engine, principal, &db, &table, name, shape).await
    }
}

impl NewDistinctCache {
    /// Makes it, and says what was made.
    ///
    /// # Errors
    /// `Forbidden`, and those of [`Engine::create_cache`].
    pub(super) async fn create(self, engine: &Engine, principal: &Principal) -> Result<Value> {
        let Self { db, table, name, columns: wanted, max_cardinality, max_age } = self;
        let shape = CacheShape::Distinct {
            columns: columns(&wanted)?,
            cardinality_max: max_cardinality.unwrap_or(CARDINALITY_MAX_DEFAULT),
            age_max: max_age.map(Duration::from_secs),
        };
        create(engine, principal, &db, &table, name, shape).await
    }
}

impl NamedCache {
    /// Deletes it.
    ///
    /// # Errors
    /// `Forbidden`, and those of [`Engine::delete_cache`].
    pub(super) async fn delete(self, kind: CacheKind, engine: &Engine, principal: &Principal) -> Result<()> {
        let (database, table) = names(&self.db, &self.table)?;
        principal.require(Action::Admin, &database)?;
        engine.delete_cache(&database, &table, kind, &self.name).await
    }
}

async fn create(
    engine: &Engine,
    principal: &Principal,
    database: &str,
    table: &str,
    name: Option<String>,
    shape: CacheShape,
) -> Result<Value> {
    let (database, table) = names(database, table)?;
    principal.require(Action::Admin, &database)?;
    let schema = engine.table_schema(&database, table.as_str());
    let schema = schema.ok_or_else(|| Error::not_found(format!("table not found: {table}")))?;
    let mut cache = CacheDefinition { name: String::new(), shape };
    cache.name = name.unwrap_or_else(|| usual_name(&table, &cache, &schema));
    let made = description(&database, &table, &cache, &schema);
    engine.create_cache(&database, &table, cache).await?;
    Ok(made)
}

fn names(database: &str, table: &str) -> Result<(DatabaseName, TableName)> {
    let database = DatabaseName::new(database).map_err(|error| Error::invalid(error.to_string()))?;
    let table = TableName::new(table).map_err(|error| Error::invalid(error.to_string()))?;
    Ok((database, table))
}

fn columns(names: &[String]) -> Result<Vec<ColumnName>> {
    names.iter().map(|name| ColumnName::new(name).map_err(|error| Error::invalid(error.to_string()))).collect()
}

/// The time is always there, so that naming it is no mistake.
fn value_columns_of(names: &[String]) -> Result<Vec<ColumnName>> {
    let others: Vec<String> = names.iter().filter(|name| *name != TIME_COLUMN).cloned().collect();
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

fn description(database: &DatabaseName, table: &TableName, cache: &CacheDefinition, schema: &TableSchema) -> Value {
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
