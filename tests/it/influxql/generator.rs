//! Random statements, each from a seed.

use std::fmt::Write;

use super::parts::{Field, Select, Source, Statement};
use super::points::{Random, START};

/// A measurement: its name, tags, numeric fields, other fields.
struct Table {
    name: &'static str,
    tags: &'static [&'static str],
    numbers: &'static [&'static str],
    others: &'static [&'static str],
}

const TABLES: &[Table] = &[
    Table { name: "cpu", tags: &["host", "region"], numbers: &["usage", "load"], others: &["ok", "note"] },
    Table { name: "cpu", tags: &["host", "region"], numbers: &["usage", "load"], others: &["ok", "note"] },
    Table { name: "cpu", tags: &["host", "region"], numbers: &["usage", "load"], others: &["ok", "note"] },
    Table { name: "mem", tags: &["host", "rack"], numbers: &["usage", "free"], others: &[] },
    Table { name: "disk", tags: &["host", "path"], numbers: &["used", "share"], others: &[] },
    Table { name: "gap", tags: &[], numbers: &["v", "n"], others: &[] },
    Table { name: "clock", tags: &["odd"], numbers: &["v"], others: &[] },
    Table { name: "\"o dd\"", tags: &["\"k y\""], numbers: &["\"f 1\"", "\"select\""], others: &["\"from\""] },
];

/// A statement from a seed.
pub fn statement(seed: u64) -> Statement {
    moved(seed, 0)
}

