//! Many rows of a table become the few that count.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};

use super::newest::{answer_order, as_key, newest_rows, newest_values};
use super::unfit;
use crate::error::Result;
use crate::model::last_write_wins::{conform, merge_batches, sort_run, take_compact};
use crate::model::{CacheDefinition, CacheKind, TableSchema, batch_bytes};

/// Rows that wait until it is worth looking which of them count.
const ROWS_WAITING: usize = 64 << 10;

/// Takes points of a table, each once and in any order, and keeps those that count.
#[derive(Debug)]
pub struct Condenser {
    definition: Arc<CacheDefinition>,
    kept: TableSchema,
    condensed: RecordBatch,
    waiting: Vec<RecordBatch>,
    rows_waiting: usize,
}

impl Condenser {
    /// For a cache of a table with these columns.
    pub fn new(definition: Arc<CacheDefinition>, table: &TableSchema) -> Self {
        let kept = definition.kept(table);
        let condensed = RecordBatch::new_empty(Arc::clone(kept.arrow()));
        Self { definition, kept, condensed, waiting: Vec::new(), rows_waiting: 0 }
    }

    /// The columns that it wants and keeps.
    pub fn columns(&self) -> &TableSchema {
        &self.kept
    }

    /// Takes more points, with those columns.
    ///
    /// # Errors
    /// `Internal` if columns are missing or have other types.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows_waiting += batch.num_rows();
        self.waiting.push(conform(batch, self.kept.arrow()).map_err(unfit)?);
        // What is kept is looked through again each time: as many new rows make that worth it.
        if self.rows_waiting >= ROWS_WAITING.max(self.condensed.num_rows()) { self.condense() } else { Ok(()) }
    }

    /// Memory of the rows that are held, in bytes.
    pub fn bytes(&self) -> usize {
        batch_bytes(&self.condensed) + self.waiting.iter().map(batch_bytes).sum::<usize>()
    }

    /// Memory of the rows that counted when it was last looked.
    pub fn kept_bytes(&self) -> usize {
        batch_bytes(&self.condensed)
    }

    /// The rows that count, with the columns that are kept.
    ///
    /// # Errors
    /// As [`Condenser::push`].
    pub fn finish(mut self) -> Result<RecordBatch> {
        self.condense()?;
        Ok(self.condensed)
    }

    fn condense(&mut self) -> Result<()> {
        self.rows_waiting = 0;
        let mut pieces = std::mem::take(&mut self.waiting);
        pieces.push(self.condensed.clone());
        let rows = concat_batches(self.kept.arrow(), &pieces).map_err(unfit)?;
        // Sorted, so that of two rows of one key and one time always the same counts.
        let rows = match self.definition.kind() {
            CacheKind::Last => sort_run(&self.kept, &rows).map_err(unfit)?,
            CacheKind::Distinct => rows,
        };
        self.condensed = only_newest(&self.definition, &self.kept, &rows)?;
        Ok(())
    }
}

/// The rows that count of what is kept and of writes after it, oldest first, each sorted and unique in its key.
pub(super) fn fold(definition: &CacheDefinition, kept: &TableSchema, inputs: Vec<RecordBatch>) -> Result<RecordBatch> {
    let arrow = kept.arrow();
    let rows = match definition.kind() {
        CacheKind::Last => merge_batches(kept, inputs, usize::MAX).map_err(unfit)?,
        CacheKind::Distinct => {
            inputs.iter().map(|input| conform(input, arrow)).collect::<Result<_, _>>().map_err(unfit)?
        }
    };
    let rows = concat_batches(arrow, &rows).map_err(unfit)?;
    only_newest(definition, kept, &rows)
}

fn only_newest(definition: &CacheDefinition, kept: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch> {
    let is_sorted = definition.kind() == CacheKind::Last;
    let newest = newest_rows(definition, kept, rows, is_sorted).map_err(unfit)?;
    take_compact(rows, &newest).map_err(unfit)
}

/// Kept rows as an answer: the key's columns first, by key, of one key the newest first, or one row with the newest values. `table` has the columns that the
/// answer shall have.
///
/// # Errors
/// `Internal` if the rows are not those of such a cache.
pub fn arrange(definition: &CacheDefinition, table: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch> {
    let schema = answer_schema(definition, table);
    let kept = definition.kept(table);
    let rows = conform(rows, kept.arrow()).map_err(unfit)?;
    let order = answer_order(definition, &kept, &rows).map_err(unfit)?;
    let rows = match order.is_sorted() {
        true => rows,
        false => take_compact(&rows, &order).map_err(unfit)?,
    };
    let rows = match definition.is_of_values() {
        true => newest_values(definition, &kept, &rows).map_err(unfit)?,
        false => rows,
    };
    let columns = schema.fields().iter().filter_map(|field| rows.column_by_name(field.name()));
    let columns = match definition.kind() {
        CacheKind::Last => columns.cloned().collect(),
        CacheKind::Distinct => columns.map(as_key).collect(),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(unfit)
}

/// The columns of an answer of a cache of a table.
pub fn answer_schema(definition: &CacheDefinition, table: &TableSchema) -> SchemaRef {
    let fields = definition.output(table).into_iter().filter_map(|name| {
        let field = table.arrow().field_with_name(&name).ok()?;
        Some(field.clone())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
