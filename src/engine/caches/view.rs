//! What is kept of a table for one cache, and how it follows the writes.
//!
//! A view holds the rows that count of all writes through one. They are sorted and unique like a run, and in front of the
//! runs with later writes they are one more: merging both gives what is kept after those writes. A run may begin before the
//! view's last write, because neighbours are joined; merging what is there already once more changes nothing, since
//! the run also holds everything after it.
//!
//! Keeping only the rows that count loses nothing: a point of a key that is not among its newest `count` never will be,
//! however many are written, unless rows are deleted; then a view goes. Where each column's newest value counts, a point that has none
//! of them never will have one; and of a point that is kept for one of them others may be missing, which are not the newest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use parking_lot::Mutex;

use super::condense::{arrange, fold};
use super::lookup::{Lookup, TagIndex, matching};
use super::newest::times;
use super::unfit;
use crate::engine::buffer::{BufferedRun, Charge, MemoryBudget, TableBuffer, TableContents};
use crate::engine::snapshot::TableSnapshot;
use crate::error::Result;
use crate::model::last_write_wins::{conform, take_compact};
use crate::model::{CacheDefinition, Sequence, TableSchema, Timestamp, batch_bytes};

/// Rows of new runs that a question looks through before they are merged into the view. Most tables get fewer between two
/// questions for one key, and looking through them takes less time than planning the question.
const ROWS_BESIDE_MAX: usize = 8 << 10;

/// So many rows are kept as an answer too when somebody asks for some of them. Of more that is done when all are asked for.
const ANSWER_ROWS_MAX: usize = 64 << 10;

/// The rows of one cache through one write. It never changes.
#[derive(Debug)]
pub(in crate::engine) struct CacheView {
    definition: Arc<CacheDefinition>,
    phase: Phase,
    /// The table's columns when it was made.
    table: Arc<TableSchema>,
    /// With the columns that are kept.
    rows: RecordBatch,
    /// Every write up to here is in it.
    through: Sequence,
    /// Of rows before this time some may be missing.
    complete_from: Option<Timestamp>,
    /// The smallest time of all rows.
    oldest: Option<Timestamp>,
    /// All rows as an answer: made when somebody first asks.
    answer: OnceLock<(RecordBatch, Option<Charge>)>,
    /// Of the tags by which somebody asked.
    indexes: Mutex<Vec<Index>>,
    memory: Arc<MemoryBudget>,
    charge: Charge,
}

#[derive(Debug)]
struct Index {
    of: Indexed,
    column: String,
    rows: Arc<TagIndex>,
    charge: Charge,
}

/// The rows that an index finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexed {
    Kept,
    Answer,
}

/// How far a view is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// It has the writes since somebody began to read the table, and not what was there before.
    Filling(FillToken),
    /// It can answer.
    Filled,
    /// There was no room for it at this time, on the process's own clock.
    TooLarge(Duration),
}

/// One filling, which is not the next one, and how far it is.
#[derive(Debug, Clone, Default)]
pub(super) struct FillToken(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    read: AtomicU64,
    /// As many rows as there are to be read, deleted and overwritten ones among them.
    rows: u64,
}

impl FillToken {
    /// A filling that reads so many rows.
    pub(super) fn of_rows(rows: u64) -> Self {
        Self(Arc::new(Progress { read: AtomicU64::new(0), rows }))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Notes that so many more rows were read.
    pub(super) fn advance(&self, rows: u64) {
        self.0.read.fetch_add(rows, Ordering::Relaxed);
    }

    /// Which part of the rows was read, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a part of a whole, for people to read")]
        let part = self.0.read.load(Ordering::Relaxed) as f64 / self.0.rows.max(1) as f64;
        part.min(1.0)
    }
}

/// What a view is made of.
pub(super) struct Parts {
    pub(super) definition: Arc<CacheDefinition>,
    pub(super) phase: Phase,
    pub(super) table: Arc<TableSchema>,
    pub(super) rows: RecordBatch,
    pub(super) through: Sequence,
    pub(super) complete_from: Option<Timestamp>,
}

