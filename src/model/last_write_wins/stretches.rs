//! Where one series ends and the next begins, and how two series compare.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Int32Type, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::model::{TIME_COLUMN, TableSchema};

/// Turns series keys into bytes that compare like the keys: ascending, nulls last, tag by tag.
pub(super) struct SeriesKeys {
    tags: Vec<String>,
    /// `None` for a table without tags, where all rows are one series.
    converter: Option<RowConverter>,
}

impl SeriesKeys {
    pub(super) fn new(schema: &TableSchema) -> Result<Self, ArrowError> {
        let tags: Vec<String> = schema.tags().iter().map(|tag| tag.as_str().to_owned()).collect();
        let converter = if tags.is_empty() {
            None
        } else {
            let options = SortOptions { descending: false, nulls_first: false };
            let tag_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let fields = tags.iter().map(|_| SortField::new_with_options(tag_type.clone(), options)).collect();
            Some(RowConverter::new(fields)?)
        };
        Ok(Self { tags, converter })
    }

    /// The tag columns of `batch` in series-key order.
    pub(super) fn tag_columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        self.tags
            .iter()
            .map(|tag| {
                batch
                    .column_by_name(tag)
                    .cloned()
                    .ok_or_else(|| ArrowError::SchemaError(format!("batch without the tag \"{tag}\"")))
            })
            .collect()
    }

    /// The keys of the given rows; `None` for a table without tags.
    pub(super) fn keys_at(&mut self, tags: &[ArrayRef], rows: &UInt32Array) -> Result<Option<Rows>, ArrowError> {
        let Some(converter) = &mut self.converter else { return Ok(None) };
        let first_rows: Vec<ArrayRef> =
            tags.iter().map(|column| take(column, rows, None)).collect::<Result<_, ArrowError>>()?;
        converter.convert_columns(&first_rows).map(Some)
    }
}

/// The rows at which the tags differ from the row before; row 0 is always one. Empty for an empty batch.
///
/// Compares dictionary codes and not texts, so that two neighbours may turn out to be one series.
pub(super) fn stretch_starts(tags: &[ArrayRef], rows: usize) -> Vec<u32> {
    if rows == 0 {
        return Vec::new();
    }
    let mut changes = vec![false; rows];
    changes[0] = true;
    for column in tags {
        let codes = column.as_dictionary::<Int32Type>().keys();
        let values = codes.values();
        for (row, pair) in values.windows(2).enumerate() {
            changes[row + 1] |= pair[0] != pair[1];
        }
        if let Some(nulls) = codes.nulls() {
            for (row, change) in changes.iter_mut().enumerate().skip(1) {
                *change |= nulls.is_null(row) != nulls.is_null(row - 1);
            }
        }
    }
    changes.iter().enumerate().filter(|(_, change)| **change).map(|(row, _)| row as u32).collect()
}

/// The times of a batch in nanoseconds.
pub(super) fn times(batch: &RecordBatch) -> Result<ScalarBuffer<i64>, ArrowError> {
    batch
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .map(|column| column.values().clone())
        .ok_or_else(|| ArrowError::SchemaError("batch without a time in nanoseconds".to_owned()))
}
