//! Journal check: the real journal on a virtual disk. What was acknowledged is there after every end, whatever the disk
//! did.

use crate::disk::{Faults, VirtualDisk};
use crate::draw::{Draw, Stream};
use sheratan_core::{Caller, Command, Envelope, Hub, HubKey, Name, Payload, Submit, Timestamp};
use sheratan_io::journal::{
    Appender, Batch, HubId, Identity, Item, Notice, OpenError, Options, ReadError, Reason, Recovery, ReplayError,
    Store, recover, verify_on,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A hub's starts in one run.
const LIVES: u64 = 6;
/// A header and about as much of records: a roll every few batches.
const SEGMENT_BYTES: u64 = 8 << 10;
/// As many where they are short.
const EARLY_LIVES: u64 = 24;
/// Operations of a start and of a few batches.
const EARLY_OPERATIONS: u64 = 32;
const FOLDER: &str = "/data/hub";
const IDENTITY: Identity = Identity { hub_id: HubId([1; 16]), key: HubKey::new([2; 16]) };

/// What a run came through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survived {
    /// What the disk did, and how often.
    pub disk: BTreeMap<&'static str, u64>,
    /// Starts of the hub.
    pub recoveries: u64,
    /// Starts that were refused since a sector could not be read.
    pub refused_for_sectors: u64,
    /// Records that were acknowledged.
    pub records: usize,
}

fn is_unreadable(reason: &Reason) -> bool {
    matches!(reason, Reason::Unreadable { .. } | Reason::Header(_) | Reason::Missing { .. })
}

/// Runs a seed: six lives of one journal, each ended by a power cut or a kill at any operation of the disk. Panics,
/// with the seed, if something that was acknowledged is not there, or something is that never was written.
pub fn run_seed(seed: u64) -> Survived {
    Run::new(seed).go()
}

/// A record as it was appended, and the outcome hash after it.
#[derive(Clone, PartialEq, Debug)]
struct Expected {
    now: Timestamp,
    payload: Vec<u8>,
    hash: [u8; 16],
}

/// A hub that lives, dies and is started again, and what it has promised.
struct Run {
    seed: u64,
    disk: VirtualDisk,
    draw: Draw,
    /// The records that were acknowledged, from the first on.
    promised: Vec<Expected>,
    /// The records of the batch that was under way when the hub died.
    pending: Vec<Expected>,
    now: u64,
    recoveries: u64,
    /// Which lives end with their first batches or before, out of a thousand: what a start trusts and did not write
    /// shows then only.
    short_permille: u64,
    lives: Draw,
    /// How long all records are, where they are alike: then the remains of a torn batch begin where a new record ends.
    filler_bytes: Option<u64>,
    /// Whether a sector may be unreadable.
    has_bad_sector: bool,
    refused_for_sectors: u64,
}

/// The disk is dead, and with it the hub.
struct Died;

impl Run {
    fn new(seed: u64) -> Run {
        let disk = VirtualDisk::new(Draw::new(seed, Stream::Traffic));
        let draw = Draw::new(seed, Stream::Profile);
        let mut lives = Draw::new(seed, Stream::Lives);
        let (short_permille, filler_bytes) = *lives.pick(&[(0, None), (0, None), (300, Some(300)), (400, Some(200))]);
        Run {
            seed,
            disk,
            draw,
            promised: Vec::new(),
            pending: Vec::new(),
            now: 1_000,
            recoveries: 0,
            short_permille,
            lives,
            filler_bytes,
            has_bad_sector: false,
            refused_for_sectors: 0,
        }
    }

