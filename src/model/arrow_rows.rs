//! Batches of Arrow as rows of a table: each column gets its place and is cast as a whole. No row is looked at by itself, but for tags
//! that come as text ([`super::tag_encoder`]).
//!
//! | column | becomes |
//! |---|---|
//! | `time`: a timestamp of any unit and zone, a date, a whole number of nanoseconds, RFC 3339 text | the time; without it the rows get times of their own |
//! | one that the table has | what it is there |
//! | one that is said to be a tag, else by its metadata (`iox::column::type`), else a dictionary of text | a tag |
//! | numbers, decimals, booleans, text | a field of the nearest type that loses nothing, decimals the nearest float |
//! | nothing but nulls, of Arrow's null type | nothing, or nulls where the table has it |
//!
//! A null is a field that is not written: it leaves what was written before. An empty tag is no tag, as in line protocol.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, make_array, new_null_array};
use arrow::array::{ArrayData, MutableArrayData};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use arrow::error::ArrowError;

use super::names::{ColumnName, NameError, TIME_COLUMN};
use super::rows::batch_bytes;
use super::schema::{COLUMN_TYPE_KEY, Column, ColumnKind, FieldType, TableSchema};
use super::tag_encoder::{RefusedText, TagEncoder};
use super::time::Timestamp;
use crate::error::{Error, ErrorKind};

/// Longest text of one field, as in line protocol.
pub(super) const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes that the texts of one column may take once dictionaries and views are gone: a few values, referred to often, are
/// small in a message and not in memory.
pub(super) const COLUMN_BYTES_MAX: usize = 256 << 20;

/// How much memory rows may hold on to that is not theirs: an eighth of their own, or this where it is more.
const FOREIGN_BYTES_MIN: usize = 64 << 10;

/// Why a batch can't be rows of a table. Every message names the column.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ArrowRowsError {
    #[error("column '{column}': {source}")]
    Name { column: String, source: NameError },
    #[error("column '{0}' occurs twice")]
    Twice(String),
    #[error("'{0}' is to be a tag and there is no such column")]
    NoSuchTag(String),
    #[error("invalid column type for column '{column}', expected {}, got {got}", expected.wire_name())]
    Kind { column: String, expected: ColumnKind, got: String },
    #[error("column '{column}' holds {data_type}, which no field can hold; send it as {}", advice(data_type))]
    Type { column: String, data_type: DataType },
    #[error("column '{TIME_COLUMN}' holds {0}; it can be a timestamp, a date, a whole number of nanoseconds or text")]
    TimeType(DataType),
    #[error("column '{TIME_COLUMN}' is null in row {0}, counted from 1; leave the column out for times of arrival")]
    NoTime(usize),
    #[error("column '{column}' can't be {wanted}: {source}")]
    Cast { column: String, wanted: DataType, source: ArrowError },
    #[error("column '{column}' has a text of {bytes} bytes, more than the {TEXT_BYTES_MAX} that are allowed")]
    Text { column: String, bytes: usize },
    #[error("column '{0}' takes more than {COLUMN_BYTES_MAX} bytes as text; send smaller batches")]
    TooLarge(String),
    #[error("could not put the columns together")]
    Batch(#[source] ArrowError),
}

/// What a column may be instead that loses nothing.
fn advice(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(_, _) => {
            "a whole number of nanoseconds, or as text; the point's own time is the column 'time'"
        }
        DataType::Date32 | DataType::Date64 => "text such as '2024-01-31', or as a whole number of days",
        DataType::Time32(_) | DataType::Time64(_) => "text such as '13:45:00', or as a whole number of nanoseconds",
        DataType::Duration(_) | DataType::Interval(_) => "a whole number of nanoseconds",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "text, such as base64"
        }
        DataType::Struct(_) => "a column for each of its fields",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => {
            "a row for each item with a tag for its place, or as text such as JSON"
        }
        _ => "a number, a boolean or text",
    }
}

