//! Values for the `$name`s of a statement, from the JSON of the parameter `params`.

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::syntax::influxql::Value;

/// The parameters of a JSON object; none if there is no text.
///
/// # Errors
/// `Invalid` if the text is no JSON object.
pub(super) fn values(text: Option<&str>) -> Result<Vec<(String, Value)>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let object: Map<String, Json> = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("error parsing query parameters: {error}")))?;
    Ok(object.into_iter().map(|(name, value)| (name, bound(&value))).collect())
}

/// What a value stands for. One that can't be written is an error only where it is used.
fn bound(value: &Json) -> Value {
    match value {
        Json::String(text) => Value::String(text.clone()),
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(float)) => Value::Number(float),
            (None, None) => Value::Unusable("unable to bind parameter with this number".to_owned()),
        },
        Json::Object(object) => typed(object),
        Json::Null => Value::Unusable("unable to bind parameter with type <nil>".to_owned()),
        Json::Array(_) => Value::Unusable("unable to bind parameter with type []interface {}".to_owned()),
    }
}

/// `{"duration": "1m"}` and its like.
fn typed(object: &Map<String, Json>) -> Value {
    let unusable = |message: String| Value::Unusable(message);
    let mut entries = object.iter();
    let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
        return unusable("bound object parameter value must have exactly one entry".to_owned());
    };
    let text = value.as_str().map(str::to_owned);
    let (bound, wanted) = match kind.as_str() {
        "ident" | "identifier" => (text.map(Value::Identifier), "identifier must be a string value"),
        "regex" => (text.map(Value::Regex), "regex literal must be a string value"),
        "string" => (text.map(Value::String), "string literal must be a string value"),
        "float" | "number" => (value.as_f64().map(Value::Number), "number literal must be a float value"),
        "int" | "integer" => (value.as_i64().map(Value::Integer), "integer literal must be an integer value"),
        "boolean" => (value.as_bool().map(Value::Boolean), "boolean literal must be a boolean value"),
        "duration" => {
            let duration = text.map(Value::Duration).or_else(|| value.as_i64().map(Value::duration));
            (duration, "duration literal must be a string or integer value")
        }
        other => return unusable(format!("unknown bind object type: {other}")),
    };
    bound.unwrap_or_else(|| unusable(wanted.to_owned()))
}
