//! Queries that run, and the last ones that did: seen, bounded and stopped, whichever way they came.
//!
//! Every text that is planned gets a [`Watch`], which goes with it from the first look at the text to the last batch of its answer. The
//! watch is what makes it a row of `system.queries`, what holds its slot, and by what it is ended; whoever drops what was
//! planned drops the watch too, and so no query can be forgotten here.
//!
//! | file | |
//! |---|---|
//! | [`queue`] | who may run now |
//! | [`stop`] | how a query is ended from outside |
//! | [`memory`] | how much memory it has |
//! | [`log`] | those that have ended |
//! | [`table`] | all of them as rows |
//!
//! Always true:
//! - a query is on the list until nothing works for it any more, even if its client has left long ago;
//! - a slot is held by who computes: who waits for a slow reader holds none, so that idle readers shut nobody out;
//! - what only looks at the server itself has slots of its own, so that it is answered when all others are taken;
//! - what was only described, as drivers do before they fetch, leaves no trace unless it failed.
//!
//! Not here: how many requests somebody may send (`server::limits`).

mod log;
mod memory;
mod queue;
mod stop;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::{SessionState, TaskContext};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::session;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, DatabaseName, Rights, Tables, Timestamp, batch_bytes};
use log::{Log, TEXT_BYTES_MAX};
use memory::{Meter, MeteredPool};
use queue::{Permit, Queue, QueueLimits};
use stop::StopReason;

pub(super) use stop::Stop;
pub(super) use table::SeenQueries;

/// How many queries there may be, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSettings {
    /// Queries that have ended and are still told of.
    pub log_entries: usize,
    /// How long one may take from the first look at its text to its last row; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Queries that run at one time; `None`: any number.
    pub slots: Option<usize>,
    /// Queries that wait for a slot.
    pub waiting_max: usize,
    /// How long one waits.
    pub patience: Duration,
    /// Queries of one asker, running or waiting; `None`: any number.
    pub per_asker: Option<usize>,
}

impl Default for RunningSettings {
    fn default() -> Self {
        Self {
            log_entries: 1000,
            timeout: None,
            slots: None,
            waiting_max: 1000,
            patience: Duration::from_secs(30),
            per_asker: None,
        }
    }
}

/// Somebody who asks, as far as queries are told apart by that. Never a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// The token's name, or the subject of a JWT. Empty if nobody is asked.
    pub name: String,
    /// By what they were recognised, so that a token and a subject of one name are two.
    pub kind: &'static str,
    /// Whose word the name of a JWT's subject is, because two issuers may mean two people by one name.
    pub issuer: String,
}

/// Which way a query came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// A text of SQL: over HTTP, or in a ticket of JSON.
    #[default]
    Sql,
    /// A text of InfluxQL, whichever way.
    InfluxQl,
    /// A command of Flight SQL.
    FlightSql,
}

impl Way {
    /// The word for it in `system.queries`, as in InfluxDB 3.
    fn word(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::InfluxQl => "influxql",
            Self::FlightSql => "flightsql",
        }
    }
}

/// From whom a query comes, which way, and how long they wait.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Who.
    pub asker: Asker,
    /// Which way.
    pub way: Way,
    /// Until when they wait; the server's own limit holds besides.
    pub deadline: Option<Instant>,
}

/// What there is to say of queries in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryMetrics {
    /// Those that run, or wait.
    pub running: u64,
    /// Those that wait for a slot.
    pub queued: u64,
    /// Those that were run or refused since the start.
    pub started: u64,
    /// Of these, those that ended in an error, whatever it was.
    pub failed: u64,
    /// Those for which there was no slot.
    pub refused: u64,
    /// Those that took too long.
    pub timed_out: u64,
    /// Those that somebody ended by their number.
    pub killed: u64,
    /// Those whose client left.
    pub abandoned: u64,
}

/// Which slots a query takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Those of all queries.
    Rows,
    /// Those of what asks about the server itself, or about nothing, as connection pools do to see whether it is there.
    Server,
}

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its text is looked at.
    Received,
    /// What it means is known.
    Planned,
    /// It waits for a slot.
    Queued,
    /// It runs.
    Permit,
    Ended(Outcome),
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Fail,
    Cancel,
}

/// All that is known of one query.
#[derive(Debug)]
struct Entry {
    id: u64,
    asker: Asker,
    way: Way,
    /// `None` if it is about no database, as `SHOW DATABASES`.
    database: Option<String>,
    /// Cut where it is very long.
    text: String,
    issued: Timestamp,
    /// When it came, on the clock that never goes backwards.
    started: Duration,
    rows: AtomicU64,
    bytes: AtomicU64,
    memory: Arc<Meter>,
    stop: Arc<Stop>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Clone)]
