use std::ops::Range;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::model::{FileColumns, Sequence, SequenceRange, TableId, TimeRange, Timestamp};

const FILE: FileId = FileId::new(7);
const PIECE_BYTES: usize = 1000;

fn cache(bytes_max: usize, recency: Duration) -> (RecentCache, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_000_000_000_000)));
    let settings = RecentSettings { bytes_max, recency };
    (RecentCache::new(settings, Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>), clock)
}

fn large_cache() -> RecentCache {
    cache(1 << 20, Duration::from_secs(1)).0
}

/// A file whose newest row is of this second.
fn file(newest: i64) -> DataFile {
    DataFile {
        id: FILE,
        table: TableId::new(1),
        path: "file.parquet".to_owned(),
        bytes: 0,
        data_bytes: 0,
        tail_crc32c: 0,
        rows: 1,
        time: TimeRange::from_nanos(0, newest * 1_000_000_000),
        sequences: SequenceRange::single(Sequence::new(1)),
        deletions_applied: 0,
        created: Timestamp::from_nanos(0),
        row_groups: Vec::new(),
        columns: FileColumns::from_iter([]),
    }
}

/// Gives piece `n` as bytes of value `n`, and remembers what it was asked for.
#[derive(Default)]
struct Source {
    requests: Mutex<Vec<Vec<usize>>>,
    fails: AtomicBool,
    damaged: Option<usize>,
}

impl PieceSource for Source {
    type Error = String;

    async fn fetch(&self, numbers: Vec<usize>) -> Vec<Result<Bytes, String>> {
        self.requests.lock().push(numbers.clone());
        // As long as a request takes: everybody else gets to run meanwhile.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let piece = |number: usize| {
            if self.fails.load(Ordering::SeqCst) {
                return Err("down".to_owned());
            }
            if self.damaged == Some(number) {
                return Err(format!("piece {number} is damaged"));
            }
            Ok(Bytes::from(vec![number as u8; PIECE_BYTES]))
        };
        numbers.into_iter().map(piece).collect()
    }
}

/// As a reader does it: what is there, then the rest.
async fn read(cache: &RecentCache, source: &Source, numbers: Range<usize>) -> Result<HashMap<usize, Bytes>, String> {
    let (mut pieces, missing) = cache.held(FILE, numbers.clone().collect()).await;
    if !missing.is_empty() {
        pieces.extend(cache.load(FILE, missing, source).await?);
    }
    assert!(numbers.clone().all(|number| pieces[&number] == vec![number as u8; PIECE_BYTES]));
    assert_eq!(pieces.len(), numbers.len());
    Ok(pieces)
}

#[tokio::test]
async fn what_is_missing_comes_with_one_request() {
    let (cache, source) = (large_cache(), Source::default());
    read(&cache, &source, 2..4).await.unwrap();
    read(&cache, &source, 0..30).await.unwrap();
    read(&cache, &source, 0..30).await.unwrap();
    let others: Vec<usize> = (0..2).chain(4..30).collect();
    assert_eq!(*source.requests.lock(), [vec![2, 3], others]);
    let metrics = cache.metrics();
    assert_eq!((metrics.hits, metrics.misses, metrics.evictions), (32, 30, 0));
    assert_eq!(metrics.bytes, 30 * (PIECE_BYTES + ENTRY_BYTES) as u64);
}

#[tokio::test]
async fn many_pieces_come_with_few_requests() {
    let (cache, source) = (large_cache(), Source::default());
    read(&cache, &source, 0..500).await.unwrap();
    let requests = source.requests.lock();
    assert!(requests.len() < 10, "{requests:?}");
    let mut asked: Vec<usize> = requests.iter().flatten().copied().collect();
    asked.sort_unstable();
    assert_eq!(asked, (0..500).collect::<Vec<_>>(), "no piece twice");
}

