//! The files of one table, in the order of writes.
//!
//! A table may have a hundred thousand files, and each commit makes a new list: so a list is made of *stretches* of some
//! hundred files, and copies share the stretches in which they don't differ. A stretch knows which range of time its files
//! cover. Times mostly rise with writes, so a look for a range of time passes over most stretches.

use std::collections::HashSet;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use super::data_file::DataFile;
use super::ids::{FileId, Sequence};
use super::overlap::Covers;
use super::time::TimeRange;

/// Files of a stretch before it is cut in two. About the square root of the files of a large table, so that a change
/// copies as many pointers to stretches as pointers to files.
const STRETCH_FILES_MAX: usize = 256;

/// Files of a table, oldest writes first. Copies share what is the same.
#[derive(Clone, Default)]
pub struct FileList {
    stretches: Arc<Vec<Arc<Stretch>>>,
    len: usize,
}

/// Neighbours in a list of files; never empty.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// In the order of writes.
    files: Vec<Arc<DataFile>>,
    time: TimeRange,
    ids: (FileId, FileId),
    rows: u64,
    bytes: u64,
}

/// Files of one persist or compaction hold the same writes, but no point in common; their numbers order them.
type Place = (Sequence, Sequence, FileId);

fn place(file: &DataFile) -> Place {
    (file.sequences.first, file.sequences.last, file.id)
}

