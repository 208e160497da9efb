//! `create`, `update`, `delete`, `undelete` and `show`: databases and tables. `show` and `kill`: queries.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal};

use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use serde_json::json;

use super::Exit;
use super::caches;
use super::client::{ClientError, Connection};
use super::query::{Output, ask, format_argument};
use super::token;
use crate::config::client::{ClientSettings, HostKind, with_client_settings};

const DATABASE_PATH: &str = "/api/v3/configure/database";
const TABLE_PATH: &str = "/api/v3/configure/table";
const QUERIES_PATH: &str = "/api/v3/queries";
const DELETE_PATH: &str = "/api/v3/delete";

/// The tables that users made; servers also list their own.
pub(crate) const USER_TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox' ORDER BY table_name";

const ALL_TABLES: &str =
    "SELECT table_name, deleted, hard_deletion_time FROM system.tables ORDER BY deleted, table_name";

const RETENTIONS: &str = "SELECT table_name, retention_period_ns FROM system.retention ORDER BY table_name NULLS FIRST";

const FIELD_TYPES: [&str; 5] = ["int64", "uint64", "float64", "utf8", "bool"];

/// What is to be done to databases and tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admin {
    CreateDatabase { name: String, retention: Option<String> },
    CreateTable { database: String, name: String, tags: Vec<String>, fields: Vec<Field>, retention: Option<String> },
    UpdateDatabase { name: String, retention: String },
    UpdateTable { database: String, name: String, retention: String },
    DeleteDatabase { name: String, hard_delete: Option<String>, confirmation: Confirmation },
    DeleteTable { database: String, name: String, hard_delete: Option<String>, confirmation: Confirmation },
    DeleteRows(DeleteRows),
    UndeleteDatabase { name: String, new_name: Option<String> },
    UndeleteTable { database: String, name: String, new_name: Option<String> },
    ShowDatabases { deleted: Deleted, output: Output },
    ShowTables { database: String, deleted: Deleted, output: Output },
    ShowRetention { database: String, output: Output },
    ShowQueries { output: Output },
    KillQuery { id: u64 },
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeleteRows {
    pub database: String,
    pub table: String,
    pub start: Option<String>,
    pub stop: Option<String>,
    pub tags: Vec<(String, String)>,
    pub confirmation: Confirmation,
}

/// A field of a new table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: String,
    /// One of [`FIELD_TYPES`].
    pub kind: String,
}

/// Whether a list shows what can be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    Hidden,
    Shown,
}

/// Whether the user has said yes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmation {
    Given,
    Wanted,
}

pub(crate) fn create_command() -> Command {
    let database = Command::new("database")
        .about("Create a database")
        .arg(name("NAME", "Letters, digits, '_' and '-', beginning with a letter or digit"))
        .arg(retention_argument())
        .after_help("Example:\n  flightline create database nyc --retention-period 90d");
    let table = Command::new("table")
        .about("Create a table, and its database if there is none")
        .arg(name("NAME", "Name of the table"))
        .arg(list("tags", "TAGS", "Names of the tags, in the order in which they sort, separated by commas"))
        .arg(
            list("fields", "FIELDS", "Names and types of the fields: int64, uint64, float64, utf8 or bool")
                .value_parser(field),
        )
        .arg(retention_argument())
        .after_help(
            "Tables also come into being with the first line written to them.\n\nExample:\n  \
             flightline create table cpu -d nyc --tags host,region --fields usage:float64,count:int64",
        );
    Command::new("create")
        .about("Create a database, a table, a cache or a token")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(token::create_command()))
        .subcommand(without_database(database))
        .subcommand(with_client_settings(table, HostKind::Any))
        .subcommands(caches::create_commands().map(|command| with_client_settings(command, HostKind::Any)))
}

pub(crate) fn update_command() -> Command {
    let period = || {
        retention_argument().required(true).help("How long rows are seen after their time, such as 7d; none: no limit")
    };
    let database = Command::new("database")
        .about("Change how long a database's rows are seen")
        .arg(name("NAME", "Name of the database"))
        .arg(period())
        .after_help("Example:\n  flightline update database nyc --retention-period 90d");
    let table = Command::new("table")
        .about("Change how long a table's rows are seen; none: as long as the database says")
        .arg(name("NAME", "Name of the table"))
        .arg(period())
        .after_help("Example:\n  flightline update table cpu -d nyc --retention-period none");
    Command::new("update")
        .about("Change a database or a table")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(database))
        .subcommand(with_client_settings(table, HostKind::Any))
}

