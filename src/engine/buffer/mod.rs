//! Rows between their acknowledgement and their Parquet file.
//!
//! Each table has a list of immutable runs behind one atomic pointer ([`table`]). A commit adds a run;
//! [`tidy`] replaces neighbours by one sorted run, so that a query meets few; [`persist`] turns the
//! oldest into a file and swaps run and file in one step. Readers load the pointer and copy nothing.
//!
//! Always true:
//! - runs are in sequence order and their ranges do not interleave; only neighbours are ever replaced;
//! - every byte of a run is charged to the [`MemoryBudget`] until the last reader lets go of it;
//! - files and runs change in one pointer swap, so that no row is seen twice or missed.
//!
//! Not here: what makes a row durable (`wal`), and which runs may share a point (`query::scan`).

mod budget;
pub mod persist;
mod run;
mod table;
#[cfg(test)]
mod tests;
pub mod tidy;
mod views;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

pub(in crate::engine) use budget::Charge;
pub use budget::MemoryBudget;
pub use run::BufferedRun;
pub(in crate::engine) use table::Frozen;
pub use table::{TableBuffer, TableContents};
pub(in crate::engine) use views::BarredViews;

use crate::clock::Clock;
use crate::model::TableId;

/// How much the buffer may hold, and when it is persisted.
#[derive(Debug, Clone)]
pub struct BufferSettings {
    /// Memory of all runs of all tables, in bytes. Past it a write waits, and is refused if nothing is freed in time.
    pub bytes_max: usize,
    /// A table is persisted when its runs hold this many rows.
    pub persist_rows: usize,
    /// A table is persisted when its runs take this many bytes.
    pub persist_bytes: usize,
    /// A table is persisted when its oldest run is this old.
    pub persist_age: std::time::Duration,
    /// Bytes of the write-ahead log, which may be more than the rows in memory where points are written again and again. Past
    /// half of it tables are persisted whatever their size; past it writes are refused.
    pub log_bytes_max: u64,
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 30,
            persist_rows: 4_000_000,
            persist_bytes: 256 << 20,
            persist_age: std::time::Duration::from_secs(600),
            log_bytes_max: 10 << 30,
        }
    }
}

/// The buffered part of every table.
#[derive(Debug)]
pub struct Buffer {
    tables: RwLock<HashMap<TableId, Arc<TableBuffer>>>,
    budget: Arc<MemoryBudget>,
    clock: Arc<dyn Clock>,
}

impl Buffer {
    /// A buffer without tables.
    pub fn new(bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self { tables: RwLock::default(), budget: Arc::new(MemoryBudget::new(bytes_max)), clock }
    }

    /// What the runs may take and do take.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// The table, if it is known here.
    pub fn table(&self, id: TableId) -> Option<Arc<TableBuffer>> {
        self.tables.read().get(&id).cloned()
    }

    /// Every table.
    pub fn tables(&self) -> Vec<Arc<TableBuffer>> {
        self.tables.read().values().cloned().collect()
    }

    /// The table; `contents` are its first contents if it is new here.
    pub fn table_or_insert(&self, id: TableId, contents: impl FnOnce() -> TableContents) -> Arc<TableBuffer> {
        if let Some(table) = self.table(id) {
            return table;
        }
        let mut tables = self.tables.write();
        let table = tables.entry(id).or_insert_with(|| {
            Arc::new(TableBuffer::new(id, contents(), Arc::clone(&self.budget), Arc::clone(&self.clock)))
        });
        Arc::clone(table)
    }

    /// Time since some moment of this process, by the clock that ages runs.
    pub fn elapsed(&self) -> std::time::Duration {
        self.clock.elapsed()
    }

    /// Forgets a table that was deleted. Snapshots that queries hold stay whole.
    pub fn remove(&self, id: TableId) {
        self.tables.write().remove(&id);
    }
}
