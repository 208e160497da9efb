//! The write-ahead log: a write is durable once it is here.
//!
//! Writes gather while the disk is busy with the group before them; one frame then holds the whole group, one sync makes
//! it safe, and every writer is told. Segments are files of such frames, one after the other. They go when all they hold
//! is in Parquet.
//!
//! Always true:
//! - a write is acknowledged as durable only after a sync that covers it, in a file whose header and directory entry were
//!   synced before;
//! - writes are published in the order of their sequences, each after it is as durable as its writer asked for, and
//!   before its writer is told; a write whose group failed is never published;
//! - a torn tail is cut off at the start; damage anywhere before it stops the start and names file and offset;
//! - a file is not synced again after a failed sync.
//!
//! An error means *unknown*: a write that was refused may still come back after a restart, if the disk kept what it
//! said it could not keep. Writing it again is safe.
//!
//! Not here: when a table's writes are in Parquet (`engine::buffer` calls [`Wal::release`]), and which replayed writes
//! are in Parquet already (the replay hands out all that is there; the engine knows by the catalog what to skip, and
//! releases it once the log is open).
//!
//! Two kinds: files of a disk, as told here, and objects of a store (see [`objects`]), for servers without a disk to rely on.
//!
//! Reading order: `segment` the bytes, `record` one write, `log` the files, `replay` the start, `writer` the thread; then
//! `replicated` for two places, `store_disk` for one in a store, and `objects`.

mod disk;
mod error;
mod log;
pub mod objects;
mod record;
mod replay;
mod replicated;
mod segment;
mod store_disk;
#[cfg(test)]
mod tests;
mod writer;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Sleep;
use uuid::Uuid;

pub use disk::{Disk, DiskFile, MemoryDisk, RealDisk};
pub use error::WalError;
pub use log::SegmentLog;
pub use record::{EncodedRecord, RecordEntry, RecordFault, WriteRecord};
pub use replicated::ReplicatedDisk;
pub use store_disk::StoreDisk;

use crate::clock::Clock;
use crate::error::Result;
use crate::model::{Sequence, TableId};
use objects::{ObjectLog, ObjectLogSettings, ObjectWriter};
use writer::{Message, WaitingWrite, Writer};

/// What a writer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The write survives a power cut.
    Synced,
    /// The write survives the end of the process. A power cut within about a second may take it.
    Unsynced,
}

/// How much the log gathers and keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSettings {
    /// A segment of at least this size gets no further frame. Smaller segments go sooner, larger ones are fewer files.
    pub segment_bytes: u64,
    /// Encoded bytes of all writes that wait for the disk. At the limit `append` waits. Counted in KiB, each write at least
    /// one; a larger write waits until it is alone. At most 4 TiB.
    pub queue_bytes_max: usize,
    /// A group that has reached this size takes no further write.
    pub group_bytes_max: usize,
    /// Writes without durability are synced when no write came for this long, and at the latest after a second.
    pub unsynced_delay: Duration,
    /// After so long without anything to do the log says that its newest write is safe. A writer that waits for each answer and
    /// writes again is faster, so that it doesn't pay for a mark each time.
    pub mark_delay: Duration,
}

impl Default for WalSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            segment_bytes: 64 * MIB as u64,
            queue_bytes_max: 256 * MIB,
            group_bytes_max: 64 * MIB,
            unsynced_delay: Duration::from_millis(100),
            mark_delay: Duration::from_millis(20),
        }
    }
}

/// What the log has done since it was opened, and its size now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalMetrics {
    /// Bytes of all frames that were appended.
    pub bytes_appended: u64,
    /// Groups of writes that were appended.
    pub groups: u64,
    /// Writes that were appended.
    pub records: u64,
    /// Syncs of segments that succeeded, those of new headers included.
    pub syncs: u64,
    /// Writes, syncs and new segments that the disk refused.
    pub failures: u64,
    /// Segments on disk now.
    pub segments: u64,
    /// Bytes of all segments on disk now.
    pub bytes_on_disk: u64,
}

/// Called on the commit thread for each write that is stored, in the order of sequences.
pub type Publish = Box<dyn Fn(Sequence, &WriteRecord) + Send>;

/// One permit of the queue stands for so many bytes.
const PERMIT_BYTES: usize = 1024;

/// The write-ahead log of one server.
///
/// Dropping it ends the commit thread after the writes that wait, and syncs them, but does not wait for that.
#[derive(Debug)]
pub struct Wal {
    messages: Messages,
    /// How long a writer waits, where that is not for ever.
    patience: Option<Duration>,
    queue: Arc<Semaphore>,
    queue_permits: u32,
    shared: Arc<Shared>,
}

