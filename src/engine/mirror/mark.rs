//! The object by which a store says that it is a mirror.
//!
//! It keeps a server from starting on the mirror as if it were the origin, and the origin from mirroring to a store that became
//! something else: its removal is what turns a mirror into a store of its own.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::engine::store::{Store, paths};
use crate::error::{Error, ErrorKind, Result};
use crate::steps::{self, Step};

/// Only this version of the content exists.
const FORMAT: u32 = 1;

/// The content, as JSON so that a person can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    format: u32,
    /// The catalog that is mirrored.
    catalog: String,
    /// The store that it comes from.
    pub(super) origin: String,
    /// When mirroring began.
    since: String,
    /// CRC32C of the other fields, each followed by a line feed.
    checksum: u32,
}

impl Mark {
    fn new(catalog: Uuid, origin: &Store, clock: &dyn Clock) -> Self {
        let (catalog, origin) = (catalog.to_string(), origin.description().to_owned());
        let mark = Self { format: FORMAT, catalog, origin, since: clock.now().to_string(), checksum: 0 };
        Self { checksum: mark.sum(), ..mark }
    }

    fn sum(&self) -> u32 {
        let Self { format, catalog, origin, since, .. } = self;
        crc32c::crc32c(format!("{format}\n{catalog}\n{origin}\n{since}\n").as_bytes())
    }
}

/// The mark of a store; `None` if it is no mirror.
///
/// # Errors
/// `Corrupt` if it can't be read; `Unavailable` if the store doesn't answer.
pub(super) async fn read(store: &Store) -> Result<Option<Mark>> {
    let path = paths::mirror_mark();
    let found = match store.objects().get(&path).await {
        Ok(found) => found.bytes().await,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => Err(error),
    };
    let bytes = found.map_err(|error| failed("read", store, error))?;
    let damaged = || {
        let place = store.description();
        let message =
            format!("\"{path}\" in \"{place}\" is damaged: if that store is no mirror any more, remove the object");
        Error::new(ErrorKind::Corrupt, message)
    };
    let mark: Mark = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if mark.format > FORMAT && mark.checksum == mark.sum() {
        let message = format!("\"{path}\" in \"{}\" was written by a newer version", store.description());
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if mark.checksum != mark.sum() {
        return Err(damaged());
    }
    Ok(Some(mark))
}

/// Makes sure that a store is the mirror of this catalog: an empty one becomes it.
///
/// # Errors
/// `Conflict` if there is anything else in the store; `Unavailable` if it doesn't answer.
pub(super) async fn claim(to: &Store, origin: &Store, catalog: Uuid, clock: &dyn Clock) -> Result<()> {
    if read(to).await?.is_some() {
        return confirm(to, catalog).await;
    }
    if let Some(first) = to.objects().list(None).try_next().await.map_err(|error| failed("list", to, error))? {
        let message = format!(
            "\"{}\" is not empty and no mirror of this store (there is \"{}\"): mirror to an empty place. If a server was \
             started on it with --promote-mirror, it is a store of its own now",
            to.description(),
            first.location
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let mark = serde_json::to_vec_pretty(&Mark::new(catalog, origin, clock))
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not write the mark of a mirror", error))?;
    to.create(&paths::mirror_mark(), &Bytes::from(mark)).await.map_err(|error| failed("store", to, error))?;
    steps::reached(Step::MirrorMarked);
    Ok(())
}

/// Makes sure that a store still is the mirror of this catalog.
///
/// # Errors
/// `Conflict` if it is not, any more; `Unavailable` if it doesn't answer.
pub(super) async fn confirm(to: &Store, catalog: Uuid) -> Result<()> {
    let place = to.description();
    match read(to).await? {
        Some(mark) if mark.catalog == catalog.to_string() => Ok(()),
        Some(mark) => {
            let message = format!("\"{place}\" is the mirror of another store, \"{}\"", mark.origin);
            Err(Error::new(ErrorKind::Conflict, message))
        }
        None => {
            let message =
                format!("\"{place}\" is no mirror any more: a server was started on it with --promote-mirror");
            Err(Error::new(ErrorKind::Conflict, message))
        }
    }
}

/// Makes a store of its own of a mirror.
///
/// # Errors
/// `Unavailable` if the store doesn't answer.
pub(super) async fn remove(store: &Store) -> Result<()> {
    match store.objects().delete(&paths::mirror_mark()).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(failed("remove", store, error)),
    }
}

fn failed(action: &'static str, store: &Store, error: StoreError) -> Error {
    let message = format!("could not {action} \"{}\" in \"{}\"", paths::mirror_mark(), store.description());
    Error::with_source(ErrorKind::Unavailable, message, error)
}
