//! Aggregates that take many values of one row each, as a numbering of rows.
//!
//! `DISTINCT ON` comes as a `first_value` for each column. DataFusion keeps a state for each of them and each group, and for most types one
//! that is allocated by itself; with a hundred series of twenty columns that is two thousand states. To sort the few rows that there are and to
//! take the first of each group is the same, for all columns at once.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortExpr};
use datafusion::logical_expr::{Aggregate, Expr, ExprFunctionExt, Filter, LogicalPlan, Projection, Window, lit};

/// So many values of a row are worth a sort. Of fewer, mostly numbers, states are cheap.
const VALUES_LEAST: usize = 3;

/// The plan that numbers the rows of each group and keeps the first, with the columns of `aggregate`. `None` if the aggregates are of several
/// rows, or of few values.
///
/// # Errors
/// If DataFusion doesn't take it; a defect.
pub(super) fn numbered(aggregate: &Aggregate) -> DataFusionResult<Option<LogicalPlan>> {
    let groups = &aggregate.group_expr;
    if groups.is_empty() || groups.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
        return Ok(None);
    }
    let Some((values, order)) = values_of_one_row(&aggregate.aggr_expr, groups) else { return Ok(None) };
    let numbers = row_number_udwf().call(Vec::new()).partition_by(groups.clone()).order_by(order).build()?;
    let window = Window::try_new(vec![numbers], Arc::clone(&aggregate.input))?;
    let Some(number) = window.schema.columns().pop() else { return Ok(None) };
    let first = Filter::try_new(Expr::Column(number).eq(lit(1_u64)), Arc::new(LogicalPlan::Window(window)))?;
    let exprs = as_named(groups.iter().cloned().chain(values), &aggregate.schema);
    Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::Filter(first)))?)))
}

/// What the aggregates take, all of the row that comes first in this order; the aggregates are those of a question for the ends of series.
fn values_of_one_row(functions: &[Expr], groups: &[Expr]) -> Option<(Vec<Expr>, Vec<SortExpr>)> {
    let (mut values, mut order) = (Vec::with_capacity(functions.len()), None);
    for function in functions {
        let function = match function {
            Expr::Alias(alias) => alias.expr.as_ref(),
            function => function,
        };
        let Expr::AggregateFunction(AggregateFunction { func, params }) = function else { return None };
        let ([value], is_first) = (params.args.as_slice(), func.name() == "first_value") else { return None };
        if !is_first && func.name() != "last_value" {
            return None;
        }
        let of_this: Vec<SortExpr> = (params.order_by.iter())
            .filter(|order| !groups.contains(&order.expr))
            .map(|order| if is_first { order.clone() } else { reversed(order) })
            .collect();
        if *order.get_or_insert_with(|| of_this.clone()) != of_this {
            return None;
        }
        values.push(value.clone());
    }
    order.filter(|_| values.len() >= VALUES_LEAST).map(|order| (values, order))
}

fn reversed(order: &SortExpr) -> SortExpr {
    SortExpr { expr: order.expr.clone(), asc: !order.asc, nulls_first: !order.nulls_first }
}

/// The expressions under the names of `schema`.
fn as_named(exprs: impl Iterator<Item = Expr>, schema: &DFSchema) -> Vec<Expr> {
    let named = |(expr, (qualifier, field)): (
        Expr,
        (Option<&datafusion::common::TableReference>, &Arc<arrow::datatypes::Field>),
    )| {
        match &expr {
            Expr::Column(column) if column.relation.as_ref() == qualifier && column.name == *field.name() => expr,
            _ => expr.alias_qualified(qualifier.cloned(), field.name()),
        }
    };
    exprs.zip(schema.iter()).map(named).collect()
}
