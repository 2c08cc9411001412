//! The service: requests in, commands to the hub, replies out. It holds the hub and everything that waits for it, and
//! knows no socket, file or clock, so that tests and the simulator drive the very code that production runs.
//!
//! How to drive it:
//! - [`Service::handle`] for each request: the answer is a reply, or comes later.
//! - [`Service::handle_timeout`] at [`Service::next_timeout`]: ends of long polls, due jobs, quiet heartbeats.
//! - [`Service::settle`] after a round of either: long polls that can be answered are, in [`Service::late_replies`].
//! - [`Service::take_batch`] then gives what the journal must hold before any of these replies may leave: a reply made
//!   now may leave when the journal holds [`Service::last_seq`].
//! - [`Service::events`] is what the audit log is to be told, [`Service::alert_lines`] what the alerts' file is.
//! - [`Service::take_trace`] is what the trace is to have, if somebody keeps one.
//! - [`Service::streams`] is told what was written to the audit log, and has what those who listen are to be sent.

mod access;
mod asked;
mod body;
mod control;
mod data;
mod event;
mod metrics;
mod parked;
mod problem;
mod recovering;
mod render;
mod route;
mod rules;
pub mod streams;
mod traffic;
mod uncommitted;

pub use control::registry_of;
pub use event::{AlertLine, Event};
pub use parked::Origin;
pub use problem::Problem;
pub use recovering::{Recovering, Replayed};
pub use route::{Plane, PlaneAddrs};
pub use uncommitted::Handover;

use crate::http::{Reply, Request};
use crate::journal::Batch;
use crate::redact::Redactor;
use crate::secret::Secret;
use crate::token::Token;
use crate::trace::{self, Pending};
use parked::{Parked, ParkedRequests, Waiting};
use route::{Route, Way};
use sheratan_core::command::Command;
use sheratan_core::effect::Effect;
use sheratan_core::hub::Hub;
use sheratan_core::ids::{JobSeq, NodeNo};
use sheratan_core::integrity::checksum::Mode;
use sheratan_core::outcome::Outcome;
use sheratan_core::queue::waiter::WaiterId;
use sheratan_core::telemetry::Observation;
use sheratan_core::telemetry::alerts::Alerts;
use sheratan_core::time::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use streams::{Streams, Topic};
use traffic::Traffic;
use uncommitted::Uncommitted;

/// How long heartbeats that change nothing are collected before they are journaled together.
const QUIET_HEARTBEATS_MS: Millis = Millis::from_secs(1);

/// What the operator set that is none of the hub's limits.
pub struct Settings {
    /// The addresses that the planes listen on.
    pub addrs: PlaneAddrs,
    /// The token; none where the operator asked for none on loopback.
    pub token: Option<Token>,
    /// Authentication failures a minute from one address.
    pub auth_failures_max: u32,
    /// What a result's integrity is checked by.
    pub integrity_mode: Mode,
    /// Whether a result without integrity is refused.
    pub is_integrity_required: bool,
    /// The key of results' signatures.
    pub result_hmac_key: Option<Secret>,
    /// The status of `backpressure`: 429 or 503.
    pub backpressure_status: u16,
    /// Whether other machines may read the metrics without the token.
    pub is_metrics_public: bool,
    /// When the hub's process started.
    pub started_at: Timestamp,
    /// Keeps the process' secrets out of what the audit log is told.
    pub redactor: Arc<Redactor>,
}

impl Settings {
    /// Those of a hub on this machine's usual ports that nobody configured, without a token, and with results' integrity
    /// left to the nodes.
    pub fn local(started_at: Timestamp) -> Self {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Settings {
            addrs: PlaneAddrs { control: (local, 8787).into(), data: (local, 8788).into() },
            token: None,
            auth_failures_max: 60,
            integrity_mode: Mode::Sha256,
            is_integrity_required: false,
            result_hmac_key: None,
            backpressure_status: 429,
            is_metrics_public: false,
            started_at,
            redactor: Arc::new(Redactor::new(&[])),
        }
    }
}

/// Who asks, and where the reply goes.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The plane that the request came to.
    pub plane: Plane,
    /// The peer's address.
    pub ip: IpAddr,
    /// The connection and the request on it.
    pub origin: Origin,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This reply, when the journal holds what it may speak of.
    Reply(Reply),
    /// This reply, at once: it speaks of nothing that the journal must hold.
    Now(Reply),
    /// A reply comes with [`Service::late_replies`].
    Parked,
    /// This is how a reply begins whose body goes on with [`Service::streams`]. At once; to a HEAD the head alone.
    Stream(Reply),
    /// A page of a log, which the shell reads.
    Page(Page),
}

