//! Power cuts: the write-ahead log over a simulated disk that forgets what was not synced.
//!
//! A seed is one history: groups of writes, releases and disk errors. One to three times the power is cut before some disk
//! operation, and now and then the process is killed in between, which leaves unsynced bytes in the file system. At a cut, turmoil's file system drops directory entries that were not synced, and of each write that was
//! not synced it keeps some leading blocks, so that later bytes may survive where earlier ones are lost. After each cut
//! the log must hold every write that was acknowledged as durable exactly once, in order, and nothing that was never
//! written.
//!
//! `FLIGHTLINE_POWER_LOSS_SEEDS` sets how many seeds are tried; a failure names the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use flightline::clock::SystemClock;
use flightline::engine::wal::{Disk, DiskFile, Durability, EncodedRecord, RecordEntry, SegmentLog, WriteRecord};
use flightline::model::{DatabaseId, Sequence, TableId};
use parking_lot::Mutex;
use turmoil::fs::shim::std::fs;
use uuid::Uuid;

const SEEDS: u64 = 2_000;
const CATALOG: Uuid = Uuid::from_u128(1);
const DIRECTORY: &str = "/wal";
const SEGMENT_BYTES: u64 = 8 * 1024;
const TABLES: u64 = 3;

#[test]
fn no_power_cut_loses_or_invents_a_write() {
    let seeds = std::env::var("FLIGHTLINE_POWER_LOSS_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let mut total = Totals::default();
    for seed in 0..seeds {
        match simulate(seed, Omission::Nothing) {
            Ok(history) => total.add(&history),
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.cuts > seeds && total.durable > seeds, "the histories are too short: {total:?}");
}

#[test]
fn the_simulation_finds_a_log_that_syncs_too_little() {
    for omission in [Omission::FileSync, Omission::DirectorySync, Omission::SyncAtStart] {
        let found = (0..100).filter(|&seed| simulate(seed, omission).is_err()).count();
        println!("{omission:?} left out: {found} of 100 seeds find it");
        assert!(found > 0, "{omission:?} is left out and no seed finds it");
    }
}

/// What the disk of a test claims to have done but has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Omission {
    Nothing,
    /// The sync of a segment after a group.
    FileSync,
    DirectorySync,
    /// The sync of what a killed process left unsynced.
    SyncAtStart,
}

/// How much happened, to see that the histories are worth something.
#[derive(Debug, Default)]
struct Totals {
    cuts: u64,
    durable: u64,
    disk_errors: u64,
    segments_removed: u64,
}

impl Totals {
    fn add(&mut self, history: &History) {
        self.cuts += history.cuts;
        self.durable += history.durable.len() as u64;
        self.disk_errors += history.disk_errors;
        self.segments_removed += history.segments_removed;
    }
}

/// All that outlives a power cut apart from the disk.
struct History {
    random: Random,
    omission: Omission,
    /// Every write that was ever tried, by its value.
    tried: BTreeMap<i64, WriteRecord>,
    /// Writes that were acknowledged as durable: value and sequence.
    durable: BTreeMap<i64, Sequence>,
    /// Writes that were acknowledged without durability since the last sync.
    not_yet_durable: BTreeMap<i64, Sequence>,
    /// Writes that a restart did not find. They must never come back.
    gone: BTreeSet<i64>,
    /// For each table, up to where the log was told that it may forget.
    released: BTreeMap<TableId, Sequence>,
    cuts: u64,
    disk_errors: u64,
    segments_removed: u64,
    /// Disk operations until the power goes.
    operations_left: u64,
    /// Of 1000 disk operations so many fail.
    errors_per_mille: u64,
    /// Tells two files of one name apart: a name that is used again must not show the first file's bytes.
    generation: u64,
    /// How often the process is killed before the power goes.
    kills_left: u64,
    /// This life is over: the power may go.
    over: bool,
    fault: Option<String>,
}

type Shared = Arc<Mutex<History>>;

/// Lives through one seed.
fn simulate(seed: u64, omission: Omission) -> Result<History, String> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03);
    let lives = 2 + random.below(3);
    let errors_per_mille = if random.below(2) == 0 { 0 } else { 30 };
    let block_bytes = [64, 512, 4096][random.below(3) as usize];
    let history: Shared = Arc::new(Mutex::new(History {
        random,
        omission,
        tried: BTreeMap::new(),
        durable: BTreeMap::new(),
        not_yet_durable: BTreeMap::new(),
        gone: BTreeSet::new(),
        released: BTreeMap::new(),
        cuts: 0,
        disk_errors: 0,
        segments_removed: 0,
        operations_left: 0,
        errors_per_mille,
        generation: 0,
        kills_left: 0,
        over: false,
        fault: None,
    }));

    let mut builder = turmoil::Builder::new();
    builder.rng_seed(seed);
    builder.fs().block_size(block_bytes);
    let mut simulation = builder.build();
    let host = Arc::clone(&history);
    simulation.host("server", move || {
        let history = Arc::clone(&host);
        async move {
            live(&history);
            // The server stays up until the power goes.
            std::future::pending().await
        }
    });
    for life in 0..lives {
        {
            let mut history = history.lock();
            // The last life is only there to look, so it has power.
            history.operations_left = if life + 1 == lives { u64::MAX } else { history.random.below(90) };
            history.kills_left = if life + 1 == lives { 0 } else { history.random.below(3).saturating_sub(1) };
            history.over = false;
        }
        if life > 0 {
            simulation.crash("server");
            simulation.bounce("server");
        }
        while !history.lock().over {
            simulation.step().map_err(|error| error.to_string())?;
        }
        let mut history = history.lock();
        history.cuts += u64::from(life > 0);
        if let Some(fault) = history.fault.take() {
            return Err(format!("life {life}: {fault}"));
        }
    }
    drop(simulation);
    Ok(Arc::into_inner(history).ok_or("the history is still in use")?.into_inner())
}

