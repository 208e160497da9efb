//! On which threads a query runs.
//!
//! Threads that take turns at whatever is ready give each query the same number of turns, however long a turn is: beside a few queries that go through
//! everything, a question about one machine waits for all of them several times. So there are two sets of threads, and the operating system, which takes a
//! processor away from whoever has had it for long, divides the processors between them. Everything is planned on the quick ones; what may read
//! much runs on the others, where only its like waits for it.
//!
//! Not here: how many queries run at one time (`running::queue`).

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use tokio::runtime::Handle;

use super::error::QueryError;
use super::stream::on_cpu;

/// Values (rows by columns) that a query may read at the most to be a quick one: a few hundredths of a second of one processor.
const QUICK_VALUES_MAX: usize = 4_000_000;

/// The threads of queries, all with stacks of at least 16 MiB.
#[derive(Debug, Clone)]
pub struct Processors {
    /// Plan everything and run what reads little.
    pub quick: Handle,
    /// Run what may read much.
    pub heavy: Handle,
}

impl Processors {
    /// Starts a plan where it fits. Must be called on the quick threads; the rows must be taken on those that are told.
    ///
    /// # Errors
    /// Whatever starting the plan says.
    pub(super) async fn start(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<(SendableRecordBatchStream, Handle), QueryError> {
        // Operators start tasks of their own where they are started themselves.
        match is_heavy([&plan])? {
            false => Ok((execute_stream(plan, context)?, self.quick.clone())),
            true => {
                let rows = on_cpu(&self.heavy, async move { Ok(execute_stream(plan, context)?) }).await?;
                Ok((rows, self.heavy.clone()))
            }
        }
    }

    /// The threads for plans that run one after the other.
    ///
    /// # Errors
    /// If the statistics of a plan can't be computed.
    pub(super) fn fitting<'a>(
        &self,
        plans: impl IntoIterator<Item = &'a Arc<dyn ExecutionPlan>>,
    ) -> Result<Handle, QueryError> {
        Ok(if is_heavy(plans)? { self.heavy.clone() } else { self.quick.clone() })
    }
}

impl From<Handle> for Processors {
    /// The same threads for everything.
    fn from(threads: Handle) -> Self {
        Self { quick: threads.clone(), heavy: threads }
    }
}

fn is_heavy<'a>(plans: impl IntoIterator<Item = &'a Arc<dyn ExecutionPlan>>) -> DataFusionResult<bool> {
    let mut values = 0_usize;
    for plan in plans {
        values = values.saturating_add(values_read(plan.as_ref())?);
    }
    Ok(values > QUICK_VALUES_MAX)
}

/// At most so many values are read, as far as the plan can tell. What joins is taken to bring every row of one side with every row of the
/// other; what can't tell, as tables about the server, is taken to be small, but for rows that are made up while they are read.
fn values_read(plan: &dyn ExecutionPlan) -> DataFusionResult<usize> {
    let children = plan.children();
    if children.is_empty() {
        if plan.is::<LazyMemoryExec>() {
            return Ok(usize::MAX);
        }
        let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new())?;
        return Ok(match statistics.num_rows {
            Precision::Exact(rows) | Precision::Inexact(rows) => {
                rows.saturating_mul(plan.schema().fields().len().max(1))
            }
            Precision::Absent => 0,
        });
    }
    let is_join = plan.name().ends_with("JoinExec");
    children.into_iter().try_fold(usize::from(is_join), |values, child| {
        let read = values_read(child.as_ref())?;
        Ok(if is_join { values.saturating_mul(read) } else { values.saturating_add(read) })
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn read_by(text: &str) -> usize {
        let context = SessionContext::new();
        for (name, rows) in [("a", 1000), ("b", 3000)] {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
            let batch = RecordBatch::try_from_iter([("x", Arc::clone(&column)), ("y", column)]).unwrap();
            context.register_batch(name, batch).unwrap();
        }
        let plan = context.sql(text).await.unwrap().create_physical_plan().await.unwrap();
        values_read(plan.as_ref()).unwrap()
    }

    #[tokio::test]
    async fn what_is_read_is_counted_by_rows_and_columns() {
        assert_eq!(read_by("SELECT x, y FROM a WHERE x > 3").await, 2000);
        assert_eq!(read_by("SELECT max(x) OVER () FROM a UNION ALL SELECT x FROM b").await, 4000);
        assert_eq!(read_by("SELECT 1").await, 1);
    }

    #[tokio::test]
    async fn joins_may_bring_every_pair_and_rows_that_are_made_up_have_no_end() {
        assert_eq!(read_by("SELECT a.x FROM a JOIN b ON a.x = b.x").await, 3_000_000);
        assert_eq!(read_by("SELECT a.x FROM a CROSS JOIN b AS c").await, 1000 * 3000);
        assert_eq!(read_by("SELECT * FROM generate_series(1, 10)").await, usize::MAX);
    }
}
