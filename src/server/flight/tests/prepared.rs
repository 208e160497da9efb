//! Prepared statements: handles, and values for their parameters.

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
    let closed = service.info(&command_for(&close.prepared_statement_handle), &[]).await.unwrap_err();
    assert!(closed.code() == Code::NotFound && closed.message().contains("was closed"), "{closed}");
    let foreign =
        arrow_flight::sql::ActionClosePreparedStatementRequest { prepared_statement_handle: vec![0; 80].into() };
    let nothing_to_close = service.act("ClosePreparedStatement", foreign.as_any().encode_to_vec()).await;
    assert!(nothing_to_close.unwrap().is_empty());
}

/// A handle and the parameters that it wants.
async fn prepared(service: &Service, text: &str) -> (Bytes, Schema) {
    let created: ActionCreatePreparedStatementResult = prepare(service, text).await.unwrap().unpack().unwrap().unwrap();
    let parameters = Schema::try_from(arrow_flight::IpcMessage(created.parameter_schema)).unwrap();
    (created.prepared_statement_handle, parameters)
}

fn command_for(handle: &Bytes) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() }
}

/// Binds and returns the handle of the answer.
async fn bind(service: &Service, handle: &Bytes, batches: &[RecordBatch]) -> Result<Bytes, Status> {
    let answer = put(service, &command_for(handle), sent(batches).await).await?;
    Ok(DoPutPreparedStatementResult::decode(answer).unwrap().prepared_statement_handle.unwrap())
}

fn values(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn integers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

#[tokio::test]
async fn parameters_are_nullable_typed_and_in_order() {
    let service = service(&["nyc"]).await;
    let text = (1..13).map(|number| format!("temperature > ${number}")).collect::<Vec<_>>().join(" AND ");
    let (_, twelve) = prepared(&service, &format!("SELECT 1 FROM weather WHERE {text}")).await;
    let names: Vec<_> = twelve.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, (1..13).map(|number| format!("${number}")).collect::<Vec<_>>());
    assert!(twelve.fields().iter().all(|field| field.is_nullable() && *field.data_type() == DataType::Float64));

    let text = "SELECT ? AS anything, CAST(? AS DOUBLE) AS real FROM weather WHERE region = ? AND count = ? AND time < ? LIMIT ?";
    let (_, mixed) = prepared(&service, text).await;
    let types: Vec<_> = mixed.fields().iter().map(|field| field.data_type().clone()).collect();
    // JDBC writes milliseconds into a column of times, whatever its unit is.
    let millis = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    assert_eq!(types, [DataType::Utf8, DataType::Float64, DataType::Utf8, DataType::UInt64, millis, DataType::Int64]);
}

#[tokio::test]
async fn values_hold_for_the_handle_that_was_bound_and_for_the_one_that_comes_back() {
    let service = service(&["nyc"]).await;
    let (old, _) = prepared(&service, "SELECT $1 + 1 AS more").await;
    let (other, _) = prepared(&service, "SELECT $1 + 1 AS more").await;
    let unbound = service.info(&command_for(&old), &[]).await.unwrap_err();
    assert_eq!(unbound.code(), Code::InvalidArgument);
    assert!(unbound.message().contains("$1"), "{unbound}");
    let schema = service.client.clone().get_schema(descriptor(&command_for(&old))).await;
    assert!(schema.is_ok(), "what it will answer is known without values");

    let new = bind(&service, &old, &[values(vec![("0", integers([Some(1)]))])]).await.unwrap();
    for handle in [&old, &new, &old] {
        assert_eq!(texts(&service.rows(&command_for(handle), &[]).await.unwrap(), "more"), ["2"]);
    }
    // Bound anew: the handle that is used again has the new values, the one that carries the old ones keeps them.
    bind(&service, &old, &[values(vec![("0", integers([Some(10)]))])]).await.unwrap();
    assert_eq!(texts(&service.rows(&command_for(&old), &[]).await.unwrap(), "more"), ["11"]);
    assert_eq!(texts(&service.rows(&command_for(&new), &[]).await.unwrap(), "more"), ["2"]);
    assert!(service.info(&command_for(&other), &[]).await.is_err(), "another handle of the same text has no values");

    let close = arrow_flight::sql::ActionClosePreparedStatementRequest { prepared_statement_handle: old.clone() };
    service.act("ClosePreparedStatement", close.as_any().encode_to_vec()).await.unwrap();
    assert!(service.info(&command_for(&old), &[]).await.is_err(), "closed, it has none");
}

#[tokio::test]
async fn several_rows_of_values_are_several_executions_in_order() {
    let service = service(&["nyc"]).await;
    let (handle, _) = prepared(&service, "SELECT v * $1 AS product FROM (VALUES (1), (2)) t(v) ORDER BY v").await;
    let batches = [integers([Some(1), Some(10)]), integers([Some(100), None])];
    let batches = batches.map(|column| values(vec![("0", column)]));
    let bound = bind(&service, &handle, &batches).await.unwrap();
    let rows = service.rows(&command_for(&bound), &[]).await.unwrap();
    assert_eq!(texts(&rows, "product"), ["1", "2", "10", "20", "100", "200", "", ""]);
    assert!(!service.info(&command_for(&bound), &[]).await.unwrap().ordered);
}

