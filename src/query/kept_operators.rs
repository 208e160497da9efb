//! The operators of a kept plan are kept too, but for those at the bottom that find its rows.
//!
//! To make operators of a plan takes most of the time of a small question, and what is made is the same each time: which units hold rows, and which of
//! them overlap, is known to the scan and the filter on it alone. So a plan is cut in two above these. Its lower part is planned each time; the
//! upper part stands on a seam ([`SeamExec`]), which tells it no more of the rows than their columns, their order and their partitions, and is used again
//! for as long as these are the same.
//!
//! Always true: an operator runs once. What is kept has never run, and of operators with a state ([`ExecutionPlan::reset_state`]) each use has
//! its own. What is kept holds no rows.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{TableReference, internal_err};
use datafusion::datasource::{TableType, provider_as_source, source_as_provider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, TableScan, TableScanBuilder};
use datafusion::physical_expr::equivalence::{AcrossPartitions, ConstExpr, OrderingEquivalenceClass};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
#[cfg(test)]
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use parking_lot::Mutex;

use super::optimize::is_simple;
use super::scan::SeriesEndsExec;
use super::shortcuts::ShortcutTable;

/// Of one plan so many upper parts are kept: its rows come out of the buffer or of files, in one partition or in several.
const PARTS_MAX: usize = 4;

/// Operators of which is known that they can be used again.
const REUSABLE: [&str; 15] = [
    "AggregateExec",
    "BoundedWindowAggExec",
    "CoalescePartitionsExec",
    "CooperativeExec",
    "CutDictionariesExec",
    "FilterExec",
    "GlobalLimitExec",
    "GroupRunsExec",
    "LocalLimitExec",
    "PartialSortExec",
    "ProjectionExec",
    "SortExec",
    "SortExec(TopK)",
    "SortPreservingMergeExec",
    "WindowAggExec",
];

/// The upper parts of the operators of one plan.
#[derive(Debug, Default)]
pub(super) struct KeptOperators {
    is_simple: OnceLock<bool>,
    parts: Mutex<Vec<Arc<UpperPart>>>,
}

/// Operators on a seam without rows.
#[derive(Debug)]
struct UpperPart {
    below: Known,
    properties: Arc<PlanProperties>,
    operators: Arc<dyn ExecutionPlan>,
}

/// All that the upper part may know of the rows.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    schema: SchemaRef,
    partitions: usize,
    orderings: OrderingEquivalenceClass,
    /// Columns that are the same in all rows of a partition, and whether in all partitions.
    constants: Vec<(usize, bool)>,
    /// Whether no two rows are alike.
    is_distinct: bool,
}

impl Known {
    fn of(rows: &dyn ExecutionPlan) -> Self {
        let properties = rows.properties();
        let equal = properties.equivalence_properties();
        let constant = |constant: &ConstExpr| {
            let is_uniform = matches!(constant.across_partitions, AcrossPartitions::Uniform(_));
            constant.expr.downcast_ref().map(|column: &Column| (column.index(), is_uniform))
        };
        let mut constants: Vec<(usize, bool)> = equal.constants().iter().filter_map(constant).collect();
        constants.sort_unstable();
        Self {
            schema: rows.schema(),
            partitions: properties.output_partitioning().partition_count(),
            orderings: equal.oeq_class().clone(),
            constants,
            is_distinct: rows.downcast_ref().is_some_and(SeriesEndsExec::is_distinct),
        }
    }

    fn properties(&self) -> DataFusionResult<PlanProperties> {
        let mut equal =
            EquivalenceProperties::new_with_orderings(SchemaRef::clone(&self.schema), self.orderings.clone());
        equal.add_constants(self.constants.iter().map(|(place, is_uniform)| {
            let column = Arc::new(Column::new(self.schema.field(*place).name(), *place));
            let across = if *is_uniform { AcrossPartitions::Uniform(None) } else { AcrossPartitions::Heterogeneous };
            ConstExpr::new(column, across)
        }))?;
        let partitions = Partitioning::UnknownPartitioning(self.partitions);
        let (emission, bounds) = (EmissionType::Incremental, Boundedness::Bounded);
        // Whatever finds rows pauses by itself.
        Ok(PlanProperties::new(equal, partitions, emission, bounds).with_scheduling_type(SchedulingType::Cooperative))
    }
}

