//! Recovery as a story: catalog, tables and their files, log, buffer, background work, ready.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;

use super::buffer::persist::Persister;
use super::buffer::{Buffer, TableContents};
use super::catalog::{Catalog, CatalogSettings, CatalogState};
use super::compaction::Compactor;
use super::data_files::DataFiles;
use super::garbage::GarbageCollector;
use super::maintenance::{Maintenance, WrittenTables};
use super::store::Store;
use super::store::checked::CheckedFiles;
use super::wal::{Disk, Publish, Wal, WriteRecord};
use super::{Engine, EngineSettings};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Sequence, TableId};
use crate::tasks::Tasks;

impl Engine {
    /// Opens what is in `store`, replays the log, and starts the background work. An empty store becomes a new catalog.
    ///
    /// Takes time in proportion to the catalog's newest checkpoint plus its tail, and to the log.
    ///
    /// # Errors
    /// `Corrupt` if stored bytes are damaged: the message names the file and offset, and nothing was changed.
    /// `Unavailable` if the store or the disk don't answer.
    pub async fn open(
        settings: EngineSettings,
        store: Store,
        wal_disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let catalog = Arc::new(Catalog::open(&store, Arc::clone(&clock), CatalogSettings::default()).await?);
        let state = catalog.state();

        let buffer = Arc::new(Buffer::new(settings.buffer.bytes_max, Arc::clone(&clock)));
        for table in state.tables() {
            buffer.table_or_insert(table.id, || TableContents::stored(table));
        }

        let written = Arc::new(WrittenTables::default());
        let wal = open_log(&settings, wal_disk, &state, &buffer, &written, Arc::clone(&clock)).await?;
        let (metadata_bytes_max, recent) = (settings.metadata_bytes_max as u64, settings.recent);
        let files = CheckedFiles::new(store.clone(), metadata_bytes_max, recent, Arc::clone(&clock));
        let storing = DataFiles::new(store.clone(), Arc::clone(&catalog), files.clone(), Arc::clone(&clock));
        let persister = Persister { files: storing.clone(), catalog: Arc::clone(&catalog), wal: Arc::clone(&wal) };
        let compactor =
            Compactor::new(store.clone(), storing, Arc::clone(&catalog), Arc::clone(&clock), settings.compaction);
        let garbage =
            GarbageCollector::new(store.clone(), Arc::clone(&catalog), Arc::clone(&clock), settings.delete_grace);
        let maintenance = Arc::new(Maintenance::new(
            Arc::clone(&buffer),
            persister,
            settings.buffer.clone(),
            Arc::clone(&written),
            compactor,
            garbage,
        ));

        let tasks = Tasks::new();
        tasks.spawn("tidy", |stop| Arc::clone(&maintenance).tidy_loop(stop));
        tasks.spawn("persist", |stop| Arc::clone(&maintenance).persist_loop(stop));
        tasks.spawn("garbage", |stop| Arc::clone(&maintenance).garbage_loop(stop));
        if settings.compaction.is_on {
            tasks.spawn("compaction", |stop| Arc::clone(&maintenance).compaction_loop(stop));
        }
        let closed = AtomicBool::new(false);
        Ok(Arc::new(Self { settings, store, files, catalog, wal, buffer, maintenance, tasks, clock, closed }))
    }
}

/// Replays the log into the buffer and starts its commit thread, which from then on makes writes visible.
async fn open_log(
    settings: &EngineSettings,
    disk: Arc<dyn Disk>,
    state: &Arc<CatalogState>,
    buffer: &Arc<Buffer>,
    written: &Arc<WrittenTables>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Wal>> {
    let settings = settings.wal.clone();
    let (state, replayed_buffer) = (Arc::clone(state), Arc::clone(buffer));
    let publish = publisher(Arc::clone(buffer), Arc::clone(written));
    let replay_log = move || {
        let mut deleted: HashSet<TableId> = HashSet::new();
        let mut replay = |sequence: Sequence, record: WriteRecord| {
            for entry in record.entries {
                match state.table(entry.table) {
                    Some(table) if sequence <= table.persisted_through => {} // in Parquet
                    Some(_) => insert(&replayed_buffer, sequence, entry.table, entry.batch)?,
                    None => {
                        deleted.insert(entry.table);
                    }
                }
            }
            Ok(())
        };
        let first = state.last_persisted_sequence().next();
        let wal = Wal::open(settings, disk, state.id(), first, clock, &mut replay, publish)?;
        // The log doesn't know what the catalog knows: what it need not keep any more.
        for table in state.tables() {
            wal.release(table.id, table.persisted_through);
        }
        for table in deleted {
            wal.forget(table);
        }
        Ok(Arc::new(wal))
    };
    tokio::task::spawn_blocking(replay_log)
        .await
        .map_err(|error| Error::with_source(ErrorKind::Internal, "the replay of the log was cut off", error))?
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
