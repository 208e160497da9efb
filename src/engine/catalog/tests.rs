//! The catalog's promises, each over memory and a real directory, with a store that fails on purpose.

mod deleted;
mod scale;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

use super::format::{decode_checkpoint, decode_record, encode_checkpoint, encode_record};
use super::state::{RecordMark, TicketKey};
use super::*;
use crate::clock::ManualClock;
use crate::engine::store::fault_store::{Aftermath, FaultRates, FaultStore, Moment};
use crate::engine::store::file::DurableFileStore;
use crate::error::{ErrorKind, Result};
use crate::model::{
    Column, ColumnKind, ColumnName, ColumnStatistics, DataFile, DatabaseId, DatabaseName, FieldType, RowGroup, Scalar,
    Sequence, SequenceRange, TableId, TableName, TableSchema, TimeRange, Timestamp,
};

const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Memory,
    Directory,
}

/// An empty store; the directory goes when the value goes.
fn objects(kind: Kind) -> (Option<tempfile::TempDir>, Arc<dyn ObjectStore>) {
    match kind {
        Kind::Memory => (None, Arc::new(InMemory::new())),
        Kind::Directory => {
            let directory = tempfile::tempdir().unwrap();
            let store = Arc::new(DurableFileStore::open(directory.path()).unwrap());
            (Some(directory), store)
        }
    }
}

fn settings() -> CatalogSettings {
    CatalogSettings { retry_pause: Duration::from_micros(200), ..CatalogSettings::default() }
}

async fn open_with(objects: &Arc<dyn ObjectStore>, settings: CatalogSettings) -> Result<Catalog, CatalogError> {
    let store = Store::new(Arc::clone(objects), "test");
    Catalog::open(&store, Arc::new(ManualClock::new(NOW)), settings).await
}

async fn open(objects: &Arc<dyn ObjectStore>) -> Catalog {
    open_with(objects, settings()).await.unwrap()
}

fn database(text: &str) -> DatabaseName {
    DatabaseName::new(text).unwrap()
}

fn column(name: &str, kind: ColumnKind) -> Column {
    Column { name: ColumnName::new(name).unwrap(), kind }
}

fn schema() -> TableSchema {
    TableSchema::new([column("host", ColumnKind::Tag), column("usage", ColumnKind::Field(FieldType::Float))])
}

fn create_database(id: u32, name: &str) -> CatalogChange {
    CatalogChange::CreateDatabase { id: DatabaseId::new(id), name: database(name) }
}

fn create_table(database: u32, id: u32, name: &str) -> CatalogChange {
    let name = TableName::new(name).unwrap();
    CatalogChange::CreateTable { database: DatabaseId::new(database), id: TableId::new(id), name, schema: schema() }
}

fn data_file(id: u64, table: u32, first: u64, last: u64) -> DataFile {
    DataFile {
        id: FileId::new(id),
        table: TableId::new(table),
        path: format!("dbs/1-a/{table}-b/1970-01-01/{id:010}.parquet"),
        bytes: 100 + id,
        data_bytes: 90,
        tail_crc32c: 0xDEAD_BEEF,
        rows: 7,
        time: TimeRange::from_nanos(-5, 5),
        sequences: SequenceRange { first: Sequence::new(first), last: Sequence::new(last) },
        deletions_applied: 0,
        created: NOW,
        row_groups: vec![RowGroup { rows: 7, time: TimeRange::from_nanos(-5, 5) }],
        columns: vec![ColumnStatistics {
            name: ColumnName::new("usage").unwrap(),
            nulls: 1,
            bounds: Some((Scalar::Float(-0.0), Scalar::Float(f64::INFINITY))),
        }],
    }
}

fn persisted(table: u32, files: Vec<DataFile>, through: u64) -> CatalogChange {
    CatalogChange::Persisted { table: TableId::new(table), files, through: Sequence::new(through) }
}

fn empty_state() -> CatalogState {
    let mark = RecordMark { sequence: 1, nonce: Uuid::from_u128(1), time: NOW };
    CatalogState::genesis(Uuid::from_u128(2), TicketKey([7; 48]), mark)
}

fn state_after(changes: &[CatalogChange]) -> CatalogState {
    changes.iter().fold(empty_state(), |state, change| state.apply(change, NOW).unwrap())
}

/// What two catalogs with the same history have in common, whatever their identifiers and nonces.
fn contents(state: &CatalogState) -> String {
    let databases: Vec<_> = state.databases().map(|database| (database.id, &database.name)).collect();
    let tables: Vec<_> = state.tables().collect();
    let next = (state.next_database_id(), state.next_table_id(), state.next_file_id());
    format!("{databases:?} {tables:?} {next:?} {:?} {:?}", state.last_persisted_sequence(), state.garbage())
}

async fn listed(objects: &Arc<dyn ObjectStore>, directory: object_store::path::Path) -> Vec<u64> {
    let metas: Vec<_> = objects.list(Some(&directory)).try_collect().await.unwrap();
    let mut numbers: Vec<u64> = metas.iter().filter_map(|meta| paths::catalog_sequence(&meta.location)).collect();
    numbers.sort_unstable();
    numbers
}

