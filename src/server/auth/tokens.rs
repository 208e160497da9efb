//! Tokens as text: made of random bits, known by their hash, kept in a file for the operator.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::engine::TokenHash;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;

/// The name of the token that may do everything and is there from the first start.
pub const OPERATOR: &str = "_admin";

/// What the tokens of InfluxDB 3 begin with, and so ours.
const PREFIX: &str = "apiv3_";

/// Random bytes of a token.
const RANDOM_BYTES: usize = 64;

/// Shorter ones can be guessed.
const TEXT_BYTES_MIN: usize = 32;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The text of a token that was made just now: shown once, and never again. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTokenText(String);

impl std::fmt::Debug for NewTokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewTokenText(hidden)")
    }
}

impl NewTokenText {
    /// 512 random bits as text.
    ///
    /// # Errors
    /// `Internal` if the system gives no random bits.
    pub fn draw() -> Result<Self> {
        let mut bytes = [0; RANDOM_BYTES];
        let failed = |_| Error::internal("the system gives no random bits");
        SystemRandom::new().fill(&mut bytes).map_err(failed)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What it hashes to.
    pub fn hash(&self) -> TokenHash {
        hash(&self.0)
    }
}

/// What a token hashes to.
pub(super) fn hash(token: &str) -> TokenHash {
    let digest = digest::digest(&digest::SHA512, token.as_bytes());
    let mut bytes = [0; 64];
    bytes.copy_from_slice(digest.as_ref());
    TokenHash::new(bytes)
}

/// The operator's token in a file, as InfluxDB 3 writes it: `{"token","name","expiry_millis"}`. A file with nothing but the
/// token is understood too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminTokenFile {
    token: String,
    #[serde(default = "operator")]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry_millis: Option<i64>,
}

impl std::fmt::Debug for AdminTokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminTokenFile").field("name", &self.name).finish_non_exhaustive()
    }
}

fn operator() -> String {
    OPERATOR.to_owned()
}

impl AdminTokenFile {
    /// The content of a file for this token.
    pub fn new(token: &NewTokenText, name: String, expires_at: Option<Timestamp>) -> Self {
        let expiry_millis = expires_at.map(|at| at.as_nanos() / NANOS_PER_MILLI);
        Self { token: token.0.clone(), name, expiry_millis }
    }

    /// Reads such a file, which nobody else may be able to read.
    ///
    /// # Errors
    /// `Unavailable` if it can't be read; `Invalid` if others can read it too, or if it holds no token.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_secret(path)?;
        let text = text.trim();
        let file = match text.starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| {
                let message = format!("no token is in \"{}\"", path.display());
                Error::with_source(ErrorKind::Invalid, message, error)
            })?,
            false => Self { token: text.to_owned(), name: operator(), expiry_millis: None },
        };
        if file.token.len() < TEXT_BYTES_MIN || file.token.contains(char::is_whitespace) {
            let message = format!(
                "the token in \"{}\" must be one word of at least {TEXT_BYTES_MIN} bytes; make one with `flightline create token --admin --offline`",
                path.display()
            );
            return Err(Error::invalid(message));
        }
        Ok(file)
    }

    /// Writes the file for its owner alone. A file that is there already stays.
    ///
    /// # Errors
    /// `Conflict` if there is a file; `Unavailable` if it can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::with_source(ErrorKind::Internal, "could not write a token as JSON", error))?;
        write_secret(path, &format!("{text}\n"))
    }

    /// What it is called; [`OPERATOR`] unless the file says otherwise.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it hashes to.
    pub fn hash(&self) -> TokenHash {
        hash(&self.token)
    }

    /// From when on it is worth nothing.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expiry_millis.map(|millis| Timestamp::from_nanos(millis.saturating_mul(NANOS_PER_MILLI)))
    }
}

/// Writes a new file that only its owner can read, and has it on the disk when it returns.
///
/// # Errors
/// `Conflict` if there is a file; `Unavailable` if it can't be written.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            _ => ErrorKind::Unavailable,
        };
        Error::with_source(kind, format!("could not write \"{}\"", path.display()), error)
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads a file that only its owner can read.
///
/// # Errors
/// `Unavailable` if it can't be read; `Invalid` if others can read it too.
pub(super) fn read_secret(path: &Path) -> Result<String> {
    let failed =
        |error| Error::with_source(ErrorKind::Unavailable, format!("could not read \"{}\"", path.display()), error);
    let mode = fs::metadata(path).map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        let message = format!(
            "\"{}\" holds a secret and others can read it (mode {:03o}): say `chmod 600` to it",
            path.display(),
            mode & 0o777
        );
        return Err(Error::invalid(message));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_looks_like_those_of_influxdb_3_and_is_never_the_same() {
        let (a, b) = (NewTokenText::draw().unwrap(), NewTokenText::draw().unwrap());
        assert!(a.reveal().starts_with("apiv3_") && a.reveal().len() == 6 + 86, "{}", a.reveal());
        assert!(a != b && a.hash() != b.hash());
        // SHA-512 of "abc", FIPS 180-4.
        assert!(hash("abc").to_string().starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"));
    }

    #[test]
    fn the_file_of_a_token_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.json");
        let token = NewTokenText::draw().unwrap();
        let file = AdminTokenFile::new(&token, "ops".to_owned(), Some(Timestamp::from_nanos(5_000_000)));
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = AdminTokenFile::read(&path).unwrap();
        assert_eq!((read.name(), read.hash(), read.expires_at()), ("ops", token.hash(), file.expires_at()));
        assert_eq!(file.write(&path).unwrap_err().kind(), ErrorKind::Conflict);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = AdminTokenFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("others can read it (mode 640)"), "{error}");
    }

    #[test]
    fn a_file_may_hold_nothing_but_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = NewTokenText::draw().unwrap();
        write_secret(&path, &format!("{}\n", token.reveal())).unwrap();
        let read = AdminTokenFile::read(&path).unwrap();
        assert_eq!((read.name(), read.hash(), read.expires_at()), (OPERATOR, token.hash(), None));
        fs::write(&path, "short").unwrap();
        assert_eq!(AdminTokenFile::read(&path).unwrap_err().kind(), ErrorKind::Invalid);
        fs::write(&path, "{}").unwrap();
        assert_eq!(AdminTokenFile::read(&path).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
