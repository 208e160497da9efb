//! Files as a source: row groups chosen beforehand, read through the engine's checked reader.
//!
//! The catalog's facts become DataFusion's statistics, so that counts and extremes need no reading and files
//! that a filter rules out are never opened.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics, internal_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetFileMetrics};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::Handle;

use super::decoded::DecodedSource;
use super::{RowsExpected, Scan, key_ordering};
use crate::engine::store::checked::{CheckedFiles, CheckedReader};
use crate::engine::store::decoded::{DecodedRowGroup, SeriesRows, WantedRows};
use crate::model::{ColumnName, DataFile, FileId, Scalar, TIME_COLUMN, TimeRange};

/// The one place that plans read from. It is no address: only this room knows what stands behind it.
pub(in crate::query) const STORE_URL: &str = "flightline://store/";

/// How files are opened: every byte is checked, what is recent comes from memory, waiting is done on the I/O runtime.
#[derive(Debug)]
pub(in crate::query) struct FileAccess {
    files: CheckedFiles,
    io: Handle,
}

impl FileAccess {
    pub(in crate::query) fn new(files: CheckedFiles, io: Handle) -> Self {
        Self { files, io }
    }

    /// That of a session.
    ///
    /// # Errors
    /// If it has none; a defect.
    pub(in crate::query) fn of(session: &dyn Session) -> DataFusionResult<Arc<Self>> {
        let access = session.config().get_extension::<Self>();
        access.ok_or_else(|| internal_datafusion_err!("a session without access to files"))
    }
}

impl FileAccess {
    /// A row group with these fields, decoded; `None` if what is wanted of it is better read page by page. The file has all of these tags
    /// and fields, and no other tags.
    pub(super) async fn decoded(
        &self,
        file: &Arc<DataFile>,
        number: usize,
        tags: &[ColumnName],
        fields: &[ColumnName],
        wanted: WantedRows,
    ) -> crate::error::Result<Option<DecodedRowGroup>> {
        self.files.decoded(file, number, tags, fields, wanted, &self.io).await
    }
}

/// For reading the ends of series. The file has all of the tags and fields that are named, and no other tags.
impl FileAccess {
    /// The series of a row group.
    pub(super) async fn series(
        &self,
        file: &Arc<DataFile>,
        number: usize,
        tags: &[ColumnName],
    ) -> crate::error::Result<Arc<SeriesRows>> {
        self.files.series(file, number, tags, &self.io).await
    }

    /// The series of a row group, if they are in memory.
    pub(super) async fn held_series(&self, file: &DataFile, number: usize) -> Option<Arc<SeriesRows>> {
        self.files.held_series(file, number).await
    }

    /// The times of a row group.
    pub(super) async fn times(&self, file: &Arc<DataFile>, number: usize) -> crate::error::Result<RecordBatch> {
        self.files.reader(Arc::clone(file), self.io.clone()).columns(number, &[TIME_COLUMN]).await
    }

    /// These rows of a row group, rising and apart, with these fields.
    pub(super) async fn rows(
        &self,
        file: &Arc<DataFile>,
        number: usize,
        fields: &[ColumnName],
        rows: impl Iterator<Item = Range<usize>>,
    ) -> crate::error::Result<RecordBatch> {
        let names: Vec<&str> = fields.iter().map(ColumnName::as_str).collect();
        self.files.reader(Arc::clone(file), self.io.clone()).rows(number, &names, rows).await
    }
}

impl ParquetFileReaderFactory for FileAccess {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let known = file
            .extension::<Arc<DataFile>>()
            .ok_or_else(|| internal_datafusion_err!("no facts about file \"{}\"", file.path()))?;
        let reader = self.files.reader(Arc::clone(known), self.io.clone());
        let metrics = ParquetFileMetrics::new(partition, file.path().as_ref(), metrics);
        Ok(Box::new(Measured { reader, metrics }))
    }
}

/// A reader that counts the bytes it is asked for.
struct Measured {
    reader: CheckedReader,
    metrics: ParquetFileMetrics,
}

impl AsyncFileReader for Measured {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.metrics.bytes_scanned.add((range.end - range.start) as usize);
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(bytes as usize);
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.reader.get_metadata(options)
    }
}

/// A row group of a file.
pub(super) type Chosen = (Arc<DataFile>, usize);

