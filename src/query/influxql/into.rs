//! `SELECT … INTO …`: the rows of an answer become points.
//!
//! The tags that series are told apart by are tags of the points, every other column is a field, except where the measurement has
//! a tag of that name already. A row without any value is no point. Rows are written while they are read, some megabytes at
//! a time; each write is durable before the next one. So memory doesn't grow with the answer, and a statement that fails on its
//! way has written what it says that it has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use futures::{StreamExt, TryFutureExt};

use super::super::change::uncertain;
use super::super::error::QueryError;
use super::super::insert::{self, Target};
use super::super::running::{Lane, Watch};
use super::super::stream::on_cpu;
use super::super::{Queries, wire};
use super::answerer::Part;
use super::resolve::Catalog;
use super::value::Type;
use super::{Answerer, InfluxQlContext};
use crate::error::{Error, Result};
use crate::model::{Action, DatabaseName, TIME_COLUMN, TableName, batch_bytes};
use crate::syntax::influxql::{self, Select};

/// Bytes of rows that are written together.
const WRITE_BYTES: usize = 4 << 20;

/// What `INTO` has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Points.
    pub count: u64,
}

impl Queries {
    /// Writes the answer of a `SELECT` where its `INTO` says. Dropping the future ends it; what was written stays.
    ///
    /// # Errors
    /// As a `SELECT`; `NotFound` if there is no such database; `Forbidden` if who asks may not write there; and whatever keeps rows
    /// from being stored. The message says how many points were written before.
    pub async fn influxql_into(&self, select: &Select, context: &InfluxQlContext) -> Result<Written> {
        let (answerer, watch) = (self.answerer(context), self.watch(&select.to_string(), context));
        watch.planned();
        let (select, running) = (select.clone(), Arc::clone(&watch));
        let writing = on_cpu(&self.cpu.heavy, async move { write(&select, &answerer, &running).await });
        watch.run(Lane::Rows, Box::pin(writing.map_err(Error::from))).await.map_err(uncertain)
    }
}

/// Writes while the watch counts what is written, part by part.
async fn write(select: &Select, answerer: &Answerer, watch: &Watch) -> Result<Written, QueryError> {
    let Some(into) = &select.into else { return Ok(Written { count: 0 }) };
    let database = target_database(into, answerer)?;
    let mut read = select.clone();
    read.into = None;
    let mut count = 0;
    for part in answerer.parts(&read).await? {
        let name = into.measurement.as_deref().unwrap_or(&part.measurement);
        let table = TableName::new(name).map_err(|error| QueryError::Statement(error.to_string()))?;
        if !answerer.catalog.rights.tables(Action::Write, &database).contains(table.as_str()) {
            return Err(QueryError::Forbidden { verb: "write to", table: table.to_string() });
        }
        let mut points = Points::new(&part, answerer, watch, &database, table);
        let outcome = points.copy(&part).await;
        count += points.written;
        if let Err(error) = outcome {
            let error = Error::from(error);
            let message = format!("{}; {count} points were written before", error.report());
            return Err(QueryError::Own(Error::new(error.kind(), message)));
        }
    }
    Ok(Written { count })
}

fn target_database(into: &influxql::Target, answerer: &Answerer) -> Result<DatabaseName, QueryError> {
    let name = answerer.catalog.database(into.database.as_deref(), into.policy.as_deref());
    let name = name.map_err(QueryError::Statement)?;
    DatabaseName::new(&name).map_err(|_| QueryError::DatabaseNotFound(name))
}

/// Points of one measurement on their way.
struct Points<'a> {
    answerer: &'a Answerer,
    watch: &'a Watch,
    database: &'a DatabaseName,
    table: TableName,
    /// The tags, the time, and the fields.
    schema: SchemaRef,
    /// Which columns of the plan these are.
    places: Vec<usize>,
    tags: Vec<String>,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    written: u64,
}

impl<'a> Points<'a> {
    fn new(
        part: &Part,
        answerer: &'a Answerer,
        watch: &'a Watch,
        database: &'a DatabaseName,
        table: TableName,
    ) -> Self {
        let plan = wire::wire_schema(&part.plan.schema());
        let tags = part.groups.clone();
        let mut places: Vec<usize> = (0..=tags.len()).collect();
        let mut names: Vec<&str> = tags.iter().map(String::as_str).chain([TIME_COLUMN]).collect();
        for (n, (name, kind)) in part.columns.iter().skip(1).zip(&part.kinds).enumerate() {
            // What nothing has would be a column of nothing.
            if *kind != Type::Unknown {
                names.push(name);
                places.push(tags.len() + 1 + n);
            }
        }
        let fields = names
            .iter()
            .zip(&places)
            .map(|(name, place)| Field::new(*name, plan.field(*place).data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let waiting = Vec::new();
        Self { answerer, watch, database, table, schema, places, tags, waiting, waiting_bytes: 0, written: 0 }
    }

    async fn copy(&mut self, part: &Part) -> Result<(), QueryError> {
        let mut batches = execute_stream(Arc::clone(&part.plan), self.watch.context(&self.answerer.session))?;
        while let Some(batch) = batches.next().await {
            let points = self.points(&batch?)?;
            self.waiting_bytes += batch_bytes(&points);
            self.waiting.push(points);
            if self.waiting_bytes >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// The rows that have a value.
    fn points(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let columns: Vec<ArrayRef> = self.places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        let fields = &columns[self.tags.len() + 1..];
        let has_value = (0..batch.num_rows()).map(|row| Some(fields.iter().any(|field| field.is_valid(row))));
        let has_value = BooleanArray::from_iter(has_value);
        let columns = columns.iter().enumerate().map(|(n, column)| match n < self.tags.len() {
            true => without_empty(column),
            false => Arc::clone(column),
        });
        let points = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect()).map_err(datafusion_error)?;
        filter_record_batch(&points, &has_value).map_err(datafusion_error)
    }

    async fn flush(&mut self) -> Result<(), QueryError> {
        let rows = concat_batches(&self.schema, &self.waiting).map_err(datafusion_error)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        let engine = &self.answerer.catalog.engine;
        let target = Target::Tagged(&self.tags);
        let count = insert::store(engine, self.database, &self.table, &rows, target).await;
        let count = count.map_err(QueryError::Own)?;
        self.written += count;
        self.watch.changed(count);
        Ok(())
    }
}

/// An empty tag is none.
fn without_empty(column: &ArrayRef) -> ArrayRef {
    match (column.data_type(), column.as_any().downcast_ref::<StringArray>()) {
        (DataType::Utf8, Some(texts)) => {
            Arc::new(texts.iter().map(|text| text.filter(|text| !text.is_empty())).collect::<StringArray>())
        }
        _ => Arc::clone(column),
    }
}

fn datafusion_error(error: arrow::error::ArrowError) -> QueryError {
    QueryError::DataFusion(DataFusionError::from(error))
}
