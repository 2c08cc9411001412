//! World: a hub under test, with the model, log and ledger that check it.
//!
//! Each step is applied to the hub and to the [`Model`], whose answers must be equal; commands that changed something
//! are appended to the [`Log`]; the [`Ledger`] checks the answers. Long polls are woken as the shell wakes them: the
//! pull is repeated as a command of its own, and if it finds nothing the poll is parked again. A crash rebuilds the hub
//! from log and snapshot, compares both with the one that crashed, and continues with one of them.

use crate::model_check::cool_down::check_cool_down;
use crate::model_check::explain::{check_explanation, is_waiting};
use crate::model_check::fairness::check_fairness;
use crate::model_check::invariants::{check_bounds, check_jobs, check_nothing_is_due, check_rows};
use crate::model_check::ledger::Ledger;
use crate::model_check::log::Log;
use crate::model_check::model::Model;
use crate::model_check::sightings::Sightings;
use crate::model_check::violation::Violation;
use sheratan_core::{
    Account, Caller, Command, Effect, Envelope, Hub, HubKey, JobSeq, LeaseRef, Millis, Name, Outcome, Pull, Pulled,
    Timestamp, WaiterId,
};
use sheratan_history::{Source, Step};
use std::collections::BTreeMap;

/// How many steps there are between two comparisons of the whole state with the model's.
const FULL_CHECK_EVERY: u64 = 16;

/// How many steps there are between two explanations that are tried.
const EXPLAIN_EVERY: u64 = 64;

/// While more than one retry waits for a credit, which is rare.
const RETRIES_EXPLAINED_EVERY: u64 = 4;

/// Explanations that are tried at the end of a run.
const EXPLAINED_AT_END: usize = 12;

/// Jobs among which they are chosen.
const EXPLAINED_AMONG: usize = 32;

/// How long before the end of time the last explanation is tried.
const EXPLAINED_BEFORE_END: Millis = Millis::from_secs(400 * 86_400);

/// The longest that the shell lets a poll wait.
const WAIT_MAX: Millis = Millis::from_secs(60);

/// A hub, and what checks it.
#[derive(Debug)]
pub struct World {
    key: HubKey,
    hub: Hub,
    model: Model,
    log: Log,
    ledger: Ledger,
    parked: BTreeMap<WaiterId, Parked>,
    /// Long polls that the hub woke and that did not repeat their pull yet.
    woken: Vec<WaiterId>,
    granted: Vec<(Name, LeaseRef)>,
    tally: Tally,
    sightings: Sightings,
}

/// A long poll, as the shell knows it.
#[derive(Debug)]
struct Parked {
    pull: Pull,
    is_patient: bool,
    until: Timestamp,
}

/// A run in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Steps applied.
    pub steps: u64,
    /// Commands applied, repeated pulls of long polls included.
    pub commands: u64,
    /// Commands that changed something.
    pub durable: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Long polls woken.
    pub wakes: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Crashes.
    pub crashes: u64,
    /// Crashes that lost records.
    pub torn: u64,
}

impl Tally {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.commands += other.commands;
        self.durable += other.durable;
        self.refused += other.refused;
        self.wakes += other.wakes;
        self.snapshots += other.snapshots;
        self.crashes += other.crashes;
        self.torn += other.torn;
    }
}

impl World {
    /// A new hub at the epoch.
    pub fn new(key: HubKey) -> Self {
        World {
            key,
            hub: serving(Hub::new(key)),
            model: Model::new(key),
            log: Log::new(key),
            ledger: Ledger::default(),
            parked: BTreeMap::new(),
            woken: Vec::new(),
            granted: Vec::new(),
            tally: Tally::default(),
            sightings: Sightings::default(),
        }
    }