#[test]
fn java_alone_is_told_zero_of_rows_that_nobody_counted() {
    for (agent, said) in [("grpc-java-netty/1.71.0", Some(0)), ("grpc-go/1.80.0", None), ("tonic/0.14.9", None)] {
        let mut headers = MetadataMap::new();
        headers.insert("user-agent", agent.parse().unwrap());
        let call = Call::new(&headers, Principal::everybody()).unwrap();
        assert_eq!(call.uncounted, said, "{agent}");
    }
}

#[tokio::test]
async fn an_update_with_values_runs_once_for_each_row() {
    let service = service(&["nyc"]).await;
    let (handle, parameters) = prepared(&service, "INSERT INTO a_b (time, value) VALUES ($1, $2)").await;
    assert_eq!(*parameters.field(1).data_type(), DataType::Int64);
    let update = arrow_flight::sql::CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() };
    let times = |times: &[&str]| -> ArrayRef { Arc::new(StringArray::from(times.to_vec())) };
    let rows = [
        values(vec![("0", times(&["2024-01-01", "2024-01-02"])), ("1", integers([Some(1), Some(2)]))]),
        values(vec![("0", times(&["2024-01-02"])), ("1", integers([Some(3)]))]),
    ];
    let answer = put(&service, &update, messages(rows[0].schema(), rows.to_vec()).await).await.unwrap();
    assert_eq!(arrow_flight::sql::DoPutUpdateResult::decode(answer).unwrap().record_count, 3);
    let text = "SELECT value FROM a_b ORDER BY time";
    assert_eq!(texts(&service.rows(&query(text), &[]).await.unwrap(), "value"), ["1", "3"], "the last one of a point");

    let refused = put(&service, &update, vec![FlightData::new()]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("$1, $2"), "{refused}");
    let wrong = values(vec![("0", times(&["2024-01-05", "soon"])), ("1", integers([Some(5), Some(6)]))]);
    assert!(put(&service, &update, messages(wrong.schema(), vec![wrong]).await).await.is_err());
    assert_eq!(
        service.rows(&query(text), &[]).await.unwrap().num_rows(),
        2,
        "of values that are refused none is stored"
    );

    // The way of Python: bound, then executed as a query.
    let more = values(vec![("0", times(&["2024-01-03", "2024-01-04"])), ("1", integers([Some(4), None]))]);
    let bound = bind(&service, &handle, &[more]).await.unwrap();
    assert_eq!(service.rows(&query(text), &[]).await.unwrap().num_rows(), 2, "bound, nothing is done yet");
    let info = service.info(&command_for(&bound), &[]).await.unwrap();
    let (_, answer) = service.get(info.endpoint[0].ticket.clone().unwrap().ticket, &[]).await.unwrap();
    assert_eq!(texts(&answer[0], "count"), ["2"]);
    assert_eq!(texts(&service.rows(&query(text), &[]).await.unwrap(), "value"), ["1", "3", "4", ""]);
}

#[tokio::test]
async fn many_executions_of_an_insert_are_what_they_are_one_by_one() {
    let service = service(&["nyc"]).await;
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1200).map(|number| format!("s{}", number % 7))));
    let numbers = integers((0..1200).map(|number| (number % 5 != 0).then_some(number)));
    for (text, columns, expected) in [
        // Two rows for each execution: each with a time of its own, the second with an expression and a default.
        (
            "INSERT INTO weather (time, station, temperature) VALUES (coalesce(CAST($2 AS BIGINT), 0) * 2, $1, 2), \
             (coalesce(CAST($2 AS BIGINT), 0) * 2 + 1, 'x', CAST($2 AS BIGINT) / 2)",
            vec![("1", Arc::clone(&texts)), ("2", Arc::clone(&numbers))],
            2400,
        ),
        // Without a time, and with the time of the execution: no two are the same point.
        (
            "INSERT INTO weather (station, temperature) VALUES ($1, $2)",
            vec![("1", Arc::clone(&texts)), ("2", Arc::clone(&numbers))],
            1200,
        ),
        ("INSERT INTO weather (time, count) VALUES (now(), $1)", vec![("1", integers((0..40).map(Some)))], 40),
        (
            "INSERT INTO weather (time, count) SELECT CAST($1 AS BIGINT), 1",
            vec![("1", integers((0..40).map(Some)))],
            40,
        ),
    ] {
        let (handle, _) = prepared(&service, text).await;
        let update = arrow_flight::sql::CommandPreparedStatementUpdate { prepared_statement_handle: handle };
        let rows = values(columns);
        let answer = put(&service, &update, messages(rows.schema(), vec![rows]).await).await.unwrap();
        assert_eq!(arrow_flight::sql::DoPutUpdateResult::decode(answer).unwrap().record_count, expected, "{text}");
    }
    let facts = "SELECT count(*) FILTER (WHERE station = 'x') AS x, count(DISTINCT CASE WHEN station = 's3' THEN time END) AS s3, \
                 sum(temperature) FILTER (WHERE station = 'x') AS halves, count(*) FILTER (WHERE \"count\" >= 0 AND time > '2020-01-01') AS now FROM weather";
    let facts = service.rows(&query(facts), &[]).await.unwrap();
    // A point at 0 for each number that is null, which the last of them wins.
    let halves: i64 = (0..1200).filter(|number| number % 5 != 0).map(|number| number / 2).sum();
    let s3 = (0..1200).filter(|number| number % 7 == 3).count();
    let s3_with_numbers = (0..1200).filter(|number| number % 7 == 3 && number % 5 != 0).count() + 1;
    assert_eq!(
        texts_of(&facts),
        [961.to_string(), (s3 + s3_with_numbers).to_string(), format!("{halves}.0"), 40.to_string()]
    );
}

