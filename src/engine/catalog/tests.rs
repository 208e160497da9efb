//! The catalog's promises, each over memory and a real directory, with a store that fails on purpose.

mod deleted;
mod failing_stores;
mod opening;
mod scale;
mod several_nodes;
mod state;
mod stored_bytes;

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
    CacheDefinition, CacheShape, Column, ColumnKind, ColumnName, ColumnStatistics, DataFile, DatabaseId, DatabaseName,
    FieldType, FileColumns, Newest, Rights, RowGroup, Scalar, Sequence, SequenceRange, TableId, TableName, TableSchema,
    TimeRange, Timestamp,
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
        columns: FileColumns::from_iter([ColumnStatistics {
            name: ColumnName::new("usage").unwrap(),
            nulls: 1,
            bounds: Some((Scalar::Float(-0.0), Scalar::Float(f64::INFINITY))),
        }]),
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
    format!(
        "{databases:?} {tables:?} {next:?} {:?} {:?}",
        state.last_persisted_sequence(),
        state.garbage().collect::<Vec<_>>()
    )
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

fn mark(sequence: u64, time: i64) -> RecordMark {
    RecordMark { sequence, nonce: Uuid::from_u128(u128::from(sequence) << 64), time: Timestamp::from_nanos(time) }
}
