//! The bytes: what is stored comes back, and nothing else is taken for it.

use super::*;

fn column_strategy() -> impl Strategy<Value = Column> {
    let kind = prop_oneof![
        Just(ColumnKind::Tag),
        prop_oneof![
            Just(FieldType::Float),
            Just(FieldType::Integer),
            Just(FieldType::Unsigned),
            Just(FieldType::String),
            Just(FieldType::Boolean)
        ]
        .prop_map(ColumnKind::Field)
    ];
    let name = "\\PC{1,8}".prop_filter_map("a reserved name", |text| ColumnName::new(&text).ok());
    (name, kind).prop_map(|(name, kind)| Column { name, kind })
}

fn scalar_strategy() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<f64>().prop_filter("NaN equals nothing", |value| !value.is_nan()).prop_map(Scalar::Float),
        any::<i64>().prop_map(Scalar::Integer),
        any::<u64>().prop_map(Scalar::Unsigned),
        any::<String>().prop_map(Scalar::String),
        any::<bool>().prop_map(Scalar::Boolean),
    ]
}

fn range_strategy() -> impl Strategy<Value = TimeRange> {
    any::<(i64, i64)>().prop_map(|(a, b)| TimeRange::from_nanos(a.min(b), a.max(b)))
}

fn file_strategy() -> impl Strategy<Value = DataFile> {
    let statistics = (column_strategy(), any::<u64>(), proptest::option::of((scalar_strategy(), scalar_strategy())))
        .prop_map(|(column, nulls, bounds)| ColumnStatistics { name: column.name, nulls, bounds });
    let groups = (any::<u64>(), range_strategy()).prop_map(|(rows, time)| RowGroup { rows, time });
    let numbers = any::<(u64, u32, u64, u64, u32, u64, u64, u64)>();
    let lists = (proptest::collection::vec(groups, 0..3), proptest::collection::vec(statistics, 0..3));
    (numbers, any::<String>(), range_strategy(), lists).prop_map(|(numbers, path, time, (row_groups, columns))| {
        let (id, table, bytes, data_bytes, tail_crc32c, rows, first, last) = numbers;
        DataFile {
            sequences: SequenceRange { first: Sequence::new(first), last: Sequence::new(last) },
            ..DataFile {
                id: FileId::new(id),
                table: TableId::new(table),
                path,
                bytes,
                data_bytes,
                tail_crc32c,
                rows,
                time,
                deletions_applied: rows / 2,
                created: time.max,
                row_groups,
                columns: columns.into_iter().collect(),
                sequences: SequenceRange::single(Sequence::ZERO),
            }
        }
    })
}

fn cache_strategy() -> impl Strategy<Value = CacheDefinition> {
    let columns = || proptest::collection::vec(column_strategy().prop_map(|column| column.name), 0..3);
    let age = || proptest::option::of(any::<u64>().prop_map(Duration::from_nanos));
    let newest = prop_oneof![any::<u32>().prop_map(Newest::Points), Just(Newest::Values)];
    let last = (proptest::option::of(columns()), proptest::option::of(columns()), newest, age())
        .prop_map(|(keys, values, newest, ttl)| CacheShape::Last { keys, values, newest, ttl });
    let distinct = (columns(), any::<u32>(), age())
        .prop_map(|(columns, cardinality_max, age_max)| CacheShape::Distinct { columns, cardinality_max, age_max });
    ("\\PC{1,9}", prop_oneof![last, distinct]).prop_map(|(name, shape)| CacheDefinition { name, shape })
}

