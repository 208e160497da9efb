//! The bodies of the catalog's objects as protobuf, and the way from and to the values that everyone else uses.
//!
//! The numbers in the `prost` attributes are the format: a field may be added with a new number, none may change.
//! Times are nanoseconds since 1970. A kind of column is 1 tag, 2 float, 3 integer, 4 unsigned, 5 string, 6 boolean.

use std::sync::Arc;
use std::time::Duration;

use prost::{Message, Oneof};
use uuid::Uuid;

use super::cache_messages::{CacheMessage, CreateCacheMessage, DeleteCacheMessage};
use super::change::CatalogChange;
use super::database_messages::{DatabaseMessage, DefaultPolicyMessage};
use super::deletion_messages::{DeleteRowsMessage, DeletionMessage};
use super::file_messages::DataFileMessage;
use super::format::{FormatError, RecordContent};
use super::log_messages::LogOwnerMessage;
use super::log_owner::LogOwner;
use super::soft_delete_messages::{DeletedDatabaseMessage, DeletedTableMessage, SoftDeleteMessage, UndeleteMessage};
use super::state::{
    CatalogState, DatabaseFacts, DeletedDatabase, DeletedTable, Facts, GarbageFile, TICKET_KEY_BYTES, TableEntry,
    TicketKey, TokenEntry,
};
use super::token_messages::TokenMessage;
use crate::model::{
    CacheDefinition, Column, ColumnKind, ColumnName, DataFile, DatabaseId, DatabaseName, Deletion, FieldType, FileId,
    Sequence, TableId, TableName, TableSchema, Timestamp,
};

pub(super) type Decoded<T> = Result<T, FormatError>;

/// Body of a log record: either `ticket_key` (the first record) or `changes`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RecordMessage {
    #[prost(bytes = "vec", optional, tag = "1")]
    ticket_key: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<ChangeMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ChangeMessage {
    #[prost(
        oneof = "Change",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24"
    )]
    change: Option<Change>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Change {
    #[prost(message, tag = "1")]
    CreateDatabase(DatabaseMessage),
    /// Without files.
    #[prost(message, tag = "2")]
    CreateTable(TableMessage),
    #[prost(message, tag = "3")]
    AddColumns(ColumnsMessage),
    #[prost(uint32, tag = "4")]
    DeleteDatabase(u32),
    #[prost(uint32, tag = "5")]
    DeleteTable(u32),
    #[prost(message, tag = "6")]
    Persisted(PersistedMessage),
    #[prost(uint64, tag = "7")]
    ReserveFileIds(u64),
    #[prost(message, tag = "8")]
    CollectGarbage(PathsMessage),
    #[prost(message, tag = "9")]
    ReplaceFiles(ReplaceFilesMessage),
    #[prost(message, tag = "10")]
    SetDatabaseRetention(RetentionMessage),
    #[prost(message, tag = "11")]
    SetTableRetention(RetentionMessage),
    #[prost(message, tag = "12")]
    DeleteRows(DeleteRowsMessage),
    #[prost(message, tag = "13")]
    OpenLog(LogOwnerMessage),
    #[prost(uint64, tag = "14")]
    RecoverLog(u64),
    #[prost(uint64, tag = "15")]
    CloseLog(u64),
    #[prost(message, tag = "16")]
    SoftDeleteDatabase(SoftDeleteMessage),
    #[prost(message, tag = "17")]
    SoftDeleteTable(SoftDeleteMessage),
    #[prost(message, tag = "18")]
    UndeleteDatabase(UndeleteMessage),
    #[prost(message, tag = "19")]
    UndeleteTable(UndeleteMessage),
    #[prost(message, tag = "20")]
    CreateToken(TokenMessage),
    #[prost(string, tag = "21")]
    DeleteToken(String),
    #[prost(message, tag = "22")]
    CreateCache(CreateCacheMessage),
    #[prost(message, tag = "23")]
    DeleteCache(DeleteCacheMessage),
    #[prost(message, tag = "24")]
    SetDefaultPolicy(DefaultPolicyMessage),
}

