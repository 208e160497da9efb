//! DataFusion's optimizer, and a short way through it for plans that read one table.
//!
//! The optimizer repeats its rules until a plan stays the same, so the last time through is for nothing; and near half of its rules are
//! about joins, unions and subqueries. A plan that is a chain of simple nodes has none of these, and one time through the other rules
//! makes of it what the whole way does, but for what [`LEFT_OVER`] then takes away: a filter that comes down and a column that is not needed
//! meet no node that would bring up something new. For small queries this is a good part of their time.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::alias::AliasGenerator;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerConfig};

/// Rules that find nothing to do in a chain of nodes that reads one table.
const FOR_MANY_TABLES: [&str; 11] = [
    "rewrite_set_comparison",
    "optimize_unions",
    "unions_to_filter",
    "eliminate_join",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "eliminate_cross_join",
    "filter_null_join_keys",
    "eliminate_outer_join",
];

/// Rules that find something to do after all others: a LIMIT that went into the sort below, and filters that contradict each other once
/// they have come together.
const LEFT_OVER: [&str; 4] = ["eliminate_filter", "eliminate_limit", "propagate_empty_relation", "push_down_limit"];

/// Rules that find something to do where an aggregate has become a numbering of rows (`shortcuts`): projections, and a filter on them.
const LEFT_OVER_OF_NUMBERS: [&str; 2] = ["push_down_filter", "optimize_projections"];

/// The short way. Lives in the session's config.
pub(super) struct ShortWay {
    once: Optimizer,
    after: Optimizer,
    after_numbers: Optimizer,
    options: Arc<ConfigOptions>,
}

impl fmt::Debug for ShortWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortWay").field("rules", &self.once.rules.len()).finish_non_exhaustive()
    }
}

impl ShortWay {
    /// The short way through the rules of a session.
    pub(super) fn of(session: &SessionState) -> Self {
        let rules = |is_wanted: &dyn Fn(&str) -> bool| {
            let rules = session.optimizer().rules.iter().filter(|rule| is_wanted(rule.name()));
            Optimizer::with_rules(rules.cloned().collect())
        };
        let mut options = session.config_options().as_ref().clone();
        options.optimizer.max_passes = 1;
        Self {
            once: rules(&|name| !FOR_MANY_TABLES.contains(&name)),
            after: rules(&|name| LEFT_OVER.contains(&name)),
            after_numbers: rules(&|name| LEFT_OVER.contains(&name) || LEFT_OVER_OF_NUMBERS.contains(&name)),
            options: Arc::new(options),
        }
    }
}

/// A plan whose types are settled, as the optimizer leaves it.
///
/// # Errors
/// If an expression can't be computed.
pub(super) fn optimize(session: &SessionState, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    match session.config().get_extension::<ShortWay>() {
        Some(short) if is_simple(&plan)? => {
            let config = OneTime { session, options: &short.options };
            let plan = short.once.optimize(plan, &config, |_, _| {})?;
            let after = if plan.exists(|node| Ok(matches!(node, LogicalPlan::Window(_))))? {
                &short.after_numbers
            } else {
                &short.after
            };
            after.optimize(plan, &config, |_, _| {})
        }
        _ => session.optimizer().optimize(plan, session, |_, _| {}),
    }
}

/// Whether a plan is a chain of nodes that reads one table, or none.
pub(super) fn is_simple(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut is_simple = true;
    plan.apply(|node| {
        is_simple &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Window(_)
        );
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                is_simple &= !matches!(
                    part,
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
                );
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(is_simple)
}

/// A session whose rules are gone through once.
struct OneTime<'a> {
    session: &'a SessionState,
    options: &'a Arc<ConfigOptions>,
}

impl OptimizerConfig for OneTime<'_> {
    fn query_execution_start_time(&self) -> Option<DateTime<Utc>> {
        self.session.query_execution_start_time()
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        self.session.alias_generator()
    }

    fn options(&self) -> Arc<ConfigOptions> {
        Arc::clone(self.options)
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(self.session)
    }
}
