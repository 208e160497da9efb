//! Answers as MessagePack, in the form of the JSON ones; times are extensions of type 5, as InfluxDB 1's clients read them.
//!
//! A list of MessagePack begins with its length, so that an answer is kept until it is whole. It may take [`ANSWER_BYTES_MAX`];
//! a larger one is for JSON, or for pieces.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::values::TimeFormat;
use crate::query::influxql::{Cell, Listing, SeriesRows};

/// The longest answer, or piece of one, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The type of extension that is a time: seconds since 1970 and nanoseconds.
const TIME_EXTENSION: u8 = 5;

/// Writes the answer of a request.
#[derive(Debug)]
pub(super) struct MessagePackWriter {
    times: TimeFormat,
    /// The rows of a piece, if the answer is to come in pieces.
    rows_max: Option<usize>,
    /// Whole documents.
    bytes: Vec<u8>,
    /// The results that are whole, one after the other.
    results: Pieces,
    statement: usize,
    warning: Option<String>,
    /// The series of the open result that are whole.
    series: Pieces,
    open: Option<OpenSeries>,
    is_too_long: bool,
}

/// Values that are counted.
#[derive(Debug, Default)]
struct Pieces {
    count: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct OpenSeries {
    name: Option<String>,
    tags: Vec<(String, String)>,
    columns: Vec<String>,
    rows: Pieces,
}

impl MessagePackWriter {
    pub(super) fn new(times: TimeFormat, rows_max: Option<usize>) -> Self {
        Self {
            times,
            rows_max,
            bytes: Vec::new(),
            results: Pieces::default(),
            statement: 0,
            warning: None,
            series: Pieces::default(),
            open: None,
            is_too_long: false,
        }
    }

    /// What is written and not taken.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the answer is longer than it may be, so that the statement should fail.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// A statement begins.
    pub(super) fn begin(&mut self, number: usize, warning: Option<String>) {
        self.statement = number;
        self.warning = warning;
    }

    /// Rows of a series.
    pub(super) fn rows(&mut self, rows: &SeriesRows) {
        if rows.begins {
            self.close_series(false);
        }
        for row in 0..rows.rows.num_rows() {
            let mut cells = Vec::new();
            array(&mut cells, rows.columns.len());
            time(&mut cells, rows.times()[row], self.times);
            rows.rows.columns().iter().skip(1).for_each(|column| value(&mut cells, column, row));
            self.row(Some(&rows.measurement), &rows.tags, &rows.columns, &cells);
        }
    }

    /// Names.
    pub(super) fn listings(&mut self, listings: &[Listing]) {
        for listing in listings {
            self.close_series(false);
            for row in &listing.rows {
                let mut cells = Vec::new();
                array(&mut cells, row.len());
                for cell in row {
                    match cell {
                        Cell::Text(value) => text(&mut cells, value),
                        Cell::Integer(value) => integer(&mut cells, *value),
                        Cell::Boolean(value) => boolean(&mut cells, *value),
                        Cell::Time(nanos) => time(&mut cells, *nanos, self.times),
                    }
                }
                self.row(listing.name.as_deref(), &[], &listing.columns, &cells);
            }
            if listing.rows.is_empty() {
                self.open = Some(OpenSeries::new(listing.name.as_deref(), &[], &listing.columns));
            }
        }
    }

    fn row(&mut self, name: Option<&str>, tags: &[(String, String)], columns: &[String], cells: &[u8]) {
        if self.open.as_ref().zip(self.rows_max).is_some_and(|(open, rows_max)| open.rows.count >= rows_max) {
            self.close_series(true);
        }
        let open = self.open.get_or_insert_with(|| OpenSeries::new(name, tags, columns));
        open.rows.push(cells);
        let kept = open.rows.bytes.len() + self.series.bytes.len() + self.results.bytes.len();
        self.is_too_long |= kept > ANSWER_BYTES_MAX;
    }

