//! The contents of one table behind one atomic pointer.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::budget::MemoryBudget;
use super::run::{BufferedRun, Origin};
use crate::clock::Clock;
use crate::engine::caches::CacheView;
use crate::engine::catalog::{Catalog, TableEntry};
use crate::error::Result;
use crate::model::{Deletion, FileList, Sequence, SequenceRange, TableId, TableSchema};

/// A table at one instant: what [`TableBuffer`] swaps as a whole.
#[derive(Debug, Clone)]
pub struct TableContents {
    /// Every column that occurs in runs and files.
    pub schema: Arc<TableSchema>,
    /// What is not in Parquet yet, oldest first.
    pub runs: Vec<Arc<BufferedRun>>,
    /// What is in the object store, oldest first.
    pub files: FileList,
    /// Rows of `files` that are deleted and still in them.
    pub deletions: Arc<Vec<Deletion>>,
    /// What is kept for the table's caches.
    pub(in crate::engine) views: Arc<Vec<Arc<CacheView>>>,
    /// Changes under way that make views wrong: until they are over there are none.
    pub(super) views_barred: usize,
    /// The number of the last deletion of rows.
    pub(super) last_deletion: u64,
    /// Every write up to here is in `files`.
    pub(in crate::engine) stored_through: Sequence,
    /// Every write up to here is in `files` or is being persisted: its runs are not touched any more.
    frozen_through: Sequence,
}

impl TableContents {
    /// A table of which all is in Parquet.
    pub fn stored(table: &TableEntry) -> Self {
        Self {
            schema: Arc::clone(&table.schema),
            runs: Vec::new(),
            files: table.files.clone(),
            deletions: Arc::clone(&table.deletions),
            views: Arc::default(),
            views_barred: 0,
            last_deletion: table.last_deletion,
            stored_through: table.persisted_through,
            frozen_through: table.persisted_through,
        }
    }

    /// The newest write.
    pub(in crate::engine) fn through(&self) -> Sequence {
        self.runs.last().map_or(self.stored_through, |run| run.sequences().last)
    }

    /// The runs that tidying may replace: those that no persist has taken.
    pub(super) fn open_runs(&self) -> &[Arc<BufferedRun>] {
        let first = self.runs.partition_point(|run| run.sequences().last <= self.frozen_through);
        &self.runs[first..]
    }
}

/// Runs that a persist has taken; see [`TableBuffer::freeze`].
#[derive(Debug)]
pub struct Frozen {
    /// The table's schema at that moment.
    pub schema: Arc<TableSchema>,
    /// The runs, oldest first; never empty.
    pub runs: Vec<Arc<BufferedRun>>,
    /// The newest write among them.
    pub through: Sequence,
    /// The table's files at that moment.
    pub files: FileList,
}

impl Frozen {
    /// The writes that the runs hold.
    pub(in crate::engine) fn sequences(&self) -> SequenceRange {
        let ranges = self.runs.iter().map(|run| run.sequences());
        ranges.reduce(SequenceRange::union).unwrap_or(SequenceRange::single(self.through))
    }
}

/// One table. Readers load one pointer; changes take the lock, copy the lists of pointers and swap.
#[derive(Debug)]
pub struct TableBuffer {
    id: TableId,
    pub(super) contents: ArcSwap<TableContents>,
    pub(super) change: Mutex<()>,
    budget: Arc<MemoryBudget>,
    pub(super) clock: Arc<dyn Clock>,
}

impl TableBuffer {
    pub(super) fn new(id: TableId, contents: TableContents, budget: Arc<MemoryBudget>, clock: Arc<dyn Clock>) -> Self {
        Self { id, contents: ArcSwap::from_pointee(contents), change: Mutex::new(()), budget, clock }
    }

    /// Which table.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The table now: one atomic load.
    pub fn contents(&self) -> Arc<TableContents> {
        self.contents.load_full()
    }

    /// Takes a schema with more columns. Called before the first row that uses them is logged.
    pub fn widen(&self, schema: &Arc<TableSchema>) {
        if self.contents.load().schema.column_count() >= schema.column_count() {
            return;
        }
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        // Two writers may widen at once and arrive here in either order; the catalog only ever adds.
        if contents.schema.column_count() < schema.column_count() {
            self.contents
                .store(Arc::new(TableContents { schema: Arc::clone(schema), ..TableContents::clone(&contents) }));
        }
    }

    /// Makes the rows of one write visible. Called in sequence order by the log's commit thread.
    ///
    /// # Errors
    /// `Internal` if the batch has no time.
    pub fn insert(&self, sequence: Sequence, batch: RecordBatch) -> Result<()> {
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        let schema = run_schema(&contents, &batch);
        let origin =
            Origin { sequences: SequenceRange::single(sequence), since: self.clock.elapsed(), is_sorted: false };
        let run = BufferedRun::new(schema, batch, origin, &self.budget)?;
        let mut next = TableContents::clone(&contents);
        next.runs.push(Arc::new(run));
        self.contents.store(Arc::new(next));
        Ok(())
    }