/// A source of these row groups with the columns of `schema`, in at most `partitions` partitions of
/// about as many rows, each a stretch of time.
pub(super) fn scan(
    scan: &Scan<'_>,
    schema: &SchemaRef,
    row_groups: Vec<Chosen>,
    partitions: usize,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let table = scan.table.arrow();
    let columns = schema.fields().iter().map(|field| table.index_of(field.name())).collect::<Result<Vec<_>, _>>()?;
    let groups = balance(row_groups, partitions);
    let is_sorted = groups.iter().all(|group| group.len() == 1) || scan.table.tags().is_empty();
    let of_several = match groups.as_slice() {
        [_] => None, // what is known of the only one is known of all
        several => Some(whole_statistics(table, &several.concat())?),
    };

    let file_groups = groups.into_iter().map(|group| file_group(table, group)).collect::<DataFusionResult<Vec<_>>>()?;
    let of_first = || file_groups.first()?.file_statistics(None).cloned();
    let mut known = of_several.or_else(of_first).unwrap_or_else(|| Statistics::new_unknown(table));
    // Filters let fewer pass than the files have; by these rows it is decided on which threads a query runs.
    if let Some(expected) = scan.state.config().get_extension::<RowsExpected>()
        && let most = usize::try_from(expected.0).unwrap_or(usize::MAX)
        && known.num_rows.get_value().is_some_and(|rows| *rows > most)
    {
        known.num_rows = Precision::Inexact(most);
    }

    let options = scan.state.config_options().execution.parquet.clone();
    let options = TableParquetOptions { global: options, ..TableParquetOptions::default() };
    let source = ParquetSource::new(Arc::clone(table))
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::clone(scan.access) as Arc<dyn ParquetFileReaderFactory>);
    let source: Arc<dyn FileSource> = match scan.access.files.keeps_decoded() {
        true => Arc::new(DecodedSource::new(source, scan.table, scan.access, scan.state.config().batch_size())),
        false => Arc::new(source),
    };
    let mut config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, source)
        .with_file_groups(file_groups)
        .with_statistics(known)
        .with_projection_indices(Some(columns))?;
    if let Some(ordering) = key_ordering(scan.table, table).filter(|_| is_sorted) {
        config = config.with_output_ordering(vec![ordering]);
    }
    Ok(DataSourceExec::from_data_source(config.build()))
}

