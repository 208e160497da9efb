//! Plans of levels that are kept: what is planned is a level with stand-ins for its bounds of time. All else that a level says is part of what
//! its plan is found by, and so are the columns of the table.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::super::coerce;
use super::super::error::QueryError;
use super::super::functions::Planner;
use super::super::kept_operators::KeptOperators;
use super::super::optimize::optimize;
use super::super::plans::{PLAN_COLUMNS_MAX, plan_columns};
use super::super::stand_ins::StandIns;
use super::super::stream::DroppedOnCpu;
use super::level::{From, Level};
use super::time::{TIME_MAX, TIME_MIN};
use crate::model::TableSchema;

/// Plans by levels. Lives in the session's config.
pub(in crate::query) struct KeptLevels {
    cache: Cache<Key, Arc<KeptLevel>>,
}

impl std::fmt::Debug for KeptLevels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptLevels").field("count", &self.cache.entry_count()).finish_non_exhaustive()
    }
}

/// A level with stand-ins, of one table.
#[derive(Debug, Clone, PartialEq)]
struct Key(Arc<Level>);

/// Levels have no numbers that are none.
impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let level = &self.0;
        for input in &level.inputs {
            if let From::Table(table) = &input.from {
                (&table.database, &table.name).hash(state);
            }
        }
        (&level.slots, &level.groups, &level.bounds, &level.window, level.ascending, level.limit).hash(state);
    }
}

/// What is kept of a level.
#[derive(Debug)]
struct KeptLevel {
    /// The columns that it was planned with.
    schema: Arc<TableSchema>,
    /// As the optimizer left it.
    plan: DroppedOnCpu<LogicalPlan>,
    operators: DroppedOnCpu<KeptOperators>,
    columns: usize,
}

impl KeptLevels {
    pub(in crate::query) fn new() -> Self {
        let weight = |_: &Key, kept: &Arc<KeptLevel>| u32::try_from(kept.columns.saturating_mul(2)).unwrap_or(u32::MAX);
        Self { cache: Cache::builder().max_capacity(PLAN_COLUMNS_MAX).weigher(weight).build() }
    }
}

/// The operators for a level's rows of the only table that it reads, which has these columns now. `plan` makes the plan of a level.
///
/// # Errors
/// Whatever `plan` and the planner say.
pub(super) async fn operators(
    level: &Level,
    schema: &Arc<TableSchema>,
    session: &SessionState,
    plan: impl Fn(&Level) -> Result<LogicalPlan, QueryError>,
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let optimized = |level: &Level| Ok::<_, QueryError>(optimize(session, coerce(session, plan(level)?)?)?);
    // Of calls that read different ranges each says its own above the table.
    let has_one_range = level.calls.windows(2).all(|pair| pair[0].bounds == pair[1].bounds);
    if let Some(kept) = session.config().get_extension::<KeptLevels>().filter(|_| has_one_range) {
        let stand_ins = instants(level);
        let key = Key(Arc::new(instead(level, &stand_ins)));
        let known =
            kept.cache.get(&key).await.filter(|known| Arc::ptr_eq(&known.schema, schema) || known.schema == *schema);
        let known = match known {
            Some(known) => Some(known),
            None => {
                let plan = optimized(&key.0)?;
                let is_fit = stand_ins.are_only_below(&plan)?;
                let known = is_fit.then(|| KeptLevel::new(plan, schema)).transpose()?.map(Arc::new);
                if let Some(known) = &known {
                    kept.cache.insert(key, Arc::clone(known)).await;
                }
                known
            }
        };
        if let Some(known) = known {
            return known.operators(&stand_ins, session).await;
        }
    }
    Ok(session.query_planner().create_physical_plan(&optimized(level)?, session).await?)
}

impl KeptLevel {
    fn new(plan: LogicalPlan, schema: &Arc<TableSchema>) -> Result<Self, QueryError> {
        let (columns, cpu) = (plan_columns(&plan)?, Handle::current());
        let operators = DroppedOnCpu::new(KeptOperators::default(), &cpu);
        Ok(Self { schema: Arc::clone(schema), plan: DroppedOnCpu::new(plan, &cpu), operators, columns })
    }

    async fn operators(
        &self,
        stand_ins: &StandIns,
        session: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
        let (Some(plan), Some(operators)) = (self.plan.get(), self.operators.get()) else {
            return Err(QueryError::Stopped);
        };
        Ok(Planner.create_kept(plan, stand_ins.exchanged(plan)?, session, operators).await?)
    }
}

/// The instants that a level means.
fn instants(level: &Level) -> StandIns {
    let bounds = level.calls.iter().map(|call| call.bounds).chain([level.bounds]);
    let meant: BTreeSet<i64> = bounds.flat_map(|(min, max)| [min, max]).filter(|at| is_bound(*at)).collect();
    StandIns::of(meant.into_iter().collect())
}

/// The level with stand-ins.
fn instead(level: &Level, stand_ins: &StandIns) -> Level {
    let mut level = level.clone();
    let bounds = level.calls.iter_mut().map(|call| &mut call.bounds).chain([&mut level.bounds]);
    for at in bounds.flat_map(|(min, max)| [min, max]) {
        *at = stand_ins.instead_of(*at).unwrap_or(*at);
    }
    level
}

fn is_bound(at: i64) -> bool {
    at > TIME_MIN && at < TIME_MAX
}
