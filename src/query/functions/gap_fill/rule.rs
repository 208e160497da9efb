//! Turns what is written with `date_bin_gapfill`, `locf` and `interpolate` into nodes that fill gaps.
//!
//! Runs after types are settled, from the leaves of a plan to its root. Whatever of these functions is left at the end stands where
//! it means nothing, and is an error.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, internal_datafusion_err, internal_err, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::functions::datetime;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::super::wall_clock;
use super::node::{BinCall, FillCall, GapFill};
use super::range::Source;
use super::{DATE_BIN_GAPFILL, DATE_BIN_WALLCLOCK_GAPFILL, INTERPOLATE, LOCF, misplaced};

/// The rule.
#[derive(Debug)]
pub(super) struct FillGaps;

impl AnalyzerRule for FillGaps {
    fn name(&self) -> &str {
        "fill_gaps"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DataFusionResult<LogicalPlan> {
        let mut has_calls = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                has_calls |= call_in(expr).is_some();
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(if has_calls { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !has_calls {
            return Ok(plan);
        }
        Ok(plan.transform_up_with_subqueries(rewritten)?.data)
    }
}

/// The first of the functions in an expression.
fn call_in(expr: &Expr) -> Option<String> {
    let mut name = None;
    let walked = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && [DATE_BIN_GAPFILL, DATE_BIN_WALLCLOCK_GAPFILL, LOCF, INTERPOLATE].contains(&call.name())
        {
            name = Some(call.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    name.filter(|_| walked.is_ok())
}

fn rewritten(plan: LogicalPlan) -> DataFusionResult<Transformed<LogicalPlan>> {
    // Filled columns may be null where those of the aggregation were not, and there may be more of them.
    let plan = if has_node(&plan)? { plan.recompute_schema()? } else { plan };
    let plan = match plan {
        LogicalPlan::Aggregate(aggregate) => with_bins(aggregate)?,
        plan @ (LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Window(_)) => with_fills(plan)?,
        plan => plan,
    };
    plan.apply_expressions(|expr| match call_in(expr) {
        Some(name) => misplaced(&name),
        None => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(Transformed::yes(plan))
}

fn has_node(plan: &LogicalPlan) -> DataFusionResult<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Extension(extension) if extension.node.as_any().is::<GapFill>())))
}

/// An aggregation by bins with gaps becomes one by bins and a node that fills them.
fn with_bins(mut aggregate: Aggregate) -> DataFusionResult<LogicalPlan> {
    let mut places = aggregate.group_expr.iter().enumerate().filter(|(_, group)| {
        call_in(group).is_some_and(|name| name == DATE_BIN_GAPFILL || name == DATE_BIN_WALLCLOCK_GAPFILL)
    });
    let Some((place, group)) = places.next() else { return Ok(LogicalPlan::Aggregate(aggregate)) };
    if places.next().is_some() {
        return plan_err!("{DATE_BIN_GAPFILL} specified more than once: GROUP BY can only fill the gaps of one column");
    }
    if let Expr::GroupingSet(_) = group {
        return plan_err!("{DATE_BIN_GAPFILL} can't be used with GROUPING SETS, ROLLUP or CUBE");
    }
    let named = NamePreserver::new_for_projection().save(group);
    let Expr::ScalarFunction(ScalarFunction { func, args }) = group.clone().unalias_nested().data else {
        return plan_err!(
            "{DATE_BIN_GAPFILL} must be a top-level expression in the GROUP BY clause when gap filling: group by it alone and \
             compute with it in the SELECT list"
        );
    };
    let is_wall_clock = func.name() == DATE_BIN_WALLCLOCK_GAPFILL;
    let [interval, time, origin @ ..] = args.as_slice() else {
        return internal_err!("{} of {} arguments", func.name(), args.len());
    };
    for (what, constant) in [("interval", Some(interval)), ("origin", origin.first())] {
        if constant.is_some_and(|constant| !constant.column_refs().is_empty()) {
            return plan_err!("the {what} of {} has to be the same for all rows", func.name());
        }
    }
    let source = Source::find(&aggregate.input, time)?;
    source.check_bounds()?;
    let bin = BinCall { is_wall_clock, interval: interval.clone(), origin: origin.first().cloned(), source };

    let function = if is_wall_clock { Arc::new(wall_clock::date_bin_wallclock()) } else { datetime::date_bin() };
    let binned = Expr::ScalarFunction(ScalarFunction::new_udf(function, args));
    aggregate.group_expr[place] = named.restore(binned);
    let groups = aggregate.group_expr.len();
    let fields = aggregate.schema.fields().iter().skip(groups);
    let fills =
        aggregate.aggr_expr.iter().zip(fields).map(|(aggregate, field)| over_no_rows(aggregate, field.data_type()));
    let fills = fills.collect::<DataFusionResult<Vec<ScalarValue>>>()?;
    let aggregate = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregate.aggr_expr)?;
    let node = GapFill::new(LogicalPlan::Aggregate(aggregate), place, groups, fills, bin)?;
    for expression in node.input.expressions() {
        if let Some(name) = call_in(&expression) {
            return misplaced(&name);
        }
    }
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// What an aggregate is over no rows: 0 of a count, else null.
fn over_no_rows(aggregate: &Expr, data_type: &arrow::datatypes::DataType) -> DataFusionResult<ScalarValue> {
    match aggregate.clone().unalias_nested().data {
        Expr::AggregateFunction(AggregateFunction { func, .. }) => func.default_value(data_type),
        _ => ScalarValue::try_from(data_type),
    }
}

/// Calls of `locf` and `interpolate` become columns of the node below.
fn with_fills(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let mut calls: Vec<FillCall> = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            let Some(call) = fill_call(expr) else { return Ok(TreeNodeRecursion::Continue) };
            if let Some(inner) = call_in(&call.argument) {
                return plan_err!(
                    "{} can't be called on {inner}: one function fills the gaps of one aggregate",
                    call.function
                );
            }
            if !calls.contains(&call) {
                calls.push(call);
            }
            Ok(TreeNodeRecursion::Jump)
        })
    })?;
    let Some(first) = calls.first() else { return Ok(plan) };
    let Some(filled) = with_columns(plan.inputs().first().ok_or_else(no_input)?, &calls)? else {
        return misplaced(&first.function);
    };
    let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
    inputs[0] = filled;
    let names = NamePreserver::new(&plan);
    let replace = |expr: Expr| {
        Ok(match fill_call(&expr) {
            Some(call) => {
                let column = Expr::Column(Column::new_unqualified(call.name));
                Transformed::new(column, true, TreeNodeRecursion::Jump)
            }
            None => Transformed::no(expr),
        })
    };
    let expressions = plan.expressions().into_iter().map(|expr| {
        let name = names.save(&expr);
        Ok(name.restore(expr.transform_down(replace)?.data))
    });
    plan.with_new_exprs(expressions.collect::<DataFusionResult<Vec<Expr>>>()?, inputs)
}

fn no_input() -> datafusion::error::DataFusionError {
    internal_datafusion_err!("a projection of nothing")
}

fn fill_call(expr: &Expr) -> Option<FillCall> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let ([argument], LOCF | INTERPOLATE) = (args.as_slice(), func.name()) else { return None };
    let name = expr.schema_name().to_string();
    Some(FillCall { function: func.name().to_owned(), argument: argument.clone(), name })
}

/// The plan with these columns in its node that fills gaps; `None` if there is no such node within the same SELECT.
fn with_columns(plan: &LogicalPlan, calls: &[FillCall]) -> DataFusionResult<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<GapFill>() {
            Some(node) => {
                let node = Arc::new(node.clone().with_fills(calls)?);
                Ok(Some(LogicalPlan::Extension(Extension { node })))
            }
            None => Ok(None),
        },
        LogicalPlan::Filter(_) | LogicalPlan::Window(_) => {
            let Some(input) = plan.inputs().first().map(|input| with_columns(input, calls)).transpose()?.flatten()
            else {
                return Ok(None);
            };
            Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?))
        }
        _ => Ok(None),
    }
}
