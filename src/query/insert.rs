//! `INSERT INTO table (…) VALUES …` and `INSERT INTO table (…) SELECT …`.
//!
//! The rows are computed as those of any query, gathered, and stored as one write: all of them or none. A column that is not named
//! is not written, so that a point that is there keeps it; without `time` each row gets a time of its own.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Fields, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Projection, Values};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::error::QueryError;
use super::form::lane;
use super::processors::Processors;
use super::running::{Lane, Watch};
use super::stream::{DroppedOnCpu, on_cpu};
use crate::engine::{Durability, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ArrowColumns, DatabaseName, Rows, TableName, TableRows, batch_bytes};

/// Bytes of the rows of one INSERT.
const ROWS_BYTES_MAX: usize = 256 << 20;

/// How often rows are fitted to a schema that moves under them.
const ATTEMPTS_MAX: usize = 5;

/// An INSERT whose rows are not computed yet.
#[derive(Debug)]
pub(super) struct PlannedInsert {
    database: DatabaseName,
    table: TableName,
    work: DroppedOnCpu<(SessionState, LogicalPlan)>,
    cpu: Handle,
}

impl PlannedInsert {
    /// # Errors
    /// If the plan is none of an INSERT; a defect.
    pub(super) fn new(
        session: SessionState,
        input: &LogicalPlan,
        database: &DatabaseName,
        table: TableName,
        cpu: &Processors,
    ) -> Result<Self, QueryError> {
        let rows = only_named_columns(input)?;
        // What is written out in the statement is little.
        let cpu = if lane(&rows)? == Lane::Rows { &cpu.heavy } else { &cpu.quick };
        Ok(Self { database: database.clone(), table, work: DroppedOnCpu::new((session, rows), cpu), cpu: cpu.clone() })
    }

    /// Computes the rows of several INSERTs into one table and stores them together, those of the first one first. Returns how
    /// many there are.
    ///
    /// # Errors
    /// Whatever computing says; `Invalid` if a value can't be stored; `TooLarge` if they are too many; and whatever keeps rows
    /// from being stored. Nothing is stored then.
    pub(super) async fn run_all(inserts: Vec<Self>, engine: &Engine, watch: &Arc<Watch>) -> Result<u64> {
        let (mut batches, mut bytes, mut target) = (Vec::<RecordBatch>::new(), 0, None);
        for Self { database, table, work, cpu } in inserts {
            target.get_or_insert((database, table));
            let computed = on_cpu(&cpu, compute(work, ROWS_BYTES_MAX - bytes, Arc::clone(watch))).await?;
            bytes += computed.iter().map(batch_bytes).sum::<usize>();
            batches.extend(computed);
        }
        let (Some((database, table)), Some(first)) = (target, batches.first()) else { return Ok(0) };
        // Of literals the planner says that they are never null, of the next row's that they may be.
        let fields: Fields =
            first.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = batches
            .iter()
            .map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|batches| concat_batches(&schema, &batches))
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not put the rows together", error))?;
        store(engine, &database, &table, &rows, Target::Existing).await
    }
}

async fn compute(
    work: DroppedOnCpu<(SessionState, LogicalPlan)>,
    bytes_max: usize,
    watch: Arc<Watch>,
) -> Result<Vec<RecordBatch>, QueryError> {
    let Some((session, plan)) = work.take() else { return Err(QueryError::Stopped) };
    let plan = session.create_physical_plan(&plan).await?;
    let mut stream = execute_stream(plan, watch.context(&session))?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        bytes += batch_bytes(&batch);
        if bytes > bytes_max {
            return Err(QueryError::TooManyRows { bytes_max: ROWS_BYTES_MAX });
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// Which table rows go into.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// One that is there.
    Existing,
    /// One that is made if it isn't there; these columns are its tags.
    Tagged(&'a [String]),
}

/// Stores rows durably as one write. Returns how many there are.
///
/// # Errors
/// `Invalid` if a value can't be stored, and whatever keeps rows from being stored. Nothing is stored then.
pub(super) async fn store(
    engine: &Engine,
    database: &DatabaseName,
    table: &TableName,
    rows: &RecordBatch,
    target: Target<'_>,
) -> Result<u64> {
    let count = rows.num_rows();
    if count == 0 {
        return Ok(0);
    }
    let first_time = engine.arrival_times(count);
    let mut attempt = 0;
    loop {
        let known = engine.table_schema(database, table.as_str());
        let columns = match (target, &known) {
            (Target::Existing, Some(known)) => ArrowColumns::new(&rows.schema(), Some(known), None)?,
            // Deleted meanwhile: it must not come back by itself, with the columns of this statement alone.
            (Target::Existing, None) => return Err(QueryError::TableNotFound(table.to_string()).into()),
            (Target::Tagged(tags), known) => ArrowColumns::new(&rows.schema(), known.as_deref(), Some(tags))?,
        };
        let batch = columns.rows(rows, first_time)?;
        let rows = TableRows { table: table.clone(), schema: columns.schema().clone(), batch };
        match engine.write(database, Rows { tables: vec![rows] }, Durability::Synced).await {
            Ok(_) => return Ok(count as u64),
            Err(error) if error.kind() == ErrorKind::Conflict && attempt + 1 < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The planner names every column of the table and gives null to those that the statement doesn't; those are left out again.
fn only_named_columns(input: &LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let LogicalPlan::Projection(projection) = input else {
        return Err(DataFusionError::Internal(format!("an INSERT of {}", input.display())).into());
    };
    let named: Vec<Expr> = projection.expr.iter().filter(|expr| !is_filled_in(expr)).cloned().collect();
    let input = with_nullable_values(projection.input.as_ref().clone())?;
    Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(input))?))
}

/// The planner says of a `VALUES` that its columns are those of the table, of which time is never null. One that is null all the same
/// would be told of by its number in the plan; as a column that may have nulls it is told of by its name and row where rows are fitted to the table.
fn with_nullable_values(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let changed = plan.transform_up(|node| match node {
        LogicalPlan::Values(Values { schema, values }) => {
            let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
            let fields = schema.iter().map(|(table, field)| (table.cloned(), nullable(field))).collect();
            let schema = Arc::new(DFSchema::new_with_metadata(fields, schema.metadata().clone())?);
            Ok(Transformed::yes(LogicalPlan::Values(Values { schema, values })))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(changed.data)
}

/// Values of the statement stand below the projection, so that a null in it is never one of them.
fn is_filled_in(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_filled_in(&alias.expr),
        Expr::Cast(Cast { expr, .. }) => is_filled_in(expr),
        Expr::Literal(value, _) => value.is_null() || *value == ScalarValue::Null,
        _ => false,
    }
}
