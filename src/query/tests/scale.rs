//! What a table of many files costs a query before it reads anything, and compaction when there is nothing to do. Measures:
//! `cargo test --release --lib query::tests::scale -- --ignored --nocapture`.

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::engine::catalog::{Catalog, CatalogChange, CatalogSettings};
use crate::model::{
    ColumnStatistics, DataFile, DatabaseId, FileId, RowGroup, Scalar, Sequence, SequenceRange, TableId, TimeRange,
};

const HOUR: i64 = 3_600_000_000_000;

/// A full file of an hour, of which only the catalog knows.
fn file(id: u64) -> DataFile {
    let hour = id as i64 * HOUR;
    let time = TimeRange::from_nanos(hour, hour + HOUR - 1);
    let column = |number: u64| ColumnStatistics {
        name: ColumnName::new(&format!("field{number}")).unwrap(),
        nulls: 0,
        bounds: Some((Scalar::Float(0.0), Scalar::Float(id as f64))),
    };
    DataFile {
        id: FileId::new(id),
        table: TableId::new(1),
        path: format!("dbs/1-nyc/1-m/1970-01-01/{id:010}.parquet"),
        bytes: 100,
        data_bytes: 90,
        tail_crc32c: 0,
        rows: 4_000_000,
        time,
        sequences: SequenceRange::single(Sequence::new(id)),
        deletions_applied: 0,
        created: Timestamp::from_nanos(0),
        row_groups: vec![RowGroup { rows: 4_000_000, time }],
        columns: (0..10).map(column).collect(),
    }
}

async fn fixture(files: u64) -> Fixture {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW)));
    let store = Store::in_memory();
    let catalog = Catalog::open(&store, Arc::<ManualClock>::clone(&clock), CatalogSettings::default()).await.unwrap();
    let fields = (0..10).map(|number| Column {
        name: ColumnName::new(&format!("field{number}")).unwrap(),
        kind: ColumnKind::Field(FieldType::Float),
    });
    let changes = vec![
        CatalogChange::CreateDatabase { id: DatabaseId::new(1), name: nyc() },
        CatalogChange::CreateTable {
            database: DatabaseId::new(1),
            id: TableId::new(1),
            name: TableName::new("m").unwrap(),
            schema: TableSchema::new(fields),
        },
        CatalogChange::ReserveFileIds { count: files + 1 },
        CatalogChange::Persisted {
            table: TableId::new(1),
            files: (1..=files).map(file).collect(),
            through: Sequence::new(files),
        },
    ];
    catalog.commit(|_| Ok(changes.clone())).await.unwrap();
    catalog.close().await.unwrap();
    let settings = EngineSettings {
        compaction: CompactionSettings { is_on: false, settle: Duration::ZERO, ..CompactionSettings::default() },
        ..EngineSettings::default()
    };
    let start = SystemClock::new();
    let engine = Engine::open(settings, store, Arc::new(MemoryDisk::default()), clock).await.unwrap();
    eprintln!("{files} files: opened in {:?}", start.elapsed());
    let settings = QuerySettings { threads: 2, ..QuerySettings::default() };
    let queries =
        Queries::new(Arc::clone(&engine), settings, CPU.handle().clone().into(), IO.handle().clone()).unwrap();
    Fixture { engine, queries }
}

#[tokio::test]
#[ignore = "measures"]
async fn a_table_of_many_files() {
    for files in [25_000, 50_000, 100_000] {
        let fixture = fixture(files).await;
        for (what, text) in [
            ("one hour", "SELECT field1 FROM m WHERE time >= '1971-01-01' AND time < '1971-01-01T01:00:00'"),
            (
                "one hour by a field",
                "SELECT field1 FROM m WHERE time >= '1971-01-01' AND time < '1971-01-01T01:00:00' AND field1 > 5",
            ),
            ("all files", "SELECT field1 FROM m"),
        ] {
            let start = SystemClock::new();
            let plan = fixture.explain(text).await;
            eprintln!("{files} files: {what} planned in {:?}, {} bytes of plan", start.elapsed(), plan.len());
        }
        let start = SystemClock::new();
        fixture.engine.compact_all().await.unwrap();
        eprintln!("{files} files: nothing to compact, found in {:?}", start.elapsed());
        assert_eq!(fixture.engine.metrics().files as u64, files);
    }
}
