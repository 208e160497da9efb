//! A place for backups: which there are, what is in them, and what of it nobody needs any more.
//!
//! Always true:
//! - a backup is there if its manifest is, and that is put last, under a name that must be new;
//! - who puts or removes anything holds the lock of the place, so that no file goes that a new backup counts on;
//! - what a crash leaves is named by no manifest and goes with the next deletion.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::manifest::{self, Backup, BackupName};
use crate::clock::Clock;
use crate::engine::catalog::CatalogState;
use crate::engine::store::single_writer::{SingleWriter, SingleWriterSettings, Writer};
use crate::engine::store::{Store, paths};
use crate::engine::verify::{Problem, Verified, verify_files};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use crate::steps::{self, Step};

/// Manifests that are read, or objects that are removed, at one time.
const REQUESTS_AT_ONCE: usize = 16;

/// Where backups are: a directory, or any object store or part of one.
#[derive(Debug, Clone)]
pub struct Location {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    lock: SingleWriterSettings,
}

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one of this name.
    Named(BackupName),
    /// The newest, or the newest whose instant is not after a time.
    Newest {
        /// The time.
        not_after: Option<Timestamp>,
    },
}

/// An entry in the list of backups.
#[derive(Debug)]
pub struct Listed {
    /// The backup's name.
    pub name: BackupName,
    /// The backup; an error of kind `Corrupt` if its manifest is damaged.
    pub backup: Result<Backup>,
}

