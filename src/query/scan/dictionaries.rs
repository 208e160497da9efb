//! Tags of few rows without the texts of all others.
//!
//! A row group has one dictionary for each tag, which may hold a million texts. DataFusion's operators look at a dictionary as a whole whenever
//! they hash, compare or convert a batch; so a batch of some thousand rows gets those texts that it uses.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result as DataFusionResult;

/// A dictionary stays as it is up to so many texts a row, and up to so many texts for however few rows: to hash that many costs less than to
/// exchange them.
const TEXTS_A_ROW: usize = 2;
const TEXTS_AT_LEAST: usize = 256;

/// A tag as [`with_used_texts`] leaves it.
///
/// # Errors
/// If it is no dictionary; a defect.
pub(in crate::query) fn cut(tag: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let tag = tag.as_dictionary_opt::<Int32Type>();
    let tag = tag.ok_or_else(|| internal_datafusion_err!("a tag that is no dictionary"))?;
    with_used_texts(tag.keys().clone(), tag.values())
}

/// A tag of these codes, with the texts that they use and few others.
///
/// # Errors
/// If a code stands for no text; a defect.
pub(super) fn with_used_texts(codes: Int32Array, texts: &ArrayRef) -> DataFusionResult<ArrayRef> {
    let texts_max = (codes.len() * TEXTS_A_ROW).max(TEXTS_AT_LEAST);
    if texts.len() <= texts_max {
        return Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes, Arc::clone(texts))?));
    }
    let (least, greatest) =
        codes.iter().flatten().fold((i32::MAX, 0), |(least, greatest), code| (least.min(code), greatest.max(code)));
    let span = usize::try_from(greatest - least.min(greatest)).unwrap_or_default() + 1;
    // Rows are sorted, and the texts of the first tag mostly stand in the order of rows.
    let (place, texts): (Box<dyn Fn(i32) -> i32>, ArrayRef) = if span <= texts_max {
        (Box::new(|code| code - least), texts.slice(least.min(greatest) as usize, span))
    } else {
        let mut used: Vec<i32> = codes.iter().flatten().collect();
        used.sort_unstable();
        used.dedup();
        let texts = take(texts, &UInt32Array::from_iter_values(used.iter().map(|code| *code as u32)), None)?;
        (Box::new(move |code| used.partition_point(|known| *known < code) as i32), texts)
    };
    let codes: Int32Array = codes.iter().map(|code| code.map(&place)).collect();
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes, texts)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn texts_of(tag: &ArrayRef) -> Vec<Option<String>> {
        let tag = tag.as_dictionary::<Int32Type>();
        tag.downcast_dict::<StringArray>().unwrap().into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    proptest! {
        #[test]
        fn rows_keep_their_texts(from in 0_i32..4000, span in 1_i32..5000, codes in vec((any::<bool>(), 0_i32..5000), 0..60)) {
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..9000).map(|number| format!("t{number}"))));
            let codes: Int32Array = codes.into_iter().map(|(is_there, code)| is_there.then_some(from + code % span)).collect();
            let whole: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(codes, texts).unwrap());
            let cut = cut(&whole).unwrap();
            prop_assert_eq!(texts_of(&cut), texts_of(&whole));
            prop_assert!(cut.as_dictionary::<Int32Type>().values().len() <= 256);
        }
    }
}
