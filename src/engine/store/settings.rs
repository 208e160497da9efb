//! Which store, with what credentials, and how patiently it is spoken to.
//!
//! Not here: which flag or variable says so (`config`), and what the clients make of it (see `remote`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use object_store::RetryConfig;

/// Which store, and how to get in. `Debug` shows no secret.
///
/// What is `None` or `false` here falls back to the environment variables that the stores' own tools use
/// (`AWS_…`, `GOOGLE_…`, `AZURE_…`) and then to the credentials of the machine.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// Gone when the process ends.
    Memory,
    /// A local directory, created if it is missing.
    File {
        /// The directory.
        root: PathBuf,
    },
    /// Amazon S3 or a store that speaks its protocol.
    S3 {
        /// The bucket, which must exist.
        bucket: String,
        /// Such as `us-east-1`.
        region: String,
        /// Base URL of a compatible store; `None` is Amazon's own.
        endpoint: Option<String>,
        /// Together with the secret key; without both, the machine's credentials are used.
        access_key_id: Option<String>,
        /// Secret.
        secret_access_key: Option<String>,
        /// For temporary credentials. Secret.
        session_token: Option<String>,
        /// A JSON file with credentials that somebody else renews; goes before the three above.
        credentials_file: Option<PathBuf>,
        /// Whether requests may go unencrypted.
        allow_http: bool,
        /// Whether requests go without credentials.
        skip_signature: bool,
    },
    /// Google Cloud Storage.
    Google {
        /// The bucket, which must exist.
        bucket: String,
        /// A service account's key file.
        service_account: Option<PathBuf>,
        /// Base URL of a compatible store; `None` is Google's own.
        endpoint: Option<String>,
        /// Whether requests may go unencrypted.
        allow_http: bool,
        /// Whether requests go without credentials.
        skip_signature: bool,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container, which must exist.
        container: String,
        /// The storage account.
        account: String,
        /// Secret.
        access_key: Option<String>,
        /// Base URL of a compatible store; `None` is Azure's own.
        endpoint: Option<String>,
        /// Whether requests may go unencrypted.
        allow_http: bool,
    },
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description())
    }
}

impl StoreSettings {
    /// Whether other machines can reach the same objects.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::S3 { .. } | Self::Google { .. } | Self::Azure { .. })
    }

    pub(super) fn description(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::File { root } => format!("file://{}", root.display()),
            Self::S3 { bucket, .. } => format!("s3://{bucket}"),
            Self::Google { bucket, .. } => format!("gs://{bucket}"),
            Self::Azure { container, account, .. } => format!("azure://{account}/{container}"),
        }
    }
}

/// How many processes may write to a store at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Any number: the store refuses to overwrite what must be new.
    Several,
    /// One, which holds a lock; see [`super::single_writer`].
    Single,
}

/// How a store over the network is spoken to. The local stores need none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// How long one request may take before it is tried again.
    pub request_timeout: Duration,
    /// How long after its first try a request is still tried again.
    pub retry_timeout: Duration,
    /// How often a request is tried again.
    pub retries_max: usize,
    /// Most requests at a time; further ones wait.
    pub connections_max: usize,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            // Below five minutes: a request is retried with the credentials it was first sent with.
            retry_timeout: Duration::from_secs(180),
            retries_max: 10,
            connections_max: 64,
        }
    }
}

impl ConnectionSettings {
    /// Tries again after pauses of random length that grow from 100 ms to 15 s, so that nodes don't knock in step.
    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig { max_retries: self.retries_max, retry_timeout: self.retry_timeout, ..RetryConfig::default() }
    }

    pub(super) fn timeout(&self) -> String {
        format!("{}ms", self.request_timeout.as_millis())
    }
}
