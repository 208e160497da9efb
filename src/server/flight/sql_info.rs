//! What the server can do, as `GetSqlInfo` tells it.
//!
//! The list has no code that an old JDBC driver doesn't know: it keeps the answers in a map by enum and dies of a
//! null key. Which member of the union a value stands in is part of the contract too: 503, 505, 507 and 562
//! are documented as 32 bits, but all drivers read them as `bigint_value`.

use std::collections::{BTreeMap, HashSet};

use arrow::array::RecordBatch;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};

use crate::query::SUBSTRAIT_VERSIONS;

/// Version of the columnar format that is spoken.
const ARROW_VERSION: &str = "1.3";

/// Longest table or column name in bytes; `model::names` checks it.
const NAME_BYTES_MAX: i64 = 1024 * 1024;

/// What JDBC and ODBC understand as "no limit, or none that is known".
const NO_LIMIT: i64 = 0;

/// Entry, intermediate and full SQL-92: for queries. Tableau doesn't connect to a server that claims less.
const ANSI92_ALL: i32 = 0b111;

/// A value, by the member of the union that it stands in.
enum Value {
    Text(&'static str),
    Flag(bool),
    BigInt(i64),
    Bits(i32),
    Words(&'static [&'static str]),
    Conversions(BTreeMap<i32, Vec<i32>>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::BigInt(number)
    }
}

impl From<i32> for Value {
    fn from(bits: i32) -> Self {
        Self::Bits(bits)
    }
}

/// The facts with these codes, or all of them if there are no codes. Unknown codes have no fact.
pub(super) fn rows(codes: &[u32]) -> Result<RecordBatch> {
    let wanted: HashSet<u32> = codes.iter().copied().collect();
    let mut builder = SqlInfoDataBuilder::new();
    for (info, value) in facts() {
        let code = u32::try_from(info as i32).unwrap_or_default();
        if !wanted.is_empty() && !wanted.contains(&code) {
            continue;
        }
        match value {
            Value::Text(text) => builder.append(info, text),
            Value::Flag(flag) => builder.append(info, flag),
            Value::BigInt(number) => builder.append(info, number),
            Value::Bits(bits) => builder.append(info, bits),
            Value::Words(words) => builder.append(info, words),
            Value::Conversions(conversions) => builder.append(info, conversions),
        }
    }
    builder.build()?.record_batch([])
}

fn facts() -> Vec<(SqlInfo, Value)> {
    [server(), language(), words(), limits(), transactions()].into_iter().flatten().collect()
}

