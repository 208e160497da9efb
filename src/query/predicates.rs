//! Conditions written so that DataFusion's optimizer concludes the right thing from them.
//!
//! It takes expressions that are written differently for different values. That holds for literals on the right of what they are compared with,
//! and not for two forms that it (55.2) treats alike:
//!
//! | condition | what it made of it | here |
//! |---|---|---|
//! | `f = 5 AND 5 = f`, `f >= 5 AND 5 < f` | nothing; `f >= 5`: it is the literals' sides that differ (`push_down_filter`) | [`LiteralsRight`] |
//! | `f IN (g, h) AND f IN (k, h)` | `f IN (h)`: members that are columns may be equal (`simplify_expressions`) | [`SingleComparisons`] |

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility, lit};
use datafusion::optimizer::OptimizerConfig;
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer, OptimizerRule};

/// The rules of DataFusion for logical plans, with those that conclude something from conditions set right.
pub(super) fn with_rules(session: SessionStateBuilder) -> SessionStateBuilder {
    let optimizer = Optimizer::new().rules.into_iter().map(|rule| match rule.name() {
        "push_down_filter" => Arc::new(LiteralsRight(rule)) as Rule,
        _ => rule,
    });
    session.with_analyzer_rule(Arc::new(SingleComparisons)).with_optimizer_rules(optimizer.collect())
}

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// A list as comparisons with each of its members. They are a tree of few levels however many members there are.
pub(super) fn single_comparisons(InList { expr: compared, list, negated }: InList) -> Expr {
    let mut comparisons: Vec<Expr> = list
        .into_iter()
        .map(|member| match negated {
            true => compared.as_ref().clone().not_eq(member),
            false => compared.as_ref().clone().eq(member),
        })
        .collect();
    while comparisons.len() > 1 {
        let mut rest = comparisons.into_iter();
        let mut pairs = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(first) = rest.next() {
            pairs.push(match (rest.next(), negated) {
                (None, _) => first,
                (Some(second), true) => first.and(second),
                (Some(second), false) => first.or(second),
            });
        }
        comparisons = pairs;
    }
    comparisons.pop().unwrap_or_else(|| lit(negated))
}

/// Takes lists apart that have members other than constants.
#[derive(Debug)]
struct SingleComparisons;

impl AnalyzerRule for SingleComparisons {
    fn name(&self) -> &str {
        "single_comparisons"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let taken_apart = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                if !expr.exists(|part| Ok(is_of_columns(part)))? {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let taken_apart = expr.transform_up(|part| match part {
                    Expr::InList(list) if is_list_of_columns(&list) => Ok(Transformed::yes(single_comparisons(list))),
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(taken_apart.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(taken_apart.data)
    }
}

fn is_of_columns(expr: &Expr) -> bool {
    matches!(expr, Expr::InList(list) if is_list_of_columns(list))
}

/// Whether a list has members whose values the optimizer doesn't know, and what is compared with them is the same each time.
fn is_list_of_columns(InList { expr: compared, list, .. }: &InList) -> bool {
    list.iter().any(|member| !is_constant(member)) && !compared.is_volatile()
}

/// Whether the optimizer makes a literal of an expression.
fn is_constant(expr: &Expr) -> bool {
    let is_variable = |part: &Expr| match part {
        Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Volatile,
        part => !matches!(
            part,
            Expr::Literal(..)
                | Expr::Cast(_)
                | Expr::TryCast(_)
                | Expr::BinaryExpr(_)
                | Expr::Negative(_)
                | Expr::Not(_)
        ),
    };
    // A walk that only looks does not fail.
    !expr.exists(|part| Ok(is_variable(part))).unwrap_or(true)
}

/// A rule that is given filters with columns on the left of the literals that they are compared with.
///
/// Earlier would not do: casts become literals, and columns of subqueries are exchanged for what they are, while rules are gone through.
#[derive(Debug)]
struct LiteralsRight(Rule);

impl OptimizerRule for LiteralsRight {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(_) => literals_right(plan)?.transform_data(|plan| self.0.rewrite(plan, config)),
            other => self.0.rewrite(other, config),
        }
    }
}

/// Turns the comparisons of filters that are above one another: they become one filter.
fn literals_right(plan: LogicalPlan) -> DataFusionResult<Transformed<LogicalPlan>> {
    plan.transform_down(|node| match node {
        LogicalPlan::Filter(mut filter) => {
            let predicate = filter.predicate.transform(|part| Ok(literal_right(part)))?;
            filter.predicate = predicate.data;
            Ok(Transformed::new(LogicalPlan::Filter(filter), predicate.transformed, TreeNodeRecursion::Continue))
        }
        other => Ok(Transformed::new(other, false, TreeNodeRecursion::Jump)),
    })
}

fn literal_right(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!((left.as_ref(), right.as_ref()), (Expr::Literal(..), Expr::Column(_)))
                && let Some(swapped) = op.swap() =>
        {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: right, op: swapped, right: left }))
        }
        other => Transformed::no(other),
    }
}
