//! Parquet files: sorted batches in, bytes with checksums out.
//!
//! A row group is one block of time over all series, sorted by series key and time; a page is a stretch
//! of whole series inside it. So a query for some series in some hours opens few row groups, and in them
//! few pages. How each column is encoded is decided by looking at its values (see `choose`).
//!
//! Always true:
//! - every byte of a file is under a CRC32C: those of the data region, block by block, stand in the footer;
//!   that of the page index and the footer stands in the catalog. Parquet's own page checksums are not
//!   enough: they leave out page headers and footer;
//! - a file has the columns that hold a value in some row, and `time`; [`EncodedFile::columns`] says which;
//! - any reader of Parquet can read the file; nothing but the checksums is ours.
//!
//! Not here: reading (see `checked`), where files lie (see `paths`), which rows go into one file.

mod blocks;
mod checksums;
mod choose;
pub mod contradicts;
mod dictionary_chunk;
mod encode;
mod floats;
mod hybrid;
mod pages;
mod statistics;
mod tags;
#[cfg(test)]
mod tests;

use ::parquet::errors::ParquetError;
use arrow::error::ArrowError;
use bytes::Bytes;

pub use blocks::{split_by_block, time_block};
pub(super) use checksums::{BLOCK_BYTES, BlockChecksums, ChecksumFault};
pub use encode::encode;
pub use pages::PAGE_ROWS_MIN;

use crate::error::{Error, ErrorKind};
use crate::model::{ColumnStatistics, RowGroup, TimeRange};

/// A Parquet file in memory and what the catalog keeps of it.
#[derive(Debug, Clone)]
pub struct EncodedFile {
    /// The whole file.
    pub bytes: Bytes,
    /// Where the data pages end, and page index and footer begin.
    pub data_bytes: u64,
    /// CRC32C of everything from `data_bytes` to the end.
    pub tail_crc32c: u32,
    /// Rows in all row groups.
    pub rows: u64,
    /// Times of the oldest and the newest row.
    pub time: TimeRange,
    /// The row groups in file order.
    pub row_groups: Vec<RowGroup>,
    /// Tags and fields in the file: tags in series-key order, then fields by name.
    pub columns: Vec<ColumnStatistics>,
}

/// Why rows did not become a file.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFileError {
    /// There was nothing to write.
    #[error("a parquet file needs at least one row")]
    NoRows,

    /// Row groups must rise in time without overlap, because readers rely on it.
    #[error("row group {number} does not lie after the one before it in time")]
    Order {
        /// Which row group, from 0.
        number: usize,
    },

    /// A batch does not have the columns of its table.
    #[error("rows do not fit the columns of their table")]
    Rows(#[source] ArrowError),

    /// The encoder refused.
    #[error("could not encode a parquet file")]
    Encode(#[from] ParquetError),
}

impl From<ParquetFileError> for Error {
    fn from(error: ParquetFileError) -> Self {
        // Rows were checked when they were written: whatever goes wrong here is a defect of ours.
        Self::with_source(ErrorKind::Internal, error.to_string(), error)
    }
}
