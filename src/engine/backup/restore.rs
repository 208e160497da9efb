//! A backup becomes a store again: checked before anything is written, and after everything is.
//!
//! The store must be empty. It is marked first, so that no server makes an empty catalog of what is half there; then the
//! files come, then the catalog that names them. A restore that was cut off leaves a store that no server opens: empty it,
//! and restore again.
//!
//! The catalog is a new one, with an identifier and a key of tickets of its own; databases, tables, columns, retention
//! periods and deletions are those of the backup, with their numbers.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;
use uuid::Uuid;

use super::location::Location;
use super::manifest::Backup;
use crate::engine::catalog::Founding;
use crate::engine::store::Store;
use crate::engine::transfer::Transfer;
use crate::engine::verify::{Problem, Verified, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::model::DataFile;
use crate::steps::{self, Step};

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The new catalog.
    pub catalog: Uuid,
    /// What the check of the restored store looked at.
    pub verified: Verified,
}

impl Location {
    /// Restores a backup into an empty store.
    ///
    /// # Errors
    /// `Conflict` if the store is not empty; `Corrupt` if the backup is damaged: nothing was written then. `Corrupt` too if a
    /// file did not arrive as it was sent; `Unavailable` if a store doesn't answer.
    pub async fn restore(&self, backup: &Backup, store: &Store) -> Result<Restored> {
        check_empty(store).await?;
        let image = self.image(backup).await?;
        let mut first = None;
        let checked = self.verify(backup, &mut |problem| keep_first(&mut first, problem)).await?;
        refuse_problems(checked, first, &format!("backup \"{}\" is damaged and was not restored", backup.name))?;

        let founding = Founding::begin(store, Arc::clone(&self.clock)).await?;
        let files: Vec<Arc<DataFile>> = image.kept_tables().flat_map(|table| table.files.iter()).cloned().collect();
        Transfer::new(&self.files(backup.set), store, &self.clock).copy_all(&files, |_| {}).await?;
        steps::reached(Step::RestoreFilesStored);
        let catalog = founding.finish(&image).await?;

        let mut first = None;
        let clock = Arc::clone(&self.clock);
        let verified = verify(store, clock, &mut |problem| keep_first(&mut first, problem)).await?;
        let verified = verified.ok_or_else(|| Error::internal("the restored catalog is not there"))?;
        refuse_problems(verified, first, &format!("what was restored to \"{}\" is damaged", store.description()))?;
        Ok(Restored { catalog, verified })
    }
}

async fn check_empty(store: &Store) -> Result<()> {
    let first = store.objects().list(None).try_next().await.map_err(|error| {
        Error::with_source(ErrorKind::Unavailable, format!("could not list \"{}\"", store.description()), error)
    })?;
    let Some(first) = first else { return Ok(()) };
    let (place, path) = (store.description(), first.location);
    Err(Error::new(ErrorKind::Conflict, format!("\"{place}\" is not empty, there is \"{path}\": nothing was restored")))
}

fn keep_first(first: &mut Option<Problem>, problem: &Problem) {
    if first.is_none() {
        *first = Some(problem.clone());
    }
}

fn refuse_problems(verified: Verified, first: Option<Problem>, what: &str) -> Result<()> {
    match first {
        None => Ok(()),
        Some(first) => {
            Err(Error::new(ErrorKind::Corrupt, format!("{what}: {} problems, the first is {first}", verified.problems)))
        }
    }
}