/// The way to the commit thread or task.
#[derive(Debug)]
enum Messages {
    Disk(mpsc::Sender<Message>),
    Store(tokio::sync::mpsc::UnboundedSender<Message>),
}

impl Messages {
    /// Says whether there is anybody to take it.
    fn send(&self, message: Message) -> bool {
        match self {
            Self::Disk(sender) => sender.send(message).is_ok(),
            Self::Store(sender) => sender.send(message).is_ok(),
        }
    }
}

/// What the commit thread tells everyone.
#[derive(Debug, Default)]
struct Shared {
    metrics: Mutex<WalMetrics>,
    /// Puts of objects that failed.
    failures: AtomicU64,
    /// What the store said of the newest put that failed; None once one succeeds.
    last_failure: Mutex<Option<String>>,
    next_sequence: AtomicU64,
    /// Another process has the log.
    taken_over: AtomicBool,
    /// The thread ended in order.
    finished: AtomicBool,
}

impl Shared {
    fn update(&self, log: &SegmentLog) {
        *self.metrics.lock() = log.metrics();
        self.next_sequence.store(log.next_sequence().get(), Ordering::Release);
    }

    /// Why nobody answers any more.
    fn gone(&self) -> WalError {
        if self.finished.load(Ordering::Acquire) { WalError::Closed } else { WalError::Stopped }
    }
}

impl Wal {
    /// Replays the log, then starts its commit thread.
    ///
    /// `replay` gets every record that is there, in order, those that are in Parquet already included; its error stops the
    /// start. No sequence below `first` is given to a write. `publish` is called on the commit thread for each write
    /// that is stored, in the order of sequences, before its writer is told; it must be quick and must not wait for
    /// another write.
    ///
    /// # Errors
    /// Kind `Corrupt` if the log is damaged, has a gap or belongs to another catalog; `Unavailable` if the disk does not
    /// answer; `Unsupported` if a later version wrote it; and the error of `replay`.
    pub fn open(
        settings: WalSettings,
        disk: Arc<dyn Disk>,
        catalog: Uuid,
        first: Sequence,
        clock: Arc<dyn Clock>,
        replay: &mut dyn FnMut(Sequence, WriteRecord) -> Result<()>,
        publish: Publish,
    ) -> Result<Self> {
        let log = SegmentLog::open(disk, settings.segment_bytes, catalog, first, Arc::clone(&clock), replay)?;
        let shared = Arc::new(Shared::default());
        shared.update(&log);
        let queue_permits = permits_for(settings.queue_bytes_max);
        let (sender, messages) = mpsc::channel();
        let writer = Writer {
            log,
            settings,
            clock,
            messages,
            held: None,
            unsynced_since: None,
            publish,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name("wal-commit".to_owned()).spawn(move || writer.run());
        thread.map_err(WalError::Thread)?;
        Ok(Self::over(Messages::Disk(sender), None, queue_permits, shared))
    }

    /// Ends and replays what earlier starts left in the store, then starts the commit task on the current runtime.
    ///
    /// As [`Wal::open`], but that every write waits until it is as durable as the store makes it, and is told after the
    /// patience of the settings that the outcome is unknown.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub async fn open_in_store(
        settings: ObjectLogSettings,
        log: ObjectLog,
        first: Sequence,
        clock: Arc<dyn Clock>,
        replay: &mut (dyn FnMut(Sequence, WriteRecord) -> Result<()> + Send),
        publish: Publish,
    ) -> Result<Self> {
        let recovered = objects::recover(&log, clock.as_ref(), replay).await?;
        let shared = Arc::new(Shared::default());
        let next = recovered.next.max(first).max(Sequence::ZERO.next());
        shared.next_sequence.store(next.get(), Ordering::Release);
        let (patience, queue_permits) = (settings.patience, permits_for(settings.queue_bytes_max));
        let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
        let writer = ObjectWriter::new(log, settings, recovered, next, clock, publish, Arc::clone(&shared));
        tokio::spawn(writer.run(messages));
        Ok(Self::over(Messages::Store(sender), Some(patience), queue_permits, shared))
    }

    fn over(messages: Messages, patience: Option<Duration>, queue_permits: u32, shared: Arc<Shared>) -> Self {
        Self { messages, patience, queue: Arc::new(Semaphore::new(queue_permits as usize)), queue_permits, shared }
    }

    /// Stores one write and returns its sequence once it is as durable as asked for, and published.
    ///
    /// Waits while the queue is full. A caller that stops waiting after its write has entered the queue does not take it
    /// back.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses or the log is closed: whether the write is stored is then unknown, and writing it
    /// again is safe.
    pub async fn append(&self, record: WriteRecord, durability: Durability) -> Result<Sequence> {
        self.submit(record, durability).await?.stored().await
    }

