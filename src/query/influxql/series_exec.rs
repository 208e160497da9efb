//! The pass over series (`series`) as an operator: sorted rows in, rows of the answer out.
//!
//! Where a query asks for rows as they are, batches pass through. Else it holds one batch of its input, the state of one series
//! and the batch it makes; the state is charged to the query's memory. Dropping its stream drops the input.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};

use super::filters::slot_type;
use super::level::{Level, Node};
use super::reduction::Reduction;
use super::rows::{BatchRows, Builder, answer_schema, arrow_type};
use super::series::SeriesPass;
use crate::error::Error;
use crate::syntax::influxql::Fill;

/// Rows in a batch of the answer.
const BATCH_ROWS: usize = 8192;

/// Rows that are taken between two looks at the memory that they take.
const ROWS_UNCHARGED: usize = 64;

/// The most buckets without a point that one series may have: short intervals over long ranges have no end.
const EMPTY_BUCKETS_MAX: u64 = 10_000_000;

/// One level of a query over its sorted rows.
#[derive(Debug)]
pub(super) struct SeriesExec {
    level: Arc<Level>,
    /// What stands in a row, if each is a bucket.
    reduction: Option<Arc<Reduction>>,
    input: Arc<dyn ExecutionPlan>,
    ordering: LexOrdering,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SeriesExec {
    /// The columns of `input` are the slots of the level and the time, then perhaps more; or the groups, the columns of the
    /// reduction and the time. It is sorted by `ordering`.
    pub(super) fn new(
        level: Arc<Level>,
        reduction: Option<Arc<Reduction>>,
        input: Arc<dyn ExecutionPlan>,
        ordering: LexOrdering,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(answer_schema(&level)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { level, reduction, input, ordering, properties: Arc::new(properties), metrics }
    }
}

impl DisplayAs for SeriesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesExec: groups=[{}], calls={}", self.level.groups.join(", "), self.level.calls.len())
    }
}

