//! `SHOW`: what there is, from the catalog; where tags or times are asked for, from the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::super::error::QueryError;
use super::super::session::context;
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
                let names = self.that_hold(names, condition.as_ref(), bounds, needs_rows).await?;
                let rows = names.into_iter().map(|found| vec![Cell::Text(found.name)]);
                Ok(listing(Some("measurements"), &["name"], page(rows, show)))
            }
            (Shown::Measurements, how) => {
                let names = self.that_hold(names, condition.as_ref(), bounds, needs_rows).await?;
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
                    let tags = &found.measured.tags;
                    let series = self.each_combination(&found, tags, condition.as_ref(), bounds, |_| Ok(())).await?;
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

    /// The measurements that have rows in the range and hold the condition.
    async fn that_hold(
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
            let holds = match condition {
                Some(condition) => self.measurement_holds(&found, condition, bounds).await?,
                None => !self.combinations(&found, &[], None, bounds).await?.is_empty(),
            };
            if holds {
                kept.push(found);
            }
        }
        Ok(kept)
    }

    /// Whether a condition on tags holds for a measurement as a whole: `host = 'a'` if some series has that value, `host != 'a'` if
    /// none has. Of a tag that it has not, nothing holds.
    async fn measurement_holds(
        &self,
        found: &Found,
        condition: &Expression,
        bounds: Bounds,
    ) -> Result<bool, QueryError> {
        let mut names = BTreeSet::new();
        columns(condition, &mut names);
        let mut values = BTreeMap::new();
        for tag in found.measured.tags.iter().filter(|tag| names.contains(tag.as_str())) {
            let known = self.combinations(found, std::slice::from_ref(tag), None, bounds).await?;
            let known: Vec<String> = known.into_iter().flatten().map(|(_, value)| value).collect();
            values.insert(tag.as_str(), known);
        }
        let has_rows = !self.combinations(found, &[], None, bounds).await?.is_empty();
        Ok(has_rows && holds_together(condition, &values))
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
            let tags = &found.measured.tags;
            let mut is_there = vec![false; tags.len()];
            let see = |values: &[Option<&str>]| {
                is_there.iter_mut().zip(values).for_each(|(is_there, value)| *is_there |= value.is_some());
                Ok(())
            };
            self.each_combination(found, tags, condition, bounds, see).await?;
            keys.retain(|key| tags.iter().zip(&is_there).any(|(tag, is_there)| tag == key && *is_there));
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
        let memory = MemoryConsumer::new("SHOW").register(&self.session.runtime_env().memory_pool);
        let mut values: BTreeSet<(String, String)> = BTreeSet::new();
        let mut last: Vec<Option<String>> = vec![None; tags.len()];
        let add = |row: &[Option<&str>]| {
            for ((tag, value), last) in tags.iter().zip(row).zip(&mut last) {
                // Sorted rows bring the same again and again.
                let Some(value) = value.filter(|value| wanted(tag) && last.as_deref() != Some(*value)) else {
                    continue;
                };
                *last = Some(value.to_owned());
                if values.insert((tag.clone(), value.to_owned())) {
                    memory.try_grow(size_of::<(String, String)>() + tag.len() + value.len())?;
                }
            }
            Ok(())
        };
        self.each_combination(found, &tags, condition, bounds, add).await?;
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
        let memory = MemoryConsumer::new("SHOW").register(&self.session.runtime_env().memory_pool);
        let mut series: Vec<Series> = Vec::new();
        let add = |values: &[Option<&str>]| {
            let pair = |(tag, value): (&String, &Option<&str>)| Some((tag.clone(), (*value)?.to_owned()));
            let pairs: Series = tags.iter().zip(values).filter_map(pair).collect();
            let bytes = pairs.iter().map(|(tag, value)| size_of::<(String, String)>() + tag.len() + value.len());
            memory.try_grow(size_of::<Series>() + bytes.sum::<usize>())?;
            series.push(pairs);
            Ok(())
        };
        self.each_combination(found, tags, condition, bounds, add).await?;
        Ok(series)
    }

    /// Calls `each` with the values of these tags in each combination that rows in the range have and that holds the condition,
    /// sorted. Returns how many there are.
    async fn each_combination(
        &self,
        found: &Found,
        tags: &[String],
        condition: Option<&Expression>,
        bounds: Bounds,
        mut each: impl FnMut(&[Option<&str>]) -> DataFusionResult<()> + Send,
    ) -> Result<usize, QueryError> {
        let node = condition.map(|condition| tag_condition(condition, tags));
        let Found { database, name, .. } = found;
        let bounds = (bounds.min, bounds.max);
        let plan = tag_rows(&self.catalog.engine, self.session, database, name, tags, bounds).await?;
        let mut batches = execute_stream(plan, Arc::new(context(self.session)))?;
        let mut count = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let columns: Vec<_> = batch.columns().iter().filter_map(|column| column.as_string_opt::<i32>()).collect();
            for row in 0..batch.num_rows() {
                let tagged = columns.iter().take(tags.len());
                let values: Vec<Option<&str>> =
                    tagged.map(|column| column.is_valid(row).then(|| column.value(row))).collect();
                let holds = node.as_ref().is_none_or(|node| {
                    let slots: Vec<Value> =
                        values.iter().map(|value| Value::String(value.unwrap_or_default().into())).collect();
                    node.holds(&slots)
                });
                if holds {
                    count += 1;
                    each(&values)?;
                }
            }
        }
        Ok(count)
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

/// A condition over all values that tags have in a measurement.
fn holds_together(condition: &Expression, values: &BTreeMap<&str, Vec<String>>) -> bool {
    let has = |tag: &Expression, is: &dyn Fn(&str) -> bool, wanted: bool| {
        let Expression::Column { name, .. } = tag else { return false };
        values.get(name.as_str()).is_some_and(|values| values.iter().any(|value| is(value)) == wanted)
    };
    match condition {
        Expression::Parenthesis(inner) => holds_together(inner, values),
        Expression::Boolean(truth) => *truth,
        Expression::Binary { operator, left, right } => match (operator, &**left, &**right) {
            (Operator::And, ..) => holds_together(left, values) && holds_together(right, values),
            (Operator::Or, ..) => holds_together(left, values) || holds_together(right, values),
            (Operator::Equal | Operator::NotEqual, Expression::String(text), tag)
            | (Operator::Equal | Operator::NotEqual, tag, Expression::String(text)) => {
                has(tag, &|value| value == text, *operator == Operator::Equal)
            }
            (Operator::Matches | Operator::MatchesNot, tag, Expression::Regex(regex)) => {
                has(tag, &|value| regex.is_match(value), *operator == Operator::Matches)
            }
            _ => false,
        },
        _ => false,
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
