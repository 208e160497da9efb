//! Caches of tables, for tests: made from JSON, and waited for.

use std::time::Duration;

use flightline::model::{CacheDefinition, CacheShape, ColumnName, DatabaseName, Newest, TableName};
use serde_json::Value;

use super::database::{DATABASE, TestDatabase};

fn names(value: &Value) -> Option<Vec<ColumnName>> {
    let names = value.as_array()?;
    Some(names.iter().map(|name| ColumnName::new(name.as_str().unwrap()).unwrap()).collect())
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|number| u32::try_from(number).unwrap())
}

/// A cache from the fields of the HTTP interface: one of distinct values if it has `columns`.
pub fn cache(json: &Value) -> CacheDefinition {
    let name = json["name"].as_str().unwrap_or("c").to_owned();
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    let shape = match names(&json["columns"]) {
        Some(columns) => CacheShape::Distinct {
            columns,
            cardinality_max: number(&json["max_cardinality"]).unwrap_or(100_000),
            age_max: seconds(&json["max_age"]),
        },
        None => CacheShape::Last {
            keys: names(&json["key_columns"]),
            values: names(&json["value_columns"]),
            newest: match json["per_field"].as_bool() {
                Some(true) => Newest::Values,
                _ => Newest::Points(number(&json["count"]).unwrap_or(1)),
            },
            ttl: seconds(&json["ttl"]),
        },
    };
    CacheDefinition { name, shape }
}

impl TestDatabase {
    /// Makes a cache of a table.
    pub async fn create_cache(&self, table: &str, json: &Value) -> flightline::error::Result<()> {
        let (database, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new(table).unwrap());
        self.engine().create_cache(&database, &table, cache(json)).await
    }

    /// Waits until every cache that follows the writes answers.
    pub async fn wait_for_caches(&self) {
        let sql = "SELECT \"table\", name FROM system.last_caches WHERE state <> 'ready' \
                   UNION ALL SELECT \"table\", name FROM system.distinct_caches WHERE state <> 'ready'";
        for _ in 0..1000 {
            if self.rows(sql).await.unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("caches were not filled: {:?}", self.rows(sql).await.unwrap());
    }
}
