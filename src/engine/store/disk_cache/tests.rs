#![expect(clippy::single_range_in_vec_init, reason = "runs of slots are compared")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::model::{Sequence, SequenceRange, TableId, TimeRange, Timestamp};

const SLOT: u64 = 64 << 10;

const CATALOG: Uuid = Uuid::from_u128(7);

/// The year 2100: later than the times that the file system gives to what is written.
const NOW: i64 = 4_102_444_800_000_000_000;

/// A data file of these lengths.
pub(super) fn data_file(id: u64, data_bytes: u64, tail_bytes: u64) -> DataFile {
    DataFile {
        id: FileId::new(id),
        table: TableId::new(1),
        path: format!("{id}.parquet"),
        bytes: data_bytes + tail_bytes,
        data_bytes,
        tail_crc32c: 0,
        rows: 1,
        time: TimeRange::from_nanos(0, 0),
        sequences: SequenceRange::single(Sequence::new(1)),
        deletions_applied: 0,
        created: Timestamp::from_nanos(0),
        row_groups: Vec::new(),
        columns: std::iter::empty().collect(),
    }
}

/// The bytes of a file at a place: different everywhere, and never zero as in a hole.
fn content(file: u64, range: Range<u64>) -> Bytes {
    range.map(|byte| ((byte / 8 * 31 + byte + file * 7) % 251 + 1) as u8).collect()
}

struct Fixture {
    directory: TempDir,
    files: Vec<DataFile>,
    bytes_max: u64,
    clock: Arc<ManualClock>,
}

impl Fixture {
    /// Files 0, 1, … with these lengths of data, and 1000 bytes behind it.
    fn new(bytes_max: u64, lengths: &[u64]) -> Self {
        let files = lengths.iter().enumerate().map(|(id, length)| data_file(id as u64, *length, 1000)).collect();
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW)));
        Self { directory: tempfile::tempdir().unwrap(), files, bytes_max, clock }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn open(&self) -> Result<DiskCache, Error> {
        self.open_for(CATALOG)
    }

    fn open_for(&self, catalog: Uuid) -> Result<DiskCache, Error> {
        let settings = DiskCacheSettings { directory: self.root(), bytes_max: self.bytes_max };
        DiskCache::open(&settings, catalog, self.files.iter(), Arc::<ManualClock>::clone(&self.clock) as Arc<dyn Clock>)
    }

    async fn opened(&self) -> DiskCache {
        let cache = self.open().unwrap();
        cache.settle().await; // what is there is found in the background
        cache
    }

    /// Keeps part of a file's data, and waits.
    async fn keep(&self, cache: &DiskCache, file: u64, range: Range<u64>) {
        let bytes = content(file, range.clone());
        cache.keep_data(&self.files[file as usize], &range, &bytes, move |start, bytes| {
            bytes == content(file, start..start + bytes.len() as u64)
        });
        cache.settle().await;
    }

    /// The parts of a file's data that are there, all of them right.
    async fn held(&self, cache: &DiskCache, file: u64) -> Vec<Range<u64>> {
        let data = &self.files[file as usize];
        let is_right = move |start: u64, bytes: &[u8]| bytes == content(file, start..start + bytes.len() as u64);
        let whole = 0..data.data_bytes;
        let found = cache.read_data(&Handle::current(), data, std::slice::from_ref(&whole), is_right).await;
        cache.settle().await;
        assert!(found.iter().all(|(range, bytes)| *bytes == content(file, range.clone())));
        found.into_iter().map(|(range, _)| range).collect()
    }

    /// The place of a file's bytes.
    fn path(&self, file: u64) -> PathBuf {
        self.root().join(CATALOG.to_string()).join(file.to_string())
    }
}