struct Progress {
    phase: Phase,
    planned: Option<Duration>,
    queued: Option<Duration>,
    permitted: Option<Duration>,
    ended: Option<Duration>,
    error: Option<String>,
}

impl Entry {
    /// Whether somebody with these rights may know of it: their own queries, and those in databases that they may read whole.
    fn is_seen_by(&self, asker: &Asker, rights: &Rights) -> bool {
        if self.asker == *asker || rights.allow_everything() {
            return true;
        }
        let database = self.database.as_deref().and_then(|name| DatabaseName::new(name).ok());
        database.is_some_and(|database| rights.tables(Action::Read, &database) == Tables::All)
    }

    fn may_be_killed_by(&self, asker: &Asker, rights: &Rights) -> bool {
        let database = self.database.as_deref().and_then(|name| DatabaseName::new(name).ok());
        self.asker == *asker
            || rights.allow_everything()
            || database.is_some_and(|database| rights.allow(Action::Admin, &database))
    }
}

/// All queries of this process.
#[derive(Debug)]
pub(super) struct Registry {
    settings: RunningSettings,
    clock: Arc<dyn Clock>,
    /// Where deadlines are waited for: the threads that compute may all be busy.
    timers: Handle,
    rows_queue: Arc<Queue>,
    server_queue: Arc<Queue>,
    running: Mutex<BTreeMap<u64, Arc<Entry>>>,
    ended: Mutex<Log>,
    next_id: AtomicU64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    started: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    killed: AtomicU64,
    abandoned: AtomicU64,
}

impl Registry {
    pub(super) fn new(settings: RunningSettings, clock: Arc<dyn Clock>, timers: Handle) -> Self {
        let limits = QueueLimits {
            slots: settings.slots.unwrap_or(usize::MAX),
            waiting_max: settings.waiting_max,
            patience: settings.patience,
            per_asker: settings.per_asker.unwrap_or(usize::MAX),
        };
        Self {
            rows_queue: Queue::new(limits),
            server_queue: Queue::new(QueueLimits { per_asker: usize::MAX, ..limits }),
            ended: Mutex::new(Log::new(settings.log_entries)),
            settings,
            clock,
            timers,
            running: Mutex::default(),
            next_id: AtomicU64::new(1),
            counts: Counts::default(),
        }
    }

    /// Begins to watch a query.
    pub(super) fn begin(self: &Arc<Self>, origin: &Origin, database: Option<&str>, text: &str) -> Arc<Watch> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            id,
            asker: origin.asker.clone(),
            way: origin.way,
            database: database.map(str::to_owned),
            text: cut(text),
            issued: self.clock.now(),
            started: self.clock.elapsed(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            memory: Arc::default(),
            stop: Arc::new(Stop::new(id)),
            progress: Mutex::new(Progress {
                phase: Phase::Received,
                planned: None,
                queued: None,
                permitted: None,
                ended: None,
                error: None,
            }),
        });
        self.running.lock().insert(entry.id, Arc::clone(&entry));
        let timer = self.timer(origin.deadline, &entry.stop);
        Arc::new(Watch { registry: Arc::clone(self), entry, permit: Mutex::new(None), _timer: timer })
    }

    /// Ends the query when its time is over, whatever its threads are doing.
    fn timer(&self, deadline: Option<Instant>, stop: &Arc<Stop>) -> Option<AbortOnDropHandle<()>> {
        let own = self.settings.timeout.map(|limit| (Instant::now() + limit, StopReason::Timeout(limit)));
        let asked = deadline.map(|deadline| (deadline, StopReason::Deadline));
        let (deadline, reason) = own.into_iter().chain(asked).min_by_key(|(deadline, _)| *deadline)?;
        let stop = Arc::clone(stop);
        Some(AbortOnDropHandle::new(self.timers.spawn(async move {
            tokio::time::sleep_until(deadline).await;
            stop.end(reason);
        })))
    }

    /// Ends a query by its number.
    ///
    /// # Errors
    /// `NotFound` if no query of this number runs, or none of which who asks may know; `Forbidden` if it is somebody else's, and who
    /// asks may not administer its database.
    pub(super) fn kill(&self, id: u64, asker: &Asker, rights: &Rights) -> Result<()> {
        let entry = self.running.lock().get(&id).cloned();
        let entry = entry.filter(|entry| entry.is_seen_by(asker, rights) || entry.may_be_killed_by(asker, rights));
        // In the words of InfluxDB 1.
        let entry = entry.ok_or_else(|| Error::not_found(format!("no such query id: {id}")))?;
        if !entry.may_be_killed_by(asker, rights) {
            let message = format!(
                "requestor is forbidden from requested resource: query {id} is somebody else's; to end it takes the permission \
                 admin on its database"
            );
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        entry.stop.end(StopReason::Killed);
        Ok(())
    }

    pub(super) fn metrics(&self) -> QueryMetrics {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        QueryMetrics {
            running: self.running.lock().len() as u64,
            queued: (self.rows_queue.waiting() + self.server_queue.waiting()) as u64,
            started: of(&self.counts.started),
            failed: of(&self.counts.failed),
            refused: self.rows_queue.refused() + self.server_queue.refused(),
            timed_out: of(&self.counts.timed_out),
            killed: of(&self.counts.killed),
            abandoned: of(&self.counts.abandoned),
        }
    }

    /// Those that run and those that have ended, by their numbers.
    fn entries(&self) -> Vec<Arc<Entry>> {
        let running = self.running.lock();
        let mut entries: Vec<_> = self.ended.lock().entries().cloned().collect();
        entries.extend(running.values().cloned());
        drop(running);
        entries.sort_by_key(|entry| entry.id);
        entries
    }
}