fn server() -> Vec<(SqlInfo, Value)> {
    vec![
        (SqlInfo::FlightSqlServerName, "Flightline".into()),
        (SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION").into()),
        (SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION.into()),
        (SqlInfo::FlightSqlServerReadOnly, false.into()),
        (SqlInfo::FlightSqlServerSql, true.into()),
        (SqlInfo::FlightSqlServerSubstrait, true.into()),
        (SqlInfo::FlightSqlServerSubstraitMinVersion, SUBSTRAIT_VERSIONS.0.into()),
        (SqlInfo::FlightSqlServerSubstraitMaxVersion, SUBSTRAIT_VERSIONS.1.into()),
        (SqlInfo::FlightSqlServerTransaction, (SqlSupportedTransaction::None as i32).into()),
        (SqlInfo::FlightSqlServerCancel, true.into()),
        (SqlInfo::FlightSqlServerStatementTimeout, 0.into()),
        (SqlInfo::FlightSqlServerTransactionTimeout, 0.into()),
        (SqlInfo::SqlDdlCatalog, false.into()),
        (SqlInfo::SqlDdlSchema, false.into()),
        (SqlInfo::SqlDdlTable, true.into()),
        (SqlInfo::SqlAllTablesAreSelectable, true.into()),
    ]
}

fn language() -> Vec<(SqlInfo, Value)> {
    let grammar = bits([
        SupportedSqlGrammar::SqlMinimumGrammar as i32,
        SupportedSqlGrammar::SqlCoreGrammar as i32,
        SupportedSqlGrammar::SqlExtendedGrammar as i32,
    ]);
    let group_by =
        bits([SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32]);
    // The comment of the protocol says ordinal; all servers and clients mean bits.
    let outer_joins = bits([
        SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
        SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
    ]);
    let subqueries = bits([
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
    ]);
    let unions = bits([SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]);
    let lower_case = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64;
    // Quoted names are taken as they are; there is no better word for it in the list.
    let as_written = SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64;
    vec![
        (SqlInfo::SqlIdentifierCase, lower_case.into()),
        (SqlInfo::SqlIdentifierQuoteChar, "\"".into()),
        (SqlInfo::SqlQuotedIdentifierCase, as_written.into()),
        (SqlInfo::SqlNullOrdering, (SqlNullOrdering::SqlNullsSortedHigh as i64).into()),
        (SqlInfo::SqlSearchStringEscape, "\\".into()),
        (SqlInfo::SqlExtraNameCharacters, "".into()),
        (SqlInfo::SqlSupportsColumnAliasing, true.into()),
        (SqlInfo::SqlNullPlusNullIsNull, true.into()),
        (SqlInfo::SqlSupportsConvert, Value::Conversions(conversions())),
        (SqlInfo::SqlSupportsTableCorrelationNames, true.into()),
        (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false.into()),
        (SqlInfo::SqlSupportsExpressionsInOrderBy, true.into()),
        (SqlInfo::SqlSupportsOrderByUnrelated, true.into()),
        (SqlInfo::SqlSupportedGroupBy, group_by.into()),
        (SqlInfo::SqlSupportsLikeEscapeClause, true.into()),
        (SqlInfo::SqlSupportsNonNullableColumns, true.into()),
        (SqlInfo::SqlSupportedGrammar, grammar.into()),
        (SqlInfo::SqlAnsi92SupportedLevel, ANSI92_ALL.into()),
        (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false.into()),
        (SqlInfo::SqlOuterJoinsSupportLevel, outer_joins.into()),
        (SqlInfo::SqlSchemaTerm, "schema".into()),
        (SqlInfo::SqlProcedureTerm, "procedure".into()),
        (SqlInfo::SqlCatalogTerm, "catalog".into()),
        (SqlInfo::SqlCatalogAtStart, true.into()),
        (SqlInfo::SqlSchemasSupportedActions, 0.into()),
        (SqlInfo::SqlCatalogsSupportedActions, 0.into()),
        (SqlInfo::SqlSupportedPositionedCommands, 0.into()),
        (SqlInfo::SqlSelectForUpdateSupported, false.into()),
        (SqlInfo::SqlStoredProceduresSupported, false.into()),
        (SqlInfo::SqlSupportedSubqueries, subqueries.into()),
        (SqlInfo::SqlCorrelatedSubqueriesSupported, true.into()),
        (SqlInfo::SqlSupportedUnions, unions.into()),
        (SqlInfo::SqlNamedParametersSupported, false.into()),
        (SqlInfo::SqlLocatorsUpdateCopy, false.into()),
        (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false.into()),
    ]
}

fn words() -> Vec<(SqlInfo, Value)> {
    vec![
        (SqlInfo::SqlKeywords, Value::Words(KEYWORDS)),
        (SqlInfo::SqlNumericFunctions, Value::Words(NUMERIC_FUNCTIONS)),
        (SqlInfo::SqlStringFunctions, Value::Words(STRING_FUNCTIONS)),
        (SqlInfo::SqlSystemFunctions, Value::Words(SYSTEM_FUNCTIONS)),
        (SqlInfo::SqlDatetimeFunctions, Value::Words(DATETIME_FUNCTIONS)),
    ]
}

fn limits() -> Vec<(SqlInfo, Value)> {
    let unlimited = [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ];
    let mut limits: Vec<(SqlInfo, Value)> = unlimited.map(|info| (info, NO_LIMIT.into())).into();
    limits.push((SqlInfo::SqlMaxColumnNameLength, NAME_BYTES_MAX.into()));
    limits.push((SqlInfo::SqlMaxTableNameLength, NAME_BYTES_MAX.into()));
    limits.push((SqlInfo::SqlMaxRowSizeIncludesBlobs, true.into()));
    limits
}

fn transactions() -> Vec<(SqlInfo, Value)> {
    let isolation = SqlTransactionIsolationLevel::SqlTransactionNone as i32;
    let forward_only = SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32;
    let read_only = SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32;
    vec![
        (SqlInfo::SqlDefaultTransactionIsolation, i64::from(isolation).into()),
        (SqlInfo::SqlTransactionsSupported, false.into()),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, bits([isolation]).into()),
        (SqlInfo::SqlDataDefinitionCausesTransactionCommit, false.into()),
        (SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false.into()),
        (SqlInfo::SqlSupportedResultSetTypes, bits([forward_only]).into()),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0.into()),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, bits([read_only]).into()),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0.into()),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0.into()),
        (SqlInfo::SqlBatchUpdatesSupported, true.into()),
        (SqlInfo::SqlSavepointsSupported, false.into()),
    ]
}