    fn go(mut self) -> Survived {
        let lives = if self.filler_bytes.is_some() { EARLY_LIVES } else { LIVES };
        for _ in 0..lives {
            let drawn = self.draw.magnitude(400);
            // Where records are alike, most lives end within their first batches, so that these are torn.
            let crash_in = 1 + if self.filler_bytes.is_some() { drawn % EARLY_OPERATIONS } else { drawn };
            self.disk.crash_at(self.disk.ops() + crash_in);
            let died = self.live().is_err();
            assert!(died || !self.disk.is_dead(), "seed {}: a dead disk was not noticed", self.seed);
            if self.draw.chance(750) {
                self.disk.crash(&mut self.draw);
            } else {
                self.disk.kill();
            }
            if self.lives.chance(150) {
                let is_kept = |path: &Path| path.extension().is_some_and(|name| name == "seg" || name == "snap");
                self.has_bad_sector |= self.disk.spoil_sector_of(&mut self.lives, is_kept).is_some();
            }
        }
        self.disk.set_faults(Faults::default());
        self.disk.heal();
        self.has_bad_sector = false;
        let Ok(recovery) = self.start() else { panic!("seed {}: a disk without faults works", self.seed) };
        drop(recovery);
        let report = verify_on(Arc::new(self.disk.clone()), Path::new(FOLDER), true).expect("the folder is there");
        assert!(report.is_ok(), "seed {}: {report}", self.seed);
        Survived {
            disk: self.disk.tally(),
            recoveries: self.recoveries,
            refused_for_sectors: self.refused_for_sectors,
            records: self.promised.len(),
        }
    }

    fn live(&mut self) -> Result<(), Died> {
        self.set_faults();
        let Recovery { mut hub, mut appender, store, .. } = self.start()?;
        if self.lives.chance(self.short_permille) {
            for _ in 0..self.lives.below(3) {
                self.append(&mut hub, &mut appender)?;
            }
            return if self.disk.is_dead() { Err(Died) } else { Ok(()) };
        }
        let mut covered_seq = appender.sealed_through();
        for _ in 0..self.draw.between(1, 60) {
            self.append(&mut hub, &mut appender)?;
            if self.draw.chance(200) {
                self.allow_failure(store.prepare_spare())?;
            }
            if appender.sealed_through() > covered_seq && self.draw.chance(300) {
                covered_seq = appender.sealed_through();
                self.snapshot(&store, covered_seq)?;
            }
        }
        if self.draw.chance(500) {
            appender.seal(hub.outcome_hash());
        }
        if self.disk.is_dead() { Err(Died) } else { Ok(()) }
    }

    fn set_faults(&mut self) {
        let rates = [0, 0, 10, 100];
        let faults = Faults {
            write_permille: *self.draw.pick(&rates),
            sync_permille: *self.draw.pick(&rates),
            name_permille: *self.lives.pick(&[0, 0, 30, 100]),
        };
        self.disk.set_faults(faults);
    }

