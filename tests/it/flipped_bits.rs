//! One bit flips in a stored object, of every kind there is: that is found and the object is named, or no answer changes.
//!
//! The kinds are those of the list in `src/engine/store/paths.rs`, and the files of a log on a disk. Every scene stores some of
//! them, flips bits at random places (`FLIGHTLINE_FLIPS` of each kind, seeded by `PROPTEST_RNG_SEED`), and looks at what
//! the check of the store and a server on it then say. Each kind has to occur, so that a new one is not forgotten.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flightline::clock::{Clock, SystemClock};
use flightline::engine::backup::{BackupKind, BackupName, Backups, Location, Which};
use flightline::engine::mirror::MirrorSettings;
use flightline::engine::mirror::promote::promote;
use flightline::engine::store::Store;
use flightline::engine::store::single_writer::{SingleWriter, SingleWriterSettings, Writer};
use flightline::engine::verify::verify;
use flightline::engine::{EngineSettings, HardDelete};
use flightline::error::{Error, ErrorKind};
use flightline::model::{DatabaseName, TableName};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::harness::database::{DATABASE, TestDatabase};

/// Each kind with the scene in which its bits flip.
const KINDS: [(&str, Scene); 12] = [
    ("catalog/log/{sequence:020}", Scene::Store),
    ("catalog/checkpoint/{sequence:020}", Scene::Store),
    ("catalog/trimmed", Scene::Store),
    ("dbs/{database}-{name}/{table}-{name}/{day}/{file:010}.parquet", Scene::Store),
    ("wal/{epoch:010}/{index:010}", Scene::LogInStore),
    ("catalog/mirror", Scene::Mirror),
    ("catalog/writer", Scene::Lock),
    ("backups/{name}/manifest", Scene::Backups),
    ("backups/{name}/{id}.catalog", Scene::Backups),
    ("files/{set}/dbs/...", Scene::Backups),
    ("{sequence:020}.wal", Scene::LogOnDisk),
    ("check/{id}/{name}", Scene::Scratch),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Store,
    LogInStore,
    LogOnDisk,
    Mirror,
    Backups,
    Lock,
    /// Nobody reads it but who wrote it a moment before, to find out whether the store gives back what it was given.
    Scratch,
}

/// The objects of a store.
type Objects = BTreeMap<Path, Vec<u8>>;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn flips() -> usize {
    std::env::var("FLIGHTLINE_FLIPS").map_or(24, |text| text.parse().expect("a number"))
}

/// Random numbers by splitmix64.
struct Random(u64);

