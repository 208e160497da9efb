//! What the policy makes of a table in the long run, with plain numbers for rows.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::{Covers, Sequence, TimeRange, Timestamp, components};

const POLICY: Policy = Policy { file_rows: 512, settle: Duration::from_secs(60) };
const SETTLED: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

/// A file as the times of its rows.
#[derive(Debug, Clone)]
struct File {
    times: Vec<i64>,
    writes: (u64, u64),
}

impl Covers for File {
    fn time(&self) -> TimeRange {
        TimeRange::from_nanos(self.times[0], self.times[self.times.len() - 1])
    }
}

/// A table without rows, only files.
#[derive(Debug, Default)]
struct Table {
    files: Vec<File>,
    next_write: u64,
    rows_written: usize,
    rows_rewritten: usize,
}

impl Table {
    fn persist(&mut self, mut times: Vec<i64>) {
        times.sort_unstable();
        self.rows_written += times.len();
        self.next_write += 2;
        let writes = (self.next_write, self.next_write + 1);
        self.files.extend(times.chunks(POLICY.file_rows as usize).map(|rows| File { times: rows.to_vec(), writes }));
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(place, file): (usize, &File)| Candidate {
            place,
            rows: file.times.len() as u64,
            time: file.time(),
            sequences: SequenceRange { first: Sequence::new(file.writes.0), last: Sequence::new(file.writes.1) },
            created: Timestamp::from_nanos(0),
            has_deleted_rows: false,
        };
        self.files.iter().enumerate().map(candidate).collect()
    }

    /// Does one job as the rewriter would, and checks that it was allowed. False if there is none.
    fn compact_once(&mut self, now: Timestamp) -> bool {
        let Some(job) = choose(self.candidates(), now, &POLICY) else { return false };
        let old: Vec<File> = job.places.iter().map(|place| self.files[*place].clone()).collect();
        let mut kept: Vec<File> = Vec::new();
        for (place, file) in self.files.iter().enumerate() {
            if !job.places.contains(&place) {
                kept.push(file.clone());
            }
        }
        let writes =
            (old.iter().map(|file| file.writes.0).min().unwrap(), old.iter().map(|file| file.writes.1).max().unwrap());
        let mut times: Vec<i64> = old.into_iter().flat_map(|file| file.times).collect();
        times.sort_unstable();
        self.rows_rewritten += times.len();
        let slot = |time: &i64| job.cuts.partition_point(|cut| cut.as_nanos() <= *time);
        let mut new = Vec::new();
        for part in times.chunk_by(|a, b| slot(a) == slot(b)) {
            // A time that occurs twice must not be in two files.
            let mut rest = part;
            while !rest.is_empty() {
                let mut end = rest.len().min(POLICY.file_rows as usize);
                while end < rest.len() && rest[end - 1] == rest[end] {
                    end += 1;
                }
                new.push(File { times: rest[..end].to_vec(), writes });
                rest = &rest[end..];
            }
        }
        for file in &new {
            for other in &kept {
                let interleaves = other.writes.0 <= writes.1 && writes.0 <= other.writes.1;
                assert!(
                    !(interleaves && other.time().overlaps(&file.time())),
                    "{job:?}: {writes:?} and {:?}",
                    other.writes
                );
            }
        }
        kept.extend(new);
        kept.sort_by_key(|file| file.writes);
        self.files = kept;
        true
    }

    fn compact(&mut self, now: Timestamp) {
        let mut jobs = 0;
        while self.compact_once(now) {
            jobs += 1;
            assert!(jobs < 2000, "no end with {} files", self.files.len());
        }
    }

    fn overlaps(&self) -> usize {
        components(self.candidates()).iter().filter(|component| component.len() > 1).count()
    }
}

#[test]
fn rows_in_order_become_few_files_and_are_moved_a_few_times() {
    let mut table = Table::default();
    for minute in 0..5_000 {
        table.persist(vec![minute * 2, minute * 2 + 1]);
        table.compact(Timestamp::from_nanos(0));
    }
    assert_eq!(table.overlaps(), 0);
    // Each size class holds fewer than a step of files, besides those that are full.
    assert!(table.files.len() <= 10_000 / 64 + 3 * 8, "{}", table.files.len());
    assert!(table.rows_rewritten <= 3 * table.rows_written, "{} of {}", table.rows_rewritten, table.rows_written);
}

