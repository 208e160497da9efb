//! The SQL names of Arrow types, and all that drivers want to know of each: `GetXdbcTypeInfo` and column metadata.
//!
//! One table serves both, because Power BI looks a column's `TYPE_NAME` up among the types.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::sql::metadata::XdbcTypeInfoDataBuilder;
use arrow_flight::sql::{Nullable, Searchable};

/// `SQL_DATETIME`, the type of which date, time and timestamp are subcodes.
const DATETIME: i32 = 9;

/// A SQL type as ODBC and JDBC describe one.
#[derive(Debug)]
pub(super) struct SqlType {
    /// As it can be written in a `CAST`.
    pub(super) name: &'static str,
    /// The code that ODBC and JDBC agree on; arrow-flight's enum lacks some of them.
    code: i32,
    /// Digits (binary ones if the radix is 2), characters or bytes.
    pub(super) precision: i32,
    /// What stands before and after a literal.
    quotes: Option<(&'static str, &'static str)>,
    /// What may be given in parentheses.
    parameters: &'static [&'static str],
    /// Whether values are numbers without a sign; `None` if they are no numbers.
    unsigned: Option<bool>,
    /// The base in which `precision` counts digits.
    radix: Option<i32>,
    /// Most digits after the point.
    pub(super) scale: Option<i32>,
    datetime_subcode: Option<i32>,
}

impl SqlType {
    const fn number(name: &'static str, code: i32, digits: i32, unsigned: bool) -> Self {
        Self { unsigned: Some(unsigned), radix: Some(10), scale: Some(0), ..Self::plain(name, code, digits) }
    }

    const fn floating(name: &'static str, code: i32, bits: i32) -> Self {
        Self { unsigned: Some(false), radix: Some(2), ..Self::plain(name, code, bits) }
    }

    const fn quoted(name: &'static str, code: i32, length: i32, before: &'static str) -> Self {
        Self { quotes: Some((before, "'")), ..Self::plain(name, code, length) }
    }

    const fn plain(name: &'static str, code: i32, precision: i32) -> Self {
        Self {
            name,
            code,
            precision,
            quotes: None,
            parameters: &[],
            unsigned: None,
            radix: None,
            scale: None,
            datetime_subcode: None,
        }
    }

    /// Whether comparing texts of it minds upper and lower case.
    pub(super) fn case_sensitive(&self) -> bool {
        self.code == VARCHAR.code
    }
}

const BOOLEAN: SqlType = SqlType::plain("BOOLEAN", -7, 1);
const TINYINT: SqlType = SqlType::number("TINYINT", -6, 3, false);
const TINYINT_UNSIGNED: SqlType = SqlType::number("TINYINT UNSIGNED", -6, 3, true);
const BIGINT: SqlType = SqlType::number("BIGINT", -5, 19, false);
const BIGINT_UNSIGNED: SqlType = SqlType::number("BIGINT UNSIGNED", -5, 20, true);
const VARBINARY: SqlType = SqlType::quoted("VARBINARY", -3, i32::MAX, "X'");
const DECIMAL: SqlType = SqlType {
    unsigned: Some(false),
    radix: Some(10),
    scale: Some(76),
    parameters: &["precision", "scale"],
    ..SqlType::plain("DECIMAL", 3, 76)
};
const INTEGER: SqlType = SqlType::number("INTEGER", 4, 10, false);
const INTEGER_UNSIGNED: SqlType = SqlType::number("INTEGER UNSIGNED", 4, 10, true);
const SMALLINT: SqlType = SqlType::number("SMALLINT", 5, 5, false);
const SMALLINT_UNSIGNED: SqlType = SqlType::number("SMALLINT UNSIGNED", 5, 5, true);
const REAL: SqlType = SqlType::floating("REAL", 7, 24);
const DOUBLE: SqlType = SqlType::floating("DOUBLE", 8, 53);
const INTERVAL: SqlType = SqlType::quoted("INTERVAL", 10, 29, "INTERVAL '");
const VARCHAR: SqlType = SqlType::quoted("VARCHAR", 12, i32::MAX, "'");
const DATE: SqlType = SqlType { datetime_subcode: Some(1), ..SqlType::quoted("DATE", 91, 10, "DATE '") };
const TIME: SqlType =
    SqlType { datetime_subcode: Some(2), scale: Some(9), ..SqlType::quoted("TIME", 92, 18, "TIME '") };
const TIMESTAMP: SqlType =
    SqlType { datetime_subcode: Some(3), scale: Some(9), ..SqlType::quoted("TIMESTAMP", 93, 29, "TIMESTAMP '") };

