//! Keeps rows: durable in the log, visible in the buffer, at rest in Parquet. The only door for query and server.
//!
//! | room | keeps |
//! |---|---|
//! | [`wal`] | every acknowledged write until it is in Parquet |
//! | [`buffer`] | the same writes as runs that queries read |
//! | [`store`] | Parquet files and catalog records, as objects |
//! | [`catalog`] | which databases, tables, columns and files there are |
//! | [`compaction`] | history in few, large files that don't overlap |
//! | [`caches`] | the newest points and the distinct values that somebody asks for often |
//! | [`backup`] | copies of all that at one instant, elsewhere |
//! | [`mirror`] | a second store that follows this one |
//!
//! [`open`] is recovery, [`write`] the way of a write, [`maintenance`] what happens later, [`snapshot`] what a query sees,
//! [`databases`] what users make, [`deletions`] what they delete and want back, [`tokens`] who may ask, [`facts`] what there is to say of all that.
//!
//! Not here: SQL, HTTP, gRPC. `rg datafusion src/engine` finds nothing.

mod backoff;
pub mod backup;
pub mod buffer;
pub mod caches;
pub mod catalog;
mod clock_watch;
pub mod compaction;
mod data_files;
mod databases;
mod deletions;
mod facts;
mod garbage;
mod layout;
mod maintenance;
pub mod mirror;
mod open;
mod snapshot;
pub mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod transfer;
pub mod verify;
pub mod wal;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use buffer::{Buffer, BufferSettings, TableBuffer, TableContents};
use caches::Caches;
use catalog::{Catalog, CatalogChange, CatalogState, TableEntry};
use compaction::CompactionSettings;
use databases::find_database;
use maintenance::Maintenance;
use mirror::{Mirror, MirrorSettings};
use store::Store;
use store::checked::CheckedFiles;
use store::disk_cache::DiskCacheSettings;
use store::recent::RecentSettings;
use wal::{Wal, WalSettings};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DatabaseName, TableName, TableSchema};
use crate::steps::{self, Step};
use crate::tasks::Tasks;

pub use catalog::{SoftDeletion, TokenEntry, TokenHash};
pub use deletions::HardDelete;
pub use facts::{EngineMetrics, FileState, Retention, StoredFile, TableFacts};
pub use snapshot::TableSnapshot;
pub use tokens::{NameTaken, NewToken};
pub use wal::{Durability, Submitted};
pub use write::DatabaseSchemas;

/// What an engine may use and when it acts.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Memory of the buffer and when it is persisted.
    pub buffer: BufferSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
    /// Which log that is.
    pub log: LogIdentity,
    /// How files are compacted.
    pub compaction: CompactionSettings,
    /// How long files that nothing refers to any more are kept.
    pub delete_grace: Duration,
    /// How long a deleted database or table can be brought back, unless its deletion says otherwise.
    pub hard_delete_default: Duration,
    /// What is kept in memory of recent Parquet files.
    pub recent: RecentSettings,
    /// Memory for decoded columns of row groups that are asked for again and again, in bytes; 0 keeps none.
    pub decoded_bytes_max: usize,
    /// Where bytes of Parquet files are kept on the local disk, if anywhere.
    pub disk_cache: Option<DiskCacheSettings>,
    /// Memory of cached page indexes and footers of Parquet files, in bytes.
    pub metadata_bytes_max: usize,
    /// Memory of all caches of last and distinct values, in bytes.
    pub cache_bytes_max: usize,
    /// Where the store is mirrored to.
    pub mirror: Option<MirrorSettings>,
    /// Most tags and fields of one table.
    pub columns_per_table_max: usize,
    /// Most tables of all databases together.
    pub tables_max: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            buffer: BufferSettings::default(),
            wal: WalSettings::default(),
            log: LogIdentity::default(),
            compaction: CompactionSettings::default(),
            delete_grace: Duration::from_secs(24 * 3600),
            hard_delete_default: Duration::from_secs(72 * 3600),
            recent: RecentSettings::default(),
            decoded_bytes_max: 256 << 20,
            disk_cache: None,
            metadata_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            mirror: None,
            columns_per_table_max: 10_000,
            tables_max: 100_000,
        }
    }
}

