//! `DELETE` and `DROP SERIES`: which rows they are about.
//!
//! The engine deletes by time and by what tags are. A condition may be anything on tags, patterns too, so the series that fulfil it are
//! looked up, by the tags that it names and no others. Where all of them fulfil it, or where there is none, only the time counts.
//! Series that begin after the look are not meant.
//!
//! Not here: the deletion itself (`Engine::delete_rows`).

use std::collections::BTreeSet;

use super::super::Queries;
use super::super::error::QueryError;
use super::super::stream::on_cpu;
use super::resolve::Catalog;
use super::show::{Place, Shower};
use super::tag_condition::columns;
use super::time::{self, Bounds, Now};
use super::{Answerer, InfluxQlContext};
use crate::error::{Error, Result};
use crate::model::{Action, ColumnName, DatabaseName, RowSelection, TableName, TimeRange};
use crate::syntax::influxql::{Expression, Measurement, MeasurementName, Selection, Source, Statement};

/// Most combinations of tags that one statement may come down to for a measurement. Queries ask each of them of every older file,
/// until the files are rewritten.
const SELECTIONS_MAX: usize = 1000;

/// Rows of one table that are to be deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Removal {
    /// The database.
    pub database: DatabaseName,
    /// The table.
    pub table: TableName,
    /// Which rows; at least one selection.
    pub selections: Vec<RowSelection>,
}

impl Queries {
    /// Which rows a `DELETE` or a `DROP SERIES` is about. Nothing is deleted yet; measurements without such rows are left out. Looking
    /// is a part of [`Queries::influxql_change`], which sees to it that it can be ended.
    ///
    /// # Errors
    /// In the words of InfluxDB, what the statement can't be about; `Forbidden` for measurements of which who asks may not delete rows.
    pub async fn influxql_removals(&self, statement: &Statement, context: &InfluxQlContext) -> Result<Vec<Removal>> {
        let mut answerer = self.answerer(context);
        // What they may delete they may choose by its tags.
        answerer.catalog.action = Action::Delete;
        let statement = statement.clone();
        let work = async move {
            match &statement {
                Statement::Delete(selection) => removals(selection, Kind::Rows, &answerer).await,
                Statement::DropSeries(selection) => removals(selection, Kind::Series, &answerer).await,
                _ => Ok(Vec::new()),
            }
        };
        on_cpu(&self.cpu.quick, work).await.map_err(Error::from)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rows,
    Series,
}

async fn removals(selection: &Selection, kind: Kind, answerer: &Answerer) -> Result<Vec<Removal>, QueryError> {
    let refused = |message: &str| QueryError::Statement(message.to_owned());
    let now = Now { nanos: answerer.now, zone: None };
    let (condition, bounds) = match &selection.condition {
        Some(condition) => time::split(condition, now).map_err(QueryError::Statement)?,
        None => (None, Bounds::default()),
    };
    if kind == Kind::Series && bounds != Bounds::default() {
        return Err(refused("DROP SERIES doesn't support time in WHERE clause"));
    }
    let range = TimeRange::from_nanos(bounds.min.unwrap_or(i64::MIN), bounds.max.unwrap_or(i64::MAX));
    if range.min > range.max {
        return Ok(Vec::new());
    }
    let mut removals = Vec::new();
    for found in measurements(selection, answerer)? {
        let Ok(table) = TableName::new(&found.name) else { continue };
        let selections = match &condition {
            None => vec![RowSelection { time: range, tags: Vec::new() }],
            Some(condition) => by_series(&found, condition, range, answerer).await?,
        };
        if !selections.is_empty() {
            removals.push(Removal { database: found.database, table, selections });
        }
    }
    Ok(removals)
}

/// The measurements that are named, or that match, or all.
fn measurements(selection: &Selection, answerer: &Answerer) -> Result<Vec<Place>, QueryError> {
    let catalog = &answerer.catalog;
    let mut names: BTreeSet<(String, String)> = BTreeSet::new();
    let mut all = |database: String, wanted: &dyn Fn(&str) -> bool| {
        let measurements = catalog.measurements(&database).into_iter().filter(|name| wanted(name));
        names.extend(measurements.map(|name| (database.clone(), name)));
    };
    if selection.sources.is_empty() {
        catalog.databases(None, None).map_err(QueryError::Statement)?.into_iter().for_each(|own| all(own, &|_| true));
    }
    for source in &selection.sources {
        let Source::Measurement(Measurement { database, policy, name }) = source else { continue };
        let databases = catalog.databases(database.as_deref(), policy.as_deref()).map_err(QueryError::Statement)?;
        for (place, database) in databases.into_iter().enumerate() {
            match name {
                MeasurementName::Regex(regex) => all(database, &|name| regex.is_match(name)),
                MeasurementName::Name(wanted) => {
                    let known =
                        DatabaseName::new(&database).map_err(|_| QueryError::DatabaseNotFound(database.clone()))?;
                    let is_meant = place == 0 || catalog.engine.table_schema(&known, wanted).is_some();
                    if is_meant && !catalog.rights.tables(Action::Delete, &known).contains(wanted) {
                        return Err(QueryError::Forbidden { verb: "delete rows of", table: wanted.clone() });
                    }
                    all(database, &|name| name == wanted);
                }
            }
        }
    }
    let found = names.into_iter().filter_map(|(database, name)| {
        let measured = catalog.measured(&database, &name)?;
        Some(Place { database: DatabaseName::new(&database).ok()?, name, measured })
    });
    Ok(found.collect())
}

async fn by_series(
    found: &Place,
    condition: &Expression,
    range: TimeRange,
    answerer: &Answerer,
) -> Result<Vec<RowSelection>, QueryError> {
    let mut named = BTreeSet::new();
    columns(condition, &mut named);
    if named.iter().any(|name| found.measured.fields.contains_key(*name)) {
        return Err(QueryError::Statement("fields not supported in WHERE clause during deletion".to_owned()));
    }
    let tags: Vec<String> = found.measured.tags.iter().filter(|tag| named.contains(tag.as_str())).cloned().collect();
    let shower = Shower { catalog: &answerer.catalog, session: &answerer.session, now: answerer.now };
    let bounds = Bounds { min: Some(range.min.as_nanos()), max: Some(range.max.as_nanos()) };
    let chosen = shower.combinations(found, &tags, Some(condition), bounds).await?;
    let all = shower.combinations(found, &tags, None, bounds).await?;
    if !chosen.is_empty() && chosen.len() == all.len() {
        return Ok(vec![RowSelection { time: range, tags: Vec::new() }]);
    }
    if chosen.len() > SELECTIONS_MAX {
        return Err(QueryError::TooManySelections { count_max: SELECTIONS_MAX });
    }
    let selections = chosen.into_iter().map(|series| {
        let value = |tag: &str| series.iter().find(|(key, _)| key == tag).map(|(_, value)| value.clone());
        let tags = tags.iter().filter_map(|tag| Some((ColumnName::new(tag).ok()?, value(tag))));
        RowSelection { time: range, tags: tags.collect() }
    });
    Ok(selections.collect())
}