    /// Applies a step, and checks the hub.
    pub fn step(&mut self, step: &Step) -> Result<(), Violation> {
        self.tally.steps += 1;
        match step {
            Step::Apply(now, command) => {
                self.end_waits(*now);
                if let Command::Slept(duration) = command {
                    self.parked.values_mut().for_each(|parked| parked.until = parked.until + *duration);
                }
                self.apply(*now, command)?;
            }
            Step::Advance(now) => {
                self.end_waits(*now);
                self.advance(*now)?;
            }
            Step::Park { id, pull, is_patient } => self.park(*id, pull, *is_patient)?,
            Step::Unpark(id) => {
                self.hub.unpark(*id);
                self.parked.remove(id);
            }
            Step::Settle => self.settle()?,
            Step::Sync => self.log.sync(),
            Step::Snapshot(of) => {
                self.tally.snapshots += 1;
                if self.model.is_visiting() {
                    self.sightings.note("snapshot within a visit");
                }
                self.log.make_snapshot(*of, &self.hub)?;
            }
            Step::Crash { kept, from } => self.crash(*kept, *from)?,
        }
        self.check_effects()?;
        check_bounds(&self.hub)?;
        if self.tally.steps.is_multiple_of(FULL_CHECK_EVERY) {
            self.check()?;
        }
        let has_retries = self.hub.queue().postponed_count() > 1;
        if self.tally.steps.is_multiple_of(if has_retries { RETRIES_EXPLAINED_EVERY } else { EXPLAIN_EVERY }) {
            self.check_explanations(1)?;
        }
        Ok(())
    }

