//! Queries over a real engine: rows are written and persisted, questions asked as SQL.

mod answers;
mod bounds;
mod cost;
mod decoded;
mod delete;
mod few_rows;
mod first_bins;
mod gap_fill;
mod kept;
mod many_series;
mod model;
mod parameters;
mod plans;
mod predicates;
mod read_only;
mod retention;
mod running;
mod scale;
mod schemas;
mod selectors;
mod shortcuts;
mod stretches;
mod substrait;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::array::{AsArray, BooleanArray, DictionaryArray};
use arrow::datatypes::{Float64Type, Int32Type};
use arrow::util::pretty::pretty_format_batches_with_schema;
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::runtime::{Builder, Runtime};

use super::{Language, Origin, Parameter, PlannedQuery, PlannedStatement, Queries, Query, QuerySettings};
use crate::clock::ManualClock;
use crate::engine::compaction::CompactionSettings;
use crate::engine::store::Store;
use crate::engine::wal::MemoryDisk;
use crate::engine::{Durability, Engine, EngineSettings};
use crate::error::Result;
use crate::model::{
    Access, Column, ColumnKind, ColumnName, DatabaseName, FieldType, Rows, TableName, TableRows, TableSchema, Tables,
    Timestamp,
};

/// The time at which all tests take place.
const NOW: i64 = 1_700_000_000_000_000_000;

/// Threads as the server makes them: the bounds of a query's text are chosen for this stack.
static CPU: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("cpu").thread_stack_size(16 << 20).enable_all();
    builder.build().unwrap()
});

static IO: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// An engine with one database, `nyc`.
struct Fixture {
    engine: Arc<Engine>,
    queries: Queries,
}

impl Fixture {
    async fn new() -> Self {
        // On two threads however few rows there are, as it is with many.
        Self::with(QuerySettings { threads: 2, few_rows_max: 0, ..QuerySettings::default() }).await
    }

    async fn with(settings: QuerySettings) -> Self {
        Self::with_engine(settings, |_| {}).await
    }

    async fn with_engine(settings: QuerySettings, change: impl FnOnce(&mut EngineSettings)) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW)));
        let disk = Arc::new(MemoryDisk::default());
        // Compaction happens when a test asks for it, and then of everything.
        let compaction = CompactionSettings { is_on: false, settle: Duration::ZERO, ..CompactionSettings::default() };
        let mut engine_settings = EngineSettings { compaction, ..EngineSettings::default() };
        change(&mut engine_settings);
        let engine = Engine::open(engine_settings, Store::in_memory(), disk, clock).await.unwrap();
        engine.create_database(&nyc(), None).await.unwrap();
        let queries =
            Queries::new(Arc::clone(&engine), settings, CPU.handle().clone().into(), IO.handle().clone()).unwrap();
        Self { engine, queries }
    }

    /// Writes points in one request. Values: `1` a float, `1i` an integer, `t` and `f` booleans, else text.
    async fn write(&self, lines: &str) {
        self.engine.write(&nyc(), rows(lines), Durability::Synced).await.unwrap();
    }

    /// Brings everything into Parquet.
    async fn persist(&self) {
        self.engine.persist_all().await.unwrap();
    }

    /// Runs a statement that deletes.
    async fn delete(&self, text: &str) -> Result<()> {
        self.delete_for(query(text)).await
    }

    async fn delete_for(&self, query: Query) -> Result<()> {
        match self.queries.plan_statement(query).await? {
            PlannedStatement::Change(change) => change.run().await.map(drop),
            PlannedStatement::Query(query) => panic!("{query:?} deletes nothing"),
        }
    }

    async fn plan(&self, text: &str) -> Result<PlannedQuery> {
        self.queries.plan(query(text)).await
    }

    /// The batches of an answer, each checked against the announced schema.
    async fn ask_for(&self, query: Query) -> Result<Vec<RecordBatch>> {
        let planned = self.queries.plan(query).await?;
        let announced = Arc::clone(planned.schema());
        let stream = planned.run().await?;
        assert_eq!(stream.schema(), &announced);
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        for batch in &batches {
            assert_eq!(batch.schema(), announced);
        }
        Ok(batches)
    }

    async fn ask(&self, text: &str) -> Result<Vec<RecordBatch>> {
        self.ask_for(query(text)).await
    }

    /// The answer as a table, rows in the order in which they come.
    async fn answer(&self, text: &str) -> String {
        let batches = self.ask(text).await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
        let schema = Arc::clone(self.plan(text).await.unwrap().schema());
        pretty_format_batches_with_schema(schema, &batches).unwrap().to_string()
    }

    /// The lines of the physical plan.
    async fn explain(&self, text: &str) -> String {
        let batches = self.ask(&format!("EXPLAIN {text}")).await.unwrap();
        let plans = batches[0].column_by_name("plan").unwrap().as_string::<i32>();
        plans.iter().flatten().last().unwrap().to_owned()
    }

    async fn check(&self, text: &str, expected: &str) {
        let answer = self.answer(text).await;
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with('|')).map(str::trim).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(without_padding(&lines), without_padding(&expected), "{text}\n{answer}");
    }
}

