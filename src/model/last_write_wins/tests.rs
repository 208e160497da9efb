//! The rule against a ten-line model, for random writes, random runs and random batch sizes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use proptest::prelude::*;

use super::{Merge, Step, first_out_of_order, sort_run, take_compact};
use crate::model::{Column, ColumnKind, ColumnName, FieldType, TableSchema};

/// One write of one point: host and region may be absent, so may each field.
#[derive(Debug, Clone)]
struct Write {
    host: Option<&'static str>,
    region: Option<&'static str>,
    time: i64,
    usage: Option<f64>,
    count: Option<i64>,
    note: Option<String>,
}

/// `None` sorts last, as nulls do in a run.
type Key = ((bool, Option<String>), (bool, Option<String>), i64);
type Fields = (Option<u64>, Option<i64>, Option<String>);

fn schema() -> TableSchema {
    let column = |name, kind| Column { name: ColumnName::new(name).unwrap(), kind };
    TableSchema::new([
        column("region", ColumnKind::Tag),
        column("host", ColumnKind::Tag),
        column("usage", ColumnKind::Field(FieldType::Float)),
        column("count", ColumnKind::Field(FieldType::Integer)),
        column("note", ColumnKind::Field(FieldType::String)),
    ])
}

fn batch(writes: &[Write]) -> RecordBatch {
    let tag = |values: Vec<Option<&str>>| -> ArrayRef {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        values.into_iter().for_each(|value| builder.append_option(value));
        Arc::new(builder.finish())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(writes.iter().map(|write| write.count))),
        tag(writes.iter().map(|write| write.host).collect()),
        Arc::new(StringArray::from_iter(writes.iter().map(|write| write.note.clone()))),
        tag(writes.iter().map(|write| write.region).collect()),
        Arc::new(TimestampNanosecondArray::from_iter_values(writes.iter().map(|write| write.time))),
        Arc::new(Float64Array::from_iter(writes.iter().map(|write| write.usage))),
    ];
    RecordBatch::try_new(Arc::clone(schema().arrow()), columns).unwrap()
}

/// The rule in its slowest form.
fn model<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Vec<(Key, Fields)> {
    let mut points: BTreeMap<Key, Fields> = BTreeMap::new();
    let sortable = |tag: Option<&str>| (tag.is_none(), tag.map(str::to_owned));
    for write in writes {
        let point = points.entry((sortable(write.region), sortable(write.host), write.time)).or_default();
        point.0 = write.usage.map(f64::to_bits).or(point.0);
        point.1 = write.count.or(point.1);
        point.2 = write.note.clone().or(point.2.take());
    }
    points.into_iter().collect()
}

fn rows(batch: &RecordBatch) -> Vec<(Key, Fields)> {
    let text = |name: &str, row: usize| {
        let column = batch.column_by_name(name).unwrap();
        let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap();
        column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
    };
    (0..batch.num_rows())
        .map(|row| {
            let (region, host) = (text("region", row), text("host", row));
            let time = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>().value(row);
            let usage = batch.column_by_name("usage").unwrap().as_primitive::<Float64Type>();
            let count = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
            let fields = (
                usage.is_valid(row).then(|| usage.value(row).to_bits()),
                count.is_valid(row).then(|| count.value(row)),
                text("note", row),
            );
            (((region.is_none(), region), (host.is_none(), host), time), fields)
        })
        .collect()
}

/// Merges the runs, feeding each in pieces of `piece_rows`.
fn merge(runs: &[RecordBatch], piece_rows: usize, batch_rows: usize) -> RecordBatch {
    let schema = schema();
    let mut merge = Merge::new(&schema, Arc::clone(schema.arrow()), runs.len(), batch_rows).unwrap();
    let mut fed = vec![0; runs.len()];
    let mut out = Vec::new();
    loop {
        match merge.step().unwrap() {
            Step::Done => break,
            Step::Ready(batch) => {
                assert!((1..=batch_rows).contains(&batch.num_rows()));
                out.push(batch);
            }
            Step::Needs(input) if fed[input] == runs[input].num_rows() => merge.finish(input),
            Step::Needs(input) => {
                let length = piece_rows.min(runs[input].num_rows() - fed[input]);
                merge.push(input, runs[input].slice(fed[input], length)).unwrap();
                fed[input] += length;
            }
        }
    }
    concat_batches(schema.arrow(), &out).unwrap()
}

fn write() -> impl Strategy<Value = Write> {
    let tag = prop::sample::select(vec![None, Some("a"), Some("b"), Some("ä"), Some("")]);
    (
        tag.clone(),
        tag,
        -3..4_i64,
        prop::option::of(-2.0..2.0),
        prop::option::of(0..9_i64),
        prop::option::of("[x-z]{0,2}"),
    )
        .prop_map(|(host, region, time, usage, count, note)| Write { host, region, time, usage, count, note })
}

