//! Group commit: one thread takes all waiting writes, makes them safe together, and tells everyone.
//!
//! While the disk syncs one group the next one gathers, so that the groups grow with the load and a lone write waits for
//! nobody. The thread sleeps without a timeout while every write is safe and the log says so (see `segment` for marks).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::log::SegmentLog;
use super::record::{EncodedRecord, WriteRecord};
use super::{Durability, Publish, Shared, WalError, WalSettings};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::{Sequence, TableId};

/// A write without durability is synced at the latest after this time, however busy the log is.
const UNSYNCED_AGE_MAX: Duration = Duration::from_secs(1);

/// What the commit thread is asked to do, in the order in which it was asked.
pub(super) enum Message {
    Append(WaitingWrite),
    Release(TableId, Sequence),
    Forget(TableId),
    /// Something to do between two groups.
    Run(Box<dyn FnOnce() + Send>),
    Close(oneshot::Sender<Result<()>>),
}

/// A write on its way to the disk, and the one who waits for it.
pub(super) struct WaitingWrite {
    pub(super) record: WriteRecord,
    pub(super) encoded: EncodedRecord,
    pub(super) durability: Durability,
    pub(super) answer: oneshot::Sender<Result<Sequence>>,
    /// The write's share of the queue, free again when the write is answered.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The commit thread.
pub(super) struct Writer {
    pub(super) log: SegmentLog,
    pub(super) settings: WalSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) messages: Receiver<Message>,
    /// A message that ended the gathering of a group.
    pub(super) held: Option<Message>,
    /// When the oldest write that is not safe was written.
    pub(super) unsynced_since: Option<Duration>,
    pub(super) publish: Publish,
    pub(super) shared: Arc<Shared>,
}

impl Writer {
    /// Works until the log is closed or dropped.
    pub(super) fn run(mut self) {
        loop {
            match self.next_message() {
                Some(Message::Append(first)) => {
                    let group = self.gather(first);
                    self.commit(group);
                }
                Some(Message::Release(table, through)) => self.log.release(table, through),
                Some(Message::Forget(table)) => self.log.forget(table),
                Some(Message::Run(work)) => work(),
                Some(Message::Close(answer)) => {
                    let closed = self.log.close().map_err(Error::from);
                    self.end();
                    // Who is told may open the directory again at once.
                    drop(self);
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(closed);
                    return;
                }
                None => {
                    self.sync_unsynced();
                    if self.log.wants_mark() {
                        self.log.mark();
                    }
                    self.end();
                    return;
                }
            }
            self.shared.update(&self.log);
        }
    }

    fn end(&self) {
        self.shared.update(&self.log);
        self.shared.finished.store(true, Ordering::Release);
    }

    /// The next thing to do, or None if nobody can ask for anything any more.
    fn next_message(&mut self) -> Option<Message> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        while let Some(since) = self.unsynced_since {
            let age = self.clock.elapsed().saturating_sub(since);
            if age >= UNSYNCED_AGE_MAX {
                self.sync_unsynced();
                break;
            }
            match self.messages.recv_timeout(self.settings.unsynced_delay.min(UNSYNCED_AGE_MAX - age)) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => self.sync_unsynced(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        if self.log.wants_mark() {
            match self.messages.recv_timeout(self.settings.mark_delay) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => self.log.mark(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.messages.recv().ok()
    }

    fn sync_unsynced(&mut self) {
        self.unsynced_since = None;
        if let Err(error) = self.log.sync() {
            let error = Error::from(error).report();
            tracing::error!(error, "writes acknowledged without durability may not survive a power cut");
        }
        self.shared.update(&self.log);
    }

    /// Everything that waits, up to the size of a group.
    fn gather(&mut self, first: WaitingWrite) -> Vec<WaitingWrite> {
        let mut bytes = first.encoded.bytes();
        let mut group = vec![first];
        while bytes < self.settings.group_bytes_max {
            match self.messages.try_recv() {
                Ok(Message::Append(write)) => {
                    bytes += write.encoded.bytes();
                    group.push(write);
                }
                Ok(other) => {
                    self.held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, group: Vec<WaitingWrite>) {
        let synced = group.iter().any(|write| write.durability == Durability::Synced);
        let durability = if synced { Durability::Synced } else { Durability::Unsynced };
        let records: Vec<&EncodedRecord> = group.iter().map(|write| &write.encoded).collect();
        let appended = self.log.append_group(&records, durability);
        self.note_unsynced();
        match appended {
            Ok(first) => self.publish_and_answer(first, group),
            Err(error) => refuse(error, group),
        }
    }

    fn note_unsynced(&mut self) {
        if self.log.has_unsynced() {
            let clock = &self.clock;
            self.unsynced_since.get_or_insert_with(|| clock.elapsed());
        } else {
            self.unsynced_since = None;
        }
    }

    fn publish_and_answer(&self, first: Sequence, group: Vec<WaitingWrite>) {
        let mut sequence = first;
        let mut answers = Vec::with_capacity(group.len());
        for write in group {
            (self.publish)(sequence, &write.record);
            answers.push((sequence, write));
            sequence = sequence.next();
        }
        self.shared.update(&self.log);
        for (sequence, write) in answers {
            // Whoever wrote may have stopped waiting; the write counts all the same.
            let _ = write.answer.send(Ok(sequence));
        }
    }
}

/// Tells every writer of a group that it failed.
pub(super) fn refuse(error: WalError, group: Vec<WaitingWrite>) {
    let error = Arc::new(error);
    for write in group {
        let _ = write.answer.send(Err(WalError::Group(Arc::clone(&error)).into()));
    }
}
