//! History in few, large files that don't overlap in time, so that queries over it need no merge.
//!
//! [`policy`] says which files to rewrite, [`rewrite`] does it, and here is the exchange: new files in the store, then one
//! record in the catalog that names them and drops the old ones, then the pointer that queries load. A crash
//! between two steps leaves objects that nothing refers to; the answer to a query is the same before and after each.
//!
//! Not here: when the objects of dropped files go (`garbage`), and rows that were never in a file (`buffer`).

mod policy;
mod rewrite;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::buffer::TableBuffer;
use super::catalog::{Catalog, CatalogChange, CatalogError, TableEntry};
use super::data_files::{DataFiles, NewFile};
use super::layout::file_rows;
use super::store::Store;
use super::store::checked::CheckedFiles;
use super::store::parquet::EncodedFile;
use super::store::recent::RecentSettings;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, FileId, SequenceRange, TableId, Timestamp};
use crate::steps::{self, Step};
use policy::{Candidate, Job, Policy, choose};
use rewrite::{Plan, Reading, rewrite};

/// Memory for the footers of files that are being rewritten.
const METADATA_BYTES_MAX: u64 = 32 << 20;

/// How eagerly files are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Whether it is done at all.
    pub is_on: bool,
    /// Large files are rewritten for a few late rows only when nothing new has come among them for this long.
    pub settle: Duration,
    /// Share of one processor that it may take, in percent.
    pub cpu_percent: u32,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self { is_on: true, settle: Duration::from_secs(1800), cpu_percent: 50 }
    }
}

/// What compaction did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionMetrics {
    /// Compactions that were committed.
    pub compactions: u64,
    /// Compactions that failed; they are tried again.
    pub failures: u64,
    /// Files that were replaced.
    pub files_removed: u64,
    /// Files that took their place.
    pub files_added: u64,
    /// Rows of the files that took their place.
    pub rows_written: u64,
    /// Bytes of the files that were read.
    pub bytes_read: u64,
    /// Bytes of the files that were written.
    pub bytes_written: u64,
}

/// One compaction of the last [`COMPACTIONS_KEPT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// The table.
    pub table: TableId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, and how; `None` while it is running.
    pub ended: Option<(Timestamp, CompactionEnd)>,
    /// Files that are to be replaced.
    pub files_removed: usize,
    /// Their rows.
    pub rows_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
}

/// How a compaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompactionEnd {
    /// The files were replaced.
    Done {
        /// By so many.
        files_added: usize,
        /// With so many rows.
        rows_written: u64,
        /// And so many bytes.
        bytes_written: u64,
    },
    /// It was stopped, or its files were gone; nothing has changed.
    Abandoned,
    /// It failed and is tried again; nothing has changed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Compactions that can be looked back at.
const COMPACTIONS_KEPT: usize = 1000;

/// Rewrites files of one table at a time.
#[derive(Debug)]
pub(super) struct Compactor {
    files: DataFiles,
    catalog: Arc<Catalog>,
    reading: Reading,
    settings: CompactionSettings,
    metrics: Mutex<CompactionMetrics>,
    /// Oldest first; at most the last one is running.
    history: Mutex<VecDeque<Compaction>>,
}

/// What one compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compacted {
    pub(super) files_removed: usize,
    pub(super) files_added: usize,
    pub(super) rows: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
}

impl Compactor {
    /// Must be called on the runtime that shall do the IO.
    pub(super) fn new(
        store: Store,
        files: DataFiles,
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
        settings: CompactionSettings,
    ) -> Self {
        // Of its own and without data: what is read once and then dropped must not push out what queries want.
        let sources = CheckedFiles::new(store, METADATA_BYTES_MAX, RecentSettings::NOTHING, Arc::clone(&clock));
        let cpu_percent = settings.cpu_percent;
        let reading = Reading { files: sources, io: Handle::current(), clock, cpu_percent };
        Self { files, catalog, reading, settings, metrics: Mutex::default(), history: Mutex::default() }
    }

    pub(super) fn metrics(&self) -> CompactionMetrics {
        *self.metrics.lock()
    }

    /// The last compactions, oldest first.
    pub(super) fn history(&self) -> Vec<Compaction> {
        self.history.lock().iter().cloned().collect()
    }

    /// Compactions that are running now.
    pub(super) fn running(&self) -> usize {
        self.history.lock().iter().filter(|compaction| compaction.ended.is_none()).count()
    }

    /// Does the next compaction of a table; `None` if there is none to do, or it was stopped. Answers don't change.
    ///
    /// # Errors
    /// `Corrupt` if a file is damaged, `Unavailable` if the store or the catalog doesn't answer. The table is as before.
    pub(super) async fn compact(&self, table: &TableBuffer, stop: &CancellationToken) -> Result<Option<Compacted>> {
        let state = self.catalog.state();
        let Some(entry) = state.table(table.id()) else { return Ok(None) };
        let Some(job) = self.next_job(entry).await? else { return Ok(None) };
        self.begin(entry, &job);
        let done = self.run(table, entry, job, stop).await;
        self.end(&done);
        let mut metrics = self.metrics.lock();
        match &done {
            Ok(Some(done)) => metrics.add(done),
            Ok(None) => {}
            Err(_) => metrics.failures += 1,
        }
        done
    }

