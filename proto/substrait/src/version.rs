// SPDX-License-Identifier: Apache-2.0

//! Substrait version information.

use crate::proto::Version;

/// The major version of Substrait used to build this crate
pub const SUBSTRAIT_MAJOR_VERSION: u32 = 0;

/// The minor version of Substrait used to build this crate
pub const SUBSTRAIT_MINOR_VERSION: u32 = 85;

/// The patch version of Substrait used to build this crate
pub const SUBSTRAIT_PATCH_VERSION: u32 = 0;

/// The Git SHA (lower hex) of Substrait used to build this crate
pub const SUBSTRAIT_GIT_SHA: &str = "g2aaae7c0d369a23b5b469badce0644097f1769a1";

/// The `git describe` output of the Substrait submodule used to build this
/// crate
pub const SUBSTRAIT_GIT_DESCRIBE: &str = "v0.85.0-0-g2aaae7c0d369a23b5b469badce0644097f1769a1";

/// The amount of commits between the latest tag and the version of the
/// Substrait submodule used to build this crate
pub const SUBSTRAIT_GIT_DEPTH: u32 = 0;

/// The dirty state of the Substrait submodule used to build this crate
pub const SUBSTRAIT_GIT_DIRTY: bool = false;

/// Returns the version of Substrait used to build this crate.
///
/// Note that this does not set [Version::producer]. See
/// [version_with_producer].
pub fn version() -> Version {
    Version {
        major_number: SUBSTRAIT_MAJOR_VERSION,
        minor_number: SUBSTRAIT_MINOR_VERSION,
        patch_number: SUBSTRAIT_PATCH_VERSION,
        ..Default::default()
    }
}

/// Returns the version of Substrait used to build this crate with
/// [Version::producer] set to the passed `producer`.
pub fn version_with_producer(producer: impl Into<String>) -> Version {
    Version { producer: producer.into(), ..version() }
}
