//! Opens the object store that holds Parquet files and the catalog.
//!
//! | file | what it does |
//! |---|---|
//! | [`file`] | a local directory whose puts survive a power cut |
//! | [`paths`] | every object path |
//! | [`parquet`] | rows to the bytes of a Parquet file |
//! | [`checked`] | the way back, with every byte checked |
//!
//! Always true:
//! - a put that was answered is durable, whichever store it is (but for `memory`);
//! - every request is bounded in time, in retries and in number;
//! - no secret is in a description, a log line or an error.
//!
//! Not here: what the objects mean.

pub mod checked;
pub mod file;
pub mod parquet;
pub mod paths;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::memory::InMemory;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use crate::error::{Error, ErrorKind, Result};
use file::DurableFileStore;

/// An object store that is ready for use. Cloning it is cheap.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    description: Arc<str>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the objects: clients print the credentials they were given.
        f.debug_tuple("Store").field(&self.description).finish()
    }
}

impl Store {
    /// A store of any kind. `description` names it in messages and must hold no secret.
    pub fn new(objects: Arc<dyn ObjectStore>, description: impl Into<Arc<str>>) -> Self {
        Self { objects, description: description.into() }
    }

    /// A store that keeps everything in memory and starts empty.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()), "memory")
    }

    /// The objects. What was put is durable when the put returns.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Where the objects are, such as `file:///var/lib/flightline` or `s3://bucket`.
    pub fn description(&self) -> &str {
        &self.description
    }
}

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
        /// Whether requests may go unencrypted.
        allow_http: bool,
        /// Whether requests go without credentials.
        skip_signature: bool,
    },
    /// Google Cloud Storage.
    Google {
        /// The bucket, which must exist.
        bucket: String,
        /// Path of a service account's key file.
        service_account: Option<String>,
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
    fn description(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::File { root } => format!("file://{}", root.display()),
            Self::S3 { bucket, .. } => format!("s3://{bucket}"),
            Self::Google { bucket, .. } => format!("gs://{bucket}"),
            Self::Azure { container, account, .. } => format!("azure://{account}/{container}"),
        }
    }
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
    fn retry(&self) -> RetryConfig {
        RetryConfig { max_retries: self.retries_max, retry_timeout: self.retry_timeout, ..RetryConfig::default() }
    }

    fn timeout(&self) -> String {
        format!("{}ms", self.request_timeout.as_millis())
    }
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A setting is missing or unusable.
    #[error("the {store} store needs \"{setting}\"")]
    Missing {
        /// Which kind of store.
        store: &'static str,
        /// The setting's name on the command line.
        setting: &'static str,
    },
    /// The store's client refuses the settings.
    #[error("the settings of store \"{store}\" don't work")]
    Settings {
        /// Its description.
        store: String,
        /// What is wrong.
        source: object_store::Error,
    },
    /// The directory of a file store can't be used.
    #[error("could not open the directory of store \"{store}\"")]
    Directory {
        /// Its description.
        store: String,
        /// What failed.
        source: std::io::Error,
    },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Missing { .. } | StoreError::Settings { .. } => ErrorKind::Invalid,
            StoreError::Directory { .. } => ErrorKind::Unavailable,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// Opens a store. Blocks on the disk for a file store; sends no request to a store over the network, so
/// that a wrong bucket or key shows with the first request only.
///
/// # Errors
/// `Invalid` if a setting is missing or unusable, naming it; `Unavailable` if the directory can't be used.
pub fn open(settings: &StoreSettings, options: &ConnectionSettings) -> Result<Store> {
    let description = settings.description();
    let unusable = |source| StoreError::Settings { store: settings.description(), source };
    let objects: Arc<dyn ObjectStore> = match settings {
        StoreSettings::Memory => Arc::new(InMemory::new()),
        StoreSettings::File { root } => {
            let failed = |source| StoreError::Directory { store: settings.description(), source };
            Arc::new(DurableFileStore::open(root).map_err(failed)?)
        }
        StoreSettings::S3 { .. } => {
            limited(s3(AmazonS3Builder::from_env(), settings, options)?.build().map_err(unusable)?, options)
        }
        StoreSettings::Google { .. } => limited(
            google(GoogleCloudStorageBuilder::from_env(), settings, options)?.build().map_err(unusable)?,
            options,
        ),
        StoreSettings::Azure { .. } => {
            limited(azure(MicrosoftAzureBuilder::from_env(), settings, options)?.build().map_err(unusable)?, options)
        }
    };
    Ok(Store::new(objects, description))
}

fn limited<S: ObjectStore>(objects: S, options: &ConnectionSettings) -> Arc<dyn ObjectStore> {
    Arc::new(LimitStore::new(objects, options.connections_max.max(1)))
}

// In each of the three: first the environment, then what was set explicitly. Client options go in one by one,
// because setting them as a whole would drop those that came from the environment.

