//! Group commit over objects: writes gather while no object may be begun, and are acknowledged in the order of objects.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::buffer::Buffer;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use object_store::PutPayload;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Sleep;

use super::object::{HEADER_BYTES, Header, Kind};
use super::{Forgotten, ObjectLog, ObjectLogSettings, Place, Put, Recovered, StoredObject, put_new, remove};
use crate::clock::Clock;
use crate::engine::wal::writer::{Message, WaitingWrite, refuse};
use crate::engine::wal::{Publish, Shared, WalError, WalMetrics};
use crate::error::Result;
use crate::model::{Sequence, TableId};
use crate::steps::{self, Step};

/// A pause between two tries of a put doubles so many times.
const PAUSE_DOUBLINGS_MAX: u32 = 5;

/// So many objects that nobody needs are worth an object that says so. While writes come, they say it along the way.
const SUPERFLUOUS_MAX: usize = 256;

/// The commit task.
pub(in crate::engine::wal) struct ObjectWriter {
    log: ObjectLog,
    settings: ObjectLogSettings,
    clock: Arc<dyn Clock>,
    publish: Publish,
    shared: Arc<Shared>,
    /// Writes that no object has taken yet, oldest first.
    waiting: VecDeque<WaitingWrite>,
    waiting_bytes: usize,
    /// Objects on their way, in order.
    flights: FuturesOrdered<BoxFuture<'static, Landed>>,
    /// Until the next flush may begin.
    pause: Option<Pin<Box<Sleep>>>,
    next_sequence: Sequence,
    next_index: u64,
    /// Every object of this epoch below is stored.
    confirmed: u64,
    /// Objects with writes that are acknowledged and needed, oldest first.
    stored: VecDeque<StoredObject>,
    /// Objects that are not needed. They may go once an object that is stored says so.
    superfluous: Vec<Place>,
    /// What the newest stored object says is needed.
    stated: Place,
    removal: Option<BoxFuture<'static, ()>>,
    forgotten: Forgotten,
    metrics: WalMetrics,
    /// Another process has put an object where the next one of ours belongs.
    taken_over: bool,
}

/// What the task waits for.
enum Event {
    Message(Message),
    Landed(Box<Landed>),
    PauseOver,
    Removed,
    /// Nobody can ask for anything any more.
    Dropped,
}

/// A piece of a record on its way: no copy, it shares its memory with the rows.
struct Part(Buffer);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An object whose put has ended.
struct Landed {
    put: Put,
    object: StoredObject,
    needed_from: Place,
    first: Sequence,
    group: Vec<WaitingWrite>,
}

impl ObjectWriter {
    pub(in crate::engine::wal) fn new(
        log: ObjectLog,
        settings: ObjectLogSettings,
        recovered: Recovered,
        first: Sequence,
        clock: Arc<dyn Clock>,
        publish: Publish,
        shared: Arc<Shared>,
    ) -> Self {
        let next_sequence = recovered.next.max(first).max(Sequence::ZERO.next());
        let writer = Self {
            log,
            settings,
            clock,
            publish,
            shared,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flights: FuturesOrdered::new(),
            pause: None,
            next_sequence,
            next_index: 1,
            confirmed: 1,
            stored: recovered.stored,
            superfluous: recovered.superfluous,
            stated: Place::BEGINNING,
            removal: None,
            forgotten: Forgotten::new(),
            metrics: WalMetrics::default(),
            taken_over: false,
        };
        writer.tell();
        writer
    }

