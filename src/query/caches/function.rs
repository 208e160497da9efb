//! The table functions: which cache is meant.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use super::table::CacheTable;
use crate::engine::Engine;
use crate::error::Error;
use crate::model::{CacheKind, DatabaseName, Tables};

/// Lets a session ask the caches of these tables of a database.
pub(in crate::query) fn register(
    session: &mut SessionState,
    engine: &Arc<Engine>,
    database: &DatabaseName,
    seen: &Tables,
) {
    for (name, kind) in [("last_cache", CacheKind::Last), ("distinct_cache", CacheKind::Distinct)] {
        let function =
            CacheFunction { name, kind, engine: Arc::clone(engine), database: database.clone(), seen: seen.clone() };
        session.register_udtf(name, Arc::new(function));
    }
}

/// One of the two functions, in one session.
#[derive(Debug)]
struct CacheFunction {
    name: &'static str,
    kind: CacheKind,
    engine: Arc<Engine>,
    database: DatabaseName,
    /// The caches of other tables can't be seen.
    seen: Tables,
}

impl TableFunctionImpl for CacheFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let (table, cache) = match args.exprs() {
            [table] => (text(table), None),
            [table, cache] => match text(cache) {
                Some(cache) => (text(table), Some(cache)),
                None => return plan_err!("second argument of {} must be the cache name as a string", self.name),
            },
            _ => return plan_err!("{} takes the name of a table, and may take that of a cache", self.name),
        };
        let Some(table) = table else {
            return plan_err!("first argument must be the table name as a string");
        };
        let not_found = |reason: String| {
            let message = format!("could not find cache for the given arguments: {reason}");
            DataFusionError::External(Box::new(Error::not_found(message)))
        };
        let schema = self.seen.contains(table).then(|| self.engine.table_schema(&self.database, table)).flatten();
        let schema = schema.ok_or_else(|| not_found(format!("table not found: {table}")))?;
        let all = self.engine.caches_of(&self.database, table, self.kind);
        let named = |name: &str| all.iter().find(|known| known.name == name);
        let definition = match (cache, all.as_slice()) {
            (Some(name), _) => {
                named(name).ok_or_else(|| not_found(format!("table '{table}' has no {} '{name}'", self.kind)))?
            }
            (None, [only]) => only,
            (None, []) => return Err(not_found(format!("table '{table}' has no {}", self.kind))),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|cache| cache.name.as_str()).collect();
                return Err(not_found(format!("name one of the caches of table '{table}': {}", names.join(", "))));
            }
        };
        let definition = Arc::clone(definition);
        Ok(Arc::new(CacheTable::new(Arc::clone(&self.engine), self.database.clone(), table, schema, definition, all)))
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text), _) => {
            text.as_deref()
        }
        _ => None,
    }
}
