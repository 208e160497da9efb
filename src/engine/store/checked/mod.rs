//! Reads data files and hands out no byte that it has not checked.
//!
//! Page index and footer are read at once and checked against the catalog; the footer then holds the
//! checksums of the data blocks. A request for pages is widened to whole blocks, the blocks are fetched, each is
//! checked, and what was asked for is cut out of them without copying.
//!
//! Always true:
//! - a changed, missing or shortened object is an error of kind `Corrupt` that names the object, never fewer or other rows;
//! - of several readers that want the metadata of one file, one fetches it;
//! - the store is asked on the runtime for IO; checking and decoding happen where the caller runs.
//!
//! Not here: keeping data in memory; only metadata is cached.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use moka::future::Cache;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::Store;
use super::parquet::{BlockChecksums, ChecksumFault};
use crate::error::{Error, ErrorKind};
use crate::model::{DataFile, FileId};

/// How long the size of an object may take when a read failed. It only makes the error clearer, and a store that is
/// down has made the caller wait already.
const SIZE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a data file could not be read.
///
/// It can be cloned, because one failed load of metadata answers every reader that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DataFileError {
    /// The object is not there.
    #[error("data file \"{path}\" is missing from the object store")]
    Missing {
        /// The object.
        path: Path,
    },

    /// The object ends early.
    #[error("data file \"{path}\" ends at byte {found} of {expected}")]
    Truncated {
        /// The object.
        path: Path,
        /// Its size according to the catalog.
        expected: u64,
        /// Where its bytes end.
        found: u64,
    },

    /// Bytes are not what was written.
    #[error("data file \"{path}\" is damaged: bytes {} to {} fail their checksum", bytes.start, bytes.end)]
    Checksum {
        /// The object.
        path: Path,
        /// Which bytes: a block of data, or page index and footer.
        bytes: Range<u64>,
    },

    /// The footer is what was written, but does not say what a footer must.
    #[error("the footer of data file \"{path}\" makes no sense")]
    Footer {
        /// The object.
        path: Path,
        /// What the decoder says.
        source: Arc<ParquetError>,
    },

    /// The footer is what was written, but has no checksums for the data.
    #[error("data file \"{path}\" has no checksums for its data")]
    NoChecksums {
        /// The object.
        path: Path,
        /// What is wrong with them.
        source: ChecksumFault,
    },

    /// More was asked for than the file holds.
    #[error("data file \"{path}\" of {size} bytes has no bytes {} to {}", bytes.start, bytes.end)]
    Outside {
        /// The object.
        path: Path,
        /// Its size.
        size: u64,
        /// What was asked for.
        bytes: Range<u64>,
    },

    /// The store did not answer.
    #[error("could not read data file \"{path}\"")]
    Store {
        /// The object.
        path: Path,
        /// The store's answer.
        source: Arc<object_store::Error>,
    },

    /// The runtime for IO dropped the request.
    #[error("reading data file \"{path}\" was cut off")]
    CutOff {
        /// The object.
        path: Path,
    },
}

