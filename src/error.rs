//! The one error that crosses a room's door: what the caller should do, a message, and the cause.
//!
//! Each area has its own enum with a variant for every failing step; right under it stands its one
//! translation into an [`ErrorKind`]. This file knows no area and no protocol: `server::status`
//! alone turns kinds into HTTP and gRPC codes.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of everything that crosses a room's door.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
///
/// A kind exists only if a caller would act on it differently; the message may be as rich as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: change it. Sending it again will fail again.
    Invalid,
    /// Nobody who is known asks: show a token that counts.
    Unauthenticated,
    /// Who asks may not do that: ask somebody for the right to it.
    Forbidden,
    /// What the request names does not exist.
    NotFound,
    /// What the request wants to make exists already, or someone else was first.
    Conflict,
    /// The request is larger than a limit allows: send less at a time.
    TooLarge,
    /// A limit of memory or of work is reached: try later or ask for less.
    Exhausted,
    /// Too many others are served: the same request may succeed in a moment.
    Busy,
    /// Who asks does so too often or sends too much: come back later, and slower.
    Limited,
    /// It took longer than it may: ask for less at a time, or allow more time.
    TimedOut,
    /// Somebody ended it on purpose: send it again if it is still wanted.
    Cancelled,
    /// Storage does not answer or has no room: the same request may succeed later.
    Unavailable,
    /// The request is well formed but asks for what this server does not do.
    Unsupported,
    /// Stored bytes are not what was written: an operator has to look.
    Corrupt,
    /// A defect in this program.
    Internal,
}

/// An error with what to do about it.
///
/// `Display` prints the message alone; [`Error::report`] adds the chain of causes.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error without a deeper cause. `message` is lower case, without a full stop, and names what it is about.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, retry_after: None }
    }

    /// An error that keeps its cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()), retry_after: None }
    }

    /// The request must change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// What the request names does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A defect in this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same, and when the caller should come back.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The same, about a part of what was asked for: `what` stands before the message.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// When the caller should come back, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message followed by every cause below it, separated by `: `.
    pub fn report(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let sentence = error.to_string();
            // Many libraries repeat their source in their own text; saying it twice helps nobody.
            if !text.ends_with(&sentence) {
                text.push_str(": ");
                text.push_str(&sentence);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_each_cause_once() {
        let disk = std::io::Error::other("no space left on device");
        let store = Error::with_source(ErrorKind::Unavailable, "could not store \"a.parquet\"", disk);
        let write = Error::with_source(ErrorKind::Unavailable, "could not persist table \"cpu\"", store);
        assert_eq!(
            write.report(),
            "could not persist table \"cpu\": could not store \"a.parquet\": no space left on device"
        );
        assert_eq!(write.to_string(), "could not persist table \"cpu\"");
    }
}
