//! Caches in the bodies of the catalog's objects. The rules of `messages` hold here too.
//!
//! A kind of cache is 1 last values, 2 distinct values. Lengths of time are nanoseconds; one that is not there: no limit.

use std::time::Duration;

use prost::Message;

use super::format::FormatError;
use super::messages::{Decoded, column_name, nanoseconds};
use crate::model::{CacheDefinition, CacheKind, CacheShape, ColumnName, Newest, TableId};

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateCacheMessage {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(message, optional, tag = "2")]
    cache: Option<CacheMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteCacheMessage {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CacheMessage {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    name: String,
    /// Of a distinct cache its columns. Not there: all tags.
    #[prost(message, optional, tag = "3")]
    keys: Option<NamesMessage>,
    /// Not there: all other columns.
    #[prost(message, optional, tag = "4")]
    values: Option<NamesMessage>,
    /// Points of each key, or combinations in all.
    #[prost(uint32, tag = "5")]
    rows_max: u32,
    #[prost(uint64, optional, tag = "6")]
    age_max: Option<u64>,
    /// Of last values: one row of each key, with each column's newest value.
    #[prost(bool, tag = "7")]
    per_field: bool,
}

#[derive(Clone, PartialEq, Message)]
struct NamesMessage {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

impl NamesMessage {
    fn new(names: &[ColumnName]) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect() }
    }

    fn into_names(self) -> Decoded<Vec<ColumnName>> {
        self.names.iter().map(|name| column_name(name)).collect()
    }
}

impl CreateCacheMessage {
    pub(super) fn new(table: TableId, cache: &CacheDefinition) -> Self {
        Self { table: table.get(), cache: Some(cache.into()) }
    }

    pub(super) fn into_cache(self) -> Decoded<(TableId, CacheDefinition)> {
        let cache = self.cache.ok_or_else(|| FormatError::field("cache", "it is missing"))?;
        Ok((TableId::new(self.table), cache.try_into()?))
    }
}

impl DeleteCacheMessage {
    pub(super) fn new(table: TableId, kind: CacheKind, name: &str) -> Self {
        Self { table: table.get(), kind: number(kind), name: name.to_owned() }
    }

    pub(super) fn into_name(self) -> Decoded<(TableId, CacheKind, String)> {
        Ok((TableId::new(self.table), kind(self.kind)?, self.name))
    }
}

impl From<&CacheDefinition> for CacheMessage {
    fn from(cache: &CacheDefinition) -> Self {
        let (keys, values, rows_max) = match &cache.shape {
            CacheShape::Last { keys, values, newest, .. } => {
                let rows_max = match newest {
                    Newest::Points(count) => *count,
                    Newest::Values => 1,
                };
                (keys.as_deref(), values.as_deref(), rows_max)
            }
            CacheShape::Distinct { columns, cardinality_max, .. } => (Some(columns.as_slice()), None, *cardinality_max),
        };
        Self {
            kind: number(cache.kind()),
            name: cache.name.clone(),
            keys: keys.map(NamesMessage::new),
            values: values.map(NamesMessage::new),
            rows_max,
            age_max: cache.age_max().map(nanoseconds),
            per_field: cache.is_of_values(),
        }
    }
}

impl TryFrom<CacheMessage> for CacheDefinition {
    type Error = FormatError;

    fn try_from(message: CacheMessage) -> Decoded<Self> {
        let CacheMessage { kind: number, name, keys, values, rows_max, age_max, per_field } = message;
        let keys = keys.map(NamesMessage::into_names).transpose()?;
        let age_max = age_max.map(Duration::from_nanos);
        let shape = match kind(number)? {
            CacheKind::Last => {
                let values = values.map(NamesMessage::into_names).transpose()?;
                let newest = if per_field { Newest::Values } else { Newest::Points(rows_max) };
                CacheShape::Last { keys, values, newest, ttl: age_max }
            }
            CacheKind::Distinct => {
                CacheShape::Distinct { columns: keys.unwrap_or_default(), cardinality_max: rows_max, age_max }
            }
        };
        Ok(Self { name, shape })
    }
}

fn number(kind: CacheKind) -> u32 {
    match kind {
        CacheKind::Last => 1,
        CacheKind::Distinct => 2,
    }
}

fn kind(number: u32) -> Decoded<CacheKind> {
    match number {
        1 => Ok(CacheKind::Last),
        2 => Ok(CacheKind::Distinct),
        other => Err(FormatError::field("kind", format!("{other} is no kind of cache"))),
    }
}
