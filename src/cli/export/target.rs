//! Where an export goes: a local directory or a place in an object store.
//!
//! Always true:
//! - a local file gets its name when it is complete and synced, and its directory is synced after that;
//! - an object appears when all of it has been sent; stores see to that themselves.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};

use crate::cli::client::ClientError;
use crate::cli::transfer::place::Place;
use crate::engine::store::Store;

/// Parts of an upload: large enough for any store, and four of them are little memory.
const PART_BYTES: usize = 8 << 20;

const PARTS_UNDER_WAY_MAX: usize = 4;

/// Where files go.
pub(super) enum Target {
    Local(PathBuf),
    Remote { store: Store, url: String, prefix: String },
}

impl Target {
    pub(super) fn new(place: &Place) -> Result<Self, ClientError> {
        Ok(match place {
            Place::Local(path) => Self::Local(path.clone()),
            Place::Remote(place) => Self::Remote {
                store: place.open().map_err(ClientError::Store)?,
                url: place.bucket_url.clone(),
                prefix: if place.path.is_empty() { String::new() } else { format!("{}/", place.path) },
            },
        })
    }

    /// How the file is called in messages.
    pub(super) fn name(&self, file: &str) -> String {
        match self {
            Self::Local(root) => format!("\"{}\"", root.join(file).display()),
            Self::Remote { url, prefix, .. } => format!("\"{url}/{prefix}{file}\""),
        }
    }

    /// A local directory for files that are not complete; on the same disk as the target, where that is a disk.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn workshop(&self, directory: &str) -> Result<PathBuf, ClientError> {
        let path = match self {
            Self::Local(root) => root.join(directory),
            Self::Remote { .. } => std::env::temp_dir().join(format!("flightline-export-{}", std::process::id())),
        };
        fs::create_dir_all(&path)
            .map_err(|source| ClientError::Write { name: format!("\"{}\"", path.display()), source })?;
        Ok(path)
    }

    /// Removes the local directory, if it was only for that.
    pub(super) fn close_workshop(&self, path: &Path) {
        if matches!(self, Self::Remote { .. }) {
            // Whatever is left of it is in the system's place for such things.
            let _ = fs::remove_dir_all(path);
        }
    }

    /// A short file; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) async fn read(&self, file: &str) -> Result<Option<Vec<u8>>, ClientError> {
        let found = match self {
            Self::Local(root) => match fs::read(root.join(file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                result => result.map(Some),
            },
            Self::Remote { store, .. } => match store.objects().get(&self.path(file)?).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Ok(found) => found.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(io::Error::other),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        found.map_err(|source| ClientError::Read { name: self.name(file), source })
    }

    /// Whether there is such a file, which is complete then.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(super) async fn has(&self, file: &str) -> Result<bool, ClientError> {
        let found = match self {
            Self::Local(root) => root.join(file).try_exists(),
            Self::Remote { store, .. } => match store.objects().head(&self.path(file)?).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        found.map_err(|source| ClientError::Read { name: self.name(file), source })
    }

    /// Writes a short file whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn put(&self, file: &str, bytes: Vec<u8>) -> Result<(), ClientError> {
        let put = match self {
            Self::Local(root) => {
                let path = root.join(file);
                let part = hidden(&path, "part");
                fs::write(&part, bytes).and_then(|()| complete_local(&part, &path))
            }
            Self::Remote { store, .. } => {
                let payload = PutPayload::from(bytes);
                store.objects().put(&self.path(file)?, payload).await.map(drop).map_err(io::Error::other)
            }
        };
        put.map_err(|source| ClientError::Write { name: self.name(file), source })
    }

    /// Gives the local file `part`, which is complete, its name. The part is gone then.
    ///
    /// # Errors
    /// If it cannot be moved or sent.
    pub(super) async fn complete(&self, part: &Path, file: &str) -> Result<(), ClientError> {
        let done = match self {
            Self::Local(root) => complete_local(part, &root.join(file)),
            Self::Remote { store, .. } => {
                let sent = send(store, &self.path(file)?, part).await;
                sent.and_then(|()| fs::remove_file(part))
            }
        };
        done.map_err(|source| ClientError::Write { name: self.name(file), source })
    }

    fn path(&self, file: &str) -> Result<ObjectPath, ClientError> {
        let prefix = match self {
            Self::Local(_) => "",
            Self::Remote { prefix, .. } => prefix,
        };
        // The path as it is: percent signs in it are part of the name.
        ObjectPath::parse(format!("{prefix}{file}")).map_err(|error| ClientError::Usage(error.to_string()))
    }
}

/// `.name.extension` beside `path`: a name that an import passes over.
pub(super) fn hidden(path: &Path, extension: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{extension}"))
}

fn complete_local(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

async fn send(store: &Store, path: &ObjectPath, part: &Path) -> io::Result<()> {
    let mut file = File::open(part)?;
    let upload = store.objects().put_multipart(path).await.map_err(io::Error::other)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut buffer = vec![0; PART_BYTES];
    loop {
        upload.wait_for_capacity(PARTS_UNDER_WAY_MAX).await.map_err(io::Error::other)?;
        match file.read(&mut buffer)? {
            0 => break,
            length => upload.write(&buffer[..length]),
        }
    }
    upload.finish().await.map(drop).map_err(io::Error::other)
}
