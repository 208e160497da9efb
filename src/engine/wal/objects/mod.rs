//! The log as objects in a store, for servers that have no disk to rely on.
//!
//! Writes gather while no object may be begun; each flush puts one object, `wal/{epoch}/{index}`, and every writer is told
//! once it is there. When nothing came for the flush interval a write is put at once; under load there is one object per interval, and several may be on
//! their way at a time.
//!
//! Always true:
//! - objects are only ever created, never overwritten, so that of two processes which want one name exactly one wins;
//! - a write is published and acknowledged only when its object *and all before it* are stored;
//! - whoever takes over puts an object of its own, the *end*, at the first free index of every epoch that might go on;
//!   the process that wants that index next finds it taken and acknowledges nothing more;
//! - an object says which of those before it were stored when it was made, and which are needed no more: so a gap that a crash
//!   left can be told from an object that the store has lost;
//! - what is removed was stated as needed no more by an object that is stored; ends are never removed, because nobody knows for how
//!   long a process may have slept.
//!
//! A put that fails is tried again for as long as the server runs, with the same bytes; who waits for it is told after a while that the
//! outcome is unknown. A lost answer is no failure: an object with our nonce is ours.
//!
//! The store's listings must show every object that was put before; those of all common stores do.
//!
//! Reading order: `object` the bytes, `writer` the flushes, `recover` the start, `verify` the check.

mod object;
mod recover;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use crate::engine::store::{Store, paths};
use crate::model::{Sequence, TableId};
use crate::steps::{self, Step};

pub use object::ObjectFault;
pub(super) use recover::{Recovered, recover};
pub(in crate::engine) use verify::verify_objects;
pub(super) use writer::ObjectWriter;

/// How writes become objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLogSettings {
    /// The least time between the beginnings of two flushes, unless an object is full.
    pub flush_interval: Duration,
    /// Objects on their way at one time. Later ones wait, and so do their writers.
    pub flights_max: usize,
    /// An object that has reached this size takes no further write and is put at once.
    pub object_bytes_max: usize,
    /// Encoded bytes of all writes that wait for the store.
    pub queue_bytes_max: usize,
    /// After how long a writer is told that the outcome is unknown.
    pub patience: Duration,
    /// The first pause after a failed put; it doubles up to 32 times its length.
    pub retry_pause: Duration,
}

impl Default for ObjectLogSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            flush_interval: Duration::from_millis(100),
            flights_max: 8,
            object_bytes_max: 16 * MIB,
            queue_bytes_max: 256 * MIB,
            patience: Duration::from_secs(25),
            retry_pause: Duration::from_millis(100),
        }
    }
}

/// The log of one start of the server.
#[derive(Debug, Clone)]
pub struct ObjectLog {
    /// Where it is.
    pub store: Store,
    /// The catalog that the writes belong to.
    pub catalog: Uuid,
    /// This start; larger than every one before.
    pub epoch: u64,
    /// Earlier epochs to which somebody who still runs might add, oldest first.
    pub unfinished: Vec<u64>,
}

/// Where an object stands in the log. Objects of an epoch count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The start of a server.
    pub epoch: u64,
    /// Which object of that start.
    pub index: u64,
}

impl Place {
    const BEGINNING: Self = Self { epoch: 0, index: 0 };

    fn path(self) -> Path {
        paths::log_object(self.epoch, self.index)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.index, self.epoch)
    }
}

/// An object whose writes are acknowledged.
#[derive(Debug)]
pub(super) struct StoredObject {
    place: Place,
    bytes: u64,
    /// The newest write of each table that has writes here.
    tables: HashMap<TableId, Sequence>,
}

impl StoredObject {
    fn release(&mut self, table: TableId, through: Sequence) {
        if self.tables.get(&table).is_some_and(|&newest| newest <= through) {
            self.tables.remove(&table);
        }
    }
}

/// Tables that were dropped. Ids are never reused; this grows by four bytes for each drop until the restart.
type Forgotten = HashSet<TableId>;

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// The object is there, and it is ours.
    Ours,
    /// Another one has its name.
    Taken,
}

/// Puts an object that must be new; `header` tells it from every other.
///
/// # Errors
/// Whether the object is there, or may yet appear, is unknown. Trying again is safe.
async fn put_new(store: &Store, path: &Path, payload: PutPayload, header: &[u8]) -> Result<Put, StoreError> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let Err(failure) = store.objects().put_opts(path, payload, options).await else { return Ok(Put::Ours) };
    // Also "exists already" proves nothing: clients retry by themselves, and S3 says so too when two puts of one name met and
    // neither is stored.
    match store.objects().get_range(path, 0..header.len() as u64).await {
        Ok(found) if found == header => Ok(Put::Ours),
        Ok(_) => Ok(Put::Taken),
        Err(_) => Err(failure), // the first failure says more than that of the question
    }
}

/// Removes objects that nobody needs. What fails stays until the next start finds it.
async fn remove(log: ObjectLog, places: Vec<Place>) {
    let paths: Vec<Result<Path, StoreError>> = places.into_iter().map(|place| Ok(place.path())).collect();
    let removed = log.store.objects().delete_stream(futures::stream::iter(paths).boxed());
    let failure = removed
        .filter_map(|removed| async move {
            match removed {
                Ok(_) | Err(StoreError::NotFound { .. }) => None,
                Err(error) => Some(Err::<(), _>(error)),
            }
        })
        .try_collect::<Vec<()>>()
        .await;
    steps::reached(Step::LogObjectsRemoved);
    if let Err(error) = failure {
        tracing::warn!(%error, "could not remove objects of the write-ahead log; the next start will");
    }
}
