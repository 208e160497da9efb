//! An import from its first file to its last: pieces are sent side by side, and answers taken in the order of the pieces.
//!
//! In that order, because then "everything before this row is acknowledged" is one number per file.

use std::path::PathBuf;
use std::time::Duration;

use crc32c::crc32c;
use futures::StreamExt;

use super::Import;
use super::encode::Piece;
use super::files::{Format, SourceFile, find};
use super::read::{Reading, Step, Stop, Task, read};
use super::report::{Report, Verdict};
use super::state::{FileState, State};
use crate::cli::Exit;
use crate::cli::client::{ClientError, Connection};
use crate::cli::send::{Answer, Sender};
use crate::cli::transfer::progress::{Progress, counted};
use crate::clock::Clock;

/// How often the state is written: what was acknowledged since then is sent again after a crash.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that a dry run shows of each file.
const PREVIEW_LINES: usize = 5;

/// Files that a dry run looks into.
const PREVIEW_FILES: usize = 3;

/// How the sending ended, if nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    /// A request was refused as a whole.
    Refused,
}

impl Import {
    /// Imports everything, and says on the standard error output what became of it.
    pub(crate) async fn run(&self, clock: &dyn Clock) -> Result<Exit, ClientError> {
        let found = find(&self.places, self.format).await?;
        if found.files.is_empty() {
            return Err(ClientError::Usage(format!(
                "there is no file of a known format; {} passed over",
                counted(found.passed_over, "file")
            )));
        }
        if self.dry_run {
            return self.preview(found.files).await;
        }
        let path = self.state_path();
        let unreadable = |source| ClientError::Read { name: format!("the state \"{}\"", path.display()), source };
        let mut state = State::open(&path, self.fingerprint()).map_err(unreadable)?;
        let mut report = Report::new(found.files.len() as u64);
        let tasks = self.tasks(found.files, &state, &mut report);
        if !self.quiet && !state.is_empty() {
            eprintln!(
                "going on where the state \"{}\" says: {} of {} are done",
                path.display(),
                report.files_done,
                counted(report.files, "file")
            );
        }
        let mut progress = Progress::new(clock, self.quiet);
        let sent = self.send_all(tasks, &mut state, &mut report, &mut progress, clock).await;
        progress.clear();
        self.conclude(sent, &state, &report, &progress)
    }

    /// Says what became of everything, and how to go on if something is left.
    fn conclude(
        &self,
        sent: Result<End, ClientError>,
        state: &State,
        report: &Report,
        progress: &Progress<'_>,
    ) -> Result<Exit, ClientError> {
        if !self.quiet {
            eprintln!("{}", report.summary(progress.took()));
        }
        if !report.losses().is_empty() {
            eprintln!("{}", report.losses());
        }
        let is_complete = matches!(sent, Ok(End::Complete)) && !report.has_failed();
        let is_untouched = state.is_empty();
        if (is_complete || is_untouched) && self.resume.is_none() {
            state.remove().map_err(|source| unwritten(state, source))?;
        }
        if !is_complete && !is_untouched {
            eprintln!(
                "the import is not complete; the same command goes on where it stopped (state: \"{}\")",
                state.path().display()
            );
        }
        Ok(match sent? {
            End::Complete if report.has_failed() => Exit::Failure,
            End::Complete if report.refused == 0 => Exit::Success,
            End::Complete | End::Refused => Exit::LinesRefused,
        })
    }

    fn tasks(&self, files: Vec<SourceFile>, state: &State, report: &mut Report) -> Vec<Task> {
        let mut tasks = Vec::new();
        for file in files {
            report.bytes_total += file.bytes;
            let known = state.of(&file.name, &file.identity);
            if known.is_some_and(|known| known.is_complete) {
                report.files_done += 1;
                report.bytes += file.bytes;
            } else {
                tasks.push(Task { acknowledged: known.map_or(0, |known| known.acknowledged), file });
            }
        }
        tasks
    }

