//! Plans that are kept: drivers describe, prepare and fetch one text, and dashboards send it again and again.
//!
//! What is kept is the plan before values and rows: it names tables, but holds nothing of them. It is used for as long as each of its
//! tables has the columns that it was planned with. A plan over a table of the server itself holds its rows and is used once.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::error::QueryError;
use super::parameters::{self, PlannedParameter};
use super::statement;
use super::stream::DroppedOnCpu;
use super::{TABLE_SCHEMA, coerce};
use crate::engine::Engine;
use crate::model::{DatabaseName, TableSchema};

/// Bytes of all texts whose plans are kept. A plan takes some ten times as much as its text.
const TEXT_BYTES_MAX: u64 = 2 << 20;

/// What a text counts beside its length.
const TEXT_BYTES_LEAST: usize = 256;

/// The user's tables that a text names, with the columns that they had.
type PlannedTables = Vec<(String, Arc<TableSchema>)>;

/// Plans by database and text.
#[derive(Debug)]
pub(super) struct Plans {
    cache: Cache<(DatabaseName, String), Arc<Unbound>>,
}

/// A statement, planned without values for its parameters.
#[derive(Debug)]
pub(super) struct Unbound {
    /// Whether it only reads.
    pub(super) reads: bool,
    /// What it asks for.
    pub(super) parameters: Vec<PlannedParameter>,
    /// With all types settled if there are no parameters.
    plan: DroppedOnCpu<LogicalPlan>,
    /// The user's tables that it reads from; of a DELETE that is its own.
    pub(super) scanned: Vec<String>,
    /// What it was planned with; `None` if that is not known, as of a table that went meanwhile: then it is used once.
    tables: Option<PlannedTables>,
}

impl Plans {
    pub(super) fn new() -> Self {
        let weight = |(_, text): &(DatabaseName, String), _: &Arc<Unbound>| {
            u32::try_from(text.len() + TEXT_BYTES_LEAST).unwrap_or(u32::MAX)
        };
        Self { cache: Cache::builder().max_capacity(TEXT_BYTES_MAX).weigher(weight).build() }
    }

    /// The plan of a text, if it is kept and still right.
    pub(super) async fn get(&self, engine: &Engine, database: &DatabaseName, text: &str) -> Option<Arc<Unbound>> {
        let key = (database.clone(), text.to_owned());
        let unbound = self.cache.get(&key).await?;
        let unchanged = |(name, planned): &(String, Arc<TableSchema>)| {
            let now = engine.table_schema(database, name);
            now.is_some_and(|now| Arc::ptr_eq(&now, planned) || now == *planned)
        };
        unbound.tables.as_ref().is_some_and(|tables| tables.iter().all(unchanged)).then_some(unbound)
    }

    pub(super) async fn keep(&self, database: &DatabaseName, text: &str, unbound: Arc<Unbound>) {
        if unbound.tables.is_none() {
            return;
        }
        self.cache.insert((database.clone(), text.to_owned()), unbound).await;
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
        match &plan {
            LogicalPlan::Dml(change) if !reads => statement::check_plan(&change.input)?,
            plan => statement::check_plan(plan)?,
        }
        let parameters = parameters::planned(&plan)?;
        let plan = if parameters.is_empty() { coerce(session, plan)? } else { plan };
        let scanned = table_names(&plan, |node| match node {
            LogicalPlan::TableScan(scan) => Some(&scan.table_name),
            _ => None,
        })?;
        let tables = tables(&plan, engine, database)?;
        Ok(Self { reads, parameters, scanned, plan: DroppedOnCpu::new(plan, cpu), tables })
    }

    /// The plan; its types are settled only if it has no parameters.
    pub(super) fn plan(&self) -> Result<LogicalPlan, QueryError> {
        self.plan.get().cloned().ok_or(QueryError::Stopped)
    }
}

/// The user's tables that a plan names, with their columns.
fn tables(plan: &LogicalPlan, engine: &Engine, database: &DatabaseName) -> Result<Option<PlannedTables>, QueryError> {
    let names = table_names(plan, |node| match node {
        LogicalPlan::TableScan(scan) => Some(&scan.table_name),
        LogicalPlan::Dml(statement) => Some(&statement.table_name),
        _ => None,
    })?;
    let mut is_of_users = true;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            is_of_users &= scan.table_name.schema().is_none_or(|schema| schema == TABLE_SCHEMA);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !is_of_users {
        return Ok(None);
    }
    let with_columns = |name: String| engine.table_schema(database, &name).map(|schema| (name, schema));
    Ok(names.into_iter().map(with_columns).collect())
}

/// The user's tables among those that `named` finds in the nodes of a plan, each once.
fn table_names(
    plan: &LogicalPlan,
    named: impl Fn(&LogicalPlan) -> Option<&TableReference>,
) -> Result<Vec<String>, QueryError> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let Some(name) = named(node).filter(|name| name.schema().is_none_or(|schema| schema == TABLE_SCHEMA)) {
            names.push(name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
