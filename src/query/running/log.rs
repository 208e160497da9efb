//! The last queries that have ended.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Entry;

/// Bytes of one text that are kept: enough for what people write, and for the beginning of what programs do.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Bytes of all texts and errors that are kept.
const LOG_BYTES_MAX: usize = 32 << 20;

/// Queries that have ended, oldest first: so many, and fewer if they are long.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<(Arc<Entry>, usize)>,
    entries_max: usize,
    bytes: usize,
}

impl Log {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, bytes: 0 }
    }

    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        let error = entry.progress.lock().error.as_ref().map_or(0, String::len);
        let bytes = entry.text.len() + error;
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > self.entries_max || self.bytes > LOG_BYTES_MAX {
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|(entry, _)| entry)
    }
}
