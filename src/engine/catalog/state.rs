//! The catalog at one moment, and the pure step to the next.
//!
//! Always true:
//! - a state never changes; a step makes a new one, which shares all that is the same;
//! - what applies here applies on every node and after every restart with the same result, because a step reads
//!   neither clock nor store;
//! - numbers of databases, tables and files only rise, so that none ever means two things.
//!
//! Not here: how a change gets stored (see `log`) or spelled in bytes (see `messages`).

mod caches;
mod deleted;
mod steadiness;
mod tokens;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;

use super::change::CatalogChange;
use super::error::ChangeError;
use super::log_owner::LogOwner;
use super::shared_map::SharedMap;
use crate::model::{
    CacheDefinition, Column, DataFile, DatabaseId, DatabaseName, Deletion, FileId, FileList, RowSelection, Sequence,
    SequenceRange, TableId, TableName, TableSchema, Timestamp,
};
pub use deleted::{DeletedDatabase, DeletedTable, SoftDeletion};
pub use steadiness::is_jump;
pub use tokens::{TokenEntry, TokenHash};

/// Bytes of the key that seals tickets: three random UUIDs of 122 random bits each, more than the 256 bits that
/// any MAC can use.
pub(super) const TICKET_KEY_BYTES: usize = 48;

/// Everything that is known of databases, tables and files. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogState {
    id: Uuid,
    created: Timestamp,
    ticket_key: TicketKey,
    record: RecordMark,
    steady_since: Timestamp,
    next_database_id: DatabaseId,
    next_table_id: TableId,
    next_file_id: FileId,
    last_persisted: Sequence,
    log_owner: Option<Arc<LogOwner>>,
    databases: SharedMap<DatabaseName, Arc<DatabaseEntry>>,
    database_names: SharedMap<DatabaseId, DatabaseName>,
    tables: SharedMap<TableId, Arc<TableEntry>>,
    deleted_databases: SharedMap<DatabaseId, Arc<DeletedDatabase>>,
    deleted_tables: SharedMap<TableId, Arc<DeletedTable>>,
    garbage: SharedMap<Arc<str>, GarbageFile>,
    next_token_id: u64,
    tokens: SharedMap<String, Arc<TokenEntry>>,
    token_names: SharedMap<TokenHash, String>,
}

/// A database.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseEntry {
    /// Its number.
    pub id: DatabaseId,
    /// Its name.
    pub name: DatabaseName,
    /// How long after its time a row is seen; `None`: for ever.
    pub retention: Option<Duration>,
    /// The retention policy that is meant where a request of InfluxDB 1 names none; `None`: the database itself. There may be
    /// none of that name any more.
    pub default_policy: Option<String>,
    tables: SharedMap<TableName, TableId>,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableEntry {
    /// Its number.
    pub id: TableId,
    /// Its database.
    pub database: DatabaseId,
    /// Its name.
    pub name: TableName,
    /// Its columns.
    pub schema: Arc<TableSchema>,
    /// Its files, by the writes that they hold, oldest first.
    pub files: FileList,
    /// The last write that is in a file, with all before it.
    pub persisted_through: Sequence,
    /// How long after its time a row is seen; `None`: as long as the database says.
    pub retention: Option<Duration>,
    /// Deletions whose rows are still in some file, by number.
    pub deletions: Arc<Vec<Deletion>>,
    /// The number of the last deletion, whether its rows are still somewhere or not.
    pub last_deletion: u64,
    /// Its caches, in the order in which they were made.
    pub caches: Vec<Arc<CacheDefinition>>,
}

/// An object that no table refers to any more.
#[derive(Debug, Clone)]
pub struct GarbageFile {
    /// Where it is.
    pub path: Arc<str>,
    /// Its size.
    pub bytes: u64,
    /// When it was dropped.
    pub deleted_at: Timestamp,
    /// The facts by which queries of this process read it.
    readers: Weak<DataFile>,
}

impl GarbageFile {
    fn of(file: &Arc<DataFile>, deleted_at: Timestamp) -> Self {
        Self { path: file.path.as_str().into(), bytes: file.bytes, deleted_at, readers: Arc::downgrade(file) }
    }

