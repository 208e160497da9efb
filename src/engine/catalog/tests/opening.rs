//! Opening: what it reads, and what of the store it can do without.

use super::*;

#[rstest]
#[tokio::test]
async fn a_catalog_comes_back_as_it_was(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let catalog = open(&objects).await;
    catalog.commit(|_| Ok(vec![create_database(1, "nyc"), create_table(1, 1, "cpu")])).await.unwrap();
    let before = catalog.commit(|_| Ok(vec![create_table(1, 2, "mem")])).await.unwrap();
    assert_eq!(*open(&objects).await.state(), *before);
    catalog.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_checkpoints()).await, [3]);
    assert_eq!(*open(&objects).await.state(), *before);
    assert!(matches!(catalog.commit(|_| Ok(vec![create_database(2, "b")])).await, Err(CatalogError::Closed)));
}

#[rstest]
#[tokio::test]
async fn of_many_first_openers_all_get_the_same_catalog(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let openers = (0..8).map(|_| {
        let objects = Arc::clone(&objects);
        tokio::spawn(async move { open(&objects).await.state() })
    });
    let states = futures::future::join_all(openers).await;
    let distinct: HashSet<_> =
        states.into_iter().map(|state| state.unwrap()).map(|state| (state.id(), *state.ticket_key())).collect();
    assert_eq!(distinct.len(), 1);
}

#[test]
fn the_more_a_catalog_holds_the_rarer_it_is_summed_up() {
    for (held, records) in [(0, 256), (16_000, 256), (64_000, 1000), (262_144, 4096), (1_000_000, 4096)] {
        assert_eq!(records_between(256, held), records, "{held}");
    }
    assert_eq!(records_between(10_000, 1_000_000), 10_000, "who asks for fewer gets fewer");
}

#[tokio::test]
async fn the_key_for_tickets_is_kept_and_never_printed() {
    let (_, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    let key = *catalog.state().ticket_key();
    catalog.close().await.unwrap();
    let again = open(&objects).await;
    assert_eq!(*again.state().ticket_key(), key);
    assert!(format!("{again:?}").contains("TicketKey(..)"));
}

#[rstest]
#[tokio::test]
async fn opening_costs_the_checkpoint_and_the_tail_however_long_the_history(
    #[values((Kind::Memory, 10_000), (Kind::Directory, 600))] case: (Kind, u64),
) {
    let (_directory, objects) = objects(case.0);
    let catalog = open(&objects).await;
    catalog.commit(|_| Ok(vec![create_database(1, "a"), create_table(1, 1, "t")])).await.unwrap();
    for write in 1..=case.1 {
        catalog.commit(|_| Ok(vec![persisted(1, vec![], write)])).await.unwrap();
    }
    catalog.close().await.unwrap();
    let reopened = open(&objects).await;
    for write in 1..=10 {
        reopened.commit(|_| Ok(vec![persisted(1, vec![], case.1 + write)])).await.unwrap();
    }
    let faults = FaultStore::new(Arc::clone(&objects), 0);
    let counted: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&faults);
    assert_eq!(open(&counted).await.state(), reopened.state());
    let requests = faults.requests();
    // The checkpoint, ten records, twice the one after them, and once more the checkpoint.
    assert_eq!((requests.gets, requests.lists, requests.puts), (14, 2, 0));

    // How far checkpoints lag behind is a matter of speed, except where a catalog was closed: there are two of these now.
    reopened.close().await.unwrap();
    assert_eq!(listed(&objects, paths::catalog_checkpoints()).await.len(), 2);
    let records = listed(&objects, paths::catalog_log()).await;
    let kept = settings().checkpoint_records as usize;
    assert_eq!((records[0], records.len()), (1, 1 + kept), "the first record and those that stay for who lost a race");
}

#[rstest]
#[tokio::test]
async fn a_damaged_checkpoint_falls_back_to_the_one_before(#[values(Kind::Memory, Kind::Directory)] kind: Kind) {
    let (_directory, objects) = objects(kind);
    let settings = CatalogSettings { checkpoint_records: 4, ..settings() };
    let catalog = open_with(&objects, settings.clone()).await.unwrap();
    for id in 1..=20 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        tokio::task::yield_now().await;
    }
    catalog.close().await.unwrap();
    let checkpoints = listed(&objects, paths::catalog_checkpoints()).await;
    assert_eq!(checkpoints.len(), 2);
    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[1]), |bytes| bytes[100] ^= 1).await;
    assert_eq!(open_with(&objects, settings.clone()).await.unwrap().state(), catalog.state());
    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[1]), |bytes| bytes.clear()).await;
    assert_eq!(open_with(&objects, settings.clone()).await.unwrap().state(), catalog.state());

    rewrite(&objects, &paths::catalog_checkpoint(checkpoints[0]), |bytes| bytes.truncate(50)).await;
    let error: Error = open_with(&objects, settings).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
}

#[rstest]
#[tokio::test]
async fn a_damaged_or_missing_record_stops_the_opening_and_is_named(
    #[values(Kind::Memory, Kind::Directory)] kind: Kind,
) {
    let (_directory, objects) = objects(kind);
    let catalog = open(&objects).await;
    for id in 1..=9 {
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
    }
    for (sequence, is_removed) in [(5, false), (5, true), (1, true)] {
        let path = paths::catalog_record(sequence);
        let whole = objects.get(&path).await.unwrap().bytes().await.unwrap();
        if is_removed {
            objects.delete(&path).await.unwrap();
        } else {
            rewrite(&objects, &path, |bytes| bytes[80] ^= 4).await;
        }
        let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(path.as_ref()), "{error}");
        objects.put(&path, whole.into()).await.unwrap();
        assert_eq!(open(&objects).await.state(), catalog.state());
    }
}

#[tokio::test]
async fn a_log_without_its_beginning_needs_a_checkpoint() {
    let (_, objects) = objects(Kind::Memory);
    for id in 1..=3 {
        let catalog = open(&objects).await;
        catalog.commit(|_| Ok(vec![create_database(id, &format!("d{id}"))])).await.unwrap();
        catalog.close().await.unwrap();
    }
    for checkpoint in listed(&objects, paths::catalog_checkpoints()).await {
        objects.delete(&paths::catalog_checkpoint(checkpoint)).await.unwrap();
    }
    let error = open_with(&objects, settings()).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoCheckpoint { .. }), "{error}");
}