    /// Starts until it succeeds, and checks what is found.
    fn start(&mut self) -> Result<Recovery, Died> {
        let recovery = loop {
            let options = Options {
                segment_bytes: SEGMENT_BYTES,
                disk: Arc::new(self.disk.clone()),
                new_identity: Some(IDENTITY),
                ..Options::default()
            };
            match recover(Path::new(FOLDER), options, &mut |_| {}) {
                Ok(recovery) => break recovery,
                Err(_) if self.disk.is_dead() => return Err(Died),
                Err(OpenError::Io { .. } | OpenError::Append(_) | OpenError::Lock(_) | OpenError::Snapshot(_)) => {
                    self.set_faults();
                }
                // What the disk does not give may have been acknowledged: a start must not take it for the end.
                Err(OpenError::BadRecord(bad)) if self.has_bad_sector && is_unreadable(&bad.reason) => {
                    self.refused_for_sectors += 1;
                    self.disk.heal();
                    self.has_bad_sector = false;
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        };
        self.recoveries += 1;
        self.disk.clone().observe(|| self.check(&recovery));
        Ok(recovery)
    }

    fn check(&mut self, recovery: &Recovery) {
        let seed = self.seed;
        for notice in &recovery.report.notices {
            let is_expected = match notice {
                Notice::Torn(torn) => !torn.is_file_cut,
                Notice::Unreadable(_) | Notice::SnapshotUnreadable { .. } => self.has_bad_sector,
                Notice::SnapshotBad { .. } | Notice::JournalBehind { .. } | Notice::NoSpace(_) => false,
            };
            assert!(is_expected, "seed {seed}: {notice}");
        }
        let found = recovery.report.next_seq as usize - 1;
        let (promised, possible) = (self.promised.len(), self.promised.len() + self.pending.len());
        assert!(found >= promised, "seed {seed}: {found} records are there, {promised} were promised");
        assert!(found <= possible, "seed {seed}: {found} records are there, {possible} were ever written");
        self.promised.extend(self.pending.drain(..).take(found - promised));
        let hash = self.promised.last().map_or_else(|| Hub::new(IDENTITY.key).outcome_hash(), |last| last.hash);
        assert_eq!(recovery.hub.outcome_hash(), hash, "seed {seed}: another hub");
        self.now = self.now.max(recovery.hub.now().as_millis());
        if self.has_bad_sector {
            // It may be among records that a snapshot covers.
            return;
        }
        let mut reader = match recovery.store.reader(1, u64::MAX) {
            Err(ReadError::Bad(bad)) => match bad.reason {
                // A truncation took what two snapshots cover.
                Reason::Missing { first_seq } if first_seq > 0 => recovery.store.reader(first_seq, u64::MAX),
                _ => panic!("seed {seed}: {bad}"),
            },
            reader => reader,
        }
        .expect("the segments can be listed");
        let mut last_seq = reader.next_seq() - 1;
        while let Some(item) = reader.next().unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
            if let Item::Record(record) = item {
                last_seq += 1;
                let expected = self.promised.get(record.seq as usize - 1);
                let expected = expected.unwrap_or_else(|| panic!("seed {seed}: record {} came back", record.seq));
                let found = (record.seq, record.now, record.payload);
                assert_eq!(found, (last_seq, expected.now, expected.payload.as_slice()), "seed {seed}");
            }
        }
        assert_eq!(last_seq, self.promised.len() as u64, "seed {seed}");
    }

    /// Appends one batch, again and again until it is durable.
    fn append(&mut self, hub: &mut Hub, appender: &mut Appender) -> Result<(), Died> {
        let first_seq = appender.next_seq();
        assert_eq!(first_seq, self.promised.len() as u64 + 1, "seed {}", self.seed);
        let hash_before = hub.outcome_hash();
        let mut batch = Batch::new();
        for seq in first_seq..=first_seq + self.draw.below(6) {
            self.now += 1 + self.draw.below(1_000);
            let now = Timestamp::from_millis(self.now);
            let drawn = self.draw.magnitude(3_000);
            let filler = "x".repeat(self.filler_bytes.unwrap_or(drawn) as usize);
            let payload = Payload::new(format!("{{\"number\":{seq},\"filler\":\"{filler}\"}}").as_bytes());
            let command =
                Command::Submit(Box::new(Submit::new(Name::new("echo").expect("it is short"), Some(payload))));
            let rules = hub.rules();
            assert!(hub.apply(now, command.clone()).is_durable(), "seed {}: a submit is refused", self.seed);
            Envelope::encode(rules, Caller::HUB, &command, batch.begin(seq, now));
            batch.commit();
            let mut payload = Vec::new();
            Envelope::encode(rules, Caller::HUB, &command, &mut payload);
            self.pending.push(Expected { now, payload, hash: hub.outcome_hash() });
        }
        while appender.append(first_seq, &mut batch, hash_before).is_err() {
            if self.disk.is_dead() {
                return Err(Died);
            }
        }
        self.promised.append(&mut self.pending);
        Ok(())
    }

    fn snapshot(&mut self, store: &Store, through: u64) -> Result<(), Died> {
        let report = match store.snapshot_by_replay(through, &mut |_| true) {
            Err(ReplayError::Read(ReadError::Bad(bad))) if self.has_bad_sector && is_unreadable(&bad.reason) => None,
            Err(error @ (ReplayError::Diverged(_) | ReplayError::Read(ReadError::Bad(_)))) => {
                panic!("seed {}: {error}", self.seed)
            }
            result => self.allow_failure(result)?,
        };
        match report {
            Some(report) => self.allow_failure(store.truncate(&report)).map(drop),
            None => Ok(()),
        }
    }

    fn allow_failure<T, E>(&self, result: Result<T, E>) -> Result<Option<T>, Died> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.disk.is_dead() => Err(Died),
            Err(_) => Ok(None),
        }
    }
}
