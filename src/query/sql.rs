//! A text of SQL and its plan: one that is kept, or a new one.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::error::QueryError;
use super::literals::Literals;
use super::parameters::{self, Fit, ValuesForOthers};
use super::planned::{PlannedQuery, PlannedStatement, SqlWork, Work};
use super::plans::{Plans, Unbound};
use super::processors::Processors;
use super::running::Watch;
use super::session::{Sessions, now};
use super::stand_ins::StandIns;
use super::statement::{self, Parsed, Permitted};
use super::stream::DroppedOnCpu;
use super::{PlannedChange, Query, change, substrait};
use crate::engine::Engine;
use crate::model::Tables;

type Result<T> = std::result::Result<T, QueryError>;

/// Plans texts. Its work is done on the threads that plan.
pub(super) struct SqlPlanner {
    pub(super) engine: Arc<Engine>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) plans: Arc<Plans>,
    pub(super) text_bytes_max: usize,
    pub(super) cpu: Processors,
}

impl SqlPlanner {
    /// Plans a text that reads or changes something.
    ///
    /// # Errors
    /// Whatever parsing and planning say.
    pub(super) async fn plan(self, query: Query, permitted: Permitted, watch: Arc<Watch>) -> Result<PlannedStatement> {
        if let Some((session, unbound, stand_ins)) = self.for_others(&query).await? {
            let planned = self.planned(session, &unbound, &query, Some(stand_ins), watch)?;
            return Ok(PlannedStatement::Query(Box::new(planned)));
        }
        let kept = match is_kept(&query) {
            true => self.plans.get(&self.engine, &query.database, &query.text).await,
            false => None,
        };
        let kept = kept.filter(|kept| kept.reads || permitted == Permitted::ReadingAndChanging);
        if let Some(kept) = &kept
            && let Some((session, unbound, stand_ins)) = self.for_other_values(kept, &query).await?
        {
            let planned = self.planned(session, &unbound, &query, Some(stand_ins), watch)?;
            let planned = PlannedQuery { parameters: kept.parameters.clone(), ..planned };
            return Ok(PlannedStatement::Query(Box::new(planned)));
        }
        let mut session = match &kept {
            Some(kept) if kept.is_optimized() => self.sessions.open_without_names(),
            _ => self.sessions.open_for(&query, &query.access.read),
        };
        let unbound = match kept {
            Some(kept) => kept,
            None => {
                let statement = match statement::parse(&query.text, self.text_bytes_max, permitted)? {
                    Parsed::Reading(statement) => (statement, true),
                    Parsed::Changing(statement) => (statement, false),
                    Parsed::Table(change) => {
                        let change = PlannedChange::of_table(self.engine, &query, change, watch)?;
                        return Ok(PlannedStatement::Change(change));
                    }
                };
                if !statement.1 {
                    session = self.sessions.open_for(&query, &query.access.seen());
                }
                let unbound = Unbound::new(&session, statement, &self.engine, &query.database, &self.cpu.quick).await?;
                let unbound = Arc::new(unbound);
                if is_kept(&query) {
                    self.plans.keep(&query.database, &query.text, Arc::clone(&unbound)).await;
                }
                unbound
            }
        };
        match unbound.reads {
            true => self
                .planned(session, &unbound, &query, None, watch)
                .map(|planned| PlannedStatement::Query(Box::new(planned))),
            false => {
                change::plan(session, &unbound, query, self.engine, &self.cpu, watch).map(PlannedStatement::Change)
            }
        }
    }

    /// Plans a plan of Substrait, which only reads.
    ///
    /// # Errors
    /// As [`SqlPlanner::plan`].
    pub(super) async fn plan_substrait(self, query: Query, watch: Arc<Watch>) -> Result<PlannedQuery> {
        let session = self.sessions.open_for(&query, &query.access.read);
        let read = substrait::plan(&session, &query.plan, self.text_bytes_max).await?;
        let unbound = Unbound::of_plan(&session, (read, true), &self.engine, &query.database, &self.cpu.quick)?;
        self.planned(session, &Arc::new(unbound), &query, None, watch)
    }

    /// The plan of the text with stand-ins for the literals that it compares columns with, or for its bounds of time alone; `None` if it has none, or
    /// if these can't be exchanged in the plan. Then the text is planned as it is, and says what is wrong with it.
    async fn for_others(&self, query: &Query) -> Result<Option<(SessionState, Arc<Unbound>, StandIns)>> {
        if !is_kept(query) || query.text.len() > self.text_bytes_max {
            return Ok(None);
        }
        let Some(literals) = Literals::of(&query.text) else { return Ok(None) };
        let running = self.sessions.open_without_names();
        let instants = literals.instants();
        for literals in [Some(literals), instants].into_iter().flatten() {
            let (text, stand_ins) = literals.with_stand_ins(&query.text, now(&running));
            let made = async || self.with_stand_ins(query, &text, &stand_ins).await;
            if let Some(unbound) = self.exchangeable(query, &text, made).await {
                return Ok(Some((running, unbound, stand_ins)));
            }
        }
        Ok(None)
    }

