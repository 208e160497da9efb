//! Reads tables to fill their caches, one after the other, in the background.
//!
//! A cache is filled when it was made, after a start, after its rows were let go, and when a query met one that could not
//! answer. Meanwhile the table is asked, so that nothing waits for this.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::exec::condense;
use super::table::plan_of_table;
use crate::engine::Engine;
use crate::engine::caches::UnfilledCache;
use crate::error::Result;
use crate::model::{CacheKind, DatabaseName, TableName};
use crate::query::error::QueryError;
use crate::query::scan;
use crate::query::session::Sessions;
use crate::query::stream::on_cpu;

/// How often is looked for caches that are not filled though nobody asked for them: those that failed, or had no room.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A cache is not filled again before so many times the time that it took are over: so that one which can't keep up with the
/// writes, or whose rows are deleted again and again, takes a tenth of one thread at the most.
const PAUSE_FACTOR: u32 = 10;

type CacheName = (DatabaseName, TableName, CacheKind, String);

/// Fills caches until stopped.
pub(in crate::query) async fn fill_caches(
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
    cpu: Handle,
    stop: CancellationToken,
) {
    let work = async {
        let mut paused: HashMap<CacheName, Duration> = HashMap::new();
        let mut wanted: HashMap<CacheName, UnfilledCache> = HashMap::new();
        loop {
            let now = engine.elapsed();
            paused.retain(|_, until| *until > now);
            wanted.extend(engine.unfilled_caches().into_iter().map(|cache| (name(&cache), cache)));
            let due: Vec<_> = wanted.extract_if(|name, _| !paused.contains_key(name)).collect();
            for (name, cache) in due {
                let UnfilledCache { database, table, definition } = &cache;
                let snapshot = engine.snapshot(database, table.as_str());
                if snapshot.is_none_or(|snapshot| snapshot.is_cached(definition)) {
                    continue;
                }
                let began = engine.elapsed();
                let filled = fill(&engine, &sessions, &cpu, &cache).await;
                let ended = engine.elapsed();
                paused.insert(name, ended + (ended - began) * PAUSE_FACTOR);
                let cache = &definition.name;
                match filled {
                    Ok(true) => tracing::info!(%database, %table, cache, took = ?(ended - began), "filled a cache"),
                    Ok(false) => tracing::debug!(%database, %table, cache, "a cache is not filled yet"),
                    Err(error) => {
                        tracing::warn!(%database, %table, cache, error = error.report(), "could not fill a cache; trying again");
                    }
                }
            }
            let pause = paused.values().min().map(|until| until.saturating_sub(engine.elapsed()));
            let pause = pause.map_or(CHECK_INTERVAL, |pause| pause.clamp(Duration::from_millis(10), CHECK_INTERVAL));
            let _ = tokio::time::timeout(pause, engine.caches_wanted()).await; // both are reasons to look
        }
    };
    stop.run_until_cancelled(work).await;
}

fn name(cache: &UnfilledCache) -> CacheName {
    let UnfilledCache { database, table, definition } = cache;
    (database.clone(), table.clone(), definition.kind(), definition.name.clone())
}

/// Says whether the cache answers from now on.
async fn fill(engine: &Arc<Engine>, sessions: &Arc<Sessions>, cpu: &Handle, cache: &UnfilledCache) -> Result<bool> {
    let Some(fill) = engine.fill_cache(cache) else { return Ok(false) };
    let session = sessions.open_without_names();
    let work = async move {
        let plan = plan_of_table(&session, fill.snapshot(), fill.definition(), &[])?;
        let (definition, columns) = (Arc::clone(fill.definition()), Arc::clone(&fill.snapshot().schema));
        let read = |rows| fill.advance(rows);
        let rows = condense(plan, &definition, &columns, fill.bytes_max(), read, &session.task_ctx()).await?;
        let done = match rows {
            Some(rows) => fill.finish(&rows),
            None => fill.too_large().map(|()| false),
        };
        done.map_err(|error| QueryError::from(scan::from_engine(error)))
    };
    Ok(on_cpu(cpu, work).await?)
}
