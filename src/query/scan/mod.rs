//! How a table is read: each part as cheaply as it allows, joined by a union.
//!
//! ```text
//!                         UnionExec
//!            ┌────────────────┼──────────────────┐
//!   DataSourceExec     DataSourceExec     DeduplicateExec
//!   (Parquet, alone)   (buffer, alone)    ├── DataSourceExec   oldest writes
//!                                         ├── …
//!                                         └── DataSourceExec   newest writes
//! ```
//!
//! 1. Units that no filter lets pass are left out ([`prune`]).
//! 2. The others are grouped by overlap ([`units`]). A unit that stands alone is read as it is: filters, limits,
//!    statistics and orderings go all the way down.
//! 3. Units that overlap go through [`DeduplicateExec`]. Only filters on the key go below it: a filter on
//!    a field would hide the write that replaces a value.
//! 4. Units whose rows have all expired are left out; one of which some are hidden takes the third way, with a filter
//!    ([`hidden`]).
//!
//! Who looks at nothing but the newest points of series, or at their tags, reads only the [`ends`] of series instead.
//!
//! Always true: each point of the snapshot that is not hidden comes out once, with the values of its last writes.

mod buffered;
mod choose;
mod chosen;
mod closest;
mod decoded;
mod dictionaries;
mod ends;
mod ends_exec;
mod hidden;
mod key_bounds;
mod newest;
mod parquet;
mod prune;
mod series_numbers;
mod series_search;
mod tag_sets;
mod units;

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

pub(super) use dictionaries::cut as cut_dictionary;
pub(super) use ends::{End, Ends, ends};
pub(super) use ends_exec::{SeriesEndsExec, lacks};
pub(super) use parquet::{FileAccess, STORE_URL};
pub(super) use prune::{physical, speaks_of_rows};

use super::deduplicate::DeduplicateExec;
use crate::engine::TableSnapshot;
use crate::engine::buffer::BufferedRun;
use crate::model::{Covers, DataFile, Stretch, TableSchema, TimeRange, components};
use buffered::Selection;
use choose::Conditions;
use hidden::Hidden;
use key_bounds::KeyBounds;
use prune::Filters;
use units::Slots;

/// Something that is sorted by key and unique in it.
#[derive(Debug, Clone)]
enum Unit {
    /// One row group of a file.
    RowGroup { file: Arc<DataFile>, number: usize },
    /// Rows of a buffered run: all, or those at these places of the sorted run.
    Rows { run: Arc<BufferedRun>, rows: Option<Vec<u32>>, time: TimeRange },
}

impl Covers for Unit {
    fn time(&self) -> TimeRange {
        match self {
            Self::RowGroup { file, number } => file.row_groups[*number].time,
            Self::Rows { time, .. } => *time,
        }
    }
}

/// A plan for the rows of `snapshot` that may pass `filters`, with the columns of `output`.
///
/// # Errors
/// If a filter does not fit the table, or buffered rows can't be sorted; both are defects.
pub(super) fn plan(
    state: &dyn Session,
    access: &Arc<FileAccess>,
    snapshot: &TableSnapshot,
    output: &SchemaRef,
    filters: &[Expr],
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let filters = Filters::new(state, &snapshot.schema, filters)?;
    let conditions = match snapshot.runs.is_empty() {
        true => Conditions::new(None, &[], output)?,
        false => conditions(state, &snapshot.schema, &filters)?,
    };
    let scan = Scan { state, access, table: &snapshot.schema, output, hidden: Hidden::new(snapshot), conditions };
    let mut units = cut_into_units(snapshot, &filters)?;
    units.retain(|unit| !scan.hidden.hides_all(unit));

    let (mut alone, mut overlapping) = (Vec::new(), Vec::new());
    for mut component in components(units) {
        match component.pop() {
            Some(unit) if component.is_empty() && !scan.hidden.hides_some(&unit) => alone.push(unit),
            Some(unit) => {
                component.push(unit);
                overlapping.push(component);
            }
            None => {}
        }
    }

    let mut parts = scan.alone(filters.keep_by_fields(alone)?)?;
    parts.extend(scan.merged(overlapping, &filters)?);
    match parts.is_empty() {
        true => Ok(Arc::new(EmptyExec::new(Arc::clone(output)))),
        false => UnionExec::try_new(parts),
    }
}

/// Whether so few rows of `snapshot` are expected to pass `filters`, by what is known without reading.
pub(super) async fn expects_at_most(
    rows_max: u64,
    snapshot: &TableSnapshot,
    access: &FileAccess,
    filters: &[Expr],
) -> bool {
    KeyBounds::of(&snapshot.schema, filters).0.expects_at_most(rows_max, snapshot, access).await
}

