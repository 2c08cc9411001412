//! A scene: a hub that a history is applied to, and the journal that a shell would keep.
//!
//! Play the lines one by one; each returns its answer. [`Scene::finish`] then checks what must hold for every history.

use crate::answer::{NOTHING, print_effects, print_outcome};
use crate::history::History;
use crate::look::{self, Look};
use crate::step::{Input, Line, SnapshotOf, Source};
use crate::tokens;
use sheratan_core::{Caller, Command, Effect, Envelope, Hub, HubKey, Outcome, Pull, Restore, Timestamp, WaiterId};

/// A hub under test.
#[derive(Debug)]
pub struct Scene {
    hub: Hub,
    now: Timestamp,
    journal: Vec<(Timestamp, Vec<u8>)>,
    /// How many of the journal's records are synced.
    synced: usize,
    snapshot: Option<Snapshot>,
    /// Effects of settling in lines other than `settle`, which the next `settle` returns.
    pending: Vec<Effect>,
    digest: Option<[u8; 32]>,
}

/// A snapshot's records, and after how many of the journal's it was made.
#[derive(Debug)]
struct Snapshot {
    after: usize,
    records: Vec<Vec<u8>>,
}

impl History {
    /// Plays the history: the answer of each line, and whether what must hold for every history does.
    pub fn play(&self) -> (Vec<String>, Result<(), String>) {
        let mut scene = Scene::new(self.hub_key());
        let answers = self.entries().map(|entry| scene.play(&entry.line)).collect();
        (answers, scene.finish())
    }
}

impl Scene {
    /// A hub without jobs or nodes.
    pub fn new(key: HubKey) -> Scene {
        let mut hub = Hub::new(key);
        hub.serve();
        Scene {
            hub,
            now: Timestamp::ZERO,
            journal: Vec::new(),
            synced: 0,
            snapshot: None,
            pending: Vec::new(),
            digest: None,
        }
    }

    /// Applies a line and returns its answer.
    pub fn play(&mut self, line: &Line) -> String {
        if let Some(at) = line.at {
            self.now = at;
            self.hub.advance(at);
        }
        let done = || "done".to_owned();
        match &line.input {
            None => done(),
            Some(Input::Command(command)) => print_outcome(&self.apply(command)),
            Some(Input::Park { id, pull, .. }) => self.park(*id, pull),
            Some(Input::Unpark(id)) => {
                self.hub.unpark(*id);
                done()
            }
            Some(Input::Settle) => {
                self.hub.settle(&mut self.pending);
                print_effects(&std::mem::take(&mut self.pending))
            }
            Some(Input::Sync) => {
                self.synced = self.journal.len();
                done()
            }
            Some(Input::Snapshot(of)) => self.make_snapshot(*of),
            Some(Input::Crash { kept, from }) => self.crash(*kept, *from),
            Some(Input::Look(look)) => self.look(look),
        }
    }

    /// Ends the scene: a replay of its journal and a snapshot read back must both equal the hub, and its accounts must
    /// be the sums of what it keeps.
    pub fn finish(mut self) -> Result<(), String> {
        self.drain();
        if self.hub.recount() != *self.hub.ledger() {
            let text = format!("the accounts are {:?}, not the sums {:?}", self.hub.ledger(), self.hub.recount());
            return Err(text);
        }
        let mut replayed = self.rebuild(Source::Log)?;
        replayed.advance(self.hub.now());
        compare("a replay of the journal", &self.hub, &replayed)?;
        let restored = restore(*self.hub.key(), &records_of(&self.hub))?;
        compare("the hub of a snapshot", &self.hub, &restored)?;
        if restored.recount() != *restored.ledger() {
            return Err("the accounts of the hub of a snapshot are not the sums of what it keeps".to_owned());
        }
        Ok(())
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let at = self.now.max(self.hub.now());
        let outcome = self.hub.apply(self.now, command.clone());
        if outcome.is_durable() {
            let mut bytes = Vec::new();
            Envelope::encode(self.hub.rules(), Caller::HUB, command, &mut bytes);
            self.journal.push((at, bytes));
        }
        outcome
    }

