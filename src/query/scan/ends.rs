//! The ends of series: their newest or oldest points, or just their tags, read without the rows between.
//!
//! Runs and row groups are sorted by series and time, so the newest rows of a series stand at its end, the oldest at its begin, and its
//! tags are known without its rows. Units are read from the newest to the oldest, or the other way round; of each one only the series that
//! may have something newer (or older) than what was found ([`newest`](super::newest)).
//!
//! What comes out are points of the table, and all those that were asked for. There may be others; they are further from the end than
//! those that were asked for of their series, and may lack writes. So this serves who looks at nothing but the points at that end.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampNanosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{Int32Type, SchemaRef, TimestampNanosecondType};
use datafusion::catalog::Session;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::metrics::Count;

use super::choose::{Conditions, Stretch, tag};
use super::decoded::{repeated, rows_of};
use super::ends_exec::SeriesEndsExec;
use super::hidden::Hidden;
use super::newest::{Newest, Piece};
use super::prune::Filters;
use super::{FileAccess, Unit, from_engine, prune};
use crate::engine::TableSnapshot;
use crate::engine::store::decoded::SeriesRows;
use crate::model::{
    ColumnKind, ColumnName, Covers, DataFile, RowSelection, Stretch as FileStretch, TIME_COLUMN, TableSchema,
    TimeRange, Timestamp,
};

/// Of how many series in one that are there the rows are rather fetched one by one than decoded with all others.
const FEW: usize = 4;

/// Which points of a table are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::query) enum Ends {
    /// The newest of each series, so many.
    OfSeries(usize),
    /// The newest of all, so many.
    OfAll(usize),
    /// The oldest of each series, so many.
    FirstOfSeries(usize),
    /// The oldest of all, so many.
    FirstOfAll(usize),
    /// Any of each series, but nothing of it than its tags.
    Tags,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfSeries(rows) => write!(f, "newest {rows} of each series"),
            Self::OfAll(rows) => write!(f, "newest {rows}"),
            Self::FirstOfSeries(rows) => write!(f, "oldest {rows} of each series"),
            Self::FirstOfAll(rows) => write!(f, "oldest {rows}"),
            Self::Tags => f.write_str("tags"),
        }
    }
}

/// An end of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::query) enum End {
    Newest,
    Oldest,
}

impl End {
    /// The end that comes last where times rise, or first where they fall.
    pub(in crate::query) fn newest_if(is_newest: bool) -> Self {
        if is_newest { Self::Newest } else { Self::Oldest }
    }

    /// So many points of each series at this end.
    pub(in crate::query) fn of_series(self, rows: usize) -> Ends {
        match self {
            Self::Newest => Ends::OfSeries(rows),
            Self::Oldest => Ends::FirstOfSeries(rows),
        }
    }

    /// So many points of all at this end.
    pub(in crate::query) fn of_all(self, rows: usize) -> Ends {
        match self {
            Self::Newest => Ends::OfAll(rows),
            Self::Oldest => Ends::FirstOfAll(rows),
        }
    }

    fn of(which: Ends) -> Self {
        match which {
            Ends::OfSeries(_) | Ends::OfAll(_) | Ends::Tags => Self::Newest,
            Ends::FirstOfSeries(_) | Ends::FirstOfAll(_) => Self::Oldest,
        }
    }

    /// A number for a time that is the greater the closer the time is to this end.
    fn closeness(self, time: i64) -> i64 {
        match self {
            Self::Newest => time,
            Self::Oldest => !time, // the opposite, without an overflow
        }
    }

    /// The time of a unit that is closest to this end.
    fn of_unit(self, time: TimeRange) -> i64 {
        match self {
            Self::Newest => time.max.as_nanos(),
            Self::Oldest => time.min.as_nanos(),
        }
    }
}

