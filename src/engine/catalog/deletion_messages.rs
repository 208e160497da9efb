//! Deleted rows in the bodies of the catalog's objects. The rules of `messages` hold here too.

use prost::Message;

use super::file_messages::time_range;
use super::format::FormatError;
use super::messages::{Decoded, column_name};
use crate::model::{ColumnName, Deletion, RowSelection, Sequence};

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRowsMessage {
    #[prost(uint32, tag = "1")]
    pub(super) table: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) rows: Option<SelectionMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeletionMessage {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(message, optional, tag = "2")]
    rows: Option<SelectionMessage>,
    #[prost(uint64, tag = "3")]
    through: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SelectionMessage {
    #[prost(sint64, tag = "1")]
    time_min: i64,
    #[prost(sint64, tag = "2")]
    time_max: i64,
    #[prost(message, repeated, tag = "3")]
    tags: Vec<TagMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct TagMessage {
    #[prost(string, tag = "1")]
    name: String,
    /// Not there: the row must not have the tag.
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

impl From<&RowSelection> for SelectionMessage {
    fn from(rows: &RowSelection) -> Self {
        let tag =
            |(name, value): &(ColumnName, Option<String>)| TagMessage { name: name.to_string(), value: value.clone() };
        Self {
            time_min: rows.time.min.as_nanos(),
            time_max: rows.time.max.as_nanos(),
            tags: rows.tags.iter().map(tag).collect(),
        }
    }
}

impl TryFrom<SelectionMessage> for RowSelection {
    type Error = FormatError;

    fn try_from(message: SelectionMessage) -> Decoded<Self> {
        let tags = message.tags.into_iter().map(|tag| Ok((column_name(&tag.name)?, tag.value)));
        Ok(Self { time: time_range(message.time_min, message.time_max)?, tags: tags.collect::<Decoded<_>>()? })
    }
}

impl From<&Deletion> for DeletionMessage {
    fn from(deletion: &Deletion) -> Self {
        let rows = Some(SelectionMessage::from(&deletion.rows));
        Self { number: deletion.number, rows, through: deletion.through.get() }
    }
}

impl TryFrom<DeletionMessage> for Deletion {
    type Error = FormatError;

    fn try_from(message: DeletionMessage) -> Decoded<Self> {
        let rows = message.rows.ok_or_else(|| FormatError::field("rows", "they are missing"))?;
        Ok(Self { number: message.number, rows: rows.try_into()?, through: Sequence::new(message.through) })
    }
}
