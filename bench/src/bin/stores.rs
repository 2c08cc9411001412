//! Stores: the same durable batches through the hub's journal and through embedded stores, side by side.
//!
//! Disks of shared machines change their pace by a factor of ten within seconds. So the stores take turns of a fifth of
//! a second, in another order each round, and a store is compared with the journal of the same round: the median of
//! those ratios is what counts. In a folder in memory the same run shows what a store costs besides the disk. Every
//! store is configured to be durable when a batch returns, without compression, and is used as its documentation says
//! it should be for this. `docs/decisions/0001-journal.md` has the results.
// The lists in clippy.toml are the core's; this measures a shell.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use clap::Parser;
use comfy_table::Table;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use protobuf::well_known_types::Any;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use sheratan_core::limits::Limits;
use sheratan_core::{Caller, Command, Envelope, Name, Payload, Setting, Submit, Timestamp};
use sheratan_io::journal::{Appender, Batch, Item, Options, Recovery, Store, recover};
use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Errors of a benchmark are reported, not handled.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures durable batches through the journal and through embedded stores.
#[derive(Parser)]
struct Settings {
    /// Where to write: a folder on the disk to measure.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Rounds over which medians are taken.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// How long a store runs in each round.
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    /// Bytes of a record.
    #[arg(long, default_value_t = 300)]
    record_bytes: usize,
    /// Records that are written and read back to measure recovery, and jobs of the hub that is recovered.
    #[arg(long, default_value_t = 1_000_000)]
    recovery_records: u64,
    /// How often a recovery is repeated.
    #[arg(long, default_value_t = 5)]
    recoveries: usize,
}

/// A store that keeps numbered records.
trait Peer {
    /// Makes records durable; the first one's number follows the last one's of the call before.
    fn append(&mut self, first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure>;
}

const NAMES: [&str; 5] = ["bare file", "journal", "redb", "fjall", "raft-engine"];

/// Records of a batch while recovery's are written: fewer syncs, the same records.
const LOADED_BATCH: u64 = 1_000;

fn main() -> Result<(), Failure> {
    let settings = Settings::parse();
    let folder = tempfile::tempdir_in(&settings.folder)?;
    for batch_records in [1, 64] {
        durable_batches(&settings, folder.path(), batch_records)?;
    }
    recovery(&settings, folder.path())?;
    hub_recovery(&settings, folder.path())
}

fn open(name: &str, folder: &Path) -> Result<Box<dyn Peer>, Failure> {
    fs::create_dir_all(folder)?;
    Ok(match name {
        "bare file" => Box::new(BareFile::open(folder)?),
        "journal" => Box::new(Journal::open(folder)?),
        "redb" => Box::new(Redb(redb::Database::create(folder.join("redb"))?)),
        "fjall" => Box::new(Fjall::open(folder)?),
        _ => Box::new(RaftEngine(Engine::open(raft_engine_config(folder))?)),
    })
}

/// Batches per second, each durable when it returns.
fn durable_batches(settings: &Settings, folder: &Path, batch_records: u64) -> Result<(), Failure> {
    let folder = folder.join(format!("batches-of-{batch_records}"));
    let mut turns = NAMES
        .iter()
        .map(|name| Ok(Turn { peer: open(name, &folder.join(name))?, next_seq: 1, rates: Vec::new(), longest_ms: 0.0 }))
        .collect::<Result<Vec<_>, Failure>>()?;
    for round in 0..settings.rounds {
        for at in 0..turns.len() {
            let at = (at + round) % NAMES.len();
            turns[at].run(settings, batch_records)?;
        }
    }
    let mut table = Table::new();
    table.set_header(["store", "batches/s", "records/s", "of journal", "quartiles", "longest batch, ms"]);
    let journal = turns[1].rates.clone();
    for (name, turn) in NAMES.iter().zip(&turns) {
        let mut ratios: Vec<f64> = turn.rates.iter().zip(&journal).map(|(rate, journal)| rate / journal).collect();
        let rate = median(&mut turn.rates.clone());
        table.add_row([
            (*name).to_owned(),
            format!("{rate:.0}"),
            format!("{:.0}", rate * batch_records as f64),
            format!("{:.2}", median(&mut ratios)),
            format!("{:.2} to {:.2}", ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]),
            format!("{:.1}", turn.longest_ms),
        ]);
    }
    print(format_args!(
        "{batch_records} records of {} bytes a batch, {} rounds\n{table}\n",
        settings.record_bytes, settings.rounds
    ))?;
    drop(turns);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Prints a table. A reader that has gone is an error, as is a full disk.
fn print(table: impl Display) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{table}")?)
}

