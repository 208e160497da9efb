//! Databases and tables that were deleted and can be brought back.
//!
//! They are out of the maps by which everything else finds databases and tables, so that no query, write, retention or
//! compaction meets them; and they keep their numbers and files.
//!
//! Always true:
//! - their names are free, and they have another by which a user can name them: `cpu-20240131T120000`;
//! - the tables that were deleted with their database go and come back with it;
//! - writes that were acknowledged for such a table are still persisted into it.
//!
//! Not here: who looks at the time when they go (`engine::garbage`).

use std::sync::Arc;
use std::time::Duration;

use super::super::change::CatalogChange;
use super::super::error::ChangeError;
use super::{CatalogState, DatabaseFacts, TableEntry};
use crate::model::{DatabaseId, DatabaseName, TableId, TableName, Timestamp};

/// How and until when something is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftDeletion {
    /// What it is called until it is brought back; no other database, or table of its database, is called so.
    pub name: String,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// From when on it may be dropped for good; `None`: never by itself.
    pub hard_delete_at: Option<Timestamp>,
}

impl SoftDeletion {
    fn is_due(&self, now: Timestamp) -> bool {
        self.hard_delete_at.is_some_and(|at| at <= now)
    }
}

/// A database that can be brought back. Its tables are among the deleted tables.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedDatabase {
    /// Its number.
    pub id: DatabaseId,
    /// The name that it had.
    pub name: DatabaseName,
    /// How long after its time a row was seen.
    pub retention: Option<Duration>,
    /// The retention policy that was meant where a request of InfluxDB 1 named none.
    pub default_policy: Option<String>,
    /// How and until when it is deleted.
    pub deletion: SoftDeletion,
}

/// A table that can be brought back.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedTable {
    /// The table with the name that it had.
    pub entry: Arc<TableEntry>,
    /// How and until when it is deleted.
    pub deletion: SoftDeletion,
    /// Whether it was deleted by the deletion of its database, whose time counts then.
    pub with_database: bool,
}

impl CatalogState {
    /// Databases that can be brought back, by number.
    pub fn deleted_databases(&self) -> impl Iterator<Item = &Arc<DeletedDatabase>> {
        self.deleted_databases.values()
    }

    /// Tables that can be brought back, by number; also those of deleted databases.
    pub fn deleted_tables(&self) -> impl Iterator<Item = &Arc<DeletedTable>> {
        self.deleted_tables.values()
    }

