//! Work on the CPU runtime, and its results on their way out.
//!
//! Planning and running happen on threads with large stacks that nothing else waits for. What is awaited here is
//! only a task's handle or a channel; dropping either ends the task, and with it the query.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::error::QueryError;
use super::wire::to_wire;
use crate::error::{Error, Result};

/// Batches that wait for a slow reader; the query stands still when they are not taken.
const BATCHES_WAITING: usize = 2;

/// Runs a piece of work on the CPU runtime. Dropping the future ends the work at its next pause.
///
/// # Errors
/// What the work says; `Internal` if it panics.
pub(super) async fn on_cpu<T: Send + 'static>(
    cpu: &Handle,
    work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
) -> Result<T, QueryError> {
    match AbortOnDropHandle::new(cpu.spawn(work)).await {
        Ok(result) => result,
        Err(error) => Err(ended(error)),
    }
}

/// Why a task has no result.
fn ended(error: JoinError) -> QueryError {
    match error.try_into_panic() {
        Ok(panic) => QueryError::Panicked(panic_text(panic.as_ref())),
        Err(_) => QueryError::Stopped,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
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
        if let Some(value) = self.value.take() {
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
}

impl QueryStream {
    /// Takes batches out of `plan` on the CPU runtime and brings them into the form of `schema`.
    pub(super) fn start(cpu: &Handle, schema: SchemaRef, plan: SendableRecordBatchStream) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_WAITING);
        let task = AbortOnDropHandle::new(cpu.spawn(forward(plan, SchemaRef::clone(&schema), sender)));
        Self { schema, batches, task: Some(task) }
    }

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

async fn forward(mut plan: SendableRecordBatchStream, schema: SchemaRef, sender: mpsc::Sender<Result<RecordBatch>>) {
    while let Some(batch) = plan.next().await {
        let batch = batch.and_then(|batch| Ok(to_wire(&batch, &schema)?));
        let is_last = batch.is_err();
        let taken = sender.send(batch.map_err(|error| Error::from(QueryError::from(error)))).await;
        if is_last || taken.is_err() {
            return;
        }
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
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
