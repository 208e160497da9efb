use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::*;
use crate::clock::ManualClock;
use crate::engine::store::parquet::{EncodedFile, encode};
use crate::model::{
    Column, ColumnKind, ColumnName, FieldType, FileId, Sequence, SequenceRange, TableId, TableSchema, Timestamp,
};

/// Counts requests, and the bytes that they ask for.
#[derive(Debug, Default)]
struct Counted {
    objects: InMemory,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counted {
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

#[async_trait]
impl ObjectStore for Counted {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.objects.put_opts(path, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.objects.get_opts(path, options).await
    }
    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.bytes.fetch_add(bytes as usize, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.objects.get_ranges(path, ranges).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

const NOW: i64 = 10_000_000_000;

const PATH: &str = "dbs/1-nyc/1-cpu/2013-01-01/0000000007.parquet";

fn encoded(row_groups: i64, rows: i64) -> EncodedFile {
    let schema = TableSchema::new([
        Column { name: ColumnName::new("host").unwrap(), kind: ColumnKind::Tag },
        Column { name: ColumnName::new("usage").unwrap(), kind: ColumnKind::Field(FieldType::Float) },
    ]);
    let group = |number: i64| {
        let host: DictionaryArray<Int32Type> = (0..rows).map(|_| Some("a")).collect();
        let usage = (0..rows).map(|row| (row % 7 != 0).then(|| ((number * rows + row) as f64).sin()));
        let times = number * rows..(number + 1) * rows;
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("host", Arc::new(host), true),
            ("time", Arc::new(TimestampNanosecondArray::from_iter_values(times)), false),
            ("usage", Arc::new(Float64Array::from_iter(usage)), true),
        ];
        vec![RecordBatch::try_from_iter_with_nullable(columns).unwrap()]
    };
    encode(&schema, (0..row_groups).map(group).collect()).unwrap()
}

/// A file of some ten thousand bytes, and what the catalog says of it.
pub(crate) fn large_file() -> (Arc<DataFile>, Bytes) {
    let file = encoded(4, 5_000);
    (data_file(&file), file.bytes)
}

fn data_file(file: &EncodedFile) -> Arc<DataFile> {
    Arc::new(DataFile {
        id: FileId::new(7),
        table: TableId::new(1),
        path: PATH.to_owned(),
        bytes: file.bytes.len() as u64,
        data_bytes: file.data_bytes,
        tail_crc32c: file.tail_crc32c,
        rows: file.rows,
        time: file.time,
        sequences: SequenceRange::single(Sequence::new(1)),
        deletions_applied: 0,
        created: Timestamp::from_nanos(0),
        row_groups: file.row_groups.clone(),
        columns: file.columns.iter().cloned().collect(),
    })
}

/// The files of a store, some seconds after 1970.
fn files(store: Store, recent: RecentSettings) -> CheckedFiles {
    CheckedFiles::new(store, 1 << 20, recent, Arc::new(ManualClock::new(Timestamp::from_nanos(NOW))))
}

/// A store with this object, and its files.
async fn stored(object: Option<Bytes>, recent: RecentSettings) -> (CheckedFiles, Arc<Counted>) {
    let counted = Arc::new(Counted::default());
    if let Some(object) = object {
        counted.put(&Path::from(PATH), object.into()).await.unwrap();
    }
    let objects: Arc<dyn ObjectStore> = Arc::<Counted>::clone(&counted);
    (files(Store::new(objects, "memory"), recent), counted)
}

/// A store with this object, and a reader of `file` over it that keeps no data.
async fn reader(file: &EncodedFile, object: Option<Bytes>) -> (CheckedReader, Arc<Counted>) {
    let (files, counted) = stored(object, RecentSettings::NOTHING).await;
    (files.reader(data_file(file), Handle::current()), counted)
}

async fn read_rows(reader: CheckedReader) -> Result<Vec<RecordBatch>, ParquetError> {
    ParquetRecordBatchStreamBuilder::new(reader).await?.build()?.try_collect().await
}

/// The kind and message that a caller finds below a Parquet error.
fn found(error: &ParquetError) -> (ErrorKind, String) {
    let ParquetError::External(source) = error else { panic!("{error:?} comes from elsewhere") };
    let error = source.downcast_ref::<Error>().unwrap();
    assert!(std::error::Error::source(error).unwrap().is::<DataFileError>());
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn rows_come_back() {
    let file = encoded(3, 20_000);
    let (reader, counted) = reader(&file, Some(file.bytes.clone())).await;
    let cache = reader.files.metadata.clone();
    let batches = read_rows(reader).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 60_000);
    let plain = ParquetRecordBatchReader::try_new(file.bytes.clone(), 1024).unwrap();
    let plain: Vec<RecordBatch> = plain.collect::<Result<_, _>>().unwrap();
    let whole = |batches: &[RecordBatch]| concat_batches(&plain[0].schema(), batches).unwrap();
    assert_eq!(whole(&batches), whole(&plain));
    assert_eq!(counted.requests(), 1 + 3, "the tail, then each row group at once");
    assert!(cache.bytes() > 1_000);
}

#[tokio::test]
async fn any_changed_byte_is_found_and_named() {
    let file = encoded(1, 40);
    assert!(file.bytes.len() < 6_000, "{} bytes take too long to try one by one", file.bytes.len());
    let (whole, _) = reader(&file, Some(file.bytes.clone())).await;
    assert!(read_rows(whole).await.is_ok());
    for byte in 0..file.bytes.len() {
        let mut damaged = file.bytes.to_vec();
        damaged[byte] ^= 1 << (byte % 8);
        let damaged = Bytes::from(damaged);

        let (checked, _) = reader(&file, Some(damaged.clone())).await;
        let in_tail = byte as u64 >= file.data_bytes;
        let (kind, message) = found(&read_rows(checked).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Corrupt, "byte {byte}");
        let bytes = if in_tail { file.data_bytes..file.bytes.len() as u64 } else { 0..file.data_bytes };
        let expected =
            format!("data file \"{PATH}\" is damaged: bytes {} to {} fail their checksum", bytes.start, bytes.end);
        assert_eq!(message, expected, "byte {byte}");

        let (mut checked, _) = reader(&file, Some(damaged)).await;
        let at = byte as u64;
        assert!(checked.get_bytes(at..at + 1).await.is_err(), "byte {byte}");
    }
}

#[tokio::test]
async fn damage_in_one_block_leaves_the_others_readable() {
    let file = encoded(1, 60_000);
    let block = 64 * 1024;
    assert!(file.data_bytes > 3 * block);
    let mut damaged = file.bytes.to_vec();
    damaged[usize::try_from(block).unwrap() + 5] ^= 0x80;
    let (mut reader, _) = reader(&file, Some(damaged.into())).await;
    assert_eq!(reader.get_bytes(0..block).await.unwrap(), file.bytes.slice(0..65_536));
    assert!(reader.get_bytes(2 * block..2 * block + 1).await.is_ok());
    let (kind, message) = found(&reader.get_byte_ranges(vec![0..1, block..block + 1]).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(message.ends_with("bytes 65536 to 131072 fail their checksum"), "{message}");
}

#[tokio::test]
async fn a_shortened_or_missing_object_is_named() {
    let file = encoded(2, 40);
    for bytes in [0, 1, file.data_bytes as usize - 1, file.data_bytes as usize, file.bytes.len() - 1] {
        let (reader, _) = reader(&file, Some(file.bytes.slice(..bytes))).await;
        let (kind, message) = found(&read_rows(reader).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Corrupt);
        assert_eq!(message, format!("data file \"{PATH}\" ends at byte {bytes} of {}", file.bytes.len()));
    }
    let (reader, _) = reader(&file, None).await;
    let (kind, message) = found(&read_rows(reader).await.unwrap_err());
    assert_eq!((kind, message), (ErrorKind::Corrupt, format!("data file \"{PATH}\" is missing from the object store")));
}

#[tokio::test]
async fn a_shortened_or_missing_file_on_disk_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let objects = object_store::local::LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let store = Store::new(Arc::new(objects), "file");
    let file = encoded(2, 40);
    let reader = || files(store.clone(), RecentSettings::NOTHING).reader(data_file(&file), Handle::current());
    let (kind, message) = found(&read_rows(reader()).await.unwrap_err());
    assert_eq!((kind, message), (ErrorKind::Corrupt, format!("data file \"{PATH}\" is missing from the object store")));
    store.objects().put(&Path::from(PATH), file.bytes.slice(..100).into()).await.unwrap();
    let (kind, message) = found(&read_rows(reader()).await.unwrap_err());
    assert_eq!(
        (kind, message),
        (ErrorKind::Corrupt, format!("data file \"{PATH}\" ends at byte 100 of {}", file.bytes.len()))
    );
    store.objects().put(&Path::from(PATH), file.bytes.clone().into()).await.unwrap();
    assert_eq!(read_rows(reader()).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 80);
}

#[tokio::test]
async fn ranges_come_in_the_order_they_were_asked_for() {
    let file = encoded(2, 60_000);
    let (mut reader, counted) = reader(&file, Some(file.bytes.clone())).await;
    let (data, end) = (file.data_bytes, file.bytes.len() as u64);
    let asked = vec![
        70_000..70_010,
        3..9,
        data - 5..data + 5,
        5..5,
        data..end,
        65_530..65_540,
        end - 8..end,
        0..end,
        0..data,
        end..end,
    ];
    let expected: Vec<Bytes> =
        asked.iter().map(|range| file.bytes.slice(range.start as usize..range.end as usize)).collect();
    assert_eq!(reader.get_byte_ranges(asked.clone()).await.unwrap(), expected);
    assert_eq!(counted.requests(), 2, "the tail, then all ranges at once");
    for (range, expected) in asked.into_iter().zip(expected) {
        assert_eq!(reader.get_bytes(range).await.unwrap(), expected);
    }
    let (kind, _) = found(&reader.get_bytes(end - 1..end + 1).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Internal);
    assert!(reader.get_byte_ranges(vec![]).await.unwrap().is_empty());
}

#[tokio::test]
async fn readers_at_once_fetch_the_metadata_once() {
    let file = encoded(2, 40);
    let (first, counted) = reader(&file, Some(file.bytes.clone())).await;
    let mut readers: Vec<CheckedReader> =
        (0..20).map(|_| first.files.reader(data_file(&file), Handle::current())).collect();
    futures::future::try_join_all(readers.iter_mut().map(|reader| reader.get_metadata(None))).await.unwrap();
    assert_eq!(counted.requests(), 1);
}

#[tokio::test]
async fn a_failed_load_is_not_remembered() {
    let file = encoded(1, 40);
    let (mut reader, counted) = reader(&file, None).await;
    assert!(reader.get_metadata(None).await.is_err());
    counted.put(&Path::from(PATH), file.bytes.clone().into()).await.unwrap();
    assert!(reader.get_metadata(None).await.is_ok());
}

#[test]
fn requests_run_on_the_runtime_for_io() {
    let file = encoded(1, 40);
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut reader, _) = io.block_on(reader(&file, Some(file.bytes.clone())));
    // No runtime here at all.
    let bytes = futures::executor::block_on(reader.get_bytes(0..4)).unwrap();
    assert_eq!(&bytes[..], b"PAR1");
}

/// Everything that ends after 1970 is recent.
const ALL_DATA: RecentSettings = RecentSettings { bytes_max: 64 << 20, recency: Duration::from_nanos(NOW as u64) };

/// The rows that are read from the file, as one batch.
async fn all_rows(files: &CheckedFiles, file: &EncodedFile) -> RecordBatch {
    let batches = read_rows(files.reader(data_file(file), Handle::current())).await.unwrap();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test]
async fn recent_data_is_asked_for_once() {
    let file = encoded(3, 20_000);
    let (files, counted) = stored(Some(file.bytes.clone()), ALL_DATA).await;
    let first = all_rows(&files, &file).await;
    assert_eq!(first.num_rows(), 60_000);
    let requests = counted.requests();
    assert_eq!(requests, 1 + 3, "the tail, then each row group at once");
    assert_eq!(all_rows(&files, &file).await, first);
    assert_eq!(counted.requests(), requests);
    let metrics = files.recent_metrics();
    assert!(metrics.hits > 0 && metrics.hits == metrics.misses, "{metrics:?}");
    assert!(metrics.bytes >= file.data_bytes && metrics.bytes < file.data_bytes + (64 << 10), "{metrics:?}");
}

#[tokio::test]
async fn a_file_that_was_just_written_is_never_asked_for() {
    let file = encoded(3, 20_000);
    let (files, counted) = stored(Some(file.bytes.clone()), ALL_DATA).await;
    files.remember(&data_file(&file), &file.bytes).await.unwrap();
    assert!(files.recent_metrics().bytes >= file.data_bytes);
    let batches = all_rows(&files, &file).await;
    assert_eq!(batches.num_rows(), 60_000);
    assert_eq!(counted.requests(), 0);
    assert_eq!(files.recent_metrics().misses, 0);
}

#[tokio::test]
async fn what_memory_keeps_does_not_keep_the_written_file_alive() {
    let file = encoded(1, 20_000);
    let (files, _) = stored(None, ALL_DATA).await;
    let facts = data_file(&file);
    let bytes = Bytes::from(file.bytes.to_vec());
    files.remember(&facts, &bytes).await.unwrap();
    assert!(files.recent_metrics().bytes >= file.data_bytes);
    assert!(bytes.is_unique());
}

#[tokio::test]
async fn old_data_is_read_past_the_memory() {
    let file = encoded(2, 60_000);
    let settings = RecentSettings { recency: Duration::from_secs(1), ..ALL_DATA };
    let (files, counted) = stored(Some(file.bytes.clone()), settings).await;
    files.remember(&data_file(&file), &file.bytes).await.unwrap();
    let mut reader = files.reader(data_file(&file), Handle::current());
    for round in 1..3 {
        reader.get_bytes(100_000..100_001).await.unwrap();
        assert_eq!(counted.requests(), round);
        assert_eq!(counted.bytes.load(Ordering::SeqCst), round * 64 * 1024, "one block and no whole column");
    }
    assert_eq!(files.recent_metrics(), RecentMetrics { bytes_max: 64 << 20, ..RecentMetrics::default() });
}

#[tokio::test]
async fn a_file_that_has_become_old_is_still_read_from_memory() {
    let file = encoded(1, 20_000);
    let counted = Arc::new(Counted::default());
    counted.put(&Path::from(PATH), file.bytes.clone().into()).await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW)));
    let store = Store::new(Arc::<Counted>::clone(&counted) as Arc<dyn ObjectStore>, "memory");
    let files = CheckedFiles::new(store, 1 << 20, ALL_DATA, Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>);
    files.remember(&data_file(&file), &file.bytes).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    all_rows(&files, &file).await;
    assert_eq!(counted.requests(), 0);
}

