//! Since when the times of the log's records have gone on without a jump.
//!
//! Whoever removes something for good because it is old has to know: a clock that is set a year ahead makes everything old.

use std::time::Duration;

use super::CatalogState;
use crate::model::Timestamp;

/// A clock that moves by more than this from one record to the next has jumped, or nobody was there to write one. Jumps that
/// are smaller make garbage go earlier, by no more than this.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(12 * 3600);

/// Before the first jump.
pub(super) const ALWAYS: Timestamp = Timestamp::from_nanos(i64::MIN);

/// Whether who showed one time after the other has jumped, in either direction.
pub fn is_jump(from: Timestamp, to: Timestamp) -> bool {
    to > from.after(CLOCK_JUMP_MIN) || to < from.before(CLOCK_JUMP_MIN)
}

impl CatalogState {
    /// The time of the first record after the last jump, as the log shows it.
    pub fn steady_since(&self) -> Timestamp {
        self.steady_since
    }

    /// When the last record was written, by the clock of who wrote it.
    pub fn last_record_at(&self) -> Timestamp {
        self.record().time
    }

    /// `steady_since` after a record of this time.
    pub(super) fn steady_after(&self, time: Timestamp) -> Timestamp {
        if is_jump(self.last_record_at(), time) { time } else { self.steady_since.min(time) }
    }
}
