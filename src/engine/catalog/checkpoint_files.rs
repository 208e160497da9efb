//! Many data files in the body of a checkpoint, column by column: numbers of one kind lie together and mostly as
//! differences, so that they pack well and are quick to read. The rules of `messages` hold here too.

use std::sync::Arc;

use prost::Message;

use super::file_messages::time_range;
use super::format::FormatError;
use super::messages::{Decoded, column_name};
use crate::model::{
    ColumnName, DataFile, FileColumns, FileId, RowGroup, Sequence, SequenceRange, TableId, TimeRange, Timestamp,
};

/// Files of one or more tables. Lists have one value for each file if nothing else is said; differences are to the value of
/// the file before, and to 0 for the first.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FilesMessage {
    /// The tables of the files, each as often as `counts` says.
    #[prost(uint32, repeated, tag = "1")]
    tables: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    counts: Vec<u32>,
    /// Lists of names, see `names_of`.
    #[prost(message, repeated, tag = "3")]
    names: Vec<NamesMessage>,
    /// Differences.
    #[prost(sint64, repeated, tag = "4")]
    ids: Vec<i64>,
    #[prost(string, repeated, tag = "5")]
    paths: Vec<String>,
    #[prost(uint64, repeated, tag = "6")]
    bytes: Vec<u64>,
    #[prost(uint64, repeated, tag = "7")]
    data_bytes: Vec<u64>,
    #[prost(fixed32, repeated, tag = "8")]
    tail_crc32c: Vec<u32>,
    #[prost(uint64, repeated, tag = "9")]
    rows: Vec<u64>,
    /// Differences.
    #[prost(sint64, repeated, tag = "10")]
    time_min: Vec<i64>,
    /// From the first row to the last.
    #[prost(uint64, repeated, tag = "11")]
    time_length: Vec<u64>,
    /// Differences.
    #[prost(sint64, repeated, tag = "12")]
    sequence_first: Vec<i64>,
    /// From the first write to the last.
    #[prost(sint64, repeated, tag = "13")]
    sequence_length: Vec<i64>,
    /// Differences.
    #[prost(sint64, repeated, tag = "14")]
    created: Vec<i64>,
    #[prost(uint64, repeated, tag = "15")]
    deletions_applied: Vec<u64>,
    /// Which of `names` are those of the columns.
    #[prost(uint32, repeated, tag = "16")]
    names_of: Vec<u32>,
    /// As [`FileColumns`] packs them.
    #[prost(bytes = "vec", repeated, tag = "17")]
    statistics: Vec<Vec<u8>>,
    #[prost(uint32, repeated, tag = "18")]
    row_group_counts: Vec<u32>,
    /// One for each row group, as those that follow.
    #[prost(uint64, repeated, tag = "19")]
    row_group_rows: Vec<u64>,
    /// Differences to the first row of the file.
    #[prost(sint64, repeated, tag = "20")]
    row_group_min: Vec<i64>,
    #[prost(uint64, repeated, tag = "21")]
    row_group_length: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NamesMessage {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

/// Files of one table, in the order in which they were added.
pub(super) struct TableFiles {
    pub(super) table: TableId,
    pub(super) files: Vec<Arc<DataFile>>,
}

/// Files that become a [`FilesMessage`].
#[derive(Default)]
pub(super) struct FilesPart {
    message: FilesMessage,
    /// About what the message takes.
    bytes: usize,
    before: Before,
    names: Vec<Arc<[ColumnName]>>,
}

/// Of which values there are the differences.
#[derive(Default)]
struct Before {
    id: u64,
    time_min: i64,
    sequence_first: u64,
    created: i64,
}

/// The difference that [`plus`] adds again, also where it does not fit into its type.
fn minus(value: i64, before: &mut i64) -> i64 {
    let difference = value.wrapping_sub(*before);
    *before = value;
    difference
}

fn plus(difference: i64, before: &mut i64) -> i64 {
    *before = before.wrapping_add(difference);
    *before
}

/// The same for numbers without sign.
fn minus_unsigned(value: u64, before: &mut u64) -> i64 {
    let difference = value.wrapping_sub(*before).cast_signed();
    *before = value;
    difference
}

fn plus_unsigned(difference: i64, before: &mut u64) -> u64 {
    *before = before.wrapping_add_signed(difference);
    *before
}

fn length(time: TimeRange) -> u64 {
    time.max.as_nanos().wrapping_sub(time.min.as_nanos()).cast_unsigned()
}

fn with_length(min: i64, length: u64) -> Decoded<TimeRange> {
    time_range(min, min.wrapping_add_unsigned(length))
}

impl FilesPart {
    pub(super) fn len(&self) -> usize {
        self.message.ids.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn message(&self) -> &FilesMessage {
        &self.message
    }

    pub(super) fn push(&mut self, table: TableId, file: &DataFile) {
        let names = self.names_of(&file.columns);
        let Self { message, before, .. } = self;
        match (message.tables.last(), message.counts.last_mut()) {
            (Some(last), Some(count)) if *last == table.get() => *count += 1,
            _ => {
                message.tables.push(table.get());
                message.counts.push(1);
            }
        }
        message.ids.push(minus_unsigned(file.id.get(), &mut before.id));
        message.paths.push(file.path.clone());
        message.bytes.push(file.bytes);
        message.data_bytes.push(file.data_bytes);
        message.tail_crc32c.push(file.tail_crc32c);
        message.rows.push(file.rows);
        message.time_min.push(minus(file.time.min.as_nanos(), &mut before.time_min));
        message.time_length.push(length(file.time));
        message.sequence_first.push(minus_unsigned(file.sequences.first.get(), &mut before.sequence_first));
        let mut first = file.sequences.first.get();
        message.sequence_length.push(minus_unsigned(file.sequences.last.get(), &mut first));
        message.created.push(minus(file.created.as_nanos(), &mut before.created));
        message.deletions_applied.push(file.deletions_applied);
        message.names_of.push(names);
        message.statistics.push(file.columns.packed().to_vec());
        message.row_group_counts.push(file.row_groups.len() as u32);
        for group in &file.row_groups {
            let mut start = file.time.min.as_nanos();
            message.row_group_rows.push(group.rows);
            message.row_group_min.push(minus(group.time.min.as_nanos(), &mut start));
            message.row_group_length.push(length(group.time));
        }
        self.bytes += 64 + file.path.len() + file.columns.packed().len() + 16 * file.row_groups.len();
    }

    /// The number of these names in the message's list.
    fn names_of(&mut self, columns: &FileColumns) -> u32 {
        let names = columns.names();
        // Most files have the names of the one before, and then mostly the very same list.
        let known = self.names.iter().rposition(|known| Arc::ptr_eq(known, names) || known == names);
        let number = known.unwrap_or_else(|| {
            let list: Vec<String> = names.iter().map(ToString::to_string).collect();
            self.bytes += list.iter().map(|name| name.len() + 2).sum::<usize>();
            self.message.names.push(NamesMessage { names: list });
            self.names.push(Arc::clone(names));
            self.names.len() - 1
        });
        number as u32
    }
}

impl FilesMessage {
    pub(super) fn into_files(self) -> Decoded<Vec<TableFiles>> {
        let names = self.names.iter().map(NamesMessage::to_names).collect::<Decoded<Vec<_>>>()?;
        let mut before = Before::default();
        let (mut paths, mut number, mut group) = (self.paths.into_iter(), 0, 0);
        let mut tables = Vec::with_capacity(self.tables.len());
        for (table, count) in self.tables.iter().zip(&self.counts) {
            let table = TableId::new(*table);
            let mut files = Vec::with_capacity((*count as usize).min(self.ids.len()));
            for _ in 0..*count {
                let time_min = plus(*at(&self.time_min, number)?, &mut before.time_min);
                let first = plus_unsigned(*at(&self.sequence_first, number)?, &mut before.sequence_first);
                let last = plus_unsigned(*at(&self.sequence_length, number)?, &mut first.clone());
                let names = Arc::clone(at(&names, *at(&self.names_of, number)? as usize)?);
                let groups = *at(&self.row_group_counts, number)? as usize;
                let row_groups = (group..group + groups).map(|group| {
                    let min = plus(*at(&self.row_group_min, group)?, &mut time_min.clone());
                    let time = with_length(min, *at(&self.row_group_length, group)?)?;
                    Ok(RowGroup { rows: *at(&self.row_group_rows, group)?, time })
                });
                files.push(Arc::new(DataFile {
                    id: FileId::new(plus_unsigned(*at(&self.ids, number)?, &mut before.id)),
                    table,
                    path: paths.next().ok_or_else(too_short)?,
                    bytes: *at(&self.bytes, number)?,
                    data_bytes: *at(&self.data_bytes, number)?,
                    tail_crc32c: *at(&self.tail_crc32c, number)?,
                    rows: *at(&self.rows, number)?,
                    time: with_length(time_min, *at(&self.time_length, number)?)?,
                    sequences: SequenceRange { first: Sequence::new(first), last: Sequence::new(last) },
                    deletions_applied: *at(&self.deletions_applied, number)?,
                    created: Timestamp::from_nanos(plus(*at(&self.created, number)?, &mut before.created)),
                    row_groups: row_groups.collect::<Decoded<_>>()?,
                    columns: FileColumns::from_packed(names, at(&self.statistics, number)?)
                        .ok_or_else(|| FormatError::field("statistics", "they are not those of the file's columns"))?,
                }));
                number += 1;
                group += groups;
            }
            tables.push(TableFiles { table, files });
        }
        if number != self.ids.len() {
            return Err(FormatError::field("counts", "there are more files than tables have"));
        }
        Ok(tables)
    }
}

impl NamesMessage {
    fn to_names(&self) -> Decoded<Arc<[ColumnName]>> {
        self.names.iter().map(|name| column_name(name)).collect()
    }
}

fn at<T>(values: &[T], number: usize) -> Decoded<&T> {
    values.get(number).ok_or_else(too_short)
}

fn too_short() -> FormatError {
    FormatError::field("files", "a list has fewer values than there are files")
}
