//! Answers as JSON: one document, or one for each piece of rows.

use chrono_tz::Tz;

use super::values::{self, Cells, TimeFormat, Times};
use crate::query::influxql::{Cell, Listing, SeriesRows};

/// How an answer is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Not at all.
    One,
    /// A document for at most so many rows of one series.
    Of(usize),
}

/// Writes the answer of a request.
#[derive(Debug)]
pub(super) struct JsonWriter {
    times: TimeFormat,
    chunks: Chunks,
    out: Indented,
    statement: usize,
    warning: Option<String>,
    /// Whether the document of the request is open.
    is_open: bool,
    /// Whether the statement has shown a series.
    has_series: bool,
    /// How many rows the open series has, or its open piece. It stays open until it is known what follows.
    rows: Option<usize>,
}

/// What stands above the rows of a series.
struct Head<'a> {
    name: &'a str,
    tags: &'a [(String, String)],
    columns: &'a [String],
}

impl JsonWriter {
    pub(super) fn new(times: TimeFormat, chunks: Chunks, is_pretty: bool) -> Self {
        Self {
            times,
            chunks,
            out: Indented::new(is_pretty),
            statement: 0,
            warning: None,
            is_open: false,
            has_series: false,
            rows: None,
        }
    }

    /// What is written and not taken.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.out.bytes
    }

    /// A statement begins.
    pub(super) fn begin(&mut self, number: usize, warning: Option<String>) {
        self.statement = number;
        self.warning = warning;
        self.has_series = false;
        if self.chunks == Chunks::One {
            if !self.is_open {
                self.out.open('{');
                self.out.key("results");
                self.out.open('[');
                self.is_open = true;
            }
            self.open_result();
        }
    }

    fn open_result(&mut self) {
        self.out.open('{');
        self.out.key("statement_id");
        self.out.value(self.statement.to_string().as_bytes());
    }

    /// Rows of a series.
    pub(super) fn rows(&mut self, rows: &SeriesRows, zone: Option<Tz>) {
        if rows.begins {
            self.close_piece(false, true);
        }
        let head = Head { name: &rows.measurement, tags: &rows.tags, columns: &rows.columns };
        let mut times = Times::new(self.times, zone);
        let mut columns: Vec<Cells<'_>> = rows.rows.columns().iter().skip(1).map(|column| Cells::of(column)).collect();
        for (row, time) in rows.times().iter().enumerate() {
            self.open_row(&head);
            self.out.separate();
            times.json(&mut self.out.bytes, *time);
            for column in &mut columns {
                self.out.separate();
                column.json(&mut self.out.bytes, row);
            }
            self.out.close(']');
        }
    }

    /// Names.
    pub(super) fn listings(&mut self, listings: &[Listing]) {
        let mut times = Times::new(self.times, None);
        for listing in listings {
            self.close_piece(false, true);
            let name = listing.name.as_deref().unwrap_or_default();
            let head = Head { name, tags: &[], columns: &listing.columns };
            for row in &listing.rows {
                self.open_row(&head);
                for cell in row {
                    self.out.separate();
                    let out = &mut self.out.bytes;
                    match cell {
                        Cell::Text(text) => values::string(out, text),
                        Cell::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
                        Cell::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
                        Cell::Time(nanos) => times.json(out, *nanos),
                    }
                }
                self.out.close(']');
            }
            if listing.rows.is_empty() {
                self.open_piece(&head);
            }
        }
    }

    /// A row begins, in the piece that is open or in another.
    fn open_row(&mut self, head: &Head<'_>) {
        if let (Chunks::Of(rows_max), Some(rows)) = (self.chunks, self.rows)
            && rows >= rows_max
        {
            self.close_piece(true, true);
        }
        let rows = match self.rows {
            Some(rows) => rows,
            None => self.open_piece(head),
        };
        if rows == 0 {
            self.out.key("values");
            self.out.open('[');
        }
        self.rows = Some(rows + 1);
        self.out.open('[');
    }

    /// A series begins, or goes on in a document of its own. One without rows has no values, as in InfluxDB.
    fn open_piece(&mut self, head: &Head<'_>) -> usize {
        if let Chunks::Of(_) = self.chunks {
            self.out.open('{');
            self.out.key("results");
            self.out.open('[');
            self.open_result();
            self.has_series = false;
        }
        if !std::mem::replace(&mut self.has_series, true) {
            self.out.key("series");
            self.out.open('[');
        }
        self.out.open('{');
        if !head.name.is_empty() {
            self.out.key("name");
            self.out.string(head.name);
        }
        if !head.tags.is_empty() {
            self.out.key("tags");
            self.out.open('{');
            for (key, value) in head.tags {
                self.out.key(key);
                self.out.string(value);
            }
            self.out.close('}');
        }
        self.out.key("columns");
        self.out.open('[');
        for column in head.columns {
            self.out.string(column);
        }
        self.out.close(']');
        self.rows = Some(0);
        0
    }

    /// The open series has no more rows, or goes on in another piece; so does the statement.
    fn close_piece(&mut self, goes_on: bool, statement_goes_on: bool) {
        let Some(rows) = self.rows.take() else { return };
        if rows > 0 {
            self.out.close(']');
        }
        if goes_on {
            self.out.key("partial");
            self.out.value(b"true");
        }
        self.out.close('}');
        if let Chunks::Of(_) = self.chunks {
            self.out.close(']');
            if statement_goes_on {
                self.out.key("partial");
                self.out.value(b"true");
            }
            self.close_result(None);
            self.close_document();
        }
    }

    fn close_result(&mut self, error: Option<&str>) {
        if let Some(warning) = self.warning.take() {
            self.out.key("messages");
            self.out.open('[');
            self.out.open('{');
            self.out.key("level");
            self.out.string("warning");
            self.out.key("text");
            self.out.string(&warning);
            self.out.close('}');
            self.out.close(']');
        }
        if let Some(error) = error {
            self.out.key("error");
            self.out.string(error);
        }
        self.out.close('}');
    }

    fn close_document(&mut self) {
        self.out.close(']');
        self.out.close('}');
        self.out.end_document();
    }

    /// The statement has nothing more to say, perhaps because it failed.
    pub(super) fn end(&mut self, error: Option<&str>) {
        let has_piece = self.rows.is_some();
        match self.chunks {
            Chunks::One => {
                self.close_piece(false, false);
                if self.has_series {
                    self.out.close(']');
                }
                self.close_result(error);
            }
            Chunks::Of(_) if has_piece && error.is_none() => self.close_piece(false, false),
            Chunks::Of(_) => {
                self.close_piece(false, true);
                self.out.open('{');
                self.out.key("results");
                self.out.open('[');
                self.open_result();
                self.close_result(error);
                self.close_document();
            }
        }
    }

    /// All statements are answered.
    pub(super) fn finish(&mut self) {
        if self.is_open {
            self.close_document();
        } else if self.chunks == Chunks::One {
            self.out.open('{');
            self.out.close('}');
            self.out.end_document();
        }
    }
}

