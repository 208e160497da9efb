//! Recovery as a story: catalog, tables and their files, log, buffer, background work, ready.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::buffer::persist::Persister;
use super::buffer::{Buffer, TableContents};
use super::catalog::{Catalog, CatalogSettings, CatalogState};
use super::maintenance::Maintenance;
use super::store::Store;
use super::wal::{Disk, Wal, WriteRecord};
use super::{Engine, EngineSettings};
use crate::clock::Clock;
use crate::error::Result;
use crate::model::Sequence;
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
            let files = table.files.iter().cloned().collect();
            buffer.table_or_insert(table.id, || TableContents::stored(Arc::clone(&table.schema), files, table.persisted_through));
        }

        let maintenance: Arc<std::sync::OnceLock<Arc<Maintenance>>> = Arc::default();
        let wal = open_log(&settings, wal_disk, &state, &buffer, &maintenance, Arc::clone(&clock)).await?;
        let persister = Persister { store: store.clone(), catalog: Arc::clone(&catalog), wal: Arc::clone(&wal) };
        let maintenance = Arc::clone(
            maintenance.get_or_init(|| Arc::new(Maintenance::new(Arc::clone(&buffer), persister, settings.buffer.clone()))),
        );
        for table in state.tables() {
            wal.release(table.id, table.persisted_through);
        }

        let tasks = Tasks::new();
        tasks.spawn("tidy", |stop| Arc::clone(&maintenance).tidy_loop(stop));
        tasks.spawn("persist", |stop| Arc::clone(&maintenance).persist_loop(stop));
        Ok(Arc::new(Self { settings, store, catalog, wal, buffer, maintenance, tasks, closed: AtomicBool::new(false) }))
    }
}

/// Replays the log into the buffer and starts its commit thread, which from then on makes writes visible.
async fn open_log(
    settings: &EngineSettings,
    disk: Arc<dyn Disk>,
    state: &Arc<CatalogState>,
    buffer: &Arc<Buffer>,
    maintenance: &Arc<std::sync::OnceLock<Arc<Maintenance>>>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Wal>> {
    let settings = settings.wal.clone();
    let (replayed_state, replayed_buffer) = (Arc::clone(state), Arc::clone(buffer));
    let (live_buffer, live_maintenance) = (Arc::clone(buffer), Arc::clone(maintenance));
    let publish = move |sequence: Sequence, record: &WriteRecord| {
        for entry in &record.entries {
            // No table: it was deleted after this write was admitted, and its rows with it.
            let Some(table) = live_buffer.table(entry.table) else { continue };
            if let Err(error) = table.insert(sequence, entry.batch.clone()) {
                tracing::error!(error = error.report(), table = entry.table.get(), "a logged write could not be made visible");
            }
            if let Some(maintenance) = live_maintenance.get() {
                maintenance.table_written(entry.table);
            }
        }
    };
    let open = move || {
        let mut replay = |sequence: Sequence, record: WriteRecord| {
            for entry in record.entries {
                let Some(table) = replayed_state.table(entry.table) else { continue }; // deleted since
                if sequence <= table.persisted_through {
                    continue; // in Parquet
                }
                if let Some(table) = replayed_buffer.table(entry.table) {
                    table.insert(sequence, entry.batch)?;
                }
            }
            Ok(())
        };
        let first = replayed_state.last_persisted_sequence().next();
        Wal::open(settings, disk, replayed_state.id(), first, clock, &mut replay, Box::new(publish)).map(Arc::new)
    };
    tokio::task::spawn_blocking(open).await.map_err(|error| crate::error::Error::with_source(
        crate::error::ErrorKind::Internal,
        "the replay of the log was cut off",
        error,
    ))?
}
