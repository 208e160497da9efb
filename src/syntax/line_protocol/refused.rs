//! The refused lines of one request: counted all, kept in detail up to a limit.

use memchr::memchr_iter;

use super::error::LineError;
use super::lines::{Name, NameKind};
use super::{KindConflict, RefusedLine};
use crate::model::SchemaError;

/// How many refused lines are described. Who sends more bad ones has one mistake, not a thousand.
pub(super) const DETAILS_MAX: usize = 1_000;

/// How much of the text of refused lines is kept, in bytes. Messages repeat little else, so this bounds them too.
pub(super) const TEXT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct RefusedLines {
    pub(super) details: Vec<RefusedLine>,
    pub(super) count: usize,
    /// The first conflict of kinds.
    pub(super) conflict: Option<KindConflict>,
    pub(super) conflict_count: usize,
    text_bytes: usize,
    /// Newlines before this place of the body are counted.
    counted_to: usize,
    newlines: usize,
}

impl RefusedLines {
    /// Notes the line from `start` to `end` of the body, which comes after those noted before.
    pub(super) fn push(&mut self, body: &str, start: usize, end: usize, error: &LineError) {
        self.count += 1;
        let line = &body[start..end];
        if let Some(conflict) = conflict(line, error) {
            self.conflict_count += 1;
            self.conflict.get_or_insert(conflict);
        }
        let mut original_line = line.strip_suffix('\r').unwrap_or(line);
        if self.details.is_empty() {
            // The first one is always told, if need be cut.
            original_line = &original_line[..original_line.floor_char_boundary(TEXT_BYTES_MAX)];
        }
        if self.details.len() == DETAILS_MAX || self.text_bytes + original_line.len() > TEXT_BYTES_MAX {
            return;
        }
        self.newlines += memchr_iter(b'\n', &body.as_bytes()[self.counted_to..start]).count();
        self.counted_to = start;
        self.text_bytes += original_line.len();
        self.details.push(RefusedLine {
            line_number: self.newlines + 1,
            original_line: original_line.to_owned(),
            message: error.to_string(),
        });
    }
}

/// The conflict that is the reason why a line was refused.
fn conflict(line: &str, error: &LineError) -> Option<KindConflict> {
    let LineError::Schema(SchemaError::Kind { column, expected, got }) = error else { return None };
    let start = line.len() - line.trim_start_matches([' ', '\t']).len();
    let table = Name::read(line, start, NameKind::Measurement).ok()?.text().into_owned();
    Some(KindConflict { table, column: column.clone(), expected: *expected, got: *got })
}
