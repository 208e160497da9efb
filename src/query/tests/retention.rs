//! Rows that have expired are in no answer, to the nanosecond, wherever they lie.

use super::*;

const HOUR: i64 = 3_600_000_000_000;

/// An hour ago a row is still seen; one nanosecond earlier it is not.
fn lines() -> String {
    let edge = NOW - HOUR;
    format!(
        "m,host=a v=1 {}\nm,host=a v=2 {}\nm,host=a v=4 {edge}\nm,host=b v=8 {}",
        edge - 2 * HOUR,
        edge - 1,
        NOW - 60
    )
}

async fn check_visible(fixture: &Fixture) {
    fixture.check("SELECT count(*) AS n FROM m", "| n |\n| 2 |").await;
    fixture.check("SELECT host, v FROM m ORDER BY v", "| host | v |\n| a | 4.0 |\n| b | 8.0 |").await;
    fixture.check("SELECT min(v) AS a, max(v) AS b, count(v) AS c FROM m", "| a | b | c |\n| 4.0 | 8.0 | 2 |").await;
    fixture.check("SELECT CAST(min(time) AS BIGINT) AS t FROM m", &format!("| t |\n| {} |", NOW - HOUR)).await;
    fixture.check("SELECT v FROM m WHERE host = 'a'", "| v |\n| 4.0 |").await;
    fixture.check("SELECT count(*) AS n FROM m WHERE v < 3", "| n |\n| 0 |").await;
    fixture.check("SELECT v FROM m ORDER BY time LIMIT 1", "| v |\n| 4.0 |").await;
}

#[tokio::test]
async fn expired_rows_are_in_no_answer_whether_buffered_stored_or_compacted() {
    let fixture = Fixture::new().await;
    fixture.write(&lines()).await;
    fixture.check("SELECT count(*) AS n FROM m", "| n |\n| 4 |").await;
    fixture.engine.set_retention(&nyc(), None, Some(Duration::from_secs(3600))).await.unwrap();
    check_visible(&fixture).await;
    fixture.persist().await;
    check_visible(&fixture).await;
    // Overlapping runs, one of them buffered: below the merge.
    fixture.write(&lines()).await;
    check_visible(&fixture).await;
    fixture.persist().await;
    fixture.engine.compact_all().await.unwrap();
    check_visible(&fixture).await;
    // Nothing is lost as long as the file has rows that are seen.
    fixture.engine.collect_garbage().await.unwrap();
    fixture.engine.set_retention(&nyc(), None, None).await.unwrap();
    fixture.check("SELECT count(*) AS n FROM m", "| n |\n| 4 |").await;
}

#[tokio::test]
async fn a_tables_own_period_counts_and_a_file_that_has_expired_is_dropped() {
    let fixture = Fixture::new().await;
    let old = NOW - 30 * HOUR;
    fixture.write(&format!("m v=1 {old}\nk v=1 {old}")).await;
    fixture.persist().await;
    let table = TableName::new("k").unwrap();
    fixture.engine.set_retention(&nyc(), Some(&table), Some(Duration::from_secs(100 * 3600))).await.unwrap();
    fixture.engine.set_retention(&nyc(), None, Some(Duration::from_secs(3600))).await.unwrap();
    fixture.check("SELECT count(*) AS n FROM m", "| n |\n| 0 |").await;
    fixture.check("SELECT count(*) AS n FROM k", "| n |\n| 1 |").await;
    let periods = "SELECT table_name, retention_period_ns FROM system.retention ORDER BY 2";
    fixture.check(periods, "| table_name | retention_period_ns |\n|  | 3600000000000 |\n| k | 360000000000000 |").await;
    fixture.engine.collect_garbage().await.unwrap();
    let files = "SELECT table_name, state, row_count FROM system.files ORDER BY state";
    fixture.check(files, "| table_name | state | row_count |\n|  | garbage |  |\n| k | live | 1 |").await;
    fixture.engine.set_retention(&nyc(), None, None).await.unwrap();
    fixture.check("SELECT count(*) AS n FROM m", "| n |\n| 0 |").await;
}