    /// Garbage of which nobody in this process knows but by this.
    pub(super) fn unread(path: &str, bytes: u64, deleted_at: Timestamp) -> Self {
        Self { path: path.into(), bytes, deleted_at, readers: Weak::new() }
    }

    /// Whether a query or a compaction of this process, which began before the file was dropped, may still read it.
    pub fn is_read(&self) -> bool {
        self.readers.strong_count() > 0
    }
}

/// Who reads a file is a matter of one process and no part of the catalog.
impl PartialEq for GarbageFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.bytes, self.deleted_at) == (&other.path, other.bytes, other.deleted_at)
    }
}

/// Which record of the log a state ends with. The nonce tells it from any other record of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordMark {
    pub(super) sequence: u64,
    pub(super) nonce: Uuid,
    pub(super) time: Timestamp,
}

/// The secret that seals tickets. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TicketKey(pub(super) [u8; TICKET_KEY_BYTES]);

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// A database without its tables.
#[derive(Debug)]
pub(super) struct DatabaseFacts {
    pub(super) id: DatabaseId,
    pub(super) name: DatabaseName,
    pub(super) retention: Option<Duration>,
    pub(super) default_policy: Option<String>,
}

/// All that a checkpoint holds of a state besides its mark.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: Uuid,
    pub(super) created: Timestamp,
    pub(super) steady_since: Option<Timestamp>,
    pub(super) ticket_key: TicketKey,
    pub(super) next_database_id: DatabaseId,
    pub(super) next_table_id: TableId,
    pub(super) next_file_id: FileId,
    pub(super) last_persisted: Sequence,
    pub(super) log_owner: Option<LogOwner>,
    pub(super) databases: Vec<DatabaseFacts>,
    pub(super) tables: Vec<TableEntry>,
    pub(super) deleted_databases: Vec<DeletedDatabase>,
    pub(super) deleted_tables: Vec<DeletedTable>,
    pub(super) garbage: Vec<GarbageFile>,
    pub(super) next_token_id: u64,
    pub(super) tokens: Vec<TokenEntry>,
}

impl CatalogState {
    /// A catalog without databases.
    pub(super) fn genesis(id: Uuid, ticket_key: TicketKey, record: RecordMark) -> Self {
        Self {
            id,
            created: record.time,
            ticket_key,
            record,
            steady_since: steadiness::ALWAYS,
            next_database_id: DatabaseId::new(1),
            next_table_id: TableId::new(1),
            next_file_id: FileId::new(1),
            last_persisted: Sequence::ZERO,
            log_owner: None,
            databases: SharedMap::default(),
            database_names: SharedMap::default(),
            tables: SharedMap::default(),
            deleted_databases: SharedMap::default(),
            deleted_tables: SharedMap::default(),
            garbage: SharedMap::default(),
            next_token_id: 1,
            tokens: SharedMap::default(),
            token_names: SharedMap::default(),
        }
    }

    /// The state that a checkpoint describes.
    pub(super) fn restore(facts: Facts, record: RecordMark) -> Result<Self, ChangeError> {
        let mut state = Self::genesis(facts.id, facts.ticket_key, record);
        state.created = facts.created;
        state.steady_since = facts.steady_since.unwrap_or(steadiness::ALWAYS);
        for database in facts.databases {
            state.insert_database(database)?;
        }
        for table in facts.tables {
            state.insert_table(table)?;
        }
        state.restore_deleted(facts.deleted_databases, facts.deleted_tables);
        state.next_database_id = facts.next_database_id;
        state.next_table_id = facts.next_table_id;
        state.next_file_id = facts.next_file_id;
        state.last_persisted = facts.last_persisted;
        state.log_owner = facts.log_owner.map(Arc::new);
        for file in facts.garbage {
            state.garbage.insert(Arc::clone(&file.path), file);
        }
        state.next_token_id = facts.next_token_id;
        for token in facts.tokens {
            state.insert_token(token)?;
        }
        Ok(state)
    }

    /// The same databases, tables and files in a catalog of this identity, which has no garbage and whose rows are all in files.
    pub(super) fn as_catalog(&self, id: Uuid, ticket_key: TicketKey, record: RecordMark) -> Self {
        let steady_since = self.steady_after(record.time);
        Self { id, ticket_key, record, steady_since, log_owner: None, garbage: SharedMap::default(), ..self.clone() }
    }

