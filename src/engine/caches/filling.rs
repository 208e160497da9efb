//! How a view comes to its first rows: somebody reads the table, while the writes that come meanwhile are taken in beside.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::condense::fold;
use super::view::{CacheView, FillToken, Parts, Phase};
use crate::engine::buffer::{MemoryBudget, TableBuffer};
use crate::engine::snapshot::TableSnapshot;
use crate::error::Result;
use crate::model::{CacheDefinition, Sequence};

/// A view that is being filled. Dropped without [`CacheFill::finish`] it stays without rows, and is begun anew some time.
#[derive(Debug)]
pub struct CacheFill {
    pub(super) definition: Arc<CacheDefinition>,
    pub(super) snapshot: Arc<TableSnapshot>,
    pub(super) table: Arc<TableBuffer>,
    pub(super) token: FillToken,
    pub(super) through: Sequence,
    pub(super) memory: Arc<MemoryBudget>,
}

impl CacheFill {
    /// The table that has to be read: all rows from [`TableSnapshot::cache_from`] on.
    pub fn snapshot(&self) -> &Arc<TableSnapshot> {
        &self.snapshot
    }

    /// The cache.
    pub fn definition(&self) -> &Arc<CacheDefinition> {
        &self.definition
    }

    /// Bytes that its rows may take at the most.
    pub fn bytes_max(&self) -> usize {
        self.memory.max().saturating_sub(self.memory.used())
    }

    /// Notes that so many more rows of the table were read.
    pub fn advance(&self, rows: usize) {
        self.token.advance(rows as u64);
    }

    /// Takes the rows of the snapshot that count. Says whether the cache answers from now on: not if it has gone
    /// meanwhile, rows were deleted, or there is no room.
    ///
    /// # Errors
    /// `Internal` if the rows are not those of this cache.
    pub fn finish(self, rows: &RecordBatch) -> Result<bool> {
        let (definition, complete_from) = (&self.definition, self.snapshot.cache_from(&self.definition));
        loop {
            let contents = self.table.contents();
            let Some(begun) = contents.view(definition).filter(|view| self.is_own(view)) else { return Ok(false) };
            let (kept, mut inputs) = (definition.kept(&contents.schema), vec![rows.clone()]);
            if begun.through() > self.through {
                inputs.push(begun.rows().clone());
            }
            let rows = if inputs.len() > 1 { fold(definition, &kept, inputs)? } else { rows.clone() };
            let table = if begun.through() > self.through { &contents.schema } else { &self.snapshot.schema };
            let parts = Parts {
                definition: Arc::clone(definition),
                phase: Phase::Filled,
                table: Arc::clone(table),
                rows,
                through: begun.through(),
                complete_from,
            };
            let filled = Arc::new(CacheView::new(parts, &self.memory)?.if_it_fits(begun, self.table.elapsed())?);
            if self.table.replace_view(begun, &filled) {
                return Ok(matches!(filled.phase(), Phase::Filled));
            }
        }
    }

    /// Gives up because the rows take more memory than there is.
    ///
    /// # Errors
    /// `Internal`; a defect.
    pub fn too_large(self) -> Result<()> {
        loop {
            let contents = self.table.contents();
            let Some(begun) = contents.view(&self.definition).filter(|view| self.is_own(view)) else { return Ok(()) };
            let phase = Phase::TooLarge(self.table.elapsed());
            let none = CacheView::empty(&self.definition, phase, &contents.schema, begun.through(), &self.memory)?;
            if self.table.replace_view(begun, &Arc::new(none)) {
                return Ok(());
            }
        }
    }

    fn is_own(&self, view: &CacheView) -> bool {
        matches!(view.phase(), Phase::Filling(token) if token.is(&self.token))
    }
}
