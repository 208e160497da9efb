//! What earlier versions stored is read by this one: a small data directory of each format in `tests/data/formats`.
//!
//! A sample is made once, by the first version that writes its format, and never again:
//! `UPDATE=1 cargo test --test it formats -- --ignored` writes the newest one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::engine::backup::{BackupKind, BackupName, Backups, Location, Which};
use flightline::engine::mirror::promote::promote;
use flightline::engine::mirror::{MirrorSettings, is_mirror};
use flightline::engine::store::single_writer::{SingleWriter, SingleWriterSettings, Writer};
use flightline::engine::store::{ConnectionSettings, Store, StoreSettings, open};
use flightline::engine::{EngineSettings, HardDelete};
use flightline::model::{DatabaseName, TableName};
use uuid::Uuid;

use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::process::PROGRAM;

/// The format that this version writes.
const NEWEST: &str = "2";

/// All that were ever written. In 2 the files of a checkpoint are in packed parts.
const FORMATS: [&str; 2] = ["1", NEWEST];

fn sample(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats").join(format)
}

/// Copies the files below a directory; locks of a log belong to a process and stay.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&from, &to),
            false if entry.metadata().unwrap().len() > 0 => drop(std::fs::copy(from, to).unwrap()),
            false => {}
        }
    }
}

fn names() -> (DatabaseName, TableName) {
    (DatabaseName::new(DATABASE).unwrap(), TableName::new("gone").unwrap())
}

