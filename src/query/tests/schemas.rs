//! The announced schema, and what there is to query. `Fixture::ask_for` compares it with every batch.

use arrow::datatypes::DataType;

use super::super::{ListedTable, TableKind};
use super::*;
use crate::error::ErrorKind;

async fn cpu() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write("cpu,host=a,region=eu usage=1,up=t 1\nmem,host=a free=1i,note=ok 2").await;
    fixture
}

#[tokio::test]
async fn the_announced_schema_is_that_of_every_batch() {
    let fixture = cpu().await;
    for text in [
        "SELECT 1",
        "SELECT * FROM cpu",
        "SELECT host, count(*), sum(usage), min(host), avg(usage) FROM cpu GROUP BY host",
        "SELECT count(*) FROM cpu",
        "SELECT 1 AS a UNION ALL SELECT 2.5",
        "SELECT host FROM cpu UNION SELECT 'x'",
        "SELECT host FROM cpu UNION ALL SELECT note FROM mem",
        "SELECT time, time AT TIME ZONE 'UTC' AS utc, date_trunc('hour', time) FROM cpu",
        "SELECT NULL, TRUE, 'x', X'00', INTERVAL '1 hour', DATE '2020-01-01'",
        "SELECT array_agg(host), [1, 2], named_struct('h', host) FROM cpu GROUP BY host",
        "SELECT first_value(usage ORDER BY time), last_value(host ORDER BY time) FROM cpu",
        "SELECT row_number() OVER (PARTITION BY host ORDER BY time), lag(usage) OVER (ORDER BY time) FROM cpu",
        "SELECT CASE WHEN up THEN host ELSE 'down' END, coalesce(region, host), host || '-' || region FROM cpu",
        "SELECT arrow_cast(host, 'Utf8View'), arrow_cast(host, 'LargeUtf8'), arrow_cast('x', 'BinaryView')",
        "SELECT * FROM cpu WHERE false",
        "VALUES (1, 'a'), (2, NULL)",
        "SHOW TABLES",
        "SHOW COLUMNS FROM cpu",
        "SHOW FUNCTIONS",
        "DESCRIBE cpu",
        "EXPLAIN SELECT * FROM cpu",
        "EXPLAIN ANALYZE SELECT * FROM cpu",
        "EXPLAIN VERBOSE SELECT host FROM cpu",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "WITH x AS (SELECT host FROM cpu) SELECT * FROM x JOIN mem USING (host)",
    ] {
        let text = if text.contains("arrow_cast(host") { format!("{text} FROM cpu") } else { text.to_owned() };
        if let Err(error) = fixture.ask(&text).await {
            panic!("{text}: {}", error.report());
        }
    }
}

#[tokio::test]
async fn columns_leave_as_plain_types_with_their_kind() {
    let fixture = cpu().await;
    let planned = fixture.plan("SELECT * FROM cpu").await.unwrap();
    let kinds: Vec<_> = planned
        .schema()
        .fields()
        .iter()
        .map(|field| {
            (
                field.name().as_str(),
                field.data_type().to_string(),
                field.metadata()["iox::column::type"].as_str(),
                field.is_nullable(),
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("host", "Utf8".to_owned(), "iox::column_type::tag", true),
            ("region", "Utf8".to_owned(), "iox::column_type::tag", true),
            ("time", "Timestamp(ns)".to_owned(), "iox::column_type::timestamp", true),
            ("up", "Boolean".to_owned(), "iox::column_type::field::boolean", true),
            ("usage", "Float64".to_owned(), "iox::column_type::field::float", true),
        ]
    );
    assert!(planned.schema().metadata().is_empty());
}

#[tokio::test]
async fn the_type_of_a_union_is_settled_before_it_is_announced() {
    let planned = cpu().await.plan("SELECT 1 AS a UNION ALL SELECT 2.5").await.unwrap();
    assert_eq!(planned.schema().field(0).data_type(), &DataType::Float64);
}

#[tokio::test]
async fn only_a_text_that_asks_for_an_order_is_ordered() {
    let fixture = cpu().await;
    for (text, ordered) in [
        ("SELECT * FROM cpu ORDER BY time", true),
        ("SELECT host FROM cpu ORDER BY usage LIMIT 3", true),
        ("SELECT * FROM (SELECT * FROM cpu ORDER BY time) WHERE usage > 1", false),
        ("SELECT * FROM cpu", false),
        ("EXPLAIN SELECT * FROM cpu ORDER BY time", false),
    ] {
        assert_eq!(fixture.plan(text).await.unwrap().ordered(), ordered, "{text}");
    }
}

#[tokio::test]
async fn the_listing_shows_tables_then_views_by_name() {
    let fixture = cpu().await;
    let listing = fixture.queries.listing(&nyc(), &Tables::All).unwrap();
    let names: Vec<(&str, &str, TableKind)> =
        listing.iter().map(|table| (table.schema.as_str(), table.name.as_str(), table.kind)).collect();
    assert_eq!(names[..2], [("iox", "cpu", TableKind::Table), ("iox", "mem", TableKind::Table)]);
    let views = ["information_schema", "system"];
    assert!(names[2..].iter().all(|(schema, _, kind)| views.contains(schema) && *kind == TableKind::View));
    assert!(names[2..].is_sorted() && names.len() > 4);
    for ListedTable { schema, name, columns, .. } in &listing {
        let planned = fixture.plan(&format!("SELECT * FROM {schema}.{name}")).await.unwrap();
        assert_eq!(planned.schema(), columns, "{schema}.{name}");
    }
    let elsewhere = DatabaseName::new("elsewhere").unwrap();
    assert_eq!(fixture.queries.listing(&elsewhere, &Tables::All).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn tables_are_found_under_their_catalog_and_schema_and_no_other_database_is() {
    let fixture = cpu().await;
    for text in
        ["SELECT * FROM public.iox.cpu", "SELECT * FROM iox.cpu", "SELECT * FROM CPU", "SELECT cpu.host FROM cpu"]
    {
        assert!(fixture.ask(text).await.is_ok(), "{text}");
    }
    for text in [
        "SELECT * FROM \"CPU\"",
        "SELECT * FROM other.iox.cpu",
        "SELECT * FROM nyc.cpu",
        "SELECT * FROM public.system.cpu",
    ] {
        assert_eq!(fixture.plan(text).await.unwrap_err().kind(), ErrorKind::Invalid, "{text}");
    }
    fixture
        .check(
            "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema = 'iox' ORDER BY 3",
            "| table_catalog | table_schema | table_name | table_type |
             | public | iox | cpu | BASE TABLE |
             | public | iox | mem | BASE TABLE |",
        )
        .await;
}

#[tokio::test]
async fn a_table_of_the_server_is_as_it_is_now_however_often_it_is_asked_for() {
    let fixture = Fixture::new().await;
    fixture.write("m v=1 1").await;
    let files = "SELECT count(*) AS n FROM system.files";
    fixture.check(files, "| n |\n| 0 |").await;
    fixture.persist().await;
    fixture.check(files, "| n |\n| 1 |").await;
}