impl CacheView {
    /// `rows` have the columns that are kept.
    pub(super) fn new(parts: Parts, memory: &Arc<MemoryBudget>) -> Result<Self> {
        let Parts { definition, phase, table, rows, through, complete_from } = parts;
        let oldest = times(&rows).map_err(unfit)?.iter().min().copied().map(Timestamp::from_nanos);
        let charge = memory.charge(batch_bytes(&rows));
        Ok(Self {
            definition,
            phase,
            table,
            rows,
            through,
            complete_from,
            oldest,
            answer: OnceLock::new(),
            indexes: Mutex::default(),
            memory: Arc::clone(memory),
            charge,
        })
    }

    /// A view without rows.
    pub(super) fn empty(
        definition: &Arc<CacheDefinition>,
        phase: Phase,
        table: &Arc<TableSchema>,
        through: Sequence,
        memory: &Arc<MemoryBudget>,
    ) -> Result<Self> {
        let rows = RecordBatch::new_empty(Arc::clone(definition.kept(table).arrow()));
        let definition = Arc::clone(definition);
        let table = Arc::clone(table);
        Self::new(Parts { definition, phase, table, rows, through, complete_from: None }, memory)
    }

    /// Of which cache.
    pub(in crate::engine) fn definition(&self) -> &Arc<CacheDefinition> {
        &self.definition
    }

    /// Every write up to here is in it.
    pub(in crate::engine) fn through(&self) -> Sequence {
        self.through
    }

