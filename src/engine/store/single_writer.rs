//! One writer for a store that can't put "only if new": an object names who it is.
//!
//! Where a put that must create overwrites all the same, two processes that write one catalog destroy it. Here a
//! lock object keeps a second process from starting, and "only if new" becomes "look, then put" within the one process.
//!
//! The holder writes the lock anew every [`SingleWriterSettings::refresh_every`]. It is stale when it was not for
//! [`SingleWriterSettings::stale_after`], by the clock of whoever wants it; then it is watched for two more
//! refreshes, so that a clock that is wrong takes it from nobody who is alive. A process that finds the lock of its
//! own data directory takes it at once: nobody else can have that directory open. A holder that could not refresh for
//! half of that time writes nothing more, since somebody else may take over.
//!
//! What this cannot protect from, and a store with conditional puts can:
//! - two processes that start within the same second or two on a store that answers slower than that;
//! - a process that is stopped (SIGSTOP, a frozen machine) between the look at its lock and the put, and goes on
//!   after another has taken over;
//! - a put that the network delivers minutes after its sender gave it up;
//! - whoever writes to the bucket without this lock.
//!
//! Not here: the lock of the data directory, which keeps two processes on one machine apart.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Store, paths};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::tasks::Tasks;

/// Locks among which the paths are divided, so that creators of one object wait for each other and few others do.
const TURNS: usize = 64;

/// Only this version of the lock's content exists.
const FORMAT: u32 = 1;

/// When a lock is refreshed and when it counts as left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleWriterSettings {
    /// How often the holder writes the lock anew.
    pub refresh_every: Duration,
    /// After how long without that it may be taken.
    pub stale_after: Duration,
    /// How long a new holder waits before it looks whether somebody else took the lock at the same moment.
    pub settle: Duration,
}

impl Default for SingleWriterSettings {
    fn default() -> Self {
        Self {
            refresh_every: Duration::from_secs(10),
            stale_after: Duration::from_secs(60),
            settle: Duration::from_secs(1),
        }
    }
}

/// Who wants to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The node's name.
    pub node: String,
    /// Of its data directory, which it has locked for itself.
    pub directory: Uuid,
}

/// Why this process may not write.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SingleWriterError {
    #[error(
        "another process may write to this store: node \"{node}\", process {process}, as of {time}; stop it, or wait \
             until its lock \"{}\" is {stale_after:?} old if it has ended without a word",
        paths::writer_lock()
    )]
    Held { node: String, process: u32, time: String, stale_after: Duration },
    #[error(
        "the lock \"{}\" of this store can't be read: remove it if no process writes to the store",
        paths::writer_lock()
    )]
    Damaged { source: serde_json::Error },
    #[error(
        "the lock \"{}\" of this store has format {found}, this program knows format {FORMAT}: a newer one writes to the store",
        paths::writer_lock()
    )]
    Format { found: u32 },
    #[error("could not {action} the lock \"{}\" of this store", paths::writer_lock())]
    Store { action: &'static str, source: StoreError },
    #[error("this process is no longer the one that may write to this store; restart it when the other has ended")]
    Lost,
}

