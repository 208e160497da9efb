//! What can be done with a ticket besides fetching it, and tables as flights.

use arrow::ipc::{CompressionType, root_as_message};
use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, FlightEndpoint, RenewFlightEndpointRequest,
};

use super::*;

const LONG: &str =
    "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 100000) b";

async fn cancel(service: &Service, info: &FlightInfo) -> Result<i32, Status> {
    let request = CancelFlightInfoRequest { info: Some(info.clone()) };
    let results = service.act("CancelFlightInfo", request.encode_to_vec()).await?;
    Ok(CancelFlightInfoResult::decode(results[0].clone()).unwrap().status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_being_sent_can_be_cancelled_by_its_description() {
    let service = service(&["nyc"]).await;
    let info = service.info(&query(LONG), &[]).await.unwrap();
    assert_eq!(cancel(&service, &info).await.unwrap(), CancelStatus::NotCancellable as i32, "nothing runs yet");
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let (mut one, mut other) = (
        service.client.clone().do_get(Request::new(ticket.clone())).await.unwrap().into_inner(),
        service.client.clone().do_get(Request::new(ticket.clone())).await.unwrap().into_inner(),
    );
    for stream in [&mut one, &mut other] {
        for _ in 0..2 {
            assert!(stream.message().await.unwrap().is_some(), "the schema, then rows");
        }
    }
    assert_eq!(cancel(&service, &info).await.unwrap(), CancelStatus::Cancelled as i32);
    for stream in [&mut one, &mut other] {
        let end = async {
            while stream.message().await?.is_some() {}
            Ok::<(), Status>(())
        };
        assert_eq!(end.await.unwrap_err().code(), Code::Cancelled);
    }
    assert_eq!(cancel(&service, &info).await.unwrap(), CancelStatus::NotCancellable as i32);

    // The older action says the same; who drops a stream has nothing left to cancel.
    let mut stream = service.client.clone().do_get(Request::new(ticket)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
    let results = service.act("CancelQuery", request.as_any().encode_to_vec()).await.unwrap();
    let result: ActionCancelQueryResult = Any::decode(results[0].clone()).unwrap().unpack().unwrap().unwrap();
    assert_eq!(result.result, CancelStatus::Cancelled as i32);
    drop(stream);
    assert_eq!(cancel(&service, &info).await.unwrap(), CancelStatus::NotCancellable as i32);
}

#[tokio::test]
async fn what_no_server_of_ours_described_is_neither_cancelled_nor_renewed() {
    let service = service(&["nyc"]).await;
    let forged = FlightEndpoint::new().with_ticket(Ticket::new(query("SELECT 1").as_any().encode_to_vec()));
    for info in [FlightInfo::new(), FlightInfo::new().with_endpoint(forged.clone())] {
        assert_eq!(cancel(&service, &info).await.unwrap_err().code(), Code::InvalidArgument);
    }
    for endpoint in [None, Some(FlightEndpoint::new()), Some(forged)] {
        let request = RenewFlightEndpointRequest { endpoint };
        let refused = service.act("RenewFlightEndpoint", request.encode_to_vec()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_renewed_endpoint_is_good_for_longer() {
    let service = service(&["nyc"]).await;
    let endpoint = service.info(&query("SELECT 7 AS x"), &[]).await.unwrap().endpoint.remove(0);
    service.clock.advance(TICKET_LIFETIME / 2);
    let request = RenewFlightEndpointRequest { endpoint: Some(endpoint.clone()) };
    let results = service.act("RenewFlightEndpoint", request.encode_to_vec()).await.unwrap();
    let renewed = FlightEndpoint::decode(results[0].clone()).unwrap();
    assert!(renewed.expiration_time.unwrap().seconds > endpoint.expiration_time.unwrap().seconds);
    service.clock.advance(TICKET_LIFETIME / 2 + Duration::from_secs(1));
    assert_eq!(service.get(endpoint.ticket.clone().unwrap().ticket, &[]).await.unwrap_err().code(), Code::NotFound);
    let (_, rows) = service.get(renewed.ticket.unwrap().ticket, &[]).await.unwrap();
    assert_eq!(texts(&rows[0], "x"), ["7"]);
    let late = service.act("RenewFlightEndpoint", request.encode_to_vec()).await.unwrap_err();
    assert_eq!(late.code(), Code::NotFound);
}

#[tokio::test]
async fn tables_are_flights() {
    let service = service(&["nyc", "boston"]).await;
    let list = async |expression: &'static [u8], headers: &[(&'static str, &str)]| -> Result<Vec<FlightInfo>, Status> {
        let criteria = Criteria { expression: Bytes::from_static(expression) };
        service.client.clone().list_flights(with_headers(criteria, headers)).await?.into_inner().try_collect().await
    };
    let nyc = [("database", "nyc")];
    let flights = list(b"", &nyc).await.unwrap();
    let paths: Vec<Vec<String>> = flights.iter().map(|flight| flight.flight_descriptor.clone().unwrap().path).collect();
    assert_eq!(paths, [["nyc", "a_b"], ["nyc", "weather"]]);
    assert_eq!(list(b"wea%", &nyc).await.unwrap().len(), 1);
    assert_eq!(list(b"\xff", &nyc).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(list(b"", &[("database", "paris")]).await.unwrap_err().code(), Code::NotFound);

    for flight in flights {
        let announced = flight.clone().try_decode_schema().unwrap();
        let descriptor = flight.flight_descriptor.unwrap();
        let (schema, _) = service.get(flight.endpoint[0].ticket.clone().unwrap().ticket, &[]).await.unwrap();
        let got = service.client.clone().get_schema(Request::new(descriptor.clone())).await.unwrap().into_inner();
        let described = service.client.clone().get_flight_info(Request::new(descriptor)).await.unwrap().into_inner();
        assert_eq!(*schema, announced);
        assert_eq!(Schema::try_from(&got).unwrap(), announced);
        assert_eq!(described.try_decode_schema().unwrap(), announced);
    }
    for (path, code) in [
        (vec!["nyc", "nothing"], Code::NotFound),
        (vec!["paris", "weather"], Code::NotFound),
        (vec![], Code::InvalidArgument),
        (vec!["a", "b", "c"], Code::InvalidArgument),
        (vec!["weather"], Code::InvalidArgument),
        (vec!["nyc", "weather\" WHERE false --"], Code::NotFound),
    ] {
        let descriptor = FlightDescriptor::new_path(path.iter().map(|part| (*part).to_owned()).collect());
        let refused = service.client.clone().get_flight_info(Request::new(descriptor)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{path:?}: {refused}");
    }
}

#[tokio::test]
async fn buffers_are_compressed_only_for_who_asks() {
    let service = service(&["nyc"]).await;
    let text = "SELECT value, 'the same text again' AS t FROM generate_series(1, 1000)";
    let ticket = service.info(&query(text), &[]).await.unwrap().endpoint[0].ticket.clone().unwrap();
    for (asked, expected) in [
        (None, None),
        (Some("none"), None),
        (Some("zstd"), Some(CompressionType::ZSTD)),
        (Some("LZ4"), Some(CompressionType::LZ4_FRAME)),
    ] {
        let headers: Vec<(&str, &str)> = asked.iter().map(|asked| ("x-flightline-ipc-compression", *asked)).collect();
        let (_, rows) = service.get(ticket.ticket.clone(), &headers).await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
        let stream = service.client.clone().do_get(with_headers(ticket.clone(), &headers)).await.unwrap().into_inner();
        let messages: Vec<FlightData> = stream.try_collect().await.unwrap();
        let batch = root_as_message(&messages[1].data_header).unwrap();
        let compression = batch.header_as_record_batch().unwrap().compression().map(|compression| compression.codec());
        assert_eq!(compression, expected, "{asked:?}");
    }
    let refused = service.get(ticket.ticket, &[("x-flightline-ipc-compression", "snappy")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
