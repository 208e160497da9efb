//! Queries that run and the last ones that did: listed, and ended by their numbers.
//!
//! Whoever has a token sees and ends their own queries; what else they see and end follows from their rights on its database.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde_json::json;

use super::encode::{self, Format};
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::server::Services;
use crate::server::auth::Principal;

/// `GET /api/v3/queries?format=`: the rows of `system.queries`, without the name of a database.
pub(super) async fn list(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let format = Format::choose(parameters.get("format"), &headers)?;
    let rows = services.queries.queries(&principal.asker(), principal.rights())?;
    encode::respond_with(format, &rows.schema(), &[rows])
}

/// `DELETE /api/v3/queries?id=`: ends a query. It is told to end when this answers; it has ended when it is not running any more.
pub(super) async fn kill(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let text = parameters.required("id")?;
    let unreadable = |_| Error::invalid(format!("query parameter 'id' is '{text}', and no number of a query"));
    let id = text.parse().map_err(unreadable)?;
    services.queries.kill(id, &principal.asker(), principal.rights())?;
    Ok(axum::Json(json!({ "id": id })).into_response())
}
