//! When to try again what failed: after a pause that doubles, and that is a little different each time, so that what failed
//! together doesn't come back together.

use std::time::Duration;

use crate::clock::Clock;

/// The first pause is at most so long.
const FIRST: Duration = Duration::from_secs(1);

/// The pause doubles at most this often: 32 seconds.
const DOUBLINGS_MAX: u32 = 5;

/// Something that failed some times in a row, or not at all.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// By the clock's elapsed time.
    until: Duration,
}

impl Backoff {
    /// It failed once more.
    pub(super) fn failed(&mut self, clock: &dyn Clock) {
        let longest = FIRST * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        let [.., random] = *clock.unique_id().as_bytes(); // even: from half of it to all of it
        self.until = clock.elapsed() + longest / 2 + longest / 2 * u32::from(random) / u32::from(u8::MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether it may be tried now.
    pub(super) fn is_over(&self, clock: &dyn Clock) -> bool {
        clock.elapsed() >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::model::Timestamp;

    #[test]
    fn the_pause_doubles_up_to_half_a_minute() {
        let clock = ManualClock::new(Timestamp::from_nanos(0));
        let mut backoff = Backoff::default();
        assert!(backoff.is_over(&clock));
        for longest in [1, 2, 4, 8, 16, 32, 32, 32].map(Duration::from_secs) {
            backoff.failed(&clock);
            clock.advance(longest / 2 - Duration::from_nanos(1));
            assert!(!backoff.is_over(&clock), "{longest:?}");
            clock.advance(longest / 2 + Duration::from_nanos(1));
            assert!(backoff.is_over(&clock), "{longest:?}");
        }
    }
}
