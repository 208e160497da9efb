//! Conditions, however they are written, against a model that knows three values of truth.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Columns of one table that can be compared with one another, and how a small number is written as a literal of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Float,
    Integer,
    Text,
    Time,
}

impl Family {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Float => &["f", "g", "i"],
            Self::Integer => &["i", "j", "k"],
            Self::Text => &["host", "rack"],
            Self::Time => &["time"],
        }
    }

    fn literal(self, value: i64) -> String {
        match self {
            Self::Float => format!("{value}.0"),
            Self::Integer => value.to_string(),
            Self::Text => format!("'v{value}'"),
            Self::Time => format!("'1970-01-01T00:00:0{value}Z'"),
        }
    }

    fn parameter(self, value: i64) -> Parameter {
        match self {
            Self::Float => Parameter::Float(f64::from(i32::try_from(value).unwrap())),
            Self::Integer => Parameter::Integer(value),
            Self::Text => Parameter::String(format!("v{value}")),
            Self::Time => Parameter::String(format!("1970-01-01T00:00:0{value}Z")),
        }
    }
}

#[derive(Debug, Clone)]
enum Operand {
    Column(&'static str),
    Literal(i64),
}

#[derive(Debug, Clone)]
enum Condition {
    Compared(Family, Operand, &'static str, Operand),
    In(Family, &'static str, bool, Vec<Operand>),
    Between(Family, &'static str, bool, Operand, Operand),
    IsNull(&'static str, bool),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

fn operand(family: Family) -> impl Strategy<Value = Operand> {
    let column = prop::sample::select(family.columns()).prop_map(Operand::Column);
    prop_oneof![1 => column, 3 => (0_i64..4).prop_map(Operand::Literal)]
}

/// What compares one column.
fn comparison(family: Family, column: &'static str) -> impl Strategy<Value = Condition> {
    let operators = match family {
        Family::Text => &["=", "<>"][..],
        _ => &["=", "<>", "<", "<=", ">", ">="][..],
    };
    let compared = (prop::sample::select(operators), operand(family), any::<bool>());
    let compared = compared.prop_map(move |(operator, other, is_turned)| match is_turned {
        false => Condition::Compared(family, Operand::Column(column), operator, other),
        true => Condition::Compared(family, other, operator, Operand::Column(column)),
    });
    let list = (any::<bool>(), prop::collection::vec(operand(family), 1..5));
    let list = list.prop_map(move |(negated, list)| Condition::In(family, column, negated, list));
    let between = (any::<bool>(), operand(family), operand(family));
    let between = between.prop_map(move |(negated, low, high)| Condition::Between(family, column, negated, low, high));
    let is_null = any::<bool>().prop_map(move |negated| Condition::IsNull(column, negated));
    prop_oneof![8 => compared, 3 => list, 1 => between, 1 => is_null]
}

fn condition() -> impl Strategy<Value = Condition> {
    let families = &[Family::Float, Family::Integer, Family::Text, Family::Time][..];
    let column = prop::sample::select(families)
        .prop_flat_map(|family| prop::sample::select(family.columns()).prop_map(move |column| (family, column)));
    // Conclusions are drawn from what compares the same column.
    let leaf = column.prop_flat_map(|(family, column)| {
        let two = || (comparison(family, column), comparison(family, column));
        prop_oneof![
            1 => comparison(family, column),
            2 => two().prop_map(|(a, b)| Condition::And(Box::new(a), Box::new(b))),
            1 => two().prop_map(|(a, b)| Condition::Or(Box::new(a), Box::new(b))),
        ]
    });
    leaf.prop_recursive(3, 8, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            5 => two.clone().prop_map(|(a, b)| Condition::And(Box::new(a), Box::new(b))),
            2 => two.prop_map(|(a, b)| Condition::Or(Box::new(a), Box::new(b))),
            1 => inner.prop_map(|a| Condition::Not(Box::new(a))),
        ]
    })
}

type Row = BTreeMap<&'static str, i64>;

impl Condition {
    fn holds(&self, row: &Row) -> Option<bool> {
        let value = |operand: &Operand| match operand {
            Operand::Column(name) => row.get(name).copied(),
            Operand::Literal(value) => Some(*value),
        };
        let compared = |a: &Operand, operator: &str, b: &Operand| {
            let order = value(a)?.cmp(&value(b)?);
            Some(match operator {
                "=" => order.is_eq(),
                "<>" => order.is_ne(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                _ => order.is_ge(),
            })
        };
        match self {
            Self::Compared(_, a, operator, b) => compared(a, operator, b),
            Self::In(_, column, negated, list) => {
                let column = Operand::Column(column);
                let mut is_in = Some(false);
                for member in list {
                    is_in = or(is_in, compared(&column, "=", member));
                }
                is_in.map(|is_in| is_in != *negated)
            }
            Self::Between(_, column, negated, low, high) => {
                let column = Operand::Column(column);
                let is_between = and(compared(&column, ">=", low), compared(&column, "<=", high));
                is_between.map(|is_between| is_between != *negated)
            }
            Self::IsNull(column, negated) => Some(row.contains_key(column) == *negated),
            Self::And(a, b) => and(a.holds(row), b.holds(row)),
            Self::Or(a, b) => or(a.holds(row), b.holds(row)),
            Self::Not(a) => a.holds(row).map(|holds| !holds),
        }
    }

    /// As SQL; `literal` writes one.
    fn written(&self, literal: &mut dyn FnMut(Family, i64) -> String) -> String {
        let mut operand = |family: Family, operand: &Operand| match operand {
            Operand::Column(name) => (*name).to_owned(),
            Operand::Literal(value) => literal(family, *value),
        };
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Self::Compared(family, a, operator, b) => {
                let a = operand(*family, a);
                format!("{a} {operator} {}", operand(*family, b))
            }
            Self::In(family, column, negated, list) => {
                let list: Vec<String> = list.iter().map(|member| operand(*family, member)).collect();
                format!("{column}{} IN ({})", not(negated), list.join(", "))
            }
            Self::Between(family, column, negated, low, high) => {
                let low = operand(*family, low);
                format!("{column}{} BETWEEN {low} AND {}", not(negated), operand(*family, high))
            }
            Self::IsNull(column, negated) => format!("{column} IS{} NULL", not(negated)),
            Self::And(a, b) => format!("({} AND {})", a.written(literal), b.written(literal)),
            Self::Or(a, b) => format!("({} OR {})", a.written(literal), b.written(literal)),
            Self::Not(a) => format!("NOT ({})", a.written(literal)),
        }
    }
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    and(a.map(|a| !a), b.map(|b| !b)).map(|neither| !neither)
}

/// Rows of all small numbers, spread as if by chance, with a tag of its own for each.
fn table() -> Vec<Row> {
    let spread = |seed: u64| usize::try_from((seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % 5).unwrap();
    let columns = ["f", "g", "i", "j", "k", "host", "rack"];
    let value = |number: u64, place: usize| match spread(number * 7 + u64::try_from(place).unwrap()) {
        4 => None,
        value => Some(i64::try_from(value).unwrap()),
    };
    let row = |number: u64| {
        let values = columns.iter().enumerate().filter_map(|(place, column)| Some((*column, value(number, place)?)));
        let time = i64::try_from(number % 4).unwrap();
        values.chain([("time", time), ("id", i64::try_from(number).unwrap())]).collect()
    };
    (0..48).map(row).collect()
}

fn line_of(row: &Row) -> String {
    let tag = |name: &str| row.get(name).map(|value| format!(",{name}=v{value}")).unwrap_or_default();
    let field =
        |name: &str, suffix: &str| row.get(name).map(|value| format!(",{name}={value}{suffix}")).unwrap_or_default();
    let fields: String =
        ["f", "g"].map(|name| field(name, "")).concat() + &["i", "j", "k"].map(|name| field(name, "i")).concat();
    format!("m{}{},id={} n={}i{fields} {}", tag("host"), tag("rack"), row["id"], row["id"], row["time"] * 1_000_000_000)
}

/// The tags `id` of an answer.
async fn ids(fixture: &Fixture, query: Query) -> BTreeSet<i64> {
    let text = query.text.clone();
    let batches = fixture.ask_for(query).await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
    batches
        .iter()
        .flat_map(|batch| {
            batch.column(0).as_string::<i32>().iter().flatten().map(|id| id.parse().unwrap()).collect::<Vec<i64>>()
        })
        .collect()
}

#[test]
fn a_condition_means_the_same_however_it_is_written() {
    let (runtime, rows) = (Runtime::new().unwrap(), table());
    let fixture = runtime.block_on(async {
        let settings = QuerySettings { threads: 2, ..QuerySettings::default() };
        let fixture = Fixture::with(settings).await;
        let (old, new) = rows.split_at(24);
        fixture.write(&old.iter().map(line_of).collect::<Vec<_>>().join("\n")).await;
        fixture.persist().await;
        fixture.write(&new.iter().map(line_of).collect::<Vec<_>>().join("\n")).await;
        fixture
    });
    let mut runner = TestRunner::new(Config { cases: 192, ..Config::default() });
    runner
        .run(&condition(), |condition| {
            let expected: BTreeSet<i64> =
                rows.iter().filter(|row| condition.holds(row) == Some(true)).map(|row| row["id"]).collect();
            let literals = condition.written(&mut |family, value| family.literal(value));
            let columns = condition.written(&mut |family, value| match family {
                Family::Time => family.literal(value),
                family => format!("x.{family:?}{value}"),
            });
            let constants: Vec<String> = [Family::Float, Family::Integer, Family::Text]
                .iter()
                .flat_map(|family| (0..4).map(move |value| format!("{} AS {family:?}{value}", family.literal(value))))
                .collect();
            let mut values = Vec::new();
            let parameters = condition.written(&mut |family, value| {
                values.push((format!("{}", values.len() + 1), family.parameter(value)));
                format!("${}", values.len())
            });
            runtime.block_on(async {
                for text in [
                    format!("SELECT id FROM m WHERE {literals}"),
                    format!("-- planned as it is\nSELECT id FROM m WHERE {literals}"),
                    format!("SELECT id FROM (SELECT *, {} FROM m) AS x WHERE {columns}", constants.join(", ")),
                ] {
                    prop_assert_eq!(&ids(&fixture, query(&text)).await, &expected, "{}", text);
                }
                let text = format!("SELECT id FROM m WHERE {parameters}");
                // Planned, planned for other values, and taken from there.
                for _ in 0..3 {
                    let asked = Query { parameters: values.clone(), ..query(&text) };
                    prop_assert_eq!(&ids(&fixture, asked).await, &expected, "{} {:?}", text, values);
                }
                Ok(())
            })
        })
        .unwrap();
}
