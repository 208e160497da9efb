//! What is asked is answered, wherever the rows are.

use arrow::array::Array;
use arrow::datatypes::UInt64Type;
use futures::StreamExt;

use super::*;
use crate::error::ErrorKind;

const HOUR: i64 = 3_600_000_000_000;

/// Two hosts over three hours, then a correction; `stored` says how much of it is in Parquet.
async fn corrected(stored: usize) -> Fixture {
    let fixture = Fixture::new().await;
    let writes = [
        format!("cpu,host=a usage=1,idle=9 0\ncpu,host=b usage=2 0\ncpu,host=a usage=3 {HOUR}"),
        format!("cpu,host=b usage=4 {}\ncpu,host=a,region=eu usage=5 {}", HOUR, 2 * HOUR),
        format!("cpu,host=a usage=10 0\ncpu,host=b idle=7 {HOUR}"),
    ];
    for (number, lines) in writes.iter().enumerate() {
        fixture.write(lines).await;
        if number < stored {
            fixture.persist().await;
        }
    }
    fixture
}

#[tokio::test]
async fn the_last_write_of_each_field_counts_wherever_the_writes_are() {
    for stored in 0..=3 {
        let fixture = corrected(stored).await;
        fixture
            .check(
                "SELECT host, region, idle, usage, time FROM cpu ORDER BY time, host",
                "| host | region | idle | usage | time                |
                 | a    |        | 9.0  | 10.0  | 1970-01-01T00:00:00 |
                 | b    |        |      | 2.0   | 1970-01-01T00:00:00 |
                 | a    |        |      | 3.0   | 1970-01-01T01:00:00 |
                 | b    |        | 7.0  | 4.0   | 1970-01-01T01:00:00 |
                 | a    | eu     |      | 5.0   | 1970-01-01T02:00:00 |",
            )
            .await;
        fixture.check("SELECT count(*) AS n FROM cpu", "| n |\n| 5 |").await;
        fixture
            .check(
                "SELECT count(idle) AS n, min(usage) AS l, max(usage) AS m FROM cpu",
                "| n | l | m |\n| 2 | 2.0 | 10.0 |",
            )
            .await;
        fixture.check("SELECT max(time) AS t, min(host) AS h FROM cpu", "| t | h |\n| 1970-01-01T02:00:00 | a |").await;
        // The replaced value must not come back where a filter fits only it.
        fixture.check("SELECT usage FROM cpu WHERE usage < 2", "| usage |").await;
        fixture
            .check("SELECT usage FROM cpu WHERE host = 'a' AND time < '1970-01-01T00:30:00'", "| usage |\n| 10.0 |")
            .await;
        fixture.check("SELECT DISTINCT region FROM cpu ORDER BY region", "| region |\n| eu |\n| |").await;
        fixture.check("SELECT 1 AS one FROM cpu WHERE idle IS NULL", "| one |\n| 1 |\n| 1 |\n| 1 |").await;
        fixture
            .check(
                "SELECT date_bin(INTERVAL '1 hour', time) AS h, avg(usage) AS u FROM cpu GROUP BY 1 ORDER BY 1 DESC LIMIT 2",
                "| h | u |\n| 1970-01-01T02:00:00 | 5.0 |\n| 1970-01-01T01:00:00 | 3.5 |",
            )
            .await;
        fixture
            .check(
                "SELECT a.usage FROM cpu a JOIN cpu b ON a.time = b.time AND a.host = b.host WHERE b.idle = 7",
                "| usage |\n| 4.0 |",
            )
            .await;
    }
}

#[tokio::test]
async fn a_filter_on_a_replaced_value_finds_what_replaced_it() {
    let fixture = Fixture::new().await;
    fixture.write("m,k=x v=1i 5").await;
    fixture.persist().await;
    fixture.write("m,k=x v=100i 5").await;
    fixture.check("SELECT v FROM m WHERE v > 50", "| v |\n| 100 |").await;
    fixture.persist().await;
    fixture.check("SELECT v FROM m WHERE v > 50", "| v |\n| 100 |").await;
    fixture.check("SELECT v FROM m WHERE v < 50", "| v |").await;
}

