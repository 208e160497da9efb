//! Cuts line protocol into requests at real line ends, reading no further ahead than one request.
//!
//! A newline inside a quoted string, or after a backslash, does not end a line; where a quote opens a string is
//! decided as the clients' and servers' own parsers do it: behind a `=` of the fields, never in names and tags.
//!
//! Always true:
//! - the chunks one after the other are the text; each begins and ends at a line end and is at most `bytes_max` long;
//! - a chunk knows the physical number of its first line in the whole text;
//! - at most one chunk and one byte of text are held here.

use std::io::{self, Read};

use bytes::Bytes;

/// Some whole lines of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Physical number, from 1, of the first line.
    pub first_line: u64,
    /// Lines that are neither blank nor comments.
    pub points: u64,
    pub bytes: Bytes,
}

/// Why a text cannot be cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError {
    #[error(
        "line {line} is longer than {bytes_max} bytes, the limit of --max-request-size: is a quote left open in it?"
    )]
    LineTooLong { line: u64, bytes_max: usize },
    #[error("could not read the input")]
    Read(#[from] io::Error),
}

/// A text being cut.
#[derive(Debug)]
pub(crate) struct Chunks<R> {
    reader: R,
    bytes_max: usize,
    /// Read and not yet handed out; begins at a line's start.
    pending: Vec<u8>,
    next_line: u64,
}

