//! The bytes of a segment: a header, then frames until the end of the file.
//!
//! Numbers are little-endian; lengths and offsets are in bytes, offsets count from the start of the file.
//! The file is named after its first sequence: twenty digits and `.wal`.
//!
//! Segment header, 92 bytes. Magic, version and the place of the checksum stay the same in every version.
//!
//! | offset | bytes | what |
//! |-------:|------:|---|
//! |  0 |  8 | `FLINEWAL` |
//! |  8 |  4 | format version: 1 |
//! | 12 |  4 | zero |
//! | 16 | 16 | id of the catalog that the writes belong to |
//! | 32 | 16 | nonce: random, drawn for this segment |
//! | 48 |  8 | first sequence |
//! | 56 |  8 | first sequence of the segment before this one; 0 if there was none |
//! | 64 |  8 | the sequence after the last one in the segment before |
//! | 72 |  8 | valid length of the segment before: what stands behind it was never acknowledged |
//! | 80 |  8 | synced length of the segment before: up to here it must be intact |
//! | 88 |  4 | CRC32C of bytes 0 to 88 |
//!
//! Frame, one for each group of writes: a header of 44 bytes, then the body.
//!
//! | offset | bytes | what |
//! |-------:|------:|---|
//! |  0 | 8 | the first 8 bytes of the segment's nonce, which nobody who sends data can know |
//! |  8 | 8 | length of the body |
//! | 16 | 8 | everything before this offset of the file was synced before this frame was written |
//! | 24 | 8 | sequence of the first record; the others follow without gaps |
//! | 32 | 4 | number of records |
//! | 36 | 4 | CRC32C of the body |
//! | 40 | 4 | CRC32C of bytes 0 to 40 |
//!
//! Body: the records one after the other, without padding. A record is one write: a protobuf message with its length
//! before it (a varint), then one Arrow IPC stream for each entry, in order, neither compressed nor padded.
//!
//! ```proto
//! message RecordHeader { uint32 database = 1; repeated Entry entries = 2; }
//! message Entry { uint32 table = 1; uint64 ipc_bytes = 2; }
//! ```
//!
//! Why a frame says what was synced before it: a torn tail is normal after a power cut and is cut off, while damage in
//! the middle must stop the start. Both look like a frame that fails its checksum. A later frame whose third field lies
//! behind the failing one proves that the failing one was once safe, so that its loss is damage.
//!
//! So that this is known of the newest frame as well, a *mark* follows it when the log has nothing else to do: a frame without
//! records. It is not synced. Lost, torn or damaged it is as if it had never been.
//!
//! Why two lengths of the segment before: when a sync fails, frames since the last good sync, which were acknowledged
//! only to writers that did not ask for durability, may be lost without the disk being damaged otherwise.

use bytes::{Buf, BufMut};
use uuid::Uuid;

use crate::model::Sequence;

/// Bytes of a segment header.
pub(super) const HEADER_BYTES: usize = 92;

/// Bytes of a frame header.
pub(super) const FRAME_HEADER_BYTES: usize = 44;

/// The format version that this program writes and the only one that it reads.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"FLINEWAL";
const EXTENSION: &str = ".wal";
const NAME_DIGITS: usize = 20;

/// The file name of the segment that begins with `first`.
pub(super) fn segment_name(first: Sequence) -> String {
    format!("{:0width$}{EXTENSION}", first.get(), width = NAME_DIGITS)
}

/// Whether a file of the directory is a segment.
pub(super) fn is_segment_name(name: &str) -> bool {
    name.strip_suffix(EXTENSION)
        .is_some_and(|digits| digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What a segment says of itself and of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) catalog: Uuid,
    pub(super) nonce: Uuid,
    pub(super) first: Sequence,
    pub(super) previous: Option<PreviousSegment>,
}

/// What counts in the segment before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreviousSegment {
    pub(super) first: Sequence,
    /// The sequence after its last one.
    pub(super) next: Sequence,
    /// Where its last frame that counts ends.
    pub(super) valid_bytes: u64,
    /// Up to where it is safe on disk. Never more than `valid_bytes`.
    pub(super) synced_bytes: u64,
}

