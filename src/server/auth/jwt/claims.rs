//! What the claims of a JWT allow.
//!
//! | claim | value | allows |
//! |---|---|---|
//! | `rights`, or as the settings name it | a list of permissions, or one text of them with spaces between | what each says: `db:metrics:read,write` |
//! | `scope`, `scp` | OAuth scopes, a list or one text (RFC 8693, 4.2) | `read:metrics`, `write:*`, `create:x`, `delete:x`, `admin:x`; `admin` alone: everything |
//!
//! A permission that can't be understood makes the token worthless, because its issuer meant something by it; other scopes are
//! for others and are passed over.

use serde_json::{Map, Value};

use super::{Disbelief, missing};
use crate::model::{Permission, Rights, Timestamp};

const NANOS_PER_SECOND: f64 = 1e9;

/// All that the claims allow together; nothing if they don't speak of it.
pub(super) fn rights(claims: &Map<String, Value>, rights_claim: &str) -> Result<Rights, Disbelief> {
    let mut permissions = Vec::new();
    for text in words(claims, rights_claim, "rights")? {
        permissions.push(text.parse()?);
    }
    for claim in ["scope", "scp"] {
        permissions.extend(words(claims, claim, claim)?.filter_map(scope));
    }
    Ok(Rights::new(permissions))
}

/// A scope of ours as a permission.
fn scope(text: &str) -> Option<Permission> {
    if text == "admin" {
        return Some(Permission::Everything);
    }
    let (action, database) = text.split_once(':')?;
    format!("db:{database}:{action}").parse().ok()
}

/// The words of a claim that is a list of texts or one text.
fn words<'a>(
    claims: &'a Map<String, Value>,
    name: &str,
    shown: &'static str,
) -> Result<Box<dyn Iterator<Item = &'a str> + 'a>, Disbelief> {
    let unfit = || Disbelief::Claim { claim: shown, found: "neither a text nor a list of texts".to_owned() };
    match claims.get(name) {
        None | Some(Value::Null) => Ok(Box::new(std::iter::empty())),
        Some(Value::String(text)) => Ok(Box::new(text.split_ascii_whitespace())),
        Some(Value::Array(values)) => {
            let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            Ok(Box::new(texts.ok_or_else(unfit)?.into_iter()))
        }
        Some(_) => Err(unfit()),
    }
}

/// A moment in seconds since 1970, which may have a fraction (RFC 7519, 2).
pub(super) fn instant(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Disbelief> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_f64().ok_or_else(|| missing(name))?;
            // What lies beyond the range is cut off: year 2262 is as good as never.
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is what is wanted")]
            let nanos = (seconds * NANOS_PER_SECOND) as i64;
            Ok(Some(Timestamp::from_nanos(nanos)))
        }
        Some(other) => Err(Disbelief::Claim { claim: name, found: format!("no number but {other}") }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allowed(claims: &Value) -> Result<Vec<String>, String> {
        let rights = rights(claims.as_object().unwrap(), "rights").map_err(|error| error.to_string())?;
        Ok(rights.permissions().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn permissions_come_from_the_claim_of_ours_and_from_scopes() {
        assert_eq!(allowed(&json!({ "rights": ["db:a:read", "table:a:cpu t:write"] })).unwrap().len(), 2);
        assert_eq!(allowed(&json!({ "rights": "db:a:read db:b:write" })).unwrap(), ["db:a:read", "db:b:write"]);
        assert_eq!(
            allowed(&json!({ "scope": "openid read:a write:* profile:x", "scp": ["admin:c"] })).unwrap(),
            ["db:a:read", "db:*:write", "db:c:admin"]
        );
        assert_eq!(allowed(&json!({ "scope": "admin" })).unwrap(), ["*:*:*"]);
        assert!(allowed(&json!({ "sub": "me" })).unwrap().is_empty());
    }

    #[test]
    fn what_was_meant_as_a_permission_must_be_one() {
        assert!(allowed(&json!({ "rights": ["db:a:drop"] })).unwrap_err().contains("no action"));
        assert!(allowed(&json!({ "rights": 1 })).unwrap_err().contains("neither a text"));
        assert!(allowed(&json!({ "scope": [1] })).is_err());
    }

    #[test]
    fn instants_are_numbers() {
        let at = |value: Value| instant(json!({ "exp": value }).as_object().unwrap(), "exp");
        assert_eq!(at(json!(2)).unwrap(), Some(Timestamp::from_nanos(2_000_000_000)));
        assert_eq!(at(json!(1.5)).unwrap(), Some(Timestamp::from_nanos(1_500_000_000)));
        assert_eq!(at(json!(1e300)).unwrap(), Some(Timestamp::from_nanos(i64::MAX)));
        assert!(at(json!("2")).is_err());
    }
}
