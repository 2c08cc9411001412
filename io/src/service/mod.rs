//! The service: turns requests into commands to the hub, and outcomes into replies. It owns the hub and the requests
//! that wait for it, and has no socket, file or clock, so that tests and the simulator drive the code that production
//! runs.
//!
//! How to drive it:
//! - [`Service::handle`] each request: the answer is a reply, or the request is parked.
//! - [`Service::handle_timeout`] at [`Service::next_timeout`]: ends of long polls, due jobs, quiet nodes, alerts,
//!   streams.
//! - [`Service::settle`] after a round of either: it answers woken long polls, in [`Service::late_replies`].
//! - [`Service::take_batch`] then returns the uncommitted commands. A reply made now may be sent when record
//!   [`Service::last_seq`] is durable. The caller reports the batch's result with [`Service::set_durable`],
//!   [`Service::journal_failed`] and [`Service::journal_recovered`].
//! - Drain [`Service::events`] into the audit log, [`Service::alert_lines`] into the alerts' file and
//!   [`Service::take_trace`] into the trace, if there is one.
//! - [`Service::streams`] is notified of the lines written to the audit log, and returns the bytes to push to clients.
//!
//! A request passes these steps: `route` finds the resource that owns the path, `access` decides whether the request is
//! allowed, and the resource does the rest. A resource's module holds its paths, its bodies' readers, its commands and
//! its replies' writers.
//!
//! | room | what lives there |
//! |---|---|
//! | `jobs` | submits, reads of one job and of pages |
//! | `leases` | pulls, extensions and releases |
//! | `cancelled` | how nodes learn that jobs under their leases were cancelled |
//! | `kinds`, `kind_rules` | kinds; their rules as they are written |
//! | `letters`, `letter_filter` | dead letters; filters as they are written |
//! | `orphans` | results of unknown jobs |
//! | `results`, `corrupt` | results and their integrity: when they come, and when they are shown |
//! | `nodes` | heartbeats, the registry, quiet nodes |
//! | `notifications` | audit events, alerts, event streams, pages of the logs |
//! | `health`, `metrics` | whether the hub runs and accepts jobs, what it counts |
//! | `long_polls` | requests that wait for a job to run, or for a job's end |
//! | `overload` | what was refused because the shell holds too much |
//! | `troubles` | what is bad only if it lasts, reported as events |
//! | `stalls` | what does not answer the hub's writes, and what is refused meanwhile |
//! | `reads` | reads that wait until what they show is durable |
//! | `uncommitted` | commands that were applied and are not durable yet |
//! | `recovering` | replies while the hub recovers |
//! | `origin` | whether a request without a token comes from a web page that is not ours |
//! | `plane`, `path`, `credentials` | the planes, parts of paths, the token that a request presents |
//! | `query`, `header`, `body`, `spelling`, `batch` | how requests are read |
//! | `reply`, `problem` | how replies are written |
//! | `rules` | decisions of the other modules, one pure function each |

mod access;
mod batch;
mod body;
mod cancelled;
mod corrupt;
mod credentials;
mod header;
mod health;
mod jobs;
mod kind_rules;
mod kinds;
mod leases;
mod letter_filter;
mod letters;
mod long_polls;
mod metrics;
mod nodes;
mod notifications;
mod origin;
mod orphans;
mod overload;
mod path;
mod plane;
mod policies;
mod problem;
mod query;
mod reads;
mod recovering;
mod reply;
mod results;
mod route;
#[cfg_attr(feature = "sim-mutants", path = "../../mutated/service.rs")]
mod rules;
mod settings;
mod spelling;
mod stalls;
mod tokens;
mod traffic;
mod troubles;
mod uncommitted;
mod weights;

pub use kind_rules::of_file as kind_rules_of_file;
pub use long_polls::{LateReply, Origin};
pub use nodes::registry_of;
pub use notifications::{Page, Recorded, streams};
pub use overload::Overload;
pub use plane::{Plane, PlaneAddrs};
pub use problem::{Applied, Problem};
pub use recovering::{Recovering, Replayed};
pub use settings::Settings;
use sheratan_core::limits::PULL_JOBS_MAX;
use sheratan_core::{
    Audit, Calendar, Caller as Asker, Command, Effect, Hub, LeaseRef, Millis, Outcome, Principal, Refusal,
    RulesVersion, Salt, Timestamp, TokenVerdict, Weight,
};
use stalls::Stalls;
pub use stalls::WATCHED;
pub use uncommitted::Handover;

