//! Deletion of rows: by time and tags, as our own clients and those of InfluxDB 2 ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use http::StatusCode;
use serde::Deserialize;

use super::json::{self, Json};
use super::parameters::{Parameters, database_name, table_name};
use crate::error::{Error, Result};
use crate::model::{Action, ColumnKind, ColumnName, RowSelection, TIME_COLUMN, TableName, TimeRange, Timestamp};
use crate::server::Services;
use crate::server::auth::Principal;

#[derive(Deserialize)]
pub(super) struct DeleteRows {
    db: String,
    table: String,
    start: Option<String>,
    stop: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct DeleteV2 {
    start: String,
    stop: String,
    predicate: Option<String>,
}

/// `POST /api/v3/delete` with `{"db","table","start","stop","tags":{"name":"value"}}`: rows of one table from `start` to
/// `stop`, both included, each without limit if it is missing, that have all the tags; null: that don't have the tag.
pub(super) async fn v3(
    State(services): State<Arc<Services>>,
    principal: Principal,
    Json(request): Json<DeleteRows>,
) -> Result<Response> {
    let time = time_range(request.start.as_deref(), request.stop.as_deref())?;
    let tags = request.tags.into_iter().map(|(name, value)| Ok((tag_name(&name)?, value)));
    let rows = RowSelection { time, tags: tags.collect::<Result<_>>()? };
    let (database, table) = (database_name(&request.db)?, table_name(&request.table)?);
    principal.require_on_table(Action::Delete, &database, table.as_str())?;
    services.engine.delete_rows(&database, &table, [rows]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v2/delete?bucket=` with `{"start","stop","predicate"}`, both times included. The predicate is a
/// chain of `tag="value"` and `_measurement="table"`; without a measurement it is about every table. As there, it is no error
/// if no row fits.
pub(super) async fn v2(
    State(services): State<Arc<Services>>,
    principal: Principal,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<Response> {
    let parameters = Parameters::parse(query.as_deref());
    let database = database_name(parameters.required("bucket")?)?;
    let request: DeleteV2 = json::parse(&body)?; // clients of InfluxDB 2 don't all say that it is JSON
    let time = time_range(Some(&request.start), Some(&request.stop))?;
    let (table, tags) = conditions(request.predicate.as_deref().unwrap_or_default())?;
    let deletable = principal.require_tables(Action::Delete, &database)?;
    if let Some(table) = &table {
        principal.require_on_table(Action::Delete, &database, table.as_str())?;
    }
    let mut tables = services.engine.tables(&database)?;
    // Without a measurement it is about all the tables that the principal may delete in.
    tables.retain(|name| table.as_ref().is_none_or(|table| table == name) && deletable.contains(name.as_str()));
    for table in tables {
        // Where one of the names is that of a field, no row has such a tag.
        let schema = services.engine.table_schema(&database, table.as_str());
        let is_tag =
            |name: &ColumnName| schema.as_ref().and_then(|schema| schema.kind(name.as_str())) == Some(ColumnKind::Tag);
        if tags.iter().all(|(name, _)| is_tag(name)) {
            let rows = RowSelection { time, tags: tags.clone() };
            services.engine.delete_rows(&database, &table, [rows]).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn time_range(start: Option<&str>, stop: Option<&str>) -> Result<TimeRange> {
    let instant = |text: &str| {
        let time = DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
        let message = || format!("'{text}' is no time; use one such as 2024-01-31T00:00:00Z");
        time.map(Timestamp::from_nanos).ok_or_else(|| Error::invalid(message()))
    };
    let min = start.map(instant).transpose()?.unwrap_or(TimeRange::ALL.min);
    let max = stop.map(instant).transpose()?.unwrap_or(TimeRange::ALL.max);
    if min > max {
        return Err(Error::invalid(format!("start {min} is after stop {max}")));
    }
    Ok(TimeRange { min, max })
}

fn tag_name(text: &str) -> Result<ColumnName> {
    if text == TIME_COLUMN {
        return Err(Error::invalid("give times as start and stop"));
    }
    ColumnName::new(text).map_err(|error| Error::invalid(error.to_string()))
}

type Conditions = (Option<TableName>, Vec<(ColumnName, Option<String>)>);

/// Takes `a="b" AND c="d"` apart.
fn conditions(predicate: &str) -> Result<Conditions> {
    let (mut table, mut tags): Conditions = (None, Vec::new());
    let mut rest = predicate.trim_start();
    while !rest.is_empty() {
        let (name, after) = word(rest)?;
        let after = after.trim_start();
        let after = after.strip_prefix("==").or_else(|| after.strip_prefix('=')).ok_or_else(|| unclear(after))?;
        let (value, after) = word(after.trim_start())?;
        if name == "_measurement" {
            table = Some(table_name(&value)?);
        } else {
            tags.push((tag_name(&name)?, Some(value)));
        }
        rest = after.trim_start();
        if !rest.is_empty() {
            let and = rest.get(..3).filter(|word| word.eq_ignore_ascii_case("and")).ok_or_else(|| unclear(rest))?;
            rest = rest[and.len()..].trim_start();
            if rest.is_empty() {
                return Err(unclear("its end"));
            }
        }
    }
    Ok((table, tags))
}

/// A name or value, in quotes or bare.
fn word(text: &str) -> Result<(String, &str)> {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let Some(quote) = quote else {
        let end =
            text.find(|letter: char| letter == '=' || letter == '!' || letter.is_whitespace()).unwrap_or(text.len());
        return if end == 0 { Err(unclear(text)) } else { Ok((text[..end].to_owned(), &text[end..])) };
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (place, letter) in text.char_indices().skip(1) {
        match letter {
            '\\' if !escaped => escaped = true,
            _ if letter == quote && !escaped => return Ok((value, &text[place + letter.len_utf8()..])),
            _ => {
                value.push(letter);
                escaped = false;
            }
        }
    }
    Err(unclear(text))
}

fn unclear(place: &str) -> Error {
    let message = "the predicate is not understood at";
    Error::invalid(format!(
        "{message} '{place}': it is a chain of tag=\"value\" and _measurement=\"table\", joined by AND"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Option<String>, Vec<(String, String)>);

    fn read(predicate: &str) -> Result<Read> {
        let (table, tags) = conditions(predicate)?;
        let tags = tags.into_iter().map(|(name, value)| (name.to_string(), value.unwrap_or_default())).collect();
        Ok((table.map(|table| table.to_string()), tags))
    }

    #[test]
    fn a_predicate_is_a_chain_of_equalities() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("").unwrap(), (None, vec![]));
        assert_eq!(read(r#"_measurement="cpu""#).unwrap(), (Some("cpu".to_owned()), vec![]));
        assert_eq!(
            read(r#"_measurement = cpu and "host a"='x \'y\'' AND region="eu=1""#).unwrap(),
            (Some("cpu".to_owned()), vec![pair("host a", "x 'y'"), pair("region", "eu=1")])
        );
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for bad in [r#"host!="a""#, r#"host="a" OR host="b""#, "host=", r#"host="a"#, "=a", r#"host="a" AND"#, "time=1"]
        {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("predicate") || error.contains("start and stop"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_range_has_its_ends_in_order() {
        let time = |start, stop| time_range(start, stop).map(|time| (time.min.as_nanos(), time.max.as_nanos()));
        assert_eq!(time(Some("1970-01-01T00:00:01Z"), None).unwrap(), (1_000_000_000, i64::MAX));
        assert_eq!(time(None, Some("1970-01-01T01:00:00+01:00")).unwrap(), (i64::MIN, 0));
        assert!(time(Some("1970-01-02T00:00:00Z"), Some("1970-01-01T00:00:00Z")).is_err());
        assert!(time(Some("yesterday"), None).unwrap_err().to_string().contains("yesterday"));
    }
}
