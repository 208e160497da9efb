//! What the user sees of a write: a bar while it runs, and in the end what was written and what was not, and why.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::send::{Answer, RefusedLine};
use super::split::Chunk;

/// How many refused lines are shown; the first ones, since one mistake often repeats.
const REFUSED_SHOWN_MAX: usize = 20;

/// A refused line is cut here, so that a value of a megabyte does not hide the message.
const ORIGINAL_CHARACTERS_MAX: usize = 400;

const CUT_SHORT: &str = "sending stopped there: the rest of the input is not written";

/// The sums of a write.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub written: u64,
    pub refused: u64,
    /// Whether there may be input that was not sent.
    pub is_cut_short: bool,
    /// Of the requests of which something is written.
    bytes: u64,
    /// The first by number, at most [`REFUSED_SHOWN_MAX`].
    shown: Vec<RefusedLine>,
    /// Lines that went with a request that was refused whole, beside the line that is to blame.
    lost_with_others: u64,
}

impl Report {
    /// Takes in what became of a chunk.
    pub(crate) fn add(&mut self, chunk: &Chunk, answer: Answer) {
        let refused = match answer {
            Answer::Stored => 0,
            Answer::StoredExcept { count, lines } => {
                self.show(lines);
                count.min(chunk.points)
            }
            Answer::RefusedFor(line) => {
                self.show(vec![line]);
                self.lost_with_others += chunk.points.saturating_sub(1);
                chunk.points
            }
        };
        self.written += chunk.points - refused;
        self.refused += refused;
        if refused < chunk.points {
            self.bytes += chunk.bytes.len() as u64;
        }
    }

    fn show(&mut self, lines: Vec<RefusedLine>) {
        self.shown.extend(lines);
        self.shown.sort_by_key(|line| line.number);
        self.shown.truncate(REFUSED_SHOWN_MAX);
    }

    /// `wrote 1,000,000 lines (52.3 MiB) in 2.1 s: 476,190 lines/s`
    pub(crate) fn summary(&self, took: Duration) -> String {
        let lines = |count| format!("{} {}", HumanCount(count), if count == 1 { "line" } else { "lines" });
        let seconds = took.as_secs_f64().max(1e-6);
        let rate = (self.written as f64 / seconds) as u64;
        let size = HumanBytes(self.bytes);
        format!("wrote {} ({size}) in {seconds:.1} s: {} lines/s", lines(self.written), HumanCount(rate))
    }

    /// The refused lines with their reasons, and whether input is left; empty if there is nothing to say.
    pub(crate) fn losses(&self) -> String {
        if self.refused == 0 {
            return if self.is_cut_short { CUT_SHORT.into() } else { String::new() };
        }
        let mut text =
            format!("refused {} {}:", HumanCount(self.refused), if self.refused == 1 { "line" } else { "lines" });
        for line in &self.shown {
            let _ = write!(text, "\n  line {}: {}", line.number, line.message);
            if !line.original.is_empty() {
                let _ = write!(text, "\n    {}", shortened(&line.original));
            }
        }
        if self.lost_with_others > 0 {
            let _ = write!(
                text,
                "\n  {} more in the same request; --accept-partial writes the good lines of a request",
                HumanCount(self.lost_with_others)
            );
        }
        let unseen = self.refused.saturating_sub(self.lost_with_others + self.shown.len() as u64);
        if unseen > 0 {
            let _ = write!(text, "\n  … and {} more", HumanCount(unseen));
        }
        if self.is_cut_short {
            let _ = write!(text, "\n{CUT_SHORT}");
        }
        text
    }
}

pub(crate) fn shortened(line: &str) -> String {
    match line.char_indices().nth(ORIGINAL_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &line[..end], line.len()),
        None => line.to_owned(),
    }
}

/// The bar; there is none if nobody would see it.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// `bytes` is the length of the input, if it is known.
    pub(crate) fn new(bytes: Option<u64>, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {msg}, {eta} to go",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {msg}"),
        };
        Self(match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    pub(crate) fn advance(&self, report: &Report) {
        self.0.set_position(report.bytes);
        self.0.set_message(format!("{} lines", HumanCount(report.written)));
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(points: u64) -> Chunk {
        Chunk { first_line: 1, points, bytes: Bytes::from_static(b"cpu f=1\n") }
    }

    fn line(number: u64) -> RefusedLine {
        RefusedLine { number, message: "bad".into(), original: format!("cpu {number}") }
    }

    #[test]
    fn the_first_refused_lines_are_shown_in_the_order_of_the_input() {
        let mut report = Report::default();
        report.add(&chunk(100), Answer::StoredExcept { count: 30, lines: (101..131).map(line).collect() });
        report.add(&chunk(100), Answer::StoredExcept { count: 1, lines: vec![line(7)] });
        assert_eq!((report.written, report.refused), (169, 31));
        let text = report.losses();
        assert!(text.starts_with("refused 31 lines:\n  line 7: bad\n    cpu 7\n  line 101: bad"), "{text}");
        assert!(text.ends_with("line 119: bad\n    cpu 119\n  … and 11 more"), "{text}");
    }

    #[test]
    fn a_request_that_is_refused_whole_says_how_to_keep_its_good_lines() {
        let mut report = Report::default();
        report.add(&chunk(10), Answer::RefusedFor(line(3)));
        assert_eq!((report.written, report.refused), (0, 10));
        assert_eq!(
            report.losses(),
            "refused 10 lines:\n  line 3: bad\n    cpu 3\n  9 more in the same request; \
             --accept-partial writes the good lines of a request"
        );
    }

    #[test]
    fn the_summary_counts_lines_and_bytes() {
        let mut report = Report::default();
        report.add(&chunk(1_000), Answer::Stored);
        assert_eq!(report.summary(Duration::from_secs(2)), "wrote 1,000 lines (8 B) in 2.0 s: 500 lines/s");
        assert_eq!(report.losses(), "");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "é".repeat(ORIGINAL_CHARACTERS_MAX + 1);
        assert!(shortened(&long).ends_with("é… (802 bytes)"));
        assert_eq!(shortened("cpu"), "cpu");
    }
}
