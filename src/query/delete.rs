//! `DELETE FROM table WHERE …`: which rows it is about.
//!
//! The engine deletes by time and tags, because only the key of a row is the same before and after its writes are merged.
//! So a condition is settled into a union of selections, each with a range of time and the values of some tags. What can't
//! be settled is refused, and told what can. DataFusion's simplifier comes first: `now() - INTERVAL '7 days'`, casts and
//! `NOT` are gone when the condition is looked at.
//!
//! Always true:
//! - all selections go in one commit;
//! - the instant of `now()` is that of planning.
//!
//! Not here: the deletion itself ([`Engine::delete_rows`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, LogicalPlan, Operator, TryCast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::error::QueryError;
use crate::engine::Engine;
use crate::error::Result;
use crate::model::{
    ColumnKind, ColumnName, DatabaseName, RowSelection, TIME_COLUMN, TableName, TableSchema, TimeRange, Timestamp,
};

/// Most selections that one DELETE may come down to. Queries ask each of them of every older file, until the files are
/// rewritten.
const SELECTIONS_MAX: usize = 100;

/// A deletion whose rows are known and that has not begun.
#[derive(Debug)]
pub(super) struct PlannedDeletion {
    database: DatabaseName,
    table: TableName,
    selections: Vec<RowSelection>,
}

impl PlannedDeletion {
    /// Plans a DELETE with all its values.
    ///
    /// # Errors
    /// Whatever the planner says; `NotSelectable` and `TooManySelections` for what is not deleted by time and tags.
    pub(super) fn new(
        session: &SessionState,
        input: &LogicalPlan,
        database: &DatabaseName,
        table: TableName,
        engine: &Engine,
    ) -> Result<Self, QueryError> {
        let schema = engine.table_schema(database, table.as_str());
        let schema = schema.ok_or_else(|| QueryError::TableNotFound(table.to_string()))?;
        let selections = selections(session, input, &schema)?;
        Ok(Self { database: database.clone(), table, selections })
    }

    /// Deletes the rows: those that were acknowledged before this call, and no later ones.
    ///
    /// # Errors
    /// `NotFound` if the table is gone; `Unavailable` if rows or catalog can't be written: then the rows may be deleted
    /// or not, and deleting again is safe.
    pub(super) async fn run(self, engine: &Engine) -> Result<()> {
        engine.delete_rows(&self.database, &self.table, self.selections).await
    }
}

/// What the rows below a DELETE come down to.
fn selections(
    session: &SessionState,
    input: &LogicalPlan,
    schema: &TableSchema,
) -> Result<Vec<RowSelection>, QueryError> {
    let filter = match input {
        LogicalPlan::TableScan(_) => return Ok(vec![Selected::all().into()]),
        LogicalPlan::Filter(filter) if matches!(*filter.input, LogicalPlan::TableScan(_)) => filter,
        other => return Err(QueryError::NotSelectable(other.display().to_string())),
    };
    let context = SimplifyContext::builder()
        .with_config_options(Arc::clone(session.config_options()))
        .with_schema(Arc::clone(filter.input.schema()))
        .with_query_execution_start_time(session.execution_props().query_execution_start_time)
        .build();
    let condition = ExprSimplifier::new(context).simplify(filter.predicate.clone())?;
    Ok(Settling { schema }.any(&condition)?.into_iter().map(RowSelection::from).collect())
}

/// A selection on its way: tags by name, so that two of one tag meet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selected {
    time: TimeRange,
    tags: BTreeMap<ColumnName, Option<String>>,
}

impl Selected {
    fn all() -> Self {
        Self::within(TimeRange::ALL)
    }

    fn within(time: TimeRange) -> Self {
        Self { time, tags: BTreeMap::new() }
    }

    fn tagged(name: ColumnName, value: Option<&str>) -> Self {
        Self { time: TimeRange::ALL, tags: BTreeMap::from([(name, value.map(str::to_owned))]) }
    }

    /// The rows that are in both; `None` if there can be none.
    fn both(&self, other: &Self) -> Option<Self> {
        let time = self.time.intersection(&other.time)?;
        let differs =
            |(name, value): (&ColumnName, &Option<String>)| self.tags.get(name).is_some_and(|own| own != value);
        if other.tags.iter().any(differs) {
            return None;
        }
        let tags = self.tags.iter().chain(&other.tags).map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Self { time, tags })
    }
}

impl From<Selected> for RowSelection {
    fn from(selected: Selected) -> Self {
        Self { time: selected.time, tags: selected.tags.into_iter().collect() }
    }
}

/// A part of a row's key.
enum Key {
    Time,
    Tag(ColumnName),
}

/// Turns conditions on one table into selections.
struct Settling<'a> {
    schema: &'a TableSchema,
}

