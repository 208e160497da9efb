//! Substrait plans over Flight: the same calls as with a text. What a plan may be is tested where it is planned.

use arrow_flight::sql::{
    ActionCreatePreparedSubstraitPlanRequest, CommandStatementSubstraitPlan, CommandStatementUpdate, SubstraitPlan,
};

use super::*;

/// A field of protobuf that has a length.
fn part(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// The plan of `SELECT value AS name FROM table`, byte by byte.
fn plan(table: &str, name: &str) -> Vec<u8> {
    let integer = part(7, &[2 << 3, 1]); // of 64 bits, nullable
    let columns = [part(1, b"value"), part(2, &part(1, &integer))].concat();
    let read = [part(2, &columns), part(7, &part(1, table.as_bytes()))].concat();
    let root = [part(1, &part(1, &read)), part(2, name.as_bytes())].concat();
    part(3, &part(2, &root))
}

fn command(plan: Vec<u8>) -> CommandStatementSubstraitPlan {
    let plan = SubstraitPlan { plan: plan.into(), version: "0.85.0".to_owned() };
    CommandStatementSubstraitPlan { plan: Some(plan), transaction_id: None }
}

async fn with_rows() -> Service {
    let service = service(&["nyc"]).await;
    service.info(&query("INSERT INTO a_b (time, value) VALUES (1, 7), (2, 8)"), &[]).await.unwrap();
    service
}

#[tokio::test]
async fn a_plan_is_described_fetched_and_polled_like_a_text() {
    let service = with_rows().await;
    let command = command(plan("a_b", "seven"));
    let rows = service.rows(&command, &[("database", "nyc")]).await.unwrap();
    let mut values = texts(&rows, "seven");
    values.sort();
    assert_eq!(values, ["7", "8"]);
    let poll = service.client.clone().poll_flight_info(descriptor(&command)).await.unwrap().into_inner();
    assert!(poll.info.is_some() && poll.flight_descriptor.is_none());
}

#[tokio::test]
async fn a_prepared_plan_is_a_handle_like_any_other() {
    let service = with_rows().await;
    let request = ActionCreatePreparedSubstraitPlanRequest {
        plan: Some(SubstraitPlan { plan: plan("a_b", "v").into(), version: String::new() }),
        transaction_id: None,
    };
    let results = service.act("CreatePreparedSubstraitPlan", request.as_any().encode_to_vec()).await.unwrap();
    let result = Any::decode(results[0].clone()).unwrap();
    assert!(result.value.ends_with(&[0x20, 0x00]), "it says that it is a query");
    let created: ActionCreatePreparedStatementResult = result.unpack().unwrap().unwrap();
    let columns = Schema::try_from(arrow_flight::IpcMessage(created.dataset_schema)).unwrap();
    assert_eq!(columns.field(0).name(), "v");
    let handle = CommandPreparedStatementQuery { prepared_statement_handle: created.prepared_statement_handle };
    for _ in 0..2 {
        assert_eq!(service.rows(&handle, &[]).await.unwrap().num_rows(), 2);
    }
}

#[tokio::test]
async fn a_plan_that_can_not_be_is_refused_wherever_it_comes() {
    let service = with_rows().await;
    let transaction =
        CommandStatementSubstraitPlan { transaction_id: Some(Bytes::from_static(b"t")), ..command(plan("a_b", "v")) };
    for (command, code, words) in [
        (command(b"SELECT 1".to_vec()), Code::InvalidArgument, "the Substrait plan can't be read"),
        (command(plan("nowhere", "v")), Code::InvalidArgument, "No table named 'nowhere'"),
        (command(Vec::new()), Code::InvalidArgument, "holds no Substrait plan"),
        (CommandStatementSubstraitPlan::default(), Code::InvalidArgument, "holds no Substrait plan"),
        (transaction, Code::Unimplemented, "transactions"),
    ] {
        let described = service.info(&command, &[]).await.unwrap_err();
        assert_eq!(described.code(), code, "{described}");
        assert!(described.message().contains(words), "{described}");
        let request = ActionCreatePreparedSubstraitPlanRequest {
            plan: command.plan.clone(),
            transaction_id: command.transaction_id.clone(),
        };
        let prepared = service.act("CreatePreparedSubstraitPlan", request.as_any().encode_to_vec()).await.unwrap_err();
        assert_eq!(prepared.code(), code, "{prepared}");
    }
    let update = put(&service, &command(plan("a_b", "v")), vec![FlightData::new()]).await.unwrap_err();
    assert_eq!(update.code(), Code::InvalidArgument, "{update}");
    assert!(update.message().contains("this is a query"), "{update}");
    let text = CommandStatementUpdate { query: "SELECT 1".to_owned(), transaction_id: None };
    assert_eq!(put(&service, &text, vec![FlightData::new()]).await.unwrap_err().message(), update.message());
}
