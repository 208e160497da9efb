//! A query in parts, each of which can be fetched by itself: in any order, at the same time, and again.
//!
//! The parts are stretches of time that leave no gap and don't overlap. They are computed in one session, which keeps what each table
//! was when the query was cut; so a row that comes or goes meanwhile is in all fetches or in none. A point has one time, so
//! its writes are merged within one part.
//!
//! Only what looks at each row by itself can be cut like that: columns, expressions and filters over one table, in no order or in
//! that of time. What groups, limits or joins needs all rows first, and so there is nothing to be gained by parts.
//!
//! Holding a cut query holds its snapshot: files stay in the store, and rows that were buffered stay in memory.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Sort, TableScan, Volatility, lit};
use futures::TryFutureExt;

use super::error::QueryError;
use super::planned::{PlannedQuery, Work};
use super::processors::Processors;
use super::running::{Asked, Lane};
use super::scan;
use super::stream::{DroppedOnCpu, QueryStream, Reading, on_cpu};
use super::table::Table;
use crate::error::{Error, Result};
use crate::model::{TIME_COLUMN, TimeRange};

/// Fewer rows than that are no part of their own: a stream costs as much as some thousand rows.
const ROWS_LEAST: u64 = 8192;

/// Instants by which the rows of one file or run are taken to be spread.
const INSTANTS_PER_UNIT: u64 = 64;

/// A query that is cut into parts. Dropping it lets go of its snapshot.
#[derive(Debug)]
pub struct PartedQuery {
    schema: SchemaRef,
    work: DroppedOnCpu<(SessionState, LogicalPlan)>,
    /// In the order of the result, if it has one.
    parts: Vec<TimeRange>,
    /// Each fetch of a part is a query of its own to whoever watches.
    asked: Asked,
    cpu: Processors,
}

impl PlannedQuery {
    /// Cuts the query into at most `count` parts of about as many rows; `None` if that can't be done, or wouldn't help.
    ///
    /// # Errors
    /// `NotFound` or the like if the table is gone, and whatever looking at its rows may say.
    pub async fn into_parts(self, count: usize) -> Result<Option<PartedQuery>> {
        let Self { schema, work, missing, cpu, watch, .. } = self;
        let asked = watch.asked();
        let (None, Some(Work::Sql(work))) = (missing, work.take()) else { return Ok(None) };
        let quick = cpu.quick.clone();
        let cut = async move {
            let (session, plan) = work.meant(&cpu.quick)?;
            let Some(Shape { table, filters, descends }) = shape(&plan)? else { return Ok(None) };
            let provider = source_as_provider(&table.source)?;
            let Some(table) = provider.downcast_ref::<Table>() else { return Ok(None) };
            let filters = unnormalize_cols(filters); // as a scan is given them
            let (snapshot, access) = (table.snapshot(&session)?, scan::FileAccess::of(&session)?);
            let spans = scan::spans(&session, snapshot.as_ref(), &access, &filters).await?;
            let mut parts = cut(&spans, count);
            if descends {
                parts.reverse();
            }
            let work = DroppedOnCpu::new((session, plan), &cpu.quick);
            Ok((parts.len() > 1).then_some(PartedQuery { schema, work, parts, asked, cpu }))
        };
        Ok(on_cpu(&quick, cut).await?)
    }
}

impl PartedQuery {
    /// What every batch of every part has.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many parts there are: at least two.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// Starts a part. Together the parts are the rows of the moment in which the query was cut.
    ///
    /// # Errors
    /// `NotFound` if there is no such part; and as [`PlannedQuery::run`].
    pub async fn run(&self, part: usize) -> Result<QueryStream> {
        let time = *self.parts.get(part).ok_or_else(|| Error::not_found(format!("the result has no part {part}")))?;
        let (session, plan) = self.work.get().cloned().ok_or(QueryError::Stopped)?;
        let watch = self.asked.again(None);
        watch.admit(Lane::Rows).await?;
        let running = Arc::clone(&watch);
        let (schema, cpu) = (SchemaRef::clone(&self.schema), self.cpu.clone());
        let started = on_cpu(&self.cpu.quick, async move {
            let plan = session.create_physical_plan(&within(plan, time)?).await?;
            let (rows, threads) = cpu.start(plan, running.context(&session)).await?;
            Ok(QueryStream::start(&threads, schema, rows, Reading { watch: running, is_last: true }).await)
        });
        watch.until_stopped(Box::pin(started.map_err(Error::from))).await
    }
}