/// Body of a checkpoint of version 1. In version 2 files and garbage are elsewhere, see `checkpoint`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckpointMessage {
    #[prost(sint64, tag = "1")]
    created: i64,
    #[prost(bytes = "vec", tag = "2")]
    ticket_key: Vec<u8>,
    #[prost(uint32, tag = "3")]
    next_database_id: u32,
    #[prost(uint32, tag = "4")]
    next_table_id: u32,
    #[prost(uint64, tag = "5")]
    next_file_id: u64,
    #[prost(uint64, tag = "6")]
    last_persisted: u64,
    #[prost(message, repeated, tag = "7")]
    databases: Vec<DatabaseMessage>,
    #[prost(message, repeated, tag = "8")]
    tables: Vec<TableMessage>,
    #[prost(message, repeated, tag = "9")]
    garbage: Vec<GarbageMessage>,
    #[prost(message, optional, tag = "10")]
    log_owner: Option<LogOwnerMessage>,
    #[prost(message, repeated, tag = "11")]
    deleted_databases: Vec<DeletedDatabaseMessage>,
    #[prost(message, repeated, tag = "12")]
    deleted_tables: Vec<DeletedTableMessage>,
    #[prost(message, repeated, tag = "13")]
    tokens: Vec<TokenMessage>,
    /// 0 in checkpoints of programs that knew no tokens.
    #[prost(uint64, tag = "14")]
    next_token_id: u64,
    /// Missing in checkpoints of programs that did not look for jumps.
    #[prost(sint64, optional, tag = "15")]
    steady_since: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TableMessage {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    database: u32,
    #[prost(string, tag = "3")]
    name: String,
    /// Tags in the order of the series key, then fields.
    #[prost(message, repeated, tag = "4")]
    columns: Vec<ColumnMessage>,
    /// Only in checkpoints of version 1.
    #[prost(message, repeated, tag = "5")]
    files: Vec<DataFileMessage>,
    #[prost(uint64, tag = "6")]
    persisted_through: u64,
    #[prost(uint64, optional, tag = "7")]
    retention: Option<u64>,
    /// By number.
    #[prost(message, repeated, tag = "8")]
    deletions: Vec<DeletionMessage>,
    #[prost(uint64, tag = "9")]
    last_deletion: u64,
    #[prost(message, repeated, tag = "10")]
    caches: Vec<CacheMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnsMessage {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(message, repeated, tag = "2")]
    columns: Vec<ColumnMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PersistedMessage {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(message, repeated, tag = "2")]
    files: Vec<DataFileMessage>,
    #[prost(uint64, tag = "3")]
    through: u64,
}

/// Of a database or a table. Periods are in nanoseconds here and everywhere.
#[derive(Clone, PartialEq, Message)]
struct RetentionMessage {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint64, optional, tag = "2")]
    period: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ReplaceFilesMessage {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(uint64, repeated, tag = "2")]
    removed: Vec<u64>,
    #[prost(message, repeated, tag = "3")]
    added: Vec<DataFileMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PathsMessage {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GarbageMessage {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(sint64, tag = "3")]
    deleted_at: i64,
}

// Records.

impl From<&RecordContent> for RecordMessage {
    fn from(content: &RecordContent) -> Self {
        match content {
            RecordContent::Genesis { ticket_key } => {
                Self { ticket_key: Some(ticket_key.0.to_vec()), changes: Vec::new() }
            }
            RecordContent::Changes(changes) => {
                let changes = changes.iter().map(|change| ChangeMessage { change: Some(change.into()) }).collect();
                Self { ticket_key: None, changes }
            }
        }
    }
}

impl TryFrom<RecordMessage> for RecordContent {
    type Error = FormatError;