use crate::http::{Reply, Request};
use crate::journal::Batch;
use crate::token::TOKEN_BYTES_MIN;
use crate::trace::Pending;
use cancelled::CancelledLeases;
use corrupt::CorruptResults;
use long_polls::LongPolls;
use metrics::ShellCounts;
use nodes::QuietNodes;
use notifications::Notifications;
use overload::Overloads;
use results::signatures::OldKeyUses;
pub use route::Load;
use route::{Lookup, Route};
use sheratan_core::telemetry::Observation;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tokens::TokenUses;
use traffic::Traffic;
use uncommitted::Uncommitted;

/// A step of the machine's clock that is an event of its own; a smaller one is drift that the calendar follows.
pub const CLOCK_STEP_MS: u64 = 2_000;

/// The sender of a request, and where its reply goes.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The plane that received the request.
    pub plane: Plane,
    /// The peer's address.
    pub ip: IpAddr,
    /// The connection and the request on it.
    pub origin: Origin,
}

/// How a request is answered.
#[derive(Debug)]
pub enum Answer {
    /// This reply, when the records that it may depend on are durable.
    Reply(Reply),
    /// This reply, at once: it depends on no record.
    Now(Reply),
    /// Later, in [`Service::late_replies`].
    Parked,
    /// At once with the beginning of an event stream, which continues with [`Service::streams`]; a HEAD gets the head
    /// alone.
    Stream(Reply),
    /// With this page of a log, which the shell reads.
    Page(Page),
}

/// The hub, and the requests and events that wait for it.
pub struct Service {
    hub: Hub,
    settings: Settings,
    uncommitted: Uncommitted,
    long_polls: LongPolls,
    cancelled: CancelledLeases,
    quiet_nodes: QuietNodes,
    notifications: Notifications,
    traffic: Traffic,
    shell_counts: ShellCounts,
    stalls: Stalls,
    corrupt_results: CorruptResults,
    old_key_uses: OldKeyUses,
    /// Whether a proxy forwarded the request that is answered.
    is_forwarded: bool,
    /// What the token of the request that is answered is.
    token_used: Option<TokenVerdict>,
    token_uses: TokenUses,
    /// What the tokens of event streams were, by connection.
    token_streams: BTreeMap<u64, TokenVerdict>,
    /// Leases whose replies were not sent, to be taken back when the journal can be written.
    unsent_leases: Vec<LeaseRef>,
    is_draining: bool,
    overloads: Overloads,
    troubles: troubles::Troubles,
    /// Whether the request that is answered may wait.
    may_wait: bool,
    /// Refusals and deferrals so far: each is told to wait another time.
    refusals: u64,
}

impl Service {
    /// A service for a recovered hub; `next_seq` is the number of the journal's next record.
    pub fn new(mut hub: Hub, next_seq: u64, settings: Settings) -> Self {
        hub.set_guard(settings.auth_failures_max, settings.is_loopback_exempt);
        hub.serve();
        Service {
            uncommitted: Uncommitted::new(hub.now(), next_seq, hub.outcome_hash()),
            long_polls: LongPolls::default(),
            cancelled: CancelledLeases::default(),
            quiet_nodes: QuietNodes::default(),
            notifications: Notifications::new(settings.redactor.clone(), hub.calendar()),
            traffic: Traffic::default(),
            shell_counts: ShellCounts::default(),
            stalls: Stalls::default(),
            corrupt_results: CorruptResults::default(),
            old_key_uses: OldKeyUses::default(),
            is_forwarded: false,
            token_used: None,
            token_uses: TokenUses::default(),
            token_streams: BTreeMap::new(),
            unsent_leases: Vec::new(),
            is_draining: false,
            overloads: Overloads::default(),
            troubles: troubles::Troubles::default(),
            may_wait: true,
            refusals: 0,
            hub,
            settings,
        }
    }

