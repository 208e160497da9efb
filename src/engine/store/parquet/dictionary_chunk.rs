//! Writes a column chunk whose values are positions in a dictionary: a dictionary page, data pages of version 2, statistics,
//! column index and offset index, as the encoder of the `parquet` crate does.
//!
//! That one finds each value by its hash, row by row, through layers that serve every type. Tags and floats are most of what is stored, and more is
//! known of them: tags come in long runs of one text, floats are numbers. Both together are encoded two to three times as fast here.
//!
//! Not here: where the positions come from (`tags`, `floats`).

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, Type};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// Pages below this are not even tried to be compressed: a few runs are all that is in them.
const COMPRESSED_BYTES_MIN: usize = 128;

/// Pages that are not tried after one that zstd left too large. Packed positions of floats are noise to it, and so are the next ones.
const PAGES_UNTRIED: usize = 7;

/// An encoded column chunk.
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) close: ColumnCloseResult,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageCompression {
    pub(super) level: i32,
    /// A page stays as it is if more than this of it would be left.
    pub(super) ratio_max: f64,
}

/// A column of a row group, as positions in a dictionary.
pub(super) trait DictionaryColumn {
    /// A value as statistics keep it.
    type Bound: Bound;

    /// Values in the dictionary.
    fn distinct(&self) -> usize;

    /// The dictionary as Parquet writes it plainly.
    fn dictionary(&self) -> Vec<u8>;

    /// Whether it rises.
    fn is_sorted(&self) -> bool;

    /// The next page of so many rows, its positions in `width` bits.
    fn page(&mut self, rows: usize, width: u32) -> DataPage<Self::Bound>;
}

/// The smallest or largest value of a page.
pub(super) trait Bound: Copy + PartialOrd {
    const TYPE: Type;

    fn bytes(self) -> Vec<u8>;

    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics;
}

/// A data page before it is compressed.
pub(super) struct DataPage<B> {
    pub(super) rows: usize,
    pub(super) nulls: usize,
    /// Whether each row has a value.
    pub(super) levels: Vec<u8>,
    /// The positions of the values.
    pub(super) positions: Vec<u8>,
    /// The smallest and the largest value; none if there are no values.
    pub(super) bounds: Option<(B, B)>,
}

/// Writes the column, cut into pages of so many rows.
///
/// # Errors
/// If zstd or the crate refuses, which neither has a reason to.
pub(super) fn write<C: DictionaryColumn>(
    descriptor: &ColumnDescPtr,
    mut column: C,
    pages: &[usize],
    compression: PageCompression,
) -> Result<Chunk> {
    let mut bytes = TrackedWrite::new(Vec::new());
    let mut compressor = Compressor::new(compression)?;
    let close =
        write_pages(descriptor, &mut column, pages, &mut compressor, &mut SerializedPageWriter::new(&mut bytes))?;
    Ok(Chunk { bytes: bytes.into_inner()?.into(), close })
}

/// Sizes of the pages of a chunk.
#[derive(Default)]
struct Written {
    compressed: i64,
    uncompressed: i64,
}

impl Written {
    fn add(&mut self, page: &PageWriteSpec) {
        self.compressed += page.compressed_size as i64;
        self.uncompressed += page.uncompressed_size as i64;
    }
}

