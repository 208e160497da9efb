//! Texts that ask for too much are refused at once, and what is allowed does not overflow a stack.

use super::*;
use crate::error::ErrorKind;

async fn kind_of(fixture: &Fixture, text: &str) -> (ErrorKind, String) {
    match fixture.ask(text).await {
        Ok(_) => panic!("not refused: {}", &text[..text.len().min(200)]),
        Err(error) => (error.kind(), error.report()),
    }
}

#[tokio::test]
async fn functions_that_blow_up_are_refused_whether_planned_or_run() {
    let fixture = Fixture::new().await;
    fixture.write("m,k=a n=300000000i,s=x 1\nm,k=b n=300000000i,s=y 2").await;
    for text in [
        "SELECT repeat('x', 2000000000)",
        "SELECT length(repeat('x', 2000000000))",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT rpad('x', 2000000000)",
        "SELECT array_repeat(1, 300000000)",
        "SELECT list_repeat(1, 300000000)",
        "SELECT array_resize([1], 300000000, 0)",
        "SELECT generate_series(1, 300000000)",
        "SELECT range(300000000)",
        "SELECT range(0, 300000000, 1)",
        "SELECT generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01', INTERVAL '1 millisecond')",
        "SELECT generate_series(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day') FROM generate_series(1, 100)",
        "SELECT count(*) FROM generate_series(1, 300000000)",
        "SELECT count(*) FROM range(0, 300000000)",
        "SELECT count(*) FROM generate_series(1, 10) WHERE length(repeat('x', 1000000000)) > value",
        "SELECT repeat(s, n) FROM m",
        "SELECT lpad(s, n) FROM m",
        "SELECT array_repeat(s, n) FROM m",
        "SELECT range(n) FROM m",
        "SELECT replace(repeat('x', 60000), 'x', repeat('y', 60000))",
        "SELECT replace(repeat(s, 60000), 'x', repeat('y', 60000)) FROM m",
        "SELECT regexp_replace(repeat(s, 60000), '.', repeat('y', 60000), 'g') FROM m",
        "SELECT concat(repeat('x', 60000), repeat('x', 60000))",
        "SELECT repeat('x', 60000) || repeat('x', 60000)",
        "SELECT array_to_string(range(100000), repeat('y', 60000))",
        "SELECT a || a || a || a FROM (SELECT repeat(s, 30000000) AS a FROM m)",
        "SELECT concat_ws(repeat(',', 60000), value, value, value, value) FROM generate_series(1, 10000)",
        "EXPLAIN ANALYZE SELECT repeat('x', 2000000000)",
    ] {
        let (kind, report) = kind_of(&fixture, text).await;
        assert_eq!(kind, ErrorKind::Exhausted, "{text}: {report}");
        assert!(report.contains("more than the"), "{text}: {report}");
    }
}

#[tokio::test]
async fn bounded_functions_answer_as_before() {
    let fixture = Fixture::new().await;
    fixture.write("m,k=a n=2i,s=xy 1\nm,k=b n=3i 2").await;
    fixture
        .check(
            "SELECT repeat(s, n) AS a, lpad(s, 4, '.') AS b, concat(s, k) AS c, s || k AS d, replace(s, 'x', 'long') AS e FROM m ORDER BY time",
            "| a | b | c | d | e |
             | xyxy | ..xy | xya | xya | longy |
             | | | b | | |",
        )
        .await;
    fixture
        .check(
            "SELECT range(n) AS a, array_repeat(k, 2) AS b, regexp_replace(s, '(x)', '\\1\\1') AS c, n || '!' AS d FROM m ORDER BY time",
            "| a | b | c | d |
             | [0, 1] | [a, a] | xxy | 2! |
             | [0, 1, 2] | [b, b] | | 3! |",
        )
        .await;
    fixture
        .check(
            "SELECT 'a' || 'b' || NULL AS a, 'x' || 'y' AS b, [1] || [2] AS c, list_repeat(1, 2) AS d",
            "| a | b | c | d |\n| | xy | [1, 2] | [1, 1] |",
        )
        .await;
    fixture.check("SELECT s || 'z' FROM m WHERE s IS NOT NULL", "| m.s || Utf8(\"z\") |\n| xyz |").await;
    fixture.check("SELECT count(*) AS n FROM generate_series(1, 100000)", "| n |\n| 100000 |").await;
}

