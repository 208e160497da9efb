//! Opens the object store that holds Parquet files and the catalog.
//!
//! | file | what it does |
//! |---|---|
//! | [`file`] | a local directory whose puts survive a power cut |
//! | [`paths`] | every object path |
//! | [`parquet`] | rows to the bytes of a Parquet file |
//! | [`checked`] | the way back, with every byte checked |
//! | `settings` | which store, and how patiently it is spoken to |
//! | `remote` | the clients of S3, Google and Azure |
//! | `credentials` | a file of credentials that somebody else renews |
//! | [`check`] | what a store can do, found out by trying |
//! | [`single_writer`] | a lock for stores that can't put "only if new" |
//! | [`recent`] | what is kept in memory of recent files |
//! | [`decoded`] | what is kept decoded, because it is asked for again and again |
//! | [`disk_cache`] | what is kept on the local disk of a store that is far away |
//!
//! Always true:
//! - a put that was answered is durable, whichever store it is (but for `memory`);
//! - every request is bounded in time, in retries and in number;
//! - no secret is in a description, a log line or an error.
//!
//! Not here: what the objects mean.

pub mod check;
pub mod checked;
mod credentials;
pub mod decoded;
pub mod disk_cache;
pub mod file;
pub mod parquet;
pub mod paths;
pub mod recent;
mod remote;
mod settings;
pub mod single_writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{Error, ErrorKind, Result};
use file::DurableFileStore;

pub use credentials::CredentialsError;
pub use settings::{ConnectionSettings, StoreSettings, Writers};

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

    /// Puts an object that must be new. A lost answer is no failure: if the object is there with these very bytes,
    /// it was this put that stored it, or another one that wanted the same.
    ///
    /// # Errors
    /// `AlreadyExists` if another object has the name. Anything else leaves open whether the object is there.
    pub async fn create(&self, path: &Path, bytes: &Bytes) -> Result<(), object_store::Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(bytes.clone());
        let Err(failure) = self.objects.put_opts(path, payload, options).await else { return Ok(()) };
        // Also "exists already" proves nothing: clients retry by themselves, and S3 says so too when two puts of one
        // name met and neither is stored.
        let found = match self.objects.get(path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) if found == *bytes => Ok(()),
            Ok(_) | Err(_) => Err(failure), // the first failure says more than that of the question
        }
    }

    /// The part of this store that lies below a path.
    #[must_use]
    pub fn below(&self, prefix: &Path) -> Self {
        let description = format!("{}/{prefix}", self.description);
        Self::new(Arc::new(PrefixStore::new(Arc::clone(&self.objects), prefix.clone())), description)
    }

    /// Where the objects are, such as `file:///var/lib/flightline` or `s3://bucket`.
    pub fn description(&self) -> &str {
        &self.description
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
    /// The endpoint has no TLS, and nobody allowed that.
    #[error("endpoint \"{endpoint}\" is not encrypted: use https, or allow it with \"{setting}\"")]
    Unencrypted {
        /// Its URL.
        endpoint: String,
        /// The setting that allows it.
        setting: &'static str,
    },
    /// The file with the credentials can't be used.
    #[error("could not use the credentials in \"{}\"", path.display())]
    Credentials {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        source: CredentialsError,
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
            StoreError::Missing { .. }
            | StoreError::Settings { .. }
            | StoreError::Unencrypted { .. }
            | StoreError::Credentials { .. } => ErrorKind::Invalid,
            StoreError::Directory { .. } => ErrorKind::Unavailable,
        };
        Self::with_source(kind, error.to_string(), error)
    }
}

/// Opens a store. Blocks on the disk for a file store and a file of credentials; sends no request to a store over the network, so
/// that a wrong bucket or key shows with the first request only.
///
/// # Errors
/// `Invalid` if a setting is missing or unusable, naming it; `Unavailable` if the directory can't be used.
pub fn open(settings: &StoreSettings, options: &ConnectionSettings) -> Result<Store> {
    let description = settings.description();
    let objects: Arc<dyn ObjectStore> = match settings {
        StoreSettings::Memory => Arc::new(InMemory::new()),
        StoreSettings::File { root } => {
            let failed = |source| StoreError::Directory { store: settings.description(), source };
            Arc::new(DurableFileStore::open(root).map_err(failed)?)
        }
        StoreSettings::S3 { .. } | StoreSettings::Google { .. } | StoreSettings::Azure { .. } => {
            remote::open(settings, options)?
        }
    };
    Ok(Store::new(objects, description))
}

/// Opens the part of a store that lies below `prefix`, as [`open`] does; all of it if the prefix is empty.
///
/// # Errors
/// As [`open`]; `Invalid` too if the prefix is no path.
pub fn open_below(settings: &StoreSettings, prefix: &str, options: &ConnectionSettings) -> Result<Store> {
    let prefix = Path::parse(prefix)
        .map_err(|error| Error::with_source(ErrorKind::Invalid, format!("\"{prefix}\" is no path"), error))?;
    let store = open(settings, options)?;
    Ok(if prefix.as_ref().is_empty() { store } else { store.below(&prefix) })
}

#[cfg(test)]
#[path = "../../../tests/it/harness/store.rs"]
pub(crate) mod fault_store;

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn a_put_is_ours_if_the_object_has_our_bytes() {
        let store = Store::in_memory();
        let (path, ours, theirs) = (Path::from("a"), Bytes::from("ours"), Bytes::from("theirs"));
        store.create(&path, &ours).await.unwrap();
        store.create(&path, &ours).await.unwrap(); // as after a lost answer
        let error = store.create(&path, &theirs).await.unwrap_err();
        assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
        assert_eq!(store.objects().get(&path).await.unwrap().bytes().await.unwrap(), ours);
    }
}
