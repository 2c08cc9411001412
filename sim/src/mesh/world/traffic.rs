//! Traffic: calls and replies between actors and the hub, over the network.

use super::{Actor, Channel, Event, PendingCall, SLOW_READ_BYTES, SLOW_READ_US, World};
use crate::agenda::{Micros, SECOND};
use crate::mesh::http::pop_reply;
use crate::mesh::network::Fate;
use crate::mesh::oracle::{Violation, holds};
use crate::mesh::scene::{Answer, Call, Passage};
use crate::mesh::wire::WINDOW_BYTES;
use sheratan_io::service::Plane;
use std::collections::VecDeque;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};

/// A hub that no fault delays answers within this and twice the wait that was requested: its clock may run at half
/// speed.
const ANSWER_US: Micros = 5 * SECOND;

/// Bytes that a listener leaves unread before the hub's writes block.
const LISTENER_BYTES: usize = 4 << 10;

/// A stream is silent for 15 s at most, which are 30 s where the hub's clock runs at half speed.
const SILENCE_US: Micros = 35 * SECOND;

/// A listener that reads nothing is disconnected 30 s after its window is full, by the hub's clock. Counters are some 2
/// KiB every two seconds.
const DEAF_US: Micros = 120 * SECOND;

impl World {
    pub(super) fn deliver_to_hub(&mut self, id: u64, bytes: &[u8]) {
        let Some(process) = &mut self.process else { return };
        let Some(conn) = self.network.get(id) else { return };
        if conn.process_id != self.process_id {
            return;
        }
        let hub = match conn.hub {
            Some(hub) => hub,
            None => {
                let is_slow = conn.is_slow;
                let is_listener = matches!(self.channels[conn.channel].actor, Actor::Listener(_));
                let window = if is_slow {
                    2 * SLOW_READ_BYTES
                } else if is_listener {
                    LISTENER_BYTES
                } else {
                    WINDOW_BYTES
                };
                let hub = process.accept(id, conn.plane, address(conn.channel), window);
                conn.hub = Some(hub);
                hub
            }
        };
        process.arrive(hub, bytes);
        self.round_soon();
    }

    pub(super) fn send_to_actor(&mut self, id: u64, bytes: Vec<u8>, is_end: bool) -> Result<(), Violation> {
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        let channel = conn.channel;
        // Audit lines are written and sent before their commands are durable, to listeners and to readers of the log.
        let Channel { actor, plane, .. } = self.channels[channel];
        if !matches!((actor, plane), (Actor::Listener(_), _) | (Actor::Reader(_), Plane::Control)) {
            self.oracle.check_sent(&bytes)?;
        }
        conn.left_at = self.now;
        if is_end && conn.deaf_since.is_some() {
            *self.marks.entry("event stream dropped: its listener does not read").or_default() += 1;
        }
        conn.is_sound &= !is_end;
        let is_cut_off = self.cut_from_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        if !bytes.is_empty() {
            let fate = self.network.to_actor(&self.plan, self.now, id, bytes, is_cut_off);
            self.schedule(id, fate, false);
        }
        if is_end {
            let at = self.now + self.network.latency() + 20 * SECOND * u64::from(is_cut_off);
            // After the last bytes.
            self.agenda.plan(at + 21 * SECOND * u64::from(self.is_chaos), Event::CloseAtActor { conn: id });
        }
        Ok(())
    }

    pub(super) fn schedule(&mut self, conn: u64, fate: Fate, is_to_hub: bool) {
        for (at, bytes) in fate.arrivals {
            let event = if is_to_hub { Event::ToHub { conn, bytes } } else { Event::ToActor { conn, bytes } };
            self.agenda.plan(at, event);
        }
        if let Some(at) = fate.reset_at {
            self.agenda.plan(at, Event::CloseAtHub { conn });
            self.agenda.plan(at, Event::CloseAtActor { conn });
        }
    }

    pub(super) fn read_slowly(&mut self, id: u64) -> Result<(), Violation> {
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        conn.is_draining = false;
        if conn.deaf_since.is_some() {
            return Ok(());
        }
        let (Some(hub), Some(process)) = (conn.hub, &mut self.process) else { return Ok(()) };
        let Some((bytes, has_more)) = process.take_output(hub, SLOW_READ_BYTES) else { return Ok(()) };
        if has_more {
            self.network.get(id).expect("it is there").is_draining = true;
            self.agenda.plan(self.now + SLOW_READ_US, Event::SlowRead { conn: id });
        }
        self.round_soon();
        self.send_to_actor(id, bytes, false)
    }

