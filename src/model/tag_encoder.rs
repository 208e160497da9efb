//! Texts become a tag: a dictionary in which each value occurs once, made of any number of pieces.
//!
//! Rows of machines come in rounds: what followed a value last time follows it again. So each value remembers which one came
//! after it, and a text is compared with that one before it is looked up. Of a dictionary only those values are looked up that
//! rows refer to, each once.
//!
//! An empty text is no tag, as in line protocol.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayAccessor, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::arrow_rows::{COLUMN_BYTES_MAX, TEXT_BYTES_MAX};

/// The code of a row without the tag.
const ABSENT: i32 = -1;

/// The code of a dictionary's value that no row referred to yet.
const UNKNOWN: i32 = -2;

/// Why a text can't be a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusedText {
    /// It has so many bytes, more than a text may have.
    Long(usize),
    /// With it the distinct texts of the column take too many bytes.
    TooLarge,
}

/// One tag column while it grows.
#[derive(Debug)]
pub(super) struct TagEncoder {
    /// The distinct values, one after the other in the order of their first use.
    values: Vec<u8>,
    /// Where each value begins, and the last one ends.
    offsets: Vec<i32>,
    codes: HashTable<i32>,
    hasher: DefaultHashBuilder,
    /// For "absent" and then for each value the code that came after it last time.
    followers: Vec<i32>,
    last: i32,
    /// The code of each row.
    rows: Vec<i32>,
    has_absent: bool,
}

impl TagEncoder {
    /// An empty column with room for so many rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            values: Vec::new(),
            offsets: vec![0],
            codes: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            followers: vec![ABSENT],
            last: ABSENT,
            rows: Vec::with_capacity(rows),
            has_absent: false,
        }
    }

    /// Adds rows that have these texts.
    ///
    /// # Errors
    /// Says what is wrong with the first text that can't be a tag.
    pub(super) fn push_texts<'a>(
        &mut self,
        texts: impl ArrayAccessor<Item = &'a str> + Copy,
    ) -> Result<(), RefusedText> {
        for row in 0..texts.len() {
            let text = if texts.is_null(row) { "" } else { texts.value(row) };
            let code = self.code_after_last(text)?;
            self.push(code);
        }
        Ok(())
    }

    /// Adds rows that refer to these values.
    ///
    /// # Errors
    /// Says what is wrong with the first text that can't be a tag.
    pub(super) fn push_dictionary<'a>(
        &mut self,
        keys: &Int32Array,
        values: impl ArrayAccessor<Item = &'a str> + Copy,
    ) -> Result<(), RefusedText> {
        let mut codes = vec![UNKNOWN; values.len()];
        for row in 0..keys.len() {
            if keys.is_null(row) {
                self.push(ABSENT);
                continue;
            }
            // Arrow has checked that there is such a value.
            let value = keys.value(row) as usize;
            if codes[value] == UNKNOWN {
                codes[value] = if values.is_null(value) { ABSENT } else { self.code(values.value(value))? };
            }
            self.push(codes[value]);
        }
        Ok(())
    }

    /// The column.
    pub(super) fn finish(self) -> ArrayRef {
        let nulls = self.has_absent.then(|| NullBuffer::from_iter(self.rows.iter().map(|code| *code != ABSENT)));
        let keys = Int32Array::new(ScalarBuffer::from(self.rows), nulls);
        let (mut offsets, mut values) = (self.offsets, self.values);
        offsets.shrink_to_fit();
        values.shrink_to_fit();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let texts = StringArray::new(offsets, Buffer::from_vec(values), None);
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(texts)))
    }

    #[inline]
    fn push(&mut self, code: i32) {
        self.has_absent |= code == ABSENT;
        self.rows.push(code);
    }

    #[inline]
    fn code_after_last(&mut self, text: &str) -> Result<i32, RefusedText> {
        let follower = self.followers[place(self.last)];
        let code = match self.value(follower) == text.as_bytes() {
            true => follower,
            // Stretches of one value end; the next one begins with another, and goes on.
            false if self.value(self.last) == text.as_bytes() => self.last,
            false => {
                let code = self.code(text)?;
                self.followers[place(self.last)] = code;
                code
            }
        };
        self.last = code;
        Ok(code)
    }

    fn code(&mut self, text: &str) -> Result<i32, RefusedText> {
        if text.is_empty() {
            return Ok(ABSENT);
        }
        let hash = self.hasher.hash_one(text.as_bytes());
        let (values, offsets) = (&self.values, &self.offsets);
        if let Some(code) = self.codes.find(hash, |code| value(values, offsets, *code) == text.as_bytes()) {
            return Ok(*code);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(RefusedText::Long(text.len()));
        }
        if self.values.len() + text.len() > COLUMN_BYTES_MAX {
            return Err(RefusedText::TooLarge);
        }
        // Rows and bytes are limited to less than an offset can be.
        let code = self.codes.len() as i32;
        self.values.extend_from_slice(text.as_bytes());
        self.offsets.push(self.values.len() as i32);
        self.followers.push(code);
        let (values, offsets, hasher) = (&self.values, &self.offsets, &self.hasher);
        self.codes.insert_unique(hash, code, |code| hasher.hash_one(value(values, offsets, *code)));
        Ok(code)
    }

    #[inline]
    fn value(&self, code: i32) -> &[u8] {
        value(&self.values, &self.offsets, code)
    }
}

