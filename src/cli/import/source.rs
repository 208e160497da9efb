//! The bytes of a file, local or in an object store, in order or from anywhere.
//!
//! Files are read by a thread of their own, so that everything here blocks. An object is read in ranges, each of
//! them a request that is tried again by itself; one connection for hours would break off sooner or later.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use object_store::{GetOptions, ObjectMeta, ObjectStore};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use super::files::Compression;
use crate::engine::store::Store;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Length of one request to an object store.
const RANGE_BYTES: u64 = 4 << 20;

/// Ranges of a Parquet file that are kept, since its columns are read side by side: at most 256 MiB.
const RANGES_MAX: usize = 64;

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Local(PathBuf),
    Remote(Object),
}

/// An object and the runtime that speaks to its store.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Store,
    meta: Arc<ObjectMeta>,
    runtime: Handle,
}

impl Object {
    /// Must be called on the runtime that will be there while the object is read.
    pub(crate) fn new(store: Store, meta: ObjectMeta) -> Self {
        Self { store, meta: Arc::new(meta), runtime: Handle::current() }
    }

    /// The bytes from `start` on, as many as one request brings. Blocks.
    fn range(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let options = GetOptions {
            range: Some((start..end.min(self.meta.size)).into()),
            // A file that is replaced meanwhile is an error, not a mixture.
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let read = async { self.store.objects().get_opts(&self.meta.location, options).await?.bytes().await };
        self.runtime.block_on(read).map_err(io::Error::other)
    }
}

impl Source {
    /// The text in the file, inflated. `consumed` counts the bytes of the file itself.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn text(&self, compression: Compression, consumed: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
        let raw: Box<dyn Read + Send> = match self {
            Self::Local(path) => Box::new(File::open(path)?),
            Self::Remote(object) => Box::new(ObjectReader { object: object.clone(), at: 0, ahead: Bytes::new() }),
        };
        let counted = BufReader::with_capacity(READ_BUFFER_BYTES, Counted { raw, consumed });
        Ok(match compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(counted)?),
        })
    }

    /// The file for a reader that goes back and forth.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn random(&self) -> io::Result<RandomAccess> {
        Ok(match self {
            Self::Local(path) => RandomAccess::Local(File::open(path)?),
            Self::Remote(object) => RandomAccess::Remote(Ranges { object: object.clone(), kept: Mutex::default() }),
        })
    }
}

struct Counted {
    raw: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.raw.read(buffer)?;
        self.consumed.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// An object from its start to its end.
struct ObjectReader {
    object: Object,
    at: u64,
    ahead: Bytes,
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() && self.at < self.object.meta.size {
            self.ahead = self.object.range(self.at, self.at + RANGE_BYTES)?;
            self.at += self.ahead.len() as u64;
        }
        (&mut self.ahead).reader().read(buffer)
    }
}

/// A Parquet file.
pub(crate) enum RandomAccess {
    Local(File),
    Remote(Ranges),
}

/// An object of which the ranges that were used last are kept.
pub(crate) struct Ranges {
    object: Object,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By number, with the time of the last use.
    ranges: HashMap<u64, (Bytes, u64)>,
    uses: u64,
}

impl Ranges {
    /// What the object holds from `start` on, up to the end of the range that `start` is in.
    fn from(&self, start: u64) -> io::Result<Bytes> {
        let number = start / RANGE_BYTES;
        let mut kept = self.kept.lock();
        kept.uses += 1;
        let now = kept.uses;
        let offset = (start % RANGE_BYTES) as usize;
        let slice = |bytes: &Bytes| bytes.slice(offset.min(bytes.len())..);
        if let Some((bytes, used)) = kept.ranges.get_mut(&number) {
            *used = now;
            return Ok(slice(bytes));
        }
        let bytes = self.object.range(number * RANGE_BYTES, (number + 1) * RANGE_BYTES)?;
        if kept.ranges.len() >= RANGES_MAX
            && let Some(oldest) = kept.ranges.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number)
        {
            kept.ranges.remove(&oldest);
        }
        let found = slice(&bytes);
        kept.ranges.insert(number, (bytes, now));
        Ok(found)
    }
}

impl Length for RandomAccess {
    fn len(&self) -> u64 {
        match self {
            Self::Local(file) => file.len(),
            Self::Remote(ranges) => ranges.object.meta.size,
        }
    }
}

impl ChunkReader for RandomAccess {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(match self {
            Self::Local(file) => Box::new(file.get_read(start)?),
            // A page's header is read from here, and then the page by `get_bytes`.
            Self::Remote(ranges) => {
                let first = ranges.from(start)?;
                let next = start + first.len() as u64;
                let second = if next < ranges.object.meta.size { ranges.from(next)? } else { Bytes::new() };
                Box::new(first.chain(second).reader())
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let ranges = match self {
            Self::Local(file) => return file.get_bytes(start, length),
            Self::Remote(ranges) => ranges,
        };
        let first = ranges.from(start)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            let next = start + bytes.len() as u64;
            if next >= ranges.object.meta.size {
                return Err(ParquetError::EOF(format!("the file ends at byte {next}")));
            }
            let part = ranges.from(next)?;
            bytes.extend_from_slice(&part[..part.len().min(length - bytes.len())]);
        }
        Ok(bytes.into())
    }
}