/// A plan for these points of `snapshot`, or with [`Ends::Tags`] for the values of the tags in `output`: each combination that a row has
/// comes at least once, once for each unit. SHOW TAG VALUES and SHOW SERIES come here too, by way of their `DISTINCT`.
///
/// The points are those that pass `filters`, with the columns of `output`: at least one, and only tags
/// if those are asked for. `None` if the filters look at more than tags and bounds of time.
///
/// # Errors
/// If a filter does not fit the table; a defect.
pub(in crate::query) fn ends(
    state: &dyn Session,
    access: &Arc<FileAccess>,
    snapshot: &TableSnapshot,
    output: &SchemaRef,
    filters: &[Expr],
    which: Ends,
) -> DataFusionResult<Option<SeriesEndsExec>> {
    let table = &snapshot.schema;
    let is_wanted = |name: &str| output.field_with_name(name).is_ok() || table.sort_key().any(|key| key == name);
    let columns = Arc::new(TableSchema::new(table.columns().filter(|column| is_wanted(column.name.as_str()))));
    let tags: Vec<String> = table.tags().iter().map(ToString::to_string).collect();
    let Some(predicate) = on_key(state, &columns, filters)? else { return Ok(None) };
    let conditions = Conditions::new(predicate.as_ref(), &tags, columns.arrow())?;
    if conditions.rest().is_some() {
        return Ok(None);
    }
    let end = End::of(which);
    let units = units(state, snapshot, filters, end)?;
    let said = predicate.map(|predicate| predicate.to_string());
    let visible_from = snapshot.visible_from.map_or(i64::MIN, Timestamp::as_nanos);
    let reading = Reading { columns, conditions, visible_from, end, units, access: Arc::clone(access) };
    SeriesEndsExec::try_new(snapshot.name.as_str(), which, said, reading, Arc::clone(output)).map(Some)
}

type Predicate = Option<Arc<dyn datafusion::physical_plan::PhysicalExpr>>;

/// The filters as one expression; `None` if one looks at something else than the key.
fn on_key(state: &dyn Session, columns: &TableSchema, filters: &[Expr]) -> DataFusionResult<Option<Predicate>> {
    let is_key = |name: &str| columns.sort_key().any(|key| key == name);
    let looks_at_key =
        |filter: &Expr| prune::speaks_of_rows(filter) && filter.column_refs().iter().all(|column| is_key(&column.name));
    match filters.iter().all(looks_at_key) {
        true => prune::physical(state, columns.arrow(), filters.to_vec()).map(Some),
        false => Ok(None),
    }
}

/// What may hold rows that pass, from this end on.
fn units(state: &dyn Session, snapshot: &TableSnapshot, filters: &[Expr], end: End) -> DataFusionResult<Vec<EndUnit>> {
    let hidden = Hidden::new(snapshot);
    let filters = Filters::new(state, &snapshot.schema, filters)?;
    let files = filters.keep_stretches(&snapshot.files)?.into_iter().flat_map(FileStretch::files);
    let row_groups = files
        .flat_map(|file| (0..file.row_groups.len()).map(|number| Unit::RowGroup { file: Arc::clone(file), number }));
    let runs = snapshot.runs.iter().map(|run| Unit::Rows { run: Arc::clone(run), rows: None, time: run.time() });
    let mut units = filters.keep_by_key(row_groups.chain(runs).collect())?;
    units.retain(|unit| !hidden.hides_all(unit));
    let with_place = |(place, unit): (usize, Unit)| {
        let deleted = hidden.deletions_of(&unit).map(|deletion| deletion.rows.clone()).collect();
        EndUnit { place, time: unit.time(), deleted, unit }
    };
    let mut units: Vec<EndUnit> = units.into_iter().enumerate().map(with_place).collect();
    units.sort_by_key(|unit| std::cmp::Reverse((end.closeness(end.of_unit(unit.time)), unit.place)));
    Ok(units)
}

/// A unit, whole.
#[derive(Debug)]
struct EndUnit {
    /// Later writes have the greater number.
    place: usize,
    time: TimeRange,
    deleted: Vec<RowSelection>,
    unit: Unit,
}

