//! The rule for two writes of one point as an operator: `model::last_write_wins` over sorted inputs.
//!
//! Each partition holds components, one after the other; a component's inputs are sorted, unique, and
//! numbered from the oldest write. Components share no instant, so that no point is in two of them.
//!
//! Inputs are polled when the merge needs their next batch, and those of a component only when the component
//! before it is done: at most one batch for each input of one component is held in each partition, besides the
//! output under construction. Dropping the stream drops the inputs.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_err;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::scan::key_ordering;
use crate::model::TableSchema;
use crate::model::last_write_wins::{Merge, Step};

/// Inputs that may share points, from the oldest write to the newest.
type Component = Vec<Arc<dyn ExecutionPlan>>;

/// Merges sorted inputs so that every point comes out once.
#[derive(Debug)]
pub(super) struct DeduplicateExec {
    table: Arc<TableSchema>,
    schema: SchemaRef,
    /// The components of each partition.
    partitions: Vec<Vec<Component>>,
    /// The order of every input, and of the output where a partition holds one component.
    ordering: Option<LexOrdering>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeduplicateExec {
    /// Inputs have the columns of `schema`, among them all tags of `table` and the time. When it is executed each has one
    /// partition; while DataFusion's rules are at work an input may have more for a moment.
    ///
    /// # Errors
    /// If they don't; a defect.
    pub(super) fn try_new(
        table: Arc<TableSchema>,
        schema: SchemaRef,
        partitions: Vec<Vec<Component>>,
    ) -> DataFusionResult<Self> {
        for input in partitions.iter().flatten().flatten() {
            if input.schema().fields() != schema.fields() {
                return internal_err!("an input of DeduplicateExec has the columns {}, not {schema}", input.schema());
            }
        }
        let ordering = key_ordering(&table, &schema);
        let is_sorted = partitions.iter().all(|components| components.len() == 1);
        let equivalences =
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), ordering.clone().filter(|_| is_sorted));
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            table,
            schema,
            partitions,
            ordering,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn inputs(&self) -> impl Iterator<Item = &Arc<dyn ExecutionPlan>> {
        self.partitions.iter().flatten().flatten()
    }
}

impl DisplayAs for DeduplicateExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let components: usize = self.partitions.iter().map(Vec::len).sum();
        let inputs = self.inputs().count();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "DeduplicateExec: inputs={inputs}, components={components}")
            }
            DisplayFormatType::TreeRender => write!(f, "inputs={inputs}\ncomponents={components}"),
        }
    }
}

