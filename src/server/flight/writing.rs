//! Groups of batches become writes: in the order in which they came, several at a time.
//!
//! ```text
//! groups ─▶ admit: slot, bytes ─▶ fit: columns      ─▶ submit: catalog, log ─▶ stored: durable and visible
//!           one after the other   up to FITTED_AHEAD   one after the other    up to UNDERWAY_MAX, told in order
//! ```
//!
//! Always true:
//! - what is told to be stored is durable and visible, and so is everything before it;
//! - after the first group that can't be stored nothing more is submitted; who made it is told which batch it was;
//! - what one stream has under way is at most [`STREAM_BYTES_MAX`] and a group, and takes a slot for each write, as line protocol does;
//! - no slot waits for the client.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::{Durability, Engine, Submitted};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    Action, ArrowColumns, DatabaseName, RefusedBatch, Rows, TableName, TableRows, TableSchema, Timestamp, batch_bytes,
};
use crate::query::Asker;
use crate::server::limits::Limits;
use crate::telemetry::Telemetry;

use super::call::Call;

/// Groups that are being fitted to their table, or wait for the one before them to be submitted.
const FITTED_AHEAD: usize = 2;

/// Writes of one stream that the log has and that are not durable yet. They share syncs.
const UNDERWAY_MAX: usize = 16;

/// Bytes that one stream may have under way; a larger group waits until it is alone.
const STREAM_BYTES_MAX: usize = 64 << 20;

/// One permit of a stream's bytes stands for so many.
const PERMIT_BYTES: usize = 1024;

/// How often a group is fitted to a schema that moves under it before the client is told to try later.
const ATTEMPTS_MAX: usize = 5;

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
pub(super) struct Destination {
    /// Who writes.
    pub(super) asker: Asker,
    pub(super) database: DatabaseName,
    pub(super) table: TableName,
    /// The columns that are said to be tags, if anything is said.
    pub(super) tags: Option<Vec<String>>,
}

impl Destination {
    /// # Errors
    /// `Forbidden` if the caller may not write there, or not make the database.
    pub(super) fn check(&self, call: &Call, engine: &Engine) -> Result<()> {
        call.principal.require_on_table(Action::Write, &self.database, self.table.as_str())?;
        if !engine.database_exists(&self.database) {
            call.principal.require(Action::Create, &self.database)?;
        }
        Ok(())
    }
}

/// Batches of one schema that become one write.
#[derive(Debug)]
pub(super) struct Group<T> {
    /// The number of the first one in its stream, from 1.
    pub(super) first: u64,
    pub(super) batches: Arc<[RecordBatch]>,
    /// Whether nothing is stored if one of them can't be; else those before it are.
    pub(super) is_whole: bool,
    /// Bytes of the batches, and of what else is kept of their messages.
    pub(super) bytes: usize,
    /// What comes back when they are stored.
    pub(super) token: T,
}

/// What became of a group.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    /// The rows of each batch that is stored, from the first one on.
    pub(super) rows: Vec<u64>,
    /// What the group had; none if there was no group, because the stream broke.
    pub(super) token: Option<T>,
    /// Why not all of it is stored. Then there is no further group.
    pub(super) error: Option<Error>,
}

/// A group whose turn has come.
struct Admitted<T> {
    group: Group<T>,
    /// The time of its first row, if they bring none.
    first_time: Timestamp,
    /// Its slot and its share of the stream's bytes, given back when the write is stored.
    permits: [OwnedSemaphorePermit; 2],
}

/// Batches that can't be rows of their table.
struct Unfit {
    /// Which of them can't, from 0, if it is not all.
    batch: Option<usize>,
    error: Error,
}

impl From<Error> for Unfit {
    fn from(error: Error) -> Self {
        Self { batch: None, error }
    }
}

impl From<RefusedBatch> for Unfit {
    fn from(refused: RefusedBatch) -> Self {
        Self { batch: Some(refused.batch), error: refused.error.into() }
    }
}

