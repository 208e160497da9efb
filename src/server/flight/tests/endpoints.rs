//! Answers in several endpoints: parts of one result, whatever happens meanwhile.

use std::collections::BTreeSet;

use arrow::array::{DictionaryArray, TimestampNanosecondArray};
use arrow_flight::sql::{TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use arrow_flight::{FlightEndpoint, RenewFlightEndpointRequest};

use super::super::parts::HELD_FOR;
use super::super::tickets::Part;
use super::*;

const THREE: [(&str, &str); 1] = [("x-flightline-endpoints", "3")];
const ROWS: i64 = 40_000;

/// Writes rows with these times, in microseconds; of each ten one host.
async fn write(service: &Service, times: impl Iterator<Item = i64> + Clone, value: i64) {
    let options = TableDefinitionOptions {
        if_not_exist: TableNotExistOption::Create.into(),
        if_exists: TableExistsOption::Append.into(),
    };
    let command = CommandStatementIngest {
        table: "cpu".to_owned(),
        table_definition_options: Some(options),
        ..CommandStatementIngest::default()
    };
    let hosts: DictionaryArray<Int32Type> =
        times.clone().map(|time| format!("h{}", time % 10)).collect::<Vec<_>>().iter().map(String::as_str).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("host", Arc::new(hosts)),
        ("v", Arc::new(Int64Array::from_iter_values(times.clone().map(|_| value)))),
        ("time", Arc::new(TimestampNanosecondArray::from_iter_values(times.map(|time| time * 1000)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    put(service, &command, sent(&[batch]).await).await.unwrap();
}

async fn endpoints(service: &Service, text: &str) -> Vec<FlightEndpoint> {
    let info = service.info(&query(text), &THREE).await.unwrap();
    let (announced, ordered) = (info.clone().try_decode_schema().unwrap(), info.ordered);
    assert_eq!(ordered, text.contains("ORDER BY"), "{text}");
    for endpoint in &info.endpoint {
        let (schema, _) = fetch(service, endpoint).await.unwrap();
        assert_eq!(*schema, announced);
    }
    info.endpoint
}

async fn fetch(service: &Service, endpoint: &FlightEndpoint) -> Result<(SchemaRef, Vec<RecordBatch>), Status> {
    service.get(endpoint.ticket.clone().unwrap().ticket, &[]).await
}

/// Every row of an endpoint as text.
async fn lines(service: &Service, endpoint: &FlightEndpoint) -> Vec<String> {
    let (schema, batches) = fetch(service, endpoint).await.unwrap();
    let rows = concat_batches(&schema, &batches).unwrap();
    let columns: Vec<Vec<String>> = schema.fields().iter().map(|field| texts(&rows, field.name())).collect();
    (0..rows.num_rows())
        .map(|row| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(" "))
        .collect()
}

#[tokio::test]
async fn parts_are_the_rows_of_one_instant_in_any_order_and_again() {
    let service = service(&["nyc"]).await;
    write(&service, 0..ROWS, 1).await;
    write(&service, (0..ROWS).step_by(7), 2).await; // later writes of points in all parts
    for persisted in [false, true] {
        if persisted {
            service.engine.persist_all().await.unwrap();
        }
        let text = "SELECT time, host, v FROM cpu WHERE v > 0";
        let whole = service.info(&query(text), &[]).await.unwrap().endpoint;
        assert_eq!(whole.len(), 1, "who doesn't ask gets one");
        let whole: BTreeSet<String> = lines(&service, &whole[0]).await.into_iter().collect();
        assert_eq!(whole.len(), ROWS as usize);
        let parts = endpoints(&service, text).await;
        assert_eq!(parts.len(), 3);
        // What comes now is in none of them.
        write(&service, (0..ROWS + 10_000).step_by(3), if persisted { 4 } else { 3 }).await;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for part in parts.iter().rev() {
            let rows = lines(&service, part).await;
            assert!(rows.len() > 8000, "{}", rows.len());
            first.extend(rows);
        }
        for part in &parts {
            second.extend(lines(&service, part).await);
        }
        assert_eq!(first.len(), whole.len(), "no row twice");
        assert_eq!(first.into_iter().collect::<BTreeSet<_>>(), whole);
        assert_eq!(second.into_iter().collect::<BTreeSet<_>>(), whole);
        service.engine.persist_all().await.unwrap();
        write(&service, 0..ROWS, 1).await; // for the second round
        write(&service, (0..ROWS).step_by(7), 2).await;
        let gone = "DELETE FROM cpu WHERE time >= '1970-01-01T00:00:00.04'";
        service.info(&query(gone), &[]).await.unwrap();
    }
}

#[tokio::test]
async fn in_the_order_of_time_the_parts_follow_each_other() {
    let service = service(&["nyc"]).await;
    write(&service, 0..ROWS, 1).await;
    for (text, descends) in [
        ("SELECT time AS t, v FROM cpu ORDER BY t, host", false),
        ("SELECT * FROM (SELECT time, v + 1 AS w FROM cpu) ORDER BY time DESC", true),
    ] {
        let column = if descends { "time" } else { "t" };
        let mut times = Vec::new();
        for part in endpoints(&service, text).await {
            let (schema, batches) = fetch(&service, &part).await.unwrap();
            times.extend(texts(&concat_batches(&schema, &batches).unwrap(), column));
        }
        let mut sorted = times.clone();
        sorted.sort();
        if descends {
            sorted.reverse();
        }
        assert_eq!((times.len(), times == sorted), (ROWS as usize, true), "{text}");
    }
}

#[tokio::test]
async fn what_needs_all_rows_first_comes_in_one_part() {
    let service = service(&["nyc"]).await;
    write(&service, 0..ROWS, 1).await;
    for text in [
        "SELECT host, count(*) FROM cpu GROUP BY host",
        "SELECT * FROM cpu LIMIT 30000",
        "SELECT * FROM cpu ORDER BY host, time",
        "SELECT v AS time FROM cpu ORDER BY time",
        "SELECT DISTINCT host FROM cpu",
        "SELECT time, random() AS r FROM cpu",
        "SELECT time, row_number() OVER (ORDER BY time) AS n FROM cpu",
        "SELECT time FROM cpu WHERE host IN (SELECT station FROM weather)",
        "SELECT a.time FROM cpu AS a JOIN cpu AS b ON a.time = b.time AND a.host = b.host",
        "SELECT time FROM cpu UNION ALL SELECT time FROM cpu",
        "SELECT * FROM weather",
        "SELECT 1",
        "SHOW TABLES",
    ] {
        assert_eq!(service.info(&query(text), &THREE).await.unwrap().endpoint.len(), 1, "{text}");
    }
    let few = "SELECT * FROM cpu WHERE time < '1970-01-01T00:00:00.000000010'";
    assert!(service.info(&query(few), &THREE).await.is_ok());
    let refused = service.info(&query("SELECT 1"), &[("x-flightline-endpoints", "many")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn parts_are_held_for_a_while_and_longer_if_they_are_renewed() {
    let service = service(&["nyc"]).await;
    write(&service, 0..ROWS, 1).await;
    let text = "SELECT * FROM cpu";
    let part = endpoints(&service, text).await.remove(1);
    let seconds = HELD_FOR.as_secs();
    assert_eq!(part.expiration_time.unwrap().seconds, 1_700_000_000 + i64::try_from(seconds).unwrap());
    service.clock.advance(HELD_FOR - Duration::from_secs(1));
    let request = RenewFlightEndpointRequest { endpoint: Some(part.clone()) };
    let results = service.act("RenewFlightEndpoint", request.encode_to_vec()).await.unwrap();
    let renewed = FlightEndpoint::decode(results[0].clone()).unwrap();
    service.clock.advance(Duration::from_secs(2));
    assert_eq!(fetch(&service, &part).await.unwrap_err().code(), Code::NotFound);
    assert!(fetch(&service, &renewed).await.is_ok());

    // A ticket of another server of the catalog.
    let work = Work::Part(Part { held: service.clock.unique_id(), number: 0 });
    let seal = Seal::new(&service.engine.ticket_key());
    let (sealed, _) = seal.ticket(work, &Principal::everybody(), service.clock.as_ref());
    let ticket = TicketStatementQuery { statement_handle: sealed }.as_any().encode_to_vec();
    let refused = service.get(ticket, &[]).await.unwrap_err();
    assert!(
        refused.code() == Code::NotFound && refused.message().contains("ask for the flight info again"),
        "{refused}"
    );

    // Where no more can be held, the answer is in one part.
    let mut counts = BTreeSet::new();
    for _ in 0..40 {
        counts.insert(service.info(&query(text), &THREE).await.unwrap().endpoint.len());
    }
    assert_eq!(counts, BTreeSet::from([1, 3]));
}