impl<R: Read> Chunks<R> {
    /// `bytes_max` must not be 0.
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader, bytes_max, pending: Vec::new(), next_line: 1 }
    }

    /// Physical number, from 1, of the line behind the last chunk.
    pub(crate) fn next_line(&self) -> u64 {
        self.next_line
    }

    /// Passes over the first lines of the text, which must end where a line of line protocol does.
    pub(crate) fn skip_lines(&mut self, mut lines: u64) -> Result<(), SplitError> {
        while lines > 0 {
            let is_last = self.fill()?;
            let newlines = memchr::memchr_iter(b'\n', &self.pending);
            let (mut passed, mut bytes) = (0, self.pending.len());
            for newline in newlines.take(usize::try_from(lines).unwrap_or(usize::MAX)) {
                passed += 1;
                if passed == lines {
                    bytes = newline + 1;
                }
            }
            self.pending.drain(..bytes);
            self.next_line += passed;
            lines -= passed;
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next chunk that holds a point; `None` at the end of the text.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>, SplitError> {
        while let Some(chunk) = self.next_lines()? {
            if chunk.points > 0 {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn next_lines(&mut self) -> Result<Option<Chunk>, SplitError> {
        let is_last = self.fill()?;
        if self.pending.is_empty() {
            return Ok(None);
        }
        let lines = if is_last { Lines::all_of(&self.pending) } else { Lines::whole(&self.pending[..self.bytes_max]) };
        if lines.bytes == 0 {
            return Err(SplitError::LineTooLong { line: self.next_line, bytes_max: self.bytes_max });
        }
        let rest = self.pending[lines.bytes..].to_vec();
        let mut taken = std::mem::replace(&mut self.pending, rest);
        taken.truncate(lines.bytes);
        let chunk = Chunk { first_line: self.next_line, points: lines.points, bytes: Bytes::from(taken) };
        self.next_line += lines.newlines;
        Ok(Some(chunk))
    }

    /// Reads until one byte more than fits is pending; whether the text ended before that.
    fn fill(&mut self) -> io::Result<bool> {
        let wanted = self.bytes_max + 1 - self.pending.len();
        let got = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.pending)?;
        Ok(got < wanted)
    }
}

/// What is known of some lines at the start of a text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    bytes: usize,
    points: u64,
    newlines: u64,
}

impl Lines {
    /// The lines that end within `text`.
    fn whole(text: &[u8]) -> Self {
        let mut lines = Self::default();
        while let Some(length) = line_length(&text[lines.bytes..]) {
            lines.add(&text[lines.bytes..][..length]);
        }
        lines
    }

    /// All of `text`, whose last line may lack its newline.
    fn all_of(text: &[u8]) -> Self {
        let mut lines = Self::whole(text);
        if lines.bytes < text.len() {
            lines.add(&text[lines.bytes..]);
        }
        lines
    }

    fn add(&mut self, line: &[u8]) {
        self.points += u64::from(is_point(line));
        self.newlines += memchr::memchr_iter(b'\n', line).count() as u64;
        self.bytes += line.len();
    }
}

/// Neither blank nor a comment, as the server reads it: a `\r` is part of a table's name unless it ends the line.
fn is_point(line: &[u8]) -> bool {
    let start = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    !line[start..].starts_with(b"#") && !matches!(&line[start..], b"" | b"\n" | b"\r" | b"\r\n")
}

/// The length of the first line with its newline; `None` if it doesn't end within `text`.
fn line_length(text: &[u8]) -> Option<usize> {
    let first_newline = memchr::memchr(b'\n', text)?;
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let line = &text[..first_newline];
    // Most lines hold neither quotes nor escapes, and in a comment they mean nothing.
    if text.get(blanks) == Some(&b'#') || memchr::memchr2(b'"', b'\\', line).is_none() {
        return Some(first_newline + 1);
    }
    escaped_line_length(&text[blanks..]).map(|length| blanks + length)
}

/// The same for a line with quotes or escapes; `text` begins with the table's name.
fn escaped_line_length(text: &[u8]) -> Option<usize> {
    let (mut escaped, mut in_fields, mut quoted) = (false, false, false);
    let (mut equals, mut commas) = (0_usize, 0_usize);
    for (at, byte) in text.iter().enumerate() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match byte {
            b'\\' => escaped = true,
            b' ' => in_fields = true,
            b'=' if in_fields && !quoted => equals += 1,
            b',' if in_fields && !quoted => commas += 1,
            // Behind a `=` and before the next `,` is a field's value: there a quote opens or closes a string.
            b'"' if in_fields && equals > commas => quoted = !quoted,
            b'\n' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, bytes_max: usize) -> Result<Vec<(u64, u64, String)>, SplitError> {
        let mut chunks = Chunks::new(text.as_bytes(), bytes_max);
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next_chunk()? {
            all.push((chunk.first_line, chunk.points, String::from_utf8(chunk.bytes.to_vec()).unwrap()));
        }
        Ok(all)
    }

    #[test]
    fn chunks_end_at_lines_and_know_their_first_line() {
        let text = "cpu f=1\ncpu f=2\ncpu f=3\n";
        assert_eq!(cut(text, 100).unwrap(), [(1, 3, text.into())]);
        assert_eq!(cut(text, 16).unwrap(), [(1, 2, "cpu f=1\ncpu f=2\n".into()), (3, 1, "cpu f=3\n".into())]);
        assert_eq!(cut(text, 17).unwrap().len(), 2);
        assert_eq!(cut("cpu f=1\ncpu f=2", 8).unwrap(), [(1, 1, "cpu f=1\n".into()), (2, 1, "cpu f=2".into())]);
        assert_eq!(cut("", 8).unwrap(), []);
    }

    #[test]
    fn lines_that_are_passed_over_are_counted() {
        let text = "cpu f=1\ncpu f=2\ncpu f=3";
        for (skipped, expected) in [(0, Some((1, "cpu f=1\n"))), (2, Some((3, "cpu f=3"))), (3, None), (9, None)] {
            let mut chunks = Chunks::new(text.as_bytes(), 8);
            chunks.skip_lines(skipped).unwrap();
            let next = chunks.next_chunk().unwrap();
            let next = next.map(|chunk| (chunk.first_line, String::from_utf8(chunk.bytes.to_vec()).unwrap()));
            assert_eq!(next, expected.map(|(line, text)| (line, text.to_owned())), "{skipped}");
        }
    }

    #[test]
    fn a_newline_inside_a_string_does_not_cut_and_still_counts_as_a_line() {
        let text = "log m=\"a\nb\\\"\nc\"\nlog m=\"d\"\n";
        assert_eq!(cut(text, 18).unwrap(), [(1, 1, "log m=\"a\nb\\\"\nc\"\n".into()), (4, 1, "log m=\"d\"\n".into())]);
    }

    #[test]
    fn a_quote_in_a_tag_or_a_comment_opens_nothing() {
        let text = "disk,size=3\" f=1\n# it's 3\" f=\"\ndisk f=2\n";
        // The comment's own request would hold no point, so there is none.
        assert_eq!(cut(text, 20).unwrap(), [(1, 1, "disk,size=3\" f=1\n".into()), (3, 1, "disk f=2\n".into())]);
    }

    #[test]
    fn blank_lines_and_comments_are_no_points_but_count_as_lines() {
        assert_eq!(cut("\n# a\n  \ncpu f=1\n\n", 100).unwrap(), [(1, 1, "\n# a\n  \ncpu f=1\n\n".into())]);
        // A request without any point would be refused, so it is not made.
        assert_eq!(cut("# aaaaa\n# bbbbb\ncpu f=1\n", 8).unwrap(), [(3, 1, "cpu f=1\n".into())]);
    }

    #[test]
    fn a_return_ends_a_blank_line_but_begins_a_name() {
        assert_eq!(cut("\r\n \r\n\r", 100).unwrap(), []);
        assert_eq!(cut("\r# f=1\n", 100).unwrap(), [(1, 1, "\r# f=1\n".into())]);
    }

    #[test]
    fn a_line_that_fits_no_request_is_named() {
        let error = cut("cpu f=1\ncpu f=\"never closed\ncpu f=2\n", 12).unwrap_err();
        assert!(error.to_string().starts_with("line 2 is longer than 12 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn chunks_are_the_text_in_order(
            text in "([a-c]{1,3} [f,= \"\\\\\n#]{0,12}\n){0,20}",
            bytes_max in 40_usize..400,
        ) {
            let Ok(chunks) = cut(&text, bytes_max) else { return Ok(()) };
            for (first_line, _, chunk) in &chunks {
                prop_assert!(chunk.len() <= bytes_max);
                // Where the chunk stands in the text says how many newlines are before it.
                let lines_before: String = text.split_inclusive('\n').take(*first_line as usize - 1).collect();
                prop_assert!(text[lines_before.len()..].starts_with(chunk.as_str()));
            }
            let whole: u64 = chunks.iter().map(|(_, points, _)| points).sum();
            prop_assert_eq!(whole, cut(&text, 100_000).unwrap().iter().map(|(_, points, _)| points).sum::<u64>());
        }

        #[test]
        fn lines_end_where_the_reference_parser_ends_them(text in "(cpu,t=\"?a\\\\? [fg,= \"\\\\\na]{0,16}\n){1,6}") {
            // The reference knows no comments, and takes leading blanks for the start of the fields.
            prop_assume!(!text.starts_with([' ', '#', '\t']));
            let Some(reference) = influxdb_line_protocol::split_lines(&text).next() else { return Ok(()) };
            let ours = line_length(text.as_bytes()).map_or(text.len(), |length| length - 1);
            prop_assert_eq!(&text[..ours], reference);
        }
    }
}
