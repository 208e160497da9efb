//! The start: earlier epochs are ended, then what they hold is read back.
//!
//! Ending comes first, so that nothing can be added to what is read. An epoch is ended at its first free index after all that
//! is known to be stored; what lies beyond was never acknowledged, and may be taken or left. There may be several ends: the
//! first one counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutPayload};

use super::object::{HEADER_BYTES, Header, Kind, Object, ObjectFault};
use super::{ObjectLog, Place, Put, StoredObject, put_new, remove};
use crate::clock::Clock;
use crate::engine::store::paths;
use crate::engine::wal::record::RecordFault;
use crate::engine::wal::{WalError, WriteRecord};
use crate::error::Result;
use crate::model::Sequence;
use crate::steps::{self, Step};

/// Objects that are fetched ahead of the one that is read.
const FETCHES_MAX: usize = 8;

/// How far ahead of a process that still writes an end is put at first, and how much further each time.
const AHEAD_MIN: u64 = 16;
const AHEAD_FACTOR: u64 = 4;

/// What earlier epochs left.
#[derive(Debug)]
pub(in crate::engine::wal) struct Recovered {
    /// Oldest first.
    pub(super) stored: VecDeque<StoredObject>,
    /// Objects that nobody needs any more, but the removal of which did not happen.
    pub(super) superfluous: Vec<Place>,
    /// The sequence after every one that was found.
    pub(in crate::engine::wal) next: Sequence,
}

/// What a listing shows: the indexes of each epoch.
type Listed = BTreeMap<u64, BTreeSet<u64>>;

/// Ends all earlier epochs and hands every record that they hold to `apply`, in order.
///
/// # Errors
/// `Corrupt` if an object is damaged or missing, naming it; `Unavailable` if the store doesn't answer; and those of `apply`.
pub(in crate::engine::wal) async fn recover(
    log: &ObjectLog,
    clock: &dyn Clock,
    apply: &mut (dyn FnMut(Sequence, WriteRecord) -> Result<()> + Send),
) -> Result<Recovered> {
    let mut recovery = Recovery { log, listed: Listed::new(), needed_from: Place::BEGINNING };
    for &epoch in log.unfinished.iter().filter(|epoch| **epoch < log.epoch) {
        recovery.end(epoch, clock).await?;
    }
    // Now nobody can add or let go of anything any more.
    recovery.listed = list(log, &paths::log_objects()).await?;
    recovery.look_for_needed().await?;
    let superfluous = recovery.superfluous().await?;
    let mut recovered = Recovered { stored: VecDeque::new(), superfluous, next: Sequence::ZERO };
    for (&epoch, indexes) in &recovery.listed {
        recovery.replay(epoch, indexes, &mut recovered, apply).await?;
    }
    Ok(recovered)
}

async fn list(log: &ObjectLog, directory: &Path) -> Result<Listed, WalError> {
    let objects = log.store.objects().list(Some(directory)).map_ok(|object| object.location);
    let found: Vec<_> = objects.try_collect().await.map_err(|source| failed("list", directory, source))?;
    let mut listed = Listed::new();
    for path in found {
        let Some((epoch, index)) = paths::log_object_place(&path) else { continue };
        if epoch >= log.epoch {
            return Err(WalError::Ahead { file: path.to_string(), epoch: log.epoch });
        }
        listed.entry(epoch).or_default().insert(index);
    }
    Ok(listed)
}

struct Recovery<'a> {
    log: &'a ObjectLog,
    listed: Listed,
    /// Nothing before is needed any more.
    needed_from: Place,
}

