//! HTTP as clients of InfluxDB 3, 2.x and 1.x send it, good and bad.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::server::TestServer;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn post(server: &TestServer, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let response = server.http.post(server.url(path)).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_written_row_is_there_in_every_format() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1.5,count=2i,ok=true,note=\"x\" 1357020000000000000").await;
    let sql = "SELECT host, time, usage, count, ok, note FROM cpu";
    let answers = [
        ("json", r#"[{"host":"a","time":"2013-01-01T06:00:00","usage":1.5,"count":2,"ok":true,"note":"x"}]"#),
        (
            "jsonl",
            "{\"host\":\"a\",\"time\":\"2013-01-01T06:00:00\",\"usage\":1.5,\"count\":2,\"ok\":true,\"note\":\"x\"}\n",
        ),
        ("csv", "host,time,usage,count,ok,note\na,2013-01-01T06:00:00,1.5,2,true,x\n"),
        (
            "pretty",
            "+------+---------------------+-------+-------+------+------+\n\
             | host | time                | usage | count | ok   | note |\n\
             +------+---------------------+-------+-------+------+------+\n\
             | a    | 2013-01-01T06:00:00 | 1.5   | 2     | true | x    |\n\
             +------+---------------------+-------+-------+------+------+\n",
        ),
    ];
    for (format, expected) in answers {
        assert_eq!(server.query("db", sql, format).await, (200, expected.to_owned()), "{format}");
    }
    let url = server.url("/api/v3/query_sql?db=db&format=parquet&q=SELECT%20*%20FROM%20cpu");
    let bytes = server.http.get(url).send().await.unwrap().bytes().await.unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_result_is_whole_in_every_format() {
    let server = TestServer::start().await;
    server.write("db", "cpu usage=1 1").await;
    let sql = "SELECT usage FROM cpu WHERE usage > 5";
    assert_eq!(server.query("db", sql, "json").await, (200, "[]".to_owned()));
    assert_eq!(server.query("db", sql, "jsonl").await, (200, String::new()));
    assert_eq!(server.query("db", sql, "csv").await, (200, "usage\n".to_owned()));
    let table = "+-------+\n| usage |\n+-------+\n+-------+\n";
    assert_eq!(server.query("db", sql, "pretty").await, (200, table.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_parameters_are_bound() {
    let server = TestServer::start().await;
    server.write("db", "cpu,host=a usage=1 1\ncpu,host=b usage=2 2").await;
    let body = json!({
        "db": "db", "format": "csv", "q": "SELECT usage FROM cpu WHERE host = $host AND usage > $least",
        "params": { "host": "b", "least": 1.5 },
    });
    let response = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "usage\n2.0\n");
    let (status, text) = server.query("db", "SELECT usage FROM cpu WHERE host = $host", "csv").await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("host"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_line_is_named_and_leaves_no_trace() {
    let server = TestServer::start().await;
    let body = "# a comment\n\ncpu,host=a usage=1 1\r\ncpu,host=a usage=oops,newcolumn=1 2\r\ncpu,host=a usage=3i 3\nmem free=1 4\n";
    let (status, text) = post(&server, "/api/v3/write_lp?db=db&precision=ns", body).await;
    assert_eq!(status, 400);
    let answer = json_of(&text);
    assert_eq!(answer["error"], "partial write of line protocol occurred");
    let lines: Vec<(u64, &str)> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["line_number"].as_u64().unwrap(), line["original_line"].as_str().unwrap()))
        .collect();
    assert_eq!(lines, [(4, "cpu,host=a usage=oops,newcolumn=1 2"), (5, "cpu,host=a usage=3i 3")]);
    assert_eq!(
        answer["data"][1]["error_message"],
        "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::field::integer"
    );
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'cpu' ORDER BY 1";
    assert_eq!(server.query("db", columns, "csv").await, (200, "column_name\nhost\ntime\nusage\n".to_owned()));
    assert_eq!(server.query("db", "SELECT free FROM mem", "csv").await.1, "free\n1.0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_or_nothing_stores_nothing() {
    let server = TestServer::start().await;
    let body = "cpu usage=1 1\ncpu usage= 2\n";
    let (status, text) = post(&server, "/api/v3/write_lp?db=db&accept_partial=false", body).await;
    assert_eq!((status, &json_of(&text)["error"]), (400, &json!("parsing failed for write_lp endpoint")));
    assert_eq!(json_of(&text)["data"]["line_number"], 2);
    let (status, text) = post(&server, "/api/v2/write?bucket=db", body).await;
    assert_eq!((status, &json_of(&text)["code"]), (400, &json!("invalid")));
    assert_eq!(server.query("db", "SELECT 1", "csv").await.0, 404, "not even the database was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_the_write_api_stores() {
    let server = TestServer::start().await;
    let writes: [(&str, &str); 6] = [
        ("/api/v3/write_lp?db=db&precision=second", "cpu,from=v3 v=1i 1357020000"),
        ("/api/v3/write_lp?db=db", "cpu,from=auto v=1i 1357020000000"),
        ("/api/v3/write_lp?db=db&no_sync=true&precision=ns", "cpu,from=nosync v=1i 1357020000000000000"),
        ("/api/v2/write?bucket=db&org=any&precision=ms", "cpu,from=v2 v=1i 1357020000000"),
        ("/api/v2/write?bucket=db&precision=%C2%B5s", "cpu,from=sign v=1i 1357020000000000"),
        ("/write?db=db&rp=autogen&precision=u", "cpu,from=v1 v=1i 1357020000000000"),
    ];
    for (path, line) in writes {
        assert_eq!(post(&server, path, line).await, (204, String::new()), "{path}");
    }
    let sql = "SELECT count(*), min(time), max(time) FROM cpu";
    let expected = "count(*),min(cpu.time),max(cpu.time)\n6,2013-01-01T06:00:00,2013-01-01T06:00:00\n";
    assert_eq!(server.query("db", sql, "csv").await, (200, expected.to_owned()));
    assert_eq!(post(&server, "/write?db=db&rp=weekly", "cpu v=1i 1").await.0, 204);
    assert_eq!(server.query("db/weekly", "SELECT v FROM cpu", "csv").await, (200, "v\n1\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gzip_of_several_members_is_one_text() {
    let server = TestServer::start().await;
    let mut body = gzip("cpu v=1i 1\n");
    body.extend(gzip("cpu v=2i 2\n"));
    let request =
        server.http.post(server.url("/api/v3/write_lp?db=db&precision=ns")).header("content-encoding", "gzip");
    assert_eq!(request.body(body).send().await.unwrap().status(), 204);
    assert_eq!(server.query("db", "SELECT count(*) AS n FROM cpu", "csv").await.1, "n\n2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_past_the_limit_is_refused_in_either_form() {
    let server = TestServer::start_with(|settings| settings.request_bytes_max = 100_000).await;
    let lines = "cpu,host=a usage=1 1\n".repeat(10_000);
    let (status, text) = post(&server, "/api/v3/write_lp?db=db", lines.clone()).await;
    assert_eq!((status, text.contains("max request size (100000 bytes) exceeded")), (413, true), "{text}");
    let small = gzip(&lines);
    assert!(small.len() < 100_000);
    let request = server.http.post(server.url("/api/v3/write_lp?db=db")).header("content-encoding", "gzip");
    assert_eq!(request.body(small).send().await.unwrap().status(), 413);
    let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'#'; 10_000]));
    let endless = reqwest::Body::wrap_stream(futures::StreamExt::take(chunks, 1_000_000));
    let answer = server.http.post(server.url("/api/v3/write_lp?db=db")).body(endless).send().await;
    // Refused before the end: the client may see the answer, or the connection closed while it was still sending.
    assert!(answer.is_err() || answer.unwrap().status() == 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_say_what_is_wrong() {
    let server = TestServer::start().await;
    server.write("db", "cpu usage=1 1").await;
    let writes = [
        ("/api/v3/write_lp", "cpu v=1", 400, "missing query parameter 'db'"),
        ("/api/v3/write_lp?db=", "cpu v=1", 400, "db name cannot be empty"),
        ("/api/v3/write_lp?db=a%20b", "cpu v=1", 400, "invalid character in database"),
        ("/api/v3/write_lp?db=_internal", "cpu v=1", 400, "did not start with a number or letter"),
        ("/api/v3/write_lp?db=db&precision=h", "cpu v=1", 400, "precision 'h' is unknown"),
        ("/api/v3/write_lp?db=db&no_sync=maybe", "cpu v=1", 400, "'no_sync' must be true or false"),
        ("/api/v3/write_lp?db=db", "\n# nothing\n", 400, "incoming write was empty"),
        ("/api/v2/write", "cpu v=1", 400, "missing bucket value"),
        ("/write", "cpu v=1", 400, "database is required"),
        ("/api/v3/query_sql", "{", 400, "serde json error"),
        ("/api/v3/query_sql", "{}", 400, "missing query parameters 'db' and 'q'"),
        ("/api/v3/query_sql", r#"{"db":"db"}"#, 400, "missing query parameter 'q'"),
        ("/api/v3/query_sql", r#"{"db":"none","q":"SELECT 1"}"#, 404, "database not found: none"),
        ("/api/v3/query_sql", r#"{"db":"db","q":"SELECT 1","format":"xml"}"#, 400, "format 'xml' is unknown"),
        ("/api/v3/query_sql", r#"{"db":"db","q":"SELECT nothing FROM cpu"}"#, 400, "nothing"),
        ("/api/v3/query_sql", r#"{"db":"db","q":"SELECT 1","params":{"a":[1]}}"#, 400, "parameter 'a'"),
        ("/api/v3/query_influxql", r#"{"db":"db","q":"SELECT 1"}"#, 400, "found EOF, expected FROM at line 1, char 9"),
        ("/api/v3/query_influxql", r#"{"db":"db","q":"SHOW DATABASES; SHOW DATABASES"}"#, 400, "holds 2 statements"),
        ("/api/v3/query_influxql", r#"{"db":"db","q":"DROP MEASUREMENT cpu"}"#, 400, "send it to /query"),
        ("/api/v3/query_influxql", r#"{"db":"db","q":"CREATE USER a WITH PASSWORD 'b'"}"#, 405, "CREATE USER"),
        ("/nowhere", "", 404, "Not found"),
    ];
    for (path, body, status, part) in writes {
        let (found, text) = post(&server, path, body).await;
        assert_eq!((found, text.contains(part)), (status, true), "{path} {body}: {found} {text}");
    }
    let request = server.http.post(server.url("/api/v3/write_lp?db=db")).header("content-encoding", "br");
    let text = request.body("cpu v=1").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("unacceptable content-encoding: br"), "{text}");
    let request = server.http.post(server.url("/api/v3/write_lp?db=db")).header("content-encoding", "gzip");
    let text = request.body("cpu v=1").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("error decoding gzip stream"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_and_tables_are_listed_created_and_deleted() {
    let server = TestServer::start().await;
    let send = |method: Method, path: &str, body: Option<Value>| {
        let request = server.http.request(method, server.url(path));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        async move { request.send().await.unwrap().status().as_u16() }
    };

    assert_eq!(send(Method::POST, "/api/v3/configure/database", Some(json!({ "db": "one" }))).await, 200);
    assert_eq!(send(Method::POST, "/api/v3/configure/database", Some(json!({ "db": "one" }))).await, 409);
    let table = json!({ "db": "two", "table": "t", "tags": ["b", "a"], "fields": [{ "name": "f", "type": "uint64" }] });
    assert_eq!(send(Method::POST, "/api/v3/configure/table", Some(table.clone())).await, 200);
    assert_eq!(send(Method::POST, "/api/v3/configure/table", Some(table)).await, 409);
    let listed = server.http.get(server.url("/api/v3/configure/database?format=json")).send().await.unwrap();
    assert_eq!(json_of(&listed.text().await.unwrap()), json!([{ "iox::database": "one" }, { "iox::database": "two" }]));
    assert_eq!(server.query("two", "SELECT * FROM t", "csv").await, (200, "a,b,f,time\n".to_owned()));
    server.write("two", "t,a=x f=1u 1").await;
    assert_eq!(send(Method::DELETE, "/api/v3/configure/table?db=two&table=t", None).await, 200);
    assert_eq!(send(Method::DELETE, "/api/v3/configure/table?db=two&table=t", None).await, 404);
    server.write("two", "t,a=x f=\"now a text\" 2").await;
    assert_eq!(server.query("two", "SELECT f FROM t", "csv").await, (200, "f\nnow a text\n".to_owned()));
    assert_eq!(send(Method::DELETE, "/api/v3/configure/database?db=two", None).await, 200);
    assert_eq!(server.query("two", "SELECT 1", "csv").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_a_browser_and_prometheus_are_answered() {
    let server = TestServer::start().await;
    server.write("db", "cpu usage=1 1").await;
    let health = server.http.get(server.url("/health")).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), "OK");
    let ping = server.http.get(server.url("/ping")).send().await.unwrap();
    assert!(ping.headers().contains_key("x-influxdb-version") && ping.headers().contains_key("cluster-uuid"));
    let options = server.http.request(Method::OPTIONS, server.url("/api/v3/query_sql")).send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), options.headers()["access-control-allow-origin"].to_str().unwrap()),
        (204, "*")
    );
    let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("influxdb3_write_lines_total{db=\"db\"} 1"), "{metrics}");
    for cache in ["_bytes 0", "_bytes_max 268435456", "_hits_total 0", "_misses_total 0", "_evictions_total 0"] {
        assert!(metrics.contains(&format!("\nflightline_parquet_cache{cache}\n")), "{cache} in {metrics}");
    }
    assert!(metrics.trim_end().ends_with("# EOF") && metrics.matches("# EOF").count() == 1, "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_mid_stream_breaks_the_response_off() {
    let server = TestServer::start().await;
    let lines: String = (0..30_000).map(|n| format!("cpu v={n}i,zero={}i {n}\n", i32::from(n < 29_000))).collect();
    server.write("db", lines).await;
    let body = json!({ "db": "db", "q": "SELECT v / zero FROM cpu ORDER BY time", "format": "csv" });
    let body_without_order = json!({ "db": "db", "q": "SELECT v / zero FROM cpu", "format": "csv" });
    for body in [body, body_without_order] {
        let answer = server.http.post(server.url("/api/v3/query_sql")).json(&body).send().await;
        // The failure came before the first row and has a status, or the response is cut off, head or body.
        let is_whole = match answer {
            Ok(response) => response.status().is_success() && response.text().await.is_ok(),
            Err(_) => false,
        };
        assert!(!is_whole);
    }
}

#[test]
fn bytes_thrown_at_every_endpoint_never_take_the_server_down() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::start());
    let paths = [
        "/api/v3/write_lp?db=db&",
        "/api/v2/write?bucket=db&",
        "/write?db=db&",
        "/api/v3/query_sql?db=db&q=SELECT%201&",
        "/api/v3/query_influxql?",
        "/api/v3/configure/database?",
        "/api/v3/configure/table?",
        "/ping?",
        "/metrics?",
        "/health?",
        "/arrow.flight.protocol.FlightService/DoGet?",
        "/arrow.flight.protocol.FlightService/GetFlightInfo?",
    ];
    let request = (
        prop::sample::select(paths.to_vec()),
        prop::collection::vec(("[a-z_]{1,12}", "\\PC{0,20}"), 0..3),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::sample::select(vec!["application/json", "application/grpc", "text/plain", ""]),
        prop::sample::select(vec!["GET", "POST", "DELETE", "PUT", "HEAD"]),
        prop::sample::select(vec!["", "gzip"]),
    );
    let config = ProptestConfig { cases: 300, ..ProptestConfig::default() };
    proptest!(config, |((path, parameters, body, content_type, method, encoding) in request)| {
        let mut url = path.to_owned();
        url.push_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish());
        let status = runtime.block_on(async {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = server.http.request(method, server.url(&url)).body(body).header("content-type", content_type);
            if !encoding.is_empty() {
                request = request.header("content-encoding", encoding);
            }
            request.send().await.map(|response| response.status().as_u16())
        });
        let status = status.unwrap();
        prop_assert!(status != 500, "{} answered 500", url);
    });
    let healthy = runtime.block_on(async { server.http.get(server.url("/health")).send().await.unwrap().status() });
    assert_eq!(healthy, 200);
    drop(server);
    runtime.shutdown_background();
}

/// An aggregate over a cross join once kept its thread after its client was gone; a few of them, and nobody was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_whose_clients_are_gone_leave_the_server_free() {
    let server = TestServer::start().await;
    let lines: String = (0..3000).map(|n| format!("cpu v={n}i {n}\n")).collect();
    server.write("db", lines).await;
    let endless = [
        "SELECT sum(a.v + b.v + c.v) FROM cpu AS a, cpu AS b, cpu AS c",
        "SELECT count(*) FROM cpu AS a JOIN cpu AS b ON a.v < b.v JOIN cpu AS c ON b.v < c.v",
        "SELECT max(a.v) FROM cpu AS a JOIN cpu AS b ON a.v % 2 = b.v % 2 JOIN cpu AS c ON c.v % 2 = b.v % 2",
    ];
    for query in endless.iter().chain(&endless) {
        let body = json!({ "db": "db", "q": query, "format": "csv" });
        let request = server.http.post(server.url("/api/v3/query_sql")).json(&body);
        let answer = request.timeout(std::time::Duration::from_millis(500)).send().await;
        assert!(answer.is_err_and(|error| error.is_timeout()), "{query} is long enough to be cancelled");
    }
    let answer = server.query("db", "SELECT count(*) AS n FROM cpu", "csv");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), answer).await;
    assert_eq!(answer.expect("query threads are free again"), (200, "n\n3000\n".to_owned()));
}
