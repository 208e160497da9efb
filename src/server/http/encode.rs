//! Rows as JSON, JSON lines, CSV, a table for people, or Parquet: encoded batch by batch as they come.
//!
//! The first batch is awaited before the response's head is sent, so that a query that fails early has a status
//! that says so. A failure after that breaks the body off without its end: every HTTP client sees that
//! the answer is not whole.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::json;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderMap, header};
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::super::pretty::PrettyTable;
use super::json_values;
use crate::error::{Error, ErrorKind, Result};
use crate::query::QueryStream;

/// An answer with fewer bytes that is there at once leaves in one piece.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One array of objects; nulls are left out.
    Json,
    /// One object a line; nulls are left out.
    JsonLines,
    /// With a header line.
    Csv,
    /// For people.
    Pretty,
    /// One file.
    Parquet,
}

impl Format {
    /// The format that the request names, else the one that its `Accept` header prefers.
    ///
    /// # Errors
    /// `Invalid` if neither is known here.
    pub(super) fn choose(named: Option<&str>, headers: &HeaderMap) -> Result<Self> {
        if let Some(name) = named.filter(|name| !name.is_empty()) {
            return match name {
                "json" => Ok(Self::Json),
                "jsonl" | "json_lines" => Ok(Self::JsonLines),
                "csv" => Ok(Self::Csv),
                "pretty" => Ok(Self::Pretty),
                "parquet" => Ok(Self::Parquet),
                other => {
                    Err(Error::invalid(format!("format '{other}' is unknown; use json, jsonl, csv, pretty or parquet")))
                }
            };
        }
        match headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) {
            None | Some("application/json") => Ok(Self::Json),
            Some("application/jsonl" | "application/x-ndjson") => Ok(Self::JsonLines),
            Some("text/csv") => Ok(Self::Csv),
            Some("text/plain") => Ok(Self::Pretty),
            Some("application/vnd.apache.parquet") => Ok(Self::Parquet),
            Some(any) if any.contains("*/*") || any.contains("text/html") => Ok(Self::Json),
            Some(other) => Err(Error::invalid(format!("invalid mime type ({other})"))),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv",
            Self::Pretty => "text/plain; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// A response with these rows.
pub(super) fn respond_with(format: Format, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Response> {
    let mut encoder = Encoder::new(format, schema)?;
    let mut bytes = Vec::new();
    for batch in batches {
        bytes.extend_from_slice(&encoder.write(batch)?);
    }
    bytes.extend_from_slice(&encoder.finish()?);
    Ok(([(header::CONTENT_TYPE, format.content_type())], bytes).into_response())
}

/// A response that encodes the stream's batches as the client takes them. Dropping it cancels the query.
pub(super) async fn respond(format: Format, mut rows: QueryStream) -> Result<Response> {
    let mut encoder = Encoder::new(format, rows.schema())?;
    let mut head = Vec::new();
    let mut next = rows.next().await;
    // Small answers are there now, whole: in one piece they cost a client one look, and an error of theirs has a status.
    loop {
        match next {
            Some(batch) => head.extend_from_slice(&encoder.write(&batch?)?),
            None => {
                head.extend_from_slice(&encoder.finish()?);
                return Ok(([(header::CONTENT_TYPE, format.content_type())], head).into_response());
            }
        }
        if head.len() >= HEAD_BYTES_MAX {
            break;
        }
        match rows.next().now_or_never() {
            Some(ready) => next = ready,
            None => break,
        }
    }
    let body = stream::once(async { Ok(head.into()) }).chain(encoded(encoder, rows));
    Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(body)).into_response())
}

fn encoded(encoder: Encoder, rows: QueryStream) -> impl Stream<Item = Result<Bytes>> {
    stream::unfold(Some((encoder, rows)), |state| async move {
        let (mut encoder, mut rows) = state?;
        let next = match rows.next().await {
            Some(Ok(batch)) => encoder.write(&batch).map(|bytes| (bytes, true)),
            Some(Err(error)) => Err(error),
            None => encoder.finish().map(|bytes| (bytes, false)),
        };
        match next {
            Ok((bytes, true)) => Some((Ok(bytes), Some((encoder, rows)))),
            Ok((bytes, false)) => Some((Ok(bytes), None)),
            Err(error) => {
                tracing::warn!(
                    error = error.report(),
                    "a query failed after its first rows were sent; the response ends early"
                );
                Some((Err(error), None))
            }
        }
    })
}

/// Bytes that an encoder has written and nobody has taken yet.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of one response.
struct Encoder {
    sink: Sink,
    schema: SchemaRef,
    writer: Writer,
}

enum Writer {
    Json(json::ArrayWriter<Sink>),
    JsonLines(json::LineDelimitedWriter<Sink>),
    Csv {
        writer: Box<csv::Writer<Sink>>,
        is_empty: bool,
    },
    Pretty(PrettyTable),
    /// `None` once it is closed.
    Parquet(Option<Box<ArrowWriter<Sink>>>),
}

impl Encoder {
    fn new(format: Format, schema: &SchemaRef) -> Result<Self> {
        let sink = Sink::default();
        let writer = match format {
            Format::Json => Writer::Json(json_values::writer(sink.clone())),
            Format::JsonLines => Writer::JsonLines(json_values::writer(sink.clone())),
            Format::Csv => {
                let writer = Box::new(csv::WriterBuilder::new().with_header(true).build(sink.clone()));
                Writer::Csv { writer, is_empty: true }
            }
            Format::Pretty => Writer::Pretty(PrettyTable::new(schema)),
            Format::Parquet => {
                let properties =
                    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let writer =
                    ArrowWriter::try_new(sink.clone(), Arc::clone(schema), Some(properties)).map_err(failed)?;
                Writer::Parquet(Some(Box::new(writer)))
            }
        };
        Ok(Self { sink, schema: Arc::clone(schema), writer })
    }

    /// The bytes to send for these rows; a columnar format may keep them for later.
    fn write(&mut self, batch: &RecordBatch) -> Result<Bytes> {
        match &mut self.writer {
            Writer::Json(writer) => writer.write(batch).map_err(failed)?,
            Writer::JsonLines(writer) => writer.write(batch).map_err(failed)?,
            Writer::Csv { writer, is_empty } => {
                writer.write(batch).map_err(failed)?;
                *is_empty = false;
            }
            Writer::Pretty(table) => return table.rows(batch).map(Bytes::from),
            Writer::Parquet(Some(writer)) => writer.write(batch).map_err(failed)?,
            Writer::Parquet(None) => return Err(Error::internal("rows after the end of a Parquet response")),
        }
        Ok(self.sink.take())
    }

    /// What ends the response.
    fn finish(&mut self) -> Result<Bytes> {
        match &mut self.writer {
            Writer::Json(writer) => writer.finish().map_err(failed)?,
            Writer::JsonLines(writer) => writer.finish().map_err(failed)?,
            Writer::Csv { writer, is_empty: true } => {
                // Without a row the header still tells what was asked for.
                writer.write(&RecordBatch::new_empty(Arc::clone(&self.schema))).map_err(failed)?;
            }
            Writer::Csv { .. } => {}
            Writer::Pretty(table) => return Ok(table.end().into()),
            Writer::Parquet(writer) => {
                if let Some(writer) = writer.take() {
                    writer.close().map_err(failed)?;
                }
            }
        }
        Ok(self.sink.take())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::with_source(ErrorKind::Unsupported, "the rows can't be written in this format", error)
}