pub(crate) fn delete_command() -> Command {
    let yes = || Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Don't ask");
    let database = Command::new("database")
        .about("Delete a database with all its tables")
        .arg(name("NAME", "Name of the database"))
        .arg(hard_delete_argument())
        .arg(yes())
        .after_help("Example:\n  flightline delete database nyc --yes\n\nIt can be brought back until then: see `flightline undelete`.");
    let table = Command::new("table")
        .about("Delete a table")
        .arg(name("NAME", "Name of the table"))
        .arg(hard_delete_argument())
        .arg(yes())
        .after_help("Example:\n  flightline delete table cpu -d nyc --hard-delete never\n\nIt can be brought back until then: see `flightline undelete`.");
    let time = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("TIME").help(help);
    let rows = Command::new("rows")
        .about("Delete rows of a table by time and tags")
        .arg(Arg::new("table").short('t').long("table").value_name("TABLE").required(true).help("Name of the table"))
        .arg(time("start", "The first time, such as 2024-01-31T00:00:00Z; without it from the beginning"))
        .arg(time("stop", "The last time; without it to the end"))
        .arg(
            Arg::new("tag")
                .long("tag")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(tag)
                .help("Only rows with this tag; several must all be there"),
        )
        .arg(yes())
        .after_help("Example:\n  flightline delete rows -d nyc -t cpu --stop 2023-12-31T23:59:59Z --tag host=a --yes");
    Command::new("delete")
        .about("Delete a database, a table, rows, a cache or a token")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(token::delete_command()))
        .subcommand(without_database(database))
        .subcommand(with_client_settings(table, HostKind::Any))
        .subcommand(with_client_settings(rows, HostKind::Any))
        .subcommands(caches::delete_commands().map(|command| with_client_settings(command, HostKind::Any)))
}

pub(crate) fn undelete_command() -> Command {
    let new_name =
        || Arg::new("new-name").long("name").value_name("NAME").help("A new name; without it the name that it had");
    let database = Command::new("database")
        .about("Bring a deleted database back with the tables that were deleted with it")
        .arg(name("NAME", "Name that it has since its deletion, or had before if that is clear"))
        .arg(new_name())
        .after_help(
            "Example:\n  flightline show databases --show-deleted\n  flightline undelete database nyc-20240131T120000",
        );
    let table = Command::new("table")
        .about("Bring a deleted table back with all its rows")
        .arg(name("NAME", "Name that it has since its deletion, or had before if that is clear"))
        .arg(new_name())
        .after_help("Example:\n  flightline show tables -d nyc --show-deleted\n  flightline undelete table cpu -d nyc --name cpu_old");
    Command::new("undelete")
        .about("Bring a deleted database or table back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(database))
        .subcommand(with_client_settings(table, HostKind::Any))
}

fn hard_delete_argument() -> Arg {
    Arg::new("hard-delete")
        .long("hard-delete")
        .value_name("WHEN")
        .help("When it goes for good: never, now, default (--hard-delete-default-duration of the server), or a time")
}

pub(crate) fn show_command() -> Command {
    let deleted = || {
        Arg::new("show-deleted").long("show-deleted").action(ArgAction::SetTrue).help("Also what can be brought back")
    };
    let databases = Command::new("databases").about("List the databases").arg(deleted()).arg(format_argument());
    let tables = Command::new("tables").about("List the tables of a database").arg(deleted()).arg(format_argument());
    let retention = Command::new("retention").about("List how long a database's rows are seen").arg(format_argument());
    let queries =
        Command::new("queries").about("List the queries that run and the last ones that did").arg(format_argument());
    Command::new("show")
        .about("List databases, tables, retention periods, queries or tokens")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(token::show_command()))
        .subcommand(without_database(databases))
        .subcommand(without_database(queries))
        .subcommand(with_client_settings(tables, HostKind::Any))
        .subcommand(with_client_settings(retention, HostKind::Any))
}

pub(crate) fn kill_command() -> Command {
    let query = Command::new("query")
        .about("End a query by its number")
        .arg(
            Arg::new("id")
                .value_name("ID")
                .required(true)
                .value_parser(clap::value_parser!(u64))
                .help("Its number, as `flightline show queries` lists it"),
        )
        .after_help("Example:\n  flightline show queries\n  flightline kill query 42");
    Command::new("kill")
        .about("End a query that runs")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(without_database(query))
}

/// These commands name their database, or need none; `--database` is taken, since scripts pass it everywhere.
fn without_database(command: Command) -> Command {
    with_client_settings(command, HostKind::Any).mut_arg("database", |argument| argument.hide(true))
}

fn name(value_name: &'static str, help: &'static str) -> Arg {
    Arg::new("name").value_name(value_name).required(true).help(help)
}

fn retention_argument() -> Arg {
    Arg::new("retention-period")
        .short('r')
        .long("retention-period")
        .value_name("DURATION")
        .help("How long rows are seen after their time, such as 7d; without it for ever")
}

fn list(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).value_delimiter(',').action(ArgAction::Append).help(help)
}

