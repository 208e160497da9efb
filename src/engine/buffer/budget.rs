//! The memory that buffered rows may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// A limit in bytes that [`Charge`]s count against.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicUsize,
    max: usize,
    freed: Notify,
}

/// Bytes in use; given back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of `max` bytes of which nothing is used.
    pub fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max, freed: Notify::new() }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// The limit in bytes.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Waits until less than the limit is used, at most for `patience`; says whether it is.
    ///
    /// What is on its way between this call and its charge may pass the limit: by no more than the
    /// log's own queue holds.
    pub async fn has_room(&self, patience: Duration) -> bool {
        let wait = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable(); // before the look, so that no release in between is missed
                if self.used() < self.max {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    /// Counts bytes until the charge is dropped, also past the limit.
    pub(in crate::engine) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Charge { budget: Arc::clone(self), bytes }
    }
}

impl Charge {
    /// The bytes that it counts.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.freed.notify_waiters();
    }
}
