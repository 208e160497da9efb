//! Prepared statements: a handle that carries its query, sealed, and the values that are bound to it. So any server of the catalog
//! can run it, and nothing is lost with a restart.
//!
//! Binding answers with a handle that has the values in it. Java and Go go on with that one, but Python's DB API with the one that it
//! had: so values are also kept here, under the handle that they came with, for as long as it is used at all.
//!
//! A handle holds nothing on a server, so there is nothing of it to expire. The server that was told to close one remembers that for
//! as long as a ticket is good, so that a use after the end is told as such; on another server it is as it was when it was made.
//!
//! JDBC and Python's DB API prepare every statement, even one that runs once: this is the common way in.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, Any, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{FlightData, IpcMessage, PutResult, SchemaAsIpc};
use bytes::Bytes;
use futures::Stream;
use moka::future::Cache;
use prost::Message;
use tonic::Status;

use super::call::Call;
use super::error::FlightError;
use super::incoming::{Incoming, Received};
use super::statements::{Execution, refuse_transaction, update_result};
use super::tickets::{SEAL_BYTES, Statement, TICKET_LIFETIME};
use super::values::{self, Places};
use super::{Description, FlightService};
use crate::error::Result;
use crate::query::{PlannedParameter, PlannedStatement};

/// How long values are kept under a handle that nobody uses.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Bytes of all values that are kept, with their handles.
const BYTES_MAX: u64 = 64 << 20;

/// `is_update`, field 4 of `ActionCreatePreparedStatementResult`, which arrow-flight does not know yet. Without
/// it JDBC guesses from the columns whether to run a statement as a query.
const IS_UPDATE_FALSE: [u8; 2] = [0x20, 0x00];
const IS_UPDATE_TRUE: [u8; 2] = [0x20, 0x01];

/// Handles that are remembered as closed; the older ones are forgotten first.
const CLOSED_MAX: u64 = 1 << 16;

/// Values by the handle that they were bound to, and which handles were closed.
#[derive(Debug)]
pub(super) struct Bound {
    values: Cache<Bytes, Bytes>,
    /// By their seals.
    closed: Cache<[u8; SEAL_BYTES], ()>,
}

impl Bound {
    pub(super) fn new() -> Self {
        let weight = |handle: &Bytes, values: &Bytes| u32::try_from(handle.len() + values.len()).unwrap_or(u32::MAX);
        Self {
            values: Cache::builder().max_capacity(BYTES_MAX).weigher(weight).time_to_idle(IDLE).build(),
            closed: Cache::builder().max_capacity(CLOSED_MAX).time_to_live(TICKET_LIFETIME).build(),
        }
    }
}

impl FlightService {
    /// Plans a statement and hands back its handle and columns, as `google.protobuf.Any`.
    ///
    /// # Errors
    /// Whatever is wrong with the text.
    pub(super) async fn create_prepared(
        &self,
        request: ActionCreatePreparedStatementRequest,
        call: &Call,
    ) -> Result<Bytes> {
        refuse_transaction(request.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        self.create(call.statement(database, request.query), call).await
    }

    /// The same for a plan of Substrait.
    ///
    /// # Errors
    /// Whatever is wrong with the plan.
    pub(super) async fn create_prepared_substrait(
        &self,
        request: ActionCreatePreparedSubstraitPlanRequest,
        call: &Call,
    ) -> Result<Bytes> {
        let statement = self.substrait(request.plan, request.transaction_id.as_deref(), call)?;
        self.create(statement, call).await
    }

    async fn create(&self, statement: Statement, call: &Call) -> Result<Bytes> {
        let handle = self.seal.handle(statement.clone(), &call.principal, self.clock.as_ref());
        let planned = self.plan(statement, Vec::new(), call).await?;
        // Older drivers take what has columns for a query.
        let (columns, is_update) = match &planned {
            PlannedStatement::Query(query) => (query.schema().as_ref(), IS_UPDATE_FALSE),
            PlannedStatement::Change(_) => (&Schema::empty(), IS_UPDATE_TRUE),
        };
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle,
            dataset_schema: schema_bytes(columns)?,
            parameter_schema: schema_bytes(&parameter_schema(planned.parameters()))?,
        };
        let value = [result.encode_to_vec().as_slice(), &is_update].concat();
        let type_url = ActionCreatePreparedStatementResult::type_url().to_owned();
        Ok(Any { type_url, value: value.into() }.encode_to_vec().into())
    }

    /// Runs a prepared statement that is no query: once for each row of values, or once if none come.
    ///
    /// # Errors
    /// `Invalid` if the values don't fit or it is a query; and whatever keeps it from being done: then it is done for the rows
    /// before the one that failed.
    pub(super) async fn update_prepared(
        &self,
        command: CommandPreparedStatementUpdate,
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        call: &Call,
    ) -> Result<PutResult> {
        let statement = self.opened(&command.prepared_statement_handle, call)?;
        let mut execution = Execution::new(self, statement.clone(), call).await?;
        let mut incoming = Incoming::new(first, rest);
        let mut has_columns = false;
        while let Some(Received { batch, .. }) = incoming.next().await? {
            // Java sends one row of no columns where there are no values.
            if batch.num_columns() > 0 {
                has_columns = true;
                execution.rows(&batch).await?;
            }
        }
        has_columns |= incoming.schema().is_some_and(|schema| !schema.fields().is_empty());
        if !has_columns {
            let values = self.values(&command.prepared_statement_handle, statement).await;
            execution.bound(&values).await?;
        }
        Ok(update_result(execution.count().or(call.uncounted)))
    }

