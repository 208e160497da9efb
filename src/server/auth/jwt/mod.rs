//! JSON Web Tokens (RFC 7519, with the advice of RFC 8725): signed by an issuer who is believed, for us, and not too old.
//!
//! The library's defaults are lax, so everything is said: each key has its own algorithms, and what the token claims to be
//! signed with counts only if it is one of them; issuer, audience, subject and expiry must be there and right; a token that is
//! not valid yet, or that demands what we don't know (`crit`), is refused.
//!
//! Not here: where keys come from (`keys`), and what claims allow (`claims`).

mod claims;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Validation, decode, decode_header};
use moka::future::Cache;
use serde_json::{Map, Value};

use super::principal::Principal;
use super::tokens;
use crate::clock::Clock;
use crate::engine::TokenHash;
use crate::error::Result;
use crate::model::Timestamp;

pub use keys::KeySource;

use keys::KeyRing;

/// A key without a name fits every token without one; more than this many are not tried.
const KEYS_TRIED_MAX: usize = 16;

/// Tokens that were verified not long ago; checking an RSA signature takes longer than a small query.
const REMEMBERED_MAX: u64 = 10_000;

/// How long a token is believed without looking at its signature again. Its expiry is looked at every time.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// Where the keys are.
    pub sources: Vec<KeySource>,
    /// Who may have issued a token (`iss`).
    pub issuers: Vec<String>,
    /// For whom it must be (`aud`): one of these.
    pub audiences: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that holds permissions.
    pub rights_claim: String,
}

/// Why a token is not believed: for the log, never for who shows it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Disbelief {
    #[error("it is malformed: {0}")]
    Malformed(#[from] jsonwebtoken::errors::Error),
    #[error("it demands \"crit\", of which nothing is known")]
    Critical,
    #[error("no key fits it (kid {kid:?}, alg {algorithm:?})")]
    NoKey { kid: Option<String>, algorithm: jsonwebtoken::Algorithm },
    #[error("its \"{claim}\" is {found}")]
    Claim { claim: &'static str, found: String },
    #[error("it expired at {at}")]
    Expired { at: Timestamp },
    #[error("it is not valid before {at}")]
    Early { at: Timestamp },
    #[error(transparent)]
    Permission(#[from] crate::model::PermissionError),
}

/// Makes principals of tokens.
#[derive(Debug)]
pub(super) struct JwtVerifier {
    settings: JwtSettings,
    keys: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    remembered: Cache<TokenHash, Believed>,
}

/// A token whose signature was good.
#[derive(Debug, Clone)]
struct Believed {
    principal: Principal,
    expires_at: Timestamp,
    valid_from: Option<Timestamp>,
}

/// Whether a text may be a JWT: it has three parts.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl JwtVerifier {
    /// Reads the keys, and goes on looking for new ones.
    ///
    /// # Errors
    /// `Invalid` if a key is too weak or no key; `Unavailable` if a file can't be read. An address that does not answer
    /// is no error: it is asked again.
    pub(super) async fn new(settings: JwtSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let keys = KeyRing::open(settings.sources.clone(), Arc::clone(&clock)).await?;
        let remembered = Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(REMEMBERED_FOR).build();
        Ok(Self { settings, keys, clock, remembered })
    }

    /// Stops looking for new keys.
    pub(super) async fn stop(&self) {
        self.keys.stop().await;
    }

    /// Who shows this token.
    pub(super) async fn verify(&self, token: &str) -> Result<Principal, Disbelief> {
        let hash = tokens::hash(token);
        let believed = match self.remembered.get(&hash).await {
            Some(believed) => believed,
            None => {
                let believed = self.verify_anew(token).await?;
                self.remembered.insert(hash, believed.clone()).await;
                believed
            }
        };
        self.check_times(&believed)?;
        Ok(believed.principal)
    }

    async fn verify_anew(&self, token: &str) -> Result<Believed, Disbelief> {
        let header = decode_header(token)?;
        if header.crit.is_some() || header.extras.inner().contains_key("crit") {
            return Err(Disbelief::Critical);
        }
        let (kid, algorithm) = (header.kid, header.alg);
        let mut candidates = self.keys.find(kid.as_deref(), algorithm);
        if candidates.is_empty() && self.keys.refresh_for_unknown().await {
            candidates = self.keys.find(kid.as_deref(), algorithm);
        }
        let mut last = Disbelief::NoKey { kid, algorithm };
        for key in candidates.iter().take(KEYS_TRIED_MAX) {
            match decode::<Map<String, Value>>(token, &key.decoding, &self.validation(&key.algorithms)) {
                Ok(data) => return self.believed(&data.claims),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// What the library is to check. Times are checked here, with our clock.
    fn validation(&self, algorithms: &[jsonwebtoken::Algorithm]) -> Validation {
        let mut validation = Validation { algorithms: algorithms.to_vec(), ..Validation::default() };
        validation.set_audience(&self.settings.audiences);
        validation.set_issuer(&self.settings.issuers);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn believed(&self, claims: &Map<String, Value>) -> Result<Believed, Disbelief> {
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| Disbelief::Claim { claim: "sub", found: "no text".to_owned() })?;
        // The library takes a list of issuers too, of which one will do; RFC 7519 knows one issuer, which is a text.
        let issuer = claims.get("iss").and_then(Value::as_str);
        let issuer = issuer.filter(|issuer| self.settings.issuers.iter().any(|known| known == issuer));
        let issuer =
            issuer.ok_or_else(|| Disbelief::Claim { claim: "iss", found: "not one text of ours".to_owned() })?;
        let rights = claims::rights(claims, &self.settings.rights_claim)?;
        Ok(Believed {
            principal: Principal::of_issuer(subject.to_owned(), issuer.to_owned(), rights),
            expires_at: claims::instant(claims, "exp")?.ok_or_else(|| missing("exp"))?,
            valid_from: claims::instant(claims, "nbf")?,
        })
    }

    fn check_times(&self, believed: &Believed) -> Result<(), Disbelief> {
        let now = self.clock.now();
        if believed.expires_at.after(self.settings.leeway) <= now {
            return Err(Disbelief::Expired { at: believed.expires_at });
        }
        match believed.valid_from {
            Some(at) if at > now.after(self.settings.leeway) => Err(Disbelief::Early { at }),
            _ => Ok(()),
        }
    }
}

fn missing(claim: &'static str) -> Disbelief {
    Disbelief::Claim { claim, found: "missing".to_owned() }
}
