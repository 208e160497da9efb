//! What the log promises, over disks in memory that can be watched, stopped and broken.

mod damage;
mod faults;

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use bytes::Bytes;
use futures::FutureExt;
use std::io;

use super::segment::segment_name;
use super::*;
use crate::clock::SystemClock;
use crate::error::ErrorKind;
use crate::model::DatabaseId;

const CATALOG: Uuid = Uuid::from_u128(7);

/// Every wait of these tests ends after this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A write of two rows to `table` that can be told from every other by `value`, with `payload` in it.
fn record_with(table: u32, value: i64, payload: &str) -> WriteRecord {
    let host: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(host),
        Arc::new(Float64Array::from(vec![None, Some(0.5)])),
        Arc::new(StringArray::from(vec![Some(payload), None])),
        Arc::new(Int64Array::from(vec![value, value])),
    ];
    let metadata = HashMap::from([("kind".to_owned(), "tag".to_owned())]);
    let schema = Schema::new(vec![
        Field::new("host", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), true)
            .with_metadata(metadata),
        Field::new("idle", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
        Field::new("value", DataType::Int64, false),
    ]);
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    WriteRecord { database: DatabaseId::new(3), entries: vec![RecordEntry { table: TableId::new(table), batch }] }
}

fn record(value: i64) -> WriteRecord {
    record_with(1, value, "note")
}

fn value_of(record: &WriteRecord) -> i64 {
    let batch = &record.entries[0].batch;
    batch.column(3).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
}

fn encode(value: i64) -> EncodedRecord {
    EncodedRecord::encode(&record(value)).unwrap()
}

/// Opens the files alone, and returns what they hold as (sequence, value).
pub(super) fn open_log(disk: &Arc<dyn Disk>, segment_bytes: u64) -> Result<(SegmentLog, Vec<(u64, i64)>)> {
    let mut found = Vec::new();
    let log = SegmentLog::open(
        Arc::clone(disk),
        segment_bytes,
        CATALOG,
        Sequence::ZERO,
        Arc::new(SystemClock::new()),
        &mut |sequence, record| {
            found.push((sequence.get(), value_of(&record)));
            Ok(())
        },
    )?;
    Ok((log, found))
}

pub(super) fn append(log: &mut SegmentLog, values: &[i64], durability: Durability) -> Result<Sequence, WalError> {
    let records: Vec<EncodedRecord> = values.iter().map(|&value| encode(value)).collect();
    log.append_group(&records.iter().collect::<Vec<_>>(), durability)
}

pub(super) fn segments(disk: &dyn Disk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.sort();
    names
}

/// A write and the sequence that it got.
type Stored = (Sequence, WriteRecord);

/// Opens the whole log. What is published comes out of the receiver, what is replayed out of the list.
fn open_wal(disk: Arc<dyn Disk>, settings: WalSettings) -> (Wal, Vec<Stored>, mpsc::Receiver<Stored>) {
    let (published, receiver) = mpsc::channel();
    let mut replayed = Vec::new();
    let wal = Wal::open(
        settings,
        disk,
        CATALOG,
        Sequence::ZERO,
        Arc::new(SystemClock::new()),
        &mut |sequence, record| {
            replayed.push((sequence, record));
            Ok(())
        },
        Box::new(move |sequence, record| {
            // The test may have stopped listening.
            let _ = published.send((sequence, record.clone()));
        }),
    )
    .unwrap();
    (wal, replayed, receiver)
}

/// Files in memory whose every sync waits until the test lets it go.
#[derive(Debug)]
struct GatedDisk {
    files: MemoryDisk,
    /// One message for each sync that has begun.
    begun: mpsc::Sender<()>,
    /// One message lets one sync end; when the test drops its end, all do.
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

struct GatedFile {
    file: Box<dyn DiskFile>,
    begun: mpsc::Sender<()>,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
    /// The header's sync passes freely.
    header: bool,
}

fn gated_disk() -> (Arc<GatedDisk>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let disk = GatedDisk { files: MemoryDisk::default(), begun, gate: Arc::new(Mutex::new(gate)) };
    (Arc::new(disk), has_begun, open)
}

impl Disk for GatedDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (file, begun, gate) = (self.files.create(name)?, self.begun.clone(), Arc::clone(&self.gate));
        Ok(Box::new(GatedFile { file, begun, gate, header: true }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.files.read(name)
    }
    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        self.files.read_start(name, length)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.files.truncate(name, length)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.files.sync_directory()
    }
}

