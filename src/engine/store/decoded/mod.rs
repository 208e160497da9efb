//! Row groups that are asked for again and again, as decoded columns in memory.
//!
//! Decoding is what a cached scan pays for, so what queries come back to is kept as Arrow arrays, column by column, above the bytes
//! of [`recent`](super::recent). A dashboard that repeats its queries decodes nothing.
//!
//! A row group comes in when it is asked for the second time within as many others as there is room for, or at once if it is
//! recent: so a scan over years leaves nothing behind, and what could not stay until it is asked for again is not decoded whole. Who
//! wants some rows of it decodes their pages alone, until all that were decoded so make a whole one: then it comes in too. It
//! comes in column by column: fields that are asked for, and [`series`] once.
//!
//! Always true:
//! - what is here was read through [`CheckedReader`], so every byte of it was checked;
//! - of several readers that want the same row group, one decodes it;
//! - the memory of all columns together is bounded; the least recently used goes first.
//!
//! Not here: which rows of a row group a query wants (`query`).

mod series;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::TimestampNanosecondType;
use moka::future::Cache;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::checked::CheckedReader;
use crate::error::{Error, Result};
use crate::model::{ColumnName, DataFile, FileId, TIME_COLUMN};
pub use series::SeriesRows;

/// About what moka and the allocator need for an entry besides its arrays.
const ENTRY_BYTES: usize = 512;

/// About what a row group weighs of which some fields are asked for.
const ROW_GROUP_BYTES: u64 = 4 << 20;

/// Bytes of a value, as far as can be said before it is decoded.
const VALUE_BYTES: u64 = 8;

/// The part of the room that one row group may take.
const SHARE_MAX: u64 = 8;

/// Figures of the decoded columns since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodedMetrics {
    /// Row groups that a query found decoded, with all columns that it wanted.
    pub hits: u64,
    /// Row groups that were decoded to be kept.
    pub loads: u64,
    /// Columns that went because the room was needed.
    pub evictions: u64,
    /// Memory in use.
    pub bytes: u64,
    /// The limit of that memory.
    pub bytes_max: u64,
}

/// A row group with the columns that somebody wanted.
#[derive(Debug, Clone)]
pub struct DecodedRowGroup {
    /// Which rows are of which series, with their tags.
    pub series: Arc<SeriesRows>,
    /// The time of each row; rising within a series.
    pub times: TimestampNanosecondArray,
    /// The wanted fields that the file has, one value a row.
    pub fields: HashMap<ColumnName, ArrayRef>,
}

/// What somebody wants of a row group, in rows that have to be decoded for it.
#[derive(Debug, Clone, Copy)]
pub enum WantedRows {
    /// Most or all.
    Most,
    /// So few that their pages can be decoded alone.
    Few(u64),
}

/// A part of a row group that is kept by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Series,
    Times,
    Field(ColumnName),
}

#[derive(Debug, Clone)]
enum Kept {
    Series(Arc<SeriesRows>),
    Column(ArrayRef),
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Series(series) => series.memory_size(),
            Self::Column(array) => array.get_array_memory_size(),
        }
    }
}

/// A row group of a file.
type Place = (FileId, usize);

/// Decoded row groups. Cloning it shares them.
///
/// One cache serves one catalog, since file ids are unique in one catalog only.
#[derive(Clone)]
pub(super) struct DecodedRowGroups {
    bytes_max: u64,
    parts: Cache<(Place, Part), Kept>,
    /// What was asked for lately: about how many rows were wanted of it.
    asked: Cache<Place, Arc<AtomicU64>>,
    /// Held by who decodes.
    decoding: Arc<Mutex<HashMap<Place, Weak<AsyncMutex<()>>>>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    loads: AtomicU64,
    evictions: AtomicU64,
}

impl fmt::Debug for DecodedRowGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedRowGroups").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}

