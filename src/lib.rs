//! Flightline: a time-series database that speaks Arrow Flight SQL.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | point | what was measured at one moment: tags, fields, time |
//! | series key | all tags of a point; with the time it is the point's key |
//! | tag, field | a column that identifies, a column that was measured |
//! | run | rows of one table from a contiguous range of writes: a batch, a tidied batch, or a file |
//! | sequence | the place of a write in the log; decides which write was last |
//! | time block | a span of time whose rows lie together: one row group of a file |
//! | snapshot | one table at one instant: schema, runs, files |
//! | catalog | the log of changes that says which databases, tables, columns and files there are |
//! | persist | buffered runs become a Parquet file |
//!
//! # A write, from file to file
//!
//! 1. [`server::http`]: the route, query parameters, size limit, gzip.
//! 2. [`syntax::line_protocol::parse`]: text to [`model::Rows`], refused lines with their numbers.
//! 3. [`engine::Engine::write`]: room in the buffer; [`engine::catalog`] learns new tables and columns;
//!    [`engine::wal::Wal::append`] makes it durable; [`engine::buffer::TableBuffer::insert`] makes it visible.
//! 4. Later: [`engine::buffer::tidy`] joins small runs, [`engine::buffer::persist`] writes Parquet, tells the catalog and
//!    releases the log.
//!
//! # A query, from file to file
//!
//! 1. [`server::flight`] or [`server::http`]: the command or route, which database.
//! 2. [`query::Queries::plan`]: limits, DataFusion's planner, names resolved against the catalog.
//! 3. The table provider takes one [`engine::TableSnapshot`] per table and query, prunes by time and statistics, and merges by
//!    [`model::last_write_wins`] only where runs can share a point. Files are read by [`engine::store::checked`], recent ones from
//!    memory ([`engine::store::recent`]).
//! 4. [`query::PlannedQuery::run`]: a stream of batches of exactly the announced schema; dropping it cancels.
//!
//! # Rooms
//!
//! - [`model`]: plain values. No async, no IO.
//! - [`syntax`]: text in, values out. No schema knowledge but what it is asked to check.
//! - [`engine`]: keeps rows. Never sees SQL, a request, or a DataFusion type.
//! - [`query`]: answers. The only place that knows DataFusion.
//! - [`server`]: speaks. [`server::Server::start`] is the only place that makes the big objects.
//! - [`config`], [`cli`]: settings as data, and the commands.
//!
//! Only [`clock`] reads time or draws ids, only `engine::store::paths` spells an object path, only `server::status` knows
//! status codes, only [`model::last_write_wins`] decides between two rows, only [`config`] knows names of the environment.

pub mod error;
pub mod model;
pub mod syntax;

pub mod clock;
pub mod steps;
pub mod tasks;
pub mod telemetry;

pub mod engine;
pub mod query;
pub mod server;

pub mod cli;
pub mod config;
