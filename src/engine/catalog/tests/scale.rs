//! What a large catalog costs. Measures and prints, checks only that it works:
//! `cargo test --release --lib catalog::tests::scale -- --ignored --nocapture`.

use super::*;
use crate::clock::{Clock, SystemClock};

const TABLES: u32 = 10_000;
const FILES_PER_TABLE: u64 = 90;
const FILES_OF_THE_LARGEST: u64 = 100_000;
const COLUMNS_OF_THE_WIDEST: usize = 5_000;

/// A number that looks like any other.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

/// A file with the statistics of ten columns, as they are usual: sizes, times to the millisecond and values with two decimals
/// are different in each.
fn usual_file(id: u64, table: u32, write: u64) -> DataFile {
    let mut file = data_file(id, table, write, write);
    let random = |what: u64, below: u64| mixed(mixed(id) ^ what.wrapping_mul(0x9E37_79B9_7F4A_7C15)) % below;
    let (hour, millisecond) = (3_600_000_000_000, 1_000_000);
    let at = |hours: u64, what: u64| hours as i64 * hour + random(what, 30_000) as i64 * millisecond;
    file.time = TimeRange::from_nanos(at(write, 1), at(write + 1, 2) - hour / 60);
    (file.rows, file.bytes) = (random(3, 500_000), random(4, 5_000_000));
    (file.data_bytes, file.tail_crc32c) = (file.bytes - file.bytes / 90, random(5, 1 << 32) as u32);
    file.created = Timestamp::from_nanos(NOW.as_nanos() + file.time.max.as_nanos());
    let quarter =
        |n: i64| TimeRange::from_nanos(file.time.min.as_nanos() + n * hour / 4, at(write, 6) + (n + 1) * hour / 4);
    file.row_groups = (0..4).map(|n| RowGroup { rows: file.rows / 4, time: quarter(n) }).collect();
    let column = |number: u64| ColumnStatistics {
        name: ColumnName::new(&format!("field{number}")).unwrap(),
        nulls: 0,
        bounds: Some((
            Scalar::Float(random(10 + number, 5000) as f64 / 100.0),
            Scalar::Float(50.0 + random(20 + number, 5000) as f64 / 100.0),
        )),
    };
    file.columns = (0..10).map(column).collect();
    file
}

/// Memory of this process in MiB.
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096) >> 20
}

/// Time of processors that this process has had, in milliseconds.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // Of user and of system, in hundredths of a second.
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap() * 10).sum()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (start, before) = (SystemClock::new(), processor_ms());
    let done = work();
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    eprintln!("{what}: {elapsed:.1} ms, {} ms of processors", processor_ms() - before);
    done
}

fn large_state() -> CatalogState {
    let files = u64::from(TABLES) * FILES_PER_TABLE + FILES_OF_THE_LARGEST;
    let mut state = empty_state();
    let mut apply = |change: CatalogChange| state = state.clone().advance(&[change], mark(2, 0)).unwrap();
    apply(create_database(1, "a"));
    apply(CatalogChange::ReserveFileIds { count: files + 1_000_000 });
    let mut next = 1;
    for table in 1..=TABLES {
        apply(create_table(1, table, &format!("table{table}")));
        let count = if table == 1 { FILES_OF_THE_LARGEST } else { FILES_PER_TABLE };
        let files = (0..count).map(|file| usual_file(next + file, table, file + 1)).collect();
        next += count;
        apply(persisted(table, files, count));
    }
    let wide =
        (0..COLUMNS_OF_THE_WIDEST).map(|number| column(&format!("c{number}"), ColumnKind::Field(FieldType::Float)));
    apply(CatalogChange::AddColumns { table: TableId::new(2), columns: wide.collect() });
    state
}

#[tokio::test]
#[ignore = "takes minutes and measures"]
async fn a_million_files() {
    let empty = resident_mib();
    let state = timed("build", large_state);
    let count: usize = state.tables().map(|table| table.files.len()).sum();
    eprintln!("{count} files, {} tables, {} MiB", state.table_count(), resident_mib() - empty);

    let bytes = timed("encode a checkpoint", || encode_checkpoint(&state).unwrap());
    eprintln!("checkpoint of {} MiB", bytes.len() >> 20);
    let before = resident_mib();
    let read = timed("open: decode it", || decode_checkpoint(&bytes, state.version()).unwrap());
    eprintln!("in {} MiB", resident_mib() - before);
    drop(read);
    // The allocator of tests puts its house in order after so much was freed, which is not the first commit's cost.
    timed("after that: one large allocation", || drop(vec![1_u8; 1 << 20]));

    let commit =
        |what: &str, change: CatalogChange| timed(what, || state.clone().advance(&[change], mark(3, 0)).unwrap());
    let next = count as u64 + 1;
    let through = FILES_PER_TABLE + 1;
    for _ in 0..3 {
        commit("commit: a file to a usual table", persisted(3, vec![usual_file(next, 3, through)], through));
    }
    let through = FILES_OF_THE_LARGEST + 1;
    commit("commit: a file to the largest table", persisted(1, vec![usual_file(next, 1, through)], through));
    let one = vec![column("new", ColumnKind::Tag)];
    commit("commit: a column to the widest table", CatalogChange::AddColumns { table: TableId::new(2), columns: one });
    let eight: Vec<FileId> = (1..=8).map(FileId::new).collect();
    let mut merged = usual_file(next, 1, 1);
    merged.sequences.last = Sequence::new(8);
    let replace = CatalogChange::ReplaceFiles { table: TableId::new(1), removed: eight, added: vec![merged] };
    commit("commit: a compaction of the largest table", replace);
    let deleted = commit("commit: the largest table is deleted", CatalogChange::DeleteTable { id: TableId::new(1) });
    let garbage: Vec<String> = deleted.garbage().map(|file| file.path.to_string()).collect();
    assert_eq!(garbage.len() as u64, FILES_OF_THE_LARGEST);
    timed("all of its garbage, a thousand files a commit", || {
        garbage.chunks(1000).fold(deleted, |state, paths| {
            state.clone().advance(&[CatalogChange::CollectGarbage { paths: paths.to_vec() }], mark(4, 0)).unwrap()
        })
    });
    timed("look for what expires", || {
        state.tables().flat_map(|table| table.files.iter()).filter(|file| file.time.max < NOW).count()
    });
}