fn change_strategy() -> impl Strategy<Value = CatalogChange> {
    let columns = || proptest::collection::vec(column_strategy(), 0..4);
    prop_oneof![
        (any::<u32>(), "[a-z0-9][a-z0-9_-]{0,8}")
            .prop_map(|(id, name)| CatalogChange::CreateDatabase { id: DatabaseId::new(id), name: database(&name) }),
        (any::<(u32, u32)>(), "\\PC{1,9}", columns()).prop_map(|((database, id), name, columns)| {
            CatalogChange::CreateTable {
                database: DatabaseId::new(database),
                id: TableId::new(id),
                name: TableName::new(&name).unwrap(),
                schema: TableSchema::new(columns),
            }
        }),
        (any::<u32>(), columns())
            .prop_map(|(table, columns)| CatalogChange::AddColumns { table: TableId::new(table), columns }),
        any::<u32>().prop_map(|id| CatalogChange::DeleteDatabase { id: DatabaseId::new(id) }),
        any::<u32>().prop_map(|id| CatalogChange::DeleteTable { id: TableId::new(id) }),
        (any::<u32>(), any::<Option<String>>())
            .prop_map(|(id, policy)| CatalogChange::SetDefaultPolicy { id: DatabaseId::new(id), policy }),
        any::<(u32, Option<i64>)>().prop_map(|(id, at)| CatalogChange::SoftDeleteDatabase {
            id: DatabaseId::new(id),
            hard_delete_at: at.map(Timestamp::from_nanos),
        }),
        any::<(u32, Option<i64>)>().prop_map(|(id, at)| CatalogChange::SoftDeleteTable {
            id: TableId::new(id),
            hard_delete_at: at.map(Timestamp::from_nanos),
        }),
        (any::<u32>(), "[a-z0-9][a-z0-9_-]{0,8}")
            .prop_map(|(id, name)| CatalogChange::UndeleteDatabase { id: DatabaseId::new(id), name: database(&name) }),
        (any::<u32>(), "\\PC{1,9}").prop_map(|(id, name)| CatalogChange::UndeleteTable {
            id: TableId::new(id),
            name: TableName::new(&name).unwrap(),
        }),
        (any::<(u32, u64)>(), proptest::collection::vec(file_strategy(), 0..3)).prop_map(
            |((table, through), files)| {
                CatalogChange::Persisted { table: TableId::new(table), files, through: Sequence::new(through) }
            }
        ),
        (any::<u64>(), "\\PC{1,9}", any::<[u8; 32]>(), any::<Option<i64>>()).prop_map(|(id, name, half, expires)| {
            CatalogChange::CreateToken {
                id,
                name,
                hash: TokenHash::new([half, half].concat().try_into().unwrap()),
                rights: Rights::new(["db:a:read,write", "table:a:b:c:read"].map(|text| text.parse().unwrap())),
                expires_at: expires.map(Timestamp::from_nanos),
            }
        }),
        "\\PC{1,9}".prop_map(|name| CatalogChange::DeleteToken { name }),
        (any::<u32>(), cache_strategy())
            .prop_map(|(table, cache)| CatalogChange::CreateCache { table: TableId::new(table), cache }),
        (any::<u32>(), cache_strategy()).prop_map(|(table, cache)| CatalogChange::DeleteCache {
            table: TableId::new(table),
            kind: cache.kind(),
            name: cache.name,
        }),
        any::<u64>().prop_map(|count| CatalogChange::ReserveFileIds { count }),
        proptest::collection::vec(any::<String>(), 0..3).prop_map(|paths| CatalogChange::CollectGarbage { paths }),
    ]
}