impl Location {
    /// The place for backups in a store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, lock: SingleWriterSettings::default() }
    }

    /// The same place with other times for its lock.
    #[must_use]
    pub fn with_lock(self, lock: SingleWriterSettings) -> Self {
        Self { lock, ..self }
    }

    /// Where it is, for people.
    pub fn description(&self) -> &str {
        self.store.description()
    }

    /// The backups, oldest first, then the damaged ones.
    ///
    /// # Errors
    /// `Unavailable` if the store doesn't answer.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let objects = self.objects(&paths::backups()).await?;
        let names = objects.iter().filter_map(paths::backup_name).filter_map(|name| BackupName::new(&name).ok());
        let read = names.map(|name| async move {
            match self.manifest(&name).await {
                Ok(backup) => Ok(Some(Listed { name, backup: Ok(backup) })),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None), // removed meanwhile
                Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
                Err(error) => Ok(Some(Listed { name, backup: Err(error) })),
            }
        });
        let read = stream::iter(read).buffer_unordered(REQUESTS_AT_ONCE).boxed();
        let mut listed: Vec<Listed> =
            read.try_filter_map(|listed| std::future::ready(Ok(listed))).try_collect().await?;
        listed.sort_by(|a, b| (a.order(), &a.name).cmp(&(b.order(), &b.name)));
        Ok(listed)
    }

    /// The backup that is meant.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Corrupt` if its manifest is damaged; `Unavailable` if the store doesn't answer.
    pub async fn find(&self, which: &Which) -> Result<Backup> {
        let not_after = match which {
            Which::Named(name) => return self.manifest(name).await,
            Which::Newest { not_after } => *not_after,
        };
        let mut newest = None;
        for listed in self.list().await? {
            match listed.backup {
                Ok(backup) if not_after.is_none_or(|end| backup.instant <= end) => newest = Some(backup),
                Ok(_) => {}
                // It might be the one that is meant, and an older one would be taken for it.
                Err(error) => return Err(error),
            }
        }
        newest.ok_or_else(|| {
            let when = not_after.map(|end| format!(" that is not after {end}")).unwrap_or_default();
            Error::not_found(format!("there is no backup in \"{}\"{when}", self.description()))
        })
    }

    /// Reads every file of a backup and compares it with the backup's catalog. `found` hears of each problem at once.
    ///
    /// # Errors
    /// `Corrupt` if the backup's catalog can't be read; `Unavailable` if the store doesn't answer.
    pub async fn verify(&self, backup: &Backup, found: &mut (dyn FnMut(&Problem) + Send)) -> Result<Verified> {
        let image = self.image(backup).await?;
        verify_files(&self.files(backup.set), &image, Arc::clone(&self.clock), found).await
    }

    /// Takes the lock of the place. The location that comes with it writes only while it is held.
    ///
    /// # Errors
    /// `Conflict` if another process holds it; `Unavailable` if the store doesn't answer.
    pub(super) async fn take(&self, writer: &Writer) -> Result<(SingleWriter, Self)> {
        let taken = SingleWriter::take(&self.store, writer.clone(), Arc::clone(&self.clock), self.lock).await;
        let (lock, store) = taken?;
        Ok((lock, Self { store, ..self.clone() }))
    }

    /// The data files of a set, at the paths that their catalog names.
    pub(super) fn files(&self, set: Uuid) -> Store {
        self.store.below(&paths::backup_files(set))
    }

    /// The catalog of a backup.
    pub(super) async fn image(&self, backup: &Backup) -> Result<CatalogState> {
        let path = paths::backup_catalog(backup.name.as_str(), backup.image);
        let bytes = self.get(&path).await?;
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("\"{path}\" is missing")))?;
        let version = backup.version;
        // That of a large catalog takes long enough to be in the way of others.
        let decoded = tokio::task::spawn_blocking(move || CatalogState::from_bytes(&bytes, version)).await;
        let decoded = decoded
            .map_err(|error| Error::with_source(ErrorKind::Internal, "the decoding of a catalog was cut off", error))?;
        decoded.map_err(|error| Error::with_source(ErrorKind::Corrupt, format!("\"{path}\" is damaged"), error))
    }

    /// Whether there is a backup of this name, damaged or not.
    pub(super) async fn has(&self, name: &BackupName) -> Result<bool> {
        Ok(self.get(&paths::backup_manifest(name.as_str())).await?.is_some())
    }

    /// The objects below a path.
    pub(super) async fn objects(&self, below: &Path) -> Result<Vec<Path>> {
        let listed = self.store.objects().list(Some(below)).map_ok(|object| object.location).try_collect();
        listed.await.map_err(|error| self.failed("list", below, error))
    }

    /// Stores the catalog of a backup and then its manifest, with which the backup is there.
    pub(super) async fn announce(&self, backup: &Backup, image: CatalogState) -> Result<()> {
        // As the decoding, below.
        let encoded = tokio::task::spawn_blocking(move || image.to_bytes())
            .await
            .map_err(|error| Error::with_source(ErrorKind::Internal, "the encoding of a catalog was cut off", error))?
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not encode a catalog", error))?;
        let name = backup.name.as_str();
        for (path, bytes, step) in [
            (paths::backup_catalog(name, backup.image), encoded, Step::BackupCatalogStored),
            (paths::backup_manifest(name), manifest::encode(backup), Step::BackupAnnounced),
        ] {
            self.store.create(&path, &bytes).await.map_err(|error| self.failed("store", &path, error))?;
            if self.get(&path).await?.as_ref() != Some(&bytes) {
                return Err(Error::new(ErrorKind::Corrupt, format!("\"{path}\" was not stored as it was sent")));
            }
            steps::reached(step);
        }
        Ok(())
    }

    /// Removes a backup, and then what no other one needs. Returns how many objects went.
    pub(super) async fn remove(&self, name: &BackupName) -> Result<usize> {
        if !self.has(name).await? {
            return Err(self.no_backup(name));
        }
        // From here on it does not exist, whatever happens to its files.
        self.delete(paths::backup_manifest(name.as_str())).await?;
        steps::reached(Step::BackupForgotten);
        Ok(1 + self.collect().await?)
    }

    /// Removes data files and catalogs that no manifest names.
    async fn collect(&self) -> Result<usize> {
        let mut needed: HashSet<Path> = HashSet::new();
        for listed in self.list().await? {
            // What a damaged one needs is not known.
            let backup = listed.backup?;
            let image = self.image(&backup).await?;
            let directory = paths::backup_files(backup.set);
            let files = image.kept_tables().flat_map(|table| table.files.iter());
            needed.extend(files.map(|file| Path::from(format!("{directory}/{}", file.path))));
            needed.insert(paths::backup_catalog(backup.name.as_str(), backup.image));
        }
        let mut objects = self.objects(&paths::backup_sets()).await?;
        objects.retain(|path| paths::data_file_id(path).is_some());
        let catalogs = self.objects(&paths::backups()).await?;
        objects.extend(catalogs.into_iter().filter(paths::is_backup_catalog));
        objects.retain(|path| !needed.contains(path));
        let count = objects.len();
        let removals = objects.into_iter().map(|path| self.delete(path));
        stream::iter(removals).buffer_unordered(REQUESTS_AT_ONCE).boxed().try_collect::<()>().await?;
        Ok(count)
    }

    async fn manifest(&self, name: &BackupName) -> Result<Backup> {
        let path = paths::backup_manifest(name.as_str());
        let bytes = self.get(&path).await?.ok_or_else(|| self.no_backup(name))?;
        manifest::decode(&bytes, name)
            .map_err(|error| Error::with_source(ErrorKind::Corrupt, format!("\"{path}\" is damaged"), error))
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let found = match self.store.objects().get(path).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        found.map_err(|error| self.failed("read", path, error))
    }

    async fn delete(&self, path: Path) -> Result<()> {
        match self.store.objects().delete(&path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", &path, error)),
        }
    }

    fn no_backup(&self, name: &BackupName) -> Error {
        Error::not_found(format!("there is no backup \"{name}\" in \"{}\"", self.description()))
    }

    fn failed(&self, action: &'static str, path: &Path, error: StoreError) -> Error {
        let message = format!("could not {action} \"{path}\" in \"{}\"", self.description());
        Error::with_source(ErrorKind::Unavailable, message, error)
    }
}

impl Listed {
    /// By instant; damaged ones last.
    fn order(&self) -> (bool, Timestamp) {
        match &self.backup {
            Ok(backup) => (false, backup.instant),
            Err(_) => (true, Timestamp::from_nanos(0)),
        }
    }
}
