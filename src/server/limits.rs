//! How often somebody may ask, and how much they may write, in a second: one bucket of each for each token.
//!
//! A bucket holds what may be used in one second and fills steadily. Whoever finds it empty is told when to come back. What is known
//! only after it came, as the size of a body, is taken all the same: the bucket is then in debt, and what follows waits longer.
//! So a body larger than a second's worth passes, and on average nobody gets more than their rate.
//!
//! Not here: how many queries run at one time (`query::running`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::query::Asker;

/// Buckets that are kept, as long as it helps. Those that are full again are forgotten: a new one is full too.
const BUCKETS_MAX: usize = 10_000;

/// Added to what somebody has to wait, so that it is enough although fractions are rounded.
const ROUNDING: Duration = Duration::from_millis(1);

/// What one token may do in a second; `None`: any amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests and calls.
    pub requests_per_second: Option<usize>,
    /// Bytes of rows, after decompression.
    pub write_bytes_per_second: Option<usize>,
    /// Rows: lines of line protocol, and rows of Arrow.
    pub write_rows_per_second: Option<usize>,
}

/// The buckets of all who ask.
#[derive(Debug)]
pub(crate) struct Limits {
    requests: Option<Buckets>,
    write_bytes: Option<Buckets>,
    write_rows: Option<Buckets>,
    clock: Arc<dyn Clock>,
    refused: AtomicU64,
}

