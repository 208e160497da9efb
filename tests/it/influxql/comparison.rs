//! When two answers are the same.

use serde_json::Value;

/// Whether two answers are the same but for rounding.
pub fn is_near(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_near(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_near(a, b)))
        }
        _ => ours == theirs,
    }
}

/// The results; none if the answer is a text, as where InfluxDB can't write its own as JSON.
fn results(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    answer.get_mut("results").and_then(Value::as_array_mut).into_iter().flatten()
}

fn series(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    let results = results(answer);
    results.filter_map(|result| result.get_mut("series")).filter_map(Value::as_array_mut).flatten()
}

/// Brings points of one time into one order.
pub fn sort_equal_times(answer: &mut Value) {
    for series in series(answer) {
        let is_timed = series["columns"][0] == "time";
        if let (true, Some(rows)) = (is_timed, series["values"].as_array_mut()) {
            rows.chunk_by_mut(|a, b| a[0] == b[0]).for_each(|equal| equal.sort_by_key(ToString::to_string));
        }
    }
}

/// Leaves columns and times alone.
pub fn only_times(answer: &mut Value) {
    for series in series(answer) {
        for row in series["values"].as_array_mut().into_iter().flatten() {
            row.as_array_mut().unwrap().truncate(1);
        }
    }
}

pub fn sort_series(answer: &mut Value) {
    for result in results(answer) {
        if let Some(series) = result.get_mut("series").and_then(Value::as_array_mut) {
            series.sort_by_key(|series| series["tags"].to_string());
        }
    }
}
