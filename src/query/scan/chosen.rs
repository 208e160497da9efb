//! Rows of a decoded row group that were chosen, as columns.
//!
//! How the rows of a column are taken depends on how they lie, which is the same for all columns and found out once. Which rows are
//! chosen is decided in [`choose`](super::choose), and what columns are made for in [`decoded`](super::decoded) and [`ends`](super::ends).

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::Int32Type;
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result as DataFusionResult;

use super::choose::Stretch;
use super::dictionaries::with_used_texts;

/// Rows that lie together are copied as a slice if there are so many of them on average, else one by one.
const ROWS_WORTH_A_SLICE: usize = 16;

/// Rows of a row group, rising.
pub(super) struct ChosenRows<'a> {
    stretches: Cow<'a, [Stretch]>,
    count: usize,
    lie: Lie,
}

/// How chosen rows lie in their columns.
enum Lie {
    Together(Range<usize>),
    InLongStretches,
    Scattered(UInt32Array),
}

impl<'a> ChosenRows<'a> {
    pub(super) fn new(stretches: impl Into<Cow<'a, [Stretch]>>) -> Self {
        let stretches = stretches.into();
        let count = stretches.iter().map(|stretch| stretch.rows.len()).sum();
        let is_whole = stretches.windows(2).all(|pair| pair[0].rows.end == pair[1].rows.start);
        let lie = if is_whole {
            let start = stretches.first().map_or(0, |first| first.rows.start);
            Lie::Together(start..start + count)
        } else if count < stretches.len() * ROWS_WORTH_A_SLICE {
            let places = stretches.iter().flat_map(|stretch| stretch.rows.clone()).map(|row| row as u32);
            Lie::Scattered(UInt32Array::from_iter_values(places))
        } else {
            Lie::InLongStretches
        };
        Self { stretches, count, lie }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Those of these rows for which `passing` says so; one value for each, and a null is a no.
    pub(super) fn that_pass(&self, passing: &BooleanArray) -> Vec<Stretch> {
        let passing = match passing.nulls() {
            Some(nulls) => passing.values() & nulls.inner(),
            None => passing.values().clone(),
        };
        let mut stretches = Vec::new();
        let mut of = self.stretches.iter();
        let mut current = of.next();
        let mut before = 0; // rows of the stretches before the current one
        for (mut start, end) in passing.set_slices() {
            while start < end
                && let Some(stretch) = current
            {
                let first = stretch.rows.start + (start - before);
                let last = stretch.rows.end.min(stretch.rows.start + (end - before));
                if first < last {
                    stretches.push(Stretch { series: stretch.series, rows: first..last });
                    start += last - first;
                }
                if start < end {
                    before += stretch.rows.len();
                    current = of.next();
                }
            }
        }
        stretches
    }

    /// These rows of a column: shared where they lie together.
    ///
    /// # Errors
    /// If the column has fewer rows; a defect.
    pub(super) fn of(&self, column: &ArrayRef) -> DataFusionResult<ArrayRef> {
        Ok(match &self.lie {
            Lie::Together(rows) => column.slice(rows.start, rows.len()),
            Lie::Scattered(places) => take(column, places, None)?,
            Lie::InLongStretches => {
                let slices = self.stretches.iter().map(|stretch| column.slice(stretch.rows.start, stretch.rows.len()));
                let slices: Vec<ArrayRef> = slices.collect();
                let slices: Vec<&dyn Array> = slices.iter().map(AsRef::as_ref).collect();
                concat(&slices)?
            }
        })
    }

    /// The tag of each row, out of the tag of each series.
    ///
    /// # Errors
    /// If the tag is no dictionary; a defect.
    pub(super) fn repeated(&self, tags: &ArrayRef) -> DataFusionResult<ArrayRef> {
        let tags = tags.as_dictionary_opt::<Int32Type>();
        let tags = tags.ok_or_else(|| internal_datafusion_err!("a tag that is no dictionary"))?;
        let of_series = self.stretches.chunk_by(|a, b| a.series == b.series).map(|stretches| {
            let rows = stretches.iter().map(|stretch| stretch.rows.len()).sum();
            (stretches[0].series, rows)
        });
        let mut keys: Vec<i32> = Vec::with_capacity(self.count);
        if tags.null_count() == 0 {
            for (series, rows) in of_series {
                keys.extend(std::iter::repeat_n(tags.keys().value(series), rows));
            }
            return with_used_texts(Int32Array::new(keys.into(), None), tags.values());
        }
        let mut nulls = NullBufferBuilder::new(self.count);
        for (series, rows) in of_series {
            match tags.key(series) {
                Some(key) => {
                    keys.extend(std::iter::repeat_n(key as i32, rows));
                    nulls.append_n_non_nulls(rows);
                }
                None => {
                    keys.extend(std::iter::repeat_n(0, rows));
                    nulls.append_n_nulls(rows);
                }
            }
        }
        with_used_texts(Int32Array::new(keys.into(), nulls.finish()), tags.values())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Stretches by the rows left out before each, and its rows.
        #[test]
        fn rows_that_pass_are_those_of_a_walk_row_by_row(
            stretches in vec((0_usize..4, 1_usize..40), 0..12),
            passing in vec(prop_oneof![Just(Some(true)), Just(Some(false)), Just(None)], 500),
            likely in 0_usize..3,
        ) {
            let mut end = 0;
            let stretches = stretches.iter().enumerate().map(|(series, (gap, rows))| {
                let start = end + gap;
                end = start + rows;
                Stretch { series, rows: start..end }
            });
            let chosen = ChosenRows::new(stretches.collect::<Vec<_>>());
            let passing: Vec<Option<bool>> = passing.chunks(likely + 1).flat_map(|chunk| vec![chunk[0]; likely * 8 + 1]).collect();
            let passing: BooleanArray = passing[..chosen.count()].iter().copied().collect();
            let rows = chosen.stretches.iter().flat_map(|stretch| stretch.rows.clone().map(|row| (stretch.series, row as i64)));
            let (series, rows): (Vec<_>, Vec<_>) =
                rows.zip(&passing).filter(|(_, passes)| *passes == Some(true)).map(|(row, _)| row).unzip();
            let narrowed = ChosenRows::new(chosen.that_pass(&passing));

            prop_assert_eq!(narrowed.count(), rows.len());
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..600));
            prop_assert_eq!(narrowed.of(&column).unwrap().as_primitive::<Int64Type>().values().to_vec(), rows);
            // A tag that every third series lacks.
            let names: arrow::array::DictionaryArray<Int32Type> =
                (0..12).map(|series| (series % 3 > 0).then(|| format!("s{series}"))).collect::<Vec<_>>().iter().map(Option::as_deref).collect();
            let names: ArrayRef = Arc::new(names);
            let repeated = narrowed.repeated(&names).unwrap();
            let places = UInt32Array::from_iter_values(series.iter().map(|series| *series as u32));
            prop_assert_eq!(&repeated, &take(&names, &places, None).unwrap());
        }
    }
}
