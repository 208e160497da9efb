//! Why a text is not understood, in the words of InfluxDB 1: clients and people know them.

use std::fmt;

use super::token::{Position, Token};

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(Box<Fault>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Expected { found: String, expected: String, at: Position },
    At { message: String, at: Position },
    Somewhere { message: String },
}

impl ParseError {
    /// The token can't stand here; one of `expected` could.
    pub(super) fn expected(found: &Token, expected: &[&str]) -> Self {
        let fault = Fault::Expected { found: found.found(), expected: expected.join(", "), at: found.position };
        Self(Box::new(fault))
    }

    pub(super) fn at(position: Position, message: impl Into<String>) -> Self {
        Self(Box::new(Fault::At { message: message.into(), at: position }))
    }

    pub(super) fn somewhere(message: impl Into<String>) -> Self {
        Self(Box::new(Fault::Somewhere { message: message.into() }))
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Fault::Expected { found, expected, at } => {
                write!(f, "found {found}, expected {expected} at line {}, char {}", at.line + 1, at.char + 1)
            }
            Fault::At { message, at } => write!(f, "{message} at line {}, char {}", at.line + 1, at.char + 1),
            Fault::Somewhere { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for ParseError {}
