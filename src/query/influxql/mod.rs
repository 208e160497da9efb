//! InfluxQL: what statements mean, and their answers.
//!
//! | file | |
//! |---|---|
//! | [`compile`], [`fold`] | the form of a `SELECT`: which calls go together; constants |
//! | [`time`], [`window`] | conditions on time, buckets in zones |
//! | [`resolve`] | names, wildcards, types against what there is ([`names`]) |
//! | [`level`] | one `SELECT` over one measurement, ready to run |
//! | [`plan`] | rows found, filtered and sorted by DataFusion |
//! | [`series`] | one pass over each series: [`reduce`], fill, [`transform`], [`technical`], arithmetic, limits |
//! | [`series_exec`], [`rows`] | that pass as an operator |
//! | [`show`] | what there is |
//!
//! Always true:
//! - errors are in the words of InfluxDB 1, and what is not there yet is refused by name;
//! - each measurement keeps the types of its columns, since each is a plan of its own; answers come one after the other;
//! - what a query holds in memory does not grow with its answer: sorts spill, series are walked one at a time.
//!
//! Not here: how text becomes statements (`syntax::influxql`), how answers are written (`server::http::influxql`), statements
//! that change something (there too, by the engine's commands).

mod compile;
mod fold;
mod level;
mod names;
mod plan;
mod reduce;
mod resolve;
mod rows;
mod series;
mod series_exec;
mod show;
mod technical;
#[cfg(test)]
mod tests;
mod time;
mod transform;
mod value;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use datafusion::execution::SessionState;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::StreamExt;

use super::error::QueryError;
use super::stream::{QueryStream, on_cpu};
use super::{Queries, wire};
use crate::error::Result;
use crate::model::Rights;
use crate::syntax::influxql::{Select, ServerFacts, Statement};
use names::EngineCatalog;
use show::Shower;

/// For whom a statement is answered.
#[derive(Debug, Clone, Default)]
pub struct InfluxQlContext {
    /// The database that is meant where a statement names none.
    pub database: Option<String>,
    /// The retention policy that is meant where a statement names neither database nor policy.
    pub policy: Option<String>,
    /// What `now()` says, in nanoseconds since 1970.
    pub now: i64,
    /// What who asks may do. What may not be read does not exist.
    pub rights: Rights,
}

/// A value of a listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

/// A table of names: one series of an answer to `SHOW`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Of what, if that is said.
    pub name: Option<String>,
    /// Names of columns.
    pub columns: Vec<String>,
    /// A value for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// What a statement answers.
#[derive(Debug)]
pub enum InfluxQlAnswer {
    /// Names.
    Listings(Vec<Listing>),
    /// Rows of series, as they come.
    Series(Box<SeriesStream>),
}

/// Rows of one series, one after the other in an answer.
#[derive(Debug, Clone)]
pub struct SeriesRows {
    /// Whether they belong to another series than the rows before.
    pub begins: bool,
    /// The measurement.
    pub measurement: Arc<str>,
    /// The tags that tell the series apart, by key.
    pub tags: Vec<(String, String)>,
    /// The names of the columns; the first is that of the time.
    pub columns: Arc<[String]>,
    /// The columns: the time in nanoseconds, then one for each name.
    pub rows: RecordBatch,
}

/// One measurement of an answer.
struct Part {
    measurement: Arc<str>,
    groups: Vec<String>,
    columns: Arc<[String]>,
    plan: Arc<dyn ExecutionPlan>,
}

/// The answer to a `SELECT`, series by series. Dropping it ends the query.
pub struct SeriesStream {
    session: SessionState,
    cpu: tokio::runtime::Handle,
    /// Where times of the answer are local.
    zone: Option<chrono_tz::Tz>,
    parts: VecDeque<Part>,
    current: Option<(Part, QueryStream)>,
    /// A batch whose rows up to the number are told.
    batch: Option<(RecordBatch, usize)>,
    tags: Option<Vec<(String, String)>>,
}