/// So many rows of a table are expected to be looked at, at the most. Lives in the config of a session that plans for that.
#[derive(Debug)]
pub(super) struct RowsExpected(pub(super) u64);

/// Whether the parts of `snapshot` have at most so many series together, one of several parts counted in each, by what is in memory: a part of
/// which that is not known may have one in each row.
pub(super) async fn has_at_most_series(mut series_max: usize, snapshot: &TableSnapshot, access: &FileAccess) -> bool {
    let runs: usize = snapshot.runs.iter().map(|run| run.series_count_max()).sum();
    let Some(left) = series_max.checked_sub(runs) else { return false };
    series_max = left;
    for file in snapshot.files.stretches().flat_map(Stretch::files) {
        for (number, row_group) in file.row_groups.iter().enumerate() {
            let series = match access.held_series(file, number).await {
                Some(series) => series.len(),
                None => usize::try_from(row_group.rows).unwrap_or(usize::MAX),
            };
            let Some(left) = series_max.checked_sub(series) else { return false };
            series_max = left;
        }
    }
    true
}

/// The first and the last instant, in nanoseconds, at which `snapshot` may have rows that pass `filters`; `None` if it has none.
pub(super) fn extent(snapshot: &TableSnapshot, filters: &[Expr]) -> Option<(i64, i64)> {
    KeyBounds::of(&snapshot.schema, filters).0.extent(snapshot)
}

/// From when to when the parts of `snapshot` reach that may hold rows that pass `filters`, and how many of its rows may.
///
/// # Errors
/// As [`plan`].
pub(super) async fn spans(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    access: &FileAccess,
    filters: &[Expr],
) -> DataFusionResult<Vec<(TimeRange, u64)>> {
    let filters = Filters::new(state, &snapshot.schema, filters)?;
    let mut spans = Vec::new();
    for unit in cut_into_units(snapshot, &filters)? {
        let rows = match &unit {
            Unit::RowGroup { file, number } => filters.bounds().rows_at_most(file, *number, access).await,
            Unit::Rows { run, rows, .. } => rows.as_ref().map_or(run.row_count(), Vec::len) as u64,
        };
        spans.push((unit.time(), rows));
    }
    Ok(spans)
}

/// What may hold rows that pass, oldest writes first.
fn cut_into_units(snapshot: &TableSnapshot, filters: &Filters) -> DataFusionResult<Vec<Unit>> {
    let files = filters.keep_stretches(&snapshot.files)?.into_iter().flat_map(Stretch::files);
    let row_groups = files
        .flat_map(|file| (0..file.row_groups.len()).map(|number| Unit::RowGroup { file: Arc::clone(file), number }));
    let mut units = filters.keep_by_key(row_groups.collect())?;
    let slots = Slots::new(units.iter().map(Covers::time).collect());

    let runs = snapshot.runs.iter().map(|run| Unit::Rows { run: Arc::clone(run), rows: None, time: run.time() });
    let mut pieces = Vec::new();
    for unit in filters.keep_by_key(runs.collect())? {
        match unit {
            Unit::Rows { run, time, .. } if !slots.holds_whole(&time) => {
                let times = buffered::times(&run)?;
                let cut = slots.cut(&times).into_iter();
                pieces.extend(cut.map(|piece| Unit::Rows {
                    run: Arc::clone(&run),
                    rows: piece.rows,
                    time: piece.time,
                }));
            }
            whole => pieces.push(whole),
        }
    }
    units.extend(filters.keep_by_key(pieces)?);
    Ok(units)
}

/// The filters on the key as they are searched for in sorted rows.
fn conditions(state: &dyn Session, table: &TableSchema, filters: &Filters) -> DataFusionResult<Conditions> {
    let keys = table.arrow().fields().iter().filter(|field| table.sort_key().any(|key| key == field.name()));
    let keys = Schema::new(keys.cloned().collect::<Vec<_>>());
    let tags: Vec<String> = table.tags().iter().map(ToString::to_string).collect();
    Conditions::new(filters.on_key(state, &keys)?.as_ref(), &tags, &keys)
}

/// What every part of one scan needs.
struct Scan<'a> {
    state: &'a dyn Session,
    access: &'a Arc<FileAccess>,
    table: &'a TableSchema,
    output: &'a SchemaRef,
    hidden: Hidden<'a>,
    conditions: Conditions,
}

