//! Every object path, in this one place.
//!
//! ```text
//! catalog/log/{sequence:020}                  one record of the catalog's log
//! catalog/checkpoint/{sequence:020}           the whole catalog as of that record
//! catalog/trimmed                             says that the log has lost its beginning
//! wal/{epoch:010}/{index:010}                 a group of writes, where the write-ahead log is in the store
//! catalog/writer                              who may write, where the store can't decide it
//! catalog/mirror                              says that this is a mirror of another store
//! check/{id}/{name}                           scratch of a check of the store; gone when the check ends
//! dbs/{database}-{name}/{table}-{name}/{day}/{file:010}.parquet
//! ```
//!
//! and in a place for backups, which may be any store:
//!
//! ```text
//! backups/{name}/manifest                     says that the backup is there
//! backups/{name}/{id}.catalog                 its catalog
//! files/{set}/dbs/...                         data files, which the backups of a set share, as in the store they come from
//! catalog/writer                              who writes or removes a backup at this moment
//! ```
//!
//! Always true: the numbers alone make a path unique. The names beside them are for people who look
//! into a bucket; they are reduced to a few harmless characters, so that no name of a user can leave its place,
//! be too long for a file system, or meet another one where upper and lower case are the same.

use chrono::DateTime;
use object_store::path::Path;
use uuid::Uuid;

use crate::model::{DatabaseId, DatabaseName, FileId, TableId, TableName, Timestamp};

/// Longest readable part of a name in a path. File systems take 255 bytes for one part; this leaves room for
/// the number and keeps listings legible.
const READABLE_CHARS_MAX: usize = 40;

/// The directory of the catalog's log.
pub fn catalog_log() -> Path {
    Path::from_iter(["catalog", "log"])
}

/// The record with this number in the catalog's log.
pub fn catalog_record(sequence: u64) -> Path {
    catalog_log().join(numbered(sequence))
}

/// The directory of the catalog's checkpoints.
pub fn catalog_checkpoints() -> Path {
    Path::from_iter(["catalog", "checkpoint"])
}

/// The catalog as of the record with this number.
pub fn catalog_checkpoint(sequence: u64) -> Path {
    catalog_checkpoints().join(numbered(sequence))
}

/// Exists once records were removed from the beginning of the catalog's log.
pub fn catalog_trimmed() -> Path {
    Path::from_iter(["catalog", "trimmed"])
}

/// Names the one process that may write, in a store where that has to be agreed on.
pub fn writer_lock() -> Path {
    Path::from_iter(["catalog", "writer"])
}

/// Says that the store is a mirror of another one, and of which.
pub fn mirror_mark() -> Path {
    Path::from_iter(["catalog", "mirror"])
}

/// The directory of the write-ahead log, where it is in the store.
pub fn log_objects() -> Path {
    Path::from("wal")
}

/// The directory of what one start of a server put into the write-ahead log.
pub fn log_epoch(epoch: u64) -> Path {
    log_objects().join(format!("{epoch:010}"))
}

/// An object of the write-ahead log.
pub fn log_object(epoch: u64, index: u64) -> Path {
    log_epoch(epoch).join(format!("{index:010}"))
}

/// Epoch and index of an object of the write-ahead log; `None` if it is none of ours.
pub fn log_object_place(path: &Path) -> Option<(u64, u64)> {
    let mut parts = path.prefix_match(&log_objects())?;
    let mut number = || {
        let part = parts.next()?;
        let digits = part.as_ref();
        let is_number = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let place = (number()?, number()?);
    parts.next().is_none().then_some(place)
}

/// The directory that holds the scratch objects of one check of the store.
pub fn check(id: Uuid) -> Path {
    Path::from_iter(["check".to_owned(), id.simple().to_string()])
}

/// The number of a log record or checkpoint; `None` if the object is neither.
pub fn catalog_sequence(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let is_numbered = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_numbered.then(|| name.parse().ok()).flatten()
}

/// The directory of all Parquet files.
pub fn data_files() -> Path {
    Path::from("dbs")
}

/// The number of a Parquet file; `None` if the object is none of ours.
pub fn data_file_id(path: &Path) -> Option<FileId> {
    let number = path.filename()?.strip_suffix(".parquet")?;
    let is_number = number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok().map(FileId::new)).flatten()
}

/// The directory of a database's Parquet files.
pub fn database(id: DatabaseId, name: &DatabaseName) -> Path {
    data_files().join(format!("{id}-{}", readable(name.as_str())))
}

/// A Parquet file, below the UTC day of its oldest row.
pub fn data_file(
    database: DatabaseId,
    database_name: &DatabaseName,
    table: TableId,
    table_name: &TableName,
    file: FileId,
    oldest: Timestamp,
) -> Path {
    let day = DateTime::from_timestamp_nanos(oldest.as_nanos()).format("%Y-%m-%d");
    self::database(database, database_name)
        .join(format!("{table}-{}", readable(table_name.as_str())))
        .join(day.to_string())
        .join(format!("{:010}.parquet", file.get()))
}

/// The directory of all backups in a place for backups.
pub fn backups() -> Path {
    Path::from("backups")
}

/// The object that says that a backup is there.
pub fn backup_manifest(name: &str) -> Path {
    backups().join(name).join("manifest")
}

