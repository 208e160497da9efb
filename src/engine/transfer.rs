//! Data files on their way from one store to another: checked when read, stored, read back.
//!
//! Always true:
//! - a file that arrived has every byte that its catalog's checksums stand for, as the receiving store gives it out;
//! - a file is under its name whole or not at all;
//! - of each file that is under way a few pieces are in memory, however large it is.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, MultipartUpload, ObjectStoreExt, PutPayload};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::store::Store;
use super::store::checked::{CheckedFiles, CheckedReader};
use super::store::recent::RecentSettings;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::DataFile;

/// Files that are under way at one time.
const COPIES_AT_ONCE: usize = 2;

/// Large files go in pieces of this size: S3 wants 5 MiB at least, and takes 10,000 of them.
const PIECE_BYTES: u64 = 16 << 20;

/// After so many files a line in the log says how far it is.
const FILES_PER_REPORT: usize = 100;

/// Carries data files to a store.
#[derive(Debug)]
pub(super) struct Transfer {
    from: CheckedFiles,
    to: Store,
    arrived: CheckedFiles,
    pace: Option<Pace>,
    piece_bytes: u64,
}

/// How fast files may be sent.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    clock: Arc<dyn Clock>,
    /// When what was sent so far is through, on the clock's own scale.
    through_at: Mutex<Duration>,
}

impl Transfer {
    pub(super) fn new(from: &Store, to: &Store, clock: &Arc<dyn Clock>) -> Self {
        // Nothing is kept in memory: each file is read once, and queries need the room.
        let unkept = |store: &Store| CheckedFiles::new(store.clone(), 0, RecentSettings::NOTHING, Arc::clone(clock));
        Self { from: unkept(from), to: to.clone(), arrived: unkept(to), pace: None, piece_bytes: PIECE_BYTES }
    }

    /// The same at this speed at the most; `None`: as fast as it goes.
    #[must_use]
    pub(super) fn at_most(self, bytes_per_second: Option<u64>, clock: &Arc<dyn Clock>) -> Self {
        let pace = |bytes_per_second: u64| Pace {
            bytes_per_second: bytes_per_second.max(1),
            clock: Arc::clone(clock),
            through_at: Mutex::default(),
        };
        Self { pace: bytes_per_second.map(pace), ..self }
    }

    /// Copies files to the same paths.
    ///
    /// # Errors
    /// `Corrupt` if a file can't be read as it was written, or did not arrive so; `Unavailable` if a store doesn't answer.
    pub(super) async fn copy_all(&self, files: &[Arc<DataFile>], mut copied: impl FnMut(&DataFile)) -> Result<()> {
        let copies = files.iter().map(|file| async move { self.copy(file).await.map(|()| file) });
        let mut copies = stream::iter(copies).buffer_unordered(COPIES_AT_ONCE).boxed();
        let mut done = 0;
        while let Some(file) = copies.try_next().await? {
            copied(file);
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
    pub(super) async fn put(&self, file: &DataFile, bytes: &Bytes) -> Result<()> {
        let path = Path::from(file.path.as_str());
        self.to.create(&path, bytes).await.map_err(|error| match error {
            StoreError::AlreadyExists { .. } => {
                let message = format!("other bytes are in the way at {}", self.place(&path));
                Error::with_source(ErrorKind::Corrupt, message, error)
            }
            error => self.failed("store", &path, error),
        })?;
        let found = match self.to.objects().get(&path).await {
            Ok(found) => found.bytes().await.map(Some),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        if found.map_err(|error| self.failed("read back", &path, error))?.as_ref() == Some(bytes) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, format!("{} was not stored as it was sent", self.place(&path))))
    }

    async fn copy(&self, file: &Arc<DataFile>) -> Result<()> {
        let mut reader = self.from.reader(Arc::clone(file), Handle::current());
        if file.bytes <= self.piece_bytes {
            let bytes = self.piece(&mut reader, 0..file.bytes).await?;
            return self.put(file, &bytes).await;
        }
        self.upload(file, &mut reader).await?;
        // There is no other check of a name that is taken: what is there now has to be this file.
        let mut arrived = self.arrived.reader(Arc::clone(file), Handle::current());
        for piece in self.pieces(file.bytes) {
            arrived.read(std::slice::from_ref(&piece)).await?;
        }
        Ok(())
    }

    /// Sends a large file, which is there once all of it is.
    async fn upload(&self, file: &DataFile, reader: &mut CheckedReader) -> Result<()> {
        let path = Path::from(file.path.as_str());
        let failed = |error| self.failed("store", &path, error);
        let mut upload = self.to.objects().put_multipart(&path).await.map_err(failed)?;
        for piece in self.pieces(file.bytes) {
            let sent = match self.piece(reader, piece).await {
                Ok(bytes) => upload.put_part(PutPayload::from_bytes(bytes)).await.map_err(failed),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                give_up(upload, &path).await;
                return Err(error);
            }
        }
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(error) => {
                give_up(upload, &path).await;
                Err(failed(error))
            }
        }
    }

