//! The object behind a data file: what to fetch of it, and whether that is what was written.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::DataFileError;
use super::metadata::{Metadata, tail};
use crate::engine::store::Store;
use crate::engine::store::disk_cache::DiskCache;
use crate::engine::store::parquet::BlockChecksums;
use crate::engine::store::recent::PieceSource;
use crate::model::DataFile;

/// How long the size of an object may take when a read failed. It only makes the error clearer, and a store that is
/// down has made the caller wait already.
const SIZE_TIMEOUT: Duration = Duration::from_secs(2);

/// The object behind a data file.
#[derive(Debug, Clone)]
pub(super) struct Object {
    store: Store,
    disk: Option<DiskCache>,
    pub(super) file: Arc<DataFile>,
    pub(super) path: Path,
    io: Handle,
}

impl Object {
    pub(super) fn new(store: Store, disk: Option<DiskCache>, file: Arc<DataFile>, io: Handle) -> Self {
        let path = Path::from(file.path.as_str());
        Self { store, disk, file, path, io }
    }

    /// Reads and checks everything behind the data.
    pub(super) async fn load_metadata(self) -> Result<Arc<Metadata>, DataFileError> {
        let bytes = self.tail_bytes().await?;
        let file = Arc::clone(&self.file);
        self.compute(move || Metadata::decode(&file, bytes).map(Arc::new)).await?
    }

    /// Page index and footer, checked.
    async fn tail_bytes(&self) -> Result<Bytes, DataFileError> {
        let Some(disk) = &self.disk else { return self.fetch_tail().await };
        let crc = self.file.tail_crc32c;
        if let Some(bytes) = disk.read_tail(&self.io, &self.file, move |bytes| crc32c::crc32c(bytes) == crc).await {
            return Ok(bytes);
        }
        let bytes = self.fetch_tail().await?;
        disk.keep_tail(&self.file, &bytes);
        Ok(bytes)
    }

    async fn fetch_tail(&self) -> Result<Bytes, DataFileError> {
        let bytes = self.fetch(vec![tail(&self.file)]).await?.pop().unwrap_or_default();
        self.check_tail(&bytes)?;
        Ok(bytes)
    }

    /// Whether there are such bytes in the file.
    pub(super) fn check_inside(&self, ranges: &[Range<u64>]) -> Result<(), DataFileError> {
        match ranges.iter().find(|range| range.start > range.end || range.end > self.file.bytes) {
            Some(range) => {
                let (path, size) = (self.path.clone(), self.file.bytes);
                Err(DataFileError::Outside { path, size, bytes: range.clone() })
            }
            None => Ok(()),
        }
    }

    /// The bytes of ranges inside the file, in the order of `ranges`. Keeps nothing.
    pub(super) async fn read(
        &self,
        ranges: &[Range<u64>],
        checksums: &BlockChecksums,
    ) -> Result<Vec<Bytes>, DataFileError> {
        let fetches = self.plan(ranges, checksums);
        let fetched = self.fetch(fetches.clone()).await?;
        for (range, bytes) in fetches.iter().zip(&fetched) {
            self.check(range, bytes, checksums)?;
        }
        Ok(ranges.iter().map(|range| cut(range, &fetches, &fetched)).collect())
    }

    /// What must be fetched for `ranges`: whole blocks, rising, apart from each other.
    fn plan(&self, ranges: &[Range<u64>], checksums: &BlockChecksums) -> Vec<Range<u64>> {
        let wanted = ranges.iter().filter(|range| !range.is_empty());
        let mut widened: Vec<Range<u64>> = wanted.map(|range| self.widen(range, checksums)).collect();
        widened.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(widened.len());
        for range in widened {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    fn widen(&self, range: &Range<u64>, checksums: &BlockChecksums) -> Range<u64> {
        let tail = tail(&self.file);
        let start =
            if range.start < tail.start { checksums.widen(&(range.start..range.start + 1)).start } else { tail.start };
        let end = if range.end <= tail.start { checksums.widen(&(range.end - 1..range.end)).end } else { tail.end };
        start..end
    }

    /// Checks what was fetched: blocks, then perhaps the tail.
    fn check(&self, range: &Range<u64>, bytes: &[u8], checksums: &BlockChecksums) -> Result<(), DataFileError> {
        let data = tail(&self.file).start.saturating_sub(range.start).min(bytes.len() as u64);
        // Not longer than bytes that are in memory.
        let data = usize::try_from(data).unwrap_or(usize::MAX);
        checksums
            .check(range.start, &bytes[..data])
            .map_err(|bytes| DataFileError::Checksum { path: self.path.clone(), bytes })?;
        if data < bytes.len() { self.check_tail(&bytes[data..]) } else { Ok(()) }
    }

    fn check_tail(&self, bytes: &[u8]) -> Result<(), DataFileError> {
        if crc32c::crc32c(bytes) == self.file.tail_crc32c {
            return Ok(());
        }
        Err(DataFileError::Checksum { path: self.path.clone(), bytes: tail(&self.file) })
    }

    /// Fetches exactly these ranges.
    async fn fetch(&self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, DataFileError> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = {
            let (objects, path, ranges) = (Arc::clone(self.store.objects()), self.path.clone(), ranges.clone());
            self.on_io(async move { objects.get_ranges(&path, &ranges).await }).await?
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.explain(error).await),
        };
        for (range, bytes) in ranges.iter().zip(&fetched) {
            let found = range.start + bytes.len() as u64;
            if found != range.end {
                return Err(self.truncated(found));
            }
        }
        Ok(fetched)
    }

    /// Whole blocks of data, those from the disk that are there, the others from the store; they go to the disk. What comes
    /// from the store is not checked yet.
    async fn blocks(&self, ranges: &[Range<u64>], metadata: &Arc<Metadata>) -> Result<Vec<Bytes>, DataFileError> {
        let Some(disk) = &self.disk else { return self.fetch(ranges.to_vec()).await };
        let is_right = {
            let metadata = Arc::clone(metadata);
            move |start: u64, bytes: &[u8]| metadata.checksums.check(start, bytes).is_ok()
        };
        let mut parts = disk.read_data(&self.io, &self.file, ranges, is_right.clone()).await;
        let missing = gaps(ranges, &parts);
        for (range, bytes) in missing.iter().zip(self.fetch(missing.clone()).await?) {
            disk.keep_data(&self.file, range, &bytes, is_right.clone());
            parts.push((range.clone(), bytes));
        }
        parts.sort_unstable_by_key(|(range, _)| range.start);
        Ok(ranges.iter().map(|range| joined(range, &parts)).collect())
    }

    /// What a store's refusal means: stores have different words for a range outside an object.
    async fn explain(&self, error: object_store::Error) -> DataFileError {
        let path = self.path.clone();
        if matches!(error, object_store::Error::NotFound { .. }) {
            return DataFileError::Missing { path };
        }
        let head = {
            let (objects, path) = (Arc::clone(self.store.objects()), self.path.clone());
            self.on_io(async move { tokio::time::timeout(SIZE_TIMEOUT, objects.head(&path)).await }).await
        };
        match head {
            Ok(Ok(Ok(object))) if object.size < self.file.bytes => self.truncated(object.size),
            _ => DataFileError::Store { path, source: Arc::new(error) },
        }
    }

    fn truncated(&self, found: u64) -> DataFileError {
        DataFileError::Truncated { path: self.path.clone(), expected: self.file.bytes, found }
    }

    /// Runs `request` on the runtime for IO, which drives it whether or not the caller asks for the result. Dropping
    /// this ends it.
    pub(super) async fn on_io<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DataFileError> {
        let task = AbortOnDropHandle::new(self.io.spawn(request));
        task.await.map_err(|_| DataFileError::CutOff { path: self.path.clone() })
    }

    /// Checks and decodes away from the threads that serve connections.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, DataFileError> {
        let task = self.io.spawn_blocking(work);
        task.await.map_err(|_| DataFileError::CutOff { path: self.path.clone() })
    }
}

