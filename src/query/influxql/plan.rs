//! Levels as DataFusion plans: rows of tables are found, filtered and sorted by DataFusion, series are walked by [`SeriesExec`].
//!
//! Where a level asks only for what an aggregation knows ([`Reduction`]), DataFusion reduces the rows of each bucket to one, and
//! these are sorted and walked. Where the rows at the ends of series are enough ([`ends`]), only these are read.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{ScalarValue, internal_datafusion_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, try_cast};
use datafusion::physical_expr::expressions::{Column, Literal, TryCastExpr};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use futures::future::BoxFuture;

use super::super::error::QueryError;
use super::super::optimize::optimize;
use super::super::parts::{between, cut};
use super::super::scan::{FileAccess, spans};
use super::super::{coerce, shortcuts, table};
use super::ends;
use super::filters::{self, column, slot_type, table_column};
use super::in_turn::InTurnExec;
use super::kept;
use super::level::{From, Input, Level, Slot, SlotSource};
use super::reduction::Reduction;
use super::resolve::Table;
use super::series_exec::SeriesExec;
use crate::engine::Engine;
use crate::model::{DatabaseName, TIME_COLUMN, TableSchema, TimeRange};

/// About how many rows are sorted at a time where they are wanted by time. Lives in the session's config.
#[derive(Debug)]
pub(in crate::query) struct StretchRows(pub(in crate::query) u64);

/// Each stretch is planned by itself.
const STRETCHES_MAX: usize = 128;

/// The plan of a level over the tables as they are when the statement first looks at them.
pub(super) fn plan<'a>(
    level: &'a Level,
    engine: &'a Arc<Engine>,
    session: &'a SessionState,
) -> BoxFuture<'a, Result<Arc<dyn ExecutionPlan>, QueryError>> {
    Box::pin(async move {
        if let Some(reduction) = Reduction::of(level) {
            let rows = reduced(level, engine, session).await?;
            let (rows, ordering) = sorted(level, rows, &[], None)?;
            let exec = SeriesExec::new(Arc::new(level.clone()), Some(Arc::new(reduction)), rows, ordering);
            return Ok(Arc::new(exec) as Arc<dyn ExecutionPlan>);
        }
        let ties = Tie::of(level);
        if let [input @ Input { from: From::Table(table), .. }] = level.inputs.as_slice()
            && let Some(stretches) = stretches(level, input, table, engine, session).await?
        {
            let mut parts = Vec::with_capacity(stretches.len());
            let mut order = None;
            for stretch in stretches {
                let rows = of_table(level, input, table, &ties, Some(stretch), engine, session).await?;
                let (rows, ordering) = sorted(level, rows, &ties, rows_needed(level))?;
                parts.push(rows);
                order = Some(ordering);
            }
            let ordering = order.ok_or_else(|| internal_datafusion_err!("no stretches of time"))?;
            let rows = Arc::new(InTurnExec::try_new(parts, ordering.clone())?);
            return Ok(
                Arc::new(SeriesExec::new(Arc::new(level.clone()), None, rows, ordering)) as Arc<dyn ExecutionPlan>
            );
        }
        let mut parts = Vec::with_capacity(level.inputs.len());
        for input in &level.inputs {
            parts.push(match &input.from {
                From::Table(table) => of_table(level, input, table, &ties, None, engine, session).await?,
                From::Level(below) => {
                    let rows = plan(below, engine, session).await?;
                    of_level(level, input, below, rows)?
                }
            });
        }
        let rows = if parts.len() == 1 { parts.remove(0) } else { UnionExec::try_new(parts)? };
        let (rows, ordering) = sorted(level, rows, &ties, rows_needed(level))?;
        Ok(Arc::new(SeriesExec::new(Arc::new(level.clone()), None, rows, ordering)) as Arc<dyn ExecutionPlan>)
    })
}

/// The rows as one stream in the order of the walk; if asked for, only the first of them.
fn sorted(
    level: &Level,
    rows: Arc<dyn ExecutionPlan>,
    ties: &[Tie],
    fetch: Option<usize>,
) -> DataFusionResult<(Arc<dyn ExecutionPlan>, LexOrdering)> {
    let ordering = ordering(level, ties, &rows.schema())?;
    let sorted = SortExec::new(ordering.clone(), rows).with_preserve_partitioning(true).with_fetch(fetch);
    let merged = SortPreservingMergeExec::new(ordering.clone(), Arc::new(sorted)).with_fetch(fetch);
    Ok((Arc::new(merged), ordering))
}

/// How many of the first rows are enough, where each of them is one of the answer.
fn rows_needed(level: &Level) -> Option<usize> {
    let is_each_a_row =
        level.calls.is_empty() && level.groups.is_empty() && (level.condition.is_none() || !level.reads_levels());
    let rows = level.limit.checked_add(level.offset).filter(|_| is_each_a_row && level.limit > 0)?;
    usize::try_from(rows).ok()
}

pub(super) fn slot_name(n: usize) -> String {
    format!("s{n}")
}

