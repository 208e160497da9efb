//! Files of which row groups may be in memory, decoded.
//!
//! [`DecodedSource`] is DataFusion's source of Parquet files in everything that a plan sees. When a file's turn comes it asks the
//! engine for the row groups, decoded; what it doesn't get, it lets DataFusion read. A decoded row group is not searched page by page
//! but series by series ([`choose`](super::choose)), and a row is touched only if its series and time pass.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{concat, filter_record_batch, take};
use arrow::datatypes::{Int32Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::error::Result as DataFusionResult;
use datafusion::physical_expr::projection::{ProjectionExprs, Projector};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::ObjectStore;

use super::choose::{Conditions, Stretch, tag};
use super::dictionaries::with_used_texts;
use super::{FileAccess, from_engine};
use crate::engine::store::decoded::{DecodedRowGroup, WantedRows};
use crate::model::{ColumnName, DataFile, TIME_COLUMN, TableSchema};

/// Rows that lie together are copied as a slice if there are so many of them on average, else one by one.
const ROWS_WORTH_A_SLICE: usize = 16;

/// A source of Parquet files, some of whose row groups are decoded.
#[derive(Clone)]
pub(super) struct DecodedSource {
    parquet: Arc<dyn FileSource>,
    table: Arc<TableSchema>,
    access: Arc<FileAccess>,
    batch_rows: usize,
    /// Whether newer row groups come first: whoever sorts then knows sooner what it need not look at.
    newest_first: bool,
}

impl DecodedSource {
    pub(super) fn new(
        parquet: ParquetSource,
        table: &TableSchema,
        access: &Arc<FileAccess>,
        batch_rows: usize,
    ) -> Self {
        let (table, access) = (Arc::new(table.clone()), Arc::clone(access));
        Self { parquet: Arc::new(parquet), table, access, batch_rows, newest_first: false }
    }

    fn around(&self, parquet: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { parquet, ..self.clone() })
    }

    /// What is wanted of a decoded row group, and how rows leave.
    fn wanted(&self) -> DataFusionResult<Option<Wanted>> {
        let Some(projection) = self.parquet.projection() else { return Ok(None) };
        let table = self.parquet.table_schema().table_schema();
        let filter = self.parquet.filter();
        let mut places = projection.column_indices();
        places.extend(filter.iter().flat_map(collect_columns).map(|column| column.index()));
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            return Ok(None); // only their number counts, which the footer says
        }
        let columns = Arc::new(table.project(&places)?);
        let tags: Vec<String> = self.table.tags().iter().map(ToString::to_string).collect();
        let conditions = Conditions::new(filter.as_ref(), &tags, &columns)?;
        let projection = projection.clone().try_map_exprs(|expr| reassign_expr_columns(expr, &columns))?;
        let projector = projection.make_projector(&columns)?;
        Ok(Some(Wanted { columns, conditions, projector }))
    }
}

impl FileSource for DecodedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DataFusionResult<Arc<dyn FileOpener>> {
        self.parquet.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DataFusionResult<Box<dyn Morselizer>> {
        let parquet = self.parquet.create_morselizer(store, config, partition)?;
        let Some(wanted) = self.wanted()? else { return Ok(parquet) };
        let found = MetricBuilder::new(self.parquet.metrics()).counter("row_groups_decoded", partition);
        Ok(Box::new(DecodedMorselizer {
            parquet: Arc::from(parquet),
            wanted: Arc::new(wanted),
            table: Arc::clone(&self.table),
            access: Arc::clone(&self.access),
            batch_rows: self.batch_rows,
            newest_first: self.newest_first,
            found,
        }))
    }

