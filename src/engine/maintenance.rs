//! What happens to rows after they were acknowledged: runs are tidied, tables persisted, files compacted, garbage
//! removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::buffer::persist::{Persisted, Persister};
use super::buffer::{Buffer, BufferSettings, TableBuffer, tidy};
use super::caches;
use super::compaction::{Compacted, Compaction, CompactionMetrics, Compactor};
use super::garbage::GarbageCollector;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileList, TableId};

/// How often tables are looked at for persisting by age and size.
const PERSIST_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Share of the buffer's memory, in percent, past which the largest tables are persisted whatever their age.
const PRESSURE_PERCENT: usize = 50;

/// How often tables are looked at for compaction besides after each persist.
const COMPACTION_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// A table whose files have not changed is looked at again after this time, because what is settled depends on time.
const UNCHANGED_CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// A look at a table's files takes time in proportion to their number. A table is not looked at again, though its files have
/// changed, before this many times that time is over: so that looks take at most a hundredth of a processor.
const LOOK_PAUSE_FACTOR: u32 = 100;

/// After a failed compaction a table is left alone for this long.
const COMPACTION_PAUSE: Duration = Duration::from_secs(60);

/// How often is looked for what other processes have committed: at the latest then one hears that it was taken over from.
const REFRESH_INTERVAL: Duration = Duration::from_secs(15);

/// How often garbage is looked at; more often if it is kept for less, but not all the time.
const GARBAGE_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const GARBAGE_CHECK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How often all objects are listed to find those that the catalog doesn't know; the first time after this much of it.
const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const FIRST_ORPHAN_CHECK: Duration = Duration::from_secs(600);

/// Tables that were written to since they were last looked at. The log's commit thread tells, tidying listens.
#[derive(Debug, Default)]
pub(super) struct WrittenTables {
    tables: Mutex<HashSet<TableId>>,
    wake: Notify,
}

impl WrittenTables {
    /// Tells that a table has a new run.
    pub(super) fn add(&self, table: TableId) {
        self.tables.lock().insert(table);
        self.wake.notify_one();
    }

    /// Waits until there are some, and takes them.
    async fn take(&self) -> HashSet<TableId> {
        self.wake.notified().await;
        std::mem::take(&mut *self.tables.lock())
    }
}

/// Decides when to tidy and persist, and counts what was done.
#[derive(Debug)]
pub(super) struct Maintenance {
    buffer: Arc<Buffer>,
    persister: Persister,
    settings: BufferSettings,
    written: Arc<WrittenTables>,
    compactor: Compactor,
    garbage: GarbageCollector,
    clock: Arc<dyn Clock>,
    files_added: Notify,
    /// One compaction at a time.
    compacting: tokio::sync::Mutex<()>,
    /// One persist at a time: two of one table would take the same runs.
    persisting: tokio::sync::Mutex<()>,
    persists: AtomicU64,
    persisted_rows: AtomicU64,
    persisted_bytes: AtomicU64,
    failures: AtomicU64,
}