impl KeptOperators {
    /// Whether a plan is a chain of nodes, which it was then the last time too.
    ///
    /// # Errors
    /// As [`is_simple`].
    pub(super) fn is_simple(&self, plan: &LogicalPlan) -> DataFusionResult<bool> {
        if let Some(known) = self.is_simple.get() {
            return Ok(*known);
        }
        is_simple(plan).map(|is_simple| *self.is_simple.get_or_init(|| is_simple))
    }

    /// The operators of `plan` over these rows, which are those of its lower part.
    ///
    /// # Errors
    /// Whatever `planned` says, which plans the upper part.
    pub(super) async fn over(
        &self,
        rows: Arc<dyn ExecutionPlan>,
        (plan, lower): (&LogicalPlan, &LogicalPlan),
        planned: impl AsyncFnOnce(LogicalPlan) -> DataFusionResult<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let below = Known::of(rows.as_ref());
        let known = self.parts.lock().iter().find(|part| part.below == below).cloned();
        let part = match known {
            Some(part) => part,
            None => {
                let properties = Arc::new(below.properties()?);
                let seam = SeamTable { properties: Arc::clone(&properties), is_distinct: below.is_distinct };
                let seam = TableScanBuilder::new(table_name(lower)?, provider_as_source(Arc::new(seam))).build()?;
                let operators = planned(with_lower_part(plan, &LogicalPlan::TableScan(seam))?).await?;
                let part = Arc::new(UpperPart { below, properties, operators });
                let mut parts = self.parts.lock();
                // Several who ask at once plan it each.
                let is_new = parts.iter().all(|kept| kept.below != part.below);
                if is_new && parts.len() < PARTS_MAX && are_reusable(&part.operators) {
                    parts.push(Arc::clone(&part));
                }
                part
            }
        };
        let (properties, is_distinct) = (Arc::clone(&part.properties), part.below.is_distinct);
        on_seam(&part.operators, Arc::new(SeamExec { rows: Some(rows), properties, is_distinct }))
    }

    /// The upper parts as text.
    #[cfg(test)]
    pub(super) fn shown(&self) -> Vec<String> {
        let parts = self.parts.lock();
        let shown = parts.iter().map(|part| displayable(part.operators.as_ref()).indent(false).to_string());
        shown.collect()
    }
}

fn are_reusable(operators: &Arc<dyn ExecutionPlan>) -> bool {
    operators.is::<SeamExec>()
        || REUSABLE.contains(&operators.name()) && operators.children().into_iter().all(are_reusable)
}

/// The same operators, not yet run, on another seam.
fn on_seam(
    operators: &Arc<dyn ExecutionPlan>,
    seam: Arc<dyn ExecutionPlan>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    if operators.is::<SeamExec>() {
        return Ok(seam);
    }
    let children: Vec<_> = operators
        .children()
        .into_iter()
        .map(|child| on_seam(child, Arc::clone(&seam)))
        .collect::<DataFusionResult<_>>()?;
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    Arc::clone(operators).replace_children(children, options)?.reset_state()
}

/// The part of a plan that is planned each time: what is read and which of it passes. `None` if that are several tables, or if statistics of
/// what is read may be the answer.
pub(super) fn lower_part(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let (mut lower, mut is_one_row) = (plan, false);
    while !is_lower_part(lower) {
        is_one_row |= matches!(lower, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty());
        let inputs = lower.inputs();
        let [input] = inputs.as_slice() else { return None };
        lower = input;
    }
    let is_whole = matches!(lower, LogicalPlan::TableScan(scan) if scan.filters.is_empty());
    (!is_one_row || !is_whole).then_some(lower)
}

