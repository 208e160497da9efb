//! Recovery as a story: catalog, tables and their files, log, buffer, background work, ready.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use arrow::array::RecordBatch;

use super::buffer::persist::Persister;
use super::buffer::{Buffer, TableContents};
use super::caches::Caches;
use super::catalog::{Catalog, CatalogChange, CatalogSettings, CatalogState};
use super::clock_watch::ClockWatch;
use super::compaction::Compactor;
use super::data_files::DataFiles;
use super::garbage::GarbageCollector;
use super::maintenance::{Maintenance, WrittenTables};
use super::mirror::Mirror;
use super::store::checked::CheckedFiles;
use super::store::disk_cache::DiskCache;
use super::store::{Store, paths};
use super::wal::objects::{ObjectLog, ObjectLogSettings};
use super::wal::{Disk, Publish, Wal, WriteRecord};
use super::{Engine, EngineSettings, LogIdentity};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Sequence, TableId};
use crate::steps::{self, Step};
use crate::tasks::Tasks;

/// Where the write-ahead log is.
#[derive(Debug)]
enum LogKind {
    /// On a disk of this machine.
    Disk(Arc<dyn Disk>),
    /// In the object store, with the tables.
    Store(ObjectLogSettings),
}

impl Engine {
    /// Opens what is in `store`, replays the log on `wal_disk`, and starts the background work. An empty store becomes a new
    /// catalog.
    ///
    /// Takes time in proportion to the catalog's newest checkpoint plus its tail, and to the log.
    ///
    /// # Errors
    /// `Corrupt` if stored bytes are damaged: the message names the file and offset, and nothing was changed.
    /// `Conflict` if another log may hold rows of this store that are in no file.
    /// `Unavailable` if the store or the disk don't answer.
    pub async fn open(
        settings: EngineSettings,
        store: Store,
        wal_disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        Self::open_with(settings, store, LogKind::Disk(wal_disk), clock).await
    }

    /// As [`Engine::open`], with the log in the store too. A process that has the log already takes no more writes from then on.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_diskless(
        settings: EngineSettings,
        store: Store,
        log: ObjectLogSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        Self::open_with(settings, store, LogKind::Store(log), clock).await
    }

    async fn open_with(
        settings: EngineSettings,
        store: Store,
        log: LogKind,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let catalog = Arc::new(Catalog::open(&store, Arc::clone(&clock), CatalogSettings::default()).await?);
        let mirror = match settings.mirror.clone() {
            Some(mirror) => Some(Mirror::open(mirror, store.clone(), Arc::clone(&catalog), Arc::clone(&clock)).await?),
            None => None,
        };
        let state = take_log(&catalog, &settings.log, &store, &log).await?;
        steps::reached(Step::LogTaken);

        let buffer = Arc::new(Buffer::new(settings.buffer.bytes_max, Arc::clone(&clock)));
        for table in state.kept_tables() {
            buffer.table_or_insert(table.id, || TableContents::stored(table));
        }

        let written = Arc::new(WrittenTables::default());
        let recovery = Recovery::new(&state, &buffer);
        let publish = publisher(Arc::clone(&buffer), Arc::clone(&written));
        let wal = match log {
            LogKind::Disk(disk) => open_disk_log(&settings, disk, recovery, publish, Arc::clone(&clock)).await?,
            LogKind::Store(log) => open_store_log(log, &store, &catalog, recovery, publish, Arc::clone(&clock)).await?,
        };
        steps::reached(Step::LogReplayed);
        let (metadata_bytes_max, recent) = (settings.metadata_bytes_max as u64, settings.recent);
        let mut files = CheckedFiles::new(store.clone(), metadata_bytes_max, recent, Arc::clone(&clock))
            .with_decoded(settings.decoded_bytes_max as u64);
        if let Some(settings) = &settings.disk_cache {
            let kept = state.kept_tables().flat_map(|table| table.files.iter().map(AsRef::as_ref));
            let cache = DiskCache::open(settings, state.id(), kept, Arc::clone(&clock))?;
            files = files.with_disk_cache(cache, Arc::clone(&clock));
        }
        let storing = DataFiles::new(store.clone(), Arc::clone(&catalog), files.clone(), Arc::clone(&clock));
        let persister = Persister { files: storing.clone(), catalog: Arc::clone(&catalog), wal: Arc::clone(&wal) };
        let compactor =
            Compactor::new(store.clone(), storing, Arc::clone(&catalog), Arc::clone(&clock), settings.compaction);
        let garbage = GarbageCollector::new(
            store.clone(),
            files.disk_cache().cloned(),
            Arc::clone(&catalog),
            ClockWatch::new(Arc::clone(&clock), settings.delete_grace, &catalog.state()),
            settings.delete_grace,
        );
        let maintenance = Arc::new(Maintenance::new(
            Arc::clone(&buffer),
            persister,
            settings.buffer.clone(),
            Arc::clone(&written),
            compactor,
            garbage,
            Arc::clone(&clock),
        ));

        let tasks = Tasks::new();
        tasks.spawn("tidy", |stop| Arc::clone(&maintenance).tidy_loop(stop));
        tasks.spawn("persist", |stop| Arc::clone(&maintenance).persist_loop(stop));
        tasks.spawn("refresh", |stop| Arc::clone(&maintenance).refresh_loop(stop));
        tasks.spawn("garbage", |stop| Arc::clone(&maintenance).garbage_loop(stop));
        if settings.compaction.is_on {
            tasks.spawn("compaction", |stop| Arc::clone(&maintenance).compaction_loop(stop));
        }
        if let Some(mirror) = &mirror {
            tasks.spawn("mirror", |stop| Arc::clone(mirror).run(stop));
        }
        let caches = Caches::new(settings.cache_bytes_max);
        let (closed, arrivals) = (AtomicBool::new(false), AtomicI64::new(i64::MIN));
        Ok(Arc::new(Self {
            settings,
            store,
            files,
            catalog,
            wal,
            buffer,
            caches,
            maintenance,
            mirror,
            tasks,
            clock,
            closed,
            arrivals,
        }))
    }
}

