//! The same catalog in another store, which follows this one.
//!
//! Records are copied in their order, byte for byte, each only if its number is free, so that the copy is at every moment the
//! catalog as it was at one of its records. Checkpoints are made of the same states and so have the same bytes.
//!
//! A copy that is so far behind that records it needs were removed, or that files its next states name are gone, does not
//! go through them: one checkpoint brings it to the newest state at once. What is older than that checkpoint goes, so that
//! nobody falls back to a state from which no records lead on.
//!
//! Always true:
//! - the copy's log counts as trimmed from the beginning, so that nobody makes an empty catalog of a copy that has not begun;
//! - a record of another history is never overwritten: whoever finds one stops;
//! - the files that a state names are in the copy's store before the state is. That is for the caller to see to.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::change::CatalogChange;
use super::error::CatalogError;
use super::format::{RecordContent, decode_record, encode_checkpoint, encode_trimmed};
use super::log::{GENESIS, Log};
use super::state::CatalogState;
use super::{CatalogSettings, paths};
use crate::clock::Clock;
use crate::engine::store::Store;
use crate::model::DataFile;
use crate::steps::{self, Step};

/// More records than this at once are not copied one by one: a checkpoint costs less. Two checkpoints' worth, since older ones are
/// removed anyway.
const RECORDS_MAX: u64 = 512;

type Result<T, E = CatalogError> = std::result::Result<T, E>;

/// A catalog's copy in another store.
#[derive(Debug)]
pub struct CatalogCopy {
    origin: Log,
    log: Log,
    store: Store,
    catalog: Uuid,
    /// What the copy is at; `None` before it has begun.
    at: Option<Arc<CatalogState>>,
    /// From this state on a checkpoint is due.
    checkpoint_due: u64,
    checkpoint_records: u64,
}

/// Records that lead the copy on.
#[derive(Debug)]
pub struct CopiedRecords {
    records: Vec<(u64, Bytes)>,
    target: Arc<CatalogState>,
    /// Files that the records add, whether the last state names them or not.
    pub added: Vec<DataFile>,
    /// Paths of files that are gone from the origin.
    pub collected: Vec<String>,
}

impl CatalogCopy {
    /// The copy in `copy` of the catalog in `origin`, which has the identifier `catalog`. A store without one is marked, so that nobody makes an empty catalog there.
    ///
    /// # Errors
    /// `Conflict` if there is another catalog; `Unavailable` if a store doesn't answer.
    pub async fn open(origin: &Store, copy: &Store, catalog: Uuid, clock: &Arc<dyn Clock>) -> Result<Self> {
        let settings = CatalogSettings::default();
        let log = |store: &Store| Log::new(Arc::clone(store.objects()), Arc::clone(clock), settings.clone());
        let (origin, log) = (log(origin), log(copy));
        let loaded = match log.load().await {
            Ok(loaded) => loaded,
            // Not begun, or so damaged that only a new checkpoint helps.
            Err(CatalogError::Missing { .. } | CatalogError::NoCheckpoint { .. }) => None,
            Err(error @ (CatalogError::Damaged { .. } | CatalogError::Contradiction { .. })) => {
                let error = crate::error::Error::from(error).report();
                tracing::warn!(copy = copy.description(), error, "the copy of the catalog is damaged and made anew");
                None
            }
            Err(error) => return Err(error),
        };
        let (at, checkpoint) = match loaded {
            Some(loaded) if loaded.state.id() != catalog => {
                let path = paths::catalog_record(loaded.state.version());
                return Err(CatalogError::OtherCatalog { path, found: loaded.state.id(), expected: catalog });
            }
            Some(loaded) => (Some(Arc::new(loaded.state)), loaded.checkpoint),
            None => (None, 0),
        };
        log.create_or_keep(paths::catalog_trimmed(), encode_trimmed(catalog)).await?;
        let checkpoint_records = settings.checkpoint_records;
        let checkpoint_due = checkpoint + checkpoint_records;
        Ok(Self { origin, log, store: copy.clone(), catalog, at, checkpoint_due, checkpoint_records })
    }

    /// The number of the record that the copy is at; 0 before it has begun.
    pub fn version(&self) -> u64 {
        self.at.as_ref().map_or(0, |state| state.version())
    }