/// Changes the bytes of a stored object.
async fn rewrite(objects: &Arc<dyn ObjectStore>, path: &object_store::path::Path, edit: impl Fn(&mut Vec<u8>)) {
    let mut bytes = objects.get(path).await.unwrap().bytes().await.unwrap().to_vec();
    edit(&mut bytes);
    objects.put(path, bytes.into()).await.unwrap();
}

// The pure step.

#[test]
fn a_name_is_taken_once_and_free_again_after_a_delete() {
    let state = state_after(&[create_database(1, "nyc"), create_table(1, 1, "cpu"), create_table(1, 2, "mem")]);
    assert!(matches!(state.apply(&create_database(2, "nyc"), NOW), Err(ChangeError::Exists)));
    assert!(matches!(state.apply(&create_table(1, 3, "cpu"), NOW), Err(ChangeError::Exists)));
    let text = state.apply(&create_table(1, 3, "cpu"), NOW).unwrap_err().to_string();
    assert_eq!(text, "attempted to create a resource that already exists");

    let state = state.apply(&CatalogChange::DeleteTable { id: TableId::new(1) }, NOW).unwrap();
    assert!(state.table_by_name(DatabaseId::new(1), "cpu").is_none());
    let state = state.apply(&create_table(1, 3, "cpu"), NOW).unwrap();
    assert_eq!(state.table_by_name(DatabaseId::new(1), "cpu").unwrap().id, TableId::new(3));
    assert_eq!(state.table_count(), 2);

    let state = state.apply(&CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }, NOW).unwrap();
    assert_eq!((state.table_count(), state.databases().count()), (0, 0));
    let state = state.apply(&create_database(2, "nyc"), NOW).unwrap();
    assert_eq!(state.database_by_name(&database("nyc")).unwrap().id, DatabaseId::new(2));
    assert_eq!(state.tables_of(DatabaseId::new(2)).count(), 0);
}

#[test]
fn numbers_must_be_the_next_ones() {
    let state = state_after(&[create_database(1, "a")]);
    for change in [create_database(1, "b"), create_database(3, "b"), create_table(1, 0, "t"), create_table(1, 2, "t")] {
        assert!(matches!(state.apply(&change, NOW), Err(ChangeError::Number { .. })), "{change:?}");
    }
    assert!(matches!(state.apply(&create_table(9, 1, "t"), NOW), Err(ChangeError::NoDatabase { .. })));
    let all = CatalogChange::ReserveFileIds { count: u64::MAX };
    assert!(matches!(state.apply(&all, NOW), Err(ChangeError::NumbersExhausted { .. })));
}

#[test]
fn columns_are_added_at_the_end_and_keep_their_kind() {
    let state = state_after(&[create_database(1, "a"), create_table(1, 1, "cpu")]);
    let add = |columns| CatalogChange::AddColumns { table: TableId::new(1), columns };
    let next = state.apply(&add(vec![column("az", ColumnKind::Tag), column("host", ColumnKind::Tag)]), NOW).unwrap();
    let names: Vec<_> = next.table(TableId::new(1)).unwrap().schema.sort_key().map(str::to_owned).collect();
    assert_eq!(names, ["host", "az", "time"]);
    assert_eq!(*state.table(TableId::new(1)).unwrap().schema, schema(), "the older state has not changed");

    let clash = add(vec![column("usage", ColumnKind::Field(FieldType::Integer))]);
    assert!(matches!(state.apply(&clash, NOW), Err(ChangeError::Columns { source: Some(_), .. })));
    let twice = add(vec![column("x", ColumnKind::Tag), column("x", ColumnKind::Field(FieldType::Float))]);
    assert!(matches!(state.apply(&twice, NOW), Err(ChangeError::Columns { source: None, .. })));
}