/// Makes this process the one that writes, before anything is read that another one might still change.
async fn take_log(
    catalog: &Catalog,
    identity: &LogIdentity,
    store: &Store,
    log: &LogKind,
) -> Result<Arc<CatalogState>> {
    let state = match log {
        LogKind::Disk(_) => catalog.take_log(identity.id, &identity.place, identity.gives_up_others).await?,
        LogKind::Store(_) => {
            let place = format!("{}/{}", store.description(), paths::log_objects());
            catalog.take_log(catalog.state().id(), &place, identity.gives_up_others).await?
        }
    };
    Ok(state)
}

/// Takes the log's records into the buffer.
struct Recovery {
    state: Arc<CatalogState>,
    buffer: Arc<Buffer>,
    /// Tables that have records but do not exist any more.
    deleted: HashSet<TableId>,
}

impl Recovery {
    fn new(state: &Arc<CatalogState>, buffer: &Arc<Buffer>) -> Self {
        Self { state: Arc::clone(state), buffer: Arc::clone(buffer), deleted: HashSet::new() }
    }

    fn replay(&mut self, sequence: Sequence, record: WriteRecord) -> Result<()> {
        for entry in record.entries {
            match self.state.kept_table(entry.table) {
                Some(table) if sequence <= table.persisted_through => {} // in Parquet
                Some(_) => insert(&self.buffer, sequence, entry.table, entry.batch)?,
                None => {
                    self.deleted.insert(entry.table);
                }
            }
        }
        Ok(())
    }

    fn first_sequence(&self) -> Sequence {
        self.state.last_persisted_sequence().next()
    }

    /// Tells the log what it doesn't know and the catalog does: what it need not keep any more.
    fn release(self, wal: Wal) -> Arc<Wal> {
        for table in self.state.kept_tables() {
            wal.release(table.id, table.persisted_through);
        }
        for table in self.deleted {
            wal.forget(table);
        }
        Arc::new(wal)
    }
}

/// Replays the log of a disk and starts its commit thread, which from then on makes writes visible.
async fn open_disk_log(
    settings: &EngineSettings,
    disk: Arc<dyn Disk>,
    mut recovery: Recovery,
    publish: Publish,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Wal>> {
    let settings = settings.wal.clone();
    let replay_log = move || {
        let (catalog, first) = (recovery.state.id(), recovery.first_sequence());
        let mut replay = |sequence: Sequence, record: WriteRecord| recovery.replay(sequence, record);
        let wal = Wal::open(settings, disk, catalog, first, clock, &mut replay, publish)?;
        Ok(recovery.release(wal))
    };
    tokio::task::spawn_blocking(replay_log)
        .await
        .map_err(|error| Error::with_source(ErrorKind::Internal, "the replay of the log was cut off", error))?
}

/// Ends and replays what earlier starts left in the store, and starts the commit task.
async fn open_store_log(
    settings: ObjectLogSettings,
    store: &Store,
    catalog: &Catalog,
    mut recovery: Recovery,
    publish: Publish,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Wal>> {
    let (state, epoch) = (Arc::clone(&recovery.state), catalog.epoch());
    let unfinished = state.log_owner().map(|owner| owner.unfinished.clone()).unwrap_or_default();
    let log = ObjectLog { store: store.clone(), catalog: state.id(), epoch, unfinished };
    let first = recovery.first_sequence();
    let mut replay = |sequence: Sequence, record: WriteRecord| recovery.replay(sequence, record);
    let wal = Wal::open_in_store(settings, log, first, clock, &mut replay, publish).await?;
    catalog.commit(|_| Ok(vec![CatalogChange::RecoverLog { epoch }])).await?;
    Ok(recovery.release(wal))
}

/// Makes logged writes visible, on the log's commit thread.
fn publisher(buffer: Arc<Buffer>, written: Arc<WrittenTables>) -> Publish {
    Box::new(move |sequence, record| {
        for entry in &record.entries {
            if let Err(error) = insert(&buffer, sequence, entry.table, entry.batch.clone()) {
                let table = entry.table.get();
                tracing::error!(error = error.report(), table, "a logged write could not be made visible");
            }
            written.add(entry.table);
        }
    })
}

fn insert(buffer: &Buffer, sequence: Sequence, table: TableId, batch: RecordBatch) -> Result<()> {
    match buffer.table(table) {
        Some(table) => table.insert(sequence, batch),
        None => Ok(()), // deleted after the write was admitted, and its rows with it
    }
}
