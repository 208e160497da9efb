//! Tickets and statement handles: what to answer, sealed so that nobody but this catalog's servers can make one, for one holder.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | HMAC-SHA256 of the rest under the holder's key |
//! | 32.. | `flightline.ticket.v1.Ticket`, protobuf |
//!
//! The holder's key is the HMAC-SHA256 of [`PURPOSE`] and who they are, under the catalog's ticket key. So no one can tell a ticket of
//! somebody else from bytes that nobody sealed, and a renewed token of the same name opens what the old one got.
//!
//! Always true:
//! - nothing of a ticket is looked at before its seal is checked;
//! - a ticket is no right: it says what to answer, the call that brings it says who asks;
//! - it carries all that is needed, so any server of the catalog can answer it, as often as it is asked; only a part of a result
//!   ([`Part`]) is for the server that holds it.
//!
//! Not here: what a ticket's work is answered with (`statements`, `metadata`).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ring::hmac;
use uuid::Uuid;

use super::error::FlightError;
use super::parts::HELD_FOR;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::{DatabaseName, Timestamp};
use crate::query::Language;
use crate::server::auth::Principal;
use crate::server::proto;

/// How long a ticket can be fetched after it was handed out.
pub(super) const TICKET_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Bytes of the seal, with which a ticket begins.
pub(super) const SEAL_BYTES: usize = 32;

/// What holders' keys are for. Another layout of the seal needs another text.
const PURPOSE: &[u8] = b"flightline.ticket.v2";

/// The layout that this program writes and reads. Tickets of version 1 were anybody's.
const VERSION: u32 = 2;

/// What a ticket asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    /// The rows of a query.
    Statement(Statement),
    /// The rows of a metadata command.
    Metadata(Metadata),
    /// A statement that was done before the ticket was sealed.
    Done {
        /// How many rows it changed, if somebody counted.
        count: Option<u64>,
    },
    /// A part of a result that this server holds, if it is the one that described it.
    Part(Part),
}

/// Which part of which result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) held: Uuid,
    /// From 0.
    pub(super) number: u32,
}

/// A query of one database.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) database: DatabaseName,
    pub(super) language: Language,
    /// Empty if there is a plan.
    pub(super) text: String,
    /// The plan of Substrait, if that is the language.
    pub(super) plan: Bytes,
    /// Rows of values for its parameters, as [`values`](super::values) makes them; empty if none are bound.
    pub(super) values: Bytes,
    /// Whether tags are answered as dictionaries.
    pub(super) dictionaries: bool,
}

impl Statement {
    /// A statement without values, whose answer is plain.
    pub(super) fn new(database: DatabaseName, language: Language, text: String) -> Self {
        Self { database, language, text, plan: Bytes::new(), values: Bytes::new(), dictionaries: false }
    }

    /// A plan of Substrait without values, whose answer is plain.
    pub(super) fn of_plan(database: DatabaseName, plan: Bytes) -> Self {
        Self { plan, ..Self::new(database, Language::Substrait, String::new()) }
    }
}

/// A metadata command, still encoded, and what the call that brought it said about the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metadata {
    pub(super) database: Option<DatabaseName>,
    /// The word for tables.
    pub(super) table_type: String,
    /// The command as `google.protobuf.Any`.
    pub(super) command: Bytes,
}

/// Seals work into tickets and opens them.
#[derive(Debug)]
pub(super) struct Seal {
    key: hmac::Key,
}

impl Seal {
    /// A seal with the catalog's key.
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A ticket for `work`, good for its holder alone, and the moment until which it is good: [`TICKET_LIFETIME`] from now, of a part
    /// as long as its result is held.
    pub(super) fn ticket(&self, work: Work, holder: &Principal, clock: &dyn Clock) -> (Bytes, Timestamp) {
        let lifetime = if let Work::Part(_) = work { HELD_FOR } else { TICKET_LIFETIME };
        let lifetime = i64::try_from(lifetime.as_nanos()).unwrap_or(i64::MAX);
        let expires = clock.now().as_nanos().saturating_add(lifetime);
        (self.close(work, holder, clock, expires), Timestamp::from_nanos(expires))
    }

    /// A handle that never expires: it holds nothing on the server, and pools keep prepared statements for days.
    pub(super) fn handle(&self, statement: Statement, holder: &Principal, clock: &dyn Clock) -> Bytes {
        self.close(Work::Statement(statement), holder, clock, 0)
    }

