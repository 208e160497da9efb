//! Is every object what the catalog says? Reads all of it, changes nothing.
//!
//! For each table: files of which one may hold a point of the other must not have interleaved writes. For each file: it is
//! there with its size, every checksum fits, every row can be decoded; row groups have the rows and times that the catalog
//! says and rise in time; rows are sorted and unique; every value lies within the statistics. Every object of the catalog is
//! what was written, also one that is kept only in case that another is damaged, and so is each of a write-ahead log in the store.
//!
//! A problem does not stop the rest. Not here: repair; what was damaged has to come from a copy.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::runtime::Handle;

use super::catalog::{Catalog, CatalogState, TableEntry};
use super::mirror;
use super::store::checked::{CheckedFiles, CheckedReader};
use super::store::parquet::contradicts;
use super::store::recent::RecentSettings;
use super::store::{Store, paths};
use super::wal::objects::verify_objects;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::last_write_wins::{conform, first_out_of_order};
use crate::model::{DataFile, TimeRange};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Databases in the catalog.
    pub databases: usize,
    /// Tables in the catalog.
    pub tables: usize,
    /// Data files that tables refer to, also tables that can be brought back.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Data files that wait for their removal.
    pub garbage: usize,
    /// Data files that the catalog doesn't know: of a persist or compaction that is under way, or was cut off.
    pub unknown: usize,
    /// Objects of the catalog: records, checkpoints, marks.
    pub catalog_objects: usize,
    /// Objects of a write-ahead log in the store.
    pub log_objects: usize,
    /// Problems that were found.
    pub problems: usize,
}

/// Compares a store with its catalog; `None` if there is no catalog. `found` hears of each problem at once.
///
/// May run while a server works on the store: it sees the catalog of one moment, whose files stay for a grace period.
///
/// # Errors
/// `Corrupt` if the catalog itself can't be read; `Unavailable` if the store does not answer.
pub async fn verify(
    store: &Store,
    clock: Arc<dyn Clock>,
    found: &mut (dyn FnMut(&Problem) + Send),
) -> Result<Option<Verified>> {
    let Some(state) = Catalog::read(store, Arc::clone(&clock)).await? else { return Ok(None) };
    let mut problems = 0;
    let mut tell = |path: String, what: String| {
        problems += 1;
        found(&Problem { path, what });
    };
    let catalog_objects = Catalog::verify_objects(store, state.id(), Arc::clone(&clock), &mut tell).await?;
    let log_objects = verify_objects(store, state.id(), &mut tell).await?;
    let is_mirror = match mirror::is_mirror(store).await {
        Ok(is_mirror) => is_mirror,
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(error) => {
            tell(paths::mirror_mark().to_string(), error.report());
            true
        }
    };
    let verified = verify_files(store, &state, clock, found).await?;
    Ok(Some(Verified {
        catalog_objects: catalog_objects + usize::from(is_mirror),
        log_objects,
        problems: verified.problems + problems,
        ..verified
    }))
}

/// Compares the data files in a store with what a state says of them. `found` hears of each problem at once.
///
/// # Errors
/// `Unavailable` if the store does not answer.
pub async fn verify_files(
    store: &Store,
    state: &CatalogState,
    clock: Arc<dyn Clock>,
    found: &mut (dyn FnMut(&Problem) + Send),
) -> Result<Verified> {
    let listed =
        store.objects().list(Some(&paths::data_files())).map_ok(|object| (object.location.to_string(), object.size));
    let sizes: HashMap<String, u64> = listed
        .try_collect()
        .await
        .map_err(|error| Error::with_source(ErrorKind::Unavailable, "could not list data files", error))?;

    let mut verified = Verified {
        databases: state.databases().count(),
        tables: state.table_count(),
        garbage: state.garbage_count(),
        unknown: unknown(state, &sizes),
        ..Verified::default()
    };
    let files = CheckedFiles::new(store.clone(), 0, RecentSettings::NOTHING, clock);
    for table in state.kept_tables() {
        let mut tell = |file: &DataFile, what: String| {
            verified.problems += 1;
            found(&Problem { path: file.path.clone(), what });
        };
        order_of_writes(table, &mut tell);
        for file in table.files.iter() {
            match sizes.get(&file.path) {
                None => tell(file, "it is missing from the object store".to_owned()),
                Some(size) if *size != file.bytes => {
                    tell(file, format!("it has {size} bytes and should have {}", file.bytes));
                }
                Some(_) => {
                    let reader = || files.reader(Arc::clone(file), Handle::current());
                    contents(table, file, reader, &mut tell).await?;
                }
            }
        }
        verified.files += table.files.len();
        verified.rows += table.files.rows();
        verified.bytes += table.files.bytes();
    }
    Ok(verified)
}

