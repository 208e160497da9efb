//! `debug catalog`: what a store's catalog says, as text or as JSON. Reads only; a server may be running.
//!
//! Not here: whether the files are as it says (`check`).

use std::io::{self, Write};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::Exit;
use crate::clock::Clock;
use crate::config::{StoreConfig, with_store_settings};
use crate::engine::catalog::{
    Catalog, CatalogChange, CatalogObject, CatalogObjects, CatalogState, LogContent, LogRecord, SoftDeletion,
    TableEntry,
};
use crate::engine::store::{Store, open};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DataFile, DatabaseName, Rights, RowSelection, TimeRange, Timestamp};

const ABOUT: &str = "Show what the catalog in a store says";

const LONG_ABOUT: &str = "\
Show what the catalog in a store says: databases, tables, files, deletions, garbage, and the objects that it is made of. Reads \
only, and only the catalog; a server may be running. The flags are those by which `serve` is told of its store.

Ends with 0, or with 1 if there is no catalog or it can't be read.";

const AFTER_HELP: &str = "\
Examples:
  flightline debug catalog
  flightline debug catalog --files --table cpu --output json --object-store s3 --bucket metrics
  flightline debug catalog --log";

/// The parts of what is shown, in the order of text.
const PARTS: [&str; 4] = ["summary", "tables", "files", "log"];

/// What a line begins with, if it is there.
const FIRST: [&str; 6] = ["version", "number", "database", "table", "id", "name"];

/// What is to be shown besides the summary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    tables: bool,
    files: bool,
    log: bool,
    /// Only tables and files of tables with this name.
    table: Option<String>,
    json: bool,
}

/// The command.
pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let command = Command::new("catalog")
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .arg(flag("tables", "Each table"))
        .arg(flag("files", "Each file"))
        .arg(flag("log", "Each record of the log, decoded"))
        .arg(Arg::new("table").long("table").value_name("NAME").help("Only tables of this name, and their files"))
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("Text to read, or one JSON object"),
        );
    with_store_settings(command)
}

impl Shown {
    pub(super) fn from_flags(flags: &ArgMatches) -> Self {
        Self {
            tables: flags.get_flag("tables"),
            files: flags.get_flag("files"),
            log: flags.get_flag("log"),
            table: flags.get_one::<String>("table").cloned(),
            json: flags.get_one::<String>("output").is_some_and(|format| format == "json"),
        }
    }

    fn wants(&self, table: &TableEntry) -> bool {
        self.table.as_ref().is_none_or(|name| name == table.name.as_str())
    }
}

/// Prints what is wanted of the catalog in a store.
///
/// # Errors
/// `NotFound` if there is no catalog; `Corrupt` if it can't be read, after the log was shown if that is wanted;
/// `Unavailable` if the store doesn't answer or nothing can be printed.
pub(super) async fn show(config: &StoreConfig, shown: &Shown, clock: Arc<dyn Clock>) -> Result<Exit> {
    let store = open(&config.store, &config.connections)?;
    let objects = CatalogObjects::list(&store).await?;
    let state = Catalog::read(&store, Arc::clone(&clock)).await;
    let mut parts = Map::new();
    if let Ok(Some(state)) = &state {
        parts.insert("summary".to_owned(), summary(state, &objects));
        if shown.tables {
            parts.insert("tables".to_owned(), tables(state, shown));
        }
        if shown.files {
            parts.insert("files".to_owned(), files(state, shown));
        }
    }
    if shown.log {
        parts.insert("log".to_owned(), log(&store, &clock, &objects.records).await?);
    }
    let text = if shown.json { format!("{:#}\n", Value::Object(parts)) } else { as_text(&parts) };
    let unprinted = |error| Error::with_source(ErrorKind::Unavailable, "could not print the catalog", error);
    io::stdout().write_all(text.as_bytes()).map_err(unprinted)?;
    match state? {
        Some(_) => Ok(Exit::Success),
        None => Err(Error::not_found(format!("there is no catalog in \"{}\"", store.description()))),
    }
}

fn summary(state: &CatalogState, objects: &CatalogObjects) -> Value {
    let files = || state.kept_tables().flat_map(|table| table.files.iter());
    let bytes = |objects: &[CatalogObject]| objects.iter().map(|object| object.bytes).sum::<u64>();
    json!({
        "catalog": state.id().to_string(),
        "created": time(state.created()),
        "version": state.version(),
        "databases": state.databases().count(),
        "tables": state.table_count(),
        "deleted_databases": state.deleted_databases().count(),
        "deleted_tables": state.deleted_tables().count(),
        "columns": state.kept_tables().map(|table| table.schema.column_count()).sum::<usize>(),
        "files": files().count(),
        "file_rows": files().map(|file| file.rows).sum::<u64>(),
        "file_bytes": files().map(|file| file.bytes).sum::<u64>(),
        "row_deletions": state.kept_tables().map(|table| table.deletions.len()).sum::<usize>(),
        "garbage_files": state.garbage_count(),
        "garbage_bytes": state.garbage().map(|file| file.bytes).sum::<u64>(),
        "last_persisted_write": state.last_persisted_sequence().get(),
        "write_ahead_log": state.log_owner().map(|owner| json!({
            "id": owner.log.to_string(), "epoch": owner.epoch, "place": owner.place, "closed": owner.is_closed,
        })),
        "tokens": state.tokens().count(),
        "next_file": state.next_file_id().get(),
        "checkpoints": objects.checkpoints.iter().map(object).collect::<Vec<_>>(),
        "checkpoint_bytes": bytes(&objects.checkpoints),
        "records": objects.records.len(),
        "record_bytes": bytes(&objects.records),
    })
}

