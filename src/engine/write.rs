//! The write path as a story: room, admission, durability, visibility.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::buffer::TableContents;
use super::catalog::{CatalogChange, CatalogState, TableEntry};
use super::wal::{Durability, RecordEntry, Submitted, WriteRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DatabaseId, DatabaseName, Rows, Sequence, TableRows, TableSchema, Timestamp};

/// How long a write waits for room in the buffer before it is refused. Shorter than the timeouts of the
/// clients, so that they get an answer that tells them to come back.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Stores rows: when this returns they are durable (unless `durability` says otherwise) and visible to
    /// every query that starts from now on.
    ///
    /// New databases, tables and columns are made on the way, before the first row that uses them.
    /// Dropping the future after the log has taken the record does not undo the write.
    ///
    /// # Errors
    /// `Conflict` if the schema moved since the rows were parsed, so that they don't fit any more: parse again.
    /// `Exhausted` if a limit of tables or columns would be passed.
    /// `Unavailable` if there is no room in the buffer or storage fails: nothing is acknowledged and
    /// writing the same rows again is safe.
    pub async fn write(&self, database: &DatabaseName, rows: Rows, durability: Durability) -> Result<Sequence> {
        self.submit(database, rows, durability).await?.stored().await
    }

    /// Gives rows to the log, behind all that it was given before, and doesn't wait until they are stored: what one caller submits one
    /// after the other is stored in that order, and shares syncs.
    ///
    /// # Errors
    /// As [`write`](Self::write). Nothing is stored then; whether the rest goes well is known when they are stored.
    pub async fn submit(&self, database: &DatabaseName, rows: Rows, durability: Durability) -> Result<Submitted> {
        self.check_open()?;
        if !self.buffer.budget().has_room(ROOM_PATIENCE).await {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the write buffer is full ({} bytes) and could not be persisted in time",
                    self.buffer.budget().max()
                ),
            ));
        }
        self.check_backlog()?;
        let record = self.admit(database, rows).await?; // known columns, or a catalog change
        self.wal.submit(record, durability).await // durable and visible when it is stored
    }

    /// Times for so many rows that bring none: the one that is returned and the nanoseconds after it. No others get them from
    /// this process, so that no two such rows are one point.
    pub fn arrival_times(&self, rows: usize) -> Timestamp {
        let (now, rows) = (self.clock.now().as_nanos(), i64::try_from(rows).unwrap_or(i64::MAX));
        let next = |free: i64| Some(free.max(now).saturating_add(rows));
        let free = self.arrivals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(now);
        Timestamp::from_nanos(free.max(now))
    }

    /// Refuses while the log is as long as it may be: the store, where its rows should be by now, is in trouble.
    fn check_backlog(&self) -> Result<()> {
        let (bytes, max) = (self.wal.bytes(), self.settings.buffer.log_bytes_max);
        if bytes < max {
            return Ok(());
        }
        let message = format!(
            "the write-ahead log has {bytes} bytes of {max} that it may have, because its rows could not be persisted yet"
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Translates names into ids; what is new goes through the catalog first.
    async fn admit(&self, database: &DatabaseName, rows: Rows) -> Result<WriteRecord> {
        let mut state = self.catalog.state();
        if !self.changes_for(&state, database, &rows)?.is_empty() {
            state = self.catalog.commit(|state| self.changes_for(state, database, &rows)).await?;
        }
        let vanished = || {
            Error::new(ErrorKind::Conflict, format!("database or table of \"{database}\" was deleted during the write"))
        };
        let database = state.database_by_name(database).ok_or_else(vanished)?;
        let entries = rows
            .tables
            .into_iter()
            .filter(|rows| rows.batch.num_rows() > 0)
            .map(|rows| {
                let table = state.table_by_name(database.id, rows.table.as_str()).ok_or_else(vanished)?;
                // Another writer may have widened the catalog a moment ago; the buffer must know before this row does.
                self.take_schema(table);
                Ok(RecordEntry { table: table.id, batch: rows.batch })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(WriteRecord { database: database.id, entries })
    }

    /// What the catalog must learn before these rows may be logged; nothing in the usual case.
    fn changes_for(&self, state: &CatalogState, name: &DatabaseName, rows: &Rows) -> Result<Vec<CatalogChange>> {
        let mut changes = Vec::new();
        let database = match state.database_by_name(name) {
            Some(database) => database.id,
            None => {
                let id = state.next_database_id();
                changes.push(CatalogChange::CreateDatabase { id, name: name.clone() });
                id
            }
        };
        let mut next_table = state.next_table_id();
        for rows in &rows.tables {
            match state.table_by_name(database, rows.table.as_str()) {
                Some(table) => changes.extend(self.widening(table, rows)?),
                None => {
                    changes.push(self.creation(state, database, next_table, rows)?);
                    next_table = next_table.next();
                }
            }
        }
        Ok(changes)
    }

    fn widening(&self, table: &TableEntry, rows: &TableRows) -> Result<Option<CatalogChange>> {
        let moved =
            |error| Error::with_source(ErrorKind::Conflict, format!("the schema of \"{}\" moved", table.name), error);
        let widened = table.schema.widen(&rows.schema).map_err(moved)?;
        if widened.added.is_empty() {
            return Ok(None);
        }
        self.check_column_count(&widened.schema)?;
        Ok(Some(CatalogChange::AddColumns { table: table.id, columns: widened.added }))
    }

    fn creation(
        &self,
        state: &CatalogState,
        database: DatabaseId,
        id: crate::model::TableId,
        rows: &TableRows,
    ) -> Result<CatalogChange> {
        self.check_table_count(state)?;
        self.check_column_count(&rows.schema)?;
        Ok(CatalogChange::CreateTable { database, id, name: rows.table.clone(), schema: rows.schema.clone() })
    }

    /// Lets the buffer know of a new table or column before a row that uses it is logged.
    pub(super) fn take_schema(&self, table: &TableEntry) {
        self.buffer.table_or_insert(table.id, || TableContents::stored(table)).widen(&table.schema);
    }

    pub(super) fn check_column_count(&self, schema: &TableSchema) -> Result<()> {
        let max = self.settings.columns_per_table_max;
        if schema.column_count() <= max {
            return Ok(());
        }
        let message = format!("Update to schema would exceed number of columns per table limit of {max} columns");
        Err(Error::new(ErrorKind::Exhausted, message))
    }

    pub(super) fn check_table_count(&self, state: &CatalogState) -> Result<()> {
        let (count, max) = (state.table_count(), self.settings.tables_max);
        if count < max {
            return Ok(());
        }
        let message = format!(
            "Update to schema would exceed number of tables limit: attempted to create table but already have {count} table(s) (limit: {max})"
        );
        Err(Error::new(ErrorKind::Exhausted, message))
    }
}

/// The tables of one database at one moment: what a parser checks lines against.
#[derive(Debug, Clone)]
pub struct DatabaseSchemas {
    state: Arc<CatalogState>,
    database: Option<DatabaseId>,
}

impl DatabaseSchemas {
    pub(super) fn new(state: Arc<CatalogState>, database: &DatabaseName) -> Self {
        let database = state.database_by_name(database).map(|database| database.id);
        Self { state, database }
    }

    /// The columns of a table, if there is one of this name.
    pub fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.state.table_by_name(self.database?, name).map(|table| Arc::clone(&table.schema))
    }
}
