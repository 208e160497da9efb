//! Sessions: what the calls of one client have in common, kept by the client.
//!
//! A session is nothing but headers that a client need not send: its options stand, readable, in the cookie `arrow_flight_session_id`,
//! and a call takes from there what its own headers don't say. So any server understands it, none keeps it, and it gives no
//! right: the call that brings it says who asks.
//!
//! | option | as the header | |
//! |---|---|---|
//! | `database` | `database` | one that the caller can see |
//! | `query_language` | `x-influxdata-query-language` | |
//! | `table_type` | `x-influxdata-base-table-type` | |
//! | `ipc_compression` | `x-flightline-ipc-compression` | |
//! | `endpoints` | `x-flightline-endpoints` | a number, as text |
//! | `dictionaries` | `x-flightline-dictionaries` | a boolean or its text |
//! | `catalog`, `schema` | | have one value each |
//!
//! Refused: an option for a time zone. Times are instants without a zone, and DataFusion's own setting would make comparisons
//! with them take them for times of that zone; functions that count in one, such as `date_bin`, take it as an argument.
//!
//! The messages are Flight's own; arrow-flight does not have them yet. JDBC closes a session on every disconnect and throws if that fails.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use arrow_flight::Action;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::call::{self, Call};
use super::error::FlightError;
use crate::engine::Engine;
use crate::error::Result;
use crate::query::{CATALOG, TABLE_SCHEMA};

/// Options that have one value.
const FIXED: [(&str, &str); 2] = [("catalog", CATALOG), ("schema", TABLE_SCHEMA)];

/// Options that stand for a header, and what holds without.
const HEADERS: [(&str, &str, Option<&str>); 6] = [
    ("database", call::DATABASE_HEADERS[0], None),
    ("query_language", call::LANGUAGE_HEADER, Some("sql")),
    ("table_type", call::TABLE_TYPE_HEADER, Some(call::BASE_TABLE)),
    ("ipc_compression", call::COMPRESSION_HEADER, Some("none")),
    ("endpoints", call::ENDPOINTS_HEADER, Some("1")),
    (DICTIONARIES, call::DICTIONARIES_HEADER, Some("false")),
];

/// The option that is a boolean.
const DICTIONARIES: &str = "dictionaries";

/// The cookie of Flight's sessions, by the name that Arrow suggests.
const COOKIE: &str = "arrow_flight_session_id";

/// What a value of ours begins with; another one is of some other server.
const VERSION: &str = "v1.";

/// Ends a cookie by its date: Java reads a `Max-Age` as a sign of cookies of another kind, which it puts into quotes.
const OVER: &str = "Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// The options that a client brings along.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Session {
    options: BTreeMap<String, String>,
    /// Whether it brought a session at all, and by that shows that it keeps cookies.
    is_kept: bool,
}

