//! Our rules for physical plans, after DataFusion's own, in order. (The one for logical plans is `shortcuts`.)
//!
//! 1. [`DistinctTags`]: where aggregations are is settled.
//! 2. [`CutDictionaries`]: of those that are left.
//! 3. [`GroupRuns`]: takes the place of first halves of aggregations, which the others look at by type.
//! 4. [`YieldAfterMultiplying`]: last, because it wraps what the others look at by type.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

use super::cut_dictionaries::CutDictionaries;
use super::distinct_tags::DistinctTags;
use super::group_runs::GroupRuns;

/// The rules of ours for physical plans.
pub(super) fn physical() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![Arc::new(DistinctTags), Arc::new(CutDictionaries), Arc::new(GroupRuns), Arc::new(YieldAfterMultiplying)]
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