    fn try_from(message: RecordMessage) -> Decoded<Self> {
        if let Some(key) = message.ticket_key {
            return Ok(Self::Genesis { ticket_key: ticket_key(&key)? });
        }
        let changes = message.changes.into_iter().map(|change| match change.change {
            Some(change) => CatalogChange::try_from(change),
            None => Err(FormatError::field("change", "it is of a kind that this program doesn't know")),
        });
        changes.collect::<Decoded<_>>().map(Self::Changes)
    }
}

fn ticket_key(bytes: &[u8]) -> Decoded<TicketKey> {
    let wrong = |_| FormatError::field("ticket_key", format!("it has {} bytes", bytes.len()));
    <[u8; TICKET_KEY_BYTES]>::try_from(bytes).map(TicketKey).map_err(wrong)
}

// Changes.

impl From<&CatalogChange> for Change {
    fn from(change: &CatalogChange) -> Self {
        match change {
            CatalogChange::CreateDatabase { id, name } => Self::CreateDatabase(DatabaseMessage::new(*id, name)),
            CatalogChange::CreateTable { database, id, name, schema } => Self::CreateTable(TableMessage {
                id: id.get(),
                database: database.get(),
                name: name.to_string(),
                columns: schema.columns().map(|column| ColumnMessage::from(&column)).collect(),
                files: Vec::new(),
                persisted_through: 0,
                retention: None,
                deletions: Vec::new(),
                last_deletion: 0,
                caches: Vec::new(),
            }),
            CatalogChange::AddColumns { table, columns } => {
                let columns = columns.iter().map(ColumnMessage::from).collect();
                Self::AddColumns(ColumnsMessage { table: table.get(), columns })
            }
            CatalogChange::DeleteDatabase { id } => Self::DeleteDatabase(id.get()),
            CatalogChange::DeleteTable { id } => Self::DeleteTable(id.get()),
            CatalogChange::SoftDeleteDatabase { id, hard_delete_at } => {
                let hard_delete_at = hard_delete_at.map(Timestamp::as_nanos);
                Self::SoftDeleteDatabase(SoftDeleteMessage { id: id.get(), hard_delete_at })
            }
            CatalogChange::SoftDeleteTable { id, hard_delete_at } => {
                let hard_delete_at = hard_delete_at.map(Timestamp::as_nanos);
                Self::SoftDeleteTable(SoftDeleteMessage { id: id.get(), hard_delete_at })
            }
            CatalogChange::UndeleteDatabase { id, name } => {
                Self::UndeleteDatabase(UndeleteMessage { id: id.get(), name: name.to_string() })
            }
            CatalogChange::UndeleteTable { id, name } => {
                Self::UndeleteTable(UndeleteMessage { id: id.get(), name: name.to_string() })
            }
            CatalogChange::Persisted { table, files, through } => Self::Persisted(PersistedMessage {
                table: table.get(),
                files: files.iter().map(DataFileMessage::from).collect(),
                through: through.get(),
            }),
            CatalogChange::ReserveFileIds { count } => Self::ReserveFileIds(*count),
            CatalogChange::CollectGarbage { paths } => Self::CollectGarbage(PathsMessage { paths: paths.clone() }),
            CatalogChange::SetDatabaseRetention { id, period } => {
                Self::SetDatabaseRetention(RetentionMessage { id: id.get(), period: period.map(nanoseconds) })
            }
            CatalogChange::SetTableRetention { id, period } => {
                Self::SetTableRetention(RetentionMessage { id: id.get(), period: period.map(nanoseconds) })
            }
            CatalogChange::SetDefaultPolicy { id, policy } => {
                Self::SetDefaultPolicy(DefaultPolicyMessage { id: id.get(), policy: policy.clone() })
            }
            CatalogChange::DeleteRows { table, rows } => {
                Self::DeleteRows(DeleteRowsMessage { table: table.get(), rows: Some(rows.into()) })
            }
            CatalogChange::OpenLog { log, epoch, place } => Self::OpenLog(LogOwnerMessage::opened(*log, *epoch, place)),
            CatalogChange::RecoverLog { epoch } => Self::RecoverLog(*epoch),
            CatalogChange::CloseLog { epoch } => Self::CloseLog(*epoch),
            CatalogChange::CreateToken { id, name, hash, rights, expires_at } => {
                Self::CreateToken(TokenMessage::new(*id, name, hash, rights, Timestamp::from_nanos(0), *expires_at))
            }
            CatalogChange::DeleteToken { name } => Self::DeleteToken(name.clone()),
            CatalogChange::CreateCache { table, cache } => Self::CreateCache(CreateCacheMessage::new(*table, cache)),
            CatalogChange::DeleteCache { table, kind, name } => {
                Self::DeleteCache(DeleteCacheMessage::new(*table, *kind, name))
            }
            CatalogChange::ReplaceFiles { table, removed, added } => Self::ReplaceFiles(ReplaceFilesMessage {
                table: table.get(),
                removed: removed.iter().map(|file| file.get()).collect(),
                added: added.iter().map(DataFileMessage::from).collect(),
            }),
        }
    }
}

