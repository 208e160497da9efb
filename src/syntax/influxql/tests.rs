//! What is understood, what is refused and how, and that print and parse are inverse.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn one(text: &str) -> Statement {
    let mut statements = parse(text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

/// The text is read, and printed as `canonical`, which is read as the same.
#[track_caller]
fn prints(text: &str, canonical: &str) {
    let statement = one(text);
    assert_eq!(statement.to_string(), canonical);
    assert_eq!(one(canonical), statement);
}

#[track_caller]
fn refused(text: &str, message: &str) {
    match parse(text, &[]) {
        Ok(statements) => panic!("{text} was read as {statements:?}"),
        Err(error) => assert_eq!(error.to_string(), message, "{text}"),
    }
}

#[test]
fn every_statement_has_one_way_to_be_written() {
    for text in [
        "SELECT usage FROM cpu",
        "SELECT mean(usage) AS m, \"a b\"::tag, *::field, /^x/ FROM db.rp.cpu, db..cpu, rp.cpu, rp./c.*/, (SELECT a FROM b) \
         WHERE host = 'a\\'b' AND (usage > -1.5 OR ok = true) AND host =~ /a\\/b/ GROUP BY time(1m, -10s), *, /x/ fill(0) \
         ORDER BY time DESC LIMIT 1 OFFSET 2 SLIMIT 3 SOFFSET 4 tz('Europe/Berlin')",
        "SELECT DISTINCT a INTO db.rp.:MEASUREMENT FROM b fill(-1.5)",
        "SELECT -a, +(b - -2) * -c(1h) FROM d",
        "EXPLAIN SELECT a FROM b",
        "EXPLAIN ANALYZE VERBOSE SELECT a FROM b",
        "SHOW DATABASES",
        "SHOW MEASUREMENTS ON *.* WITH MEASUREMENT =~ /x/ WHERE a = 'b' ORDER BY time DESC LIMIT 1 OFFSET 2",
        "SHOW MEASUREMENTS ON db.rp WITH MEASUREMENT = \"a b\"",
        "SHOW TAG KEYS ON db FROM a, /b/ WITH KEY IN (a, \"b c\") WHERE x = 'y' LIMIT 1 OFFSET 2 SLIMIT 3 SOFFSET 4",
        "SHOW TAG VALUES FROM a WITH KEY != x WHERE y = 'z'",
        "SHOW TAG VALUES EXACT CARDINALITY WITH KEY !~ /x/ GROUP BY y LIMIT 1 OFFSET 1",
        "SHOW FIELD KEYS ON db FROM a ORDER BY time ASC LIMIT 1 OFFSET 1",
        "SHOW FIELD KEY CARDINALITY",
        "SHOW TAG KEY EXACT CARDINALITY FROM a",
        "SHOW MEASUREMENT CARDINALITY ON db",
        "SHOW SERIES FROM a WHERE b = 'c' LIMIT 1 OFFSET 1",
        "SHOW SERIES EXACT CARDINALITY",
        "SHOW RETENTION POLICIES ON db",
        "SHOW STATS FOR 'x'",
        "SHOW DIAGNOSTICS",
        "SHOW SHARD GROUPS",
        "SHOW SHARDS",
        "SHOW QUERIES",
        "SHOW SUBSCRIPTIONS",
        "SHOW CONTINUOUS QUERIES",
        "SHOW USERS",
        "SHOW GRANTS FOR a",
        "CREATE DATABASE a",
        "CREATE DATABASE a WITH DURATION 1d REPLICATION 1 SHARD DURATION 1h FUTURE LIMIT 1h PAST LIMIT 2h NAME b",
        "CREATE DATABASE a WITH NAME b",
        "CREATE RETENTION POLICY a ON b DURATION INF REPLICATION 1 SHARD DURATION 1h DEFAULT PAST LIMIT 1d",
        "ALTER RETENTION POLICY a ON b DEFAULT",
        "DROP RETENTION POLICY a ON b",
        "CREATE CONTINUOUS QUERY a ON b RESAMPLE EVERY 1m FOR 2m BEGIN SELECT mean(x) INTO c FROM d GROUP BY time(1m) END",
        "DROP CONTINUOUS QUERY a ON b",
        "CREATE SUBSCRIPTION a ON b.c DESTINATIONS ALL 'd', 'e'",
        "DROP SUBSCRIPTION a ON b.c",
        "CREATE USER a WITH PASSWORD 'b' WITH ALL PRIVILEGES",
        "SET PASSWORD FOR a = 'b'",
        "GRANT READ ON a TO b",
        "GRANT ALL PRIVILEGES TO b",
        "REVOKE ALL PRIVILEGES FROM b",
        "REVOKE WRITE ON a FROM b",
        "DROP USER a",
        "DROP DATABASE \"select\"",
        "DROP MEASUREMENT \"a b\"",
        "DROP SHARD 3",
        "DROP SERIES FROM a WHERE b = 'c'",
        "DELETE FROM rp.a WHERE time < 10",
        "DELETE WHERE a = 'b'",
        "KILL QUERY 1 ON host",
    ] {
        prints(text, text);
    }
}

#[test]
fn case_blanks_and_comments_do_not_matter() {
    prints(
        "select\tMEAN( usage )\r\nfrom cpu -- x\n group /* a\n* b */ by TIME(60s)",
        "SELECT mean(usage) FROM cpu GROUP BY time(1m)",
    );
    prints("SELECT a FROM b fill(null) ORDER BY time", "SELECT a FROM b ORDER BY time ASC");
    prints("SELECT a <> b FROM c".replace("a <> b", "a").as_str(), "SELECT a FROM c");
    prints("SELECT a FROM b WHERE c <> 1", "SELECT a FROM b WHERE c != 1");
    prints("SELECT a FROM \"b\" WHERE t >= 90s and u = .5", "SELECT a FROM b WHERE t >= 90s AND u = 0.5");
    prints("GRANT ALL TO a", "GRANT ALL PRIVILEGES TO a");
    assert_eq!(parse(";; SHOW DATABASES;;SHOW USERS;", &[]).map(|statements| statements.len()), Ok(2));
    assert_eq!(parse(" ", &[]), Ok(Vec::new()));
}

#[test]
fn operators_bind_as_in_influxdb() {
    let condition = |text: &str| match one(&format!("SELECT a FROM b WHERE {text}")) {
        Statement::Select(select) => select.condition.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(condition("a = 1 OR b = 2 AND c = 3 + 4 * 5 % 6"), {
        let Expression::Binary { operator: Operator::Or, left, right } =
            condition("a = 1 OR (b = 2 AND (c = (3 + ((4 * 5) % 6))))")
        else {
            panic!()
        };
        Expression::Binary { operator: Operator::Or, left, right: Box::new(without_parentheses(*right)) }
    });
}

fn without_parentheses(expression: Expression) -> Expression {
    match expression {
        Expression::Parenthesis(inner) => without_parentheses(*inner),
        Expression::Binary { operator, left, right } => Expression::Binary {
            operator,
            left: Box::new(without_parentheses(*left)),
            right: Box::new(without_parentheses(*right)),
        },
        other => other,
    }
}

#[test]
fn an_error_says_what_was_found_what_could_stand_there_and_where() {
    for (text, message) in [
        ("SELECT usage FROM", "found EOF, expected identifier at line 1, char 19"),
        ("SELECT usage cpu", "found cpu, expected FROM at line 1, char 14"),
        ("SELECT a FROM (", "found EOF, expected SELECT at line 1, char 16"),
        (
            "SELECT \"usage FROM cpu",
            "found usage FROM cpu, expected identifier, string, number, bool at line 1, char 7",
        ),
        ("SELECT a FROM b\nWHERE x =~ y", "found y, expected regex at line 2, char 12"),
        ("SELECT a FROM b WHERE x =~ /(/", "error parsing regexp: missing closing ): `(` at line 1, char 27"),
        ("SELECT a FROM b WHERE x =~ /a", "bad regex:  at line 1, char 27"),
        ("SELECT a FROM b WHERE x = 'a\\q'", "found \\q, expected identifier, string, number, bool at line 1, char 30"),
        (
            "SELECT a > 1 FROM b",
            "invalid operator > in SELECT clause at line 1, char 8; operator is intended for WHERE clause",
        ),
        ("SELECT a FROM b ORDER BY a", "only ORDER BY time supported at this time"),
        ("SELECT a FROM b fill(x)", "expected number argument in fill()"),
        ("SELECT a FROM b tz('No/Where')", "unable to find time zone No/Where"),
        ("SELECT a FROM b.c.d.e", "too many segments in \"b\".\"c\".\"d\".e at line 1, char 1"),
        ("SELECT 1x FROM b", "invalid duration"),
        ("SELECT a FROM b LIMIT -1", "found -, expected integer at line 1, char 23"),
        ("SHOW TAG VALUES WITH KEY > a", "found >, expected IN, =, =~ at line 1, char 26"),
        ("DELETE FROM a.b.c", "database not supported at line 1, char 1"),
        ("REVOKE READ FROM x", "found FROM, expected ON at line 1, char 13"),
        (
            "CREATE CONTINUOUS QUERY a ON b BEGIN SELECT mean(x) INTO c FROM d END",
            "found d, expected GROUP BY time(...) at line 1, char 65",
        ),
        ("SHOW QUERIES x", "found x, expected ; at line 1, char 14"),
        ("SELECT a FROM b WHERE x = -9223372036854775809", "constant -9223372036854775809 underflows int64"),
        (
            "SELECT a FROM b; NONSENSE",
            concat!(
                "found NONSENSE, expected SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE, ALTER, SET, KILL ",
                "at line 1, char 18"
            ),
        ),
        // Not as in InfluxDB 1, which forgets the first name and the rest of the text.
        ("SELECT a\"b\" FROM c", "found b, expected FROM at line 1, char 9"),
        ("SELECT a\0 FROM c", "found \0, expected FROM at line 1, char 9"),
    ] {
        refused(text, message);
    }
}

#[test]
fn a_parameter_stands_for_a_value_of_its_type() {
    let parameters = [
        ("m", Value::Identifier("a b".to_owned())),
        ("odd name", Value::String("it's".to_owned())),
        ("r", Value::Regex("^a/b$".to_owned())),
        ("n", Value::Number(2.0)),
        ("i", Value::Integer(-3)),
        ("d", Value::duration(90_000_000_000)),
        ("b", Value::Boolean(true)),
        ("bad", Value::Unusable("unable to bind parameter with type []interface {}".to_owned())),
        ("l", Value::Integer(5)),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let text = "SELECT $m FROM $m WHERE a = $\"odd name\" AND b =~ $r AND c = $n AND d = $i AND e = $b GROUP BY time($d) LIMIT $l";
    let printed = parse(text, &parameters).unwrap()[0].to_string();
    assert_eq!(
        printed,
        "SELECT \"a b\" FROM \"a b\" WHERE a = 'it\\'s' AND b =~ /^a\\/b$/ AND c = 2.0 AND d = -3 AND e = true \
         GROUP BY time(90s) LIMIT 5"
    );
    let error = |text: &str| parse(text, &parameters).unwrap_err().to_string();
    assert_eq!(error("SELECT a FROM b WHERE c = $missing"), "missing parameter: missing");
    assert_eq!(error("SELECT a FROM b WHERE c = $bad"), "unable to bind parameter with type []interface {}");
    assert_eq!(error("SELECT a FROM b LIMIT $i"), "LIMIT must be >= 0 at line 1, char 23");
    assert_eq!(error("SELECT a FROM b WHERE c = $"), "empty bound parameter");
    // Only where a pattern could be written itself, so that what is printed can be read.
    let found = "found ^a/b$, expected identifier, string, number, bool at line 1, char 27";
    assert_eq!(error("SELECT a FROM b WHERE c = $r"), found);
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |open: &str, count: usize| format!("SELECT a FROM b WHERE x = {}", open.repeat(count));
    for text in [nested("(", 100_000), nested("f(", 100_000), nested("-(", 100_000)] {
        assert!(parse(&text, &[]).unwrap_err().to_string().contains("nests deeper than 100"), "{}", &text[..40]);
    }
    let subqueries = "SELECT a FROM (".repeat(100_000);
    assert!(parse(&subqueries, &[]).unwrap_err().to_string().contains("nests deeper"));
    let conditions = |count: usize| format!("SELECT a FROM b WHERE x = 1{}", " OR x = 1".repeat(count));
    prints(&conditions(900), &conditions(900));
    assert!(parse(&conditions(100_000), &[]).unwrap_err().to_string().contains("more than 2000 operators"));
    // Chains in chains: each is short, and the tree of them all was deeper than any stack.
    let chain = "+a".repeat(1_900);
    let chains = format!("SELECT {}a{} FROM b", "(".repeat(60), format!("{chain})").repeat(60));
    assert!(parse(&chains, &[]).unwrap_err().to_string().contains("more than 2000 operators"));
    // What one statement has is not counted for the next.
    let two = format!("{};{}", conditions(900), conditions(900));
    assert_eq!(parse(&two, &[]).unwrap().len(), 2);
}

#[test]
fn the_regular_expressions_of_a_text_are_counted() {
    let dimensions = |count: usize| vec!["/a/"; count].join(", ");
    let grouped = |count: usize| format!("SELECT a FROM b GROUP BY {}", dimensions(count));
    assert!(parse(&grouped(128), &[]).is_ok());
    for text in [grouped(129), format!("{};SELECT a FROM /b/", grouped(128))] {
        assert!(parse(&text, &[]).unwrap_err().to_string().contains("more than 128 regular expressions"));
    }
}

#[test]
fn the_recorded_statements_are_read_as_influxdb_read_them() {
    let cases = include_str!("../../../tests/data/influxql/cases.jsonl");
    let mut count = 0;
    for line in cases.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = case["command"].as_str().unwrap().trim();
        if case["params"]["params"].is_string() {
            continue;
        }
        count += 1;
        match parse(text, &[]) {
            Ok(statements) => {
                assert_eq!(case["status"], 200, "{text}");
                let printed: Vec<_> = statements.iter().map(ToString::to_string).collect();
                assert_eq!(parse(&printed.join(";"), &[]).as_ref(), Ok(&statements), "{text}");
            }
            Err(error) => {
                assert_eq!(case["status"], 400, "{text}: {error}");
                assert_eq!(case["answer"]["error"], format!("error parsing query: {error}"), "{text}");
            }
        }
    }
    assert!(count > 400, "{count} cases");
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,4}".prop_map(|name| Name(&name).to_string()),
        "[ -~é\n]{1,5}"
            .prop_map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))),
    ]
}

