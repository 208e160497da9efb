//! How each column is encoded, decided by its values.
//!
//! | column | encoding |
//! |---|---|
//! | `time` | differences, packed in bits: a steady interval costs next to nothing |
//! | tag | dictionary |
//! | float | dictionary if its values repeat, else the bytes of all values by place (byte stream split), which zstd can work on |
//! | integer | dictionary or packed differences, whichever is estimated to be smaller |
//! | string | dictionary if its values repeat, else lengths and bytes apart |
//! | boolean | runs and bits |
//!
//! A dictionary pays twice. Measured on row groups of 131,072 floats with two decimals and 10,000 distinct values: 2.0 bytes
//! a value against 5.7 for the split bytes, and read three times as fast. Whether values repeat is counted in a few whole
//! row groups, because a dictionary serves one row group, and because rows picked here and there would hide
//! repetition. Where a row group differs from those, the encoder leaves the dictionary when its page is full.

use std::hash::Hash;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use hashbrown::HashSet;
use parquet::basic::Encoding;

/// Most distinct values of a dictionary: more make each index wide and each read pay for a large dictionary page.
const DISTINCT_MAX: usize = 65_536;

/// How often values must repeat on average for a dictionary. At twice it still wins: 3.4 bytes a value against 5.7 with
/// two decimals, 5.2 against 7.2 with all digits.
const REPEATS_MIN: usize = 2;

/// Rows that are looked at: three row groups of the usual size.
const SAMPLE_ROWS: usize = 3 * 128 * 1024;

/// Largest dictionary page of numbers and strings in bytes. A full dictionary of numbers takes half of it.
const DICTIONARY_BYTES_MAX: usize = 1024 * 1024;

/// Largest dictionary page of a tag in bytes: room for tens of thousands of hosts or containers.
const TAG_DICTIONARY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a column is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColumnEncoding {
    /// The size in bytes at which the dictionary is given up; `None` for no dictionary.
    pub(super) dictionary_bytes_max: Option<usize>,
    /// How values outside a dictionary are encoded.
    pub(super) values: Encoding,
}

impl ColumnEncoding {
    fn plain(values: Encoding) -> Self {
        Self { dictionary_bytes_max: None, values }
    }

    fn dictionary(bytes_max: usize, otherwise: Encoding) -> Self {
        Self { dictionary_bytes_max: Some(bytes_max), values: otherwise }
    }
}

/// The row groups that stand for all: evenly spread, all of them if there are few rows.
pub(super) fn sample(row_groups: &[Vec<RecordBatch>]) -> Vec<&[RecordBatch]> {
    let rows: usize = row_groups.iter().flatten().map(RecordBatch::num_rows).sum();
    let step = rows.div_ceil(SAMPLE_ROWS).max(1);
    row_groups.iter().step_by(step).map(Vec::as_slice).collect()
}

/// The encoding of the column at `position` of the sampled row groups.
pub(super) fn choose(data_type: &DataType, position: usize, sample: &[&[RecordBatch]]) -> ColumnEncoding {
    let groups = || sample.iter().map(|group| group.iter().map(|batch| batch.column(position)).collect::<Vec<_>>());
    match data_type {
        DataType::Timestamp(..) => ColumnEncoding::plain(Encoding::DELTA_BINARY_PACKED),
        DataType::Dictionary(..) => {
            ColumnEncoding::dictionary(TAG_DICTIONARY_BYTES_MAX, Encoding::DELTA_LENGTH_BYTE_ARRAY)
        }
        DataType::Float64 => choose_float(groups()),
        DataType::Int64 => choose_integer::<Int64Type>(groups(), |value| value),
        DataType::UInt64 => choose_integer::<UInt64Type>(groups(), u64::cast_signed),
        DataType::Utf8 => choose_string(groups()),
        _ => ColumnEncoding::plain(Encoding::RLE),
    }
}

type Arrays<'a> = Vec<&'a ArrayRef>;

fn choose_float<'a>(groups: impl Iterator<Item = Arrays<'a>>) -> ColumnEncoding {
    let otherwise = Encoding::BYTE_STREAM_SPLIT;
    let mut all = Repetition::default();
    for arrays in groups {
        let values = || values::<Float64Type>(&arrays).map(f64::to_bits);
        let Some(repetition) = Repetition::count(values) else { return ColumnEncoding::plain(otherwise) };
        all.add(repetition);
    }
    if all.pays() {
        ColumnEncoding::dictionary(DICTIONARY_BYTES_MAX, otherwise)
    } else {
        ColumnEncoding::plain(otherwise)
    }
}