/// The name of the backup that this is the manifest of; `None` if it is none.
pub fn backup_name(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.parts().collect();
    match parts.as_slice() {
        [_, name, file] if file.as_ref() == "manifest" => Some(name.as_ref().to_owned()),
        _ => None,
    }
}

/// The catalog of a backup. The number keeps apart what two attempts under one name store.
pub fn backup_catalog(name: &str, id: Uuid) -> Path {
    backups().join(name).join(format!("{}.catalog", id.simple()))
}

/// Whether this is the catalog of a backup.
pub fn is_backup_catalog(path: &Path) -> bool {
    path.filename().is_some_and(|name| name.ends_with(".catalog"))
}

/// The directory of the data files of all backups.
pub fn backup_sets() -> Path {
    Path::from("files")
}

/// The directory below which a set of backups keeps its data files.
pub fn backup_files(set: Uuid) -> Path {
    backup_sets().join(set.simple().to_string())
}

fn numbered(sequence: u64) -> String {
    format!("{sequence:020}")
}

/// A name cut to a few characters that mean nothing to any store, shell or file system.
fn readable(name: &str) -> String {
    let harmless = |character: char| match character.to_ascii_lowercase() {
        kept @ ('a'..='z' | '0'..='9' | '_' | '-') => kept,
        _ => '_',
    };
    name.chars().take(READABLE_CHARS_MAX).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const HOSTILE: [&str; 16] = [
        "..",
        ".",
        "../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "%2F",
        "%2e%2e%2f",
        "a\0b",
        "CPU",
        "cpu",
        "ümläut",
        "气温",
        "a#1",
        "a\\b",
        "con",
        " ",
    ];

    fn path_of(table: u32, name: &str) -> Path {
        let database = DatabaseName::new("nyc/autogen").unwrap();
        let (table_name, day) = (TableName::new(name).unwrap(), Timestamp::from_nanos(0));
        data_file(DatabaseId::new(7), &database, TableId::new(table), &table_name, FileId::new(12), day)
    }

    fn assert_harmless(path: &Path) {
        let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
        assert_eq!(parts.len(), 5, "{path}");
        for part in &parts {
            assert!(part.len() <= 60, "{part}");
            assert!(part != "." && part != "..", "{path}");
            assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)), "{path}");
            assert!(!part.bytes().any(|byte| byte.is_ascii_uppercase()), "{path}");
        }
        assert_eq!(Path::parse(path.as_ref()).unwrap(), *path);
    }

    #[test]
    fn a_data_file_lies_below_its_table_and_day() {
        assert_eq!(path_of(3, "cpu load").as_ref(), "dbs/7-nyc_autogen/3-cpu_load/1970-01-01/0000000012.parquet");
    }

    #[test]
    fn a_hostile_name_stays_in_its_place_and_meets_no_other() {
        let long = "x".repeat(300);
        let names = HOSTILE.into_iter().chain([long.as_str()]);
        let paths: Vec<Path> = names.enumerate().map(|(table, name)| path_of(table as u32, name)).collect();
        paths.iter().for_each(assert_harmless);
        let distinct: HashSet<_> = paths.iter().map(|path| path.as_ref().to_lowercase()).collect();
        assert_eq!(distinct.len(), paths.len());
    }

    #[test]
    fn every_representable_time_has_a_day() {
        let database = DatabaseName::new("nyc").unwrap();
        let table = TableName::new("cpu").unwrap();
        for (nanos, day) in [(i64::MIN, "1677-09-21"), (-1, "1969-12-31"), (i64::MAX, "2262-04-11")] {
            let time = Timestamp::from_nanos(nanos);
            let path = data_file(DatabaseId::new(1), &database, TableId::new(1), &table, FileId::new(u64::MAX), time);
            assert_eq!(path.parts().nth(3).unwrap().as_ref(), day);
            assert_harmless(&path);
        }
    }

    #[test]
    fn an_object_of_the_log_is_found_again_by_its_place() {
        for place in [(1, 1), (7, 12_345_678_901)] {
            assert_eq!(log_object_place(&log_object(place.0, place.1)), Some(place));
        }
        for other in ["wal/1/0000000001", "wal/0000000001", "wal/0000000001/0000000001/x", "dbs/0000000001/0000000001"]
        {
            assert_eq!(log_object_place(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_catalog_object_is_found_again_by_its_number() {
        for sequence in [1, 255, u64::MAX] {
            assert_eq!(catalog_sequence(&catalog_record(sequence)), Some(sequence));
            assert_eq!(catalog_sequence(&catalog_checkpoint(sequence)), Some(sequence));
        }
        for other in
            ["catalog/trimmed", "catalog/log/1", "catalog/log/99999999999999999999", "catalog/log/+0000000000000000001"]
        {
            assert_eq!(catalog_sequence(&Path::from(other)), None, "{other}");
        }
    }

    #[test]
    fn paths_sort_like_their_numbers() {
        assert!(catalog_record(9) < catalog_record(10));
        assert!(catalog_record(99_999_999_999) < catalog_record(100_000_000_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_two_tables_have_different_paths(a in "\\PC{1,300}", b in "\\PC{1,300}") {
            let (a, b) = (path_of(1, &a), path_of(2, &b));
            assert_harmless(&a);
            assert_harmless(&b);
            prop_assert_ne!(a.as_ref().to_lowercase(), b.as_ref().to_lowercase());
        }
    }
}
