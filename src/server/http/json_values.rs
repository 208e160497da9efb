//! Times and texts as JSON, as Arrow writes them and sooner.
//!
//! Most values of an answer are like the ones before: the tags of a series are the same from row to row, and times are of the same day.
//! So a text is escaped once for each stretch of rows, and a date is worked out once a day.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonFormat, NullableEncoder, Writer};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};
use arrow::temporal_conversions::timestamp_s_to_datetime;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 24 * 60 * 60;

/// `2023-11-14T`.
const DATE_BYTES: usize = 11;

/// A longer text is rarely the same as the one before, and comparing them costs more.
const TEXT_BYTES_MAX: usize = 128;

/// A writer of rows to `sink` that says the same as Arrow's own.
pub(super) fn writer<W: std::io::Write, F: JsonFormat>(sink: W) -> Writer<W, F> {
    WriterBuilder::new().with_encoder_factory(Arc::new(LikeTheOneBefore)).build(sink)
}

#[derive(Debug)]
struct LikeTheOneBefore;

impl EncoderFactory for LikeTheOneBefore {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, None) if options.timestamp_format().is_none() => {
                Box::new(Times { times: array.as_primitive::<TimestampNanosecondType>(), dates: Dates::default() })
            }
            DataType::Utf8 => Box::new(Texts { texts: array.as_string(), before: None, written: Vec::new() }),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Texts<'a> {
    texts: &'a StringArray,
    before: Option<&'a str>,
    /// The one before, in JSON.
    written: Vec<u8>,
}

impl Encoder for Texts<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = self.texts.value(row);
        if self.before == Some(text) {
            out.extend_from_slice(&self.written);
            return;
        }
        let start = out.len();
        // A text can always be written, and so can bytes in memory.
        let _ = serde_json::to_writer(&mut *out, text);
        if text.len() <= TEXT_BYTES_MAX {
            self.written.clear();
            self.written.extend_from_slice(&out[start..]);
            self.before = Some(text);
        }
    }
}

/// Dates and times of day, mostly of the same day as the one before.
#[derive(Debug, Default)]
pub(super) struct Dates {
    /// The day of the one before, counted from 1970, and as it is written.
    day: Option<(i64, [u8; DATE_BYTES])>,
}

impl Dates {
    fn date(&mut self, day: i64) -> [u8; DATE_BYTES] {
        if let Some((known, date)) = self.day
            && known == day
        {
            return date;
        }
        let written = timestamp_s_to_datetime(day * DAY).map(|date| format!("{date:?}")).unwrap_or_default();
        let mut date = [b'?'; DATE_BYTES];
        for (byte, written) in date.iter_mut().zip(written.bytes()) {
            *byte = written; // nanoseconds reach from 1677 to 2262: a year always has four digits
        }
        self.day = Some((day, date));
        date
    }

    /// `2023-11-14T22:13:20`, of seconds since 1970.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, seconds: i64) {
        let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        out.extend_from_slice(&self.date(day));
        digits(out, second / 3600, 2);
        out.push(b':');
        digits(out, second / 60 % 60, 2);
        out.push(b':');
        digits(out, second % 60, 2);
    }
}

struct Times<'a> {
    times: &'a TimestampNanosecondArray,
    dates: Dates,
}

impl Encoder for Times<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let nanos = self.times.value(row);
        let (seconds, fraction) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
        out.push(b'"');
        self.dates.append(out, seconds);
        if fraction != 0 {
            out.push(b'.');
            match (fraction % 1_000_000, fraction % 1_000) {
                (0, _) => digits(out, fraction / 1_000_000, 3),
                (_, 0) => digits(out, fraction / 1_000, 6),
                _ => digits(out, fraction, 9),
            }
        }
        out.push(b'"');
    }
}

/// The last `count` digits of a number that is not negative.
fn digits(out: &mut Vec<u8>, mut number: i64, count: usize) {
    let start = out.len();
    out.resize(start + count, b'0');
    for byte in out[start..].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use arrow::json::writer::JsonArray;
    use arrow::json::{ArrayWriter, LineDelimitedWriter};
    use proptest::prelude::*;

    use super::*;

    fn written(batches: &[RecordBatch]) -> (Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut writer = writer::<_, JsonArray>(&mut ours);
        let mut other = ArrayWriter::new(&mut theirs);
        for batch in batches {
            writer.write(batch).unwrap();
            other.write(batch).unwrap();
        }
        writer.finish().unwrap();
        other.finish().unwrap();
        (ours, theirs)
    }

    fn batch(times: Vec<Option<i64>>, texts: Vec<Option<String>>) -> RecordBatch {
        let floats: Float64Array = times.iter().map(|time| time.map(|time| time as f64 / 7.0)).collect();
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("time", Arc::new(TimestampNanosecondArray::from(times)), true),
            ("\"text\"", Arc::new(StringArray::from(texts)), true),
            ("x", Arc::new(floats), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn the_first_and_the_last_instant_are_written_as_arrow_does() {
        let times = [i64::MIN, -1, 0, 1, 999, 1_000, 999_999, 1_000_000, 86_399_999_999_999, i64::MAX];
        let texts = times.iter().map(|_| Some("same".to_owned())).collect();
        let (ours, theirs) = written(&[batch(times.into_iter().map(Some).collect(), texts)]);
        assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
    }

    #[test]
    fn lines_are_those_of_arrow_too() {
        let batch = batch(vec![Some(1), None], vec![None, Some("a\n\u{1}\"é".to_owned())]);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        writer::<_, arrow::json::writer::LineDelimited>(&mut ours).write(&batch).unwrap();
        LineDelimitedWriter::new(&mut theirs).write(&batch).unwrap();
        assert_eq!(ours, theirs);
    }

    fn time() -> impl Strategy<Value = Option<i64>> {
        let round = prop::sample::select(vec![1, 1_000, 1_000_000, SECOND, DAY * SECOND]);
        prop::option::weighted(0.9, (any::<i64>(), round).prop_map(|(time, round)| time / round * round))
    }

    proptest! {
        #[test]
        fn rows_are_written_as_arrow_writes_them(
            rows in prop::collection::vec((time(), prop::option::weighted(0.9, "[ab\"\\\\\n\u{7f}é]{0,2}")), 1..40),
            cut in 0_usize..40,
        ) {
            let (times, texts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let cut = cut.min(times.len());
            let batches = [batch(times[..cut].to_vec(), texts[..cut].to_vec()), batch(times[cut..].to_vec(), texts[cut..].to_vec())];
            let (ours, theirs) = written(&batches);
            prop_assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
        }
    }
}