impl Random {
    fn of(scene: Scene) -> Self {
        let seed: u64 = std::env::var("PROPTEST_RNG_SEED").map_or(1, |text| text.parse().expect("a number"));
        Self(seed * 100 + scene as u64)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// A random bit of one of these objects; `number` 0 is of the first byte, 1 of the last.
    fn flip(&mut self, found: &[(&Path, usize)], number: usize) -> Flip {
        let (path, length) = found[self.below(found.len())];
        let byte = match number {
            0 => 0,
            1 => length - 1,
            _ => self.below(length),
        };
        Flip { path: path.to_string(), byte, bit: self.below(8) }
    }
}

/// Which kind an object is of.
fn kind_of(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').collect();
    let kind = match parts.as_slice() {
        ["catalog", "log", _] => "catalog/log/{sequence:020}",
        ["catalog", "checkpoint", _] => "catalog/checkpoint/{sequence:020}",
        ["wal", _, _] => "wal/{epoch:010}/{index:010}",
        ["dbs", _, _, _, _] => "dbs/{database}-{name}/{table}-{name}/{day}/{file:010}.parquet",
        ["backups", _, "manifest"] => "backups/{name}/manifest",
        ["backups", _, _] => "backups/{name}/{id}.catalog",
        ["files", _, "dbs", ..] => "files/{set}/dbs/...",
        [name] if name.ends_with(".wal") => "{sequence:020}.wal",
        _ => path,
    };
    KINDS.iter().map(|(known, _)| *known).find(|known| *known == kind).unwrap_or_else(|| {
        panic!("\"{path}\" is of a kind that no scene flips: add it to KINDS and to a scene");
    })
}

#[test]
fn every_kind_of_object_has_its_scene() {
    let listed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/store/paths.rs")).unwrap();
    let mut blocks = listed.split("```");
    let mut kinds = Vec::new();
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let lines = block.lines().filter_map(|line| line.strip_prefix("//! "));
        kinds.extend(lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
    assert!(kinds.len() >= 11, "{kinds:?}");
    for kind in kinds {
        assert!(KINDS.iter().any(|(known, _)| *known == kind), "no scene flips \"{kind}\"");
    }
}

async fn objects(store: &Store) -> Objects {
    let paths: Vec<Path> = store.objects().list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    let mut objects = Objects::new();
    for path in paths {
        let bytes = store.objects().get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        objects.insert(path, bytes);
    }
    objects
}

async fn store_of(objects: &Objects) -> Store {
    let store = Store::in_memory();
    for (path, bytes) in objects {
        store.objects().put(path, bytes.clone().into()).await.unwrap();
    }
    store
}

/// A flipped bit of an object.
#[derive(Debug, Clone)]
struct Flip {
    path: String,
    byte: usize,
    bit: usize,
}

impl Flip {
    fn apply(&self, objects: &Objects) -> Objects {
        let mut flipped = objects.clone();
        flipped.get_mut(&Path::from(self.path.as_str())).unwrap()[self.byte] ^= 1 << self.bit;
        flipped
    }

    /// Whether a text names the object.
    fn is_named(&self, text: &str) -> bool {
        text.contains(self.path.rsplit('/').next().unwrap())
    }
}

/// Bits at random places of random objects, as many of each kind of this scene; of each kind the first byte and the last.
fn chosen(scene: Scene, objects: &Objects) -> Vec<Flip> {
    let mut random = Random::of(scene);
    let mut of_kind: BTreeMap<&str, Vec<(&Path, usize)>> = BTreeMap::new();
    for (path, bytes) in objects.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        of_kind.entry(kind_of(path.as_ref())).or_default().push((path, bytes.len()));
    }
    let mut chosen = Vec::new();
    for (kind, _) in KINDS.iter().filter(|(_, of)| *of == scene) {
        let found = of_kind.get(kind).unwrap_or_else(|| panic!("{scene:?} has nothing of the kind \"{kind}\""));
        for number in 0..flips().max(2) {
            chosen.push(random.flip(found, number));
        }
    }
    chosen
}

fn settings() -> EngineSettings {
    EngineSettings { delete_grace: Duration::from_secs(3600), ..TestDatabase::settings() }
}

const QUESTIONS: [&str; 5] = [
    "SELECT k, n, f, time FROM t ORDER BY time, k",
    "SELECT count(*), sum(n), max(f) FROM t WHERE time < '1970-01-01T00:00:01'",
    "SELECT n FROM u ORDER BY n",
    "SELECT count(*) FROM u",
    "SELECT table_name, deleted FROM system.tables WHERE NOT deleted ORDER BY table_name",
];

/// The answer to each question, or why there is none.
async fn answers(database: &TestDatabase) -> Vec<Result<Vec<String>, Error>> {
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let rows = database.rows(question).await;
        answers.push(rows.map(|rows| {
            let text = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
            rows.into_iter().map(|row| text(row).join(" ")).collect()
        }));
    }
    answers
}

async fn good_answers(database: &TestDatabase) -> Vec<Vec<String>> {
    answers(database).await.into_iter().map(Result::unwrap).collect()
}

/// What a server on damaged objects says must be right, or an error that names the object. Returns whether all was answered.
async fn is_right(opened: Result<TestDatabase, Error>, expected: &[Vec<String>], flip: &Flip) -> bool {
    let database = match opened {
        Ok(database) => database,
        Err(error) => {
            check_error(&error, flip);
            return false;
        }
    };
    let mut is_answered = true;
    for (answer, expected) in answers(&database).await.into_iter().zip(expected) {
        match answer {
            Ok(rows) => assert_eq!(&rows, expected, "{flip:?}: a wrong answer"),
            Err(error) => {
                check_error(&error, flip);
                is_answered = false;
            }
        }
    }
    is_answered
}

