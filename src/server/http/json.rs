//! Bodies of requests that are JSON.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::server::status;

/// A body that says that it is JSON and is what the handler wants. Anything else is refused in the words of InfluxDB 3.
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|text| text.starts_with("application/json")) {
            let error = serde_json::json!({ "error": "unacceptable content-type, expected: application/json" });
            return Err(status::response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error));
        }
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        parse(&body).map(Self).map_err(IntoResponse::into_response)
    }
}

/// The value in a body, whatever the request says that it is.
///
/// # Errors
/// `Invalid` if it is no JSON or not what is wanted.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::invalid(format!("serde json error: {error}")))
}
