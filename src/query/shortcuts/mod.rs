//! Questions that need few rows of a table are given only those to look at.
//!
//! | who asks | what is enough |
//! |---|---|
//! | `max(time)`, `last_value(x ORDER BY time)`, `first_value(x ORDER BY time DESC)`, `selector_last(x, time)` by tags; `DISTINCT ON (tags) … ORDER BY tags, time DESC` | the newest point of each series |
//! | `row_number() OVER (PARTITION BY tags ORDER BY time DESC) <= n`; `rank` and `dense_rank` too | the newest n of each series |
//! | these with `min(time)`, `first_value(x ORDER BY time)`, `selector_first(x, time)` or `ORDER BY time` | the oldest of each series |
//! | `ORDER BY time DESC LIMIT n`, `ORDER BY time LIMIT n` | the newest n, the oldest n |
//! | `GROUP BY` a bin of time `ORDER BY` it `LIMIT n` | a stretch of time at one end |
//! | `SELECT DISTINCT` tags, `GROUP BY` tags without an aggregate | the tags of each series |
//!
//! The scan at the bottom is exchanged for one of a [`ShortcutTable`]. The operators above stay and come to the same result,
//! since all rows that they would choose are among those that they get; only where many values are taken of one row each, the rows are
//! numbered instead. Filters may look at tags and say bounds of time. In
//! whatever DataFusion makes of the plan later, the other scan is a table like any other.
//!
//! | file | |
//! |---|---|
//! | [`question`] | which operators look at few rows |
//! | [`path`] | what lies between an operator and the table |
//! | [`numbered`] | many values of one row for each group without a state for each of them |
//! | [`bins`], [`bins_exec`] | the first and the last bins of time, in stretches that get longer |
//! | [`table`] | where the rows come from: a cache that has them, the ends of series, or the whole table |
//!
//! Who plans scans by itself asks for [`scan_of_ends`]: InfluxQL does for `last()`, `first()` and rows with a `LIMIT`.
//!
//! Not here: how the ends of series are read (`scan::ends`).

mod bins;
mod bins_exec;
mod numbered;
mod path;
mod question;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::scan::Ends;
use super::table::Table;
use question::Question;

pub(super) use bins::FirstBins;
pub(super) use table::ShortcutTable;

/// The name of the rule.
const NAME: &str = "take_shortcuts";

/// A table to be scanned for these of its rows; others may come too, as with every shortcut. `filters` are all that stand above the scan
/// but those that say of fields that they have a value; of each list of columns in `present` one has to have a value in a row for
/// it to count. Where filters look at more than tags and times, or where the newest points don't count, all rows come.
///
/// `None` if the session takes no shortcuts.
///
/// # Errors
/// If a filter does not fit the table; a defect.
pub(super) fn scan_of_ends(
    session: &SessionState,
    table: &Table,
    which: Ends,
    present: BTreeSet<Vec<String>>,
    filters: Vec<Expr>,
) -> DataFusionResult<Option<Arc<dyn TableSource>>> {
    if !session.optimizer().rules.iter().any(|rule| rule.name() == NAME) {
        return Ok(None);
    }
    // As the optimizer would leave them: some functions are only known before it.
    let columns = Arc::new(DFSchema::try_from(Arc::clone(table.columns().arrow()))?);
    let simplifier = simplifier(session, Arc::clone(&columns));
    let simple = |filter| simplifier.simplify(simplifier.coerce(filter, &columns)?);
    let filters = filters.into_iter().map(simple).collect::<DataFusionResult<Vec<Expr>>>()?;
    let question = Question::of_ends(which, present, filters);
    Ok(Some(provider_as_source(Arc::new(ShortcutTable::new(table.clone(), question)))))
}

/// Computes what can be computed of expressions with these columns before rows are there.
fn simplifier(session: &SessionState, columns: DFSchemaRef) -> ExprSimplifier {
    let context = SimplifyContext::builder()
        .with_schema(columns)
        .with_config_options(Arc::clone(session.config_options()))
        .with_query_execution_start_time(session.execution_props().query_execution_start_time)
        .build();
    ExprSimplifier::new(context)
}

/// Exchanges scans where few rows are enough. Comes after DataFusion's rules: they have brought the forms in which a question can be
/// asked to a few, and filters down to the scan.
#[derive(Debug)]
pub(super) struct TakeShortcuts;

impl OptimizerRule for TakeShortcuts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        let Some(question) = Question::of(&plan) else { return Ok(Transformed::no(plan)) };
        let numbered = match &plan {
            LogicalPlan::Aggregate(aggregate) => numbered::numbered(aggregate)?,
            _ => None,
        };
        exchange(numbered.unwrap_or(plan), &question)
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
