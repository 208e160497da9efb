//! InfluxQL: what statements mean, and their answers.
//!
//! | file | |
//! |---|---|
//! | [`compile`], [`arguments`], [`fold`] | the form of a `SELECT`: which calls go together; constants |
//! | [`time`], [`window`] | conditions on time, buckets in zones |
//! | [`resolve`] | names, wildcards, types against what there is ([`names`]) |
//! | [`level`] | one `SELECT` over one measurement, ready to run |
//! | [`plan`], [`filters`], [`condition`] | rows found, filtered and sorted by DataFusion |
//! | [`kept`] | plans that come again for other times |
//! | [`ends`] | which levels need only the rows at the ends of series, or the first buckets |
//! | [`reduction`], [`buckets`], [`extremes`], [`collected`] | buckets reduced to a row by DataFusion |
//! | [`series`] | one pass over each series: [`reduce`], [`estimate`], fill, [`transform`], [`technical`], [`holt_winters`], arithmetic, [`date_part`], limits |
//! | [`series_exec`], [`rows`] | that pass as an operator |
//! | [`in_turn`] | stretches of time, sorted one after the other |
//! | [`show`], [`tag_condition`] | what there is |
//! | [`answerer`] | what a statement that reads answers |
//! | [`flat`] | the same as one table, for who knows no series |
//! | [`into`], [`removal`] | what `INTO` writes, and which rows a `DELETE` is about |
//!
//! Always true:
//! - errors are in the words of InfluxDB 1, and what is not there yet is refused by name;
//! - each measurement keeps the types of its columns, since each is a plan of its own; answers come one after the other;
//! - what a query holds in memory does not grow with its answer: sorts spill, series are walked one at a time.
//!
//! Not here: how text becomes statements (`syntax::influxql`), how answers are written and which rights a change needs
//! (`server::http::influxql`).

mod answerer;
mod arguments;
mod buckets;
mod collected;
mod compile;
mod condition;
mod date_part;
mod ends;
mod estimate;
mod extremes;
mod filters;
mod flat;
mod fold;
mod holt_winters;
mod in_turn;
mod into;
mod kept;
mod level;
mod names;
mod plan;
mod reduce;
mod reduction;
mod removal;
mod resolve;
mod rows;
mod series;
mod series_exec;
mod series_list;
mod show;
mod tag_condition;
mod technical;
#[cfg(test)]
mod tests;
mod time;
mod transform;
mod value;
mod window;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use datafusion::execution::SessionState;
use futures::{FutureExt, StreamExt, TryFutureExt};

use super::brief::Step;
use super::change::uncertain;
use super::processors::Processors;
use super::running::{Lane, Origin, Watch};
use super::stream::{QueryStream, Reading, on_cpu};
use super::{Queries, wire};
use crate::error::{Error, Result};
use crate::model::{Action, Rights};
use crate::syntax::influxql::{Dropped, Statement};
use answerer::Part;

pub(in crate::query) use answerer::Answerer;
pub(in crate::query) use buckets::BUCKET;
pub(in crate::query) use flat::FlatPlan;
pub use into::Written;
pub(in crate::query) use kept::KeptLevels;
pub(in crate::query) use names::EngineCatalog;
pub(in crate::query) use plan::StretchRows;
#[cfg(test)]
pub(in crate::query) use plan::tag_rows;
pub use removal::Removal;

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
    /// From whom statements come, and how long they wait for one.
    pub origin: Origin,
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
    /// An instant in nanoseconds since 1970.
    Time(i64),
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

