//! Which rows of sorted series are closest to an end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::choose::Stretch;
use super::ends::End;
use crate::model::TimeRange;

/// How close to the end the closest rows of a unit are, as many as are asked for; so that most series need not be looked into.
pub(super) struct Closest {
    most: Option<usize>,
    /// Turned round: the furthest comes first.
    rows: BinaryHeap<Reverse<i64>>,
}

impl Closest {
    /// Without a number every row is wanted.
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most, rows: BinaryHeap::new() }
    }

    /// Whether a row this close may be among them.
    pub(super) fn may_get(&self, closeness: i64) -> bool {
        match (self.most, self.rows.peek()) {
            (Some(most), Some(Reverse(furthest))) if self.rows.len() >= most => *furthest <= closeness,
            _ => true,
        }
    }

    pub(super) fn push(&mut self, rows: impl Iterator<Item = i64>) {
        let Some(most) = self.most else { return };
        for row in rows {
            self.rows.push(Reverse(row));
            if self.rows.len() > most {
                self.rows.pop();
            }
        }
    }
}

/// The last places of `range`, at most `rows`, whose times lie in none of the ranges; rising. Times rise in the range.
pub(super) fn newest_outside(
    times: &[i64],
    range: Range<usize>,
    outside: &[TimeRange],
    rows: usize,
) -> Vec<Range<usize>> {
    let (mut end, mut left, mut found) = (range.end, rows, Vec::new());
    while left > 0 && end > range.start {
        let time = times[end - 1];
        let before = &times[range.start..end];
        let covers = |outside: &&TimeRange| outside.min.as_nanos() <= time && time <= outside.max.as_nanos();
        if let Some(covering) = outside.iter().find(covers) {
            end = range.start + before.partition_point(|time| *time < covering.min.as_nanos());
            continue;
        }
        let ended = outside.iter().map(|outside| outside.max.as_nanos()).filter(|max| *max < time).max();
        let start = ended.map_or(0, |ended| before.partition_point(|time| *time <= ended)) + range.start;
        let start = start.max(end.saturating_sub(left));
        found.push(start..end);
        left -= end - start;
        end = start;
    }
    found.reverse();
    found
}

/// The first places of `range`, at most `rows`, whose times lie in none of the ranges; rising. Times rise in the range.
pub(super) fn oldest_outside(
    times: &[i64],
    range: Range<usize>,
    outside: &[TimeRange],
    rows: usize,
) -> Vec<Range<usize>> {
    let (mut start, mut left, mut found) = (range.start, rows, Vec::new());
    while left > 0 && start < range.end {
        let time = times[start];
        let after = &times[start..range.end];
        let covers = |outside: &&TimeRange| outside.min.as_nanos() <= time && time <= outside.max.as_nanos();
        if let Some(covering) = outside.iter().find(covers) {
            start += after.partition_point(|time| *time <= covering.max.as_nanos());
            continue;
        }
        let begins = outside.iter().map(|outside| outside.min.as_nanos()).filter(|min| *min > time).min();
        let length = begins.map_or(after.len(), |begins| after.partition_point(|time| *time < begins)).min(left);
        found.push(start..start + length);
        left -= length;
        start += length;
    }
    found
}

/// Lets go of rows that are further from the end than the `most` closest ones.
pub(super) fn keep_closest(chosen: &mut Vec<Stretch>, times: &[i64], most: usize, end: End) {
    let all = chosen.iter().flat_map(|stretch| &times[stretch.rows.clone()]);
    let mut all: Vec<i64> = all.map(|time| end.closeness(*time)).collect();
    if most == 0 || all.len() <= most {
        return;
    }
    let (_, furthest, _) = all.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
    let furthest = *furthest;
    for stretch in chosen.iter_mut() {
        let rows = stretch.rows.clone();
        match end {
            End::Newest => stretch.rows.start += times[rows].partition_point(|time| *time < furthest),
            End::Oldest => {
                let kept = times[rows].partition_point(|time| end.closeness(*time) >= furthest);
                stretch.rows.end = stretch.rows.start + kept;
            }
        }
    }
    chosen.retain(|stretch| !stretch.rows.is_empty());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_newest_of_all_stay() {
        let times = [1, 5, 9, 2, 3, 8, 8];
        let mut chosen = vec![
            Stretch { series: 0, rows: 0..3 },
            Stretch { series: 1, rows: 3..5 },
            Stretch { series: 2, rows: 5..6 },
            Stretch { series: 3, rows: 6..7 },
        ];
        let mut oldest: Vec<Stretch> =
            chosen.iter().map(|stretch| Stretch { series: stretch.series, rows: stretch.rows.clone() }).collect();
        keep_closest(&mut chosen, &times, 2, End::Newest);
        let rows: Vec<usize> = chosen.into_iter().flat_map(|stretch| stretch.rows).collect();
        assert_eq!(rows, [2, 5, 6], "of equal times all stay");
        keep_closest(&mut oldest, &times, 3, End::Oldest);
        let rows: Vec<usize> = oldest.into_iter().flat_map(|stretch| stretch.rows).collect();
        assert_eq!(rows, [0, 3, 4]);
    }

    proptest! {
        #[test]
        fn the_newest_outside_of_ranges_are_those_that_a_walk_finds(
            times in vec(-20_i64..20, 0..30),
            outside in vec((-22_i64..22, 0_i64..9), 0..4),
            rows in 1_usize..6,
        ) {
            let mut times = times;
            times.sort_unstable();
            times.dedup();
            let outside: Vec<TimeRange> =
                outside.into_iter().map(|(min, length)| TimeRange::from_nanos(min, min + length)).collect();
            let is_outside = |time: i64| outside.iter().all(|range| time < range.min.as_nanos() || range.max.as_nanos() < time);
            let start = times.len().min(2);
            let mut walked: Vec<usize> = (start..times.len()).rev().filter(|row| is_outside(times[*row])).take(rows).collect();
            walked.reverse();
            let found: Vec<usize> = newest_outside(&times, start..times.len(), &outside, rows).into_iter().flatten().collect();
            prop_assert_eq!(found, walked);
            let walked: Vec<usize> = (start..times.len()).filter(|row| is_outside(times[*row])).take(rows).collect();
            let found: Vec<usize> = oldest_outside(&times, start..times.len(), &outside, rows).into_iter().flatten().collect();
            prop_assert_eq!(found, walked);
        }
    }
}
