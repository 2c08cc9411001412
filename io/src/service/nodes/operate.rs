//! Nodes in and out of service: operators drain, resume and remove them.

use crate::http::Request;
use crate::service::body::{self, Fields};
use crate::service::problem::Problem;
use crate::service::{Answer, Caller, Service, query, reply, rules};
use sheratan_core::{Command, Drain, Name, Outcome, Timestamp};

/// The longest deadline of a drain: a week.
const DEADLINE_SECS: std::ops::RangeInclusive<u64> = 0..=7 * 86_400;

impl Service {
    pub(super) fn drain_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        let fields = fields_of(request, &["deadline_sec", "reason"])?;
        let node = node_of(node)?;
        let (deadline_ms, reason) = (fields.seconds("deadline_sec", DEADLINE_SECS)?, fields.key("reason")?);
        self.operate_node(now, caller, node.clone(), Command::Drain(Drain { node, deadline_ms, reason }))
    }

    pub(super) fn resume_node(&mut self, now: Timestamp, caller: &Caller, node: &str) -> Result<Answer, Problem> {
        let node = node_of(node)?;
        self.operate_node(now, caller, node.clone(), Command::Resume(node))
    }

    pub(super) fn remove_node(&mut self, now: Timestamp, caller: &Caller, node: &str) -> Result<Answer, Problem> {
        self.require_local(caller)?;
        let node = node_of(node)?;
        self.operate_node(now, caller, node.clone(), Command::RemoveNode(node))
    }

    pub(super) fn read_node(&self, node: &str) -> Result<Answer, Problem> {
        let node = node_of(node)?;
        // Whoever sees that it is drained may switch it off.
        if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
            return Err(Problem::not_durable(reason));
        }
        let record = self.hub.registry().by_name(&node).ok_or_else(Problem::unknown_node)?;
        Ok(Answer::Reply(reply::ok(|out| {
            out.flag("ok", true).object("nodes", |out| {
                super::registry::write_node(out, &self.hub, record, self.quiet_nodes.seen_at(record), true);
            });
        })))
    }

    pub(super) fn operate_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        node: Name,
        command: Command,
    ) -> Result<Answer, Problem> {
        match self.execute(now, self.asker(caller), command)? {
            Outcome::Done => Ok(rules::acknowledgement(reply::ok(|out| {
                out.flag("ok", true).text("node_id", &node);
                if let Some(record) = self.hub.registry().by_name(&node) {
                    out.flag("drained", record.drain().is_some()).number("leases", record.leases());
                    out.plain("attestation_status", record.attestation_status().as_str());
                    out.plain("identity_status", record.identity_status().as_str());
                    super::standing::write_state(out, record, self.hub.calendar());
                }
            }))),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }
}

/// The members of an act's body, which may be absent.
pub(in crate::service) fn fields_of<'a>(request: &'a Request, known: &[&str]) -> Result<Fields<'a>, Problem> {
    let body: &[u8] = if request.body().is_empty() { b"{}" } else { request.body() };
    Fields::parse_strict(body, known)
}

/// The node that a path names.
pub(super) fn node_of(encoded: &str) -> Result<Name, Problem> {
    let text = query::decode_segment(encoded);
    body::name("node_id", &text.ok_or_else(|| Problem::bad_request("the path is not well encoded"))?)
}
