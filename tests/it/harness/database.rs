//! An engine with queries in a temporary directory, without a network: the quickest whole database.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use flightline::clock::{Clock, SystemClock};
use flightline::engine::compaction::CompactionSettings;
use flightline::engine::store::{ConnectionSettings, Store, StoreSettings};
use flightline::engine::wal::RealDisk;
use flightline::engine::wal::objects::ObjectLogSettings;
use flightline::engine::{DatabaseSchemas, Durability, Engine, EngineSettings, store};
use flightline::error::{Error, Result};
use flightline::model::{Access, DatabaseName, Precision, TableSchema, Timestamp};
use flightline::query::{Language, Origin, PlannedChange, PlannedStatement, Queries, Query, QuerySettings};
use flightline::syntax::line_protocol::{Options, Schemas, parse};
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

/// The one database that these tests write to.
pub const DATABASE: &str = "db";

/// A database that can be restarted.
pub struct TestDatabase {
    directory: TempDir,
    /// What every start uses; without one, each start opens the directory anew.
    store: Option<Store>,
    settings: EngineSettings,
    /// The log is in the store.
    is_diskless: bool,
    takes_shortcuts: bool,
    clock: Arc<dyn Clock>,
    queries_runtime: Option<Runtime>,
    open: Option<Open>,
}

struct Open {
    engine: Arc<Engine>,
    queries: Queries,
}

struct Known(DatabaseSchemas);

impl Schemas for Known {
    fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.0.table(name)
    }
}

impl TestDatabase {
    /// An empty database in a directory of its own.
    pub async fn new() -> Self {
        let mut database = Self::unopened(None);
        database.start().await.unwrap();
        database
    }

    /// A database on what a store holds, with an empty log, these settings and this clock.
    pub async fn with(store: Store, settings: EngineSettings, clock: Arc<dyn Clock>) -> Self {
        Self::try_with(store, settings, clock).await.unwrap()
    }

    /// The same, where every question to a table reads the table.
    pub async fn without_shortcuts(store: Store, settings: EngineSettings, clock: Arc<dyn Clock>) -> Self {
        let mut database = Self::unopened(Some(store));
        (database.settings, database.clock, database.takes_shortcuts) = (settings, clock, false);
        database.start().await.unwrap();
        database
    }

    /// The same if it can be opened.
    pub async fn try_with(store: Store, settings: EngineSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut database = Self::unopened(Some(store));
        (database.settings, database.clock) = (settings, clock);
        database.start().await?;
        Ok(database)
    }

    /// The same with the log in the store, too.
    pub async fn diskless(store: Store, settings: EngineSettings, clock: Arc<dyn Clock>) -> Self {
        Self::try_diskless(store, settings, clock).await.unwrap()
    }

    /// The same if it can be opened.
    pub async fn try_diskless(store: Store, settings: EngineSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut database = Self::unopened(Some(store));
        (database.settings, database.clock, database.is_diskless) = (settings, clock, true);
        database.start().await?;
        Ok(database)
    }

    /// A database on what a store holds, with an empty log.
    pub async fn on(store: Store) -> Result<Self> {
        let mut database = Self::unopened(Some(store));
        database.start().await?;
        Ok(database)
    }

    /// A database on the files that `put` puts into its directory: `wal` and `data`.
    pub async fn on_files(put: impl FnOnce(&std::path::Path)) -> Self {
        Self::try_on_files(put).await.unwrap()
    }

    /// The same if it can be opened.
    pub async fn try_on_files(put: impl FnOnce(&std::path::Path)) -> Result<Self> {
        let mut database = Self::unopened(None);
        put(database.directory());
        database.start().await?;
        Ok(database)
    }

