//! The operator that fills gaps: rows sorted by series and time in, the same rows and those between them out.
//!
//! It holds the rows of one series, or of one batch where several series are in it, and the list of bins; both are charged to the
//! query's memory. The sort below spills as DataFusion's sorts do. It pauses between batches, so that dropping its stream ends it.

use std::fmt;
use std::mem::size_of;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::make_comparator;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortOptions, concat_batches, partition};
use arrow::datatypes::SchemaRef;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalSortExpr,
};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};

use super::fill::{Filling, Output};
use crate::query::functions::bins::Bins;

/// Which bins a query asks for. The list itself is made when the operator runs.
#[derive(Debug, Clone)]
pub(super) struct BinList {
    bins: Bins,
    /// The first and the last instant, in nanoseconds.
    bounds: Option<(i64, i64)>,
    unit_nanos: i64,
    count_max: usize,
}

impl BinList {
    /// The bins of the instants from `first` to `last`, in a unit of so many nanoseconds.
    ///
    /// # Errors
    /// If there are more than `count_max`.
    pub(super) fn new(bins: Bins, first: i64, last: i64, unit_nanos: i64, count_max: usize) -> DataFusionResult<Self> {
        bins.check(first, last, count_max).map_err(|many| many.error(count_max))?;
        Ok(Self { bins, bounds: Some((first, last)), unit_nanos, count_max })
    }

    /// None: no instant is asked for.
    pub(super) fn empty(bins: Bins) -> Self {
        Self { bins, bounds: None, unit_nanos: 1, count_max: 0 }
    }

    fn make(&self, memory: &MemoryReservation) -> DataFusionResult<Arc<[i64]>> {
        let Some((first, last)) = self.bounds else { return Ok(Arc::from([])) };
        let too_many = |many: super::super::bins::TooMany| many.error(self.count_max);
        let count = self.bins.check(first, last, self.count_max).map_err(too_many)?;
        // Twice, because the list is copied into what is shared.
        memory.try_grow(2 * count * size_of::<i64>())?;
        let mut bins = self.bins.all(first, last, self.count_max).map_err(too_many)?;
        if self.unit_nanos > 1 {
            bins.iter_mut().for_each(|bin| *bin = bin.div_euclid(self.unit_nanos));
            bins.dedup();
        }
        memory.try_resize(bins.len() * size_of::<i64>())?;
        Ok(bins.into())
    }
}

/// Fills the gaps of sorted series.
#[derive(Debug)]
pub(super) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    time: usize,
    series: Vec<usize>,
    outputs: Vec<Output>,
    bins: BinList,
    ordering: LexOrdering,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GapFillExec {
    /// `series` are the columns of `input` that a series has in common, `schema` has a field for each of `outputs`.
    ///
    /// # Errors
    /// If the input lacks a column; a defect.
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        time: usize,
        series: Vec<usize>,
        outputs: Vec<Output>,
        bins: BinList,
    ) -> DataFusionResult<Self> {
        let input_schema = input.schema();
        let Some(ordering) =
            ordering(series.iter().chain([&time]).map(|place| (input_schema.field(*place).name(), *place)))
        else {
            return internal_err!("gaps are filled in the order of something");
        };
        // The same order, where the columns are in the answer.
        let place_of = |place: usize| {
            let is_it = |output: &Output| match output {
                Output::Time => place == time,
                Output::Series(series) => place == *series,
                Output::Filled(..) => false,
            };
            outputs.iter().position(is_it).map(|place| (schema.field(place).name(), place))
        };
        let sorted: Option<Vec<_>> = series.iter().chain([&time]).map(|place| place_of(*place)).collect();
        let sorted = sorted.and_then(ordering_of);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), sorted),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { input, schema, time, series, outputs, bins, ordering, properties: Arc::new(properties), metrics })
    }
}

fn ordering_of(columns: Vec<(&String, usize)>) -> Option<LexOrdering> {
    ordering(columns.into_iter())
}

