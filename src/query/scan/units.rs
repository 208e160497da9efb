//! Which parts of a table may hold the same point, and which may not.
//!
//! A table is read in *units*: a buffered run, or one row group of a file. Each is sorted and unique, so
//! a point can be in two units only if their ranges of time overlap. Units that hang together through
//! overlaps form a *component*; one that stands alone needs no merge.
//!
//! One late write may span all history and would glue everything into one component. Therefore a run
//! is cut where the files' components begin and end: its rows fall into *slots*, the components of
//! the files and the gaps between them, and every slot is looked at by itself.
//!
//! All of this is arithmetic on ranges; nothing is read here.

use crate::model::{TimeRange, Timestamp};

/// Something that covers a range of time.
pub(super) trait Covers {
    /// From its first to its last row.
    fn time(&self) -> TimeRange;
}

impl Covers for TimeRange {
    fn time(&self) -> TimeRange {
        *self
    }
}

/// Groups units by overlap: two units are in one group exactly if a chain of overlapping units leads from
/// one to the other. Groups rise in time; inside a group the units keep the order of `units`.
pub(super) fn components<U: Covers>(units: Vec<U>) -> Vec<Vec<U>> {
    let mut numbered: Vec<(usize, U)> = units.into_iter().enumerate().collect();
    numbered.sort_by_key(|(_, unit)| unit.time().min);
    let mut groups: Vec<Vec<(usize, U)>> = Vec::new();
    let mut covered_until = None;
    for (number, unit) in numbered {
        let time = unit.time();
        let overlaps = covered_until.is_some_and(|until| time.min <= until);
        covered_until = covered_until.max(Some(time.max));
        match groups.last_mut() {
            Some(group) if overlaps => group.push((number, unit)),
            _ => groups.push(vec![(number, unit)]),
        }
    }
    groups
        .into_iter()
        .map(|mut group| {
            group.sort_by_key(|(number, _)| *number);
            group.into_iter().map(|(_, unit)| unit).collect()
        })
        .collect()
}

/// The components of the files, in time, with the gaps before, between and after them.
#[derive(Debug)]
pub(super) struct Slots {
    /// Rising and disjoint.
    components: Vec<TimeRange>,
}

/// Rows of one run that lie in one slot.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    /// The rows, rising; `None` if it is all of them.
    pub(super) rows: Option<Vec<u32>>,
    /// Times of the oldest and the newest of them.
    pub(super) time: TimeRange,
}

impl Slots {
    /// The slots that these row groups of files make.
    pub(super) fn new(row_groups: Vec<TimeRange>) -> Self {
        let hull = |group: Vec<TimeRange>| group.into_iter().reduce(|a, b| a.union(&b));
        Self { components: components(row_groups).into_iter().filter_map(hull).collect() }
    }

    /// Even numbers are gaps, odd numbers components.
    fn slot(&self, time: Timestamp) -> usize {
        let ended = self.components.partition_point(|component| component.max < time);
        match self.components.get(ended) {
            Some(component) if component.min <= time => 2 * ended + 1,
            _ => 2 * ended,
        }
    }

    /// Whether everything in `range` lies in one slot, so that there is nothing to cut.
    pub(super) fn holds_whole(&self, range: &TimeRange) -> bool {
        self.slot(range.min) == self.slot(range.max)
    }