    /// The tables whose files are kept, deleted or not.
    pub fn kept_tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.tables().chain(self.deleted_tables().map(|table| &table.entry))
    }

    /// The table of this number, deleted or not, if its files are kept.
    pub fn kept_table(&self, id: TableId) -> Option<&Arc<TableEntry>> {
        self.table(id).or_else(|| self.deleted_tables.get(&id).map(|table| &table.entry))
    }

    /// The name of the database of this number, deleted or not.
    pub fn kept_database_name(&self, id: DatabaseId) -> Option<&DatabaseName> {
        self.database_names.get(&id).or_else(|| self.deleted_databases.get(&id).map(|database| &database.name))
    }

    /// The changes that drop for good what was deleted for long enough.
    pub fn due_deletions(&self, now: Timestamp) -> Vec<CatalogChange> {
        let databases = self.deleted_databases().filter(|database| database.deletion.is_due(now));
        let drop_databases = databases.map(|database| CatalogChange::DeleteDatabase { id: database.id });
        let goes_with_its_database = |table: &DeletedTable| {
            table.with_database
                || self
                    .deleted_databases
                    .get(&table.entry.database)
                    .is_some_and(|database| database.deletion.is_due(now))
        };
        let tables =
            self.deleted_tables().filter(|table| table.deletion.is_due(now) && !goes_with_its_database(table.as_ref()));
        let drop_tables = tables.map(|table| CatalogChange::DeleteTable { id: table.entry.id });
        drop_databases.chain(drop_tables).collect()
    }

    pub(super) fn soft_delete_database(
        &mut self,
        id: DatabaseId,
        hard_delete_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), ChangeError> {
        if let Some(deleted) = self.deleted_databases.get_mut(&id) {
            Arc::make_mut(deleted).deletion.hard_delete_at = hard_delete_at;
            return Ok(());
        }
        let database = self.database(id).ok_or(ChangeError::NoDatabase { id })?;
        let (name, retention, default_policy) =
            (database.name.clone(), database.retention, database.default_policy.clone());
        let tables: Vec<TableId> = self.tables_of(id).map(|table| table.id).collect();
        for table in tables {
            self.put_table_aside(table, hard_delete_at, at, true)?;
        }
        let is_taken = |wanted: &str| {
            self.databases.values().any(|database| database.name.as_str() == wanted)
                || self.deleted_databases().any(|database| database.deletion.name == wanted)
        };
        let deletion =
            SoftDeletion { name: name_aside(name.as_str(), id.get(), at, is_taken), deleted_at: at, hard_delete_at };
        self.database_names.remove(&id);
        self.databases.remove(&name);
        let deleted = DeletedDatabase { id, name, retention, default_policy, deletion };
        self.deleted_databases.insert(id, Arc::new(deleted));
        Ok(())
    }

    pub(super) fn soft_delete_table(
        &mut self,
        id: TableId,
        hard_delete_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), ChangeError> {
        if let Some(deleted) = self.deleted_tables.get_mut(&id) {
            Arc::make_mut(deleted).deletion.hard_delete_at = hard_delete_at;
            return Ok(());
        }
        self.put_table_aside(id, hard_delete_at, at, false)
    }

    fn put_table_aside(
        &mut self,
        id: TableId,
        hard_delete_at: Option<Timestamp>,
        at: Timestamp,
        with_database: bool,
    ) -> Result<(), ChangeError> {
        let entry = self.tables.remove(&id).ok_or_else(|| self.no_table(id))?;
        let database = self.database_mut(entry.database)?;
        database.tables.remove(&entry.name);
        let name = if with_database {
            entry.name.to_string() // its database has another
        } else {
            let database = database.id;
            let is_taken = |wanted: &str| {
                self.table_by_name(database, wanted).is_some()
                    || self
                        .deleted_tables()
                        .any(|table| table.entry.database == database && table.deletion.name == wanted)
            };
            name_aside(entry.name.as_str(), id.get(), at, is_taken)
        };
        let deletion = SoftDeletion { name, deleted_at: at, hard_delete_at };
        self.deleted_tables.insert(id, Arc::new(DeletedTable { entry, deletion, with_database }));
        Ok(())
    }

    pub(super) fn undelete_database(&mut self, id: DatabaseId, name: &DatabaseName) -> Result<(), ChangeError> {
        let deleted = self.deleted_databases.remove(&id).ok_or(ChangeError::NoDatabase { id })?;
        let (retention, default_policy) = (deleted.retention, deleted.default_policy.clone());
        self.insert_database(DatabaseFacts { id, name: name.clone(), retention, default_policy })?;
        let is_its_own = |table: &&Arc<DeletedTable>| table.with_database && table.entry.database == id;
        let tables: Vec<TableId> = self.deleted_tables().filter(is_its_own).map(|table| table.entry.id).collect();
        for table in tables {
            self.bring_table_back(table, None)?;
        }
        Ok(())
    }

    pub(super) fn undelete_table(&mut self, id: TableId, name: &TableName) -> Result<(), ChangeError> {
        self.bring_table_back(id, Some(name))
    }

    fn bring_table_back(&mut self, id: TableId, name: Option<&TableName>) -> Result<(), ChangeError> {
        let deleted = self.deleted_tables.remove(&id).ok_or_else(|| self.no_table(id))?;
        let mut entry = TableEntry::clone(&deleted.entry);
        if let Some(name) = name {
            entry.name = name.clone();
        }
        self.insert_table(entry)
    }

    /// Drops a deleted table for good. No query can have seen its files since it was deleted.
    pub(super) fn drop_deleted_table(&mut self, id: TableId) -> Result<(), ChangeError> {
        let deleted = self.deleted_tables.remove(&id).ok_or_else(|| self.no_table(id))?;
        self.discard(deleted.entry.files.iter(), deleted.deletion.deleted_at);
        Ok(())
    }

    /// Drops the deleted tables of a database that goes for good.
    pub(super) fn drop_deleted_tables_of(&mut self, database: DatabaseId) -> Result<(), ChangeError> {
        let own = self.deleted_tables().filter(|table| table.entry.database == database);
        let own: Vec<TableId> = own.map(|table| table.entry.id).collect();
        own.into_iter().try_for_each(|table| self.drop_deleted_table(table))
    }

    /// The table of this number for adding files, deleted or not.
    pub(super) fn kept_table_mut(&mut self, id: TableId) -> Result<&mut TableEntry, ChangeError> {
        if self.deleted_tables.get(&id).is_none() {
            return self.table_mut(id);
        }
        let missing = self.no_table(id);
        let deleted = self.deleted_tables.get_mut(&id).ok_or(missing)?;
        Ok(Arc::make_mut(&mut Arc::make_mut(deleted).entry))
    }

    pub(super) fn restore_deleted(&mut self, databases: Vec<DeletedDatabase>, tables: Vec<DeletedTable>) {
        for database in databases {
            self.deleted_databases.insert(database.id, Arc::new(database));
        }
        for table in tables {
            self.deleted_tables.insert(table.entry.id, Arc::new(table));
        }
    }
}

/// As the users of InfluxDB 3 know it: the name and the moment; of two within a second the later one with its number.
fn name_aside(name: &str, id: u32, at: Timestamp, is_taken: impl Fn(&str) -> bool) -> String {
    let moment = chrono::DateTime::from_timestamp_nanos(at.as_nanos()).format("%Y%m%dT%H%M%S");
    let aside = format!("{name}-{moment}");
    if is_taken(&aside) { format!("{aside}-{id}") } else { aside }
}
