//! `backup`: copies of everything at one instant. `create`, `list` and `delete` ask a server; `list --from`, `verify` and
//! `restore` read the place for backups themselves, since the server may be what was lost.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::error::ErrorKind as ClapErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::admin::Confirmation;
use super::client::{ClientError, Connection};
use super::query::{Output, format_argument};
use super::{Exit, failed, subcommand};
use crate::clock::Clock;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};
use crate::config::{Environment, Machine, RestoreTarget, StorePlace, from_argument, with_store_settings};
use crate::engine::backup::{Backup, BackupName, Location, Which};
use crate::engine::store::{self, open_below};
use crate::engine::verify::{Problem, Verified};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use crate::server::backup_table;
use crate::server::pretty::PrettyTable;

const PATH: &str = "/api/v3/backups";

const CREATE_HELP: &str = "\
The server copies to the place that it was told with --backup-to, while it goes on writing and answering. The backup holds one \
instant: every write that was acknowledged before, and of any other all or nothing. Files that earlier backups have copied are \
shared, so that only new ones are copied; --full copies all, and shares nothing with earlier backups.

Examples:
  flightline backup create
  flightline backup create before-upgrade --full";

const RESTORE_HELP: &str = "\
Needs no server: the store that the flags name, which are those of `serve`, must be empty. The backup is checked before \
anything is written, and the store afterwards. The catalog gets a new identifier.

Examples:
  flightline backup restore --from /mnt/backups --data-dir /var/lib/flightline
  flightline backup restore before-upgrade --from s3://backups/nyc --aws-default-region eu-central-1
  flightline backup restore --from /mnt/backups --not-after 2024-01-31T12:00:00Z";

const VERIFY_HELP: &str = "\
Reads every file of the backup and compares it with the backup's catalog, as `check` does with a store. Ends with 0 if all is \
well, else with 1 and a line for each problem.

Example:
  flightline backup verify --from /mnt/backups";

/// What is to be done with backups.
#[derive(Debug, Clone)]
pub struct BackupCommand(Task);

#[derive(Debug, Clone)]
enum Task {
    /// A server does it.
    Asked(ClientSettings, Asked),
    /// This process does it.
    Done(StorePlace, Done),
}

#[derive(Debug, Clone)]
enum Asked {
    Create { name: Option<String>, full: bool },
    List(Output),
    Delete { name: String, confirmation: Confirmation },
}

#[derive(Debug, Clone)]
enum Done {
    List,
    Verify(Which),
    Restore(Which, Box<RestoreTarget>),
}

/// The command with its subcommands.
pub(super) fn command() -> Command {
    let name = || Arg::new("name").value_name("NAME");
    let not_after = || {
        Arg::new("not-after")
            .long("not-after")
            .value_name("TIME")
            .value_parser(time)
            .conflicts_with("name")
            .help("The newest that is not after this time, such as 2024-01-31T12:00:00Z")
    };
    let one = || [name().help("Which backup; without it the newest"), not_after(), from_argument()];
    let create = Command::new("create")
        .about("Make a backup while the server runs")
        .after_help(CREATE_HELP)
        .arg(name().help("Lower-case letters, digits, '-', '_' and '.'; without it the time"))
        .arg(
            Arg::new("full").long("full").action(ArgAction::SetTrue).help("Copy all files, also those that are there"),
        );
    let list = Command::new("list").about("List the backups").arg(format_argument()).arg(from_argument());
    let delete = Command::new("delete")
        .about("Delete a backup, and the files that no other one needs")
        .arg(name().required(true).help("Which backup"))
        .arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Don't ask"));
    let verify = Command::new("verify").about("Check every file of a backup").after_help(VERIFY_HELP).args(one());
    let restore =
        Command::new("restore").about("Restore a backup into an empty store").after_help(RESTORE_HELP).args(one());
    let client = |command| with_client_settings(command, HostKind::Any).mut_arg("database", |arg| arg.hide(true));
    Command::new("backup")
        .about("Copy everything of one instant elsewhere, and back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(client(create))
        .subcommand(with_store_settings(client(list)))
        .subcommand(client(delete))
        .subcommand(with_store_settings(verify).visible_alias("check"))
        .subcommand(with_store_settings(restore))
}

/// `2024-01-31T12:00:00Z`
fn time(text: &str) -> Result<Timestamp, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|error| error.to_string())?;
    time.timestamp_nanos_opt().map(Timestamp::from_nanos).ok_or_else(|| "it is too far from 1970".to_owned())
}

