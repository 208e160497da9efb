//! The whole server from outside: the real program, real sockets, real syncs. Prints a table.
//!
//! `cargo bench --bench serve`. Loader and server share the machine. The bare sync is measured on the same disk in
//! the same run, because only ratios carry over to another machine. `FLIGHTLINE_BENCH_ROWS` sets the rows per case.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod points;
mod process;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use points::Points;
use process::{ServerProcess, percentile};

const BATCH_ROWS: usize = 10_000;

/// Appends 4 KiB and syncs, as a log does for a single small write.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn bare_syncs(directory: &Path, count: usize) -> Vec<Duration> {
    let mut file = std::fs::File::create(directory.join("sync")).unwrap();
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// Sends the bodies one after the other; the time of each.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn send(address: SocketAddr, parameters: &str, bodies: impl IntoIterator<Item = String>) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let url = format!("http://{address}/api/v3/write_lp?db=bench&precision=ns{parameters}");
    runtime.block_on(async {
        let mut times = Vec::new();
        for body in bodies {
            let start = Instant::now();
            let response = client.post(&url).body(body).send().await.unwrap();
            assert_eq!(response.status(), 204, "{}", response.text().await.unwrap());
            times.push(start.elapsed());
        }
        times
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn ingest(address: SocketAddr, writers: usize, rows: usize, parameters: &'static str) -> (f64, f64, Vec<Duration>) {
    let batches = (rows / BATCH_ROWS / writers).max(1);
    let loads: Vec<Vec<String>> = (0..writers)
        .map(|writer| {
            let mut points = Points::new(&format!("w{writer}_"));
            (0..batches).map(|_| points.lines(BATCH_ROWS)).collect()
        })
        .collect();
    let bytes: usize = loads.iter().flatten().map(String::len).sum();
    let start = Instant::now();
    let threads: Vec<_> =
        loads.into_iter().map(|bodies| std::thread::spawn(move || send(address, parameters, bodies))).collect();
    let mut times: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let seconds = start.elapsed().as_secs_f64();
    times.sort();
    ((writers * batches * BATCH_ROWS) as f64 / seconds, bytes as f64 / seconds / 1e6, times)
}

/// One line a request from each of the writers, each waiting for its answers: requests a second, and the time of each.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn single_lines(address: SocketAddr, writers: usize, duration: Duration) -> (f64, Vec<Duration>) {
    let mut points = Points::new("");
    send(address, "", (0..20).map(|_| points.lines(1))); // the table exists
    let start = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let mut points = Points::new(&format!("w{writer}_"));
            // At least one, however long it takes to get ready.
            let mut is_first = true;
            let mut goes_on = move || std::mem::take(&mut is_first) || start.elapsed() < duration;
            let bodies = std::iter::from_fn(move || goes_on().then(|| points.lines(1)));
            std::thread::spawn(move || send(address, "", bodies))
        })
        .collect();
    let mut times: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let seconds = start.elapsed().as_secs_f64();
    times.sort();
    (times.len() as f64 / seconds, times)
}

/// The same with each place that the log can be in. All of it is on one disk, so that a second copy costs what it must.
fn logs(directory: &Path, duration: Duration) {
    let replica = directory.join("replica").display().to_string();
    let logs: [(&str, &[&str]); 4] = [
        ("local", &[]),
        ("local and a second directory", &["--wal-replicate-to", &replica]),
        ("in a store of files, 1 ms", &["--wal", "object", "--wal-flush-interval", "1ms"]),
        ("in a store of files, 100 ms", &["--wal", "object", "--wal-flush-interval", "100ms"]),
    ];
    println!("\n| log | writers of one line | writes/s | ack p50 ms | ack p99 ms |\n|---|---|---|---|---|");
    for (number, (name, arguments)) in logs.into_iter().enumerate() {
        for writers in [1, 32] {
            let server = ServerProcess::start(&directory.join(format!("log-{number}-{writers}")), arguments);
            let (rate, times) = single_lines(server.address, writers, duration);
            let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
            println!("| {name} | {writers} | {rate:.0} | {:.2} | {:.2} |", ms(50), ms(99));
            drop(server);
            let _ = std::fs::remove_dir_all(&replica); // of this server; there is none without a second directory
        }
    }
}

fn main() {
    // Without `--bench` this is a check that it still runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let (rows, singles) = if is_bench { (rows, 2000) } else { (BATCH_ROWS, 20) };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;

    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("| case | rows/s | MB/s | ack p50 ms | ack p99 ms |\n|---|---|---|---|---|");
    let syncs = bare_syncs(directory.path(), singles);
    println!(
        "| bare append of 4 KiB + fdatasync | | | {:.3} | {:.3} |",
        ms(percentile(&syncs, 50)),
        ms(percentile(&syncs, 99))
    );
    {
        let server = ServerProcess::start(&directory.path().join("single"), &[]);
        let mut points = Points::new("");
        send(server.address, "", (0..20).map(|_| points.lines(1))); // the table exists
        let mut times = send(server.address, "", (0..singles).map(|_| points.lines(1)));
        times.sort();
        println!("| one line, durable | | | {:.3} | {:.3} |", ms(percentile(&times, 50)), ms(percentile(&times, 99)));
    }
    for (name, writers, parameters) in [
        ("1 writer, 10,000 lines, durable", 1, ""),
        ("4 writers, 10,000 lines, durable", 4, ""),
        ("4 writers, 10,000 lines, no_sync", 4, "&no_sync=true"),
    ] {
        let server = ServerProcess::start(&directory.path().join(format!("ingest-{writers}{parameters}")), &[]);
        let (rate, megabytes, times) = ingest(server.address, writers, rows, parameters);
        println!(
            "| {name} | {rate:.0} | {megabytes:.0} | {:.1} | {:.1} |",
            ms(percentile(&times, 50)),
            ms(percentile(&times, 99))
        );
    }
    logs(directory.path(), if is_bench { Duration::from_secs(4) } else { Duration::from_millis(100) });
}