/// What a plan must look like to be cut.
struct Shape<'a> {
    table: &'a TableScan,
    /// The filters right above the table.
    filters: Vec<Expr>,
    /// Whether the newest part comes first.
    descends: bool,
}

fn shape(plan: &LogicalPlan) -> Result<Option<Shape<'_>>, QueryError> {
    let (mut node, mut order, mut filters) = (plan, None, Vec::new());
    loop {
        if !node.expressions().iter().all(is_of_its_row_alone) {
            return Ok(None);
        }
        node = match node {
            LogicalPlan::Sort(Sort { expr, input, fetch: None }) if order.is_none() => {
                let Some(first) = expr.first() else { return Ok(None) };
                let Expr::Column(column) = &first.expr else { return Ok(None) };
                order = Some((column.name.clone(), !first.asc));
                input.as_ref()
            }
            LogicalPlan::Projection(projection) => {
                if let Some((name, _)) = &mut order {
                    let is_it = |expression: &&Expr| {
                        expression.schema_name().to_string() == *name || {
                            matches!(expression, Expr::Alias(alias) if alias.name == *name)
                                || matches!(expression, Expr::Column(column) if column.name == *name)
                        }
                    };
                    let candidates: Vec<&Expr> = projection.expr.iter().filter(is_it).map(without_alias).collect();
                    let [Expr::Column(column)] = candidates.as_slice() else { return Ok(None) };
                    *name = column.name.clone();
                }
                filters.clear(); // they may speak of other names
                projection.input.as_ref()
            }
            LogicalPlan::Filter(filter) => {
                filters.extend(split_conjunction(&filter.predicate).into_iter().cloned());
                filter.input.as_ref()
            }
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            LogicalPlan::TableScan(table) if table.fetch.is_none() => {
                let descends = match &order {
                    Some((name, _)) if name != TIME_COLUMN => return Ok(None),
                    Some((_, descends)) => *descends,
                    None => false,
                };
                return Ok(Some(Shape { table, filters, descends }));
            }
            _ => return Ok(None),
        };
    }
}

fn without_alias(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => without_alias(&alias.expr),
        other => other,
    }
}

/// Whether an expression gives the same for a row whenever it is computed, and looks at nothing else.
fn is_of_its_row_alone(expression: &Expr) -> bool {
    let looks_further = expression.exists(|part| {
        Ok(match part {
            // now() is settled when the session begins.
            Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Volatile,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => true,
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::Unnest(_) | Expr::OuterReferenceColumn(..) => {
                true
            }
            _ => false,
        })
    });
    looks_further.is_ok_and(|looks_further| !looks_further)
}

/// The plan over the rows of its table with these times.
fn within(plan: LogicalPlan, time: TimeRange) -> Result<LogicalPlan, QueryError> {
    let with_times = plan.transform_up(|node| {
        let LogicalPlan::TableScan(table) = &node else { return Ok(Transformed::no(node)) };
        let column = Expr::Column(Column::new(Some(table.table_name.clone()), TIME_COLUMN));
        let instant = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
        let from = column.clone().gt_eq(instant(time.min.as_nanos()));
        let to = column.lt_eq(instant(time.max.as_nanos()));
        Ok(Transformed::yes(LogicalPlanBuilder::from(node).filter(from.and(to))?.build()?))
    });
    Ok(with_times?.data)
}

/// What of some stretches of time lies from the first to the last instant, if their rows lie evenly.
pub(super) fn between(spans: &[(TimeRange, u64)], (first, last): (i64, i64)) -> Vec<(TimeRange, u64)> {
    let length = |first: i64, last: i64| u128::from(last.abs_diff(first)) + 1;
    let of_span = |(time, rows): &(TimeRange, u64)| {
        let (min, max) = (time.min.as_nanos(), time.max.as_nanos());
        let (from, to) = (min.max(first), max.min(last));
        let share = || u128::from(*rows) * length(from, to) / length(min, max);
        (from <= to).then(|| (TimeRange::from_nanos(from, to), u64::try_from(share()).unwrap_or(*rows)))
    };
    spans.iter().filter_map(of_span).collect()
}