/// One bit for each of these positions.
fn bits<const N: usize>(positions: [i32; N]) -> i32 {
    positions.iter().map(|position| 1 << position).sum()
}

/// What `CAST` turns into what.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as Convert;
    let numbers = [
        Convert::SqlConvertBigint,
        Convert::SqlConvertDecimal,
        Convert::SqlConvertFloat,
        Convert::SqlConvertInteger,
        Convert::SqlConvertReal,
        Convert::SqlConvertSmallint,
        Convert::SqlConvertTinyint,
    ];
    let times = [Convert::SqlConvertDate, Convert::SqlConvertTimestamp];
    let text = Convert::SqlConvertVarchar;
    let codes = |targets: &[&[Convert]]| targets.concat().iter().map(|target| *target as i32).collect::<Vec<i32>>();

    let mut conversions = BTreeMap::new();
    for number in numbers {
        conversions.insert(number as i32, codes(&[&numbers, &[text]]));
    }
    for time in times {
        conversions.insert(time as i32, codes(&[&times, &[text]]));
    }
    conversions.insert(text as i32, codes(&[&numbers, &times, &[text]]));
    conversions
}

/// Words of the SQL dialect that are no plain names, beyond those of SQL:2003.
const KEYWORDS: &[&str] = &[
    "ANALYZE", "ANTI", "ASC", "DESC", "DESCRIBE", "EXPLAIN", "EXTRACT", "FORMAT", "ILIKE", "LIMIT", "OFFSET",
    "QUALIFY", "REGEXP", "RLIKE", "SEMI", "SHOW", "SIMILAR", "TABLES", "TOP", "TRY_CAST", "UNNEST", "VERBOSE",
    "WINDOW",
];

const NUMERIC_FUNCTIONS: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "iszero",
    "isnan",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "pow",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
];

const STRING_FUNCTIONS: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "contains",
    "decode",
    "encode",
    "ends_with",
    "find_in_set",
    "initcap",
    "instr",
    "left",
    "length",
    "levenshtein",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "octet_length",
    "overlay",
    "position",
    "regexp_count",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "substring",
    "substring_index",
    "to_hex",
    "translate",
    "trim",
    "upper",
    "uuid",
];

const SYSTEM_FUNCTIONS: &[&str] = &[
    "array_agg",
    "arrow_cast",
    "arrow_typeof",
    "coalesce",
    "greatest",
    "ifnull",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    "struct",
    "version",
];

const DATETIME_FUNCTIONS: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "date_bin",
    "date_bin_gapfill",
    "date_bin_wallclock",
    "date_bin_wallclock_gapfill",
    "date_part",
    "date_trunc",
    "datepart",
    "datetrunc",
    "extract",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_local_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "today",
    "tz",
];
