//! The command line: arguments to what is to be done, and the client commands that speak to a server over HTTP.
//!
//! Commands, flags and variables are those that users of `influxdb3` know, so that scripts carry over; the client
//! commands also work against an InfluxDB 3.
//!
//! Not here: what a setting takes and where it comes from (see [`crate::config`]).

mod admin;
mod backup;
mod caches;
mod catalog;
mod check;
mod client;
mod debug;
mod demo;
mod export;
mod import;
mod input;
mod query;
mod report;
mod send;
mod serve;
mod split;
#[cfg(test)]
mod tests;
mod token;
mod transfer;
mod write;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use self::admin::Admin;
use self::backup::BackupCommand;
use self::caches::CacheCommand;
pub use self::catalog::Shown;
use self::client::ClientError;
use self::export::Export;
use self::import::Import;
use self::query::Query;
use self::token::TokenCommand;
use self::write::Write;
use crate::clock::{Clock, SystemClock};
use crate::config::client::{ClientSettings, HostKind};
use crate::config::{Config, Environment, Machine, StoreConfig, process_environment, settings, with_settings};
use crate::error::Error;
use crate::steps;

/// Wider lines are hard to read, however wide the terminal.
const HELP_COLUMNS_MAX: usize = 110;

const AFTER_HELP: &str = "\
Without a command a server is started, as with `flightline serve`.

Examples:
  flightline serve --data-dir /var/lib/flightline
  flightline write -d nyc 'cpu,host=a usage=0.5'
  flightline query -d nyc 'SELECT * FROM cpu'
  flightline export -d nyc --to backup
  flightline import -d copy backup";

const SERVE_AFTER_HELP: &str = "\
A flag beats the environment; of several variables the first one counts. Sizes take units (64MiB, 10MB), \
durations too (30s, 1h 30m). Settings of InfluxDB 3 that mean nothing here are taken and reported at start.

Examples:
  flightline serve
  flightline serve --node-id n1 --data-dir /var/lib/flightline --buffer-bytes 2GiB
  flightline serve --object-store s3 --bucket metrics --aws-default-region eu-central-1";

/// What the user wants.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run a server.
    Serve(Box<Config>),
    /// Do something with a server that runs.
    Client(ClientCommand),
    /// Try out an object store.
    CheckStore(StoreConfig),
    /// Compare what is stored with the catalog.
    Check(StoreConfig),
    /// Show what the catalog in a store says.
    ShowCatalog(StoreConfig, Shown),
    /// Copies of everything, and back.
    Backup(BackupCommand),
}