#[test]
fn files_are_added_once_and_in_order() {
    let state = state_after(&[
        create_database(1, "a"),
        create_table(1, 1, "cpu"),
        CatalogChange::ReserveFileIds { count: 10 },
        persisted(1, vec![data_file(2, 1, 3, 6), data_file(1, 1, 1, 2)], 6),
    ]);
    let table = state.table(TableId::new(1)).unwrap();
    assert_eq!(table.files.iter().map(|file| file.id.get()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((table.persisted_through, state.last_persisted_sequence()), (Sequence::new(6), Sequence::new(6)));

    for repeated in [persisted(1, vec![], 6), persisted(1, vec![data_file(3, 1, 6, 9)], 9)] {
        assert!(matches!(state.apply(&repeated, NOW), Err(ChangeError::AlreadyPersisted { .. })), "{repeated:?}");
    }
    for unfit in [data_file(3, 2, 7, 9), data_file(11, 1, 7, 9), data_file(3, 1, 7, 10), data_file(3, 1, 9, 8)] {
        assert!(matches!(state.apply(&persisted(1, vec![unfit], 9), NOW), Err(ChangeError::File { .. })));
    }
    assert!(state.apply(&persisted(1, vec![], 7), NOW).is_ok(), "nothing but deleted rows may have been persisted");
}

#[test]
fn the_files_of_a_deleted_table_become_garbage_and_it_takes_no_more() {
    let state = state_after(&[
        create_database(1, "a"),
        create_table(1, 1, "cpu"),
        CatalogChange::ReserveFileIds { count: 10 },
        persisted(1, vec![data_file(1, 1, 1, 2), data_file(2, 1, 3, 4)], 4),
    ]);
    let later = Timestamp::from_nanos(NOW.as_nanos() + 1);
    let state = state.apply(&CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }, later).unwrap();
    let garbage: Vec<_> = state.garbage().iter().map(|file| (file.bytes, file.deleted_at)).collect();
    assert_eq!(garbage, [(101, later), (102, later)]);
    assert_eq!(state.last_persisted_sequence(), Sequence::new(4), "numbers of writes must not be used again");

    let error = state.apply(&persisted(1, vec![data_file(3, 1, 5, 6)], 6), NOW).unwrap_err();
    assert!(matches!(CatalogError::from(error), CatalogError::TableDeleted { .. }));
    assert!(matches!(state.apply(&persisted(2, vec![], 6), NOW), Err(ChangeError::NoTable { .. })));

    let paths = vec![state.garbage()[0].path.clone(), "unknown".to_owned()];
    let state = state.apply(&CatalogChange::CollectGarbage { paths }, NOW).unwrap();
    assert_eq!(state.garbage().iter().map(|file| file.bytes).collect::<Vec<_>>(), [102]);
}

#[test]
fn every_table_of_many_is_found() {
    let mut state = state_after(&[create_database(1, "a")]);
    for id in 1..=1000 {
        state = state.apply(&create_table(1, id, &format!("t{id:04}")), NOW).unwrap();
    }
    for id in (1..=1000).filter(|id| id % 3 == 0) {
        state = state.apply(&CatalogChange::DeleteTable { id: TableId::new(id) }, NOW).unwrap();
    }
    assert_eq!((state.table_count(), state.tables().count()), (667, 667));
    assert!(state.tables().map(|table| table.id).is_sorted());
    assert!(state.tables_of(DatabaseId::new(1)).map(|table| &table.name).is_sorted());
    assert!((1..=1000).all(|id| state.table(TableId::new(id)).is_some() == (id % 3 != 0)));
}

// The bytes.

fn column_strategy() -> impl Strategy<Value = Column> {
    let kind = prop_oneof![
        Just(ColumnKind::Tag),
        prop_oneof![
            Just(FieldType::Float),
            Just(FieldType::Integer),
            Just(FieldType::Unsigned),
            Just(FieldType::String),
            Just(FieldType::Boolean)
        ]
        .prop_map(ColumnKind::Field)
    ];
    let name = "\\PC{1,8}".prop_filter_map("a reserved name", |text| ColumnName::new(&text).ok());
    (name, kind).prop_map(|(name, kind)| Column { name, kind })
}

fn scalar_strategy() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<f64>().prop_filter("NaN equals nothing", |value| !value.is_nan()).prop_map(Scalar::Float),
        any::<i64>().prop_map(Scalar::Integer),
        any::<u64>().prop_map(Scalar::Unsigned),
        any::<String>().prop_map(Scalar::String),
        any::<bool>().prop_map(Scalar::Boolean),
    ]
}

fn range_strategy() -> impl Strategy<Value = TimeRange> {
    any::<(i64, i64)>().prop_map(|(a, b)| TimeRange::from_nanos(a.min(b), a.max(b)))
}

fn file_strategy() -> impl Strategy<Value = DataFile> {
    let statistics = (column_strategy(), any::<u64>(), proptest::option::of((scalar_strategy(), scalar_strategy())))
        .prop_map(|(column, nulls, bounds)| ColumnStatistics { name: column.name, nulls, bounds });
    let groups = (any::<u64>(), range_strategy()).prop_map(|(rows, time)| RowGroup { rows, time });
    let numbers = any::<(u64, u32, u64, u64, u32, u64, u64, u64)>();
    let lists = (proptest::collection::vec(groups, 0..3), proptest::collection::vec(statistics, 0..3));
    (numbers, any::<String>(), range_strategy(), lists).prop_map(|(numbers, path, time, (row_groups, columns))| {
        let (id, table, bytes, data_bytes, tail_crc32c, rows, first, last) = numbers;
        DataFile {
            sequences: SequenceRange { first: Sequence::new(first), last: Sequence::new(last) },
            ..DataFile {
                id: FileId::new(id),
                table: TableId::new(table),
                path,
                bytes,
                data_bytes,
                tail_crc32c,
                rows,
                time,
                deletions_applied: rows / 2,
                created: time.max,
                row_groups,
                columns,
                sequences: SequenceRange::single(Sequence::ZERO),
            }
        }
    })
}

