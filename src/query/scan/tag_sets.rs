//! The combinations of tags that the series of a table have, each once, in the order of the series key.
//!
//! Most units hold the same series as another one: then nothing is compared but two lists as a whole. Others are merged row by row.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::{SortOptions, cast, partition, take};
use arrow::datatypes::{Int32Type, SchemaRef};
use arrow::row::{Row, RowConverter, Rows, SortField};
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result as DataFusionResult;

use super::dictionaries::cut;
use super::series_numbers::are_same;
use crate::model::{ColumnName, batch_bytes};

/// Nulls come last, as in the series key.
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Combinations as they are found, unit by unit.
pub(super) struct TagSets {
    output: SchemaRef,
    /// The columns of the output in the order of the series key.
    order: Vec<usize>,
    /// Whether these are the tags that series are sorted by first.
    is_prefix: bool,
    /// No two are the same.
    lists: Vec<RecordBatch>,
}

impl TagSets {
    /// For tags of a table with this series key.
    pub(super) fn new(output: &SchemaRef, series_key: &[ColumnName]) -> Self {
        let order: Vec<usize> = order(output, series_key);
        let is_prefix = series_key.iter().zip(&order).all(|(tag, place)| tag.as_str() == output.field(*place).name());
        Self { output: Arc::clone(output), order, is_prefix, lists: Vec::new() }
    }

    /// Takes the tags of series, in the order of the series key; combinations may come several times.
    ///
    /// # Errors
    /// If a tag is no dictionary; a defect.
    pub(super) fn push(&mut self, tags: Vec<ArrayRef>, rows: usize) -> DataFusionResult<()> {
        let tags = match (tags.as_slice(), self.is_prefix) {
            ([tag], false) => vec![once(tag)?],
            (_, true) => adjacent_once(&tags)?,
            (_, false) => tags,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(tags.first().map_or(rows, |tag| tag.len())));
        let list = RecordBatch::try_new_with_options(Arc::clone(&self.output), tags, &options)?;
        if list.num_rows() > 0 && !self.lists.iter().any(|known| are_same(known, &list)) {
            self.lists.push(list);
        }
        Ok(())
    }

    /// Memory of what was found, and of what [`TagSets::finish`] needs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let held = self.lists.iter().map(batch_bytes).sum();
        if self.lists.len() > 1 || !self.is_prefix { 2 * held } else { held }
    }

    /// All combinations, each once, in batches of at most so many rows.
    ///
    /// # Errors
    /// If tags can't be compared; a defect.
    pub(super) fn finish(self, batch_rows: usize) -> DataFusionResult<Vec<RecordBatch>> {
        match self.lists.as_slice() {
            [] => Ok(Vec::new()),
            [list] if self.is_prefix => {
                let starts = (0..list.num_rows()).step_by(batch_rows);
                let slice = |start: usize| {
                    let slice = list.slice(start, batch_rows.min(list.num_rows() - start));
                    let columns = slice.columns().iter().map(cut).collect::<DataFusionResult<_>>()?;
                    Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
                };
                starts.map(slice).collect()
            }
            _ => self.merged(batch_rows),
        }
    }

    fn merged(&self, batch_rows: usize) -> DataFusionResult<Vec<RecordBatch>> {
        let field = |place: &usize| SortField::new_with_options(self.output.field(*place).data_type().clone(), ORDER);
        let converter = RowConverter::new(self.order.iter().map(field).collect())?;
        let rows = |list: &RecordBatch| {
            let columns: Vec<ArrayRef> = self.order.iter().map(|place| Arc::clone(list.column(*place))).collect();
            Ok(converter.convert_columns(&columns)?)
        };
        let lists = self.lists.iter().map(rows).collect::<DataFusionResult<Vec<Rows>>>()?;
        let mut rows: Vec<Row<'_>> = lists.iter().flatten().collect();
        // Stable, because that sort sees where rows rise already.
        rows.sort();
        rows.dedup();
        let batch = |rows: &[Row<'_>]| {
            let sorted = converter.convert_rows(rows.iter().copied())?;
            let columns = self.output.fields().iter().enumerate().map(|(place, field)| {
                let sorted = self.order.iter().position(|of| *of == place).and_then(|at| sorted.get(at));
                let sorted = sorted.ok_or_else(|| internal_datafusion_err!("a column without an order"))?;
                Ok(cast(sorted, field.data_type())?)
            });
            Ok(RecordBatch::try_new(Arc::clone(&self.output), columns.collect::<DataFusionResult<_>>()?)?)
        };
        rows.chunks(batch_rows.max(1)).map(batch).collect()
    }
}

