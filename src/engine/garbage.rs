//! Objects that no table refers to any more are removed, after a while.
//!
//! Files whose rows have all expired are dropped from their tables here, too; and deleted tables that nobody wanted back.
//!
//! Two kinds. *Garbage* is in the catalog's list: files of deleted tables, and files that compaction replaced. *Orphans* are in no
//! list: what a crash left between the store and the catalog.
//!
//! Always true:
//! - nothing that the catalog names is removed; it is asked after the store was listed, so that a file that was
//!   committed meanwhile counts;
//! - garbage stays for the grace period and for as long as a query of this process reads it; a query of another node
//!   has the grace period to end;
//! - nothing goes while the clock can't be believed (see `clock_watch`);
//! - an orphan is older than [`ORPHAN_AGE_MIN`] by the store's own clock, so that a file that is on its way into the catalog stays.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};

use super::catalog::{Catalog, CatalogChange, CatalogState, GarbageFile, is_jump};
use super::clock_watch::ClockWatch;
use super::store::disk_cache::DiskCache;
use super::store::{Store, paths};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileId, TimeRange};
use crate::steps::{self, Step};

/// Far longer than it takes to store a file and name it in the catalog.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(3600);

/// Objects that are removed at one time.
const REMOVALS_AT_ONCE: usize = 16;

/// Objects whose removal is one record of the catalog.
const PATHS_PER_RECORD: usize = 1000;

/// Removes what nothing refers to.
#[derive(Debug)]
pub(super) struct GarbageCollector {
    store: Store,
    disk: Option<DiskCache>,
    catalog: Arc<Catalog>,
    watch: ClockWatch,
    grace: Duration,
    removed: AtomicU64,
}

impl GarbageCollector {
    pub(super) fn new(
        store: Store,
        disk: Option<DiskCache>,
        catalog: Arc<Catalog>,
        watch: ClockWatch,
        grace: Duration,
    ) -> Self {
        Self { store, disk, catalog, watch, grace, removed: AtomicU64::new(0) }
    }

    /// Objects that were removed since the start.
    pub(super) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// How long garbage is kept at least.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// How long nothing is removed for, because the clock has jumped; zero if it hasn't.
    pub(super) fn held_for(&self) -> Duration {
        self.watch.held_for()
    }

    /// Frees the local disk of files that no table has any more. A query that still reads one asks the store.
    pub(super) fn forget(&self) {
        if let Some(disk) = &self.disk {
            let state = self.catalog.state();
            disk.retain(state.kept_tables().flat_map(|table| table.files.iter().map(|file| file.id)).collect());
        }
    }

    /// Removes garbage whose grace period is over. Returns how many objects went.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog doesn't answer; what is left is tried again.
    pub(super) async fn collect(&self) -> Result<usize> {
        let Some(now) = self.watch.now() else { return Ok(0) };
        let before = now.before(self.grace);
        let state = self.catalog.state();
        // What was dropped by a clock that was ahead doesn't wait until then.
        let dropped_at = |file: &GarbageFile| match file.deleted_at > now && is_jump(now, file.deleted_at) {
            true => state.steady_since(),
            false => file.deleted_at,
        };
        let due = state.garbage().filter(|file| dropped_at(file) <= before && !file.is_read());
        let due: Vec<String> = due.map(|file| file.path.to_string()).collect();
        for paths in due.chunks(PATHS_PER_RECORD) {
            let objects: Vec<Path> = paths.iter().map(|path| path.as_str().into()).collect();
            self.remove(objects).await?;
            steps::reached(Step::GarbageRemoved);
            let collected = CatalogChange::CollectGarbage { paths: paths.to_vec() };
            self.catalog.commit(|_| Ok(vec![collected.clone()])).await?;
            steps::reached(Step::GarbageCollected);
        }
        Ok(due.len())
    }

