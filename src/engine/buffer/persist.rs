//! Frozen runs become sorted Parquet; the catalog says so; then the log may forget them.
//!
//! The order is what makes it safe: file in the store, file in the catalog, runs and file exchanged in
//! memory, log released. A crash between two steps leaves either an object that nothing refers to
//! or log records that the catalog knows to be persisted; neither loses nor doubles a row.
//!
//! Just before the exchange the bytes of recent files go into memory, so that even the first query finds them there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use bytes::Bytes;

use super::table::{Frozen, TableBuffer};
use crate::engine::caches;
use crate::engine::catalog::{Catalog, CatalogChange, CatalogError};
use crate::engine::data_files::{DataFiles, NewFile};
use crate::engine::layout::{BlockPlace, FileCutter, block_duration, cut_into_blocks, file_rows, large_rows};
use crate::engine::store::parquet::EncodedFile;
use crate::engine::wal::Wal;
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::conform;
use crate::model::{DataFile, TIME_COLUMN, TimeRange, Timestamp};
use crate::steps::{self, Step};

/// Times that are looked at in each run to learn where the bulk of its rows lies.
const SAMPLE_ROWS_PER_RUN: usize = 1000;

/// What persisting needs besides the table.
#[derive(Debug, Clone)]
pub struct Persister {
    /// Where the files go.
    pub files: DataFiles,
    /// Which is told of them.
    pub catalog: Arc<Catalog>,
    /// Which may then forget their rows.
    pub wal: Arc<Wal>,
}

/// What one persist did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persisted {
    /// Unique rows written.
    pub rows: u64,
    /// Files written.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Persisted {
    fn of(files: &[DataFile]) -> Self {
        Self {
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len(),
            bytes: files.iter().map(|file| file.bytes).sum(),
        }
    }
}

impl Persister {
    /// Persists all that a table has in memory; `None` if that is nothing or the table was deleted meanwhile.
    ///
    /// One call at a time for one table. Rows stay visible throughout. Writing again after a failure
    /// is safe: the objects of the failed attempt are removed once it is certain that nothing refers to them.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog can't be written; the rows are still in memory and in the log.
    pub async fn persist(&self, table: &Arc<TableBuffer>) -> Result<Option<Persisted>> {
        let Some(frozen) = table.freeze() else { return Ok(None) };
        let (through, sequences) = (frozen.through, frozen.sequences());
        let views_of = Arc::clone(table);
        let encode = move || {
            // Once the catalog knows the files, the runs may go at any moment.
            caches::advance(&views_of);
            encode_frozen(&frozen)
        };
        let encoded = tokio::task::spawn_blocking(encode).await.map_err(|error| {
            Error::with_source(ErrorKind::Internal, "encoding of buffered rows was cut off", error)
        })??;
        let bytes: Vec<Bytes> = encoded.iter().map(|file| file.bytes.clone()).collect();
        // Deletions are of rows that were in files before; these rows are not.
        let encoded = encoded.into_iter().map(|file| NewFile { file, sequences, deletions_applied: 0 }).collect();
        let Some(files) = self.files.put(table.id(), encoded).await? else { return Ok(None) };
        steps::reached(Step::PersistStored);

        let persisted = CatalogChange::Persisted { table: table.id(), files: files.clone(), through };
        let done = match self.catalog.commit(|_| Ok(vec![persisted.clone()])).await {
            Ok(_) => {
                for (file, bytes) in files.iter().zip(&bytes) {
                    self.files.remember(file, bytes).await;
                }
                Some(Persisted::of(&files))
            }
            Err(CatalogError::TableDeleted { .. }) => {
                self.files.drop_unused(&files).await;
                return Ok(None);
            }
            // An earlier attempt, whose answer was lost, did succeed: its files count, these don't.
            Err(CatalogError::AlreadyPersisted { .. }) => {
                self.files.drop_unused(&files).await;
                Some(Persisted::of(&[]))
            }
            Err(error) => {
                self.files.may_be_unused(&files);
                return Err(error.into());
            }
        };
        steps::reached(Step::PersistCommitted);
        self.files.remove_unused().await;
        let Some(through) = table.follow(&self.catalog) else { return Ok(None) };
        steps::reached(Step::PersistFollowed);
        self.wal.release(table.id(), through);
        Ok(done)
    }
}

