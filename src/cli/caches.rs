//! `create` and `delete` of `last_cache` and `distinct_cache`.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::Method;
use serde_json::json;

use super::Exit;
use super::client::{ClientError, Connection};
use crate::config::client::ClientSettings;
use crate::config::values;

/// What is to be done to a cache of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheCommand {
    pub database: String,
    pub table: String,
    /// Not needed for a new one.
    pub name: Option<String>,
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    CreateLast {
        keys: Option<Vec<String>>,
        values: Option<Vec<String>>,
        count: Option<u32>,
        ttl_seconds: Option<u64>,
        per_field: bool,
    },
    CreateDistinct {
        columns: Vec<String>,
        cardinality_max: Option<u32>,
        age_max_seconds: Option<u64>,
    },
    DeleteLast,
    DeleteDistinct,
}

pub(crate) fn create_commands() -> [Command; 2] {
    let last = Command::new("last_cache")
        .about("Keep the newest points of each key of a table at hand")
        .args(common(false))
        .arg(list("key-columns", "Columns by which points belong together; without it all tags"))
        .arg(list("value-columns", "The other columns; without it all, also those that come later"))
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("Points of each key [default: 1]"),
        )
        .arg(age("ttl", "Show no points that are older, such as 4h; without it all"))
        .arg(
            Arg::new("per-field")
                .long("per-field")
                .action(ArgAction::SetTrue)
                .conflicts_with("count")
                .help("One row of each key, with the newest value of each column, whichever points these are of"),
        )
        .after_help(
            "Example:\n  flightline create last_cache -d nyc -t cpu --key-columns host --count 5 cpu_by_host\n  \
             flightline query -d nyc \"SELECT * FROM last_cache('cpu', 'cpu_by_host') WHERE host = 'a'\"",
        );
    let distinct = Command::new("distinct_cache")
        .about("Keep the distinct values of columns of a table at hand")
        .args(common(false))
        .arg(list("columns", "Tags and fields, from the coarse to the fine").required(true))
        .arg(
            Arg::new("max-cardinality")
                .long("max-cardinality")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("Most combinations of values; those with the newest points stay [default: 100000]"),
        )
        .arg(age("max-age", "Show no values whose newest point is older, such as 1d; without it all"))
        .after_help(
            "Example:\n  flightline create distinct_cache -d nyc -t cpu --columns region,host\n  \
             flightline query -d nyc \"SELECT region FROM distinct_cache('cpu')\"",
        );
    [last, distinct]
}

pub(crate) fn delete_commands() -> [Command; 2] {
    [("last_cache", "Delete a cache of newest points"), ("distinct_cache", "Delete a cache of distinct values")]
        .map(|(name, about)| Command::new(name).about(about).args(common(true)))
}

/// The table, and the cache by its place or, as older scripts have it, by a flag.
fn common(needs_name: bool) -> [Arg; 3] {
    let name = Arg::new("name").value_name("NAME").help("Name of the cache");
    let name = if needs_name {
        name.required_unless_present("cache-name")
    } else {
        name.help("Name of the cache; without it one that is made of the table and the columns")
    };
    [
        name,
        Arg::new("cache-name").long("cache-name").value_name("NAME").hide(true).conflicts_with("name"),
        Arg::new("table").short('t').long("table").value_name("TABLE").required(true).help("Name of the table"),
    ]
}

fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("COLUMNS").value_delimiter(',').action(ArgAction::Append).help(help)
}

fn age(name: &'static str, help: &'static str) -> Arg {
    let seconds = |text: &str| match values::duration(text).map(|age| age.as_secs()) {
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("expected a length of time of at least a second, such as 4h".to_owned()),
    };
    Arg::new(name).long(name).value_name("DURATION").value_parser(seconds).help(help)
}

impl CacheCommand {
    /// `verb` and `noun` are the two subcommands; `None` if no database is named.
    pub(crate) fn from_flags(verb: &str, noun: &str, flags: &ArgMatches, database: Option<String>) -> Option<Self> {
        let names = |name: &str| flags.get_many::<String>(name).map(|names| names.cloned().collect::<Vec<_>>());
        let deed = match (verb, noun) {
            ("create", "last_cache") => Deed::CreateLast {
                keys: names("key-columns"),
                values: names("value-columns"),
                count: flags.get_one("count").copied(),
                ttl_seconds: flags.get_one("ttl").copied(),
                per_field: flags.get_flag("per-field"),
            },
            ("create", _) => Deed::CreateDistinct {
                columns: names("columns").unwrap_or_default(),
                cardinality_max: flags.get_one("max-cardinality").copied(),
                age_max_seconds: flags.get_one("max-age").copied(),
            },
            (_, "last_cache") => Deed::DeleteLast,
            _ => Deed::DeleteDistinct,
        };
        let name = flags.get_one::<String>("name").or_else(|| flags.get_one("cache-name")).cloned();
        Some(Self { database: database?, table: flags.get_one::<String>("table").cloned()?, name, deed })
    }

    pub(crate) async fn run(&self, settings: &ClientSettings) -> Result<Exit, ClientError> {
        let Self { database, table, name, deed } = self;
        let connection = Connection::new(settings)?;
        let path = match deed {
            Deed::CreateLast { .. } | Deed::DeleteLast => "/api/v3/configure/last_cache",
            Deed::CreateDistinct { .. } | Deed::DeleteDistinct => "/api/v3/configure/distinct_cache",
        };
        let mut body = json!({ "db": database, "table": table });
        let said = |body: &mut serde_json::Value, field: &str, value: serde_json::Value| {
            // What is not said is left to the server, whose defaults may be others.
            if !value.is_null() {
                body[field] = value;
            }
        };
        said(&mut body, "name", json!(name));
        let request = match deed {
            Deed::CreateLast { keys, values, count, ttl_seconds, per_field } => {
                said(&mut body, "key_columns", json!(keys));
                said(&mut body, "value_columns", json!(values));
                said(&mut body, "count", json!(count));
                said(&mut body, "ttl", json!(ttl_seconds));
                said(&mut body, "per_field", json!(per_field.then_some(true)));
                connection.request(Method::POST, path).json(&body)
            }
            Deed::CreateDistinct { columns, cardinality_max, age_max_seconds } => {
                said(&mut body, "columns", json!(columns));
                said(&mut body, "max_cardinality", json!(cardinality_max));
                said(&mut body, "max_age", json!(age_max_seconds));
                connection.request(Method::POST, path).json(&body)
            }
            Deed::DeleteLast | Deed::DeleteDistinct => {
                let name = name.as_deref().unwrap_or_default();
                connection
                    .request(Method::DELETE, path)
                    .query(&[("db", database), ("table", table)])
                    .query(&[("name", name)])
            }
        };
        connection.success(request).await?;
        match (deed, name) {
            (Deed::DeleteLast | Deed::DeleteDistinct, _) => println!("Cache deleted successfully"),
            (_, Some(name)) => println!("Cache {name:?} created successfully"),
            (_, None) => println!("Cache created successfully"),
        }
        Ok(Exit::Success)
    }
}
