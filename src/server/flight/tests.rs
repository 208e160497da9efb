//! The service in this process, over an engine in memory, spoken to by a real client.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, Ticket};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use proptest::prelude::*;
use prost::Message;
use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic::{Code, Request, Status};

use super::call::Call;
use super::metadata::matches;
use super::stream::encode;
use super::tickets::{Metadata, Seal, Statement, TICKET_LIFETIME, Work};
use super::*;
use crate::clock::ManualClock;
use crate::engine::EngineSettings;
use crate::engine::store::{ConnectionSettings, StoreSettings, open};
use crate::engine::wal::MemoryDisk;
use crate::model::{Column, ColumnKind, ColumnName, DatabaseName, FieldType, TableName, TableSchema, Timestamp};
use crate::query::{Language, QuerySettings};

/// What a client may receive: gRPC in Go refuses 4 MiB, and some room is left for what proxies add.
const CLIENT_BYTES_MAX: usize = 7 * 1024 * 1024 / 2;

struct Service {
    client: FlightServiceClient<FlightServiceServer<FlightService>>,
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
}

/// A server with these databases, each with the tables `weather` and `a_b`.
async fn service(databases: &[&str]) -> Service {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let store = open(&StoreSettings::Memory, &ConnectionSettings::default()).unwrap();
    let disk = Arc::new(MemoryDisk::default());
    let engine = Engine::open(EngineSettings::default(), store, disk, Arc::clone(&shared)).await.unwrap();
    for database in databases {
        let database = DatabaseName::new(database).unwrap();
        let weather = [
            ("station", ColumnKind::Tag),
            ("region", ColumnKind::Tag),
            ("temperature", ColumnKind::Field(FieldType::Float)),
            ("count", ColumnKind::Field(FieldType::Unsigned)),
        ];
        create(&engine, &database, "weather", &weather).await;
        create(&engine, &database, "a_b", &[("value", ColumnKind::Field(FieldType::Integer))]).await;
    }
    let handle = tokio::runtime::Handle::current();
    let queries = Queries::new(Arc::clone(&engine), QuerySettings::default(), handle.clone(), handle).unwrap();
    let service = FlightService::new(Arc::clone(&engine), Arc::new(queries), shared);
    Service { client: FlightServiceClient::new(service.into_server()), engine, clock }
}

async fn create(engine: &Engine, database: &DatabaseName, table: &str, columns: &[(&str, ColumnKind)]) {
    let columns = columns.iter().map(|(name, kind)| Column { name: ColumnName::new(name).unwrap(), kind: *kind });
    engine.create_table(database, &TableName::new(table).unwrap(), TableSchema::new(columns), None).await.unwrap();
}

fn with_headers<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().append(AsciiMetadataKey::from_static(name), value.parse().unwrap());
    }
    request
}

