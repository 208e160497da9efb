//! What is on the disk, how long ago it was used, and what has to go for something new. No disk is touched here.
//!
//! Always true: what the files in the ledger take is within the bound, at every moment, since room is made before it is taken.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use super::layout::{FILE_BYTES, Layout, Slots};
use crate::model::FileId;

/// The cache files of one directory.
#[derive(Debug)]
pub(super) struct Ledger {
    bytes_max: u64,
    bytes: u64,
    files: HashMap<FileId, Entry>,
    /// Least recently used first.
    by_use: BTreeMap<u64, FileId>,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    held: Slots,
    bytes: u64,
    /// Its place in `by_use`.
    used: u64,
    /// When the file system was last told that it is used.
    marked: Duration,
    /// Something in it failed its checksum: nothing of it is read any more.
    is_damaged: bool,
}

/// Whether something fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is there already.
    Held,
    /// It does.
    Fits,
    /// Once these are gone, and have been [removed](Ledger::remove).
    After(Vec<FileId>),
    /// Not beside what is held of the same file.
    Never,
}

impl Ledger {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, files: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn bytes_of(&self, file: FileId) -> u64 {
        self.files.get(&file).map_or(0, |entry| entry.bytes)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        self.files.keys().copied()
    }

    /// Those of `wanted` that can be read, as runs, rising; the file counts as used.
    pub(super) fn held(&mut self, file: FileId, wanted: Range<usize>) -> Vec<Range<usize>> {
        let Some(entry) = self.files.get_mut(&file).filter(|entry| !entry.is_damaged) else { return Vec::new() };
        let runs = entry.held.runs(wanted);
        if !runs.is_empty() {
            self.uses += 1;
            self.by_use.remove(&entry.used);
            entry.used = self.uses;
            self.by_use.insert(self.uses, file);
        }
        runs
    }

    /// Whether the file system has not been told for `interval` that this file is used. Then it counts as told.
    pub(super) fn is_to_be_marked(&mut self, file: FileId, now: Duration, interval: Duration) -> bool {
        let Some(entry) = self.files.get_mut(&file) else { return false };
        let is_due = now.saturating_sub(entry.marked) >= interval;
        if is_due {
            entry.marked = now;
        }
        is_due
    }

    /// Lets nothing more be read of a file. Whether it was readable before.
    pub(super) fn condemn(&mut self, file: FileId) -> bool {
        self.files.get_mut(&file).is_some_and(|entry| !std::mem::replace(&mut entry.is_damaged, true))
    }

    /// Whether these slots of a file fit.
    pub(super) fn room(&self, file: FileId, layout: Layout, slots: Range<usize>) -> Room {
        let needed = self.needed(file, layout, slots);
        let own = self.bytes_of(file);
        if needed == 0 {
            return Room::Held;
        }
        if own + needed > self.bytes_max {
            return Room::Never;
        }
        let mut bytes = self.bytes + needed;
        let mut victims = Vec::new();
        for victim in self.by_use.values().filter(|victim| **victim != file) {
            if bytes <= self.bytes_max {
                break;
            }
            bytes -= self.bytes_of(*victim);
            victims.push(*victim);
        }
        if victims.is_empty() { Room::Fits } else { Room::After(victims) }
    }

    fn needed(&self, file: FileId, layout: Layout, slots: Range<usize>) -> u64 {
        let entry = self.files.get(&file);
        let new = slots.filter(|slot| entry.is_none_or(|entry| !entry.held.contains(*slot)));
        let bytes: u64 = new.map(|slot| layout.disk_bytes(slot)).sum();
        if entry.is_none() && bytes > 0 { bytes + FILE_BYTES } else { bytes }
    }

    /// Takes the room for slots that are about to be written. The slots that are held then, once they are written.
    pub(super) fn reserve(&mut self, file: FileId, layout: Layout, slots: Range<usize>) -> Slots {
        let needed = self.needed(file, layout, slots.clone());
        self.bytes += needed;
        self.uses += 1;
        let uses = self.uses;
        let entry = self.files.entry(file).or_insert_with(|| Entry {
            held: Slots::none(layout.slots()),
            bytes: 0,
            used: uses,
            marked: Duration::ZERO,
            is_damaged: false,
        });
        entry.bytes += needed;
        self.by_use.remove(&entry.used);
        entry.used = uses;
        self.by_use.insert(uses, file);
        let mut held = entry.held.clone();
        slots.for_each(|slot| held.insert(slot));
        held
    }

    /// These slots of a file are written now.
    pub(super) fn written(&mut self, file: FileId, held: Slots) {
        if let Some(entry) = self.files.get_mut(&file) {
            entry.held = held;
        }
    }

