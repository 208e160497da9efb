//! Many executions of one `INSERT ... VALUES` as one plan: the rows of all of them.
//!
//! JDBC and Python's DB API write rows like that, thousands at a time. Planned one by one each costs as much as a whole query.
//!
//! Always true: the rows are those that the executions would make one by one, in their order. So what can give something else from one
//! execution to the next is not for here: a function such as `now()`, a subquery, a value whose type the text doesn't settle.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, Volatility};

use super::error::QueryError;
use super::parameters::{self, Fit, Parameter};
use super::plans::Unbound;

/// The plan with the rows of all executions, whose types are not settled yet; `None` if they have to be planned one by one.
///
/// # Errors
/// `ParameterType` if a value can't be what the text wants.
pub(super) fn together(
    unbound: &Unbound,
    executions: &[Vec<(String, Parameter)>],
) -> Result<Option<LogicalPlan>, QueryError> {
    let plan = unbound.plan()?;
    let types_are_settled = unbound.parameters.iter().all(|parameter| parameter.place.is_some());
    let Some(values) = values(&plan).filter(|_| types_are_settled && !executions.is_empty()) else { return Ok(None) };
    let mut rows = Vec::with_capacity(values.values.len() * executions.len());
    for execution in executions {
        let one = LogicalPlan::Values(values.clone());
        match parameters::bind(one, &unbound.parameters, execution, Fit::Exact)? {
            LogicalPlan::Values(one) => rows.extend(one.values),
            _ => return Ok(None),
        }
    }
    let rows = LogicalPlanBuilder::values(rows)?.build()?;
    let with_rows = Arc::unwrap_or_clone(plan).transform_up(|node| match node {
        LogicalPlan::Values(_) => Ok(Transformed::yes(rows.clone())),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    });
    Ok(Some(with_rows?.data))
}

/// The rows of an INSERT, if that is all there is to it.
fn values(plan: &LogicalPlan) -> Option<&Values> {
    let LogicalPlan::Dml(statement) = plan else { return None };
    let mut node = statement.input.as_ref();
    loop {
        node = match node {
            LogicalPlan::Projection(projection) if projection.expr.iter().all(is_same_each_time) => {
                projection.input.as_ref()
            }
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            LogicalPlan::Values(values) if values.values.iter().flatten().all(is_same_each_time) => {
                return Some(values);
            }
            _ => return None,
        }
    }
}

fn is_same_each_time(expression: &Expr) -> bool {
    let changes = expression.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => true,
            _ => false,
        })
    });
    // Whatever can't be looked through is planned one by one.
    changes.is_ok_and(|changes| !changes)
}
