//! A server starts on a store: is that a mirror, and shall it end being one?

use std::sync::Arc;

use super::mark;
use crate::clock::Clock;
use crate::engine::catalog::Catalog;
use crate::engine::store::Store;
use crate::error::{Error, ErrorKind, Result};

/// Makes sure that `store` is no mirror. `is_wanted` makes a store of its own of it; `gives_up_rows` says that rows may be missing
/// which the origin had only in its write-ahead log.
///
/// # Errors
/// `Conflict` if it is a mirror and shall stay one, if it was never whole, or if rows may be missing and nobody gave them up;
/// those of [`Catalog::read`].
pub async fn promote(store: &Store, clock: &Arc<dyn Clock>, is_wanted: bool, gives_up_rows: bool) -> Result<()> {
    let Some(mark) = mark::read(store).await? else { return Ok(()) };
    let (place, origin) = (store.description(), &mark.origin);
    let refused = |message: String| Err(Error::new(ErrorKind::Conflict, message));
    if !is_wanted {
        return refused(format!(
            "\"{place}\" is the mirror of \"{origin}\", and a server that starts on it ends that: to make a store of its own of \
             it, stop the server of the origin and start with --promote-mirror"
        ));
    }
    let state = match Catalog::read(store, Arc::clone(clock)).await {
        Ok(Some(state)) => state,
        Ok(None) => return refused(format!("\"{place}\" is a mirror that was never whole: it has no catalog yet")),
        Err(error) => {
            let error = Error::from(error);
            let message = format!("the catalog of the mirror \"{place}\" can't be read; perhaps it was never whole");
            return Err(Error::with_source(error.kind(), message, error));
        }
    };
    if let Some(log) = state.log_owner().filter(|log| !log.is_closed && !gives_up_rows) {
        return refused(format!(
            "the mirror \"{place}\" may lack the newest rows of its origin, which were in the write-ahead log at {} when it was \
             last written: to give up what neither it nor the log of this server has, start with --wal-abandon too",
            log.place
        ));
    }
    mark::remove(store).await?;
    tracing::warn!(origin, place, version = state.version(), "the mirror is a store of its own from now on");
    Ok(())
}