fn object(object: &CatalogObject) -> Value {
    json!({ "version": object.sequence, "bytes": object.bytes })
}

fn tables(state: &CatalogState, shown: &Shown) -> Value {
    let deletion_of = |table: &TableEntry| {
        state.deleted_tables().find(|deleted| deleted.entry.id == table.id).map(|deleted| &deleted.deletion)
    };
    let table = |table: &Arc<TableEntry>| {
        json!({
            "database": state.kept_database_name(table.database).map(DatabaseName::as_str),
            "table": table.name.as_str(),
            "id": table.id.get(),
            "columns": table.schema.column_count(),
            "files": table.files.len(),
            "file_rows": table.files.rows(),
            "file_bytes": table.files.bytes(),
            "persisted_through": table.persisted_through.get(),
            "retention_seconds": table.retention.map(|period| period.as_secs_f64()),
            "row_deletions": table.deletions.iter().map(|deletion| json!({
                "number": deletion.number, "through": deletion.through.get(), "rows": selection(&deletion.rows),
            })).collect::<Vec<_>>(),
            "deleted": deletion_of(table).map(deletion),
        })
    };
    state.kept_tables().filter(|table| shown.wants(table)).map(table).collect()
}

fn deletion(deletion: &SoftDeletion) -> Value {
    json!({
        "name": deletion.name,
        "at": time(deletion.deleted_at),
        "hard_delete_at": deletion.hard_delete_at.map(time),
    })
}

fn files(state: &CatalogState, shown: &Shown) -> Value {
    let tables = state.kept_tables().filter(|table| shown.wants(table));
    let file = |table: &TableEntry, file: &DataFile| {
        let mut facts = json!({ "table": table.name.as_str() });
        merge(&mut facts, new_file(file));
        facts
    };
    tables.flat_map(|table| table.files.iter().map(|one| file(table, one))).collect()
}

fn new_file(file: &DataFile) -> Value {
    json!({
        "id": file.id.get(),
        "path": file.path,
        "rows": file.rows,
        "bytes": file.bytes,
        "row_groups": file.row_groups.len(),
        "time": range(&file.time),
        "writes": [file.sequences.first.get(), file.sequences.last.get()],
        "deletions_applied": file.deletions_applied,
        "created": time(file.created),
        "tail_crc32c": format!("{:08x}", file.tail_crc32c),
    })
}

async fn log(store: &Store, clock: &Arc<dyn Clock>, records: &[CatalogObject]) -> Result<Value> {
    let mut shown = Vec::with_capacity(records.len());
    for object in records {
        if let Some(record) = Catalog::read_record(store, Arc::clone(clock), *object).await? {
            shown.push(self::record(&record));
        }
    }
    Ok(Value::Array(shown))
}

fn record(record: &LogRecord) -> Value {
    let mut facts = json!({
        "version": record.object.sequence, "bytes": record.object.bytes, "time": record.time.map(time),
    });
    merge(
        &mut facts,
        match &record.content {
            LogContent::Genesis => json!({ "genesis": true }),
            LogContent::Changes(changes) => json!({ "changes": changes.iter().map(change).collect::<Vec<_>>() }),
            LogContent::Unreadable(reason) => json!({ "unreadable": reason }),
        },
    );
    facts
}