impl TryFrom<Change> for CatalogChange {
    type Error = FormatError;

    fn try_from(change: Change) -> Decoded<Self> {
        Ok(match change {
            Change::CreateDatabase(message) => {
                let DatabaseFacts { id, name, .. } = message.into_database()?;
                Self::CreateDatabase { id, name }
            }
            Change::CreateTable(message) => {
                let TableEntry { id, database, name, schema, .. } = message.into_entry()?;
                Self::CreateTable { database, id, name, schema: Arc::unwrap_or_clone(schema) }
            }
            Change::AddColumns(message) => {
                let columns = message.columns.into_iter().map(Column::try_from).collect::<Decoded<_>>()?;
                Self::AddColumns { table: TableId::new(message.table), columns }
            }
            Change::DeleteDatabase(id) => Self::DeleteDatabase { id: DatabaseId::new(id) },
            Change::DeleteTable(id) => Self::DeleteTable { id: TableId::new(id) },
            Change::SoftDeleteDatabase(SoftDeleteMessage { id, hard_delete_at }) => Self::SoftDeleteDatabase {
                id: DatabaseId::new(id),
                hard_delete_at: hard_delete_at.map(Timestamp::from_nanos),
            },
            Change::SoftDeleteTable(SoftDeleteMessage { id, hard_delete_at }) => Self::SoftDeleteTable {
                id: TableId::new(id),
                hard_delete_at: hard_delete_at.map(Timestamp::from_nanos),
            },
            Change::UndeleteDatabase(UndeleteMessage { id, name }) => {
                Self::UndeleteDatabase { id: DatabaseId::new(id), name: database_name(&name)? }
            }
            Change::UndeleteTable(UndeleteMessage { id, name }) => {
                Self::UndeleteTable { id: TableId::new(id), name: table_name(&name)? }
            }
            Change::Persisted(message) => Self::Persisted {
                table: TableId::new(message.table),
                files: message.files.into_iter().map(DataFile::try_from).collect::<Decoded<_>>()?,
                through: Sequence::new(message.through),
            },
            Change::ReserveFileIds(count) => Self::ReserveFileIds { count },
            Change::CollectGarbage(message) => Self::CollectGarbage { paths: message.paths },
            Change::SetDatabaseRetention(RetentionMessage { id, period }) => {
                Self::SetDatabaseRetention { id: DatabaseId::new(id), period: period.map(Duration::from_nanos) }
            }
            Change::SetTableRetention(RetentionMessage { id, period }) => {
                Self::SetTableRetention { id: TableId::new(id), period: period.map(Duration::from_nanos) }
            }
            Change::SetDefaultPolicy(DefaultPolicyMessage { id, policy }) => {
                Self::SetDefaultPolicy { id: DatabaseId::new(id), policy }
            }
            Change::DeleteRows(DeleteRowsMessage { table, rows }) => {
                let rows = rows.ok_or_else(|| FormatError::field("rows", "they are missing"))?;
                Self::DeleteRows { table: TableId::new(table), rows: rows.try_into()? }
            }
            Change::OpenLog(message) => {
                let LogOwner { log, epoch, place, .. } = message.try_into()?;
                Self::OpenLog { log, epoch, place }
            }
            Change::RecoverLog(epoch) => Self::RecoverLog { epoch },
            Change::CloseLog(epoch) => Self::CloseLog { epoch },
            Change::CreateToken(message) => {
                let TokenEntry { id, name, hash, rights, expires_at, .. } = message.try_into()?;
                Self::CreateToken { id, name, hash, rights, expires_at }
            }
            Change::DeleteToken(name) => Self::DeleteToken { name },
            Change::CreateCache(message) => {
                let (table, cache) = message.into_cache()?;
                Self::CreateCache { table, cache }
            }
            Change::DeleteCache(message) => {
                let (table, kind, name) = message.into_name()?;
                Self::DeleteCache { table, kind, name }
            }
            Change::ReplaceFiles(message) => Self::ReplaceFiles {
                table: TableId::new(message.table),
                removed: message.removed.into_iter().map(FileId::new).collect(),
                added: message.added.into_iter().map(DataFile::try_from).collect::<Decoded<_>>()?,
            },
        })
    }
}

