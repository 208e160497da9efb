//! The directory of the cache: who has it, what was in it before, its files.
//!
//! | path | |
//! |---|---|
//! | `flightline-cache.lock` | locked while a process has the directory, and says that it is one for a cache |
//! | `<catalog>/<file id>` | what is kept of a data file, see `layout` |
//!
//! Nothing is synced: what a power cut leaves fails its checksum, or is not noted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use uuid::Uuid;

use super::DiskCacheError;
use super::layout::{Layout, Slots};
use crate::model::FileId;

const LOCK_FILE: &str = "flightline-cache.lock";

/// What a file with a hole of this size takes where holes take nothing, generously.
const PROBE_HOLE_BYTES: u64 = 1 << 20;
const PROBE_BYTES_MAX: u64 = 64 << 10;

/// What a cache file may take beyond what its note says: file systems round in their own ways.
const SLACK_BYTES: u64 = 64 << 10;

/// A directory that this process has until the value is released or the process ends.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    files: PathBuf,
    lock: Mutex<Option<File>>,
}

/// A cache file that was there at the start.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: FileId,
    pub(super) held: Slots,
    /// When it was last written to, or marked as used.
    pub(super) used: SystemTime,
}

impl Directory {
    /// Takes the directory for the files of one catalog; makes it if need be.
    ///
    /// # Errors
    /// If another process has it, it holds other things, or it can't be used.
    pub(super) fn take(root: &Path, catalog: Uuid) -> Result<Self, DiskCacheError> {
        let failed = |source| DiskCacheError::Directory { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        let is_ours = root.join(LOCK_FILE).exists();
        if !is_ours && fs::read_dir(root).map_err(failed)?.next().is_some() {
            return Err(DiskCacheError::Occupied { path: root.to_owned() });
        }
        let lock = take_lock(root).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => DiskCacheError::InUse { path: root.to_owned() },
            _ => failed(error),
        })?;
        let files = root.join(catalog.to_string());
        fs::create_dir_all(&files).map_err(failed)?;
        if !keeps_holes(root).map_err(failed)? {
            return Err(DiskCacheError::NoHoles { path: root.to_owned() });
        }
        Ok(Self { root: root.to_owned(), files, lock: Mutex::new(Some(lock)) })
    }

    /// Lets others have it.
    pub(super) fn release(&self) {
        self.lock.lock().take();
    }

    /// Makes it anew if somebody removed it. Whether it was gone.
    ///
    /// # Errors
    /// What the file system says; `ResourceBusy` if another process has what is in its place now.
    pub(super) fn renew(&self) -> io::Result<bool> {
        if self.files.is_dir() {
            return Ok(false);
        }
        let mut lock = self.lock.lock();
        let place = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(self.root.join(LOCK_FILE)).ok();
        let ours = lock.as_ref().and_then(|lock| lock.metadata().ok());
        if there.as_ref().map(place) != ours.as_ref().map(place) || ours.is_none() {
            fs::create_dir_all(&self.root)?;
            *lock = Some(take_lock(&self.root)?);
        }
        fs::create_dir_all(&self.files)?;
        Ok(true)
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.files.join(file.get().to_string())
    }

    /// The cache files that fit what `layout` says of them. All others go, and the caches of other catalogs.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn recover(&self, layout: impl Fn(FileId) -> Option<Layout>) -> io::Result<Vec<Found>> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let is_catalog =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Uuid>().is_ok());
            if is_catalog && path != self.files {
                fs::remove_dir_all(&path)?;
            }
        }
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.files)? {
            let path = entry?.path();
            let file =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).map(FileId::new);
            match file.and_then(|file| Some((file, layout(file)?))) {
                Some((file, layout)) => match read_note(&path, layout) {
                    Ok(Some((held, used))) => all.push(Found { file, held, used }),
                    Ok(None) | Err(_) => fs::remove_file(&path)?, // whatever is wrong with it, it can be fetched again
                },
                None => fs::remove_file(&path)?,
            }
        }
        Ok(all)
    }

    /// Opens what is kept of a file.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(&self, file: FileId) -> io::Result<File> {
        File::open(self.path(file))
    }

    /// Writes `bytes` of a file from the slot `first` on, and notes which slots there are then.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write(
        &self,
        file: FileId,
        layout: Layout,
        first: usize,
        bytes: &[u8],
        held: &Slots,
        is_new: bool,
    ) -> io::Result<()> {
        let file = OpenOptions::new().create(true).write(true).truncate(is_new).open(self.path(file))?;
        file.write_all_at(bytes, Layout::offset(first))?;
        file.write_all_at(&layout.note(held), layout.note_offset())
    }

    /// Removes what is kept of a file, if it is there.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn remove(&self, file: FileId) -> io::Result<()> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// # Errors
/// `ResourceBusy` if another process has it.
fn take_lock(root: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(root.join(LOCK_FILE))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::ResourceBusy.into(),
        TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// Whether holes in files take no room: without that, no bound could be kept.
fn keeps_holes(root: &Path) -> io::Result<bool> {
    let path = root.join("probe");
    let probe = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let taken = probe.write_all_at(b"x", PROBE_HOLE_BYTES).and_then(|()| probe.metadata());
    fs::remove_file(&path)?;
    Ok(taken?.blocks() * 512 <= PROBE_BYTES_MAX)
}

/// Which slots a cache file has, and when it was used; `None` if its note can't be believed.
fn read_note(path: &Path, layout: Layout) -> io::Result<Option<(Slots, SystemTime)>> {
    let file = File::open(path)?;
    let mut note = vec![0; layout.note_bytes()];
    file.read_exact_at(&mut note, layout.note_offset())?;
    let metadata = file.metadata()?;
    let Some(held) = layout.read_note(&note) else { return Ok(None) };
    let slots = (0..layout.slots()).filter(|slot| held.contains(*slot));
    let noted: u64 = slots.map(|slot| layout.disk_bytes(slot)).sum();
    // More than it knows of: it was killed between writing and noting.
    let is_honest = metadata.blocks() * 512 <= noted + SLACK_BYTES;
    Ok(is_honest.then_some((held, metadata.modified()?)))
}