/// One of many small steps that all fit, chosen by `choice`.
fn fitting_change(state: &CatalogState, choice: u32) -> CatalogChange {
    let databases: Vec<_> = state.databases().map(|database| database.id.get()).collect();
    let tables: Vec<_> = state.tables().cloned().collect();
    let (pick, name) = (choice as usize / 12, format!("n{choice}-{}", state.version()));
    let hard_delete_at = (pick % 2 == 0).then_some(NOW);
    let deleted = state.deleted_tables().next().filter(|table| state.database(table.entry.database).is_some());
    let table = (!tables.is_empty()).then(|| &tables[pick % tables.len()]);
    match (choice % 12, table) {
        (8, Some(table)) => CatalogChange::SoftDeleteTable { id: table.id, hard_delete_at },
        (9, _) if !databases.is_empty() => {
            let id = DatabaseId::new(databases[pick % databases.len()]);
            CatalogChange::SoftDeleteDatabase { id, hard_delete_at }
        }
        (10, _) if deleted.is_some() => {
            CatalogChange::UndeleteTable { id: deleted.unwrap().entry.id, name: TableName::new(&name).unwrap() }
        }
        (11, _) if state.deleted_databases().next().is_some() => {
            CatalogChange::UndeleteDatabase { id: state.deleted_databases().next().unwrap().id, name: database(&name) }
        }
        (1 | 2, _) if !databases.is_empty() => {
            create_table(databases[pick % databases.len()], state.next_table_id().get(), &name)
        }
        (3, Some(table)) => CatalogChange::AddColumns {
            table: table.id,
            columns: vec![column(&name, ColumnKind::Tag), column("more", ColumnKind::Field(FieldType::String))],
        },
        (4 | 5, Some(table)) if state.next_file_id().get() > 1 => {
            let (id, next) = (state.next_file_id().get() - 1, table.persisted_through.get() + 1);
            persisted(table.id.get(), vec![data_file(id, table.id.get(), next, next + 2)], next + 2)
        }
        (0, Some(table)) if pick % 3 == 0 && !table.caches.is_empty() => CatalogChange::DeleteCache {
            table: table.id,
            kind: table.caches[0].kind(),
            name: table.caches[0].name.clone(),
        },
        (0, Some(table)) if pick % 3 < 2 => {
            let keys = vec![ColumnName::new("host").unwrap()];
            let shape = match pick % 2 {
                0 => CacheShape::Last {
                    keys: (pick % 4 == 0).then_some(keys),
                    values: None,
                    newest: Newest::Points(2),
                    ttl: None,
                },
                _ => CacheShape::Distinct { columns: keys, cardinality_max: 9, age_max: Some(Duration::from_secs(3)) },
            };
            CatalogChange::CreateCache { table: table.id, cache: CacheDefinition { name, shape } }
        }
        (6, Some(table)) => CatalogChange::DeleteTable { id: table.id },
        (7, _) if pick % 4 == 3 && !databases.is_empty() => {
            let id = DatabaseId::new(databases[pick % databases.len()]);
            CatalogChange::SetDefaultPolicy { id, policy: (pick % 3 > 0).then_some(name) }
        }
        (7, _) if pick % 3 == 0 => CatalogChange::ReserveFileIds { count: 1 + u64::from(choice) },
        (7, _) if pick % 3 == 1 && state.tokens().next().is_some() => {
            CatalogChange::DeleteToken { name: state.tokens().next().unwrap().name.clone() }
        }
        (7, _) => CatalogChange::CreateToken {
            id: state.next_token_id(),
            hash: TokenHash::new([u8::try_from(state.next_token_id() % 256).unwrap(); 64]),
            name,
            rights: Rights::everything(),
            expires_at: hard_delete_at,
        },
        _ => create_database(state.next_database_id().get(), &name),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_record_reads_back_as_it_was(changes in proptest::collection::vec(change_strategy(), 0..4), time: i64) {
        let content = RecordContent::Changes(changes);
        let record = Record { catalog: Uuid::from_u128(9), mark: mark(3, time), content };
        prop_assert_eq!(decode_record(&encode_record(&record), 3).unwrap(), record);
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was(choices in proptest::collection::vec(any::<u32>(), 0..40)) {
        let mut state = empty_state();
        for (number, choice) in choices.into_iter().enumerate() {
            let change = fitting_change(&state, choice);
            state = state.advance(&[change], mark(number as u64 + 2, choice.into())).unwrap();
        }
        let read = decode_checkpoint(&encode_checkpoint(&state).unwrap(), state.version()).unwrap();
        prop_assert_eq!(read, state);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_record(&Bytes::from(bytes.clone()), 1).is_err());
        prop_assert!(decode_checkpoint(&Bytes::from(bytes), 1).is_err());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let changes =
        vec![create_database(1, "nyc"), create_table(1, 1, "cpu"), persisted(1, vec![data_file(1, 1, 1, 2)], 2)];
    let content = RecordContent::Changes(changes);
    let record = encode_record(&Record { catalog: Uuid::from_u128(9), mark: mark(5, 77), content });
    let checkpoint = state_after(&[create_database(1, "nyc"), create_table(1, 1, "cpu")]);
    let checkpoint = encode_checkpoint(&checkpoint).unwrap();
    assert!(decode_record(&record, 5).is_ok() && decode_checkpoint(&checkpoint, 1).is_ok());
    for (bytes, number) in [(record, 5), (checkpoint, 1)] {
        let is_refused = |damaged: Vec<u8>| {
            let damaged = Bytes::from(damaged);
            let versions = |error| matches!(error, FormatError::Version { .. } | FormatError::Kind { .. });
            // Neither may it be taken for another version or kind: that would send somebody to look elsewhere.
            if number == 5 {
                decode_record(&damaged, number).is_err_and(|error| !versions(error))
            } else {
                decode_checkpoint(&damaged, number).is_err_and(|error| !versions(error))
            }
        };
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(is_refused(damaged), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(is_refused(bytes[..cut].to_vec()), "cut at {cut}");
        }
        assert!(is_refused([bytes.as_ref(), &[0]].concat()));
    }
}

#[tokio::test]
async fn a_newer_version_and_a_misplaced_record_are_told_apart() {
    let (_, objects) = objects(Kind::Memory);
    open(&objects).await.commit(|_| Ok(vec![create_database(1, "a")])).await.unwrap();
    rewrite(&objects, &paths::catalog_record(2), |bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..68]), &bytes[72..]);
        bytes[68..72].copy_from_slice(&checksum.to_le_bytes());
    })
    .await;
    let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.report().contains("it has version 2, this program knows versions up to 1"), "{}", error.report());

    let first = objects.get(&paths::catalog_record(1)).await.unwrap().bytes().await.unwrap();
    objects.put(&paths::catalog_record(2), first.into()).await.unwrap();
    let error: Error = open_with(&objects, settings()).await.unwrap_err().into();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.report().contains("it says that it is number 1"), "{}", error.report());
}
