//! What the hub reports about itself while it is up, or a replay of its journal while it is down.

use super::allowed::{self, HEALTH, METRICS, POLICY, REGISTRY, Shape};
use super::subject::Subject;
use super::{Content, Gathered};
use crate::client::{Answer, Client, Plane};
use serde::Serialize;
use serde_json::{Value, json};
use sheratan_io::service::registry_of;

const JSON: &str = "application/json";

/// The `Accept` header of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4";

/// Health of both planes.
pub fn health(subject: &Subject) -> Gathered {
    let client = subject.hub.as_ref().map_err(Clone::clone)?;
    let of_plane = |plane| {
        let ask = |path| match client.fetch(plane, path, JSON) {
            Ok(answer) => {
                let body = serde_json::from_slice(&answer.body).ok().and_then(|body| HEALTH.keep(body));
                json!({"status_code": answer.status, "body": body})
            }
            Err(error) => json!({"unreachable": error.summary()}),
        };
        json!({"health": ask("/health"), "livez": ask("/livez"), "readyz": ask("/readyz")})
    };
    let both = json!({"control": of_plane(Plane::Control), "data": of_plane(Plane::Data)});
    Ok(pretty(subject, both, client.endpoint(Plane::Control).url.clone()))
}

/// The registry: the hub's own, else that of a replay.
pub fn registry(subject: &Subject) -> Gathered {
    let (registry, source) = registry_and_source(subject)?;
    Ok(pretty(subject, registry, source))
}

/// The policy in force.
pub fn policy(subject: &Subject) -> Gathered {
    let (mut registry, source) = registry_and_source(subject)?;
    let policy = POLICY.keep(registry["policy"].take()).filter(|policy| !policy["version"].is_null());
    let said = match policy {
        Some(policy) => json!({"policy_version": policy["version"], "policy": policy}),
        None => json!({"policy_version": null, "reason": "the registry names no policy: this release has none"}),
    };
    Ok(pretty(subject, said, source))
}

/// A plane's metrics as JSON.
pub fn metrics_json(subject: &Subject, plane: Plane) -> Gathered {
    let client = subject.hub.as_ref().map_err(Clone::clone)?;
    let (metrics, source) = ask(client, plane, "/api/metrics", &METRICS)?;
    Ok(pretty(subject, metrics, source))
}

/// A plane's metrics as text.
pub fn metrics_text(subject: &Subject, plane: Plane) -> Gathered {
    let client = subject.hub.as_ref().map_err(Clone::clone)?;
    let (answer, source) = fetch(client, plane, "/metrics", EXPOSITION)?;
    let text = String::from_utf8(answer.body).map_err(|_| "the answer is no UTF-8".to_owned())?;
    let (lines, left_out) = allowed::exposition(&text);
    let mut kept: String =
        lines.into_iter().flat_map(|line| [subject.redactor.redact_text(line), "\n".into()]).collect();
    if left_out > 0 {
        kept += &format!("# {left_out} series are left out: their labels are not on the list of what is shown\n");
    }
    Ok(Content { bytes: kept.into_bytes(), source })
}

/// The allowed parts of JSON from the hub, and their source.
pub fn ask(client: &Client, plane: Plane, path: &str, shape: &Shape) -> Result<(Value, String), String> {
    let (answer, source) = fetch(client, plane, path, JSON)?;
    let value = serde_json::from_slice(&answer.body).ok().and_then(|value| shape.keep(value));
    value.map(|value| (value, source)).ok_or_else(|| format!("the answer to {path} is not what this release expects"))
}

/// A readable file of JSON. Its free texts pass the redactor here.
pub fn pretty(subject: &Subject, value: impl Serialize, source: String) -> Content {
    let value = serde_json::to_value(value).expect("what is made here is JSON");
    let mut bytes = serde_json::to_vec_pretty(&subject.redactor.redact_value(value)).expect("a tree is always JSON");
    bytes.push(b'\n');
    Content { bytes, source }
}

fn fetch(client: &Client, plane: Plane, path: &str, accept: &str) -> Result<(Answer, String), String> {
    let answer = client.fetch(plane, path, accept).map_err(|error| error.summary())?;
    let source = format!("{}{path}", client.endpoint(plane).url);
    match answer.status {
        200 => Ok((answer, source)),
        status => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let code = body["error"].as_str().unwrap_or("without a code");
            Err(format!("the hub answered {path} with {status} {code}"))
        }
    }
}

fn registry_and_source(subject: &Subject) -> Result<(Value, String), String> {
    let down = match &subject.hub {
        Ok(client) => return ask(client, Plane::Control, "/api/registry", &REGISTRY),
        Err(reason) => reason,
    };
    let journal = subject.journal().map_err(|reason| format!("{down}, and {reason}"))?;
    let Some(hub) = &journal.hub else {
        return Err(format!("{down}, and its journal was not replayed: journal.json says why"));
    };
    let registry = serde_json::from_slice(&registry_of(hub)).expect("the registry is JSON");
    let registry = REGISTRY.keep(registry).expect("the registry has the registry's shape");
    let last = journal.report.last_seq();
    Ok((registry, format!("the journal of {}, replayed up to record {last}", subject.data_dir.display())))
}