/// Deals row groups to partitions by time, so that each gets about as many rows.
fn balance(mut row_groups: Vec<Chosen>, partitions: usize) -> Vec<Vec<Chosen>> {
    row_groups.sort_by_key(|(file, number)| file.row_groups[*number].time.min);
    let rows: u64 = row_groups.iter().map(|(file, number)| file.row_groups[*number].rows).sum();
    let share = rows.div_ceil(partitions.max(1) as u64).max(1);
    let mut groups: Vec<(u64, Vec<Chosen>)> = Vec::new();
    let mut dealt = 0;
    for (file, number) in row_groups {
        // By the row in its middle, so that a large row group goes where most of it belongs.
        let rows = file.row_groups[number].rows;
        let partition = (dealt + rows / 2) / share;
        dealt += rows;
        match groups.last_mut() {
            Some((last, group)) if *last == partition => group.push((file, number)),
            _ => groups.push((partition, vec![(file, number)])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// What is known of all chosen row groups together. Not the sum over partitions: of a file that is dealt to two
/// of them less is known in each.
fn whole_statistics(table: &Schema, row_groups: &[Chosen]) -> DataFusionResult<Statistics> {
    let files = by_file(row_groups.to_vec());
    let known: Vec<Statistics> = files.iter().map(|(file, numbers)| statistics(table, file, numbers)).collect();
    Statistics::try_merge_iter(&known, table)
}

fn file_group(table: &Schema, row_groups: Vec<Chosen>) -> DataFusionResult<FileGroup> {
    let files = by_file(row_groups).into_iter().map(|(file, numbers)| partitioned_file(table, file, &numbers));
    let files: Vec<PartitionedFile> = files.collect();
    let known = Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), table)?;
    Ok(FileGroup::new(files).with_statistics(Arc::new(known)))
}

/// The files with their chosen row groups, in the order in which they first occur.
fn by_file(row_groups: Vec<Chosen>) -> Vec<(Arc<DataFile>, Vec<usize>)> {
    let mut places: HashMap<FileId, usize> = HashMap::new();
    let mut files: Vec<(Arc<DataFile>, Vec<usize>)> = Vec::new();
    for (file, number) in row_groups {
        let place = *places.entry(file.id).or_insert(files.len());
        match files.get_mut(place) {
            Some((_, numbers)) => numbers.push(number),
            None => files.push((file, vec![number])),
        }
    }
    files
}

fn partitioned_file(table: &Schema, file: Arc<DataFile>, numbers: &[usize]) -> PartitionedFile {
    let statistics = statistics(table, &file, numbers);
    let mut partitioned = PartitionedFile::new(file.path.clone(), file.bytes).with_statistics(Arc::new(statistics));
    if numbers.len() < file.row_groups.len() {
        let mut access = ParquetAccessPlan::new_none(file.row_groups.len());
        for number in numbers {
            access.scan(*number);
        }
        partitioned = partitioned.with_extension(access);
    }
    partitioned.with_arrow_schema(file_schema(table, &file)).with_extension(file)
}

/// The columns of a file: those of which it holds a value, and the time. Known from the catalog, so that the
/// reader need not decode it from the footer.
fn file_schema(table: &Schema, file: &DataFile) -> SchemaRef {
    let present: HashSet<&str> = file.columns.names().iter().map(ColumnName::as_str).collect();
    let is_there = |name: &str| name == TIME_COLUMN || present.contains(name);
    let fields: Fields = table.fields().iter().filter(|field| is_there(field.name())).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// What is known of the chosen row groups. The catalog knows columns by file: of a part of it only what
/// then holds for every row.
fn statistics(table: &Schema, file: &DataFile, numbers: &[usize]) -> Statistics {
    let chosen = || numbers.iter().map(|number| file.row_groups[*number]);
    let rows: u64 = chosen().map(|row_group| row_group.rows).sum();
    let whole = numbers.len() == file.row_groups.len();
    let share = file.bytes * rows / file.rows.max(1);
    let by_name: HashMap<ColumnName, _> = file.columns.iter().map(|column| (column.name.clone(), column)).collect();
    let columns = table.fields().iter().map(|field| {
        if field.name() == TIME_COLUMN {
            return time_statistics(chosen().map(|row_group| row_group.time));
        }
        let Some(known) = by_name.get(field.name().as_str()) else {
            return ColumnStatistics::new_unknown().with_null_count(Precision::Exact(rows as usize));
        };
        let mut column = ColumnStatistics::new_unknown();
        column.null_count = match known.nulls {
            nulls if whole => Precision::Exact(nulls as usize),
            0 => Precision::Exact(0),
            nulls if nulls == file.rows => Precision::Exact(rows as usize),
            _ => Precision::Absent,
        };
        if let Some((min, max)) = &known.bounds {
            let precision = |value| if whole { Precision::Exact(value) } else { Precision::Inexact(value) };
            column.min_value = precision(scalar_value(min));
            column.max_value = precision(scalar_value(max));
        }
        column
    });
    Statistics {
        num_rows: Precision::Exact(rows as usize),
        total_byte_size: Precision::Inexact(share as usize),
        column_statistics: columns.collect(),
    }
}

fn time_statistics(times: impl Iterator<Item = TimeRange>) -> ColumnStatistics {
    let mut column = ColumnStatistics::new_unknown().with_null_count(Precision::Exact(0));
    if let Some(time) = times.reduce(|a, b| a.union(&b)) {
        let at = |nanos| Precision::Exact(ScalarValue::TimestampNanosecond(Some(nanos), None));
        column.min_value = at(time.min.as_nanos());
        column.max_value = at(time.max.as_nanos());
    }
    column
}

fn scalar_value(value: &Scalar) -> ScalarValue {
    match value {
        Scalar::Float(value) => ScalarValue::Float64(Some(*value)),
        Scalar::Integer(value) => ScalarValue::Int64(Some(*value)),
        Scalar::Unsigned(value) => ScalarValue::UInt64(Some(*value)),
        Scalar::String(value) => ScalarValue::Utf8(Some(value.clone())),
        Scalar::Boolean(value) => ScalarValue::Boolean(Some(*value)),
    }
}
