//! What becomes of databases and tables that are deleted and wanted back.

use super::*;

const HOUR_LATER: Timestamp = Timestamp::from_nanos(NOW.as_nanos() + 3_600_000_000_000);

fn soft_delete_table(id: u32) -> CatalogChange {
    CatalogChange::SoftDeleteTable { id: TableId::new(id), hard_delete_at: Some(HOUR_LATER) }
}

fn soft_delete_database(id: u32) -> CatalogChange {
    CatalogChange::SoftDeleteDatabase { id: DatabaseId::new(id), hard_delete_at: Some(HOUR_LATER) }
}

fn undelete_table(id: u32, name: &str) -> CatalogChange {
    CatalogChange::UndeleteTable { id: TableId::new(id), name: TableName::new(name).unwrap() }
}

fn undelete_database(id: u32, name: &str) -> CatalogChange {
    CatalogChange::UndeleteDatabase { id: DatabaseId::new(id), name: database(name) }
}

fn full() -> CatalogState {
    state_after(&[
        create_database(1, "a"),
        create_table(1, 1, "cpu"),
        create_table(1, 2, "mem"),
        CatalogChange::ReserveFileIds { count: 10 },
        persisted(1, vec![data_file(1, 1, 1, 2)], 2),
        persisted(2, vec![data_file(2, 2, 3, 4)], 4),
    ])
}

fn names(state: &CatalogState) -> Vec<&str> {
    state.deleted_tables().map(|table| table.deletion.name.as_str()).collect()
}

fn after(state: &CatalogState, changes: &[CatalogChange]) -> CatalogState {
    changes.iter().fold(state.clone(), |state, change| state.apply(change, NOW).unwrap())
}

#[test]
fn a_table_comes_back_as_it_was_with_what_was_persisted_meanwhile() {
    let before = full();
    let state = after(&before, &[soft_delete_table(1)]);
    assert!(state.table(TableId::new(1)).is_none() && state.table_by_name(DatabaseId::new(1), "cpu").is_none());
    assert_eq!((state.table_count(), names(&state), state.garbage_count()), (1, vec!["cpu-20231114T221320"], 0));
    let back = after(&state, &[undelete_table(1, "cpu")]);
    assert_eq!(contents(&back), contents(&before));

    // A write that the deletion overtook; and a compaction that it overtook, which must not go on.
    let state = after(&state, &[persisted(1, vec![data_file(3, 1, 5, 6)], 6)]);
    let replace = CatalogChange::ReplaceFiles { table: TableId::new(1), removed: vec![FileId::new(1)], added: vec![] };
    assert!(matches!(state.apply(&replace, NOW), Err(ChangeError::TableDeleted { .. })));
    let back = after(&state, &[undelete_table(1, "cpu")]);
    assert_eq!(back.table(TableId::new(1)).unwrap().files.len(), 2);
    assert_eq!(back.deleted_tables().count(), 0);
}

#[test]
fn the_name_is_free_and_taken_names_are_no_way_back() {
    let state = after(&full(), &[soft_delete_table(1), create_table(1, 3, "cpu")]);
    assert!(matches!(state.apply(&undelete_table(1, "cpu"), NOW), Err(ChangeError::Exists)));
    // Two of one name within one second.
    let state = after(&state, &[soft_delete_table(3)]);
    assert_eq!(names(&state), ["cpu-20231114T221320", "cpu-20231114T221320-3"]);
    let state = after(&state, &[undelete_table(3, "cpu"), undelete_table(1, "old")]);
    let tables: Vec<_> =
        state.tables_of(DatabaseId::new(1)).map(|table| (table.name.as_str(), table.id.get())).collect();
    assert_eq!(tables, [("cpu", 3), ("mem", 2), ("old", 1)]);
    assert!(matches!(state.apply(&undelete_table(1, "x"), NOW), Err(ChangeError::TableDeleted { .. })));
}

