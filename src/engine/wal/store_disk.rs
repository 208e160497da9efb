//! A disk in an object store, for the replica of a log.
//!
//! A file is a directory of objects, `{name}/{offset:020}`: each sync puts one, with the bytes since the one before. What was
//! appended and not synced is in memory only, as a disk may do. A file ends where the next object does not follow.
//!
//! Calls block until the store has answered, and must not come from a thread of the runtime.
//!
//! Not here: a log that is in a store alone, which waits for several objects at a time and fences others off (`objects`).

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use super::disk::{Disk, DiskFile};
use crate::engine::store::Store;

/// Objects of one file that are fetched at one time.
const FETCHES_AT_ONCE: usize = 16;

/// A directory of files in an object store. Nobody else may write there.
#[derive(Debug, Clone)]
pub struct StoreDisk {
    store: Store,
    io: Handle,
}

impl StoreDisk {
    /// The files in `store`, whose requests run on the runtime `io`.
    pub fn new(store: Store, io: Handle) -> Self {
        Self { store, io }
    }

    fn part(name: &str, offset: u64) -> Path {
        Path::from_iter([name.to_owned(), format!("{offset:020}")])
    }

    /// Offset and length of the objects of a file, rising.
    async fn parts(&self, name: &str) -> io::Result<Vec<(u64, u64)>> {
        let directory = Path::from(name);
        let listed = self.store.objects().list(Some(&directory));
        let parts =
            listed.map_ok(|object| (object.location.filename().and_then(|name| name.parse().ok()), object.size));
        let parts: Vec<(Option<u64>, u64)> = parts.try_collect().await.map_err(io_error)?;
        let mut parts: Vec<(u64, u64)> = parts.into_iter().filter_map(|(offset, size)| Some((offset?, size))).collect();
        parts.sort_unstable();
        Ok(parts)
    }

    async fn content(&self, name: &str) -> io::Result<Bytes> {
        let parts = self.parts(name).await?;
        if parts.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut end = 0;
        let following = parts.into_iter().take_while(|(offset, size)| {
            let follows = *offset == end;
            end = offset + size;
            follows
        });
        let fetch = |(offset, _)| async move {
            let found = self.store.objects().get(&Self::part(name, offset)).await.map_err(io_error)?;
            found.bytes().await.map_err(io_error)
        };
        let fetches = futures::stream::iter(following.map(fetch)).buffered(FETCHES_AT_ONCE);
        let content = fetches.try_fold(BytesMut::new(), |mut content, part| async move {
            content.extend_from_slice(&part);
            Ok(content)
        });
        Ok(content.await?.freeze())
    }

    async fn delete(&self, name: &str, offsets: Vec<u64>) -> io::Result<()> {
        let paths: Vec<_> = offsets.into_iter().map(|offset| Ok(Self::part(name, offset))).collect();
        let deleted = self.store.objects().delete_stream(futures::stream::iter(paths).boxed());
        let failure = deleted.filter_map(|deleted| async move {
            match deleted {
                Ok(_) | Err(StoreError::NotFound { .. }) => None,
                Err(error) => Some(Err::<(), _>(io_error(error))),
            }
        });
        failure.try_collect::<Vec<()>>().await.map(drop)
    }

    /// Cuts what is stored at `length` bytes.
    async fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let parts = self.parts(name).await?;
        let beyond = parts.iter().filter(|(offset, _)| *offset >= length).map(|(offset, _)| *offset).collect();
        self.delete(name, beyond).await?;
        if let Some((offset, _)) = parts.iter().find(|(offset, size)| *offset < length && offset + size > length) {
            let path = Self::part(name, *offset);
            let kept = self.store.objects().get_range(&path, 0..length - offset).await.map_err(io_error)?;
            self.store.objects().put(&path, PutPayload::from_bytes(kept)).await.map_err(io_error)?;
        }
        Ok(())
    }
}

fn io_error(error: StoreError) -> io::Error {
    match error {
        StoreError::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        StoreError::AlreadyExists { .. } => io::Error::new(io::ErrorKind::AlreadyExists, error),
        error => io::Error::other(error),
    }
}

