//! What nodes attest and what follows from it: their states, and what operators do about them.

use crate::http::Request;
use crate::object::{Object, object};
use crate::service::body::{self, Fields};
use crate::service::problem::Problem;
use crate::service::{Answer, Caller, Service, reply};
use sheratan_core::{
    Accept, Attestation, Attested, Calendar, Change, Command, Hub, Node, Origin, PolicyState, Quarantine, Timestamp,
};

/// How long an operator may put a node in quarantine: a week.
const QUARANTINE_MINUTES: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 60;

/// How long a quarantine lasts if the operator does not say.
const QUARANTINE_MINUTES_DEFAULT: u64 = 10;

/// The most nodes in the list of those that are not normal.
const LISTED_NODES_MAX: usize = 5_000;

impl Service {
    pub(super) fn accept_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        require_local(caller)?;
        let fields = fields_of(request, &["expect", "force"])?;
        let node = super::operate::node_of(node)?;
        let expected = match fields.object("expect", &["build_id", "capability_hash"])? {
            None => None,
            Some(expect) => {
                let (build_id, capability_hash) = (expect.name("build_id")?, expect.name("capability_hash")?);
                Some(Attestation { build_id, capability_hash, runtime: None })
            }
        };
        let is_forced = fields.flag("force")?.unwrap_or(false);
        let accept = Accept { node: node.clone(), expected, is_forced };
        self.operate_node(now, caller, node, Command::Accept(Box::new(accept)))
    }

    pub(super) fn quarantine_node(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        node: &str,
    ) -> Result<Answer, Problem> {
        let fields = fields_of(request, &["minutes", "reason"])?;
        let node = super::operate::node_of(node)?;
        let minutes = fields.number("minutes", QUARANTINE_MINUTES)?.unwrap_or(QUARANTINE_MINUTES_DEFAULT);
        let duration_ms = sheratan_core::Millis::from_secs(minutes * 60);
        let order = Quarantine { node: node.clone(), duration_ms, reason: fields.key("reason")? };
        self.operate_node(now, caller, node, Command::Quarantine(order))
    }

    pub(super) fn release_node(&mut self, now: Timestamp, caller: &Caller, node: &str) -> Result<Answer, Problem> {
        let node = super::operate::node_of(node)?;
        self.operate_node(now, caller, node.clone(), Command::ClearNode(node))
    }

    /// As [`Service::release_node`], for clients in the field.
    pub(super) fn clear_policy(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        require_local(caller)?;
        let fields = fields_of(request, &["host_id", "node_id"])?;
        let named = fields.name("host_id")?.or(fields.name("node_id")?);
        let node = named.ok_or_else(|| body::missing("host_id"))?;
        self.operate_node(now, caller, node.clone(), Command::ClearNode(node))
    }

    /// The nodes that are not normal, as a bare list.
    pub(super) fn list_policies(&self) -> Answer {
        let calendar = self.hub.calendar();
        let is_normal = |node: &&Node| node.policy_state() == PolicyState::Normal;
        let nodes = self.hub.registry().iter().filter(|node| !is_normal(node)).take(LISTED_NODES_MAX);
        Answer::Reply(reply::list(nodes, |out, node| {
            out.text("id", node.name());
            write_state(out, node, calendar);
        }))
    }
}

fn fields_of<'a>(request: &'a Request, known: &[&str]) -> Result<Fields<'a>, Problem> {
    let body: &[u8] = if request.body().is_empty() { b"{}" } else { request.body() };
    Fields::parse_strict(body, known)
}

fn require_local(caller: &Caller) -> Result<(), Problem> {
    match Origin::of(caller.ip) {
        Origin::Loopback => Ok(()),
        _ => Err(Problem::admin_local_only()),
    }
}

/// The members of a node's state.
pub fn write_state(out: &mut Object, node: &Node, calendar: Calendar) {
    out.plain("policy_state", node.policy_state().as_str());
    let Some(state) = node.state() else {
        out.raw("policy_reason", b"null").raw("policy_until_utc", b"null").number("policy_hits", 0);
        out.raw("policy_updated_utc", b"null").raw("policy_by", b"null");
        return;
    };
    match state.reason {
        Some(reason) => out.plain("policy_reason", reason.as_str()),
        None => out.raw("policy_reason", b"null"),
    };
    match state.until {
        Some(until) => out.time("policy_until_utc", calendar.utc(until)),
        None => out.raw("policy_until_utc", b"null"),
    };
    out.number("policy_hits", state.hits.into());
    out.time("policy_updated_utc", calendar.utc(state.updated_at)).plain("policy_by", state.by.as_str());
    if let Some(note) = &state.note {
        out.text("policy_note", note);
    }
}

/// What a node attests; with the history of its changes if `is_whole`.
pub fn write_attestation(out: &mut Object, hub: &Hub, node: &Node, is_whole: bool) {
    let calendar = hub.calendar();
    out.object("attestation", |out| {
        out.plain("status", node.attestation_status().as_str());
        let Some(attested) = node.attested() else {
            out.raw("first_seen", b"null").raw("last_seen", b"null").number("drift_count", 0);
            out.number("spoof_count", 0).raw("last_change_utc", b"null");
            return;
        };
        out.object("first_seen", |out| {
            write_claims(out, &attested.baseline);
            out.time("ts_utc", calendar.utc(attested.baseline_at));
            if let Some(by) = attested.accepted_by {
                out.plain("accepted_by", by.as_str());
            }
        });
        out.object("last_seen", |out| {
            write_claims(out, &attested.latest);
            out.time("ts_utc", calendar.utc(last_attested_at(node, attested)));
        });
        out.number("drift_count", attested.drifts.into()).number("spoof_count", attested.flips.into());
        out.time("last_change_utc", calendar.utc(attested.changed_at));
        if is_whole {
            out.array("changes", attested.changes.iter(), |out, change: &Change| {
                object(out, |out| {
                    out.time("ts_utc", calendar.utc(change.at)).plain("status", change.status.as_str());
                    out.text_or_null("build_id", change.build_id.as_deref());
                    out.text_or_null("capability_hash", change.capability_hash.as_deref());
                });
            });
        }
    });
}

/// When a node attested last: with its latest heartbeat, unless its heartbeats have had no attestation since.
fn last_attested_at(node: &Node, attested: &Attested) -> Timestamp {
    let latest = attested.silent_since.or(node.heartbeat_at());
    latest.map_or(attested.latest_at, |at| at.max(attested.latest_at))
}

fn write_claims(out: &mut Object, attestation: &Attestation) {
    out.text_or_null("build_id", attestation.build_id.as_deref());
    out.text_or_null("capability_hash", attestation.capability_hash.as_deref());
    if let Some(runtime) = &attestation.runtime {
        out.raw("runtime", runtime.as_bytes());
    }
}
