//! Who suffers when some ask for much: writes, small questions and probes, alone and beside heavy queries. Prints a table.
//!
//! `cargo bench --bench fairness`. The real program with its data on the local disk; those who ask share the machine with it. After 2,000,000 rows are loaded
//! (`FLIGHTLINE_BENCH_ROWS`), a writer sends 100,000 rows a second in requests of 10,000, synced; another asks for one machine's maxima of an hour by
//! minutes, and one for `/health`, each again as soon as it is answered. Then the same while eight others go through heavy queries without a
//! pause: group-bys over everything, sorts, wide exports. A writer that can't keep its pace sends the next request at once.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod points;
mod process;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use points::Points;
use process::{ServerProcess, percentile};

const BATCH_ROWS: usize = 10_000;
const ROWS_PER_SECOND: usize = 100_000;
const HEAVY_ASKERS: usize = 8;

const SMALL: &str = "SELECT date_bin(INTERVAL '1 minute', time) AS minute, max(usage_user) FROM cpu \
    WHERE hostname = 'host_7' AND time >= '2024-01-01T01:00:00' AND time < '2024-01-01T02:00:00' GROUP BY 1";

const HEAVY: [&str; 4] = [
    "SELECT date_bin(INTERVAL '1 hour', time) AS hour, hostname, avg(usage_user), avg(usage_system), avg(usage_idle), avg(usage_nice), \
     avg(usage_iowait) FROM cpu GROUP BY 1, 2",
    "SELECT * FROM cpu ORDER BY usage_user DESC, usage_idle LIMIT 100000",
    "SELECT count(DISTINCT usage_user), count(DISTINCT usage_idle), stddev(usage_iowait) FROM cpu",
    "SELECT hostname, time, usage_user, row_number() OVER (PARTITION BY hostname ORDER BY usage_user) AS place FROM cpu",
];

/// Someone who asks again and again until told to end.
struct Asker {
    thread: JoinHandle<Vec<Duration>>,
}

/// What all of them look at.
#[derive(Clone)]
struct Stage {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    /// Queries that ended well.
    answered: Arc<AtomicU64>,
}

impl Stage {
    /// Takes turns of `ask` until it is over; the time of each, sorted.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn ask<F>(&self, pause: Option<Duration>, mut request: F) -> Asker
    where
        F: FnMut(&reqwest::Client, usize) -> reqwest::RequestBuilder + Send + 'static,
    {
        let stage = self.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
            let (mut times, mut due) = (Vec::new(), Instant::now());
            for turn in 0.. {
                if turn > 0 && stage.is_over.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(pause) = pause {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due = Instant::now().max(due + pause);
                }
                let request = request(&client, turn);
                let start = Instant::now();
                let status = runtime.block_on(async {
                    let mut response = request.send().await.unwrap();
                    while response.chunk().await.unwrap().is_some() {}
                    response.status()
                });
                assert!(status.is_success(), "{status}");
                times.push(start.elapsed());
                stage.answered.fetch_add(1, Ordering::Relaxed);
            }
            times.sort();
            times
        });
        Asker { thread }
    }

    fn query(&self, texts: &'static [&'static str]) -> Asker {
        let url = format!("http://{}/api/v3/query_sql", self.address);
        self.ask(None, move |client, turn| {
            let text = texts[turn % texts.len()];
            client.post(&url).json(&serde_json::json!({ "db": "bench", "q": text, "format": "parquet" }))
        })
    }
}

/// Writes, small questions and probes for so long, beside so many who ask for much.
fn measure(address: SocketAddr, points: Points, duration: Duration, heavy: usize) -> Points {
    let stage = Stage { address, is_over: Arc::default(), answered: Arc::default() };
    let heavy_stage = Stage { answered: Arc::default(), ..stage.clone() };
    let heavies: Vec<Asker> = (0..heavy).map(|_| heavy_stage.query(&HEAVY)).collect();
    if heavy > 0 {
        std::thread::sleep(duration / 10); // until they are all at work
    }
    let (url, points) =
        (format!("http://{address}/api/v3/write_lp?db=bench&precision=ns"), Arc::new(std::sync::Mutex::new(points)));
    let lines = Arc::clone(&points);
    let pause = Duration::from_secs_f64(BATCH_ROWS as f64 / ROWS_PER_SECOND as f64);
    let writer =
        stage.ask(Some(pause), move |client, _| client.post(&url).body(lines.lock().unwrap().lines(BATCH_ROWS)));
    let small = stage.query(&[SMALL]);
    let health = format!("http://{address}/health");
    let prober = stage.ask(Some(Duration::from_millis(10)), move |client, _| client.get(&health));
    std::thread::sleep(duration);
    stage.is_over.store(true, Ordering::Relaxed);
    let ms = |times: &[Duration], percent| percentile(times, percent).as_secs_f64() * 1e3;
    for (name, asker) in [("writes", writer), ("small question", small), ("/health", prober)] {
        let times = asker.thread.join().unwrap();
        let rate = times.len() as f64 / duration.as_secs_f64();
        println!("| {name}, beside {heavy} | {rate:.1} | {:.2} | {:.2} |", ms(&times, 50), ms(&times, 99));
    }
    let done = heavy_stage.answered.load(Ordering::Relaxed) as f64 / duration.as_secs_f64();
    for asker in heavies {
        asker.thread.join().unwrap();
    }
    println!("| heavy queries, beside all of these | {done:.2} | | |");
    Arc::into_inner(points).unwrap().into_inner().unwrap()
}

fn main() {
    // Without `--bench` this is a check that it still runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let rows = std::env::var("FLIGHTLINE_BENCH_ROWS").map_or(2_000_000, |text| text.parse().expect("a number"));
    let (rows, duration) =
        if is_bench { (rows, Duration::from_secs(20)) } else { (BATCH_ROWS, Duration::from_millis(200)) };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = ServerProcess::start(directory.path(), &[]);
    let stage = Stage { address: server.address, is_over: Arc::default(), answered: Arc::default() };
    let mut points = Points::new("");
    let url = format!("http://{}/api/v3/write_lp?db=bench&precision=ns", server.address);
    let bodies: Vec<String> = (0..rows / BATCH_ROWS).map(|_| points.lines(BATCH_ROWS)).collect();
    let (last, over) = (bodies.len() - 1, Arc::clone(&stage.is_over));
    let loader = stage.ask(None, move |client, turn| {
        over.store(turn == last, Ordering::Relaxed);
        client.post(&url).body(bodies[turn].clone())
    });
    loader.thread.join().unwrap();
    println!("| | a second | p50 ms | p99 ms |\n|---|---|---|---|");
    for heavy in [0, HEAVY_ASKERS] {
        points = measure(server.address, points, duration, heavy);
    }
}
