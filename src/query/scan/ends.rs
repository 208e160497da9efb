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

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array, new_null_array};
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
use super::chosen::ChosenRows;
use super::closest::{Closest, keep_closest, newest_outside, oldest_outside};
use super::dictionaries::cut;
use super::ends_exec::SeriesEndsExec;
use super::hidden::Hidden;
use super::newest::{Newest, Piece};
use super::prune::Filters;
use super::tag_sets::TagSets;
use super::{FileAccess, Unit, from_engine, prune};
use crate::engine::TableSnapshot;
use crate::engine::store::decoded::{SeriesRows, WantedRows};
use crate::engine::store::parquet::PAGE_ROWS_MIN;
use crate::model::{
    ColumnKind, ColumnName, Covers, DataFile, RowSelection, Stretch as FileStretch, TIME_COLUMN, TableSchema,
    TimeRange, Timestamp,
};

/// Of how many series, or rows, in one that are there the rows are rather fetched one by one than decoded with all others.
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
    pub(super) fn closeness(self, time: i64) -> i64 {
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
/// comes once, in the order of the series key. SHOW TAG VALUES and SHOW SERIES come here too, by way of their `DISTINCT`.
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
    let series_key = Arc::clone(table);
    SeriesEndsExec::try_new(snapshot.name.as_str(), which, said, reading, Arc::clone(output), series_key.tags())
        .map(Some)
}

