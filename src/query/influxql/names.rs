//! Databases and retention policies under the names that the engine knows.
//!
//! A retention policy other than `autogen` is a database of its own, `database/policy`, as `/write` makes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::resolve::{Catalog, Measured};
use super::value::Type;
use crate::engine::Engine;
use crate::model::{Action, DatabaseName, FieldType, OWN_POLICY, Rights, TableSchema};

/// What the engine has, for one request.
#[derive(Debug, Clone)]
pub(in crate::query) struct EngineCatalog {
    pub(in crate::query) engine: Arc<Engine>,
    /// The database of the request.
    pub(in crate::query) database: Option<String>,
    /// The retention policy of the request.
    pub(in crate::query) policy: Option<String>,
    /// What who asks may read: for all that statements can tell there is nothing else.
    pub(in crate::query) rights: Rights,
    /// What they want to do: only measurements of which they may are there.
    pub(in crate::query) action: Action,
}

impl EngineCatalog {
    /// The database of this name, by itself.
    ///
    /// # Errors
    /// In the words of InfluxDB, if there is none.
    pub(super) fn named(&self, database: Option<&str>) -> Result<DatabaseName, String> {
        let Some(name) = database.or(self.database.as_deref()).filter(|name| !name.is_empty()) else {
            return Err("database name required".to_owned());
        };
        let known = DatabaseName::new(name).ok().filter(|name| self.exists(name));
        known.ok_or_else(|| format!("database not found: {name}"))
    }

    fn exists(&self, database: &DatabaseName) -> bool {
        self.rights.see(database) && self.engine.database_exists(database)
    }

    /// The names of the databases that may be known to exist, sorted. A retention policy of a database is none itself.
    pub(super) fn database_names(&self) -> Vec<String> {
        let mut names = self.engine.databases();
        names.retain(|name| self.rights.see(name));
        let known: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let is_policy = |name: &str| name.split_once('/').is_some_and(|(database, _)| known.contains(&database));
        known.iter().filter(|name| !is_policy(name)).map(|name| (*name).to_owned()).collect()
    }

    /// How long the rows of a database are seen; `None`: for ever.
    pub(super) fn retention(&self, database: &DatabaseName) -> Option<Duration> {
        let mut known = self.engine.retentions().into_iter();
        known.find(|known| known.database == *database && known.table.is_none()).map(|known| known.period)
    }

    /// The retention policy that is meant where none is named, if it is another than the database itself. One that may not be known
    /// to exist is none.
    pub(super) fn default_policy(&self, database: &DatabaseName) -> Option<String> {
        let chosen = self.engine.default_policy(database)?;
        database.of_policy(&chosen).is_ok_and(|own| self.rights.see(&own)).then_some(chosen)
    }

    /// The databases that a name means which no retention policy stands before, where a statement is about all policies: as in
    /// InfluxDB what removes rows is.
    ///
    /// # Errors
    /// As [`Catalog::database`].
    pub(super) fn databases(&self, database: Option<&str>, policy: Option<&str>) -> Result<Vec<String>, String> {
        let is_policy_named = policy.is_some() || (database.is_none() && self.policy.is_some());
        match is_policy_named {
            true => Ok(vec![self.database(database, policy)?]),
            false => self.of_all_policies(database),
        }
    }

    /// The databases of all retention policies, whatever that of the request is: as in InfluxDB what it tells from its index of
    /// series is about them.
    ///
    /// # Errors
    /// As [`EngineCatalog::named`].
    pub(super) fn of_all_policies(&self, database: Option<&str>) -> Result<Vec<String>, String> {
        let policies = self.policies(&self.named(database)?).into_iter();
        Ok(policies.map(|(_, own)| own.as_str().to_owned()).collect())
    }

    /// The retention policies of a database: their names and databases, that of the database itself first.
    pub(super) fn policies(&self, database: &DatabaseName) -> Vec<(String, DatabaseName)> {
        let prefix = format!("{}/", database.as_str());
        let others = self.engine.databases().into_iter().filter_map(|other| {
            let policy = other.as_str().strip_prefix(&prefix)?.to_owned();
            self.rights.see(&other).then_some((policy, other))
        });
        std::iter::once((OWN_POLICY.to_owned(), database.clone())).chain(others).collect()
    }
}

impl Catalog for EngineCatalog {
    fn database(&self, database: Option<&str>, policy: Option<&str>) -> Result<String, String> {
        // The policy of the request is that of its database.
        let of_request = if database.is_none() { self.policy.as_deref() } else { None };
        let database = self.named(database)?;
        let policy = match policy.or(of_request) {
            None | Some("" | "default") => self.default_policy(&database).unwrap_or_else(|| OWN_POLICY.to_owned()),
            Some(policy) => policy.to_owned(),
        };
        let own = database.of_policy(&policy).ok().filter(|own| self.exists(own));
        own.map(|own| own.as_str().to_owned()).ok_or_else(|| format!("retention policy not found: {policy}"))
    }

    fn measurements(&self, database: &str) -> Vec<String> {
        let Ok(database) = DatabaseName::new(database) else { return Vec::new() };
        // A database that is deleted meanwhile has none.
        let tables = self.engine.tables(&database).unwrap_or_default();
        let readable = self.rights.tables(self.action, &database);
        let seen = tables.iter().map(|name| name.as_str()).filter(|name| readable.contains(name));
        let mut names: Vec<_> = seen.map(str::to_owned).collect();
        names.sort();
        names
    }

    fn measured(&self, database: &str, measurement: &str) -> Option<Arc<Measured>> {
        let database = DatabaseName::new(database).ok()?;
        if !self.rights.tables(self.action, &database).contains(measurement) {
            return None;
        }
        self.engine.table_schema(&database, measurement).map(|schema| Arc::new(measured(&schema)))
    }
}

fn measured(schema: &TableSchema) -> Measured {
    let mut tags: Vec<_> = schema.tags().iter().map(|tag| tag.as_str().to_owned()).collect();
    tags.sort();
    let fields: BTreeMap<_, _> =
        schema.fields().map(|(name, field)| (name.as_str().to_owned(), type_of_field(field))).collect();
    Measured { tags, fields }
}

fn type_of_field(field: FieldType) -> Type {
    match field {
        FieldType::Float => Type::Float,
        FieldType::Integer => Type::Integer,
        FieldType::Unsigned => Type::Unsigned,
        FieldType::String => Type::String,
        FieldType::Boolean => Type::Boolean,
    }
}