/// A page of a log.
#[derive(Clone, PartialEq, Debug)]
pub enum Page {
    /// Of the audit log.
    Audit {
        /// Lines after this sequence number; the latest ones if absent.
        after: Option<u64>,
        /// At most so many.
        limit: usize,
    },
    /// The latest lines of the alerts' file.
    Alerts {
        /// The alerts that are open, a JSON array, to go before them.
        open: Vec<u8>,
        /// At most so many.
        limit: usize,
    },
}

/// The hub with everything that waits for it.
pub struct Service {
    hub: Hub,
    settings: Settings,
    parked: ParkedRequests,
    late: Vec<(Origin, Reply)>,
    events: Vec<Event>,
    alerts: Alerts,
    alert_lines: Vec<AlertLine>,
    streams: Streams,
    /// Nodes that said nothing new since `quiet_since`.
    quiet: BTreeMap<NodeNo, Timestamp>,
    quiet_since: Timestamp,
    is_draining: bool,
    traffic: Traffic,
    connections: u64,
    alerts_lost: u64,
    /// What became of what was traced.
    traced: trace::Counts,
    uncommitted: Uncommitted,
}

impl Service {
    /// A service for a recovered hub; `next_seq` is the number of the journal's next record.
    pub fn new(mut hub: Hub, next_seq: u64, settings: Settings) -> Self {
        hub.set_guard(settings.auth_failures_max, true);
        Service {
            uncommitted: Uncommitted::new(hub.now(), next_seq, hub.outcome_hash()),
            hub,
            settings,
            parked: ParkedRequests::default(),
            late: Vec::new(),
            events: Vec::new(),
            alerts: Alerts::default(),
            alert_lines: Vec::new(),
            streams: Streams::default(),
            quiet: BTreeMap::new(),
            quiet_since: Timestamp::ZERO,
            is_draining: false,
            traffic: Traffic::default(),
            connections: 0,
            alerts_lost: 0,
            traced: trace::Counts::default(),
        }
    }

    /// Answers a request.
    pub fn handle(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Answer {
        let way = route::find(caller.plane, request.path());
        self.uncommitted.read_effects(self.hub.effects());
        let answer = self.route(now, caller, request, way);
        let answer = answer.unwrap_or_else(|problem| Answer::Reply(problem.into_reply()));
        if let Answer::Reply(reply) | Answer::Now(reply) | Answer::Stream(reply) = &answer {
            self.traffic.answered(caller.plane, way.name(), reply.status());
        }
        if caller.plane == Plane::Data && matches!(answer, Answer::Reply(_)) {
            self.record_time(now);
        }
        answer
    }

    /// Whether a request for the path is answered from memory and changes nothing: health and metrics, which are asked for
    /// most when the journal is behind.
    pub fn is_only_looked_at(plane: Plane, path: &str) -> bool {
        let way = route::find(plane, path);
        matches!(way, Way::Here(Route::Health | Route::Livez | Route::Readyz | Route::Metrics))
    }

    /// Whether a reply to the path shows jobs, which must be durable as they are shown.
    pub fn shows_jobs(plane: Plane, path: &str) -> bool {
        matches!(route::find(plane, path), Way::Here(Route::Job(_) | Route::Jobs))
    }

    /// How many changes of alerts the shell could not deliver.
    pub fn set_alerts_lost(&mut self, alerts_lost: u64) {
        self.alerts_lost = alerts_lost;
    }

    /// What became of what was traced, as far as the shell knows.
    pub fn set_traced(&mut self, traced: trace::Counts) {
        self.traced = traced;
    }

    /// How many connections the shell holds.
    pub fn set_connections(&mut self, connections: u64) {
        self.connections = connections;
    }

    /// The journal holds all up to this record.
    pub fn set_durable(&mut self, up_to: u64) {
        self.uncommitted.set_durable(up_to);
    }

    /// The shell saw something.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        self.hub.observe(now, observation);
    }

    /// A request that was not parked may be answered so long after it came.
    pub fn answered(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        self.traffic.took(now, plane, took_us);
    }

    /// Carries out a command of the hub's own, such as its limits at the start.
    pub fn command(&mut self, now: Timestamp, command: Command) -> Result<Outcome, Problem> {
        self.execute(now, command)
    }