    /// A file that was found on the disk counts as used just now.
    pub(super) fn found(&mut self, file: FileId, layout: Layout, held: Slots) {
        for run in held.runs(0..layout.slots()) {
            self.reserve(file, layout, run);
        }
        self.written(file, held);
    }

    /// The least recently used file, if what was found is more than the bound allows today.
    pub(super) fn first_too_many(&self) -> Option<FileId> {
        let (_, file) = self.by_use.first_key_value().filter(|_| self.bytes > self.bytes_max)?;
        Some(*file)
    }

    /// A file is gone from the disk.
    pub(super) fn remove(&mut self, file: FileId) {
        if let Some(entry) = self.files.remove(&file) {
            self.bytes -= entry.bytes;
            self.by_use.remove(&entry.used);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "runs of slots are compared")]

    use proptest::prelude::*;

    use super::*;
    use crate::engine::store::disk_cache::tests::data_file;

    const SLOT: u64 = 64 << 10;

    fn layout(slots: u64) -> Layout {
        Layout::of(&data_file(1, slots * SLOT, 100))
    }

    /// Puts slots in as the writer does; the files that went.
    fn put(ledger: &mut Ledger, file: u64, layout: Layout, slots: Range<usize>) -> Option<Vec<u64>> {
        let file = FileId::new(file);
        let victims = match ledger.room(file, layout, slots.clone()) {
            Room::Held | Room::Fits => Vec::new(),
            Room::After(victims) => victims,
            Room::Never => return None,
        };
        victims.iter().for_each(|victim| ledger.remove(*victim));
        let held = ledger.reserve(file, layout, slots);
        ledger.written(file, held);
        Some(victims.into_iter().map(FileId::get).collect())
    }

    #[test]
    fn the_least_recently_used_file_goes() {
        let mut ledger = Ledger::new(3 * (SLOT + FILE_BYTES));
        for file in 1..=3 {
            assert_eq!(put(&mut ledger, file, layout(4), 0..1), Some(vec![]));
        }
        assert_eq!(ledger.held(FileId::new(1), 0..4), [0..1]);
        assert_eq!(put(&mut ledger, 1, layout(4), 0..1), Some(vec![]), "is there");
        assert_eq!(put(&mut ledger, 4, layout(4), 2..3), Some(vec![2]));
        assert_eq!(put(&mut ledger, 5, layout(4), 0..2), Some(vec![3, 1]));
        assert_eq!(ledger.held(FileId::new(4), 0..4), [2..3]);
    }

    #[test]
    fn a_file_that_is_larger_than_the_cache_keeps_what_came_first() {
        let mut ledger = Ledger::new(2 * SLOT + FILE_BYTES);
        assert_eq!(put(&mut ledger, 1, layout(9), 0..2), Some(vec![]));
        assert_eq!(put(&mut ledger, 1, layout(9), 2..3), None);
        assert_eq!(put(&mut ledger, 2, layout(9), 0..9), None);
        assert_eq!(ledger.held(FileId::new(1), 0..9), [0..2]);
    }

    #[test]
    fn nothing_is_read_of_a_damaged_file() {
        let mut ledger = Ledger::new(1 << 30);
        put(&mut ledger, 1, layout(4), 0..4);
        assert!(ledger.condemn(FileId::new(1)));
        assert!(!ledger.condemn(FileId::new(1)));
        assert!(ledger.held(FileId::new(1), 0..4).is_empty());
        ledger.remove(FileId::new(1));
        assert_eq!(ledger.bytes(), 0);
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_its_bound(
            bytes_max in 0u64..20 * SLOT,
            puts in prop::collection::vec((0u64..6, 0usize..9, 1usize..5), 0..200),
        ) {
            let mut ledger = Ledger::new(bytes_max);
            for (file, start, count) in puts {
                let layout = layout(12);
                let slots = start..start + count;
                let taken = put(&mut ledger, file, layout, slots.clone()).is_some();
                let held = ledger.held(FileId::new(file), slots.clone());
                prop_assert_eq!(taken, held == vec![slots.clone()]);
                let counted: u64 = ledger.files.values().map(|entry| {
                    let slots = (0..layout.slots()).filter(|slot| entry.held.contains(*slot));
                    FILE_BYTES + slots.map(|slot| layout.disk_bytes(slot)).sum::<u64>()
                }).sum();
                prop_assert_eq!(counted, ledger.bytes());
                prop_assert!(ledger.bytes() <= bytes_max);
                prop_assert_eq!(ledger.by_use.len(), ledger.files.len());
            }
        }
    }
}
