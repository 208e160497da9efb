//! Reads data files and hands out no byte that it has not checked.
//!
//! Page index and footer are read at once and checked against the catalog; the footer then holds the
//! checksums of the data blocks. What is in memory of a recent file is taken from there, what is on the local disk from there. A request for anything else is
//! widened to whole blocks, the blocks are fetched, each is checked, and what was asked for is cut out of them.
//!
//! | file | what it does |
//! |---|---|
//! | `object` | what to fetch of an object, and whether it is what was written |
//! | `metadata` | page indexes and footers, decoded and kept |
//! | [`error`] | what can be wrong |
//!
//! Always true:
//! - a changed, missing or shortened object is an error of kind `Corrupt` that names the object, never fewer or other rows;
//! - of several readers that want the same, one fetches it; how fast that one is read does not hold up the others;
//! - the store is asked on the runtime for IO; what is fetched to be kept is checked and decoded on its threads
//!   for blocking work, everything else where the caller runs.
//!
//! Not here: which data is kept in memory, and in what pieces (see `recent`).

pub mod error;
mod metadata;
mod object;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::Handle;

use super::Store;
use super::decoded::{DecodedMetrics, DecodedRowGroup, DecodedRowGroups, SeriesRows, WantedRows};
use super::disk_cache::DiskCache;
use super::recent::{RecentCache, RecentMetrics, RecentSettings};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::model::{ColumnName, DataFile};
use error::DataFileError;
use metadata::{Metadata, MetadataCache, tail};
use object::{Object, ObjectPieces};

/// The data files of one catalog: where they are, and what of them is in memory. Cloning it shares the memory.
#[derive(Debug, Clone)]
pub struct CheckedFiles {
    store: Store,
    metadata: MetadataCache,
    recent: RecentCache,
    decoded: DecodedRowGroups,
    disk: Option<DiskTier>,
}

/// The local disk, and who reads what through it.
#[derive(Debug, Clone)]
struct DiskTier {
    cache: DiskCache,
    /// Keeps nothing: of several readers that want the same piece of an old file, one fetches it for all.
    flights: RecentCache,
}

impl CheckedFiles {
    /// The files in `store`, of which nothing is in memory yet. `metadata_bytes_max` bounds the memory of page indexes
    /// and footers in bytes.
    pub fn new(store: Store, metadata_bytes_max: u64, recent: RecentSettings, clock: Arc<dyn Clock>) -> Self {
        let metadata = MetadataCache::new(metadata_bytes_max);
        let decoded = DecodedRowGroups::new(0);
        Self { store, metadata, recent: RecentCache::new(recent, clock), decoded, disk: None }
    }

    /// The same files, with so many bytes of memory for what is asked for again and again, decoded.
    #[must_use]
    pub fn with_decoded(self, bytes_max: u64) -> Self {
        Self { decoded: DecodedRowGroups::new(bytes_max), ..self }
    }

    /// The same files, read through a cache on the local disk. Data is then fetched by piece, so that it serves more than one query.
    #[must_use]
    pub fn with_disk_cache(self, cache: DiskCache, clock: Arc<dyn Clock>) -> Self {
        let flights = RecentCache::new(RecentSettings::NOTHING, clock);
        Self { disk: Some(DiskTier { cache, flights }), ..self }
    }

    /// The cache on the local disk, if there is one.
    pub fn disk_cache(&self) -> Option<&DiskCache> {
        self.disk.as_ref().map(|disk| &disk.cache)
    }

    /// A reader of `file`. Nothing is read yet. Requests to the store run on `io`.
    pub fn reader(&self, file: Arc<DataFile>, io: Handle) -> CheckedReader {
        let object = Object::new(self.store.clone(), self.disk_cache().cloned(), file, io);
        CheckedReader { object, files: self.clone(), metadata: None }
    }

