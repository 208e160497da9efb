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
    ("a function of whole numbers in a subquery: InfluxDB cuts its values to whole numbers", |text, ours, theirs| {
        let floats = ["log2(", "ln(", "sqrt(", "exp(", "sin("];
        text.contains("FROM (SELECT") && floats.iter().any(|name| text.contains(name)) && times(ours) == times(theirs)
    }),
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

/// The answer with nothing but the times of its rows.
fn times(answer: &Value) -> Value {
    let mut body = answer["body"].clone();
    sort_series(&mut body);
    sort_equal_times(&mut body);
    only_times(&mut body);
    body
}
