//! Is it there, who is it, how is it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::compatible;
use crate::error::Result;
use crate::model::Facility;
use crate::server::Services;
use crate::server::auth::Principal;

/// 200 `OK` as long as the process answers and has not been replaced by another; 503 and why otherwise.
pub(super) async fn health(State(services): State<Arc<Services>>, principal: Principal) -> Result<Response> {
    principal.require_reading(Facility::Health)?;
    services.engine.check_health()?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "OK").into_response())
}

/// Product and version, in the body and in the headers where different clients look for them. Who speaks MessagePack is a library of
/// InfluxDB 1, to which only 204 is good.
pub(super) async fn ping(
    State(services): State<Arc<Services>>,
    principal: Principal,
    asked: HeaderMap,
) -> Result<Response> {
    principal.require_reading(Facility::Ping)?;
    let request_id = services.clock.unique_id().to_string();
    let body = serde_json::json!({
        "product_name": "Flightline",
        "version": compatible::VERSION,
        "flightline_version": env!("CARGO_PKG_VERSION"),
        "revision": "",
        "process_id": services.process_id.to_string(),
    });
    let mut headers = HeaderMap::new();
    compatible::add_version(&mut headers);
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert("request-id", id.clone());
        headers.insert("x-request-id", id);
    }
    let accept = asked.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/x-msgpack") {
        return Ok((StatusCode::NO_CONTENT, headers).into_response());
    }
    Ok((headers, axum::Json(body)).into_response())
}

/// Metrics for Prometheus.
pub(super) async fn metrics(State(services): State<Arc<Services>>, principal: Principal) -> Result<Response> {
    principal.require_reading(Facility::Metrics)?;
    let (engine, queries) = (services.engine.metrics(), services.queries.metrics());
    let text = services.telemetry.render(&engine, &queries, services.limits.refused())?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
