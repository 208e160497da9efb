//! One suite over real object stores, each a process of its own: what the engine asks of a store, the engine on it,
//! and the program on it, killed and started again.
//!
//! A directory goes through the same suite, so that a failure tells whether a store or the engine is to blame.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use flightline::engine::store::{ConnectionSettings, Store, open};
use flightline::error::ErrorKind;
use flightline::model::{Column, ColumnKind, ColumnName, DatabaseName, FieldType, TableName, TableSchema};
use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions};
use rstest::rstest;

use crate::crash;
use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::object_server::{Bucket, Kind, ObjectServer};
use crate::harness::process::{PROGRAM, ServerProcess};
use crate::harness::proxy::Manner;

/// More than one page of a listing, which has a thousand in every store.
const MANY_KEYS: usize = 1_100;

/// How long a server that must not start may take to say so.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

/// How often the program is killed on each store.
const KILLS: u64 = 3;

fn store(bucket: &Bucket) -> Store {
    open(&bucket.settings, &ConnectionSettings::default()).unwrap()
}

// One server for all, because a server takes seconds to start; each part has a bucket of its own.
#[rstest]
fn a_store_keeps_what_the_engine_builds_on(#[values(Kind::File, Kind::S3, Kind::Azure, Kind::Google)] kind: Kind) {
    let server = ObjectServer::start(kind);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        of_many_creators_one_wins(&store(&server.bucket("race"))).await;
        long_listings_are_whole(&store(&server.bucket("pages"))).await;
        rows_come_back_from_the_store(&store(&server.bucket("rows"))).await;
        of_two_engines_the_later_one_writes(&store(&server.bucket("shared"))).await;
    });
    the_check_finds_everything_and_leaves_nothing(&runtime, &server.bucket("check"));
    crash::survive(&server.bucket("crash").flags, KILLS);
    let diskless = ["--wal".to_owned(), "object".to_owned()];
    crash::survive_with(&server.bucket("diskless").flags, &diskless, KILLS);
}

async fn of_many_creators_one_wins(store: &Store) {
    for key in 0..40 {
        let path = Path::from(format!("race/{key}"));
        let creators = (0..12).map(|creator| create(store, &path, creator));
        let winners: Vec<String> = join_all(creators).await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "key {key}: {winners:?}");
        let content = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(content, winners[0].as_bytes(), "key {key} holds what its winner put");
    }
}

/// The creator's name if it was first.
async fn create(store: &Store, path: &Path, creator: usize) -> Option<String> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.objects().put_opts(path, creator.to_string().into(), options).await {
        Ok(_) => Some(creator.to_string()),
        Err(Error::AlreadyExists { .. }) => None,
        Err(error) => panic!("creator {creator} of {path}: {error}"),
    }
}

async fn long_listings_are_whole(store: &Store) {
    let paths: Vec<Path> = (0..MANY_KEYS).map(|key| Path::from(format!("many/{key:05}"))).collect();
    let put = |path: Path| async move { store.create(&path, &Bytes::from_static(b"x")).await };
    let puts = futures::stream::iter(paths.clone()).map(put).buffer_unordered(32);
    puts.try_collect::<Vec<()>>().await.unwrap();

    assert_eq!(listed(store, None).await, paths);
    for after in [0, 49, 999, 1_000, MANY_KEYS - 1] {
        assert_eq!(listed(store, Some(&paths[after])).await, paths[after + 1..], "after {after}");
    }
}

async fn listed(store: &Store, after: Option<&Path>) -> Vec<Path> {
    let directory = Path::from("many");
    let listed = match after {
        Some(offset) => store.objects().list_with_offset(Some(&directory), offset),
        None => store.objects().list(Some(&directory)),
    };
    let mut listed: Vec<Path> = listed.map_ok(|meta| meta.location).try_collect().await.unwrap();
    listed.sort_unstable();
    listed
}

