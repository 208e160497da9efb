use std::collections::BTreeMap;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::basic::Encoding;
use ::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type};
use proptest::prelude::*;

use super::*;
use crate::model::{Column, ColumnKind, ColumnName, FieldType, Scalar, TableSchema};

fn schema(columns: &[(&str, ColumnKind)]) -> TableSchema {
    TableSchema::new(columns.iter().map(|(name, kind)| Column { name: ColumnName::new(name).unwrap(), kind: *kind }))
}

/// Tags `region` before `host` in the series key, and a field of every type.
fn every_type() -> TableSchema {
    schema(&[
        ("region", ColumnKind::Tag),
        ("host", ColumnKind::Tag),
        ("never", ColumnKind::Field(FieldType::Float)),
        ("float", ColumnKind::Field(FieldType::Float)),
        ("integer", ColumnKind::Field(FieldType::Integer)),
        ("unsigned", ColumnKind::Field(FieldType::Unsigned)),
        ("text", ColumnKind::Field(FieldType::String)),
        ("a \"flag\".x", ColumnKind::Field(FieldType::Boolean)),
    ])
}

/// Rows of `series` series with `points` points each, every third value null, times from `start` one apart.
fn rows(schema: &TableSchema, start: i64, series: usize, points: usize) -> RecordBatch {
    let all = 0..series * points;
    let value = |row: usize| (!row.is_multiple_of(3)).then_some(row);
    let tag = |of: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
        let texts: Vec<Option<String>> = all.clone().map(|row| of(row / points)).collect();
        Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
    };
    let columns: BTreeMap<&str, ArrayRef> = BTreeMap::from([
        ("region", tag(&|_| Some("eu".to_owned()))),
        ("host", tag(&|series_number| (series_number + 1 < series).then(|| format!("h{series_number:06}")))),
        (
            "time",
            Arc::new(TimestampNanosecondArray::from_iter_values(all.clone().map(|row| start + (row % points) as i64))),
        ),
        ("float", Arc::new(Float64Array::from_iter(all.clone().map(|row| value(row).map(|row| (row as f64).sin()))))),
        ("integer", Arc::new(Int64Array::from_iter(all.clone().map(|row| value(row).map(|row| row as i64 - 5))))),
        (
            "unsigned",
            Arc::new(UInt64Array::from_iter(all.clone().map(|row| value(row).map(|row| u64::MAX - row as u64)))),
        ),
        ("text", Arc::new(StringArray::from_iter(all.clone().map(|row| value(row).map(|row| format!("né {row}")))))),
        ("a \"flag\".x", Arc::new(BooleanArray::from_iter(all.clone().map(|row| value(row).map(|row| row % 2 == 0))))),
    ]);
    let fields: Vec<_> =
        schema.arrow().fields().iter().filter(|field| columns.contains_key(field.name().as_str())).cloned().collect();
    let arrays = fields.iter().map(|field| Arc::clone(&columns[field.name().as_str()])).collect();
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), arrays).unwrap()
}

fn metadata(file: &EncodedFile) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    reader.parse_and_finish(&file.bytes).unwrap()
}

fn read(file: &EncodedFile) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<_> = builder.with_batch_size(1 << 20).build().unwrap().collect::<Result<_, _>>().unwrap();
    concat_batches(&schema, &batches).unwrap()
}

/// Dictionaries may differ in their keys; the values count.
fn plain(batch: &RecordBatch) -> Vec<(String, ArrayRef)> {
    let column = |(field, array): (&Arc<arrow::datatypes::Field>, &ArrayRef)| {
        let array = match field.data_type() {
            DataType::Dictionary(_, value) => arrow::compute::cast(array, value).unwrap(),
            _ => Arc::clone(array),
        };
        (field.name().clone(), array)
    };
    batch.schema().fields().iter().zip(batch.columns()).map(column).collect()
}