    fn table_schema(&self) -> &datafusion_datasource::TableSchema {
        self.parquet.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let parquet = self.parquet.with_batch_size(batch_size);
        Arc::new(Self { parquet, batch_rows: batch_size, ..self.clone() })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.parquet.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.parquet.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn file_type(&self) -> &str {
        self.parquet.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parquet.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.parquet.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DataFusionResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.parquet.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|parquet| self.around(parquet));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> DataFusionResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.parquet.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact { inner: self.around(inner) },
            SortOrderPushdownResult::Inexact { inner } => {
                let newest_first = order.first().is_some_and(|first| first.options.descending);
                let inner = Arc::new(Self { parquet: inner, newest_first, ..self.clone() });
                SortOrderPushdownResult::Inexact { inner }
            }
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.parquet.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DataFusionResult<Option<Arc<dyn FileSource>>> {
        Ok(self.parquet.try_pushdown_projection(projection)?.map(|parquet| self.around(parquet)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        self.parquet.apply_expressions(f)
    }
}

/// What a scan wants of each row group.
#[derive(Debug)]
struct Wanted {
    /// The columns of filter and output, as the table has them.
    columns: SchemaRef,
    conditions: Conditions,
    projector: Projector,
}

impl Wanted {
    /// The tags of the file, and those of its fields that are wanted.
    fn of(&self, table: &TableSchema, file: &DataFile) -> (Vec<ColumnName>, Vec<ColumnName>) {
        let is_tag = |name: &ColumnName| table.tags().contains(name);
        let tags = table.tags().iter().filter(|tag| file.columns.has(tag.as_str())).cloned().collect();
        let is_wanted = |name: &&ColumnName| self.columns.index_of(name.as_str()).is_ok() && !is_tag(name);
        (tags, file.columns.names().iter().filter(is_wanted).cloned().collect())
    }
}

struct DecodedMorselizer {
    parquet: Arc<dyn Morselizer>,
    wanted: Arc<Wanted>,
    table: Arc<TableSchema>,
    access: Arc<FileAccess>,
    batch_rows: usize,
    newest_first: bool,
    found: Count,
}

impl fmt::Debug for DecodedMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedMorselizer").field("parquet", &self.parquet).finish_non_exhaustive()
    }
}

impl Morselizer for DecodedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> DataFusionResult<Box<dyn MorselPlanner>> {
        let known = file.extension::<Arc<DataFile>>().cloned();
        let known = known.ok_or_else(|| internal_datafusion_err!("no facts about file \"{}\"", file.path()))?;
        let numbers = match file.extension::<ParquetAccessPlan>() {
            Some(access) => access.row_group_indexes(),
            None => (0..known.row_groups.len()).collect(),
        };
        Ok(Box::new(Undecided {
            file,
            known,
            numbers,
            parquet: Arc::clone(&self.parquet),
            wanted: Arc::clone(&self.wanted),
            table: Arc::clone(&self.table),
            access: Arc::clone(&self.access),
            batch_rows: self.batch_rows,
            newest_first: self.newest_first,
            found: self.found.clone(),
        }))
    }
}

/// A file before it is known whether its row groups are decoded.
struct Undecided {
    file: PartitionedFile,
    known: Arc<DataFile>,
    numbers: Vec<usize>,
    parquet: Arc<dyn Morselizer>,
    wanted: Arc<Wanted>,
    table: Arc<TableSchema>,
    access: Arc<FileAccess>,
    batch_rows: usize,
    newest_first: bool,
    found: Count,
}

impl fmt::Debug for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecided").field("file", &self.known.path).finish_non_exhaustive()
    }
}

impl Undecided {
    /// All row groups decoded, or DataFusion's own way.
    async fn decide(self) -> DataFusionResult<Box<dyn MorselPlanner>> {
        let (tags, fields) = self.wanted.of(&self.table, &self.known);
        let mut morsels: Vec<Box<dyn Morsel>> = Vec::with_capacity(self.numbers.len());
        let mut all = true;
        for number in &self.numbers {
            // Every one is asked for, so that each of them counts as asked for.
            match self
                .access
                .decoded(&self.known, *number, &tags, &fields, WantedRows::Most)
                .await
                .map_err(from_engine)?
            {
                Some(group) if all => morsels.push(Box::new(DecodedMorsel {
                    group,
                    wanted: Arc::clone(&self.wanted),
                    batch_rows: self.batch_rows,
                })),
                _ => all = false,
            }
        }
        if !all {
            return self.parquet.plan_file(self.file);
        }
        self.found.add(morsels.len());
        if self.newest_first {
            morsels.reverse();
        }
        Ok(Box::new(Decided { morsels }))
    }
}

impl MorselPlanner for Undecided {
    fn plan(self: Box<Self>) -> DataFusionResult<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(self.decide())))
    }
}

#[derive(Debug)]
struct Decided {
    morsels: Vec<Box<dyn Morsel>>,
}

impl MorselPlanner for Decided {
    fn plan(self: Box<Self>) -> DataFusionResult<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_morsels(self.morsels)))
    }
}

/// A decoded row group whose turn has come.
#[derive(Debug)]
struct DecodedMorsel {
    group: DecodedRowGroup,
    wanted: Arc<Wanted>,
    batch_rows: usize,
}

impl Morsel for DecodedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, DataFusionResult<RecordBatch>> {
        let chosen = match self.wanted.conditions.choose(&self.group.series, self.group.times.values()) {
            Ok(chosen) => chosen,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let rows = Rows { group: self.group, wanted: self.wanted, chosen: chosen.into(), batch_rows: self.batch_rows };
        stream::iter(rows).boxed()
    }
}

