//! A stored catalog for people who look into a store: its state, and the objects that it is made of. Reads only.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;

use super::change::CatalogChange;
use super::error::CatalogError;
use super::format::{RecordContent, decode_record};
use super::log::Log;
use super::{Catalog, CatalogSettings, CatalogState};
use crate::clock::Clock;
use crate::engine::store::{Store, paths};
use crate::model::Timestamp;

/// What a catalog is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogObjects {
    /// Its checkpoints, oldest first.
    pub checkpoints: Vec<CatalogObject>,
    /// The records of its log that are still there, oldest first.
    pub records: Vec<CatalogObject>,
}

/// A checkpoint or a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogObject {
    /// The number of the record, or of the record that the checkpoint ends with.
    pub sequence: u64,
    /// Its size.
    pub bytes: u64,
}

/// A record of the log.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// Where it is and how large.
    pub object: CatalogObject,
    /// When it was committed; `None` if it can't be read.
    pub time: Option<Timestamp>,
    /// What it says.
    pub content: LogContent,
}

/// What a record of the log says.
#[derive(Debug, Clone)]
pub enum LogContent {
    /// It is the first one and makes the catalog.
    Genesis,
    /// These changes, together.
    Changes(Vec<CatalogChange>),
    /// It can't be read, for this reason.
    Unreadable(String),
}

impl CatalogObjects {
    /// The objects of the catalog in a store; both lists are empty if there is none.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer.
    pub async fn list(store: &Store) -> Result<Self, CatalogError> {
        Ok(Self {
            checkpoints: list(store, paths::catalog_checkpoints()).await?,
            records: list(store, paths::catalog_log()).await?,
        })
    }
}

impl Catalog {
    /// The newest state of the catalog in a store, without opening it for changes; `None` if there is none.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn read(store: &Store, clock: Arc<dyn Clock>) -> Result<Option<Arc<CatalogState>>, CatalogError> {
        let log = Log::new(Arc::clone(store.objects()), clock, CatalogSettings::default());
        Ok(log.load().await?.map(|loaded| Arc::new(loaded.state)))
    }

    /// The record that an object of the log holds, damaged or not; `None` if it was removed meanwhile.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer.
    pub async fn read_record(
        store: &Store,
        clock: Arc<dyn Clock>,
        object: CatalogObject,
    ) -> Result<Option<LogRecord>, CatalogError> {
        let log = Log::new(Arc::clone(store.objects()), clock, CatalogSettings::default());
        let Some(bytes) = log.get(paths::catalog_record(object.sequence)).await? else { return Ok(None) };
        let (time, content) = match decode_record(&bytes, object.sequence) {
            Ok(record) => (
                Some(record.mark.time),
                match record.content {
                    RecordContent::Genesis { .. } => LogContent::Genesis,
                    RecordContent::Changes(changes) => LogContent::Changes(changes),
                },
            ),
            Err(error) => (None, LogContent::Unreadable(error.to_string())),
        };
        Ok(Some(LogRecord { object, time, content }))
    }
}

async fn list(store: &Store, directory: Path) -> Result<Vec<CatalogObject>, CatalogError> {
    let listed = store.objects().list(Some(&directory)).try_filter_map(|meta| async move {
        let sequence = paths::catalog_sequence(&meta.location);
        Ok(sequence.map(|sequence| CatalogObject { sequence, bytes: meta.size }))
    });
    let mut objects: Vec<CatalogObject> =
        listed.try_collect().await.map_err(|source| CatalogError::Store { action: "list", path: directory, source })?;
    objects.sort_unstable_by_key(|object| object.sequence);
    Ok(objects)
}
