//! Why a query is ended before its time, and how everything that works for it hears of that.

use std::sync::OnceLock;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::error::{Error, ErrorKind};

/// Why a query is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::query) enum StopReason {
    /// Somebody who may do so has ended it.
    Killed,
    /// It took as long as the server lets queries take.
    Timeout(Duration),
    /// It took as long as who asked gave it.
    Deadline,
}

/// A query's end from outside: happens once, and the first reason counts.
#[derive(Debug)]
pub(in crate::query) struct Stop {
    /// The query's number.
    id: u64,
    reason: OnceLock<StopReason>,
    token: CancellationToken,
}

impl Stop {
    pub(super) fn new(id: u64) -> Self {
        Self { id, reason: OnceLock::new(), token: CancellationToken::new() }
    }

    /// Ends the query. Returns whether it was the first to do so.
    pub(super) fn end(&self, reason: StopReason) -> bool {
        let is_first = self.reason.set(reason).is_ok();
        self.token.cancel();
        is_first
    }

    /// Why it was ended, if it was.
    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Waits for the end.
    pub(in crate::query) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// What whoever waits for the query is told.
    pub(in crate::query) fn error(&self) -> Error {
        let id = self.id;
        match self.reason() {
            Some(StopReason::Timeout(limit)) => Error::new(
                ErrorKind::TimedOut,
                format!(
                    "query {id} was ended after {limit:?}, the most that --query-timeout allows; ask for less at a time, or \
                     raise it"
                ),
            ),
            Some(StopReason::Deadline) => Error::new(
                ErrorKind::TimedOut,
                format!("query {id} was ended because the time that its client gave it is over"),
            ),
            Some(StopReason::Killed) | None => {
                Error::new(ErrorKind::Cancelled, format!("query {id} was cancelled: somebody ended it by its number"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts() {
        let stop = Stop::new(7);
        assert!(stop.end(StopReason::Timeout(Duration::from_secs(60))));
        assert!(!stop.end(StopReason::Killed));
        stop.ended().await;
        let error = stop.error();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("query 7 was ended after 60s, the most that --query-timeout allows"));
    }
}
