//! The refused lines of one request: counted all, kept in detail up to a limit.

use memchr::memchr_iter;

use super::RefusedLine;
use super::error::LineError;

/// How many refused lines are described. Who sends more bad ones has one mistake, not a thousand.
pub(super) const DETAILS_MAX: usize = 1_000;

/// How much of the text of refused lines is kept, in bytes. Messages repeat little else, so this bounds them too.
pub(super) const TEXT_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct RefusedLines {
    pub(super) details: Vec<RefusedLine>,
    pub(super) count: usize,
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
