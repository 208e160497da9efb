//! The sums of an import, and what was not written and why.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use super::encode::Piece;
use crate::cli::report::shortened;
use crate::cli::send::{Answer, RefusedLine};
use crate::cli::transfer::progress::{counted, rate};
use crate::error::{Error, ErrorKind};

/// How many refused rows, and how many unreadable files, are shown.
const SHOWN_MAX: usize = 20;

/// The sums of an import.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub files_done: u64,
    pub files: u64,
    pub written: u64,
    pub refused: u64,
    /// Of the files, as far as they are done.
    pub bytes: u64,
    pub bytes_total: u64,
    empty: u64,
    not_finite: u64,
    lost_with_others: u64,
    /// File, row or line, reason, text.
    shown: Vec<(String, RefusedLine)>,
    failed: Vec<String>,
    failed_count: u64,
}

/// Whether the import goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Acknowledged,
    /// Nothing of the piece is written.
    Refused,
}

impl Report {
    pub(crate) fn new(files: u64) -> Self {
        Self { files, ..Self::default() }
    }

    /// Takes in what became of a piece; no answer means that there was nothing to send, or that rows of it could not be
    /// written.
    pub(crate) fn add(&mut self, file: &str, piece: &Piece, answer: Option<Answer>, accept_partial: bool) -> Verdict {
        self.refused += piece.refused.len() as u64;
        for (row, reason) in piece.refused.iter().take(SHOWN_MAX) {
            self.show(file, RefusedLine { number: *row, message: reason.clone(), original: String::new() });
        }
        let points = piece.chunk.points;
        if !piece.refused.is_empty() && !accept_partial {
            self.refused += points;
            self.lost_with_others += points;
            return Verdict::Refused;
        }
        let refused = match answer {
            None | Some(Answer::Stored) => 0,
            Some(Answer::StoredExcept { count, lines }) => {
                for line in lines {
                    self.show(file, RefusedLine { number: piece.row_of_line(line.number), ..line });
                }
                count.min(points)
            }
            Some(Answer::RefusedFor(line)) => {
                self.show(file, RefusedLine { number: piece.row_of_line(line.number), ..line });
                self.refused += points;
                self.lost_with_others += points.saturating_sub(1);
                return Verdict::Refused;
            }
        };
        self.refused += refused;
        self.written += points - refused;
        self.empty += piece.empty;
        self.not_finite += piece.not_finite;
        Verdict::Acknowledged
    }

    /// A file that could not be read to its end.
    pub(crate) fn fail(&mut self, file: &str, error: io::Error) {
        self.failed_count += 1;
        if self.failed.len() < SHOWN_MAX {
            let error = Error::with_source(ErrorKind::Invalid, format!("could not read \"{file}\""), error);
            self.failed.push(error.report());
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed_count > 0
    }

    fn show(&mut self, file: &str, line: RefusedLine) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push((file.to_owned(), line));
        }
    }

    /// `3 of 17 files, 1,200,000 rows, 410,000 rows/s, 312.5 MiB of 2.1 GiB`
    pub(crate) fn progress(&self, took: Duration) -> String {
        format!(
            "{} of {}, {}, {} rows/s, {} of {}",
            HumanCount(self.files_done),
            counted(self.files, "file"),
            counted(self.written, "row"),
            HumanCount(rate(self.written, took)),
            HumanBytes(self.bytes),
            HumanBytes(self.bytes_total),
        )
    }

    /// `imported 17 of 17 files: wrote 1,000,000 rows in 2.1 s: 476,190 rows/s`, and what was left out.
    pub(crate) fn summary(&self, took: Duration) -> String {
        let mut text = format!(
            "imported {} of {}: wrote {} in {:.1} s: {} rows/s",
            HumanCount(self.files_done),
            counted(self.files, "file"),
            counted(self.written, "row"),
            took.as_secs_f64(),
            HumanCount(rate(self.written, took)),
        );
        if self.empty > 0 {
            let _ = write!(text, "\nleft out {} without any field", counted(self.empty, "row"));
        }
        if self.not_finite > 0 {
            let _ = write!(text, "\nleft out {}: not a number, or infinite", counted(self.not_finite, "value"));
        }
        text
    }

    /// Refused rows and unreadable files with their reasons; empty if there are none.
    pub(crate) fn losses(&self) -> String {
        let mut text = String::new();
        if self.refused > 0 {
            let _ = write!(text, "refused {}:", counted(self.refused, "row"));
            for (file, line) in &self.shown {
                let _ = write!(text, "\n  {file}, row {}: {}", line.number, line.message);
                if !line.original.is_empty() {
                    let _ = write!(text, "\n    {}", shortened(&line.original));
                }
            }
            if self.lost_with_others > 0 {
                let others = HumanCount(self.lost_with_others);
                let _ = write!(
                    text,
                    "\n  {others} more in the same request; --accept-partial writes the good rows of a request"
                );
            }
            let unseen = self.refused.saturating_sub(self.lost_with_others + self.shown.len() as u64);
            if unseen > 0 {
                let _ = write!(text, "\n  … and {} more", HumanCount(unseen));
            }
        }
        for file in &self.failed {
            let _ = write!(text, "{}{file}", if text.is_empty() { "" } else { "\n" });
        }
        let unseen = self.failed_count - self.failed.len() as u64;
        if unseen > 0 {
            let _ = write!(text, "\n… and {} more", counted(unseen, "file"));
        }
        text
    }
}
