//! Answers: SQL over one instant of one database. DataFusion lives here and nowhere below.
//!
//! [`Queries::plan`] turns text into a plan whose schema is known, [`PlannedQuery::run`] into a stream of
//! batches of that schema.
//!
//! | file | |
//! |---|---|
//! | [`limits`], [`statement`] | which texts are planned at all |
//! | [`substrait`] | plans that come as plans |
//! | [`planned`] | queries between their plan and their rows |
//! | [`parts`] | a query in parts that are fetched one by one |
//! | [`sql`] | a text of SQL and its plan |
//! | [`plans`], [`parameters`] | plans that are kept, and values for them |
//! | [`stand_ins`], [`literals`] | the same plan for other times and texts |
//! | [`kept_operators`] | operators that are kept |
//! | [`change`], [`executions`], [`delete`], [`insert`], [`tables`] | statements that change something |
//! | [`influxql`] | the other language, with its own meaning and answers |
//! | [`session`], [`catalog`], [`functions`], [`caches`] | what a text can name |
//! | [`table`], [`scan`], [`deduplicate`] | how rows are found and brought together |
//! | [`shortcuts`] | which questions need few rows |
//! | [`rules`], [`predicates`], [`optimize`] | what we change in DataFusion's plans, and how they are gone through |
//! | [`processors`], [`brief`] | on which threads it is done |
//! | [`few_rows`] | the same for few rows, in one thread |
//! | [`running`] | what runs: seen, bounded, stopped |
//! | [`stream`], [`wire`] | how results leave |
//! | [`error`] | whose fault it is when they don't |
//!
//! Always true:
//! - queries read: no text changes a row, a table, a setting or a file, or reads anything but its database; the exceptions
//!   are statements that only [`Queries::plan_statement`] plans and only [`PlannedChange::run`] does;
//! - a query sees one instant of each table, taken once;
//! - the announced schema is the schema of every batch;
//! - planning and running happen on the CPU runtime, on the caller's thread only what is known to be brief.
//!
//! Not here: sessions, tickets, formats of a protocol (`server`).

mod brief;
mod caches;
mod catalog;
mod change;
mod cut_dictionaries;
mod deduplicate;
mod delete;
mod distinct_tags;
mod error;
mod executions;
mod few_rows;
mod form;
mod functions;
mod group_runs;
pub mod influxql;
mod insert;
mod kept_operators;
mod limits;
mod literals;
mod optimize;
mod parameters;
mod parts;
mod planned;
mod plans;
mod predicates;
mod processors;
mod rules;
mod running;
mod scan;
mod session;
mod shortcuts;
mod sql;
mod stand_ins;
mod statement;
mod stream;
mod substrait;
mod system;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod wire;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::catalog::information_schema::{
    INFORMATION_SCHEMA, INFORMATION_SCHEMA_TABLES, InformationSchemaProvider,
};
use datafusion::catalog::{SchemaProvider, TableProvider};
use futures::FutureExt;
use tokio::runtime::Handle;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Access, Action, DatabaseName, Rights, Tables};
use crate::tasks::Tasks;
use brief::{BriefQuestions, Step};
use error::QueryError;
use influxql::{Answerer, EngineCatalog, FlatPlan};
use planned::Work;
use plans::Plans;
use running::{Registry, SeenQueries, Watch};
use scan::FileAccess;
use session::Sessions;
use sql::{SqlPlanner, bound, coerce};
use statement::Permitted;
use stream::{DroppedOnCpu, on_cpu};
use system::SystemTables;

pub use change::PlannedChange;
pub use parameters::{Parameter, PlannedParameter};
pub use parts::PartedQuery;
pub use planned::{BegunQuery, BegunStatement, PlannedQuery, PlannedStatement};
pub use processors::Processors;
pub use running::{Asker, Origin, QueryMetrics, RunningSettings, Way};
pub use stream::QueryStream;
pub use substrait::VERSIONS as SUBSTRAIT_VERSIONS;

/// The one catalog that every database is seen as.
pub const CATALOG: &str = "public";

/// The schema of user tables.
pub const TABLE_SCHEMA: &str = "iox";

/// The schema of tables about the database itself.
pub const SYSTEM_SCHEMA: &str = "system";

