//! The pure step from a state to the next.

use super::*;

#[test]
fn a_name_is_taken_once_and_free_again_after_a_delete() {
    let state = state_after(&[create_database(1, "nyc"), create_table(1, 1, "cpu"), create_table(1, 2, "mem")]);
    assert!(matches!(state.apply(&create_database(2, "nyc"), NOW), Err(ChangeError::Exists)));
    assert!(matches!(state.apply(&create_table(1, 3, "cpu"), NOW), Err(ChangeError::Exists)));
    let text = state.apply(&create_table(1, 3, "cpu"), NOW).unwrap_err().to_string();
    assert_eq!(text, "attempted to create a resource that already exists");

    let state = state.apply(&CatalogChange::DeleteTable { id: TableId::new(1) }, NOW).unwrap();
    assert!(state.table_by_name(DatabaseId::new(1), "cpu").is_none());
    let state = state.apply(&create_table(1, 3, "cpu"), NOW).unwrap();
    assert_eq!(state.table_by_name(DatabaseId::new(1), "cpu").unwrap().id, TableId::new(3));
    assert_eq!(state.table_count(), 2);

    let state = state.apply(&CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }, NOW).unwrap();
    assert_eq!((state.table_count(), state.databases().count()), (0, 0));
    let state = state.apply(&create_database(2, "nyc"), NOW).unwrap();
    assert_eq!(state.database_by_name(&database("nyc")).unwrap().id, DatabaseId::new(2));
    assert_eq!(state.tables_of(DatabaseId::new(2)).count(), 0);
}

#[test]
fn numbers_must_be_the_next_ones() {
    let state = state_after(&[create_database(1, "a")]);
    for change in [create_database(1, "b"), create_database(3, "b"), create_table(1, 0, "t"), create_table(1, 2, "t")] {
        assert!(matches!(state.apply(&change, NOW), Err(ChangeError::Number { .. })), "{change:?}");
    }
    assert!(matches!(state.apply(&create_table(9, 1, "t"), NOW), Err(ChangeError::NoDatabase { .. })));
    let all = CatalogChange::ReserveFileIds { count: u64::MAX };
    assert!(matches!(state.apply(&all, NOW), Err(ChangeError::NumbersExhausted { .. })));
}

#[test]
fn columns_are_added_at_the_end_and_keep_their_kind() {
    let state = state_after(&[create_database(1, "a"), create_table(1, 1, "cpu")]);
    let add = |columns| CatalogChange::AddColumns { table: TableId::new(1), columns };
    let next = state.apply(&add(vec![column("az", ColumnKind::Tag), column("host", ColumnKind::Tag)]), NOW).unwrap();
    let names: Vec<_> = next.table(TableId::new(1)).unwrap().schema.sort_key().map(str::to_owned).collect();
    assert_eq!(names, ["host", "az", "time"]);
    assert_eq!(*state.table(TableId::new(1)).unwrap().schema, schema(), "the older state has not changed");

    let clash = add(vec![column("usage", ColumnKind::Field(FieldType::Integer))]);
    assert!(matches!(state.apply(&clash, NOW), Err(ChangeError::Columns { source: Some(_), .. })));
    let twice = add(vec![column("x", ColumnKind::Tag), column("x", ColumnKind::Field(FieldType::Float))]);
    assert!(matches!(state.apply(&twice, NOW), Err(ChangeError::Columns { source: None, .. })));
}

#[test]
fn files_are_added_once_and_in_order() {
    let state = state_after(&[
        create_database(1, "a"),
        create_table(1, 1, "cpu"),
        CatalogChange::ReserveFileIds { count: 10 },
        persisted(1, vec![data_file(2, 1, 3, 6), data_file(1, 1, 1, 2)], 6),
    ]);
    let table = state.table(TableId::new(1)).unwrap();
    assert_eq!(table.files.iter().map(|file| file.id.get()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((table.persisted_through, state.last_persisted_sequence()), (Sequence::new(6), Sequence::new(6)));

    for repeated in [persisted(1, vec![], 6), persisted(1, vec![data_file(3, 1, 6, 9)], 9)] {
        assert!(matches!(state.apply(&repeated, NOW), Err(ChangeError::AlreadyPersisted { .. })), "{repeated:?}");
    }
    for unfit in [data_file(3, 2, 7, 9), data_file(11, 1, 7, 9), data_file(3, 1, 7, 10), data_file(3, 1, 9, 8)] {
        assert!(matches!(state.apply(&persisted(1, vec![unfit], 9), NOW), Err(ChangeError::File { .. })));
    }
    assert!(state.apply(&persisted(1, vec![], 7), NOW).is_ok(), "nothing but deleted rows may have been persisted");
}

#[test]
fn the_files_of_a_deleted_table_become_garbage_and_it_takes_no_more() {
    let state = state_after(&[
        create_database(1, "a"),
        create_table(1, 1, "cpu"),
        CatalogChange::ReserveFileIds { count: 10 },
        persisted(1, vec![data_file(1, 1, 1, 2), data_file(2, 1, 3, 4)], 4),
    ]);
    let later = Timestamp::from_nanos(NOW.as_nanos() + 1);
    let state = state.apply(&CatalogChange::DeleteDatabase { id: DatabaseId::new(1) }, later).unwrap();
    let garbage: Vec<_> = state.garbage().map(|file| (file.bytes, file.deleted_at)).collect();
    assert_eq!(garbage, [(101, later), (102, later)]);
    assert_eq!(state.last_persisted_sequence(), Sequence::new(4), "numbers of writes must not be used again");

    let error = state.apply(&persisted(1, vec![data_file(3, 1, 5, 6)], 6), NOW).unwrap_err();
    assert!(matches!(CatalogError::from(error), CatalogError::TableDeleted { .. }));
    assert!(matches!(state.apply(&persisted(2, vec![], 6), NOW), Err(ChangeError::NoTable { .. })));

    let paths = vec![state.garbage().next().unwrap().path.to_string(), "unknown".to_owned()];
    let state = state.apply(&CatalogChange::CollectGarbage { paths }, NOW).unwrap();
    assert_eq!(state.garbage().map(|file| file.bytes).collect::<Vec<_>>(), [102]);
}

#[test]
fn every_table_of_many_is_found() {
    let mut state = state_after(&[create_database(1, "a")]);
    for id in 1..=1000 {
        state = state.apply(&create_table(1, id, &format!("t{id:04}")), NOW).unwrap();
    }
    for id in (1..=1000).filter(|id| id % 3 == 0) {
        state = state.apply(&CatalogChange::DeleteTable { id: TableId::new(id) }, NOW).unwrap();
    }
    assert_eq!((state.table_count(), state.tables().count()), (667, 667));
    assert!(state.tables().map(|table| table.id).is_sorted());
    assert!(state.tables_of(DatabaseId::new(1)).map(|table| &table.name).is_sorted());
    assert!((1..=1000).all(|id| state.table(TableId::new(id)).is_some() == (id % 3 != 0)));
}