    /// Ends the run: checks everything, and crashes once more without losing records.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.settle()?;
        self.check()?;
        self.check_explanations(EXPLAINED_AT_END)?;
        // It costs more than a whole run: of sixteen runs one has it.
        if self.hub.outcome_hash()[0].is_multiple_of(16) {
            check_cool_down(&self.hub)?;
        }
        self.log.sync();
        self.crash(0, Source::Log)?;
        self.check()
    }

    /// Walks through the whole state. O(n).
    pub fn check(&mut self) -> Result<(), Violation> {
        self.advance(self.hub.now())?;
        self.sightings.state(&self.hub);
        self.model.order_seen().for_each(|what| self.sightings.note(what));
        check_jobs(&self.hub)?;
        check_rows(&self.hub, &self.model)?;
        self.ledger.check(&self.hub)?;
        if !self.woken.is_empty() {
            return Ok(());
        }
        for (id, parked) in &self.parked {
            if self.model.has_fitting_job_for(&parked.pull) && self.model.room_for(&parked.pull.node) > 0 {
                let text = format!("long poll {} waits although there is a job for {:?}", id.0, parked.pull);
                return Err(Violation::Wake(text));
            }
        }
        if self.hub.queue().waiter_count() != self.parked.len() {
            let text = format!("{} long polls wait, not {}", self.hub.queue().waiter_count(), self.parked.len());
            return Err(Violation::Wake(text));
        }
        Ok(())
    }

    /// Tries the explanations of some of the jobs that wait, of rare reasons first. Near the end of time not all instants are
    /// told apart.
    fn check_explanations(&mut self, count: usize) -> Result<(), Violation> {
        self.advance(self.hub.now())?;
        if self.hub.now() + EXPLAINED_BEFORE_END == Timestamp::NEVER {
            return Ok(());
        }
        let waiting = self.hub.queue().iter_from(JobSeq::FIRST).filter(is_waiting).map(|job| job.seq());
        let waiting: Vec<_> = waiting.collect();
        let first = self.tally.commands as usize % waiting.len().max(1);
        let some = waiting.iter().cycle().skip(first).take(waiting.len().min(EXPLAINED_AMONG));
        let mut some: Vec<_> = some.map(|job| (self.sightings.rarest_reason(&self.hub, *job), *job)).collect();
        some.sort_by_key(|(seen, _)| *seen);
        for (_, job) in some.into_iter().take(count) {
            self.sightings.explanation(&self.hub, job);
            check_explanation(&self.hub, job)?;
            check_fairness(&self.hub, &self.model, job)?;
        }
        Ok(())
    }

    /// The hub under test.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The run so far in numbers.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The ledger of answers so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Outcomes and effects so far, counted by kind.
    pub fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Removes the leases that were granted since the last call, with their nodes.
    pub fn drain_granted(&mut self) -> Vec<(Name, LeaseRef)> {
        std::mem::take(&mut self.granted)
    }

    /// How many records the log has.
    pub fn log_len(&self) -> usize {
        self.log.len()
    }

    fn apply(&mut self, now: Timestamp, command: &Command) -> Result<Outcome, Violation> {
        self.tally.commands += 1;
        let journaled_at = now.max(self.hub.now());
        let mut bytes = Vec::new();
        Envelope::encode(self.hub.rules(), Caller::HUB, command, &mut bytes);
        let expected = self.model.apply(now, command, self.hub.ids());
        let outcome = self.hub.apply(now, command.clone());
        if outcome != expected {
            let text = format!("{command:?} at {}: expected {expected:?}, got {outcome:?}", now.as_millis());
            return Err(Violation::Answer(text));
        }
        let passed = match command {
            Command::Slept(duration) => *duration,
            // Leases before it and after it must not start at one instant.
            Command::BeginSalt(_) => Millis::new(1),
            _ => Millis::ZERO,
        };
        if self.hub.now() != self.model.now() || self.hub.now() != journaled_at + passed {
            let text = format!("the hub's time is {:?} after a command at {journaled_at:?}", self.hub.now());
            return Err(Violation::Invariant(text));
        }
        if outcome.is_durable() {
            self.tally.durable += 1;
            self.log.append(journaled_at, bytes, &self.hub);
        }
        self.tally.refused += u64::from(matches!(outcome, Outcome::Refused(_)));
        check_nothing_is_due(&self.hub)?;
        // Effects first: a job's end is reported before the outcome that follows from it.
        self.check_effects()?;
        self.sightings.outcome(&outcome);
        self.ledger.outcome(command, &outcome, &self.hub)?;
        if let (Command::Pull(pull), Outcome::Pulled(pulled)) = (command, &outcome) {
            self.granted.extend(pulled.leases.iter().map(|leased| (pull.node.clone(), leased.lease)));
        }
        Ok(outcome)
    }

    fn advance(&mut self, now: Timestamp) -> Result<(), Violation> {
        self.hub.advance(now);
        self.model.advance(now);
        check_nothing_is_due(&self.hub)?;
        let (hub_at, model_at) = (self.hub.next_due_at(), self.model.next_due_at());
        if model_at.is_some_and(|due| due != Timestamp::NEVER && hub_at.is_none_or(|at| at > due)) {
            let text = format!("the next deadline is {hub_at:?}, but the model's is {model_at:?}");
            return Err(Violation::Invariant(text));
        }
        self.check_effects()
    }

    /// Checks the effects of a command or of passing time.
    fn check_effects(&mut self) -> Result<(), Violation> {
        let mut effects = Vec::new();
        self.hub.settle(&mut effects);
        self.check_ends_and_wakes(effects)
    }

    /// Checks that the model's jobs ended, in its order, and that each woken long poll was parked.
    fn check_ends_and_wakes(&mut self, effects: Vec<Effect>) -> Result<(), Violation> {
        let mut ended = Vec::new();
        for effect in effects {
            self.sightings.effect(&effect);
            self.ledger.effect(&effect)?;
            match effect {
                Effect::Ended { job, .. } => ended.push(job),
                Effect::Wake(id) if self.parked.contains_key(&id) && !self.woken.contains(&id) => {
                    self.woken.push(id);
                }
                Effect::Wake(id) => {
                    return Err(Violation::Wake(format!("long poll {} was woken and is not parked", id.0)));
                }
                Effect::Audit(..) => {}
            }
        }
        let expected = self.model.drain_ended();
        if ended == expected {
            return Ok(());
        }
        Err(Violation::Answer(format!("expected the end of {expected:?}, that of {ended:?} was reported")))
    }

    /// Parks a long poll as the shell does after a pull that found nothing.
    fn park(&mut self, id: WaiterId, pull: &Pull, is_patient: bool) -> Result<(), Violation> {
        // A drained node's poll is answered.
        if self.parked.contains_key(&id) || self.model.is_drained(&pull.node) {
            return Ok(());
        }
        let is_parked = self.hub.park(id, pull);
        if is_parked == self.model.has_job_for(pull) {
            return Err(Violation::Wake(format!("parking {pull:?} gave {is_parked}")));
        }
        if is_parked {
            let until = self.hub.now() + WAIT_MAX;
            self.parked.insert(id, Parked { pull: pull.clone(), is_patient, until });
        }
        Ok(())
    }

    /// Answers the long polls whose wait is over, before anything else.
    fn end_waits(&mut self, now: Timestamp) {
        let over: Vec<_> = self.parked.iter().filter(|(_, parked)| parked.until <= now).map(|(id, _)| *id).collect();
        for id in over {
            self.hub.unpark(id);
            self.parked.remove(&id);
        }
    }

    /// Repeats the pulls of woken long polls, as the shell does when it has applied a batch of commands, until none is
    /// woken.
    fn settle(&mut self) -> Result<(), Violation> {
        let mut rounds_left = 2 * self.parked.len() + 2;
        while !self.woken.is_empty() {
            if rounds_left == 0 {
                return Err(Violation::Wake("long polls are woken over and over".to_owned()));
            }
            rounds_left -= 1;
            for id in std::mem::take(&mut self.woken) {
                self.wake(id)?;
            }
            self.check_effects()?;
        }
        Ok(())
    }

    fn wake(&mut self, id: WaiterId) -> Result<(), Violation> {
        self.tally.wakes += 1;
        let Some(parked) = self.parked.remove(&id).filter(|parked| parked.is_patient) else { return Ok(()) };
        let outcome = self.apply(self.hub.now(), &Command::Pull(parked.pull.clone()))?;
        let has_found_nothing = matches!(outcome, Outcome::Pulled(Pulled { leases, defer_ms, .. })
            if leases.is_empty() && defer_ms == Millis::ZERO);
        if has_found_nothing && self.hub.park(id, &parked.pull) {
            self.parked.insert(id, parked);
        }
        Ok(())
    }

    fn crash(&mut self, kept: u64, from: Source) -> Result<(), Violation> {
        self.tally.crashes += 1;
        let left = self.log.left_after_crash(kept);
        let is_torn = left < self.log.len();
        let mut by_log = self.log.rebuild(left, Source::Log)?;
        let mut by_snapshot = self.log.rebuild(left, Source::Snapshot)?;
        if !is_torn {
            // The hub may have seen later instants than its last record's, by commands that changed nothing.
            self.advance(self.hub.now())?;
            for hub in [&mut by_log, &mut by_snapshot] {
                hub.advance(self.hub.now());
            }
            compare(&self.hub, &by_log, "the hub that crashed and the one rebuilt from the log")?;
        } else {
            let now = by_log.now().max(by_snapshot.now());
            by_log.advance(now);
            by_snapshot.advance(now);
        }
        compare(&by_log, &by_snapshot, "the hubs rebuilt from the log and from the snapshot")?;
        self.hub = serving(if from == Source::Log { by_log } else { by_snapshot });
        self.parked.clear();
        self.woken.clear();
        if is_torn {
            self.tally.torn += 1;
            self.log.truncate(left);
            self.rebuild_model()?;
        }
        Ok(())
    }

    /// Rebuilds model and ledger from the records that are left in the log.
    fn rebuild_model(&mut self) -> Result<(), Violation> {
        let (mut hub, mut effects) = (serving(Hub::new(self.key)), Vec::new());
        self.model = Model::new(self.key);
        self.ledger = Ledger::default();
        for entry in self.log.commands() {
            let (now, command) = entry?;
            self.model.apply(now, &command, hub.ids());
            let outcome = hub.apply(now, command.clone());
            hub.settle(&mut effects);
            effects.drain(..).try_for_each(|effect| self.ledger.effect(&effect))?;
            self.ledger.outcome(&command, &outcome, &hub)?;
        }
        self.model.advance(self.hub.now());
        hub.advance(self.hub.now());
        hub.settle(&mut effects);
        effects.drain(..).try_for_each(|effect| self.ledger.effect(&effect))?;
        self.model.drain_ended();
        Ok(())
    }
}

/// A hub that serves clients.
fn serving(mut hub: Hub) -> Hub {
    hub.serve();
    hub
}

fn compare(one: &Hub, other: &Hub, which: &str) -> Result<(), Violation> {
    let differs = |what: &str| Err(Violation::Replay(format!("{which} differ in {what}")));
    if one.outcome_hash() != other.outcome_hash() {
        return differs("their outcomes");
    }
    if one.digest() != other.digest() {
        return differs("their state");
    }
    if one.counts() != other.counts() {
        return differs("their counts");
    }
    let is_durable = |account: &Account| *account != Account::Waiters;
    if Account::ALL
        .into_iter()
        .filter(is_durable)
        .any(|account| one.ledger().get(account) != other.ledger().get(account))
    {
        return differs("their accounts");
    }
    if one.timer_count() != other.timer_count() || one.next_due_at() != other.next_due_at() {
        return differs("their timers");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
