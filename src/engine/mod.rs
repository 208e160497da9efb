//! Keeps rows: durable in the log, visible in the buffer, at rest in Parquet. The only door for query and server.
//!
//! | room | keeps |
//! |---|---|
//! | [`wal`] | every acknowledged write until it is in Parquet |
//! | [`buffer`] | the same writes as runs that queries read |
//! | [`store`] | Parquet files and catalog records, as objects |
//! | [`catalog`] | which databases, tables, columns and files there are |
//! | [`compaction`] | history in few, large files that don't overlap |
//!
//! [`open`] is recovery, [`write`] the way of a write, [`maintenance`] what happens later, [`snapshot`] what a query sees.
//!
//! Not here: SQL, HTTP, gRPC. `rg datafusion src/engine` finds nothing.

pub mod buffer;
pub mod catalog;
pub mod compaction;
mod data_files;
mod garbage;
mod layout;
mod maintenance;
mod open;
mod snapshot;
pub mod store;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod wal;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buffer::{Buffer, BufferSettings, TableContents};
use catalog::{Catalog, CatalogChange, CatalogState};
use compaction::{Compaction, CompactionMetrics, CompactionSettings};
use maintenance::Maintenance;
use store::Store;
use store::checked::CheckedFiles;
use store::recent::{RecentMetrics, RecentSettings};
use wal::{Wal, WalMetrics, WalSettings};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ColumnKind, DataFile, DatabaseName, RowSelection, TableId, TableName, TableSchema, Timestamp};
use crate::tasks::Tasks;

pub use snapshot::TableSnapshot;
pub use wal::Durability;
pub use write::DatabaseSchemas;

/// What an engine may use and when it acts.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Memory of the buffer and when it is persisted.
    pub buffer: BufferSettings,
    /// The write-ahead log.
    pub wal: WalSettings,
    /// How files are compacted.
    pub compaction: CompactionSettings,
    /// How long files that nothing refers to any more are kept.
    pub delete_grace: Duration,
    /// What is kept in memory of recent Parquet files.
    pub recent: RecentSettings,
    /// Memory of cached page indexes and footers of Parquet files, in bytes.
    pub metadata_bytes_max: usize,
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
            compaction: CompactionSettings::default(),
            delete_grace: Duration::from_secs(24 * 3600),
            recent: RecentSettings::default(),
            metadata_bytes_max: 64 << 20,
            columns_per_table_max: 10_000,
            tables_max: 100_000,
        }
    }
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
    maintenance: Arc<Maintenance>,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
}

/// A Parquet file that the catalog knows.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its table, while it has one.
    pub table: Option<TableName>,
    /// Whether it is read.
    pub state: FileState,
    /// What is known of its rows, while it is read.
    pub live: Option<Arc<DataFile>>,
}

/// Whether a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It holds rows of a table.
    Live,
    /// Nothing refers to it any more, since this moment.
    Garbage {
        /// When it was dropped.
        deleted_at: Timestamp,
    },
}

/// How long rows are seen after their time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The database.
    pub database: DatabaseName,
    /// The table, if the period is its own.
    pub table: Option<TableName>,
    /// The period.
    pub period: Duration,
}