/// What is read, and how.
#[derive(Debug)]
pub(super) struct Reading {
    /// The columns that are asked for, and the key.
    columns: Arc<TableSchema>,
    conditions: Conditions,
    /// Rows before this time have expired.
    visible_from: i64,
    end: End,
    /// From that end on.
    units: Vec<EndUnit>,
    access: Arc<FileAccess>,
}

/// The times of a unit, and its fields if they are at hand.
struct Rows {
    times: TimestampNanosecondArray,
    fields: Option<HashMap<ColumnName, ArrayRef>>,
}

impl Reading {
    pub(super) fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// Where a column is in what [`Reading::points`] gives.
    ///
    /// # Errors
    /// If the table has no such column; a defect.
    pub(super) fn place_of(&self, column: &str) -> DataFusionResult<usize> {
        Ok(self.columns.arrow().index_of(column)?)
    }

    /// The points at the end: `rows` of each series, or of all.
    ///
    /// # Errors
    /// What reading says; `ResourcesExhausted` if the memory of all queries does not suffice.
    pub(super) async fn points(
        &self,
        rows: usize,
        is_of_all: bool,
        context: &TaskContext,
        read: &Count,
    ) -> DataFusionResult<Vec<RecordBatch>> {
        let reservation = MemoryConsumer::new("ends of series").register(context.memory_pool());
        let mut newest = Newest::new(Arc::clone(&self.columns), rows)?;
        for unit in &self.units {
            let until = self.end.closeness(self.end.of_unit(unit.time));
            if is_of_all && newest.has_enough(until) {
                break;
            }
            let series = self.series(unit).await?;
            let numbers = newest.number(&series)?;
            let mut wanted = self.passing(&series)?;
            wanted.retain(|place| !newest.has_all(numbers[*place], until));
            if !wanted.is_empty() {
                read.add(1);
                let most = if is_of_all { Some(rows) } else { None };
                if let Some(piece) = self.ends_of(unit, &series, &wanted, rows, most, &numbers).await? {
                    newest.push(piece)?;
                }
            }
            reservation.try_resize(newest.bytes())?;
            tokio::task::coop::consume_budget().await;
        }
        Ok(newest.finish(context.session_config().batch_size())?)
    }

