//! `SHOW`: what there is, from the catalog; where tags or times are asked for, from the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use datafusion::execution::SessionState;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::super::error::QueryError;
use super::level::Node;
use super::names::EngineCatalog;
use super::plan::tag_rows;
use super::resolve::{Catalog, Measured};
use super::time::{self, Bounds, Now};
use super::value::Value;
use super::{Cell, Listing};
use crate::model::DatabaseName;
use crate::syntax::influxql::{
    Expression, KeyFilter, Measurement, MeasurementName, Operator, Show, Shown, ShownAs, Source,
};

/// The most names that one answer may hold.
const NAMES_MAX: usize = 10_000_000;

/// What a `SHOW` reads.
pub(super) struct Shower<'a> {
    pub(super) catalog: &'a EngineCatalog,
    pub(super) session: &'a SessionState,
    pub(super) now: i64,
}

/// A measurement that is there.
pub(super) struct Found {
    pub(super) database: DatabaseName,
    pub(super) name: String,
    pub(super) measured: Arc<Measured>,
}

/// The tags of one series: key and value, by key; absent ones are left out.
pub(super) type Series = Vec<(String, String)>;

impl Shower<'_> {
    pub(super) async fn show(&self, show: &Show) -> Result<Vec<Listing>, QueryError> {
        let (condition, bounds) = self.condition(show)?;
        let names = self.measurements(show)?;
        let needs_rows = condition.is_some() || bounds != Bounds::default();
        match (show.what, show.how) {
            (Shown::Measurements, ShownAs::List) => {
                let names = self.that_have_rows(names, condition.as_ref(), bounds, needs_rows).await?;
                let rows = names.into_iter().map(|found| vec![Cell::Text(found.name)]);
                Ok(listing(Some("measurements"), &["name"], page(rows, show)))
            }
            (Shown::Measurements, how) => {
                let names = self.that_have_rows(names, condition.as_ref(), bounds, needs_rows).await?;
                Ok(count(None, how, names.len(), ShownAs::Cardinality))
            }
            (Shown::FieldKeys, how) => {
                let mut listings = Vec::new();
                for found in names {
                    let fields = &found.measured.fields;
                    if how == ShownAs::List {
                        let rows = fields
                            .iter()
                            .map(|(name, field)| vec![Cell::Text(name.clone()), Cell::Text(field.name().to_owned())]);
                        listings.extend(listing(Some(&found.name), &["fieldKey", "fieldType"], page(rows, show)));
                    } else {
                        listings.extend(count(Some(&found.name), how, fields.len(), ShownAs::List));
                    }
                }
                Ok(listings)
            }
            (Shown::TagKeys, how) => {
                let mut listings = Vec::new();
                for found in names {
                    let keys = self.tag_keys(&found, show, condition.as_ref(), bounds, needs_rows).await?;
                    if how == ShownAs::List {
                        let rows = keys.into_iter().map(|key| vec![Cell::Text(key)]);
                        listings.extend(listing(Some(&found.name), &["tagKey"], page(rows, show)));
                    } else {
                        listings.extend(count(Some(&found.name), how, keys.len(), ShownAs::List));
                    }
                }
                Ok(listings)
            }
            (Shown::TagValues, how) => {
                let mut listings = Vec::new();
                for found in names {
                    let values = self.tag_values(&found, show, condition.as_ref(), bounds).await?;
                    if how == ShownAs::List {
                        let rows = values.into_iter().map(|(key, value)| vec![Cell::Text(key), Cell::Text(value)]);
                        listings.extend(listing(Some(&found.name), &["key", "value"], page(rows, show)));
                    } else {
                        listings.extend(count(Some(&found.name), how, values.len(), ShownAs::List));
                    }
                }
                Ok(listings)
            }
            (Shown::Series, ShownAs::List) => {
                let mut keys = BTreeSet::new();
                for found in names {
                    for series in self.series(&found, condition.as_ref(), bounds).await? {
                        // Escaping changes the order of keys.
                        keys.insert((found.name.clone(), series));
                    }
                }
                let rows = keys.into_iter().map(|(name, series)| vec![Cell::Text(series_key(&name, &series))]);
                Ok(listing(None, &["key"], page(rows, show)))
            }
            (Shown::Series, how) => {
                let (mut listings, mut sum) = (Vec::new(), 0);
                for found in names {
                    let series = self.series(&found, condition.as_ref(), bounds).await?.len();
                    sum += series;
                    listings.extend(count(Some(&found.name), how, series, ShownAs::List));
                }
                match how {
                    ShownAs::ExactCardinality => Ok(listings),
                    _ => Ok(count(None, how, sum, ShownAs::Cardinality)),
                }
            }
        }
    }

    /// The condition on tags and the range of times.
    fn condition(&self, show: &Show) -> Result<(Option<Expression>, Bounds), QueryError> {
        let Some(condition) = &show.condition else { return Ok((None, Bounds::default())) };
        let now = Now { nanos: self.now, zone: None };
        let (condition, bounds) = time::split(condition, now).map_err(QueryError::Statement)?;
        if let Some(condition) = &condition {
            check(condition).map_err(QueryError::Statement)?;
        }
        Ok((condition, bounds))
    }

    fn measurements(&self, show: &Show) -> Result<Vec<Found>, QueryError> {
        let (database, policy) = match &show.on {
            Some(on) => match (&on.database, &on.policy) {
                (None, _) | (_, Some(None)) => {
                    return Err(QueryError::Statement("ON with * is not supported; name one database".to_owned()));
                }
                (database, policy) => (database.as_deref(), policy.as_ref().and_then(|policy| policy.as_deref())),
            },
            None => (None, None),
        };
        let mut found: BTreeMap<(String, String), Arc<Measured>> = BTreeMap::new();
        let mut add = |database: &str, wanted: &dyn Fn(&str) -> bool| {
            for name in self.catalog.measurements(database).into_iter().filter(|name| wanted(name)) {
                if let Some(measured) = self.catalog.measured(database, &name) {
                    found.insert((name, database.to_owned()), measured);
                }
            }
        };
        let place = |own: Option<&str>, own_policy: Option<&str>| {
            self.catalog.database(own.or(database), own_policy.or(policy)).map_err(QueryError::Statement)
        };
        if show.sources.is_empty() {
            add(&place(None, None)?, &|_| true);
        }
        for source in &show.sources {
            let Source::Measurement(Measurement { database, policy, name }) = source else { continue };
            let database = place(database.as_deref(), policy.as_deref())?;
            match name {
                MeasurementName::Name(wanted) => add(&database, &|name| name == wanted),
                MeasurementName::Regex(regex) => add(&database, &|name| regex.is_match(name)),
            }
        }
        let found = found.into_iter().map(|((name, database), measured)| {
            let database = DatabaseName::new(&database).map_err(|_| QueryError::DatabaseNotFound(database))?;
            Ok(Found { database, name, measured })
        });
        found.collect()
    }

    async fn that_have_rows(
        &self,
        names: Vec<Found>,
        condition: Option<&Expression>,
        bounds: Bounds,
        needs_rows: bool,
    ) -> Result<Vec<Found>, QueryError> {
        if !needs_rows {
            return Ok(names);
        }
        let mut kept = Vec::new();
        for found in names {
            if !self.series(&found, condition, bounds).await?.is_empty() {
                kept.push(found);
            }
        }
        Ok(kept)
    }

    async fn tag_keys(
        &self,
        found: &Found,
        show: &Show,
        condition: Option<&Expression>,
        bounds: Bounds,
        needs_rows: bool,
    ) -> Result<Vec<String>, QueryError> {
        let mut keys: Vec<_> =
            found.measured.tags.iter().filter(|key| is_wanted(show.keys.as_ref(), key)).cloned().collect();
        if needs_rows {
            let series = self.series(found, condition, bounds).await?;
            keys.retain(|key| series.iter().any(|series| series.iter().any(|(known, _)| known == key)));
        }
        Ok(keys)
    }

    async fn tag_values(
        &self,
        found: &Found,
        show: &Show,
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<BTreeSet<(String, String)>, QueryError> {
        let wanted = |key: &String| is_wanted(show.keys.as_ref(), key);
        if !found.measured.tags.iter().any(wanted) {
            return Ok(BTreeSet::new());
        }
        let mut names = BTreeSet::new();
        if let Some(condition) = condition {
            columns(condition, &mut names);
        }
        // Only what is asked for and what is compared: fewer combinations than there are series.
        let tags: Vec<String> =
            found.measured.tags.iter().filter(|tag| wanted(tag) || names.contains(tag.as_str())).cloned().collect();
        let mut values = BTreeSet::new();
        for series in self.combinations(found, &tags, condition, bounds).await? {
            values.extend(series.into_iter().filter(|(key, _)| wanted(key)));
        }
        Ok(values)
    }

    async fn series(
        &self,
        found: &Found,
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<Vec<Series>, QueryError> {
        self.combinations(found, &found.measured.tags, condition, bounds).await
    }

    /// The combinations of these tags that rows in the range have and that hold the condition.
    pub(super) async fn combinations(
        &self,
        found: &Found,
        tags: &[String],
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<Vec<Series>, QueryError> {
        let node = condition.map(|condition| tag_condition(condition, tags));
        let Found { database, name, .. } = found;
        let bounds = (bounds.min, bounds.max);
        let plan = tag_rows(&self.catalog.engine, self.session, database, name, tags, bounds).await?;
        let mut batches = execute_stream(plan, self.session.task_ctx())?;
        let mut series = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let value = |n: usize| -> Option<&str> {
                    let column = batch.column(n).as_string_opt::<i32>()?;
                    column.is_valid(row).then(|| column.value(row))
                };
                let slots: Vec<Value> =
                    (0..tags.len()).map(|n| Value::String(value(n).unwrap_or_default().into())).collect();
                if node.as_ref().is_none_or(|node| node.holds(&slots)) {
                    let present =
                        tags.iter().enumerate().filter_map(|(n, tag)| Some((tag.clone(), value(n)?.to_owned())));
                    series.push(present.collect());
                }
                if series.len() > NAMES_MAX {
                    return Err(QueryError::TooComplex { what: "names in its answer", count_max: NAMES_MAX });
                }
            }
        }
        Ok(series)
    }
}

