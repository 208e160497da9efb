//! What can go wrong with the catalog, and what the caller should do about it.

use object_store::path::Path;
use uuid::Uuid;

use super::format::FormatError;
use crate::error::{Error, ErrorKind};
use crate::model::{CacheKind, DatabaseId, Sequence, TableId, TableName};

/// Why a change can't be applied to a state.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A database or table of this name exists.
    #[error("attempted to create a resource that already exists")]
    Exists,
    /// There is no database of this number, or not any more.
    #[error("the requested resource was not found: database {id}")]
    NoDatabase {
        /// Its number.
        id: DatabaseId,
    },
    /// There never was a table of this number.
    #[error("the requested resource was not found: table {table}")]
    NoTable {
        /// Its number.
        table: TableId,
    },
    /// The table was there and has been deleted.
    #[error("the requested resource was not found: table {table} was deleted")]
    TableDeleted {
        /// Its number.
        table: TableId,
    },
    /// New columns contradict the table's columns or each other.
    #[error("the new columns don't fit table \"{table}\"")]
    Columns {
        /// Its name.
        table: TableName,
        /// Which column; `None` if a column is named twice.
        source: Option<crate::model::SchemaError>,
    },
    /// Writes that are in files already were to be added once more.
    #[error("table {table} is persisted through write {persisted} already")]
    AlreadyPersisted {
        /// The table's number.
        table: TableId,
        /// Through which write.
        persisted: Sequence,
    },
    /// Files were to be replaced that others have replaced already.
    #[error("file {file} is no file of table {table} any more")]
    FileReplaced {
        /// The file's number.
        file: u64,
        /// The table's number.
        table: TableId,
    },
    /// A file doesn't belong to the table or holds writes that it must not hold.
    #[error("file {file} does not fit table {table}: {reason}")]
    File {
        /// The file's number.
        file: u64,
        /// The table's number.
        table: TableId,
        /// What is wrong.
        reason: &'static str,
    },
    /// A new database or table has another number than the next one.
    #[error("a new {what} has number {number} and not {next}")]
    Number {
        /// Database or table.
        what: &'static str,
        /// The number that it has.
        number: u64,
        /// The number that it should have.
        next: u64,
    },
    /// Something was said of the write-ahead log by an epoch that doesn't have it.
    #[error("epoch {epoch} does not have the write-ahead log")]
    NotTheLog {
        /// The epoch.
        epoch: u64,
    },
    /// There is no token of this name, or not any more.
    #[error("the requested resource was not found: token {name}")]
    NoToken {
        /// Its name.
        name: String,
    },
    /// There is no cache of this kind and name, or not any more.
    #[error("the requested resource was not found: {kind} {name}")]
    NoCache {
        /// Of which kind.
        kind: CacheKind,
        /// Its name.
        name: String,
    },
    /// There are no more numbers.
    #[error("there are no more numbers for a {what}")]
    NumbersExhausted {
        /// Database, table or file.
        what: &'static str,
    },
}

impl ChangeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotTheLog { .. }
            | Self::Exists
            | Self::Columns { .. }
            | Self::AlreadyPersisted { .. }
            | Self::FileReplaced { .. } => ErrorKind::Conflict,
            Self::NoDatabase { .. }
            | Self::NoTable { .. }
            | Self::TableDeleted { .. }
            | Self::NoToken { .. }
            | Self::NoCache { .. } => ErrorKind::NotFound,
            Self::NumbersExhausted { .. } => ErrorKind::Exhausted,
            Self::File { .. } | Self::Number { .. } => ErrorKind::Internal,
        }
    }
}

