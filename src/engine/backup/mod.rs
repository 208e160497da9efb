//! Copies of everything at one instant, in another store; and the way back.
//!
//! A backup is a manifest, the catalog of its instant, and the data files which that names. Files never change, so the
//! backups of a *set* share them: an incremental backup copies what the set does not have yet, a full one begins a new set.
//! Any backup can be deleted, and any can be restored by itself.
//!
//! | file | what it does |
//! |---|---|
//! | [`location`] | which backups there are, and the removal of what nobody needs |
//! | `create` | the instant, and what is copied of it |
//! | `restore` | an empty store becomes what the backup says |
//! | `manifest` | what a backup says of itself |
//!
//! Not here: the write-ahead log, whose rows a backup has as files; where the place for backups is set (`config`).

mod create;
pub mod location;
mod manifest;
mod restore;

use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

pub use location::{Listed, Location, Which};
pub use manifest::{Backup, BackupKind, BackupName, ManifestFault};
pub use restore::Restored;

use super::Engine;
use super::store::single_writer::{SingleWriter, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::tasks::Tasks;

/// Makes and deletes the backups of a running engine, one at a time.
#[derive(Debug)]
pub struct Backups {
    engine: Arc<Engine>,
    location: Location,
    writer: Writer,
    busy: Mutex<()>,
    tasks: Tasks,
}

impl Backups {
    /// Backups of `engine` in `location`; `writer` names this process to others that want to write there.
    pub fn new(engine: Arc<Engine>, location: Location, writer: Writer) -> Self {
        Self { engine, location, writer, busy: Mutex::default(), tasks: Tasks::new() }
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Makes a backup of this instant; without a name it gets that of its time. Goes on if the caller stops waiting.
    ///
    /// # Errors
    /// `Conflict` if the name is taken, or another backup is being made or deleted; `Corrupt` if a data file is damaged;
    /// `Unavailable` if a store doesn't answer. Then there is no such backup, and trying again is safe.
    pub async fn create(self: &Arc<Self>, name: Option<BackupName>, kind: BackupKind) -> Result<Backup> {
        let backups = Arc::clone(self);
        self.to_its_end(|stop| async move {
            let _alone = backups.alone()?;
            let (lock, location) = backups.location.take(&backups.writer).await?;
            let creating = create::create(&backups.engine, &location, name, kind);
            finish(&lock, stop.run_until_cancelled(creating).await).await
        })
        .await
    }

    /// Deletes a backup, and the files that no other one needs. Returns how many objects went.
    ///
    /// # Errors
    /// `NotFound` if there is none of this name; `Conflict` if a backup is being made or deleted; `Corrupt` if another
    /// backup is damaged, so that its files are not known: then the backup is gone, its files stay. `Unavailable` if the store
    /// doesn't answer: then the backup may be gone, and its files go with the next deletion.
    pub async fn delete(self: &Arc<Self>, name: BackupName) -> Result<usize> {
        let backups = Arc::clone(self);
        self.to_its_end(|stop| async move {
            let _alone = backups.alone()?;
            let (lock, location) = backups.location.take(&backups.writer).await?;
            finish(&lock, stop.run_until_cancelled(location.remove(&name)).await).await
        })
        .await
    }

    /// Breaks off what is under way and gives back the lock of the place.
    pub async fn stop(&self) {
        self.tasks.stop().await;
    }

    fn alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let busy = |_| Error::new(ErrorKind::Conflict, "another backup is being made or deleted");
        self.busy.try_lock().map_err(busy)
    }

    /// Runs work that does not end with the request that asked for it.
    async fn to_its_end<T, F>(&self, work: impl FnOnce(CancellationToken) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn("backup", |stop| {
            let work = work(stop);
            async move {
                let done = work.await;
                if let Err(error) = &done {
                    tracing::warn!(error = error.report(), "no backup was made or deleted");
                }
                // Whoever asked may have stopped waiting.
                let _ = answer.send(done);
            }
        });
        answered.await.unwrap_or_else(|_| Err(Error::internal("the work on a backup was cut off")))
    }
}

/// Gives the lock back, whatever came of the work; `None`: it was broken off.
async fn finish<T>(lock: &SingleWriter, done: Option<Result<T>>) -> Result<T> {
    if let Err(error) = lock.release().await {
        tracing::warn!(error = Error::from(error).report(), "could not give back the lock of the place for backups");
    }
    done.unwrap_or_else(|| Err(Error::new(ErrorKind::Unavailable, "the server is shutting down")))
}
