//! What can go wrong with the log, and what the caller should do about it.

use std::io;
use std::sync::Arc;

use arrow::error::ArrowError;
use uuid::Uuid;

use super::Shared;
use super::objects::ObjectFault;
use super::record::RecordFault;
use crate::error::{Error, ErrorKind};

/// Why the write-ahead log could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A write could not be turned into bytes.
    #[error("could not encode a write for the write-ahead log")]
    Encode(#[source] ArrowError),

    /// The disk refused bytes: nothing of the group counts as written.
    #[error("could not write to the write-ahead log")]
    Write {
        /// The segment that was written to.
        file: String,
        /// The disk's answer.
        source: io::Error,
    },

    /// The disk did not confirm that bytes are safe: the write may or may not be there after a restart.
    #[error("could not sync the write-ahead log: whether the write is stored is unknown, writing it again is safe")]
    Sync {
        /// The segment that was synced.
        file: String,
        /// The disk's answer.
        source: io::Error,
    },

    /// A new segment could not be made. The next write tries again.
    #[error("could not write to the write-ahead log: no new segment \"{file}\"")]
    Create {
        /// The segment that should have been made.
        file: String,
        /// The disk's answer.
        source: io::Error,
    },

    /// Opening the log met a disk that does not answer.
    #[error("could not {step} the write-ahead log at \"{file}\"")]
    Open {
        /// What was tried, as a verb.
        step: &'static str,
        /// The segment or directory that it was tried on.
        file: String,
        /// The disk's answer.
        source: io::Error,
    },

    /// Bytes that were safely stored are not there any more.
    #[error(
        "segment \"{file}\" of the write-ahead log is damaged at byte {offset}: {found}; restore the file from a copy, \
         or, to start without its writes and all later ones, move it and every later segment out of the directory"
    )]
    Damaged {
        /// The damaged segment.
        file: String,
        /// Where the damage begins, in bytes from the start of the file.
        offset: u64,
        /// What stands there.
        found: String,
    },

    /// A record whose checksum is right does not decode.
    #[error(
        "segment \"{file}\" of the write-ahead log holds a record that cannot be read, in the frame at byte {offset}"
    )]
    Record {
        /// The segment.
        file: String,
        /// Where the frame of the record begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with the record.
        source: RecordFault,
    },

    /// A segment between two others is missing.
    #[error(
        "segment \"{file}\" of the write-ahead log follows a segment that begins with sequence {missing}, but that one is \
         not there; put it back, or, to start without the later writes, move this and every later segment out of the \
         directory"
    )]
    Gap {
        /// The segment after the gap.
        file: String,
        /// The first sequence of the segment that should be before it.
        missing: u64,
    },

    /// The log belongs to another database directory.
    #[error(
        "segment \"{file}\" of the write-ahead log belongs to catalog {found}, but the catalog is {expected}: the log and \
         the object store are not of one installation"
    )]
    Catalog {
        /// The segment.
        file: String,
        /// The catalog that wrote it.
        found: Uuid,
        /// The catalog that is open.
        expected: Uuid,
    },

    /// The log was written by a later version of this program.
    #[error(
        "segment \"{file}\" of the write-ahead log has format version {found}, this program reads version {readable}"
    )]
    Version {
        /// The segment.
        file: String,
        /// Its format version.
        found: u32,
        /// The newest version that this program reads.
        readable: u32,
    },

    /// An object of the log is not what was stored.
    #[error(
        "object \"{file}\" of the write-ahead log is damaged: {fault}; restore it from a copy of the store, or, to start \
         without the writes of the log, start with --wal-abandon and another log"
    )]
    Object {
        /// The object.
        file: String,
        /// What is wrong.
        fault: ObjectFault,
    },

    /// An object of the log is gone although a later one says that it was stored.
    #[error(
        "object \"{file}\" of the write-ahead log is missing although it was stored once; restore it from a copy of the store"
    )]
    Missing {
        /// The object.
        file: String,
    },

    /// The log in the store is newer than the catalog knows.
    #[error(
        "object \"{file}\" of the write-ahead log is of a later start than {epoch}, the newest that the catalog knows: log \
         and catalog are not of one store"
    )]
    Ahead {
        /// The object.
        file: String,
        /// The epoch that has the log.
        epoch: u64,
    },

    /// The object store refused a request.
    #[error("could not {action} \"{path}\" of the write-ahead log")]
    Store {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object or directory.
        path: String,
        /// The store's answer.
        source: object_store::Error,
    },

    /// The object store has not confirmed a write for so long that its writer is told so.
    #[error(
        "the object store has not confirmed the write in time{reason}: whether it is stored is unknown, writing it again is safe"
    )]
    Late {
        /// What the store said last, in parentheses.
        reason: String,
    },

    /// Another process has the log.
    #[error(
        "another server has taken over the write-ahead log of this store: this one takes no more writes; stop one of the two"
    )]
    TakenOver,

    /// The commit thread could not be started.
    #[error("could not start the thread of the write-ahead log")]
    Thread(#[source] io::Error),

    /// The log was closed before the write reached it.
    #[error("the write-ahead log is closed")]
    Closed,

    /// The commit thread ended by a panic. Whether the write is stored is unknown.
    #[error("the write-ahead log has stopped: whether the write is stored is unknown, restart the server")]
    Stopped,

    /// The error of a group, told to each of its writers.
    #[error(transparent)]
    Group(Arc<WalError>),
}

impl WalError {
    /// Too late, with what the store said last.
    pub(super) fn late(shared: &Shared) -> Self {
        let failure = shared.last_failure.lock().clone();
        Self::Late { reason: failure.map(|failure| format!(" ({failure})")).unwrap_or_default() }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Encode(_) => ErrorKind::Internal,
            Self::Write { .. } | Self::Sync { .. } | Self::Create { .. } | Self::Open { .. } => ErrorKind::Unavailable,
            Self::Thread(_) | Self::Closed | Self::Stopped => ErrorKind::Unavailable,
            Self::Store { .. } | Self::Late { .. } | Self::TakenOver => ErrorKind::Unavailable,
            Self::Object { fault: ObjectFault::Version(_) | ObjectFault::Kind(_), .. } => ErrorKind::Unsupported,
            Self::Object { .. } | Self::Missing { .. } | Self::Ahead { .. } => ErrorKind::Corrupt,
            Self::Damaged { .. } | Self::Record { .. } | Self::Gap { .. } | Self::Catalog { .. } => ErrorKind::Corrupt,
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Group(error) => error.kind(),
        }
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        Self::with_source(error.kind(), error.to_string(), error)
    }
}
