//! Phase one: reads one line and checks it against its table, without leaving a trace.
//!
//! What it keeps even of a refused line are guesses (which column follows which) and the note of the
//! last line that named a column; neither shows in a result.

use super::error::{LineError, Resume, Stop, context};
use super::line::{Line, LineSeries};
use super::lines::{Name, NameKind, end_of_series, line_end, skip};
use super::series::SeriesMap;
use super::table::{Table, Tables, check_use};
use super::value::{Value, plain_float, timestamp};
use super::{Options, Schemas};
use crate::model::{ColumnKind, FieldType};

/// Everything that a line is read against.
pub(super) struct Context<'r, 'a> {
    pub(super) text: &'a str,
    pub(super) schemas: &'r dyn Schemas,
    pub(super) options: &'r Options,
}

impl<'a> Context<'_, 'a> {
    /// Reads the line that begins at `start` into `line` and returns where it ends: at a line end.
    ///
    /// # Errors
    /// Why it is refused, and from where the next line is to be looked for.
    pub(super) fn read_line(
        &self,
        start: usize,
        series: &SeriesMap<'a>,
        tables: &mut Tables<'a>,
        line: &mut Line<'a>,
    ) -> Result<usize, Box<Stop>> {
        line.next();
        let series_end = self.read_series(start, series, tables, line)?;
        let fields_start = skip(self.text.as_bytes(), series_end, |byte| byte == b' ');
        let fields_end = self.read_fields(fields_start, tables.get_mut(line.table), line)?;
        self.read_time(fields_end, line)
    }

    /// Finds the table and the series, and returns where the blank behind them is.
    #[inline]
    fn read_series(
        &self,
        start: usize,
        series: &SeriesMap<'a>,
        tables: &mut Tables<'a>,
        line: &mut Line<'a>,
    ) -> Result<usize, Box<Stop>> {
        let bytes = self.text.as_bytes();
        let known = series
            .predicted(&bytes[start..])
            .or_else(|| end_of_series(bytes, start).and_then(|end| series.find(&bytes[start..end])));
        if let Some(id) = known {
            let known = series.get(id);
            line.series = LineSeries::Known(id);
            line.table = known.table;
            return Ok(start + known.raw_len());
        }
        let end = self.read_new_series(start, tables, line).map_err(|error| Stop::new(error, Resume::Series(start)))?;
        line.series = LineSeries::New(&bytes[start..end]);
        Ok(end)
    }

    fn read_new_series(&self, start: usize, tables: &mut Tables<'a>, line: &mut Line<'a>) -> Result<usize, LineError> {
        let bytes = self.text.as_bytes();
        let measurement = Name::read(self.text, start, NameKind::Measurement)?;
        if measurement.raw.is_empty() {
            return Err(LineError::Measurement);
        }
        let mut at = start + measurement.raw.len();
        line.table = tables.find_or_add(&measurement.text(), self.schemas, self.options)?;
        let table = tables.get_mut(line.table);
        let mut previous = None;
        while bytes.get(at) == Some(&b',') {
            let (tag, end) = self.read_tag(at + 1, previous, table, line)?;
            previous = Some(tag);
            at = end;
        }
        match bytes.get(at) {
            Some(b' ') => Ok(at),
            _ if line_end(bytes, at).is_some() => Err(LineError::NoFields),
            _ => Err(LineError::Space { near: context(&self.text[at..]) }),
        }
    }

    /// Reads the tag at `start` and returns its column and where it ends.
    fn read_tag(
        &self,
        start: usize,
        previous: Option<u32>,
        table: &mut Table<'a>,
        line: &mut Line<'a>,
    ) -> Result<(u32, usize), LineError> {
        let key = Name::read(self.text, start, NameKind::Key)?;
        let key_end = start + key.raw.len();
        let malformed = |missing| LineError::TagSet { missing, near: context(first_line(&self.text[start..])) };
        if key.raw.is_empty() {
            return Err(malformed("tag key"));
        }
        if self.text.as_bytes().get(key_end) != Some(&b'=') {
            return Err(malformed("equals sign"));
        }
        let value = Name::read(self.text, key_end + 1, NameKind::TagValue)?;
        if value.raw.is_empty() {
            return Err(malformed("tag value"));
        }
        let tag = self.find_tag(&key, previous, table, line)?;
        line.tags.push((tag, value.text()));
        Ok((tag, key_end + 1 + value.raw.len()))
    }

    fn find_tag(
        &self,
        key: &Name<'a>,
        previous: Option<u32>,
        table: &mut Table<'a>,
        line: &mut Line<'a>,
    ) -> Result<u32, LineError> {
        let expected = follower(previous, table.first_tag, |tag| Some(table.tags.get(tag)?.header.follower));
        if let Some(column) = table.tags.get_mut(expected as usize).filter(|column| column.header.raw_key == key.raw) {
            check_use(&mut column.header, ColumnKind::Tag, ColumnKind::Tag, line.number)?;
            return Ok(expected);
        }
        let tag = table.resolve(&key.text(), key.raw, ColumnKind::Tag, line, self.options)?;
        match previous {
            None => table.first_tag = tag,
            Some(previous) => {
                if let Some(column) = table.tags.get_mut(previous as usize) {
                    column.header.follower = tag;
                }
            }
        }
        Ok(tag)
    }

    /// Reads the fields from `start` on and returns where the last one ends.
    #[inline]
    fn read_fields(&self, start: usize, table: &mut Table<'a>, line: &mut Line<'a>) -> Result<usize, Box<Stop>> {
        let bytes = self.text.as_bytes();
        let mut at = start;
        let mut previous = None;
        loop {
            let stop = |error| Stop::new(error, Resume::Field(at));
            let Some((field, end)) = self.read_field(at, previous, table, line).map_err(stop)? else {
                return Err(self.no_field(start, at));
            };
            if bytes.get(end) != Some(&b',') {
                return Ok(end);
            }
            previous = Some(field);
            at = end + 1;
        }
    }

    /// What is wrong where no field begins, `at` being behind the blank or the comma.
    #[cold]
    fn no_field(&self, start: usize, at: usize) -> Box<Stop> {
        if at == start {
            return Stop::new(LineError::NoFields, Resume::Field(at));
        }
        self.trailing(at - 1)
    }

    /// Reads the field at `start` and returns its column and where it ends; `None` if no field begins there.
    #[inline]
    fn read_field(
        &self,
        start: usize,
        previous: Option<u32>,
        table: &mut Table<'a>,
        line: &mut Line<'a>,
    ) -> Result<Option<(u32, usize)>, LineError> {
        let expected = follower(previous, table.first_field, |field| Some(table.fields.get(field)?.header.follower));
        if let Some(column) = table.fields.get_mut(expected as usize)
            && let Some(equals_sign) = key_end(self.text.as_bytes(), start, column.header.raw_key.as_bytes())
        {
            let start = equals_sign + 1;
            if column.field_type == FieldType::Float
                && column.header.named_by != line.number
                && let Some((number, end)) = plain_float(self.text.as_bytes(), start)
            {
                column.header.named_by = line.number;
                line.fields.push((expected, Value::Float(number)));
                return Ok(Some((expected, end)));
            }
            let Some((value, end)) = Value::read(self.text, start)? else { return Ok(None) };
            let expected_kind = ColumnKind::Field(column.field_type);
            check_use(&mut column.header, expected_kind, ColumnKind::Field(value.field_type()), line.number)?;
            line.fields.push((expected, value));
            return Ok(Some((expected, end)));
        }
        self.read_unexpected_field(start, previous, table, line)
    }

    fn read_unexpected_field(
        &self,
        start: usize,
        previous: Option<u32>,
        table: &mut Table<'a>,
        line: &mut Line<'a>,
    ) -> Result<Option<(u32, usize)>, LineError> {
        let key = Name::read(self.text, start, NameKind::Key)?;
        let key_end = start + key.raw.len();
        if key.raw.is_empty() || self.text.as_bytes().get(key_end) != Some(&b'=') {
            return Ok(None);
        }
        let Some((value, end)) = Value::read(self.text, key_end + 1)? else { return Ok(None) };
        let kind = ColumnKind::Field(value.field_type());
        let field = table.resolve(&key.text(), key.raw, kind, line, self.options)?;
        match previous {
            None => table.first_field = field,
            Some(previous) => {
                if let Some(column) = table.fields.get_mut(previous as usize) {
                    column.header.follower = field;
                }
            }
        }
        line.fields.push((field, value));
        Ok(Some((field, end)))
    }

    /// Reads the timestamp, if there is one, and makes sure that the line ends behind it.
    #[inline]
    fn read_time(&self, fields_end: usize, line: &mut Line<'a>) -> Result<usize, Box<Stop>> {
        let bytes = self.text.as_bytes();
        let start = skip(bytes, fields_end, |byte| byte == b' ');
        let number = match bytes.get(start) {
            Some(b'0'..=b'9' | b'-') if start > fields_end => {
                timestamp(self.text, start).map_err(|error| Stop::new(error, Resume::Value(start)))?
            }
            _ => None,
        };
        let Some((number, number_end)) = number else {
            line.time = self.options.default_time;
            // A blank without a timestamp is no part of a line.
            return self.end_at(fields_end);
        };
        let end = self.end_at(skip(bytes, number_end, |byte| byte == b' '))?;
        let precision = self.options.precision;
        line.time = precision
            .to_timestamp(number)
            .ok_or_else(|| Stop::new(LineError::TimestampRange { number, precision }, Resume::Value(end)))?;
        Ok(end)
    }

    #[inline]
    fn end_at(&self, at: usize) -> Result<usize, Box<Stop>> {
        if line_end(self.text.as_bytes(), at).is_some() { Ok(at) } else { Err(self.trailing(at)) }
    }

    #[cold]
    fn trailing(&self, at: usize) -> Box<Stop> {
        let near = context(first_line(&self.text[at..]));
        Stop::new(LineError::TrailingContent { near }, Resume::Value(at))
    }
}

/// The column that is expected behind `previous`; a number without a column if there is no expectation.
#[inline]
fn follower(previous: Option<u32>, first: u32, follower_of: impl Fn(usize) -> Option<u32>) -> u32 {
    match previous {
        None => first,
        Some(previous) => follower_of(previous as usize).unwrap_or(u32::MAX),
    }
}

/// Where the equals sign is, if `key` and then one stand at `at`.
#[inline]
fn key_end(bytes: &[u8], at: usize, key: &[u8]) -> Option<usize> {
    let end = at + key.len();
    let same = bytes.get(at..end) == Some(key) && bytes.get(end) == Some(&b'=');
    same.then_some(end)
}

/// The text up to its first newline.
fn first_line(text: &str) -> &str {
    text.split(['\r', '\n']).next().unwrap_or(text)
}
