//! How much memory of the pool one query has, and had at most.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// Bytes that one query has reserved.
#[derive(Debug, Default)]
pub(super) struct Meter {
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Meter {
    /// The most that it has had at one time, in bytes.
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }
}

/// The pool of all queries, as one of them sees it: the same limits, and a count of its own.
#[derive(Debug)]
pub(super) struct MeteredPool {
    pub(super) pool: Arc<dyn MemoryPool>,
    pub(super) meter: Arc<Meter>,
}

impl fmt::Display for MeteredPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for MeteredPool {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.meter.add(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.meter.used.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)?;
        self.meter.add(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn the_peak_stays_when_memory_goes_and_counts_no_refusal() {
        let meter = Arc::new(Meter::default());
        let shared: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let pool: Arc<dyn MemoryPool> = Arc::new(MeteredPool { pool: Arc::clone(&shared), meter: Arc::clone(&meter) });
        let reservation = MemoryConsumer::new("sort").register(&pool);
        reservation.try_grow(60).unwrap();
        assert!(reservation.try_grow(60).is_err());
        reservation.shrink(50);
        reservation.try_grow(20).unwrap();
        assert_eq!((meter.peak(), shared.reserved()), (60, 30));
        drop(reservation);
        assert_eq!((meter.peak(), shared.reserved()), (60, 0));
    }
}
