//! Stores that fail before or after a request, once or often.

use super::*;

#[rstest]
#[tokio::test]
async fn a_process_that_dies_at_any_put_loses_and_doubles_nothing(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(Moment::Before, Moment::AfterCommit)] moment: Moment,
) {
    let expected = expected_contents();
    for put in 0.. {
        let (_directory, objects) = objects(kind);
        let faults = FaultStore::new(Arc::clone(&objects), put);
        faults.fail_put(put, moment, Aftermath::StaysDown);
        let dying: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        let acknowledged = match open_with(&dying, frugal()).await {
            Ok(catalog) => {
                let (done, error) = run_script(&catalog, 0).await;
                assert!(error.is_none_or(|error| Error::from(error).kind() == ErrorKind::Unavailable));
                assert_eq!(contents(&catalog.state()), expected[done], "memory says what was acknowledged");
                let _ = catalog.close().await; // the store may be down
                done
            }
            Err(_) => 0,
        };

        let catalog = open_with(&objects, frugal()).await.unwrap();
        let found = contents(&catalog.state());
        let done = (acknowledged..=acknowledged + 1).find(|done| expected.get(*done) == Some(&found));
        let done = done.unwrap_or_else(|| panic!("put {put}: after {acknowledged} commits there is {found}"));
        let (done, error) = run_script(&catalog, done).await;
        assert!(error.is_none(), "put {put}: {error:?}");
        assert_eq!(contents(&catalog.state()), expected[done]);
        catalog.close().await.unwrap();
        assert_eq!(contents(&open(&objects).await.state()), expected[expected.len() - 1]);
        if faults.requests().puts <= put {
            assert!(put > 12, "checkpoints and marks are among the puts");
            return;
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_single_failed_put_is_never_felt(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(Moment::Before, Moment::AfterCommit)] moment: Moment,
) {
    let expected = expected_contents();
    for put in 0.. {
        let (_directory, objects) = objects(kind);
        let faults = FaultStore::new(Arc::clone(&objects), put);
        faults.fail_put(put, moment, Aftermath::Recovers);
        let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        let catalog = open_with(&failing, frugal()).await.unwrap();
        let (_, error) = run_script(&catalog, 0).await;
        assert!(error.is_none(), "put {put}: {error:?}");
        catalog.close().await.unwrap();
        assert_eq!(contents(&open(&objects).await.state()), expected[expected.len() - 1]);
        if faults.requests().puts <= put {
            return;
        }
    }
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_found_by_the_next_one() {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    let catalog = open(&failing).await;
    faults.fail_put(0, Moment::AfterCommit, Aftermath::StaysDown);
    let error = catalog.commit(|_| Ok(vec![create_database(1, "a")])).await.unwrap_err();
    assert!(matches!(error, CatalogError::Unknown { .. }), "{error}");
    assert_eq!(catalog.state().databases().count(), 0);

    faults.heal();
    let state = catalog.commit(|state| Ok(vec![create_database(state.next_database_id().get(), "b")])).await.unwrap();
    let names: Vec<_> = state.databases().map(|database| (database.id.get(), database.name.as_str())).collect();
    assert_eq!(names, [(1, "a"), (2, "b")]);
    assert_eq!(*open(&objects).await.state(), *state);
}

#[rstest]
#[tokio::test]
async fn a_store_that_fails_a_third_of_the_time_loses_nothing_and_heals(#[values(1, 2, 3, 4, 5, 6, 7, 8)] seed: u64) {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), seed);
    let failing: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    let rates = FaultRates {
        before: 200,
        after_commit: 200,
        not_found_once: 100,
        slow: 50,
        slow_for: Duration::from_micros(100),
        list_omits: 1,
    };
    drop(open(&objects).await); // so that every opening below finds the same catalog
    let (mut acknowledged, mut attempted) = (HashSet::new(), HashSet::new());
    for round in 0..4 {
        faults.set_rates(rates);
        let Ok(catalog) = open_with(&failing, frugal()).await else { continue };
        for number in 0..25 {
            let name = database(&format!("d{round}-{number}"));
            attempted.insert(name.clone());
            let create = |state: &CatalogState| {
                if state.database_by_name(&name).is_some() {
                    return Err(Error::new(ErrorKind::Conflict, "it exists"));
                }
                Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() }])
            };
            if catalog.commit(create).await.is_ok() {
                acknowledged.insert(name.clone());
            }
        }
        faults.heal();
        let last = database(&format!("healed{round}"));
        let create = |state: &CatalogState| {
            Ok(vec![CatalogChange::CreateDatabase { id: state.next_database_id(), name: last.clone() }])
        };
        catalog.commit(create).await.expect("a healed store takes commits");
        acknowledged.insert(last);
        assert_eq!(*open(&objects).await.state(), *catalog.state());
    }
    assert!(faults.requests().faults > 50);
    let found: HashSet<_> = open(&objects).await.state().databases().map(|database| database.name.clone()).collect();
    assert!(acknowledged.is_subset(&found));
    assert!(found.iter().all(|name| attempted.contains(name) || acknowledged.contains(name)));
}
