//! What can be wrong with a call before a query or the engine sees it.

use arrow::error::ArrowError;

use crate::error::{Error, ErrorKind};

/// How a client names the database, by driver: the part of the message that saves a search.
const DATABASE_HINT: &str = "set the header 'database' (ADBC: 'adbc.flight.sql.rpc.call_header.database', \
     JDBC: '?database=NAME' in the URL, Grafana: metadata 'database')";

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlightError {
    #[error("the flight descriptor holds no Flight SQL command")]
    NoCommand,
    #[error("the command holds no Substrait plan")]
    NoPlan,
    #[error("could not decode a Flight SQL message")]
    Undecodable(#[source] prost::DecodeError),
    #[error("could not decode the Flight SQL command")]
    UndecodableCommand(#[source] ArrowError),
    #[error("unsupported Flight SQL message type: '{0}'")]
    UnknownCommand(String),
    #[error("{method} does not expect '{command}'")]
    UnexpectedCommand { method: &'static str, command: String },
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("the statement has the parameters {0}, and no values are bound to them")]
    Unbound(String),
    #[error("the statement has {count} parameters ({names}), the values have {given} columns")]
    ParameterCount { names: String, count: usize, given: usize },
    #[error("the values of a query take more than {bytes_max} bytes; send them in several executions")]
    ValuesTooLarge { bytes_max: usize },
    #[error(
        "the table definition options must say what to do if the table exists (fail, append, replace) and if it doesn't (create, fail)"
    )]
    TableDefinition,
    #[error("tables are in the catalog 'public' and its schema 'iox'; leave both out")]
    Place,
    #[error("a path is [table] or [database, table]")]
    Path,
    #[error("an Arrow message is refused: {0}")]
    Message(&'static str),
    #[error("this is a query, which an update can't be; send it as a query")]
    QueryAsUpdate,
    #[error("action '{0}' is not supported")]
    UnknownAction(String),
    #[error("the action's body is not the JSON object that it needs")]
    JsonAction(#[source] serde_json::Error),
    #[error("no 'database' header in request, and there are {databases} databases to choose from: {DATABASE_HINT}")]
    NoDatabase { databases: usize },
    #[error("the headers name different databases: '{first}' and '{second}'")]
    Databases { first: String, second: String },
    #[error("header '{name}' has the value '{value}'; it can be {expected}")]
    HeaderValue { name: &'static str, value: String, expected: &'static str },
    #[error("the session's cookie can't be read; connect anew")]
    Session,
    #[error("invalid ticket: neither a Flight SQL command nor a JSON object with 'database' and 'sql_query'")]
    ForeignTicket,
    #[error("invalid ticket: the JSON can't be read")]
    JsonTicket(#[source] serde_json::Error),
    #[error("invalid ticket or statement handle: it was not issued by this server to who shows it")]
    ForgedTicket,
    #[error("invalid ticket or statement handle: its version {0} is unknown")]
    TicketVersion(u32),
    #[error("the ticket has expired; ask for the flight info again")]
    ExpiredTicket,
    #[error(
        "this part of a result is not held here, or no longer: ask for the flight info again, from the server that is then asked \
         for the parts"
    )]
    NotHeld,
    #[error("the prepared statement was closed; prepare it again")]
    ClosedHandle,
    #[error("could not encode the result")]
    Encode(#[source] ArrowError),
    #[error("a batch of the result does not have the columns that were announced")]
    ForeignBatch,
}

impl From<FlightError> for Error {
    fn from(error: FlightError) -> Self {
        let kind = match &error {
            FlightError::UnknownCommand(_) | FlightError::Unsupported(_) | FlightError::UnknownAction(_) => {
                ErrorKind::Unsupported
            }
            FlightError::ExpiredTicket | FlightError::ClosedHandle | FlightError::NotHeld => ErrorKind::NotFound,
            FlightError::ValuesTooLarge { .. } => ErrorKind::TooLarge,
            FlightError::Encode(_) | FlightError::ForeignBatch => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        };
        match error {
            FlightError::Undecodable(ref source) => Self::with_source(kind, error.to_string(), source.clone()),
            FlightError::UndecodableCommand(source) => {
                Self::with_source(kind, "could not decode the Flight SQL command", source)
            }
            FlightError::Encode(source) => Self::with_source(kind, "could not encode the result", source),
            FlightError::JsonTicket(source) => {
                Self::with_source(kind, "invalid ticket: the JSON can't be read", source)
            }
            FlightError::JsonAction(source) => {
                Self::with_source(kind, "the action's body is not the JSON object that it needs", source)
            }
            other => Self::new(kind, other.to_string()),
        }
    }
}
