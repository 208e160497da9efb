//! Tokens of every kind of key, and what must never be believed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::clock::ManualClock;

const NOW_SECONDS: i64 = 1_700_000_000;

const SECRET: &str = "a secret that is long enough for HS256, or is it";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/auth").join(name)
}

fn private(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

fn settings(sources: Vec<KeySource>) -> JwtSettings {
    JwtSettings {
        sources,
        issuers: vec!["https://issuer".to_owned()],
        audiences: vec!["flightline".to_owned()],
        leeway: Duration::from_secs(10),
        rights_claim: "rights".to_owned(),
    }
}

/// A file with a secret that only its owner can read.
fn secret_file(directory: &Path, secret: &str) -> PathBuf {
    let path = directory.join("secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn verifier_of(sources: Vec<KeySource>) -> (JwtVerifier, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(NOW_SECONDS * 1_000_000_000)));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (JwtVerifier::new(settings(sources), shared).await.unwrap(), clock)
}

async fn verifier_with_all_keys() -> JwtVerifier {
    let directory = tempfile::tempdir().unwrap();
    let mut sources: Vec<_> = ["rsa.pub.pem", "ec256.pub.pem", "ec384.pub.pem", "ed25519.pub.pem"]
        .map(|name| KeySource::PublicKeyFile(data(name)))
        .to_vec();
    sources.push(KeySource::SecretFile(secret_file(directory.path(), SECRET)));
    verifier_of(sources).await.0
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer", "aud": "flightline", "sub": "telegraf", "exp": NOW_SECONDS + 60,
        "rights": ["db:metrics:write"],
    })
}

/// The claims with some others in place of theirs; null takes one away.
fn with(changes: &Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET.as_bytes())
}

