//! Around every request, HTTP or gRPC: who is it, and let it be written down.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Uri, header};

use super::Authenticator;
use super::audit::{AuditLog, Audited};
use super::principal::{Principal, PrincipalKind};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::Facility;
use crate::server::http::method_label;
use crate::server::limits::Limits;
use crate::server::{Origins, ServerSettings, status};
use crate::telemetry::Telemetry;

/// Where Flight's calls are, and the one of them that carries its token in its body.
const FLIGHT_PATH: &str = "/arrow.flight.protocol.FlightService/";
const HANDSHAKE: &str = "Handshake";

/// Where gRPC's own question for health is.
const HEALTH_PATH: &str = "/grpc.health.v1.Health/";

/// Where an operator changes things, or a user takes data away.
const CHANGING_PATHS: [&str; 4] = ["/api/v3/configure", "/api/v3/delete", "/api/v2/delete", "/api/v3/backups"];

/// The parameters of a URL and the headers that name a database.
const DATABASE_PARAMETERS: [&str; 2] = ["db", "bucket"];
const DATABASE_HEADERS: [&str; 4] = ["database", "bucket", "bucket-name", "iox-namespace-name"];

/// How requests are counted that came no further than this. Of what they asked for, nothing is known to exist.
const REFUSED: &str = "refused";

/// The address at the other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Peer(pub(in crate::server) SocketAddr);

/// What the layer needs.
#[derive(Debug)]
pub(in crate::server) struct Guard {
    authenticator: Arc<Authenticator>,
    audit: Option<AuditLog>,
    limits: Arc<Limits>,
    origins: Origins,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
}

impl Guard {
    /// # Errors
    /// `Unavailable` if the audit log can't be opened.
    pub(in crate::server) fn new(
        authenticator: Arc<Authenticator>,
        settings: &ServerSettings,
        limits: Arc<Limits>,
        telemetry: Arc<Telemetry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let open = |audit| AuditLog::open(audit, &settings.node_id, Arc::clone(&clock));
        let audit = settings.auth.audit.as_ref().map(open).transpose()?;
        Ok(Self { authenticator, audit, limits, origins: settings.origins.clone(), telemetry, clock })
    }

    /// Counts the request. What shows whether the server is there and well is never too much, and nobody in particular is no one
    /// to count for.
    fn admit(&self, principal: &Principal, uri: &Uri) -> Result<()> {
        match principal.identity().kind {
            PrincipalKind::Nobody => Ok(()),
            _ if facility(uri.path()).is_some() => Ok(()),
            _ => self.limits.request(&principal.asker()),
        }
    }

    async fn principal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Principal> {
        let path = uri.path();
        // Browsers ask without a token what they may ask with one.
        let is_open = method == Method::OPTIONS
            || path.strip_prefix(FLIGHT_PATH) == Some(HANDSHAKE)
            || facility(path).is_some_and(|facility| self.authenticator.is_open(facility));
        if is_open && self.authenticator.is_on() {
            return Ok(self.authenticator.anonymous());
        }
        self.authenticator.authenticate(headers, uri).await
    }
}

/// Puts the [`Principal`] to the request, or refuses it; and notes what became of it.
pub(in crate::server) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let started = guard.clock.elapsed();
    let principal = guard.principal(request.method(), request.uri(), request.headers()).await;
    let facts = guard.audit.as_ref().map(|_| Facts::of(&request));
    let is_grpc = [FLIGHT_PATH, HEALTH_PATH].iter().any(|path| request.uri().path().starts_with(path));
    let admitted = principal.as_ref().map_or(Ok(()), |principal| guard.admit(principal, request.uri()));
    let refused = |request: &Request, error: &Error| {
        let response = refusal(error, is_grpc, &guard.origins, request.headers());
        let (method, took) = (method_label(request.method()), guard.clock.elapsed().saturating_sub(started));
        guard.telemetry.request(REFUSED, method, response.status().as_u16(), took);
        response
    };
    let (response, principal) = match (principal, admitted) {
        (Ok(principal), Ok(())) => {
            request.extensions_mut().insert(principal.clone());
            (next.run(request).await, Some(principal))
        }
        (Ok(principal), Err(error)) => (refused(&request, &error), Some(principal)),
        (Err(error), _) => (refused(&request, &error), None),
    };
    if let (Some(audit), Some(facts)) = (&guard.audit, facts) {
        let took = guard.clock.elapsed().saturating_sub(started);
        let request_id = guard.clock.unique_id().to_string();
        let nobody = principal.as_ref().is_none_or(|principal| principal.identity().kind == PrincipalKind::Nobody);
        audit
            .note(&Audited {
                request_id: &request_id,
                peer: facts.peer,
                principal: principal.as_ref().map_or("", |principal| &principal.identity().name),
                by: by(principal.as_ref()),
                action: &facts.action,
                database: facts.database,
                status: response.status().as_u16(),
                grpc_status: grpc_status(response.headers()),
                took,
                changes: facts.changes,
                is_refusal: nobody,
            })
            .await;
    }
    response
}

/// What an audit log wants to know of a request, taken before the request is gone.
struct Facts {
    peer: Option<String>,
    action: String,
    database: Option<String>,
    changes: bool,
}

impl Facts {
    fn of(request: &Request) -> Self {
        let (method, path) = (request.method(), request.uri().path());
        let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        Self {
            peer: request.extensions().get::<Peer>().map(|peer| peer.0.to_string()),
            action: path.strip_prefix(FLIGHT_PATH).map_or_else(|| format!("{method} {path}"), str::to_owned),
            database: database(request.uri(), request.headers()),
            changes: !is_safe && CHANGING_PATHS.iter().any(|changing| path.starts_with(changing)),
        }
    }
}

fn database(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let in_url = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(name, _)| DATABASE_PARAMETERS.contains(&name.as_ref()))
        .map(|(_, value)| value.into_owned());
    let in_headers = || DATABASE_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(str::to_owned);
    in_url.or_else(in_headers)
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn by(principal: Option<&Principal>) -> &'static str {
    principal.map_or(PrincipalKind::Nobody, |principal| principal.identity().kind).word()
}

/// What of the server itself a path shows.
fn facility(path: &str) -> Option<Facility> {
    match path {
        "/health" | "/api/v1/health" => Some(Facility::Health),
        path if path.starts_with(HEALTH_PATH) => Some(Facility::Health),
        "/ping" => Some(Facility::Ping),
        "/metrics" => Some(Facility::Metrics),
        _ => None,
    }
}

fn refusal(error: &Error, is_grpc: bool, origins: &Origins, asked: &HeaderMap) -> Response {
    if is_grpc {
        return status::grpc(error).into_http();
    }
    let mut response = status::error_response(error).into_response();
    // So that a page can tell its user.
    origins.allow(asked.get(header::ORIGIN), response.headers_mut());
    response
}
