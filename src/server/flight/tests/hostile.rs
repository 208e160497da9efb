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

/// Every command that there is, undecodable, as a descriptor and as a ticket.
#[tokio::test]
async fn what_is_unknown_undecodable_or_out_of_place_is_answered_with_a_status() {
    let service = service(&["nyc"]).await;
    let any = |name: &str, value: &'static [u8]| {
        let type_url = format!("type.googleapis.com/arrow.flight.protocol.sql.{name}");
        Any { type_url, value: Bytes::from_static(value) }.encode_to_vec()
    };
    let truncated = b"\x0a\xff\xff\xff\xff\x0f"; // a field of 4 GiB, of which nothing follows
    let forged = CommandPreparedStatementQuery { prepared_statement_handle: vec![0; 100].into() };
    for (bytes, expected) in [
        (any("CommandOfTomorrow", b""), Code::Unimplemented),
        (any("CommandStatementQuery", truncated), Code::InvalidArgument),
        (any("CommandGetTables", truncated), Code::InvalidArgument),
        (any("CommandPreparedStatementQuery", b""), Code::InvalidArgument),
        (any("CommandStatementSubstraitPlan", b""), Code::InvalidArgument),
        (any("CommandStatementSubstraitPlan", truncated), Code::InvalidArgument),
        (any("TicketStatementQuery", b""), Code::InvalidArgument),
        (any("ActionClosePreparedStatementRequest", b""), Code::InvalidArgument),
        (any("CommandStatementUpdate", b""), Code::InvalidArgument),
        (any("CommandStatementIngest", b""), Code::InvalidArgument),
        (forged.as_any().encode_to_vec(), Code::InvalidArgument),
        (b"SELECT 1".to_vec(), Code::InvalidArgument),
        (Vec::new(), Code::InvalidArgument),
    ] {
        let descriptor = FlightDescriptor::new_cmd(bytes.clone());
        let mut client = service.client.clone();
        let info = client.get_flight_info(descriptor.clone()).await.unwrap_err();
        let schema = client.get_schema(descriptor.clone()).await.unwrap_err();
        let poll = client.poll_flight_info(descriptor.clone()).await.unwrap_err();
        assert_eq!([info.code(), schema.code(), poll.code()], [expected; 3], "{bytes:?}: {info}");
        let put =
            client.do_put(stream::iter([FlightData { flight_descriptor: Some(descriptor), ..FlightData::new() }]));
        assert!(put.await.is_err(), "{bytes:?}");
    }
    for name in
        ["", "DropEverything", "createpreparedstatement", "BeginTransaction", "EndTransaction", "BeginSavepoint"]
    {
        assert_eq!(service.act(name, Vec::new()).await.unwrap_err().code(), Code::Unimplemented, "{name}");
    }
    for name in [
        "CreatePreparedStatement",
        "CreatePreparedSubstraitPlan",
        "CancelFlightInfo",
        "CancelQuery",
        "RenewFlightEndpoint",
        "SetSessionOptions",
    ] {
        assert_eq!(service.act(name, truncated.to_vec()).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
    let exchange = service.client.clone().do_exchange(stream::iter([FlightData::new()])).await;
    assert_eq!(exchange.err().map(|status| status.code()), Some(Code::Unimplemented));
}

#[tokio::test]
async fn a_put_that_ends_too_soon_is_answered_with_a_status() {
    let service = service(&["nyc"]).await;
    let path = FlightDescriptor::new_path(vec!["t".to_owned()]);
    let unknown = FlightDescriptor { r#type: 77, ..path.clone() };
    for (messages, code) in [
        (vec![], Code::InvalidArgument),
        (vec![FlightData::new()], Code::InvalidArgument),
        (vec![FlightData { flight_descriptor: Some(unknown), ..FlightData::new() }], Code::InvalidArgument),
        (
            vec![FlightData {
                flight_descriptor: Some(path.clone()),
                data_header: Bytes::from_static(b"junk"),
                ..FlightData::new()
            }],
            Code::InvalidArgument,
        ),
    ] {
        let answered = async {
            let answers = service.client.clone().do_put(stream::iter(messages)).await?.into_inner();
            answers.try_collect::<Vec<_>>().await
        };
        assert_eq!(answered.await.unwrap_err().code(), code);
    }
    // Nothing but a path: nothing to store, and nothing wrong.
    let only = FlightData { flight_descriptor: Some(path), ..FlightData::new() };
    let answers = service.client.clone().do_put(stream::iter([only])).await.unwrap().into_inner();
    assert!(answers.try_collect::<Vec<_>>().await.unwrap().is_empty());
    assert!(service.engine.table_schema(&DatabaseName::new("nyc").unwrap(), "t").is_none());
}

#[test]
fn nothing_that_a_client_sends_panics() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let service = runtime.block_on(service(&["nyc"]));
    let names = ACTIONS.map(|(name, _)| name);
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
