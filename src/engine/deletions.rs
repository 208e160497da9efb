//! Databases and tables that a user deletes and perhaps wants back. Each step is one commit of the catalog.
//!
//! A deleted table can't be seen and its name is free, but its rows stay until it is dropped for good: the files because the
//! catalog keeps naming them, what is buffered because it is persisted like that of any table. So a write that was acknowledged
//! before the deletion, or met it halfway, is there when the table comes back, whatever was restarted in between.
//!
//! Not here: rows (`databases`), and the loop that looks for what is due (`maintenance`, `garbage`).

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::catalog::{CatalogChange, CatalogState, DeletedDatabase, DeletedTable, SoftDeletion};
use super::databases::{already_exists, find_database};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DatabaseName, TableId, TableName, Timestamp};
use crate::steps::{self, Step};

/// When something that is deleted goes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HardDelete {
    /// At once: it can't be brought back.
    Now,
    /// After the engine's own time.
    #[default]
    Default,
    /// At a moment.
    At(Timestamp),
    /// Not by itself.
    Never,
}

impl HardDelete {
    /// The moment, for what is deleted `now` and not at once.
    fn moment(self, now: Timestamp, default: Duration) -> Option<Timestamp> {
        let after = |period: Duration| {
            let period = i64::try_from(period.as_nanos()).unwrap_or(i64::MAX);
            Timestamp::from_nanos(now.as_nanos().saturating_add(period))
        };
        match self {
            Self::Now => Some(now),
            Self::Default => Some(after(default)),
            Self::At(moment) => Some(moment),
            Self::Never => None,
        }
    }
}

impl Engine {
    /// Deletes a database with its tables and rows. Its name is free at once. Until it goes for good it can be brought back.
    ///
    /// Of a database that is deleted already, by the name that it has since, the time changes.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; `Unavailable` if the catalog can't be written.
    pub async fn delete_database(&self, name: &DatabaseName, hard: HardDelete) -> Result<()> {
        let (now, default) = (self.clock.now(), self.settings.hard_delete_default);
        self.delete(|state| {
            let aside = || state.deleted_databases().find(|database| database.deletion.name == name.as_str());
            let id = match find_database(state, name) {
                Ok(database) => database.id,
                Err(error) => aside().ok_or(error)?.id,
            };
            Ok(match hard {
                HardDelete::Now => CatalogChange::DeleteDatabase { id },
                _ => CatalogChange::SoftDeleteDatabase { id, hard_delete_at: hard.moment(now, default) },
            })
        })
        .await
    }

    /// Deletes a table with its rows. Its name is free at once. Until it goes for good it can be brought back.
    ///
    /// Of a table that is deleted already, by the name that it has since, the time changes.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; `Unavailable` if the catalog can't be written.
    pub async fn delete_table(&self, database: &DatabaseName, name: &TableName, hard: HardDelete) -> Result<()> {
        let (now, default) = (self.clock.now(), self.settings.hard_delete_default);
        self.delete(|state| {
            let database = find_database(state, database)?.id;
            let aside = || {
                state
                    .deleted_tables()
                    .find(|table| table.entry.database == database && table.deletion.name == name.as_str())
            };
            let id = match state.table_by_name(database, name.as_str()) {
                Some(table) => table.id,
                None => aside().ok_or_else(|| not_found("table", name.as_str()))?.entry.id,
            };
            Ok(match hard {
                HardDelete::Now => CatalogChange::DeleteTable { id },
                _ => CatalogChange::SoftDeleteTable { id, hard_delete_at: hard.moment(now, default) },
            })
        })
        .await
    }

    /// Brings a deleted database back with the tables that were deleted with it. `name` is the one that it has since its
    /// deletion, or the one that it had, if only one deleted database had that. Returns the name that it has now: `new_name`, or
    /// the one that it had.
    ///
    /// # Errors
    /// `NotFound` if there is no such deleted database; `Conflict` if several are meant or the new name is taken;
    /// `Exhausted` if there would be too many tables; `Unavailable` if the catalog can't be written.
    pub async fn undelete_database(&self, name: &str, new_name: Option<&DatabaseName>) -> Result<DatabaseName> {
        self.check_open()?;
        let deleted = |state: &CatalogState| -> Result<Arc<DeletedDatabase>> {
            let all = state.deleted_databases().map(|database| (database, database.name.as_str(), &database.deletion));
            find_deleted("database", name, all).cloned()
        };
        let back_as = |deleted: &DeletedDatabase| new_name.unwrap_or(&deleted.name).clone();
        let undelete = |state: &CatalogState| {
            let deleted = deleted(state)?;
            let name = back_as(&deleted);
            if state.database_by_name(&name).is_some() {
                return Err(already_exists());
            }
            let comes_along = |table: &&Arc<DeletedTable>| table.with_database && table.entry.database == deleted.id;
            self.check_room_for_tables(state, state.deleted_tables().filter(comes_along).count())?;
            Ok(vec![CatalogChange::UndeleteDatabase { id: deleted.id, name }])
        };
        let id = deleted(&self.catalog.state())?.id;
        let state = self.catalog.commit(undelete).await?;
        self.maintenance.look_for_compaction();
        let gone = || not_found("database", name);
        Ok(state.database(id).ok_or_else(gone)?.name.clone())
    }

