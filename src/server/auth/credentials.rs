//! What a request shows to be let in, in every form that clients send.
//!
//! | form | who sends it |
//! |---|---|
//! | `authorization: Bearer T` | clients of InfluxDB 3, Flight SQL drivers |
//! | `authorization: Token T` | clients of InfluxDB 2, Telegraf; also `Token user:T` |
//! | `authorization: Basic base64(user:T)` | clients of InfluxDB 1, Flight's handshake, curl |
//! | `?p=T`, `?u=user&p=T` on `/write` and `/query` | clients of InfluxDB 1; it beats the header |

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, Uri, header};

use crate::error::{Error, ErrorKind};

/// Longer than any token: JWTs with many claims have some thousand bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The paths on which clients of InfluxDB 1 put the password into the URL.
const PATHS_WITH_PASSWORD: [&str; 2] = ["/write", "/query"];

/// Go's driver sends Basic without padding, every other with it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why credentials can't be understood. The words are those of InfluxDB 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Authorization header was malformed, the request was not in the form of 'Authorization: <auth-scheme> <token>', \
     supported auth-schemes are Bearer, Token and Basic"
)]
pub struct CredentialsError;

impl From<CredentialsError> for Error {
    fn from(error: CredentialsError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

/// A secret that was shown. It never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

impl Credentials {
    /// What a request shows; `None` if nothing.
    ///
    /// # Errors
    /// If the header is of no form that is known.
    pub fn of_request(headers: &HeaderMap, uri: &Uri) -> Result<Option<Self>, CredentialsError> {
        if PATHS_WITH_PASSWORD.contains(&uri.path())
            && let Some((_, password)) =
                form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).find(|(name, _)| name == "p")
            && !password.is_empty()
        {
            return Self::checked(password.into_owned()).map(Some);
        }
        match headers.get(header::AUTHORIZATION) {
            None => Ok(None),
            Some(value) => Self::of_header(value.as_bytes()),
        }
    }

    /// What the value of an authorization header shows; `None` if it is an empty token, as clients send that have none.
    ///
    /// # Errors
    /// If it is of no form that is known.
    pub fn of_header(value: &[u8]) -> Result<Option<Self>, CredentialsError> {
        let text = std::str::from_utf8(value).map_err(|_| CredentialsError)?.trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.to_owned(),
            // `user:password` is what the clients of InfluxDB 2 send to an InfluxDB 1.
            "token" => rest.split_once(':').map_or(rest, |(_, password)| password).to_owned(),
            "basic" => {
                let pair = BASE64.decode(rest).map_err(|_| CredentialsError)?;
                let pair = String::from_utf8(pair).map_err(|_| CredentialsError)?;
                pair.split_once(':').ok_or(CredentialsError)?.1.to_owned()
            }
            _ => return Err(CredentialsError),
        };
        if token.is_empty() { Ok(None) } else { Self::checked(token).map(Some) }
    }

    fn checked(token: String) -> Result<Self, CredentialsError> {
        let good = token.len() <= TOKEN_BYTES_MAX && !token.contains(char::is_whitespace);
        good.then_some(Self(token)).ok_or(CredentialsError)
    }

    /// The secret, to be looked up or given back.
    pub(in crate::server) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(header: Option<&str>, uri: &str) -> Result<Option<String>, CredentialsError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let credentials = Credentials::of_request(&headers, &uri.parse().unwrap())?;
        Ok(credentials.map(|credentials| credentials.0))
    }

    #[test]
    fn every_form_shows_the_token() {
        let query = "/api/v3/query_sql?p=no";
        for header in ["Bearer T", "bearer  T", "Token T", "Token user:T", "Basic dXNlcjpU", "Basic OlQ=", "basic OlQ"]
        {
            assert_eq!(shown(Some(header), query).unwrap().as_deref(), Some("T"), "{header}");
        }
        assert_eq!(shown(None, query).unwrap(), None);
    }

    #[test]
    fn a_password_in_the_url_beats_the_header_where_clients_put_one() {
        assert_eq!(shown(Some("Bearer T"), "/write?u=me&p=a%2Bb").unwrap().as_deref(), Some("a+b"));
        assert_eq!(shown(None, "/query?q=x&p=T").unwrap().as_deref(), Some("T"));
        assert_eq!(shown(Some("Bearer T"), "/write?p=").unwrap().as_deref(), Some("T"));
        assert_eq!(shown(None, "/write?u=me").unwrap(), None);
    }

    #[test]
    fn an_empty_token_is_none() {
        for header in ["Bearer ", "Token", "Basic Og=="] {
            assert_eq!(shown(Some(header), "/").unwrap(), None, "{header}");
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        for header in ["T", "Digest T", "Basic !", "Basic dXNlcg==", "Bearer a b", &long] {
            assert_eq!(shown(Some(header), "/"), Err(CredentialsError), "{header}");
        }
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Credentials("T".to_owned())), "Credentials(hidden)");
    }
}