impl Scan<'_> {
    fn partitions(&self) -> usize {
        self.state.config().target_partitions().max(1)
    }

    /// Units that share no point with any other.
    fn alone(&self, units: Vec<Unit>) -> DataFusionResult<Vec<Arc<dyn ExecutionPlan>>> {
        let (mut row_groups, mut rows) = (Vec::new(), Vec::new());
        for unit in units {
            match unit {
                Unit::RowGroup { file, number } => row_groups.push((file, number)),
                Unit::Rows { run, rows: selected, time } => rows.push(Selection { run, rows: selected, time }),
            }
        }
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !row_groups.is_empty() {
            parts.push(parquet::scan(self, self.output, row_groups, self.partitions())?);
        }
        if !rows.is_empty() {
            parts.push(buffered::scan(self, self.output, rows, &self.conditions, self.partitions())?);
        }
        Ok(parts)
    }

    /// Components of units that may share points, merged by the rule of the model.
    fn merged(
        &self,
        components: Vec<Vec<Unit>>,
        filters: &Filters,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        if components.is_empty() {
            return Ok(None);
        }
        let columns = self.with_key_columns();
        let predicate = filters.on_key(self.state, &columns)?;
        let mut inputs = Vec::with_capacity(components.len());
        for component in components {
            let plans = component.into_iter().map(|unit| self.input(&columns, unit, predicate.as_ref()));
            inputs.push(plans.collect::<DataFusionResult<Vec<_>>>()?);
        }
        let partitions = spread(inputs, self.partitions());
        let merged = DeduplicateExec::try_new(Arc::new(self.table.clone()), columns, partitions)?;
        self.without_extra_columns(Arc::new(merged)).map(Some)
    }

    /// One input of a merge. Files take the filters that DataFusion pushes through the merge; buffered rows
    /// are filtered here, since they are in memory and take none.
    fn input(
        &self,
        columns: &SchemaRef,
        unit: Unit,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let seen = self.hidden.filter(self.state, &unit, columns)?;
        let (mut plan, predicate) = match unit {
            Unit::RowGroup { file, number } => (parquet::scan(self, columns, vec![(file, number)], 1)?, None),
            Unit::Rows { run, rows, time } => {
                let selection = Selection { run, rows, time };
                (buffered::scan(self, columns, vec![selection], &self.conditions, 1)?, predicate.cloned())
            }
        };
        if let Some(seen) = seen {
            plan = Arc::new(FilterExec::try_new(seen, plan)?);
        }
        match predicate {
            Some(predicate) => Ok(Arc::new(FilterExec::try_new(predicate, plan)?)),
            None => Ok(plan),
        }
    }

    /// The columns that are asked for and those of the key, in the table's order.
    fn with_key_columns(&self) -> SchemaRef {
        let wanted =
            |name: &str| self.output.field_with_name(name).is_ok() || self.table.sort_key().any(|key| key == name);
        let fields = self.table.arrow().fields().iter().filter(|field| wanted(field.name()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    fn without_extra_columns(&self, plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if plan.schema().fields() == self.output.fields() {
            return Ok(plan);
        }
        let mut columns = Vec::with_capacity(self.output.fields().len());
        for field in self.output.fields() {
            let column = Column::new_with_schema(field.name(), &plan.schema())?;
            columns.push(ProjectionExpr { expr: Arc::new(column), alias: field.name().clone() });
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
    }
}

/// Deals items to at most `partitions` partitions, neighbours together.
fn spread<T>(items: Vec<T>, partitions: usize) -> Vec<Vec<T>> {
    let per_partition = items.len().div_ceil(partitions.max(1)).max(1);
    let mut items = items.into_iter().peekable();
    let mut spread = Vec::new();
    while items.peek().is_some() {
        spread.push(items.by_ref().take(per_partition).collect());
    }
    spread
}

/// The order of a sorted run as far as `schema` has its columns; `None` if not even the first.
pub(super) fn key_ordering(table: &TableSchema, schema: &Schema) -> Option<LexOrdering> {
    let options = SortOptions { descending: false, nulls_first: false };
    let columns = table.sort_key().map_while(|name| Column::new_with_schema(name, schema).ok());
    LexOrdering::new(columns.map(|column| PhysicalSortExpr::new(Arc::new(column), options)))
}

/// `schema` with the names that DataFusion's expressions refer to.
fn unqualified(schema: &Schema) -> DataFusionResult<DFSchema> {
    DFSchema::try_from(schema.clone())
}

/// An error of the engine as DataFusion carries it, so that its kind comes out at the end.
pub(super) fn from_engine(error: crate::error::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn items_are_dealt_in_neighbourhoods() {
        assert_eq!(spread((0..5).collect(), 2), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(spread((0..2).collect(), 8), [vec![0], vec![1]]);
        assert_eq!(spread(Vec::<u8>::new(), 2), Vec::<Vec<u8>>::new());
    }
}