/// A group that the log has.
struct Underway<T> {
    submitted: Option<(Submitted, u64)>,
    outcome: Outcome<T>,
    first: u64,
    _permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl Writer {
    /// Stores groups; says of each what became of it, in their order, and ends after the first that can't be stored. Dropping this stops
    /// it: what was submitted is stored, and nothing else.
    pub(super) fn store<T: Send>(
        &self,
        to: Destination,
        groups: impl Stream<Item = Result<Group<T>>> + Send,
    ) -> impl Stream<Item = Outcome<T>> + Send {
        let room = Arc::new(Semaphore::new(STREAM_BYTES_MAX / PERMIT_BYTES));
        let to = Arc::new(to);
        let (admitting, admitting_to) = (self.clone(), Arc::clone(&to));
        let (fitting, fitting_to) = (self.clone(), Arc::clone(&to));
        let (submitting, finishing, finishing_to) = (self.clone(), self.clone(), Arc::clone(&to));
        groups
            // In their order: what one group has and waits with for its turn must not be what the one before it waits for.
            .then(move |group| {
                let (writer, to, room) = (admitting.clone(), Arc::clone(&admitting_to), Arc::clone(&room));
                async move { writer.admit(&to, room, group?).await }
            })
            .map(move |admitted| {
                let (writer, to) = (fitting.clone(), Arc::clone(&fitting_to));
                async move {
                    let admitted = admitted?;
                    let rows = writer.fit(&to, &admitted.group.batches, admitted.first_time).await;
                    Ok((admitted, rows))
                }
            })
            .buffered(FITTED_AHEAD)
            .then(move |fitted| {
                let (writer, to) = (submitting.clone(), Arc::clone(&to));
                async move {
                    match fitted {
                        Ok((admitted, rows)) => writer.submit(&to, admitted, rows).await,
                        Err(error) => Underway::without_group(error),
                    }
                }
            })
            .scan(false, |has_failed, underway| {
                let is_over = std::mem::replace(has_failed, underway.outcome.error.is_some());
                std::future::ready((!is_over).then_some(underway))
            })
            .map(move |underway| {
                let (writer, to) = (finishing.clone(), Arc::clone(&finishing_to));
                async move { writer.finish(&to, underway).await }
            })
            .buffered(UNDERWAY_MAX)
    }

    async fn admit<T>(&self, to: &Destination, room: Arc<Semaphore>, group: Group<T>) -> Result<Admitted<T>> {
        // Not refused: what came before in this stream is stored already, and a client that isn't read from waits by itself.
        self.limits.write_in_turn(&to.asker, group.bytes, row_count(&group.batches)).await;
        let closed = |_| Error::internal("write slots were closed");
        let permits = group.bytes.div_ceil(PERMIT_BYTES).clamp(1, STREAM_BYTES_MAX / PERMIT_BYTES);
        let room = room.acquire_many_owned(u32::try_from(permits).unwrap_or(u32::MAX)).await.map_err(closed)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(closed)?;
        let first_time = self.engine.arrival_times(row_count(&group.batches));
        Ok(Admitted { group, first_time, permits: [slot, room] })
    }

    /// The batches as rows of their table as it is now. Made where nobody waits for the network.
    async fn fit(
        &self,
        to: &Destination,
        batches: &Arc<[RecordBatch]>,
        first_time: Timestamp,
    ) -> Result<TableRows, Unfit> {
        let known = self.engine.table_schema(&to.database, to.table.as_str());
        let (tags, table, batches) = (to.tags.clone(), to.table.clone(), Arc::clone(batches));
        let fitted =
            tokio::task::spawn_blocking(move || fit(table, known.as_deref(), tags.as_deref(), &batches, first_time));
        fitted.await.map_err(|error| {
            Error::with_source(ErrorKind::Internal, "fitting batches to their table was cut off", error)
        })?
    }

    async fn submit<T>(
        &self,
        to: &Destination,
        admitted: Admitted<T>,
        mut rows: Result<TableRows, Unfit>,
    ) -> Underway<T> {
        let Admitted { group, first_time, permits } = admitted;
        let Group { first, mut batches, is_whole, token, .. } = group;
        let (mut refused, mut attempt) = (None, 0);
        let (submitted, error) = loop {
            let error = match rows {
                _ if row_count(&batches) == 0 && refused.is_some() => break (None, refused),
                Ok(rows) if rows.batch.num_rows() == 0 => break (None, refused),
                Ok(rows) => {
                    let rows = Rows { tables: vec![rows] };
                    let bytes = rows.byte_count() as u64;
                    match self.engine.submit(&to.database, rows, Durability::Synced).await {
                        Ok(submitted) => break (Some((submitted, bytes)), refused),
                        Err(error) => error,
                    }
                }
                Err(Unfit { batch: Some(batch), error }) if !is_whole && batch > 0 => {
                    refused = Some(error.about(&numbered(first + batch as u64)));
                    batches = batches[..batch].into();
                    rows = self.fit(to, &batches, first_time).await;
                    continue;
                }
                Err(Unfit { batch, error }) => {
                    batches = Arc::from([]);
                    break (None, Some(error.about(&numbered(first + batch.unwrap_or(0) as u64))));
                }
            };
            if error.kind() != ErrorKind::Conflict || attempt + 1 == ATTEMPTS_MAX {
                let is_conflict = error.kind() == ErrorKind::Conflict;
                let message = "the schema kept changing during the write; try again";
                let moved = |error| Error::with_source(ErrorKind::Unavailable, message, error);
                batches = Arc::from([]);
                break (None, Some(if is_conflict { moved(error) } else { error }.about(&numbered(first))));
            }
            attempt += 1;
            rows = self.fit(to, &batches, first_time).await;
        };
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).collect();
        let outcome = Outcome { rows, token: Some(token), error };
        Underway { submitted, outcome, first, _permits: Some(permits) }
    }

