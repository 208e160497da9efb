//! Blocks of time: how long one lasts, and how sorted rows are cut into them.
//!
//! Durations come from a ladder in which each step is a multiple of the one before, and all blocks
//! start at a multiple of their duration since 1970. So a block of one file lies wholly inside one
//! block of any coarser file, and files of one duration can be merged block by block.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;

use crate::model::{TIME_COLUMN, TimeRange};

const MINUTE_NS: i64 = 60 * 1_000_000_000;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const DAY_NS: i64 = 24 * HOUR_NS;

/// The durations of a block in nanoseconds, shortest first.
const LADDER: [i64; 9] = [
    15 * MINUTE_NS,
    HOUR_NS,
    4 * HOUR_NS,
    DAY_NS,
    8 * DAY_NS,
    64 * DAY_NS,
    512 * DAY_NS,
    4_096 * DAY_NS,
    32_768 * DAY_NS,
];

/// The duration of a block in nanoseconds with which `rows`, spread evenly over `time`, give blocks of about
/// `target_rows` rows: the longest that stays under one and a half of it, and never less than 15 minutes.
///
/// One and a half, because steps are a factor of four and more apart: cutting at the target itself would
/// leave most blocks far below it.
pub fn time_block(rows: u64, time: TimeRange, target_rows: u64) -> i64 {
    let span = (i128::from(time.max.as_nanos()) - i128::from(time.min.as_nanos())).unsigned_abs() + 1;
    let fits = |block: i64| {
        let covered = u128::from(block.unsigned_abs()).min(span);
        let block_rows = u128::from(rows) * covered / span;
        2 * block_rows <= 3 * u128::from(target_rows)
    };
    LADDER.into_iter().rev().find(|block| fits(*block)).unwrap_or(LADDER[0])
}

/// Cuts a batch that is sorted by series key and time into blocks of `block` nanoseconds, rising in time.
///
/// With each batch comes the number of its block, counted from 1970; blocks without rows are left out. Rows keep
/// their order, so each batch is sorted as the whole was.
///
/// # Errors
/// If the batch has no column `time` in nanoseconds, or `block` is not positive.
pub fn split_by_block(batch: &RecordBatch, block: i64) -> Result<Vec<(i64, RecordBatch)>, ArrowError> {
    if block <= 0 {
        return Err(ArrowError::InvalidArgumentError(format!("{block} ns is no duration of a time block")));
    }
    let times = batch
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .ok_or_else(|| ArrowError::SchemaError(format!("rows have no column \"{TIME_COLUMN}\" in nanoseconds")))?;

    let mut stretches = stretches(times.values(), block);
    // Stable: the stretches of one block stay in the order of their series.
    stretches.sort_by_key(|(number, _)| *number);
    stretches.chunk_by(|(a, _), (b, _)| a == b).map(|of_block| Ok((of_block[0].0, gather(batch, of_block)?))).collect()
}

/// Neighbouring rows that lie in one block, with its number.
fn stretches(times: &[i64], block: i64) -> Vec<(i64, Range<usize>)> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < times.len() {
        let number = times[start].div_euclid(block);
        let within = instants(number, block);
        let length = times[start..].iter().take_while(|time| within.contains(&i128::from(**time))).count();
        found.push((number, start..start + length));
        start += length;
    }
    found
}

/// The instants of a block; the outermost blocks reach past what 64 bits can hold.
fn instants(number: i64, block: i64) -> Range<i128> {
    let first = i128::from(number) * i128::from(block);
    first..first + i128::from(block)
}

fn gather(batch: &RecordBatch, stretches: &[(i64, Range<usize>)]) -> Result<RecordBatch, ArrowError> {
    if let [(_, rows)] = stretches {
        return Ok(batch.slice(rows.start, rows.len()));
    }
    let rows = stretches.iter().flat_map(|(_, rows)| rows.start as u64..rows.end as u64);
    take_record_batch(batch, &UInt64Array::from_iter_values(rows))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, TimestampNanosecondArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(times: &[i64]) -> RecordBatch {
        let rows = Int64Array::from_iter_values(0..times.len() as i64);
        RecordBatch::try_from_iter([
            ("row", Arc::new(rows) as ArrayRef),
            (TIME_COLUMN, Arc::new(TimestampNanosecondArray::from(times.to_vec())) as ArrayRef),
        ])
        .unwrap()
    }

    fn split(times: &[i64], block: i64) -> Vec<(i64, Vec<i64>)> {
        split_by_block(&batch(times), block)
            .unwrap()
            .into_iter()
            .map(|(number, batch)| {
                let rows = batch.column_by_name("row").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
                (number, rows.values().to_vec())
            })
            .collect()
    }

    #[test]
    fn each_step_of_the_ladder_is_a_multiple_of_the_one_before() {
        for (shorter, longer) in LADDER.iter().zip(&LADDER[1..]) {
            assert_eq!(longer % shorter, 0);
        }
    }

    #[test]
    fn a_block_holds_about_the_target() {
        let range = TimeRange::from_nanos(0, 200_000 * 1_000_000_000);
        // 36,000 rows an hour: four hours are 144,000, a tenth over the target; a day is far over it.
        assert_eq!(time_block(2_000_000, range, 131_072), 4 * HOUR_NS);
        assert_eq!(time_block(8_000_000, range, 131_072), HOUR_NS);
        assert_eq!(time_block(2_000_000_000, range, 131_072), 15 * MINUTE_NS);
        assert_eq!(time_block(131_072, range, 131_072), 32_768 * DAY_NS);
        assert_eq!(time_block(0, range, 131_072), 32_768 * DAY_NS);
        assert_eq!(time_block(u64::MAX, TimeRange::ALL, 1), 15 * MINUTE_NS);
        assert_eq!(time_block(u64::MAX, TimeRange::ALL, u64::MAX), 32_768 * DAY_NS);
        assert_eq!(time_block(1, TimeRange::from_nanos(5, 5), 1), 32_768 * DAY_NS);
    }

    #[test]
    fn rows_of_a_block_keep_the_order_of_their_series() {
        // Two series, each over three blocks, one of them before 1970.
        let times = [-10, -1, 0, 9, 10, -7, 3, 19];
        assert_eq!(split(&times, 10), [(-1, vec![0, 1, 5]), (0, vec![2, 3, 6]), (1, vec![4, 7])]);
    }

    #[test]
    fn the_first_and_the_last_instant_have_blocks() {
        let day = DAY_NS;
        assert_eq!(
            split(&[i64::MIN, i64::MAX], day),
            [(i64::MIN.div_euclid(day), vec![0]), (i64::MAX.div_euclid(day), vec![1])]
        );
        assert_eq!(
            split(&[i64::MIN, -1, 0, i64::MAX], i64::MAX),
            [(-2, vec![0]), (-1, vec![1]), (0, vec![2]), (1, vec![3])]
        );
        assert!(split_by_block(&batch(&[1]), 0).is_err());
        assert!(split(&[], 1).is_empty());
    }

    proptest! {
        #[test]
        fn every_row_lands_in_its_block_and_no_row_is_lost(times in prop::collection::vec(any::<i64>(), 0..200), block in 1..=i64::MAX) {
            let blocks = split(&times, block);
            prop_assert!(blocks.windows(2).all(|pair| pair[0].0 < pair[1].0));
            for (number, rows) in &blocks {
                prop_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(rows.iter().all(|row| times[*row as usize].div_euclid(block) == *number));
            }
            prop_assert_eq!(blocks.iter().map(|(_, rows)| rows.len()).sum::<usize>(), times.len());
        }
    }
}
