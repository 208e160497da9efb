//! Named parameters of a query from JSON, as HTTP requests and InfluxDB's tickets carry them.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::query::Parameter;

/// The parameters of a JSON object, in its order.
///
/// # Errors
/// `Invalid`, naming the parameter, if a value is a list, an object, or a number past 64 bits.
pub(super) fn from_json(object: Map<String, Value>) -> Result<Vec<(String, Parameter)>> {
    object.into_iter().map(parameter).collect()
}

fn parameter((name, value): (String, Value)) -> Result<(String, Parameter)> {
    let parameter = match value {
        Value::Null => Parameter::Null,
        Value::Bool(value) => Parameter::Boolean(value),
        Value::String(value) => Parameter::String(value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Parameter::Integer(value),
            (_, Some(value), _) => Parameter::Unsigned(value),
            (_, _, Some(value)) => Parameter::Float(value),
            _ => return Err(Error::invalid(format!("parameter '{name}' is a number that doesn't fit 64 bits"))),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(Error::invalid(format!("parameter '{name}' must be null, a boolean, a number or a string")));
        }
    };
    Ok((name, parameter))
}
