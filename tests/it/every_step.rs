//! The process ends at each named step between two things that are stored, in turn.
//!
//! For each step the real program runs with it chosen, under writes, deletions, retention, persists and compactions and through
//! orderly stops, until it ends there. Then it starts again: what was acknowledged is there once, what was deleted is not,
//! what was written together is there together, and `flightline check` finds nothing wrong. A mirror is whole as it was left and
//! follows again, backups that are there are whole. A restore and an export are begun anew, or go on.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::steps::{Step, VARIABLE};
use serde_json::json;

use crate::harness::process::{PROGRAM, ServerProcess};

/// Each run under load is so long at least, and ends with an orderly stop unless the step came first.
const RUN: Duration = Duration::from_millis(1500);

/// So many rows have to be acknowledged for anything to be said.
const ROWS_MIN: usize = 100;

/// After so many runs the step must have been reached.
const RUNS_MAX: usize = 24;

/// A process ends where it comes to its step for the first time, and in another try when several tables have been there.
const TIMES: [usize; 2] = [1, 6];

/// Servers that are tried at one time.
const AT_ONCE: usize = 4;

/// How long a process that has ended may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

const SIGABRT: i32 = 6;

const SMALL: &[&str] = &[
    "--persist-rows=200",
    "--persist-age=1s",
    "--wal-segment-bytes=65536",
    "--wal-flush-interval=5ms",
    "--num-datafusion-threads=1",
    "--compaction-settle=0s",
    "--compaction-cpu-percent=100",
    "--delete-grace-period=0s",
];

/// What was asked for and what was answered. What was asked for and not answered may have happened or not.
#[derive(Debug, Default)]
struct Model {
    next: u64,
    sent: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// Rows of `gone` up to this number were to be deleted, and were.
    deletion_asked: u64,
    deletion_done: u64,
    gone_acknowledged: BTreeSet<u64>,
    /// Tables of which the deletion was answered.
    tables_deleted: Vec<u64>,
    /// How many backups were asked for; which were made, and for which ones their deletion was asked for.
    backups_asked: u64,
    backups_made: BTreeSet<String>,
    backups_deleted: BTreeSet<String>,
}

/// What has to go on for a step to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Server,
    /// A server with its log in the store.
    Diskless,
    Mirror,
    Backup,
    Restore,
    Export,
}

fn stage(step: Step) -> Stage {
    match step {
        Step::LogObjectStored | Step::LogObjectsRemoved | Step::LogEnded => Stage::Diskless,
        Step::MirrorMarked
        | Step::MirrorFilesStored
        | Step::MirrorRecordStored
        | Step::MirrorCheckpointStored
        | Step::MirrorFilesRemoved => Stage::Mirror,
        Step::BackupRowsStored
        | Step::BackupFilesStored
        | Step::BackupCatalogStored
        | Step::BackupAnnounced
        | Step::BackupForgotten => Stage::Backup,
        Step::RestoreMarked | Step::RestoreFilesStored | Step::RestoreRecordStored | Step::RestoreCheckpointStored => {
            Stage::Restore
        }
        Step::ExportPlanned | Step::ExportFileWritten | Step::ExportFileNamed => Stage::Export,
        _ => Stage::Server,
    }
}

#[test]
fn a_process_that_ends_at_any_step_loses_and_doubles_nothing() {
    let of_servers = |step: &&Step| !matches!(stage(**step), Stage::Restore | Stage::Export);
    let steps = Step::ALL.iter().rev().filter(of_servers);
    let remaining = Mutex::new(steps.flat_map(|step| TIMES.map(|time| (*step, time))).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((step, time)) = remaining.lock().unwrap().pop() else { return };
                    ends_at(step, time);
                }
            });
        }
    });
}

