//! Whose fault a failed query is: the query's, a limit's, the store's, the stored data's, or ours.
//!
//! DataFusion wraps errors in many layers, and Arrow and Parquet wrap them once more. The kind comes
//! from the root: an error of our own reader keeps its kind on its way through a plan.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

use crate::error::{Error, ErrorKind};

/// Longest message, in bytes. Planners quote whole expressions, and a message must fit into an HTTP/2 header.
const MESSAGE_BYTES_MAX: usize = 2000;

/// Why a query was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("database not found: {0}")]
    DatabaseNotFound(String),
    #[error("the query has {bytes} bytes, more than the {bytes_max} that are allowed")]
    TextTooLong { bytes: usize, bytes_max: usize },
    #[error("the query has more than {count_max} {what}")]
    TooComplex { what: &'static str, count_max: usize },
    #[error("the query is empty")]
    Empty,
    #[error("the query holds {0} statements, send exactly one")]
    NotOneStatement(usize),
    #[error("queries are read-only: {0} is not allowed")]
    ReadOnly(String),
    #[error("table not found: {0}")]
    TableNotFound(String),
    #[error("requestor is forbidden from requested resource: may not {verb} table \"{table}\"")]
    Forbidden { verb: &'static str, table: String },
    #[error(
        "a DELETE selects rows by time and tags: time with =, <>, <, <=, >, >=, BETWEEN or IN, a tag with =, IN or IS NULL, \
         joined by AND and OR; it can't select by {0}"
    )]
    NotSelectable(String),
    #[error("the DELETE comes down to more than {count_max} combinations of times and tags; send several")]
    TooManySelections { count_max: usize },
    #[error("no value for the parameter \"${0}\"")]
    MissingParameter(String),
    #[error("{0}")]
    Table(String),
    #[error("table '{0}' already exists")]
    TableExists(String),
    #[error("the rows of one INSERT may take {bytes_max} bytes; insert them in parts")]
    TooManyRows { bytes_max: usize },
    #[error("the parameter ${name} is {given}, which can't be {wanted}")]
    ParameterType { name: String, given: String, wanted: String },
    /// In the words of InfluxDB 1.
    #[error("{0}")]
    Statement(String),
    #[error("the statement is not supported: {0}")]
    StatementUnsupported(String),
    #[error("the Substrait plan can't be read: {0}")]
    Plan(String),
    #[error("the query ran into a defect of the server: {0}")]
    Panicked(String),
    #[error("the query was stopped because the server is shutting down")]
    Stopped,
    /// From below, with its own kind.
    #[error(transparent)]
    Own(Error),
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::DatabaseNotFound(_) | QueryError::TableNotFound(_) => ErrorKind::NotFound,
            QueryError::Forbidden { .. } => ErrorKind::Forbidden,
            QueryError::TextTooLong { .. } | QueryError::TooManyRows { .. } => ErrorKind::TooLarge,
            QueryError::TableExists(_) => ErrorKind::Conflict,
            QueryError::TooComplex { .. }
            | QueryError::Empty
            | QueryError::NotOneStatement(_)
            | QueryError::ReadOnly(_)
            | QueryError::NotSelectable(_)
            | QueryError::TooManySelections { .. }
            | QueryError::MissingParameter(_)
            | QueryError::Table(_)
            | QueryError::Statement(_)
            | QueryError::Plan(_)
            | QueryError::ParameterType { .. } => ErrorKind::Invalid,
            QueryError::StatementUnsupported(_) => ErrorKind::Unsupported,
            QueryError::Panicked(_) => ErrorKind::Internal,
            QueryError::Stopped => ErrorKind::Unavailable,
            QueryError::Own(inner) => inner.kind(),
            QueryError::DataFusion(inner) => return from_datafusion(inner),
        };
        let message = if let QueryError::Own(inner) = &error { inner.report() } else { error.to_string() };
        Self::new(kind, cut(message))
    }
}

