//! SIGKILL at random moments under load.
//!
//! Each round starts the real program on the data of the rounds before, lets several writers write, and kills it
//! somewhere in between. Buffers, segments and persist thresholds are small, so that the kills fall on every step:
//! group commit, rotation, persist, compaction, catalog change, checkpoint, removal of segments and of replaced files.
//!
//! Writers know three outcomes: acknowledged, refused, unknown. After each restart every acknowledged row is there
//! with its value, no row is there twice, and nothing is there that nobody sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::process::{PROGRAM, ServerProcess};

const WRITERS: u64 = 4;
const LINES_PER_WRITE: u64 = 20;

const SMALL: &[&str] = &[
    "--persist-rows",
    "1500",
    "--persist-age",
    "1s",
    "--wal-segment-bytes",
    "65536",
    "--num-datafusion-threads",
    "2",
    "--compaction-settle",
    "0s",
    "--compaction-cpu-percent",
    "100",
    "--delete-grace-period",
    "1s",
];

/// What writers sent and what was acknowledged, by number of the row.
#[derive(Default)]
struct Sent {
    acknowledged: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

#[test]
fn every_acknowledged_row_survives_kill_9() {
    let rounds: u64 = std::env::var("FLIGHTLINE_CRASH_ROUNDS").map_or(10, |text| text.parse().expect("a number"));
    survive(&[], rounds);
}

#[test]
fn every_acknowledged_row_survives_kill_9_with_the_log_in_the_store() {
    let rounds: u64 = std::env::var("FLIGHTLINE_CRASH_ROUNDS").map_or(6, |text| text.parse().expect("a number"));
    survive_with(&[], &["--wal".to_owned(), "object".to_owned(), "--wal-flush-interval=20ms".to_owned()], rounds);
}

/// Kills the program `rounds` times under load; `store` are the arguments that say where its objects are.
pub fn survive(store: &[String], rounds: u64) {
    survive_with(store, &[], rounds);
}

/// The same with more arguments.
pub fn survive_with(store: &[String], more: &[String], rounds: u64) {
    let data = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = SMALL.iter().copied().chain(store.iter().chain(more).map(String::as_str)).collect();
    let sent = Arc::new(Mutex::new(Sent::default()));
    let next = Arc::new(AtomicU64::new(0));
    let mut random = Random(0x5eed);
    for round in 0..rounds {
        let server = ServerProcess::start(data.path(), &arguments);
        check(&server, &sent.lock().unwrap(), round);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (url, stop) = (server.url("/api/v3/write_lp?db=crash&precision=ns"), Arc::clone(&stop));
                let (sent, next) = (Arc::clone(&sent), Arc::clone(&next));
                std::thread::spawn(move || write_until(&url, &stop, &sent, &next))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + random.next() % 1900));
        server.kill();
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().unwrap();
        }
        // Reading everything takes longer the more there is: now and then in a long run.
        if round % 10 == 9 {
            check_files(data.path(), store);
        }
    }
    let server = ServerProcess::start(data.path(), &arguments);
    let sent = sent.lock().unwrap();
    check(&server, &sent, rounds);
    assert!(sent.acknowledged.len() as u64 > rounds * LINES_PER_WRITE, "the writers got somewhere");
    assert_eq!(server.terminate(), 0, "a polite stop ends with 0");
    let server = ServerProcess::start(data.path(), &arguments);
    check(&server, &sent, rounds + 1);
    server.kill();
    check_files(data.path(), store);
}

/// After all that, every file is what the catalog says.
fn check_files(data: &Path, store: &[String]) {
    let output = Command::new(PROGRAM).arg("check").arg("--data-dir").arg(data).args(store).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all is well"), "{text}{error}");
}

fn write_until(url: &str, stop: &AtomicBool, sent: &Mutex<Sent>, next: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    while !stop.load(Ordering::SeqCst) {
        let first = next.fetch_add(LINES_PER_WRITE, Ordering::SeqCst);
        let numbers: Vec<u64> = (first..first + LINES_PER_WRITE).collect();
        let lines: String = numbers.iter().map(|number| line(*number)).collect();
        // Before it is sent: from here on it may be stored whatever we hear.
        sent.lock().unwrap().unknown.extend(&numbers);
        let answer = runtime.block_on(async { client.post(url).body(lines).send().await });
        match answer {
            Ok(response) if response.status() == 204 => {
                let mut sent = sent.lock().unwrap();
                for number in &numbers {
                    sent.unknown.remove(number);
                }
                sent.acknowledged.extend(&numbers);
            }
            Ok(response) => panic!("a good write was answered with {}", response.status()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)), // killed: unknown
        }
    }
}

/// Number `n` as a point of its own, in one of two tables. Every fourth lies anywhere in history, so that files overlap.
fn line(number: u64) -> String {
    let (table, host) = (if number.is_multiple_of(5) { "disk" } else { "cpu" }, number % 7);
    let minute = if number.is_multiple_of(4) { number * 7919 % 100_000 } else { number };
    let time = minute * 60_000_000_000 + number;
    format!("{table},host=h{host} number={number}i,half={} {time}\n", value(number))
}

fn value(number: u64) -> f64 {
    number as f64 / 2.0
}

fn check(server: &ServerProcess, sent: &Sent, round: u64) {
    if sent.acknowledged.is_empty() {
        return;
    }
    let mut found: BTreeMap<u64, f64> = BTreeMap::new();
    for table in ["cpu", "disk"] {
        for (number, half) in numbers(server, table) {
            let doubled = found.insert(number, half);
            assert_eq!(doubled, None, "round {round}: row {number} is there twice");
        }
    }
    for number in &sent.acknowledged {
        assert_eq!(found.get(number), Some(&value(*number)), "round {round}: acknowledged row {number}");
    }
    for number in found.keys() {
        let was_sent = sent.acknowledged.contains(number) || sent.unknown.contains(number);
        assert!(was_sent, "round {round}: row {number} was never sent");
    }
}

fn numbers(server: &ServerProcess, table: &str) -> Vec<(u64, f64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let query = format!("SELECT number, half FROM {table}");
        let body = serde_json::json!({ "db": "crash", "q": query, "format": "csv" });
        let response = client.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        if status == 400 && text.contains("not found") {
            return Vec::new(); // killed before the first row of this table
        }
        assert_eq!(status, 200, "{text}");
        let parse = |row: &str| {
            let (number, half) = row.split_once(',').unwrap();
            (number.parse().unwrap(), half.parse().unwrap())
        };
        text.lines().skip(1).map(parse).collect()
    })
}

/// A generator that needs nothing and repeats itself from one seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}