    /// The plan of a text that came before, for other values of its parameters: those that columns are compared with are exchanged in it. `None`
    /// if it has no parameters, not all of them have values, or these can't be exchanged.
    async fn for_other_values(
        &self,
        kept: &Unbound,
        query: &Query,
    ) -> Result<Option<(SessionState, Arc<Unbound>, StandIns)>> {
        let has_values = parameters::missing(&kept.parameters, query).is_none();
        if !kept.reads || kept.parameters.is_empty() || !has_values {
            return Ok(None);
        }
        let values = parameters::for_others(&query.text, &kept.parameters, &query.parameters)?;
        if values.key.len() > self.text_bytes_max {
            return Ok(None);
        }
        let ValuesForOthers { key, planned_with, stand_ins } = values;
        let made = async || {
            let session = self.sessions.open_for(query, &query.access.read);
            let plan = Arc::unwrap_or_clone(kept.plan().ok()?).with_param_values(planned_with).ok()?;
            let unbound = Unbound::of_plan(&session, (plan, true), &self.engine, &query.database, &self.cpu.quick);
            unbound.ok()?.with_stand_ins(&session, &stand_ins, &self.cpu.quick).ok()
        };
        let unbound = self.exchangeable(query, &key, made).await;
        Ok(unbound.map(|unbound| (self.sessions.open_without_names(), unbound, stand_ins)))
    }

    /// The plan with stand-ins that is kept by this key, or is made now; `None` if these can't be exchanged in it.
    async fn exchangeable(
        &self,
        query: &Query,
        key: &str,
        made: impl AsyncFnOnce() -> Option<Unbound>,
    ) -> Option<Arc<Unbound>> {
        if let Some(known) = self.plans.get(&self.engine, &query.database, key).await {
            return known.is_exchangeable.then_some(known);
        }
        if self.plans.is_refused(&query.database, key) {
            return None;
        }
        let Some(unbound) = Box::pin(made()).await.map(Arc::new) else {
            self.plans.refuse(&query.database, key).await;
            return None;
        };
        self.plans.keep(&query.database, key, Arc::clone(&unbound)).await;
        unbound.is_exchangeable.then_some(unbound)
    }

    /// What is wrong with the text is told where it is planned as it is.
    async fn with_stand_ins(&self, query: &Query, text: &str, stand_ins: &StandIns) -> Option<Unbound> {
        let Ok(Parsed::Reading(statement)) = statement::parse(text, usize::MAX, Permitted::Reading) else {
            return None;
        };
        let session = self.sessions.open_for(query, &query.access.read);
        let unbound = Unbound::new(&session, (statement, true), &self.engine, &query.database, &self.cpu.quick).await;
        unbound.ok()?.with_stand_ins(&session, stand_ins, &self.cpu.quick).ok()
    }

    fn planned(
        &self,
        session: SessionState,
        unbound: &Arc<Unbound>,
        query: &Query,
        stand_ins: Option<StandIns>,
        watch: Arc<Watch>,
    ) -> Result<PlannedQuery> {
        let missing = parameters::missing(&unbound.parameters, query);
        let plan = bound(&session, unbound, query, missing.is_some())?;
        let form = unbound.form(&plan)?;
        let (schema, is_ordered, lane) = (SchemaRef::clone(form.schema()), form.is_ordered, form.lane);
        let work = SqlWork { session, plan, form, unbound: Arc::clone(unbound), stand_ins };
        Ok(PlannedQuery {
            schema,
            is_ordered,
            parameters: unbound.parameters.clone(),
            missing,
            lane,
            watch,
            work: DroppedOnCpu::new(Work::Sql(Box::new(work)), &self.cpu.quick),
            cpu: self.cpu.clone(),
        })
    }
}

/// A plan that is kept is one of who may read all tables.
fn is_kept(query: &Query) -> bool {
    query.access.read == Tables::All
}

/// The plan with values and settled types; without all values, one that has the same columns as far as the text settles them.
pub(super) fn bound(
    session: &SessionState,
    unbound: &Unbound,
    query: &Query,
    values_are_missing: bool,
) -> Result<Arc<LogicalPlan>> {
    if unbound.parameters.is_empty() {
        return unbound.plan();
    }
    if !values_are_missing {
        let fit = if unbound.reads { Fit::Loose } else { Fit::Exact };
        let plan = Arc::unwrap_or_clone(unbound.plan()?);
        return coerce(session, parameters::bind(plan, &unbound.parameters, &query.parameters, fit)?).map(Arc::new);
    }
    let with_nulls = parameters::bind_nulls(Arc::unwrap_or_clone(unbound.plan()?), &unbound.parameters);
    // Where the text doesn't say the types, nulls may not fit; the columns are good enough then.
    with_nulls.and_then(|plan| coerce(session, plan).map(Arc::new)).or_else(|_| unbound.plan())
}

/// Settles the types of all expressions, so that the announced schema is that of the result: only then is it
/// known, for instance, that the union of integers and floats has floats.
pub(super) fn coerce(session: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    // EXPLAIN shows the plan as it was written; it is coerced when it runs.
    if let LogicalPlan::Explain(_) = plan {
        return Ok(plan);
    }
    Ok(session.analyzer().execute_and_check(plan, session.config_options(), |_, _| {})?)
}
