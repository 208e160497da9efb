//! `table.json`: stands in the directory of an exported table and says what the files beside it hold.
//!
//! Types of columns and which of them are tags are not in CSV, nor the table's name in CSV and Parquet; and an
//! export that is taken up again must cut time where it did before.

use serde::{Deserialize, Serialize};

use crate::model::{ColumnKind, FieldType};

/// The name of the file.
pub(crate) const TABLE_FILE: &str = "table.json";

/// What `table.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableFile {
    /// The table's name, which the directory's name may only resemble.
    pub table: String,
    /// Everything but `time`.
    pub columns: Vec<ColumnEntry>,
    /// What was asked for: an export with other words is another export.
    #[serde(default)]
    pub export: String,
    /// The files, by time.
    #[serde(default)]
    pub pieces: Vec<PieceEntry>,
}

/// A tag or field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnEntry {
    pub name: String,
    /// One of [`kind_name`].
    pub kind: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PieceEntry {
    pub file: String,
    /// The first nanosecond of the rows in it.
    pub first: i64,
    /// The last one.
    pub last: i64,
}

impl TableFile {
    /// What the column is, if it is known here.
    pub(crate) fn kind(&self, column: &str) -> Option<ColumnKind> {
        self.columns.iter().find(|entry| entry.name == column).and_then(|entry| kind_named(&entry.kind))
    }
}

/// The short name of a kind, as users write it too.
pub(crate) fn kind_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Tag => "tag",
        ColumnKind::Field(FieldType::Float) => "float",
        ColumnKind::Field(FieldType::Integer) => "integer",
        ColumnKind::Field(FieldType::Unsigned) => "unsigned",
        ColumnKind::Field(FieldType::String) => "string",
        ColumnKind::Field(FieldType::Boolean) => "boolean",
    }
}

/// The kind of a short name, or of the name that `create table` takes.
pub(crate) fn kind_named(name: &str) -> Option<ColumnKind> {
    Some(match name {
        "tag" => ColumnKind::Tag,
        "float" | "float64" => ColumnKind::Field(FieldType::Float),
        "integer" | "int64" => ColumnKind::Field(FieldType::Integer),
        "unsigned" | "uint64" => ColumnKind::Field(FieldType::Unsigned),
        "string" | "utf8" => ColumnKind::Field(FieldType::String),
        "boolean" | "bool" => ColumnKind::Field(FieldType::Boolean),
        _ => return None,
    })
}
