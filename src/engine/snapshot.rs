//! What one query sees of one table: schema, buffered runs and stored files at one instant.

use std::sync::Arc;

use crate::engine::buffer::{BufferedRun, TableBuffer};
use crate::engine::caches::CacheView;
use crate::model::{DatabaseName, Deletion, FileList, TableId, TableName, TableSchema, Timestamp};

/// One table at one instant. It never changes; taking one costs an atomic load and copies no row.
///
/// Runs and files together hold every acknowledged row exactly once for each write of it. Oldest
/// first: a file's writes are all older than a buffered run's, and of two runs or two files the later one
/// in its list holds the later writes. That order is what [`crate::model::last_write_wins`] needs.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// The database.
    pub database: DatabaseName,
    /// The table's name.
    pub name: TableName,
    /// The table, as the catalog knows it.
    pub id: TableId,
    /// Rows before this time have expired: they may still be in runs and files, but are not to be seen.
    pub visible_from: Option<Timestamp>,
    /// Every column that occurs in the runs and files, and maybe more.
    pub schema: Arc<TableSchema>,
    /// What is not in Parquet yet, oldest first.
    pub runs: Vec<Arc<BufferedRun>>,
    /// What is in the object store, oldest first.
    pub files: FileList,
    /// Rows that are deleted and still in some of the files; see [`Deletion::applies_to`].
    pub deletions: Arc<Vec<Deletion>>,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What is kept for the table's caches; see [`TableSnapshot::cached`].
    pub(super) views: Arc<Vec<Arc<CacheView>>>,
    /// Where a view may be brought up to date.
    pub(super) buffer: Option<Arc<TableBuffer>>,
}
