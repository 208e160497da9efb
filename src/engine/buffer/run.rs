//! One immutable batch of rows with the writes that it holds.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::TimestampNanosecondType;

use super::budget::{Charge, MemoryBudget};
use crate::engine::store::decoded::SeriesRows;
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::sort_run;
use crate::model::{SequenceRange, TIME_COLUMN, TableSchema, TimeRange, batch_bytes};

/// Rows of one table from a contiguous range of writes.
///
/// A run holds only the columns that its writes had. A fresh one is in the order of the writes and is
/// sorted when a query first wants it; one that was tidied is sorted already.
#[derive(Debug)]
pub struct BufferedRun {
    sequences: SequenceRange,
    time: TimeRange,
    schema: Arc<TableSchema>,
    batch: RecordBatch,
    is_sorted: bool,
    sorted: OnceLock<(RecordBatch, Option<Charge>)>,
    series: OnceLock<(Arc<SeriesRows>, Charge)>,
    budget: Arc<MemoryBudget>,
    charge_bytes: usize,
    _charge: Charge,
    /// When the oldest of its writes came, on the process's own clock.
    since: Duration,
}

/// Where a run's rows come from and how they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) sequences: SequenceRange,
    pub(super) since: Duration,
    pub(super) is_sorted: bool,
}

impl BufferedRun {
    /// `schema` has exactly the columns of `batch`, its tags in the order of the table's series key.
    pub(super) fn new(
        schema: Arc<TableSchema>,
        batch: RecordBatch,
        origin: Origin,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Self> {
        let time = batch
            .column_by_name(TIME_COLUMN)
            .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
            .and_then(|times| min(times).zip(max(times)))
            .map(|(first, last)| TimeRange::from_nanos(first, last))
            .ok_or_else(|| Error::internal("a run without a single time"))?;
        let charge_bytes = batch_bytes(&batch);
        Ok(Self {
            sequences: origin.sequences,
            time,
            schema,
            batch,
            is_sorted: origin.is_sorted,
            sorted: OnceLock::new(),
            series: OnceLock::new(),
            budget: Arc::clone(budget),
            charge_bytes,
            _charge: budget.charge(charge_bytes),
            since: origin.since,
        })
    }

    /// The writes that the rows come from.
    pub fn sequences(&self) -> SequenceRange {
        self.sequences
    }

    /// Times of the oldest and the newest row.
    pub fn time(&self) -> TimeRange {
        self.time
    }

    /// Rows as written: a point that was written twice counts twice until the run is sorted.
    pub fn row_count(&self) -> usize {
        self.batch.num_rows()
    }

    /// Memory of the rows in bytes.
    pub fn byte_count(&self) -> usize {
        self.charge_bytes
    }

    /// The columns of the run; tags in the order of the table's series key.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The rows sorted by key and unique in it, with the columns of [`schema`](Self::schema).
    ///
    /// The first call sorts, later ones return the same batch: some milliseconds for ten thousand rows.
    ///
    /// # Errors
    /// `Internal` if the rows don't have the types of their schema.
    pub fn sorted(&self) -> Result<&RecordBatch> {
        if self.is_sorted {
            return Ok(&self.batch);
        }
        if let Some((sorted, _)) = self.sorted.get() {
            return Ok(sorted);
        }
        let sorted = sort_run(&self.schema, &self.batch)
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not sort buffered rows", error))?;
        // Rows that were in order already are shared, not copied, and cost nothing more.
        let is_copy = !Arc::ptr_eq(sorted.column(0), self.batch.column(0));
        let charge = is_copy.then(|| self.budget.charge(batch_bytes(&sorted)));
        Ok(&self.sorted.get_or_init(|| (sorted, charge)).0)
    }

    /// Which rows of [`sorted`](Self::sorted) are of which series. The first call looks for them in all rows.
    ///
    /// # Errors
    /// As `sorted`.
    pub fn series(&self) -> Result<&Arc<SeriesRows>> {
        if let Some((series, _)) = self.series.get() {
            return Ok(series);
        }
        let sorted = self.sorted()?;
        let places = self.schema.tags().iter().map(|tag| sorted.schema().index_of(tag.as_str()));
        let failed = |error| Error::with_source(ErrorKind::Internal, "could not find the tags of buffered rows", error);
        let places = places.collect::<std::result::Result<Vec<usize>, _>>().map_err(failed)?;
        let series = Arc::new(SeriesRows::of(&sorted.project(&places).map_err(failed)?)?);
        let charge = self.budget.charge(series.memory_size());
        Ok(&self.series.get_or_init(|| (series, charge)).0)
    }

    /// At most so many series, without looking for them: as many as there are once somebody has asked for [`series`](Self::series).
    pub fn series_count_max(&self) -> usize {
        self.series.get().map_or_else(|| self.row_count(), |(series, _)| series.len())
    }

    pub(super) fn since(&self) -> Duration {
        self.since
    }
}