    /// Where its files are, if its objects are not elsewhere.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    fn unopened(store: Option<Store>) -> Self {
        let queries_runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(32 << 20)
            .enable_all()
            .build()
            .unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            store,
            settings: Self::settings(),
            is_diskless: false,
            takes_shortcuts: true,
            clock: Arc::new(SystemClock::new()),
            queries_runtime: Some(queries_runtime),
            open: None,
        }
    }

    /// The usual settings, but that compaction happens when a test asks for it, and then of everything.
    pub fn settings() -> EngineSettings {
        let compaction = CompactionSettings { is_on: false, settle: Duration::ZERO, ..CompactionSettings::default() };
        EngineSettings { compaction, ..EngineSettings::default() }
    }

    /// Opens what was closed, dropped or could not be opened before.
    pub async fn start(&mut self) -> Result<()> {
        let root = self.directory.path();
        std::fs::create_dir_all(root.join("wal")).unwrap();
        let store = match &self.store {
            Some(store) => store.clone(),
            None => store::open(&StoreSettings::File { root: root.join("data") }, &ConnectionSettings::default())?,
        };
        let (settings, clock) = (self.settings.clone(), Arc::clone(&self.clock));
        let engine = if self.is_diskless {
            let quick = Duration::from_millis(1);
            let log = ObjectLogSettings { flush_interval: quick, retry_pause: quick, ..ObjectLogSettings::default() };
            Engine::open_diskless(settings, store, log, clock).await?
        } else {
            let disk = Arc::new(take_disk(&root.join("wal")).await);
            Engine::open(settings, store, disk, clock).await?
        };
        let cpu = self.queries_runtime.as_ref().unwrap().handle().clone();
        let asked = QuerySettings { takes_shortcuts: self.takes_shortcuts, ..QuerySettings::default() };
        let queries = Queries::new(Arc::clone(&engine), asked, cpu.into(), Handle::current()).unwrap();
        self.open = Some(Open { engine, queries });
        Ok(())
    }

    /// Ends politely and starts again: everything comes from Parquet.
    pub async fn restart(&mut self) {
        self.close().await.unwrap();
        self.start().await.unwrap();
    }

    /// Ends politely; the next thing to do is to start.
    pub async fn close(&mut self) -> Result<()> {
        self.open.take().unwrap().engine.close().await
    }

    /// Forgets everything in memory and starts again: what was not persisted comes from the log.
    pub async fn crash(&mut self) {
        self.stop_at_once();
        self.start().await.unwrap();
    }

    /// Forgets everything in memory; the next thing to do is to start.
    pub fn stop_at_once(&mut self) {
        drop(self.open.take());
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.open.as_ref().unwrap().engine
    }

    /// Writes lines with times in nanoseconds; every line must be good.
    pub async fn write(&self, lines: &str) {
        self.try_write(lines).await.unwrap();
    }

    /// Writes good lines with times in nanoseconds. After an error they may be stored or not.
    pub async fn try_write(&self, lines: &str) -> Result<()> {
        let database = DatabaseName::new(DATABASE).unwrap();
        let options = Options {
            precision: Precision::Nanosecond,
            default_time: Timestamp::from_nanos(0),
            accept_partial: false,
            columns_per_table_max: 1000,
            new_tables_max: 1000,
        };
        let parsed = parse(lines.as_bytes(), &Known(self.engine().schemas(&database)), &options);
        assert!(parsed.refused.is_empty(), "{:?}", parsed.refused);
        self.engine().write(&database, parsed.rows, Durability::Synced).await.map(drop)
    }

    /// The batches of a query.
    pub async fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let database = DatabaseName::new(DATABASE).map_err(|error| Error::invalid(error.to_string()))?;
        let query = Query {
            database,
            language: Language::Sql,
            text: sql.to_owned(),
            plan: Bytes::new(),
            parameters: Vec::new(),
            access: Access::full(),
            origin: Origin::default(),
        };
        let planned = match self.open.as_ref().unwrap().queries.plan_statement(query).await? {
            PlannedStatement::Query(planned) => planned,
            PlannedStatement::Change(change) => return Ok(vec![PlannedChange::answer(change.run().await?)?]),
        };
        let schema = Arc::clone(planned.schema());
        let batches: Vec<RecordBatch> = planned.run().await?.try_collect().await?;
        for batch in &batches {
            assert_eq!(batch.schema(), schema, "the stream's schema is the planned one");
        }
        Ok(batches)
    }

    /// Column names and rows of a query as text; `None` is null.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        Ok(self.batches(sql).await?.iter().flat_map(text_rows).collect())
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(runtime) = self.queries_runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until an engine that was dropped a moment ago has let go of the log.
async fn take_disk(directory: &std::path::Path) -> RealDisk {
    for _ in 0..500 {
        match RealDisk::open(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("the log is still held");
}

/// The cells of a batch as text.
pub fn text_rows(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::default();
    let formatters: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|row| {
            let cell = |(index, formatter): (usize, &ArrayFormatter<'_>)| {
                (!batch.column(index).is_null(row)).then(|| formatter.value(row).to_string())
            };
            formatters.iter().enumerate().map(cell).collect()
        })
        .collect()
}
