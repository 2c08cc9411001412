//! The world: one run of a hub, from a seed to its last step.

use crate::dice::Dice;
use crate::draw::{Held, Profile};
use crate::invariant;
use crate::tape::Tape;
use sheratan_core::command::{Command, Pull};
use sheratan_core::effect::Effect;
use sheratan_core::hub::Hub;
use sheratan_core::ids::{HubKey, JobSeq, NodeNo};
use sheratan_core::outcome::{Outcome, Pulled, Submitted};
use sheratan_core::queue::waiter::WaiterId;
use sheratan_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Steps between two looks at every job: most of a run's time would go into them otherwise.
const FULL_CHECK_EVERY: u64 = 64;

/// Leases that are remembered, to be used when they are long over.
const HELD_MAX: usize = 500;

/// Records behind a snapshot that a crash may lose.
const LOST_MAX: u64 = 5;

/// When every run begins: a day in 2026.
const START: Timestamp = Timestamp::from_millis(1_768_510_323_348);

/// One run.
pub struct World {
    dice: Dice,
    profile: Profile,
    hub: Hub,
    tape: Tape,
    now: Timestamp,
    held: Vec<Held>,
    nodes: Vec<NodeNo>,
    waiters: BTreeMap<WaiterId, Pull>,
    next_waiter: u64,
    /// Jobs whose submit was acknowledged, and that did not end yet.
    open: BTreeSet<JobSeq>,
    steps: u64,
    report: Report,
}

/// What a run did.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// Commands that were applied.
    pub commands: u64,
    /// Those that changed something.
    pub records: u64,
    /// Crashes, each with a recovery in two ways.
    pub crashes: u64,
    /// Jobs that were submitted.
    pub submitted: u64,
    /// Leases that were given.
    pub leased: u64,
    /// Jobs that came to an end.
    pub ended: u64,
    /// The last state's digest, in hex.
    pub digest: String,
}

/// A run that went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// The step.
    pub step: u64,
    /// What did not hold.
    pub what: String,
}

/// Runs a seed.
pub fn run(seed: u64, steps: u64) -> Result<Report, Broken> {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step().map_err(|what| Broken { seed, step: world.steps, what })?;
    }
    world.finish().map_err(|what| Broken { seed, step: steps, what })
}

