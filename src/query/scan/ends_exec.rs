//! [`ends`](super::ends) as an operator.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalSortExpr};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions, execute_stream,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::ends::{Ends, Reading};
use super::tag_sets::order;
use crate::model::ColumnName;

/// Reads the ends of series.
#[derive(Debug)]
pub(in crate::query) struct SeriesEndsExec {
    table: String,
    which: Ends,
    /// The filters, for people.
    said: Option<String>,
    reading: Arc<Reading>,
    output: SchemaRef,
    /// Columns of which one has to have a value in every point; where none has, the whole table is read by the plan beside.
    present: Arc<[Vec<String>]>,
    otherwise: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SeriesEndsExec {
    /// # Errors
    /// If there are no columns, or others than tags where only tags are read; a defect.
    pub(super) fn try_new(
        table: &str,
        which: Ends,
        said: Option<String>,
        reading: Reading,
        output: SchemaRef,
        series_key: &[ColumnName],
    ) -> DataFusionResult<Self> {
        if output.fields().is_empty() {
            return internal_err!("the ends of series without columns");
        }
        let properties = properties(&output, which, series_key);
        Ok(Self {
            table: table.to_owned(),
            which,
            said,
            reading: Arc::new(reading),
            output,
            present: Arc::new([]),
            otherwise: None,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Whether no two rows are the same.
    pub(in crate::query) fn is_distinct(&self) -> bool {
        self.which == Ends::Tags && self.otherwise.is_none()
    }

    /// The same where a point counts only if of each of these lists one column has a value in it: if a point is none, all rows
    /// come from `otherwise`, which has the same columns.
    pub(in crate::query) fn with_present(self, present: Vec<Vec<String>>, otherwise: Arc<dyn ExecutionPlan>) -> Self {
        Self { present: present.into(), otherwise: Some(otherwise), ..self }
    }
}

fn properties(output: &SchemaRef, which: Ends, series_key: &[ColumnName]) -> Arc<PlanProperties> {
    let mut equivalences = EquivalenceProperties::new(Arc::clone(output));
    if which == Ends::Tags {
        let options = SortOptions { descending: false, nulls_first: false };
        let column = |place: usize| Arc::new(Column::new(output.field(place).name(), place));
        let order = order(output, series_key).into_iter();
        equivalences.add_ordering(order.map(|place| PhysicalSortExpr::new(column(place), options)));
    }
    let partitioning = Partitioning::UnknownPartitioning(1);
    Arc::new(PlanProperties::new(equivalences, partitioning, EmissionType::Final, Boundedness::Bounded))
}

impl DisplayAs for SeriesEndsExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.reading.unit_count();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "SeriesEndsExec: table={}, what={}, units={units}", self.table, self.which)?;
                match &self.said {
                    Some(said) => write!(f, ", predicate={said}"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => write!(f, "what={}\nunits={units}", self.which),
        }
    }
}

impl ExecutionPlan for SeriesEndsExec {
    fn name(&self) -> &'static str {
        "SeriesEndsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.otherwise.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
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
        if children.len() != self.children().len() {
            return internal_err!("SeriesEndsExec needs as many inputs as before");
        }
        Ok(Arc::new(Self {
            table: self.table.clone(),
            which: self.which,
            said: self.said.clone(),
            reading: Arc::clone(&self.reading),
            output: Arc::clone(&self.output),
            present: Arc::clone(&self.present),
            otherwise: children.pop(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("SeriesEndsExec has one partition");
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let read = MetricBuilder::new(&self.metrics).counter("units_read", partition);
        let work = Work {
            reading: Arc::clone(&self.reading),
            output: Arc::clone(&self.output),
            present: Arc::clone(&self.present),
            otherwise: self.otherwise.clone(),
            read,
        };
        let batches = match self.which {
            Ends::OfSeries(rows) | Ends::FirstOfSeries(rows) => {
                stream::once(work.points(rows, false, context)).try_flatten().boxed()
            }
            Ends::OfAll(rows) | Ends::FirstOfAll(rows) => {
                stream::once(work.points(rows, true, context)).try_flatten().boxed()
            }
            Ends::Tags => stream::once(work.tags(context)).try_flatten().boxed(),
        };
        let batches = batches.map_ok(move |batch| batch.record_output(&baseline));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.output), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One run of the operator.
struct Work {
    reading: Arc<Reading>,
    output: SchemaRef,
    present: Arc<[Vec<String>]>,
    otherwise: Option<Arc<dyn ExecutionPlan>>,
    read: Count,
}

type Batches = BoxStream<'static, DataFusionResult<RecordBatch>>;

impl Work {
    async fn points(self, rows: usize, is_of_all: bool, context: Arc<TaskContext>) -> DataFusionResult<Batches> {
        let found = self.reading.points(rows, is_of_all, &context, &self.read).await?;
        if let Some(otherwise) = self.otherwise.filter(|_| lacks(&found, &self.present)) {
            return Ok(execute_stream(otherwise, context)?.boxed());
        }
        let places = self.output.fields().iter().map(|field| self.reading.place_of(field.name()));
        let places = places.collect::<DataFusionResult<Vec<usize>>>()?;
        let project = move |batch: RecordBatch| Ok(batch.project(&places)?);
        Ok(stream::iter(found).map(project).boxed())
    }

    async fn tags(self, context: Arc<TaskContext>) -> DataFusionResult<Batches> {
        let found = self.reading.tags(&self.output, &context, &self.read).await?;
        Ok(stream::iter(found.into_iter().map(Ok)).boxed())
    }
}

/// Whether of one of these lists of columns a row has a value in none.
pub(in crate::query) fn lacks(rows: &[RecordBatch], present: &[Vec<String>]) -> bool {
    let lacks_all = |batch: &RecordBatch, names: &Vec<String>| {
        let columns: Vec<_> = names.iter().filter_map(|name| batch.column_by_name(name)).collect();
        let is_whole = columns.iter().any(|column| column.logical_null_count() == 0);
        !is_whole && (0..batch.num_rows()).any(|row| columns.iter().all(|column| column.is_null(row)))
    };
    rows.iter().any(|batch| present.iter().any(|names| lacks_all(batch, names)))
}
