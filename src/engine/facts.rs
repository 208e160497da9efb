//! What an engine says of itself: its files, its compactions, its figures.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::{SoftDeletion, TableEntry};
use super::compaction::{Compaction, CompactionMetrics};
use super::mirror::MirrorFacts;
use super::store::decoded::DecodedMetrics;
use super::store::disk_cache::{DiskCache, DiskCacheMetrics};
use super::store::paths;
use super::store::recent::RecentMetrics;
use super::wal::WalMetrics;
use crate::model::{DataFile, DatabaseName, TableName, Timestamp};

/// A Parquet file that the catalog knows.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its table, while it has one; of a deleted table the name that it has since.
    pub table: Option<TableName>,
    /// Whether it is read.
    pub state: FileState,
    /// What is known of its rows, while it has a table.
    pub live: Option<Arc<DataFile>>,
    /// What the disk cache has of it, in bytes of the local disk.
    pub disk_cache_bytes: u64,
}

/// Whether a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// It holds rows of a table.
    Live,
    /// It holds rows of a deleted table that can be brought back.
    Deleted,
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

/// A table of a database, also one that can be brought back.
#[derive(Debug, Clone)]
pub struct TableFacts {
    /// Its name; of a deleted table the one that it has since.
    pub name: String,
    /// Its tags and fields.
    pub columns: usize,
    /// Its Parquet files.
    pub files: usize,
    /// Their rows. Rows that are written again count again until compaction merges them.
    pub file_rows: u64,
    /// Their size in bytes.
    pub file_bytes: u64,
    /// How it is deleted, if it is.
    pub deletion: Option<SoftDeletion>,
}

/// Figures of an engine at one moment.
#[derive(Debug, Clone)]
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
    /// How long nothing is removed for, because the clock has jumped; zero if it hasn't.
    pub removals_held_for: Duration,
    /// Parquet data in memory.
    pub recent: RecentMetrics,
    /// Decoded columns in memory.
    pub decoded: DecodedMetrics,
    /// Parquet data on the local disk; zeros if there is no cache there.
    pub disk_cache: DiskCacheMetrics,
    /// Memory of cached page indexes and footers in bytes.
    pub metadata_bytes: u64,
    /// The log.
    pub wal: WalMetrics,
    /// The mirror, if there is one.
    pub mirror: Option<MirrorFacts>,
}

impl EngineMetrics {
    /// Bytes of Parquet that were written since the start for each byte that came from the buffer: 1 without compaction, 0 if nothing was written.
    pub fn write_amplification(&self) -> f64 {
        match self.persisted_bytes {
            0 => 0.0,
            persisted => (persisted + self.compaction.bytes_written) as f64 / persisted as f64,
        }
    }
}

impl Engine {
    /// The Parquet files of a database: those of its tables, and those that wait for their removal.
    pub fn files(&self, database: &DatabaseName) -> Vec<StoredFile> {
        let state = self.catalog.state();
        let Some(entry) = state.database_by_name(database) else { return Vec::new() };
        let cached = |file: &DataFile| self.files.disk_cache().map_or(0, |disk| disk.bytes_of(file.id));
        let live = state.tables_of(entry.id).flat_map(|table| {
            table.files.iter().map(move |file| StoredFile {
                path: file.path.clone(),
                bytes: file.bytes,
                table: Some(table.name.clone()),
                state: FileState::Live,
                live: Some(Arc::clone(file)),
                disk_cache_bytes: cached(file),
            })
        });
        let aside = state.deleted_tables().filter(|table| table.entry.database == entry.id);
        let deleted = aside.flat_map(|table| {
            table.entry.files.iter().map(move |file| StoredFile {
                path: file.path.clone(),
                bytes: file.bytes,
                table: TableName::new(&table.deletion.name).ok(),
                state: FileState::Deleted,
                live: Some(Arc::clone(file)),
                disk_cache_bytes: cached(file),
            })
        });
        let own = format!("{}/", paths::database(entry.id, &entry.name));
        let garbage = state.garbage().filter(|file| file.path.starts_with(&own)).map(|file| StoredFile {
            path: file.path.to_string(),
            bytes: file.bytes,
            table: None,
            state: FileState::Garbage { deleted_at: file.deleted_at },
            live: None,
            disk_cache_bytes: 0,
        });
        live.chain(deleted).chain(garbage).collect()
    }

    /// The tables of a database by name, then those that can be brought back; none if there is no such database.
    pub fn table_facts(&self, database: &DatabaseName) -> Vec<TableFacts> {
        let state = self.catalog.state();
        let Some(entry) = state.database_by_name(database) else { return Vec::new() };
        let facts = |name: &str, table: &TableEntry, deletion: Option<&SoftDeletion>| TableFacts {
            name: name.to_owned(),
            columns: table.schema.column_count(),
            files: table.files.len(),
            file_rows: table.files.rows(),
            file_bytes: table.files.bytes(),
            deletion: deletion.cloned(),
        };
        let live = state.tables_of(entry.id).map(|table| facts(table.name.as_str(), table, None));
        let aside = state.deleted_tables().filter(|table| table.entry.database == entry.id);
        let deleted = aside.map(|table| facts(&table.deletion.name, &table.entry, Some(&table.deletion)));
        live.chain(deleted).collect()
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

    /// How the mirror is doing, if there is one.
    pub fn mirror(&self) -> Option<MirrorFacts> {
        self.mirror.as_ref().map(|mirror| mirror.facts())
    }

    /// Figures at this moment.
    pub fn metrics(&self) -> EngineMetrics {
        let state = self.catalog.state();
        EngineMetrics {
            databases: state.databases().count(),
            tables: state.table_count(),
            files: state.tables().map(|table| table.files.len()).sum(),
            file_bytes: state.tables().map(|table| table.files.bytes()).sum(),
            buffer_bytes: self.buffer.budget().used(),
            buffer_bytes_max: self.buffer.budget().max(),
            persists: self.maintenance.persists(),
            persist_failures: self.maintenance.failures(),
            persisted_rows: self.maintenance.persisted_rows(),
            persisted_bytes: self.maintenance.persisted_bytes(),
            compactions_running: self.maintenance.compactions_running(),
            compaction: self.maintenance.compaction_metrics(),
            garbage_files: state.garbage_count(),
            garbage_removed: self.maintenance.garbage_removed(),
            removals_held_for: self.maintenance.removals_held_for(),
            recent: self.files.recent_metrics(),
            decoded: self.files.decoded_metrics(),
            disk_cache: self.files.disk_cache().map(DiskCache::metrics).unwrap_or_default(),
            metadata_bytes: self.files.metadata_bytes(),
            wal: self.wal.metrics(),
            mirror: self.mirror(),
        }
    }
}