#[tokio::test]
async fn readers_at_once_make_one_request_together() {
    let (cache, source) = (large_cache(), Source::default());
    // Each wants a piece that the one before wants too, and one that nobody wanted before.
    let reads = (0..20).map(|reader| read(&cache, &source, reader..reader + 2));
    for result in join_all(reads).await {
        result.unwrap();
    }
    let mut asked: Vec<usize> = source.requests.lock().iter().flatten().copied().collect();
    asked.sort_unstable();
    assert_eq!(asked, (0..21).collect::<Vec<_>>(), "no piece twice");

    let (cache, source) = (large_cache(), Source::default());
    for result in join_all((0..20).map(|_| read(&cache, &source, 0..50))).await {
        result.unwrap();
    }
    assert_eq!(source.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_failure_answers_everybody_and_is_not_kept() {
    let (cache, source) = (large_cache(), Source::default());
    source.fails.store(true, Ordering::SeqCst);
    for result in join_all((0..20).map(|_| read(&cache, &source, 0..5))).await {
        assert_eq!(result.unwrap_err(), "down");
    }
    assert_eq!(source.requests.lock().len(), 1);
    assert_eq!(cache.metrics().bytes, 0);
    source.fails.store(false, Ordering::SeqCst);
    read(&cache, &source, 0..5).await.unwrap();
    assert_eq!(source.requests.lock().len(), 2);
}

#[tokio::test]
async fn damage_in_one_piece_leaves_the_others() {
    let cache = large_cache();
    let source = Source { damaged: Some(1), ..Source::default() };
    assert_eq!(read(&cache, &source, 0..4).await.unwrap_err(), "piece 1 is damaged");
    read(&cache, &source, 2..4).await.unwrap();
    assert_eq!(*source.requests.lock(), [vec![0, 1, 2, 3]]);
    assert_eq!(read(&cache, &source, 0..4).await.unwrap_err(), "piece 1 is damaged");
    assert_eq!(source.requests.lock()[1..], [vec![1]], "asked for again");
}

#[tokio::test]
async fn whoever_waited_fetches_when_the_first_reader_gives_up() {
    let (cache, source) = (large_cache(), Source::default());
    let mut first = Box::pin(read(&cache, &source, 0..3));
    while source.requests.lock().is_empty() {
        assert!(futures::poll!(&mut first).is_pending());
    }
    let mut second = Box::pin(read(&cache, &source, 0..5));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, second).await.unwrap().unwrap();
    let mut asked: Vec<usize> = source.requests.lock()[1..].iter().flatten().copied().collect();
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn memory_stays_within_its_bound_and_the_least_recently_used_goes() {
    let bytes_max = 10 * (PIECE_BYTES + ENTRY_BYTES);
    let (cache, source) = (cache(bytes_max, Duration::ZERO).0, Source::default());
    for number in 0..100 {
        read(&cache, &source, number..number + 1).await.unwrap();
        // The first one is used all the time.
        read(&cache, &source, 0..1).await.unwrap();
        assert!(cache.metrics().bytes <= bytes_max as u64, "{:?}", cache.metrics());
    }
    let metrics = cache.metrics();
    assert_eq!((metrics.bytes, metrics.bytes_max), (bytes_max as u64, bytes_max as u64));
    assert_eq!(metrics.evictions, 90);
    let (held, _) = cache.held(FILE, (0..100).collect()).await;
    let mut held: Vec<usize> = held.into_keys().collect();
    held.sort_unstable();
    assert_eq!(held, [0, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
}

#[tokio::test]
async fn more_than_fits_at_once_is_read_and_not_all_kept() {
    let bytes_max = 10 * (PIECE_BYTES + ENTRY_BYTES);
    let (cache, source) = (cache(bytes_max, Duration::ZERO).0, Source::default());
    read(&cache, &source, 0..200).await.unwrap();
    assert!(cache.metrics().bytes <= bytes_max as u64, "{:?}", cache.metrics());
}

#[test]
fn a_file_is_recent_by_its_newest_row() {
    let (cache, clock) = cache(1 << 20, Duration::from_secs(100));
    assert!(cache.takes(&file(900)));
    assert!(!cache.takes(&file(899)));
    assert!(cache.takes(&file(5000)), "of a clock that is ahead of ours");
    clock.advance(Duration::from_secs(1));
    assert!(!cache.takes(&file(900)));
}

#[test]
fn a_long_recency_takes_everything_and_no_memory_takes_nothing() {
    assert!(cache(1, Duration::MAX).0.takes(&file(0)));
    let off = cache(0, Duration::MAX).0;
    assert!(!off.is_on() && !off.takes(&file(5000)));
}