/// A command for a server that runs; see [`run_client`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCommand {
    settings: ClientSettings,
    task: Task,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Task {
    Write(Write),
    Query(Query),
    Import(Box<Import>),
    Export(Box<Export>),
    /// With the verb, as errors begin with it.
    Admin(&'static str, Admin),
    Cache(&'static str, CacheCommand),
    Token(&'static str, TokenCommand),
}

/// How a client command ended, as the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    LinesRefused = 3,
}

/// The whole command line.
pub fn command() -> Command {
    // influxdb3 takes this one also before the subcommand.
    let io_threads = settings::all().filter(|setting| setting.name == "num-io-threads");
    Command::new("flightline")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A time-series database that speaks Arrow Flight SQL")
        .after_help(AFTER_HELP)
        .max_term_width(HELP_COLUMNS_MAX)
        .args(io_threads.map(|setting| crate::config::argument(setting).hide(true)))
        .arg(
            Arg::new("help-all")
                .long("help-all")
                .action(ArgAction::HelpLong)
                .global(true)
                .hide(true)
                .help("Print help"),
        )
        .subcommand(with_settings(Command::new("serve").about("Run a server").after_help(SERVE_AFTER_HELP)))
        .subcommand(write::command())
        .subcommand(query::command())
        .subcommand(import::command())
        .subcommand(export::command())
        .subcommand(admin::create_command())
        .subcommand(admin::update_command())
        .subcommand(admin::delete_command())
        .subcommand(admin::undelete_command())
        .subcommand(admin::show_command())
        .subcommand(admin::kill_command())
        .subcommand(backup::command())
        .subcommand(check::command())
        .subcommand(debug::command())
}

/// The program: arguments (its name first) to the exit code of the process.
///
/// A server runs until it is told to stop; see [`run_client`] for everything else.
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> ExitCode {
    match parse(arguments) {
        Ok(Invocation::Serve(config)) => match serve::serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed("Serve", &error),
        },
        Ok(Invocation::Client(command)) => on_one_thread("Client", run_client(&command, &SystemClock::new())),
        Ok(Invocation::CheckStore(config)) => {
            let clock = SystemClock::new();
            on_one_thread("Check", finished("Check", debug::check_store(&config, &clock)))
        }
        Ok(Invocation::Check(config)) => {
            on_one_thread("Check", finished("Check", check::check(&config, Arc::new(SystemClock::new()))))
        }
        Ok(Invocation::ShowCatalog(config, shown)) => {
            on_one_thread("Catalog", finished("Catalog", catalog::show(&config, &shown, Arc::new(SystemClock::new()))))
        }
        Ok(Invocation::Backup(command)) => on_one_thread("Backup", backup::run(&command, Arc::new(SystemClock::new()))),
        Err(error) => {
            // Where even this cannot be printed, the exit code still tells.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
        }
    }
}

async fn finished(command: &str, work: impl Future<Output = Result<Exit, Error>>) -> ExitCode {
    match work.await {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => failed(command, &error),
    }
}

/// One thread is enough to keep many requests under way; compression has threads of its own.
fn on_one_thread(command: &str, work: impl Future<Output = ExitCode>) -> ExitCode {
    if process_environment(steps::VARIABLE).is_some_and(|step| !steps::choose(&step)) {
        eprintln!("{} has no effect", steps::VARIABLE);
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            let message = "could not set up the network";
            failed(command, &Error::with_source(crate::error::ErrorKind::Internal, message, error))
        }
    }
}

/// What the arguments (the program's name first), the environment and the machine ask for.
///
/// # Errors
/// Also `--help` and `--version` arrive as errors: print them with [`clap::Error::exit`].
pub fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Invocation, clap::Error> {
    parse_with(arguments, &process_environment, &Machine::detect())
}

fn parse_with<T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
    environment: Environment<'_>,
    machine: &Machine,
) -> Result<Invocation, clap::Error> {
    let mut command = command();
    let root = command.try_get_matches_from_mut(arguments)?;
    match root.subcommand() {
        None => serve(&mut command, &[&root], environment, machine),
        Some(("serve", flags)) => serve(&mut command, &[flags, &root], environment, machine),
        Some(("backup", flags)) => backup::parse(&mut command, flags, environment, machine).map(Invocation::Backup),
        Some(("check", flags)) => check(&mut command, flags, environment, machine),
        Some(("debug", flags)) => debug(&mut command, flags, environment, machine),
        Some((verb, flags)) => client(&mut command, verb, flags, environment).map(Invocation::Client),
    }
}

fn serve(
    command: &mut Command,
    flags: &[&ArgMatches],
    environment: Environment<'_>,
    machine: &Machine,
) -> Result<Invocation, clap::Error> {
    match Config::from_flags(flags, environment, machine) {
        Ok(config) => Ok(Invocation::Serve(Box::new(config))),
        Err(error) => Err(subcommand(command, &["serve"]).error(ErrorKind::ValueValidation, error)),
    }
}

fn check(
    command: &mut Command,
    flags: &ArgMatches,
    environment: Environment<'_>,
    machine: &Machine,
) -> Result<Invocation, clap::Error> {
    match StoreConfig::from_flags(&[flags], environment, machine) {
        Ok(config) => Ok(Invocation::Check(config)),
        Err(error) => Err(subcommand(command, &["check"]).error(ErrorKind::ValueValidation, error)),
    }
}

fn debug(
    command: &mut Command,
    flags: &ArgMatches,
    environment: Environment<'_>,
    machine: &Machine,
) -> Result<Invocation, clap::Error> {
    let (noun, flags) = flags.subcommand().unwrap_or(("", flags));
    match StoreConfig::from_flags(&[flags], environment, machine) {
        Ok(config) if noun == "catalog" => Ok(Invocation::ShowCatalog(config, Shown::from_flags(flags))),
        Ok(config) => Ok(Invocation::CheckStore(config)),
        Err(error) => Err(subcommand(command, &["debug", noun]).error(ErrorKind::ValueValidation, error)),
    }
}

