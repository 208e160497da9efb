//! A mirror follows its store: it is a whole store at every moment, whatever fails, and nobody writes to both.

use std::path::Path as FilePath;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::engine::mirror::promote::promote;
use flightline::engine::mirror::{MirrorFacts, MirrorSettings, MirrorState};
use flightline::engine::store::Store;
use flightline::engine::verify::{Verified, verify};
use flightline::engine::{EngineSettings, HardDelete};
use flightline::error::{Error, ErrorKind};
use flightline::model::{DatabaseName, TableName};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rstest::rstest;

use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::object_server::{Kind, ObjectServer};
use crate::harness::process::{PROGRAM, ServerProcess};
use crate::harness::store::{Aftermath, FaultStore, Moment};

/// How long a mirror may take to be where a test wants it.
const PATIENCE: Duration = Duration::from_secs(30);

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Settings with a mirror that loses no time, and garbage that goes at once.
fn mirrored(to: &Store) -> EngineSettings {
    let quick = Duration::from_millis(2);
    let mirror = MirrorSettings { interval: quick, patience: PATIENCE, ..MirrorSettings::new(to.clone(), None) };
    EngineSettings { mirror: Some(mirror), delete_grace: Duration::ZERO, ..TestDatabase::settings() }
}

async fn start(origin: &Store, mirror: &Store) -> TestDatabase {
    TestDatabase::with(origin.clone(), mirrored(mirror), clock()).await
}

fn facts(database: &TestDatabase) -> MirrorFacts {
    database.engine().mirror().unwrap()
}

