//! The engine: what a round of the loop does with connections, service and journal, over any [`Wire`]. It decides the
//! order in which requests are read, applied, made durable and answered; sockets, clocks and threads are the caller's,
//! so that the simulator drives the very code that production runs.
//!
//! A round, after the caller has set the time:
//! 1. [`Engine::note`] readiness, [`Engine::handle_report`] of the journal, [`Engine::accept`] new connections.
//! 2. [`Engine::read`], [`Engine::fire_timers`], [`Engine::settle`]; then drain what the service has for the logs.
//! 3. [`Engine::hand_over`] to the journal, [`Engine::write`]; then close [`Engine::drain_closed`]. A batch that
//!    [`Engine::commits_here`] is committed between the two, and its report handled before the replies are written.

use super::committer::Report;
use super::held::{HeldReplies, Patience, Released};
use super::pace::Pace;
use super::reader::PageRequest;
use super::rules;
use super::share::{Scarcity, Share};
use super::sockets::{Socket, Sockets};
use super::timekeeper::{Changes, Reading, Timekeeper};
use super::turns::{FIRST_REQUESTS_MAX, Order, Place, REQUESTS_MAX, ROUND_REQUESTS_MAX, SUBMITTERS_US_MAX, Turns};
use super::wire::Wire;
use crate::http::{Method, Reply};
use crate::journal::Batch;
use crate::rfc3339::Rfc3339;
use crate::service::streams::Sendout;
use crate::service::{Answer, Caller, Handover, LateReply, Load, Origin, Overload, Problem, Service};
use sheratan_core::telemetry::Observation;
use sheratan_core::{Calendar, Timestamp};
use std::mem;
use std::time::Duration;

/// Bytes read at once, from one connection, into the buffer that all share: a batch of results fits.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that may wait for the journal before the loop stops reading: a disk that is slow for a second at 1 GiB/s of
/// network must not fill the memory.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Bytes that all connections and held replies hold at most, unless the operator says otherwise.
pub const BUFFERED_BYTES_MAX: usize = 256 << 20;

/// Connections, unless the caller says otherwise.
const CONNECTIONS_MAX: usize = 1 << 16;

/// A stopwatch: microseconds since any instant.
pub type Stopwatch = fn() -> u64;

/// Connections, the service, and the replies that wait for the journal.
pub struct Engine<W> {
    service: Service,
    sockets: Sockets<W>,
    held: HeldReplies,
    /// The empty batch to fill next; `None` while the journal has it.
    spare: Option<Batch>,
    /// Since when the journal has a batch.
    committing_since: Option<Timestamp>,
    /// The bytes of that batch.
    committing_bytes: usize,
    pace: Pace,
    is_journal_down: bool,
    patience: Patience,
    now: Timestamp,
    /// The time that the machine was awake: connections are measured on it, which neither a clock that is set nor a
    /// sleep moves.
    awake: Timestamp,
    stopwatch: Stopwatch,
    /// Connections that may have bytes to read or requests to answer.
    turns: Turns,
    /// Bytes that all connections and held replies may hold.
    buffered_bytes_max: usize,
    share: Share,
    /// Connections that have something to write or are to be closed.
    dirty: Vec<u64>,
    /// Closed connections that the caller has not drained.
    closed: Vec<(u64, Box<Socket<W>>)>,
    /// Something followed from closed connections after the caller had drained what the service has for the logs.
    has_late_effects: bool,
    /// Requested pages of logs that the caller has not drained.
    pages: Vec<PageRequest>,
    buffer: Box<[u8]>,
}

