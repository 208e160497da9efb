//! Which databases, tables, columns and files there are: the one truth of all nodes that share a store.
//!
//! The catalog is a log of records in the object store, `catalog/log/{number}`, each with the changes of one
//! commit, and now and then a checkpoint, which is the state after one of them. A state in memory is what the
//! records say, nothing more; it is published with one atomic pointer swap.
//!
//! A commit: decide on the newest state, try the changes on it, put them as the next record if nobody was faster;
//! if somebody was, read what they wrote and decide anew.
//!
//! Always true:
//! - a commit that returned is durable and in [`Catalog::state`]; its changes are there together or not at all;
//! - a commit that failed with `Unknown` may yet have happened; the next commit finds out and builds on it;
//! - a lost acknowledgement is no conflict: a record that carries our nonce is ours;
//! - once another process has taken the write-ahead log over, no commit of this one succeeds;
//! - opening reads one checkpoint and the records after it, however long the history is.
//!
//! | file | what it does |
//! |---|---|
//! | `change` | every way in which the catalog can change |
//! | `state` | the catalog at one moment, and the pure step to the next; `state/deleted` what can be brought back |
//! | `shared_map` | why a step copies little |
//! | `log` | records and checkpoints as objects |
//! | `format`, `messages`, `file_messages`, `deletion_messages`, `soft_delete_messages`, `log_messages`, `token_messages`, `cache_messages` | their bytes |
//! | `checkpoint`, `checkpoint_files` | those of a checkpoint, which may be large: in parts, files column by column |
//! | `log_owner` | which write-ahead log holds the newest rows |
//! | `inspect` | all that for people who look into a store |
//! | `copy` | the same catalog in another store, kept up with this one |
//! | `image` | a state that leaves its store, and the catalog that is made of it elsewhere |
//!
//! Not here: what is in the files, and the deletion of garbage that [`CatalogState::garbage`] lists.

mod cache_messages;
mod change;
mod checkpoint;
mod checkpoint_files;
mod copy;
mod database_messages;
mod deletion_messages;
mod error;
mod file_messages;
mod format;
mod image;
mod inspect;
mod log;
mod log_messages;
mod log_owner;
mod messages;
mod shared_map;
mod soft_delete_messages;
mod state;
#[cfg(test)]
mod tests;
mod token_messages;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

pub use change::CatalogChange;
pub use copy::{CatalogCopy, CopiedRecords};
pub use error::{CatalogError, ChangeError};
pub use format::FormatError;
pub use image::Founding;
pub use inspect::{CatalogObject, CatalogObjects, LogContent, LogRecord};
pub use log_owner::LogOwner;
pub use state::{
    CatalogState, DatabaseEntry, DeletedDatabase, DeletedTable, GarbageFile, SoftDeletion, TableEntry, TokenEntry,
    TokenHash, is_jump,
};

use self::log::{Appended, Loaded, Log};
use super::store::{Store, paths};
use crate::clock::Clock;
use crate::error::Error;
use crate::model::FileId;
use crate::steps::{self, Step};
use crate::tasks::Tasks;
use format::{Record, RecordContent};

/// How often a commit is decided anew because another node was faster. With two nodes at full speed each loses
/// every second time, so that this many losses in a row don't happen.
const COMMIT_TRIES_MAX: u32 = 50;

/// Records between two checkpoints of a large catalog. Each is a request when it is opened without an orderly stop before, and
/// another one when it is removed.
const CHECKPOINT_RECORDS_MAX: u64 = 4096;

/// With every record, a checkpoint writes so many tables and files again, on average.
const REWRITTEN_PER_RECORD: u64 = 64;

/// How patient the catalog is, and how often it sums up.
#[derive(Debug, Clone)]
pub struct CatalogSettings {
    /// Records between two checkpoints of a small catalog; more of a larger one, up to 4096 where there are 250,000 files.
    pub checkpoint_records: u64,
    /// How often one request to the store is tried, besides what the store's client does by itself.
    pub tries_max: u32,
    /// The first pause between two tries; it doubles up to 32 times its length.
    pub retry_pause: Duration,
    /// How many numbers for files are taken at a time. A restart skips those that are left.
    pub file_ids_per_block: u64,
}

