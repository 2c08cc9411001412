//! Heartbeats: journaled one by one if they change something, otherwise collected as quiet nodes.

use super::signing;
use crate::http::Request;
use crate::service::body::{self, Fields};
use crate::service::problem::Problem;
use crate::service::{Answer, Caller, Service, reply};
use sheratan_core::{
    Attestation, Command, Health, Heartbeat, Millis, Name, NameSet, NodeIndex, Outcome, Payload, Timestamp,
};

/// Bytes of a node's labels: shown in the registry, of which there may be 100,000.
const LABELS_BYTES_MAX: usize = 4_096;

/// Bytes of the runtime in a node's attestation, likewise.
const RUNTIME_BYTES_MAX: usize = 4_096;

/// A heartbeat of a node that would become stale within this time is journaled at once.
pub(super) const QUIET_MARGIN_MS: Millis = Millis::from_secs(2);

/// The members of a heartbeat that are known, those that this release does not read included.
const MEMBERS: &[&str] = &[
    "node_id",
    "host_id",
    "name",
    "health",
    "status",
    "ts_utc",
    "timestamp",
    "zone",
    "capabilities",
    "labels",
    "endpoint",
    "attestation",
    "public_key",
    "signature",
    "counter",
    "next_public_key",
];

impl Service {
    pub(super) fn heartbeat(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<Answer, Problem> {
        let heartbeat = read_heartbeat(&Fields::parse(request.body(), MEMBERS)?)?;
        let name = heartbeat.node.clone();
        self.note_token_of_node(now, caller, &name);
        let quiet = self.quiet_node(now, &heartbeat);
        let is_own = self.hub.registry().is_own(&heartbeat);
        let is_ignored = self.hub.registry().ignores(&heartbeat);
        // What a node attests and which key it has hold from then on, or are a reason for a quarantine: that is answered
        // when it is durable.
        let is_news = heartbeat.attestation.is_some() || heartbeat.signing.is_some();
        let is_durable = is_news && !is_ignored && quiet.is_none();
        match quiet {
            Some(node) => self.quiet_nodes.add(now, node),
            None if is_ignored => {}
            None => match self.execute(now, self.asker(caller), Command::Heartbeat(heartbeat))? {
                Outcome::Heard { node } if is_own => self.quiet_nodes.remove(node),
                // The node itself may have been seen a moment ago.
                Outcome::Heard { .. } => {}
                outcome => return Err(self.problem_of(now, outcome)),
            },
        }
        let node = self.hub.registry().by_name(&name).expect("a node that was heard of is registered");
        let identity = node.identity_status();
        if is_durable && node.identity().is_some() {
            self.note_heartbeat_source(name.clone(), identity, caller.ip);
        }
        let node = self.hub.registry().by_name(&name).expect("it was just found");
        let interval = next_heartbeat(self.hub.limits().node_ttl_ms);
        let reply = reply::ok(|out| {
            out.flag("ok", true).text("node_id", &name).plain("status", node.liveness().as_str());
            out.plain("health", node.health().as_str());
            out.plain("attestation_status", node.attestation_status().as_str());
            out.plain("identity_status", identity.as_str());
            out.plain("policy_state", node.policy_state().as_str());
            out.number("policy_version", self.hub.policies().active().version());
            out.number("next_heartbeat_ms", interval.get());
        });
        Ok(if is_durable { Answer::Reply(reply) } else { Answer::Now(reply) })
    }

    /// The node, if its heartbeat can be collected and journaled with others.
    fn quiet_node(&self, now: Timestamp, heartbeat: &Heartbeat) -> Option<NodeIndex> {
        let id = self.hub.registry().repeats(now, self.hub.limits(), heartbeat)?;
        let node = self.hub.registry().get(id)?;
        (node.last_seen_at() + self.hub.limits().node_ttl_ms > now + QUIET_MARGIN_MS).then_some(id)
    }
}

fn read_heartbeat(fields: &Fields) -> Result<Heartbeat, Problem> {
    let ids = ["node_id", "host_id", "name"].into_iter().find_map(|member| fields.name(member).transpose());
    let node = ids.transpose()?.ok_or_else(|| body::missing("node_id"))?;
    let labels = fields.payload("labels");
    if fields.object("labels", &[])?.is_some() && labels.as_ref().is_some_and(|labels| labels.len() > LABELS_BYTES_MAX)
    {
        return Err(Problem::bad_request(format!("labels must have at most {LABELS_BYTES_MAX} bytes")));
    }
    Ok(Heartbeat {
        node,
        zone: fields.name("zone")?.into(),
        capabilities: read_capabilities(fields)?,
        health: read_health(fields).unwrap_or_default(),
        endpoint: fields.key("endpoint")?,
        labels,
        attestation: read_attestation(fields).map(Box::new),
        signing: signing::read(fields).map(Box::new),
    })
}

/// Nodes in use send words of their own: one that is no health counts as absent.
fn read_health(fields: &Fields) -> Option<Health> {
    let word = fields.raw("health")?.as_str()?;
    let healths = [Health::Green, Health::Yellow, Health::Red];
    healths.into_iter().find(|health| health.as_str().eq_ignore_ascii_case(word.trim()))
}

/// The capabilities, or those of the attestation: nodes of v1.5 have them there. What else an attestation holds there is
/// theirs.
fn read_capabilities(fields: &Fields) -> Result<NameSet, Problem> {
    if fields.raw("capabilities").is_some() {
        return fields.capabilities("capabilities");
    }
    let attestation = fields.raw("attestation").and_then(|value| value.as_object());
    let attested = attestation.and_then(|object| Fields::of(object, &[]).ok());
    Ok(attested.and_then(|attested| attested.capabilities("capabilities").ok()).unwrap_or(NameSet::EMPTY))
}

/// The attestation; none if it says neither a build nor a capability hash. A heartbeat is not refused for it: what cannot
/// be kept counts as absent, which differs from any baseline that has it.
fn read_attestation(fields: &Fields) -> Option<Attestation> {
    let object = fields.raw("attestation")?.as_object()?;
    let name = |key: &str| {
        let value = object.get(key)?;
        let text = if value.is_number() { value.text().into() } else { value.as_str()? };
        Name::new(text.trim()).ok()
    };
    let (build_id, capability_hash) = (name("build_id"), name("capability_hash"));
    let runtime = object.get("runtime").filter(|value| value.as_object().is_some());
    let runtime = runtime.map(|value| Payload::new(value.as_bytes())).filter(|json| json.len() <= RUNTIME_BYTES_MAX);
    let is_any = build_id.is_some() || capability_hash.is_some();
    is_any.then_some(Attestation { build_id, capability_hash, runtime })
}

/// How often a node should send a heartbeat: three times within its time to live, at most every 10 s.
fn next_heartbeat(node_ttl: Millis) -> Millis {
    Millis::new((node_ttl.get() / 3).clamp(100, 10_000))
}
