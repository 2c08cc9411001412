//! The registry: all nodes, as the control plane shows them.

use crate::http::{Reply, Request};
use crate::object::{Object, object, write_text};
use crate::service::nodes::standing;
use crate::service::problem::Problem;
use crate::service::query::Query;
use crate::service::{Service, reply};
use sheratan_core::{Hub, Liveness, Name, Node, Timestamp};

/// The most nodes on one page, about 1.8 MB in 5 ms: the loop must not stop for 100,000 nodes.
const PAGE_NODES_MAX: u64 = 5_000;

/// A part of the registry.
struct Page<'a> {
    /// Nodes with greater names.
    after: &'a str,
    limit: usize,
}

impl Page<'_> {
    const ALL: Page<'static> = Page { after: "", limit: usize::MAX };
}

impl Service {
    pub(super) fn registry(&self, request: &Request) -> Result<Reply, Problem> {
        let query = Query::parse(request.query(), &["limit", "cursor"])?;
        let limit = query.number("limit", 1..=PAGE_NODES_MAX)?.unwrap_or(PAGE_NODES_MAX) as usize;
        let after = query.get("cursor")?.unwrap_or_default();
        let page = Page { after, limit };
        Ok(reply::ok(|out| write_registry(out, &self.hub, &page, |node| self.quiet_nodes.seen_at(node))))
    }
}

/// The registry's body, for a hub without a service.
pub fn registry_of(hub: &Hub) -> Vec<u8> {
    let mut body = Vec::new();
    object(&mut body, |out| write_registry(out, hub, &Page::ALL, Node::last_seen_at));
    body
}

/// The members of the registry's body; `seen_at` returns when a node was last seen.
fn write_registry(out: &mut Object, hub: &Hub, page: &Page<'_>, seen_at: impl Fn(&Node) -> Timestamp) {
    let limits = hub.limits();
    out.flag("ok", true).plain("schema", "sheratan.nodes_registry@1");
    out.number("node_ttl_sec", limits.node_ttl_ms.as_secs_ceil());
    out.number("node_dead_sec", limits.node_dead_ms.as_secs_ceil());
    write_policy(out, hub);
    let mut nodes = hub.registry().iter_after(page.after);
    let mut last = None;
    out.object("nodes", |out| {
        for record in nodes.by_ref().take(page.limit) {
            write_node(out, hub, record, seen_at(record), false);
            last = Some(record.name());
        }
    });
    match last.filter(|_| nodes.next().is_some()) {
        Some(last) => out.text("next_cursor", last),
        None => out.raw("next_cursor", b"null"),
    };
}

/// The active policy.
fn write_policy(out: &mut Object, hub: &Hub) {
    let policies = hub.policies();
    out.object("policy", |out| {
        out.number("version", policies.active().version());
        out.plain("sha256", hex::encode(policies.active().snapshot().sha256()));
        match policies.activated_at() {
            // The built-in one, for ever.
            Timestamp::ZERO => out.raw("activated_utc", b"null"),
            at => out.time("activated_utc", hub.calendar().utc(at)),
        };
    });
}

/// A node, with its history if `is_whole`; `seen_at` is later than the node's own instant if a heartbeat is not journaled yet.
pub fn write_node(out: &mut Object, hub: &Hub, node: &Node, seen_at: Timestamp, is_whole: bool) {
    let calendar = hub.calendar();
    out.object(node.name(), |out| {
        // Readers of v1.5 look for liveness in the health.
        let health = match node.liveness() {
            Liveness::Online => node.health().as_str(),
            liveness => liveness.as_str(),
        };
        out.plain("status", node.liveness().as_str()).plain("health", health);
        standing::write_state(out, node, calendar);
        out.text("zone", node.zone().as_str());
        out.array("capabilities", node.capabilities().iter(), |out, name: &Name| write_text(out, name));
        if let Some(labels) = node.labels() {
            out.raw("labels", labels.as_bytes());
        }
        if let Some(endpoint) = node.endpoint() {
            out.text("endpoint", endpoint);
        }
        out.time("registered_utc", calendar.utc(node.registered_at()));
        out.time("last_seen_utc", calendar.utc(seen_at));
        out.number("leases", node.leases());
        out.flag("drained", node.drain().is_some());
        if let Some(drain) = node.drain() {
            // What still has to end before the node may be stopped.
            out.number("undrained_leases", node.leases()).time("drained_utc", calendar.utc(drain.since));
            if let Some(until) = drain.until {
                out.time("drain_deadline_utc", calendar.utc(until));
            }
            if let Some(reason) = &drain.reason {
                out.text("drain_reason", reason);
            }
        }
        standing::write_attestation(out, hub, node, is_whole);
        standing::write_identity(out, calendar, node, is_whole);
        out.object("queue", |out| {
            let unread = hub.queue().results_unread_by(node.name());
            out.number("inbound_requests", node.leases()).number("outbound_results", unread);
        });
        out.raw("meta", b"{}").raw("project_id", b"null").raw("current_bundle_id", b"null");
    });
}
