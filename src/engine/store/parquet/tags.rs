//! The column chunk of a tag.
//!
//! In sorted rows a tag comes in long runs, and Arrow has its texts in a dictionary already. So a text is looked at once a run, and a run is
//! written as one.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use parquet::basic::Type;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::dictionary_chunk::{Bound, Chunk, DataPage, DictionaryColumn, PageCompression, write};
use super::hybrid::Hybrid;

/// Longer texts would have to be cut in statistics and indexes; they are left to the other encoder.
const TEXT_BYTES_MAX: usize = 64;

/// Encodes a tag: the arrays of one row group, cut into pages of so many rows. `None` if the encoder of the crate has to: no row has
/// the tag, a text is long, or the texts take more than `dictionary_bytes_max`.
///
/// # Errors
/// If an array is no tag.
pub(super) fn encode_tag(
    descriptor: &ColumnDescPtr,
    arrays: &[&ArrayRef],
    pages: &[usize],
    dictionary_bytes_max: usize,
    compression: PageCompression,
) -> Result<Option<Chunk>> {
    let tag = Tag::survey(arrays)?;
    let is_fit = !tag.texts.is_empty()
        && tag.texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX)
        && tag.dictionary_bytes() <= dictionary_bytes_max;
    is_fit.then(|| write(descriptor, tag, pages, compression)).transpose()
}

/// The values of a tag in a row group.
struct Tag<'a> {
    /// The texts, in the order in which they come first.
    texts: Vec<&'a str>,
    /// Positions of texts, or none, and for how many rows.
    runs: Vec<(Option<u32>, usize)>,
    /// The run that the next page begins in, and how many of its rows are in pages before.
    next: (usize, usize),
}

impl<'a> Tag<'a> {
    fn survey(arrays: &[&'a ArrayRef]) -> Result<Self> {
        let mut positions: HashMap<&str, u32> = HashMap::new();
        let mut tag = Self { texts: Vec::new(), runs: Vec::new(), next: (0, 0) };
        for array in arrays {
            let unfit = || ParquetError::General(format!("a tag is a dictionary of texts, not {}", array.data_type()));
            let array = array.as_dictionary_opt::<Int32Type>().ok_or_else(unfit)?;
            let texts = array.values().as_string_opt::<i32>().ok_or_else(unfit)?;
            for rows in key_runs(array.keys()) {
                let key = array.key(rows.start).filter(|key| texts.is_valid(*key));
                let position = key.map(|key| {
                    let text = texts.value(key);
                    *positions.entry(text).or_insert_with(|| {
                        tag.texts.push(text);
                        (tag.texts.len() - 1) as u32
                    })
                });
                match tag.runs.last_mut() {
                    Some((last, count)) if *last == position => *count += rows.len(),
                    _ => tag.runs.push((position, rows.len())),
                }
            }
        }
        Ok(tag)
    }

    fn dictionary_bytes(&self) -> usize {
        self.texts.iter().map(|text| size_of::<u32>() + text.len()).sum()
    }
}

impl<'a> DictionaryColumn for Tag<'a> {
    type Bound = &'a str;

    fn distinct(&self) -> usize {
        self.texts.len()
    }

    fn dictionary(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.dictionary_bytes());
        for text in &self.texts {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    fn is_sorted(&self) -> bool {
        false
    }

    fn page(&mut self, rows: usize, width: u32) -> DataPage<&'a str> {
        let (mut levels, mut positions) = (Hybrid::new(1), Hybrid::new(width));
        let (mut taken, mut nulls, mut bounds) = (0, 0, None::<(&str, &str)>);
        while taken < rows {
            let (run, before) = self.next;
            let Some(&(position, count)) = self.runs.get(run) else { break };
            let here = (count - before).min(rows - taken);
            self.next = if before + here == count { (run + 1, 0) } else { (run, before + here) };
            taken += here;
            levels.push(u32::from(position.is_some()), here);
            let Some(position) = position else {
                nulls += here;
                continue;
            };
            positions.push(position, here);
            let text = self.texts[position as usize];
            bounds = Some(bounds.map_or((text, text), |(min, max)| (text.min(min), text.max(max))));
        }
        DataPage { rows: taken, nulls, levels: levels.finish(), positions: positions.finish(), bounds }
    }
}

impl Bound for &str {
    const TYPE: Type = Type::BYTE_ARRAY;

    fn bytes(self) -> Vec<u8> {
        self.into()
    }

    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics {
        let (min, max) = bounds.map(|(min, max)| (ByteArray::from(min), ByteArray::from(max))).unzip();
        Statistics::byte_array(min, max, None, Some(nulls), false)
    }
}

/// Ranges of rows with one key, or with none.
fn key_runs(keys: &PrimitiveArray<Int32Type>) -> impl Iterator<Item = Range<usize>> + '_ {
    let (values, nulls) = (keys.values(), keys.nulls());
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = *values.get(start)?;
        let rest = &values[start..];
        let length = match nulls {
            None => rest.iter().position(|key| *key != first).unwrap_or(rest.len()),
            Some(nulls) => {
                let is_valid = nulls.is_valid(start);
                let differs =
                    |row: usize| nulls.is_valid(start + row) != is_valid || (is_valid && values[start + row] != first);
                (1..rest.len()).find(|row| differs(*row)).unwrap_or(rest.len())
            }
        };
        let run = start..start + length;
        start = run.end;
        Some(run)
    })
}
