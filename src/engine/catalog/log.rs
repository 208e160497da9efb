//! The log as objects: how records are put, read back, summed up in checkpoints, and removed.
//!
//! A record's number is decided by the store: every record is put with "create only", so of two writers of one
//! number one wins, and the other reads what the winner wrote. Because an acknowledgement can be lost, the answer
//! "it exists already" says nothing yet: every record carries a nonce, and whoever finds its own has won.
//!
//! Removing old records weakens "create only": a node that slept since before may put a record where one was removed.
//! So the order of removal is fixed, and whoever advances looks back:
//!
//! - first the mark `catalog/trimmed`, then checkpoints but the two newest, then records in rising order, at most up to the
//!   older of these two, and never the first record; what fails ends the removal;
//! - so a checkpoint that exists has all its later records, and a record that exists has all later ones;
//! - so a record that follows another is genuine if that other, known by its nonce, is there *afterwards* ([`Log::holds`]).
//!
//! Not here: who may commit when (see the module above), and what a change means (see `state`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use super::CatalogSettings;
use super::error::CatalogError;
use super::format::{
    FormatError, Record, RecordContent, decode_checkpoint, decode_record, encode_checkpoint, encode_record,
    encode_trimmed,
};
use super::state::{CatalogState, RecordMark, TICKET_KEY_BYTES, TicketKey};
use crate::clock::Clock;
use crate::engine::store::paths;
use crate::steps::{self, Step};

/// The number of the record that begins a log.
pub(super) const GENESIS: u64 = 1;

/// Records that are fetched at a time when a catalog is opened. Hides the latency of a store over the network;
/// as many as a client opens connections.
const FETCHES_MAX: usize = 64;

/// How often loading begins again because others removed what it was reading, or a listing was late.
const LOAD_ROUNDS_MAX: u32 = 4;

/// How many checkpoints are kept: one in use, one in case that one is damaged.
const CHECKPOINTS_KEPT: usize = 2;

/// A pause between tries doubles at most this often.
const PAUSE_DOUBLINGS_MAX: u32 = 5;

type Result<T, E = CatalogError> = std::result::Result<T, E>;

/// The objects of one catalog.
#[derive(Debug)]
pub(super) struct Log {
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    settings: CatalogSettings,
}

/// Who has the number that a record was put under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// The record.
    Ours,
    /// Another one.
    Taken,
}

/// A catalog as it was found.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: CatalogState,
    /// The record that the checkpoint ended with from which it was loaded; 0 without one.
    pub(super) checkpoint: u64,
}

/// One try to load.
enum Attempt {
    Loaded(Box<Loaded>),
    Empty,
    /// Others removed objects meanwhile, so what was read may be too little.
    Moved,
}

