//! A put that was carried out and whose answer got lost, against a real store, for every object that Flightline puts.
//!
//! The store has the object, the client hears an error, nothing, or, because it tries again by itself, that the object
//! exists already. None of that may be taken for a conflict or make anything happen twice: in the end the store holds
//! exactly the objects that it would hold had every answer arrived.

use std::collections::BTreeSet;
use std::time::Duration;

use flightline::engine::store::{ConnectionSettings, Store, open};
use futures::TryStreamExt;
use rstest::rstest;

use crate::harness::database::TestDatabase;
use crate::harness::object_server::{Bucket, Kind, ObjectServer};
use crate::harness::proxy::{Loss, Manner};

/// Part of the path of each kind of object: the first record, the first commit, the later ones, and the rest.
const PUTS: [&str; 6] = [
    "catalog/log/00000000000000000001",
    "catalog/log/00000000000000000002",
    "catalog/log/",
    "catalog/checkpoint/",
    "catalog/trimmed",
    "dbs/",
];

const SQL: &str = "SELECT time, host, usage FROM cpu ORDER BY host, time";

/// Often enough that also the client's own second try of a request is lost.
const LOSSES_IN_A_ROW: usize = 2;

fn store(bucket: &Bucket) -> Store {
    let patience = ConnectionSettings {
        request_timeout: Duration::from_secs(2),
        retry_timeout: Duration::from_secs(20),
        retries_max: 2,
        connections_max: 16,
    };
    open(&bucket.settings, &patience).unwrap()
}

/// Puts objects of every kind, several times; the rows in the end.
async fn run(store: &Store) -> Vec<Vec<Option<String>>> {
    let mut database = TestDatabase::on(store.clone()).await.unwrap();
    for round in 0..4 {
        let lines: String = (0..50).map(|n| format!("cpu,host=h{} usage={}.5 {n}\n", n % 3, n + round)).collect();
        database.write(&lines).await;
        database.engine().persist_all().await.unwrap();
        database.restart().await; // each end makes a checkpoint, and the third removes the oldest
    }
    assert_eq!(database.engine().metrics().files, 4);
    let rows = database.rows(SQL).await.unwrap();
    database.close().await.unwrap();
    rows
}

async fn objects(store: &Store) -> BTreeSet<String> {
    store.objects().list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

#[rstest]
fn a_lost_answer_is_no_conflict_and_nothing_happens_twice(
    #[values(Loss::ServerError, Loss::Dropped, Loss::Stalled)] loss: Loss,
) {
    let server = ObjectServer::start(Kind::S3).behind(Manner::Faithful);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let calm = store(&server.bucket("calm"));
    let (expected_rows, expected_objects) = runtime.block_on(async { (run(&calm).await, objects(&calm).await) });
    assert_eq!(expected_rows.len(), 50);
    for (number, part_of_path) in PUTS.into_iter().enumerate() {
        let name = format!("lossy{number}");
        let bucket = server.bucket(&name);
        let before = server.proxy().lost();
        server.proxy().lose(&format!("/{name}/{part_of_path}"), loss, LOSSES_IN_A_ROW);
        let rows = runtime.block_on(run(&store(&bucket)));
        assert!(server.proxy().lost() > before, "{part_of_path}: no answer was lost");
        assert_eq!(rows, expected_rows, "{part_of_path}");
        let direct = store(&server.bucket_without_proxy(&name));
        assert_eq!(runtime.block_on(objects(&direct)), expected_objects, "{part_of_path}");
    }
}
