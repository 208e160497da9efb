//! The making of a backup: an instant, its files, its manifest.
//!
//! The instant is taken on the commit thread of the log, between two writes, while no commit of the catalog can happen: the
//! state of the catalog, and of each table the runs that no file of this state holds. It is what a restart at that moment
//! would find in catalog and log. Runs become files that only the backup has; the files of the state are copied, unless the
//! set has them.
//!
//! Always true:
//! - a write that touches several tables is in the backup whole or not at all, and every acknowledged one is in it;
//! - nobody waits for more than the capture of pointers; no row is copied for it;
//! - a file that is still to be copied stays: the state that names it is held, and garbage that is held is not collected.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::location::Location;
use super::manifest::{Backup, BackupKind, BackupName};
use crate::engine::Engine;
use crate::engine::buffer::persist::encode_frozen;
use crate::engine::buffer::{BufferedRun, Frozen};
use crate::engine::catalog::{CatalogChange, CatalogState, TableEntry};
use crate::engine::store::parquet::EncodedFile;
use crate::engine::store::paths;
use crate::engine::transfer::Transfer;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, FileId, SequenceRange, TableId, Timestamp};
use crate::steps::{self, Step};

/// All rows at one instant.
struct Instant {
    taken: Timestamp,
    state: Arc<CatalogState>,
    /// Of each table the runs that no file of `state` holds, oldest first; never empty.
    runs: Vec<(TableId, Vec<Arc<BufferedRun>>)>,
}

/// What was written for a backup.
#[derive(Default)]
struct Copied {
    files: u64,
    bytes: u64,
}

/// Makes a backup in a location whose lock is held.
///
/// # Errors
/// `Conflict` if the name is taken; `Corrupt` if a file can't be read as it was written, or did not arrive so;
/// `Unavailable` if a store doesn't answer. Then there is no backup, and what was stored of it goes with the next deletion.
pub(super) async fn create(
    engine: &Engine,
    location: &Location,
    name: Option<BackupName>,
    kind: BackupKind,
) -> Result<Backup> {
    if let Some(name) = &name {
        check_free(location, name).await?;
    }
    let base = match kind {
        BackupKind::Full => None,
        BackupKind::Incremental => set_to_continue(location, engine.catalog_id()).await?,
    };
    let set = base.unwrap_or_else(|| location.clock.unique_id());
    let instant = engine.instant().await?;
    let name = match name {
        Some(name) => name,
        None => {
            let name = BackupName::of(instant.taken);
            check_free(location, &name).await?;
            name
        }
    };
    tracing::info!(%name, location = location.description(), instant = %instant.taken, "making a backup");

    let files = location.files(set);
    let transfer = Transfer::new(&engine.store, &files, &location.clock);
    let (taken, state) = (instant.taken, Arc::clone(&instant.state));
    // Buffered rows first: while they are held, their memory is not free for writes.
    let (image, mut copied) = store_runs(engine, &transfer, instant).await?;
    steps::reached(Step::BackupRowsStored);
    let present: HashSet<String> = if base.is_some() {
        let directory = paths::backup_files(set);
        let objects = location.objects(&directory).await?;
        let below = format!("{directory}/");
        objects.iter().filter_map(|path| path.as_ref().strip_prefix(&below).map(str::to_owned)).collect()
    } else {
        HashSet::new()
    };
    let missing: Vec<Arc<DataFile>> = files_of(&state).filter(|file| !present.contains(&file.path)).cloned().collect();
    copied.files += missing.len() as u64;
    copied.bytes += missing.iter().map(|file| file.bytes).sum::<u64>();
    transfer.copy_all(&missing, |_| {}).await?;
    steps::reached(Step::BackupFilesStored);

    let backup = Backup {
        name,
        instant: taken,
        kind: if base.is_some() { BackupKind::Incremental } else { BackupKind::Full },
        catalog: image.id(),
        databases: image.databases().count() as u64,
        tables: image.table_count() as u64,
        files: files_of(&image).count() as u64,
        rows: files_of(&image).map(|file| file.rows).sum(),
        bytes: files_of(&image).map(|file| file.bytes).sum(),
        copied_files: copied.files,
        copied_bytes: copied.bytes,
        set,
        image: location.clock.unique_id(),
        version: image.version(),
    };
    location.announce(&backup, image).await?;
    let Backup { name, files, bytes, copied_files, copied_bytes, .. } = &backup;
    tracing::info!(%name, files, bytes, copied_files, copied_bytes, "made a backup");
    Ok(backup)
}

