//! Levels as DataFusion plans: rows of tables are found, filtered and sorted by DataFusion, series are walked by [`SeriesExec`].
//!
//! What DataFusion filters is weaker than the condition, so that files and rows are left out early; the condition itself is
//! decided by the walk, by InfluxQL's rules.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Column as ColumnName, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::functions::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, col, lit, not, try_cast};
use datafusion::physical_expr::expressions::{Column, Literal, TryCastExpr};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use futures::future::BoxFuture;

use super::super::error::QueryError;
use super::super::table;
use super::level::{From, Input, Level, Node, Slot, SlotSource};
use super::resolve::Table;
use super::rows::arrow_type;
use super::series_exec::SeriesExec;
use super::value::{Type, Value};
use crate::engine::Engine;
use crate::model::{DatabaseName, TIME_COLUMN};
use crate::syntax::influxql::{Cast, Operator};

/// The plan of a level over the tables as they are when the statement first looks at them.
pub(super) fn plan<'a>(
    level: &'a Level,
    engine: &'a Arc<Engine>,
    session: &'a SessionState,
) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>, QueryError>> {
    Box::pin(async move {
        // Of the tags that are not asked for, so that points of one time come in the same order each time.
        let hidden: &[String] = match level.inputs.as_slice() {
            [Input { from: From::Table(table), .. }] => &table.measured.tags,
            _ => &[],
        };
        let mut parts = Vec::with_capacity(level.inputs.len());
        for input in &level.inputs {
            parts.push(match &input.from {
                From::Table(table) => of_table(level, input, table, hidden, engine, session).await?,
                From::Level(below) => {
                    let rows = plan(below, engine, session).await?;
                    of_level(level, input, below, rows)?
                }
            });
        }
        let rows = if parts.len() == 1 { parts.remove(0) } else { UnionExec::try_new(parts)? };
        let ordering = ordering(level, hidden.len(), &rows.schema())?;
        let fetch = rows_needed(level);
        let sorted = SortExec::new(ordering.clone(), rows).with_preserve_partitioning(true).with_fetch(fetch);
        let merged = SortPreservingMergeExec::new(ordering.clone(), Arc::new(sorted)).with_fetch(fetch);
        Ok(Arc::new(SeriesExec::new(Arc::new(level.clone()), Arc::new(merged), ordering)) as Arc<dyn ExecutionPlan>)
    })
}

/// How many of the first rows are enough, where each of them is one of the answer.
fn rows_needed(level: &Level) -> Option<usize> {
    let is_each_a_row = level.calls.is_empty() && level.groups.is_empty() && level.condition.is_none();
    let rows = level.limit.checked_add(level.offset).filter(|_| is_each_a_row && level.limit > 0)?;
    usize::try_from(rows).ok()
}

fn slot_name(n: usize) -> String {
    format!("s{n}")
}

/// By series, then by time, then by what is hidden.
fn ordering(level: &Level, hidden: usize, schema: &Schema) -> DataFusionResult<LexOrdering> {
    let options = SortOptions { descending: !level.ascending, nulls_first: level.ascending };
    let groups = (0..level.groups.len()).map(slot_name);
    let names = groups.chain([TIME_COLUMN.to_owned()]).chain((0..hidden).map(|n| format!("h{n}")));
    let expressions = names
        .map(|name| Ok(PhysicalSortExpr::new(Arc::new(Column::new_with_schema(&name, schema)?), options)))
        .collect::<DataFusionResult<Vec<_>>>()?;
    LexOrdering::new(expressions).ok_or_else(|| datafusion::common::internal_datafusion_err!("an order of nothing"))
}

async fn of_table(
    level: &Level,
    input: &Input,
    table: &Table,
    hidden: &[String],
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let gone = || QueryError::TableNotFound(table.name.clone());
    let database = DatabaseName::new(&table.database).map_err(|_| gone())?;
    let schema = engine.table_schema(&database, &table.name).ok_or_else(gone)?;
    let provider = table::Table::new(Arc::clone(engine), database, &table.name, schema);
    let source = provider_as_source(Arc::new(provider));
    let mut builder = LogicalPlanBuilder::scan(table_reference(&table.name), source, None)?;
    for filter in filters(level, input) {
        builder = builder.filter(filter)?;
    }
    let slots = level.slots.iter().zip(&input.slots).enumerate();
    let mut columns: Vec<Expr> =
        slots.map(|(n, (slot, source))| table_column(slot, source, table).alias(slot_name(n))).collect();
    columns.push(column(TIME_COLUMN));
    let hidden = hidden.iter().enumerate();
    columns.extend(hidden.map(|(n, tag)| try_cast(column(tag), DataType::Utf8).alias(format!("h{n}"))));
    let logical = builder.project(columns)?.build()?;
    Ok(session.create_physical_plan(&logical).await?)
}

