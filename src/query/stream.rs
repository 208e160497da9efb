//! Work on the CPU runtime, and its results on their way out.
//!
//! Planning and running happen on threads with large stacks that nothing else waits for. What is awaited here is
//! only a task's handle or a channel; dropping either ends the task, and with it the query.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, poll};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{JoinError, yield_now};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::AbortOnDropHandle;

use super::error::QueryError;
use super::running::{Stop, Watch};
use super::wire::to_wire;
use crate::error::{Error, Result};

/// Batches that wait for a slow reader; the query stands still when they are not taken.
const BATCHES_WAITING: usize = 2;

/// Runs a piece of work on the CPU runtime: right here, for who is there already. Dropping the future ends the work at its next pause.
///
/// # Errors
/// What the work says; `Internal` if it panics.
pub(super) async fn on_cpu<T: Send + 'static>(
    cpu: &Handle,
    work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
) -> Result<T, QueryError> {
    if is_on(cpu) {
        return work.await;
    }
    match AbortOnDropHandle::new(cpu.spawn(work)).await {
        Ok(result) => result,
        Err(error) => Err(ended(error)),
    }
}

/// Whether this is a thread of that runtime, or acts as one.
fn is_on(cpu: &Handle) -> bool {
    Handle::try_current().is_ok_and(|here| here.id() == cpu.id())
}

/// Why a task has no result.
pub(super) fn ended(error: JoinError) -> QueryError {
    match error.try_into_panic() {
        Ok(panic) => QueryError::Panicked(panic_text(panic.as_ref())),
        Err(_) => QueryError::Stopped,
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// A value that is dropped on the CPU runtime: a deep plan takes a deep stack to free.
#[derive(Debug)]
pub(super) struct DroppedOnCpu<T: Send + 'static> {
    value: Option<T>,
    cpu: Handle,
}

impl<T: Send + 'static> DroppedOnCpu<T> {
    pub(super) fn new(value: T, cpu: &Handle) -> Self {
        Self { value: Some(value), cpu: cpu.clone() }
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    pub(super) fn take(mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T: Send + 'static> Drop for DroppedOnCpu<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take()
            && !is_on(&self.cpu)
        {
            self.cpu.spawn(async move { drop(value) });
        }
    }
}

/// Batches of exactly the schema that was announced. Dropping it ends the query and frees its memory.
///
/// After an error nothing more comes.
#[derive(Debug)]
pub struct QueryStream {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    /// `None` once it is known how the task ended.
    task: Option<AbortOnDropHandle<()>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// By what the query is ended from outside; `None` once it was.
    stop: Option<Arc<Stop>>,
}

/// The part of an answer that a stream brings.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The query that it belongs to.
    pub(super) watch: Arc<Watch>,
    /// Whether the answer is complete with it.
    pub(super) is_last: bool,
}

impl QueryStream {
    /// Takes batches out of `plan` on the CPU runtime and brings them into the form of `schema`. When the query is ended, the plan is
    /// dropped, whether somebody reads or not.
    ///
    /// Who is there already makes a small result before this returns: who waits for it is woken once then, and not for each step.
    pub(super) async fn start(
        cpu: &Handle,
        schema: SchemaRef,
        plan: SendableRecordBatchStream,
        reading: Reading,
    ) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_WAITING);
        let stop = Arc::clone(reading.watch.stop());
        let stopped = Box::pin(stop.ended());
        let mut work = Box::pin(forward(plan, SchemaRef::clone(&schema), sender, reading));
        let is_done = is_on(cpu) && poll!(&mut work).is_ready();
        let task = (!is_done).then(|| AbortOnDropHandle::new(cpu.spawn(work)));
        Self { schema, batches, task, stopped, stop: Some(stop) }
    }

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

async fn forward(
    plan: SendableRecordBatchStream,
    schema: SchemaRef,
    sender: mpsc::Sender<Result<RecordBatch>>,
    reading: Reading,
) {
    // Dropped in reverse, however this ends: the slot is free when the plan's work is done.
    let Reading { watch, is_last } = reading;
    let mut plan = plan;
    let work = async {
        for number in 0_usize.. {
            let batch = match watch.resume().await {
                Ok(()) => {
                    let Some(batch) = plan.next().await else { break };
                    let batch = batch.and_then(|batch| Ok(to_wire(&batch, &schema)?));
                    batch.map_err(|error| Error::from(QueryError::from(error)))
                }
                Err(error) => Err(error),
            };
            let has_failed = batch.is_err();
            match &batch {
                Ok(batch) => watch.rows(batch),
                Err(error) => watch.failed(error),
            }
            let is_taken = match sender.try_send(batch) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(batch)) => {
                    watch.pause();
                    sender.send(batch).await.is_ok()
                }
            };
            if !is_taken || has_failed {
                return;
            }
            if number == 1 {
                yield_now().await; // It is no small result: those that came are read while the others are made.
            }
        }
        match is_last {
            true => watch.complete(),
            // Nobody knows when the reader comes for the next part.
            false => watch.pause(),
        }
    };
    tokio::select! {
        biased;
        () = watch.stop().ended() => watch.failed(&watch.stop().error()),
        () = work => {}
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stop) = &self.stop else { return Poll::Ready(None) };
        let stop = Arc::clone(stop);
        if self.stopped.as_mut().poll(context).is_ready() {
            // What the CPU's threads are doing may take its time to end; who waits need not.
            (self.stop, self.task) = (None, None);
            return Poll::Ready(Some(Err(stop.error())));
        }
        if let Some(batch) = ready!(self.batches.poll_recv(context)) {
            return Poll::Ready(Some(batch));
        }
        // The task is over. If it did not get to its end, what came so far is not the whole result.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let end = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(end.err().map(|error| Err(Error::from(ended(error)))))
    }
}