fn live(history: &Shared) {
    let fault = run_until_power_goes(history).err();
    let mut history = history.lock();
    history.fault = fault;
    history.over = true;
}

/// Each kill of the process is followed by a start that finds what was not synced.
fn run_until_power_goes(history: &Shared) -> Result<(), String> {
    if !fs::exists(DIRECTORY) {
        fs::create_dir(DIRECTORY).and_then(|()| fs::sync_dir("/")).map_err(|error| error.to_string())?;
    }
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk { history: Arc::clone(history) });
    loop {
        run(history, &disk)?;
        let mut history = history.lock();
        if history.kills_left == 0 {
            return Ok(());
        }
        history.kills_left -= 1;
        history.operations_left = history.random.below(90);
    }
}

/// One run of the process: start, check, then write until the end.
fn run(history: &Shared, disk: &Arc<dyn Disk>) -> Result<(), String> {
    let Some(mut log) = start(history, disk)? else { return Ok(()) };
    // No write outlives the last life; the number only ends it.
    for _ in 0..40 {
        if power_is_out(history) {
            break;
        }
        let action = history.lock().random.below(12);
        match action {
            0 => release(history, &mut log),
            1 => sync(history, &mut log),
            _ => write(history, &mut log),
        }
    }
    Ok(())
}

fn power_is_out(history: &Shared) -> bool {
    history.lock().operations_left == 0
}

/// Opens the log and checks what it holds. None if the power or the disk failed meanwhile.
fn start(history: &Shared, disk: &Arc<dyn Disk>) -> Result<Option<SegmentLog>, String> {
    loop {
        let mut found = Vec::new();
        let opened = SegmentLog::open(
            Arc::clone(disk),
            SEGMENT_BYTES,
            CATALOG,
            Sequence::ZERO,
            Arc::new(SystemClock::new()),
            &mut |sequence, record| {
                found.push((sequence, record));
                Ok(())
            },
        );
        match opened {
            Ok(log) => {
                check(&mut history.lock(), &found)?;
                return Ok(Some(log));
            }
            Err(_) if power_is_out(history) => return Ok(None),
            // The disk failed once; an operator starts the server again.
            Err(error) if error.kind() == flightline::error::ErrorKind::Unavailable => {}
            Err(error) => return Err(error.report()),
        }
    }
}