    /// Whether it has rows at all, or is only the word that there was no room.
    pub(in crate::engine) fn is_kept_up(&self) -> bool {
        !matches!(self.phase, Phase::TooLarge(_))
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    pub(super) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Memory of its rows in bytes.
    pub(super) fn bytes(&self) -> usize {
        batch_bytes(&self.rows)
    }

    /// Memory of all that belongs to it.
    fn charged(&self) -> usize {
        let answer = self.answer.get().and_then(|(_, charge)| charge.as_ref()).map_or(0, Charge::bytes);
        let indexes: usize = self.indexes.lock().iter().map(|index| index.charge.bytes()).sum();
        self.charge.bytes() + answer + indexes
    }

    /// Whether it can say all that there is from this time on; `None`: from the beginning.
    fn is_complete(&self, from: Option<Timestamp>) -> bool {
        matches!(self.phase, Phase::Filled) && self.complete_from <= from
    }

    /// The same cache after the writes of these runs, oldest first. Rows before `from`, which nobody will see any more, go.
    pub(super) fn after(
        &self,
        runs: &[Arc<BufferedRun>],
        table: &Arc<TableSchema>,
        from: Option<Timestamp>,
    ) -> Result<Self> {
        let mut inputs = vec![self.rows.clone()];
        for run in runs {
            inputs.push(run.sorted()?.clone());
        }
        let table = if table.column_count() < self.table.column_count() { &self.table } else { table };
        let rows = fold(&self.definition, &self.definition.kept(table), inputs)?;
        let last = runs.iter().map(|run| run.sequences().last).max();
        let parts = Parts {
            definition: Arc::clone(&self.definition),
            phase: self.phase.clone(),
            table: Arc::clone(table),
            rows: not_before(&rows, from)?,
            through: last.unwrap_or(self.through).max(self.through),
            complete_from: self.complete_from.max(from),
        };
        Self::new(parts, &self.memory)
    }

    /// This view, or if it takes more memory than there is the word that it does.
    pub(super) fn if_it_fits(self, instead_of: &Self, now: Duration) -> Result<Self> {
        // Both are charged at this moment.
        if self.memory.used().saturating_sub(instead_of.charged()) <= self.memory.max() {
            return Ok(self);
        }
        Self::empty(&self.definition, Phase::TooLarge(now), &self.table, self.through, &self.memory)
    }

    /// All rows as an answer.
    fn answer(&self) -> Result<&RecordBatch> {
        if let Some((answer, _)) = self.answer.get() {
            return Ok(answer);
        }
        let answer = arrange(&self.definition, &self.table, &self.rows)?;
        let shares = answer.columns().iter().zip(self.rows.columns()).any(|(a, b)| Arc::ptr_eq(a, b));
        let charge = (!shares).then(|| self.memory.charge(batch_bytes(&answer)));
        Ok(&self.answer.get_or_init(|| (answer, charge)).0)
    }

    /// Whether all rows as an answer are there, or take so little memory that they may be.
    fn has_answer_at_hand(&self) -> bool {
        self.answer.get().is_some() || self.rows.num_rows() <= ANSWER_ROWS_MAX
    }

    /// The kept rows that all lookups want.
    fn select(&self, lookups: &[Lookup]) -> Result<RecordBatch> {
        self.select_of(Indexed::Kept, &self.rows, lookups)
    }

    /// The rows of the answer that all lookups want.
    fn select_answer(&self, lookups: &[Lookup]) -> Result<RecordBatch> {
        self.select_of(Indexed::Answer, self.answer()?, lookups)
    }

    /// Rows of the answer with the columns that it has for a table with these columns.
    fn conformed(&self, rows: RecordBatch, table: &Arc<TableSchema>) -> Result<RecordBatch> {
        match self.table == *table {
            true => Ok(rows),
            false => conform(&rows, &super::answer_schema(&self.definition, table)).map_err(unfit),
        }
    }

    fn select_of(&self, of: Indexed, rows: &RecordBatch, lookups: &[Lookup]) -> Result<RecordBatch> {
        let Some((first, others)) = lookups.split_first() else { return Ok(rows.clone()) };
        let candidates = match self.index(of, rows, &first.column) {
            Some(index) => matching(rows, others, index.find(&first.values).into_iter()),
            None => matching(rows, lookups, 0..rows.num_rows() as u32),
        }
        .map_err(unfit)?;
        take_compact(rows, &candidates).map_err(unfit)
    }

    /// The index of a tag: made when somebody first asks by it.
    fn index(&self, of: Indexed, rows: &RecordBatch, column: &str) -> Option<Arc<TagIndex>> {
        let mut indexes = self.indexes.lock();
        if let Some(index) = indexes.iter().find(|index| index.of == of && index.column == column) {
            return Some(Arc::clone(&index.rows));
        }
        let index = Arc::new(TagIndex::new(rows.column_by_name(column)?)?);
        let charge = self.memory.charge(rows.num_rows() * 16);
        indexes.push(Index { of, column: column.to_owned(), rows: Arc::clone(&index), charge });
        Some(index)
    }
}

impl TableSnapshot {
    /// What the cache answers at this instant, with the columns of [`answer_schema`](super::answer_schema) for this table;
    /// `None` if the table itself has to be asked. Rows that a lookup does not want are left out; lookups are of the
    /// columns of the key.
    ///
    /// # Errors
    /// `Internal` if rows don't fit; a defect.
    pub fn cached(&self, definition: &Arc<CacheDefinition>, lookups: &[Lookup]) -> Result<Option<RecordBatch>> {
        let Some(view) = self.view(definition) else { return Ok(None) };
        let from = self.cache_from(definition);
        let beside = newer(&self.runs, view.through);
        let rows_beside: usize = beside.iter().map(|run| run.row_count()).sum();
        // Of a bounded number of keys, which ones count can't be told from some of them.
        let has_room = definition.keys_max().is_none_or(|max| view.row_count() + rows_beside <= max);
        let has_expired = view.oldest.is_some_and(|oldest| Some(oldest) < from);
        if !lookups.is_empty() && rows_beside <= ROWS_BESIDE_MAX && (has_room || beside.is_empty()) {
            let mut inputs = Vec::with_capacity(beside.len() + 1);
            for run in beside {
                let rows = run.sorted()?;
                let wanted = matching(rows, lookups, 0..rows.num_rows() as u32).map_err(unfit)?;
                if !wanted.is_empty() {
                    inputs.push(take_compact(rows, &wanted).map_err(unfit)?);
                }
            }
            // Mostly the keys that are asked for have no new points.
            if inputs.is_empty() && !has_expired && view.has_answer_at_hand() {
                return view.conformed(view.select_answer(lookups)?, &self.schema).map(Some);
            }
            inputs.insert(0, view.select(lookups)?);
            let rows = fold(definition, &definition.kept(&self.schema), inputs)?;
            return arrange(definition, &self.schema, &not_before(&rows, from)?).map(Some);
        }
        let view = match beside.is_empty() && !has_expired {
            true => Arc::clone(view),
            false => {
                let next = Arc::new(view.after(beside, &self.schema, from)?);
                self.offer(view, &next);
                next
            }
        };
        match lookups.is_empty() {
            true => view.conformed(view.answer()?.clone(), &self.schema).map(Some),
            false if view.has_answer_at_hand() => view.conformed(view.select_answer(lookups)?, &self.schema).map(Some),
            false => arrange(definition, &self.schema, &view.select(lookups)?).map(Some),
        }
    }

