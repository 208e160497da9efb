//! The HTTP interface: one line per route.
//!
//! What clients of InfluxDB 3, 2.x and 1.x send is understood as they send it. Errors are JSON
//! throughout. Not here: what a request does; that is one call into the engine or the queries.

mod admin;
mod backups;
mod body;
mod caches;
mod compatible;
mod delete;
mod deletions;
mod encode;
mod health;
mod influxql;
mod json;
mod json_values;
mod parameters;
mod queries;
mod query;
mod retention;
mod tokens;
mod write;
mod write_v1;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::{HeaderValue, Method, StatusCode, header};

use super::Services;

/// Every route of the HTTP interface.
pub(super) fn router(services: Arc<Services>) -> Router {
    Router::new()
        .route("/api/v3/write_lp", post(write::v3))
        .route("/api/v2/write", post(write::v2))
        .route("/write", post(write_v1::write))
        .route("/api/v3/delete", post(delete::v3))
        .route("/api/v2/delete", post(delete::v2))
        .route("/api/v3/query_sql", get(query::sql_get).post(query::sql_post))
        .route("/query", any(influxql::query))
        .route("/api/v3/query_influxql", get(query::influxql_get).post(query::influxql_post))
        .route(
            "/api/v3/configure/database",
            get(deletions::show_databases)
                .post(admin::create_database)
                .put(retention::update_database)
                .delete(deletions::delete_database),
        )
        .route("/api/v3/configure/database/undelete", post(deletions::undelete_database))
        .route("/api/v3/configure/database/retention_period", post(retention::set).delete(retention::clear))
        .route(
            "/api/v3/configure/table",
            post(admin::create_table).put(retention::update_table).delete(deletions::delete_table),
        )
        .route("/api/v3/configure/table/undelete", post(deletions::undelete_table))
        .route("/api/v3/configure/last_cache", post(caches::create_last_cache).delete(caches::delete_last_cache))
        .route(
            "/api/v3/configure/distinct_cache",
            post(caches::create_distinct_cache).delete(caches::delete_distinct_cache),
        )
        .route("/api/v3/configure/token", get(tokens::list).post(tokens::create_token).delete(tokens::delete))
        .route("/api/v3/enterprise/configure/token", post(tokens::create_token))
        .route("/api/v3/configure/token/admin", post(tokens::create_operator))
        .route("/api/v3/configure/token/admin/regenerate", post(tokens::regenerate_operator))
        .route("/api/v3/configure/token/named_admin", post(tokens::create_named_admin))
        .route("/api/v3/queries", get(queries::list).delete(queries::kill))
        .route("/api/v3/backups", get(backups::list).post(backups::create).delete(backups::delete))
        .route("/health", get(health::health))
        .route("/api/v1/health", get(health::health))
        .route("/ping", any(health::ping))
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&services), observe))
        .with_state(services)
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Not found").into_response()
}

/// Around every request: what browsers want to know, the catalog's id for clients that compare it, and a count.
async fn observe(State(services): State<Arc<Services>>, request: Request, next: Next) -> Response {
    let origins = &services.settings.origins;
    if request.method() == Method::OPTIONS {
        let mut response = StatusCode::NO_CONTENT.into_response();
        origins.allow_request(request.headers(), response.headers_mut());
        return response;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let started = services.clock.elapsed();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let request = request.map(|body| body::paced(body, services.settings.connections.patience));
    let mut response = next.run(request).await;
    let took = services.clock.elapsed().saturating_sub(started);
    services.telemetry.request(&route, method, response.status().as_u16(), took);
    tracing::debug!(route, method, status = response.status().as_u16(), ?took, "request");

    let headers = response.headers_mut();
    origins.allow(origin.as_ref(), headers);
    if let Ok(id) = HeaderValue::from_str(&services.engine.catalog_id().to_string()) {
        headers.insert("cluster-uuid", id);
    }
    response
}

/// A method as a label. Clients may make methods up; labels are kept for ever.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
