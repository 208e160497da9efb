//! Our rules for physical plans, after DataFusion's own, in order. (The one for logical plans is `shortcuts`.)
//!
//! 1. [`OneRowASeries`]: combinations of tags are found without looking at all rows.
//! 2. [`YieldAfterMultiplying`]: last, because it wraps what the others look at by type.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::scan;

/// The rules of ours for physical plans.
pub(super) fn physical() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![Arc::new(OneRowASeries), Arc::new(YieldAfterMultiplying)]
}

/// Lets a scan of decoded rows bring one row for each series, where an aggregation without aggregates, as `SELECT DISTINCT` is one,
/// looks at tags alone.
#[derive(Debug)]
struct OneRowASeries;

impl PhysicalOptimizerRule for OneRowASeries {
    fn name(&self) -> &str {
        "OneRowASeries"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let reduce = |plan: Arc<dyn ExecutionPlan>| {
            let is_distinct = plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
                aggregate.aggr_expr().is_empty() && aggregate.input().downcast_ref::<AggregateExec>().is_none()
            });
            match is_distinct {
                true => plan.map_children(once_a_series),
                false => Ok(Transformed::no(plan)),
            }
        };
        plan.transform_down(reduce).map(|transformed| transformed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What lies between an aggregation and its scans, as far as the number of equal rows doesn't matter to it.
fn once_a_series(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = scan::one_row_a_series(&plan) {
        return Ok(Transformed::yes(scan));
    }
    let is_settled = |expr: &Arc<dyn PhysicalExpr>| !is_volatile(expr);
    let passes = match plan.downcast_ref::<ProjectionExec>() {
        Some(projection) => projection.expr().iter().all(|column| is_settled(&column.expr)),
        None => ["CoalesceBatchesExec", "CoalescePartitionsExec", "CooperativeExec", "RepartitionExec", "UnionExec"]
            .contains(&plan.name()),
    };
    if passes && plan.fetch().is_none() { plan.map_children(once_a_series) } else { Ok(Transformed::no(plan)) }
}

/// Operators that make many rows of few: they can be busy for hours without asking their inputs for more.
const MULTIPLYING: [&str; 7] = [
    "CrossJoinExec",
    "NestedLoopJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "SymmetricHashJoinExec",
    "UnnestExec",
];

/// Lets a query be cancelled while it multiplies rows.
///
/// A query stops when its task yields. DataFusion makes the leaves of a plan yield, which is enough only where each batch
/// comes from a leaf: an aggregate over a cross join reads its leaves once, and then kept a thread for good,
/// although its client was long gone. With as many such queries as threads no query was answered any more.
#[derive(Debug)]
struct YieldAfterMultiplying;

impl PhysicalOptimizerRule for YieldAfterMultiplying {
    fn name(&self) -> &str {
        "YieldAfterMultiplying"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let wrap = |plan: Arc<dyn ExecutionPlan>| {
            if MULTIPLYING.contains(&plan.name()) {
                return Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>));
            }
            Ok(Transformed::no(plan))
        };
        plan.transform_up(wrap).map(|transformed| transformed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