    /// Finds and removes data files that the catalog does not know. Lists all of them. Returns how many went.
    ///
    /// # Errors
    /// As `collect`.
    pub(super) async fn collect_orphans(&self) -> Result<usize> {
        let Some(now) = self.watch.now() else { return Ok(0) };
        let before = now.before(self.grace.max(ORPHAN_AGE_MIN));
        let is_old =
            |object: &ObjectMeta| object.last_modified.timestamp_nanos_opt().is_some_and(|at| at <= before.as_nanos());
        let listed = self.store.objects().list(Some(&paths::data_files()));
        let old = listed.try_filter(|object| std::future::ready(is_old(object))).map_ok(|object| object.location);
        let old: Vec<Path> =
            old.try_collect().await.map_err(|error| unavailable("could not list data files", error))?;
        let state = self.catalog.refresh().await?;
        let orphans = orphans(&state, old);
        let count = orphans.len();
        for path in &orphans {
            tracing::info!(%path, "removing a data file that the catalog doesn't know");
        }
        self.remove(orphans).await?;
        Ok(count)
    }

    /// Drops files of which every row has expired; they become garbage. Returns how many.
    ///
    /// # Errors
    /// `Unavailable` if the catalog can't be written; it is tried again.
    pub(super) async fn expire(&self) -> Result<usize> {
        let Some(now) = self.watch.now() else { return Ok(0) };
        let dropped = AtomicUsize::new(0);
        let expire = |state: &CatalogState| {
            let mut changes = Vec::new();
            let mut count = 0;
            for table in state.tables() {
                let Some(from) = state.retention(table).map(|period| now.before(period)) else { continue };
                let long_ago = TimeRange { min: TimeRange::ALL.min, max: from };
                let expired = table.files.overlapping(long_ago).filter(|file| file.time.max < from);
                let removed: Vec<FileId> = expired.map(|file| file.id).collect();
                if removed.is_empty() {
                    continue;
                }
                count += removed.len();
                changes.push(CatalogChange::ReplaceFiles { table: table.id, removed, added: Vec::new() });
            }
            dropped.store(count, Ordering::Relaxed);
            Ok(changes)
        };
        self.catalog.commit(expire).await?;
        let dropped = dropped.into_inner();
        if dropped > 0 {
            steps::reached(Step::FilesExpired);
        }
        Ok(dropped)
    }

    /// Drops databases and tables whose time to be brought back is over. Returns how many changes that took.
    ///
    /// # Errors
    /// `Unavailable` if the catalog can't be written; it is tried again.
    pub(super) async fn hard_delete(&self) -> Result<usize> {
        let Some(now) = self.watch.now() else { return Ok(0) };
        let dropped = AtomicUsize::new(0);
        let drop_due = |state: &CatalogState| {
            let changes = state.due_deletions(now);
            dropped.store(changes.len(), Ordering::Relaxed);
            Ok(changes)
        };
        self.catalog.commit(drop_due).await?;
        Ok(dropped.into_inner())
    }

    async fn remove(&self, paths: Vec<Path>) -> Result<()> {
        let removals = paths.into_iter().map(|path| async move {
            match self.store.objects().delete(&path).await {
                // Gone already: another node, or an earlier try.
                Ok(()) | Err(StoreError::NotFound { .. }) => {
                    self.removed.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) => Err(unavailable("could not remove a data file", error)),
            }
        });
        stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE).try_collect().await
    }
}

/// Those of the paths that are data files of this catalog's making and that it does not name.
fn orphans(state: &CatalogState, paths: Vec<Path>) -> Vec<Path> {
    let files = state.kept_tables().flat_map(|table| table.files.iter()).map(|file| file.path.as_str());
    let known: HashSet<&str> = files.chain(state.garbage().map(|file| file.path.as_ref())).collect();
    let is_ours = |path: &Path| paths::data_file_id(path).is_some_and(|id| id < state.next_file_id());
    paths.into_iter().filter(|path| is_ours(path) && !known.contains(path.as_ref())).collect()
}

fn unavailable(what: &'static str, error: StoreError) -> Error {
    Error::with_source(ErrorKind::Unavailable, what, error)
}
