//! The keys by which tokens are believed: from files and addresses, looked at again and again, so that keys can be changed while
//! the server runs.
//!
//! Always true:
//! - a key verifies what its kind allows and nothing else: a secret never stands for a public key, nor the other way round;
//! - keys that are weak, or private where a public one is wanted, are refused by name;
//! - what can't be read again keeps the keys that it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use reqwest::Url;
use tokio::sync::Mutex;

use super::super::tokens::read_secret;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::tasks::Tasks;

/// RFC 7518, 3.2: as long as the hash at least.
const SECRET_BYTES_MIN: usize = 32;

/// RFC 7518, 3.3: 2048 bits at least.
const RSA_BYTES_MIN: usize = 256;

/// An uncompressed point of P-256 and of P-384: a byte and two coordinates.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;

/// How often files are read again.
const FILES_PERIOD: Duration = Duration::from_secs(10);

/// How often addresses are asked again.
const ADDRESS_PERIOD: Duration = Duration::from_secs(300);

/// How soon an address is asked again because a token names a key that is unknown: whoever makes tokens up must not make
/// us ask all the time.
const UNKNOWN_KEY_PERIOD: Duration = Duration::from_secs(30);

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer of an address.
const SET_BYTES_MAX: usize = 1 << 20;

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a secret of at least 32 bytes for HS256, HS384 and HS512, which nobody else can read.
    SecretFile(PathBuf),
    /// A PEM file with a public key: RSA, P-256, P-384 or Ed25519.
    PublicKeyFile(PathBuf),
    /// A file with a JSON Web Key Set (RFC 7517).
    JwksFile(PathBuf),
    /// An address with such a set: https, or http on this machine.
    JwksUrl(Url),
}

/// A key, and what it may have signed with.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    /// All of one family.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

/// All keys that count at the moment.
#[derive(Debug)]
pub(super) struct KeyRing {
    sources: Vec<KeySource>,
    keys: ArcSwap<Vec<Vec<Arc<Key>>>>,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// When addresses were asked last. Held while they are.
    asked: Mutex<Option<Duration>>,
    tasks: Tasks,
}

impl KeyRing {
    /// Reads all sources and goes on looking at them.
    ///
    /// # Errors
    /// `Invalid` if a file holds no key that can be used; `Unavailable` if it can't be read.
    pub(super) async fn open(sources: Vec<KeySource>, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let failed = |error| Error::with_source(ErrorKind::Internal, "could not set up requests for keys", error);
        // Who is asked is the operator's choice and not that of whoever answers.
        let builder = reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let http = builder.build().map_err(failed)?;
        let keys = ArcSwap::from_pointee(sources.iter().map(|_| Vec::new()).collect());
        let ring = Arc::new(Self { sources, keys, http, clock, asked: Mutex::default(), tasks: Tasks::new() });
        for at in 0..ring.sources.len() {
            match ring.read(at).await {
                Ok(keys) => ring.replace(at, &keys),
                Err(error) if matches!(ring.sources[at], KeySource::JwksUrl(_)) => {
                    tracing::warn!(error = error.report(), "no keys for JWTs yet; asking again");
                }
                Err(error) => return Err(error),
            }
        }
        *ring.asked.lock().await = Some(ring.clock.elapsed());
        let watched = Arc::downgrade(&ring);
        ring.tasks.spawn("keys of JWTs", |stop| async move {
            while stop.run_until_cancelled(tokio::time::sleep(FILES_PERIOD)).await.is_some() {
                let Some(ring) = watched.upgrade() else { return };
                ring.look_again().await;
            }
        });
        Ok(ring)
    }

    pub(super) async fn stop(&self) {
        self.tasks.stop().await;
    }

    /// The keys that may have signed a token which names this key and algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Arc<Key>> {
        let keys = self.keys.load();
        let all = || keys.iter().flatten().filter(|key| key.algorithms.contains(&algorithm));
        let named: Vec<_> = all().filter(|key| key.id.is_some() && key.id.as_deref() == id).cloned().collect();
        if !named.is_empty() {
            return named;
        }
        // Keys of files have no name; a token without one may be of any.
        all().filter(|key| key.id.is_none() || id.is_none()).cloned().collect()
    }

    /// Asks the addresses because no key fits, if that was not done just now. Whether it was done.
    pub(super) async fn refresh_for_unknown(&self) -> bool {
        if !self.sources.iter().any(|source| matches!(source, KeySource::JwksUrl(_))) {
            return false;
        }
        self.ask_addresses(UNKNOWN_KEY_PERIOD).await
    }

    /// Reads the files again, and asks the addresses if it is time.
    pub(super) async fn look_again(&self) {
        for at in 0..self.sources.len() {
            if !matches!(self.sources[at], KeySource::JwksUrl(_)) {
                self.read_again(at).await;
            }
        }
        self.ask_addresses(ADDRESS_PERIOD).await;
    }

    /// Asks the addresses, unless that is less than `period` ago.
    async fn ask_addresses(&self, period: Duration) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| self.clock.elapsed().saturating_sub(at) < period) {
            return false;
        }
        for at in 0..self.sources.len() {
            if matches!(self.sources[at], KeySource::JwksUrl(_)) {
                self.read_again(at).await;
            }
        }
        *asked = Some(self.clock.elapsed());
        true
    }

    async fn read_again(&self, at: usize) {
        match self.read(at).await {
            Ok(keys) => self.replace(at, &keys),
            Err(error) => {
                tracing::warn!(error = error.report(), "could not look for new keys of JWTs; the old ones stay");
            }
        }
    }

    async fn read(&self, at: usize) -> Result<Vec<Arc<Key>>> {
        let keys = match &self.sources[at] {
            KeySource::SecretFile(path) => vec![secret(path)?],
            KeySource::PublicKeyFile(path) => vec![public_key(path)?],
            KeySource::JwksFile(path) => key_set(&read(path)?, &path.display().to_string(), Secrets::Taken)?,
            KeySource::JwksUrl(url) => key_set(&self.fetch(url).await?, url.as_str(), Secrets::Refused)?,
        };
        Ok(keys.into_iter().map(Arc::new).collect())
    }

    fn replace(&self, at: usize, new: &[Arc<Key>]) {
        self.keys.rcu(|keys| {
            let mut keys = Vec::clone(keys);
            keys[at] = new.to_vec();
            keys
        });
    }

    async fn fetch(&self, url: &Url) -> Result<Vec<u8>> {
        let failed =
            |error| Error::with_source(ErrorKind::Unavailable, format!("could not fetch keys from \"{url}\""), error);
        let response = self.http.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(failed)?;
        if !response.status().is_success() {
            let message = format!("\"{url}\" answers with status {} and no keys", response.status());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&bytes);
            if body.len() > SET_BYTES_MAX {
                return Err(Error::invalid(format!("\"{url}\" answers with more than {SET_BYTES_MAX} bytes")));
            }
        }
        Ok(body)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::with_source(ErrorKind::Unavailable, format!("could not read \"{}\"", path.display()), error)
    })
}