/// Waits for what is to be said of the mirror.
async fn until(database: &TestDatabase, what: impl Fn(&MirrorFacts) -> bool) -> MirrorFacts {
    let clock = SystemClock::new();
    loop {
        let facts = facts(database);
        if what(&facts) {
            return facts;
        }
        assert!(clock.elapsed() < PATIENCE, "{facts:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the mirror has what the origin's catalog says.
async fn followed(database: &TestDatabase) -> MirrorFacts {
    until(database, |facts| facts.state == MirrorState::Following && facts.records_behind == 0).await
}

/// What the check of a store finds, but for the catalog's objects: each of the two has checkpoints of its own.
async fn checked(store: &Store) -> Result<Option<Verified>, Error> {
    let mut problems = Vec::new();
    let verified = verify(store, clock(), &mut |problem| problems.push(problem.to_string())).await?;
    assert_eq!(problems, [""; 0]);
    Ok(verified.map(|verified| Verified { catalog_objects: 0, ..verified }))
}

/// A copy of a store as it is, that is a mirror of nothing.
pub async fn image(store: &Store) -> Store {
    let copy = Store::in_memory();
    let paths: Vec<Path> = store.objects().list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    for path in paths.into_iter().filter(|path| path.as_ref() != "catalog/mirror") {
        let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        copy.objects().put(&path, bytes.into()).await.unwrap();
    }
    copy
}

async fn texts(database: &TestDatabase, sql: &str) -> Vec<String> {
    let rows = database.rows(sql).await.unwrap();
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")).collect()
}

/// The numbers in table `t`, which must be all from 0 on, once each.
async fn rows(database: &TestDatabase) -> usize {
    if !database.engine().tables(&DatabaseName::new(DATABASE).unwrap()).is_ok_and(|tables| !tables.is_empty()) {
        return 0;
    }
    let found = texts(database, "SELECT n FROM t ORDER BY n").await;
    let expected: Vec<String> = (0..found.len()).map(|number| number.to_string()).collect();
    assert_eq!(found, expected);
    found.len()
}

/// Adds ten rows as a file of its own.
async fn add(database: &TestDatabase, round: u64) {
    let line = |n: u64| format!("t,k=k{} n={n}u {}\n", n % 3, n * 7 % 1000 * 1_000_000);
    database.write(&(round * 10..round * 10 + 10).map(line).collect::<String>()).await;
    database.engine().persist_all().await.unwrap();
}

/// Files come, are joined, and go.
async fn work(database: &TestDatabase, rounds: std::ops::Range<u64>) {
    for round in rounds {
        add(database, round).await;
        if round % 3 == 2 {
            database.engine().compact_all().await.unwrap();
            database.engine().collect_garbage().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_has_what_its_store_has_in_files_and_nothing_else() {
    let (origin, mirror) = (Store::in_memory(), Store::in_memory());
    let mut database = start(&origin, &mirror).await;
    let (name, gone) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("gone").unwrap());
    work(&database, 0..7).await;
    database.write("gone v=1 1\nlate v=1 1").await;
    database.rows("DELETE FROM t WHERE k = 'none'").await.unwrap();
    database.engine().delete_table(&name, &gone, HardDelete::Never).await.unwrap();
    database.write("late v=2 2").await; // in the log only, both of them
    let facts = followed(&database).await;
    assert!(facts.files > 0 && facts.bytes > 0 && facts.complete_at.is_some() && facts.error.is_none(), "{facts:?}");

    let verified = checked(&mirror).await.unwrap().unwrap();
    assert_eq!(verified, checked(&origin).await.unwrap().unwrap());
    let copy = TestDatabase::on(image(&mirror).await).await.unwrap();
    assert_eq!(rows(&copy).await, 70);
    assert_eq!(texts(&copy, "SELECT v FROM late").await, [""; 0], "what is in no file is not there");
    copy.engine().undelete_table(&name, "gone", None).await.unwrap();
    assert_eq!(texts(&copy, "SELECT v FROM gone").await, ["1.0"]);
    let shown = texts(&database, "SELECT place, state, records_behind, failures, error FROM system.mirror").await;
    assert_eq!(shown, ["memory following 0 0 "]);

    // An orderly stop leaves nothing in the log, and the mirror has even that.
    database.close().await.unwrap();
    let copy = TestDatabase::on(image(&mirror).await).await.unwrap();
    assert_eq!(texts(&copy, "SELECT v FROM late ORDER BY time").await, ["1.0", "2.0"]);

    // The next start copies nothing twice.
    let database = start(&origin, &mirror).await;
    assert_eq!(followed(&database).await.files, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_mirror_there_is_none_to_see() {
    let database = TestDatabase::new().await;
    database.write("t v=1 1").await;
    assert_eq!(texts(&database, "SELECT * FROM system.mirror").await, [""; 0]);
}

/// The mirror is cut off at every put in turn: what is there then opens, with a prefix of what was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mirror_is_whole_at_every_put() {
    const BEFORE: u64 = 4;
    const ROUNDS: u64 = 12;
    let (mut unborn, mut whole, mut least) = (0, 0, usize::MAX);
    for put in 0.. {
        let moment = if put % 2 == 0 { Moment::Before } else { Moment::AfterCommit };
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let faults = FaultStore::new(Arc::clone(&inner), put);
        let (origin, mirror) = (Store::in_memory(), Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "mirror"));
        let mut database = TestDatabase::with(origin.clone(), TestDatabase::settings(), clock()).await;
        work(&database, 0..BEFORE).await;
        database.close().await.unwrap();
        faults.fail_put(put, moment, Aftermath::StaysDown);
        let database = start(&origin, &mirror).await;
        for round in BEFORE..ROUNDS {
            work(&database, round..round + 1).await;
            // Sometimes it follows record by record, sometimes it has to catch up.
            if round % 2 == 0 {
                until(&database, |facts| facts.records_behind == 0 || facts.state == MirrorState::Failing).await;
            }
        }
        let end = until(&database, |facts| facts.records_behind == 0 || facts.state == MirrorState::Failing).await;
        let left = image(&Store::new(inner, "left")).await;
        match checked(&left).await {
            Ok(Some(_)) => {
                let found = rows(&TestDatabase::on(left).await.unwrap()).await;
                assert!(found.is_multiple_of(10), "put {put}: {found} rows");
                (whole, least) = (whole + 1, least.min(found));
            }
            Ok(None) => unborn += 1, // its mark, and nothing else
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "put {put}: {}", error.report());
                unborn += 1;
            }
        }
        if end.records_behind == 0 {
            break;
        }
        faults.heal();
        followed(&database).await;
        assert_eq!(checked(&mirror).await.unwrap(), checked(&origin).await.unwrap(), "put {put}: after healing");
    }
    assert!(unborn >= 5 && whole >= 20 && least == 40, "{unborn} {whole} {least}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_away_for_long_catches_up_and_disturbs_nobody() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let faults = FaultStore::new(Arc::clone(&inner), 1);
    let (origin, mirror) = (Store::in_memory(), Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "mirror"));
    faults.go_down();
    let database = start(&origin, &mirror).await; // away from the beginning
    work(&database, 0..3).await;
    let facts = until(&database, |facts| facts.failures > 0).await;
    assert!(facts.state == MirrorState::Failing && facts.complete_at.is_none(), "{facts:?}");
    assert!(facts.error.as_ref().is_some_and(|error| error.contains("\"mirror\"")), "{facts:?}");
    faults.heal();
    followed(&database).await;

    faults.go_down();
    // Files that the mirror's next records name are gone, and then the records.
    work(&database, 3..12).await;
    let name = DatabaseName::new(DATABASE).unwrap();
    let table = TableName::new("t").unwrap();
    for _ in 0..300 {
        for period in [None, Some(Duration::from_secs(36_500 * 24 * 3600))] {
            database.engine().set_retention(&name, Some(&table), period).await.unwrap();
        }
    }
    let facts = until(&database, |facts| facts.state == MirrorState::Failing).await;
    assert!(facts.records_behind > 600, "{facts:?}");
    let behind = image(&Store::new(inner, "left")).await;
    assert_eq!(rows(&TestDatabase::on(behind).await.unwrap()).await, 30, "it is as it was");
    faults.heal();
    followed(&database).await;
    assert_eq!(checked(&mirror).await.unwrap(), checked(&origin).await.unwrap());
    assert_eq!(rows(&TestDatabase::on(image(&mirror).await).await.unwrap()).await, 120);
    // And goes on, past checkpoints of its own.
    for _ in 0..300 {
        database.engine().set_retention(&name, Some(&table), None).await.unwrap();
        database.engine().set_retention(&name, Some(&table), Some(Duration::from_secs(3_000_000_000))).await.unwrap();
    }
    work(&database, 12..14).await;
    followed(&database).await;
    assert_eq!(checked(&mirror).await.unwrap(), checked(&origin).await.unwrap());
    let checkpoints =
        mirror.objects().list(Some(&Path::from("catalog/checkpoint"))).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(checkpoints.len(), 2);
    // One of them may be lost.
    let newest = checkpoints.iter().map(|object| object.location.clone()).max().unwrap();
    let damaged = image(&mirror).await;
    damaged.objects().put(&newest, "x".into()).await.unwrap();
    assert_eq!(rows(&TestDatabase::on(damaged).await.unwrap()).await, 140);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_damaged_in_a_mirror_is_made_good_by_the_next_start() {
    let (origin, mirror) = (Store::in_memory(), Store::in_memory());
    let mut database = start(&origin, &mirror).await;
    work(&database, 0..8).await;
    database.close().await.unwrap();
    let listed = |below: &str| {
        let listed = mirror.objects().list(Some(&Path::from(below)));
        listed.map_ok(|object| object.location).try_collect::<Vec<Path>>()
    };
    let files = listed("dbs").await.unwrap();
    assert!(files.len() >= 2);
    mirror.objects().delete(&files[0]).await.unwrap();
    mirror.objects().put(&files[1], "half".into()).await.unwrap();
    mirror.objects().put(&Path::from("dbs/1-db/1-t/1970-01-01/0000000099.parquet"), "left over".into()).await.unwrap();
    mirror.objects().put(&listed("catalog/log").await.unwrap()[3], "x".into()).await.unwrap();
    for checkpoint in listed("catalog/checkpoint").await.unwrap() {
        mirror.objects().put(&checkpoint, "y".into()).await.unwrap();
    }
    let database = start(&origin, &mirror).await;
    let facts = followed(&database).await;
    assert_eq!((facts.files, facts.removed), (2, 2), "{facts:?}");
    assert_eq!(checked(&mirror).await.unwrap(), checked(&origin).await.unwrap());
    assert_eq!(rows(&TestDatabase::on(image(&mirror).await).await.unwrap()).await, 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_with_anything_else_is_refused() {
    let used = Store::in_memory();
    used.objects().put(&Path::from("a/b"), "x".into()).await.unwrap();
    let other = Store::in_memory();
    let mut of_another = start(&Store::in_memory(), &other).await;
    followed(&of_another).await;
    of_another.close().await.unwrap();
    for (place, reason) in [(&used, "\"a/b\""), (&other, "mirror of another store")] {
        let refused = TestDatabase::try_with(Store::in_memory(), mirrored(place), clock()).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_promoted_keeps_its_rows_and_the_origin_stops_mirroring() {
    for writes_first in [true, false] {
        let (origin, mirror) = (Store::in_memory(), Store::in_memory());
        let mut database = start(&origin, &mirror).await;
        work(&database, 0..4).await;
        followed(&database).await;
        let refused = async |is_wanted, gives_up| promote(&mirror, &clock(), is_wanted, gives_up).await.unwrap_err();
        let error = refused(false, true).await;
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("--promote-mirror"), "{error}");
        let error = refused(true, false).await;
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("--wal-abandon"), "{error}");

        promote(&mirror, &clock(), true, true).await.unwrap();
        let mut promoted = TestDatabase::on(mirror.clone()).await.unwrap();
        if writes_first {
            promoted.write("mine v=1 1").await;
            promoted.engine().persist_all().await.unwrap();
        }
        work(&database, 4..9).await; // the origin doesn't know yet
        let facts = until(&database, |facts| facts.state == MirrorState::Stopped).await;
        assert!(facts.error.is_some_and(|error| error.contains("--promote-mirror")));
        promoted.write("mine v=2 2").await;
        promoted.restart().await;
        assert_eq!(rows(&promoted).await, 40);
        let mine = if writes_first { vec!["1.0", "2.0"] } else { vec!["2.0"] };
        assert_eq!(texts(&promoted, "SELECT v FROM mine ORDER BY time").await, mine);
        checked(&mirror).await.unwrap();
        assert_eq!(rows(&database).await, 90, "the origin goes on by itself");
        database.close().await.unwrap();
        assert_eq!(database.start().await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

/// Without its mark only the numbers of records tell that somebody else writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_server_is_never_overwritten() {
    let (origin, mirror) = (Store::in_memory(), Store::in_memory());
    let database = start(&origin, &mirror).await;
    work(&database, 0..2).await;
    followed(&database).await;
    let intruder = TestDatabase::on(mirror.clone()).await.unwrap();
    intruder.write("mine v=1 1").await;
    intruder.engine().persist_all().await.unwrap();
    work(&database, 2..4).await;
    let facts = until(&database, |facts| facts.state == MirrorState::Stopped).await;
    assert!(facts.error.is_some_and(|error| error.contains("another server has written to the copy")));
    assert_eq!(rows(&intruder).await, 20);
    assert_eq!(texts(&intruder, "SELECT v FROM mine").await, ["1.0"]);
}

/// What the program prints and how it ends.
fn run(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(arguments).env_clear().output().unwrap();
    (status.code().unwrap(), [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

fn text(path: &FilePath) -> &str {
    path.to_str().unwrap()
}

fn write(server: &ServerProcess, lines: &str) {
    let url = server.url("/api/v3/write_lp?db=db&precision=ns");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = runtime.block_on(async { http.post(url).body(lines.to_owned()).send().await.unwrap() });
    assert_eq!(answer.status(), 204);
}

fn ask(server: &ServerProcess, sql: &str) -> String {
    let (code, output) = run(&["query", "-d", "db", "--format", "csv", "--host", &server.url(""), sql]);
    assert_eq!(code, 0, "{output}");
    output
}

#[test]
fn a_lost_machine_is_replaced_by_its_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    let place = new.join("objects"); // where a server on `new` looks for its store
    let arguments = ["--persist-age=1s", "--mirror-to", text(&place)];
    let server = ServerProcess::start(&data, &arguments);
    write(&server, "t n=1i 1\nt n=2i 2");
    let patience = SystemClock::new();
    while !ask(&server, "SELECT files_copied, records_behind FROM system.mirror").contains("\n1,0\n") {
        assert!(patience.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    server.kill();

    let check = |data: &FilePath| run(&["check", "--data-dir", text(data)]);
    assert!(check(&new).1.contains("all is well: 1 databases, 1 tables, 1 files with 2 rows"), "{:?}", check(&new));
    let serve =
        |more: &[&str]| run(&[&["serve", "--http-bind", "127.0.0.1:0", "--data-dir", text(&new)][..], more].concat());
    let (code, output) = serve(&[]);
    assert!(code != 0 && output.contains("is the mirror of"), "{output}");
    let (code, output) = serve(&["--promote-mirror"]);
    assert!(code != 0 && output.contains("--wal-abandon"), "{output}");
    let promoted = ServerProcess::start(&new, &["--promote-mirror", "--wal-abandon"]);
    assert!(ask(&promoted, "SELECT n FROM t ORDER BY n").contains("1\n2"));
    write(&promoted, "t n=3i 3");
    assert_eq!(promoted.terminate(), 0);
    assert!(check(&new).1.contains("2 files with 3 rows") || check(&new).1.contains("1 files with 3 rows"));

    // What was the origin is told, as long as it names that place.
    let (code, output) =
        run(&[&["serve", "--http-bind", "127.0.0.1:0", "--data-dir", text(&data)][..], &arguments].concat());
    assert!(code != 0 && output.contains("--promote-mirror"), "{output}");
    for inside in [data.join("objects"), data.join("objects/below"), data.clone()] {
        let refused =
            run(&["serve", "--http-bind", "127.0.0.1:0", "--data-dir", text(&data), "--mirror-to", text(&inside)]);
        assert!(refused.0 != 0 && refused.1.contains("a mirror has to be elsewhere"), "{}", refused.1);
    }
}

#[rstest]
fn a_mirror_may_be_in_any_store(#[values(Kind::S3, Kind::Azure)] kind: Kind) {
    let remote = ObjectServer::start(kind);
    let bucket = remote.bucket("copies");
    let directory = tempfile::tempdir().unwrap();
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    let url = if kind == Kind::Azure { "azure://copies" } else { "s3://copies" };
    let store: Vec<&str> = bucket.flags.iter().map(String::as_str).collect();
    let connection =
        store.iter().copied().filter(|flag| !flag.starts_with("--object-store=") && !flag.starts_with("--bucket="));
    let arguments: Vec<&str> = connection.chain(["--mirror-to", url, "--mirror-bytes-per-second=1MiB"]).collect();
    for round in 0..2 {
        let server = ServerProcess::start(&data, &arguments);
        write(&server, &format!("t n={round}i {round}"));
        assert_eq!(server.terminate(), 0);
    }
    let (code, output) = run(&[&["check", "--data-dir", text(&new)][..], &store].concat());
    assert!(code == 0 && output.contains("all is well: 1 databases, 1 tables, 2 files with 2 rows"), "{output}");
    // The origin was stopped in order, so nothing is missing and nothing has to be given up.
    let promoted = ServerProcess::start(&new, &[&["--promote-mirror"][..], &store].concat());
    assert!(ask(&promoted, "SELECT n FROM t ORDER BY n").contains("0\n1"));
    assert_eq!(promoted.terminate(), 0);
}
