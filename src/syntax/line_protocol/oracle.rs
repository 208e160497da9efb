//! A slow parser to compare with: the crate `influxdb-line-protocol`, one object for each row, and the rules
//! of the module page written down as plainly as possible.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType, UInt64Type};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines, split_lines};
use proptest::prelude::*;

use super::tests::{Known, options};
use super::{Options, Parsed, Schemas, parse};
use crate::model::{ColumnKind, ColumnName, FieldType, Precision, TIME_COLUMN, TableRows};

/// What a request leaves behind, in a form that both parsers can be brought to.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// In the order of their first row.
    tables: Vec<ExpectedTable>,
    accepted: usize,
    refused: usize,
}

#[derive(Debug, Default, PartialEq)]
struct ExpectedTable {
    name: String,
    /// In the order of their first use.
    tags: Vec<String>,
    fields: BTreeMap<String, FieldType>,
    rows: Vec<Row>,
}

#[derive(Debug, Default, PartialEq)]
struct Row {
    time: i64,
    cells: BTreeMap<String, Cell>,
}

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Tag(String),
    /// The bits: 0 and -0 differ.
    Float(u64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(String),
}

impl Cell {
    fn kind(&self) -> ColumnKind {
        match self {
            Self::Tag(_) => ColumnKind::Tag,
            Self::Float(_) => ColumnKind::Field(FieldType::Float),
            Self::Integer(_) => ColumnKind::Field(FieldType::Integer),
            Self::Unsigned(_) => ColumnKind::Field(FieldType::Unsigned),
            Self::Boolean(_) => ColumnKind::Field(FieldType::Boolean),
            Self::String(_) => ColumnKind::Field(FieldType::String),
        }
    }
}

impl From<&FieldValue<'_>> for Cell {
    fn from(value: &FieldValue<'_>) -> Self {
        match value {
            FieldValue::I64(number) => Self::Integer(*number),
            FieldValue::U64(number) => Self::Unsigned(*number),
            FieldValue::F64(number) => Self::Float(number.to_bits()),
            FieldValue::Boolean(value) => Self::Boolean(*value),
            FieldValue::String(text) => Self::String(text.to_string()),
        }
    }
}

/// What the slow parser makes of `body`.
fn slow(body: &str, schemas: &dyn Schemas, options: &Options) -> Outcome {
    let mut outcome = Outcome::default();
    for line in parse_lines(body) {
        let accepted = line.is_ok_and(|line| slow_line(&line, &mut outcome.tables, schemas, options).is_some());
        if accepted {
            outcome.accepted += 1;
        } else {
            outcome.refused += 1;
        }
    }
    outcome
}

/// Adds the row of one line, or nothing at all.
fn slow_line(
    line: &ParsedLine<'_>,
    tables: &mut Vec<ExpectedTable>,
    schemas: &dyn Schemas,
    options: &Options,
) -> Option<()> {
    let tags = line.series.tag_set.iter().flatten().map(|(key, value)| (key.to_string(), Cell::Tag(value.to_string())));
    let fields = line.field_set.iter().map(|(key, value)| (key.to_string(), Cell::from(value)));
    let cells: Vec<(String, Cell)> = tags.chain(fields).collect();
    let names: BTreeSet<&String> = cells.iter().map(|(name, _)| name).collect();
    let time = match line.timestamp {
        Some(number) => options.precision.to_timestamp(number)?,
        None => options.default_time,
    };
    let name = line.series.measurement.to_string();
    let schema = schemas.table(&name);
    let place = tables.iter().position(|table| table.name == name);
    let known_kind = |column: &str| {
        let given = schema.as_ref().and_then(|schema| schema.kind(column));
        given.or_else(|| tables[place?].kind(column))
    };
    let fits = |(name, cell): &(String, Cell)| {
        let finite = !matches!(cell, Cell::Float(bits) if !f64::from_bits(*bits).is_finite());
        finite && ColumnName::new(name).is_ok() && known_kind(name).is_none_or(|kind| kind == cell.kind())
    };
    if names.len() < cells.len() || !cells.iter().all(fits) {
        return None;
    }
    let place = place.unwrap_or_else(|| {
        tables.push(ExpectedTable { name: name.clone(), ..ExpectedTable::default() });
        tables.len() - 1
    });
    let table = &mut tables[place];
    for (name, cell) in &cells {
        match cell.kind() {
            ColumnKind::Tag if table.tags.contains(name) => {}
            ColumnKind::Tag => table.tags.push(name.clone()),
            ColumnKind::Field(field_type) => {
                table.fields.insert(name.clone(), field_type);
            }
        }
    }
    table.rows.push(Row { time: time.as_nanos(), cells: cells.into_iter().collect() });
    Some(())
}

