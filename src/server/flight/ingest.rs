//! Arrow in: batches of a client into tables, with the checks, the log and the acknowledgement of line protocol.
//!
//! | way in | answers | what is one write |
//! |---|---|---|
//! | `CommandStatementIngest` | once, with the count of all rows | up to [`GATHERED_BYTES_MAX`]; what is larger is written in parts as it comes |
//! | a path, `[table]` or `[database, table]` | once for each batch, when it is durable and visible | a batch, or small ones that have come already |
//!
//! Always true: of a batch that is refused, nothing is stored, and no table or column is made for it.
//!
//! Not here: how batches get from here to the log (`writing`), and how columns become tags and fields (`model::arrow_rows`).

use std::task::{Poll, ready};

use arrow::array::RecordBatch;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use arrow_flight::{FlightData, PutResult};
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::call::Call;
use super::error::FlightError;
use super::incoming::{Incoming, Received};
use super::statements::{refuse_transaction, update_result};
use super::writing::{Destination, Group, Outcome, Writer, received_bytes, schema_of};
use super::{Answers, FlightService};
use crate::engine::HardDelete;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, TableName};
use crate::query::{CATALOG, TABLE_SCHEMA};
use crate::server::status;

/// Bytes of batches that an ingest gathers into one write.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// Bytes up to which small batches that have come already are one write. A larger one costs the same alone.
const TOGETHER_BYTES_MAX: usize = 2 << 20;

/// Groups whose answers wait for a client that doesn't read them, until it is read from no more.
const UNREAD_ANSWERS_MAX: usize = 64;

/// The option of `CommandStatementIngest` with the names of the columns that are tags.
const TAGS_OPTION: &str = "tags";

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
        rest: impl Stream<Item = Result<FlightData, Status>> + Unpin + Send,
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
        let mut gathering = Gathering { incoming: Incoming::new(first, rest), next: 1 };
        let begin = gathering.next_group().await?;
        let schema =
            gathering.incoming.schema().ok_or(FlightError::Message("there is none: the stream has no schema"))?;
        let batches = match &begin {
            Some(group) => group.batches.to_vec(),
            None => vec![RecordBatch::new_empty(schema)],
        };
        self.writer.define(&to, definition, batches).await?;
        let rest = stream::try_unfold(gathering, |mut gathering| async {
            Ok(gathering.next_group().await?.map(|group| (group, gathering)))
        });
        let groups = stream::iter(begin.map(Ok)).chain(rest);
        let mut outcomes = std::pin::pin!(self.writer.store(to, groups));
        let mut count = 0;
        while let Some(Outcome { rows, error, .. }) = outcomes.next().await {
            if let Some(error) = error {
                return Err(error);
            }
            count += rows.iter().sum::<u64>();
        }
        Ok(update_result(Some(count)))
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
        let (answers, mut received) = mpsc::channel(UNREAD_ANSWERS_MAX + 1);
        let batches = Batches { incoming: Incoming::new(first, rest), next: 1, answers: answers.clone(), broken: None };
        // A task of its own: what is under way holds slots, and goes on whether or not the client reads its answers.
        let mut storing = AbortOnDropHandle::new(tokio::spawn(self.writer.clone().put(to, batches, answers)));
        let mut has_ended = false;
        let answers = stream::poll_fn(move |context| {
            if has_ended {
                return Poll::Ready(None);
            }
            if let Some(answer) = ready!(received.poll_recv(context)) {
                return Poll::Ready(Some(answer));
            }
            let ended = ready!(storing.poll_unpin(context));
            has_ended = true;
            let cut_off = |error| Error::with_source(ErrorKind::Internal, "storing batches was cut off", error);
            Poll::Ready(ended.map_err(cut_off).err().map(|error| Err(status::grpc(&error))))
        });
        Ok(answers.map_ok(|answers| stream::iter(answers.into_iter().map(Ok))).try_flatten().boxed())
    }
}

/// What is answered for one group.
type GroupAnswers = Result<Vec<PutResult>, Status>;