fn is_lower_part(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::EmptyRelation(_) => is_no_table(plan),
        LogicalPlan::Filter(filter) => matches!(filter.input.as_ref(), LogicalPlan::TableScan(_)),
        _ => false,
    }
}

/// Whether this is what a text without FROM reads: one row, or none, without columns.
fn is_no_table(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::EmptyRelation(rows) if rows.schema.fields().is_empty())
}

/// A plan with another lower part.
pub(super) fn with_lower_part(plan: &LogicalPlan, lower: &LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let exchanged = plan.clone().transform_down(|node| match is_lower_part(&node) {
        true => Ok(Transformed::new(lower.clone(), true, TreeNodeRecursion::Jump)),
        false => Ok(Transformed::no(node)),
    })?;
    Ok(exchanged.data)
}

/// A lower part with other filters, down to the table.
pub(super) fn with_filters(
    lower: &LogicalPlan,
    exchanged: impl Fn(Expr) -> DataFusionResult<Expr>,
) -> DataFusionResult<LogicalPlan> {
    match lower {
        LogicalPlan::TableScan(scan) => with_filters_of_scan(scan, exchanged),
        LogicalPlan::Filter(filter) if let LogicalPlan::TableScan(scan) = filter.input.as_ref() => {
            let predicate = exchanged(filter.predicate.clone())?;
            Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(with_filters_of_scan(scan, exchanged)?))?))
        }
        no_table if is_no_table(no_table) => Ok(no_table.clone()),
        other => internal_err!("a lower part that is none: {}", other.display()),
    }
}

/// A scan with other filters, those that its table knows among them.
pub(super) fn with_filters_of_scan(
    scan: &TableScan,
    exchanged: impl Fn(Expr) -> DataFusionResult<Expr>,
) -> DataFusionResult<LogicalPlan> {
    let mut scan = scan.clone();
    scan.filters = scan.filters.into_iter().map(&exchanged).collect::<DataFusionResult<_>>()?;
    if let Some(ends) = source_as_provider(&scan.source)?.downcast_ref::<ShortcutTable>() {
        scan.source = provider_as_source(Arc::new(ends.with_filters(&exchanged)?));
    }
    Ok(LogicalPlan::TableScan(scan))
}

fn table_name(lower: &LogicalPlan) -> DataFusionResult<TableReference> {
    match lower {
        LogicalPlan::TableScan(scan) => Ok(scan.table_name.clone()),
        LogicalPlan::Filter(filter) => table_name(&filter.input),
        // It has no columns that could be named by it.
        no_table if is_no_table(no_table) => Ok(TableReference::bare("no table")),
        other => internal_err!("a lower part that is none: {}", other.display()),
    }
}

/// The rows of a seam, as long as there are none.
#[derive(Debug)]
struct SeamTable {
    properties: Arc<PlanProperties>,
    is_distinct: bool,
}

#[async_trait]
impl TableProvider for SeamTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(self.properties.equivalence_properties().schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(SeamExec { rows: None, properties: Arc::clone(&self.properties), is_distinct: self.is_distinct }))
    }
}

/// Rows of which those above know what stays the same from use to use.
#[derive(Debug)]
pub(super) struct SeamExec {
    /// While the operators above are planned there is nothing below, so that none of them gets there.
    rows: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    is_distinct: bool,
}

impl SeamExec {
    /// Whether no two rows are alike.
    pub(super) fn is_distinct(&self) -> bool {
        self.is_distinct
    }
}

impl DisplayAs for SeamExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeamExec")
    }
}

impl ExecutionPlan for SeamExec {
    fn name(&self) -> &'static str {
        "SeamExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.rows.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let (properties, is_distinct) = (Arc::clone(&self.properties), self.is_distinct);
        Ok(Arc::new(Self { rows: children.pop(), properties, is_distinct }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        match &self.rows {
            Some(rows) => rows.execute(partition, context),
            None => internal_err!("there is nothing below the seam"),
        }
    }
}