/// Every way in which something is stored, in as few rows as that takes.
async fn write_sample(database: &mut TestDatabase) {
    let (name, gone) = names();
    database
        .write(
            "cpu,host=a,region=eu usage=1.5,count=-2i,big=3u,ok=true,note=\"x y\" 1000000000\n\
             cpu,host=b usage=2.5 2000000000\ncpu usage=3.5 3000000000\ngone,host=a v=1 1",
        )
        .await;
    database.engine().persist_all().await.unwrap();
    database.rows("DELETE FROM cpu WHERE host = 'b'").await.unwrap();
    database.restart().await; // leaves a checkpoint
    let engine = database.engine();
    let century = Duration::from_secs(36_500 * 24 * 3600);
    engine.set_retention(&name, Some(&gone), Some(century)).await.unwrap();
    engine.delete_table(&name, &gone, HardDelete::Never).await.unwrap();
    // Records after the checkpoint, and rows that only the log has.
    database.write("cpu,host=a,region=eu usage=9.5 1000000000\nmem,host=a free=7i 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a sample, which happens once for a format"]
async fn the_newest_sample_is_written() {
    assert!(std::env::var_os("UPDATE").is_some(), "only with UPDATE=1");
    let mut database = TestDatabase::new().await;
    write_sample(&mut database).await;
    database.stop_at_once();
    copy(database.directory(), &sample(NEWEST));
}

/// Objects that are in no data directory: of a log in the store, of backups, of a mirror, of a single writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a sample, which happens once for a format"]
async fn the_newest_samples_of_other_places_are_written() {
    assert!(std::env::var_os("UPDATE").is_some(), "only with UPDATE=1");
    let place = |name: &str| file_store(&sample(NEWEST).join(name));
    let mut database = TestDatabase::diskless(place("diskless"), TestDatabase::settings(), clock()).await;
    write_sample(&mut database).await; // with an end of the first start's log
    database.stop_at_once();

    let mirror = MirrorSettings { interval: Duration::from_millis(2), ..MirrorSettings::new(place("mirror"), None) };
    let settings = EngineSettings { mirror: Some(mirror), ..TestDatabase::settings() };
    let mut database = TestDatabase::with(Store::in_memory(), settings, clock()).await;
    write_sample(&mut database).await;
    let writer = Writer { node: "sample".to_owned(), directory: Uuid::from_u128(1) };
    let backups = Backups::new(Arc::clone(database.engine()), location(place("backups")), writer.clone());
    let name = BackupName::new("sample").unwrap();
    Arc::new(backups).create(Some(name), BackupKind::Full).await.unwrap();
    database.close().await.unwrap(); // which the mirror has, too

    let (lock, _) = SingleWriter::take(&place("lock"), writer, clock(), quick_lock()).await.unwrap();
    drop(lock); // not given back
    for name in ["diskless", "mirror", "backups", "lock"] {
        std::fs::remove_dir_all(sample(NEWEST).join(name).join(".staging")).unwrap();
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn file_store(root: &Path) -> Store {
    open(&StoreSettings::File { root: root.to_owned() }, &ConnectionSettings::default()).unwrap()
}

fn quick_lock() -> SingleWriterSettings {
    SingleWriterSettings { settle: Duration::ZERO, ..SingleWriterSettings::default() }
}

fn location(place: Store) -> Location {
    Location::new(place, clock()).with_lock(quick_lock())
}

/// A copy of a sample, which may be changed.
fn copy_of(format: &str, place: &str) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    copy(&sample(format).join(place), directory.path());
    let store = file_store(directory.path());
    (directory, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_a_log_in_the_store_is_read() {
    for format in ["1"] {
        let (_directory, store) = copy_of(format, "diskless");
        let database = TestDatabase::diskless(store, TestDatabase::settings(), clock()).await;
        check(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_a_backup_is_restored() {
    for format in ["1"] {
        let (_directory, place) = copy_of(format, "backups");
        let place = location(place);
        let listed = place.list().await.unwrap();
        assert_eq!(listed.len(), 1);
        let backup = place.find(&Which::Newest { not_after: None }).await.unwrap();
        assert_eq!((backup.name.as_str(), backup.kind, backup.tables), ("sample", BackupKind::Full, 2));
        let store = Store::in_memory();
        place.restore(&backup, &store).await.unwrap();
        check(&TestDatabase::on(store).await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_a_mirror_is_known_as_one_and_read() {
    for format in ["1"] {
        let (_directory, store) = copy_of(format, "mirror");
        assert!(is_mirror(&store).await.unwrap());
        let error = promote(&store, &clock(), false, false).await.unwrap_err();
        assert!(error.to_string().contains("is the mirror of \"memory\""), "{error}");
        promote(&store, &clock(), true, false).await.unwrap(); // its origin was stopped in order
        check(&TestDatabase::on(store).await.unwrap()).await;
    }
}

#[tokio::test]
async fn every_sample_of_a_lock_keeps_others_away() {
    for format in ["1"] {
        let (_directory, store) = copy_of(format, "lock");
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let settings = SingleWriterSettings { stale_after: century, ..quick_lock() };
        let writer = |directory| Writer { node: "other".to_owned(), directory: Uuid::from_u128(directory) };
        let error = SingleWriter::take(&store, writer(2), clock(), settings).await.unwrap_err();
        assert!(error.to_string().contains("node \"sample\""), "{error}");
        // Whoever comes back with the same data directory has it at once.
        SingleWriter::take(&store, writer(1), clock(), settings).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_reads_as_it_was_written() {
    for format in FORMATS {
        let mut database = TestDatabase::on_files(|directory| copy(&sample(format), directory)).await;
        check(&database).await;
        // And what this version makes of it.
        database.restart().await;
        check(&database).await;
        database.engine().undelete_table(&names().0, "gone", None).await.unwrap();
        assert_eq!(text(&database, "SELECT host, v FROM gone").await, ["a 1.0"]);
        let period = "SELECT table_name, retention_period_ns FROM system.retention";
        assert_eq!(text(&database, period).await, ["gone 3153600000000000000"]);
        database.close().await.unwrap();
    }
}

async fn text(database: &TestDatabase, sql: &str) -> Vec<String> {
    let rows = database.rows(sql).await.unwrap();
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join(" ")).collect()
}

async fn check(database: &TestDatabase) {
    let cpu = "SELECT host, region, usage, count, big, ok, note, time FROM cpu ORDER BY time";
    assert_eq!(
        text(database, cpu).await,
        ["a eu 9.5 -2 3 true x y 1970-01-01T00:00:01", "- - 3.5 - - - - 1970-01-01T00:00:03"]
    );
    assert_eq!(text(database, "SELECT host, free FROM mem").await, ["a 7"]);
    let deleted = text(database, "SELECT table_name, hard_deletion_time FROM system.tables WHERE deleted").await;
    assert!(deleted.len() == 1 && deleted[0].starts_with("gone-") && deleted[0].ends_with(" -"), "{deleted:?}");
}

/// The commands that look into a store, on the sample as it is.
#[test]
fn a_sample_is_whole_and_its_catalog_can_be_shown() {
    for format in FORMATS {
        let data = tempfile::tempdir().unwrap();
        copy(&sample(format), data.path());
        std::fs::rename(data.path().join("data"), data.path().join("objects")).unwrap(); // as a server calls it
        let before = bytes_below(data.path());
        let run = |arguments: &[&str]| {
            let output = Command::new(PROGRAM).args(arguments).arg("--data-dir").arg(data.path()).output().unwrap();
            let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{arguments:?}: {text}{error}");
            text.into_owned()
        };
        let checked = run(&["check"]);
        assert!(checked.contains("all is well: 1 databases, 2 tables, 2 files with 4 rows"), "{checked}");

        let all = ["debug", "catalog", "--tables", "--files", "--log", "--output", "json"];
        let shown: serde_json::Value = serde_json::from_str(&run(&all)).unwrap();
        let summary = &shown["summary"];
        for (fact, value) in [
            ("databases", 1),
            ("tables", 2),
            ("deleted_tables", 1),
            ("files", 2),
            ("file_rows", 4),
            ("row_deletions", 1),
        ] {
            assert_eq!(summary[fact], value, "{fact}");
        }
        assert_eq!(summary["checkpoints"].as_array().unwrap().len(), 1);
        let tables: Vec<&str> =
            shown["tables"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
        assert_eq!(tables, ["cpu", "mem", "gone"]);
        assert_eq!(shown["tables"][0]["row_deletions"][0]["rows"]["tags"], serde_json::json!({ "host": "b" }));
        assert!(shown["tables"][2]["deleted"]["name"].as_str().unwrap().starts_with("gone-"));
        assert_eq!(shown["files"][0]["rows"], 3);
        let log = shown["log"].as_array().unwrap();
        assert_eq!(log[0]["genesis"], true);
        let has = |change: &str| {
            log.iter()
                .flat_map(|record| record["changes"].as_array().into_iter().flatten())
                .any(|one| one.get(change).is_some())
        };
        for change in
            ["create_database", "create_table", "persisted", "delete_rows", "set_table_retention", "soft_delete_table"]
        {
            assert!(has(change), "{change}");
        }

        let text = run(&["debug", "catalog", "--files", "--table", "gone"]);
        assert!(text.contains("row_deletions         1\n") && text.contains("table=gone id="), "{text}");
        assert!(!text.contains("table=cpu"), "{text}");
        assert!(bytes_below(data.path()) == before, "nothing was changed");
    }
}

/// All files, but for the locks of processes that have a store of files open.
fn bytes_below(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with(".staging") => {}
            true => files.extend(bytes_below(&path)),
            false => files.push((path.clone(), std::fs::read(path).unwrap())),
        }
    }
    files.sort();
    files
}