/// The answer to a `SELECT`, series by series. Dropping it ends the query.
pub struct SeriesStream {
    session: SessionState,
    cpu: Processors,
    /// Where times of the answer are local.
    zone: Option<chrono_tz::Tz>,
    parts: VecDeque<Part>,
    current: Option<(Part, QueryStream)>,
    /// Goes with the last part.
    watch: Option<Arc<Watch>>,
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
    /// Waits for a slot and begins with the first measurement, on the threads that planned it.
    async fn begin(
        session: SessionState,
        cpu: Processors,
        zone: Option<chrono_tz::Tz>,
        mut parts: VecDeque<Part>,
        watch: Arc<Watch>,
    ) -> Result<Self> {
        watch.admit(Lane::Rows).await?;
        let first = parts.pop_front();
        let mut series = Self { session, cpu, zone, parts, current: None, watch: Some(watch), batch: None, tags: None };
        if let Some(first) = first {
            series.begin_part(first).await?;
        }
        Ok(series)
    }

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
                let Some(part) = self.parts.pop_front() else {
                    if let Some(watch) = self.watch.take() {
                        watch.complete();
                    }
                    return Ok(None);
                };
                self.begin_part(part).await?;
                continue;
            };
            match stream.next().await {
                Some(batch) => self.batch = Some((batch?, 0)),
                None => self.current = None,
            }
        }
    }

    /// Begins what is to be told of a measurement.
    async fn begin_part(&mut self, part: Part) -> Result<()> {
        let is_last = self.parts.is_empty();
        let watch = if is_last { self.watch.take() } else { self.watch.clone() };
        let watch = watch.ok_or_else(|| Error::internal("a measurement after the last one"))?;
        let (plan, context) = (Arc::clone(&part.plan), watch.context(&self.session));
        let (cpu, reading) = (self.cpu.clone(), Reading { watch: Arc::clone(&watch), is_last });
        let schema = wire::wire_schema(&part.plan.schema());
        let begun = on_cpu(&self.cpu.quick, async move {
            let (rows, threads) = cpu.start(plan, context).await?;
            Ok(QueryStream::start(&threads, schema, rows, reading).await)
        });
        self.current = Some((part, watch.until_stopped(Box::pin(begun.map_err(Error::from))).await?));
        self.tags = None;
        Ok(())
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
    /// `Invalid` for what the statement can't mean, `Unsupported` for what is not there; both in the words of InfluxDB.
    pub async fn influxql(&self, statement: &Statement, context: &InfluxQlContext) -> Result<InfluxQlAnswer> {
        let text = statement.to_string();
        let (answerer, watch) = (self.answerer(context), self.watch(&text, context));
        let (statement, cpu) = (statement.clone(), self.cpu.clone());
        let question = (Step::Answer, context.database.as_deref().unwrap_or_default(), text.as_str());
        if let Statement::Select(select) = statement {
            let running = Arc::clone(&watch);
            let work = async move {
                let parts: VecDeque<Part> = answerer.parts(&select).await?.into();
                running.planned();
                Ok(SeriesStream::begin(answerer.session, cpu, select.zone, parts, running).await)
            };
            let series = self.brief.run(&self.cpu.quick, question, Box::pin(work));
            let series =
                watch.until_stopped(Box::pin(series.map(|series| series.map_err(Error::from).flatten()))).await?;
            return Ok(InfluxQlAnswer::Series(Box::new(series)));
        }
        watch.planned();
        let (lane, running) = (lane(&statement), Arc::clone(&watch));
        let work = async move {
            let listings = answerer.listings(&statement).await;
            drop(running);
            listings
        };
        let listings = self.brief.run(&self.cpu.quick, question, Box::pin(work));
        watch.run(lane, Box::pin(listings.map_err(Error::from))).await.map(InfluxQlAnswer::Listings)
    }

    /// Does the work of a statement that changes something, from the first look at rows to the last change: one row among the queries,
    /// with a slot, and ended like any other.
    ///
    /// # Errors
    /// What the work says; `Busy` and `Limited` if there is no slot; `Cancelled` and `TimedOut` if it is ended: the work is dropped
    /// then, and may be done or not.
    pub async fn influxql_change<T>(
        &self,
        statement: &Statement,
        context: &InfluxQlContext,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let watch = self.watch(&statement.to_string(), context);
        watch.planned();
        let lane = match statement {
            Statement::Delete(_) | Statement::DropSeries(_) => Lane::Rows,
            _ => Lane::Server,
        };
        watch.run(lane, Box::pin(work)).await.map_err(uncertain)
    }

    /// Watches a statement from now on.
    fn watch(&self, text: &str, context: &InfluxQlContext) -> Arc<Watch> {
        self.running.begin(&context.origin, context.database.as_deref(), &without_passwords(text))
    }

    fn answerer(&self, context: &InfluxQlContext) -> Answerer {
        let catalog = EngineCatalog {
            engine: Arc::clone(&self.engine),
            database: context.database.clone(),
            policy: context.policy.clone(),
            rights: context.rights.clone(),
            action: Action::Read,
        };
        let seen = self.seen(&context.origin.asker, &context.rights);
        Answerer { catalog, session: self.sessions.open_for_influxql(), seen, now: context.now }
    }
}

/// Whether a statement changes something, so that it is not for [`Queries::influxql`].
pub fn changes(statement: &Statement) -> bool {
    match statement {
        Statement::Select(select) => select.into.is_some(),
        Statement::CreateDatabase(_)
        | Statement::CreateRetentionPolicy(_)
        | Statement::AlterRetentionPolicy(_)
        | Statement::Delete(_)
        | Statement::DropSeries(_)
        | Statement::KillQuery { .. } => true,
        Statement::Drop(dropped) => {
            matches!(dropped, Dropped::Database(_) | Dropped::Measurement(_) | Dropped::RetentionPolicy { .. })
        }
        _ => false,
    }
}

/// The slots of the server for what is told of it without looking at rows.
fn lane(statement: &Statement) -> Lane {
    match statement {
        Statement::ShowServer(_) | Statement::ShowRetentionPolicies { .. } | Statement::ShowGrants { .. } => {
            Lane::Server
        }
        _ => Lane::Rows,
    }
}

/// The text of a statement as others may see it: without what follows the word `PASSWORD` in those that set one.
pub(super) fn without_passwords(text: &str) -> Cow<'_, str> {
    const WORD: &str = "PASSWORD";
    let upper = text.to_ascii_uppercase();
    let mut words = upper.split_ascii_whitespace();
    let sets_one = matches!((words.next(), words.next()), (Some("CREATE"), Some("USER")) | (Some("SET"), Some(WORD)));
    match upper.find(WORD).filter(|_| sets_one) {
        Some(at) => Cow::Owned(format!("{} [REDACTED]", &text[..at + WORD.len()])),
        None => Cow::Borrowed(text),
    }
}

/// The words that a statement begins with. Not more: others may be names and passwords.
fn kind_of(statement: &Statement) -> String {
    let text = statement.to_string();
    let is_keyword = |word: &&str| word.bytes().all(|letter| letter.is_ascii_uppercase());
    text.split(' ').take_while(is_keyword).take(2).collect::<Vec<_>>().join(" ")
}
