//! No text reads a file, writes one, or changes anything.

use super::*;
use crate::error::ErrorKind;

#[tokio::test]
async fn no_text_touches_a_file_or_a_setting() {
    let fixture = Fixture::new().await;
    fixture.write("cpu,host=a usage=1 1").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let (file, out) = (file.display(), directory.path().join("out").display().to_string());
    for text in [
        format!("COPY cpu TO '{out}.csv'"),
        format!("COPY cpu TO '{out}.parquet' STORED AS PARQUET"),
        format!("COPY (SELECT * FROM cpu) TO '{out}' STORED AS CSV"),
        format!("COPY cpu TO 'file://{out}.json'"),
        format!("EXPLAIN COPY cpu TO '{out}.csv'"),
        format!("EXPLAIN ANALYZE COPY cpu TO '{out}.csv'"),
        format!("EXPLAIN ANALYZE VERBOSE COPY (SELECT 1) TO '{out}.csv'"),
        format!("EXPLAIN EXPLAIN ANALYZE COPY cpu TO '{out}.csv'"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{file}'"),
        format!("CREATE EXTERNAL TABLE t (a INT) STORED AS PARQUET LOCATION '{out}'"),
        "CREATE UNBOUNDED EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION '/dev/zero'".to_owned(),
        "CREATE TABLE t AS SELECT * FROM cpu".to_owned(),
        "CREATE TABLE t (a INT)".to_owned(),
        "CREATE VIEW v AS SELECT * FROM cpu".to_owned(),
        "CREATE SCHEMA s".to_owned(),
        "CREATE DATABASE d".to_owned(),
        "CREATE FUNCTION f(DOUBLE) RETURNS DOUBLE RETURN $1".to_owned(),
        "DROP TABLE cpu".to_owned(),
        "DROP VIEW cpu".to_owned(),
        "DROP SCHEMA iox".to_owned(),
        "ALTER TABLE cpu RENAME TO c".to_owned(),
        "INSERT INTO cpu (host, time) VALUES ('b', 1)".to_owned(),
        "EXPLAIN ANALYZE INSERT INTO cpu SELECT * FROM cpu".to_owned(),
        "UPDATE cpu SET usage = 2".to_owned(),
        "DELETE FROM cpu".to_owned(),
        "TRUNCATE TABLE cpu".to_owned(),
        "MERGE INTO cpu USING cpu AS c ON cpu.time = c.time WHEN MATCHED THEN DELETE".to_owned(),
        "SELECT * INTO t FROM cpu".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SET TIME ZONE = '+01:00'".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "SHOW ALL".to_owned(),
        "SHOW datafusion.execution.batch_size".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
        "SELECT (SELECT count(*) FROM information_schema.\"DF_SETTINGS\")".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "EXECUTE p".to_owned(),
        "DEALLOCATE p".to_owned(),
        "START TRANSACTION".to_owned(),
        "COMMIT".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        format!("SELECT * FROM '{file}'"),
        format!("SELECT * FROM 'file://{file}'"),
        format!("SELECT * FROM \"{file}\""),
        "SELECT * FROM 'http://localhost/x.csv'".to_owned(),
        "SELECT * FROM 's3://bucket/x.parquet'".to_owned(),
        format!("SELECT * FROM read_csv('{file}')"),
        format!("SELECT * FROM parquet_metadata('{file}')"),
        format!("DESCRIBE '{file}'"),
        "SELECT 1; DROP TABLE cpu".to_owned(),
        "WITH x AS (INSERT INTO cpu SELECT * FROM cpu) SELECT * FROM x".to_owned(),
    ] {
        match fixture.ask(&text).await {
            Ok(batches) => panic!("{text}: {batches:?}"),
            Err(error) => {
                let expected = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
                assert!(expected, "{text}: {:?} {}", error.kind(), error.report());
            }
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "a file was written");
    fixture.check("SELECT count(*) AS n FROM cpu", "| n |\n| 1 |").await;
}

#[tokio::test]
async fn what_changes_something_reads_no_settings_either() {
    let fixture = Fixture::new().await;
    fixture.write("cpu,host=a usage=1 1").await;
    for text in [
        "INSERT INTO cpu (host) SELECT value FROM information_schema.df_settings",
        "INSERT INTO cpu (host) SELECT (SELECT max(value) FROM information_schema.df_settings)",
        "INSERT INTO cpu (host) SELECT * FROM '/etc/passwd'",
    ] {
        assert!(fixture.queries.plan_statement(query(text)).await.is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_refusal_says_that_queries_only_read() {
    let fixture = Fixture::new().await;
    for (text, message) in [
        ("DROP TABLE cpu", "queries are read-only: DROP TABLE is not allowed"),
        ("EXPLAIN ANALYZE COPY cpu TO '/tmp/x.csv'", "queries are read-only: COPY is not allowed"),
        (
            "SELECT * FROM information_schema.df_settings",
            "queries are read-only: reading the settings of the server is not allowed",
        ),
    ] {
        let error = fixture.plan(text).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, message));
    }
}
