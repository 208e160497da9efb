//! Is every object of the log whole? Reads all of them, changes nothing.
//!
//! Not here: whether objects are missing. Which ones are needed is for the start of a server to say (see `recover`).

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::Place;
use super::object::Object;
use crate::engine::store::{Store, paths};
use crate::error::{Error, ErrorKind, Result};

/// Objects that are read at one time.
const FETCHES_MAX: usize = 8;

/// Looks at the objects of the log in a store, which belong to `catalog`, and says how many there are. `found` hears of each that is
/// damaged: its path and what is wrong.
///
/// # Errors
/// `Unavailable` if the store doesn't answer.
pub(in crate::engine) async fn verify_objects(
    store: &Store,
    catalog: Uuid,
    found: &mut (dyn FnMut(String, String) + Send),
) -> Result<usize> {
    let failed = |error| {
        let message = format!("could not read the write-ahead log in \"{}\"", store.description());
        Error::with_source(ErrorKind::Unavailable, message, error)
    };
    let listed = store.objects().list(Some(&paths::log_objects())).map_ok(|object| object.location);
    let listed: Vec<_> = listed.try_collect().await.map_err(failed)?;
    let mut read = stream::iter(listed)
        .filter_map(|path| async move { paths::log_object_place(&path).map(|place| (path, place)) })
        .map(|(path, (epoch, index))| async move {
            let bytes = match store.objects().get(&path).await {
                Ok(found) => found.bytes().await.map_err(failed)?,
                Err(StoreError::NotFound { .. }) => return Ok::<_, Error>(None), // needed no more, meanwhile
                Err(error) => return Err(failed(error)),
            };
            let fault = Object::decode(&bytes, catalog, Place { epoch, index }).err();
            Ok(Some((path, fault)))
        })
        .buffer_unordered(FETCHES_MAX)
        .boxed();
    let mut count = 0;
    while let Some(object) = read.try_next().await? {
        let Some((path, fault)) = object else { continue };
        count += 1;
        if let Some(fault) = fault {
            found(path.to_string(), fault.to_string());
        }
    }
    Ok(count)
}
