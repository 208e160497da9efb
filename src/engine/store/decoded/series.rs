//! Which rows of a row group are of which series.
//!
//! Rows are sorted by tags and time, so the rows of a series lie together. Its tags are kept once, and a condition on tags is decided
//! once for each series instead of once for each row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{partition, take_record_batch};
use arrow::datatypes::{Int32Type, Schema};
use arrow::error::ArrowError;

use crate::error::{Error, Result};

/// The series of a row group.
#[derive(Debug, Clone)]
pub struct SeriesRows {
    /// Where each series begins, and the number of rows at the end.
    bounds: Vec<u32>,
    /// The tags that the file has, one row a series.
    tags: RecordBatch,
}

impl SeriesRows {
    /// Finds the series of rows that are sorted by these tags; each column is one of them.
    ///
    /// # Errors
    /// `Internal` if a tag has another type than a dictionary of texts.
    pub fn of(tags: &RecordBatch) -> Result<Self> {
        let rows = tags.num_rows();
        let mut bounds: Vec<u32> = match tags.num_columns() {
            0 if rows == 0 => Vec::new(),
            0 => vec![0],
            _ => {
                // Equal numbers of a dictionary are equal texts. If a dictionary should hold a text twice, a series falls in two.
                let keys: Option<Vec<ArrayRef>> = tags.columns().iter().map(keys).collect();
                let keys = keys.ok_or_else(|| Error::internal("a tag that is no dictionary"))?;
                let parts = partition(&keys).map_err(|error| failed(&error))?;
                parts.ranges().iter().map(|range| range.start as u32).collect()
            }
        };
        let firsts = UInt32Array::from(bounds.clone());
        let tags = match tags.num_columns() {
            0 => {
                let options = RecordBatchOptions::new().with_row_count(Some(bounds.len()));
                RecordBatch::try_new_with_options(tags.schema(), Vec::new(), &options)
                    .map_err(|error| failed(&error))?
            }
            _ => take_record_batch(tags, &firsts).map_err(|error| failed(&error))?,
        };
        bounds.push(rows as u32);
        Ok(Self { bounds, tags })
    }

    /// The one series of so many rows without tags; none without rows.
    ///
    /// # Errors
    /// None that can be met.
    pub(super) fn one(rows: u64) -> Result<Self> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let tags = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
        Self::of(&tags.map_err(|error| failed(&error))?)
    }

    /// How many series.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whether there is no series, and so no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of the series with this number, which is below [`SeriesRows::len`].
    pub fn rows(&self, series: usize) -> Range<usize> {
        self.bounds[series] as usize..self.bounds[series + 1] as usize
    }

    /// The tags that the file has, one row a series.
    pub fn tags(&self) -> &RecordBatch {
        &self.tags
    }

    /// Memory of it, in bytes.
    pub(in crate::engine) fn memory_size(&self) -> usize {
        self.bounds.capacity() * size_of::<u32>() + self.tags.get_array_memory_size()
    }
}

fn keys(tag: &ArrayRef) -> Option<ArrayRef> {
    tag.as_dictionary_opt::<Int32Type>().map(|tag| Arc::new(tag.keys().clone()) as ArrayRef)
}

fn failed(error: &ArrowError) -> Error {
    Error::internal(format!("could not find the series of a row group: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, DictionaryArray};

    use super::*;

    fn tag(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>())
    }

    #[test]
    fn rows_of_equal_tags_are_a_series_and_a_missing_tag_is_a_value() {
        let a = tag(&[Some("x"), Some("x"), Some("x"), Some("y"), None, None]);
        let b = tag(&[Some("1"), Some("1"), Some("2"), Some("2"), Some("2"), None]);
        let batch = RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true)]).unwrap();
        let series = SeriesRows::of(&batch).unwrap();
        let rows: Vec<_> = (0..series.len()).map(|number| series.rows(number)).collect();
        assert_eq!(rows, [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(series.tags().num_rows(), 5);
        assert!(series.tags().column(0).is_null(3) && series.tags().column(1).is_null(4));
    }

    #[test]
    fn without_tags_there_is_one_series_and_without_rows_none() {
        let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
        assert!(SeriesRows::of(&none).unwrap().is_empty());
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let seven = RecordBatch::try_new_with_options(none.schema(), Vec::new(), &options).unwrap();
        let series = SeriesRows::of(&seven).unwrap();
        assert_eq!((series.len(), series.rows(0), series.tags().num_rows()), (1, 0..7, 1));
    }
}
