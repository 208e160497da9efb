//! Torn tails, rotted bits, missing files and foreign ones.

use proptest::prelude::*;

use super::super::segment::{
    FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, SegmentHeader, is_segment_name, synced_bytes_proved,
};
use super::*;

/// A log of two segments with three frames each, one write a frame: the files, and where the frames begin in each.
fn sample() -> (MemoryDisk, [String; 2], [Vec<usize>; 2]) {
    let files = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let mut starts = [Vec::new(), Vec::new()];
    let mut value = 0;
    for starts in &mut starts {
        let (mut log, _) = open_log(&disk, 1 << 20).unwrap();
        for _ in 0..3 {
            let before = log.current_bytes().unwrap_or(HEADER_BYTES as u64);
            starts.push(before as usize);
            value += 1;
            append(&mut log, &[value], Durability::Synced).unwrap();
        }
    }
    let names = [1, 4].map(|first| segment_name(Sequence::new(first)));
    assert_eq!(segments(&files), names);
    (files, names, starts)
}

fn copy_of(files: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::default();
    for name in files.list().unwrap() {
        copy.put(&name, files.read(&name).unwrap().to_vec());
    }
    copy
}

/// Opens `files` and expects the writes 1 to `last`; then writes one more and expects that too after another start.
fn check_opens(files: &MemoryDisk, last: u64, context: &str) {
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let (mut log, found) = open_log(&disk, 1 << 20).unwrap_or_else(|error| panic!("{context}: {}", error.report()));
    let mut expected: Vec<(u64, i64)> = (1..=last).map(|sequence| (sequence, sequence as i64)).collect();
    assert_eq!(found, expected, "{context}");
    append(&mut log, &[100], Durability::Synced).unwrap();
    expected.push((last + 1, 100));
    assert_eq!(open_log(&disk, 1 << 20).unwrap().1, expected, "{context}");
}

fn check_refused(files: &MemoryDisk, kind: ErrorKind, parts: &[&str], context: &str) {
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let error = open_log(&disk, 1 << 20).map(|(_, found)| found).expect_err(context);
    assert_eq!(error.kind(), kind, "{context}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{context}: {error}");
    }
}

#[test]
fn a_last_segment_cut_at_any_byte_opens_with_every_whole_frame() {
    let (files, names, starts) = sample();
    let whole = files.read(&names[1]).unwrap();
    for cut in 0..=whole.len() {
        let files = copy_of(&files);
        files.put(&names[1], whole[..cut].to_vec());
        let ends = starts[1][1..].iter().copied().chain([whole.len()]);
        let kept = ends.filter(|&end| end <= cut).count() as u64;
        check_opens(&files, 3 + kept, &format!("cut at byte {cut}"));
    }
}

#[test]
fn the_only_segment_cut_at_any_byte_opens() {
    let (files, names, starts) = sample();
    files.remove(&names[1]).unwrap();
    let whole = files.read(&names[0]).unwrap();
    for cut in 0..=whole.len() {
        let files = MemoryDisk::default();
        files.put(&names[0], whole[..cut].to_vec());
        let ends = starts[0][1..].iter().copied().chain([whole.len()]);
        check_opens(&files, ends.filter(|&end| end <= cut).count() as u64, &format!("cut at byte {cut}"));
    }
}

#[test]
fn zeros_after_the_last_frame_are_cut_off() {
    let (files, names, starts) = sample();
    let whole = files.read(&names[1]).unwrap();
    for zeros in (1..5000).step_by(97) {
        for kept in [starts[1][2], starts[1][2] + 30, starts[1][2] + 100, whole.len()] {
            let files = copy_of(&files);
            files.put(&names[1], [&whole[..kept], &vec![0; zeros]].concat());
            check_opens(&files, if kept == whole.len() { 6 } else { 5 }, &format!("{zeros} zeros at {kept}"));
        }
    }
    // The header itself never reached the disk.
    files.put(&names[1], vec![0; 4096]);
    check_opens(&files, 3, "a last segment of zeros");
}

