//! One checked write: for each table one batch of rows.

use arrow::array::{Array, ArrayRef, RecordBatch};

use super::names::TableName;
use super::schema::TableSchema;

/// The rows that one write puts into one table.
#[derive(Debug, Clone)]
pub struct TableRows {
    /// The table.
    pub table: TableName,
    /// The columns that occur in this write and no others; tags in the order in which the write names them.
    pub schema: TableSchema,
    /// The rows in the order of the write, with the columns of `schema.arrow()`. A point may occur
    /// more than once; the later row is the later write.
    pub batch: RecordBatch,
}

/// The rows of one write, which is stored as a whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Each table at most once.
    pub tables: Vec<TableRows>,
}

impl Rows {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.batch.num_rows() == 0)
    }

    /// How many rows there are in all tables.
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(|table| table.batch.num_rows()).sum()
    }

    /// The memory that the rows take, in bytes.
    pub fn byte_count(&self) -> usize {
        self.tables.iter().map(|table| batch_bytes(&table.batch)).sum()
    }
}

/// The memory of a batch's rows in bytes.
///
/// Counts what the rows use of their buffers: batches read from one message share one buffer, which
/// Arrow's own count would add once for each column.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    let column_bytes = |column: &ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size())
    };
    batch.columns().iter().map(column_bytes).sum()
}
