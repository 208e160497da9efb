//! Which rows of a decoded row group may pass the filters, before any row is looked at.
//!
//! A filter on tags alone is decided once for each series, and bounds of time by binary search in each series, since its rows rise
//! in time. What remains is decided row by row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::{collect_columns, conjunction, reassign_expr_columns, split_conjunction};
use datafusion::physical_expr_common::physical_expr::{is_volatile, snapshot_physical_expr};
use datafusion::physical_plan::PhysicalExpr;

use super::dictionaries::cut;
use super::series_search::WantedTags;
use crate::engine::store::decoded::SeriesRows;
use crate::model::TIME_COLUMN;

/// Of how many series in one of all the tags are looked at one by one rather than all together.
const FEW: usize = 4;

/// A filter, taken apart by how it is decided.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Over a batch of one row a series.
    on_tags: Option<RowFilter>,
    /// What that says plainly of tags.
    wanted: WantedTags,
    /// The first and the last instant that may pass, in nanoseconds.
    time: (i64, i64),
    rest: Option<RowFilter>,
}

/// What is decided row by row, of the columns that it looks at.
#[derive(Debug)]
pub(super) struct RowFilter {
    filter: Arc<dyn PhysicalExpr>,
    columns: SchemaRef,
}

impl RowFilter {
    /// That all `parts` hold; `None` without parts. Those of `columns` that they name become its columns.
    fn of(parts: &[Arc<dyn PhysicalExpr>], columns: &Schema) -> DataFusionResult<Option<Self>> {
        if parts.is_empty() {
            return Ok(None);
        }
        let named: Vec<Column> = parts.iter().flat_map(collect_columns).collect();
        let fields = columns.fields().iter().filter(|field| named.iter().any(|column| column.name() == field.name()));
        let columns: SchemaRef = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let parts = parts.iter().map(|part| reassign_expr_columns(Arc::clone(part), &columns));
        let filter = conjunction(parts.collect::<DataFusionResult<Vec<_>>>()?);
        Ok(Some(Self { filter, columns }))
    }

    pub(super) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// Which rows of these columns pass; a null is a no.
    ///
    /// # Errors
    /// If the filter can't be computed.
    pub(super) fn decide(&self, rows: &RecordBatch) -> DataFusionResult<BooleanArray> {
        Ok(self.filter.evaluate(rows)?.into_array(rows.num_rows())?.as_boolean().clone())
    }
}

/// Rows of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) series: usize,
    pub(super) rows: Range<usize>,
}

impl Conditions {
    /// Takes `filter` apart. `tags` are those of the table, `columns` what the rows will be given as.
    pub(super) fn new(
        filter: Option<&Arc<dyn PhysicalExpr>>,
        tags: &[String],
        columns: &Schema,
    ) -> DataFusionResult<Self> {
        let (mut on_tags, mut rest, mut time) = (Vec::new(), Vec::new(), (i64::MIN, i64::MAX));
        for part in filter.map(split_conjunction).unwrap_or_default() {
            let named = collect_columns(part);
            if !named.is_empty() && !is_volatile(part) && named.iter().all(|column| is_one_of(tags, column)) {
                on_tags.push(Arc::clone(part));
            } else if let Some((first, last)) = bounds(part) {
                time = (time.0.max(first), time.1.min(last));
            } else {
                rest.push(Arc::clone(part));
            }
        }
        let on_tags = RowFilter::of(&on_tags, columns)?;
        let wanted = on_tags.as_ref().map(|on_tags| WantedTags::of(&on_tags.filter)).unwrap_or_default();
        let rest = RowFilter::of(&rest, columns)?;
        Ok(Self { on_tags, wanted, time, rest })
    }

    /// What is still to be decided row by row.
    pub(super) fn rest(&self) -> Option<&RowFilter> {
        self.rest.as_ref()
    }

    /// The rows that may pass, rising.
    ///
    /// # Errors
    /// If a filter can't be computed.
    pub(super) fn choose(&self, series: &SeriesRows, times: &[i64]) -> DataFusionResult<Vec<Stretch>> {
        self.choose_between(series, times, (i64::MIN, i64::MAX))
    }

    /// The same of rows between two instants, both included.
    ///
    /// # Errors
    /// If a filter can't be computed.
    pub(super) fn choose_between(
        &self,
        series: &SeriesRows,
        times: &[i64],
        between: (i64, i64),
    ) -> DataFusionResult<Vec<Stretch>> {
        let passing = self.series_that_pass(series)?;
        let (first, last) = self.time_now()?;
        let (first, last) = (first.max(between.0), last.min(between.1));
        let mut chosen = Vec::with_capacity(passing.len());
        for number in passing {
            let mut rows = series.rows(number);
            // Most questions ask for one end of time or for none, and of a million series even that costs to search.
            if last != i64::MAX {
                rows.end = rows.start + times[rows.clone()].partition_point(|time| *time <= last);
            }
            if first != i64::MIN {
                rows.start += times[rows.clone()].partition_point(|time| *time < first);
            }
            if !rows.is_empty() {
                chosen.push(Stretch { series: number, rows });
            }
        }
        Ok(chosen)
    }

