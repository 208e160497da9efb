//! Old Parquet files are on the local disk once a query has asked for them: requests to the object store, counted, and what
//! becomes of answers when the disk fails.

use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::ManualClock;
use flightline::engine::store::Store;
use flightline::engine::store::disk_cache::{DiskCache, DiskCacheSettings};
use flightline::engine::store::recent::RecentSettings;
use flightline::engine::{EngineSettings, HardDelete};
use flightline::model::{DatabaseName, TableName, Timestamp};
use futures::future::join_all;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::disk_full::SmallDisk;
use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::process::{PROGRAM, ServerProcess};
use crate::harness::store::{FaultRates, FaultStore};

const NOW_SECONDS: i64 = 1_700_000_000;

const DAY_SECONDS: i64 = 24 * 3600;

const ROWS: i64 = 20_000;

const QUERIES: [&str; 3] = [
    "SELECT host, avg(usage) FROM cpu GROUP BY host ORDER BY host",
    "SELECT * FROM cpu WHERE host = 'h3' AND usage > 50 ORDER BY time",
    "SELECT time, note FROM cpu ORDER BY time DESC LIMIT 3",
];

type Answers = Vec<Vec<Vec<Option<String>>>>;

struct Fixture {
    database: TestDatabase,
    store: Arc<FaultStore>,
    directory: tempfile::TempDir,
}

impl Fixture {
    /// A database with a cache of this size on the disk, and memory for recent rows.
    async fn new(bytes_max: u64) -> Self {
        let store = FaultStore::new(Arc::new(InMemory::new()), 1);
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW_SECONDS * 1_000_000_000)));
        let directory = tempfile::tempdir().unwrap();
        let settings = EngineSettings {
            recent: RecentSettings { bytes_max: 64 << 20, recency: Duration::from_secs(5 * 3600) },
            decoded_bytes_max: 0, // what is decoded would hide who asks for bytes
            disk_cache: Some(DiskCacheSettings { directory: directory.path().join("cache"), bytes_max }),
            delete_grace: Duration::from_secs(1),
            ..TestDatabase::settings()
        };
        let objects = Store::new(Arc::<FaultStore>::clone(&store) as Arc<dyn ObjectStore>, "counted");
        let database = TestDatabase::with(objects, settings, clock).await;
        Self { database, store, directory }
    }

    /// Writes rows of the second `newest` and those before it, and brings them into a file.
    async fn persist_rows_until(&self, newest: i64) {
        self.database.write(&lines(newest)).await;
        self.database.engine().persist_all().await.unwrap();
    }

    fn cache(&self) -> &DiskCache {
        self.database.engine().checked_files().disk_cache().unwrap()
    }

    /// The answers to all queries, and how many gets they took. What was fetched is on the disk afterwards.
    async fn ask(&self) -> (Answers, u64) {
        self.cache().settle().await;
        let before = self.store.requests().gets;
        let mut answers = Vec::new();
        for query in QUERIES {
            answers.push(self.database.rows(query).await.unwrap());
        }
        self.cache().settle().await;
        (answers, self.store.requests().gets - before)
    }

    /// Asks again, and compares. Without printing thousands of rows.
    async fn expect(&self, answers: &Answers, gets: u64) {
        let (again, gets_again) = self.ask().await;
        assert!(again == *answers, "the answers are others");
        assert_eq!(gets_again, gets);
    }

    /// The cache files.
    fn files(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let directories = entries(&self.directory.path().join("cache")).into_iter().filter(|path| path.is_dir());
        directories.flat_map(|directory| entries(&directory)).collect()
    }
}

fn lines(newest: i64) -> String {
    let mut lines = String::new();
    for row in 0..ROWS {
        let (host, time) = (row % 10, (newest - row) * 1_000_000_000);
        // No text comes twice, so that there is something to keep.
        let text = (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        writeln!(lines, "cpu,host=h{host} usage={},note=\"{text:016x}\" {time}", row % 100).unwrap();
    }
    lines
}

#[tokio::test]
async fn old_rows_are_asked_for_once_also_over_a_restart() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - DAY_SECONDS).await;
    let (first, gets) = fixture.ask().await;
    assert!(gets > 0);
    fixture.expect(&first, 0).await;
    fixture.database.restart().await;
    fixture.expect(&first, 0).await; // not even for footers
    fixture.store.go_down();
    fixture.expect(&first, 0).await;
    fixture.store.heal();
    let metrics = fixture.database.engine().metrics();
    assert!(metrics.disk_cache.hits > 0 && metrics.disk_cache.misses == 0, "{metrics:?}");
    assert_eq!(metrics.recent.bytes, 0, "old rows stay out of memory");
}

#[tokio::test]
async fn what_was_persisted_lately_is_on_the_disk_without_being_asked_for() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS).await;
    let (before, gets) = fixture.ask().await;
    assert_eq!(gets, 0);
    fixture.database.restart().await;
    fixture.expect(&before, 0).await;
}

#[tokio::test]
async fn readers_at_once_ask_the_store_once() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - DAY_SECONDS).await;
    let before = fixture.store.requests().gets;
    fixture.store.set_rates(FaultRates { slow: 1000, slow_for: Duration::from_millis(200), ..FaultRates::default() });
    let answers = join_all((0..20).map(|_| fixture.database.rows(QUERIES[0]))).await;
    let gets = fixture.store.requests().gets - before;
    assert!(answers.into_iter().all(|answer| answer.unwrap().len() == 10));
    assert!((1..=3).contains(&gets), "the footer and the columns, not 20 times: {gets}");
}