/// The same of times that are so many seconds later.
pub fn moved(seed: u64, later: i64) -> Statement {
    let random = &mut Random::new(seed);
    match random.below(10) {
        0 => Statement::Show(show(random)),
        _ => {
            let table = &TABLES[random.below(TABLES.len() as u64) as usize];
            Statement::Select(Maker { random, table, later }.select())
        }
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    table: &'static Table,
    /// Seconds that are added to all times.
    later: i64,
}

fn plain(text: impl Into<String>) -> Field {
    Field { text: text.into(), parts: Vec::new() }
}

impl Maker<'_> {
    fn select(&mut self) -> Select {
        let kind = self.random.below(100);
        match kind {
            0..22 => self.rows(),
            22..55 => self.aggregates(),
            55..68 => self.transforms(),
            68..76 => self.selector_with_fields(),
            76..84 => self.best(),
            84..97 => self.around_a_subquery(),
            _ => self.anything(),
        }
    }

    fn number(&mut self) -> &'static str {
        self.random.one(self.table.numbers)
    }

    /// A name of a field; seldom of another type, of a tag, of nothing.
    fn field(&mut self) -> String {
        match self.random.below(20) {
            0 | 1 if !self.table.others.is_empty() => self.random.one(self.table.others).to_owned(),
            2 if !self.table.tags.is_empty() => self.random.one(self.table.tags).to_owned(),
            3 => "nosuch".to_owned(),
            4 => format!("{}::{}", self.number(), self.random.one(&["field", "float", "integer", "tag", "string"])),
            _ => self.number().to_owned(),
        }
    }

    fn sources(&mut self) -> Vec<Source> {
        let name = match self.random.below(24) {
            0 => "/cpu|mem/".to_owned(),
            1 => "/^(cpu|mem|disk)$/".to_owned(),
            2 => "cpu, mem".to_owned(),
            3 => format!("autogen.{}", self.table.name),
            4 => format!("orb.autogen.{}", self.table.name),
            5 => format!("orb..{}", self.table.name),
            6 => "mem, cpu, nosuch".to_owned(),
            _ => self.table.name.to_owned(),
        };
        vec![Source::Name(name)]
    }

    /// A range of times, half the time.
    fn times(&mut self, must_end: bool) -> Vec<String> {
        let (first, last) = match self.table.name {
            "clock" => (1_710_021_600, 1_710_021_600 + 60 * 3600),
            "gap" => (-8000, 100_000),
            _ => (START - 30, START + 250),
        };
        let mut conditions = Vec::new();
        let step = if self.table.name == "clock" { 1800 } else { 5 };
        let from = first + self.random.below(((last - first) / step) as u64) as i64 * step;
        let to = from + self.random.below(((last - from) / step + 2) as u64) as i64 * step;
        if self.random.percent(75) {
            let text = self.time(from);
            let operator = self.random.one(&[">=", ">=", ">"]);
            conditions.push(format!("time {operator} {text}"));
        }
        if must_end || self.random.percent(60) {
            let text = self.time(to);
            let operator = self.random.one(&["<", "<=", "<"]);
            conditions.push(format!("time {operator} {text}"));
        }
        conditions
    }

    fn time(&mut self, seconds: i64) -> String {
        let seconds = seconds + self.later;
        let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        match self.random.below(6) {
            0 => format!("{}", seconds * 1_000_000_000),
            1 => format!("{seconds}s"),
            2 => format!("{}ms", seconds * 1000),
            3 => format!("'{}'", time.format("%Y-%m-%d %H:%M:%S")),
            _ => format!("'{}'", time.format("%Y-%m-%dT%H:%M:%SZ")),
        }
    }

    fn tag_condition(&mut self) -> Option<String> {
        if self.table.tags.is_empty() {
            return None;
        }
        let tag = self.random.one(self.table.tags);
        Some(match self.random.below(9) {
            0 => format!("{tag} = 'a'"),
            1 => format!("{tag} != 'a'"),
            2 => format!("{tag} =~ /^(a|b)$/"),
            3 => format!("{tag} !~ /a|w/"),
            4 => format!("{tag} = ''"),
            5 => format!("{tag} != ''"),
            6 => format!("{tag} =~ /.*/"),
            7 => format!("({tag} = 'b' OR {tag} = 'west')"),
            _ => format!("{tag}::tag =~ /e/"),
        })
    }

    fn row_condition(&mut self) -> String {
        let name = self.number();
        match self.random.below(13) {
            0 => format!("{name} > {}", self.random.between(-5, 20)),
            1 => format!("{name} <= {}.5", self.random.between(-5, 20)),
            2 => format!("{name} = {}", self.random.between(-5, 20)),
            3 => format!("{name} != {}", self.random.between(-5, 20)),
            4 => format!("{name} * 2 > {}", self.random.between(-5, 20)),
            5 if !self.table.others.is_empty() => "ok = true".to_owned(),
            6 if !self.table.others.is_empty() => "note != ''".to_owned(),
            7 if !self.table.others.is_empty() => "note =~ /y/".to_owned(),
            8 => format!("({name} > 3 OR {name} < 0)"),
            9 => "nosuch = 1".to_owned(),
            10 => format!("{name} = 'x'"),
            11 => format!("{name} > {}", self.number()),
            _ => self.tag_condition().unwrap_or_else(|| format!("{name} >= 0")),
        }
    }

    fn conditions(&mut self, must_end: bool) -> (Vec<String>, bool) {
        let mut conditions = self.times(must_end);
        if self.random.percent(35) {
            conditions.extend(self.tag_condition());
        }
        if self.random.percent(25) {
            let condition = self.row_condition();
            conditions.push(condition);
        }
        (conditions, self.random.percent(6))
    }

    fn tag_groups(&mut self, chance: u64) -> Vec<String> {
        let mut groups = Vec::new();
        if self.random.percent(chance) {
            match self.random.below(12) {
                0 => groups.push("*".to_owned()),
                1 => groups.push("/o/".to_owned()),
                2 => groups.push("nosuch".to_owned()),
                3 => groups.push(self.number().to_owned()),
                4 => groups.extend(self.table.tags.iter().map(|tag| (*tag).to_owned())),
                _ if self.table.tags.is_empty() => {}
                _ => groups.push(self.random.one(self.table.tags).to_owned()),
            }
        }
        groups
    }

    fn limits(&mut self, has_groups: bool, clauses: &mut Vec<String>) {
        if self.random.percent(30) {
            clauses.push("ORDER BY time DESC".to_owned());
        }
        if self.random.percent(20) {
            clauses.push(format!("LIMIT {}", self.random.between(1, 6)));
        }
        if self.random.percent(8) {
            clauses.push(format!("OFFSET {}", self.random.between(1, 5)));
        }
        if has_groups && self.random.percent(8) {
            clauses.push(format!("SLIMIT {}", self.random.between(1, 3)));
            if self.random.percent(30) {
                clauses.push("SOFFSET 1".to_owned());
            }
        }
    }

    fn rows(&mut self) -> Select {
        let mut fields = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let field = match self.random.below(14) {
                0 => plain("*"),
                1 => plain("*::field"),
                2 => plain("/u|l/"),
                3 | 4 => self.arithmetic(|maker| plain(maker.field())),
                5 => {
                    let name = self.number();
                    let function =
                        self.random.one(&["ceil", "floor", "round", "sqrt", "abs", "sin", "exp", "ln", "log2"]);
                    Field { text: format!("{function}({name})"), parts: vec![plain(name)] }
                }
                6 => {
                    let name = self.field();
                    Field { text: format!("{name} AS x"), parts: vec![plain(name)] }
                }
                7 if !self.table.tags.is_empty() => plain(self.random.one(self.table.tags)),
                8 => plain("time"),
                _ => plain(self.field()),
            };
            fields.push(field);
        }
        let (conditions, is_or) = self.conditions(false);
        let groups = self.tag_groups(30);
        let mut clauses = Vec::new();
        if self.random.percent(15) {
            clauses.push(format!("fill({})", self.random.one(&["previous", "0", "1.5", "null"])));
        }
        self.limits(!groups.is_empty(), &mut clauses);
        Select { fields, sources: self.sources(), conditions, is_or, groups, clauses }
    }

    fn arithmetic(&mut self, mut part: impl FnMut(&mut Self) -> Field) -> Field {
        let left = part(self);
        let operator = self.random.one(&["+", "-", "*", "/", "%", "+", "/", "&"]);
        match self.random.below(4) {
            0 => {
                let number = self.random.one(&["2", "0.5", "0", "-3", "100"]);
                Field { text: format!("{} {operator} {number}", left.text), parts: vec![left] }
            }
            1 => {
                let number = self.random.one(&["2", "0.5", "1000"]);
                Field { text: format!("{number} {operator} {}", left.text), parts: vec![left] }
            }
            2 => Field { text: format!("-{}", left.text), parts: vec![left] },
            _ => {
                let right = part(self);
                Field { text: format!("({} {operator} {})", left.text, right.text), parts: vec![left, right] }
            }
        }
    }

    fn aggregate(&mut self) -> Field {
        let name = self.field();
        let argument = match self.random.below(14) {
            0 => "*".to_owned(),
            1 => "/u/".to_owned(),
            _ => name,
        };
        let function = self.random.one(&[
            "count",
            "sum",
            "mean",
            "median",
            "mode",
            "spread",
            "stddev",
            "first",
            "last",
            "min",
            "max",
            "count",
            "mean",
            "max",
            "percentile",
            "count distinct",
            "distinct",
            "integral",
        ]);
        plain(match function {
            "percentile" => {
                format!("percentile({argument}, {})", self.random.one(&["0", "10", "50", "99", "100", "33.3"]))
            }
            "count distinct" => format!("count(distinct({argument}))"),
            "integral" => format!("integral({argument}{})", self.random.one(&["", ", 10s", ", 1m"])),
            _ => format!("{function}({argument})"),
        })
    }

    /// `GROUP BY time()` with an interval that fits the measurement.
    fn interval(&mut self) -> String {
        match self.table.name {
            "clock" => {
                self.random.one(&["time(1h)", "time(1d)", "time(12h)", "time(1w)", "time(5h, 1h)", "time(1d, 6h)"])
            }
            "gap" => self.random.one(&["time(1h)", "time(1000s)", "time(1d)"]),
            _ => self.random.one(&[
                "time(10s)",
                "time(30s)",
                "time(20s)",
                "time(1m)",
                "time(7s)",
                "time(30s, 10s)",
                "time(1m, -15s)",
                "time(1h)",
            ]),
        }
        .to_owned()
    }

    fn fill(&mut self, clauses: &mut Vec<String>) {
        if self.random.percent(60) {
            let fill = self.random.one(&["null", "none", "previous", "linear", "0", "-1.5", "100", "none"]);
            clauses.push(format!("fill({fill})"));
        }
    }

    fn grouped(&mut self, fields: Vec<Field>, by_time: u64) -> Select {
        let has_window = self.random.percent(by_time);
        let (conditions, is_or) = self.conditions(has_window);
        let mut groups = self.tag_groups(50);
        let mut clauses = Vec::new();
        let has_tags = !groups.is_empty();
        if has_window {
            let interval = self.interval();
            let place = self.random.below(groups.len() as u64 + 1) as usize;
            groups.insert(place, interval);
            self.fill(&mut clauses);
        } else if self.random.percent(10) {
            self.fill(&mut clauses);
        }
        self.limits(has_tags, &mut clauses);
        if self.table.name == "clock" && self.random.percent(60) {
            let zone = self.random.one(&["America/New_York", "Europe/Berlin", "Asia/Kolkata", "UTC"]);
            clauses.push(format!("tz('{zone}')"));
        }
        Select { fields, sources: self.sources(), conditions, is_or, groups, clauses }
    }

    fn aggregates(&mut self) -> Select {
        let mut fields = Vec::new();
        for _ in 0..self.random.one(&["1", "1", "2", "3"]).parse().unwrap() {
            fields.push(match self.random.below(8) {
                0 => self.arithmetic(Self::aggregate),
                1 => {
                    let aggregate = self.aggregate();
                    Field { text: format!("{} AS a", aggregate.text), parts: vec![aggregate] }
                }
                2 => {
                    let aggregate = self.aggregate();
                    Field { text: format!("round({})", aggregate.text), parts: vec![aggregate] }
                }
                _ => self.aggregate(),
            });
        }
        self.grouped(fields, 60)
    }

    fn transforms(&mut self) -> Select {
        let over_time = self.random.percent(60);
        let mut fields = Vec::new();
        for _ in 0..self.random.one(&["1", "1", "1", "2"]).parse().unwrap() {
            let inner = if over_time { self.aggregate() } else { plain(self.field()) };
            let mut field = self.transform(&inner.text, inner.clone());
            if over_time && self.random.percent(12) {
                let text = field.text.clone();
                field = self.transform(&text, field);
            }
            fields.push(field);
            if over_time && self.random.percent(15) {
                let aggregate = self.aggregate();
                fields.push(aggregate);
            }
        }
        self.grouped(fields, if over_time { 97 } else { 2 })
    }

    fn transform(&mut self, of: &str, inner: Field) -> Field {
        let text = match self.random.below(14) {
            0 => format!("derivative({of})"),
            1 => format!("derivative({of}, 10s)"),
            2 => format!("non_negative_derivative({of}, 1m)"),
            3 => format!("difference({of})"),
            4 => format!("non_negative_difference({of})"),
            5 => format!("moving_average({of}, 2)"),
            6 => format!("moving_average({of}, 3)"),
            7 => format!("cumulative_sum({of})"),
            8 => format!("elapsed({of}, 1s)"),
            9 => format!("elapsed({of})"),
            10 => format!("exponential_moving_average({of}, 3)"),
            11 => format!("chande_momentum_oscillator({of}, 4)"),
            12 => format!("relative_strength_index({of}, 3)"),
            _ => format!("kaufmans_efficiency_ratio({of}, 3)"),
        };
        Field { text, parts: vec![inner] }
    }

    fn selector_with_fields(&mut self) -> Select {
        let name = self.field();
        let selector = match self.random.below(5) {
            0 => format!("first({name})"),
            1 => format!("last({name})"),
            2 => format!("min({name})"),
            3 => format!("max({name})"),
            _ => format!("percentile({name}, 50)"),
        };
        let mut fields = vec![plain(selector)];
        for _ in 0..self.random.between(1, 2) {
            let field = if self.random.percent(30) && !self.table.tags.is_empty() {
                plain(self.random.one(self.table.tags))
            } else {
                plain(self.field())
            };
            let place = self.random.below(fields.len() as u64 + 1) as usize;
            fields.insert(place, field);
        }
        self.grouped(fields, 40)
    }

    fn best(&mut self) -> Select {
        let function = self.random.one(&["top", "bottom"]);
        let (name, count) = (self.field(), self.random.between(1, 5));
        let tags = match self.random.below(4) {
            0 if !self.table.tags.is_empty() => format!(", {}", self.random.one(self.table.tags)),
            1 => self.table.tags.iter().map(|tag| format!(", {tag}")).collect(),
            _ => String::new(),
        };
        let mut fields = vec![plain(format!("{function}({name}{tags}, {count})"))];
        if self.random.percent(25) {
            let field = plain(self.field());
            fields.push(field);
        }
        self.grouped(fields, 30)
    }

    fn around_a_subquery(&mut self) -> Select {
        let mut inner = match self.random.below(4) {
            0 => self.rows(),
            1 => self.selector_with_fields(),
            2 => self.transforms(),
            _ => self.aggregates(),
        };
        inner.clauses.retain(|clause| !clause.starts_with("tz") && !clause.starts_with("ORDER"));
        // Names of the columns that the subquery makes, by giving them.
        for (n, field) in inner.fields.iter_mut().enumerate() {
            let is_whole = field.text == "time" || field.text.contains(['*', '~']) || field.text.starts_with('/');
            if !is_whole && !field.text.contains(" AS ") && !field.text.contains("(/") {
                *field = Field { text: format!("{} AS c{n}", field.text), parts: Vec::new() };
            }
        }
        let column = |random: &mut Random| random.one(&["c0", "c0", "c0", "c1", "a", "x"]).to_owned();
        let mut fields = Vec::new();
        let kind = self.random.below(3);
        for _ in 0..self.random.between(1, 2) {
            let name = column(self.random);
            fields.push(plain(match kind {
                0 => {
                    let function =
                        self.random.one(&["count", "sum", "mean", "min", "max", "spread", "median", "stddev"]);
                    format!("{function}({name})")
                }
                1 => name,
                _ => self.random.one(&["*", "c0 + 1", "c0, c1", "c0 * 2 AS d"]).to_owned(),
            }));
        }
        let (mut conditions, is_or) = self.conditions(true);
        if self.random.percent(20) {
            conditions.push(self.random.one(&["c0 > 0", "c0 != 1", "c0 < 10.5"]).to_owned());
        }
        let mut groups = self.tag_groups(40);
        let mut clauses = Vec::new();
        if kind == 0 && self.random.percent(40) {
            let interval = self.interval();
            groups.push(interval);
            self.fill(&mut clauses);
        }
        if self.random.percent(15) {
            clauses.push("LIMIT 3".to_owned());
        }
        let mut sources = vec![Source::Query(Box::new(inner))];
        if self.random.percent(6) {
            sources.push(Source::Name(self.table.name.to_owned()));
        }
        Select { fields, sources, conditions, is_or, groups, clauses }
    }

    /// Parts that need not go together: for what is refused, and how.
    fn anything(&mut self) -> Select {
        let mut fields = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let field = match self.random.below(7) {
                0 => self.aggregate(),
                1 => plain(self.field()),
                2 => {
                    let inner = self.aggregate();
                    self.transform(&inner.text.clone(), inner)
                }
                3 => plain(self.random.one(&[
                    "bad(usage)",
                    "mean(usage, 2)",
                    "top(usage)",
                    "max(1)",
                    "'x'",
                    "1 + 1",
                    "now()",
                ])),
                4 => plain(self.random.one(&[
                    "count(mean(usage))",
                    "sample(usage)",
                    "elapsed(usage, 2)",
                    "percentile(usage)",
                ])),
                5 => plain("usage & 1"),
                _ => plain("note + 1"),
            };
            fields.push(field);
        }
        self.grouped(fields, 40)
    }
}

