//! What was deleted and can be brought back, in the bodies of the catalog's objects. The rules of `messages` hold here too.

use std::sync::Arc;

use prost::Message;

use super::database_messages::DatabaseMessage;
use super::format::FormatError;
use super::messages::{Decoded, TableMessage};
use super::state::{DatabaseFacts, DeletedDatabase, DeletedTable, SoftDeletion};
use crate::model::Timestamp;

/// Of a database or a table.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SoftDeleteMessage {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    /// Not there: never.
    #[prost(sint64, optional, tag = "2")]
    pub(super) hard_delete_at: Option<i64>,
}

/// Of a database or a table.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UndeleteMessage {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeletedDatabaseMessage {
    /// With the name that it had.
    #[prost(message, optional, tag = "1")]
    database: Option<DatabaseMessage>,
    #[prost(message, optional, tag = "2")]
    deletion: Option<SoftDeletionMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeletedTableMessage {
    /// With the name that it had.
    #[prost(message, optional, tag = "1")]
    table: Option<TableMessage>,
    #[prost(message, optional, tag = "2")]
    deletion: Option<SoftDeletionMessage>,
    #[prost(bool, tag = "3")]
    with_database: bool,
}

#[derive(Clone, PartialEq, Message)]
struct SoftDeletionMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    deleted_at: i64,
    /// Not there: never.
    #[prost(sint64, optional, tag = "3")]
    hard_delete_at: Option<i64>,
}

impl From<&SoftDeletion> for SoftDeletionMessage {
    fn from(deletion: &SoftDeletion) -> Self {
        Self {
            name: deletion.name.clone(),
            deleted_at: deletion.deleted_at.as_nanos(),
            hard_delete_at: deletion.hard_delete_at.map(Timestamp::as_nanos),
        }
    }
}

impl From<SoftDeletionMessage> for SoftDeletion {
    fn from(message: SoftDeletionMessage) -> Self {
        Self {
            name: message.name,
            deleted_at: Timestamp::from_nanos(message.deleted_at),
            hard_delete_at: message.hard_delete_at.map(Timestamp::from_nanos),
        }
    }
}

impl From<&DeletedDatabase> for DeletedDatabaseMessage {
    fn from(deleted: &DeletedDatabase) -> Self {
        Self { database: Some(deleted.into()), deletion: Some((&deleted.deletion).into()) }
    }
}

impl TryFrom<DeletedDatabaseMessage> for DeletedDatabase {
    type Error = FormatError;

    fn try_from(message: DeletedDatabaseMessage) -> Decoded<Self> {
        let database = message.database.ok_or_else(|| missing("database"))?;
        let DatabaseFacts { id, name, retention, default_policy } = database.into_database()?;
        let deletion = message.deletion.ok_or_else(|| missing("deletion"))?;
        Ok(Self { id, name, retention, default_policy, deletion: deletion.into() })
    }
}

impl From<&DeletedTable> for DeletedTableMessage {
    fn from(deleted: &DeletedTable) -> Self {
        let DeletedTable { entry, deletion, with_database } = deleted;
        let table = TableMessage::from(entry.as_ref());
        Self { table: Some(table), deletion: Some(deletion.into()), with_database: *with_database }
    }
}

impl TryFrom<DeletedTableMessage> for DeletedTable {
    type Error = FormatError;

    fn try_from(message: DeletedTableMessage) -> Decoded<Self> {
        let entry = Arc::new(message.table.ok_or_else(|| missing("table"))?.into_entry()?);
        let deletion = message.deletion.ok_or_else(|| missing("deletion"))?;
        Ok(Self { entry, deletion: deletion.into(), with_database: message.with_database })
    }
}

fn missing(field: &'static str) -> FormatError {
    FormatError::field(field, "it is missing")
}
