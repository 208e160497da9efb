//! Retention policies: which of them is meant where none is named, who may say so, and that it lasts.

use std::time::Duration;

use flightline::model::DatabaseName;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, oracle};
use crate::auth::Guarded;
use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::influxdb::InfluxDb;
use crate::harness::server::TestServer;

async fn result(server: &TestServer, q: &str) -> Value {
    let (status, text) = ask(server, &[("db", "db"), ("epoch", "ns"), ("q", q)]).await;
    assert_eq!(status, 200, "{q}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["results"][0].take()
}

async fn values(server: &TestServer, q: &str) -> Value {
    let mut result = result(server, q).await;
    assert!(result["error"].is_null(), "{q}: {result}");
    result["series"][0]["values"].take()
}

async fn write(server: &TestServer, parameters: &str, lines: &'static str) -> u16 {
    let url = server.url(&format!("/write?db=db{parameters}"));
    server.http.post(url).body(lines).send().await.unwrap().status().as_u16()
}

/// The names of the policies, the default one with a star.
async fn policies(server: &TestServer) -> Vec<String> {
    let rows = values(server, "SHOW RETENTION POLICIES ON db").await;
    let name = |row: &Value| format!("{}{}", row[0].as_str().unwrap(), if row[4] == true { "*" } else { "" });
    rows.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_policy_is_where_rows_go_and_come_from() {
    let server = TestServer::start().await;
    assert_eq!(write(&server, "", "m,t=a v=1 1").await, 204);
    assert_eq!(policies(&server).await, ["autogen*"]);
    let done = json!({ "statement_id": 0 });
    assert_eq!(result(&server, "CREATE RETENTION POLICY Week ON db DURATION INF REPLICATION 1 DEFAULT").await, done);
    assert_eq!(policies(&server).await, ["autogen", "week*"]);

    assert_eq!(write(&server, "", "m,t=b v=2 2").await, 204);
    assert_eq!(write(&server, "&rp=autogen", "m,t=c v=3 3").await, 204);
    assert_eq!(values(&server, "SELECT v FROM m").await, json!([[2, 2]]));
    assert_eq!(values(&server, "SELECT v FROM db..m").await, json!([[2, 2]]));
    assert_eq!(values(&server, "SELECT v FROM autogen.m").await, json!([[1, 1], [3, 3]]));
    assert_eq!(values(&server, "SHOW TAG VALUES WITH KEY = t").await, json!([["t", "a"], ["t", "b"], ["t", "c"]]));
    assert_eq!(values(&server, "SHOW TAG VALUES FROM week.m WITH KEY = t").await, json!([["t", "b"]]));
    assert_eq!(values(&server, "SHOW TAG VALUES FROM autogen.m WITH KEY = t").await, json!([["t", "a"], ["t", "c"]]));
    assert_eq!(values(&server, "SELECT v INTO copy FROM autogen.m").await, json!([[0, 2]]));
    assert_eq!(values(&server, "SELECT count(v) FROM week.copy").await, json!([[0, 2]]));
    // What has no retention policies means the database itself.
    assert_eq!(server.query("db", "SELECT count(*) AS n FROM m", "csv").await.1, "n\n2\n");

    // What removes rows means all policies, as in InfluxDB.
    assert_eq!(result(&server, "DELETE FROM m WHERE time <= 2").await, done);
    assert_eq!(result(&server, "SELECT v FROM m").await, done);
    assert_eq!(values(&server, "SELECT v FROM autogen.m").await, json!([[3, 3]]));
    assert_eq!(write(&server, "", "m,t=b v=4 4").await, 204);
    assert_eq!(result(&server, "DROP MEASUREMENT m").await, done);
    assert_eq!(result(&server, "SELECT v FROM m, autogen.m").await, done);

    // A policy that is dropped stays the default one.
    assert_eq!(result(&server, "DROP RETENTION POLICY week ON db").await, done);
    assert_eq!(policies(&server).await, ["autogen"]);
    assert_eq!(result(&server, "SELECT v FROM m").await["error"], "retention policy not found: week");
    assert_eq!(write(&server, "", "m v=5 5").await, 404);
    assert_eq!(write(&server, "&rp=autogen", "m v=5 5").await, 204);
    assert_eq!(result(&server, "ALTER RETENTION POLICY autogen ON db DEFAULT").await, done);
    assert_eq!(policies(&server).await, ["autogen*"]);
    assert_eq!(values(&server, "SELECT v FROM m").await, json!([[5, 5]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_may_begin_with_another_default() {
    let server = TestServer::start().await;
    let create = "CREATE DATABASE db WITH DURATION 30d NAME month";
    for _ in 0..2 {
        assert_eq!(result(&server, create).await, json!({ "statement_id": 0 }));
    }
    assert_eq!(policies(&server).await, ["autogen", "month*"]);
    for q in [
        "CREATE DATABASE db WITH DURATION 31d NAME month",
        "CREATE DATABASE db WITH DURATION 30d NAME year",
        "CREATE RETENTION POLICY autogen ON db DURATION INF REPLICATION 1 DEFAULT",
    ] {
        assert_eq!(result(&server, q).await["error"], "retention policy conflicts with an existing policy", "{q}");
    }
    let error = result(&server, "ALTER RETENTION POLICY year ON db DEFAULT").await["error"].take();
    assert_eq!(error, "retention policy not found: year");
    assert_eq!(result(&server, "DROP DATABASE db").await, json!({ "statement_id": 0 }));
    assert_eq!(values(&server, "SHOW DATABASES").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_policy_lasts() {
    let mut database = TestDatabase::new().await;
    let name = DatabaseName::new(DATABASE).unwrap();
    let week = Some(Duration::from_secs(7 * 24 * 3600));
    database.write("cpu v=1 1").await;
    database.engine().create_policy(&name, "week", week, true).await.unwrap();
    assert_eq!(database.engine().default_policy(&name).as_deref(), Some("week"));
    database.restart().await; // from records
    assert_eq!(database.engine().default_policy(&name).as_deref(), Some("week"));
    database.restart().await; // from a checkpoint
    assert_eq!(database.engine().default_policy(&name).as_deref(), Some("week"));
    // Nor does it go with a database that comes back.
    let hard = flightline::engine::HardDelete::Never;
    database.engine().delete_database(&name, hard).await.unwrap();
    database.restart().await;
    assert_eq!(database.engine().default_policy(&name), None);
    database.engine().undelete_database(DATABASE, None).await.unwrap();
    assert_eq!(database.engine().default_policy(&name).as_deref(), Some("week"));
    database.engine().set_default_policy(&name, None).await.unwrap();
    database.restart().await;
    assert_eq!(database.engine().default_policy(&name), None);
    database.close().await.unwrap();
}

/// Who may not know of a policy finds the database as if there were none, and writes nothing to where they don't expect it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_policy_is_told_to_who_may_see_it() {
    let guarded = Guarded::start().await;
    let operator = guarded.operator.clone();
    let run = async |token: &str, q: &str| {
        let pairs = [("db", "a"), ("epoch", "ns"), ("q", q)];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        guarded.ask(Method::POST, &format!("/query?{query}"), Some(token), None).await.1
    };
    assert_eq!(guarded.write(&operator, "a", "t v=1 1").await, 204);
    let made = run(&operator, "CREATE RETENTION POLICY secret ON a DURATION INF REPLICATION 1 DEFAULT").await;
    assert_eq!(made, "{\"results\":[{\"statement_id\":0}]}\n");

    let token = guarded.token("some", &["db:a:admin"]).await;
    for q in ["SHOW RETENTION POLICIES ON a", "SELECT v FROM t", "SHOW MEASUREMENTS"] {
        let answer = run(&token, q).await;
        assert!(answer.contains("series") && !answer.contains("secret"), "{q}: {answer}");
    }
    let write = async |token: &str| {
        let url = guarded.server.url("/write?db=a");
        let response = guarded.server.http.post(url).bearer_auth(token).body("t v=2 2").send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, text) = write(&token).await;
    assert!(status == 403 && !text.contains("secret"), "{status} {text}");
    // Who knows nothing of the database learns no more.
    let stranger = guarded.token("stranger", &["db:b:write"]).await;
    let (status, text) = write(&stranger).await;
    assert!(status == 403 && !text.contains("default"), "{status} {text}");
    let both = guarded.token("both", &["db:a:read", "db:a/secret:read,write"]).await;
    assert_eq!(write(&both).await.0, 204);
    assert!(run(&both, "SELECT v FROM t").await.contains("[[2,2]]"));
    // What is listed of all policies is of those that they may read, table by table.
    assert_eq!(guarded.write(&operator, "a%2Fsecret", "hidden,k=x v=1 1").await, 204);
    let of_hidden = guarded.token("of hidden", &["db:a:read", "table:a/secret:hidden:read"]).await;
    let of_another = guarded.token("of another", &["db:a:read", "table:a/secret:other:read"]).await;
    for (q, told) in [
        ("SHOW MEASUREMENTS", "hidden"),
        ("SHOW TAG KEYS", "hidden"),
        ("SHOW TAG VALUES WITH KEY = k", "hidden"),
        ("SHOW SERIES CARDINALITY", "[2]"),
        ("SHOW MEASUREMENT CARDINALITY", "[2]"),
    ] {
        for (token, may_know) in [(&both, true), (&of_hidden, true), (&of_another, false), (&token, false)] {
            let answer = run(token, q).await;
            assert_eq!(answer.contains(told), may_know, "{q}: {answer}");
            assert!(!answer.contains("error"), "{q}: {answer}");
        }
    }
    // To choose it takes the right to administer the database, and the policy too.
    let creator = guarded.token("creator", &["db:a:create", "db:a/week:create"]).await;
    let refused = run(&creator, "CREATE RETENTION POLICY week ON a DURATION INF REPLICATION 1 DEFAULT").await;
    assert!(refused.contains("forbidden"), "{refused}");
    let refused = run(&both, "ALTER RETENTION POLICY autogen ON a DEFAULT").await;
    assert!(refused.contains("forbidden"), "{refused}");
    assert!(run(&token, "ALTER RETENTION POLICY autogen ON a DEFAULT").await.contains("statement_id"));
    assert_eq!(write(&token).await.0, 204);
}

/// Statements about what there is: some are about all policies, some about the one that is meant.
const LISTINGS: &[&str] = &[
    "SHOW MEASUREMENTS",
    "SHOW MEASUREMENTS ON db",
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /c|d/",
    "SHOW MEASUREMENTS WITH MEASUREMENT = disk",
    "SHOW MEASUREMENTS WHERE host = 'a'",
    "SHOW MEASUREMENTS WHERE host = 'b'",
    "SHOW MEASUREMENTS WHERE host != 'a'",
    "SHOW MEASUREMENTS WHERE rack = 'y' AND host = 'b'",
    "SHOW MEASUREMENTS WHERE host =~ /b/ AND region = 'x'",
    "SHOW MEASUREMENTS LIMIT 1 OFFSET 2",
    "SHOW MEASUREMENT CARDINALITY",
    "SHOW MEASUREMENT CARDINALITY FROM cpu",
    "SHOW MEASUREMENT CARDINALITY FROM disk",
    "SHOW MEASUREMENT CARDINALITY WHERE host = 'b'",
    "SHOW MEASUREMENT EXACT CARDINALITY",
    "SHOW MEASUREMENT EXACT CARDINALITY FROM cpu, week.cpu, week.disk",
    "SHOW TAG KEYS",
    "SHOW TAG KEYS ON db",
    "SHOW TAG KEYS FROM cpu",
    "SHOW TAG KEYS FROM disk",
    "SHOW TAG KEYS FROM db..disk",
    "SHOW TAG KEYS FROM db.week.disk",
    "SHOW TAG KEYS FROM cpu, week.cpu",
    "SHOW TAG KEYS FROM /c|d/",
    "SHOW TAG KEYS WHERE host = 'b'",
    "SHOW TAG KEYS WHERE region = 'x'",
    "SHOW TAG KEYS LIMIT 1",
    "SHOW TAG KEY CARDINALITY",
    "SHOW TAG KEY EXACT CARDINALITY",
    "SHOW TAG KEY CARDINALITY FROM cpu, week.cpu",
    "SHOW TAG VALUES WITH KEY = host",
    "SHOW TAG VALUES FROM cpu WITH KEY = host",
    "SHOW TAG VALUES FROM disk WITH KEY = path",
    "SHOW TAG VALUES WITH KEY IN (host, rack) WHERE region = 'x'",
    "SHOW TAG VALUES WITH KEY = host WHERE rack = 'y'",
    "SHOW TAG VALUES WITH KEY =~ /./ LIMIT 1",
    "SHOW TAG VALUES CARDINALITY WITH KEY = host",
    "SHOW TAG VALUES EXACT CARDINALITY WITH KEY = host",
    "SHOW TAG VALUES CARDINALITY FROM cpu, week.cpu WITH KEY = host",
    "SHOW FIELD KEYS",
    "SHOW FIELD KEYS FROM cpu",
    "SHOW FIELD KEYS FROM week.cpu",
    "SHOW FIELD KEYS FROM both, week.both",
    "SHOW FIELD KEYS FROM /c|d/, week./c|d/",
    "SHOW FIELD KEYS LIMIT 1",
    "SHOW FIELD KEY CARDINALITY",
    "SHOW FIELD KEY CARDINALITY FROM both, week.both",
    "SHOW FIELD KEY CARDINALITY WHERE host = 'a'",
    "SHOW FIELD KEY EXACT CARDINALITY FROM cpu, week.cpu",
    "SHOW SERIES",
    "SHOW SERIES FROM cpu",
    "SHOW SERIES FROM cpu, week.cpu",
    "SHOW SERIES WHERE host = 'b'",
    "SHOW SERIES LIMIT 2 OFFSET 1",
    "SHOW SERIES CARDINALITY",
    "SHOW SERIES CARDINALITY FROM cpu, mem",
    "SHOW SERIES CARDINALITY WHERE host = 'b'",
    "SHOW SERIES EXACT CARDINALITY",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_of_the_policies_of_which_influxdb_tells_them() {
    let (ours, theirs) = (TestServer::start().await, InfluxDb::start());
    let own = "cpu,host=a,region=x usage=1,load=2i 1\nmem,host=a free=1 1\nboth,k=1 f=1i 1\nboth,k=3 f=1i 1";
    let week = "cpu,host=b,rack=y usage=1,temp=\"t\" 9\ndisk,path=p used=1 9\nboth,k=2 f=2.5 9\nboth,k=3 f=1.5 9";
    let ask_both = async |more: &[(&str, &str)], q: &str| -> [Value; 2] {
        let form: Vec<_> = [("db", "db"), ("q", q)].into_iter().chain(more.iter().copied()).collect();
        let mut answers = [Value::Null, Value::Null];
        for (answer, url) in answers.iter_mut().zip([ours.url("/query"), theirs.url("/query")]) {
            let response = ours.http.post(url).form(&form).send().await.unwrap();
            *answer = json!({ "status": response.status().as_u16(), "body": response.json::<Value>().await.unwrap() });
        }
        answers
    };
    for q in ["CREATE DATABASE db", "CREATE RETENTION POLICY week ON db DURATION INF REPLICATION 1"] {
        let [ours, theirs] = ask_both(&[], q).await;
        assert_eq!(ours, theirs, "{q}");
    }
    for (parameters, lines) in [("", own), ("&rp=week", week)] {
        for url in [ours.url("/write?db=db"), theirs.url("/write?db=db")] {
            let written = ours.http.post(url + parameters).body(lines).send().await.unwrap();
            assert_eq!(written.status(), 204);
        }
    }
    let mut wrong = Vec::new();
    let requests: [(&str, &[(&str, &str)]); 3] = [("autogen", &[]), ("autogen", &[("rp", "week")]), ("week", &[])];
    for (default, parameters) in requests {
        let q = format!("ALTER RETENTION POLICY {default} ON db DEFAULT");
        let [ours, theirs] = ask_both(&[], &q).await;
        assert_eq!(ours, theirs, "{q}");
        for q in LISTINGS {
            let [ours, theirs] = ask_both(parameters, q).await;
            if !oracle::agree(&ours, &theirs) {
                let (ours, theirs) = (&ours["body"], &theirs["body"]);
                wrong.push(format!("{default} {parameters:?} {q}\n  InfluxDB: {theirs}\n  ours:     {ours}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));

    // A series is one, whichever policies it has rows in; InfluxDB counts it once for each policy, and for each time it is named.
    let count = values(&ours, "SHOW SERIES EXACT CARDINALITY FROM autogen.both, week.both, week.both").await;
    assert_eq!(count, json!([[3]]));
    // Who names a policy means it: InfluxDB passes over it here.
    let keys = values(&ours, "SHOW TAG KEYS FROM week.cpu").await;
    assert_eq!(keys, json!([["host"], ["rack"]]));
    let error = result(&ours, "SHOW TAG VALUES FROM nosuch.cpu WITH KEY = host").await["error"].take();
    assert_eq!(error, "retention policy not found: nosuch");
}
