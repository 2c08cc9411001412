//! Kept journals: the files of a hub, beside the digest of its last state.
//!
//! Each is made once, by the build that it is named after, and never changed: every later build must replay it to the
//! same digest and the same outcome hash, from its snapshot and from its first record. `cargo run -p sheratan-io
//! --example keep_journal -- io/tests/journals/NAME` makes one.

use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::limits::Limits;
use sheratan_core::{
    ActOn, AdoptOrphan, BeginAct, Caller, Command, Complete, Drain, Envelope, Extend, Health, Heartbeat, Hub, HubKey,
    Idempotency, JobSeq, KindRules, LeaseRef, LetterFilter, Millis, Name, NameSet, NodeIndex, OnDuplicate, OnExhausted,
    OnFailed, Outcome, ParkResult, Payload, Priority, Pull, Release, ResultMark, RulesVersion, SetKind, Setting,
    Submit, Timestamp, Utc, Weight, Zone,
};
use sheratan_io::journal::{Batch, HubId, Identity, Options, Recovery, recover, verify};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The file with the result that a replay must have.
const DIGEST: &str = "digest";
const FOLDERS: [&str; 2] = ["journal", "snapshots"];
/// Small, since a segment's unused end is zeros, which the repository would keep.
const SEGMENT_BYTES: u64 = 16 << 10;
const RECORDS: u64 = 600;
const BATCH_RECORDS_MAX: u32 = 5;

/// Makes a journal in a new folder, from a fixed history of every kind of command, and its digest beside it.
pub fn keep(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), fs::create_dir_all)?;
    fs::create_dir(folder)?;
    let mut recovery = recover(folder, options(), &mut |_| {}).map_err(io::Error::other)?;
    let mut history = History::default();
    while recovery.appender.next_seq() <= RECORDS {
        history.append_batch(&mut recovery);
        if recovery.appender.next_seq() > RECORDS / 4 && recovery.hub.rules() < RulesVersion::NEWEST {
            history.append(&mut recovery, vec![Command::AdoptRules(RulesVersion::NEWEST)]);
        }
        if recovery.appender.next_seq() > RECORDS / 2 && fs::read_dir(folder.join("snapshots"))?.next().is_none() {
            let covered_seq = recovery.appender.next_seq() - 1;
            recovery.store.write_snapshot(covered_seq, &recovery.hub).map_err(io::Error::other)?;
        }
    }
    history.append(&mut recovery, vec![Command::Tick]);
    recovery.appender.seal(recovery.hub.outcome_hash());
    let expected = found(&recovery.hub, recovery.appender.next_seq() - 1);
    drop(recovery);
    fs::remove_file(folder.join("lock"))?;
    fs::write(folder.join(DIGEST), expected)
}

/// Replays a copy of a kept journal, from its first record and from its snapshot, and reports differences.
pub fn check(folder: &Path) -> Result<(), String> {
    let io = |error: io::Error| format!("{}: {error}", folder.display());
    let expected = fs::read_to_string(folder.join(DIGEST)).map_err(io)?;
    for with_snapshots in [true, false] {
        let copy = tempfile::tempdir().map_err(io)?;
        for name in FOLDERS.iter().filter(|name| with_snapshots || **name == "journal") {
            copy_folder(&folder.join(name), &copy.path().join(name)).map_err(io)?;
        }
        let report = verify(copy.path(), true).map_err(io)?;
        if !report.is_ok() {
            return Err(format!("{}: {report}", folder.display()));
        }
        let recovery = recover(copy.path(), options(), &mut |_| {}).map_err(|error| error.to_string())?;
        let found = found(&recovery.hub, recovery.report.next_seq - 1);
        if found != expected {
            return Err(format!("{}: the replay has\n{found}but the recorded result is\n{expected}", folder.display()));
        }
    }
    Ok(())
}

fn found(hub: &Hub, records: u64) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("digest {}\noutcome_hash {}\nrecords {records}\n", hex(&hub.digest()), hex(&hub.outcome_hash()))
}