#[tokio::test]
async fn any_ranges_come_out_of_memory_as_out_of_the_file() {
    let file = encoded(2, 60_000);
    let (files, counted) = stored(Some(file.bytes.clone()), ALL_DATA).await;
    let mut reader = files.reader(data_file(&file), Handle::current());
    let (data, end) = (file.data_bytes, file.bytes.len() as u64);
    let asked =
        vec![70_000..70_010, 3..9, data - 5..data + 5, 5..5, data..end, 65_530..65_540, 0..end, 0..data, end..end];
    let expected: Vec<Bytes> =
        asked.iter().map(|range| file.bytes.slice(range.start as usize..range.end as usize)).collect();
    for _ in 0..2 {
        assert_eq!(reader.get_byte_ranges(asked.clone()).await.unwrap(), expected);
    }
    let requests = counted.requests();
    for (range, expected) in asked.into_iter().zip(expected).filter(|(range, _)| range.end <= data) {
        assert_eq!(reader.get_bytes(range).await.unwrap(), expected);
    }
    assert_eq!(counted.requests(), requests);
    let (kind, _) = found(&reader.get_bytes(end - 1..end + 1).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Internal);
}

#[tokio::test]
async fn damage_is_found_and_never_kept() {
    let file = encoded(1, 60_000);
    let block = 64 * 1024;
    assert!(file.data_bytes > 3 * block as u64);
    let mut damaged = file.bytes.to_vec();
    damaged[block + 5] ^= 0x80;
    let (files, counted) = stored(Some(damaged.into()), ALL_DATA).await;
    let mut reader = files.reader(data_file(&file), Handle::current());
    for _ in 0..2 {
        let (kind, message) = found(&reader.get_bytes(0..file.data_bytes).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Corrupt);
        assert!(message.ends_with("bytes 65536 to 131072 fail their checksum"), "{message}");
    }
    counted.put(&Path::from(PATH), file.bytes.clone().into()).await.unwrap();
    let data = file.bytes.slice(..file.data_bytes as usize);
    assert_eq!(reader.get_bytes(0..file.data_bytes).await.unwrap(), data);
    counted.delete(&Path::from(PATH)).await.unwrap();
    assert_eq!(reader.get_bytes(0..file.data_bytes).await.unwrap(), data);
}