    /// Sends an actor's call on its connection, pipelined behind earlier calls, or on a new one.
    pub(super) fn call(&mut self, channel: usize, call: Call) {
        let Call { bytes, timeout, hub_wait, .. } = call;
        self.calls += 1;
        let entry = &mut self.channels[channel];
        if entry.calls.is_empty() {
            entry.inbox.clear();
        } else {
            *self.marks.entry("request pipelined").or_default() += 1;
        }
        // Without a process on the port the connection is refused at once.
        let times_out_at = self.now + if self.process.is_some() { timeout } else { 1_000 };
        entry.calls.push_back(PendingCall { asked_at: self.now, times_out_at, hub_wait });
        if entry.timeout.at().is_none_or(|at| times_out_at < at) && entry.timeout.set(times_out_at) {
            self.agenda.plan(times_out_at, Event::CallTimeout { channel });
        }
        if self.process.is_none() {
            return;
        }
        let conn = match entry.conn {
            Some(conn) => conn,
            None => {
                let conn = self.network.open(&self.plan, channel, entry.plane, self.process_id);
                self.channels[channel].conn = Some(conn);
                conn
            }
        };
        let is_cut_off = self.cut_to_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        let repeat = bytes.clone();
        let fate = self.network.to_hub(&self.plan, self.now, conn, bytes, is_cut_off);
        if fate.is_repeated {
            self.oracle.note_repeated(&repeat);
            // A proxy on the way sends it again, and does not read the reply.
            let plane = self.channels[channel].plane;
            let other = self.network.open(&self.plan, channel, plane, self.process_id);
            let at = self.now + self.network.latency() + self.draws.faults.below(3 * SECOND);
            self.agenda.plan(at, Event::ToHub { conn: other, bytes: repeat });
            self.agenda.plan(at + 30 * SECOND, Event::CloseAtHub { conn: other });
        }
        self.schedule(conn, fate, true);
    }

    pub(super) fn deliver_to_actor(&mut self, conn: u64, bytes: &[u8]) -> Result<(), Violation> {
        let Some(entry) = self.network.get(conn) else { return Ok(()) };
        let (index, left_at, is_sound) = (entry.channel, entry.left_at, entry.is_sound);
        let channel = &mut self.channels[index];
        if channel.conn != Some(conn) {
            return Ok(());
        }
        if let Actor::Listener(listener) = channel.actor {
            return self.deliver_events(index, listener, bytes);
        }
        channel.inbox.extend_from_slice(bytes);
        if let Actor::Node(node) = channel.actor
            && (self.now < self.nodes[node].hung_until)
        {
            // The bytes stay in the inbox until the node no longer hangs.
            let at = self.nodes[node].hung_until;
            self.agenda.plan(at, Event::ToActor { conn, bytes: Vec::new() });
            return Ok(());
        }
        while self.channels[index].conn == Some(conn) {
            let channel = &mut self.channels[index];
            let Some(reply) = pop_reply(&mut channel.inbox) else { break };
            // A reply belongs to the oldest request; the actor checks that it answers that one.
            let Some(call) = channel.calls.pop_front() else { break };
            let mut unanswered = VecDeque::new();
            if reply.is_last {
                channel.conn = None;
                unanswered = mem::take(&mut channel.calls);
                self.agenda.plan(self.now + 1, Event::CloseAtHub { conn });
            }
            self.trail.bytes(&reply.status.to_le_bytes());
            self.mark(status_mark(reply.status));
            let is_smooth = is_sound && self.hindered_until < call.asked_at;
            let passage = Passage { asked_at: call.asked_at, left_at, is_smooth };
            self.answered(index, Answer::Reply(reply, passage))?;
            self.fail_calls(index, unanswered)?;
        }
        Ok(())
    }

