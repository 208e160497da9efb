//! Prepared statements, and writing where nothing can be written.

use super::*;

async fn prepare(service: &Service, text: &str) -> Result<Any, Status> {
    let request = ActionCreatePreparedStatementRequest { query: text.to_owned(), transaction_id: None };
    let results = service.act("CreatePreparedStatement", request.as_any().encode_to_vec()).await?;
    assert_eq!(results.len(), 1);
    Ok(Any::decode(results[0].clone()).unwrap())
}

#[tokio::test]
async fn a_prepared_statement_says_that_it_is_a_query_and_runs_as_often_as_one_likes() {
    let service = service(&["nyc"]).await;
    let result = prepare(&service, "SELECT 7 AS seven").await.unwrap();
    assert!(result.value.ends_with(&[0x20, 0x00]), "field 4, is_update, is there and false");
    let created: ActionCreatePreparedStatementResult = result.unpack().unwrap().unwrap();
    let columns = Schema::try_from(arrow_flight::IpcMessage(created.dataset_schema)).unwrap();
    assert_eq!(columns.field(0).name(), "seven");
    let parameters = Schema::try_from(arrow_flight::IpcMessage(created.parameter_schema)).unwrap();
    assert!(parameters.fields().is_empty());

    // Another database appears and headers change; the handle knows better.
    service.engine.create_database(&DatabaseName::new("boston").unwrap(), None).await.unwrap();
    let command = CommandPreparedStatementQuery { prepared_statement_handle: created.prepared_statement_handle };
    for _ in 0..2 {
        assert_eq!(texts(&service.rows(&command, &[]).await.unwrap(), "seven"), ["7"]);
    }
    let (_, rows) = service.get(command.as_any().encode_to_vec(), &[("database", "boston")]).await.unwrap();
    assert_eq!(texts(&rows[0], "seven"), ["7"]);

    let close = arrow_flight::sql::ActionClosePreparedStatementRequest {
        prepared_statement_handle: command.prepared_statement_handle,
    };
    for _ in 0..2 {
        assert!(service.act("ClosePreparedStatement", close.as_any().encode_to_vec()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_statement_with_parameters_is_refused_with_their_names() {
    let service = service(&["nyc"]).await;
    let refused = prepare(&service, "SELECT * FROM weather WHERE region = ? AND temperature > ?").await.unwrap_err();
    // Not UNIMPLEMENTED: Python's driver would go on without a word and fail later.
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("$1, $2"), "{refused}");
}

#[tokio::test]
async fn binding_no_parameters_returns_the_handle_and_binding_some_is_refused() {
    let service = service(&["nyc"]).await;
    let created: ActionCreatePreparedStatementResult =
        prepare(&service, "SELECT 1").await.unwrap().unpack().unwrap().unwrap();
    let handle = created.prepared_statement_handle;
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };

    // Java: a schema of no columns and one batch of one row of them. Go: a descriptor alone.
    let columnless = SchemaRef::new(Schema::empty());
    let one_row = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let java = RecordBatch::try_new_with_options(SchemaRef::clone(&columnless), vec![], &one_row).unwrap();
    let value = RecordBatch::try_from_iter([("1", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    for (messages, accepted) in [
        (vec![FlightData::new()], true),
        (messages(columnless, vec![java]).await, true),
        (messages(value.schema(), vec![]).await, true),
        (messages(value.schema(), vec![value]).await, false),
    ] {
        let answered = put(&service, &command, messages).await;
        match answered {
            Ok(metadata) => {
                let result = DoPutPreparedStatementResult::decode(metadata).unwrap();
                assert!(accepted && result.prepared_statement_handle == Some(handle.clone()));
            }
            Err(status) => assert!(!accepted && status.code() == Code::Unimplemented, "{status}"),
        }
    }
}

#[tokio::test]
async fn writing_says_where_to_write_instead() {
    let service = service(&["nyc"]).await;
    let ingest = CommandStatementIngest { table: "weather".to_owned(), ..CommandStatementIngest::default() };
    let refused = put(&service, &ingest, vec![FlightData::new()]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().ends_with("write line protocol over HTTP"), "{refused}");
}

async fn put(
    service: &Service,
    command: &impl ProstMessageExt,
    mut messages: Vec<FlightData>,
) -> Result<Bytes, Status> {
    messages[0].flight_descriptor = Some(descriptor(command));
    let answers = service.client.clone().do_put(stream::iter(messages)).await?.into_inner();
    let answers: Vec<PutResult> = answers.try_collect().await?;
    assert_eq!(answers.len(), 1, "Java waits for one");
    Ok(answers[0].app_metadata.clone())
}
