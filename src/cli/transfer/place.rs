//! Where files are: a path, or the URL of a place in an object store.
//!
//! The URL says which store and bucket, the flags of `serve` say the rest: `s3://bucket/path`, `gs://bucket/path`,
//! `azure://container/path`.

use std::path::PathBuf;

use clap::ArgMatches;

use crate::config::{Environment, Location, StoreConfig};
use crate::engine::store::{ConnectionSettings, Store, StoreSettings, open};
use crate::error::Result;

/// A file, a directory, or a pattern for either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Local(PathBuf),
    Remote(Box<RemotePlace>),
}

/// A place in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemotePlace {
    /// Such as `s3://bucket`.
    pub bucket_url: String,
    /// What follows the bucket, without slashes at its ends.
    pub path: String,
    store: StoreSettings,
    connections: ConnectionSettings,
}

impl Place {
    /// The place that the user named.
    ///
    /// # Errors
    /// What is wrong with the URL, or which setting its store needs, in words for the user.
    pub(crate) fn parse(text: &str, flags: &ArgMatches, environment: Environment<'_>) -> Result<Self, String> {
        let (kind, bucket, path) = match Location::parse(text) {
            Some(Location::Local(path)) => return Ok(Self::Local(PathBuf::from(path))),
            Some(Location::Remote { kind, bucket, path }) => (kind, bucket, path),
            None => return Err(format!("\"{text}\" is no place: it must be {}", Location::ACCEPTS)),
        };
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        let config =
            StoreConfig::named(kind, bucket, &[flags], environment).map_err(|error| format!("\"{text}\": {error}"))?;
        Ok(Self::Remote(Box::new(RemotePlace {
            bucket_url: format!("{scheme}://{bucket}"),
            path: path.to_owned(),
            store: config.store,
            connections: config.connections,
        })))
    }
}

impl RemotePlace {
    /// The store. Sends no request.
    pub(crate) fn open(&self) -> Result<Store> {
        open(&self.store, &self.connections)
    }
}