fn choose_integer<'a, T: ArrowPrimitiveType>(
    groups: impl Iterator<Item = Arrays<'a>>,
    signed: fn(T::Native) -> i64,
) -> ColumnEncoding {
    let otherwise = Encoding::DELTA_BINARY_PACKED;
    let (mut dictionary_bits, mut difference_bits) = (0, 0);
    let mut all = Repetition::default();
    for arrays in groups {
        let values = || values::<T>(&arrays).map(signed);
        let Some(repetition) = Repetition::count(values) else { return ColumnEncoding::plain(otherwise) };
        dictionary_bits += repetition.dictionary_bits(values());
        difference_bits += packed_difference_bits(values());
        all.add(repetition);
    }
    if all.pays() && dictionary_bits <= difference_bits {
        ColumnEncoding::dictionary(DICTIONARY_BYTES_MAX, otherwise)
    } else {
        ColumnEncoding::plain(otherwise)
    }
}

fn choose_string<'a>(groups: impl Iterator<Item = Arrays<'a>>) -> ColumnEncoding {
    let otherwise = Encoding::DELTA_LENGTH_BYTE_ARRAY;
    let mut all = Repetition::default();
    for arrays in groups {
        let values =
            || arrays.iter().filter_map(|array| array.as_string_opt::<i32>()).flat_map(|array| array.iter().flatten());
        match Repetition::count_texts(values) {
            Some(repetition) => all.add(repetition),
            None => return ColumnEncoding::plain(otherwise),
        }
    }
    if all.pays() {
        ColumnEncoding::dictionary(DICTIONARY_BYTES_MAX, otherwise)
    } else {
        ColumnEncoding::plain(otherwise)
    }
}

fn values<'a, T: ArrowPrimitiveType>(arrays: &'a [&ArrayRef]) -> impl Iterator<Item = T::Native> + 'a {
    arrays.iter().filter_map(|array| array.as_primitive_opt::<T>()).flat_map(|array| {
        // Without nulls the values are a plain slice, which is several times as fast to walk.
        let (dense, sparse) = if array.null_count() == 0 { (Some(array.values()), None) } else { (None, Some(array)) };
        dense
            .into_iter()
            .flat_map(|values| values.iter().copied())
            .chain(sparse.into_iter().flat_map(|array| array.iter().flatten()))
    })
}

/// How often the values of a row group repeat.
#[derive(Debug, Default, Clone, Copy)]
struct Repetition {
    values: usize,
    distinct: usize,
}

impl Repetition {
    /// `None` if there are too many distinct values for a dictionary.
    fn count<T: Eq + Hash, I: Iterator<Item = T>>(values: impl Fn() -> I) -> Option<Self> {
        let mut distinct = HashSet::new();
        let mut count = 0;
        for value in values() {
            count += 1;
            if distinct.insert(value) && distinct.len() > DISTINCT_MAX {
                return None;
            }
        }
        Some(Self { values: count, distinct: distinct.len() })
    }

    /// As `count`, and `None` too if the texts fill the dictionary page by half: other row groups may have more.
    fn count_texts<'a, I: Iterator<Item = &'a str>>(values: impl Fn() -> I) -> Option<Self> {
        let mut distinct = HashSet::new();
        let (mut count, mut bytes) = (0, 0);
        for value in values() {
            count += 1;
            if distinct.insert(value) {
                bytes += size_of::<u32>() + value.len();
                if distinct.len() > DISTINCT_MAX || 2 * bytes > DICTIONARY_BYTES_MAX {
                    return None;
                }
            }
        }
        Some(Self { values: count, distinct: distinct.len() })
    }

    fn add(&mut self, other: Self) {
        self.values += other.values;
        self.distinct += other.distinct;
    }

    fn pays(self) -> bool {
        self.distinct * REPEATS_MIN <= self.values
    }

    /// What a dictionary and its indices take: indices either packed or as runs, and the dictionary itself.
    fn dictionary_bits(self, values: impl Iterator<Item = i64>) -> u64 {
        let index_bits = u64::from(self.distinct.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1));
        let mut before = None;
        let runs = values.filter(|value| before.replace(*value) != Some(*value)).count();
        let packed = self.values as u64 * index_bits;
        let as_runs = runs as u64 * (index_bits + 16);
        packed.min(as_runs) + 64 * self.distinct as u64
    }
}

/// Values whose differences are packed with one width; the encoder's own unit.
const PACKED_TOGETHER: usize = 64;