/// A store with its measurements.
struct Turn {
    peer: Box<dyn Peer>,
    next_seq: u64,
    rates: Vec<f64>,
    longest_ms: f64,
}

impl Turn {
    fn run(&mut self, settings: &Settings, batch_records: u64) -> Result<(), Failure> {
        let mut batches = 0.0;
        let mut secs = 0.0;
        while secs < settings.seconds {
            let records = records(self.next_seq, batch_records, settings.record_bytes);
            let started_at = Instant::now();
            self.peer.append(self.next_seq, &records)?;
            let batch_secs = started_at.elapsed().as_secs_f64();
            self.longest_ms = self.longest_ms.max(batch_secs * 1e3);
            self.next_seq += batch_records;
            batches += 1.0;
            secs += batch_secs;
        }
        self.rates.push(batches / secs);
        Ok(())
    }
}

/// How long it takes to open a store with many records and to read all of them in order.
fn recovery(settings: &Settings, folder: &Path) -> Result<(), Failure> {
    let mut table = Table::new();
    table.set_header(["store", "write, s", "open and read, s", "records/s", "on disk, MiB"]);
    for name in &NAMES[1..] {
        let folder = folder.join("recovery");
        let mut peer = open(name, &folder)?;
        let started_at = Instant::now();
        for first_seq in (1..=settings.recovery_records).step_by(LOADED_BATCH as usize) {
            let count = LOADED_BATCH.min(settings.recovery_records + 1 - first_seq);
            peer.append(first_seq, &records(first_seq, count, settings.record_bytes))?;
        }
        let written_secs = started_at.elapsed().as_secs_f64();
        drop(peer);
        let mut secs = Vec::new();
        for _ in 0..settings.recoveries {
            let started_at = Instant::now();
            let bytes = read_all(name, &folder, settings.recovery_records)?;
            assert_eq!(bytes, settings.recovery_records * settings.record_bytes as u64, "{name} gives all records");
            secs.push(started_at.elapsed().as_secs_f64());
        }
        let read_secs = median(&mut secs);
        table.add_row([
            (*name).to_owned(),
            format!("{written_secs:.2}"),
            format!("{read_secs:.2}"),
            format!("{:.0}", settings.recovery_records as f64 / read_secs),
            format!("{}", size_on_disk(&folder)? >> 20),
        ]);
        fs::remove_dir_all(&folder)?;
    }
    let (records, bytes) = (settings.recovery_records, settings.record_bytes);
    print(format_args!("{records} records of {bytes} bytes, files in memory\n{table}"))
}

