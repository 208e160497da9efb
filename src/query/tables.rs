//! `CREATE TABLE` and `DROP TABLE`.
//!
//! ```sql
//! CREATE TABLE cpu (host TAG, region TAG, usage DOUBLE, note VARCHAR)
//! CREATE TABLE cpu (host VARCHAR, usage DOUBLE, time TIMESTAMP, PRIMARY KEY (host, time))
//! ```
//!
//! say the same of `host`: a tag is a column of type `TAG`, or a column of text in the primary key. `time` is there without being
//! named. DataFusion plans neither statement: what they say is looked at as it was parsed.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, DataType, Expr, Ident, ObjectName, ObjectNamePart,
    ObjectType, Statement, TableConstraint,
};

use super::error::QueryError;
use super::{CATALOG, TABLE_SCHEMA};
use crate::engine::{Engine, HardDelete};
use crate::error::{ErrorKind, Result};
use crate::model::{Column, ColumnKind, ColumnName, DatabaseName, FieldType, TIME_COLUMN, TableName, TableSchema};

/// A statement about a table as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TableChange {
    Create { table: TableName, schema: TableSchema, if_not_exists: bool },
    Drop { table: TableName, if_exists: bool },
}

impl TableChange {
    /// What a statement says, if it is one about a table as a whole.
    ///
    /// # Errors
    /// `Table` for what such a statement can't say here.
    pub(super) fn parse(statement: &Statement) -> Option<Result<Self, QueryError>> {
        match statement {
            Statement::CreateTable(create) => Some(create_table(create)),
            Statement::Drop {
                object_type: ObjectType::Table, if_exists, names, temporary: false, table: None, ..
            } => Some(match names.as_slice() {
                [name] => table_name(name).map(|table| Self::Drop { table, if_exists: *if_exists }),
                _ => Err(refused("DROP TABLE takes one table at a time")),
            }),
            _ => None,
        }
    }

    /// The table that it is about.
    pub(super) fn table(&self) -> &TableName {
        match self {
            Self::Create { table, .. } | Self::Drop { table, .. } => table,
        }
    }

    /// Does it. Returns how many rows were changed: none.
    ///
    /// # Errors
    /// `Conflict` or `NotFound` if the table is there, or not; `Exhausted` if there are too many tables or columns;
    /// `Unavailable` if the catalog can't be written.
    pub(super) async fn run(self, engine: &Engine, database: &DatabaseName) -> Result<u64> {
        let done = match self {
            Self::Create { table, schema, if_not_exists } => {
                match engine.create_table(database, &table, schema, None).await {
                    Err(error) if error.kind() == ErrorKind::Conflict && if_not_exists => Ok(()),
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        Err(QueryError::TableExists(table.to_string()).into())
                    }
                    created => created,
                }
            }
            Self::Drop { table, if_exists } => match engine.table_schema(database, table.as_str()) {
                Some(_) => engine.delete_table(database, &table, HardDelete::Default).await,
                None if if_exists => Ok(()),
                None => Err(QueryError::TableNotFound(table.to_string()).into()),
            },
        };
        done.map(|()| 0)
    }
}

fn create_table(create: &CreateTable) -> Result<TableChange, QueryError> {
    // Compared with what is understood, so that nothing that is said is passed over.
    let understood = CreateTable {
        or_replace: false,
        temporary: false,
        external: false,
        global: None,
        transient: false,
        volatile: false,
        query: None,
        like: None,
        clone: None,
        location: None,
        file_format: None,
        partition_by: None,
        order_by: None,
        cluster_by: None,
        inherits: None,
        partition_of: None,
        primary_key: None,
        comment: None,
        on_commit: None,
        table_options: CreateTableOptions::None,
        ..create.clone()
    };
    if create.query.is_some() {
        return Err(refused("create the table with its columns, then INSERT INTO it; CREATE TABLE … AS is not there"));
    }
    if *create != understood {
        return Err(refused(
            "CREATE TABLE [IF NOT EXISTS] name (column type, …, PRIMARY KEY (tags, time)) is all it takes",
        ));
    }
    let table = table_name(&create.name)?;
    let keys = key_columns(create)?;
    let mut names = HashSet::new();
    let mut columns = Vec::new();
    for definition in &create.columns {
        let name = normalized(&definition.name);
        if !names.insert(name.clone()) {
            return Err(refused(&format!("column '{name}' occurs twice")));
        }
        if let Some(column) = column(definition, &name, keys.contains(&name))? {
            columns.push(column);
        }
    }
    if let Some(missing) = keys.iter().find(|key| *key != TIME_COLUMN && !names.contains(*key)) {
        return Err(refused(&format!("the primary key names '{missing}', which is no column")));
    }
    columns.sort_by_key(|column| keys.iter().position(|key| key == column.name.as_str()).unwrap_or(usize::MAX));
    Ok(TableChange::Create { table, schema: TableSchema::new(columns), if_not_exists: create.if_not_exists })
}