impl std::fmt::Debug for SeriesStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesStream").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl SeriesStream {
    /// The zone in which times are to be told, if the statement names one.
    pub fn zone(&self) -> Option<chrono_tz::Tz> {
        self.zone
    }

    /// The next rows: of one series, and at most those of one batch.
    ///
    /// # Errors
    /// Whatever reading may say; nothing more comes then.
    pub async fn next(&mut self) -> Result<Option<SeriesRows>> {
        loop {
            if let Some(rows) = self.rows_of_batch() {
                return Ok(Some(rows));
            }
            let Some((_, stream)) = &mut self.current else {
                let Some(part) = self.parts.pop_front() else { return Ok(None) };
                // Operators start tasks of their own where they are started themselves.
                let (plan, context) = (Arc::clone(&part.plan), self.session.task_ctx());
                let stream = on_cpu(&self.cpu, async move { Ok(execute_stream(plan, context)?) }).await?;
                let schema = wire::wire_schema(&part.plan.schema());
                self.current = Some((part, QueryStream::start(&self.cpu, schema, stream)));
                self.tags = None;
                continue;
            };
            match stream.next().await {
                Some(batch) => self.batch = Some((batch?, 0)),
                None => self.current = None,
            }
        }
    }

    /// The rows of the next series in the batch.
    fn rows_of_batch(&mut self) -> Option<SeriesRows> {
        let (part, _) = self.current.as_ref()?;
        let (batch, start) = self.batch.take().filter(|(batch, start)| *start < batch.num_rows())?;
        let groups = part.groups.len();
        let tag = |row: usize, n: usize| batch.column(n).as_string::<i32>().value(row);
        let same = |row: usize| (0..groups).all(|n| tag(row, n) == tag(start, n));
        let end = (start + 1..batch.num_rows()).find(|row| !same(*row)).unwrap_or(batch.num_rows());
        let tags: Vec<_> =
            part.groups.iter().enumerate().map(|(n, key)| (key.clone(), tag(start, n).to_owned())).collect();
        let begins = self.tags.as_ref() != Some(&tags);
        let columns: Vec<usize> = (groups..batch.num_columns()).collect();
        let rows = batch.slice(start, end - start).project(&columns).ok()?;
        let (measurement, columns) = (Arc::clone(&part.measurement), Arc::clone(&part.columns));
        self.tags = Some(tags.clone());
        self.batch = Some((batch, end));
        Some(SeriesRows { begins, measurement, tags, columns, rows })
    }
}

impl SeriesRows {
    /// The times, in nanoseconds.
    pub fn times(&self) -> &[i64] {
        self.rows.column(0).as_primitive::<TimestampNanosecondType>().values()
    }
}