/// Tells the write-ahead log of a disk from every other, so that none is taken for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogIdentity {
    /// The same at every start with this log.
    pub id: Uuid,
    /// Where an operator finds it.
    pub place: String,
    /// Start even if another log may hold rows that are in no file, and give them up.
    pub gives_up_others: bool,
}

/// All databases of one catalog.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    store: Store,
    files: CheckedFiles,
    catalog: Arc<Catalog>,
    wal: Arc<Wal>,
    buffer: Arc<Buffer>,
    caches: Caches,
    maintenance: Arc<Maintenance>,
    mirror: Option<Arc<Mirror>>,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
    /// The first time that no row without one has got.
    arrivals: AtomicI64,
}

impl Engine {
    /// What a parser checks lines against. A database that does not exist has no tables.
    pub fn schemas(&self, database: &DatabaseName) -> DatabaseSchemas {
        DatabaseSchemas::new(self.catalog.state(), database)
    }

    /// Most tags and fields of one table.
    pub fn columns_per_table_max(&self) -> usize {
        self.settings.columns_per_table_max
    }

    /// How many tables may still be created.
    pub fn new_tables_max(&self) -> usize {
        self.settings.tables_max.saturating_sub(self.catalog.state().table_count())
    }

    /// The databases, by name.
    pub fn databases(&self) -> Vec<DatabaseName> {
        self.catalog.state().databases().map(|database| database.name.clone()).collect()
    }

    /// Whether there is a database of this name.
    pub fn database_exists(&self, database: &DatabaseName) -> bool {
        self.catalog.state().database_by_name(database).is_some()
    }

    /// The tables of a database, by name.
    ///
    /// # Errors
    /// `NotFound` if there is no such database.
    pub fn tables(&self, database: &DatabaseName) -> Result<Vec<TableName>> {
        let state = self.catalog.state();
        let id = find_database(&state, database)?.id;
        Ok(state.tables_of(id).map(|table| table.name.clone()).collect())
    }

    /// The columns of a table, if it exists.
    pub fn table_schema(&self, database: &DatabaseName, table: &str) -> Option<Arc<TableSchema>> {
        self.schemas(database).table(table)
    }

    /// The table at this instant, if it exists. Copies no row.
    pub fn snapshot(&self, database: &DatabaseName, table: &str) -> Option<Arc<TableSnapshot>> {
        let state = self.catalog.state();
        let entry = state.table_by_name(state.database_by_name(database)?.id, table)?;
        let buffer = self.buffer.table(entry.id);
        let contents = match &buffer {
            Some(table) => table.contents(),
            // Created a moment ago and not written to yet.
            None => Arc::new(TableContents::stored(entry)),
        };
        Some(self.snapshot_of(database, &state, entry, &contents, buffer.as_ref()))
    }

    fn snapshot_of(
        &self,
        database: &DatabaseName,
        state: &CatalogState,
        entry: &TableEntry,
        contents: &TableContents,
        buffer: Option<&Arc<TableBuffer>>,
    ) -> Arc<TableSnapshot> {
        let taken_at = self.clock.now();
        // An empty table may have been widened in the catalog only.
        let schema =
            if contents.schema.column_count() < entry.schema.column_count() { &entry.schema } else { &contents.schema };
        Arc::new(TableSnapshot {
            database: database.clone(),
            name: entry.name.clone(),
            id: entry.id,
            visible_from: state.retention(entry).map(|period| taken_at.before(period)),
            schema: Arc::clone(schema),
            runs: contents.runs.clone(),
            files: contents.files.clone(),
            deletions: Arc::clone(&contents.deletions),
            taken_at,
            views: Arc::clone(&contents.views),
            buffer: buffer.filter(|_| !contents.views.is_empty()).cloned(),
        })
    }