/// A tag that points of one series and time are sorted by, so that they come in the same order each time.
enum Tie {
    /// It is asked for, in this slot.
    Slot(usize),
    /// It stands behind the time.
    Hidden(String),
}

impl Tie {
    /// Of the tags of the only table. Those that a series is told by are the same in all of its points.
    fn of(level: &Level) -> Vec<Self> {
        let [Input { from: From::Table(table), slots }] = level.inputs.as_slice() else { return Vec::new() };
        let tie = |tag: &String| {
            let is_tag = |source: &SlotSource| matches!(source, SlotSource::Tag(name) if name == tag);
            match slots.iter().zip(&level.slots).position(|(source, slot)| is_tag(source) && !slot.blank) {
                Some(slot) => Self::Slot(slot),
                None => Self::Hidden(tag.clone()),
            }
        };
        table.measured.tags.iter().filter(|tag| !level.groups.contains(tag)).map(tie).collect()
    }

    /// What its column is called, as one of several.
    fn column(&self, number: usize) -> String {
        match self {
            Self::Slot(slot) => slot_name(*slot),
            Self::Hidden(_) => format!("h{number}"),
        }
    }
}

/// By series, then by time, then by what tells points of one time apart.
fn ordering(level: &Level, ties: &[Tie], schema: &Schema) -> DataFusionResult<LexOrdering> {
    let options = SortOptions { descending: !level.ascending, nulls_first: level.ascending };
    let groups = (0..level.groups.len()).map(slot_name);
    let names = groups.chain([TIME_COLUMN.to_owned()]).chain(ties.iter().enumerate().map(|(n, tie)| tie.column(n)));
    let expressions = names
        .map(|name| Ok(PhysicalSortExpr::new(Arc::new(Column::new_with_schema(&name, schema)?), options)))
        .collect::<DataFusionResult<Vec<_>>>()?;
    LexOrdering::new(expressions).ok_or_else(|| internal_datafusion_err!("an order of nothing"))
}

async fn of_table(
    level: &Level,
    input: &Input,
    table: &Table,
    ties: &[Tie],
    within: Option<TimeRange>,
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    if within.is_none() && level.inputs.len() == 1 {
        // Nothing of the level that is meant: it is another that is planned.
        let plan = |level: &Level| {
            let (input, table) = only_table(level)?;
            rows(level, input, table, &Tie::of(level), None, engine, session)
        };
        return kept::operators(level, &schema(table, engine)?, session, plan).await;
    }
    physical(session, rows(level, input, table, ties, within, engine, session)?).await
}

/// The rows of a table that count, with the slots of the level.
fn rows(
    level: &Level,
    input: &Input,
    table: &Table,
    ties: &[Tie],
    within: Option<TimeRange>,
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<LogicalPlan, QueryError> {
    let mut builder = scan(level, input, table, engine, session)?.filter(filters::has_field(level, input))?;
    if let Some(time) = within {
        let from = column(TIME_COLUMN).gt_eq(instant(time.min.as_nanos()));
        builder = builder.filter(from.and(column(TIME_COLUMN).lt_eq(instant(time.max.as_nanos()))))?;
    }
    let is_alone = level.inputs.len() == 1;
    let slot = |(n, (slot, source)): (usize, (&Slot, &SlotSource))| {
        let column = match source {
            // Sorted as they are stored: texts are made of what is left. Of several tables some may not have the tag.
            SlotSource::Tag(tag) if is_alone && !slot.blank => column(tag),
            _ => table_column(slot, source, table),
        };
        column.alias(slot_name(n))
    };
    let mut columns: Vec<Expr> = level.slots.iter().zip(&input.slots).enumerate().map(slot).collect();
    columns.push(column(TIME_COLUMN));
    columns.extend(ties.iter().enumerate().filter_map(|(n, tie)| match tie {
        Tie::Hidden(tag) => Some(column(tag).alias(tie.column(n))),
        Tie::Slot(_) => None,
    }));
    Ok(builder.project(columns)?.build()?)
}

/// A row for each series and bucket.
async fn reduced(
    level: &Level,
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let (_, table) = only_table(level)?;
    // Nothing of the level that is meant: it is another that is planned.
    let plan = |level: &Level| {
        let (input, table) = only_table(level)?;
        let mut builder = scan(level, input, table, engine, session)?;
        // Of one bucket alone it is no matter whether there are rows without the fields, and without the filter statistics may do.
        if level.window.is_some() || !level.groups.is_empty() {
            builder = builder.filter(filters::has_field(level, input))?;
        }
        let reduction =
            Reduction::of(level).ok_or_else(|| internal_datafusion_err!("rows that are seen one by one"))?;
        let buckets = reduction.aggregate(builder, level, input, table, session)?;
        let Some(needed) = ends::buckets_needed(level, input, table) else { return Ok(buckets) };
        let by_time = column(TIME_COLUMN).sort(level.ascending, level.ascending);
        Ok(LogicalPlanBuilder::from(buckets).sort_with_limit([by_time], Some(needed))?.build()?)
    };
    kept::operators(level, &schema(table, engine)?, session, plan).await
}

fn only_table(level: &Level) -> DataFusionResult<(&Input, &Table)> {
    match level.inputs.as_slice() {
        [input @ Input { from: From::Table(table), .. }] => Ok((input, table)),
        _ => Err(internal_datafusion_err!("several tables where one is read")),
    }
}

/// The stretches of time in which the rows of the only table are sorted one after the other, in the order in which they are wanted. `None` if
/// there are too few rows for that, if series come before times, or if the ends of series are enough.
///
/// # Errors
/// If the table is gone.
async fn stretches(
    level: &Level,
    input: &Input,
    table: &Table,
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<Option<Vec<TimeRange>>, QueryError> {
    if !level.groups.is_empty() || ends::needed(level, input).is_some() {
        return Ok(None);
    }
    let Some(stretch_rows) = session.config().get_extension::<StretchRows>() else { return Ok(None) };
    let snapshot = provider(table, engine)?.snapshot(session)?;
    let access = FileAccess::of(session)?;
    let spans = spans(session, snapshot.as_ref(), &access, &filters::filters(level, input, table)).await?;
    let spans = between(&spans, level.bounds);
    let rows: u64 = spans.iter().map(|(_, rows)| rows).sum();
    let count = usize::try_from(rows / stretch_rows.0.max(1)).unwrap_or(usize::MAX).min(STRETCHES_MAX);
    let mut stretches = cut(&spans, count);
    if !level.ascending {
        stretches.reverse();
    }
    Ok((stretches.len() > 1).then_some(stretches))
}

/// The operators of a plan, by the short way where there is one.
async fn physical(session: &SessionState, logical: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let plan = optimize(session, coerce(session, logical)?)?;
    Ok(session.query_planner().create_physical_plan(&plan, session).await?)
}

fn instant(nanos: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(nanos), None))
}

