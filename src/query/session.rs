//! One session for each query, cut from one template.
//!
//! The template holds what never changes: settings, functions, rules, the memory pool and the one store. A
//! query adds its database's tables and its own snapshots. Nothing of a session outlives its query, and no
//! statement can change one.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder, TaskContext};
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;

use super::catalog::DatabaseTables;
use super::few_rows::FewRows;
use super::influxql::{KeptLevels, StretchRows};
use super::optimize::ShortWay;
use super::processors::Processors;
use super::running::{Asker, Registry, SeenQueries};
use super::scan::{FileAccess, STORE_URL};
use super::shortcuts::TakeShortcuts;
use super::table::QuerySnapshots;
use super::{CATALOG, Query, QuerySettings, TABLE_SCHEMA};
use super::{caches, functions, predicates, rules};
use crate::engine::Engine;
use crate::model::{DatabaseName, Rights, Tables};

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;

/// How many of the largest users of memory an error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

/// Most bytes that a partition of a sort sets aside for merging what it spilled: DataFusion's default.
const MERGE_RESERVE_BYTES_MAX: usize = 10 << 20;

/// More than this is quicker sorted in batches that are merged.
const SORTED_IN_PLACE_MAX: usize = 16 << 20;

/// The functions that InfluxQL's plans are made with by name: selectors, and what the optimizer makes of a DISTINCT ON.
const INFLUXQL_BY_NAME: [&str; 5] = ["first_value", "selector_first", "selector_last", "selector_max", "selector_min"];

/// What all sessions share.
pub(super) struct Sessions {
    engine: Arc<Engine>,
    running: Arc<Registry>,
    template: SessionState,
    /// The same without the names of functions: to copy them is a good part of a small query.
    nameless: SessionState,
    /// The same with the names of those functions that InfluxQL's plans are made with by name.
    of_influxql: SessionState,
}

impl Sessions {
    /// # Errors
    /// If the scratch directory can't be used.
    pub(super) fn new(
        engine: Arc<Engine>,
        settings: &QuerySettings,
        access: Arc<FileAccess>,
        running: Arc<Registry>,
        processors: Processors,
    ) -> DataFusionResult<Self> {
        let runtime = runtime(settings, Arc::clone(engine.store().objects()))?;
        let template = SessionStateBuilder::new()
            .with_default_features()
            // No formats and no factories: a table is one of the engine's or it is none.
            .with_file_formats(Vec::new())
            .with_table_factories(Default::default())
            .with_config(
                config(settings)
                    .with_extension(access)
                    .with_extension(Arc::new(processors))
                    .with_extension(Arc::new(StretchRows(settings.stretch_rows))),
            )
            .with_runtime_env(Arc::new(runtime));
        let template = predicates::with_rules(functions::with_gap_filling(template));
        let template = match settings.takes_shortcuts {
            true => template.with_optimizer_rule(Arc::new(TakeShortcuts)),
            false => template,
        };
        let mut template =
            rules::physical().into_iter().fold(template, SessionStateBuilder::with_physical_optimizer_rule).build();
        functions::register(&mut template, settings.value_bytes_max)?;
        let short_way = Arc::new(ShortWay::of(&template));
        template.config_mut().set_extension(short_way);
        let few_rows = Arc::new(FewRows::of(&template, settings.few_rows_max));
        template.config_mut().set_extension(few_rows);
        template.config_mut().set_extension(Arc::new(KeptLevels::new()));
        let nameless = SessionStateBuilder::new_from_existing(template.clone())
            .with_scalar_functions(Vec::new())
            .with_higher_order_functions(Vec::new())
            .with_aggregate_functions(Vec::new())
            .with_window_functions(Vec::new())
            .with_table_function_list(Vec::new())
            .build();
        let by_name = INFLUXQL_BY_NAME.iter().map(|name| template.udaf(name)).collect::<DataFusionResult<_>>()?;
        let of_influxql =
            SessionStateBuilder::new_from_existing(nameless.clone()).with_aggregate_functions(by_name).build();
        Ok(Self { engine, running, template, nameless, of_influxql })
    }

    /// A session that sees these tables of `database`, each from the moment in which the query first reads it, and nobody's queries.
    pub(super) fn open(&self, database: &DatabaseName, tables: &Tables) -> SessionState {
        self.open_with(database, tables, (Asker::default(), Rights::default()))
    }

    /// The same for a query, and with those queries of which who asks may know.
    pub(super) fn open_for(&self, query: &Query, tables: &Tables) -> SessionState {
        self.open_with(&query.database, tables, (query.origin.asker.clone(), query.access.rights.clone()))
    }

