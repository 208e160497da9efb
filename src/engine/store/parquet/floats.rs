//! The column chunk of a float whose values repeat.
//!
//! The dictionary is sorted: neighbours then share their first bytes, which halves what zstd leaves of it, and the bounds of a page are those
//! of its positions.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parquet::basic::Type;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::dictionary_chunk::{Bound, Chunk, DataPage, DictionaryColumn, PageCompression, write};
use super::hybrid::Hybrid;

/// Encodes a float without NaN: the arrays of one row group, cut into pages of so many rows. `None` if the encoder of the crate has to:
/// no row has a value, or the distinct ones take more than `dictionary_bytes_max`.
///
/// # Errors
/// If an array has no floats.
pub(super) fn encode_floats(
    descriptor: &ColumnDescPtr,
    arrays: &[&ArrayRef],
    pages: &[usize],
    dictionary_bytes_max: usize,
    compression: PageCompression,
) -> Result<Option<Chunk>> {
    let Some(floats) = Floats::survey(arrays, dictionary_bytes_max / size_of::<f64>())? else { return Ok(None) };
    Ok(Some(write(descriptor, floats, pages, compression)?))
}

/// The values of a column in a row group.
struct Floats {
    /// The distinct values, rising; `-0.0` before `0.0`.
    values: Vec<f64>,
    /// The position of each value.
    positions: Vec<u32>,
    /// Which rows have a value, if not all have.
    valid: Option<Vec<bool>>,
    /// The row and the value that the next page begins with.
    next: (usize, usize),
}

impl Floats {
    /// `None` if there are no values or more distinct ones than `distinct_max`.
    fn survey(arrays: &[&ArrayRef], distinct_max: usize) -> Result<Option<Self>> {
        let rows = arrays.iter().map(|array| array.len()).sum();
        let has_nulls = arrays.iter().any(|array| array.null_count() > 0);
        let mut valid = Vec::with_capacity(if has_nulls { rows } else { 0 });
        let mut distinct = Distinct::default();
        let mut positions = Vec::with_capacity(rows);
        for array in arrays {
            let unfit = || ParquetError::General(format!("these are no floats but {}", array.data_type()));
            let array = array.as_primitive_opt::<Float64Type>().ok_or_else(unfit)?;
            if array.null_count() == 0 {
                positions.extend(array.values().iter().map(|value| distinct.position(*value)));
            } else {
                positions.extend(array.iter().flatten().map(|value| distinct.position(value)));
            }
            if has_nulls {
                valid.extend((0..array.len()).map(|row| array.is_valid(row)));
            }
            if distinct.values.len() > distinct_max {
                return Ok(None);
            }
        }
        if positions.is_empty() {
            return Ok(None);
        }
        let (values, ranks) = distinct.sorted();
        positions.iter_mut().for_each(|position| *position = ranks[*position as usize]);
        Ok(Some(Self { values, positions, valid: has_nulls.then_some(valid), next: (0, 0) }))
    }
}

impl DictionaryColumn for Floats {
    type Bound = f64;

    fn distinct(&self) -> usize {
        self.values.len()
    }

    fn dictionary(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn is_sorted(&self) -> bool {
        true
    }

    fn page(&mut self, rows: usize, width: u32) -> DataPage<f64> {
        let (row, first) = self.next;
        let mut levels = Hybrid::new(1);
        let (rows, count) = match &self.valid {
            None => {
                let rows = rows.min(self.positions.len() - row);
                levels.push(1, rows);
                (rows, rows)
            }
            Some(valid) => {
                let valid = &valid[row..(row + rows).min(valid.len())];
                let bits: Vec<u32> = valid.iter().map(|valid| u32::from(*valid)).collect();
                levels.extend(&bits);
                (valid.len(), valid.iter().filter(|valid| **valid).count())
            }
        };
        self.next = (row + rows, first + count);
        let here = &self.positions[first..first + count];
        let mut positions = Hybrid::new(width);
        positions.extend(here);
        let value = |position: &u32| self.values[*position as usize];
        // Zeros have two signs, and readers need not tell them apart: bounds include both, as Parquet demands.
        let min = here.iter().min().map(value).map(|min| if min == 0.0 { -0.0 } else { min });
        let max = here.iter().max().map(value).map(|max| if max == 0.0 { 0.0 } else { max });
        DataPage {
            rows,
            nulls: rows - count,
            levels: levels.finish(),
            positions: positions.finish(),
            bounds: min.zip(max),
        }
    }
}

impl Bound for f64 {
    const TYPE: Type = Type::DOUBLE;

    fn bytes(self) -> Vec<u8> {
        self.to_le_bytes().into()
    }

    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics {
        let (min, max) = bounds.unzip();
        Statistics::double(min, max, None, Some(nulls), false)
    }
}

/// Distinct values in the order in which they come first. They are told apart by their bits.
#[derive(Default)]
struct Distinct {
    values: Vec<f64>,
    places: HashTable<u32>,
}

impl Distinct {
    fn position(&mut self, value: f64) -> u32 {
        let bits = value.to_bits();
        let is_same = |place: &u32| self.values[*place as usize].to_bits() == bits;
        match self.places.entry(hash(bits), is_same, |place| hash(self.values[*place as usize].to_bits())) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let place = self.values.len() as u32;
                entry.insert(place);
                self.values.push(value);
                place
            }
        }
    }

    /// The values, rising, and where each is among them.
    fn sorted(self) -> (Vec<f64>, Vec<u32>) {
        let mut order: Vec<(f64, u32)> = self.values.into_iter().zip(0..).collect();
        order.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut ranks = vec![0; order.len()];
        for (rank, (_, place)) in (0..).zip(&order) {
            ranks[*place as usize] = rank;
        }
        (order.into_iter().map(|(value, _)| value).collect(), ranks)
    }
}

/// Spreads the bits of numbers that have few digits, and so end in zeros: both halves of a product.
fn hash(bits: u64) -> u64 {
    let product = u128::from(bits) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}
