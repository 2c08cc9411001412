//! The members that are allowed into the archive, by name, for everything that this command does not write itself.
//! Other members are left out, so that a member of a later release is included only after a review.

use Shape::{Any, Items, List, Members, Named, Numbers, Plain};
use serde_json::{Map, Value};

/// Which parts of a JSON value are kept.
#[derive(Debug)]
pub enum Shape {
    /// A text, a number, true, false, null.
    Plain,
    /// A list of plain values.
    List,
    /// An object's members of these names.
    Members(&'static [(&'static str, Shape)]),
    /// An object whose names are ids, with values of the same shape.
    Named(&'static Shape),
    /// A list of elements of the same shape.
    Items(&'static Shape),
    /// Numbers under fixed words, nested or not.
    Numbers,
    /// The first of these that fits.
    Any(&'static [Shape]),
}

/// An answer about health.
pub const HEALTH: Shape = Members(&[
    ("ok", Plain),
    ("status", Plain),
    ("service", Plain),
    ("plane", Plain),
    ("version", Plain),
    ("error", Plain),
    ("title", Plain),
    ("detail", Plain),
]);

/// `GET /api/registry`, without labels and endpoints: they say where nodes are.
pub const REGISTRY: Shape =
    Members(&[("node_ttl_sec", Plain), ("node_dead_sec", Plain), ("policy", POLICY), ("nodes", Named(&NODE))]);

/// The active policy, as the registry says it.
pub const POLICY: Shape = Members(&[("version", Plain), ("sha256", Plain), ("activated_utc", Plain)]);

const NODE: Shape = Members(&[
    ("status", Plain),
    ("health", Plain),
    ("policy_state", Plain),
    ("zone", Plain),
    ("capabilities", List),
    ("registered_utc", Plain),
    ("last_seen_utc", Plain),
    ("leases", Plain),
    ("attestation", Members(&[("status", Plain), ("drift_count", Plain), ("spoof_count", Plain)])),
    ("identity", Members(&[("status", Plain), ("fault_count", Plain), ("reason", Plain)])),
]);

/// `GET /api/metrics`.
pub const METRICS: Shape = Numbers;

/// A page of the audit log.
pub const AUDIT_PAGE: Shape = Members(&[("events", Items(&AUDIT_LINE))]);

/// A line of the audit log. Of an idempotency key not even the beginning.
pub const AUDIT_LINE: Shape = Members(&[
    ("ts", Plain),
    ("event", Plain),
    ("seq", Plain),
    ("prev", Plain),
    (
        "details",
        Members(&[
            ("count", Plain),
            ("first_ts", Plain),
            ("path", Plain),
            ("ip", Plain),
            ("reason", Plain),
            ("method", Plain),
            ("token_present", Plain),
            ("port", Plain),
            ("expected", Plain),
            ("queue_depth", Plain),
            ("max", Plain),
            ("node_id", Plain),
            ("inflight", Plain),
            ("job_id", Plain),
            ("attempt", Plain),
            ("attempts", Plain),
            ("delay_ms", Plain),
            ("is_final", Plain),
            ("old_hash_prefix", Plain),
            ("new_hash_prefix", Plain),
            ("mode", Plain),
            ("bytes", Plain),
            ("before", Plain),
        ]),
    ),
]);

/// A line of the alerts' log.
pub const ALERT_LINE: Shape = Members(&[
    ("ts", Plain),
    ("event", Plain),
    (
        "details",
        Members(&[
            ("count", Plain),
            ("window_sec", Plain),
            ("threshold", Plain),
            ("top_ips", Any(&[List, Named(&Plain), Items(&Members(&[("ip", Plain), ("count", Plain)]))])),
            ("rule", Plain),
            ("state", Plain),
            ("alert_id", Plain),
            ("opened_ts", Plain),
            ("duration_ms", Plain),
            ("total", Plain),
            ("group", Named(&Plain)),
        ]),
    ),
]);

/// A line of the hub's log: what the logs' library writes, and the fields that the hub's own lines have.
pub const LOG_LINE: Shape = Members(&[
    ("timestamp", Plain),
    ("level", Plain),
    ("target", Plain),
    ("message", Plain),
    ("alert", Plain),
    ("alerts", Plain),
    ("by_ms", Plain),
    ("bytes", Plain),
    ("connections", Plain),
    ("connections_max", Plain),
    ("control", Plain),
    ("count", Plain),
    ("covered_seq", Plain),
    ("data", Plain),
    ("data_dir", Plain),
    ("error", Plain),
    ("events", Plain),
    ("file", Plain),
    ("jobs", Plain),
    ("log_level", Plain),
    ("nodes", Plain),
    ("path", Plain),
    ("reason", Plain),
    ("records", Plain),
    ("replayed", Plain),
    ("rule", Plain),
    ("rules", Plain),
    ("threshold", Plain),
    // A digest's beginning.
    ("token", Plain),
    ("took_ms", Plain),
    ("top", Plain),
    ("total", Plain),
    ("truncated", Plain),
    ("version", Plain),
]);

/// Labels of the metrics' text form. The kind of a job is as free as a node's id, and as needed.
const LABELS: [&str; 16] = [
    "code", "event", "kind", "le", "method", "outcome", "plane", "priority", "quantile", "reason", "route", "rule",
    "state", "status", "token", "version",
];

/// Characters of a metric's name.
const WORD_MAX: usize = 64;

impl Shape {
    /// The parts of the value that have this shape; `None` if it has another one.
    pub fn keep(&self, value: Value) -> Option<Value> {
        match (self, value) {
            (Plain, value) => (!value.is_array() && !value.is_object()).then_some(value),
            (List, value) => Items(&Plain).keep(value),
            (Items(shape), Value::Array(values)) => {
                values.into_iter().map(|value| shape.keep(value)).collect::<Option<_>>().map(Value::Array)
            }
            (Members(members), Value::Object(values)) => {
                let shape_of = |name: &str| members.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape);
                Some(filtered(values, |name, value| shape_of(name)?.keep(value)))
            }
            (Named(shape), Value::Object(values)) => Some(filtered(values, |_, value| shape.keep(value))),
            (Numbers, Value::Object(values)) => {
                let keep = |name: &str, value: Value| is_word(name).then(|| Numbers.keep(value))?;
                Some(filtered(values, keep))
            }
            (Numbers, value) => (value.is_number() || value.is_boolean() || value.is_null()).then_some(value),
            (Any(shapes), value) => shapes.iter().find_map(|shape| shape.keep(value.clone())),
            (Items(_) | Members(_) | Named(_), _) => None,
        }
    }
}

fn filtered(values: Map<String, Value>, keep: impl Fn(&str, Value) -> Option<Value>) -> Value {
    let kept = values.into_iter().filter_map(|(name, value)| keep(&name, value).map(|value| (name, value)));
    Value::Object(kept.collect())
}

fn is_word(name: &str) -> bool {
    name.len() <= WORD_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The lines of the metrics' text form whose labels are all known, and the count of the others.
pub fn exposition(text: &str) -> (Vec<&str>, u64) {
    let mut left_out = 0;
    let is_kept = |line: &&str| {
        let is_kept = line.starts_with('#')
            || line.is_empty()
            || labels(line).is_some_and(|names| names.iter().all(|name| LABELS.contains(name)));
        left_out += u64::from(!is_kept);
        is_kept
    };
    let lines = text.lines().filter(is_kept).collect();
    (lines, left_out)
}

/// The names of a sample's labels; `None` if the line is not a sample.
fn labels(line: &str) -> Option<Vec<&str>> {
    let name_end = line.find(['{', ' '])?;
    let mut names = Vec::new();
    let Some(mut rest) = line[name_end..].strip_prefix('{') else { return Some(names) };
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.starts_with('}') {
            return Some(names);
        }
        let (name, value) = rest.split_once("=\"")?;
        names.push(name.trim());
        let mut is_escaped = false;
        let end = value.find(|character| match character {
            '"' if !is_escaped => true,
            other => {
                is_escaped = other == '\\' && !is_escaped;
                false
            }
        });
        rest = &value[end? + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sheratan_core::alerts::{Alert, Change, State};
    use sheratan_core::{Calendar, Millis, Timestamp};
    use sheratan_io::alerts;

    #[test]
    fn members_that_are_not_listed_are_left_out() {
        let node = json!({
            "status": "ONLINE", "capabilities": ["a"], "labels": {"password": "x"}, "endpoint": "http://user:x@h",
            "attestation": {"status": "OK", "build_id": "x"}, "zone": {"x": "x"}, "leases": 1,
        });
        let registry = json!({"ok": true, "later": "x", "node_ttl_sec": 120, "nodes": {"n": node, "m": "x"}});
        let kept = REGISTRY.keep(registry).unwrap();
        let node = json!({"status": "ONLINE", "capabilities": ["a"], "attestation": {"status": "OK"}, "leases": 1});
        assert_eq!(kept, json!({"node_ttl_sec": 120, "nodes": {"n": node}}));
        let line =
            json!({"ts": "t", "event": "E", "details": {"ip": "i", "key_prefix": "x", "path": ["x"]}, "more": "x"});
        assert_eq!(AUDIT_LINE.keep(line).unwrap(), json!({"ts": "t", "event": "E", "details": {"ip": "i"}}));
        assert_eq!(AUDIT_LINE.keep(json!("x")), None);
    }

    #[test]
    fn the_addresses_of_an_alert_are_kept_in_each_form() {
        for top in [json!(["::1", 3]), json!({"::1": 3}), json!([{"ip": "::1", "count": 3}])] {
            let line = json!({"event": "BURST_AUTH_FAILURE", "details": {"top_ips": top, "count": 3}});
            assert_eq!(ALERT_LINE.keep(line.clone()), Some(line));
        }
    }

    #[test]
    fn a_line_of_the_hubs_own_alerts_is_kept_whole() {
        let alert = Alert {
            id: 1,
            rule: "r".into(),
            event: "E".into(),
            threshold: 1,
            window: Millis::from_secs(1),
            cooldown: Millis::ZERO,
            group: Some(("node_id".into(), "n".into())),
            opened_at: Timestamp::ZERO,
            count: 2,
            total: 2,
            top: vec![(std::net::Ipv4Addr::LOCALHOST.into(), 2)],
        };
        let mut line = Vec::new();
        alerts::line::write(&mut line, Calendar::UNSET, &Change { at: Timestamp::ZERO, state: State::Opened, alert });
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(ALERT_LINE.keep(line.clone()), Some(line));
    }

    #[test]
    fn metrics_are_numbers_under_words() {
        let metrics = json!({
            "queue_depth": 3, "backpressure_active": false, "run_ms": {"p50": 1.5, "Max": 2, "x": "text"},
            "a node": 1, "text": "x", "list": [1],
        });
        let kept = json!({"queue_depth": 3, "backpressure_active": false, "run_ms": {"p50": 1.5}});
        assert_eq!(METRICS.keep(metrics), Some(kept));
    }

    #[test]
    fn a_series_with_an_unknown_label_is_left_out() {
        let text = "# HELP a b\n# TYPE a counter\na 1\nb{kind=\"x\\\"}, node=\\\\\",status=\"1\"} 2\n\
                    c{node_id=\"n\"} 3\nd{le=\"+Inf\",} 4\ne{kind=\"x\",host=\"y\"} 5\nf{kind=x} 6\n\ng{kind=\"x} 7\n";
        let (lines, left_out) = exposition(text);
        let kept: Vec<_> = lines.iter().filter_map(|line| line.chars().next()).collect();
        assert_eq!((kept.as_slice(), left_out), (&['#', '#', 'a', 'b', 'd'][..], 4));
    }
}