fn change_strategy() -> impl Strategy<Value = CatalogChange> {
    let columns = || proptest::collection::vec(column_strategy(), 0..4);
    prop_oneof![
        (any::<u32>(), "[a-z0-9][a-z0-9_-]{0,8}")
            .prop_map(|(id, name)| CatalogChange::CreateDatabase { id: DatabaseId::new(id), name: database(&name) }),
        (any::<(u32, u32)>(), "\\PC{1,9}", columns()).prop_map(|((database, id), name, columns)| {
            CatalogChange::CreateTable {
                database: DatabaseId::new(database),
                id: TableId::new(id),
                name: TableName::new(&name).unwrap(),
                schema: TableSchema::new(columns),
            }
        }),
        (any::<u32>(), columns())
            .prop_map(|(table, columns)| CatalogChange::AddColumns { table: TableId::new(table), columns }),
        any::<u32>().prop_map(|id| CatalogChange::DeleteDatabase { id: DatabaseId::new(id) }),
        any::<u32>().prop_map(|id| CatalogChange::DeleteTable { id: TableId::new(id) }),
        any::<(u32, Option<i64>)>().prop_map(|(id, at)| CatalogChange::SoftDeleteDatabase {
            id: DatabaseId::new(id),
            hard_delete_at: at.map(Timestamp::from_nanos),
        }),
        any::<(u32, Option<i64>)>().prop_map(|(id, at)| CatalogChange::SoftDeleteTable {
            id: TableId::new(id),
            hard_delete_at: at.map(Timestamp::from_nanos),
        }),
        (any::<u32>(), "[a-z0-9][a-z0-9_-]{0,8}")
            .prop_map(|(id, name)| CatalogChange::UndeleteDatabase { id: DatabaseId::new(id), name: database(&name) }),
        (any::<u32>(), "\\PC{1,9}").prop_map(|(id, name)| CatalogChange::UndeleteTable {
            id: TableId::new(id),
            name: TableName::new(&name).unwrap(),
        }),
        (any::<(u32, u64)>(), proptest::collection::vec(file_strategy(), 0..3)).prop_map(
            |((table, through), files)| {
                CatalogChange::Persisted { table: TableId::new(table), files, through: Sequence::new(through) }
            }
        ),
        any::<u64>().prop_map(|count| CatalogChange::ReserveFileIds { count }),
        proptest::collection::vec(any::<String>(), 0..3).prop_map(|paths| CatalogChange::CollectGarbage { paths }),
    ]
}

fn mark(sequence: u64, time: i64) -> RecordMark {
    RecordMark { sequence, nonce: Uuid::from_u128(u128::from(sequence) << 64), time: Timestamp::from_nanos(time) }
}

