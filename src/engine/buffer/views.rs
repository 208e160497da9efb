//! What is kept for a table's caches, swapped with its runs and files.

use std::sync::Arc;
use std::time::Duration;

use super::table::{TableBuffer, TableContents};
use crate::engine::caches::CacheView;
use crate::model::{CacheDefinition, Sequence};

impl TableContents {
    /// Lets go of the views that lack writes which are in files now; of all if rows were deleted.
    pub(super) fn keep_right_views(&mut self, last_deletion: u64) {
        let is_right = |view: &CacheView| last_deletion == self.last_deletion && view.survives(self.stored_through);
        if !self.views.iter().all(|view| is_right(view)) {
            self.views = Arc::new(self.views.iter().filter(|view| is_right(view)).cloned().collect());
        }
        self.last_deletion = last_deletion;
    }

    /// The view of a cache.
    pub(in crate::engine) fn view(&self, definition: &CacheDefinition) -> Option<&Arc<CacheView>> {
        self.views.iter().find(|view| **view.definition() == *definition)
    }

    fn without_view(&self, definition: &CacheDefinition) -> Vec<Arc<CacheView>> {
        self.views.iter().filter(|view| **view.definition() != *definition).cloned().collect()
    }
}

impl TableBuffer {
    /// Puts a view in the place of the one that it was made of. Says whether it did: not if that is gone.
    pub(in crate::engine) fn replace_view(&self, old: &Arc<CacheView>, new: &Arc<CacheView>) -> bool {
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        let Some(place) = contents.views.iter().position(|view| Arc::ptr_eq(view, old)) else { return false };
        if !new.survives(contents.stored_through) {
            return false;
        }
        let mut next = TableContents::clone(&contents);
        Arc::make_mut(&mut next.views)[place] = Arc::clone(new);
        self.contents.store(Arc::new(next));
        true
    }

    /// Puts a first view of a cache, instead of any that is there, and returns the contents that it stands in. `view` is told
    /// the contents; it makes none if that can't be now.
    pub(in crate::engine) fn begin_view(
        &self,
        view: impl FnOnce(&TableContents) -> Option<Arc<CacheView>>,
    ) -> Option<Arc<TableContents>> {
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        if contents.views_barred > 0 {
            return None;
        }
        let view = view(&contents)?;
        let mut next = TableContents::clone(&contents);
        let mut views = contents.without_view(view.definition());
        views.push(view);
        next.views = Arc::new(views);
        let next = Arc::new(next);
        self.contents.store(Arc::clone(&next));
        Some(next)
    }

    /// Lets go of what is kept for a cache.
    pub(in crate::engine) fn drop_view(&self, definition: &CacheDefinition) {
        let _changing = self.change.lock();
        let contents = self.contents.load_full();
        if contents.view(definition).is_some() {
            let mut next = TableContents::clone(&contents);
            next.views = Arc::new(contents.without_view(definition));
            self.contents.store(Arc::new(next));
        }
    }

    /// Lets go of all views, and lets none begin until the guard is dropped.
    pub(in crate::engine) fn bar_views(self: &Arc<Self>) -> BarredViews {
        let _changing = self.change.lock();
        let mut next = TableContents::clone(&self.contents.load_full());
        next.views = Arc::default();
        next.views_barred += 1;
        self.contents.store(Arc::new(next));
        BarredViews(Arc::clone(self))
    }

    /// Time since some moment of this process.
    pub(in crate::engine) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}

/// A table has no views while this is there.
#[derive(Debug)]
pub(in crate::engine) struct BarredViews(Arc<TableBuffer>);

impl Drop for BarredViews {
    fn drop(&mut self) {
        let _changing = self.0.change.lock();
        let mut next = TableContents::clone(&self.0.contents.load_full());
        next.views_barred = next.views_barred.saturating_sub(1);
        self.0.contents.store(Arc::new(next));
    }
}

impl CacheView {
    /// Whether it is still right once every write up to here is in files, and in no run.
    fn survives(&self, stored_through: Sequence) -> bool {
        !self.is_kept_up() || self.through() >= stored_through
    }
}
