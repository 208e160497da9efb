//! How results look to clients: plain types, every column nullable.
//!
//! Flight SQL clients compare the schema that was announced with the schema of the stream and refuse
//! the result if they differ; many read neither dictionaries nor views. So the announced schema is
//! made from the plan by [`wire_schema`] (or, for who asked for them, with dictionaries for texts), and every batch is cast to exactly that by [`to_wire`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::model::without_foreign_kind;

/// The schema on the wire: dictionaries, views and large strings become plain, at every depth; every
/// column is nullable; columns keep their metadata as far as it is still true, the schema has none.
pub(super) fn wire_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| Arc::new(without_foreign_kind(wire_field(field).with_nullable(true)));
    let fields: Fields = schema.fields().iter().map(field).collect();
    Arc::new(Schema::new(fields))
}

/// As [`wire_schema`], but a column of texts that is a dictionary inside stays one, with 32-bit keys: for who asked for that.
pub(super) fn wire_schema_with_dictionaries(schema: &Schema) -> SchemaRef {
    let plain = wire_schema(schema);
    let field = |(inside, plain): (&FieldRef, &FieldRef)| match (inside.data_type(), plain.data_type()) {
        (DataType::Dictionary(_, _), DataType::Utf8) => {
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(plain.as_ref().clone().with_data_type(dictionary))
        }
        _ => Arc::clone(plain),
    };
    let fields: Fields = schema.fields().iter().zip(plain.fields()).map(field).collect();
    Arc::new(Schema::new(fields))
}

fn wire_field(field: &Field) -> Field {
    field.clone().with_data_type(wire_type(field.data_type()))
}

/// The type on the wire of a type inside.
pub(super) fn wire_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| -> FieldRef { Arc::new(wire_field(field)) };
    match data_type {
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(inner(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        plain => plain.clone(),
    }
}

/// The batch with exactly the columns of `schema`, in order; names and nullability are those of `schema`.
///
/// # Errors
/// If a value does not fit, as a text column of more than 2 GiB in one batch.
pub(super) fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => match texts_of(column, field.data_type()) {
                Some(texts) => Ok(texts),
                None => cast_with_options(column, field.data_type(), &options),
            },
        })
        .collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

/// Rows in a row that have one text, on average, from which on texts are written run by run.
const ROWS_OF_A_RUN: usize = 16;

/// So many copies of a text are made one by one; what a long run needs beyond comes out of them.
const COPIES: usize = 32;

/// Keys that are compared at once.
const KEYS_AT_ONCE: usize = 16;

/// The texts of a dictionary, written run by run: rows lie by series, so that a tag is the same in hundreds of them, and copying many short
/// texts at once takes a fifth of copying one after the other. `None` for anything else, which is cast.
fn texts_of(column: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    let dictionary = column.as_dictionary_opt::<Int32Type>().filter(|_| *wanted == DataType::Utf8)?;
    let texts = dictionary.values().as_string_opt::<i32>().filter(|texts| texts.null_count() == 0)?;
    let runs = runs_of(dictionary.keys(), dictionary.len() / ROWS_OF_A_RUN + 1)?;
    let text = |key: i32| usize::try_from(key).map_or("", |key| texts.value(key));
    let bytes: usize = runs.iter().map(|(key, rows)| key.map_or(0, |key| text(key).len() * rows)).sum();
    i32::try_from(bytes).ok()?; // of more the cast says what is wrong
    let mut written = StringBuilder::with_capacity(dictionary.len(), bytes);
    for (key, rows) in runs {
        match key {
            None => written.append_nulls(rows),
            Some(key) if rows < 2 * COPIES => written.append_value_n(text(key), rows),
            Some(key) => {
                let mut copies = StringBuilder::with_capacity(COPIES, COPIES * text(key).len());
                copies.append_value_n(text(key), COPIES);
                let copies = copies.finish();
                for _ in 0..rows / COPIES {
                    written.append_array(&copies).ok()?;
                }
                written.append_array(&copies.slice(0, rows % COPIES)).ok()?;
            }
        }
    }
    Some(Arc::new(written.finish()))
}