fn s3(
    environment: AmazonS3Builder,
    settings: &StoreSettings,
    options: &ConnectionSettings,
) -> Result<AmazonS3Builder, StoreError> {
    use AmazonS3ConfigKey as Key;
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    if let StoreSettings::S3 {
        bucket,
        region,
        endpoint,
        access_key_id,
        secret_access_key,
        session_token,
        allow_http,
        skip_signature,
    } = settings
    {
        let texts = [
            (Key::Bucket, present(bucket)),
            (Key::Region, present(region)),
            (Key::Endpoint, endpoint.as_deref()),
            (Key::AccessKeyId, access_key_id.as_deref()),
            (Key::SecretAccessKey, secret_access_key.as_deref()),
            (Key::Token, session_token.as_deref()),
            (Key::Client(ClientConfigKey::AllowHttp), allow_http.then_some("true")),
            (Key::SkipSignature, skip_signature.then_some("true")),
        ];
        for (key, text) in texts {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
    }
    require("s3", "bucket", builder.get_config_value(&Key::Bucket))?;
    // One without the other would silently fall back to the credentials of the machine.
    match (builder.get_config_value(&Key::AccessKeyId), builder.get_config_value(&Key::SecretAccessKey)) {
        (Some(_), secret) => require("s3", "aws-secret-access-key", secret)?,
        (key_id, Some(_)) => require("s3", "aws-access-key-id", key_id)?,
        (None, None) => {}
    }
    Ok(builder)
}

fn google(
    environment: GoogleCloudStorageBuilder,
    settings: &StoreSettings,
    options: &ConnectionSettings,
) -> Result<GoogleCloudStorageBuilder, StoreError> {
    use GoogleConfigKey as Key;
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    if let StoreSettings::Google { bucket, service_account } = settings {
        for (key, text) in [(Key::Bucket, present(bucket)), (Key::ServiceAccount, service_account.as_deref())] {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
    }
    require("google", "bucket", builder.get_config_value(&Key::Bucket))?;
    Ok(builder)
}

fn azure(
    environment: MicrosoftAzureBuilder,
    settings: &StoreSettings,
    options: &ConnectionSettings,
) -> Result<MicrosoftAzureBuilder, StoreError> {
    use AzureConfigKey as Key;
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    if let StoreSettings::Azure { container, account, access_key, endpoint, allow_http } = settings {
        let texts = [
            (Key::ContainerName, present(container)),
            (Key::AccountName, present(account)),
            (Key::AccessKey, access_key.as_deref()),
            (Key::Endpoint, endpoint.as_deref()),
            (Key::Client(ClientConfigKey::AllowHttp), allow_http.then_some("true")),
        ];
        for (key, text) in texts {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
    }
    require("azure", "bucket", builder.get_config_value(&Key::ContainerName))?;
    require("azure", "azure-storage-account", builder.get_config_value(&Key::AccountName))?;
    Ok(builder)
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn require(store: &'static str, setting: &'static str, value: Option<String>) -> Result<(), StoreError> {
    match value {
        Some(text) if !text.is_empty() => Ok(()),
        _ => Err(StoreError::Missing { store, setting }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3_settings(bucket: &str, secret: Option<&str>) -> StoreSettings {
        StoreSettings::S3 {
            bucket: bucket.to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            access_key_id: Some("planted-key-id".to_owned()),
            secret_access_key: secret.map(str::to_owned),
            session_token: Some("planted-token".to_owned()),
            allow_http: true,
            skip_signature: false,
        }
    }

    #[test]
    fn a_missing_setting_is_named() {
        // Not by `open`: the environment of whoever runs the tests may hold what is missing here.
        let connection = ConnectionSettings::default();
        let s3_error = |settings| s3(AmazonS3Builder::new(), &settings, &connection).unwrap_err().to_string();
        assert_eq!(s3_error(s3_settings("", Some("x"))), "the s3 store needs \"bucket\"");
        assert_eq!(s3_error(s3_settings("rows", None)), "the s3 store needs \"aws-secret-access-key\"");
        let nameless = StoreSettings::Google { bucket: String::new(), service_account: None };
        let google_error = google(GoogleCloudStorageBuilder::new(), &nameless, &connection).unwrap_err().to_string();
        assert_eq!(google_error, "the google store needs \"bucket\"");
        let azure_error = |container: &str, account: &str| {
            let settings = StoreSettings::Azure {
                container: container.to_owned(),
                account: account.to_owned(),
                access_key: None,
                endpoint: None,
                allow_http: false,
            };
            azure(MicrosoftAzureBuilder::new(), &settings, &connection).unwrap_err().to_string()
        };
        assert_eq!(azure_error("", "a"), "the azure store needs \"bucket\"");
        assert_eq!(azure_error("c", ""), "the azure store needs \"azure-storage-account\"");
    }

    #[test]
    fn a_store_over_the_network_opens_without_a_request() {
        for (settings, description) in [
            (s3_settings("rows", Some("planted-secret")), "s3://rows"),
            (StoreSettings::Google { bucket: "rows".to_owned(), service_account: None }, "gs://rows"),
            (
                StoreSettings::Azure {
                    container: "rows".to_owned(),
                    account: "weather".to_owned(),
                    access_key: Some("cGxhbnRlZA==".to_owned()),
                    endpoint: None,
                    allow_http: false,
                },
                "azure://weather/rows",
            ),
        ] {
            assert_eq!(open(&settings, &ConnectionSettings::default()).unwrap().description(), description);
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let settings = s3_settings("rows", Some("planted-secret"));
        let store = open(&settings, &ConnectionSettings::default()).unwrap();
        for text in [format!("{settings:?}"), format!("{store:#?}"), store.description().to_owned()] {
            assert!(!text.contains("planted"), "{text}");
        }
    }

    #[test]
    fn a_directory_is_created_and_a_file_in_its_place_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a").join("b");
        let settings = StoreSettings::File { root: root.clone() };
        let store = open(&settings, &ConnectionSettings::default()).unwrap();
        assert!(root.is_dir());
        assert_eq!(store.description(), format!("file://{}", root.display()));

        let taken = directory.path().join("taken");
        std::fs::write(&taken, "x").unwrap();
        let error = open(&StoreSettings::File { root: taken }, &ConnectionSettings::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
