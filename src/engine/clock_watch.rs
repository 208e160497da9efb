//! Whether the wall clock can be believed where it says that something is old enough to go for good.
//!
//! A machine that starts with a wrong clock, or whose clock is set years ahead, would find all files expired and all garbage
//! due, and nobody could bring them back. So whoever removes asks here: after a jump nothing is removed until as much time
//! has passed as garbage is kept, which is what an operator has to notice and to set the clock right.
//!
//! A jump shows in two ways: the wall clock moved by more than the time that passed in this process, or by more than
//! half a day from one record of the catalog to the next, so that a restart forgets nothing. A server that was off for long looks
//! the same; there, the space comes back a day later.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::catalog::{CatalogState, is_jump};
use crate::clock::Clock;
use crate::model::Timestamp;

/// See the module.
#[derive(Debug)]
pub(super) struct ClockWatch {
    clock: Arc<dyn Clock>,
    hold: Duration,
    seen: Mutex<Seen>,
}

/// What the clock showed when it was last looked at.
#[derive(Debug)]
struct Seen {
    wall: Timestamp,
    elapsed: Duration,
    /// Nothing is removed before so much time has passed in this process.
    held_until: Duration,
}

impl ClockWatch {
    /// After a jump nothing is removed for `hold`. `state` is the catalog at this start, with this start's own record.
    pub(super) fn new(clock: Arc<dyn Clock>, hold: Duration, state: &CatalogState) -> Self {
        let (wall, elapsed) = (clock.now(), clock.elapsed());
        let steady_since = if is_jump(state.last_record_at(), wall) { wall } else { state.steady_since() };
        let until = steady_since.after(hold).as_nanos();
        let left = Duration::from_nanos(u64::try_from(until.saturating_sub(wall.as_nanos())).unwrap_or(0)).min(hold);
        if !left.is_zero() {
            tracing::warn!(
                ?left,
                "the clock has jumped, or the server was off for long: expired rows stay hidden, but nothing is removed for good \
                 until that time has passed; if the clock is wrong, set it right before then"
            );
        }
        Self { clock, hold, seen: Mutex::new(Seen { wall, elapsed, held_until: elapsed + left }) }
    }

    /// The time by which it is judged what is old enough to go; `None` while nothing may go.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (wall, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut seen = self.seen.lock();
        let expected = seen.wall.after(elapsed.saturating_sub(seen.elapsed));
        if is_jump(expected, wall) {
            seen.held_until = elapsed + self.hold;
            tracing::error!(
                %expected,
                shown = %wall,
                hold = ?self.hold,
                "the clock has jumped: expired rows stay hidden, but nothing is removed for good until that time has passed; if the clock is wrong, set it \
                 right before then"
            );
        }
        (seen.wall, seen.elapsed) = (wall, elapsed);
        (elapsed >= seen.held_until).then_some(wall)
    }

    /// How long nothing is removed for; zero if the clock is believed.
    pub(super) fn held_for(&self) -> Duration {
        self.seen.lock().held_until.saturating_sub(self.clock.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::clock::ManualClock;
    use crate::engine::catalog::{Catalog, CatalogSettings};
    use crate::engine::store::Store;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const DAY_NANOS: i64 = 24 * 3600 * 1_000_000_000;

    struct Machine {
        clock: Arc<ManualClock>,
        store: Store,
    }

    impl Machine {
        async fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(20_000 * DAY_NANOS)));
            Self { clock, store: Store::new(Arc::new(InMemory::new()), "test") }
        }

        /// Starts, which is a record in the log.
        async fn start(&self) -> ClockWatch {
            let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
            let catalog = Catalog::open(&self.store, Arc::clone(&clock), CatalogSettings::default()).await.unwrap();
            catalog.commit(|state| Ok(vec![a_change(state)])).await.unwrap();
            ClockWatch::new(clock, DAY, &catalog.state())
        }
    }

    fn a_change(state: &CatalogState) -> crate::engine::catalog::CatalogChange {
        let name = format!("d{}", state.next_database_id().get());
        crate::engine::catalog::CatalogChange::CreateDatabase {
            id: state.next_database_id(),
            name: crate::model::DatabaseName::new(&name).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_clock_that_goes_on_is_believed_from_the_first_start_on() {
        let machine = Machine::new().await;
        let watch = machine.start().await;
        for _ in 0..100 {
            assert_eq!(watch.now(), Some(machine.clock.now()));
            machine.clock.advance(HOUR);
            machine.clock.jump(60_000_000_000); // a clock that is a little fast, or is set right by a minute
        }
        machine.clock.advance(100 * DAY); // as long as nobody looked
        assert!(watch.now().is_some());
    }

    #[tokio::test]
    async fn nothing_is_removed_for_a_while_after_a_jump() {
        let machine = Machine::new().await;
        let watch = machine.start().await;
        for by in [365 * DAY_NANOS, -365 * DAY_NANOS] {
            assert!(watch.now().is_some());
            machine.clock.jump(by);
            assert_eq!((watch.now(), watch.held_for()), (None, DAY));
            machine.clock.advance(23 * HOUR);
            assert_eq!((watch.now(), watch.held_for()), (None, HOUR));
            machine.clock.advance(HOUR);
            assert_eq!(watch.now(), Some(machine.clock.now()));
        }
    }

    #[tokio::test]
    async fn a_restart_forgets_no_jump() {
        let machine = Machine::new().await;
        assert!(machine.start().await.now().is_some());
        machine.clock.jump(365 * DAY_NANOS);
        assert_eq!(machine.start().await.held_for(), DAY);
        machine.clock.advance(10 * HOUR);
        assert_eq!(machine.start().await.held_for(), 14 * HOUR);
        machine.clock.jump(-365 * DAY_NANOS);
        assert_eq!(machine.start().await.held_for(), DAY);
        machine.clock.advance(10 * HOUR);
        machine.start().await;
        machine.clock.advance(10 * HOUR);
        machine.start().await;
        machine.clock.advance(4 * HOUR);
        assert!(machine.start().await.now().is_some());
    }

    #[tokio::test]
    async fn a_server_that_was_off_for_long_waits_as_after_a_jump() {
        let machine = Machine::new().await;
        machine.start().await;
        machine.clock.advance(30 * DAY);
        let watch = machine.start().await;
        assert_eq!(watch.held_for(), DAY);
        machine.clock.advance(DAY);
        assert!(watch.now().is_some());
    }
}
