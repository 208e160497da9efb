//! Files one after the other into pieces that can be sent, on a thread of its own.
//!
//! Always true:
//! - the pieces of a file are its rows in their order, from the first one that is not yet acknowledged;
//! - one piece is read ahead of those that are being sent: memory does not grow with the files;
//! - a file that cannot be read on is reported, and the next one is read.

use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::mpsc;

use super::csv::Csv;
use super::encode::{Encoder, Piece};
use super::files::{Format, SourceFile};
use super::mapping::{Mapping, Wishes};
use crate::cli::client::ClientError;
use crate::cli::split::{Chunks, SplitError};

/// Pieces that are read ahead of the requests: one, so that reading and sending overlap.
const PIECES_AHEAD_MAX: usize = 1;

const BATCH_ROWS: usize = 8192;

/// How files are to be read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub table: Option<String>,
    pub wishes: Wishes,
    /// Largest request.
    pub bytes_max: usize,
}

/// A file, and how many of its rows or lines are done.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub file: SourceFile,
    pub acknowledged: u64,
}

/// What comes from the thread. The number says which file.
pub(crate) enum Step {
    Piece(usize, Box<Piece>),
    /// The file is at its end.
    End(usize),
    /// The file cannot be read on.
    Failed(usize, io::Error),
    /// The user has to say more; nothing else is read.
    Unclear(usize, String),
}

/// Why the reading of a file ends early.
pub(crate) enum Stop {
    Unreadable(io::Error),
    Unclear(String),
    /// Nobody waits for pieces any more.
    Unwanted,
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Unreadable(match error {
            ArrowError::IoError(_, error) => error,
            other => io::Error::other(other),
        })
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Reads the files. The thread ends when the receiver is dropped.
///
/// # Errors
/// If there can be no thread.
pub(crate) fn read(tasks: Vec<Task>, reading: Reading) -> io::Result<mpsc::Receiver<Step>> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD_MAX);
    std::thread::Builder::new().name("read-import".into()).spawn(move || {
        for (number, task) in tasks.iter().enumerate() {
            let mut send = |piece: Piece| {
                sender.blocking_send(Step::Piece(number, Box::new(piece))).map_err(|_nobody_waits| Stop::Unwanted)
            };
            let step = match reading.file(task, &mut send) {
                Ok(()) => Step::End(number),
                Err(Stop::Unreadable(error)) => Step::Failed(number, error),
                Err(Stop::Unclear(message)) => Step::Unclear(number, message),
                Err(Stop::Unwanted) => return,
            };
            let is_last = matches!(step, Step::Unclear(..));
            if sender.blocking_send(step).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Reading {
    /// Reads a file from the first row that is not done, piece by piece.
    pub(crate) fn file(&self, task: &Task, send: &mut dyn FnMut(Piece) -> Result<(), Stop>) -> Result<(), Stop> {
        match task.file.format {
            Format::Lines => self.lines(task, send),
            Format::Csv => self.csv(task, send),
            Format::Parquet => self.parquet(task, send),
        }
    }

    fn mapping(&self, file: &SourceFile, schema: &Schema) -> Result<Mapping, Stop> {
        Mapping::new(schema, &self.wishes, &file.partitions, file.table_file.as_deref()).map_err(Stop::Unclear)
    }

    /// What becomes of the file's columns, in words; `None` for line protocol, which says it itself.
    ///
    /// # Errors
    /// If the file cannot be read or more has to be said.
    pub(crate) fn described(&self, file: &SourceFile) -> Result<Option<String>, ClientError> {
        let schema = match file.format {
            Format::Lines => return Ok(None),
            Format::Csv => self.csv_schema(file),
            Format::Parquet => file.source.random().and_then(|file| {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
                Ok(builder.schema().as_ref().clone())
            }),
        };
        let schema = schema.map_err(|source| ClientError::Read { name: format!("\"{}\"", file.name), source })?;
        let mapping = Mapping::new(&schema, &self.wishes, &file.partitions, file.table_file.as_deref());
        mapping.map(|mapping| Some(mapping.describe())).map_err(ClientError::Usage)
    }

    fn csv_schema(&self, file: &SourceFile) -> io::Result<Schema> {
        let text = file.source.text(file.compression, Arc::default())?;
        Csv::new(BufReader::new(text))?.guessed_schema()
    }

    /// The table of the file's rows.
    fn table<'a>(&'a self, file: &'a SourceFile) -> Result<&'a str, Stop> {
        let exported = file.table_file.as_ref().map(|table| table.table.as_str());
        self.table.as_deref().or(exported).ok_or_else(|| Stop::Unclear("say with --table where its rows go".into()))
    }

    fn lines(&self, task: &Task, send: &mut dyn FnMut(Piece) -> Result<(), Stop>) -> Result<(), Stop> {
        let consumed = Arc::new(AtomicU64::new(0));
        let text = task.file.source.text(task.file.compression, Arc::clone(&consumed))?;
        let mut chunks = Chunks::new(text, self.bytes_max);
        let unreadable = |error| match error {
            SplitError::Read(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        };
        chunks.skip_lines(task.acknowledged).map_err(unreadable)?;
        while let Some(chunk) = chunks.next_chunk().map_err(unreadable)? {
            send(Piece::of_lines(chunk, chunks.next_line(), consumed.load(Ordering::Relaxed)))?;
        }
        Ok(())
    }

    fn csv(&self, task: &Task, send: &mut dyn FnMut(Piece) -> Result<(), Stop>) -> Result<(), Stop> {
        let consumed = Arc::new(AtomicU64::new(0));
        let text = task.file.source.text(task.file.compression, Arc::clone(&consumed))?;
        let mut csv = Csv::new(BufReader::new(text))?;
        let schema = csv.guessed_schema()?;
        let mut encoder = self.encoder(task, &schema)?;
        let mut passed = 0;
        while let Some(mut batch) = csv.next_batch()? {
            let rows = batch.num_rows() as u64;
            let done = task.acknowledged.saturating_sub(passed).min(rows);
            passed += rows;
            if done < rows {
                batch = batch.slice(done as usize, (rows - done) as usize);
                encoder.encode(&batch, consumed.load(Ordering::Relaxed), &mut *send)?;
            }
        }
        encoder.finish(task.file.bytes).map_or(Ok(()), send)
    }

    fn parquet(&self, task: &Task, send: &mut dyn FnMut(Piece) -> Result<(), Stop>) -> Result<(), Stop> {
        let unreadable = |error: parquet::errors::ParquetError| Stop::Unreadable(io::Error::other(error));
        let builder = ParquetRecordBatchReaderBuilder::try_new(task.file.source.random()?).map_err(unreadable)?;
        let mut encoder = self.encoder(task, builder.schema())?;
        let rows_total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
        let offset = usize::try_from(task.acknowledged).unwrap_or(usize::MAX);
        let batches = builder.with_batch_size(BATCH_ROWS).with_offset(offset).build().map_err(unreadable)?;
        let mut rows = task.acknowledged;
        for batch in batches {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            let bytes_done = u128::from(task.file.bytes) * u128::from(rows) / u128::from(rows_total);
            encoder.encode(&batch, bytes_done as u64, &mut *send)?;
        }
        encoder.finish(task.file.bytes).map_or(Ok(()), send)
    }

    fn encoder(&self, task: &Task, schema: &Schema) -> Result<Encoder, Stop> {
        let mapping = self.mapping(&task.file, schema)?;
        let table = self.table(&task.file)?;
        Encoder::new(table, mapping, self.bytes_max, task.acknowledged + 1).map_err(Stop::Unclear)
    }
}