fn text_of(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[tokio::test]
async fn a_token_of_every_kind_of_key_is_believed() {
    let verifier = verifier_with_all_keys().await;
    let rsa = EncodingKey::from_rsa_pem(&private("rsa.pem")).unwrap();
    let keys = [
        (Algorithm::HS256, secret()),
        (Algorithm::HS384, secret()),
        (Algorithm::HS512, secret()),
        (Algorithm::RS256, rsa.clone()),
        (Algorithm::RS512, rsa.clone()),
        (Algorithm::PS256, rsa.clone()),
        (Algorithm::PS384, rsa),
        (Algorithm::ES256, EncodingKey::from_ec_pem(&private("ec256.pem")).unwrap()),
        (Algorithm::ES384, EncodingKey::from_ec_pem(&private("ec384.pem")).unwrap()),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(&private("ed25519.pem")).unwrap()),
    ];
    for (algorithm, key) in keys {
        let token = signed(algorithm, &key, &claims());
        let principal = verifier.verify(&token).await.unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        assert_eq!(principal.identity().name, "telegraf");
        assert_eq!(principal.rights().permissions()[0].to_string(), "db:metrics:write");

        // The last character may carry bits that mean nothing; the first of the signature does not.
        let at = token.rfind('.').unwrap() + 1;
        let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
        let flipped = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        assert!(verifier.verify(&flipped).await.is_err(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_token_must_be_from_and_for_the_right_ones_and_of_now() {
    let verifier = verifier_with_all_keys().await;
    let verdict = async |changes: Value| {
        let token = signed(Algorithm::HS256, &secret(), &with(&changes));
        verifier.verify(&token).await.map(|_| ()).map_err(|error| error.to_string())
    };
    for good in [
        json!({}),
        json!({ "aud": ["other", "flightline"] }),
        json!({ "exp": NOW_SECONDS - 9 }),
        json!({ "nbf": NOW_SECONDS + 9 }),
        json!({ "rights": null }),
    ] {
        verdict(good).await.unwrap();
    }
    for bad in [
        json!({ "iss": null }),
        json!({ "iss": "https://issuer.evil" }),
        json!({ "iss": ["https://issuer", "https://evil"] }),
        json!({ "aud": null }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "exp": null }),
        json!({ "exp": NOW_SECONDS - 10 }),
        json!({ "exp": (NOW_SECONDS + 60).to_string() }),
        json!({ "nbf": NOW_SECONDS + 11 }),
        json!({ "nbf": "tomorrow" }),
        json!({ "rights": ["db:metrics:everything"] }),
    ] {
        assert!(verdict(bad.clone()).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_token_that_was_believed_expires_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let source = KeySource::SecretFile(secret_file(directory.path(), SECRET));
    let (verifier, clock) = verifier_of(vec![source]).await;
    let token = signed(Algorithm::HS256, &secret(), &claims());
    verifier.verify(&token).await.unwrap();
    clock.advance(Duration::from_secs(71));
    assert!(matches!(verifier.verify(&token).await, Err(Disbelief::Expired { .. })));
}

#[tokio::test]
async fn what_a_token_says_of_its_signature_does_not_choose_the_key() {
    let verifier = verifier_with_all_keys().await;
    let good = signed(Algorithm::RS256, &EncodingKey::from_rsa_pem(&private("rsa.pem")).unwrap(), &claims());
    let (signing_input, signature) = good.rsplit_once('.').unwrap();
    let payload = signing_input.split_once('.').unwrap().1;

    // The public key as the secret of an HMAC: everybody has it.
    for name in ["rsa.pub.pem", "ec256.pub.pem"] {
        let confused = EncodingKey::from_secret(&private(name));
        assert!(verifier.verify(&signed(Algorithm::HS256, &confused, &claims())).await.is_err(), "{name}");
    }
    for algorithm in [json!("none"), json!("None"), json!("HS256"), json!("ES256"), json!(""), Value::Null] {
        let header = text_of(&json!({ "typ": "JWT", "alg": algorithm }));
        for signature in ["", signature] {
            let token = format!("{header}.{payload}.{signature}");
            assert!(verifier.verify(&token).await.is_err(), "{algorithm} {signature}");
        }
    }
    // A demand that is not understood (RFC 7515, 4.1.11).
    let mut demanding = Header::new(Algorithm::HS256);
    demanding.crit = Some(vec!["b64".to_owned()]);
    let token = encode(&demanding, &claims(), &secret()).unwrap();
    assert!(matches!(verifier.verify(&token).await, Err(Disbelief::Critical)));
}

#[tokio::test]
async fn what_is_no_token_is_no_token() {
    let verifier = verifier_with_all_keys().await;
    let good = signed(Algorithm::HS256, &secret(), &claims());
    for length in 0..good.len() {
        assert!(verifier.verify(&good[..length]).await.is_err(), "{length}");
    }
    for bad in ["..", "a.b.c", "{}.{}.{}", &format!("{good}.x"), &format!("x.{good}"), &"A".repeat(100_000)] {
        assert!(verifier.verify(bad).await.is_err());
    }
}

#[tokio::test]
async fn keys_that_are_weak_private_or_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let open = async |source: KeySource| {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(0)));
        JwtVerifier::new(settings(vec![source]), clock).await.map(|_| ()).map_err(|error| error.report())
    };
    let refused = async |source: KeySource, reason: &str| {
        let error = open(source).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    };
    refused(KeySource::SecretFile(secret_file(directory.path(), "short")), "less than 32 bytes").await;
    refused(KeySource::PublicKeyFile(data("rsa.pem")), "private key").await;
    refused(KeySource::PublicKeyFile(data("rsa-1024.pub.pem")), "2048 bits").await;
    refused(KeySource::PublicKeyFile(data("README.md")), "no public key").await;
    refused(KeySource::PublicKeyFile(data("missing")), "could not read").await;
    for (set, reason) in [
        (json!({}), "no JSON Web Key Set"),
        (json!({ "keys": [] }), "no key that can be used"),
        (json!({ "keys": [{ "kty": "oct", "k": "c2hvcnQ" }] }), "no key that can be used"),
    ] {
        std::fs::write(&path, set.to_string()).unwrap();
        refused(KeySource::JwksFile(path.clone()), reason).await;
    }
    std::fs::write(directory.path().join("open"), SECRET).unwrap();
    refused(KeySource::SecretFile(directory.path().join("open")), "others can read it").await;
}

#[tokio::test]
async fn keys_of_a_set_are_found_by_name_and_can_be_changed_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let key = EncodingKey::from_ec_pem(&private("ec256.pem")).unwrap();
    let publish = |id: &str| {
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        std::fs::write(&path, json!({ "keys": [jwk, { "kty": "strange" }] }).to_string()).unwrap();
    };
    publish("one");
    let (verifier, _clock) = verifier_of(vec![KeySource::JwksFile(path.clone())]).await;
    let token = |id: Option<&str>, at: i64| {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &with(&json!({ "iat": at })), &key).unwrap()
    };
    verifier.verify(&token(Some("one"), 1)).await.unwrap();
    verifier.verify(&token(None, 1)).await.unwrap();
    let unknown = verifier.verify(&token(Some("two"), 1)).await.unwrap_err();
    assert!(matches!(unknown, Disbelief::NoKey { .. }), "{unknown}");

    publish("two");
    verifier.keys.look_again().await;
    verifier.verify(&token(Some("two"), 2)).await.unwrap();
    assert!(verifier.verify(&token(Some("one"), 2)).await.is_err());

    // What can't be read any more keeps its keys.
    std::fs::write(&path, "").unwrap();
    verifier.keys.look_again().await;
    verifier.verify(&token(Some("two"), 3)).await.unwrap();
}

#[tokio::test]
async fn a_secret_in_a_set_that_everybody_can_fetch_is_no_key() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
    let shared = json!({ "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let mut public =
        Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(&private("rsa.pem")).unwrap(), Algorithm::RS256).unwrap();
    public.common.key_id = Some("p".to_owned());
    let set = json!({ "keys": [shared, public] });
    let router = axum::Router::new().route("/keys", axum::routing::get(async move || set.to_string()));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let (verifier, _clock) = verifier_of(vec![KeySource::JwksUrl(url)]).await;
    let named = |id: &str, algorithm| Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
    let rsa = EncodingKey::from_rsa_pem(&private("rsa.pem")).unwrap();
    verifier.verify(&encode(&named("p", Algorithm::RS256), &claims(), &rsa).unwrap()).await.unwrap();
    // The set says RS256 of this key, so nothing else counts.
    assert!(verifier.verify(&encode(&named("p", Algorithm::RS512), &claims(), &rsa).unwrap()).await.is_err());
    let by_secret = encode(&named("s", Algorithm::HS256), &claims(), &secret()).unwrap();
    assert!(verifier.verify(&by_secret).await.is_err());
    serving.abort();
}
