//! `DELETE FROM …` on every way in: it deletes once, and only where something may be deleted.

use arrow::array::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::{Channel, Endpoint};

use crate::harness::database::text_rows;
use crate::harness::process::PROGRAM;
use crate::harness::server::TestServer;

const LINES: &str = "cpu,host=a v=1 1\ncpu,host=b v=2 2\ncpu,host=a v=3 3";

async fn flight(server: &TestServer) -> FlightSqlServiceClient<Channel> {
    let channel = Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_header("database", "db");
    client
}

async fn left(server: &TestServer) -> String {
    let (status, text) = server.query("db", "SELECT v FROM cpu ORDER BY v", "csv").await;
    assert_eq!(status, 200, "{text}");
    text.lines().skip(1).collect::<Vec<_>>().join(" ")
}

async fn fetch(client: &mut FlightSqlServiceClient<Channel>, info: &FlightInfo) -> Vec<Vec<Option<String>>> {
    let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    batches.iter().flat_map(text_rows).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_sent_as_a_query_runs_once_however_often_its_answer_is_fetched() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let mut client = flight(&server).await;

    // Described, but not executed.
    let command = CommandStatementQuery { query: "DELETE FROM cpu".to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let channel = Endpoint::from_shared(server.url("")).unwrap().connect().await.unwrap();
    let schema = FlightServiceClient::new(channel).get_schema(descriptor).await.unwrap().into_inner();
    assert_eq!(arrow::datatypes::Schema::try_from(&schema).unwrap().field(0).name(), "count");
    assert_eq!(left(&server).await, "1.0 2.0 3.0");

    let info = client.execute("DELETE FROM cpu WHERE host = 'a'".to_owned(), None).await.unwrap();
    assert_eq!(left(&server).await, "2.0", "it is done, even if nobody fetches the answer");
    server.write("db", "cpu,host=a v=9 9").await;
    for _ in 0..3 {
        assert_eq!(fetch(&mut client, &info).await, [[None]]);
    }
    assert_eq!(left(&server).await, "2.0 9.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_sent_as_an_update_says_that_nobody_counted() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let mut client = flight(&server).await;
    assert_eq!(client.execute_update("DELETE FROM cpu WHERE v_ IS NULL".to_owned(), None).await.ok(), None);
    assert_eq!(client.execute_update("DELETE FROM cpu WHERE host = 'b'".to_owned(), None).await.unwrap(), -1);
    assert_eq!(left(&server).await, "1.0 3.0");
    let error = client.execute_update("SELECT 1".to_owned(), None).await.unwrap_err();
    assert!(error.to_string().contains("send it as a query"), "{error}");

    let mut prepared = client.prepare("DELETE FROM cpu WHERE host = 'a'".to_owned(), None).await.unwrap();
    assert!(prepared.dataset_schema().unwrap().fields().is_empty(), "older JDBC drivers take columns for a query");
    assert_eq!(left(&server).await, "1.0 3.0", "preparing deletes nothing");
    assert_eq!(prepared.execute_update().await.unwrap(), -1);
    assert_eq!(left(&server).await, "");

    // Each execution is one, also through the way of queries, which is Python's.
    server.write("db", LINES).await;
    let info = prepared.execute().await.unwrap();
    assert_eq!(left(&server).await, "2.0");
    server.write("db", "cpu,host=a v=9 9").await;
    assert_eq!(fetch(&mut client, &info).await, [[None]]);
    assert_eq!(left(&server).await, "2.0 9.0");
    prepared.execute_update().await.unwrap();
    assert_eq!(left(&server).await, "2.0");
    prepared.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_repeated_deletes_nothing() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let response = server.http.get(server.url("/api/v3/query_sql?db=db&q=DELETE%20FROM%20cpu")).send().await.unwrap();
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    assert_eq!(status, 400);
    assert!(text.contains("queries are read-only: DELETE FROM is not allowed"), "{text}");

    let mut client = flight(&server).await;
    let json = r#"{"database":"db","sql_query":"DELETE FROM cpu","query_type":"sql"}"#;
    assert!(client.do_get(Ticket::new(json)).await.is_err());
    let mut prepared = client.prepare("DELETE FROM cpu".to_owned(), None).await.unwrap();
    let info = prepared.execute().await; // deletes
    assert_eq!((info.is_ok(), left(&server).await.as_str()), (true, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_and_http_delete() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let query = |text: &'static str| {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(["query", "-d", "db", "--host", &server.url(""), "--format", "csv", text]);
        command
    };
    let done = query("DELETE FROM cpu WHERE host = 'b'").output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "count\n\"\"\n");
    assert_eq!(left(&server).await, "1.0 3.0");
    let refused = query("DELETE FROM cpu WHERE v > 1").output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("it can't select by the field 'v'"), "{message}");

    let body = serde_json::json!({ "db": "db", "q": "DELETE FROM cpu WHERE host = $host", "params": { "host": "a" } });
    let response = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "[{}]"));
    assert_eq!(left(&server).await, "");
}