    /// Answers a request.
    pub fn handle(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Answer {
        let lookup = route::find(caller.plane, request.path());
        self.stalls.begin_request();
        self.token_used = None;
        self.is_forwarded = access::is_forwarded(request);
        let answer = self.route(now, caller, request, lookup);
        let answer = self.stalls.refusal().map_or(answer, Err);
        self.name_drops(caller, request);
        let answer = answer.unwrap_or_else(|problem| Answer::Reply(problem.into_reply()));
        if let (Answer::Stream(_), Some(used)) = (&answer, self.token_used) {
            self.token_streams.insert(caller.origin.connection, used);
        }
        if let Answer::Reply(reply) | Answer::Now(reply) | Answer::Stream(reply) = &answer {
            self.traffic.answered(caller.plane, lookup.name(), reply.status());
        }
        let shows_state = matches!(lookup, Lookup::Found(route) if route.shows_state());
        if (caller.plane == Plane::Data || shows_state) && matches!(answer, Answer::Reply(_)) {
            self.record_time(now);
        }
        answer
    }

    /// Whether a request for the path only reads memory: health and metrics, which operators need most when the journal
    /// is behind.
    pub fn is_read_only(plane: Plane, path: &str) -> bool {
        let lookup = route::find(plane, path);
        matches!(lookup, Lookup::Found(Route::Health(_) | Route::Metrics))
    }

    /// What a request for the path does to the hub's load.
    pub fn load_of(plane: Plane, path: &str) -> Load {
        match route::find(plane, path) {
            Lookup::Found(route) => route.load(),
            _ => Load::Other,
        }
    }

    /// Whether a reply to a read of the path shows state, which must be durable.
    pub fn shows_state(plane: Plane, path: &str) -> bool {
        matches!(route::find(plane, path), Lookup::Found(route) if route.shows_state())
    }

    /// Records the latency of a request that was not parked, from its arrival until its reply may be sent.
    pub fn answered(&mut self, now: Timestamp, plane: Plane, took_us: u64) {
        self.traffic.took(now, plane, took_us);
    }

    /// Counts an observation of the shell.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) {
        self.hub.observe(now, observation);
    }

    /// Applies a command of the hub itself, such as its limits at the start.
    pub fn command(&mut self, now: Timestamp, command: Command) -> Result<Outcome, Problem> {
        self.execute(now, Asker::HUB, command)
    }

    /// Makes the ids of this start unlike those of any other. Call it before the first request: only then are ids given.
    /// `salt` is random.
    pub fn begin_ids(&mut self, now: Timestamp, salt: Salt) {
        let began = self.command(now, Command::BeginSalt(rules::salt_of_start(salt)));
        began.expect("the journal has not failed yet");
    }

    /// From now on this build's rules decide; earlier records keep theirs.
    pub fn adopt_rules(&mut self, now: Timestamp) {
        if self.hub.rules() < RulesVersion::NEWEST {
            let adopted = self.command(now, Command::AdoptRules(RulesVersion::NEWEST));
            adopted.expect("the journal has not failed yet");
        }
    }

    /// Sets the operator's weights of clients or kinds, unless there are none, or they are those that are set.
    pub fn set_weights(&mut self, now: Timestamp, weights: &[Weight]) {
        let weights_now = self.hub.weights();
        let is_set = weights.iter().all(|weight| weights_now.get(&weight.group) == Some(&weight.weight));
        if !weights.is_empty() && (!is_set || weights.len() != weights_now.len()) {
            let set = self.command(now, Command::SetWeights(weights.to_vec()));
            set.expect("the journal has not failed yet");
        }
    }

    /// Records that the operator allows a short token, if so.
    pub fn audit_short_token(&mut self, now: Timestamp) {
        if self.settings.has_short_token
            && let Some(token) = &self.settings.token
        {
            let bytes = token.bytes() as u64;
            self.audit(now, "TOKEN_SHORT", |out| {
                out.number("bytes", bytes).number("bytes_min", TOKEN_BYTES_MIN as u64);
            });
        }
    }

