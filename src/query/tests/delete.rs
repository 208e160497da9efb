//! What a DELETE selects, and what it refuses to select by.

use super::*;
use crate::error::ErrorKind;

/// Five hosts at five hours, with and without a region, in files and in the buffer.
async fn hours() -> Fixture {
    let fixture = Fixture::new().await;
    for hour in 0..5_i64 {
        let line = |host: &str, tags: &str| format!("cpu,host={host}{tags} usage={hour} {}", hour * HOUR);
        let lines = [line("a", ""), line("b", ",region=eu"), line("c", ",region=us")];
        fixture.write(&lines.join("\n")).await;
        if hour == 2 {
            fixture.persist().await;
        }
    }
    fixture
}

const HOUR: i64 = 3_600_000_000_000;

/// The rows that are left, as `host` and hour.
async fn left(fixture: &Fixture) -> String {
    let batches = fixture.ask("SELECT host, usage FROM cpu ORDER BY host, time").await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        let (hosts, hours) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Float64Type>());
        rows.extend(hosts.iter().zip(hours).map(|(host, hour)| format!("{}{}", host.unwrap(), hour.unwrap())));
    }
    rows.join(" ")
}

#[tokio::test]
async fn a_delete_takes_what_its_condition_says() {
    for (condition, expected) in [
        ("", ""),
        (" WHERE true", ""),
        (" WHERE 1 = 2", "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (" WHERE time < '1970-01-01T02:00:00Z'", "a2 a3 a4 b2 b3 b4 c2 c3 c4"),
        (" WHERE '1970-01-01T02:00:00' <= time", "a0 a1 b0 b1 c0 c1"),
        (" WHERE time BETWEEN '1970-01-01T01:00:00' AND TIMESTAMP '1970-01-01T03:00:00'", "a0 a4 b0 b4 c0 c4"),
        (" WHERE NOT (time BETWEEN '1970-01-01T01:00:00' AND '1970-01-01T03:00:00')", "a1 a2 a3 b1 b2 b3 c1 c2 c3"),
        (" WHERE time <> '1970-01-01T01:00:00'", "a1 b1 c1"),
        (" WHERE time IN ('1970-01-01T01:00:00', '1970-01-01T02:00:00')", "a0 a3 a4 b0 b3 b4 c0 c3 c4"),
        (
            " WHERE time >= '1970-01-01T03:00:00' AND time < '1970-01-01T02:00:00'",
            "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4",
        ),
        (" WHERE time > to_timestamp_seconds(3600) + INTERVAL '1 hour'", "a0 a1 a2 b0 b1 b2 c0 c1 c2"),
        (" WHERE time < now() - INTERVAL '7 days'", ""),
        (" WHERE time > now() - INTERVAL '7 days'", "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (" WHERE host = 'a'", "b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (" WHERE host = 'a' AND host = 'b'", "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (" WHERE host IN ('a', 'b') OR region = 'us'", ""),
        (" WHERE region IS NULL", "b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (" WHERE region = NULL", "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4"),
        (
            " WHERE host IN ('a', 'b', 'x', 'y', 'z') AND (time < '1970-01-01T01:00:00' OR time >= '1970-01-01T04:00:00')",
            "a1 a2 a3 b1 b2 b3 c0 c1 c2 c3 c4",
        ),
        (
            " WHERE cpu.host = 'a' AND region IS NULL AND time = '1970-01-01T00:00:00'",
            "a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4",
        ),
    ] {
        let fixture = hours().await;
        fixture
            .delete(&format!("DELETE FROM cpu{condition}"))
            .await
            .unwrap_or_else(|error| panic!("{condition}: {}", error.report()));
        assert_eq!(left(&fixture).await, expected, "{condition}");
    }
}

#[tokio::test]
async fn what_is_no_key_is_refused_with_what_is() {
    let fixture = hours().await;
    for (condition, reason) in [
        ("usage > 1", "the field 'usage'"),
        ("usage IS NULL", "the field 'usage'"),
        ("host = 'a' OR usage = 1", "the field 'usage'"),
        ("host <> 'a'", "host"),
        ("host IS NOT NULL", "host"),
        ("host NOT IN ('a', 'b', 'c', 'd')", "host"),
        ("host > 'a'", "host"),
        ("host LIKE 'a%'", "host"),
        ("upper(host) = 'A'", "upper"),
        ("host = region", "host"),
        ("time + INTERVAL '1 hour' < now()", "time"),
        ("date_bin(INTERVAL '1 hour', time) = '1970-01-01'", "date_bin"),
        ("time IS NOT NULL AND random() < 0.5", "random"),
        ("host IN (SELECT host FROM cpu)", "host"),
        ("EXISTS (SELECT 1)", "EXISTS"),
    ] {
        let error = fixture.delete(&format!("DELETE FROM cpu WHERE {condition}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{condition}: {}", error.report());
        assert!(
            error.to_string().starts_with("a DELETE selects rows by time and tags: time with ="),
            "{condition}: {error}"
        );
        let told = error.to_string();
        let (_, told) = told.split_once("it can't select by ").unwrap();
        assert!(told.contains(reason), "{condition}: {error}");
    }
    for text in [
        "DELETE FROM cpu WHERE nothing = 1",
        "DELETE FROM cpu LIMIT 1",
        "DELETE FROM cpu ORDER BY time",
        "DELETE FROM cpu RETURNING *",
        "DELETE FROM cpu USING mem",
        "DELETE FROM cpu WHERE host = $h",
        "DELETE FROM cpu WHERE time < $t",
        "DELETE FROM system.files",
        "DELETE FROM information_schema.tables",
        "DELETE FROM nowhere",
        "EXPLAIN DELETE FROM cpu",
        "EXPLAIN ANALYZE DELETE FROM cpu",
        "WITH x AS (DELETE FROM cpu) SELECT 1",
        "DELETE FROM cpu; DELETE FROM cpu",
    ] {
        match fixture.queries.plan_statement(query(text)).await {
            Err(_) => {}
            Ok(PlannedStatement::Change(change)) => {
                let error = change.run().await.unwrap_err();
                assert!(error.to_string().starts_with("no value for the parameter"), "{text}: {error}");
            }
            Ok(PlannedStatement::Query(_)) => panic!("{text} is planned as a query"),
        }
    }
    let many: Vec<String> = (0..200).map(|host| format!("'h{host}'")).collect();
    let error = fixture.delete(&format!("DELETE FROM cpu WHERE host IN ({})", many.join(", "))).await.unwrap_err();
    assert!(error.to_string().contains("more than 100 combinations"), "{error}");
    assert_eq!(left(&fixture).await, "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4");
}

#[tokio::test]
async fn parameters_select_like_literals() {
    let fixture = hours().await;
    let text = "DELETE FROM cpu WHERE host = $host AND time >= $from";
    let parameters =
        [("host", Parameter::String("a".to_owned())), ("from", Parameter::String("1970-01-01T03:00:00Z".to_owned()))];
    fixture.delete_for(query_with(text, &parameters)).await.unwrap();
    assert_eq!(left(&fixture).await, "a0 a1 a2 b0 b1 b2 b3 b4 c0 c1 c2 c3 c4");
}

#[tokio::test]
async fn a_point_that_is_written_again_is_seen() {
    let fixture = hours().await;
    fixture.delete("DELETE FROM cpu").await.unwrap();
    fixture.write("cpu,host=a usage=7 0").await;
    assert_eq!(left(&fixture).await, "a7");
}