/// How long a hub takes to recover many queued jobs: from the records alone, and from a snapshot.
fn hub_recovery(settings: &Settings, folder: &Path) -> Result<(), Failure> {
    let folder = folder.join("hub");
    let jobs = settings.recovery_records;
    let Recovery { mut hub, mut appender, store, .. } = recover(&folder, Options::default(), &mut |_| {})?;
    let limits = Limits { queue_depth_max: jobs, queue_bytes_max: u64::MAX, ..Limits::default() };
    let params = format!("{{\"text\":\"{}\"}}", "x".repeat(settings.record_bytes));
    let mut commands = std::iter::once(Command::Set(Setting::all(&limits)))
        .chain((0..jobs).map(|_| Command::Submit(Box::new(submit(&params)))))
        .peekable();
    let (mut batch, mut effects) = (Batch::new(), Vec::new());
    while commands.peek().is_some() {
        batch.clear();
        let (first_seq, hash_before) = (appender.next_seq(), hub.outcome_hash());
        for (seq, command) in (first_seq..first_seq + LOADED_BATCH).zip(&mut commands) {
            let now = Timestamp::from_millis(seq);
            Envelope::encode(hub.rules(), Caller::HUB, &command, batch.begin(seq, now));
            batch.commit();
            assert!(hub.apply(now, command).is_durable(), "the limits let all jobs in");
        }
        loop {
            effects.clear();
            hub.settle(&mut effects);
            if effects.is_empty() {
                break;
            }
        }
        appender.append(first_seq, &mut batch, hash_before)?;
    }
    appender.seal(hub.outcome_hash());
    let through = appender.sealed_through();
    let digest = hub.digest();
    drop((hub, appender, store));
    let mut table = Table::new();
    table.set_header(["hub comes back from", "s", "jobs/s"]);
    let mut row = |what: &str, secs: f64| {
        table.add_row([what.to_owned(), format!("{secs:.2}"), format!("{:.0}", jobs as f64 / secs)]);
    };
    for what in ["records", "snapshot"] {
        let mut secs = Vec::new();
        for _ in 0..settings.recoveries {
            let started_at = Instant::now();
            let recovered = recover(&folder, Options::default(), &mut |_| {})?;
            secs.push(started_at.elapsed().as_secs_f64());
            assert_eq!(recovered.hub.digest(), digest, "the hub is as it was");
        }
        row(what, median(&mut secs));
        if what == "records" {
            let (store, _) = Store::open(&folder, Options::default())?;
            let started_at = Instant::now();
            store.snapshot_by_replay(through, &mut |_| true)?;
            row("(making the snapshot: replay, write, restore, compare)", started_at.elapsed().as_secs_f64());
        }
    }
    print(format_args!("\n{jobs} queued jobs of {} bytes\n{table}", params.len()))
}

fn submit(params: &str) -> Submit {
    Submit::new(Name::new("echo").expect("it is a name"), Some(Payload::new(params.as_bytes())))
}

/// Records that no store can make smaller, and whose number can be checked.
fn records(first_seq: u64, count: u64, bytes: usize) -> Vec<Vec<u8>> {
    let record = |seq: u64| {
        let mut state = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut record = seq.to_le_bytes().to_vec();
        while record.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            record.extend_from_slice(&state.to_le_bytes());
        }
        record.truncate(bytes);
        record
    };
    (first_seq..first_seq + count).map(record).collect()
}

/// Reads all records in order and returns their bytes.
fn read_all(name: &str, folder: &Path, count: u64) -> Result<u64, Failure> {
    let (mut bytes, mut next_seq) = (0, 1);
    let mut check = |record: &[u8]| {
        assert_eq!(record[..8], u64::to_le_bytes(next_seq), "records come in order");
        bytes += record.len() as u64;
        next_seq += 1;
    };
    match name {
        "journal" => {
            let (_store, mut recovered) = Store::open(folder, Options::default())?;
            while let Some(item) = recovered.next()? {
                if let Item::Record(record) = item {
                    check(record.payload);
                }
            }
            recovered.finish([0; 16], [0; 16])?;
        }
        "redb" => {
            let database = redb::Database::create(folder.join("redb"))?;
            let table = database.begin_read()?.open_table(REDB_TABLE)?;
            for entry in table.iter()? {
                check(entry?.1.value());
            }
        }
        "fjall" => {
            let peer = Fjall::open(folder)?;
            for entry in peer.keyspace.iter() {
                check(&entry.value()?);
            }
        }
        _ => {
            let engine = Engine::open(raft_engine_config(folder))?;
            let mut entries = Vec::new();
            for first_seq in (1..=count).step_by(LOADED_BATCH as usize) {
                let end = (first_seq + LOADED_BATCH).min(count + 1);
                engine.fetch_entries_to::<RaftEntry>(RAFT_GROUP, first_seq, end, None, &mut entries)?;
                entries.drain(..).for_each(|entry: Any| check(&entry.value));
            }
        }
    }
    Ok(bytes)
}

/// The upper bound for all of them: the bytes alone, written over existing zeros, and synced.
struct BareFile {
    file: File,
    buffer: Vec<u8>,
}

