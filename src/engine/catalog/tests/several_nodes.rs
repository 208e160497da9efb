//! Several nodes on one store.

use super::*;

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_race_give_out_no_number_twice(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let settings = CatalogSettings { file_ids_per_block: 3, checkpoint_records: 20, ..settings() };
    let nodes = [
        Arc::new(open_with(&objects, settings.clone()).await.unwrap()),
        Arc::new(open_with(&objects, settings.clone()).await.unwrap()),
    ];
    let tasks = (0..16usize).map(|task| {
        let node = Arc::clone(&nodes[task % 2]);
        tokio::spawn(async move {
            let mut files = Vec::new();
            for number in 0..4 {
                let name = database(&format!("d{task}-{number}"));
                let create = |state: &CatalogState| {
                    if state.database_by_name(&name).is_some() {
                        return Ok(Vec::new()); // it was not known whether it happened
                    }
                    Ok(vec![
                        CatalogChange::CreateDatabase { id: state.next_database_id(), name: name.clone() },
                        create_table(state.next_database_id().get(), state.next_table_id().get(), "t"),
                    ])
                };
                let state = loop {
                    if let Some(state) = known(node.commit(create).await) {
                        break state;
                    }
                };
                assert_eq!(state.tables_of(state.database_by_name(&name).unwrap().id).count(), 1);
                files.push(loop {
                    if let Some(id) = known(node.next_file_id().await) {
                        break id;
                    }
                });
            }
            files
        })
    });
    let files: Vec<FileId> =
        futures::future::join_all(tasks).await.into_iter().flat_map(|files| files.unwrap()).collect();
    assert_eq!(files.iter().collect::<HashSet<_>>().len(), 64);
    let (first, second) = (nodes[0].refresh().await.unwrap(), nodes[1].refresh().await.unwrap());
    assert_eq!(first, second);
    assert_eq!((first.databases().count(), first.table_count()), (64, 64));
    for node in nodes {
        node.close().await.unwrap();
    }
    let reopened = open_with(&objects, settings).await.unwrap();
    assert_eq!(reopened.state(), first);
    assert!(reopened.next_file_id().await.unwrap() >= first.next_file_id(), "a restart skips what was reserved");
}

/// `None` if it is not known what became of it, and has to be asked again: nodes that go far ahead of one another trim what it would have
/// stood on.
fn known<T>(answer: Result<T, CatalogError>) -> Option<T> {
    match answer {
        Err(CatalogError::Unknown { source: None, .. }) => None,
        answer => Some(answer.unwrap()),
    }
}

#[rstest]
#[tokio::test]
async fn a_node_that_slept_through_a_trim_finds_back(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
    #[values(false, true)] refreshes: bool,
) {
    let (_directory, objects) = objects(kind);
    let (sleeper, worker) = (open(&objects).await, open_with(&objects, frugal()).await.unwrap());
    for id in 1..=20 {
        worker.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        tokio::task::yield_now().await;
    }
    worker.close().await.unwrap();
    assert!(!listed(&objects, paths::catalog_log()).await.contains(&2), "the log was trimmed");

    let create = |state: &CatalogState| Ok(vec![create_database(state.next_database_id().get(), "late")]);
    if refreshes {
        assert_eq!(sleeper.refresh().await.unwrap(), worker.state());
    } else {
        let error = sleeper.commit(create).await.unwrap_err();
        assert!(matches!(error, CatalogError::Unknown { source: None, .. }), "{error}");
        assert_eq!(sleeper.state(), worker.state());
    }
    let state = sleeper.commit(create).await.unwrap();
    assert_eq!(state.databases().count(), 21);
    assert_eq!(open(&objects).await.state(), state);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_a_race_decides_on_what_the_others_did_while_it_waited() {
    let (_, objects) = objects(Kind::Memory);
    let (patient, worker) = (open(&objects).await, open_with(&objects, frugal()).await.unwrap());
    let create = |id: u32| worker.commit(move |_| Ok(vec![create_database(id, &format!("d{id}"))]));
    create(1).await.unwrap();
    let late = patient.commit(|state| Ok(vec![create_database(state.next_database_id().get(), "late")]));
    let others = async {
        for id in 2..=20 {
            create(id).await.unwrap();
            tokio::task::yield_now().await;
        }
        worker.close().await.unwrap();
        assert!(!listed(&objects, paths::catalog_log()).await.contains(&3), "the log was trimmed");
    };
    let (state, ()) = tokio::join!(late, others);
    assert_eq!(state.unwrap().databases().count(), 21);
}

#[tokio::test]
async fn a_late_listing_hides_nothing() {
    for omits in [1, 2, 5, 1000] {
        let (_, objects) = objects(Kind::Memory);
        let catalog = open(&objects).await;
        for id in 1..=6 {
            catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        }
        let faults = FaultStore::new(Arc::clone(&objects), 0);
        faults.set_rates(FaultRates { list_omits: omits, not_found_once: 1000, ..FaultRates::default() });
        let late: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
        assert_eq!(open(&late).await.state(), catalog.state(), "{omits}");
    }
}

#[tokio::test]
async fn a_listing_that_ignores_its_offset_removes_nothing_that_is_needed() {
    let (_, objects) = objects(Kind::Memory);
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    faults.ignore_offset();
    let careless: Arc<dyn ObjectStore> = faults;
    let catalog = open_with(&careless, frugal()).await.unwrap();
    let (_, error) = run_script(&catalog, 0).await;
    assert!(error.is_none(), "{error:?}");
    catalog.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_log()).await.first(), Some(&1), "the first record is never removed");
    let reopened = open_with(&careless, frugal()).await.unwrap();
    assert_eq!(contents(&reopened.state()), expected_contents()[expected_contents().len() - 1]);
}

#[tokio::test]
async fn a_store_that_was_replaced_under_a_running_node_is_noticed() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    for id in 1..=3 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
    }
    for sequence in 1..=4 {
        objects.delete(&paths::catalog_record(sequence)).await.unwrap();
    }
    open(&objects).await;
    let error: Error = catalog.commit(|_| Ok(vec![create_database(4, "d4")])).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_refused_decision_comes_back_as_it_is() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    let error: Error = catalog.commit(|_| Err(Error::not_found("database not found: nyc"))).await.unwrap_err().into();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "database not found: nyc"));
    let before = catalog.state();
    let after = catalog.commit(|_| Ok(Vec::new())).await.unwrap();
    assert!(Arc::ptr_eq(&before, &after), "nothing to do costs no record");
    let contradiction = catalog.commit(|_| Ok(vec![create_database(1, "a"), create_table(1, 2, "t")])).await;
    assert!(contradiction.is_err());
    assert_eq!(catalog.state().databases().count(), 0, "not even the first half");
}
