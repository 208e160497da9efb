//! Which series a line belongs to, found by its bytes: `measurement,tags` as they are written.
//!
//! Most requests repeat their series, often in the same order. So each series remembers which one
//! followed it; if the next line begins with the bytes of that one, its tags are known without being
//! read. Else a hash of the bytes finds it. Two spellings of one series count as two: the columns come out the same.
//!
//! Only series of accepted lines are here: their table and tags exist.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// A series in one spelling.
#[derive(Debug)]
pub(super) struct Series<'a> {
    /// The bytes up to the blank before the fields.
    raw: &'a [u8],
    hash: u64,
    /// The number of its table in this request.
    pub(super) table: u32,
    /// Its number in that table.
    pub(super) number: u32,
    /// The series of the line after the last line of this one.
    follower: u32,
}

impl Series<'_> {
    /// How many bytes its spelling has.
    pub(super) fn raw_len(&self) -> usize {
        self.raw.len()
    }
}

/// The series of the accepted lines of one request.
#[derive(Debug, Default)]
pub(super) struct SeriesMap<'a> {
    entries: Vec<Series<'a>>,
    by_hash: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The series of the last accepted line.
    last: u32,
}

impl<'a> SeriesMap<'a> {
    pub(super) fn get(&self, id: u32) -> &Series<'a> {
        &self.entries[id as usize]
    }

    /// The series that is expected next, if `line` begins with it.
    #[inline]
    pub(super) fn predicted(&self, line: &[u8]) -> Option<u32> {
        let id = self.entries.get(self.last as usize)?.follower;
        let series = &self.entries[id as usize];
        // The blank makes sure that the line's tags end here too.
        let same = line.starts_with(series.raw) && line.get(series.raw.len()) == Some(&b' ');
        same.then_some(id)
    }

    /// The series that is spelled like this.
    pub(super) fn find(&self, raw: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(raw);
        self.by_hash.find(hash, |id| self.entries[*id as usize].raw == raw).copied()
    }

    /// Adds a series that is not here yet.
    pub(super) fn insert(&mut self, raw: &'a [u8], table: u32, number: u32) -> u32 {
        let hash = self.hasher.hash_one(raw);
        let id = self.entries.len() as u32;
        self.entries.push(Series { raw, hash, table, number, follower: id });
        self.by_hash.insert_unique(hash, id, |id| self.entries[*id as usize].hash);
        id
    }

    /// Notes the series of an accepted line.
    #[inline]
    pub(super) fn accepted(&mut self, id: u32) {
        if let Some(last) = self.entries.get_mut(self.last as usize) {
            last.follower = id;
        }
        self.last = id;
    }
}
