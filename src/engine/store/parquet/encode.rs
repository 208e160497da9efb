//! Turns the sorted rows of a table into a Parquet file.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use super::choose::{ColumnEncoding, choose, sample};
use super::dictionary_chunk::{Chunk, PageCompression};
use super::floats::encode_floats;
use super::pages::{page_lengths, page_rows, pieces, series_lengths};
use super::statistics::survey;
use super::tags::encode_tag;
use super::{BlockChecksums, EncodedFile, ParquetFileError};
use crate::model::last_write_wins::conform;
use crate::model::{ColumnStatistics, RowGroup, TIME_COLUMN, TableSchema, TimeRange};

/// Who wrote a file, in the form that readers of Parquet parse.
const CREATED_BY: &str = concat!("flightline version ", env!("CARGO_PKG_VERSION"));

/// The footer's key for the tags in series-key order, as a JSON array.
const SERIES_KEY_KEY: &str = "flightline.series_key";

/// A page stays uncompressed if zstd would leave more than this of it: saving little does not pay for
/// decompressing on every read.
const COMPRESSED_RATIO_MAX: f64 = 0.9;

/// Higher levels bring nothing where values have been put in order before: floats of two decimals stay within half a percent up to level 6.
const ZSTD_LEVEL: i32 = 1;

const COMPRESSION: PageCompression = PageCompression { level: ZSTD_LEVEL, ratio_max: COMPRESSED_RATIO_MAX };

/// Encodes the rows of one table. Each entry of `row_groups` becomes a row group, entries without rows none.
///
/// The batches of an entry follow each other, sorted by series key and time and unique in it; entries rise in
/// time and don't overlap. Columns that a batch lacks are null. Works in memory: the file is about a
/// tenth to a half of the batches.
///
/// # Errors
/// If there are no rows, row groups don't rise in time, or a batch does not fit the schema.
pub fn encode(schema: &TableSchema, row_groups: Vec<Vec<RecordBatch>>) -> Result<EncodedFile, ParquetFileError> {
    let row_groups = conform_all(schema, row_groups).map_err(ParquetFileError::Rows)?;
    let facts = row_group_facts(&row_groups)?;
    let columns = FileColumns::find(schema, &row_groups).map_err(ParquetFileError::Rows)?;
    let row_groups = columns.project(row_groups).map_err(ParquetFileError::Rows)?;

    let tags = columns.tags(schema);
    let lengths: Vec<Vec<usize>> = row_groups.iter().map(|group| series_lengths(group, &tags)).collect();
    let page_rows = page_rows(&lengths);
    let properties = columns.properties(schema, &row_groups, page_rows)?;

    let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&columns.arrow), Some(properties))?;
    let (mut writer, columns_of) = writer.into_serialized_writer()?;
    for (number, (group, lengths)) in row_groups.into_iter().zip(&lengths).enumerate() {
        let encoders = columns_of.create_column_writers(number)?;
        write_row_group(&mut writer, encoders, &group, &pieces(lengths, page_rows), page_rows)?;
    }
    let (bytes, data_bytes) = finish(writer)?;

    Ok(EncodedFile {
        tail_crc32c: crc32c::crc32c(&bytes[data_bytes..]),
        bytes: Bytes::from(bytes),
        data_bytes: data_bytes as u64,
        rows: facts.iter().map(|group| group.rows).sum(),
        time: facts.iter().map(|group| group.time).reduce(|a, b| a.union(&b)).ok_or(ParquetFileError::NoRows)?,
        row_groups: facts,
        columns: columns.statistics,
    })
}

fn conform_all(schema: &TableSchema, row_groups: Vec<Vec<RecordBatch>>) -> Result<Vec<Vec<RecordBatch>>, ArrowError> {
    let with_rows = |group: Vec<RecordBatch>| {
        let batches = group.into_iter().filter(|batch| batch.num_rows() > 0);
        batches.map(|batch| conform(&batch, schema.arrow())).collect::<Result<Vec<_>, _>>()
    };
    let groups: Vec<_> = row_groups.into_iter().map(with_rows).collect::<Result<_, _>>()?;
    Ok(groups.into_iter().filter(|group| !group.is_empty()).collect())
}