    /// Brings a deleted table back with all its rows. Names are as in [`Engine::undelete_database`].
    ///
    /// # Errors
    /// As there; `NotFound` also if the database is missing or is deleted itself.
    pub async fn undelete_table(
        &self,
        database: &DatabaseName,
        name: &str,
        new_name: Option<&TableName>,
    ) -> Result<TableName> {
        self.check_open()?;
        let deleted = |state: &CatalogState| -> Result<Arc<DeletedTable>> {
            let database = find_database(state, database)?.id;
            let own = state.deleted_tables().filter(|table| table.entry.database == database);
            find_deleted("table", name, own.map(|table| (table, table.entry.name.as_str(), &table.deletion))).cloned()
        };
        let undelete = |state: &CatalogState| {
            let deleted = deleted(state)?;
            let name = new_name.unwrap_or(&deleted.entry.name).clone();
            if state.table_by_name(deleted.entry.database, name.as_str()).is_some() {
                return Err(already_exists());
            }
            self.check_room_for_tables(state, 1)?;
            Ok(vec![CatalogChange::UndeleteTable { id: deleted.entry.id, name }])
        };
        let id: TableId = deleted(&self.catalog.state())?.entry.id;
        let state = self.catalog.commit(undelete).await?;
        self.maintenance.look_for_compaction();
        let gone = || not_found("table", name);
        Ok(state.table(id).ok_or_else(gone)?.name.clone())
    }

    /// Databases that can be brought back, by number.
    pub fn deleted_databases(&self) -> Vec<SoftDeletion> {
        self.catalog.state().deleted_databases().map(|database| database.deletion.clone()).collect()
    }

    /// Commits a change that deletes tables. What is left of them in memory is persisted, or forgotten with those that
    /// can't be brought back.
    async fn delete(&self, change: impl Fn(&CatalogState) -> Result<CatalogChange>) -> Result<()> {
        self.check_open()?;
        self.catalog.commit(|state| Ok(vec![change(state)?])).await?;
        steps::reached(Step::TableDeleted);
        self.maintenance.forget_dropped_tables();
        let state = self.catalog.state();
        for table in self.buffer.tables().into_iter().filter(|table| state.table(table.id()).is_none()) {
            // It is deleted all the same: its rows are in the log, and persisting is tried again until it works.
            if let Err(error) = self.maintenance.persist(&table).await {
                let table = table.id().get();
                tracing::warn!(table, error = error.report(), "could not persist a deleted table; trying again");
            }
        }
        Ok(())
    }

    fn check_room_for_tables(&self, state: &CatalogState, more: usize) -> Result<()> {
        let (count, max) = (state.table_count(), self.settings.tables_max);
        if count + more <= max {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            format!("there are {count} tables of at most {max}; {more} more don't fit"),
        ))
    }
}

/// The one that is called so since its deletion, or the only one that was called so before. Each comes with its name before.
fn find_deleted<'a, T>(
    what: &'static str,
    name: &str,
    deleted: impl Iterator<Item = (&'a T, &'a str, &'a SoftDeletion)>,
) -> Result<&'a T> {
    let mut named_so_before = Vec::new();
    for (found, before, deletion) in deleted {
        if deletion.name == name {
            return Ok(found);
        }
        if before == name {
            named_so_before.push((found, deletion.name.as_str()));
        }
    }
    match named_so_before.as_slice() {
        [(only, _)] => Ok(only),
        [] => Err(not_found(&format!("deleted {what}"), name)),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| *name).collect();
            let message = format!("several deleted {what}s were named '{name}', choose one: {}", names.join(", "));
            Err(Error::new(ErrorKind::Conflict, message))
        }
    }
}

fn not_found(what: &str, name: &str) -> Error {
    Error::not_found(format!("{what} not found: {name}"))
}