fn table_reference(name: &str) -> datafusion::common::TableReference {
    datafusion::common::TableReference::bare(name.to_owned())
}

/// A column by its exact name.
fn column(name: &str) -> Expr {
    Expr::Column(ColumnName::new_unqualified(name))
}

fn table_column(slot: &Slot, source: &SlotSource, table: &Table) -> Expr {
    let kind = slot_type(slot);
    let nothing = || lit(ScalarValue::try_from(&kind).unwrap_or(ScalarValue::Null));
    match source {
        SlotSource::Tag(tag) if slot.blank => coalesce(vec![try_cast(column(tag), DataType::Utf8), lit("")]),
        SlotSource::Tag(tag) => try_cast(column(tag), DataType::Utf8),
        SlotSource::Field(field) => {
            let native = table.measured.type_of(field);
            match arrow_type(native) {
                same if same == kind => column(field),
                _ if native.is_number() && slot.kind.is_number() => try_cast(column(field), kind),
                _ => nothing(),
            }
        }
        SlotSource::Time => cast(column(TIME_COLUMN), DataType::Int64),
        _ if slot.blank && kind == DataType::Utf8 => lit(""),
        _ => nothing(),
    }
}

/// How a slot is in Arrow. A name in a condition that nothing has is an absent tag.
fn slot_type(slot: &Slot) -> DataType {
    match slot.kind {
        Type::Unknown if slot.blank => DataType::Utf8,
        kind => arrow_type(kind),
    }
}

/// What every row that counts fulfils.
fn filters(level: &Level, input: &Input) -> Vec<Expr> {
    let mut bounds = level.bounds;
    for call in &level.calls {
        bounds = (bounds.0.min(call.bounds.0), bounds.1.max(call.bounds.1));
    }
    let time = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
    let mut filters = Vec::new();
    if bounds.0 > super::time::TIME_MIN {
        filters.push(column(TIME_COLUMN).gt_eq(time(bounds.0)));
    }
    if bounds.1 < super::time::TIME_MAX {
        filters.push(column(TIME_COLUMN).lt_eq(time(bounds.1)));
    }
    let fields: Vec<&String> = match level.calls.is_empty() {
        true => input
            .slots
            .iter()
            .zip(&level.slots)
            .filter(|(_, slot)| !slot.blank)
            .filter_map(|(source, _)| field(source))
            .collect(),
        false => level.calls.iter().filter_map(|call| field(&input.slots[call.slot])).collect(),
    };
    // A row without any of the fields is none; where no field is known there are no rows.
    let has_field = fields.into_iter().map(|field| column(field).is_not_null()).reduce(Expr::or);
    filters.push(has_field.unwrap_or_else(|| lit(false)));
    if let Some(condition) = &level.condition {
        filters.extend(implied(condition, level, input));
    }
    filters
}

fn field(source: &SlotSource) -> Option<&String> {
    match source {
        SlotSource::Field(field) => Some(field),
        _ => None,
    }
}