fn texts_of(row: &RecordBatch) -> Vec<String> {
    row.schema().fields().iter().map(|field| texts(row, field.name()).remove(0)).collect()
}

#[tokio::test]
async fn values_of_any_kind_take_the_type_that_is_wanted() {
    let service = service(&["nyc"]).await;
    let (handle, _) = prepared(&service, "SELECT t.x = $1 AS same FROM (VALUES (TIMESTAMP '2013-01-01')) t(x)").await;
    let dictionary: arrow::array::DictionaryArray<Int32Type> = ["2013-01-01T00:00:00"].into_iter().collect();
    let seconds = arrow::array::TimestampSecondArray::from(vec![1_356_998_400]).with_timezone("+01:00");
    let union = {
        let fields = [(4_i8, Arc::new(Field::new("text", DataType::Utf8, true)))].into_iter().collect();
        let child: ArrayRef = Arc::new(StringArray::from(vec!["2013-01-01"]));
        arrow::array::UnionArray::try_new(fields, vec![4].into(), Some(vec![0].into()), vec![child]).unwrap()
    };
    let arrays: [ArrayRef; 4] =
        [Arc::new(StringArray::from(vec!["2013-01-01"])), Arc::new(dictionary), Arc::new(seconds), Arc::new(union)];
    for array in arrays {
        let kind = array.data_type().clone();
        let bound = bind(&service, &handle, &[values(vec![("0", array)])]).await.unwrap();
        assert_eq!(texts(&service.rows(&command_for(&bound), &[]).await.unwrap(), "same"), ["true"], "{kind}");
    }
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused_when_they_are_bound() {
    let service = service(&["nyc"]).await;
    let (handle, _) = prepared(&service, "SELECT count(*) FROM weather WHERE temperature > $1 AND time < $2").await;
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    for (columns, words) in [
        (vec![("0", integers([Some(1)]))], "has 2 parameters ($1, $2), the values have 1 columns"),
        (vec![("0", integers([Some(1)])), ("1", text("soon"))], "the parameter $2 is soon (Utf8)"),
        (vec![("0", text("warm")), ("1", text("2013-01-01"))], "the parameter $1 is warm (Utf8)"),
    ] {
        let refused = bind(&service, &handle, &[values(columns)]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
    let long = text(&"x".repeat(2 << 20));
    let refused = bind(&service, &handle, &[values(vec![("0", Arc::clone(&long)), ("1", long)])]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test]
async fn names_find_their_columns() {
    let service = service(&["nyc"]).await;
    let (handle, _) = prepared(&service, "SELECT 100 + $big - $small AS difference").await;
    let columns = vec![("small", integers([Some(1)])), ("$big", integers([Some(10)]))];
    let bound = bind(&service, &handle, &[values(columns)]).await.unwrap();
    assert_eq!(texts(&service.rows(&command_for(&bound), &[]).await.unwrap(), "difference"), ["109"]);
}

#[tokio::test]
async fn where_there_are_no_parameters_only_nothing_can_be_bound() {
    let service = service(&["nyc"]).await;
    let (handle, _) = prepared(&service, "SELECT 1").await;
    let command = command_for(&handle);

    // Java: a schema of no columns and one batch of one row of them. Go: a descriptor alone.
    let columnless = SchemaRef::new(Schema::empty());
    let one_row = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let java = RecordBatch::try_new_with_options(SchemaRef::clone(&columnless), vec![], &one_row).unwrap();
    let value = values(vec![("1", integers([Some(1)]))]);
    for (messages, accepted) in [
        (vec![FlightData::new()], true),
        (messages(columnless, vec![java]).await, true),
        (messages(value.schema(), vec![value]).await, false),
    ] {
        match put(&service, &command, messages).await {
            Ok(metadata) => {
                let result = DoPutPreparedStatementResult::decode(metadata).unwrap();
                assert!(accepted && result.prepared_statement_handle == Some(handle.clone()));
            }
            Err(status) => assert!(!accepted && status.code() == Code::InvalidArgument, "{status}"),
        }
    }
}
