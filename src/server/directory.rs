//! The data directory and the lock that lets one process have it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// A data directory that this process holds until the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DataDirectory {
    root: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if need be and takes its lock.
    ///
    /// # Errors
    /// `Conflict` if another process holds it: the message says which. `Unavailable` if it can't be made or written.
    pub(super) fn take(root: &Path, clock: &dyn Clock) -> Result<Self> {
        let failed = |what: &str, path: &Path, error| {
            Error::with_source(ErrorKind::Unavailable, format!("could not {what} \"{}\"", path.display()), error)
        };
        fs::create_dir_all(root).map_err(|error| failed("make the data directory", root, error))?;
        let path = root.join("flightline.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // it may name the process that holds it
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(root, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
        }
        let holder = format!("process {} since {}", std::process::id(), clock.now());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(|error| failed("write", &path, error))?;
        Ok(Self { root: root.to_owned(), _lock: file })
    }

    /// What tells this directory from every other; made with the first call and the same from then on.
    ///
    /// # Errors
    /// `Unavailable` if it can't be read or written; `Corrupt` if its file holds something else.
    pub(super) fn id(&self, clock: &dyn Clock) -> Result<Uuid> {
        let path = self.root.join("flightline.id");
        let failed =
            |error| Error::with_source(ErrorKind::Unavailable, format!("could not keep \"{}\"", path.display()), error);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|error: uuid::Error| {
                Error::with_source(ErrorKind::Corrupt, format!("no identifier is in \"{}\"", path.display()), error)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = clock.unique_id();
                // By a rename, so that it is never half there.
                let new = self.root.join("flightline.id.new");
                fs::write(&new, id.to_string()).and_then(|()| fs::rename(&new, &path)).map_err(failed)?;
                Ok(id)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A directory inside, made if need be.
    ///
    /// # Errors
    /// `Unavailable` if it can't be made.
    pub(super) fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(|error| {
            Error::with_source(ErrorKind::Unavailable, format!("could not make \"{}\"", path.display()), error)
        })?;
        Ok(path)
    }
}

fn held(root: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    if file.read_to_string(&mut holder).is_err() || holder.is_empty() {
        "another process".clone_into(&mut holder);
    }
    let message = format!(
        "the data directory \"{}\" is in use by {holder}; stop it, or choose another with --data-dir",
        root.display()
    );
    Error::new(ErrorKind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_second_holder_is_told_who_is_first() {
        let root = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        let first = DataDirectory::take(root.path(), &clock).unwrap();
        let error = DataDirectory::take(root.path(), &clock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(first.id(&clock).unwrap(), first.id(&clock).unwrap());
        drop(first);
        DataDirectory::take(root.path(), &clock).unwrap();
    }
}
