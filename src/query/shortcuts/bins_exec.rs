//! Bins at one end of the time, as an operator: out of a short stretch, and out of longer ones while there are too few.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions, collect,
};
use futures::{TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use crate::query::functions::Planner;
use crate::query::processors::Processors;

/// The answer of the first plan that has enough rows, or of the last.
///
/// Each gives the same first rows as the last, as far as it has them. Only the first is planned before it is known to be needed.
#[derive(Debug)]
pub(super) struct FirstBinsExec {
    first: Arc<dyn ExecutionPlan>,
    then: Arc<[LogicalPlan]>,
    /// So many rows are enough.
    rows: usize,
    session: Arc<SessionState>,
}

impl FirstBinsExec {
    /// The rows of `first`, which comes in one partition, or of one of `then`, of which the last reads everything.
    ///
    /// # Errors
    /// If it does not; a defect.
    pub(super) fn try_new(
        first: Arc<dyn ExecutionPlan>,
        then: Vec<LogicalPlan>,
        rows: usize,
        session: SessionState,
    ) -> DataFusionResult<Self> {
        match first.properties().output_partitioning().partition_count() {
            1 => Ok(Self { first, then: then.into(), rows, session: Arc::new(session) }),
            partitions => internal_err!("{partitions} partitions of sorted rows"),
        }
    }
}

impl DisplayAs for FirstBinsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstBinsExec: rows={}, longer_stretches={}", self.rows, self.then.len())
    }
}

impl ExecutionPlan for FirstBinsExec {
    fn name(&self) -> &'static str {
        "FirstBinsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.first.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.first]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        let first = children.pop().ok_or_else(|| internal_datafusion_err!("FirstBinsExec without a child"))?;
        let (then, session) = (Arc::clone(&self.then), Arc::clone(&self.session));
        Ok(Arc::new(Self { first, then, rows: self.rows, session }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("FirstBinsExec has no partition {partition}");
        }
        let first = self.first.execute(0, Arc::clone(&context))?;
        let (then, session, rows) = (Arc::clone(&self.then), Arc::clone(&self.session), self.rows);
        let found = async move {
            let mut found: Vec<RecordBatch> = first.try_collect().await?;
            for plan in then.iter() {
                if found.iter().map(RecordBatch::num_rows).sum::<usize>() >= rows {
                    break;
                }
                drop(found);
                found = answer(plan.clone(), Arc::clone(&session), Arc::clone(&context)).await?;
            }
            Ok::<_, DataFusionError>(stream::iter(found.into_iter().map(Ok)))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(found).try_flatten())))
    }
}

/// The rows of a plan that may read much.
async fn answer(
    plan: LogicalPlan,
    session: Arc<SessionState>,
    context: Arc<TaskContext>,
) -> DataFusionResult<Vec<RecordBatch>> {
    let processors = context.session_config().get_extension::<Processors>();
    let processors = processors.ok_or_else(|| internal_datafusion_err!("a session without processors"))?;
    let work = async move { collect(Planner.create_whole(&plan, session.as_ref()).await?, context).await };
    let ended = AbortOnDropHandle::new(processors.heavy.spawn(work)).await;
    ended.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}