impl From<SingleWriterError> for Error {
    fn from(error: SingleWriterError) -> Self {
        let kind = match &error {
            SingleWriterError::Held { .. } | SingleWriterError::Lost => ErrorKind::Conflict,
            SingleWriterError::Damaged { .. } => ErrorKind::Corrupt,
            SingleWriterError::Format { .. } => ErrorKind::Unsupported,
            SingleWriterError::Store { .. } => ErrorKind::Unavailable,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// The content of the lock, as JSON so that a person can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    format: u32,
    /// Different for each start of a process.
    holder: String,
    node: String,
    /// Of the holder's data directory.
    directory: String,
    process: u32,
    /// When it was written, for people and in nanoseconds since 1970.
    time: String,
    nanos: i64,
}

/// What the lock of every version says.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The lock of a store, kept fresh in the background for as long as this value is there.
#[derive(Debug)]
pub struct SingleWriter {
    right: Arc<Right>,
    tasks: Tasks,
}

/// The right to write, for as long as it lasts.
#[derive(Debug)]
struct Right {
    /// The objects themselves, which take any write.
    objects: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    settings: SingleWriterSettings,
    holder: String,
    writer: Writer,
    /// Until when, in nanoseconds of [`Clock::elapsed`], nobody else can have taken over.
    safe_until: AtomicU64,
}

impl SingleWriter {
    /// Takes the lock of a store, and from then on keeps it fresh. `store` comes back as one that looks before it
    /// creates and that takes no write once the lock may be somebody else's.
    ///
    /// # Errors
    /// `Held` if another process has it; `Store` if the store doesn't answer.
    pub async fn take(
        store: &Store,
        writer: Writer,
        clock: Arc<dyn Clock>,
        settings: SingleWriterSettings,
    ) -> Result<(Self, Store), SingleWriterError> {
        let right = Right {
            objects: Arc::clone(store.objects()),
            holder: clock.unique_id().to_string(),
            clock,
            settings,
            writer,
            safe_until: AtomicU64::new(0),
        };
        if let Some(found) = right.read().await? {
            right.wait_until_stale(&found).await?;
        }
        right.write().await?;
        // Somebody else may have found it free at the same moment: of two that put it, the later one stays.
        tokio::time::sleep(settings.settle).await;
        right.refresh().await?;
        let right = Arc::new(right);
        let tasks = Tasks::new();
        let refreshed = Arc::clone(&right);
        tasks.spawn("single writer", |stop| async move {
            while stop.run_until_cancelled(tokio::time::sleep(settings.refresh_every)).await.is_some() {
                match refreshed.refresh().await {
                    Ok(()) => {}
                    Err(
                        error @ (SingleWriterError::Held { .. }
                        | SingleWriterError::Format { .. }
                        | SingleWriterError::Lost),
                    ) => {
                        tracing::error!(%error, "lost the right to write: nothing is written any more");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(error = Error::from(error).report(), "could not refresh the lock; trying again");
                    }
                }
            }
        });
        let guarded = Guarded {
            objects: Arc::clone(store.objects()),
            right: Arc::clone(&right),
            turns: std::array::from_fn(|_| Mutex::default()),
        };
        let store = Store::new(Arc::new(guarded), store.description());
        Ok((Self { right, tasks }, store))
    }

    /// Gives the lock back, so that the next process need not wait. Call it when nothing is written any more.
    ///
    /// # Errors
    /// If the store doesn't answer; the lock is then stale after a while.
    pub async fn release(&self) -> Result<(), SingleWriterError> {
        self.tasks.stop().await;
        let right = &self.right;
        right.safe_until.store(0, Ordering::SeqCst);
        match right.read().await? {
            Some(found) if found.holder == right.holder => right
                .objects
                .delete(&paths::writer_lock())
                .await
                .map_err(|source| SingleWriterError::Store { action: "remove", source }),
            _ => Ok(()),
        }
    }
}

impl Right {
    /// Returns when the lock that was found is no reason to wait any longer.
    async fn wait_until_stale(&self, found: &Lock) -> Result<(), SingleWriterError> {
        if found.directory == self.writer.directory.to_string() {
            tracing::info!(process = found.process, "took over the lock of an earlier process on this data directory");
            return Ok(());
        }
        let age = self.clock.now().as_nanos().saturating_sub(found.nanos);
        let is_old = age >= i64::try_from(self.settings.stale_after.as_nanos()).unwrap_or(i64::MAX);
        if !is_old {
            return Err(self.held(found.clone()));
        }
        // Its clock or ours may be wrong; a holder that is alive writes again.
        tokio::time::sleep(self.settings.refresh_every * 2).await;
        match self.read().await? {
            Some(now) if now != *found => Err(self.held(now)),
            _ => {
                let (node, process, time) = (&found.node, found.process, &found.time);
                tracing::warn!(node, process, time, "took over a lock that was left behind");
                Ok(())
            }
        }
    }

    /// Writes the lock anew if it is still ours.
    async fn refresh(&self) -> Result<(), SingleWriterError> {
        match self.read().await? {
            Some(found) if found.holder == self.holder => self.write().await,
            Some(found) => {
                self.safe_until.store(0, Ordering::SeqCst);
                Err(self.held(found))
            }
            None => {
                self.safe_until.store(0, Ordering::SeqCst);
                Err(SingleWriterError::Lost)
            }
        }
    }

    async fn read(&self) -> Result<Option<Lock>, SingleWriterError> {
        let failed = |source| SingleWriterError::Store { action: "read", source };
        let bytes = match self.objects.get(&paths::writer_lock()).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let damaged = |source| SingleWriterError::Damaged { source };
        let Format { format: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if found != FORMAT {
            return Err(SingleWriterError::Format { found });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    async fn write(&self) -> Result<(), SingleWriterError> {
        // What counts is when it was begun: the store may take its time.
        let (begun, now) = (self.clock.elapsed(), self.clock.now());
        let lock = Lock {
            format: FORMAT,
            holder: self.holder.clone(),
            node: self.writer.node.clone(),
            directory: self.writer.directory.to_string(),
            process: std::process::id(),
            time: now.to_string(),
            nanos: now.as_nanos(),
        };
        let bytes = serde_json::to_vec_pretty(&lock).map_err(|source| SingleWriterError::Damaged { source })?;
        self.objects
            .put(&paths::writer_lock(), PutPayload::from(bytes))
            .await
            .map_err(|source| SingleWriterError::Store { action: "write", source })?;
        self.safe_until.store(nanos(begun + self.settings.stale_after / 2), Ordering::SeqCst);
        Ok(())
    }

    fn held(&self, lock: Lock) -> SingleWriterError {
        let Lock { node, process, time, .. } = lock;
        SingleWriterError::Held { node, process, time, stale_after: self.settings.stale_after }
    }

    fn check(&self) -> Result<(), StoreError> {
        if nanos(self.clock.elapsed()) < self.safe_until.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError::Generic { store: "single writer", source: Box::new(SingleWriterError::Lost) })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A store that takes writes only while the lock is held, and that looks before it creates.
struct Guarded {
    objects: Arc<dyn ObjectStore>,
    right: Arc<Right>,
    turns: [Mutex<()>; TURNS],
}

impl Guarded {
    /// Whoever creates an object of this name holds this while he looks and puts.
    fn turn(&self, location: &Path) -> &Mutex<()> {
        let sum = crc32c::crc32c(location.as_ref().as_bytes());
        &self.turns[sum as usize % TURNS]
    }

    async fn refuse_existing(&self, location: &Path) -> Result<(), StoreError> {
        match self.objects.head(location).await {
            Ok(_) => {
                let source = "it was there when this put looked".into();
                Err(StoreError::AlreadyExists { path: location.to_string(), source })
            }
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.right.writer).finish()
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SingleWriter({})", self.objects)
    }
}

#[async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult, StoreError> {
        if opts.mode != PutMode::Create {
            self.right.check()?;
            return self.objects.put_opts(location, payload, opts).await;
        }
        let _turn = self.turn(location).lock().await;
        self.refuse_existing(location).await?;
        self.right.check()?; // as late as can be
        self.objects.put_opts(location, payload, PutOptions { mode: PutMode::Overwrite, ..opts }).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, StoreError> {
        self.right.check()?;
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult, StoreError> {
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path, StoreError>>,
    ) -> BoxStream<'static, Result<Path, StoreError>> {
        let right = Arc::clone(&self.right);
        let checked = locations.and_then(move |location| {
            let allowed = right.check();
            async move { allowed.map(|()| location) }
        });
        self.objects.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        self.objects.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta, StoreError>> {
        self.objects.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult, StoreError> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<(), StoreError> {
        let _turn = self.turn(to).lock().await;
        let mut options = options;
        if options.mode == CopyMode::Create {
            self.refuse_existing(to).await?;
            options.mode = CopyMode::Overwrite;
        }
        self.right.check()?;
        self.objects.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::engine::store::fault_store::FaultStore;
    use crate::model::Timestamp;

    const START: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    fn settings() -> SingleWriterSettings {
        SingleWriterSettings {
            // Never by itself: the tests refresh.
            refresh_every: Duration::from_millis(20),
            settle: Duration::ZERO,
            ..SingleWriterSettings::default()
        }
    }

    fn writer(node: &str) -> Writer {
        Writer { node: node.to_owned(), directory: Uuid::from_u128(node.len() as u128) }
    }

    /// A store that overwrites what must be new.
    fn careless() -> Store {
        let faults = FaultStore::new(Arc::new(object_store::memory::InMemory::new()), 0);
        faults.ignore_create();
        Store::new(faults, "careless")
    }

    /// Takes the lock and refreshes it no more, as a process that was killed.
    async fn take_and_die(store: &Store, node: &str, clock: &Arc<ManualClock>) -> (SingleWriter, Store) {
        let taken = take(store, node, clock).await.unwrap();
        taken.0.tasks.stop().await;
        taken
    }

    async fn take(
        store: &Store,
        node: &str,
        clock: &Arc<ManualClock>,
    ) -> Result<(SingleWriter, Store), SingleWriterError> {
        SingleWriter::take(store, writer(node), Arc::<ManualClock>::clone(clock), settings()).await
    }

    #[tokio::test]
    async fn of_many_creators_in_one_process_one_wins() {
        let clock = Arc::new(ManualClock::new(START));
        let (_lock, store) = take_and_die(&careless(), "a", &clock).await;
        for key in 0..20 {
            let path = Path::from(format!("key-{key}"));
            let creators = (0..12).map(|creator| {
                let (store, path) = (store.clone(), path.clone());
                tokio::spawn(async move { store.create(&path, &Bytes::from(format!("{creator}"))).await.is_ok() })
            });
            let won: Vec<bool> = futures::future::try_join_all(creators).await.unwrap();
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "key {key}");
        }
    }

    #[tokio::test]
    async fn a_second_process_is_told_who_is_first() {
        let (store, clock) = (careless(), Arc::new(ManualClock::new(START)));
        let (first, _) = take_and_die(&store, "a", &clock).await;
        clock.advance(Duration::from_secs(59));
        let error = take(&store, "bb", &clock).await.unwrap_err().to_string();
        assert!(error.contains(&format!("node \"a\", process {}", std::process::id())), "{error}");
        first.release().await.unwrap();
        take(&store, "bb", &clock).await.unwrap();
    }

    #[tokio::test]
    async fn a_stale_lock_is_taken_and_its_holder_writes_no_more() {
        let (store, clock) = (careless(), Arc::new(ManualClock::new(START)));
        let (first, guarded) = take_and_die(&store, "a", &clock).await;
        guarded.objects().put(&Path::from("x"), "x".into()).await.unwrap();
        clock.advance(Duration::from_secs(31)); // half the time: it can't know who writes now
        guarded.objects().put(&Path::from("x"), "x".into()).await.unwrap_err();
        clock.advance(Duration::from_secs(30));
        take(&store, "bb", &clock).await.unwrap();
        assert!(matches!(first.right.refresh().await, Err(SingleWriterError::Held { node, .. }) if node == "bb"));
        guarded.objects().put(&Path::from("x"), "x".into()).await.unwrap_err();
        guarded.objects().delete(&Path::from("x")).await.unwrap_err();
        first.release().await.unwrap(); // and leaves the other's lock alone
        assert!(matches!(take(&store, "ccc", &clock).await, Err(SingleWriterError::Held { .. })));
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead_takes_the_lock_from_nobody_who_is_alive() {
        let (store, clock) = (careless(), Arc::new(ManualClock::new(START)));
        let (first, _) = take_and_die(&store, "a", &clock).await;
        let ahead = Arc::new(ManualClock::new(START));
        ahead.advance(Duration::from_secs(3600));
        let alive = async {
            loop {
                clock.advance(Duration::from_nanos(1));
                first.right.refresh().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let error = tokio::select! {
            taken = take(&store, "bb", &ahead) => taken.unwrap_err(),
            () = alive => unreachable!("it goes on for ever"),
        };
        assert!(matches!(error, SingleWriterError::Held { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_lock_of_a_newer_program_is_respected() {
        let (store, clock) = (careless(), Arc::new(ManualClock::new(START)));
        store.objects().put(&paths::writer_lock(), r#"{"format": 2, "owner": {}}"#.into()).await.unwrap();
        clock.advance(Duration::from_secs(3600));
        let error = Error::from(take(&store, "a", &clock).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("has format 2"), "{error}");
    }

    #[tokio::test]
    async fn the_next_process_on_a_data_directory_need_not_wait() {
        let (store, clock) = (careless(), Arc::new(ManualClock::new(START)));
        let killed = take_and_die(&store, "a", &clock).await;
        take(&store, "a", &clock).await.unwrap();
        assert!(matches!(killed.0.right.refresh().await, Err(SingleWriterError::Held { .. })));
    }
}