impl From<ArrowRowsError> for Error {
    fn from(error: ArrowRowsError) -> Self {
        match error {
            ArrowRowsError::Batch(source) => {
                Self::with_source(ErrorKind::Internal, "could not put the columns together", source)
            }
            other => Self::invalid(other.to_string()),
        }
    }
}

/// Where the columns of a stream of batches go.
#[derive(Debug, Clone)]
pub struct ArrowColumns {
    schema: TableSchema,
    /// For each column of the table's Arrow schema where it comes from; `time` may come from nowhere.
    sources: Vec<Option<usize>>,
}

impl ArrowColumns {
    /// Finds a place for each column. `known` is the table if it exists, `tags` are the columns that are said to be tags, if
    /// anything is said.
    ///
    /// # Errors
    /// Names the first column that has no place.
    pub fn new(arrow: &Schema, known: Option<&TableSchema>, tags: Option<&[String]>) -> Result<Self, ArrowRowsError> {
        let mut seen = HashSet::new();
        if let Some(twice) = arrow.fields().iter().find(|field| !seen.insert(field.name().as_str())) {
            return Err(ArrowRowsError::Twice(twice.name().clone()));
        }
        if let Some(missing) = tags.unwrap_or_default().iter().find(|tag| !seen.contains(tag.as_str())) {
            return Err(ArrowRowsError::NoSuchTag(missing.clone()));
        }
        let mut columns = Vec::new();
        for field in arrow.fields() {
            if field.name() == TIME_COLUMN {
                check_time(field.data_type())?;
                continue;
            }
            let name = ColumnName::new(field.name())
                .map_err(|source| ArrowRowsError::Name { column: field.name().clone(), source })?;
            if let Some(kind) = kind(field, known, tags)? {
                columns.push(Column { name, kind });
            }
        }
        // The user's order of tags is that of the series key.
        let place = |column: &Column| tags.and_then(|tags| tags.iter().position(|tag| tag == column.name.as_str()));
        columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX));
        let schema = TableSchema::new(columns);
        let source = |field: &Arc<Field>| arrow.index_of(field.name()).ok();
        let sources = schema.arrow().fields().iter().map(source).collect();
        Ok(Self { schema, sources })
    }

    /// The columns that the rows have.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Whether the rows bring their times along.
    pub fn have_time(&self) -> bool {
        let time = self.schema.arrow().index_of(TIME_COLUMN).ok();
        time.and_then(|time| self.sources.get(time)).is_some_and(Option::is_some)
    }

    /// The rows of a batch. Those without a time get `first_time` and the nanoseconds after it.
    ///
    /// # Errors
    /// Names the column with a value that can't be stored.
    pub fn rows(&self, batch: &RecordBatch, first_time: Timestamp) -> Result<RecordBatch, ArrowRowsError> {
        self.rows_of(std::slice::from_ref(batch), first_time).map_err(|refused| refused.error)
    }

    /// The rows of all of these batches, which have the columns that this was made for, as one. They share columns with a batch that is
    /// alone, but not so that they would keep much more memory than they need.
    ///
    /// # Errors
    /// Names the first column with a value that can't be stored, and which batch has it.
    pub fn rows_of(&self, batches: &[RecordBatch], first_time: Timestamp) -> Result<RecordBatch, RefusedBatch> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let fields = self.schema.arrow().fields().iter().zip(&self.sources);
        let columns = fields.map(|(field, source)| {
            let Some(source) = *source else { return Ok(times_from(first_time, rows)) };
            let pieces: Vec<&ArrayRef> = batches.iter().filter_map(|batch| batch.columns().get(source)).collect();
            match field.data_type() {
                DataType::Dictionary(_, _) => tag(field.name(), &pieces, rows),
                _ => plain(field, &pieces),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns).and_then(own);
        rows.map_err(|error| RefusedBatch::first(ArrowRowsError::Batch(error)))
    }
}