/// A change under its name, with all that it says but the statistics of files.
fn change(change: &CatalogChange) -> Value {
    match change {
        CatalogChange::CreateDatabase { id, name } => {
            json!({ "create_database": { "id": id.get(), "name": name.as_str() } })
        }
        CatalogChange::CreateTable { database, id, name, schema } => json!({ "create_table": {
            "database": database.get(), "id": id.get(), "name": name.as_str(),
            "columns": schema.columns().map(|column| column.name.to_string()).collect::<Vec<_>>(),
        } }),
        CatalogChange::AddColumns { table, columns } => json!({ "add_columns": {
            "table": table.get(), "columns": columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        } }),
        CatalogChange::DeleteDatabase { id } => json!({ "delete_database": { "id": id.get() } }),
        CatalogChange::DeleteTable { id } => json!({ "delete_table": { "id": id.get() } }),
        CatalogChange::SoftDeleteDatabase { id, hard_delete_at } => {
            json!({ "soft_delete_database": { "id": id.get(), "hard_delete_at": hard_delete_at.map(time) } })
        }
        CatalogChange::SoftDeleteTable { id, hard_delete_at } => {
            json!({ "soft_delete_table": { "id": id.get(), "hard_delete_at": hard_delete_at.map(time) } })
        }
        CatalogChange::UndeleteDatabase { id, name } => {
            json!({ "undelete_database": { "id": id.get(), "name": name.as_str() } })
        }
        CatalogChange::UndeleteTable { id, name } => {
            json!({ "undelete_table": { "id": id.get(), "name": name.as_str() } })
        }
        CatalogChange::SetDatabaseRetention { id, period } => json!({ "set_database_retention": {
            "id": id.get(), "seconds": period.map(|period| period.as_secs_f64()),
        } }),
        CatalogChange::SetTableRetention { id, period } => json!({ "set_table_retention": {
            "id": id.get(), "seconds": period.map(|period| period.as_secs_f64()),
        } }),
        CatalogChange::SetDefaultPolicy { id, policy } => {
            json!({ "set_default_policy": { "id": id.get(), "policy": policy } })
        }
        CatalogChange::Persisted { table, files, through } => json!({ "persisted": {
            "table": table.get(), "through": through.get(), "files": files.iter().map(new_file).collect::<Vec<_>>(),
        } }),
        CatalogChange::ReplaceFiles { table, removed, added } => json!({ "replace_files": {
            "table": table.get(),
            "removed": removed.iter().map(|file| file.get()).collect::<Vec<_>>(),
            "added": added.iter().map(new_file).collect::<Vec<_>>(),
        } }),
        CatalogChange::DeleteRows { table, rows } => {
            json!({ "delete_rows": { "table": table.get(), "rows": selection(rows) } })
        }
        CatalogChange::OpenLog { log, epoch, place } => {
            json!({ "open_log": { "log": log.to_string(), "epoch": epoch, "place": place } })
        }
        CatalogChange::RecoverLog { epoch } => json!({ "recover_log": { "epoch": epoch } }),
        CatalogChange::CloseLog { epoch } => json!({ "close_log": { "epoch": epoch } }),
        CatalogChange::ReserveFileIds { count } => json!({ "reserve_file_ids": { "count": count } }),
        CatalogChange::CollectGarbage { paths } => json!({ "collect_garbage": { "paths": paths } }),
        // Without its hash, which is nobody's business.
        CatalogChange::CreateToken { id, name, hash: _, rights, expires_at } => json!({ "create_token": {
            "id": id, "name": name, "permissions": permissions(rights), "expires_at": expires_at.map(time),
        } }),
        CatalogChange::DeleteToken { name } => json!({ "delete_token": { "name": name } }),
        CatalogChange::CreateCache { table, cache } => json!({ "create_cache": {
            "table": table.get(), "kind": cache.kind().to_string(), "name": cache.name,
        } }),
        CatalogChange::DeleteCache { table, kind, name } => json!({ "delete_cache": {
            "table": table.get(), "kind": kind.to_string(), "name": name,
        } }),
    }
}

fn permissions(rights: &Rights) -> Vec<String> {
    rights.permissions().iter().map(ToString::to_string).collect()
}

fn selection(rows: &RowSelection) -> Value {
    let tags: Map<String, Value> =
        rows.tags.iter().map(|(name, value)| (name.to_string(), json!(value.as_deref()))).collect();
    json!({ "time": range(&rows.time), "tags": tags })
}

fn range(range: &TimeRange) -> Value {
    json!([time(range.min), time(range.max)])
}

fn time(time: Timestamp) -> String {
    time.to_string()
}

fn merge(facts: &mut Value, more: Value) {
    if let (Value::Object(facts), Value::Object(more)) = (facts, more) {
        facts.extend(more);
    }
}

/// The same as lines: the summary one fact a line, each table, file and record on one line.
fn as_text(parts: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (part, value) in PARTS.iter().filter_map(|part| parts.get_key_value(*part)) {
        match value {
            Value::Object(facts) => {
                let width = facts.keys().map(String::len).max().unwrap_or(0);
                facts.iter().for_each(|(name, fact)| text += &format!("{name:<width$}  {}\n", plain(fact)));
            }
            Value::Array(lines) => {
                text += &format!("\n{part}\n");
                lines.iter().for_each(|line| text += &format!("  {}\n", plain(line)));
            }
            other => text += &format!("{part}  {}\n", plain(other)),
        }
    }
    text
}

/// A value on one line; what is null is left out of an object.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(facts) => {
            let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
            let mut facts: Vec<_> = facts.iter().filter(|(_, fact)| !fact.is_null()).collect();
            facts.sort_by_key(|(name, _)| place(name)); // the others stay as they are
            let fact = |(name, fact): (&String, &Value)| match fact {
                Value::Object(_) => format!("{name} {{{}}}", plain(fact)),
                _ => format!("{name}={}", plain(fact)),
            };
            facts.into_iter().map(fact).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}
