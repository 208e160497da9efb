//! Caches in SQL: `last_cache('table'[, 'cache'])` and `distinct_cache('table'[, 'cache'])`.
//!
//! | file | |
//! |---|---|
//! | `function` | the two table functions: which cache is meant |
//! | [`table`] | a cache as a table: which rows are wanted of it |
//! | [`exec`] | its rows: those that are kept, or those that the table has |
//! | [`facts`] | what there is to say of caches |
//! | [`filling`] | reading tables to fill caches, in the background |
//!
//! Always true:
//! - a plan names a cache and holds nothing of it; rows are looked up when it is scanned, in the same snapshot that the
//!   table itself is read from;
//! - where a cache can't answer, the table is asked, with the same rows as the result;
//! - whoever may not read a table finds no cache of it.
//!
//! Not here: what is kept, and how it follows the writes (`engine::caches`).

mod exec;
mod facts;
mod filling;
mod function;
mod lookups;
mod table;

pub(super) use exec::{CacheExec, Source, Wanted};
pub(super) use facts::{distinct_caches, last_caches};
pub(super) use filling::fill_caches;
pub(super) use function::register;
pub(super) use table::CacheTable;
