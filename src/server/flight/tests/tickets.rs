//! Tickets: sealed, bound to what they were made for, and for a while.

use super::*;

fn statement(text: &str) -> Statement {
    Statement::new(DatabaseName::new("nyc").unwrap(), Language::Sql, text.to_owned())
}

fn ada() -> Principal {
    named("ada", PrincipalKind::Token)
}

fn named(name: &str, kind: PrincipalKind) -> Principal {
    Principal::new(name.to_owned(), kind, crate::model::Rights::default())
}

#[test]
fn a_ticket_is_good_for_who_got_it_with_an_old_token_or_a_new_one_and_for_nobody_else() {
    let (seal, clock) = (Seal::new(b"key"), ManualClock::new(Timestamp::from_nanos(0)));
    let work = Work::Statement(statement("SELECT 1"));
    let (sealed, _) = seal.ticket(work.clone(), &ada(), &clock);
    let renewed = Principal::new("ada".to_owned(), PrincipalKind::Token, crate::model::Rights::everything());
    assert_eq!(seal.open(&sealed, &renewed, &clock).unwrap(), work);
    let unknown = seal.open(&[0; 100], &ada(), &clock).unwrap_err().to_string();
    for other in [named("bob", PrincipalKind::Token), named("ada", PrincipalKind::Jwt), Principal::everybody()] {
        assert_eq!(seal.open(&sealed, &other, &clock).unwrap_err().to_string(), unknown, "{other:?}");
    }
}

#[test]
fn a_ticket_with_any_byte_changed_or_missing_is_refused() {
    let (seal, clock) = (Seal::new(b"key"), ManualClock::new(Timestamp::from_nanos(0)));
    let work = Work::Statement(statement("SELECT 1"));
    let (sealed, _) = seal.ticket(work.clone(), &ada(), &clock);
    assert_eq!(seal.open(&sealed, &ada(), &clock).unwrap(), work);
    for position in 0..sealed.len() {
        let mut tampered = sealed.to_vec();
        tampered[position] ^= 1;
        assert!(seal.open(&tampered, &ada(), &clock).is_err(), "byte {position}");
        assert!(seal.open(&sealed[..position], &ada(), &clock).is_err(), "cut at {position}");
    }
    assert!(Seal::new(b"other").open(&sealed, &ada(), &clock).is_err());
}

#[test]
fn a_ticket_expires_and_a_handle_does_not() {
    let (seal, clock) = (Seal::new(b"key"), ManualClock::new(Timestamp::from_nanos(0)));
    let metadata = Metadata { database: None, table_type: "TABLE".to_owned(), command: Bytes::from_static(b"x") };
    let (ticket, expires) = seal.ticket(Work::Metadata(metadata.clone()), &ada(), &clock);
    let handle = seal.handle(statement("SELECT 1"), &ada(), &clock);
    clock.advance(TICKET_LIFETIME);
    assert_eq!(expires, clock.now());
    assert_eq!(seal.open(&ticket, &ada(), &clock).unwrap(), Work::Metadata(metadata));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(seal.open(&ticket, &ada(), &clock).unwrap_err().kind(), crate::error::ErrorKind::NotFound);
    assert_eq!(seal.open_handle(&handle, &ada(), &clock).unwrap(), statement("SELECT 1"));
    assert!(seal.open_handle(&ticket, &ada(), &clock).is_err());
}

#[tokio::test]
async fn a_ticket_can_be_fetched_again_until_it_expires() {
    let service = service(&["nyc"]).await;
    let endpoint = service.info(&query("SELECT 1"), &[]).await.unwrap().endpoint.remove(0);
    let ticket = endpoint.ticket.unwrap().ticket;
    for _ in 0..2 {
        assert!(service.get(ticket.clone(), &[]).await.is_ok());
    }
    assert_eq!(endpoint.expiration_time.unwrap().seconds, 1_700_003_600);
    service.clock.advance(TICKET_LIFETIME + Duration::from_secs(1));
    assert_eq!(service.get(ticket, &[]).await.unwrap_err().code(), Code::NotFound);
}
