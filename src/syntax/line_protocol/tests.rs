use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;

use super::refused::{DETAILS_MAX, TEXT_BYTES_MAX};
use super::{Bounds, Options, Parsed, RefusedLine, Schemas, parse, parse_bounded};
use crate::model::{ColumnName, Precision, TIME_COLUMN, TableSchema, Timestamp};

/// The tables of a database.
#[derive(Default)]
pub(super) struct Known(HashMap<String, Arc<TableSchema>>);

impl Known {
    /// The tables that these lines would have made.
    pub(super) fn of(lines: &str) -> Self {
        let parsed = parse(lines.as_bytes(), &Self::default(), &options());
        assert!(parsed.refused.is_empty(), "{:?}", parsed.refused);
        Self(parsed.rows.tables.into_iter().map(|rows| (rows.table.to_string(), Arc::new(rows.schema))).collect())
    }
}

impl Schemas for Known {
    fn table(&self, name: &str) -> Option<Arc<TableSchema>> {
        self.0.get(name).cloned()
    }
}

/// Nanoseconds, partial writes, and limits that no test meets by accident; points without a time are at 77.
pub(super) fn options() -> Options {
    Options {
        precision: Precision::Nanosecond,
        default_time: Timestamp::from_nanos(77),
        accept_partial: true,
        columns_per_table_max: 500,
        new_tables_max: 100,
    }
}

fn parsed(body: &str) -> Parsed {
    parse(body.as_bytes(), &Known::default(), &options())
}

/// Each row as `table: column=value … @time`, columns by name, without nulls.
fn rows(parsed: &Parsed) -> Vec<String> {
    let mut shown = Vec::new();
    for table in &parsed.rows.tables {
        let times = table.batch.column_by_name(TIME_COLUMN).unwrap().as_primitive::<TimestampNanosecondType>();
        for row in 0..table.batch.num_rows() {
            let mut line = format!("{}:", table.table);
            for (field, column) in table.batch.schema_ref().fields().iter().zip(table.batch.columns()) {
                if field.name() != TIME_COLUMN && !column.is_null(row) {
                    line += &format!(" {}={}", field.name(), array_value_to_string(column, row).unwrap());
                }
            }
            shown.push(format!("{line} @{}", times.value(row)));
        }
    }
    shown
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    let parsed = parsed(body);
    assert_eq!(parsed.refused, []);
    assert_eq!(rows(&parsed), expected);
}

/// Checks what a single line is refused for.
#[track_caller]
fn check_refused(line: &str, message: &str) {
    check_refused_by(&Known::default(), line, message);
}

#[track_caller]
fn check_refused_by(known: &Known, line: &str, message: &str) {
    let parsed = parse(line.as_bytes(), known, &options());
    assert_eq!(parsed.refused, [refused(1, line, message)]);
    assert_eq!((parsed.accepted, parsed.refused_count, parsed.lines), (0, 1, 1));
    assert!(parsed.rows.tables.is_empty());
}

fn refused(line_number: usize, original_line: &str, message: &str) -> RefusedLine {
    RefusedLine { line_number, original_line: original_line.to_owned(), message: message.to_owned() }
}

#[test]
fn lines_become_rows_of_their_tables_in_their_order() {
    check(
        "mem,host=a free=1i 1\ncpu,host=a,region=eu usage=1.5,idle=9 2\nmem,host=b free=2i 3\ncpu,host=b usage=2.5 4",
        &[
            "mem: free=1 host=a @1",
            "mem: free=2 host=b @3",
            "cpu: host=a idle=9.0 region=eu usage=1.5 @2",
            "cpu: host=b usage=2.5 @4",
        ],
    );
}

#[test]
fn every_type_of_field_has_its_spelling() {
    check("m f=1,e=-1.5e+3,i=-7i,u=7u,s=\"x\" 1", &["m: e=-1500.0 f=1.0 i=-7 s=x u=7 @1"]);
    for (spelling, value) in ["t", "T", "true", "True", "TRUE"]
        .map(|spelling| (spelling, true))
        .into_iter()
        .chain(["f", "F", "false", "False", "FALSE"].map(|spelling| (spelling, false)))
    {
        check(&format!("m b={spelling} 1"), &[&format!("m: b={value} @1")]);
    }
    check(
        "m min=-9223372036854775808i,max=9223372036854775807i,u=18446744073709551615u,zeros=00000000000000000000001i 1",
        &["m: max=9223372036854775807 min=-9223372036854775808 u=18446744073709551615 zeros=1 @1"],
    );
}

