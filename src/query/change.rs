//! Statements that change something: planned first, done once by [`PlannedChange::run`], answered with a count.
//!
//! Always true: planning changes nothing.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use futures::TryFutureExt;

use super::delete::PlannedDeletion;
use super::error::QueryError;
use super::executions::together;
use super::insert::PlannedInsert;
use super::parameters::{self, Parameter, PlannedParameter};
use super::plans::Unbound;
use super::processors::Processors;
use super::running::{Lane, Watch};
use super::session::renewed;
use super::stream::on_cpu;
use super::tables::TableChange;
use super::{CATALOG, Query, TABLE_SCHEMA, bound, coerce};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DatabaseName, TableName};

/// A statement that changes something and has not begun.
#[derive(Debug)]
pub struct PlannedChange {
    engine: Arc<Engine>,
    parameters: Vec<PlannedParameter>,
    work: Work,
    watch: Arc<Watch>,
}

#[derive(Debug)]
enum Work {
    /// Not planned to the end: parameters have no values.
    Waiting(Box<Waiting>),
    Delete(PlannedDeletion),
    Insert(Box<PlannedInsert>),
    Table(DatabaseName, TableChange),
}

impl PlannedChange {
    /// The change of a table as a whole.
    ///
    /// # Errors
    /// `Forbidden` if who asks may not do that.
    pub(super) fn of_table(
        engine: Arc<Engine>,
        query: &Query,
        change: TableChange,
        watch: Arc<Watch>,
    ) -> Result<Self, QueryError> {
        let (verb, may) = match &change {
            TableChange::Create { .. } => ("create", query.access.create),
            TableChange::Drop { table, .. } => ("drop", query.access.delete.contains(table.as_str())),
        };
        if !may {
            return Err(QueryError::Forbidden { verb, table: change.table().to_string() });
        }
        Ok(Self { engine, parameters: Vec::new(), work: Work::Table(query.database.clone(), change), watch })
    }

    /// The columns of an answer: `count`, nullable 64-bit signed.
    pub fn answer_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, true)]))
    }

    /// The answer as rows: one, with how many rows were changed, or null if nobody counted.
    ///
    /// # Errors
    /// None that can happen; a defect if one does.
    pub fn answer(count: Option<u64>) -> Result<RecordBatch> {
        let count = count.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        RecordBatch::try_new(Self::answer_schema(), vec![Arc::new(Int64Array::from(vec![count]))])
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not tell of a change", error))
    }

    /// The parameters of the text: numbered ones in order, then named ones by name.
    pub fn parameters(&self) -> &[PlannedParameter] {
        &self.parameters
    }

    /// Executions of a change that waits for values, with those of each, in order. What can be is one plan for all of them.
    ///
    /// # Errors
    /// `Invalid` if a value can't be what the text wants, and what the kind of statement refuses; a defect if nothing is waited for.
    pub async fn executions(&self, values: Vec<Vec<(String, Parameter)>>) -> Result<Vec<Self>> {
        let Work::Waiting(waiting) = &self.work else {
            return Err(Error::internal("values for a change that waits for none"));
        };
        let (waiting, engine) = (waiting.as_ref().clone(), Arc::clone(&self.engine));
        let quick = waiting.cpu.quick.clone();
        Ok(on_cpu(&quick, async move { waiting.executions(values, &engine) }).await?)
    }

    /// Does it. Returns how many rows were changed, if somebody counted.
    ///
    /// # Errors
    /// `Invalid` if a parameter has no value; `NotFound` if the table is gone; `Unavailable` if rows or catalog can't be
    /// written: then it may be done or not, and so it is if the statement is `Cancelled` or `TimedOut` while it runs.
    pub async fn run(self) -> Result<Option<u64>> {
        let Self { engine, work, watch, .. } = self;
        let lane = match &work {
            Work::Delete(_) | Work::Insert(_) => Lane::Rows,
            Work::Waiting(_) | Work::Table(..) => Lane::Server,
        };
        let work = async {
            match work {
                Work::Waiting(waiting) => Err(QueryError::MissingParameter(waiting.missing).into()),
                Work::Delete(deletion) => deletion.run(&engine).await.map(|()| None),
                Work::Insert(insert) => PlannedInsert::run_all(vec![*insert], &engine, &watch).await.map(Some),
                Work::Table(database, change) => change.run(&engine, &database).await.map(Some),
            }
        };
        changed(&watch, lane, Box::pin(work)).await
    }

    /// Does several of one text, in order; the rows of INSERTs are stored together. Returns how many rows were changed.
    ///
    /// # Errors
    /// As [`PlannedChange::run`]; what came before the one that failed is done, of INSERTs none.
    pub async fn run_all(changes: Vec<Self>) -> Result<Option<u64>> {
        let (mut count, mut inserts, mut shared) = (Some(0), Vec::new(), None);
        for change in changes {
            match change.work {
                Work::Insert(insert) => {
                    // One write is one row of the list of queries.
                    shared.get_or_insert((change.engine, change.watch));
                    inserts.push(*insert);
                }
                work => count = added(count, Self { work, ..change }.run().await?),
            }
        }
        if let Some((engine, watch)) = shared {
            let insert = Box::pin(PlannedInsert::run_all(inserts, &engine, &watch).map_ok(Some));
            count = added(count, changed(&watch, Lane::Rows, insert).await?);
        }
        Ok(count)
    }
}

