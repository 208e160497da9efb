//! Tokens: made, listed, taken back. Who may do that may do everything.
//!
//! The paths and bodies are those of InfluxDB 3, Core and Enterprise.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::encode::{self, Format};
use super::json::Json;
use super::parameters::Parameters;
use crate::engine::{NameTaken, NewToken, TokenEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Permission, Rights, Timestamp};
use crate::server::Services;
use crate::server::auth::{self, NewTokenText, OPERATOR, Principal};

const NEEDED_FOR: &str = "make, see or delete tokens";

#[derive(Deserialize)]
pub(super) struct CreateNamedAdmin {
    token_name: String,
    expiry_secs: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct CreateToken {
    token_name: String,
    permissions: Vec<PermissionRequest>,
    expiry_secs: Option<u64>,
}

/// A permission as text, or taken apart as clients of InfluxDB 3 Enterprise send it.
#[derive(Deserialize)]
#[serde(untagged)]
enum PermissionRequest {
    Text(String),
    Parts {
        resource_type: String,
        #[serde(alias = "resource_identifier")]
        resource_names: Vec<String>,
        actions: Vec<String>,
    },
}

impl PermissionRequest {
    fn permissions(&self) -> Result<Vec<Permission>> {
        let texts = match self {
            // Several databases at once, as the command of InfluxDB 3 Enterprise takes them.
            Self::Text(text) => match text.strip_prefix("db:").and_then(|rest| rest.split_once(':')) {
                Some((names, actions)) => {
                    names.split(',').map(|name| format!("db:{}:{actions}", name.trim())).collect()
                }
                None => vec![text.clone()],
            },
            Self::Parts { resource_type, resource_names, actions } => {
                let actions = actions.join(",");
                resource_names.iter().map(|name| format!("{resource_type}:{name}:{actions}")).collect()
            }
        };
        let permission = |text: String| {
            text.parse().map_err(|error: crate::model::PermissionError| Error::invalid(error.to_string()))
        };
        texts.into_iter().map(permission).collect()
    }
}

/// `POST /api/v3/configure/token/admin`: refused, because the operator's token is made with the first start, and whoever comes
/// first over the network is nobody in particular.
pub(super) async fn create_operator(State(services): State<Arc<Services>>) -> Result<Response> {
    refuse_without_auth(&services)?;
    let message = "token name already exists, _admin: the first start of the server made it and wrote it to the file \
                   admin-token in the data directory";
    Err(Error::new(ErrorKind::Conflict, message))
}

/// `POST /api/v3/configure/token/admin/regenerate`: a new operator's token; the old one is worth nothing from then on.
///
/// Refused where the token is that of a file: the next start would take it from there again.
pub(super) async fn regenerate_operator(
    State(services): State<Arc<Services>>,
    principal: Principal,
) -> Result<Response> {
    principal.require_everything(NEEDED_FOR)?;
    if let Some(path) = &services.settings.auth.admin_token_file {
        let message = format!(
            "the operator's token is that of \"{}\" on the server, which counts again with the next start: put another \
             one there and restart",
            path.display()
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let name = OPERATOR.to_owned();
    let answer = create(&services, &principal, name, Rights::everything(), None, NameTaken::Replace).await?;
    if let Err(error) = auth::forget_file(&services.settings.data_directory) {
        tracing::warn!(error = error.report(), "the file of the old operator's token is still there");
    }
    Ok(answer)
}

/// `POST /api/v3/configure/token/named_admin` with `{"token_name","expiry_secs"}`: one more that may do everything.
pub(super) async fn create_named_admin(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateNamedAdmin>,
) -> Result<Response> {
    let CreateNamedAdmin { token_name, expiry_secs } = request;
    create(&services, &principal, token_name, Rights::everything(), expiry_secs, NameTaken::Refuse).await
}

/// `POST /api/v3/configure/token` with `{"token_name","permissions","expiry_secs"}`, where a permission is a text such as
/// `db:metrics:read,write` or `{"resource_type","resource_names","actions"}`.
pub(super) async fn create_token(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<CreateToken>,
) -> Result<Response> {
    principal.require_everything(NEEDED_FOR)?;
    let CreateToken { token_name, permissions, expiry_secs } = request;
    let permissions = permissions.iter().map(PermissionRequest::permissions).collect::<Result<Vec<_>>>()?.concat();
    if permissions.is_empty() {
        return Err(Error::invalid("a token without permissions could do nothing; give it one such as db:NAME:read"));
    }
    create(&services, &principal, token_name, Rights::new(permissions), expiry_secs, NameTaken::Refuse).await
}

async fn create(
    services: &Services,
    principal: &Principal,
    name: String,
    rights: Rights,
    expiry_secs: Option<u64>,
    taken: NameTaken,
) -> Result<Response> {
    refuse_without_auth(services)?;
    principal.require_everything(NEEDED_FOR)?;
    let expires_at = expiry_secs.map(|seconds| services.clock.now().after(Duration::from_secs(seconds)));
    let text = NewTokenText::draw()?;
    let token = NewToken { name, hash: text.hash(), rights, expires_at };
    let entry = services.engine.create_token(token, taken).await?;
    let mut facts = facts(&entry);
    facts["token"] = text.reveal().into();
    facts["hash"] = entry.hash.to_string().into();
    Ok((StatusCode::CREATED, axum::Json(facts)).into_response())
}

/// `DELETE /api/v3/configure/token?token_name=`.
pub(super) async fn delete(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    refuse_without_auth(&services)?;
    principal.require_everything(NEEDED_FOR)?;
    let parameters = Parameters::parse(query.as_deref());
    let name = parameters.required("token_name")?;
    if name == OPERATOR {
        return Err(Error::new(ErrorKind::Unsupported, "cannot delete operator token"));
    }
    services.engine.delete_token(name).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET /api/v3/configure/token?format=`: one row per token by name; never its text or hash.
pub(super) async fn list(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    refuse_without_auth(&services)?;
    principal.require_everything(NEEDED_FOR)?;
    let parameters = Parameters::parse(query.as_deref());
    let format = Format::choose(parameters.get("format"), &headers)?;
    let batch = rows(&services.engine.tokens())?;
    encode::respond_with(format, &batch.schema(), &[batch])
}

fn rows(tokens: &[Arc<TokenEntry>]) -> Result<RecordBatch> {
    let time = |value: fn(&TokenEntry) -> Option<Timestamp>| -> ArrayRef {
        let times = tokens.iter().map(|token| value(token).map(Timestamp::as_nanos));
        Arc::new(times.collect::<TimestampNanosecondArray>())
    };
    let permissions = tokens.iter().map(|token| {
        let permissions: Vec<_> = token.rights.permissions().iter().map(ToString::to_string).collect();
        permissions.join("; ") // no format but JSON has lists in its cells
    });
    let columns: [(&str, ArrayRef); 5] = [
        ("token_id", Arc::new(UInt64Array::from_iter_values(tokens.iter().map(|token| token.id)))),
        ("name", Arc::new(StringArray::from_iter_values(tokens.iter().map(|token| token.name.as_str())))),
        ("created_at", time(|token| Some(token.created_at))),
        ("expiry", time(|token| token.expires_at)),
        ("permissions", Arc::new(StringArray::from_iter_values(permissions))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not list tokens", error))
}

fn facts(token: &TokenEntry) -> serde_json::Value {
    json!({
        "id": token.id,
        "name": token.name,
        "created_at": token.created_at.to_string(),
        "expiry": token.expires_at.map(|at| at.to_string()),
        "permissions": token.rights.permissions().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// In the words of InfluxDB 3.
fn refuse_without_auth(services: &Services) -> Result<()> {
    match services.authenticator.is_on() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unsupported, "endpoint disabled, started without auth")),
    }
}