impl Session {
    /// The session in the cookies of a call; an empty one if there is none.
    ///
    /// # Errors
    /// `Invalid` if it is one of ours that was changed on its way.
    pub(super) fn of(headers: &MetadataMap) -> Result<Self> {
        let cookies = headers.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
        let mut values = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.split_once('='));
        let ours = values.find(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim().trim_matches('"'));
        let Some(encoded) = ours.and_then(|value| value.strip_prefix(VERSION)) else { return Ok(Self::default()) };
        let text = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| FlightError::Session)?;
        let options = form_urlencoded::parse(&text).map(|(name, value)| (name.into_owned(), value.into_owned()));
        Ok(Self { options: options.collect(), is_kept: true })
    }

    /// The headers of a call with what the session says where they say nothing.
    ///
    /// # Errors
    /// `Invalid` if it is one of ours that was changed on its way.
    pub(super) fn below<'a>(&self, headers: &'a MetadataMap) -> Result<Cow<'a, MetadataMap>> {
        let mut all = Cow::Borrowed(headers);
        for (option, header, _) in HEADERS {
            let Some(value) = self.options.get(option) else { continue };
            let is_said = match option {
                "database" => call::DATABASE_HEADERS.iter().any(|name| headers.contains_key(*name)),
                _ => headers.contains_key(header),
            };
            if !is_said {
                let value = MetadataValue::try_from(value).map_err(|_| FlightError::Session)?;
                all.to_mut().insert(header, value);
            }
        }
        Ok(all)
    }

    /// Whether the client has shown that it keeps cookies.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The cookie as a client is given it.
    pub(super) fn cookie(&self) -> String {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.options).finish();
        format!("{COOKIE}={VERSION}{}; Path=/", BASE64_URL_SAFE_NO_PAD.encode(text))
    }

    /// Sets an option, or without a value goes back to what holds without it.
    fn set(&mut self, name: &str, value: Option<OptionValue>, call: &Call, engine: &Engine) -> Result<(), OptionError> {
        if let Some((_, only)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            return match value {
                None => Ok(()),
                Some(OptionValue::String(value)) if value == *only => Ok(()),
                Some(_) => Err(OptionError::InvalidValue),
            };
        }
        let (name, header, _) = HEADERS.iter().find(|(option, ..)| *option == name).ok_or(OptionError::InvalidName)?;
        let text = match value {
            None => {
                self.options.remove(*name);
                return Ok(());
            }
            Some(OptionValue::String(text)) => text,
            Some(OptionValue::Boolean(value)) if *name == DICTIONARIES => value.to_string(),
            Some(_) => return Err(OptionError::InvalidValue),
        };
        // A driver that keeps no cookies would go on as if nothing had been said, so it is told.
        if call.is_adbc && !self.is_kept {
            return Err(OptionError::Error);
        }
        let mut headers = MetadataMap::new();
        headers.insert(*header, MetadataValue::try_from(&text).map_err(|_| OptionError::InvalidValue)?);
        let said = Call::new(&headers, call.principal.clone()).map_err(|_| OptionError::InvalidValue)?;
        let is_there = match *name {
            "database" => said.database(engine).is_ok_and(|database| engine.database_exists(&database)),
            _ => true,
        };
        if !is_there {
            return Err(OptionError::InvalidValue);
        }
        self.options.insert((*name).to_owned(), text);
        Ok(())
    }
}

/// What a client is answered, and the cookie that it is to keep from now on.
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) cookie: Option<String>,
}

/// Answers an action if it is one about sessions.
///
/// # Errors
/// `Invalid` if its body can't be read.
pub(super) fn answer(action: &Action, call: &Call, engine: &Engine) -> Result<Option<Answer>> {
    Ok(match action.r#type.as_str() {
        "SetSessionOptions" => Some(set_options(&action.body, call, engine)?),
        "GetSessionOptions" => Some(Answer { body: options(&call.session), cookie: None }),
        "CloseSession" => Some(close(&call.session)),
        _ => None,
    })
}

/// Sets what can be set, and says what is wrong with the others.
fn set_options(body: &[u8], call: &Call, engine: &Engine) -> Result<Answer> {
    let request = SetSessionOptionsRequest::decode(body).map_err(FlightError::Undecodable)?;
    let (before, mut session, mut errors) = (&call.session, call.session.clone(), HashMap::new());
    for (name, SessionOptionValue { value }) in request.session_options {
        if let Err(error) = session.set(&name, value, call, engine) {
            errors.insert(name, SessionOptionError { value: error.into() });
        }
    }
    let cookie = (session != *before).then(|| session.cookie());
    Ok(Answer { body: SetSessionOptionsResult { errors }.encode_to_vec().into(), cookie })
}

/// Every option that has a value.
fn options(session: &Session) -> Bytes {
    let fixed = FIXED.map(|(name, only)| (name, Some(only)));
    let headers = HEADERS.map(|(name, _, default)| (name, session.options.get(name).map(String::as_str).or(default)));
    let option = |(name, value): (&str, Option<&str>)| {
        let value = match (name, value?) {
            (DICTIONARIES, text) => OptionValue::Boolean(text.eq_ignore_ascii_case("true")),
            (_, text) => OptionValue::String(text.to_owned()),
        };
        Some((name.to_owned(), SessionOptionValue { value: Some(value) }))
    };
    let session_options = fixed.into_iter().chain(headers).filter_map(option).collect();
    GetSessionOptionsResult { session_options }.encode_to_vec().into()
}

/// Closed, whichever it was.
fn close(session: &Session) -> Answer {
    let cookie = session.is_kept.then(|| format!("{COOKIE}=closed; Path=/; {OVER}"));
    Answer { body: CloseSessionResult { status: CloseSessionStatus::Closed.into() }.encode_to_vec().into(), cookie }
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
    Error = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
enum CloseSessionStatus {
    Unspecified = 0,
    Closed = 1,
}
