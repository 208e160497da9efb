//! Values for the `$name`s of a text, put in as if they were written there.

use super::token::Kind;
use super::{duration, print};

/// What a parameter stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A name: of a measurement, a column.
    Identifier(String),
    /// `'…'`.
    String(String),
    /// `/…/`.
    Regex(String),
    /// `1.5`.
    Number(f64),
    /// `1`.
    Integer(i64),
    /// `1h`.
    Duration(String),
    /// `true`, `false`.
    Boolean(bool),
    /// Nothing that can be written; why.
    Unusable(String),
}

impl Value {
    /// A span of time in nanoseconds.
    pub fn duration(nanos: i64) -> Self {
        Self::Duration(duration::format(nanos))
    }

    /// What kind of token stands in its place, and its text; `None` if it is unusable.
    pub(super) fn token(&self) -> Option<(Kind, String)> {
        Some(match self {
            Self::Identifier(name) => (Kind::Identifier, name.clone()),
            Self::String(text) => (Kind::String, text.clone()),
            Self::Regex(pattern) => (Kind::Regex, pattern.clone()),
            Self::Number(number) => (Kind::Number, print::number(*number)),
            Self::Integer(integer) => (Kind::Integer, integer.to_string()),
            Self::Duration(text) => (Kind::Duration, text.clone()),
            Self::Boolean(true) => (Kind::True, "true".to_owned()),
            Self::Boolean(false) => (Kind::False, "false".to_owned()),
            Self::Unusable(_) => return None,
        })
    }
}
