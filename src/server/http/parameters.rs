//! Query parameters: decoded once, then asked for by name; and the values that parameters and bodies have in common.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::values;
use crate::error::{Error, Result};
use crate::model::{DatabaseName, Precision, TableName};

/// The decoded query string of a request.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Decodes a query string; a missing one has no parameters.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Adds parameters that come from elsewhere; they count before those that are there.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Adds one that comes from elsewhere; it counts before those that are there.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The value of a parameter; of several the last, as a later flag overrides an earlier one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::invalid(format!("missing query parameter '{name}'")))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None | Some("") => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                Err(Error::invalid(format!("query parameter '{name}' must be true or false, not '{other}'")))
            }
        }
    }

    /// The unit of timestamps.
    pub(super) fn precision(&self, default: Precision) -> Result<Precision> {
        Ok(match self.get("precision") {
            None | Some("") => default,
            Some("auto") => Precision::Auto,
            Some("s" | "second") => Precision::Second,
            Some("ms" | "millisecond") => Precision::Millisecond,
            Some("us" | "u" | "µs" | "µ" | "microsecond") => Precision::Microsecond,
            Some("ns" | "n" | "nanosecond") => Precision::Nanosecond,
            Some(other) => {
                let message =
                    format!("precision '{other}' is unknown; use auto, second, millisecond, microsecond or nanosecond");
                return Err(Error::invalid(message));
            }
        })
    }
}

/// A database name from a request.
pub(super) fn database_name(text: &str) -> Result<DatabaseName> {
    DatabaseName::new(text).map_err(|error| Error::invalid(error.to_string()))
}

/// A table name from a request.
pub(super) fn table_name(text: &str) -> Result<TableName> {
    TableName::new(text).map_err(|error| Error::invalid(error.to_string()))
}

/// Until when a request waits, from now on, if it says how long.
///
/// # Errors
/// `Invalid` if that is no length of time.
pub(super) fn deadline(timeout: Option<&str>) -> Result<Option<Instant>> {
    let Some(text) = timeout.filter(|text| !text.is_empty()) else { return Ok(None) };
    match values::duration(text) {
        Some(timeout) if timeout > Duration::ZERO => Ok(Instant::now().checked_add(timeout)),
        _ => {
            let message = format!("timeout '{text}' is none; use a length of time such as 30s or 500ms");
            Err(Error::invalid(message))
        }
    }
}

/// A length of time from a request, such as `7d` or `1h 30m`.
pub(super) fn retention_period(text: &str) -> Result<Duration> {
    match values::duration(text) {
        Some(period) if period > Duration::ZERO => Ok(period),
        _ => {
            let message = format!("retention period '{text}' is none; use a length of time such as 7d or 1h 30m");
            Err(Error::invalid(message))
        }
    }
}