impl From<DataFileError> for Error {
    fn from(error: DataFileError) -> Self {
        let kind = match &error {
            // A missing object is damage too: what the catalog names is never deleted.
            DataFileError::Missing { .. }
            | DataFileError::Truncated { .. }
            | DataFileError::Checksum { .. }
            | DataFileError::Footer { .. }
            | DataFileError::NoChecksums { .. } => ErrorKind::Corrupt,
            DataFileError::Store { .. } | DataFileError::CutOff { .. } => ErrorKind::Unavailable,
            DataFileError::Outside { .. } => ErrorKind::Internal,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// What the tail of a file says, checked.
#[derive(Debug)]
struct Metadata {
    parquet: Arc<ParquetMetaData>,
    checksums: BlockChecksums,
}

impl Metadata {
    fn memory_size(&self) -> usize {
        self.parquet.memory_size() + self.checksums.memory_size()
    }
}

/// The metadata of files that were read lately: footers, page indexes and block checksums. Cloning it shares it.
///
/// One cache serves one catalog, since file ids are unique in one catalog only.
#[derive(Clone)]
pub struct MetadataCache {
    entries: Cache<FileId, Arc<Metadata>>,
}

impl MetadataCache {
    /// A cache of at most about `bytes_max` bytes of memory. What is used least often goes first; 0 keeps nothing.
    pub fn new(bytes_max: u64) -> Self {
        let weigh = |_: &FileId, metadata: &Arc<Metadata>| u32::try_from(metadata.memory_size()).unwrap_or(u32::MAX);
        Self { entries: Cache::builder().max_capacity(bytes_max).weigher(weigh).build() }
    }

    /// About how many bytes of memory the cache holds; changes show after a moment.
    pub fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }
}

impl fmt::Debug for MetadataCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Reads one data file, checking every byte that it hands out.
///
/// Errors reach the caller as [`ParquetError::External`] around a [`crate::error::Error`], whose kind says what to do.
/// Dropping a future of this reader ends its request to the store.
#[derive(Debug)]
pub struct CheckedReader {
    object: Object,
    cache: MetadataCache,
    metadata: Option<Arc<Metadata>>,
}

impl CheckedReader {
    /// A reader of `file` in `store`. Nothing is read yet. Requests to the store run on `io`.
    pub fn new(store: Store, file: Arc<DataFile>, cache: MetadataCache, io: Handle) -> Self {
        let path = Path::from(file.path.as_str());
        Self { object: Object { store, file, path, io }, cache, metadata: None }
    }

    /// The file's metadata with its page indexes, from the cache or the store.
    ///
    /// # Errors
    /// `Corrupt` if the object is missing, too short or not what was written; `Unavailable` if the store doesn't answer.
    pub async fn metadata(&mut self) -> Result<Arc<ParquetMetaData>, Error> {
        Ok(Arc::clone(&self.checked_metadata().await?.parquet))
    }

    /// The bytes of each range, in the order of `ranges`.
    ///
    /// # Errors
    /// As `metadata`; `Internal` if a range lies outside the file.
    pub async fn read(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let metadata = self.checked_metadata().await?;
        Ok(self.object.read(ranges, &metadata.checksums).await?)
    }

    /// The rows of one row group as one batch with the columns that the file has.
    ///
    /// # Errors
    /// As `metadata`; `Corrupt` too if the bytes are those that were written and can't be decoded.
    pub async fn row_group(self, number: usize) -> Result<RecordBatch, Error> {
        let path = self.object.path.clone();
        let rows = self.object.file.row_groups.get(number).map_or(0, |group| group.rows);
        let read = async {
            let builder = ParquetRecordBatchStreamBuilder::new(self).await?;
            let schema = Arc::clone(builder.schema());
            let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
            let stream = builder.with_row_groups(vec![number]).with_batch_size(rows).build()?;
            let batches: Vec<RecordBatch> = stream.try_collect().await?;
            Ok(concat_batches(&schema, &batches)?)
        };
        read.await.map_err(|error| match error {
            // Our own errors come through the decoder as they are.
            ParquetError::External(error) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::internal(format!("could not decode \"{path}\": {error}")),
            },
            error => Error::with_source(ErrorKind::Corrupt, format!("could not decode \"{path}\""), error),
        })
    }

    async fn checked_metadata(&mut self) -> Result<Arc<Metadata>, DataFileError> {
        if let Some(metadata) = &self.metadata {
            return Ok(Arc::clone(metadata));
        }
        let load = async { self.object.load_metadata().await.map(Arc::new) };
        let loaded = self.cache.entries.try_get_with(self.object.file.id, load).await;
        let metadata = loaded.map_err(|error: Arc<DataFileError>| DataFileError::clone(&error))?;
        Ok(Arc::clone(self.metadata.insert(metadata)))
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let mut bytes = self.read(&[range]).await.map_err(external)?;
            bytes.pop().ok_or_else(|| ParquetError::General("a read of one range gave none".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.read(&ranges).await.map_err(external) }.boxed()
    }

    // The options ask for less than is there: page indexes and all statistics are always read, once for all queries.
    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { self.metadata().await.map_err(external) }.boxed()
    }
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The object behind a data file.
#[derive(Debug, Clone)]
struct Object {
    store: Store,
    file: Arc<DataFile>,
    path: Path,
    io: Handle,
}

impl Object {
    /// Reads and checks everything behind the data.
    async fn load_metadata(&self) -> Result<Metadata, DataFileError> {
        let tail = self.tail();
        let bytes = self.fetch(vec![tail.clone()]).await?.pop().unwrap_or_default();
        self.check_tail(&bytes)?;
        let footer_error = |source| DataFileError::Footer { path: self.path.clone(), source: Arc::new(source) };
        let parquet = decode_tail(self.file.bytes, tail, bytes).map_err(footer_error)?;
        let entries = parquet.file_metadata().key_value_metadata();
        let checksums = BlockChecksums::from_key_values(entries, self.file.data_bytes)
            .map_err(|source| DataFileError::NoChecksums { path: self.path.clone(), source })?;
        Ok(Metadata { parquet: Arc::new(parquet), checksums })
    }

    async fn read(&self, ranges: &[Range<u64>], checksums: &BlockChecksums) -> Result<Vec<Bytes>, DataFileError> {
        let fetches = self.plan(ranges, checksums)?;
        let fetched = self.fetch(fetches.clone()).await?;
        for (range, bytes) in fetches.iter().zip(&fetched) {
            self.check(range, bytes, checksums)?;
        }
        Ok(ranges.iter().map(|range| cut(range, &fetches, &fetched)).collect())
    }

    /// What must be fetched for `ranges`: whole blocks, rising, apart from each other.
    fn plan(&self, ranges: &[Range<u64>], checksums: &BlockChecksums) -> Result<Vec<Range<u64>>, DataFileError> {
        let mut widened = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.start > range.end || range.end > self.file.bytes {
                let (path, size) = (self.path.clone(), self.file.bytes);
                return Err(DataFileError::Outside { path, size, bytes: range.clone() });
            }
            if !range.is_empty() {
                widened.push(self.widen(range, checksums));
            }
        }
        widened.sort_unstable_by_key(|range| range.start);
        let mut apart: Vec<Range<u64>> = Vec::with_capacity(widened.len());
        for range in widened {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        Ok(apart)
    }

    fn widen(&self, range: &Range<u64>, checksums: &BlockChecksums) -> Range<u64> {
        let tail = self.tail();
        let start =
            if range.start < tail.start { checksums.widen(&(range.start..range.start + 1)).start } else { tail.start };
        let end = if range.end <= tail.start { checksums.widen(&(range.end - 1..range.end)).end } else { tail.end };
        start..end
    }

    /// Checks what was fetched: blocks, then perhaps the tail.
    fn check(&self, range: &Range<u64>, bytes: &Bytes, checksums: &BlockChecksums) -> Result<(), DataFileError> {
        let data = self.tail().start.saturating_sub(range.start).min(bytes.len() as u64);
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
        Err(DataFileError::Checksum { path: self.path.clone(), bytes: self.tail() })
    }

    /// Where page index and footer are.
    fn tail(&self) -> Range<u64> {
        self.file.data_bytes.min(self.file.bytes)..self.file.bytes
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

    async fn on_io<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DataFileError> {
        let task = AbortOnDropHandle::new(self.io.spawn(request));
        task.await.map_err(|_| DataFileError::CutOff { path: self.path.clone() })
    }
}

/// Decodes page index and footer; `tail` is where `bytes` lie in the file.
fn decode_tail(file_bytes: u64, tail: Range<u64>, bytes: Bytes) -> Result<ParquetMetaData, ParquetError> {
    // Optional, because a column without statistics has offsets but no column index.
    let mut decoder =
        ParquetMetaDataPushDecoder::try_new(file_bytes)?.with_page_index_policy(PageIndexPolicy::Optional);
    decoder.push_range(tail, bytes)?;
    match decoder.try_decode()? {
        DecodeResult::Data(metadata) => Ok(metadata),
        DecodeResult::NeedsData(_) | DecodeResult::Finished => {
            Err(ParquetError::General("the footer points outside itself and its page index".to_owned()))
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