#[tokio::test]
async fn a_damaged_cache_changes_no_answer() {
    let mut fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - DAY_SECONDS).await;
    let (right, _) = fixture.ask().await;
    let files = fixture.files();
    assert!(!files.is_empty());
    for is_restarted in [false, true] {
        for file in &files {
            // Not the holes nor the note at the end, so that the damage is found by reading.
            let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(&[0x55; 60_000], 0).unwrap();
        }
        if is_restarted {
            fixture.database.restart().await;
        }
        let (answers, gets) = fixture.ask().await;
        assert!(answers == right);
        assert!(gets > 0);
        assert!(fixture.database.engine().metrics().disk_cache.damaged > 0);
        fixture.expect(&right, 0).await; // it is whole again
    }
}

#[tokio::test]
async fn a_cache_that_is_removed_changes_no_answer() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - DAY_SECONDS).await;
    let (right, _) = fixture.ask().await;
    std::fs::remove_dir_all(fixture.directory.path().join("cache")).unwrap();
    let (answers, gets) = fixture.ask().await;
    assert!(answers == right);
    assert!(gets > 0);
    fixture.ask().await;
    fixture.expect(&right, 0).await; // it begins anew
}

#[tokio::test]
async fn a_cache_that_is_too_small_changes_no_answer() {
    let fixture = Fixture::new(100_000).await;
    for day in 1..4 {
        fixture.persist_rows_until(NOW_SECONDS - day * DAY_SECONDS).await;
    }
    let (first, _) = fixture.ask().await;
    let (again, gets) = fixture.ask().await;
    assert!(again == first);
    assert!(gets > 0);
    let metrics = fixture.database.engine().metrics().disk_cache;
    assert!(metrics.bytes <= 100_000 && metrics.refused > 0, "{metrics:?}");
}

#[tokio::test]
async fn files_of_a_table_that_is_deleted_leave_the_disk() {
    let fixture = Fixture::new(64 << 20).await;
    fixture.persist_rows_until(NOW_SECONDS - DAY_SECONDS).await;
    fixture.ask().await;
    assert!(!fixture.files().is_empty());
    let (database, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("cpu").unwrap());
    fixture.database.engine().delete_table(&database, &table, HardDelete::Now).await.unwrap();
    for _ in 0..600 {
        if fixture.files().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(fixture.files().is_empty());
    assert_eq!(fixture.database.engine().metrics().disk_cache.bytes, 0);
}

/// A server on local files with a cache elsewhere, and what it says.
struct Desk {
    server: ServerProcess,
    client: reqwest::Client,
}

impl Desk {
    fn start(data: &Path, cache: &Path, size: &str) -> Self {
        let cache = cache.display().to_string();
        let server = ServerProcess::start(data, &["--disk-cache-dir", &cache, "--disk-cache-size", size]);
        Self { server, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn ask(&self) -> Vec<String> {
        let mut answers = Vec::new();
        for query in QUERIES {
            let body = serde_json::json!({ "db": "db", "q": query, "format": "csv" });
            let response = self.client.post(self.server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
            assert_eq!(response.status(), 200);
            answers.push(response.text().await.unwrap());
        }
        answers
    }

    async fn metric(&self, name: &str) -> u64 {
        let response = self.client.get(self.server.url("/metrics")).send().await.unwrap();
        let text = response.text().await.unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{text}")).split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits until a figure is what it should be.
    async fn wait(&self, name: &str, is_enough: impl Fn(u64) -> bool) {
        for _ in 0..600 {
            if is_enough(self.metric(name).await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} is {}", self.metric(name).await);
    }
}

/// A data directory with old rows in Parquet.
async fn data_with_old_rows() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(data.path(), &[]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(server.url("/api/v3/write_lp?db=db&precision=ns")).body(lines(NOW_SECONDS));
    assert_eq!(request.send().await.unwrap().status(), 204);
    assert_eq!(server.terminate(), 0);
    data
}

#[tokio::test]
async fn a_killed_server_finds_its_cache_and_a_second_one_is_refused_it() {
    let (data, cache) = (data_with_old_rows().await, tempfile::tempdir().unwrap());
    let desk = Desk::start(data.path(), cache.path(), "64MiB");
    let right = desk.ask().await;
    let misses = desk.metric("flightline_disk_cache_misses_total").await;
    assert!(misses > 0);
    desk.wait("flightline_disk_cache_bytes", |bytes| bytes > 64 << 10).await;
    assert!(desk.ask().await == right);

    let elsewhere = tempfile::tempdir().unwrap();
    let second = Command::new(PROGRAM)
        .args(["serve", "--http-bind", "127.0.0.1:0", "--disk-cache-size", "1MiB", "--data-dir"])
        .arg(elsewhere.path())
        .arg("--disk-cache-dir")
        .arg(cache.path())
        .env_clear()
        .output()
        .unwrap();
    assert!(!second.status.success());
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("in use by another process") && error.contains("--disk-cache-dir"), "{error}");

    desk.server.kill();
    let desk = Desk::start(data.path(), cache.path(), "64MiB");
    desk.wait("flightline_disk_cache_bytes", |bytes| bytes > 64 << 10).await;
    assert!(desk.ask().await == right);
    assert!(desk.metric("flightline_disk_cache_hits_total").await > 0);
    assert_eq!(desk.metric("flightline_disk_cache_misses_total").await, 0);
}

#[tokio::test]
async fn a_cache_on_a_full_disk_changes_no_answer() {
    let data = data_with_old_rows().await;
    let disk = SmallDisk::mount(160 << 10);
    let desk = Desk::start(data.path(), &disk.path().join("cache"), "64MiB");
    let right = desk.ask().await;
    desk.wait("flightline_disk_cache_failures_total", |failures| failures > 0).await;
    assert!(desk.ask().await == right);
    assert!(desk.metric("flightline_disk_cache_bytes").await <= 160 << 10);
}
