//! Values as InfluxDB 1 writes them: numbers as Go prints them, times with as many digits as they need.

use std::io::Write;

use arrow::array::{Array, AsArray, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::super::json_values::Dates;

/// How times are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `2024-01-01T00:00:00Z`.
    Text,
    /// Whole units of so many nanoseconds since 1970.
    Epoch(i64),
}

impl TimeFormat {
    /// What the parameter `epoch` means. An unknown unit means nanoseconds, as in InfluxDB 1.
    pub(super) fn of(epoch: Option<&str>) -> Self {
        const SECOND: i64 = 1_000_000_000;
        match epoch {
            None | Some("") => Self::Text,
            Some("u" | "µ" | "us") => Self::Epoch(1_000),
            Some("ms") => Self::Epoch(1_000_000),
            Some("s") => Self::Epoch(SECOND),
            Some("m") => Self::Epoch(60 * SECOND),
            Some("h") => Self::Epoch(3_600 * SECOND),
            Some("d") => Self::Epoch(24 * 3_600 * SECOND),
            Some("w") => Self::Epoch(7 * 24 * 3_600 * SECOND),
            Some(_) => Self::Epoch(1),
        }
    }
}

/// Digits as text.
fn append(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing into memory does not fail.
    let _ = write!(out, "{value}");
}

/// Times of one form, to be written one after the other: mostly of one day.
#[derive(Debug)]
pub(super) struct Times {
    format: TimeFormat,
    /// Where clocks don't show UTC.
    zone: Option<Tz>,
    dates: Dates,
}

impl Times {
    /// Times of clocks in `zone`, or of those that show UTC.
    pub(super) fn new(format: TimeFormat, zone: Option<Tz>) -> Self {
        Self { format, zone: zone.filter(|zone| *zone != Tz::UTC), dates: Dates::default() }
    }

    /// A time as JSON has it.
    pub(super) fn json(&mut self, out: &mut Vec<u8>, nanos: i64) {
        let unit = match self.format {
            TimeFormat::Epoch(unit) => return integer(out, nanos.div_euclid(unit)),
            TimeFormat::Text => 1_000_000_000,
        };
        let (seconds, fraction) = (nanos.div_euclid(unit), nanos.rem_euclid(unit));
        let shift = self.zone.map_or(0, |zone| {
            let utc = DateTime::from_timestamp_nanos(nanos);
            zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()
        });
        out.push(b'"');
        self.dates.append(out, seconds + i64::from(shift));
        if fraction > 0 {
            append(out, format_args!(".{fraction:09}"));
            let zeros = out.iter().rev().take_while(|digit| **digit == b'0').count();
            out.truncate(out.len() - zeros);
        }
        match shift {
            0 => out.push(b'Z'),
            shift => append(
                out,
                format_args!(
                    "{}{:02}:{:02}",
                    if shift < 0 { '-' } else { '+' },
                    shift.abs() / 3600,
                    shift.abs() / 60 % 60
                ),
            ),
        }
        out.push(b'"');
    }
}

fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number with as few digits as tell it from others, never with a power of ten; one that is none has its name.
fn digits(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    match text.strip_suffix(".0") {
        Some(whole) => out.extend_from_slice(whole.as_bytes()),
        None if value.is_finite() && !text.contains('e') => out.extend_from_slice(text.as_bytes()),
        None => append(out, value),
    }
}

/// A number as Go prints it in JSON; one that is none is null.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if !value.is_finite() {
        out.extend_from_slice(b"null");
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => append(out, format_args!("{digits}e+{power}")),
            _ => append(out, text),
        }
    } else {
        digits(out, value);
    }
}

/// A column, to be written row by row.
pub(super) struct Cells<'a> {
    column: &'a dyn Array,
    values: Values<'a>,
}

enum Values<'a> {
    Floats(&'a [f64]),
    Integers(&'a [i64]),
    Unsigned(&'a [u64]),
    Booleans(&'a BooleanArray),
    /// With the one before and how it is written: tags are the same from row to row.
    Texts(&'a StringArray, Option<&'a str>, Vec<u8>),
    Nothing,
}

impl<'a> Cells<'a> {
    pub(super) fn of(column: &'a dyn Array) -> Self {
        let values = match column.data_type() {
            DataType::Float64 => Values::Floats(column.as_primitive::<Float64Type>().values()),
            DataType::Int64 => Values::Integers(column.as_primitive::<Int64Type>().values()),
            DataType::UInt64 => Values::Unsigned(column.as_primitive::<UInt64Type>().values()),
            DataType::Boolean => Values::Booleans(column.as_boolean()),
            DataType::Utf8 => Values::Texts(column.as_string::<i32>(), None, Vec::new()),
            _ => Values::Nothing,
        };
        Self { column, values }
    }

    /// The value in a row, as JSON.
    pub(super) fn json(&mut self, out: &mut Vec<u8>, row: usize) {
        if self.column.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &mut self.values {
            Values::Floats(values) => float(out, values[row]),
            Values::Integers(values) => integer(out, values[row]),
            Values::Unsigned(values) => integer(out, values[row]),
            Values::Booleans(values) => append(out, values.value(row)),
            Values::Texts(texts, before, written) => {
                let text = texts.value(row);
                if *before != Some(text) {
                    written.clear();
                    string(written, text);
                    *before = Some(text);
                }
                out.extend_from_slice(written);
            }
            Values::Nothing => out.extend_from_slice(b"null"),
        }
    }
}

/// The value of a column in a row, as CSV.
pub(super) fn csv(out: &mut Vec<u8>, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        return;
    }
    match column.data_type() {
        DataType::Float64 => digits(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => out.extend_from_slice(super::csv::quoted(column.as_string::<i32>().value(row)).as_bytes()),
        _ => Cells::of(column).json(out, row),
    }
}

/// A text as JSON has it.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(place) = rest.find(|letter: char| letter < ' ' || letter == '"' || letter == '\\') {
        out.extend_from_slice(&rest.as_bytes()[..place]);
        match rest.as_bytes()[place] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            letter @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', letter]),
            letter => append(out, format_args!("\\u{letter:04x}")),
        }
        rest = &rest[place + 1..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_look_as_go_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (10.0, "10"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(text(|out| float(out, value)), expected);
        }
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        let time_text = |nanos, format, zone| text(|out| Times::new(format, zone).json(out, nanos));
        assert_eq!(time_text(0, TimeFormat::Text, None), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(time_text(500_000_000, TimeFormat::Text, None), "\"1970-01-01T00:00:00.5Z\"");
        assert_eq!(time_text(-1, TimeFormat::Text, None), "\"1969-12-31T23:59:59.999999999Z\"");
        let winter = 1_704_067_200_000_000_000;
        assert_eq!(time_text(winter, TimeFormat::Text, Some(Tz::Europe__Berlin)), "\"2024-01-01T01:00:00+01:00\"");
        assert_eq!(time_text(winter, TimeFormat::Text, Some(Tz::Europe__London)), "\"2024-01-01T00:00:00Z\"");
        assert_eq!(time_text(1_999, TimeFormat::of(Some("u")), None), "1");
        assert_eq!(time_text(-1, TimeFormat::of(Some("h")), None), "-1");
        assert_eq!(TimeFormat::of(Some("zz")), TimeFormat::Epoch(1));
    }

    #[test]
    fn texts_are_escaped() {
        let odd = "a\"b\\c\nd\u{1}é";
        let json = text(|out| string(out, odd));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), odd);
    }
}