async fn check_free(location: &Location, name: &BackupName) -> Result<()> {
    if location.has(name).await? {
        let message = format!("there is a backup \"{name}\" in \"{}\" already", location.description());
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    Ok(())
}

/// The set of the newest backup of this catalog. After a restore the catalog is another one, whose files have numbers of
/// their own.
async fn set_to_continue(location: &Location, catalog: Uuid) -> Result<Option<Uuid>> {
    let mut newest = None;
    for listed in location.list().await? {
        match listed.backup {
            Ok(backup) if backup.catalog == catalog => newest = Some(backup.set),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = error.report(), "a backup is damaged; nothing is built on it"),
        }
    }
    Ok(newest)
}

/// Stores the buffered rows of an instant as files, table by table, and returns the state that names them too.
async fn store_runs(engine: &Engine, transfer: &Transfer, instant: Instant) -> Result<(CatalogState, Copied)> {
    let mut image = instant.state.image();
    let mut copied = Copied::default();
    for (table, runs) in instant.runs {
        let Some(entry) = instant.state.kept_table(table) else { continue };
        let Some(through) = runs.last().map(|run| run.sequences().last) else { continue };
        let files = entry.files.clone();
        let frozen = Frozen { schema: Arc::clone(&entry.schema), runs, through, files };
        let sequences = frozen.sequences();
        let encoded = tokio::task::spawn_blocking(move || encode_frozen(&frozen)).await.map_err(|error| {
            Error::with_source(ErrorKind::Internal, "encoding of buffered rows was cut off", error)
        })??;
        let mut files = Vec::with_capacity(encoded.len());
        for encoded in encoded {
            let (file, bytes) = describe(engine, &image, entry, encoded, sequences).await?;
            copied.files += 1;
            copied.bytes += file.bytes;
            let file = Arc::new(file);
            transfer.put(&file, &bytes).await?;
            files.push(file);
        }
        let files: Vec<DataFile> = files.into_iter().map(Arc::unwrap_or_clone).collect();
        let reserved = files.iter().map(|file| file.id.next()).max().unwrap_or(FileId::new(0));
        let count = reserved.get().saturating_sub(image.next_file_id().get());
        for change in [CatalogChange::ReserveFileIds { count }, CatalogChange::Persisted { table, files, through }] {
            image = image.apply(&change, instant.taken).map_err(|error| {
                Error::with_source(ErrorKind::Internal, "buffered rows don't fit the catalog of their backup", error)
            })?;
        }
    }
    Ok((image, copied))
}

/// What the backup's catalog says of a file of buffered rows. Its number is none that the server's own files have.
async fn describe(
    engine: &Engine,
    image: &CatalogState,
    table: &TableEntry,
    encoded: EncodedFile,
    sequences: SequenceRange,
) -> Result<(DataFile, Bytes)> {
    let database =
        image.kept_database_name(table.database).ok_or_else(|| Error::internal("a table without a database"))?;
    let id = engine.catalog.next_file_id().await?;
    let path = paths::data_file(table.database, database, table.id, &table.name, id, encoded.time.min);
    let file = DataFile {
        id,
        table: table.id,
        path: path.to_string(),
        bytes: encoded.bytes.len() as u64,
        data_bytes: encoded.data_bytes,
        tail_crc32c: encoded.tail_crc32c,
        rows: encoded.rows,
        time: encoded.time,
        sequences,
        // Deletions are of rows that were in files before; these rows are not.
        deletions_applied: 0,
        created: engine.clock.now(),
        row_groups: encoded.row_groups,
        columns: encoded.columns.into_iter().collect(),
    };
    Ok((file, encoded.bytes))
}

fn files_of(state: &CatalogState) -> impl Iterator<Item = &Arc<DataFile>> {
    state.kept_tables().flat_map(|table| table.files.iter())
}

impl Engine {
    /// All rows at one instant; see the top.
    async fn instant(&self) -> Result<Instant> {
        self.check_open()?;
        let _no_commit = self.catalog.hold().await;
        let (catalog, buffer, clock) = (Arc::clone(&self.catalog), Arc::clone(&self.buffer), Arc::clone(&self.clock));
        let look = move || {
            let state = catalog.state();
            let mut runs = Vec::new();
            for table in state.kept_tables() {
                let Some(buffered) = buffer.table(table.id) else { continue };
                // The buffer may not have followed the catalog yet: what is in files by now is left out here.
                let is_unstored = |run: &&Arc<BufferedRun>| run.sequences().last > table.persisted_through;
                let unstored: Vec<_> = buffered.contents().runs.iter().filter(is_unstored).cloned().collect();
                if !unstored.is_empty() {
                    runs.push((table.id, unstored));
                }
            }
            Instant { taken: clock.now(), state, runs }
        };
        self.wal.between_writes(look).await
    }
}