impl DecodedRowGroups {
    /// Room for so many bytes of arrays; 0 keeps nothing.
    pub(super) fn new(bytes_max: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let listen = {
            let counts = Arc::clone(&counts);
            move |_: Arc<(Place, Part)>, _: Kept, cause: RemovalCause| {
                if cause == RemovalCause::Size {
                    counts.evictions.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let weigh = |_: &(Place, Part), kept: &Kept| u32::try_from(kept.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX);
        let parts = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(listen)
            .build();
        let asked_max = (bytes_max / ROW_GROUP_BYTES).max(16);
        let asked = Cache::builder().max_capacity(asked_max).eviction_policy(EvictionPolicy::lru()).build();
        Self { bytes_max, parts, asked, decoding: Arc::default(), counts }
    }

    /// The row group if all of these fields, which the file has, are in memory.
    pub(super) async fn held(&self, file: FileId, number: usize, fields: &[ColumnName]) -> Option<DecodedRowGroup> {
        let place = (file, number);
        let series = self.series(place).await?;
        let times = self.column(place, Part::Times).await?.as_primitive_opt::<TimestampNanosecondType>()?.clone();
        let mut columns = HashMap::with_capacity(fields.len());
        for field in fields {
            columns.insert(field.clone(), self.column(place, Part::Field(field.clone())).await?);
        }
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some(DecodedRowGroup { series, times, fields: columns })
    }

    /// The series of a row group; if they are not in memory they are read, without anything else, and kept: there is one row for each. The
    /// file has all of these tags and no others.
    ///
    /// # Errors
    /// What reading says.
    pub(super) async fn series_of(
        &self,
        reader: CheckedReader,
        number: usize,
        tags: &[ColumnName],
    ) -> Result<Arc<SeriesRows>> {
        let place = (reader.file().id, number);
        let turn = self.turn(place);
        let _alone = turn.lock().await;
        if let Some(series) = self.series(place).await {
            return Ok(series);
        }
        let series = match tags {
            // The catalog knows how many rows there are; a batch without columns would not.
            [] => SeriesRows::one(reader.file().row_groups.get(number).map_or(0, |group| group.rows))?,
            tags => {
                let names: Vec<&str> = tags.iter().map(ColumnName::as_str).collect();
                SeriesRows::of(&columns_of(&reader.columns(number, &names).await?, tags)?)?
            }
        };
        let series = Arc::new(series);
        self.parts.insert((place, Part::Series), Kept::Series(Arc::clone(&series))).await;
        self.parts.run_pending_tasks().await;
        Ok(series)
    }

    /// The series of a row group, if they are in memory.
    pub(super) async fn held_series(&self, file: FileId, number: usize) -> Option<Arc<SeriesRows>> {
        self.series((file, number)).await
    }

    async fn series(&self, place: Place) -> Option<Arc<SeriesRows>> {
        match self.parts.get(&(place, Part::Series)).await? {
            Kept::Series(series) => Some(series),
            Kept::Column(_) => None,
        }
    }

    async fn column(&self, place: Place, part: Part) -> Option<ArrayRef> {
        match self.parts.get(&(place, part)).await? {
            Kept::Column(array) => Some(array),
            Kept::Series(_) => None,
        }
    }

    /// Whether a row group that is not in memory is worth decoding whole for one who wants these rows of it. Asking counts.
    pub(super) async fn is_wanted(
        &self,
        file: &DataFile,
        number: usize,
        fields: usize,
        wanted: WantedRows,
        is_recent: bool,
    ) -> bool {
        let rows = file.row_groups.get(number).map_or(0, |group| group.rows);
        let bytes = rows.saturating_mul(VALUE_BYTES).saturating_mul(fields as u64 + 1);
        if bytes > self.bytes_max / SHARE_MAX {
            return false;
        }
        let asked = self.asked.get_with((file.id, number), async { Arc::default() }).await;
        self.asked.run_pending_tasks().await;
        let (wanted, is_at_once) = match wanted {
            WantedRows::Most => (rows, is_recent),
            WantedRows::Few(few) => (few, false),
        };
        is_at_once || asked.fetch_add(wanted, Ordering::Relaxed) >= rows
    }

    /// Decodes these fields with times and series, and keeps them. The file has all of these tags and fields, and no other tags.
    ///
    /// # Errors
    /// What reading says.
    pub(super) async fn load(
        &self,
        reader: CheckedReader,
        number: usize,
        tags: &[ColumnName],
        fields: &[ColumnName],
    ) -> Result<DecodedRowGroup> {
        let file = reader.file().id;
        let place = (file, number);
        let turn = self.turn(place);
        let _alone = turn.lock().await;
        if let Some(held) = self.held(file, number, fields).await {
            return Ok(held);
        }
        self.counts.loads.fetch_add(1, Ordering::Relaxed);
        let known = self.series(place).await;
        let read_tags = if known.is_none() { tags } else { &[] };
        let names = read_tags.iter().chain(fields).map(ColumnName::as_str).chain([TIME_COLUMN]);
        let rows = reader.columns(number, &names.collect::<Vec<_>>()).await?;

        let series = match known {
            Some(series) => series,
            None => Arc::new(SeriesRows::of(&columns_of(&rows, tags)?)?),
        };
        self.parts.insert((place, Part::Series), Kept::Series(Arc::clone(&series))).await;
        let times = column_of(&rows, TIME_COLUMN)?;
        self.parts.insert((place, Part::Times), Kept::Column(Arc::clone(times))).await;
        let mut columns = HashMap::with_capacity(fields.len());
        for field in fields {
            let column = column_of(&rows, field.as_str())?;
            self.parts.insert((place, Part::Field(field.clone())), Kept::Column(Arc::clone(column))).await;
            columns.insert(field.clone(), Arc::clone(column));
        }
        self.parts.run_pending_tasks().await; // keeps to its bound now and not when moka finds time
        let times = times.as_primitive_opt::<TimestampNanosecondType>();
        let times = times.ok_or_else(|| Error::internal("a file whose times are no timestamps"))?.clone();
        Ok(DecodedRowGroup { series, times, fields: columns })
    }

    /// What only one at a time may hold who decodes this row group.
    fn turn(&self, place: Place) -> Arc<AsyncMutex<()>> {
        let mut decoding = self.decoding.lock();
        if let Some(turn) = decoding.get(&place).and_then(Weak::upgrade) {
            return turn;
        }
        decoding.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        decoding.insert(place, Arc::downgrade(&turn));
        turn
    }

    pub(super) fn metrics(&self) -> DecodedMetrics {
        DecodedMetrics {
            hits: self.counts.hits.load(Ordering::Relaxed),
            loads: self.counts.loads.load(Ordering::Relaxed),
            evictions: self.counts.evictions.load(Ordering::Relaxed),
            bytes: self.parts.weighted_size(),
            bytes_max: self.bytes_max,
        }
    }
}

fn column_of<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::internal(format!("column \"{name}\" was not read")))
}

/// These columns, of so many rows even if there are none.
fn columns_of(rows: &RecordBatch, names: &[ColumnName]) -> Result<RecordBatch> {
    let failed = |error| Error::internal(format!("could not choose the tags: {error}"));
    let places: std::result::Result<Vec<usize>, _> =
        names.iter().map(|name| rows.schema().index_of(name.as_str())).collect();
    rows.project(&places.map_err(failed)?).map_err(failed)
}
