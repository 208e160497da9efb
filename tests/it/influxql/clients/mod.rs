//! Requests of applications and client libraries, letter by letter: to a real InfluxDB 1.6.7 and to us, one after the other.
//!
//! Compared are the status, the headers that clients read, and the body. Where we answer otherwise on purpose the reason stands beside
//! the request. Libraries of languages are tried for real in `clients/`.

mod sent;

use std::io::{Read, Write};

use reqwest::Method;
use serde_json::Value;

use super::comparison::{is_near, sort_equal_times, sort_series};
use super::points;
use crate::harness::influxdb::InfluxDb;
use crate::harness::server::TestServer;

/// How our answer is to be.
#[derive(Clone)]
enum Expected {
    /// As InfluxDB's.
    Alike,
    /// With the same status and the same names of columns: values are those of the one server.
    Shape,
    /// Otherwise, for this reason: the status, and what the body holds.
    Otherwise(&'static str, u16, &'static str),
}

use Expected::{Alike, Otherwise, Shape};

struct Request {
    client: &'static str,
    method: Method,
    /// With its query.
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    expected: Expected,
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Request {
    /// A query in the URL.
    fn get(client: &'static str, pairs: &[(&str, &str)]) -> Self {
        let path = format!("/query?{}", encoded(pairs));
        Self { client, method: Method::GET, path, headers: Vec::new(), body: Vec::new(), expected: Alike }
    }

    /// A query in the URL of a `POST`.
    fn post(client: &'static str, pairs: &[(&str, &str)]) -> Self {
        Self { method: Method::POST, ..Self::get(client, pairs) }
    }

    /// A query as a form.
    fn form(client: &'static str, pairs: &[(&str, &str)]) -> Self {
        let headers = vec![("content-type", "application/x-www-form-urlencoded")];
        let (path, body) = ("/query".to_owned(), encoded(pairs).into_bytes());
        Self { client, method: Method::POST, path, headers, body, expected: Alike }
    }

    fn write(client: &'static str, pairs: &[(&str, &str)], lines: &str) -> Self {
        let path = format!("/write?{}", encoded(pairs));
        let headers = vec![("content-type", "text/plain; charset=utf-8")];
        Self { client, method: Method::POST, path, headers, body: lines.as_bytes().to_vec(), expected: Alike }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn is(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    fn compressed(mut self) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&self.body).unwrap();
        self.body = encoder.finish().unwrap();
        self.header("content-encoding", "gzip")
    }

    async fn send(&self, http: &reqwest::Client, url: String) -> Answer {
        let mut request = http.request(self.method.clone(), url).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, error) = (response.status().as_u16(), header("x-influxdb-error"));
        let has_version = header("x-influxdb-version").is_some() && header("x-influxdb-build").is_some();
        let (kind, is_gzip) = (header("content-type"), header("content-encoding").as_deref() == Some("gzip"));
        let mut body = response.bytes().await.unwrap().to_vec();
        if is_gzip {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
            body = plain;
        }
        Answer { status, error, has_version, kind, is_gzip, body }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    error: Option<String>,
    has_version: bool,
    kind: Option<String>,
    is_gzip: bool,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The documents of the body, with what is free in one order; `None` if it is no JSON.
    fn documents(&self) -> Option<Vec<Value>> {
        let documents = serde_json::Deserializer::from_slice(&self.body).into_iter().collect::<Result<Vec<Value>, _>>();
        let mut documents = documents.ok()?;
        for document in &mut documents {
            sort_equal_times(document);
            sort_series(document);
        }
        Some(documents)
    }

    /// The names of columns of each series, by statement.
    fn columns(&self) -> Vec<Value> {
        let documents = self.documents().unwrap_or_default();
        let results = documents.iter().flat_map(|document| document["results"].as_array().into_iter().flatten());
        let series = results.flat_map(|result| result["series"].as_array().into_iter().flatten());
        series.map(|series| series["columns"].clone()).collect()
    }

    /// What clients look at beside the body.
    fn head(&self) -> (u16, &Option<String>, bool, Option<&str>, bool) {
        // A body that is not there has no type.
        let kind = self.kind.as_deref().filter(|_| !self.body.is_empty());
        (self.status, &self.error, self.has_version, kind, self.is_gzip)
    }
}

fn agree(ours: &Answer, theirs: &Answer) -> bool {
    let same_body = match (ours.documents(), theirs.documents()) {
        (Some(ours), Some(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(ours, theirs)| is_near(ours, theirs))
        }
        _ => ours.body == theirs.body,
    };
    ours.head() == theirs.head() && same_body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_clients_are_answered_as_by_influxdb() {
    let (server, influxdb) = (TestServer::start().await, InfluxDb::start());
    server.write("ora", points::points()).await;
    influxdb.write("ora", &points::points()).await;
    let requests = [
        sent::grafana(),
        sent::chronograf(),
        sent::telegraf(),
        sent::home_assistant(),
        sent::kapacitor(),
        sent::influxdb_python(),
        sent::others(),
    ];
    let (mut count, mut wrong) = (0, Vec::new());
    for request in requests.into_iter().flatten() {
        count += 1;
        let ours = request.send(&server.http, server.url(&request.path)).await;
        let theirs = request.send(&influxdb.http, influxdb.url(&request.path)).await;
        let problem = match request.expected {
            Alike => (!agree(&ours, &theirs)).then(|| "differs".to_owned()),
            Shape => {
                let is_alike = (ours.head(), ours.columns()) == (theirs.head(), theirs.columns());
                (!is_alike).then(|| "has another shape".to_owned())
            }
            Otherwise(why, ..) if agree(&ours, &theirs) => {
                Some(format!("is answered alike, so it needs no reason ({why})"))
            }
            Otherwise(why, status, part) => {
                let is_so = ours.status == status && ours.text().contains(part);
                (!is_so).then(|| format!("is not as it should be ({why})"))
            }
        };
        if let Some(problem) = problem {
            let sent = (request.method.as_str(), form_urlencoded::parse(request.path.as_bytes()).collect::<Vec<_>>());
            wrong.push(format!(
                "{} {sent:?} {} {problem}:\n  InfluxDB: {:?} {}\n  ours:     {:?} {}",
                request.client,
                String::from_utf8_lossy(&request.body),
                theirs.head(),
                theirs.text(),
                ours.head(),
                ours.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} requests:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 200, "{count} requests");
}
