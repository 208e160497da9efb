//! Where the parts of a data file lie in its cache file, and how much of the disk they take.
//!
//! A cache file is the data file with holes: data lies at its own offset, in slots of a checksum block each; page index and
//! footer follow at the next slot. Behind the last slot stands the note of which slots hold something:
//!
//! | bytes | |
//! |---|---|
//! | 8 | `FLCACHE1` |
//! | 8 | length of the data, little endian |
//! | 8 | length of page index and footer, little endian |
//! | n | a bit for each slot, the lowest bit of a byte first; as many bytes as that takes |
//! | 4 | CRC32C of all of that, little endian |
//!
//! A note that is wrong does no harm to answers, since what is read is checked by the checksums of the data file.

use std::ops::Range;

use crate::engine::store::parquet::BLOCK_BYTES;
use crate::model::DataFile;

/// A slot is a checksum block, so that each can be checked by itself.
const SLOT_BYTES: u64 = BLOCK_BYTES as u64;

const MAGIC: &[u8; 8] = b"FLCACHE1";

/// What file systems give out at a time.
const DISK_BLOCK_BYTES: u64 = 4096;

/// What a cache file takes besides its slots: a block for the note, and one for its place in the directory.
pub(super) const FILE_BYTES: u64 = 2 * DISK_BLOCK_BYTES;

/// The lengths of a data file's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    data_bytes: u64,
    tail_bytes: u64,
}

impl Layout {
    pub(super) fn of(file: &DataFile) -> Self {
        let data_bytes = file.data_bytes.min(file.bytes);
        Self { data_bytes, tail_bytes: file.bytes - data_bytes }
    }

    fn data_slots(self) -> usize {
        slots(self.data_bytes)
    }

    pub(super) fn slots(self) -> usize {
        self.data_slots() + slots(self.tail_bytes)
    }

    /// The slots that hold `range` of the data; `None` if it is not made of whole slots.
    pub(super) fn data(self, range: &Range<u64>) -> Option<Range<usize>> {
        let is_whole = range.start.is_multiple_of(SLOT_BYTES)
            && (range.end.is_multiple_of(SLOT_BYTES) || range.end == self.data_bytes)
            && range.start < range.end
            && range.end <= self.data_bytes;
        is_whole.then(|| slots(range.start)..slots(range.end))
    }

    /// The slots that hold page index and footer.
    pub(super) fn tail(self) -> Range<usize> {
        self.data_slots()..self.slots()
    }

    /// Where a slot begins in the cache file.
    pub(super) fn offset(slot: usize) -> u64 {
        slot as u64 * SLOT_BYTES
    }

    /// Bytes in a run of slots, which lie either in the data or behind it.
    pub(super) fn length(self, slots: &Range<usize>) -> u64 {
        let end = if slots.end <= self.data_slots() {
            self.data_bytes
        } else {
            Self::offset(self.data_slots()) + self.tail_bytes
        };
        Self::offset(slots.end).min(end).saturating_sub(Self::offset(slots.start))
    }

    /// What a slot takes of the disk.
    pub(super) fn disk_bytes(self, slot: usize) -> u64 {
        self.length(&(slot..slot + 1)).next_multiple_of(DISK_BLOCK_BYTES)
    }

    /// Where the note begins.
    pub(super) fn note_offset(self) -> u64 {
        Self::offset(self.slots())
    }

    /// How long it is.
    pub(super) fn note_bytes(self) -> usize {
        MAGIC.len() + 16 + self.slots().div_ceil(8) + 4
    }

    /// The note for these slots.
    pub(super) fn note(self, held: &Slots) -> Vec<u8> {
        let mut note = Vec::with_capacity(self.note_bytes());
        note.extend_from_slice(MAGIC);
        note.extend_from_slice(&self.data_bytes.to_le_bytes());
        note.extend_from_slice(&self.tail_bytes.to_le_bytes());
        note.extend_from_slice(&held.0);
        let crc = crc32c::crc32c(&note);
        note.extend_from_slice(&crc.to_le_bytes());
        note
    }

    /// The slots of a note; `None` if it is none for a file of these lengths.
    pub(super) fn read_note(self, note: &[u8]) -> Option<Slots> {
        let bits = note.get(MAGIC.len() + 16..note.len().checked_sub(4)?)?;
        let held = Slots(bits.into());
        (self.note(&held) == note && bits.len() == self.slots().div_ceil(8)).then_some(held)
    }
}

fn slots(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(SLOT_BYTES)).unwrap_or(usize::MAX)
}

/// A set of slots of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots(Box<[u8]>);

impl Slots {
    /// None of `count` slots.
    pub(super) fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(8)].into())
    }

    pub(super) fn contains(&self, slot: usize) -> bool {
        self.0.get(slot / 8).is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
    }

    pub(super) fn insert(&mut self, slot: usize) {
        if let Some(byte) = self.0.get_mut(slot / 8) {
            *byte |= 1 << (slot % 8);
        }
    }

    /// Those of `wanted` that are in the set, as runs, rising.
    pub(super) fn runs(&self, wanted: Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for slot in wanted.filter(|slot| self.contains(*slot)) {
            match runs.last_mut() {
                Some(run) if run.end == slot => run.end += 1,
                _ => runs.push(slot..slot + 1),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn data_lies_at_its_offset_and_the_tail_at_the_next_slot() {
        let layout = Layout { data_bytes: 200 * KIB, tail_bytes: 70 * KIB };
        assert_eq!(layout.slots(), 4 + 2);
        assert_eq!(layout.data(&(64 * KIB..200 * KIB)), Some(1..4));
        assert_eq!(layout.data(&(64 * KIB..128 * KIB)), Some(1..2));
        assert_eq!(layout.data(&(64 * KIB..100 * KIB)), None, "half a block");
        assert_eq!(layout.data(&(64 * KIB..256 * KIB)), None, "behind the data");
        assert_eq!(layout.tail(), 4..6);
        assert_eq!((layout.length(&(0..4)), layout.length(&(3..4))), (200 * KIB, 8 * KIB));
        assert_eq!((layout.length(&(4..6)), layout.length(&(5..6))), (70 * KIB, 6 * KIB));
        assert_eq!((layout.disk_bytes(0), layout.disk_bytes(3), layout.disk_bytes(5)), (64 * KIB, 8 * KIB, 8 * KIB));
    }

    #[test]
    fn a_note_is_read_back_and_no_other_is() {
        let layout = Layout { data_bytes: 900 * KIB, tail_bytes: KIB };
        let mut held = Slots::none(layout.slots());
        for slot in [0, 1, 5, 14, 15] {
            held.insert(slot);
        }
        let note = layout.note(&held);
        assert_eq!(note.len(), layout.note_bytes());
        assert_eq!(layout.read_note(&note), Some(held.clone()));
        assert_eq!(held.runs(0..16), [0..2, 5..6, 14..16]);
        assert_eq!(held.runs(1..15), [1..2, 5..6, 14..15]);
        for byte in 0..note.len() {
            let mut changed = note.clone();
            changed[byte] ^= 1;
            assert_eq!(layout.read_note(&changed), None, "byte {byte}");
        }
        assert_eq!(layout.read_note(&note[..note.len() - 1]), None);
        assert_eq!(layout.read_note(&[]), None);
        assert_eq!(Layout { data_bytes: 900 * KIB, tail_bytes: 2 * KIB }.read_note(&note), None, "of another file");
    }
}
