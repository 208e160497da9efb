//! What happens to rows after they were acknowledged: runs are tidied, tables persisted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::buffer::persist::{Persisted, Persister};
use super::buffer::{Buffer, BufferSettings, TableBuffer, tidy};
use crate::error::{Error, ErrorKind, Result};
use crate::model::TableId;

/// How often tables are looked at for persisting by age and size.
const PERSIST_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Share of the buffer's memory, in percent, past which the largest tables are persisted whatever their age.
const PRESSURE_PERCENT: usize = 50;

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
    /// One persist at a time: two of one table would take the same runs.
    persisting: tokio::sync::Mutex<()>,
    persists: AtomicU64,
    persisted_rows: AtomicU64,
    failures: AtomicU64,
}

impl Maintenance {
    pub(super) fn new(
        buffer: Arc<Buffer>,
        persister: Persister,
        settings: BufferSettings,
        written: Arc<WrittenTables>,
    ) -> Self {
        Self {
            buffer,
            persister,
            settings,
            written,
            persisting: tokio::sync::Mutex::new(()),
            persists: AtomicU64::new(0),
            persisted_rows: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn persists(&self) -> u64 {
        self.persists.load(Ordering::Relaxed)
    }

    pub(super) fn persisted_rows(&self) -> u64 {
        self.persisted_rows.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Merges small runs as they come, until stopped.
    pub(super) async fn tidy_loop(self: Arc<Self>, stop: CancellationToken) {
        while let Some(tables) = stop.run_until_cancelled(self.written.take()).await {
            for table in tables.into_iter().filter_map(|id| self.buffer.table(id)).filter(|table| tidy::is_due(table)) {
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
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            for table in self.due_tables() {
                if stop.is_cancelled() {
                    return; // closing persists everything anyway
                }
                if let Err(error) = self.persist(&table).await {
                    let table = table.id().get();
                    tracing::warn!(table, error = error.report(), "could not persist a table; trying again");
                }
            }
        }
    }

    /// Tables to persist now, the one that frees most memory first.
    fn due_tables(&self) -> Vec<Arc<TableBuffer>> {
        let under_pressure = self.buffer.budget().used() > self.buffer.budget().max() / 100 * PRESSURE_PERCENT;
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

    async fn persist(&self, table: &Arc<TableBuffer>) -> Result<()> {
        let _alone = self.persisting.lock().await;
        match self.persister.persist(table).await {
            Ok(Some(Persisted { rows, files, bytes })) => {
                self.persists.fetch_add(1, Ordering::Relaxed);
                self.persisted_rows.fetch_add(rows, Ordering::Relaxed);
                tracing::info!(table = table.id().get(), rows, files, bytes, "persisted");
                Ok(())
            }
            Ok(None) => {
                self.drop_if_deleted(table);
                Ok(())
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// A write that was admitted just before its table was deleted may have brought the table back here.
    fn drop_if_deleted(&self, table: &TableBuffer) {
        if self.persister.catalog.state().table(table.id()).is_none() {
            self.buffer.remove(table.id());
            self.persister.wal.forget(table.id());
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

fn tidy_all(table: &TableBuffer) -> Result<()> {
    while tidy::tidy_once(table)? {}
    Ok(())
}

impl Error {
    /// A background computation that panicked or was cut off.
    fn internal_task(error: tokio::task::JoinError) -> Self {
        Self::with_source(ErrorKind::Internal, "a background computation was cut off", error)
    }
}
