//! What clients of InfluxDB look for in the headers of an answer.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The version that clients compare for features: that of the server they were written for.
pub(super) const VERSION: &str = "3.10.0";

/// The build that clients look for beside the version.
const BUILD: &str = "Core";

/// How much of an error is said in a header; clients take no long ones.
const ERROR_CHARS_MAX: usize = 1000;

/// Puts version and build to an answer.
pub(super) fn add_version(headers: &mut HeaderMap) {
    headers.insert("x-influxdb-version", HeaderValue::from_static(VERSION));
    headers.insert("x-influxdb-build", HeaderValue::from_static(BUILD));
}

/// Puts the text of an error where clients of InfluxDB 1 look for it.
pub(super) fn add_error(response: &mut Response, text: &str) {
    // A header has no room for line ends and other letters than those of ASCII.
    let plain = |letter: char| match letter {
        '\n' | '\r' => ' ',
        letter if letter.is_ascii_graphic() || letter == ' ' => letter,
        _ => '?',
    };
    if let Ok(value) = HeaderValue::from_str(&text.chars().take(ERROR_CHARS_MAX).map(plain).collect::<String>()) {
        response.headers_mut().insert(HeaderName::from_static("x-influxdb-error"), value);
    }
}