#[tokio::test]
async fn every_type_comes_back_from_memory_and_from_parquet() {
    let fixture = Fixture::new().await;
    fixture.write("m f=1.5,i=-7i,b=t,s=hello 1\nm f=2.5 2").await;
    let expected = "| b | f | i | s | time |
        | true | 1.5 | -7 | hello | 1970-01-01T00:00:00.000000001 |
        | | 2.5 | | | 1970-01-01T00:00:00.000000002 |";
    fixture.check("SELECT * FROM m ORDER BY time", expected).await;
    fixture.persist().await;
    fixture.check("SELECT * FROM m ORDER BY time", expected).await;
    fixture.check("SELECT i FROM m WHERE b", "| i |\n| -7 |").await;
    fixture.check("SELECT f FROM m WHERE s LIKE 'hel%'", "| f |\n| 1.5 |").await;
}

#[tokio::test]
async fn one_query_sees_one_instant_of_a_table() {
    let fixture = Fixture::new().await;
    fixture.write("m v=1i 1").await;
    let planned = fixture.plan("SELECT a.v, b.v AS w FROM m a CROSS JOIN m b").await.unwrap();
    let stream = planned.run().await.unwrap();
    fixture.write("m v=2i 2").await; // after the query looked
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn parameters_are_bound_by_name_and_by_number() {
    let fixture = corrected(1).await;
    let text = "SELECT usage FROM cpu WHERE host = $host AND usage > $least ORDER BY usage";
    let parameters =
        [("host", Parameter::String("a".to_owned())), ("least", Parameter::Float(4.0)), ("unused", Parameter::Null)];
    let batches = fixture.ask_for(query_with(text, &parameters)).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);

    let numbered = [("1", Parameter::String("b".to_owned())), ("2", Parameter::Integer(3))];
    for text in
        ["SELECT usage FROM cpu WHERE host = $1 AND usage > $2", "SELECT usage FROM cpu WHERE host = ? AND usage > ?"]
    {
        let batches = fixture.ask_for(query_with(text, &numbered)).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{text}");
    }

    let nothing =
        fixture.ask_for(query_with("SELECT usage FROM cpu WHERE host = $1", &[("1", Parameter::Null)])).await.unwrap();
    assert_eq!(nothing.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    let values = [("a", Parameter::Null), ("b", Parameter::Boolean(true)), ("c", Parameter::Unsigned(u64::MAX))];
    let batches = fixture.ask_for(query_with("SELECT $a AS a, $b AS b, $c AS c", &values)).await.unwrap();
    let [a, b, c] = [0, 1, 2].map(|column| batches[0].column(column));
    assert!(a.is_null(0) || a.data_type().is_null());
    assert!(b.as_boolean().value(0));
    assert_eq!(c.as_primitive::<UInt64Type>().value(0), u64::MAX);
}

#[tokio::test]
async fn a_statement_without_values_has_a_schema_and_names_what_it_misses() {
    let fixture = corrected(1).await;
    let planned = fixture
        .plan("SELECT host, usage + $2 AS more FROM cpu WHERE host = $10 AND usage > $2 AND time > $since")
        .await
        .unwrap();
    let names: Vec<&str> = planned.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["2", "10", "since"]);
    let types: Vec<String> = planned
        .parameters()
        .iter()
        .map(|parameter| parameter.data_type.as_ref().map_or("none".to_owned(), ToString::to_string))
        .collect();
    assert_eq!(types, ["Float64", "Utf8", "Timestamp(ns)"]);
    let columns: Vec<String> =
        planned.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(columns, ["host Utf8", "more Float64"]);
    let error = planned.run().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, "no value for the parameter \"$2\""));
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_kind() {
    let fixture = corrected(0).await;
    for (text, kind) in [
        ("SELECT nothing FROM cpu", ErrorKind::Invalid),
        ("SELECT * FROM nothing", ErrorKind::Invalid),
        ("SELEC 1", ErrorKind::Invalid),
        ("SELECT 1 / 0", ErrorKind::Invalid),
        ("SELECT CAST(host AS BIGINT) FROM cpu", ErrorKind::Invalid),
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t", ErrorKind::Unsupported),
        ("", ErrorKind::Invalid),
    ] {
        let error = fixture.ask(text).await.map(|batches| format!("{batches:?}")).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {}", error.report());
    }
    let elsewhere = Query { database: DatabaseName::new("elsewhere").unwrap(), ..query("SELECT 1") };
    let error = fixture.queries.plan(elsewhere).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "database not found: elsewhere"));
    let influxql = Query { language: Language::InfluxQl, ..query("SHOW SHARDS") };
    assert_eq!(fixture.queries.plan(influxql).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_missing_file_is_damage_and_not_fewer_rows() {
    use object_store::ObjectStoreExt;
    let fixture = Fixture::new().await;
    fixture.write("m,k=a v=1i 5\nm,k=b v=2i 6").await;
    fixture.persist().await;
    let files = fixture.engine.snapshot(&nyc(), "m").unwrap().files.clone();
    fixture.engine.store().objects().delete(&files[0].path.as_str().into()).await.unwrap();
    let error = fixture.ask("SELECT v FROM m").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.to_string().contains(&files[0].path), "{error}");
}

