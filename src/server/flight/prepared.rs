//! Prepared statements: a handle that carries its query, sealed. Nothing is kept on the server, so nothing can leak
//! or be lost with a restart, and any server of the catalog can run it.
//!
//! JDBC and Python's DB API prepare every statement, even one that runs once: this is the common way in.

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{FlightData, IpcMessage, PutResult, SchemaAsIpc};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use prost::Message;
use tonic::Status;

use super::call::Call;
use super::error::FlightError;
use super::statements::refuse_transaction;
use super::tickets::Statement;
use super::{Description, FlightService};
use crate::error::{Error, Result};

/// `is_update`, field 4 of `ActionCreatePreparedStatementResult`, which arrow-flight does not know yet. Without
/// it JDBC guesses from the columns whether to run a statement as a query.
const IS_UPDATE_FALSE: [u8; 2] = [0x20, 0x00];
const IS_UPDATE_TRUE: [u8; 2] = [0x20, 0x01];

impl FlightService {
    /// Plans a statement and hands back its handle and columns, as `google.protobuf.Any`.
    ///
    /// # Errors
    /// Whatever is wrong with the text; `Invalid` if it has parameters.
    pub(super) async fn create_prepared(
        &self,
        request: ActionCreatePreparedStatementRequest,
        call: &Call,
    ) -> Result<Bytes> {
        refuse_transaction(request.transaction_id.as_deref())?;
        let database = call.database(&self.engine)?;
        let statement = Statement { database, language: call.language, text: request.query };
        let handle = self.seal.handle(statement.clone(), self.clock.as_ref());
        let described = self.describe_statement(statement).await?;
        // Older drivers take what has columns for a query.
        let (columns, is_update) = match described.deletion {
            None => (described.schema.as_ref(), IS_UPDATE_FALSE),
            Some(_) => (&Schema::empty(), IS_UPDATE_TRUE),
        };
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle,
            dataset_schema: schema_bytes(columns)?,
            parameter_schema: schema_bytes(&Schema::empty())?,
        };
        let value = [result.encode_to_vec().as_slice(), &is_update].concat();
        let type_url = ActionCreatePreparedStatementResult::type_url().to_owned();
        Ok(Any { type_url, value: value.into() }.encode_to_vec().into())
    }

    /// Runs a prepared statement that is no query.
    ///
    /// # Errors
    /// `Unsupported` if there are values to bind; `Invalid` if it is a query; and whatever keeps it from being done.
    pub(super) async fn update_prepared(
        &self,
        command: CommandPreparedStatementUpdate,
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin,
    ) -> Result<PutResult> {
        let statement = self.seal.open_handle(&command.prepared_statement_handle, self.clock.as_ref())?;
        refuse_values(&first, rest).await?;
        self.update_by(statement).await
    }

    /// What a prepared statement will answer.
    pub(super) async fn describe_prepared(&self, command: &CommandPreparedStatementQuery) -> Result<Description> {
        self.describe_statement(self.prepared(command)?).await
    }

    /// The statement behind a handle; the database is the one it was prepared for, whatever this call's headers say.
    pub(super) fn prepared(&self, command: &CommandPreparedStatementQuery) -> Result<Statement> {
        self.seal.open_handle(&command.prepared_statement_handle, self.clock.as_ref())
    }

    /// Takes the parameters of a prepared statement, of which there can be none yet; answers with the same handle,
    /// because Java uses the returned one and Python the one it had.
    ///
    /// # Errors
    /// `Unsupported` if there are values to bind.
    pub(super) async fn bind(
        &self,
        command: CommandPreparedStatementQuery,
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin,
    ) -> Result<PutResult> {
        self.prepared(&command)?;
        refuse_values(&first, rest).await?;
        let handle = command.prepared_statement_handle;
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
        Ok(PutResult { app_metadata: result.encode_to_vec().into() })
    }
}

/// Reads the values that a client sends for parameters, of which there can be none yet.
async fn refuse_values(first: &FlightData, rest: impl Stream<Item = Result<FlightData, Status>> + Unpin) -> Result<()> {
    let mut parameters = Parameters::default();
    parameters.observe(first)?;
    let mut rest = rest.map_err(|status| Error::invalid(status.message()));
    while let Some(message) = rest.try_next().await? {
        parameters.observe(&message)?;
    }
    Ok(())
}

/// Handles are not kept, so closing one forgets nothing; it only has to be possible, as often as anyone likes.
pub(super) fn close_prepared(body: &[u8]) -> Result<()> {
    let any = Any::decode(body).map_err(FlightError::Undecodable)?;
    any.unpack::<arrow_flight::sql::ActionClosePreparedStatementRequest>().map_err(FlightError::UndecodableCommand)?;
    Ok(())
}

/// What of a stream of parameters matters: whether there are any. Java sends one row of no columns for "none".
#[derive(Debug, Default)]
struct Parameters {
    columns: usize,
}

impl Parameters {
    fn observe(&mut self, message: &FlightData) -> Result<()> {
        if message.data_header.is_empty() {
            return Ok(());
        }
        let header = arrow::ipc::root_as_message(&message.data_header)
            .map_err(|error| Error::invalid(format!("could not decode the parameters: {error}")))?;
        if let Some(schema) = header.header_as_schema() {
            self.columns = schema.fields().map_or(0, |fields| fields.len());
        }
        let rows = header.header_as_record_batch().map_or(0, |batch| batch.length());
        if self.columns > 0 && rows > 0 {
            return Err(FlightError::Unsupported("statement parameters are not supported yet").into());
        }
        Ok(())
    }
}

/// An encapsulated IPC message: continuation marker, length, schema. Go and Java refuse it without the marker.
fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(FlightError::Encode)?;
    Ok(bytes)
}