/// Where a code's follower stands.
#[inline]
fn place(code: i32) -> usize {
    (code + 1) as usize
}

/// The bytes of a value; none of who is absent.
#[inline]
fn value<'a>(values: &'a [u8], offsets: &[i32], code: i32) -> &'a [u8] {
    match usize::try_from(code) {
        Ok(code) => &values[offsets[code] as usize..offsets[code + 1] as usize],
        Err(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    fn texts(column: &ArrayRef) -> Vec<Option<String>> {
        let column = column.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        column.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    /// What a column of these texts is.
    fn expected(pieces: &[Vec<Option<String>>]) -> Vec<Option<String>> {
        pieces.iter().flatten().cloned().map(|text| text.filter(|text| !text.is_empty())).collect()
    }

    proptest! {
        #[test]
        fn whatever_follows_what_the_texts_stay_and_each_occurs_once(
            pieces in prop::collection::vec(prop::collection::vec(prop::option::of("[ab]{0,2}"), 0..30), 0..4),
            as_dictionary in any::<bool>(),
        ) {
            let mut encoder = TagEncoder::with_capacity(0);
            for piece in &pieces {
                let piece: StringArray = piece.iter().map(Option::as_deref).collect();
                if as_dictionary {
                    // Each row has a value of its own, so that values occur more than once and are null.
                    let each = Int32Array::from_iter_values(0..piece.len() as i32);
                    encoder.push_dictionary(&each, &piece).unwrap();
                } else {
                    encoder.push_texts(&piece).unwrap();
                }
            }
            let column = encoder.finish();
            prop_assert_eq!(texts(&column), expected(&pieces));
            let values = column.as_dictionary::<Int32Type>().values().as_string::<i32>().clone();
            let mut distinct: Vec<_> = values.iter().map(|value| value.unwrap().to_owned()).collect();
            prop_assert!(distinct.iter().all(|value| !value.is_empty()));
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), values.len());
        }
    }

    #[test]
    fn rows_without_the_tag_keep_the_round_of_the_others() {
        let mut encoder = TagEncoder::with_capacity(8);
        let texts = StringViewArray::from_iter([Some("a"), None, Some("b"), Some(""), Some("a"), None, Some("b")]);
        encoder.push_texts(&texts).unwrap();
        let column = encoder.finish();
        let column = column.as_dictionary::<Int32Type>();
        assert_eq!(column.keys().null_count(), 3);
        assert_eq!(column.values().len(), 2);
    }

    #[test]
    fn a_text_may_be_long_but_not_too_long() {
        let mut encoder = TagEncoder::with_capacity(1);
        let long = "x".repeat(TEXT_BYTES_MAX);
        encoder.push_texts(&StringArray::from(vec![long.as_str()])).unwrap();
        let longer = format!("{long}x");
        let refused = encoder.push_texts(&StringArray::from(vec![longer.as_str()]));
        assert_eq!(refused, Err(RefusedText::Long(TEXT_BYTES_MAX + 1)));
        // Texts of a view may overlap, so that few bytes in a message are many here.
        let many: Vec<String> = (0..300).map(|number| format!("{number}{}", &long[8..])).collect();
        let many = StringArray::from_iter_values(&many);
        assert_eq!(encoder.push_texts(&many), Err(RefusedText::TooLarge));
    }
}
