//! Who asks, and what may they: the only place that knows tokens.
//!
//! A request shows a token, in whichever way its client can ([`credentials`]); [`Authenticator`] makes a [`Principal`] of it,
//! whose rights come from the catalog ([`tokens`]) or from the claims of a JWT ([`jwt`]). Every interface asks the
//! principal the same questions, and [`crate::model::Rights`] answers them.
//!
//! Always true:
//! - no request reaches a handler without a principal; one that shows nothing has one without rights, and only where that is open;
//! - the text of a token is in no log, error, table or object: only its SHA-512 is kept;
//! - a token that is taken back is worth nothing from the next request on.
//!
//! Not here: what an action is (`model::rights`), and which one a route needs, which the route says.

mod audit;
mod credentials;
mod first;
mod jwt;
mod layer;
mod principal;
mod tokens;

use std::sync::Arc;

use http::{HeaderMap, Uri};

use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Facility, Permission, Rights};

pub use audit::AuditSettings;
pub use credentials::{Credentials, CredentialsError};
pub use first::FirstToken;
pub use jwt::{JwtSettings, KeySource};
pub use principal::{Identity, Principal, PrincipalKind};
pub use tokens::{AdminTokenFile, NewTokenText, OPERATOR};

pub(super) use first::{ensure as ensure_operator, forget_file};
pub(super) use layer::{Guard, Peer, guard};

use jwt::JwtVerifier;

/// How requests are authenticated.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Whether anybody is asked at all. If not, everybody may do everything.
    pub is_on: bool,
    /// What may be read without a token.
    pub open: Vec<Facility>,
    /// A file with the operator's token, to take in place of one that is made.
    pub admin_token_file: Option<std::path::PathBuf>,
    /// Whose JWTs are believed; nobody's without.
    pub jwt: Option<JwtSettings>,
    /// Where it is written down who did what; nowhere without.
    pub audit: Option<AuditSettings>,
}

impl AuthSettings {
    /// Everybody may do everything.
    pub fn off() -> Self {
        Self { is_on: false, open: Vec::new(), admin_token_file: None, jwt: None, audit: None }
    }
}

/// Makes principals of what requests show. Shared as an `Arc`.
#[derive(Debug)]
pub struct Authenticator {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    is_on: bool,
    open: Vec<Facility>,
    jwt: Option<JwtVerifier>,
}

impl Authenticator {
    /// Believes the tokens of the engine's catalog, and the JWTs that the settings name.
    ///
    /// # Errors
    /// `Invalid` if a key can't be used; `Unavailable` if one can't be read.
    pub async fn new(engine: Arc<Engine>, clock: Arc<dyn Clock>, settings: &AuthSettings) -> Result<Self> {
        let jwt = match &settings.jwt {
            Some(jwt) if settings.is_on => Some(JwtVerifier::new(jwt.clone(), Arc::clone(&clock)).await?),
            _ => None,
        };
        Ok(Self { engine, clock, is_on: settings.is_on, open: settings.open.clone(), jwt })
    }

    /// Whether anybody is asked at all.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Stops looking for new keys.
    pub async fn stop(&self) {
        if let Some(jwt) = &self.jwt {
            jwt.stop().await;
        }
    }

    /// Who sends a request with these headers to this address.
    ///
    /// # Errors
    /// `Invalid` if the header is none that carries a token; `Unauthenticated` if it shows no token, or one that is unknown, has
    /// expired or is not to be believed. The message never says which, nor the token; the log says why at level debug.
    pub async fn authenticate(&self, headers: &HeaderMap, uri: &Uri) -> Result<Principal> {
        if !self.is_on {
            return Ok(Principal::everybody());
        }
        match Credentials::of_request(headers, uri)? {
            Some(credentials) => self.principal(&credentials).await,
            None => Err(unauthenticated()),
        }
    }

    /// Whom these credentials make of who shows them.
    ///
    /// # Errors
    /// `Unauthenticated`, as above.
    pub async fn principal(&self, credentials: &Credentials) -> Result<Principal> {
        if !self.is_on {
            return Ok(Principal::everybody());
        }
        let token = credentials.reveal();
        let Some(known) = self.engine.token_by_hash(&tokens::hash(token)) else {
            let jwt = self.jwt.as_ref().filter(|_| jwt::looks_like_one(token)).ok_or_else(unauthenticated)?;
            return jwt.verify(token).await.map_err(|reason| {
                tracing::debug!(reason = %reason, "a JWT is not believed");
                unauthenticated()
            });
        };
        if known.expires_at.is_some_and(|at| at <= self.clock.now()) {
            tracing::debug!(token = known.name, "a token has expired");
            return Err(unauthenticated());
        }
        Ok(Principal::new(known.name.clone(), PrincipalKind::Token, known.rights.clone()))
    }

    /// A principal for what is open to everybody: the rights to read that, and no other.
    pub(super) fn anonymous(&self) -> Principal {
        let open = self.open.iter().map(|facility| Permission::System { facility: Some(*facility) });
        Principal::new(String::new(), PrincipalKind::Nobody, Rights::new(open))
    }

    /// Whether this may be read without a token.
    pub(super) fn is_open(&self, facility: Facility) -> bool {
        !self.is_on || self.open.contains(&facility)
    }
}

fn unauthenticated() -> Error {
    // The words of InfluxDB 3.
    Error::new(ErrorKind::Unauthenticated, "the request was not authenticated")
}