/// What the packed differences of values take.
fn packed_difference_bits(values: impl Iterator<Item = i64>) -> u64 {
    let mut bits = 0;
    let mut before = None;
    let (mut count, mut min, mut max) = (0, i64::MAX, i64::MIN);
    for value in values {
        let difference = before.replace(value).map_or(0, |before| value.wrapping_sub(before));
        (count, min, max) = (count + 1, min.min(difference), max.max(difference));
        if count == PACKED_TOGETHER {
            bits += packed_bits(min, max);
            (count, min, max) = (0, i64::MAX, i64::MIN);
        }
    }
    if count > 0 { bits + packed_bits(min, max) } else { bits }
}

fn packed_bits(min: i64, max: i64) -> u64 {
    let width = u64::from(u64::BITS - max.wrapping_sub(min).cast_unsigned().leading_zeros());
    // The width itself takes a byte.
    width * PACKED_TOGETHER as u64 + 8
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};

    use super::*;

    fn check(array: impl Array + 'static, expected: ColumnEncoding) {
        let array: ArrayRef = Arc::new(array);
        let data_type = array.data_type().clone();
        let group = [RecordBatch::try_from_iter([("c", array)]).unwrap()];
        assert_eq!(choose(&data_type, 0, &[&group]), expected);
    }

    fn dictionary(otherwise: Encoding) -> ColumnEncoding {
        ColumnEncoding::dictionary(DICTIONARY_BYTES_MAX, otherwise)
    }

    /// A value that looks random.
    fn noise(row: usize) -> u64 {
        (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    #[test]
    fn floats_that_repeat_get_a_dictionary() {
        let split = Encoding::BYTE_STREAM_SPLIT;
        check(
            Float64Array::from_iter_values((0..10_000).map(|row| (noise(row) % 5_000) as f64 / 100.0)),
            dictionary(split),
        );
        check(Float64Array::from_iter_values((0..10_000).map(|row| noise(row) as f64)), ColumnEncoding::plain(split));
        let many = (0..200_000).map(|row| (row % 70_000) as f64);
        check(Float64Array::from_iter_values(many), ColumnEncoding::plain(split));
        check(Float64Array::from_iter((0..10).map(|row| (row % 2 == 0).then_some(1.0))), dictionary(split));
        // Too few to repeat.
        check(Float64Array::from(vec![1.0]), ColumnEncoding::plain(split));
    }

    #[test]
    fn integers_get_what_is_smaller() {
        let packed = Encoding::DELTA_BINARY_PACKED;
        // A counter that rises by one never repeats; one that returns to zero does, but its differences are smaller still.
        check(Int64Array::from_iter_values(0..10_000), ColumnEncoding::plain(packed));
        check(Int64Array::from_iter_values((0..10_000).map(|row| row % 5_000)), ColumnEncoding::plain(packed));
        // Codes far apart.
        let codes = (0..10_000).map(|row| [-5, 0, i64::MAX, i64::MIN][(noise(row) % 4) as usize]);
        check(Int64Array::from_iter_values(codes), dictionary(packed));
        let statuses = (0..10_000).map(|row| [200, 404, 500][(noise(row) % 3) as usize]);
        check(UInt64Array::from_iter_values(statuses), dictionary(packed));
        check(UInt64Array::from_iter_values((0..10_000).map(noise)), ColumnEncoding::plain(packed));
    }

    #[test]
    fn strings_that_repeat_and_are_not_too_long_get_a_dictionary() {
        let apart = Encoding::DELTA_LENGTH_BYTE_ARRAY;
        let levels = (0..1_000).map(|row| ["info", "warn", "error"][(noise(row) % 3) as usize]);
        check(StringArray::from_iter_values(levels), dictionary(apart));
        check(
            StringArray::from_iter_values((0..1_000).map(|row| noise(row).to_string())),
            ColumnEncoding::plain(apart),
        );
        let texts = (0..1_000).map(|row| (noise(row) % 100).to_string().repeat(10_000));
        check(StringArray::from_iter_values(texts), ColumnEncoding::plain(apart));
    }

    #[test]
    fn booleans_need_no_choice() {
        check(BooleanArray::from(vec![true, false]), ColumnEncoding::plain(Encoding::RLE));
    }

    #[test]
    fn the_sample_is_spread_over_the_file() {
        let group = |rows: i64| {
            let array: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
            vec![RecordBatch::try_from_iter([("c", array)]).unwrap()]
        };
        let few: Vec<_> = (0..5).map(|_| group(10)).collect();
        assert_eq!(sample(&few).len(), 5);
        let many: Vec<_> = (0..30).map(|_| group(128 * 1024)).collect();
        assert_eq!(sample(&many).len(), 3);
    }
}