impl Default for CatalogSettings {
    fn default() -> Self {
        Self { checkpoint_records: 256, tries_max: 5, retry_pause: Duration::from_millis(50), file_ids_per_block: 1000 }
    }
}

/// The catalog, open for reading and changing.
#[derive(Debug)]
pub struct Catalog {
    log: Arc<Log>,
    state: ArcSwap<CatalogState>,
    /// Held by a commit from its decision until its state is published.
    committing: Mutex<()>,
    /// Numbers that were reserved and not given out.
    file_ids: Mutex<Range<u64>>,
    checkpoints: Arc<Checkpoints>,
    tasks: Tasks,
    is_closed: AtomicBool,
    /// The epoch in which this process has the write-ahead log; 0 if it doesn't.
    epoch: AtomicU64,
    settings: CatalogSettings,
}

impl Catalog {
    /// Opens the catalog in a store, or makes one in an empty store. Of several nodes that make one, all get the same.
    ///
    /// # Errors
    /// `Corrupt` if an object is damaged or missing, naming it; a damaged checkpoint alone is only logged, and an older one used.
    /// `Unsupported` if an object is from a newer version. `Unavailable` if the store doesn't answer.
    pub async fn open(store: &Store, clock: Arc<dyn Clock>, settings: CatalogSettings) -> Result<Self, CatalogError> {
        let log = Arc::new(Log::new(Arc::clone(store.objects()), clock, settings.clone()));
        let Loaded { state, checkpoint } = load_or_begin(&log).await?;
        tracing::info!(
            store = store.description(),
            catalog = %state.id(),
            version = state.version(),
            checkpoint,
            databases = state.databases().count(),
            tables = state.table_count(),
            "opened the catalog"
        );
        let checkpoints = Checkpoints {
            log: Arc::clone(&log),
            records_min: settings.checkpoint_records,
            last: AtomicU64::new(0),
            next: AtomicU64::new(0),
            writing: Arc::default(),
        };
        checkpoints.exists(checkpoint, &state);
        Ok(Self {
            log,
            state: ArcSwap::from_pointee(state),
            committing: Mutex::default(),
            file_ids: Mutex::new(0..0),
            checkpoints: Arc::new(checkpoints),
            tasks: Tasks::new(),
            is_closed: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            settings,
        })
    }

    /// The state after the last commit of this node, or of another one that this node has heard of.
    pub fn state(&self) -> Arc<CatalogState> {
        self.state.load_full()
    }