/// Why the catalog can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The caller's own decision.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The change concerns a table that was deleted meanwhile.
    #[error("the requested resource was not found: table {table} was deleted")]
    TableDeleted {
        /// Its number.
        table: TableId,
    },
    /// The files to add hold writes that other files of the table hold already, most likely because an earlier
    /// attempt whose outcome was unknown did succeed. The state names those files.
    #[error("table {table} is persisted through write {persisted} already")]
    AlreadyPersisted {
        /// The table's number.
        table: TableId,
        /// Through which write.
        persisted: Sequence,
    },
    /// Files were to be replaced that are gone already: another compaction was faster, or an earlier attempt whose outcome
    /// was unknown did succeed.
    #[error("the files to replace are no files of table {table} any more")]
    FilesReplaced {
        /// The table's number.
        table: TableId,
    },
    /// Any other change that the state doesn't allow.
    #[error(transparent)]
    Change(ChangeError),
    /// Another process has the write-ahead log now: this one must not write any more.
    #[error(
        "another server has taken over this store (epoch {epoch}, its write-ahead log is {place}): this one takes no more \
         writes; stop one of the two"
    )]
    TakenOver {
        /// The epoch of the other.
        epoch: u64,
        /// Where the other's log is.
        place: String,
    },
    /// The log that wrote last may hold rows that are in no file.
    #[error(
        "the newest rows of this store may be in the write-ahead log at {place}, which was not closed in order: start the \
         server with that log and stop it, or, to give up what only that log holds, start with --wal-abandon"
    )]
    OtherLog {
        /// Where it is.
        place: String,
    },
    /// Other nodes were faster each time.
    #[error("other nodes changed the catalog {tries} times in a row before this one could")]
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// The store failed in a way that leaves open whether the change was stored. Nothing of it shows in the state; if
    /// it was stored, it will with the next commit.
    #[error("it is not known whether catalog record \"{path}\" was stored")]
    Unknown {
        /// The record's object.
        path: Path,
        /// The last failure.
        source: Option<object_store::Error>,
    },
    /// A request failed that changes nothing.
    #[error("could not {action} \"{path}\"")]
    Store {
        /// Read, store, list or remove.
        action: &'static str,
        /// The object or directory.
        path: Path,
        /// What failed.
        source: object_store::Error,
    },
    /// An object holds other bytes than were written.
    #[error("catalog object \"{path}\" is damaged; restore it from a copy of the store")]
    Damaged {
        /// The object.
        path: Path,
        /// What doesn't fit.
        source: FormatError,
    },
    /// An object was written by a newer version of this program.
    #[error("catalog object \"{path}\" can't be read by this version")]
    TooNew {
        /// The object.
        path: Path,
        /// Its version and ours.
        source: FormatError,
    },
    /// An object is missing without which the rest makes no sense.
    #[error("catalog object \"{path}\" is missing although later ones exist; restore it from a copy of the store")]
    Missing {
        /// The object.
        path: Path,
    },
    /// The log has lost its beginning and no checkpoint makes up for it.
    #[error("no checkpoint below \"{path}\" can be read, and the records before it were removed")]
    NoCheckpoint {
        /// The directory of the checkpoints.
        path: Path,
    },
    /// An intact record doesn't fit the state before it.
    #[error("catalog record \"{path}\" contradicts the records before it")]
    Contradiction {
        /// The record's object.
        path: Path,
        /// What it contradicts.
        source: ChangeError,
    },
    /// An object belongs to another catalog.
    #[error("catalog object \"{path}\" belongs to catalog {found} and not to {expected}")]
    OtherCatalog {
        /// The object.
        path: Path,
        /// The catalog that it names.
        found: Uuid,
        /// This catalog.
        expected: Uuid,
    },
    /// The copy of a catalog has a history of its own.
    #[error(
        "catalog record \"{path}\" of the copy is not that of the catalog it copies: another server has \
         written to the copy, or the catalog was set back"
    )]
    Diverged {
        /// The record's object.
        path: Path,
    },
    /// A background computation was cut off.
    #[error("the catalog's work was cut off")]
    CutOff(#[source] tokio::task::JoinError),
    /// A checkpoint did not become bytes.
    #[error("could not encode a checkpoint of the catalog")]
    Encode(#[source] FormatError),
    /// [`super::Catalog::close`] was called.
    #[error("the catalog is closed")]
    Closed,
}

impl From<ChangeError> for CatalogError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::TableDeleted { table } => Self::TableDeleted { table },
            ChangeError::AlreadyPersisted { table, persisted } => Self::AlreadyPersisted { table, persisted },
            ChangeError::FileReplaced { table, .. } => Self::FilesReplaced { table },
            other => Self::Change(other),
        }
    }
}

impl From<CatalogError> for Error {
    fn from(error: CatalogError) -> Self {
        let kind = match &error {
            CatalogError::Refused(_) => ErrorKind::Internal, // taken apart below
            CatalogError::Change(change) => change.kind(),
            CatalogError::TableDeleted { .. } => ErrorKind::NotFound,
            CatalogError::AlreadyPersisted { .. }
            | CatalogError::FilesReplaced { .. }
            | CatalogError::OtherLog { .. }
            | CatalogError::Diverged { .. }
            | CatalogError::Contended { .. } => ErrorKind::Conflict,
            CatalogError::TakenOver { .. } => ErrorKind::Unavailable,
            CatalogError::Unknown { .. } | CatalogError::Store { .. } | CatalogError::Closed => ErrorKind::Unavailable,
            CatalogError::TooNew { .. } => ErrorKind::Unsupported,
            CatalogError::Damaged { .. }
            | CatalogError::Missing { .. }
            | CatalogError::NoCheckpoint { .. }
            | CatalogError::Contradiction { .. }
            | CatalogError::OtherCatalog { .. } => ErrorKind::Corrupt,
            CatalogError::CutOff(_) | CatalogError::Encode(_) => ErrorKind::Internal,
        };
        match error {
            CatalogError::Refused(error) => error,
            error => Self::with_source(kind, error.to_string(), error),
        }
    }
}