fn options() -> Options {
    let new_identity = Some(Identity { hub_id: HubId([0x4B; 16]), key: HubKey::new([0x65; 16]) });
    Options { segment_bytes: SEGMENT_BYTES, new_identity, ..Options::default() }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        // Git does not store empty folders.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    fs::create_dir(to)?;
    for entry in entries {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The clients and nodes of an invented mesh, which do the same in each run.
struct History {
    now: u64,
    drawn: u64,
    leases: Vec<LeaseRef>,
    submits: u64,
}

impl Default for History {
    fn default() -> Self {
        History { now: 1_768_510_323_348, drawn: 1, leases: Vec::new(), submits: 0 }
    }
}

impl History {
    /// Appends these commands, which change something, as a batch.
    fn append(&mut self, recovery: &mut Recovery, commands: Vec<Command>) {
        let (first_seq, hash_before) = (recovery.appender.next_seq(), recovery.hub.outcome_hash());
        let mut batch = Batch::new();
        for command in commands {
            let now = Timestamp::from_millis(self.now);
            let record = batch.begin(first_seq + u64::from(batch.records()), now);
            Envelope::encode(recovery.hub.rules(), Caller::HUB, &command, record);
            assert!(recovery.hub.apply(now, command).is_durable());
            batch.commit();
        }
        recovery.appender.append(first_seq, &mut batch, hash_before).expect("there is room for a small journal");
    }

    fn append_batch(&mut self, recovery: &mut Recovery) {
        let (first_seq, hash_before) = (recovery.appender.next_seq(), recovery.hub.outcome_hash());
        let mut batch = Batch::new();
        while batch.records() < BATCH_RECORDS_MAX && (batch.is_empty() || self.draw(4) > 0) {
            let command = match first_seq {
                1 if batch.is_empty() => Command::Set(limits().differences(&Limits::default())),
                _ => self.command(),
            };
            self.now += self.draw(4_000);
            let now = Timestamp::from_millis(self.now);
            let record = batch.begin(first_seq + u64::from(batch.records()), now);
            Envelope::encode(recovery.hub.rules(), Caller::HUB, &command, record);
            let outcome = recovery.hub.apply(now, command);
            if let Outcome::Pulled(pulled) = &outcome {
                self.leases.extend(pulled.leases.iter().map(|leased| leased.lease));
            }
            if outcome.is_durable() { batch.commit() } else { batch.abort() }
        }
        recovery.appender.append(first_seq, &mut batch, hash_before).expect("there is room for a small journal");
    }

    fn command(&mut self) -> Command {
        match self.draw(28) {
            0 => Command::Set(vec![
                Setting::NodesMax(100 + self.draw(10)),
                Setting::IdempotencyKeysMax(6 + self.draw(4)),
            ]),
            1 => Command::NodesSeen(vec![NodeIndex::new(1)]),
            2..=3 => Command::Heartbeat(self.heartbeat()),
            4..=10 => Command::Submit(Box::new(self.submit())),
            11..=14 => Command::Pull(Pull {
                node: self.node(),
                jobs_max: 1 + self.draw(3) as u32,
                kinds: if self.draw(2) == 0 { NameSet::EMPTY } else { vec![name("resize")].into() },
                lease_duration_ms: (self.draw(3) == 0).then(|| Millis::new(5_000)),
            }),
            15 => {
                let leases = self.leases.last().copied().into_iter().collect();
                Command::Extend(Extend {
                    node: self.node(),
                    leases,
                    lease_duration_ms: None,
                    progress: None,
                    note: None,
                })
            }
            16..=22 => self.operator(),
            _ if self.leases.is_empty() => Command::Tick,
            _ => {
                let at = self.draw(self.leases.len() as u64) as usize;
                Command::Complete(self.complete(at))
            }
        }
    }

    /// What operators do, and workers that give a lease back.
    fn operator(&mut self) -> Command {
        let job = JobSeq::new(1 + self.draw(self.submits + 1));
        match self.draw(16) {
            0..=1 => Command::Cancel(job),
            2 => Command::Release(Release {
                node: self.node(),
                leases: self.leases.last().copied().into_iter().collect(),
            }),
            3..=4 => Command::SetKind(Box::new(self.set_kind())),
            5 => Command::Requeue(job),
            6 => Command::Discard(job),
            7 => {
                let deadline_ms = (self.draw(2) == 0).then(|| Millis::new(6_000));
                Command::Drain(Drain { node: self.node(), deadline_ms, reason: Some(name("kernel")) })
            }
            8..=9 => Command::Resume(self.node()),
            10 => {
                let what = [ActOn::Requeue, ActOn::Discard][self.draw(2) as usize];
                let filter = LetterFilter { error: Some(name("no such")), ..LetterFilter::default() };
                let rate_per_sec = (self.draw(2) == 0).then_some(1);
                Command::BeginAct(Box::new(BeginAct { what, filter, rate_per_sec, count_max: None }))
            }
            11 => Command::CancelAct(1 + self.draw(3) as u32),
            12 => Command::ParkResult(Box::new(ParkResult {
                job_id: name(&format!("job_{:020x}", self.draw(8))),
                node: Some(self.node()),
                ok: true,
                result: Some(Payload::new(b"{\"bytes\":12}")),
                error: None,
                mark: ResultMark::Content(self.draw(1 << 40)),
                integrity: None,
            })),
            13 => Command::AdoptOrphan(AdoptOrphan { orphan: 1 + self.draw(4), job }),
            14 => Command::DiscardOrphan(1 + self.draw(4)),
            _ => Command::SetWeights(vec![Weight { group: self.node(), weight: 1 + self.draw(4) as u32 }]),
        }
    }

    fn set_kind(&mut self) -> SetKind {
        let rules = match self.draw(4) {
            0 => KindRules { inflight_max: Some(3), priority: Some(Priority::High), ..KindRules::NONE },
            1 => KindRules { leases_per_1000_sec: Some(500), burst: Some(2), ..KindRules::NONE },
            2 => KindRules {
                on_exhausted: Some(OnExhausted::Drop),
                max_run_ms: Some(Millis::new(9_000)),
                ..KindRules::NONE
            },
            _ => KindRules::NONE,
        };
        let kind = name(["resize", "transcode", "mail"][self.draw(3) as usize]);
        SetKind { kind, rules, expected: None, configured: None }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        Heartbeat {
            node: self.node(),
            zone: (self.draw(2) == 0).then(|| name("zone-a")).into(),
            capabilities: if self.draw(2) == 0 { NameSet::EMPTY } else { vec![name("cpu"), name("gpu")].into() },
            health: [Health::Green, Health::Yellow, Health::Red][self.draw(3) as usize],
            endpoint: (self.draw(2) == 0).then(|| name("http://10.0.0.7:9000")),
            labels: Some(Payload::new(b"{\"rack\":7}")),
            attestation: None,
            signing: None,
        }
    }

    fn submit(&mut self) -> Submit {
        self.submits += 1;
        let kind = name(["resize", "transcode", "mail"][self.draw(3) as usize]);
        let params = Payload::new(format!("{{\"number\":{}}}", self.submits).as_bytes());
        let priorities = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];
        let priority = priorities[self.draw(4) as usize];
        let mut submit = Submit { priority: Some(priority), ..Submit::new(kind, Some(params)) };
        match self.draw(8) {
            0 => submit.zone = Zone::new(name("zone-a")),
            1 => submit.requires = vec![name("gpu")].into(),
            2 => submit.delay_ms = Millis::new(20_000),
            3 => submit.run_at = Utc::from_millis(self.now + 30_000),
            4 => submit.ttl_ms = Some(Millis::new(15_000)),
            5 => (submit.attempts_max, submit.retry_budget_ms) = (Some(2), Some(Millis::new(60_000))),
            6 => submit.lease_duration_ms = Some(Millis::new(8_000)),
            _ => submit.idempotency = Some(self.idempotency()),
        }
        submit.client = (self.draw(2) == 0).then(|| self.node());
        submit
    }

    fn idempotency(&mut self) -> Idempotency {
        Idempotency {
            key: name(&format!("key-{}", self.draw(12))),
            payload_hash: [self.draw(2) as u8; 32],
            on_duplicate: [OnDuplicate::SameResult, OnDuplicate::LatestWins][self.draw(2) as usize],
            on_failed: [OnFailed::SameResult, OnFailed::NewJob][self.draw(2) as usize],
            ttl_ms: (self.draw(3) == 0).then(|| Millis::new(20_000)),
        }
    }

    fn complete(&mut self, at: usize) -> Complete {
        let lease = self.leases.swap_remove(at);
        let ok = self.draw(3) > 0;
        Complete {
            job: lease.job,
            lease: Some(lease),
            node: None,
            ok,
            result: ok.then(|| Payload::new(b"{\"bytes\":4711}")),
            error: (!ok).then(|| Payload::new(b"\"no such file\"")),
            is_retryable: self.draw(2) == 0,
            mark: match self.draw(3) {
                0 => ResultMark::Content(self.draw(1 << 40)),
                1 => ResultMark::Id(self.draw(1 << 40)),
                _ => ResultMark::IdAndContent { id: self.draw(1 << 30) as u32, content: self.draw(1 << 40) },
            },
            integrity: (self.draw(4) > 0).then(|| {
                let origin = [Origin::Worker, Origin::Signed, Origin::Hub][self.draw(3) as usize];
                Box::new(ResultIntegrity { origin, sha256: [self.draw(256) as u8; 32] })
            }),
            retry_after_ms: (self.draw(4) == 0).then(|| Millis::new(3_000)),
        }
    }

    fn node(&mut self) -> Name {
        name(["node-1", "node-2", "node-3"][self.draw(3) as usize])
    }

    /// Below `end`. Knuth's generator, whose upper bits are good enough to mix commands.
    fn draw(&mut self, end: u64) -> u64 {
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 16) % end
    }
}

/// Small enough that jobs are refused, dropped and retried within the history.
fn limits() -> Limits {
    Limits {
        queue_depth_max: 60,
        retained_jobs_max: 40,
        dead_jobs_max: 10,
        node_ttl_ms: Millis::new(30_000),
        idempotency_floor_ms: Millis::new(10_000),
        answers_bytes_max: 1_200,
        fair_by: 1,
        priority_age_ms: Millis::new(30_000),
        ..Limits::default()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("it is a short name")
}