    /// Changes the catalog. `decide` says how, given the newest state; it is asked again with a newer state
    /// whenever another node was faster. No changes means that there is nothing to do.
    ///
    /// When this returns, the changes are durable. The state it returns ends with them.
    /// Dropping the future leaves open whether they happen; the next commit finds out.
    ///
    /// # Errors
    /// What `decide` refuses, as it is. `TableDeleted` and the other contradictions between the changes and the state.
    /// `TakenOver` if another process has the write-ahead log now. `Contended` if other nodes were faster too often. `Unknown` if the store fails: the changes may have happened.
    pub async fn commit(
        &self,
        decide: impl Fn(&CatalogState) -> Result<Vec<CatalogChange>, Error>,
    ) -> Result<Arc<CatalogState>, CatalogError> {
        let _alone = self.committing.lock().await;
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(CatalogError::Closed);
        }
        for _ in 0..COMMIT_TRIES_MAX {
            let state = self.state();
            self.check_owner(&state)?;
            let changes = decide(&state)?;
            if changes.is_empty() {
                return Ok(state);
            }
            let mark = self.log.next_mark(state.version());
            let next = state.as_ref().clone().advance(&changes, mark)?;
            let record = Record { catalog: state.id(), mark, content: RecordContent::Changes(changes) };
            match self.log.append(&record).await? {
                Appended::Ours => {
                    steps::reached(Step::CatalogRecordStored);
                    return self.settle(&state, next).await;
                }
                Appended::Taken => {
                    // The other node has its turn first: whatever it does meanwhile is read, and not run into once more.
                    self.log.pause(1).await;
                    self.catch_up(&state).await?;
                }
            }
        }
        Err(CatalogError::Contended { tries: COMMIT_TRIES_MAX })
    }

    /// Makes this process the one that writes, with the write-ahead log `log`. From then on the commits of whoever wrote before
    /// are refused. Returns the state that begins with it.
    ///
    /// # Errors
    /// `OtherLog` if another log may hold rows that are in no file, unless they are to be given up.
    pub async fn take_log(
        &self,
        log: Uuid,
        place: &str,
        gives_up_others: bool,
    ) -> Result<Arc<CatalogState>, CatalogError> {
        let take = |state: &CatalogState| {
            let before = state.log_owner();
            if let Some(other) = before.filter(|owner| owner.log != log && !owner.is_closed && !gives_up_others) {
                return Err(CatalogError::OtherLog { place: other.place.clone() }.into());
            }
            let epoch = before.map_or(0, |owner| owner.epoch).saturating_add(1);
            Ok(vec![CatalogChange::OpenLog { log, epoch, place: place.to_owned() }])
        };
        let state = self.commit(take).await?;
        self.epoch.store(state.log_owner().map_or(0, |owner| owner.epoch), Ordering::SeqCst);
        Ok(state)
    }

    /// The epoch in which this process has the write-ahead log; 0 if it never took it.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Refuses if another process has the write-ahead log, as far as this one has heard.
    ///
    /// # Errors
    /// `TakenOver`.
    pub fn check_owner(&self, state: &CatalogState) -> Result<(), CatalogError> {
        match (self.epoch(), state.log_owner()) {
            (1.., Some(owner)) if owner.epoch > self.epoch() => {
                Err(CatalogError::TakenOver { epoch: owner.epoch, place: owner.place.clone() })
            }
            _ => Ok(()),
        }
    }

    /// While this is held, [`Catalog::state`] stays as it is. Hold it briefly: commits wait.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.committing.lock().await
    }

    /// A number for a new file that no other file will ever have, on any node.
    ///
    /// # Errors
    /// `Unavailable` if a block of numbers has to be reserved and the store doesn't answer.
    pub async fn next_file_id(&self) -> Result<FileId, CatalogError> {
        let mut ids = self.file_ids.lock().await;
        if ids.is_empty() {
            let count = self.settings.file_ids_per_block.max(1);
            let state = self.commit(|_| Ok(vec![CatalogChange::ReserveFileIds { count }])).await?;
            let end = state.next_file_id().get();
            *ids = end - count..end;
        }
        let id = ids.start;
        ids.start += 1;
        Ok(FileId::new(id))
    }

    /// Reads what other nodes have committed.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer; `Corrupt` if a record is damaged.
    pub async fn refresh(&self) -> Result<Arc<CatalogState>, CatalogError> {
        let _alone = self.committing.lock().await;
        self.catch_up(&self.state()).await?;
        Ok(self.state())
    }

    /// Ends background work and makes a checkpoint, so that the next opening is quick. Later commits are refused.
    ///
    /// # Errors
    /// If the checkpoint can't be stored. Nothing is lost by that.
    pub async fn close(&self) -> Result<(), CatalogError> {
        let alone = self.committing.lock().await;
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        drop(alone);
        self.tasks.stop().await;
        let state = self.state();
        if state.version() > self.checkpoints.last.load(Ordering::SeqCst) {
            self.checkpoints.write(&state).await?;
        }
        Ok(())
    }

    /// Publishes the state after our own record, if that record is where it should be.
    async fn settle(&self, before: &CatalogState, after: CatalogState) -> Result<Arc<CatalogState>, CatalogError> {
        let own = after.record();
        if self.log.holds(before.record()).await? {
            self.publish(after);
            return Ok(self.state());
        }
        // This node slept while others went so far ahead that the record before ours was removed. Ours may
        // have been among theirs, or stand alone where nobody will read it.
        let newest = self.reload(before).await?;
        let is_ours = newest.record() == own;
        self.publish(newest);
        if is_ours {
            return Ok(self.state());
        }
        Err(CatalogError::Unknown { path: paths::catalog_record(own.sequence), source: None })
    }

    /// Publishes what others have committed since `known`.
    async fn catch_up(&self, known: &CatalogState) -> Result<(), CatalogError> {
        let newer = self.log.read_on(known.clone()).await?;
        let newer = if self.log.holds(known.record()).await? { newer } else { self.reload(known).await? };
        if newer.version() > known.version() {
            self.publish(newer);
        }
        Ok(())
    }

    /// The newest state, read as if the catalog were opened.
    async fn reload(&self, known: &CatalogState) -> Result<CatalogState, CatalogError> {
        let missing = || CatalogError::Missing { path: paths::catalog_record(1) };
        let Loaded { state, checkpoint } = self.log.load().await?.ok_or_else(missing)?;
        if state.id() != known.id() {
            let path = paths::catalog_record(state.version());
            return Err(CatalogError::OtherCatalog { path, found: state.id(), expected: known.id() });
        }
        self.checkpoints.exists(checkpoint, &state);
        Ok(state)
    }

    fn publish(&self, state: CatalogState) {
        let state = Arc::new(state);
        self.state.store(Arc::clone(&state));
        if state.version() < self.checkpoints.next.load(Ordering::SeqCst) {
            return;
        }
        // One at a time; while one is being written the next one is not due, or will be at the next commit.
        let Ok(alone) = Arc::clone(&self.checkpoints.writing).try_lock_owned() else { return };
        let checkpoints = Arc::clone(&self.checkpoints);
        self.tasks.spawn("catalog checkpoint", |_| async move {
            if let Err(error) = checkpoints.write(&state).await {
                let error = Error::from(error).report();
                tracing::warn!(error, "could not store a catalog checkpoint; trying again after some commits");
                checkpoints.failed(&state);
            }
            drop(alone);
        });
    }
}