/// A text that is kept is no longer than this.
fn cut(text: &str) -> String {
    let kept = text.floor_char_boundary(TEXT_BYTES_MAX);
    match kept < text.len() {
        true => format!("{}…", &text[..kept]),
        false => text.to_owned(),
    }
}

/// What somebody asked, for queries that are planned once and run several times: each run is a query of its own.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    registry: Arc<Registry>,
    asker: Asker,
    way: Way,
    database: Option<String>,
    text: String,
}

impl Asked {
    /// Begins to watch a query that is planned already. Its client waits until `deadline`.
    pub(super) fn again(&self, deadline: Option<Instant>) -> Arc<Watch> {
        let origin = Origin { asker: self.asker.clone(), way: self.way, deadline };
        let watch = self.registry.begin(&origin, self.database.as_deref(), &self.text);
        watch.planned();
        watch
    }
}

/// What goes with a query while anything works for it. The last one who drops it ends the query's row.
#[derive(Debug)]
pub(super) struct Watch {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    permit: Mutex<Option<Permit>>,
    _timer: Option<AbortOnDropHandle<()>>,
}

impl Watch {
    /// Waits for `work`, but not past the end of the query; an error of the work is the query's.
    ///
    /// # Errors
    /// What the work says; `Cancelled` or `TimedOut` if the query is ended before: the work is dropped then.
    pub(super) async fn until_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = tokio::select! {
            biased;
            () = self.entry.stop.ended() => Err(self.entry.stop.error()),
            result = work => result,
        };
        result.inspect_err(|error| self.failed(error))
    }

    /// What was asked, so that it can be asked again.
    pub(super) fn asked(&self) -> Asked {
        let Entry { asker, way, database, text, .. } = self.entry.as_ref();
        let (asker, way, database, text) = (asker.clone(), *way, database.clone(), text.clone());
        Asked { registry: Arc::clone(&self.registry), asker, way, database, text }
    }

    /// What the query means is known now.
    pub(super) fn planned(&self) {
        let now = self.registry.clock.elapsed();
        let mut progress = self.entry.progress.lock();
        progress.phase = Phase::Planned;
        progress.planned = Some(now);
    }

    /// Waits for a slot, which is held until the watch goes or [pauses](Watch::pause).
    ///
    /// # Errors
    /// `Busy` and `Limited` if there is none; `Cancelled` and `TimedOut` if the query is ended meanwhile.
    pub(super) async fn admit(&self, lane: Lane) -> Result<()> {
        self.registry.counts.started.fetch_add(1, Ordering::Relaxed);
        let now = self.registry.clock.elapsed();
        {
            let mut progress = self.entry.progress.lock();
            progress.phase = Phase::Queued;
            progress.queued = Some(now);
        }
        let queue = match lane {
            Lane::Rows => &self.registry.rows_queue,
            Lane::Server => &self.registry.server_queue,
        };
        let permit = self.until_stopped(queue.enter(&self.entry.asker)).await?;
        *self.permit.lock() = Some(permit);
        let now = self.registry.clock.elapsed();
        let mut progress = self.entry.progress.lock();
        progress.phase = Phase::Permit;
        progress.permitted = Some(now);
        Ok(())
    }

    /// Nothing is computed until [`Watch::resume`]: the slot is for others meanwhile.
    pub(super) fn pause(&self) {
        if let Some(permit) = self.permit.lock().as_mut() {
            permit.pause();
        }
    }

    /// Waits for a slot again, if it was given on. Dropping the future leaves the query without one: it has to be over then.
    ///
    /// # Errors
    /// None that can happen; a defect if one does.
    pub(super) async fn resume(&self) -> Result<()> {
        let permit = self.permit.lock().take();
        if let Some(permit) = permit {
            let permit = permit.resume().await?;
            *self.permit.lock() = Some(permit);
        }
        Ok(())
    }

    /// The whole of a query whose answer comes at once: it waits for a slot, does the work, and has ended.
    ///
    /// # Errors
    /// As [`Watch::admit`] and [`Watch::until_stopped`].
    pub(super) async fn run<T>(&self, lane: Lane, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.admit(lane).await?;
        let answer = self.until_stopped(work).await?;
        self.complete();
        Ok(answer)
    }

    /// These rows are a part of the answer.
    pub(super) fn rows(&self, batch: &RecordBatch) {
        self.entry.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.entry.bytes.fetch_add(batch_bytes(batch) as u64, Ordering::Relaxed);
    }

    /// So many rows were changed.
    pub(super) fn changed(&self, rows: u64) {
        self.entry.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// All is told.
    pub(super) fn complete(&self) {
        let mut progress = self.entry.progress.lock();
        if !matches!(progress.phase, Phase::Ended(_)) {
            progress.phase = Phase::Ended(Outcome::Success);
        }
    }

    /// The query ends with this error; the first one counts.
    pub(super) fn failed(&self, error: &Error) {
        let mut progress = self.entry.progress.lock();
        if progress.error.is_none() && !matches!(progress.phase, Phase::Ended(_)) {
            let outcome = if self.entry.stop.reason().is_some() { Outcome::Cancel } else { Outcome::Fail };
            progress.phase = Phase::Ended(outcome);
            progress.error = Some(cut(&error.report()));
        }
    }

    /// By what it is ended from outside.
    pub(super) fn stop(&self) -> &Arc<Stop> {
        &self.entry.stop
    }

    /// What its plans run in: the session's, with the memory counted.
    pub(super) fn context(&self, session: &SessionState) -> Arc<TaskContext> {
        let mut runtime = session.runtime_env().as_ref().clone();
        let (pool, meter) = (Arc::clone(&runtime.memory_pool), Arc::clone(&self.entry.memory));
        runtime.memory_pool = Arc::new(MeteredPool { pool, meter });
        Arc::new(session::context(session).with_runtime(Arc::new(runtime)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.permit.lock().take());
        let Registry { running, ended, clock, counts, .. } = self.registry.as_ref();
        let is_logged = {
            let mut progress = self.entry.progress.lock();
            let is_stopped = self.entry.stop.reason().is_some();
            let outcome = match progress.phase {
                Phase::Ended(outcome) => Some(outcome),
                // Described, not run.
                Phase::Planned if !is_stopped => None,
                Phase::Received | Phase::Planned | Phase::Queued | Phase::Permit => {
                    let error = match is_stopped {
                        true => self.entry.stop.error().to_string(),
                        false => "its client left".to_owned(),
                    };
                    progress.error = Some(error);
                    Some(Outcome::Cancel)
                }
            };
            if let Some(outcome) = outcome {
                counts.count(outcome, self.entry.stop.reason(), progress.queued.is_some());
                progress.phase = Phase::Ended(outcome);
                progress.ended = Some(clock.elapsed());
            }
            outcome.is_some()
        };
        // In this order of locks, so that whoever looks sees it once.
        let mut running = running.lock();
        running.remove(&self.entry.id);
        if is_logged {
            ended.lock().add(Arc::clone(&self.entry));
        }
    }
}

impl Counts {
    fn count(&self, outcome: Outcome, stopped: Option<StopReason>, was_started: bool) {
        let count = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        if !was_started {
            count(&self.started);
        }
        match (outcome, stopped) {
            (Outcome::Success, _) => {}
            (Outcome::Fail, _) => count(&self.failed),
            (Outcome::Cancel, None) => count(&self.abandoned),
            (Outcome::Cancel, Some(reason)) => {
                count(&self.failed);
                match reason {
                    StopReason::Killed => count(&self.killed),
                    StopReason::Timeout(_) | StopReason::Deadline => count(&self.timed_out),
                }
            }
        }
    }
}
