//! `flightline query`: SQL or InfluxQL in, a table out, to the terminal, a pipe or a file.
//!
//! The answer is passed on as it comes. A file appears under its name only when it is complete.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use reqwest::{Method, Response};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Exit;
use super::client::{ClientError, Connection};
use super::input::Source;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};

/// Longer than any server takes a query.
const QUERY_BYTES_MAX: u64 = 16 << 20;

const FORMATS: [&str; 5] = ["pretty", "json", "jsonl", "csv", "parquet"];

const AFTER_HELP: &str = "\
Examples:
  flightline query -d nyc 'SELECT * FROM cpu ORDER BY time DESC LIMIT 10'
  flightline query -d nyc --format csv --output cpu.csv --file cpu.sql
  echo 'SHOW MEASUREMENTS' | flightline query -d nyc -l influxql

Exit codes: 0 the answer is complete, 1 the query failed or the answer broke off, 2 the command was not understood.";

/// A query, as the user asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub settings: ClientSettings,
    pub database: String,
    pub source: Source,
    pub language: String,
    pub output: Output,
}

/// In which form an answer is wanted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub format: String,
    /// `None` is the standard output.
    pub file: Option<PathBuf>,
}

pub(crate) fn command() -> Command {
    let command = Command::new("query")
        .visible_alias("q")
        .about("Ask a question in SQL or InfluxQL")
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("query")
                .value_name("QUERY")
                .num_args(1..)
                .conflicts_with("file")
                .help("The query; several words are put together"),
        )
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("File with the query; without one and without words it comes through a pipe"),
        )
        .arg(
            Arg::new("language")
                .short('l')
                .long("language")
                .value_name("LANGUAGE")
                .value_parser(["sql", "influxql"])
                .default_value("sql")
                .help("Language of the query"),
        )
        .arg(format_argument())
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Put the answer into this file, once it is complete"),
        );
    with_client_settings(command, HostKind::Query)
}

pub(crate) fn format_argument() -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(FORMATS)
        .default_value("pretty")
        .help("Form of the answer")
}

impl Output {
    pub(crate) fn from_flags(flags: &ArgMatches) -> Self {
        let file = flags.try_get_one::<PathBuf>("output").ok().flatten().cloned();
        Self { format: flags.get_one::<String>("format").cloned().unwrap_or_default(), file }
    }

    /// Passes the answer on.
    pub(crate) async fn receive(&self, response: Response) -> Result<(), ClientError> {
        match &self.file {
            None => self.print(response).await,
            Some(path) => {
                let failed = |source| ClientError::Write { name: format!("\"{}\"", path.display()), source };
                // A pipe or a device cannot be renamed over: /dev/null would be gone.
                if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
                    let mut file = File::options().write(true).open(path).await.map_err(failed)?;
                    return pass_on(response, &mut file, failed).await.map(drop);
                }
                let mut partial = PartialFile::create(path).await.map_err(failed)?;
                pass_on(response, &mut partial.file, failed).await?;
                partial.complete().await.map_err(failed)
            }
        }
    }

    async fn print(&self, response: Response) -> Result<(), ClientError> {
        let mut stdout = tokio::io::stdout();
        let failed = |source| ClientError::Write { name: "the standard output".into(), source };
        let last_byte = match pass_on(response, &mut stdout, failed).await {
            // `| head` has seen enough.
            Err(ClientError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        };
        let wants_newline = self.format != "parquet" && last_byte.is_some_and(|byte| byte != b'\n');
        if wants_newline {
            stdout.write_all(b"\n").await.map_err(failed)?;
            stdout.flush().await.map_err(failed)?;
        }
        Ok(())
    }

    /// Before anything is asked: would the answer spoil the terminal?
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.format == "parquet" && self.file.is_none() && io::stdout().is_terminal() {
            let text = "cannot write parquet to a terminal, use `--output <file>` or pipe the output";
            return Err(ClientError::Usage(text.into()));
        }
        Ok(())
    }
}

