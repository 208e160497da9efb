//! Caches of last and distinct values: made and deleted.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::json::{self, Json};
use super::parameters::Parameters;
use crate::error::Result;
use crate::model::CacheKind;
use crate::server::Services;
use crate::server::auth::Principal;
use crate::server::caches::{NamedCache, NewDistinctCache, NewLastCache};
use crate::server::status;

/// `POST /api/v3/configure/last_cache` with `{"db","table","name","key_columns","value_columns","count","ttl","per_field"}`, the last six
/// not needed.
pub(super) async fn create_last_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<NewLastCache>,
) -> Result<Response> {
    let made = request.create(&services.engine, &principal).await?;
    Ok(status::response(StatusCode::CREATED, &made))
}

/// `POST /api/v3/configure/distinct_cache` with `{"db","table","name","columns","max_cardinality","max_age"}`; name and limits are
/// not needed.
pub(super) async fn create_distinct_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<NewDistinctCache>,
) -> Result<Response> {
    let made = request.create(&services.engine, &principal).await?;
    Ok(status::response(StatusCode::CREATED, &made))
}

/// `DELETE /api/v3/configure/last_cache?db=&table=&name=`, or the same as JSON.
pub(super) async fn delete_last_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response> {
    delete(&services, &principal, CacheKind::Last, query.as_deref(), &body).await
}

/// `DELETE /api/v3/configure/distinct_cache?db=&table=&name=`, or the same as JSON.
pub(super) async fn delete_distinct_cache(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response> {
    delete(&services, &principal, CacheKind::Distinct, query.as_deref(), &body).await
}

async fn delete(
    services: &Services,
    principal: &Principal,
    kind: CacheKind,
    query: Option<&str>,
    body: &[u8],
) -> Result<Response> {
    let named = match query {
        None if !body.is_empty() => json::parse(body)?,
        query => {
            let parameters = Parameters::parse(query);
            let required = |name: &str| parameters.required(name).map(str::to_owned);
            NamedCache { db: required("db")?, table: required("table")?, name: required("name")? }
        }
    };
    named.delete(kind, &services.engine, principal).await?;
    Ok(StatusCode::OK.into_response())
}