    /// Disconnects if a call has timed out. If no fault delayed it, the hub should have answered.
    pub(super) fn time_out_call(&mut self, index: usize) -> Result<(), Violation> {
        let channel = &mut self.channels[index];
        let Some(call) = channel.calls.iter().min_by_key(|call| call.times_out_at).copied() else { return Ok(()) };
        if self.now < call.times_out_at {
            if channel.timeout.set(call.times_out_at) {
                self.agenda.plan(call.times_out_at, Event::CallTimeout { channel: index });
            }
            return Ok(());
        }
        let is_hung = matches!(channel.actor, Actor::Node(node) if self.nodes[node].hung_until > call.asked_at);
        if let Some(id) = channel.conn {
            let (process_id, waited) = (self.process_id, self.now - call.asked_at);
            let conn = self.network.get(id).filter(|conn| conn.is_sound && conn.process_id == process_id && !is_hung);
            let is_due = waited >= ANSWER_US + 2 * call.hub_wait && self.hindered_until < call.asked_at;
            holds(conn.is_none() || !is_due || self.process.is_none(), "every request is answered", || {
                let Channel { actor, lane, .. } = &self.channels[index];
                format!("a request of {actor:?} on its lane {lane} was not, {} ms after it was sent", waited / 1_000)
            })?;
        }
        self.mark("call timed out");
        self.disconnect(index)
    }

    /// An actor ends its connection.
    pub(super) fn hang_up(&mut self, index: usize) -> Result<(), Violation> {
        self.disconnect(index)
    }

    /// Delivers bytes of an event stream to its listener.
    fn deliver_events(&mut self, index: usize, listener: usize, bytes: &[u8]) -> Result<(), Violation> {
        let (actor, process_id) = (self.channels[index].actor, self.process_id);
        let mut has_head = false;
        self.run_actor(actor, |all, scene| has_head = all.listeners[listener].receive(bytes, process_id, scene))?;
        if has_head {
            self.channels[index].calls.clear();
        }
        Ok(())
    }

    /// Checks that no stream is silent for long, and that listeners that do not read are disconnected.
    pub(super) fn check_listeners(&mut self) -> Result<(), Violation> {
        for index in 0..self.channels.len() {
            let Actor::Listener(listener) = self.channels[index].actor else { continue };
            let silent_since = self.listeners[listener].silent_since();
            let Some(conn) = self.channels[index].conn.and_then(|conn| self.network.get(conn)) else { continue };
            let is_sound = conn.is_sound && conn.process_id == self.process_id && self.process.is_some();
            let is_late = |since: Option<Micros>, us: Micros| {
                is_sound && since.is_some_and(|since| self.now > since + us && self.hindered_until < since)
            };
            holds(!is_late(silent_since, SILENCE_US), "a stream is never silent for long", || {
                format!("listener {listener} has received nothing since {silent_since:?} µs")
            })?;
            holds(!is_late(conn.deaf_since, DEAF_US), "a listener that does not read is disconnected", || {
                format!("listener {listener} has read nothing since {:?} µs", conn.deaf_since)
            })?;
        }
        Ok(())
    }

    /// Closes a channel's connection and fails its calls.
    pub(super) fn disconnect(&mut self, index: usize) -> Result<(), Violation> {
        let channel = &mut self.channels[index];
        if let Some(conn) = channel.conn.take() {
            self.agenda.plan(self.now + 1, Event::CloseAtHub { conn });
        }
        channel.inbox.clear();
        let calls = mem::take(&mut channel.calls);
        if matches!(channel.actor, Actor::Listener(_)) && calls.is_empty() {
            return self.answered(index, Answer::Lost);
        }
        self.fail_calls(index, calls)
    }

    /// Answers these calls as lost.
    fn fail_calls(&mut self, index: usize, calls: VecDeque<PendingCall>) -> Result<(), Violation> {
        for _ in calls {
            self.mark("reply lost");
            self.answered(index, Answer::Lost)?;
        }
        Ok(())
    }
}

/// The key of a channel's actor for partitions: a node's index; the others, which are never cut off, share one.
fn owner(channel: &Channel) -> usize {
    match channel.actor {
        Actor::Node(index) => index,
        Actor::Client(_) | Actor::Reader(_) | Actor::Listener(_) | Actor::Admin | Actor::Operator => usize::MAX,
    }
}

/// A channel's address.
fn address(channel: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (channel / 250) as u8, (channel % 250) as u8 + 1))
}

fn status_mark(status: u16) -> &'static str {
    match status {
        200 => "status 200",
        400 => "status 400",
        403 => "status 403",
        404 => "status 404",
        408 => "status 408",
        409 => "status 409",
        410 => "status 410",
        412 => "status 412",
        429 => "status 429",
        503 => "status 503",
        _ => "another status",
    }
}
