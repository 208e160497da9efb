//! Questions that need few rows of a table are given only those to look at.
//!
//! | who asks | what is enough |
//! |---|---|
//! | `max(time)`, `last_value(x ORDER BY time)`, `first_value(x ORDER BY time DESC)`, `selector_last(x, time)` by tags; `DISTINCT ON (tags) … ORDER BY tags, time DESC` | the newest point of each series |
//! | `row_number() OVER (PARTITION BY tags ORDER BY time DESC) <= n`; `rank` and `dense_rank` too | the newest n of each series |
//! | these with `min(time)`, `first_value(x ORDER BY time)`, `selector_first(x, time)` or `ORDER BY time` | the oldest of each series |
//! | `ORDER BY time DESC LIMIT n` | the newest n |
//! | `SELECT DISTINCT` tags, `GROUP BY` tags without an aggregate | the tags of each series |
//!
//! Only the scan at the bottom is exchanged, for one of a [`ShortcutTable`]. The operators above stay and come to the same result,
//! since all rows that they would choose are among those that they get. Filters may look at tags and say bounds of time. In
//! whatever DataFusion makes of the plan later, the other scan is a table like any other.
//!
//! | file | |
//! |---|---|
//! | [`question`] | which operators look at few rows |
//! | [`path`] | what lies between an operator and the table |
//! | [`table`] | where the rows come from: a cache that has them, the ends of series, or the whole table |
//!
//! Not here: how the ends of series are read (`scan::ends`).

mod path;
mod question;
mod table;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::table::Table;
use question::Question;
use table::ShortcutTable;

/// Exchanges scans where few rows are enough. Comes after DataFusion's rules: they have brought the forms in which a question can be
/// asked to a few, and filters down to the scan.
#[derive(Debug)]
pub(super) struct TakeShortcuts;

impl OptimizerRule for TakeShortcuts {
    fn name(&self) -> &'static str {
        "take_shortcuts"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        match Question::of(&plan) {
            Some(question) => exchange(plan, &question),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The plan with another scan at its bottom, where the only one is.
fn exchange(plan: LogicalPlan, question: &Question) -> DataFusionResult<Transformed<LogicalPlan>> {
    plan.transform_down(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<Table>() else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        scan.source = provider_as_source(Arc::new(ShortcutTable::new(table.clone(), question.clone())));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })
}
