//! What comes in and what goes.

use std::sync::Arc;

use futures::future::join_all;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::runtime::Handle;

use super::super::Store;
use super::super::checked::CheckedFiles;
use super::super::checked::tests::large_file;
use super::super::recent::RecentSettings;
use super::*;
use crate::clock::ManualClock;
use crate::model::Timestamp;

/// A file of four row groups of 5,000 rows, read through memory for so many bytes of decoded columns.
async fn files(bytes_max: u64) -> (CheckedFiles, Arc<DataFile>) {
    let (file, bytes) = large_file();
    let store = Store::in_memory();
    store.objects().put(&Path::from(file.path.as_str()), bytes.into()).await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(0)));
    (CheckedFiles::new(store, 1 << 20, RecentSettings::NOTHING, clock).with_decoded(bytes_max), file)
}

/// The row group with these fields, at once: the file is newer than the clock.
async fn ask(files: &CheckedFiles, file: &Arc<DataFile>, number: usize, fields: &[&str]) -> Option<DecodedRowGroup> {
    ask_for(files, file, number, fields, WantedRows::Most).await
}

async fn ask_for(
    files: &CheckedFiles,
    file: &Arc<DataFile>,
    number: usize,
    fields: &[&str],
    wanted: WantedRows,
) -> Option<DecodedRowGroup> {
    let names = |names: &[&str]| names.iter().map(|name| ColumnName::new(name).unwrap()).collect::<Vec<_>>();
    files.decoded(file, number, &names(&["host"]), &names(fields), wanted, &Handle::current()).await.unwrap()
}

#[tokio::test]
async fn a_row_group_is_decoded_once_field_by_field() {
    let (files, file) = files(16 << 20).await;
    let first = ask(&files, &file, 1, &[]).await.unwrap();
    assert_eq!((first.series.len(), first.times.value(0), first.times.len()), (1, 5_000, 5_000));
    assert!(first.fields.is_empty());
    let second = ask(&files, &file, 1, &["usage"]).await.unwrap();
    assert_eq!(second.fields[&ColumnName::new("usage").unwrap()].null_count(), 715);
    assert!(Arc::ptr_eq(&first.series, &second.series));
    assert_eq!(files.decoded_metrics().loads, 2);
    ask(&files, &file, 1, &["usage"]).await.unwrap();
    let metrics = files.decoded_metrics();
    assert_eq!((metrics.loads, metrics.hits, metrics.evictions), (2, 1, 0));
}

#[tokio::test]
async fn who_wants_few_rows_has_the_row_group_decoded_when_as_many_were_decoded_alone() {
    let (files, file) = files(16 << 20).await;
    for _ in 0..3 {
        assert!(ask_for(&files, &file, 0, &["usage"], WantedRows::Few(2_000)).await.is_none());
    }
    assert!(ask_for(&files, &file, 1, &["usage"], WantedRows::Few(2_000)).await.is_none(), "each for itself");
    assert!(ask_for(&files, &file, 0, &["usage"], WantedRows::Few(1)).await.is_some());
    assert_eq!(files.decoded_metrics().loads, 1);
    assert!(ask_for(&files, &file, 0, &["usage"], WantedRows::Few(1)).await.is_some());
    assert_eq!(files.decoded_metrics().hits, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_readers_one_decodes() {
    let (files, file) = files(16 << 20).await;
    let readers = (0..8).map(|_| {
        let (files, file) = (files.clone(), Arc::clone(&file));
        tokio::spawn(async move { ask(&files, &file, 0, &["usage"]).await.is_some() })
    });
    assert!(join_all(readers).await.into_iter().all(|found| found.unwrap()));
    assert_eq!(files.decoded_metrics().loads, 1);
}

#[tokio::test]
async fn the_memory_is_bounded_and_the_least_recently_used_goes() {
    // A row group takes about 5,000 times and as many values: 80 KiB.
    let (files, file) = files(700 << 10).await;
    for round in 0..3 {
        for number in 0..4 {
            ask(&files, &file, number, &["usage"]).await.unwrap();
        }
        let metrics = files.decoded_metrics();
        assert!(metrics.bytes <= metrics.bytes_max, "round {round}: {metrics:?}");
    }
    let (small, file) = self::files(300 << 10).await;
    assert!(
        ask(&small, &file, 0, &["usage"]).await.is_none(),
        "one that takes more than an eighth is read page by page"
    );
    assert!(ask(&small, &file, 0, &[]).await.is_none());
    let (none, file) = self::files(0).await;
    assert!(!none.keeps_decoded() && ask(&none, &file, 0, &[]).await.is_none());
}