/// A batch with a value that can't be stored.
#[derive(Debug)]
pub struct RefusedBatch {
    /// Which of the batches it is, from 0.
    pub batch: usize,
    /// What is wrong with it.
    pub error: ArrowRowsError,
}

impl RefusedBatch {
    fn first(error: ArrowRowsError) -> Self {
        Self { batch: 0, error }
    }
}

/// The rows without what they hold on to of messages and are not: a column that became shorter leaves its bytes with those that
/// stayed in the same memory.
fn own(rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let needed = batch_bytes(&rows);
    if held_bytes(&rows) <= needed + (needed / 8).max(FOREIGN_BYTES_MIN) {
        return Ok(rows);
    }
    let copies = rows.columns().iter().map(|column| {
        let data = column.to_data();
        let mut copy = MutableArrayData::new(vec![&data], false, data.len());
        copy.try_extend(0, 0, data.len())?;
        Ok(make_array(copy.freeze()))
    });
    RecordBatch::try_new(rows.schema(), copies.collect::<Result<_, ArrowError>>()?)
}

/// The memory that stays as long as the rows do. What several columns are parts of counts once.
fn held_bytes(rows: &RecordBatch) -> usize {
    fn add(data: &ArrayData, held: &mut HashMap<usize, usize>) {
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        for buffer in data.buffers().iter().chain(nulls) {
            held.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
        }
        data.child_data().iter().for_each(|child| add(child, held));
    }
    let mut held = HashMap::new();
    rows.columns().iter().for_each(|column| add(&column.to_data(), &mut held));
    held.values().sum()
}

/// A column that is no tag, of its pieces.
fn plain(field: &Field, pieces: &[&ArrayRef]) -> Result<ArrayRef, RefusedBatch> {
    let placed = pieces.iter().enumerate();
    let placed = placed.map(|(batch, piece)| place(field, piece).map_err(|error| RefusedBatch { batch, error }));
    let placed = placed.collect::<Result<Vec<_>, _>>()?;
    if let [only] = &placed[..] {
        return Ok(Arc::clone(only));
    }
    let placed: Vec<&dyn Array> = placed.iter().map(AsRef::as_ref).collect();
    concat(&placed).map_err(|error| RefusedBatch::first(ArrowRowsError::Batch(error)))
}

fn check_time(data_type: &DataType) -> Result<(), ArrowRowsError> {
    match data_type {
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 | DataType::Int64 | DataType::UInt64 => Ok(()),
        text if is_text(text) => Ok(()),
        other => Err(ArrowRowsError::TimeType(other.clone())),
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// What a column is to be; nothing if it holds nothing and nobody knows it.
fn kind(
    field: &Field,
    known: Option<&TableSchema>,
    tags: Option<&[String]>,
) -> Result<Option<ColumnKind>, ArrowRowsError> {
    let (name, data_type) = (field.name(), field.data_type());
    let known = known.and_then(|known| known.kind(name));
    let said_to_be_tag = tags.is_some_and(|tags| tags.contains(name));
    let by_metadata = field.metadata().get(COLUMN_TYPE_KEY).and_then(|name| ColumnKind::from_wire_name(name));
    let wished = match tags {
        Some(_) if said_to_be_tag => Some(ColumnKind::Tag),
        Some(_) => by_metadata.filter(|kind| *kind != ColumnKind::Tag),
        None => by_metadata.or_else(|| is_dictionary_of_text(data_type).then_some(ColumnKind::Tag)),
    };
    let expected = match (known, wished) {
        (Some(expected), Some(ColumnKind::Tag)) if expected != ColumnKind::Tag && said_to_be_tag => {
            let got = ColumnKind::Tag.wire_name().to_owned();
            return Err(ArrowRowsError::Kind { column: name.clone(), expected, got });
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) if *data_type == DataType::Null => return Ok(None),
        (None, None) => match natural(data_type) {
            Some(field_type) => ColumnKind::Field(field_type),
            None => return Err(ArrowRowsError::Type { column: name.clone(), data_type: data_type.clone() }),
        },
    };
    match fits(data_type, expected) {
        true => Ok(Some(expected)),
        false => Err(ArrowRowsError::Kind { column: name.clone(), expected, got: data_type.to_string() }),
    }
}

fn is_dictionary_of_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, _)) && is_text(data_type)
}

