//! `flightline export`: tables as files of Parquet, CSV or line protocol, in a directory or an object store.
//!
//! | file | what it does |
//! |---|---|
//! | [`plan`] | which files there will be: time is cut so that each has about as many rows as wanted |
//! | [`ask`] | questions to the server, asked again while it is away |
//! | [`target`] | where files go, and that they are whole under their name or not there |
//! | [`write`] | rows in a format |
//! | [`run`] | table by table, file by file |
//!
//! Always true:
//! - a file under its name is complete and synced; what is not complete has another name;
//! - the plan of a table is stored before its first file, so that a run that was cut off goes on with the same cuts;
//! - memory is bounded by a row group, whatever the tables' length.

mod ask;
mod plan;
mod run;
mod target;
mod write;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::write::Format;
use super::transfer::place::Place;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};
use crate::config::{Environment, values, with_remote_store_settings};
use crate::model::TimeRange;

const ROWS_PER_FILE_DEFAULT: &str = "2000000";

const ABOUT: &str = "Export tables to files of Parquet, CSV or line protocol";

const LONG_ABOUT: &str = "\
Export tables to files of Parquet, CSV or line protocol

Each table gets a directory below --to, which is a directory or a place in an object store (s3://bucket/path, \
gs://bucket/path, azure://container/path). In it are files by time, ordered by time, and table.json, which tells \
`flightline import` the table's name, types and tags: an export is imported as it is. Parquet says all but the name itself.

In CSV null is an empty cell and an empty text is a quoted one (\"\"); times are RFC 3339 with nanoseconds.

An export that was cut off, even by kill -9, goes on with the same command: files that are complete stay. Rows that are \
written meanwhile may be in it or not.";

const AFTER_HELP: &str = "\
Examples:
  flightline export -d nyc --to backup
  flightline export -d nyc --table weather --start 2013-02-01T00:00:00Z --stop 2013-02-28T23:59:59Z --format csv --to february
  flightline export -d nyc --to s3://metrics/nyc --aws-default-region eu-central-1

Exit codes: 0 everything is exported, 1 something failed and files are missing, 2 the command was not understood.";

/// An export, as the user asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    settings: ClientSettings,
    database: String,
    /// Empty for all of them.
    tables: Vec<String>,
    times: TimeRange,
    format: Format,
    to: Place,
    rows_per_file: u64,
    patience: Duration,
    quiet: bool,
}

/// The command.
pub(crate) fn command() -> Command {
    let command = Command::new("export")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .arg(text("to", "PLACE", "Directory or URL to export to").required(true))
        .arg(
            text("table", "NAME", "Table to export; may be given several times; all if none is named")
                .short('t')
                .action(ArgAction::Append),
        )
        .arg(text("start", "TIME", "Time of the first row, as in 2024-01-31T12:00:00Z"))
        .arg(text("stop", "TIME", "Time of the last row, itself included"))
        .arg(
            text("format", "FORMAT", "Form of the files")
                .value_parser(["parquet", "csv", "lp"])
                .default_value("parquet"),
        )
        .arg(
            text("rows-per-file", "COUNT", "A file ends where it would get more rows")
                .value_parser(value_parser!(u64).range(1..))
                .default_value(ROWS_PER_FILE_DEFAULT),
        )
        .arg(
            text("patience", "DURATION", "How long a server that does not answer is waited for")
                .value_parser(|text: &str| values::duration(text).ok_or("expected a duration such as 90s or 5m"))
                .default_value("2m"),
        )
        .arg(Arg::new("quiet").long("quiet").short('q').action(ArgAction::SetTrue).help("Print nothing but errors"));
    with_remote_store_settings(with_client_settings(command, HostKind::Query))
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

impl Export {
    /// # Errors
    /// What cannot be meant, in words for the user.
    pub(crate) fn from_flags(
        flags: &ArgMatches,
        settings: ClientSettings,
        database: String,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        let said = |name: &str| flags.get_one::<String>(name).cloned();
        let time = |name: &str, otherwise: i64| said(name).map_or(Ok(otherwise), |text| instant(name, &text));
        let (start, stop) = (time("start", i64::MIN)?, time("stop", i64::MAX)?);
        if start > stop {
            return Err("--stop is before --start".into());
        }
        Ok(Self {
            settings,
            database,
            tables: flags.get_many::<String>("table").unwrap_or_default().cloned().collect(),
            times: TimeRange::from_nanos(start, stop),
            format: Format::named(&said("format").unwrap_or_default()),
            to: Place::parse(&said("to").unwrap_or_default(), flags, environment)?,
            rows_per_file: flags.get_one("rows-per-file").copied().unwrap_or(u64::MAX),
            patience: flags.get_one("patience").copied().unwrap_or_default(),
            quiet: flags.get_flag("quiet"),
        })
    }
}

fn instant(flag: &str, text: &str) -> Result<i64, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
    time.ok_or_else(|| format!("--{flag}: \"{text}\" is no time from 1677 to 2262 as in 2024-01-31T12:00:00Z"))
}