fn is_wanted(keys: Option<&KeyFilter>, key: &str) -> bool {
    match keys {
        None => true,
        Some(KeyFilter::Equal(wanted)) => key == wanted,
        Some(KeyFilter::NotEqual(unwanted)) => key != unwanted,
        Some(KeyFilter::In(wanted)) => wanted.iter().any(|wanted| wanted == key),
        Some(KeyFilter::Matches(regex)) => regex.is_match(key),
        Some(KeyFilter::MatchesNot(regex)) => !regex.is_match(key),
    }
}

/// A condition on tags compares them with texts and patterns, and does nothing else.
fn check(condition: &Expression) -> Result<(), String> {
    match condition {
        Expression::Binary { operator: Operator::And | Operator::Or, left, right } => {
            check(left)?;
            check(right)
        }
        Expression::Parenthesis(inner) => check(inner),
        Expression::Boolean(_) => Ok(()),
        Expression::Binary { operator: Operator::Equal | Operator::NotEqual, left, right } => {
            match (&**left, &**right) {
                (Expression::Column { .. }, Expression::String(_) | Expression::Column { .. }) => Ok(()),
                (Expression::String(_), Expression::Column { .. }) => Ok(()),
                _ => Err("invalid tag comparison operator".to_owned()),
            }
        }
        Expression::Binary { operator: Operator::Matches | Operator::MatchesNot, left, .. } => match &**left {
            Expression::Column { .. } => Ok(()),
            _ => Err("invalid tag comparison operator".to_owned()),
        },
        _ => Err("invalid tag comparison operator".to_owned()),
    }
}