/// What the flags of `backup` ask for.
pub(super) fn parse(
    command: &mut Command,
    flags: &ArgMatches,
    environment: Environment<'_>,
    machine: &Machine,
) -> Result<BackupCommand, clap::Error> {
    let (verb, flags) = flags.subcommand().unwrap_or(("", flags));
    let command = subcommand(command, &["backup", verb]);
    let name = || flags.get_one::<String>("name").cloned();
    let which = || -> Result<Which> {
        match name() {
            Some(name) => Ok(Which::Named(BackupName::new(&name)?)),
            None => Ok(Which::Newest { not_after: flags.get_one::<Timestamp>("not-after").copied() }),
        }
    };
    let target = || RestoreTarget::from_flags(flags, environment, machine).map(Box::new).map_err(Error::from);
    let done = match verb {
        "verify" => which().map(|which| Some(Done::Verify(which))),
        "restore" => which().and_then(|which| Ok(Some(Done::Restore(which, target()?)))),
        "list" if flags.contains_id("from") => Ok(Some(Done::List)),
        _ => Ok(None),
    };
    let refused = |command: &mut Command, text: String| command.error(ClapErrorKind::ValueValidation, text);
    if let Some(done) = done.map_err(|error| refused(command, error.to_string()))? {
        let place = StorePlace::from_flags(flags, environment, machine);
        let place = place.map_err(|error| refused(command, error.to_string()))?;
        return Ok(BackupCommand(Task::Done(place, done)));
    }
    let settings = ClientSettings::from_flags(flags, HostKind::Any, environment)
        .map_err(|error| refused(command, error.to_string()))?;
    let confirmation = || if flags.get_flag("yes") { Confirmation::Given } else { Confirmation::Wanted };
    let asked = match verb {
        "create" => Asked::Create { name: name(), full: flags.get_flag("full") },
        "delete" => Asked::Delete { name: name().unwrap_or_default(), confirmation: confirmation() },
        _ => Asked::List(Output::from_flags(flags)),
    };
    Ok(BackupCommand(Task::Asked(settings, asked)))
}

/// Does what the command asks for.
pub(super) async fn run(command: &BackupCommand, clock: Arc<dyn Clock>) -> std::process::ExitCode {
    let result = match &command.0 {
        Task::Asked(settings, asked) => ask(settings, asked, clock.as_ref()).await.map_err(Error::from),
        Task::Done(place, done) => Box::pin(do_it(place, done, clock)).await,
    };
    match result {
        Ok(exit) => std::process::ExitCode::from(exit as u8),
        Err(error) => failed("Backup", &error),
    }
}

/// What a server says of a backup that it made.
#[derive(Deserialize)]
struct Created {
    name: String,
    kind: String,
    rows: u64,
    files: u64,
    bytes: u64,
    copied_files: u64,
    copied_bytes: u64,
}

