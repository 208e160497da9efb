//! Groups of rows that stand together are looked up once.
//!
//! Rows of a table come by series and time, so rows of one group, with the same tags and in the same bin of time, mostly stand one behind
//! another. The first half of DataFusion's aggregation looks up the group of each row; for tags it has no other way than to write them into bytes
//! and hash these, which takes longer than all that is computed of the row. Here neighbours are compared, which is vectorised, and the first row
//! of each run is looked up. Groups and accumulators are DataFusion's, and so are their states: the second half knows no difference.
//!
//! Where rows of one group don't stand together, every row is looked up, as before. What the operator does for memory and for groups of few
//! rows is what the one whose place it takes does: it hands on what it has when there is no more memory, and no longer collects
//! rows that make nearly as many groups.

use std::fmt;
use std::iter::repeat_n;
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, RecordBatch, UInt32Array};
use arrow::compute::{partition, take};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::aggregates::{
    AggregateExec, AggregateMode, aggregate_expressions, evaluate_group_by, evaluate_many,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::scan::cut_dictionary;

/// Runs are looked up if there are at most so many rows to one of them on the average, and else rows.
const ROWS_A_RUN_MIN: usize = 2;

/// The rule.
#[derive(Debug)]
pub(super) struct GroupRuns;

impl PhysicalOptimizerRule for GroupRuns {
    fn name(&self) -> &str {
        "GroupRuns"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let exchange = |plan: Arc<dyn ExecutionPlan>| match plan
            .downcast_ref::<AggregateExec>()
            .filter(|plan| may_have_runs(plan))
        {
            Some(aggregate) => {
                let runs = GroupRunsExec::new(Arc::new(aggregate.clone()));
                Ok(Transformed::yes(Arc::new(runs) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(plan)),
        };
        plan.transform_up(exchange).map(|transformed| transformed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether this is the first half of an aggregation, in no order, by tags or times, and of functions that know groups.
fn may_have_runs(aggregate: &AggregateExec) -> bool {
    let groups = aggregate.group_expr();
    let kinds = || {
        aggregate
            .schema()
            .fields()
            .iter()
            .take(groups.expr().len())
            .map(|field| field.data_type().clone())
            .collect::<Vec<_>>()
    };
    *aggregate.mode() == AggregateMode::Partial
        && *aggregate.input_order_mode() == InputOrderMode::Linear
        && groups.is_single()
        && !groups.is_empty()
        && aggregate.limit_options().is_none()
        && aggregate.aggr_expr().iter().all(|function| function.groups_accumulator_supported())
        && kinds().iter().any(|kind| is_tag(kind) || matches!(kind, DataType::Timestamp(..)))
        && kinds().iter().all(|kind| is_tag(kind) || is_flat(kind))
}

fn is_tag(kind: &DataType) -> bool {
    matches!(kind, DataType::Dictionary(code, text) if **code == DataType::Int32 && **text == DataType::Utf8)
}

fn is_flat(kind: &DataType) -> bool {
    kind.is_primitive() || matches!(kind, DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The first half of an aggregation.
#[derive(Debug)]
struct GroupRunsExec {
    /// What is computed.
    aggregate: Arc<AggregateExec>,
    metrics: ExecutionPlanMetricsSet,
}

impl GroupRunsExec {
    fn new(aggregate: Arc<AggregateExec>) -> Self {
        Self { aggregate, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for GroupRunsExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.aggregate.fmt_as(format, f)?;
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => f.write_str(", groups=by run"),
            DisplayFormatType::TreeRender => f.write_str("\ngroups=by run"),
        }
    }
}

impl ExecutionPlan for GroupRunsExec {
    fn name(&self) -> &'static str {
        "GroupRunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.aggregate.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.aggregate.input()]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        self.aggregate.apply_expressions(visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let aggregate: Arc<dyn ExecutionPlan> = Arc::clone(&self.aggregate) as _;
        let aggregate = aggregate.replace_children(children, options)?;
        match aggregate.downcast_ref::<AggregateExec>() {
            Some(aggregate) => Ok(Arc::new(Self::new(Arc::new(aggregate.clone())))),
            None => internal_err!("an aggregation that is none with other children"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.aggregate.input().execute(partition, Arc::clone(&context))?;
        let groups = Groups::new(&self.aggregate, partition, &context, &self.metrics)?;
        let batches = stream::try_unfold(Some((groups, input)), async |running| {
            let Some((mut groups, mut input)) = running else { return Ok(None) };
            while let Some(batch) = input.next().await.transpose()? {
                let ready = groups.push(&batch)?;
                if !ready.is_empty() {
                    return Ok(Some((ready, Some((groups, input)))));
                }
            }
            Ok::<_, DataFusionError>(Some((groups.emit()?, None)))
        });
        let batches = batches.map_ok(|ready| stream::iter(ready.into_iter().map(Ok))).try_flatten();
        let measured = BaselineMetrics::new(&self.metrics, partition);
        let batches = batches.map(move |batch| batch.record_output(&measured));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.aggregate.schema(), Box::pin(batches))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The groups that are known, with what is computed of their rows.
struct Groups {
    aggregate: Arc<AggregateExec>,
    schema: SchemaRef,
    batch_size: usize,
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    known: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// The group of each row, and of each run. Kept for their memory.
    of_rows: Vec<usize>,
    of_runs: Vec<usize>,
    of_texts: GroupsOfTexts,
    /// Until it is known whether groups have several rows.
    probe: Option<Probe>,
    /// Rows are handed on as groups of their own.
    is_skipping: bool,
    reservation: MemoryReservation,
    looked_up: Count,
    skipped: Count,
}

/// What says that groups have so few rows that collecting them is for nothing.
struct Probe {
    rows: usize,
    /// From so many rows on it can be said.
    rows_min: usize,
    /// With more groups a row than this.
    groups_a_row_max: f64,
}

impl Groups {
    fn new(
        aggregate: &Arc<AggregateExec>,
        partition: usize,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Self> {
        let functions = aggregate.aggr_expr();
        let accumulators = functions.iter().map(|function| function.create_groups_accumulator());
        let accumulators = accumulators.collect::<DataFusionResult<Vec<_>>>()?;
        let groups = aggregate.group_expr().group_schema(&aggregate.input_schema())?;
        let options = &context.session_config().options().execution;
        let groups_a_row_max = options.skip_partial_aggregation_probe_ratio_threshold;
        let rows_min = options.skip_partial_aggregation_probe_rows_threshold;
        Ok(Self {
            aggregate: Arc::clone(aggregate),
            schema: aggregate.schema(),
            batch_size: context.session_config().batch_size(),
            arguments: aggregate_expressions(functions, aggregate.mode(), aggregate.group_expr().num_group_exprs())?,
            known: new_group_values(groups, &GroupOrdering::None)?,
            accumulators,
            of_rows: Vec::new(),
            of_runs: Vec::new(),
            of_texts: GroupsOfTexts::default(),
            probe: (groups_a_row_max < 1.0).then_some(Probe { rows: 0, rows_min, groups_a_row_max }),
            is_skipping: false,
            reservation: MemoryConsumer::new(format!("GroupRunsExec[{partition}]")).register(context.memory_pool()),
            looked_up: MetricBuilder::new(metrics).counter("groups_looked_up", partition),
            skipped: MetricBuilder::new(metrics).counter("skipped_aggregation_rows", partition),
        })
    }

    /// Takes rows up, and gives what has to be handed on before there are more.
    fn push(&mut self, batch: &RecordBatch) -> DataFusionResult<Vec<RecordBatch>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let mut keys = evaluate_group_by(self.aggregate.group_expr(), batch)?;
        let keys = keys.pop().ok_or_else(|| internal_datafusion_err!("an aggregation without groups"))?;
        let values = evaluate_many(&self.arguments, batch)?;
        let filters = self.filters(batch)?;
        if self.is_skipping {
            return self.hand_on(keys, &values, &filters).map(|states| vec![states]);
        }
        self.find(&keys, batch.num_rows())?;
        for ((accumulator, values), filter) in self.accumulators.iter_mut().zip(&values).zip(&filters) {
            accumulator.update_batch(values, &self.of_rows, filter.as_ref(), self.known.len())?;
        }
        if self.are_few_rows_a_group(batch.num_rows()) {
            self.is_skipping = true;
            return self.emit();
        }
        match self.reservation.try_resize(self.bytes()) {
            // The second half can spill.
            Err(DataFusionError::ResourcesExhausted(_)) if !self.known.is_empty() => self.emit(),
            resized => resized.map(|()| Vec::new()),
        }
    }

    /// Finds the group of each row.
    fn find(&mut self, keys: &[ArrayRef], rows: usize) -> DataFusionResult<()> {
        self.of_rows.clear();
        if let [key] = keys
            && let Some(tag) = key.as_dictionary_opt::<Int32Type>()
        {
            let unknown = self.of_texts.unknown(tag);
            if !unknown.is_empty() {
                self.look_up(keys, &UInt32Array::from(unknown))?;
                self.of_texts.learn(&self.of_runs);
            }
            self.of_texts.groups_of(tag, &mut self.of_rows);
            return Ok(());
        }
        let comparable: Vec<ArrayRef> = keys.iter().map(comparable).collect();
        let runs = partition(&comparable)?.ranges();
        if runs.len() * ROWS_A_RUN_MIN > rows {
            self.looked_up.add(rows);
            return self.known.intern(keys, &mut self.of_rows);
        }
        self.look_up(keys, &UInt32Array::from_iter_values(runs.iter().map(|run| run.start as u32)))?;
        for (run, group) in runs.iter().zip(&self.of_runs) {
            self.of_rows.extend(repeat_n(*group, run.len()));
        }
        Ok(())
    }

    /// Finds the groups of these rows, or makes them, into `of_runs`.
    fn look_up(&mut self, keys: &[ArrayRef], rows: &UInt32Array) -> DataFusionResult<()> {
        self.looked_up.add(rows.len());
        let chosen = |key: &ArrayRef| {
            let chosen = take(key, rows, None)?;
            if is_tag(chosen.data_type()) { cut_dictionary(&chosen) } else { Ok(chosen) }
        };
        let chosen = keys.iter().map(chosen).collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        self.of_runs.clear();
        self.known.intern(&chosen, &mut self.of_runs)
    }

    /// Which rows each function looks at; `None`: all.
    fn filters(&self, batch: &RecordBatch) -> DataFusionResult<Vec<Option<BooleanArray>>> {
        let filter = |filter: &Option<Arc<dyn PhysicalExpr>>| {
            let Some(filter) = filter else { return Ok(None) };
            let passes = filter.evaluate(batch)?.into_array(batch.num_rows())?;
            let passes = passes.as_boolean_opt().cloned();
            passes.map(Some).ok_or_else(|| internal_datafusion_err!("a filter that says neither yes nor no"))
        };
        self.aggregate.filter_expr().iter().map(filter).collect()
    }

    /// Each row as a group.
    fn hand_on(
        &self,
        mut columns: Vec<ArrayRef>,
        values: &[Vec<ArrayRef>],
        filters: &[Option<BooleanArray>],
    ) -> DataFusionResult<RecordBatch> {
        for ((accumulator, values), filter) in self.accumulators.iter().zip(values).zip(filters) {
            columns.extend(accumulator.convert_to_state(values, filter.as_ref())?);
        }
        let states = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.skipped.add(states.num_rows());
        Ok(states)
    }

    fn are_few_rows_a_group(&mut self, rows: usize) -> bool {
        let groups = self.known.len();
        self.probe.as_mut().is_some_and(|probe| {
            probe.rows += rows;
            probe.rows >= probe.rows_min && groups as f64 > probe.rows as f64 * probe.groups_a_row_max
        })
    }

    /// All groups that are known, and forgets them.
    fn emit(&mut self) -> DataFusionResult<Vec<RecordBatch>> {
        if self.known.is_empty() {
            return Ok(Vec::new());
        }
        let mut columns = self.known.emit(EmitTo::All)?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        let groups = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.known.clear_shrink(self.batch_size);
        self.of_texts = GroupsOfTexts::default();
        self.reservation.try_resize(self.bytes())?;
        let starts = (0..groups.num_rows()).step_by(self.batch_size);
        Ok(starts.map(|start| groups.slice(start, self.batch_size.min(groups.num_rows() - start))).collect())
    }

    fn bytes(&self) -> usize {
        let found = self.of_rows.capacity() + self.of_runs.capacity() + self.of_texts.groups.capacity();
        let found = found * size_of::<usize>();
        self.known.size() + found + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }
}

/// Which group each text of a dictionary is, where one tag makes the groups: the batches of a row group share its dictionary.
#[derive(Default)]
struct GroupsOfTexts {
    texts: Option<ArrayRef>,
    /// By code; the last one is that of rows without the tag.
    groups: Vec<usize>,
    /// Where the groups go that are being looked up.
    asked: Vec<usize>,
}

impl GroupsOfTexts {
    const UNKNOWN: usize = usize::MAX;
    /// Is looked up, and not asked for twice.
    const ASKED: usize = usize::MAX - 1;

    /// One row for each text whose group is not known.
    fn unknown(&mut self, tag: &DictionaryArray<Int32Type>) -> Vec<u32> {
        if self.texts.as_ref().is_none_or(|texts| !Arc::ptr_eq(texts, tag.values())) {
            self.texts = Some(Arc::clone(tag.values()));
            self.groups.clear();
            self.groups.resize(tag.values().len() + 1, Self::UNKNOWN);
        }
        self.asked.clear();
        let mut rows = Vec::new();
        for (row, place) in places(tag).enumerate() {
            if self.groups[place] == Self::UNKNOWN {
                self.groups[place] = Self::ASKED;
                self.asked.push(place);
                rows.push(row as u32);
            }
        }
        rows
    }

    /// The groups of the rows that were asked for.
    fn learn(&mut self, groups: &[usize]) {
        for (place, group) in self.asked.drain(..).zip(groups) {
            self.groups[place] = *group;
        }
    }

    /// The group of each row.
    fn groups_of(&self, tag: &DictionaryArray<Int32Type>, groups: &mut Vec<usize>) {
        groups.extend(places(tag).map(|place| self.groups[place]));
    }
}

/// Where the group of each row's text is.
fn places(tag: &DictionaryArray<Int32Type>) -> impl Iterator<Item = usize> {
    let (codes, nulls, of_null) =
        (tag.keys().values(), tag.nulls().filter(|nulls| nulls.null_count() > 0), tag.values().len());
    codes.iter().enumerate().map(move |(row, code)| match nulls {
        Some(nulls) if nulls.is_null(row) => of_null,
        _ => *code as usize,
    })
}

/// What tells whether two rows that stand together are of one group: of tags their codes. Equal texts with two codes make two runs of one group.
fn comparable(key: &ArrayRef) -> ArrayRef {
    match key.as_dictionary_opt::<Int32Type>() {
        Some(tag) => Arc::new(tag.keys().clone()),
        None => Arc::clone(key),
    }
}

#[cfg(test)]
mod tests;