/// One of many small steps that all fit, chosen by `choice`.
fn fitting_change(state: &CatalogState, choice: u32) -> CatalogChange {
    let databases: Vec<_> = state.databases().map(|database| database.id.get()).collect();
    let tables: Vec<_> = state.tables().cloned().collect();
    let (pick, name) = (choice as usize / 12, format!("n{choice}-{}", state.version()));
    let hard_delete_at = (pick % 2 == 0).then_some(NOW);
    let deleted = state.deleted_tables().next().filter(|table| state.database(table.entry.database).is_some());
    let table = (!tables.is_empty()).then(|| &tables[pick % tables.len()]);
    match (choice % 12, table) {
        (8, Some(table)) => CatalogChange::SoftDeleteTable { id: table.id, hard_delete_at },
        (9, _) if !databases.is_empty() => {
            let id = DatabaseId::new(databases[pick % databases.len()]);
            CatalogChange::SoftDeleteDatabase { id, hard_delete_at }
        }
        (10, _) if deleted.is_some() => {
            CatalogChange::UndeleteTable { id: deleted.unwrap().entry.id, name: TableName::new(&name).unwrap() }
        }
        (11, _) if state.deleted_databases().next().is_some() => {
            CatalogChange::UndeleteDatabase { id: state.deleted_databases().next().unwrap().id, name: database(&name) }
        }
        (1 | 2, _) if !databases.is_empty() => {
            create_table(databases[pick % databases.len()], state.next_table_id().get(), &name)
        }
        (3, Some(table)) => CatalogChange::AddColumns {
            table: table.id,
            columns: vec![column(&name, ColumnKind::Tag), column("more", ColumnKind::Field(FieldType::String))],
        },
        (4 | 5, Some(table)) if state.next_file_id().get() > 1 => {
            let (id, next) = (state.next_file_id().get() - 1, table.persisted_through.get() + 1);
            persisted(table.id.get(), vec![data_file(id, table.id.get(), next, next + 2)], next + 2)
        }
        (6, Some(table)) => CatalogChange::DeleteTable { id: table.id },
        (7, _) => CatalogChange::ReserveFileIds { count: 1 + u64::from(choice) },
        _ => create_database(state.next_database_id().get(), &name),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_record_reads_back_as_it_was(changes in proptest::collection::vec(change_strategy(), 0..4), time: i64) {
        let content = RecordContent::Changes(changes);
        let record = Record { catalog: Uuid::from_u128(9), mark: mark(3, time), content };
        prop_assert_eq!(decode_record(&encode_record(&record), 3).unwrap(), record);
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was(choices in proptest::collection::vec(any::<u32>(), 0..40)) {
        let mut state = empty_state();
        for (number, choice) in choices.into_iter().enumerate() {
            let change = fitting_change(&state, choice);
            state = state.advance(&[change], mark(number as u64 + 2, choice.into())).unwrap();
        }
        let read = decode_checkpoint(&encode_checkpoint(&state), state.version()).unwrap();
        prop_assert_eq!(read, state);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_record(&Bytes::from(bytes.clone()), 1).is_err());
        prop_assert!(decode_checkpoint(&Bytes::from(bytes), 1).is_err());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let changes =
        vec![create_database(1, "nyc"), create_table(1, 1, "cpu"), persisted(1, vec![data_file(1, 1, 1, 2)], 2)];
    let content = RecordContent::Changes(changes);
    let record = encode_record(&Record { catalog: Uuid::from_u128(9), mark: mark(5, 77), content });
    let checkpoint = encode_checkpoint(&state_after(&[create_database(1, "nyc"), create_table(1, 1, "cpu")]));
    assert!(decode_record(&record, 5).is_ok() && decode_checkpoint(&checkpoint, 1).is_ok());
    for (bytes, number) in [(record, 5), (checkpoint, 1)] {
        let is_refused = |damaged: Vec<u8>| {
            let damaged = Bytes::from(damaged);
            let versions = |error| matches!(error, FormatError::Version { .. } | FormatError::Kind { .. });
            // Neither may it be taken for another version or kind: that would send somebody to look elsewhere.
            if number == 5 {
                decode_record(&damaged, number).is_err_and(|error| !versions(error))
            } else {
                decode_checkpoint(&damaged, number).is_err_and(|error| !versions(error))
            }
        };
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(is_refused(damaged), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(is_refused(bytes[..cut].to_vec()), "cut at {cut}");
        }
        assert!(is_refused([bytes.as_ref(), &[0]].concat()));
    }
}

#[tokio::test]
async fn a_newer_version_and_a_misplaced_record_are_told_apart() {
    let (_, objects) = objects(Kind::Memory);
    open(&objects).await.commit(|_| Ok(vec![create_database(1, "a")])).await.unwrap();
    rewrite(&objects, &paths::catalog_record(2), |bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..68]), &bytes[72..]);
        bytes[68..72].copy_from_slice(&checksum.to_le_bytes());
    })
    .await;
    let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.report().contains("it has version 2, this program knows versions up to 1"), "{}", error.report());

    let first = objects.get(&paths::catalog_record(1)).await.unwrap().bytes().await.unwrap();
    objects.put(&paths::catalog_record(2), first.into()).await.unwrap();
    let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.report().contains("it says that it is number 1"), "{}", error.report());
}

// Opening.

#[rstest]
#[tokio::test]
async fn a_catalog_comes_back_as_it_was(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let catalog = open(&objects).await;
    catalog.commit(|_| Ok(vec![create_database(1, "nyc"), create_table(1, 1, "cpu")])).await.unwrap();
    let before = catalog.commit(|_| Ok(vec![create_table(1, 2, "mem")])).await.unwrap();
    assert_eq!(*open(&objects).await.state(), *before);
    catalog.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_checkpoints()).await, [3]);
    assert_eq!(*open(&objects).await.state(), *before);
    assert!(matches!(catalog.commit(|_| Ok(vec![create_database(2, "b")])).await, Err(CatalogError::Closed)));
}

#[rstest]
#[tokio::test]
async fn of_many_first_openers_all_get_the_same_catalog(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let openers = (0..8).map(|_| {
        let objects = Arc::clone(&objects);
        tokio::spawn(async move { open(&objects).await.state() })
    });
    let states = futures::future::join_all(openers).await;
    let distinct: HashSet<_> =
        states.into_iter().map(|state| state.unwrap()).map(|state| (state.id(), *state.ticket_key())).collect();
    assert_eq!(distinct.len(), 1);
}

#[tokio::test]
async fn the_key_for_tickets_is_kept_and_never_printed() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    let key = *catalog.state().ticket_key();
    catalog.close().await.unwrap();
    let again = open(&objects).await;
    assert_eq!(*again.state().ticket_key(), key);
    assert!(format!("{again:?}").contains("TicketKey(..)"));
}