    fn park(&mut self, id: WaiterId, pull: &Pull) -> String {
        if self.hub.park(id, pull) { "parked" } else { "refused" }.to_owned()
    }

    fn look(&mut self, look: &Look) -> String {
        match look {
            Look::Status(job) => look::print_status(&self.hub, *job),
            Look::Job(job) => look::print_job(&self.hub, *job),
            Look::Attempts(job) => look::print_attempts(&self.hub, *job),
            Look::Explain(job) => look::print_explanation(&self.hub, *job),
            Look::Kind(kind) => look::print_kind(&self.hub, kind),
            Look::Acts => look::print_acts(&self.hub),
            Look::Orphans => look::print_orphans(&self.hub),
            Look::Counts => look::print_counts(&self.hub),
            Look::Ledger(accounts) => look::print_ledger(&self.hub, accounts),
            Look::Nodes => look::print_nodes(&self.hub),
            Look::Node(name) => look::print_node(&self.hub, name),
            Look::Repeats(heartbeat) => look::print_repeats(&self.hub, heartbeat),
            Look::Keys => look::print_keys(&self.hub),
            Look::Waiters => self.hub.queue().waiter_count().to_string(),
            Look::Deadline => {
                self.drain();
                let at = self.hub.next_deadline();
                at.map_or_else(|| NOTHING.to_owned(), |at| at.as_millis().to_string())
            }
            Look::Token(token) => tokens::look(&self.hub, token),
            Look::Now => self.hub.now().as_millis().to_string(),
            Look::Digest => {
                let digest = self.hub.digest();
                if self.digest.replace(digest) == Some(digest) { "same" } else { "new" }.to_owned()
            }
        }
    }

    /// Settles until there are no effects; the next `settle` returns them.
    fn drain(&mut self) {
        loop {
            let before = self.pending.len();
            self.hub.settle(&mut self.pending);
            if self.pending.len() == before {
                return;
            }
        }
    }

    fn make_snapshot(&mut self, of: SnapshotOf) -> String {
        let snapshot = match of {
            SnapshotOf::Live => {
                self.synced = self.journal.len();
                Ok(Snapshot { after: self.synced, records: records_of(&self.hub) })
            }
            SnapshotOf::Replay => self
                .rebuild_up_to(self.synced, Source::Snapshot)
                .map(|hub| Snapshot { after: self.synced, records: records_of(&hub) }),
        };
        match snapshot {
            Ok(snapshot) => {
                self.snapshot = Some(snapshot);
                "done".to_owned()
            }
            Err(error) => error,
        }
    }

    /// Crashes the hub: unsynced records beyond `kept` are lost, and with them all state that is not journaled.
    fn crash(&mut self, kept: u64, from: Source) -> String {
        let lost = (self.journal.len() - self.synced).saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
        self.journal.truncate(self.journal.len() - lost);
        self.synced = self.journal.len();
        let (mut by_log, mut by_snapshot) = match (self.rebuild(Source::Log), self.rebuild(Source::Snapshot)) {
            (Ok(by_log), Ok(by_snapshot)) => (by_log, by_snapshot),
            (Err(error), _) | (_, Err(error)) => return error,
        };
        // Without a loss the hub may have seen later instants than its last record's: commands that changed nothing.
        let now = if lost == 0 { self.hub.now() } else { by_log.now().max(by_snapshot.now()) };
        by_log.advance(now);
        by_snapshot.advance(now);
        let is_alike = compare("the hub of log and snapshot", &by_log, &by_snapshot);
        self.hub = if from == Source::Log { by_log } else { by_snapshot };
        self.hub.serve();
        self.pending.clear();
        match is_alike {
            Ok(()) => format!("lost={lost}"),
            Err(error) => error,
        }
    }