/// What follows from a condition and can be decided by statistics: tags that are something, fields on one side of a number.
fn implied(condition: &Node, level: &Level, input: &Input) -> Option<Expr> {
    match condition {
        Node::Binary { operator: Operator::And, left, right } => {
            match (implied(left, level, input), implied(right, level, input)) {
                (Some(left), Some(right)) => Some(left.and(right)),
                (left, right) => left.or(right),
            }
        }
        Node::Binary { operator: Operator::Or, left, right } => {
            Some(implied(left, level, input)?.or(implied(right, level, input)?))
        }
        Node::Binary { operator, left, right } => match (&**left, &**right) {
            // `usage::integer <= 1` holds for 1.9: what a cast makes of a value is for the walk.
            (Node::Slot(slot), Node::Literal(value))
                if matches!(level.slots[*slot].cast, None | Some(Cast::Field | Cast::Tag)) =>
            {
                comparison(*operator, &input.slots[*slot], value)
            }
            _ => None,
        },
        Node::Matches { value, regex, wanted: true } => {
            let (Node::Slot(slot), Some(texts)) = (&**value, regex.alternatives()) else { return None };
            match (&input.slots[*slot], texts.iter().any(String::is_empty)) {
                (SlotSource::Tag(tag), false) => {
                    Some(column(tag).in_list(texts.iter().map(|text| lit(text.as_str())).collect(), false))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn comparison(operator: Operator, source: &SlotSource, value: &Value) -> Option<Expr> {
    match (source, value) {
        (SlotSource::Tag(tag), Value::String(text)) => match operator {
            Operator::Equal if !text.is_empty() => Some(column(tag).eq(lit(&**text))),
            Operator::NotEqual if text.is_empty() => Some(not(column(tag).is_null())),
            _ => None,
        },
        (SlotSource::Field(field), Value::Float(_) | Value::Integer(_)) => {
            // As floats, with room for what rounding does: the walk decides exactly.
            let number = value.as_f64()?;
            let room = number.abs() * 1e-9;
            let field = try_cast(col(ColumnName::new_unqualified(field)), DataType::Float64);
            match operator {
                Operator::Greater | Operator::GreaterOrEqual => Some(field.gt_eq(lit(number - room))),
                Operator::Less | Operator::LessOrEqual => Some(field.lt_eq(lit(number + room))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The columns of a level below as the slots of the level above.
fn of_level(
    level: &Level,
    input: &Input,
    below: &Level,
    rows: Arc<dyn ExecutionPlan>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let schema = rows.schema();
    let mut columns = Vec::with_capacity(level.slots.len() + 1);
    for (n, (slot, source)) in level.slots.iter().zip(&input.slots).enumerate() {
        let kind = slot_type(slot);
        let place = match source {
            SlotSource::Group(group) => Some(*group),
            SlotSource::Output(output) => Some(below.groups.len() + 1 + output),
            _ => None,
        };
        let expr: Arc<dyn PhysicalExpr> = match place {
            None if *source == SlotSource::Time => {
                let time = Arc::new(Column::new(TIME_COLUMN, below.groups.len()));
                Arc::new(TryCastExpr::new(time, DataType::Int64))
            }
            Some(place) => {
                let field = schema.field(place);
                let column = Arc::new(Column::new(field.name(), place));
                match field.data_type() {
                    same if *same == kind => column,
                    other if is_number(other) && is_number(&kind) => Arc::new(TryCastExpr::new(column, kind)),
                    _ => Arc::new(Literal::new(ScalarValue::try_from(&kind)?)),
                }
            }
            None if slot.blank && kind == DataType::Utf8 => Arc::new(Literal::new(ScalarValue::from(""))),
            None => Arc::new(Literal::new(ScalarValue::try_from(&kind)?)),
        };
        columns.push(ProjectionExpr { expr, alias: slot_name(n) });
    }
    let time = Column::new(TIME_COLUMN, below.groups.len());
    columns.push(ProjectionExpr { expr: Arc::new(time), alias: TIME_COLUMN.to_owned() });
    Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
}

fn is_number(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float64 | DataType::Int64 | DataType::UInt64)
}

/// The rows of tags of a table: every combination that some row in the range has, sorted.
pub(super) async fn tag_rows(
    engine: &Arc<Engine>,
    session: &SessionState,
    database: &DatabaseName,
    table: &str,
    tags: &[String],
    bounds: (Option<i64>, Option<i64>),
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let gone = || QueryError::TableNotFound(table.to_owned());
    let schema = engine.table_schema(database, table).ok_or_else(gone)?;
    let provider = table::Table::new(Arc::clone(engine), database.clone(), table, schema);
    let mut builder = LogicalPlanBuilder::scan(table_reference(table), provider_as_source(Arc::new(provider)), None)?;
    let time = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
    if let Some(min) = bounds.0 {
        builder = builder.filter(column(TIME_COLUMN).gt_eq(time(min)))?;
    }
    if let Some(max) = bounds.1 {
        builder = builder.filter(column(TIME_COLUMN).lt_eq(time(max)))?;
    }
    let columns: Vec<Expr> =
        tags.iter().enumerate().map(|(n, tag)| try_cast(column(tag), DataType::Utf8).alias(slot_name(n))).collect();
    let logical = if columns.is_empty() {
        // Whether there is any row.
        builder.project(vec![lit("").alias("any")])?.limit(0, Some(1))?.build()?
    } else {
        let order: Vec<_> = (0..tags.len()).map(|n| column(&slot_name(n)).sort(true, true)).collect();
        builder.project(columns)?.distinct()?.sort(order)?.build()?
    };
    Ok(session.create_physical_plan(&logical).await?)
}
