//! A whole engine over memory: what becomes of files that are compacted, deleted or lost on the way.

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::wal::MemoryDisk;
use super::*;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::model::{Column, ColumnKind, ColumnName, FieldType, Rows, TableRows};

const HOUR: Duration = Duration::from_secs(3600);

struct Fixture {
    engine: Arc<Engine>,
    store: Store,
    clock: Arc<ManualClock>,
}

impl Fixture {
    async fn new() -> Self {
        // The store stamps its objects by the machine's clock.
        let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
        let store = Store::in_memory();
        let compaction = CompactionSettings { is_on: false, settle: Duration::ZERO, ..CompactionSettings::default() };
        let settings = EngineSettings { compaction, delete_grace: 24 * HOUR, ..EngineSettings::default() };
        let disk = Arc::new(MemoryDisk::default());
        let engine = Engine::open(settings, store.clone(), disk, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        Self { engine, store, clock }
    }

    /// Writes points of one series and persists them.
    async fn persist(&self, times: &[i64]) {
        let schema = TableSchema::new([Column {
            name: ColumnName::new("v").unwrap(),
            kind: ColumnKind::Field(FieldType::Float),
        }]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(times.to_vec())),
            Arc::new(Float64Array::from(vec![1.0; times.len()])),
        ];
        let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
        let rows = Rows { tables: vec![TableRows { table: table(), schema, batch }] };
        self.engine.write(&database(), rows, Durability::Synced).await.unwrap();
        self.engine.persist_all().await.unwrap();
    }

    fn files(&self) -> Arc<TableSnapshot> {
        self.engine.snapshot(&database(), "t").unwrap()
    }

    async fn objects(&self) -> Vec<Path> {
        let objects = self.store.objects().list(Some(&store::paths::data_files()));
        objects.map_ok(|object| object.location).try_collect().await.unwrap()
    }
}

fn database() -> DatabaseName {
    DatabaseName::new("db").unwrap()
}

fn table() -> TableName {
    TableName::new("t").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_stay_for_the_grace_period_and_while_they_are_read() {
    let fixture = Fixture::new().await;
    for start in 0..3 {
        fixture.persist(&[start, 10 + start]).await;
    }
    let before = fixture.files();
    fixture.engine.compact_all().await.unwrap();
    assert_eq!((before.files.len(), fixture.files().files.len()), (3, 1));
    assert_eq!(fixture.engine.metrics().compaction.rows_written, 6);

    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0, "in grace");
    fixture.clock.advance(25 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0, "a query reads them");
    assert_eq!(fixture.objects().await.len(), 4);
    drop(before);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 3);
    let kept: Vec<Path> = fixture.files().files.iter().map(|file| Path::from(file.path.as_str())).collect();
    assert_eq!((fixture.objects().await, fixture.engine.metrics().garbage_files), (kept, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_deleted_table_go_after_the_grace_period() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1]).await;
    fixture.engine.delete_table(&database(), &table()).await.unwrap();
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0);
    fixture.clock.advance(25 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 1);
    assert_eq!(fixture.objects().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_data_files_that_no_one_names_are_orphans() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1]).await;
    let named = Path::from(fixture.files().files[0].path.as_str());
    let orphan = Path::from("dbs/1-db/1-t/1970-01-01/0000000900.parquet");
    // A number that was never given out, and a file that a user put there.
    let foreign = ["dbs/1-db/1-t/1970-01-01/0009999999.parquet", "dbs/1-db/readme.txt"].map(Path::from);
    for path in foreign.iter().chain([&orphan]) {
        fixture.store.objects().put(path, "x".into()).await.unwrap();
    }
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0, "it may be on its way into the catalog");
    fixture.clock.advance(25 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 1);
    let mut left = fixture.objects().await;
    left.sort();
    let mut expected: Vec<Path> = foreign.into_iter().chain([named]).collect();
    expected.sort();
    assert_eq!(left, expected);
}