#[test]
fn what_was_written_is_read() {
    let schema = every_type();
    let groups: Vec<RecordBatch> = (0..5).map(|block| rows(&schema, block * 10_000 - 20_000, 40, 130)).collect();
    // The batches of a row group may be cut anywhere.
    let cut =
        |group: &RecordBatch| vec![group.slice(0, 777), group.slice(777, 0), group.slice(777, group.num_rows() - 777)];
    let file = encode(&schema, groups.iter().map(cut).collect()).unwrap();

    let all = concat_batches(&groups[0].schema(), &groups).unwrap();
    let back = read(&file);
    assert_eq!(plain(&back), plain(&all));
    assert_eq!(back.schema().fields(), groups[0].schema().fields(), "names, types, nullability and kinds survive");

    assert_eq!(file.rows, 5 * 5_200);
    assert_eq!(file.time, TimeRange::from_nanos(-20_000, 20_129));
    assert_eq!(file.row_groups.len(), 5);
    assert_eq!(file.row_groups[4], RowGroup { rows: 5_200, time: TimeRange::from_nanos(20_000, 20_129) });
    let metadata = metadata(&file);
    assert_eq!(metadata.num_row_groups(), 5);
    assert!(metadata.row_groups().iter().all(|group| group.num_rows() == 5_200));
}

#[test]
fn a_column_without_values_is_left_out() {
    let schema = every_type();
    let file = encode(&schema, vec![vec![rows(&schema, 0, 3, 10)]]).unwrap();
    let names: Vec<_> = file.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["region", "host", "a \"flag\".x", "float", "integer", "text", "unsigned"]);
    assert!(read(&file).column_by_name("never").is_none());
    let host = &file.columns[1];
    assert_eq!(host.nulls, 10);
    assert_eq!(host.bounds, Some((Scalar::String("h000000".to_owned()), Scalar::String("h000001".to_owned()))));
    assert_eq!(file.columns[4].bounds, Some((Scalar::Integer(-4), Scalar::Integer(24))));
}

#[test]
fn a_table_without_tags_and_fields_has_times() {
    let schema = schema(&[("host", ColumnKind::Tag)]);
    let batch = rows(&schema, 0, 1, 5);
    let file = encode(&schema, vec![vec![batch]]).unwrap();
    assert!(file.columns.is_empty());
    assert_eq!(read(&file).num_columns(), 1);
}