fn check_error(error: &Error, flip: &Flip) {
    assert!(flip.is_named(&error.report()), "{flip:?} is not named: {}", error.report());
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{flip:?}: {}", error.report());
}

/// Whether the check of a store finds something, which must be the object.
async fn is_found(store: &Store, flip: &Flip) -> bool {
    let mut problems = Vec::new();
    match verify(store, clock(), &mut |problem| problems.push(problem.to_string())).await {
        Ok(verified) => {
            assert_eq!(verified.map(|verified| verified.problems), Some(problems.len()), "{flip:?}");
            assert!(problems.iter().all(|problem| flip.is_named(problem)), "{flip:?}: {problems:?}");
            !problems.is_empty()
        }
        Err(error) => {
            check_error(&error, flip);
            true
        }
    }
}

/// Rows in several files, some of them deleted, and a deleted table.
async fn fill(database: &TestDatabase) {
    let line = |n: u64| format!("t,k=k{} n={n}i,f={}.5 {}\n", n % 5, n * 3, n * 7 % 400 * 10_000_000);
    for part in 0..3 {
        database.write(&(part * 100..part * 100 + 150).map(line).collect::<String>()).await;
        database.write(&(0..40).map(|n| format!("u n={n}i {n}\n")).collect::<String>()).await;
        database.engine().persist_all().await.unwrap();
    }
    database.rows("DELETE FROM t WHERE k = 'k3'").await.unwrap();
    database.write("gone n=1i 1").await;
    let (name, gone) = (DatabaseName::new(DATABASE).unwrap(), TableName::new("gone").unwrap());
    database.engine().delete_table(&name, &gone, HardDelete::Never).await.unwrap();
}

fn location(place: &Store) -> Location {
    let lock = SingleWriterSettings { settle: Duration::ZERO, ..SingleWriterSettings::default() };
    Location::new(place.clone(), clock()).with_lock(lock)
}

async fn back_up(database: &TestDatabase, place: &Store, name: &str) {
    let writer = Writer { node: "test".to_owned(), directory: Uuid::from_u128(1) };
    let backups = Arc::new(Backups::new(Arc::clone(database.engine()), location(place), writer));
    backups.create(Some(BackupName::new(name).unwrap()), BackupKind::Incremental).await.unwrap();
}

