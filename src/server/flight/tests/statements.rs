//! Statements: described, fetched, refused; and in which database.

use super::*;

#[tokio::test]
async fn a_query_answers_with_exactly_the_announced_columns() {
    let service = service(&["nyc"]).await;
    for (text, rows) in [
        ("SELECT 1 AS one, 'x' AS two", 1),
        ("SELECT * FROM weather", 0),
        ("SELECT region, count(*), avg(temperature) FROM weather GROUP BY region", 0),
        ("SELECT * FROM (VALUES (1, 'a'), (2, NULL)) v(n, t) ORDER BY n", 2),
        ("SELECT column_name FROM information_schema.columns WHERE table_name = 'a_b'", 2),
    ] {
        assert_eq!(service.rows(&query(text), &[]).await.unwrap().num_rows(), rows, "{text}");
    }
}

#[tokio::test]
async fn order_is_announced_where_the_text_asks_for_it() {
    let service = service(&["nyc"]).await;
    assert!(service.info(&query("SELECT * FROM weather ORDER BY time"), &[]).await.unwrap().ordered);
    assert!(!service.info(&query("SELECT * FROM weather"), &[]).await.unwrap().ordered);
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_said_when_it_is_described() {
    let service = service(&["nyc"]).await;
    for (text, code) in [
        ("SELEC 1", Code::InvalidArgument),
        ("SELECT nope FROM weather", Code::InvalidArgument),
        ("SELECT $1, $2", Code::InvalidArgument),
        ("ALTER TABLE weather RENAME TO climate", Code::InvalidArgument),
    ] {
        assert_eq!(service.info(&query(text), &[]).await.unwrap_err().code(), code, "{text}");
    }
    let parameters = service.info(&query("SELECT $1, $2"), &[]).await.unwrap_err();
    assert!(parameters.message().contains("$1, $2"), "{parameters}");
    let transaction = CommandStatementQuery { transaction_id: Some(Bytes::from_static(b"t")), ..query("SELECT 1") };
    assert_eq!(service.info(&transaction, &[]).await.unwrap_err().code(), Code::Unimplemented);
    let influxql = service.info(&query("SHOW SHARDS"), &[("x-influxdata-query-language", "influxql")]).await;
    assert_eq!(influxql.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn what_changes_something_runs_once_and_says_how_many_rows() {
    let service = service(&["nyc"]).await;
    let count = async |text: &str| texts(&service.rows(&query(text), &[]).await.unwrap(), "count");
    let values = "INSERT INTO a_b (time, value) VALUES (1::TIMESTAMP, 1), (2::TIMESTAMP, 2)";
    let schema = service.client.clone().get_schema(descriptor(&query(values))).await;
    assert!(schema.is_ok());
    assert_eq!(count("SELECT count(*) AS count FROM a_b").await, ["0"], "described, it is not done");
    let info = service.info(&query("INSERT INTO a_b (value) VALUES (1), (2), (3)"), &[]).await.unwrap();
    for _ in 0..2 {
        let (_, answer) = service.get(info.endpoint[0].ticket.clone().unwrap().ticket, &[]).await.unwrap();
        assert_eq!(texts(&answer[0], "count"), ["3"]);
    }
    assert_eq!(count("SELECT count(*) AS count FROM a_b").await, ["3"]);
    assert_eq!(count("SELECT count(*) AS count FROM a_b WHERE time > now() + INTERVAL '1 day'").await, ["0"]);

    service.info(&query("CREATE TABLE made (host TAG, v DOUBLE)"), &[]).await.unwrap();
    let again = service.info(&query("CREATE TABLE made (v DOUBLE)"), &[]).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::AlreadyExists, "table 'made' already exists"));
    service.info(&query("DROP TABLE made"), &[]).await.unwrap();
    let gone = service.info(&query("DROP TABLE made"), &[]).await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::NotFound, "table not found: made"));
}

#[tokio::test]
async fn a_poll_is_complete_at_once() {
    let service = service(&["nyc"]).await;
    let poll = service.client.clone().poll_flight_info(descriptor(&query("SELECT 1"))).await.unwrap().into_inner();
    assert!(poll.info.is_some() && poll.flight_descriptor.is_none());
    assert_eq!(poll.progress, Some(1.0));
}

