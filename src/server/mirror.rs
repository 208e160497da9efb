//! The place of the mirror: elsewhere than the store, and one that can tell who was first.

use std::sync::Arc;

use super::{ServerSettings, is_inside};
use crate::clock::Clock;
use crate::config::StorePlace;
use crate::engine::mirror::{MirrorSettings, START_PATIENCE};
use crate::engine::store::{StoreSettings, check, open_below};
use crate::error::{Error, ErrorKind, Result};

/// Where the store is mirrored to; `None` if nowhere.
///
/// # Errors
/// `Invalid` if that is where the store or its backups are; `Unsupported` if the place overwrites what must be new.
pub(super) async fn open(settings: &ServerSettings, clock: &Arc<dyn Clock>) -> Result<Option<MirrorSettings>> {
    let Some((place, bytes_per_second)) = &settings.mirror else { return Ok(None) };
    let StorePlace { store, prefix, connections } = place;
    if is_inside(store, prefix, &settings.store) || holds(place, &settings.store) {
        return Err(Error::invalid("--mirror-to and the store itself are in one place: a mirror has to be elsewhere"));
    }
    if settings.backups.as_ref().is_some_and(|backups| backups == place) {
        return Err(Error::invalid("--mirror-to and --backup-to are one place: each needs one of its own"));
    }
    let to = open_below(store, prefix, connections)?;
    tracing::info!(mirror = to.description(), "the store is mirrored");
    if store.is_shared() {
        match tokio::time::timeout(START_PATIENCE, check::creates_only_if_new(&to, clock.as_ref())).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let message = format!(
                    "\"{}\" overwrites objects that must be new, so that a mirror there could not be told from a store on \
                     which another server was started: mirror to another one",
                    to.description()
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            // It may be away for now, and what is stored there is not needed for a start.
            unanswered => {
                let error = match unanswered {
                    Ok(Err(error)) => error.report(),
                    _ => format!("no answer for {START_PATIENCE:?}"),
                };
                let mirror = to.description();
                tracing::warn!(mirror, error, "could not find out whether the mirror's store puts \"only if new\"");
            }
        }
    }
    Ok(Some(MirrorSettings::new(to, *bytes_per_second)))
}

/// Whether the store lies in the mirror.
fn holds(mirror: &StorePlace, store: &StoreSettings) -> bool {
    match (&mirror.store, store) {
        (StoreSettings::File { root: mirror }, StoreSettings::File { root: store }) => store.starts_with(mirror),
        _ => false,
    }
}
