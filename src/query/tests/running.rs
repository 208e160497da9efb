//! What is listed, what holds a slot, and what ends, whoever reads.

use arrow::datatypes::Int64Type;
use futures::StreamExt;

use super::*;
use crate::error::ErrorKind;
use crate::model::Rights;
use crate::query::{Asker, RunningSettings};

/// More rows than anybody takes.
const ENDLESS: &str = "SELECT a.value FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b";

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

async fn with_one_slot() -> Fixture {
    let running = RunningSettings { slots: Some(1), waiting_max: 0, ..RunningSettings::default() };
    Fixture::with(QuerySettings { threads: 2, running, ..QuerySettings::default() }).await
}

fn listed(fixture: &Fixture) -> RecordBatch {
    fixture.queries.queries(&Asker::default(), &Rights::everything()).unwrap()
}

async fn until_nothing_runs(fixture: &Fixture) {
    let waiting = async {
        while fixture.queries.metrics().running > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it ends");
}

#[tokio::test]
async fn what_is_only_described_leaves_no_row_unless_it_is_wrong() {
    let fixture = Fixture::new().await;
    drop(fixture.plan("SELECT 1").await.unwrap());
    until_nothing_runs(&fixture).await;
    assert_eq!(listed(&fixture).num_rows(), 0);
    assert!(fixture.plan("SELECT nothing").await.is_err());
    until_nothing_runs(&fixture).await;
    assert_eq!(listed(&fixture)["query_text"].as_string::<i32>().value(0), "SELECT nothing");
    assert_eq!((fixture.queries.metrics().started, fixture.queries.metrics().failed), (1, 1));
}

#[tokio::test]
async fn an_answer_that_waits_for_its_reader_holds_no_slot() {
    let fixture = with_one_slot().await;
    let unread = fixture.plan("SELECT value FROM generate_series(1, 10)").await.unwrap().run().await.unwrap();
    until_nothing_runs(&fixture).await;
    assert_eq!(fixture.ask("SELECT value FROM generate_series(1, 3)").await.unwrap()[0].num_rows(), 3);
    let rows: Vec<RecordBatch> = unread.try_collect().await.unwrap();
    assert_eq!(rows[0].num_rows(), 10);
}

#[tokio::test]
async fn ending_a_query_reaches_its_threads_even_if_nobody_reads() {
    let fixture = with_one_slot().await;
    let mut unread = fixture.plan(ENDLESS).await.unwrap().run().await.unwrap();
    let other = fixture.ask("SELECT value FROM generate_series(1, 3)").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Busy);
    let all = listed(&fixture);
    let running = all["running"].as_boolean();
    let row = (0..all.num_rows()).find(|row| running.value(*row)).unwrap();
    let id = all["id"].as_primitive::<Int64Type>().value(row).unsigned_abs();
    fixture.queries.kill(id, &Asker::default(), &Rights::everything()).unwrap();
    until_nothing_runs(&fixture).await;
    fixture.ask("SELECT value FROM generate_series(1, 3)").await.unwrap();
    assert_eq!(unread.next().await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(unread.next().await.is_none(), "nothing comes after an error");
    let killed = fixture.queries.kill(id, &Asker::default(), &Rights::everything());
    assert_eq!(killed.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_memory_of_a_query_is_told() {
    let fixture = Fixture::new().await;
    fixture.ask("SELECT value FROM generate_series(1, 100000) ORDER BY value DESC").await.unwrap();
    until_nothing_runs(&fixture).await;
    let all = listed(&fixture);
    assert!(all["max_memory"].as_primitive::<Int64Type>().value(0) >= 800_000, "{all:?}");
    assert_eq!(all["rows"].as_primitive::<Int64Type>().value(0), 100_000);
}

#[tokio::test]
async fn a_change_in_influxql_is_one_row_to_its_end_and_can_be_ended() {
    use crate::query::influxql::InfluxQlContext;
    use crate::syntax::influxql::parse;

    let fixture = with_one_slot().await;
    fixture.write("cpu,host=a usage=1 1").await;
    let context =
        InfluxQlContext { database: Some("nyc".to_owned()), rights: Rights::everything(), ..Default::default() };
    let statement = parse("DELETE FROM cpu WHERE host = 'a'", &[]).unwrap().remove(0);
    let queries = &fixture.queries;
    let done = queries.influxql_change(&statement, &context, async {
        let removals = queries.influxql_removals(&statement, &context).await?;
        assert_eq!((removals.len(), queries.metrics().running), (1, 1), "one row, and one slot, for both parts");
        Ok(())
    });
    done.await.unwrap();
    let endless = queries.influxql_change(&statement, &context, std::future::pending::<Result<()>>());
    let killing = async {
        while queries.metrics().running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let listed = listed(&fixture);
        let last = listed.num_rows() - 1;
        let id = listed["id"].as_primitive::<Int64Type>().value(last);
        queries.kill(id.unsigned_abs(), &Asker::default(), &Rights::everything()).unwrap();
    };
    let (ended, ()) = tokio::join!(endless, killing);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().ends_with("the statement may be done or not"), "{error}");
    until_nothing_runs(&fixture).await;
    let phases = listed(&fixture);
    let phases: Vec<_> = phases["phase"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    assert_eq!(phases, ["success", "cancel"]);
}
