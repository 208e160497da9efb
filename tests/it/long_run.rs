//! Everything at once, for as long as one likes: writes, deletions, retention, tables that come and go, persists, compactions,
//! the removal of files, a clock that moves, a store that fails, orderly restarts and crashes, backups and lives that go on
//! from a restored one, and a mirror whose store fails, against a slow model.
//!
//! A life is one seed: an empty store, some hundred steps, and at the end a check of the whole store. It is the same each
//! time but for what runs in the background. `FLIGHTLINE_LONG_RUN_SECONDS` says for how long lives are begun,
//! `FLIGHTLINE_LONG_RUN_SEED` with which one to begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::{Clock, ManualClock, SystemClock};
use flightline::engine::backup::{BackupKind, BackupName, Backups, Location};
use flightline::engine::compaction::CompactionSettings;
use flightline::engine::mirror::MirrorSettings;
use flightline::engine::store::Store;
use flightline::engine::store::single_writer::{SingleWriterSettings, Writer};
use flightline::engine::verify::verify;
use flightline::engine::{EngineSettings, HardDelete};
use flightline::error::{ErrorKind, Result};
use flightline::model::{ColumnName, DatabaseName, RowSelection, TableName, TimeRange, Timestamp};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use uuid::Uuid;

use crate::harness::database::{DATABASE, TestDatabase};
use crate::harness::store::{FaultRates, FaultStore};
use crate::mirror::image;

const TABLES: [&str; 3] = ["cpu", "disk", "net"];
const HOSTS: [&str; 4] = ["a", "b", "c", "d"];
const START: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;
const STEPS: u64 = 150;

/// A request to a store that fails now and then comes through at the latest after so many tries.
const TRIES_MAX: usize = 200;

/// Host and time; integer and text. A field that was never written is not there.
type Rows = BTreeMap<(Option<&'static str>, i64), (Option<i64>, Option<String>)>;

#[derive(Debug, Default)]
struct Table {
    rows: Rows,
    /// Hours for which a row is seen. It only ever shrinks: what has expired may be gone for good.
    hours: Option<i64>,
}

struct Life {
    seed: u64,
    random: Random,
    database: TestDatabase,
    clock: Arc<ManualClock>,
    faults: Arc<FaultStore>,
    is_faulty: bool,
    /// The store of its mirror, which fails now and then throughout.
    mirror: Arc<FaultStore>,
    /// Where its backups are.
    backups: Store,
    backup_count: usize,
    tables: BTreeMap<&'static str, Table>,
}

/// A generator that needs nothing and repeats itself from one seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn any_life_answers_like_the_model() {
    let clock = SystemClock::new();
    let time = Duration::from_secs(number_from("FLIGHTLINE_LONG_RUN_SECONDS", 20));
    let first = number_from("FLIGHTLINE_LONG_RUN_SEED", 1);
    let mut lives = 0;
    for seed in first.. {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(seed));
        runtime.shutdown_background();
        lives += 1;
        if clock.elapsed() > time {
            break;
        }
    }
    println!("{lives} lives of {STEPS} steps");
}

async fn live(seed: u64) {
    let mut life = Life::begin(seed).await;
    for _ in 0..STEPS {
        life.step().await;
        if life.random.below(3) == 0 {
            life.check().await;
        }
    }
    life.heal();
    life.check().await;
    life.database.restart().await;
    life.check().await;
    life.mirror.heal();
    life.database.close().await.unwrap();
    for faults in [&life.faults, &life.mirror] {
        let store = Store::new(Arc::clone(faults) as Arc<dyn ObjectStore>, "test");
        let mut problems = Vec::new();
        let clock = Arc::clone(&life.clock) as Arc<dyn Clock>;
        verify(&store, clock, &mut |problem| problems.push(problem.to_string())).await.unwrap().expect("a catalog");
        assert!(problems.is_empty(), "seed {seed}: {problems:?}");
    }
    let mirror = Store::new(Arc::clone(&life.mirror) as Arc<dyn ObjectStore>, "mirror");
    let clock = Arc::clone(&life.clock) as Arc<dyn Clock>;
    let promoted = TestDatabase::with(image(&mirror).await, TestDatabase::settings(), clock).await;
    life.check_database(&promoted).await;
}