async fn rows_come_back_from_the_store(store: &Store) {
    let mut database = TestDatabase::on(store.clone()).await.unwrap();
    let sql = "SELECT time, host, usage FROM cpu ORDER BY host, time";
    for round in 0..3 {
        let lines: String = (0..500)
            .map(|n| format!("cpu,host=h{} usage={}.5 {}\n", n % 7, n + round, n * 3_600_000_000_000i64))
            .collect();
        database.write(&lines).await;
        if round < 2 {
            database.engine().persist_all().await.unwrap();
        }
    }
    assert_eq!(database.engine().metrics().files, 2);
    let expected = database.rows(sql).await.unwrap();
    assert_eq!(expected.len(), 500);
    database.crash().await;
    assert_eq!(database.rows(sql).await.unwrap(), expected, "two files and the log");
    database.restart().await;
    assert_eq!(database.engine().metrics().files, 3);
    assert_eq!(database.rows(sql).await.unwrap(), expected, "three files");
    let elsewhere = TestDatabase::on(store.clone()).await.unwrap();
    assert_eq!(elsewhere.rows(sql).await.unwrap(), expected, "without the log");
}

async fn of_two_engines_the_later_one_writes(store: &Store) {
    let (a, b) = tokio::join!(TestDatabase::on(store.clone()), TestDatabase::on(store.clone()));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.engine().catalog_id(), b.engine().catalog_id(), "of two that make a catalog, both get the same");
    let (of_a, of_b) = tokio::join!(create_table(&a, "cpu".to_owned()), create_table(&b, "cpu".to_owned()));
    let (writer, other, refused) = if of_a.is_ok() { (&a, &b, of_b) } else { (&b, &a, of_a) };
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("another server has taken over"), "{refused}");

    let names = || (0..10).map(|n| format!("t{n}"));
    try_join_all(names().map(|name| create_table(writer, name))).await.unwrap();
    let lines: String = names().map(|name| format!("{name} f=1.5 1\n{name} f=2.5 2\n")).collect();
    writer.write(&lines).await;
    writer.engine().persist_all().await.unwrap();
    assert_eq!(create_table(other, "late".to_owned()).await.unwrap_err().kind(), ErrorKind::Unavailable);

    let database = DatabaseName::new(DATABASE).unwrap();
    let third = TestDatabase::on(store.clone()).await.unwrap();
    let found: BTreeSet<String> =
        third.engine().tables(&database).unwrap().iter().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(found, names().chain(["cpu".to_owned()]).collect());
    assert_eq!(third.engine().metrics().files, 10);
    for name in names() {
        let rows = third.rows(&format!("SELECT sum(f), count(*) FROM {name}")).await.unwrap();
        assert_eq!(rows, [[Some("4.0".to_owned()), Some("2".to_owned())]], "{name}");
    }
}

async fn create_table(database: &TestDatabase, name: String) -> flightline::error::Result<()> {
    let field = Column { name: ColumnName::new("f").unwrap(), kind: ColumnKind::Field(FieldType::Float) };
    let (name, of) = (TableName::new(&name).unwrap(), DatabaseName::new(DATABASE).unwrap());
    database.engine().create_table(&of, &name, TableSchema::new([field]), None).await
}

/// The exit code and what was printed.
fn check_store(flags: &[String]) -> (i32, String) {
    let data = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = Command::new(PROGRAM)
        .args(["debug", "object-store-check", "--data-dir"])
        .arg(data.path())
        .args(flags)
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    println!("{text}");
    let objects = data.path().join("objects");
    assert!(!objects.join("check").exists(), "a directory is left behind");
    (status.code().unwrap(), text)
}

fn the_check_finds_everything_and_leaves_nothing(runtime: &tokio::runtime::Runtime, bucket: &Bucket) {
    let (code, text) = check_store(&bucket.flags);
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 14, "{text}");
    let left: Vec<_> = runtime.block_on(store(bucket).objects().list(None).try_collect()).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_store_that_does_not_answer_is_told_soon_and_without_secrets() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flags = [
        "--object-store=s3".to_owned(),
        "--bucket=b".to_owned(),
        format!("--aws-endpoint=http://{gone}"),
        "--aws-allow-http".to_owned(),
        "--aws-access-key-id=test".to_owned(),
        "--aws-secret-access-key=planted".to_owned(),
    ];
    let (code, text) = check_store(&flags);
    assert!(code == 1 && text.contains("MISSING") && !text.contains("planted"), "{text}");
}

