//! The pass over series (`series`) as an operator: sorted rows in, rows of the answer out.
//!
//! It holds one batch of its input, the state of one series and the batch it makes. Dropping its stream drops the input.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning};
use datafusion::physical_plan::distribution_requirements::InputDistributionRequirements;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};

use super::level::Level;
use super::rows::{BatchRows, Builder, answer_schema};
use super::series::SeriesPass;

/// Rows in a batch of the answer.
const BATCH_ROWS: usize = 8192;

/// One level of a query over its sorted rows.
#[derive(Debug)]
pub(super) struct SeriesExec {
    level: Arc<Level>,
    input: Arc<dyn ExecutionPlan>,
    ordering: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl SeriesExec {
    /// The columns of `input` are the slots of the level and the time, then perhaps more; it is sorted by `ordering`.
    pub(super) fn new(level: Arc<Level>, input: Arc<dyn ExecutionPlan>, ordering: LexOrdering) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(answer_schema(&level)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { level, input, ordering, properties: Arc::new(properties) }
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
            (Some(input), true) => Ok(Arc::new(Self::new(Arc::clone(&self.level), input, self.ordering.clone()))),
            _ => internal_err!("SeriesExec has one input"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("SeriesExec has no partition {partition}");
        }
        let walk = Walk {
            input: self.input.execute(0, context)?,
            rows: None,
            waiting: None,
            pass: SeriesPass::new(Arc::clone(&self.level)),
            builder: Builder::new(&self.level),
            level: Arc::clone(&self.level),
            has_ended: false,
        };
        let batches = stream::try_unfold(walk, |mut walk| async move {
            let batch = walk.next().await?;
            Ok(batch.map(|batch| (batch, walk)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(answer_schema(&self.level), batches)))
    }
}

/// The state of one execution.
struct Walk {
    input: SendableRecordBatchStream,
    rows: Option<BatchRows>,
    /// A row that waits until the series before it is told.
    waiting: Option<(i64, Vec<super::value::Value>)>,
    level: Arc<Level>,
    pass: SeriesPass,
    builder: Builder,
    has_ended: bool,
}

impl Walk {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            while let Some(row) = self.pass.next_row() {
                self.builder.push(&row);
                if self.builder.row_count() >= BATCH_ROWS {
                    return self.builder.finish().map(Some);
                }
            }
            if self.pass.is_paused() {
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

    /// The next row that holds the condition.
    async fn next_input(&mut self) -> DataFusionResult<Option<(i64, Vec<super::value::Value>)>> {
        if let Some(row) = self.waiting.take() {
            return Ok(Some(row));
        }
        loop {
            if let Some(rows) = &mut self.rows {
                for (time, slots) in std::iter::from_fn(|| rows.next()) {
                    if self.level.condition.as_ref().is_none_or(|condition| condition.holds(&slots)) {
                        return Ok(Some((time, slots)));
                    }
                }
            }
            match self.input.next().await {
                Some(batch) => self.rows = Some(BatchRows::new(&batch?, self.level.slots.len())?),
                None => {
                    self.rows = None;
                    return Ok(None);
                }
            }
        }
    }
}
