//! What a backup says of itself, and its bytes.
//!
//! | bytes | field | what |
//! |---|---|---|
//! | 0..8 | magic | `FLBACKUP` |
//! | 8..10 | version | of the body, little endian; 1 |
//! | 10..12 | – | 0 |
//! | 12..16 | checksum | CRC32C of bytes 0..12 and of the body, little endian |
//! | 16.. | body | protobuf; see `ManifestMessage` for its fields |
//!
//! Always true: no single flipped bit goes unnoticed, and the checksum is looked at before the version.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::Timestamp;

const MAGIC: [u8; 8] = *b"FLBACKUP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_AT: usize = 12;

/// Longest name of a backup.
const NAME_BYTES_MAX: usize = 100;

/// The name of a backup: lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit, so that it means the same
/// in every store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(String);

impl BackupName {
    /// A name that a user chose.
    ///
    /// # Errors
    /// `Invalid` if it is not well formed.
    pub fn new(text: &str) -> Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins_well = text.bytes().next().is_some_and(is_plain);
        if begins_well
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|byte| is_plain(byte) || b"-_.".contains(&byte))
        {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!(
            "\"{text}\" is no name of a backup: use at most {NAME_BYTES_MAX} lower-case letters, digits, '-', '_' and '.', \
             beginning with a letter or digit"
        )))
    }

    /// A name for a backup of this moment, to the millisecond.
    pub fn of(moment: Timestamp) -> Self {
        let moment = chrono::DateTime::from_timestamp_nanos(moment.as_nanos());
        Self(moment.format("%Y%m%d-%H%M%S-%3f").to_string())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which files a backup copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupKind {
    /// All of them: it begins a set of its own and shares nothing with earlier backups.
    Full,
    /// Those that the newest backup's set does not have yet. Without an earlier backup of the same catalog it is full.
    Incremental,
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        })
    }
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name, one of its place.
    pub name: BackupName,
    /// Which instant it holds, by the clock of the server.
    pub instant: Timestamp,
    /// What it copied.
    pub kind: BackupKind,
    /// The catalog that it was made of.
    pub catalog: Uuid,
    /// Databases in it.
    pub databases: u64,
    /// Tables in it.
    pub tables: u64,
    /// Data files that it needs.
    pub files: u64,
    /// Their rows, with those that are deleted or have expired and are still in files.
    pub rows: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files that were written for it; the others were there.
    pub copied_files: u64,
    /// The size of those in bytes.
    pub copied_bytes: u64,
    /// Where its files are.
    pub(super) set: Uuid,
    /// Where its catalog is.
    pub(super) image: Uuid,
    /// The version of its catalog.
    pub(super) version: u64,
}

// Proto3: a tag is never used twice.
#[derive(Clone, PartialEq, Message)]
struct ManifestMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    instant: i64,
    #[prost(bool, tag = "3")]
    is_full: bool,
    /// 16 bytes, as the next two.
    #[prost(bytes = "vec", tag = "4")]
    catalog: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    set: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    image: Vec<u8>,
    #[prost(uint64, tag = "7")]
    version: u64,
    #[prost(uint64, tag = "8")]
    databases: u64,
    #[prost(uint64, tag = "9")]
    tables: u64,
    #[prost(uint64, tag = "10")]
    files: u64,
    #[prost(uint64, tag = "11")]
    rows: u64,
    #[prost(uint64, tag = "12")]
    bytes: u64,
    #[prost(uint64, tag = "13")]
    copied_files: u64,
    #[prost(uint64, tag = "14")]
    copied_bytes: u64,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ManifestFault {
    #[error("it does not begin like a manifest")]
    Magic,
    #[error("its checksum is {found:08x} and should be {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("it has version {found}, this program knows versions up to {VERSION}")]
    Version { found: u16 },
    #[error("its body is no protobuf")]
    Body(#[from] prost::DecodeError),
    #[error("its field \"{field}\" can't be")]
    Field { field: &'static str },
}

/// The bytes of a manifest.
pub(super) fn encode(backup: &Backup) -> Bytes {
    let body = ManifestMessage {
        name: backup.name.to_string(),
        instant: backup.instant.as_nanos(),
        is_full: backup.kind == BackupKind::Full,
        catalog: backup.catalog.as_bytes().to_vec(),
        set: backup.set.as_bytes().to_vec(),
        image: backup.image.as_bytes().to_vec(),
        version: backup.version,
        databases: backup.databases,
        tables: backup.tables,
        files: backup.files,
        rows: backup.rows,
        bytes: backup.bytes,
        copied_files: backup.copied_files,
        copied_bytes: backup.copied_bytes,
    }
    .encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.into()
}

/// The backup that a manifest describes, which must be the one of this name.
pub(super) fn decode(bytes: &[u8], name: &BackupName) -> Result<Backup, ManifestFault> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err(ManifestFault::Magic) };
    if header[..8] != MAGIC {
        return Err(ManifestFault::Magic);
    }
    let found = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    let expected = crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), body);
    if found != expected {
        return Err(ManifestFault::Checksum { found, expected });
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(ManifestFault::Version { found: version });
    }
    let message = ManifestMessage::decode(body)?;
    if message.name != name.as_str() {
        return Err(ManifestFault::Field { field: "name" });
    }
    let id = |field, bytes: &[u8]| Uuid::from_slice(bytes).map_err(|_| ManifestFault::Field { field });
    Ok(Backup {
        name: name.clone(),
        instant: Timestamp::from_nanos(message.instant),
        kind: if message.is_full { BackupKind::Full } else { BackupKind::Incremental },
        catalog: id("catalog", &message.catalog)?,
        databases: message.databases,
        tables: message.tables,
        files: message.files,
        rows: message.rows,
        bytes: message.bytes,
        copied_files: message.copied_files,
        copied_bytes: message.copied_bytes,
        set: id("set", &message.set)?,
        image: id("image", &message.image)?,
        version: message.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain() {
        for good in ["a", "0", "20261121-132012-123", "before_upgrade.2", &"x".repeat(100)] {
            assert_eq!(BackupName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "a/b", "..", ".a", "-a", "a b", "ä", &"x".repeat(101)] {
            assert!(BackupName::new(bad).is_err(), "{bad}");
        }
        let name = BackupName::of(Timestamp::from_nanos(1_357_020_000_123_456_789));
        assert_eq!(name.as_str(), "20130101-060000-123");
    }

    #[test]
    fn a_manifest_is_read_back_and_no_changed_byte_goes_unnoticed() {
        let backup = Backup {
            name: BackupName::new("a").unwrap(),
            instant: Timestamp::from_nanos(-5),
            kind: BackupKind::Incremental,
            catalog: Uuid::from_u128(1),
            databases: 1,
            tables: 2,
            files: 3,
            rows: 4,
            bytes: 5,
            copied_files: 6,
            copied_bytes: 7,
            set: Uuid::from_u128(8),
            image: Uuid::from_u128(9),
            version: 10,
        };
        let bytes = encode(&backup);
        assert_eq!(decode(&bytes, &backup.name).unwrap(), backup);
        assert!(decode(&bytes, &BackupName::new("b").unwrap()).is_err(), "it is another backup's");
        for place in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[place] ^= 1;
            assert!(decode(&changed, &backup.name).is_err(), "byte {place}");
            assert!(decode(&bytes[..place], &backup.name).is_err(), "cut at {place}");
        }
    }
}
