//! A data file in the bodies of the catalog's objects. The rules of `messages` hold here too.

use prost::{Message, Oneof};

use super::format::FormatError;
use super::messages::{Decoded, column_name};
use crate::model::{
    ColumnStatistics, DataFile, FileId, RowGroup, Scalar, Sequence, SequenceRange, TableId, TimeRange, Timestamp,
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct DataFileMessage {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint32, tag = "2")]
    table: u32,
    #[prost(string, tag = "3")]
    path: String,
    #[prost(uint64, tag = "4")]
    bytes: u64,
    #[prost(uint64, tag = "5")]
    data_bytes: u64,
    #[prost(fixed32, tag = "6")]
    tail_crc32c: u32,
    #[prost(uint64, tag = "7")]
    rows: u64,
    #[prost(sint64, tag = "8")]
    time_min: i64,
    #[prost(sint64, tag = "9")]
    time_max: i64,
    #[prost(uint64, tag = "10")]
    sequence_first: u64,
    #[prost(uint64, tag = "11")]
    sequence_last: u64,
    #[prost(message, repeated, tag = "12")]
    row_groups: Vec<RowGroupMessage>,
    #[prost(message, repeated, tag = "13")]
    columns: Vec<StatisticsMessage>,
    #[prost(sint64, tag = "14")]
    created: i64,
    #[prost(uint64, tag = "15")]
    deletions_applied: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RowGroupMessage {
    #[prost(uint64, tag = "1")]
    rows: u64,
    #[prost(sint64, tag = "2")]
    time_min: i64,
    #[prost(sint64, tag = "3")]
    time_max: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatisticsMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    nulls: u64,
    /// There with `max` or not at all.
    #[prost(message, optional, tag = "3")]
    min: Option<ScalarMessage>,
    #[prost(message, optional, tag = "4")]
    max: Option<ScalarMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ScalarMessage {
    #[prost(oneof = "ScalarValue", tags = "1, 2, 3, 4, 5")]
    value: Option<ScalarValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum ScalarValue {
    #[prost(double, tag = "1")]
    Float(f64),
    #[prost(sint64, tag = "2")]
    Integer(i64),
    #[prost(uint64, tag = "3")]
    Unsigned(u64),
    #[prost(string, tag = "4")]
    String(String),
    #[prost(bool, tag = "5")]
    Boolean(bool),
}

impl From<&DataFile> for DataFileMessage {
    fn from(file: &DataFile) -> Self {
        Self {
            id: file.id.get(),
            table: file.table.get(),
            path: file.path.clone(),
            bytes: file.bytes,
            data_bytes: file.data_bytes,
            tail_crc32c: file.tail_crc32c,
            rows: file.rows,
            time_min: file.time.min.as_nanos(),
            time_max: file.time.max.as_nanos(),
            sequence_first: file.sequences.first.get(),
            sequence_last: file.sequences.last.get(),
            row_groups: file.row_groups.iter().map(RowGroupMessage::from).collect(),
            columns: file.columns.iter().map(|column| StatisticsMessage::from(&column)).collect(),
            created: file.created.as_nanos(),
            deletions_applied: file.deletions_applied,
        }
    }
}

impl TryFrom<DataFileMessage> for DataFile {
    type Error = FormatError;

    fn try_from(message: DataFileMessage) -> Decoded<Self> {
        let sequences =
            SequenceRange { first: Sequence::new(message.sequence_first), last: Sequence::new(message.sequence_last) };
        Ok(Self {
            id: FileId::new(message.id),
            table: TableId::new(message.table),
            path: message.path,
            bytes: message.bytes,
            data_bytes: message.data_bytes,
            tail_crc32c: message.tail_crc32c,
            rows: message.rows,
            time: time_range(message.time_min, message.time_max)?,
            sequences,
            created: Timestamp::from_nanos(message.created),
            deletions_applied: message.deletions_applied,
            row_groups: message.row_groups.into_iter().map(RowGroup::try_from).collect::<Decoded<_>>()?,
            columns: message.columns.into_iter().map(ColumnStatistics::try_from).collect::<Decoded<_>>()?,
        })
    }
}

pub(super) fn time_range(min: i64, max: i64) -> Decoded<TimeRange> {
    if min > max {
        return Err(FormatError::field("time_max", format!("{max} is before {min}")));
    }
    Ok(TimeRange::from_nanos(min, max))
}

impl From<&RowGroup> for RowGroupMessage {
    fn from(group: &RowGroup) -> Self {
        let (time_min, time_max) = (group.time.min.as_nanos(), group.time.max.as_nanos());
        Self { rows: group.rows, time_min, time_max }
    }
}

impl TryFrom<RowGroupMessage> for RowGroup {
    type Error = FormatError;

    fn try_from(message: RowGroupMessage) -> Decoded<Self> {
        Ok(Self { rows: message.rows, time: time_range(message.time_min, message.time_max)? })
    }
}

impl From<&ColumnStatistics> for StatisticsMessage {
    fn from(statistics: &ColumnStatistics) -> Self {
        let (min, max) = statistics.bounds.as_ref().map(|(min, max)| (min.into(), max.into())).unzip();
        Self { name: statistics.name.to_string(), nulls: statistics.nulls, min, max }
    }
}

impl TryFrom<StatisticsMessage> for ColumnStatistics {
    type Error = FormatError;

    fn try_from(message: StatisticsMessage) -> Decoded<Self> {
        let bounds = match (message.min, message.max) {
            (Some(min), Some(max)) => Some((min.try_into()?, max.try_into()?)),
            (None, None) => None,
            _ => return Err(FormatError::field("min", "there is one bound without the other")),
        };
        Ok(Self { name: column_name(&message.name)?, nulls: message.nulls, bounds })
    }
}

impl From<&Scalar> for ScalarMessage {
    fn from(scalar: &Scalar) -> Self {
        let value = match scalar {
            Scalar::Float(value) => ScalarValue::Float(*value),
            Scalar::Integer(value) => ScalarValue::Integer(*value),
            Scalar::Unsigned(value) => ScalarValue::Unsigned(*value),
            Scalar::String(value) => ScalarValue::String(value.clone()),
            Scalar::Boolean(value) => ScalarValue::Boolean(*value),
        };
        Self { value: Some(value) }
    }
}

impl TryFrom<ScalarMessage> for Scalar {
    type Error = FormatError;

    fn try_from(message: ScalarMessage) -> Decoded<Self> {
        match message.value {
            Some(ScalarValue::Float(value)) => Ok(Self::Float(value)),
            Some(ScalarValue::Integer(value)) => Ok(Self::Integer(value)),
            Some(ScalarValue::Unsigned(value)) => Ok(Self::Unsigned(value)),
            Some(ScalarValue::String(value)) => Ok(Self::String(value)),
            Some(ScalarValue::Boolean(value)) => Ok(Self::Boolean(value)),
            None => Err(FormatError::field("value", "it is of a kind that this program doesn't know")),
        }
    }
}
