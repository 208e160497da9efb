//! The one table from what the caller should do to the codes of HTTP and gRPC.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind};

/// Seconds after which a client should come back when storage is in trouble.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Longest text of a gRPC error: it travels in a header, and proxies cut long ones off.
const GRPC_MESSAGE_CHARS_MAX: usize = 2000;

fn codes(kind: ErrorKind) -> (StatusCode, Code) {
    match kind {
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
        ErrorKind::Forbidden => (StatusCode::FORBIDDEN, Code::PermissionDenied),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, Code::NotFound),
        ErrorKind::Conflict => (StatusCode::CONFLICT, Code::AlreadyExists),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        ErrorKind::Exhausted => (StatusCode::UNPROCESSABLE_ENTITY, Code::ResourceExhausted),
        // What drivers repeat by themselves.
        ErrorKind::Unavailable | ErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        ErrorKind::Limited => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        // Not 408, after which browsers send the query again.
        ErrorKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
        ErrorKind::Cancelled => (cancelled(), Code::Cancelled),
        // 405 and not 501: what clients of InfluxDB 3 see for what it does not implement.
        ErrorKind::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, Code::DataLoss),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
    }
}

/// 499, which nginx, Prometheus and Google's APIs use for it: HTTP itself has no word for a request that somebody ended.
fn cancelled() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The HTTP status for an error of this kind.
pub(crate) fn http(kind: ErrorKind) -> StatusCode {
    codes(kind).0
}

/// The error as a gRPC status.
pub(crate) fn grpc(error: &Error) -> Status {
    log_if_ours(error);
    let mut text = error.report();
    if let Some((end, _)) = text.char_indices().nth(GRPC_MESSAGE_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    let mut status = Status::new(codes(error.kind()).1, text);
    if let Some(seconds) = retry_after_seconds(error) {
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

/// When to come back, in whole seconds, of which there is at least one.
fn retry_after_seconds(error: &Error) -> Option<u64> {
    error.retry_after().map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
}

/// An HTTP response with this status and JSON body; asks to come back where that helps.
pub(crate) fn response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The error as `{"error": text}`.
pub(crate) fn error_response(error: &Error) -> Response {
    log_if_ours(error);
    let response = response(http(error.kind()), &serde_json::json!({ "error": error.report() }));
    with_retry_after(response, error)
}

/// The response to an error, and when to come back if the error says so.
pub(crate) fn with_retry_after(mut response: Response, error: &Error) -> Response {
    if let Some(seconds) = retry_after_seconds(error) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An operator has to hear of these; everything else is the caller's to handle.
fn log_if_ours(error: &Error) {
    if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt) {
        tracing::error!(error = error.report(), "request failed");
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        error_response(&self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn trouble_with_storage_tells_the_client_to_come_back() {
        let response = error_response(&Error::new(ErrorKind::Unavailable, "the disk is full"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }

    #[test]
    fn who_is_limited_hears_when_to_come_back() {
        let error = Error::new(ErrorKind::Limited, "too many requests").with_retry_after(Duration::from_millis(1100));
        let (response, status) = (error_response(&error), grpc(&error));
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (429, &HeaderValue::from(2))
        );
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get("retry-after").unwrap(), "2");
    }

    #[test]
    fn what_was_ended_is_no_fault_of_the_server() {
        let code = |kind| (http(kind).as_u16(), codes(kind).1);
        assert_eq!(code(ErrorKind::Cancelled), (499, Code::Cancelled));
        assert_eq!(code(ErrorKind::TimedOut), (504, Code::DeadlineExceeded));
        assert_eq!(code(ErrorKind::Busy), (503, Code::Unavailable));
    }

    #[test]
    fn a_long_grpc_message_is_cut_between_characters() {
        let status = grpc(&Error::invalid("ä".repeat(5000)));
        assert_eq!(status.message().chars().count(), GRPC_MESSAGE_CHARS_MAX + 1);
    }
}