impl DiskFile for GatedFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        self.file.append(slices)
    }
    fn sync(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.header) {
            let _ = self.begun.send(());
            let _ = self.gate.lock().recv();
        }
        self.file.sync()
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_exactly_as_it_was() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let mut two_tables = record_with(1, 10, &"long ".repeat(4000));
    two_tables.entries.extend(record_with(2, 10, "").entries);
    let no_rows = WriteRecord { database: DatabaseId::new(9), entries: Vec::new() };
    let written = vec![two_tables, no_rows, record(12)];

    let (wal, replayed, published) = open_wal(Arc::clone(&disk), WalSettings::default());
    assert!(replayed.is_empty());
    assert_eq!(wal.last_sequence(), Sequence::ZERO);
    for (index, record) in written.iter().enumerate() {
        let sequence = wal.append(record.clone(), Durability::Synced).await.unwrap();
        assert_eq!(sequence, Sequence::new(index as u64 + 1));
        assert_eq!(published.recv_timeout(PATIENCE).unwrap(), (sequence, record.clone()));
    }
    assert_eq!(wal.last_sequence(), Sequence::new(3));
    wal.close().await.unwrap();

    let (wal, replayed, _) = open_wal(disk, WalSettings::default());
    let expected: Vec<_> = written.into_iter().enumerate().map(|(at, it)| (Sequence::new(at as u64 + 1), it)).collect();
    assert_eq!(replayed, expected);
    assert_eq!(wal.append(record(13), Durability::Synced).await.unwrap(), Sequence::new(4));
}

#[tokio::test]
async fn a_restart_on_the_real_disk_finds_everything_and_keeps_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new").join("wal");
    // More slices than one call to the kernel takes.
    let mut wide = record(1);
    wide.entries = (0..700).flat_map(|_| record_with(1, 1, &"x".repeat(5000)).entries).collect();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&path).unwrap());
    let (wal, _, _) = open_wal(Arc::clone(&disk), WalSettings { segment_bytes: 1, ..WalSettings::default() });
    wal.append(wide.clone(), Durability::Synced).await.unwrap();
    wal.append(record(2), Durability::Unsynced).await.unwrap();
    assert_eq!(RealDisk::open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    wal.close().await.unwrap();
    drop((wal, disk));

    let (wal, replayed, _) = open_wal(Arc::new(RealDisk::open(&path).unwrap()), WalSettings::default());
    assert_eq!(replayed, [(Sequence::new(1), wide), (Sequence::new(2), record(2))]);
    assert_eq!(wal.metrics().segments, 2);
    let on_disk = [1, 2].map(|first| path.join(segment_name(Sequence::new(first))).metadata().unwrap().len());
    assert_eq!(wal.bytes(), on_disk.iter().sum::<u64>());
}

