//! Values as InfluxDB 1 writes them: numbers as Go prints them, times with as many digits as they need.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

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

/// A time as JSON has it.
pub(super) fn time(out: &mut Vec<u8>, nanos: i64, format: TimeFormat, zone: Option<Tz>) {
    match format {
        TimeFormat::Epoch(unit) => append(out, nanos.div_euclid(unit)),
        TimeFormat::Text => {
            let utc = DateTime::from_timestamp_nanos(nanos);
            let zone = zone.unwrap_or(Tz::UTC);
            let shift = zone.offset_from_utc_datetime(&utc.naive_utc()).fix();
            let local = utc.with_timezone(&shift);
            append(out, format_args!("\"{}", local.format("%Y-%m-%dT%H:%M:%S")));
            let fraction = nanos.rem_euclid(1_000_000_000);
            if fraction > 0 {
                append(out, format_args!(".{}", format!("{fraction:09}").trim_end_matches('0')));
            }
            if shift.local_minus_utc() == 0 {
                out.extend_from_slice(b"Z\"");
            } else {
                append(out, format_args!("{}\"", local.format("%:z")));
            }
        }
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
        append(out, value);
    }
}

/// The value of a column in a row, as JSON.
pub(super) fn json(out: &mut Vec<u8>, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match column.data_type() {
        DataType::Float64 => float(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Int64 => append(out, column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => append(out, column.as_primitive::<UInt64Type>().value(row)),
        DataType::Boolean => append(out, column.as_boolean().value(row)),
        DataType::Utf8 => string(out, column.as_string::<i32>().value(row)),
        _ => out.extend_from_slice(b"null"),
    }
}

/// The value of a column in a row, as CSV.
pub(super) fn csv(out: &mut Vec<u8>, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        return;
    }
    match column.data_type() {
        DataType::Float64 => append(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => out.extend_from_slice(super::csv::quoted(column.as_string::<i32>().value(row)).as_bytes()),
        _ => json(out, column, row),
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
        let time_text = |nanos, format, zone| text(|out| time(out, nanos, format, zone));
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