/// The columns of the primary key, in its order.
fn key_columns(create: &CreateTable) -> Result<Vec<String>, QueryError> {
    let mut keys = Vec::new();
    for constraint in &create.constraints {
        let TableConstraint::PrimaryKey(key) = constraint else {
            return Err(refused(&format!("'{constraint}' is no constraint that a table can have; PRIMARY KEY is")));
        };
        for column in &key.columns {
            let Expr::Identifier(name) = &column.column.expr else {
                return Err(refused(&format!("the primary key is made of columns, not of '{column}'")));
            };
            keys.push(normalized(name));
        }
    }
    let is_key = |definition: &&ColumnDef| {
        definition.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_)))
    };
    keys.extend(create.columns.iter().filter(is_key).map(|definition| normalized(&definition.name)));
    Ok(keys)
}

/// A tag or field; nothing for `time`.
fn column(definition: &ColumnDef, name: &str, is_key: bool) -> Result<Option<Column>, QueryError> {
    let data_type = &definition.data_type;
    for option in &definition.options {
        match &option.option {
            ColumnOption::PrimaryKey(_) | ColumnOption::Null => {}
            ColumnOption::NotNull if is_key || name == TIME_COLUMN => {}
            other => return Err(refused(&format!("column '{name}' can't be {other}"))),
        }
    }
    if name == TIME_COLUMN {
        return match data_type {
            DataType::Timestamp(_, _) | DataType::TimestampNtz(_) | DataType::Datetime(_) => Ok(None),
            other => Err(refused(&format!("column 'time' is a TIMESTAMP and can't be {other}"))),
        };
    }
    let kind = match (kind(data_type), is_key) {
        (Some(ColumnKind::Field(FieldType::String) | ColumnKind::Tag), true) => ColumnKind::Tag,
        (Some(_), true) => {
            return Err(refused(&format!(
                "column '{name}' is in the primary key, so it is a tag and holds text, not {data_type}"
            )));
        }
        (Some(kind), false) => kind,
        (None, _) => {
            let can_be = "TAG, DOUBLE, BIGINT, BIGINT UNSIGNED, VARCHAR or BOOLEAN";
            return Err(refused(&format!("column '{name}' can't be {data_type}; it can be {can_be}")));
        }
    };
    let name = ColumnName::new(name).map_err(|error| refused(&error.to_string()))?;
    Ok(Some(Column { name, kind }))
}

fn kind(data_type: &DataType) -> Option<ColumnKind> {
    use DataType as Sql;
    let field = match data_type {
        Sql::Custom(name, arguments) if arguments.is_empty() && name.to_string().eq_ignore_ascii_case("tag") => {
            return Some(ColumnKind::Tag);
        }
        Sql::Float(_)
        | Sql::Float4
        | Sql::Float8
        | Sql::Float32
        | Sql::Float64
        | Sql::Real
        | Sql::Double(_)
        | Sql::DoublePrecision
        | Sql::Decimal(_)
        | Sql::Numeric(_)
        | Sql::Dec(_) => FieldType::Float,
        Sql::TinyInt(_)
        | Sql::SmallInt(_)
        | Sql::MediumInt(_)
        | Sql::Int(_)
        | Sql::Integer(_)
        | Sql::BigInt(_)
        | Sql::Int2(_)
        | Sql::Int4(_)
        | Sql::Int8(_)
        | Sql::Int16
        | Sql::Int32
        | Sql::Int64 => FieldType::Integer,
        Sql::TinyIntUnsigned(_)
        | Sql::SmallIntUnsigned(_)
        | Sql::IntUnsigned(_)
        | Sql::IntegerUnsigned(_)
        | Sql::BigIntUnsigned(_)
        | Sql::UInt8
        | Sql::UInt16
        | Sql::UInt32
        | Sql::UInt64
        | Sql::Unsigned => FieldType::Unsigned,
        Sql::Varchar(_)
        | Sql::CharVarying(_)
        | Sql::CharacterVarying(_)
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::Nvarchar(_)
        | Sql::Text
        | Sql::String(_) => FieldType::String,
        Sql::Boolean | Sql::Bool => FieldType::Boolean,
        _ => return None,
    };
    Some(ColumnKind::Field(field))
}

/// A name as queries understand it: lower case unless it is quoted.
fn normalized(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}

fn table_name(name: &ObjectName) -> Result<TableName, QueryError> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(name) => Some(normalized(name)),
            ObjectNamePart::Function(_) => None,
        })
        .collect();
    let parts = parts.unwrap_or_default();
    let table = match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [table] | [TABLE_SCHEMA, table] | [CATALOG, TABLE_SCHEMA, table] => TableName::new(table),
        _ => {
            return Err(refused(&format!(
                "tables are made and dropped in the schema '{TABLE_SCHEMA}', not as '{name}'"
            )));
        }
    };
    table.map_err(|error| refused(&error.to_string()))
}

fn refused(why: &str) -> QueryError {
    QueryError::Table(why.to_owned())
}