    /// The state after one more change, made at the moment `at`.
    ///
    /// # Errors
    /// If the change contradicts this state, which stays as it is.
    pub fn apply(&self, change: &CatalogChange, at: Timestamp) -> Result<Self, ChangeError> {
        let mut next = self.clone();
        next.change(change, at)?;
        Ok(next)
    }

    /// The state after all changes of one record; none counts if one contradicts.
    ///
    /// Takes the state itself, so that a replay, which needs no state but the last, copies nothing.
    pub(super) fn advance(mut self, changes: &[CatalogChange], record: RecordMark) -> Result<Self, ChangeError> {
        for change in changes {
            self.change(change, record.time)?;
        }
        self.steady_since = self.steady_after(record.time);
        self.record = record;
        Ok(self)
    }

    /// The catalog's own identifier.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// When the catalog was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// A secret that every node of this catalog knows and nobody else.
    pub fn ticket_key(&self) -> &[u8; TICKET_KEY_BYTES] {
        &self.ticket_key.0
    }

    pub(super) fn record(&self) -> RecordMark {
        self.record
    }

    /// How many records the log had so far; it rises with every commit.
    pub fn version(&self) -> u64 {
        self.record.sequence
    }

    /// The databases by name.
    pub fn databases(&self) -> impl Iterator<Item = &Arc<DatabaseEntry>> {
        self.databases.values()
    }

    /// The database of this number.
    pub fn database(&self, id: DatabaseId) -> Option<&Arc<DatabaseEntry>> {
        self.databases.get(self.database_names.get(&id)?)
    }

    /// The database of this name.
    pub fn database_by_name(&self, name: &DatabaseName) -> Option<&Arc<DatabaseEntry>> {
        self.databases.get(name)
    }

