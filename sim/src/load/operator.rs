//! The operator: takes one node after the other out of service, has it restarted, and puts it back.

use super::driver::Network;
use super::event::{Event, LineId, Micros};
use super::scenario::RollingDrain;
use super::wire;

/// What the operator does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Drain,
    Restart,
    Resume,
}

/// The operator.
#[derive(Debug)]
pub struct Operator {
    about: RollingDrain,
    line: LineId,
    nodes: u32,
    node: u32,
    next: Next,
    /// What the request under way asks for.
    asks: &'static str,
}

/// What the operator's act means for a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// A request is under way.
    Ask,
    /// The node is restarted.
    Restart(u32),
}

impl Operator {
    /// An operator whose requests go by a line, and who begins after the first interval.
    pub fn new(net: &mut Network, about: RollingDrain, line: LineId, nodes: u32) -> Self {
        net.agenda.plan(about.every_sec * 1_000_000, Event::Operate);
        Operator { about, line, nodes, node: 0, next: Next::Drain, asks: "" }
    }

    /// Whether a line is the operator's.
    pub fn has(&self, line: LineId) -> bool {
        line == self.line
    }

    /// Does what is next.
    pub fn operate(&mut self, net: &mut Network, now: Micros) -> Act {
        let deadline = self.about.deadline_sec * 1_000_000;
        // A second for the last extension to be refused.
        let (act, next, after) = match self.next {
            Next::Drain => (Act::Ask, Next::Restart, deadline + 1_000_000),
            Next::Restart => (Act::Restart(self.node), Next::Resume, 1_000_000),
            Next::Resume => (Act::Ask, Next::Drain, (self.about.every_sec * 1_000_000).saturating_sub(deadline)),
        };
        if act == Act::Ask {
            self.asks = if self.next == Next::Drain { "drain" } else { "resume" };
            net.send(now, self.line);
        }
        if next == Next::Drain && self.node + 1 == self.nodes {
            return act;
        }
        net.agenda.plan(now + after.max(1_000_000), Event::Operate);
        self.next = next;
        act
    }

    /// Writes the request under way, and counts the node as done after its last.
    pub fn write(&mut self, out: &mut Vec<u8>, body: &mut Vec<u8>) {
        let path = format!("/api/nodes/n{}/{}", self.node, self.asks);
        wire::post(out, body, &path, |body| match self.asks {
            "drain" => body.extend_from_slice(format!("{{\"deadline_sec\":{}}}", self.about.deadline_sec).as_bytes()),
            _ => body.extend_from_slice(b"{}"),
        });
        if self.asks == "resume" {
            self.node += 1;
        }
    }
}
