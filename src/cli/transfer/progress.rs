//! How far an import or export is: a line that changes every second on a terminal, one every ten seconds elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use crate::clock::Clock;

const TERMINAL_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Shows lines on the standard error output, no more often than they can be read.
pub(crate) struct Progress<'a> {
    clock: &'a dyn Clock,
    started: Duration,
    shown: Duration,
    /// `None` where nobody wants to see it.
    interval: Option<Duration>,
    is_terminal: bool,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(clock: &'a dyn Clock, quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let interval = if is_terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        let now = clock.elapsed();
        Self { clock, started: now, shown: now, interval: (!quiet).then_some(interval), is_terminal }
    }

    /// Since the work began.
    pub(crate) fn took(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// Shows what `line` says of the time since the beginning, if it is time again.
    pub(crate) fn tick(&mut self, line: impl FnOnce(Duration) -> String) {
        let now = self.clock.elapsed();
        if self.interval.is_none_or(|interval| now.saturating_sub(self.shown) < interval) {
            return;
        }
        self.shown = now;
        let line = line(self.took());
        if self.is_terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Makes room for lines that stay.
    pub(crate) fn clear(&self) {
        if self.is_terminal && self.interval.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", indicatif::HumanCount(count), if count == 1 { "" } else { "s" })
}

/// Per second of `took`.
pub(crate) fn rate(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64().max(1e-6)) as u64
}
