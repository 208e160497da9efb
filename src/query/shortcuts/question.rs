//! Which operators look at few rows of a table, and at which.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, NullTreatment, Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, Operator, Sort};

use super::path::{Path, level_of, through};
use crate::query::scan::{End, Ends};

/// The most points of a series, or of all, that are looked for at the ends: of more it is not known that it is worth it.
const ROWS_MAX: usize = 10_000;

/// The functions that number rows in their order.
const NUMBERING: [&str; 3] = ["row_number", "rank", "dense_rank"];

/// What an operator needs of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) which: Ends,
    /// Lists of columns, of each of which it needs a value in every point that it looks at: else it looks further.
    pub(super) present: BTreeSet<Vec<String>>,
    /// The filters that stand above the table.
    pub(super) filters: Arc<[Expr]>,
}

impl Question {
    /// What whoever plans a scan by itself needs of it: see [`scan_of_ends`](super::scan_of_ends).
    pub(super) fn of_ends(which: Ends, present: BTreeSet<Vec<String>>, filters: Vec<Expr>) -> Self {
        Self { which, present, filters: filters.into() }
    }

    /// What the root of a plan needs of the only table below; `None` if that is more than this knows of.
    pub(super) fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
            LogicalPlan::Sort(sort) => of_sort(sort),
            LogicalPlan::Filter(filter) => of_filter(filter),
            _ => None,
        }
    }

    fn new(which: Ends, path: Path) -> Option<Self> {
        // Without columns it is the number of rows that counts.
        let is_of_rows = !path.columns.is_empty();
        is_of_rows.then(|| Self { which, present: BTreeSet::new(), filters: path.filters.into() })
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Option<Question> {
    let path = Path::down(&aggregate.input)?;
    let groups = &aggregate.group_expr;
    if !groups.iter().all(|group| path.is_of_series(group)) {
        return None;
    }
    if aggregate.aggr_expr.is_empty() {
        let has_only_tags = !path.columns.is_empty() && path.columns.iter().all(|column| path.is_tag(column));
        let which = if has_only_tags { Ends::Tags } else { Ends::OfSeries(1) };
        return Question::new(which, path);
    }
    let (mut present, mut end) = (BTreeSet::new(), None);
    let mut is_worth_it = !groups.is_empty() || !path.filters.is_empty();
    for function in &aggregate.aggr_expr {
        let (wanted, end_of_function) = wanted(function, groups, &path)?;
        if *end.get_or_insert(end_of_function) != end_of_function {
            return None;
        }
        // The newest and the oldest time of all are known without reading.
        is_worth_it |= !matches!(wanted, Wanted::Time);
        if let Wanted::Value(column) = wanted {
            present.insert(vec![column]);
        }
    }
    let question = Question::new(end?.of_series(1), path).filter(|_| is_worth_it)?;
    Some(Question { present, ..question })
}

/// What an aggregate wants of the points at an end.
enum Wanted {
    Time,
    Row,
    /// The newest value of this column, or the oldest.
    Value(String),
}

/// `None` for an aggregate that looks at more than the points at one end.
fn wanted(function: &Expr, groups: &[Expr], path: &Path) -> Option<(Wanted, End)> {
    let function = match function {
        Expr::Alias(alias) => alias.expr.as_ref(),
        function => function,
    };
    let Expr::AggregateFunction(AggregateFunction { func, params }) = function else { return None };
    if params.filter.is_some() || params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return None;
    }
    let end_by_order = |is_last: bool| {
        let order = params.order_by.iter().find(|order| !groups.contains(&order.expr));
        order.filter(|order| path.is_time(&order.expr)).map(|order| End::newest_if(order.asc == is_last))
    };
    match (func.name(), params.args.as_slice()) {
        (name @ ("max" | "min"), [time]) if path.is_time(time) => Some((Wanted::Time, End::newest_if(name == "max"))),
        (name @ ("last_value" | "first_value"), [value]) if !params.distinct => {
            path.resolved(value)?;
            end_by_order(name == "last_value").map(|end| (Wanted::Row, end))
        }
        (name @ ("selector_last" | "selector_first"), [value, time, others @ ..])
            if params.order_by.is_empty() && !params.distinct =>
        {
            let all_are_of_rows = others.iter().all(|other| path.resolved(other).is_some());
            let Expr::Column(column) = path.resolved(value)? else { return None };
            let end = End::newest_if(name == "selector_last");
            (all_are_of_rows && path.is_time(time)).then_some((Wanted::Value(column.name), end))
        }
        _ => None,
    }
}