impl Recovery<'_> {
    /// What is needed is said best by whoever wrote last: it is in the newest object with writes, or in the end that a process
    /// put for itself. Ends of successors only repeat what they knew.
    async fn look_for_needed(&mut self) -> Result<(), WalError> {
        for (&epoch, indexes) in self.listed.iter().rev() {
            for &index in indexes.iter().rev() {
                let Some(header) = self.header(Place { epoch, index }).await? else { continue };
                self.needed_from = self.needed_from.max(header.needed_from);
                if header.kind == Kind::Writes || header.is_own_end() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Ends an epoch, unless somebody else has.
    ///
    /// An end counts only if whoever has the epoch was not past it already: an object that is needed no more is removed, and
    /// its name is free again. So the epoch is looked at anew after each end that is put.
    async fn end(&mut self, epoch: u64, clock: &dyn Clock) -> Result<(), WalError> {
        let mut ahead = AHEAD_MIN;
        loop {
            let directory = paths::log_epoch(epoch);
            let indexes = list(self.log, &directory).await?.remove(&epoch).unwrap_or_default();
            let Some(confirmed) = self.confirmed(epoch, &indexes).await? else { continue };
            let Some(free) = self.first_free(epoch, &indexes, confirmed).await? else { return Ok(()) };
            match self.try_end(Place { epoch, index: free }, confirmed, clock).await? {
                Put::Ours => {
                    steps::reached(Step::LogEnded);
                    tracing::info!(epoch, index = free, "ended the write-ahead log of an earlier start");
                }
                Put::Taken => {
                    // Whoever has the epoch still writes, perhaps faster than this: an end further on stops it there at the latest.
                    let further = Place { epoch, index: free.saturating_add(ahead) };
                    self.try_end(further, confirmed, clock).await?;
                    ahead = ahead.saturating_mul(AHEAD_FACTOR);
                }
            }
        }
    }

    /// Every object of the epoch below this index was stored once: what the newest objects say. `None` if one of them is gone by now.
    async fn confirmed(&self, epoch: u64, indexes: &BTreeSet<u64>) -> Result<Option<u64>, WalError> {
        let mut confirmed = 1;
        for &index in indexes.iter().rev() {
            let Some(header) = self.header(Place { epoch, index }).await? else { return Ok(None) };
            confirmed = confirmed.max(header.confirmed);
            if header.kind == Kind::Writes || header.is_own_end() {
                break;
            }
        }
        Ok(Some(confirmed))
    }

    /// Where the next object of the epoch would go; `None` if there is an end.
    async fn first_free(&self, epoch: u64, indexes: &BTreeSet<u64>, confirmed: u64) -> Result<Option<u64>, WalError> {
        let mut free = confirmed;
        while indexes.contains(&free) {
            let header = self.header(Place { epoch, index: free }).await?;
            if header.is_some_and(|header| header.kind == Kind::End) {
                return Ok(None);
            }
            free += 1;
        }
        Ok(Some(free))
    }

    /// Puts an end, if its place is free; all objects below `confirmed` are stored.
    async fn try_end(&self, place: Place, confirmed: u64, clock: &dyn Clock) -> Result<Put, WalError> {
        let end = Header { confirmed, ..Header::end(self.log.catalog, clock.unique_id(), place, self.needed_from) };
        let end = end.encode();
        let put = put_new(&self.log.store, &place.path(), PutPayload::from_bytes(end.clone()), &end).await;
        put.map_err(|source| failed("store", &place.path(), source))
    }

    /// Objects before those that are needed. Ends stay.
    async fn superfluous(&self) -> Result<Vec<Place>, WalError> {
        let mut superfluous = Vec::new();
        for (&epoch, indexes) in self.listed.iter().filter(|(epoch, indexes)| {
            // One that is left alone in an epoch before is its end.
            **epoch == self.needed_from.epoch || (**epoch < self.needed_from.epoch && indexes.len() > 1)
        }) {
            let places = indexes.iter().map(|&index| Place { epoch, index });
            for place in places.filter(|place| *place < self.needed_from) {
                if self.header(place).await?.is_some_and(|header| header.kind == Kind::Writes) {
                    superfluous.push(place);
                }
            }
        }
        Ok(superfluous)
    }

    /// Reads one epoch up to its end.
    async fn replay(
        &self,
        epoch: u64,
        indexes: &BTreeSet<u64>,
        recovered: &mut Recovered,
        apply: &mut (dyn FnMut(Sequence, WriteRecord) -> Result<()> + Send),
    ) -> Result<()> {
        let Some(&last) = indexes.last() else { return Ok(()) };
        if epoch < self.needed_from.epoch {
            return Ok(());
        }
        let first = if epoch == self.needed_from.epoch { self.needed_from.index.max(1) } else { 1 };
        // Every one of them, listed or not: what is missing before the end was stored once and is lost.
        let mut objects =
            stream::iter((first..=last).map(|index| self.object(Place { epoch, index }))).buffered(FETCHES_MAX);
        let mut expected = None;
        while let Some(object) = objects.try_next().await? {
            let place = object.header.place;
            if object.header.kind == Kind::End {
                let beyond = indexes.range(place.index + 1..).map(|&index| Place { epoch, index });
                remove(self.log.clone(), beyond.collect()).await;
                return Ok(());
            }
            let at_least = expected.unwrap_or(recovered.next);
            let follows = expected.is_none_or(|expected| object.header.first == expected);
            if object.header.records > 0 && (!follows || object.header.first < at_least) {
                let fault = ObjectFault::Sequence { found: object.header.first, expected: at_least };
                return Err(damaged(place, fault).into());
            }
            let stored = read(&object, recovered, apply)?;
            if object.header.records > 0 {
                expected = Some(recovered.next);
            }
            recovered.stored.push_back(stored);
        }
        Err(WalError::Missing { file: Place { epoch, index: last + 1 }.path().to_string() }.into())
    }

    async fn header(&self, place: Place) -> Result<Option<Header>, WalError> {
        fetch_header(self.log, place).await
    }

    async fn object(&self, place: Place) -> Result<Object, WalError> {
        let path = place.path();
        let bytes = match self.log.store.objects().get(&path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => Object::decode(&bytes, self.log.catalog, place).map_err(|fault| damaged(place, fault)),
            Err(StoreError::NotFound { .. }) => Err(WalError::Missing { file: path.to_string() }),
            Err(source) => Err(failed("read", &path, source)),
        }
    }
}

async fn fetch_header(log: &ObjectLog, place: Place) -> Result<Option<Header>, WalError> {
    let path = place.path();
    match log.store.objects().get_range(&path, 0..HEADER_BYTES as u64).await {
        Ok(bytes) => Header::decode(&bytes, log.catalog, place).map(Some).map_err(|fault| damaged(place, fault)),
        Err(StoreError::NotFound { .. }) => Ok(None), // removed meanwhile
        Err(source) => Err(failed("read", &path, source)),
    }
}

fn read(
    object: &Object,
    recovered: &mut Recovered,
    apply: &mut (dyn FnMut(Sequence, WriteRecord) -> Result<()> + Send),
) -> Result<StoredObject> {
    let place = object.header.place;
    let unreadable =
        |source: RecordFault| WalError::Record { file: place.path().to_string(), offset: HEADER_BYTES as u64, source };
    let body: &Bytes = &object.body;
    let mut rest: &[u8] = body;
    let mut sequence = object.header.first;
    let mut tables = HashMap::new();
    for _ in 0..object.header.records {
        let record = WriteRecord::decode(&mut rest).map_err(unreadable)?;
        tables.extend(record.entries.iter().map(|entry| (entry.table, sequence)));
        apply(sequence, record)?;
        sequence = sequence.next();
    }
    if !rest.is_empty() {
        return Err(unreadable(RecordFault::Rest(rest.len())).into());
    }
    recovered.next = recovered.next.max(sequence);
    Ok(StoredObject { place, bytes: object.bytes(), tables })
}

fn damaged(place: Place, fault: ObjectFault) -> WalError {
    WalError::Object { file: place.path().to_string(), fault }
}

fn failed(action: &'static str, path: &Path, source: StoreError) -> WalError {
    WalError::Store { action, path: path.to_string(), source }
}