#[rstest]
#[tokio::test]
async fn opening_costs_the_checkpoint_and_the_tail_however_long_the_history(
    #[values((Kind::Memory, 10_000), (Kind::Directory, 600))] case: (Kind, u64),
) {
    let (_directory, objects) = objects(case.0);
    let catalog = open(&objects).await;
    catalog.commit(|_| Ok(vec![create_database(1, "a"), create_table(1, 1, "t")])).await.unwrap();
    for write in 1..=case.1 {
        catalog.commit(|_| Ok(vec![persisted(1, vec![], write)])).await.unwrap();
    }
    catalog.close().await.unwrap();
    let reopened = open(&objects).await;
    for write in 1..=10 {
        reopened.commit(|_| Ok(vec![persisted(1, vec![], case.1 + write)])).await.unwrap();
    }
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    let counted: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    assert_eq!(open(&counted).await.state(), reopened.state());
    let requests = faults.requests();
    // The checkpoint, ten records, twice the one after them, and once more the checkpoint.
    assert_eq!((requests.gets, requests.lists, requests.puts), (14, 2, 0));

    // How far checkpoints lag behind is a matter of speed, except where a catalog was closed: there are two of these now.
    reopened.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_checkpoints()).await.len(), 2);
    let records = listed(&objects, paths::catalog_log()).await;
    assert_eq!((records[0], records.len()), (1, 11), "the first record and the ten between the checkpoints");
}

#[rstest]
#[tokio::test]
async fn a_damaged_checkpoint_falls_back_to_the_one_before(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let settings = CatalogSettings { checkpoint_records: 4, ..settings() };
    let catalog = open_with(&objects, settings.clone()).await.unwrap();
    for id in 1..=20 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        tokio::task::yield_now().await;
    }
    catalog.close().await.unwrap();
    let checkpoints = listed(&objects, paths::catalog_checkpoints()).await;
    assert_eq!(checkpoints.len(), 2);
    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[1]), |bytes| bytes[100] ^= 1).await;
    assert_eq!(open_with(&objects, settings.clone()).await.unwrap().state(), catalog.state());
    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[1]), |bytes| bytes.clear()).await;
    assert_eq!(open_with(&objects, settings.clone()).await.unwrap().state(), catalog.state());

    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[0]), |bytes| bytes.truncate(50)).await;
    let error: Error = open_with(&objects, settings).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
}

#[rstest]
#[tokio::test]
async fn a_damaged_or_missing_record_stops_the_opening_and_is_named(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
) {
    let (_directory, objects) = objects(kind);
    let catalog = open(&objects).await;
    for id in 1..=9 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
    }
    for (sequence, is_removed) in [(5, false), (5, true), (1, true)] {
        let path = paths::catalog_record(sequence);
        let whole = objects.get(&path).await.unwrap().bytes().await.unwrap();
        if is_removed {
            objects.delete(&path).await.unwrap();
        } else {
            rewrite(&objects, &path, |bytes| bytes[80] ^= 4).await;
        }
        let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(path.as_ref()), "{error}");
        objects.put(&path, whole.into()).await.unwrap();
        assert_eq!(open(&objects).await.state(), catalog.state());
    }
}

#[tokio::test]
async fn a_log_without_its_beginning_needs_a_checkpoint() {
    let (_, objects) = objects(Kind::Memory);
    for id in 1..=3 {
        let catalog = open(&objects).await;
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        catalog.close().await.unwrap();
    }
    for checkpoint in listed(&objects, paths::catalog_checkpoints()).await {
        objects.delete(&paths::catalog_checkpoint(checkpoint)).await.unwrap();
    }
    let error = open_with(&objects, settings()).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoCheckpoint { .. }), "{error}");
}

// Failing stores.

/// Commits that use every kind of change. Each fits the state after those before it.
fn script() -> Vec<Vec<CatalogChange>> {
    vec![
        vec![create_database(1, "nyc"), create_table(1, 1, "cpu")],
        vec![CatalogChange::ReserveFileIds { count: 5 }],
        vec![CatalogChange::AddColumns { table: TableId::new(1), columns: vec![column("az", ColumnKind::Tag)] }],
        vec![persisted(1, vec![data_file(1, 1, 1, 4)], 4)],
        vec![create_table(1, 2, "mem"), create_database(2, "sf")],
        vec![persisted(1, vec![data_file(2, 1, 5, 9)], 9), persisted(2, vec![data_file(3, 2, 6, 8)], 9)],
        vec![CatalogChange::DeleteTable { id: TableId::new(1) }],
        vec![CatalogChange::CollectGarbage { paths: vec![data_file(1, 1, 1, 4).path] }, create_table(1, 3, "cpu")],
        vec![CatalogChange::DeleteDatabase { id: DatabaseId::new(2) }],
        vec![CatalogChange::ReserveFileIds { count: 5 }],
    ]
}

/// What the catalog must contain after 0, 1, 2, … commits of the script.
fn expected_contents() -> Vec<String> {
    let mut state = empty_state();
    let mut expected = vec![contents(&state)];
    for changes in script() {
        state = changes.iter().fold(state, |state, change| state.apply(change, NOW).unwrap());
        expected.push(contents(&state));
    }
    expected
}

/// Runs the script from its `done`-th commit on; returns how many are done and the failure that ended it.
async fn run_script(catalog: &Catalog, mut done: usize) -> (usize, Option<CatalogError>) {
    for changes in script().into_iter().skip(done) {
        if let Err(error) = catalog.commit(|_| Ok(changes.clone())).await {
            return (done, Some(error));
        }
        done += 1;
    }
    (done, None)
}

