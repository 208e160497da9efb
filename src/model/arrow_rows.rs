//! Batches of Arrow as rows of a table: each column gets its place and is cast as a whole. No row is looked at by itself.
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

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray,
    new_null_array,
};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use arrow::error::ArrowError;

use super::names::{ColumnName, NameError, TIME_COLUMN};
use super::schema::{COLUMN_TYPE_KEY, Column, ColumnKind, FieldType, TableSchema};
use super::time::Timestamp;
use crate::error::{Error, ErrorKind};

/// Longest text of one field, as in line protocol.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes that the texts of one column may take once dictionaries and views are gone: a few values, referred to often, are
/// small in a message and not in memory.
const COLUMN_BYTES_MAX: usize = 256 << 20;

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
    #[error("column '{TIME_COLUMN}' is null in row {0} of the batch; leave the column out for times of arrival")]
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
        let fields = self.schema.arrow().fields().iter().zip(&self.sources);
        let columns = fields.map(|(field, source)| match source.and_then(|source| batch.columns().get(source)) {
            Some(column) => place(field, column),
            None => Ok(times_from(first_time, batch.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns).map_err(ArrowRowsError::Batch)
    }
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

/// The column as it is stored.
fn place(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    let name = field.name();
    if *column.data_type() == DataType::Null {
        return match field.is_nullable() || column.is_empty() {
            true => Ok(new_null_array(field.data_type(), column.len())),
            false => Err(ArrowRowsError::NoTime(0)),
        };
    }
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) => time(column),
        DataType::Dictionary(_, _) => tag(name, column),
        DataType::Utf8 => text(name, column),
        wanted => cast(name, column, wanted),
    }
}