fn check(history: &mut History, found: &[(Sequence, WriteRecord)]) -> Result<(), String> {
    let mut present = BTreeMap::new();
    let mut before = Sequence::ZERO;
    for (sequence, record) in found {
        let value = value_of(record);
        if *sequence <= before {
            return Err(format!("sequence {sequence} comes after {before}"));
        }
        before = *sequence;
        if history.tried.get(&value) != Some(record) {
            return Err(format!("write {value} at {sequence} was never written like this"));
        }
        if present.insert(value, *sequence).is_some() {
            return Err(format!("write {value} is there twice"));
        }
        if history.gone.contains(&value) {
            return Err(format!("write {value} was gone and is back"));
        }
    }
    for (value, sequence) in &history.durable {
        match present.get(value) {
            Some(there) if there == sequence => {}
            Some(there) => return Err(format!("write {value} was acknowledged at {sequence} and is at {there}")),
            None if is_released(history, *value, *sequence) => {}
            None => return Err(format!("write {value}, acknowledged at {sequence}, is lost")),
        }
    }
    // What was found once is safe from now on: the start made it so.
    for (value, record) in &history.tried {
        match present.get(value) {
            Some(&sequence) => {
                history.durable.insert(*value, sequence);
            }
            // A removal may come undone until the directory is synced, so what was released may come back.
            None if record.entries.iter().all(|entry| history.released.contains_key(&entry.table)) => {}
            None => {
                history.gone.insert(*value);
            }
        }
    }
    history.not_yet_durable.clear();
    Ok(())
}

fn is_released(history: &History, value: i64, sequence: Sequence) -> bool {
    let mut tables = history.tried[&value].entries.iter().map(|entry| entry.table);
    tables.all(|table| history.released.get(&table).is_some_and(|&through| through >= sequence))
}

fn write(history: &Shared, log: &mut SegmentLog) {
    let (values, records, durability) = next_group(&mut history.lock());
    let errors_before = history.lock().disk_errors;
    let appended = log.append_group(&records.iter().collect::<Vec<_>>(), durability);
    let mut history = history.lock();
    if history.disk_errors > errors_before {
        // A sync may have failed, and then only what was synced before is safe.
        history.not_yet_durable.clear();
    }
    let Ok(first) = appended else { return };
    let mut sequence = first;
    for value in values {
        history.not_yet_durable.insert(value, sequence);
        sequence = sequence.next();
    }
    if durability == Durability::Synced {
        let mut safe = std::mem::take(&mut history.not_yet_durable);
        history.durable.append(&mut safe);
    }
}

fn sync(history: &Shared, log: &mut SegmentLog) {
    let synced = log.sync();
    let mut history = history.lock();
    let mut safe = std::mem::take(&mut history.not_yet_durable);
    if synced.is_ok() {
        history.durable.append(&mut safe);
    }
}

fn release(history: &Shared, log: &mut SegmentLog) {
    let (table, through) = {
        let mut history = history.lock();
        let table = TableId::new(history.random.below(TABLES) as u32);
        let newest = log.next_sequence().get() - 1;
        let through = Sequence::new(newest.saturating_sub(history.random.below(8)));
        let released = history.released.entry(table).or_insert(through);
        *released = through.max(*released);
        (table, through)
    };
    let before = log.metrics().segments;
    log.release(table, through);
    history.lock().segments_removed += before - log.metrics().segments;
}

fn next_group(history: &mut History) -> (Vec<i64>, Vec<EncodedRecord>, Durability) {
    let durability = if history.random.below(3) == 0 { Durability::Unsynced } else { Durability::Synced };
    let (mut values, mut records) = (Vec::new(), Vec::new());
    for _ in 0..=history.random.below(3) {
        let value = history.tried.len() as i64;
        let record = new_record(value, &mut history.random);
        records.push(EncodedRecord::encode(&record).expect("text and integers can be encoded"));
        history.tried.insert(value, record);
        values.push(value);
    }
    (values, records, durability)
}

