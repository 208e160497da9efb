//! What there is to say of caches: `system.last_caches` and `system.distinct_caches`, with the columns that users of
//! InfluxDB 3 know, and how each cache is doing.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use datafusion::error::Result as DataFusionResult;

use crate::engine::Engine;
use crate::engine::caches::{CacheFacts, CacheState};
use crate::model::{CacheKind, CacheShape, ColumnName, DatabaseName};

/// A row for each cache of last values of a database.
pub(in crate::query) fn last_caches(engine: &Engine, database: &DatabaseName) -> DataFusionResult<RecordBatch> {
    let all = engine.cache_facts(database, CacheKind::Last);
    let values = all.iter().map(|cache| match &cache.definition.shape {
        CacheShape::Last { values: Some(values), .. } => Some(values.iter().map(ColumnName::as_str).collect()),
        _ => None,
    });
    let count = all.iter().map(|cache| Some(signed(cache.definition.rows_per_key())));
    table(
        &all,
        vec![
            ("key_column_names", keys(&all)),
            ("value_column_names", lists(values)),
            ("count", Arc::new(count.collect::<Int64Array>())),
            ("ttl", ages(&all)),
            (
                "per_field",
                Arc::new(all.iter().map(|cache| Some(cache.definition.is_of_values())).collect::<BooleanArray>()),
            ),
        ],
    )
}

/// A row for each cache of distinct values of a database.
pub(in crate::query) fn distinct_caches(engine: &Engine, database: &DatabaseName) -> DataFusionResult<RecordBatch> {
    let all = engine.cache_facts(database, CacheKind::Distinct);
    let cardinality = all.iter().map(|cache| cache.definition.keys_max().map(signed));
    table(
        &all,
        vec![
            ("column_names", keys(&all)),
            ("max_cardinality", Arc::new(cardinality.collect::<Int64Array>())),
            ("max_age_seconds", ages(&all)),
        ],
    )
}

fn table(all: &[CacheFacts], own: Vec<(&'static str, ArrayRef)>) -> DataFusionResult<RecordBatch> {
    let text =
        |value: fn(&CacheFacts) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(all.iter().map(value))) };
    let number = |value: fn(&CacheFacts) -> usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(all.iter().map(|cache| signed(value(cache)))))
    };
    let mut columns =
        vec![("table", text(|cache| cache.table.as_str())), ("name", text(|cache| cache.definition.name.as_str()))];
    columns.extend(own);
    columns.push(("state", text(|cache| state(cache.state))));
    columns.push(("progress", Arc::new(all.iter().map(|cache| progress(cache.state)).collect::<Float64Array>())));
    columns.push(("rows", number(|cache| cache.rows)));
    columns.push(("size_bytes", number(|cache| cache.bytes)));
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn state(state: CacheState) -> &'static str {
    match state {
        CacheState::Ready => "ready",
        CacheState::Filling(_) => "filling",
        CacheState::TooLarge => "too large",
    }
}

/// Which part of the table was read to fill it, from 0 to 1; nothing of one that had no room.
fn progress(state: CacheState) -> Option<f64> {
    match state {
        CacheState::Ready => Some(1.0),
        CacheState::Filling(part) => Some(part),
        CacheState::TooLarge => None,
    }
}

fn keys(all: &[CacheFacts]) -> ArrayRef {
    lists(all.iter().map(|cache| Some(cache.keys.iter().map(String::as_str).collect())))
}

fn ages(all: &[CacheFacts]) -> ArrayRef {
    let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    Arc::new(all.iter().map(|cache| cache.definition.age_max().map(seconds)).collect::<Int64Array>())
}

fn lists<'a>(lists: impl Iterator<Item = Option<Vec<&'a str>>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for list in lists {
        for name in list.iter().flatten() {
            builder.values().append_value(name);
        }
        builder.append(list.is_some());
    }
    Arc::new(builder.finish())
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
