//! `SHOW`: what there is, from the catalog; where tags or times are asked for, from the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::super::error::QueryError;
use super::super::session::context;
use super::names::EngineCatalog;
use super::plan::tag_rows;
use super::resolve::{Catalog, Measured};
use super::series_list::{SeriesList, SortedSeries};
use super::tag_condition::{check, columns, holds_together, of_values, plain};
use super::time::{self, Bounds, Now};
use super::value::Value;
use super::{Cell, Listing};
use crate::model::DatabaseName;
use crate::syntax::influxql::{Expression, KeyFilter, Measurement, MeasurementName, Show, Shown, ShownAs, Source};

/// What a `SHOW` reads.
pub(super) struct Shower<'a> {
    pub(super) catalog: &'a EngineCatalog,
    pub(super) session: &'a SessionState,
    pub(super) now: i64,
}

/// A measurement of one database, or of one retention policy.
pub(super) struct Place {
    pub(super) database: DatabaseName,
    pub(super) name: String,
    pub(super) measured: Arc<Measured>,
}

/// A measurement that is there, wherever it is meant: in InfluxDB it is one, whatever retention policies it has rows in.
struct Found {
    name: String,
    places: Vec<Place>,
}

impl Found {
    fn tags(&self) -> BTreeSet<&String> {
        self.places.iter().flat_map(|place| &place.measured.tags).collect()
    }

    /// Names and types. One name may have several types in several places.
    fn fields(&self) -> BTreeSet<(&String, &'static str)> {
        let fields = self.places.iter().flat_map(|place| &place.measured.fields);
        fields.map(|(name, field)| (name, field.name())).collect()
    }
}

/// The tags of one series: key and value, by key; absent ones are left out.
pub(super) type Series = Vec<(String, String)>;

