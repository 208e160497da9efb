//! Credentials for S3 in a file that somebody else keeps fresh, as sidecars and secret managers do.
//!
//! The file is JSON with `aws_access_key_id`, `aws_secret_access_key` and, for temporary credentials,
//! `aws_session_token`; further fields such as `expiry` are let be. It is looked at before every request and read again
//! when it has changed, so that an expired token is never used longer than the file holds it.
//!
//! Always true: a file that is half written or gone for a moment changes nothing; the credentials read last stay in use.
//!
//! Not here: the credentials of the machine, of a container or of a web identity, which the client finds by itself.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use parking_lot::Mutex;
use serde::Deserialize;

/// Why a file with credentials can't be used. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It can't be read.
    #[error("the file can't be read")]
    Read(#[from] io::Error),
    /// It is not what it should be.
    #[error(
        "it must be a JSON object with aws_access_key_id, aws_secret_access_key and perhaps aws_session_token \
             (line {line}, column {column})"
    )]
    Format {
        /// Where it stops making sense.
        line: usize,
        /// Where it stops making sense.
        column: usize,
    },
}

/// The credentials in a file, read again when it changes.
pub(super) struct FileCredentials {
    path: PathBuf,
    read: Mutex<Reading>,
}

/// What was read last, and from which state of the file.
struct Reading {
    credential: Arc<AwsCredential>,
    stamp: Stamp,
}

/// Tells one state of a file from another: who replaces a file changes its inode, who rewrites it its time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), bytes: metadata.len(), changed: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "aws_access_key_id")]
    key_id: String,
    #[serde(rename = "aws_secret_access_key")]
    secret_key: String,
    #[serde(rename = "aws_session_token")]
    token: Option<String>,
}

impl FileCredentials {
    /// Reads the file for the first time. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self, CredentialsError> {
        // The state before the bytes: a change in between is then seen by the next request.
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        let credential = parse(&std::fs::read(path)?)?;
        Ok(Self { path: path.to_owned(), read: Mutex::new(Reading { credential, stamp }) })
    }

    /// What the file holds now, if it has changed.
    async fn read_if_changed(&self) -> Result<(), CredentialsError> {
        let stamp = Stamp::of(&tokio::fs::metadata(&self.path).await?);
        if self.read.lock().stamp == stamp {
            return Ok(());
        }
        let credential = parse(&tokio::fs::read(&self.path).await?)?;
        *self.read.lock() = Reading { credential, stamp };
        tracing::info!(path = %self.path.display(), "read new credentials for the object store");
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Arc<AwsCredential>, CredentialsError> {
    // Not as a cause: the parser's message may quote what it has read.
    let format = |error: serde_json::Error| CredentialsError::Format { line: error.line(), column: error.column() };
    let Content { key_id, secret_key, token } = serde_json::from_slice(bytes).map_err(format)?;
    Ok(Arc::new(AwsCredential { key_id, secret_key, token: token.filter(|token| !token.is_empty()) }))
}

#[async_trait]
impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        if let Err(error) = self.read_if_changed().await {
            let path = self.path.display();
            tracing::warn!(%path, %error, "could not read the credentials again; those read before stay in use");
        }
        Ok(Arc::clone(&self.read.lock().credential))
    }
}

impl fmt::Debug for FileCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileCredentials").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn key_id(credentials: &FileCredentials) -> String {
        credentials.get_credential().await.unwrap().key_id.clone()
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        let text =
            |key: &str| format!(r#"{{"aws_access_key_id": "{key}", "aws_secret_access_key": "planted", "expiry": 1}}"#);
        std::fs::write(&path, text("first")).unwrap();
        let credentials = FileCredentials::open(&path).unwrap();
        assert_eq!(key_id(&credentials).await, "first");

        std::fs::write(&path, "{\"aws_access_key_id\": \"half").unwrap();
        assert_eq!(key_id(&credentials).await, "first");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(key_id(&credentials).await, "first");

        let fresh = directory.path().join("fresh");
        std::fs::write(&fresh, text("other")).unwrap(); // as long as the first
        std::fs::rename(&fresh, &path).unwrap();
        assert_eq!(key_id(&credentials).await, "other");
        assert!(!format!("{credentials:?}").contains("planted"));
    }

    #[test]
    fn a_file_that_is_no_use_is_refused_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        assert!(matches!(FileCredentials::open(&path), Err(CredentialsError::Read(_))));
        for text in ["", "planted", r#"{"aws_access_key_id": "planted"}"#, r#"{"aws_access_key_id": ["planted"]}"#] {
            std::fs::write(&path, text).unwrap();
            let error = FileCredentials::open(&path).unwrap_err();
            assert!(matches!(error, CredentialsError::Format { .. }) && !error.to_string().contains("planted"));
        }
    }
}
