//! Every route and every Flight call, times every kind of principal. A route that is not listed here fails the test.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, Any, Command, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest,
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate, ProstMessageExt, SubstraitPlan,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, HandshakeRequest,
    RenewFlightEndpointRequest, Ticket,
};
use datafusion_substrait::substrait::proto::read_rel::{NamedTable, ReadType};
use datafusion_substrait::substrait::proto::rel::RelType;
use datafusion_substrait::substrait::proto::r#type::{Fp64, Kind, Nullability, Struct};
use datafusion_substrait::substrait::proto::{NamedStruct, Plan, PlanRel, ReadRel, Rel, RelRoot, Type, plan_rel};
use flightline::server::auth::{JwtSettings, KeySource};
use futures::{StreamExt, TryStreamExt};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::Guarded;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a request needs of who sends it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    SomeToken,
    Sight,
    Read,
    Write,
    Create,
    Delete,
    Admin,
    Everything,
    Metrics,
}

/// A request to the database `a` and its table `t`.
struct Ask {
    method: Method,
    path: &'static str,
    parameters: &'static str,
    body: Option<Value>,
    needs: Needs,
}

fn asks() -> Vec<Ask> {
    use Needs::{Admin, Create, Delete, Everything, Metrics, Nothing, Read, Sight, SomeToken, Write};
    let get = |path, parameters, needs| Ask { method: Method::GET, path, parameters, body: None, needs };
    let delete = |path, parameters, needs| Ask { method: Method::DELETE, path, parameters, body: None, needs };
    let post =
        |path, parameters, body: Value, needs| Ask { method: Method::POST, path, parameters, body: Some(body), needs };
    let put = |path, body: Value, needs| Ask { method: Method::PUT, path, parameters: "", body: Some(body), needs };
    let query = json!({ "db": "a", "q": "SELECT * FROM t" });
    vec![
        post("/api/v3/write_lp", "?db=a", json!("t f=1"), Write),
        post("/api/v2/write", "?bucket=a", json!("t f=1"), Write),
        post("/write", "?db=a", json!("t f=1"), Write),
        post("/api/v3/delete", "", json!({ "db": "a", "table": "t", "tags": {} }), Delete),
        post(
            "/api/v2/delete",
            "?bucket=a",
            json!({ "start": "1970-01-01T00:00:00Z", "stop": "1970-01-02T00:00:00Z" }),
            Delete,
        ),
        get("/api/v3/query_sql", "?db=a&q=SELECT+*+FROM+t", Read),
        post("/api/v3/query_sql", "", query.clone(), Read),
        post("/api/v3/query_sql", "", json!({ "db": "a", "q": "DELETE FROM t" }), Delete),
        post("/api/v3/query_sql", "", json!({ "db": "a", "q": "SELECT 1" }), Sight),
        post("/api/v3/query_sql", "", json!({ "db": "a", "q": "INSERT INTO t (time, f) VALUES (1, 2)" }), Write),
        post(
            "/api/v3/query_sql",
            "",
            json!({ "db": "a", "q": "CREATE TABLE IF NOT EXISTS u (h TAG, f DOUBLE)" }),
            Create,
        ),
        post("/api/v3/query_sql", "", json!({ "db": "a", "q": "DROP TABLE t" }), Delete),
        get("/query", "?db=a&q=SELECT+*+FROM+t", Read),
        post("/query", "?db=a&q=DROP+MEASUREMENT+t", json!({}), Delete),
        post("/query", "?q=CREATE+DATABASE+a", json!({}), Create),
        get("/query", "?q=SHOW+DATABASES", SomeToken),
        post("/query", "?db=a&q=DELETE+FROM+t", json!({}), Delete),
        post("/query", "?db=a&q=DROP+SERIES+FROM+t", json!({}), Delete),
        post("/query", "?db=a&q=CREATE+RETENTION+POLICY+autogen+ON+a+DURATION+0s+REPLICATION+1", json!({}), Create),
        post("/query", "?db=a&q=ALTER+RETENTION+POLICY+autogen+ON+a+DURATION+0s", json!({}), Admin),
        post("/query", "?db=a&q=ALTER+RETENTION+POLICY+autogen+ON+a+DEFAULT", json!({}), Admin),
        get("/api/v3/query_influxql", "?db=a&q=x", Sight),
        get("/api/v3/query_influxql", "?db=a&q=SHOW+DATABASES", Sight),
        get("/api/v3/query_influxql", "?db=a&q=SELECT+*+FROM+t", Read),
        post("/api/v3/query_influxql", "", query, Read),
        get("/api/v3/configure/database", "?format=json", SomeToken),
        post("/api/v3/configure/database", "", json!({ "db": "a" }), Create),
        put("/api/v3/configure/database", json!({ "db": "a", "retention_period": "7d" }), Admin),
        delete("/api/v3/configure/database", "?db=a&hard_delete_at=now", Delete),
        post("/api/v3/configure/database/undelete", "", json!({ "db": "a" }), Everything),
        post("/api/v3/configure/database/retention_period", "?db=a&duration=7d", json!({}), Admin),
        delete("/api/v3/configure/database/retention_period", "?db=a", Admin),
        post("/api/v3/configure/table", "", json!({ "db": "a", "table": "new", "tags": ["x"] }), Create),
        put("/api/v3/configure/table", json!({ "db": "a", "table": "t", "retention_period": "7d" }), Admin),
        delete("/api/v3/configure/table", "?db=a&table=t", Delete),
        post("/api/v3/configure/table/undelete", "", json!({ "db": "a", "table": "t" }), Delete),
        post("/api/v3/configure/last_cache", "", json!({ "db": "a", "table": "t", "name": "" }), Admin),
        delete("/api/v3/configure/last_cache", "?db=a&table=t&name=none", Admin),
        post("/api/v3/configure/distinct_cache", "", json!({ "db": "a", "table": "t", "columns": [] }), Admin),
        delete("/api/v3/configure/distinct_cache", "?db=a&table=t&name=none", Admin),
        get("/api/v3/query_sql", "?db=a&q=SELECT+*+FROM+distinct_cache('t')", Sight),
        get("/api/v3/configure/token", "?format=json", Everything),
        post("/api/v3/configure/token", "", json!({ "token_name": "again", "permissions": ["db:a:read"] }), Everything),
        delete("/api/v3/configure/token", "?token_name=nobody", Everything),
        post(
            "/api/v3/enterprise/configure/token",
            "",
            json!({ "token_name": "again", "permissions": ["db:a:read"] }),
            Everything,
        ),
        // Refused to everybody, so that it is nobody's.
        post("/api/v3/configure/token/admin", "", json!({}), SomeToken),
        post("/api/v3/configure/token/named_admin", "", json!({ "token_name": "" }), Everything),
        // Everybody sees and ends their own; whose else is in `queries`. No rows here: they tell of what was forbidden.
        get("/api/v3/queries", "?format=none", SomeToken),
        delete("/api/v3/queries", "?id=0", SomeToken),
        get("/api/v3/query_sql", "?db=a&q=SELECT+count(*)+FROM+system.queries", Sight),
        post("/query", "?q=KILL+QUERY+0", json!({}), SomeToken),
        get("/query", "?q=SHOW+QUERIES", SomeToken),
        get("/api/v3/backups", "", Everything),
        post("/api/v3/backups", "", json!({}), Everything),
        delete("/api/v3/backups", "?name=x", Everything),
        get("/health", "", Nothing),
        get("/api/v1/health", "", Nothing),
        get("/ping", "", Nothing),
        get("/metrics", "", Metrics),
        get("/no/such/path", "", SomeToken),
    ]
}