proptest! {
    #[test]
    fn a_sorted_run_is_the_models_answer(writes in prop::collection::vec(write(), 0..80)) {
        let sorted = sort_run(&schema(), &batch(&writes)).unwrap();
        prop_assert_eq!(rows(&sorted), model(&writes));
    }

    #[test]
    fn merged_runs_are_the_models_answer(
        runs in prop::collection::vec(prop::collection::vec(write(), 0..40), 0..6),
        piece_rows in 1..20_usize,
        batch_rows in 1..20_usize,
    ) {
        let sorted: Vec<RecordBatch> = runs.iter().map(|writes| sort_run(&schema(), &batch(writes)).unwrap()).collect();
        let merged = merge(&sorted, piece_rows, batch_rows);
        prop_assert_eq!(rows(&merged), model(runs.iter().flatten()));
    }
}

#[test]
fn a_later_write_replaces_its_fields_and_keeps_the_others() {
    let write = |usage, count| Write { host: Some("a"), region: None, time: 10, usage, count, note: None };
    let sorted = sort_run(&schema(), &batch(&[write(Some(1.0), Some(9)), write(Some(2.0), None)])).unwrap();
    assert_eq!(rows(&sorted), model(&[write(Some(2.0), Some(9))]));
}

#[test]
fn columns_that_a_batch_lacks_are_null() {
    let narrow = batch(&[]).project(&[3, 4]).unwrap();
    let sorted = sort_run(&schema(), &narrow).unwrap();
    assert_eq!(sorted.schema_ref(), schema().arrow());
}

#[test]
fn a_table_without_tags_is_one_series() {
    let schema = TableSchema::new([Column {
        name: ColumnName::new("usage").unwrap(),
        kind: ColumnKind::Field(FieldType::Float),
    }]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(vec![3, 1, 3, 2])),
        Arc::new(Float64Array::from(vec![Some(3.0), Some(1.0), None, Some(2.0)])),
    ];
    let sorted = sort_run(&schema, &RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()).unwrap();
    assert_eq!(sorted.column(0).as_primitive::<TimestampNanosecondType>().values().as_ref(), [1, 2, 3]);
    assert_eq!(sorted.column(1).as_primitive::<Float64Type>().values().as_ref(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_dictionary_that_holds_a_text_twice_is_still_one_series() {
    let keys = arrow::array::Int32Array::from(vec![0, 1]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "a"]));
    let host: ArrayRef = Arc::new(arrow::array::DictionaryArray::new(keys, texts));
    let schema = TableSchema::new([Column { name: ColumnName::new("host").unwrap(), kind: ColumnKind::Tag }]);
    let time: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 1]));
    let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), vec![host, time]).unwrap();
    assert_eq!(sort_run(&schema, &batch).unwrap().num_rows(), 1);
}

#[test]
fn the_first_row_that_is_out_of_order_is_found() {
    let write = |host, time| Write { host, region: None, time, usage: Some(1.0), count: None, note: None };
    let found = |writes: &[(Option<&'static str>, i64)]| {
        let writes: Vec<Write> = writes.iter().map(|(host, time)| write(*host, *time)).collect();
        first_out_of_order(&schema(), &batch(&writes)).unwrap()
    };
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[(Some("a"), 5), (Some("a"), 6), (Some("b"), 1), (None, 0)]), None);
    assert_eq!(found(&[(Some("a"), 5), (Some("a"), 5)]), Some(1), "one point twice");
    assert_eq!(found(&[(Some("a"), 5), (Some("b"), 6), (Some("b"), 4)]), Some(2));
    assert_eq!(found(&[(None, 5), (Some("b"), 6)]), Some(1), "nulls come last");
}

proptest! {
    #[test]
    fn rows_that_are_taken_bring_their_own_texts_alone(
        texts in prop::collection::vec(prop::option::weighted(0.9, "[a-d]{1,2}"), 1..200),
        picked in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40),
        // Some of few rows out of many texts, which are not listed then.
        rows in prop_oneof![
            prop::collection::vec(any::<prop::sample::Index>(), 1..4),
            prop::collection::vec(any::<prop::sample::Index>(), 0..300),
        ],
    ) {
        let keys = picked.iter().map(|(text, is_valid)| is_valid.then(|| text.index(texts.len()) as i32));
        let tags: ArrayRef = Arc::new(arrow::array::DictionaryArray::<Int32Type>::new(
            keys.collect(),
            Arc::new(StringArray::from(texts.clone())),
        ));
        let batch = RecordBatch::try_from_iter_with_nullable([("host", Arc::clone(&tags), true)]).unwrap();
        let rows: Vec<u32> = match tags.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|row| row.index(tags.len()) as u32).collect(),
        };
        let taken = take_compact(&batch, &rows).unwrap();
        let taken = taken.column(0).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        let text_of = |row: &u32| {
            let (text, is_valid) = &picked[*row as usize];
            texts[text.index(texts.len())].as_deref().filter(|_| *is_valid)
        };
        let expected: Vec<Option<&str>> = rows.iter().map(text_of).collect();
        prop_assert_eq!(taken.into_iter().collect::<Vec<_>>(), &*expected);
        let distinct: std::collections::BTreeSet<&str> = expected.into_iter().flatten().collect();
        prop_assert_eq!(taken.values().len(), distinct.len(), "each text once, and no others");
    }
}
