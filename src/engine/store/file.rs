//! A local directory as an object store whose puts survive a power cut.
//!
//! `LocalFileSystem` of the crate `object_store` never syncs anything, so that after a power cut an object that
//! was acknowledged may be empty or missing. Here a put goes through these steps:
//!
//! 1. the bytes go into a file below `.staging`, which is synced;
//! 2. the file gets its name: by a hard link where the object must be new, by a rename where it may replace one;
//! 3. the directory of the name is synced, and so was every directory above it when it was made.
//!
//! Always true:
//! - an object is whole or not there, at any moment and after any crash;
//! - a put that returned, and an object that a put found to exist already, survive a power cut;
//! - what a crash leaves in `.staging` is invisible and goes with the next open that is alone on the directory.
//!
//! Not here: durable deletes. A removed object may come back with a power cut; whoever deletes must bear that.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

/// Files that have no name yet. The names of files in it end in `#` and digits, which `LocalFileSystem` never lists.
const STAGING_DIRECTORY: &str = ".staging";

/// Held shared by every open store on the directory; whoever gets it alone may clean up.
const LOCK_FILE: &str = "lock#0";

/// How many directories are remembered as durable before all are forgotten; forgetting costs a few more syncs.
const DURABLE_DIRECTORIES_MAX: usize = 10_000;

const STORE: &str = "file";

/// Objects as files below one directory, put durably.
#[derive(Debug)]
pub struct DurableFileStore {
    reader: LocalFileSystem,
    tree: Arc<Tree>,
}

impl DurableFileStore {
    /// Opens a directory, makes it if it is missing, and removes what a crash left half written. Blocks.
    ///
    /// Several processes may have one directory open.
    ///
    /// # Errors
    /// If the directory can't be made, read or written.
    pub fn open(root: &FilePath) -> io::Result<Self> {
        create_durably(root)?;
        let root = root.canonicalize()?;
        let staging = root.join(STAGING_DIRECTORY);
        create_durably(&staging)?;
        let lock = lock_and_clean(&staging)?;
        let reader = LocalFileSystem::new_with_prefix(&root)?;
        let tree = Tree { root, staging, staged: AtomicU64::new(0), durable: Mutex::default(), _lock: lock };
        Ok(Self { reader, tree: Arc::new(tree) })
    }

    /// Where the object is, unless its path belongs to this store's own files.
    fn file_path(&self, location: &Path) -> Result<PathBuf> {
        if location.parts().next().is_some_and(|part| part.as_ref() == STAGING_DIRECTORY) {
            return Err(Error::NotSupported { source: format!("\"{location}\" is reserved").into() });
        }
        self.reader.path_to_filesystem(location)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tree) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T> {
        blocking(&self.tree, work).await
    }
}

