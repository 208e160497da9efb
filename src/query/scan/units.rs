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

use crate::model::{TimeRange, Timestamp, components};

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

    proptest! {
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