/// Ascending by these columns, nulls last, as SQL orders if it is not told otherwise.
fn ordering<'a>(columns: impl Iterator<Item = (&'a String, usize)>) -> Option<LexOrdering> {
    let options = SortOptions { descending: false, nulls_first: false };
    LexOrdering::new(columns.map(|(name, place)| {
        PhysicalSortExpr::new(Arc::new(Column::new(name, place)) as Arc<dyn PhysicalExpr>, options)
    }))
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFillExec: series=[{}]", {
            let schema = self.input.schema();
            self.series.iter().map(|place| schema.field(*place).name().clone()).collect::<Vec<_>>().join(", ")
        })
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.ordering.clone()))]
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
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("GapFillExec has one input");
        };
        let (schema, series) = (Arc::clone(&self.schema), self.series.clone());
        let (outputs, bins) = (self.outputs.clone(), self.bins.clone());
        Ok(Arc::new(Self::try_new(input, schema, self.time, series, outputs, bins)?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("GapFillExec has no partition {partition}");
        }
        let bins_memory = MemoryConsumer::new("GapFillExec bins").register(context.memory_pool());
        let work = Work {
            bins: self.bins.make(&bins_memory)?,
            _bins_memory: bins_memory,
            memory: MemoryConsumer::new("GapFillExec").register(context.memory_pool()),
            batch_rows: context.session_config().batch_size(),
            schema: Arc::clone(&self.schema),
            input_schema: self.input.schema(),
            time: self.time,
            series: self.series.clone(),
            outputs: self.outputs.clone(),
            baseline: BaselineMetrics::new(&self.metrics, 0),
            input: self.input.execute(0, context)?,
            open: Vec::new(),
            filling: None,
            has_ended: false,
        };
        let batches = stream::try_unfold(work, |mut work| async move {
            let batch = work.next().await?;
            Ok(batch.map(|batch| (batch, work)))
        });
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One execution.
struct Work {
    input: SendableRecordBatchStream,
    input_schema: SchemaRef,
    schema: SchemaRef,
    time: usize,
    series: Vec<usize>,
    outputs: Vec<Output>,
    bins: Arc<[i64]>,
    _bins_memory: MemoryReservation,
    memory: MemoryReservation,
    batch_rows: usize,
    baseline: BaselineMetrics,
    /// The rows of a series whose end has not come.
    open: Vec<RecordBatch>,
    filling: Option<Filling>,
    has_ended: bool,
}

impl Work {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if let Some(filling) = &mut self.filling {
                let batch = {
                    let _busy = self.baseline.elapsed_compute().timer();
                    filling.next(self.batch_rows)?
                };
                match batch {
                    Some(batch) => return Ok(Some(batch.record_output(&self.baseline))),
                    None => {
                        self.filling = None;
                        self.account(0)?;
                    }
                }
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.input.next().await.transpose()? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => self.take(batch)?,
                None => {
                    self.has_ended = true;
                    let last = std::mem::take(&mut self.open);
                    self.fill(&last)?;
                }
            }
        }
    }

    /// Keeps the last series of a batch, which may go on in the next, and begins to fill those before it.
    fn take(&mut self, batch: RecordBatch) -> DataFusionResult<()> {
        let series = series_of(&batch, &self.series)?;
        let last = series.last().map_or(0, |series| series.start);
        let goes_on = match self.open.last() {
            Some(open) => self.are_of_one_series(open, &batch)?,
            None => true,
        };
        if last == 0 && goes_on {
            self.open.push(batch);
            return self.account(0);
        }
        let mut ended = std::mem::take(&mut self.open);
        if last > 0 {
            ended.push(batch.slice(0, last));
        }
        self.open.push(batch.slice(last, batch.num_rows() - last));
        self.fill(&ended)
    }

    /// Whether the first row of a batch is of the series of the last row before.
    fn are_of_one_series(&self, before: &RecordBatch, batch: &RecordBatch) -> DataFusionResult<bool> {
        for place in &self.series {
            let (last, first) = (before.column(*place), batch.column(*place));
            let order = make_comparator(last, first, SortOptions::default())?;
            if order(last.len() - 1, 0).is_ne() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill(&mut self, ended: &[RecordBatch]) -> DataFusionResult<()> {
        if ended.is_empty() {
            return Ok(());
        }
        let bytes: usize = ended.iter().map(RecordBatch::get_array_memory_size).sum();
        self.account(2 * bytes)?;
        let rows = concat_batches(&self.input_schema, ended)?;
        let series = series_of(&rows, &self.series)?;
        let (bins, schema) = (Arc::clone(&self.bins), Arc::clone(&self.schema));
        self.filling = Some(Filling::new(&rows, self.time, series, bins, &self.outputs, schema)?);
        Ok(())
    }

    /// Charges what is held: the open series, and so many bytes besides.
    fn account(&mut self, bytes: usize) -> DataFusionResult<()> {
        let open: usize = self.open.iter().map(RecordBatch::get_array_memory_size).sum();
        self.memory.try_resize(open + bytes)
    }
}

/// The rows of each series in a batch.
fn series_of(batch: &RecordBatch, columns: &[usize]) -> DataFusionResult<Vec<Range<usize>>> {
    if columns.is_empty() {
        return Ok(std::iter::once(0..batch.num_rows()).collect());
    }
    let columns: Vec<ArrayRef> = columns.iter().map(|place| Arc::clone(batch.column(*place))).collect();
    Ok(partition(&columns)?.ranges())
}
