//! Answers as CSV: name, tags, and the columns; a header for each statement, a blank line between them.

use super::values::{self, TimeFormat, Times};
use crate::query::influxql::{Cell, Listing, SeriesRows};

/// Writes the answer of a request. Times are in nanoseconds where no unit is asked for.
#[derive(Debug)]
pub(super) struct CsvWriter {
    times: TimeFormat,
    bytes: Vec<u8>,
    /// Whether the statement has a header.
    has_header: bool,
    /// Whether any statement has.
    has_some: bool,
}

impl CsvWriter {
    pub(super) fn new(times: TimeFormat) -> Self {
        let times = if times == TimeFormat::Text { TimeFormat::Epoch(1) } else { times };
        Self { times, bytes: Vec::new(), has_header: false, has_some: false }
    }

    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// A statement begins.
    pub(super) fn begin(&mut self) {
        self.has_header = false;
    }

    fn header(&mut self, columns: &[String]) {
        if std::mem::replace(&mut self.has_header, true) {
            return;
        }
        if std::mem::replace(&mut self.has_some, true) {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(b"name,tags");
        for column in columns {
            self.bytes.push(b',');
            self.bytes.extend_from_slice(quoted(column).as_bytes());
        }
        self.bytes.push(b'\n');
    }

    pub(super) fn rows(&mut self, rows: &SeriesRows) {
        self.header(&rows.columns);
        let tags: Vec<_> =
            rows.tags.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
        let head = format!("{},{}", quoted(&rows.measurement), quoted(&tags.join(",")));
        let mut times = Times::new(self.times, None);
        for (row, time) in rows.times().iter().enumerate() {
            self.bytes.extend_from_slice(head.as_bytes());
            self.bytes.push(b',');
            times.json(&mut self.bytes, *time);
            for column in rows.rows.columns().iter().skip(1) {
                self.bytes.push(b',');
                values::csv(&mut self.bytes, column, row);
            }
            self.bytes.push(b'\n');
        }
    }

    pub(super) fn listings(&mut self, listings: &[Listing]) {
        for listing in listings {
            self.header(&listing.columns);
            for row in &listing.rows {
                let mut line = format!("{},", quoted(listing.name.as_deref().unwrap_or_default()));
                for cell in row {
                    line.push(',');
                    match cell {
                        Cell::Text(text) => line.push_str(&quoted(text)),
                        Cell::Integer(number) => line.push_str(&number.to_string()),
                        Cell::Boolean(value) => line.push_str(&value.to_string()),
                        Cell::Time(nanos) => {
                            let mut out = Vec::new();
                            Times::new(self.times, None).json(&mut out, *nanos);
                            line.push_str(&String::from_utf8_lossy(&out));
                        }
                    }
                }
                line.push('\n');
                self.bytes.extend_from_slice(line.as_bytes());
            }
        }
    }

    pub(super) fn end(&mut self, error: Option<&str>) {
        if let Some(error) = error {
            self.bytes.extend_from_slice(format!("error\n{}\n", quoted(error)).as_bytes());
        }
    }
}

/// A field, in quotes where it needs them.
pub(super) fn quoted(text: &str) -> String {
    let needs_quotes = text.starts_with(' ') || text.contains([',', '"', '\n', '\r']);
    if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// A key or value of a tag, as line protocol writes it.
fn escaped(text: &str) -> String {
    text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}
