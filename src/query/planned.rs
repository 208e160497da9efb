//! Queries between their plan and their rows.
//!
//! What is planned is not begun: drivers ask what a text will answer long before they fetch it, or never do. What is begun goes on by itself on
//! the threads of queries, so that those who wait for it need not be woken between its steps.

use std::sync::Arc;
use std::task::Poll;

use arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use futures::{FutureExt, poll};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::error::QueryError;
use super::form::Form;
use super::functions::Planner;
use super::influxql::FlatPlan;
use super::kept_operators::with_lower_part;
use super::plans::Unbound;
use super::processors::Processors;
use super::running::{Lane, Watch};
use super::stand_ins::StandIns;
use super::stream::{DroppedOnCpu, QueryStream, Reading, ended, on_cpu};
use super::{PlannedChange, PlannedParameter};
use crate::error::{Error, Result};

/// What a text turned out to be.
#[derive(Debug)]
pub enum PlannedStatement {
    /// It reads.
    Query(Box<PlannedQuery>),
    /// It changes something.
    Change(PlannedChange),
}

impl PlannedStatement {
    /// What every batch of the answer will have: plain types only, every column nullable.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Query(query) => SchemaRef::clone(query.schema()),
            Self::Change(_) => PlannedChange::answer_schema(),
        }
    }

    /// The parameters of the text: numbered ones in order, then named ones by name.
    pub fn parameters(&self) -> &[PlannedParameter] {
        match self {
            Self::Query(query) => query.parameters(),
            Self::Change(change) => change.parameters(),
        }
    }
}

/// A query whose schema is known and that has not begun.
#[derive(Debug)]
pub struct PlannedQuery {
    pub(super) schema: SchemaRef,
    pub(super) is_ordered: bool,
    pub(super) parameters: Vec<PlannedParameter>,
    pub(super) missing: Option<String>,
    pub(super) lane: Lane,
    pub(super) work: DroppedOnCpu<Work>,
    pub(super) watch: Arc<Watch>,
    pub(super) cpu: Processors,
}

/// What is to be done for a query.
#[derive(Debug)]
pub(super) enum Work {
    Sql(Box<SqlWork>),
    InfluxQl(Box<FlatPlan>),
}

/// What is to be done for a text of SQL.
#[derive(Debug)]
pub(super) struct SqlWork {
    pub(super) session: SessionState,
    /// With all types settled.
    pub(super) plan: Arc<LogicalPlan>,
    pub(super) form: Arc<Form>,
    pub(super) unbound: Arc<Unbound>,
    /// What stands for the instants that are meant, in `plan` too.
    pub(super) stand_ins: Option<StandIns>,
}

impl SqlWork {
    /// The session and the plan with what is meant.
    ///
    /// # Errors
    /// If an expression can't be computed.
    pub(super) fn meant(self, cpu: &Handle) -> DataFusionResult<(SessionState, LogicalPlan)> {
        let Self { session, plan, unbound, stand_ins, .. } = self;
        let Some(stand_ins) = stand_ins else { return Ok((session, Arc::unwrap_or_clone(plan))) };
        let plan = unbound.optimized(&session, plan, cpu)?;
        let meant = stand_ins.exchanged(&plan)?.map(|lower| with_lower_part(&plan, &lower)).transpose()?;
        Ok((session, meant.unwrap_or_else(|| Arc::unwrap_or_clone(plan))))
    }

    async fn operators(
        self,
        watch: &Watch,
        cpu: &Processors,
    ) -> std::result::Result<(SendableRecordBatchStream, Handle), QueryError> {
        let Self { session, plan, unbound, stand_ins, .. } = self;
        // EXPLAIN tells what was done step by step, so all steps are done then.
        if let LogicalPlan::Explain(_) = plan.as_ref() {
            return cpu.start(session.create_physical_plan(&plan).await?, watch.context(&session)).await;
        }
        let plan = unbound.optimized(&session, plan, &cpu.quick)?;
        let lower = stand_ins.map(|stand_ins| stand_ins.exchanged(&plan)).transpose()?.flatten();
        let plan = match unbound.kept_operators() {
            Some(kept) => Planner.create_kept(&plan, lower, &session, kept).await?,
            None => session.query_planner().create_physical_plan(&plan, &session).await?,
        };
        cpu.start(plan, watch.context(&session)).await
    }
}

