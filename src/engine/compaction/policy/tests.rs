//! The choice of merges against the same rule without shortcuts, and what a look at many files costs.

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::model::Sequence;

/// The rule of merges, as slow as it is plain.
fn merge_by_trying_all(component: &[Candidate]) -> Option<Vec<usize>> {
    let groups = by_writes(component);
    let windows = (0..groups.len()).filter_map(|first| {
        let mut files: Vec<Candidate> = groups[first].to_vec();
        let mut merges = 0;
        for group in &groups[first + 1..] {
            let more: Vec<Candidate> = files.iter().chain(group.iter()).copied().collect();
            if depth(&files) > 1 && (depth(&more) > OVERLAP_MAX || more.len() > MERGE_FILES_MAX) {
                break;
            }
            files = more;
            merges += 1;
        }
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        (depth(&files) > 1).then_some((rows / merges.max(1), files))
    });
    windows.min_by_key(|(cost, _)| *cost).map(|(_, files)| places(&files))
}

fn pieces_strategy() -> impl Strategy<Value = Vec<Candidate>> {
    // Start, length, rows, and whether it has the writes of the one before, as files of one persist have.
    let piece = (0_i64..400, prop_oneof![0_i64..10, 0_i64..300], 1_u64..5_000_000, prop::bool::weighted(0.2));
    prop::collection::vec(piece, 1..150).prop_map(|pieces| {
        let mut write = 0;
        let pieces = pieces.into_iter().enumerate().map(|(place, (start, length, rows, same))| {
            write += u64::from(!same || place == 0);
            Candidate {
                place,
                rows,
                time: TimeRange::from_nanos(start, start + length),
                sequences: SequenceRange::single(Sequence::new(write)),
                created: Timestamp::from_nanos(0),
                has_deleted_rows: false,
            }
        });
        pieces.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_merge_is_the_one_that_trying_all_finds(component in pieces_strategy()) {
        prop_assert_eq!(merge(&component).map(|job| job.places), merge_by_trying_all(&component));
    }
}

/// What one look at a table costs: `cargo test --release --lib compaction::tests::a_look -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn a_look_at_many_files() {
    let policy = Policy { file_rows: 4_000_000, settle: Duration::ZERO };
    let candidate = |place: usize, rows: u64, first: i64, last: i64| Candidate {
        place,
        rows,
        time: TimeRange::from_nanos(first, last),
        sequences: SequenceRange::single(Sequence::new(place as u64 + 1)),
        created: Timestamp::from_nanos(0),
        has_deleted_rows: false,
    };
    type Shape = fn(usize, &dyn Fn(usize, u64, i64, i64) -> Candidate) -> Candidate;
    let shapes: [(&str, Shape); 6] = [
        ("large, one after the other", |n, file| file(n, 4_000_000, n as i64 * 10, n as i64 * 10 + 9)),
        ("small, one after the other", |n, file| file(n, 1000, n as i64 * 10, n as i64 * 10 + 9)),
        ("small, all overlapping", |n, file| file(n, 1000, 0, 1_000_000)),
        ("small and growing, in a chain", |n, file| file(n, 1 << (n % 20), n as i64 * 10, n as i64 * 10 + 15)),
        ("large, and a late one across all", |n, file| match n {
            0 => file(n, 4_000_000, 0, i64::MAX),
            _ => file(n, 4_000_000, n as i64 * 10, n as i64 * 10 + 9),
        }),
        ("large, in a chain", |n, file| file(n, 4_000_000, n as i64 * 10, n as i64 * 10 + 15)),
    ];
    for (name, shape) in shapes {
        for count in [25_000, 50_000, 100_000] {
            let files: Vec<Candidate> = (0..count).map(|n| shape(n, &candidate)).collect();
            let start = SystemClock::new();
            let job = choose(files, Timestamp::from_nanos(1), &policy);
            let chosen = job.map_or(0, |job| job.places.len());
            eprintln!("{name}: {count} files looked at in {:?}, {chosen} chosen", start.elapsed());
        }
    }
}
