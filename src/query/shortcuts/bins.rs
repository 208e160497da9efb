//! The first or the last bins of time: `GROUP BY` a bin, `ORDER BY` it, `LIMIT n`, in SQL and in InfluxQL.
//!
//! Their groups are made of the rows at one end of the table's time. From where on is not known before: a bin without rows makes no group, and what filters
//! and `HAVING` leave of the others nobody knows. So they are looked for in as many bins as are wanted first, and in stretches that are many times longer while there are
//! too few ([`FirstBinsExec`]). A stretch ends where a bin does, so that each of its groups is whole.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue, internal_datafusion_err};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Aggregate, Expr, FetchType, Filter, LogicalPlan, Sort, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;

use super::bins_exec::FirstBinsExec;
use super::path::{Level, level_of, through};
use super::{NAME, simplifier};
use crate::model::TIME_COLUMN;
use crate::query::influxql::BUCKET;
use crate::query::kept_operators::{lower_part, with_lower_part};
use crate::query::scan;
use crate::query::table::Table;

/// The functions that make bins: none is later than a time in it, and the bin of a bin is that bin.
const BINS: [&str; 3] = ["date_bin", "date_trunc", BUCKET];

/// More rows are not looked for at one end.
const ROWS_MAX: usize = 10_000;

/// So much longer is the next stretch.
const LONGER: i64 = 16;

/// Stretches longer than this part of all are not worth it.
const WORTH: i64 = 4;

/// A plan whose answer is in some stretch of time at one end of its table.
#[derive(Debug)]
pub(in crate::query) struct FirstBins {
    /// So many rows are enough.
    rows: usize,
    /// The lower part of the plan that is tried first.
    first: LogicalPlan,
    /// Those that come then, of ever longer stretches, and of all at last.
    then: Vec<LogicalPlan>,
}

impl FirstBins {
    /// Of a plan as the optimizer leaves it, whose lower part is `lower`, or its own. `None` if something else is asked for, or if the shortest
    /// stretch is not much shorter than all.
    ///
    /// # Errors
    /// If its table is gone.
    pub(in crate::query) fn of(
        plan: &LogicalPlan,
        lower: Option<&LogicalPlan>,
        session: &dyn Session,
    ) -> DataFusionResult<Option<Self>> {
        let Some((asked, lower)) = BinsAtEnd::of(plan).zip(lower.or(lower_part(plan))) else { return Ok(None) };
        let mut stretches = asked.stretches(lower, session)?.into_iter();
        let Some(first) = stretches.next() else { return Ok(None) };
        Ok(Some(Self { rows: asked.rows, first, then: stretches.chain([lower.clone()]).collect() }))
    }

    /// The lower part that is tried first.
    pub(in crate::query) fn first(&self) -> &LogicalPlan {
        &self.first
    }

    /// The operators of `plan` out of those for its first stretch.
    ///
    /// # Errors
    /// None but defects.
    pub(in crate::query) fn or_more(
        &self,
        first: Arc<dyn ExecutionPlan>,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let session = session.as_any().downcast_ref::<SessionState>();
        let session = session.ok_or_else(|| internal_datafusion_err!("a session of another kind"))?.clone();
        let then = self.then.iter().map(|lower| with_lower_part(plan, lower)).collect::<DataFusionResult<_>>()?;
        Ok(Arc::new(FirstBinsExec::try_new(first, then, self.rows, session)?))
    }
}

/// What is asked for of the bins at one end.
#[derive(Debug)]
struct BinsAtEnd {
    rows: usize,
    /// Whether a bin may make several of them.
    is_divided: bool,
    is_last: bool,
    /// In terms of the lower part, with one column.
    bin: Expr,
    time: Expr,
}

