//! Plans of levels that are kept: what is planned is a level with stand-ins for its bounds of time and the tags that it asks for. All else that a level says
//! is part of what its plan is found by, and so are the columns of the table.

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
use super::level::{From, Level, Node, SlotSource};
use super::time::{TIME_MAX, TIME_MIN};
use super::value::Value;
use crate::model::TableSchema;
use crate::syntax::influxql::Operator;

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
        let (instead, stand_ins) = with_stand_ins(level);
        let key = Key(Arc::new(instead));
        let known =
            kept.cache.get(&key).await.filter(|known| Arc::ptr_eq(&known.schema, schema) || known.schema == *schema);
        let known = match known {
            Some(known) => Some(known),
            None => {
                let placed = stand_ins.placed(coerce(session, plan(&key.0)?)?)?;
                let plan = placed.map(|plan| optimize(session, plan)).transpose()?;
                let is_fit = |plan: &LogicalPlan| StandIns::are_only_below(plan).unwrap_or(false);
                let known = plan.filter(is_fit).map(|plan| KeptLevel::new(plan, schema)).transpose()?.map(Arc::new);
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

/// The level with stand-ins for the instants and the texts that it means, each once, and instants in their order: so what was concluded while
/// filters were made holds for what is meant.
fn with_stand_ins(level: &Level) -> (Level, StandIns) {
    let mut instead = level.clone();
    let bounds = level.calls.iter().map(|call| call.bounds).chain([level.bounds]);
    let meant: BTreeSet<i64> = bounds.flat_map(|(min, max)| [min, max]).filter(|at| is_bound(*at)).collect();
    let (instants, mut texts) = (meant.into_iter().collect::<Vec<_>>(), Vec::new());
    let bounds = instead.calls.iter_mut().map(|call| &mut call.bounds).chain([&mut instead.bounds]);
    for at in bounds.flat_map(|(min, max)| [min, max]) {
        *at = instants.binary_search(at).map_or(*at, StandIns::instant);
    }
    let is_tag = |slot: usize| level.inputs.iter().all(|input| matches!(input.slots[slot], SlotSource::Tag(_)));
    if let Some(condition) = &mut instead.condition {
        exchange_tags(condition, &is_tag, &mut texts);
    }
    (instead, StandIns::of(instants, texts))
}

/// Exchanges the values of tags in those parts of a condition that say nothing else: they become filters of the table.
fn exchange_tags(condition: &mut Node, is_tag: &impl Fn(usize) -> bool, texts: &mut Vec<String>) {
    match condition {
        Node::Binary { operator: Operator::And, left, right } => {
            exchange_tags(left, is_tag, texts);
            exchange_tags(right, is_tag, texts);
        }
        other if compares_tags(other, is_tag) => exchange_all(other, texts),
        _ => {}
    }
}

/// Whether a condition compares tags with texts, and no more. The empty text is a tag that is absent.
fn compares_tags(condition: &Node, is_tag: &impl Fn(usize) -> bool) -> bool {
    let Node::Binary { operator, left, right } = condition else { return false };
    match (operator, left.as_ref(), right.as_ref()) {
        (Operator::And | Operator::Or, left, right) => compares_tags(left, is_tag) && compares_tags(right, is_tag),
        (Operator::Equal | Operator::NotEqual, Node::Slot(slot), Node::Literal(Value::String(text))) => {
            is_tag(*slot) && !text.is_empty()
        }
        _ => false,
    }
}

fn exchange_all(condition: &mut Node, texts: &mut Vec<String>) {
    match condition {
        Node::Binary { left, right, .. } => {
            exchange_all(left, texts);
            exchange_all(right, texts);
        }
        Node::Literal(Value::String(text)) => {
            let place = texts.iter().position(|known| **known == **text).unwrap_or(texts.len());
            if place == texts.len() {
                texts.push(text.to_string());
            }
            *text = StandIns::text(place).into();
        }
        _ => {}
    }
}

fn is_bound(at: i64) -> bool {
    at > TIME_MIN && at < TIME_MAX
}
