//! Tickets over the life of a token: renewed, reduced, taken back.

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use reqwest::Method;
use serde_json::json;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::Guarded;
use super::matrix::{fetch, jwt, jwt_settings, statement, with_token};

async fn connect(guarded: &Guarded) -> FlightServiceClient<Channel> {
    let channel = Endpoint::from_shared(guarded.server.url("")).unwrap().connect().await.unwrap();
    FlightServiceClient::new(channel)
}

async fn ticket(client: &mut FlightServiceClient<Channel>, token: &str) -> Ticket {
    let info = client.get_flight_info(with_token(statement("SELECT * FROM t"), Some(token))).await.unwrap();
    info.into_inner().endpoint.remove(0).ticket.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_opens_what_the_old_one_got_with_the_rights_that_it_has_now() {
    let guarded = Guarded::start_with(|auth| auth.jwt = Some(jwt_settings())).await;
    assert_eq!(guarded.write(&guarded.operator, "a", "t f=1 1").await, 204);
    let mut client = connect(&guarded).await;
    let of = |subject: &str, rights: &str, exp: u64| {
        jwt(&json!({ "iss": "issuer", "aud": "flightline", "sub": subject, "exp": exp, "rights": rights }))
    };
    let ada = of("ada", "db:a:read", 99_999_999_998);
    let got = ticket(&mut client, &ada).await;
    for (who, expected) in [
        (&ada, None),
        (&of("ada", "db:a:read,write", 99_999_999_999), None),
        (&of("ada", "db:b:read", 99_999_999_999), Some(Code::PermissionDenied)),
        (&of("ada", "db:a:read", 1_000_000_000), Some(Code::Unauthenticated)),
        (&of("bob", "*:*:*", 99_999_999_999), Some(Code::InvalidArgument)),
        (&guarded.operator, Some(Code::InvalidArgument)),
    ] {
        let answer = fetch(&mut client, got.clone(), Some(who)).await;
        assert_eq!(answer.err().map(|status| status.code()), expected, "{who}");
    }

    // A token of the catalog that is made anew under its name.
    let old = guarded.token("grafana", &["db:a:read"]).await;
    let got = ticket(&mut client, &old).await;
    let path = "/api/v3/configure/token?token_name=grafana";
    assert!(guarded.ask(Method::DELETE, path, Some(&guarded.operator), None).await.0.is_success());
    let taken_back = fetch(&mut client, got.clone(), Some(&old)).await.unwrap_err();
    assert_eq!(taken_back.code(), Code::Unauthenticated);
    let new = guarded.token("grafana", &["db:a:read"]).await;
    fetch(&mut client, got.clone(), Some(&new)).await.unwrap();
    let other = guarded.token("ada", &["db:a:read"]).await;
    let not_hers = fetch(&mut client, got, Some(&other)).await.unwrap_err();
    let forged = fetch(&mut client, forged(), Some(&other)).await.unwrap_err();
    assert_eq!((not_hers.code(), not_hers.message()), (forged.code(), forged.message()));
}

/// A ticket that no server sealed.
fn forged() -> Ticket {
    use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
    use prost::Message;
    let ticket = TicketStatementQuery { statement_handle: vec![7; 100].into() };
    Ticket::new(ticket.as_any().encode_to_vec())
}