#[tokio::test]
async fn texts_past_a_bound_are_refused() {
    let fixture = Fixture::new().await;
    fixture.write("m a=1i 1").await;
    let terms = |count: usize| (0..count).map(|n| format!("a<>{n}")).collect::<Vec<_>>().join(" AND ");
    for (text, kind) in [
        (format!("SELECT * FROM m WHERE {}", terms(5_000)), ErrorKind::Invalid),
        (format!("SELECT 1 {}", "+ 1".repeat(80_000)), ErrorKind::Invalid),
        (format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)), ErrorKind::Invalid),
        (format!("SELECT {}1", "(".repeat(250_000)), ErrorKind::Invalid),
        (format!("SELECT {}1", "-".repeat(200_000)), ErrorKind::Invalid),
        (format!("SELECT {} true", "NOT ".repeat(60_000)), ErrorKind::Invalid),
        (format!("SELECT 1{}", "::int".repeat(50_000)), ErrorKind::Invalid),
        (format!("SELECT {}1{}", "[".repeat(100_000), "]".repeat(100_000)), ErrorKind::Invalid),
        (format!("{} SELECT 1", "EXPLAIN ".repeat(30_000)), ErrorKind::Invalid),
        (format!("SELECT 1{}", " UNION SELECT 1".repeat(15_000)), ErrorKind::Invalid),
        (format!("SELECT {} FROM m", "*,".repeat(100_000)), ErrorKind::Invalid),
        (format!("SELECT * FROM m{}", ",m".repeat(100_000)), ErrorKind::Invalid),
        (format!("SELECT {}1", "CASE WHEN true THEN ".repeat(10_000)), ErrorKind::Invalid),
        (format!("SELECT 1{}", "+1".repeat(4_999)), ErrorKind::Invalid),
        (format!("SELECT 'x'{}", "||'x'".repeat(4_999)), ErrorKind::Invalid),
        (format!("SELECT {}1{}", "(SELECT ".repeat(60), ")".repeat(60)), ErrorKind::Invalid),
        (format!("SELECT {}", vec!["1"; 100_000].join(",")), ErrorKind::Invalid),
        (format!("SELECT {}1{}", "abs(".repeat(40_000), ")".repeat(40_000)), ErrorKind::Invalid),
        (format!("SELECT '{}'", "x".repeat(300 * 1024)), ErrorKind::TooLarge),
        (format!("SELECT * FROM m WHERE {}", terms(100_000)), ErrorKind::TooLarge),
        ("/*".repeat(100_000), ErrorKind::Invalid),
    ] {
        let (refused, report) = kind_of(&fixture, &text).await;
        assert_eq!(refused, kind, "{}: {}", &text[..60], &report[..report.len().min(200)]);
    }
}

#[tokio::test]
async fn texts_within_the_bounds_run_on_a_stack_of_16_mib() {
    let fixture = Fixture::new().await;
    fixture.write("m a=1i 1").await;
    let chain = |term: &str, link: &str, count: usize| vec![term; count].join(link);
    let numbered =
        |link: &str, count: usize| (0..count).map(|n| format!("a<>{}", n + 2)).collect::<Vec<_>>().join(link);
    for text in [
        format!("SELECT a FROM m WHERE {}", numbered(" AND ", 498)),
        format!("SELECT a FROM m WHERE {}", numbered(" OR ", 498)),
        format!("SELECT {} FROM m", chain("a", "+", 500)),
        format!("SELECT {}", chain("1", "+", 500)),
        format!("SELECT {}", chain("'x'", "||", 500)),
        format!("SELECT {}a{} FROM m", "(".repeat(200), ")".repeat(200)),
        format!("SELECT {}a{} FROM m", "abs(".repeat(200), ")".repeat(200)),
        format!("SELECT {}1{}", "(SELECT ".repeat(8), ")".repeat(8)),
        format!("SELECT a FROM {}m{}", "(SELECT a FROM ".repeat(100), ")".repeat(100)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(500)),
        format!(
            "SELECT 1 FROM m{}",
            (0..60).map(|n| format!(" JOIN m m{n} ON m.time = m{n}.time")).collect::<String>()
        ),
        format!("SELECT a{} FROM m", "::int".repeat(498)),
        format!("SELECT a{} FROM m", " IS NULL".repeat(498)),
        format!("SELECT {} FROM m", chain("CASE WHEN a = 1 THEN a ELSE a END", "*", 400)),
        format!("SELECT {} FROM m", (0..4_000).map(|n| format!("a + {n} AS c{n}")).collect::<Vec<_>>().join(", ")),
        format!("SELECT a FROM m WHERE a IN ({})", chain("1", ",", 60_000)),
    ] {
        if let Err(error) = fixture.ask(&text).await {
            let report = error.report();
            panic!("{}: {}", &text[..60], &report[..report.len().min(300)]);
        }
    }
}
