//! From when to when gaps are filled: what the rows under an aggregation are filtered by.
//!
//! The walk goes down from the aggregation and follows the one column that the bin is made of: through filters, whose conditions on
//! that column it collects; through sub-queries, joins, sorts and aggregations, whose expressions it puts in its place. Conditions
//! joined by AND narrow the range, those joined by OR span it. What it does not understand only leaves the range wider.
//!
//! While planning only the form of the conditions is known: `now()` has no value yet. The values are asked for when the query runs.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ExprSchema, ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{Between, Cast, InList, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, LogicalPlan, Operator};

use super::super::wall_clock::TZ;
use super::node::GapFill;

/// What the times that are binned are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Source {
    /// The time that is binned, made of `column`.
    pub(super) time: Expr,
    /// A column of times.
    pub(super) column: Column,
    pub(super) column_type: DataType,
    /// What holds for the column in every row.
    pub(super) demand: Demand,
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Demand {
    /// All of these.
    All(Vec<Demand>),
    /// At least one of these.
    Any(Vec<Demand>),
    /// `left`, which grows with the column, stands so to `bound`, which has no column.
    Compare { left: Box<Expr>, operator: Operator, bound: Box<Expr> },
    /// Whatever it is, it bounds nothing.
    Unknown,
}

/// Which values a column may have, both ends included, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Range {
    const ALL: Self = Self { first: i64::MIN, last: i64::MAX };
    const NONE: Self = Self { first: i64::MAX, last: i64::MIN };

    /// Whether no value is left.
    pub(super) fn is_empty(self) -> bool {
        self.first > self.last
    }

    fn and(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    fn or(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self { first: self.first.min(other.first), last: self.last.max(other.last) },
        }
    }
}

impl Source {
    /// What `time`, an expression over the rows of `input`, is made of.
    ///
    /// # Errors
    /// If that is not one column of times.
    pub(super) fn find(input: &LogicalPlan, time: &Expr) -> DataFusionResult<Self> {
        let Some(column) = only_column(time) else {
            return plan_err!("gaps can only be filled in a column of times: date_bin_gapfill takes one, not {time}");
        };
        let mut walk = Walk { time: time.clone(), column, conditions: Vec::new() };
        let end = walk.descend(input)?;
        let column_type = end.schema().field_from_column(&walk.column)?.data_type().clone();
        if !matches!(column_type, DataType::Timestamp(_, _)) {
            return plan_err!(
                "gaps can only be filled in a column of times: {} is {column_type}",
                walk.column.flat_name()
            );
        }
        let demand = Demand::All(walk.conditions.iter().map(Demand::of).collect());
        Ok(Self { time: walk.time, column: walk.column, column_type, demand })
    }

    /// Whether the range has both ends, so far as that can be seen before it has values.
    ///
    /// # Errors
    /// If one is missing, in the words of InfluxDB and with what to do.
    pub(super) fn check_bounds(&self) -> DataFusionResult<()> {
        let name = &self.column.name;
        match self.demand.bounds() {
            (true, true) => Ok(()),
            (false, false) => plan_err!(
                "gap-filling query is missing both upper and lower time bounds: say in WHERE which times to fill, as in \
                 {name} >= now() - INTERVAL '1 hour' AND {name} < now()"
            ),
            (false, true) => plan_err!(
                "gap-filling query is missing lower time bound: say in WHERE from when on to fill, as in {name} >= '2024-01-01'"
            ),
            (true, false) => plan_err!(
                "gap-filling query is missing upper time bound: say in WHERE up to when to fill, as in {name} < now()"
            ),
        }
    }

    /// An expression over the column at one of its values.
    pub(super) fn at(&self, expr: &Expr, value: i64) -> DataFusionResult<Expr> {
        let value = ScalarValue::Int64(Some(value)).cast_to(&self.column_type)?;
        replaced(expr.clone(), &Expr::Literal(value, None))
    }
}

/// The way down from an aggregation.
struct Walk {
    time: Expr,
    /// The column that `time` and the conditions are over, in the plan that the walk is at.
    column: Column,
    conditions: Vec<Expr>,
}