impl Log {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, settings: CatalogSettings) -> Self {
        Self { objects, clock, settings }
    }

    /// The newest state; `None` if the store holds no catalog.
    pub(super) async fn load(&self) -> Result<Option<Loaded>> {
        for round in 1..=LOAD_ROUNDS_MAX {
            let is_last = round == LOAD_ROUNDS_MAX;
            match self.try_load().await {
                Ok(Attempt::Loaded(loaded)) => return Ok(Some(*loaded)),
                Ok(Attempt::Empty) => return Ok(None),
                // A late listing looks like this too.
                Err(CatalogError::Missing { .. } | CatalogError::NoCheckpoint { .. }) | Ok(Attempt::Moved)
                    if !is_last =>
                {
                    self.pause(round).await;
                }
                Ok(Attempt::Moved) => break,
                Err(error) => return Err(error),
            }
        }
        Err(CatalogError::Contended { tries: LOAD_ROUNDS_MAX })
    }

    async fn try_load(&self) -> Result<Attempt> {
        let (base, checkpoint) = match self.newest_checkpoint().await? {
            Some(state) => {
                let version = state.version();
                (state, version)
            }
            None => match self.beginning().await? {
                Some(state) => (state, 0),
                None => return Ok(Attempt::Empty),
            },
        };
        let state = self.read_tail(base).await?;
        let is_complete = match checkpoint {
            0 => !self.is_trimmed().await?,
            sequence => self.confirmed(|| self.get(paths::catalog_checkpoint(sequence))).await?.is_some(),
        };
        Ok(if is_complete { Attempt::Loaded(Box::new(Loaded { state, checkpoint })) } else { Attempt::Moved })
    }

    /// The newest checkpoint that can be read; damaged ones are reported and passed over.
    async fn newest_checkpoint(&self) -> Result<Option<CatalogState>> {
        let mut sequences = self.checkpoints().await?;
        sequences.reverse();
        for sequence in sequences {
            let path = paths::catalog_checkpoint(sequence);
            let Some(bytes) = self.get(path.clone()).await? else { continue }; // removed meanwhile
            // A checkpoint of a large catalog takes long enough to decode to be in the way of others.
            let decoded = tokio::task::spawn_blocking(move || decode_checkpoint(&bytes, sequence));
            match decoded.await.map_err(CatalogError::CutOff)? {
                Ok(state) => return Ok(Some(state)),
                Err(source @ FormatError::Version { .. }) => return Err(CatalogError::TooNew { path, source }),
                Err(error) => tracing::warn!(
                    path = path.as_ref(),
                    %error,
                    "a catalog checkpoint is damaged; an older one is used in its place"
                ),
            }
        }
        Ok(None)
    }

    /// The state after the first record; `None` if nothing of a catalog is there.
    async fn beginning(&self) -> Result<Option<CatalogState>> {
        let path = paths::catalog_record(GENESIS);
        let Some(record) = self.confirmed(|| self.read(GENESIS)).await? else {
            let records = self.records_after(0).await?;
            let checkpoints = self.checkpoints().await?;
            // Never make a new catalog over the remains of another.
            let is_empty = records.is_empty() && checkpoints.is_empty() && !self.is_trimmed().await?;
            return if is_empty { Ok(None) } else { Err(CatalogError::Missing { path }) };
        };
        if self.is_trimmed().await? {
            return Err(CatalogError::NoCheckpoint { path: paths::catalog_checkpoints() });
        }
        let RecordContent::Genesis { ticket_key } = record.content else {
            let source = FormatError::field("ticket_key", "the first record must have it");
            return Err(CatalogError::Damaged { path, source });
        };
        Ok(Some(CatalogState::genesis(record.catalog, ticket_key, record.mark)))
    }

    /// All records after `state`: those that a listing knows at many at a time, then one by one, because listings may be late.
    async fn read_tail(&self, mut state: CatalogState) -> Result<CatalogState> {
        let listed = self.records_after(state.version()).await?.last().copied().unwrap_or(0);
        let mut records = stream::iter(state.version().saturating_add(1)..=listed)
            .map(|sequence| async move {
                let record = self.confirmed(|| self.read(sequence)).await?;
                record.ok_or_else(|| CatalogError::Missing { path: paths::catalog_record(sequence) })
            })
            .buffered(FETCHES_MAX);
        while let Some(record) = records.try_next().await? {
            state = follow(state, record)?;
        }
        while let Some(record) = self.confirmed(|| self.read(state.version().saturating_add(1))).await? {
            state = follow(state, record)?;
        }
        Ok(state)
    }

    /// The state after all records that follow `state`. Only [`Log::holds`] says whether they are genuine.
    pub(super) async fn read_on(&self, mut state: CatalogState) -> Result<CatalogState> {
        while let Some(record) = self.read(state.version().saturating_add(1)).await? {
            state = follow(state, record)?;
        }
        Ok(state)
    }

    /// Whether the record is in the log still, so that what was found or put after it is genuine.
    pub(super) async fn holds(&self, mark: RecordMark) -> Result<bool> {
        if mark.sequence == GENESIS {
            return Ok(!self.is_trimmed().await?); // the first record is never removed and so proves nothing
        }
        let record = self.confirmed(|| self.read(mark.sequence)).await?;
        Ok(record.is_some_and(|record| record.mark.nonce == mark.nonce))
    }

    /// The first record of a new catalog.
    pub(super) fn genesis(&self) -> Record {
        let mut key = [0; TICKET_KEY_BYTES];
        for part in key.chunks_exact_mut(16) {
            part.copy_from_slice(self.clock.unique_id().as_bytes());
        }
        let content = RecordContent::Genesis { ticket_key: TicketKey(key) };
        Record { catalog: self.clock.unique_id(), mark: self.next_mark(0), content }
    }

    /// The mark of a record that would follow the one with the number `version`.
    pub(super) fn next_mark(&self, version: u64) -> RecordMark {
        RecordMark { sequence: version.saturating_add(1), nonce: self.clock.unique_id(), time: self.clock.now() }
    }

    /// Puts a record under its number. When this returns `Ours`, the record is durable.
    ///
    /// # Errors
    /// `Unknown` if the store fails so often that it can't be told whether the record is there or may yet appear.
    pub(super) async fn append(&self, record: &Record) -> Result<Appended> {
        let (path, mark) = (paths::catalog_record(record.mark.sequence), record.mark);
        let payload = PutPayload::from_bytes(encode_record(record));
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.create(&path, payload.clone()).await {
                Ok(()) => return Ok(Appended::Ours),
                Err(source) if is_final(&source) => {
                    return Err(CatalogError::Store { action: "store", path, source });
                }
                Err(source) => source,
            };
            // Whatever the failure says, the object itself tells: it may be ours, with the acknowledgement lost.
            match self.read(mark.sequence).await {
                Ok(Some(found)) if found.mark.nonce == mark.nonce => return Ok(Appended::Ours),
                Ok(Some(_)) => return Ok(Appended::Taken),
                Ok(None) | Err(CatalogError::Store { .. }) => {}
                Err(error) => return Err(error),
            }
            if tries >= self.settings.tries_max {
                return Err(CatalogError::Unknown { path, source: Some(failure) });
            }
            self.pause(tries).await;
        }
    }

    /// Stores the state as a checkpoint. It does no harm if another node did so before.
    pub(super) async fn store_checkpoint(&self, state: &Arc<CatalogState>) -> Result<()> {
        let encoded = Arc::clone(state);
        let bytes = tokio::task::spawn_blocking(move || encode_checkpoint(&encoded)).await;
        let bytes = bytes.map_err(CatalogError::CutOff)?.map_err(CatalogError::Encode)?;
        self.create_or_keep(paths::catalog_checkpoint(state.version()), bytes).await
    }

    /// Removes what the two newest checkpoints make superfluous; see the top for the order. Of the records at least the newest
    /// `records_kept` stay: several nodes may sum up at once, and who lost a race still has to read who won it.
    ///
    /// # Errors
    /// If something could not be removed. The next call removes it.
    pub(super) async fn trim(&self, catalog: Uuid, records_kept: u64) -> Result<()> {
        let checkpoints = self.checkpoints().await?;
        let Some(first_kept) = checkpoints.len().checked_sub(CHECKPOINTS_KEPT) else { return Ok(()) };
        let (superfluous, kept) = checkpoints.split_at(first_kept);
        self.create_or_keep(paths::catalog_trimmed(), encode_trimmed(catalog)).await?;
        steps::reached(Step::CatalogTrimMarked);
        for sequence in superfluous {
            self.remove(paths::catalog_checkpoint(*sequence)).await?;
            steps::reached(Step::CatalogCheckpointRemoved);
        }
        let records = self.records_after(GENESIS).await?;
        let newest = records.last().copied().unwrap_or_default();
        let last_removed = kept[0].min(newest.saturating_sub(records_kept));
        for sequence in records.into_iter().take_while(|sequence| *sequence <= last_removed) {
            self.remove(paths::catalog_record(sequence)).await?;
            steps::reached(Step::CatalogRecordRemoved);
        }
        Ok(())
    }

    async fn is_trimmed(&self) -> Result<bool> {
        Ok(self.confirmed(|| self.get(paths::catalog_trimmed())).await?.is_some())
    }

    pub(super) async fn read(&self, sequence: u64) -> Result<Option<Record>> {
        let path = paths::catalog_record(sequence);
        let Some(bytes) = self.get(path.clone()).await? else { return Ok(None) };
        match decode_record(&bytes, sequence) {
            Ok(record) => Ok(Some(record)),
            Err(source @ FormatError::Version { .. }) => Err(CatalogError::TooNew { path, source }),
            Err(source) => Err(CatalogError::Damaged { path, source }),
        }
    }

    /// Asks again before it believes that an object is missing: a store behind several servers may answer so once.
    async fn confirmed<T, F>(&self, ask: impl Fn() -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        match ask().await? {
            Some(found) => Ok(Some(found)),
            None => ask().await,
        }
    }

    pub(super) async fn get(&self, path: Path) -> Result<Option<Bytes>> {
        let fetch = || async {
            match self.objects.get(&path).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.patiently("read", &path, fetch).await
    }

    pub(super) async fn checkpoints(&self) -> Result<Vec<u64>> {
        self.list(paths::catalog_checkpoints(), paths::catalog_checkpoint(0), 0).await
    }

    pub(super) async fn records_after(&self, sequence: u64) -> Result<Vec<u64>> {
        self.list(paths::catalog_log(), paths::catalog_record(sequence), sequence).await
    }

    /// The numbers in a directory after `after`, which is that of `offset`, rising.
    async fn list(&self, directory: Path, offset: Path, after: u64) -> Result<Vec<u64>> {
        let fetch = || async {
            let listed = self.objects.list_with_offset(Some(&directory), &offset);
            let numbers = listed.try_filter_map(|meta| async move { Ok(paths::catalog_sequence(&meta.location)) });
            numbers.try_collect::<Vec<u64>>().await
        };
        let mut sequences = self.patiently("list", &directory, fetch).await?;
        // Not every store that takes an offset honours it, and what is listed here may be removed.
        sequences.retain(|sequence| *sequence > after);
        sequences.sort_unstable();
        Ok(sequences)
    }

    async fn create(&self, path: &Path, payload: PutPayload) -> Result<(), StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects.put_opts(path, payload, options).await.map(drop)
    }

    /// Stores an object whose content is the same whoever stores it.
    pub(super) async fn create_or_keep(&self, path: Path, bytes: Bytes) -> Result<()> {
        let payload = PutPayload::from_bytes(bytes);
        let store = || async {
            match self.create(&path, payload.clone()).await {
                Err(StoreError::AlreadyExists { .. }) => Ok(()),
                other => other,
            }
        };
        self.patiently("store", &path, store).await
    }

    /// Stores an object in the place of a damaged one.
    pub(super) async fn overwrite(&self, path: Path, bytes: Bytes) -> Result<()> {
        let payload = PutPayload::from_bytes(bytes);
        let store = || async { self.objects.put(&path, payload.clone()).await.map(drop) };
        self.patiently("store", &path, store).await
    }

    pub(super) async fn remove(&self, path: Path) -> Result<()> {
        let delete = || async {
            match self.objects.delete(&path).await {
                Err(StoreError::NotFound { .. }) => Ok(()), // another node trims too
                other => other,
            }
        };
        self.patiently("remove", &path, delete).await
    }

    /// Repeats a request that may be repeated.
    async fn patiently<T, F>(&self, action: &'static str, path: &Path, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(source) if is_final(&source) || tries >= self.settings.tries_max => {
                    return Err(CatalogError::Store { action, path: path.clone(), source });
                }
                Err(_) => self.pause(tries).await,
            }
        }
    }

    /// Waits after the failure with this number, longer each time, and a little differently on each node.
    pub(super) async fn pause(&self, failures: u32) {
        let longest = self.settings.retry_pause * 2u32.pow(failures.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX));
        let [.., random] = *self.clock.unique_id().as_bytes(); // even: from half of it to all of it
        let pause = longest / 2 + longest / 2 * u32::from(random) / u32::from(u8::MAX);
        tokio::time::sleep(pause.max(Duration::from_micros(1))).await;
    }
}

/// The state after one more record.
fn follow(state: CatalogState, record: Record) -> Result<CatalogState> {
    let path = paths::catalog_record(record.mark.sequence);
    if record.catalog != state.id() {
        return Err(CatalogError::OtherCatalog { path, found: record.catalog, expected: state.id() });
    }
    let RecordContent::Changes(changes) = record.content else {
        let source = FormatError::field("ticket_key", "only the first record may have it");
        return Err(CatalogError::Damaged { path, source });
    };
    state.advance(&changes, record.mark).map_err(|source| CatalogError::Contradiction { path, source })
}

/// Whether trying again can't help.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::NotSupported { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::InvalidPath { .. }
    )
}