fn without_padding(lines: &[&str]) -> Vec<String> {
    let cells = |line: &&str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
    lines.iter().map(cells).collect()
}

fn nyc() -> DatabaseName {
    DatabaseName::new("nyc").unwrap()
}

fn query(text: &str) -> Query {
    Query {
        database: nyc(),
        language: Language::Sql,
        text: text.to_owned(),
        plan: Bytes::new(),
        parameters: Vec::new(),
        access: Access::full(),
        origin: Origin::default(),
    }
}

fn query_with(text: &str, parameters: &[(&str, Parameter)]) -> Query {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Query { parameters, ..query(text) }
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Tag(String),
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

fn value(text: &str) -> Value {
    if let Some(Ok(number)) = text.strip_suffix('i').map(str::parse) {
        return Value::Integer(number);
    }
    match text {
        "t" => Value::Boolean(true),
        "f" => Value::Boolean(false),
        _ => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Float),
    }
}

/// Just enough of line protocol for tests: no escapes, no quotes, a time in every line.
fn rows(lines: &str) -> Rows {
    type Point = (BTreeMap<String, Value>, i64);
    let mut tables: BTreeMap<String, (Vec<String>, Vec<Point>)> = BTreeMap::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split(' ').collect();
        let (series, fields, time) = (parts[0], parts[1], parts[2].parse().unwrap());
        let mut series = series.split(',');
        let (tags_seen, points) = tables.entry(series.next().unwrap().to_owned()).or_default();
        let mut point = BTreeMap::new();
        for pair in series {
            let (name, tag) = pair.split_once('=').unwrap();
            if !tags_seen.contains(&name.to_owned()) {
                tags_seen.push(name.to_owned());
            }
            point.insert(name.to_owned(), Value::Tag(tag.to_owned()));
        }
        for pair in fields.split(',') {
            let (name, field) = pair.split_once('=').unwrap();
            point.insert(name.to_owned(), value(field));
        }
        points.push((point, time));
    }
    let tables = tables.into_iter().map(|(table, (tags, points))| table_rows(&table, &tags, &points)).collect();
    Rows { tables }
}

fn table_rows(table: &str, tags: &[String], points: &[(BTreeMap<String, Value>, i64)]) -> TableRows {
    let mut kinds: Vec<(String, ColumnKind)> = tags.iter().map(|tag| (tag.clone(), ColumnKind::Tag)).collect();
    for (name, value) in points.iter().flat_map(|(point, _)| point) {
        let kind = match value {
            Value::Tag(_) => ColumnKind::Tag,
            Value::Float(_) => ColumnKind::Field(FieldType::Float),
            Value::Integer(_) => ColumnKind::Field(FieldType::Integer),
            Value::Boolean(_) => ColumnKind::Field(FieldType::Boolean),
            Value::Text(_) => ColumnKind::Field(FieldType::String),
        };
        if !kinds.iter().any(|(known, _)| known == name) {
            kinds.push((name.clone(), kind));
        }
    }
    let columns = kinds.into_iter().map(|(name, kind)| Column { name: ColumnName::new(&name).unwrap(), kind });
    let schema = TableSchema::new(columns);
    let arrays = schema.arrow().fields().iter().map(|field| column(&schema, field.name(), points)).collect();
    let batch = RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap();
    TableRows { table: TableName::new(table).unwrap(), schema, batch }
}

fn column(schema: &TableSchema, name: &str, points: &[(BTreeMap<String, Value>, i64)]) -> ArrayRef {
    macro_rules! values {
        ($variant:ident, $get:expr) => {
            points.iter().map(|(point, _)| match point.get(name) {
                Some(Value::$variant(value)) => Some($get(value)),
                _ => None,
            })
        };
    }
    match schema.kind(name) {
        None => Arc::new(TimestampNanosecondArray::from_iter_values(points.iter().map(|(_, time)| *time))),
        Some(ColumnKind::Tag) => Arc::new(DictionaryArray::<Int32Type>::from_iter(values!(Tag, String::as_str))),
        Some(ColumnKind::Field(FieldType::Float)) => Arc::new(Float64Array::from_iter(values!(Float, |x: &f64| *x))),
        Some(ColumnKind::Field(FieldType::Integer)) => Arc::new(Int64Array::from_iter(values!(Integer, |x: &i64| *x))),
        Some(ColumnKind::Field(FieldType::Boolean)) => {
            Arc::new(BooleanArray::from_iter(values!(Boolean, |x: &bool| *x)))
        }
        Some(ColumnKind::Field(_)) => Arc::new(StringArray::from_iter(values!(Text, String::as_str))),
    }
}