/// The kind of the root, and the words that help most: our own where it is our own error.
fn from_datafusion(error: &DataFusionError) -> Error {
    let (kind, own) = root(error);
    let message = own.map_or_else(|| error.strip_backtrace(), Error::report);
    Error::new(kind, cut(message))
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

fn root(error: &DataFusionError) -> (ErrorKind, Option<&Error>) {
    let kind = match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => return root(inner),
        DataFusionError::Shared(inner) => return root(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => return root(first),
            None => ErrorKind::Internal,
        },
        DataFusionError::ArrowError(inner, _) => return root_of_arrow(inner),
        DataFusionError::ParquetError(inner) => return root_of_parquet(inner),
        DataFusionError::External(inner) => return root_of_any(inner.as_ref()),
        DataFusionError::ObjectStore(inner) => kind_of_store(inner),
        DataFusionError::IoError(_) => ErrorKind::Unavailable,
        DataFusionError::ResourcesExhausted(_) => ErrorKind::Exhausted,
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        // An error while rows are computed comes from the values or from the expression: a cast, a
        // division by zero, an argument out of range.
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_)
        | DataFusionError::Substrait(_) => ErrorKind::Invalid,
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) | DataFusionError::Ffi(_) => {
            ErrorKind::Internal
        }
    };
    (kind, None)
}

fn root_of_arrow(error: &ArrowError) -> (ErrorKind, Option<&Error>) {
    let kind = match error {
        ArrowError::ExternalError(inner) => return root_of_any(inner.as_ref()),
        ArrowError::MemoryError(_) | ArrowError::OffsetOverflowError(_) => ErrorKind::Exhausted,
        ArrowError::IoError(..) => ErrorKind::Unavailable,
        ArrowError::ParquetError(_) => ErrorKind::Corrupt,
        ArrowError::NotYetImplemented(_) => ErrorKind::Unsupported,
        ArrowError::SchemaError(_) | ArrowError::CDataInterface(_) | ArrowError::IpcError(_) => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    (kind, None)
}

fn root_of_parquet(error: &ParquetError) -> (ErrorKind, Option<&Error>) {
    match error {
        ParquetError::External(inner) => root_of_any(inner.as_ref()),
        _ => (ErrorKind::Corrupt, None),
    }
}

/// Looks through an error of unknown type and the causes below it.
fn root_of_any<'a>(error: &'a (dyn StdError + 'static)) -> (ErrorKind, Option<&'a Error>) {
    let mut cause: Option<&'a (dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return (own.kind(), Some(own));
        }
        if let Some(inner) = error.downcast_ref::<DataFusionError>() {
            return root(inner);
        }
        if let Some(inner) = error.downcast_ref::<ArrowError>() {
            return root_of_arrow(inner);
        }
        if let Some(inner) = error.downcast_ref::<ParquetError>() {
            return root_of_parquet(inner);
        }
        if let Some(inner) = error.downcast_ref::<object_store::Error>() {
            return (kind_of_store(inner), None);
        }
        if error.is::<std::io::Error>() {
            return (ErrorKind::Unavailable, None);
        }
        cause = error.source();
    }
    (ErrorKind::Internal, None)
}

/// An object that the catalog names and the store lacks is damage, not an outage.
fn kind_of_store(error: &object_store::Error) -> ErrorKind {
    match error {
        object_store::Error::NotFound { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = DataFusionError::Plan(format!("a{}", "ä".repeat(5_000)));
        let message = Error::from(QueryError::from(error)).to_string();
        assert!(message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8() && message.ends_with("ä…"), "{}", message.len());
    }

    #[test]
    fn the_root_of_an_error_decides_its_kind() {
        let own = || Box::new(Error::new(ErrorKind::Corrupt, "block 3 of \"a.parquet\" fails its checksum"));
        let wrapped = DataFusionError::ParquetError(Box::new(ParquetError::External(own()))).context("scan");
        let shared = DataFusionError::Shared(Arc::new(DataFusionError::ArrowError(
            Box::new(ArrowError::ExternalError(Box::new(wrapped))),
            None,
        )));
        let error = Error::from(QueryError::from(shared));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.to_string(), "block 3 of \"a.parquet\" fails its checksum");

        for (error, kind) in [
            (DataFusionError::Plan("no such column".to_owned()), ErrorKind::Invalid),
            (DataFusionError::NotImplemented("x".to_owned()), ErrorKind::Unsupported),
            (DataFusionError::ResourcesExhausted("x".to_owned()).context("sort"), ErrorKind::Exhausted),
            (DataFusionError::Internal("x".to_owned()), ErrorKind::Internal),
            (DataFusionError::from(ArrowError::DivideByZero), ErrorKind::Invalid),
            (DataFusionError::from(std::io::Error::other("disk")), ErrorKind::Unavailable),
            (DataFusionError::from(ParquetError::EOF("short".to_owned())), ErrorKind::Corrupt),
        ] {
            assert_eq!(Error::from(QueryError::from(error)).kind(), kind);
        }
    }
}