impl Stretch {
    /// `None` without files, which must be in the order of writes.
    fn new(files: Vec<Arc<DataFile>>) -> Option<Self> {
        let time = files.iter().map(|file| file.time).reduce(|a, b| a.union(&b))?;
        let ids = files.iter().map(|file| (file.id, file.id)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let (rows, bytes) = (files.iter().map(|file| file.rows).sum(), files.iter().map(|file| file.bytes).sum());
        Some(Self { files, time, ids, rows, bytes })
    }

    /// Its files, oldest writes first.
    pub fn files(&self) -> &[Arc<DataFile>] {
        &self.files
    }

    fn first(&self) -> Option<Place> {
        self.files.first().map(|file| place(file))
    }

    fn insert(&mut self, file: Arc<DataFile>) {
        self.time = self.time.union(&file.time);
        self.ids = (self.ids.0.min(file.id), self.ids.1.max(file.id));
        self.rows = self.rows.saturating_add(file.rows);
        self.bytes = self.bytes.saturating_add(file.bytes);
        let at = self.files.partition_point(|other| place(other) < place(&file));
        self.files.insert(at, file);
    }
}

impl Covers for Stretch {
    /// From the first row of all its files to the last.
    fn time(&self) -> TimeRange {
        self.time
    }
}

impl FileList {
    /// How many files.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows in all files, also those that are hidden.
    pub fn rows(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.rows).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.bytes).sum()
    }

    /// The files, oldest writes first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DataFile>> {
        self.stretches.iter().flat_map(|stretch| stretch.files.iter())
    }

    /// The stretches that make up the list, in its order.
    pub fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().map(Arc::as_ref)
    }

    /// The files that have rows in a range of time, or may have some there; oldest writes first.
    pub fn overlapping(&self, time: TimeRange) -> impl Iterator<Item = &Arc<DataFile>> {
        let stretches = self.stretches.iter().filter(move |stretch| stretch.time.overlaps(&time));
        stretches.flat_map(|stretch| stretch.files.iter()).filter(move |file| file.time.overlaps(&time))
    }

    /// The file with the newest row.
    pub fn newest(&self) -> Option<&Arc<DataFile>> {
        let stretch = self.stretches.iter().max_by_key(|stretch| stretch.time.max)?;
        stretch.files.iter().max_by_key(|file| file.time.max)
    }

    /// The file with the last writes.
    pub fn last(&self) -> Option<&Arc<DataFile>> {
        self.stretches.last()?.files.last()
    }

    /// Whether there is a file of this number.
    pub fn has(&self, id: FileId) -> bool {
        let mut stretches = self.stretches.iter().filter(|stretch| stretch.ids.0 <= id && id <= stretch.ids.1);
        stretches.any(|stretch| stretch.files.iter().any(|file| file.id == id))
    }

    /// Whether the two are one list, so that nothing was added to or removed from either.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stretches, &other.stretches)
    }

    /// Adds a file.
    pub fn insert(&mut self, file: Arc<DataFile>) {
        self.len += 1;
        let stretches = Arc::make_mut(&mut self.stretches);
        let after = stretches.partition_point(|stretch| stretch.first() <= Some(place(&file)));
        let at = after.saturating_sub(1); // below all others: the first stretch now begins here
        let Some(stretch) = stretches.get_mut(at) else {
            stretches.extend(Stretch::new(vec![file]).map(Arc::new));
            return;
        };
        let stretch = Arc::make_mut(stretch);
        stretch.insert(file);
        if stretch.files.len() > STRETCH_FILES_MAX {
            // At the end a new one begins, so that a list that only grows has full stretches.
            let is_last = at + 1 == stretches.len();
            let stretch = Arc::make_mut(&mut stretches[at]);
            let cut = if is_last { STRETCH_FILES_MAX } else { STRETCH_FILES_MAX / 2 };
            let upper = stretch.files.split_off(cut);
            let lower = Stretch::new(std::mem::take(&mut stretch.files));
            let parts = [lower, Stretch::new(upper)].into_iter().flatten().map(Arc::new);
            stretches.splice(at..=at, parts);
        }
    }

    /// Removes the files of these numbers and returns them, oldest writes first. Of numbers that no file has nothing is said.
    pub fn remove(&mut self, ids: &HashSet<FileId>) -> Vec<Arc<DataFile>> {
        let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Vec::new() };
        self.remove_if(|stretch| stretch.ids.0 <= *last && *first <= stretch.ids.1, |file| ids.contains(&file.id))
    }

    /// Removes the files that are chosen and have rows in a range of time, and returns them, oldest writes first.
    pub fn remove_overlapping(&mut self, time: TimeRange, is_chosen: impl Fn(&DataFile) -> bool) -> Vec<Arc<DataFile>> {
        self.remove_if(|stretch| stretch.time.overlaps(&time), |file| file.time.overlaps(&time) && is_chosen(file))
    }

    fn remove_if(
        &mut self,
        may_hold: impl Fn(&Stretch) -> bool,
        is_chosen: impl Fn(&DataFile) -> bool,
    ) -> Vec<Arc<DataFile>> {
        let mut removed: Vec<Arc<DataFile>> = Vec::new();
        let mut stretches: Vec<Arc<Stretch>> = Vec::with_capacity(self.stretches.len());
        for stretch in self.stretches.iter() {
            if !may_hold(stretch) || !stretch.files.iter().any(|file| is_chosen(file)) {
                stretches.push(Arc::clone(stretch));
                continue;
            }
            let (gone, mut kept): (Vec<_>, Vec<_>) = stretch.files.iter().cloned().partition(|file| is_chosen(file));
            removed.extend(gone);
            // Small neighbours join, or a list that was compacted would be nothing but stretches.
            if let Some(before) = stretches.pop_if(|before| before.files.len() + kept.len() <= STRETCH_FILES_MAX / 2) {
                kept.splice(..0, before.files.iter().cloned());
            }
            stretches.extend(Stretch::new(kept).map(Arc::new));
        }
        if !removed.is_empty() {
            self.len -= removed.len();
            self.stretches = Arc::new(stretches);
        }
        removed
    }
}

impl Index<usize> for FileList {
    type Output = Arc<DataFile>;

    fn index(&self, mut index: usize) -> &Arc<DataFile> {
        for stretch in self.stretches.iter() {
            match stretch.files.get(index) {
                Some(file) => return file,
                None => index -= stretch.files.len(),
            }
        }
        panic!("a list of {} files has no such place", self.len)
    }
}

impl Extend<Arc<DataFile>> for FileList {
    fn extend<I: IntoIterator<Item = Arc<DataFile>>>(&mut self, files: I) {
        files.into_iter().for_each(|file| self.insert(file));
    }
}