impl Walk {
    /// Goes down as far as the column can be followed; answers where it ends.
    fn descend<'a>(&mut self, mut plan: &'a LogicalPlan) -> DataFusionResult<&'a LogicalPlan> {
        loop {
            let index = plan.schema().index_of_column(&self.column)?;
            plan = match plan {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        let is_of_column = only_column(condition)
                            .is_some_and(|column| plan.schema().maybe_index_of_column(&column) == Some(index));
                        if is_of_column && !condition.is_volatile() {
                            self.conditions.push(condition.clone());
                        }
                    }
                    &filter.input
                }
                LogicalPlan::Projection(projection) => {
                    if !self.is_now(&projection.expr[index])? {
                        return Ok(plan);
                    }
                    &projection.input
                }
                LogicalPlan::Aggregate(aggregate) => {
                    let group = aggregate.group_expr.get(index);
                    let is_set = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_), ..]);
                    match group {
                        Some(group) if !is_set && self.is_now(group)? => &aggregate.input,
                        _ => return Ok(plan),
                    }
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let below = Column::from(alias.input.schema().qualified_field(index));
                    self.is_now(&Expr::Column(below))?;
                    &alias.input
                }
                LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<GapFill>() {
                    Some(node) if node.time == index => {
                        let below = Column::from(node.input.schema().qualified_field(index));
                        self.is_now(&Expr::Column(below))?;
                        &node.input
                    }
                    _ => return Ok(plan),
                },
                LogicalPlan::Sort(sort) => &sort.input,
                LogicalPlan::Limit(limit) => &limit.input,
                LogicalPlan::Repartition(repartition) => &repartition.input,
                LogicalPlan::Distinct(Distinct::All(input)) => input,
                LogicalPlan::Window(window) if window.input.schema().has_column(&self.column) => &window.input,
                LogicalPlan::Join(join) if join.left.schema().has_column(&self.column) => &join.left,
                LogicalPlan::Join(join) if join.right.schema().has_column(&self.column) => &join.right,
                _ => return Ok(plan),
            };
        }
    }

    /// Puts what the column is made of in its place, if that is one column too.
    fn is_now(&mut self, made_of: &Expr) -> DataFusionResult<bool> {
        let made_of = made_of.clone().unalias_nested().data;
        let Some(column) = only_column(&made_of).filter(|_| !made_of.is_volatile()) else { return Ok(false) };
        self.time = replaced(self.time.clone(), &made_of)?;
        for condition in &mut self.conditions {
            *condition = replaced(condition.clone(), &made_of)?;
        }
        self.column = column;
        Ok(true)
    }
}

/// The column that an expression is over, if it is over one alone and asks no other query.
fn only_column(expr: &Expr) -> Option<Column> {
    let mut column = None;
    let mut is_one = true;
    let walked = expr.apply(|expr| {
        match expr {
            Expr::Column(found) => is_one &= column.replace(found.clone()).is_none_or(|known| known == *found),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) => {
                is_one = false;
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    column.filter(|_| is_one && walked.is_ok())
}

/// Whether an expression has one value for the whole query.
fn is_constant(expr: &Expr) -> bool {
    let is_query = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::Column(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
        ))
    };
    !expr.is_volatile() && !expr.exists(is_query).unwrap_or(true)
}

/// `expr`, which is over one column, with something else in the place of it.
fn replaced(expr: Expr, by: &Expr) -> DataFusionResult<Expr> {
    let replace = |expr: Expr| {
        Ok(match expr {
            Expr::Column(_) => Transformed::new(by.clone(), true, TreeNodeRecursion::Jump),
            other => Transformed::no(other),
        })
    };
    expr.transform_down(replace).map(|transformed| transformed.data)
}

/// Whether a greater value of the column never makes a smaller one of the expression.
fn grows_with_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => grows_with_column(&alias.expr),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            matches!(field.data_type(), DataType::Timestamp(_, _)) && grows_with_column(expr)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
            grows_with_column(left) && is_constant(right)
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
            (TZ | "to_timestamp", [time, rest @ ..]) => grows_with_column(time) && rest.iter().all(is_constant),
            ("date_bin", [step, time, rest @ ..]) => {
                is_constant(step) && grows_with_column(time) && rest.iter().all(is_constant)
            }
            ("date_trunc", [step, time]) => is_constant(step) && grows_with_column(time),
            _ => false,
        },
        _ => false,
    }
}

