//! Encoded rows become objects that the catalog may name. Persist and compaction alike.
//!
//! Always true:
//! - a number is given to one file only, on any node; a path that exists already is taken for ours if it holds our bytes;
//! - an object is durable before the catalog hears of it.
//!
//! Not here: the commit, and objects that no catalog names any more (`garbage`).

use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt};
use parking_lot::Mutex;

use super::catalog::Catalog;
use super::store::checked::CheckedFiles;
use super::store::parquet::EncodedFile;
use super::store::{Store, paths};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, FileId, SequenceRange, TableId};

/// Files that are remembered after failures; of more, those that were not committed are found as orphans.
const LEFT_MAX: usize = 10_000;

/// A file that is to be stored.
#[derive(Debug)]
pub struct NewFile {
    /// Its bytes.
    pub file: EncodedFile,
    /// The writes that its rows come from.
    pub sequences: SequenceRange,
    /// The number of the last deletion whose rows were left out.
    pub deletions_applied: u64,
}

/// Stores data files.
#[derive(Debug, Clone)]
pub struct DataFiles {
    store: Store,
    catalog: Arc<Catalog>,
    memory: CheckedFiles,
    clock: Arc<dyn Clock>,
    /// Files that were stored and perhaps not committed.
    left: Arc<Mutex<Vec<Left>>>,
}

/// A file that was stored before something failed.
#[derive(Debug)]
struct Left {
    id: FileId,
    table: TableId,
    path: String,
    /// A record of the catalog with a larger number says whether it was committed.
    version: u64,
}

impl DataFiles {
    /// Files in `store`, numbered by `catalog`, kept for queries in `memory`.
    pub fn new(store: Store, catalog: Arc<Catalog>, memory: CheckedFiles, clock: Arc<dyn Clock>) -> Self {
        Self { store, catalog, memory, clock, left: Arc::default() }
    }

    /// Stores files of one table; `None` if the table is gone.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog doesn't answer. What was stored by then is removed when they do.
    pub async fn put(&self, table: TableId, encoded: Vec<NewFile>) -> Result<Option<Vec<DataFile>>> {
        let mut files = Vec::with_capacity(encoded.len());
        let stored = self.put_all(table, encoded, &mut files).await;
        if stored.is_err() {
            self.may_be_unused(&files);
        }
        Ok(stored?.then_some(files))
    }

    /// Says whether the table is there; `files` are those that are stored.
    async fn put_all(&self, table: TableId, encoded: Vec<NewFile>, files: &mut Vec<DataFile>) -> Result<bool> {
        for NewFile { file, sequences, deletions_applied } in encoded {
            let state = self.catalog.state();
            // Also of a deleted table that can be brought back.
            let Some(entry) = state.kept_table(table) else { return Ok(false) };
            let Some(database) = state.kept_database_name(entry.database) else { return Ok(false) };
            let id = self.catalog.next_file_id().await?;
            let path = paths::data_file(entry.database, database, table, &entry.name, id, file.time.min);
            self.store.create(&path, &file.bytes).await.map_err(|error| {
                Error::with_source(ErrorKind::Unavailable, format!("could not store \"{path}\""), error)
            })?;
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
                deletions_applied,
                created: self.clock.now(),
                row_groups: file.row_groups,
                columns: file.columns.into_iter().collect(),
            });
        }
        Ok(true)
    }

    /// Keeps a file in memory that was just stored, if it is recent. Its rows are safe whether or not this works.
    pub async fn remember(&self, file: &DataFile, bytes: &Bytes) {
        if let Err(error) = self.memory.remember(file, bytes).await {
            tracing::error!(path = file.path, error = error.report(), "could not read back a file just written");
        }
    }

    /// Whether the catalog has taken these files is not known: [`DataFiles::remove_unused`] finds out.
    pub fn may_be_unused(&self, files: &[DataFile]) {
        let version = self.catalog.state().version();
        let left = |file: &DataFile| Left { id: file.id, table: file.table, path: file.path.clone(), version };
        let mut all = self.left.lock();
        let room = LEFT_MAX.saturating_sub(all.len());
        all.extend(files.iter().map(left).take(room));
    }

    /// Removes what earlier failures left, where the catalog says by now that it names none of it. For after a commit.
    pub async fn remove_unused(&self) {
        let state = self.catalog.state();
        let (decided, open): (Vec<Left>, Vec<Left>) =
            std::mem::take(&mut *self.left.lock()).into_iter().partition(|file| file.version < state.version());
        self.left.lock().extend(open);
        for Left { id, table, path, .. } in decided {
            let is_live = state.kept_table(table).is_some_and(|table| table.files.has(id));
            if !is_live && !state.is_garbage(&path) {
                self.remove(&path).await;
            }
        }
    }

    /// Removes files that the catalog did not take. What can't be removed now is found as an orphan later.
    pub async fn drop_unused(&self, files: &[DataFile]) {
        for file in files {
            self.remove(&file.path).await;
        }
    }

    async fn remove(&self, path: &str) {
        match self.store.objects().delete(&path.into()).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(path, %error, "could not remove a file that nothing refers to"),
        }
    }
}
