//! The Flight SQL service: one line per command.
//!
//! Three steps serve everything. *Describe*: a command becomes its columns and the work behind it, which is sealed
//! into a ticket. *Fetch*: a ticket becomes messages. *Act*: prepared statements and sessions, none of which is kept here.
//!
//! | file | what |
//! |---|---|
//! | `call` | what the headers say: database, language, deadline, handshake |
//! | `statements`, `prepared`, `values` | queries and statements that change something, with their parameters |
//! | `ingest`, `writing`, `incoming` | what is asked for; batches into tables, several at a time; messages into batches, guarded |
//! | `metadata`, `types`, `sql_info` | what there is |
//! | `tickets` | work, sealed |
//! | `parts` | results in several endpoints, held for a while |
//! | `stream` | batches into messages |
//! | `flights` | tables as flights |
//! | `actions`, `running` | what can be done besides; results that can be cancelled |
//! | `sessions` | headers that a client need not send |
//!
//! Always true:
//! - a statement that changes something runs once: in `GetFlightInfo` or `DoPut`, never when it is described or prepared; the ticket
//!   repeats the answer and not the statement;
//! - the columns that a description announces are exactly those of the rows;
//! - nothing that a client sends can panic;
//! - whatever a client drops stops working for it: every answer is a future or stream that it holds.
//!
//! arrow-flight's `FlightSqlService` is not used: it can answer neither `GetSchema` nor `PollFlightInfo`, calls a message it
//! can't decode an internal error, and asks for each command twice, where here one description serves four methods.

mod actions;
mod call;
mod error;
mod flights;
mod incoming;
mod ingest;
mod metadata;
mod parts;
mod prepared;
mod running;
mod sessions;
mod sql_info;
mod statements;
mod stream;
mod tickets;
mod types;
mod values;
mod writing;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::{FlightService as Protocol, FlightServiceServer};
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use actions::ACTIONS;
use call::Call;
use error::FlightError;
use parts::Held;
use prepared::Bound;
use running::Running;
use stream::{Messages, encode};
use tickets::{Metadata, Seal, Statement, Work};
use writing::Writer;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{Action as Right, Tables};
use crate::query::Queries;
use crate::server::auth::{Authenticator, Principal};
use crate::server::limits::Limits;
use crate::server::status;
use crate::telemetry::Telemetry;

/// Largest message that is taken. Drivers don't cut what they send; tonic's own limit is 4 MiB.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the types of all Flight SQL messages begin with.
const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Answers Flight and Flight SQL calls. Between them it keeps values that were bound to prepared statements, results that were cut into
/// parts, and which results are being sent.
#[derive(Debug)]
pub struct FlightService {
    engine: Arc<Engine>,
    queries: Arc<Queries>,
    clock: Arc<dyn Clock>,
    seal: Seal,
    bound: Bound,
    writer: Writer,
    running: Running,
    held: Held,
    authenticator: Arc<Authenticator>,
}

/// What a command will answer.
struct Description {
    /// The columns of the answer, exactly.
    schema: SchemaRef,
    /// Whether the order of the rows means something.
    ordered: bool,
    work: Described,
    /// The parameters that have no values, if there are some: then it can be described but not run.
    unbound: Option<String>,
}

/// What stands behind a description.
enum Described {
    /// Work that a ticket can carry.
    Ticket(Work),
    /// A change, which `GetFlightInfo` makes before it hands out a ticket, and nobody else.
    Change(Statement),
}

impl FlightService {
    /// A service for all databases of the engine. Tickets are sealed with the engine's key; `write_slots` bound the memory of
    /// writes, `limits` what one token may write in a second.
    pub(crate) fn new(
        engine: Arc<Engine>,
        queries: Arc<Queries>,
        authenticator: Arc<Authenticator>,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        write_slots: Arc<Semaphore>,
        limits: Arc<Limits>,
    ) -> Self {
        let writer = Writer { engine: Arc::clone(&engine), telemetry, slots: write_slots, limits };
        let seal = Seal::new(&engine.ticket_key());
        Self {
            engine,
            queries,
            clock,
            seal,
            bound: Bound::new(),
            writer,
            running: Running::default(),
            held: Held::default(),
            authenticator,
        }
    }

    /// The service as tonic serves it: requests of up to 64 MiB, compressed with gzip or zstd if the client likes.
    pub fn into_server(self) -> FlightServiceServer<Self> {
        FlightServiceServer::new(self)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
    }

