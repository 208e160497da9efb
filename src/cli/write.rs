//! `flightline write`: line protocol from the command line, a file or a pipe into a database.
//!
//! The input is read once, cut into requests, and sent over several connections; at most as many requests as the
//! user allows are in memory, whatever the input's length.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::Exit;
use super::client::{ClientError, Connection};
use super::input::Source;
use super::report::{Progress, Report};
use super::send::{Answer, Sender};
use super::split::{Chunk, SplitError};
use crate::clock::Clock;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};
use crate::config::values;

const REQUEST_BYTES_DEFAULT: &str = "10MiB";
const REQUESTS_DEFAULT: &str = "32";

/// More connections than this help no server.
const REQUESTS_MAX: u64 = 1024;

const ABOUT: &str = "Write line protocol into a database";

const LONG_ABOUT: &str = "\
Write line protocol into a database

The lines come from the command line, from --file, or through a pipe; gzip is recognised and unpacked. \
Long input is cut at line ends into requests that are sent side by side, and a request that meets a busy or \
restarting server is sent again: writing a point twice does no harm.

Where one input writes the same field of the same point twice, which of the two stays is certain only with \
--max-concurrent-requests 1.";

const AFTER_HELP: &str = "\
Examples:
  flightline write -d nyc 'cpu,host=a usage=0.5'
  flightline write -d nyc --file points.lp.gz --accept-partial
  telegraf --test --config telegraf.conf | sed 's/^> //' | flightline write -d nyc

Exit codes:
  0  every line is written
  1  something failed, and lines may be missing
  2  the command was not understood
  3  the server refused lines; without --accept-partial nothing of such a request is written, and sending stops there";

/// A write, as the user asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub settings: ClientSettings,
    pub database: String,
    pub source: Source,
    pub precision: String,
    pub accept_partial: bool,
    pub no_sync: bool,
    pub gzip: bool,
    pub request_bytes_max: usize,
    pub requests_max: usize,
    pub quiet: bool,
}