    /// Puts one sorted batch in the place of neighbouring runs. Says whether it did: not if a persist has
    /// taken one of them meanwhile.
    pub(super) fn replace_runs(
        &self,
        old: &[Arc<BufferedRun>],
        batch: RecordBatch,
        schema: TableSchema,
    ) -> Result<bool> {
        let (Some(first), Some(last)) = (old.first(), old.last()) else { return Ok(false) };
        let origin = Origin {
            sequences: first.sequences().union(last.sequences()),
            since: old.iter().map(|run| run.since()).min().unwrap_or_default(),
            is_sorted: true,
        };
        let merged = BufferedRun::new(Arc::new(schema), batch, origin, &self.budget)?;
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        // A persist takes a prefix of the runs: if the first is still open, so are the others.
        let open = contents.open_runs();
        let Some(place) = open.iter().position(|run| Arc::ptr_eq(run, first)) else { return Ok(false) };
        let place = contents.runs.len() - open.len() + place;
        let mut next = TableContents::clone(&contents);
        next.runs.splice(place..place + old.len(), [Arc::new(merged)]);
        self.contents.store(Arc::new(next));
        Ok(true)
    }

    /// Takes all runs for a persist; `None` if there are none. They stay visible until [`follow`](Self::follow).
    pub fn freeze(&self) -> Option<Frozen> {
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        let through = contents.runs.last()?.sequences().last;
        let mut next = TableContents::clone(&contents);
        next.frozen_through = through;
        self.contents.store(Arc::new(next));
        Some(Frozen {
            schema: Arc::clone(&contents.schema),
            runs: contents.runs.clone(),
            through,
            files: contents.files.clone(),
        })
    }

    /// Takes the table's files from the catalog and lets go of the runs whose rows they hold, in one step. Returns the last
    /// write that is in a file; `None` if the table was deleted.
    pub fn follow(&self, catalog: &Catalog) -> Option<Sequence> {
        let _changing = self.change.lock();
        // Read under the lock: a persist and a compaction may both be here, and files must not step back.
        let state = catalog.state();
        let entry = state.kept_table(self.id)?;
        self.take_stored(TableContents::stored(entry));
        Some(entry.persisted_through)
    }

    /// Takes what is in files; the runs whose writes they hold go. Only for who holds the lock, or is alone.
    pub(super) fn take_stored(&self, stored: TableContents) {
        let through = stored.frozen_through;
        let contents = self.contents.load_full();
        let mut next = TableContents::clone(&contents);
        next.runs.retain(|run| run.sequences().last > through);
        (next.files, next.deletions) = (stored.files, stored.deletions);
        next.stored_through = next.stored_through.max(through);
        next.keep_right_views(stored.last_deletion);
        next.frozen_through = next.frozen_through.max(through);
        self.contents.store(Arc::new(next));
    }

    /// Rows and bytes in runs, and for how long the oldest has been here.
    pub fn load(&self) -> TableLoad {
        let contents = self.contents.load();
        let oldest = contents.runs.iter().map(|run| run.since()).min();
        TableLoad {
            rows: contents.runs.iter().map(|run| run.row_count()).sum(),
            bytes: contents.runs.iter().map(|run| run.byte_count()).sum(),
            runs: contents.runs.len(),
            age: oldest.map_or(Duration::ZERO, |since| self.clock.elapsed().saturating_sub(since)),
        }
    }
}

/// What a table keeps in memory.
#[derive(Debug, Clone, Copy)]
pub struct TableLoad {
    /// Rows as written.
    pub rows: usize,
    /// Their memory.
    pub bytes: usize,
    /// In how many runs.
    pub runs: usize,
    /// Since the oldest came.
    pub age: Duration,
}

/// The table's columns that occur in `batch`. Most writes have the columns of the write before: then its schema is shared.
fn run_schema(contents: &TableContents, batch: &RecordBatch) -> Arc<TableSchema> {
    let arrow = batch.schema_ref();
    for known in contents.runs.last().map(|run| run.schema()).into_iter().chain([&contents.schema]) {
        if known.arrow() == arrow {
            return Arc::clone(known);
        }
    }
    Arc::new(restrict(&contents.schema, arrow.fields().iter().map(|field| field.name().as_str())))
}

/// The columns of `schema` that are named, in its own order.
pub(super) fn restrict<'a>(schema: &TableSchema, names: impl Iterator<Item = &'a str>) -> TableSchema {
    let names: HashSet<&str> = names.collect();
    TableSchema::new(schema.columns().filter(|column| names.contains(column.name.as_str())))
}
