//! What there is: catalogs, schemas, tables, keys, types, and what the server can do.
//!
//! Always true:
//! - the columns, their order and their nullability are those of the protocol, with no row too: Go's driver compares them;
//! - every row names the one catalog, and a filter for "no catalog" finds nothing;
//! - rows come in the order that the protocol asks for, in batches of bounded size.
//!
//! Not here: what tables look like to a query (`Queries::listing`), and which types there are (`types`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::builder::{BinaryBuilder, StringBuilder};
use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::kernels::comparison::like;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder, SqlInfoDataBuilder};
use arrow_flight::sql::{Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use futures::stream::{self, StreamExt};

use super::call::{BASE_TABLE, TABLE};
use super::error::FlightError;
use super::stream::Batches;
use super::tickets::Metadata;
use super::{sql_info, types};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::Tables;
use crate::query::{CATALOG, ListedTable, Queries, SYSTEM_SCHEMA, TABLE_SCHEMA, TableKind};

/// Where SQL describes itself.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The word for views.
const VIEW: &str = "VIEW";

/// Size of the schemas in one batch of `GetTables`.
const BATCH_SCHEMA_BYTES: usize = 1024 * 1024;

/// Rows in one batch of `GetTables`.
const BATCH_ROWS: usize = 4096;

/// The columns that a metadata command answers with; `None` if it is no metadata command.
pub(super) fn schema(command: &Command) -> Option<SchemaRef> {
    let schema = match command {
        Command::CommandGetCatalogs(_) => GetCatalogsBuilder::new().schema(),
        Command::CommandGetDbSchemas(command) => GetDbSchemasBuilder::from(command.clone()).schema(),
        Command::CommandGetTables(command) => GetTablesBuilder::from(command.clone()).schema(),
        Command::CommandGetTableTypes(_) => CommandGetTableTypes::default().into_builder().schema(),
        Command::CommandGetPrimaryKeys(_) => primary_keys_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => foreign_keys_schema(),
        Command::CommandGetXdbcTypeInfo(_) => types::schema(),
        Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
        _ => return None,
    };
    Some(schema)
}

/// Answers a metadata command.
///
/// # Errors
/// `NotFound` if the database does not exist; `Unsupported` if it is no metadata command.
pub(super) fn rows(
    command: Command,
    asked: &Metadata,
    readable: &Tables,
    engine: &Engine,
    queries: &Queries,
) -> Result<Batches> {
    let batch = match command {
        Command::CommandGetTables(command) => return tables(&command, asked, readable, queries),
        Command::CommandGetCatalogs(_) => catalogs(),
        Command::CommandGetDbSchemas(command) => schemas(command, asked, readable, queries),
        Command::CommandGetTableTypes(_) => table_types(&asked.table_type),
        Command::CommandGetPrimaryKeys(command) => primary_keys(&command, asked, readable, engine),
        // No table refers to another.
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_keys_schema())),
        Command::CommandGetXdbcTypeInfo(command) => types::rows(command.data_type).map_err(encode),
        Command::CommandGetSqlInfo(command) => sql_info::rows(&command.info).map_err(built),
        other => Err(FlightError::UnknownCommand(other.type_url().to_owned()).into()),
    };
    Ok(stream::iter([batch]).boxed())
}

fn catalogs() -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    builder.append(CATALOG);
    builder.build().map_err(built)
}

fn schemas(
    command: CommandGetDbSchemas,
    asked: &Metadata,
    readable: &Tables,
    queries: &Queries,
) -> Result<RecordBatch> {
    let mut names = BTreeSet::from([TABLE_SCHEMA, SYSTEM_SCHEMA, INFORMATION_SCHEMA].map(str::to_owned));
    names.extend(listing(asked, readable, queries)?.into_iter().map(|table| table.schema));
    let mut builder = GetDbSchemasBuilder::from(command);
    for name in names {
        builder.append(CATALOG, name);
    }
    builder.build().map_err(built)
}

fn table_types(table_type: &str) -> Result<RecordBatch> {
    let mut builder = CommandGetTableTypes::default().into_builder();
    builder.append(table_type);
    builder.append(VIEW);
    builder.build().map_err(built)
}

/// The tables of the asked database. Without one there are no tables to show, only the schemas that each has.
fn listing(asked: &Metadata, readable: &Tables, queries: &Queries) -> Result<Vec<ListedTable>> {
    match &asked.database {
        Some(database) => queries.listing(database, readable),
        None => Ok(Vec::new()),
    }
}

fn tables(command: &CommandGetTables, asked: &Metadata, readable: &Tables, queries: &Queries) -> Result<Batches> {
    let listed = listing(asked, readable, queries)?;
    let in_catalog = command.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG);
    let schemas =
        matches(listed.iter().map(|table| table.schema.as_str()), command.db_schema_filter_pattern.as_deref())?;
    let names = matches(listed.iter().map(|table| table.name.as_str()), command.table_name_filter_pattern.as_deref())?;
    let kinds: HashSet<String> = command.table_types.iter().map(|kind| kind.to_ascii_uppercase()).collect();

    let mut found: Vec<ListedTable> = listed
        .into_iter()
        .enumerate()
        .filter(|(row, table)| in_catalog && schemas.value(*row) && names.value(*row) && wants(&kinds, &table.kind))
        .map(|(_, table)| table)
        .collect();
    found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));

    let mut found = found.into_iter().peekable();
    let (include_schema, table_type) = (command.include_schema, asked.table_type.clone());
    let schema = GetTablesBuilder::from(command.clone()).schema();
    let batches = std::iter::from_fn(move || {
        found.peek()?;
        Some(tables_batch(&mut found, SchemaRef::clone(&schema), include_schema, &table_type).map_err(encode))
    });
    Ok(stream::iter(batches).boxed())
}