/// `usage:float64`; the name may hold colons itself.
fn field(text: &str) -> Result<Field, String> {
    let expected = || format!("expected NAME:TYPE, with one of the types {}", FIELD_TYPES.join(", "));
    let (name, kind) = text.rsplit_once(':').ok_or_else(expected)?;
    if name.is_empty() || !FIELD_TYPES.contains(&kind) {
        return Err(expected());
    }
    Ok(Field { name: name.to_owned(), kind: kind.to_owned() })
}

/// `host=a`
fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl Admin {
    /// `verb` and `noun` are the two subcommands; `None` if a database was needed and not named.
    pub(crate) fn from_flags(verb: &str, noun: &str, flags: &ArgMatches, database: Option<String>) -> Option<Self> {
        let name = || flags.get_one::<String>("name").cloned().unwrap_or_default();
        let confirmation = || if flags.get_flag("yes") { Confirmation::Given } else { Confirmation::Wanted };
        let retention = || flags.get_one::<String>("retention-period").cloned();
        let hard_delete = || flags.get_one::<String>("hard-delete").cloned();
        let new_name = || flags.get_one::<String>("new-name").cloned();
        let deleted = || if flags.get_flag("show-deleted") { Deleted::Shown } else { Deleted::Hidden };
        Some(match (verb, noun) {
            ("create", "database") => Self::CreateDatabase { name: name(), retention: retention() },
            ("update", "database") => Self::UpdateDatabase { name: name(), retention: retention()? },
            ("update", _) => Self::UpdateTable { database: database?, name: name(), retention: retention()? },
            ("create", _) => Self::CreateTable {
                database: database?,
                name: name(),
                tags: flags.get_many("tags").unwrap_or_default().cloned().collect(),
                fields: flags.get_many("fields").unwrap_or_default().cloned().collect(),
                retention: retention(),
            },
            ("delete", "database") => {
                Self::DeleteDatabase { name: name(), hard_delete: hard_delete(), confirmation: confirmation() }
            }
            ("delete", "rows") => Self::DeleteRows(DeleteRows {
                database: database?,
                table: flags.get_one::<String>("table").cloned()?,
                start: flags.get_one::<String>("start").cloned(),
                stop: flags.get_one::<String>("stop").cloned(),
                tags: flags.get_many("tag").unwrap_or_default().cloned().collect(),
                confirmation: confirmation(),
            }),
            ("delete", _) => Self::DeleteTable {
                database: database?,
                name: name(),
                hard_delete: hard_delete(),
                confirmation: confirmation(),
            },
            ("undelete", "database") => Self::UndeleteDatabase { name: name(), new_name: new_name() },
            ("undelete", _) => Self::UndeleteTable { database: database?, name: name(), new_name: new_name() },
            ("kill", _) => Self::KillQuery { id: flags.get_one("id").copied().unwrap_or_default() },
            (_, "queries") => Self::ShowQueries { output: Output::from_flags(flags) },
            (_, "databases") => Self::ShowDatabases { deleted: deleted(), output: Output::from_flags(flags) },
            (_, "retention") => Self::ShowRetention { database: database?, output: Output::from_flags(flags) },
            _ => Self::ShowTables { database: database?, deleted: deleted(), output: Output::from_flags(flags) },
        })
    }

    pub(crate) async fn run(&self, settings: &ClientSettings) -> Result<Exit, ClientError> {
        let connection = Connection::new(settings)?;
        match self {
            Self::CreateDatabase { name, retention } => {
                let body = json!({ "db": name, "retention_period": retention });
                connection.success(connection.request(Method::POST, DATABASE_PATH).json(&body)).await?;
                println!("Database {name:?} created successfully");
            }
            Self::UpdateDatabase { name, retention } => {
                let body = json!({ "db": name, "retention_period": period(retention) });
                connection.success(connection.request(Method::PUT, DATABASE_PATH).json(&body)).await?;
                println!("Database {name:?} updated successfully");
            }
            Self::UpdateTable { database, name, retention } => {
                let body = json!({ "db": database, "table": name, "retention_period": period(retention) });
                connection.success(connection.request(Method::PUT, TABLE_PATH).json(&body)).await?;
                println!("Table {database:?}.{name:?} updated successfully");
            }
            Self::CreateTable { database, name, tags, fields, retention } => {
                let fields: Vec<_> =
                    fields.iter().map(|field| json!({ "name": field.name, "type": field.kind })).collect();
                let body = json!({
                    "db": database, "table": name, "tags": tags, "fields": fields, "retention_period": retention
                });
                connection.success(connection.request(Method::POST, TABLE_PATH).json(&body)).await?;
                println!("Table {database:?}.{name:?} created successfully");
            }
            Self::DeleteDatabase { name, hard_delete, confirmation } => {
                confirmation.ask(&format!("database {name:?} with all its tables"))?;
                let request = connection.request(Method::DELETE, DATABASE_PATH).query(&[("db", name)]);
                connection.success(request.query(&hard_delete_at(hard_delete.as_deref()))).await?;
                println!("Database {name:?} deleted successfully");
            }
            Self::UndeleteDatabase { name, new_name } => {
                let body = json!({ "db": name, "name": new_name });
                let request = connection.request(Method::POST, &format!("{DATABASE_PATH}/undelete"));
                connection.success(request.json(&body)).await?;
                println!("Database {name:?} brought back successfully");
            }
            Self::UndeleteTable { database, name, new_name } => {
                let body = json!({ "db": database, "table": name, "name": new_name });
                let request = connection.request(Method::POST, &format!("{TABLE_PATH}/undelete"));
                connection.success(request.json(&body)).await?;
                println!("Table {database:?}.{name:?} brought back successfully");
            }
            Self::DeleteTable { database, name, hard_delete, confirmation } => {
                confirmation.ask(&format!("table {database:?}.{name:?}"))?;
                let request = connection.request(Method::DELETE, TABLE_PATH);
                let request = request.query(&[("db", database), ("table", name)]);
                connection.success(request.query(&hard_delete_at(hard_delete.as_deref()))).await?;
                println!("Table {database:?}.{name:?} deleted successfully");
            }
            Self::DeleteRows(rows) => {
                let DeleteRows { database, table, start, stop, tags, confirmation } = rows;
                confirmation.ask(&format!("rows of table {database:?}.{table:?}"))?;
                let tags: BTreeMap<_, _> = tags.iter().cloned().collect();
                let body = json!({ "db": database, "table": table, "start": start, "stop": stop, "tags": tags });
                connection.success(connection.request(Method::POST, DELETE_PATH).json(&body)).await?;
                println!("Rows of table {database:?}.{table:?} deleted successfully");
            }
            Self::ShowDatabases { deleted, output } => {
                output.check()?;
                let mut request = connection.request(Method::GET, DATABASE_PATH).query(&[("format", &output.format)]);
                if *deleted == Deleted::Shown {
                    request = request.query(&[("show_deleted", "true")]);
                }
                output.receive(connection.success(request).await?).await?;
            }
            Self::ShowQueries { output } => {
                output.check()?;
                let request = connection.request(Method::GET, QUERIES_PATH).query(&[("format", &output.format)]);
                output.receive(connection.success(request).await?).await?;
            }
            Self::KillQuery { id } => {
                let request = connection.request(Method::DELETE, QUERIES_PATH).query(&[("id", id)]);
                connection.success(request).await?;
                println!("Query {id} was told to end");
            }
            Self::ShowRetention { database, output } => {
                output.check()?;
                output.receive(ask(&connection, database, "sql", RETENTIONS, &output.format).await?).await?;
            }
            Self::ShowTables { database, deleted, output } => {
                output.check()?;
                let tables = if *deleted == Deleted::Shown { ALL_TABLES } else { USER_TABLES };
                output.receive(ask(&connection, database, "sql", tables, &output.format).await?).await?;
            }
        }
        Ok(Exit::Success)
    }
}

