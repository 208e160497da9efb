//! A table of which few rows are enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::question::Question;
use crate::engine::TableSnapshot;
use crate::model::{CacheDefinition, CacheKind, TIME_COLUMN, TableSchema};
use crate::query::caches::{CacheExec, Source, Wanted};
use crate::query::functions::present_columns;
use crate::query::scan::{self, Ends, FileAccess};
use crate::query::table::Table;

/// A table and what is asked of it. Like the table it holds no rows.
#[derive(Debug)]
pub(in crate::query) struct ShortcutTable {
    table: Table,
    question: Question,
}

impl ShortcutTable {
    pub(super) fn new(table: Table, question: Question) -> Self {
        Self { table, question }
    }

    /// The same where other filters stand above.
    ///
    /// # Errors
    /// What `exchanged` says.
    pub(in crate::query) fn with_filters(
        &self,
        exchanged: impl Fn(Expr) -> DataFusionResult<Expr>,
    ) -> DataFusionResult<Self> {
        let filters = self.question.filters.iter().cloned().map(exchanged).collect::<DataFusionResult<_>>()?;
        Ok(Self { table: self.table.clone(), question: Question { filters, ..self.question.clone() } })
    }

    /// Whether so few rows are expected to come of it that one thread is enough for them: without filters by the ends that are asked for and
    /// the series that are known, else by the rows of the table that pass, as of a table without shortcuts.
    ///
    /// # Errors
    /// If the table is gone.
    pub(in crate::query) async fn expects_at_most(
        &self,
        rows_max: u64,
        session: &dyn Session,
        filters: &[Expr],
    ) -> DataFusionResult<bool> {
        let snapshot = self.table.snapshot(session)?;
        let access = FileAccess::of(session)?;
        // With a filter on a field, or if a point lacks a value, the whole table is looked through.
        let has_ends = filters.is_empty() && self.question.filters.is_empty() && self.question.present.is_empty();
        let room = usize::try_from(rows_max).unwrap_or(usize::MAX);
        let are_few = match self.question.which {
            // Each combination of tags comes once and sorted: what is done above is little beside that.
            Ends::Tags => {
                let tags = snapshot.schema.tags();
                let is_tag = |name: &str| tags.iter().any(|tag| tag.as_str() == name);
                let looks_at_tags = |filter: &Expr| filter.column_refs().iter().all(|column| is_tag(&column.name));
                filters.iter().chain(self.question.filters.iter()).all(looks_at_tags)
            }
            Ends::OfAll(rows) | Ends::FirstOfAll(rows) => has_ends && rows <= room,
            Ends::OfSeries(rows) | Ends::FirstOfSeries(rows) => {
                has_ends && scan::has_at_most_series(room / rows.max(1), &snapshot, &access).await
            }
        };
        if are_few {
            return Ok(true);
        }
        Ok(scan::expects_at_most(rows_max, &snapshot, &access, filters).await)
    }

    /// The rows of a cache that has all that is asked for.
    fn cached(
        &self,
        snapshot: &TableSnapshot,
        output: &SchemaRef,
        filters: &[Expr],
    ) -> DataFusionResult<Option<(Arc<CacheDefinition>, RecordBatch)>> {
        let kind = match self.question.which {
            Ends::Tags => CacheKind::Distinct,
            Ends::OfSeries(_) => CacheKind::Last,
            Ends::OfAll(_) | Ends::FirstOfSeries(_) | Ends::FirstOfAll(_) => return Ok(None),
        };
        for cache in self.table.caches(kind) {
            if !self.is_answered_by(&cache, &snapshot.schema, output, filters) {
                continue;
            }
            match snapshot.cached(&cache, &[]).map_err(scan::from_engine)? {
                // Whether an older point has a value is not known.
                Some(rows) if scan::lacks(std::slice::from_ref(&rows), &self.present()) => {}
                // A distinct cache that is full may have left something out.
                Some(rows) if cache.keys_max().is_none_or(|max| rows.num_rows() < max) => {
                    return Ok(Some((cache, rows)));
                }
                Some(_) => {}
                None => self.table.missed(snapshot, &cache),
            }
        }
        Ok(None)
    }