/// Takes tables until a batch of them is full.
fn tables_batch(
    tables: &mut impl Iterator<Item = ListedTable>,
    schema: SchemaRef,
    include_schema: bool,
    table_type: &str,
) -> Result<RecordBatch, ArrowError> {
    let (mut catalogs, mut schemas) = (StringBuilder::new(), StringBuilder::new());
    let (mut names, mut kinds, mut columns) = (StringBuilder::new(), StringBuilder::new(), BinaryBuilder::new());
    let (mut rows, mut bytes) = (0, 0);
    while rows < BATCH_ROWS && bytes < BATCH_SCHEMA_BYTES {
        let Some(table) = tables.next() else { break };
        catalogs.append_value(CATALOG);
        schemas.append_value(&table.schema);
        names.append_value(&table.name);
        kinds.append_value(match table.kind {
            TableKind::Table | TableKind::System => table_type,
            TableKind::View => VIEW,
        });
        if include_schema {
            let IpcMessage(message) = SchemaAsIpc::new(&described(&table), &IpcWriteOptions::default()).try_into()?;
            bytes += message.len();
            columns.append_value(message);
        }
        rows += 1;
    }
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(catalogs.finish()),
        Arc::new(schemas.finish()),
        Arc::new(names.finish()),
        Arc::new(kinds.finish()),
    ];
    if include_schema {
        arrays.push(Arc::new(columns.finish()));
    }
    RecordBatch::try_new(schema, arrays)
}

/// Which texts match a pattern with `%` and `_`, `\` before a sign that means itself. No pattern matches everything.
pub(super) fn matches<'a>(texts: impl Iterator<Item = &'a str>, pattern: Option<&str>) -> Result<BooleanArray> {
    let texts = StringArray::from_iter_values(texts);
    let Some(pattern) = pattern else {
        return Ok(BooleanArray::from(vec![true; texts.len()]));
    };
    like(&texts, &StringArray::new_scalar(pattern))
        .map_err(|error| Error::invalid(format!("could not use the filter pattern '{pattern}': {error}")))
}

/// Whether a table of this kind is asked for: Grafana says `BASE TABLE` and `table`, Power BI `TABLE`.
fn wants(kinds: &HashSet<String>, kind: &TableKind) -> bool {
    let table = kinds.contains(BASE_TABLE) || kinds.contains(TABLE);
    kinds.is_empty()
        || match kind {
            TableKind::Table => table,
            TableKind::System => table || kinds.contains("SYSTEM TABLE"),
            TableKind::View => kinds.contains(VIEW),
        }
}

/// The columns of a table, each with what JDBC and Power BI read from its metadata.
fn described(table: &ListedTable) -> Schema {
    let fields: Vec<Field> = table.columns.fields().iter().map(|field| described_column(field, table)).collect();
    Schema::new(fields)
}

fn described_column(field: &Field, table: &ListedTable) -> Field {
    let mut metadata = field.metadata().clone();
    let mut describe = |key: &str, value: String| metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value);
    let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
    describe("CATALOG_NAME", CATALOG.to_owned());
    describe("SCHEMA_NAME", table.schema.clone());
    describe("TABLE_NAME", table.name.clone());
    describe("IS_AUTO_INCREMENT", flag(false));
    describe("IS_READ_ONLY", flag(table.kind != TableKind::Table));
    describe("IS_SEARCHABLE", flag(true));
    if let Some(sql_type) = types::sql_type(field.data_type()) {
        describe("TYPE_NAME", sql_type.name.to_owned());
        describe("PRECISION", sql_type.precision.to_string());
        describe("SCALE", sql_type.scale.unwrap_or(0).to_string());
        describe("IS_CASE_SENSITIVE", flag(sql_type.case_sensitive()));
    }
    field.clone().with_metadata(HashMap::from_iter(metadata))
}

fn primary_keys_schema() -> SchemaRef {
    // The protocol's comment lists the last two the other way round; every other server and client has them so.
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}

/// A point is its tags and its time: the tags in the order of the series key, then `time`.
fn primary_keys(
    command: &CommandGetPrimaryKeys,
    asked: &Metadata,
    readable: &Tables,
    engine: &Engine,
) -> Result<RecordBatch> {
    let here = command.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG)
        && command.db_schema.as_deref().is_none_or(|schema| schema == TABLE_SCHEMA);
    let table = asked
        .database
        .as_ref()
        .filter(|_| here && readable.contains(&command.table))
        .and_then(|database| engine.table_schema(database, &command.table));
    let columns: Vec<&str> = table.iter().flat_map(|table| table.sort_key()).collect();
    let all = |text: &str| Arc::new(StringArray::from_iter_values(columns.iter().map(|_| text)));
    let sequence: Int32Array = (1..).take(columns.len()).collect::<Vec<i32>>().into();
    let nameless = StringArray::new_null(columns.len());
    RecordBatch::try_new(
        primary_keys_schema(),
        vec![
            all(CATALOG),
            all(TABLE_SCHEMA),
            all(&command.table),
            Arc::new(StringArray::from_iter_values(&columns)),
            Arc::new(sequence),
            Arc::new(nameless),
        ],
    )
    .map_err(encode)
}

fn foreign_keys_schema() -> SchemaRef {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

fn encode(error: ArrowError) -> Error {
    FlightError::Encode(error).into()
}

/// The builders fail only on what a filter brings, such as a pattern that is too large to compile.
fn built(error: arrow_flight::error::FlightError) -> Error {
    Error::with_source(crate::error::ErrorKind::Invalid, "could not list with these filters", error)
}