    /// The tags of the series of one unit, those of the table that `output` has. `None` after the last unit.
    ///
    /// # Errors
    /// What reading says.
    pub(super) async fn tags(
        &self,
        number: usize,
        output: &SchemaRef,
        read: &Count,
    ) -> DataFusionResult<Option<RecordBatch>> {
        let Some(unit) = self.units.get(number) else { return Ok(None) };
        let series = self.series(unit).await?;
        let mut passing = self.passing(&series)?;
        let (first, last) = self.bounds();
        let is_whole = first <= unit.time.min.as_nanos() && unit.time.max.as_nanos() <= last && unit.deleted.is_empty();
        if !is_whole && !passing.is_empty() {
            read.add(1);
            let times = self.rows(unit, &[], &passing, &series).await?.times;
            passing.retain(|place| !self.ends(unit, &series, times.values(), *place, 1).is_empty());
        }
        let places = UInt32Array::from_iter_values(passing.iter().map(|place| *place as u32));
        let column = |name: &String| Ok(take(&tag(&series, name, &ColumnKind::Tag.data_type()), &places, None)?);
        let columns = output.fields().iter().map(|field| column(field.name()));
        let columns = columns.collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(passing.len()));
        tokio::task::coop::consume_budget().await;
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(output), columns, &options)?))
    }

    /// The first and the last instant of rows that are seen and pass.
    fn bounds(&self) -> (i64, i64) {
        let (first, last) = self.conditions.time();
        (first.max(self.visible_from), last)
    }

    async fn series(&self, unit: &EndUnit) -> DataFusionResult<Arc<SeriesRows>> {
        match &unit.unit {
            Unit::Rows { run, .. } => run.series().map(Arc::clone).map_err(from_engine),
            Unit::RowGroup { file, number } => {
                self.access.series(file, *number, &self.tags_of(file)).await.map_err(from_engine)
            }
        }
    }

    /// The series that pass the filters on tags.
    fn passing(&self, series: &SeriesRows) -> DataFusionResult<Vec<usize>> {
        let passing = self.conditions.series_that_pass(series)?;
        let passes = |place: &usize| passing.as_ref().is_none_or(|all| all.is_valid(*place) && all.value(*place));
        Ok((0..series.len()).filter(passes).collect())
    }

    fn tags_of(&self, file: &DataFile) -> Vec<ColumnName> {
        self.columns.tags().iter().filter(|tag| file.columns.has(tag.as_str())).cloned().collect()
    }

    fn fields_of(&self, file: &DataFile) -> Vec<ColumnName> {
        let names = self.columns.columns().map(|column| column.name);
        names.filter(|name| !self.columns.tags().contains(name) && file.columns.has(name.as_str())).collect()
    }

    /// The rows at the end of these series of one unit; of all of them `most` at most. `None` if there is none that passes.
    async fn ends_of(
        &self,
        unit: &EndUnit,
        series: &SeriesRows,
        wanted: &[usize],
        rows: usize,
        most: Option<usize>,
        numbers: &[u32],
    ) -> DataFusionResult<Option<Piece>> {
        let fields = match &unit.unit {
            Unit::RowGroup { file, .. } => self.fields_of(file),
            Unit::Rows { .. } => Vec::new(),
        };
        let found = self.rows(unit, &fields, wanted, series).await?;
        let times = found.times.values();
        let mut chosen: Vec<Stretch> = Vec::with_capacity(wanted.len());
        for place in wanted {
            let ends = self.ends(unit, series, times, *place, rows);
            chosen.extend(ends.into_iter().map(|rows| Stretch { series: *place, rows }));
        }
        if let Some(most) = most {
            keep_closest(&mut chosen, times, most, self.end);
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let batch = self.batch(unit, &fields, series, &found, &chosen).await?;
        let rows_of = |stretch: &Stretch| std::iter::repeat_n(numbers[stretch.series], stretch.rows.len());
        Ok(Some(Piece {
            place: unit.place,
            batch,
            series: chosen.iter().flat_map(rows_of).collect(),
            times: (chosen.iter().flat_map(|stretch| &times[stretch.rows.clone()]))
                .map(|time| self.end.closeness(*time))
                .collect(),
        }))
    }

    /// The rows of a unit, as far as they are at hand or worth decoding.
    async fn rows(
        &self,
        unit: &EndUnit,
        fields: &[ColumnName],
        wanted: &[usize],
        series: &SeriesRows,
    ) -> DataFusionResult<Rows> {
        let (file, number) = match &unit.unit {
            Unit::Rows { run, .. } => {
                let sorted = run.sorted().map_err(from_engine)?;
                let names = self.columns.columns().map(|column| column.name);
                let column =
                    |name: ColumnName| sorted.column_by_name(name.as_str()).map(|column| (name, Arc::clone(column)));
                return Ok(Rows { times: times_of(sorted)?, fields: Some(names.filter_map(column).collect()) });
            }
            Unit::RowGroup { file, number } => (file, *number),
        };
        let decoded = match wanted.len() * FEW <= series.len() {
            true => self.access.held(file, number, fields).await,
            false => self.access.decoded(file, number, &self.tags_of(file), fields).await.map_err(from_engine)?,
        };
        match decoded {
            Some(group) => Ok(Rows { times: group.times, fields: Some(group.fields) }),
            None => {
                let times = self.access.times(file, number).await.map_err(from_engine)?;
                Ok(Rows { times: times_of(&times)?, fields: None })
            }
        }
    }

    /// The places of the rows at the end of a series that are seen and pass, at most so many, rising.
    fn ends(&self, unit: &EndUnit, series: &SeriesRows, times: &[i64], place: usize, rows: usize) -> Vec<Range<usize>> {
        let all = series.rows(place);
        let (first, last) = self.bounds();
        let of_series = &times[all.clone()];
        let start = all.start + of_series.partition_point(|time| *time < first);
        let end = all.start + of_series.partition_point(|time| *time <= last);
        let deleted: Vec<TimeRange> = unit
            .deleted
            .iter()
            .filter(|deleted| deleted.tags.iter().all(|(tag, value)| has_tag(series, place, tag, value.as_deref())))
            .map(|deleted| deleted.time)
            .collect();
        match self.end {
            End::Newest => newest_outside(times, start..end.max(start), &deleted, rows),
            End::Oldest => oldest_outside(times, start..end.max(start), &deleted, rows),
        }
    }

    /// The chosen rows of a unit with all columns.
    async fn batch(
        &self,
        unit: &EndUnit,
        fields: &[ColumnName],
        series: &SeriesRows,
        found: &Rows,
        chosen: &[Stretch],
    ) -> DataFusionResult<RecordBatch> {
        let count = chosen.iter().map(|stretch| stretch.rows.len()).sum();
        let fetched = match (&unit.unit, &found.fields) {
            (Unit::RowGroup { file, number }, None) if !fields.is_empty() => {
                let rows = chosen.iter().map(|stretch| stretch.rows.clone());
                Some(self.access.rows(file, *number, fields, rows).await.map_err(from_engine)?)
            }
            _ => None,
        };
        if fetched.as_ref().is_some_and(|fetched| fetched.num_rows() != count) {
            return internal_err!("other rows came than were chosen");
        }
        let columns = self.columns.arrow().fields().iter().map(|field| {
            let name = field.name().as_str();
            if name == TIME_COLUMN {
                let times: ArrayRef = Arc::new(found.times.clone());
                return rows_of(&times, chosen);
            }
            if self.columns.kind(name) == Some(ColumnKind::Tag) {
                return repeated(&tag(series, name, field.data_type()), chosen, count);
            }
            if let Some(column) = fetched.as_ref().and_then(|fetched| fetched.column_by_name(name)) {
                return Ok(Arc::clone(column));
            }
            match found.fields.as_ref().and_then(|fields| fields.get(name)) {
                Some(column) => rows_of(column, chosen),
                None => Ok(new_null_array(field.data_type(), count)),
            }
        });
        let columns = columns.collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(self.columns.arrow()), columns)?)
    }
}