/// What the files below a directory take of the disk.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { disk_bytes(&path) } else { fs::metadata(path).unwrap().blocks() * 512 }).sum()
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart() {
    let fixture = Fixture::new(1 << 30, &[10 * SLOT + 77, 3]);
    let cache = fixture.opened().await;
    assert_eq!(fixture.held(&cache, 0).await, []);
    fixture.keep(&cache, 0, 2 * SLOT..4 * SLOT).await;
    fixture.keep(&cache, 0, 9 * SLOT..10 * SLOT + 77).await;
    fixture.keep(&cache, 1, 0..3).await;
    cache.keep_tail(&fixture.files[1], &Bytes::from(vec![5; 1000]));
    cache.settle().await;
    let parts = [2 * SLOT..4 * SLOT, 9 * SLOT..10 * SLOT + 77];
    assert_eq!(fixture.held(&cache, 0).await, parts);
    let before = cache.metrics();
    cache.close().await;
    fixture.keep(&cache, 0, 0..SLOT).await; // too late, and no harm
    drop(cache);

    let cache = fixture.opened().await;
    assert_eq!(cache.metrics().bytes, before.bytes);
    assert_eq!(fixture.held(&cache, 0).await, parts);
    assert_eq!(fixture.held(&cache, 1).await, [0..3]);
    let tail = cache.read_tail(&Handle::current(), &fixture.files[1], |bytes| bytes == [5; 1000]).await;
    assert_eq!(tail.map(|tail| tail.len()), Some(1000));
    assert!(cache.read_tail(&Handle::current(), &fixture.files[0], |_| true).await.is_none());
    let metrics = cache.metrics();
    assert_eq!((metrics.hits, metrics.misses), (4 + 1 + 1, 7 + 1), "{metrics:?}");
}

#[tokio::test]
async fn what_is_wrong_does_not_come_in() {
    let fixture = Fixture::new(1 << 30, &[4 * SLOT]);
    let cache = fixture.opened().await;
    cache.keep_data(&fixture.files[0], &(0..SLOT), &Bytes::from(vec![1; SLOT as usize]), |_, _| false);
    cache.keep_data(&fixture.files[0], &(0..SLOT), &Bytes::from_static(b"short"), |_, _| true);
    cache.settle().await;
    assert_eq!((cache.metrics().bytes, cache.metrics().refused), (0, 1));
}

#[tokio::test]
async fn whatever_happened_to_a_cache_file_is_a_miss() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("a bit", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0], 2 * SLOT + 5).unwrap();
        }),
        ("cut", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(SLOT).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("another's", |path| fs::copy(path.with_file_name("1"), path).map(drop).unwrap()),
    ];
    for (name, damage) in damages {
        for is_running in [true, false] {
            let fixture = Fixture::new(1 << 30, &[4 * SLOT, 4 * SLOT]);
            let mut cache = fixture.opened().await;
            fixture.keep(&cache, 0, 0..4 * SLOT).await;
            fixture.keep(&cache, 1, 0..4 * SLOT).await;
            if is_running {
                damage(&fixture.path(0));
            } else {
                cache.close().await;
                damage(&fixture.path(0));
                cache = fixture.opened().await;
            }
            assert_eq!(fixture.held(&cache, 0).await, [], "{name}, running: {is_running}");
            assert!(!fixture.path(0).exists(), "{name}, running: {is_running}");
            assert_eq!(fixture.held(&cache, 1).await, [0..4 * SLOT], "others stay");
            fixture.keep(&cache, 0, 0..4 * SLOT).await;
            assert_eq!(fixture.held(&cache, 0).await, [0..4 * SLOT], "and it can come again");
        }
    }
}

