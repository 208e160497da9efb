//! A second store that follows this one: at every moment a consistent store of its own, usually some seconds old.
//!
//! Copied are the data files and the catalog. A round takes the newest state of the catalog, copies the files that it names and
//! then leads the mirror's catalog there (see [`crate::engine::catalog::CatalogCopy`]); files that the origin has removed go last. At the
//! start, after a failure and now and then, all files of the mirror are listed and what is missing or left over is made good.
//!
//! Always true:
//! - the mirror's catalog names only files that are there: they come before the record that names them, and go after the one
//!   that forgets them;
//! - a file that is still to be copied stays at the origin: the state that names it is held;
//! - nothing waits for the mirror but the end of the server, and that not for long;
//! - where another server has begun to write, nothing is written or removed any more.
//!
//! | file | what it does |
//! |---|---|
//! | `mark` | the object by which a store says that it is a mirror |
//! | `round` | what is copied, in which order |
//! | [`promote`] | how a server may start on a mirror |
//!
//! Not here: the write-ahead log. Rows that are in no file yet are not in the mirror.

mod mark;
pub mod promote;
mod round;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::catalog::Catalog;
use super::store::Store;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use round::Copier;

/// Whether a store is the mirror of another one.
///
/// # Errors
/// `Corrupt` if what says so can't be read; `Unavailable` if the store doesn't answer.
pub async fn is_mirror(store: &Store) -> Result<bool> {
    Ok(mark::read(store).await?.is_some())
}

/// How long the start of a server waits for a mirror.
pub const START_PATIENCE: Duration = Duration::from_secs(5);

/// A pause after failures doubles at most this often.
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// Every so many failures in a row one is logged.
const FAILURES_PER_REPORT: u32 = 16;

/// Where a store is mirrored to, and how.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// The mirror.
    pub to: Store,
    /// Most bytes of data files in a second; `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// How often the catalog is looked at, and the first pause after a failure.
    pub interval: Duration,
    /// How often all files of the mirror are listed and compared.
    pub reconcile_every: Duration,
    /// How long the end of the server waits for the mirror.
    pub patience: Duration,
}

impl MirrorSettings {
    /// The usual times.
    pub fn new(to: Store, bytes_per_second: Option<u64>) -> Self {
        Self {
            to,
            bytes_per_second,
            interval: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(3600),
            patience: Duration::from_secs(10),
        }
    }
}

/// How a mirror is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorState {
    /// It has not been whole yet.
    Beginning,
    /// It follows.
    Following,
    /// The last round failed; it is tried again.
    Failing,
    /// It is no mirror of this store any more; nothing is tried again.
    Stopped,
}

/// What there is to say of a mirror.
#[derive(Debug, Clone)]
pub struct MirrorFacts {
    /// Where it is.
    pub place: String,
    /// How it is doing.
    pub state: MirrorState,
    /// It has everything that was in the catalog at this moment; `None` if it was never whole.
    pub complete_at: Option<Timestamp>,
    /// How long ago that was; since the start, if it was never whole.
    pub lag: Duration,
    /// Records of the catalog that it doesn't have.
    pub records_behind: u64,
    /// Data files that were copied since the start.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Data files that were removed since the start.
    pub removed: u64,
    /// Rounds that failed since the start.
    pub failures: u64,
    /// Why the last round failed, if it did.
    pub error: Option<String>,
}

/// What rounds have come to.
#[derive(Debug, Clone)]
struct Progress {
    state: MirrorState,
    complete_at: Option<Timestamp>,
    version: u64,
    files: u64,
    bytes: u64,
    removed: u64,
    failures: u64,
    failures_in_a_row: u32,
    error: Option<String>,
}

/// A store's mirror, kept up in the background.
#[derive(Debug)]
pub(super) struct Mirror {
    settings: MirrorSettings,
    origin: Store,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    progress: Mutex<Progress>,
    /// Held by a round; `None` until one succeeded in looking at the mirror, and after each failure.
    copier: tokio::sync::Mutex<Option<Copier>>,
}