#[test]
fn the_footer_says_who_wrote_it_and_how_it_is_sorted() {
    let schema = every_type();
    let file = encode(&schema, vec![vec![rows(&schema, 0, 3, 10)]]).unwrap();
    let metadata = metadata(&file);
    assert_eq!(metadata.file_metadata().created_by(), Some(concat!("flightline version ", env!("CARGO_PKG_VERSION"))));
    let entries = metadata.file_metadata().key_value_metadata().unwrap();
    let series_key = entries.iter().find(|entry| entry.key == "flightline.series_key").unwrap();
    assert_eq!(series_key.value.as_deref(), Some(r#"["region","host"]"#));
    let sorting = metadata.row_group(0).sorting_columns().unwrap();
    let names: Vec<_> = sorting
        .iter()
        .map(|column| metadata.row_group(0).column(column.column_idx as usize).column_path().string())
        .collect();
    assert_eq!(names, ["region", "host", "time"]);
    assert!(sorting.iter().all(|column| !column.descending && !column.nulls_first));

    let (early, late) = (rows(&schema, 0, 3, 10), rows(&schema, 1_000_000, 3, 10));
    let file = encode(&schema, vec![vec![early], vec![late]]).unwrap();
    let several = self::metadata(&file);
    assert_eq!(several.num_row_groups(), 2);
    let is_silent = several.row_groups().iter().all(|group| group.sorting_columns().is_none_or(Vec::is_empty));
    assert!(is_silent, "the file as a whole is not sorted");
}

#[test]
fn each_column_has_the_encoding_that_its_values_ask_for() {
    let schema = every_type();
    let file = encode(&schema, vec![vec![rows(&schema, 0, 30, 100)]]).unwrap();
    let metadata = metadata(&file);
    let encodings = |name: &str| -> Vec<Encoding> {
        let column = metadata.row_group(0).columns().iter().find(|column| column.column_path().parts() == [name]);
        column.unwrap().encodings().filter(|encoding| !matches!(encoding, Encoding::RLE | Encoding::PLAIN)).collect()
    };
    assert_eq!(encodings("time"), [Encoding::DELTA_BINARY_PACKED]);
    assert_eq!(encodings("host"), [Encoding::RLE_DICTIONARY]);
    assert_eq!(encodings("float"), [Encoding::BYTE_STREAM_SPLIT]);
    assert_eq!(encodings("integer"), [Encoding::DELTA_BINARY_PACKED]);
    assert_eq!(encodings("text"), [Encoding::DELTA_LENGTH_BYTE_ARRAY]);
}

#[test]
fn a_page_holds_whole_series_in_every_column() {
    let schema = every_type();
    for (series, points, pages) in [(4, 9_000, vec![9_000; 4]), (100, 100, vec![8_200, 1_800])] {
        let batch = rows(&schema, 0, series, points);
        let file = encode(&schema, vec![vec![batch]]).unwrap();
        let metadata = metadata(&file);
        for column in &metadata.offset_index().unwrap()[0] {
            let starts =
                column.page_locations().iter().map(|page| page.first_row_index).chain([(series * points) as i64]);
            let starts: Vec<i64> = starts.collect();
            let lengths: Vec<i64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert_eq!(lengths, pages);
        }
    }
}

#[test]
fn a_column_with_a_nan_has_no_statistics_anywhere() {
    let schema =
        schema(&[("float", ColumnKind::Field(FieldType::Float)), ("other", ColumnKind::Field(FieldType::Float))]);
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("float", Arc::new(Float64Array::from(vec![1.0, f64::NAN])), true),
        ("other", Arc::new(Float64Array::from(vec![-0.0, 0.0])), true),
        ("time", Arc::new(TimestampNanosecondArray::from(vec![i64::MIN, i64::MAX])), false),
    ];
    let file = encode(&schema, vec![vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()]]).unwrap();
    let metadata = metadata(&file);
    assert!(metadata.row_group(0).column(0).statistics().is_none());
    assert!(metadata.row_group(0).column(1).statistics().is_some());
    assert_eq!(metadata.offset_index().unwrap()[0].len(), 3, "pages can be found all the same");
    assert_eq!(file.columns[0].bounds, None);
    let back = read(&file);
    let floats = back.column(0).as_primitive::<arrow::datatypes::Float64Type>();
    assert!(floats.value(1).is_nan());
    assert_eq!(file.time, TimeRange::ALL);
}

#[test]
fn the_checksums_cover_every_byte() {
    let schema = every_type();
    let file = encode(&schema, vec![vec![rows(&schema, 0, 100, 500)]]).unwrap();
    let data_bytes = usize::try_from(file.data_bytes).unwrap();
    assert!(data_bytes > 128 * 1024, "several blocks");
    let metadata = metadata(&file);
    let entries = metadata.file_metadata().key_value_metadata();
    let checksums = BlockChecksums::from_key_values(entries, file.data_bytes).unwrap();
    assert_eq!(checksums.check(0, &file.bytes[..data_bytes]), Ok(()));
    assert_eq!(file.tail_crc32c, crc32c::crc32c(&file.bytes[data_bytes..]));
    let last_page_end = metadata.row_groups().iter().flat_map(|group| group.columns()).map(|column| {
        let (start, length) = column.byte_range();
        start + length
    });
    assert_eq!(last_page_end.max(), Some(file.data_bytes));
}

#[test]
fn row_groups_out_of_order_and_foreign_rows_are_refused() {
    let schema = every_type();
    let (early, late) = (rows(&schema, 0, 2, 10), rows(&schema, 10, 2, 10));
    assert!(encode(&schema, vec![vec![early.clone()], vec![late.clone()]]).is_ok());
    let refused = encode(&schema, vec![vec![late], vec![early.clone()]]).unwrap_err();
    assert_eq!(refused.to_string(), "row group 1 does not lie after the one before it in time");
    assert!(matches!(encode(&schema, vec![]), Err(ParquetFileError::NoRows)));
    assert!(matches!(encode(&schema, vec![vec![early.slice(0, 0)]]), Err(ParquetFileError::NoRows)));

    let other = self::schema(&[("host", ColumnKind::Field(FieldType::Float)), ("region", ColumnKind::Tag)]);
    assert!(matches!(encode(&other, vec![vec![early]]), Err(ParquetFileError::Rows(_))));
}