impl ExecutionPlan for DeduplicateExec {
    fn name(&self) -> &str {
        "DeduplicateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.inputs().count()])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let ordering = self.ordering.clone().map(OrderingRequirements::from);
        vec![ordering; self.inputs().count()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if children.len() != self.inputs().count() {
            return internal_err!("DeduplicateExec needs as many inputs as before");
        }
        let mut children = children.into_iter();
        let mut take = |inputs: &Component| -> Component { children.by_ref().take(inputs.len()).collect() };
        let partitions = self.partitions.iter().map(|components| components.iter().map(&mut take).collect()).collect();
        Ok(Arc::new(Self::try_new(Arc::clone(&self.table), Arc::clone(&self.schema), partitions)?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let Some(components) = self.partitions.get(partition) else {
            return internal_err!("DeduplicateExec has no partition {partition}");
        };
        if components.iter().flatten().any(|input| input.properties().output_partitioning().partition_count() != 1) {
            return internal_err!("an input of DeduplicateExec has several partitions");
        }
        let deduplication = Deduplication {
            table: Arc::clone(&self.table),
            schema: Arc::clone(&self.schema),
            waiting: components.clone().into(),
            running: None,
            context,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            input_rows: MetricBuilder::new(&self.metrics).counter("input_rows", partition),
        };
        let batches = stream::try_unfold(deduplication, |mut deduplication| async move {
            let batch = deduplication.next().await?;
            Ok(batch.map(|batch| (batch, deduplication)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None); self.inputs().count()]
    }

    /// How many rows there are at most; how many writes of one point meet is not known.
    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> DataFusionResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if args.partition().is_none() {
            let rows = inputs.iter().map(|input| input.num_rows).reduce(|sum, rows| sum.add(&rows));
            statistics.num_rows = rows.unwrap_or(Precision::Absent).to_inexact();
        }
        Ok(Arc::new(statistics))
    }

    /// Lets filters on the key through: they refuse all writes of a point alike. That holds for filters that
    /// tighten while the query runs too, since a row that slips through is refused again above.
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DataFusionResult<FilterDescription> {
        // A filter that may answer differently for two writes of one point keeps all others up here with it;
        // there is no way to hold back a single one that reads no column.
        if filters.iter().any(|filter| is_volatile(filter) || collect_columns(filter).is_empty()) {
            return Ok(FilterDescription::all_unsupported(&filters, &self.children()));
        }
        let keys: HashSet<usize> = self.table.sort_key().filter_map(|key| self.schema.index_of(key).ok()).collect();
        let mut description = FilterDescription::new();
        for input in self.inputs() {
            let child = ChildFilterDescription::from_child_with_allowed_indices(&filters, keys.clone(), input)?;
            description = description.with_child(child);
        }
        Ok(description)
    }
}

/// One partition at work.
struct Deduplication {
    table: Arc<TableSchema>,
    schema: SchemaRef,
    waiting: VecDeque<Component>,
    running: Option<Running>,
    context: Arc<TaskContext>,
    baseline: BaselineMetrics,
    input_rows: Count,
}

/// One component at work.
struct Running {
    merge: Merge,
    inputs: Vec<SendableRecordBatchStream>,
}

impl Deduplication {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if self.running.is_none() {
                let Some(component) = self.waiting.pop_front() else { return Ok(None) };
                self.running = Some(self.start(component).await?);
            }
            match self.step().await? {
                Some(batch) => return Ok(Some(batch.record_output(&self.baseline))),
                None => self.running = None,
            }
        }
    }

    /// Opens the inputs and fetches the first batch of each at once: a merge can't begin without them, and
    /// one after the other they would wait for the store one after the other.
    async fn start(&mut self, component: Component) -> DataFusionResult<Running> {
        let mut inputs = component
            .iter()
            .map(|input| input.execute(0, Arc::clone(&self.context)))
            .collect::<DataFusionResult<Vec<_>>>()?;
        let batch_rows = self.context.session_config().batch_size();
        let mut merge = Merge::new(&self.table, Arc::clone(&self.schema), inputs.len(), batch_rows)?;
        let firsts = try_join_all(inputs.iter_mut().map(TryStreamExt::try_next)).await?;
        for (number, first) in firsts.into_iter().enumerate() {
            self.feed(&mut merge, number, first)?;
        }
        Ok(Running { merge, inputs })
    }

    /// The next batch of the running component; `None` when it is done.
    async fn step(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        loop {
            let step = {
                let _busy = self.baseline.elapsed_compute().timer();
                running.merge.step()?
            };
            match step {
                Step::Needs(number) => {
                    let batch = running.inputs[number].next().await.transpose()?;
                    self.feed(&mut running.merge, number, batch)?;
                }
                Step::Ready(batch) => {
                    self.running = Some(running);
                    return Ok(Some(batch));
                }
                Step::Done => return Ok(None),
            }
        }
    }

    fn feed(&self, merge: &mut Merge, number: usize, batch: Option<RecordBatch>) -> DataFusionResult<()> {
        let _busy = self.baseline.elapsed_compute().timer();
        match batch {
            Some(batch) => {
                self.input_rows.add(batch.num_rows());
                merge.push(number, batch)?;
            }
            None => merge.finish(number),
        }
        Ok(())
    }
}