impl ExpectedTable {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        let field = self.fields.get(column).map(|field_type| ColumnKind::Field(*field_type));
        field.or_else(|| self.tags.iter().any(|tag| tag == column).then_some(ColumnKind::Tag))
    }
}

/// The same of our parser.
fn outcome(parsed: &Parsed) -> Outcome {
    assert_eq!(parsed.accepted + parsed.refused_count, parsed.lines);
    assert_eq!(parsed.rows.row_count(), parsed.accepted);
    Outcome {
        tables: parsed.rows.tables.iter().map(table).collect(),
        accepted: parsed.accepted,
        refused: parsed.refused_count,
    }
}

fn table(rows: &TableRows) -> ExpectedTable {
    assert_eq!(rows.batch.schema_ref(), rows.schema.arrow());
    let time = rows.batch.column_by_name(TIME_COLUMN).unwrap().as_primitive::<TimestampNanosecondType>();
    let mut table = ExpectedTable {
        name: rows.table.to_string(),
        tags: rows.schema.tags().iter().map(ToString::to_string).collect(),
        fields: rows.schema.fields().map(|(name, field_type)| (name.to_string(), field_type)).collect(),
        rows: time.values().iter().map(|time| Row { time: *time, cells: BTreeMap::new() }).collect(),
    };
    for column in rows.schema.columns() {
        let array = rows.batch.column_by_name(column.name.as_str()).unwrap();
        assert!(array.null_count() < array.len(), "column {} is there for no row", column.name);
        for (number, row) in table.rows.iter_mut().enumerate() {
            if !array.is_null(number) {
                row.cells.insert(column.name.to_string(), cell(array, column.kind, number));
            }
        }
    }
    table
}

fn cell(array: &dyn Array, kind: ColumnKind, row: usize) -> Cell {
    match kind {
        ColumnKind::Tag => {
            let tags = array.as_dictionary::<Int32Type>();
            let values = tags.values().as_string::<i32>();
            let distinct: BTreeSet<_> = values.iter().collect();
            let used: BTreeSet<_> = tags.keys().iter().flatten().collect();
            assert_eq!((distinct.len(), used.len()), (values.len(), values.len()), "each value once, and used");
            Cell::Tag(values.value(tags.key(row).unwrap()).to_owned())
        }
        ColumnKind::Field(FieldType::Float) => Cell::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        ColumnKind::Field(FieldType::Integer) => Cell::Integer(array.as_primitive::<Int64Type>().value(row)),
        ColumnKind::Field(FieldType::Unsigned) => Cell::Unsigned(array.as_primitive::<UInt64Type>().value(row)),
        ColumnKind::Field(FieldType::Boolean) => Cell::Boolean(array.as_boolean().value(row)),
        ColumnKind::Field(FieldType::String) => Cell::String(array.as_string::<i32>().value(row).to_owned()),
    }
}

/// Whether `body` may be one of those in which the module page promises another answer than the crate's.
fn differs_from_the_crate(body: &str) -> bool {
    let quotes = body.contains('"');
    let odd_line = |line: &str| {
        let content = line.trim_start_matches([' ', '\t']);
        let comment = content.starts_with('#') && content.contains(['"', '\\']);
        let indented = quotes && line.starts_with([' ', '\t']) && !content.is_empty();
        comment || indented
    };
    body.contains('\r')
        || body.split('\n').any(odd_line)
        || split_lines(body).any(has_dangling_comma)
        || quotes && split_lines(body).any(has_comma_in_field_key)
}