fn write_pages<C: DictionaryColumn>(
    descriptor: &ColumnDescPtr,
    column: &mut C,
    pages: &[usize],
    compressor: &mut Compressor,
    writer: &mut dyn PageWriter,
) -> Result<ColumnCloseResult> {
    let mut written = Written::default();
    let dictionary = column.dictionary();
    let uncompressed = dictionary.len();
    let page = Page::DictionaryPage {
        buf: compressor.zstd.compress(&dictionary)?.into(),
        num_values: column.distinct() as u32,
        encoding: Encoding::PLAIN,
        is_sorted: column.is_sorted(),
    };
    let first = writer.write_page(CompressedPage::new(page, uncompressed))?;
    written.add(&first);
    let data_page_offset = first.bytes_written as i64;

    let (mut column_index, mut offset_index) = (ColumnIndexBuilder::new(C::Bound::TYPE), OffsetIndexBuilder::new());
    let mut bounds = Vec::with_capacity(pages.len());
    let (mut rows, mut nulls) = (0, 0);
    let width = u32::BITS - (column.distinct() as u32).saturating_sub(1).leading_zeros();
    for &page_rows in pages {
        let page = column.page(page_rows, width);
        let spec = writer.write_page(compressed(&page, descriptor.max_def_level() > 0, width, compressor)?)?;
        written.add(&spec);
        let (min, max) = page.bounds.map(|(min, max)| (min.bytes(), max.bytes())).unwrap_or_default();
        column_index.append(page.bounds.is_none(), min, max, page.nulls as i64);
        offset_index.append_row_count(page.rows as i64);
        offset_index.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
        bounds.extend(page.bounds);
        rows += page.rows as u64;
        nulls += page.nulls as u64;
    }
    writer.close()?;
    column_index.set_boundary_order(order(&bounds));

    let whole =
        bounds.into_iter().reduce(|a, b| (if b.0 < a.0 { b.0 } else { a.0 }, if b.1 > a.1 { b.1 } else { a.1 }));
    let metadata = ColumnChunkMetaData::builder(Arc::clone(descriptor))
        .set_compression(Compression::ZSTD(Default::default()))
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_num_values(rows as i64)
        .set_total_compressed_size(written.compressed)
        .set_total_uncompressed_size(written.uncompressed)
        .set_dictionary_page_offset(Some(0))
        .set_data_page_offset(data_page_offset)
        .set_statistics(C::Bound::statistics(whole, nulls))
        .build()?;
    Ok(ColumnCloseResult {
        bytes_written: written.compressed as u64,
        rows_written: rows,
        metadata,
        bloom_filter: None,
        column_index: Some(column_index.build()?),
        offset_index: Some(offset_index.build()),
    })
}

/// How the smallest and largest values of the pages follow each other.
fn order<B: Bound>(bounds: &[(B, B)]) -> BoundaryOrder {
    let follow = |is_right: fn(B, B) -> bool| {
        bounds.windows(2).all(|pair| is_right(pair[0].0, pair[1].0) && is_right(pair[0].1, pair[1].1))
    };
    if follow(|before, after| before <= after) {
        BoundaryOrder::ASCENDING
    } else if follow(|before, after| before >= after) {
        BoundaryOrder::DESCENDING
    } else {
        BoundaryOrder::UNORDERED
    }
}

fn compressed<B>(
    page: &DataPage<B>,
    has_levels: bool,
    width: u32,
    compressor: &mut Compressor,
) -> Result<CompressedPage> {
    let levels: &[u8] = if has_levels { &page.levels } else { &[] };
    // The width of the positions comes first.
    let positions = [&[width as u8], &*page.positions].concat();
    let uncompressed = levels.len() + positions.len();
    let smaller = compressor.smaller(&positions)?;
    let is_compressed = smaller.is_some();
    let page = Page::DataPageV2 {
        buf: [levels, smaller.as_ref().unwrap_or(&positions)].concat().into(),
        num_values: page.rows as u32,
        encoding: Encoding::RLE_DICTIONARY,
        num_nulls: page.nulls as u32,
        num_rows: page.rows as u32,
        def_levels_byte_len: levels.len() as u32,
        rep_levels_byte_len: 0,
        is_compressed,
        statistics: None,
    };
    Ok(CompressedPage::new(page, uncompressed))
}

struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    ratio_max: f64,
    /// Pages that stay as they are, because the last one that was tried had to.
    untried: usize,
}