fn descriptor(command: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn query(text: &str) -> CommandStatementQuery {
    CommandStatementQuery { query: text.to_owned(), transaction_id: None }
}

impl Service {
    async fn info(
        &self,
        command: &impl ProstMessageExt,
        headers: &[(&'static str, &str)],
    ) -> Result<FlightInfo, Status> {
        let request = with_headers(descriptor(command), headers);
        self.client.clone().get_flight_info(request).await.map(Response::into_inner)
    }

    async fn get(
        &self,
        ticket: impl Into<Bytes>,
        headers: &[(&'static str, &str)],
    ) -> Result<(SchemaRef, Vec<RecordBatch>), Status> {
        let messages = self.client.clone().do_get(with_headers(Ticket::new(ticket), headers)).await?.into_inner();
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into));
        let mut rows = Vec::new();
        while let Some(batch) = batches.next().await {
            rows.push(batch.map_err(Status::from)?);
        }
        Ok((SchemaRef::clone(batches.schema().expect("a stream begins with its schema")), rows))
    }

    /// What every driver does: describe, then fetch; checks that the columns are those that were announced.
    async fn rows(
        &self,
        command: &impl ProstMessageExt,
        headers: &[(&'static str, &str)],
    ) -> Result<RecordBatch, Status> {
        let info = self.info(command, headers).await?;
        assert_eq!(info.endpoint.len(), 1, "Grafana takes exactly one endpoint");
        assert!(info.endpoint[0].location.is_empty());
        assert_eq!((info.total_records, info.total_bytes), (-1, -1));
        assert_eq!(info.flight_descriptor, Some(descriptor(command)));
        let announced = info.clone().try_decode_schema().unwrap();
        let got = self.client.clone().get_schema(with_headers(descriptor(command), headers)).await?.into_inner();
        assert_eq!(Schema::try_from(&got).unwrap(), announced);

        // Without headers: a ticket carries its database.
        let (schema, batches) = self.get(info.endpoint[0].ticket.clone().unwrap().ticket, &[]).await?;
        assert_eq!(*schema, announced);
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    async fn act(&self, name: &str, body: Vec<u8>) -> Result<Vec<Bytes>, Status> {
        let results = self.client.clone().do_action(Request::new(Action::new(name, body))).await?.into_inner();
        results.map_ok(|result| result.body).try_collect().await
    }
}

/// The column of a batch as text, for readable expectations.
fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap();
    (0..column.len()).map(|row| arrow::util::display::array_value_to_string(column, row).unwrap()).collect()
}

// ---- statements

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
        ("DROP TABLE weather", Code::InvalidArgument),
    ] {
        assert_eq!(service.info(&query(text), &[]).await.unwrap_err().code(), code, "{text}");
    }
    let parameters = service.info(&query("SELECT $1, $2"), &[]).await.unwrap_err();
    assert!(parameters.message().contains("$1, $2"), "{parameters}");
    let transaction = CommandStatementQuery { transaction_id: Some(Bytes::from_static(b"t")), ..query("SELECT 1") };
    assert_eq!(service.info(&transaction, &[]).await.unwrap_err().code(), Code::Unimplemented);
    let influxql = service.info(&query("SHOW DATABASES"), &[("x-influxdata-query-language", "influxql")]).await;
    assert_eq!(influxql.unwrap_err().code(), Code::Unimplemented);
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
        (r#"{"database":"nyc","sql_query":"SELECT 1","query_type":"influxql"}"#, Code::Unimplemented),
        (r#"{"database":"nyc","sql_query":"SELECT 1","query_type":"flux"}"#, Code::InvalidArgument),
    ] {
        assert_eq!(service.get(ticket.as_bytes().to_vec(), &[]).await.unwrap_err().code(), code, "{ticket}");
    }
}

// ---- which database

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

// ---- tickets

fn statement(text: &str) -> Statement {
    Statement { database: DatabaseName::new("nyc").unwrap(), language: Language::Sql, text: text.to_owned() }
}

#[test]
fn a_ticket_with_any_byte_changed_or_missing_is_refused() {
    let (seal, clock) = (Seal::new(b"key"), ManualClock::new(Timestamp::from_nanos(0)));
    let work = Work::Statement(statement("SELECT 1"));
    let (sealed, _) = seal.ticket(work.clone(), &clock);
    assert_eq!(seal.open(&sealed, &clock).unwrap(), work);
    for position in 0..sealed.len() {
        let mut tampered = sealed.to_vec();
        tampered[position] ^= 1;
        assert!(seal.open(&tampered, &clock).is_err(), "byte {position}");
        assert!(seal.open(&sealed[..position], &clock).is_err(), "cut at {position}");
    }
    assert!(Seal::new(b"other").open(&sealed, &clock).is_err());
}

#[test]
fn a_ticket_expires_and_a_handle_does_not() {
    let (seal, clock) = (Seal::new(b"key"), ManualClock::new(Timestamp::from_nanos(0)));
    let metadata = Metadata { database: None, table_type: "TABLE".to_owned(), command: Bytes::from_static(b"x") };
    let (ticket, expires) = seal.ticket(Work::Metadata(metadata.clone()), &clock);
    let handle = seal.handle(statement("SELECT 1"), &clock);
    clock.advance(TICKET_LIFETIME);
    assert_eq!(expires, clock.now());
    assert_eq!(seal.open(&ticket, &clock).unwrap(), Work::Metadata(metadata));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(seal.open(&ticket, &clock).unwrap_err().kind(), crate::error::ErrorKind::NotFound);
    assert_eq!(seal.open_handle(&handle, &clock).unwrap(), statement("SELECT 1"));
    assert!(seal.open_handle(&ticket, &clock).is_err());
}

#[tokio::test]
async fn a_ticket_can_be_fetched_again_until_it_expires() {
    let service = service(&["nyc"]).await;
    let endpoint = service.info(&query("SELECT 1"), &[]).await.unwrap().endpoint.remove(0);
    let ticket = endpoint.ticket.unwrap().ticket;
    for _ in 0..2 {
        assert!(service.get(ticket.clone(), &[]).await.is_ok());
    }
    assert_eq!(endpoint.expiration_time.unwrap().seconds, 1_700_003_600);
    service.clock.advance(TICKET_LIFETIME + Duration::from_secs(1));
    assert_eq!(service.get(ticket, &[]).await.unwrap_err().code(), Code::NotFound);
}

// ---- prepared statements

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

// ---- metadata

#[tokio::test]
async fn a_table_is_found_by_every_filter_that_drivers_use() {
    let service = service(&["nyc"]).await;
    let all = CommandGetTables::default();
    let types = |types: &[&str]| CommandGetTables {
        table_types: types.iter().map(|word| (*word).to_owned()).collect(),
        db_schema_filter_pattern: Some("iox".to_owned()),
        ..CommandGetTables::default()
    };
    let named = |pattern: &str| CommandGetTables {
        table_name_filter_pattern: Some(pattern.to_owned()),
        db_schema_filter_pattern: Some("i__".to_owned()),
        ..CommandGetTables::default()
    };
    let catalog = |name: &str| CommandGetTables {
        catalog: Some(name.to_owned()),
        db_schema_filter_pattern: Some("iox".to_owned()),
        ..CommandGetTables::default()
    };
    let both = ["a_b", "weather"].as_slice();
    for (command, found) in [
        (types(&[]), both),
        (types(&["BASE TABLE", "table"]), both),
        (types(&["TABLE"]), both),
        (types(&["base table"]), both),
        (types(&["VIEW"]), &[]),
        (types(&["SOFA"]), &[]),
        (named("%"), both),
        (named("weath__"), &["weather"]),
        (named("weather"), &["weather"]),
        (named("a\\_b"), &["a_b"]),
        (named("\\%"), &[]),
        (named("Weather"), &[]),
        (catalog("public"), both),
        (catalog(""), &[]),
        (catalog("Public"), &[]),
    ] {
        let rows = service.rows(&command, &[]).await.unwrap();
        assert_eq!(texts(&rows, "table_name"), found, "{command:?}");
        assert!(texts(&rows, "table_type").iter().all(|word| word == "BASE TABLE"));
    }
    let words = service.rows(&all, &[("x-influxdata-base-table-type", "TABLE")]).await.unwrap();
    assert!(texts(&words, "table_type").contains(&"TABLE".to_owned()));
    assert!(texts(&words, "db_schema_name").contains(&"information_schema".to_owned()));
    assert!(texts(&words, "table_type").contains(&"VIEW".to_owned()));
}

#[tokio::test]
async fn the_listed_columns_of_a_table_are_those_of_select_star() {
    let service = service(&["nyc"]).await;
    let command = CommandGetTables {
        table_name_filter_pattern: Some("weather".to_owned()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let rows = service.rows(&command, &[]).await.unwrap();
    let message = rows.column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let listed = Schema::try_from(arrow_flight::IpcMessage(message.into())).unwrap();
    let selected = service.rows(&query("SELECT * FROM weather"), &[]).await.unwrap().schema();
    let plain = |schema: &Schema| {
        let field = |field: &Arc<Field>| (field.name().clone(), field.data_type().clone(), field.is_nullable());
        schema.fields().iter().map(field).collect::<Vec<_>>()
    };
    assert_eq!(plain(&listed), plain(&selected));
    let region = listed.field_with_name("region").unwrap().metadata();
    assert_eq!(region["ARROW:FLIGHT:SQL:TYPE_NAME"], "VARCHAR");
    assert_eq!(region["ARROW:FLIGHT:SQL:TABLE_NAME"], "weather");
    assert_eq!(region["iox::column::type"], "iox::column_type::tag");
}

#[tokio::test]
async fn every_metadata_command_answers_with_the_columns_of_the_protocol() {
    let service = service(&["nyc"]).await;
    let table = || "weather".to_owned();
    let keys = "pk_catalog_name?,pk_db_schema_name?,pk_table_name,pk_column_name,fk_catalog_name?,fk_db_schema_name?,\
        fk_table_name,fk_column_name,key_sequence,fk_key_name?,pk_key_name?,update_rule,delete_rule";
    check(&service, &CommandGetCatalogs {}, "catalog_name", 1).await;
    check(&service, &CommandGetDbSchemas::default(), "catalog_name?,db_schema_name", 3).await;
    let none = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("zz%".to_owned()) };
    check(&service, &none, "catalog_name?,db_schema_name", 0).await;
    let none = CommandGetTables { table_types: vec!["none".to_owned()], include_schema: true, ..Default::default() };
    check(&service, &none, "catalog_name?,db_schema_name?,table_name,table_type,table_schema", 0).await;
    check(&service, &CommandGetTableTypes {}, "table_type", 2).await;
    let primary = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table() };
    let columns = "catalog_name?,db_schema_name?,table_name,column_name,key_sequence,key_name?";
    check(&service, &primary, columns, 3).await;
    check(&service, &CommandGetPrimaryKeys { table: "none".to_owned(), ..primary.clone() }, columns, 0).await;
    check(&service, &CommandGetPrimaryKeys { db_schema: Some("x".to_owned()), ..primary }, columns, 0).await;
    check(&service, &CommandGetExportedKeys { table: table(), ..Default::default() }, keys, 0).await;
    check(&service, &CommandGetImportedKeys { table: table(), ..Default::default() }, keys, 0).await;
    check(&service, &CommandGetCrossReference { pk_table: table(), fk_table: table(), ..Default::default() }, keys, 0)
        .await;
    let columns = "type_name,data_type,column_size?,literal_prefix?,literal_suffix?,create_params?,nullable,case_sensitive,\
        searchable,unsigned_attribute?,fixed_prec_scale,auto_increment?,local_type_name?,minimum_scale?,maximum_scale?,\
        sql_data_type,datetime_subcode?,num_prec_radix?,interval_precision?";
    check(&service, &CommandGetXdbcTypeInfo { data_type: None }, columns, 18).await;
    check(&service, &CommandGetXdbcTypeInfo { data_type: Some(12) }, columns, 1).await;
    check(&service, &CommandGetXdbcTypeInfo { data_type: Some(999) }, columns, 0).await;
    check(&service, &CommandGetSqlInfo { info: vec![0, 8, 4_000_000_000] }, "info_name,value", 2).await;
    check(&service, &CommandGetSqlInfo { info: vec![4_000_000_000] }, "info_name,value", 0).await;
}

/// `columns` are names, with `?` after those that can be null.
async fn check(service: &Service, command: &(impl ProstMessageExt + std::fmt::Debug), columns: &str, row_count: usize) {
    let rows = service.rows(command, &[]).await.unwrap();
    let got: Vec<String> = rows
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{}{}", field.name(), if field.is_nullable() { "?" } else { "" }))
        .collect();
    assert_eq!((got.join(",").as_str(), rows.num_rows()), (columns, row_count), "{:?}", command.as_any());
}

#[tokio::test]
async fn the_primary_key_of_a_table_is_its_tags_in_series_order_and_time() {
    let service = service(&["nyc"]).await;
    let command = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: "weather".to_owned() };
    let rows = service.rows(&command, &[]).await.unwrap();
    assert_eq!(texts(&rows, "column_name"), ["station", "region", "time"]);
    assert_eq!(texts(&rows, "key_sequence"), ["1", "2", "3"]);
}

#[tokio::test]
async fn metadata_is_there_before_a_database_is_chosen() {
    let service = service(&["nyc", "boston"]).await;
    assert_eq!(service.rows(&CommandGetCatalogs {}, &[]).await.unwrap().num_rows(), 1);
    assert_eq!(service.rows(&CommandGetDbSchemas::default(), &[]).await.unwrap().num_rows(), 3);
    assert_eq!(service.rows(&CommandGetTables::default(), &[]).await.unwrap().num_rows(), 0);
    assert!(service.rows(&CommandGetTables::default(), &[("database", "nyc")]).await.unwrap().num_rows() > 2);
    let unknown = service.rows(&CommandGetTables::default(), &[("database", "paris")]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn server_facts_are_known_codes_in_the_member_of_the_union_that_drivers_read() {
    let service = service(&["nyc"]).await;
    let rows = service.rows(&CommandGetSqlInfo { info: vec![] }, &[]).await.unwrap();
    let codes = rows.column(0).as_primitive::<arrow::datatypes::UInt32Type>();
    let known: Vec<u32> = (0..10).chain([100, 101]).chain(500..577).collect();
    assert_eq!(codes.values().as_ref(), known, "codes that an old JDBC driver does not know kill it");
    let values = rows.column(1).as_any().downcast_ref::<arrow::array::UnionArray>().unwrap();
    let member = |code: u32| values.type_id(known.iter().position(|known| *known == code).unwrap());
    for (code, expected) in [
        (0, 0),
        (504, 0),
        (3, 1),
        (503, 2),
        (505, 2),
        (507, 2),
        (562, 2),
        (557, 2),
        (8, 3),
        (528, 3),
        (508, 4),
        (517, 5),
    ] {
        assert_eq!(member(code), expected, "{code}");
    }
}

#[test]
fn filter_patterns_are_those_of_like_with_a_backslash_before_plain_signs() {
    let found = |pattern: Option<&str>| {
        let texts = ["a_b", "axb", "a%b", ""];
        let matching = matches(texts.into_iter(), pattern).unwrap();
        texts.into_iter().enumerate().filter(|(row, _)| matching.value(*row)).map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(found(None), ["a_b", "axb", "a%b", ""]);
    assert_eq!(found(Some("%")), ["a_b", "axb", "a%b", ""]);
    assert_eq!(found(Some("a_b")), ["a_b", "axb", "a%b"]);
    assert_eq!(found(Some("a\\_b")), ["a_b"]);
    assert_eq!(found(Some("a\\%b")), ["a%b"]);
    assert_eq!(found(Some("")), [""]);
    assert!(found(Some("A_B")).is_empty());
}

// ---- connection

#[tokio::test]
async fn a_handshake_gives_back_what_it_was_shown() {
    let service = service(&[]).await;
    let message = HandshakeRequest { protocol_version: 3, payload: Bytes::from_static(b"hello") };
    for (shown, bearer) in [
        (Some("Basic dTpzZWNyZXQ="), "Bearer secret"),
        (Some("basic dTpzZWNyZXQ"), "Bearer secret"),
        (Some("Basic dTpwOnc="), "Bearer p:w"),
        (Some("Bearer abc"), "Bearer abc"),
        (Some("Token abc"), "Bearer abc"),
        (Some("Basic ***"), "Bearer anonymous"),
        (Some("Negotiate x"), "Bearer anonymous"),
        (None, "Bearer anonymous"),
    ] {
        for messages in [vec![], vec![HandshakeRequest::default()], vec![message.clone()]] {
            let headers: Vec<(&str, &str)> = shown.iter().map(|shown| ("authorization", *shown)).collect();
            let first = messages.first().cloned().unwrap_or_default();
            let response =
                service.client.clone().handshake(with_headers(stream::iter(messages), &headers)).await.unwrap();
            assert_eq!(response.metadata().get("authorization").unwrap(), bearer, "{shown:?}");
            let answers: Vec<HandshakeResponse> = response.into_inner().try_collect().await.unwrap();
            assert_eq!(answers.len(), 1);
            assert_eq!((answers[0].protocol_version, &answers[0].payload), (first.protocol_version, &first.payload));
        }
    }
}

#[tokio::test]
async fn sessions_close_and_keep_to_the_only_catalog_and_schema() {
    let service = service(&["nyc"]).await;
    // SessionOptionValue { string_value }, in a map entry, in SetSessionOptionsRequest.
    let set = |name: &str, value: &str| {
        let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let entry = [field(0x0a, name.as_bytes()), field(0x12, &field(0x0a, value.as_bytes()))].concat();
        field(0x0a, &entry)
    };
    let is_set = async |name, value| service.act("SetSessionOptions", set(name, value)).await.unwrap()[0].is_empty();
    assert!(is_set("catalog", "public").await);
    assert!(is_set("schema", "iox").await);
    assert!(!is_set("catalog", "nyc").await);
    assert!(!is_set("colour", "red").await);
    assert_eq!(service.act("CloseSession", vec![]).await.unwrap(), [Bytes::from_static(&[0x08, 0x01])]);
    let options = service.act("GetSessionOptions", vec![]).await.unwrap();
    assert!(options[0].windows(6).any(|window| window == b"public"));

    let actions: Vec<ActionType> = service
        .client
        .clone()
        .list_actions(Request::new(Empty {}))
        .await
        .unwrap()
        .into_inner()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(actions.len(), ACTIONS.len());
    for unsupported in ["BeginTransaction", "EndTransaction", "CancelFlightInfo", "Sing"] {
        assert_eq!(service.act(unsupported, vec![]).await.unwrap_err().code(), Code::Unimplemented, "{unsupported}");
    }
}

#[test]
fn a_timeout_header_is_read_as_grpc_writes_it() {
    for (text, expected) in [
        ("5S", Some(Duration::from_secs(5))),
        ("100m", Some(Duration::from_millis(100))),
        ("99999999u", Some(Duration::from_micros(99_999_999))),
        ("1H", Some(Duration::from_secs(3600))),
        ("123456789S", None),
        ("S", None),
        ("", None),
        ("-1S", None),
        ("5", None),
        ("5x", None),
    ] {
        let mut headers = MetadataMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        let before = tokio::time::Instant::now();
        let deadline = Call::new(&headers).unwrap().deadline;
        let close_to = |expected: Duration| {
            deadline.is_some_and(|deadline| (deadline - before).abs_diff(expected) < Duration::from_secs(1))
        };
        assert!(expected.map_or(deadline.is_none(), close_to), "{text}");
    }
}

// ---- the stream

async fn messages(schema: SchemaRef, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    encode(schema, stream::iter(batches.into_iter().map(Ok)).boxed(), None).try_collect().await.unwrap()
}

async fn decoded(messages: Vec<FlightData>) -> Vec<RecordBatch> {
    let messages = stream::iter(messages.into_iter().map(Ok));
    FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.unwrap()
}

/// Rows of text, list and struct, where a row weighs as much as `weights` says.
fn weighted(weights: &[usize]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(weights.iter().map(|weight| "x".repeat(*weight))));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for weight in weights {
        for _ in 0..weight % 3 {
            lists.values().append_value("y".repeat(weight / 2));
        }
        lists.append(weight % 7 != 0);
    }
    let numbers: ArrayRef =
        Arc::new(weights.iter().map(|weight| (weight % 5 != 0).then_some(*weight as i64)).collect::<Int64Array>());
    let pair = StructArray::try_from(vec![("texts", Arc::clone(&texts)), ("numbers", Arc::clone(&numbers))]).unwrap();
    let dated: ArrayRef =
        Arc::new(numbers.as_primitive::<arrow::datatypes::Int64Type>().unary::<_, Int32Type>(|number| number as i32));
    RecordBatch::try_from_iter_with_nullable([
        ("texts", texts, true),
        ("lists", Arc::new(lists.finish()) as ArrayRef, true),
        ("pair", Arc::new(pair), true),
        ("numbers", numbers, true),
        ("dated", dated, true),
    ])
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_are_small_enough_and_together_the_whole(
        weights in prop::collection::vec(prop_oneof![20 => 0_usize..200, 3 => 0_usize..100_000, 1 => 500_000_usize..2_500_000], 0..300),
        from in 0.0..1.0,
    ) {
        let whole = weighted(&weights);
        // A slice of something larger, as batches mostly are.
        let start = (from * whole.num_rows() as f64) as usize;
        let batch = whole.slice(start, whole.num_rows() - start);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let messages = messages(batch.schema(), vec![batch.clone()]).await;
            let sizes: Vec<usize> = messages.iter().map(Message::encoded_len).collect();
            let pieces = decoded(messages).await;
            for (piece, size) in pieces.iter().zip(&sizes[1..]) {
                assert!(*size < CLIENT_BYTES_MAX || piece.num_rows() == 1, "{size} bytes for {} rows", piece.num_rows());
            }
            assert_eq!(concat_batches(&batch.schema(), &pieces).unwrap(), batch);
        });
    }
}

#[tokio::test]
async fn even_rows_are_cut_into_even_messages_of_a_good_size() {
    let rows: ArrayRef = Arc::new((0..3_000_000_i64).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let messages = messages(batch.schema(), vec![batch.slice(7, 2_900_000)]).await;
    let sizes: Vec<usize> = messages[1..].iter().map(|message| message.data_body.len()).collect();
    // 23.2 MB in messages of at most 2 MiB.
    assert_eq!(sizes.len(), 12);
    let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(max - min < 64 * 1024 && *max <= 2 * 1024 * 1024, "{sizes:?}");
}

#[tokio::test]
async fn a_slice_of_a_large_batch_is_one_message() {
    let rows: ArrayRef = Arc::new((0..3_000_000_i64).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    // arrow-flight's encoder makes a message of each of these rows.
    assert_eq!(messages(batch.schema(), vec![batch.slice(1_000_000, 10)]).await.len(), 2);
}

#[tokio::test]
async fn a_batch_of_other_columns_ends_the_stream_with_an_error() {
    let schema = SchemaRef::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let results: Vec<Result<FlightData, Status>> =
        encode(schema, stream::iter([Ok(batch)]).boxed(), None).collect().await;
    assert_eq!(results.len(), 2);
    assert_eq!(results[1].as_ref().unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn an_error_of_the_query_ends_the_stream_and_drops_the_query() {
    struct Dropped(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let guard = Dropped(Arc::clone(&dropped));
    let batches = stream::iter([Err(Error::new(crate::error::ErrorKind::Exhausted, "no memory"))])
        .chain(stream::pending())
        .inspect(move |_| {
            let _held = &guard;
        });
    let mut messages = encode(SchemaRef::new(Schema::empty()), batches.boxed(), None);
    assert!(messages.next().await.unwrap().is_ok());
    assert_eq!(messages.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    assert!(dropped.load(std::sync::atomic::Ordering::SeqCst));
    assert!(messages.next().await.is_none());
}

#[tokio::test]
async fn a_stream_past_its_deadline_says_so_even_if_rows_keep_coming() {
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let endless = stream::repeat_with({
        let batch = batch.clone();
        move || Ok(batch.clone())
    });
    for batches in [endless.boxed(), stream::pending().boxed()] {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
        let messages = encode(batch.schema(), batches, Some(deadline));
        let ended = messages.filter_map(|message| async { message.err() }).collect::<Vec<_>>().await;
        assert_eq!(ended.iter().map(Status::code).collect::<Vec<_>>(), [Code::DeadlineExceeded]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_the_schema_at_once_and_an_empty_batch_every_five_seconds() {
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let slow = stream::once({
        let batch = batch.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(12)).await;
            Ok(batch)
        }
    });
    let started = tokio::time::Instant::now();
    let mut messages = encode(batch.schema(), slow.boxed(), None);
    let mut arrived = Vec::new();
    let mut received = Vec::new();
    while let Some(message) = messages.next().await {
        arrived.push(started.elapsed().as_secs());
        received.push(message.unwrap());
    }
    assert_eq!(arrived, [0, 5, 10, 12]);
    let sizes: Vec<usize> = decoded(received).await.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [0, 0, 1]);
}

// ---- whatever comes

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