    /// Puts one write into the queue, behind all that are there. Waits while it is full.
    ///
    /// # Errors
    /// `Unavailable` if the log is closed or the queue stays full: the write is not stored.
    pub async fn submit(&self, record: WriteRecord, durability: Durability) -> Result<Submitted> {
        // Before the queue: encoding is the caller's work and runs on as many cores as there are callers.
        let encoded = EncodedRecord::encode(&record)?;
        let mut late = self.patience.map(|patience| Box::pin(tokio::time::sleep(patience)));
        let permits = permits_for(encoded.bytes()).min(self.queue_permits);
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.queue).acquire_many_owned(permits) => permit.map_err(|_| WalError::Closed)?,
            () = passed(&mut late) => return Err(WalError::late(&self.shared).into()),
        };
        let (answer, answered) = oneshot::channel();
        let write = WaitingWrite { record, encoded, durability, answer, _permit: permit };
        if !self.messages.send(Message::Append(write)) {
            return Err(self.shared.gone().into());
        }
        Ok(Submitted { answered, late, shared: Arc::clone(&self.shared) })
    }

    /// Everything of `table` up to `through` is in Parquet and the catalog says so: segments that hold nothing else go.
    pub fn release(&self, table: TableId, through: Sequence) {
        self.tell(Message::Release(table, through));
    }

    /// `table` was dropped: nothing of it is needed any more, nor will be.
    pub fn forget(&self, table: TableId) {
        self.tell(Message::Forget(table));
    }

    /// What `look` finds between two writes: every write that was acknowledged before this call is published, and of any
    /// other all is or nothing. Runs on the commit thread, so it must be quick and must not wait for a write.
    ///
    /// # Errors
    /// `Unavailable` if the log is closed.
    pub async fn between_writes<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(look());
        };
        if !self.messages.send(Message::Run(Box::new(work))) {
            return Err(self.shared.gone().into());
        }
        Ok(answered.await.map_err(|_| self.shared.gone())?)
    }

    /// Refuses if another process has the log, as far as this one has heard.
    ///
    /// # Errors
    /// `TakenOver`.
    pub fn check_owner(&self) -> Result<(), WalError> {
        if self.shared.taken_over.load(Ordering::Acquire) { Err(WalError::TakenOver) } else { Ok(()) }
    }

    /// Whether the log is in the object store, for whichever process has it.
    pub fn is_in_store(&self) -> bool {
        matches!(self.messages, Messages::Store(_))
    }

    /// Bytes of all segments on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.metrics.lock().bytes_on_disk
    }

    /// The newest sequence that was given to a write; zero before the first.
    pub fn last_sequence(&self) -> Sequence {
        Sequence::new(self.shared.next_sequence.load(Ordering::Acquire) - 1)
    }

    /// What the log has done since it was opened, and its size now.
    pub fn metrics(&self) -> WalMetrics {
        *self.shared.metrics.lock()
    }

    /// Refuses new writes, finishes those that wait, makes them safe, and removes the segments if every one is released.
    ///
    /// # Errors
    /// `Unavailable` if the last sync failed. Closing again does nothing.
    pub async fn close(&self) -> Result<()> {
        self.queue.close();
        let (answer, answered) = oneshot::channel();
        if self.messages.send(Message::Close(answer))
            && let Ok(closed) = answered.await
        {
            return closed;
        }
        if self.shared.finished.load(Ordering::Acquire) { Ok(()) } else { Err(WalError::Stopped.into()) }
    }

    fn tell(&self, message: Message) {
        // A closed log has no segments to remove: the next start releases them again.
        self.messages.send(message);
    }
}

/// A write in the queue. Dropping this does not take it back.
#[derive(Debug)]
pub struct Submitted {
    answered: oneshot::Receiver<Result<Sequence>>,
    late: Option<Pin<Box<Sleep>>>,
    shared: Arc<Shared>,
}

impl Submitted {
    /// The write's sequence, once it is as durable as asked for, and published.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses or the log ended: whether the write is stored is then unknown, and writing it again is safe.
    pub async fn stored(mut self) -> Result<Sequence> {
        tokio::select! {
            biased;
            answer = self.answered => answer.map_err(|_| self.shared.gone())?,
            () = passed(&mut self.late) => Err(WalError::late(&self.shared).into()),
        }
    }
}

/// Waits until patience is over; for ever where there is no end of it.
async fn passed(late: &mut Option<Pin<Box<Sleep>>>) {
    match late {
        Some(late) => late.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The share of the queue that so many bytes take.
fn permits_for(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).max(1)
}