/// Rows and times of each row group, checked to rise.
fn row_group_facts(row_groups: &[Vec<RecordBatch>]) -> Result<Vec<RowGroup>, ParquetFileError> {
    let mut facts: Vec<RowGroup> = Vec::with_capacity(row_groups.len());
    for (number, group) in row_groups.iter().enumerate() {
        let rows = group.iter().map(|batch| batch.num_rows() as u64).sum();
        let time = group.iter().filter_map(time_range).reduce(|a, b| a.union(&b)).ok_or(ParquetFileError::NoRows)?;
        if facts.last().is_some_and(|before| before.time.max >= time.min) {
            return Err(ParquetFileError::Order { number });
        }
        facts.push(RowGroup { rows, time });
    }
    if facts.is_empty() { Err(ParquetFileError::NoRows) } else { Ok(facts) }
}

/// Times of the oldest and the newest row.
pub(super) fn time_range(batch: &RecordBatch) -> Option<TimeRange> {
    let times = batch.column_by_name(TIME_COLUMN)?.as_primitive_opt::<TimestampNanosecondType>()?;
    Some(TimeRange::from_nanos(min(times)?, max(times)?))
}

/// The columns that go into the file.
struct FileColumns {
    /// In the order of the table's Arrow schema.
    arrow: SchemaRef,
    /// Their positions in the table's Arrow schema.
    positions: Vec<usize>,
    /// Of the tags and fields among them.
    statistics: Vec<ColumnStatistics>,
    /// Names of columns with a NaN.
    with_nan: Vec<String>,
}

impl FileColumns {
    /// Finds the columns that hold a value in some row.
    fn find(schema: &TableSchema, row_groups: &[Vec<RecordBatch>]) -> Result<Self, ArrowError> {
        let arrow = schema.arrow();
        let mut positions = vec![arrow.index_of(TIME_COLUMN)?];
        let (mut statistics, mut with_nan) = (Vec::new(), Vec::new());
        for column in schema.columns() {
            let position = arrow.index_of(column.name.as_str())?;
            let survey = survey(column, row_groups.iter().flatten().map(|batch| batch.column(position)))?;
            if survey.values == 0 {
                continue;
            }
            positions.push(position);
            with_nan.extend(survey.nan.then(|| survey.statistics.name.to_string()));
            statistics.push(survey.statistics);
        }
        positions.sort_unstable();
        Ok(Self { arrow: Arc::new(arrow.project(&positions)?), positions, statistics, with_nan })
    }

    fn project(&self, row_groups: Vec<Vec<RecordBatch>>) -> Result<Vec<Vec<RecordBatch>>, ArrowError> {
        let project = |batch: RecordBatch| batch.project(&self.positions);
        row_groups.into_iter().map(|group| group.into_iter().map(project).collect()).collect()
    }

    /// The positions of the tags in the file, in series-key order.
    fn tags(&self, schema: &TableSchema) -> Vec<usize> {
        schema.tags().iter().filter_map(|tag| self.arrow.index_of(tag.as_str()).ok()).collect()
    }

    fn properties(
        &self,
        schema: &TableSchema,
        row_groups: &[Vec<RecordBatch>],
        page_rows: usize,
    ) -> Result<WriterProperties, ParquetError> {
        let mut builder = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            // Pages of version 2 keep their levels outside the compression and may stay uncompressed one by one.
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_data_page_v2_compression_ratio_threshold(COMPRESSED_RATIO_MAX)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(None)
            .set_data_page_row_count_limit(page_rows)
            // Limits are looked at after this many values: no more than a page, or pages would be longer.
            .set_write_batch_size(page_rows)
            .set_key_value_metadata(Some(vec![KeyValue::new(SERIES_KEY_KEY.to_owned(), series_key_json(schema))]))
            .set_sorting_columns((row_groups.len() == 1).then(|| self.sorting_columns(schema)));
        let sample = sample(row_groups);
        for (position, field) in self.arrow.fields().iter().enumerate() {
            let path = ColumnPath::new(vec![field.name().clone()]);
            let ColumnEncoding { dictionary_bytes_max, values } = choose(field.data_type(), position, &sample);
            builder = builder
                .set_column_encoding(path.clone(), values)
                .set_column_dictionary_enabled(path.clone(), dictionary_bytes_max.is_some());
            if let Some(bytes) = dictionary_bytes_max {
                builder = builder.set_column_dictionary_page_size_limit(path.clone(), bytes);
            }
            // Parquet's statistics pass over NaN, but to a query NaN is larger than every number: pruning by them would lose rows.
            if self.with_nan.contains(field.name()) {
                builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
        Ok(builder.build())
    }

    /// The order of each row group. Said only of a file that has one: DataFusion takes the order of row groups for that of the file, and then finds a
    /// group of rows once for each of them.
    fn sorting_columns(&self, schema: &TableSchema) -> Vec<SortingColumn> {
        let positions = schema.sort_key().filter_map(|name| self.arrow.index_of(name).ok());
        let positions = positions.filter_map(|position| i32::try_from(position).ok());
        positions.map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false }).collect()
    }
}

