//! Which files of a table to rewrite next. Looks at numbers only, reads nothing.
//!
//! The goal is history in files of a good size that do not overlap in time: then a query needs no merge and meets few
//! files. Files that hang together through overlaps form a component. What is looked for, in this order:
//!
//! 1. **tier**: many small files of one component that were written one after the other become one;
//! 2. **split**: a small file that lies across large ones is cut at their borders, so that each part meets one of them;
//! 3. **merge**: a component becomes files that don't overlap, or a part of it if it is too deep;
//! 4. **join**: small files that follow each other in time become one;
//! 5. **purge**: a file with deleted rows is rewritten without them.
//!
//! Tiers and joins go by size classes, each [`FILES_PER_STEP`] times the one before, so that a row is rewritten once a
//! class. Splits and merges rewrite large files for a few late rows; they wait until nothing new has come for a while, or
//! until a query would have to merge many large files.
//!
//! Always true: the chosen files are neighbours. Of the files that overlap one of them in time, none holds writes
//! between theirs, so that the order of writes survives (see [`crate::model::last_write_wins`]).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::engine::layout::large_rows;
use crate::model::{Covers, DataFile, SequenceRange, TimeRange, Timestamp, components};

/// How many files of one size class make one of the next.
const FILES_PER_STEP: usize = 8;

/// Files that are merged at once where they overlap: a row group of each is in memory.
const OVERLAP_MAX: usize = 16;

/// Files of one merge, however few of them overlap: a crash costs no more work than this.
const MERGE_FILES_MAX: usize = 64;

/// What the choice depends on besides the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Rows of a full file.
    pub(super) file_rows: u64,
    /// How long nothing new may have come before a large file is rewritten for a few rows.
    pub(super) settle: Duration,
}

impl Policy {
    /// A file of so many rows is large enough to be left alone.
    fn is_large(&self, rows: u64) -> bool {
        rows >= large_rows(self.file_rows)
    }

    fn has_settled(&self, files: &[Candidate], now: Timestamp) -> bool {
        let newest = files.iter().map(|file| file.created).max();
        newest.is_some_and(|newest| newest <= now.before(self.settle))
    }

    /// Whether a component is to be merged: nothing new comes, or so many large files lie above each other that waiting
    /// costs queries more.
    fn is_due(&self, component: &[Candidate], now: Timestamp) -> bool {
        let large: Vec<Candidate> = component.iter().filter(|file| self.is_large(file.rows)).copied().collect();
        self.has_settled(component, now) || depth(&large) >= FILES_PER_STEP
    }
}

/// What is looked at of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place in the table's list, which is in the order of writes.
    pub(super) place: usize,
    pub(super) rows: u64,
    pub(super) time: TimeRange,
    pub(super) sequences: SequenceRange,
    pub(super) created: Timestamp,
    /// Rows of it are deleted and still in it.
    pub(super) has_deleted_rows: bool,
}

impl Candidate {
    pub(super) fn new(place: usize, file: &DataFile, has_deleted_rows: bool) -> Self {
        let (rows, time, sequences, created) = (file.rows, file.time, file.sequences, file.created);
        Self { place, rows, time, sequences, created, has_deleted_rows }
    }
}

impl Covers for Candidate {
    fn time(&self) -> TimeRange {
        self.time
    }
}

/// Files to rewrite together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Their places in the table's list, rising.
    pub(super) places: Vec<usize>,
    /// No new file reaches across one of these instants, which belong to the later side. Rising.
    pub(super) cuts: Vec<Timestamp>,
}

/// What to rewrite next; `None` if the files are as they should be, or not settled.
///
/// Called again after each job, it comes to an end: a tier or join leaves fewer small files, a split fewer that lie across
/// borders, a merge fewer that overlap.
pub(super) fn choose(files: Vec<Candidate>, now: Timestamp, policy: &Policy) -> Option<Job> {
    let components = components(files);
    let overlapping = || components.iter().filter(|component| component.len() > 1);
    let due = || overlapping().filter(|component| policy.is_due(component, now));
    let tier = || overlapping().find_map(|component| tier(component, policy));
    let split = || due().find_map(|component| split(component, policy));
    let merge = || due().find_map(|component| merge(component));
    let purge = || purge(&components, policy, now);
    tier().or_else(split).or_else(merge).or_else(|| join(&components, policy)).or_else(purge)
}

/// Small files of one component that were written one after the other and meet the same large files.
fn tier(component: &[Candidate], policy: &Policy) -> Option<Job> {
    let (large, small): (Vec<Candidate>, Vec<Candidate>) =
        component.iter().partition(|file| policy.is_large(file.rows));
    let borders = borders(&large);
    let slot = |time: Timestamp| borders.partition_point(|border| *border <= time);
    // Those that lie between the same two borders, and those that lie across one.
    let mut groups: BTreeMap<Option<usize>, Vec<Candidate>> = BTreeMap::new();
    for file in small {
        let (first, last) = (slot(file.time.min), slot(file.time.max));
        groups.entry((first == last).then_some(first)).or_default().push(file);
    }
    groups.values().find_map(|group| {
        let chosen = step(group, policy)?;
        let chosen =
            (2..=chosen.len()).rev().map(|count| &chosen[..count]).find(|chosen| are_neighbours(chosen, component))?;
        Some(Job { places: places(chosen), cuts: within(chosen, &borders) })
    })
}