/// The names in a condition.
pub(super) fn columns<'a>(condition: &'a Expression, names: &mut BTreeSet<&'a str>) {
    match condition {
        Expression::Column { name, .. } => {
            names.insert(name);
        }
        Expression::Binary { left, right, .. } => {
            columns(left, names);
            columns(right, names);
        }
        Expression::Parenthesis(inner) => columns(inner, names),
        _ => {}
    }
}

/// The condition over the values of these tags; any other name is an absent tag.
fn tag_condition(condition: &Expression, tags: &[String]) -> Node {
    match condition {
        Expression::Column { name, .. } => match tags.iter().position(|tag| tag == name) {
            Some(slot) => Node::Slot(slot),
            None => Node::Literal(Value::String("".into())),
        },
        Expression::String(text) => Node::Literal(Value::String(text.as_str().into())),
        Expression::Boolean(value) => Node::Literal(Value::Boolean(*value)),
        Expression::Parenthesis(inner) => tag_condition(inner, tags),
        Expression::Binary { operator: operator @ (Operator::Matches | Operator::MatchesNot), left, right } => {
            match &**right {
                Expression::Regex(regex) => Node::Matches {
                    value: Box::new(tag_condition(left, tags)),
                    regex: regex.clone(),
                    wanted: *operator == Operator::Matches,
                },
                _ => Node::Literal(Value::Boolean(false)),
            }
        }
        Expression::Binary { operator, left, right } => Node::Binary {
            operator: *operator,
            left: Box::new(tag_condition(left, tags)),
            right: Box::new(tag_condition(right, tags)),
        },
        _ => Node::Literal(Value::Null),
    }
}

/// `measurement,key=value`, as line protocol writes it.
fn series_key(measurement: &str, series: &Series) -> String {
    let escaped = |text: &str, special: &[char]| {
        let mut written = String::new();
        for letter in text.chars() {
            if special.contains(&letter) {
                written.push('\\');
            }
            written.push(letter);
        }
        written
    };
    let mut key = escaped(measurement, &[',', ' ']);
    for (tag, value) in series {
        key.push(',');
        key.push_str(&escaped(tag, &[',', '=', ' ']));
        key.push('=');
        key.push_str(&escaped(value, &[',', '=', ' ']));
    }
    key
}

/// The rows that LIMIT and OFFSET mean.
fn page(rows: impl Iterator<Item = Vec<Cell>>, show: &Show) -> Vec<Vec<Cell>> {
    let offset = usize::try_from(show.offset).unwrap_or(usize::MAX);
    let limit = if show.limit == 0 { usize::MAX } else { usize::try_from(show.limit).unwrap_or(usize::MAX) };
    rows.skip(offset).take(limit).collect()
}

/// A listing, if it has rows.
fn listing(name: Option<&str>, columns: &[&str], rows: Vec<Vec<Cell>>) -> Vec<Listing> {
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    vec![Listing { name: name.map(str::to_owned), columns, rows }]
}

/// How many there are; `estimated` is the way of asking whose answer InfluxDB calls an estimate.
fn count(name: Option<&str>, how: ShownAs, number: usize, estimated: ShownAs) -> Vec<Listing> {
    let column = if how == estimated { "cardinality estimation" } else { "count" };
    if number == 0 && (name.is_some() || how == ShownAs::ExactCardinality) {
        return Vec::new();
    }
    listing(name, &[column], vec![vec![Cell::Integer(number as i64)]])
}
