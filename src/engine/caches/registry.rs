//! The caches of all tables: made, listed, filled and deleted.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::view::{CacheView, FillToken, Phase};
use super::{CACHES_PER_TABLE_MAX, CacheFill, RETRY_AFTER};
use crate::engine::Engine;
use crate::engine::buffer::{MemoryBudget, TableContents};
use crate::engine::catalog::{CatalogChange, CatalogState, TableEntry};
use crate::engine::databases::{already_exists, find_table};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CacheDefinition, CacheKind, DatabaseName, TableId, TableName};

/// What all views share.
#[derive(Debug)]
pub(in crate::engine) struct Caches {
    memory: Arc<MemoryBudget>,
    wanted: Notify,
    /// Caches whose table had to be asked since it was last looked.
    missed: Mutex<HashSet<(TableId, CacheKind, String)>>,
}

impl Caches {
    /// Views that take so many bytes together.
    pub(in crate::engine) fn new(bytes_max: usize) -> Self {
        Self { memory: Arc::new(MemoryBudget::new(bytes_max)), wanted: Notify::new(), missed: Mutex::default() }
    }
}

/// A cache that could answer and does not yet.
#[derive(Debug, Clone)]
pub struct UnfilledCache {
    /// Its table's database.
    pub database: DatabaseName,
    /// Its table.
    pub table: TableName,
    /// What it is.
    pub definition: Arc<CacheDefinition>,
}

/// How a cache is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CacheState {
    /// It answers.
    Ready,
    /// The table is asked until it is filled; this part of its rows has been read for that, from 0 to 1.
    Filling(f64),
    /// The table is asked, because it takes more memory than there is.
    TooLarge,
}

/// What there is to say of one cache.
#[derive(Debug, Clone)]
pub struct CacheFacts {
    /// Its table.
    pub table: TableName,
    /// What it is.
    pub definition: Arc<CacheDefinition>,
    /// Its key's columns.
    pub keys: Vec<String>,
    /// How it is doing.
    pub state: CacheState,
    /// Rows that it holds.
    pub rows: usize,
    /// Their memory in bytes.
    pub bytes: usize,
}

impl Engine {
    /// Makes a cache of a table. It answers at once; until it is filled the table is asked.
    ///
    /// # Errors
    /// `NotFound` if there is no such database or table; `Conflict` if the name is taken among the table's caches of this
    /// kind; `Invalid` if the table can't have such a cache; `Exhausted` if it has too many;
    /// `Unavailable` if the catalog can't be written.
    pub async fn create_cache(&self, database: &DatabaseName, table: &TableName, cache: CacheDefinition) -> Result<()> {
        self.check_open()?;
        let create = |state: &CatalogState| {
            let entry = find_table(state, database, table)?;
            cache.check(&entry.schema).map_err(|error| Error::invalid(error.to_string()))?;
            if entry.cache(cache.kind(), &cache.name).is_some() {
                return Err(already_exists());
            }
            if entry.caches.len() >= CACHES_PER_TABLE_MAX {
                let message = format!("table '{table}' has {CACHES_PER_TABLE_MAX} caches, as many as a table may have");
                return Err(Error::new(ErrorKind::Exhausted, message));
            }
            Ok(vec![CatalogChange::CreateCache { table: entry.id, cache: cache.clone() }])
        };
        self.catalog.commit(create).await?;
        self.caches.wanted.notify_one();
        Ok(())
    }

    /// Deletes a cache of a table.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Unavailable` if the catalog can't be written.
    pub async fn delete_cache(
        &self,
        database: &DatabaseName,
        table: &TableName,
        kind: CacheKind,
        name: &str,
    ) -> Result<()> {
        self.check_open()?;
        let known = |state: &CatalogState| -> Result<(TableId, Arc<CacheDefinition>)> {
            let entry = find_table(state, database, table)?;
            let missing = || Error::not_found(format!("the requested resource was not found: {kind} {name}"));
            Ok((entry.id, Arc::clone(entry.cache(kind, name).ok_or_else(missing)?)))
        };
        let (id, definition) = known(&self.catalog.state())?;
        let delete = |state: &CatalogState| {
            let (table, _) = known(state)?;
            Ok(vec![CatalogChange::DeleteCache { table, kind, name: name.to_owned() }])
        };
        self.catalog.commit(delete).await?;
        if let Some(buffer) = self.buffer.table(id) {
            buffer.drop_view(&definition);
        }
        Ok(())
    }

    /// The caches of a table of one kind, in the order in which they were made; none if there is no such table.
    pub fn caches_of(&self, database: &DatabaseName, table: &str, kind: CacheKind) -> Vec<Arc<CacheDefinition>> {
        let state = self.catalog.state();
        let entry = state.database_by_name(database).and_then(|database| state.table_by_name(database.id, table));
        entry.into_iter().flat_map(|entry| entry.caches_of(kind)).cloned().collect()
    }

    /// The caches of a database, by table and then as they were made.
    pub fn cache_facts(&self, database: &DatabaseName, kind: CacheKind) -> Vec<CacheFacts> {
        let state = self.catalog.state();
        let tables = state.database_by_name(database).into_iter().flat_map(|database| state.tables_of(database.id));
        let facts = |table: &TableEntry, cache| self.facts_of_cache(database, &state, table, cache);
        tables.flat_map(|table| table.caches_of(kind).map(|cache| facts(table, cache)).collect::<Vec<_>>()).collect()
    }

