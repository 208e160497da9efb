//! Tokens at an operator's word: made, replaced, taken back. Each is one commit of the catalog, and counts from then on.
//!
//! Not here: what a token looks like and who shows one (`server::auth`).

use std::sync::Arc;

use super::Engine;
use super::catalog::{CatalogChange, CatalogState, TokenEntry, TokenHash};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Rights, Timestamp};

/// Longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A token that is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called: one line of text.
    pub name: String,
    /// What it hashes to.
    pub hash: TokenHash,
    /// What its holder may do.
    pub rights: Rights,
    /// From when on it is worth nothing; `None`: never by itself.
    pub expires_at: Option<Timestamp>,
}

/// What becomes of a token that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameTaken {
    /// It stays, and the new one is refused.
    Refuse,
    /// It is worth nothing from then on.
    Replace,
}

impl Engine {
    /// Makes a token.
    ///
    /// # Errors
    /// `Invalid` if the name is no name; `Conflict` if it is taken and is not to be replaced; `Unavailable` if the
    /// catalog can't be written.
    pub async fn create_token(&self, token: NewToken, taken: NameTaken) -> Result<Arc<TokenEntry>> {
        self.check_open()?;
        if token.name.is_empty() || token.name.len() > NAME_BYTES_MAX || token.name.contains(char::is_control) {
            let message = format!("a token's name is one line of 1 to {NAME_BYTES_MAX} bytes");
            return Err(Error::invalid(message));
        }
        let create = |state: &CatalogState| {
            let NewToken { name, hash, rights, expires_at } = token.clone();
            let known = state.token(&name).map(|known| CatalogChange::DeleteToken { name: known.name.clone() });
            if known.is_some() && taken == NameTaken::Refuse {
                return Err(Error::new(ErrorKind::Conflict, format!("token name already exists, {name}")));
            }
            let create = CatalogChange::CreateToken { id: state.next_token_id(), name, hash, rights, expires_at };
            Ok(known.into_iter().chain([create]).collect())
        };
        let state = self.catalog.commit(create).await?;
        let vanished = || Error::new(ErrorKind::Conflict, format!("token {} was deleted meanwhile", token.name));
        state.token(&token.name).cloned().ok_or_else(vanished)
    }

    /// Takes a token back: whoever shows it is nobody from then on.
    ///
    /// # Errors
    /// `NotFound` if there is none of this name; `Unavailable` if the catalog can't be written.
    pub async fn delete_token(&self, name: &str) -> Result<()> {
        self.check_open()?;
        let delete = |_: &CatalogState| Ok(vec![CatalogChange::DeleteToken { name: name.to_owned() }]);
        self.catalog.commit(delete).await?;
        Ok(())
    }

    /// All tokens by name, expired ones too.
    pub fn tokens(&self) -> Vec<Arc<TokenEntry>> {
        self.catalog.state().tokens().cloned().collect()
    }

    /// The token of this name.
    pub fn token(&self, name: &str) -> Option<Arc<TokenEntry>> {
        self.catalog.state().token(name).cloned()
    }

    /// The token that hashes to this, expired or not.
    pub fn token_by_hash(&self, hash: &TokenHash) -> Option<Arc<TokenEntry>> {
        self.catalog.state().token_by_hash(hash).cloned()
    }
}