/// The columns of `output` in the order of the series key, in which [`TagSets::finish`] sorts.
pub(super) fn order(output: &SchemaRef, series_key: &[ColumnName]) -> Vec<usize> {
    series_key.iter().filter_map(|tag| output.index_of(tag.as_str()).ok()).collect()
}

/// The texts of one tag that series have, each once, in no order; null if one has none.
fn once(tag: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let tag = tag.as_dictionary_opt::<Int32Type>();
    let tag = tag.ok_or_else(|| internal_datafusion_err!("a tag that is no dictionary"))?;
    let (mut is_known, mut codes) = (vec![false; tag.values().len()], Vec::new());
    for code in tag.keys().iter().flatten() {
        if !std::mem::replace(&mut is_known[code as usize], true) {
            codes.push(Some(code));
        }
    }
    if tag.null_count() > 0 {
        codes.push(None);
    }
    let codes = Int32Array::from(codes);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes, Arc::clone(tag.values()))?))
}

/// Sorted rows without those that are the same as the row before.
fn adjacent_once(tags: &[ArrayRef]) -> DataFusionResult<Vec<ArrayRef>> {
    // By texts: a dictionary may have one under several codes.
    let parts = partition(tags)?;
    if tags.first().is_none_or(|tag| parts.len() == tag.len()) {
        return Ok(tags.to_vec());
    }
    let firsts = UInt32Array::from_iter_values(parts.ranges().iter().map(|range| range.start as u32));
    Ok(tags.iter().map(|tag| take(tag, &firsts, None)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::StringArray;
    use arrow::datatypes::{Field, Schema};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::model::ColumnKind;

    type Series = (Option<String>, Option<String>, Option<String>);

    /// As the series key orders them: nulls last.
    fn rank(tags: &[Option<String>]) -> Vec<(bool, Option<String>)> {
        tags.iter().map(|tag| (tag.is_none(), tag.clone())).collect()
    }

    fn of(series: &Series, names: &[&str]) -> Vec<Option<String>> {
        let tag = |name: &&str| match *name {
            "a" => series.0.clone(),
            "b" => series.1.clone(),
            _ => series.2.clone(),
        };
        names.iter().map(tag).collect()
    }

    proptest! {
        #[test]
        fn each_combination_comes_once_and_in_order(
            units in vec(btree_set((proptest::option::of("[a-d]"), proptest::option::of("[a-c]"), proptest::option::of("[ab]")), 0..20), 0..5),
            names in proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3).prop_shuffle(),
            batch_rows in 1_usize..9,
        ) {
            let key: Vec<ColumnName> = ["a", "b", "c"].map(|name| ColumnName::new(name).unwrap()).to_vec();
            let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, ColumnKind::Tag.data_type(), true)).collect();
            let output: SchemaRef = Arc::new(Schema::new(fields));
            let mut sets = TagSets::new(&output, &key);
            for unit in &units {
                let mut unit: Vec<&Series> = unit.iter().collect();
                unit.sort_by_key(|series| rank(&of(series, &["a", "b", "c"])));
                let columns: Vec<ArrayRef> = names.iter().map(|name| {
                    let texts: Vec<Option<String>> = unit.iter().map(|series| of(series, &[name])[0].clone()).collect();
                    Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()) as ArrayRef
                }).collect();
                sets.push(columns, unit.len()).unwrap();
            }
            let mut found: Vec<Vec<Option<String>>> = Vec::new();
            for batch in sets.finish(batch_rows).unwrap() {
                prop_assert!(batch.num_rows() <= batch_rows);
                for row in 0..batch.num_rows() {
                    let text = |column: &ArrayRef| {
                        let column = column.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
                        column.into_iter().nth(row).unwrap().map(str::to_owned)
                    };
                    found.push(batch.columns().iter().map(text).collect());
                }
            }
            let mut sorted = names.clone();
            sorted.sort_unstable();
            let all: BTreeSet<Vec<(bool, Option<String>)>> = units.iter().flatten().map(|series| rank(&of(series, &sorted))).collect();
            let places: Vec<usize> = sorted.iter().map(|name| names.iter().position(|of| of == name).unwrap()).collect();
            let found: Vec<Vec<(bool, Option<String>)>> = found.into_iter()
                .map(|row| rank(&places.iter().map(|place| row[*place].clone()).collect::<Vec<_>>())).collect();
            prop_assert_eq!(found, all.into_iter().collect::<Vec<_>>());
        }
    }
}
