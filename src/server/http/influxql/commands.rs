//! Statements that change something, as commands of the engine, with the rights that they need.
//!
//! A retention policy other than `autogen` is a database of its own, `database/policy`; so its period is that database's. Which of
//! them is meant where none is named is a fact of the database, and stays so when that policy is dropped, as in InfluxDB.

use std::time::Duration;

use crate::engine::HardDelete;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, DatabaseName, OWN_POLICY, TableName};
use crate::query::influxql::{Cell, InfluxQlContext, Listing, Removal, Written};
use crate::server::Services;
use crate::server::auth::Principal;
use crate::syntax::influxql::{CreateDatabase, Dropped, PolicyOptions, RetentionPolicy, Statement};

/// The shortest period of a retention policy, as in InfluxDB.
const PERIOD_MIN: Duration = Duration::from_secs(3600);

/// Runs a statement that changes something. Returns what it tells.
///
/// # Errors
/// `Invalid` and `NotFound` for what can't be, `Unsupported` for what is not there, `Forbidden` for what who asks may not do; and
/// what the engine says.
pub(super) async fn run(
    services: &Services,
    principal: &Principal,
    context: &InfluxQlContext,
    statement: &Statement,
) -> Result<Vec<Listing>> {
    match statement {
        Statement::Select(select) => {
            let written = services.queries.influxql_into(select, context).await?;
            return Ok(vec![told(written)]);
        }
        // Nothing that could wait or be ended. There is one host, whichever is named.
        Statement::KillQuery { id, host: _ } => services.queries.kill(*id, &context.origin.asker, &context.rights)?,
        _ => {
            let work = change(services, principal, context, statement);
            services.queries.influxql_change(statement, context, work).await?;
        }
    }
    Ok(Vec::new())
}

async fn change(
    services: &Services,
    principal: &Principal,
    context: &InfluxQlContext,
    statement: &Statement,
) -> Result<()> {
    let commands = Commands { services, principal, context };
    match statement {
        Statement::Delete(_) | Statement::DropSeries(_) => commands.remove_rows(statement).await,
        Statement::CreateDatabase(create) => commands.create_database(create).await,
        Statement::CreateRetentionPolicy(policy) => commands.create_policy(policy).await,
        Statement::AlterRetentionPolicy(policy) => commands.alter_policy(policy).await,
        Statement::Drop(Dropped::Database(name)) => commands.drop_database(name).await,
        Statement::Drop(Dropped::Measurement(name)) => commands.drop_measurement(name).await,
        Statement::Drop(Dropped::RetentionPolicy { name, database }) => commands.drop_policy(database, name).await,
        _ => Err(Error::internal("a statement that changes nothing was run as one that does")),
    }
}

fn told(Written { count }: Written) -> Listing {
    let count = Cell::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    let columns = ["time", "written"].map(str::to_owned).to_vec();
    Listing { name: Some("result".to_owned()), columns, rows: vec![vec![Cell::Time(0), count]] }
}

struct Commands<'a> {
    services: &'a Services,
    principal: &'a Principal,
    context: &'a InfluxQlContext,
}

