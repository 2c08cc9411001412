//! The service: requests in, commands to the hub, replies out. It holds the hub and everything that waits for it, and
//! knows no socket, file or clock, so that tests and the simulator drive the very code that production runs.
//!
//! How to drive it:
//! - [`Service::handle`] for each request: the answer is a reply, or comes later.
//! - [`Service::handle_timeout`] at [`Service::next_timeout`]: ends of long polls, due jobs, quiet nodes, alerts, streams.
//! - [`Service::settle`] after a round of either: long polls that can be answered are, in [`Service::late_replies`].
//! - [`Service::take_batch`] then gives what the journal must hold before any of these replies may leave: a reply made
//!   now may leave when the journal holds [`Service::last_seq`]. The caller reports with [`Service::set_durable`],
//!   [`Service::journal_failed`] and [`Service::journal_recovered`] what became of it.
//! - [`Service::events`] is what the audit log is to hold, [`Service::alert_lines`] what the alerts' file is.
//! - [`Service::take_trace`] is what the trace is to hold, if there is one.
//! - [`Service::streams`] is notified of what was written to the audit log, and has what those who listen are to be sent.
//!
//! How a request goes through it: `route` finds the resource that owns the path, `access` decides whether the request may
//! go through, and the resource does the rest. What a resource is about stands together: its paths, how its bodies are read,
//! what is done, how replies are written.
//!
//! | room | what lives there |
//! |---|---|
//! | `jobs` | submits, reads of one job and of pages |
//! | `leases` | pulls and extensions |
//! | `results` | results and their integrity |
//! | `nodes` | heartbeats, the registry, quiet nodes |
//! | `notifications` | audit events, alerts, event streams, pages of the logs |
//! | `health`, `metrics` | whether the hub is there, what it counts |
//! | `long_polls` | requests that wait for a job, or for its end |
//! | `uncommitted` | what was done and the journal does not hold |
//! | `recovering` | what is answered before there is a hub |
//! | `body`, `batch`, `reply`, `problem` | how requests are read and replies written |
//! | `rules` | decisions of the others, one pure function each |

mod access;
mod batch;
mod body;
mod health;
mod jobs;
mod leases;
mod long_polls;
mod metrics;
mod nodes;
mod notifications;
mod problem;
mod recovering;
mod reply;
mod results;
mod route;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/service.rs")]
mod rules;
mod settings;
mod traffic;
mod uncommitted;

pub use long_polls::Origin;
pub use nodes::registry_of;
pub use notifications::{AlertLine, Event, Page, streams};
pub use problem::Problem;
pub use recovering::{Recovering, Replayed};
pub use route::{Plane, PlaneAddrs};
pub use settings::Settings;
use sheratan_core::{Caller as Asker, Command, Effect, Hub, Outcome, Principal, Timestamp};
pub use uncommitted::Handover;

use crate::http::{Reply, Request};
use crate::journal::Batch;
use crate::trace::Pending;
use long_polls::LongPolls;
use metrics::ShellCounts;
use nodes::QuietNodes;
use notifications::Notifications;
use route::{Route, Way};
use sheratan_core::telemetry::Observation;
use std::net::IpAddr;
use traffic::Traffic;
use uncommitted::Uncommitted;

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

/// The hub with everything that waits for it.
pub struct Service {
    hub: Hub,
    settings: Settings,
    uncommitted: Uncommitted,
    long_polls: LongPolls,
    quiet_nodes: QuietNodes,
    notifications: Notifications,
    traffic: Traffic,
    shell_counts: ShellCounts,
    is_draining: bool,
}

impl Service {
    /// A service for a recovered hub; `next_seq` is the number of the journal's next record.
    pub fn new(mut hub: Hub, next_seq: u64, settings: Settings) -> Self {
        hub.set_guard(settings.auth_failures_max, true);
        hub.serve();
        Service {
            uncommitted: Uncommitted::new(hub.now(), next_seq, hub.outcome_hash()),
            long_polls: LongPolls::default(),
            quiet_nodes: QuietNodes::default(),
            notifications: Notifications::new(settings.redactor.clone()),
            traffic: Traffic::default(),
            shell_counts: ShellCounts::default(),
            is_draining: false,
            hub,
            settings,
        }
    }

    /// Answers a request.
    pub fn handle(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Answer {
        let way = route::find(caller.plane, request.path());
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

    /// Whether a request for the path only reads memory: health and metrics, which are asked for most when the journal is
    /// behind.
    pub fn is_read_only(plane: Plane, path: &str) -> bool {
        let way = route::find(plane, path);
        matches!(way, Way::Here(Route::Health(_) | Route::Metrics))
    }

    /// Whether a reply to the path shows jobs, which must be durable as they are shown.
    pub fn shows_jobs(plane: Plane, path: &str) -> bool {
        matches!(route::find(plane, path), Way::Here(Route::Jobs(route)) if route.is_read())
    }

    /// A request that was answered at once may be answered so long after it came.
    pub fn answered(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        self.traffic.took(now, plane, took_us);
    }

    /// The shell saw something.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        self.hub.observe(now, observation);
    }

    /// Carries out a command of the hub's own, such as its limits at the start.
    pub fn command(&mut self, now: Timestamp, command: Command) -> Result<Outcome, Problem> {
        self.execute(now, Asker::HUB, command)
    }

    /// Fires what falls due up to `now`: call it at [`Service::next_timeout`] or before, then [`Service::settle`]. It costs
    /// next to nothing where nothing is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.hub.advance(now);
        self.notifications.advance_alerts(now);
        if self.quiet_nodes.is_due(now) && self.record_quiet_nodes(now).is_err() {
            self.quiet_nodes.postpone(now);
        }
        self.end_due_polls(now);
        self.send_to_streams(now);
    }