/// The bare file starts over at this size.
const BARE_FILE_BYTES: u64 = 64 << 20;

impl BareFile {
    fn open(folder: &Path) -> Result<BareFile, Failure> {
        let mut file = File::create(folder.join("bare"))?;
        file.write_all(&vec![0; BARE_FILE_BYTES as usize])?;
        file.sync_all()?;
        file.rewind()?;
        Ok(BareFile { file, buffer: Vec::new() })
    }
}

impl Peer for BareFile {
    fn append(&mut self, _first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure> {
        self.buffer.clear();
        records.iter().for_each(|record| self.buffer.extend_from_slice(record));
        if self.file.stream_position()? + self.buffer.len() as u64 > BARE_FILE_BYTES {
            self.file.rewind()?;
        }
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()?;
        Ok(())
    }
}

/// The hub's journal, with a thread that prepares segments as the hub's background does.
struct Journal {
    appender: Appender,
    batch: Batch,
    is_over: Arc<AtomicBool>,
    background: Option<JoinHandle<()>>,
}

impl Journal {
    fn open(folder: &Path) -> Result<Journal, Failure> {
        let (store, recovered) = Store::open(folder, Options::default())?;
        let (appender, _) = recovered.finish([0; 16], [0; 16])?;
        store.prepare_spare()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let background = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    store.prepare_spare().expect("the disk has room");
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            }
        });
        Ok(Journal { appender, batch: Batch::new(), is_over, background: Some(background) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let background = self.background.take().expect("it is joined once");
        background.thread().unpark();
        background.join().expect("the disk has room");
    }
}

impl Peer for Journal {
    fn append(&mut self, first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure> {
        self.batch.clear();
        for (seq, record) in (first_seq..).zip(records) {
            self.batch.begin(seq, Timestamp::from_millis(seq)).extend_from_slice(record);
            self.batch.commit();
        }
        self.appender.append(first_seq, &mut self.batch, [0; 16])?;
        Ok(())
    }
}

const REDB_TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("journal");

struct Redb(redb::Database);

impl Peer for Redb {
    fn append(&mut self, first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure> {
        // Durable when it returns: redb's default.
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(REDB_TABLE)?;
            for (seq, record) in (first_seq..).zip(records) {
                table.insert(seq, record.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Result<Fjall, Failure> {
        let database = Database::builder(folder.join("fjall")).open()?;
        let keyspace = database.keyspace("journal", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, keyspace })
    }
}

impl Peer for Fjall {
    fn append(&mut self, first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (seq, record) in (first_seq..).zip(records) {
            batch.insert(&self.keyspace, seq.to_be_bytes(), record.as_slice());
        }
        batch.commit()?;
        Ok(())
    }
}

const RAFT_GROUP: u64 = 1;

struct RaftEngine(Engine);

/// Its entries are protobuf messages; this one carries the number as text.
struct RaftEntry;

impl MessageExt for RaftEntry {
    type Entry = Any;

    fn index(entry: &Any) -> u64 {
        entry.type_url.parse().expect("it was written as a number")
    }
}

impl Peer for RaftEngine {
    fn append(&mut self, first_seq: u64, records: &[Vec<u8>]) -> Result<(), Failure> {
        let entries: Vec<Any> = (first_seq..)
            .zip(records)
            .map(|(seq, record)| Any { type_url: seq.to_string(), value: record.clone(), ..Any::default() })
            .collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<RaftEntry>(RAFT_GROUP, &entries)?;
        self.0.write(&mut batch, true)?;
        Ok(())
    }
}

fn raft_engine_config(folder: &Path) -> Config {
    Config {
        dir: folder.join("raft-engine").display().to_string(),
        // Zero: never.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Blocks that a folder's files take.
fn size_on_disk(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        bytes += if path.is_dir() { size_on_disk(&path)? } else { blocks_bytes(&path)? };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn blocks_bytes(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}

#[cfg(not(unix))]
fn blocks_bytes(path: &Path) -> Result<u64, Failure> {
    Ok(fs::metadata(path)?.len())
}