/// Why bytes are no segment header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Too short, or not what was written.
    Damaged,
    /// A header of another format version.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u32_le(0);
        bytes.put_slice(self.catalog.as_bytes());
        bytes.put_slice(self.nonce.as_bytes());
        bytes.put_u64_le(self.first.get());
        let none = PreviousSegment { first: Sequence::ZERO, next: Sequence::ZERO, valid_bytes: 0, synced_bytes: 0 };
        let previous = self.previous.unwrap_or(none);
        bytes.put_u64_le(previous.first.get());
        bytes.put_u64_le(previous.next.get());
        bytes.put_u64_le(previous.valid_bytes);
        bytes.put_u64_le(previous.synced_bytes);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads the header at the start of a segment.
    pub(super) fn decode(segment: &[u8]) -> Result<Self, HeaderFault> {
        let header = segment.get(..HEADER_BYTES).ok_or(HeaderFault::Damaged)?;
        let (mut fields, mut checksum) = header.split_at(HEADER_BYTES - 4);
        if crc32c::crc32c(fields) != checksum.get_u32_le() || !fields.starts_with(&MAGIC) {
            return Err(HeaderFault::Damaged);
        }
        fields.advance(MAGIC.len());
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        fields.advance(4);
        let catalog = Uuid::from_u128(fields.get_u128());
        let nonce = Uuid::from_u128(fields.get_u128());
        let first = Sequence::new(fields.get_u64_le());
        let previous = PreviousSegment {
            first: Sequence::new(fields.get_u64_le()),
            next: Sequence::new(fields.get_u64_le()),
            valid_bytes: fields.get_u64_le(),
            synced_bytes: fields.get_u64_le(),
        };
        let previous = (previous.first > Sequence::ZERO).then_some(previous);
        Ok(Self { catalog, nonce, first, previous })
    }

    /// What every frame of the segment begins with.
    pub(super) fn frame_magic(&self) -> FrameMagic {
        let mut magic = [0; 8];
        magic.copy_from_slice(&self.nonce.as_bytes()[..8]);
        FrameMagic(magic)
    }
}

/// The bytes that begin each frame of one segment, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameMagic([u8; 8]);

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: u64,
    pub(super) synced_through: u64,
    pub(super) first: Sequence,
    pub(super) records: u32,
    pub(super) body_checksum: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self, magic: FrameMagic) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES);
        bytes.put_slice(&magic.0);
        bytes.put_u64_le(self.body_bytes);
        bytes.put_u64_le(self.synced_through);
        bytes.put_u64_le(self.first.get());
        bytes.put_u32_le(self.records);
        bytes.put_u32_le(self.body_checksum);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    /// The header at the start of `bytes`, if it is whole.
    fn decode(bytes: &[u8], magic: FrameMagic) -> Result<Self, FrameFault> {
        let header = bytes.get(..FRAME_HEADER_BYTES).ok_or(FrameFault::ShortHeader)?;
        let (mut fields, mut checksum) = header.split_at(FRAME_HEADER_BYTES - 4);
        if !fields.starts_with(&magic.0) {
            return Err(FrameFault::NoFrame);
        }
        if crc32c::crc32c(fields) != checksum.get_u32_le() {
            return Err(FrameFault::HeaderChecksum);
        }
        fields.advance(magic.0.len());
        Ok(Self {
            body_bytes: fields.get_u64_le(),
            synced_through: fields.get_u64_le(),
            first: Sequence::new(fields.get_u64_le()),
            records: fields.get_u32_le(),
            body_checksum: fields.get_u32_le(),
        })
    }
}

/// Why there is no whole frame at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    #[error("the file ends within the header of a frame")]
    ShortHeader,
    #[error("there is no frame where one should begin")]
    NoFrame,
    #[error("the header of a frame fails its checksum")]
    HeaderChecksum,
    #[error("the file ends within the body of a frame")]
    ShortBody,
    #[error("the body of a frame fails its checksum")]
    BodyChecksum,
}

/// A whole frame: its checksums are right.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) header: FrameHeader,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`.
    pub(super) fn read(bytes: &'a [u8], magic: FrameMagic) -> Result<Self, FrameFault> {
        let header = FrameHeader::decode(bytes, magic)?;
        let rest = &bytes[FRAME_HEADER_BYTES..];
        let length = usize::try_from(header.body_bytes).map_err(|_| FrameFault::ShortBody)?;
        let body = rest.get(..length).ok_or(FrameFault::ShortBody)?;
        if crc32c::crc32c(body) != header.body_checksum {
            return Err(FrameFault::BodyChecksum);
        }
        Ok(Self { header, body })
    }

    /// Bytes of header and body.
    pub(super) fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body.len()
    }
}

/// How far the file was once synced, as far as any frame header in `bytes` proves it.
///
/// A header alone is proof enough: it was written after the sync, whatever became of its body.
pub(super) fn synced_bytes_proved(bytes: &[u8], magic: FrameMagic) -> u64 {
    memchr::memmem::find_iter(bytes, &magic.0)
        .filter_map(|at| FrameHeader::decode(&bytes[at..], magic).ok())
        .map(|header| header.synced_through)
        .max()
        .unwrap_or(0)
}