#[test]
fn a_few_late_rows_move_a_large_file_only_when_they_have_settled() {
    let mut table = Table::default();
    table.persist((0..400).collect());
    table.persist(vec![7]);
    table.compact(Timestamp::from_nanos(1));
    assert_eq!(table.rows_rewritten, 0);
    table.compact(SETTLED);
    assert_eq!((table.rows_rewritten, table.files.len(), table.overlaps()), (401, 1, 0));
}

#[test]
fn a_small_file_across_all_history_is_cut_before_history_is_moved() {
    let mut table = Table::default();
    for part in 0..20 {
        table.persist((part * 1000..part * 1000 + 400).collect());
    }
    table.persist((0..20).map(|part| part * 1000 + 5).collect());
    assert!(table.compact_once(SETTLED));
    assert_eq!(table.rows_rewritten, 20, "only the late rows");
    table.compact(SETTLED);
    assert_eq!(table.overlaps(), 0);
    assert_eq!(table.rows_rewritten, 20 + 20 * 401, "each large file once");
}

#[test]
fn history_that_was_written_many_times_over_comes_apart() {
    let mut table = Table::default();
    for round in 0..60 {
        table.persist((0..400).map(|n| n * 97 + round).collect());
    }
    table.compact(SETTLED);
    assert_eq!(table.overlaps(), 0);
    assert!(table.rows_rewritten <= 3 * table.rows_written, "{} of {}", table.rows_rewritten, table.rows_written);
}

#[test]
fn history_that_never_settles_does_not_pile_up() {
    let mut table = Table::default();
    for round in 0..500 {
        table.persist((0..100).map(|n| n * 1009 + round).collect());
        table.compact(Timestamp::from_nanos(1));
        // A step of large files for each power of eight, as many of each class of small ones.
        let depth = policy::depth(&table.candidates());
        assert!(depth < 3 * 8, "{depth} files lie above each other after {round}");
    }
    // Every persist lies across the whole history: nothing that keeps files apart can rewrite less than some times over.
    assert!(table.rows_rewritten <= 8 * table.rows_written, "{} of {}", table.rows_rewritten, table.rows_written);
}

#[test]
fn a_long_chain_of_large_files_is_merged_in_steps() {
    let mut table = Table::default();
    for part in 0..1000 {
        table.persist((part * 400..part * 400 + 401).collect());
    }
    table.compact(SETTLED);
    assert_eq!(table.overlaps(), 0);
    assert!(table.rows_rewritten <= 2 * table.rows_written, "{} of {}", table.rows_rewritten, table.rows_written);
}

fn batch() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        4 => (0_i64..3000, 1_usize..40).prop_map(|(start, rows)| (start..start + rows as i64).collect()),
        2 => proptest::collection::vec(0_i64..3000, 1..30),
        1 => (0_i64..2000, 300_i64..900).prop_map(|(start, rows)| (start..start + rows).collect()),
    ]
}

proptest! {
    #[test]
    fn any_history_ends_without_overlap_and_keeps_its_rows(batches in proptest::collection::vec(batch(), 1..60)) {
        let mut table = Table::default();
        let mut all: Vec<i64> = Vec::new();
        for times in batches {
            // A persist makes points unique.
            let times: Vec<i64> = times.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            all.extend(&times);
            table.persist(times);
            table.compact(Timestamp::from_nanos(1));
        }
        table.compact(SETTLED);
        prop_assert_eq!(table.overlaps(), 0);
        let mut kept: Vec<i64> = table.files.iter().flat_map(|file| file.times.clone()).collect();
        kept.sort_unstable();
        all.sort_unstable();
        let files_max = all.len() / 64 + 3 * 8 + 1;
        prop_assert_eq!(kept, all);
        prop_assert!(table.files.len() <= files_max, "{} files", table.files.len());
    }
}
