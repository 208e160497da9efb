//! The bytes of the catalog's objects.
//!
//! Every object is a header of 72 bytes and a body. Numbers are little endian.
//!
//! | bytes | field | what |
//! |---|---|---|
//! | 0..8 | magic | `FLCATLOG` |
//! | 8..10 | version | of the body: 1, of a checkpoint 2. The header is the same in every version |
//! | 10 | kind | 1 log record, 2 checkpoint, 3 mark of a trimmed log |
//! | 11 | – | 0 |
//! | 12..28 | nonce | random in a log record; a checkpoint repeats that of the record it ends with |
//! | 28..44 | catalog | identifier of the catalog |
//! | 44..52 | sequence | number of the record; the record that a checkpoint ends with; 0 in a mark |
//! | 52..60 | time | of the record, in nanoseconds since 1970 |
//! | 60..68 | length | of the body |
//! | 68..72 | checksum | CRC32C of bytes 0..68 and of the body |
//! | 72.. | body | of a record: protobuf, see `messages` for its fields; of a checkpoint: see `checkpoint`; empty in a mark |
//!
//! Always true:
//! - what a checkpoint says depends on the log alone, so that of two nodes that write one either may be first;
//! - no single flipped bit, and no missing or added byte, goes unnoticed;
//! - the checksum is looked at before the version, so that a damaged version is not taken for a newer one.

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::change::CatalogChange;
use super::checkpoint;
use super::messages::RecordMessage;
use super::state::{CatalogState, RecordMark, TicketKey};
use crate::model::Timestamp;

const MAGIC: [u8; 8] = *b"FLCATLOG";
const HEADER_BYTES: usize = 72;
const LENGTH_AT: usize = 60;
const CHECKSUM_AT: usize = 68;

/// Why bytes are no catalog object.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FormatError {
    #[error("it has {bytes} bytes, fewer than a header")]
    Short { bytes: usize },
    #[error("it does not begin like a catalog object")]
    Magic,
    #[error("it has {found} bytes and should have {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its checksum is {found:08x} and should be {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("it has version {found}, this program knows versions up to {newest}")]
    Version { found: u16, newest: u16 },
    #[error("it is of kind {found} and should be of kind {expected}")]
    Kind { found: u8, expected: u8 },
    #[error("it says that it is number {found}")]
    Place { found: u64 },
    #[error("its body is no protobuf")]
    Body(#[from] prost::DecodeError),
    #[error("a part of its body can't be packed")]
    Pack(#[source] std::io::Error),
    #[error("a part of its body can't be unpacked")]
    Unpack(#[source] std::io::Error),
    #[error("its field \"{field}\" can't be: {reason}")]
    Field { field: &'static str, reason: String },
}

impl FormatError {
    pub(super) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Field { field, reason: reason.into() }
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record = 1,
    Checkpoint = 2,
    Trimmed = 3,
}

impl Kind {
    /// The version that is written; it and all before it are read.
    fn version(self) -> u16 {
        match self {
            Self::Record | Self::Trimmed => 1,
            Self::Checkpoint => 2,
        }
    }
}

/// One numbered object of the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) catalog: Uuid,
    pub(super) mark: RecordMark,
    pub(super) content: RecordContent,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RecordContent {
    /// The first record of every log, and no other.
    Genesis { ticket_key: TicketKey },
    /// These changes, together.
    Changes(Vec<CatalogChange>),
}

struct Frame {
    version: u16,
    catalog: Uuid,
    mark: RecordMark,
    body: Bytes,
}

pub(super) fn encode_record(record: &Record) -> Bytes {
    let body = RecordMessage::from(&record.content).encode_to_vec();
    let mut bytes = begin(Kind::Record, record.catalog, record.mark);
    bytes.extend_from_slice(&body);
    seal(bytes)
}

/// The record in `bytes`, which must be the one with the number `sequence`.
pub(super) fn decode_record(bytes: &Bytes, sequence: u64) -> Result<Record, FormatError> {
    let Frame { catalog, mark, body, .. } = unseal(Kind::Record, bytes, sequence)?;
    let content = RecordContent::try_from(RecordMessage::decode(body)?)?;
    Ok(Record { catalog, mark, content })
}

pub(super) fn encode_checkpoint(state: &CatalogState) -> Result<Bytes, FormatError> {
    let mut bytes = begin(Kind::Checkpoint, state.id(), state.record());
    checkpoint::encode(state, &mut bytes)?;
    Ok(seal(bytes))
}

/// The state in `bytes`, which must end with the record of the number `sequence`.
pub(super) fn decode_checkpoint(bytes: &Bytes, sequence: u64) -> Result<CatalogState, FormatError> {
    let Frame { version, catalog, mark, body } = unseal(Kind::Checkpoint, bytes, sequence)?;
    let facts = match version {
        1 => checkpoint::decode_v1(body, catalog)?,
        _ => checkpoint::decode(&body, catalog)?,
    };
    CatalogState::restore(facts, mark).map_err(|error| FormatError::field("tables", error.to_string()))
}

/// The object that says that the log of this catalog has lost its beginning.
pub(super) fn encode_trimmed(catalog: Uuid) -> Bytes {
    let mark = RecordMark { sequence: 0, nonce: Uuid::nil(), time: Timestamp::from_nanos(0) };
    seal(begin(Kind::Trimmed, catalog, mark))
}

/// The header, to which the body is appended because it may be large; [`seal`] fills in what depends on it.
fn begin(kind: Kind, catalog: Uuid, mark: RecordMark) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&kind.version().to_le_bytes());
    bytes.extend_from_slice(&[kind as u8, 0]);
    bytes.extend_from_slice(mark.nonce.as_bytes());
    bytes.extend_from_slice(catalog.as_bytes());
    bytes.extend_from_slice(&mark.sequence.to_le_bytes());
    bytes.extend_from_slice(&mark.time.as_nanos().to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

fn seal(mut bytes: Vec<u8>) -> Bytes {
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    header[LENGTH_AT..CHECKSUM_AT].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), body);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

fn unseal(kind: Kind, bytes: &Bytes, sequence: u64) -> Result<Frame, FormatError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FormatError::Short { bytes: bytes.len() });
    };
    if header[..8] != MAGIC {
        return Err(FormatError::Magic);
    }
    let length = u64::from_le_bytes(field(header, LENGTH_AT));
    if length != body.len() as u64 {
        return Err(FormatError::Length {
            found: bytes.len() as u64,
            expected: length.saturating_add(HEADER_BYTES as u64),
        });
    }
    let found = u32::from_le_bytes(field(header, CHECKSUM_AT));
    let expected = crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), body);
    if found != expected {
        return Err(FormatError::Checksum { found, expected });
    }
    let version = u16::from_le_bytes(field(header, 8));
    if header[10] != kind as u8 {
        return Err(FormatError::Kind { found: header[10], expected: kind as u8 });
    }
    if !(1..=kind.version()).contains(&version) {
        return Err(FormatError::Version { found: version, newest: kind.version() });
    }
    let mark = RecordMark {
        sequence: u64::from_le_bytes(field(header, 44)),
        nonce: Uuid::from_bytes(field(header, 12)),
        time: Timestamp::from_nanos(i64::from_le_bytes(field(header, 52))),
    };
    if mark.sequence != sequence {
        return Err(FormatError::Place { found: mark.sequence });
    }
    Ok(Frame { version, catalog: Uuid::from_bytes(field(header, 28)), mark, body: bytes.slice(HEADER_BYTES..) })
}

/// `N` bytes of the header.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
