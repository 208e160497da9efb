//! A shorter way to the operators of a question that looks at few rows: one partition, and only the rules that have something to do there.
//!
//! To deal rows to several threads, bring them together and sort them into one again takes operators, tasks and channels. For a machine
//! and an hour that is more work than the rows are. So where a chain of simple nodes reads one table, and filters on time and tags say that
//! few of its rows pass, or a shortcut or a cache brings few, it is planned for one thread. That is an estimate of time alone: any plan comes to the same answer.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProviderList, ScanArgs, Session};
use datafusion::common::DFSchema;
use datafusion::common::config::TableOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::registry::ExtensionTypeRegistryRef;
use datafusion::logical_expr::{
    AggregateUDF, Analyze, EmptyRelation, Explain, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableScan, WindowUDF,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::operator_statistics::StatisticsRegistry;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, PhysicalExpr, ReplaceChildrenOptions};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;

use super::caches::CacheTable;
use super::kept_operators::{self, KeptOperators, with_lower_part};
use super::optimize::is_simple;
use super::scan;
use super::shortcuts::{FirstBins, ShortcutTable};
use super::table::{QuerySnapshots, Table};

/// Rules that find nothing to do where one table is read in one partition, or only look whether others did right.
const FOR_MORE: [&str; 6] = [
    "join_selection",
    "HashJoinBuffering",
    "TopKRepartition",
    "SanityCheckPlan",
    "CutDictionaries",
    "YieldAfterMultiplying",
];

/// The rule that lets operators tell those below of bounds that tighten while they run; among few rows there is nothing to skip.
const WHILE_RUNNING: &str = "FilterPushdown(Post)";

/// Rules that find something to do in a filter on what is read.
const FOR_FILTERS: [&str; 2] = ["FilterPushdown", "ProjectionPushdown"];

/// How questions about few rows are planned. Lives in the session's config.
pub(super) struct FewRows {
    rows_max: u64,
    config: SessionConfig,
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    /// Those for the lower part of a plan whose upper part is kept.
    rules_below: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl fmt::Debug for FewRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FewRows").field("rows_max", &self.rows_max).finish_non_exhaustive()
    }
}

impl FewRows {
    /// Of what the sessions of this template plan, what is expected to look at `rows_max` rows at the most.
    pub(super) fn of(template: &SessionState, rows_max: u64) -> Self {
        let is_needed = |rule: &&Arc<dyn PhysicalOptimizerRule + Send + Sync>| {
            !FOR_MORE.contains(&rule.name()) && rule.name() != WHILE_RUNNING
        };
        let rules: Vec<_> = template.physical_optimizers().iter().filter(is_needed).cloned().collect();
        let rules_below = rules.iter().filter(|rule| FOR_FILTERS.contains(&rule.name())).cloned().collect();
        let config = template.config().clone().with_target_partitions(1);
        let config = config.with_extension(Arc::new(scan::RowsExpected(rows_max)));
        Self { rows_max, config, rules, rules_below }
    }

