//! Who may run now: so many slots, and a queue for more that is fair between those who ask.
//!
//! Always true:
//! - while somebody waits, no slot is free;
//! - a slot that comes free goes to the next asker in turn, and of that one's queries to the oldest: who sends a thousand queries
//!   makes the others wait for one of them, not for a thousand;
//! - the number of those who wait to begin is bounded, and so is how long they do;
//! - who waits for the reader of their rows gives the slot on ([`Permit::pause`]), and has a turn as everybody else has when there is something
//!   to compute again, however many wait and however long it takes;
//! - dropping what waits leaves the queue, and dropping a [`Permit`] gives the slot on.
//!
//! A query that waits to begin holds no slot and no memory of the pool, so that nobody waits for somebody who waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Asker;
use crate::error::{Error, ErrorKind, Result};

/// How long a client should wait that was refused for having too many queries open.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// For each slot, so many queries may have given theirs away while they wait for a reader. More than that keep what they have: each of them holds memory.
const PAUSED_PER_SLOT: usize = 8;

/// What a queue lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// Queries that run at one time.
    pub(super) slots: usize,
    /// Queries that wait at one time.
    pub(super) waiting_max: usize,
    /// How long one waits.
    pub(super) patience: Duration,
    /// Queries of one asker, running or waiting.
    pub(super) per_asker: usize,
}

/// The slots, and who waits for one.
#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    /// Those who wait, in the order in which they get their turns; each has at least one query here.
    turns: VecDeque<Asker>,
    /// Their queries by age.
    waiting: HashMap<Asker, BTreeMap<u64, oneshot::Sender<Slot>>>,
    waiting_count: usize,
    next_number: u64,
    /// Queries by asker, running or waiting.
    open: HashMap<Asker, usize>,
    /// Queries that have begun and wait for their readers without a slot.
    paused: usize,
    refused: u64,
}

/// The right to run. Dropping it gives the slot on.
#[derive(Debug)]
pub(super) struct Permit {
    holds: Holds,
    open: Open,
}

/// What somebody has who has begun.
#[derive(Debug)]
enum Holds {
    Slot { _slot: Slot },
    Pause { _pause: Paused },
}

/// A query that counts as paused.
#[derive(Debug)]
struct Paused(Arc<Queue>);

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.state.lock().paused -= 1;
    }
}

impl Permit {
    /// Gives the slot on for as long as nothing is computed. What cannot be paused, because too many are, keeps it.
    pub(super) fn pause(&mut self) {
        let queue = &self.open.queue;
        if let Holds::Pause { .. } = self.holds {
            return;
        }
        {
            let mut state = queue.state.lock();
            if state.paused >= queue.limits.slots.saturating_mul(PAUSED_PER_SLOT) {
                return;
            }
            state.paused += 1;
        }
        self.holds = Holds::Pause { _pause: Paused(Arc::clone(queue)) };
    }

    /// Waits for a slot again, for as long as it takes, if it was given on. Dropping the future ends the permit.
    ///
    /// # Errors
    /// None that can happen; a defect if one does.
    pub(super) async fn resume(self) -> Result<Self> {
        let Self { holds, open } = self;
        if let Holds::Slot { .. } = holds {
            return Ok(Self { holds, open });
        }
        let slot = {
            let place = open.queue.state.lock().place(&open.queue, &open.asker);
            match place {
                Ok(slot) => slot,
                Err(place) => place.turn().await?,
            }
        };
        drop(holds);
        Ok(Self { holds: Holds::Slot { _slot: slot }, open })
    }
}

/// A slot that is taken.
#[derive(Debug)]
struct Slot(Arc<Queue>);

impl Drop for Slot {
    fn drop(&mut self) {
        let next = self.0.state.lock().next();
        // Whoever has gone meanwhile drops the slot again, and the next one gets it. Nobody sends with the lock held.
        if let Some(next) = next {
            drop(next.send(Self(Arc::clone(&self.0))));
        }
    }
}

/// A query that counts for its asker.
#[derive(Debug)]
struct Open {
    queue: Arc<Queue>,
    asker: Asker,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        if let Some(count) = state.open.get_mut(&self.asker) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.open.remove(&self.asker);
            }
        }
    }
}

/// A place in the queue; dropping it leaves the queue.
struct Place<'a> {
    queue: &'a Queue,
    asker: &'a Asker,
    number: u64,
    turn: oneshot::Receiver<Slot>,
}

impl Place<'_> {
    /// Waits for the slot.
    async fn turn(mut self) -> Result<Slot> {
        (&mut self.turn).await.map_err(|_| Error::internal("a place in the queue of queries was lost"))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        let removed = state.waiting.get_mut(self.asker).and_then(|queries| queries.remove(&self.number));
        if removed.is_some() {
            state.waiting_count -= 1;
            state.forget_if_done(self.asker);
        }
    }
}

