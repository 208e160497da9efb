//! What the log in a store promises, over a store that fails on purpose.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use uuid::Uuid;

use super::super::{RecordEntry, Wal, WriteRecord};
use super::object::{HEADER_BYTES, Header, Kind};
use super::*;
use crate::clock::SystemClock;
use crate::engine::store::fault_store::{Aftermath, FaultRates, FaultStore, Moment};
use crate::engine::wal::Durability;
use crate::engine::wal::tests::{Halves, check_looks_between_writes, publish_halves};
use crate::error::{ErrorKind, Result};
use crate::model::DatabaseId;

const CATALOG: Uuid = Uuid::from_u128(7);

/// Every wait of these tests ends after this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn record_of(table: u32, value: i64) -> WriteRecord {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    let batch = RecordBatch::try_from_iter([("value", values)]).unwrap();
    WriteRecord { database: DatabaseId::new(3), entries: vec![RecordEntry { table: TableId::new(table), batch }] }
}

fn record(value: i64) -> WriteRecord {
    record_of(1, value)
}

fn value_of(record: &WriteRecord) -> i64 {
    record.entries[0].batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
}

fn settings() -> ObjectLogSettings {
    ObjectLogSettings {
        flush_interval: Duration::from_millis(1),
        patience: PATIENCE,
        retry_pause: Duration::from_millis(1),
        ..ObjectLogSettings::default()
    }
}

/// A store that fails on purpose, over one in memory.
fn store() -> (Arc<InMemory>, Arc<FaultStore>, Store) {
    let memory = Arc::new(InMemory::new());
    let faults = FaultStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, 1);
    let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "test");
    (memory, faults, store)
}

struct Opened {
    wal: Wal,
    /// Sequence and value of what earlier starts left.
    replayed: Vec<(u64, i64)>,
    published: mpsc::Receiver<(u64, i64)>,
}

async fn try_open(store: &Store, epoch: u64, unfinished: &[u64], settings: ObjectLogSettings) -> Result<Opened> {
    let log = ObjectLog { store: store.clone(), catalog: CATALOG, epoch, unfinished: unfinished.to_vec() };
    let (sender, published) = mpsc::channel();
    let mut replayed = Vec::new();
    let wal = Wal::open_in_store(
        settings,
        log,
        Sequence::ZERO,
        Arc::new(SystemClock::new()),
        &mut |sequence, record| {
            replayed.push((sequence.get(), value_of(&record)));
            Ok(())
        },
        Box::new(move |sequence, record| {
            // The test may have stopped listening.
            let _ = sender.send((sequence.get(), value_of(record)));
        }),
    )
    .await?;
    Ok(Opened { wal, replayed, published })
}

/// Opens the log at its start number `epoch`; the one before was killed, or still runs, which looks the same.
async fn open(store: &Store, epoch: u64) -> Opened {
    let unfinished: Vec<u64> = (epoch.saturating_sub(1).max(1)..epoch).collect();
    try_open(store, epoch, &unfinished, settings()).await.unwrap()
}

async fn append(wal: &Wal, value: i64) -> Result<Sequence> {
    wal.append(record(value), Durability::Synced).await
}

async fn objects(store: &dyn ObjectStore) -> Vec<String> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut paths: Vec<String> = listed.into_iter().map(|object| object.location.to_string()).collect();
    paths.sort();
    paths
}

fn path(epoch: u64, index: u64) -> Path {
    Place { epoch, index }.path()
}

async fn get(store: &InMemory, epoch: u64, index: u64) -> Bytes {
    store.get(&path(epoch, index)).await.unwrap().bytes().await.unwrap()
}

async fn kind_of(store: &InMemory, epoch: u64, index: u64) -> Kind {
    Header::decode(&get(store, epoch, index).await, CATALOG, Place { epoch, index }).unwrap().kind
}

#[tokio::test]
async fn what_was_acknowledged_comes_back_in_order_and_sequences_go_on() {
    let (_, _, store) = store();
    let first = open(&store, 1).await;
    for value in 0..20 {
        assert_eq!(append(&first.wal, value).await.unwrap().get(), value as u64 + 1);
    }
    assert_eq!(first.published.try_iter().collect::<Vec<_>>(), (0..20).map(|n| (n as u64 + 1, n)).collect::<Vec<_>>());

    let second = open(&store, 2).await;
    assert_eq!(second.replayed, (0..20).map(|n| (n as u64 + 1, n)).collect::<Vec<_>>());
    assert_eq!(append(&second.wal, 20).await.unwrap().get(), 21);
    let third = open(&store, 3).await;
    assert_eq!(third.replayed.len(), 21);
}