impl PlannedQuery {
    /// What every batch will have: plain types only, every column nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same; if `keeps`, with text columns that the plan has as dictionaries left as dictionaries, with 32-bit keys: tags, above all.
    /// Answers of InfluxQL have none.
    #[must_use]
    pub fn with_dictionaries(mut self, keeps: bool) -> Self {
        if keeps && let Some(Work::Sql(work)) = self.work.get() {
            self.schema = SchemaRef::clone(work.form.schema_with_dictionaries(&work.plan));
        }
        self
    }

    /// Whether the text asks for an order.
    pub fn ordered(&self) -> bool {
        self.is_ordered
    }

    /// The parameters of the text: numbered ones in order, then named ones by name.
    pub fn parameters(&self) -> &[PlannedParameter] {
        &self.parameters
    }

    /// Begins the query, as soon as there is a slot for it, and goes on whether somebody waits or not. The rows are those of the moment in
    /// which it begins. Must be called on the quick threads.
    pub(super) async fn begin(self) -> BegunQuery {
        let (schema, watch, quick) = (SchemaRef::clone(&self.schema), Arc::clone(&self.watch), self.cpu.quick.clone());
        let mut beginning = Box::pin(self.start());
        let rows = match poll!(&mut beginning) {
            Poll::Ready(rows) => BegunRows::Here(rows.map(Box::new)),
            Poll::Pending => BegunRows::Elsewhere(AbortOnDropHandle::new(quick.spawn(beginning))),
        };
        BegunQuery { schema, watch, rows }
    }

    /// Begins the query and waits until it has.
    ///
    /// # Errors
    /// As [`BegunQuery::rows`].
    pub async fn run(self) -> Result<QueryStream> {
        let (watch, quick) = (Arc::clone(&self.watch), self.cpu.quick.clone());
        let rows = on_cpu(&quick, async move { Ok(self.start().await) });
        watch.until_stopped(Box::pin(rows.map(|rows| rows.map_err(Error::from).flatten()))).await
    }

    async fn start(self) -> Result<QueryStream> {
        let Self { schema, missing, lane, work, watch, cpu, .. } = self;
        if let Some(name) = missing {
            return Err(QueryError::MissingParameter(name).into());
        }
        watch.admit(lane).await?;
        let (rows, threads) = match work.take() {
            Some(Work::Sql(work)) => work.operators(&watch, &cpu).await?,
            Some(Work::InfluxQl(plan)) => plan.run(&watch, &cpu)?,
            None => return Err(QueryError::Stopped.into()),
        };
        Ok(QueryStream::start(&threads, schema, rows, Reading { watch, is_last: true }).await)
    }
}

/// A statement that is planned, and has begun if it reads.
#[derive(Debug)]
pub enum BegunStatement {
    /// It reads.
    Query(BegunQuery),
    /// It changes something, and has not begun.
    Change(PlannedChange),
}

/// A query that has begun, or waits for its slot. Dropping it ends it.
#[derive(Debug)]
pub struct BegunQuery {
    schema: SchemaRef,
    watch: Arc<Watch>,
    rows: BegunRows,
}

/// How far a query that has begun is.
#[derive(Debug)]
enum BegunRows {
    /// It has rows, or can't have any.
    Here(Result<Box<QueryStream>>),
    /// It waits for its slot, or for rows that the beginning needs.
    Elsewhere(AbortOnDropHandle<Result<QueryStream>>),
}

impl BegunQuery {
    /// What every batch will have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows, as soon as there may be some.
    ///
    /// # Errors
    /// `Invalid` if a parameter has no value or an expression can't be computed; `Exhausted` if a limit is
    /// reached; `Busy` and `Limited` if there are too many queries; `TimedOut` and `Cancelled` if it is ended; and whatever reading
    /// may say.
    pub async fn rows(self) -> Result<QueryStream> {
        let Self { watch, rows, .. } = self;
        let rows = async {
            match rows {
                BegunRows::Here(rows) => rows.map(|rows| *rows),
                BegunRows::Elsewhere(rows) => rows.await.unwrap_or_else(|error| Err(ended(error).into())),
            }
        };
        watch.until_stopped(rows).await
    }
}