impl fmt::Display for DurableFileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFileStore({})", self.tree.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableFileStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let naming = match opts.mode {
            PutMode::Create => Naming::New,
            PutMode::Overwrite => Naming::Replace,
            PutMode::Update(_) => return Err(self.not_implemented("put of an update")),
        };
        if !opts.attributes.is_empty() {
            return Err(self.not_implemented("put with attributes"));
        }
        let target = self.file_path(location)?;
        self.blocking(move |tree| tree.put(&payload, &target, naming)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return Err(self.not_implemented("multipart put with attributes"));
        }
        let target = self.file_path(location)?;
        let staged = self.blocking(Tree::stage).await?;
        let tree = Arc::clone(&self.tree);
        Ok(Box::new(StagedUpload { tree, target, staged: Some(Arc::new(staged)), offset: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reader.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.reader.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reader.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reader.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.reader.list_with_delimiter(prefix).await?;
        listed.common_prefixes.retain(|prefix| prefix.as_ref() != STAGING_DIRECTORY);
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let target = self.file_path(to)?;
        self.reader.copy_opts(from, to, options).await?; // a hard link: the bytes are durable already
        self.blocking(move |tree| tree.sync_name(&target)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let target = self.file_path(to)?;
        self.reader.rename_opts(from, to, options).await?;
        self.blocking(move |tree| tree.sync_name(&target)).await
    }
}

impl DurableFileStore {
    fn not_implemented(&self, operation: &str) -> Error {
        Error::NotImplemented { operation: operation.to_owned(), implementer: self.to_string() }
    }
}

/// What may be at the target already.
#[derive(Debug, Clone, Copy)]
enum Naming {
    /// Nothing.
    New,
    /// An object, which is then gone.
    Replace,
}

/// The directory and what is known of it. Everything here blocks.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    staging: PathBuf,
    /// How many files were staged, for their names.
    staged: AtomicU64,
    /// Directories whose own entry is known to be synced, with all above them.
    durable: Mutex<HashSet<PathBuf>>,
    _lock: File,
}

impl Tree {
    fn put(&self, payload: &PutPayload, target: &FilePath, naming: Naming) -> Result<(), FileError> {
        let staged = self.stage()?;
        for part in payload {
            (&staged.file).write_all(part).at("write", &staged.path)?;
        }
        self.name(&staged, target, naming)
    }

    /// A new file without a name.
    fn stage(&self) -> Result<StagedFile, FileError> {
        loop {
            let number = self.staged.fetch_add(1, Ordering::Relaxed);
            let path = self.staging.join(format!("put#{number}"));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(StagedFile { file, path, is_named: AtomicBool::new(false) }),
                // Another process counts in the same directory.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).at("create", &path),
            }
        }
    }

    /// Makes the bytes durable, then gives them their name, then makes the name durable.
    fn name(&self, staged: &StagedFile, target: &FilePath, naming: Naming) -> Result<(), FileError> {
        staged.file.sync_data().at("sync", &staged.path)?;
        self.make_parents(target)?;
        match naming {
            Naming::New => self.link(staged, target),
            Naming::Replace => {
                fs::rename(&staged.path, target)
                    .map_err(|error| self.forget_if_missing(error))
                    .at("replace", target)?;
                staged.is_named.store(true, Ordering::Relaxed);
                sync_parent(target)
            }
        }
    }

    fn link(&self, staged: &StagedFile, target: &FilePath) -> Result<(), FileError> {
        let linked = fs::hard_link(&staged.path, target).map_err(|error| self.forget_if_missing(error));
        if let Err(error) = linked {
            if error.kind() == io::ErrorKind::AlreadyExists {
                // The caller will build on the object that it finds, so that one has to last.
                sync_parent(target)?;
            }
            return Err(error).at("create", target);
        }
        sync_parent(target).inspect_err(|_| {
            // Nobody may take an object for stored that a power cut would remove. If this fails as well, the
            // next put of this name syncs the directory before it answers that the object exists.
            let _ = fs::remove_file(target);
        })
    }

    /// Makes the directories above `target` and syncs their entries, each the first time it is met.
    fn make_parents(&self, target: &FilePath) -> Result<(), FileError> {
        let is_new = |directory: &&FilePath| *directory != self.root && !self.durable.lock().contains(*directory);
        let mut missing: Vec<&FilePath> = target.ancestors().skip(1).take_while(is_new).collect();
        while let Some(directory) = missing.pop() {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(self.forget_if_missing(error)).at("create directory", directory);
                }
                _ => {}
            }
            // Also if it existed: whoever made it may not have come to this step yet.
            sync_parent(directory)?;
            let mut durable = self.durable.lock();
            if durable.len() >= DURABLE_DIRECTORIES_MAX {
                durable.clear();
            }
            durable.insert(directory.to_owned());
        }
        Ok(())
    }

    /// Makes a name durable that `LocalFileSystem` has given.
    fn sync_name(&self, target: &FilePath) -> Result<(), FileError> {
        self.make_parents(target)?;
        sync_parent(target)
    }

    /// Somebody removed a directory that we believed to be there: believe nothing, so that the next try makes it anew.
    fn forget_if_missing(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::NotFound {
            self.durable.lock().clear();
        }
        error
    }
}

