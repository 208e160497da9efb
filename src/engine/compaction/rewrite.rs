//! Reads files row group by row group, merges them block by block, and hands out new files as they fill.
//!
//! A sweep over time: row groups are read in the order in which they begin, cut into blocks, and a block is merged as soon
//! as no later row group can reach it. So memory holds the row groups that overlap the sweep and one new file, however
//! large the files are.
//!
//! Always true: the new files together hold each point of the old ones that is not deleted once, with the values of its
//! last writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq, not_distinct};
use arrow::compute::{and, cast, filter_record_batch, is_null, not};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::layout::{BlockPlace, FileCutter, block_duration, cut_into_blocks};
use crate::engine::store::checked::CheckedFiles;
use crate::engine::store::parquet::EncodedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::conform;
use crate::model::{DataFile, Deletion, RowSelection, TIME_COLUMN, TableSchema, TimeRange, Timestamp};

/// What to rewrite.
#[derive(Debug)]
pub(super) struct Plan {
    /// The table's columns, at least all that the files have.
    pub(super) schema: Arc<TableSchema>,
    /// The files, oldest writes first.
    pub(super) files: Vec<Arc<DataFile>>,
    /// No new file reaches across one of these instants, which belong to the later side. Rising.
    pub(super) cuts: Vec<Timestamp>,
    /// Deletions of the table whose rows may be in the files.
    pub(super) deletions: Arc<Vec<Deletion>>,
}

/// How files are read, and how much of a processor may be used.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) files: CheckedFiles,
    pub(super) io: Handle,
    pub(super) clock: Arc<dyn Clock>,
    /// Share of one processor, in percent.
    pub(super) cpu_percent: u32,
}

/// Rewrites, calling `emit` with each new file. Blocks the thread; `stop` ends it between two row groups with false.
///
/// # Errors
/// `Corrupt` if a file is damaged, `Unavailable` if the store doesn't answer, and the errors of `emit`.
pub(super) fn rewrite(
    plan: &Plan,
    reading: &Reading,
    stop: &CancellationToken,
    mut emit: impl FnMut(EncodedFile) -> Result<()>,
) -> Result<bool> {
    let row_groups = in_order_of_time(&plan.files);
    let rows = row_groups.iter().map(|group| group.rows).sum();
    let block = block_duration(&plan.schema, rows, usual_times(&row_groups));
    let mut cutter = FileCutter::new(&plan.schema);
    let mut pending = Pending::new();
    for group in &row_groups {
        if stop.is_cancelled() {
            return Ok(false);
        }
        let started = reading.clock.elapsed();
        // What lies before this row group lies before all that follow.
        let later = pending.split_off(&BlockPlace::of(group.time.min, &plan.cuts, block));
        flush(std::mem::replace(&mut pending, later), &mut cutter, &mut emit)?;

        let file = &plan.files[group.place];
        let reader = reading.files.reader(Arc::clone(file), reading.io.clone());
        let batch = reading.io.block_on(reader.row_group(group.number))?;
        let failed = |error| Error::with_source(ErrorKind::Internal, "rows of a file don't fit their table", error);
        let batch = conform(&batch, plan.schema.arrow()).map_err(failed)?;
        let mut deletions = plan.deletions.iter().filter(|deletion| deletion.applies_to(file));
        let batch = deletions.try_fold(batch, |batch, deletion| without(&batch, &deletion.rows)).map_err(failed)?;
        for (place, piece) in cut_into_blocks(&batch, &plan.cuts, block).map_err(failed)? {
            pending.entry(place).or_default().push((group.place, piece));
        }
        pause(reading, started, stop);
    }
    flush(pending, &mut cutter, &mut emit)?;
    cutter.finish()?.into_iter().try_for_each(emit)?;
    Ok(!stop.is_cancelled())
}

/// The rows of blocks that are not complete, each with the place of its file.
type Pending = BTreeMap<BlockPlace, Vec<(usize, RecordBatch)>>;

/// Merges complete blocks, which rise in time.
fn flush(blocks: Pending, cutter: &mut FileCutter<'_>, emit: &mut impl FnMut(EncodedFile) -> Result<()>) -> Result<()> {
    for (place, mut pieces) in blocks {
        // Pieces of one file come from row groups that have no time in common, so their order does not matter.
        pieces.sort_by_key(|(file, _)| *file);
        let pieces = pieces.into_iter().map(|(_, piece)| piece).collect();
        cutter.push(place.slot, pieces)?.into_iter().try_for_each(&mut *emit)?;
    }
    Ok(())
}

/// A row group of one of the files.
#[derive(Debug, Clone, Copy)]
struct Group {
    place: usize,
    number: usize,
    rows: u64,
    time: TimeRange,
}

fn in_order_of_time(files: &[Arc<DataFile>]) -> Vec<Group> {
    let groups = files.iter().enumerate().flat_map(|(place, file)| {
        let numbered = file.row_groups.iter().enumerate();
        numbered.map(move |(number, group)| Group { place, number, rows: group.rows, time: group.time })
    });
    let mut groups: Vec<Group> = groups.collect();
    groups.sort_by_key(|group| (group.time.min, group.place));
    groups
}

/// The times between which all but about the first and the last hundredth of the rows lie.
fn usual_times(groups: &[Group]) -> TimeRange {
    let rows: u64 = groups.iter().map(|group| group.rows).sum();
    let odd = rows / 100;
    let mut before = 0;
    let usual = groups.iter().filter(|group| {
        let middle = before + group.rows / 2;
        before += group.rows;
        middle >= odd && middle <= rows - odd
    });
    usual.map(|group| group.time).reduce(|a, b| a.union(&b)).unwrap_or(TimeRange::ALL)
}

/// The rows that are not selected.
fn without(batch: &RecordBatch, rows: &RowSelection) -> Result<RecordBatch, ArrowError> {
    let column = |name: &str| {
        let missing = || ArrowError::SchemaError(format!("rows have no column \"{name}\""));
        batch.column_by_name(name).ok_or_else(missing)
    };
    let time = |at: Timestamp| TimestampNanosecondArray::new_scalar(at.as_nanos());
    let times = column(TIME_COLUMN)?;
    let mut selected = and(&gt_eq(times, &time(rows.time.min))?, &lt_eq(times, &time(rows.time.max))?)?;
    for (tag, value) in &rows.tags {
        let tags = column(tag.as_str())?;
        let has_value = match value {
            None => is_null(tags)?,
            // Not `eq`: a row without the tag would be neither kept nor deleted.
            Some(value) => not_distinct(&cast(tags, &DataType::Utf8)?, &StringArray::new_scalar(value))?,
        };
        selected = and(&selected, &has_value)?;
    }
    filter_record_batch(batch, &not(&selected)?)
}

/// Leaves the processor to others for its share of the time since `started`, or until it is stopped.
fn pause(reading: &Reading, started: Duration, stop: &CancellationToken) {
    let percent = reading.cpu_percent.clamp(1, 100);
    let worked = reading.clock.elapsed().saturating_sub(started);
    let rest = worked * (100 - percent) / percent;
    reading.io.block_on(async { stop.run_until_cancelled(tokio::time::sleep(rest)).await });
}
