//! Tokens: who may ask, as far as the catalog knows. The text of a token is nowhere, only its SHA-512.
//!
//! Not here: what a token looks like and who shows one (`server::auth`).

use std::fmt;
use std::sync::Arc;

use super::super::error::ChangeError;
use super::{CatalogState, expect_next};
use crate::model::{Rights, Timestamp};

/// The SHA-512 of a token. Tokens have 512 random bits, so nobody finds a text for a hash by trying.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 64]);

impl TokenHash {
    /// The hash as it was computed.
    pub fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The hash, for a stored form.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// Its number.
    pub id: u64,
    /// Its name; no other has it.
    pub name: String,
    /// What a token that is shown must hash to.
    pub hash: TokenHash,
    /// What its holder may do.
    pub rights: Rights,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing; `None`: never by itself.
    pub expires_at: Option<Timestamp>,
}

impl CatalogState {
    /// The tokens by name, expired ones too.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<TokenEntry>> {
        self.tokens.values()
    }

    /// The token of this name.
    pub fn token(&self, name: &str) -> Option<&Arc<TokenEntry>> {
        self.tokens.get(name)
    }

    /// The token that hashes to this.
    pub fn token_by_hash(&self, hash: &TokenHash) -> Option<&Arc<TokenEntry>> {
        self.tokens.get(self.token_names.get(hash)?)
    }

    /// The number of the next token.
    pub fn next_token_id(&self) -> u64 {
        self.next_token_id
    }

    pub(super) fn create_token(&mut self, token: TokenEntry) -> Result<(), ChangeError> {
        expect_next("token", token.id, self.next_token_id)?;
        let next = token.id.checked_add(1).ok_or(ChangeError::NumbersExhausted { what: "token" })?;
        self.insert_token(token)?;
        self.next_token_id = next;
        Ok(())
    }

    pub(super) fn insert_token(&mut self, token: TokenEntry) -> Result<(), ChangeError> {
        if self.tokens.get(&token.name).is_some() || self.token_names.get(&token.hash).is_some() {
            return Err(ChangeError::Exists);
        }
        self.token_names.insert(token.hash, token.name.clone());
        self.tokens.insert(token.name.clone(), Arc::new(token));
        Ok(())
    }

    pub(super) fn delete_token(&mut self, name: &str) -> Result<(), ChangeError> {
        let missing = || ChangeError::NoToken { name: name.to_owned() };
        let token = self.tokens.remove(&name.to_owned()).ok_or_else(missing)?;
        self.token_names.remove(&token.hash);
        Ok(())
    }
}
