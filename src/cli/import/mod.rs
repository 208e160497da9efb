//! `flightline import`: files of Parquet, CSV and line protocol into a database.
//!
//! | file | what it does |
//! |---|---|
//! | [`files`] | which files there are |
//! | [`source`] | their bytes, from disk or an object store |
//! | [`read`] | files into pieces, on a thread of its own |
//! | [`csv`] | CSV into columns of text |
//! | [`mapping`] | which column is the time, which are tags, which fields |
//! | [`encode`] | columns into line protocol |
//! | [`run`] | sends the pieces and keeps the state |
//! | [`state`] | how far it has come, for the next run |
//! | [`report`] | what was written, what not, and why |
//!
//! Always true:
//! - memory is bounded by requests, batches and pages, whatever the files' length;
//! - what the state calls done is durable in the server; everything else is sent again, which changes nothing.

mod csv;
pub(super) mod encode;
mod files;
pub(super) mod mapping;
mod read;
mod report;
mod run;
mod source;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::files::Format;
use self::mapping::Wishes;
use super::transfer::place::Place;
use super::transfer::table_file::kind_named;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};
use crate::config::{Environment, values, with_remote_store_settings};
use crate::model::ColumnKind;

/// Below the server's own limit of 10 MiB, and as quick as anything larger.
const REQUEST_BYTES_DEFAULT: &str = "4MiB";

/// More than the server can parse at a time, so that it never waits.
const REQUESTS_DEFAULT: &str = "4";

const REQUESTS_MAX: u64 = 256;

const ABOUT: &str = "Import files of Parquet, CSV and line protocol";

const LONG_ABOUT: &str = "\
Import files of Parquet, CSV and line protocol

Each place is a file, a directory, a pattern (quote it: 'data/**/*.parquet'), or one of these in an object store: \
s3://bucket/path, gs://bucket/path, azure://container/path. CSV and line protocol may be compressed (.gz, .zst).

Rows of Parquet and CSV go to --table. The column \"time\" (or --time) is the time: timestamps of any unit, dates, RFC 3339, or \
whole numbers with --precision. Columns named in --tags become tags, which may also be directories such as day=2024-01-01; \
without --tags it is those that are dictionaries or that the file's metadata calls tags, and if there is only text the \
command asks. Everything else is a field: integers, floats (decimals become the nearest float), booleans and text. \
Nulls are left out, as are empty tags and floats that are not finite. Exported directories say all of this themselves.

A run that ends early, even by kill -9, is taken up by the same command: a state file records what the server has \
acknowledged. Rows after that are sent again, which is safe: a point is its tags and its time, and is only \
there once. Where the files hold one point several times with different values, which of them stays is certain only \
with --max-concurrent-requests 1.";

