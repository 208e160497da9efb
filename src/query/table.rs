//! A table as DataFusion plans it.
//!
//! The table itself holds no rows, so that a plan of it may outlive a write. What a query sees is taken
//! from [`QuerySnapshots`], which keeps one [`TableSnapshot`] for each table and query: a self-join, or two
//! subqueries on one table, see the same instant.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{internal_datafusion_err, plan_datafusion_err};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use super::scan::{self, FileAccess};
use crate::engine::{Engine, TableSnapshot};
use crate::model::{CacheDefinition, CacheKind, DatabaseName, TableSchema};

/// The tables of one query at the instant in which it first looked. Lives in the session's config.
#[derive(Debug, Default)]
pub(super) struct QuerySnapshots {
    tables: Mutex<HashMap<(DatabaseName, String), Arc<TableSnapshot>>>,
}

impl QuerySnapshots {
    fn table(&self, engine: &Engine, database: &DatabaseName, name: &str) -> Option<Arc<TableSnapshot>> {
        let key = (database.clone(), name.to_owned());
        let mut tables = self.tables.lock();
        if let Some(snapshot) = tables.get(&key) {
            return Some(Arc::clone(snapshot));
        }
        let snapshot = engine.snapshot(database, name)?;
        tables.insert(key, Arc::clone(&snapshot));
        Some(snapshot)
    }
}

/// A table of a database.
#[derive(Debug, Clone)]
pub(super) struct Table {
    engine: Arc<Engine>,
    database: DatabaseName,
    name: String,
    schema: Arc<TableSchema>,
}

impl Table {
    pub(super) fn new(engine: Arc<Engine>, database: DatabaseName, name: &str, schema: Arc<TableSchema>) -> Self {
        Self { engine, database, name: name.to_owned(), schema }
    }

    /// The columns that were planned with.
    pub(super) fn columns(&self) -> &TableSchema {
        &self.schema
    }

    /// Its caches of this kind.
    pub(super) fn caches(&self, kind: CacheKind) -> Vec<Arc<CacheDefinition>> {
        self.engine.caches_of(&self.database, &self.name, kind)
    }

    /// Notes that a cache could not answer.
    pub(super) fn missed(&self, snapshot: &TableSnapshot, cache: &CacheDefinition) {
        self.engine.cache_missed(snapshot.id, cache);
    }

    /// The rows that this query sees, with all the columns that were planned with.
    pub(super) fn snapshot(&self, state: &dyn Session) -> DataFusionResult<Arc<TableSnapshot>> {
        let snapshots = state
            .config()
            .get_extension::<QuerySnapshots>()
            .ok_or_else(|| internal_datafusion_err!("a session without snapshots"))?;
        let snapshot = snapshots
            .table(&self.engine, &self.database, &self.name)
            .ok_or_else(|| plan_datafusion_err!("table '{}' was deleted, plan the query again", self.name))?;
        // Columns are only ever added, so a snapshot that lacks one belongs to another table of this name.
        let same_table =
            self.schema.columns().all(|column| snapshot.schema.kind(column.name.as_str()) == Some(column.kind));
        if !same_table {
            return Err(plan_datafusion_err!("table '{}' was replaced, plan the query again", self.name));
        }
        Ok(snapshot)
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.arrow())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>, // reaches the leaves by DataFusion's own rule, where it is right below filters too
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let access = FileAccess::of(state)?;
        let snapshot = self.snapshot(state)?;
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.arrow().project(columns)?),
            None => Arc::clone(self.schema.arrow()),
        };
        scan::plan(state, &access, &snapshot, &schema, filters)
    }

    /// Filters choose what is read; whether a row passes is decided above, or by the reader if it says so.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