fn ends_at(step: Step, time: usize) {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [copy, place] = ["copy", "place"].map(|name| data.path().join(name));
    let mirror = format!("--mirror-to={}", copy.join("objects").display()); // where a check of `copy` looks for its store
    let backups = format!("--backup-to={}", place.display());
    let more = match stage(step) {
        Stage::Diskless => Some("--wal=object"),
        Stage::Mirror => Some(&*mirror),
        Stage::Backup => Some(&*backups),
        Stage::Server | Stage::Restore | Stage::Export => None,
    };
    let arguments: Vec<&str> = SMALL.iter().copied().chain(more).collect();
    let chosen = format!("{step:?}:{time}");
    let mut model = Model::default();
    let mut ended = None;
    for run in 0..if time == 1 { RUNS_MAX } else { 2 } {
        // Not in the first run, so that there is something to lose.
        let environment = [(VARIABLE, if run == 0 { "" } else { chosen.as_str() })];
        let is_unmirrored = run == 0 && stage(step) == Stage::Mirror;
        let started: &[&str] = if is_unmirrored { SMALL } else { &arguments };
        let status = match ServerProcess::start_with(data.path(), started, &environment) {
            Err(status) => Some(status),
            Ok(mut server) => {
                runtime.block_on(model.work(&mut server, stage(step)));
                match server.ended() {
                    Some(status) => Some(status),
                    // Only after a process that was killed is there a log without an end.
                    None if run == 0 => {
                        server.kill();
                        None
                    }
                    None => Some(server.stop()).filter(|status| !status.success()),
                }
            }
        };
        if let Some(status) = status {
            assert_eq!(status.signal(), Some(SIGABRT), "{step:?}: it ended otherwise, with {status}");
            ended = Some(run);
            break;
        }
    }
    // Some come once in a run, and are counted anew in each.
    assert!(ended.is_some() || time > 1, "{step:?} was not reached in {RUNS_MAX} runs");
    if stage(step) == Stage::Mirror && step != Step::MirrorMarked && step != Step::MirrorFilesStored {
        check_files(&copy, step); // as it was left
    }

    let server = ServerProcess::start(data.path(), &arguments);
    runtime.block_on(model.check(&server, step));
    assert_eq!(server.terminate(), 0, "{step:?}");
    check_files(data.path(), step);
    match stage(step) {
        Stage::Mirror => check_files(&copy, step),
        Stage::Backup => model.check_backups(&place, step),
        _ => {}
    }
}

/// Exit code and all that was printed.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String) {
    let output = Command::new(PROGRAM).args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status, text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server with 1,000 rows in several files and some in its log.
fn with_rows(data: &Path, arguments: &[&str]) -> ServerProcess {
    let server = ServerProcess::start(data, &[&["--persist-rows=150", "--persist-age=1h"][..], arguments].concat());
    for part in 0..10 {
        let lines: String = (part * 100..part * 100 + 100).map(|n| format!("t,k=k{} n={n}i {n}\n", n % 3)).collect();
        let (status, printed) = run(&["write", "-d", "db", "-p", "ns", "--host", &server.url(""), &lines], &[]);
        assert!(status.success(), "{printed}");
    }
    server
}

fn rows(server: &ServerProcess) -> String {
    let sql = "SELECT count(*), sum(n) FROM t";
    let (status, printed) = run(&["query", "-d", "db", "--format", "csv", "--host", &server.url(""), sql], &[]);
    assert!(status.success(), "{printed}");
    printed.lines().nth(1).unwrap_or_default().to_owned()
}

const ALL_ROWS: &str = "1000,499500";

#[test]
fn a_restore_that_ends_at_any_step_leaves_nothing_that_is_less_than_the_backup() {
    let directory = tempfile::tempdir().unwrap();
    let [data, place, new] = ["data", "place", "new"].map(|name| directory.path().join(name));
    let server = with_rows(&data, &["--backup-to", text(&place)]);
    let (status, printed) = run(&["backup", "create", "one", "--host", &server.url("")], &[]);
    assert!(status.success(), "{printed}");
    drop(server);
    let restore = ["backup", "restore", "--from", text(&place), "--data-dir", text(&new)];
    for step in Step::ALL.iter().filter(|step| stage(**step) == Stage::Restore) {
        for time in 1.. {
            let (status, printed) = run(&restore, &[(VARIABLE, format!("{step:?}:{time}").as_str())]);
            if status.success() {
                assert!(time > 1, "{step:?} was not reached");
                std::fs::remove_dir_all(&new).unwrap();
                break;
            }
            assert_eq!(status.signal(), Some(SIGABRT), "{step:?}:{time}: {printed}");
            let (status, printed) = run(&["check", "--data-dir", text(&new)], &[]);
            assert!(!status.success() || printed.contains("all is well"), "{step:?}:{time}: {printed}");
            match ServerProcess::start_with(&new, &[], &[]) {
                Ok(server) => {
                    assert!(status.success(), "{step:?}:{time}: it opens, and the check says: {printed}");
                    assert_eq!(rows(&server), ALL_ROWS, "{step:?}:{time}");
                }
                Err(ended) => assert_eq!(ended.code(), Some(1), "{step:?}:{time}"),
            }
            let (status, printed) = run(&restore, &[]);
            assert!(!status.success() && printed.contains("nothing was restored"), "{step:?}:{time}: {printed}");
            std::fs::remove_dir_all(&new).unwrap();
        }
    }
    let (status, printed) = run(&restore, &[]);
    assert!(status.success(), "{printed}");
    assert_eq!(rows(&ServerProcess::start(&new, &[])), ALL_ROWS);
}