    /// Whether the cache can answer without the table.
    pub fn is_cached(&self, definition: &CacheDefinition) -> bool {
        self.view(definition).is_some()
    }

    /// How many rows the cache answers with at the most, if it can answer.
    pub fn cached_rows_at_most(&self, definition: &CacheDefinition) -> Option<usize> {
        let view = self.view(definition)?;
        let beside = newer(&self.runs, view.through).iter().map(|run| run.row_count());
        Some(view.row_count() + beside.sum::<usize>())
    }

    fn view(&self, definition: &CacheDefinition) -> Option<&Arc<CacheView>> {
        let view = self.views.iter().find(|view| *view.definition == *definition)?;
        let follows = newer(&self.runs, view.through).is_empty() || definition.follows_writes(&self.schema);
        (follows && view.is_complete(self.cache_from(definition))).then_some(view)
    }

    /// The first time of which rows are shown; `None`: from the beginning.
    pub fn cache_from(&self, definition: &CacheDefinition) -> Option<Timestamp> {
        self.visible_from.max(definition.age_max().map(|age| self.taken_at.before(age)))
    }

    /// Spares the next one who asks the work.
    fn offer(&self, view: &Arc<CacheView>, next: &Arc<CacheView>) {
        let fits = view.memory.used().saturating_sub(view.charged()) <= view.memory.max();
        if let Some(table) = self.buffer.as_ref().filter(|_| fits) {
            table.replace_view(view, next);
        }
    }
}

/// The runs with writes after this one.
fn newer(runs: &[Arc<BufferedRun>], through: Sequence) -> &[Arc<BufferedRun>] {
    &runs[runs.partition_point(|run| run.sequences().last <= through)..]
}

/// The rows whose time is not before this; all if there is none.
fn not_before(rows: &RecordBatch, from: Option<Timestamp>) -> Result<RecordBatch> {
    let Some(from) = from.map(Timestamp::as_nanos) else { return Ok(rows.clone()) };
    let times = times(rows).map_err(unfit)?;
    if times.iter().all(|time| *time >= from) {
        return Ok(rows.clone());
    }
    let wanted: BooleanArray = times.iter().map(|time| Some(*time >= from)).collect();
    filter_record_batch(rows, &wanted).map_err(unfit)
}

/// Takes the newest runs into every view of the table. A view that can't is let go, and is filled anew.
pub(in crate::engine) fn advance(table: &TableBuffer) {
    advance_where(table, |_, _| true);
}

/// The same where there are so many of them that questions would suffer.
pub(in crate::engine) fn advance_if_due(table: &TableBuffer) {
    advance_where(table, |view, runs| {
        let rows: usize = runs.iter().map(|run| run.row_count()).sum();
        rows > ROWS_BESIDE_MAX / 2 && rows > view.row_count() / 4
    });
}

fn advance_where(table: &TableBuffer, is_due: impl Fn(&CacheView, &[Arc<BufferedRun>]) -> bool) {
    let contents = table.contents();
    for view in contents.views.iter() {
        if let Err(error) = advance_one(table, &contents, view, &is_due) {
            let (table_id, cache) = (table.id().get(), &view.definition.name);
            tracing::error!(error = error.report(), table = table_id, cache, "a cache could not follow the writes");
            table.drop_view(&view.definition);
        }
    }
}

fn advance_one(
    table: &TableBuffer,
    contents: &TableContents,
    view: &Arc<CacheView>,
    is_due: &impl Fn(&CacheView, &[Arc<BufferedRun>]) -> bool,
) -> Result<()> {
    let mut view = Arc::clone(view);
    loop {
        let runs = newer(&contents.runs, view.through);
        let is_kept = view.is_kept_up() && view.definition.follows_writes(&contents.schema);
        if runs.is_empty() || !is_kept || !is_due(&view, runs) {
            return Ok(());
        }
        let next = view.after(runs, &contents.schema, None)?.if_it_fits(&view, table.elapsed())?;
        if table.replace_view(&view, &Arc::new(next)) {
            return Ok(());
        }
        // Somebody else was faster: on with what is there now.
        match table.contents().views.iter().find(|known| known.definition == view.definition) {
            Some(known) => view = Arc::clone(known),
            None => return Ok(()),
        }
    }
}