impl Demand {
    fn of(condition: &Expr) -> Self {
        match condition {
            Expr::Alias(alias) => Self::of(&alias.expr),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Self::All(vec![Self::of(left), Self::of(right)])
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Self::Any(vec![Self::of(left), Self::of(right)])
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let swapped = || op.swap().map_or(Self::Unknown, |op| Self::compare(right, op, left));
                if is_constant(left) { swapped() } else { Self::compare(left, *op, right) }
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                Self::All(vec![Self::compare(expr, Operator::GtEq, low), Self::compare(expr, Operator::LtEq, high)])
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                Self::Any(list.iter().map(|value| Self::compare(expr, Operator::Eq, value)).collect())
            }
            _ => Self::Unknown,
        }
    }

    fn compare(left: &Expr, operator: Operator, bound: &Expr) -> Self {
        let is_order = matches!(operator, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq | Operator::Eq);
        match is_order && grows_with_column(left) && is_constant(bound) {
            true => Self::Compare { left: Box::new(left.clone()), operator, bound: Box::new(bound.clone()) },
            false => Self::Unknown,
        }
    }

    /// Whether there is a lower, and an upper end.
    fn bounds(&self) -> (bool, bool) {
        match self {
            Self::All(parts) => parts.iter().fold((false, false), |ends, part| {
                let part = part.bounds();
                (ends.0 | part.0, ends.1 | part.1)
            }),
            Self::Any(parts) => parts.iter().fold((true, true), |ends, part| {
                let part = part.bounds();
                (ends.0 & part.0, ends.1 & part.1)
            }),
            Self::Compare { operator, .. } => (
                matches!(operator, Operator::Gt | Operator::GtEq | Operator::Eq),
                matches!(operator, Operator::Lt | Operator::LtEq | Operator::Eq),
            ),
            Self::Unknown => (false, false),
        }
    }

    /// The values that are left. `value` computes what has no column; `at` an expression over the column at a value of it,
    /// `None` where it can't.
    ///
    /// # Errors
    /// If a bound can't be computed.
    pub(super) fn range(
        &self,
        value: &impl Fn(&Expr) -> DataFusionResult<ScalarValue>,
        at: &impl Fn(&Expr, i64) -> Option<i64>,
    ) -> DataFusionResult<Range> {
        Ok(match self {
            Self::All(parts) => {
                let mut range = Range::ALL;
                for part in parts {
                    range = range.and(part.range(value, at)?);
                }
                range
            }
            Self::Any(parts) => {
                let mut range = Range::NONE;
                for part in parts {
                    range = range.or(part.range(value, at)?);
                }
                range
            }
            Self::Compare { left, operator, bound } => {
                // Nothing stands so to a null.
                let Some(bound) = instant(&value(bound)?)? else { return Ok(Range::NONE) };
                let first_from = |bound: i64| match &**left {
                    Expr::Column(_) => Some(Some(bound)),
                    left => first_at_least(bound, |value| at(left, value)),
                };
                // The first value from the bound on, and the first after it; none if there is none.
                let after = bound.checked_add(1).map_or(Some(None), first_from);
                let (Some(from), Some(after)) = (first_from(bound), after) else { return Ok(Range::ALL) };
                let first = |value: Option<i64>| value.map_or(Range::NONE, |first| Range { first, ..Range::ALL });
                let before = |value: Option<i64>| match value {
                    Some(i64::MIN) => Range::NONE,
                    Some(value) => Range { last: value - 1, ..Range::ALL },
                    None => Range::ALL,
                };
                match operator {
                    Operator::GtEq => first(from),
                    Operator::Gt => first(after),
                    Operator::Lt => before(from),
                    Operator::LtEq => before(after),
                    _ => first(from).and(before(after)),
                }
            }
            Self::Unknown => Range::ALL,
        })
    }
}

/// The number that an instant is.
fn instant(value: &ScalarValue) -> DataFusionResult<Option<i64>> {
    match value.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(number) => Ok(number),
        _ => Ok(None),
    }
}

/// The first value at which something that grows is at least `bound`, if there is one; `None` if it can't be computed.
fn first_at_least(bound: i64, grows: impl Fn(i64) -> Option<i64>) -> Option<Option<i64>> {
    // From 1681 to 2258: farther out, expressions over times overflow.
    const FAR: i64 = 9_100_000_000_000_000_000;
    let (mut before, mut after) = (-FAR, FAR);
    if grows(after)? < bound {
        return Some(None);
    }
    if grows(before)? >= bound {
        return Some(Some(i64::MIN));
    }
    while after - 1 > before {
        let middle = before.midpoint(after);
        if grows(middle)? < bound { before = middle } else { after = middle }
    }
    Some(Some(after))
}