    /// What the headers of a request say, and who sent it.
    fn call_of<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let principal = match self.authenticator.is_on() {
            true => Principal::of(request.extensions()),
            false => Principal::everybody(),
        };
        Call::new(request.metadata(), principal).map_err(|error| status::grpc(&error))
    }

    async fn describe(&self, descriptor: &FlightDescriptor, call: &Call) -> Result<Description> {
        if descriptor.r#type() == DescriptorType::Path {
            return self.describe_path(&descriptor.path, call).await;
        }
        match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(command) => self.describe_query(command, call).await,
            Command::CommandStatementSubstraitPlan(command) => self.describe_substrait(command, call).await,
            Command::CommandPreparedStatementQuery(command) => self.describe_prepared(&command, call).await,
            other => self.describe_metadata(&other, descriptor.cmd.clone(), call),
        }
    }

    fn describe_metadata(&self, command: &Command, encoded: Bytes, call: &Call) -> Result<Description> {
        let schema = metadata::schema(command).ok_or_else(|| unexpected("GetFlightInfo", command))?;
        Ok(Description {
            schema,
            ordered: true,
            work: Described::Ticket(Work::Metadata(self.metadata_work(encoded, call))),
            unbound: None,
        })
    }

    fn metadata_work(&self, command: Bytes, call: &Call) -> Metadata {
        let database = call.database_if_any(&self.engine);
        Metadata { database, table_type: call.table_type.to_owned(), command }
    }

    async fn flight_info(&self, descriptor: FlightDescriptor, call: &Call) -> Result<FlightInfo> {
        let described = self.describe(&descriptor, call).await?;
        if let Some(names) = described.unbound {
            return Err(FlightError::Unbound(names).into());
        }
        let work = match described.work {
            Described::Ticket(Work::Statement(statement)) => self.parts(statement, call).await?,
            Described::Ticket(work) => vec![work],
            Described::Change(statement) => vec![Work::Done { count: self.change(statement, call).await? }],
        };
        self.info(descriptor, &described.schema, described.ordered, work, call)
    }

    fn info(
        &self,
        descriptor: FlightDescriptor,
        schema: &Schema,
        ordered: bool,
        work: Vec<Work>,
        call: &Call,
    ) -> Result<FlightInfo> {
        let info = FlightInfo::new().try_with_schema(schema).map_err(FlightError::Encode)?;
        let info = work.into_iter().fold(info, |info, work| info.with_endpoint(self.endpoint(work, call)));
        Ok(info.with_descriptor(descriptor).with_ordered(ordered))
    }

    /// A ticket for the work, good for who calls, and until when it is good.
    fn endpoint(&self, work: Work, call: &Call) -> FlightEndpoint {
        let (sealed, expires) = self.seal.ticket(work, &call.principal, self.clock.as_ref());
        let ticket = TicketStatementQuery { statement_handle: sealed }.as_any().encode_to_vec();
        // No location: the client stays on the connection that it has, whatever lies between it and this server.
        let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
        let expiration = endpoint.expiration_time.get_or_insert_default();
        expiration.seconds = expires.as_nanos().div_euclid(1_000_000_000);
        expiration.nanos = i32::try_from(expires.as_nanos().rem_euclid(1_000_000_000)).unwrap_or_default();
        endpoint
    }

    async fn schema(&self, descriptor: FlightDescriptor, call: &Call) -> Result<SchemaResult> {
        let described = self.describe(&descriptor, call).await?;
        let options = IpcWriteOptions::default();
        Ok(SchemaAsIpc::new(&described.schema, &options).try_into().map_err(FlightError::Encode)?)
    }

    /// The rows behind a ticket of ours, a Flight SQL command, or a JSON object, tried in this order.
    async fn fetch(&self, ticket: Bytes, call: &Call) -> Result<Messages> {
        let is_command = Any::decode(ticket.clone()).is_ok_and(|any| any.type_url.starts_with(TYPE_PREFIX));
        if !is_command {
            return self.json_ticket_rows(&ticket, call).await;
        }
        match command(&ticket)? {
            Command::TicketStatementQuery(sealed) => {
                let ticket = sealed.statement_handle;
                match self.seal.open(&ticket, &call.principal, self.clock.as_ref())? {
                    Work::Statement(statement) => {
                        let rows = self.statement_rows(statement, call).await?;
                        Ok(self.running.until_cancelled(&ticket, rows))
                    }
                    Work::Part(part) => {
                        let rows = self.part_rows(part, call)?;
                        Ok(self.running.until_cancelled(&ticket, rows))
                    }
                    Work::Done { count } => statements::change_rows(count, call),
                    Work::Metadata(asked) => self.metadata_rows(command(&asked.command)?, &asked, call),
                }
            }
            Command::CommandPreparedStatementQuery(command) => {
                self.statement_rows(self.prepared(&command, call).await?, call).await
            }
            other => self.metadata_rows(other, &self.metadata_work(ticket, call), call),
        }
    }

    fn metadata_rows(&self, command: Command, asked: &Metadata, call: &Call) -> Result<Messages> {
        let schema = metadata::schema(&command).ok_or_else(|| unexpected("DoGet", &command))?;
        let readable = match &asked.database {
            Some(database) => {
                call.principal.require_sight(database)?;
                call.principal.rights().tables(Right::Read, database)
            }
            None => Tables::All,
        };
        let batches = metadata::rows(command, asked, &readable, &self.engine, &self.queries)?;
        Ok(encode(schema, batches, call.delivery()))
    }

    async fn put(&self, mut messages: Streaming<FlightData>, call: &Call) -> Result<Answers<PutResult>> {
        let received = |status: Status| Error::invalid(status.message());
        let first = messages.message().await.map_err(received)?.ok_or(FlightError::NoCommand)?;
        let descriptor = first.flight_descriptor.clone().ok_or(FlightError::NoCommand)?;
        if descriptor.r#type() == DescriptorType::Path {
            return self.put_batches(&descriptor.path, first, messages, call);
        }
        let result = match command(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(command) => self.bind(command, first, messages, call).await,
            Command::CommandStatementUpdate(command) => {
                while messages.message().await.map_err(received)?.is_some() {} // some drivers send an empty batch
                self.update(command, call).await
            }
            Command::CommandStatementSubstraitPlan(command) => self.update_substrait(command, call).await,
            Command::CommandPreparedStatementUpdate(command) => {
                self.update_prepared(command, first, messages, call).await
            }
            Command::CommandStatementIngest(command) => self.ingest(command, first, messages, call).await,
            other => Err(unexpected("DoPut", &other)),
        };
        result.map(one)
    }
}

