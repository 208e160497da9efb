//! What reading statements answer, whichever way they came.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::StreamExt;

use super::super::error::QueryError;
use super::super::running::SeenQueries;
use super::super::session::context;
use super::names::EngineCatalog;
use super::resolve::{self, Catalog};
use super::show::Shower;
use super::value::Type;
use super::{Cell, Listing, compile, kind_of, level, plan};
use crate::model::{Facility, OWN_POLICY};
use crate::syntax::influxql::{Dropped, Select, ServerFacts, Statement};

type Result<T> = std::result::Result<T, QueryError>;

/// One measurement of an answer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) measurement: Arc<str>,
    /// The tags that series are told apart by.
    pub(super) groups: Vec<String>,
    /// The names of the columns; the first is that of the time.
    pub(super) columns: Arc<[String]>,
    /// The types of the columns behind the time.
    pub(super) kinds: Vec<Type>,
    /// Rows: the tags, the time, the columns.
    pub(super) plan: Arc<dyn ExecutionPlan>,
}

/// Answers statements of one request at one instant.
#[derive(Debug, Clone)]
pub(in crate::query) struct Answerer {
    pub(in crate::query) catalog: EngineCatalog,
    pub(in crate::query) session: SessionState,
    /// The queries that may be known of.
    pub(in crate::query) seen: SeenQueries,
    /// What `now()` says.
    pub(in crate::query) now: i64,
}

impl Answerer {
    /// A plan for each measurement.
    pub(super) async fn parts(&self, select: &Select) -> Result<Vec<Part>> {
        let compiled = compile::compile(select, self.now).map_err(QueryError::Statement)?;
        let query = resolve::resolve(&compiled, &self.catalog).map_err(QueryError::Statement)?;
        let names = std::iter::once(compiled.time_name.clone()).chain(query.columns.iter().cloned());
        let columns: Arc<[String]> = names.collect();
        let mut parts = Vec::new();
        for (measurement, level) in level::levels(&query).map_err(QueryError::Statement)? {
            let plan = plan::plan(&level, &self.catalog.engine, &self.session).await?;
            let kinds = level.columns.iter().map(|column| column.kind).collect();
            let (measurement, columns) = (Arc::from(measurement.as_str()), Arc::clone(&columns));
            parts.push(Part { measurement, groups: level.groups, columns, kinds, plan });
        }
        Ok(parts)
    }

    /// The answer of a statement that tells names.
    ///
    /// # Errors
    /// What it can't mean; `StatementUnsupported` for one that is not answered, with what to do instead.
    pub(super) async fn listings(&self, statement: &Statement) -> Result<Vec<Listing>> {
        match statement {
            Statement::Explain { analyze, verbose, select } => self.explain(*analyze, *verbose, select).await,
            Statement::Show(show) => {
                let shower = Shower { catalog: &self.catalog, session: &self.session, now: self.now };
                shower.show(show).await
            }
            Statement::ShowServer(ServerFacts::Databases) => Ok(vec![self.databases()]),
            Statement::ShowServer(ServerFacts::Queries) => Ok(vec![self.queries()]),
            Statement::ShowServer(ServerFacts::Users) => Ok(vec![table(None, &["user", "admin"], Vec::new())]),
            Statement::ShowServer(ServerFacts::ContinuousQueries) => Ok(self.without_continuous_queries()),
            Statement::ShowServer(ServerFacts::Subscriptions) => Ok(Vec::new()),
            Statement::ShowServer(ServerFacts::Diagnostics(module)) => Ok(diagnostics(module.as_deref())),
            Statement::ShowServer(ServerFacts::Stats(module)) => self.stats(module.as_deref()),
            Statement::ShowGrants { .. } => Err(QueryError::Statement("user not found".to_owned())),
            Statement::ShowRetentionPolicies { database } => self.policies(database.as_deref()),
            other => Err(unsupported(other)),
        }
    }

    async fn explain(&self, analyze: bool, verbose: bool, select: &Select) -> Result<Vec<Listing>> {
        if select.into.is_some() {
            return Err(QueryError::Statement("EXPLAIN shows a SELECT without INTO".to_owned()));
        }
        let mut lines = Vec::new();
        for part in self.parts(select).await? {
            let plan = if analyze {
                let mut rows = 0;
                let mut batches = execute_stream(Arc::clone(&part.plan), Arc::new(context(&self.session)))?;
                while let Some(batch) = batches.next().await {
                    rows += batch?.num_rows();
                }
                lines.push(format!("{}: {rows} rows", part.measurement));
                DisplayableExecutionPlan::with_metrics(part.plan.as_ref()).indent(verbose).to_string()
            } else {
                displayable(part.plan.as_ref()).indent(verbose).to_string()
            };
            lines.extend(plan.lines().map(str::to_owned));
        }
        let rows = lines.into_iter().map(|line| vec![Cell::Text(line)]).collect();
        Ok(vec![table(None, &["QUERY PLAN"], rows)])
    }

    fn databases(&self) -> Listing {
        let rows = self.catalog.database_names().into_iter().map(|name| vec![Cell::Text(name)]);
        table(Some("databases"), &["name"], rows.collect())
    }

