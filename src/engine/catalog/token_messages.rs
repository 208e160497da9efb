//! Tokens in the bodies of the catalog's objects. The rules of `messages` hold here too.

use prost::Message;

use super::format::FormatError;
use super::state::{TokenEntry, TokenHash};
use crate::model::{Permission, Rights, Timestamp};

#[derive(Clone, PartialEq, Message)]
pub(super) struct TokenMessage {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    /// SHA-512.
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
    /// As people write them. One that this program doesn't know makes the object unreadable: to skip it could take a right
    /// away, or some day a restriction.
    #[prost(string, repeated, tag = "4")]
    permissions: Vec<String>,
    /// In a checkpoint; a change is as old as its record.
    #[prost(sint64, tag = "5")]
    created_at: i64,
    /// Not there: never.
    #[prost(sint64, optional, tag = "6")]
    expires_at: Option<i64>,
}

impl TokenMessage {
    pub(super) fn new(
        id: u64,
        name: &str,
        hash: &TokenHash,
        rights: &Rights,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            id,
            name: name.to_owned(),
            hash: hash.as_bytes().to_vec(),
            permissions: rights.permissions().iter().map(ToString::to_string).collect(),
            created_at: created_at.as_nanos(),
            expires_at: expires_at.map(Timestamp::as_nanos),
        }
    }
}

impl From<&TokenEntry> for TokenMessage {
    fn from(token: &TokenEntry) -> Self {
        Self::new(token.id, &token.name, &token.hash, &token.rights, token.created_at, token.expires_at)
    }
}

impl TryFrom<TokenMessage> for TokenEntry {
    type Error = FormatError;

    fn try_from(message: TokenMessage) -> Result<Self, FormatError> {
        let TokenMessage { id, name, hash, permissions, created_at, expires_at } = message;
        let wrong_hash = |_| FormatError::field("hash", format!("it has {} bytes", hash.len()));
        let hash = <[u8; 64]>::try_from(hash.as_slice()).map_err(wrong_hash)?;
        let permission = |text: String| text.parse::<Permission>();
        let permissions: Result<Vec<_>, _> = permissions.into_iter().map(permission).collect();
        let permissions = permissions.map_err(|error| FormatError::field("permissions", error.to_string()))?;
        Ok(Self {
            id,
            name,
            hash: TokenHash::new(hash),
            rights: Rights::new(permissions),
            created_at: Timestamp::from_nanos(created_at),
            expires_at: expires_at.map(Timestamp::from_nanos),
        })
    }
}
