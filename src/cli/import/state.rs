//! How far an import has come, in a file, so that the next run goes on there.
//!
//! Always true:
//! - what the file calls done was acknowledged by the server, and so is durable there;
//! - the file is replaced whole, so that a crash leaves the old one or the new one;
//! - what was acknowledged after the last replacement is sent again, which changes nothing: a point is its tags and time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Format of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// What the import was asked to do; another one must not go on from here.
    import: String,
    files: BTreeMap<String, FileState>,
}

/// How far one file has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    /// Length and age, or the store's tag: another one means that the file is another.
    pub identity: String,
    /// Rows, or lines of line protocol, from its start on.
    pub acknowledged: u64,
    pub is_complete: bool,
}

impl State {
    /// The state in the file, or an empty one if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, or belongs to another import.
    pub(crate) fn open(path: &Path, import: String) -> io::Result<Self> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        let kept = match fs::read(path) {
            Ok(bytes) => {
                let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
                if kept.version != VERSION || kept.import != import {
                    return Err(invalid(
                        "it belongs to an import with other arguments; name another file with --resume, or remove it"
                            .into(),
                    ));
                }
                kept
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Kept { version: VERSION, import, files: BTreeMap::new() }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), kept })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far the file has come; nothing if it is not the one that it was.
    pub(crate) fn of(&self, name: &str, identity: &str) -> Option<&FileState> {
        self.kept.files.get(name).filter(|file| file.identity == identity)
    }

    /// Whether a run before this one left something.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.files.is_empty()
    }

    pub(crate) fn set(&mut self, name: &str, file: FileState) {
        self.kept.files.insert(name.to_owned(), file);
    }

    /// Writes the file anew.
    pub(crate) fn save(&self) -> io::Result<()> {
        let part = self.path.with_extension(format!("{}.part", std::process::id()));
        let mut file = File::create(&part)?;
        let bytes = serde_json::to_vec(&self.kept).map_err(io::Error::other)?;
        let written =
            file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, &self.path));
        if written.is_err() {
            // Nothing to do about a failure: its name says that the file is a part.
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Removes the file: everything is done.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_for_one_import_and_for_files_that_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let mut state = State::open(&path, "a".into()).unwrap();
        assert!(state.is_empty());
        let file = FileState { identity: "10 bytes".into(), acknowledged: 7, is_complete: false };
        state.set("x.lp", file.clone());
        state.save().unwrap();
        let again = State::open(&path, "a".into()).unwrap();
        assert_eq!(again.of("x.lp", "10 bytes"), Some(&file));
        assert_eq!(again.of("x.lp", "11 bytes"), None);
        assert!(State::open(&path, "b".into()).unwrap_err().to_string().contains("other arguments"));
        again.remove().unwrap();
        again.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
