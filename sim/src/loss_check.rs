//! Loss check: whatever a hub loses, no id that a client was shown names another job or lease.
//!
//! The real journal on a virtual disk, and the service without requests. Between two lives the folder is left as it
//! is, damaged and repaired, taken back to its snapshot, or replaced by an older copy. Every id ever shown is kept with
//! what it named, and each life looks all of them up.

use crate::disk::VirtualDisk;
use crate::draw::{Draw, Stream};
use sheratan_core::{
    Command, Complete, HubKey, LeaseRef, Name, NameSet, Outcome, Payload, Pull, ResultMark, Salt, Submit, Submitted,
    Timestamp,
};
use sheratan_io::journal::{
    Appender, Batch, HubId, Identity, Options, Recovery, RepairError, Store, recover, repair, rewind,
};
use sheratan_io::service::{Service, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A hub's starts in one run.
const LIVES: u64 = 8;
const STEPS_MAX: u64 = 60;
/// A header and some records: a roll every few commands.
const SEGMENT_BYTES: u64 = 8 << 10;
const FOLDER: &str = "/data/hub";
const IDENTITY: Identity = Identity { hub_id: HubId([1; 16]), key: HubKey::new([2; 16]) };

/// What a run came through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Older copies that were restored.
    pub copies: u64,
    /// Repairs that lost records.
    pub repairs: u64,
    /// Returns to a snapshot.
    pub rewinds: u64,
    /// Ids that named something and later did not.
    pub orphaned_ids: u64,
}

/// Runs a seed. The error says which id names something else.
pub fn run_seed(seed: u64) -> Result<Losses, String> {
    Run::new(seed).go()
}

struct Run {
    seed: u64,
    draw: Draw,
    disk: VirtualDisk,
    /// An older copy of the folder.
    copy: Option<VirtualDisk>,
    /// What each id named that was shown: a job by its params, a lease by the node that it was given to.
    shown: BTreeMap<String, Named>,
    now: u64,
    /// Names and params that no other job, node or start has.
    next_unique: u64,
    losses: Losses,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Named {
    Job { params: String },
    Request { params: String },
    Lease { node: String },
}

struct Life {
    service: Service,
    appender: Appender,
    store: Store,
}

impl Run {
    fn new(seed: u64) -> Run {
        Run {
            seed,
            draw: Draw::new(seed, Stream::Lives),
            disk: VirtualDisk::new(Draw::new(seed, Stream::Disk)),
            copy: None,
            shown: BTreeMap::new(),
            now: 1_000,
            next_unique: 1,
            losses: Losses::default(),
        }
    }

    fn go(mut self) -> Result<Losses, String> {
        for _ in 0..LIVES {
            let mut life = self.start();
            self.look_up_all(&life)?;
            for _ in 0..self.draw.between(1, STEPS_MAX) {
                self.step(&mut life)?;
            }
            self.look_up_all(&life)?;
            drop(life);
            self.disk.kill();
            self.lose();
        }
        Ok(self.losses)
    }

