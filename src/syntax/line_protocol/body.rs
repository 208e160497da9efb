//! The body of a request as text.

use std::borrow::Cow;

use super::error::LineError;

/// Text, with a note of where it was none.
pub(super) struct Body<'b> {
    /// The body; bytes that are no UTF-8 are replaced by U+FFFD.
    pub(super) text: Cow<'b, str>,
    /// Places of replacements in `text`, rising; of those in one physical line only the first.
    damage: Vec<Damage>,
}

#[derive(Debug, Clone, Copy)]
struct Damage {
    at: usize,
    /// The index of the bad byte in the body as it was sent.
    index: usize,
}

impl<'b> Body<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: Cow::Borrowed(text), damage: Vec::new() },
            Err(_) => Self::damaged(bytes),
        }
    }

    #[cold]
    fn damaged(bytes: &'b [u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut damage: Vec<Damage> = Vec::new();
        let mut index = 0;
        let mut line_is_damaged = false;
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            index += chunk.valid().len();
            line_is_damaged &= !chunk.valid().contains('\n');
            if chunk.invalid().is_empty() {
                continue;
            }
            if !line_is_damaged {
                damage.push(Damage { at: text.len(), index });
                line_is_damaged = true;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            index += chunk.invalid().len();
        }
        Self { text: Cow::Owned(text), damage }
    }

    /// Why the line from `start` to `end` can't be taken as text, if it can't.
    #[inline]
    pub(super) fn error_in(&self, start: usize, end: usize) -> Option<LineError> {
        if self.damage.is_empty() {
            return None;
        }
        let first = self.damage.partition_point(|damage| damage.at < start);
        let damage = self.damage.get(first).filter(|damage| damage.at < end)?;
        Some(LineError::Utf8 { index: damage.index })
    }
}