// Checkpoints.

impl From<&GarbageFile> for GarbageMessage {
    fn from(file: &GarbageFile) -> Self {
        Self { path: file.path.to_string(), bytes: file.bytes, deleted_at: file.deleted_at.as_nanos() }
    }
}

impl From<GarbageMessage> for GarbageFile {
    fn from(message: GarbageMessage) -> Self {
        Self::unread(&message.path, message.bytes, Timestamp::from_nanos(message.deleted_at))
    }
}

/// Without files and garbage.
impl From<&CatalogState> for CheckpointMessage {
    fn from(state: &CatalogState) -> Self {
        Self {
            created: state.created().as_nanos(),
            ticket_key: state.ticket_key().to_vec(),
            next_database_id: state.next_database_id().get(),
            next_table_id: state.next_table_id().get(),
            next_file_id: state.next_file_id().get(),
            last_persisted: state.last_persisted_sequence().get(),
            log_owner: state.log_owner().map(LogOwnerMessage::from),
            databases: state.databases().map(|database| database.as_ref().into()).collect(),
            tables: state.tables().map(|table| TableMessage::from(table.as_ref())).collect(),
            garbage: Vec::new(),
            deleted_databases: state.deleted_databases().map(|deleted| deleted.as_ref().into()).collect(),
            deleted_tables: state.deleted_tables().map(|deleted| deleted.as_ref().into()).collect(),
            tokens: state.tokens().map(|token| token.as_ref().into()).collect(),
            next_token_id: state.next_token_id(),
            steady_since: Some(state.steady_since().as_nanos()),
        }
    }
}

impl CheckpointMessage {
    pub(super) fn into_facts(self, catalog: Uuid) -> Decoded<Facts> {
        Ok(Facts {
            id: catalog,
            created: Timestamp::from_nanos(self.created),
            steady_since: self.steady_since.map(Timestamp::from_nanos),
            ticket_key: ticket_key(&self.ticket_key)?,
            next_database_id: DatabaseId::new(self.next_database_id),
            next_table_id: TableId::new(self.next_table_id),
            next_file_id: FileId::new(self.next_file_id),
            last_persisted: Sequence::new(self.last_persisted),
            log_owner: self.log_owner.map(LogOwner::try_from).transpose()?,
            databases: self.databases.into_iter().map(DatabaseMessage::into_database).collect::<Decoded<_>>()?,
            tables: self.tables.into_iter().map(TableMessage::into_entry).collect::<Decoded<_>>()?,
            garbage: self.garbage.into_iter().map(GarbageFile::from).collect(),
            deleted_databases: self
                .deleted_databases
                .into_iter()
                .map(DeletedDatabase::try_from)
                .collect::<Decoded<_>>()?,
            deleted_tables: self.deleted_tables.into_iter().map(DeletedTable::try_from).collect::<Decoded<_>>()?,
            next_token_id: self.next_token_id.max(1),
            tokens: self.tokens.into_iter().map(TokenEntry::try_from).collect::<Decoded<_>>()?,
        })
    }
}