impl Shower<'_> {
    pub(super) async fn show(&self, show: &Show) -> Result<Vec<Listing>, QueryError> {
        let (condition, bounds) = self.condition(show)?;
        let condition = condition.as_ref();
        let needs_rows = condition.is_some() || bounds != Bounds::default();
        let how = how(show);
        let names = self.measurements(show, how)?;
        let mut listings = Vec::new();
        match show.what {
            Shown::Measurements => {
                let names = self.that_hold(names, condition, bounds, needs_rows).await?;
                if how != ShownAs::List {
                    return Ok(count(None, how, names.len(), ShownAs::Cardinality));
                }
                let rows = names.into_iter().map(|found| vec![Cell::Text(found.name)]);
                listings.extend(listing(Some("measurements"), &["name"], paged(show, rows.collect())));
            }
            Shown::FieldKeys => {
                for found in names {
                    if condition.is_some() && self.series_count(&found, condition, bounds).await? == 0 {
                        continue;
                    }
                    let fields = found.fields();
                    if how == ShownAs::List {
                        let rows = fields
                            .into_iter()
                            .map(|(name, field)| vec![Cell::Text(name.clone()), Cell::Text(field.to_owned())]);
                        listings.extend(listing(
                            Some(&found.name),
                            &["fieldKey", "fieldType"],
                            paged(show, rows.collect()),
                        ));
                    } else {
                        let names: BTreeSet<_> = fields.into_iter().map(|(name, _)| name).collect();
                        listings.extend(count(Some(&found.name), how, names.len(), ShownAs::List));
                    }
                }
            }
            Shown::TagKeys => {
                for found in names {
                    let keys = self.tag_keys(&found, show, condition, bounds, needs_rows).await?;
                    if how == ShownAs::List {
                        let rows = keys.into_iter().map(|key| vec![Cell::Text(key.clone())]);
                        listings.extend(listing(Some(&found.name), &["tagKey"], paged(show, rows.collect())));
                    } else {
                        listings.extend(count(Some(&found.name), how, keys.len(), ShownAs::List));
                    }
                }
            }
            Shown::TagValues => {
                for found in names {
                    let values = self.tag_values(&found, show, condition, bounds).await?;
                    let number: usize = values.iter().map(|(_, values)| values.len()).sum();
                    if how == ShownAs::List {
                        let row = |key: &String, value| vec![Cell::Text(key.clone()), Cell::Text(value)];
                        let rows = values
                            .into_iter()
                            .flat_map(|(key, values)| values.into_iter().map(move |value| row(key, value)));
                        let page = page(show, 0..number);
                        let rows = rows.skip(page.start).take(page.len()).collect();
                        listings.extend(listing(Some(&found.name), &["key", "value"], rows));
                    } else {
                        listings.extend(count(Some(&found.name), how, number, ShownAs::List));
                    }
                }
            }
            Shown::Series if how == ShownAs::List => {
                let (mut before, mut rows) = (0, Vec::new());
                for found in names {
                    let series = self.series(&found, condition, bounds).await?;
                    let page = page(show, before..before + series.len());
                    let places = page.start - before..page.end - before;
                    rows.extend(series.keys(places).map(|key| vec![Cell::Text(key)]));
                    before += series.len();
                }
                listings.extend(listing(None, &["key"], rows));
            }
            Shown::Series => {
                let mut sum = 0;
                for found in names {
                    let series = self.series_count(&found, condition, bounds).await?;
                    sum += series;
                    listings.extend(count(Some(&found.name), how, series, ShownAs::List));
                }
                if how == ShownAs::Cardinality {
                    return Ok(count(None, how, sum, ShownAs::Cardinality));
                }
            }
        }
        Ok(listings)
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

    /// The measurements that are named, or all, sorted.
    fn measurements(&self, show: &Show, how: ShownAs) -> Result<Vec<Found>, QueryError> {
        let (database, policy) = match &show.on {
            Some(on) => match (&on.database, &on.policy) {
                (None, _) | (_, Some(None)) => {
                    return Err(QueryError::Statement("ON with * is not supported; name one database".to_owned()));
                }
                (database, policy) => (database.as_deref(), policy.as_ref().and_then(|policy| policy.as_deref())),
            },
            None => (None, None),
        };
        let mut found: BTreeMap<String, BTreeMap<String, Arc<Measured>>> = BTreeMap::new();
        let mut add = |databases: &[String], wanted: &dyn Fn(&str) -> bool| {
            for database in databases {
                for name in self.catalog.measurements(database).into_iter().filter(|name| wanted(name)) {
                    if let Some(measured) = self.catalog.measured(database, &name) {
                        found.entry(name).or_default().insert(database.clone(), measured);
                    }
                }
            }
        };
        let is_of_all_policies = is_of_all_policies(show.what, how);
        let places = |own: Option<&str>, own_policy: Option<&str>| {
            let (database, policy) = (own.or(database), own_policy.or(policy));
            match policy {
                None if is_of_all_policies => self.catalog.of_all_policies(database),
                policy => self.catalog.database(database, policy).map(|database| vec![database]),
            }
            .map_err(QueryError::Statement)
        };
        if show.sources.is_empty() {
            add(&places(None, None)?, &|_| true);
        }
        for source in &show.sources {
            let Source::Measurement(Measurement { database, policy, name }) = source else { continue };
            let databases = places(database.as_deref(), policy.as_deref())?;
            match name {
                MeasurementName::Name(wanted) => add(&databases, &|name| name == wanted),
                MeasurementName::Regex(regex) => add(&databases, &|name| regex.is_match(name)),
            }
        }
        let found = found.into_iter().map(|(name, places)| {
            let places = places.into_iter().map(|(database, measured)| {
                let database = DatabaseName::new(&database).map_err(|_| QueryError::DatabaseNotFound(database))?;
                Ok(Place { database, name: name.clone(), measured })
            });
            Ok(Found { places: places.collect::<Result<_, QueryError>>()?, name })
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
                None => self.has_rows(&found, bounds).await?,
            };
            if holds {
                kept.push(found);
            }
        }
        Ok(kept)
    }

    async fn has_rows(&self, found: &Found, bounds: Bounds) -> Result<bool, QueryError> {
        for place in &found.places {
            if self.each_combination(place, &[], None, bounds, |_| Ok(())).await? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
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
        let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for place in &found.places {
            for tag in place.measured.tags.iter().filter(|tag| names.contains(tag.as_str())) {
                let known = self.combinations(place, std::slice::from_ref(tag), None, bounds).await?;
                let known = known.into_iter().flatten().map(|(_, value)| value);
                values.entry(tag).or_default().extend(known);
            }
        }
        Ok(self.has_rows(found, bounds).await? && holds_together(condition, &values))
    }

    async fn tag_keys<'a>(
        &self,
        found: &'a Found,
        show: &Show,
        condition: Option<&Expression>,
        bounds: Bounds,
        needs_rows: bool,
    ) -> Result<BTreeSet<&'a String>, QueryError> {
        let mut keys: BTreeSet<_> = found.tags().into_iter().filter(|key| is_wanted(show.keys.as_ref(), key)).collect();
        if needs_rows {
            let mut there = BTreeSet::new();
            for place in &found.places {
                let tags = &place.measured.tags;
                let mut is_there = vec![false; tags.len()];
                let see = |values: &[Option<&str>]| {
                    is_there.iter_mut().zip(values).for_each(|(is_there, value)| *is_there |= value.is_some());
                    Ok(())
                };
                self.each_combination(place, tags, condition, bounds, see).await?;
                there.extend(tags.iter().zip(is_there).filter(|(_, is_there)| *is_there).map(|(tag, _)| tag));
            }
            keys.retain(|key| there.contains(key));
        }
        Ok(keys)
    }

    /// The tags that are asked for, each with its values, sorted.
    async fn tag_values<'a>(
        &self,
        found: &'a Found,
        show: &Show,
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<Vec<(&'a String, Vec<String>)>, QueryError> {
        let mut names = BTreeSet::new();
        if let Some(condition) = condition {
            columns(condition, &mut names);
        }
        let mut all = Vec::new();
        for tag in found.tags().into_iter().filter(|tag| is_wanted(show.keys.as_ref(), tag)) {
            let memory = self.memory();
            let mut values: Vec<String> = Vec::new();
            for place in found.places.iter().filter(|place| place.measured.tags.contains(tag)) {
                // Only what is asked for and what is compared: fewer combinations than there are series.
                let compared = place.measured.tags.iter().filter(|name| *name != tag && names.contains(name.as_str()));
                let tags: Vec<String> = std::iter::once(tag).chain(compared).cloned().collect();
                let add = |row: &[Option<&str>]| {
                    let value = row.first().copied().flatten();
                    let Some(value) = value.filter(|value| values.last().is_none_or(|last| last != value)) else {
                        return Ok(());
                    };
                    values.push(value.to_owned());
                    memory.try_grow(size_of::<String>() + value.len())
                };
                self.each_combination(place, &tags, condition, bounds, add).await?;
            }
            // Stable, because that sort sees where they rise already.
            values.sort();
            values.dedup();
            all.push((tag, values));
        }
        Ok(all)
    }

    /// The series that have rows in the range and hold the condition, each once.
    async fn series<'a>(
        &self,
        found: &'a Found,
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<SortedSeries<'a>, QueryError> {
        let mut all = SeriesList::new(&found.name, found.tags().into_iter().collect(), self.memory());
        for place in &found.places {
            let tags = &place.measured.tags;
            let places = all.places(tags);
            self.each_combination(place, tags, condition, bounds, |values| all.push(&places, values)).await?;
        }
        Ok(all.sorted())
    }

    async fn series_count(
        &self,
        found: &Found,
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<usize, QueryError> {
        if let [place] = found.places.as_slice() {
            return self.each_combination(place, &place.measured.tags, condition, bounds, |_| Ok(())).await;
        }
        // One that is in several places is one.
        Ok(self.series(found, condition, bounds).await?.len())
    }

    fn memory(&self) -> MemoryReservation {
        MemoryConsumer::new("SHOW").register(&self.session.runtime_env().memory_pool)
    }

    /// The combinations of these tags that rows in the range have and that hold the condition.
    pub(super) async fn combinations(
        &self,
        place: &Place,
        tags: &[String],
        condition: Option<&Expression>,
        bounds: Bounds,
    ) -> Result<Vec<Series>, QueryError> {
        let memory = self.memory();
        let mut series: Vec<Series> = Vec::new();
        let add = |values: &[Option<&str>]| {
            let pairs = series_of(tags, values);
            memory.try_grow(bytes(&pairs))?;
            series.push(pairs);
            Ok(())
        };
        self.each_combination(place, tags, condition, bounds, add).await?;
        Ok(series)
    }

    /// Calls `each` with the values of these tags in each combination that rows in the range have and that holds the condition.
    /// Returns how many there are.
    async fn each_combination(
        &self,
        place: &Place,
        tags: &[String],
        condition: Option<&Expression>,
        bounds: Bounds,
        mut each: impl FnMut(&[Option<&str>]) -> DataFusionResult<()> + Send,
    ) -> Result<usize, QueryError> {
        let node = condition.map(|condition| of_values(condition, tags));
        let Place { database, name, .. } = place;
        let bounds = (bounds.min, bounds.max);
        let wanted = condition.map(|condition| plain(condition, tags)).unwrap_or_default();
        let plan = tag_rows(&self.catalog.engine, self.session, database, name, tags, bounds, &wanted).await?;
        let mut batches = execute_stream(plan, Arc::new(context(self.session)))?;
        let mut count = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let columns: Vec<_> = batch.columns().iter().filter_map(|column| column.as_string_opt::<i32>()).collect();
            let mut values: Vec<Option<&str>> = Vec::with_capacity(tags.len());
            for row in 0..batch.num_rows() {
                let tagged = columns.iter().take(tags.len());
                values.clear();
                values.extend(tagged.map(|column| column.is_valid(row).then(|| column.value(row))));
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

/// How a statement answers: InfluxDB estimates only what there is in a database as a whole, and counts the rest.
fn how(show: &Show) -> ShownAs {
    match show.how {
        ShownAs::Cardinality if !show.sources.is_empty() || show.condition.is_some() => ShownAs::ExactCardinality,
        how => how,
    }
}

/// Whether a statement is about all retention policies where it names none, as in InfluxDB what its index of series answers; what
/// it makes a query of is about that of the request or the default one.
fn is_of_all_policies(what: Shown, how: ShownAs) -> bool {
    match how {
        ShownAs::List => matches!(what, Shown::Measurements | Shown::TagKeys | Shown::TagValues),
        ShownAs::Cardinality => matches!(what, Shown::Measurements | Shown::Series),
        ShownAs::ExactCardinality => false,
    }
}

/// What of these tags is there.
fn series_of(tags: &[String], values: &[Option<&str>]) -> Series {
    tags.iter().zip(values).filter_map(|(tag, value)| Some((tag.clone(), (*value)?.to_owned()))).collect()
}

/// About how many bytes of memory a series takes.
fn bytes(series: &Series) -> usize {
    let pairs = series.iter().map(|(tag, value)| size_of::<(String, String)>() + tag.len() + value.len());
    size_of::<Series>() + pairs.sum::<usize>()
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

/// Which of these rows LIMIT and OFFSET mean, where the first of all is row 0.
fn page(show: &Show, rows: Range<usize>) -> Range<usize> {
    let first = usize::try_from(show.offset).unwrap_or(usize::MAX);
    let limit = if show.limit == 0 { usize::MAX } else { usize::try_from(show.limit).unwrap_or(usize::MAX) };
    let start = first.clamp(rows.start, rows.end);
    start..first.saturating_add(limit).clamp(start, rows.end)
}

/// Those of some rows.
fn paged(show: &Show, rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    let page = page(show, 0..rows.len());
    rows.into_iter().skip(page.start).take(page.len()).collect()
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