/// Whether a comma follows the last field, which the crate allows where it is also the first.
fn has_dangling_comma(line: &str) -> bool {
    line.trim_end_matches(|character: char| matches!(character, ' ' | '-' | '0'..='9')).ends_with(',')
}

/// Whether some field's key seems to hold a comma that is not escaped.
fn has_comma_in_field_key(line: &str) -> bool {
    let (mut in_fields, mut in_key, mut quoted, mut before) = (false, true, false, ' ');
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '"' if quoted => quoted = false,
            '"' if in_fields && before == '=' => quoted = true,
            _ if quoted => {}
            ' ' => in_fields = true,
            '=' if in_fields => in_key = false,
            ',' if in_fields && in_key => return true,
            ',' if in_fields => in_key = true,
            _ => {}
        }
        before = character;
    }
    false
}

fn compare(body: &str) -> Result<(), TestCaseError> {
    let known = Known::of("known,host=a usage=1.5,count=1i");
    for precision in [Precision::Nanosecond, Precision::Auto] {
        let options = Options { precision, ..options() };
        let parsed = parse(body.as_bytes(), &known, &options);
        prop_assert_eq!(outcome(&parsed), slow(body, &known, &options), "{:?}", parsed.refused);
    }
    Ok(())
}

/// A name as a client would write it, each character that may need it escaped.
fn escaped(name: &str) -> String {
    let needs_escape = |character| matches!(character, ',' | '=' | ' ' | '\\');
    name.chars().flat_map(|c| needs_escape(c).then_some('\\').into_iter().chain([c])).collect()
}

fn measurement() -> impl Strategy<Value = String> {
    // In measurements an equals sign must not be escaped.
    let odd = "[a-zµ,\\\\\"#]{0,3}[ xy\"]".prop_map(|name| escaped(&format!("m{name}z")));
    prop_oneof![4 => Just("cpu".to_owned()), 2 => Just("known".to_owned()), 1 => odd]
}

fn key() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(vec!["a", "host", "usage", "count", "b_2", "temp.max"]).prop_map(str::to_owned);
    let odd = "[ ,=\\\\\"µ#a0]{1,3}[a-zé\"]".prop_map(|name| escaped(&name));
    prop_oneof![6 => plain, 1 => odd]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-100_000..100_000_i64).prop_map(|cents| format!("{}", cents as f64 / 100.0)),
        2 => any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| format!("{number}")),
        1 => any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| format!("{number:e}")),
        1 => "-?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
        2 => any::<i64>().prop_map(|number| format!("{number}i")),
        1 => any::<u64>().prop_map(|number| format!("{number}u")),
        1 => prop::sample::select(vec!["t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"])
            .prop_map(str::to_owned),
        2 => "[a-z ,=\\\\\"\nµ#]{0,8}".prop_map(|text| {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }),
    ]
}

fn point() -> impl Strategy<Value = String> {
    let tags = prop::collection::btree_map(key(), "[a-cé=\"]{1,3}", 0..4);
    // One type for most names, so that most lines agree.
    let typed = |name: &str| match name {
        "usage" | "a" => "1.5".to_owned(),
        "count" => "7i".to_owned(),
        _ => String::new(),
    };
    let fields = prop::collection::btree_map(key().prop_map(|key| format!("f{key}")), value(), 0..4);
    let common = prop::sample::subsequence(vec!["usage", "count"], 1..=2);
    let time = prop_oneof![3 => any::<i64>().prop_map(|time| format!(" {time}")), 1 => Just(String::new())];
    (measurement(), tags, common, fields, time).prop_map(move |(measurement, tags, common, fields, time)| {
        let mut line = measurement;
        for (key, value) in tags.iter().filter(|(key, _)| !common.contains(&key.as_str())) {
            line += &format!(",{key}={}", escaped(value));
        }
        let common = common.iter().map(|key| format!("{key}={}", typed(key)));
        let fields: Vec<String> = common.chain(fields.iter().map(|(key, value)| format!("{key}={value}"))).collect();
        format!("{line} {}{time}", fields.join(","))
    })
}