fn series_key_json(schema: &TableSchema) -> String {
    schema.tags().iter().map(|tag| tag.as_str()).collect::<serde_json::Value>().to_string()
}

/// Encodes the batches column by column: those with a dictionary by our own encoder where it can, everything else by that of the
/// crate, to which rows are handed in pieces of so many.
fn write_row_group(
    writer: &mut SerializedFileWriter<Vec<u8>>,
    encoders: Vec<ArrowColumnWriter>,
    batches: &[RecordBatch],
    pieces: &[usize],
    page_rows: usize,
) -> Result<(), ParquetFileError> {
    let slices = cut(batches, pieces);
    let pages = page_lengths(pieces, page_rows);
    let (columns, properties) = (writer.schema_descr().columns().to_vec(), Arc::clone(writer.properties()));
    let mut group = writer.next_row_group()?;
    for (position, mut encoder) in encoders.into_iter().enumerate() {
        let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(position)).collect();
        if let Some(chunk) = with_dictionary(&columns[position], &properties, &arrays, &pages)? {
            group.append_column(&chunk.bytes, chunk.close)?;
            continue;
        }
        for slice in &slices {
            for leaf in compute_leaves(slice.schema_ref().field(position), slice.column(position))? {
                encoder.write(&leaf)?;
            }
        }
        encoder.close()?.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

/// The column chunk of a tag or a float that shall have a dictionary; `None` if the encoder of the crate has to make it.
fn with_dictionary(
    column: &ColumnDescPtr,
    properties: &WriterProperties,
    arrays: &[&ArrayRef],
    pages: &[usize],
) -> Result<Option<Chunk>, ParquetError> {
    let path = column.path();
    if !properties.dictionary_enabled(path) || properties.statistics_enabled(path) == EnabledStatistics::None {
        return Ok(None);
    }
    let bytes_max = properties.column_dictionary_page_size_limit(path);
    match arrays.first().map(|array| array.data_type()) {
        Some(DataType::Dictionary(..)) => encode_tag(column, arrays, pages, bytes_max, COMPRESSION),
        Some(DataType::Float64) => encode_floats(column, arrays, pages, bytes_max, COMPRESSION),
        _ => Ok(None),
    }
}

/// The batches cut where a piece ends.
fn cut(batches: &[RecordBatch], pieces: &[usize]) -> Vec<RecordBatch> {
    let mut batches = batches.iter().cloned();
    let mut rest: Option<RecordBatch> = None;
    let mut slices = Vec::with_capacity(pieces.len());
    for &piece in pieces {
        let mut wanted = piece;
        while wanted > 0 {
            let Some(batch) = rest.take().or_else(|| batches.next()) else { break };
            let rows = wanted.min(batch.num_rows());
            slices.push(batch.slice(0, rows));
            rest = (rows < batch.num_rows()).then(|| batch.slice(rows, batch.num_rows() - rows));
            wanted -= rows;
        }
    }
    slices
}

/// Writes the checksums of the data, page index and footer; returns the file and where its data ends.
fn finish(mut writer: SerializedFileWriter<Vec<u8>>) -> Result<(Vec<u8>, usize), ParquetFileError> {
    writer.flush().map_err(ParquetError::from)?;
    let data_bytes = writer.inner().len();
    for entry in BlockChecksums::of(writer.inner()).key_values() {
        writer.append_key_value_metadata(entry);
    }
    // Page index and footer are written here; calling `finish` before it would write them twice.
    Ok((writer.into_inner()?, data_bytes))
}
