//! Network: connections between actors and the hub, and what goes wrong on them.
//!
//! A connection is a pair of ordered byte streams, as TCP is: what arrives, arrives in order, or the connection is
//! dead. So a message that is lost leaves its stream stuck until one end closes the connection, and messages overtake
//! each other on different connections only.

use super::fault::{Fault, Injected};
use super::plan::Plan;
use crate::agenda::Micros;
use crate::draw::Draw;
use sheratan_io::service::Plane;
use std::collections::BTreeMap;

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Index of the channel that opened it.
    pub channel: usize,
    /// The hub's plane that it was opened to.
    pub plane: Plane,
    /// The hub's id for it, once it was accepted.
    pub hub: Option<u64>,
    /// The hub process that it was opened to.
    pub process_id: u64,
    /// When the last bytes to the hub arrive; later bytes do not arrive earlier.
    to_hub_at: Micros,
    to_actor_at: Micros,
    /// Whether bytes to the hub no longer arrive.
    is_stuck_to_hub: bool,
    is_stuck_to_actor: bool,
    /// Whether it is open and had no fault, so that each request must be answered.
    pub is_sound: bool,
    /// When the hub last sent something.
    pub left_at: Micros,
    /// Whether the actor reads slowly.
    pub is_slow: bool,
    /// Since when the actor reads nothing.
    pub deaf_since: Option<Micros>,
    /// Whether a slow actor's next read is scheduled.
    pub is_draining: bool,
}

/// When and how bytes that were sent arrive.
#[derive(Debug, Default)]
pub struct Fate {
    /// The pieces, and when they arrive.
    pub arrivals: Vec<(Micros, Vec<u8>)>,
    /// When the connection is reset.
    pub reset_at: Option<Micros>,
    /// Whether the same bytes are sent again on another connection.
    pub is_repeated: bool,
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    conns: BTreeMap<u64, Conn>,
    next: u64,
    draw: Draw,
    latency_us: [Micros; 2],
    injected: Injected,
    /// Whether faults are injected.
    pub is_chaos: bool,
}

impl Network {
    /// A network without connections.
    pub fn new(plan: &Plan, draw: Draw) -> Self {
        let latency_us = plan.latency_ms.map(|ms| ms * 1_000);
        Network { conns: BTreeMap::new(), next: 1, draw, latency_us, injected: Injected::new(), is_chaos: false }
    }

    /// Opens a connection to the hub process `process_id`.
    pub fn open(&mut self, plan: &Plan, channel: usize, plane: Plane, process_id: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        let is_slow = self.draws_fault(plan, Fault::SlowReader);
        let conn = Conn {
            channel,
            plane,
            hub: None,
            process_id,
            to_hub_at: 0,
            to_actor_at: 0,
            is_stuck_to_hub: false,
            is_stuck_to_actor: false,
            is_sound: !is_slow,
            left_at: 0,
            is_slow,
            deaf_since: None,
            is_draining: false,
        };
        self.conns.insert(id, conn);
        id
    }

    /// The connection with this id.
    pub fn get(&mut self, id: u64) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// Removes a connection.
    pub fn close(&mut self, id: u64) -> Option<Conn> {
        self.conns.remove(&id)
    }

    /// Removes all connections.
    pub fn close_all(&mut self) -> Vec<(u64, Conn)> {
        std::mem::take(&mut self.conns).into_iter().collect()
    }

    /// Faults that were injected, by name.
    pub fn injected(&self) -> &Injected {
        &self.injected
    }

    /// Draws how long a message takes.
    pub fn latency(&mut self) -> Micros {
        let [least, more] = self.latency_us;
        50 + least + self.draw.below(more + 1)
    }