    /// The machine's clock was set: from now on the calendar is this one.
    pub fn set_calendar(&mut self, now: Timestamp, calendar: Calendar) -> Result<(), Problem> {
        let by_ms = i128::from(calendar.offset_ms()) - i128::from(self.hub.calendar().offset_ms());
        self.command(now, Command::SetCalendar(calendar))?;
        self.notifications.set_calendar(calendar);
        if by_ms.unsigned_abs() >= CLOCK_STEP_MS.into() {
            self.audit(now, "CLOCK_SET", |out| _ = out.raw("by_ms", by_ms.to_string().as_bytes()));
        }
        Ok(())
    }

    /// The machine slept for `duration` from `now` on: leases and long polls get the time that was left.
    pub fn sleep(&mut self, now: Timestamp, duration: Millis) -> Result<(), Problem> {
        self.record_quiet_nodes(now)?;
        self.command(now, Command::Slept(duration))?;
        self.long_polls.postpone(duration);
        Ok(())
    }

    /// Fires the timers that are due at `now`. Call it at [`Service::next_timeout`] or earlier, then
    /// [`Service::settle`]. It costs next to nothing when no timer is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.hub.advance(now);
        self.notifications.advance_alerts(now);
        self.notifications.end_strangers(now, false);
        if self.quiet_nodes.is_due(now) && self.record_quiet_nodes(now).is_err() {
            self.quiet_nodes.postpone(now);
        }
        self.end_rotation(now);
        self.look_for_troubles(now);
        self.end_due_polls(now);
        self.send_to_streams(now);
    }

    /// When the next timer is due.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let next = self.hub.next_deadline().into_iter().chain(self.long_polls.next_end());
        let next = next.chain(self.quiet_nodes.next_timeout()).chain(self.notifications.next_timeout());
        next.chain(self.rotation_ends_at()).chain(self.overloads.due_at()).chain(self.troubles_due_at()).min()
    }

    /// Delivers the hub's effects since the last call: answers woken long polls and records audit events.
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
                self.forget_heartbeat_sources();
                self.add_drops(now, false);
                return self.add_overloads(now, false);
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Audit(ts, audit) => {
                        self.audit_hub(ts, &audit);
                        if let Audit::TokenChanged { change, .. } = audit {
                            self.follow_token(change);
                        }
                    }
                    Effect::Wake(id) => self.wake(now, id),
                    Effect::Ended { job, gone } => self.answer_end(job, gone.as_deref()),
                }
            }
        }
    }

    /// Whether there are uncommitted commands that were not handed to the journal.
    pub fn has_batch(&self) -> bool {
        self.uncommitted.has_batch()
    }

    /// Bytes that wait to be handed to the journal.
    pub fn batch_bytes(&self) -> usize {
        self.uncommitted.batch_bytes()
    }

    /// The commands applied since the last call, to be journaled. `spare` is an empty batch whose capacity is reused.
    pub fn take_batch(&mut self, spare: Batch) -> Option<Handover> {
        self.uncommitted.take_batch(spare, self.hub.outcome_hash())
    }

    /// The number of the last record: a reply made now may be sent when that record is durable.
    pub fn last_seq(&self) -> u64 {
        self.uncommitted.last_seq()
    }

    /// The number of the last durable record.
    pub fn durable_seq(&self) -> u64 {
        self.uncommitted.durable_seq()
    }

    /// All records up to this one are durable: nodes learn of cancelled leases, in [`Service::late_replies`].
    pub fn set_durable(&mut self, up_to: u64) {
        self.uncommitted.set_durable(up_to);
        self.tell_cancelled(up_to);
    }

    /// The journal cannot be written: until it recovers, commands are refused, and reads that would show changes that
    /// are not durable wait.
    pub fn journal_failed(&mut self, reason: String) {
        self.uncommitted.journal_failed(reason);
        self.hub.observe(self.hub.now(), Observation::JournalFailure);
    }

    /// The journal can be written again: reads that waited for it are answered, in [`Service::late_replies`].
    pub fn journal_recovered(&mut self, now: Timestamp) {
        self.uncommitted.journal_recovered();
        self.answer_reads(now);
        self.reclaim(now, &[]);
    }

    /// Takes back leases whose reply was not sent, now or when the journal can be written.
    pub fn reclaim(&mut self, now: Timestamp, unsent: &[LeaseRef]) {
        self.unsent_leases.extend_from_slice(unsent);
        if self.unsent_leases.is_empty() || self.uncommitted.journal_down().is_some() {
            return;
        }
        let leases = std::mem::take(&mut self.unsent_leases);
        for leases in leases.chunks(PULL_JOBS_MAX as usize) {
            tracing::info!(leases = leases.len(), "a pull's reply could not be sent: its jobs wait again");
            self.execute(now, Asker::HUB, Command::Reclaim(leases.to_vec())).expect("the journal is not down");
        }
    }

    /// Why the journal cannot be written, while it cannot.
    pub fn journal_down(&self) -> Option<&str> {
        self.uncommitted.journal_down()
    }

    /// Collects commands that change nothing for [`Service::take_trace`] from now on.
    pub fn begin_trace(&mut self) {
        self.uncommitted.begin_trace();
    }

    /// The commands since the last call that changed nothing.
    pub fn take_trace(&mut self) -> Option<Pending> {
        self.uncommitted.take_trace()
    }

    /// The client closed its writing side and may have disconnected: its long polls are answered as if they timed out,
    /// since a job leased to a disconnected client would wait until the lease expires. Its event stream is closed.
    pub fn end_waits(&mut self, connection: u64) {
        self.close_stream(connection);
        self.end_polls_of(connection);
    }

    /// The connection is closed: its long polls and its event stream are dropped.
    pub fn forget(&mut self, connection: u64) {
        self.close_stream(connection);
        self.drop_polls_of(connection);
    }

    fn close_stream(&mut self, connection: u64) {
        self.token_streams.remove(&connection);
        self.streams().close(connection);
    }

    /// Begins to stop: long polls are answered as if they timed out, later requests do not wait, and event streams
    /// close.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
        self.streams().close_all();
        self.end_all_polls();
    }

    /// Journals the collected quiet nodes, and adds the events that were only counted. Call it before the last batch and
    /// the last events are taken.
    pub fn flush(&mut self, now: Timestamp) {
        self.notifications.end_strangers(now, true);
        self.settle_effects(now);
        self.add_drops(now, true);
        self.add_overloads(now, true);
        // A failed journal has reported its failure, and the nodes will send heartbeats again.
        _ = self.record_quiet_nodes(now);
    }

    /// The hub, read-only.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Applies a command, and adds it to the batch if it changed the state.
    fn execute(&mut self, now: Timestamp, asker: Asker, command: Command) -> Result<Outcome, Problem> {
        if let Some(reason) = self.uncommitted.journal_down() {
            return Err(Problem::journal_unavailable(reason));
        }
        let now = now.max(self.hub.now());
        self.uncommitted.begin(now, self.hub.rules(), asker, &command);
        let outcome = self.hub.apply_for(asker, now, command);
        self.uncommitted.end(now, &outcome);
        if let Outcome::Refused(refusal) = &outcome
            && let Some(full) = refusal.full()
        {
            self.note_drops(full.reason, 1);
        }
        Ok(outcome)
    }

    /// The caller, as the journal records it.
    fn asker(&self, caller: &Caller) -> Asker {
        let by = if self.settings.token.is_some() { Principal::SharedToken } else { Principal::Anonymous };
        Asker { by, origin: access::origin_of(caller, self.is_forwarded) }
    }

    /// Journals what expired by time alone, so that a reply that shows it waits for that record.
    fn record_time(&mut self, now: Timestamp) {
        if self.uncommitted.must_record_time(self.hub.ended_at()) {
            // If the journal is down, no reply shows it.
            _ = self.execute(now, Asker::HUB, Command::Tick);
        }
    }

    fn problem_of_refusal(&mut self, now: Timestamp, refusal: &Refusal) -> Problem {
        self.refusals += 1;
        let retry_after_ms = self.hub.retry_after(now, refusal, self.refusals);
        Problem::of_refusal(refusal, &self.hub, retry_after_ms, self.settings.backpressure_status)
    }

    fn problem_of(&mut self, now: Timestamp, outcome: Outcome) -> Problem {
        match outcome {
            Outcome::Refused(refusal) => self.problem_of_refusal(now, &refusal),
            other => unreachable!("a command is answered in kind or refused, not with {other:?}"),
        }
    }
}