/// The chosen rows, batch by batch.
struct Rows {
    group: DecodedRowGroup,
    wanted: Arc<Wanted>,
    chosen: VecDeque<Stretch>,
    batch_rows: usize,
}

impl Iterator for Rows {
    type Item = DataFusionResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stretches = self.take_stretches();
            if stretches.is_empty() {
                return None;
            }
            // None if none of these rows passes.
            if let Some(batch) = self.batch(&stretches).transpose() {
                return Some(batch);
            }
        }
    }
}

impl Rows {
    /// As many rows as a batch has.
    fn take_stretches(&mut self) -> Vec<Stretch> {
        let (mut taken, mut room) = (Vec::new(), self.batch_rows.max(1));
        while room > 0
            && let Some(next) = self.chosen.front_mut()
        {
            let count = next.rows.len().min(room);
            let rows = next.rows.start..next.rows.start + count;
            taken.push(Stretch { series: next.series, rows });
            room -= count;
            next.rows.start += count;
            if next.rows.is_empty() {
                self.chosen.pop_front();
            }
        }
        taken
    }

    fn batch(&self, stretches: &[Stretch]) -> DataFusionResult<Option<RecordBatch>> {
        let count = stretches.iter().map(|stretch| stretch.rows.len()).sum();
        let columns = self.wanted.columns.fields().iter().map(|field| {
            if field.name() == TIME_COLUMN {
                let times: ArrayRef = Arc::new(self.group.times.clone());
                return rows_of(&times, stretches);
            }
            match self.group.fields.get(field.name().as_str()) {
                Some(column) => rows_of(column, stretches),
                None => match self.group.series.tags().column_by_name(field.name()) {
                    Some(_) => repeated(&tag(&self.group.series, field.name(), field.data_type()), stretches, count),
                    None => Ok(new_null_array(field.data_type(), count)),
                },
            }
        });
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let mut batch = RecordBatch::try_new_with_options(Arc::clone(&self.wanted.columns), columns, &options)?;
        if let Some(filter) = self.wanted.conditions.rest() {
            let passing = filter.evaluate(&batch)?.into_array(count)?;
            let passing: &BooleanArray = passing.as_boolean();
            match passing.true_count() {
                0 => return Ok(None),
                all if all == count => {}
                _ => batch = filter_record_batch(&batch, passing)?,
            }
        }
        self.wanted.projector.project_batch(&batch).map(Some)
    }
}

/// These rows of a column: shared where they lie together.
pub(super) fn rows_of(column: &ArrayRef, stretches: &[Stretch]) -> DataFusionResult<ArrayRef> {
    let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else { return Ok(column.slice(0, 0)) };
    let is_whole = stretches.windows(2).all(|pair| pair[0].rows.end == pair[1].rows.start);
    if is_whole {
        return Ok(column.slice(first.rows.start, last.rows.end - first.rows.start));
    }
    let count: usize = stretches.iter().map(|stretch| stretch.rows.len()).sum();
    if count < stretches.len() * ROWS_WORTH_A_SLICE {
        let places = stretches.iter().flat_map(|stretch| stretch.rows.clone()).map(|row| row as u32);
        return Ok(take(column, &UInt32Array::from_iter_values(places), None)?);
    }
    let slices: Vec<ArrayRef> =
        stretches.iter().map(|stretch| column.slice(stretch.rows.start, stretch.rows.len())).collect();
    let slices: Vec<&dyn Array> = slices.iter().map(AsRef::as_ref).collect();
    Ok(concat(&slices)?)
}

/// The tag of each row, out of the tag of each series.
pub(super) fn repeated(tags: &ArrayRef, stretches: &[Stretch], count: usize) -> DataFusionResult<ArrayRef> {
    let tags = tags.as_dictionary_opt::<Int32Type>();
    let tags = tags.ok_or_else(|| internal_datafusion_err!("a tag that is no dictionary"))?;
    let mut keys: Vec<i32> = Vec::with_capacity(count);
    if tags.null_count() == 0 {
        for stretch in stretches {
            keys.extend(std::iter::repeat_n(tags.keys().value(stretch.series), stretch.rows.len()));
        }
        return with_used_texts(Int32Array::new(keys.into(), None), tags.values());
    }
    let mut nulls = NullBufferBuilder::new(count);
    for stretch in stretches {
        let rows = stretch.rows.len();
        match tags.key(stretch.series) {
            Some(key) => {
                keys.extend(std::iter::repeat_n(key as i32, rows));
                nulls.append_n_non_nulls(rows);
            }
            None => {
                keys.extend(std::iter::repeat_n(0, rows));
                nulls.append_n_nulls(rows);
            }
        }
    }
    with_used_texts(Int32Array::new(keys.into(), nulls.finish()), tags.values())
}