impl Maintenance {
    pub(super) fn new(
        buffer: Arc<Buffer>,
        persister: Persister,
        settings: BufferSettings,
        written: Arc<WrittenTables>,
        compactor: Compactor,
        garbage: GarbageCollector,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            buffer,
            persister,
            settings,
            written,
            compactor,
            garbage,
            clock,
            files_added: Notify::new(),
            compacting: tokio::sync::Mutex::new(()),
            persisting: tokio::sync::Mutex::new(()),
            persists: AtomicU64::new(0),
            persisted_rows: AtomicU64::new(0),
            persisted_bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn persists(&self) -> u64 {
        self.persists.load(Ordering::Relaxed)
    }

    pub(super) fn persisted_rows(&self) -> u64 {
        self.persisted_rows.load(Ordering::Relaxed)
    }

    pub(super) fn persisted_bytes(&self) -> u64 {
        self.persisted_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn compaction_metrics(&self) -> CompactionMetrics {
        self.compactor.metrics()
    }

    pub(super) fn compactions(&self) -> Vec<Compaction> {
        self.compactor.history()
    }

    pub(super) fn compactions_running(&self) -> usize {
        self.compactor.running()
    }

    /// Wakes compaction: files have changed.
    pub(super) fn look_for_compaction(&self) {
        self.files_added.notify_one();
    }

    pub(super) fn garbage_removed(&self) -> u64 {
        self.garbage.removed()
    }

    /// How long nothing is removed for, because the clock has jumped; zero if it hasn't.
    pub(super) fn removals_held_for(&self) -> Duration {
        self.garbage.held_for()
    }

    /// Merges small runs as they come, until stopped.
    pub(super) async fn tidy_loop(self: Arc<Self>, stop: CancellationToken) {
        while let Some(tables) = stop.run_until_cancelled(self.written.take()).await {
            let is_due = |table: &Arc<TableBuffer>| tidy::is_due(table) || !table.contents().views.is_empty();
            for table in tables.into_iter().filter_map(|id| self.buffer.table(id)).filter(is_due) {
                let tidied = tokio::task::spawn_blocking(move || tidy_all(&table)).await;
                if let Err(error) = tidied.map_err(Error::internal_task).and_then(|result| result) {
                    tracing::error!(error = error.report(), "could not tidy buffered rows; they stay readable");
                }
            }
        }
    }

    /// Persists tables that are large, old, or in the way of others, until stopped.
    pub(super) async fn persist_loop(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(PERSIST_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = Failing::default();
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let clock = self.clock.as_ref();
            if !failing.store.is_over(clock) {
                continue;
            }
            for table in self.due_tables() {
                if stop.is_cancelled() {
                    return; // closing persists everything anyway
                }
                let id = table.id();
                if failing.tables.get(&id).is_some_and(|failing| !failing.is_over(clock)) {
                    continue;
                }
                let Err(error) = self.persist(&table).await else {
                    failing.store = Backoff::default();
                    failing.tables.remove(&id);
                    continue;
                };
                tracing::warn!(table = id.get(), error = error.report(), "could not persist a table; trying again");
                if error.kind() == ErrorKind::Unavailable {
                    failing.store.failed(clock); // the other tables would fare no better
                    break;
                }
                failing.tables.entry(id).or_default().failed(clock);
            }
        }
    }

    /// Tables to persist now, the one that frees most memory first.
    fn due_tables(&self) -> Vec<Arc<TableBuffer>> {
        let is_full = self.buffer.budget().used() > self.buffer.budget().max() / 100 * PRESSURE_PERCENT;
        let under_pressure = is_full || self.persister.wal.bytes() > self.settings.log_bytes_max / 2;
        let mut due: Vec<(usize, Arc<TableBuffer>)> = Vec::new();
        for table in self.buffer.tables() {
            let load = table.load();
            let is_large = load.rows >= self.settings.persist_rows || load.bytes >= self.settings.persist_bytes;
            let is_old = load.age >= self.settings.persist_age;
            if load.runs > 0 && (is_large || is_old || under_pressure) {
                due.push((load.bytes, table));
            }
        }
        due.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        due.into_iter().map(|(_, table)| table).collect()
    }

    pub(super) async fn persist(&self, table: &Arc<TableBuffer>) -> Result<()> {
        let _alone = self.persisting.lock().await;
        match self.persister.persist(table).await {
            Ok(Some(Persisted { rows, files, bytes })) => {
                self.persists.fetch_add(1, Ordering::Relaxed);
                self.persisted_rows.fetch_add(rows, Ordering::Relaxed);
                self.persisted_bytes.fetch_add(bytes, Ordering::Relaxed);
                tracing::info!(table = table.id().get(), rows, files, bytes, "persisted");
                self.files_added.notify_one();
                Ok(())
            }
            Ok(None) => {
                self.forget_if_dropped(table);
                Ok(())
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// A write that was admitted just before its table was dropped may have brought the table back here.
    fn forget_if_dropped(&self, table: &TableBuffer) {
        if self.persister.catalog.state().kept_table(table.id()).is_none() {
            self.buffer.remove(table.id());
            self.persister.wal.forget(table.id());
        }
    }

    /// Buffer and log need not keep the rows of tables that are gone for good.
    pub(super) fn forget_dropped_tables(&self) {
        // Listed before the catalog is asked: a table is there before it is here, so that what is new is not taken for dropped.
        for table in self.buffer.tables() {
            self.forget_if_dropped(&table);
        }
    }

    /// Drops for good what was deleted for long enough; its files become garbage.
    async fn hard_delete(&self) -> Result<()> {
        let dropped = self.garbage.hard_delete().await?;
        if dropped > 0 {
            tracing::info!(dropped, "dropped databases and tables that were deleted for long enough");
            self.forget_dropped_tables();
        }
        Ok(())
    }

    /// Compacts one table after the other, until stopped.
    pub(super) async fn compaction_loop(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(COMPACTION_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked_at: HashMap<TableId, LookedAt> = HashMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.files_added.notified() => {}
                _ = tick.tick() => {}
            }
            let tables = self.buffer.tables();
            let known: HashSet<TableId> = tables.iter().map(|table| table.id()).collect();
            looked_at.retain(|id, _| known.contains(id));
            for table in tables {
                let now = self.buffer.elapsed();
                let files = table.contents().files.clone();
                if looked_at.get(&table.id()).is_some_and(|last| last.is_enough(&files, now)) {
                    continue;
                }
                let (mut again, mut pause) = (now + UNCHANGED_CHECK_INTERVAL, now);
                match self.compact_table(&table, &stop).await {
                    Ok(0) => pause = now + (self.buffer.elapsed() - now) * LOOK_PAUSE_FACTOR,
                    Ok(_) => {}
                    Err(error) => {
                        let table = table.id().get();
                        tracing::warn!(table, error = error.report(), "could not compact a table; trying again");
                        again = now + COMPACTION_PAUSE;
                    }
                }
                looked_at.insert(table.id(), LookedAt { files: table.contents().files.clone(), again, pause });
                if stop.is_cancelled() {
                    return;
                }
            }
        }
    }

    /// Returns how many compactions there were.
    async fn compact_table(&self, table: &TableBuffer, stop: &CancellationToken) -> Result<usize> {
        let _alone = self.compacting.lock().await;
        let mut count = 0;
        while let Some(done) = self.compactor.compact(table, stop).await? {
            let Compacted { files_removed, files_added, rows, bytes_read, bytes_written } = done;
            let table = table.id().get();
            tracing::info!(table, files_removed, files_added, rows, bytes_read, bytes_written, "compacted");
            count += 1;
        }
        Ok(count)
    }

    pub(super) async fn compact_all(&self) -> Result<()> {
        let never = CancellationToken::new();
        let mut first_failure = Ok(());
        for table in self.buffer.tables() {
            let result = self.compact_table(&table, &never).await.map(drop);
            first_failure = first_failure.and(result);
        }
        first_failure
    }

    /// Drops files that have expired, from the catalog and then from memory.
    async fn expire(&self) -> Result<()> {
        let files = self.garbage.expire().await?;
        if files > 0 {
            tracing::info!(files, "dropped files whose rows have all expired");
            for table in self.buffer.tables() {
                table.follow(&self.persister.catalog);
            }
        }
        Ok(())
    }

    pub(super) async fn collect_garbage(&self) -> Result<usize> {
        self.expire().await?;
        self.hard_delete().await?;
        Ok(self.garbage.collect().await? + self.garbage.collect_orphans().await?)
    }

    /// Removes objects that nothing refers to, until stopped.
    pub(super) async fn garbage_loop(self: Arc<Self>, stop: CancellationToken) {
        let interval = GARBAGE_CHECK_INTERVAL.min(self.garbage.grace()).max(GARBAGE_CHECK_INTERVAL_MIN);
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_orphans = self.buffer.elapsed() + FIRST_ORPHAN_CHECK;
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.expire().await {
                tracing::warn!(error = error.report(), "could not drop expired files; trying again");
            }
            if let Err(error) = self.hard_delete().await {
                tracing::warn!(error = error.report(), "could not drop what was deleted; trying again");
            }
            self.garbage.forget();
            match self.garbage.collect().await {
                Ok(0) => {}
                Ok(objects) => tracing::info!(objects, "removed files that nothing refers to any more"),
                Err(error) => tracing::warn!(error = error.report(), "could not remove old files; trying again"),
            }
            if self.buffer.elapsed() >= next_orphans {
                next_orphans = self.buffer.elapsed() + ORPHAN_CHECK_INTERVAL;
                if let Err(error) = self.garbage.collect_orphans().await {
                    tracing::warn!(error = error.report(), "could not look for files that the catalog doesn't know");
                }
            }
        }
    }

    /// Reads what other processes have committed, until stopped.
    pub(super) async fn refresh_loop(self: Arc<Self>, stop: CancellationToken) {
        let catalog = &self.persister.catalog;
        let mut was_owner = true;
        while stop.run_until_cancelled(tokio::time::sleep(REFRESH_INTERVAL)).await.is_some() {
            let checked = match catalog.refresh().await {
                Ok(state) => catalog.check_owner(&state),
                Err(error) => {
                    tracing::warn!(
                        error = Error::from(error).report(),
                        "could not read the newest catalog; trying again"
                    );
                    continue;
                }
            };
            if let Err(error) = checked
                && std::mem::take(&mut was_owner)
            {
                tracing::error!(error = Error::from(error).report(), "this server was taken over from");
            }
        }
    }

    pub(super) async fn persist_all(&self) -> Result<()> {
        let mut first_failure = Ok(());
        for table in self.buffer.tables() {
            let result = self.persist(&table).await;
            first_failure = first_failure.and(result);
        }
        first_failure
    }
}

/// The files of a table when there was nothing more to compact.
struct LookedAt {
    files: FileList,
    /// When to look again though they have not changed.
    again: Duration,
    /// When to look again if they have.
    pause: Duration,
}

/// What could not be persisted.
#[derive(Default)]
struct Failing {
    /// The store didn't answer.
    store: Backoff,
    /// Something is wrong with these tables.
    tables: HashMap<TableId, Backoff>,
}

impl LookedAt {
    fn is_enough(&self, files: &FileList, now: Duration) -> bool {
        now < self.pause || now < self.again && self.files.is_same(files)
    }
}

fn tidy_all(table: &TableBuffer) -> Result<()> {
    while tidy::tidy_once(table)? {}
    caches::advance_if_due(table);
    Ok(())
}

impl Error {
    /// A background computation that panicked or was cut off.
    fn internal_task(error: tokio::task::JoinError) -> Self {
        Self::with_source(ErrorKind::Internal, "a background computation was cut off", error)
    }
}