fn client(
    command: &mut Command,
    verb: &str,
    flags: &ArgMatches,
    environment: Environment<'_>,
) -> Result<ClientCommand, clap::Error> {
    let (noun, flags) = flags.subcommand().unwrap_or(("", flags));
    let command = subcommand(command, &[verb, noun]);
    let host = match verb {
        "write" | "import" => HostKind::Write,
        "query" | "export" => HostKind::Query,
        _ => HostKind::Any,
    };
    let settings = ClientSettings::from_flags(flags, host, environment)
        .map_err(|error| command.error(ErrorKind::ValueValidation, error))?;
    let database = settings.database.clone();
    let task = match verb {
        "write" => database.map(|database| Task::Write(Write::from_flags(flags, settings.clone(), database))),
        "query" => database.map(|database| Task::Query(Query::from_flags(flags, settings.clone(), database))),
        "import" => {
            let import = database.map(|database| Import::from_flags(flags, settings.clone(), database, environment));
            let import = import.transpose().map_err(|error| command.error(ErrorKind::ValueValidation, error))?;
            import.map(|import| Task::Import(Box::new(import)))
        }
        "export" => {
            let export = database.map(|database| Export::from_flags(flags, settings.clone(), database, environment));
            let export = export.transpose().map_err(|error| command.error(ErrorKind::ValueValidation, error))?;
            export.map(|export| Task::Export(Box::new(export)))
        }
        _ => {
            let name = match verb {
                "create" => "Create",
                "update" => "Update",
                "delete" => "Delete",
                "undelete" => "Undelete",
                "kill" => "Kill",
                _ => "Show",
            };
            if noun.starts_with("token") {
                Some(Task::Token(name, TokenCommand::from_flags(verb, flags)))
            } else if noun.ends_with("_cache") {
                CacheCommand::from_flags(verb, noun, flags, database).map(|cache| Task::Cache(name, cache))
            } else {
                Admin::from_flags(verb, noun, flags, database).map(|admin| Task::Admin(name, admin))
            }
        }
    };
    match task {
        Some(task) => Ok(ClientCommand { settings, task }),
        None => Err(command.error(
            ErrorKind::MissingRequiredArgument,
            "no database is named: give --database, or set FLIGHTLINE_DATABASE_NAME",
        )),
    }
}

/// The innermost of these subcommands that exists: errors show how that one is used.
fn subcommand<'a>(command: &'a mut Command, names: &[&str]) -> &'a mut Command {
    match names {
        [name, rest @ ..] if command.find_subcommand(name).is_some() => match command.find_subcommand_mut(name) {
            Some(found) => subcommand(found, rest),
            None => unreachable!("the subcommand was found a line above"),
        },
        _ => command,
    }
}

/// Does what a client command asks for. Answers go to the standard output, everything else to the standard error
/// output.
///
/// The exit codes are 0 for success, 1 for a failure, 2 for a command that cannot be meant, and 3 for lines that
/// the server refused.
pub async fn run_client(command: &ClientCommand, clock: &dyn Clock) -> ExitCode {
    let (name, result) = match &command.task {
        Task::Write(write) => ("Write", write.run(clock).await),
        Task::Query(query) => ("Query", query.run().await),
        Task::Import(import) => ("Import", import.run(clock).await),
        Task::Export(export) => ("Export", export.run(clock).await),
        Task::Admin(name, admin) => (*name, admin.run(&command.settings).await),
        Task::Cache(name, cache) => (*name, cache.run(&command.settings).await),
        Task::Token(name, token) => (*name, token.run(&command.settings, clock).await),
    };
    let exit = result.unwrap_or_else(|error| {
        let exit = match &error {
            ClientError::Usage(_) | ClientError::NoInput { .. } | ClientError::Url { .. } => Exit::Usage,
            _ => Exit::Failure,
        };
        eprintln!("{name} command failed: {}", Error::from(error).report());
        exit
    });
    ExitCode::from(exit as u8)
}

fn failed(command: &str, error: &Error) -> ExitCode {
    eprintln!("{command} command failed: {}", error.report());
    ExitCode::FAILURE
}
