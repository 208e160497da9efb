//! `/query` as InfluxDB 1 has it: parameters in URL, form or body, several statements, JSON or CSV as rows come, or MessagePack.
//!
//! A text that is not understood fails the request with 400 before anything is done. After that the status is 200, and each
//! statement has its own answer or error; one that fails does not stop those after it.
//!
//! Not here: what statements mean (`query::influxql`), which of them change something (`commands`).

mod commands;
mod csv;
mod gzip;
mod json;
mod msgpack;
mod parameters;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::parameters::{Parameters, deadline};
use super::{body, compatible};
use crate::error::{Error, ErrorKind};
use crate::query::influxql::{self, InfluxQlAnswer, InfluxQlContext, Listing, SeriesRows};
use crate::query::{Origin, Way};
use crate::server::auth::Principal;
use crate::server::{Services, status};
use crate::syntax::influxql::{Statement, parse};
use csv::CsvWriter;
use gzip::Gzip;
use json::{Chunks, JsonWriter};
use msgpack::MessagePackWriter;
use values::TimeFormat;

/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 64 << 10;

/// Rows of a piece where a client asks for pieces and not how long.
const CHUNK_ROWS: usize = 10_000;

/// `GET` and `POST /query`.
pub(in crate::server::http) async fn query(
    State(services): State<Arc<Services>>,
    principal: Principal,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if method != Method::GET && method != Method::POST {
        let allow = [(header::ALLOW, HeaderValue::from_static("OPTIONS, GET, POST"))];
        let mut response = (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response();
        compatible::add_version(response.headers_mut());
        return response;
    }
    let format = Format::of(&headers);
    let mut response = match answer(&services, principal, method, query.as_deref(), &headers, body).await {
        Ok(response) => response,
        Err(error) => refusal(&error, format),
    };
    compatible::add_version(response.headers_mut());
    response
}

/// An error of the whole request, in the body and where clients of InfluxDB 1 look for it.
fn refusal(error: &Error, format: Format) -> Response {
    let text = error.report();
    let mut response = if format == Format::Csv {
        let body = format!("error\n{}\n", csv::quoted(&text));
        (status::http(error.kind()), [(header::CONTENT_TYPE, "text/csv")], body).into_response()
    } else {
        status::error_response(error)
    };
    compatible::add_error(&mut response, &text);
    response
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    MessagePack,
}

impl Format {
    /// The one that is asked for first; else JSON.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = accept.split(',').find_map(|one| match one.split(';').next().unwrap_or_default().trim() {
            "application/csv" | "text/csv" => Some(Self::Csv),
            "application/x-msgpack" => Some(Self::MessagePack),
            "application/json" | "*/*" => Some(Self::Json),
            _ => None,
        });
        known.unwrap_or(Self::Json)
    }
}

async fn answer(
    services: &Arc<Services>,
    principal: Principal,
    method: Method,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let mut given = Parameters::parse(query);
    if method == Method::POST {
        let bytes = body::read(headers, body, services.settings.request_bytes_max).await?;
        parameters::add_posted(&mut given, headers, &bytes);
    }
    let text = given.get("q").map(str::trim).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::invalid("missing required parameter \"q\""))?;
    let bytes_max = services.settings.query.text_bytes_max;
    if text.len() > bytes_max {
        let message = format!("the query has {} bytes, more than the {bytes_max} that are allowed", text.len());
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let values = parameters::values(given.get("params"))?;
    let statements = parse(text, &values).map_err(|error| Error::invalid(format!("error parsing query: {error}")))?;

    let context = InfluxQlContext {
        database: given.get("db").filter(|name| !name.is_empty()).map(str::to_owned),
        policy: given.get("rp").filter(|name| !name.is_empty()).map(str::to_owned),
        now: services.clock.now().as_nanos(),
        rights: principal.rights().clone(),
        origin: Origin { asker: principal.asker(), way: Way::InfluxQl, deadline: deadline(given.get("timeout"))? },
    };
    let times = TimeFormat::of(given.get("epoch"));
    let rows_max = (given.get("chunked") == Some("true")).then(|| chunk_rows(given.get("chunk_size")));
    let writer = match Format::of(headers) {
        Format::Csv => Writer::Csv(CsvWriter::new(times)),
        Format::MessagePack => Writer::MessagePack(Box::new(MessagePackWriter::new(times, rows_max))),
        Format::Json => {
            let is_pretty = given.get("pretty") == Some("true");
            Writer::Json(Box::new(JsonWriter::new(times, rows_max.map_or(Chunks::One, Chunks::Of), is_pretty)))
        }
    };
    let is_read_only = method == Method::GET;
    let mut answers = Answers {
        services: Arc::clone(services),
        principal,
        context,
        is_read_only,
        statements: statements.into(),
        number: 0,
        current: None,
        writer,
        gzip: gzip::is_accepted(headers).then(Gzip::new),
        has_ended: false,
        refused: None,
    };
    // The first statement begins before the response does, so that whoever is to come back later hears it where clients look.
    answers.step().await;
    if let Some(error) = answers.refused.take() {
        return Err(error);
    }
    let is_gzip = answers.gzip.is_some();
    let content_type = answers.writer.content_type();
    // Small answers are whole with their first piece: so they cost a client one look.
    let first = answers.piece().await.unwrap_or_default();
    let body = if answers.has_ended {
        Body::from(first)
    } else {
        let rest = stream::unfold(answers, |mut answers| async move {
            let piece = answers.piece().await?;
            Some((Ok::<_, Error>(piece), answers))
        });
        Body::from_stream(stream::once(async { Ok(first) }).chain(rest))
    };
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn chunk_rows(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).filter(|rows| *rows > 0).unwrap_or(CHUNK_ROWS)
}

