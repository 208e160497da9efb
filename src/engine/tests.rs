//! A whole engine over memory: what becomes of files that are compacted, deleted or lost on the way.

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampNanosecondArray};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::caches::CacheState;
use super::catalog::CatalogChange;
use super::wal::MemoryDisk;
use super::*;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::model::{
    CacheDefinition, CacheKind, CacheShape, Column, ColumnKind, ColumnName, ColumnStatistics, DataFile, FieldType,
    FileColumns, Newest, Rows, Scalar, SequenceRange, TableRows, TimeRange,
};

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
        let (schema, batch) = rows(times);
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

/// Points of one series.
fn rows(times: &[i64]) -> (TableSchema, RecordBatch) {
    let schema =
        TableSchema::new([Column { name: ColumnName::new("v").unwrap(), kind: ColumnKind::Field(FieldType::Float) }]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(times.to_vec())),
        Arc::new(Float64Array::from(vec![1.0; times.len()])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    (schema, batch)
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
async fn a_server_that_was_taken_over_from_says_so_and_leaves() {
    for has_buffered in [false, true] {
        let first = Fixture::new().await;
        first.persist(&[1]).await;
        if has_buffered {
            let (schema, batch) = rows(&[2]);
            let rows = Rows { tables: vec![TableRows { table: table(), schema, batch }] };
            first.engine.write(&database(), rows, Durability::Synced).await.unwrap();
        }
        first.engine.check_health().unwrap();

        let log = LogIdentity { id: Uuid::from_u128(2), place: "elsewhere".to_owned(), gives_up_others: true };
        let settings = EngineSettings { log, ..first.engine.settings.clone() };
        let clock = Arc::clone(&first.clock) as Arc<dyn Clock>;
        let second = Engine::open(settings, first.store.clone(), Arc::new(MemoryDisk::default()), clock).await.unwrap();
        first.engine.catalog.refresh().await.unwrap(); // which happens by itself after a while
        let error = first.engine.check_health().unwrap_err();
        assert!(error.to_string().contains("taken over") && error.to_string().contains("elsewhere"), "{error}");
        second.check_health().unwrap();
        // What only its own log has is an error to leave behind.
        assert_eq!(first.engine.close().await.is_err(), has_buffered);
        second.close().await.unwrap();
        assert_eq!(second.check_health().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_persist_left_is_removed_after_the_next_one() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1]).await;
    let engine = &fixture.engine;
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let memory = engine.checked_files().clone();
    let files = data_files::DataFiles::new(fixture.store.clone(), Arc::clone(&engine.catalog), memory, clock);
    let entry = engine.catalog.state().tables().next().map(Arc::clone).unwrap();
    let new = || {
        let (schema, batch) = rows(&[5]);
        let file = store::parquet::encode(&schema, vec![vec![batch]]).unwrap();
        data_files::NewFile {
            file,
            sequences: SequenceRange::single(entry.persisted_through.next()),
            deletions_applied: 0,
        }
    };
    let not_committed = files.put(entry.id, vec![new()]).await.unwrap().unwrap();
    let committed = files.put(entry.id, vec![new()]).await.unwrap().unwrap();
    files.may_be_unused(&not_committed);
    files.may_be_unused(&committed);
    files.remove_unused().await;
    assert_eq!(fixture.objects().await.len(), 3, "nothing is decided");

    let through = entry.persisted_through.next();
    let commit = CatalogChange::Persisted { table: entry.id, files: committed.clone(), through };
    engine.catalog.commit(|_| Ok(vec![commit.clone()])).await.unwrap();
    files.remove_unused().await;
    let objects = fixture.objects().await;
    assert_eq!(objects.len(), 2);
    assert!(objects.contains(&Path::from(committed[0].path.as_str())), "{objects:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_deleted_table_go_after_the_grace_period() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1]).await;
    fixture.engine.delete_table(&database(), &table(), HardDelete::Now).await.unwrap();
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

/// The problems that are found in the fixture's store.
async fn problems(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let verified = verify::verify(&fixture.store, clock, &mut |problem| found.push(problem.to_string())).await.unwrap();
    assert_eq!(verified.unwrap().problems, found.len());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_store_has_no_problems_and_an_empty_one_no_catalog() {
    let fixture = Fixture::new().await;
    for start in 0..3 {
        fixture.persist(&[start, 10 + start]).await;
    }
    assert_eq!(problems(&fixture).await, [""; 0]);
    fixture.engine.compact_all().await.unwrap();
    assert_eq!(problems(&fixture).await, [""; 0]);
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    assert_eq!(verify::verify(&Store::in_memory(), clock, &mut |_| {}).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_shortened_or_changed_file_is_named() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1, 2, 3]).await;
    let path = Path::from(fixture.files().files[0].path.as_str());
    let objects = fixture.store.objects();
    let whole = objects.get(&path).await.unwrap().bytes().await.unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 20) {
        let mut changed = whole.to_vec();
        changed[place] ^= 0x10;
        objects.put(&path, changed.into()).await.unwrap();
        let found = problems(&fixture).await;
        assert!(found.len() == 1 && found[0].contains(path.as_ref()) && found[0].contains("checksum"), "{found:?}");
    }
    objects.put(&path, whole.slice(..whole.len() - 1).into()).await.unwrap();
    let found = problems(&fixture).await;
    assert!(found.len() == 1 && found[0].contains("bytes and should have"), "{found:?}");
    objects.delete(&path).await.unwrap();
    let found = problems(&fixture).await;
    assert!(found.len() == 1 && found[0].contains("missing"), "{found:?}");
}

/// The columns of a file with another first one.
fn with_first(file: &DataFile, change: impl Fn(&mut ColumnStatistics)) -> FileColumns {
    let mut columns: Vec<ColumnStatistics> = file.columns.iter().collect();
    change(&mut columns[0]);
    columns.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_checksums_fit_but_whose_rows_do_not_is_named() {
    type Spoil = fn(&mut DataFile);
    let cases: [(&[i64], Spoil, &str); 6] = [
        (&[5, 4], |_| {}, "row 1 does not lie behind"),
        (&[5, 5], |_| {}, "row 1 does not lie behind"),
        (&[5, 6], |file| file.rows = 3, "it has 2 rows and should have 3"),
        (&[5, 6], |file| file.row_groups[0].time = TimeRange::from_nanos(5, 7), "its times are"),
        (
            &[5, 6],
            |file| file.columns = with_first(file, |column| column.nulls = 1),
            "is null in 0 rows and should be in 1",
        ),
        (
            &[5, 6],
            |file| {
                let bounds = Some((Scalar::Float(2.0), Scalar::Float(3.0)));
                file.columns = with_first(file, |column| column.bounds = bounds.clone());
            },
            "outside the file's bounds",
        ),
    ];
    for (times, spoil, expected) in cases {
        let fixture = Fixture::new().await;
        fixture.persist(&[1]).await;
        let (schema, batch) = rows(times);
        let encoded = store::parquet::encode(&schema, vec![vec![batch]]).unwrap();
        let catalog = &fixture.engine.catalog;
        let memory = fixture.engine.checked_files().clone();
        let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
        let files = data_files::DataFiles::new(fixture.store.clone(), Arc::clone(catalog), memory, clock);
        let entry = catalog.state().tables().next().map(Arc::clone).unwrap();
        let sequence = entry.persisted_through.next();
        let new =
            data_files::NewFile { file: encoded, sequences: SequenceRange::single(sequence), deletions_applied: 0 };
        let mut file = files.put(entry.id, vec![new]).await.unwrap().unwrap().remove(0);
        spoil(&mut file);
        let persisted = CatalogChange::Persisted { table: entry.id, files: vec![file], through: sequence };
        catalog.commit(|_| Ok(vec![persisted.clone()])).await.unwrap();
        let found = problems(&fixture).await;
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_table_is_kept_until_its_time_and_then_goes() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1]).await;
    fixture.engine.delete_table(&database(), &table(), HardDelete::Default).await.unwrap();
    assert!(fixture.engine.snapshot(&database(), "t").is_none());
    fixture.clock.advance(71 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0);
    assert_eq!(fixture.engine.table_facts(&database())[0].file_rows, 1);
    fixture.clock.advance(2 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 1, "the grace period was over long ago");
    assert_eq!(fixture.objects().await, []);
    assert!(fixture.engine.table_facts(&database()).is_empty());
    let error = fixture.engine.undelete_table(&database(), "t", None).await.unwrap_err();
    assert_eq!(error.to_string(), "deleted table not found: t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_table_comes_back_with_rows_that_were_in_no_file_and_is_left_alone_meanwhile() {
    let fixture = Fixture::new().await;
    for start in 0..3 {
        fixture.persist(&[start, 10 + start]).await;
    }
    let (schema, batch) = rows(&[50]);
    let write = Rows { tables: vec![TableRows { table: table(), schema, batch }] };
    fixture.engine.write(&database(), write, Durability::Synced).await.unwrap();
    fixture.engine.set_retention(&database(), None, Some(HOUR)).await.unwrap();
    fixture.engine.delete_table(&database(), &table(), HardDelete::Never).await.unwrap();
    fixture.engine.compact_all().await.unwrap();
    fixture.clock.advance(1000 * HOUR);
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0);

    // Its name is free; the one that has it now stays as it is.
    fixture.engine.set_retention(&database(), None, None).await.unwrap();
    fixture.persist(&[99]).await;
    let taken = fixture.engine.undelete_table(&database(), "t", None).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    let old = TableName::new("old").unwrap();
    assert_eq!(fixture.engine.undelete_table(&database(), "t", Some(&old)).await.unwrap(), old);
    let counts = |name: &str| {
        let snapshot = fixture.engine.snapshot(&database(), name).unwrap();
        let in_files: u64 = snapshot.files.iter().map(|file| file.rows).sum();
        (snapshot.files.len(), in_files, snapshot.runs.len())
    };
    assert_eq!((counts("old"), counts("t")), ((4, 7, 0), (1, 1, 0)));
    assert_eq!(fixture.engine.collect_garbage().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_deleted_tables_of_one_name_one_must_be_chosen() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        fixture.persist(&[1]).await;
        fixture.engine.delete_table(&database(), &table(), HardDelete::Default).await.unwrap();
        fixture.clock.advance(HOUR);
    }
    let names: Vec<String> = fixture.engine.table_facts(&database()).into_iter().map(|table| table.name).collect();
    let error = fixture.engine.undelete_table(&database(), "t", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(names.len() == 2 && names.iter().all(|name| error.to_string().contains(name.as_str())), "{error}");
    fixture.engine.undelete_table(&database(), &names[0], None).await.unwrap();

    // The other one can be dropped at once, by the name that it has since.
    let other = TableName::new(&names[1]).unwrap();
    fixture.engine.delete_table(&database(), &other, HardDelete::Now).await.unwrap();
    let left: Vec<String> = fixture.engine.table_facts(&database()).into_iter().map(|table| table.name).collect();
    assert_eq!(left, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_cache_is_filled_can_be_seen() {
    let fixture = Fixture::new().await;
    fixture.persist(&[1, 2, 3]).await;
    let (schema, batch) = rows(&[4]);
    let rows = Rows { tables: vec![TableRows { table: table(), schema, batch }] };
    fixture.engine.write(&database(), rows, Durability::Synced).await.unwrap();
    let shape = CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None };
    let cache = CacheDefinition { name: "newest".to_owned(), shape };
    fixture.engine.create_cache(&database(), &table(), cache).await.unwrap();
    let state = || fixture.engine.cache_facts(&database(), CacheKind::Last).remove(0).state;
    assert_eq!(state(), CacheState::Filling(0.0));

    let unfilled = fixture.engine.unfilled_caches().remove(0);
    let fill = fixture.engine.fill_cache(&unfilled).unwrap();
    assert_eq!(state(), CacheState::Filling(0.0));
    fill.advance(1);
    assert_eq!(state(), CacheState::Filling(0.25));
    fill.advance(9);
    assert_eq!(state(), CacheState::Filling(1.0));
    // Another one, begun meanwhile, is the one that counts.
    let again = fixture.engine.fill_cache(&unfilled).unwrap();
    assert_eq!(state(), CacheState::Filling(0.0));
    let newest = fixture.files().runs[0].sorted().unwrap().clone();
    assert!(!fill.finish(&newest).unwrap());
    assert!(again.finish(&newest).unwrap());
    assert_eq!(state(), CacheState::Ready);
}