impl Mirror {
    /// The mirror of what `catalog` names in `origin`. A mirror that doesn't answer is no reason not to start.
    ///
    /// # Errors
    /// `Conflict` if there is anything else in its place, `Corrupt` if what is there can't be read.
    pub(super) async fn open(
        settings: MirrorSettings,
        origin: Store,
        catalog: Arc<Catalog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let claim = mark::claim(&settings.to, &origin, catalog.state().id(), clock.as_ref());
        let trouble = match tokio::time::timeout(START_PATIENCE, claim).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => Some(error.report()),
            Ok(Err(error)) => return Err(error),
            Err(_) => Some(format!("no answer for {START_PATIENCE:?}")),
        };
        if let Some(error) = trouble {
            tracing::warn!(mirror = settings.to.description(), error, "the mirror doesn't answer; trying again");
        }
        let progress = Progress {
            state: MirrorState::Beginning,
            complete_at: None,
            version: 0,
            files: 0,
            bytes: 0,
            removed: 0,
            failures: 0,
            failures_in_a_row: 0,
            error: None,
        };
        let (progress, copier) = (Mutex::new(progress), tokio::sync::Mutex::new(None));
        let started = clock.now();
        Ok(Arc::new(Self { settings, origin, catalog, clock, started, progress, copier }))
    }

    /// Follows until it is told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(self.round()).await.is_some() {
            if self.progress.lock().state == MirrorState::Stopped {
                return;
            }
            if stop.run_until_cancelled(tokio::time::sleep(self.pause())).await.is_none() {
                return;
            }
        }
    }

    /// Lets the mirror have the last state of a server that ends, if that doesn't take long.
    pub(super) async fn finish(&self) {
        let behind = || self.facts().records_behind;
        let follow = async {
            while behind() > 0 && self.progress.lock().state != MirrorState::Stopped {
                self.round().await;
                if self.progress.lock().state == MirrorState::Failing {
                    tokio::time::sleep(self.settings.interval).await;
                }
            }
        };
        let is_late = tokio::time::timeout(self.settings.patience, follow).await.is_err();
        if is_late || behind() > 0 {
            let mirror = self.settings.to.description();
            tracing::warn!(
                mirror,
                records_behind = behind(),
                "the mirror lacks the newest state; the next start copies it"
            );
        }
    }

    pub(super) fn facts(&self) -> MirrorFacts {
        let progress = self.progress.lock().clone();
        let since = progress.complete_at.unwrap_or(self.started);
        let lag = self.clock.now().as_nanos().saturating_sub(since.as_nanos());
        MirrorFacts {
            place: self.settings.to.description().to_owned(),
            state: progress.state,
            complete_at: progress.complete_at,
            lag: Duration::from_nanos(u64::try_from(lag).unwrap_or(0)),
            records_behind: self.catalog.state().version().saturating_sub(progress.version),
            files: progress.files,
            bytes: progress.bytes,
            removed: progress.removed,
            failures: progress.failures,
            error: progress.error,
        }
    }

    fn pause(&self) -> Duration {
        let failures = self.progress.lock().failures_in_a_row;
        self.settings.interval * 2_u32.pow(failures.min(PAUSE_DOUBLINGS_MAX))
    }

    /// Copies what is new, and notes what came of it.
    async fn round(&self) {
        if self.progress.lock().state == MirrorState::Stopped {
            return;
        }
        let mut copier = self.copier.lock().await;
        match self.try_round(&mut copier).await {
            Ok(()) => {
                let mut progress = self.progress.lock();
                if progress.state != MirrorState::Following {
                    tracing::info!(mirror = self.settings.to.description(), "the mirror is up to date and follows");
                }
                progress.state = MirrorState::Following;
                (progress.failures_in_a_row, progress.error) = (0, None);
            }
            Err(error) => {
                *copier = None; // what is there is looked at anew
                self.note_failure(&error);
            }
        }
    }

    async fn try_round(&self, copier: &mut Option<Copier>) -> Result<()> {
        let mut current = match copier.take() {
            Some(current) => current,
            None => Copier::begin(&self.settings, &self.origin, &self.catalog, &self.clock).await?,
        };
        current.round(&self.progress).await?;
        *copier = Some(current);
        Ok(())
    }

    fn note_failure(&self, error: &Error) {
        let (mirror, report) = (self.settings.to.description(), error.report());
        let mut progress = self.progress.lock();
        progress.failures += 1;
        progress.failures_in_a_row += 1;
        if error.kind() == ErrorKind::Conflict {
            progress.state = MirrorState::Stopped;
            tracing::error!(mirror, error = report, "nothing is mirrored any more");
        } else {
            progress.state = MirrorState::Failing;
            if progress.failures_in_a_row == 1 || progress.failures_in_a_row.is_multiple_of(FAILURES_PER_REPORT) {
                tracing::warn!(mirror, error = report, failures = progress.failures, "could not mirror; trying again");
            }
        }
        progress.error = Some(report);
    }
}