    /// What a prepared statement will answer. Without values for its parameters only its columns are known.
    pub(super) async fn describe_prepared(
        &self,
        command: &CommandPreparedStatementQuery,
        call: &Call,
    ) -> Result<Description> {
        self.describe_statement(self.prepared(command, call).await?, call).await
    }

    /// The statement behind a handle, with the values that were last bound to it; the database is the one it was prepared for,
    /// whatever this call's headers say.
    pub(super) async fn prepared(&self, command: &CommandPreparedStatementQuery, call: &Call) -> Result<Statement> {
        let handle = &command.prepared_statement_handle;
        let mut statement = self.opened(handle, call)?;
        statement.values = self.values(handle, statement.clone()).await;
        Ok(statement)
    }

    /// The statement that was sealed into a handle.
    ///
    /// # Errors
    /// `Invalid` if it is none of the caller's; `NotFound` if it was closed here.
    fn opened(&self, handle: &Bytes, call: &Call) -> Result<Statement> {
        let statement = self.seal.open_handle(handle, &call.principal, self.clock.as_ref())?;
        match handle.first_chunk().is_some_and(|seal| self.bound.closed.contains_key(seal)) {
            true => Err(FlightError::ClosedHandle.into()),
            false => Ok(statement),
        }
    }

    async fn values(&self, handle: &Bytes, statement: Statement) -> Bytes {
        self.bound.values.get(handle).await.unwrap_or(statement.values)
    }

    /// Takes the values for a prepared statement, in place of those that it had; answers with a handle that has them.
    ///
    /// # Errors
    /// `Invalid` if they don't fit; `TooLarge` if they are too many.
    pub(super) async fn bind(
        &self,
        command: CommandPreparedStatementQuery,
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        call: &Call,
    ) -> Result<PutResult> {
        let handle = command.prepared_statement_handle;
        let statement = self.opened(&handle, call)?;
        let mut incoming = Incoming::new(first, rest);
        let mut batches = Vec::new();
        while let Some(received) = incoming.next().await? {
            batches.push(received.batch);
        }
        let schema = incoming.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
        let parameters = self.plan(statement.clone(), Vec::new(), call).await?;
        let parameters = parameters.parameters();
        let bound = match parameters.is_empty() && schema.fields().is_empty() {
            // Nothing to bind and nothing bound: the handle as it is.
            true => handle,
            false => {
                Places::new(parameters, &schema)?;
                let values = values::encode(&schema, &batches)?;
                let with_values = Statement { values: values.clone(), ..statement };
                // A first execution by way of trial: what doesn't fit is told to whoever sent it.
                self.describe_statement(with_values.clone(), call).await?;
                self.bound.values.insert(handle, values).await;
                self.seal.handle(with_values, &call.principal, self.clock.as_ref())
            }
        };
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(bound) };
        Ok(PutResult { app_metadata: result.encode_to_vec().into() })
    }

    /// Forgets what was bound to a handle, and remembers that it is closed; possible as often as its holder likes. What is no handle of
    /// the caller's is nothing to close, and that is no error either: drivers close what they have when a connection goes.
    pub(super) async fn close_prepared(&self, body: &[u8], call: &Call) -> Result<()> {
        let any = Any::decode(body).map_err(FlightError::Undecodable)?;
        let request: Option<ActionClosePreparedStatementRequest> =
            any.unpack().map_err(FlightError::UndecodableCommand)?;
        let request = request.ok_or_else(|| FlightError::UnknownCommand(any.type_url))?;
        let handle = request.prepared_statement_handle;
        if self.seal.open_handle(&handle, &call.principal, self.clock.as_ref()).is_ok()
            && let Some(seal) = handle.first_chunk()
        {
            self.bound.closed.insert(*seal, ()).await;
            self.bound.values.invalidate(&handle).await;
        }
        Ok(())
    }
}

/// A nullable column for each parameter, in order, made for JDBC; values of other types are taken as well.
///
/// Where the text doesn't say the type it is text: JDBC can't set what has none. Times are wanted in milliseconds, because those are
/// what JDBC writes into a column of times whatever its unit is.
fn parameter_schema(parameters: &[PlannedParameter]) -> Schema {
    let field = |parameter: &PlannedParameter| {
        let data_type = match &parameter.data_type {
            None | Some(DataType::Null) => DataType::Utf8,
            Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            Some(settled) => settled.clone(),
        };
        Field::new(format!("${}", parameter.name), data_type, true)
    };
    Schema::new(parameters.iter().map(field).collect::<Vec<_>>())
}

/// An encapsulated IPC message: continuation marker, length, schema. Go and Java refuse it without the marker.
fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(FlightError::Encode)?;
    Ok(bytes)
}