    fn queries(&self) -> Listing {
        let rows = self.seen.running().into_iter().map(|query| {
            vec![
                Cell::Integer(i64::try_from(query.id).unwrap_or(i64::MAX)),
                Cell::Text(query.text),
                Cell::Text(query.database.unwrap_or_default()),
                Cell::Text(short_duration(query.took)),
                Cell::Text(if query.is_killed { "killed" } else { "running" }.to_owned()),
            ]
        });
        table(None, &["qid", "query", "database", "duration", "status"], rows.collect())
    }

    fn without_continuous_queries(&self) -> Vec<Listing> {
        let names = self.catalog.database_names().into_iter();
        names.map(|name| table(Some(&name), &["name", "query"], Vec::new())).collect()
    }

    fn policies(&self, database: Option<&str>) -> Result<Vec<Listing>> {
        let database = self.catalog.named(database).map_err(QueryError::Statement)?;
        let default = self.catalog.default_policy(&database);
        let default = default.as_deref().unwrap_or(OWN_POLICY);
        let rows = self.catalog.policies(&database).into_iter().map(|(policy, own)| {
            let period = self.catalog.retention(&own).map_or(0, |period| period.as_secs());
            let is_default = policy == default;
            vec![
                Cell::Text(policy),
                Cell::Text(go_duration(period)),
                Cell::Text(shard_duration(period)),
                Cell::Integer(1),
                Cell::Boolean(is_default),
            ]
        });
        let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
        Ok(vec![table(None, &columns, rows.collect())])
    }

    /// Counters of the engine, and of each database that may be read.
    fn stats(&self, module: Option<&str>) -> Result<Vec<Listing>> {
        if !self.catalog.rights.allow_reading(Facility::Metrics) {
            let message = "SHOW STATS needs the permission system:metrics:read".to_owned();
            return Err(QueryError::Statement(message));
        }
        let metrics = self.catalog.engine.metrics();
        let mut listings = Vec::new();
        let wanted = |name: &str| module.is_none_or(|module| module.eq_ignore_ascii_case(name));
        if wanted("engine") {
            let counts = [("numDatabases", metrics.databases), ("numTables", metrics.tables)];
            let (columns, row): (Vec<_>, Vec<_>) =
                counts.into_iter().map(|(name, count)| (name, Cell::Integer(count as i64))).unzip();
            listings.push(table(Some("engine"), &columns, vec![row]));
        }
        if wanted("database") {
            let rows = self.catalog.database_names().into_iter().map(|name| {
                let measurements = self.catalog.measurements(&name).len();
                vec![Cell::Text(name), Cell::Integer(measurements as i64)]
            });
            listings.push(table(Some("database"), &["database", "numMeasurements"], rows.collect()));
        }
        Ok(listings)
    }
}

fn table(name: Option<&str>, columns: &[&str], rows: Vec<Vec<Cell>>) -> Listing {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Listing { name: name.map(str::to_owned), columns, rows }
}

fn diagnostics(module: Option<&str>) -> Vec<Listing> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let build = table(Some("build"), &["Version"], vec![vec![text(env!("CARGO_PKG_VERSION"))]]);
    let system = vec![text(std::env::consts::OS), text(std::env::consts::ARCH)];
    let runtime = table(Some("runtime"), &["OS", "Architecture"], vec![system]);
    let is_wanted = |listing: &Listing| module.is_none_or(|module| listing.name.as_deref() == Some(module));
    [build, runtime].into_iter().filter(is_wanted).collect()
}

/// Why a statement is not answered, and what to do instead.
fn unsupported(statement: &Statement) -> QueryError {
    let instead = match statement {
        Statement::CreateUser { .. }
        | Statement::SetPassword { .. }
        | Statement::Grant(_)
        | Statement::Revoke(_)
        | Statement::Drop(Dropped::User(_)) => {
            "there are no users: make tokens with permissions, as 'flightline create token --permission db:NAME:read,write'"
        }
        Statement::CreateContinuousQuery(_) | Statement::Drop(Dropped::ContinuousQuery { .. }) => {
            "there are no continuous queries: send SELECT … INTO … at the times you want, for instance from cron"
        }
        Statement::CreateSubscription { .. } | Statement::Drop(Dropped::Subscription { .. }) => {
            "there are no subscriptions: a mirror follows the store, and a client such as Telegraf can write to several servers"
        }
        Statement::Drop(Dropped::Shard(_)) | Statement::ShowServer(ServerFacts::Shards | ServerFacts::ShardGroups) => {
            "there are no shards: remove rows with DELETE … WHERE time, see files in the table system.files"
        }
        _ => "it is not answered here",
    };
    QueryError::StatementUnsupported(format!("{}; {instead}", kind_of(statement)))
}

/// A span as InfluxDB tells how long a query runs: in the largest unit of which there is one, `25ms` or `1m2s`.
fn short_duration(took: Duration) -> String {
    match (took.as_secs(), took.subsec_millis(), took.subsec_micros()) {
        (0, 0, 0) => format!("{}ns", took.subsec_nanos()),
        (0, 0, micros) => format!("{micros}µs"),
        (0, millis, _) => format!("{millis}ms"),
        (seconds, ..) => go_duration(seconds),
    }
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