fn frugal() -> CatalogSettings {
    CatalogSettings { checkpoint_records: 3, ..settings() }
}

#[rstest]
#[tokio::test]
async fn a_process_that_dies_at_any_put_loses_and_doubles_nothing(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(Moment::Before, Moment::AfterCommit)] moment: Moment,
) {
    let expected = expected_contents();
    for put in 0.. {
        let (_directory, objects) = objects(kind);
        let faults = FaultStore::new(Arc::clone(&objects), put);
        faults.fail_put(put, moment, Aftermath::StaysDown);
        let dying: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        let acknowledged = match open_with(&dying, frugal()).await {
            Ok(catalog) => {
                let (done, error) = run_script(&catalog, 0).await;
                assert!(error.is_none_or(|error| Error::from(error).kind() == ErrorKind::Unavailable));
                assert_eq!(contents(&catalog.state()), expected[done], "memory says what was acknowledged");
                let _ = catalog.close().await; // the store may be down
                done
            }
            Err(_) => 0,
        };

        let catalog = open_with(&objects, frugal()).await.unwrap();
        let found = contents(&catalog.state());
        let done = (acknowledged..=acknowledged + 1).find(|done| expected.get(*done) == Some(&found));
        let done = done.unwrap_or_else(|| panic!("put {put}: after {acknowledged} commits there is {found}"));
        let (done, error) = run_script(&catalog, done).await;
        assert!(error.is_none(), "put {put}: {error:?}");
        assert_eq!(contents(&catalog.state()), expected[done]);
        catalog.close().await.unwrap();
        assert_eq!(contents(&open(&objects).await.state()), expected[expected.len() - 1]);
        if faults.requests().puts <= put {
            assert!(put > 12, "checkpoints and marks are among the puts");
            return;
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_single_failed_put_is_never_felt(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(Moment::Before, Moment::AfterCommit)] moment: Moment,
) {
    let expected = expected_contents();
    for put in 0.. {
        let (_directory, objects) = objects(kind);
        let faults = FaultStore::new(Arc::clone(&objects), put);
        faults.fail_put(put, moment, Aftermath::Recovers);
        let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        let catalog = open_with(&failing, frugal()).await.unwrap();
        let (_, error) = run_script(&catalog, 0).await;
        assert!(error.is_none(), "put {put}: {error:?}");
        catalog.close().await.unwrap();
        assert_eq!(contents(&open(&objects).await.state()), expected[expected.len() - 1]);
        if faults.requests().puts <= put {
            return;
        }
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_found_by_the_next_one() {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    let catalog = open(&failing).await;
    faults.fail_put(0, Moment::AfterCommit, Aftermath::StaysDown);
    let error = catalog.commit(|_| Ok(vec![create_database(1, "a")])).await.unwrap_err();
    assert!(matches!(error, CatalogError::Unknown { .. }), "{error}");
    assert_eq!(catalog.state().databases().count(), 0);

    faults.heal();
    let state = catalog.commit(|state| Ok(vec![create_database(state.next_database_id().get(), "b")])).await.unwrap();
    let names: Vec<_> = state.databases().map(|database| (database.id.get(), database.name.as_str())).collect();
    assert_eq!(names, [(1, "a"), (2, "b")]);
    assert_eq!(*open(&objects).await.state(), *state);
}

#[rstest]
#[tokio::test]
async fn a_store_that_fails_a_third_of_the_time_loses_nothing_and_heals(#[values(1, 2, 3, 4, 5, 6, 7, 8)] seed: u64) {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), seed);
    let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    let rates = FaultRates {
        before: 200,
        after_commit: 200,
        not_found_once: 100,
        slow: 50,
        slow_for: Duration::from_micros(100),
        list_omits: 1,
    };
    drop(open(&objects).await); // so that every opening below finds the same catalog
    let (mut acknowledged, mut attempted) = (HashSet::new(), HashSet::new());
    for round in 0..4 {
        faults.set_rates(rates);
        let Ok(catalog) = open_with(&failing, frugal()).await else { continue };
        for number in 0..25 {
            let name = database(&format!("d{round}-{number}"));
            attempted.insert(name.clone());
            let create = |state: &CatalogState| {
                if state.database_by_name(&name).is_some() {
                    return Err(Error::new(ErrorKind::Conflict, "it exists"));
                }
                Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() }])
            };
            if catalog.commit(create).await.is_ok() {
                acknowledged.insert(name.clone());
            }
        }
        faults.heal();
        let last = database(&format!("healed{round}"));
        let create = |state: &CatalogState| {
            Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: last.clone() }])
        };
        catalog.commit(create).await.expect("a healed store takes commits");
        acknowledged.insert(last);
        assert_eq!(*open(&objects).await.state(), *catalog.state());
    }
    assert!(faults.requests().faults > 50);
    let found: HashSet<_> = open(&objects).await.state().databases().map(|database| database.name.clone()).collect();
    assert!(acknowledged.is_subset(&found));
    assert!(found.iter().all(|name| attempted.contains(name) || acknowledged.contains(name)));
}

