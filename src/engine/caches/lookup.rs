//! Finding the rows of some keys.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

/// Rows are wanted in which a tag has one of some values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The tag.
    pub column: String,
    /// The values; `None` is that of a row that lacks the tag.
    pub values: Vec<Option<String>>,
}

/// Where the rows of each value of one tag are. Takes some 16 bytes a row.
#[derive(Debug)]
pub(super) struct TagIndex {
    /// By the text; null last.
    rows: HashMap<Option<Box<str>>, Vec<u32>>,
}

impl TagIndex {
    /// `None` if the column is no tag.
    pub(super) fn new(column: &ArrayRef) -> Option<Self> {
        let (codes, texts) = dictionary(column)?;
        let mut by_code: Vec<Vec<u32>> = vec![Vec::new(); texts.len() + 1];
        for row in 0..column.len() {
            let code = if codes.is_null(row) { texts.len() } else { codes.value(row) as usize };
            by_code[code].push(row as u32);
        }
        let mut rows: HashMap<Option<Box<str>>, Vec<u32>> = HashMap::with_capacity(by_code.len());
        for (code, of_code) in by_code.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let text = (code < texts.len() && texts.is_valid(code)).then(|| texts.value(code).into());
            rows.entry(text).or_default().extend(of_code);
        }
        Some(Self { rows })
    }

    /// The rows with one of the values, rising.
    pub(super) fn find(&self, values: &[Option<String>]) -> Vec<u32> {
        let of_value = |value: &Option<String>| self.rows.get(&value.as_deref().map(Box::from)).into_iter().flatten();
        let mut rows: Vec<u32> = values.iter().flat_map(of_value).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

/// The rows of `candidates` that every lookup wants. A column that the batch does not have is null in all rows.
///
/// # Errors
/// If a column is no tag.
pub(super) fn matching(
    batch: &RecordBatch,
    lookups: &[Lookup],
    candidates: impl Iterator<Item = u32>,
) -> Result<Vec<u32>, ArrowError> {
    let tests: Vec<_> = lookups.iter().map(|lookup| Test::new(batch, lookup)).collect::<Result<_, _>>()?;
    Ok(candidates.filter(|row| tests.iter().all(|test| test.passes(*row as usize))).collect())
}

/// One lookup in terms of one batch.
enum Test<'a> {
    /// The texts that pass rise.
    Tag {
        codes: &'a Int32Array,
        texts: &'a StringArray,
        passing: Vec<&'a str>,
        null_passes: bool,
    },
    All(bool),
}

impl<'a> Test<'a> {
    fn new(batch: &'a RecordBatch, lookup: &'a Lookup) -> Result<Self, ArrowError> {
        let null_passes = lookup.values.contains(&None);
        let Some(column) = batch.column_by_name(&lookup.column) else { return Ok(Self::All(null_passes)) };
        let no_tag = || ArrowError::SchemaError(format!("\"{}\" is no tag: {}", lookup.column, column.data_type()));
        let (codes, texts) = dictionary(column).ok_or_else(no_tag)?;
        let mut passing: Vec<&str> = lookup.values.iter().flatten().map(String::as_str).collect();
        passing.sort_unstable();
        Ok(Self::Tag { codes, texts, passing, null_passes })
    }

    fn passes(&self, row: usize) -> bool {
        match self {
            Self::All(passes) => *passes,
            Self::Tag { codes, texts, passing, null_passes } => {
                let code = codes.is_valid(row).then(|| codes.value(row) as usize);
                match code.filter(|code| texts.is_valid(*code)) {
                    Some(code) => passing.binary_search(&texts.value(code)).is_ok(),
                    None => *null_passes,
                }
            }
        }
    }
}

fn dictionary(column: &ArrayRef) -> Option<(&Int32Array, &StringArray)> {
    let dictionary = column.as_dictionary_opt::<Int32Type>()?;
    Some((dictionary.keys(), dictionary.values().as_string_opt::<i32>()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::DictionaryArray;

    use super::*;

    #[test]
    fn an_index_and_a_walk_find_the_same_rows() {
        let hosts: DictionaryArray<Int32Type> =
            [Some("a"), None, Some("b"), Some("a"), Some("c"), None].into_iter().collect();
        let column: ArrayRef = Arc::new(hosts);
        let batch = RecordBatch::try_from_iter_with_nullable([("host", Arc::clone(&column), true)]).unwrap();
        let index = TagIndex::new(&column).unwrap();
        for (values, rows) in [
            (vec![Some("a")], vec![0, 3]),
            (vec![Some("c"), Some("a"), Some("a")], vec![0, 3, 4]),
            (vec![None, Some("b")], vec![1, 2, 5]),
            (vec![Some("x")], vec![]),
            (vec![], vec![]),
        ] {
            let values: Vec<Option<String>> = values.into_iter().map(|value| value.map(str::to_owned)).collect();
            assert_eq!(index.find(&values), rows);
            let lookup = Lookup { column: "host".to_owned(), values };
            assert_eq!(matching(&batch, &[lookup], 0..6).unwrap(), rows);
        }
        let other = |values| Lookup { column: "rack".to_owned(), values };
        assert_eq!(matching(&batch, &[other(vec![Some("1".to_owned())])], 0..6).unwrap(), Vec::<u32>::new());
        assert_eq!(matching(&batch, &[other(vec![None])], 0..6).unwrap().len(), 6);
        let number: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
        let rack = RecordBatch::try_from_iter([("rack", number)]).unwrap();
        let refused = matching(&rack, &[other(vec![None])], 0..1).unwrap_err();
        assert_eq!(refused.to_string(), "Schema error: \"rack\" is no tag: Int64");
    }
}
