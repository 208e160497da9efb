//! `/query` as InfluxDB 1 has it: parameters in URL or form, several statements, JSON or CSV as rows come.
//!
//! A text that is not understood fails the request with 400 before anything is done. After that the status is 200, and each
//! statement has its own answer or error; one that fails does not stop those after it.
//!
//! Not here: what statements mean (`query::influxql`), which of them change something (`commands`).

mod commands;
mod csv;
mod json;
mod parameters;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::body;
use super::health::{BUILD, COMPATIBLE_VERSION};
use super::parameters::Parameters;
use crate::error::Error;
use crate::query::influxql::{InfluxQlAnswer, InfluxQlContext};
use crate::server::auth::Principal;
use crate::server::{Services, status};
use crate::syntax::influxql::{Statement, parse};
use csv::CsvWriter;
use json::{Chunks, JsonWriter};
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
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response();
    }
    services.telemetry.query();
    let is_csv = wants_csv(&headers);
    let response = match answer(&services, principal, method, query.as_deref(), &headers, body).await {
        Ok(response) => response,
        Err(error) => {
            services.telemetry.query_failed();
            refusal(&error, is_csv)
        }
    };
    with_version(response)
}

fn with_version(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-influxdb-version", HeaderValue::from_static(COMPATIBLE_VERSION));
    headers.insert("x-influxdb-build", HeaderValue::from_static(BUILD));
    response
}

/// An error of the whole request, in the body and where clients of InfluxDB 1 look for it.
fn refusal(error: &Error, is_csv: bool) -> Response {
    let text = error.report();
    let mut response = if is_csv {
        let body = format!("error\n{}\n", csv::quoted(&text));
        (status::http(error.kind()), [(header::CONTENT_TYPE, "text/csv")], body).into_response()
    } else {
        status::error_response(error)
    };
    // A header has no room for line ends and other letters than those of ASCII.
    let plain: String =
        text.chars().map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&plain) {
        response.headers_mut().insert(HeaderName::from_static("x-influxdb-error"), value);
    }
    response
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.starts_with("application/csv") || accept.starts_with("text/csv")
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
    if method == Method::POST && is_form(headers) {
        let form = body::read(headers, body, services.settings.request_bytes_max).await?;
        given.extend(Parameters::parse(std::str::from_utf8(&form).ok()));
    }
    let text = given.get("q").map(str::trim).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::invalid("missing required parameter \"q\""))?;
    let bytes_max = services.settings.query.text_bytes_max;
    if text.len() > bytes_max {
        let message = format!("the query has {} bytes, more than the {bytes_max} that are allowed", text.len());
        return Err(Error::new(crate::error::ErrorKind::TooLarge, message));
    }
    let values = parameters::values(given.get("params"))?;
    let statements = parse(text, &values).map_err(|error| Error::invalid(format!("error parsing query: {error}")))?;

    let context = InfluxQlContext {
        database: given.get("db").filter(|name| !name.is_empty()).map(str::to_owned),
        policy: given.get("rp").filter(|name| !name.is_empty()).map(str::to_owned),
        now: services.clock.now().as_nanos(),
        rights: principal.rights().clone(),
    };
    let times = TimeFormat::of(given.get("epoch"));
    let writer = if wants_csv(headers) {
        Writer::Csv(CsvWriter::new(times))
    } else {
        let chunks = match given.get("chunked") {
            Some("true") => Chunks::Of(chunk_rows(given.get("chunk_size"))),
            _ => Chunks::One,
        };
        let is_pretty = given.get("pretty") == Some("true");
        Writer::Json(Box::new(JsonWriter::new(times, chunks, is_pretty)))
    };
    let is_read_only = method == Method::GET;
    let answers = Answers {
        services: Arc::clone(services),
        principal,
        context,
        is_read_only,
        statements: statements.into(),
        number: 0,
        current: None,
        writer,
        has_ended: false,
    };
    let content_type = answers.writer.content_type();
    let pieces = stream::unfold(answers, |mut answers| async move {
        let piece = answers.piece().await?;
        Some((Ok::<_, Error>(piece), answers))
    });
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(pieces)).into_response())
}

fn chunk_rows(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).filter(|rows| *rows > 0).unwrap_or(CHUNK_ROWS)
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.starts_with("application/x-www-form-urlencoded"))
}

enum Writer {
    Json(Box<JsonWriter>),
    Csv(CsvWriter),
}

impl Writer {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Csv(_) => "text/csv",
        }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Json(writer) => writer.bytes(),
            Self::Csv(writer) => writer.bytes(),
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
    current: Option<Box<crate::query::influxql::SeriesStream>>,
    writer: Writer,
    has_ended: bool,
}

impl Answers {
    /// The next bytes; `None` when all is said.
    async fn piece(&mut self) -> Option<Bytes> {
        while !self.has_ended && self.writer.bytes().len() < PIECE_BYTES {
            self.step().await;
        }
        let bytes = std::mem::take(self.writer.bytes());
        (!bytes.is_empty()).then(|| bytes.into())
    }

    async fn step(&mut self) {
        if let Some(series) = &mut self.current {
            let zone = series.zone();
            match series.next().await {
                Ok(Some(rows)) => match &mut self.writer {
                    Writer::Json(writer) => writer.rows(&rows, zone),
                    Writer::Csv(writer) => writer.rows(&rows),
                },
                Ok(None) => self.end(None),
                // Rows may have been told already: the error stands behind them.
                Err(error) => self.end(Some(&error)),
            }
            return;
        }
        let Some(statement) = self.statements.pop_front() else {
            if let Writer::Json(writer) = &mut self.writer {
                writer.finish();
            }
            self.has_ended = true;
            return;
        };
        let warning = (self.is_read_only && commands::changes(&statement)).then(|| {
            format!("deprecated use of '{statement}' in a read only context, please use a POST request instead")
        });
        if let Writer::Json(writer) = &mut self.writer {
            writer.begin(self.number, warning);
        } else if let Writer::Csv(writer) = &mut self.writer {
            writer.begin();
        }
        self.number += 1;
        match self.answer(&statement).await {
            Ok(Some(InfluxQlAnswer::Series(series))) => self.current = Some(series),
            Ok(Some(InfluxQlAnswer::Listings(listings))) => {
                match &mut self.writer {
                    Writer::Json(writer) => writer.listings(&listings),
                    Writer::Csv(writer) => writer.listings(&listings),
                }
                self.end(None);
            }
            Ok(None) => self.end(None),
            Err(error) => self.end(Some(&error)),
        }
    }

    async fn answer(&self, statement: &Statement) -> Result<Option<InfluxQlAnswer>, Error> {
        if commands::changes(statement) {
            commands::run(&self.services.engine, &self.principal, &self.context, statement).await?;
            return Ok(None);
        }
        self.services.queries.influxql(statement, &self.context).await.map(Some)
    }

    fn end(&mut self, error: Option<&Error>) {
        self.current = None;
        let text = error.map(|error| {
            self.services.telemetry.query_failed();
            tracing::debug!(error = error.report(), "an InfluxQL statement failed");
            error.report()
        });
        match &mut self.writer {
            Writer::Json(writer) => writer.end(text.as_deref()),
            Writer::Csv(writer) => writer.end(text.as_deref()),
        }
    }
}
