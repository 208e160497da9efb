//! The service in this process, over an engine in memory, spoken to by a real client.

mod cancelling;
mod connection;
mod dictionaries;
mod endpoints;
mod guard;
mod hostile;
mod ingest;
mod metadata;
mod prepared;
mod statements;
mod streaming;
mod substrait;
mod tickets;

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
use super::stream::{Delivery, encode};
use super::tickets::{Metadata, Seal, Statement, TICKET_LIFETIME, Work};
use super::*;
use crate::clock::ManualClock;
use crate::engine::EngineSettings;
use crate::engine::store::{ConnectionSettings, StoreSettings, open};
use crate::engine::wal::MemoryDisk;
use crate::model::{Column, ColumnKind, ColumnName, DatabaseName, FieldType, TableName, TableSchema, Timestamp};
use crate::query::{Language, QuerySettings};
use crate::server::LimitSettings;
use crate::server::auth::{AuthSettings, PrincipalKind};
use crate::server::limits::Limits;

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
    let queries = Queries::new(Arc::clone(&engine), QuerySettings::default(), handle.clone().into(), handle).unwrap();
    let telemetry = Arc::new(Telemetry::new(Duration::ZERO));
    let slots = Arc::new(Semaphore::new(4));
    let open = AuthSettings::off();
    let authenticator = Authenticator::new(Arc::clone(&engine), Arc::clone(&shared), &open).await.unwrap();
    let authenticator = Arc::new(authenticator);
    let limits = Arc::new(Limits::new(LimitSettings::default(), Arc::clone(&shared)));
    let queries = Arc::new(queries);
    let service = FlightService::new(Arc::clone(&engine), queries, authenticator, shared, telemetry, slots, limits);
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

async fn messages(schema: SchemaRef, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    encode(schema, stream::iter(batches.into_iter().map(Ok)).boxed(), Delivery::default()).try_collect().await.unwrap()
}

/// Puts messages with a command, and returns the one answer that Java waits for.
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

/// Batches as a client sends them: with dictionaries where they have some.
async fn sent(batches: &[RecordBatch]) -> Vec<FlightData> {
    let batches = batches.to_vec();
    let encoder = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_dictionary_handling(arrow_flight::encode::DictionaryHandling::Resend)
        .build(stream::iter(batches.into_iter().map(Ok)));
    encoder.try_collect().await.unwrap()
}