    /// When something falls due next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let next = self.hub.next_deadline().into_iter().chain(self.long_polls.next_end());
        next.chain(self.quiet_nodes.next_timeout()).chain(self.notifications.next_timeout()).min()
    }

    /// Answers the long polls that can be answered after what was done since the last call, and adds the audit events.
    pub fn settle(&mut self, now: Timestamp) {
        self.settle_effects(now);
        if !self.late_replies().is_empty() {
            self.record_time(now);
            self.settle_effects(now);
        }
    }

    fn settle_effects(&mut self, now: Timestamp) {
        let mut effects = Vec::new();
        loop {
            self.hub.settle(&mut effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Audit(ts, audit) => self.audit_hub(ts, &audit),
                    Effect::Wake(id) => self.wake(now, id),
                    Effect::Ended { job, gone } => self.answer_end(job, gone.as_deref()),
                }
            }
        }
    }

    /// Whether something was done that is not handed to the journal.
    pub fn has_batch(&self) -> bool {
        self.uncommitted.has_batch()
    }

    /// Bytes that wait to be handed to the journal.
    pub fn batch_bytes(&self) -> usize {
        self.uncommitted.batch_bytes()
    }

    /// What was done since the last call and is not in the journal. `spare` is an empty batch whose room is used again.
    pub fn take_batch(&mut self, spare: Batch) -> Option<Handover> {
        self.uncommitted.take_batch(spare, self.hub.outcome_hash())
    }

    /// The number of the last record: a reply made now may leave when the journal holds it.
    pub fn last_seq(&self) -> u64 {
        self.uncommitted.last_seq()
    }

    /// The journal holds all up to this record.
    pub fn set_durable(&mut self, up_to: u64) {
        self.uncommitted.set_durable(up_to);
    }

    /// The journal takes nothing: commands are refused until it does, reads are answered unless they would show what it
    /// does not hold. Long polls that came with a result are refused too: their replies would acknowledge it.
    pub fn journal_failed(&mut self, reason: String) {
        self.refuse_acknowledging_polls(&reason);
        self.uncommitted.journal_failed(reason);
        self.hub.observe(self.hub.now(), Observation::JournalFailure);
    }

    /// The journal takes records again.
    pub fn journal_recovered(&mut self) {
        self.uncommitted.journal_recovered();
    }

    /// Keeps what changes nothing for [`Service::take_trace`] from now on.
    pub fn begin_trace(&mut self) {
        self.uncommitted.begin_trace();
    }

    /// What changed nothing since the last call.
    pub fn take_trace(&mut self) -> Option<Pending> {
        self.uncommitted.take_trace()
    }

    /// The client sends no more, and may be gone: what it waits for is answered as if its time were over, since a job that
    /// is leased to nobody waits for the lease's end. It listens no more.
    pub fn end_waits(&mut self, connection: u64) {
        self.streams().close(connection);
        self.end_polls_of(connection);
    }

    /// The connection is gone: what it waited for is forgotten.
    pub fn forget(&mut self, connection: u64) {
        self.streams().close(connection);
        self.drop_polls_of(connection);
    }

    /// The hub stops: long polls are answered as if their time were over, and there are no new ones; nobody listens any
    /// more.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
        self.streams().close_all();
        self.end_all_polls();
    }

    /// Journals what is collected; the last thing before the last batch is taken.
    pub fn flush(&mut self, now: Timestamp) {
        // A journal that is down has said so; the nodes will be seen again.
        _ = self.record_quiet_nodes(now);
    }

    /// The hub, to read.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Applies a command, and keeps it for the journal if it changed something.
    fn execute(&mut self, now: Timestamp, asker: Asker, command: Command) -> Result<Outcome, Problem> {
        if let Some(reason) = self.uncommitted.journal_down() {
            return Err(Problem::journal_unavailable(reason));
        }
        let now = now.max(self.hub.now());
        self.uncommitted.begin(now, self.hub.rules(), asker, &command);
        let outcome = self.hub.apply(now, command);
        self.uncommitted.end(now, &outcome);
        Ok(outcome)
    }

    /// Who asks, as the journal holds it.
    fn asker(&self, caller: &Caller) -> Asker {
        let by = if self.settings.token.is_some() { Principal::SharedToken } else { Principal::Anonymous };
        Asker { by, origin: sheratan_core::Origin::of(caller.ip) }
    }

    /// Makes a record of what time alone ended, so that a reply that shows it waits for that.
    fn record_time(&mut self, now: Timestamp) {
        if self.uncommitted.must_record_time(self.hub.ended_at()) {
            // While the journal takes nothing, nothing of it is shown.
            _ = self.execute(now, Asker::HUB, Command::Tick);
        }
    }

    fn problem_of(&self, outcome: Outcome) -> Problem {
        match outcome {
            Outcome::Refused(refusal) => Problem::of_refusal(&refusal, &self.hub, self.settings.backpressure_status),
            other => unreachable!("a command is answered in kind or refused, not with {other:?}"),
        }
    }
}
