//! Which series have certain tags, by halves: series are sorted by their tags, so one among a million is found by looking at twenty.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::physical_plan::PhysicalExpr;

use crate::engine::store::decoded::SeriesRows;

/// Tags, each with the texts of which a series has to have one.
#[derive(Debug, Default)]
pub(super) struct WantedTags(Vec<(String, Vec<String>)>);

impl WantedTags {
    /// These texts of these tags.
    pub(super) fn new(mut tags: Vec<(String, Vec<String>)>) -> Self {
        for (_, texts) in &mut tags {
            texts.sort_unstable();
            texts.dedup();
        }
        Self(tags)
    }

    /// Whether any tag is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows series with these tags have, as far as those are known by their first tag.
    pub(super) fn rows(&self, series: &SeriesRows) -> Option<u64> {
        let places = self.places(series)?.into_iter().flatten();
        Some(places.map(|place| series.rows(place).len() as u64).sum())
    }

    /// What a filter on tags wants of them all; it may want more than that.
    pub(super) fn of(filter: &Arc<dyn PhysicalExpr>) -> Self {
        let guarantees = LiteralGuarantee::analyze(filter).into_iter();
        let wanted = guarantees.filter(|guarantee| guarantee.guarantee == Guarantee::In).map(|guarantee| {
            let texts = guarantee.literals.iter().filter_map(text_of).map(str::to_owned).collect();
            (guarantee.column.name().to_owned(), texts)
        });
        Self::new(wanted.collect())
    }

    fn texts(&self, tag: &str) -> Option<&[String]> {
        self.0.iter().find(|(name, _)| name == tag).map(|(_, texts)| texts.as_slice())
    }

    /// Where series with these tags are, rising; others may be among them. `None` if the first tag that series are sorted by may be any.
    pub(super) fn places(&self, series: &SeriesRows) -> Option<Vec<Range<usize>>> {
        let tags = series.tags();
        let schema = tags.schema();
        if self.0.iter().any(|(name, _)| schema.index_of(name).is_err()) {
            return Some(Vec::new()); // no series here has that tag
        }
        let mut found: Option<Vec<Range<usize>>> = None;
        for (field, tag) in schema.fields().iter().zip(tags.columns()) {
            let Some((texts, tag)) = self.texts(field.name()).zip(Tag::of(tag)) else { break };
            let before = found.unwrap_or_else(|| std::iter::once(0..series.len()).collect());
            let within = |range: Range<usize>| {
                let tag = &tag;
                texts.iter().map(move |text| tag.places(range.clone(), text)).filter(|range| !range.is_empty())
            };
            found = Some(before.into_iter().flat_map(within).collect());
        }
        found
    }
}

/// The text of a constant that a tag is compared with.
pub(super) fn text_of(literal: &ScalarValue) -> Option<&str> {
    match literal {
        ScalarValue::Dictionary(_, value) => text_of(value),
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.as_deref(),
        _ => None,
    }
}

/// A tag of sorted series.
struct Tag<'a> {
    codes: &'a Int32Array,
    texts: &'a StringArray,
}

impl<'a> Tag<'a> {
    fn of(tag: &'a ArrayRef) -> Option<Self> {
        let tag = tag.as_dictionary_opt::<Int32Type>()?;
        Some(Self { codes: tag.keys(), texts: tag.values().as_string_opt::<i32>()? })
    }

    /// The series of `range`, in which this tag rises, whose tag has this text.
    fn places(&self, range: Range<usize>, text: &str) -> Range<usize> {
        let start = self.first(range.clone(), |order| order == Ordering::Less, text);
        start..self.first(start..range.end, |order| order != Ordering::Greater, text)
    }

    /// The first place of `range` at which it is no longer so.
    fn first(&self, mut range: Range<usize>, is_before: impl Fn(Ordering) -> bool, text: &str) -> usize {
        while !range.is_empty() {
            let middle = range.start + range.len() / 2;
            match is_before(self.compared(middle, text)) {
                true => range.start = middle + 1,
                false => range.end = middle,
            }
        }
        range.start
    }

    /// A series without the tag comes after all others.
    fn compared(&self, place: usize, text: &str) -> Ordering {
        match self.codes.is_valid(place) {
            true => self.texts.value(self.codes.value(place) as usize).cmp(text),
            false => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, RecordBatch};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, Column, in_list, lit};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn series(tags: &[(Option<String>, Option<String>)]) -> SeriesRows {
        let column =
            |texts: Vec<Option<&str>>| Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()) as ArrayRef;
        let a = column(tags.iter().map(|(a, _)| a.as_deref()).collect());
        let b = column(tags.iter().map(|(_, b)| b.as_deref()).collect());
        SeriesRows::of(&RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true)]).unwrap()).unwrap()
    }

    fn is_one_of(
        name: &str,
        place: usize,
        texts: &[String],
        schema: &arrow::datatypes::Schema,
    ) -> Arc<dyn PhysicalExpr> {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, place));
        match texts {
            [one] => Arc::new(BinaryExpr::new(column, Operator::Eq, lit(one.as_str()))),
            texts => in_list(column, texts.iter().map(|text| lit(text.as_str())).collect(), &false, schema).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn series_are_found_that_a_walk_finds(
            mut tags in vec((proptest::option::of("[a-e]"), proptest::option::of("[a-c]")), 0..40),
            of_a in proptest::option::of(vec("[a-f]", 1..4)),
            of_b in proptest::option::of(vec("[a-d]", 1..3)),
        ) {
            let last = |tag: &Option<String>| (tag.is_none(), tag.clone());
            tags.sort_by_key(|(a, b)| (last(a), last(b)));
            tags.dedup();
            let series = series(&tags);
            let schema = series.tags().schema();
            let filters: Vec<Arc<dyn PhysicalExpr>> = [("a", &of_a), ("b", &of_b)].into_iter().enumerate()
                .filter_map(|(place, (name, texts))| texts.as_ref().map(|texts| is_one_of(name, place, texts, &schema))).collect();
            let Some(filter) = filters.into_iter().reduce(|one, other| Arc::new(BinaryExpr::new(one, Operator::And, other))) else {
                return Ok(());
            };
            let found = WantedTags::of(&filter).places(&series);
            prop_assert_eq!(found.is_some(), of_a.is_some());
            let is_wanted = |texts: &Option<Vec<String>>, tag: &Option<String>| {
                texts.as_ref().is_none_or(|texts| tag.as_ref().is_some_and(|tag| texts.contains(tag)))
            };
            let walked: Vec<usize> =
                (0..tags.len()).filter(|place| is_wanted(&of_a, &tags[*place].0) && is_wanted(&of_b, &tags[*place].1)).collect();
            if let Some(found) = found {
                prop_assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), walked);
            }
        }
    }
}
