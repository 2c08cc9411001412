//! The control plane: who is there, and what happened.

use super::body::{self, Fields, Query};
use super::problem::Problem;
use super::render;
use super::route::Plane;
use super::streams::{self, Topic, Topics};
use super::{Answer, Caller, Page, Service};
use crate::alerts;
use crate::http::{Method, Reply, Request};
use crate::object::{Object, object};
use sheratan_core::command::{Command, Health, Heartbeat};
use sheratan_core::hub::Hub;
use sheratan_core::outcome::Outcome;
use sheratan_core::registry::node::Node;
use sheratan_core::time::{Millis, Timestamp};

/// Bytes of a node's labels: shown in the registry, of which there may be 100,000.
const LABELS_BYTES_MAX: usize = 4_096;

/// Lines of one page of the audit log.
const AUDIT_LINES_MAX: u64 = 1_000;

/// Lines of the alerts' file in one answer.
const ALERT_LINES_MAX: u64 = 1_000;

/// A heartbeat this near to its node's going stale is not collected with others first.
const QUIET_MARGIN_MS: Millis = Millis::from_secs(2);

impl Service {
    pub(super) fn readyz(&self) -> Result<Reply, Problem> {
        if let Some(reason) = self.uncommitted.journal_down() {
            return Err(Problem::journal_unavailable(reason));
        }
        if self.is_draining {
            return Err(Problem::stopping());
        }
        Ok(reply(|out| _ = out.flag("ok", true).plain("status", "ready")))
    }

    pub(super) fn heartbeat(&mut self, now: Timestamp, request: &Request) -> Result<Reply, Problem> {
        let heartbeat = read_heartbeat(&Fields::parse(request.body())?)?;
        let name = heartbeat.node.clone();
        match self.quiet_no(now, &heartbeat) {
            Some(no) => {
                if self.quiet.is_empty() {
                    self.quiet_since = now;
                }
                self.quiet.insert(no, now);
            }
            None => match self.execute(now, Command::Heartbeat(heartbeat))? {
                Outcome::Heard { node } => _ = self.quiet.remove(&node),
                outcome => return Err(self.problem_of(outcome)),
            },
        }
        let node = self.hub.registry().by_name(&name).expect("a node that was heard of is registered");
        let interval = render::next_heartbeat(self.hub.limits().node_ttl_ms);
        Ok(reply(|out| {
            out.flag("ok", true).text("node_id", &name).plain("status", node.liveness().as_str());
            out.plain("health", node.health().as_str()).plain("policy_state", "NORMAL");
            out.number("next_heartbeat_ms", interval.get());
        }))
    }

    pub(super) fn registry(&self) -> Reply {
        reply(|out| render::registry(out, &self.hub, |node| self.seen_at(node)))
    }

    pub(super) fn audit_page(&self, request: &Request) -> Result<Answer, Problem> {
        let query = Query::new(request.query());
        let after = query.number("after", 0..=u64::MAX)?;
        let limit = query.number("limit", 1..=AUDIT_LINES_MAX)?.unwrap_or(100) as usize;
        Ok(Answer::Page(Page::Audit { after, limit }))
    }

    pub(super) fn alert_page(&self, now: Timestamp, request: &Request) -> Result<Answer, Problem> {
        let limit = Query::new(request.query()).number("limit", 1..=ALERT_LINES_MAX)?.unwrap_or(100) as usize;
        let mut open = vec![b'['];
        for (index, alert) in self.alerts.open().enumerate() {
            if index > 0 {
                open.push(b',');
            }
            alerts::line::write_open(&mut open, now, &alert);
        }
        open.push(b']');
        Ok(Answer::Page(Page::Alerts { open, limit }))
    }

    pub(super) fn event_stream(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        let words = Query::new(request.query()).get("events")?;
        let topics = words.map_or(Ok(Topics::ALL), |words| Topics::parse(&words))?;
        if self.is_draining {
            return Err(Problem::stopping());
        }
        self.streams.admit()?;
        if *request.method() != Method::Head {
            self.streams.open(now, caller.origin.connection, topics);
        }
        let counters = topics.has(Topic::Counters).then(|| self.counters(now));
        let beginning = Reply::text(200, "text/event-stream", streams::beginning(counters.as_deref()));
        // A proxy that keeps events back until it has enough of them would make them late; nginx asks for the second.
        let beginning = beginning.with_header("Cache-Control", "no-store".into());
        Ok(Answer::Stream(beginning.with_header("X-Accel-Buffering", "no".into())))
    }

    /// What the hub counts, as a JSON object in one line.
    pub fn counters(&self, now: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(2_048);
        object(&mut out, |out| {
            out.time("ts", now);
            self.write_metrics(out, now, Plane::Control);
            self.write_metrics(out, now, Plane::Data);
        });
        out
    }

    /// The node's number if its heartbeat can wait to be journaled with others.
    fn quiet_no(&self, now: Timestamp, heartbeat: &Heartbeat) -> Option<sheratan_core::ids::NodeNo> {
        let no = self.hub.registry().is_quiet(heartbeat)?;
        let node = self.hub.registry().get(no)?;
        (node.last_seen_at() + self.hub.limits().node_ttl_ms > now + QUIET_MARGIN_MS).then_some(no)
    }

    fn seen_at(&self, node: &Node) -> Timestamp {
        self.quiet.get(&node.no()).copied().unwrap_or(node.last_seen_at())
    }
}

pub fn health(plane: Plane) -> Reply {
    reply(|out| {
        out.flag("ok", true).plain("status", "ok").plain("service", "sheratan-hub");
        out.plain("plane", plane.as_str()).plain("version", env!("CARGO_PKG_VERSION"));
    })
}

pub fn livez() -> Reply {
    reply(|out| _ = out.flag("ok", true).plain("status", "alive"))
}

/// The registry's body, for a hub that no service holds.
pub fn registry_of(hub: &Hub) -> Vec<u8> {
    let mut body = Vec::new();
    object(&mut body, |out| render::registry(out, hub, Node::last_seen_at));
    body
}

fn read_heartbeat(fields: &Fields) -> Result<Heartbeat, Problem> {
    let node = match fields.name("node_id")? {
        Some(node) => node,
        None => fields.name("host_id")?.ok_or_else(|| body::missing("node_id"))?,
    };
    let labels = fields.payload("labels");
    if fields.object("labels")?.is_some() && labels.len() > LABELS_BYTES_MAX {
        return Err(Problem::bad_request(format!("labels must have at most {LABELS_BYTES_MAX} bytes")));
    }
    let health = fields.word("health", "GREEN, YELLOW or RED", |word| {
        [Health::Green, Health::Yellow, Health::Red]
            .into_iter()
            .find(|health| health.as_str().eq_ignore_ascii_case(word))
    })?;
    Ok(Heartbeat {
        node,
        zone: fields.name("zone")?,
        capabilities: fields.capabilities("capabilities")?,
        health: health.unwrap_or_default(),
        endpoint: fields.name("endpoint")?,
        labels,
    })
}

fn reply(fill: impl FnOnce(&mut Object)) -> Reply {
    let mut body = Vec::with_capacity(256);
    object(&mut body, fill);
    Reply::json(200, body)
}