    fn begin(&self, entry: &TableEntry, job: &Job) {
        let files = || job.places.iter().map(|place| &entry.files[*place]);
        let mut history = self.history.lock();
        if history.len() == COMPACTIONS_KEPT {
            history.pop_front();
        }
        history.push_back(Compaction {
            table: entry.id,
            started: self.reading.clock.now(),
            ended: None,
            files_removed: job.places.len(),
            rows_read: files().map(|file| file.rows).sum(),
            bytes_read: files().map(|file| file.bytes).sum(),
        });
    }

    fn end(&self, result: &Result<Option<Compacted>>) {
        let end = match result {
            Ok(Some(done)) => CompactionEnd::Done {
                files_added: done.files_added,
                rows_written: done.rows,
                bytes_written: done.bytes_written,
            },
            Ok(None) => CompactionEnd::Abandoned,
            Err(error) => CompactionEnd::Failed { reason: error.report() },
        };
        if let Some(compaction) = self.history.lock().back_mut() {
            compaction.ended = Some((self.reading.clock.now(), end));
        }
    }

    async fn next_job(&self, entry: &Arc<TableEntry>) -> Result<Option<Job>> {
        if entry.files.len() < 2 && entry.deletions.is_empty() {
            return Ok(None);
        }
        let policy = Policy { file_rows: file_rows(&entry.schema), settle: self.settings.settle };
        let (entry, now) = (Arc::clone(entry), self.reading.clock.now());
        let look = move || {
            let candidates = entry.files.iter().enumerate().map(|(place, file)| {
                let has_deleted_rows = entry.deletions.iter().any(|deletion| deletion.applies_to(file));
                Candidate::new(place, file, has_deleted_rows)
            });
            choose(candidates.collect(), now, &policy)
        };
        // A look at a hundred thousand files would be in the way of others.
        let looked = tokio::task::spawn_blocking(look).await;
        looked.map_err(|error| Error::with_source(ErrorKind::Internal, "the choice of a compaction was cut off", error))
    }

    async fn run(
        &self,
        table: &TableBuffer,
        entry: &TableEntry,
        job: Job,
        stop: &CancellationToken,
    ) -> Result<Option<Compacted>> {
        let old: Vec<Arc<DataFile>> = job.places.iter().map(|place| Arc::clone(&entry.files[*place])).collect();
        let plan = Plan {
            schema: Arc::clone(&entry.schema),
            files: old.clone(),
            cuts: job.cuts,
            deletions: Arc::clone(&entry.deletions),
        };
        let new = Arc::new(Mutex::new(Vec::new()));
        let finished = self.rewrite(plan, entry.last_deletion, Arc::clone(&new), stop.child_token()).await;
        let new = std::mem::take(&mut *new.lock());
        if !matches!(finished, Ok(true)) {
            self.files.drop_unused(&new).await;
            return finished.map(|_| None);
        }

        let removed: Vec<FileId> = old.iter().map(|file| file.id).collect();
        let replace = CatalogChange::ReplaceFiles { table: entry.id, removed, added: new.clone() };
        match self.catalog.commit(|_| Ok(vec![replace.clone()])).await {
            Ok(_) => {}
            Err(CatalogError::TableDeleted { .. } | CatalogError::FilesReplaced { .. }) => {
                self.files.drop_unused(&new).await;
                return Ok(None);
            }
            // Where the outcome is unknown the new files may be the table's already.
            Err(error) => {
                self.files.may_be_unused(&new);
                return Err(error.into());
            }
        }
        steps::reached(Step::CompactionCommitted);
        table.follow(&self.catalog);
        Ok(Some(Compacted {
            files_removed: old.len(),
            files_added: new.len(),
            rows: new.iter().map(|file| file.rows).sum(),
            bytes_read: old.iter().map(|file| file.bytes).sum(),
            bytes_written: new.iter().map(|file| file.bytes).sum(),
        }))
    }

    /// Fills `new` with files that are stored and not yet in the catalog; false if it was stopped.
    async fn rewrite(
        &self,
        plan: Plan,
        deletions_applied: u64,
        new: Arc<Mutex<Vec<DataFile>>>,
        stop: CancellationToken,
    ) -> Result<bool> {
        let (reading, files) = (self.reading.clone(), self.files.clone());
        let table = plan.files.first().map(|file| file.table);
        let sequences = plan.files.iter().map(|file| file.sequences).reduce(SequenceRange::union);
        let Some((table, sequences)) = table.zip(sequences) else { return Ok(false) };
        let work = move || {
            let io = reading.io.clone();
            let emit = |file: EncodedFile| {
                let bytes = file.bytes.clone();
                let stored = io.block_on(files.put(table, vec![NewFile { file, sequences, deletions_applied }]))?;
                let Some(stored) = stored else {
                    stop.cancel(); // the table was deleted
                    return Ok(());
                };
                steps::reached(Step::CompactionStored);
                // Before the commit, because all the new files together may be too large to hold until then.
                for file in &stored {
                    io.block_on(files.remember(file, &bytes));
                }
                new.lock().extend(stored);
                Ok(())
            };
            rewrite(&plan, &reading, &stop, emit)
        };
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|error| Error::with_source(ErrorKind::Internal, "a compaction was cut off", error))?
    }
}

impl CompactionMetrics {
    fn add(&mut self, done: &Compacted) {
        self.compactions += 1;
        self.files_removed += done.files_removed as u64;
        self.files_added += done.files_added as u64;
        self.rows_written += done.rows;
        self.bytes_read += done.bytes_read;
        self.bytes_written += done.bytes_written;
    }
}