fn times_of(batch: &RecordBatch) -> DataFusionResult<TimestampNanosecondArray> {
    batch
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .cloned()
        .ok_or_else(|| internal_datafusion_err!("rows without times"))
}

/// Whether a series has this value of a tag; `None`: whether it lacks it.
fn has_tag(series: &SeriesRows, place: usize, name: &ColumnName, value: Option<&str>) -> bool {
    let known = series.tags().column_by_name(name.as_str()).and_then(|tag| {
        let tag = tag.as_dictionary_opt::<Int32Type>()?;
        let texts = tag.values().as_string_opt::<i32>()?;
        let code = tag.key(place)?;
        texts.is_valid(code).then(|| texts.value(code))
    });
    known == value
}

/// The last places of `range`, at most `rows`, whose times lie in none of the ranges; rising. Times rise in the range.
fn newest_outside(times: &[i64], range: Range<usize>, outside: &[TimeRange], rows: usize) -> Vec<Range<usize>> {
    let (mut end, mut left, mut found) = (range.end, rows, Vec::new());
    while left > 0 && end > range.start {
        let time = times[end - 1];
        let before = &times[range.start..end];
        let covers = |outside: &&TimeRange| outside.min.as_nanos() <= time && time <= outside.max.as_nanos();
        if let Some(covering) = outside.iter().find(covers) {
            end = range.start + before.partition_point(|time| *time < covering.min.as_nanos());
            continue;
        }
        let ended = outside.iter().map(|outside| outside.max.as_nanos()).filter(|max| *max < time).max();
        let start = ended.map_or(0, |ended| before.partition_point(|time| *time <= ended)) + range.start;
        let start = start.max(end.saturating_sub(left));
        found.push(start..end);
        left -= end - start;
        end = start;
    }
    found.reverse();
    found
}