fn show(random: &mut Random) -> Vec<String> {
    let mut clauses = Vec::new();
    let from = |random: &mut Random| random.one(&["cpu", "mem", "/c|m/", "disk, cpu", "nosuch", "\"o dd\""]).to_owned();
    let condition = |random: &mut Random| {
        random
            .one(&[
                "host = 'a'",
                "host != 'a'",
                "host =~ /a|b/",
                "region = ''",
                "region != ''",
                "host = 'a' AND region = 'west'",
                "host = 'b' OR host = 'c'",
                "nosuch = 'x'",
                "nosuch = ''",
                "rack !~ /1/",
            ])
            .to_owned()
    };
    let what = random.one(&[
        "SHOW MEASUREMENTS",
        "SHOW TAG KEYS",
        "SHOW TAG VALUES",
        "SHOW FIELD KEYS",
        "SHOW SERIES",
        "SHOW TAG KEY EXACT CARDINALITY",
        "SHOW FIELD KEY EXACT CARDINALITY",
        "SHOW SERIES EXACT CARDINALITY",
        "SHOW TAG VALUES EXACT CARDINALITY",
        "SHOW MEASUREMENT EXACT CARDINALITY",
    ]);
    clauses.push(what.to_owned());
    if random.percent(15) {
        clauses.push("ON orb".to_owned());
    }
    if what == "SHOW MEASUREMENTS" {
        if random.percent(40) {
            clauses
                .push(format!("WITH MEASUREMENT {}", random.one(&["= cpu", "=~ /c/", "=~ /^(mem|gap)$/", "= nosuch"])));
        }
    } else if random.percent(60) {
        clauses.push(format!("FROM {}", from(random)));
    }
    if what.starts_with("SHOW TAG VALUES") {
        let keys = random.one(&[
            "= host",
            "= region",
            "IN (host, rack)",
            "!= host",
            "=~ /o/",
            "!~ /o/",
            "= nosuch",
            "= \"k y\"",
        ]);
        let last = clauses.len() - 1;
        // A part of the first clause, without which there is no statement.
        let _ = write!(clauses[last], " WITH KEY {keys}");
    }
    if random.percent(45) && what != "SHOW FIELD KEYS" && !what.contains("CARDINALITY") {
        clauses.push(format!("WHERE {}", condition(random)));
    }
    if !what.contains("CARDINALITY") {
        if random.percent(25) {
            clauses.push(format!("LIMIT {}", random.between(1, 3)));
        }
        if random.percent(15) {
            clauses.push("OFFSET 1".to_owned());
        }
    }
    clauses
}
