//! Names that exist only if they are well formed.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The column that every table has: nanoseconds since 1970, never null, part of every point's key.
pub const TIME_COLUMN: &str = "time";

/// Longest database name, in bytes.
const DATABASE_NAME_BYTES_MAX: usize = 511;

/// Longest table or column name, in bytes: the longest string the line protocol of our users' servers takes.
const NAME_BYTES_MAX: usize = 1024 * 1024;

/// Names kept back for the system; `__chunk_order` because clients of InfluxDB 3 know it as reserved.
const RESERVED_COLUMNS: [&str; 2] = [TIME_COLUMN, "__chunk_order"];

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NameError {
    #[error("db name cannot be empty")]
    EmptyDatabase,
    #[error("db name did not start with a number or letter")]
    DatabaseStart,
    #[error(
        "invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores, or hyphens"
    )]
    DatabaseCharacter,
    #[error(
        "db name with invalid retention policy, if providing a retention policy name, must be of form '<db_name>/<rp_name>'"
    )]
    DatabaseRetentionPolicy,
    #[error("db name too long: max {DATABASE_NAME_BYTES_MAX}")]
    DatabaseTooLong,
    #[error("{what} name cannot be empty")]
    Empty { what: &'static str },
    #[error("{what} name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong { what: &'static str },
    #[error("'{name}' is a reserved column")]
    Reserved { name: String },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A database: a letter or digit first, then letters, digits, `_` and `-`, with at most one `/`
    /// before a retention policy's name, as InfluxDB 1.x clients write it.
    DatabaseName
}
name! {
    /// A table: any text that is not empty.
    TableName
}
name! {
    /// A tag or field: any text that is neither empty nor reserved.
    ColumnName
}

impl DatabaseName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// Says which rule the text breaks, in the words that clients of InfluxDB 3 know.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::EmptyDatabase)?;
        if text.len() > DATABASE_NAME_BYTES_MAX {
            return Err(NameError::DatabaseTooLong);
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::DatabaseStart);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/');
        if !text.bytes().all(allowed) {
            return Err(NameError::DatabaseCharacter);
        }
        if text.ends_with('/') || text.bytes().filter(|byte| *byte == b'/').count() > 1 {
            return Err(NameError::DatabaseRetentionPolicy);
        }
        Ok(Self(text.into()))
    }
}

impl TableName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// If the text is empty or longer than 1 MiB.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_length(text, "table")?;
        Ok(Self(text.into()))
    }
}

impl ColumnName {
    /// Checks and keeps the name of a tag or field.
    ///
    /// # Errors
    /// If the text is empty, longer than 1 MiB, or reserved.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check_length(text, "column")?;
        if RESERVED_COLUMNS.contains(&text) {
            return Err(NameError::Reserved { name: text.to_owned() });
        }
        Ok(Self(text.into()))
    }
}

fn check_length(text: &str, what: &'static str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_name_keeps_the_rules_clients_know() {
        for good in ["nyc", "0", "a-b_c", "telegraf/autogen", "A1"] {
            assert!(DatabaseName::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", NameError::EmptyDatabase),
            ("_internal", NameError::DatabaseStart),
            ("../etc", NameError::DatabaseStart),
            ("a b", NameError::DatabaseCharacter),
            ("a.b", NameError::DatabaseCharacter),
            ("ä", NameError::DatabaseStart),
            ("a/", NameError::DatabaseRetentionPolicy),
            ("a/b/c", NameError::DatabaseRetentionPolicy),
        ] {
            assert_eq!(DatabaseName::new(bad), Err(why), "{bad}");
        }
        assert_eq!(DatabaseName::new(&"a".repeat(512)), Err(NameError::DatabaseTooLong));
    }

    #[test]
    fn time_is_no_name_for_a_tag_or_field() {
        assert_eq!(ColumnName::new("time").unwrap_err().to_string(), "'time' is a reserved column");
        assert!(ColumnName::new("Time").is_ok());
        assert!(TableName::new("time").is_ok());
    }
}