async fn ask(settings: &ClientSettings, asked: &Asked, clock: &dyn Clock) -> Result<Exit, ClientError> {
    let connection = Connection::new(settings)?;
    match asked {
        Asked::Create { name, full } => {
            let begun = clock.elapsed();
            let request = connection.request(Method::POST, PATH).json(&json!({ "name": name, "full": full }));
            let response = connection.success(request).await?;
            let broke_off = |source: reqwest::Error| ClientError::Truncated { bytes: 0, source: source.without_url() };
            let Created { name, kind, rows, files, bytes, copied_files, copied_bytes } =
                response.json().await.map_err(broke_off)?;
            let seconds = clock.elapsed().saturating_sub(begun).as_secs_f64();
            println!(
                "Backup {name:?} created successfully ({kind}): {rows} rows in {files} files of {bytes} bytes; \
                 copied {copied_files} files of {copied_bytes} bytes in {seconds:.1} s, the others were there"
            );
        }
        Asked::List(output) => {
            output.check()?;
            let request = connection.request(Method::GET, PATH).query(&[("format", &output.format)]);
            output.receive(connection.success(request).await?).await?;
        }
        Asked::Delete { name, confirmation } => {
            confirmation.ask(&format!("backup {name:?}"))?;
            connection.success(connection.request(Method::DELETE, PATH).query(&[("name", name)])).await?;
            println!("Backup {name:?} deleted successfully");
        }
    }
    Ok(Exit::Success)
}

async fn do_it(place: &StorePlace, done: &Done, clock: Arc<dyn Clock>) -> Result<Exit> {
    let location = Location::new(open_below(&place.store, &place.prefix, &place.connections)?, Arc::clone(&clock));
    match done {
        Done::List => {
            let batch = backup_table::rows(&location.list().await?)?;
            let mut table = PrettyTable::new(&batch.schema());
            print(&format!("{}{}", table.rows(&batch)?, table.end()))?;
            Ok(Exit::Success)
        }
        Done::Verify(which) => {
            let backup = location.find(which).await?;
            let mut printed = Ok(());
            let mut tell = |problem: &Problem| {
                if printed.is_ok() {
                    printed = print(&format!("{problem}\n"));
                }
            };
            let verified = location.verify(&backup, &mut tell).await?;
            printed.and_then(|()| print(&format!("{}\n", verdict(&backup, &verified))))?;
            Ok(if verified.problems == 0 { Exit::Success } else { Exit::Failure })
        }
        Done::Restore(which, target) => {
            check_no_log(&target.data_dir)?;
            let begun = clock.elapsed();
            let backup = location.find(which).await?;
            let target = store::open(&target.store.store, &target.store.connections)?;
            let restored = location.restore(&backup, &target).await?;
            let seconds = clock.elapsed().saturating_sub(begun).as_secs_f64();
            let (name, Verified { rows, files, bytes, .. }) = (&backup.name, restored.verified);
            print(&format!(
                "Backup \"{name}\" of {} restored to \"{}\" and checked: {rows} rows in {files} files of {bytes} bytes, \
                 in {seconds:.1} s. The new catalog is {}\n",
                backup.instant,
                target.description(),
                restored.catalog
            ))?;
            Ok(Exit::Success)
        }
    }
}

fn verdict(backup: &Backup, verified: &Verified) -> String {
    let Verified { databases, tables, files, rows, bytes, problems, .. } = verified;
    let verdict = match problems {
        0 => "all is well".to_owned(),
        1 => "1 problem".to_owned(),
        problems => format!("{problems} problems"),
    };
    let Backup { name, instant, .. } = backup;
    format!(
        "{verdict}: backup \"{name}\" of {instant}, {databases} databases, {tables} tables, {files} files with {rows} rows in \
         {bytes} bytes"
    )
}

/// A log that is still there is of another catalog: no server would start on it beside the restored one.
fn check_no_log(data_dir: &Path) -> Result<()> {
    let log = data_dir.join("wal");
    let is_empty = match std::fs::read_dir(&log) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            let message = format!("could not look into \"{}\"", log.display());
            return Err(Error::with_source(ErrorKind::Unavailable, message, error));
        }
    };
    if is_empty {
        return Ok(());
    }
    let message = format!("there is a write-ahead log in \"{}\": nothing was restored", log.display());
    Err(Error::new(ErrorKind::Conflict, message))
}

fn print(text: &str) -> Result<()> {
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|error| Error::with_source(ErrorKind::Unavailable, "could not print the answer", error))
}
