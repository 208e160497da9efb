//! Sessions, as far as drivers insist on them: JDBC closes one on every disconnect and throws if that fails.
//!
//! There is no session: catalog and schema are the only ones there are, so setting them to what they are succeeds,
//! and everything else is refused by name. The messages are Flight's own; arrow-flight does not have them yet.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use super::error::FlightError;
use crate::error::Result;
use crate::query::{CATALOG, TABLE_SCHEMA};

/// What a session has: name and only value.
const OPTIONS: [(&str, &str); 2] = [("catalog", CATALOG), ("schema", TABLE_SCHEMA)];

/// Answers `SetSessionOptions` with an error for each option that is not what it would be set to.
pub(super) fn set_options(body: &[u8]) -> Result<Bytes> {
    let request = SetSessionOptionsRequest::decode(body).map_err(FlightError::Undecodable)?;
    let refusal = |(name, value): (String, SessionOptionValue)| {
        let error = match OPTIONS.iter().find(|(option, _)| *option == name) {
            None => OptionError::InvalidName,
            // Without a value the option goes back to its default, which it has.
            Some((_, only)) => match value.value {
                None => return None,
                Some(OptionValue::String(value)) if value == *only => return None,
                Some(_) => OptionError::InvalidValue,
            },
        };
        Some((name, SessionOptionError { value: error.into() }))
    };
    let errors = request.session_options.into_iter().filter_map(refusal).collect();
    Ok(SetSessionOptionsResult { errors }.encode_to_vec().into())
}

/// Answers `GetSessionOptions`.
pub(super) fn options() -> Bytes {
    let option = |(name, value): (&str, &str)| {
        (name.to_owned(), SessionOptionValue { value: Some(OptionValue::String(value.to_owned())) })
    };
    let session_options = OPTIONS.into_iter().map(option).collect();
    GetSessionOptionsResult { session_options }.encode_to_vec().into()
}

/// Answers `CloseSession`: closed, whichever it was.
pub(super) fn close() -> Bytes {
    CloseSessionResult { status: CloseSessionStatus::Closed.into() }.encode_to_vec().into()
}

#[derive(Clone, PartialEq, prost::Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, SessionOptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CloseSessionResult {
    #[prost(enumeration = "CloseSessionStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionOptionError {
    #[prost(enumeration = "OptionError", tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Boolean(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Float(f64),
    #[prost(message, tag = "5")]
    Strings(StringList),
}

#[derive(Clone, PartialEq, prost::Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
enum OptionError {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
enum CloseSessionStatus {
    Unspecified = 0,
    Closed = 1,
}