/// The Flight SQL command in a descriptor or ticket.
fn command(encoded: &Bytes) -> Result<Command> {
    let any = Any::decode(encoded.clone()).map_err(FlightError::Undecodable)?;
    if any.type_url.is_empty() {
        return Err(FlightError::NoCommand.into());
    }
    match Command::try_from(any).map_err(FlightError::UndecodableCommand)? {
        Command::Unknown(any) => Err(FlightError::UnknownCommand(any.type_url).into()),
        known => Ok(known),
    }
}

/// Tickets and actions stand where they don't belong.
fn unexpected(method: &'static str, command: &Command) -> Error {
    FlightError::UnexpectedCommand { method, command: command.type_url().to_owned() }.into()
}

fn is_sql_info(descriptor: &FlightDescriptor) -> bool {
    matches!(command(&descriptor.cmd), Ok(Command::CommandGetSqlInfo(_)))
}

fn set_cookie<T>(response: &mut Response<T>, cookie: Option<String>) {
    if let Some(value) = cookie.and_then(|cookie| MetadataValue::try_from(cookie).ok()) {
        response.metadata_mut().insert("set-cookie", value);
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

fn one<T: Send + 'static>(answer: T) -> Answers<T> {
    futures::stream::iter([Ok(answer)]).boxed()
}

#[tonic::async_trait]
impl Protocol for FlightService {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Messages;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let (headers, _, mut messages) = request.into_parts();
        let first = messages.message().await?;
        call::welcome(&self.authenticator, &headers, first, one).await.map_err(|error| status::grpc(&error))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let call = self.call_of(&request)?;
        // ADBC drivers ask this first, and show with the next call whether they keep cookies.
        let greets = call.is_adbc && !call.session.is_kept() && is_sql_info(request.get_ref());
        let mut response = call.answer(self.flight_info(request.into_inner(), &call)).await?;
        set_cookie(&mut response, greets.then(|| call.session.cookie()));
        Ok(response)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let call = self.call_of(&request)?;
        // Planning is all there is to wait for; without a descriptor in the answer the client knows it is complete.
        let info = call.answer(self.flight_info(request.into_inner(), &call)).await?;
        Ok(info.map(|info| PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = self.call_of(&request)?;
        call.answer(self.schema(request.into_inner(), &call)).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = self.call_of(&request)?;
        call.answer(self.fetch(request.into_inner().ticket, &call)).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.call_of(&request)?;
        call.answer(self.put(request.into_inner(), &call)).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = self.call_of(&request)?;
        let about_session = sessions::answer(request.get_ref(), &call, &self.engine);
        if let Some(sessions::Answer { body, cookie }) = about_session.map_err(|error| status::grpc(&error))? {
            let mut response = Response::new(one(arrow_flight::Result::new(body)));
            set_cookie(&mut response, cookie);
            return Ok(response);
        }
        let result = call.answer(self.act(request.into_inner(), &call)).await?;
        Ok(result.map(|body| futures::stream::iter(body.map(|body| Ok(arrow_flight::Result::new(body)))).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |(name, description): (&str, &str)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        Ok(Response::new(futures::stream::iter(ACTIONS.map(action)).boxed()))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        let call = self.call_of(&request)?;
        let flights = call.answer(async { self.flights(request.get_ref(), &call) }).await?;
        Ok(flights.map(|flights| futures::stream::iter(flights.into_iter().map(Ok)).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(status::grpc(&FlightError::Unsupported("DoExchange is not supported").into()))
    }
}
