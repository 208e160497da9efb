//! The check against stores that work, and against stores that are known not to.

use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::clock::SystemClock;
use crate::engine::store::fault_store::{FaultRates, FaultStore};
use crate::engine::store::file::DurableFileStore;

async fn findings(objects: Arc<dyn ObjectStore>) -> (Verdict, Vec<Finding>) {
    let store = Store::new(Arc::clone(&objects), "test");
    let mut findings = Vec::new();
    let verdict = check(&store, &SystemClock::new(), &mut |finding| findings.push(finding.clone())).await;
    (verdict, findings)
}

async fn left_behind(objects: &Arc<dyn ObjectStore>) -> Vec<Path> {
    objects.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap()
}

fn missing(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| finding.outcome.is_err()).map(|finding| finding.capability).collect()
}

#[tokio::test]
async fn memory_and_directories_can_do_everything_and_are_left_empty() {
    let directory = tempfile::tempdir().unwrap();
    let file: Arc<dyn ObjectStore> = Arc::new(DurableFileStore::open(directory.path()).unwrap());
    for objects in [Arc::new(InMemory::new()), file] {
        let (verdict, findings) = findings(Arc::clone(&objects)).await;
        assert_eq!((verdict, missing(&findings)), (Verdict::Usable, vec![]));
        assert_eq!(findings.len(), 14);
        assert!(left_behind(&objects).await.is_empty());
        let store = Store::new(Arc::clone(&objects), "test");
        assert!(creates_only_if_new(&store, &SystemClock::new()).await.unwrap());
        assert!(left_behind(&objects).await.is_empty());
    }
}

#[tokio::test]
async fn a_store_that_overwrites_what_must_be_new_is_for_a_single_writer() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let careless = FaultStore::new(Arc::clone(&objects), 0);
    careless.ignore_create();
    let (verdict, findings) = findings(Arc::<FaultStore>::clone(&careless)).await;
    assert_eq!(verdict, Verdict::SingleWriterOnly);
    assert_eq!(missing(&findings), ["create only if new", "one winner among creators"]);
    assert!(left_behind(&objects).await.is_empty());
    let store = Store::new(careless, "test");
    assert!(!creates_only_if_new(&store, &SystemClock::new()).await.unwrap());
    assert!(left_behind(&objects).await.is_empty());
}

#[tokio::test]
async fn a_late_listing_is_borne_with() {
    let late = FaultStore::new(Arc::new(InMemory::new()), 0);
    late.set_rates(FaultRates { list_omits: 1, ..FaultRates::default() });
    let (_, findings) = findings(late).await;
    assert!(missing(&findings).contains(&"list at once what was put"), "{findings:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_unusable_and_no_verdict_on_create() {
    let down = FaultStore::new(Arc::new(InMemory::new()), 0);
    down.go_down();
    let (verdict, findings) = findings(Arc::<FaultStore>::clone(&down)).await;
    assert_eq!((verdict, missing(&findings)), (Verdict::Unusable, vec!["put", "delete"]));
    let error = creates_only_if_new(&Store::new(down, "test"), &SystemClock::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
