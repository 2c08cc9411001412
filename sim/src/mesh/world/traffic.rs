//! Traffic: calls and replies between actors and the hub, over the network.

use super::{Actor, Channel, Event, SLOW_BITE_BYTES, SLOW_BITE_US, UnderWay, World};
use crate::agenda::{Micros, SECOND};
use crate::mesh::http::take_reply;
use crate::mesh::network::Fate;
use crate::mesh::oracle::{Violation, holds};
use crate::mesh::scene::{Answer, Call, Passage};
use crate::mesh::wire::WINDOW_BYTES;
use sheratan_io::service::Plane;
use std::collections::VecDeque;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};

/// A hub that nothing hinders answers within this, and twice the time that it was asked to wait: its clock may run at half
/// speed.
const ANSWER_US: Micros = 5 * SECOND;

/// Bytes that a listener leaves unread before the hub's writes wait.
const LISTENER_BYTES: usize = 4 << 10;

/// A stream is silent for 15 s at most, which are 30 s where the hub's clock runs at half speed.
const SILENCE_US: Micros = 35 * SECOND;

/// Who reads nothing is dropped 30 s after that much waits for it, by the hub's clock. Of counters, some 2 KiB come every
/// two seconds.
const DEAF_US: Micros = 120 * SECOND;

impl World {
    pub(super) fn arrive(&mut self, id: u64, bytes: &[u8]) {
        let Some(process) = &mut self.process else { return };
        let Some(conn) = self.network.get(id) else { return };
        if conn.life != self.life {
            return;
        }
        let hub = match conn.hub {
            Some(hub) => hub,
            None => {
                let is_slow = conn.is_slow;
                let is_listener = matches!(self.channels[conn.channel].actor, Actor::Listener(_));
                let window = if is_slow {
                    2 * SLOW_BITE_BYTES
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
        process.touch(hub, false, |wire| wire.arrive(bytes));
        self.round_soon();
    }

    pub(super) fn send_to_actor(&mut self, id: u64, bytes: Vec<u8>, is_end: bool) -> Result<(), Violation> {
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        let channel = conn.channel;
        // The audit log is told what happens when it happens, and so is who listens or reads it.
        let Channel { actor, plane, .. } = self.channels[channel];
        if !matches!((actor, plane), (Actor::Listener(_), _) | (Actor::Reader(_), Plane::Control)) {
            self.oracle.left(&bytes)?;
        }
        conn.left_at = self.now;
        if is_end && conn.deaf_since.is_some() {
            *self.marks.entry("event stream dropped: its listener does not read").or_default() += 1;
        }
        conn.is_sound &= !is_end;
        let is_cut_off = self.cut_from_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        if !bytes.is_empty() {
            let fate = self.network.to_actor(&self.plan, self.now, id, bytes, is_cut_off);
            self.follow(id, fate, false);
        }
        if is_end {
            let at = self.now + self.network.latency() + 20 * SECOND * u64::from(is_cut_off);
            // After the last bytes.
            self.agenda.plan(at + 21 * SECOND * u64::from(self.is_chaos), Event::GoneToActor { conn: id });
        }
        Ok(())
    }

    pub(super) fn follow(&mut self, conn: u64, fate: Fate, is_to_hub: bool) {
        for (at, bytes) in fate.arrivals {
            let event = if is_to_hub { Event::ToHub { conn, bytes } } else { Event::ToActor { conn, bytes } };
            self.agenda.plan(at, event);
        }
        if let Some(at) = fate.reset_at {
            self.agenda.plan(at, Event::GoneToHub { conn });
            self.agenda.plan(at, Event::GoneToActor { conn });
        }
    }

    pub(super) fn bite(&mut self, id: u64) -> Result<(), Violation> {
        let Some(conn) = self.network.get(id) else { return Ok(()) };
        conn.is_draining = false;
        if conn.deaf_since.is_some() {
            return Ok(());
        }
        let (Some(hub), Some(process)) = (conn.hub, &mut self.process) else { return Ok(()) };
        let Some((bytes, has_more)) = process.take_out(hub, SLOW_BITE_BYTES) else { return Ok(()) };
        if has_more {
            self.network.get(id).expect("it is there").is_draining = true;
            self.agenda.plan(self.now + SLOW_BITE_US, Event::Bite { conn: id });
        }
        self.round_soon();
        self.send_to_actor(id, bytes, false)
    }

    /// An actor's call: on its connection, behind the calls under way, or on a new one.
    pub(super) fn call(&mut self, channel: usize, call: Call) {
        let Call { bytes, patience, waits, .. } = call;
        self.calls += 1;
        let entry = &mut self.channels[channel];
        if entry.calls.is_empty() {
            entry.inbox.clear();
        } else {
            *self.marks.entry("request pipelined").or_default() += 1;
        }
        // Where nobody listens the call is refused at once.
        let until = self.now + if self.process.is_some() { patience } else { 1_000 };
        entry.calls.push_back(UnderWay { asked_at: self.now, until, waits });
        if entry.patience.at().is_none_or(|at| until < at) && entry.patience.set(until) {
            self.agenda.plan(until, Event::Patience { channel });
        }
        if self.process.is_none() {
            return;
        }
        let conn = match entry.conn {
            Some(conn) => conn,
            None => {
                let conn = self.network.open(&self.plan, channel, entry.plane, self.life);
                self.channels[channel].conn = Some(conn);
                conn
            }
        };
        let is_cut_off = self.cut_to_hub.get(&owner(&self.channels[channel])).is_some_and(|until| self.now < *until);
        let repeat = bytes.clone();
        let fate = self.network.to_hub(&self.plan, self.now, conn, bytes, is_cut_off);
        if fate.is_repeated {
            // Somebody on the way sends it again; whoever that is reads no reply.
            let plane = self.channels[channel].plane;
            let other = self.network.open(&self.plan, channel, plane, self.life);
            let at = self.now + self.network.latency() + self.draws.faults.below(3 * SECOND);
            self.agenda.plan(at, Event::ToHub { conn: other, bytes: repeat });
            self.agenda.plan(at + 30 * SECOND, Event::GoneToHub { conn: other });
        }
        self.follow(conn, fate, true);
    }

    pub(super) fn receive(&mut self, conn: u64, bytes: &[u8]) -> Result<(), Violation> {
        let Some(entry) = self.network.get(conn) else { return Ok(()) };
        let (index, left_at, is_sound) = (entry.channel, entry.left_at, entry.is_sound);
        let channel = &mut self.channels[index];
        if channel.conn != Some(conn) {
            return Ok(());
        }
        if let Actor::Listener(listener) = channel.actor {
            return self.hear(index, listener, bytes);
        }
        channel.inbox.extend_from_slice(bytes);
        if let Actor::Node(node) = channel.actor
            && (self.now < self.nodes[node].hung_until)
        {
            // What has come waits, in its order, until somebody reads.
            let at = self.nodes[node].hung_until;
            self.agenda.plan(at, Event::ToActor { conn, bytes: Vec::new() });
            return Ok(());
        }
        while self.channels[index].conn == Some(conn) {
            let channel = &mut self.channels[index];
            let Some(reply) = take_reply(&mut channel.inbox) else { break };
            // A reply comes to the first of the requests; the actor finds out whether it is the one to it.
            let Some(call) = channel.calls.pop_front() else { break };
            let mut unanswered = VecDeque::new();
            if reply.is_last {
                channel.conn = None;
                unanswered = mem::take(&mut channel.calls);
                self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
            }
            self.trail.bytes(&reply.status.to_le_bytes());
            self.mark(status_mark(reply.status));
            let is_smooth = is_sound && self.unwell_until < call.asked_at;
            let passage = Passage { asked_at: call.asked_at, left_at, is_smooth };
            self.answered(index, Answer::Reply(reply, passage))?;
            self.give_up(index, unanswered)?;
        }
        Ok(())
    }

    /// If a call has taken too long the connection is given up. If nothing went wrong, the hub should have answered.
    pub(super) fn run_out(&mut self, index: usize) -> Result<(), Violation> {
        let channel = &mut self.channels[index];
        let Some(call) = channel.calls.iter().min_by_key(|call| call.until).copied() else { return Ok(()) };
        if self.now < call.until {
            if channel.patience.set(call.until) {
                self.agenda.plan(call.until, Event::Patience { channel: index });
            }
            return Ok(());
        }
        let is_hung = matches!(channel.actor, Actor::Node(node) if self.nodes[node].hung_until > call.asked_at);
        if let Some(id) = channel.conn {
            let (life, waited) = (self.life, self.now - call.asked_at);
            let conn = self.network.get(id).filter(|conn| conn.is_sound && conn.life == life && !is_hung);
            let is_due = waited >= ANSWER_US + 2 * call.waits && self.unwell_until < call.asked_at;
            holds(conn.is_none() || !is_due || self.process.is_none(), "every request is answered", || {
                let Channel { actor, lane, .. } = &self.channels[index];
                format!("a request of {actor:?} on its lane {lane} was not, {} ms after it was sent", waited / 1_000)
            })?;
        }
        self.mark("call timed out");
        self.lose(index)
    }

    /// An actor ends its connection.
    pub(super) fn hang_up(&mut self, index: usize) -> Result<(), Violation> {
        self.lose(index)
    }

    /// What happens reaches who listens.
    fn hear(&mut self, index: usize, listener: usize, bytes: &[u8]) -> Result<(), Violation> {
        let (actor, life) = (self.channels[index].actor, self.life);
        let mut is_begun = false;
        self.play(actor, |all, scene| is_begun = all.listeners[listener].hear(bytes, life, scene))?;
        if is_begun {
            self.channels[index].calls.clear();
        }
        Ok(())
    }

    /// Whether each stream goes on, and who does not read is let go.
    pub(super) fn check_listeners(&mut self) -> Result<(), Violation> {
        for index in 0..self.channels.len() {
            let Actor::Listener(listener) = self.channels[index].actor else { continue };
            let silent_since = self.listeners[listener].silent_since();
            let Some(conn) = self.channels[index].conn.and_then(|conn| self.network.get(conn)) else { continue };
            let is_sound = conn.is_sound && conn.life == self.life && self.process.is_some();
            let is_late = |since: Option<Micros>, us: Micros| {
                is_sound && since.is_some_and(|since| self.now > since + us && self.unwell_until < since)
            };
            holds(!is_late(silent_since, SILENCE_US), "a stream is never silent for long", || {
                format!("listener {listener} has heard nothing since {silent_since:?} µs")
            })?;
            holds(!is_late(conn.deaf_since, DEAF_US), "who does not read is let go", || {
                format!("listener {listener} has read nothing since {:?} µs", conn.deaf_since)
            })?;
        }
        Ok(())
    }

    /// A channel's connection is over, and with it the calls.
    pub(super) fn lose(&mut self, index: usize) -> Result<(), Violation> {
        let channel = &mut self.channels[index];
        if let Some(conn) = channel.conn.take() {
            self.agenda.plan(self.now + 1, Event::GoneToHub { conn });
        }
        channel.inbox.clear();
        let calls = mem::take(&mut channel.calls);
        if matches!(channel.actor, Actor::Listener(_)) && calls.is_empty() {
            return self.answered(index, Answer::Lost);
        }
        self.give_up(index, calls)
    }

    /// No reply to these calls comes any more.
    fn give_up(&mut self, index: usize, calls: VecDeque<UnderWay>) -> Result<(), Violation> {
        for _ in calls {
            self.mark("reply lost");
            self.answered(index, Answer::Lost)?;
        }
        Ok(())
    }
}

/// The actor that a channel belongs to, for cuts: nodes by their number, the others beyond.
fn owner(channel: &Channel) -> usize {
    match channel.actor {
        Actor::Node(index) => index,
        Actor::Client(_) | Actor::Reader(_) | Actor::Listener(_) | Actor::Operator => usize::MAX,
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
        429 => "status 429",
        503 => "status 503",
        _ => "another status",
    }
}
