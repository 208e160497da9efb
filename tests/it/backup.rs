//! Backups of a database that goes on working: what is in them, what survives faults and damage, and the way back.

use std::collections::BTreeSet;
use std::path::Path as FilePath;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::engine::backup::{Backup, BackupKind, BackupName, Backups, Location, Restored, Which};
use flightline::engine::store::Store;
use flightline::engine::store::single_writer::{SingleWriterSettings, Writer};
use flightline::engine::{EngineSettings, HardDelete};
use flightline::error::{ErrorKind, Result};
use flightline::model::{DatabaseName, RowSelection, TableName, TimeRange, Timestamp};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rstest::rstest;
use uuid::Uuid;

use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::object_server::{Kind, ObjectServer};
use crate::harness::process::{PROGRAM, ServerProcess};
use crate::harness::server::TestServer;
use crate::harness::store::{Aftermath, FaultRates, FaultStore, Moment};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn location(store: &Store) -> Location {
    // Nobody else wants the lock: no need to wait for one who might.
    let lock = SingleWriterSettings { settle: Duration::ZERO, ..SingleWriterSettings::default() };
    Location::new(store.clone(), clock()).with_lock(lock)
}

fn backups(database: &TestDatabase, place: &Store) -> Arc<Backups> {
    let writer = Writer { node: "test".to_owned(), directory: Uuid::from_u128(1) };
    Arc::new(Backups::new(Arc::clone(database.engine()), location(place), writer))
}

fn name(text: &str) -> BackupName {
    BackupName::new(text).unwrap()
}

async fn create(database: &TestDatabase, place: &Store, text: &str, kind: BackupKind) -> Result<Backup> {
    backups(database, place).create(Some(name(text)), kind).await
}

async fn restore(place: &Store, text: &str, target: &Store) -> Result<Restored> {
    let place = location(place);
    let backup = place.find(&Which::Named(name(text))).await?;
    place.restore(&backup, target).await
}

/// The problems of a backup.
async fn problems(place: &Store, text: &str) -> Result<Vec<String>> {
    let place = location(place);
    let backup = place.find(&Which::Named(name(text))).await?;
    let mut found = Vec::new();
    let verified = place.verify(&backup, &mut |problem| found.push(problem.to_string())).await?;
    assert_eq!(verified.problems, found.len());
    Ok(found)
}

async fn paths(store: &Store) -> Vec<Path> {
    let mut paths: Vec<Path> = store.objects().list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    paths.sort();
    paths
}

/// A database on what a backup restores.
async fn restored(place: &Store, text: &str) -> TestDatabase {
    let target = Store::in_memory();
    restore(place, text, &target).await.unwrap();
    TestDatabase::on(target).await.unwrap()
}

async fn table(database: &TestDatabase, sql: &str) -> Vec<String> {
    let rows = database.rows(sql).await.unwrap();
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")).collect()
}

