//! Encoded rows become objects that the catalog may name. Persist and compaction alike.
//!
//! Always true:
//! - a number is given to one file only, on any node; a path that exists already is taken for ours if it holds our bytes;
//! - an object is durable before the catalog hears of it.
//!
//! Not here: the commit, and objects that no catalog names any more (`garbage`).

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;

use super::catalog::Catalog;
use super::store::checked::CheckedFiles;
use super::store::parquet::EncodedFile;
use super::store::{Store, paths};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, SequenceRange, TableId};

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
}

impl DataFiles {
    /// Files in `store`, numbered by `catalog`, kept for queries in `memory`.
    pub fn new(store: Store, catalog: Arc<Catalog>, memory: CheckedFiles, clock: Arc<dyn Clock>) -> Self {
        Self { store, catalog, memory, clock }
    }

    /// Stores files of one table; `None` if the table is gone.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog doesn't answer. What was stored by then is referred to by nothing.
    pub async fn put(&self, table: TableId, encoded: Vec<NewFile>) -> Result<Option<Vec<DataFile>>> {
        let mut files = Vec::with_capacity(encoded.len());
        for NewFile { file, sequences, deletions_applied } in encoded {
            let state = self.catalog.state();
            // Also of a deleted table that can be brought back.
            let Some(entry) = state.kept_table(table) else { return Ok(None) };
            let Some(database) = state.kept_database_name(entry.database) else { return Ok(None) };
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
                columns: file.columns,
            });
        }
        Ok(Some(files))
    }

    /// Keeps a file in memory that was just stored, if it is recent. Its rows are safe whether or not this works.
    pub async fn remember(&self, file: &DataFile, bytes: &Bytes) {
        if let Err(error) = self.memory.remember(file, bytes).await {
            tracing::error!(path = file.path, error = error.report(), "could not read back a file just written");
        }
    }

    /// Removes files that the catalog did not take. What can't be removed now is found as an orphan later.
    pub async fn drop_unused(&self, files: &[DataFile]) {
        for file in files {
            if let Err(error) = self.store.objects().delete(&file.path.as_str().into()).await {
                tracing::warn!(path = file.path, %error, "could not remove a file that nothing refers to");
            }
        }
    }
}
