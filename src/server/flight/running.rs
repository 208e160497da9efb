//! Results that are being sent, so that whoever has the ticket can end them from elsewhere.
//!
//! Dropping a stream is how drivers cancel; this is for who asked on another connection. Each server knows its own streams only.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::stream::Messages;

/// The streams by the sealed ticket that they answer; one ticket may be fetched several times at once.
#[derive(Debug, Default, Clone)]
pub(super) struct Running {
    streams: Arc<Mutex<HashMap<Bytes, Fetches>>>,
}

#[derive(Debug)]
struct Fetches {
    count: usize,
    end: CancellationToken,
}

impl Running {
    /// The messages, until somebody cancels the ticket: then they end with `CANCELLED`, and the query behind them is dropped.
    pub(super) fn until_cancelled(&self, ticket: &Bytes, messages: Messages) -> Messages {
        let end = {
            let mut streams = self.streams.lock();
            let fetches =
                streams.entry(ticket.clone()).or_insert_with(|| Fetches { count: 0, end: CancellationToken::new() });
            fetches.count += 1;
            fetches.end.clone()
        };
        let registered = Registered { running: self.clone(), ticket: ticket.clone(), end: end.clone() };
        let until = messages.take_until(end.clone().cancelled_owned());
        let last = stream::once(async move {
            let _registered = registered; // until here, or until the stream is dropped
            end.is_cancelled().then(|| Err(Status::cancelled("the query was cancelled")))
        });
        until.chain(last.filter_map(std::future::ready)).boxed()
    }

    /// Ends the streams that answer the ticket. Returns whether there was one.
    pub(super) fn cancel(&self, ticket: &Bytes) -> bool {
        match self.streams.lock().remove(ticket) {
            Some(fetches) => {
                fetches.end.cancel();
                true
            }
            None => false,
        }
    }
}

/// Takes a stream off the list when it goes.
struct Registered {
    running: Running,
    ticket: Bytes,
    end: CancellationToken,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.end.is_cancelled() {
            return; // whoever cancelled took it off; what is on the list now came later
        }
        let mut streams = self.running.streams.lock();
        if let Some(fetches) = streams.get_mut(&self.ticket) {
            fetches.count = fetches.count.saturating_sub(1);
            if fetches.count == 0 {
                streams.remove(&self.ticket);
            }
        }
    }
}
