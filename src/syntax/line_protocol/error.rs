//! Why a line is refused, in the words that users of InfluxDB 3 know.
//!
//! These texts go to the client as they are, one for each refused line; they never travel as a
//! `crate::error::Error`, because one bad line is no failure of the request. Hence their capitals.

use crate::model::{ColumnKind, ColumnName, NameError, Precision, SchemaError};

/// The longest name, tag value or field string, in bytes.
pub(super) const STRING_BYTES_MAX: usize = 1024 * 1024;

/// How much of the text after an unreadable place is repeated in a message, in characters.
const CONTEXT_CHARS: usize = 10;

/// Why one line is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum LineError {
    #[error("Invalid measurement was provided")]
    Measurement,
    #[error("Tag set malformed: could not find {missing} in `{near}`")]
    TagSet { missing: &'static str, near: String },
    #[error("Must not contain duplicate tags, but `{name}` was repeated")]
    DuplicateTag { name: String },
    #[error("Expected at least one space character, got `{near}`")]
    Space { near: String },
    #[error("No fields were provided")]
    NoFields,
    #[error("invalid line protocol - multiple instances of '{name}' field found")]
    DuplicateField { name: String },
    #[error("Measurements, tag keys and values, and field keys may not end with a backslash")]
    EndsWithBackslash,
    #[error("Unable to parse integer value `{text}`")]
    Integer { text: String },
    #[error("Unable to parse unsigned integer value `{text}`")]
    Unsigned { text: String },
    #[error("Unable to parse floating-point value `{text}`")]
    Float { text: String },
    #[error("Unable to parse timestamp value `{text}`")]
    Timestamp { text: String },
    #[error("timestamp, {number}, out of range for precision: {precision}")]
    TimestampRange { number: i64, precision: Precision },
    #[error("Could not parse entire line. Found trailing content: `{near}`")]
    TrailingContent { near: String },
    #[error("String is greater than 1MB")]
    StringTooLong,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("Update to schema would exceed number of columns per table limit of {limit} columns")]
    TooManyColumns { limit: usize },
    #[error(
        "Update to schema would exceed number of tables limit: attempted to create table but this write may create only {limit} more table(s)"
    )]
    TooManyTables { limit: usize },
    #[error("body content is not valid utf8: invalid byte at index {index}")]
    Utf8 { index: usize },
    #[error("body is greater than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error(
        "rows times columns of this write would be more than {limit}: write less at a time, or fewer columns to a table"
    )]
    TooManyCells { limit: usize },
}

impl LineError {
    /// A column that has another kind than the line gives it.
    pub(super) fn kind(column: ColumnName, expected: ColumnKind, got: ColumnKind) -> Self {
        Self::Schema(SchemaError::Kind { column, expected, got })
    }
}

/// How much of a number is repeated in a message, in characters; a double needs fewer than 30.
const LITERAL_CHARS: usize = 64;

/// A number as messages repeat it.
pub(super) fn literal(text: &str) -> String {
    text.chars().take(LITERAL_CHARS).collect()
}

/// The first characters of `text`, as messages repeat them.
pub(super) fn context(text: &str) -> String {
    text.chars().take(CONTEXT_CHARS).collect()
}

/// A line that could not be read, and where the search for its end goes on.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) error: LineError,
    pub(super) resume: Resume,
}

/// A place in the body from which the end of an unreadable line can be found.
///
/// What follows the place may hold quoted strings with newlines; which quotes count depends on what
/// was read before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Resume {
    /// The first character of a measurement.
    Series(usize),
    /// The first character of a field's key.
    Field(usize),
    /// The first character after a field's value or a timestamp.
    Value(usize),
}

impl Stop {
    /// Boxed, so that the path of good lines carries one pointer and not every message's parts.
    #[cold]
    pub(super) fn new(error: impl Into<LineError>, resume: Resume) -> Box<Self> {
        Box::new(Self { error: error.into(), resume })
    }
}