impl Settling<'_> {
    /// The rows of which the condition is true, as a union.
    fn any(&self, condition: &Expr) -> Result<Vec<Selected>, QueryError> {
        match condition {
            Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Ok(vec![Selected::all()]),
            Expr::Literal(ScalarValue::Boolean(_) | ScalarValue::Null, _) => Ok(Vec::new()),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let (left, right) = (self.any(left)?, self.any(right)?);
                union(left.iter().flat_map(|one| right.iter().filter_map(|other| one.both(other))))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                union(self.any(left)?.into_iter().chain(self.any(right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (column, Expr::Literal(value, _)) => self.compare(condition, column, *op, value),
                (Expr::Literal(value, _), column) => {
                    let turned = op.swap().ok_or_else(|| not_selectable(condition))?;
                    self.compare(condition, column, turned, value)
                }
                _ => Err(self.refuse(condition)),
            },
            Expr::Between(between) if !between.negated => match (between.low.as_ref(), between.high.as_ref()) {
                (Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    let from = self.compare(condition, &between.expr, Operator::GtEq, low)?;
                    let to = self.compare(condition, &between.expr, Operator::LtEq, high)?;
                    union(from.iter().flat_map(|one| to.iter().filter_map(|other| one.both(other))))
                }
                _ => Err(self.refuse(condition)),
            },
            Expr::InList(list) if !list.negated => {
                let mut all = Vec::new();
                for value in &list.list {
                    let Expr::Literal(value, _) = value else { return Err(self.refuse(condition)) };
                    all.extend(self.compare(condition, &list.expr, Operator::Eq, value)?);
                }
                union(all.into_iter())
            }
            Expr::IsNull(column) => match self.key(column).ok_or_else(|| self.refuse(condition))? {
                Key::Time => Ok(Vec::new()),
                Key::Tag(name) => Ok(vec![Selected::tagged(name, None)]),
            },
            _ => Err(self.refuse(condition)),
        }
    }

    /// The rows of which `column op value` is true.
    fn compare(
        &self,
        whole: &Expr,
        column: &Expr,
        op: Operator,
        value: &ScalarValue,
    ) -> Result<Vec<Selected>, QueryError> {
        let key = self.key(column).ok_or_else(|| self.refuse(whole))?;
        if value.is_null() && !matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) {
            return Ok(Vec::new()); // nothing compares with null
        }
        match (key, value) {
            (Key::Time, ScalarValue::TimestampNanosecond(Some(nanos), _)) => {
                let ranges = times(op, *nanos).ok_or_else(|| self.refuse(whole))?;
                Ok(ranges.into_iter().map(Selected::within).collect())
            }
            (Key::Tag(name), value) if op == Operator::Eq => {
                let text = value.try_as_str().flatten().ok_or_else(|| self.refuse(whole))?;
                Ok(vec![Selected::tagged(name, Some(text))])
            }
            _ => Err(self.refuse(whole)),
        }
    }

    /// The part of the key that an expression is, looked at through casts that change no value.
    fn key(&self, expr: &Expr) -> Option<Key> {
        match expr {
            Expr::Column(column) if column.name == TIME_COLUMN => Some(Key::Time),
            Expr::Column(column) => {
                let tag = self.schema.columns().find(|known| known.name.as_str() == column.name)?;
                (tag.kind == ColumnKind::Tag).then_some(Key::Tag(tag.name))
            }
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                let key = self.key(expr)?;
                keeps_values(&key, field.data_type()).then_some(key)
            }
            _ => None,
        }
    }

    fn refuse(&self, condition: &Expr) -> QueryError {
        let is_field = |name: &str| matches!(self.schema.kind(name), Some(ColumnKind::Field(_)));
        let mut fields: Vec<&str> = condition
            .column_refs()
            .into_iter()
            .map(|column| column.name.as_str())
            .filter(|name| is_field(name))
            .collect();
        fields.sort_unstable();
        match fields.first() {
            Some(field) => QueryError::NotSelectable(format!("the field '{field}'")),
            None => not_selectable(condition),
        }
    }
}

fn not_selectable(condition: &Expr) -> QueryError {
    QueryError::NotSelectable(format!("'{}'", condition.human_display()))
}

fn keeps_values(key: &Key, to: &DataType) -> bool {
    match (key, to) {
        (Key::Time, DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "Z" | "+00:00"))
        }
        (Key::Tag(_), DataType::Dictionary(_, values)) => keeps_values(key, values),
        (Key::Tag(_), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => true,
        _ => false,
    }
}

/// The instants that compare so with `nanos`; `None` for another comparison.
fn times(op: Operator, nanos: i64) -> Option<Vec<TimeRange>> {
    let before = nanos.checked_sub(1).map(|last| TimeRange::from_nanos(i64::MIN, last));
    let after = nanos.checked_add(1).map(|first| TimeRange::from_nanos(first, i64::MAX));
    let instant = Timestamp::from_nanos(nanos);
    Some(match op {
        Operator::Eq => vec![TimeRange { min: instant, max: instant }],
        Operator::Lt => before.into_iter().collect(),
        Operator::Gt => after.into_iter().collect(),
        Operator::NotEq => before.into_iter().chain(after).collect(),
        Operator::LtEq => vec![TimeRange { max: instant, ..TimeRange::ALL }],
        Operator::GtEq => vec![TimeRange { min: instant, ..TimeRange::ALL }],
        _ => return None,
    })
}

/// All of them, each once.
fn union(selections: impl Iterator<Item = Selected>) -> Result<Vec<Selected>, QueryError> {
    let mut all: Vec<Selected> = Vec::new();
    for selected in selections {
        if all.contains(&selected) {
            continue;
        }
        if all.len() == SELECTIONS_MAX {
            return Err(QueryError::TooManySelections { count_max: SELECTIONS_MAX });
        }
        all.push(selected);
    }
    Ok(all)
}
