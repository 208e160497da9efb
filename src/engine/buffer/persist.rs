//! Frozen runs become sorted Parquet; the catalog says so; then the log may forget them.
//!
//! The order is what makes it safe: file in the store, file in the catalog, runs and file exchanged in
//! memory, log released. A crash between two steps leaves either an object that nothing refers to
//! or log records that the catalog knows to be persisted; neither loses nor doubles a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::table::{Frozen, TableBuffer};
use super::tidy::merge_sorted;
use crate::engine::catalog::{Catalog, CatalogChange, CatalogError};
use crate::engine::store::parquet::{EncodedFile, encode, split_by_block, time_block};
use crate::engine::store::{Store, paths};
use crate::engine::wal::Wal;
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::conform;
use crate::model::{DataFile, SequenceRange, TIME_COLUMN, TableId, TableSchema, TimeRange};

/// Rows of one row group: enough to compress and to scan at full speed, few enough to prune by time.
const ROW_GROUP_ROWS: u64 = 128 * 1024;

/// Rows of one file. Small enough to be encoded in memory beside the buffer, large enough that years of data stay few files.
const FILE_ROWS_MAX: u64 = 4_000_000;

/// Blocks that may share a row group: each run in each of them is an input of the merge.
const GROUP_BLOCKS_MAX: usize = 64;

/// Times that are looked at in each run to learn where the bulk of its rows lies.
const SAMPLE_ROWS_PER_RUN: usize = 1000;

/// Rows of the pieces in which runs are merged for encoding.
const MERGE_BATCH_ROWS: usize = 32 * 1024;

/// What persisting needs besides the table.
#[derive(Debug, Clone)]
pub struct Persister {
    /// Where the files go.
    pub store: Store,
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
    /// is safe: nothing refers to the objects of the failed attempt.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog can't be written; the rows are still in memory and in the log.
    pub async fn persist(&self, table: &TableBuffer) -> Result<Option<Persisted>> {
        let Some(frozen) = table.freeze() else { return Ok(None) };
        let through = frozen.through;
        let encoded = tokio::task::spawn_blocking(move || encode_frozen(&frozen)).await.map_err(|error| {
            Error::with_source(ErrorKind::Internal, "encoding of buffered rows was cut off", error)
        })??;
        let Some(files) = self.put_files(table.id(), encoded).await? else { return Ok(None) };

        let persisted = CatalogChange::Persisted { table: table.id(), files: files.clone(), through };
        let (state, done) = match self.catalog.commit(|_| Ok(vec![persisted.clone()])).await {
            Ok(state) => (state, Some(Persisted::of(&files))),
            Err(CatalogError::TableDeleted { .. }) => {
                self.drop_files(&files).await;
                return Ok(None);
            }
            // An earlier attempt, whose answer was lost, did succeed: its files count, these don't.
            Err(CatalogError::AlreadyPersisted { .. }) => {
                self.drop_files(&files).await;
                (self.catalog.state(), Some(Persisted::of(&[])))
            }
            Err(error) => return Err(error.into()),
        };
        let Some(entry) = state.table(table.id()) else { return Ok(None) };
        table.exchange(entry.persisted_through, entry.files.iter().cloned());
        self.wal.release(table.id(), entry.persisted_through);
        Ok(done)
    }

    /// Stores the files; `None` if the table is gone.
    async fn put_files(
        &self,
        table: TableId,
        encoded: Vec<(SequenceRange, EncodedFile)>,
    ) -> Result<Option<Vec<DataFile>>> {
        let mut files = Vec::with_capacity(encoded.len());
        for (sequences, file) in encoded {
            let state = self.catalog.state();
            let Some(entry) = state.table(table) else { return Ok(None) };
            let Some(database) = state.database(entry.database) else { return Ok(None) };
            let id = self.catalog.next_file_id().await?;
            let path = paths::data_file(database.id, &database.name, table, &entry.name, id, file.time.min);
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.objects().put_opts(&path, PutPayload::from_bytes(file.bytes.clone()), options).await {
                // Exists already: numbers are never given out twice, so this is our own put, whose answer was lost.
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => {
                    let message = format!("could not store \"{path}\"");
                    return Err(Error::with_source(ErrorKind::Unavailable, message, error));
                }
            }
            files.push(DataFile {
                id,
                table,
                path: path.to_string(),
                bytes: file.bytes.len() as u64,
                data_bytes: file.data_bytes,
                tail_crc32c: file.tail_crc32c,
                rows: file.rows,
                time: file.time,
                sequences,
                row_groups: file.row_groups,
                columns: file.columns,
            });
        }
        Ok(Some(files))
    }