impl BinsAtEnd {
    /// What a plan, as the optimizer leaves it, asks for; `None` if that is something else.
    fn of(plan: &LogicalPlan) -> Option<Self> {
        let lower = lower_part(plan)?;
        let (rows, sort) = sort_with_limit(plan)?;
        let first = sort.expr.first()?;
        let (aggregate, key) = aggregate_below(&sort.input, first.expr.clone())?;
        let Expr::Column(key) = key else { return None };
        let place = aggregate.schema.maybe_index_of_column(&key)?;
        let mut bin = aggregate.group_expr.get(place)?.clone().unalias_nested().data;
        if aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
            return None;
        }
        let mut node = aggregate.input.as_ref();
        while !std::ptr::eq(node, lower) {
            bin = through(bin, &level(node)?)?;
            node = only_input(node)?;
        }
        let columns = bin.column_refs();
        let [time] = columns.into_iter().collect::<Vec<_>>()[..] else { return None };
        let is_bin = matches!(&bin, Expr::ScalarFunction(call) if BINS.contains(&call.func.name()));
        let time = Expr::Column(time.clone());
        (is_bin && is_time_of_table(lower, &time) && (1..=ROWS_MAX).contains(&rows)).then_some(Self {
            rows,
            is_divided: aggregate.group_expr.len() > 1,
            is_last: !first.asc,
            bin,
            time,
        })
    }

    /// The lower part of the plan with the bounds of stretches at the end, the shortest first; none if all is hardly longer.
    ///
    /// # Errors
    /// If its table is gone.
    fn stretches(&self, lower: &LogicalPlan, session: &dyn Session) -> DataFusionResult<Vec<LogicalPlan>> {
        let takes_shortcuts = session
            .as_any()
            .downcast_ref::<SessionState>()
            .filter(|session| session.optimizer().rules.iter().any(|rule| rule.name() == NAME));
        let Some((session, (table, filters))) = takes_shortcuts.zip(table_of(lower)) else { return Ok(Vec::new()) };
        let snapshot = table.snapshot(session)?;
        let Some((first, last)) = scan::extent(&snapshot, filters) else { return Ok(Vec::new()) };
        let simplifier = simplifier(session, Arc::new(DFSchema::empty()));
        let bin = |nanos: i64| self.bin_of(nanos, &simplifier);
        let mut stretches = Vec::new();
        let Some(width) = bin(last).and_then(|begin| begin.checked_sub(bin(begin.checked_sub(1)?)?)) else {
            return Ok(stretches);
        };
        // One more, since the time at the end is somewhere in a bin.
        let rows = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let bins = if self.is_divided { rows / LONGER } else { rows }.saturating_add(1);
        let mut length = bins.saturating_mul(width);
        while length > 0 && length < last.saturating_sub(first) / WORTH {
            let end = if self.is_last { last.checked_sub(length) } else { first.checked_add(length) };
            // Rows before the begin of a bin belong to others, and those from there on to it and later ones.
            let is_begin = |end: &i64| bin(*end) == Some(*end) && bin(end.saturating_sub(1)) != Some(*end);
            let Some(end) = end.and_then(bin).filter(is_begin) else { break };
            let end = lit(ScalarValue::TimestampNanosecond(Some(end), None));
            let is_in = match self.is_last {
                true => self.time.clone().gt_eq(end),
                false => self.time.clone().lt(end),
            };
            stretches.push(bounded(lower, is_in)?);
            length = length.saturating_mul(LONGER);
        }
        Ok(stretches)
    }

    /// The bin of a time, in nanoseconds.
    fn bin_of(&self, nanos: i64, simplifier: &ExprSimplifier) -> Option<i64> {
        let time = lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
        let bin = self.bin.clone().transform(|part| {
            Ok(if part == self.time { Transformed::yes(time.clone()) } else { Transformed::no(part) })
        });
        match simplifier.simplify(bin.ok()?.data).ok()? {
            Expr::Literal(ScalarValue::TimestampNanosecond(bin, None), _) => bin,
            _ => None,
        }
    }
}

/// The sort at the top of a plan, and how many of its rows are wanted.
fn sort_with_limit(plan: &LogicalPlan) -> Option<(usize, &Sort)> {
    let (mut node, mut rows) = (plan, None);
    loop {
        node = match node {
            LogicalPlan::Sort(sort) => return Some((rows.or(sort.fetch)?, sort)),
            LogicalPlan::Limit(limit) => {
                let FetchType::Literal(Some(fetch)) = limit.get_fetch_type().ok()? else { return None };
                rows = Some(fetch);
                &limit.input
            }
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => only_input(node)?,
            _ => return None,
        };
    }
}

/// The aggregation below a sort, and what a column of the sort is of it. Groups may be left out in between.
fn aggregate_below(mut node: &LogicalPlan, mut key: Expr) -> Option<(&Aggregate, Expr)> {
    loop {
        match node {
            LogicalPlan::Aggregate(aggregate) => return Some((aggregate, key)),
            LogicalPlan::Filter(_) => {}
            _ => key = through(key, &level(node)?)?,
        }
        node = only_input(node)?;
    }
}

/// What the names above a node that only names anew stand for below it.
fn level(node: &LogicalPlan) -> Option<Level> {
    match node {
        LogicalPlan::Projection(projection) => Some(level_of(projection)),
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema().columns().into_iter().map(Expr::Column);
            Some(alias.schema.columns().into_iter().zip(inner).collect())
        }
        _ => None,
    }
}

fn only_input(node: &LogicalPlan) -> Option<&LogicalPlan> {
    match node.inputs()[..] {
        [input] => Some(input),
        _ => None,
    }
}

/// The table that a lower part reads, and the filters that it is told.
fn table_of(lower: &LogicalPlan) -> Option<(Table, &[Expr])> {
    match lower {
        LogicalPlan::Filter(filter) => table_of(&filter.input),
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let provider = source_as_provider(&scan.source).ok()?;
            Some((provider.downcast_ref::<Table>()?.clone(), &scan.filters))
        }
        _ => None,
    }
}

fn is_time_of_table(lower: &LogicalPlan, time: &Expr) -> bool {
    table_of(lower).is_some() && matches!(time, Expr::Column(column) if column.name == TIME_COLUMN)
}

/// A lower part of which only rows count that are in a stretch, too.
fn bounded(lower: &LogicalPlan, is_in: Expr) -> DataFusionResult<LogicalPlan> {
    let (predicate, mut scan) = match lower {
        LogicalPlan::Filter(filter) => (filter.predicate.clone().and(is_in.clone()), filter.input.as_ref().clone()),
        whole => (is_in.clone(), whole.clone()),
    };
    if let LogicalPlan::TableScan(scan) = &mut scan {
        scan.filters.push(is_in);
    }
    Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(scan))?))
}
