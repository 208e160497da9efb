//! Where InfluxDB 1.6.7 is wrong or odd, so that we answer random statements otherwise; each with the reason.

use serde_json::Value;

use super::comparison::{only_times, sort_equal_times, sort_series};

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
        "distinct(): InfluxDB brings the values of a bucket in the order of a map, and limits and transformations take them so",
        |text, _, _| {
            let follows = ["LIMIT", "derivative(", "difference(", "elapsed(", "cumulative_sum(", "moving_average("];
            text.contains("distinct(") && follows.iter().any(|name| text.contains(name))
        },
    ),
    (
        "percentile() beside a column: of rows with that value InfluxDB takes the one that its sort brings",
        |text, ours, theirs| text.contains("percentile(") && first_values(ours) == first_values(theirs),
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
        "percentile() of values that are equal: InfluxDB takes the time that its sort brings, we that of the earliest",
        |text, ours, theirs| text.contains("percentile(") && without_times(ours) == without_times(theirs),
    ),
    (
        "top() and bottom() with ORDER BY time DESC: InfluxDB answers the oldest first, we order as asked",
        |text, ours, theirs| chooses(text) && text.contains("DESC") && sorted_rows(ours) == sorted_rows(theirs),
    ),
    ("top() and bottom() with a limit: InfluxDB stops reading there, we find the greatest", |text, _, _| {
        chooses(text) && (text.contains("LIMIT") || text.contains("OFFSET"))
    }),
    (
        "mode() of values that come equally often: InfluxDB takes what its sort brings, we the one that came first",
        |text, ours, theirs| text.contains("mode(") && times(ours) == times(theirs),
    ),
    ("an infinite number: InfluxDB's JSON is broken there", |_, _, theirs| {
        theirs["body"].as_str().is_some_and(|text| text.contains("unsupported value: "))
    }),
    ("abs() of a negative integer: InfluxDB leaves it negative", |text, _, _| text.contains("abs(")),
    (
        "the area in empty buckets: InfluxDB books it on the next bucket with a point; and without buckets it says 1970",
        |text, _, _| text.contains("integral("),
    ),
    (
        "a number or the row before in the place of an absent tag or of nothing: InfluxDB fills these too, we only fields",
        |text, ours, theirs| {
            let fills = text.contains("fill(") && !text.contains("fill(null)") && !text.contains("fill(none)");
            fills && times(ours) == times(theirs)
        },
    ),
    ("series in several shards: InfluxDB counts each of them once for each", |text, _, _| {
        text.starts_with("SHOW SERIES EXACT CARDINALITY")
    }),
    ("OFFSET: InfluxDB leaves out rows of each series and shard before it brings them together", |text, _, _| {
        text.contains("OFFSET")
    }),
    ("limits on series: InfluxDB counts them in the order of its index", |text, _, _| text.contains("SLIMIT")),
];

/// Random statements, by their seeds, that we answer otherwise without knowing that we are right; what is seen in each.
pub const UNEXPLAINED: &[(u64, &str)] = &[
    (649, "a field that a subquery lacks beside one that it has: InfluxDB has rows with nulls, we have none"),
    (940, "percentile() by all tags and time: InfluxDB has no row, we have those of buckets with enough points"),
    (2053, "a moving average that is filled, below a condition on time: InfluxDB has no row, we have one"),
    (2059, "SHOW MEASUREMENTS WHERE tag != value: InfluxDB has none, we have those with other series"),
    (2202, "a sum of a boolean of a subquery: InfluxDB says that types don't fit, we answer nulls"),
];

/// Why the answers may differ, if that is known.
pub fn reason(text: &str, ours: &Value, theirs: &Value) -> Option<&'static str> {
    DIFFERENCES.iter().find(|(_, is_it)| is_it(text, ours, theirs)).map(|(reason, _)| *reason)
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

/// The first value of each row, in an order of their own.
fn first_values(answer: &Value) -> Vec<Value> {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    let series = body.pointer("/results/0/series").and_then(Value::as_array).into_iter().flatten();
    let rows = series.flat_map(|series| series["values"].as_array().into_iter().flatten());
    let mut values: Vec<Value> = rows.map(|row| row[1].clone()).collect();
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