#[test]
fn an_export_that_ends_at_any_step_goes_on_to_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let server = with_rows(&path("data"), &[]);
    let host = server.url("");
    let export = |to: &Path, environment: &[(&str, &str)]| {
        let arguments = ["export", "-d", "db", "--format", "csv", "--rows-per-file", "100", "--host", &host, "--to"];
        run(&[&arguments[..], &[text(to)]].concat(), environment)
    };
    let files = |directory: &Path| {
        let entries = std::fs::read_dir(directory.join("t")).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap())).collect::<BTreeSet<_>>()
    };
    let (status, printed) = export(&path("whole"), &[]);
    assert!(status.success(), "{printed}");
    let whole = files(&path("whole"));
    assert!(whole.len() >= 10);
    for step in Step::ALL.iter().filter(|step| stage(**step) == Stage::Export) {
        for time in [1, 2, 7] {
            let to = path(&format!("{step:?}{time}"));
            let (status, printed) = export(&to, &[(VARIABLE, format!("{step:?}:{time}").as_str())]);
            if status.success() && time > 1 {
                continue; // it is come to once
            }
            assert_eq!(status.signal(), Some(SIGABRT), "{step:?}:{time}: {printed}");
            let named = |(name, _): &(std::ffi::OsString, Vec<u8>)| !name.to_string_lossy().starts_with('.');
            let left: BTreeSet<_> = files(&to).into_iter().filter(named).collect();
            assert!(left.is_subset(&whole) && left.len() < whole.len(), "{step:?}:{time}: what has its name is whole");
            let (status, printed) = export(&to, &[]);
            assert!(status.success(), "{step:?}:{time}: {printed}");
            assert!(files(&to) == whole, "{step:?}:{time}: nothing is missing, and nothing is left over");
        }
    }
}

fn check_files(data: &Path, step: Step) {
    let (status, printed) = run(&["check", "--data-dir", text(data)], &[]);
    assert!(status.success() && printed.contains("all is well"), "{step:?}: {printed}");
}