/// Figures of an engine at one moment.
#[derive(Debug, Clone, Copy)]
pub struct EngineMetrics {
    /// Databases in the catalog.
    pub databases: usize,
    /// Tables in the catalog.
    pub tables: usize,
    /// Parquet files in the catalog.
    pub files: usize,
    /// Their size in bytes.
    pub file_bytes: u64,
    /// Memory of buffered rows in bytes.
    pub buffer_bytes: usize,
    /// The limit of that memory.
    pub buffer_bytes_max: usize,
    /// Persists that wrote files.
    pub persists: u64,
    /// Persists that failed and are tried again.
    pub persist_failures: u64,
    /// Rows written to Parquet.
    pub persisted_rows: u64,
    /// Bytes of the Parquet files that were written from the buffer.
    pub persisted_bytes: u64,
    /// Compactions that are running now.
    pub compactions_running: usize,
    /// What compaction did.
    pub compaction: CompactionMetrics,
    /// Files that nothing refers to any more and that are still there.
    pub garbage_files: usize,
    /// Files that were removed because nothing referred to them.
    pub garbage_removed: u64,
    /// Parquet data in memory.
    pub recent: RecentMetrics,
    /// Memory of cached page indexes and footers in bytes.
    pub metadata_bytes: u64,
    /// The log.
    pub wal: WalMetrics,
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
        let id = state.database_by_name(database).ok_or_else(|| database_not_found(database))?.id;
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
        let contents = match self.buffer.table(entry.id) {
            Some(table) => table.contents(),
            // Created a moment ago and not written to yet.
            None => Arc::new(TableContents::stored(entry)),
        };
        // An empty table may have been widened in the catalog only.
        let schema =
            if contents.schema.column_count() < entry.schema.column_count() { &entry.schema } else { &contents.schema };
        Some(Arc::new(TableSnapshot {
            database: database.clone(),
            name: entry.name.clone(),
            id: entry.id,
            visible_from: state.retention(entry).map(|period| self.clock.now().before(period)),
            schema: Arc::clone(schema),
            runs: contents.runs.clone(),
            files: Arc::clone(&contents.files),
            deletions: Arc::clone(&contents.deletions),
        }))
    }

    /// Creates a database, whose rows are seen for ever or for a period after their time.
    ///
    /// # Errors
    /// `Conflict` if it exists; `Unavailable` if the catalog can't be written.
    pub async fn create_database(&self, name: &DatabaseName, retention: Option<Duration>) -> Result<()> {
        self.check_open()?;
        let create = |state: &CatalogState| {
            if state.database_by_name(name).is_some() {
                return Err(already_exists());
            }
            let id = state.next_database_id();
            let create = CatalogChange::CreateDatabase { id, name: name.clone() };
            let retain = retention.map(|_| CatalogChange::SetDatabaseRetention { id, period: retention });
            Ok([create].into_iter().chain(retain).collect())
        };
        self.catalog.commit(create).await?;
        Ok(())
    }

    /// Creates a table, and its database if that is new. Its rows are seen as long as the database says, or for a period
    /// of their own.
    ///
    /// # Errors
    /// `Conflict` if the table exists; `Exhausted` if there are too many tables or columns;
    /// `Unavailable` if the catalog can't be written.
    pub async fn create_table(
        &self,
        database: &DatabaseName,
        name: &TableName,
        schema: TableSchema,
        retention: Option<Duration>,
    ) -> Result<()> {
        self.check_open()?;
        self.check_column_count(&schema)?;
        let create = |state: &CatalogState| {
            self.check_table_count(state)?;
            let (mut changes, mut database_id) = (Vec::new(), state.next_database_id());
            match state.database_by_name(database) {
                Some(known) => database_id = known.id,
                None => changes.push(CatalogChange::CreateDatabase { id: database_id, name: database.clone() }),
            }
            if state.table_by_name(database_id, name.as_str()).is_some() {
                return Err(already_exists());
            }
            let id = state.next_table_id();
            changes.push(CatalogChange::CreateTable {
                database: database_id,
                id,
                name: name.clone(),
                schema: schema.clone(),
            });
            changes.extend(retention.map(|_| CatalogChange::SetTableRetention { id, period: retention }));
            Ok(changes)
        };
        self.catalog.commit(create).await?;
        Ok(())
    }

    /// Deletes a database with its tables and rows. Its name is free at once.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; `Unavailable` if the catalog can't be written.
    pub async fn delete_database(&self, name: &DatabaseName) -> Result<()> {
        self.check_open()?;
        let before = self.catalog.state();
        if let Some(database) = before.database_by_name(name) {
            before.tables_of(database.id).for_each(|table| self.maintenance.watch_files(&table.files));
        }
        let delete = |state: &CatalogState| {
            let id = state.database_by_name(name).ok_or_else(|| database_not_found(name))?.id;
            Ok(vec![CatalogChange::DeleteDatabase { id }])
        };
        let after = self.catalog.commit(delete).await?;
        let tables: Vec<TableId> = match before.database_by_name(name) {
            Some(database) => before.tables_of(database.id).map(|table| table.id).collect(),
            None => Vec::new(),
        };
        for table in tables.into_iter().filter(|table| after.table(*table).is_none()) {
            self.forget(table);
        }
        Ok(())
    }

    /// Deletes a table with its rows. Its name is free at once.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; `Unavailable` if the catalog can't be written.
    pub async fn delete_table(&self, database: &DatabaseName, name: &TableName) -> Result<()> {
        self.check_open()?;
        let deleted = std::sync::Mutex::new(None);
        let delete = |state: &CatalogState| {
            let database_id = state.database_by_name(database).ok_or_else(|| database_not_found(database))?.id;
            let table = state.table_by_name(database_id, name.as_str()).ok_or_else(|| table_not_found(name))?;
            self.maintenance.watch_files(&table.files);
            if let Ok(mut deleted) = deleted.lock() {
                *deleted = Some(table.id);
            }
            Ok(vec![CatalogChange::DeleteTable { id: table.id }])
        };
        self.catalog.commit(delete).await?;
        if let Some(table) = deleted.into_inner().ok().flatten() {
            self.forget(table);
        }
        Ok(())
    }

    /// How long after its time a row is seen, of a database's tables or, if one is named, of that table. `None`: for ever, or
    /// for a table as long as its database says. Holds for every query that starts from now on.
    ///
    /// # Errors
    /// `NotFound` if there is no such database or table; `Unavailable` if the catalog can't be written.
    pub async fn set_retention(
        &self,
        database: &DatabaseName,
        table: Option<&TableName>,
        period: Option<Duration>,
    ) -> Result<()> {
        self.check_open()?;
        let set = |state: &CatalogState| {
            let id = state.database_by_name(database).ok_or_else(|| database_not_found(database))?.id;
            let Some(name) = table else { return Ok(vec![CatalogChange::SetDatabaseRetention { id, period }]) };
            let table = state.table_by_name(id, name.as_str()).ok_or_else(|| table_not_found(name))?;
            Ok(vec![CatalogChange::SetTableRetention { id: table.id, period }])
        };
        self.catalog.commit(set).await?;
        Ok(())
    }

    /// The retention periods of databases and tables that have one, by name.
    pub fn retentions(&self) -> Vec<Retention> {
        let state = self.catalog.state();
        let of_database = |database: &DatabaseName, table: Option<TableName>, period: Option<Duration>| {
            period.map(|period| Retention { database: database.clone(), table, period })
        };
        let mut retentions = Vec::new();
        for database in state.databases() {
            retentions.extend(of_database(&database.name, None, database.retention));
            let tables = state.tables_of(database.id);
            retentions.extend(
                tables.filter_map(|table| of_database(&database.name, Some(table.name.clone()), table.retention)),
            );
        }
        retentions
    }

    /// Deletes rows of a table: those that were acknowledged before this call. Holds for every query that starts after it,
    /// and after every restart. Later writes of the same points are seen.
    ///
    /// What is buffered goes to files first, because a deletion is of rows in files; those are rewritten later.
    ///
    /// # Errors
    /// `NotFound` if there is no such database or table; `Invalid` if a tag of the selection is a field;
    /// `Unavailable` if rows or catalog can't be written: then the rows may be deleted or not, and deleting again is safe.
    pub async fn delete_rows(&self, database: &DatabaseName, name: &TableName, rows: RowSelection) -> Result<()> {
        self.check_open()?;
        let state = self.catalog.state();
        let table = |state: &CatalogState| {
            let id = state.database_by_name(database).ok_or_else(|| database_not_found(database))?.id;
            Ok::<_, Error>(Arc::clone(state.table_by_name(id, name.as_str()).ok_or_else(|| table_not_found(name))?))
        };
        let entry = table(&state)?;
        let Some(rows) = rows_with_known_tags(&entry.schema, rows)? else { return Ok(()) };
        if let Some(table) = self.buffer.table(entry.id) {
            self.maintenance.persist(&table).await?;
        }
        let delete = |state: &CatalogState| {
            let entry = table(state)?;
            self.maintenance.watch_files(&entry.files);
            Ok(vec![CatalogChange::DeleteRows { table: entry.id, rows: rows.clone() }])
        };
        self.catalog.commit(delete).await?;
        if let Some(table) = self.buffer.table(entry.id) {
            table.follow(&self.catalog);
        }
        self.maintenance.look_for_compaction();
        Ok(())
    }

    fn forget(&self, table: TableId) {
        self.buffer.remove(table);
        self.wal.forget(table);
    }

    /// The Parquet files of a database: those of its tables, and those that wait for their removal.
    pub fn files(&self, database: &DatabaseName) -> Vec<StoredFile> {
        let state = self.catalog.state();
        let Some(entry) = state.database_by_name(database) else { return Vec::new() };
        let live = state.tables_of(entry.id).flat_map(|table| {
            table.files.iter().map(|file| StoredFile {
                path: file.path.clone(),
                bytes: file.bytes,
                table: Some(table.name.clone()),
                state: FileState::Live,
                live: Some(Arc::clone(file)),
            })
        });
        let own = format!("{}/", store::paths::database(entry.id, &entry.name));
        let garbage = state.garbage().iter().filter(|file| file.path.starts_with(&own)).map(|file| StoredFile {
            path: file.path.clone(),
            bytes: file.bytes,
            table: None,
            state: FileState::Garbage { deleted_at: file.deleted_at },
            live: None,
        });
        live.chain(garbage).collect()
    }

    /// The last compactions of a database's tables, oldest first, each with the name of its table.
    pub fn compactions(&self, database: &DatabaseName) -> Vec<(TableName, Compaction)> {
        let state = self.catalog.state();
        let Some(id) = state.database_by_name(database).map(|database| database.id) else { return Vec::new() };
        let named = |compaction: Compaction| {
            let table = state.table(compaction.table).filter(|table| table.database == id)?;
            Some((table.name.clone(), compaction))
        };
        self.maintenance.compactions().into_iter().filter_map(named).collect()
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
    pub fn catalog_id(&self) -> uuid::Uuid {
        self.catalog.state().id()
    }

    /// Figures at this moment.
    pub fn metrics(&self) -> EngineMetrics {
        let state = self.catalog.state();
        let running = self.maintenance.compactions().into_iter().filter(|compaction| compaction.ended.is_none());
        let files = || state.tables().flat_map(|table| table.files.iter());
        EngineMetrics {
            databases: state.databases().count(),
            tables: state.table_count(),
            files: files().count(),
            file_bytes: files().map(|file| file.bytes).sum(),
            buffer_bytes: self.buffer.budget().used(),
            buffer_bytes_max: self.buffer.budget().max(),
            persists: self.maintenance.persists(),
            persist_failures: self.maintenance.failures(),
            persisted_rows: self.maintenance.persisted_rows(),
            persisted_bytes: self.maintenance.persisted_bytes(),
            compactions_running: running.count(),
            compaction: self.maintenance.compaction_metrics(),
            garbage_files: state.garbage().len(),
            garbage_removed: self.maintenance.garbage_removed(),
            recent: self.files.recent_metrics(),
            metadata_bytes: self.files.metadata_bytes(),
            wal: self.wal.metrics(),
        }
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
        let persisted = self.maintenance.persist_all().await;
        let log_closed = self.wal.close().await;
        let catalog_closed = self.catalog.close().await;
        persisted.and(log_closed).and(catalog_closed.map_err(Error::from))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the server is shutting down"));
        }
        Ok(())
    }
}

fn database_not_found(name: &DatabaseName) -> Error {
    Error::not_found(format!("database not found: {name}"))
}

/// The selection without tags that no row has; `None` if it asks for a value of such a tag, so that no row is meant.
fn rows_with_known_tags(schema: &TableSchema, mut rows: RowSelection) -> Result<Option<RowSelection>> {
    for (name, value) in &rows.tags {
        match schema.kind(name.as_str()) {
            Some(ColumnKind::Tag) => {}
            Some(ColumnKind::Field(_)) => {
                return Err(Error::invalid(format!("rows are deleted by time and tags; '{name}' is a field")));
            }
            None if value.is_some() => return Ok(None),
            None => {}
        }
    }
    rows.tags.retain(|(name, _)| schema.kind(name.as_str()).is_some());
    Ok(Some(rows))
}

fn table_not_found(name: &TableName) -> Error {
    Error::not_found(format!("table not found: {name}"))
}

fn already_exists() -> Error {
    Error::new(ErrorKind::Conflict, "attempted to create a resource that already exists")
}
