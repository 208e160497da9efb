//! The list of backups as rows, the same over HTTP and for commands that need no server.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};

use crate::engine::backup::{Backup, Listed};
use crate::error::{Error, ErrorKind, Result};

/// One row per backup; of a damaged one its name and what is wrong.
///
/// # Errors
/// `Internal` if the rows can't be put together.
pub(crate) fn rows(listed: &[Listed]) -> Result<RecordBatch> {
    let backups: Vec<Option<&Backup>> = listed.iter().map(|listed| listed.backup.as_ref().ok()).collect();
    let numbers = |field: fn(&Backup) -> u64| -> ArrayRef {
        Arc::new(backups.iter().map(|backup| backup.map(field)).collect::<UInt64Array>())
    };
    let instants = backups.iter().map(|backup| backup.map(|backup| backup.instant.as_nanos()));
    let kinds = backups.iter().map(|backup| backup.map(|backup| backup.kind.to_string()));
    let damage = listed.iter().map(|listed| listed.backup.as_ref().err().map(Error::report));
    let columns: [(&str, ArrayRef); 10] = [
        ("name", Arc::new(StringArray::from_iter_values(listed.iter().map(|listed| listed.name.as_str())))),
        ("instant", Arc::new(instants.collect::<TimestampNanosecondArray>())),
        ("kind", Arc::new(kinds.collect::<StringArray>())),
        ("tables", numbers(|backup| backup.tables)),
        ("rows", numbers(|backup| backup.rows)),
        ("files", numbers(|backup| backup.files)),
        ("bytes", numbers(|backup| backup.bytes)),
        ("copied_files", numbers(|backup| backup.copied_files)),
        ("copied_bytes", numbers(|backup| backup.copied_bytes)),
        ("damage", Arc::new(damage.collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter(columns)
        .map_err(|error| Error::with_source(ErrorKind::Internal, "could not list backups", error))
}
