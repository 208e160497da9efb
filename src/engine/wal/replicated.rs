//! A log on two disks: what one of them loses, the other has.
//!
//! Every byte goes to both, and a sync is over when both are safe, so that a write is acknowledged only once it is in two
//! places. If one of them fails, writes are refused until it works again: nobody shall believe in a copy that is not there.
//!
//! At the start the two are made alike. Of each segment the copy with more whole frames counts, so that a disk which lost,
//! damaged or never got something is healed from the other. What only the replica has counts too, unless it is older
//! than all that the first disk has: that was removed. If the first disk has nothing, the replica is taken whole.
//!
//! Not here: what the bytes mean beyond whole frames (see `segment`).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::segment::{Frame, HEADER_BYTES, SegmentHeader, is_segment_name};

/// Two disks that hold the same. Reading is from the first.
#[derive(Debug)]
pub struct ReplicatedDisk {
    first: Arc<dyn Disk>,
    replica: Arc<dyn Disk>,
}

impl ReplicatedDisk {
    /// Makes the two disks alike and then keeps them so.
    ///
    /// # Errors
    /// What either disk says.
    pub fn open(first: Arc<dyn Disk>, replica: Arc<dyn Disk>) -> io::Result<Self> {
        let own = segments(first.as_ref())?;
        let others = segments(replica.as_ref())?;
        for name in own.union(&others) {
            if own.first().is_some_and(|oldest| name < oldest) {
                replica.remove(name)?;
                continue;
            }
            let [ours, theirs] = [(&first, &own), (&replica, &others)]
                .map(|(disk, names)| if names.contains(name) { disk.read(name) } else { Ok(Bytes::new()) });
            let (ours, theirs) = (ours?, theirs?);
            if ours == theirs {
                continue;
            }
            if whole_bytes(&theirs) > whole_bytes(&ours) {
                tracing::warn!(
                    segment = first.locate(name),
                    from = replica.locate(name),
                    "a segment of the write-ahead log is taken from the replica, which has more of it"
                );
                rewrite(first.as_ref(), name, &theirs)?;
            } else {
                rewrite(replica.as_ref(), name, &ours)?;
            }
        }
        replica.sync_directory()?;
        first.sync_directory()?;
        Ok(Self { first, replica })
    }
}

/// Runs two things that wait for different disks, and returns the first failure.
fn at_once(first: impl FnOnce() -> io::Result<()>, second: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let done = first();
        let second = second.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the replica died")));
        done.and(second)
    })
}

fn segments(disk: &dyn Disk) -> io::Result<BTreeSet<String>> {
    Ok(disk.list()?.into_iter().filter(|name| is_segment_name(name)).collect())
}

/// How far the frames of a segment are whole.
fn whole_bytes(segment: &[u8]) -> usize {
    let Ok(header) = SegmentHeader::decode(segment) else { return 0 };
    let magic = header.frame_magic();
    let mut offset = HEADER_BYTES;
    while let Ok(frame) = Frame::read(&segment[offset..], magic) {
        offset += frame.bytes();
    }
    offset
}

fn rewrite(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(name)?;
    file.append(&[content])?;
    file.sync()
}

impl Disk for ReplicatedDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (first, replica) = (self.first.create(name)?, self.replica.create(name)?);
        Ok(Box::new(ReplicatedFile { first, replica }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.first.list()
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.first.read(name)
    }

    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        self.first.read_start(name, length)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // The first before the replica: what only the replica has, and is older, is known to have been removed.
        let first = self.first.remove(name);
        match first {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match self.replica.remove(name) {
            // A file that one of them had is removed now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && first.is_ok() => Ok(()),
            other => other,
        }
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        at_once(|| self.first.truncate(name, length), || self.replica.truncate(name, length))
    }

    fn keeps_unsynced(&self) -> bool {
        self.first.keeps_unsynced() && self.replica.keeps_unsynced()
    }

    fn sync_directory(&self) -> io::Result<()> {
        at_once(|| self.first.sync_directory(), || self.replica.sync_directory())
    }

    fn locate(&self, name: &str) -> String {
        self.first.locate(name)
    }
}