    /// Where its time comes from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Time since some moment of this process.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Where files and catalog are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How data files are read, with what is kept of them in memory.
    pub fn checked_files(&self) -> &CheckedFiles {
        &self.files
    }

    /// The key that seals tickets; the same for every node of this catalog.
    pub fn ticket_key(&self) -> Vec<u8> {
        self.catalog.state().ticket_key().to_vec()
    }

    /// The catalog's own identifier.
    pub fn catalog_id(&self) -> Uuid {
        self.catalog.state().id()
    }

    /// Persists every table now.
    ///
    /// # Errors
    /// The first failure, after every table was tried; what failed is still in memory and in the log.
    pub async fn persist_all(&self) -> Result<()> {
        self.maintenance.persist_all().await
    }

    /// Compacts every table now, as far as its files have settled. Answers don't change.
    ///
    /// # Errors
    /// The first failure, after every table was tried; a table whose compaction failed is as before.
    pub async fn compact_all(&self) -> Result<()> {
        self.maintenance.compact_all().await
    }

    /// Removes files that nothing refers to any more and whose grace period is over. Returns how many went.
    ///
    /// # Errors
    /// `Unavailable` if the store or the catalog doesn't answer; what is left is tried again later.
    pub async fn collect_garbage(&self) -> Result<usize> {
        self.maintenance.collect_garbage().await
    }

    /// Ends in order: no new writes, background work done, everything in Parquet, log and catalog closed.
    ///
    /// # Errors
    /// If something could not be persisted; it is in the log and comes back with the next start.
    pub async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.tasks.stop().await;
        if let Err(error) = self.check_owner() {
            return self.leave(error).await;
        }
        let persisted = self.maintenance.persist_all().await;
        let log_closed = self.wal.close().await;
        let mut all_is_in_files = persisted.and(log_closed);
        if all_is_in_files.is_ok() {
            steps::reached(Step::LogClosed);
            let epoch = self.catalog.epoch();
            let closed = self.catalog.commit(|_| Ok(vec![CatalogChange::CloseLog { epoch }])).await;
            all_is_in_files = closed.map(drop).map_err(Error::from);
        }
        let catalog_closed = self.catalog.close().await;
        if let Some(mirror) = &self.mirror {
            mirror.finish().await;
        }
        if let Some(disk) = self.files.disk_cache() {
            disk.close().await;
        }
        all_is_in_files.and(catalog_closed.map_err(Error::from))
    }

    /// Whether it takes writes, as far as is known without asking the store. A full buffer, or a store that doesn't answer
    /// now, is no reason to say no: that passes by itself.
    ///
    /// # Errors
    /// `Unavailable` if another server has taken over, or if this one is shutting down: what to do is for people to decide.
    pub fn check_health(&self) -> Result<()> {
        self.check_open()?;
        self.check_owner()
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the server is shutting down"));
        }
        Ok(self.catalog.check_owner(&self.catalog.state())?)
    }

    /// Refuses if another process has the write-ahead log, whoever of catalog and log has heard of it.
    fn check_owner(&self) -> Result<()> {
        self.catalog.check_owner(&self.catalog.state())?;
        Ok(self.wal.check_owner()?)
    }

    /// Ends after another process has taken over, which has every write of a log in the store.
    async fn leave(&self, taken_over: Error) -> Result<()> {
        let buffered = self.buffer.budget().used() > 0;
        let closed = self.wal.close().await;
        let catalog_closed = self.catalog.close().await.map_err(Error::from);
        match self.wal.is_in_store() {
            true => {}                                   // that log has no end but the other's, and closing it says so
            false if buffered => return Err(taken_over), // rows that only the log on this machine has
            false => closed?,
        }
        tracing::warn!(error = taken_over.report(), "left the store to the server that has taken over");
        catalog_closed
    }
}
