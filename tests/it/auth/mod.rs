//! Who is let in, and to what: every way in, with every kind of token.

mod matrix;
mod tickets;
mod tls;
mod tokens;

use flightline::model::Facility;
use flightline::server::ServerSettings;
use flightline::server::auth::AuthSettings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::server::TestServer;

/// Tokens on, `/health` and `/ping` open, as a server starts by itself.
pub(super) fn on() -> AuthSettings {
    AuthSettings { is_on: true, open: vec![Facility::Health, Facility::Ping], ..AuthSettings::off() }
}

/// A server that asks for tokens, and the operator's.
pub(crate) struct Guarded {
    pub server: TestServer,
    pub operator: String,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut AuthSettings)) -> Self {
        Self::start_with_server(|settings| change(&mut settings.auth)).await
    }

    pub(crate) async fn start_with_server(change: impl FnOnce(&mut ServerSettings)) -> Self {
        let server = TestServer::start_with(|settings| {
            settings.auth = on();
            change(settings);
        })
        .await;
        let file = server.server().services().settings.data_directory.join("admin-token");
        let operator = std::fs::read_to_string(file).unwrap().trim().to_owned();
        Self { server, operator }
    }

    /// The status and body of a request that shows a token, or none.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> (StatusCode, String) {
        let mut request = self.server.http.request(method, self.server.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// The text of a new token with these permissions.
    pub(crate) async fn token(&self, name: &str, permissions: &[&str]) -> String {
        let body = json!({ "token_name": name, "permissions": permissions });
        let (status, text) = self.ask(Method::POST, "/api/v3/configure/token", Some(&self.operator), Some(&body)).await;
        assert_eq!(status, 201, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn write(&self, token: &str, database: &str, lines: &str) -> StatusCode {
        let url = self.server.url(&format!("/api/v3/write_lp?db={database}"));
        let request = self.server.http.post(url).bearer_auth(token).body(lines.to_owned());
        request.send().await.unwrap().status()
    }

    pub(crate) async fn query(&self, token: &str, database: &str, sql: &str) -> (StatusCode, String) {
        let body = json!({ "db": database, "q": sql, "format": "csv" });
        self.ask(Method::POST, "/api/v3/query_sql", Some(token), Some(&body)).await
    }
}