/// Merges frozen runs time block by time block and encodes them.
pub(in crate::engine) fn encode_frozen(frozen: &Frozen) -> Result<Vec<EncodedFile>> {
    let mut cutter = FileCutter::new(&frozen.schema);
    let mut files = Vec::new();
    for (place, pieces) in pieces_by_block(frozen)? {
        files.extend(cutter.push(place.slot, pieces)?);
    }
    files.extend(cutter.finish()?);
    Ok(files)
}

/// For each time block the rows of every run that has some in it, oldest run first.
fn pieces_by_block(frozen: &Frozen) -> Result<BTreeMap<BlockPlace, Vec<RecordBatch>>> {
    let failed = |what: &'static str| move |error| Error::with_source(ErrorKind::Internal, what, error);
    let runs = frozen
        .runs
        .iter()
        .map(|run| conform(run.sorted()?, frozen.schema.arrow()).map_err(failed("buffered rows don't fit their table")))
        .collect::<Result<Vec<_>>>()?;
    let rows = runs.iter().map(|run| run.num_rows() as u64).sum();
    let block = block_duration(&frozen.schema, rows, usual_times(&runs));
    let cut = late_rows_end(frozen, rows);
    let mut blocks: BTreeMap<BlockPlace, Vec<RecordBatch>> = BTreeMap::new();
    for run in &runs {
        let pieces =
            cut_into_blocks(run, cut.as_slice(), block).map_err(failed("could not cut rows into time blocks"))?;
        for (place, piece) in pieces {
            blocks.entry(place).or_default().push(piece);
        }
    }
    Ok(blocks)
}

/// Where the rows that came late end and the new ones begin, if late ones shall have a file of their own: between large
/// files, so that a few late rows don't make them overlap.
fn late_rows_end(frozen: &Frozen, rows: u64) -> Option<Timestamp> {
    let newest = frozen.files.newest()?;
    let is_worth_it = rows.max(newest.rows) >= large_rows(file_rows(&frozen.schema));
    is_worth_it.then(|| newest.time.max.as_nanos().checked_add(1).map(Timestamp::from_nanos)).flatten()
}

/// The times between which all but the first and the last hundredth of the rows lie, judged by a sample: one device whose
/// clock says 1970 must not make the blocks of all others decades long.
fn usual_times(runs: &[RecordBatch]) -> TimeRange {
    let mut sample: Vec<i64> = Vec::new();
    for run in runs {
        let Some(times) =
            run.column_by_name(TIME_COLUMN).and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        else {
            continue;
        };
        let step = run.num_rows().div_ceil(SAMPLE_ROWS_PER_RUN).max(1);
        sample.extend(times.values().iter().step_by(step));
    }
    sample.sort_unstable();
    let odd = sample.len() / 100;
    match (sample.get(odd), sample.get(sample.len().saturating_sub(odd + 1))) {
        (Some(first), Some(last)) => TimeRange::from_nanos(*first, *last),
        _ => TimeRange::ALL,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampNanosecondArray};

    use super::*;

    fn run(times: impl IntoIterator<Item = i64>) -> RecordBatch {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(times));
        RecordBatch::try_from_iter([(TIME_COLUMN, times)]).unwrap()
    }

    #[test]
    fn a_clock_that_was_never_set_does_not_count() {
        let day = 1_704_067_200_000_000_000;
        let range = usual_times(&[run((0..5000).map(|n| day + n)), run([0, i64::MAX])]);
        assert!(range.min.as_nanos() >= day && range.max.as_nanos() < day + 5000, "{range:?}");
    }

    #[test]
    fn few_rows_are_all_usual() {
        assert_eq!(usual_times(&[run([5, 1]), run([9])]), TimeRange::from_nanos(1, 9));
    }
}
