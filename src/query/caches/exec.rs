//! The rows of a cache as an operator: those that are kept, or those that the table has.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
    execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::engine::caches::{Condenser, Lookup, arrange};
use crate::model::last_write_wins::conform;
use crate::model::{CacheDefinition, CacheKind, TableSchema};
use crate::query::scan;

/// Where the rows come from.
#[derive(Debug, Clone)]
pub(in crate::query) enum Source {
    /// The answer that is kept, with all columns.
    Kept(RecordBatch),
    /// The rows of the table that may count.
    Table(Arc<dyn ExecutionPlan>),
}

/// What a query wants of all rows of the cache.
#[derive(Debug, Clone)]
pub(in crate::query) struct Wanted {
    /// All columns of the cache.
    all: SchemaRef,
    schema: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    projection: Option<Vec<usize>>,
    is_distinct: bool,
    limit: Option<usize>,
}

impl Wanted {
    /// `schema` has all columns of the cache; `is_distinct`: of equal rows in the columns that are wanted one is enough.
    ///
    /// # Errors
    /// If the projection names no column of the schema; a defect.
    pub(in crate::query) fn new(
        all: SchemaRef,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        projection: Option<Vec<usize>>,
        is_distinct: bool,
        limit: Option<usize>,
    ) -> DataFusionResult<Self> {
        let (schema, is_narrower) = match &projection {
            Some(columns) => (Arc::new(all.project(columns)?), (1..all.fields().len()).contains(&columns.len())),
            None => (Arc::clone(&all), false),
        };
        Ok(Self { all, schema, predicate, projection, is_distinct: is_distinct && is_narrower, limit })
    }