#[tokio::test]
async fn writes_that_wait_share_an_object() {
    let (memory, faults, store) = store();
    let slow = Duration::from_millis(30);
    faults.set_rates(FaultRates { slow: 1000, slow_for: slow, ..FaultRates::default() });
    let opened = open(&store, 1).await;
    let writes = (0..200).map(|value| append(&opened.wal, value));
    futures::future::try_join_all(writes).await.unwrap();
    let count = objects(memory.as_ref()).await.len();
    assert!(count < 50, "{count} objects for 200 writes at once");
    let published: Vec<i64> = opened.published.try_iter().map(|(_, value)| value).collect();
    assert_eq!(published.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_looks_between_writes_sees_every_acknowledged_one_and_none_by_half() {
    let (_, faults, store) = store();
    let slow_for = Duration::from_millis(1); // so that several objects are on their way at each look
    faults.set_rates(FaultRates { slow: 500, slow_for, ..FaultRates::default() });
    let log = ObjectLog { store, catalog: CATALOG, epoch: 1, unfinished: Vec::new() };
    let (halves, clock) = (Halves::default(), Arc::new(SystemClock::new()));
    let publish = publish_halves(&halves);
    let wal = Wal::open_in_store(settings(), log, Sequence::ZERO, clock, &mut |_, _| Ok(()), publish).await;
    check_looks_between_writes(wal.unwrap(), halves).await;
}

#[tokio::test]
async fn a_put_that_fails_or_loses_its_answer_is_never_felt() {
    for moment in [Moment::Before, Moment::AfterCommit] {
        for failing in 0..4 {
            let (_, faults, store) = store();
            let opened = open(&store, 1).await;
            faults.fail_put(failing, moment, Aftermath::Recovers);
            for value in 0..4 {
                append(&opened.wal, value).await.unwrap();
            }
            faults.heal();
            let values: Vec<i64> = open(&store, 2).await.replayed.into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, [0, 1, 2, 3], "{moment:?} of put {failing}");
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_often_loses_and_doubles_nothing() {
    for seed in 0..20 {
        let memory = Arc::new(InMemory::new());
        let faults = FaultStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, seed);
        let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "test");
        let opened = open(&store, 1).await;
        let slow_for = Duration::from_millis(3);
        faults.set_rates(FaultRates { before: 200, after_commit: 200, slow: 300, slow_for, ..FaultRates::default() });
        let writes = (0..100).map(|value| append(&opened.wal, value));
        let sequences = futures::future::try_join_all(writes).await.unwrap();
        faults.heal();
        let expected: BTreeSet<(u64, i64)> = sequences.iter().map(|s| s.get()).zip(0..100).collect();
        let replayed = open(&store, 2).await.replayed;
        assert_eq!(replayed.len(), 100, "seed {seed}");
        assert_eq!(replayed.into_iter().collect::<BTreeSet<_>>(), expected, "seed {seed}");
    }
}

#[tokio::test]
async fn who_is_taken_over_acknowledges_nothing_that_the_other_does_not_know() {
    for seed in 0..60 {
        let memory = Arc::new(InMemory::new());
        let faults = FaultStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, seed);
        let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "test");
        let old = open(&store, 1).await;
        let slow_for = Duration::from_millis(1 + seed % 5);
        faults.set_rates(FaultRates { slow: 600, slow_for, after_commit: 50, ..FaultRates::default() });
        let writing = async {
            let (mut acknowledged, mut released) = (Vec::new(), -1);
            for round in 0.. {
                let writes = (0..4).map(|n| append(&old.wal, round * 4 + n));
                let results = futures::future::join_all(writes).await;
                let refused = results.iter().any(|result| result.is_err());
                // Some of it goes to files meanwhile, and the log lets go of it.
                if round % 3 == 2
                    && let Some(Ok(through)) = results.first()
                {
                    old.wal.release(TableId::new(1), *through);
                    released = released.max(round * 4);
                }
                acknowledged.extend((0..4).filter(|n| results[*n as usize].is_ok()).map(|n| round * 4 + n));
                if refused {
                    break;
                }
            }
            acknowledged.retain(|value| *value > released);
            acknowledged
        };
        let taking_over = async {
            tokio::time::sleep(Duration::from_millis(seed % 13)).await;
            // A put of the end may be the one that fails; whoever starts a server tries again.
            loop {
                match try_open(&store, 2, &[1], settings()).await {
                    Ok(new) => break new,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}: {error}"),
                }
            }
        };
        let (acknowledged, new) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(writing, taking_over) }).await.unwrap();
        let known: BTreeSet<i64> = new.replayed.iter().map(|(_, value)| *value).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|value| !known.contains(value)).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} were acknowledged and are gone");
        assert_eq!(known.len(), new.replayed.len(), "seed {seed}: something came back twice");
        append(&new.wal, -1).await.unwrap();
        let error = append(&old.wal, -2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("taken over"), "{error}");
    }
}