/// The first places of `range`, at most `rows`, whose times lie in none of the ranges; rising. Times rise in the range.
fn oldest_outside(times: &[i64], range: Range<usize>, outside: &[TimeRange], rows: usize) -> Vec<Range<usize>> {
    let (mut start, mut left, mut found) = (range.start, rows, Vec::new());
    while left > 0 && start < range.end {
        let time = times[start];
        let after = &times[start..range.end];
        let covers = |outside: &&TimeRange| outside.min.as_nanos() <= time && time <= outside.max.as_nanos();
        if let Some(covering) = outside.iter().find(covers) {
            start += after.partition_point(|time| *time <= covering.max.as_nanos());
            continue;
        }
        let begins = outside.iter().map(|outside| outside.min.as_nanos()).filter(|min| *min > time).min();
        let length = begins.map_or(after.len(), |begins| after.partition_point(|time| *time < begins)).min(left);
        found.push(start..start + length);
        left -= length;
        start += length;
    }
    found
}

/// Lets go of rows that are further from the end than the `most` closest ones.
fn keep_closest(chosen: &mut Vec<Stretch>, times: &[i64], most: usize, end: End) {
    let all = chosen.iter().flat_map(|stretch| &times[stretch.rows.clone()]);
    let mut all: Vec<i64> = all.map(|time| end.closeness(*time)).collect();
    if most == 0 || all.len() <= most {
        return;
    }
    let (_, furthest, _) = all.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
    let furthest = *furthest;
    for stretch in chosen.iter_mut() {
        let rows = stretch.rows.clone();
        match end {
            End::Newest => stretch.rows.start += times[rows].partition_point(|time| *time < furthest),
            End::Oldest => {
                let kept = times[rows].partition_point(|time| end.closeness(*time) >= furthest);
                stretch.rows.end = stretch.rows.start + kept;
            }
        }
    }
    chosen.retain(|stretch| !stretch.rows.is_empty());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_newest_of_all_stay() {
        let times = [1, 5, 9, 2, 3, 8, 8];
        let mut chosen = vec![
            Stretch { series: 0, rows: 0..3 },
            Stretch { series: 1, rows: 3..5 },
            Stretch { series: 2, rows: 5..6 },
            Stretch { series: 3, rows: 6..7 },
        ];
        let mut oldest: Vec<Stretch> =
            chosen.iter().map(|stretch| Stretch { series: stretch.series, rows: stretch.rows.clone() }).collect();
        keep_closest(&mut chosen, &times, 2, End::Newest);
        let rows: Vec<usize> = chosen.into_iter().flat_map(|stretch| stretch.rows).collect();
        assert_eq!(rows, [2, 5, 6], "of equal times all stay");
        keep_closest(&mut oldest, &times, 3, End::Oldest);
        let rows: Vec<usize> = oldest.into_iter().flat_map(|stretch| stretch.rows).collect();
        assert_eq!(rows, [0, 3, 4]);
    }

    proptest! {
        #[test]
        fn the_newest_outside_of_ranges_are_those_that_a_walk_finds(
            times in vec(-20_i64..20, 0..30),
            outside in vec((-22_i64..22, 0_i64..9), 0..4),
            rows in 1_usize..6,
        ) {
            let mut times = times;
            times.sort_unstable();
            times.dedup();
            let outside: Vec<TimeRange> =
                outside.into_iter().map(|(min, length)| TimeRange::from_nanos(min, min + length)).collect();
            let is_outside = |time: i64| outside.iter().all(|range| time < range.min.as_nanos() || range.max.as_nanos() < time);
            let start = times.len().min(2);
            let mut walked: Vec<usize> = (start..times.len()).rev().filter(|row| is_outside(times[*row])).take(rows).collect();
            walked.reverse();
            let found: Vec<usize> = newest_outside(&times, start..times.len(), &outside, rows).into_iter().flatten().collect();
            prop_assert_eq!(found, walked);
            let walked: Vec<usize> = (start..times.len()).filter(|row| is_outside(times[*row])).take(rows).collect();
            let found: Vec<usize> = oldest_outside(&times, start..times.len(), &outside, rows).into_iter().flatten().collect();
            prop_assert_eq!(found, walked);
        }
    }
}