/// What queries may use.
#[derive(Debug, Clone)]
pub struct QuerySettings {
    /// Memory of all queries together, in bytes: sorts, joins and groups spill or fail past it.
    pub memory_bytes: usize,
    /// Partitions of a plan: how many threads one query uses.
    pub threads: usize,
    /// Longest text of a query, in bytes.
    pub text_bytes_max: usize,
    /// Where sorts, joins and groups spill to; without it they fail when memory is used up.
    pub scratch: Option<PathBuf>,
    /// Most bytes that one call of a function which makes text or lists longer may make for one batch.
    pub value_bytes_max: usize,
    /// How many queries there may be, and for how long.
    pub running: RunningSettings,
    /// Whether last points and distinct tags are looked for at the ends of series and in caches, instead of in all rows.
    pub takes_shortcuts: bool,
    /// A query of one table that is expected to look at no more rows is planned for one thread.
    pub few_rows_max: u64,
    /// Rows that InfluxQL gives in the order of time are sorted about so many at a time.
    pub stretch_rows: u64,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            text_bytes_max: 256 << 10,
            scratch: None,
            value_bytes_max: 64 << 20,
            running: RunningSettings::default(),
            takes_shortcuts: true,
            few_rows_max: 32 << 10,
            // A few tens of megabytes, and many times the work of planning a stretch.
            stretch_rows: 256 << 10,
        }
    }
}

/// The language of a query's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// DataFusion's SQL.
    Sql,
    /// The language of InfluxDB 1.
    InfluxQl,
    /// No text, but a plan of Substrait.
    Substrait,
}

/// A question to one database.
#[derive(Debug, Clone)]
pub struct Query {
    /// Whose tables.
    pub database: DatabaseName,
    /// How to read the text.
    pub language: Language,
    /// The text: one statement. Empty if there is a plan.
    pub text: String,
    /// The plan, if that is the language: Substrait's protobuf. Else empty.
    pub plan: Bytes,
    /// Values by name, without the `$`. Those of `$1`, or of the first `?`, are named `1`, and so on. Names
    /// that the text does not use are ignored.
    pub parameters: Vec<(String, Parameter)>,
    /// The tables that the text may name, and what it may do to them. For all that it can tell there are no others.
    pub access: Access,
    /// From whom it comes, and how long they wait.
    pub origin: Origin,
}

/// What kind of table a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// A user's table.
    Table,
    /// A view of what there is.
    View,
    /// A table about the server itself.
    System,
}

/// A table that can be queried.
#[derive(Debug, Clone)]
pub struct ListedTable {
    /// The schema that it is in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What kind of table.
    pub kind: TableKind,
    /// Its columns as they come out of `SELECT *`.
    pub columns: SchemaRef,
}

/// Plans and runs queries. Shared as an `Arc`.
pub struct Queries {
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
    plans: Arc<Plans>,
    running: Arc<Registry>,
    settings: QuerySettings,
    cpu: Processors,
    brief: Arc<BriefQuestions>,
    /// Fills caches.
    _background: Tasks,
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Queries {
    /// Queries over the databases of `engine`. `cpu` plans and runs; `io` waits for the object store.
    ///
    /// # Errors
    /// `Unavailable` if the scratch directory can't be used.
    pub fn new(engine: Arc<Engine>, settings: QuerySettings, cpu: Processors, io: Handle) -> Result<Self> {
        let access = Arc::new(FileAccess::new(engine.checked_files().clone(), io.clone()));
        let brief = Arc::new(BriefQuestions::new(&io, cpu.heavy.clone(), Arc::clone(engine.clock())));
        let running = Arc::new(Registry::new(settings.running.clone(), Arc::clone(engine.clock()), io));
        let sessions = Sessions::new(Arc::clone(&engine), &settings, access, Arc::clone(&running), cpu.clone());
        let sessions = sessions.map_err(QueryError::from)?;
        let (sessions, background) = (Arc::new(sessions), Tasks::new());
        {
            let _here = cpu.quick.enter();
            let (engine, sessions, cpu) = (Arc::clone(&engine), Arc::clone(&sessions), cpu.heavy.clone());
            background.spawn("caches", |stop| caches::fill_caches(engine, sessions, cpu, stop));
        }
        Ok(Self {
            engine,
            sessions,
            plans: Arc::new(Plans::new()),
            running,
            settings,
            cpu,
            brief,
            _background: background,
        })
    }

    /// Parses and plans a text that reads. The result knows its schema even where parameters have no value yet.
    ///
    /// # Errors
    /// `NotFound` for an unknown database; `Invalid` for a text that is no query, does not fit the tables,
    /// or would change something; `TooLarge` for a text that is too long; `Unsupported` for what is not implemented.
    pub async fn plan(&self, query: Query) -> Result<PlannedQuery> {
        match self.plan_what(query, Permitted::Reading).await? {
            PlannedStatement::Query(planned) => Ok(*planned),
            PlannedStatement::Change(_) => Err(Error::internal("a change was planned where none is permitted")),
        }
    }

    /// Parses and plans a text that reads or changes something. Nothing is changed yet.
    ///
    /// # Errors
    /// As [`Queries::plan`]; `Invalid` also for a DELETE that selects by more than time and tags.
    pub async fn plan_statement(&self, query: Query) -> Result<PlannedStatement> {
        self.plan_what(query, Permitted::ReadingAndChanging).await
    }

    async fn plan_what(&self, query: Query, permitted: Permitted) -> Result<PlannedStatement> {
        let watch = self.watch_text(&query);
        let planned = watch.until_stopped(Box::pin(self.plan_watched(query, permitted, &watch))).await?;
        watch.planned();
        Ok(planned)
    }

    /// Plans a text that reads and begins it where it was planned: threads that wait for one another are a good part of what a small
    /// query takes. Dictionaries are as in [`PlannedQuery::with_dictionaries`].
    ///
    /// # Errors
    /// As [`Queries::plan`]; how the beginning went is said by [`BegunQuery::rows`].
    pub async fn begin(self: &Arc<Self>, query: Query, keeps_dictionaries: bool) -> Result<BegunQuery> {
        match self.begin_what(query, Permitted::Reading, keeps_dictionaries).await? {
            BegunStatement::Query(begun) => Ok(begun),
            BegunStatement::Change(_) => Err(Error::internal("a change was planned where none is permitted")),
        }
    }

    /// The same for a text that reads or changes something; what it changes has not begun.
    ///
    /// # Errors
    /// As [`Queries::plan_statement`], and [`Queries::begin`].
    pub async fn begin_statement(self: &Arc<Self>, query: Query) -> Result<BegunStatement> {
        self.begin_what(query, Permitted::ReadingAndChanging, false).await
    }

    async fn begin_what(
        self: &Arc<Self>,
        query: Query,
        permitted: Permitted,
        keeps_dictionaries: bool,
    ) -> Result<BegunStatement> {
        let watch = self.watch_text(&query);
        let (queries, running) = (Arc::clone(self), Arc::clone(&watch));
        let (database, text) = (query.database.clone(), query.text.clone());
        let work = async move {
            let planned = match Box::pin(queries.plan_watched(query, permitted, &running)).await {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(error)),
            };
            running.planned();
            Ok(Ok(match planned {
                PlannedStatement::Query(planned) => {
                    BegunStatement::Query(planned.with_dictionaries(keeps_dictionaries).begin().await)
                }
                PlannedStatement::Change(change) => BegunStatement::Change(change),
            }))
        };
        let begun = self.brief.run(&self.cpu.quick, (Step::Begin, database.as_str(), &text), Box::pin(work));
        watch.until_stopped(Box::pin(begun.map(|begun| begun.map_err(Error::from).flatten()))).await
    }

