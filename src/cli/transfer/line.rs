//! Names and values as line protocol.
//!
//! Always true:
//! - what is written here is read back by the server's parser as exactly the same name or value, or it is refused;
//! - a float is written with the fewest digits that make the same double.
//!
//! Not here: which column is a tag and which a field.

use std::io::Write;

/// What a name is for: each kind may hold other characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Table,
    /// The key of a tag or field.
    Key,
    TagValue,
}

/// A name that line protocol has no way to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritable {
    #[error("line protocol cannot write {character:?} in a name or tag")]
    Character { character: char },
    #[error("line protocol cannot write a table whose name begins with {character:?}")]
    Start { character: char },
    #[error("line protocol cannot write a name or tag that ends with a backslash")]
    End,
    #[error("line protocol cannot write an empty name")]
    Empty,
}

impl Name {
    fn may_be_escaped(self, byte: u8) -> bool {
        match byte {
            b'\\' | b' ' | b',' => true,
            b'=' => self != Self::Table,
            _ => false,
        }
    }

    /// Characters that end the name, and that only a backslash which is itself part of the name can precede.
    fn ends_at(self, byte: u8) -> bool {
        matches!(byte, b'\t' | b'\n') || (byte == 0 && self == Self::Table)
    }

    fn is_special(self, byte: u8) -> bool {
        self.may_be_escaped(byte) || self.ends_at(byte)
    }
}

/// Adds `text` with its escapes to `out`.
///
/// # Errors
/// If the text cannot be written; then something of it may have been added.
pub(crate) fn push_name(out: &mut Vec<u8>, text: &str, kind: Name) -> Result<(), Unwritable> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(Unwritable::Empty);
    }
    if bytes.ends_with(b"\\") {
        return Err(Unwritable::End);
    }
    if kind == Name::Table && bytes[0] == b'#' {
        return Err(Unwritable::Start { character: '#' });
    }
    if !bytes.iter().any(|byte| kind.is_special(*byte)) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match bytes.get(at + 1) {
            // A backslash before one of these is no escape: it stays, and so does what follows it.
            Some(&next) if byte == b'\\' && kind.ends_at(next) => {
                out.extend_from_slice(&[byte, next]);
                at += 1;
            }
            _ if kind.may_be_escaped(byte) => out.extend_from_slice(&[b'\\', byte]),
            _ if kind.ends_at(byte) => return Err(Unwritable::Character { character: char::from(byte) }),
            _ => out.push(byte),
        }
        at += 1;
    }
    Ok(())
}

/// Adds a string field's value in its quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Adds a number of any integer type, without a suffix.
pub(crate) fn push_integer(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("memory takes every byte, because it grows or the process ends");
}

/// Adds a finite float with the fewest digits that make the same double.
pub(crate) fn push_float(out: &mut Vec<u8>, number: f64) {
    let magnitude = number.abs();
    let written = if magnitude != 0.0 && !(1e-5..1e16).contains(&magnitude) {
        write!(out, "{number:e}")
    } else {
        write!(out, "{number}")
    };
    written.expect("memory takes every byte, because it grows or the process ends");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, kind: Name) -> Result<String, Unwritable> {
        let mut out = Vec::new();
        push_name(&mut out, text, kind).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn names_escape_what_would_end_them() {
        assert_eq!(name("a b,c=d", Name::Table).unwrap(), r"a\ b\,c=d");
        assert_eq!(name("a b,c=d", Name::Key).unwrap(), r"a\ b\,c\=d");
        assert_eq!(name("C:\\x", Name::TagValue).unwrap(), r"C:\\x");
        assert_eq!(name("a\\\nb", Name::TagValue).unwrap(), "a\\\nb");
        assert_eq!(name("é", Name::TagValue).unwrap(), "é");
    }

    #[test]
    fn names_that_cannot_be_written_are_refused() {
        let cases = [
            ("", Name::Key),
            ("#a", Name::Table),
            ("a\nb", Name::TagValue),
            ("a\tb", Name::Key),
            ("C:\\", Name::TagValue),
        ];
        for (text, kind) in cases {
            assert!(name(text, kind).is_err(), "{text:?}");
        }
    }

    #[test]
    fn floats_keep_their_bits() {
        for number in [0.0, -0.0, 0.1, 1e16, 1e-5, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1.0 / 3.0, -123.25] {
            let mut out = Vec::new();
            push_float(&mut out, number);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits(), "{text}");
            assert!(text.len() < 25, "{text}");
        }
    }
}
