//! Retention and deletion as users ask for them: over HTTP, with the commands, and after a crash.

use reqwest::Method;
use serde_json::json;

use crate::harness::process::{PROGRAM, ServerProcess};
use crate::harness::server::TestServer;

const COUNT: &str = "SELECT count(*) AS n FROM cpu";

async fn count(server: &TestServer, condition: &str) -> String {
    let (status, text) = server.query("db", &format!("{COUNT} {condition}"), "csv").await;
    assert_eq!(status, 200, "{text}");
    text.lines().nth(1).unwrap().to_owned()
}

async fn send(server: &TestServer, method: Method, path: &str, body: serde_json::Value) -> (u16, String) {
    let response = server.http.request(method, server.url(path)).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Four rows of two hosts in 1970, one of them without a host.
const LINES: &str =
    "cpu,host=a v=1 1000000000\ncpu,host=b v=2 2000000000\ncpu,host=a v=3 3000000000\ncpu v=4 4000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_deleted_by_time_and_tags() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let delete = json!({ "db": "db", "table": "cpu", "stop": "1970-01-01T00:00:01Z", "tags": { "host": "a" } });
    assert_eq!(send(&server, Method::POST, "/api/v3/delete", delete).await, (204, String::new()));
    assert_eq!(count(&server, "").await, "3");
    assert_eq!(count(&server, "WHERE host = 'a'").await, "1");

    // Written again it is there again.
    server.write("db", "cpu,host=a v=9 1000000000").await;
    assert_eq!(count(&server, "WHERE v = 9").await, "1");

    let without_host = json!({ "db": "db", "table": "cpu", "tags": { "host": null } });
    assert_eq!(send(&server, Method::POST, "/api/v3/delete", without_host).await.0, 204);
    assert_eq!(count(&server, "").await, "3");
    let v2 = json!({
        "start": "1970-01-01T00:00:02Z", "stop": "1970-01-01T00:00:03Z",
        "predicate": "_measurement=\"cpu\" AND host=\"b\""
    });
    assert_eq!(send(&server, Method::POST, "/api/v2/delete?org=o&bucket=db", v2).await.0, 204);
    assert_eq!(count(&server, "").await, "2");
    assert_eq!(count(&server, "WHERE host = 'b'").await, "0");
    // As InfluxDB 2 answers where nothing fits: a table that is none, and a name that is a field's in some table.
    for predicate in ["_measurement=\"disk\"", "v=\"1\""] {
        let none = json!({ "start": "1970-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z", "predicate": predicate });
        assert_eq!(send(&server, Method::POST, "/api/v2/delete?bucket=db", none).await.0, 204, "{predicate}");
    }
    assert_eq!(count(&server, "").await, "2");
    let all = json!({ "start": "1970-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z" });
    assert_eq!(send(&server, Method::POST, "/api/v2/delete?bucket=db", all).await.0, 204);
    assert_eq!(count(&server, "").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_cannot_be_meant_is_refused_and_deletes_nothing() {
    let server = TestServer::start().await;
    server.write("db", LINES).await;
    let bad = [
        (json!({ "db": "db", "table": "cpu", "tags": { "v": "1" } }), 400, "'v' is a field"),
        (json!({ "db": "db", "table": "cpu", "tags": { "time": "1" } }), 400, "start and stop"),
        (json!({ "db": "db", "table": "cpu", "start": "1970-01-02" }), 400, "1970-01-02"),
        (json!({ "db": "db", "table": "disk" }), 404, "disk"),
        (json!({ "db": "elsewhere", "table": "cpu" }), 404, "elsewhere"),
        (json!({ "table": "cpu" }), 400, "db"),
    ];
    for (body, status, text) in bad {
        let (found, answer) = send(&server, Method::POST, "/api/v3/delete", body.clone()).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer.contains(text), "{body}: {answer}");
    }
    let or = json!({
        "start": "1970-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z", "predicate": "host=\"a\" OR host=\"b\""
    });
    assert_eq!(send(&server, Method::POST, "/api/v2/delete?bucket=db", or).await.0, 400);
    let unknown = json!({ "db": "db", "table": "cpu", "tags": { "rack": "1" } });
    assert_eq!(send(&server, Method::POST, "/api/v3/delete", unknown).await.0, 204, "no row has it");
    assert_eq!(count(&server, "").await, "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_is_set_changed_and_cleared() {
    let server = TestServer::start().await;
    let create = json!({ "db": "db", "retention_period": "7d" });
    assert_eq!(send(&server, Method::POST, "/api/v3/configure/database", create).await.0, 200);
    server.write("db", LINES).await;
    assert_eq!(count(&server, "").await, "0", "they were of 1970");
    let none = json!({ "db": "db", "retention_period": null });
    assert_eq!(send(&server, Method::PUT, "/api/v3/configure/database", none).await.0, 200);
    assert_eq!(count(&server, "").await, "4");
    let table = json!({ "db": "db", "table": "cpu", "retention_period": "1h 30m" });
    assert_eq!(send(&server, Method::PUT, "/api/v3/configure/table", table).await.0, 200);
    assert_eq!(count(&server, "").await, "0");
    let periods = "SELECT table_name, retention_period_ns FROM system.retention";
    let (_, shown) = server.query("db", periods, "csv").await;
    assert_eq!(shown, "table_name,retention_period_ns\ncpu,5400000000000\n");
    let table = json!({ "db": "db", "table": "cpu" });
    assert_eq!(send(&server, Method::PUT, "/api/v3/configure/table", table).await.0, 200);
    let period = "/api/v3/configure/database/retention_period?db=db";
    assert_eq!(send(&server, Method::POST, &format!("{period}&duration=1h"), json!(null)).await.0, 204);
    assert_eq!(count(&server, "").await, "0");
    assert_eq!(send(&server, Method::DELETE, period, json!(null)).await.0, 204);
    assert_eq!(count(&server, "").await, "4");
    let bad = json!({ "db": "db", "retention_period": "soon" });
    let (status, text) = send(&server, Method::PUT, "/api/v3/configure/database", bad).await;
    assert_eq!(status, 400);
    assert!(text.contains("'soon'"), "{text}");
}

/// The commands of the program itself, against a server that is killed in between.
#[test]
fn what_was_deleted_stays_deleted_after_kill_9() {
    let data = tempfile::tempdir().unwrap();
    let lines = data.path().join("lines.lp");
    std::fs::write(&lines, LINES).unwrap();
    let file = lines.to_str().unwrap().to_owned();
    let server = ServerProcess::start(data.path(), &[]);
    run(&server, &["write", "-d", "db", "--precision", "ns", "--file", &file]);
    run(&server, &["delete", "rows", "-d", "db", "-t", "cpu", "--tag", "host=a", "--yes"]);
    run(&server, &["update", "database", "db", "--retention-period", "36500d"]);
    assert_eq!(counted(&server), "2");
    server.kill();
    let server = ServerProcess::start(data.path(), &[]);
    assert_eq!(counted(&server), "2");
    assert_eq!(server.terminate(), 0);
    let server = ServerProcess::start(data.path(), &[]);
    assert_eq!(counted(&server), "2");
    let shown = run(&server, &["show", "retention", "-d", "db", "--format", "csv"]);
    assert_eq!(shown, "table_name,retention_period_ns\n,3153600000000000000\n");
    assert_eq!(server.terminate(), 0);
}

fn counted(server: &ServerProcess) -> String {
    run(server, &["query", "-d", "db", "--format", "csv", COUNT]).lines().nth(1).unwrap().to_owned()
}

/// What a command of the program prints; it must succeed.
fn run(server: &ServerProcess, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(PROGRAM);
    let output = command.args(arguments).args(["--host", &server.url("")]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_deleted_comes_back_after_kill_9_with_every_row() {
    let data = tempfile::tempdir().unwrap();
    let lines = data.path().join("lines.lp");
    std::fs::write(&lines, LINES).unwrap();
    let write = ["write", "-d", "db", "--precision", "ns", "--file", lines.to_str().unwrap()];
    let server = ServerProcess::start(data.path(), &[]);
    run(&server, &write);
    run(&server, &["delete", "table", "cpu", "-d", "db", "--yes"]);
    server.kill();

    let server = ServerProcess::start(data.path(), &[]);
    assert_eq!(run(&server, &["show", "tables", "-d", "db", "--format", "csv"]), "table_name\n");
    let shown = run(&server, &["show", "tables", "-d", "db", "--show-deleted", "--format", "csv"]);
    let deleted = shown.lines().nth(1).unwrap();
    let (name, _) = deleted.split_once(',').unwrap();
    assert!(
        name.starts_with("cpu-20") && name.len() == "cpu-YYYYMMDDTHHMMSS".len() && deleted.contains(",true,"),
        "{shown}"
    );
    // Its name is free, and who has it is not touched.
    run(&server, &["write", "-d", "db", "--precision", "ns", "cpu,host=z v=1 1"]);
    run(&server, &["undelete", "table", name, "-d", "db", "--name", "old"]);
    let counted_old = |server: &ServerProcess| {
        run(server, &["query", "-d", "db", "--format", "csv", "SELECT count(*) AS n FROM old"])
            .lines()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!((counted(&server), counted_old(&server)), ("1".to_owned(), "4".to_owned()));
    server.kill();

    let server = ServerProcess::start(data.path(), &[]);
    assert_eq!((counted(&server), counted_old(&server)), ("1".to_owned(), "4".to_owned()));
    run(&server, &["delete", "database", "db", "--yes"]);
    server.kill();

    let server = ServerProcess::start(data.path(), &[]);
    assert_eq!(run(&server, &["show", "databases", "--format", "csv"]), "iox::database\n");
    let shown = run(&server, &["show", "databases", "--show-deleted", "--format", "csv"]);
    assert!(
        shown.starts_with("iox::database,deleted,hard_deletion_time\ndb-20") && shown.contains(",true,20"),
        "{shown}"
    );
    run(&server, &["undelete", "database", "db"]);
    assert_eq!((counted(&server), counted_old(&server)), ("1".to_owned(), "4".to_owned()));
    run(&server, &["delete", "table", "old", "-d", "db", "--hard-delete", "now", "--yes"]);
    let shown = run(&server, &["show", "tables", "-d", "db", "--show-deleted", "--format", "csv"]);
    assert_eq!(shown, "table_name,deleted,hard_deletion_time\ncpu,false,\n");
    assert_eq!(server.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_database_goes_for_good_at_its_time() {
    let server = TestServer::start_with(|settings| {
        settings.engine.delete_grace = std::time::Duration::ZERO;
        settings.engine.compaction.is_on = false; // it remembers the files that it has looked at for a while
    })
    .await;
    server.write("db", LINES).await;
    let database = "/api/v3/configure/database";
    let delete = |when: &str| format!("{database}?db=db&hard_delete_at={when}");
    assert_eq!(send(&server, Method::DELETE, &delete("soon"), json!(null)).await.0, 400);
    assert_eq!(send(&server, Method::DELETE, &delete("never"), json!(null)).await.0, 200);
    let undelete = json!({ "db": "db" });
    assert_eq!(send(&server, Method::POST, &format!("{database}/undelete"), undelete.clone()).await.0, 200);
    assert_eq!(count(&server, "").await, "4");

    assert_eq!(send(&server, Method::DELETE, &delete("2000-01-01T00:00:00Z"), json!(null)).await.0, 200);
    server.server().services().engine.collect_garbage().await.unwrap(); // if the server has not done so by itself
    assert_eq!(server.server().services().engine.metrics().garbage_removed, 1);
    let (status, text) = send(&server, Method::POST, &format!("{database}/undelete"), undelete).await;
    assert_eq!((status, text.contains("deleted database not found: db")), (404, true), "{text}");
    let url = server.url("/api/v3/configure/database?format=csv&show_deleted=true");
    let shown = server.http.get(url).send().await.unwrap().text().await.unwrap();
    assert_eq!(shown, "iox::database,deleted,hard_deletion_time\n");
}