    fn watch_text(&self, query: &Query) -> Arc<Watch> {
        let text = match query.language {
            Language::Sql => Cow::Borrowed(query.text.as_str()),
            Language::InfluxQl => influxql::without_passwords(&query.text),
            Language::Substrait => Cow::Owned(substrait::told(&query.plan)),
        };
        self.running.begin(&query.origin, Some(query.database.as_str()), &text)
    }

    async fn plan_watched(&self, query: Query, permitted: Permitted, watch: &Arc<Watch>) -> Result<PlannedStatement> {
        if !self.engine.database_exists(&query.database) {
            return Err(QueryError::DatabaseNotFound(query.database.to_string()).into());
        }
        if query.language != Language::Sql {
            let planned = match query.language {
                Language::Substrait => self.plan_substrait(query, watch).await?,
                _ => Box::pin(self.plan_influxql(query, watch)).await?,
            };
            return Ok(PlannedStatement::Query(Box::new(planned)));
        }
        let (planner, watch) = (self.sql(), Arc::clone(watch));
        let (database, text) = (query.database.clone(), query.text.clone());
        let work = async move { planner.plan(query, permitted, watch).await };
        Ok(self.brief.run(&self.cpu.quick, (Step::Plan, database.as_str(), &text), Box::pin(work)).await?)
    }

    fn sql(&self) -> SqlPlanner {
        SqlPlanner {
            engine: Arc::clone(&self.engine),
            sessions: Arc::clone(&self.sessions),
            plans: Arc::clone(&self.plans),
            text_bytes_max: self.settings.text_bytes_max,
            cpu: self.cpu.clone(),
        }
    }

    /// Plans a plan of Substrait, which only reads.
    async fn plan_substrait(&self, query: Query, watch: &Arc<Watch>) -> Result<PlannedQuery> {
        let (planner, watch) = (self.sql(), Arc::clone(watch));
        let work = substrait::readable(async move { planner.plan_substrait(query, watch).await });
        Ok(on_cpu(&self.cpu.quick, work).await?)
    }

