//! Where lines begin and end, and how names are escaped: everything of the grammar but values.
//!
//! A line ends at the first newline outside a quoted field string; `\r` before it belongs to the line
//! end. A backslash in a name keeps the next character from ending the name, even a newline, and is
//! dropped where that character is one that may be escaped there.
//!
//! Lines that are refused end where InfluxDB's own splitter would end them: it counts `=` and `,`
//! behind the first blank, and takes a `"` as a quote where a value is open.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

use super::error::{LineError, Resume, STRING_BYTES_MAX};

/// Where a line begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LineStart {
    /// The first byte of the physical line.
    pub(super) physical: usize,
    /// The first byte that is neither space nor tab.
    pub(super) content: usize,
}

/// The next line with content at or after `at`, itself the start of a line; blank lines and comments are passed over.
pub(super) fn next_line(bytes: &[u8], mut at: usize) -> Option<LineStart> {
    while at < bytes.len() {
        let content = skip(bytes, at, |byte| byte == b' ' || byte == b'\t');
        if bytes.get(content) == Some(&b'#') {
            at = memchr(b'\n', &bytes[content..]).map_or(bytes.len(), |offset| content + offset + 1);
        } else if let Some(next) = line_end(bytes, content) {
            at = next;
        } else {
            return Some(LineStart { physical: at, content });
        }
    }
    None
}

/// If a line ends at `at` (by `\n`, `\r\n` or the end of the body): where the next one begins.
#[inline]
pub(super) fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at) {
        None => Some(at),
        Some(b'\n') => Some(at + 1),
        Some(b'\r') => match bytes.get(at + 1) {
            None => Some(at + 1),
            Some(b'\n') => Some(at + 2),
            Some(_) => None,
        },
        Some(_) => None,
    }
}

/// The newline, or the end of the body, that ends a line which could not be read beyond `from`.
pub(super) fn end_of_unreadable(bytes: &[u8], from: Resume) -> usize {
    let (mut at, mut in_fields, mut open_values) = match from {
        Resume::Series(at) => (at, false, 0_i64),
        Resume::Field(at) => (at, true, 0),
        Resume::Value(at) => (at, true, 1),
    };
    let mut quoted = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' if !quoted => return at,
            b' ' => in_fields = true,
            b'"' if in_fields && open_values > 0 => quoted = !quoted,
            b'=' if in_fields && !quoted => open_values += 1,
            b',' if in_fields && !quoted => open_values -= 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The first blank that is not escaped, if there is one before the line ends: the end of a well-formed series.
pub(super) fn end_of_series(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr3(b' ', b'\\', b'\n', bytes.get(at..)?)?;
        match bytes[at] {
            b' ' => return Some(at),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// The first place at or after `at` whose byte is none of the `skipped`.
#[inline]
pub(super) fn skip(bytes: &[u8], at: usize, skipped: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|byte| !skipped(*byte)).map_or(bytes.len(), |offset| at + offset)
}

/// What a name is for: each kind ends at other characters and may escape others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum NameKind {
    /// The table. It ends at a comma or blank and escapes both.
    Measurement,
    /// The key of a tag or field. It ends at an equals sign or blank; these and commas may be escaped.
    Key,
    /// The value of a tag. It ends at a comma or blank; these and equals signs may be escaped.
    TagValue,
}

impl NameKind {
    #[inline]
    fn ends_at(self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' | b'\n' => true,
            b',' => self != Self::Key,
            b'=' => self == Self::Key,
            0 => self == Self::Measurement,
            _ => false,
        }
    }

    fn may_escape(self, byte: u8) -> bool {
        match byte {
            b'\\' | b' ' | b',' => true,
            b'=' => self != Self::Measurement,
            _ => false,
        }
    }
}

/// A name as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Name<'a> {
    /// The text in the body, escapes included. It may be empty.
    pub(super) raw: &'a str,
    /// What the escapes of `raw` mean to `kind`.
    kind: NameKind,
    escaped: bool,
}