    async fn send_all(
        &self,
        tasks: Vec<Task>,
        state: &mut State,
        report: &mut Report,
        progress: &mut Progress<'_>,
        clock: &dyn Clock,
    ) -> Result<End, ClientError> {
        // Found out before anything is read: the place may not be writable.
        state.save().map_err(|source| unwritten(state, source))?;
        let lines_precision = self.wishes.precision.as_deref().unwrap_or("auto");
        let (lines, exact) = (self.sender(lines_precision)?, self.sender("ns")?);
        let steps = read(tasks.clone(), self.reading())
            .map_err(|source| ClientError::Read { name: "the files".into(), source })?;
        let sender = |number: usize| {
            let file = &tasks[number].file;
            // Line protocol that was exported is exact, and with "auto" a time near 1970 would be taken for seconds.
            let is_exact =
                file.format != Format::Lines || (file.table_file.is_some() && self.wishes.precision.is_none());
            if is_exact { &exact } else { &lines }
        };
        let steps = futures::stream::unfold(steps, |mut steps| async { Some((steps.recv().await?, steps)) });
        let mut outcomes = Box::pin(
            steps
                .map(|step| async {
                    let answer = match &step {
                        Step::Piece(number, piece) if self.is_to_be_sent(piece) => {
                            Some(sender(*number).send(&piece.chunk).await)
                        }
                        _ => None,
                    };
                    (step, answer)
                })
                .buffered(self.requests_max),
        );
        let mut saved = clock.elapsed();
        let mut bytes_before = report.bytes;
        let mut end = Ok(End::Complete);
        while let Some((step, answer)) = outcomes.next().await {
            match step {
                Step::Piece(number, piece) => {
                    let file = &tasks[number].file;
                    let taken = answer
                        .transpose()
                        .map(|answer: Option<Answer>| report.add(&file.name, &piece, answer, self.accept_partial));
                    match taken {
                        Ok(Verdict::Acknowledged) => {}
                        Ok(Verdict::Refused) => end = Ok(End::Refused),
                        Err(error) => end = Err(error),
                    }
                    if !matches!(end, Ok(End::Complete)) {
                        break;
                    }
                    report.bytes = bytes_before + piece.bytes_done.min(file.bytes);
                    state.set(&file.name, file_state(file, piece.next - 1, false));
                }
                Step::End(number) => {
                    let file = &tasks[number].file;
                    let acknowledged = state.of(&file.name, &file.identity).map_or(0, |known| known.acknowledged);
                    state.set(&file.name, file_state(file, acknowledged, true));
                    report.files_done += 1;
                    bytes_before += file.bytes;
                    report.bytes = bytes_before;
                }
                Step::Failed(number, error) => {
                    let file = &tasks[number].file;
                    report.fail(&file.name, error);
                    bytes_before += file.bytes;
                    report.bytes = bytes_before;
                }
                Step::Unclear(number, message) => {
                    end = Err(ClientError::Usage(format!("\"{}\": {message}", tasks[number].file.name)));
                    break;
                }
            }
            progress.tick(|took| report.progress(took));
            if clock.elapsed().saturating_sub(saved) >= STATE_INTERVAL {
                state.save().map_err(|source| unwritten(state, source))?;
                saved = clock.elapsed();
            }
        }
        state.save().map_err(|source| unwritten(state, source))?;
        end
    }

    fn is_to_be_sent(&self, piece: &Piece) -> bool {
        piece.chunk.points > 0 && (piece.refused.is_empty() || self.accept_partial)
    }

    fn sender(&self, precision: &str) -> Result<Sender, ClientError> {
        let parameters = vec![
            ("db", self.database.clone()),
            ("precision", precision.to_owned()),
            ("accept_partial", self.accept_partial.to_string()),
        ];
        Ok(Sender::new(Connection::new(&self.settings)?, parameters, self.gzip).with_patience(self.patience))
    }

    fn reading(&self) -> Reading {
        Reading { table: self.table.clone(), wishes: self.wishes.clone(), bytes_max: self.request_bytes_max }
    }

    /// What must be the same for an import to be taken up. Not the flags of connections: those may have been the trouble.
    fn fingerprint(&self) -> String {
        let Self { database, words, format, table, wishes, .. } = self;
        format!("{:?}", (&self.settings.host, database, words, format, table, wishes))
    }

    fn state_path(&self) -> PathBuf {
        let named = self.resume.clone();
        named.unwrap_or_else(|| {
            PathBuf::from(format!("flightline-import-{:08x}.json", crc32c(self.fingerprint().as_bytes())))
        })
    }

    /// Shows what would become of the first files.
    async fn preview(&self, files: Vec<SourceFile>) -> Result<Exit, ClientError> {
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        println!("{}, {}", counted(files.len() as u64, "file"), indicatif::HumanBytes(bytes));
        let reading = self.reading();
        let first: Vec<SourceFile> = files.into_iter().take(PREVIEW_FILES).collect();
        // Not on this thread, which has to serve the requests to an object store.
        let texts = tokio::task::spawn_blocking(move || {
            first.into_iter().map(|file| preview_of(&reading, file)).collect::<Result<Vec<_>, ClientError>>()
        });
        let texts =
            texts.await.map_err(|error| ClientError::Read { name: "the files".into(), source: error.into() })??;
        println!("{}", texts.join("\n"));
        Ok(Exit::Success)
    }
}

fn preview_of(reading: &Reading, file: SourceFile) -> Result<String, ClientError> {
    let name = file.name.clone();
    let mut text = format!("\n{name}");
    let task = Task { file, acknowledged: 0 };
    let mut piece = None;
    let mut take_first = |first: Piece| {
        piece = Some(first);
        Err(Stop::Unwanted)
    };
    match reading.file(&task, &mut take_first) {
        Ok(()) | Err(Stop::Unwanted) => {}
        Err(Stop::Unreadable(source)) => return Err(ClientError::Read { name: format!("\"{name}\""), source }),
        Err(Stop::Unclear(message)) => return Err(ClientError::Usage(format!("\"{name}\": {message}"))),
    }
    if let Some(mapping) = reading.described(&task.file)? {
        text.push_str(&format!("\n{mapping}"));
    }
    if let Some(piece) = piece {
        let lines = String::from_utf8_lossy(&piece.chunk.bytes).into_owned();
        for line in lines.lines().filter(|line| !line.is_empty()).take(PREVIEW_LINES) {
            text.push_str(&format!("\n  | {}", crate::cli::report::shortened(line)));
        }
        for (row, reason) in piece.refused.iter().take(PREVIEW_LINES) {
            text.push_str(&format!("\n  row {row} would be refused: {reason}"));
        }
    }
    Ok(text)
}

fn file_state(file: &SourceFile, acknowledged: u64, is_complete: bool) -> FileState {
    FileState { identity: file.identity.clone(), acknowledged, is_complete }
}

fn unwritten(state: &State, source: std::io::Error) -> ClientError {
    ClientError::Write { name: format!("the state \"{}\" (see --resume)", state.path().display()), source }
}