/// JSON with commas where they belong, and line ends and blanks for people if they are wanted.
#[derive(Debug)]
struct Indented {
    bytes: Vec<u8>,
    is_pretty: bool,
    /// For each open list or object, whether something is in it.
    levels: Vec<bool>,
    is_behind_key: bool,
}

impl Indented {
    fn new(is_pretty: bool) -> Self {
        Self { bytes: Vec::new(), is_pretty, levels: Vec::new(), is_behind_key: false }
    }

    /// Whatever comes next stands behind a comma if it needs one. A value may then be written right into `bytes`.
    fn separate(&mut self) {
        if std::mem::take(&mut self.is_behind_key) {
            return;
        }
        if let Some(has_some) = self.levels.last_mut() {
            if std::mem::replace(has_some, true) {
                self.bytes.push(b',');
            }
            self.line();
        }
    }

    fn line(&mut self) {
        if self.is_pretty {
            self.bytes.push(b'\n');
            self.bytes.extend(std::iter::repeat_n(b' ', 4 * self.levels.len()));
        }
    }

    fn open(&mut self, bracket: char) {
        self.separate();
        self.bytes.push(bracket as u8);
        self.levels.push(false);
    }

    fn close(&mut self, bracket: char) {
        if self.levels.pop() == Some(true) {
            self.line();
        }
        self.bytes.push(bracket as u8);
    }

    fn key(&mut self, key: &str) {
        self.separate();
        values::string(&mut self.bytes, key);
        self.bytes.push(b':');
        if self.is_pretty {
            self.bytes.push(b' ');
        }
        self.is_behind_key = true;
    }

    fn string(&mut self, text: &str) {
        self.separate();
        values::string(&mut self.bytes, text);
    }

    fn value(&mut self, value: &[u8]) {
        self.separate();
        self.bytes.extend_from_slice(value);
    }

    fn end_document(&mut self) {
        self.bytes.push(b'\n');
        self.levels.clear();
        self.is_behind_key = false;
    }
}
