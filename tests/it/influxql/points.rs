//! Points for random statements, and chance.
//!
//! No two points of a measurement share a time, and numbers are sums of powers of two: so that neither the order in which
//! InfluxDB happens to read series nor that of its additions is seen in an answer.

use std::fmt::Write;

/// 2024-01-01T00:00:00Z in seconds.
pub const START: i64 = 1_704_067_200;

/// SplitMix64: small, and the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1) as u64) as i64
    }
}

/// Points in line protocol.
pub fn points() -> String {
    let mut random = Random::new(7);
    let mut lines = String::new();
    // For each series its own milliseconds, so that no two points share a time.
    let mut line = |series: &str, fields: &[String], nanos: i64| {
        if !fields.is_empty() {
            let _ = writeln!(lines, "{series} {} {nanos}", fields.join(","));
        }
    };
    let cpus = ["cpu,host=a,region=west", "cpu,host=b,region=east", "cpu,host=c", "cpu,host=d,region=west"];
    for (n, series) in cpus.iter().enumerate() {
        for step in 0..24 {
            let nanos = (START + step * 10) * 1_000_000_000 + n as i64 * 250_000_000;
            let mut fields = Vec::new();
            if random.percent(85) {
                fields.push(format!("usage={}", random.between(-8, 40) as f64 / 4.0));
            }
            if random.percent(60) {
                fields.push(format!("load={}i", random.between(-9, 20)));
            }
            if random.percent(40) {
                fields.push(format!("ok={}", random.percent(50)));
            }
            if random.percent(40) {
                fields.push(format!("note=\"{}\"", random.one(&["x", "y y", "z\\\"q", "", "n1"])));
            }
            if random.percent(90) {
                line(series, &fields, nanos);
            }
        }
    }
    for (n, series) in ["mem,host=a,rack=r1", "mem,host=b,rack=r2", "mem,host=e,rack=r1"].iter().enumerate() {
        for step in 0..16 {
            let nanos = (START + step * 15) * 1_000_000_000 + 125_000_000 + n as i64 * 1_000_000;
            let mut fields = vec![format!("usage={}i", random.between(0, 50))];
            if random.percent(70) {
                fields.push(format!("free={}", random.between(0, 4000) as f64 / 8.0));
            }
            line(series, &fields, nanos);
        }
    }
    let paths = ["disk,host=a,path=/", "disk,host=a,path=/var\\ log", "disk,host=b,path=/a\\,b\\=c", "disk,path=C:\\x"];
    for (n, series) in paths.iter().enumerate() {
        for step in 0..6 {
            let nanos = (START - 40 + step * 47) * 1_000_000_000 + n as i64 * 7;
            let fields =
                [format!("used={}i", random.between(0, 9)), format!("share={}", random.between(0, 8) as f64 / 8.0)];
            line(series, &fields, nanos);
        }
    }
    // Few points, far from each other; before 1970 too.
    for (step, at) in [-7200, -30, 0, 5, 86_400, 90_061, 1_000_000, START, START + 31, START + 200].iter().enumerate() {
        let fields = [format!("v={}", step as f64 * 1.5), format!("n={}i", random.between(-5, 5))];
        line("gap", &fields[..1 + usize::from(step % 3 != 1)], at * 1_000_000_000);
    }
    // Hours around both changes of the clocks in New York in 2024.
    for (n, first) in [1_710_021_600, 1_730_581_200].iter().enumerate() {
        for hour in 0..60 {
            let fields = [format!("v={}i", hour % 7 + n as i64)];
            line(
                if hour % 2 == 0 { "clock,odd=no" } else { "clock,odd=yes" },
                &fields,
                (first + hour * 3600) * 1_000_000_000,
            );
        }
    }
    line("o\\ dd,k\\ y=v\\ 1", &["f\\ 1=1.5".to_owned(), "select=2i".to_owned()], START * 1_000_000_000);
    line("o\\ dd,k\\ y=v2", &["f\\ 1=-2.5".to_owned(), "from=\"it's\"".to_owned()], (START + 9) * 1_000_000_000);
    lines
}