    /// Lets happen what falls due up to `now`: call it at [`Service::next_timeout`], then [`Service::settle`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.hub.advance(now);
        let mut changes = Vec::new();
        self.alerts.advance(now, &mut changes);
        self.tell_alerts(changes);
        if self.is_quiet_due(now) {
            let nodes = self.quiet.keys().copied().collect();
            if self.execute(now, Command::NodesSeen(nodes)).is_ok() {
                self.quiet.clear();
            } else {
                self.quiet_since = now;
            }
        }
        while let Some((id, parked)) = self.parked.take_ended(now) {
            self.end(id, parked);
        }
        if self.streams.are_counters_due(now) {
            let counters = self.counters(now);
            self.streams.counters(now, &counters);
        }
        self.streams.handle_timeout(now);
    }

    /// When something falls due next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let quiet_at = (!self.quiet.is_empty()).then(|| self.quiet_since + QUIET_HEARTBEATS_MS);
        let next = self.hub.next_deadline().into_iter().chain(self.parked.next_end()).chain(quiet_at);
        next.chain(self.alerts.next_deadline()).chain(self.streams.next_timeout()).min()
    }

    /// Answers the long polls that can be answered after what was done since the last call, and notes the audit events.
    pub fn settle(&mut self, now: Timestamp) {
        self.settle_effects(now);
        if !self.late.is_empty() {
            self.record_time(now);
            self.settle_effects(now);
        }
    }

    fn settle_effects(&mut self, now: Timestamp) {
        while !self.hub.effects().is_empty() {
            self.uncommitted.read_effects(self.hub.effects());
            self.uncommitted.effects_drained();
            let mut is_woken = false;
            for effect in std::mem::take(self.hub.effects()) {
                if rules::is_counted() {
                    self.hub.count(&effect);
                }
                match effect {
                    Effect::Audit(ts, audit) => self.note(ts, &audit),
                    Effect::Wake(id) => {
                        self.wake(now, id);
                        is_woken = true;
                    }
                    Effect::Final(job) => self.answer_end(job),
                    Effect::Stage(..) => {}
                }
            }
            // Whoever was woken may have left its job: its client is gone, or there was a more urgent one.
            if is_woken {
                self.hub.wake_others();
            }
        }
    }

    /// Replies to requests that were parked; the caller drains them.
    pub fn late_replies(&mut self) -> &mut Vec<(Origin, Reply)> {
        &mut self.late
    }

    /// What the audit log is to be told; the caller drains it.
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    /// Who listens to what happens; the caller tells them what the audit log has, and pushes what they are sent.
    pub fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// Whether somebody listens to the audit log.
    pub fn is_audit_wanted(&self) -> bool {
        self.streams.is_wanted(Topic::Audit)
    }

    /// What was done since the last call and is not in the journal. `spare` is an empty batch whose room is used again.
    pub fn take_batch(&mut self, spare: Batch) -> Option<Handover> {
        self.uncommitted.take_batch(spare, self.hub.outcome_hash())
    }

    /// Keeps what changes nothing for [`Service::take_trace`] from now on.
    pub fn begin_trace(&mut self) {
        self.uncommitted.begin_trace();
    }

    /// What changed nothing since the last call.
    pub fn take_trace(&mut self) -> Option<Pending> {
        self.uncommitted.take_trace()
    }

    /// Whether something was done that is not handed to the journal.
    pub fn has_batch(&self) -> bool {
        self.uncommitted.has_batch()
    }

    /// Bytes that wait to be handed to the journal.
    pub fn batch_bytes(&self) -> usize {
        self.uncommitted.batch_bytes()
    }

    /// The number of the last record: a reply made now may leave when the journal holds it.
    pub fn last_seq(&self) -> u64 {
        self.uncommitted.last_seq()
    }

    /// The journal takes nothing: commands are refused until it does, reads are answered unless they would show what it
    /// does not hold. Long polls that came with a result are refused too: their replies would acknowledge it.
    pub fn journal_failed(&mut self, reason: String) {
        for (id, parked) in self.parked.take_acknowledging() {
            self.hub.unpark(id);
            self.answer_late(parked.origin, Problem::journal_unavailable(&reason).into_reply());
        }
        self.uncommitted.journal_failed(reason);
        self.hub.observe(self.hub.now(), Observation::JournalFailure);
    }

    /// The journal takes records again.
    pub fn journal_recovered(&mut self) {
        self.uncommitted.journal_recovered();
    }

    /// The client sends no more, and may be gone: what it waits for is answered as if its time were over, since a job that
    /// is leased to nobody waits for the lease's end. It listens no more.
    pub fn end_waits(&mut self, connection: u64) {
        self.streams.close(connection);
        for (id, parked) in self.parked.take_connection(connection) {
            self.end(id, parked);
        }
    }

    /// The connection is gone: what it waited for is forgotten.
    pub fn forget(&mut self, connection: u64) {
        self.streams.close(connection);
        for (id, _) in self.parked.take_connection(connection) {
            self.hub.unpark(id);
        }
    }

    /// The hub stops: long polls are answered as if their time were over, and no new ones are parked; nobody listens any
    /// more.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
        self.streams.close_all();
        for (id, parked) in self.parked.take_all() {
            self.end(id, parked);
        }
    }

    /// Journals what is collected; the last thing before the last batch is taken.
    pub fn flush(&mut self, now: Timestamp) {
        if !self.quiet.is_empty() {
            let nodes = self.quiet.keys().copied().collect();
            // A journal that is down has said so; the nodes will be heard of again.
            if self.execute(now, Command::NodesSeen(nodes)).is_ok() {
                self.quiet.clear();
            }
        }
    }

    /// The hub, to look at.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Applies a command, and keeps it for the journal if it changed something.
    fn execute(&mut self, now: Timestamp, command: Command) -> Result<Outcome, Problem> {
        if let Some(reason) = self.uncommitted.journal_down() {
            return Err(Problem::journal_unavailable(reason));
        }
        let now = now.max(self.hub.now());
        self.uncommitted.begin(now, &command);
        let outcome = self.hub.apply(now, command);
        self.uncommitted.end(now, &outcome);
        Ok(outcome)
    }

    /// Makes a record of what time alone ended, so that a reply that shows it waits for that.
    fn record_time(&mut self, now: Timestamp) {
        self.uncommitted.read_effects(self.hub.effects());
        if self.uncommitted.must_record_time() {
            // While the journal takes nothing, nothing of it is shown.
            _ = self.execute(now, Command::NodesSeen(Vec::new()));
        }
    }

    fn problem_of(&self, outcome: Outcome) -> Problem {
        match outcome {
            Outcome::Refused(refusal) => Problem::of_refusal(&refusal, &self.hub, self.settings.backpressure_status),
            other => unreachable!("a command is answered in kind or refused, not with {other:?}"),
        }
    }

    fn is_quiet_due(&self, now: Timestamp) -> bool {
        !self.quiet.is_empty() && self.quiet_since + QUIET_HEARTBEATS_MS <= now
    }

    /// There is a job for a parked pull: repeats it.
    fn wake(&mut self, now: Timestamp, id: WaiterId) {
        let Some(parked) = self.parked.take(id) else { return };
        let Parked { origin, until, waiting: Waiting::ForJobs { pull, head } } = parked else {
            unreachable!("only pulls are parked with the hub");
        };
        match self.repeat_pull(now, &pull) {
            Some(Ok(pulled)) => {
                let reply = self.pull_reply(head, &pulled);
                self.answer_late(origin, reply);
            }
            Some(Err(problem)) => self.answer_late(origin, problem.into_reply()),
            // The job went to another, or the node changed since and may not take it.
            None if self.hub.park(id, &pull) => {
                self.parked.insert(id, Parked { origin, until, waiting: Waiting::ForJobs { pull, head } });
            }
            None => self.answer_late(origin, Self::empty_pull_reply(head)),
        }
    }

    /// A job is final: answers who waited for that.
    fn answer_end(&mut self, job: JobSeq) {
        if !rules::is_wait_over(true) {
            return;
        }
        for parked in self.parked.take_for_end(job) {
            let reply = self.job_reply(job);
            self.answer_late(parked.origin, reply);
        }
    }

    /// A parked request's time is over.
    fn end(&mut self, id: WaiterId, parked: Parked) {
        let reply = match parked.waiting {
            Waiting::ForJobs { head, .. } => {
                self.hub.unpark(id);
                Self::empty_pull_reply(head)
            }
            Waiting::ForEnd(job) => self.job_reply(job),
        };
        self.answer_late(parked.origin, reply);
    }

    /// A parked request is answered. Only the data plane parks.
    fn answer_late(&mut self, origin: Origin, reply: Reply) {
        self.traffic.answered(Plane::Data, "long_poll", reply.status());
        self.late.push((origin, reply));
    }

    fn is_ready(&self) -> bool {
        self.uncommitted.journal_down().is_none() && !self.is_draining
    }
}