proptest! {
    #[test]
    fn garbage_after_the_last_frame_is_cut_off(garbage in proptest::collection::vec(any::<u8>(), 1..3000)) {
        let (files, names, _) = sample();
        let whole = files.read(&names[1]).unwrap();
        files.put(&names[1], [&whole[..], &garbage].concat());
        check_opens(&files, 6, "garbage");
    }

    #[test]
    fn a_record_of_nonsense_with_a_right_checksum_is_an_error_and_no_panic(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let encoded = encode(1);
        let mut body = encoded.slices().collect::<Vec<_>>().concat();
        for (at, flip) in flips {
            let at = at.index(body.len());
            body[at] ^= flip;
        }
        let disk: Arc<dyn Disk> = Arc::new(segment_with_body(&body));
        // Some flips only change a value.
        if let Err(error) = open_any(&disk) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
            prop_assert!(error.to_string().contains("in the frame at byte 92"), "{}", error);
        }
    }
}

fn open_any(disk: &Arc<dyn Disk>) -> Result<SegmentLog> {
    let clock = Arc::new(SystemClock::new());
    SegmentLog::open(Arc::clone(disk), 1, CATALOG, Sequence::ZERO, clock, &mut |_, _| Ok(()))
}

/// A segment of one frame that says it holds one record, with right checksums.
fn segment_with_body(body: &[u8]) -> MemoryDisk {
    let first = Sequence::new(1);
    let segment = SegmentHeader { catalog: CATALOG, nonce: Uuid::from_u128(99), first, previous: None };
    let frame = FrameHeader {
        body_bytes: body.len() as u64,
        synced_through: HEADER_BYTES as u64,
        first,
        records: 1,
        body_checksum: crc32c::crc32c(body),
    };
    let files = MemoryDisk::default();
    files.put(&segment_name(first), [&segment.encode()[..], &frame.encode(segment.frame_magic()), body].concat());
    files
}

#[test]
fn nonsense_with_a_right_checksum_names_file_and_offset() {
    let whole = encode(1).slices().collect::<Vec<_>>().concat();
    let longer = [&whole[..], &[0]].concat();
    for body in [&[][..], &[200; 40], &whole[..whole.len() - 9], &longer] {
        let parts = ["00000000000000000001.wal", "in the frame at byte 92"];
        check_refused(&segment_with_body(body), ErrorKind::Corrupt, &parts, &format!("{} bytes", body.len()));
    }
    check_opens(&segment_with_body(&whole), 1, "the record itself");
}

#[test]
fn a_flipped_bit_is_found_at_every_byte() {
    let (files, names, starts) = sample();
    for (segment, name) in names.iter().enumerate() {
        let whole = files.read(name).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let files = copy_of(&files);
            files.put(name, flipped);
            let context = format!("bit {} of byte {at} of \"{name}\"", at % 8);
            if segment == 1 && at >= starts[1][2] {
                // No later frame proves that the last one was ever whole, so it counts as torn.
                check_opens(&files, 5, &context);
                continue;
            }
            let offset = starts[segment].iter().rev().find(|&&start| start <= at).copied().unwrap_or(0);
            let place = format!("is damaged at byte {offset}: ");
            check_refused(&files, ErrorKind::Corrupt, &[name, &place, "restore the file"], &context);
        }
    }
}

