//! Where InfluxDB 1.6.7 is wrong or odd, so that we answer random statements otherwise; each with the reason.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::comparison::{is_near, only_times, sort_equal_times, sort_series};

/// A way in which an answer may differ: why, and how it is known from the statement and both answers.
type Difference = (&'static str, fn(&str, &Value, &Value) -> bool);

const DIFFERENCES: &[Difference] = &[
    (
        "types that don't go together in a subquery, or beside &: InfluxDB answers all the same, we say so",
        |text, ours, theirs| {
            (text.contains("FROM (SELECT") || text.contains('&'))
                && error(ours).starts_with("type error")
                && error(theirs).is_empty()
        },
    ),
    (
        "a function of a type that it doesn't take: InfluxDB says so only where a series is found, and never of a cast, we always",
        |text, ours, theirs| {
            let is_silent = error(theirs).is_empty() && (!has_rows(theirs) || text.contains("::"));
            error(ours).contains("iterator type: ") && is_silent
        },
    ),
    ("distinct() in a transformation: InfluxDB refuses it for another reason than its type", |_, _, theirs| {
        error(theirs).starts_with("aggregate function distinct() cannot be combined")
    }),
    ("a text in a sum over several measurements: InfluxDB panics", |_, _, theirs| error(theirs).contains("[panic:")),
    ("buckets with an offset and no beginning: InfluxDB counts until its time is up", |_, _, theirs| {
        error(theirs).starts_with("query-timeout")
    }),
    (
        "a column of several measurements: InfluxDB fills it by the type that it has in all of them, we by its own",
        |text, ours, theirs| {
            let names_several = ["mem, cpu", "cpu, mem", "/"].iter().any(|names| text.contains(names));
            names_several && text.contains("fill(") && times(ours) == times(theirs)
        },
    ),
    (
        "a transformation by time without a lower bound: InfluxDB looks back beyond the first instant there is and finds nothing",
        |text, _, theirs| text.contains("time(") && !text.contains("time >") && !has_rows(theirs),
    ),
    (
        "a function of whole numbers in a subquery: InfluxDB cuts its values to whole numbers, and a condition outside then takes others",
        |text, ours, theirs| {
            let floats = ["log2(", "ln(", "sqrt(", "exp(", "sin("];
            let conditions = text.rsplit_once(')').is_some_and(|(_, outside)| outside.contains("WHERE"));
            let is_of_floats = text.contains("FROM (SELECT") && floats.iter().any(|name| text.contains(name));
            is_of_floats && (conditions || times(ours) == times(theirs))
        },
    ),
    (
        "distinct(): InfluxDB brings the values of a bucket in the order of a map, and transformations take them so",
        |text, ours, theirs| {
            let follows = ["derivative(", "difference(", "elapsed(", "cumulative_sum(", "moving_average("];
            let is_used_further = text.contains("non_negative_") || text.contains("FROM (SELECT");
            let is_alike = is_used_further || times(ours) == times(theirs);
            text.contains("distinct(") && follows.iter().any(|name| text.contains(name)) && is_alike
        },
    ),
    (
        "percentile() beside a column: of rows with that value InfluxDB takes the one that its sort brings",
        |text, ours, theirs| {
            let same_column = (1..5).any(|n| has_column(ours, n) && column_values(ours, n) == column_values(theirs, n));
            text.contains("percentile(") && same_column
        },
    ),
    ("two functions of types that they don't take: InfluxDB names another one first", |_, ours, theirs| {
        error(ours).contains("iterator type: ") && error(theirs).contains("iterator type: ")
    }),
    (
        "buckets without a beginning: InfluxDB begins with the first instant there is, or finds nothing in a subquery",
        |text, _, theirs| {
            let from_the_first_instant = theirs["body"].to_string().contains("\"1677-09-");
            let in_a_subquery = text.contains("FROM (SELECT") && text.contains("WHERE time <") && !has_rows(theirs);
            text.contains("time(") && (from_the_first_instant || in_a_subquery)
        },
    ),
    (
        "a function of buckets of a subquery that begin before the condition outside: InfluxDB finds nothing",
        |text, _, theirs| {
            let is_bounded = text.rsplit_once(") WHERE").is_some_and(|(_, outside)| outside.contains("time >"));
            text.contains("FROM (SELECT") && text.contains("time(") && is_bounded && !has_rows(theirs)
        },
    ),
    ("rows of a subquery of several series: InfluxDB brings them in an order that is none", |text, ours, theirs| {
        text.contains("FROM (SELECT") && sorted_rows(ours) == sorted_rows(theirs)
    }),
    (
        "percentile() of values that are equal: InfluxDB takes the time that its sort brings, we that of the earliest",
        |text, ours, theirs| text.contains("percentile(") && without_times(ours) == without_times(theirs),
    ),
    (
        "top() and bottom() with ORDER BY time DESC: InfluxDB answers the oldest first, we order as asked",
        |text, ours, theirs| chooses(text) && text.contains("DESC") && sorted_rows(ours) == sorted_rows(theirs),
    ),
    (
        "mode() of values that come equally often: InfluxDB takes what its sort brings, we the one that came first",
        |text, ours, theirs| text.contains("mode(") && times(ours) == times(theirs),
    ),
    ("an infinite number: InfluxDB's JSON is broken there", |_, _, theirs| {
        theirs["body"].as_str().is_some_and(|text| text.contains("unsupported value: "))
    }),
    ("abs() of a negative integer: InfluxDB leaves it negative", |text, ours, theirs| {
        let is_used_further = text.contains("FROM (SELECT") && times(ours) != times(theirs);
        text.contains("abs(") && (is_used_further || is_near(&without_signs(ours), &without_signs(theirs)))
    }),
    (
        "integral() without buckets: InfluxDB says 1970 whatever the lower bound, on rows of their own in any order",
        |text, ours, theirs| text.contains("integral(") && !text.contains("time(") && has_numbers(ours, theirs),
    ),
    (
        "integral() in buckets: InfluxDB books the area of an empty one on the next, and goes on wrongly behind an edge between whole numbers",
        |text, ours, theirs| {
            let in_buckets = text.contains("integral(") && text.contains("time(");
            // What is beside it has rows of its own.
            let is_mixed = text.contains("FROM (SELECT") || text.contains(", ") || text.contains("DESC");
            in_buckets && (is_mixed || is_near(&first_rows(ours), &first_rows(theirs)))
        },
    ),
    (
        "percentile() of a bucket with too few points: InfluxDB ends there, or loses step with what stands beside it",
        |text, ours, theirs| {
            let is_later = |pair: &[Value]| pair[0].as_str() < pair[1].as_str();
            let in_step = |times: &Vec<Value>| times.windows(2).all(is_later) || text.contains("DESC");
            let loses_step = !series_times(theirs).iter().all(in_step);
            let answers_less = row_count(theirs) < row_count(ours);
            text.contains("percentile(") && text.contains("time(") && (loses_step || answers_less)
        },
    ),
    (
        "a transformation of filled buckets in a subquery: InfluxDB walks the buckets that it looks back to as a series of their own",
        |text, ours, theirs| {
            let fills = ["fill(0)", "fill(-1.5)", "fill(100)", "fill(previous)", "fill(linear)"];
            let is_filled = text.contains("FROM (SELECT") && fills.iter().any(|fill| text.contains(fill));
            is_filled && transforms(text) && row_count(theirs) > row_count(ours)
        },
    ),
    (
        "a transformation in a subquery: InfluxDB looks back only as far as the condition outside allows",
        |text, ours, theirs| {
            let is_bounded = text.rsplit_once(") WHERE").is_some_and(|(_, outside)| outside.contains("time >"));
            let is_inside = text.contains("FROM (SELECT") && is_bounded && transforms(text);
            is_inside && row_count(theirs) < row_count(ours)
        },
    ),
    (
        "a fill or a limit in a subquery of several series that the query around it doesn't tell apart: InfluxDB takes each point of another series for the beginning of one",
        |text, ours, theirs| {
            let inside = text.split_once("FROM (SELECT").map_or("", |(_, inside)| inside);
            let begins_anew = inside.contains("GROUP BY") && (inside.contains("fill(") || inside.contains("LIMIT"));
            begins_anew && row_count(theirs) > row_count(ours) && has_numbers(theirs, ours)
        },
    ),
    (
        "a change of a change: InfluxDB reads as far back as one of them needs, further if something stands beside that needs more",
        |text, ours, theirs| {
            // Which rows there are hangs on the first change where negative ones are left out.
            let is_used_further = text.contains("FROM (SELECT") || text.contains("non_negative_");
            text.contains("time(") && takes_change_of_change(text) && (is_used_further || agree_later(ours, theirs))
        },
    ),
    (
        "a number or the row before in the place of an absent tag or of nothing: InfluxDB fills these too, we only fields",
        |text, ours, theirs| {
            let fills = text.contains("fill(") && !text.contains("fill(null)") && !text.contains("fill(none)");
            fills && times(ours) == times(theirs)
        },
    ),
    ("series in several shards: InfluxDB counts each of them once for each", |text, ours, theirs| {
        text.starts_with("SHOW SERIES EXACT CARDINALITY") && counts_more(theirs, ours)
    }),
];

/// Why limits are taken otherwise, of which statements, and the words that their clauses begin with.
type Limit = (&'static str, fn(&str) -> bool, &'static [&'static str]);

/// Limits that InfluxDB takes otherwise. That is the reason only if the answers agree without them.
const LIMITS: &[Limit] = &[
    (
        "limits on series: InfluxDB counts them in the order of its index",
        |text| text.contains("SLIMIT"),
        &["SLIMIT", "SOFFSET"],
    ),
    (
        "OFFSET: InfluxDB leaves out rows of each series and shard before it brings them together",
        |text| text.contains("OFFSET"),
        &["OFFSET", "LIMIT", "SLIMIT", "SOFFSET"],
    ),
    (
        "top() and bottom() with a limit: InfluxDB stops reading there, we find the greatest",
        |text| chooses(text) && text.contains("LIMIT"),
        &["LIMIT"],
    ),
    (
        "transformations side by side with a limit: InfluxDB takes so many rows of each of them",
        |text| transforms(text) && text.contains("LIMIT"),
        &["LIMIT"],
    ),
    (
        "distinct() with a limit: InfluxDB brings the values of a bucket in the order of a map",
        |text| text.contains("distinct(") && text.contains("LIMIT"),
        &["LIMIT"],
    ),
];

/// The limits for which the answers may differ, as the words that their clauses begin with.
pub fn limits(text: &str) -> impl Iterator<Item = &'static [&'static str]> {
    LIMITS.iter().filter(move |(_, is_it, _)| is_it(text)).map(|(_, _, clauses)| *clauses)
}

/// Why the answers may differ, if that is known.
pub fn reason(text: &str, ours: &Value, theirs: &Value) -> Option<&'static str> {
    DIFFERENCES.iter().find(|(_, is_it)| is_it(text, ours, theirs)).map(|(reason, _)| *reason)
}

fn transforms(text: &str) -> bool {
    let names = [
        "derivative(",
        "difference(",
        "moving_average(",
        "cumulative_sum(",
        "elapsed(",
        "_oscillator(",
        "_index(",
        "_ratio(",
    ];
    names.iter().any(|name| text.contains(name))
}

/// Whether one of the functions that compare with the bucket before is made of another.
fn takes_change_of_change(text: &str) -> bool {
    let names = ["derivative(", "difference(", "elapsed("];
    let is_one = |part: &str| names.iter().any(|name| part.starts_with(name));
    let arguments = names.iter().flat_map(|name| text.match_indices(name).map(|(at, _)| &text[at + name.len()..]));
    arguments.map(|argument| argument.trim_start_matches("non_negative_")).any(is_one)
}

fn chooses(text: &str) -> bool {
    text.contains("top(") || text.contains("bottom(")
}

fn error(answer: &Value) -> &str {
    answer["body"]["results"][0]["error"].as_str().unwrap_or_default()
}

fn has_rows(answer: &Value) -> bool {
    !answer["body"]["results"][0]["series"].is_null()
}

fn series(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["body"]["results"][0]["series"].as_array().into_iter().flatten()
}

fn rows(series: &Value) -> impl Iterator<Item = &Value> {
    series["values"].as_array().into_iter().flatten()
}

fn row_count(answer: &Value) -> usize {
    series(answer).flat_map(rows).count()
}

/// The times of each series.
fn series_times(answer: &Value) -> Vec<Vec<Value>> {
    series(answer).map(|series| rows(series).map(|row| row[0].clone()).collect()).collect()
}

/// The first row of each series.
fn first_rows(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    let all = body["results"][0]["series"].as_array().cloned().unwrap_or_default();
    all.iter().map(|series| series["values"][0].clone()).collect()
}

/// Whether the rows of each series are the same but for the first two of ours.
fn agree_later(ours: &Value, theirs: &Value) -> bool {
    let key = |series: &Value| format!("{} {}", series["name"], series["tags"]);
    let mut later: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    let mut first = BTreeMap::new();
    for series in series(ours) {
        first.insert(key(series), rows(series).take(2).map(|row| &row[0]).collect::<Vec<_>>());
        later.insert(key(series), rows(series).skip(2).collect());
    }
    later.retain(|_, rows| !rows.is_empty());
    let mut theirs_later: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for series in series(theirs) {
        let Some(first) = first.get(&key(series)) else { return false };
        let later: Vec<_> = rows(series).filter(|row| !first.contains(&&row[0])).collect();
        if !later.is_empty() {
            theirs_later.insert(key(series), later);
        }
    }
    is_near(&json!(later), &json!(theirs_later))
}

/// Whether the numbers of one answer are among those of the other, in the same series and columns.
fn has_numbers(all: &Value, some: &Value) -> bool {
    let (all, some) = (numbers(all), numbers(some));
    some.iter().all(|(place, numbers)| {
        let known = all.get(place).map(Vec::as_slice).unwrap_or_default();
        numbers.iter().all(|number| known.iter().any(|known| is_near(&json!(known), &json!(number))))
    })
}

/// Numbers but 0, by series and column.
fn numbers(answer: &Value) -> BTreeMap<String, Vec<f64>> {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for series in series(answer) {
        for row in rows(series) {
            let cells = row.as_array().into_iter().flatten().enumerate().skip(1);
            for (column, number) in cells.filter_map(|(column, cell)| Some((column, cell.as_f64()?))) {
                let key = format!("{} {} {column}", series["name"], series["tags"]);
                if number != 0.0 {
                    found.entry(key).or_default().push(number);
                }
            }
        }
    }
    found
}

/// Numbers without their signs.
fn without_signs(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    let all = body.pointer_mut("/results/0/series").and_then(Value::as_array_mut);
    let values = all.into_iter().flatten().filter_map(|series| series["values"].as_array_mut()).flatten();
    for value in values.filter_map(Value::as_array_mut).flatten() {
        if let Some(number) = value.as_f64() {
            *value = Value::from(number.abs());
        }
    }
    body
}

/// Whether the numbers of one answer are those of the other or greater, under the same names.
fn counts_more(more: &Value, less: &Value) -> bool {
    let counts = |answer: &Value| -> Vec<(Value, Option<i64>)> {
        series(answer).map(|series| (series["name"].clone(), series["values"][0][0].as_i64())).collect()
    };
    let (more, less) = (counts(more), counts(less));
    more.len() == less.len() && more.iter().zip(&less).all(|(more, less)| more.0 == less.0 && more.1 >= less.1)
}

/// The answer with the rows of each series in one order.
fn sorted_rows(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    let series = body.pointer_mut("/results/0/series").and_then(Value::as_array_mut);
    for series in series.into_iter().flatten() {
        if let Some(rows) = series["values"].as_array_mut() {
            rows.sort_by_key(ToString::to_string);
        }
    }
    body
}

/// The answer with anything but the times of its rows.
fn without_times(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    let series = body.pointer_mut("/results/0/series").and_then(Value::as_array_mut);
    for series in series.into_iter().flatten() {
        for row in series["values"].as_array_mut().into_iter().flatten() {
            row[0] = Value::Null;
        }
    }
    body
}

fn has_column(answer: &Value, column: usize) -> bool {
    series(answer).any(|series| series["columns"].as_array().is_some_and(|columns| columns.len() > column))
}

/// The values of a column, in an order of their own.
fn column_values(answer: &Value, column: usize) -> Vec<Value> {
    let mut values: Vec<Value> = series(answer).flat_map(rows).map(|row| row[column].clone()).collect();
    values.sort_by_key(ToString::to_string);
    values
}

/// The answer with nothing but the times of its rows.
fn times(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    sort_equal_times(&mut body);
    only_times(&mut body);
    body
}
