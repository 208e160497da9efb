//! Data files on their way from one store to another: checked when read, stored, read back.
//!
//! Always true: a file that arrived has every byte that its catalog's checksums stand for, as the receiving store gives it out.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::engine::store::Store;
use crate::engine::store::checked::CheckedFiles;
use crate::engine::store::recent::RecentSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::model::DataFile;

/// Files that are under way at one time, each wholly in memory, twice while it is read back.
const COPIES_AT_ONCE: usize = 2;

/// After so many files a line in the log says how far it is.
const FILES_PER_REPORT: usize = 100;

/// Carries data files to a store.
#[derive(Debug)]
pub(super) struct Transfer {
    from: CheckedFiles,
    to: Store,
    arrived: CheckedFiles,
}

impl Transfer {
    pub(super) fn new(from: &Store, to: &Store, clock: &Arc<dyn Clock>) -> Self {
        // Nothing is kept in memory: each file is read once, and queries need the room.
        let unkept = |store: &Store| CheckedFiles::new(store.clone(), 0, RecentSettings::NOTHING, Arc::clone(clock));
        Self { from: unkept(from), to: to.clone(), arrived: unkept(to) }
    }

    /// Copies files to the same paths.
    ///
    /// # Errors
    /// `Corrupt` if a file can't be read as it was written, or did not arrive so; `Unavailable` if a store doesn't answer.
    pub(super) async fn copy_all(&self, files: &[Arc<DataFile>]) -> Result<()> {
        let copies = files.iter().map(|file| async move { self.put(file, &read(&self.from, file).await?).await });
        let mut copies = stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).boxed();
        let mut done = 0;
        while let Some(()) = copies.try_next().await? {
            done += 1;
            if done % FILES_PER_REPORT == 0 {
                tracing::info!(done, of = files.len(), "copying data files");
            }
        }
        Ok(())
    }

    /// Stores the bytes of a file, and reads them back.
    ///
    /// # Errors
    /// As `copy_all`.
    pub(super) async fn put(&self, file: &Arc<DataFile>, bytes: &Bytes) -> Result<()> {
        let path = Path::from(file.path.as_str());
        let place = || format!("\"{path}\" in \"{}\"", self.to.description());
        self.to.create(&path, bytes).await.map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => {
                Error::with_source(ErrorKind::Corrupt, format!("other bytes are in the way at {}", place()), error)
            }
            error => Error::with_source(ErrorKind::Unavailable, format!("could not store {}", place()), error),
        })?;
        if read(&self.arrived, file).await? == *bytes {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, format!("{} was not stored as it was sent", place())))
    }
}

/// The whole file, every byte checked.
async fn read(files: &CheckedFiles, file: &Arc<DataFile>) -> Result<Bytes> {
    let mut reader = files.reader(Arc::clone(file), Handle::current());
    let whole = 0..file.bytes;
    let read = reader.read(std::slice::from_ref(&whole)).await?.pop();
    read.ok_or_else(|| Error::internal("a read of one range gave none"))
}
