//! One unsorted batch becomes a sorted run that is unique in its key.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::assemble::{Assembly, Candidate};
use super::conform;
use super::stretches::{SeriesKeys, stretch_starts, times};
use crate::model::TableSchema;

/// Sorts one run by key and merges the rows of one key: the later row wins, field by field, and a null never wins.
///
/// The result has the columns of `schema.arrow()`; columns that `batch` lacks are null. Costs one pass
/// per tag to number the series, a sort of the distinct series, a stable counting sort of the rows,
/// and a sort by time only in series whose rows are not in time order already.
///
/// # Errors
/// If a column of `batch` has another type than in `schema`.
pub fn sort_run(schema: &TableSchema, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let batch = conform(batch, schema.arrow())?;
    let rows = batch.num_rows();
    if rows < 2 {
        return Ok(batch);
    }
    let mut keys = SeriesKeys::new(schema)?;
    let tags = keys.tag_columns(&batch)?;
    let times = times(&batch)?;

    let ranks = series_ranks(&mut keys, &tags, rows)?;
    let order = order_by_rank_and_time(&ranks, &times);

    let same_point = |a: u32, b: u32| ranks[a as usize] == ranks[b as usize] && times[a as usize] == times[b as usize];
    if order.windows(2).any(|pair| same_point(pair[0], pair[1])) {
        return merge_equal_points(schema, batch.clone(), &order, same_point);
    }
    if order.windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(batch); // it was sorted already
    }
    take_record_batch(&batch, &UInt32Array::from(order))
}

/// For each row the place of its series among all series of the batch.
fn series_ranks(keys: &mut SeriesKeys, tags: &[ArrayRef], rows: usize) -> Result<Vec<u32>, ArrowError> {
    let (mut ranks, first_rows) = number_series(tags, rows);
    let Some(series) = keys.keys_at(tags, &UInt32Array::from(first_rows))? else {
        return Ok(ranks); // no tags: one series
    };
    let mut by_key: Vec<u32> = (0..series.num_rows() as u32).collect();
    by_key.sort_unstable_by_key(|number| series.row(*number as usize));
    let mut rank_of = vec![0; by_key.len()];
    let mut rank = 0;
    for (place, number) in by_key.iter().enumerate() {
        // A dictionary may hold one text twice: then two numbers are one series.
        if place > 0 && series.row(by_key[place - 1] as usize) != series.row(*number as usize) {
            rank += 1;
        }
        rank_of[*number as usize] = rank;
    }
    for number in &mut ranks {
        *number = rank_of[*number as usize];
    }
    Ok(ranks)
}

/// Numbers the distinct combinations of codes in the order in which they appear; also the first row of each.
fn number_series(tags: &[ArrayRef], rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut numbers = vec![0; rows];
    let mut first_rows: Vec<u32> = Vec::new();
    let columns: Vec<TagCodes> = tags.iter().map(TagCodes::of).collect();
    // The codes of each series side by side, so that a row is compared with one place in memory.
    let (mut known, mut codes): (Vec<i32>, Vec<i32>) = (Vec::new(), vec![0; columns.len()]);
    let mut seen: HashTable<(u64, u32)> = HashTable::new();
    let hasher = DefaultHashBuilder::default();
    let starts = stretch_starts(tags, rows);
    for (index, start) in starts.iter().enumerate() {
        let row = *start as usize;
        let end = starts.get(index + 1).map_or(rows, |next| *next as usize);
        let mut mixed = 0_u64;
        for (code, column) in codes.iter_mut().zip(&columns) {
            *code = column.at(row);
            mixed = (mixed.rotate_left(5) ^ u64::from(code.cast_unsigned())).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        let hash = hasher.hash_one(mixed);
        let same = |(other, number): &(u64, u32)| {
            *other == hash && known[*number as usize * codes.len()..][..codes.len()] == *codes
        };
        let number = match seen.find(hash, same) {
            Some((_, number)) => *number,
            None => {
                let number = first_rows.len() as u32;
                first_rows.push(*start);
                known.extend_from_slice(&codes);
                seen.insert_unique(hash, (hash, number), |(hash, _)| *hash);
                number
            }
        };
        numbers[row..end].fill(number);
    }
    (numbers, first_rows)
}

/// The codes of one tag, taken out of its array once: to ask the array for each row takes longer than all else.
struct TagCodes<'a> {
    codes: &'a [i32],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> TagCodes<'a> {
    fn of(column: &'a ArrayRef) -> Self {
        let codes = column.as_dictionary::<Int32Type>().keys();
        Self { codes: codes.values(), nulls: codes.nulls() }
    }

    /// -1, which is no code, where the row lacks the tag.
    fn at(&self, row: usize) -> i32 {
        match self.nulls {
            Some(nulls) if nulls.is_null(row) => -1,
            _ => self.codes[row],
        }
    }
}

/// The rows by (rank, time, place in the batch).
fn order_by_rank_and_time(ranks: &[u32], times: &[i64]) -> Vec<u32> {
    let series = ranks.iter().max().map_or(0, |max| *max as usize + 1);
    let mut ends = vec![0_u32; series + 1];
    for rank in ranks {
        ends[*rank as usize + 1] += 1;
    }
    for rank in 0..series {
        ends[rank + 1] += ends[rank];
    }
    let bounds = ends.clone();
    let mut order = vec![0_u32; ranks.len()];
    for (row, rank) in ranks.iter().enumerate() {
        let slot = &mut ends[*rank as usize];
        order[*slot as usize] = row as u32;
        *slot += 1;
    }
    for rank in 0..series {
        let rows = &mut order[bounds[rank] as usize..bounds[rank + 1] as usize];
        if !rows.is_sorted_by_key(|row| times[*row as usize]) {
            rows.sort_by_key(|row| times[*row as usize]); // stable: the order of the writes stays
        }
    }
    order
}

fn merge_equal_points(
    schema: &TableSchema,
    batch: RecordBatch,
    order: &[u32],
    same_point: impl Fn(u32, u32) -> bool,
) -> Result<RecordBatch, ArrowError> {
    let mut assembly = Assembly::new(schema, batch.schema());
    let source = assembly.add_source(batch);
    for writes in order.chunk_by(|a, b| same_point(*a, *b)) {
        let candidates: Vec<Candidate> = writes.iter().map(|row| Candidate { source, row: *row }).collect();
        assembly.push_merged(&candidates);
    }
    assembly.flush()
}