#[tokio::test]
async fn a_dropped_stream_ends_its_query() {
    let fixture = Fixture::new().await;
    let text = "SELECT a.value FROM generate_series(1, 10000000) a CROSS JOIN generate_series(1, 10000000) b";
    let mut stream = fixture.plan(text).await.unwrap().run().await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    // Nothing to look at but that the threads are free again: the next query needs them.
    let next = tokio::time::timeout(Duration::from_secs(30), fixture.ask("SELECT 1")).await;
    assert!(next.unwrap().is_ok());
}

#[tokio::test]
async fn memory_that_is_used_up_is_an_error_that_says_so() {
    let settings = QuerySettings { memory_bytes: 1 << 20, threads: 2, ..QuerySettings::default() };
    let fixture = Fixture::with(settings).await;
    let error =
        fixture.ask("SELECT value, count(*) FROM generate_series(1, 1000000) GROUP BY value").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{}", error.report());
}

#[tokio::test]
async fn a_sort_of_many_partitions_spills_where_memory_is_small() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = QuerySettings {
        memory_bytes: 16 << 20,
        threads: 4,
        scratch: Some(scratch.path().to_owned()),
        ..QuerySettings::default()
    };
    let fixture = Fixture::with(settings).await;
    let text = "SELECT count(*) AS n, max(place) AS last FROM (SELECT row_number() OVER \
                (PARTITION BY value % 64 ORDER BY value DESC) AS place FROM generate_series(1, 1000000))";
    fixture.check(text, "| n | last |\n| 1000000 | 15625 |").await;
}

#[tokio::test]
async fn a_text_that_is_sent_again_sees_new_rows_new_columns_and_the_time() {
    let fixture = Fixture::new().await;
    fixture.write("cpu v=1i 1").await;
    let columns = async || fixture.ask("SELECT * FROM cpu").await.unwrap()[0].num_columns();
    let now = async || fixture.ask("SELECT now() AS now").await.unwrap()[0].column(0).to_data();
    assert_eq!(columns().await, 2);
    let first = now().await;
    fixture.write("cpu v=1i,more=2i 2").await;
    fixture.check("SELECT count(*) AS n FROM cpu", "| n |\n| 2 |").await;
    assert_eq!(columns().await, 3);
    fixture.write("cpu v=1i 3").await;
    fixture.check("SELECT count(*) AS n FROM cpu", "| n |\n| 3 |").await;
    assert_ne!(now().await, first);
}