impl Compressor {
    fn new(compression: PageCompression) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(compression.level)?;
        Ok(Self { zstd, ratio_max: compression.ratio_max, untried: 0 })
    }

    /// The bytes compressed, if that pays.
    fn smaller(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        if bytes.len() < COMPRESSED_BYTES_MIN {
            return Ok(None);
        }
        if self.untried > 0 {
            self.untried -= 1;
            return Ok(None);
        }
        let smaller = self.zstd.compress(bytes)?;
        let pays = smaller.len() as f64 <= bytes.len() as f64 * self.ratio_max;
        self.untried = if pays { 0 } else { PAGES_UNTRIED };
        Ok(pays.then_some(smaller))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema, SchemaRef};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
    use parquet::file::page_index::column_index::ColumnIndexMetaData;
    use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::store::parquet::floats::encode_floats;
    use crate::engine::store::parquet::pages::page_lengths;
    use crate::engine::store::parquet::tags::encode_tag;

    const COMPRESSION: PageCompression = PageCompression { level: 1, ratio_max: 0.9 };

    fn batch(array: ArrayRef) -> RecordBatch {
        let field = match array.data_type() {
            DataType::Dictionary(..) => Field::new_dictionary("c", DataType::Int32, DataType::Utf8, true),
            other => Field::new("c", other.clone(), true),
        };
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
    }

    fn writer(schema: SchemaRef, page_rows: usize) -> ArrowWriter<Vec<u8>> {
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_data_page_row_count_limit(page_rows)
            .set_write_batch_size(page_rows)
            .build();
        ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap()
    }

    /// The file of the crate's own encoder.
    fn theirs(batches: &[RecordBatch], page_rows: usize) -> Bytes {
        let mut writer = writer(batches[0].schema(), page_rows);
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap().into()
    }

    /// Ours; `None` if it leaves the column to the other.
    fn ours(batches: &[RecordBatch], page_rows: usize, dictionary_bytes_max: usize) -> Option<Bytes> {
        let (mut writer, _) = writer(batches[0].schema(), page_rows).into_serialized_writer().unwrap();
        let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(0)).collect();
        let pieces: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        let pages = page_lengths(&pieces, page_rows);
        let column = writer.schema_descr().column(0);
        let chunk = match arrays[0].data_type() {
            DataType::Float64 => encode_floats(&column, &arrays, &pages, dictionary_bytes_max, COMPRESSION),
            _ => encode_tag(&column, &arrays, &pages, dictionary_bytes_max, COMPRESSION),
        };
        let chunk = chunk.unwrap()?;
        let mut group = writer.next_row_group().unwrap();
        group.append_column(&chunk.bytes, chunk.close).unwrap();
        group.close().unwrap();
        Some(writer.into_inner().unwrap().into())
    }

    /// The values, floats by their bits.
    fn values(file: &Bytes) -> Vec<Option<String>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let schema = Arc::clone(builder.schema());
        let batches: Vec<_> = builder.with_batch_size(1000).build().unwrap().collect::<Result<_, _>>().unwrap();
        let all = concat_batches(&schema, &batches).unwrap();
        match all.column(0).as_primitive_opt::<Float64Type>() {
            Some(floats) => floats.iter().map(|value| value.map(|value| format!("{:x}", value.to_bits()))).collect(),
            None => {
                let tag = all.column(0).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
                tag.into_iter().map(|text| text.map(str::to_owned)).collect()
            }
        }
    }

    /// What a reader can skip by: of each page its first row, bounds and nulls; and of the chunk.
    fn facts(file: &Bytes) -> (Vec<String>, String) {
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = reader.parse_and_finish(file).unwrap();
        let index = &metadata.column_index().unwrap()[0][0];
        let locations = &metadata.offset_index().unwrap()[0][0].page_locations;
        let bounds = |page: usize| match index {
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                format!("{:?} {:?} {:?}", index.min_value(page), index.max_value(page), index.null_count(page))
            }
            ColumnIndexMetaData::DOUBLE(index) => {
                format!("{:?} {:?} {:?}", index.min_value(page), index.max_value(page), index.null_count(page))
            }
            other => panic!("{other:?}"),
        };
        let page = |page: usize| format!("{} {}", locations[page].first_row_index, bounds(page));
        let chunk = metadata.row_group(0).column(0);
        let encodings: Vec<Encoding> = chunk.encodings().collect();
        let (order, values) = (index.get_boundary_order(), chunk.num_values());
        let whole = format!("{values} {:?} {encodings:?} {order:?}", chunk.statistics());
        ((0..locations.len()).map(page).collect(), whole)
    }

    /// A tag whose dictionary has a text twice and one that no row has.
    fn tag(runs: &[(Option<u8>, usize)]) -> ArrayRef {
        let mut texts: Vec<String> = (0..=255u8).map(|number| format!("h{}", number.rotate_left(3))).collect();
        texts.push("h0".to_owned());
        texts.push("nobody's".to_owned());
        let keys = runs.iter().flat_map(|(key, count)| {
            let key = key.map(i32::from);
            (0..*count).map(move |row| key.map(|key| if key == 0 && row % 2 == 1 { 256 } else { key }))
        });
        Arc::new(DictionaryArray::new(keys.collect::<Int32Array>(), Arc::new(StringArray::from(texts))))
    }

    /// Floats around zero with both zeros and both infinities.
    fn float(runs: &[(Option<u8>, usize)]) -> ArrayRef {
        let value = |number: u8| match number {
            0 => -0.0,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            128 => 0.0,
            number => f64::from(number) / 100.0 - 1.28,
        };
        let floats = runs.iter().flat_map(|(number, count)| std::iter::repeat_n(number.map(value), *count));
        Arc::new(floats.collect::<Float64Array>())
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_other_encoder() {
        let is_taken = |texts: Vec<Option<&str>>, bytes_max| {
            let array: ArrayRef = Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>());
            ours(&[batch(array)], 1024, bytes_max).is_some()
        };
        let long = "x".repeat(65);
        assert!(is_taken(vec![Some("a")], 5));
        assert!(!is_taken(vec![Some("a")], 4));
        assert!(!is_taken(vec![Some(&long)], 1 << 20));
        assert!(!is_taken(vec![None], 1 << 20));
        let is_taken = |floats: Vec<Option<f64>>, bytes_max| {
            ours(&[batch(Arc::new(Float64Array::from(floats)))], 1024, bytes_max).is_some()
        };
        assert!(is_taken(vec![Some(1.0), Some(2.0), None, Some(1.0)], 16));
        assert!(!is_taken(vec![Some(1.0), Some(2.0), None, Some(1.0)], 15));
        assert!(!is_taken(vec![None], 1 << 20));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_writes_what_the_crate_writes(
            batches in prop::collection::vec(
                prop::collection::vec(
                    (prop::option::weighted(0.9, any::<u8>()), prop_oneof![1usize..3, 1usize..40, 1usize..3000]),
                    1..40,
                ),
                1..4,
            ),
            page_rows in prop_oneof![Just(1024usize), 50usize..500],
            few in any::<bool>(),
            nulls in any::<bool>(),
        ) {
            let number = |number: Option<u8>| {
                let number = if nulls { number } else { number.or(Some(7)) };
                number.map(|number| if few { number % 3 } else { number })
            };
            let runs: Vec<Vec<(Option<u8>, usize)>> = batches
                .iter()
                .map(|runs| runs.iter().map(|(of, count)| (number(*of), *count)).collect())
                .collect();
            prop_assume!(runs.iter().flatten().any(|(number, _)| number.is_some()));
            for array in [tag, float] {
                let batches: Vec<RecordBatch> = runs.iter().map(|runs| batch(array(runs))).collect();
                let (ours, theirs) = (ours(&batches, page_rows, 1 << 20).unwrap(), theirs(&batches, page_rows));
                prop_assert_eq!(values(&ours), values(&theirs));
                prop_assert_eq!(facts(&ours), facts(&theirs));
            }
        }
    }
}