pub(crate) fn command() -> Command {
    let command =
        Command::new("write")
            .visible_alias("w")
            .about(ABOUT)
            .long_about(LONG_ABOUT)
            .after_help(AFTER_HELP)
            .arg(
                Arg::new("lines").value_name("LP").num_args(1..).conflicts_with("file").help(
                    "Lines to write; the words of one line need no quotes as long as the shell leaves them alone",
                ),
            )
            .arg(
                Arg::new("file")
                    .short('f')
                    .long("file")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("File with lines, plain or gzip"),
            )
            .arg(
                Arg::new("precision")
                    .short('p')
                    .long("precision")
                    .value_name("UNIT")
                    .value_parser(["auto", "s", "ms", "us", "ns"])
                    .default_value("auto")
                    .help("Unit of the timestamps; auto takes the one that makes each of them a recent time"),
            )
            .arg(switch("accept-partial", "Write the good lines of a request even if others are refused"))
            .arg(switch("no-sync", "Don't wait until the lines are on disk: faster, and a crash may lose them"))
            .arg(switch("gzip", "Compress the requests: for slow networks"))
            .arg(
                Arg::new("max-request-size")
                    .long("max-request-size")
                    .value_name("SIZE")
                    .value_parser(request_size)
                    .default_value(REQUEST_BYTES_DEFAULT)
                    .help("Largest request before compression; the server has a limit too"),
            )
            .arg(
                Arg::new("max-concurrent-requests")
                    .long("max-concurrent-requests")
                    .value_name("COUNT")
                    .value_parser(value_parser!(u64).range(1..=REQUESTS_MAX))
                    .default_value(REQUESTS_DEFAULT)
                    .help("Requests that are under way at one time; memory is this many times --max-request-size"),
            )
            .arg(switch("quiet", "Print nothing but errors").short('q'));
    with_client_settings(command, HostKind::Write)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(crate) fn request_size(text: &str) -> Result<usize, String> {
    let bytes = values::bytes(text).and_then(|bytes| usize::try_from(bytes).ok());
    let in_bounds = bytes.filter(|bytes| (1..=1 << 30).contains(bytes));
    in_bounds.ok_or_else(|| "expected a size from 1 byte to 1GiB such as 10485760 or 10MiB".into())
}

impl Write {
    pub(crate) fn from_flags(flags: &ArgMatches, settings: ClientSettings, database: String) -> Self {
        let words = flags.get_many::<String>("lines").unwrap_or_default().cloned().collect();
        Self {
            settings,
            database,
            source: Source::new(flags.get_one::<PathBuf>("file").cloned(), words),
            precision: flags.get_one::<String>("precision").cloned().unwrap_or_default(),
            accept_partial: flags.get_flag("accept-partial"),
            no_sync: flags.get_flag("no-sync"),
            gzip: flags.get_flag("gzip"),
            request_bytes_max: flags.get_one("max-request-size").copied().unwrap_or(1 << 20),
            requests_max: flags.get_one("max-concurrent-requests").map_or(1, |count: &u64| *count as usize),
            quiet: flags.get_flag("quiet"),
        }
    }

    /// Writes everything, and says on the standard error output what became of it.
    pub(crate) async fn run(&self, clock: &dyn Clock) -> Result<Exit, ClientError> {
        let started = clock.elapsed();
        let input = self.source.open("line protocol")?;
        let sender = Sender::new(Connection::new(&self.settings)?, self.parameters(), self.gzip);
        let progress = Progress::new(input.bytes, self.quiet);
        let chunks = input
            .into_chunks(self.request_bytes_max)
            .map_err(|source| ClientError::Read { name: self.source.name(), source })?;

        let mut report = Report::default();
        let result = self.send_all(chunks, &sender, &mut report, &progress).await;
        progress.clear();

        let nothing_to_write = result.is_ok() && report.written + report.refused == 0;
        if nothing_to_write {
            return Err(ClientError::NothingToWrite { name: self.source.name() });
        }
        if !self.quiet && (result.is_ok() || report.written > 0) {
            eprintln!("{}", report.summary(clock.elapsed().saturating_sub(started)));
        }
        if !report.losses().is_empty() {
            eprintln!("{}", report.losses());
        }
        result?;
        Ok(if report.refused > 0 { Exit::LinesRefused } else { Exit::Success })
    }

    /// After the first failure nothing more is begun, but what is under way is waited for, so that the report is true.
    async fn send_all(
        &self,
        chunks: mpsc::Receiver<Result<Chunk, SplitError>>,
        sender: &Sender,
        report: &mut Report,
        progress: &Progress,
    ) -> Result<(), ClientError> {
        let (stopped, cut_short) = (AtomicBool::new(false), AtomicBool::new(false));
        let next = futures::stream::unfold(chunks, |mut chunks| async {
            if stopped.load(Ordering::Relaxed) {
                let is_at_end = matches!(chunks.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
                cut_short.store(!is_at_end, Ordering::Relaxed);
                return None;
            }
            Some((chunks.recv().await?, chunks))
        });
        let mut answers = Box::pin(
            next.map(|chunk| async move {
                let chunk = chunk?;
                let answer = sender.send(&chunk).await?;
                Ok::<_, ClientError>((chunk, answer))
            })
            .buffer_unordered(self.requests_max),
        );
        let mut failure = None;
        while let Some(outcome) = answers.next().await {
            match outcome {
                Ok((chunk, answer)) => {
                    if matches!(answer, Answer::RefusedFor(_)) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    report.add(&chunk, answer);
                    progress.advance(report);
                }
                Err(error) => {
                    stopped.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        }
        drop(answers);
        report.is_cut_short = cut_short.into_inner();
        failure.map_or(Ok(()), Err)
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("db", self.database.clone()),
            ("precision", self.precision.clone()),
            ("accept_partial", self.accept_partial.to_string()),
            ("no_sync", self.no_sync.to_string()),
        ]
    }
}
