//! What is kept write by write is what a look at the whole table keeps.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;

use super::condense::{Condenser, arrange, fold};
use crate::model::last_write_wins::{merge_batches, sort_run};
use crate::model::{CacheDefinition, CacheShape, Column, ColumnKind, ColumnName, FieldType, Newest, TableSchema};

fn name(text: &str) -> ColumnName {
    ColumnName::new(text).unwrap()
}

fn schema() -> TableSchema {
    let column = |text: &str, kind| Column { name: name(text), kind };
    TableSchema::new([
        column("host", ColumnKind::Tag),
        column("region", ColumnKind::Tag),
        column("count", ColumnKind::Field(FieldType::Integer)),
        column("usage", ColumnKind::Field(FieldType::Float)),
    ])
}

/// Host, region, time, count, usage.
type Row = (Option<u8>, Option<u8>, i64, Option<i64>, Option<i64>);

fn run(rows: &[Row]) -> RecordBatch {
    let tag = |value: fn(&Row) -> Option<u8>| -> ArrayRef {
        let texts: Vec<Option<String>> = rows.iter().map(|row| value(row).map(|number| format!("t{number}"))).collect();
        Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
        tag(|row| row.0),
        tag(|row| row.1),
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.2))),
        Arc::new(rows.iter().map(|row| row.4.map(|half| half as f64 / 2.0)).collect::<Float64Array>()),
    ];
    sort_run(&schema(), &RecordBatch::try_new(Arc::clone(schema().arrow()), columns).unwrap()).unwrap()
}

fn definitions() -> Vec<CacheDefinition> {
    let last = |keys: Option<&[&str]>, values: Option<&[&str]>, newest| CacheShape::Last {
        keys: keys.map(|keys| keys.iter().map(|key| name(key)).collect()),
        values: values.map(|values| values.iter().map(|value| name(value)).collect()),
        newest,
        ttl: None,
    };
    let distinct = |columns: &[&str], cardinality_max| CacheShape::Distinct {
        columns: columns.iter().map(|column| name(column)).collect(),
        cardinality_max,
        age_max: None,
    };
    let shapes = [
        last(None, None, Newest::Points(1)),
        last(None, None, Newest::Points(3)),
        last(Some(&["host"]), None, Newest::Points(1)),
        last(Some(&["region", "host"]), Some(&["usage"]), Newest::Points(2)),
        last(Some(&[]), Some(&["count"]), Newest::Points(3)),
        last(None, None, Newest::Values),
        last(Some(&["host"]), Some(&["count", "region"]), Newest::Values),
        distinct(&["host"], 100),
        distinct(&["region", "host"], 3),
    ];
    shapes.into_iter().map(|shape| CacheDefinition { name: "c".to_owned(), shape }).collect()
}

fn text(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let tag = || prop::option::of(0..3_u8);
    prop::collection::vec((tag(), tag(), 0..8_i64, prop::option::of(0..9_i64), prop::option::of(0..9_i64)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rows_that_are_kept_write_by_write_are_those_of_the_whole(
        writes in prop::collection::vec((rows(), any::<bool>()), 1..8),
    ) {
        let (schema, runs): (_, Vec<RecordBatch>) = (schema(), writes.iter().map(|(rows, _)| run(rows)).collect());
        let whole = merge_batches(&schema, runs.clone(), 3).unwrap();
        for definition in definitions() {
            let kept = definition.kept(&schema);
            // A point that is kept for one value may lack others, which nobody will see.
            let text = |rows: &RecordBatch| match definition.is_of_values() {
                true => text(&arrange(&definition, &schema, rows).unwrap()),
                false => text(rows),
            };
            let mut at_once = Condenser::new(Arc::new(definition.clone()), &schema);
            // In any order: scans have none.
            whole.iter().rev().for_each(|batch| at_once.push(batch).unwrap());
            let at_once = at_once.finish().unwrap();

            let mut followed = RecordBatch::new_empty(Arc::clone(kept.arrow()));
            for (number, (_, is_joined)) in writes.iter().enumerate() {
                // Neighbours are joined now and then: then an earlier write comes once more, with the next.
                let run = match *is_joined && number > 0 {
                    true => merge_batches(&schema, vec![runs[number - 1].clone(), runs[number].clone()], 1000).unwrap().remove(0),
                    false => runs[number].clone(),
                };
                followed = fold(&definition, &kept, vec![followed, run]).unwrap();
            }
            prop_assert_eq!(text(&followed), text(&at_once), "{:?}", &definition);

            let half = writes.len() / 2;
            let mut begun = Condenser::new(Arc::new(definition.clone()), &schema);
            for batch in merge_batches(&schema, runs[..half].to_vec(), 1000).unwrap() {
                begun.push(&batch).unwrap();
            }
            let beside = RecordBatch::new_empty(Arc::clone(kept.arrow()));
            let beside = fold(&definition, &kept, [vec![beside], runs[half..].to_vec()].concat()).unwrap();
            let filled = fold(&definition, &kept, vec![begun.finish().unwrap(), beside]).unwrap();
            prop_assert_eq!(text(&filled), text(&at_once), "filled beside writes: {:?}", &definition);
        }
    }
}

#[test]
fn an_answer_is_by_key_and_of_one_key_the_newest_first() {
    let batch = run(&[
        (Some(1), Some(2), 5, Some(1), None),
        (Some(1), Some(1), 7, None, Some(3)),
        (Some(0), None, 6, None, None),
    ]);
    let by_host = &definitions()[3];
    let kept = fold(by_host, &by_host.kept(&schema()), vec![batch]).unwrap();
    let answer = arrange(by_host, &schema(), &kept).unwrap();
    let expected = "+--------+------+-------+-------------------------------+\n\
                    | region | host | usage | time                          |\n\
                    +--------+------+-------+-------------------------------+\n\
                    | t1     | t1   | 1.5   | 1970-01-01T00:00:00.000000007 |\n\
                    | t2     | t1   |       | 1970-01-01T00:00:00.000000005 |\n\
                    |        | t0   |       | 1970-01-01T00:00:00.000000006 |\n\
                    +--------+------+-------+-------------------------------+";
    assert_eq!(text(&answer), expected);
}
