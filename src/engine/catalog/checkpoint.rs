//! The body of a checkpoint: all of a state, in parts.
//!
//! A catalog of a million files is read and written in pieces of some thousand files, so that neither takes much memory besides
//! the state and the stored bytes, and several processors read at once. One part after the other, numbers little endian:
//!
//! | bytes | field | what |
//! |---|---|---|
//! | 0 | kind | 1 state, 2 files, 3 garbage |
//! | 1..9 | length | of the packed part |
//! | 9.. | part | protobuf, packed with zstd |
//!
//! The first part, and no other, is of kind 1: a `CheckpointMessage` without files and garbage. Files follow by table, those
//! of a table in the order of writes, as `FilesMessage`; last the garbage.
//!
//! Version 1 was one `CheckpointMessage` with everything in it, not packed: 2.5 times the memory while it was read, and six
//! times the bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::checkpoint_files::{FilesMessage, FilesPart, TableFiles};
use super::format::FormatError;
use super::messages::{CheckpointMessage, Decoded, GarbageMessage};
use super::state::{CatalogState, Facts, GarbageFile, TableEntry};
use crate::model::{FileList, TableId};

const STATE: u8 = 1;
const FILES: u8 = 2;
const GARBAGE: u8 = 3;

const HEADER_BYTES: usize = 9;

/// Files of a part, and about their bytes before they are packed, whichever comes first.
const PART_FILES_MAX: usize = 4096;
const PART_BYTES_MAX: usize = 4 << 20;

/// Little is gained by trying harder, and a checkpoint is often written and rarely read.
const ZSTD_LEVEL: i32 = 1;

/// Threads that read a checkpoint; more wait for each other's memory.
const THREADS_MAX: usize = 8;

/// Garbage in a part.
#[derive(Clone, PartialEq, Message)]
struct GarbageListMessage {
    #[prost(message, repeated, tag = "1")]
    files: Vec<GarbageMessage>,
}

/// Appends the body.
pub(super) fn encode(state: &CatalogState, body: &mut Vec<u8>) -> Result<(), FormatError> {
    append(body, STATE, &CheckpointMessage::from(state))?;
    let mut files = FilesPart::default();
    for table in state.kept_tables() {
        for file in table.files.iter() {
            files.push(table.id, file);
            if files.len() >= PART_FILES_MAX || files.bytes() >= PART_BYTES_MAX {
                append(body, FILES, files.message())?;
                files = FilesPart::default();
            }
        }
    }
    if files.len() > 0 {
        append(body, FILES, files.message())?;
    }
    let mut garbage = state.garbage().map(GarbageMessage::from).peekable();
    while garbage.peek().is_some() {
        append(body, GARBAGE, &GarbageListMessage { files: garbage.by_ref().take(PART_FILES_MAX).collect() })?;
    }
    Ok(())
}

fn append(body: &mut Vec<u8>, kind: u8, part: &impl Message) -> Result<(), FormatError> {
    let packed = zstd::bulk::compress(&part.encode_to_vec(), ZSTD_LEVEL).map_err(FormatError::Pack)?;
    body.push(kind);
    body.extend_from_slice(&(packed.len() as u64).to_le_bytes());
    body.extend_from_slice(&packed);
    Ok(())
}

/// A body of version 1.
pub(super) fn decode_v1(body: Bytes, catalog: Uuid) -> Decoded<Facts> {
    CheckpointMessage::decode(body)?.into_facts(catalog)
}

/// A body of version 2.
pub(super) fn decode(body: &[u8], catalog: Uuid) -> Decoded<Facts> {
    let parts = split(body)?;
    let [(STATE, state), parts @ ..] = parts.as_slice() else {
        return Err(FormatError::field("kind", "the first part is not the state"));
    };
    let mut facts = CheckpointMessage::decode(unpack(state)?.as_slice())?.into_facts(catalog)?;
    let mut files: HashMap<TableId, FileList> = HashMap::new();
    for part in in_parallel(parts, |(kind, part)| Part::decode(*kind, part)) {
        match part? {
            Part::Files(tables) => {
                for TableFiles { table, files: more } in tables {
                    files.entry(table).or_default().extend(more);
                }
            }
            Part::Garbage(garbage) => facts.garbage.extend(garbage),
        }
    }
    let deleted = facts.deleted_tables.iter_mut().map(|table| Arc::make_mut(&mut table.entry));
    for table in facts.tables.iter_mut().chain(deleted) {
        let TableEntry { id, files: of_table, .. } = table;
        *of_table = files.remove(id).unwrap_or_default();
    }
    match files.keys().next() {
        Some(table) => Err(FormatError::field("tables", format!("there are files of table {table} and no such table"))),
        None => Ok(facts),
    }
}

/// One part but the first.
enum Part {
    Files(Vec<TableFiles>),
    Garbage(Vec<GarbageFile>),
}

impl Part {
    fn decode(kind: u8, part: &[u8]) -> Decoded<Self> {
        let part = unpack(part)?;
        match kind {
            FILES => FilesMessage::decode(part.as_slice())?.into_files().map(Self::Files),
            GARBAGE => {
                let files = GarbageListMessage::decode(part.as_slice())?.files;
                Ok(Self::Garbage(files.into_iter().map(GarbageFile::from).collect()))
            }
            other => Err(FormatError::field("kind", format!("{other} is no kind of a part that may be there"))),
        }
    }
}

/// Kind and packed bytes of each part.
fn split(mut body: &[u8]) -> Decoded<Vec<(u8, &[u8])>> {
    let mut parts = Vec::new();
    while let Some((header, rest)) = body.split_first_chunk::<HEADER_BYTES>() {
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        let cut_off = || FormatError::field("length", format!("a part of {length} bytes is cut off"));
        let (part, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        parts.push((kind, part));
        body = rest;
    }
    if body.is_empty() { Ok(parts) } else { Err(FormatError::field("length", "there are bytes after the last part")) }
}

fn unpack(part: &[u8]) -> Decoded<Vec<u8>> {
    zstd::stream::decode_all(part).map_err(FormatError::Unpack)
}

/// The results for all items, in their order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            done.push((number, work(item)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.flatten().collect::<Vec<_>>()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
