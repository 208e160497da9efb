//! Every setting of `serve`, as data: `--help`, the README's table and the names of the environment come from here.

mod limits;
mod server;
mod stores;
mod work;

use super::values::Kind;

/// One setting of the server.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Under which heading help and README show it.
    pub section: &'static str,
    /// The flag without its dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where nobody says anything.
    pub preset: Preset,
    /// Environment variables that set it; the first one that is set and not empty counts.
    ///
    /// The first is ours; the others are what users of InfluxDB 3 (the names up to 3.10 before those of 3.11) and of
    /// the clouds have in their scripts.
    pub env: &'static [&'static str],
    /// Other flags that mean the same.
    pub aliases: &'static [&'static str],
    /// What it does, as a sentence.
    pub sentence: &'static str,
}

/// What a setting is where nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Not set.
    Nothing,
    /// As if this text had been given.
    Text(&'static str),
    /// Worked out from other facts; the text says how.
    Computed(&'static str),
}

impl Setting {
    /// Whether it says which object store there is or how it is spoken to.
    pub(crate) fn is_of_store(&self) -> bool {
        [stores::STORAGE, stores::AWS, stores::CLOUD].contains(&self.section)
    }
}

impl Preset {
    /// For help texts; empty if there is nothing to show.
    pub fn text(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Text(text) | Self::Computed(text) => text,
        }
    }
}

const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;

/// Time stamps are nanoseconds in 64 bits and reach no further from 1970 than 292 years.
const CENTURY_MS: u64 = 100 * 365 * 24 * HOUR_MS;

/// More than any disk of today holds.
const DISK_BYTES_MAX: u64 = 1 << 60;

/// More threads than any machine of today has processors.
const THREADS_MAX: u64 = 1_024;

/// Every setting, in the order of help and README.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    [server::SERVER, stores::STORES, work::WORK, limits::SETTINGS].into_iter().flatten()
}