    /// Whether a chain of nodes, as the optimizer leaves it, is expected to look at few rows.
    ///
    /// # Errors
    /// If its table is gone.
    async fn are_expected(&self, plan: &LogicalPlan, session: &dyn Session) -> DataFusionResult<bool> {
        let mut scan: Option<&TableScan> = None;
        if self.rows_max == 0 {
            return Ok(false);
        }
        plan.apply(|node| {
            if let LogicalPlan::TableScan(found) = node {
                scan = Some(found);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let Some(scan) = scan else { return Ok(true) };
        let provider = source_as_provider(&scan.source)?;
        if let Some(table) = provider.downcast_ref::<Table>() {
            let access = scan::FileAccess::of(session)?;
            let snapshot = table.snapshot(session)?;
            return Ok(scan::expects_at_most(self.rows_max, snapshot.as_ref(), &access, &scan.filters).await);
        }
        if let Some(cache) = provider.downcast_ref::<CacheTable>() {
            return cache.has_at_most(self.rows_max, session);
        }
        match provider.downcast_ref::<ShortcutTable>() {
            Some(ends) => ends.expects_at_most(self.rows_max, session, &scan.filters).await,
            None => Ok(false),
        }
    }

    /// A session that plans for one thread by these rules.
    fn session<'a>(
        &self,
        session: &'a dyn Session,
        rules: &'a [Arc<dyn PhysicalOptimizerRule + Send + Sync>],
    ) -> OneThread<'a> {
        let mut config = self.config.clone();
        if let Some(snapshots) = session.config().get_extension::<QuerySnapshots>() {
            config.set_extension(snapshots);
        }
        OneThread { session, rules, config, table_options: session.table_options().clone() }
    }
}

/// The operators for a plan: for one thread, if that is enough.
///
/// # Errors
/// Whatever `planner` says.
pub(super) async fn create_physical_plan(
    planner: &DefaultPhysicalPlanner,
    plan: &LogicalPlan,
    session: &dyn Session,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let looked_at = match plan {
        LogicalPlan::Explain(explain) => explain.plan.as_ref(),
        LogicalPlan::Analyze(analyze) => analyze.input.as_ref(),
        plan => plan,
    };
    let few = match session.config().get_extension::<FewRows>() {
        Some(few) if is_simple(looked_at)? => few,
        _ => return planner.create_physical_plan(plan, session).await,
    };
    if few.are_expected(looked_at, session).await? {
        return planner.create_physical_plan(plan, &few.session(session, &few.rules)).await;
    }
    let Some(bins) = FirstBins::of(looked_at, None, session)? else {
        return planner.create_physical_plan(plan, session).await;
    };
    let first = with_lower_part(looked_at, bins.first())?;
    match plan {
        // It shows what is done first.
        LogicalPlan::Explain(explain) => {
            let explain = LogicalPlan::Explain(Explain { plan: Arc::new(first), ..explain.clone() });
            planner.create_physical_plan(&explain, session).await
        }
        LogicalPlan::Analyze(analyze) => {
            let analyze = LogicalPlan::Analyze(Analyze { input: Arc::new(first), ..analyze.clone() });
            let operators = planner.create_physical_plan(&analyze, session).await?;
            let [first] = operators.children()[..] else { return Ok(operators) };
            let input = bins.or_more(Arc::clone(first), looked_at, session)?;
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            operators.replace_children(vec![input], options)
        }
        plan => {
            let first = Box::pin(create_physical_plan(planner, &first, session)).await?;
            bins.or_more(first, plan, session)
        }
    }
}

/// The same for a plan that comes again: where one thread is enough, with those operators that are `kept`. `lower` is what the lower part of the
/// plan is this time, if that is another.
///
/// # Errors
/// Whatever `planner` says.
pub(super) async fn create_kept(
    planner: &DefaultPhysicalPlanner,
    plan: &LogicalPlan,
    lower: Option<LogicalPlan>,
    session: &dyn Session,
    kept: &KeptOperators,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let few = session.config().get_extension::<FewRows>();
    if let (Some(few), Some(usual)) = (few, kept_operators::lower_part(plan))
        && let lower = lower.as_ref().unwrap_or(usual)
        && kept.is_simple(plan)?
    {
        if few.are_expected(lower, session).await? {
            let mut session = few.session(session, &few.rules_below);
            let rows = of_lower_part(planner, lower, &session).await?;
            if std::ptr::eq(usual, plan) {
                return Ok(rows);
            }
            session.rules = &few.rules;
            let planned = async |plan| planner.create_physical_plan(&plan, &session).await;
            return kept.over(rows, (plan, lower), planned).await;
        }
        if let Some(bins) = FirstBins::of(plan, Some(lower), session)? {
            let first = Box::pin(create_kept(planner, plan, Some(bins.first().clone()), session, kept)).await?;
            return bins.or_more(first, plan, session);
        }
    }
    match lower {
        Some(lower) => planner.create_physical_plan(&with_lower_part(plan, &lower)?, session).await,
        None => create_physical_plan(planner, plan, session).await,
    }
}

/// The operators of the lower part of a plan. Where that is a table alone, or none, there is no way through the planner, and for rules nothing to
/// do in a single operator.
async fn of_lower_part(
    planner: &DefaultPhysicalPlanner,
    lower: &LogicalPlan,
    session: &OneThread<'_>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    match lower {
        LogicalPlan::TableScan(scan) => {
            let filters: Vec<Expr> = unnormalize_cols(scan.filters.iter().cloned());
            let wanted = ScanArgs::default()
                .with_projection(scan.projection.as_deref())
                .with_filters(Some(&filters))
                .with_limit(scan.fetch);
            let rows = source_as_provider(&scan.source)?.scan_with_args(session, wanted).await?.into_inner();
            match rows.children().is_empty() {
                true => Ok(rows),
                false => planner.optimize_physical_plan(rows, session, |_, _| {}),
            }
        }
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema }) => {
            Ok(Arc::new(PlaceholderRowExec::new(Arc::clone(schema.inner()))))
        }
        _ => planner.create_physical_plan(lower, session).await,
    }
}

/// A session that plans for one thread.
struct OneThread<'a> {
    session: &'a dyn Session,
    rules: &'a [Arc<dyn PhysicalOptimizerRule + Send + Sync>],
    config: SessionConfig,
    table_options: TableOptions,
}

#[async_trait]
impl Session for OneThread<'_> {
    fn session_id(&self) -> &str {
        self.session.session_id()
    }

    fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn catalog_list(&self) -> Arc<dyn CatalogProviderList> {
        self.session.catalog_list()
    }

    fn query_planner(&self) -> Arc<dyn QueryPlanner + Send + Sync> {
        self.session.query_planner()
    }

    fn optimize(&self, plan: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
        self.session.optimize(plan)
    }

    fn physical_optimizers(&self) -> &[Arc<dyn PhysicalOptimizerRule + Send + Sync>] {
        self.rules
    }

    fn statistics_registry(&self) -> Option<&StatisticsRegistry> {
        self.session.statistics_registry()
    }

    async fn create_physical_plan(&self, plan: &LogicalPlan) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.session.create_physical_plan(plan).await
    }

    fn create_physical_expr(&self, expr: Expr, schema: &DFSchema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        self.session.create_physical_expr(expr, schema)
    }

    fn scalar_functions(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        self.session.scalar_functions()
    }

    fn higher_order_functions(&self) -> &HashMap<String, Arc<HigherOrderUDF>> {
        self.session.higher_order_functions()
    }

    fn aggregate_functions(&self) -> &HashMap<String, Arc<AggregateUDF>> {
        self.session.aggregate_functions()
    }

    fn window_functions(&self) -> &HashMap<String, Arc<WindowUDF>> {
        self.session.window_functions()
    }

    fn extension_type_registry(&self) -> &ExtensionTypeRegistryRef {
        self.session.extension_type_registry()
    }

    fn runtime_env(&self) -> &Arc<RuntimeEnv> {
        self.session.runtime_env()
    }

    fn execution_props(&self) -> &ExecutionProps {
        self.session.execution_props()
    }

    fn as_any(&self) -> &dyn Any {
        self.session.as_any()
    }

    fn table_options(&self) -> &TableOptions {
        &self.table_options
    }

    fn table_options_mut(&mut self) -> &mut TableOptions {
        &mut self.table_options
    }

    fn task_ctx(&self) -> Arc<TaskContext> {
        self.session.task_ctx()
    }
}
