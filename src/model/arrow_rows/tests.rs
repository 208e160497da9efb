//! What batches of Arrow become, and what is refused.

use std::collections::HashMap;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray, TimestampMillisecondArray,
    TimestampSecondArray, UInt8Array,
};
use arrow::util::display::array_value_to_string;

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
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
    assert!(error.starts_with("column 'time' is null in row 2"), "{error}");
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

#[test]
fn several_batches_are_one_and_the_one_that_is_refused_is_named() {
    let times = |first: i64| Arc::new(Int64Array::from(vec![first, first + 1])) as ArrayRef;
    let piece = |host: &str, first| {
        let hosts = Arc::new(StringArray::from(vec![Some(host), None])) as ArrayRef;
        batch(vec![("host", hosts), ("v", Arc::new(Int64Array::from(vec![first, 0]))), ("time", times(first))])
    };
    let pieces = [piece("a", 10), piece("b", 20), piece("a", 30)];
    let tags = ["host".to_owned()];
    let columns = ArrowColumns::new(&pieces[0].schema(), None, Some(&tags)).unwrap();
    let rows = columns.rows_of(&pieces, Timestamp::from_nanos(0)).unwrap();
    let cells = |row: usize| {
        rows.columns().iter().map(|c| array_value_to_string(c, row).unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(cells(2), "b 1970-01-01T00:00:00.000000020 20");
    assert_eq!(
        (cells(4), cells(5)),
        ("a 1970-01-01T00:00:00.000000030 30".to_owned(), " 1970-01-01T00:00:00.000000031 0".to_owned())
    );
    assert_eq!(rows.column(0).as_dictionary::<Int32Type>().values().len(), 2);

    let null: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
    let (host, v): (ArrayRef, ArrayRef) = (texts(&["a"]), Arc::new(Int64Array::from(vec![1])));
    let bad = batch(vec![("host", host), ("v", v), ("time", null)]);
    let refused = columns.rows_of(&[pieces[0].clone(), bad], Timestamp::from_nanos(0)).unwrap_err();
    assert_eq!((refused.batch, refused.error.to_string()), (1, ArrowRowsError::NoTime(1).to_string()));
}

#[test]
fn numbers_are_shared_unless_they_would_keep_much_else() {
    let rows = 100_000;
    let numbers = Float64Array::from_iter_values((0..rows).map(f64::from));
    let times = Int64Array::from_iter_values((0..rows).map(i64::from));
    let columns: Vec<(&str, ArrayRef)> = vec![("v", Arc::new(numbers)), ("time", Arc::new(times))];
    let whole = batch(columns);
    let columns = ArrowColumns::new(&whole.schema(), None, None).unwrap();
    let pointer = |batch: &RecordBatch, name: &str| batch.column_by_name(name).unwrap().to_data().buffers()[0].as_ptr();
    let stored = columns.rows(&whole, Timestamp::from_nanos(0)).unwrap();
    assert_eq!(pointer(&stored, "v"), pointer(&whole, "v"));
    let part = whole.slice(0, 20_000);
    let stored = columns.rows(&part, Timestamp::from_nanos(0)).unwrap();
    assert_ne!(pointer(&stored, "v"), pointer(&part, "v"));
    assert_eq!(stored.num_rows(), 20_000);
    assert!(held_bytes(&stored) < held_bytes(&whole) / 4);
}