/// The type of a field that a column becomes by itself.
fn natural(data_type: &DataType) -> Option<FieldType> {
    Some(match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => FieldType::Float,
        decimal if decimal.is_decimal() => FieldType::Float,
        unsigned if unsigned.is_unsigned_integer() => FieldType::Unsigned,
        signed if signed.is_signed_integer() => FieldType::Integer,
        DataType::Boolean => FieldType::Boolean,
        text if is_text(text) => FieldType::String,
        _ => return None,
    })
}

/// Whether every value of the type is one of the kind.
fn fits(data_type: &DataType, kind: ColumnKind) -> bool {
    use DataType::{Int8, Int16, Int32, Null, UInt8, UInt16, UInt32};
    match (kind, data_type) {
        (_, Null) => true,
        (ColumnKind::Tag, DataType::Boolean) => true,
        (ColumnKind::Tag, integer) if integer.is_integer() => true,
        (ColumnKind::Tag, text) => is_text(text),
        (ColumnKind::Field(FieldType::Float), Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => true,
        (ColumnKind::Field(FieldType::Integer), UInt8 | UInt16 | UInt32) => true,
        (ColumnKind::Field(field_type), data_type) => natural(data_type) == Some(field_type),
    }
}

fn times_from(first: Timestamp, rows: usize) -> ArrayRef {
    let times = (first.as_nanos()..).take(rows);
    Arc::new(TimestampNanosecondArray::from_iter_values(times))
}

/// The column as it is stored, if it is no tag.
fn place(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    let name = field.name();
    if *column.data_type() == DataType::Null {
        return match field.is_nullable() || column.is_empty() {
            true => Ok(new_null_array(field.data_type(), column.len())),
            false => Err(ArrowRowsError::NoTime(1)),
        };
    }
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) => time(column),
        DataType::Utf8 => text(name, column),
        wanted => cast(name, column, wanted),
    }
}

fn time(column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    if let Some(row) = column.logical_nulls().and_then(|nulls| nulls.iter().position(|is_valid| !is_valid)) {
        return Err(ArrowRowsError::NoTime(row + 1));
    }
    let zoneless = DataType::Timestamp(TimeUnit::Nanosecond, None);
    match column.data_type() {
        DataType::UInt64 => cast(TIME_COLUMN, &cast(TIME_COLUMN, column, &DataType::Int64)?, &zoneless),
        // Through UTC, so that a text with a zone means its instant.
        text if is_text(text) => {
            let plain = self::text(TIME_COLUMN, column)?;
            let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
            cast(TIME_COLUMN, &cast(TIME_COLUMN, &plain, &utc)?, &zoneless)
        }
        _ => cast(TIME_COLUMN, column, &zoneless),
    }
}

fn text(name: &str, column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    check_flat_bytes(name, column)?;
    let column = cast(name, column, &DataType::Utf8)?;
    let texts = column.as_string::<i32>();
    let longest = || texts.value_offsets().windows(2).map(|ends| ends[1].abs_diff(ends[0]) as usize).max().unwrap_or(0);
    if texts.value_data().len() > TEXT_BYTES_MAX && longest() > TEXT_BYTES_MAX {
        return Err(ArrowRowsError::Text { column: name.to_owned(), bytes: longest() });
    }
    Ok(column)
}

/// A dictionary in which every value occurs once, none is empty, and none is there in vain by far.
fn tag(name: &str, pieces: &[&ArrayRef], rows: usize) -> Result<ArrayRef, RefusedBatch> {
    if let [only] = pieces
        && is_tag_already(only)
    {
        return Ok(Arc::clone(only));
    }
    let mut encoder = TagEncoder::with_capacity(rows);
    for (batch, piece) in pieces.iter().enumerate() {
        push_tags(name, &mut encoder, piece).map_err(|error| RefusedBatch { batch, error })?;
    }
    Ok(encoder.finish())
}