/// What is wanted of a row group for the ends of these series, with so many fields: their pages and all times, or everything if that is not
/// much more. Few rows of many columns are many pages, and the whole is as quickly decoded, and kept.
fn wanted_rows(wanted: &[usize], series: &SeriesRows, fields: usize) -> WantedRows {
    let rows = series.len().checked_sub(1).map_or(0, |last| series.rows(last).end);
    let in_pages = wanted.len() * PAGE_ROWS_MIN;
    match wanted.len() * FEW <= series.len() && in_pages * FEW <= rows {
        true => WantedRows::Few((in_pages + rows / (fields + 1)) as u64),
        false => WantedRows::Most,
    }
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

/// Rows of one unit that may be among those that are asked for.
struct Found {
    batch: RecordBatch,
    chosen: Vec<Stretch>,
    /// How close to the end each row is.
    times: Vec<i64>,
}

impl Found {
    /// The place of each row's series.
    fn places(&self) -> Vec<usize> {
        let of_stretch = |stretch: &Stretch| std::iter::repeat_n(stretch.series, stretch.rows.len());
        self.chosen.iter().flat_map(of_stretch).collect()
    }

    /// With the number of each row's series.
    fn numbered(self, place: usize, series: Vec<u32>) -> Piece {
        Piece { place, batch: self.batch, series, times: self.times }
    }
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
            let mut wanted = self.conditions.series_that_pass(&series)?;
            if !is_of_all {
                let numbers = newest.number(&series, &wanted)?;
                let mut numbers = numbers.into_iter();
                wanted.retain(|_| numbers.next().is_some_and(|number| !newest.has_all(number, until)));
            }
            if !wanted.is_empty() {
                read.add(1);
                let most = if is_of_all { Some(rows) } else { None };
                if let Some(found) = self.ends_of(unit, &series, &wanted, rows, most).await? {
                    let numbers = newest.number(&series, &found.places())?;
                    newest.push(found.numbered(unit.place, numbers))?;
                }
            }
            reservation.try_resize(newest.bytes())?;
            tokio::task::coop::consume_budget().await;
        }
        Ok(newest.finish(context.session_config().batch_size())?)
    }

    /// The tags of the table that `output` has, each combination of them that a row has once, in the order of the series key.
    ///
    /// # Errors
    /// As [`Reading::points`].
    pub(super) async fn tags(
        &self,
        output: &SchemaRef,
        context: &TaskContext,
        read: &Count,
    ) -> DataFusionResult<Vec<RecordBatch>> {
        let reservation = MemoryConsumer::new("tags of series").register(context.memory_pool());
        let mut found = TagSets::new(output, self.columns.tags());
        let (first, last) = self.bounds();
        for unit in &self.units {
            let series = self.series(unit).await?;
            let mut passing = self.conditions.series_that_pass(&series)?;
            let is_whole =
                first <= unit.time.min.as_nanos() && unit.time.max.as_nanos() <= last && unit.deleted.is_empty();
            if !is_whole && !passing.is_empty() {
                read.add(1);
                let times = self.rows(unit, &[], &passing, &series).await?.times;
                passing.retain(|place| !self.ends(unit, &series, times.values(), *place, 1).is_empty());
            }
            let is_every_one = passing.len() == series.len();
            let places = UInt32Array::from_iter_values(passing.iter().map(|place| *place as u32));
            let column = |name: &String| {
                let tag = tag(&series, name, &ColumnKind::Tag.data_type());
                if is_every_one { Ok(tag) } else { cut(&take(&tag, &places, None)?) }
            };
            let columns = output.fields().iter().map(|field| column(field.name()));
            found.push(columns.collect::<DataFusionResult<Vec<ArrayRef>>>()?, passing.len())?;
            reservation.try_resize(found.bytes())?;
            tokio::task::coop::consume_budget().await;
        }
        found.finish(context.session_config().batch_size())
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
    ) -> DataFusionResult<Option<Found>> {
        let fields = match &unit.unit {
            Unit::RowGroup { file, .. } => self.fields_of(file),
            Unit::Rows { .. } => Vec::new(),
        };
        let found = self.rows(unit, &fields, wanted, series).await?;
        let times = found.times.values();
        let mut chosen: Vec<Stretch> = Vec::with_capacity(wanted.len().min(most.unwrap_or(usize::MAX)));
        let mut closest = Closest::new(most);
        for place in wanted {
            if !closest.may_get(self.closest_of(series.rows(*place), times)) {
                continue;
            }
            for rows in self.ends(unit, series, times, *place, rows) {
                closest.push(times[rows.clone()].iter().map(|time| self.end.closeness(*time)));
                chosen.push(Stretch { series: *place, rows });
            }
        }
        if let Some(most) = most {
            keep_closest(&mut chosen, times, most, self.end);
        }
        if chosen.is_empty() {
            return Ok(None);
        }
        let batch = self.batch(unit, &fields, series, &found, &chosen).await?;
        let times = chosen.iter().flat_map(|stretch| &times[stretch.rows.clone()]);
        let times = times.map(|time| self.end.closeness(*time)).collect();
        Ok(Some(Found { batch, chosen, times }))
    }

    /// How close to the end a row of a series may be; rows rise in time.
    fn closest_of(&self, rows: Range<usize>, times: &[i64]) -> i64 {
        let closest = match self.end {
            End::Newest => times[rows].last(),
            End::Oldest => times[rows].first(),
        };
        closest.map_or(i64::MIN, |time| self.end.closeness(*time))
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
        let (tags, wanted) = (self.tags_of(file), wanted_rows(wanted, series, fields.len()));
        match self.access.decoded(file, number, &tags, fields, wanted).await.map_err(from_engine)? {
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
        let rows = ChosenRows::new(chosen);
        let fetched = match (&unit.unit, &found.fields) {
            (Unit::RowGroup { file, number }, None) if !fields.is_empty() => {
                let places = chosen.iter().map(|stretch| stretch.rows.clone());
                Some(self.access.rows(file, *number, fields, places).await.map_err(from_engine)?)
            }
            _ => None,
        };
        if fetched.as_ref().is_some_and(|fetched| fetched.num_rows() != rows.count()) {
            return internal_err!("other rows came than were chosen");
        }
        let columns = self.columns.arrow().fields().iter().map(|field| {
            let name = field.name().as_str();
            if name == TIME_COLUMN {
                let times: ArrayRef = Arc::new(found.times.clone());
                return rows.of(&times);
            }
            if self.columns.kind(name) == Some(ColumnKind::Tag) {
                return rows.repeated(&tag(series, name, field.data_type()));
            }
            if let Some(column) = fetched.as_ref().and_then(|fetched| fetched.column_by_name(name)) {
                return Ok(Arc::clone(column));
            }
            match found.fields.as_ref().and_then(|fields| fields.get(name)) {
                Some(column) => rows.of(column),
                None => Ok(new_null_array(field.data_type(), rows.count())),
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
