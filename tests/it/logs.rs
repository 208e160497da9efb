//! Which write-ahead log a store has, and what becomes of it: taken over, left behind, lost and restored.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::object_server::{Kind, ObjectServer};
use crate::harness::process::{PROGRAM, ServerProcess};

/// How long a program that must not start may take to say so.
const PATIENCE: Duration = Duration::from_secs(30);

const ONE_STORE: &str = "--object-store=file";

fn write(server: &ServerProcess, line: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let url = server.url("/api/v3/write_lp?db=d&precision=ns");
        let response = client.post(url).body(line.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    })
}

fn count(server: &ServerProcess) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let body = serde_json::json!({ "db": "d", "q": "SELECT count(*) FROM cpu", "format": "csv" });
        let response = client.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
        response.text().await.unwrap().lines().nth(1).unwrap_or("nothing").to_owned()
    })
}

/// Status and text of `/health`.
fn health(server: &ServerProcess) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let response = client.get(server.url("/health")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    })
}

/// What `serve` says, which must not start.
fn refusal(data: &Path, arguments: &[&str]) -> String {
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--without-auth", "--http-bind", "127.0.0.1:0", "--log-filter", "error", "--data-dir"])
        .arg(data)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while child.try_wait().unwrap().is_none() && waited < PATIENCE {
        std::thread::sleep(step);
        waited += step;
    }
    // Also where it started after all: then the exit code tells.
    let _ = child.kill();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "it must refuse to start, but ended with {status}");
    String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap()
}

/// Makes `data` a data directory whose objects are in `store`.
fn share(store: &Path, data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    std::os::unix::fs::symlink(store, data.join("objects")).unwrap();
}

#[test]
fn a_server_with_the_log_in_the_store_takes_over_from_one_that_still_runs() {
    let root = tempfile::tempdir().unwrap();
    let (store, old_data, new_data) = (root.path().join("store"), root.path().join("old"), root.path().join("new"));
    std::fs::create_dir_all(&store).unwrap();
    share(&store, &old_data);
    share(&store, &new_data);
    let arguments = [ONE_STORE, "--wal=object", "--wal-flush-interval=5ms"];
    let old = ServerProcess::start(&old_data, &arguments);
    for n in 0..20 {
        assert_eq!(write(&old, &format!("cpu,host=a n={n}i {n}")).0, 204);
    }
    let new = ServerProcess::start(&new_data, &arguments);
    assert_eq!(count(&new), "20");
    let (status, text) = write(&old, "cpu,host=a n=20i 20");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("taken over"), "{text}");
    assert_eq!(write(&new, "cpu,host=a n=21i 21").0, 204);
    assert_eq!(count(&new), "21");
    let (status, text) = health(&old);
    assert!(status == 503 && text.contains("taken over"), "{status}: {text}");
    assert_eq!(health(&new), (200, "OK".to_owned()));
    assert_eq!(old.terminate(), 0, "it leaves in order what is not its own any more");
    assert_eq!(count(&new), "21");
    assert_eq!(new.terminate(), 0);
    assert_eq!(count(&ServerProcess::start(&old_data, &arguments)), "21");
}

#[test]
fn a_log_that_was_left_behind_is_not_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let (store, first_data, other_data) =
        (root.path().join("store"), root.path().join("first"), root.path().join("other"));
    std::fs::create_dir_all(&store).unwrap();
    share(&store, &first_data);
    share(&store, &other_data);
    let first = ServerProcess::start(&first_data, &[ONE_STORE]);
    assert_eq!(write(&first, "cpu,host=a n=1i 1").0, 204);
    first.kill();

    for arguments in [&[ONE_STORE][..], &[ONE_STORE, "--wal=object"]] {
        let text = refusal(&other_data, arguments);
        assert!(text.contains(&*first_data.join("wal").to_string_lossy()) && text.contains("--wal-abandon"), "{text}");
    }
    // With its own log everything is there; after a stop in order any log will do.
    let first = ServerProcess::start(&first_data, &[ONE_STORE]);
    assert_eq!(count(&first), "1");
    assert_eq!(first.terminate(), 0);
    let other = ServerProcess::start(&other_data, &[ONE_STORE, "--wal=object"]);
    assert_eq!(count(&other), "1");
    assert_eq!(write(&other, "cpu,host=a n=2i 2").0, 204);
    other.kill();

    let text = refusal(&first_data, &[ONE_STORE]);
    assert!(text.contains("/wal") && text.contains("--wal-abandon"), "{text}");
    let first = ServerProcess::start(&first_data, &[ONE_STORE, "--wal-abandon"]);
    assert_eq!(count(&first), "1", "what only the other log had is given up");
}

#[test]
fn a_replica_in_a_directory_has_all_that_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    replica_survives(&["--wal-replicate-to".to_owned(), root.path().join("replica").to_string_lossy().into_owned()]);
}

#[test]
fn a_replica_in_a_bucket_has_all_that_was_acknowledged() {
    let server = ObjectServer::start(Kind::S3);
    let mut flags = server.bucket("replica").flags;
    // The tables stay on the local disk.
    let store = flags.iter().position(|flag| flag.starts_with("--object-store")).unwrap();
    flags[store] = "--object-store=file".to_owned();
    replica_survives(&[flags, vec!["--wal-replicate-to=s3://replica/log".to_owned()]].concat());
}

fn replica_survives(arguments: &[String]) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--wal-segment-bytes=65536"]).collect();
    let server = ServerProcess::start(&data, &arguments);
    for n in 0..50 {
        assert_eq!(write(&server, &format!("cpu,host=a n={n}i {n}")).0, 204);
    }
    server.kill();
    for lost in std::fs::read_dir(data.join("wal")).unwrap() {
        std::fs::remove_file(lost.unwrap().path()).unwrap();
    }
    let server = ServerProcess::start(&data, &arguments);
    assert_eq!(count(&server), "50");
    assert_eq!(write(&server, "cpu,host=a n=50i 50").0, 204);
    assert_eq!(server.terminate(), 0);

    let text = refusal(&data, &["--wal=object", "--wal-replicate-to=/replica"]);
    assert!(text.contains("--wal-replicate-to"), "{text}");
}
