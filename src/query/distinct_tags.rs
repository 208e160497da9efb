//! Tags of series come once each: whoever only wants them once has nothing to do.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::kept_operators::SeamExec;
use super::scan::SeriesEndsExec;

/// Takes away the aggregation of `SELECT DISTINCT` over tags of series where it asks for all that come.
#[derive(Debug)]
pub(super) struct DistinctTags;

impl PhysicalOptimizerRule for DistinctTags {
    fn name(&self) -> &str {
        "DistinctTags"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let take_away = |plan: Arc<dyn ExecutionPlan>| match plan.downcast_ref::<AggregateExec>().and_then(groups) {
            Some((columns, input)) => {
                let plan = ProjectionExec::try_new(columns, Arc::clone(input))?;
                Ok(Transformed::yes(Arc::new(plan) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(plan)),
        };
        plan.transform_up(take_away).map(|transformed| transformed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The groups of an aggregation whose input has no two rows of one group.
fn groups(aggregate: &AggregateExec) -> Option<(Vec<ProjectionExpr>, &Arc<dyn ExecutionPlan>)> {
    let is_whole = matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned);
    let groups = aggregate.group_expr();
    let limit = aggregate.limit_options();
    if !is_whole || !aggregate.aggr_expr().is_empty() || !groups.is_single() || limit.is_some() {
        return None;
    }
    let input = aggregate.input();
    // DataFusion's rules let what is read yield.
    let read = input.downcast_ref::<CooperativeExec>().map_or(input, CooperativeExec::input);
    let is_distinct = read.downcast_ref().is_some_and(SeriesEndsExec::is_distinct)
        || read.downcast_ref().is_some_and(SeamExec::is_distinct);
    if !is_distinct {
        return None;
    }
    let columns = groups.expr().iter().map(|(group, name)| {
        group.downcast_ref::<Column>().map(|_| ProjectionExpr::new(Arc::clone(group), name.clone()))
    });
    let columns = columns.collect::<Option<Vec<_>>>()?;
    let is_asked = |place: usize| {
        let is_it =
            |column: &ProjectionExpr| column.expr.downcast_ref::<Column>().is_some_and(|of| of.index() == place);
        columns.iter().any(is_it)
    };
    (0..input.schema().fields().len()).all(is_asked).then_some((columns, input))
}
