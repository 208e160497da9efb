//! Where something is that a user names by one text: a path of this machine, or a URL into an object store.

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
