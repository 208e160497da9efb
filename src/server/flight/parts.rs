//! Results in several endpoints, for clients that ask for that with a header.
//!
//! Each endpoint is a part of one result: its query is cut once (`query::PartedQuery`), and held here with the snapshot that it is over
//! until its tickets expire. So the parts can be fetched in any order, at the same time and again, and no row is there twice or
//! missing, whatever is written meanwhile. Another server doesn't hold it and says so; a client that meets it asks anew.
//!
//! Bounded: [`HELD_MAX`] results, for [`HELD_FOR`] each. When there are more, or when a query can't be cut, the answer is one endpoint,
//! which every client takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryFutureExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::FlightService;
use super::call::Call;
use super::error::FlightError;
use super::statements::access;
use super::stream::{Messages, encode};
use super::tickets::{Part, Statement, Work};
use super::values::{self, Places};
use crate::error::Result;
use crate::model::{Access, DatabaseName};
use crate::query::{PartedQuery, PlannedStatement};

/// How long a result is held after it was described, or after one of its endpoints was renewed.
pub(super) const HELD_FOR: Duration = Duration::from_secs(5 * 60);

/// Most results that are held at once. Each may keep rows in memory that were buffered when it was cut.
const HELD_MAX: usize = 32;

/// The results that are held.
#[derive(Debug, Default, Clone)]
pub(super) struct Held {
    results: Arc<Mutex<HashMap<Uuid, Arc<HeldResult>>>>,
}

#[derive(Debug)]
struct HeldResult {
    query: PartedQuery,
    database: DatabaseName,
    /// What who asked for it might do then.
    access: Access,
    until: Mutex<Instant>,
    /// Ends the wait for its end when the server goes.
    gone: CancellationToken,
}

impl Drop for HeldResult {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Held {
    fn is_full(&self) -> bool {
        self.results.lock().len() >= HELD_MAX
    }

    fn get(&self, id: Uuid) -> Result<Arc<HeldResult>> {
        Ok(self.results.lock().get(&id).map(Arc::clone).ok_or(FlightError::NotHeld)?)
    }

    /// Holds a result for a while. Returns whether there was room.
    fn hold(&self, id: Uuid, result: HeldResult) -> bool {
        let gone = result.gone.clone();
        {
            let mut results = self.results.lock();
            if results.len() >= HELD_MAX {
                return false;
            }
            results.insert(id, Arc::new(result));
        }
        let results = Arc::downgrade(&self.results);
        tokio::spawn(gone.run_until_cancelled_owned(async move {
            // Renewed meanwhile, there is more to wait.
            while let Some(until) =
                results.upgrade().and_then(|results| results.lock().get(&id).map(|held| *held.until.lock()))
            {
                if until <= Instant::now() {
                    if let Some(results) = results.upgrade() {
                        results.lock().remove(&id);
                    }
                    return;
                }
                sleep_until(until).await;
            }
        }));
        true
    }
}

impl FlightService {
    /// The parts into which the answer to a statement is cut for this call; one that is all of it if the call doesn't ask for several,
    /// or they can't be had.
    ///
    /// # Errors
    /// As describing the statement.
    pub(super) async fn parts(&self, statement: Statement, call: &Call) -> Result<Vec<Work>> {
        if call.endpoints < 2 || self.held.is_full() {
            return Ok(vec![Work::Statement(statement)]);
        }
        match self.hold(&statement, call).await? {
            Some(parts) => Ok(parts),
            None => Ok(vec![Work::Statement(statement)]),
        }
    }

    async fn hold(&self, statement: &Statement, call: &Call) -> Result<Option<Vec<Work>>> {
        let (database, values) = (statement.database.clone(), values::decode(&statement.values)?);
        let mut planned = self.plan(statement.clone(), Vec::new(), call).await?;
        let mut rows = values.iter().filter(|batch| batch.num_rows() > 0);
        match (rows.next(), rows.next()) {
            (None, _) => {}
            (Some(values), None) if values.num_rows() == 1 => {
                let row = Places::new(planned.parameters(), &values.schema())?.rows(values).next().unwrap_or_default();
                planned = self.plan(statement.clone(), row, call).await?;
            }
            _ => return Ok(None), // several executions, whose rows are one after the other
        }
        let PlannedStatement::Query(planned) = planned else { return Ok(None) };
        let Some(query) = planned.into_parts(call.endpoints).await? else { return Ok(None) };
        let (id, count) = (self.clock.unique_id(), query.count());
        let access = access(&database, call)?;
        let (until, gone) = (Mutex::new(Instant::now() + HELD_FOR), CancellationToken::new());
        if !self.held.hold(id, HeldResult { query, database, access, until, gone }) {
            return Ok(None);
        }
        let part = |number| u32::try_from(number).ok().map(|number| Work::Part(Part { held: id, number }));
        Ok((0..count).map(part).collect())
    }

    /// The rows of a part.
    ///
    /// # Errors
    /// `NotFound` if this server doesn't hold it, or its rights have changed since; `Forbidden` if the caller has none.
    pub(super) fn part_rows(&self, part: Part, call: &Call) -> Result<Messages> {
        let result = self.held.get(part.held)?;
        if access(&result.database, call)? != result.access {
            return Err(FlightError::NotHeld.into());
        }
        let schema = Arc::clone(result.query.schema());
        let rows = async move { result.query.run(part.number as usize).await };
        Ok(encode(schema, rows.try_flatten_stream().boxed(), call.delivery()))
    }

    /// Holds the result of a part for longer.
    ///
    /// # Errors
    /// `NotFound` if this server doesn't hold it.
    pub(super) fn hold_longer(&self, part: Part) -> Result<()> {
        *self.held.get(part.held)?.until.lock() = Instant::now() + HELD_FOR;
        Ok(())
    }
}