/// Routes that the matrix can't hold: with it, the operator's token would be another one.
const ELSEWHERE: [&str; 1] = ["/api/v3/configure/token/admin/regenerate"];

/// Who asks: a name, what they show, and what they may do to the database `a`.
struct Who {
    name: &'static str,
    token: Option<String>,
    may: Vec<Needs>,
}

/// The issuer of the JWTs.
pub(super) fn jwt_settings() -> JwtSettings {
    JwtSettings {
        sources: vec![KeySource::PublicKeyFile(format!("{ROOT}/tests/data/auth/ed25519.pub.pem").into())],
        issuers: vec!["issuer".to_owned()],
        audiences: vec!["flightline".to_owned()],
        leeway: Duration::from_secs(10),
        rights_claim: "rights".to_owned(),
    }
}

pub(super) fn jwt(claims: &Value) -> String {
    let key = std::fs::read(format!("{ROOT}/tests/data/auth/ed25519.pem")).unwrap();
    let key = EncodingKey::from_ed_pem(&key).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).unwrap()
}

async fn everybody(guarded: &Guarded) -> Vec<Who> {
    use Needs::{Admin, Create, Delete, Everything, Metrics, Read, Sight, SomeToken, Write};
    let expired = {
        let body = json!({ "token_name": "expired", "permissions": ["*:*:*"], "expiry_secs": 0 });
        let path = "/api/v3/configure/token";
        let (_, text) = guarded.ask(Method::POST, path, Some(&guarded.operator), Some(&body)).await;
        serde_json::from_str::<Value>(&text).unwrap()["token"].as_str().unwrap().to_owned()
    };
    let claims = |rights: &str, exp: u64| json!({ "iss": "issuer", "aud": "flightline", "sub": "somebody", "exp": exp, "rights": rights });
    let mut all = vec![
        Who { name: "nobody", token: None, may: vec![] },
        Who { name: "a made-up token", token: Some("apiv3_madeup".to_owned()), may: vec![] },
        Who { name: "an expired token", token: Some(expired), may: vec![] },
        Who { name: "an expired JWT", token: Some(jwt(&claims("*:*:*", 1_000_000_000))), may: vec![] },
        Who {
            name: "a JWT for reading",
            token: Some(jwt(&claims("db:a:read", 99_999_999_999))),
            may: vec![SomeToken, Sight, Read],
        },
        Who {
            name: "the operator",
            token: Some(guarded.operator.clone()),
            may: vec![SomeToken, Sight, Read, Write, Create, Delete, Admin, Everything, Metrics],
        },
    ];
    let tokens: [(&str, &[&str], &[Needs]); 9] = [
        ("reader", &["db:a:read"], &[SomeToken, Sight, Read]),
        ("writer", &["db:a:write"], &[SomeToken, Sight, Write]),
        ("creator", &["db:a:create"], &[SomeToken, Sight, Create]),
        ("deleter", &["db:a:delete"], &[SomeToken, Sight, Delete]),
        ("administrator", &["db:a:admin"], &[SomeToken, Sight, Read, Write, Create, Delete, Admin]),
        ("administrator of all", &["db:*:admin"], &[SomeToken, Sight, Read, Write, Create, Delete, Admin]),
        ("reader of the table", &["table:a:t:read"], &[SomeToken, Sight, Read]),
        ("administrator of another", &["db:b:admin"], &[SomeToken]),
        ("monitor", &["system:*:read"], &[SomeToken, Metrics]),
    ];
    for (name, permissions, may) in tokens {
        all.push(Who { name, token: Some(guarded.token(name, permissions).await), may: may.to_vec() });
    }
    all
}