impl FromIterator<Arc<DataFile>> for FileList {
    fn from_iter<I: IntoIterator<Item = Arc<DataFile>>>(files: I) -> Self {
        let mut list = Self::default();
        list.extend(files);
        list
    }
}

// By files and not derived: where stretches begin depends on the history.
impl PartialEq for FileList {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl fmt::Debug for FileList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{FileColumns, SequenceRange, TableId, Timestamp};

    fn file(id: u64, first: u64, min: i64) -> Arc<DataFile> {
        Arc::new(DataFile {
            id: FileId::new(id),
            table: TableId::new(1),
            path: String::new(),
            bytes: id,
            data_bytes: 0,
            tail_crc32c: 0,
            rows: 1,
            time: TimeRange::from_nanos(min, min + 10),
            sequences: SequenceRange::single(Sequence::new(first)),
            deletions_applied: 0,
            created: Timestamp::from_nanos(0),
            row_groups: Vec::new(),
            columns: FileColumns::from_iter([]),
        })
    }

    fn assert_same(list: &FileList, model: &[Arc<DataFile>]) {
        assert!(list.iter().eq(model.iter()));
        assert_eq!((list.len(), list.bytes()), (model.len(), model.iter().map(|file| file.bytes).sum()));
        assert!(list.stretches().all(|stretch| (1..=STRETCH_FILES_MAX).contains(&stretch.files.len())));
        assert_eq!(list.newest().map(|file| file.time.max), model.iter().map(|file| file.time.max).max());
        for (at, file) in model.iter().enumerate().step_by(37) {
            assert_eq!(&list[at], file);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn a_list_is_a_sorted_vector(
            steps in vec((0_u64..500, -300_i64..300, 0_usize..40, prop::bool::weighted(0.3)), 1..1500),
        ) {
            let (mut list, mut model) = (FileList::default(), Vec::new());
            let mut kept = Vec::new();
            for (number, (first, min, count, is_removal)) in steps.into_iter().enumerate() {
                let time = TimeRange::from_nanos(min, min + 20);
                if !is_removal {
                    let file = file(number as u64, first, min);
                    list.insert(Arc::clone(&file));
                    model.push(file);
                    model.sort_by_key(|file| place(file));
                } else if number % 2 == 0 {
                    let ids: HashSet<FileId> = model.iter().skip(first as usize).take(count).map(|file| file.id).collect();
                    let removed = list.remove(&ids);
                    let (gone, left): (Vec<_>, Vec<_>) = model.into_iter().partition(|file| ids.contains(&file.id));
                    prop_assert_eq!(removed, gone);
                    model = left;
                } else {
                    let is_chosen = |file: &DataFile| file.id.get().is_multiple_of(3);
                    let removed = list.remove_overlapping(time, is_chosen);
                    let goes = |file: &Arc<DataFile>| file.time.overlaps(&time) && is_chosen(file);
                    let (gone, left): (Vec<_>, Vec<_>) = model.into_iter().partition(goes);
                    prop_assert_eq!(removed, gone);
                    model = left;
                }
                let some = FileId::new(first);
                prop_assert_eq!(list.has(some), model.iter().any(|file| file.id == some));
                prop_assert!(list.overlapping(time).eq(model.iter().filter(|file| file.time.overlaps(&time))));
                if number % 300 == 0 {
                    kept.push((list.clone(), model.clone()));
                }
            }
            assert_same(&list, &model);
            // Older copies have not changed with newer ones.
            kept.iter().for_each(|(list, model)| assert_same(list, model));
        }
    }

    #[test]
    fn a_change_copies_one_stretch() {
        let mut list: FileList = (0..20_000).map(|n| file(n, n, n as i64 * 20)).collect();
        let before = list.clone();
        list.insert(file(30_000, 10_000, 0));
        let is_shared = |old: &&Arc<Stretch>| list.stretches.iter().any(|new| Arc::ptr_eq(old, new));
        assert_eq!(before.stretches.iter().filter(is_shared).count(), before.stretches.len() - 1);
        assert_eq!(before.stretches.len(), 20_000_usize.div_ceil(STRETCH_FILES_MAX));
        assert!(!list.is_same(&before) && before.is_same(&before.clone()));
    }
}
