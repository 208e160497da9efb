//! Databases in the bodies of the catalog's objects. The rules of `messages` hold here too.

use std::time::Duration;

use prost::Message;

use super::messages::{Decoded, database_name, nanoseconds};
use super::state::{DatabaseEntry, DatabaseFacts, DeletedDatabase};
use crate::model::{DatabaseId, DatabaseName};

#[derive(Clone, PartialEq, Message)]
pub(super) struct DatabaseMessage {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, optional, tag = "3")]
    retention: Option<u64>,
    /// Not there: the database itself, as in all that was written before there was a choice.
    #[prost(string, optional, tag = "4")]
    default_policy: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DefaultPolicyMessage {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    /// Not there: the database itself.
    #[prost(string, optional, tag = "2")]
    pub(super) policy: Option<String>,
}

impl DatabaseMessage {
    /// One that has nothing yet but a name.
    pub(super) fn new(id: DatabaseId, name: &DatabaseName) -> Self {
        Self { id: id.get(), name: name.to_string(), retention: None, default_policy: None }
    }

    pub(super) fn into_database(self) -> Decoded<DatabaseFacts> {
        Ok(DatabaseFacts {
            id: DatabaseId::new(self.id),
            name: database_name(&self.name)?,
            retention: self.retention.map(Duration::from_nanos),
            default_policy: self.default_policy,
        })
    }
}

impl From<&DatabaseEntry> for DatabaseMessage {
    fn from(database: &DatabaseEntry) -> Self {
        Self {
            retention: database.retention.map(nanoseconds),
            default_policy: database.default_policy.clone(),
            ..Self::new(database.id, &database.name)
        }
    }
}

/// With the name that it had.
impl From<&DeletedDatabase> for DatabaseMessage {
    fn from(database: &DeletedDatabase) -> Self {
        Self {
            retention: database.retention.map(nanoseconds),
            default_policy: database.default_policy.clone(),
            ..Self::new(database.id, &database.name)
        }
    }
}
