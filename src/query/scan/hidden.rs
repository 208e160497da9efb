//! Rows that are in runs and files and in no answer: those that have expired, and those that were deleted.
//!
//! A unit of which every row has expired is left out. One that has some hidden rows is filtered. The filters look at the
//! key only, so they may stand below a merge; and they hold for one unit, because a deletion is of earlier writes, so that
//! a point that was deleted and written again is hidden in its old file and seen in the new one.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit, not};
use datafusion::physical_plan::PhysicalExpr;

use super::{Unit, prune};
use crate::engine::TableSnapshot;
use crate::model::{Covers, Deletion, RowSelection, TIME_COLUMN, Timestamp};

/// What is hidden of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hidden<'a> {
    visible_from: Option<Timestamp>,
    deletions: &'a [Deletion],
}

impl<'a> Hidden<'a> {
    pub(super) fn new(snapshot: &'a TableSnapshot) -> Self {
        Self { visible_from: snapshot.visible_from, deletions: &snapshot.deletions }
    }

    /// Whether every row has expired.
    pub(super) fn hides_all(&self, unit: &Unit) -> bool {
        self.visible_from.is_some_and(|from| unit.time().max < from)
    }

    /// Whether some rows may be hidden.
    pub(super) fn hides_some(&self, unit: &Unit) -> bool {
        self.visible_from.is_some_and(|from| unit.time().min < from) || self.deletions_of(unit).next().is_some()
    }

    /// The deletions that may hide rows of the unit.
    pub(super) fn deletions_of(&self, unit: &Unit) -> impl Iterator<Item = &'a Deletion> {
        let file = match unit {
            Unit::RowGroup { file, .. } => Some(Arc::clone(file)),
            // What is buffered was written after every deletion.
            Unit::Rows { .. } => None,
        };
        let time = unit.time();
        let applies = move |deletion: &&Deletion| {
            file.as_ref().is_some_and(|file| deletion.applies_to(file)) && deletion.rows.time.overlaps(&time)
        };
        self.deletions.iter().filter(applies)
    }

    /// The filter that lets the other rows of the unit pass; `None` if all do. `columns` holds the key.
    pub(super) fn filter(
        &self,
        state: &dyn Session,
        unit: &Unit,
        columns: &SchemaRef,
    ) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
        let expired = self.visible_from.filter(|from| unit.time().min < *from);
        let not_expired = expired.map(|from| compare(TIME_COLUMN, Operator::GtEq, instant(from)));
        let not_deleted = self.deletions_of(unit).map(|deletion| not(selects(&deletion.rows)));
        prune::physical(state, columns, not_expired.into_iter().chain(not_deleted).collect())
    }
}

/// True or false of every row, never null.
fn selects(rows: &RowSelection) -> Expr {
    let mut selected = compare(TIME_COLUMN, Operator::GtEq, instant(rows.time.min)).and(compare(
        TIME_COLUMN,
        Operator::LtEq,
        instant(rows.time.max),
    ));
    for (name, value) in &rows.tags {
        let value = ScalarValue::Dictionary(Box::new(DataType::Int32), Box::new(ScalarValue::Utf8(value.clone())));
        selected = selected.and(compare(name.as_str(), Operator::IsNotDistinctFrom, value));
    }
    selected
}

fn compare(column: &str, operator: Operator, value: ScalarValue) -> Expr {
    binary_expr(Expr::Column(Column::new_unqualified(column)), operator, lit(value))
}

fn instant(time: Timestamp) -> ScalarValue {
    ScalarValue::TimestampNanosecond(Some(time.as_nanos()), None)
}
