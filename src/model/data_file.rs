//! What is known of one Parquet file without opening it.

use super::file_columns::FileColumns;
use super::ids::{FileId, SequenceRange, TableId};
use super::names::ColumnName;
use super::overlap::Covers;
use super::time::{TimeRange, Timestamp};

/// A Parquet file in the object store: sorted, unique in its key, never changed once written.
///
/// Its row groups cover ranges of time that do not overlap and rise from the first to the last;
/// inside a row group the rows are sorted by series key and time.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Which file.
    pub id: FileId,
    /// Whose rows.
    pub table: TableId,
    /// Where the object is, relative to the root of the store.
    pub path: String,
    /// Size of the object.
    pub bytes: u64,
    /// Where the checksummed data pages end and page index and footer begin.
    pub data_bytes: u64,
    /// CRC32C of everything from `data_bytes` to the end; the footer in turn holds the checksums of the data.
    pub tail_crc32c: u32,
    /// Rows in all row groups.
    pub rows: u64,
    /// Times of the oldest and the newest row.
    pub time: TimeRange,
    /// The writes that the rows come from.
    pub sequences: SequenceRange,
    /// The number of the last [`Deletion`](super::Deletion) of the table whose rows were left out when the file was made.
    pub deletions_applied: u64,
    /// When the file was made, by the clock of the node that made it.
    pub created: Timestamp,
    /// The row groups in file order.
    pub row_groups: Vec<RowGroup>,
    /// Tags and fields that occur in the file; one that is missing here is null in every row.
    pub columns: FileColumns,
}

impl Covers for DataFile {
    fn time(&self) -> TimeRange {
        self.time
    }
}

/// One row group of a [`DataFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroup {
    /// How many rows.
    pub rows: u64,
    /// Times of the oldest and the newest row.
    pub time: TimeRange,
}

/// What one column of a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStatistics {
    /// The column.
    pub name: ColumnName,
    /// Rows without a value.
    pub nulls: u64,
    /// The smallest and the largest value; `None` if there is no value, if one is NaN, or if a text is
    /// too long to be kept.
    pub bounds: Option<(Scalar, Scalar)>,
}

/// A value of a tag or field.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scalar {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    String(String),
    Boolean(bool),
}
