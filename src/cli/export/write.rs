//! Rows in the format that is wanted, from the Parquet in which the server answered.
//!
//! Always true: an import of the file gives the same points: types, tags, nulls, and every bit of a float.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::cli::import::encode::{Encoder, Piece};
use crate::cli::import::mapping::{Mapping, Wishes};
use crate::cli::transfer::line;
use crate::cli::transfer::table_file::{TableFile, kind_named};
use crate::model::{Column, ColumnName, TIME_COLUMN, TableSchema};

/// Line protocol is written in parts of this size.
const TEXT_BYTES: usize = 1 << 20;

/// Longest line of line protocol, and what is kept before it is written: more than any request may hold.
const LINE_BYTES_MAX: usize = 16 << 20;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Lines,
}

impl Format {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "csv" => Self::Csv,
            "lp" => Self::Lines,
            _ => Self::Parquet,
        }
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Lines => "lp",
        }
    }
}

/// Writes the rows in the Parquet file `answer` to the new file `part`; how many there were.
///
/// # Errors
/// If the answer is no Parquet, or `part` cannot be written.
pub(super) fn convert(answer: &Path, part: &Path, format: Format, table: &TableFile) -> io::Result<u64> {
    let schema = schema(table);
    let batches = ParquetRecordBatchReaderBuilder::try_new(File::open(answer)?)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(io::Error::other)?;
    let file = BufWriter::with_capacity(TEXT_BYTES, File::create(part)?);
    let mut writer = Writer::new(file, format, table, &schema)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch.and_then(|batch| typed(&batch, &schema)).map_err(io::Error::other)?;
        writer.write(&batch)?;
        rows += batch.num_rows() as u64;
    }
    writer.finish()?;
    Ok(rows)
}

/// The table's columns as Flightline itself keeps them: tags as dictionaries, each column's kind in its metadata.
fn schema(table: &TableFile) -> SchemaRef {
    let columns = table
        .columns
        .iter()
        .filter_map(|entry| Some(Column { name: ColumnName::new(&entry.name).ok()?, kind: kind_named(&entry.kind)? }));
    let stored = TableSchema::new(columns);
    let metadata = HashMap::from([("flightline::table".to_owned(), table.table.clone())]);
    // Nobody promises to others that there is no null.
    let fields: Vec<Field> =
        stored.arrow().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

fn typed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| ArrowError::SchemaError(format!("no column \"{}\"", field.name())))?;
        cast(column, field.data_type())
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>, _>>()?)
}

/// A file being written.
enum Writer {
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Csv(BufWriter<File>),
    Lines(BufWriter<File>, Box<Encoder>),
}

impl Writer {
    fn new(mut file: BufWriter<File>, format: Format, table: &TableFile, schema: &SchemaRef) -> io::Result<Self> {
        Ok(match format {
            Format::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties));
                Self::Parquet(Box::new(writer.map_err(io::Error::other)?))
            }
            Format::Csv => {
                let mut header = Vec::new();
                for (at, field) in schema.fields().iter().enumerate() {
                    push_separator(&mut header, at);
                    push_cell(&mut header, field.name());
                }
                header.push(b'\n');
                file.write_all(&header)?;
                Self::Csv(file)
            }
            Format::Lines => {
                let wishes = Wishes { time: TIME_COLUMN.into(), ..Wishes::default() };
                let mapping = Mapping::new(schema, &wishes, &[], Some(table)).map_err(io::Error::other)?;
                let encoder = Encoder::new(&table.table, mapping, LINE_BYTES_MAX, 1).map_err(io::Error::other)?;
                Self::Lines(file, Box::new(encoder))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(io::Error::other),
            Self::Csv(file) => {
                let columns: Vec<CsvColumn<'_>> = batch.columns().iter().map(CsvColumn::new).collect();
                let mut text = Vec::with_capacity(TEXT_BYTES);
                for row in 0..batch.num_rows() {
                    for (at, column) in columns.iter().enumerate() {
                        push_separator(&mut text, at);
                        column.push(&mut text, row);
                    }
                    text.push(b'\n');
                }
                file.write_all(&text)
            }
            Self::Lines(file, encoder) => {
                encoder.encode::<LineError>(batch, 0, |piece| Ok(write_lines(file, &piece)?)).map_err(io::Error::from)
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Parquet(writer) => {
                let file = writer.into_inner().map_err(io::Error::other)?;
                file.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
            }
            Self::Csv(file) => file.into_inner().map(drop).map_err(io::IntoInnerError::into_error),
            Self::Lines(mut file, mut encoder) => {
                if let Some(piece) = encoder.finish(0) {
                    write_lines(&mut file, &piece)?;
                }
                file.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
            }
        }
    }
}

