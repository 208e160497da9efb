//! Flight SQL and the InfluxDB JSON ticket, as clients send them; what each client library makes of it is in `clients/`.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use arrow_flight::{FlightInfo, IpcMessage, Ticket};
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::database::text_rows;
use crate::harness::server::TestServer;

/// How long a server waits for open requests; longer than any test of it takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

async fn channel(server: &TestServer) -> Channel {
    Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap()
}

pub(crate) async fn client(server: &TestServer, database: &str) -> FlightSqlServiceClient<Channel> {
    let mut client = FlightSqlServiceClient::new(channel(server).await);
    client.set_header("database", database);
    client
}

/// The announced schema, the streamed schema and the batches.
async fn fetch(
    client: &mut FlightSqlServiceClient<Channel>,
    info: FlightInfo,
) -> (Schema, SchemaRef, Vec<RecordBatch>) {
    let announced = Schema::try_from(IpcMessage(info.schema.clone())).unwrap();
    assert_eq!(info.endpoint.len(), 1, "Grafana takes exactly one endpoint");
    let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        batches.push(batch);
    }
    (announced, std::sync::Arc::clone(stream.schema().unwrap()), batches)
}

pub(crate) async fn rows(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Vec<Vec<Option<String>>> {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let (announced, streamed, batches) = fetch(client, info).await;
    assert_eq!(announced, *streamed, "{sql}");
    batches.iter().flat_map(text_rows).collect()
}

fn text(cells: &[&str]) -> Vec<Option<String>> {
    cells.iter().map(|cell| (!cell.is_empty()).then(|| (*cell).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_announced_schema_is_the_streamed_one() {
    let server = TestServer::start().await;
    server
        .write("db", "cpu,host=a,region=eu usage=1.5,count=2i,big=3u,ok=true,note=\"x\" 1\ncpu,host=b usage=2.5 2")
        .await;
    let mut client = client(&server, "db").await;
    let queries = [
        "SELECT 1",
        "SELECT * FROM cpu",
        "SELECT * FROM cpu WHERE false",
        "SELECT host, count(*), avg(usage), max(note), min(time) FROM cpu GROUP BY host",
        "SELECT host FROM cpu UNION SELECT region FROM cpu",
        "WITH a AS (SELECT host AS h FROM cpu) SELECT a.h, b.usage FROM a LEFT JOIN cpu AS b ON a.h = b.host AND b.usage > 2",
        "SELECT date_bin(INTERVAL '1 hour', time) AS hour, first_value(usage ORDER BY time) FROM cpu GROUP BY 1",
        "SELECT array_agg(host), CASE WHEN usage > 2 THEN host END FROM cpu GROUP BY usage, host",
        "EXPLAIN SELECT * FROM cpu",
        "SHOW TABLES",
        "SELECT * FROM information_schema.columns",
        "SELECT NULL",
        "SELECT row_number() OVER (ORDER BY time), lag(usage) OVER (ORDER BY time) FROM cpu",
    ];
    for persisted in [false, true] {
        if persisted {
            server.server().services().engine.persist_all().await.unwrap();
        }
        for query in queries {
            rows(&mut client, query).await;
        }
    }
    let found = rows(&mut client, "SELECT host, region, usage FROM cpu ORDER BY host").await;
    assert_eq!(found, [text(&["a", "eu", "1.5"]), text(&["b", "", "2.5"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_runs_as_often_as_wanted() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1.5 1").await;
    let mut client = client(&server, "db").await;
    let mut statement = client.prepare("SELECT host, usage FROM cpu".to_owned(), None).await.unwrap();
    let announced = statement.dataset_schema().unwrap().clone();
    assert_eq!(statement.parameter_schema().unwrap().fields().len(), 0);
    for _ in 0..2 {
        let info = statement.execute().await.unwrap();
        let (planned, streamed, batches) = fetch(&mut client, info).await;
        assert_eq!((&announced, &announced), (&planned, streamed.as_ref()));
        assert_eq!(batches.iter().flat_map(text_rows).collect::<Vec<_>>(), [text(&["a", "1.5"])]);
    }
    statement.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_finds_catalogs_schemas_tables_and_columns() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1.5 1\nmem free=1 1").await;
    let mut client = client(&server, "db").await;

    let info = client.get_catalogs().await.unwrap();
    let (_, _, batches) = fetch(&mut client, info).await;
    assert_eq!(batches.iter().flat_map(text_rows).collect::<Vec<_>>(), [text(&["public"])]);

    let all = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: None };
    let info = client.get_db_schemas(all).await.unwrap();
    let (_, _, batches) = fetch(&mut client, info).await;
    let schemas: Vec<_> = batches.iter().flat_map(text_rows).collect();
    assert!(schemas.contains(&text(&["public", "iox"])), "{schemas:?}");

    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("iox".to_owned()),
        table_name_filter_pattern: None,
        table_types: vec!["BASE TABLE".to_owned(), "table".to_owned()],
        include_schema: true,
    };
    let info = client.get_tables(tables).await.unwrap();
    let (announced, streamed, batches) = fetch(&mut client, info).await;
    assert_eq!(announced, *streamed);
    let names: Vec<_> = batches.iter().flat_map(text_rows).map(|row| row[2].clone().unwrap()).collect();
    assert_eq!(names, ["cpu", "mem"]);
    let schema_bytes = batches[0].column(4).as_binary::<i32>().value(0).to_vec();
    let listed = Schema::try_from(IpcMessage(schema_bytes.into())).unwrap();
    let info = client.execute("SELECT * FROM cpu LIMIT 0".to_owned(), None).await.unwrap();
    let (selected, _, _) = fetch(&mut client, info).await;
    let shape = |schema: &Schema| -> Vec<_> {
        schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), field.data_type().clone(), field.is_nullable()))
            .collect()
    };
    assert_eq!(shape(&listed), shape(&selected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_influxdb_ticket_is_answered() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1.5 1").await;
    let mut client = FlightServiceClient::new(channel(&server).await);
    for ticket in [
        r#"{"database":"db","sql_query":"SELECT host, usage FROM cpu","query_type":"sql"}"#,
        r#"{"bucket":"db","sql_query":"SELECT host, usage FROM cpu WHERE host = $h","query_type":"sql","params":{"h":"a"}}"#,
    ] {
        let stream = client.do_get(Ticket::new(ticket)).await.unwrap().into_inner();
        let stream = FlightRecordBatchStream::new_from_flight_data(stream.map_err(Into::into));
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        assert_eq!(batches.iter().flat_map(text_rows).collect::<Vec<_>>(), [text(&["a", "1.5"])], "{ticket}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_have_the_code_that_clients_look_at() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1.5 1").await;
    let mut client = FlightServiceClient::new(channel(&server).await);
    let cases = [
        (r#"{"database":"none","sql_query":"SELECT 1"}"#, Code::NotFound),
        (r#"{"database":"db","sql_query":"SELECT nothing FROM cpu"}"#, Code::InvalidArgument),
        (r#"{"database":"db","sql_query":"SELEC 1"}"#, Code::InvalidArgument),
        (r#"{"database":"db","sql_query":"DROP TABLE cpu"}"#, Code::InvalidArgument),
        (r#"{"database":"db","sql_query":"SELECT 1","query_type":"influxql"}"#, Code::InvalidArgument),
        (r#"{"database":"db","sql_query":"SHOW SHARDS","query_type":"influxql"}"#, Code::Unimplemented),
        ("{}", Code::InvalidArgument),
        ("nonsense", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ];
    for (ticket, code) in cases {
        let status = client.do_get(Request::new(Ticket::new(ticket))).await.unwrap_err();
        assert_eq!(status.code(), code, "{ticket}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_too_large_for_a_client_with_the_usual_limit() {
    let server = TestServer::start().await;
    for part in 0..10 {
        let note = "x".repeat(100_000);
        let lines: String =
            (0..20).map(|n| format!("log,n=n{part} note=\"{note}\",v={n}i {}\n", part * 100 + n)).collect();
        server.write("db", lines).await;
    }
    // tonic's own limit of 4 MiB applies here, as grpc-go's does in Grafana.
    let mut client = client(&server, "db").await;
    assert_eq!(rows(&mut client, "SELECT * FROM log").await.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tables_are_listed_in_messages_of_bounded_size() {
    let server = TestServer::start().await;
    for thousand in 0..10 {
        let lines: String =
            (0..1000).map(|table| format!("t{:05},host=a usage=1,count=2i 1\n", thousand * 1000 + table)).collect();
        server.write("db", lines).await;
    }
    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("iox".to_owned()),
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        include_schema: true,
    };
    let mut client = client(&server, "db").await;
    let info = client.get_tables(tables).await.unwrap();
    let mut messages = client.inner_mut().do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        sizes.push(message.data_header.len() + message.data_body.len());
    }
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size < 7 << 19), "{sizes:?}");
    let info =
        client.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await.unwrap();
    let (_, _, batches) = fetch(&mut client, info).await;
    let names: Vec<_> = batches
        .iter()
        .flat_map(text_rows)
        .filter(|row| row[1].as_deref() == Some("iox"))
        .map(|row| row[2].clone().unwrap())
        .collect();
    assert_eq!(names.len(), 10_000);
    assert!(names.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_256_connections_gets_the_answers_to_its_own_prepared_queries() {
    let server = TestServer::start_with(|settings| settings.connections.count_max = 300).await;
    let lines: String = (0..256).map(|host| format!("cpu,host=h{host} v={host}i {host}\n")).collect();
    server.write("db", lines).await;
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(256));
    let mut asking = tokio::task::JoinSet::new();
    for host in 0..256_i64 {
        let mut client = client(&server, "db").await;
        let ready = std::sync::Arc::clone(&ready);
        asking.spawn(async move {
            ready.wait().await; // all of them at once
            let mut statement =
                client.prepare("SELECT host, v + $2 AS v FROM cpu WHERE host = $1".to_owned(), None).await.unwrap();
            for round in 0..2 {
                let values = RecordBatch::try_from_iter([
                    ("$1", std::sync::Arc::new(StringArray::from(vec![format!("h{host}")])) as ArrayRef),
                    ("$2", std::sync::Arc::new(Int64Array::from(vec![round * 1000]))),
                ]);
                statement.set_parameters(values.unwrap()).unwrap();
                let info = statement.execute().await.unwrap();
                let (_, _, batches) = fetch(&mut client, info).await;
                let expected = text(&[&format!("h{host}"), &(host + round * 1000).to_string()]);
                assert_eq!(batches.iter().flat_map(text_rows).collect::<Vec<_>>(), [expected]);
            }
            statement.close().await.unwrap();
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_says_that_it_serves_until_it_is_told_to_stop() {
    let server = TestServer::start_with(|settings| settings.shutdown_timeout = PATIENCE).await;
    let mut health = HealthClient::new(channel(&server).await);
    let about = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "arrow.flight.protocol.FlightService"] {
        let answer = health.check(about(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health.check(about("weather")).await.unwrap_err().code(), Code::NotFound);
    let mut unknown = health.watch(about("weather")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    let mut watched = health.watch(about("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let begun = tokio::time::Instant::now();
    let told = async {
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(watched.message().await.unwrap().is_none() && unknown.message().await.unwrap().is_none());
    };
    tokio::join!(server.stop(), told);
    assert!(begun.elapsed() < PATIENCE, "who only watches keeps no server from stopping");
}
