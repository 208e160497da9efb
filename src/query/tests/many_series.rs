//! Very many series: what InfluxQL tells of their names and ends is told without the points between.

use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};

use super::*;
use crate::query::influxql::{Cell, InfluxQlAnswer, InfluxQlContext, tag_rows};
use crate::syntax::influxql::parse;

const SERIES: usize = 100_000;

/// Two points of each series in one file, and a third one of few that is buffered.
async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    for round in 0..2 {
        let line = |n: usize| format!("m,host=h{n},region=r{} v={round} {}\n", n % 10, round * 1_000 + n % 7);
        fixture.write(&(0..SERIES).map(line).collect::<String>()).await;
    }
    fixture.persist().await;
    fixture.write("m,host=h1,region=r1 v=7 5000\nm,host=new,region=r1 v=7 5000").await;
    fixture
}

/// The sum of a metric over the operators of a plan that have this name.
fn metric(plan: &Arc<dyn ExecutionPlan>, operator: &str, name: &str) -> usize {
    let own = plan.metrics().filter(|_| plan.name() == operator);
    let own = own.and_then(|metrics| metrics.sum_by_name(name)).map_or(0, |value| value.as_usize());
    own + plan.children().into_iter().map(|child| metric(child, operator, name)).sum::<usize>()
}

/// What `SHOW TAG VALUES`, `SHOW SERIES` and all cardinalities read.
#[tokio::test]
async fn tags_are_told_without_a_point() {
    let fixture = fixture().await;
    for (tags, count) in [(&["region"][..], 10), (&["host"], SERIES + 1), (&["host", "region"], SERIES + 1)] {
        let session = fixture.queries.sessions.open_for_influxql();
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let plan = tag_rows(&fixture.engine, &session, &nyc(), "m", &tags, (None, None), &[]).await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains("SeriesEndsExec: table=m, what=tags") && !text.contains("DataSourceExec"), "{text}");
        let batches = collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), count);
        assert_eq!(metric(&plan, "SeriesEndsExec", "units_read"), 0, "no times were looked at");
    }
}

#[tokio::test]
async fn last_points_are_told_without_those_before() {
    let fixture = fixture().await;
    let told = async |text: &str| {
        let statements = parse(text, &[]).unwrap();
        let rights = crate::model::Rights::everything();
        let context = InfluxQlContext { database: Some("nyc".to_owned()), rights, ..InfluxQlContext::default() };
        match fixture.queries.influxql(&statements[0], &context).await.unwrap() {
            InfluxQlAnswer::Listings(listings) => listings,
            InfluxQlAnswer::Series(_) => panic!("{text} tells no names"),
        }
    };
    let plan = told("EXPLAIN ANALYZE SELECT last(v) FROM m GROUP BY host").await;
    let lines = plan[0].rows.iter().map(|row| match &row[0] {
        Cell::Text(line) => line.as_str(),
        other => panic!("{other:?}"),
    });
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines[0], format!("m: {} rows", SERIES + 1));
    let ends = lines.iter().find(|line| line.contains("SeriesEndsExec")).unwrap();
    // One of the file and one of the buffer are of the same series; such numbers are told rounded.
    assert!(ends.contains("what=newest 1 of each series") && ends.contains("output_rows=100"), "{ends}");
    let count = told("SHOW SERIES EXACT CARDINALITY").await;
    assert_eq!(count[0].rows, [vec![Cell::Integer(SERIES as i64 + 1)]]);
}

/// Hosts are not what series are sorted by first, so that they are grouped by hash, between threads.
#[tokio::test]
async fn series_are_grouped_by_any_of_their_tags() {
    let fixture = Fixture::new().await;
    for round in 0..2 {
        let line = |n: usize| format!("m,area=a{},host=h{n} v={round} {}\n", n % 10, round * 1_000 + n % 7);
        fixture.write(&(0..SERIES).map(line).collect::<String>()).await;
        fixture.persist().await;
    }
    let groups = "SELECT host, count(*) AS rows, max(v) AS v FROM m GROUP BY host";
    let plan = fixture.explain(groups).await;
    assert!(plan.contains("CutDictionariesExec"), "{plan}");
    for (question, expected) in [
        (
            format!("SELECT count(*) AS n, min(rows) AS a, max(rows) AS b, sum(v) AS c FROM ({groups})"),
            [SERIES, 2, 2, SERIES],
        ),
        (
            format!("SELECT count(*) AS n, 0 AS a, 0 AS b, 0 AS c FROM ({groups}) WHERE host = 'h' || (rows + 5)"),
            [1, 0, 0, 0],
        ),
        (
            "SELECT count(DISTINCT host) AS n, count(DISTINCT area) AS a, 0 AS b, 0 AS c FROM m".to_owned(),
            [SERIES, 10, 0, 0],
        ),
    ] {
        let told = fixture.ask(&question).await.unwrap();
        let numbers = |name: &str| {
            let column = cast(told[0].column_by_name(name).unwrap(), &DataType::Float64).unwrap();
            column.as_primitive::<Float64Type>().value(0) as usize
        };
        assert_eq!(["n", "a", "b", "c"].map(numbers), expected, "{question}");
    }
}
