//! Before anything is written to the object store: makes sure that no two processes can overwrite each other's objects.
//!
//! A store that puts "only if new" sees to that itself, and is asked to prove it at every start, because buckets move
//! and settings change. For others there is the lock of [`crate::engine::store::single_writer`], if the user says so.

use std::sync::Arc;

use super::ServerSettings;
use super::directory::DataDirectory;
use crate::clock::Clock;
use crate::engine::store::single_writer::{SingleWriter, SingleWriterSettings, Writer};
use crate::engine::store::{Store, Writers, check};
use crate::error::{Error, ErrorKind, Result};

/// The store as it may be written to, and the lock if one is needed.
///
/// # Errors
/// `Unsupported` if the store overwrites what must be new; `Conflict` if another process holds the lock;
/// `Unavailable` if the store doesn't answer.
pub(super) async fn secure(
    store: Store,
    settings: &ServerSettings,
    directory: &DataDirectory,
    clock: &Arc<dyn Clock>,
) -> Result<(Store, Option<SingleWriter>)> {
    match settings.writers {
        Writers::Single => {
            let writer = Writer { node: settings.node_id.clone(), directory: directory.id(clock.as_ref())? };
            let taken = SingleWriter::take(&store, writer, Arc::clone(clock), SingleWriterSettings::default());
            let (lock, store) = taken.await?;
            Ok((store, Some(lock)))
        }
        // What is not shared comes from this program, which keeps the promise; its tests show it.
        Writers::Several if !settings.store.is_shared() => Ok((store, None)),
        Writers::Several => match check::creates_only_if_new(&store, clock.as_ref()).await? {
            true => Ok((store, None)),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "store \"{}\" overwrites objects that must be new, so that two servers would destroy each other's \
                     data: use another store, or, if never more than one server writes to this one, \
                     --object-store-single-writer; `flightline debug object-store-check` shows what the store can do",
                    store.description()
                ),
            )),
        },
    }
}
