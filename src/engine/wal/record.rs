//! One write as bytes and back. The format stands in `segment`.
//!
//! A write is encoded by its writer, not by the commit thread, and without its sequence, which nobody knows by then.
//! Large column buffers are not copied: the encoded record shares them with the batch until the disk has them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use prost::Message;

use super::WalError;
use crate::model::{DatabaseId, TableId};

/// One write: all its rows become durable and visible together.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteRecord {
    /// The database that was written to.
    pub database: DatabaseId,
    /// The rows, by table. A table may appear more than once.
    pub entries: Vec<RecordEntry>,
}

/// The rows that one write has for one table.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordEntry {
    /// The table that was written to.
    pub table: TableId,
    /// The rows. The log keeps the schema with them, field metadata included.
    pub batch: RecordBatch,
}

/// Buffers up to this size are gathered into one; copying them costs less than the kernel's work for one more slice.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// From this size on a record's checksum is computed by its writer and then combined, which costs about 10 us.
const OWN_CHECKSUM_BYTES_MIN: usize = 256 * 1024;

/// Arrow's smallest padding. Replay copies each record into aligned memory of its own, so more would be wasted.
const IPC_ALIGNMENT_BYTES: usize = 8;

/// A write that is ready for the disk, except for its sequence.
#[derive(Debug)]
pub struct EncodedRecord {
    parts: Vec<Buffer>,
    bytes: usize,
    checksum: Option<u32>,
    tables: Vec<TableId>,
}

impl EncodedRecord {
    /// Encodes a write.
    ///
    /// # Errors
    /// `Encode` if a batch has a type that Arrow IPC does not know.
    pub fn encode(record: &WriteRecord) -> Result<Self, WalError> {
        let mut header = RecordHeader { database: record.database.get(), entries: Vec::new() };
        let mut streams = Vec::with_capacity(record.entries.len());
        for entry in &record.entries {
            let stream = encode_stream(&entry.batch).map_err(WalError::Encode)?;
            let ipc_bytes = stream.iter().map(Buffer::len).sum::<usize>() as u64;
            header.entries.push(EntryHeader { table: entry.table.get(), ipc_bytes });
            streams.push(stream);
        }
        let mut parts = Parts { sealed: Vec::new(), open: header.encode_length_delimited_to_vec() };
        streams.into_iter().flatten().for_each(|buffer| parts.push(buffer));
        let parts = parts.finish();

        let bytes = parts.iter().map(Buffer::len).sum();
        let checksum = (bytes >= OWN_CHECKSUM_BYTES_MIN).then(|| append_checksum(0, &parts));
        let tables = record.entries.iter().map(|entry| entry.table).collect();
        Ok(Self { parts, bytes, checksum, tables })
    }

    /// Bytes that the record takes in the body of a frame.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The tables that have rows in the record.
    pub(super) fn tables(&self) -> &[TableId] {
        &self.tables
    }

    /// The record's bytes, in pieces that share their memory with the rows.
    pub(super) fn parts(&self) -> &[Buffer] {
        &self.parts
    }

    /// The record's bytes, in pieces.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(Buffer::as_slice)
    }

    /// The checksum of everything before the record and of the record.
    pub(super) fn extend_checksum(&self, before: u32) -> u32 {
        match self.checksum {
            Some(own) => crc32c::crc32c_combine(before, own, self.bytes),
            None => append_checksum(before, &self.parts),
        }
    }
}

fn append_checksum(before: u32, parts: &[Buffer]) -> u32 {
    parts.iter().fold(before, |checksum, part| crc32c::crc32c_append(checksum, part))
}

fn encode_stream(batch: &RecordBatch) -> Result<Vec<Buffer>, ArrowError> {
    let schema: &Schema = batch.schema_ref();
    let options = IpcWriteOptions::try_new(IPC_ALIGNMENT_BYTES, false, MetadataVersion::V5)?;
    let mut encoder = StreamEncoder::try_new_with_options(schema, options)?;
    let mut buffers = encoder.encode(batch)?;
    buffers.extend(encoder.finish()?);
    Ok(buffers)
}

/// Pieces of a record, small neighbours gathered.
struct Parts {
    sealed: Vec<Buffer>,
    open: Vec<u8>,
}

impl Parts {
    fn push(&mut self, buffer: Buffer) {
        if buffer.len() <= COPY_BYTES_MAX {
            self.open.extend_from_slice(&buffer);
            return;
        }
        self.seal();
        self.sealed.push(buffer);
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(Buffer::from_vec(std::mem::take(&mut self.open)));
        }
    }

    fn finish(mut self) -> Vec<Buffer> {
        self.seal();
        self.sealed
    }
}

/// Why a record cannot be read although its bytes are those that were written.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// The protobuf header is not one.
    #[error("its header cannot be read")]
    Header(#[from] prost::DecodeError),
    /// An entry says that it is longer than what is there.
    #[error("an entry of {ipc_bytes} bytes does not fit into the {rest} bytes that are left")]
    Length {
        /// What the entry says.
        ipc_bytes: u64,
        /// What is left of the frame.
        rest: usize,
    },
    /// The rows are no Arrow IPC stream.
    #[error("its rows cannot be read")]
    Arrow(#[from] ArrowError),
    /// An entry does not hold exactly one batch.
    #[error("its rows are not one batch")]
    Batches,
    /// The frame has more bytes than its records.
    #[error("{0} bytes follow the last record of the frame")]
    Rest(usize),
    /// The Arrow reader gave up on the bytes.
    #[error("reading its rows failed: {0}")]
    Panic(String),
}

impl WriteRecord {
    /// Takes the next record off the body of a frame.
    pub(super) fn decode(body: &mut &[u8]) -> Result<Self, RecordFault> {
        let header = RecordHeader::decode_length_delimited(&mut *body)?;
        let mut entries = Vec::new();
        for entry in header.entries {
            let too_long = || RecordFault::Length { ipc_bytes: entry.ipc_bytes, rest: body.len() };
            let ipc_bytes = usize::try_from(entry.ipc_bytes).map_err(|_| too_long())?;
            let (stream, rest) = body.split_at_checked(ipc_bytes).ok_or_else(too_long)?;
            // A copy: aligned, so that columns need no copy of their own, and it keeps no other record in memory.
            let batch = decode_stream(Buffer::from_slice_ref(stream))?;
            entries.push(RecordEntry { table: TableId::new(entry.table), batch });
            *body = rest;
        }
        Ok(Self { database: DatabaseId::new(header.database), entries })
    }
}

fn decode_stream(stream: Buffer) -> Result<RecordBatch, RecordFault> {
    // The checksum says that these are the bytes we wrote, so this only fails if we wrote nonsense. But arrow-ipc panics
    // on some nonsense, and a start must end in a sentence that names the file.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_batches(stream)));
    decoded.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(RecordFault::Panic(message.unwrap_or_else(|| "for an unknown reason".to_owned())))
    })
}

fn decode_batches(mut stream: Buffer) -> Result<RecordBatch, RecordFault> {
    let mut decoder = StreamDecoder::new();
    let batch = decoder.decode(&mut stream)?.ok_or(RecordFault::Batches)?;
    if decoder.decode(&mut stream)?.is_some() {
        return Err(RecordFault::Batches);
    }
    decoder.finish()?;
    Ok(batch)
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordHeader {
    #[prost(uint32, tag = "1")]
    database: u32,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryHeader {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(uint64, tag = "2")]
    ipc_bytes: u64,
}
