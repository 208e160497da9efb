//! How rows are found: merged only where they may meet, not read where that is known without.

use super::*;

const HOUR: i64 = 3_600_000_000_000;

/// Three hours of four hosts, each hour a file of its own, and `more` in the buffer.
async fn three_hours(more: &str) -> Fixture {
    let fixture = Fixture::new().await;
    for hour in 0..3 {
        let lines: Vec<String> =
            (0..4).map(|host| format!("cpu,host=h{host} usage={hour} {}", hour * HOUR + host)).collect();
        fixture.write(&lines.join("\n")).await;
        fixture.persist().await;
    }
    if !more.is_empty() {
        fixture.write(more).await;
    }
    fixture
}

#[tokio::test]
async fn rows_that_cannot_meet_are_not_merged() {
    let fixture = three_hours(&format!("cpu,host=h0 usage=9 {}", 5 * HOUR)).await;
    let plan = fixture.explain("SELECT * FROM cpu").await;
    assert!(!plan.contains("DeduplicateExec"), "{plan}");
    fixture.check("SELECT count(*) AS n FROM cpu", "| n |\n| 13 |").await;
}

#[tokio::test]
async fn a_count_and_the_extremes_need_no_reading() {
    let fixture = three_hours(&format!("cpu,host=h0 usage=9 {}", 5 * HOUR)).await;
    let plan = fixture.explain("SELECT count(*) FROM cpu").await;
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{plan}");
    let fixture = three_hours("").await;
    let plan = fixture.explain("SELECT max(time), min(usage), count(usage) FROM cpu").await;
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{plan}");
    fixture
        .check(
            "SELECT min(usage) AS a, max(usage) AS b, count(usage) AS c FROM cpu",
            "| a | b | c |\n| 0.0 | 2.0 | 12 |",
        )
        .await;
}

#[tokio::test]
async fn a_late_write_is_merged_with_its_own_hour_only() {
    let fixture = three_hours(&format!("cpu,host=h0 usage=7 {}\ncpu,host=h1 usage=8 {}", 1, 2 * HOUR + 1)).await;
    let plan = fixture.explain("SELECT * FROM cpu").await;
    assert!(plan.contains("DeduplicateExec: inputs=4, components=2"), "{plan}");
    assert!(plan.contains("UnionExec"), "{plan}");
    fixture.check("SELECT count(*) AS n, sum(usage) AS s FROM cpu", "| n | s |\n| 13 | 25.0 |").await;
}

#[tokio::test]
async fn compacted_history_needs_no_merge() {
    let fixture = three_hours(&format!("cpu,host=h0 usage=7 {}\ncpu,host=h1 usage=8 {}", 1, 2 * HOUR + 1)).await;
    let question = "SELECT host, usage, time FROM cpu ORDER BY host, time";
    fixture.persist().await;
    let before = fixture.answer(question).await;
    assert!(fixture.explain("SELECT * FROM cpu").await.contains("DeduplicateExec"));
    fixture.engine.compact_all().await.unwrap();
    let plan = fixture.explain("SELECT * FROM cpu").await;
    assert!(!plan.contains("DeduplicateExec") && !plan.contains("UnionExec"), "{plan}");
    assert_eq!(fixture.answer(question).await, before);
    fixture
        .check(
            "SELECT table_name, state, files_removed, files_added, rows_read, rows_written, error FROM system.compactions",
            "| table_name | state | files_removed | files_added | rows_read | rows_written | error |
             | cpu | done | 4 | 1 | 14 | 13 |  |",
        )
        .await;
}

#[tokio::test]
async fn a_range_of_time_leaves_out_row_groups_and_runs() {
    let fixture = three_hours("cpu,host=h0 usage=7 1").await;
    let plan = fixture
        .explain("SELECT usage FROM cpu WHERE time >= '1970-01-01T01:00:00' AND time < '1970-01-01T02:00:00'")
        .await;
    assert!(!plan.contains("DeduplicateExec") && !plan.contains("UnionExec"), "{plan}");
    for condition in ["time > '1970-01-02T00:00:00'", "time > now() - INTERVAL '1 hour'", "host = 'elsewhere'"] {
        let plan = fixture.explain(&format!("SELECT usage FROM cpu WHERE {condition}")).await;
        let reads_nothing = plan.contains("EmptyExec") || !plan.contains("parquet");
        assert!(reads_nothing, "{condition}\n{plan}");
    }
    fixture.check("SELECT count(*) AS n FROM cpu WHERE time < '1970-01-01T01:00:00'", "| n |\n| 5 |").await;
}

#[tokio::test]
async fn filters_reach_the_files_and_only_those_on_the_key_go_below_a_merge() {
    let fixture = three_hours("cpu,host=h0 usage=7 1").await;
    let plan = fixture.explain("SELECT time FROM cpu WHERE host = 'h0' AND usage > 0.5").await;
    let merge = plan.find("DeduplicateExec").unwrap_or_else(|| panic!("{plan}"));
    let below: Vec<&str> = plan[merge..].lines().filter(|line| line.contains("predicate=")).collect();
    assert!(!below.is_empty() && below.iter().all(|line| line.contains("host") && !line.contains("usage@")), "{plan}");
    assert!(plan[merge..].contains("FilterExec: host"), "buffered rows are filtered before the merge\n{plan}");
}

#[tokio::test]
async fn the_order_of_a_single_unit_is_used_and_not_sorted_again() {
    let fixture = three_hours("").await;
    let plan = fixture.explain("SELECT * FROM cpu WHERE time < '1970-01-01T01:00:00' ORDER BY host, time").await;
    assert!(!plan.contains("SortExec"), "{plan}");
    let merged = three_hours("cpu,host=h0 usage=7 1").await;
    let plan = merged.explain("SELECT * FROM cpu WHERE time < '1970-01-01T01:00:00' ORDER BY host, time").await;
    assert!(plan.contains("DeduplicateExec") && !plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn a_scan_reports_the_bytes_that_it_read() {
    let fixture = three_hours("").await;
    let plan = fixture.answer("EXPLAIN ANALYZE SELECT time FROM cpu").await;
    let bytes = plan.split("bytes_scanned=").nth(1).unwrap_or_else(|| panic!("{plan}"));
    assert!(!bytes.starts_with("0,"), "{plan}");
}

#[tokio::test]
async fn a_merge_reports_what_it_did() {
    let fixture = three_hours("cpu,host=h0 usage=7 0\ncpu,host=h9 usage=7 1").await;
    let plan = fixture.answer("EXPLAIN ANALYZE SELECT * FROM cpu").await;
    let line = plan.lines().find(|line| line.contains("DeduplicateExec")).unwrap_or_else(|| panic!("{plan}"));
    assert!(
        line.contains("output_rows=5") && line.contains("input_rows=6") && line.contains("elapsed_compute"),
        "{line}"
    );
}
