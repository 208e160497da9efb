//! How much may be asked at one time, and for how long.

use super::super::values::Kind;
use super::{CENTURY_MS, HOUR_MS, Preset, Setting};

const LIMITS: &str = "Limits";

/// More than any machine does at one time; users of InfluxDB 3 have its preset of 2^60 in their scripts.
const COUNT_MAX: u64 = 1 << 60;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        section: LIMITS,
        name: "query-timeout",
        kind: Kind::Duration(0, CENTURY_MS),
        preset: Preset::Text("24h"),
        env: &["FLIGHTLINE_QUERY_TIMEOUT"],
        aliases: &[],
        sentence: "How long a query may take from its first look to its last row, waiting and slow readers included; 0 for no limit.",
    },
    Setting {
        section: LIMITS,
        name: "max-concurrent-queries",
        kind: Kind::Count(0, COUNT_MAX),
        preset: Preset::Computed("16 per processor, at least 64"),
        env: &["FLIGHTLINE_MAX_CONCURRENT_QUERIES", "INFLUXDB3_MAX_CONCURRENT_QUERIES"],
        aliases: &[],
        sentence: "Queries that run at one time, on all interfaces together; more wait, each token in its turn. 0 for no limit.",
    },
    Setting {
        section: LIMITS,
        name: "max-queued-queries",
        kind: Kind::Count(0, 1_000_000),
        preset: Preset::Text("1000"),
        env: &["FLIGHTLINE_MAX_QUEUED_QUERIES"],
        aliases: &[],
        sentence: "Queries that wait for that; more are refused with \"try later\".",
    },
    Setting {
        section: LIMITS,
        name: "query-queue-timeout",
        kind: Kind::Duration(0, HOUR_MS),
        preset: Preset::Text("30s"),
        env: &["FLIGHTLINE_QUERY_QUEUE_TIMEOUT"],
        aliases: &[],
        sentence: "How long a query waits before it is refused with \"try later\".",
    },
    Setting {
        section: LIMITS,
        name: "max-concurrent-queries-per-token",
        kind: Kind::Count(1, COUNT_MAX),
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_MAX_CONCURRENT_QUERIES_PER_TOKEN"],
        aliases: &[],
        sentence: "Queries of one token, or of one subject of JWTs, that run or wait at one time; without it any number.",
    },
    Setting {
        section: LIMITS,
        name: "max-requests-per-second-per-token",
        kind: Kind::Count(1, 1_000_000_000),
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_MAX_REQUESTS_PER_SECOND_PER_TOKEN"],
        aliases: &[],
        sentence: "Requests and calls of one token in a second; more are told when to come back. Without it any number.",
    },
    Setting {
        section: LIMITS,
        name: "max-write-bytes-per-second-per-token",
        kind: Kind::Bytes(1 << 10, 1 << 40),
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_MAX_WRITE_BYTES_PER_SECOND_PER_TOKEN"],
        aliases: &[],
        sentence: "Bytes of line protocol and Arrow that one token writes in a second: more line protocol is told when to come back, Arrow slowed down. Without it any number.",
    },
    Setting {
        section: LIMITS,
        name: "max-write-rows-per-second-per-token",
        kind: Kind::Count(1, 1_000_000_000),
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_MAX_WRITE_ROWS_PER_SECOND_PER_TOKEN"],
        aliases: &[],
        sentence: "Lines of line protocol and rows of Arrow that one token writes in a second: more line protocol is told when to come back, Arrow slowed down. Without it any number.",
    },
    Setting {
        section: LIMITS,
        name: "query-log-size",
        kind: Kind::Count(0, 1_000_000),
        preset: Preset::Text("1000"),
        env: &["FLIGHTLINE_QUERY_LOG_SIZE", "INFLUXDB3_QUERY_LOG_SIZE", "INFLUXDB3_QUERY_LOG_MAX_ENTRIES"],
        aliases: &["query-log-max-entries"],
        sentence: "Queries that have ended and are still in system.queries; fewer if their texts take more than 32 MiB.",
    },
];
