//! Whatever comes: nothing that a client sends panics.

use super::*;

/// Bytes that look like protobuf often enough to get past the first checks.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "CommandStatementQuery",
        "CommandPreparedStatementQuery",
        "CommandGetTables",
        "CommandGetSqlInfo",
        "CommandGetPrimaryKeys",
        "CommandGetDbSchemas",
        "CommandStatementIngest",
        "TicketStatementQuery",
        "ActionCreatePreparedStatementRequest",
        "CommandGetXdbcTypeInfo",
        "CommandStatementSubstraitPlan",
        "Nonsense",
    ];
    let value = prop::collection::vec(any::<u8>(), 0..64);
    let command = (prop::sample::select(names.to_vec()), value.clone()).prop_map(|(name, value)| {
        let type_url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
        Any { type_url, value: value.into() }.encode_to_vec()
    });
    let json = "\\{\"(database|sql_query|params|query_type)\":[ -~]{0,40}\\}?".prop_map(String::into_bytes);
    let ticket = value
        .clone()
        .prop_map(|handle| TicketStatementQuery { statement_handle: handle.into() }.as_any().encode_to_vec());
    prop_oneof![value, command, json, ticket]
}

#[test]
fn nothing_that_a_client_sends_panics() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let service = runtime.block_on(service(&["nyc"]));
    let names = ["CreatePreparedStatement", "ClosePreparedStatement", "SetSessionOptions", "GetSessionOptions"];
    let config = ProptestConfig::with_cases(192);
    proptest!(config, |(bytes in garbage(), name in prop::sample::select(names.to_vec()))| {
        runtime.block_on(async {
            let mut client = service.client.clone();
            let descriptor = FlightDescriptor::new_cmd(bytes.clone());
            // A panic would end this test, as the service runs on this task. What it answers is its own business.
            let _ = client.get_flight_info(descriptor.clone()).await;
            let _ = client.get_schema(descriptor.clone()).await;
            let _ = service.get(bytes.clone(), &[]).await;
            let _ = service.act(name, bytes.clone()).await;
            let mut first = FlightData::new().with_data_header(bytes.clone());
            first.flight_descriptor = Some(descriptor);
            let _ = client.do_put(stream::iter([first])).await;
        });
    });
}
