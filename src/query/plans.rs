//! Plans that are kept: drivers describe, prepare and fetch one text, and dashboards send it again and again.
//!
//! What is kept is the plan before values and rows: it names tables, but holds nothing of them. It is used for as long as each of its
//! tables has the columns that it was planned with. A text without parameters whose functions say the same at all times keeps its plan as
//! DataFusion's optimizer leaves it: that too looks at nothing but the text and the columns.
//!
//! Used once is a plan that holds an answer: one over a table of the server itself, whose rows are in it; over a function that makes
//! rows, whose arguments are computed (`now()` among them), though not over a cache, which is asked when it is scanned; and a
//! DESCRIBE, which has the columns and not the table.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::parser::Statement;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::caches::CacheTable;
use super::error::QueryError;
use super::form::Form;
use super::kept_operators::KeptOperators;
use super::optimize::optimize;
use super::parameters::{self, PlannedParameter};
use super::stand_ins::StandIns;
use super::statement;
use super::stream::DroppedOnCpu;
use super::{TABLE_SCHEMA, coerce};
use crate::engine::Engine;
use crate::model::{DatabaseName, TableSchema};

/// Bytes of all texts whose plans are kept. A plan takes some ten times as much as its text.
const TEXT_BYTES_MAX: u64 = 2 << 20;

/// Columns of all nodes of plans that are kept without their texts, about.
pub(super) const PLAN_COLUMNS_MAX: u64 = TEXT_BYTES_MAX / TEXT_BYTES_PER_COLUMN as u64;

/// What a text counts beside its length.
const TEXT_BYTES_LEAST: usize = 256;

/// What each column of each node counts, as if it were text: `SELECT *` is short and may name ten thousand. An estimate, for an
/// expression, a field and their names.
const TEXT_BYTES_PER_COLUMN: usize = 32;

/// A text that makes no plan with stand-ins is not tried with them for so long.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// The user's tables that a text names, with the columns that they had.
type PlannedTables = Vec<(String, Arc<TableSchema>)>;

/// Plans by database and text.
#[derive(Debug)]
pub(super) struct Plans {
    cache: Cache<(DatabaseName, String), Arc<Unbound>>,
    /// Texts with stand-ins that make no plan.
    refused: Cache<(DatabaseName, String), ()>,
}

/// A statement, planned without values for its parameters.
#[derive(Debug)]
pub(super) struct Unbound {
    /// Whether it only reads.
    pub(super) reads: bool,
    /// What it asks for.
    pub(super) parameters: Vec<PlannedParameter>,
    /// With all types settled if there are no parameters, and with placeholders for stand-ins.
    plan: DroppedOnCpu<Arc<LogicalPlan>>,
    /// What its answers are like, if that does not depend on values.
    form: OnceLock<Arc<Form>>,
    /// Whether the same comes out of the optimizer whenever it is asked.
    is_settled: bool,
    /// Whether it has stand-ins that can be exchanged.
    pub(super) is_exchangeable: bool,
    /// What came out.
    optimized: OnceLock<DroppedOnCpu<Arc<LogicalPlan>>>,
    /// The operators that were made of that.
    operators: DroppedOnCpu<KeptOperators>,
    /// The user's tables that it reads from; of a DELETE that is its own.
    pub(super) scanned: Vec<String>,
    /// What it was planned with; `None` if that is not known, as of a table that changed meanwhile, or if the plan holds an answer:
    /// then it is used once.
    tables: Option<PlannedTables>,
    /// The caches that it names.
    caches: Vec<Arc<dyn TableProvider>>,
    /// The columns of all nodes.
    columns: usize,
}

impl Plans {
    pub(super) fn new() -> Self {
        let weight = |(_, text): &(DatabaseName, String), unbound: &Arc<Unbound>| {
            let columns = unbound.columns.saturating_mul(TEXT_BYTES_PER_COLUMN);
            u32::try_from((text.len() + TEXT_BYTES_LEAST).saturating_add(columns)).unwrap_or(u32::MAX)
        };
        let refused_weight = |(_, text): &(DatabaseName, String), (): &()| {
            u32::try_from(text.len() + TEXT_BYTES_LEAST).unwrap_or(u32::MAX)
        };
        Self {
            cache: Cache::builder().max_capacity(TEXT_BYTES_MAX).weigher(weight).build(),
            refused: Cache::builder()
                .max_capacity(TEXT_BYTES_MAX / 8)
                .weigher(refused_weight)
                .time_to_live(REFUSED_FOR)
                .build(),
        }
    }