enum Writer {
    Json(Box<JsonWriter>),
    Csv(CsvWriter),
    MessagePack(Box<MessagePackWriter>),
}

impl Writer {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Csv(_) => "text/csv",
            Self::MessagePack(_) => "application/x-msgpack",
        }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Json(writer) => writer.bytes(),
            Self::Csv(writer) => writer.bytes(),
            Self::MessagePack(writer) => writer.bytes(),
        }
    }

    fn begin(&mut self, number: usize, warning: Option<String>) {
        match self {
            Self::Json(writer) => writer.begin(number, warning),
            Self::Csv(writer) => writer.begin(),
            Self::MessagePack(writer) => writer.begin(number, warning),
        }
    }

    /// # Errors
    /// `TooLarge` if the answer has become longer than its format can hold.
    fn rows(&mut self, rows: &SeriesRows, zone: Option<chrono_tz::Tz>) -> Result<(), Error> {
        match self {
            Self::Json(writer) => writer.rows(rows, zone),
            Self::Csv(writer) => writer.rows(rows),
            Self::MessagePack(writer) => {
                writer.rows(rows);
                if writer.is_too_long() {
                    let message =
                        "the answer is too long for MessagePack in one piece; ask with chunked=true, or for JSON";
                    return Err(Error::new(ErrorKind::TooLarge, message));
                }
            }
        }
        Ok(())
    }

    fn listings(&mut self, listings: &[Listing]) {
        match self {
            Self::Json(writer) => writer.listings(listings),
            Self::Csv(writer) => writer.listings(listings),
            Self::MessagePack(writer) => writer.listings(listings),
        }
    }

    fn end(&mut self, error: Option<&str>) {
        match self {
            Self::Json(writer) => writer.end(error),
            Self::Csv(writer) => writer.end(error),
            Self::MessagePack(writer) => writer.end(error),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Json(writer) => writer.finish(),
            Self::Csv(_) => {}
            Self::MessagePack(writer) => writer.finish(),
        }
    }
}

/// The answers of one request, one statement after the other.
struct Answers {
    services: Arc<Services>,
    principal: Principal,
    context: InfluxQlContext,
    /// Whether the request is a GET.
    is_read_only: bool,
    statements: VecDeque<Statement>,
    /// The number of the next statement.
    number: usize,
    current: Option<Box<influxql::SeriesStream>>,
    writer: Writer,
    gzip: Option<Gzip>,
    has_ended: bool,
    /// Why there was no room for a statement.
    refused: Option<Error>,
}

impl Answers {
    /// The next bytes; `None` when all is said.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            while !self.has_ended && self.writer.bytes().len() < PIECE_BYTES {
                self.step().await;
            }
            let mut bytes = std::mem::take(self.writer.bytes());
            if let Some(gzip) = &mut self.gzip {
                bytes = gzip.piece(&bytes, self.has_ended);
            }
            if !bytes.is_empty() || self.has_ended {
                return (!bytes.is_empty()).then(|| bytes.into());
            }
        }
    }

    async fn step(&mut self) {
        if let Some(series) = &mut self.current {
            let zone = series.zone();
            match series.next().await {
                Ok(Some(rows)) => {
                    if let Err(error) = self.writer.rows(&rows, zone) {
                        self.end(Some(&error));
                    }
                }
                Ok(None) => self.end(None),
                // Rows may have been told already: the error stands behind them.
                Err(error) => self.end(Some(&error)),
            }
            return;
        }
        let Some(statement) = self.statements.pop_front() else {
            self.writer.finish();
            self.has_ended = true;
            return;
        };
        let warning = (self.is_read_only && influxql::changes(&statement)).then(|| {
            format!("deprecated use of '{statement}' in a read only context, please use a POST request instead")
        });
        self.writer.begin(self.number, warning);
        self.number += 1;
        match self.answer(&statement).await {
            Ok(InfluxQlAnswer::Series(series)) => self.current = Some(series),
            Ok(InfluxQlAnswer::Listings(listings)) => {
                self.writer.listings(&listings);
                self.end(None);
            }
            Err(error) => {
                self.end(Some(&error));
                self.refused = Some(error).filter(|error| matches!(error.kind(), ErrorKind::Busy | ErrorKind::Limited));
            }
        }
    }

    async fn answer(&self, statement: &Statement) -> Result<InfluxQlAnswer, Error> {
        if influxql::changes(statement) {
            return commands::run(&self.services, &self.principal, &self.context, statement)
                .await
                .map(InfluxQlAnswer::Listings);
        }
        self.services.queries.influxql(statement, &self.context).await
    }

    fn end(&mut self, error: Option<&Error>) {
        self.current = None;
        let text = error.map(|error| {
            tracing::debug!(error = error.report(), "an InfluxQL statement failed");
            error.report()
        });
        self.writer.end(text.as_deref());
    }
}
