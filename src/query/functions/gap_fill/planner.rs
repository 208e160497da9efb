//! From the node that fills gaps to the operator: here `now()` has a value, and with it the bins.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::BINS_MAX;
use super::exec::{BinList, GapFillExec};
use super::fill::{self, Output};
use super::node::{GapFill, OutputColumn};
use crate::query::few_rows;
use crate::query::functions::bins::Bins;
use crate::query::functions::wall_clock;
use crate::query::kept_operators::KeptOperators;

/// DataFusion's planner, with our nodes, and a shorter way for few rows.
#[derive(Debug)]
pub(in crate::query) struct Planner;

impl Planner {
    /// The operators of a plan that comes again; what can be used then is kept here. `lower` is as in [`few_rows::create_kept`].
    ///
    /// # Errors
    /// If the plan can't be carried out.
    pub(in crate::query) async fn create_kept(
        &self,
        plan: &LogicalPlan,
        lower: Option<LogicalPlan>,
        session: &dyn Session,
        kept: &KeptOperators,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        few_rows::create_kept(&planner(), plan, lower, session, kept).await
    }

    /// The operators of a plan, however many rows they read.
    ///
    /// # Errors
    /// If the plan can't be carried out.
    pub(in crate::query) async fn create_whole(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        planner().create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        few_rows::create_physical_plan(&planner(), plan, session).await
    }
}

fn planner() -> DefaultPhysicalPlanner {
    DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(GapFillPlanner)])
}

struct GapFillPlanner;

#[async_trait]
impl ExtensionPlanner for GapFillPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<GapFill>(), inputs) else { return Ok(None) };
        let schema = Arc::new(UserDefinedLogicalNode::schema(node).as_arrow().clone());
        let output = |column: &OutputColumn| match column {
            OutputColumn::Time => Output::Time,
            OutputColumn::Series(place) => Output::Series(*place),
            OutputColumn::Filled(place, fill) => Output::Filled(*place, fill.clone()),
        };
        let outputs = node.columns.iter().map(output).collect();
        let unit = fill::unit_nanos(input.schema().field(node.time).data_type())?;
        let bins = Evaluation::new(session).bins(node, unit)?;
        Ok(Some(Arc::new(GapFillExec::try_new(Arc::clone(input), schema, node.time, node.series(), outputs, bins)?)))
    }
}

/// Computes expressions without columns.
struct Evaluation(ExprSimplifier);

impl Evaluation {
    fn new(session: &dyn Session) -> Self {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(DFSchema::empty()))
            .with_config_options(Arc::clone(session.config().options()))
            .with_query_execution_start_time(session.execution_props().query_execution_start_time)
            .build();
        Self(ExprSimplifier::new(context))
    }

    fn value(&self, expr: &Expr) -> DataFusionResult<ScalarValue> {
        match self.0.simplify(expr.clone())? {
            Expr::Literal(value, _) => Ok(value),
            other => plan_err!("gaps are filled between times that are known before: {other} is not"),
        }
    }

    fn nanos(&self, expr: &Expr) -> DataFusionResult<Option<i64>> {
        let value = self.value(expr)?;
        let zone = match value.data_type() {
            DataType::Timestamp(_, zone) => zone,
            _ => None,
        };
        Ok(match value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone))? {
            ScalarValue::TimestampNanosecond(nanos, _) => nanos,
            _ => None,
        })
    }

    /// The bins of the range in which rows are asked for.
    fn bins(&self, node: &GapFill, unit_nanos: i64) -> DataFusionResult<BinList> {
        let source = &node.bin.source;
        let value = |expr: &Expr| self.value(expr);
        let at = |expr: &Expr, value: i64| {
            let value = self.value(&source.at(expr, value).ok()?).ok()?;
            match value.cast_to(&DataType::Int64).ok()? {
                ScalarValue::Int64(number) => number,
                _ => None,
            }
        };
        let range = source.demand.range(&value, &at)?;
        let interval = match self.value(&node.bin.interval)?.cast_to(&INTERVAL)? {
            ScalarValue::IntervalMonthDayNano(Some(interval)) => interval,
            other => return plan_err!("the interval of a bin is {other}"),
        };
        let origin = match &node.bin.origin {
            None => 0,
            Some(origin) => match self.nanos(origin)? {
                Some(origin) => origin,
                None => return plan_err!("the origin of a bin is null"),
            },
        };
        let time_type = node.input.schema().field(node.time).data_type();
        let zone = if node.bin.is_wall_clock { wall_clock::zone_of(time_type)? } else { None };
        let bins = Bins::new(interval, origin, zone)?;
        if range.is_empty() {
            return Ok(BinList::empty(bins));
        }
        let bound = |value: i64| self.nanos(&source.at(&source.time, value)?);
        let (Some(first), Some(last)) = (bound(range.first)?, bound(range.last)?) else {
            return Ok(BinList::empty(bins));
        };
        BinList::new(bins, first, last, unit_nanos, BINS_MAX)
    }
}

const INTERVAL: DataType = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