/// The pieces of one file, out of its object.
#[derive(Debug)]
pub(super) struct ObjectPieces {
    pub(super) object: Object,
    pub(super) metadata: Arc<Metadata>,
}

impl PieceSource for ObjectPieces {
    type Error = DataFileError;

    async fn fetch(&self, numbers: Vec<usize>) -> Vec<Result<Bytes, DataFileError>> {
        let count = numbers.len();
        match self.fetch_all(numbers).await {
            Ok(pieces) => pieces,
            Err(error) => vec![Err(error); count],
        }
    }
}

impl ObjectPieces {
    async fn fetch_all(&self, numbers: Vec<usize>) -> Result<Vec<Result<Bytes, DataFileError>>, DataFileError> {
        let (object, metadata) = (self.object.clone(), Arc::clone(&self.metadata));
        let ranges: Vec<Range<u64>> = numbers.into_iter().map(|number| metadata.pieces.range(number)).collect();
        let fetches = object.plan(&ranges, &metadata.checksums);
        let fetched = object.blocks(&fetches, &metadata).await?;
        let check = move || {
            let piece = |range: &Range<u64>| -> Result<Bytes, DataFileError> {
                // Piece by piece, so that damage in one of them leaves the others readable.
                let blocks = object.widen(range, &metadata.checksums);
                object.check(&blocks, &cut(&blocks, &fetches, &fetched), &metadata.checksums)?;
                // A copy, because what was fetched may be one allocation, which no piece may keep alive.
                Ok(Bytes::copy_from_slice(&cut(range, &fetches, &fetched)))
            };
            ranges.iter().map(piece).collect()
        };
        self.object.compute(check).await
    }
}

/// What of `ranges` is in none of the parts of them. Both rise.
fn gaps(ranges: &[Range<u64>], parts: &[(Range<u64>, Bytes)]) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    for range in ranges {
        let mut start = range.start;
        for (part, _) in parts.iter().filter(|(part, _)| part.start >= range.start && part.end <= range.end) {
            gaps.push(start..part.start);
            start = part.end;
        }
        gaps.push(start..range.end);
    }
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// The bytes of `range`, which is made of whole parts. Parts rise.
fn joined(range: &Range<u64>, parts: &[(Range<u64>, Bytes)]) -> Bytes {
    let mut inside = parts.iter().filter(|(part, _)| part.start >= range.start && part.end <= range.end);
    match (inside.next(), inside.next()) {
        (Some((whole, bytes)), None) if whole == range => bytes.clone(),
        (first, second) => {
            let all: Vec<&[u8]> = first.into_iter().chain(second).chain(inside).map(|(_, bytes)| &**bytes).collect();
            all.concat().into()
        }
    }
}

/// `range` out of what was fetched; one of `fetches` holds all of it, or it is empty.
fn cut(range: &Range<u64>, fetches: &[Range<u64>], fetched: &[Bytes]) -> Bytes {
    if range.is_empty() {
        return Bytes::new();
    }
    let holder = fetches.partition_point(|fetch| fetch.start <= range.start) - 1;
    let offset = fetches[holder].start;
    // Both lie in what was fetched, which is in memory.
    let position = |byte: u64| usize::try_from(byte - offset).unwrap_or(usize::MAX);
    fetched[holder].slice(position(range.start)..position(range.end))
}
