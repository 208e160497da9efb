//! Tables as flights: what `ListFlights` shows, and what a descriptor with a path asks for.
//!
//! A flight is all rows of a table; its path is `[table]`, or `[database, table]`, as for writing.

use arrow_flight::{Criteria, FlightDescriptor, FlightInfo};

use super::call::Call;
use super::error::FlightError;
use super::metadata::matches;
use super::tickets::{Statement, Work};
use super::{Described, Description, FlightService};
use crate::error::{Error, Result};
use crate::model::{Action, DatabaseName};
use crate::query::{Language, TableKind};

impl FlightService {
    /// Every table of the call's database whose name matches the criteria, a pattern with `%` and `_`; all of them without criteria.
    ///
    /// # Errors
    /// `Invalid` if no database is named and there is not exactly one, or for a pattern that is no text.
    pub(super) fn flights(&self, criteria: &Criteria, call: &Call) -> Result<Vec<FlightInfo>> {
        let database = call.database(&self.engine)?;
        let pattern = std::str::from_utf8(&criteria.expression).map_err(|_| {
            Error::invalid("the criteria are no text; they can be a pattern of table names, such as 'cpu%'")
        })?;
        let pattern = (!pattern.is_empty()).then_some(pattern);
        let tables: Vec<_> = self
            .queries
            .listing(&database, &call.principal.rights().tables(Action::Read, &database))?
            .into_iter()
            .filter(|table| table.kind == TableKind::Table)
            .collect();
        let wanted = matches(tables.iter().map(|table| table.name.as_str()), pattern)?;
        let tables = tables.into_iter().zip(wanted.iter()).filter(|(_, is_wanted)| *is_wanted == Some(true));
        tables
            .map(|(table, _)| {
                let descriptor = FlightDescriptor::new_path(vec![database.to_string(), table.name.clone()]);
                let work = Work::Statement(all_rows(database.clone(), &table.name));
                self.info(descriptor, &table.columns, false, vec![work], call)
            })
            .collect()
    }

    /// What a path asks for.
    ///
    /// # Errors
    /// `Invalid` for a path that is no table's; `NotFound` if the table does not exist.
    pub(super) async fn describe_path(&self, path: &[String], call: &Call) -> Result<Description> {
        let (database, table) = self.table_of_path(path, call)?;
        call.principal.require_on_table(Action::Read, &database, table)?;
        if self.engine.table_schema(&database, table).is_none() {
            return Err(Error::not_found(format!("table not found: {table}")));
        }
        let described = self.describe_statement(all_rows(database, table), call).await?;
        match described.work {
            Described::Ticket(_) => Ok(described),
            Described::Change(_) => Err(Error::internal("the rows of a table were planned as a change")),
        }
    }

    /// The database and the table that a path names.
    pub(super) fn table_of_path<'a>(&self, path: &'a [String], call: &Call) -> Result<(DatabaseName, &'a str)> {
        match path {
            [table] => Ok((call.database(&self.engine)?, table.as_str())),
            [database, table] => {
                let database = DatabaseName::new(database).map_err(|error| Error::invalid(error.to_string()))?;
                Ok((database, table.as_str()))
            }
            _ => Err(FlightError::Path.into()),
        }
    }
}

fn all_rows(database: DatabaseName, table: &str) -> Statement {
    let text = format!("SELECT * FROM \"{}\"", table.replace('"', "\"\""));
    Statement::new(database, Language::Sql, text)
}