/// Writes checkpoints and removes what they make superfluous.
#[derive(Debug)]
struct Checkpoints {
    log: Arc<Log>,
    /// Records between two checkpoints at least.
    records_min: u64,
    /// The record that the newest known checkpoint ends with.
    last: AtomicU64,
    /// The record with which the next one is due.
    next: AtomicU64,
    /// Held while one is written in the background.
    writing: Arc<Mutex<()>>,
}

impl Checkpoints {
    /// There is a checkpoint that ends with this record; `state` is that one or not much later.
    fn exists(&self, version: u64, state: &CatalogState) {
        self.last.fetch_max(version, Ordering::SeqCst);
        self.next.fetch_max(version.saturating_add(self.interval(state)), Ordering::SeqCst);
    }

    /// One could not be stored: a large one must not be tried with every commit.
    fn failed(&self, state: &CatalogState) {
        let pause = 1 + self.interval(state) / 64;
        self.next.fetch_max(state.version().saturating_add(pause), Ordering::SeqCst);
    }

    /// Records until the next checkpoint: the more a checkpoint holds, the rarer it is written.
    fn interval(&self, state: &CatalogState) -> u64 {
        let files: usize = state.kept_tables().map(|table| table.files.len()).sum();
        let held = (files + state.table_count() + state.garbage_count()) as u64;
        records_between(self.records_min, held)
    }

    async fn write(&self, state: &Arc<CatalogState>) -> Result<(), CatalogError> {
        self.log.store_checkpoint(state).await?;
        steps::reached(Step::CatalogCheckpointStored);
        self.exists(state.version(), state);
        tracing::debug!(version = state.version(), "stored a catalog checkpoint");
        if let Err(error) = self.log.trim(state.id(), self.records_min).await {
            let error = Error::from(error).report();
            tracing::warn!(error, "could not remove all superfluous catalog objects; the next checkpoint will");
        }
        Ok(())
    }
}

/// Records between two checkpoints of a catalog that holds so many files, tables and pieces of garbage.
fn records_between(records_min: u64, held: u64) -> u64 {
    records_min.max((held / REWRITTEN_PER_RECORD).min(CHECKPOINT_RECORDS_MAX))
}

async fn load_or_begin(log: &Log) -> Result<Loaded, CatalogError> {
    if let Some(loaded) = log.load().await? {
        return Ok(loaded);
    }
    // Another node may be doing the same: then theirs counts, and it is there to be loaded.
    log.append(&log.genesis()).await?;
    let missing = || CatalogError::Missing { path: paths::catalog_record(1) };
    log.load().await?.ok_or_else(missing)
}
