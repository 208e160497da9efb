//! A cache as a table: which rows are wanted of it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

use super::exec::{CacheExec, Source, Wanted};
use super::lookups::{is_lookup, lookup};
use crate::engine::caches::{Lookup, answer_schema};
use crate::engine::{Engine, TableSnapshot};
use crate::model::{CacheDefinition, CacheKind, ColumnName, DatabaseName, TIME_COLUMN, TableSchema};
use crate::query::scan::{self, FileAccess};
use crate::query::table::Table;

/// A cache of a table of a database.
///
/// The rows of a distinct cache are the distinct combinations of the columns that a query names outside of its filters:
/// `SELECT region FROM distinct_cache('cpu') WHERE host LIKE 'web%'` has each region once.
#[derive(Debug)]
pub(in crate::query) struct CacheTable {
    engine: Arc<Engine>,
    database: DatabaseName,
    name: String,
    table: Table,
    columns: Arc<TableSchema>,
    definition: Arc<CacheDefinition>,
    /// Those of the table among which it was chosen.
    all: Vec<Arc<CacheDefinition>>,
    schema: SchemaRef,
}

impl CacheTable {
    pub(super) fn new(
        engine: Arc<Engine>,
        database: DatabaseName,
        name: &str,
        columns: Arc<TableSchema>,
        definition: Arc<CacheDefinition>,
        all: Vec<Arc<CacheDefinition>>,
    ) -> Self {
        let table = Table::new(Arc::clone(&engine), database.clone(), name, Arc::clone(&columns));
        let schema = answer_schema(&definition, &columns);
        Self { engine, database, name: name.to_owned(), table, columns, definition, all, schema }
    }

    /// The table that it is a cache of.
    pub(in crate::query) fn table_name(&self) -> &str {
        &self.name
    }

    /// The columns that the table had when the cache was looked up.
    pub(in crate::query) fn columns(&self) -> &Arc<TableSchema> {
        &self.columns
    }

    /// Whether the same name would mean the same cache now.
    pub(in crate::query) fn is_unchanged(&self) -> bool {
        self.engine.caches_of(&self.database, &self.name, self.definition.kind()) == self.all
    }

    /// Whether it is known to bring so few rows.
    ///
    /// # Errors
    /// If the table is gone.
    pub(in crate::query) fn has_at_most(&self, rows_max: u64, session: &dyn Session) -> DataFusionResult<bool> {
        let rows = self.table.snapshot(session)?.cached_rows_at_most(&self.definition);
        Ok(rows.is_some_and(|rows| rows as u64 <= rows_max))
    }

    fn keys(&self) -> Vec<ColumnName> {
        self.definition.keys(&self.columns)
    }

    fn lookup(&self, filter: &Expr) -> Option<Lookup> {
        lookup(filter, &self.keys(), &self.columns)
    }
}

/// The rows of a table that may count for a cache: those that pass `filters`, which look at the key only, and are young enough.
/// They have the columns that the cache keeps.
pub(super) fn plan_of_table(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    definition: &CacheDefinition,
    filters: &[Expr],
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let access = FileAccess::of(state)?;
    let kept = definition.kept(&snapshot.schema);
    let mut filters = filters.to_vec();
    if let Some(from) = snapshot.cache_from(definition) {
        let from = ScalarValue::TimestampNanosecond(Some(from.as_nanos()), None);
        filters.push(col(Column::new_unqualified(TIME_COLUMN)).gt_eq(lit(from)));
    }
    let plan = scan::plan(state, &access, snapshot, kept.arrow(), &filters)?;
    match scan::physical(state, kept.arrow(), filters)? {
        Some(predicate) => Ok(Arc::new(FilterExec::try_new(predicate, plan)?)),
        None => Ok(plan),
    }
}

#[async_trait]
impl TableProvider for CacheTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let snapshot = self.table.snapshot(state)?;
        let filters: Vec<Expr> = filters.iter().map(unqualified).collect::<DataFusionResult<_>>()?;
        let (mut lookups, mut others) = (Vec::new(), Vec::new());
        for filter in &filters {
            match self.lookup(filter) {
                Some(lookup) => lookups.push(lookup),
                None => others.push(filter.clone()),
            }
        }
        let (source, left) = match snapshot.cached(&self.definition, &lookups).map_err(scan::from_engine)? {
            Some(rows) => (Source::Kept(rows), others),
            None => {
                self.engine.cache_missed(snapshot.id, &self.definition);
                // Last values take no other filters than look-ups; which combinations are among the newest can't be told from some of them.
                let pushed = match self.definition.kind() {
                    CacheKind::Last => filters.as_slice(),
                    CacheKind::Distinct => &[],
                };
                (Source::Table(plan_of_table(state, &snapshot, &self.definition, pushed)?), filters)
            }
        };
        let wanted = Wanted::new(
            Arc::clone(&self.schema),
            scan::physical(state, &self.schema, left)?,
            projection.cloned(),
            self.definition.kind() == CacheKind::Distinct,
            limit,
        )?;
        let (definition, columns) = (Arc::clone(&self.definition), Arc::clone(&snapshot.schema));
        Ok(Arc::new(CacheExec::new(&self.name, definition, columns, lookups, wanted, source)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let can_be_decided_here = |filter: &&Expr| match self.definition.kind() {
            CacheKind::Last => is_lookup(filter, &self.keys(), &self.columns),
            CacheKind::Distinct => scan::speaks_of_rows(filter),
        };
        let support = |filter| match can_be_decided_here(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }
}

/// A filter in terms of the cache's own columns, whatever the query calls the cache.
fn unqualified(filter: &Expr) -> DataFusionResult<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let strip = |expr: Expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    };
    filter.clone().transform(strip).map(|transformed| transformed.data)
}
