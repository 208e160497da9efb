//! SQL over HTTP: parameters in, rows out as they come; and statements that change something, but not in a GET.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::encode::{self, Format};
use super::json;
use super::parameters::{Parameters, database_name, deadline};
use crate::error::{Error, Result};
use crate::query::{BegunStatement, Language, Origin, PlannedChange, Query, Way};
use crate::server::auth::Principal;
use crate::server::{Services, parameters};

#[derive(Deserialize, Default)]
struct QueryRequest {
    db: Option<String>,
    q: Option<String>,
    format: Option<String>,
    params: Option<Map<String, Value>>,
    timeout: Option<String>,
}

/// What a request may do: a GET is repeated by browsers and proxies as they like, so it only reads.
enum May {
    Read,
    Change,
}

/// `GET /api/v3/query_sql?db=&q=&format=&params=&timeout=`.
pub(super) async fn sql_get(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    answer(&services, &principal, Language::Sql, May::Read, from_url(query.as_deref())?, &headers).await
}

/// `POST /api/v3/query_sql` with `{"db","q","format","params","timeout"}`; the text may change something.
pub(super) async fn sql_post(
    State(services): State<Arc<Services>>,
    principal: Principal,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    answer(&services, &principal, Language::Sql, May::Change, json::parse(&body)?, &headers).await
}

/// `GET /api/v3/query_influxql`.
pub(super) async fn influxql_get(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    answer(&services, &principal, Language::InfluxQl, May::Read, from_url(query.as_deref())?, &headers).await
}

/// `POST /api/v3/query_influxql`.
pub(super) async fn influxql_post(
    State(services): State<Arc<Services>>,
    principal: Principal,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    answer(&services, &principal, Language::InfluxQl, May::Read, json::parse(&body)?, &headers).await
}

fn from_url(query: Option<&str>) -> Result<QueryRequest> {
    let parameters = Parameters::parse(query);
    let params = match parameters.get("params") {
        None | Some("") => None,
        Some(text) => {
            let object = serde_json::from_str(text);
            Some(
                object
                    .map_err(|error| Error::invalid(format!("query parameter 'params' is no JSON object: {error}")))?,
            )
        }
    };
    let owned = |name: &str| parameters.get(name).map(str::to_owned);
    Ok(QueryRequest { db: owned("db"), q: owned("q"), format: owned("format"), params, timeout: owned("timeout") })
}

async fn answer(
    services: &Services,
    principal: &Principal,
    language: Language,
    may: May,
    request: QueryRequest,
    headers: &HeaderMap,
) -> Result<Response> {
    let (database, text) = match (request.db, request.q) {
        (Some(database), Some(text)) => (database_name(&database)?, text),
        (None, None) => return Err(Error::invalid("missing query parameters 'db' and 'q'")),
        (None, _) => return Err(Error::invalid("missing query parameter 'db'")),
        (_, None) => return Err(Error::invalid("missing query parameter 'q'")),
    };
    let way = if language == Language::Sql { Way::Sql } else { Way::InfluxQl };
    let origin = Origin { asker: principal.asker(), way, deadline: deadline(request.timeout.as_deref())? };
    principal.require_sight(&database)?;
    let access = principal.rights().access(&database);
    let format = Format::choose(request.format.as_deref(), headers)?;
    let parameters = parameters::from_json(request.params.unwrap_or_default())?;
    let query = Query { database, language, text, plan: Bytes::new(), parameters, access, origin };
    let begun = match may {
        May::Read => BegunStatement::Query(services.queries.begin(query, false).await?),
        May::Change => services.queries.begin_statement(query).await?,
    };
    match begun {
        BegunStatement::Query(begun) => encode::respond(format, begun.rows().await?).await,
        BegunStatement::Change(change) => {
            let answer = PlannedChange::answer(change.run().await?)?;
            encode::respond_with(format, &answer.schema(), &[answer])
        }
    }
}