/// Every type, by code and name, the order in which they are listed.
static TYPES: [SqlType; 18] = [
    BOOLEAN,
    TINYINT,
    TINYINT_UNSIGNED,
    BIGINT,
    BIGINT_UNSIGNED,
    VARBINARY,
    DECIMAL,
    INTEGER,
    INTEGER_UNSIGNED,
    SMALLINT,
    SMALLINT_UNSIGNED,
    REAL,
    DOUBLE,
    INTERVAL,
    VARCHAR,
    DATE,
    TIME,
    TIMESTAMP,
];

/// The SQL type of an Arrow type; nested types have none.
pub(super) fn sql_type(data_type: &DataType) -> Option<&'static SqlType> {
    let found: &'static SqlType = match data_type {
        DataType::Boolean => &BOOLEAN,
        DataType::Int8 => &TINYINT,
        DataType::Int16 => &SMALLINT,
        DataType::Int32 => &INTEGER,
        DataType::Int64 => &BIGINT,
        DataType::UInt8 => &TINYINT_UNSIGNED,
        DataType::UInt16 => &SMALLINT_UNSIGNED,
        DataType::UInt32 => &INTEGER_UNSIGNED,
        DataType::UInt64 => &BIGINT_UNSIGNED,
        DataType::Float16 | DataType::Float32 => &REAL,
        DataType::Float64 => &DOUBLE,
        DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => &DECIMAL,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => &VARCHAR,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => &VARBINARY,
        DataType::Date32 | DataType::Date64 => &DATE,
        DataType::Time32(_) | DataType::Time64(_) => &TIME,
        DataType::Timestamp(_, _) => &TIMESTAMP,
        DataType::Duration(_) | DataType::Interval(_) => &INTERVAL,
        DataType::Dictionary(_, values) => return sql_type(values),
        _ => return None,
    };
    Some(found)
}

/// The columns of `GetXdbcTypeInfo`.
pub(super) fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

/// All types, or those with one code.
pub(super) fn rows(code: Option<i32>) -> Result<RecordBatch, ArrowError> {
    let types: Vec<&SqlType> = TYPES.iter().filter(|sql_type| code.is_none_or(|code| sql_type.code == code)).collect();
    let ints = |value: fn(&SqlType) -> Option<i32>| -> ArrayRef {
        Arc::new(types.iter().map(|sql_type| value(sql_type)).collect::<Int32Array>())
    };
    let booleans = |value: fn(&SqlType) -> Option<bool>| -> ArrayRef {
        Arc::new(types.iter().map(|sql_type| value(sql_type)).collect::<BooleanArray>())
    };
    let texts = |value: fn(&SqlType) -> Option<&'static str>| -> ArrayRef {
        Arc::new(types.iter().map(|sql_type| value(sql_type)).collect::<StringArray>())
    };
    let searchable = |sql_type: &SqlType| match sql_type.code {
        code if code == VARCHAR.code => Some(Searchable::Full as i32),
        // Everything but LIKE.
        _ => Some(Searchable::Basic as i32),
    };
    let sql_code = |sql_type: &SqlType| Some(sql_type.datetime_subcode.map_or(sql_type.code, |_| DATETIME));
    RecordBatch::try_new(
        schema(),
        vec![
            texts(|sql_type| Some(sql_type.name)),
            ints(|sql_type| Some(sql_type.code)),
            ints(|sql_type| Some(sql_type.precision)),
            texts(|sql_type| sql_type.quotes.map(|(before, _)| before)),
            texts(|sql_type| sql_type.quotes.map(|(_, after)| after)),
            parameters(&types),
            ints(|_| Some(Nullable::NullabilityNullable as i32)),
            booleans(|sql_type| Some(sql_type.case_sensitive())),
            ints(searchable),
            booleans(|sql_type| sql_type.unsigned),
            booleans(|_| Some(false)),
            booleans(|_| Some(false)),
            texts(|sql_type| Some(sql_type.name)),
            ints(|sql_type| sql_type.scale.map(|_| 0)),
            ints(|sql_type| sql_type.scale),
            ints(sql_code),
            ints(|sql_type| sql_type.datetime_subcode),
            ints(|sql_type| sql_type.radix),
            ints(|_| None),
        ],
    )
}

fn parameters(types: &[&SqlType]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for sql_type in types {
        for parameter in sql_type.parameters {
            lists.values().append_value(parameter);
        }
        lists.append(!sql_type.parameters.is_empty());
    }
    // The schema says that the items are never null; the builder doesn't know.
    let (field, offsets, values, nulls) = lists.finish().into_parts();
    let field = Arc::new(field.as_ref().clone().with_nullable(false));
    Arc::new(ListArray::new(field, offsets, values, nulls))
}