impl Commands<'_> {
    async fn remove_rows(&self, statement: &Statement) -> Result<()> {
        if let Some(database) = self.context.database.as_deref().and_then(|name| DatabaseName::new(name).ok())
            && self.principal.rights().see(&database)
        {
            self.principal.require_tables(Action::Delete, &database)?;
        }
        for removal in self.services.queries.influxql_removals(statement, self.context).await? {
            let Removal { database, table, selections } = removal;
            self.principal.require_on_table(Action::Delete, &database, table.as_str())?;
            if_there(self.services.engine.delete_rows(&database, &table, selections).await)?;
        }
        Ok(())
    }

    /// Creates it unless it exists.
    async fn create_database(&self, create: &CreateDatabase) -> Result<()> {
        let name = database_name(&create.name)?;
        self.principal.require(Action::Create, &name)?;
        let period = create.policy.as_ref().map(period).transpose()?.flatten().flatten();
        if let Some(policy) = create.policy_name.as_deref().filter(|policy| *policy != OWN_POLICY) {
            return self.create_database_with_policy(&name, policy, period).await;
        }
        match self.services.engine.create_database(&name, period).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    /// Creates a database whose rows go to a retention policy of this name unless another one is named.
    async fn create_database_with_policy(
        &self,
        name: &DatabaseName,
        policy: &str,
        period: Option<Duration>,
    ) -> Result<()> {
        let own = own_database(name, policy)?;
        self.principal.require(Action::Create, &own)?;
        let engine = &self.services.engine;
        if !engine.database_exists(name) {
            return engine.create_policy(name, policy, period, true).await.map_err(policy_exists);
        }
        match self.is_default(name, &own) && engine.database_exists(&own) && self.retention(&own) == period {
            true => Ok(()),
            false => Err(conflicting()),
        }
    }

    /// Deletes it with those of its retention policies that may be seen, if it exists.
    async fn drop_database(&self, name: &str) -> Result<()> {
        let Ok(name) = DatabaseName::new(name) else { return Ok(()) };
        self.principal.require(Action::Delete, &name)?;
        let policies = self.policies(&name);
        policies.iter().try_for_each(|policy| self.principal.require(Action::Delete, policy))?;
        for database in policies.into_iter().chain([name]) {
            if_there(self.services.engine.delete_database(&database, HardDelete::Default).await)?;
        }
        Ok(())
    }

    async fn drop_measurement(&self, name: &str) -> Result<()> {
        let database = self.context.database.as_deref().ok_or_else(|| Error::invalid("database name required"))?;
        let database = self.existing(database)?;
        let Ok(table) = TableName::new(name) else { return Ok(()) };
        self.principal.require_on_table(Action::Delete, &database, table.as_str())?;
        let mut databases = vec![database.clone()];
        for policy in self.policies(&database) {
            if self.services.engine.table_schema(&policy, table.as_str()).is_some() {
                self.principal.require_on_table(Action::Delete, &policy, table.as_str())?;
                databases.push(policy);
            }
        }
        for database in databases {
            if_there(self.services.engine.delete_table(&database, &table, HardDelete::Default).await)?;
        }
        Ok(())
    }

    async fn create_policy(&self, policy: &RetentionPolicy) -> Result<()> {
        let database = self.existing(&policy.database)?;
        let period = period(&policy.options)?.flatten();
        let own = own_database(&database, &policy.name)?;
        self.principal.require(Action::Create, &own)?;
        if policy.default {
            self.principal.require(Action::Admin, &database)?;
        }
        match self.services.engine.create_policy(&database, &policy.name, period, policy.default).await {
            Err(error) if error.kind() == ErrorKind::Conflict && self.retention(&own) == period => {
                match !policy.default || self.is_default(&database, &own) {
                    true => Ok(()),
                    false => Err(conflicting()),
                }
            }
            other => other.map_err(policy_exists),
        }
    }

    async fn alter_policy(&self, policy: &RetentionPolicy) -> Result<()> {
        let database = self.existing(&policy.database)?;
        let own = self.existing_policy(&database, &policy.name)?;
        self.principal.require(Action::Admin, &own)?;
        if policy.default {
            self.principal.require(Action::Admin, &database)?;
        }
        if let Some(period) = period(&policy.options)? {
            self.services.engine.set_retention(&own, None, period).await?;
        }
        if policy.default {
            let chosen = (own != database).then_some(policy.name.as_str());
            self.services.engine.set_default_policy(&database, chosen).await?;
        }
        Ok(())
    }

    /// Deletes it with its measurements, if it exists. If it is the default one it stays so, and rows need another one named.
    async fn drop_policy(&self, database: &str, name: &str) -> Result<()> {
        let database = self.existing(database)?;
        let Ok(own) = self.existing_policy(&database, name) else { return Ok(()) };
        if own == database {
            let message = "the retention policy autogen is the database itself; DROP DATABASE deletes it";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.principal.require(Action::Delete, &own)?;
        if_there(self.services.engine.delete_database(&own, HardDelete::Default).await)
    }

    /// A database that is there for who asks.
    fn existing(&self, name: &str) -> Result<DatabaseName> {
        let known = DatabaseName::new(name)
            .ok()
            .filter(|database| self.principal.rights().see(database) && self.services.engine.database_exists(database));
        known.ok_or_else(|| Error::not_found(format!("database not found: {name}")))
    }

    fn existing_policy(&self, database: &DatabaseName, policy: &str) -> Result<DatabaseName> {
        let own = own_database(database, policy)?;
        let known = self.existing(own.as_str());
        known.map_err(|_| Error::not_found(format!("retention policy not found: {policy}")))
    }

    /// The databases that the retention policies of a database are, as far as they may be known.
    fn policies(&self, database: &DatabaseName) -> Vec<DatabaseName> {
        let prefix = format!("{database}/");
        let mut policies = self.services.engine.databases();
        policies.retain(|other| other.as_str().starts_with(&prefix) && self.principal.rights().see(other));
        policies
    }

    /// Whether a retention policy is the one that is meant where none is named.
    fn is_default(&self, database: &DatabaseName, own: &DatabaseName) -> bool {
        match self.services.engine.default_policy(database) {
            Some(policy) => database.of_policy(&policy).is_ok_and(|chosen| chosen == *own),
            None => own == database,
        }
    }

    fn retention(&self, database: &DatabaseName) -> Option<Duration> {
        let mut known = self.services.engine.retentions().into_iter();
        known.find(|known| known.database == *database && known.table.is_none()).map(|known| known.period)
    }
}

/// The database that a retention policy is.
fn own_database(database: &DatabaseName, policy: &str) -> Result<DatabaseName> {
    database.of_policy(policy).map_err(|error| Error::invalid(error.to_string()))
}

/// What InfluxDB says of a policy that is there and has another period.
fn policy_exists(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Conflict => Error::new(ErrorKind::Conflict, "retention policy already exists"),
        _ => error,
    }
}

/// What InfluxDB says of a policy that is there and not the default one, or the other way round.
fn conflicting() -> Error {
    Error::new(ErrorKind::Conflict, "retention policy conflicts with an existing policy")
}

/// How long rows are to be seen, if that is said; `Some(None)`: for ever.
fn period(options: &PolicyOptions) -> Result<Option<Option<Duration>>> {
    let Some(nanos) = options.duration else { return Ok(None) };
    let period = Duration::from_nanos(nanos.unsigned_abs());
    if nanos == 0 {
        return Ok(Some(None));
    }
    if nanos < 0 || period < PERIOD_MIN {
        return Err(Error::invalid("retention policy duration must be at least 1h0m0s"));
    }
    Ok(Some(Some(period)))
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
