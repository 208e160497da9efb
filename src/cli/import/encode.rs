//! Arrow batches as line protocol, cut into requests.
//!
//! Columns are first brought to one of few types by Arrow's own casts; then rows are written one after the
//! other into the request's buffer. Nothing is allocated for a row.
//!
//! Always true:
//! - row *n* of a piece stands in its *n*th line, strings with newlines aside, which are counted;
//! - a row that cannot be written is an empty line and a reason; a row without any field is an empty line.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::mapping::{MappedColumn, Mapping, TimeForm};
use crate::cli::split::Chunk;
use crate::cli::transfer::line::{self, Name, Unwritable, push_name};
use crate::model::FieldType;

/// Some rows of a file as a request.
#[derive(Debug)]
pub(crate) struct Piece {
    /// To be sent, unless it holds no point. Its lines count from 1.
    pub chunk: Chunk,
    /// The number of its first row or line in the file, from 1.
    pub first: u64,
    /// The number of the first one behind it.
    pub next: u64,
    /// Rows that could not be written; numbers are those of the file.
    pub refused: Vec<(u64, String)>,
    /// Rows without any field.
    pub empty: u64,
    /// Values that are no finite number.
    pub not_finite: u64,
    /// How far into the file it reaches.
    pub bytes_done: u64,
    /// Rows that take more than one line: the index of the row, and how many lines more.
    extra_lines: Vec<(u64, u64)>,
}

impl Piece {
    /// A piece of a file that is line protocol already.
    pub(crate) fn of_lines(chunk: Chunk, next: u64, bytes_done: u64) -> Self {
        let first = chunk.first_line;
        let chunk = Chunk { first_line: 1, ..chunk };
        Self { chunk, first, next, refused: Vec::new(), empty: 0, not_finite: 0, bytes_done, extra_lines: Vec::new() }
    }

    /// The row of the file that stands in a line of the chunk, both from 1.
    pub(crate) fn row_of_line(&self, line: u64) -> u64 {
        let mut row = line.saturating_sub(1);
        for (index, extra) in &self.extra_lines {
            if row <= *index {
                break;
            }
            row = row.saturating_sub(*extra).max(*index);
        }
        self.first + row
    }
}

/// Writes batches of one file.
pub(crate) struct Encoder {
    table: Vec<u8>,
    mapping: Mapping,
    bytes_max: usize,
    open: Open,
}

/// The piece that is being filled.
#[derive(Default)]
struct Open {
    text: Vec<u8>,
    first: u64,
    rows: u64,
    points: u64,
    refused: Vec<(u64, String)>,
    empty: u64,
    not_finite: u64,
    extra_lines: Vec<(u64, u64)>,
}

impl Encoder {
    /// `first_row` is the number of the first row that will come, from 1.
    ///
    /// # Errors
    /// If the names of table or columns cannot be written.
    pub(crate) fn new(table: &str, mapping: Mapping, bytes_max: usize, first_row: u64) -> Result<Self, String> {
        let mut prefix = Vec::new();
        let unwritable = |name: &str, error: Unwritable| format!("name {name:?}: {error}");
        push_name(&mut prefix, table, Name::Table).map_err(|error| unwritable(table, error))?;
        for (name, value) in &mapping.constants {
            prefix.push(b',');
            push_name(&mut prefix, name, Name::Key).map_err(|error| unwritable(name, error))?;
            prefix.push(b'=');
            push_name(&mut prefix, value, Name::TagValue).map_err(|error| unwritable(value, error))?;
        }
        for column in mapping.tags.iter().chain(mapping.fields.iter().map(|(column, _)| column)) {
            key(&column.name).map_err(|error| unwritable(&column.name, error))?;
        }
        let open = Open { first: first_row, ..Open::default() };
        Ok(Self { table: prefix, mapping, bytes_max, open })
    }

