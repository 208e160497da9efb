//! CSV as columns of text, which Arrow's casts then turn into numbers and times.
//!
//! Cells are separated by commas, quoted by `"`, and may hold newlines inside quotes; the first record names the columns.
//! An empty cell is null; a quoted empty one is an empty text. Arrow's own reader knows no such difference, so that
//! an exported empty text would not come back.
//!
//! Always true:
//! - a record is at most [`RECORD_BYTES_MAX`] long: a quote that is left open does not fill the memory;
//! - a record with too few or too many cells is an error, never a shifted row.

use std::io::{self, BufRead};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Longest record.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// A batch of long texts ends earlier.
const BATCH_BYTES: usize = 16 << 20;

/// Records by which the types of columns are guessed.
const SAMPLE_RECORDS: usize = 1000;

/// A file of CSV being read.
pub(crate) struct Csv<R> {
    reader: R,
    /// The columns' names; all are text.
    schema: SchemaRef,
    record: Record,
    /// Read ahead to guess types.
    sample: Option<RecordBatch>,
    /// Number of records that were read, without the header.
    records: u64,
}

/// The cells of one record, one after the other.
#[derive(Default)]
struct Record {
    line: Vec<u8>,
    text: Vec<u8>,
    cells: Vec<Cell>,
}

struct Cell {
    end: usize,
    is_quoted: bool,
}

impl<R: BufRead> Csv<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If there is none, it cannot be read, or names a column twice.
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut record = Record::default();
        if !record.read(&mut reader)? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is no header"));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(record.cells.len());
        for at in 0..record.cells.len() {
            let name = record.cell(at)?.0.trim_start_matches('\u{feff}');
            if fields.iter().any(|field| field.name() == name) {
                return Err(invalid(format!("the header names column \"{name}\" twice")));
            }
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { reader, schema, record, sample: None, records: 0 })
    }

    /// The columns with the types that the first records suggest: integers, floats, booleans, times, else text.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(crate) fn guessed_schema(&mut self) -> io::Result<Schema> {
        if self.sample.is_none() {
            self.sample = self.read_batch(SAMPLE_RECORDS)?;
        }
        let fields = self.schema.fields().iter().enumerate().map(|(at, field)| {
            let column = self.sample.as_ref().map(|batch| batch.column(at));
            field.as_ref().clone().with_data_type(column.map_or(DataType::Utf8, guess))
        });
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Some records; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read or is no CSV from here on.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<RecordBatch>> {
        match self.sample.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.read_batch(BATCH_ROWS),
        }
    }

    fn read_batch(&mut self, rows_max: usize) -> io::Result<Option<RecordBatch>> {
        let mut columns: Vec<StringBuilder> = self.schema.fields().iter().map(|_| StringBuilder::new()).collect();
        let (mut rows, mut bytes) = (0, 0);
        while rows < rows_max && bytes < BATCH_BYTES {
            if !self.record.read(&mut self.reader)? {
                break;
            }
            let number = self.records + 1;
            let cells = self.record.cells.len();
            if cells != columns.len() {
                return Err(invalid(format!(
                    "row {number} (the header is not counted) has {cells} cells instead of {}",
                    columns.len()
                )));
            }
            for (at, column) in columns.iter_mut().enumerate() {
                match self.record.cell(at)? {
                    ("", false) => column.append_null(),
                    (text, _) => column.append_value(text),
                }
            }
            self.records = number;
            bytes += self.record.text.len();
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some).map_err(io::Error::other)
    }
}

impl Record {
    /// Reads the next record that is no blank line; false at the end of the file.
    fn read(&mut self, reader: &mut impl BufRead) -> io::Result<bool> {
        loop {
            self.line.clear();
            self.text.clear();
            self.cells.clear();
            if !self.read_line(reader)? {
                return Ok(false);
            }
            if !matches!(self.line.as_slice(), b"\n" | b"\r\n") {
                break;
            }
        }
        let mut at = 0;
        loop {
            at = if self.line.get(at) == Some(&b'"') {
                self.quoted_cell(at + 1, reader)?
            } else {
                let end = memchr::memchr2(b',', b'\n', &self.line[at..]).map_or(self.line.len(), |length| at + length);
                self.end_cell(at, end, false)
            };
            match self.line.get(at) {
                Some(b',') => at += 1,
                _ => return Ok(true),
            }
        }
    }

    /// The cell whose text begins at `at`, behind its quote; returns where the comma or the line's end is.
    fn quoted_cell(&mut self, mut at: usize, reader: &mut impl BufRead) -> io::Result<usize> {
        loop {
            let Some(length) = memchr::memchr(b'"', &self.line[at..]) else {
                self.text.extend_from_slice(&self.line[at..]);
                at = self.line.len();
                if !self.read_line(reader)? {
                    return Err(invalid("a quote is left open at the end of the file".into()));
                }
                continue;
            };
            self.text.extend_from_slice(&self.line[at..at + length]);
            at += length + 1;
            if self.line.get(at) == Some(&b'"') {
                self.text.push(b'"');
                at += 1;
                continue;
            }
            let end = memchr::memchr2(b',', b'\n', &self.line[at..]).map_or(self.line.len(), |length| at + length);
            return Ok(self.end_cell(at, end, true));
        }
    }