fn time(column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    if let Some(row) = column.logical_nulls().and_then(|nulls| nulls.iter().position(|is_valid| !is_valid)) {
        return Err(ArrowRowsError::NoTime(row));
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
fn tag(name: &str, column: &ArrayRef) -> Result<ArrayRef, ArrowRowsError> {
    let wanted = ColumnKind::Tag.data_type();
    let column = match column.data_type() {
        DataType::Dictionary(_, _) if is_tidy(column) => cast(name, column, &wanted)?,
        _ => cast(name, &text(name, column)?, &wanted)?,
    };
    let dictionary = column.as_dictionary::<Int32Type>();
    let values = dictionary.values().as_string::<i32>();
    check_longest(name, values)?;
    let empty = values.iter().position(|value| value == Some(""));
    let Some(empty) = empty.and_then(|empty| i32::try_from(empty).ok()) else { return Ok(column) };
    let without = eq(dictionary.keys(), &Int32Array::new_scalar(empty))
        .and_then(|is_empty| nullif(dictionary.keys(), &is_empty))
        .and_then(|keys| {
            DictionaryArray::<Int32Type>::try_new(
                keys.as_primitive::<Int32Type>().clone(),
                Arc::clone(dictionary.values()),
            )
        })
        .map_err(|source| ArrowRowsError::Cast { column: name.to_owned(), wanted, source })?;
    Ok(Arc::new(without))
}

fn check_longest(name: &str, texts: &StringArray) -> Result<(), ArrowRowsError> {
    match texts.iter().flatten().map(str::len).max() {
        Some(bytes) if bytes > TEXT_BYTES_MAX => Err(ArrowRowsError::Text { column: name.to_owned(), bytes }),
        _ => Ok(()),
    }
}

/// Whether the values of a dictionary can stay as they are.
fn is_tidy(column: &ArrayRef) -> bool {
    let values = column.as_any_dictionary().values();
    if values.null_count() > 0 || values.len() > column.len() {
        return false;
    }
    let Ok(texts) = cast_with_options(values, &DataType::Utf8, &CastOptions::default()) else { return false };
    let mut seen = HashSet::with_capacity(texts.len());
    texts.as_string::<i32>().iter().all(|text| seen.insert(text))
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Int16Array, Int64Array, LargeStringArray, NullArray,
        StringViewArray, TimestampMillisecondArray, TimestampSecondArray, UInt8Array,
    };
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn dictionary(values: &[&str]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>())
    }

    /// Each column as `name:kind value value`, in the order of the table.
    fn stored(batch: &RecordBatch, known: Option<&TableSchema>, tags: Option<&[&str]>) -> Result<Vec<String>, String> {
        let tags: Option<Vec<String>> = tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
        let columns = ArrowColumns::new(&batch.schema(), known, tags.as_deref()).map_err(|error| error.to_string())?;
        let rows = columns.rows(batch, Timestamp::from_nanos(100)).map_err(|error| error.to_string())?;
        assert_eq!(rows.schema(), *columns.schema().arrow());
        let column = |(field, column): (&Arc<Field>, &ArrayRef)| {
            let kind = columns.schema().kind(field.name()).map_or("time", ColumnKind::wire_name);
            let kind = kind.rsplit("::").next().unwrap();
            let values = (0..column.len()).map(|row| array_value_to_string(column, row).unwrap());
            format!("{}:{kind} {}", field.name(), values.collect::<Vec<_>>().join(" "))
        };
        Ok(rows.schema().fields().iter().zip(rows.columns()).map(column).collect())
    }

    #[test]
    fn every_type_has_its_field() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("decimal", Arc::new(Decimal128Array::from(vec![150, 250]).with_precision_and_scale(5, 2).unwrap())),
            ("f32", Arc::new(Float32Array::from(vec![0.5, 1.5]))),
            ("i16", Arc::new(Int16Array::from(vec![-1, 1]))),
            ("large", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
            ("nothing", Arc::new(NullArray::new(2))),
            ("u8", Arc::new(UInt8Array::from(vec![1, 255]))),
            ("view", Arc::new(StringViewArray::from(vec!["c", "d"]))),
        ];
        let expected = [
            "bool:boolean true ",
            "decimal:float 1.5 2.5",
            "f32:float 0.5 1.5",
            "i16:integer -1 1",
            "large:string a b",
            "time:time 1970-01-01T00:00:00.000000100 1970-01-01T00:00:00.000000101",
            "u8:uinteger 1 255",
            "view:string c d",
        ];
        assert_eq!(stored(&batch(columns), None, None).unwrap(), expected);
    }

    #[test]
    fn what_no_field_can_hold_is_refused_with_what_it_can_be_instead() {
        use arrow::array::{BinaryArray, ListArray, Time64NanosecondArray};
        let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(1)])]);
        for (column, advice) in [
            (Arc::new(Date32Array::from(vec![1])) as ArrayRef, "text such as '2024-01-31'"),
            (Arc::new(Time64NanosecondArray::from(vec![1])), "text such as '13:45:00'"),
            (Arc::new(TimestampSecondArray::from(vec![1])), "a whole number of nanoseconds"),
            (Arc::new(BinaryArray::from_vec(vec![b"x"])), "text, such as base64"),
            (Arc::new(list), "a row for each item"),
        ] {
            let data_type = column.data_type().clone();
            let error = stored(&batch(vec![("odd", column)]), None, None).unwrap_err();
            let expected = format!("column 'odd' holds {data_type}, which no field can hold; send it as {advice}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_time_of_any_unit_and_zone_is_its_instant() {
        let times: [ArrayRef; 7] = [
            Arc::new(TimestampSecondArray::from(vec![86_400])),
            Arc::new(TimestampMillisecondArray::from(vec![86_400_000]).with_timezone("+05:30")),
            Arc::new(TimestampNanosecondArray::from(vec![86_400_000_000_000]).with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![1])),
            Arc::new(Int64Array::from(vec![86_400_000_000_000])),
            texts(&["1970-01-02T02:00:00+02:00"]),
            texts(&["1970-01-02"]),
        ];
        for time in times {
            let kind = time.data_type().clone();
            assert_eq!(
                stored(&batch(vec![("time", time)]), None, None).unwrap(),
                ["time:time 1970-01-02T00:00:00"],
                "{kind}"
            );
        }
        let late: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        assert!(stored(&batch(vec![("time", late)]), None, None).unwrap_err().starts_with("column 'time' can't be"));
        let null: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(1), None]));
        let error = stored(&batch(vec![("time", null)]), None, None).unwrap_err();
        assert!(error.starts_with("column 'time' is null in row 1"), "{error}");
    }

    #[test]
    fn tags_are_those_that_are_named_or_marked_or_dictionaries() {
        let metadata = HashMap::from([(COLUMN_TYPE_KEY.to_owned(), "iox::column_type::tag".to_owned())]);
        let fields = vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Utf8, true).with_metadata(metadata),
            Field::new("c", dictionary(&["x"]).data_type().clone(), true),
            Field::new("time", DataType::Int64, true),
        ];
        let time: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        let columns = vec![texts(&["1"]), texts(&["2"]), dictionary(&["3"]), time];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let time = "time:time 1970-01-01T00:00:00";
        assert_eq!(stored(&batch, None, None).unwrap(), ["a:string 1", "b:tag 2", "c:tag 3", time]);
        assert_eq!(stored(&batch, None, Some(&["a"])).unwrap(), ["a:tag 1", "b:string 2", "c:string 3", time]);
        let known = TableSchema::new([Column { name: ColumnName::new("a").unwrap(), kind: ColumnKind::Tag }]);
        assert_eq!(stored(&batch, Some(&known), None).unwrap(), ["a:tag 1", "b:tag 2", "c:tag 3", time]);
        assert_eq!(stored(&batch, None, Some(&["z"])).unwrap_err(), "'z' is to be a tag and there is no such column");
    }

    #[test]
    fn a_tag_has_each_value_once_and_none_that_is_empty() {
        let keys = Int32Array::from(vec![Some(0), Some(1), Some(2), None, Some(3)]);
        let values = StringArray::from(vec![Some("a"), Some(""), Some("a"), None]);
        let odd: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values)).unwrap());
        let columns = ArrowColumns::new(&batch(vec![("t", Arc::clone(&odd))]).schema(), None, None).unwrap();
        let rows = columns.rows(&batch(vec![("t", odd)]), Timestamp::from_nanos(0)).unwrap();
        let tags = rows.column(0).as_dictionary::<Int32Type>();
        let found: Vec<Option<&str>> = tags.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(found, [Some("a"), None, Some("a"), None, None]);
        let mut values: Vec<_> = tags.values().as_string::<i32>().iter().collect();
        let count = values.len();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), count);
    }

    #[test]
    fn what_does_not_fit_names_its_column() {
        let field = |field_type| {
            TableSchema::new([Column { name: ColumnName::new("v").unwrap(), kind: ColumnKind::Field(field_type) }])
        };
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let small: ArrayRef = Arc::new(Int16Array::from(vec![1]));
        let float = field(FieldType::Float);
        assert_eq!(
            stored(&batch(vec![("v", wide)]), Some(&float), None).unwrap_err(),
            "invalid column type for column 'v', expected iox::column_type::field::float, got Int64"
        );
        assert_eq!(stored(&batch(vec![("v", small)]), Some(&float), None).unwrap()[1], "v:float 1.0");
        let date: ArrayRef = Arc::new(Date32Array::from(vec![1]));
        let error = stored(&batch(vec![("day", date)]), None, None).unwrap_err();
        assert!(error.starts_with("column 'day' holds Date32, which no field can hold"), "{error}");
        let long = texts(&[&"x".repeat(TEXT_BYTES_MAX + 1)]);
        let error = stored(&batch(vec![("v", long)]), None, None).unwrap_err();
        assert_eq!(error, "column 'v' has a text of 1048577 bytes, more than the 1048576 that are allowed");
        let often = Int32Array::from(vec![0; 600]);
        let value = Arc::new(StringArray::from(vec!["x".repeat(TEXT_BYTES_MAX / 2)]));
        let bomb: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(often, value).unwrap());
        let error = stored(&batch(vec![("v", bomb)]), Some(&field(FieldType::String)), None).unwrap_err();
        assert_eq!(error, "column 'v' takes more than 268435456 bytes as text; send smaller batches");
    }
}
