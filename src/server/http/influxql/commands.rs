//! Statements that change something, as commands of the engine.

use std::time::Duration;

use crate::engine::{Engine, HardDelete};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, DatabaseName, TableName};
use crate::query::influxql::InfluxQlContext;
use crate::server::auth::Principal;
use crate::syntax::influxql::{CreateDatabase, Dropped, Statement};

/// Whether a statement is one of those that are run here.
pub(super) fn changes(statement: &Statement) -> bool {
    matches!(statement, Statement::CreateDatabase(_) | Statement::Drop(Dropped::Database(_) | Dropped::Measurement(_)))
}

/// Runs a statement that changes something.
///
/// # Errors
/// `Invalid` and `NotFound` for what can't be, `Unsupported` for what is not there, `Forbidden` for what who asks may not do; and
/// what the engine says.
pub(super) async fn run(
    engine: &Engine,
    principal: &Principal,
    context: &InfluxQlContext,
    statement: &Statement,
) -> Result<()> {
    match statement {
        Statement::CreateDatabase(create) => create_database(engine, principal, create).await,
        Statement::Drop(Dropped::Database(name)) => drop_database(engine, principal, name).await,
        Statement::Drop(Dropped::Measurement(name)) => drop_measurement(engine, principal, context, name).await,
        _ => Err(Error::internal("a statement that changes nothing was run as one that does")),
    }
}

/// Creates it unless it exists.
async fn create_database(engine: &Engine, principal: &Principal, create: &CreateDatabase) -> Result<()> {
    let name = database_name(&create.name)?;
    principal.require(Action::Create, &name)?;
    if create.policy_name.as_deref().is_some_and(|policy| policy != "autogen") {
        let message = "the retention policy of a database is autogen; NAME with another one is not supported";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let nanos = create.policy.as_ref().and_then(|policy| policy.duration).filter(|nanos| *nanos > 0);
    let period = nanos.map(|nanos| Duration::from_nanos(nanos.unsigned_abs()));
    match engine.create_database(&name, period).await {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        other => other,
    }
}

/// Deletes it with its retention policies, if it exists.
async fn drop_database(engine: &Engine, principal: &Principal, name: &str) -> Result<()> {
    let Ok(name) = DatabaseName::new(name) else { return Ok(()) };
    principal.require(Action::Delete, &name)?;
    let prefix = format!("{}/", name.as_str());
    let policies: Vec<_> = engine.databases().into_iter().filter(|other| other.as_str().starts_with(&prefix)).collect();
    policies.iter().try_for_each(|policy| principal.require(Action::Delete, policy))?;
    for database in policies.into_iter().chain([name]) {
        if_there(engine.delete_database(&database, HardDelete::Default).await)?;
    }
    Ok(())
}

async fn drop_measurement(engine: &Engine, principal: &Principal, context: &InfluxQlContext, name: &str) -> Result<()> {
    let database = context.database.as_deref().ok_or_else(|| Error::invalid("database name required"))?;
    let known = DatabaseName::new(database).ok().filter(|database| engine.database_exists(database));
    let known = known.ok_or_else(|| Error::not_found(format!("database not found: {database}")))?;
    let Ok(table) = TableName::new(name) else { return Ok(()) };
    principal.require_on_table(Action::Delete, &known, table.as_str())?;
    if_there(engine.delete_table(&known, &table, HardDelete::Default).await)
}

/// What does not exist needs no deletion.
fn if_there(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn database_name(text: &str) -> Result<DatabaseName> {
    DatabaseName::new(text).map_err(|error| Error::invalid(error.to_string()))
}
