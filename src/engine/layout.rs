//! How rows lie in files: time blocks, row groups made of them, files made of those. Persist and compaction alike.
//!
//! A block is as long as the bulk of the rows wants it, so that a row group has about [`ROW_GROUP_ROWS`] rows; where rows
//! are sparse, neighbouring blocks share one. Row groups follow each other until a file is large enough.
//!
//! Not here: where the rows come from, the bytes of a file (`store::parquet`), where it goes (`data_files`).

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;

use super::store::parquet::{EncodedFile, encode, split_by_block, time_block};
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::merge_batches;
use crate::model::{Column, ColumnKind, FieldType, TIME_COLUMN, TableSchema, TimeRange, Timestamp};

/// Rows of one row group: enough to compress and to scan at full speed, few enough to prune by time.
const ROW_GROUP_ROWS: u64 = 128 * 1024;

/// Rows of one file. Small enough to be encoded in memory beside the buffer, large enough that years of data stay few files.
const FILE_ROWS_MAX: u64 = 4_000_000;

/// Memory that the rows of one file take about, which is less rows where a table has many columns.
const FILE_MEMORY: u64 = 256 << 20;

/// Blocks that may share a row group: each run in each of them is an input of the merge.
const GROUP_BLOCKS_MAX: usize = 64;

/// Rows of the pieces in which runs are merged for encoding.
const MERGE_BATCH_ROWS: usize = 32 * 1024;

/// The rows of a full file of this table.
pub(super) fn file_rows(schema: &TableSchema) -> u64 {
    let width = |column: Column| match column.kind {
        ColumnKind::Tag => 4,
        ColumnKind::Field(FieldType::String) => 32,
        ColumnKind::Field(_) => 8,
    };
    let row_bytes = 8 + schema.columns().map(width).sum::<u64>();
    (FILE_MEMORY / row_bytes).clamp(1, FILE_ROWS_MAX)
}

/// From how many rows on a file is large enough to be left alone.
pub(super) fn large_rows(file_rows: u64) -> u64 {
    (file_rows / 8).max(1)
}

/// The duration of a block, in nanoseconds, for rows of which the bulk lies in `usual`.
pub(super) fn block_duration(schema: &TableSchema, rows: u64, usual: TimeRange) -> i64 {
    time_block(rows, usual, ROW_GROUP_ROWS.min(file_rows(schema)))
}

/// Which rows lie together: between which cuts, and in which block. Rises in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockPlace {
    /// How many cuts lie at or before the rows.
    pub(super) slot: usize,
    /// The number of the block, counted from 1970.
    pub(super) block: i64,
}

impl BlockPlace {
    /// Where an instant lies; blocks last `block` nanoseconds.
    pub(super) fn of(time: Timestamp, cuts: &[Timestamp], block: i64) -> Self {
        Self { slot: slot(time, cuts), block: time.as_nanos().div_euclid(block) }
    }
}

fn slot(time: Timestamp, cuts: &[Timestamp]) -> usize {
    cuts.partition_point(|cut| *cut <= time)
}

/// The rows of a sorted batch, cut at instants, which belong to the later side, and into blocks of `block` nanoseconds.
/// Each part is sorted as the whole was.
///
/// # Errors
/// If the batch has no time.
pub(super) fn cut_into_blocks(
    batch: &RecordBatch,
    cuts: &[Timestamp],
    block: i64,
) -> Result<Vec<(BlockPlace, RecordBatch)>, ArrowError> {
    let mut parts = Vec::new();
    for (slot, part) in split_at(batch, cuts)? {
        let blocks = split_by_block(&part, block)?.into_iter();
        parts.extend(blocks.map(|(block, piece)| (BlockPlace { slot, block }, piece)));
    }
    Ok(parts)
}

/// The rows on each side of the cuts, in their order.
fn split_at(batch: &RecordBatch, cuts: &[Timestamp]) -> Result<Vec<(usize, RecordBatch)>, ArrowError> {
    if cuts.is_empty() {
        return Ok(vec![(0, batch.clone())]);
    }
    let times = batch
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .ok_or_else(|| ArrowError::SchemaError(format!("rows have no column \"{TIME_COLUMN}\" in nanoseconds")))?;
    let mut rows: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (row, time) in times.values().iter().enumerate() {
        rows.entry(slot(Timestamp::from_nanos(*time), cuts)).or_default().push(row as u32);
    }
    if let (1, Some((slot, _))) = (rows.len(), rows.first_key_value()) {
        return Ok(vec![(*slot, batch.clone())]);
    }
    rows.into_iter().map(|(slot, rows)| Ok((slot, take_record_batch(batch, &UInt32Array::from(rows))?))).collect()
}

/// Rows that lie in neighbouring time blocks and will be one row group: sorted batches, of one block the oldest writes
/// first.
#[derive(Debug, Default)]
struct Group {
    pieces: Vec<RecordBatch>,
    rows: u64,
    blocks: usize,
}

/// Takes the rows of a table block by block, rising in time, and makes files of them.
#[derive(Debug)]
pub(super) struct FileCutter<'a> {
    schema: &'a TableSchema,
    file_rows: u64,
    slot: usize,
    group: Group,
    row_groups: Vec<Vec<RecordBatch>>,
    rows: u64,
}

impl<'a> FileCutter<'a> {
    pub(super) fn new(schema: &'a TableSchema) -> Self {
        let file_rows = file_rows(schema);
        Self { schema, file_rows, slot: 0, group: Group::default(), row_groups: Vec::new(), rows: 0 }
    }

    /// Takes the rows of the next block: sorted batches, oldest writes first. No file holds rows of two slots; slots rise.
    /// Returns the files that are full.
    ///
    /// # Errors
    /// `Internal` if the rows don't fit the schema.
    pub(super) fn push(&mut self, slot: usize, pieces: Vec<RecordBatch>) -> Result<Vec<EncodedFile>> {
        let rows = pieces.iter().map(|piece| piece.num_rows() as u64).sum::<u64>();
        let mut full = Vec::new();
        if slot != self.slot {
            self.slot = slot;
            full = self.finish()?;
        }
        let joins =
            self.group.rows + rows <= self.file_rows.min(ROW_GROUP_ROWS) && self.group.blocks < GROUP_BLOCKS_MAX;
        if !joins {
            full.extend(self.end_group()?);
        }
        self.group.pieces.extend(pieces);
        self.group.rows += rows;
        self.group.blocks += 1;
        Ok(full)
    }

    /// The files of the rows that are left.
    ///
    /// # Errors
    /// As `push`.
    pub(super) fn finish(&mut self) -> Result<Vec<EncodedFile>> {
        let full = self.end_group()?;
        Ok(full.into_iter().chain(self.end_file()?).collect())
    }

    /// Merges the group into a row group; returns the file before it if that has no room for it.
    fn end_group(&mut self) -> Result<Option<EncodedFile>> {
        let group = std::mem::take(&mut self.group);
        let merged = merge_batches(self.schema, group.pieces, MERGE_BATCH_ROWS)
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not merge rows for a file", error))?;
        let rows: u64 = merged.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows == 0 {
            return Ok(None);
        }
        let full = if self.rows + rows > self.file_rows { self.end_file()? } else { None };
        self.rows += rows;
        self.row_groups.push(merged);
        Ok(full)
    }

    fn end_file(&mut self) -> Result<Option<EncodedFile>> {
        if self.row_groups.is_empty() {
            return Ok(None);
        }
        self.rows = 0;
        Ok(Some(encode(self.schema, std::mem::take(&mut self.row_groups))?))
    }
}
