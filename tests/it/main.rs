//! Everything that needs more than one function: a server, a process, a store that fails.
//!
//! One binary, because each one links all of DataFusion. Behaviour that a user can type is a text file in
//! `tests/sql`; the rule of one function is tested beside it.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]
#![allow(unreachable_pub, reason = "a test binary has no face")]

/// What the tests stand on: servers in process, servers as processes, stores that fail.
mod harness;

/// Who is let in, and to what.
mod auth;

/// The house keeps its own rules: imports, generated code, settings in the README.
mod house;

/// Random writes, persists and restarts against a slow model of promise 3.
mod last_write_wins;

/// SQL by example: one test per file of `tests/sql`.
mod sql;

/// What queries ask the object store for, and what they find in memory.
mod recent_files;

/// The same for the cache on the local disk, and what becomes of it.
mod disk_cache;

/// HTTP as clients send it, good and bad.
mod http_api;

/// InfluxQL, compared with what a real InfluxDB answered.
mod influxql;

/// Flight SQL and tickets as clients send them.
mod flight_sql;

/// Queries that run: seen, ended, made to wait.
mod queries;

/// What one token may do in a second, and which pages in a browser are answered.
mod limits;

/// Clients that mean no good, byte by byte.
mod connections;

/// `DELETE` on every way in.
mod delete_statement;

/// Retention and deletion as users ask for them.
mod forgetting;

/// Caches of last and distinct values: always what the table says.
mod caches;

/// Stored bytes of earlier versions are read by this one.
mod formats;

/// The command line as a script uses it.
mod command_line;

/// Import and export, killed in between and compared point by point.
mod transfer;

/// SIGKILL at random moments: nothing acknowledged is lost, nothing comes twice.
mod crash;

/// Power cuts in a simulated disk: the same for the write-ahead log.
mod power_loss;

/// A full disk refuses writes and heals by itself.
mod disk_full;

/// More than there is room for, and a store that says nothing: refused in time, and well again by itself.
mod pressure;

/// The same promises on real object stores: S3, Azure, Google's protocol.
mod object_stores;

/// Real stores whose answers get lost on the way back.
mod logs;
mod long_run;
mod lost_acknowledgements;

/// Backups: one instant, whatever goes on meanwhile, and the way back.
mod backup;

/// A flipped bit in any stored object is found, or changes no answer.
mod flipped_bits;

/// A second store that follows the first.
mod mirror;

/// A store that fails, answers late and forgets, under random work.
mod every_step;
mod faulty_store;
