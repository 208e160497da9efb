//! The columns of one table of one request while they grow.
//!
//! Every column may be shorter than the table has rows: rows that lack it cost nothing until the next
//! row that has it, or the end, fills the gap with nulls. A validity bitmap exists only from the first null on.
//!
//! A tag column holds no value for each row but one for each series: rows only know their series, and
//! the codes of all rows are gathered once at the end.

use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, ArrowPrimitiveType, BooleanBuilder, DictionaryArray, Int32Array, NullBufferBuilder,
    PrimitiveArray, StringBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::value::Value;
use crate::model::{ColumnName, FieldType};

/// What is known of a column besides its values.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) name: ColumnName,
    /// The key as the first line spelled it.
    pub(super) raw_key: &'a str,
    /// Which column of the table stood behind this one last time: a guess for the next line.
    pub(super) follower: u32,
    /// The number of the last line that named the column, to find names that occur twice.
    pub(super) named_by: usize,
}

/// A tag.
#[derive(Debug)]
pub(super) struct TagColumn<'a> {
    pub(super) header: Header<'a>,
    /// The distinct values in the order of their first use; their places are the codes.
    values: StringBuilder,
    codes: HashTable<i32>,
    hasher: DefaultHashBuilder,
    /// The code of each series, [`Self::ABSENT`] where it lacks the tag. May be shorter than there are series.
    by_series: Vec<i32>,
}

impl<'a> TagColumn<'a> {
    const ABSENT: i32 = -1;

    pub(super) fn new(header: Header<'a>) -> Self {
        Self {
            header,
            values: StringBuilder::with_capacity(0, 0),
            codes: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            by_series: Vec::new(),
        }
    }

    /// Gives a new series its value of the tag.
    pub(super) fn insert(&mut self, series: u32, value: &str) {
        let code = self.code(value);
        self.by_series.resize(series as usize, Self::ABSENT);
        self.by_series.push(code);
    }

    fn code(&mut self, value: &str) -> i32 {
        let hash = self.hasher.hash_one(value.as_bytes());
        let values = &self.values;
        if let Some(code) = self.codes.find(hash, |code| value_of(values, *code) == value.as_bytes()) {
            return *code;
        }
        let code = self.codes.len() as i32;
        self.values.append_value(value);
        let (values, hasher) = (&self.values, &self.hasher);
        self.codes.insert_unique(hash, code, |code| hasher.hash_one(value_of(values, *code)));
        code
    }

    /// The column for rows of these series.
    pub(super) fn finish(mut self, row_series: &[u32], series_count: u32) -> ArrayRef {
        self.by_series.resize(series_count as usize, Self::ABSENT);
        let by_series = &self.by_series;
        let codes: Vec<i32> = row_series.iter().map(|series| by_series[*series as usize]).collect();
        let has_nulls = by_series.contains(&Self::ABSENT);
        let nulls = has_nulls.then(|| NullBuffer::from_iter(codes.iter().map(|code| *code != Self::ABSENT)));
        let keys = Int32Array::new(codes.into(), nulls);
        Arc::new(DictionaryArray::new(keys, shrunk(self.values.finish())))
    }
}

fn value_of(values: &StringBuilder, code: i32) -> &[u8] {
    let offsets = values.offsets_slice();
    let code = code as usize;
    &values.values_slice()[offsets[code] as usize..offsets[code + 1] as usize]
}

/// A field.
#[derive(Debug)]
pub(super) struct FieldColumn<'a> {
    pub(super) header: Header<'a>,
    pub(super) field_type: FieldType,
    values: FieldValues,
}

#[derive(Debug)]
enum FieldValues {
    Float(Numbers<Float64Type>),
    Integer(Numbers<Int64Type>),
    Unsigned(Numbers<UInt64Type>),
    Boolean(BooleanBuilder),
    String(StringBuilder),
}

impl<'a> FieldColumn<'a> {
    pub(super) fn new(header: Header<'a>, field_type: FieldType) -> Self {
        // Without room in advance: a short request may bring many columns.
        let values = match field_type {
            FieldType::Float => FieldValues::Float(Numbers::new()),
            FieldType::Integer => FieldValues::Integer(Numbers::new()),
            FieldType::Unsigned => FieldValues::Unsigned(Numbers::new()),
            FieldType::Boolean => FieldValues::Boolean(BooleanBuilder::with_capacity(0)),
            FieldType::String => FieldValues::String(StringBuilder::with_capacity(0, 0)),
        };
        Self { header, field_type, values }
    }

    /// Sets the value of a row, which must be later than those that have one and of the column's type.
    #[inline]
    pub(super) fn set(&mut self, row: usize, value: Value<'_>) {
        match (&mut self.values, value) {
            (FieldValues::Float(numbers), Value::Float(number)) => numbers.set(row, number),
            (FieldValues::Integer(numbers), Value::Integer(number)) => numbers.set(row, number),
            (FieldValues::Unsigned(numbers), Value::Unsigned(number)) => numbers.set(row, number),
            (FieldValues::Boolean(values), Value::Boolean(value)) => {
                values.append_nulls(row - values.len());
                values.append_value(value);
            }
            (FieldValues::String(values), Value::String(text)) => {
                values.append_nulls(row - string_count(values));
                for piece in text.pieces() {
                    values.write_str(piece).expect("a string builder takes every string, because it only grows");
                }
                // Ends the value that the pieces began.
                values.append_value("");
            }
            _ => unreachable!("a line with a value of another type is refused before any of it is kept"),
        }
    }

    /// The column for so many rows.
    pub(super) fn finish(self, row_count: usize) -> ArrayRef {
        match self.values {
            FieldValues::Float(numbers) => numbers.finish(row_count),
            FieldValues::Integer(numbers) => numbers.finish(row_count),
            FieldValues::Unsigned(numbers) => numbers.finish(row_count),
            FieldValues::Boolean(mut values) => {
                values.append_nulls(row_count - values.len());
                shrunk(values.finish())
            }
            FieldValues::String(mut values) => {
                values.append_nulls(row_count - string_count(&values));
                shrunk(values.finish())
            }
        }
    }
}

fn string_count(values: &StringBuilder) -> usize {
    values.offsets_slice().len() - 1
}

/// Numbers of one type, with nulls for the rows that have none.
#[derive(Debug)]
struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    /// Up to the last null only: what follows is not null.
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    #[inline]
    fn set(&mut self, row: usize, number: T::Native) {
        if self.values.len() < row {
            self.fill(row);
        }
        self.values.push(number);
    }

    #[cold]
    fn fill(&mut self, row_count: usize) {
        let missing = row_count - self.values.len();
        self.nulls.append_n_non_nulls(self.values.len() - self.nulls.len());
        self.nulls.append_n_nulls(missing);
        self.values.resize(row_count, T::Native::default());
    }

    fn finish(mut self, row_count: usize) -> ArrayRef {
        if self.values.len() < row_count {
            self.fill(row_count);
        }
        self.nulls.append_n_non_nulls(row_count - self.nulls.len());
        shrunk(PrimitiveArray::<T>::new(self.values.into(), self.nulls.finish()))
    }
}

/// The array without room to grow, which would else count against memory limits for as long as the rows live.
pub(super) fn shrunk(mut array: impl Array + 'static) -> ArrayRef {
    array.shrink_to_fit();
    Arc::new(array)
}