fn push_tags(name: &str, encoder: &mut TagEncoder, piece: &ArrayRef) -> Result<(), ArrowRowsError> {
    let pushed = match piece.data_type() {
        DataType::Utf8 => encoder.push_texts(piece.as_string::<i32>()),
        DataType::LargeUtf8 => encoder.push_texts(piece.as_string::<i64>()),
        DataType::Utf8View => encoder.push_texts(piece.as_string_view()),
        // Where most values are in vain it takes less to look at the rows.
        DataType::Dictionary(_, values) if piece.as_any_dictionary().values().len() <= piece.len() => {
            let dictionary = piece.as_any_dictionary();
            let keys = cast(name, &make_array(dictionary.keys().to_data()), &DataType::Int32)?;
            let (keys, texts) = (keys.as_primitive::<Int32Type>(), dictionary.values());
            match values.as_ref() {
                DataType::Utf8 => encoder.push_dictionary(keys, texts.as_string::<i32>()),
                DataType::LargeUtf8 => encoder.push_dictionary(keys, texts.as_string::<i64>()),
                DataType::Utf8View => encoder.push_dictionary(keys, texts.as_string_view()),
                _ => encoder.push_texts(text(name, piece)?.as_string::<i32>()),
            }
        }
        _ => encoder.push_texts(text(name, piece)?.as_string::<i32>()),
    };
    pushed.map_err(|refused| match refused {
        RefusedText::Long(bytes) => ArrowRowsError::Text { column: name.to_owned(), bytes },
        RefusedText::TooLarge => ArrowRowsError::TooLarge(name.to_owned()),
    })
}

/// Whether a column can stay as it is.
fn is_tag_already(column: &ArrayRef) -> bool {
    if *column.data_type() != ColumnKind::Tag.data_type() {
        return false;
    }
    let texts = column.as_dictionary::<Int32Type>().values().as_string::<i32>();
    let mut seen = HashSet::with_capacity(texts.len());
    texts.null_count() == 0
        && texts.len() <= column.len()
        && texts.iter().flatten().all(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()) && seen.insert(text))
}

/// Judges how many bytes a column takes as plain text before it is made so.
fn check_flat_bytes(name: &str, column: &ArrayRef) -> Result<(), ArrowRowsError> {
    let bytes = match column.data_type() {
        DataType::Dictionary(_, _) if column.as_any_dictionary().values().is_empty() => 0,
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let lengths = arrow::compute::kernels::length::length(dictionary.values())
                .and_then(|lengths| cast_with_options(&lengths, &DataType::Int64, &CastOptions::default()))
                .map_err(|source| ArrowRowsError::Cast { column: name.to_owned(), wanted: DataType::Utf8, source })?;
            let lengths = lengths.as_primitive::<arrow::datatypes::Int64Type>();
            let of_key = |key: usize| lengths.values().get(key).copied().unwrap_or(0).unsigned_abs() as usize;
            dictionary.normalized_keys().into_iter().map(of_key).fold(0, usize::saturating_add)
        }
        // The low half of a view is the length of its text.
        DataType::Utf8View => {
            let lengths = column.as_string_view().views().iter().map(|view| (view & u128::from(u32::MAX)) as usize);
            lengths.fold(0, usize::saturating_add)
        }
        _ => return Ok(()),
    };
    match bytes > COLUMN_BYTES_MAX {
        true => Err(ArrowRowsError::TooLarge(name.to_owned())),
        false => Ok(()),
    }
}

fn cast(name: &str, column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowRowsError> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let failed = |source| ArrowRowsError::Cast { column: name.to_owned(), wanted: wanted.clone(), source };
    cast_with_options(column, wanted, &options).map_err(failed)
}
