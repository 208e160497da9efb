//! Arrow in: batches of a client into tables, with the checks, the log and the acknowledgement of line protocol.
//!
//! | way in | answers | what is one write |
//! |---|---|---|
//! | `CommandStatementIngest` | once, with the count of all rows | up to [`GATHERED_BYTES_MAX`]; what is larger is written in parts as it comes |
//! | a path, `[table]` or `[database, table]` | once for each batch, when it is durable and visible | a batch |
//!
//! Always true: of a batch that is refused, nothing is stored, and no table or column is made for it.
//!
//! Not here: how columns become tags and fields (`model::arrow_rows`).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::Semaphore;
use tonic::Status;

use super::call::Call;
use super::error::FlightError;
use super::incoming::{Incoming, Received};
use super::statements::{refuse_transaction, update_result};
use super::{Answers, FlightService};
use crate::engine::{Durability, Engine, HardDelete};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    Action, ArrowColumns, DatabaseName, Rows, TableName, TableRows, TableSchema, Timestamp, batch_bytes,
};
use crate::query::{Asker, CATALOG, TABLE_SCHEMA};
use crate::server::limits::Limits;
use crate::server::status;
use crate::telemetry::Telemetry;

/// Bytes of batches that are gathered into one write.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// How often a batch is fitted to a schema that moves under it before the client is told to try later.
const ATTEMPTS_MAX: usize = 5;

/// The option of `CommandStatementIngest` with the names of the columns that are tags.
const TAGS_OPTION: &str = "tags";

/// What writing needs.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) engine: Arc<Engine>,
    pub(super) telemetry: Arc<Telemetry>,
    /// Bounds the memory of writes, those of HTTP included.
    pub(super) slots: Arc<Semaphore>,
    /// Bounds what one token writes in a second.
    pub(super) limits: Arc<Limits>,
}

/// Where batches go.
#[derive(Debug, Clone)]
struct Destination {
    /// Who writes.
    asker: Asker,
    database: DatabaseName,
    table: TableName,
    /// The columns that are said to be tags, if anything is said.
    tags: Option<Vec<String>>,
}

impl Destination {
    /// # Errors
    /// `Forbidden` if the caller may not write there, or not make the database.
    fn check(&self, call: &Call, engine: &Engine) -> Result<()> {
        call.principal.require_on_table(Action::Write, &self.database, self.table.as_str())?;
        if !engine.database_exists(&self.database) {
            call.principal.require(Action::Create, &self.database)?;
        }
        Ok(())
    }
}

/// What becomes of the table before the first row.
#[derive(Debug, Clone, Copy)]
struct Definition {
    create: bool,
    if_exists: TableExistsOption,
}

impl FlightService {
    /// Runs `CommandStatementIngest`.
    ///
    /// # Errors
    /// `Invalid` for options that are missing and for batches that don't fit, `Conflict` or `NotFound` if the table is there, or
    /// not, against the options, and whatever keeps rows from being stored.
    pub(super) async fn ingest(
        &self,
        command: CommandStatementIngest,
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        call: &Call,
    ) -> Result<PutResult> {
        let definition = definition(&command)?;
        let tags = command.options.get(TAGS_OPTION).map(|names| super::call::names(names));
        let to = Destination {
            asker: call.principal.asker(),
            database: call.database(&self.engine)?,
            table: table_name(&command.table)?,
            tags: tags.or_else(|| call.tags.clone()),
        };
        to.check(call, &self.engine)?;
        if definition.if_exists == TableExistsOption::Replace {
            call.principal.require_on_table(Action::Delete, &to.database, to.table.as_str())?;
        }
        let mut incoming = Incoming::new(first, rest);
        let (mut gathered, mut bytes, mut count, mut begun) = (Vec::new(), 0, 0, false);
        loop {
            let received = incoming.next().await?;
            let is_last = received.is_none();
            if let Some(Received { batch, .. }) = received {
                bytes += batch_bytes(&batch);
                gathered.push(batch);
            }
            if !is_last && bytes < GATHERED_BYTES_MAX {
                continue;
            }
            let schema = incoming.schema().ok_or(FlightError::Message("there is none: the stream has no schema"))?;
            let batch = concat_batches(&schema, &std::mem::take(&mut gathered))
                .map_err(|error| Error::with_source(ErrorKind::Invalid, "could not put the batches together", error))?;
            if !std::mem::replace(&mut begun, true) {
                self.writer.define(&to, definition, &batch).await?;
            }
            count += self.writer.write(&to, batch).await?;
            bytes = 0;
            if is_last {
                return Ok(update_result(Some(count)));
            }
        }
    }

    /// Stores batches that come with a path; answers each when it is stored, with what the client sent along with it, or if that
    /// is nothing with the number of rows stored so far.
    ///
    /// # Errors
    /// `Invalid` for a path of more than a database and a table.
    pub(super) fn put_batches(
        &self,
        path: &[String],
        first: FlightData,
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin + Send + 'static,
        call: &Call,
    ) -> Result<Answers<PutResult>> {
        let (database, table) = self.table_of_path(path, call)?;
        let (asker, table) = (call.principal.asker(), table_name(table)?);
        let to = Destination { asker, database, table, tags: call.tags.clone() };
        to.check(call, &self.engine)?;
        let batches = Batches { writer: self.writer.clone(), to, incoming: Incoming::new(first, rest), stored: 0 };
        let answers = stream::unfold(Some(batches), |batches| async {
            let mut batches = batches?;
            match batches.store_next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(batches))),
                Ok(None) => None,
                Err(error) => Some((Err(status::grpc(&error)), None)),
            }
        });
        Ok(answers.boxed())
    }
}