#[tokio::test]
async fn writes_that_wait_together_share_one_sync() {
    let (disk, begun, gate) = gated_disk();
    let (wal, _, published) = open_wal(disk, WalSettings::default());
    let permits = wal.queue.available_permits();
    let wal = Arc::new(wal);
    let write = |value| {
        let wal = Arc::clone(&wal);
        tokio::spawn(async move { wal.append(record(value), Durability::Synced).await.unwrap() })
    };
    let first = write(0);
    tokio::task::spawn_blocking(move || begun.recv_timeout(PATIENCE).map(|()| begun)).await.unwrap().unwrap();
    let others: Vec<_> = (1..64).map(write).collect();
    let all_queued = permits - 64 * permits_for(encode(1).bytes()) as usize;
    let queued = async {
        while wal.queue.available_permits() > all_queued {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, queued).await.unwrap();
    // The first sync has not ended: nobody may have been told, nothing may be visible.
    assert!(!first.is_finished() && published.try_recv().is_err());
    drop(gate);
    let mut sequences = vec![first.await.unwrap().get()];
    for other in others {
        sequences.push(other.await.unwrap().get());
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=64).collect::<Vec<_>>());
    let metrics = wal.metrics();
    // One sync for the header, one for the first write, and one for the other 63.
    assert_eq!((metrics.groups, metrics.records, metrics.syncs), (2, 64, 3));
    let order: Vec<u64> = published.try_iter().map(|(sequence, _)| sequence.get()).collect();
    assert_eq!(order, (1..=64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_write_without_durability_does_not_wait_for_the_sync_that_follows() {
    let (disk, begun, gate) = gated_disk();
    let settings = WalSettings { unsynced_delay: Duration::from_millis(1), ..WalSettings::default() };
    let (wal, _, published) = open_wal(disk, settings);
    // The gate is shut: the write could not be answered if it waited for a sync.
    wal.append(record(1), Durability::Unsynced).await.unwrap();
    assert_eq!(value_of(&published.recv_timeout(PATIENCE).unwrap().1), 1);
    begun.recv_timeout(PATIENCE).unwrap();
    gate.send(()).unwrap();
    // A durable write after it needs one sync of its own.
    gate.send(()).unwrap();
    wal.append(record(2), Durability::Synced).await.unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    drop(gate);
    wal.close().await.unwrap();
    assert!(begun.try_recv().is_err(), "there was nothing left to sync");
}

#[tokio::test]
async fn a_full_queue_makes_writers_wait() {
    let (disk, begun, gate) = gated_disk();
    // The queue has room for one write of this size; the one before it is larger and takes all of it.
    let settings = WalSettings { queue_bytes_max: 10 * 1024, ..WalSettings::default() };
    let (wal, _, _) = open_wal(disk, settings);
    let large = record_with(1, 1, &"x".repeat(50_000));
    let mut first = Box::pin(wal.append(large, Durability::Synced));
    assert!(first.as_mut().now_or_never().is_none());
    begun.recv_timeout(PATIENCE).unwrap();
    let mut second = Box::pin(wal.append(record(2), Durability::Synced));
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!(wal.queue.available_permits(), 0);
    drop(gate);
    assert_eq!(first.await.unwrap(), Sequence::new(1));
    assert_eq!(second.await.unwrap(), Sequence::new(2));
}

#[tokio::test]
async fn a_closed_log_refuses_writes_and_closing_again_does_nothing() {
    let (wal, _, _) = open_wal(Arc::new(MemoryDisk::default()), WalSettings::default());
    wal.append(record(1), Durability::Synced).await.unwrap();
    wal.close().await.unwrap();
    let refused = wal.append(record(2), Durability::Synced).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(refused.to_string(), "the write-ahead log is closed");
    wal.close().await.unwrap();
    assert_eq!(wal.last_sequence(), Sequence::new(1));
}

/// How often a write was published, counted before and after a moment.
pub(super) type Halves = Arc<[std::sync::atomic::AtomicI64; 2]>;

/// Publishes each write in two halves, as the second table of a write comes after the first.
pub(super) fn publish_halves(halves: &Halves) -> Publish {
    let published = Arc::clone(halves);
    Box::new(move |_, _| {
        published[0].fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(200));
        published[1].fetch_add(1, Ordering::SeqCst);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_looks_between_writes_sees_every_acknowledged_one_and_none_by_half() {
    let halves = Halves::default();
    let wal = Wal::open(
        WalSettings::default(),
        Arc::new(MemoryDisk::default()),
        CATALOG,
        Sequence::ZERO,
        Arc::new(SystemClock::new()),
        &mut |_, _| Ok(()),
        publish_halves(&halves),
    );
    check_looks_between_writes(wal.unwrap(), halves).await;
}

pub(super) async fn check_looks_between_writes(wal: Wal, halves: Halves) {
    use std::sync::atomic::AtomicI64;
    let wal = Arc::new(wal);
    let acknowledged = Arc::new(AtomicI64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (wal, acknowledged) = (Arc::clone(&wal), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for value in 0..100 {
                    wal.append(record(writer * 100 + value), Durability::Unsynced).await.unwrap();
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut looks = 0;
    while !writers.iter().all(|writer| writer.is_finished()) {
        let before = acknowledged.load(Ordering::SeqCst);
        let seen = Arc::clone(&halves);
        let look = move || (seen[0].load(Ordering::SeqCst), seen[1].load(Ordering::SeqCst));
        let (first, second) = wal.between_writes(look).await.unwrap();
        assert_eq!(first, second, "half a write");
        assert!(first >= before, "{first} of {before}");
        looks += 1;
    }
    assert!(looks > 10, "{looks}");
    wal.close().await.unwrap();
    assert_eq!(wal.between_writes(|| ()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn dropping_the_log_ends_its_thread() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let (wal, _, published) = open_wal(Arc::clone(&disk), WalSettings::default());
    wal.append(record(1), Durability::Unsynced).await.unwrap();
    drop(wal);
    assert_eq!(value_of(&published.recv_timeout(PATIENCE).unwrap().1), 1);
    // The thread owned the other end.
    assert_eq!(published.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(open_log(&disk, 1).unwrap().1, [(1, 1)]);
}

#[tokio::test]
async fn a_panic_while_publishing_is_told_to_writers_and_at_close() {
    let wal = Wal::open(
        WalSettings::default(),
        Arc::new(MemoryDisk::default()),
        CATALOG,
        Sequence::ZERO,
        Arc::new(SystemClock::new()),
        &mut |_, _| Ok(()),
        Box::new(|_, _| panic!("the buffer is broken")),
    )
    .unwrap();
    for _ in 0..2 {
        let refused = wal.append(record(1), Durability::Synced).await.unwrap_err();
        assert!(refused.to_string().starts_with("the write-ahead log has stopped"), "{refused}");
    }
    assert_eq!(wal.close().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn segments_go_oldest_first_once_every_table_in_them_is_released() {
    let files = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let (mut log, _) = open_log(&disk, 1).unwrap();
    // One segment a write: tables 1, 2, 1, 1.
    for (table, value) in [(1, 1), (2, 2), (1, 3), (1, 4)] {
        let record = EncodedRecord::encode(&record_with(table, value, "")).unwrap();
        log.append_group(&[&record], Durability::Synced).unwrap();
    }
    let left = |names: &[u64]| {
        let names: Vec<String> = names.iter().map(|&first| segment_name(Sequence::new(first))).collect();
        assert_eq!(segments(&files), names);
    };
    log.release(TableId::new(1), Sequence::new(2));
    left(&[2, 3, 4]);
    log.release(TableId::new(1), Sequence::new(3));
    left(&[2, 3, 4]);
    log.release(TableId::new(2), Sequence::new(2));
    left(&[4]);
    log.release(TableId::new(1), Sequence::new(4));
    left(&[4]);
    assert_eq!(log.metrics().segments, 1);

    // What is left is a log without its oldest segments, and says the same after a restart.
    let (mut log, found) = open_log(&disk, 1).unwrap();
    assert_eq!(found, [(4, 4)]);
    log.forget(TableId::new(1));
    left(&[]);
    append(&mut log, &[5], Durability::Synced).unwrap();
    left(&[5]);
    log.close().unwrap();
    left(&[]);
    assert_eq!(log.metrics().bytes_on_disk, 0);
}

#[test]
fn an_emptied_log_goes_on_with_the_sequence_that_the_catalog_knows() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let open = |first| {
        let clock = Arc::new(SystemClock::new());
        SegmentLog::open(Arc::clone(&disk), 1 << 20, CATALOG, Sequence::new(first), clock, &mut |_, _| Ok(())).unwrap()
    };
    let mut log = open(0);
    assert_eq!(append(&mut log, &[1, 2], Durability::Synced).unwrap(), Sequence::new(1));
    log.release(TableId::new(1), Sequence::new(2));
    log.close().unwrap();
    let mut log = open(3);
    assert_eq!(append(&mut log, &[3], Durability::Synced).unwrap(), Sequence::new(3));
    // The catalog may know of later writes than the log: those that a power cut took after they were persisted.
    let mut log = open(10);
    assert_eq!(append(&mut log, &[10], Durability::Synced).unwrap(), Sequence::new(10));
    assert_eq!(open_log(&disk, 1).unwrap().1, [(3, 3), (10, 10)]);
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let files = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let (mut log, _) = open_log(&disk, 3000).unwrap();
    for value in 1..=20 {
        append(&mut log, &[value], if value % 2 == 0 { Durability::Synced } else { Durability::Unsynced }).unwrap();
    }
    assert!(segments(&files).len() > 3);
    let sizes: u64 = segments(&files).iter().map(|name| files.read(name).unwrap().len() as u64).sum();
    assert_eq!(log.metrics().bytes_on_disk, sizes);
    let expected: Vec<(u64, i64)> = (1..=20).map(|value| (value as u64, value)).collect();
    assert_eq!(open_log(&disk, 3000).unwrap().1, expected);
}