    /// An actor sends a request at `now`; `is_cut_off` if what it sends is lost.
    pub fn to_hub(&mut self, plan: &Plan, now: Micros, id: u64, bytes: Vec<u8>, is_cut_off: bool) -> Fate {
        let mut fate = Fate::default();
        let mut at = now + self.latency();
        if self.is_chaos {
            if is_cut_off || self.draws_fault(plan, Fault::LoseRequest) {
                self.stick(id, true);
            } else if self.draws_fault(plan, Fault::DelayRequest) {
                self.mark_unsound(id);
                at += self.draw.between(100_000, 20_000_000);
            }
        }
        fate.is_repeated = self.draws_fault(plan, Fault::DuplicateRequest);
        let Some(conn) = self.conns.get_mut(&id) else { return fate };
        at = at.max(conn.to_hub_at);
        conn.to_hub_at = at;
        if conn.is_stuck_to_hub {
            return fate;
        }
        self.send(plan, at, bytes, Fault::CutRequest, &mut fate);
        if let Some((last, _)) = fate.arrivals.last()
            && let Some(conn) = self.conns.get_mut(&id)
        {
            conn.to_hub_at = *last;
            conn.is_sound &= fate.reset_at.is_none() && fate.arrivals.len() == 1;
            // No bytes follow a cut.
            conn.is_stuck_to_hub |= fate.reset_at.is_some();
        }
        fate
    }

    /// The hub sends bytes at `now`.
    pub fn to_actor(&mut self, plan: &Plan, now: Micros, id: u64, bytes: Vec<u8>, is_cut_off: bool) -> Fate {
        let mut fate = Fate::default();
        let mut at = now + self.latency();
        if self.is_chaos {
            if is_cut_off || self.draws_fault(plan, Fault::LoseReply) {
                self.stick(id, false);
            } else if self.draws_fault(plan, Fault::DelayReply) {
                self.mark_unsound(id);
                at += self.draw.between(100_000, 20_000_000);
            }
        }
        let Some(conn) = self.conns.get_mut(&id) else { return fate };
        at = at.max(conn.to_actor_at);
        conn.to_actor_at = at;
        if conn.is_stuck_to_actor {
            return fate;
        }
        if self.draws_fault(plan, Fault::CutReply) {
            let kept = self.draw.below(bytes.len() as u64) as usize;
            fate.arrivals.push((at, bytes[..kept].to_vec()));
            fate.reset_at = Some(at);
            self.stick(id, false);
            return fate;
        }
        fate.arrivals.push((at, bytes));
        fate
    }

    fn send(&mut self, plan: &Plan, at: Micros, bytes: Vec<u8>, cut: Fault, fate: &mut Fate) {
        if self.draws_fault(plan, cut) {
            let kept = self.draw.below(bytes.len() as u64) as usize;
            fate.arrivals.push((at, bytes[..kept].to_vec()));
            fate.reset_at = Some(at + self.draw.below(2_000_000));
        } else if self.draws_fault(plan, Fault::Reset) {
            fate.arrivals.push((at, bytes));
            fate.reset_at = Some(at + self.draw.below(20_000));
        } else if self.draws_fault(plan, Fault::Dribble) {
            let piece = 1 + self.draw.below(80) as usize;
            let step = self.draw.below(200_000);
            for (index, part) in bytes.chunks(piece).enumerate() {
                fate.arrivals.push((at + index as u64 * step, part.to_vec()));
            }
        } else {
            fate.arrivals.push((at, bytes));
        }
    }

    fn stick(&mut self, id: u64, to_hub: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            *(if to_hub { &mut conn.is_stuck_to_hub } else { &mut conn.is_stuck_to_actor }) = true;
            conn.is_sound = false;
        }
    }

    fn mark_unsound(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.is_sound = false;
        }
    }

    /// Draws whether to inject a fault now, and counts it if so.
    fn draws_fault(&mut self, plan: &Plan, fault: Fault) -> bool {
        let rate = plan.rate(fault);
        let is_drawn = self.is_chaos && rate > 0 && self.draw.below(10_000) < rate;
        if is_drawn {
            *self.injected.entry(fault.name()).or_default() += 1;
        }
        is_drawn
    }
}
