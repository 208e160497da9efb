//! Who asks, once that is known: a name for logs, and rights.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Action, DatabaseName, Facility, Rights, Tables};
use crate::query::Asker;

/// By what somebody was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A token of the catalog.
    Token,
    /// A JWT of an issuer who is believed.
    Jwt,
    /// Nobody is asked: authentication is off.
    Everybody,
    /// Showed nothing, where nothing is needed.
    Nobody,
}

impl PrincipalKind {
    /// The word for it in logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::Everybody => "everybody",
            Self::Nobody => "nobody",
        }
    }
}

/// Who somebody is, and what they may do.
#[derive(Debug)]
pub struct Identity {
    /// The token's name, or the subject of the JWT. Empty if nobody is asked.
    pub name: String,
    /// By what they were recognised.
    pub kind: PrincipalKind,
    /// Whose word the name is, of a JWT; empty otherwise.
    pub issuer: String,
    /// What they may do.
    pub rights: Rights,
}

/// Somebody who asks. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Principal(Arc<Identity>);

impl Principal {
    /// Somebody of this name with these rights.
    pub fn new(name: String, kind: PrincipalKind, rights: Rights) -> Self {
        Self(Arc::new(Identity { name, kind, issuer: String::new(), rights }))
    }

    /// The subject of a JWT with these rights. Two issuers may mean two people by one name.
    pub fn of_issuer(name: String, issuer: String, rights: Rights) -> Self {
        Self(Arc::new(Identity { name, kind: PrincipalKind::Jwt, issuer, rights }))
    }

    /// Everybody, where authentication is off.
    pub fn everybody() -> Self {
        Self::new(String::new(), PrincipalKind::Everybody, Rights::everything())
    }

    /// The one that was put to a request before its handler got it. Without one, nobody: a way in that
    /// forgot to ask lets nobody in.
    pub fn of(extensions: &Extensions) -> Self {
        let nobody = || Self::new(String::new(), PrincipalKind::Nobody, Rights::default());
        extensions.get::<Self>().cloned().unwrap_or_else(nobody)
    }

    /// Name and kind.
    pub fn identity(&self) -> &Identity {
        &self.0
    }

    /// As who their queries are known.
    pub fn asker(&self) -> Asker {
        let Identity { name, kind, issuer, rights: _ } = self.identity();
        Asker { name: name.clone(), kind: kind.word(), issuer: issuer.clone() }
    }

    /// Bytes that stay the same when their token is renewed, and that nobody else has.
    pub(in crate::server) fn lasting_identity(&self) -> Vec<u8> {
        let Identity { name, kind, issuer, rights: _ } = self.identity();
        // Each part after its length, so that no name runs into the next part.
        let part = |part: &str| [&(part.len() as u64).to_le_bytes(), part.as_bytes()].concat();
        [part(kind.word()), part(issuer), part(name)].concat()
    }

    /// All that they may do.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// # Errors
    /// `Forbidden` if they may not do this to the database as a whole.
    pub fn require(&self, action: Action, database: &DatabaseName) -> Result<()> {
        if self.0.rights.allow(action, database) {
            return Ok(());
        }
        Err(self.forbidden(&format!("may not {} database \"{database}\"", verb(action))))
    }

    /// # Errors
    /// `Forbidden` if they may not do this to the table.
    pub fn require_on_table(&self, action: Action, database: &DatabaseName, table: &str) -> Result<()> {
        if self.0.rights.tables(action, database).contains(table) {
            return Ok(());
        }
        Err(self.forbidden(&format!("may not {} table \"{table}\" of database \"{database}\"", verb(action))))
    }

    /// The tables to which they may do this.
    ///
    /// # Errors
    /// `Forbidden` if there can be none.
    pub fn require_tables(&self, action: Action, database: &DatabaseName) -> Result<Tables> {
        match self.0.rights.tables(action, database) {
            Tables::Only(names) if names.is_empty() => {
                Err(self.forbidden(&format!("may not {} database \"{database}\"", verb(action))))
            }
            tables => Ok(tables),
        }
    }

    /// # Errors
    /// `Forbidden` if they may not know that there is such a database.
    pub fn require_sight(&self, database: &DatabaseName) -> Result<()> {
        if self.0.rights.see(database) {
            return Ok(());
        }
        Err(self.forbidden(&format!("may not see database \"{database}\"")))
    }

    /// # Errors
    /// `Forbidden` if they may not read this of the server.
    pub fn require_reading(&self, facility: Facility) -> Result<()> {
        if self.0.rights.allow_reading(facility) {
            return Ok(());
        }
        Err(self.forbidden(&format!("may not read system:{}", facility.word())))
    }

    /// # Errors
    /// `Forbidden` unless they may do everything. `what` needs that: "make tokens".
    pub fn require_everything(&self, what: &str) -> Result<()> {
        if self.0.rights.allow_everything() {
            return Ok(());
        }
        Err(self.forbidden(&format!("may not {what}: that takes the permission *:*:*")))
    }

    /// An error in the words of InfluxDB 3, with the reason.
    fn forbidden(&self, reason: &str) -> Error {
        let who = match self.0.kind {
            PrincipalKind::Token => format!("token \"{}\"", self.0.name),
            PrincipalKind::Jwt => format!("\"{}\"", self.0.name),
            PrincipalKind::Everybody | PrincipalKind::Nobody => "a request without a token".to_owned(),
        };
        Error::new(ErrorKind::Forbidden, format!("requestor is forbidden from requested resource: {who} {reason}"))
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Read => "read",
        Action::Write => "write to",
        Action::Create => "create",
        Action::Delete => "delete in",
        Action::Admin => "administer",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_may_not_do_what() {
        let rights = Rights::new(["table:metrics:cpu:write".parse().unwrap()]);
        let telegraf = Principal::new("telegraf".to_owned(), PrincipalKind::Token, rights);
        let metrics = DatabaseName::new("metrics").unwrap();
        assert_eq!(
            telegraf.require(Action::Read, &metrics).unwrap_err().to_string(),
            "requestor is forbidden from requested resource: token \"telegraf\" may not read database \"metrics\""
        );
        assert!(telegraf.require_on_table(Action::Write, &metrics, "cpu").is_ok());
        assert_eq!(telegraf.require_on_table(Action::Write, &metrics, "mem").unwrap_err().kind(), ErrorKind::Forbidden);
        assert!(telegraf.require_tables(Action::Write, &metrics).is_ok());
        assert!(telegraf.require_tables(Action::Read, &metrics).is_err());
        assert!(telegraf.require_everything("make tokens").is_err());
    }

    #[test]
    fn an_identity_outlives_its_rights_and_is_nobody_elses() {
        let jwt =
            |name: &str, issuer: &str| Principal::of_issuer(name.to_owned(), issuer.to_owned(), Rights::default());
        let renewed = Principal::of_issuer("ada".to_owned(), "i".to_owned(), Rights::everything());
        assert_eq!(jwt("ada", "i").lasting_identity(), renewed.lasting_identity());
        let token = Principal::new("ada".to_owned(), PrincipalKind::Token, Rights::default());
        let others = [jwt("ada", "j"), jwt("da", "ia"), jwt("", "iada"), token, Principal::everybody()];
        for other in others {
            assert_ne!(jwt("ada", "i").lasting_identity(), other.lasting_identity(), "{other:?}");
        }
    }

    #[test]
    fn a_request_without_a_principal_may_do_nothing() {
        let nobody = Principal::of(&Extensions::new());
        assert_eq!(nobody.rights(), &Rights::default());
    }
}