#[test]
fn floats_are_the_nearest_doubles_to_what_is_written() {
    for text in [
        "0",
        "-0",
        "0.1",
        "58.13",
        "100",
        "9007199254740993",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "5e-324",
        "123456789012345678901234567890",
        "0.000000000000000000000000000000000000001",
        "1e22",
        "1e23",
        "12345678.12345678",
        "123456789.5",
        "1e-400",
        "2.5e00000000000000000000000000001",
        "0.00000000000000000000000000000000000000000000000001e50",
    ] {
        // Both at the end of the body and inside of it, which are different paths.
        for end in ["", " 1"] {
            let parsed = parsed(&format!("m f={text}{end}"));
            let column = parsed.rows.tables[0].batch.column_by_name("f").unwrap();
            let value = column.as_primitive::<arrow::datatypes::Float64Type>().value(0);
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }
}

#[test]
fn a_backslash_escapes_what_would_end_a_name_and_else_stands_for_itself() {
    check(
        r#"m\ 1\,2\=3,ta\ g\,\=k=v\ \,\=w\a f\ \=\,k="quote \" backslash \\ other \n \," 1"#,
        &[r#"m 1,2\=3: f =,k=quote " backslash \ other \n \, ta g,=k=v ,=w\a @1"#],
    );
    check("m\\\\x,t=a\\\\b f=1 1", &["m\\x: f=1.0 t=a\\b @1"]);
}

#[test]
fn one_name_in_two_spellings_is_one_column_and_one_series_value() {
    let parsed = parsed("m,a\\,b=x\\ y f=1 1\nm,a,b=x\\ y f=2 2\nm,a\\,b=x\\ y f\\=1 3");
    assert_eq!(rows(&parsed), ["m: a,b=x y f=1.0 @1", "m: a,b=x y f=2.0 @2"]);
    let tag = parsed.rows.tables[0].batch.column_by_name("a,b").unwrap().as_dictionary::<Int32Type>();
    assert_eq!(tag.values().len(), 1);
}

#[test]
fn a_string_may_hold_newlines_commas_and_equals_signs() {
    check("m s=\"a\nb, c=d\" 1\nm s=\"\" 2", &["m: s=a\nb, c=d @1", "m: s= @2"]);
}

#[test]
fn blank_lines_comments_and_leading_blanks_are_passed_over() {
    check("\n  \t\n# m f=1 \"\n \tm f=1 1\n  # another\n\nm f=2 2\n\n", &["m: f=1.0 @1", "m: f=2.0 @2"]);
    for nothing in ["", "\n", "\r\n", "#", "# m f=1", "  "] {
        assert_eq!(parsed(nothing).lines, 0, "{nothing:?}");
    }
}

#[test]
fn a_carriage_return_belongs_to_the_line_end() {
    check(
        "m f=1 1\r\n\r\nm f=2\r\nm s=\"a\r\nb\" 3\r\nm f=4 4\r",
        &["m: f=1.0 @1", "m: f=2.0 @77", "m: s=a\r\nb @3", "m: f=4.0 @4"],
    );
    let refused_line = parsed("m f=1 1\r\nm f=x\r\n");
    assert_eq!(refused_line.refused, [refused(2, "m f=x", "No fields were provided")]);
    check_refused("m f=1 1\rm f=2 2", "Could not parse entire line. Found trailing content: ``");
}

#[test]
fn a_time_is_taken_in_the_precision_of_the_request_or_is_the_given_one() {
    for (precision, nanos) in [
        (Precision::Second, 1_700_000_000_000_000_000_i64),
        (Precision::Millisecond, 1_700_000_000_000_000),
        (Precision::Microsecond, 1_700_000_000_000),
        (Precision::Nanosecond, 1_700_000_000),
        (Precision::Auto, 1_700_000_000_000_000_000),
    ] {
        let parsed = parse(b"m f=1 1700000000\nm f=2", &Known::default(), &Options { precision, ..options() });
        assert_eq!(rows(&parsed), [format!("m: f=1.0 @{nanos}"), "m: f=2.0 @77".to_owned()]);
    }
    check("m f=1 -9223372036854775808 ", &["m: f=1.0 @-9223372036854775808"]);
    let options = Options { precision: Precision::Second, ..options() };
    let parsed = parse(b"m f=1 9223372037", &Known::default(), &options);
    assert_eq!(parsed.refused[0].message, "timestamp, 9223372037, out of range for precision: second");
}

#[test]
fn a_line_that_breaks_the_grammar_is_refused_with_the_words_users_know() {
    for (line, message) in [
        ("m", "No fields were provided"),
        ("m ", "No fields were provided"),
        ("m,t=a", "No fields were provided"),
        ("m f", "No fields were provided"),
        ("m f=", "No fields were provided"),
        ("m f=abc", "No fields were provided"),
        ("m f=NaN", "No fields were provided"),
        ("m f=inf", "No fields were provided"),
        ("m f=+1", "No fields were provided"),
        ("m f=.5", "No fields were provided"),
        ("m =1", "No fields were provided"),
        ("m f=\"open", "No fields were provided"),
        (",t=a f=1", "Invalid measurement was provided"),
        ("\0 f=1", "Invalid measurement was provided"),
        ("m\tf=1", "Expected at least one space character, got `\tf=1`"),
        ("m,t=a\tf=1", "Expected at least one space character, got `\tf=1`"),
        ("m, f=1", "Tag set malformed: could not find tag key in ` f=1`"),
        ("m,=a f=1", "Tag set malformed: could not find tag key in `=a f=1`"),
        ("m,t f=1", "Tag set malformed: could not find equals sign in `t f=1`"),
        ("m,t= f=1", "Tag set malformed: could not find tag value in `t= f=1`"),
        ("m,t=a,u=,v=1 f=1", "Tag set malformed: could not find tag value in `u=,v=1 f=1`"),
        ("m,t=a,t=a f=1", "Must not contain duplicate tags, but `t` was repeated"),
        ("m f=1,f=2", "invalid line protocol - multiple instances of 'f' field found"),
        ("m f=1,g=2,f=2i", "invalid line protocol - multiple instances of 'f' field found"),
        ("m\\\\ f=1", "Measurements, tag keys and values, and field keys may not end with a backslash"),
        ("m,t=a\\\\ f=1", "Measurements, tag keys and values, and field keys may not end with a backslash"),
        ("m f\\\\=1", "Measurements, tag keys and values, and field keys may not end with a backslash"),
        ("m f=1,g\\", "Measurements, tag keys and values, and field keys may not end with a backslash"),
        ("m f=9223372036854775808i", "Unable to parse integer value `9223372036854775808`"),
        ("m f=-9223372036854775809i", "Unable to parse integer value `-9223372036854775809`"),
        ("m f=18446744073709551616u", "Unable to parse unsigned integer value `18446744073709551616`"),
        ("m f=1e309", "Unable to parse floating-point value `1e309`"),
        ("m f=1 9223372036854775808", "Unable to parse timestamp value `9223372036854775808`"),
        ("m f=1 12:00", "Could not parse entire line. Found trailing content: `:00`"),
        ("m f=1 now", "Could not parse entire line. Found trailing content: ` now`"),
        ("m f=1 ", "Could not parse entire line. Found trailing content: ` `"),
        ("m f=1x,g=2 1700000000", "Could not parse entire line. Found trailing content: `x,g=2 1700`"),
        ("m f=1.", "Could not parse entire line. Found trailing content: `.`"),
        ("m f=-1u", "Could not parse entire line. Found trailing content: `u`"),
        ("m f=truth", "Could not parse entire line. Found trailing content: `ruth`"),
        ("m f=1,g=abc", "Could not parse entire line. Found trailing content: `,g=abc`"),
        ("m f=1, 1", "Could not parse entire line. Found trailing content: `, 1`"),
        ("m f=1,", "Could not parse entire line. Found trailing content: `,`"),
        ("m,time=1 f=1", "'time' is a reserved column"),
        ("m time=1", "'time' is a reserved column"),
        ("m __chunk_order=1", "'__chunk_order' is a reserved column"),
    ] {
        check_refused(line, message);
    }
}

#[test]
fn names_and_strings_end_at_one_mebibyte() {
    let longest = "x".repeat(1024 * 1024);
    for line in [
        format!("{longest} f=1"),
        format!("m,t={longest} f=1"),
        format!("m,{longest}=a f=1"),
        format!("m f=\"{longest}\""),
    ] {
        assert_eq!(parsed(&line).accepted, 1);
        let too_long = line.replace("xx ", "xxx ").replace("xx=", "xxx=").replace("xx\"", "xxx\"");
        let parsed = parsed(&too_long);
        assert_eq!(parsed.refused[0].message, "String is greater than 1MB");
        // The whole line would pass the limit for texts of refused lines.
        assert_eq!(parsed.refused[0].original_line, too_long[..TEXT_BYTES_MAX]);
    }
    // Escapes don't count.
    assert_eq!(parsed(&format!("m f=\"{}\\\"\"", &longest[1..])).accepted, 1);
    assert_eq!(parsed(&format!("m,t={}\\= f=1", &longest[1..])).accepted, 1);
}

#[test]
fn a_column_keeps_the_kind_that_the_table_gives_it() {
    let known = Known::of("cpu,host=a usage=1.5");
    check_refused_by(
        &known,
        "cpu,host=a usage=1i",
        "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::field::integer",
    );
    check_refused_by(
        &known,
        "cpu,usage=a idle=1i",
        "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::tag",
    );
    check_refused_by(
        &known,
        "cpu host=\"a\"",
        "invalid column type for column 'host', expected iox::column_type::tag, got iox::column_type::field::string",
    );
    // The first line disagrees with the table; what it says of the column doesn't count for the second.
    let parsed = parse(b"cpu usage=1i 1\ncpu usage=2.5 2", &known, &options());
    assert_eq!((rows(&parsed), parsed.refused_count), (vec!["cpu: usage=2.5 @2".to_owned()], 1));
}

#[test]
fn a_new_column_has_the_kind_that_the_first_accepted_line_gives_it() {
    let parsed = parsed("m f=1i,f=2i 1\nm f=1.5 2\nm f=3i 3\nm,f=x g=1 4\nm f=4 5");
    assert_eq!(rows(&parsed), ["m: f=1.5 @2", "m: f=4.0 @5"]);
    let messages: Vec<_> = parsed.refused.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(
        messages[1..],
        [
            "invalid column type for column 'f', expected iox::column_type::field::float, got iox::column_type::field::integer",
            "invalid column type for column 'f', expected iox::column_type::field::float, got iox::column_type::tag",
        ]
    );
}

#[test]
fn a_name_is_either_a_tag_or_a_field_of_a_line() {
    let message =
        "invalid column type for column 'x', expected iox::column_type::tag, got iox::column_type::field::float";
    check_refused("m,x=a x=1", message);
    let known_series = parsed("m,x=a f=1 1\nm,x=a x=1 2");
    assert_eq!(known_series.refused, [refused(2, "m,x=a x=1 2", message)]);
}

#[test]
fn a_refused_line_leaves_no_trace() {
    // Each bad line would bring a table, a tag, a value of a tag or a field that no good line has.
    let parsed = parsed(
        "gone,host=a f=1 x\ncpu,host=gone,rack=gone usage=1,gone=2 x\ncpu,host=a usage=1 1\n\
         cpu,host=gone,dc=gone usage=1i,gone=2 2\ncpu,host=gone usage=1,gone=2,gone=3 3\ncpu,host=a usage=2 4\ngone f=1,",
    );
    assert_eq!((parsed.accepted, parsed.refused_count, parsed.lines), (2, 5, 7));
    assert_eq!(rows(&parsed), ["cpu: host=a usage=1.0 @1", "cpu: host=a usage=2.0 @4"]);
    let cpu = &parsed.rows.tables[0];
    assert_eq!(cpu.schema.columns().map(|column| column.name.to_string()).collect::<Vec<_>>(), ["host", "usage"]);
    assert_eq!(cpu.batch.column_by_name("host").unwrap().as_dictionary::<Int32Type>().values().len(), 1);
}

#[test]
fn a_series_first_seen_in_a_refused_line_is_read_again() {
    let parsed = parsed("m,t=a f=1,f=1 1\nm,t=a f=2 2\nm,t=a f=3 3");
    assert_eq!(rows(&parsed), ["m: f=2.0 t=a @2", "m: f=3.0 t=a @3"]);
}

#[test]
fn a_line_that_only_begins_like_the_expected_series_is_another_one() {
    check(
        "m,t=a f=1 1\nm,t=ab f=2 2\nm,t=a\\ b f=3 3\nm,t=a,u=b f=4 4\nm f=5 5\nm,t=a f=6 6",
        &[
            "m: f=1.0 t=a @1",
            "m: f=2.0 t=ab @2",
            "m: f=3.0 t=a b @3",
            "m: f=4.0 t=a u=b @4",
            "m: f=5.0 @5",
            "m: f=6.0 t=a @6",
        ],
    );
}

#[test]
fn tags_and_fields_may_change_their_order_and_be_missing() {
    check(
        "m,a=1,b=2 x=1,y=2,z=t 1\nm,b=2,a=1 z=f,y=3 2\nm,c=9 y=4,s=\"s\" 3\nm,a=1,b=2 x=5,yy=6,s=\"t\" 4\nm x=7 5",
        &[
            "m: a=1 b=2 x=1.0 y=2.0 z=true @1",
            "m: a=1 b=2 y=3.0 z=false @2",
            "m: c=9 s=s y=4.0 @3",
            "m: a=1 b=2 s=t x=5.0 yy=6.0 @4",
            "m: x=7.0 @5",
        ],
    );
    let parsed = parsed("m,b=1 x=1 1\nm,a=1,b=1 x=1 2");
    assert_eq!(parsed.rows.tables[0].schema.tags().iter().map(ColumnName::as_str).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn a_table_has_at_most_so_many_columns() {
    let options = Options { columns_per_table_max: 3, ..options() };
    let message = "Update to schema would exceed number of columns per table limit of 3 columns";
    let parsed = parse(b"m,t=a x=1,y=2 1\nm,t=a z=1 2\nm,t=b y=3 3\nn a=1,b=2,c=3,d=4 4", &Known::default(), &options);
    assert_eq!(rows(&parsed), ["m: t=a x=1.0 y=2.0 @1", "m: t=b y=3.0 @3"]);
    assert_eq!(parsed.refused, [refused(2, "m,t=a z=1 2", message), refused(4, "n a=1,b=2,c=3,d=4 4", message)]);

    // Columns that the table has count, and using them is no update.
    let known = Known::of("m,t=a x=1,y=2");
    let parsed = parse(b"m z=1 1\nm,t=b x=2 2", &known, &options);
    assert_eq!((rows(&parsed), &parsed.refused[0].message[..]), (vec!["m: t=b x=2.0 @2".to_owned()], message));
}

#[test]
fn a_request_creates_at_most_so_many_tables() {
    let options = Options { new_tables_max: 1, ..options() };
    let known = Known::of("old f=1");
    // A refused line doesn't use the place up.
    let parsed = parse(b"a f=x\nb f=1 1\nc f=1 2\nold f=1 3\nb f=2 4", &known, &options);
    assert_eq!(rows(&parsed), ["b: f=1.0 @1", "b: f=2.0 @4", "old: f=1.0 @3"]);
    assert_eq!(parsed.refused[1].line_number, 3);
    assert_eq!(
        parsed.refused[1].message,
        "Update to schema would exceed number of tables limit: attempted to create table but this write may create only 1 more table(s)"
    );
}

#[test]
fn without_partial_writes_the_first_bad_line_refuses_all() {
    let options = Options { accept_partial: false, ..options() };
    let parsed = parse(b"m f=1 1\n\nm f=x 2\nm f=y 3\nm f=4 4", &Known::default(), &options);
    assert!(parsed.rows.tables.is_empty());
    assert_eq!(parsed.refused, [refused(3, "m f=x 2", "No fields were provided")]);
    assert_eq!((parsed.accepted, parsed.refused_count, parsed.lines), (0, 1, 2));
    assert_eq!(parse(b"m f=1 1\nm f=2 2", &Known::default(), &options).accepted, 2);
}

#[test]
fn a_refused_line_is_found_by_its_place_in_the_body() {
    let parsed = parsed("\n# comment\nm s=\"a\nb\nc\" 1\n\n  m s=\"d\ne\",f=x 2\r\nm f=1 3\nm f=x");
    assert_eq!(
        parsed.refused,
        [
            refused(7, "  m s=\"d\ne\",f=x 2", "Could not parse entire line. Found trailing content: `,f=x 2`"),
            refused(10, "m f=x", "No fields were provided"),
        ]
    );
    assert_eq!(rows(&parsed), ["m: s=a\nb\nc @1", "m: f=1.0 @3"].map(str::to_owned));
}

#[test]
fn a_comma_in_a_field_key_does_not_end_a_string_at_its_newline() {
    check("m a,b=1,s=\"x\ny\" 1", &["m: a,b=1.0 s=x\ny @1"]);
}

#[test]
fn bytes_that_are_no_text_refuse_their_line_only() {
    let parsed = parse(
        b"m f=1 1\nm,t=\xFF f=\"\xFE\" 2\n# \xFF\nm f=\"\xEF\xBF\xBD\" 3\nm f=x\xC3\nm f=4 4",
        &Known::default(),
        &options(),
    );
    assert_eq!(rows(&parsed), ["m: f=1.0 @1", "m: f=4.0 @4"]);
    assert_eq!(
        parsed.refused[0],
        refused(2, "m,t=\u{FFFD} f=\"\u{FFFD}\" 2", "body content is not valid utf8: invalid byte at index 12")
    );
    // That replacement character was sent as such; what's wrong with the line is its type.
    assert!(parsed.refused[1].message.starts_with("invalid column type for column 'f'"));
    assert_eq!(parsed.refused[2].message, "body content is not valid utf8: invalid byte at index 43");
}

#[test]
fn refused_lines_are_counted_all_but_told_up_to_a_limit() {
    let many = parsed(&"m f=x\n".repeat(DETAILS_MAX + 5));
    assert_eq!((many.refused.len(), many.refused_count), (DETAILS_MAX, DETAILS_MAX + 5));

    let half = format!("m f=x{}\n", "y".repeat(TEXT_BYTES_MAX / 2));
    let large = parsed(&format!("{half}{half}{half}m f=x\n"));
    assert_eq!(large.refused_count, 4);
    // The second would pass the limit; the last still fits.
    assert_eq!(large.refused.iter().map(|line| line.line_number).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn lines_beyond_the_largest_body_are_refused() {
    let bounds = Bounds { body_bytes_max: 10, cells_max: 100 };
    let parsed = parse_bounded(b"m f=1 1\nm f=2 2\n", &Known::default(), &options(), bounds);
    assert_eq!(rows(&parsed), ["m: f=1.0 @1"]);
    assert_eq!(parsed.refused, [refused(2, "m f=2 2", "body is greater than 10 bytes")]);
}

#[test]
fn many_rows_times_many_columns_are_refused() {
    let bounds = Bounds { body_bytes_max: 1_000, cells_max: 11 };
    // Every row has a cell for its time as well: the first three lines make 2 · 2 + 1 · 2 cells. The fourth would
    // make them 3 · 5 + 2, the fifth makes them 3 · 3 + 2; then neither table takes one more row.
    let body = b"m a=1 1\nm a=2 2\nn a=1 3\nm b=1,c=1,d=1 4\nm b=3 4\nm b=4 5\nn a=5 6";
    let parsed = parse_bounded(body, &Known::default(), &options(), bounds);
    assert_eq!(rows(&parsed), ["m: a=1.0 @1", "m: a=2.0 @2", "m: b=3.0 @4", "n: a=1.0 @3"]);
    let message =
        "rows times columns of this write would be more than 11: write less at a time, or fewer columns to a table";
    assert_eq!(
        parsed.refused,
        [refused(4, "m b=1,c=1,d=1 4", message), refused(6, "m b=4 5", message), refused(7, "n a=5 6", message)]
    );
}

#[test]
fn columns_take_no_more_memory_than_their_rows() {
    let body: String = (0..1_025).map(|n| format!("m,t=a f={n},s=\"0123456789\",b=t {n}\n")).collect();
    let parsed = parsed(&body);
    let bytes = parsed.rows.tables[0].batch.get_array_memory_size();
    // Three of 8 bytes would be code, time and float with a reserve.
    let needed = 1_025 * (4 + 8 + 8 + 4 + 10) + 1_025 / 8;
    assert!(bytes < needed + 2_000, "{bytes} bytes for {needed}");
}
