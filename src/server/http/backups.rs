//! Backups: made, listed and deleted, in the one place that the server was started with.
//!
//! Not here: restoring one, which needs an empty store and no server.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::encode::{self, Format};
use super::json::Json;
use super::parameters::Parameters;
use crate::engine::backup::{Backup, BackupKind, BackupName, Backups};
use crate::error::{Error, Result};
use crate::server::auth::Principal;
use crate::server::{Services, backup_table};

/// A backup holds every database.
const NEEDED_FOR: &str = "make, see or delete backups";

#[derive(Deserialize)]
pub(super) struct Create {
    name: Option<String>,
    #[serde(default)]
    full: bool,
}

/// `POST /api/v3/backups` with `{"name","full"}`, both optional. Answers when the backup is whole.
pub(super) async fn create(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<Create>,
) -> Result<Response> {
    principal.require_everything(NEEDED_FOR)?;
    let name = request.name.as_deref().map(BackupName::new).transpose()?;
    let kind = if request.full { BackupKind::Full } else { BackupKind::Incremental };
    let backup = backups(&services)?.create(name, kind).await?;
    Ok((StatusCode::CREATED, axum::Json(facts(&backup))).into_response())
}

/// `GET /api/v3/backups?format=`: one row per backup, oldest first.
pub(super) async fn list(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    principal.require_everything(NEEDED_FOR)?;
    let parameters = Parameters::parse(query.as_deref());
    let format = Format::choose(parameters.get("format"), &headers)?;
    let listed = backups(&services)?.location().list().await?;
    let batch = backup_table::rows(&listed)?;
    encode::respond_with(format, &batch.schema(), &[batch])
}

/// `DELETE /api/v3/backups?name=`.
pub(super) async fn delete(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    principal.require_everything(NEEDED_FOR)?;
    let parameters = Parameters::parse(query.as_deref());
    let removed = backups(&services)?.delete(BackupName::new(parameters.required("name")?)?).await?;
    Ok(axum::Json(json!({ "objects_removed": removed })).into_response())
}

fn backups(services: &Services) -> Result<&Arc<Backups>> {
    let missing = || Error::invalid("this server has no place for backups: start it with --backup-to");
    services.backups.as_ref().ok_or_else(missing)
}

fn facts(backup: &Backup) -> serde_json::Value {
    json!({
        "name": backup.name.as_str(),
        "instant": backup.instant.to_string(),
        "kind": backup.kind.to_string(),
        "databases": backup.databases,
        "tables": backup.tables,
        "rows": backup.rows,
        "files": backup.files,
        "bytes": backup.bytes,
        "copied_files": backup.copied_files,
        "copied_bytes": backup.copied_bytes,
    })
}