async fn numbers(database: &TestDatabase, name: &str) -> BTreeSet<u64> {
    let rows = table(database, &format!("SELECT n FROM {name}")).await;
    let numbers: BTreeSet<u64> = rows.iter().map(|row| row.parse().unwrap()).collect();
    assert_eq!(numbers.len(), rows.len(), "no row is there twice");
    numbers
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_to_two_tables_is_in_a_backup_whole_or_not_at_all(#[values(false, true)] is_diskless: bool) {
    const WRITERS: u64 = 4;
    const ROUNDS: usize = 8;
    // Between the two that are looked at: the more there are, the easier is a write seen by half.
    const OTHER_TABLES: u64 = 24;
    let (store, settings) = (Store::in_memory(), TestDatabase::settings());
    let database = Arc::new(match is_diskless {
        false => TestDatabase::with(store, settings, clock()).await,
        true => TestDatabase::diskless(store, settings, clock()).await,
    });
    let place = Store::in_memory();
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (database, next, stop) = (Arc::clone(&database), Arc::clone(&next), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    // A column of its own now and then, so that the catalog moves too.
                    let extra = if n.is_multiple_of(50) { format!(",c{n}=1") } else { String::new() };
                    let others: String = (0..OTHER_TABLES).map(|other| format!("m{other} n={n}u {n}\n")).collect();
                    let lines = format!("a,k=k{} n={n}u{extra} {n}\n{others}b,k=k{} n={n}u {n}\n", n % 3, n % 5);
                    database.write(&lines).await;
                    acknowledged.lock().unwrap().insert(n);
                }
            })
        })
        .collect();
    let maintained = (Arc::clone(&database), Arc::clone(&stop));
    let maintenance = tokio::spawn(async move {
        let (database, stop) = maintained;
        while !stop.load(Ordering::SeqCst) {
            database.engine().persist_all().await.unwrap();
            database.engine().compact_all().await.unwrap();
        }
    });

    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let enough = acknowledged.lock().unwrap().len() + 20;
        while acknowledged.lock().unwrap().len() < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = acknowledged.lock().unwrap().clone();
        let backup = create(&database, &place, &format!("r{round}"), BackupKind::Incremental).await.unwrap();
        assert_eq!(backup.kind, if round == 0 { BackupKind::Full } else { BackupKind::Incremental });
        expected.push(before);
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    maintenance.await.unwrap();

    let sent = next.load(Ordering::SeqCst);
    for (round, before) in expected.iter().enumerate() {
        let copy = restored(&place, &format!("r{round}")).await;
        let (a, b) = (numbers(&copy, "a").await, numbers(&copy, "b").await);
        assert_eq!(a, b, "round {round}: half a write");
        assert!(before.is_subset(&a), "round {round}: an acknowledged write is missing");
        assert!(a.iter().all(|n| *n < sent), "round {round}");
    }
    assert!(!expected[0].is_empty() && expected[0].len() < expected[ROUNDS - 1].len(), "writers got somewhere");
}

/// Rows of the tables `t` and `u`, some in files, some deleted, some in memory, with a period of retention.
async fn eventful() -> TestDatabase {
    // What nothing refers to goes at once.
    let settings = EngineSettings { delete_grace: Duration::ZERO, ..TestDatabase::settings() };
    let database = TestDatabase::with(Store::in_memory(), settings, clock()).await;
    database.write("t,k=a n=1u 1\nt,k=b n=2u 2\nt,k=c n=3u 3\nu n=1u 1").await;
    database.engine().persist_all().await.unwrap();
    delete(&database, "t", 2).await;
    database.write("t,k=a n=10u 1\nt,k=d n=4u,f=\"x\" 4").await;
    database.engine().persist_all().await.unwrap();
    database.write("t,k=e n=5u 5\nt,k=c n=30u 3\nv,k=old n=1u 1\nv,k=new n=2u 9000000000000000000").await;
    let (database_name, v) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("v").unwrap());
    let year = Some(Duration::from_secs(365 * 24 * 3600));
    database.engine().set_retention(&database_name, Some(&v), year).await.unwrap();
    database
}

async fn delete(database: &TestDatabase, table: &str, time: i64) {
    let rows = RowSelection { time: TimeRange::from_nanos(time, time), tags: Vec::new() };
    let (name, table) = (DatabaseName::new(DATABASE).unwrap(), TableName::new(table).unwrap());
    database.engine().delete_rows(&name, &table, [rows]).await.unwrap();
}

async fn contents(database: &TestDatabase) -> Vec<String> {
    let mut all = table(database, "SELECT k, n, f, time FROM t ORDER BY time").await;
    all.extend(table(database, "SELECT n, time FROM u").await);
    all.extend(table(database, "SELECT k, n FROM v").await);
    all
}