#[test]
fn damage_to_the_last_write_is_found_once_a_mark_follows_it() {
    let files = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let (mut log, _) = open_log(&disk, 1 << 20).unwrap();
    for value in 1..=3 {
        append(&mut log, &[value], Durability::Synced).unwrap();
        assert!(log.wants_mark() && !log.has_unsynced());
    }
    log.mark();
    assert!(!log.wants_mark() && !log.has_unsynced(), "a mark needs no sync");
    drop(log);
    let name = segment_name(Sequence::new(1));
    let whole = files.read(&name).unwrap();
    let mark = whole.len() - FRAME_HEADER_BYTES;
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let files = copy_of(&files);
        files.put(&name, flipped);
        let context = format!("bit {} of byte {at}", at % 8);
        match at < mark {
            true => check_refused(&files, ErrorKind::Corrupt, &[&name, "is damaged at byte"], &context),
            false => check_opens(&files, 3, &context),
        }
    }
    for cut in mark..=whole.len() {
        let files = copy_of(&files);
        files.put(&name, whole[..cut].to_vec());
        check_opens(&files, 3, &format!("cut at byte {cut}"));
    }
}

#[test]
fn writes_go_on_behind_a_mark_and_segments_end_before_one() {
    for segment_bytes in [1, 600, 1 << 20] {
        let files = MemoryDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(files.clone());
        let (mut log, _) = open_log(&disk, segment_bytes).unwrap();
        for value in 1..=9 {
            let durability = if value % 3 == 0 { Durability::Unsynced } else { Durability::Synced };
            append(&mut log, &[value], durability).unwrap();
            if log.wants_mark() {
                log.mark();
            }
        }
        drop(log);
        check_opens(&copy_of(&files), 9, &format!("segments of {segment_bytes} bytes"));
        // A mark at the end of a sealed segment is nothing that anybody misses.
        let mut marks = 0;
        for name in segments(&files).split_last().unwrap().1 {
            let whole = files.read(name).unwrap();
            let (before, tail) = whole.split_at(whole.len() - FRAME_HEADER_BYTES);
            let is_mark = tail[..8] == whole[32..40] && tail[32..36] == [0; 4];
            if is_mark {
                let files = copy_of(&files);
                files.put(name, before.to_vec());
                check_opens(&files, 9, name);
                marks += 1;
            }
        }
        assert!(segment_bytes > 600 || marks > 0);
    }
}