/// How `serve` ends, which must not start.
fn refused(data: &std::path::Path, flags: &[String]) -> (i32, String) {
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--without-auth", "--http-bind", "127.0.0.1:0", "--log-filter", "error", "--data-dir"])
        .arg(data)
        .args(flags)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while child.try_wait().unwrap().is_none() && waited < REFUSAL_PATIENCE {
        std::thread::sleep(step);
        waited += step;
    }
    if waited >= REFUSAL_PATIENCE {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or_else(|| panic!("the server started: {error}")), error)
}

#[test]
fn a_store_that_ignores_conditions_takes_a_single_writer_that_says_so() {
    let server = ObjectServer::start(Kind::S3).behind(Manner::IgnoresConditions);
    let bucket = server.bucket("careless");
    let (code, text) = check_store(&bucket.flags);
    assert!(code == 1 && text.contains("MISSING needed  create only if new"), "{text}");

    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (code, error) = refused(first.path(), &bucket.flags);
    assert!(code == 1 && error.contains("--object-store-single-writer"), "{error}");

    let mut flags = bucket.flags.clone();
    flags.push("--object-store-single-writer".to_owned());
    assert_eq!(check_store(&flags).0, 0);
    let named: Vec<&str> = flags.iter().map(String::as_str).chain(["--node-id", "holder"]).collect();
    let holder = ServerProcess::start(first.path(), &named);
    let (code, error) = refused(second.path(), &flags);
    assert!(code == 1 && error.contains("node \"holder\", process "), "{error}");

    // Killed, its lock stays: it keeps others out, but not the next process on the same data.
    holder.kill();
    let (code, error) = refused(second.path(), &flags);
    assert!(code == 1 && error.contains("node \"holder\""), "{error}");
    let holder = ServerProcess::start(first.path(), &named);
    assert_eq!(holder.terminate(), 0);
    let second = ServerProcess::start(second.path(), &named);
    assert_eq!(second.terminate(), 0);

    let crashing = server.bucket("crash");
    flags = crashing.flags;
    flags.push("--object-store-single-writer".to_owned());
    crash::survive(&flags, KILLS);
}

#[rstest]
fn an_export_to_a_store_is_imported_from_it(#[values(Kind::S3, Kind::Azure)] kind: Kind) {
    let objects = ObjectServer::start(kind);
    let flags = objects.bucket("exported").flags;
    let store_flags =
        flags.iter().filter(|flag| !flag.starts_with("--object-store=") && !flag.starts_with("--bucket="));
    let store_flags: Vec<&str> = store_flags.map(String::as_str).collect();
    let url = if kind == Kind::S3 { "s3://exported/nyc/all" } else { "azure://exported/nyc/all" };
    let directory = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(&directory.path().join("data"), &[]);
    let run = |arguments: &[&str], more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(more).env_clear().env("FLIGHTLINE_HOST_URL", server.url(""));
        let output = command.current_dir(directory.path()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    };
    let weather = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nyc_weather.lp.gz");
    run(&["write", "-d", "nyc", "--file", weather], &[]);
    run(&["write", "-d", "nyc", "-p", "ns", "a/b\\ %c,t=x f=1u 1"], &[]);

    let export = ["export", "-d", "nyc", "--to", url, "--rows-per-file", "10000"];
    let (_, error) = run(&export, &store_flags);
    assert!(error.contains("wrote 26,116 rows in 4 files"), "{error}");
    let (_, error) = run(&export, &store_flags);
    assert!(error.contains("4 files of an earlier run"), "{error}");
    run(&["import", "-d", "copy", url], &store_flags);
    run(&["import", "-d", "part", &format!("{url}/w*/2013-0*.parquet")], &store_flags);
    for sql in ["SELECT * FROM weather ORDER BY origin, time", "SELECT * FROM \"a/b %c\""] {
        let rows = |database| run(&["query", "-d", database, "--format", "csv", sql], &[]).0;
        assert_eq!(rows("copy"), rows("nyc"));
    }
    let count = run(&["query", "-d", "part", "--format", "csv", "SELECT count(*) > 9999 FROM weather"], &[]).0;
    assert!(count.ends_with("true\n"), "{count}");
}