impl<'a> Name<'a> {
    /// The name of this kind that begins at `at`; it ends `raw.len()` bytes later.
    ///
    /// # Errors
    /// If the name ends with a backslash or is too long.
    #[inline]
    pub(super) fn read(text: &'a str, at: usize, kind: NameKind) -> Result<Self, LineError> {
        let bytes = text.as_bytes();
        let mut end = at;
        let mut escaped = false;
        while let Some(byte) = bytes.get(end) {
            if *byte == b'\\' {
                escaped = true;
                end += 1;
            } else if kind.ends_at(*byte) {
                break;
            }
            end += 1;
        }
        // A backslash may be the last byte, and a character after one may be longer than a byte: its
        // other bytes never end a name, so `end` is on a border of characters in any case.
        let name = Self { raw: &text[at..end.min(bytes.len())], kind, escaped };
        if escaped || name.raw.len() > STRING_BYTES_MAX { name.checked() } else { Ok(name) }
    }

    #[cold]
    fn checked(self) -> Result<Self, LineError> {
        let text = self.text();
        if text.ends_with('\\') {
            return Err(LineError::EndsWithBackslash);
        }
        if text.len() > STRING_BYTES_MAX {
            return Err(LineError::StringTooLong);
        }
        Ok(self)
    }

    /// The name with its escapes resolved.
    #[inline]
    pub(super) fn text(&self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(self.unescaped()) } else { Cow::Borrowed(self.raw) }
    }

    fn unescaped(&self) -> String {
        let mut text = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(backslash) = memchr(b'\\', rest.as_bytes()) {
            text.push_str(&rest[..backslash]);
            rest = &rest[backslash + 1..];
            // The character after the backslash is taken in any case; where it needed no escape, the
            // backslash is part of the name.
            let Some(next) = rest.chars().next() else {
                text.push('\\');
                break;
            };
            if !(next.is_ascii() && self.kind.may_escape(next as u8)) {
                text.push('\\');
            }
            text.push(next);
            rest = &rest[next.len_utf8()..];
        }
        text.push_str(rest);
        text
    }
}

/// A field string as it is written, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct QuotedText<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> QuotedText<'a> {
    /// The string whose opening quote is at `at`, and where its closing quote is; `None` if nothing closes it.
    ///
    /// # Errors
    /// If the string is too long.
    pub(super) fn read(text: &'a str, at: usize) -> Result<Option<(Self, usize)>, LineError> {
        let bytes = text.as_bytes();
        let start = at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            let Some(offset) = bytes.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest)) else { return Ok(None) };
            end += offset;
            if bytes[end] == b'"' {
                break;
            }
            if matches!(bytes.get(end + 1), Some(b'"' | b'\\')) {
                escaped = true;
                end += 1;
            }
            end += 1;
        }
        let string = Self { raw: &text[start..end], escaped };
        if string.raw.len() > STRING_BYTES_MAX && string.pieces().map(str::len).sum::<usize>() > STRING_BYTES_MAX {
            return Err(LineError::StringTooLong);
        }
        Ok(Some((string, end)))
    }

    /// The string in pieces, each without escapes; their concatenation is the value.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let escaped = self.escaped;
        let mut rest = Some(self.raw);
        // Each piece but the first begins with an escaped character, which escapes nothing itself.
        let mut literal = 0;
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let Some(backslash) = escaped.then(|| next_escape(text, literal)).flatten() else { return Some(text) };
            rest = Some(&text[backslash + 1..]);
            literal = 1;
            Some(&text[..backslash])
        })
    }
}

/// The first backslash at or after `at` that escapes a quote or a backslash; others are plain text.
fn next_escape(text: &str, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    loop {
        at += memchr(b'\\', bytes.get(at..)?)?;
        if matches!(bytes.get(at + 1), Some(b'"' | b'\\')) {
            return Some(at);
        }
        at += 1;
    }
}