    /// Removes files that nothing refers to, because their table was deleted while they were written.
    async fn drop_files(&self, files: &[DataFile]) {
        for file in files {
            if let Err(error) = self.store.objects().delete(&file.path.as_str().into()).await {
                tracing::warn!(path = file.path, %error, "could not remove the file of a deleted table");
            }
        }
    }
}

/// Merges frozen runs time block by time block and encodes them, cut into files of at most [`FILE_ROWS_MAX`] rows.
fn encode_frozen(frozen: &Frozen) -> Result<Vec<(SequenceRange, EncodedFile)>> {
    let sequences = frozen.runs.iter().map(|run| run.sequences()).reduce(SequenceRange::union);
    let Some(sequences) = sequences else { return Ok(Vec::new()) };
    let schema = &frozen.schema;
    let mut files = Vec::new();
    let (mut groups, mut rows): (Vec<Vec<RecordBatch>>, u64) = (Vec::new(), 0);
    for pieces in row_groups(frozen)? {
        let block = merge_sorted(schema, schema.arrow(), pieces, MERGE_BATCH_ROWS)?;
        let block_rows: u64 = block.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows > 0 && rows + block_rows > FILE_ROWS_MAX {
            files.push((sequences, encode_file(schema, std::mem::take(&mut groups))?));
            rows = 0;
        }
        rows += block_rows;
        groups.push(block);
    }
    if rows > 0 {
        files.push((sequences, encode_file(schema, groups)?));
    }
    Ok(files)
}

/// Rows that lie in neighbouring time blocks and will be one row group, for each run in a block one sorted batch, oldest
/// run first.
#[derive(Default)]
struct Group {
    pieces: Vec<RecordBatch>,
    rows: u64,
    blocks: usize,
}

/// Cuts the rows into row groups that rise in time and don't overlap.
fn row_groups(frozen: &Frozen) -> Result<Vec<Vec<RecordBatch>>> {
    let mut groups: Vec<Group> = Vec::new();
    for pieces in pieces_by_block(frozen)?.into_values() {
        let rows = pieces.iter().map(|piece| piece.num_rows() as u64).sum::<u64>();
        // Blocks are as long as the bulk of the rows wants them. Where rows are sparse, several make one row group.
        let joins = |group: &&mut Group| group.rows + rows <= ROW_GROUP_ROWS && group.blocks < GROUP_BLOCKS_MAX;
        match groups.last_mut().filter(joins) {
            Some(group) => {
                group.pieces.extend(pieces);
                group.rows += rows;
                group.blocks += 1;
            }
            None => groups.push(Group { pieces, rows, blocks: 1 }),
        }
    }
    Ok(groups.into_iter().map(|group| group.pieces).collect())
}

/// For each time block the rows of every run that has some in it, oldest run first.
fn pieces_by_block(frozen: &Frozen) -> Result<BTreeMap<i64, Vec<RecordBatch>>> {
    let failed = |what: &'static str| move |error| Error::with_source(ErrorKind::Internal, what, error);
    let runs = frozen
        .runs
        .iter()
        .map(|run| conform(run.sorted()?, frozen.schema.arrow()).map_err(failed("buffered rows don't fit their table")))
        .collect::<Result<Vec<_>>>()?;
    let rows = runs.iter().map(|run| run.num_rows() as u64).sum();
    let block = time_block(rows, usual_times(&runs), ROW_GROUP_ROWS);
    let mut blocks: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
    for run in &runs {
        let pieces = split_by_block(run, block).map_err(failed("could not cut rows into time blocks"))?;
        for (number, piece) in pieces {
            blocks.entry(number).or_default().push(piece);
        }
    }
    Ok(blocks)
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

fn encode_file(schema: &TableSchema, groups: Vec<Vec<RecordBatch>>) -> Result<EncodedFile> {
    Ok(encode(schema, groups)?)
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
