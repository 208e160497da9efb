//! The operator's token at the start: the one in the catalog, one from a file, or a new one.
//!
//! Whoever can read the machine's files is the operator. Nobody gets the first token over the network, where it
//! would be for whoever comes first.

use std::path::{Path, PathBuf};

use super::tokens::{AdminTokenFile, NewTokenText, OPERATOR, write_secret};
use crate::engine::{Engine, NameTaken, NewToken, TokenHash};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Rights, Timestamp};

/// The file in the data directory.
const FILE_NAME: &str = "admin-token";

/// Where the operator's token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstToken {
    /// There was one before.
    Known,
    /// It is that of a file which the settings name.
    Given(PathBuf),
    /// It was made, and written to this file.
    Made(PathBuf),
}

/// Sees to it that there is a token that may do everything.
///
/// The file that is `given` counts whenever it differs from what the catalog has, so that an operator who has lost the token can
/// make another one. Otherwise one is made where there is none. It is in its file before it is in the catalog: after
/// a crash in between, the next start takes it from there.
///
/// # Errors
/// If a file can't be read or written, if others can read it, or if the catalog can't be written.
pub(in crate::server) async fn ensure(
    engine: &Engine,
    given: Option<&Path>,
    data_directory: &Path,
) -> Result<FirstToken> {
    if let Some(path) = given {
        let file = AdminTokenFile::read(path)?;
        if engine.token(file.name()).is_some_and(|known| known.hash == file.hash()) {
            return Ok(FirstToken::Known);
        }
        store(engine, file.name(), file.hash(), file.expires_at()).await?;
        return Ok(FirstToken::Given(path.to_owned()));
    }
    if engine.token(OPERATOR).is_some() {
        return Ok(FirstToken::Known);
    }
    let path = data_directory.join(FILE_NAME);
    let new = NewTokenText::draw()?;
    match write_secret(&path, &format!("{}\n", new.reveal())) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error),
    }
    let file = AdminTokenFile::read(&path)?;
    store(engine, OPERATOR, file.hash(), file.expires_at()).await?;
    Ok(FirstToken::Made(path))
}

/// Removes the file of a token that is worth nothing any more.
///
/// # Errors
/// `Unavailable` if it is there and can't be removed.
pub(in crate::server) fn forget_file(data_directory: &Path) -> Result<()> {
    let path = data_directory.join(FILE_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("could not remove \"{}\"", path.display());
            Err(Error::with_source(ErrorKind::Unavailable, message, error))
        }
        _ => Ok(()),
    }
}

async fn store(engine: &Engine, name: &str, hash: TokenHash, expires_at: Option<Timestamp>) -> Result<()> {
    let token = NewToken { name: name.to_owned(), hash, rights: Rights::everything(), expires_at };
    engine.create_token(token, NameTaken::Replace).await?;
    Ok(())
}