impl World {
    /// A hub that was just started.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let key = HubKey::new(*b"a simulated hub!");
        World {
            profile: Profile::draw(&mut dice),
            dice,
            hub: Hub::new(key),
            tape: Tape::new(key),
            now: START,
            held: Vec::new(),
            nodes: Vec::new(),
            waiters: BTreeMap::new(),
            next_waiter: 0,
            open: BTreeSet::new(),
            steps: 0,
            report: Report::default(),
        }
    }

    /// Lets one thing happen.
    pub fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        self.now = self.profile.pass(&mut self.dice, self.now, self.hub.next_deadline());
        if self.steps == 1 || self.dice.once_in(self.profile.configure_every) {
            let limits = self.profile.limits(&mut self.dice);
            self.apply(Command::Configure(Box::new(limits)))?;
        } else if self.dice.once_in(self.profile.crash_every) {
            self.crash()?;
        } else {
            self.act()?;
        }
        self.settle()?;
        if self.steps.is_multiple_of(FULL_CHECK_EVERY) {
            self.hub.advance(self.hub.now());
            self.settle()?;
            invariant::check(&self.hub)?;
            self.check_open()?;
        }
        Ok(())
    }

    /// The last looks, and what the run did.
    pub fn finish(mut self) -> Result<Report, String> {
        self.hub.advance(self.now);
        self.settle()?;
        invariant::check(&self.hub)?;
        self.check_open()?;
        self.report.digest = self.hub.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.report)
    }

    fn act(&mut self) -> Result<(), String> {
        let World { dice, profile, held, hub, now, .. } = self;
        let command = match dice.below(20) {
            0..7 => Command::Submit(Box::new(profile.submit(dice, *now))),
            7..11 => Command::Pull(profile.pull(dice)),
            11..15 => Command::Complete(profile.complete(dice, held, hub.queue().next_seq())),
            15 => Command::Extend(profile.extend(dice, held)),
            16 => Command::Heartbeat(profile.heartbeat(dice)),
            17 if !self.nodes.is_empty() => Command::NodesSeen(vec![*dice.pick(&self.nodes)]),
            18 => return self.poll(),
            _ => {
                hub.advance(*now);
                return Ok(());
            }
        };
        self.apply(command).map(drop)
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, String> {
        let encoded = Tape::begin(&command);
        if Command::decode(&encoded).as_ref() != Ok(&command) {
            return Err(format!("it does not read back: {command:?}"));
        }
        let now = self.now.max(self.hub.now());
        let node = if let Command::Pull(pull) = &command { Some(pull.node.clone()) } else { None };
        let outcome = self.hub.apply(now, command);
        self.report.commands += 1;
        if outcome.is_durable() {
            self.tape.push(now, encoded, self.hub.outcome_hash());
            self.report.records += 1;
        }
        match &outcome {
            Outcome::Submitted(Submitted::Accepted { job, supersedes, .. }) => {
                self.report.submitted += 1;
                self.open.insert(*job);
                // One that supersedes another takes its place, even where limits were lowered meanwhile.
                let is_full = self.hub.counts().waiting() > self.hub.limits().queue_depth_max;
                if is_full && supersedes.is_none() {
                    return Err(format!("{} jobs wait after a submit that was accepted", self.hub.counts().waiting()));
                }
            }
            Outcome::Heard { node } if !self.nodes.contains(node) => self.nodes.push(*node),
            Outcome::Pulled(pulled) => self.take_leases(node.expect("it was a pull"), pulled)?,
            _ => {}
        }
        Ok(outcome)
    }

    /// Notes leases, which must come in order and within the limits.
    fn take_leases(&mut self, node: sheratan_core::name::Name, pulled: &Pulled) -> Result<(), String> {
        let mut last = None;
        for leased in &pulled.leases {
            let job = self.hub.queue().get(leased.lease.job).ok_or("a leased job is unknown")?;
            let rank = (job.priority(), job.seq());
            if last.is_some_and(|last| last >= rank) {
                return Err(format!("job {} was leased out of order", job.seq().get()));
            }
            last = Some(rank);
            self.held.push(Held { lease: leased.lease, node: node.clone() });
            self.report.leased += 1;
        }
        let excess = self.held.len().saturating_sub(HELD_MAX);
        self.held.drain(..excess);
        let (leased, max) = (self.hub.counts().leased, self.hub.limits().inflight_max);
        if !pulled.leases.is_empty() && leased > max {
            return Err(format!("{leased} jobs are leased of {max}"));
        }
        Ok(())
    }

    /// A long poll: pulls, and parks if there is nothing.
    fn poll(&mut self) -> Result<(), String> {
        let pull = self.profile.pull(&mut self.dice);
        let Outcome::Pulled(pulled) = self.apply(Command::Pull(pull.clone()))? else { return Ok(()) };
        if pulled.leases.is_empty() && pulled.defer_ms.get() == 0 {
            self.next_waiter += 1;
            let id = WaiterId(self.next_waiter);
            if self.hub.park(id, &pull) {
                self.waiters.insert(id, pull);
            }
        }
        if self.dice.once_in(4)
            && let Some(id) = self.waiters.keys().next().copied()
        {
            self.waiters.remove(&id);
            self.hub.unpark(id);
        }
        Ok(())
    }

    /// Carries out what follows, as the shell does.
    fn settle(&mut self) -> Result<(), String> {
        while !self.hub.effects().is_empty() {
            for effect in std::mem::take(self.hub.effects()) {
                match effect {
                    Effect::Audit(..) => {}
                    Effect::Wake(id) => self.wake(id)?,
                    Effect::Final(job) => {
                        self.report.ended += 1;
                        if !self.open.remove(&job) {
                            return Err(format!("job {} ended twice, or was never acknowledged", job.get()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn wake(&mut self, id: WaiterId) -> Result<(), String> {
        let Some(pull) = self.waiters.remove(&id) else {
            // Its client went away between the job and its waking.
            self.hub.wake_others();
            return Ok(());
        };
        let outcome = self.apply(Command::Pull(pull.clone()))?;
        match outcome {
            Outcome::Pulled(pulled) if pulled.leases.is_empty() && pulled.defer_ms.get() == 0 => {
                if self.hub.park(id, &pull) {
                    self.waiters.insert(id, pull);
                } else {
                    self.hub.wake_others();
                }
            }
            Outcome::Pulled(pulled) if !pulled.leases.is_empty() => {}
            _ => self.hub.wake_others(),
        }
        Ok(())
    }

    /// The hub dies: what the journal holds must make the same hub, in two ways; what it lost never was.
    fn crash(&mut self) -> Result<(), String> {
        self.report.crashes += 1;
        // What a command set for this very instant has not happened yet.
        let live = self.hub.now();
        self.hub.advance(live);
        self.settle()?;
        let mut replayed = self.tape.replay()?;
        replayed.advance(live);
        same(&replayed, &self.hub).map_err(|what| format!("the whole journal makes another state: {what}"))?;
        let mut recovered = self.tape.recover()?;
        recovered.advance(live);
        same(&recovered, &self.hub).map_err(|what| format!("snapshot and journal make another state: {what}"))?;
        if self.dice.once_in(2) {
            self.tape.snapshot(&self.hub);
        }
        let lost = if self.dice.once_in(3) { self.dice.below(LOST_MAX) as usize } else { 0 };
        self.tape.lose(lost);
        self.hub = self.tape.recover()?;
        self.hub.effects().clear();
        self.waiters.clear();
        // What was lost was never acknowledged; what ended in it has not ended.
        self.open =
            self.hub.queue().iter_from(JobSeq::new(0)).filter(|job| !is_final(job)).map(|job| job.seq()).collect();
        Ok(())
    }

    /// Each acknowledged job that did not end is there.
    fn check_open(&self) -> Result<(), String> {
        let missing = self.open.iter().find(|seq| self.hub.queue().get(**seq).is_none_or(is_final));
        missing.map_or(Ok(()), |seq| Err(format!("job {} was acknowledged and is lost", seq.get())))
    }
}

/// Whether two hubs are in the same state; where they first differ if not.
fn same(found: &Hub, expected: &Hub) -> Result<(), String> {
    if found.digest() == expected.digest() && found.outcome_hash() == expected.outcome_hash() {
        return Ok(());
    }
    let records = |hub: &Hub| {
        let mut records = Vec::new();
        hub.snapshot(|record| records.push(record.to_vec()));
        records
    };
    let (found, expected) = (records(found), records(expected));
    let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.len().min(expected.len()));
    Err(format!("snapshot record {at} is {:02x?} and not {:02x?}", found.get(at), expected.get(at)))
}

fn is_final(job: &sheratan_core::queue::job::Job) -> bool {
    matches!(job.state(), sheratan_core::queue::job::State::Final { .. })
}