impl Queries {
    /// Answers a statement that reads. The rows of a `SELECT` are those of this moment, whenever they are taken.
    ///
    /// # Errors
    /// `Invalid` for what the statement can't mean, `Unsupported` for what is not there yet; both in the words of InfluxDB.
    pub async fn influxql(&self, statement: &Statement, context: &InfluxQlContext) -> Result<InfluxQlAnswer> {
        let catalog = EngineCatalog {
            engine: Arc::clone(&self.engine),
            database: context.database.clone(),
            policy: context.policy.clone(),
            rights: context.rights.clone(),
        };
        let session = self.sessions.open_without_tables();
        let (statement, now, cpu) = (statement.clone(), context.now, self.cpu.clone());
        let work = async move {
            match statement {
                Statement::Select(select) => select_answer(&select, now, &catalog, session, cpu).await,
                Statement::Explain { analyze: false, select, .. } => {
                    let parts = parts(&select, now, &catalog, &session).await?;
                    let plans = parts.iter().map(|part| displayable(part.plan.as_ref()).indent(false).to_string());
                    let lines: Vec<_> =
                        plans.flat_map(|plan| plan.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
                    let rows = lines.into_iter().map(|line| vec![Cell::Text(line)]).collect();
                    let columns = vec!["QUERY PLAN".to_owned()];
                    Ok(InfluxQlAnswer::Listings(vec![Listing { name: None, columns, rows }]))
                }
                Statement::Show(show) => {
                    let shower = Shower { catalog: &catalog, session: &session, now };
                    shower.show(&show).await.map(InfluxQlAnswer::Listings)
                }
                Statement::ShowServer(ServerFacts::Databases) => Ok(InfluxQlAnswer::Listings(databases(&catalog))),
                Statement::ShowRetentionPolicies { database } => {
                    policies(&catalog, database.as_deref()).map(InfluxQlAnswer::Listings)
                }
                other => Err(QueryError::StatementUnsupported(kind_of(&other))),
            }
        };
        Ok(on_cpu(&self.cpu, work).await?)
    }
}

/// The words that a statement begins with. Not more: others may be names and passwords.
fn kind_of(statement: &Statement) -> String {
    let text = statement.to_string();
    let is_keyword = |word: &&str| word.bytes().all(|letter| letter.is_ascii_uppercase());
    text.split(' ').take_while(is_keyword).take(2).collect::<Vec<_>>().join(" ")
}

async fn select_answer(
    select: &Select,
    now: i64,
    catalog: &EngineCatalog,
    session: SessionState,
    cpu: tokio::runtime::Handle,
) -> std::result::Result<InfluxQlAnswer, QueryError> {
    let parts = parts(select, now, catalog, &session).await?.into();
    let stream = SeriesStream { session, cpu, zone: select.zone, parts, current: None, batch: None, tags: None };
    Ok(InfluxQlAnswer::Series(Box::new(stream)))
}

/// A plan for each measurement.
async fn parts(
    select: &Select,
    now: i64,
    catalog: &EngineCatalog,
    session: &SessionState,
) -> std::result::Result<Vec<Part>, QueryError> {
    let compiled = compile::compile(select, now).map_err(QueryError::Statement)?;
    let query = resolve::resolve(&compiled, catalog).map_err(QueryError::Statement)?;
    let names = std::iter::once(compiled.time_name.clone()).chain(query.columns.iter().cloned());
    let columns: Arc<[String]> = names.collect();
    let mut parts = Vec::new();
    for (measurement, level) in level::levels(&query).map_err(QueryError::Statement)? {
        let plan = plan::plan(&level, &catalog.engine, session).await?;
        let measurement = Arc::from(measurement.as_str());
        parts.push(Part { measurement, groups: level.groups, columns: Arc::clone(&columns), plan });
    }
    Ok(parts)
}

fn databases(catalog: &EngineCatalog) -> Vec<Listing> {
    let mut names = catalog.engine.databases();
    names.retain(|name| catalog.rights.see(name));
    let known: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    // A retention policy of a database is none itself.
    let is_policy = |name: &str| name.split_once('/').is_some_and(|(database, _)| known.contains(&database));
    let rows = known.iter().filter(|name| !is_policy(name)).map(|name| vec![Cell::Text((*name).to_owned())]);
    vec![Listing { name: Some("databases".to_owned()), columns: vec!["name".to_owned()], rows: rows.collect() }]
}

fn policies(catalog: &EngineCatalog, database: Option<&str>) -> std::result::Result<Vec<Listing>, QueryError> {
    let database = catalog.named(database).map_err(QueryError::Statement)?;
    let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"].map(str::to_owned);
    let rows = catalog.policies(&database).into_iter().map(|(policy, own)| {
        let period = catalog.retention(&own);
        let is_default = policy == names::DEFAULT_POLICY;
        vec![
            Cell::Text(policy),
            Cell::Text(go_duration(period.map_or(0, |period| period.as_secs()))),
            Cell::Text(shard_duration(period.map_or(0, |period| period.as_secs()))),
            Cell::Integer(1),
            Cell::Boolean(is_default),
        ]
    });
    Ok(vec![Listing { name: None, columns: columns.to_vec(), rows: rows.collect() }])
}

/// A span as InfluxDB writes it: `168h0m0s`.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// What InfluxDB chooses for a duration. There are no shards here; clients show the number.
fn shard_duration(seconds: u64) -> String {
    const DAY: u64 = 24 * 3600;
    go_duration(match seconds {
        0 => 7 * DAY,
        seconds if seconds < 2 * DAY => 3600,
        seconds if seconds <= 180 * DAY => DAY,
        _ => 7 * DAY,
    })
}