#[test]
fn a_database_comes_back_with_the_tables_that_went_with_it() {
    let before = full();
    let period = Some(Duration::from_secs(1));
    let retention = CatalogChange::SetDatabaseRetention { id: DatabaseId::new(1), period };
    let state = after(&before, &[retention, soft_delete_table(2), soft_delete_database(1)]);
    assert_eq!((state.databases().count(), state.table_count()), (0, 0));
    let deleted: Vec<_> = state.deleted_databases().map(|database| database.deletion.name.as_str()).collect();
    assert_eq!(deleted, ["a-20231114T221320"]);
    assert!(matches!(state.apply(&undelete_table(2, "mem"), NOW), Err(ChangeError::NoDatabase { .. })));

    let state = after(&state, &[create_database(2, "a")]);
    assert!(matches!(state.apply(&undelete_database(1, "a"), NOW), Err(ChangeError::Exists)));
    let state = after(&state, &[undelete_database(1, "b")]);
    let back = state.database_by_name(&database("b")).unwrap();
    assert_eq!((back.id, back.retention), (DatabaseId::new(1), period));
    assert_eq!(state.tables_of(back.id).map(|table| table.name.as_str()).collect::<Vec<_>>(), ["cpu"]);
    assert_eq!(names(&state), ["mem-20231114T221320"], "it was deleted before, for itself");
    assert_eq!(state.table(TableId::new(1)), before.table(TableId::new(1)));
}

#[test]
fn what_is_due_goes_for_good_and_its_files_are_garbage_since_it_was_deleted() {
    let later = |state: &CatalogState, change: &CatalogChange| state.apply(change, HOUR_LATER).unwrap();
    let state = after(&full(), &[soft_delete_table(1)]);
    assert_eq!(state.due_deletions(Timestamp::from_nanos(HOUR_LATER.as_nanos() - 1)), []);
    let due = state.due_deletions(HOUR_LATER);
    assert_eq!(due, [CatalogChange::DeleteTable { id: TableId::new(1) }]);
    let gone = later(&state, &due[0]);
    assert_eq!(gone.garbage().map(|file| (file.bytes, file.deleted_at)).collect::<Vec<_>>(), [(101, NOW)]);
    assert!(gone.kept_table(TableId::new(1)).is_none() && gone.due_deletions(HOUR_LATER).is_empty());
    assert!(matches!(gone.apply(&persisted(1, vec![], 9), NOW), Err(ChangeError::TableDeleted { .. })));

    // With its database; tables that were deleted before go too.
    let state = after(&state, &[soft_delete_database(1)]);
    let due = state.due_deletions(HOUR_LATER);
    assert_eq!(due, [CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }]);
    let gone = later(&state, &due[0]);
    assert_eq!((gone.garbage_count(), gone.deleted_tables().count(), gone.deleted_databases().count()), (2, 0, 0));

    // Its time can be changed; then it never goes by itself.
    let never = CatalogChange::SoftDeleteDatabase { id: DatabaseId::new(1), hard_delete_at: None };
    let state = after(&state, &[never]);
    let own: Vec<CatalogChange> = vec![CatalogChange::DeleteTable { id: TableId::new(1) }];
    assert_eq!(state.due_deletions(Timestamp::from_nanos(i64::MAX)), own, "this one was deleted for itself");

    // A database that is dropped at once takes all along.
    let state = after(&full(), &[soft_delete_table(1), CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }]);
    assert_eq!((state.garbage_count(), state.deleted_tables().count()), (2, 0));
}

#[tokio::test]
async fn what_is_deleted_is_there_after_an_opening_from_records_and_from_a_checkpoint() {
    let (_directory, objects) = objects(Kind::Memory);
    let catalog = open(&objects).await;
    for change in [create_database(1, "a"), create_table(1, 1, "cpu"), create_table(1, 2, "mem")] {
        catalog.commit(|_| Ok(vec![change.clone()])).await.unwrap();
    }
    catalog.commit(|_| Ok(vec![soft_delete_table(2), soft_delete_database(1)])).await.unwrap();
    let state = catalog.state();
    drop(catalog);
    let catalog = open(&objects).await;
    assert_eq!(*catalog.state(), *state);
    catalog.close().await.unwrap();
    let catalog = open(&objects).await;
    assert_eq!(*catalog.state(), *state);
    catalog.commit(|_| Ok(vec![undelete_database(1, "a"), undelete_table(2, "mem")])).await.unwrap();
    assert_eq!(catalog.state().tables_of(DatabaseId::new(1)).count(), 2);
}
