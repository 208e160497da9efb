//! Instants that stand for others, so that a plan can come again for other times.
//!
//! A dashboard asks the same each time it is looked at, of the time until now. What is planned then, and kept, has stand-ins for the bounds of time:
//! instants in the same order that nobody means. They come out of the optimizer in the filters of the table, as bounds that rows have to keep and
//! nothing else, and are exchanged there for those that are meant. A plan where one of them comes out elsewhere, or not as an instant, is not
//! used.
//!
//! Not here: where instants are found (`instants` for SQL, `influxql::kept`).

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::kept_operators::{lower_part, with_filters};

/// The first of the instants that stand for others. It is no whole number of microseconds: whatever was rounded on its way is no stand-in.
const FIRST: i64 = 0x0123_4567_89AB_CDEF;

/// Instants that are meant, and what stands for them.
#[derive(Debug, Clone)]
pub(super) struct StandIns {
    /// In order; the first stand-in stands for the first, and so on.
    meant: Vec<i64>,
}

impl StandIns {
    /// For these instants, sorted.
    pub(super) fn of(meant: Vec<i64>) -> Self {
        Self { meant }
    }

    /// What stands for the instant at this place.
    pub(super) fn at(place: usize) -> i64 {
        FIRST.saturating_add(i64::try_from(place).unwrap_or(i64::MAX))
    }

    /// What stands for an instant, if something does.
    pub(super) fn instead_of(&self, instant: i64) -> Option<i64> {
        self.meant.binary_search(&instant).ok().map(Self::at)
    }

    /// The lower part of a plan with what is meant; `None` if it is the same.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn exchanged(&self, plan: &LogicalPlan) -> DataFusionResult<Option<LogicalPlan>> {
        let lower = lower_part(plan).filter(|_| !self.meant.is_empty());
        lower.map(|lower| with_filters(lower, |filter| self.exchange(filter))).transpose()
    }

    fn exchange(&self, filter: Expr) -> DataFusionResult<Expr> {
        let exchanged = filter.transform(|part| {
            let Some(place) = self.place(&part) else { return Ok(Transformed::no(part)) };
            let meant = ScalarValue::TimestampNanosecond(Some(self.meant[place]), None);
            Ok(Transformed::yes(Expr::Literal(meant, None)))
        });
        exchanged.map(|exchanged| exchanged.data)
    }

    /// Which stand-in a literal is.
    fn place(&self, literal: &Expr) -> Option<usize> {
        let Expr::Literal(ScalarValue::TimestampNanosecond(Some(at), _), _) = literal else { return None };
        let place = usize::try_from(at.checked_sub(FIRST)?).ok()?;
        (place < self.meant.len()).then_some(place)
    }

    /// Whether stand-ins of a plan, as the optimizer leaves it, are only where they are exchanged.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn are_only_below(&self, plan: &LogicalPlan) -> DataFusionResult<bool> {
        let lower = lower_part(plan);
        let mut are_only_below = true;
        plan.apply(|node| {
            if lower.is_some_and(|lower| std::ptr::eq(lower, node)) {
                return Ok(TreeNodeRecursion::Jump);
            }
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    are_only_below &= self.place(part).is_none();
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(are_only_below)
    }

    /// Whether all of them are in the filter on the table.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn are_all_in_the_filter(&self, plan: &LogicalPlan) -> DataFusionResult<bool> {
        let Some(LogicalPlan::Filter(filter)) = lower_part(plan) else { return Ok(self.meant.is_empty()) };
        let mut found = vec![false; self.meant.len()];
        filter.predicate.apply(|part| {
            if let Some(place) = self.place(part) {
                found[place] = true;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found.into_iter().all(|found| found))
    }
}