/// Batches that are stored and answered one by one.
struct Batches<S> {
    writer: Writer,
    to: Destination,
    incoming: Incoming<S>,
    /// Rows stored so far.
    stored: u64,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> Batches<S> {
    async fn store_next(&mut self) -> Result<Option<PutResult>> {
        let Some(Received { batch, app_metadata }) = self.incoming.next().await? else { return Ok(None) };
        self.stored += self.writer.write(&self.to, batch).await?;
        let app_metadata = if app_metadata.is_empty() { Bytes::from(self.stored.to_string()) } else { app_metadata };
        Ok(Some(PutResult { app_metadata }))
    }
}

impl Writer {
    /// Brings the table into the state that the options ask for. A first batch that doesn't fit changes nothing.
    async fn define(&self, to: &Destination, definition: Definition, first: &RecordBatch) -> Result<()> {
        let exists = self.engine.table_schema(&to.database, to.table.as_str()).is_some();
        match (exists, definition.if_exists) {
            (true, TableExistsOption::Append) => return Ok(()),
            (true, TableExistsOption::Replace) => {}
            (true, _) => {
                return Err(Error::new(ErrorKind::Conflict, format!("table '{}' already exists", to.table)));
            }
            (false, _) if !definition.create => {
                return Err(Error::not_found(format!("table not found: {}", to.table)));
            }
            // The write makes it, if there is one.
            (false, TableExistsOption::Append) if first.num_rows() > 0 => return Ok(()),
            (false, _) => {}
        }
        let fitted = fit(to, None, first.clone(), self.engine.arrival_times(0)).await?;
        if exists {
            self.engine.delete_table(&to.database, &to.table, HardDelete::Default).await?;
        }
        self.engine.create_table(&to.database, &to.table, fitted.schema, None).await
    }

    /// Stores a batch as one write. Returns how many rows it has, when they are durable and visible.
    async fn write(&self, to: &Destination, batch: RecordBatch) -> Result<u64> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(0);
        }
        // Not refused: what came before in this stream is stored already, and a client that isn't read from waits by itself.
        self.limits.write_in_turn(&to.asker, batch_bytes(&batch), rows).await;
        let _slot = self.slots.acquire().await.map_err(|_| Error::internal("write slots were closed"))?;
        let first_time = self.engine.arrival_times(rows);
        let mut attempt = 0;
        loop {
            let known = self.engine.table_schema(&to.database, to.table.as_str());
            let fitted = Rows { tables: vec![fit(to, known, batch.clone(), first_time).await?] };
            let bytes = fitted.byte_count() as u64;
            match self.engine.write(&to.database, fitted, Durability::Synced).await {
                Ok(_) => {
                    self.telemetry.write(to.database.as_str(), rows as u64, 0, bytes);
                    return Ok(rows as u64);
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt + 1 < ATTEMPTS_MAX => attempt += 1,
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let message = "the schema kept changing during the write; try again";
                    return Err(Error::with_source(ErrorKind::Unavailable, message, error));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The batch as rows of its table, which looks like `known` if there is one. Made where nobody waits for the network.
async fn fit(
    to: &Destination,
    known: Option<Arc<TableSchema>>,
    batch: RecordBatch,
    first_time: Timestamp,
) -> Result<TableRows> {
    let (tags, table) = (to.tags.clone(), to.table.clone());
    let fitted = tokio::task::spawn_blocking(move || -> Result<TableRows> {
        let columns = ArrowColumns::new(&batch.schema(), known.as_deref(), tags.as_deref())?;
        let batch = columns.rows(&batch, first_time)?;
        Ok(TableRows { table, schema: columns.schema().clone(), batch })
    });
    fitted
        .await
        .map_err(|error| Error::with_source(ErrorKind::Internal, "fitting a batch to its table was cut off", error))?
}

fn table_name(name: &str) -> Result<TableName> {
    TableName::new(name).map_err(|error| Error::invalid(error.to_string()))
}

/// What the options say, where they say something that can be done.
fn definition(command: &CommandStatementIngest) -> Result<Definition, FlightError> {
    refuse_transaction(command.transaction_id.as_deref())
        .map_err(|_| FlightError::Unsupported("transactions are not supported"))?;
    if command.temporary {
        return Err(FlightError::Unsupported("temporary tables are not supported"));
    }
    let is = |name: &Option<String>, only: &str| name.as_deref().is_none_or(|name| name.is_empty() || name == only);
    if !is(&command.catalog, CATALOG) || !is(&command.schema, TABLE_SCHEMA) {
        return Err(FlightError::Place);
    }
    let options = command.table_definition_options.as_ref().ok_or(FlightError::TableDefinition)?;
    let create = match options.if_not_exist() {
        TableNotExistOption::Create => true,
        TableNotExistOption::Fail => false,
        TableNotExistOption::Unspecified => return Err(FlightError::TableDefinition),
    };
    match options.if_exists() {
        TableExistsOption::Unspecified => Err(FlightError::TableDefinition),
        if_exists => Ok(Definition { create, if_exists }),
    }
}
