//! Typed literals: field values and timestamps.
//!
//! Numbers are read digit by digit into 64 bits; a float of few digits and a small power of ten is then
//! exact with one multiplication or division (Clinger's fast path), and all others go to the standard library.

use super::error::{LineError, literal};
use super::lines::QuotedText;
use crate::model::FieldType;

/// The value of one field, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// `1`, `1.5`, `-1.5e+3`.
    Float(f64),
    /// `1i`.
    Integer(i64),
    /// `1u`.
    Unsigned(u64),
    /// `t`, `T`, `true`, `True`, `TRUE` and their opposites.
    Boolean(bool),
    /// `"text"`.
    String(QuotedText<'a>),
}

impl<'a> Value<'a> {
    /// The value that begins at `at` and where it ends; `None` if none begins there. What stands behind
    /// the value is not looked at.
    ///
    /// # Errors
    /// If the value has the right form but no type can hold it.
    #[inline]
    pub(super) fn read(text: &'a str, at: usize) -> Result<Option<(Self, usize)>, LineError> {
        match text.as_bytes().get(at) {
            Some(b'0'..=b'9' | b'-') => number(text, at),
            Some(b'"') => {
                let string = QuotedText::read(text, at)?;
                Ok(string.map(|(string, closing_quote)| (Self::String(string), closing_quote + 1)))
            }
            _ => Ok(boolean(&text.as_bytes()[at..]).map(|(value, length)| (Self::Boolean(value), at + length))),
        }
    }

    /// The type of the column that may hold the value.
    #[inline]
    pub(super) fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        }
    }
}

/// The whole number that begins at `at` and where it ends; `None` if none begins there.
///
/// # Errors
/// If the number does not fit.
#[inline]
pub(super) fn timestamp(text: &str, at: usize) -> Result<Option<(i64, usize)>, LineError> {
    let negative = text.as_bytes().get(at) == Some(&b'-');
    let digits = Digits::read(text.as_bytes(), at + usize::from(negative), Digits::NONE);
    if digits.count == 0 {
        return Ok(None);
    }
    let written = &text[at..digits.end];
    let number = digits.signed(negative, written).ok_or_else(|| LineError::Timestamp { text: literal(written) })?;
    Ok(Some((number, digits.end)))
}

#[inline]
fn number<'a>(text: &'a str, at: usize) -> Result<Option<(Value<'a>, usize)>, LineError> {
    let bytes = text.as_bytes();
    let negative = bytes[at] == b'-';
    let whole = Digits::read(bytes, at + usize::from(negative), Digits::NONE);
    if whole.count == 0 {
        return Ok(None);
    }
    match bytes.get(whole.end) {
        Some(b'.') => {
            let fraction = Digits::read(bytes, whole.end + 1, whole);
            // In `1.` the number is `1`, and the point is what follows it.
            if fraction.count == whole.count {
                return float(text, at, negative, whole, 0, whole.end);
            }
            let scale = (fraction.count - whole.count) as i64;
            let (power, end) = exponent(bytes, fraction.end);
            float(text, at, negative, fraction, power.saturating_sub(scale), end)
        }
        Some(b'i') => {
            let written = &text[at..whole.end];
            let value = whole.signed(negative, written).ok_or_else(|| LineError::Integer { text: literal(written) })?;
            Ok(Some((Value::Integer(value), whole.end + 1)))
        }
        Some(b'u') if !negative => {
            let written = &text[at..whole.end];
            let value = whole.unsigned(written).ok_or_else(|| LineError::Unsigned { text: literal(written) })?;
            Ok(Some((Value::Unsigned(value), whole.end + 1)))
        }
        _ => {
            let (power, end) = exponent(bytes, whole.end);
            float(text, at, negative, whole, power, end)
        }
    }
}

/// The float `digits · 10^power`, written from `at` to `end`.
#[inline]
fn float<'a>(
    text: &'a str,
    at: usize,
    negative: bool,
    digits: Digits,
    power: i64,
    end: usize,
) -> Result<Option<(Value<'a>, usize)>, LineError> {
    // Both factors are exact doubles, so that one rounding gives the nearest double to the decimal.
    let magnitude = if digits.fit() && digits.number <= 1 << 53 && power.unsigned_abs() < POWERS_OF_TEN.len() as u64 {
        let mantissa = digits.number as i64 as f64;
        let factor = POWERS_OF_TEN[power.unsigned_abs() as usize];
        if power < 0 { mantissa / factor } else { mantissa * factor }
    } else {
        let unsigned = &text[at + usize::from(negative)..end];
        match unsigned.parse::<f64>() {
            Ok(magnitude) if magnitude.is_finite() => magnitude,
            _ => return Err(LineError::Float { text: literal(&text[at..end]) }),
        }
    };
    Ok(Some((Value::Float(if negative { -magnitude } else { magnitude }), end)))
}

