//! A stored catalog for people who look into a store: its state, and the objects that it is made of. Reads only.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use uuid::Uuid;

use super::change::CatalogChange;
use super::error::CatalogError;
use super::format::{RecordContent, decode_checkpoint, decode_record, encode_trimmed};
use super::log::Log;
use super::{Catalog, CatalogSettings, CatalogState};
use crate::clock::Clock;
use crate::engine::store::{Store, paths};
use crate::model::Timestamp;

/// Objects that are read at one time.
const FETCHES_MAX: usize = 8;

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

/// What an object of the catalog has to hold.
#[derive(Debug, Clone, Copy)]
enum Content {
    Record(u64),
    Checkpoint(u64),
    Mark,
}

impl Content {
    /// Why the bytes are not that.
    fn fault(self, bytes: &Bytes, catalog: Uuid) -> Option<String> {
        let found = match self {
            Self::Record(number) => decode_record(bytes, number).map(|record| record.catalog),
            Self::Checkpoint(number) => decode_checkpoint(bytes, number).map(|state| state.id()),
            Self::Mark if *bytes == encode_trimmed(catalog) => Ok(catalog),
            Self::Mark => return Some("it is not the mark of this catalog's log".to_owned()),
        };
        match found {
            Ok(found) if found == catalog => None,
            Ok(found) => Some(format!("it belongs to catalog {found}")),
            Err(fault) => Some(fault.to_string()),
        }
    }
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

    /// Reads every object of the catalog in a store, needed or not, and says how many there are. `found` hears of each that is damaged: its path and what is wrong.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer.
    pub async fn verify_objects(
        store: &Store,
        catalog: Uuid,
        clock: Arc<dyn Clock>,
        found: &mut (dyn FnMut(String, String) + Send),
    ) -> Result<usize, CatalogError> {
        let log = Log::new(Arc::clone(store.objects()), clock, CatalogSettings::default());
        let objects = CatalogObjects::list(store).await?;
        let mut paths: Vec<(Path, Content)> = vec![(paths::catalog_trimmed(), Content::Mark)];
        let checkpoints = objects.checkpoints.iter().map(|object| object.sequence);
        paths.extend(checkpoints.map(|number| (paths::catalog_checkpoint(number), Content::Checkpoint(number))));
        let records = objects.records.iter().map(|object| object.sequence);
        paths.extend(records.map(|number| (paths::catalog_record(number), Content::Record(number))));
        let log = &log;
        let mut read = stream::iter(paths)
            .map(|(path, content)| async move {
                let Some(bytes) = log.get(path.clone()).await? else { return Ok::<_, CatalogError>(None) }; // removed meanwhile
                let fault = tokio::task::spawn_blocking(move || content.fault(&bytes, catalog)).await;
                Ok(Some((path, fault.map_err(CatalogError::CutOff)?)))
            })
            .buffer_unordered(FETCHES_MAX)
            .boxed();
        let mut count = 0;
        while let Some(object) = read.try_next().await? {
            let Some((path, fault)) = object else { continue };
            count += 1;
            if let Some(fault) = fault {
                found(path.to_string(), fault);
            }
        }
        Ok(count)
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