impl Life {
    async fn begin(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(START)));
        let (database, faults, mirror) = open(seed, Arc::new(InMemory::new()), &clock).await;
        Self {
            seed,
            random: Random(seed),
            database,
            clock,
            faults,
            is_faulty: false,
            mirror,
            backups: Store::in_memory(),
            backup_count: 0,
            tables: BTreeMap::new(),
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.write().await,
            45..52 => self.delete_rows().await,
            52..55 => self.set_retention().await,
            55..57 => self.drop_table().await,
            57..66 => self.background(self.database.engine().persist_all().await),
            66..73 => self.background(self.database.engine().compact_all().await),
            73..79 => self.background(self.database.engine().collect_garbage().await.map(drop)),
            79 => self.jump().await,
            80..86 => self.clock.advance(Duration::from_nanos(self.random.below(2 * HOUR as u64))),
            86..91 if self.is_faulty => self.heal(),
            86..91 => {
                let (before, after_commit) = (self.random.below(60) as u32, self.random.below(60) as u32);
                self.faults.set_rates(FaultRates { before, after_commit, ..FaultRates::default() });
                self.is_faulty = true;
            }
            91 => self.back_up_and_restore().await,
            92..95 => {
                self.heal();
                self.database.restart().await;
            }
            _ => {
                self.heal();
                self.database.crash().await;
            }
        }
    }

    /// The clock is set far ahead or back, background work goes on and the process may restart; then the clock is right again.
    async fn jump(&mut self) {
        let by = (1 + self.random.below(10_000) as i64) * 24 * HOUR;
        let by = if self.random.below(3) == 0 { -by } else { by };
        self.clock.jump(by);
        for _ in 0..self.random.below(6) {
            match self.random.below(5) {
                0 => self.write().await,
                1 => self.background(self.database.engine().persist_all().await),
                2 => self.background(self.database.engine().compact_all().await),
                3 => {
                    self.heal();
                    self.database.crash().await;
                }
                _ => self.background(self.database.engine().collect_garbage().await.map(drop)),
            }
        }
        // By a clock that is behind, rows are to be seen that may have gone already.
        if by > 0 {
            self.check().await;
        }
        self.clock.jump(-by);
    }

    fn heal(&mut self) {
        self.faults.heal();
        self.is_faulty = false;
    }

    /// Work that is tried again later by itself.
    fn background(&self, result: Result<()>) {
        if let Err(error) = result {
            assert!(self.is_faulty, "seed {}: {}", self.seed, error.report());
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_nanos()
    }

    fn time(&mut self) -> i64 {
        // Few times, so that points meet; around now, so that some expire; rarely long ago.
        let hours = if self.random.below(10) == 0 { self.random.below(2000) } else { self.random.below(40) };
        self.now() / HOUR * HOUR - hours as i64 * HOUR + self.random.below(3) as i64
    }

    async fn write(&mut self) {
        let mut lines = String::new();
        for _ in 0..=self.random.below(12) {
            let (table, time) = (self.random.pick(&TABLES), self.time());
            let host = (self.random.below(8) > 0).then(|| self.random.pick(&HOSTS));
            let number = (self.random.below(3) > 0).then(|| self.random.below(1000) as i64);
            let text = (number.is_none() || self.random.below(2) == 0).then(|| format!("t{}", self.random.below(50)));
            let fields: Vec<String> = number
                .map(|n| format!("n={n}i"))
                .into_iter()
                .chain(text.as_ref().map(|t| format!("s=\"{t}\"")))
                .collect();
            let tags = host.map(|host| format!(",host={host}")).unwrap_or_default();
            lines += &format!("{table}{tags} {} {time}\n", fields.join(","));
            let row = self.tables.entry(table).or_default().rows.entry((host, time)).or_default();
            row.0 = number.or(row.0);
            row.1 = text.or(row.1.take());
        }
        let database = &self.database;
        self.until_done(|| database.try_write(&lines)).await;
    }

    async fn delete_rows(&mut self) {
        let Some(name) = self.some_table() else { return };
        let (a, b) = (self.time(), self.time());
        let (first, last) = (a.min(b), a.max(b));
        let host = (self.random.below(2) == 0).then(|| self.random.pick(&HOSTS));
        let table = self.tables.get_mut(name).unwrap();
        table.rows.retain(|(of, time), _| !(first..=last).contains(time) || host.is_some_and(|host| *of != Some(host)));
        let tags = host.map(|host| (ColumnName::new("host").unwrap(), Some(host.to_owned())));
        let rows = RowSelection { time: TimeRange::from_nanos(first, last), tags: tags.into_iter().collect() };
        let (database, table, engine) = (database(), TableName::new(name).unwrap(), self.database.engine());
        self.until_done(|| engine.delete_rows(&database, &table, [rows.clone()])).await;
    }

    async fn set_retention(&mut self) {
        let Some(name) = self.some_table() else { return };
        let table = self.tables.get_mut(name).unwrap();
        let hours = 10 + self.random.below(30) as i64;
        let hours = table.hours.map_or(hours, |before| before.min(hours));
        table.hours = Some(hours);
        let period = Some(Duration::from_nanos((hours * HOUR) as u64));
        let (database, table, engine) = (database(), TableName::new(name).unwrap(), self.database.engine());
        self.until_done(|| engine.set_retention(&database, Some(&table), period)).await;
    }

    async fn drop_table(&mut self) {
        let Some(name) = self.some_table() else { return };
        self.tables.remove(name);
        let (database, table, engine) = (database(), TableName::new(name).unwrap(), self.database.engine());
        self.until_done(|| async {
            match engine.delete_table(&database, &table, HardDelete::Default).await {
                // An earlier try, whose answer was lost, did it.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })
        .await;
    }

    /// Takes a backup, looks at what it restores, and now and then goes on from there.
    async fn back_up_and_restore(&mut self) {
        self.heal();
        // Nobody else wants the lock: no need to wait for one who might.
        let lock = SingleWriterSettings { settle: Duration::ZERO, ..SingleWriterSettings::default() };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let place = || Location::new(self.backups.clone(), Arc::clone(&clock)).with_lock(lock);
        let writer = Writer { node: "test".to_owned(), directory: Uuid::from_u128(1) };
        let backups = Arc::new(Backups::new(Arc::clone(self.database.engine()), place(), writer));
        let name = BackupName::new(&format!("b{}", self.backup_count)).unwrap();
        let backup = backups.create(Some(name), BackupKind::Incremental).await.unwrap();
        backups.stop().await;

        let objects = Arc::new(InMemory::new());
        let store = Store::new(Arc::clone(&objects) as Arc<dyn ObjectStore>, "restored");
        place().restore(&backup, &store).await.unwrap();
        let (database, faults, mirror) = open(self.seed, objects, &self.clock).await;
        self.backup_count += 1;
        self.check_database(&database).await;
        if self.random.below(2) == 0 {
            (self.database, self.faults, self.mirror) = (database, faults, mirror);
        }
    }

    fn some_table(&mut self) -> Option<&'static str> {
        let known: Vec<&'static str> = self.tables.keys().copied().collect();
        (!known.is_empty()).then(|| self.random.pick(&known))
    }

    /// Asks until it is done: what failed has happened or not, and asking again is safe.
    async fn until_done<F: Future<Output = Result<()>>>(&self, ask: impl Fn() -> F) {
        for _ in 0..TRIES_MAX {
            match ask().await {
                Ok(()) => return,
                Err(error) => assert!(self.is_faulty, "seed {}: {}", self.seed, error.report()),
            }
        }
        panic!("seed {}: not done in {TRIES_MAX} tries", self.seed);
    }

    async fn check(&self) {
        self.check_database(&self.database).await;
    }

    async fn check_database(&self, database: &TestDatabase) {
        for name in TABLES {
            let sql = format!("SELECT host, CAST(time AS BIGINT), n, s FROM {name}");
            let mut tries = 0;
            let found = loop {
                match database.rows(&sql).await {
                    Err(_) if self.is_faulty && tries < TRIES_MAX => tries += 1,
                    other => break other,
                }
            };
            let Some(table) = self.tables.get(name) else {
                let error = found.expect_err("the table was dropped or never written");
                assert!(error.report().contains("not found"), "seed {}: {}", self.seed, error.report());
                continue;
            };
            let mut found = match found {
                Ok(found) => found,
                // A column that no row had so far is not there.
                Err(error) if error.report().contains("No field named") => continue,
                Err(error) => panic!("seed {}: {}", self.seed, error.report()),
            };
            found.sort();
            let from = table.hours.map_or(i64::MIN, |hours| self.now() - hours * HOUR);
            let seen = table.rows.iter().filter(|((_, time), _)| *time >= from);
            let mut expected: Vec<Vec<Option<String>>> = seen
                .map(|((host, time), (number, text))| {
                    let number = number.map(|number| number.to_string());
                    vec![host.map(str::to_owned), Some(time.to_string()), number, text.clone()]
                })
                .collect();
            expected.sort();
            assert_eq!(found, expected, "seed {}: {name}", self.seed);
        }
    }
}

/// A database on these objects, on disk or with the log in the store, as the seed says.
async fn open(
    seed: u64,
    objects: Arc<InMemory>,
    clock: &Arc<ManualClock>,
) -> (TestDatabase, Arc<FaultStore>, Arc<FaultStore>) {
    let faults = FaultStore::new(objects, seed);
    let store = Store::new(Arc::clone(&faults) as Arc<dyn ObjectStore>, "test");
    let compaction = CompactionSettings { is_on: false, settle: Duration::ZERO, ..CompactionSettings::default() };
    let mirror = FaultStore::new(Arc::new(InMemory::new()), seed);
    mirror.set_rates(FaultRates { before: 20, after_commit: 20, ..FaultRates::default() });
    let followed = MirrorSettings {
        interval: Duration::from_millis(2),
        patience: Duration::from_secs(60),
        ..MirrorSettings::new(Store::new(Arc::clone(&mirror) as Arc<dyn ObjectStore>, "mirror"), None)
    };
    let settings = EngineSettings {
        compaction,
        delete_grace: Duration::from_secs(60),
        mirror: Some(followed),
        ..EngineSettings::default()
    };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let database = match seed % 2 {
        0 => TestDatabase::with(store, settings, clock).await,
        _ => TestDatabase::diskless(store, settings, clock).await,
    };
    (database, faults, mirror)
}

fn database() -> DatabaseName {
    DatabaseName::new(DATABASE).unwrap()
}
