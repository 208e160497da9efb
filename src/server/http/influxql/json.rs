//! Answers as JSON: one document, or one for each piece of rows.

use chrono_tz::Tz;

use super::values::{self, TimeFormat};
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
    /// Whether the open series has shown a row.
    has_rows: bool,
    /// The open series; with rows that wait where it is cut, since it is not known what follows them.
    waiting: Option<Waiting>,
}

/// A piece of a series.
#[derive(Debug)]
struct Waiting {
    name: String,
    tags: Vec<(String, String)>,
    columns: Vec<String>,
    /// The values of each row as JSON.
    rows: Vec<Vec<Vec<u8>>>,
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
            has_rows: false,
            waiting: None,
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
            self.close_series(false);
        }
        for row in 0..rows.rows.num_rows() {
            let mut cells = Vec::with_capacity(rows.columns.len());
            let mut time = Vec::new();
            values::time(&mut time, rows.times()[row], self.times, zone);
            cells.push(time);
            for column in rows.rows.columns().iter().skip(1) {
                let mut cell = Vec::new();
                values::json(&mut cell, column, row);
                cells.push(cell);
            }
            self.row(Some(&rows.measurement), &rows.tags, &rows.columns, cells);
        }
    }

    /// Names.
    pub(super) fn listings(&mut self, listings: &[Listing]) {
        for listing in listings {
            self.close_series(false);
            for row in &listing.rows {
                let times = self.times;
                let cells = row.iter().map(|cell| {
                    let mut out = Vec::new();
                    match cell {
                        Cell::Text(text) => values::string(&mut out, text),
                        Cell::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
                        Cell::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
                        Cell::Time(nanos) => values::time(&mut out, *nanos, times, None),
                    }
                    out
                });
                self.row(listing.name.as_deref(), &[], &listing.columns, cells.collect());
            }
            if listing.rows.is_empty() {
                let piece = self.new_piece(listing.name.as_deref(), &[], &listing.columns);
                if self.chunks == Chunks::One {
                    self.open_series(&piece);
                }
                self.waiting = Some(piece);
            }
        }
    }

    fn new_piece(&self, name: Option<&str>, tags: &[(String, String)], columns: &[String]) -> Waiting {
        let name = name.unwrap_or_default().to_owned();
        Waiting { name, tags: tags.to_vec(), columns: columns.to_vec(), rows: Vec::new() }
    }

    fn row(&mut self, name: Option<&str>, tags: &[(String, String)], columns: &[String], cells: Vec<Vec<u8>>) {
        match self.chunks {
            Chunks::One => {
                if self.waiting.is_none() {
                    let piece = self.new_piece(name, tags, columns);
                    self.open_series(&piece);
                    self.waiting = Some(piece);
                }
                self.show_row(&cells);
            }
            Chunks::Of(rows_max) => {
                if self.waiting.as_ref().is_some_and(|waiting| waiting.rows.len() >= rows_max) {
                    self.close_series(true);
                }
                if self.waiting.is_none() {
                    self.waiting = Some(self.new_piece(name, tags, columns));
                }
                if let Some(waiting) = &mut self.waiting {
                    waiting.rows.push(cells);
                }
            }
        }
    }

    fn open_series(&mut self, series: &Waiting) {
        if !self.has_series {
            self.out.key("series");
            self.out.open('[');
            self.has_series = true;
        }
        self.out.open('{');
        if !series.name.is_empty() {
            self.out.key("name");
            self.out.string(&series.name);
        }
        if !series.tags.is_empty() {
            self.out.key("tags");
            self.out.open('{');
            for (key, value) in &series.tags {
                self.out.key(key);
                self.out.string(value);
            }
            self.out.close('}');
        }
        self.out.key("columns");
        self.out.open('[');
        for column in &series.columns {
            self.out.string(column);
        }
        self.out.close(']');
        self.has_rows = false;
    }

    /// A row of the series that was opened. One without rows has no values, as in InfluxDB.
    fn show_row(&mut self, cells: &[Vec<u8>]) {
        if !self.has_rows {
            self.out.key("values");
            self.out.open('[');
            self.has_rows = true;
        }
        self.out.row(cells);
    }

    fn close_rows(&mut self) {
        if self.has_rows {
            self.out.close(']');
        }
    }

    /// The open series has no more rows, or goes on in another piece.
    fn close_series(&mut self, goes_on: bool) {
        let Some(series) = self.waiting.take() else { return };
        match self.chunks {
            Chunks::One => {
                // It was opened with its first row.
                self.close_rows();
                self.out.close('}');
            }
            Chunks::Of(_) => self.piece(&series, goes_on, true),
        }
    }

    /// One document with one piece.
    fn piece(&mut self, series: &Waiting, goes_on: bool, statement_goes_on: bool) {
        self.out.open('{');
        self.out.key("results");
        self.out.open('[');
        self.open_result();
        self.has_series = false;
        self.open_series(series);
        for row in &series.rows {
            self.show_row(row);
        }
        self.close_rows();
        if goes_on {
            self.out.key("partial");
            self.out.value(b"true");
        }
        self.out.close('}');
        self.out.close(']');
        if statement_goes_on {
            self.out.key("partial");
            self.out.value(b"true");
        }
        self.close_result(None);
        self.out.close(']');
        self.out.close('}');
        self.out.end_document();
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

    /// The statement has nothing more to say, perhaps because it failed.
    pub(super) fn end(&mut self, error: Option<&str>) {
        match (self.chunks, self.waiting.take()) {
            (Chunks::One, waiting) => {
                self.waiting = waiting;
                self.close_series(false);
                if self.has_series {
                    self.out.close(']');
                }
                self.close_result(error);
            }
            (Chunks::Of(_), Some(last)) if error.is_none() => self.piece(&last, false, false),
            (Chunks::Of(_), last) => {
                if let Some(last) = last {
                    self.piece(&last, false, true);
                }
                self.out.open('{');
                self.out.key("results");
                self.out.open('[');
                self.open_result();
                self.close_result(error);
                self.out.close(']');
                self.out.close('}');
                self.out.end_document();
            }
        }
    }

    /// All statements are answered.
    pub(super) fn finish(&mut self) {
        if self.is_open {
            self.out.close(']');
            self.out.close('}');
            self.out.end_document();
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

    fn row(&mut self, cells: &[Vec<u8>]) {
        self.open('[');
        cells.iter().for_each(|cell| self.value(cell));
        self.close(']');
    }

    fn end_document(&mut self) {
        self.bytes.push(b'\n');
        self.levels.clear();
        self.is_behind_key = false;
    }
}