fn hard_delete_at(text: Option<&str>) -> Vec<(&'static str, &str)> {
    text.map(|text| ("hard_delete_at", text)).into_iter().collect()
}

/// `none` is what users write; servers take null.
fn period(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.eq_ignore_ascii_case("none"))
}

impl Confirmation {
    /// Asks on the terminal unless the user has said yes. Where nobody can be asked, the answer is no.
    pub(super) fn ask(self, what: &str) -> Result<(), ClientError> {
        self.ask_for(&format!("delete {what}"))
    }

    /// The same for something else than a deletion.
    pub(super) fn ask_for(self, deed: &str) -> Result<(), ClientError> {
        if self == Self::Given {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(ClientError::Unconfirmed("nobody can be asked here: confirm with --yes"));
        }
        eprintln!("Are you sure you want to {deed}? Enter 'yes' to confirm");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.map_err(|source| ClientError::Read { name: "the answer".into(), source })?;
        if answer.trim() == "yes" {
            return Ok(());
        }
        Err(ClientError::Unconfirmed("nothing was done, since it was not confirmed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_a_name_and_a_type() {
        let good = |text: &str| field(text).map(|field| (field.name, field.kind));
        assert_eq!(good("usage:float64"), Ok(("usage".into(), "float64".into())));
        assert_eq!(good("a:b:int64"), Ok(("a:b".into(), "int64".into())));
        for bad in ["usage", ":int64", "usage:", "usage:double", ""] {
            assert!(field(bad).unwrap_err().contains("utf8"), "{bad}");
        }
    }
}