impl Limits {
    /// Full buckets.
    pub(super) fn new(settings: LimitSettings, clock: Arc<dyn Clock>) -> Self {
        let buckets = |per_second: Option<usize>| per_second.map(Buckets::new);
        Self {
            requests: buckets(settings.requests_per_second),
            write_bytes: buckets(settings.write_bytes_per_second),
            write_rows: buckets(settings.write_rows_per_second),
            clock,
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// `Limited`, with the time to wait, if there were too many.
    pub(super) fn request(&self, asker: &Asker) -> Result<()> {
        let told = "requests of this token in a second are the most that --max-requests-per-second-per-token allows";
        self.take(self.requests.as_ref(), asker, 1, told)
    }

    /// Takes so many bytes of rows, which are still to be counted: [`Limits::wrote`] does when they are read.
    ///
    /// # Errors
    /// `Limited`, with the time to wait, if there were too many bytes or rows before these.
    pub(super) fn write(&self, asker: &Asker, bytes: usize) -> Result<()> {
        let told =
            "rows written with this token in a second are the most that --max-write-rows-per-second-per-token allows";
        self.take(self.write_rows.as_ref(), asker, 0, told)?;
        let told =
            "bytes written with this token in a second are the most that --max-write-bytes-per-second-per-token allows";
        self.take(self.write_bytes.as_ref(), asker, bytes, told)
    }

    /// Counts rows that were taken as bytes before.
    pub(super) fn wrote(&self, asker: &Asker, rows: usize) {
        if let Some(buckets) = &self.write_rows {
            buckets.charge(asker, rows, self.clock.elapsed());
        }
    }

    /// Takes so many bytes and rows as soon as there are not too many before these: whoever can't be refused is slowed down.
    pub(super) async fn write_in_turn(&self, asker: &Asker, bytes: usize, rows: usize) {
        for (buckets, amount) in [(&self.write_bytes, bytes), (&self.write_rows, rows)] {
            let Some(buckets) = buckets else { continue };
            while let Err(wait) = buckets.take(asker, amount, self.clock.elapsed()) {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// How many were told to come back later.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, buckets: Option<&Buckets>, asker: &Asker, amount: usize, told: &str) -> Result<()> {
        let Some(buckets) = buckets else { return Ok(()) };
        buckets.take(asker, amount, self.clock.elapsed()).map_err(|wait| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!("{} {told}; come back in {wait:.1?}", buckets.per_second);
            Error::new(ErrorKind::Limited, message).with_retry_after(wait)
        })
    }
}

/// Buckets of one kind.
#[derive(Debug)]
struct Buckets {
    per_second: usize,
    buckets: Mutex<HashMap<Asker, Bucket>>,
}

/// What somebody has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below zero if too much was taken.
    level: f64,
    /// When that was so.
    at: Duration,
}

impl Buckets {
    fn new(per_second: usize) -> Self {
        Self { per_second, buckets: Mutex::default() }
    }

    /// # Errors
    /// How long to wait.
    fn take(&self, asker: &Asker, amount: usize, now: Duration) -> Result<(), Duration> {
        self.with(asker, now, |bucket, rate| {
            if bucket.level < 1.0 {
                return Err(Duration::from_secs_f64((1.0 - bucket.level) / rate) + ROUNDING);
            }
            bucket.level -= amount as f64;
            Ok(())
        })
    }

    /// Takes what was used already.
    fn charge(&self, asker: &Asker, amount: usize, now: Duration) {
        self.with(asker, now, |bucket, _| bucket.level -= amount as f64);
    }

    /// Uses somebody's bucket as it is now, and the rate by which it fills.
    fn with<T>(&self, asker: &Asker, now: Duration, work: impl FnOnce(&mut Bucket, f64) -> T) -> T {
        let rate = self.per_second as f64;
        let level = |bucket: &Bucket| {
            let passed = now.saturating_sub(bucket.at).as_secs_f64();
            rate.min(bucket.level + passed * rate)
        };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(asker) {
            buckets.retain(|_, bucket| level(bucket) < rate);
        }
        let bucket = buckets.entry(asker.clone()).or_insert(Bucket { level: rate, at: now });
        *bucket = Bucket { level: level(bucket), at: now.max(bucket.at) };
        work(bucket, rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asker(name: &str) -> Asker {
        Asker { name: name.to_owned(), kind: "token", ..Asker::default() }
    }

    #[test]
    fn a_second_is_used_up_and_comes_back_steadily() {
        let buckets = Buckets::new(10);
        let at = |millis| Duration::from_millis(millis);
        for _ in 0..10 {
            buckets.take(&asker("a"), 1, at(0)).unwrap();
        }
        assert_eq!(buckets.take(&asker("a"), 1, at(0)), Err(at(101)));
        buckets.take(&asker("b"), 1, at(0)).unwrap();
        buckets.take(&asker("a"), 1, at(101)).unwrap();
        assert!(buckets.take(&asker("a"), 1, at(150)).is_err());
    }

    #[test]
    fn a_large_body_passes_and_is_paid_for_afterwards() {
        let buckets = Buckets::new(1000);
        buckets.take(&asker("a"), 5000, Duration::ZERO).unwrap();
        let wait = buckets.take(&asker("a"), 1, Duration::ZERO).unwrap_err();
        assert_eq!(wait, Duration::from_millis(4002));
        buckets.take(&asker("a"), 1, wait).unwrap();
    }

    #[test]
    fn rows_that_are_counted_afterwards_are_paid_for_by_what_follows() {
        let buckets = Buckets::new(100);
        for rows in [50, 100] {
            buckets.take(&asker("a"), 0, Duration::ZERO).unwrap();
            buckets.charge(&asker("a"), rows, Duration::ZERO);
        }
        assert_eq!(buckets.take(&asker("a"), 0, Duration::ZERO), Err(Duration::from_millis(511)));
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let buckets = Buckets::new(1);
        for n in 0..BUCKETS_MAX {
            buckets.take(&asker(&n.to_string()), 1, Duration::ZERO).unwrap();
        }
        buckets.take(&asker("late"), 1, Duration::from_secs(2)).unwrap();
        assert_eq!(buckets.buckets.lock().len(), 1);
    }

    proptest! {
        /// Whatever comes whenever: no more passes than a second's worth at once and the rate over the time, but for the last one.
        #[test]
        fn nobody_gets_more_than_their_rate(takes in proptest::collection::vec((0_u64..2000, 1_usize..300), 1..100)) {
            let buckets = Buckets::new(100);
            let (mut now, mut passed, mut last) = (Duration::ZERO, 0, 0);
            for (millis, amount) in takes {
                now += Duration::from_millis(millis);
                if buckets.take(&asker("a"), amount, now).is_ok() {
                    passed += amount;
                    last = amount;
                }
            }
            let most = 100.0 + 100.0 * now.as_secs_f64() + last as f64;
            prop_assert!(passed as f64 <= most, "{passed} of {most}");
        }
    }
}
