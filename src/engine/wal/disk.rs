//! The few file operations that the log needs, and the disks that offer them.
//!
//! The log never touches the file system itself, so that a simulated disk can lose what was not synced, tear writes
//! and run full. What a disk must promise is said here once, in the words of POSIX:
//! - bytes survive a power cut once `DiskFile::sync` has returned after they were appended;
//! - a file can be found after a power cut once `Disk::sync_directory` has returned after it was created, and stays
//!   away once that has returned after it was removed;
//! - what was not synced may be there in full, in part, with holes, or not at all.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// One directory of files.
///
/// A name is a plain file name. Every call blocks until the disk has answered.
pub trait Disk: Send + Sync + Debug {
    /// Makes an empty file that can be appended to. It fails with `AlreadyExists` if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The whole file.
    fn read(&self, name: &str) -> io::Result<Bytes>;
    /// The first `length` bytes of the file, or all of it if it is shorter.
    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes>;
    /// Removes the file. It fails with `NotFound` if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Cuts the file at `length` bytes and makes what is left safe, bytes that others appended included.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;
    /// Makes every file made or removed before this call stay so after a power cut.
    fn sync_directory(&self) -> io::Result<()>;
    /// Whether bytes that are appended and not synced are likely to be found by the next process, if the power stays.
    fn keeps_unsynced(&self) -> bool {
        true
    }
    /// How an operator finds the file: its path, for a disk that has paths.
    fn locate(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// A file that grows at its end.
pub trait DiskFile: Send {
    /// Appends all slices, one after the other. After an error any part of them may be in the file.
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()>;
    /// Makes all appended bytes safe. After an error nobody can say which bytes are, nor may this be called again.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file at `length` bytes. It is not safe before a sync.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// The lock that keeps a second process out of the directory.
const LOCK_FILE: &str = "lock";

/// The kernel takes at most this many slices in one call (`IOV_MAX` on Linux).
const SLICES_MAX: usize = 1024;

/// A directory of the machine's file system. While it is open, no other process can open it.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    /// Holds the directory open for syncing.
    handle: File,
    /// The lock goes when the file is closed, also when the process is killed.
    _lock: File,
}

impl RealDisk {
    /// Opens `directory`, and makes it, with its parents, if it is not there.
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it open; otherwise what the file system says.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        create_durably(&directory)?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(directory.join(LOCK_FILE))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("directory \"{}\" is in use by another process", directory.display()),
            ),
            TryLockError::Error(error) => error,
        })?;
        let handle = File::open(&directory)?;
        Ok(Self { directory, handle, _lock: lock })
    }
}

/// Makes a directory and every missing parent, each safe in the one above it.
fn create_durably(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(directory)?;
    for path in missing {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(self.directory.join(name))?;
        Ok(Box::new(RealFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        fs::read(self.directory.join(name)).map(Bytes::from)
    }

    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(length);
        File::open(self.directory.join(name))?.take(length as u64).read_to_end(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.directory.join(name))?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
        }
        file.sync_all()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn locate(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        for few in slices.chunks(SLICES_MAX) {
            write_all(&mut self.file, few)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

/// Writes all slices, in as few calls as the kernel allows.
fn write_all(file: &mut File, slices: &[&[u8]]) -> io::Result<()> {
    // Empty slices would make a complete write look like one that made no progress.
    let mut slices: Vec<IoSlice<'_>> =
        slices.iter().filter(|slice| !slice.is_empty()).map(|slice| IoSlice::new(slice)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Files in memory, for servers that keep nothing. Clones share the files.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDisk").field("files", &self.files.lock().len()).finish()
    }
}

impl MemoryDisk {
    /// Replaces the content of a file, or makes it, as damage or an operator would.
    #[cfg(test)]
    pub(crate) fn put(&self, name: &str, content: Vec<u8>) {
        self.files.lock().insert(name.to_owned(), content);
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        self.files.lock().get_mut(name).map(act).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        files.insert(name.to_owned(), Vec::new());
        Ok(Box::new(MemoryFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.with(name, |content| Bytes::copy_from_slice(content))
    }

    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        self.with(name, |content| Bytes::copy_from_slice(&content[..length.min(content.len())]))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.with(name, |content| content.truncate(usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    name: String,
}

impl DiskFile for MemoryFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        self.disk.with(&self.name, |content| slices.iter().for_each(|slice| content.extend_from_slice(slice)))
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        Disk::truncate(&self.disk, &self.name, length)
    }
}