    /// Adds the batch's rows; every piece that is full goes to `full`. `bytes_done` is how far into the file the batch reaches.
    ///
    /// # Errors
    /// If a column cannot be cast at all, which its type said it could, or `full` fails.
    pub(crate) fn encode<E: From<ArrowError>>(
        &mut self,
        batch: &RecordBatch,
        bytes_done: u64,
        mut full: impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = Columns::new(batch, &self.mapping)?;
        for row in 0..batch.num_rows() {
            let start = self.open.text.len();
            let outcome = columns.push_row(&mut self.open, &self.table, row);
            if self.open.text.len() >= self.bytes_max && start > 0 {
                // This row begins the next piece.
                let text = self.open.text.split_off(start);
                full(self.open.close(self.bytes_max, bytes_done))?;
                self.open.text = text;
            }
            self.open.note(outcome, self.bytes_max, columns.may_hold_newlines);
        }
        Ok(())
    }

    /// What is left, if there is something.
    pub(crate) fn finish(&mut self, bytes_done: u64) -> Option<Piece> {
        (self.open.rows > 0).then(|| self.open.close(self.bytes_max, bytes_done))
    }
}

impl Open {
    /// Counts the row that was just written to the end of the open piece, and ends its line.
    fn note(&mut self, outcome: Result<Written, String>, bytes_max: usize, may_hold_newlines: bool) {
        let open = self;
        let start = open.text.len() - outcome.as_ref().map_or(0, |written| written.bytes);
        let outcome = match outcome {
            Ok(written) if written.bytes >= bytes_max => {
                open.text.truncate(start);
                Err(format!("it takes {} bytes, more than --max-request-size", written.bytes))
            }
            outcome => outcome,
        };
        match outcome {
            Ok(Written { bytes: 0, not_finite }) => {
                open.empty += 1;
                open.not_finite += not_finite;
            }
            Ok(written) => {
                open.points += 1;
                open.not_finite += written.not_finite;
                if may_hold_newlines {
                    let extra = memchr::memchr_iter(b'\n', &open.text[start..]).count() as u64;
                    if extra > 0 {
                        open.extra_lines.push((open.rows, extra));
                    }
                }
            }
            Err(reason) => open.refused.push((open.first + open.rows, reason)),
        }
        open.text.push(b'\n');
        open.rows += 1;
    }

    fn close(&mut self, bytes_max: usize, bytes_done: u64) -> Piece {
        let next = self.first + self.rows;
        let open = std::mem::replace(self, Self { first: next, ..Self::default() });
        self.text.reserve(bytes_max);
        Piece {
            chunk: Chunk { first_line: 1, points: open.points, bytes: Bytes::from(open.text) },
            first: open.first,
            next,
            refused: open.refused,
            empty: open.empty,
            not_finite: open.not_finite,
            bytes_done,
            extra_lines: open.extra_lines,
        }
    }
}

/// What a row took.
struct Written {
    bytes: usize,
    not_finite: u64,
}