#[tokio::test]
async fn what_a_crash_left_behind_a_gap_does_not_count() {
    let (memory, _, store) = store();
    let old = open(&store, 1).await;
    for value in 0..3 {
        append(&old.wal, value).await.unwrap();
    }
    // The third object was made while the second was under way, and the second never came.
    let third = get(&memory, 1, 3).await;
    let header = Header::decode(&third, CATALOG, Place { epoch: 1, index: 3 }).unwrap();
    let early = Header { confirmed: 2, ..header };
    let rewritten = [early.encode().as_ref(), &third[HEADER_BYTES..]].concat();
    memory.put(&path(1, 3), PutPayload::from(rewritten)).await.unwrap();
    memory.delete(&path(1, 2)).await.unwrap();

    let new = open(&store, 2).await;
    assert_eq!(new.replayed, [(1, 0)]);
    assert_eq!(kind_of(&memory, 1, 2).await, Kind::End);
    append(&new.wal, 9).await.unwrap();
    append(&new.wal, 10).await.unwrap();
    new.wal.close().await.unwrap();
    assert!(!objects(memory.as_ref()).await.contains(&path(1, 3).to_string()));
    assert_eq!(open(&store, 3).await.replayed, [(1, 0), (2, 9), (3, 10)]);
}

#[tokio::test]
async fn an_object_that_the_store_has_lost_stops_the_start_and_is_named() {
    let (memory, _, store) = store();
    let old = open(&store, 1).await;
    for value in 0..5 {
        append(&old.wal, value).await.unwrap();
    }
    memory.delete(&path(1, 3)).await.unwrap();
    let error = try_open(&store, 2, &[1], settings()).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path(1, 3).as_ref()), "{error}");
}

#[tokio::test]
async fn every_flipped_bit_is_found_and_the_object_named() {
    let (memory, _, store) = store();
    let old = open(&store, 1).await;
    append(&old.wal, 1).await.unwrap();
    append(&old.wal, 2).await.unwrap();
    let whole = get(&memory, 1, 1).await;
    let _killed = open(&store, 2).await;
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        memory.put(&path(1, 1), PutPayload::from(damaged)).await.unwrap();
        let error = try_open(&store, 3, &[2], settings()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
        assert!(error.to_string().contains(path(1, 1).as_ref()), "bit {bit}: {error}");
    }
}

#[tokio::test]
async fn what_is_released_goes_and_ends_stay() {
    let (memory, _, store) = store();
    let first = open(&store, 1).await;
    for value in 0..10 {
        append(&first.wal, value).await.unwrap();
    }
    let second = open(&store, 2).await;
    second.wal.append(record_of(2, 100), Durability::Synced).await.unwrap();
    second.wal.release(TableId::new(1), Sequence::new(10));
    second.wal.append(record_of(2, 101), Durability::Synced).await.unwrap(); // says what is needed
    second.wal.append(record_of(2, 102), Durability::Synced).await.unwrap();
    second.wal.forget(TableId::new(2));
    second.wal.close().await.unwrap();
    assert_eq!(second.wal.metrics().segments, 0);
    assert_eq!(objects(memory.as_ref()).await, [path(1, 11).to_string(), path(2, 4).to_string()]);
    assert_eq!(kind_of(&memory, 1, 11).await, Kind::End);
    assert_eq!(kind_of(&memory, 2, 4).await, Kind::End);
    let third = try_open(&store, 3, &[], settings()).await.unwrap();
    assert_eq!(third.replayed, []);
    assert!(append(&second.wal, 5).await.is_err());
}

#[tokio::test]
async fn an_idle_log_lets_go_of_many_objects() {
    let (memory, _, store) = store();
    let opened = open(&store, 1).await;
    for value in 0..300 {
        append(&opened.wal, value).await.unwrap();
    }
    opened.wal.release(TableId::new(1), Sequence::new(300));
    let few = async {
        while objects(memory.as_ref()).await.len() > 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, few).await.unwrap();
}

#[tokio::test]
async fn a_silent_store_is_told_to_the_writer_and_the_log_heals() {
    let (_, faults, store) = store();
    let impatient = ObjectLogSettings { patience: Duration::from_millis(100), ..settings() };
    let opened = try_open(&store, 1, &[], impatient).await.unwrap();
    append(&opened.wal, 1).await.unwrap();
    faults.go_down();
    let error = append(&opened.wal, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("a fault was injected"), "{error}");
    assert_eq!(opened.published.try_iter().count(), 1, "only what is stored is seen");
    faults.heal();
    assert_eq!(append(&opened.wal, 3).await.unwrap().get(), 3);
    assert_eq!(opened.published.try_iter().map(|(_, value)| value).collect::<Vec<_>>(), [2, 3]);
    opened.wal.close().await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_newer_than_the_catalog_is_not_overwritten() {
    let (_, _, store) = store();
    let newer = open(&store, 5).await;
    append(&newer.wal, 1).await.unwrap();
    let error = try_open(&store, 3, &[2], settings()).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