/// Without files.
impl From<&TableEntry> for TableMessage {
    fn from(table: &TableEntry) -> Self {
        Self {
            id: table.id.get(),
            database: table.database.get(),
            name: table.name.to_string(),
            columns: table.schema.columns().map(|column| ColumnMessage::from(&column)).collect(),
            files: Vec::new(),
            persisted_through: table.persisted_through.get(),
            retention: table.retention.map(nanoseconds),
            deletions: table.deletions.iter().map(DeletionMessage::from).collect(),
            last_deletion: table.last_deletion,
            caches: table.caches.iter().map(|cache| CacheMessage::from(cache.as_ref())).collect(),
        }
    }
}

impl TableMessage {
    pub(super) fn into_entry(self) -> Decoded<TableEntry> {
        let columns = self.columns.into_iter().map(Column::try_from).collect::<Decoded<Vec<_>>>()?;
        let files = self.files.into_iter().map(|file| DataFile::try_from(file).map(Arc::new));
        Ok(TableEntry {
            id: TableId::new(self.id),
            database: DatabaseId::new(self.database),
            name: table_name(&self.name)?,
            schema: Arc::new(TableSchema::new(columns)),
            files: files.collect::<Decoded<_>>()?,
            persisted_through: Sequence::new(self.persisted_through),
            retention: self.retention.map(Duration::from_nanos),
            deletions: Arc::new(self.deletions.into_iter().map(Deletion::try_from).collect::<Decoded<_>>()?),
            last_deletion: self.last_deletion,
            caches: self
                .caches
                .into_iter()
                .map(|cache| CacheDefinition::try_from(cache).map(Arc::new))
                .collect::<Decoded<_>>()?,
        })
    }
}

/// 584 years at the most.
pub(super) fn nanoseconds(period: Duration) -> u64 {
    u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)
}

// Columns.

impl From<&Column> for ColumnMessage {
    fn from(column: &Column) -> Self {
        let kind = match column.kind {
            ColumnKind::Tag => 1,
            ColumnKind::Field(FieldType::Float) => 2,
            ColumnKind::Field(FieldType::Integer) => 3,
            ColumnKind::Field(FieldType::Unsigned) => 4,
            ColumnKind::Field(FieldType::String) => 5,
            ColumnKind::Field(FieldType::Boolean) => 6,
        };
        Self { name: column.name.to_string(), kind }
    }
}

impl TryFrom<ColumnMessage> for Column {
    type Error = FormatError;

    fn try_from(message: ColumnMessage) -> Decoded<Self> {
        let kind = match message.kind {
            1 => ColumnKind::Tag,
            2 => ColumnKind::Field(FieldType::Float),
            3 => ColumnKind::Field(FieldType::Integer),
            4 => ColumnKind::Field(FieldType::Unsigned),
            5 => ColumnKind::Field(FieldType::String),
            6 => ColumnKind::Field(FieldType::Boolean),
            other => return Err(FormatError::field("kind", format!("{other} is no kind of column"))),
        };
        Ok(Self { name: column_name(&message.name)?, kind })
    }
}

pub(super) fn database_name(text: &str) -> Decoded<DatabaseName> {
    DatabaseName::new(text).map_err(|error| FormatError::field("name", error.to_string()))
}

fn table_name(text: &str) -> Decoded<TableName> {
    TableName::new(text).map_err(|error| FormatError::field("name", error.to_string()))
}

pub(super) fn column_name(text: &str) -> Decoded<ColumnName> {
    ColumnName::new(text).map_err(|error| FormatError::field("name", error.to_string()))
}
