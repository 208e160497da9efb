//! Caches of tables: the newest points of each key, and the distinct values of columns.
//!
//! A cache is a view. At each instant it says what the same question to the table would say, because it is made of the same
//! rows by the same rules: what is kept ([`view`]) are the few rows of the table that count, through some write; the runs
//! that are newer than that write are in the snapshot beside it, and whoever asks merges them in. So a write does nothing
//! for a cache, and a late point, an overwrite or a new column need no thought of their own.
//!
//! Always true:
//! - a view is swapped with the runs and files of its table ([`TableContents`](super::buffer::TableContents)), so that a
//!   snapshot has the view that belongs to it;
//! - runs leave the buffer only after every view has their rows; a deletion of rows takes the views with it in the same step,
//!   and a change of the retention period before and after;
//! - a view that can't answer says so, and the table is asked. That is so until it is filled, and where it would take more
//!   memory than there is: then it is let go whole, and tried again after [`RETRY_AFTER`].
//!
//! | file | |
//! |---|---|
//! | [`newest`] | which rows of many count |
//! | [`condense`] | the same over more rows than fit into memory |
//! | [`view`] | what is kept, and how it follows the writes |
//! | [`lookup`] | finding the rows of some keys |
//! | [`filling`] | how a view comes to its first rows |
//!
//! Not here: reading the table to fill a view, and the functions that ask (`query::caches`).

mod condense;
mod filling;
mod lookup;
mod newest;
mod registry;
#[cfg(test)]
mod tests;
mod view;

pub use condense::{Condenser, answer_schema, arrange};
pub use filling::CacheFill;
pub use lookup::Lookup;
pub(in crate::engine) use registry::Caches;
pub use registry::{CacheFacts, CacheState, UnfilledCache};
pub(in crate::engine) use view::{CacheView, advance, advance_if_due};

use std::time::Duration;

use arrow::error::ArrowError;

use crate::error::{Error, ErrorKind};

/// A cache that did not fit into memory is tried again after this time: filling it reads the whole table.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Most caches of one table.
pub(super) const CACHES_PER_TABLE_MAX: usize = 64;

fn unfit(error: ArrowError) -> Error {
    Error::with_source(ErrorKind::Internal, "the rows of a cache don't fit their table", error)
}
