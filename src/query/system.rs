//! What the server knows of a database, as tables: schema `system`.
//!
//! | table | a row is |
//! |---|---|
//! | `files` | a Parquet file, live or waiting for its removal |
//! | `retention` | how long rows are seen after their time |
//!
//! A table is made when a query names it, from one state of the catalog; nothing is kept.
//! Not here: columns and tables, which `information_schema` lists.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;

use super::error::QueryError;
use crate::engine::{Engine, FileState, StoredFile};
use crate::error::Result;
use crate::model::{DatabaseName, Timestamp};

const FILES: &str = "files";
const RETENTION: &str = "retention";
const TABLES: [&str; 2] = [FILES, RETENTION];

/// The tables about one database.
#[derive(Debug)]
pub(super) struct SystemTables {
    engine: Arc<Engine>,
    database: DatabaseName,
}

impl SystemTables {
    pub(super) fn new(engine: Arc<Engine>, database: DatabaseName) -> Self {
        Self { engine, database }
    }

    /// Every table with its columns.
    pub(super) fn schemas(&self) -> Result<Vec<(&'static str, SchemaRef)>> {
        let mut schemas = Vec::with_capacity(TABLES.len());
        for name in TABLES {
            if let Some(rows) = self.rows(name).map_err(QueryError::from)? {
                schemas.push((name, rows.schema()));
            }
        }
        Ok(schemas)
    }

    fn rows(&self, table: &str) -> DataFusionResult<Option<RecordBatch>> {
        match table {
            FILES => self.files().map(Some),
            RETENTION => self.retention().map(Some),
            _ => Ok(None),
        }
    }

    /// One row per file: live ones by table, then those that wait for their removal.
    fn files(&self) -> DataFusionResult<RecordBatch> {
        let files = self.engine.files(&self.database);
        let text = |value: fn(&StoredFile) -> Option<String>| -> ArrayRef {
            Arc::new(files.iter().map(value).collect::<StringArray>())
        };
        let number = |value: fn(&StoredFile) -> Option<u64>| -> ArrayRef {
            let numbers = files.iter().map(|file| value(file).map(|number| i64::try_from(number).unwrap_or(i64::MAX)));
            Arc::new(numbers.collect::<Int64Array>())
        };
        let time = |value: fn(&StoredFile) -> Option<Timestamp>| -> ArrayRef {
            let times = files.iter().map(|file| value(file).map(Timestamp::as_nanos));
            Arc::new(times.collect::<TimestampNanosecondArray>())
        };
        batch([
            ("table_name", text(|file| file.table.as_ref().map(ToString::to_string))),
            ("file_id", number(|file| file.live.as_ref().map(|live| live.id.get()))),
            ("path", text(|file| Some(file.path.clone()))),
            ("state", text(|file| Some(state(file).to_owned()))),
            ("size_bytes", number(|file| Some(file.bytes))),
            ("row_count", number(|file| file.live.as_ref().map(|live| live.rows))),
            ("row_groups", number(|file| file.live.as_ref().map(|live| live.row_groups.len() as u64))),
            ("min_time", time(|file| file.live.as_ref().map(|live| live.time.min))),
            ("max_time", time(|file| file.live.as_ref().map(|live| live.time.max))),
            ("first_write", number(|file| file.live.as_ref().map(|live| live.sequences.first.get()))),
            ("last_write", number(|file| file.live.as_ref().map(|live| live.sequences.last.get()))),
            ("created_at", time(|file| file.live.as_ref().map(|live| live.created))),
            (
                "deleted_at",
                time(|file| match file.state {
                    FileState::Live => None,
                    FileState::Garbage { deleted_at } => Some(deleted_at),
                }),
            ),
        ])
    }

    /// The database's own period has no table name.
    fn retention(&self) -> DataFusionResult<RecordBatch> {
        let all = self.engine.retentions();
        let own: Vec<_> = all.iter().filter(|retention| retention.database == self.database).collect();
        let databases = own.iter().map(|retention| Some(retention.database.as_str()));
        let tables = own.iter().map(|retention| retention.table.as_ref().map(|table| table.as_str()));
        let periods = own.iter().map(|retention| i64::try_from(retention.period.as_nanos()).unwrap_or(i64::MAX));
        batch([
            ("database_name", Arc::new(databases.collect::<StringArray>()) as ArrayRef),
            ("table_name", Arc::new(tables.collect::<StringArray>())),
            ("retention_period_ns", Arc::new(Int64Array::from_iter_values(periods))),
        ])
    }
}

fn state(file: &StoredFile) -> &'static str {
    match file.state {
        FileState::Live => "live",
        FileState::Garbage { .. } => "garbage",
    }
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> DataFusionResult<RecordBatch> {
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[async_trait]
impl SchemaProvider for SystemTables {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(batch) = self.rows(name)? else { return Ok(None) };
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::View))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}
