//! Steps at which a test may end the process, to see that the next start makes up for it.
//!
//! Between any two things that are stored lies a step with a name. A test goes through all of them, so a step that is added here
//! is tested from then on. In a program that was built for release nothing happens at a step.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Names the step at which a process ends, and perhaps which time it is: `PersistStored` or `PersistStored:3`.
pub const VARIABLE: &str = "FLIGHTLINE_END_AT_STEP";

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Where a process may end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// Every step there is.
            pub const ALL: &[Step] = &[$(Step::$name,)*];
        }
    };
}

steps! {
    /// A frame is in the log's file and not synced.
    LogFrameWritten,
    /// A frame is synced and its writes are neither visible nor acknowledged.
    LogSynced,
    /// A segment has its header; its name is not safe.
    LogSegmentCreated,
    /// A segment was removed; that is not safe.
    LogSegmentRemoved,
    /// The catalog names this process's log; nothing of it is read.
    LogTaken,
    /// The log is replayed; nothing has started.
    LogReplayed,
    /// An object of the log is stored and its writes are neither visible nor acknowledged.
    LogObjectStored,
    /// Objects of the log were removed.
    LogObjectsRemoved,
    /// The log of an earlier start has its end and is not read.
    LogEnded,
    /// All rows are in files and the log is closed; the catalog doesn't know.
    LogClosed,
    /// New files are stored and not in the catalog.
    PersistStored,
    /// New files are in the catalog and the rows in memory, too.
    PersistCommitted,
    /// New files are in use and the log still has their rows.
    PersistFollowed,
    /// A record of the catalog is stored and the process doesn't know.
    CatalogRecordStored,
    /// A checkpoint of the catalog is stored and nothing is removed.
    CatalogCheckpointStored,
    /// The catalog says that its log loses its beginning.
    CatalogTrimMarked,
    /// A checkpoint was removed.
    CatalogCheckpointRemoved,
    /// A record was removed.
    CatalogRecordRemoved,
    /// A file that takes the place of others is stored.
    CompactionStored,
    /// It is in the catalog and not in use.
    CompactionCommitted,
    /// Buffered rows are persisted, so that some can be deleted.
    DeletionPersisted,
    /// Rows are deleted; who asked for it doesn't know.
    RowsDeleted,
    /// A table or database is deleted; who asked for it doesn't know.
    TableDeleted,
    /// Files that have expired are garbage.
    FilesExpired,
    /// Garbage is removed from the store; the catalog still lists it.
    GarbageRemoved,
    /// The catalog doesn't list it any more.
    GarbageCollected,
    /// Buffered rows are files of a backup that nothing names.
    BackupRowsStored,
    /// All files of a backup are copied; its catalog is not stored.
    BackupFilesStored,
    /// The catalog of a backup is stored; nothing says that the backup is there.
    BackupCatalogStored,
    /// A backup is there; who asked for it doesn't know.
    BackupAnnounced,
    /// A backup is deleted; its files are still there.
    BackupForgotten,
    /// A store is marked for what is to be restored; nothing else is there.
    RestoreMarked,
    /// The files of a backup are restored; there is no catalog.
    RestoreFilesStored,
    /// A record of the restored catalog is stored.
    RestoreRecordStored,
    /// A checkpoint of the restored catalog is stored.
    RestoreCheckpointStored,
    /// It is written down which files a table is exported to; none of them is there.
    ExportPlanned,
    /// A file of an export is whole; it doesn't have its name.
    ExportFileWritten,
    /// It has its name.
    ExportFileNamed,
    /// A store says that it is a mirror; nothing else is there.
    MirrorMarked,
    /// Data files are in the mirror; its catalog doesn't name them.
    MirrorFilesStored,
    /// A record of the catalog is in the mirror; later ones are not.
    MirrorRecordStored,
    /// A checkpoint of the catalog is in the mirror; what it makes superfluous is, too.
    MirrorCheckpointStored,
    /// Data files that the mirror's catalog doesn't name were removed from it.
    MirrorFilesRemoved,
}

/// 0, or the number of the chosen step plus 1.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// How often the chosen step must yet be reached.
static REMAINING: AtomicUsize = AtomicUsize::new(0);

/// Chooses a step by its name. False if there is none of that name, or if this program was built for release.
pub fn choose(text: &str) -> bool {
    let (name, times) = text.split_once(':').unwrap_or((text, "1"));
    let number = Step::ALL.iter().position(|step| format!("{step:?}") == name);
    let (Some(number), Ok(times), true) = (number, times.parse(), cfg!(debug_assertions)) else { return false };
    REMAINING.store(times, Ordering::SeqCst);
    CHOSEN.store(number + 1, Ordering::SeqCst);
    true
}

/// Ends the process if this is the chosen step: at once, as by a signal that can't be caught.
#[inline]
pub fn reached(step: Step) {
    if cfg!(debug_assertions)
        && CHOSEN.load(Ordering::Relaxed) == step as usize + 1
        && REMAINING.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_step_is_not_chosen() {
        for text in ["", "Nothing", "PersistStored:x", "PersistStored:"] {
            assert!(!choose(text), "{text}");
        }
        assert_eq!(CHOSEN.load(Ordering::SeqCst), 0);
    }
}
