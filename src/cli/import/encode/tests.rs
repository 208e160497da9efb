use std::sync::Arc;

use arrow::array::{Date32Array, Decimal128Array, DictionaryArray, TimestampMicrosecondArray, UInt8Array};
use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::*;
use crate::cli::import::mapping::Wishes;
use crate::model::{Precision, Rows, TableSchema, Timestamp};

fn wishes(tags: &[&str]) -> Wishes {
    Wishes {
        time: "time".into(),
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        precision: Some("ns".into()),
        ..Wishes::default()
    }
}

fn pieces(batch: &RecordBatch, wishes: &Wishes, bytes_max: usize) -> Vec<Piece> {
    let mapping = Mapping::new(&batch.schema(), wishes, &[], None).unwrap();
    let mut encoder = Encoder::new("t", mapping, bytes_max, 1).unwrap();
    let mut all = Vec::new();
    encoder
        .encode::<ArrowError>(batch, 0, |piece| {
            all.push(piece);
            Ok(())
        })
        .unwrap();
    all.extend(encoder.finish(0));
    all
}

fn text(piece: &Piece) -> &str {
    std::str::from_utf8(&piece.chunk.bytes).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

#[test]
fn every_type_is_written_as_its_field() {
    let batch = batch(vec![
        ("time", Arc::new(TimestampMicrosecondArray::from(vec![1, -2]).with_timezone("Europe/Berlin")) as ArrayRef),
        ("host", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a b"), None]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("d", Arc::new(Decimal128Array::from(vec![1250, -1]).with_precision_and_scale(10, 3).unwrap())),
        ("i", Arc::new(Int32Array::from(vec![None, Some(-7)]))),
        ("s", Arc::new(StringArray::from(vec![Some("say \"\\\""), Some("")]))),
        ("u", Arc::new(UInt8Array::from(vec![255, 0]))),
    ]);
    let pieces = pieces(&batch, &wishes(&["host"]), 1 << 20);
    assert_eq!(
        text(&pieces[0]),
        "t,host=a\\ b b=t,d=1.25,s=\"say \\\"\\\\\\\"\",u=255u 1000\nt d=-0.001,i=-7i,s=\"\",u=0u -2000\n"
    );
    assert_eq!((pieces.len(), pieces[0].chunk.points, pieces[0].next), (1, 2, 3));
}

#[test]
fn rows_that_cannot_be_written_keep_their_line() {
    let batch = batch(vec![
        ("time", Arc::new(Date32Array::from(vec![Some(1), None, Some(i32::MAX), Some(0), Some(0)])) as ArrayRef),
        ("host", Arc::new(StringArray::from(vec!["", "a", "a", "a\tb", "a"]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(f64::NAN)]))),
    ]);
    let pieces = pieces(&batch, &wishes(&["host"]), 1 << 20);
    assert_eq!(text(&pieces[0]), "t f=1 86400000000000\n\n\n\n\n");
    let refused: Vec<_> = pieces[0].refused.iter().map(|(row, reason)| (*row, reason.as_str())).collect();
    assert_eq!(
        refused,
        [
            (2, "it has no time"),
            (3, "its time is beyond the years 1677 to 2262"),
            (4, "column \"host\": line protocol cannot write '\\t' in a name or tag")
        ]
    );
    assert_eq!((pieces[0].empty, pieces[0].not_finite), (1, 1));
}

#[test]
fn text_that_is_no_number_is_refused_with_its_column() {
    let batch = batch(vec![
        (
            "time",
            Arc::new(StringArray::from(vec!["2024-01-31T12:00:00Z", "2024-01-31T12:00:00+01:00", "soon"])) as ArrayRef,
        ),
        ("f", Arc::new(StringArray::from(vec!["1.5", "oops", "1"]))),
    ]);
    let mut wishes = wishes(&[]);
    wishes.types.insert("f".into(), crate::model::ColumnKind::Field(FieldType::Float));
    let pieces = pieces(&batch, &wishes, 1 << 20);
    assert_eq!(text(&pieces[0]), "t f=1.5 1706702400000000000\n\n\n");
    assert_eq!(pieces[0].refused[0], (2, "column \"f\": \"oops\" is no number".into()));
    assert!(pieces[0].refused[1].1.contains("\"soon\" is no time"), "{:?}", pieces[0].refused);
}

#[test]
fn pieces_stay_below_the_limit_and_number_their_rows() {
    let times: Vec<i64> = (0..100).collect();
    let texts: Vec<String> = (0..100).map(|row| if row == 50 { "x".repeat(200) } else { "a\nb".into() }).collect();
    let batch =
        batch(vec![("time", Arc::new(Int64Array::from(times)) as ArrayRef), ("s", Arc::new(StringArray::from(texts)))]);
    let pieces = pieces(&batch, &wishes(&[]), 100);
    assert!(pieces.iter().all(|piece| piece.chunk.bytes.len() <= 100));
    let mut next = 1;
    for piece in &pieces {
        assert_eq!(piece.first, next);
        next = piece.next;
    }
    assert_eq!(next, 101);
    let refused: Vec<_> = pieces.iter().flat_map(|piece| &piece.refused).collect();
    assert_eq!(refused, [&(51, "it takes 209 bytes, more than --max-request-size".to_owned())]);
    // The second row stands in the third line, and goes on in the fourth.
    let rows: Vec<u64> = (1..=5).map(|line| pieces[1].row_of_line(line) - pieces[1].first).collect();
    assert_eq!(rows, [0, 0, 1, 1, 2]);
}

struct NoTables;

impl crate::syntax::line_protocol::Schemas for NoTables {
    fn table(&self, _: &str) -> Option<Arc<TableSchema>> {
        None
    }
}

fn parsed(text: &[u8]) -> Rows {
    let options = crate::syntax::line_protocol::Options {
        precision: Precision::Nanosecond,
        default_time: Timestamp::from_nanos(0),
        accept_partial: false,
        columns_per_table_max: 100,
        new_tables_max: 100,
    };
    let parsed = crate::syntax::line_protocol::parse(text, &NoTables, &options);
    assert_eq!(parsed.refused, []);
    parsed.rows
}

/// Text that line protocol can write: what would end a name stands behind a backslash.
fn name() -> impl Strategy<Value = String> {
    "([a-zé ,=\\\\\"#\r]|\\\\\n|\\\\\t){1,6}"
        .prop_filter("a comment, or no end", |text| !text.starts_with('#') && !text.ends_with('\\'))
}

proptest! {
    #[test]
    fn the_parser_reads_what_was_written(
        table in name(), tag in name(), field in name(), value in name(), string in "[a\"\\\\\n\r, =é]{0,8}",
        float in any::<f64>().prop_filter("finite", |float| float.is_finite()),
        integer in any::<i64>(), unsigned in any::<u64>(), boolean in any::<bool>(), time in any::<i64>(),
    ) {
        prop_assume!(tag != field);
        let columns: Vec<(String, ArrayRef)> = vec![
            ("time".into(), Arc::new(Int64Array::from(vec![time]))),
            (tag.clone(), Arc::new(StringArray::from(vec![value.clone()]))),
            (field.clone(), Arc::new(StringArray::from(vec![string.clone()]))),
            ("the float".into(), Arc::new(Float64Array::from(vec![float]))),
            ("the integer".into(), Arc::new(Int64Array::from(vec![integer]))),
            ("the unsigned".into(), Arc::new(UInt64Array::from(vec![unsigned]))),
            ("the boolean".into(), Arc::new(BooleanArray::from(vec![boolean]))),
        ];
        let batch = batch(columns.iter().map(|(name, column)| (name.as_str(), ArrayRef::clone(column))).collect());
        let mapping = Mapping::new(&Schema::clone(&batch.schema()), &wishes(&[&tag]), &[], None).unwrap();
        let mut encoder = Encoder::new(&table, mapping, 1 << 20, 1).unwrap();
        encoder.encode::<ArrowError>(&batch, 0, |_| unreachable!("one row fills no piece")).unwrap();
        let piece = encoder.finish(0).unwrap();
        prop_assert_eq!(&piece.refused, &[]);
        let rows = parsed(&piece.chunk.bytes);
        prop_assert_eq!(rows.tables[0].table.as_str(), &table);
        let batch = &rows.tables[0].batch;
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let tags = column(&tag).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        prop_assert_eq!(tags.into_iter().next().unwrap(), Some(value.as_str()));
        prop_assert_eq!(column(&field).as_string::<i32>().value(0), &string);
        prop_assert_eq!(column("the float").as_primitive::<Float64Type>().value(0).to_bits(), float.to_bits());
        prop_assert_eq!(column("the integer").as_primitive::<Int64Type>().value(0), integer);
        prop_assert_eq!(column("the unsigned").as_primitive::<UInt64Type>().value(0), unsigned);
        prop_assert_eq!(column("the boolean").as_boolean().value(0), boolean);
        prop_assert_eq!(column("time").as_primitive::<TimestampNanosecondType>().value(0), time);
    }
}