    async fn finish<T>(&self, to: &Destination, underway: Underway<T>) -> Outcome<T> {
        let Underway { submitted, mut outcome, first, _permits } = underway;
        let Some((submitted, bytes)) = submitted else { return outcome };
        match submitted.stored().await {
            Ok(_) => self.telemetry.write(to.database.as_str(), outcome.rows.iter().sum(), 0, bytes),
            Err(error) => {
                outcome.rows.clear();
                outcome.error = Some(error.about(&numbered(first)));
            }
        }
        outcome
    }
}

impl<T> Underway<T> {
    fn without_group(error: Error) -> Self {
        let outcome = Outcome { rows: Vec::new(), token: None, error: Some(error) };
        Self { submitted: None, outcome, first: 0, _permits: None }
    }
}

fn fit(
    table: TableName,
    known: Option<&TableSchema>,
    tags: Option<&[String]>,
    batches: &[RecordBatch],
    first_time: Timestamp,
) -> Result<TableRows, Unfit> {
    let Some(first) = batches.first() else { return Err(Error::internal("a write without a batch").into()) };
    let columns = ArrowColumns::new(&first.schema(), known, tags).map_err(Error::from)?;
    let batch = columns.rows_of(batches, first_time)?;
    Ok(TableRows { table, schema: columns.schema().clone(), batch })
}

/// The columns that the table gets if it is made for these rows.
///
/// # Errors
/// `Invalid` for what can't be rows of a table.
pub(super) async fn schema_of(
    to: &Destination,
    batches: Vec<RecordBatch>,
    first_time: Timestamp,
) -> Result<TableSchema> {
    let (table, tags) = (to.table.clone(), to.tags.clone());
    let fitted = tokio::task::spawn_blocking(move || {
        fit(table, None, tags.as_deref(), &batches, first_time).map(|rows| rows.schema)
    });
    let cut_off = |error| Error::with_source(ErrorKind::Internal, "fitting batches to their table was cut off", error);
    fitted.await.map_err(cut_off)?.map_err(|Unfit { batch, error }| match batch {
        Some(batch) => error.about(&numbered(batch as u64 + 1)),
        None => error,
    })
}

/// Bytes of a batch, with what came along with it.
pub(super) fn received_bytes(batch: &RecordBatch, app_metadata: &[u8]) -> usize {
    batch_bytes(batch) + app_metadata.len()
}

fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

fn numbered(batch: u64) -> String {
    format!("batch {batch} of the stream")
}
