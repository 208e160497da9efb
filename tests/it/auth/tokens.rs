//! Tokens as users have them: the first one, others, lost ones, and what a table's token sees.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use flightline::server::auth::AuditSettings;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tonic::transport::Endpoint;

use super::Guarded;
use crate::harness::process::{PROGRAM, ServerProcess};

#[tokio::test]
async fn the_first_token_is_in_a_file_of_its_owner_and_not_for_who_comes_first() {
    let guarded = Guarded::start().await;
    let file = guarded.server.server().services().settings.data_directory.join("admin-token");
    assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    assert!(guarded.operator.starts_with("apiv3_"));
    let (status, text) = guarded.ask(Method::POST, "/api/v3/configure/token/admin", None, None).await;
    assert_eq!((status, text.contains("not authenticated")), (StatusCode::UNAUTHORIZED, true), "{text}");
    let operator = Some(guarded.operator.as_str());
    let (status, text) = guarded.ask(Method::POST, "/api/v3/configure/token/admin", operator, None).await;
    assert_eq!((status, text.contains("admin-token in the data directory")), (StatusCode::CONFLICT, true), "{text}");

    // The old one is worth nothing from the moment in which there is another.
    let path = "/api/v3/configure/token/admin/regenerate";
    let (status, text) = guarded.ask(Method::POST, path, operator, None).await;
    assert_eq!(status, 201, "{text}");
    let new = serde_json::from_str::<Value>(&text).unwrap()["token"].as_str().unwrap().to_owned();
    assert_eq!(guarded.write(&guarded.operator, "a", "t f=1").await, 401);
    assert_eq!(guarded.write(&new, "a", "t f=1").await, 204);
    let data = &guarded.server.server().services().settings.data_directory;
    assert!(!data.join("admin-token").exists(), "it would be taken for the one that counts");
}

#[tokio::test]
async fn a_token_that_is_deleted_is_worth_nothing_at_once() {
    let guarded = Guarded::start().await;
    let writer = guarded.token("writer", &["db:a,b:write,create"]).await;
    assert_eq!(guarded.write(&writer, "b", "t f=1").await, 204);
    let operator = Some(guarded.operator.as_str());
    let (status, text) = guarded.ask(Method::GET, "/api/v3/configure/token?format=json", operator, None).await;
    assert_eq!(status, 200);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed[1]["name"], "writer");
    assert_eq!(listed[1]["permissions"], "db:a:write,create; db:b:write,create");
    assert!(!text.contains("hash") && !text.contains("apiv3_"), "{text}");

    let path = "/api/v3/configure/token?token_name=writer";
    assert_eq!(guarded.ask(Method::DELETE, path, operator, None).await.0, 200);
    assert_eq!(guarded.write(&writer, "b", "t f=1").await, 401);
    assert_eq!(guarded.ask(Method::DELETE, path, operator, None).await.0, 404);
    let path = "/api/v3/configure/token?token_name=_admin";
    assert_eq!(guarded.ask(Method::DELETE, path, operator, None).await.0, 405);
}

#[tokio::test]
async fn a_token_for_a_table_sees_nothing_else() {
    let guarded = Guarded::start().await;
    assert_eq!(guarded.write(&guarded.operator, "a", "cpu,host=x f=1 1\nmem,host=x f=2 1").await, 204);
    assert_eq!(guarded.write(&guarded.operator, "b", "disk f=1 1").await, 204);
    guarded.server.server().services().engine.persist_all().await.unwrap();
    let reader = guarded.token("reader", &["table:a:cpu:read,write"]).await;
    let rows = async |sql: &str| guarded.query(&reader, "a", sql).await;

    assert_eq!(rows("SELECT f FROM cpu").await, (StatusCode::OK, "f\n1.0\n".to_owned()));
    for hidden in ["SELECT * FROM mem", "SELECT * FROM iox.mem", "SELECT f FROM cpu UNION SELECT f FROM mem"] {
        let (status, text) = rows(hidden).await;
        assert!(status == 400 && text.contains("not found"), "{hidden}: {status} {text}");
    }
    let names = "SELECT DISTINCT table_name FROM";
    for of_tables in ["information_schema.columns WHERE table_schema = 'iox'", "system.files", "system.tables"] {
        assert_eq!(rows(&format!("{names} {of_tables}")).await.1, "table_name\ncpu\n", "{of_tables}");
    }
    assert_eq!(guarded.query(&reader, "b", "SELECT 1").await.0, 403);
    let (_, text) = guarded.ask(Method::GET, "/api/v3/configure/database?format=csv", Some(&reader), None).await;
    assert_eq!(text, "iox::database\na\n");

    // All of a write or nothing of it.
    assert_eq!(guarded.write(&reader, "a", "cpu,host=y f=1 2").await, 204);
    assert_eq!(guarded.write(&reader, "a", "cpu,host=z f=1 3\nmem f=1 3").await, 403);
    assert_eq!(rows("SELECT count(*) AS n FROM cpu").await.1, "n\n2\n");
}