struct ReplicatedFile {
    first: Box<dyn DiskFile>,
    replica: Box<dyn DiskFile>,
}

impl DiskFile for ReplicatedFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        self.first.append(slices)?;
        self.replica.append(slices)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Self { first, replica } = self;
        at_once(|| first.sync(), || replica.sync())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let Self { first, replica } = self;
        first.truncate(length).and(replica.truncate(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wal::tests::{append, open_log, segments as names};
    use crate::engine::wal::{Durability, MemoryDisk};

    fn open(first: &MemoryDisk, replica: &MemoryDisk) -> Arc<dyn Disk> {
        Arc::new(ReplicatedDisk::open(Arc::new(first.clone()), Arc::new(replica.clone())).unwrap())
    }

    /// Three segments or more on both disks.
    fn written(first: &MemoryDisk, replica: &MemoryDisk) -> Vec<(u64, i64)> {
        let disk = open(first, replica);
        let (mut log, _) = open_log(&disk, 4096).unwrap();
        for value in 0..12 {
            append(&mut log, &[value], Durability::Synced).unwrap();
        }
        (0..12).map(|value| (value as u64 + 1, value)).collect()
    }

    fn found(first: &MemoryDisk, replica: &MemoryDisk) -> Vec<(u64, i64)> {
        let disk = open(first, replica);
        open_log(&disk, 4096).unwrap().1
    }

    #[test]
    fn either_disk_alone_has_all_that_was_acknowledged() {
        let (first, replica) = (MemoryDisk::default(), MemoryDisk::default());
        let all = written(&first, &replica);
        assert!(names(&first).len() >= 3);
        assert_eq!(found(&MemoryDisk::default(), &replica), all);
        assert_eq!(found(&first, &MemoryDisk::default()), all);
    }

    #[test]
    fn what_one_disk_has_lost_or_damaged_comes_from_the_other() {
        let damages: [fn(&MemoryDisk, &str); 4] = [
            |disk, name| disk.remove(name).unwrap(),
            |disk, name| Disk::truncate(disk, name, 100).unwrap(),
            |disk, name| disk.put(name, vec![0; 500]),
            |disk, name| {
                let mut bytes = disk.read(name).unwrap().to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                disk.put(name, bytes);
            },
        ];
        for damage in damages {
            for on_first in [true, false] {
                let (first, replica) = (MemoryDisk::default(), MemoryDisk::default());
                let all = written(&first, &replica);
                // Not the oldest: one that is gone there was removed, as far as anybody can tell.
                for name in names(&first).into_iter().skip(1) {
                    damage(if on_first { &first } else { &replica }, &name);
                    assert_eq!(found(&first, &replica), all, "{name}");
                    assert_eq!(first.read(&name).unwrap(), replica.read(&name).unwrap());
                }
            }
        }
    }

    #[test]
    fn what_was_removed_does_not_come_back() {
        let (first, replica) = (MemoryDisk::default(), MemoryDisk::default());
        written(&first, &replica);
        let oldest = names(&first).remove(0);
        first.remove(&oldest).unwrap();
        found(&first, &replica);
        assert!(!names(&replica).contains(&oldest));
    }

    #[test]
    fn a_replica_that_fails_refuses_writes_and_both_heal() {
        let (first, replica) = (MemoryDisk::default(), MemoryDisk::default());
        let disk = open(&first, &replica);
        let (mut log, _) = open_log(&disk, 1 << 20).unwrap();
        append(&mut log, &[1], Durability::Synced).unwrap();
        let name = names(&replica).remove(0);
        replica.remove(&name).unwrap(); // appending to it fails now
        append(&mut log, &[2], Durability::Synced).unwrap_err();
        append(&mut log, &[3], Durability::Synced).unwrap();
        drop(log);
        assert_eq!(found(&first, &replica), [(1, 1), (2, 3)]);
    }
}