impl ExecutionPlan for SeriesExec {
    fn name(&self) -> &str {
        "SeriesExec"
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
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                let (level, reduction) = (Arc::clone(&self.level), self.reduction.clone());
                Ok(Arc::new(Self::new(level, reduction, input, self.ordering.clone())))
            }
            _ => internal_err!("SeriesExec has one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("SeriesExec has no partition {partition}");
        }
        if let Some(columns) = passed_through(&self.level).filter(|_| self.reduction.is_none()) {
            let (schema, metrics) = (answer_schema(&self.level), BaselineMetrics::new(&self.metrics, partition));
            let answer = Arc::clone(&schema);
            let batches = self.input.execute(0, context)?.map(move |batch| {
                let batch = batch?;
                let columns = columns.iter().map(|column| as_answered(batch.column(*column)));
                let columns = columns.collect::<DataFusionResult<_>>()?;
                Ok(RecordBatch::try_new(Arc::clone(&answer), columns)?.record_output(&metrics))
            });
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)));
        }
        let columns = match &self.reduction {
            Some(reduction) => self.level.groups.len() + reduction.column_count(),
            None => self.level.slots.len(),
        };
        let walk = Walk {
            input: self.input.execute(0, Arc::clone(&context))?,
            rows: None,
            waiting: None,
            columns,
            pass: SeriesPass::new(Arc::clone(&self.level), self.reduction.clone()),
            builder: Builder::new(&self.level),
            level: Arc::clone(&self.level),
            has_ended: false,
            memory: MemoryConsumer::new("SeriesExec").register(context.memory_pool()),
            uncharged: 0,
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = stream::try_unfold((walk, metrics), |(mut walk, metrics)| async move {
            let batch = walk.next().await?;
            Ok(batch.map(|batch| (batch.record_output(&metrics), (walk, metrics))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(answer_schema(&self.level), batches)))
    }
}

/// Where the columns of the answer are in the rows, if each row is one of the answer as it is.
fn passed_through(level: &Level) -> Option<Vec<usize>> {
    let has_limits = level.limit > 0 || level.offset > 0 || level.series_limit > 0 || level.series_offset > 0;
    let is_chosen = level.condition.is_some() && level.reads_levels();
    if !level.calls.is_empty() || level.fill != Fill::Null || has_limits || is_chosen {
        return None;
    }
    let mut columns: Vec<usize> = (0..level.groups.len()).chain([level.slots.len()]).collect();
    for column in &level.columns {
        match column.node {
            Node::Slot(slot) if slot_type(&level.slots[slot]) == arrow_type(column.kind) => columns.push(slot),
            _ => return None,
        }
    }
    Some(columns)
}

/// A column of the answer: tags as texts, and a number that is none is nothing, as in InfluxDB.
fn as_answered(column: &ArrayRef) -> DataFusionResult<ArrayRef> {
    if let DataType::Dictionary(..) = column.data_type() {
        return Ok(cast(column, &DataType::Utf8)?);
    }
    Ok(match column.as_primitive_opt::<Float64Type>() {
        Some(numbers) if numbers.values().iter().any(|number| number.is_nan()) => {
            let numbers = numbers.iter().map(|number| number.filter(|number| !number.is_nan()));
            Arc::new(numbers.collect::<Float64Array>())
        }
        _ => Arc::clone(column),
    })
}

/// The state of one execution.
struct Walk {
    input: SendableRecordBatchStream,
    rows: Option<BatchRows>,
    /// How many columns stand before the time.
    columns: usize,
    /// A row that waits until the series before it is told.
    waiting: Option<(i64, Vec<super::value::Value>)>,
    level: Arc<Level>,
    pass: SeriesPass,
    builder: Builder,
    has_ended: bool,
    /// What the pass keeps.
    memory: MemoryReservation,
    /// Rows that were taken since that was charged.
    uncharged: usize,
}

impl Walk {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            while let Some(row) = self.pass.next_row() {
                self.builder.push(&row);
                if self.builder.row_count() >= BATCH_ROWS {
                    self.check()?;
                    return self.builder.finish().map(Some);
                }
            }
            if self.pass.is_paused() {
                self.check()?;
                tokio::task::yield_now().await;
                continue;
            }
            if self.pass.is_done() || self.has_ended {
                return match self.builder.row_count() {
                    0 => Ok(None),
                    _ => self.builder.finish().map(Some),
                };
            }
            match self.next_input().await? {
                Some((time, slots)) if self.pass.accepts(&slots) => {
                    if !self.pass.is_full() {
                        self.pass.push(time, slots);
                        self.uncharged += 1;
                        if self.uncharged >= ROWS_UNCHARGED {
                            self.check()?;
                        }
                    }
                }
                Some(row) => {
                    self.pass.end_series();
                    self.waiting = Some(row);
                }
                None => {
                    self.pass.end_series();
                    // What the last series still has to say comes first.
                    self.has_ended = !self.pass.has_series();
                }
            }
        }
    }

    /// Charges what is kept.
    ///
    /// # Errors
    /// If there is not so much memory, or if there are too many buckets.
    fn check(&mut self) -> DataFusionResult<()> {
        self.uncharged = 0;
        if self.pass.empty_buckets() > EMPTY_BUCKETS_MAX {
            let message = format!(
                "a series has more than {EMPTY_BUCKETS_MAX} empty buckets; use a longer interval, a shorter range of times, \
                 fill(none) or a LIMIT"
            );
            return Err(DataFusionError::External(Box::new(Error::invalid(message))));
        }
        self.memory.try_resize(self.pass.bytes())
    }

    /// The next row that holds the condition. Of tables no others come.
    async fn next_input(&mut self) -> DataFusionResult<Option<(i64, Vec<super::value::Value>)>> {
        if let Some(row) = self.waiting.take() {
            return Ok(Some(row));
        }
        let condition = self.level.condition.as_ref().filter(|_| self.level.reads_levels());
        loop {
            if let Some(rows) = &mut self.rows {
                for (time, slots) in std::iter::from_fn(|| rows.next()) {
                    if condition.is_none_or(|condition| condition.holds(&slots)) {
                        return Ok(Some((time, slots)));
                    }
                }
            }
            match self.input.next().await {
                Some(batch) => self.rows = Some(BatchRows::new(&batch?, self.columns)?),
                None => {
                    self.rows = None;
                    return Ok(None);
                }
            }
        }
    }
}
