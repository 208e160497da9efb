//! Parameters of a request from its body; values for the `$name`s of a statement, from the JSON of the parameter `params`.

use http::{HeaderMap, header};
use serde_json::{Map, Value as Json};

use super::super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::syntax::influxql::Value;

/// Adds what a body says: a form, a form with files, or the query itself. A body of another type says nothing, as in InfluxDB.
pub(super) fn add_posted(given: &mut Parameters, headers: &HeaderMap, body: &[u8]) {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, options) = content_type.split_once(';').unwrap_or((content_type, ""));
    let Ok(text) = std::str::from_utf8(body) else { return };
    match kind.trim() {
        "application/x-www-form-urlencoded" => given.extend(Parameters::parse(Some(text))),
        "multipart/form-data" => {
            let boundary = options.split(';').find_map(|option| option.trim().strip_prefix("boundary="));
            if let Some(boundary) = boundary.map(|boundary| boundary.trim_matches('"')).filter(|text| !text.is_empty())
            {
                form_parts(text, boundary).for_each(|(name, value)| given.add(name, value));
            }
        }
        "" | "application/vnd.influxql" if given.get("q").is_none() => given.add("q", text),
        _ => {}
    }
}

/// The names and contents of the parts of a form with files.
fn form_parts<'a>(text: &'a str, boundary: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(boundary)? + boundary.len();
            let part = rest[start..].strip_prefix("\r\n")?;
            let end = part.find(boundary)?;
            rest = &part[end..];
            let (head, content) = part[..end].split_once("\r\n\r\n")?;
            let content = content.strip_suffix("\r\n--").unwrap_or(content);
            let name = head.split("name=\"").nth(1).and_then(|after| after.split('"').next());
            if let Some(name) = name {
                return Some((name, content));
            }
        }
    })
}

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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn query(content_type: &'static str, body: &str) -> Option<String> {
        let mut given = Parameters::parse(Some("db=d"));
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        add_posted(&mut given, &headers, body.as_bytes());
        assert_eq!(given.get("db"), Some("d"));
        given.get("q").map(str::to_owned)
    }

    #[test]
    fn a_query_comes_as_form_file_or_body() {
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(query("application/x-www-form-urlencoded", "q=SHOW+DATABASES"), found("SHOW DATABASES"));
        assert_eq!(query("application/vnd.influxql", "SHOW DATABASES"), found("SHOW DATABASES"));
        assert_eq!(query("", "SHOW DATABASES"), found("SHOW DATABASES"));
        assert_eq!(query("text/plain", "SHOW DATABASES"), None);
        let form = "--x1\r\nContent-Disposition: form-data; name=\"epoch\"\r\n\r\nms\r\n--x1\r\nContent-Disposition: form-data; \
                    name=\"q\"; filename=\"a.iql\"\r\nContent-Type: text/plain\r\n\r\nSELECT a\r\nFROM b\r\n--x1--\r\n";
        assert_eq!(query("multipart/form-data; boundary=x1", form), found("SELECT a\r\nFROM b"));
        assert_eq!(query("multipart/form-data", form), None);
    }
}
