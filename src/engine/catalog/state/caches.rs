//! Caches of tables. They go and come back with their tables.

use std::sync::Arc;

use super::super::error::ChangeError;
use super::{CatalogState, TableEntry};
use crate::model::{CacheDefinition, CacheKind, TableId};

impl TableEntry {
    /// The cache of this kind and name.
    pub fn cache(&self, kind: CacheKind, name: &str) -> Option<&Arc<CacheDefinition>> {
        self.caches_of(kind).find(|cache| cache.name == name)
    }

    /// The caches of this kind, in the order in which they were made.
    pub fn caches_of(&self, kind: CacheKind) -> impl Iterator<Item = &Arc<CacheDefinition>> {
        self.caches.iter().filter(move |cache| cache.kind() == kind)
    }
}

impl CatalogState {
    pub(super) fn create_cache(&mut self, table: TableId, cache: &CacheDefinition) -> Result<(), ChangeError> {
        let entry = self.table_mut(table)?;
        if entry.cache(cache.kind(), &cache.name).is_some() {
            return Err(ChangeError::Exists);
        }
        entry.caches.push(Arc::new(cache.clone()));
        Ok(())
    }

    pub(super) fn delete_cache(&mut self, table: TableId, kind: CacheKind, name: &str) -> Result<(), ChangeError> {
        let entry = self.table_mut(table)?;
        if entry.cache(kind, name).is_none() {
            return Err(ChangeError::NoCache { kind, name: name.to_owned() });
        }
        entry.caches.retain(|cache| cache.kind() != kind || cache.name != name);
        Ok(())
    }
}
