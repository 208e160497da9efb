//! A state that leaves its store, as bytes, and the catalog that is made of it in another, empty store.
//!
//! An image is a checkpoint without secret and garbage. The new catalog has an identifier and a key of its own, so that no
//! write-ahead log of the old one can be replayed onto it and no ticket of the old one opens it. Its log begins as if it had
//! been trimmed:
//!
//! 1. the mark `catalog/trimmed`: from now on whoever opens the store is refused, and no empty catalog is made in it;
//! 2. the first record, and two that change nothing, each with the checkpoint after it: one in use, one in case that one is
//!    damaged.
//!
//! Not here: the files that the state names; they are copied between the two steps.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::error::CatalogError;
use super::format::{FormatError, Record, RecordContent, decode_checkpoint, encode_checkpoint, encode_trimmed};
use super::log::{Appended, Log};
use super::state::{CatalogState, RecordMark, TICKET_KEY_BYTES, TicketKey};
use super::{CatalogSettings, paths};
use crate::clock::Clock;
use crate::engine::store::Store;
use crate::steps::{self, Step};

/// Records of a new log that change nothing, each with its checkpoint.
const CHECKPOINTS: u64 = 2;

impl CatalogState {
    /// The state for another store: without the key of tickets and without garbage.
    #[must_use]
    pub fn image(&self) -> Self {
        self.as_catalog(self.id(), TicketKey([0; TICKET_KEY_BYTES]), self.record())
    }

    /// The bytes of the state, as those of a checkpoint.
    ///
    /// # Errors
    /// If they can't be packed, which is a defect.
    pub fn to_bytes(&self) -> Result<Bytes, FormatError> {
        encode_checkpoint(self)
    }

    /// The state in `bytes`, which must be of this version.
    ///
    /// # Errors
    /// If the bytes are not those of a state, or were damaged.
    pub fn from_bytes(bytes: &Bytes, version: u64) -> Result<Self, FormatError> {
        decode_checkpoint(bytes, version)
    }
}

/// A catalog that is being made of an image in a store that was empty.
#[derive(Debug)]
pub struct Founding {
    log: Log,
    catalog: Uuid,
}

impl Founding {
    /// Marks the store, so that nobody opens it before the catalog is there.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer.
    pub async fn begin(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, CatalogError> {
        let catalog = clock.unique_id();
        let log = Log::new(Arc::clone(store.objects()), clock, CatalogSettings::default());
        log.create_or_keep(paths::catalog_trimmed(), encode_trimmed(catalog)).await?;
        steps::reached(Step::RestoreMarked);
        Ok(Self { log, catalog })
    }

    /// Makes the catalog. Every file that the image names must be in the store. Returns the catalog's identifier.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer; `Conflict` if there is a catalog already.
    pub async fn finish(self, image: &CatalogState) -> Result<Uuid, CatalogError> {
        let Record { mark, content, .. } = self.log.genesis();
        let RecordContent::Genesis { ticket_key } = &content else {
            unreachable!("a genesis record has the key of tickets");
        };
        let key = *ticket_key;
        self.append(mark, content).await?;
        let mut version = mark.sequence;
        for _ in 0..CHECKPOINTS {
            let mark = self.log.next_mark(version);
            self.append(mark, RecordContent::Changes(Vec::new())).await?;
            let state = Arc::new(image.as_catalog(self.catalog, key, mark));
            self.log.store_checkpoint(&state).await?;
            steps::reached(Step::RestoreCheckpointStored);
            version = mark.sequence;
        }
        Ok(self.catalog)
    }

    async fn append(&self, mark: RecordMark, content: RecordContent) -> Result<(), CatalogError> {
        match self.log.append(&Record { catalog: self.catalog, mark, content }).await? {
            Appended::Ours => {
                steps::reached(Step::RestoreRecordStored);
                Ok(())
            }
            Appended::Taken => Err(CatalogError::Contended { tries: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::catalog::{Catalog, CatalogChange};
    use crate::error::{Error, ErrorKind};
    use crate::model::DatabaseName;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }

    async fn open(store: &Store) -> Result<Catalog, CatalogError> {
        Catalog::open(store, clock(), CatalogSettings::default()).await
    }

    async fn create(catalog: &Catalog, name: &str) -> Arc<CatalogState> {
        let name = DatabaseName::new(name).unwrap();
        let create = |state: &CatalogState| {
            Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() }])
        };
        catalog.commit(create).await.unwrap()
    }

    /// The image of a catalog with one database, after a longer history.
    async fn image() -> CatalogState {
        let catalog = open(&Store::in_memory()).await.unwrap();
        for _ in 0..3 {
            catalog.commit(|_| Ok(vec![CatalogChange::ReserveFileIds { count: 5 }])).await.unwrap();
        }
        create(&catalog, "db").await.image()
    }

    async fn founded(image: &CatalogState) -> Store {
        let store = Store::in_memory();
        Founding::begin(&store, clock()).await.unwrap().finish(image).await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_founded_catalog_has_what_the_image_has_and_goes_on_from_there() {
        let image = image().await;
        let bytes = image.to_bytes().unwrap();
        let image = CatalogState::from_bytes(&bytes, image.version()).unwrap();
        assert_eq!(image.ticket_key(), &[0; TICKET_KEY_BYTES], "the secret stays where it was");
        let store = founded(&image).await;
        let catalog = open(&store).await.unwrap();
        let state = catalog.state();
        assert_ne!(state.id(), image.id());
        assert_ne!(state.ticket_key(), image.ticket_key());
        assert_eq!(state.next_file_id(), image.next_file_id());
        assert_eq!(state.databases().collect::<Vec<_>>(), image.databases().collect::<Vec<_>>());
        for n in 0..600 {
            create(&catalog, &format!("db{n}")).await; // past several checkpoints and their trimming
        }
        catalog.close().await.unwrap();
        assert_eq!(open(&store).await.unwrap().state().databases().count(), 601);
    }

    #[tokio::test]
    async fn one_damaged_checkpoint_is_survived_and_two_never_make_an_empty_catalog() {
        let store = founded(&image().await).await;
        for (version, expected) in [(3, Some(1)), (2, None)] {
            let path = paths::catalog_checkpoint(version);
            store.objects().put(&path, "x".into()).await.unwrap();
            match (open(&store).await, expected) {
                (Ok(catalog), Some(databases)) => assert_eq!(catalog.state().databases().count(), databases),
                (Err(error), None) => assert_eq!(Error::from(error).kind(), ErrorKind::Corrupt),
                (opened, _) => panic!("{opened:?}"),
            }
        }
    }

    #[tokio::test]
    async fn nobody_opens_what_is_not_whole() {
        let store = Store::in_memory();
        Founding::begin(&store, clock()).await.unwrap();
        assert_eq!(Error::from(open(&store).await.unwrap_err()).kind(), ErrorKind::Corrupt);
        let store = founded(&image().await).await;
        let again = Founding::begin(&store, clock()).await.unwrap().finish(&image().await).await;
        assert_eq!(Error::from(again.unwrap_err()).kind(), ErrorKind::Conflict);
    }
}
