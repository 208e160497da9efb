//! An engine in a directory, and the load of the benchmarks written to it.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::engine::store::{ConnectionSettings, Store, StoreSettings};
use flightline::engine::wal::RealDisk;
use flightline::engine::{DatabaseSchemas, Durability, Engine, EngineSettings, store};
use flightline::model::{DatabaseName, Precision, TableSchema, Timestamp};
use flightline::syntax::line_protocol::{Options, Schemas, parse};

use crate::points::Points;

/// Lines of one write.
pub(crate) const BATCH_ROWS: usize = 10_000;

/// The database that is written to.
pub(crate) const DATABASE: &str = "bench";

struct Known(DatabaseSchemas);

impl Schemas for Known {
    fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.0.table(name)
    }
}

/// How the lines are read.
pub(crate) fn options() -> Options {
    Options {
        precision: Precision::Nanosecond,
        default_time: Timestamp::from_nanos(0),
        accept_partial: false,
        columns_per_table_max: 1000,
        new_tables_max: 1000,
    }
}

/// Opens what is in a directory.
pub(crate) async fn open(root: &Path, settings: EngineSettings) -> Arc<Engine> {
    let store = store::open(&StoreSettings::File { root: root.join("data") }, &ConnectionSettings::default()).unwrap();
    open_on(store, root, settings).await
}

/// Opens what is in a store, with its log in a directory.
pub(crate) async fn open_on(store: Store, root: &Path, settings: EngineSettings) -> Arc<Engine> {
    std::fs::create_dir_all(root.join("wal")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let disk = Arc::new(take_disk(&root.join("wal")).await);
    Engine::open(settings, store, disk, clock).await.unwrap()
}

/// An engine that was dropped a moment ago may still hold the log.
async fn take_disk(directory: &Path) -> RealDisk {
    loop {
        match RealDisk::open(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Writes the next `rows` points, in writes of [`BATCH_ROWS`].
pub(crate) async fn write(engine: &Engine, points: &mut Points, rows: usize) {
    let database = DatabaseName::new(DATABASE).unwrap();
    for _ in 0..rows.div_ceil(BATCH_ROWS) {
        let lines = points.lines(BATCH_ROWS);
        let parsed = parse(lines.as_bytes(), &Known(engine.schemas(&database)), &options());
        engine.write(&database, parsed.rows, Durability::Unsynced).await.unwrap();
    }
}

/// The files of all tables that an engine has there.
pub(crate) fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files
}
