//! Which rows a user has deleted.

use super::data_file::DataFile;
use super::ids::Sequence;
use super::names::ColumnName;
use super::time::TimeRange;

/// Rows of one table: those in a range of time that have all of these tags.
///
/// Only the key says whether a row is meant, never a field: so it is the same before and after the writes of a point are
/// merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSelection {
    /// The times of the rows.
    pub time: TimeRange,
    /// Tags and the value that each must have; `None`: the row must not have the tag. A tag occurs once at most.
    pub tags: Vec<(ColumnName, Option<String>)>,
}

/// A deletion of rows that are in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Rises with each deletion of the table, from 1.
    pub number: u64,
    /// Which rows are gone.
    pub rows: RowSelection,
    /// Writes after this one are not touched.
    pub through: Sequence,
}

impl Deletion {
    /// Whether rows of the file may be deleted and still be in it.
    pub fn applies_to(&self, file: &DataFile) -> bool {
        file.deletions_applied < self.number
            && file.sequences.last <= self.through
            && file.time.overlaps(&self.rows.time)
    }

    /// Whether every row of the file is deleted.
    pub fn covers(&self, file: &DataFile) -> bool {
        let TimeRange { min, max } = self.rows.time;
        self.rows.tags.is_empty() && self.applies_to(file) && min <= file.time.min && file.time.max <= max
    }
}
