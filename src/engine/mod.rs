//! Keeps rows: durable in the log, visible in the buffer, at rest in Parquet. The only door for query and server.
//!
//! | room | keeps |
//! |---|---|
//! | [`wal`] | every acknowledged write until it is in Parquet |
//! | [`buffer`] | the same writes as runs that queries read |
//! | [`store`] | Parquet files and catalog records, as objects |
//! | [`catalog`] | which databases, tables, columns and files there are |
//!
//! [`open`] is recovery, [`write`] the way of a write, [`maintenance`] what happens later, [`snapshot`] what a query sees.
//!
//! Not here: SQL, HTTP, gRPC. `rg datafusion src/engine` finds nothing.

pub mod buffer;
pub mod catalog;
mod maintenance;
mod open;
mod snapshot;
pub mod store;
pub mod wal;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use buffer::{Buffer, BufferSettings, TableContents};
use catalog::{Catalog, CatalogChange, CatalogState};
use maintenance::Maintenance;
use store::Store;
use wal::{Wal, WalMetrics, WalSettings};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{DatabaseName, TableId, TableName, TableSchema};
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
    catalog: Arc<Catalog>,
    wal: Arc<Wal>,
    buffer: Arc<Buffer>,
    maintenance: Arc<Maintenance>,
    tasks: Tasks,
    closed: AtomicBool,
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
            None => Arc::new(TableContents::stored(Arc::clone(&entry.schema), Vec::new(), entry.persisted_through)),
        };
        // An empty table may have been widened in the catalog only.
        let schema =
            if contents.schema.column_count() < entry.schema.column_count() { &entry.schema } else { &contents.schema };
        Some(Arc::new(TableSnapshot {
            database: database.clone(),
            name: entry.name.clone(),
            id: entry.id,
            schema: Arc::clone(schema),
            runs: contents.runs.clone(),
            files: contents.files.to_vec(),
        }))
    }

    /// Creates a database.
    ///
    /// # Errors
    /// `Conflict` if it exists; `Unavailable` if the catalog can't be written.
    pub async fn create_database(&self, name: &DatabaseName) -> Result<()> {
        self.check_open()?;
        let create = |state: &CatalogState| {
            if state.database_by_name(name).is_some() {
                return Err(already_exists());
            }
            Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() }])
        };
        self.catalog.commit(create).await?;
        Ok(())
    }

    /// Creates a table, and its database if that is new.
    ///
    /// # Errors
    /// `Conflict` if the table exists; `Exhausted` if there are too many tables or columns;
    /// `Unavailable` if the catalog can't be written.
    pub async fn create_table(&self, database: &DatabaseName, name: &TableName, schema: TableSchema) -> Result<()> {
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
            let table = state
                .table_by_name(database_id, name.as_str())
                .ok_or_else(|| Error::not_found(format!("table not found: {name}")))?;
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

    fn forget(&self, table: TableId) {
        self.buffer.remove(table);
        self.wal.forget(table);
    }

    /// Where files and catalog are.
    pub fn store(&self) -> &Store {
        &self.store
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

fn already_exists() -> Error {
    Error::new(ErrorKind::Conflict, "attempted to create a resource that already exists")
}