fn request() -> impl Strategy<Value = String> {
    let line = prop_oneof![8 => point(), 1 => Just(String::new()), 1 => Just("# a comment, with=this".to_owned())];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

/// The characters that mean something, and some that don't.
fn fragment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        ",",
        "=",
        " ",
        "\n",
        "\"",
        "\\",
        "\t",
        "#",
        "i",
        "u",
        "e",
        "E",
        "-",
        "+",
        ".",
        "0",
        "9",
        "t",
        "true",
        "\0",
        "é",
        "m",
        "m,a=b c=1",
        "f=1",
        "time",
        "=\"",
        "\\\"",
        "\\\\",
        "\\\n",
        "1e400",
        "99999999999999999999",
        "  ",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_requests_become_the_cells_that_the_slow_parser_sees(body in request()) {
        compare(&body)?;
    }

    #[test]
    fn mutated_requests_are_taken_and_refused_as_by_the_slow_parser(
        body in request(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), fragment(), 0..3_usize), 1..4),
    ) {
        let mut characters: Vec<char> = body.chars().collect();
        for (place, text, removed) in edits {
            let at = place.index(characters.len() + 1);
            let end = characters.len().min(at + removed);
            characters.splice(at..end, text.chars());
        }
        let body: String = characters.into_iter().collect();
        prop_assume!(!differs_from_the_crate(&body));
        compare(&body)?;
    }

    #[test]
    fn fragments_are_taken_and_refused_as_by_the_slow_parser(fragments in prop::collection::vec(fragment(), 0..24)) {
        let body = fragments.concat();
        prop_assume!(!differs_from_the_crate(&body));
        compare(&body)?;
    }

    #[test]
    fn a_request_without_its_refused_lines_has_the_same_rows(
        bodies in prop::collection::vec(prop_oneof![request(), fragment().prop_map(str::to_owned), Just("\r\n".to_owned())], 0..12),
    ) {
        let body = bodies.concat();
        let known = Known::of("known,host=a usage=1.5,count=1i");
        let parsed = parse(body.as_bytes(), &known, &options());
        let mut good = body.clone();
        for line in parsed.refused.iter().rev() {
            let start = body.match_indices('\n').nth(line.line_number.wrapping_sub(2)).map_or(0, |(newline, _)| newline + 1);
            let end = start + line.original_line.len();
            prop_assert_eq!(&body[start..end], &line.original_line);
            good.replace_range(start..end, "");
        }
        let again = parse(good.as_bytes(), &known, &options());
        prop_assert_eq!((again.accepted, again.refused_count), (parsed.accepted, 0), "{:?}", again.refused);
        for (table, same) in parsed.rows.tables.iter().zip(&again.rows.tables) {
            prop_assert_eq!((&table.table, &table.batch), (&same.table, &same.batch));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_taken_or_refused_but_never_panic(
        mut bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b",= \n\r\"\\m1".to_vec())], 0..80),
        body in request(),
        place in any::<prop::sample::Index>(),
    ) {
        let at = place.index(body.len() + 1);
        bytes.splice(0..0, body.as_bytes()[..at].to_vec());
        bytes.extend_from_slice(&body.as_bytes()[at..]);
        let parsed = parse(&bytes, &Known::default(), &options());
        outcome(&parsed);
        let all_or_nothing = parse(&bytes, &Known::default(), &Options { accept_partial: false, ..options() });
        prop_assert_eq!(all_or_nothing.rows.is_empty(), parsed.refused_count > 0 || parsed.accepted == 0);
        prop_assert_eq!(all_or_nothing.refused.first(), parsed.refused.first());
    }
}
