//! Who is let in, and over what: the settings of authentication and TLS, checked against each other and against the address that is served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::path;
use super::sources::{ConfigError, Sources};
use crate::model::Facility;

/// How authentication is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether anybody is asked for a token.
    pub is_on: bool,
    /// What may be read without one.
    pub open: Vec<Facility>,
    /// A file with the operator's token.
    pub admin_token_file: Option<PathBuf>,
    /// Whose JWTs are believed.
    pub jwt: Option<JwtConfig>,
    /// Where it is written down who did what.
    pub audit_log: Option<PathBuf>,
}

/// The certificate of the server, and whose clients it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the chain.
    pub certificate: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
    /// Whether clients that don't speak TLS 1.3 are sent away.
    pub only_tls13: bool,
    /// PEM file with the authorities of clients.
    pub client_authorities: Option<PathBuf>,
}

impl TlsConfig {
    pub(super) fn from_sources(sources: &Sources<'_>) -> Result<Option<Self>, ConfigError> {
        let (certificate, key) = (file(sources, "tls-cert")?, file(sources, "tls-key")?);
        let client_authorities = file(sources, "tls-client-ca")?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let only_tls13 = sources.required_text("tls-minimum-version")? == "tls-1.3";
                Ok(Some(Self { certificate, key, only_tls13, client_authorities }))
            }
            (Some(_), None) => Err(ConfigError::Missing { setting: "tls-key", reason: "--tls-cert needs its key" }),
            (None, Some(_)) => {
                Err(ConfigError::Missing { setting: "tls-cert", reason: "--tls-key needs its certificate" })
            }
            (None, None) if client_authorities.is_some() => {
                Err(ConfigError::Missing { setting: "tls-cert", reason: "--tls-client-ca is about TLS" })
            }
            (None, None) => Ok(None),
        }
    }
}

/// Whose JWTs are believed, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// A file with a shared secret.
    pub secret_file: Option<PathBuf>,
    /// PEM files with public keys.
    pub key_files: Vec<PathBuf>,
    /// A file with a key set.
    pub jwks_file: Option<PathBuf>,
    /// An address with a key set.
    pub jwks_url: Option<String>,
    /// `iss` must be one of these.
    pub issuers: Vec<String>,
    /// `aud` must name one of these.
    pub audiences: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that holds permissions.
    pub rights_claim: String,
}

impl AuthConfig {
    pub(super) fn from_sources(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        // The demo is for a newcomer at the machine itself: nothing but loopback is served.
        let is_on = !sources.switch("without-auth")? && !sources.switch("demo")?;
        Ok(Self {
            is_on,
            open: open_facilities(sources)?,
            admin_token_file: file(sources, "admin-token-file")?,
            jwt: jwt(sources)?,
            audit_log: file(sources, "audit-log")?,
        })
    }

    /// The address to serve: one that others can reach only if they are asked for a token.
    pub(super) fn address(&self, sources: &Sources<'_>) -> Result<SocketAddr, ConfigError> {
        let (address, setting) = sources.address("http-bind")?;
        let is_private = address.ip().to_canonical().is_loopback();
        if is_private || self.is_on || sources.switch("without-auth-anywhere")? {
            return Ok(address);
        }
        Err(ConfigError::NotLoopback { setting, address })
    }

    /// What the user should know.
    pub(super) fn notices(&self, address: SocketAddr, tls: Option<&TlsConfig>) -> Option<String> {
        let is_private = address.ip().to_canonical().is_loopback();
        match (self.is_on, is_private) {
            (true, false) if tls.is_none() => Some(format!(
                "tokens and rows travel to and from {address} unencrypted: give --tls-cert and --tls-key, or put a proxy that \
                 speaks TLS in front"
            )),
            (true, _) => None,
            (false, true) => {
                Some("nobody is asked for a token: whoever is on this machine may do everything".to_owned())
            }
            (false, false) => {
                Some(format!("nobody is asked for a token: whoever reaches {address} may read and destroy everything"))
            }
        }
    }
}

fn open_facilities(sources: &Sources<'_>) -> Result<Vec<Facility>, ConfigError> {
    let text = sources.required_text("disable-authz")?;
    let mut open = Vec::new();
    for word in words(&text) {
        match Facility::ALL.into_iter().find(|facility| facility.word() == word) {
            Some(facility) => open.push(facility),
            // Of InfluxDB 3: they don't exist here, so nothing of them is closed either.
            None if ["none", "ready", "pprof"].contains(&word) => {}
            None => {
                let said = sources.said("disable-authz");
                let Some((value, setting)) = said else { return Err(super::sources::missing("disable-authz")) };
                let accepts = "health, ping and metrics, separated by commas, or none".to_owned();
                return Err(ConfigError::Value { setting, value, accepts });
            }
        }
    }
    Ok(open)
}

fn jwt(sources: &Sources<'_>) -> Result<Option<JwtConfig>, ConfigError> {
    let key_files = sources.text("auth-jwt-key-file")?.unwrap_or_default();
    let key_files: Result<Vec<_>, _> = words(&key_files).map(|name| path(name, sources.environment)).collect();
    let config = JwtConfig {
        secret_file: file(sources, "auth-jwt-secret-file")?,
        key_files: key_files?,
        jwks_file: file(sources, "auth-jwks-file")?,
        jwks_url: jwks_url(sources)?,
        issuers: list(sources, "auth-jwt-issuer")?,
        audiences: list(sources, "auth-jwt-audience")?,
        leeway: sources.duration("auth-jwt-leeway")?,
        rights_claim: sources.required_text("auth-jwt-rights-claim")?,
    };
    let has_keys = config.secret_file.is_some()
        || !config.key_files.is_empty()
        || config.jwks_file.is_some()
        || config.jwks_url.is_some();
    if !has_keys {
        return Ok(None);
    }
    let reason = "a JWT of anybody who has such a key would be believed, for whatever it was made";
    if config.issuers.is_empty() {
        return Err(ConfigError::Missing { setting: "auth-jwt-issuer", reason });
    }
    if config.audiences.is_empty() {
        return Err(ConfigError::Missing { setting: "auth-jwt-audience", reason });
    }
    Ok(Some(config))
}

/// Keys that come over the network unprotected are whose ever is on the way.
fn jwks_url(sources: &Sources<'_>) -> Result<Option<String>, ConfigError> {
    let Some((value, setting)) = sources.said("auth-jwks-url") else { return Ok(None) };
    let local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    if value.starts_with("https://") || local.iter().any(|start| value.starts_with(start)) {
        return Ok(Some(value));
    }
    let accepts = "a URL that begins with https://, or with http:// on this machine".to_owned();
    Err(ConfigError::Value { setting, value, accepts })
}

fn file(sources: &Sources<'_>, name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    sources.text(name)?.map(|text| path(&text, sources.environment)).transpose()
}

fn list(sources: &Sources<'_>, name: &'static str) -> Result<Vec<String>, ConfigError> {
    Ok(words(&sources.text(name)?.unwrap_or_default()).map(str::to_owned).collect())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}