/// Whether no other file that overlaps the chosen ones in time holds writes between theirs.
fn are_neighbours(chosen: &[Candidate], component: &[Candidate]) -> bool {
    let time = chosen.iter().map(|file| file.time).reduce(|a, b| a.union(&b));
    let sequences = chosen.iter().map(|file| file.sequences).reduce(SequenceRange::union);
    let Some((time, sequences)) = time.zip(sequences) else { return false };
    let chosen_places = places(chosen);
    component.iter().all(|file| {
        let is_chosen = chosen_places.binary_search(&file.place).is_ok();
        is_chosen || !file.time.overlaps(&time) || !file.sequences.overlaps(sequences)
    })
}

/// A small file that lies across the border of a large one.
fn split(component: &[Candidate], policy: &Policy) -> Option<Job> {
    let large: Vec<Candidate> = component.iter().filter(|file| policy.is_large(file.rows)).copied().collect();
    let borders = borders(&large);
    component.iter().filter(|file| !policy.is_large(file.rows)).find_map(|file| {
        let cuts = within(std::slice::from_ref(file), &borders);
        (!cuts.is_empty()).then(|| Job { places: vec![file.place], cuts })
    })
}

/// Files of a component that can be merged at once: usually all. Of a component that is too deep the part where the fewest
/// rows are moved for each merge of two, so that small parts grow before large ones are moved again.
///
/// A part begins anywhere and goes on to the first overlap, however far that is, and then as far as one merge may go. Where the
/// first overlap is moves on with the beginning, so that all parts together cost little more than one.
fn merge(component: &[Candidate]) -> Option<Job> {
    let groups = by_writes(component);
    let mut starts: Vec<usize> = Vec::with_capacity(groups.len() + 1);
    starts.push(0);
    starts.extend(groups.iter().scan(0, |end, group| {
        *end += group.len();
        Some(*end)
    }));
    let rows: Vec<u64> = [0]
        .into_iter()
        .chain(component.iter().scan(0, |sum, file| {
            *sum += file.rows;
            Some(*sum)
        }))
        .collect();
    let part = |first: usize, last: usize| starts[first]..starts[last + 1];

    let mut fewest: Option<(u64, Range<usize>)> = None;
    let (mut apart, mut end) = (Apart::default(), 0); // the groups from `first` to before `end`
    for first in 0..groups.len() {
        end = end.max(first);
        while end < groups.len() && apart.add(groups[end]) {
            end += 1;
        }
        if end == groups.len() {
            break; // nothing overlaps from here on
        }
        let last = as_far_as_one_merge_goes(component, first, end, &groups, &part);
        let files = part(first, last);
        let cost = (rows[files.end] - rows[files.start]) / (last - first).max(1) as u64;
        if fewest.as_ref().is_none_or(|(least, _)| cost < *least) {
            fewest = Some((cost, files));
        }
        if first < end {
            apart.remove(groups[first]);
        }
    }
    let (_, files) = fewest?;
    Some(Job { places: places(&component[files]), cuts: Vec::new() })
}

/// The last group of a merge that begins with `first` and must reach `overlapping`.
fn as_far_as_one_merge_goes(
    component: &[Candidate],
    first: usize,
    overlapping: usize,
    groups: &[&[Candidate]],
    part: &impl Fn(usize, usize) -> Range<usize>,
) -> usize {
    let mut last = overlapping;
    if part(first, last).len() > MERGE_FILES_MAX {
        return last;
    }
    let mut ends = ends(&component[part(first, last)]);
    while last + 1 < groups.len() && part(first, last + 1).len() <= MERGE_FILES_MAX {
        for end in groups[last + 1].iter().flat_map(|file| [(file.time.min, false), (file.time.max, true)]) {
            ends.insert(ends.partition_point(|other| *other < end), end);
        }
        if depth_of(&ends) > OVERLAP_MAX {
            break;
        }
        last += 1;
    }
    last
}

/// Files of which none overlaps another: the last instants by the first.
#[derive(Debug, Default)]
struct Apart(BTreeMap<Timestamp, Timestamp>);

impl Apart {
    /// Adds all of the files, or none if one of them overlaps another or one that is here.
    fn add(&mut self, files: &[Candidate]) -> bool {
        for (added, file) in files.iter().enumerate() {
            let before = self.0.range(..=file.time.max).next_back();
            if before.is_some_and(|(_, max)| *max >= file.time.min) {
                self.remove(&files[..added]);
                return false;
            }
            self.0.insert(file.time.min, file.time.max);
        }
        true
    }