    fn rebuild(&self, from: Source) -> Result<Hub, String> {
        self.rebuild_up_to(self.journal.len(), from)
    }

    fn rebuild_up_to(&self, left: usize, from: Source) -> Result<Hub, String> {
        let (first, mut hub) = match (&self.snapshot, from) {
            (Some(snapshot), Source::Snapshot) => (snapshot.after, restore(*self.hub.key(), &snapshot.records)?),
            _ => (0, Hub::new(*self.hub.key())),
        };
        for (index, (at, bytes)) in self.journal[..left].iter().enumerate().skip(first) {
            let envelope =
                Envelope::decode(bytes).map_err(|error| format!("record {} is not read: {error}", index + 1))?;
            let outcome = hub.apply(*at, envelope.command);
            if !outcome.is_durable() {
                let answer = print_outcome(&outcome);
                return Err(format!("record {} changes nothing in a replay: {answer}", index + 1));
            }
        }
        Ok(hub)
    }
}

/// The records of a snapshot of a hub.
pub fn records_of(hub: &Hub) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    hub.snapshot(|record| records.push(record.to_vec()));
    records
}

fn restore(key: HubKey, records: &[Vec<u8>]) -> Result<Hub, String> {
    let failed = |error| format!("a snapshot that was just written is not read: {error}");
    let mut reader = Restore::new(key);
    records.iter().try_for_each(|record| reader.record(record)).map_err(failed)?;
    reader.finish().map_err(failed)
}

fn compare(what: &str, one: &Hub, other: &Hub) -> Result<(), String> {
    let differs = |part: &str| Err(format!("{what} differs in {part}"));
    if one.outcome_hash() != other.outcome_hash() {
        return differs("its outcomes");
    }
    if one.digest() != other.digest() {
        return differs("its state");
    }
    if one.counts() != other.counts() {
        return differs("its counts");
    }
    // One of the two may be a serving hub with effects, which is settled here.
    if one.timer_count() != other.timer_count() || one.next_deadline() != other.next_deadline() {
        return differs("its timers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Histories;

    fn played() -> Scene {
        let histories = Histories::parse("== t\nsubmit k -> 1\npull a -> 1@1\nsync\n").expect("it is right");
        let mut scene = Scene::new(histories.sections[0].hub_key());
        histories.sections[0].entries().for_each(|entry| _ = scene.play(&entry.line));
        scene
    }

    #[test]
    fn a_scene_whose_journal_is_another_hubs_does_not_end_well() {
        assert_eq!(played().finish(), Ok(()));
        let mut scene = played();
        scene.journal.pop();
        assert_eq!(scene.finish(), Err("a replay of the journal differs in its outcomes".to_owned()));
        let mut scene = played();
        scene.journal.swap(0, 1);
        assert_eq!(scene.finish(), Err("record 1 changes nothing in a replay: nothing".to_owned()));
        let mut scene = played();
        scene.hub.advance(Timestamp::from_millis(300_000));
        assert_eq!(scene.finish(), Ok(()), "time that passed needs no record");
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_beyond_what_is_kept() {
        let mut answers = Vec::new();
        let text = "== t\nsubmit k\nsubmit k\nsubmit k\ncrash kept=1 from=log\ncounts\nsync\nsubmit k\ncrash from=snapshot\ncounts";
        let histories = Histories::parse(text).expect("it is right");
        let mut scene = Scene::new(histories.sections[0].hub_key());
        histories.sections[0].entries().for_each(|entry| answers.push(scene.play(&entry.line)));
        let one = "scheduled=0 queued=1 leased=0 retained=0 dead=0";
        assert_eq!(answers, ["1", "2", "3", "lost=2", one, "done", "2", "lost=1", one]);
        assert_eq!(scene.finish(), Ok(()));
    }
}
