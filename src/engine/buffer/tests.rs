//! What readers of a table see while others change it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::Float64Type;

use super::{Buffer, TableBuffer, TableContents, tidy};
use crate::clock::ManualClock;
use crate::engine::catalog::TableEntry;
use crate::model::{
    Column, ColumnKind, ColumnName, DatabaseId, FieldType, FileList, Sequence, TableId, TableName, TableSchema,
    Timestamp,
};

fn schema() -> TableSchema {
    TableSchema::new([Column { name: ColumnName::new("usage").unwrap(), kind: ColumnKind::Field(FieldType::Float) }])
}

fn batch(points: &[(i64, f64)]) -> RecordBatch {
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(points.iter().map(|point| point.0)));
    let usages: ArrayRef = Arc::new(Float64Array::from_iter_values(points.iter().map(|point| point.1)));
    RecordBatch::try_new(Arc::clone(schema().arrow()), vec![times, usages]).unwrap()
}

/// A table without files that has all writes up to `through` in Parquet.
fn stored(through: Sequence) -> TableContents {
    TableContents::stored(&TableEntry {
        id: TableId::new(1),
        database: DatabaseId::new(1),
        name: TableName::new("cpu").unwrap(),
        schema: Arc::new(schema()),
        files: FileList::default(),
        persisted_through: through,
        retention: None,
        deletions: Arc::default(),
        last_deletion: 0,
        caches: Vec::new(),
    })
}

fn table() -> (Buffer, Arc<TableBuffer>) {
    let buffer = Buffer::new(1 << 20, Arc::new(ManualClock::new(Timestamp::from_nanos(0))));
    let table = buffer.table_or_insert(TableId::new(1), || stored(Sequence::ZERO));
    (buffer, table)
}

fn insert(table: &TableBuffer, sequence: u64, points: &[(i64, f64)]) {
    table.insert(Sequence::new(sequence), batch(points)).unwrap();
}

fn usages(table: &TableBuffer) -> Vec<Vec<f64>> {
    let values = |batch: &RecordBatch| batch.column(1).as_primitive::<Float64Type>().values().to_vec();
    table.contents().runs.iter().map(|run| values(run.sorted().unwrap())).collect()
}

#[test]
fn a_snapshot_does_not_change_when_the_table_does() {
    let (_buffer, table) = table();
    insert(&table, 1, &[(1, 1.0)]);
    let before = table.contents();
    insert(&table, 2, &[(1, 2.0)]);
    table.take_stored(stored(Sequence::new(2)));
    assert_eq!((before.runs.len(), table.contents().runs.len()), (1, 0));
}

#[test]
fn tidying_keeps_the_last_write() {
    let (_buffer, table) = table();
    for sequence in 1..=16 {
        insert(&table, sequence, &[(7, sequence as f64), (sequence as i64 + 10, 0.5)]);
    }
    assert!(tidy::tidy_once(&table).unwrap());
    let runs = table.contents().runs.clone();
    assert_eq!(
        (runs.len(), runs[0].sequences().first, runs[0].sequences().last),
        (1, Sequence::new(1), Sequence::new(16))
    );
    assert_eq!(usages(&table)[0][0], 16.0);
}

#[test]
fn runs_that_a_persist_has_taken_are_left_alone() {
    let (_buffer, table) = table();
    for sequence in 1..=16 {
        insert(&table, sequence, &[(sequence as i64, 1.0)]);
    }
    let frozen = table.freeze().unwrap();
    assert_eq!((frozen.runs.len(), frozen.through), (16, Sequence::new(16)));
    assert!(!tidy::tidy_once(&table).unwrap());
    insert(&table, 17, &[(17, 1.0)]);
    table.take_stored(stored(frozen.through));
    assert_eq!(table.contents().runs.len(), 1, "what came after the persist began stays");
}

#[test]
fn memory_is_given_back_when_the_last_reader_lets_go() {
    let (buffer, table) = table();
    insert(&table, 1, &[(1, 1.0)]);
    let snapshot = table.contents();
    let charged = buffer.budget().used();
    assert!(charged > 0);
    table.take_stored(stored(Sequence::new(1)));
    assert_eq!(buffer.budget().used(), charged, "a query still reads the run");
    drop(snapshot);
    assert_eq!(buffer.budget().used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_has_room_as_soon_as_something_is_freed() {
    let buffer = Buffer::new(1, Arc::new(ManualClock::new(Timestamp::from_nanos(0))));
    let table = buffer.table_or_insert(TableId::new(1), || stored(Sequence::ZERO));
    insert(&table, 1, &[(1, 1.0)]);
    let patience = std::time::Duration::from_secs(5);
    assert!(!buffer.budget().has_room(patience).await);
    let (room, ()) =
        tokio::join!(buffer.budget().has_room(patience), async { table.take_stored(stored(Sequence::new(1))) });
    assert!(room);
}
