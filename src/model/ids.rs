//! Numbers that must not be mixed up, with only the steps that make sense for each.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The identifier with this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number itself, for storing and for paths.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The identifier after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A database, for as long as the catalog lives. Never reused, so that no path and no log record can mean two databases.
    DatabaseId(u32)
}
id! {
    /// A table, unique over all databases of one catalog and never reused.
    TableId(u32)
}
id! {
    /// A Parquet file, unique in one catalog and never reused.
    FileId(u64)
}
id! {
    /// The place of one write in the write-ahead log. The first write of a catalog has sequence 1.
    ///
    /// Of two writes of one point, the one with the larger sequence was last.
    Sequence(u64)
}

impl Sequence {
    /// Before every write.
    pub const ZERO: Self = Self(0);
}

/// The writes that one run holds: from `first` to `last`, both included.
///
/// The ranges of two runs of one table never interleave, so that the order of runs is the order of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SequenceRange {
    /// The oldest write in the run.
    pub first: Sequence,
    /// The newest write in the run.
    pub last: Sequence,
}

impl SequenceRange {
    /// The range that holds a single write.
    pub const fn single(sequence: Sequence) -> Self {
        Self { first: sequence, last: sequence }
    }

    /// Whether the ranges have a write in common or one lies inside the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}