#[tokio::test]
async fn readers_at_once_fetch_recent_data_once() {
    let file = encoded(1, 60_000);
    let (files, counted) = stored(Some(file.bytes.clone()), ALL_DATA).await;
    let mut readers: Vec<CheckedReader> = (0..20).map(|_| files.reader(data_file(&file), Handle::current())).collect();
    let reads = readers.iter_mut().map(|reader| reader.get_byte_ranges(vec![0..10, 200_000..300_000]));
    for bytes in futures::future::try_join_all(reads).await.unwrap() {
        assert_eq!(bytes, [file.bytes.slice(0..10), file.bytes.slice(200_000..300_000)]);
    }
    assert_eq!(counted.requests(), 2, "the tail, then the data");
}

#[tokio::test]
async fn a_reader_that_is_not_driven_holds_nobody_up() {
    let file = encoded(1, 60_000);
    let (files, counted) = stored(Some(file.bytes.clone()), ALL_DATA).await;
    // Each of the two begins to fetch and is then left alone, as that of a client that reads slowly.
    let mut slow = files.reader(data_file(&file), Handle::current());
    let mut slow_metadata = Box::pin(slow.metadata());
    assert!(futures::poll!(&mut slow_metadata).is_pending());
    let patience = Duration::from_secs(10);
    let mut quick = files.reader(data_file(&file), Handle::current());
    tokio::time::timeout(patience, quick.metadata()).await.unwrap().unwrap();
    drop(slow_metadata);

    slow.metadata().await.unwrap();
    let mut slow_data = slow.get_bytes(0..10);
    assert!(futures::poll!(&mut slow_data).is_pending());
    tokio::time::timeout(patience, quick.get_bytes(0..10)).await.unwrap().unwrap();
    assert_eq!(counted.requests(), 2, "the tail, then the data");
    drop(slow_data);
}