impl Model {
    /// Writes, deletes and lets expire until the time is over or the server is gone.
    async fn work(&mut self, server: &mut ServerProcess, stage: Stage) {
        let client = Client::new(server);
        let _ = client.post("/api/v3/configure/database", json!({ "db": "short", "retention_period": "1s" })).await;
        let clock = SystemClock::new();
        for round in 0_u64.. {
            // On a slow machine, too, each run has some of everything.
            let is_over = clock.elapsed() > RUN && self.acknowledged.len() >= ROWS_MIN && round >= 16;
            if is_over || self.write(&client).await.is_none() {
                break;
            }
            if round % 4 == 3 && self.delete_rows(&client).await.is_none() {
                break;
            }
            if round % 16 == 15 && self.delete_table(&client, round).await.is_none() {
                break;
            }
        }
        if stage == Stage::Backup {
            let _may_have_ended = self.back_up(&client).await;
        }
        // A process that has ended may take a moment to be gone.
        let ends = clock.elapsed() + PATIENCE;
        while server.ended().is_none() && client.post("/ping", json!({})).await.is_none() {
            assert!(clock.elapsed() < ends, "it neither answers nor ends");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Rows that belong together in two tables, some for the table of which rows are deleted, and some that expire.
    async fn write(&mut self, client: &Client) -> Option<()> {
        let numbers: Vec<u64> = (self.next..self.next + 10).collect();
        self.next += 10;
        self.sent.extend(&numbers);
        let row = |number: &u64| {
            // Every other lies anywhere in history, so that files overlap.
            let time = if number.is_multiple_of(2) { number * 7919 % 10_000 } else { *number } * 1_000_000_000;
            format!(
                "kept,host=h{h} number={number}i {time}\ntwin,host=h{h} number={number}i {time}\ngone number={number}i {number}\n",
                h = number % 3 + number / 10_000 * 3
            )
        };
        client.write("steps", numbers.iter().map(row).collect()).await?;
        self.acknowledged.extend(&numbers);
        self.gone_acknowledged.extend(&numbers);
        client.write("short", format!("expires number={}i\n", self.next)).await
    }

    async fn delete_rows(&mut self, client: &Client) -> Option<()> {
        let through = self.next - 5;
        self.deletion_asked = through;
        let stop = format!("1970-01-01T00:00:00.{through:09}Z");
        let body = json!({ "db": "steps", "table": "gone", "stop": stop });
        let (status, text) = client.post("/api/v3/delete", body).await?;
        assert_eq!(status, 204, "{text}");
        self.deletion_done = through;
        Some(())
    }

    async fn delete_table(&mut self, client: &Client, round: u64) -> Option<()> {
        let number = self.next * 100 + round;
        client.write("steps", format!("scratch{number} v=1i 1\n")).await?;
        let (status, text) = client.delete(&format!("/api/v3/configure/table?db=steps&table=scratch{number}")).await?;
        assert!(status == 200 || status == 204, "{status} {text}");
        self.tables_deleted.push(number);
        Some(())
    }

    /// Makes a backup, and deletes the one before.
    async fn back_up(&mut self, client: &Client) -> Option<()> {
        let [old, new] = [self.backups_asked, self.backups_asked + 1].map(|number| format!("b{number}"));
        self.backups_asked += 1;
        let (status, text) = client.post("/api/v3/backups", json!({ "name": new })).await?;
        assert_eq!(status, 201, "{text}");
        self.backups_made.insert(new);
        if self.backups_made.contains(&old) {
            self.backups_deleted.insert(old.clone());
            let (status, text) = client.delete(&format!("/api/v3/backups?name={old}")).await?;
            assert_eq!(status, 200, "{text}");
        }
        Some(())
    }

    /// What was made is there and whole, what is there is whole.
    fn check_backups(&self, place: &Path, step: Step) {
        let (status, listed) = run(&["backup", "list", "--from", text(place)], &[]);
        assert!(status.success(), "{step:?}: {listed}");
        let names = listed.lines().filter_map(|line| line.split('|').nth(1)).map(|name| name.trim().to_owned());
        let there: BTreeSet<String> = names.filter(|name| name != "name").collect();
        let kept: BTreeSet<String> = self.backups_made.difference(&self.backups_deleted).cloned().collect();
        assert!(there.is_superset(&kept), "{step:?}: {kept:?} were made, {there:?} are there");
        for name in &there {
            let (status, printed) = run(&["backup", "verify", name, "--from", text(place)], &[]);
            assert!(status.success() && printed.contains("all is well"), "{step:?}: {name}: {printed}");
        }
    }

    async fn check(&self, server: &ServerProcess, step: Step) {
        let client = Client::new(server);
        // Before anything is looked for: a server that nobody could write to has no database either.
        assert!(self.acknowledged.len() >= ROWS_MIN, "{step:?}: the writer got to {}", self.acknowledged.len());
        let kept = client.numbers("kept").await;
        assert_eq!(kept, client.numbers("twin").await, "{step:?}: what was written together");
        let found: BTreeSet<u64> = kept.iter().copied().collect();
        assert_eq!(found.len(), kept.len(), "{step:?}: something is there twice");
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{step:?}: {lost:?} are lost");
        let invented: Vec<_> = found.difference(&self.sent).collect();
        assert!(invented.is_empty(), "{step:?}: {invented:?} were never sent");

        let gone: BTreeSet<u64> = client.numbers("gone").await.into_iter().collect();
        let back = gone.range(..=self.deletion_done).next();
        assert!(self.deletion_done == 0 || back.is_none(), "{step:?}: row {back:?} was deleted and is back");
        let missing = self.gone_acknowledged.range(self.deletion_asked + 1..).find(|number| !gone.contains(number));
        assert_eq!(missing, None, "{step:?}: a row that nobody deleted");
        for number in &self.tables_deleted {
            let (status, text) = client.query(&format!("SELECT * FROM scratch{number}")).await;
            assert!(status == 400 && text.contains("not found"), "{step:?}: scratch{number} is back: {text}");
        }
    }
}

struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    fn new(server: &ServerProcess) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { http, base: server.url("") }
    }

    /// Status and text; `None` if the server is gone.
    async fn send(&self, request: reqwest::RequestBuilder) -> Option<(u16, String)> {
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.text().await.ok()?))
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> Option<(u16, String)> {
        self.send(self.http.post(format!("{}{path}", self.base)).json(&body)).await
    }

    async fn delete(&self, path: &str) -> Option<(u16, String)> {
        self.send(self.http.delete(format!("{}{path}", self.base))).await
    }

    async fn write(&self, database: &str, lines: String) -> Option<()> {
        let path = format!("{}/api/v3/write_lp?db={database}&precision=ns", self.base);
        let (status, text) = self.send(self.http.post(path).body(lines)).await?;
        assert_eq!(status, 204, "{text}");
        Some(())
    }

    async fn query(&self, sql: &str) -> (u16, String) {
        self.post("/api/v3/query_sql", json!({ "db": "steps", "q": sql, "format": "csv" })).await.unwrap()
    }

    async fn numbers(&self, table: &str) -> Vec<u64> {
        let (status, text) = self.query(&format!("SELECT number FROM {table} ORDER BY number")).await;
        assert_eq!(status, 200, "{text}");
        text.lines().skip(1).map(|line| line.parse().unwrap()).collect()
    }
}