    fn of(&self, rows: &RecordBatch) -> DataFusionResult<RecordBatch> {
        let mut rows = match &self.predicate {
            Some(predicate) => {
                let rows = conform(rows, &self.all)?;
                let passes = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
                let rows = filter_record_batch(&rows, as_boolean_array(&passes)?)?;
                match &self.projection {
                    Some(columns) => rows.project(columns)?,
                    None => rows,
                }
            }
            None => conform(rows, &self.schema)?,
        };
        if self.is_distinct {
            rows = distinct(&rows)?;
        }
        if let Some(limit) = self.limit.filter(|limit| *limit < rows.num_rows()) {
            rows = rows.slice(0, limit);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let (_, columns, _) = rows.into_parts();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The first of equal rows.
fn distinct(rows: &RecordBatch) -> DataFusionResult<RecordBatch> {
    let fields = rows.columns().iter().map(|column: &ArrayRef| SortField::new(column.data_type().clone()));
    let keys = RowConverter::new(fields.collect())?.convert_columns(rows.columns())?;
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let firsts = (0..rows.num_rows()).filter(|row| seen.insert(keys.row(*row).data()));
    let firsts: UInt32Array = firsts.map(|row| row as u32).collect();
    Ok(take_record_batch(rows, &firsts)?)
}

/// Reads a cache.
#[derive(Debug)]
pub(in crate::query) struct CacheExec {
    table: String,
    definition: Arc<CacheDefinition>,
    columns: Arc<TableSchema>,
    lookups: Vec<Lookup>,
    wanted: Wanted,
    source: Source,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CacheExec {
    /// A cache of the table with these columns.
    pub(in crate::query) fn new(
        table: &str,
        definition: Arc<CacheDefinition>,
        columns: Arc<TableSchema>,
        lookups: Vec<Lookup>,
        wanted: Wanted,
        source: Source,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&wanted.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            table: table.to_owned(),
            definition,
            columns,
            lookups,
            wanted,
            source,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for CacheExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: table={}, cache={}", self.name(), self.table, self.definition.name)?;
        let lookup = |Lookup { column, values }: &Lookup| {
            let values: Vec<&str> = values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
            format!("{column} IN ({})", values.join(", "))
        };
        if !self.lookups.is_empty() {
            write!(f, ", lookups=[{}]", self.lookups.iter().map(lookup).collect::<Vec<_>>().join(", "))?;
        }
        match &self.source {
            Source::Kept(_) => f.write_str(", from=cache"),
            Source::Table(_) => f.write_str(", from=table"),
        }
    }
}

impl ExecutionPlan for CacheExec {
    fn name(&self) -> &str {
        match self.definition.kind() {
            CacheKind::Last => "LastCacheExec",
            CacheKind::Distinct => "DistinctCacheExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        match &self.source {
            Source::Kept(_) => Vec::new(),
            Source::Table(plan) => vec![plan],
        }
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        // Any number of partitions: they are read one after the other, since only the rows that count stay.
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution; self.children().len()])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (&self.source, children.pop()) {
            (Source::Kept(_), None) => Ok(self),
            (Source::Table(_), Some(plan)) if children.is_empty() => {
                let Self { table, definition, columns, lookups, wanted, .. } = self.as_ref();
                let (definition, columns) = (Arc::clone(definition), Arc::clone(columns));
                let source = Source::Table(plan);
                Ok(Arc::new(Self::new(table, definition, columns, lookups.clone(), wanted.clone(), source)))
            }
            _ => internal_err!("{} needs as many inputs as before", self.name()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mode = datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("{} has one partition", self.name());
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let (source, wanted) = (self.source.clone(), self.wanted.clone());
        let (definition, columns) = (Arc::clone(&self.definition), Arc::clone(&self.columns));
        let batch_rows = context.session_config().batch_size().max(1);
        let rows = async move {
            let rows = match source {
                Source::Kept(rows) => rows,
                Source::Table(plan) => {
                    let kept = condense(plan, &definition, &columns, usize::MAX, |_| (), &context).await?;
                    let Some(kept) = kept else { return internal_err!("a limit where there is none") };
                    arrange(&definition, &columns, &kept).map_err(scan::from_engine)?
                }
            };
            let rows = {
                let _busy = baseline.elapsed_compute().timer();
                wanted.of(&rows)?
            };
            let starts = (0..rows.num_rows()).step_by(batch_rows);
            let slice = move |start: usize| {
                let batch = rows.slice(start, batch_rows.min(rows.num_rows() - start));
                baseline.record_output(batch.num_rows());
                Ok(batch)
            };
            Ok(stream::iter(starts.map(slice).collect::<Vec<_>>()))
        };
        let batches = stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.wanted.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows that count of all that `plan` has; `None` if they take more than so many bytes. What is held is charged to the
/// query's memory, and `read` is told of the rows of each batch.
///
/// # Errors
/// Those of the plan; `ResourcesExhausted` if the memory of all queries does not suffice.
pub(super) async fn condense(
    plan: Arc<dyn ExecutionPlan>,
    definition: &Arc<CacheDefinition>,
    columns: &TableSchema,
    bytes_max: usize,
    read: impl Fn(usize),
    context: &Arc<TaskContext>,
) -> DataFusionResult<Option<RecordBatch>> {
    let reservation = MemoryConsumer::new("rows of a cache").register(context.memory_pool());
    let mut condenser = Condenser::new(Arc::clone(definition), columns);
    let mut batches = execute_stream(plan, Arc::clone(context))?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        condenser.push(&batch).map_err(scan::from_engine)?;
        read(batch.num_rows());
        let bytes = condenser.bytes();
        reservation.try_resize(bytes)?;
        if condenser.kept_bytes() > bytes_max {
            return Ok(None);
        }
        tokio::task::coop::consume_budget().await; // looking through many rows takes a while
    }
    condenser.finish().map(Some).map_err(scan::from_engine)
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;

    use super::*;

    #[test]
    fn of_equal_rows_the_first_is_enough() {
        let column: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(true), Some(false), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        let rows = distinct(&batch).unwrap();
        assert_eq!(rows.column(0).as_ref(), &BooleanArray::from(vec![Some(true), None, Some(false)]));
    }
}