    fn open_with(&self, database: &DatabaseName, tables: &Tables, (asker, rights): (Asker, Rights)) -> SessionState {
        let queries = SeenQueries { registry: Arc::clone(&self.running), asker, rights };
        let mut session = renewed(&self.template);
        session.register_catalog_list(Arc::new(DatabaseTables::new(
            Arc::clone(&self.engine),
            database.clone(),
            tables.clone(),
            queries,
        )));
        caches::register(&mut session, &self.engine, database, tables);
        session
    }

    /// A session for a plan that has its tables and functions with it, and looks none up: one that the optimizer is done with, or one of filters alone.
    pub(super) fn open_without_names(&self) -> SessionState {
        renewed(&self.nameless)
    }

    /// A session for plans of InfluxQL, which bring their tables themselves, and nearly all of their functions.
    pub(super) fn open_for_influxql(&self) -> SessionState {
        renewed(&self.of_influxql)
    }
}

/// A session as good as new over the same tables, for another execution of a statement.
pub(super) fn renewed(session: &SessionState) -> SessionState {
    let mut session = session.clone();
    session.config_mut().set_extension(Arc::new(QuerySnapshots::default()));
    session.mark_start_execution(); // what now() says
    session
}

/// What `now()` says in a session, in nanoseconds.
pub(super) fn now(session: &SessionState) -> i64 {
    let start = session.execution_props().query_execution_start_time;
    start.and_then(|start| start.timestamp_nanos_opt()).unwrap_or_default()
}

/// What the plans of a session run in. Functions are in the plans, and to copy the names of all for each query takes its time: only who can name
/// `information_schema`, whose tables list them, has them here too.
pub(super) fn context(session: &SessionState) -> TaskContext {
    if !session.catalog_list().catalog_names().is_empty() {
        return TaskContext::from(session);
    }
    TaskContext::new(
        None,
        session.session_id().to_owned(),
        session.config().clone(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        Arc::clone(session.runtime_env()),
    )
}

fn config(settings: &QuerySettings) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(settings.threads.max(1))
        .with_default_catalog_and_schema(CATALOG, TABLE_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        // A scan deals its row groups to partitions itself, by rows and not by bytes.
        .with_repartition_file_scans(false);
    let options = config.options_mut();
    // Clients fail on view types.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Filters are decided while reading, so that columns are decoded only for rows that pass.
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    // Files carry page indexes and no bloom filters.
    options.execution.parquet.bloom_filter_on_read = false;
    // A recursion without end is no query.
    options.execution.enable_recursive_ctes = false;
    options.execution.sort_spill_reservation_bytes = merge_reserve(settings);
    if let Some(bytes) = sorted_in_place(settings) {
        options.execution.sort_in_place_threshold_bytes = bytes;
    }
    config
}

/// What each partition of a sort sets aside for merging what it spilled. All partitions of one sort take an eighth of the memory of queries for it at the
/// most: they set it aside before anything has spilled, and a sort that can't have it fails although it could have spilled.
fn merge_reserve(settings: &QuerySettings) -> usize {
    (settings.memory_bytes / (8 * settings.threads.max(1))).min(MERGE_RESERVE_BYTES_MAX)
}

/// How much is sorted as one, if memory is small. What is more is sorted batch by batch and merged before it spills, for which it takes more memory when
/// there is none left: a partition that began to spill while the others held all the rest failed.
fn sorted_in_place(settings: &QuerySettings) -> Option<usize> {
    let shares = 2 * settings.memory_bytes / settings.threads.max(1); // others may be done
    (shares <= SORTED_IN_PLACE_MAX).then_some(shares)
}

fn runtime(settings: &QuerySettings, store: Arc<dyn ObjectStore>) -> DataFusionResult<RuntimeEnv> {
    let pool = TrackConsumersPool::new(FairSpillPool::new(settings.memory_bytes), CONSUMERS_NAMED);
    let scratch = match &settings.scratch {
        Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
        None => DiskManagerMode::Disabled,
    };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(scratch))
        .with_object_store_registry(Arc::new(one_store(store)?))
        .build()
}

/// The only store that a plan can read from: DataFusion's registry begins with the file system, this one without.
fn one_store(store: Arc<dyn ObjectStore>) -> DataFusionResult<DefaultObjectStoreRegistry> {
    let registry = DefaultObjectStoreRegistry::new();
    registry.deregister_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    registry.register_store(ObjectStoreUrl::parse(STORE_URL)?.as_ref(), store);
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn the_registry_knows_one_store_and_no_file_system() {
        let registry = one_store(Arc::new(InMemory::new())).unwrap();
        assert!(registry.get_store(ObjectStoreUrl::parse(STORE_URL).unwrap().as_ref()).is_ok());
        for elsewhere in ["file://", "s3://bucket", "http://localhost", "flightline://other"] {
            assert!(registry.get_store(ObjectStoreUrl::parse(elsewhere).unwrap().as_ref()).is_err(), "{elsewhere}");
        }
    }
}