    /// The open series has no more rows, or goes on in another piece.
    fn close_series(&mut self, goes_on: bool) {
        let Some(open) = self.open.take() else { return };
        self.series.push(&open.bytes(goes_on));
        if self.rows_max.is_some() {
            self.close_result(None, true);
            self.document();
        }
    }

    /// The result with the series so far.
    fn close_result(&mut self, error: Option<&str>, goes_on: bool) {
        let series = std::mem::take(&mut self.series);
        let warning = self.warning.take();
        let entries = 1
            + usize::from(series.count > 0)
            + usize::from(warning.is_some())
            + usize::from(error.is_some())
            + usize::from(goes_on);
        let mut result = Vec::new();
        map(&mut result, entries);
        text(&mut result, "statement_id");
        integer(&mut result, self.statement as i64);
        if series.count > 0 {
            text(&mut result, "series");
            series.write(&mut result);
        }
        if let Some(warning) = warning {
            text(&mut result, "messages");
            array(&mut result, 1);
            map(&mut result, 2);
            text(&mut result, "level");
            text(&mut result, "warning");
            text(&mut result, "text");
            text(&mut result, &warning);
        }
        if let Some(error) = error {
            text(&mut result, "error");
            text(&mut result, error);
        }
        if goes_on {
            text(&mut result, "partial");
            boolean(&mut result, true);
        }
        self.results.push(&result);
    }

    fn document(&mut self) {
        map(&mut self.bytes, 1);
        text(&mut self.bytes, "results");
        std::mem::take(&mut self.results).write(&mut self.bytes);
    }

    /// The statement has nothing more to say, perhaps because it failed. Rows of an answer that is too long are left out.
    pub(super) fn end(&mut self, error: Option<&str>) {
        if std::mem::take(&mut self.is_too_long) {
            self.open = None;
            self.series = Pieces::default();
        }
        if let Some(open) = self.open.take() {
            self.series.push(&open.bytes(false));
        }
        self.close_result(error, false);
        if self.rows_max.is_some() {
            self.document();
        }
    }

    /// All statements are answered.
    pub(super) fn finish(&mut self) {
        if self.rows_max.is_none() {
            self.document();
        }
    }
}

impl OpenSeries {
    fn new(name: Option<&str>, tags: &[(String, String)], columns: &[String]) -> Self {
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        Self { name, tags: tags.to_vec(), columns: columns.to_vec(), rows: Pieces::default() }
    }

    fn bytes(self, goes_on: bool) -> Vec<u8> {
        let is_there = [self.name.is_some(), !self.tags.is_empty(), self.rows.count > 0, goes_on];
        let entries = 1 + is_there.into_iter().map(usize::from).sum::<usize>();
        let mut out = Vec::with_capacity(self.rows.bytes.len() + 256);
        map(&mut out, entries);
        if let Some(name) = &self.name {
            text(&mut out, "name");
            text(&mut out, name);
        }
        if !self.tags.is_empty() {
            text(&mut out, "tags");
            map(&mut out, self.tags.len());
            for (key, value) in &self.tags {
                text(&mut out, key);
                text(&mut out, value);
            }
        }
        text(&mut out, "columns");
        array(&mut out, self.columns.len());
        self.columns.iter().for_each(|column| text(&mut out, column));
        if self.rows.count > 0 {
            text(&mut out, "values");
            self.rows.write(&mut out);
        }
        if goes_on {
            text(&mut out, "partial");
            boolean(&mut out, true);
        }
        out
    }
}

impl Pieces {
    fn push(&mut self, bytes: &[u8]) {
        self.count += 1;
        self.bytes.extend_from_slice(bytes);
    }

