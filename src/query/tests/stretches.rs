//! Rows that InfluxQL gives by time are sorted a stretch at a time, and are those that one sort gives.

use super::*;

/// Five hosts of 8,000 points each; two of them have points of the same times, two have gaps. Half of it in files.
async fn filled(stretch_rows: u64) -> Fixture {
    let fixture = Fixture::with(QuerySettings { threads: 2, stretch_rows, ..QuerySettings::default() }).await;
    for half in 0..2_i64 {
        let points = (half * 4000..half * 4000 + 4000).flat_map(|step| (0..5).map(move |host| (step, host)));
        let line = |(step, host): (i64, i64)| {
            let time = step * 1_000_000_000 * (1 + host / 3) + if host == 2 { 7 } else { 0 };
            let field = if (step + host) % 3 == 0 { format!("b={step}i") } else { format!("a={step}.5,b={host}i") };
            format!("m,host=h{host},region=r{} {field} {time}", host % 2)
        };
        fixture.write(&points.map(line).collect::<Vec<_>>().join("\n")).await;
        if half == 0 {
            fixture.persist().await;
        }
    }
    fixture
}

#[tokio::test]
async fn rows_by_time_are_the_same_however_many_are_sorted_at_once() {
    let (few, all) = (filled(8192).await, filled(u64::MAX).await);
    let asked = |text: &str| Query { language: Language::InfluxQl, ..query(text) };
    let answer = async |fixture: &Fixture, text: &str| {
        let batches = fixture.ask_for(asked(text)).await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
        pretty_format_batches_with_schema(batches[0].schema(), &batches).unwrap().to_string()
    };
    for (text, is_cut) in [
        ("SELECT * FROM m", true),
        ("SELECT a, host FROM m ORDER BY time DESC", true),
        ("SELECT b FROM m WHERE host != 'h1' AND a > 100 AND time > 1000s", true),
        ("SELECT * FROM m WHERE time >= 3990s AND time < 4010s", false),
        ("SELECT a + b AS sum FROM m ORDER BY time DESC LIMIT 9000 OFFSET 2000", true),
        ("SELECT difference(b) FROM m", true),
        ("SELECT cumulative_sum(a) FROM m WHERE region = 'r0'", true),
        ("SELECT max(x) FROM (SELECT b * 2 AS x FROM m) GROUP BY time(20m) fill(none)", true),
        ("SELECT b FROM m GROUP BY host", false),
        ("SELECT b FROM m LIMIT 3", false),
    ] {
        assert_eq!(answer(&few, text).await, answer(&all, text).await, "{text}");
        let plan = answer(&few, &format!("EXPLAIN {text}")).await;
        assert_eq!(plan.contains("InTurnExec"), is_cut, "{text}\n{plan}");
    }
    let plan = answer(&few, "EXPLAIN ANALYZE SELECT * FROM m").await;
    assert!(plan.contains("InTurnExec: parts=4") && plan.contains("m: 40000 rows"), "{plan}");
}