impl<W: Wire> Engine<W> {
    /// An engine without connections. The records that the service has made since it recovered are committed first.
    pub fn new(
        (now, awake): (Timestamp, Timestamp),
        service: Service,
        patience: Patience,
        stopwatch: Stopwatch,
    ) -> Self {
        Engine {
            service,
            sockets: Sockets::default(),
            held: HeldReplies::default(),
            spare: Some(Batch::new()),
            committing_since: None,
            committing_bytes: 0,
            pace: Pace::unknown(),
            is_journal_down: false,
            patience,
            now,
            awake,
            stopwatch,
            turns: Turns::default(),
            buffered_bytes_max: BUFFERED_BYTES_MAX,
            share: Share::of(CONNECTIONS_MAX),
            dirty: Vec::new(),
            closed: Vec::new(),
            has_late_effects: false,
            pages: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Sets the time to what the machine's clocks show. A sleep of the machine and a step of its clock become commands;
    /// while the journal is down they wait, and the hub's time and calendar with them.
    pub fn set_time(&mut self, timekeeper: &mut Timekeeper, reading: &Reading) -> Changes {
        let mut changes = Changes::default();
        if let Some(slept) = timekeeper.slept(reading)
            && self.service.sleep(self.now, slept).is_ok()
        {
            timekeeper.note_sleep(slept);
            changes.slept = Some(slept);
        }
        self.now = timekeeper.now(reading).max(self.now);
        self.awake = reading.awake_at().max(self.awake);
        let before = self.service.hub().calendar();
        if let Some(calendar) = timekeeper.step(reading, before)
            && self.service.set_calendar(self.now, calendar).is_ok()
        {
            timekeeper.note_step(reading);
            changes.stepped_ms = Some(calendar.offset_ms().saturating_sub(before.offset_ms()));
        }
        if changes != Changes::default() {
            let calendar = self.calendar_of_connections();
            for id in self.sockets.ids() {
                self.sockets.get(id).expect("the id was just listed").http.set_calendar(calendar);
            }
        }
        changes
    }

    /// The hub's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The time that connections are measured on.
    pub fn awake(&self) -> Timestamp {
        self.awake
    }

    fn calendar_of_connections(&self) -> Calendar {
        Calendar::showing(self.service.hub().calendar().utc(self.now), self.awake)
    }

    /// The service, to drain what it has for the logs and to set its gauges.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// The service, read-only.
    pub fn service_ref(&self) -> &Service {
        &self.service
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.sockets.count()
    }

    /// The connection with this id, if it is still open.
    pub fn socket(&mut self, id: u64) -> Option<&mut Socket<W>> {
        self.sockets.get(id)
    }

    /// The id of the connection in a slot.
    pub fn id_at(&self, slot: usize) -> Option<u64> {
        self.sockets.id_at(slot)
    }

    /// Adds a connection and returns its id. It is read in this round if it is marked as readable.
    pub fn accept(&mut self, mut socket: Socket<W>) -> u64 {
        socket.http.set_calendar(self.calendar_of_connections());
        let id = self.sockets.insert(socket);
        self.sockets.arm(id);
        let socket = self.sockets.get(id).expect("it was just inserted");
        socket.http.check_heads();
        if socket.is_readable {
            self.turns.add(id, &mut socket.place, socket.order);
            socket.mark_dirty(id, &mut self.dirty);
        }
        id
    }

    /// Sets how many connections the caller accepts at most.
    pub fn set_connections_max(&mut self, connections_max: usize) {
        self.share.set_connections_max(connections_max);
    }

    /// Sets how many bytes all connections and held replies may hold.
    pub fn set_buffered_bytes_max(&mut self, bytes: usize) {
        self.buffered_bytes_max = bytes;
    }

    /// The bytes that all connections and held replies hold.
    pub fn buffered_bytes(&self) -> usize {
        self.sockets.buffered_bytes() + self.held.bytes()
    }

    /// Removes a connection that could not be registered with the poll.
    pub fn remove(&mut self, id: u64) {
        self.sockets.remove(id);
    }

    /// Records a readiness event of a connection.
    pub fn note(&mut self, id: u64, may_read: bool, is_ending: bool, may_write: bool) {
        let Some(socket) = self.sockets.get(id) else { return };
        socket.is_readable |= may_read;
        socket.is_ending |= is_ending;
        if may_read {
            self.turns.add(id, &mut socket.place, socket.order);
        }
        if may_write {
            socket.mark_dirty(id, &mut self.dirty);
        }
    }

    /// Records that a client has gone: its connection was reset, or is closed in both directions. What it has sent and
    /// was not applied yet is not done, though it may be complete. (A client that closed only its own direction may
    /// still read, and is answered.)
    pub fn note_gone(&mut self, id: u64) {
        self.close(id);
    }

    /// Handles a report of a commit. Returns the last record of a segment if one was sealed.
    pub fn handle_report(&mut self, report: Report) -> Option<u64> {
        match report {
            Report::Durable { up_to, spare, took, is_in_loop, sealed_through } => {
                self.service.observe(self.now, Observation::JournalCommit { took_us: micros(took), is_in_loop });
                self.pace.note(self.committing_bytes, took);
                self.service.set_durable(up_to);
                self.spare = Some(spare);
                self.committing_since = None;
                self.service.set_committing(None);
                self.service.set_journal_stalled(self.now, None);
                if mem::take(&mut self.is_journal_down) {
                    self.service.journal_recovered(self.now);
                }
                let released_at = (self.stopwatch)();
                while let Some(released) = self.held.release(up_to) {
                    let took = released.came_at.map(|came_at| released_at.saturating_sub(came_at));
                    self.deliver_after(released.origin, released.reply, took);
                }
                sealed_through
            }
            Report::Up => {
                self.is_journal_down = false;
                self.service.journal_recovered(self.now);
                None
            }
            Report::Down { reason } => {
                self.journal_failed(reason);
                None
            }
        }
    }

    /// Acknowledgements stay held: a journal that is back soon makes them true.
    fn journal_failed(&mut self, reason: String) {
        self.is_journal_down = true;
        self.service.journal_failed(reason);
        for Released { origin, reply, .. } in self.held.release_harmless() {
            self.deliver(origin, reply);
        }
    }

    /// Looks for a commit that takes too long, and for replies that were held too long.
    fn check_patience(&mut self) {
        let Patience { commit_ms_max, held_ms_max } = self.patience;
        if let Some(since) = self.committing_since
            && !self.is_journal_down
            && self.now >= since + commit_ms_max
        {
            self.service.set_journal_stalled(self.now, Some(since));
            self.journal_failed(format!(
                "the disk has not answered since {}",
                Rfc3339::new(self.service.hub().calendar().utc(since))
            ));
        }
        while let Some(overdue) = self.held.release_overdue(self.now, held_ms_max) {
            let Released { origin, mut reply, is_acknowledgement, .. } = overdue;
            self.service.reclaim(self.now, &reply.take_leases());
            let reason = self.service.journal_down().unwrap_or("the disk is slow");
            let unknown = Problem::not_acknowledged(reason, rules::applied_after_failure());
            self.deliver(origin, rules::reply_after_failure(reply, is_acknowledgement, || unknown.into_reply()));
        }
    }

    /// When a commit takes too long, or a reply is held too long.
    fn patience_ends_at(&self) -> Option<Timestamp> {
        let Patience { commit_ms_max, held_ms_max } = self.patience;
        let commit = self.committing_since.filter(|_| !self.is_journal_down).map(|since| since + commit_ms_max);
        commit.into_iter().chain(self.held.oldest_at().map(|at| at + held_ms_max)).min()
    }

    /// Reads once from ready connections and answers their requests, in turns: see [`turns`](super::turns).
    pub fn read(&mut self) {
        // What is held for the journal is not the connections' to give up.
        if self.buffered_bytes() > self.buffered_bytes_max
            && self.sockets.buffered_bytes() > self.buffered_bytes_max / 4
        {
            self.shed();
        }
        if !self.is_memory_scarce() {
            self.turns.resume();
        }
        for order in [Order::Others, Order::Submitters] {
            self.take_turns(order);
        }
    }

    fn take_turns(&mut self, order: Order) {
        let (first, later) = self.turns.counts(order);
        let began_at = (self.stopwatch)();
        for _ in 0..first {
            let Some(id) = self.turns.pop_first(order) else { break };
            self.read_one(id, FIRST_REQUESTS_MAX);
            if order == Order::Submitters && (self.stopwatch)().saturating_sub(began_at) >= SUBMITTERS_US_MAX {
                break;
            }
        }
        // Counted apart, so that those who ask once never keep the others from their turns.
        let mut answered = 0;
        for _ in 0..later + first {
            if answered >= ROUND_REQUESTS_MAX {
                break;
            }
            let Some(id) = self.turns.pop_later(order) else { break };
            answered += self.read_one(id, REQUESTS_MAX).max(1);
        }
    }

    /// Makes room: the connections that hold the most give it up.
    fn shed(&mut self) {
        let enough = self.buffered_bytes_max - self.buffered_bytes_max / 4;
        let (mut count, before) = (0_u64, self.buffered_bytes());
        let mut ids = self.sockets.by_buffered_bytes();
        // Those whose request finishes work come last.
        ids.sort_by_key(|id| self.sockets.get(*id).is_some_and(|socket| socket.is_finishing));
        for id in ids {
            if self.buffered_bytes() <= enough {
                break;
            }
            let socket = self.sockets.get(id).expect("it was just listed");
            self.service.note_overload(Overload::Bytes, socket.ip);
            socket.http.shed(self.awake, Problem::overloaded().into_reply());
            socket.mark_dirty(id, &mut self.dirty);
            self.sockets.recount(id);
            count += 1;
        }
        tracing::warn!(
            bytes = before,
            connections = count,
            "clients make the hub hold too much: those that hold the most are refused"
        );
    }

    /// Returns how many requests were answered, at most `requests_max`.
    fn read_one(&mut self, id: u64, requests_max: usize) -> usize {
        let scarcity = self.scarcity();
        let Some(socket) = self.sockets.get(id) else { return 0 };
        socket.place = Place::None;
        let may_read = scarcity.lets_read(socket.http.buffered_bytes(), socket.is_finishing);
        if socket.is_readable && socket.http.wants_read() && may_read {
            if socket.read(self.awake, &mut self.buffer).is_err() {
                self.close(id);
                return 0;
            }
            // Input that produces no reply may still change the connection: its end, or a malformed request.
            socket.mark_dirty(id, &mut self.dirty);
        }
        let answered = self.answer(id, requests_max);
        self.admit_body(id);
        if self.sockets.get(id).is_some_and(|socket| socket.http.has_input_ended()) {
            // A disconnected client must not be given a job; one that closed only its writing side is answered now. The
            // end may have been read before the request was answered.
            self.service.end_waits(id);
        }
        self.sockets.recount(id);
        self.queue_if_more(id);
        answered
    }

    fn is_memory_scarce(&self) -> bool {
        self.scarcity() != Scarcity::None
    }

    fn scarcity(&self) -> Scarcity {
        Scarcity::of(self.buffered_bytes(), self.buffered_bytes_max)
    }

    /// Lets a connection that has more to read or to answer wait for its next turn.
    fn queue_if_more(&mut self, id: u64) {
        let scarcity = self.scarcity();
        let Some(socket) = self.sockets.get(id) else { return };
        let wants_read = socket.is_readable && socket.http.wants_read();
        if socket.http.has_request()
            || wants_read && scarcity.lets_read(socket.http.buffered_bytes(), socket.is_finishing)
        {
            self.turns.add_later(id, &mut socket.place, socket.order);
        } else if wants_read {
            self.turns.pause(id, &mut socket.place);
        }
    }

    /// Decides whether the body is read whose head has arrived.
    fn admit_body(&mut self, id: u64) {
        let Engine { sockets, service, now, awake, dirty, .. } = self;
        let Some(socket) = sockets.get(id) else { return };
        let Some(head) = socket.http.unadmitted_request() else { return };
        let origin = Origin { connection: id, request: head.id() };
        socket.is_finishing = Service::load_of(socket.plane, head.path()) == Load::Finish;
        match service.admit_body(*now, &Caller { plane: socket.plane, ip: socket.ip, origin }, &head) {
            Ok(()) => socket.http.admit(*awake),
            Err(reply) => socket.http.refuse_body(*awake, reply),
        }
        socket.mark_dirty(id, dirty);
    }

    /// Answers the requests that a connection has received. While the journal is behind, only read-only requests are
    /// answered; the others wait, one for each connection.
    fn answer(&mut self, id: u64, requests_max: usize) -> usize {
        let mut room = self.buffered_bytes_max.saturating_sub(self.buffered_bytes());
        // What those who submit may not use of it.
        let kept = self.buffered_bytes_max - Share::bytes_max(self.buffered_bytes_max);
        let Engine { sockets, service, held, now, awake, dirty, pages, is_journal_down, stopwatch, share, .. } = self;
        let Some(socket) = sockets.get(id) else { return 0 };
        for answered in 0..requests_max {
            let is_behind = !*is_journal_down && service.batch_bytes() > BATCH_BYTES_MAX;
            if is_behind && !socket.http.next_path().is_some_and(|path| Service::is_read_only(socket.plane, path)) {
                return answered;
            }
            let Some(request) = socket.http.next_request(*awake) else { return answered };
            let origin = Origin { connection: id, request: request.id() };
            let came_at = stopwatch();
            let before = service.last_seq();
            let is_submit = Service::load_of(socket.plane, request.path()) == Load::Submit;
            let may_join = share.has_room(socket.is_in_share);
            let overload = match () {
                () if room == 0 && !Service::is_read_only(socket.plane, request.path()) => Some(Overload::Bytes),
                () if is_submit && room <= kept => Some(Overload::BytesShare),
                () if is_submit && !may_join => Some(Overload::ConnectionsShare),
                () => None,
            };
            let answer = match overload {
                Some(what) => {
                    service.note_overload(what, socket.ip);
                    let problem =
                        if what == Overload::Bytes { Problem::overloaded() } else { Problem::share_is_used() };
                    Answer::Now(problem.into_reply())
                }
                None => {
                    service.set_may_wait(may_join);
                    service.handle(*now, &Caller { plane: socket.plane, ip: socket.ip, origin }, &request)
                }
            };
            socket.is_finishing = false;
            socket.order = if is_submit { Order::Submitters } else { Order::Others };
            let is_refused = matches!(&answer, Answer::Now(reply) | Answer::Reply(reply) if reply.status() == 503);
            // It would hold one of the connections that are kept for others.
            let is_last = is_refused && !may_join;
            share.set(&mut socket.is_in_share, may_join && (is_submit || matches!(answer, Answer::Parked)));
            if let Answer::Reply(reply) | Answer::Now(reply) | Answer::Stream(reply) = &answer {
                room = room.saturating_sub(reply.bytes());
            }
            let seq = service.last_seq();
            let reply = match answer {
                // While the journal is down no command is applied, and reads of what is not durable are parked.
                Answer::Reply(reply) if rules::may_leave(seq, service.durable_seq()) || *is_journal_down => reply,
                Answer::Reply(reply) => {
                    let is_read = matches!(request.method(), Method::Get | Method::Head);
                    let shows_state = is_read && Service::shows_state(socket.plane, request.path());
                    let is_acknowledgement = seq > before || rules::acknowledges_earlier(is_read, shows_state);
                    held.hold(*now, seq, origin, reply, is_acknowledgement, Some(came_at));
                    if is_last {
                        socket.http.begin_drain(*awake);
                    }
                    continue;
                }
                Answer::Now(reply) => reply,
                Answer::Stream(beginning) => {
                    socket.begin_stream(*awake, origin.request, beginning);
                    socket.mark_dirty(id, dirty);
                    continue;
                }
                Answer::Parked => continue,
                Answer::Page(page) => {
                    pages.push(PageRequest { origin, page });
                    continue;
                }
            };
            service.answered(*now, socket.plane, stopwatch().saturating_sub(came_at));
            if is_last {
                socket.http.begin_drain(*awake);
            }
            socket.http.reply(*awake, origin.request, reply);
            socket.mark_dirty(id, dirty);
        }
        // Otherwise what follows a request that waits, for a job or for the journal, would wait with it.
        if let Some(socket) = sockets.get(id) {
            socket.http.finish_request(*awake);
        }
        requests_max
    }

    /// Fires the due timers: of the journal and of connections (what takes too long), then those of the service.
    pub fn fire_timers(&mut self) {
        self.check_patience();
        while let Some(id) = self.sockets.pop_due(self.awake) {
            let socket = self.sockets.get(id).expect("a timer is removed with its connection");
            if socket.http.next_timeout().is_some_and(|at| at <= self.awake) {
                socket.http.handle_timeout(self.awake);
                socket.mark_dirty(id, &mut self.dirty);
            }
            self.sockets.arm(id);
        }
        // Called in each round: the service's next deadline is not known before it is settled.
        self.service.handle_timeout(self.now);
    }

    /// Answers the long polls that can be answered.
    pub fn settle(&mut self) {
        self.has_late_effects = false;
        self.service.settle(self.now);
        let seq = self.service.last_seq();
        for LateReply { origin, reply, is_acknowledgement } in mem::take(self.service.late_replies()) {
            let is_harmless = self.is_journal_down && !is_acknowledgement;
            if rules::may_leave(seq, self.service.durable_seq()) || is_harmless {
                self.deliver(origin, reply);
            } else {
                self.held.hold(self.now, seq, origin, reply, is_acknowledgement, None);
            }
        }
    }

    /// Pushes events to the clients of event streams. A client with too many unsent bytes is closed at the next write.
    pub fn push_events(&mut self) {
        for Sendout { to, bytes } in self.service.streams().take(self.now) {
            for id in to {
                let Some(socket) = self.sockets.get(id) else { continue };
                socket.http.push(self.awake, &bytes);
                socket.mark_dirty(id, &mut self.dirty);
                self.sockets.recount(id);
            }
        }
        for id in self.service.streams().take_ended() {
            let Some(socket) = self.sockets.get(id) else { continue };
            socket.http.end_stream(self.awake);
            socket.mark_dirty(id, &mut self.dirty);
        }
    }

    /// The uncommitted commands as a batch to append, unless there are none or the journal still has the previous
    /// batch.
    pub fn hand_over(&mut self) -> Option<Handover> {
        if !self.service.has_batch() {
            return None;
        }
        let spare = self.spare.take()?;
        self.committing_bytes = self.service.batch_bytes();
        self.committing_since = Some(self.now);
        self.service.set_committing(self.committing_since);
        Some(self.service.take_batch(spare).expect("there is one"))
    }

    /// Whether the batch that was handed over is committed in the loop's thread, since the disk is fast.
    pub fn commits_here(&self) -> bool {
        self.pace.commits_here(self.committing_bytes)
    }

    /// Whether all commands are durable.
    pub fn is_durable(&self) -> bool {
        self.spare.is_some() && !self.service.has_batch()
    }

    /// Whether the journal's last write failed.
    pub fn is_journal_down(&self) -> bool {
        self.is_journal_down
    }

    /// Drains the requested pages of logs; the caller answers each with [`Engine::deliver`].
    pub fn drain_page_requests(&mut self) -> Vec<PageRequest> {
        mem::take(&mut self.pages)
    }

    /// Queues a reply on its connection.
    pub fn deliver(&mut self, origin: Origin, reply: Reply) {
        self.deliver_after(origin, reply, None);
    }

    /// Queues a reply on its connection; `took_us`, if present, is recorded as the request's latency.
    fn deliver_after(&mut self, origin: Origin, mut reply: Reply, took_us: Option<u64>) {
        let is_connected = self.sockets.get(origin.connection).is_some();
        self.service.reclaim(self.now, &rules::leases_to_reclaim(&mut reply, is_connected));
        // The client may have disconnected.
        let Some(socket) = self.sockets.get(origin.connection) else { return };
        if let Some(took_us) = took_us {
            self.service.answered(self.now, socket.plane, took_us);
        }
        socket.http.reply(self.awake, origin.request, reply);
        socket.mark_dirty(origin.connection, &mut self.dirty);
        self.sockets.recount(origin.connection);
    }

    /// Writes queued bytes to each connection that has some; a connection whose replies are written may have more
    /// requests in its buffer. `wrote` is called for each connection that stays open.
    pub fn write(&mut self, mut wrote: impl FnMut(u64, &mut W)) {
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(socket) = self.sockets.get(id) else { continue };
            socket.is_dirty = false;
            if socket.write(self.awake).is_err() || socket.http.is_done() {
                self.close(id);
                continue;
            }
            wrote(id, socket.wire());
            self.sockets.recount(id);
            self.queue_if_more(id);
            self.sockets.arm(id);
        }
        // Its memory is used again.
        self.dirty = dirty;
        if !self.service.hub().is_settled() {
            // The leases of a closed connection were taken back, and others may get them.
            self.settle();
            self.has_late_effects = true;
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(mut socket) = self.sockets.remove(id) {
            self.share.set(&mut socket.is_in_share, false);
            if socket.http.is_aborted() && self.service.streams().drop_slow(id) {
                tracing::info!(ip = %socket.ip, "an event stream was dropped: its client reads too slowly");
            }
            self.service.reclaim(self.now, &socket.http.take_unsent_leases());
            self.closed.push((id, socket));
        }
        self.service.forget(id);
    }

    /// Closes all connections.
    pub fn close_all(&mut self) {
        self.sockets.ids().into_iter().for_each(|id| self.close(id));
        self.held.drain().into_iter().for_each(|released| self.deliver(released.origin, released.reply));
    }

    /// Drains the connections that were closed since the last call.
    pub fn drain_closed(&mut self) -> Vec<(u64, Box<Socket<W>>)> {
        mem::take(&mut self.closed)
    }

    /// Whether there is something to do at once: a connection waits to be read or answered, or a connection that was
    /// closed left a command for the journal.
    pub fn has_ready(&self) -> bool {
        let may_resume = self.turns.has_paused() && !self.is_memory_scarce();
        let is_work_left = self.has_late_effects || self.spare.is_some() && self.service.has_batch();
        !self.turns.is_empty() || may_resume || is_work_left
    }

    /// Whether the journal is behind: until it has caught up, only read-only requests are answered. While it is down,
    /// commands are refused, so its batch does not grow.
    pub fn is_full(&self) -> bool {
        !self.is_journal_down && self.service.batch_bytes() > BATCH_BYTES_MAX
    }

    /// When the next timer is due, by the hub's time. A connection's comes later if the machine sleeps meanwhile.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let of_sockets = self.sockets.next_timeout().map(|at| self.now + at.since(self.awake));
        let next = of_sockets.into_iter().chain(self.service.next_timeout());
        next.chain(self.patience_ends_at()).min()
    }

    /// Begins to stop: requests in flight are answered, then connections close.
    pub fn begin_drain(&mut self) {
        self.service.begin_drain();
        for id in self.sockets.ids() {
            let socket = self.sockets.get(id).expect("the id was just listed");
            socket.http.begin_drain(self.awake);
            socket.mark_dirty(id, &mut self.dirty);
        }
    }

    /// The service, once the loop has ended.
    pub fn into_service(self) -> Service {
        self.service
    }
}

/// A duration in whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a process runs less than 584,000 years")
}