    /// What leads from the copy to `target`, a state of the origin; `None` if only [`CatalogCopy::jump`] does.
    ///
    /// # Errors
    /// `Diverged` if the copy is no earlier state of the origin; `Unavailable` if the origin doesn't answer.
    pub async fn records_to(&self, target: &Arc<CatalogState>) -> Result<Option<CopiedRecords>> {
        let Some(at) = &self.at else { return Ok(None) };
        self.check_history(at, target).await?;
        if target.version() - at.version() > RECORDS_MAX {
            return Ok(None);
        }
        let mut found =
            CopiedRecords { records: Vec::new(), target: Arc::clone(target), added: Vec::new(), collected: Vec::new() };
        for sequence in at.version() + 1..=target.version() {
            let path = paths::catalog_record(sequence);
            let Some(bytes) = self.origin.get(path.clone()).await? else { return Ok(None) };
            let record = decode_record(&bytes, sequence).map_err(|source| CatalogError::Damaged { path, source })?;
            let RecordContent::Changes(changes) = record.content else { continue };
            for change in changes {
                match change {
                    CatalogChange::Persisted { files, .. } => found.added.extend(files),
                    CatalogChange::ReplaceFiles { added, .. } => found.added.extend(added),
                    CatalogChange::CollectGarbage { paths } => found.collected.extend(paths),
                    _ => {}
                }
            }
            found.records.push((sequence, bytes));
        }
        Ok(Some(found))
    }

    /// Puts the records, in order. Each state on the way names only files of the copy before it and added ones.
    ///
    /// # Errors
    /// `Diverged` if another server has written to the copy; `Unavailable` if its store doesn't answer: then the copy may be at
    /// any state on the way, and trying again is safe.
    pub async fn put(&mut self, found: CopiedRecords) -> Result<()> {
        for (sequence, bytes) in found.records {
            self.put_record(sequence, &bytes).await?;
            steps::reached(Step::MirrorRecordStored);
        }
        self.at = Some(Arc::clone(&found.target));
        if found.target.version() >= self.checkpoint_due {
            self.put_checkpoint(&found.target).await?;
            self.log.trim(self.catalog, 0).await?;
        }
        Ok(())
    }

    /// Brings the copy to `target` at once. All files that it names must be there.
    ///
    /// # Errors
    /// As for `put`.
    pub async fn jump(&mut self, target: &Arc<CatalogState>) -> Result<()> {
        if let Some(at) = &self.at {
            self.check_history(at, target).await?;
            self.check_end(at.version(), target).await?;
        }
        self.put_checkpoint(target).await?;
        if let Some(bytes) = self.origin.get(paths::catalog_record(GENESIS)).await? {
            self.put_record(GENESIS, &bytes).await?;
        }
        for sequence in self.log.checkpoints().await?.into_iter().filter(|sequence| *sequence < target.version()) {
            self.log.remove(paths::catalog_checkpoint(sequence)).await?;
        }
        for sequence in self.log.records_after(GENESIS).await? {
            if sequence <= target.version() {
                self.log.remove(paths::catalog_record(sequence)).await?;
            }
        }
        self.at = Some(Arc::clone(target));
        self.checkpoint_due = target.version() + 1; // a second one, in case that one is damaged
        Ok(())
    }

    /// Whether the copy's state is one that the origin was at, as far as the origin still knows.
    async fn check_history(&self, at: &CatalogState, target: &CatalogState) -> Result<()> {
        let path = paths::catalog_record(at.version());
        if at.version() > target.version() {
            return Err(CatalogError::Diverged { path });
        }
        match self.origin.read(at.version()).await? {
            Some(record) if record.mark != at.record() => Err(CatalogError::Diverged { path }),
            _ => Ok(()),
        }
    }

    /// Whether nobody else has put a record after the copy's own.
    async fn check_end(&self, version: u64, target: &CatalogState) -> Result<()> {
        let path = paths::catalog_record(version + 1);
        let Some(found) = self.log.get(path.clone()).await? else { return Ok(()) };
        // Ours, if it was stored and the answer got lost.
        let is_ours = version < target.version() && self.origin.get(path.clone()).await? == Some(found);
        if is_ours { Ok(()) } else { Err(CatalogError::Diverged { path }) }
    }

    async fn put_record(&self, sequence: u64, bytes: &Bytes) -> Result<()> {
        let path = paths::catalog_record(sequence);
        match self.store.create(&path, bytes).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => Err(CatalogError::Diverged { path }),
            Err(source) => Err(CatalogError::Store { action: "store", path, source }),
        }
    }

    /// Stores the checkpoint of a state and reads it back; a damaged one in its place is healed.
    async fn put_checkpoint(&mut self, state: &Arc<CatalogState>) -> Result<()> {
        let encoded = Arc::clone(state);
        let bytes = tokio::task::spawn_blocking(move || encode_checkpoint(&encoded)).await;
        let bytes = bytes.map_err(CatalogError::CutOff)?.map_err(CatalogError::Encode)?;
        let path = paths::catalog_checkpoint(state.version());
        self.log.create_or_keep(path.clone(), bytes.clone()).await?;
        if self.log.get(path.clone()).await?.as_ref() != Some(&bytes) {
            self.log.overwrite(path, bytes).await?;
        }
        steps::reached(Step::MirrorCheckpointStored);
        self.checkpoint_due = state.version() + self.checkpoint_records;
        Ok(())
    }
}