impl State {
    /// The one whose turn it is, off the queue; if there is none the slot is free.
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        while let Some(asker) = self.turns.pop_front() {
            let Some(queries) = self.waiting.get_mut(&asker) else { continue };
            let oldest = queries.pop_first();
            match queries.is_empty() {
                true => drop(self.waiting.remove(&asker)),
                false => self.turns.push_back(asker),
            }
            if let Some((_, oldest)) = oldest {
                self.waiting_count -= 1;
                return Some(oldest);
            }
        }
        self.free += 1;
        None
    }

    /// A slot, or else a place in the queue for one.
    fn place<'a>(&mut self, queue: &'a Arc<Queue>, asker: &'a Asker) -> Result<Slot, Place<'a>> {
        if self.free > 0 {
            self.free -= 1;
            return Ok(Slot(Arc::clone(queue)));
        }
        let (sender, turn) = oneshot::channel();
        let number = self.next_number;
        self.next_number += 1;
        self.waiting_count += 1;
        let queries = self.waiting.entry(asker.clone()).or_default();
        let is_first = queries.is_empty();
        queries.insert(number, sender);
        if is_first {
            self.turns.push_back(asker.clone());
        }
        Err(Place { queue, asker, number, turn })
    }

    fn forget_if_done(&mut self, asker: &Asker) {
        if self.waiting.get(asker).is_some_and(BTreeMap::is_empty) {
            self.waiting.remove(asker);
            self.turns.retain(|other| other != asker);
        }
    }
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::new(State { free: limits.slots, ..State::default() }) })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting_count
    }

    /// How many were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.state.lock().refused
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// `Busy` if too many wait already, or if none came free in time; `Limited` if who asks has too many queries open.
    pub(super) async fn enter(self: &Arc<Self>, asker: &Asker) -> Result<Permit> {
        let (open, place) = {
            let mut state = self.state.lock();
            let count = state.open.get(asker).copied().unwrap_or(0);
            if count >= self.limits.per_asker {
                state.refused += 1;
                return Err(self.too_many_of_one());
            }
            if state.free == 0 && state.waiting_count >= self.limits.waiting_max {
                state.refused += 1;
                return Err(self.full());
            }
            state.open.insert(asker.clone(), count + 1);
            (Open { queue: Arc::clone(self), asker: asker.clone() }, state.place(self, asker))
        };
        let slot = match place {
            Ok(slot) => slot,
            Err(place) => match tokio::time::timeout(self.limits.patience, place.turn()).await {
                Ok(slot) => slot?,
                Err(_) => {
                    self.state.lock().refused += 1;
                    return Err(self.too_slow());
                }
            },
        };
        Ok(Permit { holds: Holds::Slot { _slot: slot }, open })
    }

    fn full(&self) -> Error {
        let QueueLimits { slots, waiting_max, .. } = self.limits;
        let message = format!(
            "{slots} queries run and {waiting_max} wait, the most that --max-concurrent-queries and --max-queued-queries \
             allow; come back later"
        );
        Error::new(ErrorKind::Busy, message)
    }

    fn too_slow(&self) -> Error {
        let QueueLimits { slots, patience, .. } = self.limits;
        let message = format!(
            "no query ended within {patience:?} (--query-queue-timeout), and {slots} run, the most that \
             --max-concurrent-queries allows; come back later, or see in system.queries which ones they are"
        );
        Error::new(ErrorKind::Busy, message)
    }

    fn too_many_of_one(&self) -> Error {
        let message = format!(
            "{} queries of this token run or wait, the most that --max-concurrent-queries-per-token allows; end one, or wait",
            self.limits.per_asker
        );
        Error::new(ErrorKind::Limited, message).with_retry_after(RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: QueueLimits =
        QueueLimits { slots: 1, waiting_max: 10, patience: Duration::from_secs(60), per_asker: usize::MAX };

    fn asker(name: &str) -> Asker {
        Asker { name: name.to_owned(), kind: "token", ..Asker::default() }
    }

    fn enter(queue: &Arc<Queue>, name: &str) -> BoxFuture<'static, Result<Permit>> {
        let (queue, asker) = (Arc::clone(queue), asker(name));
        async move { queue.enter(&asker).await }.boxed()
    }

    #[tokio::test]
    async fn who_sends_many_makes_others_wait_for_one_of_them() {
        let queue = Queue::new(LIMITS);
        let mut running = Some(enter(&queue, "greedy").await.unwrap());
        let names = ["greedy", "greedy", "greedy", "modest", "greedy", "third"];
        let mut waiting: Vec<_> = names.into_iter().map(|name| (name, enter(&queue, name))).collect();
        // Each takes its place in this order.
        for (_, query) in &mut waiting {
            assert!(query.now_or_never().is_none());
        }
        assert_eq!(queue.waiting(), 6);
        let mut order = Vec::new();
        while running.take().is_some() {
            waiting.retain_mut(|(name, query)| match query.now_or_never() {
                Some(permit) => {
                    order.push(*name);
                    running = Some(permit.unwrap());
                    false
                }
                None => true,
            });
        }
        assert_eq!(order, ["greedy", "modest", "third", "greedy", "greedy", "greedy"]);
    }

    #[tokio::test]
    async fn too_many_and_too_slow_are_told_to_come_back() {
        let queue = Queue::new(QueueLimits { waiting_max: 1, patience: Duration::from_millis(1), ..LIMITS });
        let _running = enter(&queue, "a").await.unwrap();
        let mut first = enter(&queue, "a");
        assert!((&mut first).now_or_never().is_none());
        let full = enter(&queue, "b").await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Busy);
        assert!(full.to_string().starts_with("1 queries run and 1 wait"), "{full}");
        let slow = first.await.unwrap_err();
        assert_eq!(slow.kind(), ErrorKind::Busy);
        assert!(slow.to_string().starts_with("no query ended within 1ms"), "{slow}");
        assert_eq!((queue.waiting(), queue.refused()), (0, 2));
    }

    #[tokio::test]
    async fn an_asker_has_so_many_open_and_no_more() {
        let queue = Queue::new(QueueLimits { slots: 3, per_asker: 1, ..LIMITS });
        let first = enter(&queue, "a").await.unwrap();
        assert_eq!(enter(&queue, "a").await.unwrap_err().kind(), ErrorKind::Limited);
        let _other = enter(&queue, "b").await.unwrap();
        drop(first);
        enter(&queue, "a").await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_a_reader_lets_others_run_and_has_a_turn_again() {
        let queue = Queue::new(QueueLimits { waiting_max: 1, patience: Duration::from_millis(1), ..LIMITS });
        let mut slow = enter(&queue, "slow").await.unwrap();
        slow.pause();
        let other = enter(&queue, "other").await.unwrap();
        let mut third = enter(&queue, "third");
        assert!((&mut third).now_or_never().is_none());
        // More wait than may begin to, and longer than that: one that has begun is not sent away.
        let mut resumed = slow.resume().boxed();
        assert!((&mut resumed).now_or_never().is_none());
        assert_eq!(third.await.unwrap_err().kind(), ErrorKind::Busy);
        assert!((&mut resumed).now_or_never().is_none());
        drop(other);
        let slow = resumed.await.unwrap();
        assert!(enter(&queue, "other").now_or_never().is_none());
        drop(slow);
        let state = queue.state.lock();
        assert_eq!((state.free, state.paused), (1, 0));
    }

    #[tokio::test]
    async fn only_so_many_give_their_slots_on() {
        let queue = Queue::new(LIMITS);
        let mut paused = Vec::new();
        for _ in 0..=PAUSED_PER_SLOT {
            let mut permit = enter(&queue, "a").await.unwrap();
            permit.pause();
            paused.push(permit);
        }
        assert!(enter(&queue, "b").now_or_never().is_none());
        drop(paused.pop());
        assert!(enter(&queue, "b").now_or_never().is_some());
    }

    proptest! {
        /// Whatever comes, pauses, goes on, leaves and gives up in whatever order: no slot is lost and none is made.
        #[test]
        fn slots_are_neither_lost_nor_made(
            slots in 1_usize..4,
            steps in proptest::collection::vec((0_usize..6, 0_usize..3, 0_usize..8), 0..200),
        ) {
            let queue = Queue::new(QueueLimits { slots, ..LIMITS });
            let names = ["a", "b", "c"];
            let (mut waiting, mut running, mut paused) = (Vec::new(), Vec::new(), Vec::new());
            // Timers need a runtime, but nothing waits for one here.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _here = runtime.enter();
            for (what, who, which) in steps {
                match what {
                    0 => waiting.push(enter(&queue, names[who])),
                    1 if !running.is_empty() => drop(running.swap_remove(which % running.len())),
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(which % waiting.len())),
                    3 if !running.is_empty() => {
                        let mut permit: Permit = running.swap_remove(which % running.len());
                        permit.pause();
                        match permit.holds {
                            Holds::Slot { .. } => running.push(permit),
                            Holds::Pause { .. } => paused.push(permit),
                        }
                    }
                    4 if !paused.is_empty() => waiting.push(paused.swap_remove(which % paused.len()).resume().boxed()),
                    _ => {}
                }
                let mut still = Vec::new();
                for mut query in waiting {
                    match (&mut query).now_or_never() {
                        Some(Ok(permit)) => running.push(permit),
                        Some(Err(error)) => prop_assert_eq!(error.kind(), ErrorKind::Busy),
                        None => still.push(query),
                    }
                }
                waiting = still;
                prop_assert!(running.len() <= slots);
                prop_assert!(running.len() == slots || waiting.is_empty());
                prop_assert_eq!(queue.waiting(), waiting.len());
            }
            drop((waiting, running, paused));
            let state = queue.state.lock();
            prop_assert_eq!((state.free, state.paused), (slots, 0));
            prop_assert!(state.open.is_empty() && state.waiting.is_empty() && state.turns.is_empty());
        }
    }
}
