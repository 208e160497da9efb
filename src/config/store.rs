//! Which object store, with what credentials, and how it is spoken to.

use std::path::PathBuf;

use clap::ArgMatches;

use super::sources::{ConfigError, Environment, Sources};
use super::{Machine, path};
use crate::engine::store::{ConnectionSettings, StoreSettings};

/// The directory under the data directory where the file store keeps its objects.
const OBJECTS_DIRECTORY: &str = "objects";

/// What a command needs to know of an object store: the settings of `serve` that are about it, checked.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Which store.
    pub store: StoreSettings,
    /// How patiently it is spoken to.
    pub connections: ConnectionSettings,
    /// Whether one server alone writes to it, and says so by a lock.
    pub single_writer: bool,
}

impl StoreConfig {
    /// Puts together what the flags and the environment say.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn from_flags(
        flags: &[&ArgMatches],
        environment: Environment<'_>,
        machine: &Machine,
    ) -> Result<Self, ConfigError> {
        Self::from_sources(&Sources { flags, environment, memory_bytes: machine.memory_bytes })
    }

    /// The store that a URL names by its kind ("s3", "google" or "azure") and bucket; everything else of it comes from the flags
    /// and the environment.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn named(
        kind: &str,
        bucket: &str,
        flags: &[&ArgMatches],
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        // No setting of a store is a share of memory.
        let sources = Sources { flags, environment, memory_bytes: 0 };
        let store = remote_store(&sources, kind, bucket.to_owned())?;
        Ok(Self { store, connections: connections(&sources)?, single_writer: false })
    }

    pub(crate) fn from_sources(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            store: store(sources)?,
            connections: connections(sources)?,
            single_writer: sources.switch("object-store-single-writer")?,
        })
    }
}

fn store(sources: &Sources<'_>) -> Result<StoreSettings, ConfigError> {
    Ok(match sources.required_text("object-store")?.as_str() {
        "memory" => StoreSettings::Memory,
        kind @ ("s3" | "google" | "azure") => remote_store(sources, kind, bucket(sources)?)?,
        // The list of settings knows no other word than "file" here.
        _ => {
            let data_dir = path(&sources.required_text("data-dir")?, sources.environment)?;
            StoreSettings::File { root: data_dir.join(OBJECTS_DIRECTORY) }
        }
    })
}

/// A store over the network: `s3`, `google` or else `azure`.
pub(super) fn remote_store(sources: &Sources<'_>, kind: &str, bucket: String) -> Result<StoreSettings, ConfigError> {
    Ok(match kind {
        "s3" => StoreSettings::S3 {
            bucket,
            region: sources.required_text("aws-default-region")?,
            endpoint: sources.text("aws-endpoint")?,
            access_key_id: sources.text("aws-access-key-id")?,
            secret_access_key: sources.text("aws-secret-access-key")?,
            session_token: sources.text("aws-session-token")?,
            credentials_file: file(sources, "aws-credentials-file")?,
            allow_http: sources.switch("aws-allow-http")?,
            skip_signature: sources.switch("aws-skip-signature")?,
        },
        "google" => StoreSettings::Google {
            bucket,
            service_account: file(sources, "google-service-account")?,
            endpoint: sources.text("google-endpoint")?,
            allow_http: sources.switch("google-allow-http")?,
            skip_signature: sources.switch("google-skip-signature")?,
        },
        _ => StoreSettings::Azure {
            container: bucket,
            account: sources.text("azure-storage-account")?.ok_or(ConfigError::Missing {
                setting: "azure-storage-account",
                reason: "the azure store needs the name of an account",
            })?,
            access_key: sources.text("azure-storage-access-key")?,
            endpoint: sources.text("azure-endpoint")?,
            allow_http: sources.switch("azure-allow-http")?,
        },
    })
}

pub(super) fn connections(sources: &Sources<'_>) -> Result<ConnectionSettings, ConfigError> {
    Ok(ConnectionSettings {
        request_timeout: sources.duration("object-store-request-timeout")?,
        retry_timeout: sources.duration("object-store-retry-timeout")?,
        retries_max: sources.number("object-store-max-retries")?,
        connections_max: sources.number("object-store-connection-limit")?,
    })
}

fn file(sources: &Sources<'_>, setting: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    sources.text(setting)?.map(|text| path(&text, sources.environment)).transpose()
}

fn bucket(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let reason = "the s3, google and azure stores need the name of a bucket or container";
    sources.text("bucket")?.ok_or(ConfigError::Missing { setting: "bucket", reason })
}