/// The float that begins at `at` and where it ends, if it is written as most are: at most seven digits before
/// the point, at most seven behind it, and then a comma, a blank or a line end. Others are for [`Value::read`].
#[inline]
pub(super) fn plain_float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = *bytes.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (whole, whole_count) = leading_digits(eight_at(bytes, start)?);
    let point = start + whole_count;
    let (digits, scale, end) = if *bytes.get(point)? == b'.' {
        let (fraction, fraction_count) = leading_digits(eight_at(bytes, point + 1)?);
        if fraction_count % 8 == 0 {
            return None;
        }
        (whole * WHOLE_POWERS_OF_TEN[fraction_count] + fraction, fraction_count, point + 1 + fraction_count)
    } else {
        (whole, 0, point)
    };
    if whole_count % 8 == 0 || !matches!(bytes.get(end), Some(b',' | b' ' | b'\n' | b'\r')) {
        return None;
    }
    // Digits below 2^53 and a power that is exact, see `float`. From a signed number, because processors
    // convert that one in a single step.
    let magnitude = digits as i64 as f64 / POWERS_OF_TEN[scale];
    Some((if negative { -magnitude } else { magnitude }, end))
}

#[inline]
fn eight_at(bytes: &[u8], at: usize) -> Option<[u8; 8]> {
    bytes.get(at..at + 8)?.try_into().ok()
}

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The exponent that begins at `at`, such as `e+3`, and where it ends; 0 and `at` if there is none.
#[inline]
fn exponent(bytes: &[u8], at: usize) -> (i64, usize) {
    if !matches!(bytes.get(at), Some(b'e' | b'E')) {
        return (0, at);
    }
    let sign = bytes.get(at + 1).copied().filter(|byte| matches!(byte, b'-' | b'+'));
    let digits = Digits::read(bytes, at + 1 + usize::from(sign.is_some()), Digits::NONE);
    if digits.count == 0 {
        return (0, at);
    }
    // Too many digits to count leave the fast path, which is all that this number decides.
    let power = if digits.fit() { i64::try_from(digits.number).unwrap_or(i64::MAX) } else { i64::MAX };
    (if sign == Some(b'-') { -power } else { power }, digits.end)
}

/// A run of decimal digits.
#[derive(Debug, Clone, Copy)]
struct Digits {
    /// The number they make, if they [`fit`](Self::fit).
    number: u64,
    /// How many there are.
    count: usize,
    /// Where they end.
    end: usize,
}

impl Digits {
    const NONE: Self = Self { number: 0, count: 0, end: 0 };

    /// No number of this many digits overflows 64 bits.
    const FIT_COUNT: usize = 19;

    /// The digits at `at`, as if they stood right behind those of `before`.
    #[inline]
    fn read(bytes: &[u8], at: usize, before: Self) -> Self {
        let mut number = before.number;
        let mut end = at;
        // Eight bytes at a time and without a branch for each digit: how many there are can't be predicted.
        while let Some(eight) = eight_at(bytes, end) {
            let (value, count) = leading_digits(eight);
            number = number.wrapping_mul(WHOLE_POWERS_OF_TEN[count]).wrapping_add(value);
            end += count;
            if count < 8 {
                return Self { number, count: before.count + (end - at), end };
            }
        }
        // The last bytes of the body.
        while let Some(digit) = bytes.get(end).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            end += 1;
        }
        Self { number, count: before.count + (end - at), end }
    }

    #[inline]
    fn fit(&self) -> bool {
        self.count <= Self::FIT_COUNT
    }

    /// The digits with a sign, or `None` if the number is too large; `written` is how it is written.
    #[inline]
    fn signed(&self, negative: bool, written: &str) -> Option<i64> {
        if !self.fit() {
            // Leading zeros make a small number long.
            return written.parse().ok();
        }
        if negative { 0_i64.checked_sub_unsigned(self.number) } else { i64::try_from(self.number).ok() }
    }

    #[inline]
    fn unsigned(&self, written: &str) -> Option<u64> {
        if self.fit() { Some(self.number) } else { written.parse().ok() }
    }
}

const WHOLE_POWERS_OF_TEN: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number made by the digits that `text` begins with, and how many they are.
#[inline]
fn leading_digits(text: [u8; 8]) -> (u64, usize) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The first character is the lowest byte. As a digit it becomes 0 to 9, as anything else more.
    let chunk = u64::from_le_bytes(text) ^ (EACH * 0x30);
    // The highest bit of the first byte above 9 is set, by the addition or already before it. What a carry does
    // to the bytes behind it doesn't matter.
    let others = (chunk.wrapping_add(EACH * 0x76) | chunk) & (EACH * 0x80);
    let count = (others.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Shifted so far that the last digit is the highest byte, as in a number of eight digits with leading zeros;
    // then three multiplications add pairs of digits, of pairs and of fours.
    let digits = chunk << (64 - 8 * count);
    let pairs = digits.wrapping_mul(10 * 256 + 1) >> 8;
    let fours = (pairs & 0x00FF_00FF_00FF_00FF).wrapping_mul(100 * 65_536 + 1) >> 16;
    let value = (fours & 0x0000_FFFF_0000_FFFF).wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32;
    (value, count)
}

/// The truth value that `bytes` begin with and its length. The longest spelling wins.
fn boolean(bytes: &[u8]) -> Option<(bool, usize)> {
    const SPELLINGS: [(&[u8], bool); 10] = [
        (b"true", true),
        (b"True", true),
        (b"TRUE", true),
        (b"t", true),
        (b"T", true),
        (b"false", false),
        (b"False", false),
        (b"FALSE", false),
        (b"f", false),
        (b"F", false),
    ];
    SPELLINGS.iter().find(|(spelling, _)| bytes.starts_with(spelling)).map(|(spelling, value)| (*value, spelling.len()))
}
