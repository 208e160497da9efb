//! The only place that reads time and draws random identifiers.
//!
//! Everything that must behave the same in a test and after a crash is handed a [`Clock`];
//! nothing else calls `SystemTime::now`, `Instant::now` or `Uuid::new_v4`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::model::Timestamp;

/// Where time and identifiers come from.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// The wall clock in nanoseconds since 1970-01-01T00:00:00Z. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. It never goes backwards; use it for durations.
    fn elapsed(&self) -> Duration;

    /// A random identifier that no other call will return.
    fn unique_id(&self) -> Uuid;
}

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose `elapsed` starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may read the machine's clock")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that may read the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that may draw identifiers")]
    fn unique_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicI64,
    /// By how much the wall clock was set to another time.
    ahead: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { nanos: AtomicI64::new(now.as_nanos()), ahead: AtomicI64::new(0) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock by so many nanoseconds ahead, or back if negative, in no time.
    pub fn jump(&self, nanos: i64) {
        self.ahead.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Ordering::SeqCst) + self.ahead.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos.load(Ordering::SeqCst)).unwrap_or(0))
    }

    #[expect(clippy::disallowed_methods, reason = "identifiers must differ even where time stands still")]
    fn unique_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}