/// Either of two errors on the way of lines to their file.
struct LineError(io::Error);

impl From<ArrowError> for LineError {
    fn from(error: ArrowError) -> Self {
        Self(io::Error::other(error))
    }
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        error.0
    }
}

fn write_lines(file: &mut BufWriter<File>, piece: &Piece) -> io::Result<()> {
    if let Some((_, reason)) = piece.refused.first() {
        return Err(io::Error::other(format!("a row cannot be line protocol: {reason}; export Parquet instead")));
    }
    if piece.not_finite > 0 {
        return Err(io::Error::other("line protocol has no infinite numbers; export Parquet instead"));
    }
    file.write_all(&piece.chunk.bytes)
}

/// A column of a batch, to be written as cells.
enum CsvColumn<'b> {
    Tag(&'b Int32Array, &'b StringArray),
    Text(&'b StringArray),
    Float(&'b Float64Array),
    Integer(&'b Int64Array),
    Unsigned(&'b UInt64Array),
    Boolean(&'b BooleanArray),
    Time(&'b TimestampNanosecondArray),
}

impl<'b> CsvColumn<'b> {
    /// The types are those of [`schema`].
    fn new(column: &'b ArrayRef) -> Self {
        match column.data_type() {
            DataType::Dictionary(..) => {
                let dictionary = column.as_dictionary::<Int32Type>();
                Self::Tag(dictionary.keys(), dictionary.values().as_string())
            }
            DataType::Float64 => Self::Float(column.as_primitive()),
            DataType::Int64 => Self::Integer(column.as_primitive()),
            DataType::UInt64 => Self::Unsigned(column.as_primitive()),
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            DataType::Timestamp(..) => Self::Time(column.as_primitive()),
            _ => Self::Text(column.as_string()),
        }
    }

    /// Nothing for null.
    fn push(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Tag(keys, values) if keys.is_valid(row) => push_cell(out, values.value(keys.value(row) as usize)),
            Self::Text(values) if values.is_valid(row) => push_cell(out, values.value(row)),
            Self::Float(values) if values.is_valid(row) => line::push_float(out, values.value(row)),
            Self::Integer(values) if values.is_valid(row) => line::push_integer(out, values.value(row)),
            Self::Unsigned(values) if values.is_valid(row) => line::push_integer(out, values.value(row)),
            Self::Boolean(values) if values.is_valid(row) => {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Self::Time(values) if values.is_valid(row) => {
                let time = chrono::DateTime::from_timestamp_nanos(values.value(row));
                out.extend_from_slice(time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true).as_bytes());
            }
            _ => {}
        }
    }
}

fn push_separator(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

/// Text in quotes where it needs them; so does an empty one, which would be null without.
fn push_cell(out: &mut Vec<u8>, text: &str) {
    let is_plain = !text.is_empty() && !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if is_plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_it() {
        let cell = |text: &str| {
            let mut out = Vec::new();
            push_cell(&mut out, text);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            ["a b", "", "a,b", "say \"x\"", "a\nb"].map(cell),
            ["a b", "\"\"", "\"a,b\"", "\"say \"\"x\"\"\"", "\"a\nb\""]
        );
    }
}