#[tokio::test]
async fn clients_of_influxdb_query_with_a_json_ticket() {
    let service = service(&["nyc", "boston"]).await;
    for ticket in [
        r#"{"database":"nyc","sql_query":"SELECT $a + 1 AS x","query_type":"sql","params":{"a":1}}"#,
        r#"{"namespace_name":"nyc","sql_query":"SELECT 2 AS x"}"#,
        r#" {"bucket":"nyc","sql_query":"SELECT 2 AS x","is_debug":false,"params":null}"#,
        r#"{"bucket-name":"nyc","sql_query":"SELECT 2 AS x"}"#,
    ] {
        let (_, batches) = service.get(ticket.as_bytes().to_vec(), &[]).await.unwrap();
        assert_eq!(texts(&batches[0], "x"), ["2"], "{ticket}");
    }
    for (ticket, code) in [
        (r#"{"database":"nyc"}"#, Code::InvalidArgument),
        (r#"{"sql_query":"SELECT 1"}"#, Code::InvalidArgument),
        (r#"{"database":"../x","sql_query":"SELECT 1"}"#, Code::InvalidArgument),
        (r#"{"database":"nyc","sql_query":"SELECT $a","params":{"a":[1]}}"#, Code::InvalidArgument),
        (r#"{"database":"nyc","sql_query":"SELECT $a","params":{}}"#, Code::InvalidArgument),
        (r#"{"database":"paris","sql_query":"SELECT 1"}"#, Code::NotFound),
        (r#"{"database":"nyc","sql_query":"SELECT 1","query_type":"influxql"}"#, Code::InvalidArgument),
        (r#"{"database":"nyc","sql_query":"SELECT 1","query_type":"flux"}"#, Code::InvalidArgument),
    ] {
        assert_eq!(service.get(ticket.as_bytes().to_vec(), &[]).await.unwrap_err().code(), code, "{ticket}");
    }
}

#[tokio::test]
async fn influxql_is_asked_for_by_header_or_ticket() {
    let service = service(&["nyc"]).await;
    let headers = [("database", "nyc"), ("x-influxdata-query-language", "influxql")];
    let rows = service.rows(&query("SHOW DATABASES"), &headers).await.unwrap();
    assert_eq!(texts(&rows, "iox::database"), ["nyc"]);
    let ticket = r#"{"database":"nyc","sql_query":"SHOW MEASUREMENTS","query_type":"influxql"}"#;
    let (schema, batches) = service.get(ticket.as_bytes().to_vec(), &[]).await.unwrap();
    assert_eq!(
        schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["iox::measurement", "name"]
    );
    assert!(texts(&batches[0], "iox::measurement").iter().all(|name| name == "measurements"), "{batches:?}");
}

#[tokio::test]
async fn a_lone_database_needs_no_header() {
    let lone = service(&["nyc"]).await;
    assert!(lone.info(&query("SELECT * FROM weather"), &[]).await.is_ok());

    let several = service(&["nyc", "boston"]).await;
    let refused = several.info(&query("SELECT * FROM weather"), &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("no 'database' header in request"), "{refused}");
    assert!(refused.message().contains("adbc.flight.sql.rpc.call_header.database"), "{refused}");
    for header in ["database", "bucket", "bucket-name", "iox-namespace-name"] {
        assert!(several.rows(&query("SELECT * FROM weather"), &[(header, "nyc")]).await.is_ok(), "{header}");
    }
    let unknown = several.info(&query("SELECT 1"), &[("database", "paris")]).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "database not found: paris"));
}

#[tokio::test]
async fn headers_that_contradict_each_other_are_refused() {
    let service = service(&["nyc", "boston"]).await;
    let agreed = [("database", "nyc"), ("bucket", "nyc")];
    assert!(service.info(&query("SELECT 1"), &agreed).await.is_ok());
    for headers in [
        [("database", "nyc"), ("bucket", "boston")].as_slice(),
        &[("database", "nyc"), ("database", "boston")],
        &[("database", "")],
        &[("database", "../etc")],
        &[("database", "nyc"), ("x-influxdata-query-language", "flux")],
        &[("database", "nyc"), ("x-influxdata-base-table-type", "SOFA")],
    ] {
        assert_eq!(
            service.info(&query("SELECT 1"), headers).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{headers:?}"
        );
    }
}
