// SPDX-License-Identifier: Apache-2.0

//! Substrait's plans as Rust types, generated before: see `README.md`.

pub mod version;

/// The types of the protobuf package `substrait`.
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
pub mod proto {
    /// The types of the protobuf package `substrait.extensions`.
    pub mod extensions {
        include!("proto.substrait.extensions.rs");
    }

    include!("proto.substrait.rs");
}
