//! The checksums of a file's data region: one CRC32C for each block of 64 KiB, kept in the footer.
//!
//! | footer key | value |
//! |---|---|
//! | `flightline.block_bytes` | bytes of a block, in decimal; the last block is what is left |
//! | `flightline.block_crc32c` | the CRC32C of each block, 32 bits little endian, in file order, as base64 |
//!
//! The data region is everything before page index and footer. 64 KiB: a reader fetches whole blocks,
//! and this is little beside a request to an object store, and 1 KB of checksums for 16 MB of data.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parquet::file::metadata::KeyValue;

/// Bytes of a block.
pub(in crate::engine::store) const BLOCK_BYTES: usize = 64 * 1024;

const BLOCK_BYTES_KEY: &str = "flightline.block_bytes";
const BLOCK_CRC32C_KEY: &str = "flightline.block_crc32c";

/// The checksums of a data region, block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::store) struct BlockChecksums {
    block_bytes: u64,
    data_bytes: u64,
    crc32c: Vec<u32>,
}

/// Why a footer holds no checksums for its data.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChecksumFault {
    /// The footer lacks a key.
    #[error("the footer has no key \"{0}\"")]
    Missing(&'static str),
    /// The footer has the key, but not a value that fits it.
    #[error("the footer's key \"{0}\" does not fit the file")]
    Value(&'static str),
}

impl BlockChecksums {
    /// The checksums of `data`.
    pub(super) fn of(data: &[u8]) -> Self {
        let crc32c = data.chunks(BLOCK_BYTES).map(crc32c::crc32c).collect();
        Self { block_bytes: BLOCK_BYTES as u64, data_bytes: data.len() as u64, crc32c }
    }

    /// The entries for the footer.
    pub(super) fn key_values(&self) -> [KeyValue; 2] {
        let bytes: Vec<u8> = self.crc32c.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        [
            KeyValue::new(BLOCK_BYTES_KEY.to_owned(), self.block_bytes.to_string()),
            KeyValue::new(BLOCK_CRC32C_KEY.to_owned(), STANDARD.encode(bytes)),
        ]
    }

    /// The checksums that a footer holds for a data region of `data_bytes` bytes.
    ///
    /// # Errors
    /// If they are not there or are not as many as the data has blocks.
    pub(in crate::engine::store) fn from_key_values(
        entries: Option<&Vec<KeyValue>>,
        data_bytes: u64,
    ) -> Result<Self, ChecksumFault> {
        let value = |key: &'static str| {
            let entry = entries.into_iter().flatten().find(|entry| entry.key == key);
            entry.and_then(|entry| entry.value.as_deref()).ok_or(ChecksumFault::Missing(key))
        };
        let block_bytes = value(BLOCK_BYTES_KEY)?.parse().ok().filter(|bytes| *bytes > 0);
        let block_bytes: u64 = block_bytes.ok_or(ChecksumFault::Value(BLOCK_BYTES_KEY))?;
        let bytes = STANDARD.decode(value(BLOCK_CRC32C_KEY)?).map_err(|_| ChecksumFault::Value(BLOCK_CRC32C_KEY))?;
        let (crc32c, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() || crc32c.len() as u64 != data_bytes.div_ceil(block_bytes) {
            return Err(ChecksumFault::Value(BLOCK_CRC32C_KEY));
        }
        let crc32c = crc32c.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        Ok(Self { block_bytes, data_bytes, crc32c })
    }

    /// Bytes of memory that these checksums take.
    pub(in crate::engine::store) fn memory_size(&self) -> usize {
        size_of::<Self>() + self.crc32c.capacity() * size_of::<u32>()
    }

    /// The smallest range of whole blocks around `range`, which must lie inside the data region.
    pub(in crate::engine::store) fn widen(&self, range: &Range<u64>) -> Range<u64> {
        let start = range.start / self.block_bytes * self.block_bytes;
        let end = range.end.div_ceil(self.block_bytes) * self.block_bytes;
        start..end.min(self.data_bytes)
    }

    /// Checks whole blocks that begin at `start` in the file.
    ///
    /// # Errors
    /// The first block that is not what was written, as its range in the file.
    pub(in crate::engine::store) fn check(&self, start: u64, blocks: &[u8]) -> Result<(), Range<u64>> {
        // A block is at most what the footer says and what was fetched, so it fits into memory.
        let block_bytes = usize::try_from(self.block_bytes).unwrap_or(usize::MAX);
        let first = usize::try_from(start / self.block_bytes).unwrap_or(usize::MAX);
        for (number, block) in blocks.chunks(block_bytes).enumerate() {
            if self.crc32c.get(first + number) != Some(&crc32c::crc32c(block)) {
                let offset = start + number as u64 * self.block_bytes;
                return Err(offset..offset + block.len() as u64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|byte| (byte * 7 % 251) as u8).collect()
    }

    #[test]
    fn checksums_survive_the_footer() {
        for bytes in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 3] {
            let checksums = BlockChecksums::of(&data(bytes));
            let entries = checksums.key_values().to_vec();
            assert_eq!(BlockChecksums::from_key_values(Some(&entries), bytes as u64).unwrap(), checksums);
            let longer = (bytes + BLOCK_BYTES) as u64;
            assert!(BlockChecksums::from_key_values(Some(&entries), longer).is_err(), "{bytes}");
        }
        assert!(BlockChecksums::from_key_values(None, 0).is_err());
    }

    #[test]
    fn a_footer_from_elsewhere_is_refused() {
        for (bytes, crc) in [("0", "AAAAAA=="), ("x", "AAAAAA=="), ("65536", "AAAA"), ("65536", "?"), ("65536", "")] {
            let entries = vec![
                KeyValue::new(BLOCK_BYTES_KEY.to_owned(), bytes.to_owned()),
                KeyValue::new(BLOCK_CRC32C_KEY.to_owned(), crc.to_owned()),
            ];
            assert!(BlockChecksums::from_key_values(Some(&entries), 10).is_err(), "{bytes} {crc}");
        }
    }

    #[test]
    fn the_block_with_the_changed_byte_is_named() {
        let block = BLOCK_BYTES as u64;
        let mut data = data(3 * BLOCK_BYTES + 10);
        let checksums = BlockChecksums::of(&data);
        assert_eq!(checksums.widen(&(1..2)), 0..block);
        assert_eq!(checksums.widen(&(block - 1..block + 1)), 0..2 * block);
        assert_eq!(checksums.widen(&(3 * block..3 * block + 1)), 3 * block..3 * block + 10);
        assert_eq!(checksums.check(0, &data), Ok(()));
        data[2 * BLOCK_BYTES + 5] ^= 1;
        assert_eq!(checksums.check(block, &data[BLOCK_BYTES..]), Err(2 * block..3 * block));
        assert_eq!(checksums.check(3 * block, &data[3 * BLOCK_BYTES..]), Ok(()));
        assert_eq!(checksums.check(4 * block, &[0]), Err(4 * block..4 * block + 1));
    }
}