/// Makes a change that is watched.
async fn changed(watch: &Watch, lane: Lane, work: impl Future<Output = Result<Option<u64>>>) -> Result<Option<u64>> {
    watch.admit(lane).await?;
    let count = watch.until_stopped(work).await.map_err(uncertain)?;
    watch.changed(count.unwrap_or_default());
    watch.complete();
    Ok(count)
}

/// Whoever ends a change while it is made doesn't know how far it was.
pub(super) fn uncertain(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Cancelled | ErrorKind::TimedOut => {
            Error::new(error.kind(), format!("{}; the statement may be done or not", error.report()))
        }
        _ => error,
    }
}

/// The sum; nothing if one of them was not counted.
fn added(count: Option<u64>, more: Option<u64>) -> Option<u64> {
    count.zip(more).map(|(count, more)| count.saturating_add(more))
}

/// A change that is planned but for the values of its parameters.
#[derive(Debug, Clone)]
struct Waiting {
    /// The first parameter without a value.
    missing: String,
    session: SessionState,
    unbound: Arc<Unbound>,
    query: Query,
    cpu: Processors,
    watch: Arc<Watch>,
}

impl Waiting {
    fn executions(
        self,
        values: Vec<Vec<(String, Parameter)>>,
        engine: &Arc<Engine>,
    ) -> Result<Vec<PlannedChange>, QueryError> {
        let Self { session, unbound, query, cpu, watch, .. } = self;
        if let Some(plan) = together(&unbound, &values)? {
            let session = renewed(&session);
            let plan = coerce(&session, plan)?;
            let work = work(session, &plan, &unbound, &query, engine, &cpu)?;
            return Ok(vec![PlannedChange {
                engine: Arc::clone(engine),
                parameters: unbound.parameters.clone(),
                work,
                watch: watch.asked().again(query.origin.deadline),
            }]);
        }
        let execution = |parameters: Vec<(String, Parameter)>| {
            let query = Query { parameters, ..query.clone() };
            let watch = watch.asked().again(query.origin.deadline);
            plan(renewed(&session), &unbound, query, Arc::clone(engine), &cpu, watch)
        };
        values.into_iter().map(execution).collect()
    }
}

/// Plans a statement that changes rows.
///
/// # Errors
/// Whatever the planner says, and what the kind of statement refuses.
pub(super) fn plan(
    session: SessionState,
    unbound: &Arc<Unbound>,
    query: Query,
    engine: Arc<Engine>,
    cpu: &Processors,
    watch: Arc<Watch>,
) -> Result<PlannedChange, QueryError> {
    let parameters = unbound.parameters.clone();
    let work = match parameters::missing(&unbound.parameters, &query) {
        Some(missing) => {
            let (unbound, cpu, watch) = (Arc::clone(unbound), cpu.clone(), Arc::clone(&watch));
            Work::Waiting(Box::new(Waiting { missing, session, unbound, query, cpu, watch }))
        }
        None => {
            let plan = bound(&session, unbound, &query, false)?;
            work(session, &plan, unbound, &query, &engine, cpu)?
        }
    };
    Ok(PlannedChange { engine, parameters, work, watch })
}

fn work(
    session: SessionState,
    plan: &LogicalPlan,
    unbound: &Unbound,
    query: &Query,
    engine: &Engine,
    cpu: &Processors,
) -> Result<Work, QueryError> {
    let (table, op, input) = target(plan)?;
    check_access(&table, op, unbound, query)?;
    match op {
        WriteOp::Delete => Ok(Work::Delete(PlannedDeletion::new(&session, input, &query.database, table, engine)?)),
        WriteOp::Insert(InsertOp::Append) => {
            let insert = PlannedInsert::new(session, input, &query.database, table, cpu)?;
            Ok(Work::Insert(Box::new(insert)))
        }
        other => Err(QueryError::ReadOnly(other.to_string())),
    }
}

/// Whether who asks may change that table, and read what the statement reads besides.
fn check_access(table: &TableName, op: &WriteOp, unbound: &Unbound, query: &Query) -> Result<(), QueryError> {
    let access = &query.access;
    let (verb, tables, reads_itself) = match op {
        WriteOp::Delete => ("delete rows of", &access.delete, true),
        _ => ("insert into", &access.write, false),
    };
    if !tables.contains(table.as_str()) {
        return Err(QueryError::Forbidden { verb, table: table.to_string() });
    }
    let is_seen = |name: &String| access.read.contains(name) || reads_itself && name == table.as_str();
    match unbound.scanned.iter().find(|name| !is_seen(name)) {
        Some(hidden) => Err(QueryError::TableNotFound(hidden.clone())),
        None => Ok(()),
    }
}

/// The user's table that a statement changes, what it does there, and the rows that it is about.
fn target(plan: &LogicalPlan) -> Result<(TableName, &WriteOp, &LogicalPlan), QueryError> {
    let LogicalPlan::Dml(DmlStatement { table_name, op, input, .. }) = plan else {
        return Err(QueryError::ReadOnly(plan.display().to_string()));
    };
    let is_ours = |reference: &TableReference| {
        reference.schema().is_none_or(|schema| schema == TABLE_SCHEMA)
            && reference.catalog().is_none_or(|catalog| catalog == CATALOG)
    };
    if !is_ours(table_name) {
        return Err(QueryError::ReadOnly(format!("{} {table_name}", op.name())));
    }
    let table = TableName::new(table_name.table()).map_err(|_| QueryError::TableNotFound(table_name.to_string()))?;
    Ok((table, op, input))
}