    /// Works until the log is closed or dropped.
    pub(in crate::engine::wal) async fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        let closing = loop {
            match self.next_event(&mut messages).await {
                Event::Message(Message::Append(write)) => self.take(write),
                Event::Message(Message::Release(table, through)) => self.release(table, through),
                Event::Message(Message::Forget(table)) => self.forget(table),
                Event::Message(Message::Run(work)) => work(),
                Event::Message(Message::Close(answer)) => break Some(answer),
                Event::Landed(landed) => self.land(*landed),
                Event::PauseOver => self.pause = None,
                Event::Removed => self.removal = None,
                Event::Dropped => break None,
            }
            self.tell();
        };
        let closed = self.close().await;
        self.tell();
        self.shared.finished.store(true, Ordering::Release);
        if let Some(answer) = closing {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(closed);
        }
    }

    async fn next_event(&mut self, messages: &mut UnboundedReceiver<Message>) -> Event {
        // What came together goes together.
        match messages.try_recv() {
            Ok(message) => return Event::Message(message),
            Err(TryRecvError::Disconnected) => return Event::Dropped,
            Err(TryRecvError::Empty) => {}
        }
        while self.may_flush() {
            self.flush();
        }
        tokio::select! {
            message = messages.recv() => message.map_or(Event::Dropped, Event::Message),
            Some(landed) = self.flights.next(), if !self.flights.is_empty() => Event::Landed(Box::new(landed)),
            () = over(&mut self.pause) => Event::PauseOver,
            () = over(&mut self.removal) => Event::Removed,
        }
    }

    fn take(&mut self, write: WaitingWrite) {
        if self.taken_over {
            refuse(WalError::TakenOver, vec![write]);
            return;
        }
        self.waiting_bytes += write.encoded.bytes();
        self.waiting.push_back(write);
    }

    fn may_flush(&self) -> bool {
        let is_full = self.waiting_bytes >= self.settings.object_bytes_max;
        let has_its_time = self.pause.is_none() && (!self.waiting.is_empty() || self.is_worth_a_statement());
        !self.taken_over && self.flights.len() < self.settings.flights_max.max(1) && (is_full || has_its_time)
    }

    /// Whether many objects could go if only an object said that they are not needed.
    fn is_worth_a_statement(&self) -> bool {
        let waits = |place: &&Place| **place >= self.stated;
        self.flights.is_empty()
            && self.removal.is_none()
            && self.superfluous.iter().filter(waits).count() >= SUPERFLUOUS_MAX
    }

    /// Begins the put of one object with what waits.
    fn flush(&mut self) {
        let (mut group, mut body_bytes) = (Vec::new(), 0);
        while let Some(write) = self.waiting.pop_front() {
            body_bytes += write.encoded.bytes();
            group.push(write);
            if body_bytes >= self.settings.object_bytes_max {
                break;
            }
        }
        self.waiting_bytes -= body_bytes;

        let place = Place { epoch: self.log.epoch, index: self.next_index };
        self.next_index += 1;
        let first = self.next_sequence;
        let mut tables = HashMap::new();
        for write in &group {
            let kept = write.encoded.tables().iter().filter(|table| !self.forgotten.contains(table));
            tables.extend(kept.map(|&table| (table, self.next_sequence)));
            self.next_sequence = self.next_sequence.next();
        }
        let header = Header {
            kind: Kind::Writes,
            catalog: self.log.catalog,
            nonce: self.clock.unique_id(),
            place,
            confirmed: self.confirmed,
            needed_from: self.needed_from(),
            first,
            body_bytes: body_bytes as u64,
            records: u32::try_from(group.len())
                .expect("a group fits, because the queue holds at most 2^32 KiB, 1 KiB a write"),
            body_checksum: group.iter().fold(0, |checksum, write| write.encoded.extend_checksum(checksum)),
        };
        let header_bytes = header.encode();
        let parts = group.iter().flat_map(|write| write.encoded.parts());
        let body = parts.map(|part| Bytes::from_owner(Part(part.clone())));
        let payload: PutPayload = std::iter::once(header_bytes.clone()).chain(body).collect();
        let object = StoredObject { place, bytes: (HEADER_BYTES + body_bytes) as u64, tables };
        let (put, needed_from) = (self.put(place, payload, header_bytes), header.needed_from);
        self.flights.push_back(put.map(move |put| Landed { put, object, needed_from, first, group }).boxed());
        self.pause = Some(Box::pin(tokio::time::sleep(self.settings.flush_interval)));
    }

    /// The oldest object that is needed, of those that are acknowledged or on their way.
    fn needed_from(&self) -> Place {
        let on_its_way = Place { epoch: self.log.epoch, index: self.confirmed };
        self.stored.front().map_or(on_its_way, |oldest| oldest.place)
    }

    /// Puts an object, however often it takes.
    fn put(&self, place: Place, payload: PutPayload, header: Bytes) -> impl Future<Output = Put> + Send + 'static {
        let (store, shared, clock) = (self.log.store.clone(), Arc::clone(&self.shared), Arc::clone(&self.clock));
        let retry_pause = self.settings.retry_pause;
        async move {
            let path = place.path();
            let mut failures = 0;
            loop {
                match put_new(&store, &path, payload.clone(), &header).await {
                    Ok(put) => {
                        *shared.last_failure.lock() = None;
                        return put;
                    }
                    Err(error) => {
                        failures += 1;
                        shared.failures.fetch_add(1, Ordering::Relaxed);
                        if failures == 1 || failures % 16 == 0 {
                            tracing::warn!(%path, failures, %error, "could not store writes; trying again");
                        }
                        *shared.last_failure.lock() = Some(error.to_string());
                        tokio::time::sleep(longer(retry_pause, failures, clock.as_ref())).await;
                    }
                }
            }
        }
    }

    /// Publishes and acknowledges the writes of an object that is stored.
    fn land(&mut self, landed: Landed) {
        let Landed { put, object, needed_from, first, group } = landed;
        if put == Put::Taken || self.taken_over {
            self.give_way(group);
            return;
        }
        steps::reached(Step::LogObjectStored);
        self.confirmed = object.place.index + 1;
        self.stated = needed_from;
        self.metrics.groups += 1;
        self.metrics.syncs += 1;
        self.metrics.records += group.len() as u64;
        self.metrics.bytes_appended += object.bytes;
        // Before publishing: a persist that is told of the writes releases them.
        self.stored.push_back(object);
        let mut sequence = first;
        let mut answers = Vec::with_capacity(group.len());
        for write in group {
            (self.publish)(sequence, &write.record);
            answers.push((sequence, write.answer));
            sequence = sequence.next();
        }
        self.shared.next_sequence.store(sequence.get(), Ordering::Release);
        for (sequence, answer) in answers {
            // Whoever wrote may have stopped waiting; the write counts all the same.
            let _ = answer.send(Ok(sequence));
        }
        self.let_go();
    }

    /// Another process has the log: nothing of this one counts from here on.
    fn give_way(&mut self, group: Vec<WaitingWrite>) {
        if !self.taken_over {
            tracing::error!(
                store = self.log.store.description(),
                "another server has taken over the write-ahead log of this store: this one takes no more writes"
            );
        }
        self.taken_over = true;
        self.shared.taken_over.store(true, Ordering::Release);
        self.waiting_bytes = 0;
        refuse(WalError::TakenOver, group.into_iter().chain(self.waiting.drain(..)).collect());
    }

    fn release(&mut self, table: TableId, through: Sequence) {
        self.stored.iter_mut().for_each(|object| object.release(table, through));
        self.let_go();
    }

    fn forget(&mut self, table: TableId) {
        self.forgotten.insert(table);
        self.release(table, Sequence::new(u64::MAX));
    }

    /// Oldest first, what is needed no more; what the store has been told of is removed.
    fn let_go(&mut self) {
        while let Some(oldest) = self.stored.pop_front_if(|oldest| oldest.tables.is_empty()) {
            self.superfluous.push(oldest.place);
        }
        let stated = self.stated;
        if self.removal.is_some() || self.taken_over || !self.superfluous.iter().any(|place| *place < stated) {
            return;
        }
        let (gone, kept): (Vec<Place>, Vec<Place>) = self.superfluous.iter().partition(|place| **place < stated);
        self.superfluous = kept;
        self.removal = Some(remove(self.log.clone(), gone).boxed());
    }

    /// Puts what waits and the end of the epoch, within the patience of a writer.
    async fn close(&mut self) -> Result<()> {
        let patience = self.settings.patience;
        let in_order = async {
            while !self.taken_over && (!self.waiting.is_empty() || !self.flights.is_empty()) {
                while !self.waiting.is_empty() && self.flights.len() < self.settings.flights_max.max(1) {
                    self.flush();
                }
                if let Some(landed) = self.flights.next().await {
                    self.land(landed);
                }
            }
            if self.taken_over {
                return Err(WalError::TakenOver);
            }
            let place = Place { epoch: self.log.epoch, index: self.next_index };
            let nonce = self.clock.unique_id();
            let end = Header::end(self.log.catalog, nonce, place, self.needed_from());
            let end = Header { first: self.next_sequence, ..end };
            let bytes = end.encode();
            if self.put(place, PutPayload::from_bytes(bytes.clone()), bytes).await == Put::Taken {
                return Err(WalError::TakenOver);
            }
            self.stated = end.needed_from;
            if let Some(removal) = self.removal.take() {
                removal.await;
            }
            self.let_go();
            if let Some(removal) = self.removal.take() {
                removal.await;
            }
            Ok(())
        };
        match tokio::time::timeout(patience, in_order).await {
            Ok(closed) => Ok(closed?),
            Err(_) => Err(WalError::late(&self.shared).into()),
        }
    }

    fn tell(&self) {
        *self.shared.metrics.lock() = WalMetrics {
            segments: self.stored.len() as u64,
            bytes_on_disk: self.stored.iter().map(|object| object.bytes).sum(),
            failures: self.shared.failures.load(Ordering::Relaxed),
            ..self.metrics
        };
    }
}

/// Waits for what is under way; for ever if nothing is.
async fn over<F: Future<Output = ()> + Unpin>(under_way: &mut Option<F>) {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

/// The pause after the failure with this number: longer each time, and a little differently on each node.
fn longer(pause: Duration, failures: u32, clock: &dyn Clock) -> Duration {
    let longest = pause * 2_u32.pow(failures.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX));
    let [.., random] = *clock.unique_id().as_bytes(); // even: from half of it to all of it
    longest / 2 + longest / 2 * u32::from(random) / u32::from(u8::MAX)
}