    /// The tables of all databases by number.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.tables.values()
    }

    /// How many tables all databases have together.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// The tables of one database by name; none if there is no such database.
    pub fn tables_of(&self, database: DatabaseId) -> impl Iterator<Item = &Arc<TableEntry>> {
        let ids = self.database(database).into_iter().flat_map(|database| database.tables.values());
        ids.filter_map(|id| self.tables.get(id))
    }

    /// The table of this number.
    pub fn table(&self, id: TableId) -> Option<&Arc<TableEntry>> {
        self.tables.get(&id)
    }

    /// The table of this name.
    pub fn table_by_name(&self, database: DatabaseId, name: &str) -> Option<&Arc<TableEntry>> {
        self.tables.get(self.database(database)?.tables.get(name)?)
    }

    /// How long after its time a row of the table is seen; `None`: for ever.
    pub fn retention(&self, table: &TableEntry) -> Option<Duration> {
        table.retention.or_else(|| self.database(table.database)?.retention)
    }

    /// The number that the next database must have.
    pub fn next_database_id(&self) -> DatabaseId {
        self.next_database_id
    }

    /// The number that the next table must have.
    pub fn next_table_id(&self) -> TableId {
        self.next_table_id
    }

    /// The smallest number that no file has or was reserved for.
    pub fn next_file_id(&self) -> FileId {
        self.next_file_id
    }

    /// The last write that is in a file of any table, also of tables that are deleted now.
    pub fn last_persisted_sequence(&self) -> Sequence {
        self.last_persisted
    }

    /// The write-ahead log that took over last; `None` if there was none yet.
    pub fn log_owner(&self) -> Option<&LogOwner> {
        self.log_owner.as_deref()
    }

    /// Objects that nothing refers to, by path.
    pub fn garbage(&self) -> impl Iterator<Item = &GarbageFile> {
        self.garbage.values()
    }

    /// Whether this is an object that nothing refers to any more.
    pub fn is_garbage(&self, path: &str) -> bool {
        self.garbage.get(path).is_some()
    }

    /// How many objects there are that nothing refers to.
    pub fn garbage_count(&self) -> usize {
        self.garbage.len()
    }

    fn change(&mut self, change: &CatalogChange, at: Timestamp) -> Result<(), ChangeError> {
        match change {
            CatalogChange::CreateDatabase { id, name } => self.create_database(*id, name),
            CatalogChange::CreateTable { database, id, name, schema } => {
                self.create_table(*database, *id, name, schema)
            }
            CatalogChange::AddColumns { table, columns } => self.add_columns(*table, columns),
            CatalogChange::DeleteDatabase { id } => self.delete_database(*id, at),
            CatalogChange::DeleteTable { id } => self.delete_table(*id, at),
            CatalogChange::SoftDeleteDatabase { id, hard_delete_at } => {
                self.soft_delete_database(*id, *hard_delete_at, at)
            }
            CatalogChange::SoftDeleteTable { id, hard_delete_at } => self.soft_delete_table(*id, *hard_delete_at, at),
            CatalogChange::UndeleteDatabase { id, name } => self.undelete_database(*id, name),
            CatalogChange::UndeleteTable { id, name } => self.undelete_table(*id, name),
            CatalogChange::SetDatabaseRetention { id, period } => {
                self.database_mut(*id)?.retention = *period;
                Ok(())
            }
            CatalogChange::SetTableRetention { id, period } => {
                self.table_mut(*id)?.retention = *period;
                Ok(())
            }
            CatalogChange::SetDefaultPolicy { id, policy } => {
                self.database_mut(*id)?.default_policy.clone_from(policy);
                Ok(())
            }
            CatalogChange::Persisted { table, files, through } => self.persisted(*table, files, *through),
            CatalogChange::ReplaceFiles { table, removed, added } => self.replace_files(*table, removed, added, at),
            CatalogChange::DeleteRows { table, rows } => self.delete_rows(*table, rows, at),
            CatalogChange::OpenLog { log, epoch, place } => {
                let opened = LogOwner::opened(self.log_owner(), self.id, *log, *epoch, place)?;
                self.log_owner = Some(Arc::new(opened));
                Ok(())
            }
            CatalogChange::RecoverLog { epoch } => self.log_owner_mut(*epoch).map(LogOwner::recovered),
            CatalogChange::CloseLog { epoch } => self.log_owner_mut(*epoch).map(LogOwner::closed),
            CatalogChange::ReserveFileIds { count } => self.reserve_file_ids(*count),
            CatalogChange::CollectGarbage { paths } => {
                self.collect(paths);
                Ok(())
            }
            CatalogChange::CreateToken { id, name, hash, rights, expires_at } => self.create_token(TokenEntry {
                id: *id,
                name: name.clone(),
                hash: *hash,
                rights: rights.clone(),
                created_at: at,
                expires_at: *expires_at,
            }),
            CatalogChange::DeleteToken { name } => self.delete_token(name),
            CatalogChange::CreateCache { table, cache } => self.create_cache(*table, cache),
            CatalogChange::DeleteCache { table, kind, name } => self.delete_cache(*table, *kind, name),
        }
    }

    fn create_database(&mut self, id: DatabaseId, name: &DatabaseName) -> Result<(), ChangeError> {
        expect_next("database", id.get().into(), self.next_database_id.get().into())?;
        let next = id.get().checked_add(1).ok_or(ChangeError::NumbersExhausted { what: "database" })?;
        self.insert_database(DatabaseFacts { id, name: name.clone(), retention: None, default_policy: None })?;
        self.next_database_id = DatabaseId::new(next);
        Ok(())
    }

    fn insert_database(&mut self, database: DatabaseFacts) -> Result<(), ChangeError> {
        let DatabaseFacts { id, name, retention, default_policy } = database;
        if self.databases.get(&name).is_some() || self.database_names.get(&id).is_some() {
            return Err(ChangeError::Exists);
        }
        let entry = DatabaseEntry { id, name: name.clone(), retention, default_policy, tables: SharedMap::default() };
        self.database_names.insert(id, name.clone());
        self.databases.insert(name, Arc::new(entry));
        Ok(())
    }

    fn create_table(
        &mut self,
        database: DatabaseId,
        id: TableId,
        name: &TableName,
        schema: &TableSchema,
    ) -> Result<(), ChangeError> {
        expect_next("table", id.get().into(), self.next_table_id.get().into())?;
        let next = id.get().checked_add(1).ok_or(ChangeError::NumbersExhausted { what: "table" })?;
        self.insert_table(TableEntry {
            id,
            database,
            name: name.clone(),
            schema: Arc::new(schema.clone()),
            files: FileList::default(),
            persisted_through: Sequence::ZERO,
            retention: None,
            deletions: Arc::default(),
            last_deletion: 0,
            caches: Vec::new(),
        })?;
        self.next_table_id = TableId::new(next);
        Ok(())
    }

    fn insert_table(&mut self, table: TableEntry) -> Result<(), ChangeError> {
        let database = self.database_mut(table.database)?;
        if database.tables.get(&table.name).is_some() {
            return Err(ChangeError::Exists);
        }
        database.tables.insert(table.name.clone(), table.id);
        self.tables.insert(table.id, Arc::new(table));
        Ok(())
    }

    fn add_columns(&mut self, table: TableId, columns: &[Column]) -> Result<(), ChangeError> {
        let entry = self.table_mut(table)?;
        let unfit = |source| ChangeError::Columns { table: entry.name.clone(), source };
        let new = TableSchema::new(columns.iter().cloned());
        if new.column_count() < columns.len() {
            return Err(unfit(None));
        }
        let widened = entry.schema.widen(&new).map_err(|error| unfit(Some(error)))?;
        if !widened.added.is_empty() {
            entry.schema = Arc::new(widened.schema);
        }
        Ok(())
    }

    fn delete_database(&mut self, id: DatabaseId, at: Timestamp) -> Result<(), ChangeError> {
        self.drop_deleted_tables_of(id)?;
        if self.deleted_databases.remove(&id).is_some() {
            return Ok(());
        }
        let name = self.database_names.get(&id).ok_or(ChangeError::NoDatabase { id })?.clone();
        let tables: Vec<TableId> = self.tables_of(id).map(|table| table.id).collect();
        for table in tables {
            self.delete_table(table, at)?;
        }
        self.database_names.remove(&id);
        self.databases.remove(&name);
        Ok(())
    }

    fn delete_table(&mut self, id: TableId, at: Timestamp) -> Result<(), ChangeError> {
        let Some(table) = self.tables.remove(&id) else { return self.drop_deleted_table(id) };
        self.database_mut(table.database)?.tables.remove(&table.name);
        self.discard(table.files.iter(), at);
        Ok(())
    }

    fn discard<'a>(&mut self, files: impl Iterator<Item = &'a Arc<DataFile>>, at: Timestamp) {
        for file in files {
            let garbage = GarbageFile::of(file, at);
            self.garbage.insert(Arc::clone(&garbage.path), garbage);
        }
    }

    fn persisted(&mut self, table: TableId, files: &[DataFile], through: Sequence) -> Result<(), ChangeError> {
        let next_file_id = self.next_file_id;
        let entry = self.kept_table_mut(table)?;
        let persisted = entry.persisted_through;
        if through <= persisted || files.iter().any(|file| file.sequences.first <= persisted) {
            return Err(ChangeError::AlreadyPersisted { table, persisted });
        }
        let all = SequenceRange { first: Sequence::ZERO, last: through };
        for file in files {
            check_new_file(file, table, next_file_id, all)?;
        }
        entry.add_files(files);
        entry.persisted_through = through;
        self.last_persisted = self.last_persisted.max(through);
        Ok(())
    }

    fn replace_files(
        &mut self,
        table: TableId,
        removed: &[FileId],
        added: &[DataFile],
        at: Timestamp,
    ) -> Result<(), ChangeError> {
        let next_file_id = self.next_file_id;
        let entry = self.table_mut(table)?;
        let removed: HashSet<FileId> = removed.iter().copied().collect();
        let gone = entry.files.remove(&removed);
        if gone.len() < removed.len() {
            let missing = removed.iter().find(|id| gone.iter().all(|file| file.id != **id));
            return Err(ChangeError::FileReplaced { file: missing.map_or(0, |id| id.get()), table });
        }
        let writes = gone.iter().map(|file| file.sequences).reduce(SequenceRange::union);
        for file in added {
            let unfit = |reason| Err(ChangeError::File { file: file.id.get(), table, reason });
            let Some(writes) = writes else { return unfit("it takes the place of no file") };
            check_new_file(file, table, next_file_id, writes)?;
            // Of two files that may hold one point, it must be certain which holds the later write.
            if entry.files.overlapping(file.time).any(|kept| kept.sequences.overlaps(file.sequences)) {
                return unfit("its writes interleave with those of another file");
            }
        }
        entry.add_files(added);
        entry.forget_deletions();
        self.discard(gone.iter(), at);
        Ok(())
    }

    fn delete_rows(&mut self, table: TableId, rows: &RowSelection, at: Timestamp) -> Result<(), ChangeError> {
        let entry = self.table_mut(table)?;
        let number = entry.last_deletion.checked_add(1).ok_or(ChangeError::NumbersExhausted { what: "deletion" })?;
        let deletion = Deletion { number, rows: rows.clone(), through: entry.persisted_through };
        entry.last_deletion = number;
        let gone = entry.files.remove_overlapping(rows.time, |file| deletion.covers(file));
        Arc::make_mut(&mut entry.deletions).push(deletion);
        entry.forget_deletions();
        self.discard(gone.iter(), at);
        Ok(())
    }

    fn reserve_file_ids(&mut self, count: u64) -> Result<(), ChangeError> {
        let next = self.next_file_id.get().checked_add(count);
        self.next_file_id = next.map(FileId::new).ok_or(ChangeError::NumbersExhausted { what: "file" })?;
        Ok(())
    }

    fn collect(&mut self, paths: &[String]) {
        for path in paths {
            self.garbage.remove(path.as_str());
        }
    }

    fn database_mut(&mut self, id: DatabaseId) -> Result<&mut DatabaseEntry, ChangeError> {
        let missing = ChangeError::NoDatabase { id };
        let Some(name) = self.database_names.get(&id) else { return Err(missing) };
        self.databases.get_mut(name).map(Arc::make_mut).ok_or(missing)
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut TableEntry, ChangeError> {
        let missing = self.no_table(id);
        self.tables.get_mut(&id).map(Arc::make_mut).ok_or(missing)
    }

    fn log_owner_mut(&mut self, epoch: u64) -> Result<&mut LogOwner, ChangeError> {
        let owner = self.log_owner.as_mut().map(Arc::make_mut);
        owner.filter(|owner| owner.epoch == epoch).ok_or(ChangeError::NotTheLog { epoch })
    }

    /// Numbers are given out in order, so a smaller one without a table had one once.
    fn no_table(&self, table: TableId) -> ChangeError {
        if table < self.next_table_id { ChangeError::TableDeleted { table } } else { ChangeError::NoTable { table } }
    }
}

