//! What one token may do in a second, and whose pages in a browser may speak to the server.

use flightline::server::Origins;
use reqwest::Method;

use crate::auth::Guarded;
use crate::harness::server::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_asks_too_often_is_told_when_to_come_back_and_no_other_one() {
    let guarded = Guarded::start_with_server(|settings| settings.limits.requests_per_second = Some(20)).await;
    let busy = guarded.token("busy", &["db:a:read"]).await;
    let calm = guarded.token("calm", &["db:a:read"]).await;
    let url = guarded.server.url("/api/v3/queries");
    let mut limited = None;
    // More than there can be in a bucket, however slowly they come: it holds 20 and gets 20 in a second.
    for _ in 0..10_000 {
        let response = guarded.server.http.get(&url).bearer_auth(&busy).send().await.unwrap();
        if response.status() == 429 {
            limited = Some(response);
            break;
        }
    }
    // Where requests take longer than a twentieth of a second each there is nothing to limit.
    let Some(limited) = limited else { return };
    assert_eq!(limited.headers()["retry-after"], "1");
    assert!(limited.text().await.unwrap().contains("--max-requests-per-second-per-token"));
    assert_eq!(guarded.ask(Method::GET, "/api/v3/queries", Some(&calm), None).await.0, 200);
    assert_eq!(guarded.ask(Method::GET, "/health", None, None).await.0, 200);
    let metrics = guarded.server.http.get(guarded.server.url("/metrics")).bearer_auth(&guarded.operator);
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("flightline_requests_limited_total 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_writes_too_much_waits() {
    let guarded = Guarded::start_with_server(|settings| settings.limits.write_bytes_per_second = Some(1)).await;
    let write = async |path: &str| {
        let request = guarded.server.http.post(guarded.server.url(path)).bearer_auth(&guarded.operator);
        request.body("t v=1 1").send().await.unwrap()
    };
    assert_eq!(write("/api/v3/write_lp?db=a").await.status(), 204, "the first one is in debt");
    for path in ["/api/v3/write_lp?db=a", "/write?db=a", "/api/v2/write?bucket=a"] {
        let response = write(path).await;
        assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (429, true), "{path}");
        assert!(response.text().await.unwrap().contains("--max-write-bytes-per-second-per-token"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_writes_too_many_rows_waits() {
    let guarded = Guarded::start_with_server(|settings| settings.limits.write_rows_per_second = Some(1)).await;
    let write = async |lines: &'static str| {
        let request = guarded.server.http.post(guarded.server.url("/api/v3/write_lp?db=a"));
        request.bearer_auth(&guarded.operator).body(lines).send().await.unwrap()
    };
    let many: &'static str = (1..=1000).map(|time| format!("t v=1 {time}\n")).collect::<String>().leak();
    assert_eq!(write(many).await.status(), 204, "the first ones are in debt");
    let response = write("t v=1 1").await;
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (429, true));
    assert!(response.text().await.unwrap().contains("--max-write-rows-per-second-per-token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_listed_origins_may_send_tokens() {
    let origins = Origins::listed(&["https://app.example.org".to_owned()]).unwrap();
    let guarded = Guarded::start_with_server(|settings| settings.origins = origins).await;
    let allowed = async |method: Method, origin: &str| {
        let request = guarded.server.http.request(method, guarded.server.url("/api/v3/queries"));
        let request = request.header("origin", origin).header("access-control-request-headers", "authorization");
        let headers = request.send().await.unwrap().headers().clone();
        let of = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (of("access-control-allow-origin"), of("access-control-allow-headers"))
    };
    let ours = Some("https://app.example.org".to_owned());
    assert_eq!(
        allowed(Method::OPTIONS, "https://app.example.org").await,
        (ours.clone(), Some("authorization".to_owned()))
    );
    // Refused for want of a token, but the page may see that.
    assert_eq!(allowed(Method::GET, "https://app.example.org").await, (ours, None));
    for method in [Method::OPTIONS, Method::GET] {
        assert_eq!(allowed(method, "https://evil.example.org").await, (None, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_any_page_may_speak_any_page_is_told_so() {
    let server = TestServer::start().await;
    let response = server.http.get(server.url("/ping")).header("origin", "https://x.example.org").send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}