    /// Whether rows can be ruled out by their series or their time.
    pub(super) fn can_search(&self) -> bool {
        self.on_tags.is_some() || self.time != (i64::MIN, i64::MAX)
    }

    /// The first and the last instant that may pass, as far as they don't change while the query runs.
    pub(super) fn time(&self) -> (i64, i64) {
        self.time
    }

    /// The series that pass the filters on tags, rising.
    ///
    /// # Errors
    /// If a filter can't be computed.
    pub(super) fn series_that_pass(&self, series: &SeriesRows) -> DataFusionResult<Vec<usize>> {
        let Some(filter) = &self.on_tags else { return Ok((0..series.len()).collect()) };
        let few = self.wanted.places(series).map(|ranges| ranges.into_iter().flatten().collect::<Vec<usize>>());
        let few = few.filter(|few| few.len() * FEW <= series.len());
        let count = few.as_ref().map_or(series.len(), Vec::len);
        if count == 0 {
            return Ok(Vec::new());
        }
        let tags = filter.columns.fields().iter().map(|field| {
            let tag = tag(series, field.name(), field.data_type());
            match &few {
                Some(few) => {
                    let places = UInt32Array::from_iter_values(few.iter().map(|place| *place as u32));
                    cut(&take(&tag, &places, None)?)
                }
                None => Ok(tag),
            }
        });
        let tags = tags.collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&filter.columns), tags, &options)?;
        let passing = filter.decide(&batch)?;
        let passes = |place: &usize| passing.is_valid(*place) && passing.value(*place);
        let places = (0..count).filter(passes);
        Ok(match few {
            Some(few) => places.map(|place| few[place]).collect(),
            None => places.collect(),
        })
    }

    /// The bounds with those of filters that tighten while the query runs.
    fn time_now(&self) -> DataFusionResult<(i64, i64)> {
        let Some(rest) = &self.rest else { return Ok(self.time) };
        let now = snapshot_physical_expr(Arc::clone(&rest.filter))?;
        let bounds = split_conjunction(&now).into_iter().filter_map(bounds);
        Ok(bounds.fold(self.time, |time, (first, last)| (time.0.max(first), time.1.min(last))))
    }
}

fn is_one_of(tags: &[String], column: &Column) -> bool {
    tags.iter().any(|tag| tag == column.name())
}

/// A tag of each series; null where the file lacks it.
pub(super) fn tag(series: &SeriesRows, name: &str, kind: &arrow::datatypes::DataType) -> ArrayRef {
    match series.tags().column_by_name(name) {
        Some(tag) => Arc::clone(tag),
        None => new_null_array(kind, series.len()),
    }
}

/// The first and the last instant that pass a comparison of the time with a constant; `None` for anything else.
fn bounds(filter: &Arc<dyn PhysicalExpr>) -> Option<(i64, i64)> {
    let comparison = filter.downcast_ref::<BinaryExpr>()?;
    let is_time =
        |side: &Arc<dyn PhysicalExpr>| side.downcast_ref::<Column>().is_some_and(|column| column.name() == TIME_COLUMN);
    let instant = |side: &Arc<dyn PhysicalExpr>| match side.downcast_ref::<Literal>()?.value() {
        ScalarValue::TimestampNanosecond(Some(nanos), _) => Some(*nanos),
        _ => None,
    };
    let (operator, nanos) = match (comparison.left(), comparison.right()) {
        (left, right) if is_time(left) => (*comparison.op(), instant(right)?),
        (left, right) if is_time(right) => (comparison.op().swap()?, instant(left)?),
        _ => return None,
    };
    match operator {
        Operator::Eq => Some((nanos, nanos)),
        Operator::GtEq => Some((nanos, i64::MAX)),
        Operator::LtEq => Some((i64::MIN, nanos)),
        // Beyond the last instant there is none: an empty range.
        Operator::Gt => Some(nanos.checked_add(1).map_or((i64::MAX, i64::MIN), |first| (first, i64::MAX))),
        Operator::Lt => Some(nanos.checked_sub(1).map_or((i64::MAX, i64::MIN), |last| (i64::MIN, last))),
        _ => None,
    }
}
