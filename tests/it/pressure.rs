//! More than there is room for: many series, many columns, a store that says nothing for a while. Writes are refused with "come
//! back later" before memory is in danger, what is in memory is read all the while, and everything is well again by itself.
//!
//! `FLIGHTLINE_SILENCE_SECONDS=60` for a store that is silent for a minute, `FLIGHTLINE_SERIES=10000000` for ten million series.

use std::time::Duration;

use flightline::clock::{Clock, SystemClock};

use crate::harness::object_server::{Kind, ObjectServer};
use crate::harness::process::ServerProcess;
use crate::harness::proxy::Manner;
use crate::harness::server::TestServer;

const MIB: u64 = 1 << 20;

/// How long a server may take to be well again.
const RECOVERY: Duration = Duration::from_secs(120);

fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What a server made of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Stored,
    /// To be sent again, for this reason.
    Refused(String),
}

struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    most_resident: u64,
}

impl Client {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Self { http, runtime, most_resident: 0 }
    }

    fn write(&mut self, server: &ServerProcess, lines: String) -> Answer {
        let request = self.http.post(server.url("/api/v3/write_lp?db=db&precision=ns")).body(lines);
        let answer = self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let (status, has_hint) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
            let text = response.text().await.unwrap();
            match status {
                204 => Answer::Stored,
                503 => {
                    assert!(has_hint, "the client is asked to come back: {text}");
                    Answer::Refused(text)
                }
                _ => panic!("{status}: {text}"),
            }
        });
        self.most_resident = self.most_resident.max(server.resident_bytes());
        answer
    }

    /// One number.
    fn query(&self, server: &ServerProcess, sql: &str) -> u64 {
        let body = serde_json::json!({ "db": "db", "q": sql, "format": "csv" });
        self.runtime.block_on(async {
            let response = self.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
            let text = response.text().await.unwrap();
            text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{text}"))
        })
    }

    /// Sends lines until they are stored, as clients do that are told to come back.
    fn write_patiently(&mut self, server: &ServerProcess, lines: &str) {
        let clock = SystemClock::new();
        while let Answer::Refused(why) = self.write(server, lines.to_owned()) {
            assert!(clock.elapsed() < RECOVERY, "it does not recover: {why}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

const ROWS: u64 = 500;

/// The rows of one write: some with `first` and up as numbers, a millisecond apart from `start` on.
fn lines(start: i64, first: u64) -> String {
    let row = |number: u64| {
        let time = start + number as i64 * 1_000_000;
        format!("t,host=h{} number={number}i,note=\"{:0>100}\" {time}\n", number % 10, number)
    };
    (first..first + ROWS).map(row).collect()
}

/// A bucket whose store can be silent, and a server on it that is told of that soon.
fn server_on_a_store(store: &ObjectServer, more: &[&str]) -> (Vec<String>, tempfile::TempDir, ServerProcess) {
    let mut arguments = store.bucket("pressure").flags;
    let patience =
        ["--object-store-request-timeout=2s", "--object-store-max-retries=1", "--object-store-retry-timeout=4s"];
    arguments.extend(patience.iter().chain(more).map(|flag| (*flag).to_owned()));
    let data = tempfile::tempdir().unwrap();
    let flags: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = ServerProcess::start(data.path(), &flags);
    (arguments, data, server)
}

#[test]
fn a_store_that_says_nothing_for_a_while_loses_nothing_and_is_not_felt_by_readers() {
    let silence = Duration::from_secs(number_from("FLIGHTLINE_SILENCE_SECONDS", 12));
    let store = ObjectServer::start(Kind::S3).behind(Manner::Faithful);
    let small = ["--buffer-bytes=4MiB", "--persist-rows=2000", "--disable-compaction", "--num-datafusion-threads=1"];
    let (arguments, data, server) = server_on_a_store(&store, &small);
    let mut client = Client::new();
    let clock = SystemClock::new();
    let start = clock.now().as_nanos() - 3_600_000_000_000;
    let mut stored = 0;
    for _ in 0..10 {
        client.write_patiently(&server, &lines(start, stored));
        stored += ROWS;
    }
    let all = |stored: u64| stored * (stored - 1) / 2;
    let sum = "SELECT sum(number) FROM t";
    assert_eq!(client.query(&server, sum), all(stored));

    store.proxy().be_silent(true);
    let (until, before, mut refused) = (clock.elapsed() + silence, stored, Vec::new());
    while clock.elapsed() < until {
        match client.write(&server, lines(start, stored)) {
            Answer::Stored => stored += ROWS,
            Answer::Refused(why) => refused.push(why),
        }
        if refused.len() == 1 {
            assert_eq!(client.query(&server, sum), all(stored), "what is in memory is read without the store");
        }
    }
    assert!(stored > before, "writes go on while there is room");
    assert!(refused.iter().any(|why| why.contains("buffer is full")), "and are refused then: {refused:?}");

    store.proxy().be_silent(false);
    client.write_patiently(&server, &lines(start, stored));
    stored += ROWS;
    assert_eq!(client.query(&server, sum), all(stored));
    let most = client.most_resident / MIB;
    println!("{stored} rows, {} of them while the store was silent, {most} MiB at the most", stored - before);
    assert!(most < 512, "{most} MiB");

    server.kill();
    let flags: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = ServerProcess::start(data.path(), &flags);
    assert_eq!(client.query(&server, sum), all(stored), "after a crash too");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn points_that_are_written_again_and_again_do_not_make_the_log_endless() {
    let store = ObjectServer::start(Kind::S3).behind(Manner::Faithful);
    let small = ["--wal-segment-bytes=262144", "--wal-backlog-bytes=2MiB", "--disable-compaction"];
    let (_, _data, server) = server_on_a_store(&store, &small);
    let mut client = Client::new();
    client.write_patiently(&server, &lines(0, 0));
    store.proxy().be_silent(true);
    let refused = (0..200).find_map(|_| match client.write(&server, lines(0, 0)) {
        Answer::Stored => None,
        Answer::Refused(why) => Some(why),
    });
    assert!(refused.as_ref().is_some_and(|why| why.contains("the write-ahead log has")), "{refused:?}");
    assert_eq!(client.query(&server, "SELECT count(*) FROM t"), ROWS);
    store.proxy().be_silent(false);
    client.write_patiently(&server, &lines(0, ROWS));
    assert_eq!(client.query(&server, "SELECT count(*) FROM t"), 2 * ROWS);
    assert_eq!(server.terminate(), 0);
}

#[test]
fn many_series_are_written_in_the_memory_there_is() {
    const BATCH: u64 = 10_000;
    let series = number_from("FLIGHTLINE_SERIES", 200_000);
    let data = tempfile::tempdir().unwrap();
    let small = [
        "--buffer-bytes=32MiB",
        "--exec-mem-pool-bytes=128MiB",
        "--parquet-mem-cache-size=0",
        "--num-datafusion-threads=1",
        "--num-io-threads=2",
    ];
    let server = ServerProcess::start(data.path(), &small);
    let mut client = Client::new();
    let (clock, mut refused) = (SystemClock::new(), 0);
    for first in (0..series).step_by(BATCH as usize) {
        let row = |number: u64| {
            let (region, host) = (number % 20, number / 20);
            format!("s,region=r{region},host=h{host},id=i{number} value={}.5 {}\n", number % 1000, number * 1000)
        };
        let lines: String = (first..series.min(first + BATCH)).map(row).collect();
        while let Answer::Refused(why) = client.write(&server, lines.clone()) {
            refused += 1;
            assert!(refused < series, "{why}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let written = clock.elapsed();
    assert_eq!(client.query(&server, "SELECT count(*) FROM s"), series);
    assert_eq!(client.query(&server, "SELECT count(*) FROM s WHERE region = 'r7'"), series / 20);
    let most = client.most_resident.max(server.resident_bytes()) / MIB;
    println!("{series} series in {written:?}, {refused} times told to come back, {most} MiB at the most");
    // The program, the buffer, what is being parsed and persisted, the queries, and the rows of one file that compaction makes,
    // four million at the most; not the series.
    assert!(most < 1024, "{most} MiB");
    server.kill();
    let server = ServerProcess::start(data.path(), &small);
    assert_eq!(client.query(&server, "SELECT count(*) FROM s"), series);
    assert_eq!(server.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_five_thousand_columns_is_written_persisted_compacted_and_read() {
    const COLUMNS: usize = 5000;
    let change = |settings: &mut flightline::server::ServerSettings| {
        settings.engine.columns_per_table_max = COLUMNS;
        settings.engine.compaction.settle = Duration::ZERO;
    };
    let server = TestServer::start_with(change).await;
    let engine = &server.server().services().engine;
    // Four files that overlap; each row has a half of the columns, the last row has the first and the last one.
    for part in 0..4_usize {
        let fields = |half: usize| -> String {
            let fields = (half * COLUMNS / 2..(half + 1) * COLUMNS / 2).map(|n| format!("c{n}={}i", n * 10 + part));
            fields.collect::<Vec<_>>().join(",")
        };
        let lines = format!("wide {} {part}\nwide {} {}\nwide c0=7i,c4999=8i 100\n", fields(0), fields(1), 10 + part);
        server.write("db", lines).await;
        engine.persist_all().await.unwrap();
    }
    let check = async |state: &str| {
        let sql = "SELECT time::bigint AS t, c0, c2499, c2500, c4999 FROM wide ORDER BY t";
        let (status, text) = server.query("db", sql, "csv").await;
        assert_eq!(status, 200, "{state}: {text}");
        let mut expected = vec!["t,c0,c2499,c2500,c4999".to_owned()];
        expected.extend((0..4).map(|n| format!("{n},{n},{},,", 24990 + n)));
        expected.extend((0..4).map(|n| format!("{},,,{},{}", 10 + n, 25000 + n, 49990 + n)));
        expected.push("100,7,,,8".to_owned());
        assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{state}");
    };
    check("persisted").await;
    engine.compact_all().await.unwrap();
    assert_eq!(engine.metrics().files, 1);
    check("compacted").await;
    let (status, text) = server.query("db", "SELECT * FROM wide WHERE c4999 > 49992", "csv").await;
    assert!(status == 200 && text.lines().count() == 2, "{status}");
    assert_eq!(text.lines().next().unwrap().split(',').count(), COLUMNS + 1);

    let url = server.url("/api/v3/write_lp?db=db&precision=nanosecond");
    let one_more = server.http.post(url).body("wide one_more=1i 200").send().await.unwrap();
    assert_eq!(one_more.status(), 422, "the limit is told");
    assert!(one_more.text().await.unwrap().contains("limit of 5000 columns"));
}