    fn facts_of_cache(
        &self,
        database: &DatabaseName,
        state: &CatalogState,
        table: &TableEntry,
        definition: &Arc<CacheDefinition>,
    ) -> CacheFacts {
        let contents = self.buffer.table(table.id).map(|buffer| buffer.contents());
        let contents = contents.unwrap_or_else(|| Arc::new(TableContents::stored(table)));
        let answers = self.snapshot_of(database, state, table, &contents, None).is_cached(definition);
        let view = contents.view(definition);
        CacheFacts {
            table: table.name.clone(),
            definition: Arc::clone(definition),
            keys: definition.keys(&table.schema).iter().map(ToString::to_string).collect(),
            state: match view.map(|view| view.phase()) {
                Some(Phase::Filled) if answers => CacheState::Ready,
                Some(Phase::TooLarge(_)) => CacheState::TooLarge,
                Some(Phase::Filling(token)) => CacheState::Filling(token.progress()),
                Some(Phase::Filled) | None => CacheState::Filling(0.0),
            },
            rows: view.map_or(0, |view| view.row_count()),
            bytes: view.map_or(0, |view| view.bytes()),
        }
    }

    /// Memory of all caches in bytes, and its limit.
    pub fn cache_bytes(&self) -> (usize, usize) {
        (self.caches.memory.used(), self.caches.memory.max())
    }

    /// Notes that a table had to be asked instead of its cache, so that it is filled soon.
    pub fn cache_missed(&self, table: TableId, definition: &CacheDefinition) {
        let missed = (table, definition.kind(), definition.name.clone());
        if self.caches.missed.lock().insert(missed) {
            self.caches.wanted.notify_one();
        }
    }

    /// Waits until a cache may have to be filled.
    pub async fn caches_wanted(&self) {
        self.caches.wanted.notified().await;
    }

    /// The caches that should be filled now.
    pub fn unfilled_caches(&self) -> Vec<UnfilledCache> {
        let missed = std::mem::take(&mut *self.caches.missed.lock());
        let state = self.catalog.state();
        let mut unfilled = Vec::new();
        for entry in state.tables().filter(|entry| !entry.caches.is_empty()) {
            let Some(database) = state.database(entry.database) else { continue };
            for definition in &entry.caches {
                let is_missed = missed.contains(&(entry.id, definition.kind(), definition.name.clone()));
                if self.is_unfilled(entry, definition, is_missed) {
                    unfilled.push(UnfilledCache {
                        database: database.name.clone(),
                        table: entry.name.clone(),
                        definition: Arc::clone(definition),
                    });
                }
            }
        }
        unfilled
    }

    fn is_unfilled(&self, entry: &TableEntry, definition: &CacheDefinition, is_missed: bool) -> bool {
        let Some(buffer) = self.buffer.table(entry.id) else { return true };
        let contents = buffer.contents();
        match contents.view(definition).map(|view| view.phase()) {
            None | Some(Phase::Filling(_)) => true,
            // One that every write makes wrong is filled anew when somebody asks.
            Some(Phase::Filled) if is_missed => {
                let database = self.catalog.state().database(entry.database).map(|database| database.name.clone());
                let snapshot = database.and_then(|database| self.snapshot(&database, entry.name.as_str()));
                snapshot.is_some_and(|snapshot| !snapshot.is_cached(definition))
            }
            Some(Phase::Filled) => false,
            Some(Phase::TooLarge(since)) => buffer.elapsed() > *since + RETRY_AFTER,
        }
    }

    /// Begins to fill a cache; `None` if there is no such cache any more, or the table is in the middle of a change.
    pub fn fill_cache(&self, cache: &UnfilledCache) -> Option<CacheFill> {
        let UnfilledCache { database, table, definition } = cache;
        let id = {
            let state = self.catalog.state();
            state.table_by_name(state.database_by_name(database)?.id, table.as_str())?.id
        };
        let memory = &self.caches.memory;
        let buffer = self.buffer.table(id)?;
        let (mut token, mut state) = (FillToken::default(), None);
        let begin = |contents: &TableContents| {
            // Asked here, after it is certain that no change of the retention period is under way.
            let now = self.catalog.state();
            let entry = now.table(id)?;
            let is_there = entry.cache(definition.kind(), &definition.name).is_some_and(|known| known == definition);
            state = Some(Arc::clone(&now));
            token = FillToken::of_rows(rows_of(contents));
            let phase = Phase::Filling(token.clone());
            let view = CacheView::empty(definition, phase, &contents.schema, contents.through(), memory).ok()?;
            is_there.then(|| Arc::new(view))
        };
        let contents = buffer.begin_view(begin)?;
        let state = state?;
        let entry = state.table(id)?;
        Some(CacheFill {
            definition: Arc::clone(definition),
            through: contents.through(),
            snapshot: self.snapshot_of(database, &state, entry, &contents, Some(&buffer)),
            table: buffer,
            token,
            memory: Arc::clone(memory),
        })
    }
}

/// Rows of files and runs, whether they count or not.
fn rows_of(contents: &TableContents) -> u64 {
    contents.files.rows() + contents.runs.iter().map(|run| run.row_count() as u64).sum::<u64>()
}
