//! Databases, tables and rows at a user's word: made, kept for a while, rows deleted. Each is one commit of the catalog.
//!
//! Not here: the deletion of databases and tables (`deletions`), tables and columns that a write brings along (`write`), and when space comes back (`garbage`, `compaction`).

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::buffer::BarredViews;
use super::catalog::{CatalogChange, CatalogState, DatabaseEntry, TableEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ColumnKind, DatabaseId, DatabaseName, RowSelection, TableName, TableSchema};
use crate::steps::{self, Step};

impl Engine {
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

    /// Creates the database that a retention policy of InfluxDB 1 is; if it is to be the default one, requests that name none mean it
    /// from then on. The database that it belongs to is created too if it is new.
    ///
    /// # Errors
    /// `Conflict` if there is such a policy; `Invalid` if its name can't be that of a database; `Unavailable` if the catalog can't be
    /// written.
    pub async fn create_policy(
        &self,
        database: &DatabaseName,
        policy: &str,
        retention: Option<Duration>,
        is_default: bool,
    ) -> Result<()> {
        self.check_open()?;
        let own = database.of_policy(policy).map_err(|error| Error::invalid(error.to_string()))?;
        let create = |state: &CatalogState| {
            if state.database_by_name(&own).is_some() {
                return Err(already_exists());
            }
            let mut next = state.next_database_id().get();
            let mut changes = Vec::new();
            let mut id_of = |name: &DatabaseName| match state.database_by_name(name) {
                Some(known) => known.id,
                None => {
                    let id = DatabaseId::new(next);
                    next = next.saturating_add(1);
                    changes.push(CatalogChange::CreateDatabase { id, name: name.clone() });
                    id
                }
            };
            let (id, policy_id) = (id_of(database), id_of(&own));
            changes.extend(retention.map(|_| CatalogChange::SetDatabaseRetention { id: policy_id, period: retention }));
            if is_default {
                changes.push(CatalogChange::SetDefaultPolicy { id, policy: Some(policy.to_lowercase()) });
            }
            Ok(changes)
        };
        self.catalog.commit(create).await?;
        Ok(())
    }

    /// Says which retention policy of a database requests of InfluxDB 1 mean that name none; `None`: the database itself.
    ///
    /// # Errors
    /// `NotFound` if there is no such database; `Unavailable` if the catalog can't be written.
    pub async fn set_default_policy(&self, database: &DatabaseName, policy: Option<&str>) -> Result<()> {
        self.check_open()?;
        let policy = policy.map(str::to_lowercase);
        let set = |state: &CatalogState| {
            let database = find_database(state, database)?;
            if database.default_policy == policy {
                return Ok(Vec::new());
            }
            Ok(vec![CatalogChange::SetDefaultPolicy { id: database.id, policy: policy.clone() }])
        };
        self.catalog.commit(set).await?;
        Ok(())
    }

    /// The retention policy that requests of InfluxDB 1 mean that name none; `None`: the database itself. There may be none of that
    /// name any more.
    pub fn default_policy(&self, database: &DatabaseName) -> Option<String> {
        self.catalog.state().database_by_name(database)?.default_policy.clone()
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
            Ok(vec![match table {
                None => CatalogChange::SetDatabaseRetention { id: find_database(state, database)?.id, period },
                Some(name) => CatalogChange::SetTableRetention { id: find_table(state, database, name)?.id, period },
            }])
        };
        // Rows that may be gone from the files already, and those that a longer period shows again, are in no view.
        let _barred = self.bar_views(database);
        self.catalog.commit(set).await?;
        Ok(())
    }

    /// Lets the tables of a database have no views of their caches until the guards are dropped.
    fn bar_views(&self, database: &DatabaseName) -> Vec<BarredViews> {
        let state = self.catalog.state();
        let id = state.database_by_name(database).map(|database| database.id);
        let tables = state.kept_tables().filter(|table| Some(table.database) == id); // those too that may come back
        tables.filter_map(|table| Some(self.buffer.table(table.id)?.bar_views())).collect()
    }

    /// Deletes the rows of a table that one of the selections means, all together: those that were acknowledged before this
    /// call. Holds for every query that starts after it,
    /// and after every restart. Later writes of the same points are seen.
    ///
    /// What is buffered goes to files first, because a deletion is of rows in files; those are rewritten later.
    ///
    /// # Errors
    /// `NotFound` if there is no such database or table; `Invalid` if a tag of the selection is a field;
    /// `Unavailable` if rows or catalog can't be written: then the rows may be deleted or not, and deleting again is safe.
    pub async fn delete_rows(
        &self,
        database: &DatabaseName,
        name: &TableName,
        selections: impl IntoIterator<Item = RowSelection>,
    ) -> Result<()> {
        self.check_open()?;
        let state = self.catalog.state();
        let entry = find_table(&state, database, name)?;
        let mut changes = Vec::new();
        for rows in selections {
            let known = rows_with_known_tags(&entry.schema, rows)?;
            changes.extend(known.map(|rows| CatalogChange::DeleteRows { table: entry.id, rows }));
        }
        if changes.is_empty() {
            return Ok(());
        }
        if let Some(table) = self.buffer.table(entry.id) {
            self.maintenance.persist(&table).await?;
        }
        steps::reached(Step::DeletionPersisted);
        self.catalog.commit(|_| Ok(changes.clone())).await?;
        steps::reached(Step::RowsDeleted);
        if let Some(table) = self.buffer.table(entry.id) {
            table.follow(&self.catalog);
        }
        self.maintenance.look_for_compaction();
        Ok(())
    }
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

pub(super) fn find_database<'a>(state: &'a CatalogState, name: &DatabaseName) -> Result<&'a Arc<DatabaseEntry>> {
    state.database_by_name(name).ok_or_else(|| Error::not_found(format!("database not found: {name}")))
}

pub(super) fn find_table<'a>(
    state: &'a CatalogState,
    database: &DatabaseName,
    name: &TableName,
) -> Result<&'a Arc<TableEntry>> {
    let database = find_database(state, database)?.id;
    let table = state.table_by_name(database, name.as_str());
    table.ok_or_else(|| Error::not_found(format!("table not found: {name}")))
}

pub(super) fn already_exists() -> Error {
    Error::new(ErrorKind::Conflict, "attempted to create a resource that already exists")
}