fn string() -> impl Strategy<Value = String> {
    "[ -~é]{0,5}".prop_map(|text| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")))
}

fn regex() -> impl Strategy<Value = String> {
    "(\\^)?([a-z.]|\\\\/|\\[a-c\\]|\\(x\\|y\\)\\*){0,5}".prop_map(|pattern| format!("/{pattern}/"))
}

/// A value as it may stand in a SELECT.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        name(),
        (name(), one_of(&["float", "integer", "unsigned", "string", "boolean", "field", "tag"]))
            .prop_map(|(name, cast)| format!("{name}::{cast}")),
        string(),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        (-1e6..1e6).prop_map(|value: f64| print::number(value)),
        (0_i64..1_000_000_000_000_000_000).prop_map(format_duration),
        Just("true".to_owned()),
        Just("*::field".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), one_of(&["+", "-", "*", "/", "%", "&", "|", "^"]), inner.clone())
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("-({inner})")),
            (name(), prop::collection::vec(inner, 0..3))
                .prop_map(|(function, arguments)| format!("{function}({})", arguments.join(","))),
            (name(), regex()).prop_map(|(function, regex)| format!("{function}({regex})")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (value(), one_of(&["=", "!=", "<>", "<", "<=", ">", ">="]), value())
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        (value(), one_of(&["=~", "!~"]), regex())
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), one_of(&["AND", "OR"]), inner.clone())
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
            inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

