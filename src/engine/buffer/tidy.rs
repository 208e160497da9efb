//! Small neighbouring runs become one sorted run, so that a query meets few.
//!
//! Size classes are powers of [`RUNS_PER_MERGE`]. As soon as that many runs of one class stand at the new end, with
//! none but smaller ones between and after them, all of these are merged and make a run of the next class. So a row is
//! merged at most five times before its run is large enough to be left alone until it is persisted.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::run::BufferedRun;
use super::table::{TableBuffer, restrict};
use crate::error::{Error, ErrorKind, Result};
use crate::model::TableSchema;
use crate::model::last_write_wins::merge_batches;

/// How many neighbours are merged at once. More means less work for writes and more runs for a query.
const RUNS_PER_MERGE: usize = 16;

/// A run of this many rows is large enough: merging it once more would cost more than it saves a query.
const RUN_ROWS_MAX: usize = 128 * 1024;

/// Merges what is due in one table. Says whether there was anything; then there may be more.
///
/// # Errors
/// `Internal` if rows don't fit their schema.
pub fn tidy_once(table: &TableBuffer) -> Result<bool> {
    let contents = table.contents();
    let Some(due) = choose(contents.open_runs()) else { return Ok(false) };
    let (schema, batch) = merge_runs(&contents.schema, due)?;
    table.replace_runs(due, batch, schema)
}

/// Whether [`tidy_once`] would find something to do.
pub fn is_due(table: &TableBuffer) -> bool {
    choose(table.contents().open_runs()).is_some()
}

/// The newest neighbours that are worth merging. Pure: looks at sizes only.
fn choose(runs: &[Arc<BufferedRun>]) -> Option<&[Arc<BufferedRun>]> {
    let sizes: Vec<usize> = runs.iter().map(|run| run.row_count()).collect();
    choose_by_size(&sizes).map(|range| &runs[range])
}

fn choose_by_size(sizes: &[usize]) -> Option<std::ops::Range<usize>> {
    let mut class_max = RUNS_PER_MERGE;
    while class_max <= RUN_ROWS_MAX * RUNS_PER_MERGE {
        let limit = class_max.min(RUN_ROWS_MAX);
        let at_most_this_class = sizes.iter().rev().take_while(|rows| **rows < limit).count();
        let candidates = sizes.len() - at_most_this_class..sizes.len();
        let of_this_class =
            sizes[candidates.clone()].iter().filter(|rows| **rows >= class_max / RUNS_PER_MERGE).count();
        if of_this_class >= RUNS_PER_MERGE {
            return Some(candidates);
        }
        class_max *= RUNS_PER_MERGE;
    }
    None
}

/// The rows of neighbouring runs, oldest first, as one sorted run with the columns that occur in any of them.
fn merge_runs(table: &TableSchema, runs: &[Arc<BufferedRun>]) -> Result<(TableSchema, RecordBatch)> {
    let names = runs.iter().flat_map(|run| run.schema().arrow().fields().iter().map(|field| field.name().as_str()));
    let schema = restrict(table, names);
    let sorted = runs.iter().map(|run| run.sorted()).collect::<Result<Vec<_>>>()?;
    let failed = |error| Error::with_source(ErrorKind::Internal, "could not merge buffered rows", error);
    let batches = merge_batches(&schema, sorted.into_iter().cloned().collect(), RUN_ROWS_MAX).map_err(failed)?;
    let batch = concat_batches(schema.arrow(), &batches).map_err(failed)?;
    Ok((schema, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_class_are_merged_when_there_are_enough() {
        assert_eq!(choose_by_size(&[1; 15]), None);
        assert_eq!(choose_by_size(&[1; 16]), Some(0..16));
        assert_eq!(choose_by_size(&[16, 1]), None);
        let mut sizes = vec![16; 15];
        sizes.extend([1; 3]);
        assert_eq!(choose_by_size(&sizes), None);
        sizes.insert(0, 16);
        assert_eq!(choose_by_size(&sizes), Some(0..19));
    }

    #[test]
    fn large_runs_are_left_alone() {
        assert_eq!(choose_by_size(&[RUN_ROWS_MAX; 40]), None);
        let mut sizes = vec![RUN_ROWS_MAX; 3];
        sizes.extend([10_000; 16]);
        assert_eq!(choose_by_size(&sizes), Some(3..19));
    }

    #[test]
    fn each_row_is_merged_a_few_times_only() {
        let (mut sizes, mut moved): (Vec<usize>, usize) = (Vec::new(), 0);
        for _ in 0..100_000 {
            sizes.extend([1]);
            while let Some(range) = choose_by_size(&sizes) {
                let rows = sizes[range.clone()].iter().sum();
                moved += rows;
                sizes.splice(range, [rows]);
            }
        }
        assert!(moved <= 5 * 100_000, "{moved}");
        assert!(sizes.len() <= 5 * RUNS_PER_MERGE, "{}", sizes.len());
    }
}