    fn options(&self) -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES,
            disk: Arc::new(self.disk.clone()),
            new_identity: Some(IDENTITY),
            ..Options::default()
        }
    }

    fn unique(&mut self) -> u64 {
        self.next_unique += 1;
        self.next_unique
    }

    fn start(&mut self) -> Life {
        let recovered = recover(Path::new(FOLDER), self.options(), &mut |_| {});
        let Recovery { hub, appender, store, report } =
            recovered.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        // The clock of a machine may be behind what the journal has, as after an older copy it may be ahead.
        self.now = if self.draw.chance(500) { hub.now().as_millis() } else { self.now.max(hub.now().as_millis()) };
        let now = Timestamp::from_millis(self.now);
        let mut service = Service::new(hub, report.next_seq, Settings::local(now));
        service.begin_ids(now, Salt::new(self.unique().to_le_bytes()));
        service.adopt_rules(now);
        let mut life = Life { service, appender, store };
        life.commit();
        life
    }

    fn step(&mut self, life: &mut Life) -> Result<(), String> {
        self.now += self.draw.below(20);
        let now = Timestamp::from_millis(self.now);
        let name = |text: &str| Name::new(text).expect("it is short");
        match self.draw.below(100) {
            0..50 => {
                let params = format!("{{\"unique\":{}}}", self.unique());
                let submit = Submit::new(name("echo"), Some(Payload::new(params.as_bytes())));
                let outcome = life.apply(now, Command::Submit(Box::new(submit)));
                let Outcome::Submitted(Submitted::Accepted { job, .. }) = outcome else { return Ok(()) };
                let ids = life.service.hub().ids();
                let (job_id, request_id) = (ids.job_id(job).to_string(), ids.request_id(job).to_string());
                self.show(request_id, Named::Request { params: params.clone() })?;
                self.show(job_id, Named::Job { params })
            }
            50..85 => {
                let node = format!("node-{}", self.unique());
                let pull = Pull { node: name(&node), jobs_max: 1, kinds: NameSet::EMPTY, lease_duration_ms: None };
                let Outcome::Pulled(pulled) = life.apply(now, Command::Pull(pull)) else { return Ok(()) };
                let hub = life.service.hub();
                let ids = pulled.leases.iter().map(|leased| hub.ids().lease_id(leased.lease, hub.now()).to_string());
                let ids: Vec<_> = ids.collect();
                ids.into_iter().try_for_each(|id| self.show(id, Named::Lease { node: node.clone() }))
            }
            85..95 => {
                let leases: Vec<_> =
                    self.shown.iter().filter(|(_, named)| matches!(named, Named::Lease { .. })).collect();
                if leases.is_empty() {
                    return Ok(());
                }
                let (id, _) = self.draw.pick(&leases);
                let Some(lease) = life.service.hub().parse_lease_id(id) else { return Ok(()) };
                let ok = self.draw.chance(300);
                life.apply(now, Command::Complete(failed_or_done(lease, ok)));
                Ok(())
            }
            95..98 => {
                let through = life.appender.sealed_through();
                if through > 0 {
                    let made = life.store.snapshot_by_replay(through, &mut |_| true);
                    made.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
                }
                Ok(())
            }
            _ => {
                let draw = Draw::new(self.seed + self.unique(), Stream::Disk);
                self.copy = Some(self.disk.copy_files(draw));
                Ok(())
            }
        }
    }

    fn show(&mut self, id: String, named: Named) -> Result<(), String> {
        match self.shown.insert(id.clone(), named.clone()) {
            Some(before) if before != named => Err(format!("{id} was given to {before:?} and to {named:?}")),
            _ => Ok(()),
        }
    }

    fn look_up_all(&mut self, life: &Life) -> Result<(), String> {
        let hub = life.service.hub();
        let mut orphaned = 0;
        for (id, named) in &self.shown {
            let found = match named {
                Named::Request { .. } => continue,
                Named::Job { .. } => {
                    let job = hub.ids().parse_job_id(id).and_then(|job| hub.queue().get(job));
                    job.map(|job| Named::Job { params: job.params().map_or_else(String::new, text_of) })
                }
                Named::Lease { .. } => hub.parse_lease_id(id).map(|lease| Named::Lease { node: node_of(life, lease) }),
            };
            match found {
                None => orphaned += 1,
                Some(found) if found == *named => {}
                Some(found) => return Err(format!("{id} named {named:?}, and now {found:?}")),
            }
        }
        self.losses.orphaned_ids = self.losses.orphaned_ids.max(orphaned);
        Ok(())
    }

    /// What happens to the folder between two lives.
    fn lose(&mut self) {
        let now = Timestamp::from_millis(self.now + self.next_unique);
        match self.draw.below(4) {
            0 => {}
            1 => {
                let Some(copy) = self.copy.take() else { return };
                self.disk = copy;
                self.losses.copies += 1;
            }
            2 => {
                let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
                self.disk.flip_bit_of(&mut self.draw, is_segment);
                match repair(Path::new(FOLDER), self.options(), now, true) {
                    Ok(report) => self.losses.repairs += u64::from(report.lost.is_some()),
                    // The header of the only segment: nobody knows any more which hub it is of.
                    Err(RepairError::NothingReadable(_)) => self.disk.unflip(),
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
            }
            _ => {
                let is_rewound =
                    rewind(Path::new(FOLDER), self.options(), now, true).is_ok_and(|report| report.is_done);
                self.losses.rewinds += u64::from(is_rewound);
            }
        }
    }
}

impl Life {
    fn apply(&mut self, now: Timestamp, command: Command) -> Outcome {
        let outcome = self.service.command(now, command).unwrap_or_else(|_| panic!("the journal does not fail"));
        self.service.settle(now);
        self.commit();
        outcome
    }

    fn commit(&mut self) {
        if let Some(mut handover) = self.service.take_batch(Batch::new()) {
            let appended = self.appender.append(handover.first_seq, &mut handover.batch, handover.hash_before);
            appended.expect("the disk does not fail");
            self.service.set_durable(self.service.last_seq());
        }
    }
}

fn failed_or_done(lease: LeaseRef, ok: bool) -> Complete {
    Complete {
        job: lease.job,
        lease: Some(lease),
        node: None,
        ok,
        result: None,
        error: None,
        is_retryable: true,
        mark: ResultMark::Content(u64::from(lease.generation)),
        integrity: None,
        retry_after_ms: None,
    }
}

fn text_of(payload: &Payload) -> String {
    String::from_utf8_lossy(payload.as_bytes()).into_owned()
}

/// The node that a lease which the hub knows was given to.
fn node_of(life: &Life, lease: LeaseRef) -> String {
    let job = life.service.hub().queue().get(lease.job).expect("a known lease is of a known job");
    let age = job.generation() - lease.generation;
    let attempt = job.attempts().nth_back(age as usize).expect("a known lease has an attempt");
    attempt.node.to_string()
}
