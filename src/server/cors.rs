//! Which pages in a browser may speak to the server: those of the origins that are listed.
//!
//! A browser asks before it sends what a page wants to send, and shows the page an answer only if its origin is allowed. Nothing
//! here protects against anybody but pages: whoever is no browser sends what he likes.

use http::{HeaderMap, HeaderValue, header};

use crate::error::{Error, ErrorKind, Result};

/// Methods that any route has.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS");

/// How long a browser need not ask again, in seconds.
const AGE: HeaderValue = HeaderValue::from_static("86400");

/// The origins whose pages may speak to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any page.
    Any,
    /// Pages of these, as browsers write them: `https://app.example.org`. May be none.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Pages of these origins.
    ///
    /// # Errors
    /// `Invalid` if one can't be what a browser sends.
    pub fn listed(origins: &[String]) -> Result<Self> {
        let value = |origin: &String| {
            let unreadable =
                |error| Error::with_source(ErrorKind::Invalid, format!("\"{origin}\" is no origin"), error);
            HeaderValue::from_str(origin).map_err(unreadable)
        };
        origins.iter().map(value).collect::<Result<_>>().map(Self::Listed)
    }

    /// Lets the page see the answer, if it may.
    pub(in crate::server) fn allow(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        match self {
            Self::Any => {
                answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::Listed(origins) if origins.is_empty() => {}
            Self::Listed(origins) => {
                // A proxy must not give one page the answer that another one may see.
                answer.append(header::VARY, HeaderValue::from_static("origin"));
                if let Some(origin) = origin.filter(|origin| origins.contains(origin)) {
                    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                }
            }
        }
    }

    /// The answer to a browser that asks what a page may send.
    pub(in crate::server) fn allow_request(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        self.allow(asked.get(header::ORIGIN), answer);
        if !answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        // As the page named them: `*` does not stand for `authorization`.
        let headers = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let headers = headers.unwrap_or_else(|| HeaderValue::from_static("*"));
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, AGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: HeaderValue = HeaderValue::from_static("https://app.example.org");
    const THEIRS: HeaderValue = HeaderValue::from_static("https://evil.example.org");

    fn answer(origins: &Origins, origin: &HeaderValue) -> HeaderMap {
        let asked = HeaderMap::from_iter([
            (header::ORIGIN, origin.clone()),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("authorization")),
        ]);
        let mut answer = HeaderMap::new();
        origins.allow_request(&asked, &mut answer);
        answer
    }

    #[test]
    fn a_page_of_a_listed_origin_may_send_its_token_and_no_other_page() {
        let origins = Origins::Listed(vec![OURS]);
        let ours = answer(&origins, &OURS);
        assert_eq!(ours[header::ACCESS_CONTROL_ALLOW_ORIGIN], OURS);
        assert_eq!(ours[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
        assert_eq!(ours[header::VARY], "origin");
        let theirs = answer(&origins, &THEIRS);
        assert_eq!((theirs.len(), &theirs[header::VARY]), (1, &HeaderValue::from_static("origin")));
    }

    #[test]
    fn any_page_may_or_none() {
        assert_eq!(answer(&Origins::Any, &THEIRS)[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(answer(&Origins::Listed(Vec::new()), &OURS).is_empty());
    }
}
