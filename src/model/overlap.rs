//! Which ranges of time hang together.
//!
//! Two sorted parts of a table can hold the same point only if their ranges of time overlap. Parts that hang together
//! through overlaps form a *component*: a query merges it, compaction makes it one. One that stands alone needs neither.

use super::time::TimeRange;

/// Something that covers a range of time.
pub trait Covers {
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
pub fn components<U: Covers>(units: Vec<U>) -> Vec<Vec<U>> {
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
    }
}