const EVENTFUL: [&str; 6] = [
    "a 10  1970-01-01T00:00:00.000000001",
    "c 30  1970-01-01T00:00:00.000000003",
    "d 4 x 1970-01-01T00:00:00.000000004",
    "e 5  1970-01-01T00:00:00.000000005",
    "1 1970-01-01T00:00:00.000000001",
    "new 2",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_stays_as_it_was_whatever_becomes_of_its_source() {
    let database = eventful().await;
    let place = Store::in_memory();
    assert_eq!(contents(&database).await, EVENTFUL);
    create(&database, &place, "first", BackupKind::Incremental).await.unwrap();

    delete(&database, "t", 4).await;
    database.write("t,k=a n=99u 1").await;
    database.engine().persist_all().await.unwrap();
    database.engine().compact_all().await.unwrap();
    let (name, u) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("u").unwrap());
    database.engine().delete_table(&name, &u, HardDelete::Default).await.unwrap();
    database.engine().collect_garbage().await.unwrap();
    create(&database, &place, "second", BackupKind::Incremental).await.unwrap();

    let mut copy = restored(&place, "first").await;
    assert_eq!(contents(&copy).await, EVENTFUL);
    assert_ne!(copy.engine().catalog_id(), database.engine().catalog_id());
    assert_ne!(copy.engine().ticket_key(), database.engine().ticket_key());
    // It is a database like any other.
    copy.write("t,k=z n=7u 7\nu n=8u 8").await;
    delete(&copy, "t", 1).await;
    copy.engine().compact_all().await.unwrap();
    copy.restart().await;
    assert_eq!(numbers(&copy, "t").await, BTreeSet::from([30, 4, 5, 7]));
    assert_eq!(numbers(&copy, "u").await, BTreeSet::from([1, 8]));

    let second = restored(&place, "second").await;
    assert_eq!(numbers(&second, "t").await, BTreeSet::from([99, 30, 5]));
    assert!(second.rows("SELECT * FROM u").await.is_err(), "it was deleted");
    second.engine().undelete_table(&name, "u", None).await.unwrap();
    assert!(!second.rows("SELECT * FROM u").await.unwrap().is_empty(), "and is brought back with its rows");
    // What comes of a restore begins a set of its own, whose numbers of files don't meet those of the other.
    let third = create(&copy, &place, "third", BackupKind::Incremental).await.unwrap();
    assert_eq!(third.kind, BackupKind::Full);
    assert_eq!(numbers(&restored(&place, "third").await, "t").await, BTreeSet::from([30, 4, 5, 7]));
    assert_eq!(contents(&restored(&place, "first").await).await, EVENTFUL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_that_are_still_to_be_copied_are_not_collected() {
    let settings = EngineSettings { delete_grace: Duration::ZERO, ..TestDatabase::settings() };
    let database = TestDatabase::with(Store::in_memory(), settings, clock()).await;
    for n in 0..12 {
        database.write(&format!("t n={n}u {n}\nt n=100u 100")).await;
        database.engine().persist_all().await.unwrap();
    }
    let faults = FaultStore::new(Arc::new(InMemory::new()), 1);
    faults.set_rates(FaultRates { slow: 1000, slow_for: Duration::from_millis(100), ..FaultRates::default() });
    let place = Store::new(Arc::<FaultStore>::clone(&faults), "slow");
    let backups = backups(&database, &place);
    let creating = tokio::spawn(async move { backups.create(Some(name("a")), BackupKind::Full).await });
    while !paths(&place).await.iter().any(|path| path.as_ref().ends_with(".parquet")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    database.engine().compact_all().await.unwrap();
    assert_eq!(database.engine().collect_garbage().await.unwrap(), 0, "the backup holds them");
    creating.await.unwrap().unwrap();
    let _others_are_gone = database.engine().collect_garbage().await.unwrap();
    assert_eq!(database.engine().metrics().garbage_files, 0, "nobody holds them any more");
    faults.heal();
    assert_eq!(numbers(&restored(&place, "a").await, "t").await.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incremental_backup_copies_what_is_new_and_any_can_be_deleted() {
    let database = TestDatabase::on(Store::in_memory()).await.unwrap();
    let place = Store::in_memory();
    let write = async |n: u64| {
        database.write(&format!("t n={n}u {n}")).await;
        database.engine().persist_all().await.unwrap();
    };
    write(1).await;
    let first = create(&database, &place, "first", BackupKind::Incremental).await.unwrap();
    assert_eq!((first.kind, first.copied_files, first.files), (BackupKind::Full, 1, 1));
    write(2).await;
    let second = create(&database, &place, "second", BackupKind::Incremental).await.unwrap();
    assert_eq!((second.kind, second.copied_files, second.files), (BackupKind::Incremental, 1, 2));
    let third = create(&database, &place, "third", BackupKind::Full).await.unwrap();
    assert_eq!((third.kind, third.copied_files, third.files), (BackupKind::Full, 2, 2));
    let error = create(&database, &place, "second", BackupKind::Full).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    let listed = location(&place).list().await.unwrap();
    assert_eq!(listed.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), ["first", "second", "third"]);
    let find = async |not_after| location(&place).find(&Which::Newest { not_after }).await;
    assert_eq!(find(None).await.unwrap(), third);
    assert_eq!(find(Some(second.instant)).await.unwrap(), second);
    let before = Timestamp::from_nanos(first.instant.as_nanos() - 1);
    assert_eq!(find(Some(before)).await.unwrap_err().kind(), ErrorKind::NotFound);

    // What a crash may leave, and what somebody put there.
    let leftovers = ["files/0123/dbs/1-db/1-t/1970-01-01/0000000099.parquet", "backups/gone/0123.catalog"];
    for path in leftovers.iter().chain(&["files/readme.txt"]) {
        place.objects().put(&Path::from(*path), "x".into()).await.unwrap();
    }
    let backups = backups(&database, &place);
    assert_eq!(backups.delete(name("first")).await.unwrap(), 4, "manifest, catalog and the leftovers");
    assert_eq!(problems(&place, "second").await.unwrap(), [""; 0]);
    assert_eq!(numbers(&restored(&place, "second").await, "t").await, BTreeSet::from([1, 2]));
    assert_eq!(backups.delete(name("first")).await.unwrap_err().kind(), ErrorKind::NotFound);
    backups.delete(name("second")).await.unwrap();
    assert_eq!(numbers(&restored(&place, "third").await, "t").await, BTreeSet::from([1, 2]));
    backups.delete(name("third")).await.unwrap();
    assert_eq!(paths(&place).await, [Path::from("files/readme.txt")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_found_and_nothing_of_it_is_restored() {
    let database = eventful().await;
    let place = Store::in_memory();
    create(&database, &place, "a", BackupKind::Full).await.unwrap();
    let objects = paths(&place).await;
    assert!(objects.len() > 4, "{objects:?}");
    for path in objects {
        let whole = place.objects().get(&path).await.unwrap().bytes().await.unwrap();
        let mut damaged: Vec<Option<Vec<u8>>> = vec![Some(whole[..whole.len() - 1].to_vec())];
        for part in [0, 1, 2, 3] {
            let mut changed = whole.to_vec();
            changed[part * (whole.len() - 1) / 3] ^= 4;
            damaged.push(Some(changed));
        }
        if !path.as_ref().ends_with("manifest") {
            damaged.push(None);
        }
        for bytes in damaged {
            match bytes {
                Some(bytes) => drop(place.objects().put(&path, bytes.into()).await.unwrap()),
                None => place.objects().delete(&path).await.unwrap(),
            }
            match problems(&place, "a").await {
                Ok(found) => assert!(!found.is_empty(), "{path}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{path}: {}", error.report()),
            }
            let target = Store::in_memory();
            let error = restore(&place, "a", &target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{path}: {}", error.report());
            assert_eq!(paths(&target).await, [], "{path}");
        }
        place.objects().put(&path, whole.into()).await.unwrap();
    }
    // A full backup stands for itself, whatever is damaged beside it; but what the damaged one needs is not known.
    place.objects().put(&Path::from("backups/a/manifest"), "x".into()).await.unwrap();
    create(&database, &place, "b", BackupKind::Full).await.unwrap();
    assert_eq!(contents(&restored(&place, "b").await).await, EVENTFUL);
    let count = paths(&place).await.len();
    let backups = backups(&database, &place);
    assert_eq!(backups.delete(name("b")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(paths(&place).await.len(), count - 1, "only its manifest went");
    backups.delete(name("a")).await.unwrap();
    assert_eq!(paths(&place).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_empty_is_left_alone() {
    let database = eventful().await;
    let place = Store::in_memory();
    create(&database, &place, "a", BackupKind::Full).await.unwrap();
    let target = Store::in_memory();
    target.objects().put(&Path::from("x"), "x".into()).await.unwrap();
    assert_eq!(restore(&place, "a", &target).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(paths(&target).await, [Path::from("x")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_fails_is_not_there_and_the_next_one_is_whole() {
    let database = eventful().await;
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let faults = FaultStore::new(Arc::clone(&inner), 7);
    let place = Store::new(Arc::<FaultStore>::clone(&faults), "faulty");
    let (mut made, mut failed) = (Vec::new(), 0);
    for (moment, aftermath) in [
        (Moment::Before, Aftermath::Recovers),
        (Moment::Before, Aftermath::StaysDown),
        (Moment::AfterCommit, Aftermath::Recovers),
        (Moment::AfterCommit, Aftermath::StaysDown),
    ] {
        for put in 0.. {
            let text = format!("{moment:?}-{aftermath:?}-{put}").to_lowercase();
            faults.fail_put(put, moment, aftermath);
            let before = faults.requests().faults;
            let created = create(&database, &place, &text, BackupKind::Full).await;
            let was_hit = faults.requests().faults > before;
            faults.heal();
            match created {
                Ok(_) => made.push(text),
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}: {}", error.report());
                    // Its manifest may have been stored all the same: then it is whole.
                    if location(&place).find(&Which::Named(name(&text))).await.is_ok() {
                        made.push(text);
                    }
                }
            }
            if !was_hit {
                break;
            }
        }
    }
    assert!(failed > 10, "{failed}");
    for text in &made {
        assert_eq!(problems(&place, text).await.unwrap(), [""; 0], "{text}");
    }
    assert_eq!(contents(&restored(&place, made.last().unwrap()).await).await, EVENTFUL);
    // Deleting fails everywhere too, and what is left is always whole.
    let backups = backups(&database, &place);
    for (number, text) in made.iter().enumerate() {
        faults.set_rates(FaultRates { before: 100, after_commit: 100, ..FaultRates::default() });
        let _may_fail = backups.delete(name(text)).await;
        faults.heal();
        let listed = location(&place).list().await.unwrap();
        assert!(listed.len() >= made.len() - number - 1);
        for backup in listed {
            assert_eq!(problems(&place, backup.name.as_str()).await.unwrap(), [""; 0], "{}", backup.name);
        }
    }
    for listed in location(&place).list().await.unwrap() {
        backups.delete(listed.name).await.unwrap();
    }
    create(&database, &place, "last", BackupKind::Full).await.unwrap();
    backups.delete(name("last")).await.unwrap();
    assert_eq!(paths(&place).await, [], "nothing is left of all that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_cut_off_leaves_nothing_that_opens() {
    let database = eventful().await;
    let place = Store::in_memory();
    create(&database, &place, "a", BackupKind::Full).await.unwrap();
    let (mut refused, mut whole) = (0, 0);
    for put in 0.. {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let faults = FaultStore::new(Arc::clone(&inner), put);
        faults.fail_put(put, Moment::Before, Aftermath::StaysDown);
        let done = restore(&place, "a", &Store::new(faults, "faulty")).await;
        let left = Store::new(inner, "left");
        if put == 0 {
            assert_eq!(paths(&left).await, [], "the first put marks the store");
            continue;
        }
        match TestDatabase::on(left).await {
            Ok(copy) => {
                assert_eq!(contents(&copy).await, EVENTFUL, "put {put}");
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "put {put}: {}", error.report());
                refused += 1;
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(refused > 5 && whole >= 1, "{refused} {whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_place_refuses_and_one_with_a_place_answers_over_http() {
    let server = TestServer::start().await;
    let url = server.url("/api/v3/backups");
    let refused = server.http.post(&url).json(&serde_json::json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("--backup-to"));

    let directory = tempfile::tempdir().unwrap();
    let place = flightline::config::StorePlace {
        store: flightline::engine::store::StoreSettings::File { root: directory.path().to_owned() },
        prefix: "deep/down".to_owned(),
        connections: flightline::engine::store::ConnectionSettings::default(),
    };
    let server = TestServer::start_with(|settings| settings.backups = Some(place)).await;
    let url = server.url("/api/v3/backups");
    server.write("db", "t n=1i 1").await;
    let post = async |body: serde_json::Value| {
        let response = server.http.post(&url).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, text) = post(serde_json::json!({ "name": "a" })).await;
    assert!(status == 201 && text.contains("\"kind\":\"full\""), "{status} {text}");
    assert_eq!(post(serde_json::json!({ "name": "a" })).await.0, 409);
    assert_eq!(post(serde_json::json!({ "name": "A/B" })).await.0, 400);
    let (first, second) = tokio::join!(post(serde_json::json!({})), post(serde_json::json!({ "full": true })));
    let mut both = [first.0, second.0];
    both.sort_unstable();
    assert_eq!(both, [201, 409], "one at a time");
    assert!(directory.path().join("deep/down/backups/a/manifest").is_file());

    let listed = server.http.get(format!("{url}?format=csv")).send().await.unwrap().text().await.unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.starts_with("name,instant,kind,tables,rows,") && listed.contains("\na,"), "{listed}");
    let delete = async |name: &str| server.http.delete(format!("{url}?name={name}")).send().await.unwrap().status();
    assert_eq!((delete("a").await.as_u16(), delete("a").await.as_u16()), (200, 404));
}

/// What the program prints and how it ends.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(arguments).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn succeed(arguments: &[&str]) -> String {
    let (code, output, error) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {output}{error}");
    output
}

fn text(path: &FilePath) -> &str {
    path.to_str().unwrap()
}

/// Writes numbered rows to two tables until told to stop; says how many are acknowledged.
fn writer(url: String, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        let mut n = acknowledged.load(Ordering::SeqCst);
        while !stop.load(Ordering::SeqCst) {
            n += 1;
            let lines = format!("a n={n}i {n}\nb n={n}i {n}");
            let answer = runtime.block_on(async { http.post(&url).body(lines).send().await });
            match answer {
                Ok(response) => assert_eq!(response.status(), 204),
                Err(_) => return, // killed
            }
            acknowledged.store(n, Ordering::SeqCst);
        }
    })
}

/// The largest number in a table, which must hold all before it.
fn last(server: &ServerProcess, table: &str) -> u64 {
    let sql = format!("SELECT count(*), max(n) FROM {table}");
    let output = succeed(&["query", "-d", "db", "--format", "csv", "--host", &server.url(""), &sql]);
    let (count, max) = output.lines().nth(1).unwrap().split_once(',').unwrap();
    assert_eq!(count, max, "{table} has a gap");
    max.parse().unwrap()
}

#[test]
fn a_lost_server_comes_back_from_its_backup() {
    let directory = tempfile::tempdir().unwrap();
    let (data, place, new) =
        (directory.path().join("data"), directory.path().join("place"), directory.path().join("new"));
    let small =
        ["--persist-rows", "200", "--persist-age", "1s", "--compaction-settle", "0s", "--backup-to", text(&place)];
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let server = ServerProcess::start(&data, &small);
    let url = server.url("/api/v3/write_lp?db=db&precision=ns");
    let writing = writer(url, Arc::clone(&acknowledged), Arc::clone(&stop));
    while acknowledged.load(Ordering::SeqCst) < 300 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let host = server.url("");
    let created = succeed(&["backup", "create", "one", "--host", &host]);
    assert!(created.contains("\"one\" created") && created.contains("full"), "{created}");
    let before = acknowledged.load(Ordering::SeqCst);
    let created = succeed(&["backup", "create", "two", "--host", &host]);
    assert!(created.contains("incremental"), "{created}");
    assert!(succeed(&["backup", "list", "--host", &host]).contains("| two "));

    // In the middle of a third one the machine dies.
    let dying = std::thread::spawn(move || run(&["backup", "create", "three", "--full", "--host", &host]));
    std::thread::sleep(Duration::from_millis(1100));
    server.kill();
    stop.store(true, Ordering::SeqCst);
    writing.join().unwrap();
    let third_is_there = dying.join().unwrap().0 == 0;
    std::fs::remove_dir_all(&data).unwrap();

    let from = ["--from", text(&place)];
    let listed = succeed(&["backup", "list", from[0], from[1]]);
    assert!(listed.contains("| one ") && listed.contains("| two "), "{listed}");
    assert!(!third_is_there || listed.contains("| three "), "{listed}");
    assert!(succeed(&["backup", "verify", "two", from[0], from[1]]).starts_with("all is well"));
    let restored = succeed(&["backup", "restore", "two", from[0], from[1], "--data-dir", text(&new)]);
    assert!(restored.contains("restored to") && restored.contains("checked"), "{restored}");
    assert!(succeed(&["check", "--data-dir", text(&new)]).starts_with("all is well"));
    let (code, _, error) = run(&["backup", "restore", "two", from[0], from[1], "--data-dir", text(&new)]);
    assert!(code == 1 && error.contains("is not empty"), "{error}");

    let server = ServerProcess::start(&new, &small);
    let (a, b) = (last(&server, "a"), last(&server, "b"));
    assert_eq!(a, b, "half a write");
    assert!(a >= before, "{a} of {before}");
    // The new server has another data directory, so that the lock of the dead one would have to grow old first.
    let listed = succeed(&["backup", "list", "--host", &server.url("")]);
    assert!(listed.contains("| two "), "{listed}");
    assert_eq!(server.terminate(), 0);
    let (code, _, error) = run(&["backup", "restore", from[0], from[1], "--data-dir", text(&new)]);
    assert!(code == 1 && error.contains("nothing was restored"), "{error}");
}

#[test]
fn a_server_that_was_killed_in_a_backup_makes_the_next_one_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (data, place) = (directory.path().join("data"), directory.path().join("place"));
    let arguments = ["--persist-rows", "50", "--backup-to", text(&place)];
    let (acknowledged, mut made) = (Arc::new(AtomicU64::new(0)), 0);
    for round in 0..6 {
        let server = ServerProcess::start(&data, &arguments);
        let stop = Arc::new(AtomicBool::new(false));
        let url = server.url("/api/v3/write_lp?db=db&precision=ns");
        let writing = writer(url, Arc::clone(&acknowledged), Arc::clone(&stop));
        let (host, text) = (server.url(""), format!("r{round}"));
        let dying = std::thread::spawn(move || run(&["backup", "create", &text, "--full", "--host", &host]).0);
        // The lock alone takes a second.
        std::thread::sleep(Duration::from_millis(1000 + round * 25));
        server.kill();
        stop.store(true, Ordering::SeqCst);
        writing.join().unwrap();
        made += u32::from(dying.join().unwrap() == 0);
    }
    let server = ServerProcess::start(&data, &arguments);
    succeed(&["backup", "create", "last", "--host", &server.url("")]);
    let listed = succeed(&["backup", "list", "--from", text(&place)]);
    let names: Vec<String> =
        listed.lines().filter_map(|line| line.split('|').nth(1)).map(|name| name.trim().to_owned()).skip(1).collect();
    assert!(names.len() as u32 > made, "{listed}");
    for name in &names {
        assert!(succeed(&["backup", "verify", name, "--from", text(&place)]).starts_with("all is well"), "{name}");
    }
    for name in &names {
        succeed(&["backup", "delete", name, "--yes", "--host", &server.url("")]);
    }
    let left = Command::new("find").args([text(&place), "-name", "*.parquet"]).output().unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "nothing is left of what was cut off");
}

#[rstest]
fn a_backup_goes_to_a_part_of_a_bucket_and_comes_back_from_there(
    #[values(Kind::S3, Kind::Azure, Kind::Google)] kind: Kind,
) {
    let stores = ObjectServer::start(kind);
    let (source, target) = (stores.bucket("source"), stores.bucket("target"));
    stores.bucket("copies");
    let scheme = match kind {
        Kind::Azure => "azure",
        Kind::Google => "gs",
        _ => "s3",
    };
    let place = format!("{scheme}://copies/nightly/nyc");
    let directory = tempfile::tempdir().unwrap();
    let flags = |bucket: &[String], more: &[&str]| -> Vec<String> {
        more.iter().map(|flag| (*flag).to_owned()).chain(bucket.iter().cloned()).collect()
    };
    let started = |data: &str, bucket: &[String]| {
        let arguments = flags(bucket, &["--persist-rows", "3", "--persist-age", "1s", "--backup-to", &place]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ServerProcess::start(&directory.path().join(data), &arguments)
    };
    let done = |more: &[&str], bucket: &[String]| {
        let arguments = flags(bucket, more);
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let server = started("old", &source.flags);
    let host = server.url("");
    for n in 1..=10 {
        let lines = format!("a n={n}i {n}\nb n={n}i {n}");
        succeed(&["write", "-d", "db", "--precision", "ns", "--host", &host, &lines]);
        if n == 5 {
            succeed(&["backup", "create", "first", "--host", &host]);
        }
    }
    let created = succeed(&["backup", "create", "second", "--host", &host]);
    assert!(created.contains("incremental"), "{created}");
    succeed(&["backup", "delete", "first", "--yes", "--host", &host]);
    server.kill();

    assert!(done(&["backup", "list", "--from", &place], &source.flags).contains("| second "));
    assert!(done(&["backup", "verify", "--from", &place], &source.flags).starts_with("all is well"));
    let data = directory.path().join("new");
    done(&["backup", "restore", "--from", &place, "--data-dir", text(&data)], &target.flags);
    let server = started("new", &target.flags);
    assert_eq!((last(&server, "a"), last(&server, "b")), (10, 10));
    let created = succeed(&["backup", "create", "third", "--host", &server.url("")]);
    assert!(created.contains("full"), "{created}");
    assert_eq!(server.terminate(), 0);
}
