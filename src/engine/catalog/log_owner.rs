//! Which write-ahead log holds the rows that are in no file yet.
//!
//! The catalog and its files are in the store; the newest rows are in a log, which may lie on some machine's disk. Whoever
//! starts with another log would not see them, and the two would number their writes alike. So the log that writes is
//! named here, and each start of a process is an *epoch*: a commit of an earlier one is refused.
//!
//! Not here: how a log is fenced off by itself (see `engine::wal`).

use uuid::Uuid;

use super::error::ChangeError;

/// The write-ahead log that took over last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOwner {
    /// Which log: that of a data directory, or the catalog's own number for the log in the store.
    pub log: Uuid,
    /// Rises with every start of a process that writes.
    pub epoch: u64,
    /// Where an operator finds it.
    pub place: String,
    /// All of its rows are in files.
    pub is_closed: bool,
    /// Epochs of the log in the store to which somebody who still runs might add, oldest first.
    pub unfinished: Vec<u64>,
}

impl LogOwner {
    /// The owner after `before`, with the next epoch.
    pub(super) fn opened(
        before: Option<&Self>,
        catalog: Uuid,
        log: Uuid,
        epoch: u64,
        place: &str,
    ) -> Result<Self, ChangeError> {
        let next = before.map_or(0, |before| before.epoch).saturating_add(1);
        if epoch != next {
            return Err(ChangeError::Number { what: "epoch", number: epoch, next });
        }
        // Another log that takes over was told to give up what this one may hold.
        let same = before.filter(|before| before.log == log);
        let mut unfinished = same.map(|before| before.unfinished.clone()).unwrap_or_default();
        if log == catalog {
            unfinished.push(epoch);
        }
        Ok(Self { log, epoch, place: place.to_owned(), is_closed: false, unfinished })
    }

    pub(super) fn recovered(&mut self) {
        self.unfinished.retain(|epoch| *epoch == self.epoch);
    }

    pub(super) fn closed(&mut self) {
        self.is_closed = true;
        self.unfinished.clear();
    }
}