    /// The plan of a text, if it is kept and still right.
    pub(super) async fn get(&self, engine: &Engine, database: &DatabaseName, text: &str) -> Option<Arc<Unbound>> {
        let key = (database.clone(), text.to_owned());
        let unbound = self.cache.get(&key).await?;
        let unchanged = |(name, planned): &(String, Arc<TableSchema>)| {
            let now = engine.table_schema(database, name);
            now.is_some_and(|now| Arc::ptr_eq(&now, planned) || now == *planned)
        };
        let caches_are_the_same =
            unbound.caches.iter().filter_map(|cache| cache.downcast_ref()).all(CacheTable::is_unchanged);
        let tables = unbound.tables.as_ref().filter(|_| caches_are_the_same);
        tables.is_some_and(|tables| tables.iter().all(unchanged)).then_some(unbound)
    }

    pub(super) async fn keep(&self, database: &DatabaseName, text: &str, unbound: Arc<Unbound>) {
        if unbound.tables.is_none() {
            return;
        }
        self.cache.insert((database.clone(), text.to_owned()), unbound).await;
    }

    /// Notes that a text with stand-ins makes no plan, so that it is not tried again each time.
    pub(super) async fn refuse(&self, database: &DatabaseName, text: &str) {
        self.refused.insert((database.clone(), text.to_owned()), ()).await;
    }

    /// Whether a text with stand-ins made no plan a while ago. Columns that came since may change that.
    pub(super) fn is_refused(&self, database: &DatabaseName, text: &str) -> bool {
        self.refused.contains_key(&(database.clone(), text.to_owned()))
    }
}

impl Unbound {
    /// Plans a statement that reads, or INSERT or DELETE.
    ///
    /// # Errors
    /// Whatever the planner says, `ReadOnly` if a text that should read does more.
    pub(super) async fn new(
        session: &SessionState,
        (statement, reads): (Statement, bool),
        engine: &Engine,
        database: &DatabaseName,
        cpu: &Handle,
    ) -> Result<Self, QueryError> {
        let plan = session.statement_to_plan(statement).await?;
        Self::of_plan(session, (plan, reads), engine, database, cpu)
    }

