//! Disks that run full, fail and recover, at every single operation in turn.

use std::collections::BTreeSet;

use super::*;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The operation has no effect, but half of an append stays in the file.
    NoSpace,
    /// The same, and as long as it lasts files can neither be cut nor removed.
    Broken,
}

/// Files in memory where the operations in `failing`, counted from 1, fail.
#[derive(Debug, Clone)]
struct FaultyDisk {
    files: MemoryDisk,
    fault: Fault,
    failing: std::ops::Range<usize>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    operations: usize,
    /// Files whose sync has failed.
    sync_failed: BTreeSet<String>,
}

impl FaultyDisk {
    fn new(fault: Fault, failing: std::ops::Range<usize>) -> Self {
        Self { files: MemoryDisk::default(), fault, failing, state: Arc::default() }
    }

    fn step(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operations += 1;
        if self.failing.contains(&state.operations) { Err(self.error()) } else { Ok(()) }
    }

    fn error(&self) -> io::Error {
        match self.fault {
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
            Fault::Broken => io::Error::other("input/output error"),
        }
    }

    /// A full disk still lets go of bytes.
    fn step_unless_full(&self) -> io::Result<()> {
        if self.fault == Fault::NoSpace { Ok(()) } else { self.step() }
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: Box<dyn DiskFile>,
    name: String,
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        self.state.lock().sync_failed.remove(name);
        Ok(Box::new(FaultyFile { disk: self.clone(), file: self.files.create(name)?, name: name.to_owned() }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.files.read(name)
    }
    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        self.files.read_start(name, length)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.step_unless_full()?;
        self.files.remove(name)
    }
    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.files.truncate(name, length)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.step()
    }
}

impl DiskFile for FaultyFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        if let Err(error) = self.disk.step() {
            let whole = slices.concat();
            self.file.append(&[&whole[..whole.len() / 2]])?;
            return Err(error);
        }
        self.file.append(slices)
    }
    fn sync(&mut self) -> io::Result<()> {
        let again = self.disk.state.lock().sync_failed.contains(&self.name);
        assert!(!again, "\"{}\" is synced again after a failed sync", self.name);
        self.disk.step().inspect_err(|_| {
            self.disk.state.lock().sync_failed.insert(self.name.clone());
        })
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.disk.step_unless_full()?;
        self.file.truncate(length)
    }
}

/// Writes groups to a log over `disk`; returns what was acknowledged and what was refused.
fn write_groups(disk: &FaultyDisk) -> (Vec<(u64, i64)>, Vec<i64>) {
    let (mut log, _) = open_log(&(Arc::new(disk.clone()) as Arc<dyn Disk>), 4000).unwrap();
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for group in 0..14_i64 {
        let values: Vec<i64> = (0..=group % 3).map(|index| group * 10 + index).collect();
        let durability = if group % 2 == 0 { Durability::Synced } else { Durability::Unsynced };
        match append(&mut log, &values, durability) {
            Ok(first) => acknowledged.extend((first.get()..).zip(values)),
            Err(_) => refused.extend(values),
        }
        if group % 5 == 4 {
            // A failure here is only about writes without durability, and this disk forgets nothing.
            let _ = log.sync();
        }
        if group == 9 {
            log.release(TableId::new(99), Sequence::new(1));
        }
    }
    (acknowledged, refused)
}

fn check_every_operation(fault: Fault, lasting: usize) {
    // The first operation is the start, which may fail.
    for operation in 2.. {
        let disk = FaultyDisk::new(fault, operation..operation + lasting);
        let (acknowledged, refused) = write_groups(&disk);
        let context = format!("{fault:?} from operation {operation} on, for {lasting}");
        let operations = disk.state.lock().operations;
        if operations >= operation + lasting {
            let last = acknowledged.last().map(|&(_, value)| value);
            assert!(last >= Some(130) || refused.contains(&130), "{context}");
            // Whatever failed, the log works again as soon as the disk does.
            assert!(refused.len() <= 3 * lasting, "{context}: {refused:?}");
        }

        let reopened: Arc<dyn Disk> = Arc::new(disk.files.clone());
        let (mut log, found) =
            open_log(&reopened, 4000).unwrap_or_else(|error| panic!("{context}: {}", error.report()));
        let (kept, unknown): (Vec<_>, Vec<_>) = found.iter().partition(|pair| acknowledged.contains(pair));
        assert_eq!(kept, acknowledged, "{context}");
        assert!(unknown.iter().all(|(_, value)| refused.contains(value)), "{context}: {unknown:?}");
        assert!(found.is_sorted_by(|one, other| one.0 < other.0), "{context}: {found:?}");

        let next = append(&mut log, &[1000], Durability::Synced).unwrap();
        let again = open_log(&reopened, 4000).unwrap().1;
        assert_eq!(again, [found, vec![(next.get(), 1000)]].concat(), "{context}");
        if operations < operation {
            assert!(operation > 30, "the script has only {operations} operations");
            return;
        }
    }
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing_that_was_acknowledged() {
    for lasting in [1, 2, 3, 7] {
        check_every_operation(Fault::NoSpace, lasting);
    }
}

#[test]
fn a_broken_disk_at_any_operation_loses_nothing_that_was_acknowledged() {
    for lasting in [1, 2, 3, 7] {
        check_every_operation(Fault::Broken, lasting);
    }
}

#[test]
fn a_disk_that_stays_broken_leaves_a_log_that_opens() {
    for operation in 2..60 {
        let disk = FaultyDisk::new(Fault::Broken, operation..usize::MAX);
        let (acknowledged, refused) = write_groups(&disk);
        let (_, found) = open_log(&(Arc::new(disk.files) as Arc<dyn Disk>), 4000).unwrap();
        assert_eq!(found[..acknowledged.len()], acknowledged, "broken from operation {operation} on");
        assert!(found[acknowledged.len()..].iter().all(|(_, value)| refused.contains(value)));
    }
}

#[tokio::test]
async fn writers_of_a_refused_group_are_told_and_the_next_group_succeeds() {
    // Opening syncs the directory; making the first segment takes four operations; then one append and one sync a write.
    for (failing, message) in [
        (8..9, "could not write to the write-ahead log"),
        (9..10, "could not sync the write-ahead log: whether the write is stored is unknown, writing it again is safe"),
    ] {
        let disk = FaultyDisk::new(Fault::NoSpace, failing);
        // A mark would be one operation more.
        let settings = WalSettings { mark_delay: Duration::from_secs(3600), ..WalSettings::default() };
        let (wal, _, published) = open_wal(Arc::new(disk.clone()), settings);
        assert_eq!(wal.append(record(1), Durability::Synced).await.unwrap(), Sequence::new(1));
        let refused = wal.append(record(2), Durability::Synced).await.unwrap_err();
        assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Unavailable, message));
        assert!(refused.report().ends_with("no storage space"), "{}", refused.report());
        assert_eq!(wal.append(record(3), Durability::Synced).await.unwrap(), Sequence::new(2));
        assert_eq!(wal.metrics().failures, 1);
        wal.close().await.unwrap();
        let order: Vec<i64> = published.try_iter().map(|(_, record)| value_of(&record)).collect();
        assert_eq!(order, [1, 3], "a refused write is not published");
        let (_, found) = open_log(&(Arc::new(disk.files) as Arc<dyn Disk>), 4000).unwrap();
        assert_eq!(found, [(1, 1), (2, 3)]);
    }
}