impl Disk for StoreDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if !self.io.block_on(self.parts(name))?.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Box::new(StoreFile { disk: self.clone(), name: name.to_owned(), synced: 0, pending: Vec::new() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let listed = self.io.block_on(self.store.objects().list_with_delimiter(None)).map_err(io_error)?;
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.io.block_on(self.content(name))
    }

    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        let content = self.read(name)?;
        Ok(content.slice(..length.min(content.len())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.io.block_on(async {
            let parts = self.parts(name).await?;
            if parts.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.delete(name, parts.into_iter().map(|(offset, _)| offset).collect()).await
        })
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.io.block_on(self.cut(name, length))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(()) // what was put or deleted stays so
    }

    fn keeps_unsynced(&self) -> bool {
        false // they are in memory
    }

    fn locate(&self, name: &str) -> String {
        format!("{}/{name}", self.store.description())
    }
}

struct StoreFile {
    disk: StoreDisk,
    name: String,
    /// Where the bytes in memory begin.
    synced: u64,
    pending: Vec<u8>,
}

impl DiskFile for StoreFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        slices.iter().for_each(|slice| self.pending.extend_from_slice(slice));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.pending));
        let path = StoreDisk::part(&self.name, self.synced);
        self.disk.io.block_on(self.disk.store.create(&path, &bytes)).map_err(io_error)?;
        self.synced += bytes.len() as u64;
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.pending.truncate(usize::try_from(length.saturating_sub(self.synced)).unwrap_or(usize::MAX));
        self.synced = self.synced.min(length);
        // A put of which the outcome is unknown may have stored what lies beyond.
        self.disk.io.block_on(self.disk.cut(&self.name, length))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    use super::*;
    use crate::engine::store::fault_store::{Aftermath, FaultStore, Moment};
    use crate::engine::wal::tests::{append, open_log, segments};
    use crate::engine::wal::{Durability, MemoryDisk, ReplicatedDisk};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn disk(runtime: &tokio::runtime::Runtime) -> (StoreDisk, Arc<FaultStore>) {
        let faults = FaultStore::new(Arc::new(InMemory::new()), 1);
        let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "test");
        (StoreDisk::new(store, runtime.handle().clone()), faults)
    }

    #[test]
    fn a_file_is_what_was_synced_of_it() {
        let runtime = runtime();
        let (disk, _) = disk(&runtime);
        let mut file = disk.create("a").unwrap();
        file.append(&[b"one", b"two"]).unwrap();
        assert_eq!(disk.read("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        file.sync().unwrap();
        file.append(&[b"three"]).unwrap();
        file.sync().unwrap();
        file.append(&[b"lost"]).unwrap();
        assert_eq!(disk.read("a").unwrap(), "onetwothree");
        assert_eq!(disk.read_start("a", 4).unwrap(), "onet");
        assert_eq!(disk.create("a").map(drop).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.list().unwrap(), ["a"]);
        for (length, content) in [(11, "onetwothree"), (8, "onetwoth"), (6, "onetwo"), (2, "on")] {
            Disk::truncate(&disk, "a", length).unwrap();
            assert_eq!(disk.read("a").unwrap(), content);
        }
        disk.remove("a").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert_eq!(disk.remove("a").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_replica_in_a_store_has_all_that_was_acknowledged_whatever_fails() {
        let runtime = runtime();
        for moment in [Moment::Before, Moment::AfterCommit] {
            for failing in 0..12 {
                let (replica, faults) = disk(&runtime);
                let first = MemoryDisk::default();
                let both = ReplicatedDisk::open(Arc::new(first.clone()), Arc::new(replica.clone())).unwrap();
                let both: Arc<dyn Disk> = Arc::new(both);
                let (mut log, _) = open_log(&both, 4096).unwrap();
                faults.fail_put(failing, moment, Aftermath::Recovers);
                let mut acknowledged = Vec::new();
                for value in 0..12 {
                    if let Ok(sequence) = append(&mut log, &[value], Durability::Synced) {
                        acknowledged.push((sequence.get(), value));
                    }
                }
                assert!(acknowledged.len() >= 11, "{moment:?} {failing}: one write is refused at the most");
                assert!(segments(&first).len() >= 3);
                drop(log);
                // The first disk is lost.
                let fresh: Arc<dyn Disk> =
                    Arc::new(ReplicatedDisk::open(Arc::new(MemoryDisk::default()), Arc::new(replica)).unwrap());
                let found = open_log(&fresh, 4096).unwrap().1;
                assert!(acknowledged.iter().all(|write| found.contains(write)), "{moment:?} {failing}: {found:?}");
            }
        }
    }
}
