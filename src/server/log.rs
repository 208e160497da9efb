//! Opens the engine with its write-ahead log: on the local disk, in two places, or in the object store.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::ServerSettings;
use super::directory::DataDirectory;
use crate::clock::Clock;
use crate::config::{LogReplica, StorePlace};
use crate::engine::mirror::MirrorSettings;
use crate::engine::store::{Store, StoreSettings, Writers, open_below};
use crate::engine::wal::objects::ObjectLogSettings;
use crate::engine::wal::{Disk, MemoryDisk, RealDisk, ReplicatedDisk, StoreDisk};
use crate::engine::{Engine, EngineSettings, LogIdentity};
use crate::error::{Error, ErrorKind, Result};

/// Where the write-ahead log is, and what becomes of another one.
#[derive(Debug, Clone, Default)]
pub struct LogSettings {
    /// Where it is.
    pub place: LogPlace,
    /// Start even if another log may hold rows of the store that are in no file.
    pub gives_up_others: bool,
}

/// Where the write-ahead log is.
#[derive(Debug, Clone)]
pub enum LogPlace {
    /// In the data directory; with a memory store, in memory.
    Local {
        /// A second place that has all of it, too.
        replica: Option<LogReplica>,
    },
    /// In the object store.
    Store(ObjectLogSettings),
}

impl Default for LogPlace {
    fn default() -> Self {
        Self::Local { replica: None }
    }
}

/// The engine over `store`, recovered.
///
/// # Errors
/// `Invalid` if the log can't be in such a store; `Conflict` if a directory of the log is in use or another log has the store;
/// those of [`Engine::open`].
pub(super) async fn open_engine(
    settings: &ServerSettings,
    store: Store,
    mirror: Option<MirrorSettings>,
    directory: &DataDirectory,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Engine>> {
    let engine = move |id, place: String| {
        let log = LogIdentity { id, place, gives_up_others: settings.log.gives_up_others };
        EngineSettings { log, mirror, ..settings.engine.clone() }
    };
    let clock_of_log = Arc::clone(clock);
    match &settings.log.place {
        LogPlace::Store(_) if settings.writers == Writers::Single => Err(Error::invalid(
            "a write-ahead log in the object store needs a store that puts \"only if new\": --wal object and \
             --object-store-single-writer don't go together",
        )),
        LogPlace::Store(log) => {
            let engine = engine(uuid::Uuid::nil(), String::new()); // the engine knows what a log in the store is called
            Engine::open_diskless(engine, store, log.clone(), clock_of_log).await
        }
        LogPlace::Local { .. } if matches!(settings.store, StoreSettings::Memory) => {
            let engine = engine(uuid::Uuid::nil(), "memory".to_owned());
            Engine::open(engine, store, Arc::new(MemoryDisk::default()), clock_of_log).await
        }
        LogPlace::Local { replica } => {
            let path = directory.subdirectory("wal")?;
            let engine = engine(directory.id(clock.as_ref())?, format!("\"{}\"", path.display()));
            let disk = open_disk(&path)?;
            let disk = match replica {
                None => disk,
                Some(replica) => replicated(disk, replica).await?,
            };
            Engine::open(engine, store, disk, clock_of_log).await
        }
    }
}

fn open_disk(path: &Path) -> Result<Arc<dyn Disk>> {
    let failed = |error| {
        let message = format!("could not open the log directory \"{}\"", path.display());
        Error::with_source(ErrorKind::Unavailable, message, error)
    };
    Ok(Arc::new(RealDisk::open(path).map_err(failed)?))
}

async fn replicated(first: Arc<dyn Disk>, replica: &LogReplica) -> Result<Arc<dyn Disk>> {
    let (replica, place): (Arc<dyn Disk>, String) = match replica {
        LogReplica::Directory(path) => (open_disk(path)?, path.display().to_string()),
        LogReplica::Store(place) => {
            let StorePlace { store, prefix, connections } = place.as_ref();
            let store = open_below(store, prefix, connections)?;
            let place = store.description().to_owned();
            (Arc::new(StoreDisk::new(store, Handle::current())), place)
        }
    };
    let opened = tokio::task::spawn_blocking(move || ReplicatedDisk::open(first, replica)).await;
    let failed = |error| {
        let message = format!("could not make the replica of the log in \"{place}\" like the log");
        Error::with_source(ErrorKind::Unavailable, message, error)
    };
    Ok(Arc::new(opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(failed)?))
}