    fn write(self, out: &mut Vec<u8>) {
        array(out, self.count);
        out.extend_from_slice(&self.bytes);
    }
}

/// The beginning of something that has a length: short ones in the first byte, others behind a byte of their own.
fn head(out: &mut Vec<u8>, count: usize, short: (u8, usize), long: [u8; 2]) {
    let count = count.min(u32::MAX as usize);
    if count < short.1 {
        out.push(short.0 | count as u8);
    } else if let Ok(count) = u16::try_from(count) {
        out.push(long[0]);
        out.extend_from_slice(&count.to_be_bytes());
    } else {
        out.push(long[1]);
        out.extend_from_slice(&(count as u32).to_be_bytes());
    }
}

fn array(out: &mut Vec<u8>, count: usize) {
    head(out, count, (0x90, 16), [0xdc, 0xdd]);
}

fn map(out: &mut Vec<u8>, count: usize) {
    head(out, count, (0x80, 16), [0xde, 0xdf]);
}

fn text(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(bytes) if bytes >= 32 => out.extend_from_slice(&[0xd9, bytes]),
        _ => head(out, text.len(), (0xa0, 32), [0xda, 0xdb]),
    }
    out.extend_from_slice(text.as_bytes());
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match value {
        -32..=127 => out.push(value as u8),
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn time(out: &mut Vec<u8>, nanos: i64, format: TimeFormat) {
    match format {
        TimeFormat::Epoch(unit) => integer(out, nanos.div_euclid(unit)),
        TimeFormat::Text => {
            out.extend_from_slice(&[0xc7, 12, TIME_EXTENSION]);
            out.extend_from_slice(&nanos.div_euclid(1_000_000_000).to_be_bytes());
            out.extend_from_slice(&(nanos.rem_euclid(1_000_000_000) as i32).to_be_bytes());
        }
    }
}

/// The value of a column in a row.
fn value(out: &mut Vec<u8>, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        out.push(0xc0);
        return;
    }
    match column.data_type() {
        DataType::Float64 => {
            out.push(0xcb);
            out.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_be_bytes());
        }
        DataType::Int64 => integer(out, column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => {
            out.push(0xcf);
            out.extend_from_slice(&column.as_primitive::<UInt64Type>().value(row).to_be_bytes());
        }
        DataType::Boolean => boolean(out, column.as_boolean().value(row)),
        DataType::Utf8 => text(out, column.as_string::<i32>().value(row)),
        _ => out.push(0xc0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn values_are_as_the_format_says() {
        assert_eq!(written(|out| integer(out, -32)), [0xe0]);
        assert_eq!(written(|out| integer(out, 127)), [0x7f]);
        assert_eq!(written(|out| integer(out, 128)), [0xd3, 0, 0, 0, 0, 0, 0, 0, 128]);
        assert_eq!(written(|out| text(out, "ab")), [0xa2, b'a', b'b']);
        assert_eq!(written(|out| text(out, &"x".repeat(32)))[..3], [0xd9, 32, b'x']);
        assert_eq!(written(|out| text(out, &"x".repeat(256)))[..4], [0xda, 1, 0, b'x']);
        assert_eq!(written(|out| array(out, 15)), [0x9f]);
        assert_eq!(written(|out| array(out, 16)), [0xdc, 0, 16]);
        assert_eq!(written(|out| array(out, 70_000)), [0xdd, 0, 1, 0x11, 0x70]);
        let before_1970 = written(|out| time(out, -1, TimeFormat::Text));
        assert_eq!(before_1970[..3], [0xc7, 12, 5]);
        assert_eq!(before_1970[3..11], (-1_i64).to_be_bytes());
        assert_eq!(before_1970[11..], 999_999_999_i32.to_be_bytes());
    }

    #[test]
    fn an_answer_is_one_document_or_several() {
        let listing = Listing {
            name: Some("m".to_owned()),
            columns: vec!["n".to_owned()],
            rows: (0..3).map(|n| vec![Cell::Integer(n)]).collect(),
        };
        let documents = |rows_max| {
            let mut writer = MessagePackWriter::new(TimeFormat::Text, rows_max);
            writer.begin(0, None);
            writer.listings(std::slice::from_ref(&listing));
            writer.end(None);
            writer.finish();
            let bytes = writer.bytes().clone();
            bytes
                .windows(9)
                .filter(|window| window[0] == 0x81 && window[1] == 0xa7 && &window[2..] == b"results")
                .count()
        };
        assert_eq!(documents(None), 1);
        assert_eq!(documents(Some(2)), 2);
    }
}
