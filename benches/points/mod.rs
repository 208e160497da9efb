//! The load of the benchmarks: the machines of TSBS, ten tags and ten fields with two decimals a line.

use std::fmt::Write;

/// Machines that report.
pub(crate) const HOSTS: usize = 100;

/// Nanoseconds between two reports of one machine.
pub(crate) const INTERVAL_NS: i64 = 10_000_000_000;

/// 2024-01-01T00:00:00Z.
pub(crate) const START_NS: i64 = 1_704_067_200_000_000_000;

const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Lines in the order of time: each interval all machines.
pub(crate) struct Points {
    row: usize,
    usages: Vec<[u32; 10]>,
    random: u64,
    prefix: String,
}

impl Points {
    /// A load of its own machines, named with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { row: 0, usages: vec![[5000; 10]; HOSTS], random: 0x5eed, prefix: prefix.to_owned() }
    }

    /// The next `rows` lines.
    pub(crate) fn lines(&mut self, rows: usize) -> String {
        let mut text = String::with_capacity(rows * 400);
        for _ in 0..rows {
            self.line(&mut text);
        }
        text
    }

    fn line(&mut self, text: &mut String) {
        let host = self.row % HOSTS;
        let time = START_NS + (self.row / HOSTS) as i64 * INTERVAL_NS;
        let (region, rack) = (host % 9, host % 50);
        let _ = write!(
            text,
            "cpu,hostname={}host_{host},region=eu-central-{region},datacenter=eu-central-{region}a,rack={rack},os=Ubuntu16.10,\
             arch=x64,team=NYC,service={},service_version={},service_environment=production ",
            self.prefix,
            host % 19,
            host % 2,
        );
        for (field, name) in FIELDS.iter().enumerate() {
            let usage = self.walk(host, field);
            let comma = if field == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{name}={}.{:02}", usage / 100, usage % 100);
        }
        let _ = writeln!(text, " {time}");
        self.row += 1;
    }

    /// A random walk between 0 and 100 in steps of up to one.
    fn walk(&mut self, host: usize, field: usize) -> u32 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let step = (self.random >> 33) as u32 % 201;
        let usage = &mut self.usages[host][field];
        *usage = (*usage + step).saturating_sub(100).min(10_000);
        *usage
    }
}
