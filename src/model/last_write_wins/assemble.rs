//! Builds output columns from rows of several source batches, by index.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::error::ArrowError;

use crate::model::{ColumnName, TIME_COLUMN, TableSchema};

/// A row of one source that holds a write of the point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) source: usize,
    pub(super) row: u32,
}

/// Output rows under construction: each is a row of a source, or the merge of several writes of one point.
pub(super) struct Assembly {
    schema: SchemaRef,
    tags: Vec<ColumnName>,
    sources: Vec<RecordBatch>,
    /// For each output row its newest write.
    rows: Vec<(usize, usize)>,
    /// Output rows with more than one write: the row, and where its older writes stand in `older`.
    merged: Vec<(usize, std::ops::Range<usize>)>,
    /// Older writes of merged rows, oldest first within a row.
    older: Vec<(usize, usize)>,
}

impl Assembly {
    pub(super) fn new(table: &TableSchema, schema: SchemaRef) -> Self {
        Self {
            schema,
            tags: table.tags().to_vec(),
            sources: Vec::new(),
            rows: Vec::new(),
            merged: Vec::new(),
            older: Vec::new(),
        }
    }

    /// Keeps a batch until the next [`flush`](Self::flush); its number is valid until then.
    pub(super) fn add_source(&mut self, batch: RecordBatch) -> usize {
        self.sources.push(batch);
        self.sources.len() - 1
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Rows `start..end` of a source, as they are.
    pub(super) fn push_range(&mut self, source: usize, start: usize, end: usize) {
        self.rows.extend((start..end).map(|row| (source, row)));
    }

    /// One point with all its writes, oldest first.
    pub(super) fn push_merged(&mut self, writes: &[Candidate]) {
        let Some((newest, older)) = writes.split_last() else { return };
        if !older.is_empty() {
            let first = self.older.len();
            self.older.extend(older.iter().map(|write| (write.source, write.row as usize)));
            self.merged.push((self.rows.len(), first..self.older.len()));
        }
        self.rows.push((newest.source, newest.row as usize));
    }

    /// The output batch; forgets rows and sources.
    pub(super) fn flush(&mut self) -> Result<RecordBatch, ArrowError> {
        let schema = Arc::clone(&self.schema);
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| self.column(index, field.name()))
            .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        self.sources.clear();
        self.rows.clear();
        self.merged.clear();
        self.older.clear();
        Ok(batch)
    }

    fn column(&self, index: usize, name: &str) -> Result<ArrayRef, ArrowError> {
        let sources: Vec<&dyn Array> = self.sources.iter().map(|batch| batch.column(index).as_ref()).collect();
        if self.tags.iter().any(|tag| tag.as_str() == name) {
            return tag_column(&sources, &self.rows);
        }
        if name == TIME_COLUMN || self.merged.is_empty() || sources.iter().all(|source| source.null_count() == 0) {
            return interleave(&sources, &self.rows);
        }
        interleave(&sources, &self.last_values(&sources))
    }

    /// The rows to read a field from: where the newest write left it out, the newest write that has it.
    fn last_values(&self, sources: &[&dyn Array]) -> Vec<(usize, usize)> {
        let mut rows = self.rows.clone();
        for (output, older) in &self.merged {
            let (source, row) = rows[*output];
            if sources[source].is_valid(row) {
                continue;
            }
            let newest_value =
                self.older[older.clone()].iter().rev().find(|(source, row)| sources[*source].is_valid(*row));
            if let Some(write) = newest_value {
                rows[*output] = *write;
            }
        }
        rows
    }
}

/// These rows of `batch`, in this order, with dictionaries that hold just the texts that occur in them.
///
/// # Errors
/// If a row is beyond the end.
pub fn take_compact(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
    let places: Vec<(usize, usize)> = rows.iter().map(|row| (0, *row as usize)).collect();
    let indices = UInt32Array::from_iter_values(rows.iter().copied());
    let column = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(..) => tag_column(&[column.as_ref()], &places),
        _ => take(column, &indices, None),
    };
    let columns = batch.columns().iter().map(column).collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

/// To look up the text of a row takes as long as to list so many.
const TEXTS_A_ROW: usize = 32;

/// A tag column whose dictionary holds just the texts that occur, each once.
///
/// Arrow's own `interleave` may append whole dictionaries; merged again and again they would grow without end.
fn tag_column(sources: &[&dyn Array], rows: &[(usize, usize)]) -> Result<ArrayRef, ArrowError> {
    let dictionaries: Vec<(&DictionaryArray<Int32Type>, &StringArray)> = sources
        .iter()
        .map(|source| {
            let dictionary = source
                .as_dictionary_opt::<Int32Type>()
                .ok_or_else(|| ArrowError::SchemaError("a tag that is no dictionary".to_owned()))?;
            let texts = dictionary
                .values()
                .as_string_opt::<i32>()
                .ok_or_else(|| ArrowError::SchemaError("a tag that is no text".to_owned()))?;
            Ok((dictionary, texts))
        })
        .collect::<Result<_, ArrowError>>()?;

    const UNSEEN: i32 = -1;
    let texts: usize = dictionaries.iter().map(|(_, texts)| texts.len()).sum();
    // A row out of a dictionary of a million texts need not make a list of all of them.
    let by_code = texts / TEXTS_A_ROW <= rows.len();
    let unseen = |(_, texts): &(_, &StringArray)| vec![UNSEEN; texts.len()];
    let mut new_codes: Vec<Vec<i32>> = dictionaries.iter().filter(|_| by_code).map(unseen).collect();
    let mut code_of_text: HashMap<&str, i32> = HashMap::new();
    let mut texts_out: Vec<&str> = Vec::new();
    let mut codes_out: Vec<i32> = Vec::with_capacity(rows.len());
    let mut valid: Option<Vec<bool>> = None;

    let mut number = |text| {
        *code_of_text.entry(text).or_insert_with(|| {
            texts_out.push(text);
            (texts_out.len() - 1) as i32
        })
    };
    for (output, (source, row)) in rows.iter().enumerate() {
        let (dictionary, texts) = dictionaries[*source];
        let old_code = dictionary.keys().value(*row);
        let is_null = dictionary.keys().is_null(*row) || texts.is_null(old_code as usize);
        if is_null {
            valid.get_or_insert_with(|| vec![true; rows.len()])[output] = false;
            codes_out.push(0);
            continue;
        }
        if !by_code {
            codes_out.push(number(texts.value(old_code as usize)));
            continue;
        }
        let new_code = &mut new_codes[*source][old_code as usize];
        if *new_code == UNSEEN {
            *new_code = number(texts.value(old_code as usize));
        }
        codes_out.push(*new_code);
    }
    let keys = Int32Array::new(codes_out.into(), valid.map(NullBuffer::from));
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts_out)))?))
}