/// The batches of an ingest.
struct Gathering<S> {
    incoming: Incoming<S>,
    /// The number of the next batch.
    next: u64,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> Gathering<S> {
    /// As many batches as become one write; `None` at the end.
    async fn next_group(&mut self) -> Result<Option<Group<()>>> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < GATHERED_BYTES_MAX {
            let Some(Received { batch, .. }) = self.incoming.next().await? else { break };
            bytes += received_bytes(&batch, &[]);
            batches.push(batch);
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let first = self.next;
        self.next += batches.len() as u64;
        Ok(Some(Group { first, batches: batches.into(), is_whole: true, bytes, token: () }))
    }
}

/// Batches that are answered one by one.
struct Batches<S> {
    incoming: Incoming<S>,
    /// The number of the next batch.
    next: u64,
    answers: Sender<GroupAnswers>,
    /// What is wrong with what came after the last group.
    broken: Option<Error>,
}

/// What each batch of a group is answered with, and the place for these answers.
struct Promised {
    app_metadata: Vec<Bytes>,
    place: OwnedPermit<GroupAnswers>,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> Batches<S> {
    /// The next batch, with those that have come already if they are small; `None` at the end, or if nobody waits for answers.
    async fn next_group(&mut self) -> Result<Option<Group<Promised>>> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let Ok(place) = self.answers.clone().reserve_owned().await else { return Ok(None) };
        let Some(Received { batch, app_metadata }) = self.incoming.next().await? else { return Ok(None) };
        let mut bytes = received_bytes(&batch, &app_metadata);
        let (mut batches, mut app_metadata) = (vec![batch], vec![app_metadata]);
        while bytes < TOGETHER_BYTES_MAX {
            match self.incoming.next_at_hand() {
                None => break,
                Some(Ok(received)) => {
                    bytes += received_bytes(&received.batch, &received.app_metadata);
                    batches.push(received.batch);
                    app_metadata.push(received.app_metadata);
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        let first = self.next;
        self.next += batches.len() as u64;
        let token = Promised { app_metadata, place };
        Ok(Some(Group { first, batches: batches.into(), is_whole: false, bytes, token }))
    }
}

impl Writer {
    /// Stores batches and answers each.
    async fn put<S>(self, to: Destination, batches: Batches<S>, answers: Sender<GroupAnswers>)
    where
        S: Stream<Item = Result<FlightData, Status>> + Unpin + Send,
    {
        // Kept for the error that may come, so that it finds room whatever the client reads.
        let Ok(last) = answers.reserve_owned().await else { return };
        let groups = stream::try_unfold(batches, |mut batches| async {
            Ok(batches.next_group().await?.map(|group| (group, batches)))
        });
        let mut outcomes = std::pin::pin!(self.store(to, groups));
        let mut stored = 0;
        while let Some(Outcome { rows, token, error }) = outcomes.next().await {
            if let Some(Promised { app_metadata, place }) = token {
                let answer = |(rows, app_metadata): (u64, Bytes)| {
                    stored += rows;
                    let is_said = !app_metadata.is_empty();
                    let app_metadata = if is_said { app_metadata } else { Bytes::from(stored.to_string()) };
                    PutResult { app_metadata }
                };
                place.send(Ok(rows.into_iter().zip(app_metadata).map(answer).collect()));
            }
            if let Some(error) = error {
                last.send(Err(status::grpc(&error)));
                return;
            }
        }
    }

    /// Brings the table into the state that the options ask for. A first batch that doesn't fit changes nothing.
    async fn define(&self, to: &Destination, definition: Definition, first: Vec<RecordBatch>) -> Result<()> {
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
            (false, TableExistsOption::Append) if first.iter().any(|batch| batch.num_rows() > 0) => return Ok(()),
            (false, _) => {}
        }
        let schema = schema_of(to, first, self.engine.arrival_times(0)).await?;
        if exists {
            self.engine.delete_table(&to.database, &to.table, HardDelete::Default).await?;
        }
        self.engine.create_table(&to.database, &to.table, schema, None).await
    }
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
