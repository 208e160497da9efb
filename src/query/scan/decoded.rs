//! Files of which row groups may be in memory, decoded.
//!
//! [`DecodedSource`] is DataFusion's source of Parquet files in everything that a plan sees. When a file's turn comes it asks the
//! engine for the row groups, decoded; what it doesn't get, it lets DataFusion read. A decoded row group is not searched page by page
//! but series by series ([`choose`](super::choose)), and a row is touched only if its series and time pass.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
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

use super::choose::{Conditions, RowFilter, Stretch, tag};
use super::chosen::ChosenRows;
use super::{FileAccess, from_engine};
use crate::engine::store::decoded::{DecodedRowGroup, WantedRows};
use crate::model::{ColumnName, DataFile, TIME_COLUMN, TableSchema};

/// A batch of few rows is not filled up any more after a look at so many batches: whoever wants only some rows shall not wait for all.
const BATCHES_LOOKED_AT: usize = 16;

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
        places.sort_unstable();
        places.dedup();
        let output = Arc::new(table.project(&places)?);
        places.extend(filter.iter().flat_map(collect_columns).map(|column| column.index()));
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            return Ok(None); // only their number counts, which the footer says
        }
        let columns = Arc::new(table.project(&places)?);
        let tags: Vec<String> = self.table.tags().iter().map(ToString::to_string).collect();
        let conditions = Conditions::new(filter.as_ref(), &tags, &columns)?;
        let projection = projection.clone().try_map_exprs(|expr| reassign_expr_columns(expr, &output))?;
        let projector = projection.make_projector(&output)?;
        Ok(Some(Wanted { columns, conditions, output, projector }))
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
    /// The columns of the output, which the projector computes it from.
    output: SchemaRef,
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
        let wanted = Arc::clone(&self.wanted);
        if let Some(filter) = wanted.conditions.rest() {
            return self.passing(filter).transpose();
        }
        let stretches = self.take_stretches(self.batch_rows);
        (!stretches.is_empty()).then(|| self.batch(&ChosenRows::new(stretches), None))
    }
}

impl Rows {
    /// The next rows that pass, `None` if no more do. Columns are made of those alone, but for the columns that decide it.
    fn passing(&mut self, filter: &RowFilter) -> DataFusionResult<Option<RecordBatch>> {
        let (mut passing, mut count, mut looked_at) = (Vec::new(), 0, 0);
        while count == 0 || (count < self.batch_rows / 2 && looked_at < self.batch_rows * BATCHES_LOOKED_AT) {
            let rows = ChosenRows::new(self.take_stretches(self.batch_rows - count));
            if rows.count() == 0 {
                break;
            }
            let seen = self.columns(filter.columns(), &rows, None)?;
            let decided = filter.decide(&seen)?;
            match decided.true_count() {
                0 => {}
                all if all == rows.count() && count == 0 => return self.batch(&rows, Some(&seen)).map(Some),
                some => {
                    passing.extend(rows.that_pass(&decided));
                    count += some;
                }
            }
            looked_at += rows.count();
        }
        if count == 0 {
            return Ok(None);
        }
        self.batch(&ChosenRows::new(passing), None).map(Some)
    }

    /// The next rows, at most `most`; none if there are no more.
    fn take_stretches(&mut self, most: usize) -> Vec<Stretch> {
        let (mut taken, mut room) = (Vec::new(), most.max(1));
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

    /// These rows as they leave.
    fn batch(&self, rows: &ChosenRows<'_>, known: Option<&RecordBatch>) -> DataFusionResult<RecordBatch> {
        self.wanted.projector.project_batch(&self.columns(&self.wanted.output, rows, known)?)
    }

    /// These columns of these rows; those of `known` need not be made again.
    fn columns(
        &self,
        columns: &SchemaRef,
        rows: &ChosenRows<'_>,
        known: Option<&RecordBatch>,
    ) -> DataFusionResult<RecordBatch> {
        let made = columns.fields().iter().map(|field| {
            if let Some(known) = known.and_then(|known| known.column_by_name(field.name())) {
                return Ok(Arc::clone(known));
            }
            if field.name() == TIME_COLUMN {
                let times: ArrayRef = Arc::new(self.group.times.clone());
                return rows.of(&times);
            }
            match self.group.fields.get(field.name().as_str()) {
                Some(column) => rows.of(column),
                None => match self.group.series.tags().column_by_name(field.name()) {
                    Some(_) => rows.repeated(&tag(&self.group.series, field.name(), field.data_type())),
                    None => Ok(new_null_array(field.data_type(), rows.count())),
                },
            }
        });
        let made = made.collect::<DataFusionResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.count()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(columns), made, &options)?)
    }
}