    /// Takes a file that was stored just now into memory, so that not even the first query asks the store for it.
    /// `bytes` is the whole file.
    ///
    /// # Errors
    /// `Corrupt` if its footer can't be read. No query will be able to read it either.
    pub async fn remember(&self, file: &DataFile, bytes: &Bytes) -> Result<(), Error> {
        let start = usize::try_from(tail(file).start).unwrap_or(usize::MAX).min(bytes.len());
        // A copy, because what is decoded may keep slices of it.
        let tail = Bytes::copy_from_slice(&bytes[start..]);
        let metadata = Arc::new(Metadata::decode(file, tail.clone())?);
        self.metadata.insert(file.id, Arc::clone(&metadata)).await;
        self.recent.put(file, &metadata.pieces, bytes).await;
        if let Some(disk) = self.disk_cache() {
            // It is little, and while it is in memory nobody fetches it, so that it would not be there after a restart.
            disk.keep_tail(file, &tail);
        }
        if let Some(disk) = self.disk_cache().filter(|_| self.recent.is_recent(file)) {
            disk.keep_data(file, &(0..start as u64), &bytes.slice(..start), |_, _| true);
        }
        Ok(())
    }

    /// A row group with these fields out of memory, or decoded into it if so much of it is asked for often enough; `None` if it is better
    /// read page by page. The file has all of these tags and fields, and no other tags. What is read in the store is read on `io`.
    ///
    /// # Errors
    /// What reading says.
    pub async fn decoded(
        &self,
        file: &Arc<DataFile>,
        number: usize,
        tags: &[ColumnName],
        fields: &[ColumnName],
        wanted: WantedRows,
        io: &Handle,
    ) -> Result<Option<DecodedRowGroup>, Error> {
        if let Some(held) = self.decoded.held(file.id, number, fields).await {
            return Ok(Some(held));
        }
        if !self.decoded.is_wanted(file, number, fields.len(), wanted, self.recent.is_recent(file)).await {
            return Ok(None);
        }
        let reader = self.reader(Arc::clone(file), io.clone());
        self.decoded.load(reader, number, tags, fields).await.map(Some)
    }

    /// The series of a row group, if they are in memory.
    pub async fn held_series(&self, file: &DataFile, number: usize) -> Option<Arc<SeriesRows>> {
        self.decoded.held_series(file.id, number).await
    }

    /// The series of a row group, read if they are not in memory. The file has all of these tags, and no others.
    ///
    /// # Errors
    /// What reading says.
    pub async fn series(
        &self,
        file: &Arc<DataFile>,
        number: usize,
        tags: &[ColumnName],
        io: &Handle,
    ) -> Result<Arc<SeriesRows>, Error> {
        match self.held_series(file, number).await {
            Some(held) => Ok(held),
            None => self.decoded.series_of(self.reader(Arc::clone(file), io.clone()), number, tags).await,
        }
    }

    /// Whether anything is kept decoded.
    pub fn keeps_decoded(&self) -> bool {
        self.decoded.metrics().bytes_max > 0
    }

    /// Figures of what is kept decoded.
    pub fn decoded_metrics(&self) -> DecodedMetrics {
        self.decoded.metrics()
    }

    /// Figures of what is kept of recent files.
    pub fn recent_metrics(&self) -> RecentMetrics {
        self.recent.metrics()
    }

    /// About how many bytes of memory page indexes and footers take.
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata.bytes()
    }
}

/// Reads one data file, checking every byte that it hands out.
///
/// Errors reach the caller as [`ParquetError::External`] around a [`crate::error::Error`], whose kind says what to do.
/// Dropping a future of this reader ends its request to the store.
#[derive(Debug)]
pub struct CheckedReader {
    object: Object,
    files: CheckedFiles,
    metadata: Option<Arc<Metadata>>,
}

