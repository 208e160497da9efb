//! `check`: reads everything in a store and compares it with the catalog.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Command;

use super::Exit;
use crate::clock::Clock;
use crate::config::{StoreConfig, with_store_settings};
use crate::engine::store::open;
use crate::engine::verify::{Problem, Verified, verify};
use crate::error::{Error, ErrorKind, Result};

const ABOUT: &str = "Check that every file in a store is what the catalog says";

const LONG_ABOUT: &str = "\
Check that every file in a store is what the catalog says: there, of its size, with good checksums, every row readable, sorted \
and unique, within the statistics; and that every object of the catalog, and of a write-ahead log in the store, is as it was \
written. Reads everything and changes nothing; a server may be running. The flags are those by which `serve` is told of its \
store. A write-ahead log on a local disk is not looked at: every start does that.

Ends with 0 if all is well, else with 1 and a line for each problem.";

const AFTER_HELP: &str = "\
Examples:
  flightline check
  flightline check --object-store s3 --bucket metrics";

/// The command.
pub(super) fn command() -> Command {
    with_store_settings(Command::new("check").about(ABOUT).long_about(LONG_ABOUT).after_help(AFTER_HELP))
}

/// Checks a store and prints what is wrong as it is found, then what was looked at.
///
/// # Errors
/// If there is no catalog, it can't be read, the store doesn't answer, or nothing can be printed.
pub(super) async fn check(config: &StoreConfig, clock: Arc<dyn Clock>) -> Result<Exit> {
    let store = open(&config.store, &config.connections)?;
    let mut printed = Ok(());
    let mut print = |problem: &Problem| {
        if printed.is_ok() {
            printed = writeln!(io::stdout(), "{problem}");
        }
    };
    let Some(verified) = verify(&store, clock, &mut print).await? else {
        return Err(Error::not_found(format!("there is no catalog in \"{}\"", store.description())));
    };
    let unprinted = |error| Error::with_source(ErrorKind::Unavailable, "could not print the findings", error);
    printed.and_then(|()| writeln!(io::stdout(), "{}", summary(&verified))).map_err(unprinted)?;
    Ok(if verified.problems == 0 { Exit::Success } else { Exit::Failure })
}

fn summary(verified: &Verified) -> String {
    let Verified { databases, tables, files, rows, bytes, garbage, unknown, catalog_objects, log_objects, problems } =
        verified;
    let verdict = match problems {
        0 => "all is well".to_owned(),
        1 => "1 problem".to_owned(),
        problems => format!("{problems} problems"),
    };
    format!(
        "{verdict}: {databases} databases, {tables} tables, {files} files with {rows} rows in {bytes} bytes; \
         {garbage} files wait for their removal, {unknown} are not in the catalog; \
         {catalog_objects} objects of the catalog, {log_objects} of a write-ahead log"
    )
}