    /// The same for what is a plan already.
    ///
    /// # Errors
    /// As [`Unbound::new`].
    pub(super) fn of_plan(
        session: &SessionState,
        (plan, reads): (LogicalPlan, bool),
        engine: &Engine,
        database: &DatabaseName,
        cpu: &Handle,
    ) -> Result<Self, QueryError> {
        match &plan {
            LogicalPlan::Dml(change) if !reads => statement::check_plan(&change.input)?,
            plan => statement::check_plan(plan)?,
        }
        let parameters = parameters::planned(&plan)?;
        let plan = if parameters.is_empty() { coerce(session, plan)? } else { plan };
        let (scanned, tables) = (scanned(&plan)?, tables(&plan, engine, database)?);
        let (mut columns, mut caches) = (plan_columns(&plan)?, Vec::new());
        plan.apply_with_subqueries(|node| {
            caches.extend(cache(node));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let is_settled = reads && tables.is_some() && parameters.is_empty() && is_settled(&plan)?;
        if is_settled {
            columns = columns.saturating_mul(3); // there will be two plans, and operators
        }
        let (plan, form) = (DroppedOnCpu::new(Arc::new(plan), cpu), OnceLock::new());
        let (optimized, operators) = (OnceLock::new(), DroppedOnCpu::new(KeptOperators::default(), cpu));
        let is_exchangeable = false;
        Ok(Self {
            reads,
            parameters,
            scanned,
            plan,
            form,
            is_settled,
            is_exchangeable,
            optimized,
            operators,
            tables,
            caches,
            columns,
        })
    }

    /// The same with placeholders for the stand-ins that it is known to have, if these can be exchanged.
    ///
    /// # Errors
    /// If an expression can't be computed.
    pub(super) fn with_stand_ins(
        mut self,
        session: &SessionState,
        stand_ins: &StandIns,
        cpu: &Handle,
    ) -> Result<Self, QueryError> {
        if self.is_settled
            && let Some(plan) = stand_ins.placed(Arc::unwrap_or_clone(self.plan()?))?
        {
            self.plan = DroppedOnCpu::new(Arc::new(plan), cpu);
            let plan = self.optimized(session, self.plan()?, cpu)?;
            self.is_exchangeable = StandIns::are_only_below(&plan)?;
        }
        Ok(self)
    }

    /// A plan of this text with all values and types, as the optimizer leaves it.
    ///
    /// # Errors
    /// If an expression can't be computed.
    pub(super) fn optimized(
        &self,
        session: &SessionState,
        plan: Arc<LogicalPlan>,
        cpu: &Handle,
    ) -> DataFusionResult<Arc<LogicalPlan>> {
        if let Some(known) = self.optimized.get().and_then(DroppedOnCpu::get) {
            return Ok(Arc::clone(known));
        }
        let optimized = Arc::new(optimize(session, Arc::unwrap_or_clone(plan))?);
        if self.is_settled {
            // Another query may have been sooner: then its plan stays, which is the same.
            let _ = self.optimized.set(DroppedOnCpu::new(Arc::clone(&optimized), cpu));
        }
        Ok(optimized)
    }

    /// Where operators are kept that are the same at all times.
    pub(super) fn kept_operators(&self) -> Option<&KeptOperators> {
        self.operators.get().filter(|_| self.is_settled)
    }

    /// Whether it is known what the optimizer makes of it.
    pub(super) fn is_optimized(&self) -> bool {
        self.optimized.get().is_some_and(|known| known.get().is_some())
    }

    /// The plan; its types are settled only if it has no parameters.
    pub(super) fn plan(&self) -> Result<Arc<LogicalPlan>, QueryError> {
        self.plan.get().cloned().ok_or(QueryError::Stopped)
    }

    /// What the answers of `plan` are like, which is this plan with values.
    ///
    /// # Errors
    /// As [`Form::of`].
    pub(super) fn form(&self, plan: &LogicalPlan) -> DataFusionResult<Arc<Form>> {
        if !self.parameters.is_empty() {
            return Ok(Arc::new(Form::of(plan)?)); // types may follow from values
        }
        if let Some(known) = self.form.get() {
            return Ok(Arc::clone(known));
        }
        let form = Arc::new(Form::of(plan)?);
        Ok(Arc::clone(self.form.get_or_init(|| form)))
    }
}

/// The columns of all nodes.
///
/// # Errors
/// None; walks may fail in general.
pub(super) fn plan_columns(plan: &LogicalPlan) -> DataFusionResult<usize> {
    let mut columns = 0_usize;
    plan.apply_with_subqueries(|node| {
        columns = columns.saturating_add(node.schema().fields().len());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

/// Whether the optimizer makes the same of a plan at all times: `now()` becomes a constant there. Nodes of our own are asked for the time
/// later, and EXPLAIN tells how it went.
fn is_settled(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let mut is_settled = true;
    plan.apply_with_subqueries(|node| {
        is_settled &= !matches!(node, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::Extension(_));
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                is_settled &= match part {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    Expr::Placeholder(_) => false,
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(is_settled)
}

/// The user's tables that a plan names, with the columns that it was made with; `None` if it can't be kept.
fn tables(plan: &LogicalPlan, engine: &Engine, database: &DatabaseName) -> Result<Option<PlannedTables>, QueryError> {
    let (mut tables, mut can_be_kept) = (PlannedTables::new(), true);
    plan.apply_with_subqueries(|node| {
        if let Some(cache) = cache(node)
            && let Some(cache) = cache.downcast_ref::<CacheTable>()
        {
            tables.push((cache.table_name().to_owned(), Arc::clone(cache.columns())));
            return Ok(TreeNodeRecursion::Continue);
        }
        let (name, source) = match node {
            LogicalPlan::TableScan(scan) => (&scan.table_name, &scan.source),
            LogicalPlan::Dml(statement) => (&statement.table_name, &statement.target),
            LogicalPlan::DescribeTable(_) => {
                can_be_kept = false;
                return Ok(TreeNodeRecursion::Continue);
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let is_of_users = name.schema().is_none_or(|schema| schema == TABLE_SCHEMA);
        // A write may have added a column since the plan was made: what the plan has counts, not what the table has now.
        let is_unchanged = |now: &Arc<TableSchema>| is_of_users && *now.arrow() == source.schema();
        match engine.table_schema(database, name.table()).filter(is_unchanged) {
            Some(schema) => tables.push((name.table().to_owned(), schema)),
            None => can_be_kept = false,
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(can_be_kept.then_some(tables))
}

/// The user's tables that a plan reads from, each once.
fn scanned(plan: &LogicalPlan) -> Result<Vec<String>, QueryError> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let Some(cache) = cache(node)
            && let Some(cache) = cache.downcast_ref::<CacheTable>()
        {
            names.insert(cache.table_name().to_owned());
        } else if let LogicalPlan::TableScan(scan) = node
            && scan.table_name.schema().is_none_or(|schema| schema == TABLE_SCHEMA)
        {
            names.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names.into_iter().collect())
}

/// The cache that a node scans, as a table.
fn cache(node: &LogicalPlan) -> Option<Arc<dyn TableProvider>> {
    let LogicalPlan::TableScan(scan) = node else { return None };
    let provider = source_as_provider(&scan.source).ok()?;
    provider.is::<CacheTable>().then_some(provider)
}