impl Query {
    pub(crate) fn from_flags(flags: &ArgMatches, settings: ClientSettings, database: String) -> Self {
        let words: Vec<String> = flags.get_many::<String>("query").unwrap_or_default().cloned().collect();
        // Unlike lines, words of a query always belong together.
        let words = if words.is_empty() { words } else { vec![words.join(" ")] };
        Self {
            settings,
            database,
            source: Source::new(flags.get_one::<PathBuf>("file").cloned(), words),
            language: flags.get_one::<String>("language").cloned().unwrap_or_default(),
            output: Output::from_flags(flags),
        }
    }

    pub(crate) async fn run(&self) -> Result<Exit, ClientError> {
        self.output.check()?;
        let text = self.source.open("a query")?.read_text(QUERY_BYTES_MAX);
        let text = text.map_err(|source| ClientError::Read { name: self.source.name(), source })?;
        if text.trim().is_empty() {
            return Err(ClientError::NoInput { what: "a query" });
        }
        let connection = Connection::new(&self.settings)?;
        let response = ask(&connection, &self.database, &self.language, &text, &self.output.format).await?;
        self.output.receive(response).await?;
        Ok(Exit::Success)
    }
}

/// The beginning of the answer to a query.
pub(crate) async fn ask(
    connection: &Connection,
    database: &str,
    language: &str,
    text: &str,
    format: &str,
) -> Result<Response, ClientError> {
    let path = if language == "influxql" { "/api/v3/query_influxql" } else { "/api/v3/query_sql" };
    let body = json!({ "db": database, "q": text.trim(), "format": format });
    connection.success(connection.request(Method::POST, path).json(&body)).await
}

/// Writes the body as it comes; the last byte of it. A body that ends too early is an error.
async fn pass_on(
    mut response: Response,
    writer: &mut (impl AsyncWrite + Unpin),
    failed: impl Fn(io::Error) -> ClientError,
) -> Result<Option<u8>, ClientError> {
    let mut bytes = 0;
    let mut last_byte = None;
    loop {
        let part = response.chunk().await;
        let part = part.map_err(|error| ClientError::Truncated { bytes, source: error.without_url() });
        match part {
            Ok(Some(part)) => {
                writer.write_all(&part).await.map_err(&failed)?;
                bytes += part.len() as u64;
                last_byte = part.last().copied().or(last_byte);
            }
            // What has come is shown also if the rest is missing.
            end => {
                writer.flush().await.map_err(&failed)?;
                return end.map(|_| last_byte);
            }
        }
    }
}

/// A file under a name of its own until it is complete; removed if it never is.
#[derive(Debug)]
struct PartialFile {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_complete: bool,
}

impl PartialFile {
    async fn create(target: &Path) -> io::Result<Self> {
        // A link stays a link: what it points to is replaced.
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let name = target.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let path = target.with_file_name(format!("{}.{}.part", name.to_string_lossy(), std::process::id()));
        Ok(Self { file: File::create(&path).await?, path, target, is_complete: false })
    }

    async fn complete(mut self) -> io::Result<()> {
        self.file.sync_all().await?;
        tokio::fs::rename(&self.path, &self.target).await?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // Nothing to do about a failure: the name says that the file is a part.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_appears_under_its_name_only_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("cpu.csv");
        runtime().block_on(async {
            let mut partial = PartialFile::create(&target).await.unwrap();
            partial.file.write_all(b"a,b\n").await.unwrap();
            assert!(!target.exists());
            partial.complete().await.unwrap();
        });
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "a,b\n");
        assert_eq!(names(directory.path()), ["cpu.csv"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_the_old_one_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("cpu.csv");
        std::fs::write(&target, "old").unwrap();
        runtime().block_on(async {
            let mut partial = PartialFile::create(&target).await.unwrap();
            partial.file.write_all(b"new").await.unwrap();
        });
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(names(directory.path()), ["cpu.csv"]);
    }
}
