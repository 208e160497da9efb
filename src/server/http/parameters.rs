//! Query parameters: decoded once, then asked for by name.

use crate::error::{Error, Result};
use crate::model::{DatabaseName, Precision};

/// The decoded query string of a request.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Decodes a query string; a missing one has no parameters.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The value of a parameter; of several the last, as a later flag overrides an earlier one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
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
            Some("us" | "u" | "microsecond") => Precision::Microsecond,
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