/// `ORDER BY time DESC LIMIT n`, or from the oldest on.
fn of_sort(sort: &Sort) -> Option<Question> {
    let rows = sort.fetch.filter(|rows| (1..=ROWS_MAX).contains(rows))?;
    let first = sort.expr.first()?;
    let path = Path::down(&sort.input)?;
    let all_are_of_rows = sort.expr.iter().all(|SortExpr { expr, .. }| path.resolved(expr).is_some());
    let is_by_time = path.is_time(&first.expr) && all_are_of_rows;
    if is_by_time { Question::new(End::newest_if(!first.asc).of_all(rows), path) } else { None }
}

/// `row_number() OVER (PARTITION BY tags ORDER BY time DESC) <= n`, or from the oldest on.
fn of_filter(filter: &Filter) -> Option<Question> {
    let mut parts: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
    let mut plan = filter.input.as_ref();
    while let LogicalPlan::Projection(projection) = plan {
        let level = level_of(projection);
        parts = parts.into_iter().map(|part| through(part, &level)).collect::<Option<_>>()?;
        plan = &projection.input;
    }
    let LogicalPlan::Window(window) = plan else { return None };
    let [numbering] = window.window_expr.as_slice() else { return None };
    let numbers = Expr::Column(window.schema.columns().pop()?);
    let most = parts.iter().filter_map(|part| most(part, &numbers)).min()?;
    let path = Path::down(&window.input)?;
    let end = numbers_from(numbering, &path).filter(|_| (1..=ROWS_MAX).contains(&most))?;
    Question::new(end.of_series(most), path)
}

/// The end from which on rows are numbered.
fn numbers_from(numbering: &Expr, path: &Path) -> Option<End> {
    let numbering = match numbering {
        Expr::Alias(alias) => alias.expr.as_ref(),
        numbering => numbering,
    };
    let Expr::WindowFunction(function) = numbering else { return None };
    let WindowFunction { fun, params } = function.as_ref();
    let order = params.order_by.iter().find(|order| !params.partition_by.contains(&order.expr));
    let is_fit = NUMBERING.contains(&fun.name())
        && params.filter.is_none()
        && params.partition_by.iter().all(|partition| path.is_of_series(partition))
        && params.order_by.iter().all(|order| path.resolved(&order.expr).is_some());
    let order = order.filter(|order| is_fit && path.is_time(&order.expr))?;
    Some(End::newest_if(!order.asc))
}

/// The greatest number that passes a filter; `None` if it is not one on the number.
fn most(filter: &Expr, numbers: &Expr) -> Option<usize> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (op, bound) = match (left.as_ref(), right.as_ref()) {
        (left, Expr::Literal(bound, _)) if left == numbers => (*op, bound),
        (Expr::Literal(bound, _), right) if right == numbers => (op.swap()?, bound),
        _ => return None,
    };
    let bound = match bound {
        ScalarValue::UInt64(Some(bound)) => usize::try_from(*bound).ok()?,
        ScalarValue::Int64(Some(bound)) => usize::try_from(*bound).ok()?,
        _ => return None,
    };
    match op {
        Operator::Eq | Operator::LtEq => Some(bound),
        Operator::Lt => bound.checked_sub(1),
        _ => None,
    }
}
