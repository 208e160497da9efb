//! Which object store, with what credentials, and how it is spoken to.

use std::path::Path;

use super::sources::{ConfigError, Sources};
use crate::engine::store::{ConnectionSettings, StoreSettings};

/// The directory under the data directory where the file store keeps its objects.
const OBJECTS_DIRECTORY: &str = "objects";

pub(crate) fn store(sources: &Sources<'_>, data_dir: &Path) -> Result<StoreSettings, ConfigError> {
    Ok(match sources.required_text("object-store")?.as_str() {
        "memory" => StoreSettings::Memory,
        "s3" => StoreSettings::S3 {
            bucket: bucket(sources)?,
            region: sources.required_text("aws-default-region")?,
            endpoint: sources.text("aws-endpoint")?,
            access_key_id: sources.text("aws-access-key-id")?,
            secret_access_key: sources.text("aws-secret-access-key")?,
            session_token: sources.text("aws-session-token")?,
            allow_http: sources.switch("aws-allow-http")?,
            skip_signature: sources.switch("aws-skip-signature")?,
        },
        "google" => {
            StoreSettings::Google { bucket: bucket(sources)?, service_account: sources.text("google-service-account")? }
        }
        "azure" => StoreSettings::Azure {
            container: bucket(sources)?,
            account: sources.text("azure-storage-account")?.ok_or(ConfigError::Missing {
                setting: "azure-storage-account",
                reason: "the azure store needs the name of an account",
            })?,
            access_key: sources.text("azure-storage-access-key")?,
            endpoint: sources.text("azure-endpoint")?,
            allow_http: sources.switch("azure-allow-http")?,
        },
        // The list of settings knows no other word than "file" here.
        _ => StoreSettings::File { root: data_dir.join(OBJECTS_DIRECTORY) },
    })
}

pub(crate) fn connections(sources: &Sources<'_>) -> Result<ConnectionSettings, ConfigError> {
    Ok(ConnectionSettings {
        request_timeout: sources.duration("object-store-request-timeout")?,
        retry_timeout: sources.duration("object-store-retry-timeout")?,
        retries_max: sources.number("object-store-max-retries")?,
        connections_max: sources.number("object-store-connection-limit")?,
    })
}

fn bucket(sources: &Sources<'_>) -> Result<String, ConfigError> {
    let reason = "the s3, google and azure stores need the name of a bucket or container";
    sources.text("bucket")?.ok_or(ConfigError::Missing { setting: "bucket", reason })
}
