//! THE rule for two rows with one key, for buffer, persist, compaction and query alike.
//!
//! A point is its series key (all tags) and its time. Of several writes of one point, each field
//! holds the value that was written last; a write that leaves a field out keeps the value from before.
//! "Last" is the order of the runs, and inside one unsorted batch the order of its rows.
//!
//! Two entries: [`sort_run`] makes one batch sorted and unique; [`Merge`] joins runs that are, and [`merge_batches`] those
//! that are in memory.
//! Sorted means: tags in the order of the series key, each ascending with nulls last, then time.
//!
//! Both avoid work per row where the series stays the same: rows are looked at as *stretches* of one
//! series, keys are compared once a stretch ([`stretches`]), and columns are copied by index ([`assemble`]).
//!
//! Not here: which runs may share a point at all (`query::scan`), and when runs are merged (`engine::buffer`).

mod assemble;
mod merge;
mod sort;
mod stretches;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use assemble::take_compact;
pub use merge::{Merge, Step};
pub use sort::sort_run;

use super::TableSchema;
use stretches::{SeriesKeys, stretch_starts, times};

/// `batch` with exactly the columns of `schema`, by name: missing ones null, others left out.
///
/// # Errors
/// If a column has another type than in `schema`, or a column that must not be null is missing.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// Merges sorted batches, oldest first, into sorted batches of at most `batch_rows` rows with the columns of `schema`.
///
/// # Errors
/// If a batch doesn't fit the schema.
pub fn merge_batches(
    schema: &TableSchema,
    inputs: Vec<RecordBatch>,
    batch_rows: usize,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let arrow = schema.arrow();
    let mut merge = Merge::new(schema, Arc::clone(arrow), inputs.len(), batch_rows)?;
    let mut inputs: Vec<Option<RecordBatch>> = inputs.into_iter().map(Some).collect();
    let mut merged = Vec::new();
    loop {
        match merge.step()? {
            Step::Done => return Ok(merged),
            Step::Ready(batch) => merged.push(batch),
            Step::Needs(input) => match inputs[input].take() {
                Some(batch) => merge.push(input, conform(&batch, arrow)?)?,
                None => merge.finish(input),
            },
        }
    }
}

/// The first row that does not lie behind the row before it, by series key and time; `None` if the batch is sorted and
/// unique.
///
/// # Errors
/// If a key column is missing or has another type.
pub fn first_out_of_order(schema: &TableSchema, batch: &RecordBatch) -> Result<Option<usize>, ArrowError> {
    let mut series = SeriesKeys::new(schema)?;
    let (tags, times) = (series.tag_columns(batch)?, times(batch)?);
    let starts = stretch_starts(&tags, batch.num_rows());
    let keys = series.keys_at(&tags, &UInt32Array::from(starts.clone()))?;
    let mut stretch = 0;
    for row in 1..batch.num_rows() {
        let mut order = Ordering::Equal;
        if starts.get(stretch + 1).is_some_and(|start| *start as usize == row) {
            stretch += 1;
            order = keys.as_ref().map_or(order, |keys| keys.row(stretch - 1).cmp(&keys.row(stretch)));
        }
        if order.then(times[row - 1].cmp(&times[row])) != Ordering::Less {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
