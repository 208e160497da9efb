//! `debug object-store-check`: tries a store out and shows what it can do, before data is in it.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;

use super::{Exit, catalog};
use crate::clock::Clock;
use crate::config::{StoreConfig, with_store_settings};
use crate::engine::store::check::{Finding, Need, Verdict, check};
use crate::engine::store::{StoreSettings, open};
use crate::error::{Error, ErrorKind, Result};

/// A check wants an answer more than it wants patience: a wrong address is told after seconds.
const RETRIES_MAX: usize = 3;

/// Width of the first column; the longest capability fits.
const CAPABILITY_COLUMNS: usize = 29;

const ABOUT: &str = "Try out an object store before data is in it";

const LONG_ABOUT: &str = "\
Try out an object store before data is in it: put, get, list, delete, and above all whether it refuses to overwrite an \
object that must be new, also when many try at once. Works on objects of its own below check/ and removes them. \
The flags are those by which `serve` is told of its store.

Ends with 0 if everything works that Flightline needs, else with 1.";

const AFTER_HELP: &str = "\
Examples:
  flightline debug object-store-check --object-store s3 --bucket metrics --aws-default-region eu-central-1
  flightline debug object-store-check --object-store s3 --bucket b --aws-endpoint http://127.0.0.1:9000 --aws-allow-http";

/// The command with its subcommands.
pub(super) fn command() -> Command {
    let check = Command::new("object-store-check").about(ABOUT).long_about(LONG_ABOUT).after_help(AFTER_HELP);
    Command::new("debug")
        .about("Look into what a server stands on")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_store_settings(check))
        .subcommand(catalog::command())
}

/// Tries the store out and prints what it finds, line by line as it finds it.
///
/// # Errors
/// If the settings can't be used or nothing can be printed.
pub(super) async fn check_store(config: &StoreConfig, clock: &dyn Clock) -> Result<Exit> {
    let mut connections = config.connections.clone();
    connections.retries_max = connections.retries_max.min(RETRIES_MAX);
    let store = open(&config.store, &connections)?;
    let mut printed = writeln!(io::stdout(), "{}\n", store.description());
    let verdict = check(&store, clock, &mut |finding| {
        if printed.is_ok() {
            printed = writeln!(io::stdout(), "{}", line(finding, config.single_writer));
        }
    })
    .await;
    if let StoreSettings::File { root } = &config.store {
        remove_empty(&root.join("check"));
    }
    let (exit, sentence) = conclusion(verdict, config.single_writer);
    let unprinted = |error| Error::with_source(ErrorKind::Unavailable, "could not print the findings", error);
    printed.and_then(|()| writeln!(io::stdout(), "\n{sentence}")).map_err(unprinted)?;
    Ok(exit)
}

fn line(finding: &Finding, single_writer: bool) -> String {
    let is_needed = match finding.need {
        Need::Required => true,
        Need::RequiredForSeveralWriters => !single_writer,
        Need::RequiredForSingleWriter => single_writer,
        Need::Optional => false,
    };
    let (word, text) = match &finding.outcome {
        Ok(text) => ("ok", text),
        Err(reason) if is_needed => ("MISSING", reason),
        Err(reason) => ("lacks", reason),
    };
    let need = if is_needed { "needed" } else { "nice" };
    format!("{word:<8}{need:<8}{:<CAPABILITY_COLUMNS$} {text}", finding.capability)
}

fn conclusion(verdict: Verdict, single_writer: bool) -> (Exit, &'static str) {
    match verdict {
        Verdict::Usable => (Exit::Success, "Flightline can use this store."),
        Verdict::SingleWriterOnly if single_writer => {
            (Exit::Success, "Flightline can use this store with one server, as --object-store-single-writer says.")
        }
        Verdict::SingleWriterOnly => (
            Exit::Failure,
            "Several servers would destroy each other's data in this store. One can use it, with \
             --object-store-single-writer.",
        ),
        Verdict::Unusable => (Exit::Failure, "Flightline cannot use this store."),
    }
}

/// In a file store the scratch objects leave their directories behind.
fn remove_empty(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return }; // nothing was put
    for entry in entries.flatten() {
        // Refused if another check is in it.
        let _in_use = std::fs::remove_dir(entry.path());
    }
    let _in_use = std::fs::remove_dir(directory);
}