/// A place with two backups, and what the first was made of.
async fn backed_up() -> (Store, Vec<Vec<String>>) {
    let place = Store::in_memory();
    let database = TestDatabase::with(Store::in_memory(), settings(), clock()).await;
    fill(&database).await;
    back_up(&database, &place, "one").await;
    let expected = good_answers(&database).await;
    database.write("later n=1i 1").await;
    back_up(&database, &place, "two").await;
    (place, expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_store() {
    // A restored store has everything that a store can have: it has lost the beginning of its log.
    let store = Store::in_memory();
    let (place, expected) = backed_up().await;
    let place = location(&place);
    let backup = place.find(&Which::Named(BackupName::new("one").unwrap())).await.unwrap();
    place.restore(&backup, &store).await.unwrap();
    let mut database = TestDatabase::with(store.clone(), settings(), clock()).await;
    database.write("u n=1000i 1000\nt,k=k0 n=7i,f=1 1").await;
    database.engine().persist_all().await.unwrap();
    let expected_before = expected;
    let expected = good_answers(&database).await;
    assert_ne!(expected, expected_before);
    database.stop_at_once();
    let whole = objects(&store).await;
    let mut unharmed = 0;
    for flip in chosen(Scene::Store, &whole) {
        let damaged = flip.apply(&whole);
        assert!(is_found(&store_of(&damaged).await, &flip).await, "{flip:?}: the check finds it");
        let opened = TestDatabase::try_with(store_of(&damaged).await, settings(), clock()).await;
        unharmed += usize::from(is_right(opened, &expected, &flip).await);
    }
    assert!(unharmed > 0, "one checkpoint takes the place of another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_log_in_the_store() {
    let store = Store::in_memory();
    let mut database = TestDatabase::diskless(store.clone(), settings(), clock()).await;
    fill(&database).await;
    for n in 0..5 {
        database.write(&format!("u n={}i {}\nt,k=k1 n={n}i,f=0 {n}", 2000 + n, 2000 + n)).await;
        if n == 2 {
            database.crash().await; // which ends an epoch
        }
    }
    let expected = good_answers(&database).await;
    database.stop_at_once();
    let whole = objects(&store).await;
    let mut refused = 0;
    for flip in chosen(Scene::LogInStore, &whole) {
        let damaged = flip.apply(&whole);
        assert!(is_found(&store_of(&damaged).await, &flip).await, "{flip:?}: the check finds it");
        let opened = TestDatabase::try_diskless(store_of(&damaged).await, settings(), clock()).await;
        refused += usize::from(!is_right(opened, &expected, &flip).await);
    }
    assert!(refused > 0);
}

fn copy(from: &FilePath, to: &FilePath) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The segments of a log, by their names.
fn segments(directory: &FilePath) -> Objects {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments
        .map(|path: PathBuf| (Path::from(path.file_name().unwrap().to_str().unwrap()), std::fs::read(path).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_log_on_a_disk() {
    let mut database = TestDatabase::new().await;
    fill(&database).await;
    for n in 0..5 {
        database.write(&format!("u n={}i {}\nt,k=k1 n={n}i,f=0 {n}", 2000 + n, 2000 + n)).await;
        if n == 2 {
            database.crash().await; // which begins another segment
        }
    }
    let expected = good_answers(&database).await;
    // When it has nothing to do, the log says that its last write is safe.
    let wal = database.directory().join("wal");
    let before: usize = segments(&wal).values().map(Vec::len).sum();
    let patience = SystemClock::new();
    while segments(&wal).values().map(Vec::len).sum::<usize>() == before && patience.elapsed() < Duration::from_secs(1)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    database.stop_at_once();
    let whole = segments(&wal);
    let last = whole.last_key_value().unwrap().0.to_string();
    let end = whole.last_key_value().unwrap().1.len() - 1;
    let in_the_mark = Flip { path: last.clone(), byte: end, bit: 0 };
    let mut harmless = 0;
    for flip in chosen(Scene::LogOnDisk, &whole).into_iter().chain([in_the_mark]) {
        let damaged = flip.apply(&whole);
        let from = database.directory();
        let opened = TestDatabase::try_on_files(|to| {
            copy(from, to);
            for (name, bytes) in &damaged {
                std::fs::write(to.join("wal").join(name.as_ref()), bytes).unwrap();
            }
        });
        if is_right(opened.await, &expected, &flip).await {
            // The mark, or what stands behind a write that counts.
            let length = whole[&Path::from(flip.path.as_str())].len();
            assert!(flip.path == last && flip.byte + 44 >= length, "{flip:?} is not found");
            harmless += 1;
        }
    }
    assert!((1..=flips() / 2).contains(&harmless), "{harmless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_place_for_backups() {
    let (place, expected) = backed_up().await;
    let whole = objects(&place).await;
    let two = BackupName::new("two").unwrap();
    for flip in chosen(Scene::Backups, &whole) {
        let store = store_of(&flip.apply(&whole)).await;
        let place = location(&store);
        let mut found = false;
        for name in [BackupName::new("one").unwrap(), two.clone()] {
            let backup = match place.find(&Which::Named(name.clone())).await {
                Ok(backup) => backup,
                Err(error) => {
                    check_error(&error, &flip);
                    found = true;
                    continue;
                }
            };
            let mut problems = Vec::new();
            let verified = place.verify(&backup, &mut |problem| problems.push(problem.to_string())).await;
            assert!(problems.iter().all(|problem| flip.is_named(problem)), "{flip:?}: {problems:?}");
            let is_damaged = match verified {
                Ok(verified) => verified.problems > 0,
                Err(error) => {
                    check_error(&error, &flip);
                    true
                }
            };
            found |= is_damaged;
            let target = Store::in_memory();
            match place.restore(&backup, &target).await {
                Ok(_) => {
                    assert!(!is_damaged, "{flip:?}: what is damaged is not restored");
                    let opened = TestDatabase::try_with(target, settings(), clock()).await;
                    if name != two {
                        assert!(is_right(opened, &expected, &flip).await);
                    }
                }
                Err(error) => {
                    check_error(&error, &flip);
                    assert!(is_damaged && objects(&target).await.is_empty(), "{flip:?}: nothing was written");
                }
            }
        }
        assert!(found, "{flip:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_mirror() {
    let (origin, mirror) = (Store::in_memory(), Store::in_memory());
    let quick = MirrorSettings { interval: Duration::from_millis(2), ..MirrorSettings::new(mirror.clone(), None) };
    let mirrored = EngineSettings { mirror: Some(quick), ..settings() };
    let mut database = TestDatabase::with(origin, mirrored, clock()).await;
    fill(&database).await;
    let expected = good_answers(&database).await;
    database.close().await.unwrap();
    let whole = objects(&mirror).await;
    // Its own mark, and everything that it has in common with any store.
    for flip in chosen(Scene::Mirror, &whole)
        .into_iter()
        .chain(chosen_of(&whole, &["catalog/log", "catalog/checkpoint", "dbs"]))
    {
        let damaged = flip.apply(&whole);
        assert!(is_found(&store_of(&damaged).await, &flip).await, "{flip:?}: the check finds it");
        let store = store_of(&damaged).await;
        match promote(&store, &clock(), true, true).await {
            Ok(()) => {
                assert_ne!(flip.path, "catalog/mirror", "{flip:?} is not found");
                is_right(TestDatabase::try_with(store, settings(), clock()).await, &expected, &flip).await;
            }
            Err(error) => check_error(&error, &flip),
        }
    }
}

/// Bits of objects below these directories.
fn chosen_of(objects: &Objects, directories: &[&str]) -> Vec<Flip> {
    let mut random = Random::of(Scene::Mirror);
    let mut chosen = Vec::new();
    for directory in directories {
        let below = objects.iter().filter(|(path, _)| path.as_ref().starts_with(directory));
        let found: Vec<(&Path, usize)> = below.map(|(path, bytes)| (path, bytes.len())).collect();
        chosen.extend((0..flips() / 3 + 2).map(|number| random.flip(&found, number)));
    }
    chosen
}

/// Whatever flips in the lock of a single writer: of two processes at most one writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_lock_of_a_single_writer() {
    let quick = SingleWriterSettings {
        refresh_every: Duration::from_millis(100),
        stale_after: Duration::from_secs(30),
        settle: Duration::ZERO,
    };
    let writer = |directory| Writer { node: "node".to_owned(), directory: Uuid::from_u128(directory) };
    let take = async |store: &Store, directory| SingleWriter::take(store, writer(directory), clock(), quick).await;
    let sample = Store::in_memory();
    let (_lock, _) = take(&sample, 1).await.unwrap();
    let mut refused = 0;
    for flip in chosen(Scene::Lock, &objects(&sample).await) {
        let store = Store::in_memory();
        let (_first, held) = take(&store, 1).await.unwrap();
        // Its process refreshes the lock, so that what is flipped is there for a moment only.
        let now = objects(&store).await;
        let flip = Flip { byte: flip.byte.min(now.values().next().unwrap().len() - 1), ..flip };
        let damaged = flip.apply(&now);
        store
            .objects()
            .put(&Path::from(flip.path.as_str()), damaged.values().next().unwrap().clone().into())
            .await
            .unwrap();
        match take(&store, 2).await {
            Ok((_second, other)) => {
                let path = Path::from("a");
                let puts = [&held, &other].map(|store| store.objects().put(&path, "x".into()));
                let done = futures::future::join_all(puts).await;
                assert!(done[0].is_err(), "{flip:?}: both write");
            }
            Err(error) => {
                let error = Error::from(error);
                assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Corrupt), "{flip:?}: {error}");
                assert!(error.to_string().contains("catalog/writer") || error.kind() == ErrorKind::Conflict, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}