    /// A checked part of a file, when it is its turn.
    async fn piece(&self, reader: &mut CheckedReader, piece: Range<u64>) -> Result<Bytes> {
        if let Some(pace) = &self.pace {
            pace.wait(piece.end - piece.start).await;
        }
        let read = reader.read(std::slice::from_ref(&piece)).await?.pop();
        read.ok_or_else(|| Error::internal("a read of one range gave none"))
    }

    /// The pieces of a file of this size, rising.
    fn pieces(&self, bytes: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let size = self.piece_bytes;
        (0..bytes.div_ceil(size)).map(move |number| number * size..bytes.min((number + 1) * size))
    }

    fn place(&self, path: &Path) -> String {
        format!("\"{path}\" in \"{}\"", self.to.description())
    }

    fn failed(&self, action: &'static str, path: &Path, error: StoreError) -> Error {
        Error::with_source(ErrorKind::Unavailable, format!("could not {action} {}", self.place(path)), error)
    }
}

/// What was sent of an upload is no object; a store that can't be told so forgets it by its own rules.
async fn give_up(mut upload: Box<dyn MultipartUpload>, path: &Path) {
    if let Err(error) = upload.abort().await {
        tracing::debug!(%path, %error, "could not take back what was sent of a file");
    }
}

impl Pace {
    /// Waits until what was sent before is through.
    async fn wait(&self, bytes: u64) {
        let now = self.clock.elapsed();
        let begins = {
            let mut through_at = self.through_at.lock();
            let begins = now.max(*through_at);
            *through_at = begins + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            begins
        };
        tokio::time::sleep(begins - now).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::store::checked::tests::large_file;
    use crate::engine::store::fault_store::{Aftermath, FaultStore, Moment};
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }

    /// A transfer from a store with one file, in pieces of 10,000 bytes.
    async fn transfer(to: &Store) -> (Store, Transfer, Arc<DataFile>, Bytes) {
        let (file, bytes) = large_file();
        assert!(file.bytes > 30_000);
        let from = Store::in_memory();
        from.create(&Path::from(file.path.as_str()), &bytes).await.unwrap();
        let transfer = Transfer { piece_bytes: 10_000, ..Transfer::new(&from, to, &clock()) };
        (from, transfer, file, bytes)
    }

    async fn found(store: &Store, file: &DataFile) -> Option<Bytes> {
        let found = store.objects().get(&Path::from(file.path.as_str())).await.ok()?;
        Some(found.bytes().await.unwrap())
    }

    #[tokio::test]
    async fn a_large_file_arrives_in_pieces() {
        let to = Store::in_memory();
        let (_, transfer, file, bytes) = transfer(&to).await;
        let mut copied = Vec::new();
        transfer.copy_all(std::slice::from_ref(&file), |file| copied.push(file.id)).await.unwrap();
        assert_eq!(copied, [file.id]);
        assert!(found(&to, &file).await == Some(bytes));
    }

    #[tokio::test]
    async fn a_large_file_that_is_damaged_does_not_arrive() {
        for at in [0, 25_000, -1] {
            let to = Store::in_memory();
            let (from, transfer, file, bytes) = transfer(&to).await;
            let mut flipped = bytes.to_vec();
            let at = if at < 0 { flipped.len() - 9 } else { at as usize };
            flipped[at] ^= 1;
            let path = Path::from(file.path.as_str());
            from.objects().put(&path, flipped.into()).await.unwrap();
            let error = transfer.copy_all(std::slice::from_ref(&file), |_| {}).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
            assert!(error.to_string().contains(&file.path), "{error}");
            assert!(found(&to, &file).await.is_none(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_file_whose_name_is_taken_by_other_bytes_is_refused() {
        let to = Store::in_memory();
        let (_, transfer, file, bytes) = transfer(&to).await;
        to.create(&Path::from(file.path.as_str()), &Bytes::from("other")).await.unwrap();
        let error = transfer.put(&file, &bytes).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("in the way"), "{error}");
    }

    #[tokio::test]
    async fn a_put_whose_answer_is_lost_is_none_that_failed() {
        let faults = FaultStore::new(Arc::new(InMemory::new()), 1);
        faults.fail_put(0, Moment::AfterCommit, Aftermath::Recovers);
        let to = Store::new(faults as Arc<dyn ObjectStore>, "test");
        let (_, transfer, file, bytes) = transfer(&to).await;
        transfer.put(&file, &bytes).await.unwrap();
        assert!(found(&to, &file).await == Some(bytes));
    }

    #[tokio::test]
    async fn a_pace_is_kept_on_the_average() {
        let clock = clock();
        let pace = Pace { bytes_per_second: 100_000, clock: Arc::clone(&clock), through_at: Mutex::default() };
        let begun = clock.elapsed();
        for _ in 0..4 {
            pace.wait(1_000).await;
        }
        // The last of four begins when the three before it are through.
        assert!(clock.elapsed() - begun >= Duration::from_millis(30));
    }
}