const AFTER_HELP: &str = "\
Examples:
  flightline import -d nyc --table weather --tags origin weather.parquet
  flightline import -d nyc --table trips --time pickup --tags '' --dry-run 's3://open-data/trips/*.parquet' --aws-skip-signature
  flightline import -d nyc points/*.lp.gz

Exit codes:
  0  every row is written
  1  something failed, and rows may be missing
  2  the command was not understood, or more has to be said about columns
  3  rows were refused; without --accept-partial nothing of such a request is written, and the import stops there";

/// An import, as the user asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    settings: ClientSettings,
    database: String,
    places: Vec<Place>,
    /// The places as they were typed.
    words: Vec<String>,
    format: Option<Format>,
    table: Option<String>,
    wishes: Wishes,
    dry_run: bool,
    accept_partial: bool,
    gzip: bool,
    request_bytes_max: usize,
    requests_max: usize,
    patience: Duration,
    resume: Option<PathBuf>,
    quiet: bool,
}

/// The command.
pub(crate) fn command() -> Command {
    let command = Command::new("import")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("places")
                .value_name("PLACE")
                .num_args(1..)
                .required(true)
                .help("Files, directories, patterns or URLs"),
        )
        .arg(text("table", "NAME", "Table for the rows of Parquet and CSV"))
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(["parquet", "csv", "lp"])
                .help("What the files hold, if their names don't say it"),
        )
        .arg(text("time", "COLUMN", "Column with the time").default_value("time"))
        .arg(
            text(
                "precision",
                "UNIT",
                "Unit of times that are whole numbers; for line protocol auto if nothing is said",
            )
            .short('p')
            .value_parser(["auto", "s", "ms", "us", "ns"]),
        )
        .arg(text("tags", "A,B,…", "Columns and directories that become tags; the others become fields"))
        .arg(text("types", "COLUMN:TYPE,…", "Types of columns: tag, float, integer, unsigned, string or boolean"))
        .arg(text("skip", "A,B,…", "Columns to leave out"))
        .arg(switch("dry-run", "Show what would become of the columns, and the first lines, and write nothing"))
        .arg(switch("accept-partial", "Write the good rows of a request even if others are refused, and go on"))
        .arg(
            text("resume", "FILE", "State file; without one there is one in the current directory until all is done")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            text("patience", "DURATION", "How long a server that does not answer is waited for")
                .value_parser(|text: &str| values::duration(text).ok_or("expected a duration such as 90s or 5m"))
                .default_value("2m"),
        )
        .arg(switch("gzip", "Compress the requests: for slow networks"))
        .arg(
            text("max-request-size", "SIZE", "Largest request before compression; the server has a limit too")
                .value_parser(super::write::request_size)
                .default_value(REQUEST_BYTES_DEFAULT),
        )
        .arg(
            text("max-concurrent-requests", "COUNT", "Requests that are under way at one time")
                .value_parser(value_parser!(u64).range(1..=REQUESTS_MAX))
                .default_value(REQUESTS_DEFAULT),
        )
        .arg(switch("quiet", "Print nothing but errors").short('q'));
    with_remote_store_settings(with_client_settings(command, HostKind::Write))
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

impl Import {
    /// # Errors
    /// What cannot be meant, in words for the user.
    pub(crate) fn from_flags(
        flags: &ArgMatches,
        settings: ClientSettings,
        database: String,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        let said = |name: &str| flags.get_one::<String>(name).cloned();
        let words: Vec<String> = flags.get_many::<String>("places").unwrap_or_default().cloned().collect();
        let places =
            words.iter().map(|text| Place::parse(text, flags, environment)).collect::<Result<Vec<_>, String>>()?;
        let wishes = Wishes {
            time: said("time").unwrap_or_default(),
            precision: said("precision"),
            tags: said("tags").map(|text| list(&text)),
            types: types(&said("types").unwrap_or_default())?,
            skip: list(&said("skip").unwrap_or_default()),
        };
        Ok(Self {
            settings,
            database,
            places,
            words,
            format: said("format").as_deref().and_then(Format::named),
            table: said("table"),
            wishes,
            dry_run: flags.get_flag("dry-run"),
            accept_partial: flags.get_flag("accept-partial"),
            gzip: flags.get_flag("gzip"),
            request_bytes_max: flags.get_one("max-request-size").copied().unwrap_or(1 << 20),
            requests_max: flags.get_one("max-concurrent-requests").map_or(1, |count: &u64| *count as usize),
            patience: flags.get_one("patience").copied().unwrap_or_default(),
            resume: flags.get_one("resume").cloned(),
            quiet: flags.get_flag("quiet"),
        })
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn types(text: &str) -> Result<BTreeMap<String, ColumnKind>, String> {
    let entry = |entry: String| {
        let kind = entry.rsplit_once(':').and_then(|(name, kind)| Some((name.to_owned(), kind_named(kind)?)));
        kind.ok_or_else(|| {
            format!("--types: \"{entry}\" is not COLUMN:TYPE with tag, float, integer, unsigned, string or boolean")
        })
    };
    list(text).into_iter().map(entry).collect()
}