    /// What was sealed.
    ///
    /// # Errors
    /// `Invalid` if the bytes were not sealed with this key for this holder, or are of an unknown version; `NotFound` if they have
    /// expired.
    pub(super) fn open(&self, sealed: &[u8], holder: &Principal, clock: &dyn Clock) -> Result<Work> {
        let (seal, content) = sealed.split_at_checked(SEAL_BYTES).ok_or(FlightError::ForgedTicket)?;
        hmac::verify(&self.key_of(holder), content, seal).map_err(|_| FlightError::ForgedTicket)?;
        let ticket = proto::Ticket::decode(content).map_err(FlightError::Undecodable)?;
        if ticket.version != VERSION {
            return Err(FlightError::TicketVersion(ticket.version).into());
        }
        if ticket.expires_ns != 0 && clock.now().as_nanos() > ticket.expires_ns {
            return Err(FlightError::ExpiredTicket.into());
        }
        work_of(ticket)
    }

    /// The query of a prepared statement's handle.
    ///
    /// # Errors
    /// As [`Seal::open`]; `Invalid` also if something else was sealed.
    pub(super) fn open_handle(&self, handle: &[u8], holder: &Principal, clock: &dyn Clock) -> Result<Statement> {
        match self.open(handle, holder, clock)? {
            Work::Statement(statement) => Ok(statement),
            Work::Metadata(_) | Work::Done { .. } | Work::Part(_) => Err(FlightError::ForgedTicket.into()),
        }
    }

    fn key_of(&self, holder: &Principal) -> hmac::Key {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(PURPOSE);
        context.update(&holder.lasting_identity());
        hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
    }

    fn close(&self, work: Work, holder: &Principal, clock: &dyn Clock, expires_ns: i64) -> Bytes {
        let (database, work) = match work {
            Work::Statement(Statement { database, language, text, plan, values, dictionaries }) => {
                let language = match language {
                    Language::Sql => proto::Language::Sql,
                    Language::InfluxQl => proto::Language::Influxql,
                    Language::Substrait => proto::Language::Substrait,
                };
                let (language, plan, values) = (language.into(), plan.to_vec(), values.to_vec());
                let statement = proto::Statement { language, text, plan, values, dictionaries };
                (database.to_string(), proto::ticket::Work::Statement(statement))
            }
            Work::Metadata(Metadata { database, table_type, command }) => {
                let metadata = proto::Metadata { command: command.to_vec(), table_type };
                let database = database.map(|database| database.to_string()).unwrap_or_default();
                (database, proto::ticket::Work::Metadata(metadata))
            }
            Work::Done { count } => (String::new(), proto::ticket::Work::Done(proto::Done { count })),
            Work::Part(Part { held, number }) => {
                let part = proto::Part { held: held.as_bytes().to_vec(), number };
                (String::new(), proto::ticket::Work::Part(part))
            }
        };
        let ticket = proto::Ticket {
            version: VERSION,
            database,
            work: Some(work),
            issued_ns: clock.now().as_nanos(),
            expires_ns,
            nonce: clock.unique_id().as_bytes().to_vec(),
        };
        let content = ticket.encode_to_vec();
        let seal = hmac::sign(&self.key_of(holder), &content);
        Bytes::from([seal.as_ref(), &content].concat())
    }
}

fn work_of(ticket: proto::Ticket) -> Result<Work> {
    let database = match ticket.database.as_str() {
        "" => None,
        name => Some(DatabaseName::new(name).map_err(|error| Error::invalid(error.to_string()))?),
    };
    match (ticket.work, database) {
        (Some(proto::ticket::Work::Statement(statement)), Some(database)) => {
            let language = match statement.language() {
                proto::Language::Sql => Language::Sql,
                proto::Language::Influxql => Language::InfluxQl,
                proto::Language::Substrait => Language::Substrait,
                proto::Language::Unspecified => return Err(FlightError::ForgedTicket.into()),
            };
            let proto::Statement { text, plan, values, dictionaries, .. } = statement;
            let (plan, values) = (plan.into(), values.into());
            Ok(Work::Statement(Statement { database, language, text, plan, values, dictionaries }))
        }
        (Some(proto::ticket::Work::Metadata(metadata)), database) => {
            Ok(Work::Metadata(Metadata { database, table_type: metadata.table_type, command: metadata.command.into() }))
        }
        (Some(proto::ticket::Work::Done(done)), _) => Ok(Work::Done { count: done.count }),
        (Some(proto::ticket::Work::Part(part)), _) => {
            let held = Uuid::from_slice(&part.held).map_err(|_| FlightError::ForgedTicket)?;
            Ok(Work::Part(Part { held, number: part.number }))
        }
        (Some(proto::ticket::Work::Statement(_)) | None, _) => Err(FlightError::ForgedTicket.into()),
    }
}
