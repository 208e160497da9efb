//! The bytes of an object: a header, then the records of one group of writes, as in a segment (see `segment`).
//!
//! Numbers are little-endian. Magic, version and the place of the checksum stay the same in every version.
//!
//! | offset | bytes | what |
//! |-------:|------:|---|
//! |   0 |  8 | `FLINEOBJ` |
//! |   8 |  4 | format version: 1 |
//! |  12 |  4 | kind: 1 writes; 2 end of the epoch, without a body: no object of it with a larger index counts |
//! |  16 | 16 | id of the catalog that the writes belong to |
//! |  32 | 16 | nonce: random, drawn for this object |
//! |  48 |  8 | epoch |
//! |  56 |  8 | index in the epoch, from 1 |
//! |  64 |  8 | every object of the epoch below this index was stored when this one was made |
//! |  72 |  8 | epoch, and |
//! |  80 |  8 | index of the oldest object of the log that was needed when this one was made; those before may be gone |
//! |  88 |  8 | sequence of the first record; the others follow without gaps. Of an end: the next sequence, if the process that had the epoch put it, else 0 |
//! |  96 |  8 | length of the body |
//! | 104 |  4 | number of records |
//! | 108 |  4 | CRC32C of the body |
//! | 112 |  4 | CRC32C of bytes 0 to 112 |

use bytes::{Buf, BufMut, Bytes};
use uuid::Uuid;

use super::Place;
use crate::model::Sequence;

/// Bytes before the body.
pub(super) const HEADER_BYTES: usize = 116;

/// The format version that this program writes and the only one that it reads.
pub(in crate::engine::wal) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"FLINEOBJ";

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Writes = 1,
    End = 2,
}

/// Why bytes are no object of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ObjectFault {
    #[error("its header is not whole or fails its checksum")]
    Header,
    #[error("it has format version {0}, this program reads version {VERSION}")]
    Version(u32),
    #[error("it is of a kind {0} that this program doesn't know")]
    Kind(u32),
    #[error("it belongs to catalog {0}")]
    Catalog(Uuid),
    #[error("it says that it is object {0}")]
    Place(Place),
    #[error("its body has {found} bytes and should have {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its body fails its checksum")]
    Body,
    #[error("it begins with sequence {found}, expected {expected}")]
    Sequence { found: Sequence, expected: Sequence },
}

/// What an object says of itself and of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) catalog: Uuid,
    pub(super) nonce: Uuid,
    pub(super) place: Place,
    pub(super) confirmed: u64,
    pub(super) needed_from: Place,
    pub(super) first: Sequence,
    pub(super) body_bytes: u64,
    pub(super) records: u32,
    pub(super) body_checksum: u32,
}

impl Header {
    /// That of an end which a successor puts. Who ends its own epoch says which sequence is next.
    pub(super) fn end(catalog: Uuid, nonce: Uuid, place: Place, needed_from: Place) -> Self {
        Self {
            kind: Kind::End,
            catalog,
            nonce,
            place,
            confirmed: place.index,
            needed_from,
            first: Sequence::ZERO,
            body_bytes: 0,
            records: 0,
            body_checksum: 0,
        }
    }

    /// Whether the process that had the epoch ended it itself.
    pub(super) fn is_own_end(&self) -> bool {
        self.kind == Kind::End && self.first > Sequence::ZERO
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.put_u32_le(self.kind as u32);
        bytes.put_slice(self.catalog.as_bytes());
        bytes.put_slice(self.nonce.as_bytes());
        bytes.put_u64_le(self.place.epoch);
        bytes.put_u64_le(self.place.index);
        bytes.put_u64_le(self.confirmed);
        bytes.put_u64_le(self.needed_from.epoch);
        bytes.put_u64_le(self.needed_from.index);
        bytes.put_u64_le(self.first.get());
        bytes.put_u64_le(self.body_bytes);
        bytes.put_u32_le(self.records);
        bytes.put_u32_le(self.body_checksum);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes.into()
    }

    /// Reads the header at the start of an object that should be the one of `catalog` at `place`.
    pub(super) fn decode(object: &[u8], catalog: Uuid, place: Place) -> Result<Self, ObjectFault> {
        let header = object.get(..HEADER_BYTES).ok_or(ObjectFault::Header)?;
        let (mut fields, mut checksum) = header.split_at(HEADER_BYTES - 4);
        if crc32c::crc32c(fields) != checksum.get_u32_le() || !fields.starts_with(&MAGIC) {
            return Err(ObjectFault::Header);
        }
        fields.advance(MAGIC.len());
        let version = fields.get_u32_le();
        if version != VERSION {
            return Err(ObjectFault::Version(version));
        }
        let kind = match fields.get_u32_le() {
            1 => Kind::Writes,
            2 => Kind::End,
            other => return Err(ObjectFault::Kind(other)),
        };
        let decoded = Self {
            kind,
            catalog: Uuid::from_u128(fields.get_u128()),
            nonce: Uuid::from_u128(fields.get_u128()),
            place: Place { epoch: fields.get_u64_le(), index: fields.get_u64_le() },
            confirmed: fields.get_u64_le(),
            needed_from: Place { epoch: fields.get_u64_le(), index: fields.get_u64_le() },
            first: Sequence::new(fields.get_u64_le()),
            body_bytes: fields.get_u64_le(),
            records: fields.get_u32_le(),
            body_checksum: fields.get_u32_le(),
        };
        if decoded.catalog != catalog {
            return Err(ObjectFault::Catalog(decoded.catalog));
        }
        if decoded.place != place {
            return Err(ObjectFault::Place(decoded.place));
        }
        Ok(decoded)
    }
}

/// A whole object: its checksums are right, and it is where it belongs.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) header: Header,
    pub(super) body: Bytes,
}

impl Object {
    pub(super) fn decode(bytes: &Bytes, catalog: Uuid, place: Place) -> Result<Self, ObjectFault> {
        let header = Header::decode(bytes, catalog, place)?;
        let body = bytes.slice(HEADER_BYTES..);
        if body.len() as u64 != header.body_bytes {
            return Err(ObjectFault::Length { found: body.len() as u64, expected: header.body_bytes });
        }
        if crc32c::crc32c(&body) != header.body_checksum {
            return Err(ObjectFault::Body);
        }
        Ok(Self { header, body })
    }

    /// Bytes of header and body.
    pub(super) fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.body.len()) as u64
    }
}
