//! One round: files, then the catalog that names them, then what nobody names any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;

use super::{MirrorSettings, Progress, mark};
use crate::clock::Clock;
use crate::engine::catalog::{Catalog, CatalogCopy, CatalogState};
use crate::engine::store::{Store, paths};
use crate::engine::transfer::Transfer;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, FileId};
use crate::steps::{self, Step};

/// Objects that are removed at one time.
const REMOVALS_AT_ONCE: usize = 8;

/// What knows how far the mirror is.
#[derive(Debug)]
pub(super) struct Copier {
    to: Store,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    transfer: Transfer,
    copy: CatalogCopy,
    reconcile_every: Duration,
    /// When all files of the mirror were last compared, on the clock's own scale; `None` if they are to be.
    reconciled: Option<Duration>,
}

impl Copier {
    /// Looks how far the mirror is.
    ///
    /// # Errors
    /// `Conflict` if it is no mirror of this catalog; `Unavailable` if a store doesn't answer.
    pub(super) async fn begin(
        settings: &MirrorSettings,
        origin: &Store,
        catalog: &Arc<Catalog>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let id = catalog.state().id();
        mark::claim(&settings.to, origin, id, clock.as_ref()).await?;
        Ok(Self {
            to: settings.to.clone(),
            catalog: Arc::clone(catalog),
            clock: Arc::clone(clock),
            transfer: Transfer::new(origin, &settings.to, clock).at_most(settings.bytes_per_second, clock),
            copy: CatalogCopy::open(origin, &settings.to, id, clock).await?,
            reconcile_every: settings.reconcile_every,
            reconciled: None,
        })
    }

    /// Brings the mirror to the newest state.
    ///
    /// # Errors
    /// `Conflict` if another server has begun to write there; `Corrupt` if a file can't be read as it was written;
    /// `Unavailable` if a store doesn't answer.
    pub(super) async fn round(&mut self, progress: &Mutex<Progress>) -> Result<()> {
        let is_due = self.reconciled.is_none_or(|last| self.clock.elapsed() - last >= self.reconcile_every);
        // Held to the end, so that no file that it names goes meanwhile.
        let (target, complete_at) = if is_due {
            self.reconcile(progress).await?
        } else {
            let (now, target) = (self.clock.now(), self.catalog.state());
            if target.version() != self.copy.version() {
                self.follow(&target, progress).await?;
            }
            (target, now)
        };
        let mut progress = progress.lock();
        (progress.version, progress.complete_at) = (target.version(), Some(complete_at));
        Ok(())
    }

    /// Goes through the records that the mirror lacks.
    async fn follow(&mut self, target: &Arc<CatalogState>, progress: &Mutex<Progress>) -> Result<()> {
        let found = self.copy.records_to(target).await?;
        let Some(found) = found.filter(|found| all_are_named(&found.added, target)) else {
            return self.reconcile(progress).await.map(drop);
        };
        let added: Vec<Arc<DataFile>> = found.added.iter().cloned().map(Arc::new).collect();
        let collected: Vec<Path> = found.collected.iter().map(|path| Path::from(path.as_str())).collect();
        self.store_files(&added, progress).await?;
        self.confirm().await?;
        self.copy.put(found).await?;
        self.remove_files(collected, progress).await
    }

    /// Compares all files of the mirror with the newest state. Returns that state and its moment.
    async fn reconcile(&mut self, progress: &Mutex<Progress>) -> Result<(Arc<CatalogState>, crate::model::Timestamp)> {
        // Before the state is taken, so that every file in the list was named by it or an earlier one.
        let listed = self.list().await?;
        let now = self.clock.now();
        let target = self.catalog.refresh().await?;
        let named = || target.kept_tables().flat_map(|table| table.files.iter());
        let missing: Vec<Arc<DataFile>> =
            named().filter(|file| listed.get(&file.path) != Some(&file.bytes)).cloned().collect();
        // What has the name and another size is not what was copied.
        let wrong = missing.iter().filter(|file| listed.contains_key(&file.path));
        let wrong: Vec<Path> = wrong.map(|file| Path::from(file.path.as_str())).collect();
        if !missing.is_empty() {
            let bytes: u64 = missing.iter().map(|file| file.bytes).sum();
            tracing::info!(mirror = self.to.description(), files = missing.len(), bytes, "copying to the mirror");
        }
        self.confirm().await?;
        self.remove_files(wrong, progress).await?;
        self.store_files(&missing, progress).await?;

        self.confirm().await?;
        if target.version() != self.copy.version() {
            match self.copy.records_to(&target).await? {
                Some(found) if all_are_named(&found.added, &target) => self.copy.put(found).await?,
                _ => self.copy.jump(&target).await?,
            }
        }
        let known: HashSet<&str> = named().map(|file| file.path.as_str()).collect();
        let garbage: HashSet<&str> = target.garbage().map(|file| file.path.as_ref()).collect();
        let left: Vec<Path> = listed
            .keys()
            .filter(|path| !known.contains(path.as_str()) && !garbage.contains(path.as_str()))
            .map(|path| Path::from(path.as_str()))
            .filter(|path| paths::data_file_id(path).is_some())
            .collect();
        self.remove_files(left, progress).await?;
        self.reconciled = Some(self.clock.elapsed());
        Ok((target, now))
    }

    /// The data files of the mirror with their sizes.
    async fn list(&self) -> Result<HashMap<String, u64>> {
        let listed = self.to.objects().list(Some(&paths::data_files()));
        let listed = listed.map_ok(|object| (object.location.to_string(), object.size)).try_collect();
        listed.await.map_err(|error| self.failed("list the data files in", error))
    }

    async fn store_files(&self, files: &[Arc<DataFile>], progress: &Mutex<Progress>) -> Result<()> {
        let copied = |file: &DataFile| {
            let mut progress = progress.lock();
            progress.files += 1;
            progress.bytes += file.bytes;
        };
        self.transfer.copy_all(files, copied).await?;
        if !files.is_empty() {
            steps::reached(Step::MirrorFilesStored);
        }
        Ok(())
    }

    async fn remove_files(&self, files: Vec<Path>, progress: &Mutex<Progress>) -> Result<()> {
        let count = files.len();
        let removals = files.into_iter().map(|path| async move {
            match self.to.objects().delete(&path).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed("remove a data file from", error)),
            }
        });
        stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE).boxed().try_collect::<()>().await?;
        if count > 0 {
            progress.lock().removed += count as u64;
            steps::reached(Step::MirrorFilesRemoved);
        }
        Ok(())
    }

    async fn confirm(&self) -> Result<()> {
        mark::confirm(&self.to, self.catalog.state().id()).await
    }

    fn failed(&self, what: &'static str, error: StoreError) -> Error {
        Error::with_source(ErrorKind::Unavailable, format!("could not {what} \"{}\"", self.to.description()), error)
    }
}

/// Whether the state still names each of the files. Those that it doesn't may be gone already.
fn all_are_named(files: &[DataFile], state: &CatalogState) -> bool {
    let ids: HashSet<FileId> = match files {
        [] => return true,
        _ => state.kept_tables().flat_map(|table| table.files.iter()).map(|file| file.id).collect(),
    };
    files.iter().all(|file| ids.contains(&file.id))
}