    /// Cuts rows with these times (nanoseconds, in any order), one pass. Pieces rise in time.
    pub(super) fn cut(&self, times: &[i64]) -> Vec<Piece> {
        let mut pieces: Vec<Option<(Vec<u32>, TimeRange)>> = vec![None; 2 * self.components.len() + 1];
        for (row, time) in times.iter().enumerate() {
            let here = TimeRange::from_nanos(*time, *time);
            match &mut pieces[self.slot(here.min)] {
                Some((rows, range)) => {
                    rows.push(row as u32);
                    *range = range.union(&here);
                }
                empty => *empty = Some((vec![row as u32], here)),
            }
        }
        let piece =
            |(rows, time): (Vec<u32>, TimeRange)| Piece { rows: (rows.len() < times.len()).then_some(rows), time };
        pieces.into_iter().flatten().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn range(min: i64, max: i64) -> TimeRange {
        TimeRange::from_nanos(min, max)
    }

    #[test]
    fn ranges_that_touch_in_one_instant_overlap_and_neighbours_do_not() {
        let groups = components(vec![range(0, 10), range(10, 20), range(21, 30)]);
        assert_eq!(groups, [vec![range(0, 10), range(10, 20)], vec![range(21, 30)]]);
    }

    #[test]
    fn a_component_keeps_the_order_of_writes() {
        let groups = components(vec![range(50, 60), range(0, 55), range(100, 100), range(5, 7)]);
        assert_eq!(groups, [vec![range(50, 60), range(0, 55), range(5, 7)], vec![range(100, 100)]]);
    }

    #[test]
    fn a_late_run_is_cut_at_the_files() {
        let slots = Slots::new(vec![range(0, 9), range(20, 29), range(25, 39)]);
        assert!(slots.holds_whole(&range(20, 39)));
        assert!(!slots.holds_whole(&range(9, 10)));
        let pieces = slots.cut(&[25, 3, 15, 50, 0, 39]);
        assert_eq!(
            pieces,
            [
                Piece { rows: Some(vec![1, 4]), time: range(0, 3) },
                Piece { rows: Some(vec![2]), time: range(15, 15) },
                Piece { rows: Some(vec![0, 5]), time: range(25, 39) },
                Piece { rows: Some(vec![3]), time: range(50, 50) },
            ]
        );
        assert_eq!(slots.cut(&[5, 7]), [Piece { rows: None, time: range(5, 7) }]);
    }

    /// Joins overlapping ranges pair by pair until nothing changes.
    fn components_slowly(ranges: &[TimeRange]) -> Vec<usize> {
        let mut group: Vec<usize> = (0..ranges.len()).collect();
        loop {
            let before = group.clone();
            for a in 0..ranges.len() {
                for b in 0..ranges.len() {
                    if ranges[a].overlaps(&ranges[b]) {
                        let smaller = group[a].min(group[b]);
                        (group[a], group[b]) = (smaller, smaller);
                    }
                }
            }
            if group == before {
                return group;
            }
        }
    }

    #[derive(Debug, Clone)]
    struct Numbered(usize, TimeRange);

    impl Covers for Numbered {
        fn time(&self) -> TimeRange {
            self.1
        }
    }

    proptest! {
        #[test]
        fn components_are_what_pairwise_overlaps_say(ranges in vec((0_i64..60, 0_i64..12), 0..20)) {
            let ranges: Vec<TimeRange> = ranges.into_iter().map(|(min, length)| range(min, min + length)).collect();
            let slow = components_slowly(&ranges);
            let numbered = ranges.iter().copied().enumerate().map(|(number, time)| Numbered(number, time)).collect();
            let groups = components(numbered);
            let mut seen = 0;
            for group in &groups {
                prop_assert!(group.windows(2).all(|pair| pair[0].0 < pair[1].0), "order of writes");
                for unit in group {
                    prop_assert_eq!(slow[unit.0], slow[group[0].0], "together");
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, ranges.len());
            let distinct: std::collections::HashSet<_> = slow.iter().collect();
            prop_assert_eq!(groups.len(), distinct.len());
        }

        #[test]
        fn no_row_is_lost_or_doubled_by_a_cut_and_pieces_never_join_two_components(
            files in vec((0_i64..80, 0_i64..10), 0..8),
            times in vec(-5_i64..100, 1..40),
        ) {
            let files: Vec<TimeRange> = files.into_iter().map(|(min, length)| range(min, min + length)).collect();
            let slots = Slots::new(files.clone());
            let pieces = slots.cut(&times);
            let mut rows: Vec<u32> = Vec::new();
            for piece in &pieces {
                let here = piece.rows.clone().unwrap_or_else(|| (0..times.len() as u32).collect());
                let piece_times: Vec<i64> = here.iter().map(|row| times[*row as usize]).collect();
                let (first, last) = (piece_times.iter().min().unwrap(), piece_times.iter().max().unwrap());
                prop_assert_eq!(piece.time, range(*first, *last));
                rows.extend(here);
            }
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..times.len() as u32).collect::<Vec<_>>());

            // Cut pieces leave the files' components as they were: none bridges two of them.
            let file_components = components(files.clone()).len();
            let with_pieces: Vec<TimeRange> = files.into_iter().chain(pieces.iter().map(|piece| piece.time)).collect();
            let all = components(with_pieces);
            prop_assert!(all.len() >= file_components);
            prop_assert!(all.len() <= file_components + pieces.len());
        }
    }
}
