//! Buffered runs as a source: rows that are in memory already.
//!
//! A run is sorted by series and time, so filters on tags are decided once a series and bounds of time searched by halves, as in row groups
//! that are decoded. What is left is filtered above.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimestampNanosecondType};
use datafusion::common::internal_datafusion_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;

use super::choose::Conditions;
use super::chosen::ChosenRows;
use super::dictionaries::cut;
use super::{Scan, from_engine, key_ordering, spread};
use crate::engine::buffer::BufferedRun;
use crate::model::last_write_wins::conform;
use crate::model::{TIME_COLUMN, TimeRange};

/// A smaller run is filtered row by row sooner than its series are found.
const SEARCHED_ROWS_MIN: usize = 64;

/// Rows of a run.
pub(super) struct Selection {
    pub(super) run: Arc<BufferedRun>,
    /// Their places; `None` for all.
    pub(super) rows: Option<Vec<u32>>,
    /// From the first to the last of them; others of the run are not in between.
    pub(super) time: TimeRange,
}

/// The times of the sorted run, in nanoseconds.
pub(super) fn times(run: &BufferedRun) -> DataFusionResult<ScalarBuffer<i64>> {
    let sorted = run.sorted().map_err(from_engine)?;
    sorted
        .column_by_name(TIME_COLUMN)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
        .map(|column| column.values().clone())
        .ok_or_else(|| internal_datafusion_err!("a buffered run without times"))
}

/// A source of these rows with the columns of `schema`, in at most `partitions` partitions. Where a
/// partition holds rows of one run only, its order by key is declared. Rows that the conditions rule out may be left out.
pub(super) fn scan(
    scan: &Scan<'_>,
    schema: &SchemaRef,
    selections: Vec<Selection>,
    conditions: &Conditions,
    partitions: usize,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let batch_rows = scan.state.config().batch_size();
    let mut runs = Vec::with_capacity(selections.len());
    for selection in selections {
        runs.push(slices(&rows(schema, selection, conditions)?, batch_rows)?);
    }
    let spread = spread(runs, partitions);
    let is_sorted = spread.iter().all(|runs| runs.len() == 1);
    let batches: Vec<Vec<RecordBatch>> = spread.into_iter().map(|runs| runs.into_iter().flatten().collect()).collect();
    let mut source = MemorySourceConfig::try_new(&batches, Arc::clone(schema), None)?.with_show_sizes(false);
    if let Some(ordering) = key_ordering(scan.table, schema).filter(|_| is_sorted) {
        source = source.try_with_sort_information(vec![ordering])?;
    }
    Ok(DataSourceExec::from_data_source(source))
}

/// The selected rows with the columns of `schema`; a column that the run lacks is null.
fn rows(schema: &SchemaRef, selection: Selection, conditions: &Conditions) -> DataFusionResult<RecordBatch> {
    if let Some(found) = search(schema, &selection, conditions)? {
        return Ok(found);
    }
    let Selection { run, rows: selected, .. } = selection;
    let sorted = run.sorted().map_err(from_engine)?;
    let batch = conform(sorted, schema)?;
    match selected {
        None => Ok(batch),
        // Rows of which only the number counts.
        Some(rows) if schema.fields().is_empty() => Ok(batch.slice(0, rows.len())),
        Some(rows) => Ok(take_record_batch(&batch, &UInt32Array::from(rows))?),
    }
}

/// The rows that may pass, if few of the run do.
fn search(schema: &SchemaRef, selection: &Selection, conditions: &Conditions) -> DataFusionResult<Option<RecordBatch>> {
    let Selection { run, time, .. } = selection;
    if !conditions.can_search() || run.row_count() < SEARCHED_ROWS_MIN {
        return Ok(None);
    }
    let (series, times) = (run.series().map_err(from_engine)?, times(run)?);
    let chosen = conditions.choose_between(series, &times, (time.min.as_nanos(), time.max.as_nanos()))?;
    let count: usize = chosen.iter().map(|stretch| stretch.rows.len()).sum();
    if count * 2 > times.len() {
        return Ok(None); // no copy is made of a whole run
    }
    let (sorted, rows) = (run.sorted().map_err(from_engine)?, ChosenRows::new(chosen));
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        if let Some(column) = sorted.column_by_name(field.name()) {
            fields.push(Arc::clone(field));
            columns.push(rows.of(column)?);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let found = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
    Ok(Some(conform(&found, schema)?))
}

/// Batches of the size that the operators above are made for. Copies no row but for the codes of tags of which it uses few
/// texts.
fn slices(batch: &RecordBatch, batch_rows: usize) -> DataFusionResult<Vec<RecordBatch>> {
    let slice = |start: usize| {
        let slice = batch.slice(start, batch_rows.min(batch.num_rows() - start));
        let column = |column: &ArrayRef| match column.data_type() {
            DataType::Dictionary(..) => cut(column),
            _ => Ok(Arc::clone(column)),
        };
        let columns = slice.columns().iter().map(column).collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(slice.num_rows()));
        Ok(RecordBatch::try_new_with_options(slice.schema(), columns, &options)?)
    };
    (0..batch.num_rows()).step_by(batch_rows.max(1)).map(slice).collect()
}
