//! The clients of S3, Google and Azure, from settings.
//!
//! Always true:
//! - what was set explicitly goes before the environment, which goes before the credentials of the machine;
//! - a request is tried again, with growing pauses of random length, and never more of them run than allowed;
//! - nothing goes over the network unencrypted unless somebody said so.
//!
//! Not here: what the settings are called where users set them (`config`).

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::{ClientConfigKey, ObjectStore, StaticCredentialProvider};

use super::credentials::FileCredentials;
use super::{ConnectionSettings, StoreError, StoreSettings};

/// The client for a store over the network. Sends no request.
pub(super) fn open(settings: &StoreSettings, options: &ConnectionSettings) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let unusable = |source| StoreError::Settings { store: settings.description(), source };
    Ok(match settings {
        StoreSettings::Google { .. } => {
            let builder = google(GoogleCloudStorageBuilder::from_env(), settings, options)?;
            limited(builder.build().map_err(unusable)?, options)
        }
        StoreSettings::Azure { .. } => {
            let builder = azure(MicrosoftAzureBuilder::from_env(), settings, options)?;
            limited(builder.build().map_err(unusable)?, options)
        }
        _ => {
            let builder = s3(AmazonS3Builder::from_env(), settings, options)?;
            limited(builder.build().map_err(unusable)?, options)
        }
    })
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
    const ALLOW_HTTP: Key = Key::Client(ClientConfigKey::AllowHttp);
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    let mut file = None;
    if let StoreSettings::S3 {
        bucket,
        region,
        endpoint,
        access_key_id,
        secret_access_key,
        session_token,
        credentials_file,
        allow_http,
        skip_signature,
    } = settings
    {
        let texts = [
            (Key::Bucket, present(bucket)),
            (Key::Region, present(region)),
            // Not `Endpoint`: AWS_ENDPOINT_URL_S3 of the environment would go before it.
            (Key::S3Endpoint, endpoint.as_deref()),
            (Key::AccessKeyId, access_key_id.as_deref()),
            (Key::SecretAccessKey, secret_access_key.as_deref()),
            (Key::Token, session_token.as_deref()),
            (ALLOW_HTTP, allow_http.then_some("true")),
            (Key::SkipSignature, skip_signature.then_some("true")),
        ];
        for (key, text) in texts {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
        file = credentials_file.as_deref();
    }
    require("s3", "bucket", builder.get_config_value(&Key::Bucket))?;
    let endpoint = builder.get_config_value(&Key::S3Endpoint).or(builder.get_config_value(&Key::Endpoint));
    encrypted(endpoint, builder.get_config_value(&ALLOW_HTTP), "aws-allow-http")?;
    if let Some(path) = file {
        let credentials =
            FileCredentials::open(path).map_err(|source| StoreError::Credentials { path: path.to_owned(), source })?;
        return Ok(builder.with_credentials(Arc::new(credentials)));
    }
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
    const ALLOW_HTTP: Key = Key::Client(ClientConfigKey::AllowHttp);
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    if let StoreSettings::Google { bucket, service_account, endpoint, allow_http, skip_signature } = settings {
        let service_account = service_account.as_ref().map(|path| path.to_string_lossy());
        let texts = [
            (Key::Bucket, present(bucket)),
            (Key::ServiceAccount, service_account.as_deref()),
            (Key::BaseUrl, endpoint.as_deref().map(|url| url.trim_end_matches('/'))),
            (ALLOW_HTTP, allow_http.then_some("true")),
        ];
        for (key, text) in texts {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
        if *skip_signature {
            // Not the client's own switch of this name: its puts and deletes would ask the machine for a token all
            // the same, which takes minutes to fail where there is none.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        }
    }
    require("google", "bucket", builder.get_config_value(&Key::Bucket))?;
    let endpoint = builder.get_config_value(&Key::BaseUrl);
    encrypted(endpoint, builder.get_config_value(&ALLOW_HTTP), "google-allow-http")?;
    Ok(builder)
}

fn azure(
    environment: MicrosoftAzureBuilder,
    settings: &StoreSettings,
    options: &ConnectionSettings,
) -> Result<MicrosoftAzureBuilder, StoreError> {
    use AzureConfigKey as Key;
    const ALLOW_HTTP: Key = Key::Client(ClientConfigKey::AllowHttp);
    let mut builder =
        environment.with_retry(options.retry()).with_config(Key::Client(ClientConfigKey::Timeout), options.timeout());
    if let StoreSettings::Azure { container, account, access_key, endpoint, allow_http } = settings {
        let texts = [
            (Key::ContainerName, present(container)),
            (Key::AccountName, present(account)),
            (Key::AccessKey, access_key.as_deref()),
            (Key::Endpoint, endpoint.as_deref()),
            (ALLOW_HTTP, allow_http.then_some("true")),
        ];
        for (key, text) in texts {
            builder = text.into_iter().fold(builder, |builder, text| builder.with_config(key, text));
        }
    }
    require("azure", "bucket", builder.get_config_value(&Key::ContainerName))?;
    require("azure", "azure-storage-account", builder.get_config_value(&Key::AccountName))?;
    let endpoint = builder.get_config_value(&Key::Endpoint);
    encrypted(endpoint, builder.get_config_value(&ALLOW_HTTP), "azure-allow-http")?;
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

/// The client would refuse as well, but only with the first request, and without naming the setting.
fn encrypted(endpoint: Option<String>, allow_http: Option<String>, setting: &'static str) -> Result<(), StoreError> {
    let is_allowed = allow_http.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    match endpoint {
        Some(endpoint) if endpoint.starts_with("http://") && !is_allowed => {
            Err(StoreError::Unencrypted { endpoint, setting })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::store;

    fn s3_settings(bucket: &str, secret: Option<&str>) -> StoreSettings {
        StoreSettings::S3 {
            bucket: bucket.to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            access_key_id: Some("planted-key-id".to_owned()),
            secret_access_key: secret.map(str::to_owned),
            session_token: Some("planted-token".to_owned()),
            credentials_file: None,
            allow_http: true,
            skip_signature: false,
        }
    }

    fn google_settings(bucket: &str) -> StoreSettings {
        StoreSettings::Google {
            bucket: bucket.to_owned(),
            service_account: None,
            endpoint: Some("http://127.0.0.1:4443/".to_owned()),
            allow_http: true,
            skip_signature: true,
        }
    }

    #[test]
    fn a_missing_setting_is_named() {
        // Not by `open`: the environment of whoever runs the tests may hold what is missing here.
        let connection = ConnectionSettings::default();
        let s3_error = |settings| s3(AmazonS3Builder::new(), &settings, &connection).unwrap_err().to_string();
        assert_eq!(s3_error(s3_settings("", Some("x"))), "the s3 store needs \"bucket\"");
        assert_eq!(s3_error(s3_settings("rows", None)), "the s3 store needs \"aws-secret-access-key\"");
        let nameless = google_settings("");
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
            (google_settings("rows"), "gs://rows"),
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
            assert_eq!(store::open(&settings, &ConnectionSettings::default()).unwrap().description(), description);
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let settings = s3_settings("rows", Some("planted-secret"));
        let store = store::open(&settings, &ConnectionSettings::default()).unwrap();
        for text in [format!("{settings:?}"), format!("{store:#?}"), store.description().to_owned()] {
            assert!(!text.contains("planted"), "{text}");
        }
    }

    #[test]
    fn an_explicit_endpoint_goes_before_every_variable() {
        let environment = AmazonS3Builder::new()
            .with_config(AmazonS3ConfigKey::Endpoint, "http://a")
            .with_config(AmazonS3ConfigKey::S3Endpoint, "http://b");
        let builder = s3(environment, &s3_settings("rows", Some("x")), &ConnectionSettings::default()).unwrap();
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint);
        assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    }

    #[test]
    fn an_endpoint_without_tls_must_be_allowed() {
        let mut settings = s3_settings("rows", Some("x"));
        if let StoreSettings::S3 { allow_http, .. } = &mut settings {
            *allow_http = false;
        }
        let refuse = |environment| s3(environment, &settings, &ConnectionSettings::default()).map(drop);
        let message =
            "endpoint \"http://127.0.0.1:9000\" is not encrypted: use https, or allow it with \"aws-allow-http\"";
        assert_eq!(refuse(AmazonS3Builder::new()).unwrap_err().to_string(), message);
        refuse(AmazonS3Builder::new().with_allow_http(true)).unwrap(); // as AWS_ALLOW_HTTP does
    }
}