impl CheckedReader {
    /// The file's metadata with its page indexes, from memory or the store.
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
        self.object.check_inside(ranges)?;
        let pieces = self.pieces(ranges, &metadata).await?;
        let mut answers: Vec<Option<Bytes>> = ranges.iter().map(|range| metadata.pieces.join(range, &pieces)).collect();
        let others = ranges.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let others: Vec<Range<u64>> = others.map(|(range, _)| range.clone()).collect();
        let read = self.object.read(&others, &metadata.checksums).await?;
        for (answer, bytes) in answers.iter_mut().filter(|answer| answer.is_none()).zip(read) {
            *answer = Some(bytes);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// The pieces behind `ranges` that are in memory, and, if the file is recent or there is a disk to keep them, the others too.
    async fn pieces(
        &self,
        ranges: &[Range<u64>],
        metadata: &Arc<Metadata>,
    ) -> Result<HashMap<usize, Bytes>, DataFileError> {
        let (recent, file, disk) = (&self.files.recent, &self.object.file, &self.files.disk);
        if !recent.is_on() && disk.is_none() {
            return Ok(HashMap::new());
        }
        let wanted: BTreeSet<usize> =
            ranges.iter().filter_map(|range| metadata.pieces.covering(range)).flatten().collect();
        let (mut pieces, missing) = recent.held(file.id, wanted).await;
        let loader = match disk {
            _ if missing.is_empty() => return Ok(pieces),
            _ if recent.takes(file) => recent,
            Some(disk) => &disk.flights,
            None => return Ok(pieces),
        };
        let source = ObjectPieces { object: self.object.clone(), metadata: Arc::clone(metadata) };
        let (loader, id) = (loader.clone(), file.id);
        // Not in this future: others may wait for these pieces, and a query whose client reads slowly isn't driven.
        let loaded = self.object.on_io(async move { loader.load(id, missing, &source).await }).await??;
        pieces.extend(loaded);
        Ok(pieces)
    }

    /// The file.
    pub fn file(&self) -> &DataFile {
        &self.object.file
    }

    /// The rows of one row group as one batch with the columns that the file has.
    ///
    /// # Errors
    /// As `metadata`; `Corrupt` too if the bytes are those that were written and can't be decoded.
    pub async fn row_group(self, number: usize) -> Result<RecordBatch, Error> {
        self.decoded(number, None, None).await
    }

    /// The rows of one row group as one batch with these of its columns, in the order of the file.
    ///
    /// # Errors
    /// As `row_group`.
    pub async fn columns(self, number: usize, names: &[&str]) -> Result<RecordBatch, Error> {
        self.decoded(number, Some(names), None).await
    }

    /// These rows of one row group, rising and apart, as one batch with these of its columns, in the order of the file. Only pages
    /// with such rows are read.
    ///
    /// # Errors
    /// As `row_group`.
    pub async fn rows(
        self,
        number: usize,
        names: &[&str],
        rows: impl Iterator<Item = Range<usize>>,
    ) -> Result<RecordBatch, Error> {
        let all = self.object.file.row_groups.get(number).map_or(0, |group| group.rows);
        let all = usize::try_from(all).unwrap_or(usize::MAX);
        let selection = RowSelection::from_consecutive_ranges(rows, all);
        self.decoded(number, Some(names), Some(selection)).await
    }

    async fn decoded(
        self,
        number: usize,
        names: Option<&[&str]>,
        selection: Option<RowSelection>,
    ) -> Result<RecordBatch, Error> {
        let path = self.object.path.clone();
        let rows = self.object.file.row_groups.get(number).map_or(0, |group| group.rows);
        let read = async {
            let mut builder = ParquetRecordBatchStreamBuilder::new(self).await?;
            if let Some(names) = names {
                let wanted = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
                builder = builder.with_projection(wanted);
            }
            if let Some(selection) = selection {
                builder = builder.with_row_selection(selection);
            }
            let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
            let stream = builder.with_row_groups(vec![number]).with_batch_size(rows).build()?;
            let schema = Arc::clone(stream.schema());
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
        let (cache, id) = (&self.files.metadata, self.object.file.id);
        let metadata = match cache.get(id).await {
            Some(metadata) => metadata,
            None => {
                let (cache, object) = (cache.clone(), self.object.clone());
                // Not in this future, as above.
                self.object.on_io(async move { cache.get_or_load(id, object.load_metadata()).await }).await??
            }
        };
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