/// The columns of one batch, ready to be written.
struct Columns<'m> {
    time: Time,
    tags: Vec<(Vec<u8>, Tag, &'m str)>,
    fields: Vec<(Vec<u8>, Values, &'m str)>,
    /// Where a cast lost a value, so that a null is not what the file says; `None` where it lost none.
    originals: Vec<(ArrayRef, ArrayRef, &'m str)>,
    may_hold_newlines: bool,
}

/// Numbers of so many nanoseconds.
struct Time {
    values: Int64Array,
    nanos: i64,
}

enum Tag {
    /// The values of the dictionary, written if they can be.
    Dictionary {
        keys: Int32Array,
        texts: Vec<Result<Vec<u8>, Unwritable>>,
    },
    Text(StringArray),
}

enum Values {
    Float(Float64Array),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Boolean(BooleanArray),
    String(StringArray),
}

impl<'m> Columns<'m> {
    fn new(batch: &RecordBatch, mapping: &'m Mapping) -> Result<Self, ArrowError> {
        let mut originals = Vec::new();
        let mut casted = |column: &'m MappedColumn, to: &DataType| -> Result<ArrayRef, ArrowError> {
            let original = batch.column(column.index);
            // Safe: what does not fit becomes null, and is found again below.
            let options = CastOptions { safe: true, ..CastOptions::default() };
            let cast = cast_with_options(original, to, &options)?;
            if cast.logical_null_count() != original.logical_null_count() {
                originals.push((ArrayRef::clone(original), ArrayRef::clone(&cast), column.name.as_str()));
            }
            Ok(cast)
        };
        let time = match mapping.time.form {
            TimeForm::Text => {
                let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
                let times = casted(&mapping.time.column, &nanoseconds)?;
                let values = times.as_primitive::<TimestampNanosecondType>().reinterpret_cast::<Int64Type>();
                Time { values, nanos: 1 }
            }
            TimeForm::Number { nanos } => {
                // Days are 32 bits wide and have no way to 64 of their own.
                let is_days = mapping.time.column.source == DataType::Date32;
                let values = if is_days {
                    let days = casted(&mapping.time.column, &DataType::Int32)?;
                    cast_with_options(&days, &DataType::Int64, &CastOptions::default())?
                } else {
                    casted(&mapping.time.column, &DataType::Int64)?
                };
                Time { values: values.as_primitive::<Int64Type>().clone(), nanos }
            }
        };
        let mut tags = Vec::with_capacity(mapping.tags.len());
        for column in &mapping.tags {
            let tag = if matches!(column.source, DataType::Dictionary(..)) {
                let plain = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Tag::dictionary(&casted(column, &plain)?)
            } else {
                Tag::Text(casted(column, &DataType::Utf8)?.as_string::<i32>().clone())
            };
            tags.push((written_key(b',', &column.name), tag, column.name.as_str()));
        }
        let mut fields = Vec::with_capacity(mapping.fields.len());
        for (column, field_type) in &mapping.fields {
            let values = match field_type {
                FieldType::Float => {
                    Values::Float(casted(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
                }
                FieldType::Integer => {
                    Values::Integer(casted(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
                }
                FieldType::Unsigned => {
                    Values::Unsigned(casted(column, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
                }
                FieldType::Boolean => Values::Boolean(casted(column, &DataType::Boolean)?.as_boolean().clone()),
                FieldType::String => Values::String(casted(column, &DataType::Utf8)?.as_string::<i32>().clone()),
            };
            fields.push((written_key(b',', &column.name), values, column.name.as_str()));
        }
        let may_hold_newlines =
            mapping.fields.iter().any(|(_, field_type)| *field_type == FieldType::String) || !mapping.tags.is_empty();
        Ok(Self { time, tags, fields, originals, may_hold_newlines })
    }

    /// Writes the row without its newline; nothing if it has no field or is refused.
    fn push_row(&self, open: &mut Open, table: &[u8], row: usize) -> Result<Written, String> {
        let out = &mut open.text;
        let start = out.len();
        let written = self.try_push(out, table, row);
        match &written {
            Ok(written) if written.bytes > 0 => {}
            _ => out.truncate(start),
        }
        written
    }

    fn try_push(&self, out: &mut Vec<u8>, table: &[u8], row: usize) -> Result<Written, String> {
        if !self.originals.is_empty() {
            self.check_casts(row)?;
        }
        let Time { values, nanos } = &self.time;
        if values.is_null(row) {
            return Err("it has no time".into());
        }
        let Some(time) = values.value(row).checked_mul(*nanos) else {
            return Err("its time is beyond the years 1677 to 2262".into());
        };
        let start = out.len();
        out.extend_from_slice(table);
        for (key, tag, name) in &self.tags {
            tag.push(out, key, row).map_err(|reason| format!("column \"{name}\": {reason}"))?;
        }
        out.push(b' ');
        let fields_start = out.len();
        let mut not_finite = 0;
        for (key, values, _) in &self.fields {
            // The key begins with a comma, which the first field goes without.
            let key = if out.len() == fields_start { &key[1..] } else { key };
            values.push(out, key, row, &mut not_finite);
        }
        if out.len() == fields_start {
            return Ok(Written { bytes: 0, not_finite });
        }
        out.push(b' ');
        line::push_integer(out, time);
        Ok(Written { bytes: out.len() - start, not_finite })
    }

    #[cold]
    fn check_casts(&self, row: usize) -> Result<(), String> {
        for (original, cast, name) in &self.originals {
            let is_null = |array: &ArrayRef| array.logical_nulls().is_some_and(|nulls| nulls.is_null(row));
            if is_null(cast) && !is_null(original) {
                let value = arrow::util::display::array_value_to_string(original, row).unwrap_or_default();
                // Some programs quote every cell of CSV, also those without a value.
                if value.is_empty() {
                    continue;
                }
                return Err(format!("column \"{name}\": {value:?} is no {}", expected(cast.data_type())));
            }
        }
        Ok(())
    }
}

fn expected(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "time from 1677 to 2262 as in 2024-01-31T12:00:00Z",
        DataType::Int32 | DataType::Int64 => "integer of 64 bits",
        DataType::UInt64 => "unsigned integer of 64 bits",
        DataType::Float64 => "number",
        DataType::Boolean => "true or false",
        _ => "text",
    }
}

impl Tag {
    fn dictionary(array: &ArrayRef) -> Self {
        let dictionary = array.as_dictionary::<Int32Type>();
        let values = dictionary.values().as_string::<i32>();
        let text = |value: Option<&str>| {
            let mut out = Vec::new();
            let value = value.unwrap_or_default();
            let written = if value.is_empty() { Ok(()) } else { push_name(&mut out, value, Name::TagValue) };
            written.map(|()| out)
        };
        Self::Dictionary { keys: dictionary.keys().clone(), texts: values.iter().map(text).collect() }
    }

    /// An empty tag is no tag.
    #[inline]
    fn push(&self, out: &mut Vec<u8>, key: &[u8], row: usize) -> Result<(), String> {
        match self {
            Self::Dictionary { keys, texts } => {
                if keys.is_null(row) {
                    return Ok(());
                }
                let text = texts[keys.value(row) as usize].as_ref().map_err(ToString::to_string)?;
                if !text.is_empty() {
                    out.extend_from_slice(key);
                    out.extend_from_slice(text);
                }
            }
            Self::Text(values) => {
                if values.is_null(row) || values.value(row).is_empty() {
                    return Ok(());
                }
                out.extend_from_slice(key);
                push_name(out, values.value(row), Name::TagValue).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

impl Values {
    /// A null is no field, and neither is a float that is not finite, which line protocol cannot write.
    #[inline]
    fn push(&self, out: &mut Vec<u8>, key: &[u8], row: usize, not_finite: &mut u64) {
        match self {
            Self::Float(values) if values.is_valid(row) => {
                let value = values.value(row);
                if value.is_finite() {
                    out.extend_from_slice(key);
                    line::push_float(out, value);
                } else {
                    *not_finite += 1;
                }
            }
            Self::Integer(values) if values.is_valid(row) => {
                out.extend_from_slice(key);
                line::push_integer(out, values.value(row));
                out.push(b'i');
            }
            Self::Unsigned(values) if values.is_valid(row) => {
                out.extend_from_slice(key);
                line::push_integer(out, values.value(row));
                out.push(b'u');
            }
            Self::Boolean(values) if values.is_valid(row) => {
                out.extend_from_slice(key);
                out.push(if values.value(row) { b't' } else { b'f' });
            }
            Self::String(values) if values.is_valid(row) => {
                out.extend_from_slice(key);
                line::push_string(out, values.value(row));
            }
            _ => {}
        }
    }
}

fn key(name: &str) -> Result<Vec<u8>, Unwritable> {
    let mut out = Vec::new();
    push_name(&mut out, name, Name::Key)?;
    Ok(out)
}

/// The key with what stands before and behind it; that it can be written was checked when the encoder was made.
fn written_key(separator: u8, name: &str) -> Vec<u8> {
    let mut out = vec![separator];
    out.extend(key(name).unwrap_or_default());
    out.push(b'=');
    out
}

#[cfg(test)]
mod tests;
