//! What page index and footer of a file say, decoded once for all queries.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use object_store::path::Path;
use parquet::DecodeResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder};

use super::DataFileError;
use crate::engine::store::parquet::BlockChecksums;
use crate::engine::store::recent::pieces::Pieces;
use crate::model::{DataFile, FileId};

/// What the tail of a file says, checked.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) parquet: Arc<ParquetMetaData>,
    pub(super) checksums: BlockChecksums,
    /// How the data is cut for memory.
    pub(super) pieces: Pieces,
}

impl Metadata {
    /// Decodes `bytes`, the tail of `file`, after they were checked.
    pub(super) fn decode(file: &DataFile, bytes: Bytes) -> Result<Self, DataFileError> {
        let path = || Path::from(file.path.as_str());
        let footer_error = |source| DataFileError::Footer { path: path(), source: Arc::new(source) };
        let parquet = decode_tail(file.bytes, tail(file), bytes).map_err(footer_error)?;
        let entries = parquet.file_metadata().key_value_metadata();
        let checksums = BlockChecksums::from_key_values(entries, file.data_bytes)
            .map_err(|source| DataFileError::NoChecksums { path: path(), source })?;
        let pieces = Pieces::of(&parquet, file.data_bytes);
        Ok(Self { parquet: Arc::new(parquet), checksums, pieces })
    }

    fn memory_size(&self) -> usize {
        self.parquet.memory_size() + self.checksums.memory_size() + self.pieces.memory_size()
    }
}

/// Where page index and footer are.
pub(super) fn tail(file: &DataFile) -> Range<u64> {
    file.data_bytes.min(file.bytes)..file.bytes
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

/// The metadata of files that were read lately: footers, page indexes and block checksums. Cloning it shares it.
///
/// One cache serves one catalog, since file ids are unique in one catalog only.
#[derive(Clone)]
pub(super) struct MetadataCache {
    entries: Cache<FileId, Arc<Metadata>>,
}

impl MetadataCache {
    /// A cache of at most about `bytes_max` bytes of memory. What is used least often goes first; 0 keeps nothing.
    pub(super) fn new(bytes_max: u64) -> Self {
        let weigh = |_: &FileId, metadata: &Arc<Metadata>| u32::try_from(metadata.memory_size()).unwrap_or(u32::MAX);
        Self { entries: Cache::builder().max_capacity(bytes_max).weigher(weigh).build() }
    }

    /// The metadata of a file, if it is here.
    pub(super) async fn get(&self, file: FileId) -> Option<Arc<Metadata>> {
        self.entries.get(&file).await
    }

    /// The metadata of a file; if it is not here, one of all who ask runs `load`. Has to be driven to its end or dropped.
    pub(super) async fn get_or_load(
        &self,
        file: FileId,
        load: impl Future<Output = Result<Arc<Metadata>, DataFileError>>,
    ) -> Result<Arc<Metadata>, DataFileError> {
        let loaded = self.entries.try_get_with(file, load).await;
        self.entries.run_pending_tasks().await; // keeps to its bound now and not when moka finds time
        loaded.map_err(|error: Arc<DataFileError>| DataFileError::clone(&error))
    }

    /// Takes the metadata of a file that was just written.
    pub(super) async fn insert(&self, file: FileId, metadata: Arc<Metadata>) {
        self.entries.insert(file, metadata).await;
        self.entries.run_pending_tasks().await;
    }

    /// About how many bytes of memory the cache holds.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }
}

impl fmt::Debug for MetadataCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataCache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