fn new_record(value: i64, random: &mut Random) -> WriteRecord {
    let text_bytes = if random.below(8) == 0 { random.below(9000) } else { random.below(200) };
    let text = char::from(b'a' + random.below(26) as u8).to_string().repeat(text_bytes as usize);
    let columns: [(&str, ArrayRef); 2] =
        [("text", Arc::new(StringArray::from(vec![text]))), ("value", Arc::new(Int64Array::from(vec![value])))];
    let batch = RecordBatch::try_from_iter(columns).expect("both columns have one row");
    let mut entries = vec![RecordEntry { table: TableId::new(random.below(TABLES) as u32), batch }];
    if random.below(4) == 0 {
        let table = TableId::new(random.below(TABLES) as u32);
        entries.push(RecordEntry { table, batch: entries[0].batch.clone() });
    }
    WriteRecord { database: DatabaseId::new(1), entries }
}

fn value_of(record: &WriteRecord) -> i64 {
    record.entries[0].batch.column(1).as_primitive::<Int64Type>().value(0)
}

/// Turmoil's file system, with a power switch.
struct SimulatedDisk {
    history: Shared,
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedDisk")
    }
}

/// Counts one operation: without power, and now and then with it, it fails and does nothing.
fn operate(history: &Shared) -> io::Result<()> {
    let mut history = history.lock();
    if history.operations_left == 0 {
        return Err(io::Error::other("the power is out"));
    }
    history.operations_left -= 1;
    if history.random.below(1000) < history.errors_per_mille {
        history.disk_errors += 1;
        return Err(io::Error::other("input/output error"));
    }
    Ok(())
}

impl SimulatedDisk {
    fn path(&self, name: &str) -> io::Result<String> {
        // Names of one life: the newest file of a name is the one that a real directory would have.
        let files = self.files()?;
        files.get(name).map(|file| format!("{DIRECTORY}/{file}")).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The newest file of each name.
    fn files(&self) -> io::Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(DIRECTORY)? {
            let file = entry?.file_name().into_string().map_err(|_| io::Error::other("a name that is no text"))?;
            let (name, _) = file.rsplit_once('@').ok_or_else(|| io::Error::other("a file of another test"))?;
            let newest = files.entry(name.to_owned()).or_insert_with(|| file.clone());
            if file > *newest {
                *newest = file;
            }
        }
        Ok(files)
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        operate(&self.history)?;
        if self.files()?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let generation = {
            let mut history = self.history.lock();
            history.generation += 1;
            history.generation
        };
        let path = format!("{DIRECTORY}/{name}@{generation:06}");
        let file = fs::OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Box::new(SimulatedFile { history: Arc::clone(&self.history), file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        operate(&self.history)?;
        Ok(self.files()?.into_keys().collect())
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        operate(&self.history)?;
        fs::read(self.path(name)?).map(Bytes::from)
    }

    fn read_start(&self, name: &str, length: usize) -> io::Result<Bytes> {
        let bytes = self.read(name)?;
        Ok(bytes.slice(..length.min(bytes.len())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        operate(&self.history)?;
        fs::remove_file(self.path(name)?)
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        operate(&self.history)?;
        let file = fs::OpenOptions::new().write(true).open(self.path(name)?)?;
        file.set_len(length)?;
        operate(&self.history)?;
        if self.history.lock().omission == Omission::SyncAtStart { Ok(()) } else { file.sync_all() }
    }

    fn sync_directory(&self) -> io::Result<()> {
        operate(&self.history)?;
        if self.history.lock().omission == Omission::DirectorySync { Ok(()) } else { fs::sync_dir(DIRECTORY) }
    }
}

struct SimulatedFile {
    history: Shared,
    file: fs::File,
}

impl DiskFile for SimulatedFile {
    fn append(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        let bytes = slices.concat();
        if let Err(error) = operate(&self.history) {
            if !power_is_out(&self.history) {
                let written = self.history.lock().random.below(bytes.len() as u64 + 1);
                self.file.write_all(&bytes[..written as usize])?;
            }
            return Err(error);
        }
        self.file.write_all(&bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        operate(&self.history)?;
        if self.history.lock().omission == Omission::FileSync { Ok(()) } else { self.file.sync_data() }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        operate(&self.history)?;
        self.file.set_len(length)
    }
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