fn unknown(state: &CatalogState, sizes: &HashMap<String, u64>) -> usize {
    let named =
        state.kept_tables().flat_map(|table| table.files.iter()).filter(|file| sizes.contains_key(&file.path)).count();
    let garbage = state.garbage().filter(|file| sizes.contains_key(file.path.as_ref())).count();
    sizes.len() - named - garbage
}

/// Of two files that may hold one point, the writes of one must all be before those of the other.
fn order_of_writes(table: &TableEntry, tell: &mut impl FnMut(&DataFile, String)) {
    let mut by_time: Vec<&Arc<DataFile>> = table.files.iter().collect();
    by_time.sort_by_key(|file| file.time.min);
    for (place, file) in by_time.iter().enumerate() {
        for other in by_time[place + 1..].iter().take_while(|other| other.time.min <= file.time.max) {
            if other.sequences.overlaps(file.sequences) {
                tell(file, format!("it overlaps \"{}\", and which write was last can't be told", other.path));
            }
        }
    }
}

/// Reads all rows of a file.
async fn contents(
    table: &TableEntry,
    file: &DataFile,
    reader: impl Fn() -> CheckedReader,
    tell: &mut impl FnMut(&DataFile, String),
) -> Result<()> {
    let (mut rows, mut before, mut nulls) = (0, None, vec![0; file.columns.len()]);
    for (number, group) in file.row_groups.iter().enumerate() {
        let batch = match reader().row_group(number).await {
            Ok(batch) => batch,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                tell(file, error.report());
                return Ok(());
            }
        };
        let place = |what: &str| format!("row group {number}: {what}");
        rows += batch.num_rows() as u64;
        if batch.num_rows() as u64 != group.rows {
            tell(file, place(&format!("it has {} rows and should have {}", batch.num_rows(), group.rows)));
        }
        if before.is_some_and(|before: TimeRange| before.max >= group.time.min) {
            tell(file, place("it does not lie behind the one before it in time"));
        }
        before = Some(group.time);
        for what in row_group(table, file, &batch, group.time, &mut nulls)? {
            tell(file, place(&what));
        }
    }
    if rows != file.rows {
        tell(file, format!("it has {rows} rows and should have {}", file.rows));
    }
    for (column, nulls) in file.columns.iter().zip(nulls) {
        if column.nulls != nulls {
            let (name, expected) = (&column.name, column.nulls);
            tell(file, format!("column \"{name}\" is null in {nulls} rows and should be in {expected}"));
        }
    }
    Ok(())
}

/// What is wrong with the rows of one row group. Adds up the rows without a value, by column.
fn row_group(
    table: &TableEntry,
    file: &DataFile,
    batch: &RecordBatch,
    time: TimeRange,
    nulls: &mut [u64],
) -> Result<Vec<String>> {
    let failed = |error| Error::with_source(ErrorKind::Internal, "could not look at the rows of a file", error);
    let batch = match conform(batch, table.schema.arrow()) {
        Ok(batch) => batch,
        Err(error) => return Ok(vec![format!("its columns are not those of the table: {error}")]),
    };
    let mut wrong = Vec::new();
    if let Some(row) = first_out_of_order(&table.schema, &batch).map_err(failed)? {
        wrong.push(format!("row {row} does not lie behind the row before it"));
    }
    if let Some(found) = contradicts::times(&batch, time).map_err(failed)? {
        wrong.push(found);
    }
    for (statistics, nulls) in file.columns.iter().zip(nulls) {
        let Some(column) = table.schema.columns().find(|column| column.name == statistics.name) else {
            wrong.push(format!("the table has no column \"{}\"", statistics.name));
            continue;
        };
        let (found, missing) = contradicts::column(&batch, column, &statistics).map_err(failed)?;
        *nulls += missing;
        wrong.extend(found);
    }
    Ok(wrong)
}