    fn present(&self) -> Vec<Vec<String>> {
        self.question.present.iter().cloned().collect()
    }

    /// Whether a filter says only what the question asks for besides: that one of some fields has a value.
    fn is_presence(&self, filter: &Expr) -> bool {
        let Some(columns) = present_columns(filter) else { return false };
        let is_asked = |names: &Vec<String>| names.iter().map(String::as_str).collect::<BTreeSet<_>>() == columns;
        self.question.present.iter().any(is_asked)
    }

    fn is_answered_by(
        &self,
        cache: &CacheDefinition,
        table: &TableSchema,
        output: &SchemaRef,
        filters: &[Expr],
    ) -> bool {
        let keys = cache.keys(table);
        let is_key = |name: &str| keys.iter().any(|key| key.as_str() == name);
        let looks_at_key = |filter: &Expr| filter.column_refs().iter().all(|column| is_key(&column.name));
        let has_rows = match self.question.which {
            Ends::Tags => filters.iter().all(looks_at_key),
            // The newest points of a series pass such a bound, or none does.
            Ends::OfSeries(rows) => {
                rows <= cache.rows_per_key()
                    && !cache.is_of_values()
                    && table.tags().iter().all(|tag| keys.contains(tag))
                    && keys.len() == table.tags().len()
                    && filters.iter().all(|filter| looks_at_key(filter) || is_lower_bound_of_time(filter))
            }
            Ends::OfAll(_) | Ends::FirstOfSeries(_) | Ends::FirstOfAll(_) => false,
        };
        let columns = cache.output(table);
        let is_tag = |name: &str| table.tags().iter().any(|tag| tag.as_str() == name);
        has_rows
            && cache.age_max().is_none()
            && keys.iter().all(|key| is_tag(key.as_str()))
            && output.fields().iter().all(|field| columns.iter().any(|column| column == field.name()))
    }
}

/// `time >= …`, or the same the other way round.
fn is_lower_bound_of_time(filter: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return false };
    let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == TIME_COLUMN);
    let is_constant = |expr: &Expr| matches!(expr, Expr::Literal(..));
    match op {
        Operator::Gt | Operator::GtEq => is_time(left) && is_constant(right),
        Operator::Lt | Operator::LtEq => is_time(right) && is_constant(left),
        _ => false,
    }
}

#[async_trait]
impl TableProvider for ShortcutTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let access = FileAccess::of(state)?;
        let snapshot = self.table.snapshot(state)?;
        let output = match projection {
            Some(columns) => Arc::new(self.schema().project(columns)?),
            None => self.schema(),
        };
        // All that stand above: DataFusion brings down most of them, and which rows are the newest depends on each.
        let mut known: Vec<Expr> = self.question.filters.to_vec();
        let others =
            filters.iter().filter(|filter| !self.question.filters.contains(filter) && !self.is_presence(filter));
        known.extend(others.cloned());
        if let Some((cache, rows)) = self.cached(&snapshot, &output, &known)? {
            let wanted = Wanted::new(output, None, None, false, None)?;
            let name = snapshot.name.as_str();
            let (columns, source) = (Arc::clone(&snapshot.schema), Source::Kept(rows));
            return Ok(Arc::new(CacheExec::new(name, cache, columns, Vec::new(), wanted, source)));
        }
        match scan::ends(state, &access, &snapshot, &output, &known, self.question.which)? {
            Some(ends) if self.question.present.is_empty() => Ok(Arc::new(ends)),
            Some(ends) => {
                let present = self.present();
                let otherwise = self.table.scan(state, projection, filters, limit).await?;
                Ok(Arc::new(ends.with_present(present, otherwise)))
            }
            None => self.table.scan(state, projection, filters, limit).await,
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }
}