/// A file that is removed when dropped, unless a rename has given it its name.
#[derive(Debug)]
struct StagedFile {
    file: File,
    path: PathBuf,
    is_named: AtomicBool,
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_named.load(Ordering::Relaxed) {
            // A leftover is invisible and goes with the next open.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An object that comes in parts, which may be written at the same time.
#[derive(Debug)]
struct StagedUpload {
    tree: Arc<Tree>,
    target: PathBuf,
    staged: Option<Arc<StagedFile>>,
    offset: u64,
}

#[async_trait]
impl MultipartUpload for StagedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(staged) = self.staged.clone() else {
            return futures::future::ready(Err(ended())).boxed();
        };
        let offset = self.offset;
        self.offset += data.content_length() as u64;
        let tree = Arc::clone(&self.tree);
        async move { blocking(&tree, move |_| write_at(&staged, &data, offset)).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, target) = (self.staged.take().ok_or_else(ended)?, self.target.clone());
        blocking(&self.tree, move |tree| tree.name(&staged, &target, Naming::Replace)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged.take().map(drop).ok_or_else(ended)
    }
}

fn write_at(staged: &StagedFile, data: &PutPayload, mut offset: u64) -> Result<(), FileError> {
    use std::os::unix::fs::FileExt;
    for part in data {
        staged.file.write_all_at(part, offset).at("write", &staged.path)?;
        offset += part.len() as u64;
    }
    Ok(())
}

fn ended() -> Error {
    Error::Generic { store: STORE, source: "the upload was completed or aborted before".into() }
}

/// A step that failed on a file.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} \"{}\"", path.display())]
struct FileError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Names the step and the file of an [`io::Error`].
trait At<T> {
    fn at(self, step: &'static str, path: &FilePath) -> Result<T, FileError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &'static str, path: &FilePath) -> Result<T, FileError> {
        self.map_err(|source| FileError { step, path: path.to_owned(), source })
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        match error.source.kind() {
            io::ErrorKind::AlreadyExists => {
                Self::AlreadyExists { path: error.path.display().to_string(), source: error.into() }
            }
            _ => Self::Generic { store: STORE, source: error.into() },
        }
    }
}

/// Runs file operations where they may block. They go on to their end when the future is dropped.
async fn blocking<T: Send + 'static>(
    tree: &Arc<Tree>,
    work: impl FnOnce(&Tree) -> Result<T, FileError> + Send + 'static,
) -> Result<T> {
    let tree = Arc::clone(tree);
    Ok(tokio::task::spawn_blocking(move || work(&tree)).await??)
}

/// Makes a directory with all above it that are missing; each new entry is synced.
fn create_durably(directory: &FilePath) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => FilePath::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        other => other?,
    }
    sync_directory(parent)
}

/// Removes leftovers if no other process has the directory open. The lock lasts as long as the file it returns.
fn lock_and_clean(staging: &FilePath) -> io::Result<File> {
    let path = staging.join(LOCK_FILE);
    let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
    match lock.try_lock() {
        Ok(()) => {
            let leftovers = fs::read_dir(staging)?.filter_map(|entry| entry.ok()).map(|entry| entry.path());
            leftovers.filter(|leftover| *leftover != path).try_for_each(fs::remove_file)?;
            lock.unlock()?;
        }
        Err(fs::TryLockError::WouldBlock) => {} // someone else's files may be in use
        Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(lock),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    lock.lock_shared()?;
    Ok(lock)
}

fn sync_parent(path: &FilePath) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(path);
    sync_directory(parent).at("sync directory", parent)
}

