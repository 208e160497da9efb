//! SQL by example: one test per file of `tests/sql`, in the format of sqllogictest.
//!
//! Besides SQL a statement may be `WRITE` and line protocol (times in nanoseconds), `PERSIST` (everything goes to
//! Parquet), `COMPACT`, `RESTART`, `CRASH`, `CACHE` with a table and a cache of it as the HTTP interface takes it, or `FILLED`
//! (every cache answers). `UPDATE=1 cargo test --test it sql` fills in the answers.

use std::path::PathBuf;
use std::sync::Arc;

use flightline::error::Error;
use rstest::rstest;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio::sync::Mutex;

use crate::harness::database::TestDatabase;

#[derive(Clone)]
struct Database(Arc<Mutex<TestDatabase>>);

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.report())]
struct Failure(#[from] Error);

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, statement: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let mut database = self.0.lock().await;
        let (word, rest) = statement.split_once([' ', '\n']).unwrap_or((statement, ""));
        match word {
            "WRITE" => database.write(rest).await,
            "PERSIST" => database.engine().persist_all().await?,
            "COMPACT" => database.engine().compact_all().await?,
            "CACHE" => {
                let (table, json) = rest.split_once(' ').expect("a table and a cache");
                database.create_cache(table, &serde_json::from_str(json).expect("a cache in JSON")).await?;
            }
            "FILLED" => database.wait_for_caches().await,
            "RESTART" => database.restart().await,
            "CRASH" => database.crash().await,
            _ => return answer(&database, statement).await,
        }
        Ok(DBOutput::StatementComplete(0))
    }

    async fn shutdown(&mut self) {}
}

async fn answer(database: &TestDatabase, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
    let rows = database.rows(sql).await?;
    let cell = |cell: Option<String>| match cell {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() => "(empty)".to_owned(),
        Some(text) => text,
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    let types = vec![DefaultColumnType::Any; rows.first().map_or(0, Vec::len)];
    Ok(DBOutput::Rows { types, rows })
}

#[rstest]
fn sql(#[files("tests/sql/**/*.slt")] path: PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database(Arc::new(Mutex::new(TestDatabase::new().await)));
        let mut runner = Runner::new(|| {
            let database = database.clone();
            async move { Ok(database) }
        });
        if std::env::var_os("UPDATE").is_some() {
            let (separator, validator) = (" ", sqllogictest::default_validator);
            runner
                .update_test_file(
                    &path,
                    separator,
                    validator,
                    sqllogictest::default_normalizer,
                    sqllogictest::default_column_validator,
                )
                .await
                .unwrap();
        } else {
            runner.run_file_async(&path).await.unwrap_or_else(|error| panic!("{}", error.display(false)));
        }
    });
    runtime.shutdown_background();
}