    fn remove(&mut self, files: &[Candidate]) {
        for file in files {
            self.0.remove(&file.time.min);
        }
    }
}

/// The files in the order of writes, those together whose writes interleave: only whole groups are neighbours.
fn by_writes(component: &[Candidate]) -> Vec<&[Candidate]> {
    let mut last = None;
    let mut starts = Vec::new();
    for (place, file) in component.iter().enumerate() {
        if last.is_none_or(|last| file.sequences.first > last) {
            starts.push(place);
        }
        last = last.max(Some(file.sequences.last));
    }
    let ends = starts.iter().skip(1).copied().chain([component.len()]);
    starts.iter().zip(ends).map(|(start, end)| &component[*start..end]).collect()
}

/// How many of the files there are at the instant that most of them share.
pub(super) fn depth(files: &[Candidate]) -> usize {
    depth_of(&ends(files))
}

/// Both ends of each file, rising, with whether it is the last instant: where one ends in the instant in which another begins,
/// both are there.
fn ends(files: &[Candidate]) -> Vec<(Timestamp, bool)> {
    let mut ends: Vec<(Timestamp, bool)> =
        files.iter().flat_map(|file| [(file.time.min, false), (file.time.max, true)]).collect();
    ends.sort_unstable();
    ends
}

fn depth_of(ends: &[(Timestamp, bool)]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for (_, is_end) in ends {
        if *is_end {
            open -= 1;
        } else {
            open += 1;
            most = most.max(open);
        }
    }
    most
}

/// Small files that follow each other in time.
fn join(components: &[Vec<Candidate>], policy: &Policy) -> Option<Job> {
    let is_small = |component: &Vec<Candidate>| component.len() == 1 && !policy.is_large(component[0].rows);
    components.chunk_by(|a, b| is_small(a) && is_small(b)).find_map(|stretch| {
        let files: Vec<Candidate> = stretch.iter().filter(|component| is_small(component)).flatten().copied().collect();
        Some(Job { places: places(step(&files, policy)?), cuts: Vec::new() })
    })
}

/// A file with deleted rows that nothing else will rewrite.
fn purge(components: &[Vec<Candidate>], policy: &Policy, now: Timestamp) -> Option<Job> {
    let mut files = components.iter().flatten();
    let file = files.find(|file| file.has_deleted_rows && policy.has_settled(std::slice::from_ref(*file), now))?;
    Some(Job { places: vec![file.place], cuts: Vec::new() })
}

/// Neighbours in `files` of which enough are of one size class and none is larger, smallest class first.
fn step<'a>(files: &'a [Candidate], policy: &Policy) -> Option<&'a [Candidate]> {
    let largest = large_rows(policy.file_rows);
    let mut class_max = FILES_PER_STEP as u64;
    loop {
        let limit = class_max.min(largest);
        let is_below = |file: &Candidate| file.rows < limit;
        let chosen = files.chunk_by(|a, b| is_below(a) && is_below(b)).find(|stretch| {
            let of_class = |file: &&Candidate| is_below(file) && file.rows >= class_max / FILES_PER_STEP as u64;
            stretch.iter().filter(of_class).count() >= FILES_PER_STEP
        });
        if let Some(stretch) = chosen {
            return Some(fitting(stretch, policy));
        }
        if class_max >= largest {
            return None;
        }
        class_max *= FILES_PER_STEP as u64;
    }
}

/// As many as make one full file, and at least a step.
fn fitting<'a>(stretch: &'a [Candidate], policy: &Policy) -> &'a [Candidate] {
    let mut rows = 0;
    let count = stretch.iter().take_while(|file| {
        rows += file.rows;
        rows <= policy.file_rows
    });
    &stretch[..count.count().max(FILES_PER_STEP).min(stretch.len())]
}

fn places(files: &[Candidate]) -> Vec<usize> {
    let mut places: Vec<usize> = files.iter().map(|file| file.place).collect();
    places.sort_unstable();
    places
}

/// Where these files begin, and the instants after their ends. Rising.
fn borders(files: &[Candidate]) -> Vec<Timestamp> {
    let borders = files.iter().flat_map(|file| [Some(file.time.min), after(file.time.max)]).flatten();
    let mut borders: Vec<Timestamp> = borders.collect();
    borders.sort_unstable();
    borders.dedup();
    borders
}

/// The borders that lie inside one of these files.
fn within(files: &[Candidate], borders: &[Timestamp]) -> Vec<Timestamp> {
    let inside = files.iter().flat_map(|file| {
        let first = borders.partition_point(|border| *border <= file.time.min);
        let last = borders.partition_point(|border| *border <= file.time.max);
        &borders[first..last]
    });
    let mut inside: Vec<Timestamp> = inside.copied().collect();
    inside.sort_unstable();
    inside.dedup();
    inside
}

/// The next instant; `None` at the end of time.
fn after(time: Timestamp) -> Option<Timestamp> {
    time.as_nanos().checked_add(1).map(Timestamp::from_nanos)
}