#[tokio::test]
async fn the_disk_is_not_used_beyond_the_bound() {
    let lengths: Vec<u64> = (0..12).map(|file| (3 + file) * SLOT + file * 1000).collect();
    let fixture = Fixture::new(20 * SLOT, &lengths);
    let cache = fixture.opened().await;
    for file in 0..12 {
        for slot in 0..3 {
            fixture.keep(&cache, file, slot * SLOT..(slot + 1) * SLOT).await;
            let (metrics, disk) = (cache.metrics(), disk_bytes(&fixture.root()));
            assert!(disk <= metrics.bytes && metrics.bytes <= metrics.bytes_max, "{disk} {metrics:?}");
        }
    }
    assert!(cache.metrics().evictions >= 5, "{:?}", cache.metrics());
    assert_eq!(fixture.held(&cache, 0).await, []);
    assert_eq!(fixture.held(&cache, 11).await, [0..3 * SLOT]);
    cache.close().await;

    let fixture = Fixture { bytes_max: 4 * SLOT, ..fixture };
    let cache = fixture.opened().await;
    assert!(
        cache.metrics().bytes <= 4 * SLOT && disk_bytes(&fixture.root()) <= 4 * SLOT,
        "a lower bound holds at once"
    );
    assert_eq!(fixture.held(&cache, 11).await, [0..3 * SLOT], "what was used last stays");
}

#[tokio::test]
async fn what_is_used_stays_also_over_a_restart() {
    let fixture = Fixture::new(3 * (SLOT + 8192), &[SLOT; 4]);
    let cache = fixture.opened().await;
    for file in 0..3 {
        fixture.keep(&cache, file, 0..SLOT).await;
    }
    fixture.clock.advance(MARK_INTERVAL);
    assert_eq!(fixture.held(&cache, 0).await, [0..SLOT]);
    cache.close().await;
    let cache = fixture.opened().await;
    fixture.keep(&cache, 3, 0..SLOT).await;
    assert_eq!(fixture.held(&cache, 0).await, [0..SLOT]);
    assert_eq!(cache.metrics().evictions, 1);
}

#[tokio::test]
async fn files_that_are_gone_leave_the_disk() {
    let fixture = Fixture::new(1 << 30, &[SLOT; 3]);
    let cache = fixture.opened().await;
    for file in 0..3 {
        fixture.keep(&cache, file, 0..SLOT).await;
    }
    cache.retain(HashSet::from([FileId::new(1), FileId::new(2)]));
    cache.settle().await;
    assert!(!fixture.path(0).exists() && fixture.path(1).exists());
    cache.close().await;

    let mut fixture = fixture;
    fixture.files.pop();
    let cache = fixture.opened().await;
    assert!(fixture.path(1).exists() && !fixture.path(2).exists(), "gone while nobody looked");
    assert_eq!(cache.bytes_of(FileId::new(1)), cache.metrics().bytes);
    cache.close().await;

    let cache = fixture.open_for(Uuid::from_u128(8)).unwrap();
    cache.settle().await;
    assert!(!fixture.path(1).exists(), "of another catalog");
}

#[tokio::test]
async fn a_directory_that_is_removed_begins_anew() {
    let fixture = Fixture::new(1 << 30, &[4 * SLOT, SLOT]);
    let cache = fixture.opened().await;
    fixture.keep(&cache, 0, 0..4 * SLOT).await;
    fs::remove_dir_all(fixture.root()).unwrap();
    assert_eq!(fixture.held(&cache, 0).await, []);
    fixture.keep(&cache, 1, 0..SLOT).await;
    assert_eq!(fixture.held(&cache, 1).await, [0..SLOT]);
    assert_eq!(fixture.open().unwrap_err().kind(), ErrorKind::Conflict, "and it is locked again");
}

#[tokio::test]
async fn one_process_has_a_directory() {
    let fixture = Fixture::new(1 << 30, &[]);
    let cache = fixture.opened().await;
    let error = fixture.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("--disk-cache-dir"), "{error}");
    cache.close().await;
    fixture.opened().await;
}

#[tokio::test]
async fn a_directory_of_other_things_is_left_alone() {
    let fixture = Fixture::new(1 << 30, &[]);
    fs::create_dir_all(fixture.root()).unwrap();
    fs::write(fixture.root().join("thesis.tex"), "years").unwrap();
    assert_eq!(fixture.open().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(fixture.root()).unwrap().count(), 1);

    let taken = Fixture::new(1 << 30, &[]);
    fs::write(taken.root(), "a file").unwrap();
    assert_eq!(taken.open().unwrap_err().kind(), ErrorKind::Unavailable);
}