    /// Ends a cell with what stands from `start` to `end`, but for a line end.
    fn end_cell(&mut self, start: usize, end: usize, is_quoted: bool) -> usize {
        let is_line_end = self.line.get(end) != Some(&b',');
        let text = &self.line[start..end];
        let text = if is_line_end { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        self.text.extend_from_slice(text);
        self.cells.push(Cell { end: self.text.len(), is_quoted });
        end
    }

    fn read_line(&mut self, reader: &mut impl BufRead) -> io::Result<bool> {
        let room = RECORD_BYTES_MAX + 1 - self.line.len().min(RECORD_BYTES_MAX);
        let mut reader = io::Read::take(&mut *reader, room as u64);
        let got = reader.read_until(b'\n', &mut self.line)?;
        if self.line.len() > RECORD_BYTES_MAX {
            return Err(invalid(format!("a record is longer than {RECORD_BYTES_MAX} bytes: is a quote left open?")));
        }
        Ok(got > 0)
    }

    fn cell(&self, at: usize) -> io::Result<(&str, bool)> {
        let start = if at == 0 { 0 } else { self.cells[at - 1].end };
        let cell = &self.cells[at];
        let text = std::str::from_utf8(&self.text[start..cell.end]).map_err(|error| invalid(error.to_string()))?;
        Ok((text, cell.is_quoted))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The narrowest type that takes every text that is there.
fn guess(column: &ArrayRef) -> DataType {
    use arrow::array::AsArray;
    let texts: &StringArray = column.as_string();
    let all = |test: fn(&str) -> bool| texts.iter().flatten().all(test);
    if texts.iter().flatten().next().is_none() {
        return DataType::Utf8;
    }
    if all(|text| text.parse::<i64>().is_ok()) {
        DataType::Int64
    } else if all(|text| {
        text.starts_with(|first: char| first.is_ascii_digit() || first == '-') && text.parse::<f64>().is_ok()
    }) {
        DataType::Float64
    } else if all(|text| matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE")) {
        DataType::Boolean
    } else {
        DataType::Utf8
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        let mut csv = Csv::new(text.as_bytes())?;
        let mut rows = Vec::new();
        while let Some(batch) = csv.next_batch()? {
            for row in 0..batch.num_rows() {
                let cell = |column: &ArrayRef| {
                    let texts = column.as_string::<i32>();
                    texts.is_valid(row).then(|| texts.value(row).to_owned())
                };
                rows.push(batch.columns().iter().map(cell).collect());
            }
        }
        Ok(rows)
    }

    #[test]
    fn an_empty_cell_is_null_and_a_quoted_one_is_empty() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows("a,b\r\n,\"\"\r\n\"x\"\"y\",\"1\n2,\"\n\nlast,").unwrap(),
            [[None, some("")], [some("x\"y"), some("1\n2,")], [some("last"), None]]
        );
    }

    #[test]
    fn a_record_of_another_width_is_named() {
        assert!(
            rows("a,b\n1,2\n1,2,3\n").unwrap_err().to_string().starts_with("row 2 (the header is not counted) has 3")
        );
        assert!(rows("a\n\"x").unwrap_err().to_string().contains("left open"));
        assert!(rows("a,a\n").unwrap_err().to_string().contains("twice"));
        assert!(rows("").is_err());
    }

    #[test]
    fn types_are_guessed_from_the_first_records() {
        let mut csv = Csv::new("\u{feff}i,f,b,t,n\n1,1.5,true,a,\n-2,3,FALSE,1,\n".as_bytes()).unwrap();
        let schema = csv.guessed_schema().unwrap();
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Int64, DataType::Float64, DataType::Boolean, DataType::Utf8, DataType::Utf8]);
        assert_eq!(schema.field(0).name(), "i");
        assert_eq!(csv.next_batch().unwrap().unwrap().num_rows(), 2);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(cells in prop::collection::vec(prop::option::of("[a\", \r\n]{0,6}"), 1..8)) {
            let mut text: String = (0..cells.len()).map(|at| format!("c{at},")).collect();
            text.push_str("end\n");
            for cell in &cells {
                if let Some(cell) = cell {
                    text.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
                }
                text.push(',');
            }
            text.push_str("1\n");
            let expected: Vec<_> = cells.into_iter().chain([Some("1".to_owned())]).collect();
            prop_assert_eq!(rows(&text).unwrap(), vec![expected]);
        }
    }
}
