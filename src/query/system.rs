//! What the server knows of a database, as tables: schema `system`.
//!
//! | table | a row is |
//! |---|---|
//! | `files` | a Parquet file: live, of a deleted table, or waiting for its removal |
//! | `compactions` | one of the last compactions, running or ended |
//! | `last_caches`, `distinct_caches` | a cache of a table, and how it is doing |
//! | `mirror` | the mirror of the store, if there is one: how far it is |
//! | `queries` | a query that runs, or one of the last that did, in any database that may be read |
//! | `retention` | how long rows are seen after their time |
//! | `tables` | a table, also a deleted one that can be brought back |
//!
//! A table is made when a query names it, from one state of the catalog; nothing is kept.
//! Not here: columns and tables, which `information_schema` lists.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;

use super::caches;
use super::error::QueryError;
use super::running::SeenQueries;
use crate::engine::compaction::{Compaction, CompactionEnd};
use crate::engine::mirror::{MirrorFacts, MirrorState};
use crate::engine::{Engine, FileState, SoftDeletion, StoredFile, TableFacts};
use crate::error::Result;
use crate::model::{DatabaseName, Tables, Timestamp};

const COMPACTIONS: &str = "compactions";
const DISTINCT_CACHES: &str = "distinct_caches";
const FILES: &str = "files";
const LAST_CACHES: &str = "last_caches";
const MIRROR: &str = "mirror";
const QUERIES: &str = "queries";
const RETENTION: &str = "retention";
const USER_TABLES: &str = "tables";
const TABLES: [&str; 8] = [COMPACTIONS, DISTINCT_CACHES, FILES, LAST_CACHES, MIRROR, QUERIES, RETENTION, USER_TABLES];

/// The tables about one database.
#[derive(Debug)]
pub(super) struct SystemTables {
    engine: Arc<Engine>,
    database: DatabaseName,
    /// Rows about others can't be seen.
    seen: Tables,
    /// The queries that may be known of.
    queries: SeenQueries,
}

impl SystemTables {
    pub(super) fn new(engine: Arc<Engine>, database: DatabaseName, seen: Tables, queries: SeenQueries) -> Self {
        Self { engine, database, seen, queries }
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

    /// The rows about tables that can be seen.
    fn rows(&self, table: &str) -> DataFusionResult<Option<RecordBatch>> {
        let Some(rows) = self.all_rows(table)? else { return Ok(None) };
        // Queries are chosen already, and not by their tables.
        if self.seen == Tables::All || table == QUERIES {
            return Ok(Some(rows));
        }
        let names = rows.column_by_name("table_name").or_else(|| rows.column_by_name("table"));
        let names = names.map(|names| names.as_string::<i32>());
        let is_seen = |row| names.is_some_and(|names| names.is_valid(row) && self.seen.contains(names.value(row)));
        let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some(is_seen(row))).collect();
        Ok(Some(filter_record_batch(&rows, &kept)?))
    }