#[tokio::test]
async fn a_log_that_has_nothing_to_do_marks_its_last_write() {
    let files = MemoryDisk::default();
    let (wal, _, _) = open_wal(Arc::new(files.clone()), WalSettings::default());
    for (value, durability) in [(1, Durability::Synced), (2, Durability::Unsynced)] {
        wal.append(record(value), durability).await.unwrap();
        let name = segment_name(Sequence::new(1));
        let clock = SystemClock::new();
        let is_marked = || {
            let whole = files.read(&name).unwrap();
            let magic = SegmentHeader::decode(&whole).unwrap().frame_magic();
            synced_bytes_proved(&whole, magic) == (whole.len() - FRAME_HEADER_BYTES) as u64
        };
        while !is_marked() {
            assert!(clock.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[test]
fn a_sealed_segment_that_is_too_short_is_damage() {
    let (files, names, starts) = sample();
    let whole = files.read(&names[0]).unwrap();
    for cut in 0..whole.len() {
        let files = copy_of(&files);
        files.put(&names[0], whole[..cut].to_vec());
        let offset = if cut < HEADER_BYTES { 0 } else { *starts[0].iter().rev().find(|&&start| start <= cut).unwrap() };
        check_refused(
            &files,
            ErrorKind::Corrupt,
            &[&names[0], &format!("at byte {offset}:")],
            &format!("cut at {cut}"),
        );
    }
}

#[test]
fn a_sealed_segment_with_bytes_after_its_stated_length_is_whole() {
    let (files, names, _) = sample();
    let whole = files.read(&names[0]).unwrap();
    files.put(&names[0], [&whole[..], b"a write that failed"].concat());
    check_opens(&files, 6, "a longer file");
}

#[test]
fn moving_the_damaged_and_later_segments_away_starts_without_them() {
    let (files, names, _) = sample();
    files.remove(&names[1]).unwrap();
    check_opens(&files, 3, "without the second segment");
}

#[test]
fn a_missing_segment_in_the_middle_is_a_gap() {
    let files = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let (mut log, _) = open_log(&disk, 1).unwrap();
    for value in 1..=3 {
        append(&mut log, &[value], Durability::Synced).unwrap();
    }
    files.remove(&segment_name(Sequence::new(2))).unwrap();
    let parts = [&segment_name(Sequence::new(3))[..], "begins with sequence 2, but that one is not there"];
    check_refused(&files, ErrorKind::Corrupt, &parts, "a gap");

    // Without the oldest, what is left is what release leaves.
    files.remove(&segment_name(Sequence::new(1))).unwrap();
    assert_eq!(open_log(&disk, 1).unwrap().1, [(3, 3)]);
}

#[test]
fn a_foreign_log_a_newer_log_and_a_renamed_segment_are_refused() {
    let (files, names, _) = sample();
    let disk: Arc<dyn Disk> = Arc::new(files.clone());
    let clock = Arc::new(SystemClock::new());
    let other = Uuid::from_u128(8);
    let error = SegmentLog::open(Arc::clone(&disk), 1, other, Sequence::ZERO, clock, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = error.to_string();
    assert!(text.contains(&format!("belongs to catalog {CATALOG}, but the catalog is {other}")), "{text}");

    let mut newer = files.read(&names[1]).unwrap().to_vec();
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..88]);
    newer[88..92].copy_from_slice(&checksum.to_le_bytes());
    let with_newer = copy_of(&files);
    with_newer.put(&names[1], newer);
    check_refused(&with_newer, ErrorKind::Unsupported, &[&names[1], "version 2"], "a newer segment");

    let renamed = copy_of(&files);
    renamed.put(&segment_name(Sequence::new(9)), files.read(&names[1]).unwrap().to_vec());
    renamed.remove(&names[1]).unwrap();
    check_refused(&renamed, ErrorKind::Corrupt, &["the header is that of"], "a renamed segment");
}

#[test]
fn an_error_of_the_reader_stops_the_start() {
    let (files, _, _) = sample();
    let mut seen = 0;
    let mut refuse_second = |_, _| {
        seen += 1;
        if seen == 2 { Err(crate::error::Error::internal("no room")) } else { Ok(()) }
    };
    let clock = Arc::new(SystemClock::new());
    let opened = SegmentLog::open(Arc::new(files), 1, CATALOG, Sequence::ZERO, clock, &mut refuse_second);
    assert_eq!(opened.unwrap_err().to_string(), "no room");
    assert_eq!(seen, 2);
}

#[test]
fn data_that_looks_like_a_frame_does_not_turn_a_torn_tail_into_damage() {
    let (files, names, starts) = sample();
    // A user has read the log of another server and writes one of its frame headers, with a huge synced length.
    let foreign =
        SegmentHeader { catalog: CATALOG, nonce: Uuid::from_u128(42), first: Sequence::new(1), previous: None };
    let header =
        FrameHeader { body_bytes: 0, synced_through: u64::MAX, first: Sequence::new(1), records: 0, body_checksum: 0 };
    let imitation = header.encode(foreign.frame_magic());
    assert_eq!(synced_bytes_proved(&imitation, foreign.frame_magic()), u64::MAX);
    let whole = files.read(&names[1]).unwrap();
    let start = starts[1][2];
    let torn = [&whole[..start + FRAME_HEADER_BYTES], &[0; 100], &imitation[..], &[0; 100]].concat();
    files.put(&names[1], torn);
    check_opens(&files, 5, "an imitated frame");
}

#[test]
fn only_segments_are_taken_for_segments() {
    let (files, _, _) = sample();
    files.put("lock", Vec::new());
    files.put("00000000000000000009.wal.bak", vec![1]);
    files.put("9.wal", vec![1]);
    check_opens(&files, 6, "other files");
    assert!(is_segment_name(&segment_name(Sequence::new(u64::MAX))));
    assert!(!is_segment_name("0000000000000000000x.wal"));
}