#[tokio::test]
async fn every_form_of_showing_a_token_works() {
    let guarded = Guarded::start().await;
    let token = &guarded.operator;
    let http = &guarded.server.http;
    let url = |path: &str| guarded.server.url(path);
    let write = |path: &str| http.post(url(path)).body("t f=1 1");
    for request in [
        write("/api/v3/write_lp?db=a").header("authorization", format!("Bearer {token}")),
        write("/api/v2/write?bucket=a").header("authorization", format!("Token {token}")),
        write("/write?db=a").header("authorization", format!("Token user:{token}")),
        write("/write?db=a").basic_auth("any", Some(token)),
        write(&format!("/write?db=a&u=any&p={token}")),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 204);
    }
    let malformed = write("/write?db=a").header("authorization", token).send().await.unwrap();
    assert_eq!(malformed.status(), 400);
    assert!(malformed.text().await.unwrap().contains("supported auth-schemes are Bearer, Token and Basic"));
    let unknown = write("/api/v3/write_lp?db=a").send().await.unwrap();
    assert_eq!((unknown.status().as_u16(), &unknown.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));

    // The handshake of Flight's drivers: any user, the token as password, and it comes back as a bearer token.
    let channel = Endpoint::from_shared(url("")).unwrap().connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel.clone());
    client.handshake("any", token).await.unwrap();
    assert_eq!(client.token(), Some(token));
    client.set_header("database", "a");
    client.execute("SELECT * FROM t".to_owned(), None).await.unwrap();
    assert!(FlightSqlServiceClient::new(channel).handshake("any", "wrong").await.is_err());
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_never_shows_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let guarded = Guarded::start_with(|auth| auth.audit = Some(AuditSettings { path: path.clone() })).await;
    let writer = guarded.token("writer", &["db:a:write,create"]).await;
    guarded.write(&writer, "a", "t f=1 1").await;
    guarded.write("apiv3_wrong", "a", "t f=1 1").await;
    guarded.query(&writer, "a", "DELETE FROM t").await;
    let mut text = String::new();
    for _ in 0..200 {
        text = std::fs::read_to_string(&path).unwrap();
        if text.lines().count() >= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // only what changes something is there before its answer
    }
    assert!(!text.contains("apiv3_") && !text.contains("DELETE FROM"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts = |line: &Value| {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("principal"), text("by"), text("action"), line["status"].as_u64().unwrap())
    };
    let wanted = |principal: &str, by: &str, action: &str, status: u64| {
        (principal.to_owned(), by.to_owned(), action.to_owned(), status)
    };
    assert_eq!(facts(&lines[0]), wanted("_admin", "token", "POST /api/v3/configure/token", 201));
    assert_eq!(facts(&lines[1]), wanted("writer", "token", "POST /api/v3/write_lp", 204));
    assert_eq!((lines[1]["database"].as_str(), lines[1]["peer"].is_string()), (Some("a"), true));
    assert_eq!(facts(&lines[2]), wanted("", "nobody", "POST /api/v3/write_lp", 401));
    assert_eq!(facts(&lines[3]).2, "POST /api/v3/query_sql");
}

#[test]
fn the_command_line_makes_lists_and_deletes_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("admin.json");
    let run = |server: Option<(&ServerProcess, &str)>, arguments: &[&str]| {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(arguments).env_clear();
        if let Some((server, token)) = server {
            command.env("INFLUXDB3_HOST_URL", server.url("")).env("INFLUXDB3_AUTH_TOKEN", token);
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout) + &text(output.stderr))
    };
    let offline = ["create", "token", "--admin", "--offline", "--output-file", file.to_str().unwrap()];
    let (code, text) = run(None, &offline);
    assert_eq!(code, 0, "{text}");
    let operator: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let operator = operator["token"].as_str().unwrap();

    let data = directory.path().join("data");
    let server = ServerProcess::start_guarded(&data, &["--admin-token-file", file.to_str().unwrap()]);
    assert!(!data.join("admin-token").exists(), "none is made where one is given");
    let as_operator = |arguments: &[&str]| run(Some((&server, operator)), arguments);
    let create = ["create", "token", "--name", "grafana", "--permission", "db:*:read", "--expiry", "90d"];
    let (code, text) = as_operator(&create);
    assert_eq!(code, 0, "{text}");
    let grafana = text.lines().find_map(|line| line.strip_prefix("Token: ")).unwrap().to_owned();
    assert_eq!(as_operator(&create).0, 1, "the name is taken");
    let (code, text) = as_operator(&["create", "token", "--name", "x", "--permission", "db:a:fly"]);
    assert!(code == 1 && text.contains("'fly' is no action"), "{text}");

    let (code, text) = as_operator(&["create", "token", "--admin", "--regenerate", "--yes"]);
    assert!(code == 1 && text.contains("counts again with the next start"), "{text}");
    let (code, text) = as_operator(&["create", "token", "--admin", "--expiry", "1d"]);
    assert!(code == 2 && text.contains("give another one a --name"), "{text}");

    assert_eq!(as_operator(&["write", "-d", "a", "t f=1 1"]).0, 0);
    let as_grafana = |arguments: &[&str]| run(Some((&server, &grafana)), arguments);
    assert_eq!(as_grafana(&["query", "-d", "a", "--format", "csv", "SELECT f FROM t"]).1, "f\n1.0\n");
    let (code, text) = as_grafana(&["write", "-d", "a", "t f=1 1"]);
    assert!(code == 1 && text.contains("token \"grafana\" may not write to database \"a\""), "{text}");
    assert_eq!(as_grafana(&["show", "tokens"]).0, 1);
    let (code, text) = as_operator(&["show", "tokens", "--format", "csv"]);
    assert!(code == 0 && text.contains("grafana") && text.contains("db:*:read"), "{text}");

    // It is there after a crash, and gone after its deletion.
    server.kill();
    let server = ServerProcess::start_guarded(&data, &["--admin-token-file", file.to_str().unwrap()]);
    let ask = ["query", "-d", "a", "--format", "csv", "SELECT f FROM t"];
    assert_eq!(run(Some((&server, &grafana)), &ask).1, "f\n1.0\n");
    let delete = ["delete", "token", "--token-name", "grafana", "--yes"];
    assert_eq!(run(Some((&server, operator)), &delete).0, 0);
    let (code, text) = run(Some((&server, &grafana)), &ask);
    assert!(code == 1 && text.contains("not authenticated"), "{text}");
}