    /// Plans a statement of InfluxQL that reads; its answer is one table.
    async fn plan_influxql(&self, query: Query, watch: &Arc<Watch>) -> Result<PlannedQuery> {
        let (bytes, bytes_max) = (query.text.len(), self.settings.text_bytes_max);
        if bytes > bytes_max {
            return Err(QueryError::TextTooLong { bytes, bytes_max }.into());
        }
        let session = self.sessions.open_for_influxql();
        let now = session::now(&session);
        let catalog = EngineCatalog {
            engine: Arc::clone(&self.engine),
            database: Some(query.database.to_string()),
            policy: None,
            rights: query.access.rights.clone(),
            action: Action::Read,
        };
        let seen = self.seen(&query.origin.asker, &query.access.rights);
        let answerer = Answerer { catalog, session, seen, now };
        let plan = on_cpu(&self.cpu.quick, async move { FlatPlan::new(&query, answerer).await }).await?;
        Ok(PlannedQuery {
            schema: plan.schema(),
            // By measurement, series and time, which is no order that SQL knows.
            is_ordered: false,
            parameters: Vec::new(),
            missing: None,
            lane: plan.lane(),
            watch: Arc::clone(watch),
            work: DroppedOnCpu::new(Work::InfluxQl(Box::new(plan)), &self.cpu.quick),
            cpu: self.cpu.clone(),
        })
    }

    fn seen(&self, asker: &Asker, rights: &Rights) -> SeenQueries {
        SeenQueries { registry: Arc::clone(&self.running), asker: asker.clone(), rights: rights.clone() }
    }

    /// The queries that run and the last ones that did, as far as somebody with these rights may know of them: their own, and those in
    /// databases that they may read as a whole. The columns are those of `system.queries`.
    ///
    /// # Errors
    /// None that can happen; a defect if one does.
    pub fn queries(&self, asker: &Asker, rights: &Rights) -> Result<RecordBatch> {
        let failed = |error| Error::with_source(ErrorKind::Internal, "could not tell of queries", error);
        self.seen(asker, rights).rows().map_err(failed)
    }

    /// Ends a query by its number. It ends as soon as its work pauses; who waits for it hears at once.
    ///
    /// # Errors
    /// `NotFound` if no query of this number runs of which who asks may know; `Forbidden` if it is neither their own nor in a database
    /// that they may administer.
    pub fn kill(&self, id: u64, asker: &Asker, rights: &Rights) -> Result<()> {
        self.running.kill(id, asker, rights)
    }

    /// What there is to say of queries in numbers.
    pub fn metrics(&self) -> QueryMetrics {
        self.running.metrics()
    }

    /// Everything that can be queried in a database by who may read these tables: user tables, then views, each by name.
    ///
    /// # Errors
    /// `NotFound` for an unknown database.
    pub fn listing(&self, database: &DatabaseName, readable: &Tables) -> Result<Vec<ListedTable>> {
        let mut listing = Vec::new();
        for view in INFORMATION_SCHEMA_TABLES.iter().filter(|view| **view != statement::SETTINGS_VIEW) {
            listing.push(ListedTable {
                schema: INFORMATION_SCHEMA.to_owned(),
                name: (*view).to_owned(),
                kind: TableKind::View,
                columns: wire::wire_schema(&self.view(database, view)?.schema()),
            });
        }
        for (name, columns) in
            SystemTables::new(Arc::clone(&self.engine), database.clone(), readable.clone(), self.nobodys()).schemas()?
        {
            listing.push(ListedTable {
                schema: SYSTEM_SCHEMA.to_owned(),
                name: name.to_owned(),
                kind: TableKind::View,
                columns: wire::wire_schema(&columns),
            });
        }
        for name in self.engine.tables(database)?.into_iter().filter(|name| readable.contains(name.as_str())) {
            // One that is deleted meanwhile is left out.
            if let Some(schema) = self.engine.table_schema(database, name.as_str()) {
                listing.push(ListedTable {
                    schema: TABLE_SCHEMA.to_owned(),
                    name: name.as_str().to_owned(),
                    kind: TableKind::Table,
                    columns: wire::wire_schema(schema.arrow()),
                });
            }
        }
        listing.sort_by(|a, b| (a.kind, &a.schema, &a.name).cmp(&(b.kind, &b.schema, &b.name)));
        Ok(listing)
    }

    /// Where only columns matter.
    fn nobodys(&self) -> SeenQueries {
        self.seen(&Asker::default(), &Rights::default())
    }

    fn view(&self, database: &DatabaseName, name: &str) -> Result<Arc<dyn TableProvider>> {
        let session = self.sessions.open(database, &Tables::All);
        let views = InformationSchemaProvider::new(Arc::clone(session.catalog_list()));
        // The trait waits for catalogs that are far away; this one is at hand.
        let view = views.table(name).now_or_never().and_then(|view| view.ok().flatten());
        view.ok_or_else(|| Error::internal(format!("no view \"{name}\"")))
    }
}