/// Each key with the number of rows that it stands in one after the other; `None` if there are more runs than `runs_max`.
fn runs_of(keys: &Int32Array, runs_max: usize) -> Option<Vec<(Option<i32>, usize)>> {
    let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
    let (keys, mut runs, mut start) = (keys.values(), Vec::new(), 0);
    while let Some(first) = keys.get(start) {
        let mut end = start + 1;
        for keys in keys[end..].chunks(KEYS_AT_ONCE) {
            let same = match keys.iter().fold(0, |different, key| different | (key ^ first)) {
                0 => keys.len(),
                _ => keys.iter().take_while(|key| *key == first).count(),
            };
            end += same;
            if same < keys.len() {
                break;
            }
        }
        let mut key = Some(*first);
        if let Some(nulls) = nulls {
            let is_valid = nulls.is_valid(start);
            end = (start + 1..end).find(|row| nulls.is_valid(*row) != is_valid).unwrap_or(end);
            key = key.filter(|_| is_valid);
        }
        if runs.len() == runs_max {
            return None;
        }
        runs.push((key, end - start));
        start = end;
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{
        DictionaryArray, LargeStringArray, ListArray, StringArray, StringViewArray, StructArray,
        TimestampNanosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::compute::cast;
    use arrow::datatypes::TimeUnit;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_in_runs_are_those_of_a_cast(
            runs in prop::collection::vec((prop::option::weighted(0.9, 0..4_i32), 1..600_usize), 0..6),
            texts in prop::collection::vec(".{0,12}", 4),
            cut in 0..100_usize,
        ) {
            let keys: Int32Array = runs.iter().flat_map(|(key, rows)| std::iter::repeat_n(*key, *rows)).collect();
            let column = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(texts)));
            let cut = cut.min(column.len());
            let column: ArrayRef = Arc::new(column.slice(cut, column.len() - cut));
            let expected = cast(&column, &DataType::Utf8).unwrap();
            let rows = column.len();
            let is_in_runs = runs.len() <= rows / ROWS_OF_A_RUN;
            let found = texts_of(&column, &DataType::Utf8);
            prop_assert!(found.is_some() || !is_in_runs, "{rows} rows in {} runs", runs.len());
            if let Some(found) = found {
                prop_assert_eq!(&found, &expected);
                prop_assert!(found.to_data().validate_full().is_ok());
            }
        }
    }

    fn dictionary() -> ArrayRef {
        let keys = Int32Array::from(vec![Some(1), None, Some(0)]);
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(vec!["a", "b"]))))
    }

    fn wired(field: Field, column: ArrayRef) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        to_wire(&batch, &wire_schema(&schema)).unwrap()
    }

    #[test]
    fn a_tag_arrives_as_nullable_text_with_its_metadata() {
        let tag = HashMap::from([("iox::column::type".to_owned(), "iox::column_type::tag".to_owned())]);
        let column = dictionary();
        let field = Field::new("host", column.data_type().clone(), true).with_metadata(tag.clone());
        let batch = wired(field, column);
        assert_eq!(batch.schema().field(0), &Field::new("host", DataType::Utf8, true).with_metadata(tag));
        let texts: Vec<_> = batch.column(0).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("b"), None, Some("a")]);
    }

    #[test]
    fn what_is_cast_is_not_said_to_be_of_the_kind_that_it_was() {
        let of_kind = |data_type: DataType, kind: &str| {
            let kind = HashMap::from([("iox::column::type".to_owned(), format!("iox::column_type::{kind}"))]);
            Field::new("x", data_type, true).with_metadata(kind)
        };
        let nanos = || DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (data_type, kind, stays) in [
            (nanos(), "timestamp", true),
            (DataType::Int64, "timestamp", false),
            (DataType::Utf8View, "tag", true),
            (DataType::Int64, "tag", false),
            (DataType::Float64, "field::float", true),
            (DataType::Int64, "field::float", false),
            (DataType::Utf8, "field::integer", false),
        ] {
            let schema = wire_schema(&Schema::new(vec![of_kind(data_type.clone(), kind)]));
            assert_eq!(schema.field(0).metadata().contains_key("iox::column::type"), stays, "{data_type} {kind}");
        }
    }

    #[test]
    fn for_who_asks_texts_stay_dictionaries_with_keys_of_one_width() {
        let wide = DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8View));
        let of_numbers = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64));
        let list = DataType::List(Arc::new(Field::new("item", wide.clone(), true)));
        let field = |name: &str, data_type: &DataType| Field::new(name, data_type.clone(), false);
        let schema = Schema::new(vec![field("a", &wide), field("b", &of_numbers), field("c", &list)]);
        let types: Vec<String> =
            wire_schema_with_dictionaries(&schema).fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Dictionary(Int32, Utf8)", "Int64", "List(Utf8)"]);
    }

    #[test]
    fn views_and_large_text_become_text() {
        for column in [
            Arc::new(StringViewArray::from(vec!["a longer text than twelve bytes"])) as ArrayRef,
            Arc::new(LargeStringArray::from(vec!["a longer text than twelve bytes"])),
        ] {
            let batch = wired(Field::new("x", column.data_type().clone(), false), column);
            assert_eq!(batch.schema().field(0), &Field::new("x", DataType::Utf8, true));
            assert_eq!(batch.column(0).as_string::<i32>().value(0), "a longer text than twelve bytes");
        }
    }

    #[test]
    fn nested_types_become_plain_at_every_depth() {
        let values = dictionary();
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let list = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([2, 1]), values, None);
        let inner = Field::new("tags", list.data_type().clone(), true);
        let record = StructArray::new(vec![inner].into(), vec![Arc::new(list) as ArrayRef], None);
        let batch = wired(Field::new("r", record.data_type().clone(), true), Arc::new(record));

        let plain_list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let plain = DataType::Struct(vec![Field::new("tags", plain_list, true)].into());
        assert_eq!(batch.schema().field(0).data_type(), &plain);
        let texts = batch.column(0).as_struct().column(0).as_list::<i32>().value(0);
        assert_eq!(texts.as_string::<i32>().value(0), "b");
    }

    #[test]
    fn a_timestamp_keeps_its_nanoseconds_and_its_zone() {
        for zone in [None, Some("+02:00")] {
            let column = TimestampNanosecondArray::from(vec![1]).with_timezone_opt(zone);
            let batch = wired(Field::new("time", column.data_type().clone(), false), Arc::new(column));
            let expected = DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
            assert_eq!(batch.column(0).data_type(), &expected);
        }
    }

    #[test]
    fn rows_without_columns_are_still_rows() {
        let rows = RecordBatchOptions::new().with_row_count(Some(3));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows).unwrap();
        assert_eq!(to_wire(&batch, &wire_schema(&Schema::empty())).unwrap().num_rows(), 3);
    }
}