impl TableEntry {
    fn add_files(&mut self, files: &[DataFile]) {
        for file in files {
            let mut file = file.clone();
            if let Some(last) = self.files.last() {
                file.columns.share_names(&last.columns);
            }
            self.files.insert(Arc::new(file));
        }
    }

    /// Drops deletions of which no file holds rows any more.
    fn forget_deletions(&mut self) {
        let is_needed =
            |deletion: &Deletion| self.files.overlapping(deletion.rows.time).any(|file| deletion.applies_to(file));
        if !self.deletions.iter().all(is_needed) {
            self.deletions = Arc::new(self.deletions.iter().filter(|deletion| is_needed(deletion)).cloned().collect());
        }
    }
}

fn check_new_file(
    file: &DataFile,
    table: TableId,
    next_file_id: FileId,
    writes: SequenceRange,
) -> Result<(), ChangeError> {
    let unfit = |reason| Err(ChangeError::File { file: file.id.get(), table, reason });
    if file.table != table {
        return unfit("it names another table");
    }
    if file.id >= next_file_id {
        return unfit("its number was not reserved");
    }
    let SequenceRange { first, last } = file.sequences;
    if first > last || first < writes.first || last > writes.last {
        return unfit("its writes are not those that it stands for");
    }
    Ok(())
}

fn expect_next(what: &'static str, number: u64, next: u64) -> Result<(), ChangeError> {
    if number == next {
        return Ok(());
    }
    Err(ChangeError::Number { what, number, next })
}