// Several nodes.

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_race_give_out_no_number_twice(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let settings = CatalogSettings { file_ids_per_block: 3, checkpoint_records: 10, ..settings() };
    let nodes = [
        Arc::new(open_with(&objects, settings.clone()).await.unwrap()),
        Arc::new(open_with(&objects, settings.clone()).await.unwrap()),
    ];
    let tasks = (0..16usize).map(|task| {
        let node = Arc::clone(&nodes[task % 2]);
        tokio::spawn(async move {
            let mut files = Vec::new();
            for number in 0..4 {
                let name = database(&format!("d{task}-{number}"));
                let create = |state: &CatalogState| {
                    Ok(vec![
                        CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() },
                        create_table(state.next_database_id().get(), state.next_table_id().get(), "t"),
                    ])
                };
                let state = node.commit(create).await.unwrap();
                assert_eq!(state.tables_of(state.database_by_name(&name).unwrap().id).count(), 1);
                files.push(node.next_file_id().await.unwrap());
            }
            files
        })
    });
    let files: Vec<FileId> =
        futures::future::join_all(tasks).await.into_iter().flat_map(|files| files.unwrap()).collect();
    assert_eq!(files.iter().collect::<HashSet<_>>().len(), 64);
    let (first, second) = (nodes[0].refresh().await.unwrap(), nodes[1].refresh().await.unwrap());
    assert_eq!(first, second);
    assert_eq!((first.databases().count(), first.table_count()), (64, 64));
    for node in nodes {
        node.close().await.unwrap();
    }
    let reopened = open_with(&objects, settings).await.unwrap();
    assert_eq!(reopened.state(), first);
    assert!(reopened.next_file_id().await.unwrap() >= first.next_file_id(), "a restart skips what was reserved");
}

#[rstest]
#[tokio::test]
async fn a_node_that_slept_through_a_trim_finds_back(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(false, true)] refreshes: bool,
) {
    let (_directory, objects) = objects(kind);
    let (sleeper, worker) = (open(&objects).await, open_with(&objects, frugal()).await.unwrap());
    for id in 1..=20 {
        worker.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        tokio::task::yield_now().await;
    }
    worker.close().await.unwrap();
    assert!(!listed(&objects, paths::catalog_log()).await.contains(&2), "the log was trimmed");

    let create = |state: &CatalogState| Ok(vec![create_database(state.next_database_id().get(), "late")]);
    if refreshes {
        assert_eq!(sleeper.refresh().await.unwrap(), worker.state());
    } else {
        let error = sleeper.commit(create).await.unwrap_err();
        assert!(matches!(error, CatalogError::Unknown { source: None, .. }), "{error}");
        assert_eq!(sleeper.state(), worker.state());
    }
    let state = sleeper.commit(create).await.unwrap();
    assert_eq!(state.databases().count(), 21);
    assert_eq!(open(&objects).await.state(), state);
}

#[tokio::test]
async fn a_late_listing_hides_nothing() {
    for omits in [1, 2, 5, 1000] {
        let (_, objects) = objects(Kind::Memory);
        let catalog = open(&objects).await;
        for id in 1..=6 {
            catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        }
        let faults = FaultStore::new(Arc::clone(&objects), 0);
        faults.set_rates(FaultRates { list_omits: omits, not_found_once: 1000, ..FaultRates::default() });
        let late: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        assert_eq!(open(&late).await.state(), catalog.state(), "{omits}");
    }
}

#[tokio::test]
async fn a_listing_that_ignores_its_offset_removes_nothing_that_is_needed() {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    faults.ignore_offset();
    let careless: Arc<dyn ObjectStore> = faults;
    let catalog = open_with(&careless, frugal()).await.unwrap();
    let (_, error) = run_script(&catalog, 0).await;
    assert!(error.is_none(), "{error:?}");
    catalog.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_log()).await.first(), Some(&1), "the first record is never removed");
    let reopened = open_with(&careless, frugal()).await.unwrap();
    assert_eq!(contents(&reopened.state()), expected_contents()[expected_contents().len() - 1]);
}

#[tokio::test]
async fn a_store_that_was_replaced_under_a_running_node_is_noticed() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    for id in 1..=3 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
    }
    for sequence in 1..=4 {
        objects.delete(&paths::catalog_record(sequence)).await.unwrap();
    }
    open(&objects).await;
    let error: Error = catalog.commit(|_| Ok(vec![create_database(4, "d4")])).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_refused_decision_comes_back_as_it_is() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    let error: Error = catalog.commit(|_| Err(Error::not_found("database not found: nyc"))).await.unwrap_err().into();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "database not found: nyc"));
    let before = catalog.state();
    let after = catalog.commit(|_| Ok(Vec::new())).await.unwrap();
    assert!(Arc::ptr_eq(&before, &after), "nothing to do costs no record");
    let contradiction = catalog.commit(|_| Ok(vec![create_database(1, "a"), create_table(1, 2, "t")])).await;
    assert!(contradiction.is_err());
    assert_eq!(catalog.state().databases().count(), 0, "not even the first half");
}
