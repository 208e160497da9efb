//! The words: plain values that every other room speaks.
//!
//! No async, no IO, no DataFusion, and no `Serialize`: what is stored or sent has its own type at
//! that border (`engine::catalog::format`, `engine::wal::segment`, `server::flight::tickets`).

mod arrow_rows;
mod cache;
mod data_file;
mod deletion;
mod file_columns;
mod file_list;
mod ids;
pub mod last_write_wins;
mod names;
mod overlap;
mod policies;
mod rights;
mod rows;
mod schema;
mod tag_encoder;
mod time;

pub use arrow_rows::{ArrowColumns, ArrowRowsError, RefusedBatch};
pub use cache::{CacheDefinition, CacheError, CacheKind, CacheShape, Newest};
pub use data_file::{ColumnStatistics, DataFile, RowGroup, Scalar};
pub use deletion::{Deletion, RowSelection};
pub use file_columns::FileColumns;
pub use file_list::{FileList, Stretch};
pub use ids::{DatabaseId, FileId, Sequence, SequenceRange, TableId};
pub use names::{ColumnName, DatabaseName, NameError, TIME_COLUMN, TableName};
pub use overlap::{Covers, components};
pub use policies::OWN_POLICY;
pub use rights::{Access, Action, Facility, Permission, PermissionError, Rights, Tables};
pub use rows::{Rows, TableRows, batch_bytes};
pub use schema::{
    COLUMN_TYPE_KEY, Column, ColumnKind, FieldType, SchemaError, TableSchema, Widened, without_foreign_kind,
};
pub use time::{Precision, TimeRange, Timestamp};