fn sync_directory(directory: &FilePath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn open() -> (tempfile::TempDir, DurableFileStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableFileStore::open(directory.path()).unwrap();
        (directory, store)
    }

    async fn create(store: &DurableFileStore, path: &str, bytes: &'static [u8]) -> Result<PutResult> {
        store.put_opts(&Path::from(path), bytes.into(), PutMode::Create.into()).await
    }

    async fn read(store: &DurableFileStore, path: &str) -> Bytes {
        store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap()
    }

    async fn list(store: &DurableFileStore) -> Vec<String> {
        let mut listed: Vec<String> =
            store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        listed.sort();
        listed
    }

    fn staged_files(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path().join(STAGING_DIRECTORY)).unwrap().count() - 1 // without the lock
    }

    #[tokio::test]
    async fn an_object_is_created_once_and_its_loser_leaves_nothing() {
        let (directory, store) = open();
        create(&store, "a/b/c", b"first").await.unwrap();
        let error = create(&store, "a/b/c", b"second").await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(read(&store, "a/b/c").await, b"first".as_slice());
        store.put(&Path::from("a/b/c"), b"third".as_slice().into()).await.unwrap();
        assert_eq!(read(&store, "a/b/c").await, b"third".as_slice());
        assert_eq!(list(&store).await, ["a/b/c"]);
        assert_eq!(staged_files(&directory), 0);
    }

    #[tokio::test]
    async fn of_many_writers_of_one_name_one_wins() {
        let (_directory, store) = open();
        let store = Arc::new(store);
        for round in 0..20 {
            let writers = (0..12u8).map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let path = Path::from(format!("race/{round}"));
                    store.put_opts(&path, vec![writer; 100].into(), PutMode::Create.into()).await.map(|_| writer)
                })
            });
            let outcomes = futures::future::join_all(writers).await;
            let winners: Vec<u8> = outcomes.into_iter().filter_map(|outcome| outcome.unwrap().ok()).collect();
            assert_eq!(winners.len(), 1);
            assert_eq!(read(&store, &format!("race/{round}")).await, vec![winners[0]; 100]);
        }
    }

    #[tokio::test]
    async fn parts_become_one_object_only_when_complete() {
        let (directory, store) = open();
        let path = Path::from("big/file");
        let mut upload = store.put_multipart(&path).await.unwrap();
        let (first, second) = (upload.put_part(vec![1; 70_000].into()), upload.put_part(vec![2; 5].into()));
        second.await.unwrap();
        first.await.unwrap();
        assert!(list(&store).await.is_empty());
        upload.complete().await.unwrap();
        let whole = [vec![1; 70_000], vec![2; 5]].concat();
        assert_eq!(read(&store, "big/file").await, whole);
        assert!(upload.complete().await.is_err());

        let mut dropped = store.put_multipart(&Path::from("big/other")).await.unwrap();
        dropped.put_part(vec![3; 10].into()).await.unwrap();
        dropped.abort().await.unwrap();
        drop(store.put_multipart(&Path::from("big/third")).await.unwrap());
        assert_eq!(list(&store).await, ["big/file"]);
        assert_eq!(staged_files(&directory), 0);
    }

    #[tokio::test]
    async fn leftovers_of_a_crash_are_invisible_and_go_with_the_next_open() {
        let (directory, store) = open();
        create(&store, "a", b"x").await.unwrap();
        let leftover = directory.path().join(STAGING_DIRECTORY).join("put#7");
        fs::write(&leftover, "half").unwrap();
        assert_eq!(list(&store).await, ["a"]);
        assert!(store.list_with_delimiter(None).await.unwrap().common_prefixes.is_empty());

        let beside = DurableFileStore::open(directory.path()).unwrap();
        assert!(leftover.exists(), "it may be in use by the store that is open");
        drop((store, beside));
        let alone = DurableFileStore::open(directory.path()).unwrap();
        assert!(!leftover.exists());
        assert_eq!(read(&alone, "a").await, b"x".as_slice());
    }

    #[tokio::test]
    async fn the_cause_of_a_failed_put_is_kept() {
        let (directory, store) = open();
        create(&store, "a", b"x").await.unwrap();
        let error = create(&store, "a/b", b"x").await.unwrap_err(); // "a" is no directory
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause = cause.downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::NotADirectory);
        assert_eq!(staged_files(&directory), 0);
    }

    #[tokio::test]
    async fn a_removed_directory_is_made_again() {
        let (directory, store) = open();
        create(&store, "a/b/1", b"x").await.unwrap();
        fs::remove_dir_all(directory.path().join("a")).unwrap();
        assert!(create(&store, "a/b/2", b"x").await.is_err());
        create(&store, "a/b/2", b"x").await.unwrap();
        assert_eq!(list(&store).await, ["a/b/2"]);
    }

    #[tokio::test]
    async fn objects_can_be_copied_renamed_and_deleted() {
        let (_directory, store) = open();
        create(&store, "a/1", b"x").await.unwrap();
        store.copy(&Path::from("a/1"), &Path::from("b/c/2")).await.unwrap();
        store.rename(&Path::from("a/1"), &Path::from("d/3")).await.unwrap();
        assert_eq!(list(&store).await, ["b/c/2", "d/3"]);
        store.delete(&Path::from("b/c/2")).await.unwrap();
        assert_eq!(list(&store).await, ["d/3"]);
    }

    #[tokio::test]
    async fn no_object_can_be_put_among_the_unnamed_files() {
        let (_directory, store) = open();
        assert!(create(&store, ".staging/x", b"x").await.is_err());
        assert!(list(&store).await.is_empty());
    }
}