fn maybe(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), text]
}

fn select() -> impl Strategy<Value = String> {
    let measurement = prop_oneof![
        name(),
        (name(), name()).prop_map(|(policy, name)| format!("{policy}.{name}")),
        (name(), name()).prop_map(|(database, name)| format!("{database}..{name}")),
        (name(), name(), regex()).prop_map(|(database, policy, regex)| format!("{database}.{policy}.{regex}")),
        regex(),
    ];
    let field = prop_oneof![
        value(),
        (value(), name()).prop_map(|(value, alias)| format!("{value} AS {alias}")),
        regex(),
        name().prop_map(|name| format!("DISTINCT {name}")),
    ];
    let head = (
        prop::collection::vec(field, 1..4),
        prop::collection::vec(measurement, 1..3),
        maybe(condition().prop_map(|c| format!(" WHERE {c}"))),
    );
    let tail = (
        maybe((name(), 1_u32..100).prop_map(|(tag, n)| format!(" GROUP BY time({n}s), {tag}, *"))),
        one_of(&["", " fill(none)", " fill(previous)", " fill(linear)", " fill(7)", " fill(-2.5)"]),
        one_of(&["", " ORDER BY time DESC", " ORDER BY ASC"]),
        one_of(&["", " LIMIT 1", " OFFSET 2", " LIMIT 3 OFFSET 1 SLIMIT 2 SOFFSET 1"]),
        one_of(&["", " tz('Asia/Kolkata')"]),
    );
    (head, tail).prop_map(|((fields, sources, condition), (group, fill, order, limit, zone))| {
        format!("SELECT {} FROM {}{condition}{group}{fill}{order}{limit}{zone}", fields.join(","), sources.join(", "))
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(text in select(), inner in select()) {
        let nested = text.replacen(" FROM ", &format!(" FROM ({inner}), "), 1);
        for text in [text, nested] {
            let statements = match parse(&text, &[]) {
                Ok(statements) => statements,
                Err(error) => {
                    // What the grammar of this test can't see: `-18446744073709551615`, `/a(x|y)*(x|y)*/`.
                    let known = ["underflows", "regexp", "unable to parse number", "too many segments"];
                    prop_assert!(known.iter().any(|known| error.to_string().contains(known)), "{}: {}", text, error);
                    continue;
                }
            };
            prop_assert_eq!(statements.len(), 1);
            let printed = statements[0].to_string();
            let again = parse(&printed, &[]);
            prop_assert_eq!(again, Ok(statements), "{} became {}", text, printed);
        }
    }

    #[test]
    fn every_text_has_an_answer(text in "(SELECT|FROM|WHERE|[a-z]|'|\"|/|\\(|\\)|,|::|\\.|[0-9]|\\$|=~|-|\\*|;| |\n|\\\\|é){0,40}") {
        let _ = parse(&text, &[]);
    }
}