/// Stretches of time with about as many rows each, oldest first: every instant is in exactly one.
pub(super) fn cut(spans: &[(TimeRange, u64)], count: usize) -> Vec<TimeRange> {
    let rows: u64 = spans.iter().map(|(_, rows)| rows).sum();
    let count = (count as u64).min(rows / ROWS_LEAST).max(1);
    // Instants at which so many rows are taken to lie.
    let mut instants: Vec<(i64, u64)> = Vec::new();
    for (time, rows) in spans {
        let (min, max) = (i128::from(time.min.as_nanos()), i128::from(time.max.as_nanos()));
        let steps = INSTANTS_PER_UNIT.min(*rows).max(1);
        for step in 0..steps {
            let at = min + (max - min) * i128::from(step) / i128::from(steps);
            instants.push((i64::try_from(at).unwrap_or(i64::MAX), rows / steps));
        }
    }
    instants.sort_unstable();
    let total: u64 = instants.iter().map(|(_, rows)| rows).sum();
    let (mut parts, mut begin, mut before) = (Vec::new(), i64::MIN, 0);
    for (at, rows) in instants {
        let wanted = (parts.len() as u64 + 1) * total / count;
        if before >= wanted && (parts.len() as u64) + 1 < count && at > begin {
            parts.push(TimeRange::from_nanos(begin, at - 1));
            begin = at;
        }
        before += rows;
    }
    parts.push(TimeRange::from_nanos(begin, i64::MAX));
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_instant_is_in_one_part(
            spans in prop::collection::vec((any::<i64>(), 0_i64..1 << 50, 0_u64..100_000), 0..40),
            count in 1_usize..70,
        ) {
            let spans: Vec<(TimeRange, u64)> = spans
                .into_iter()
                .map(|(min, length, rows)| (TimeRange::from_nanos(min, min.saturating_add(length)), rows))
                .collect();
            let parts = cut(&spans, count);
            prop_assert!(!parts.is_empty() && parts.len() <= count);
            prop_assert_eq!(parts[0].min.as_nanos(), i64::MIN);
            prop_assert_eq!(parts[parts.len() - 1].max.as_nanos(), i64::MAX);
            for pair in parts.windows(2) {
                prop_assert!(pair[0].min <= pair[0].max);
                prop_assert_eq!(pair[0].max.as_nanos() + 1, pair[1].min.as_nanos());
            }
        }
    }

    #[test]
    fn rows_between_two_instants_are_a_share() {
        let spans = [(TimeRange::from_nanos(0, 99), 1000), (TimeRange::from_nanos(200, 299), 10)];
        let counted = |first, last| -> Vec<(i64, i64, u64)> {
            let between = between(&spans, (first, last));
            between.iter().map(|(time, rows)| (time.min.as_nanos(), time.max.as_nanos(), *rows)).collect()
        };
        assert_eq!(counted(i64::MIN, i64::MAX), [(0, 99, 1000), (200, 299, 10)]);
        assert_eq!(counted(90, 199), [(90, 99, 100)]);
        assert_eq!(counted(50, 200), [(50, 99, 500), (200, 200, 0)]);
        assert_eq!(counted(100, 199), []);
    }

    #[test]
    fn parts_have_about_as_many_rows_wherever_they_lie() {
        let spans = [(TimeRange::from_nanos(0, 999), 100_000), (TimeRange::from_nanos(1_000_000, 1_000_999), 100_000)];
        let inner: Vec<i64> = cut(&spans, 4).iter().skip(1).map(|part| part.min.as_nanos()).collect();
        assert_eq!(inner, [499, 1_000_000, 1_000_499]);
        assert_eq!(cut(&[(TimeRange::from_nanos(0, 999), 20_000)], 8).len(), 2, "a part has 8192 rows");
    }
}
