//! The owner of the write-ahead log in the bodies of the catalog's objects. The rules of `messages` hold here too.

use prost::Message;
use uuid::Uuid;

use super::format::FormatError;
use super::log_owner::LogOwner;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LogOwnerMessage {
    #[prost(bytes = "vec", tag = "1")]
    log: Vec<u8>,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(bool, tag = "4")]
    is_closed: bool,
    #[prost(uint64, repeated, tag = "5")]
    unfinished: Vec<u64>,
}

impl LogOwnerMessage {
    /// In a change, which says only who takes over.
    pub(super) fn opened(log: Uuid, epoch: u64, place: &str) -> Self {
        let log = log.as_bytes().to_vec();
        Self { log, epoch, place: place.to_owned(), is_closed: false, unfinished: Vec::new() }
    }
}

impl From<&LogOwner> for LogOwnerMessage {
    fn from(owner: &LogOwner) -> Self {
        let opened = Self::opened(owner.log, owner.epoch, &owner.place);
        Self { is_closed: owner.is_closed, unfinished: owner.unfinished.clone(), ..opened }
    }
}

impl TryFrom<LogOwnerMessage> for LogOwner {
    type Error = FormatError;

    fn try_from(message: LogOwnerMessage) -> Result<Self, FormatError> {
        let LogOwnerMessage { log, epoch, place, is_closed, unfinished } = message;
        let log = Uuid::from_slice(&log).map_err(|error| FormatError::field("log", error.to_string()))?;
        Ok(Self { log, epoch, place, is_closed, unfinished })
    }
}
