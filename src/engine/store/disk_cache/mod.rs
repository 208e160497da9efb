//! Bytes of data files on the local disk, between memory and a store that is far away.
//!
//! What a query fetches from the store stays here, and what this server writes that is recent; it is there again after a restart.
//! For each data file there is a cache file with the same bytes at the same place, and holes for what was never asked for
//! (see `layout`). When room is needed, the file goes whole that was not used for longest (see `ledger`).
//!
//! Always true:
//! - no byte is handed out that the checksums of the data file, which the catalog vouches for, don't confirm: a cache file
//!   that is torn, old, damaged or another's is a miss, and goes;
//! - whatever the disk does, a query is answered: a failure is a miss, and nothing is written for a while;
//! - what it takes of the disk stays within its bound, and room is made before it is used;
//! - one process has the directory; a second one is refused at its start;
//! - queries wait for reads of the disk on threads for blocking work, and for no write: one thread writes (see `writer`), and
//!   what it can't keep up with is not kept.
//!
//! Refused: foyer, the crate for such caches. Its entries carry checksums of its own over values that are checked by
//! ours anyway, it finds entries by a hash of one key each, so that those of a deleted file can't go together, evicts in the order of
//! writing, answers a failing disk with an error, takes no lock on its directory, and brings a second memory cache beside moka's.
//!
//! Not here: how several readers of one block become one request (see `recent`), which bytes are asked for (see `checked`).

mod directory;
mod layout;
mod ledger;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::fs::FileTimes;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::model::{DataFile, FileId};
use directory::Directory;
use layout::Layout;
use ledger::Ledger;
use writer::{Check, Command, Keep};

/// Bytes that may wait to be written. What comes on top is not kept.
const QUEUE_BYTES_MAX: u64 = 64 << 20;

/// Slots that are written at a time: 4 MiB.
const SLOTS_AT_ONCE: usize = 64;

/// How often the file system is told that a file is used, so that a restart knows.
const MARK_INTERVAL: Duration = Duration::from_secs(60);

/// Where bytes are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCacheSettings {
    /// A directory that is empty or was one for a cache before.
    pub directory: PathBuf,
    /// Most bytes that its files take of the disk.
    pub bytes_max: u64,
}