fn secret(path: &Path) -> Result<Key> {
    let text = read_secret(path)?;
    let secret = text.trim_end_matches(['\r', '\n']).as_bytes();
    if secret.len() < SECRET_BYTES_MIN {
        let message = format!("the secret in \"{}\" has less than {SECRET_BYTES_MIN} bytes", path.display());
        return Err(Error::invalid(message));
    }
    let algorithms = AlgorithmFamily::Hmac.algorithms().to_vec();
    Ok(Key { id: None, algorithms, decoding: DecodingKey::from_secret(secret) })
}

fn public_key(path: &Path) -> Result<Key> {
    let pem = read(path)?;
    let unfit = |reason: &str| Error::invalid(format!("\"{}\" can't be used as a key: {reason}", path.display()));
    if String::from_utf8_lossy(&pem).contains("PRIVATE KEY") {
        return Err(unfit("it holds a private key, which belongs to the issuer alone; give the public one"));
    }
    let bytes = |key: &DecodingKey| key.try_get_as_bytes().map_or(0, <[u8]>::len);
    if let Ok(key) = DecodingKey::from_rsa_pem(&pem) {
        // The modulus and a little more.
        if bytes(&key) < RSA_BYTES_MIN {
            return Err(unfit("an RSA key has to have 2048 bits"));
        }
        return Ok(Key { id: None, algorithms: rsa_algorithms(), decoding: key });
    }
    if let Ok(key) = DecodingKey::from_ec_pem(&pem) {
        let algorithm = match bytes(&key) {
            P256_POINT_BYTES => Algorithm::ES256,
            P384_POINT_BYTES => Algorithm::ES384,
            _ => return Err(unfit("of elliptic curves only P-256 and P-384 are known")),
        };
        return Ok(Key { id: None, algorithms: vec![algorithm], decoding: key });
    }
    match DecodingKey::from_ed_pem(&pem) {
        Ok(key) => Ok(Key { id: None, algorithms: vec![Algorithm::EdDSA], decoding: key }),
        Err(_) => Err(unfit("it is no public key in PEM of RSA, P-256, P-384 or Ed25519")),
    }
}

fn rsa_algorithms() -> Vec<Algorithm> {
    AlgorithmFamily::Rsa.algorithms().to_vec()
}

/// Whether a set may hold secrets: one that everybody can fetch may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Taken,
    Refused,
}

fn key_set(json: &[u8], place: &str, secrets: Secrets) -> Result<Vec<Key>> {
    let unfit = |error| {
        let message = format!("\"{place}\" holds no JSON Web Key Set");
        Error::with_source(ErrorKind::Invalid, message, error)
    };
    let set: JwkSet = serde_json::from_slice(json).map_err(unfit)?;
    let mut keys = Vec::with_capacity(set.keys.len());
    for jwk in set.keys {
        let id = jwk.common.key_id.clone();
        match key_of(&jwk, secrets) {
            Ok(key) => keys.push(key),
            // A set is for many; its other keys count.
            Err(reason) => tracing::debug!(place, ?id, reason, "a key for JWTs is passed over"),
        }
    }
    if keys.is_empty() {
        return Err(Error::invalid(format!("\"{place}\" holds no key that can be used for JWTs")));
    }
    Ok(keys)
}

fn key_of(jwk: &Jwk, secrets: Secrets) -> Result<Key, &'static str> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures");
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => rsa_algorithms(),
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return Err("its curve is unknown"),
        },
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        AlgorithmParameters::OctetKey(_) if secrets == Secrets::Taken => AlgorithmFamily::Hmac.algorithms().to_vec(),
        AlgorithmParameters::OctetKey(_) => return Err("it is a secret in a set that everybody can fetch"),
        _ => return Err("its kind is unknown"),
    };
    if let Some(algorithm) = jwk.common.key_algorithm {
        algorithms.retain(|allowed| format!("{allowed:?}") == algorithm.to_string());
        if algorithms.is_empty() {
            return Err("its algorithm does not fit its kind");
        }
    }
    let decoding = DecodingKey::from_jwk(jwk).map_err(|_| "its values are malformed")?;
    let too_weak = match decoding.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => n.len() < RSA_BYTES_MIN,
        jsonwebtoken::DecodingKeyKind::SecretOrDer(bytes) => bytes.len() < SECRET_BYTES_MIN,
    };
    if too_weak {
        return Err("it is too short");
    }
    Ok(Key { id: jwk.common.key_id.clone(), algorithms, decoding })
}