#[test]
fn a_row_group_that_differs_from_the_sample_is_written_all_the_same() {
    let schema =
        schema(&[("text", ColumnKind::Field(FieldType::String)), ("float", ColumnKind::Field(FieldType::Float))]);
    let group = |start: i64, rows: i64, text: &dyn Fn(i64) -> String| {
        let columns: [(&str, ArrayRef, bool); 3] = [
            (
                "float",
                Arc::new(Float64Array::from_iter_values(
                    (0..rows).map(|row| if start == 0 { 1.0 } else { row as f64 }),
                )),
                true,
            ),
            ("text", Arc::new(StringArray::from_iter_values((0..rows).map(text))), true),
            ("time", Arc::new(TimestampNanosecondArray::from_iter_values(start..start + rows)), false),
        ];
        vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()]
    };
    // The first row group is so large that the second is not looked at, and fills every dictionary.
    let groups =
        vec![group(0, 400_000, &|_| "same".to_owned()), group(400_000, 140_000, &|row| format!("text number {row}"))];
    let expected: Vec<RecordBatch> = groups.iter().flatten().cloned().collect();
    let file = encode(&schema, groups).unwrap();
    assert_eq!(plain(&read(&file)), plain(&concat_batches(&expected[0].schema(), &expected).unwrap()));
    let encodings: Vec<_> = metadata(&file).row_group(1).column(1).encodings().collect();
    assert!(encodings.contains(&Encoding::RLE_DICTIONARY) && encodings.contains(&Encoding::DELTA_LENGTH_BYTE_ARRAY));
}

fn nullable<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<Option<T>>> {
    prop::collection::vec(prop::option::of(value), 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_values_come_back(
        integers in nullable(prop_oneof![any::<i64>(), 0..3_i64, Just(i64::MIN), Just(i64::MAX)]),
        unsigned in nullable(prop_oneof![any::<u64>(), 0..3_u64]),
        floats in nullable(prop_oneof![any::<f64>(), (0..3_i8).prop_map(f64::from)]),
        texts in nullable(".{0,80}"),
        flags in nullable(any::<bool>()),
        mut times in prop::collection::btree_set(any::<i64>(), 60),
        rows in 1..60_usize,
    ) {
        let schema = schema(&[
            ("float", ColumnKind::Field(FieldType::Float)), ("integer", ColumnKind::Field(FieldType::Integer)),
            ("unsigned", ColumnKind::Field(FieldType::Unsigned)), ("text", ColumnKind::Field(FieldType::String)),
            ("flag", ColumnKind::Field(FieldType::Boolean)),
        ]);
        let columns: [(&str, ArrayRef, bool); 6] = [
            ("flag", Arc::new(BooleanArray::from(flags)), true),
            ("float", Arc::new(Float64Array::from(floats)), true),
            ("integer", Arc::new(Int64Array::from(integers)), true),
            ("text", Arc::new(StringArray::from(texts)), true),
            ("time", Arc::new(TimestampNanosecondArray::from_iter_values(std::mem::take(&mut times))), false),
            ("unsigned", Arc::new(UInt64Array::from(unsigned)), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap().slice(0, rows);
        let file = encode(&schema, vec![vec![batch.clone()]]).unwrap();
        let back = read(&file);
        for (name, array) in plain(&batch) {
            match back.column_by_name(&name) {
                // Compared as data: NaN equals itself there, and signs of zero count.
                Some(column) => prop_assert_eq!(bits(column), bits(&array), "{}", name),
                None => prop_assert_eq!(array.null_count(), rows),
            }
        }
    }
}

fn bits(array: &ArrayRef) -> Vec<Option<String>> {
    if let Some(floats) = array.as_primitive_opt::<arrow::datatypes::Float64Type>() {
        return floats.iter().map(|value| value.map(|value| format!("{:x}", value.to_bits()))).collect();
    }
    let texts = arrow::compute::cast(array, &DataType::Utf8).unwrap();
    texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}