/// Figures of the cache since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskCacheMetrics {
    /// Blocks that were read from the disk.
    pub hits: u64,
    /// Blocks that had to come from the store.
    pub misses: u64,
    /// Files that made room for others.
    pub evictions: u64,
    /// Files in which something failed its checksum.
    pub damaged: u64,
    /// Times that the disk failed.
    pub failures: u64,
    /// Stretches that were not kept: no room beside their own file, a pause after a failure, or too much to write.
    pub refused: u64,
    /// What the files take of the disk.
    pub bytes: u64,
    /// The limit of that.
    pub bytes_max: u64,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum DiskCacheError {
    /// Another process has the directory.
    #[error("the disk cache \"{}\" is in use by another process; choose another directory with --disk-cache-dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds other things.
    #[error("\"{}\" is no disk cache and not empty; choose another directory with --disk-cache-dir", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The file system fills holes.
    #[error("the file system of \"{}\" keeps no holes in files, which a disk cache needs; choose another directory with --disk-cache-dir", path.display())]
    NoHoles {
        /// The directory.
        path: PathBuf,
    },
    /// The directory can't be used.
    #[error("could not use the directory \"{}\" for the disk cache", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl From<DiskCacheError> for Error {
    fn from(error: DiskCacheError) -> Self {
        let kind = match &error {
            DiskCacheError::InUse { .. } => ErrorKind::Conflict,
            DiskCacheError::Occupied { .. } | DiskCacheError::NoHoles { .. } => ErrorKind::Invalid,
            DiskCacheError::Directory { .. } => ErrorKind::Unavailable,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// The cache of one catalog's files on the local disk. Cloning it shares it.
#[derive(Clone)]
pub struct DiskCache {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

struct Shared {
    directory: Directory,
    bytes_max: u64,
    ledger: Mutex<Ledger>,
    counts: Counts,
    queued_bytes: AtomicU64,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    damaged: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("directory", &self.shared.directory)
            .field("metrics", &self.metrics())
            .finish()
    }
}

impl DiskCache {
    /// Takes the directory. What is in it of `files` is found in the background; everything else in it that was a cache's goes.
    ///
    /// # Errors
    /// `Conflict` if another process has the directory, `Invalid` if it holds other things or its file system is unfit,
    /// `Unavailable` if it can't be used.
    pub fn open<'a>(
        settings: &DiskCacheSettings,
        catalog: Uuid,
        files: impl Iterator<Item = &'a DataFile>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let directory = Directory::take(&settings.directory, catalog)?;
        let shared = Arc::new(Shared {
            directory,
            bytes_max: settings.bytes_max,
            ledger: Mutex::new(Ledger::new(settings.bytes_max)),
            counts: Counts::default(),
            queued_bytes: AtomicU64::new(0),
            clock,
        });
        let (commands, received) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("disk-cache".to_owned()).spawn(move || writer::run(&shared, &received))
        };
        thread.map_err(|source| DiskCacheError::Directory { path: settings.directory.clone(), source })?;
        let cache = Self { shared, commands };
        cache.tell(Command::Recover(files.map(|file| (file.id, Layout::of(file))).collect()));
        Ok(cache)
    }

    /// The blocks of `ranges` that are on the disk, as parts of them, rising. `ranges` are whole blocks of data, rising and apart;
    /// `is_right` says whether bytes that begin at an offset are what was written.
    pub(super) async fn read_data(
        &self,
        io: &Handle,
        file: &DataFile,
        ranges: &[Range<u64>],
        is_right: impl Fn(u64, &[u8]) -> bool + Send + 'static,
    ) -> Vec<(Range<u64>, Bytes)> {
        let layout = Layout::of(file);
        let wanted: Vec<Range<usize>> = ranges.iter().filter_map(|range| layout.data(range)).collect();
        let found = self.read(io, file, wanted, move |slot, bytes| is_right(Layout::offset(slot), bytes)).await;
        found
            .into_iter()
            .map(|(slot, bytes)| (Layout::offset(slot)..Layout::offset(slot) + bytes.len() as u64, bytes))
            .collect()
    }

    /// Page index and footer of a file, if they are on the disk.
    pub(super) async fn read_tail(
        &self,
        io: &Handle,
        file: &DataFile,
        is_right: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Option<Bytes> {
        let tail = Layout::of(file).tail();
        // In parts, they could not be checked.
        let whole = tail.len();
        let runs = self.read(io, file, vec![tail], move |_, bytes| is_right(bytes)).await;
        let [(_, bytes)] = <[_; 1]>::try_from(runs).ok()?;
        (bytes.len() as u64 == Layout::of(file).length(&Layout::of(file).tail()) && whole > 0).then_some(bytes)
    }

    /// The slots of `wanted` that are on the disk and right, as runs that begin at a slot.
    async fn read(
        &self,
        io: &Handle,
        file: &DataFile,
        wanted: Vec<Range<usize>>,
        is_right: impl Fn(usize, &[u8]) -> bool + Send + 'static,
    ) -> Vec<(usize, Bytes)> {
        let (id, layout) = (file.id, Layout::of(file));
        let count: usize = wanted.iter().map(Range::len).sum();
        let runs: Vec<Range<usize>> = {
            let mut ledger = self.shared.ledger.lock();
            wanted.into_iter().flat_map(|range| ledger.held(id, range)).collect()
        };
        let asked: usize = runs.iter().map(Range::len).sum();
        let found = if runs.is_empty() {
            Vec::new()
        } else {
            let cache = self.clone();
            let read = io.spawn_blocking(move || cache.read_runs(id, layout, runs, is_right)).await;
            read.unwrap_or_default() // the runtime ends, and with it the query
        };
        let hits = if found.is_empty() { 0 } else { asked };
        self.shared.counts.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.shared.counts.misses.fetch_add((count - hits) as u64, Ordering::Relaxed);
        found
    }

    /// All of the runs, or nothing if something is wrong with the file.
    fn read_runs(
        &self,
        file: FileId,
        layout: Layout,
        runs: Vec<Range<usize>>,
        is_right: impl Fn(usize, &[u8]) -> bool,
    ) -> Vec<(usize, Bytes)> {
        let read = || -> io::Result<Vec<(usize, Bytes)>> {
            let opened = self.shared.directory.open(file)?;
            let mut found = Vec::with_capacity(runs.len());
            for run in runs {
                let mut bytes = vec![0; usize::try_from(layout.length(&run)).unwrap_or(usize::MAX)];
                opened.read_exact_at(&mut bytes, Layout::offset(run.start))?;
                if !is_right(run.start, &bytes) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                found.push((run.start, Bytes::from(bytes)));
            }
            let (ledger, clock) = (&self.shared.ledger, &self.shared.clock);
            if ledger.lock().is_to_be_marked(file, clock.elapsed(), MARK_INTERVAL) {
                let now = Duration::from_nanos(u64::try_from(clock.now().as_nanos()).unwrap_or_default());
                // Only the order of eviction after a restart depends on it.
                let _ = opened.set_times(FileTimes::new().set_modified(UNIX_EPOCH + now));
            }
            Ok(found)
        };
        read().unwrap_or_else(|error| {
            if self.shared.ledger.lock().condemn(file) {
                let is_damage = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
                let count = if is_damage { &self.shared.counts.damaged } else { &self.shared.counts.failures };
                count.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(file = file.get(), %error, "a file of the disk cache can't be used and goes; the object store is asked instead");
                self.tell(Command::Remove(file));
            }
            Vec::new()
        })
    }

    /// Keeps whole blocks of data that lie at `range` in the file, if `is_right` finds that they are what was written.
    pub(super) fn keep_data(
        &self,
        file: &DataFile,
        range: &Range<u64>,
        bytes: &Bytes,
        is_right: impl Fn(u64, &[u8]) -> bool + Clone + Send + 'static,
    ) {
        let Some(slots) = Layout::of(file).data(range) else { return };
        for first in slots.clone().step_by(SLOTS_AT_ONCE) {
            let run = first..(first + SLOTS_AT_ONCE).min(slots.end);
            let start = usize::try_from(Layout::offset(first) - range.start).unwrap_or(usize::MAX);
            let length = usize::try_from(Layout::of(file).length(&run)).unwrap_or(usize::MAX);
            let Some(end) = start.checked_add(length).filter(|end| *end <= bytes.len()) else { return };
            let is_right = is_right.clone();
            self.keep(
                file,
                run,
                bytes.slice(start..end),
                Box::new(move |bytes| is_right(Layout::offset(first), bytes)),
            );
        }
    }

    /// Keeps page index and footer of a file, which were checked.
    pub(super) fn keep_tail(&self, file: &DataFile, bytes: &Bytes) {
        self.keep(file, Layout::of(file).tail(), bytes.clone(), Box::new(|_| true));
    }

    fn keep(&self, file: &DataFile, slots: Range<usize>, bytes: Bytes, is_right: Check) {
        let length = bytes.len() as u64;
        let queued = self.shared.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if queued + length > QUEUE_BYTES_MAX {
            self.shared.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.tell(Command::Keep(Keep { file: file.id, layout: Layout::of(file), slots, bytes, is_right }));
    }

    /// Forgets every file but these.
    pub fn retain(&self, known: HashSet<FileId>) {
        self.tell(Command::Retain(known));
    }

    /// What is kept of a file, in bytes of the disk.
    pub fn bytes_of(&self, file: FileId) -> u64 {
        self.shared.ledger.lock().bytes_of(file)
    }

    /// Waits until everything is on the disk that was to be kept.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        self.tell(Command::Settle(done));
        let _ = settled.await; // an error means that it was closed
    }

    /// Writes what is waiting and lets other processes have the directory. From then on nothing is kept.
    pub async fn close(&self) {
        let (done, stopped) = oneshot::channel();
        self.tell(Command::Stop(done));
        let _ = stopped.await; // an error means that it was closed before
    }

    /// Figures at this moment.
    pub fn metrics(&self) -> DiskCacheMetrics {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        DiskCacheMetrics {
            hits: count(&counts.hits),
            misses: count(&counts.misses),
            evictions: count(&counts.evictions),
            damaged: count(&counts.damaged),
            failures: count(&counts.failures),
            refused: count(&counts.refused),
            bytes: self.shared.ledger.lock().bytes(),
            bytes_max: self.shared.bytes_max,
        }
    }

    fn tell(&self, command: Command) {
        // Nobody listens any more once it is closed, and then nothing is to be kept.
        let _ = self.commands.send(command);
    }
}
