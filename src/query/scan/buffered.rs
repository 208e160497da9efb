//! Buffered runs as a source: rows that are in memory already.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion::common::internal_datafusion_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;

use super::{Scan, from_engine, key_ordering, spread};
use crate::engine::buffer::BufferedRun;
use crate::model::TIME_COLUMN;
use crate::model::last_write_wins::conform;

/// A run and the places of the rows that are wanted of it; `None` for all.
pub(super) type Selection = (Arc<BufferedRun>, Option<Vec<u32>>);

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
/// partition holds rows of one run only, its order by key is declared.
pub(super) fn scan(
    scan: &Scan<'_>,
    schema: &SchemaRef,
    selections: Vec<Selection>,
    partitions: usize,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let batch_rows = scan.state.config().batch_size();
    let mut runs = Vec::with_capacity(selections.len());
    for selection in selections {
        runs.push(slices(&rows(schema, selection)?, batch_rows));
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
fn rows(schema: &SchemaRef, (run, selected): Selection) -> DataFusionResult<RecordBatch> {
    let sorted = run.sorted().map_err(from_engine)?;
    let batch = conform(sorted, schema)?;
    match selected {
        None => Ok(batch),
        // Rows of which only the number counts.
        Some(rows) if schema.fields().is_empty() => Ok(batch.slice(0, rows.len())),
        Some(rows) => Ok(take_record_batch(&batch, &UInt32Array::from(rows))?),
    }
}

/// Batches of the size that the operators above are made for. Copies no row.
fn slices(batch: &RecordBatch, batch_rows: usize) -> Vec<RecordBatch> {
    (0..batch.num_rows())
        .step_by(batch_rows.max(1))
        .map(|start| batch.slice(start, batch_rows.min(batch.num_rows() - start)))
        .collect()
}