fn provider(table: &Table, engine: &Arc<Engine>) -> Result<table::Table, QueryError> {
    let schema = schema(table, engine)?;
    Ok(table::Table::new(Arc::clone(engine), database(table)?, &table.name, schema))
}

fn schema(table: &Table, engine: &Engine) -> Result<Arc<TableSchema>, QueryError> {
    let schema = engine.table_schema(&database(table)?, &table.name);
    schema.ok_or_else(|| QueryError::TableNotFound(table.name.clone()))
}

fn database(table: &Table) -> Result<DatabaseName, QueryError> {
    DatabaseName::new(&table.database).map_err(|_| QueryError::TableNotFound(table.name.clone()))
}

/// The rows of a table that the level reads.
fn scan(
    level: &Level,
    input: &Input,
    table: &Table,
    engine: &Arc<Engine>,
    session: &SessionState,
) -> Result<LogicalPlanBuilder, QueryError> {
    let provider = provider(table, engine)?;
    let filters = filters::filters(level, input, table);
    let few = match ends::needed(level, input) {
        Some((which, present)) => shortcuts::scan_of_ends(session, &provider, which, present, filters.clone())?,
        None => None,
    };
    let source = few.unwrap_or_else(|| provider_as_source(Arc::new(provider)));
    let mut builder = LogicalPlanBuilder::scan(table_reference(&table.name), source, None)?;
    for filter in filters {
        builder = builder.filter(filter)?;
    }
    Ok(builder)
}

fn table_reference(name: &str) -> datafusion::common::TableReference {
    datafusion::common::TableReference::bare(name.to_owned())
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

/// The rows of tags of a table: every combination that some row in the range has, in no order. Those that lack what is `wanted`, tags and
/// their texts, may be left out.
pub(in crate::query) async fn tag_rows(
    engine: &Arc<Engine>,
    session: &SessionState,
    database: &DatabaseName,
    table: &str,
    tags: &[String],
    bounds: (Option<i64>, Option<i64>),
    wanted: &[(&str, &str)],
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let gone = || QueryError::TableNotFound(table.to_owned());
    let schema = engine.table_schema(database, table).ok_or_else(gone)?;
    let provider = table::Table::new(Arc::clone(engine), database.clone(), table, schema);
    let mut builder = LogicalPlanBuilder::scan(table_reference(table), provider_as_source(Arc::new(provider)), None)?;
    if let Some(min) = bounds.0 {
        builder = builder.filter(column(TIME_COLUMN).gt_eq(instant(min)))?;
    }
    if let Some(max) = bounds.1 {
        builder = builder.filter(column(TIME_COLUMN).lt_eq(instant(max)))?;
    }
    for (tag, text) in wanted {
        builder = builder.filter(column(tag).eq(lit(*text)))?;
    }
    let logical = if tags.is_empty() {
        // Whether there is any row.
        builder.project(vec![lit("").alias("any")])?.limit(0, Some(1))?.build()?
    } else {
        // Texts are made of what is left.
        let columns = tags.iter().enumerate().map(|(n, tag)| column(tag).alias(slot_name(n)));
        let texts = |n: usize| try_cast(column(&slot_name(n)), DataType::Utf8).alias(slot_name(n));
        builder.project(columns)?.distinct()?.project((0..tags.len()).map(texts))?.build()?
    };
    physical(session, logical).await
}
