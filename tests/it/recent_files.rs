//! Recent Parquet files are in memory: how often queries ask the object store, counted.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::ManualClock;
use flightline::engine::EngineSettings;
use flightline::engine::store::Store;
use flightline::engine::store::recent::RecentSettings;
use flightline::error::ErrorKind;
use flightline::model::Timestamp;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::harness::database::TestDatabase;
use crate::harness::store::FaultStore;

const NOW_SECONDS: i64 = 1_700_000_000;

const HOUR_SECONDS: i64 = 3600;

const QUERIES: [&str; 3] = [
    "SELECT host, avg(usage) FROM cpu GROUP BY host ORDER BY host",
    "SELECT * FROM cpu WHERE host = 'h3' AND usage > 50 ORDER BY time",
    "SELECT time, note FROM cpu ORDER BY time DESC LIMIT 3",
];

struct Fixture {
    database: TestDatabase,
    store: Arc<FaultStore>,
    objects: Arc<InMemory>,
    clock: Arc<ManualClock>,
}

impl Fixture {
    async fn new(bytes_max: usize) -> Self {
        let objects = Arc::new(InMemory::new());
        let store = FaultStore::new(Arc::<InMemory>::clone(&objects) as Arc<dyn ObjectStore>, 1);
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW_SECONDS * 1_000_000_000)));
        let recent = RecentSettings { bytes_max, recency: Duration::from_secs(5 * 3600) };
        let database = TestDatabase::with(
            Store::new(Arc::<FaultStore>::clone(&store) as Arc<dyn ObjectStore>, "counted"),
            // What is decoded would hide who asks for bytes.
            EngineSettings { recent, decoded_bytes_max: 0, ..TestDatabase::settings() },
            Arc::<ManualClock>::clone(&clock) as Arc<dyn flightline::clock::Clock>,
        )
        .await;
        Self { database, store, objects, clock }
    }

    /// Writes rows of the second `newest` and those before it, and brings them into a file.
    async fn persist_rows_until(&self, newest: i64) {
        let mut lines = String::new();
        for row in 0..5000 {
            let (host, time) = (row % 10, (newest - row) * 1_000_000_000);
            writeln!(lines, "cpu,host=h{host} usage={},note=\"row {row}\" {time}", row % 100).unwrap();
        }
        self.database.write(&lines).await;
        self.database.engine().persist_all().await.unwrap();
    }

    /// The answers to all queries, and how many gets they took.
    async fn ask(&self) -> (Vec<Vec<Vec<Option<String>>>>, u64) {
        let before = self.store.requests().gets;
        let mut answers = Vec::new();
        for query in QUERIES {
            answers.push(self.database.rows(query).await.unwrap());
        }
        (answers, self.store.requests().gets - before)
    }
}

#[tokio::test]
async fn queries_of_recent_rows_do_not_ask_the_store() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    let (first, gets) = fixture.ask().await;
    assert_eq!((first[0].len(), first[2].len(), gets), (10, 3, 0), "the file is in memory since it was written");
    assert_eq!(fixture.ask().await, (first, 0));
    let metrics = fixture.database.engine().metrics();
    assert!(metrics.recent.hits > 0 && metrics.recent.misses == 0, "{metrics:?}");
    assert!(metrics.recent.bytes > 4_000 && metrics.metadata_bytes > 1_000, "{metrics:?}");
}

#[tokio::test]
async fn what_compaction_writes_is_in_memory_too() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - 100).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    let (before, _) = fixture.ask().await;
    fixture.database.engine().compact_all().await.unwrap();
    let metrics = fixture.database.engine().metrics();
    assert_eq!((metrics.files, metrics.compaction.compactions), (1, 1));
    assert_eq!(fixture.ask().await, (before, 0));
}

#[tokio::test]
async fn after_a_restart_recent_rows_are_asked_for_once() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - 4 * HOUR_SECONDS).await;
    let (before, _) = fixture.ask().await;
    fixture.database.restart().await;
    let (first, gets) = fixture.ask().await;
    assert_eq!(first, before);
    assert!(gets > 0);
    assert_eq!(fixture.ask().await, (before, 0));
}

#[tokio::test]
async fn old_rows_are_read_from_the_store_every_time() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - 6 * HOUR_SECONDS).await;
    let (first, gets) = fixture.ask().await;
    assert!(gets > 0);
    assert_eq!(fixture.ask().await, (first, gets));
    assert_eq!(fixture.database.engine().metrics().recent.bytes, 0);
}

#[tokio::test]
async fn rows_that_have_become_old_stay_while_there_is_room() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    fixture.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(fixture.ask().await.1, 0);
}

#[tokio::test]
async fn without_memory_every_query_asks_the_store() {
    let fixture = Fixture::new(0).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    let (first, gets) = fixture.ask().await;
    assert!(gets > 0);
    assert_eq!(fixture.ask().await, (first, gets));
    assert_eq!(fixture.database.engine().metrics().recent.bytes, 0);
}

#[tokio::test]
async fn a_store_that_is_down_is_not_remembered() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    let (before, _) = fixture.ask().await;
    fixture.database.restart().await;
    fixture.store.go_down();
    let error = fixture.database.rows(QUERIES[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    fixture.store.heal();
    assert_eq!(fixture.ask().await.0, before);
    fixture.store.go_down();
    assert_eq!(fixture.ask().await.0, before, "from memory");
}

#[tokio::test]
async fn damage_in_the_store_is_found_whenever_it_is_read() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    fixture.database.restart().await;
    let database = flightline::model::DatabaseName::new(crate::harness::database::DATABASE).unwrap();
    let snapshot = fixture.database.engine().snapshot(&database, "cpu").unwrap();
    let path = object_store::path::Path::from(snapshot.files[0].path.as_str());
    let good = fixture.objects.get(&path).await.unwrap().bytes().await.unwrap();
    let mut damaged = good.to_vec();
    damaged[100] ^= 1;
    fixture.objects.put(&path, damaged.into()).await.unwrap();
    for _ in 0..2 {
        let error = fixture.database.rows(QUERIES[0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    }
    fixture.objects.put(&path, good.into()).await.unwrap();
    assert_eq!(fixture.ask().await.0[0].len(), 10);
}
