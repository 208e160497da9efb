//! Which rows count: the newest of each key, and of many keys those with the newest rows.
//!
//! Of two rows of one key and one time the one that stands first counts; where batches are sorted by tags, that is the one
//! with the smaller tags.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, partition, take};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::model::{CacheDefinition, CacheKind, ColumnName, TIME_COLUMN, TableSchema};

/// The places of the rows of `batch` that count, in the order in which they are kept: for last values that of the batch, for
/// distinct values that of the values.
///
/// `is_sorted`: the batch is sorted by all tags and time, which saves work.
pub(super) fn newest_rows(
    definition: &CacheDefinition,
    kept: &TableSchema,
    batch: &RecordBatch,
    is_sorted: bool,
) -> Result<Vec<u32>, ArrowError> {
    let keys = definition.keys(kept);
    let times = times(batch)?;
    let own = columns(batch, &definition.own_values(kept))?;
    if definition.kind() == CacheKind::Last && own.is_empty() && is_sorted && keys == kept.tags() {
        return ends_of_series(batch, &keys, definition.rows_per_key());
    }
    let groups = Groups::new(batch, &keys)?;
    let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
    rows.sort_unstable_by_key(|row| (groups.of[*row as usize], Reverse(times[*row as usize]), *row));
    let (per_key, mut current, mut taken) = (definition.rows_per_key(), None, 0);
    let mut is_missing = vec![true; own.len()];
    rows.retain(|row| {
        let group = Some(groups.of[*row as usize]);
        if group == current {
            taken += 1;
        } else {
            (current, taken) = (group, 0);
            is_missing.fill(true);
        }
        let mut brings_a_value = false;
        for (column, is_missing) in own.iter().zip(&mut is_missing) {
            if *is_missing && column.is_valid(*row as usize) {
                (*is_missing, brings_a_value) = (false, true);
            }
        }
        taken < per_key || brings_a_value
    });
    match definition.kind() {
        CacheKind::Last => rows.sort_unstable(),
        CacheKind::Distinct => {
            if let Some(max) = definition.keys_max().filter(|max| *max < rows.len()) {
                rows.sort_unstable_by(|a, b| {
                    let by_time = times[*b as usize].cmp(&times[*a as usize]);
                    by_time.then_with(|| groups.compare(*a, *b))
                });
                rows.truncate(max);
            }
            rows.sort_unstable_by(|a, b| groups.compare(*a, *b));
        }
    }
    Ok(rows)
}

/// The places of the rows in the order of an answer: by key, of one key the newest first.
pub(super) fn answer_order(
    definition: &CacheDefinition,
    kept: &TableSchema,
    batch: &RecordBatch,
) -> Result<Vec<u32>, ArrowError> {
    let times = times(batch)?;
    let groups = Groups::new(batch, &definition.keys(kept))?;
    let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
    rows.sort_unstable_by(|a, b| {
        let by_time = || times[*b as usize].cmp(&times[*a as usize]);
        groups.compare(*a, *b).then_with(by_time).then_with(|| a.cmp(b))
    });
    Ok(rows)
}

/// One row for each key out of rows in the order of an answer: that of the newest, with each of these columns' newest value.
pub(super) fn newest_values(
    definition: &CacheDefinition,
    kept: &TableSchema,
    batch: &RecordBatch,
) -> Result<RecordBatch, ArrowError> {
    let (keys, own) = (definition.keys(kept), definition.own_values(kept));
    let groups = Groups::new(batch, &keys)?;
    let mut ends: Vec<usize> = (1..batch.num_rows()).filter(|row| groups.of[*row] != groups.of[*row - 1]).collect();
    ends.extend((batch.num_rows() > 0).then_some(batch.num_rows()));
    let starts = || std::iter::once(0).chain(ends.iter().copied());
    let taken = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let is_own = own.iter().any(|name| name.as_str() == field.name());
        let row = |(start, end): (usize, &usize)| {
            let newest = if is_own { (start..*end).find(|row| column.is_valid(*row)) } else { None };
            newest.unwrap_or(start) as u32
        };
        take(column, &UInt32Array::from_iter_values(starts().zip(&ends).map(row)), None)
    });
    let columns = taken.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    RecordBatch::try_new_with_options(
        batch.schema(),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(ends.len())),
    )
}

/// The times of a batch in nanoseconds.
pub(super) fn times(batch: &RecordBatch) -> Result<ScalarBuffer<i64>, ArrowError> {
    batch
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .map(|column| column.values().clone())
        .ok_or_else(|| ArrowError::SchemaError("a batch without times".to_owned()))
}

pub(super) fn columns(batch: &RecordBatch, names: &[ColumnName]) -> Result<Vec<ArrayRef>, ArrowError> {
    let missing = |name: &ColumnName| ArrowError::SchemaError(format!("a batch without the column \"{name}\""));
    names.iter().map(|name| batch.column_by_name(name.as_str()).cloned().ok_or_else(|| missing(name))).collect()
}

/// A column as part of a key: as SQL groups floats, where -0 is 0.
pub(super) fn as_key(column: &ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<Float64Type>() {
        Some(floats) => Arc::new(floats.unary::<_, Float64Type>(|float| float + 0.0)),
        None => Arc::clone(column),
    }
}

/// The last rows of each series of a sorted batch.
fn ends_of_series(batch: &RecordBatch, tags: &[ColumnName], per_key: usize) -> Result<Vec<u32>, ArrowError> {
    let all = 0..batch.num_rows();
    let series = match tags {
        [] => vec![all],
        tags => partition(&columns(batch, tags)?)?.ranges(),
    };
    let ends = series.into_iter().flat_map(|rows| rows.end.saturating_sub(per_key).max(rows.start)..rows.end);
    Ok(ends.map(|row| row as u32).collect())
}

/// Rows with one key are one group.
struct Groups {
    /// `None` without key columns: all rows are one.
    keys: Option<Rows>,
    /// For each row the number of its group.
    of: Vec<u32>,
}

impl Groups {
    fn new(batch: &RecordBatch, keys: &[ColumnName]) -> Result<Self, ArrowError> {
        if keys.is_empty() {
            return Ok(Self { keys: None, of: vec![0; batch.num_rows()] });
        }
        let columns: Vec<ArrayRef> = columns(batch, keys)?.iter().map(as_key).collect();
        let options = SortOptions { descending: false, nulls_first: false };
        let fields = columns.iter().map(|column| SortField::new_with_options(column.data_type().clone(), options));
        let rows = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut of = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let next = numbers.len() as u32;
            of.push(*numbers.entry(rows.row(row).data()).or_insert(next));
        }
        Ok(Self { keys: Some(rows), of })
    }

    fn compare(&self, a: u32, b: u32) -> std::cmp::Ordering {
        match &self.keys {
            Some(keys) => keys.row(a as usize).cmp(&keys.row(b as usize)),
            None => std::cmp::Ordering::Equal,
        }
    }
}
