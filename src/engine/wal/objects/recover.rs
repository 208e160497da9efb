//! The start: earlier epochs are ended, then what they hold is read back.
//!
//! Ending comes first, so that nothing can be added to what is read. An epoch is ended at its first free index after all that
//! is known to be stored; what lies beyond was never acknowledged, and may be taken or left. There may be several ends: the
//! first one counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
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
const AHEAD_MIN: u64 = 64;
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
    let mut recovery = Recovery { log, listed: list(log).await?, needed_from: Place::BEGINNING };
    recovery.look_for_needed().await?;
    for &epoch in log.unfinished.iter().filter(|epoch| **epoch < log.epoch) {
        let end = recovery.end(epoch, clock).await?;
        recovery.look_before(end).await?;
    }
    let superfluous = recovery.superfluous().await?;
    let mut recovered = Recovered { stored: VecDeque::new(), superfluous, next: Sequence::ZERO };
    for (&epoch, indexes) in &recovery.listed {
        recovery.replay(epoch, indexes, &mut recovered, apply).await?;
    }
    Ok(recovered)
}

async fn list(log: &ObjectLog) -> Result<Listed, WalError> {
    let directory = paths::log_objects();
    let objects = log.store.objects().list(Some(&directory)).map_ok(|object| object.location);
    let found: Vec<_> = objects.try_collect().await.map_err(|source| failed("list", &directory, source))?;
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

/// How much of an epoch is known to be stored.
enum Confirmed {
    /// Everything up to this end.
    End(u64),
    /// Every object below this index.
    Below(u64),
}

struct Recovery<'a> {
    log: &'a ObjectLog,
    listed: Listed,
    /// Nothing before is needed any more.
    needed_from: Place,
}

impl Recovery<'_> {
    /// What is needed is said best by the newest object.
    async fn look_for_needed(&mut self) -> Result<(), WalError> {
        let newest = self.listed.iter().next_back().and_then(|(&epoch, indexes)| {
            let index = *indexes.last()?;
            Some(Place { epoch, index })
        });
        if let Some(newest) = newest
            && let Some(header) = self.header(newest).await?
        {
            self.needed_from = header.needed_from;
        }
        Ok(())
    }

    /// Whoever had the epoch may have let go of objects until it ended; its last word is in the newest object before the end.
    async fn look_before(&mut self, end: Place) -> Result<(), WalError> {
        for index in (1..=end.index).rev() {
            let Some(header) = self.header(Place { epoch: end.epoch, index }).await? else { return Ok(()) };
            self.needed_from = self.needed_from.max(header.needed_from);
            if header.kind == Kind::Writes {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts the end of an epoch, unless somebody else has. Returns the place of an end.
    async fn end(&mut self, epoch: u64, clock: &dyn Clock) -> Result<Place, WalError> {
        let mut free = match self.confirmed(epoch).await? {
            Confirmed::End(index) => return Ok(Place { epoch, index }),
            Confirmed::Below(index) => index,
        };
        let mut ahead = AHEAD_MIN;
        loop {
            let indexes = self.listed.entry(epoch).or_default();
            while indexes.contains(&free) {
                free += 1;
            }
            match self.try_end(Place { epoch, index: free }, free, clock).await? {
                Put::Ours => {
                    steps::reached(Step::LogEnded);
                    tracing::info!(epoch, index = free, "ended the write-ahead log of an earlier start");
                    return Ok(Place { epoch, index: free });
                }
                Put::Taken if self.is_end(Place { epoch, index: free }).await? => {
                    return Ok(Place { epoch, index: free });
                }
                Put::Taken => free += 1,
            }
            // Whoever has the epoch still writes, perhaps faster than this: an end further on stops it there at the latest.
            let further = Place { epoch, index: free.saturating_add(ahead) };
            self.try_end(further, free, clock).await?;
            ahead = ahead.saturating_mul(AHEAD_FACTOR);
            let now = list(self.log).await?.remove(&epoch).unwrap_or_default();
            self.listed.entry(epoch).or_default().extend(now);
        }
    }

    /// What is stored of an epoch for certain. Whoever made the newest object knew best.
    async fn confirmed(&self, epoch: u64) -> Result<Confirmed, WalError> {
        let Some(&index) = self.listed.get(&epoch).and_then(BTreeSet::last) else { return Ok(Confirmed::Below(1)) };
        let header = self.header(Place { epoch, index }).await?;
        Ok(match header {
            None => Confirmed::Below(1),
            Some(header) if header.kind == Kind::End && header.confirmed == index => Confirmed::End(index),
            Some(header) => Confirmed::Below(header.confirmed),
        })
    }

    /// Puts an end, if its place is free; all objects below `confirmed` are stored.
    async fn try_end(&mut self, place: Place, confirmed: u64, clock: &dyn Clock) -> Result<Put, WalError> {
        let nonce = clock.unique_id();
        let end = Header { confirmed, ..Header::end(self.log.catalog, nonce, place, self.needed_from) }.encode();
        let put = put_new(&self.log.store, &place.path(), PutPayload::from_bytes(end.clone()), &end).await;
        let put = put.map_err(|source| failed("store", &place.path(), source))?;
        self.listed.entry(place.epoch).or_default().insert(place.index);
        Ok(put)
    }

    async fn is_end(&self, place: Place) -> Result<bool, WalError> {
        Ok(self.header(place).await?.is_some_and(|header| header.kind == Kind::End))
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

fn failed(action: &'static str, path: &object_store::path::Path, source: StoreError) -> WalError {
    WalError::Store { action, path: path.to_string(), source }
}