    fn all_rows(&self, table: &str) -> DataFusionResult<Option<RecordBatch>> {
        match table {
            COMPACTIONS => self.compactions().map(Some),
            DISTINCT_CACHES => caches::distinct_caches(&self.engine, &self.database).map(Some),
            LAST_CACHES => caches::last_caches(&self.engine, &self.database).map(Some),
            FILES => self.files().map(Some),
            MIRROR => self.mirror().map(Some),
            QUERIES => Ok(Some(self.queries.rows()?)),
            RETENTION => self.retention().map(Some),
            USER_TABLES => self.user_tables().map(Some),
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
            let numbers = files.iter().map(|file| value(file).map(signed));
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
            ("disk_cache_bytes", number(|file| Some(file.disk_cache_bytes))),
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
                    FileState::Live | FileState::Deleted => None,
                    FileState::Garbage { deleted_at } => Some(deleted_at),
                }),
            ),
        ])
    }

    /// One row per compaction since the start, oldest first.
    fn compactions(&self) -> DataFusionResult<RecordBatch> {
        let all = self.engine.compactions(&self.database);
        let done = |value: fn(&CompactionEnd) -> Option<u64>| -> ArrayRef {
            let ends = all.iter().map(|(_, compaction)| compaction.ended.as_ref().and_then(|(_, end)| value(end)));
            Arc::new(ends.map(|number| number.map(signed)).collect::<Int64Array>())
        };
        let begun = |value: fn(&Compaction) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, compaction)| signed(value(compaction)))))
        };
        let states = all.iter().map(|(_, compaction)| match &compaction.ended {
            None => "running",
            Some((_, CompactionEnd::Done { .. })) => "done",
            Some((_, CompactionEnd::Abandoned)) => "abandoned",
            Some((_, CompactionEnd::Failed { .. })) => "failed",
        });
        let reasons = all.iter().map(|(_, compaction)| match &compaction.ended {
            Some((_, CompactionEnd::Failed { reason })) => Some(reason.as_str()),
            _ => None,
        });
        let started = all.iter().map(|(_, compaction)| compaction.started.as_nanos());
        let ended = all.iter().map(|(_, compaction)| compaction.ended.as_ref().map(|(at, _)| at.as_nanos()));
        batch([
            (
                "table_name",
                Arc::new(StringArray::from_iter_values(all.iter().map(|(table, _)| table.as_str()))) as ArrayRef,
            ),
            ("state", Arc::new(StringArray::from_iter_values(states))),
            ("started_at", Arc::new(TimestampNanosecondArray::from_iter_values(started))),
            ("ended_at", Arc::new(ended.collect::<TimestampNanosecondArray>())),
            ("files_removed", begun(|compaction| compaction.files_removed as u64)),
            ("rows_read", begun(|compaction| compaction.rows_read)),
            ("bytes_read", begun(|compaction| compaction.bytes_read)),
            (
                "files_added",
                done(|end| match end {
                    CompactionEnd::Done { files_added, .. } => Some(*files_added as u64),
                    _ => None,
                }),
            ),
            (
                "rows_written",
                done(|end| match end {
                    CompactionEnd::Done { rows_written, .. } => Some(*rows_written),
                    _ => None,
                }),
            ),
            (
                "bytes_written",
                done(|end| match end {
                    CompactionEnd::Done { bytes_written, .. } => Some(*bytes_written),
                    _ => None,
                }),
            ),
            ("error", Arc::new(reasons.collect::<StringArray>())),
        ])
    }

    /// One row per table by name, then those that can be brought back.
    fn user_tables(&self) -> DataFusionResult<RecordBatch> {
        let all = self.engine.table_facts(&self.database);
        let number = |value: fn(&TableFacts) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(all.iter().map(value)))
        };
        let time = |value: fn(&SoftDeletion) -> Option<Timestamp>| -> ArrayRef {
            let times = all.iter().map(|table| table.deletion.as_ref().and_then(value).map(Timestamp::as_nanos));
            Arc::new(times.collect::<TimestampNanosecondArray>())
        };
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|table| table.name.as_str())));
        let deleted: ArrayRef =
            Arc::new(BooleanArray::from_iter(all.iter().map(|table| Some(table.deletion.is_some()))));
        batch([
            ("table_name", names),
            ("column_count", number(|table| signed_of(table.columns))),
            ("file_count", number(|table| signed_of(table.files))),
            ("file_rows", number(|table| signed(table.file_rows))),
            ("file_bytes", number(|table| signed(table.file_bytes))),
            ("deleted", deleted),
            ("deleted_at", time(|deletion| Some(deletion.deleted_at))),
            ("hard_deletion_time", time(|deletion| deletion.hard_delete_at)),
        ])
    }

    /// One row, or none without a mirror. It is that of the whole store, the same in every database.
    fn mirror(&self) -> DataFusionResult<RecordBatch> {
        let mirror = self.engine.mirror();
        let text = |value: fn(&MirrorFacts) -> Option<&str>| -> ArrayRef {
            Arc::new(mirror.iter().map(value).collect::<StringArray>())
        };
        let number = |value: fn(&MirrorFacts) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(mirror.iter().map(|mirror| signed(value(mirror)))))
        };
        let complete = mirror.iter().map(|mirror| mirror.complete_at.map(Timestamp::as_nanos));
        batch([
            ("place", text(|mirror| Some(&mirror.place))),
            (
                "state",
                text(|mirror| {
                    Some(match mirror.state {
                        MirrorState::Beginning => "beginning",
                        MirrorState::Following => "following",
                        MirrorState::Failing => "failing",
                        MirrorState::Stopped => "stopped",
                    })
                }),
            ),
            ("complete_at", Arc::new(complete.collect::<TimestampNanosecondArray>())),
            ("lag_ns", number(|mirror| u64::try_from(mirror.lag.as_nanos()).unwrap_or(u64::MAX))),
            ("records_behind", number(|mirror| mirror.records_behind)),
            ("files_copied", number(|mirror| mirror.files)),
            ("bytes_copied", number(|mirror| mirror.bytes)),
            ("files_removed", number(|mirror| mirror.removed)),
            ("failures", number(|mirror| mirror.failures)),
            ("error", text(|mirror| mirror.error.as_deref())),
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

fn signed_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn state(file: &StoredFile) -> &'static str {
    match file.state {
        FileState::Live => "live",
        FileState::Deleted => "deleted",
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
