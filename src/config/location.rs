//! Where something is that a user names by one text: a path of this machine, or a URL into an object store.

use super::path;
use super::sources::{ConfigError, Sources};
use super::store::{connections, remote_store};
use crate::engine::store::{ConnectionSettings, StoreSettings};

/// A place for objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// The store.
    pub store: StoreSettings,
    /// Below which path of the store; empty for all of it.
    pub prefix: String,
    /// How patiently the store is spoken to.
    pub connections: ConnectionSettings,
}

impl StorePlace {
    /// The place that a location means together with the store flags.
    pub(super) fn at(sources: &Sources<'_>, location: Location<'_>) -> Result<Self, ConfigError> {
        let (store, prefix) = match location {
            Location::Local(root) => (StoreSettings::File { root: path(root, sources.environment)? }, String::new()),
            Location::Remote { kind, bucket, path } => {
                (remote_store(sources, kind, bucket.to_owned())?, path.to_owned())
            }
        };
        Ok(Self { store, prefix, connections: connections(sources)? })
    }
}

/// A place in words of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location<'a> {
    /// A path.
    Local(&'a str),
    /// A path in an object store.
    Remote {
        /// The word for `--object-store`: "s3", "google" or "azure".
        kind: &'static str,
        /// The bucket or container.
        bucket: &'a str,
        /// What follows it, without slashes at its ends.
        path: &'a str,
    },
}

impl<'a> Location<'a> {
    /// What users may write.
    pub const ACCEPTS: &'static str = "a path, s3://bucket/path, gs://bucket/path or azure://container/path";

    /// `None` if the text is a URL of another kind or names no bucket.
    pub fn parse(text: &'a str) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else { return Some(Self::Local(text)) };
        let kind = match scheme {
            "file" => return Some(Self::Local(rest)),
            "s3" => "s3",
            "gs" => "google",
            "azure" | "az" => "azure",
            _ => return None,
        };
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        (!bucket.is_empty()).then_some(Self::Remote { kind, bucket, path: path.trim_matches('/') })
    }
}