/// Whether an HTTP status means that it was not who asks that stood in the way.
fn verdict(status: u16) -> &'static str {
    match status {
        401 => "unknown",
        403 => "forbidden",
        _ => "allowed",
    }
}

fn expected(who: &Who, needs: Needs) -> &'static str {
    match (needs, who.may.is_empty()) {
        (Needs::Nothing, _) => "allowed",
        (_, true) => "unknown",
        (needs, false) if who.may.contains(&needs) => "allowed",
        _ => "forbidden",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_for_the_right_that_it_needs() {
    let guarded = Guarded::start_with(|auth| auth.jwt = Some(jwt_settings())).await;
    let everybody = everybody(&guarded).await;
    for ask in asks() {
        for who in &everybody {
            // An earlier request may have deleted it.
            assert_eq!(guarded.write(&guarded.operator, "a", "t,tag=x f=1 1").await, 204);
            let path = format!("{}{}", ask.path, ask.parameters);
            let (status, text) = guarded.ask(ask.method.clone(), &path, who.token.as_deref(), ask.body.as_ref()).await;
            // What may not be read is as if it weren't there. InfluxDB 1 answers 200, with the error inside or nothing found.
            let is_hidden = (ask.path == "/query" || matches!(ask.needs, Needs::Read | Needs::Write | Needs::Delete))
                && text.contains("not found");
            let is_empty = match ask.path {
                "/query" => ask.needs == Needs::Read && !text.contains("values"),
                "/api/v3/query_influxql" => ask.needs == Needs::Read && text == "[]",
                _ => false,
            };
            let found = match (status.as_u16(), is_hidden || is_empty || text.contains("requestor is forbidden")) {
                (401, _) => "unknown",
                (_, true) => "forbidden",
                (status, false) => verdict(status),
            };
            assert_eq!(found, expected(who, ask.needs), "{} {} {path}: {status} {text}", who.name, ask.method);
        }
    }
}

#[test]
fn every_route_is_in_the_matrix() {
    let source = std::fs::read_to_string(format!("{ROOT}/src/server/http/mod.rs")).unwrap();
    let routes: BTreeSet<&str> = source
        .split(".route(")
        .skip(1)
        .map(|rest| rest.split('"').nth(1).expect("a route begins with its path"))
        .collect();
    assert!(routes.len() > 20, "{routes:?}");
    let asks = asks();
    let listed: BTreeSet<&str> = asks.iter().map(|ask| ask.path).chain(ELSEWHERE).collect();
    let missing: Vec<_> = routes.difference(&listed).collect();
    assert!(missing.is_empty(), "these routes are in no test of rights; add them to `asks`: {missing:?}");
}

/// A Flight call about the database `a`, by its name.
const CALLS: [(&str, Needs); 29] = [
    ("Handshake", Needs::SomeToken),
    ("ListFlights", Needs::Sight),
    ("ListActions", Needs::SomeToken),
    ("GetFlightInfo of a query", Needs::Read),
    ("GetFlightInfo of a deletion", Needs::Delete),
    ("GetFlightInfo of a path", Needs::Read),
    ("GetSchema of a query", Needs::Read),
    ("PollFlightInfo of a query", Needs::Read),
    ("DoGet of a JSON ticket", Needs::Read),
    // Only who got it: here the operator.
    ("DoGet of somebody else's ticket", Needs::Everything),
    ("DoGet of a part of somebody else's result", Needs::Everything),
    ("DoGet of somebody else's prepared statement", Needs::Everything),
    ("DoAction RenewFlightEndpoint of somebody else's", Needs::Everything),
    ("GetFlightInfo of a query in parts", Needs::Read),
    ("Check of gRPC's health", Needs::Nothing),
    ("DoGet of CommandGetTables", Needs::Sight),
    ("DoGet of CommandGetPrimaryKeys", Needs::Sight),
    ("DoGet of CommandGetDbSchemas", Needs::Sight),
    ("DoGet of CommandGetCatalogs", Needs::Sight),
    ("DoGet of CommandGetSqlInfo", Needs::Sight),
    ("DoPut of a deletion", Needs::Delete),
    ("DoPut of an INSERT", Needs::Write),
    ("DoPut of CREATE TABLE", Needs::Create),
    ("DoPut of Arrow to a path", Needs::Write),
    ("DoPut of CommandStatementIngest", Needs::Write),
    ("DoAction CreatePreparedStatement", Needs::Read),
    ("GetFlightInfo of a Substrait plan", Needs::Read),
    ("DoAction CreatePreparedSubstraitPlan", Needs::Read),
    ("DoAction CreateLastCache, and DeleteLastCache", Needs::Admin),
];

pub(super) fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("database", "a".parse().unwrap());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

pub(super) fn statement(text: &str) -> FlightDescriptor {
    let command = CommandStatementQuery { query: text.to_owned(), transaction_id: None };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn ticket_of(command: &impl ProstMessageExt) -> Ticket {
    Ticket::new(command.as_any().encode_to_vec())
}

pub(super) async fn fetch(
    client: &mut FlightServiceClient<Channel>,
    ticket: Ticket,
    token: Option<&str>,
) -> Result<(), Status> {
    let messages = client.do_get(with_token(ticket, token)).await?.into_inner();
    messages.try_collect::<Vec<_>>().await.map(|_| ())
}

async fn update(client: &mut FlightServiceClient<Channel>, sql: &str, token: Option<&str>) -> Result<(), Status> {
    let command = CommandStatementUpdate { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let data = FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
    client.do_put(with_token(futures::stream::iter([data]), token)).await.map(|_| ())
}

/// The plan of `SELECT f FROM t`.
fn substrait() -> SubstraitPlan {
    let float = Fp64 { nullability: Nullability::Nullable.into(), ..Fp64::default() };
    let types = vec![Type { kind: Some(Kind::Fp64(float)) }];
    let columns = NamedStruct { names: vec!["f".to_owned()], r#struct: Some(Struct { types, ..Struct::default() }) };
    let table = NamedTable { names: vec!["t".to_owned()], ..NamedTable::default() };
    let read =
        ReadRel { base_schema: Some(columns), read_type: Some(ReadType::NamedTable(table)), ..ReadRel::default() };
    let input = Some(Rel { rel_type: Some(RelType::Read(Box::new(read))) });
    let root = RelRoot { input, names: vec!["f".to_owned()] };
    let relations = vec![PlanRel { rel_type: Some(plan_rel::RelType::Root(root)) }];
    let plan = Plan { relations, ..Plan::default() };
    SubstraitPlan { plan: plan.encode_to_vec().into(), version: String::new() }
}

/// Writes a batch with the field `f`.
async fn put(
    client: &mut FlightServiceClient<Channel>,
    descriptor: FlightDescriptor,
    token: Option<&str>,
) -> Result<(), Status> {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let batch = RecordBatch::try_from_iter([("f", values)]).unwrap();
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor));
    let encoded = encoder.build(futures::stream::iter([Ok(batch)])).map(|message| message.unwrap());
    let answers = client.do_put(with_token(encoded, token)).await?.into_inner();
    answers.try_collect::<Vec<_>>().await.map(|_| ())
}

async fn call(
    client: &mut FlightServiceClient<Channel>,
    name: &str,
    token: Option<&str>,
    others: &Others,
) -> Result<(), Status> {
    let query = "SELECT * FROM t";
    match name {
        "Handshake" => {
            let messages = futures::stream::iter([HandshakeRequest::default()]);
            client.handshake(with_token(messages, token)).await.map(|_| ())
        }
        "ListFlights" => client.list_flights(with_token(Criteria::default(), token)).await.map(|_| ()),
        "ListActions" => client.list_actions(with_token(Empty {}, token)).await.map(|_| ()),
        "GetFlightInfo of a query" => client.get_flight_info(with_token(statement(query), token)).await.map(|_| ()),
        "GetFlightInfo of a deletion" => {
            client.get_flight_info(with_token(statement("DELETE FROM t"), token)).await.map(|_| ())
        }
        "GetSchema of a query" => client.get_schema(with_token(statement(query), token)).await.map(|_| ()),
        "PollFlightInfo of a query" => client.poll_flight_info(with_token(statement(query), token)).await.map(|_| ()),
        "DoGet of a JSON ticket" => {
            let ticket = json!({ "database": "a", "sql_query": query, "query_type": "sql" }).to_string();
            fetch(client, Ticket::new(ticket), token).await
        }
        "DoGet of somebody else's ticket" => fetch(client, others.ticket.clone(), token).await,
        "DoGet of a part of somebody else's result" => fetch(client, others.part.clone(), token).await,
        "DoGet of somebody else's prepared statement" => fetch(client, others.prepared.clone(), token).await,
        "DoAction RenewFlightEndpoint of somebody else's" => {
            let endpoint = Some(FlightEndpoint::new().with_ticket(others.ticket.clone()));
            let request = RenewFlightEndpointRequest { endpoint };
            let action = Action::new("RenewFlightEndpoint", request.encode_to_vec());
            let mut results = client.do_action(with_token(action, token)).await?.into_inner();
            results.next().await.transpose().map(|_| ())
        }
        "GetFlightInfo of a query in parts" => {
            let mut request = with_token(statement(query), token);
            request.metadata_mut().insert("x-flightline-endpoints", "2".parse().unwrap());
            client.get_flight_info(request).await.map(|_| ())
        }
        "Check of gRPC's health" => {
            let mut health = HealthClient::new(others.channel.clone());
            health.check(with_token(HealthCheckRequest::default(), token)).await.map(|_| ())
        }
        "DoGet of CommandGetTables" => {
            fetch(client, ticket_of(&CommandGetTables { include_schema: true, ..Default::default() }), token).await
        }
        "DoGet of CommandGetPrimaryKeys" => {
            fetch(client, ticket_of(&CommandGetPrimaryKeys { table: "t".to_owned(), ..Default::default() }), token)
                .await
        }
        "DoGet of CommandGetDbSchemas" => fetch(client, ticket_of(&CommandGetDbSchemas::default()), token).await,
        "DoGet of CommandGetCatalogs" => fetch(client, ticket_of(&CommandGetCatalogs {}), token).await,
        "DoGet of CommandGetSqlInfo" => fetch(client, ticket_of(&CommandGetSqlInfo { info: vec![] }), token).await,
        "GetFlightInfo of a path" => client
            .get_flight_info(with_token(FlightDescriptor::new_path(vec!["t".to_owned()]), token))
            .await
            .map(|_| ()),
        "DoPut of a deletion" => update(client, "DELETE FROM t WHERE tag = 'nobody'", token).await,
        "DoPut of an INSERT" => update(client, "INSERT INTO t (time, f) VALUES (1, 2)", token).await,
        "DoPut of CREATE TABLE" => update(client, "CREATE TABLE IF NOT EXISTS u (h TAG, f DOUBLE)", token).await,
        "DoPut of Arrow to a path" => put(client, FlightDescriptor::new_path(vec!["t".to_owned()]), token).await,
        "DoPut of CommandStatementIngest" => {
            let options = TableDefinitionOptions {
                if_not_exist: TableNotExistOption::Create.into(),
                if_exists: TableExistsOption::Append.into(),
            };
            let command = CommandStatementIngest {
                table: "t".to_owned(),
                table_definition_options: Some(options),
                ..CommandStatementIngest::default()
            };
            put(client, FlightDescriptor::new_cmd(command.as_any().encode_to_vec()), token).await
        }
        "DoAction CreatePreparedStatement" => {
            let request = ActionCreatePreparedStatementRequest { query: query.to_owned(), transaction_id: None };
            let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
            let mut results = client.do_action(with_token(action, token)).await?.into_inner();
            results.next().await.transpose().map(|_| ())
        }
        "GetFlightInfo of a Substrait plan" => {
            let command = CommandStatementSubstraitPlan { plan: Some(substrait()), transaction_id: None };
            let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
            client.get_flight_info(with_token(descriptor, token)).await.map(|_| ())
        }
        "DoAction CreatePreparedSubstraitPlan" => {
            let request = ActionCreatePreparedSubstraitPlanRequest { plan: Some(substrait()), transaction_id: None };
            let action = Action::new("CreatePreparedSubstraitPlan", request.as_any().encode_to_vec());
            let mut results = client.do_action(with_token(action, token)).await?.into_inner();
            results.next().await.transpose().map(|_| ())
        }
        "DoAction CreateLastCache, and DeleteLastCache" => {
            for name in ["CreateLastCache", "DeleteLastCache"] {
                let action = Action::new(name, json!({ "table": "t", "name": "newest" }).to_string());
                let mut results = client.do_action(with_token(action, token)).await?.into_inner();
                results.next().await.transpose()?;
            }
            Ok(())
        }
        other => panic!("no such call: {other}"),
    }
}

/// What the operator was given.
struct Others {
    channel: Channel,
    ticket: Ticket,
    part: Ticket,
    prepared: Ticket,
}

impl Others {
    async fn new(channel: Channel, operator: &str) -> Self {
        let mut client = FlightServiceClient::new(channel.clone());
        let mut ticket = async |sql: &str, endpoints: &str| {
            let mut request = with_token(statement(sql), Some(operator));
            request.metadata_mut().insert("x-flightline-endpoints", endpoints.parse().unwrap());
            let mut info = client.get_flight_info(request).await.unwrap().into_inner();
            assert_eq!(info.endpoint.len().to_string(), endpoints);
            let ticket = info.endpoint.remove(0).ticket.unwrap();
            let named = Any::decode(ticket.ticket.clone()).unwrap();
            assert!(matches!(Command::try_from(named).unwrap(), Command::TicketStatementQuery(_)));
            ticket
        };
        let (whole, part) = (ticket("SELECT * FROM t", "1").await, ticket("SELECT * FROM large", "2").await);
        let request =
            ActionCreatePreparedStatementRequest { query: "SELECT * FROM t".to_owned(), transaction_id: None };
        let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
        let mut results = client.do_action(with_token(action, Some(operator))).await.unwrap().into_inner();
        let result = Any::decode(results.next().await.unwrap().unwrap().body).unwrap();
        let created: ActionCreatePreparedStatementResult = result.unpack().unwrap().unwrap();
        let prepared_statement_handle = created.prepared_statement_handle;
        let prepared = ticket_of(&CommandPreparedStatementQuery { prepared_statement_handle });
        Self { channel, ticket: whole, part, prepared }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flight_call_asks_for_the_right_that_it_needs() {
    let guarded = Guarded::start_with(|auth| auth.jwt = Some(jwt_settings())).await;
    let everybody = everybody(&guarded).await;
    assert_eq!(guarded.write(&guarded.operator, "a", "t,tag=x f=1 1").await, 204);
    let channel = Endpoint::from_shared(guarded.server.url("")).unwrap().connect().await.unwrap();
    let mut client = FlightServiceClient::new(channel.clone());
    let large: String = (0..20_000).map(|time| format!("large f={time} {time}\n")).collect();
    assert_eq!(guarded.write(&guarded.operator, "a", &large).await, 204);
    let others = Others::new(channel, &guarded.operator).await;
    for (name, needs) in CALLS {
        for who in &everybody {
            let answer = call(&mut client, name, who.token.as_deref(), &others).await;
            let found = match &answer {
                Ok(()) => "allowed",
                Err(status) if status.code() == Code::Unauthenticated => "unknown",
                Err(status) if status.code() == Code::PermissionDenied => "forbidden",
                // What can't be read is as if it weren't there.
                Err(status) if status.message().contains("not found") => "forbidden",
                // DataFusion's words for it, in a plan.
                Err(status) if status.message().contains("No table named") => "forbidden",
                // What others got is as if nobody had.
                Err(status) if status.message().contains("it was not issued by this server") => "forbidden",
                Err(status) => panic!("{} {name}: {status}", who.name),
            };
            assert_eq!(found, expected(who, needs), "{} {name}: {answer:?}", who.name);
        }
    }
}
